"""`trpo_np.logger.configure` at stable-baselines3's path."""

from ..logger import Logger, configure

__all__ = ["Logger", "configure"]
