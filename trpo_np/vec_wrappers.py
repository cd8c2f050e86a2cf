"""stable-baselines' wrappers of vector environments, so that its scripts run: thin names over what exists.

Normalisation, episode statistics and checks of numbers are part of the model here, and images may have their
channels on any axis. So most of these only pass the environment on.
"""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from .settings import check_count
from .types import Observations
from .vec_env import Indices, Outcome, VecEnv


class VecEnvWrapper(VecEnv):
    """A vector environment around another, `venv`: override `reset` and `step_wait`."""

    def __init__(self, venv: VecEnv, observation_space: Any = None, action_space: Any = None) -> None:
        if not isinstance(venv, VecEnv):
            raise ValueError(f"{type(self).__name__} was given {venv!r}; a DummyVecEnv or SubprocVecEnv is "
                             "needed")
        super().__init__(venv.vector_env)
        self.venv = venv
        self.observation_space = observation_space or venv.observation_space
        self.action_space = action_space or venv.action_space

    def seed(self, seed: int | None = None) -> list[int]:
        """Seed the next reset; return the seeds."""
        return self.venv.seed(seed)

    def reset(self) -> Observations:
        """Start an episode in each environment; return the observations (num_envs, ...)."""
        return self.venv.reset()

    def step_async(self, actions: Any) -> None:
        """Start a step; `step_wait` returns its results."""
        self.venv.step_async(actions)

    def step_wait(self) -> Outcome:
        """Finish the step that `step_async` started."""
        return self.venv.step_wait()

    def set_options(self, options: Any = None) -> None:
        """Give the next reset its `options`: a dict for all environments, or one for each."""
        self.venv.set_options(options)

    def ask(self, function: Callable[..., Any], *args: Any, indices: Indices = None) -> list[Any]:
        """Return `function(env, *args)` of each environment, or of those with these indices."""
        return self.venv.ask(function, *args, indices=indices)

    def close(self) -> None:
        """Close all environments."""
        self.venv.close()


class VecNormalize(VecEnvWrapper):
    """Ask the model to normalise observations and rewards; pass everything on as it is.

    `TRPO(policy, VecNormalize(env))` has normalize_observations and normalize_rewards as `norm_obs` and
    `norm_reward` say. The statistics are the model's: they are saved and loaded with it, `predict` applies
    them, and they are frozen wherever nothing is trained. So returns that this environment gives are the real
    ones, and `training` and `save` have nothing to say.
    """

    steps_as_gymnasium = True  # see promises.py

    def __init__(self, venv: VecEnv, training: bool = True, norm_obs: bool = True, norm_reward: bool = True,
                 clip_obs: float = 10.0, clip_reward: float = 10.0, gamma: float = 0.99,
                 epsilon: float = 1e-8) -> None:
        super().__init__(venv)
        self.training, self.norm_obs, self.norm_reward = training, bool(norm_obs), bool(norm_reward)
        for name, value in (("clip_obs", clip_obs), ("clip_reward", clip_reward)):
            if value != 10.0:
                warnings.warn(f"VecNormalize: {name}={value:g} has no effect here: the model clips "
                              "normalised numbers at 10", stacklevel=2)

    def save(self, path: Any) -> None:
        """Warn that there is nothing to save: the statistics are in the model's file."""
        warnings.warn(f"VecNormalize.save: nothing is written to {path}; the statistics are in the model's "
                      "file", stacklevel=2)

    @classmethod
    def load(cls, path: Any, venv: VecEnv) -> "VecNormalize":
        """Wrap an environment; warn that the statistics are those of the model's file."""
        warnings.warn(f"VecNormalize.load: {path} is not read; the statistics are in the model's file, and "
                      "`trpo-np convert` takes those of stable-baselines3 into one", stacklevel=2)
        return cls(venv)

    def normalize_obs(self, obs: Any) -> Any:
        """Return observations as they are, for the model to normalise."""
        return obs

    def get_original_obs(self) -> Any:
        """Raise a sentence: what `reset` and `step` return are the original observations."""
        raise AttributeError("VecNormalize: what reset and step return are the original observations")

    get_original_reward = get_original_obs


