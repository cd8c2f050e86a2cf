"""stable-baselines' Monitor, an environment that logs its episodes, and `load_results`, which reads them."""

import time
import warnings
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np

from ..app.plots import NoEpisode, logs, read_monitors
from ..logger import EpisodeLog
from ..peers import absent

__getattr__ = absent(__name__)


class Monitor(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """Log each episode of an environment to a Monitor file; put its return into the last info.

    Training does not need it: a model keeps the statistics of whole episodes of raw rewards, and
    `trpo_np.callbacks.MonitorCallback` writes the same file. filename: as for `trpo_np.logger.EpisodeLog`;
    None writes no file. override_existing: whether a file that is there is replaced; if not, it is continued,
    by default with a warning. The other arguments of stable-baselines are taken and change nothing.
    """

    def __init__(self, env: gymnasium.Env, filename: str | None = None, allow_early_resets: bool = True,
                 reset_keywords: tuple = (), info_keywords: tuple = (),
                 override_existing: bool | None = None):
        gymnasium.utils.RecordConstructorArgs.__init__(self, filename=filename,
                                                       override_existing=override_existing)
        gymnasium.Wrapper.__init__(self, env)
        if given := [*reset_keywords, *info_keywords]:
            warnings.warn(f"Monitor: {', '.join(given)} are not logged: a file has the columns r, l and t",
                          stacklevel=2)
        name = env.spec.id if env.spec else None
        self.log = None if filename is None else EpisodeLog(filename, name, override=bool(override_existing))
        if self.log and self.log.continues and override_existing is None:
            warnings.warn(f"Monitor continues {self.log.path}, which holds episodes of an earlier run; "
                          "override_existing=True replaces it", stacklevel=2)
        self.rewards: list[float] = []
        self.episodes: list[tuple[float, int, float]] = []  # return, length, seconds since the start
        self.began: float | None = None  # at the first reset; so it is a state, and goes on elsewhere

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        """Start an episode."""
        self.began = self.began or time.time()
        self.rewards = []
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        """Take a step; log the episode if it ends."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.rewards.append(float(reward))
        if terminated or truncated:
            episode = sum(self.rewards), len(self.rewards), round(time.time() - (self.began or 0.0), 6)
            self.episodes.append(episode)
            info = info | {"episode": dict(zip("rlt", episode))}
            if self.log:
                self.log.write(*episode[:2])
        return obs, reward, terminated, truncated, info

    def get_episode_rewards(self) -> list[float]:
        """Return the returns of all episodes."""
        return [episode[0] for episode in self.episodes]

    def get_episode_lengths(self) -> list[int]:
        """Return the lengths of all episodes."""
        return [episode[1] for episode in self.episodes]

    def get_episode_times(self) -> list[float]:
        """Return when the episodes ended, in seconds since the start."""
        return [episode[2] for episode in self.episodes]

    def get_total_steps(self) -> int:
        """Return the number of steps of all episodes."""
        return sum(self.get_episode_lengths())

    def close(self) -> None:
        """Close the environment and the file."""
        super().close()
        if self.log:
            self.log.close()


def load_results(path: str) -> np.recarray:
    """Return the episodes in a folder's Monitor files, by when they ended, as records of r, l and t.

    r is the return, l the length, t the time in seconds; there may be none yet. Raise a ValueError if there
    is no Monitor file.
    """
    found = [file for file in logs(path) if file.name.endswith("monitor.csv")]
    if not found:
        raise ValueError(f"{path} holds no monitor.csv")
    columns = np.zeros(0), np.zeros(0, int), np.zeros(0)
    with suppress(NoEpisode):
        run = read_monitors(path, found)
        columns = run.returns, np.diff(run.x["steps"], prepend=0.0).astype(int), run.x["time"]
    return np.rec.fromarrays(columns, names=["r", "l", "t"])  # type: ignore
