"""`trpo_np.callbacks` at stable-baselines' path."""

from ..callbacks import *  # noqa: F403
from ..peers import absent

__getattr__ = absent(__name__)
