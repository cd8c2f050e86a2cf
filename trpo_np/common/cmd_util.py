"""`trpo_np.make_vec_env` at stable-baselines' path."""

from ..envs import make_vec_env

__all__ = ["make_vec_env"]
