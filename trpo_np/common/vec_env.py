"""`trpo_np.vec_env` at stable-baselines' path."""

from ..vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

__all__ = ["DummyVecEnv", "SubprocVecEnv", "VecEnv"]
