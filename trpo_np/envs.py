"""Any environment behind one stepping interface.

`adapt(env)` returns a stepper with `num_envs`, the described spaces and
    reset(seeds)     observations (n, width)
    step(actions)    a Step: what to act on next, rewards, and how each row ended
Observations are encoded and copied on receipt, so an environment may reuse its buffers.
"""

import difflib
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from . import spaces


class Step(NamedTuple):
    """One step of n environments; `final` holds (environment, encoded last observation) of each truncated row."""

    obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final: list
    valid: np.ndarray  # False where the row was an autoreset: no action was taken


class EnvList:
    """One or several `gymnasium.Env`, stepped one after the other without a vector wrapper and reset when they end."""

    def __init__(self, envs: list):
        self.envs, self.num_envs = envs, len(envs)
        self.observation_space = spaces.describe(envs[0].observation_space, "observation")
        self.action_space = spaces.describe(envs[0].action_space, "action")
        self._valid = np.ones(self.num_envs, bool)

    def reset(self, seeds: list) -> np.ndarray:
        """Start an episode in each environment, seeded."""
        encode = self.observation_space.encode
        return np.concatenate([encode(env.reset(seed=seed)[0], 1) for env, seed in zip(self.envs, seeds)])

    def step(self, actions: np.ndarray) -> Step:
        """Take one action in each environment."""
        encode, n = self.observation_space.encode, self.num_envs
        rewards, terminated, truncated = np.empty(n), np.empty(n, bool), np.empty(n, bool)
        rows, final = [], []
        for i, env in enumerate(self.envs):
            obs, rewards[i], terminated[i], truncated[i], _ = env.step(actions[i])
            row = encode(obs, 1)
            if terminated[i] or truncated[i]:
                if not terminated[i]:
                    final.append((i, row[0]))
                row = encode(env.reset()[0], 1)
            rows.append(row)
        return Step(rows[0] if n == 1 else np.concatenate(rows), rewards, terminated, truncated, final, self._valid)


class Vector:
    """A `gymnasium.vector.VectorEnv` in any autoreset mode."""

    def __init__(self, env: VectorEnv):
        self.env, self.num_envs = env, env.num_envs
        self.observation_space = spaces.describe(env.single_observation_space, "observation")
        self.action_space = spaces.describe(env.single_action_space, "action")
        mode = env.metadata.get("autoreset_mode")
        if mode is None:
            gymnasium.logger.warn(f"{env} does not say its autoreset mode (metadata['autoreset_mode']); NEXT_STEP is assumed")
        self.mode = AutoresetMode.NEXT_STEP if mode is None else AutoresetMode(mode)
        self._done = np.zeros(self.num_envs, bool)

    def reset(self, seeds: list) -> np.ndarray:
        """Start an episode in each environment, seeded."""
        self._done = np.zeros(self.num_envs, bool)
        return self.observation_space.encode(self.env.reset(seed=seeds)[0], self.num_envs)

    def step(self, actions: np.ndarray) -> Step:
        """Take one action in each environment; in NEXT_STEP mode a row after an end is an autoreset and not valid."""
        encode, n = self.observation_space.encode, self.num_envs
        was_done = self._done
        raw, rewards, terminated, truncated, info = self.env.step(actions)
        rewards = np.array(rewards, np.float64)
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        obs, done, valid = encode(raw, n), terminated | truncated, np.ones(n, bool)
        cut = np.flatnonzero(truncated & ~terminated)
        if self.mode is AutoresetMode.NEXT_STEP:
            valid = ~was_done
            self._done = done & valid
            final = [(int(i), obs[i].copy()) for i in cut]
        elif self.mode is AutoresetMode.SAME_STEP:
            final = [(int(i), encode(_row(info["final_obs"], int(i)), 1)[0]) for i in cut]
        else:
            final = [(int(i), obs[i].copy()) for i in cut]
            if done.any():
                obs = encode(self.env.reset(options={"reset_mask": done})[0], n)
        return Step(obs, rewards, terminated, truncated, final, valid)


def _row(batch: Any, i: int) -> Any:
    """Take row i of observations: of an array, or of each field of a dict or tuple."""
    if isinstance(batch, dict):
        return {key: _row(value, i) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_row(value, i) for value in batch)
    return batch[i]


def make_env(env_id: str, **kwargs) -> gymnasium.Env:
    """Make an environment by its id; an unknown id gets the nearest known ones."""
    try:
        return gymnasium.make(env_id, **kwargs)
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(env_id, list(gymnasium.registry), n=3, cutoff=0.5)
        hint = f"; the nearest ids are {', '.join(near)}" if near else ""
        raise ValueError(f"there is no environment {env_id!r}{hint} ({error})") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{env_id} needs a package that is not installed: {error}. For MuJoCo environments: "
                          "pip install 'trpo_np[mujoco]', for Atari: pip install 'trpo_np[atari]'") from None


def adapt(env: Any):
    """Return the stepper of a gymnasium id, an Env, a VectorEnv or an environment in stable-baselines' convention."""
    if isinstance(env, str):
        return EnvList([make_env(env)])
    env = getattr(env, "vector_env", env)  # DummyVecEnv and SubprocVecEnv stand on a gymnasium VectorEnv
    if type(env) is SyncVectorEnv:  # its environments can be stepped without it: 35-110 us less a step
        return EnvList(list(env.envs))
    if isinstance(env, VectorEnv):
        return Vector(env)
    if hasattr(env, "num_envs") and hasattr(env, "venv") or not isinstance(env, gymnasium.Env):
        raise ValueError(f"the environment is a {type(env).__name__}; a gymnasium id, gymnasium.Env, gymnasium.vector.VectorEnv, "
                         "trpo_np DummyVecEnv or SubprocVecEnv is needed")
    return EnvList([env])
