"""`trpo_np.vec_env` and `trpo_np.vec_wrappers` at stable-baselines' path."""

from ..peers import absent
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

__getattr__ = absent(__name__)
__path__: list[str] = []  # so that Python asks peers.Absent about the modules in it
