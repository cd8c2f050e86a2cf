"""`trpo_np.vec_env` and `trpo_np.vec_wrappers` at stable-baselines' path."""

from ..vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from ..vec_wrappers import (
    VecCheckNan,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

__all__ = ["DummyVecEnv", "SubprocVecEnv", "VecCheckNan", "VecEnv", "VecEnvWrapper", "VecFrameStack",
           "VecMonitor", "VecNormalize", "VecTransposeImage", "VecVideoRecorder"]
