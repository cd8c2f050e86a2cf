"""`Monitor` and `load_results` at stable-baselines' path."""

from .common.monitor import Monitor, load_results

__all__ = ["Monitor", "load_results"]
