"""Environments and arguments of scripts at stable-baselines' path."""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium

from ..atari import make_atari
from ..envs import make_vec_env as _make_vec_env
from ..peers import absent
from ..vec_env import VecEnv
from .monitor import Monitor

__all__ = ["arg_parser", "make_atari_env", "make_vec_env", "mujoco_arg_parser"]
__getattr__ = absent(__name__)


def make_vec_env(env_id: Any, n_envs: int = 1, seed: int | None = None, start_index: int = 0,
                 monitor_dir: str | None = None, wrapper_class: Callable | None = None,
                 env_kwargs: dict | None = None, vec_env_cls: Callable[..., VecEnv] | None = None,
                 vec_env_kwargs: dict | None = None) -> VecEnv:
    """Make environments as `trpo_np.make_vec_env` does; with `monitor_dir`, each logs its episodes there."""
    def numbered(make: Callable[[], gymnasium.Env], number: int) -> Callable[[], gymnasium.Env]:
        def made() -> gymnasium.Env:
            env = make() if monitor_dir is None else Monitor(make(), f"{monitor_dir}/{number}")
            return env if wrapper_class is None else wrapper_class(env)
        return made

    def of_class(functions: list) -> VecEnv:
        from ..vec_env import DummyVecEnv

        # numbers are bound here: environments in processes could not count together
        makers = [numbered(make, number) for number, make in enumerate(functions, start_index)]
        return (vec_env_cls or DummyVecEnv)(makers, **(vec_env_kwargs or {}))
    return _make_vec_env(env_id, n_envs, seed, start_index=start_index, env_kwargs=env_kwargs,
                         vec_env_cls=of_class)


def make_atari_env(env_id: str, n_envs: int = 1, seed: int | None = None,
                   wrapper_kwargs: dict | None = None, *, num_env: int | None = None,
                   **others: Any) -> gymnasium.vector.VectorEnv:
    """Make games that are stepped together, as `trpo_np.atari.make_atari`; a model seeds them itself.

    num_env: what stable-baselines calls `n_envs`. wrapper_kwargs: settings of `make_atari`. Of `others` a
    warning says that they have no effect.
    """
    if others:
        warnings.warn(f"make_atari_env: {', '.join(others)} have no effect here: all games are stepped in "
                      "C++; their settings are wrapper_kwargs", stacklevel=2)
    return make_atari(env_id, n_envs if num_env is None else num_env, **(wrapper_kwargs or {}))


def arg_parser() -> argparse.ArgumentParser:
    """Make an empty parser that shows defaults."""
    return argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def mujoco_arg_parser() -> argparse.ArgumentParser:
    """Make the parser of stable-baselines' MuJoCo scripts."""
    p = arg_parser()
    p.add_argument("--env", default="Reacher-v5", help="environment ID")
    p.add_argument("--seed", type=int, default=0, help="RNG seed")
    p.add_argument("--num-timesteps", type=int, default=int(1e6), help="environment steps")
    p.add_argument("--play", action="store_true", help="show the policy at the end")
    return p
