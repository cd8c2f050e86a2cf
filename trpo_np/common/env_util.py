"""`make_vec_env` and `make_atari_env` at stable-baselines3's path."""

from ..peers import absent
from .cmd_util import make_atari_env, make_vec_env

__all__ = ["make_atari_env", "make_vec_env"]

__getattr__ = absent(__name__)