class VecFrameStack(VecEnvWrapper):
    """Stack the latest `n_stack` observations along their last axis; zeros stand before the first one.

    channels_order: "first" stacks along the first axis, as is done with images whose channels come first,
    "last" along the last; None looks where an image's shortest axis is. Games of `make_atari_env` show
    several frames already, and are returned as they are.
    """

    def __new__(cls, venv: Any, n_stack: int = 4, channels_order: str | None = None) -> Any:
        """Make a wrapper, or return games that are stacked already."""
        if not hasattr(venv, "ale"):
            return super().__new__(cls)
        if (frames := venv.single_observation_space.shape[0]) != n_stack:
            raise ValueError(f"VecFrameStack: these games show {frames} frames already; for {n_stack}: "
                             f"make_atari_env(..., wrapper_kwargs=dict(stack={n_stack}))")
        return venv

    def __init__(self, venv: VecEnv, n_stack: int, channels_order: str | None = None) -> None:
        space = venv.observation_space
        if not isinstance(space, gymnasium.spaces.Box):
            raise ValueError(f"VecFrameStack: the observation space is {space}; a Box is needed")
        if channels_order not in (None, "first", "last"):
            raise ValueError(f"VecFrameStack: channels_order is {channels_order!r}; 'first', 'last' or None "
                             "is needed")
        check_count("n_stack", n_stack)
        is_image = len(space.shape) == 3 and space.dtype == np.uint8
        found = "first" if is_image and space.shape[0] == min(space.shape) < space.shape[2] else "last"
        self.n_stack, self.axis = n_stack, 0 if (channels_order or found) == "first" else -1
        low, high = (np.concatenate([bound] * n_stack, self.axis) for bound in (space.low, space.high))
        super().__init__(venv, gymnasium.spaces.Box(low, high, dtype=space.dtype.type))
        self.stacked = np.zeros((venv.num_envs, *low.shape), space.dtype)

    def _push(self, obs: Any) -> np.ndarray:
        axis = self.axis + (self.axis == 0)  # of all environments' observations
        kept = np.delete(self.stacked, range(obs.shape[axis]), axis)
        self.stacked = np.concatenate([kept, obs], axis).astype(self.stacked.dtype, copy=False)
        return self.stacked.copy()

    def reset(self) -> np.ndarray:
        self.stacked[:] = 0
        return self._push(self.venv.reset())

    def step_wait(self) -> Outcome:
        obs, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            if "terminal_observation" in infos[i]:
                last = infos[i]["terminal_observation"]
                kept = np.delete(self.stacked[i], range(last.shape[self.axis]), self.axis)
                infos[i]["terminal_observation"] = np.concatenate([kept, last], self.axis)
            self.stacked[i] = 0
        return self._push(obs), rewards, dones, infos


def VecMonitor(venv: VecEnv, filename: str | None = None, info_keywords: tuple[str, ...] = ()) -> VecEnv:
    """Pass the environment on: the model keeps the statistics of whole episodes."""
    if filename is not None:
        warnings.warn("VecMonitor: no file is written; give learn callback=MonitorCallback("
                      f"{filename!r}) of trpo_np.callbacks", stacklevel=2)
    return venv


def VecCheckNan(venv: VecEnv, raise_exception: bool = True, **_: Any) -> VecEnv:
    """Pass the environment on: training checks all numbers that environments give, and names the bad one."""
    return venv


def VecTransposeImage(venv: VecEnv, skip: bool = False) -> VecEnv:
    """Pass the environment on: policies find the axis of an image's channels."""
    return venv


def VecVideoRecorder(venv: VecEnv, *_: Any, **__: Any) -> VecEnv:
    """Refuse, and say what records videos here."""
    raise ValueError("VecVideoRecorder: wrap the environment before it goes into a DummyVecEnv, by "
                     "gymnasium.wrappers.RecordVideo(env, folder), or record a saved policy: trpo-np play "
                     "FILE --video FOLDER")
