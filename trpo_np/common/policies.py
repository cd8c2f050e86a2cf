"""`trpo_np.policies` at stable-baselines' path."""

from ..policies import *  # noqa: F403
