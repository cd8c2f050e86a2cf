"""`trpo_np.common.results_plotter` at stable-baselines' path."""

from .common.results_plotter import X_EPISODES, X_TIMESTEPS, X_WALLTIME, load_results, plot_results, ts2xy

__all__ = ["X_EPISODES", "X_TIMESTEPS", "X_WALLTIME", "load_results", "plot_results", "ts2xy"]
