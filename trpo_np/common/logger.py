"""`trpo_np.logger.configure` at stable-baselines3's path."""

from ..logger import Logger, configure
from ..peers import absent

__all__ = ["Logger", "configure"]

__getattr__ = absent(__name__)
