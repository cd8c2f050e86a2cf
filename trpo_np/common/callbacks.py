"""`trpo_np.callbacks` at stable-baselines' path."""

from ..callbacks import *  # noqa: F403
