"""stable-baselines' plots of Monitor files; `trpo-np plot` draws more."""

from typing import Any

import numpy as np

from ..app import plots
from ..peers import absent
from .monitor import load_results

__all__ = ["X_EPISODES", "X_TIMESTEPS", "X_WALLTIME", "load_results", "plot_results", "ts2xy"]
__getattr__ = absent(__name__)

X_TIMESTEPS, X_EPISODES, X_WALLTIME = "timesteps", "episodes", "walltime_hrs"
AXES = {X_TIMESTEPS: "steps", X_EPISODES: "episodes", X_WALLTIME: "time"}


def ts2xy(timesteps: np.recarray, xaxis: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (x, returns) of what `load_results` returned; xaxis: "timesteps", "episodes", "walltime_hrs"."""
    check_axis(xaxis)
    x = {X_TIMESTEPS: np.cumsum(timesteps.l), X_EPISODES: np.arange(len(timesteps)),
         X_WALLTIME: timesteps.t / 3600}[xaxis]
    return x, np.asarray(timesteps.r)


def plot_results(dirs: list[str], num_timesteps: int | None = None, xaxis: str = X_TIMESTEPS,
                 task_name: str = "", figsize: tuple = (8, 2), *, x_axis: str | None = None) -> Any:
    """Draw the returns of runs, means of 100 episodes, into a new figure of pyplot; return the figure.

    dirs: folders that hold Monitor files. num_timesteps: where the axis of steps ends, or None. x_axis:
    stable-baselines3's name for `xaxis`.
    """
    xaxis = xaxis if x_axis is None else x_axis
    check_axis(xaxis)
    if not len(dirs):
        raise ValueError(f"dirs is {dirs!r}; folders that hold Monitor files are needed")
    lengths = [len(load_results(folder)) for folder in dirs]
    shortest = min(filter(None, lengths), default=0)  # of runs that have just begun nothing is drawn
    curves, _, what = plots.learning_curves(dirs, AXES[xaxis], max(1, min(100, shortest // 2)), "none")
    return plots.draw_in_pyplot(curves, AXES[xaxis], task_name, what, figsize, num_timesteps)


def check_axis(xaxis: str) -> None:
    """Raise a ValueError if there is no such axis."""
    if xaxis not in AXES:
        raise ValueError(f"xaxis is {xaxis!r}; it can be {', '.join(map(repr, AXES))}")
