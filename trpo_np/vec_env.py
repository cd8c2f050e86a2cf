"""`DummyVecEnv` and `SubprocVecEnv`: stable-baselines' calling convention on top of `gymnasium.vector`.

    obs = env.reset();  obs, rewards, dones, infos = env.step(actions)

`infos` is a list of dicts. An environment whose episode ended has been reset: its row of `obs` starts the
next episode. The last observation of the old one is `infos[i]["terminal_observation"]`, and
`infos[i]["TimeLimit.truncated"]` tells whether it was truncated.
"""

import os
import secrets
import signal
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import concatenate, create_empty_array, iterate

from .types import Array, Observations

NUMBERS, FLAGS = frozenset({float, int, np.float64, np.float32}), frozenset({bool, np.bool_})  # good types
# what training reads in infos
FRAME = "episode_frame_number"  # of ALE: falls when a game starts anew, rises where a life was lost
SUCCESS = "is_success"  # in the info of an episode's end: whether it reached its goal
SCORE = "episode"  # there, of a wrapper that keeps statistics: the return "r" and the length "l"
EXAMPLE = "for several, [lambda: gymnasium.make('CartPole-v1') for _ in range(4)]"

Indices = int | Sequence[int] | Array | None
Outcome = tuple[Observations, Array, Array, list[dict[str, Any]]]  # observations, rewards, dones, infos


class VecEnv:
    """Environments stepped together; `vector_env` is the gymnasium vector environment underneath."""

    def __init__(self, vector_env: SyncVectorEnv | AsyncVectorEnv) -> None:
        self.vector_env: Any = vector_env
        self.num_envs, self.metadata = vector_env.num_envs, vector_env.metadata
        self.render_mode = vector_env.render_mode
        self.observation_space = vector_env.single_observation_space
        self.action_space = vector_env.single_action_space
        self._seed: int | None = None
        self._options: dict | list[dict] | None = None

    def seed(self, seed: int | None = None) -> list[int]:
        """Seed the next reset, environment i with `seed + i`, drawn if None; return the seeds."""
        self._seed = secrets.randbits(31) if seed is None else int(seed)
        return [self._seed + i for i in range(self.num_envs)]

    def set_options(self, options: dict[str, Any] | Sequence[dict[str, Any]] | None = None) -> None:
        """Give the next call of `reset` its `options`: a dict for all environments, or one for each.

        `learn` and `evaluate_policy` start their episodes without options.
        """
        if options is not None and not isinstance(options, dict):
            options = list(options)
            if len(options) != self.num_envs:
                raise ValueError(f"set_options needs a dict, or one for each of the {self.num_envs} "
                                 f"environments, given: {options!r}")
        self._options = options

    def reset(self) -> Observations:
        """Start an episode in each environment; return the observations (num_envs, ...)."""
        seed, options, n = self._seed, self._options, self.num_envs
        self._seed = self._options = None
        if not isinstance(options, list):
            return self.vector_env.reset(seed=seed, options=options)[0]
        seeds = [None if seed is None else seed + i for i in range(n)]
        rows = [self.ask(start, seeds[i], options[i], indices=i)[0] for i in range(n)]
        return stacked(self.observation_space, rows)

    def step(self, actions: Any) -> Outcome:
        """Take one action in each environment; return (observations, rewards, dones, infos)."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Any) -> None:
        """Start a step; `step_wait` returns its results."""
        raise NotImplementedError

    def step_wait(self) -> Outcome:
        """Finish the step that `step_async` started."""
        raise NotImplementedError

    def render(self, mode: str | None = None) -> Any:
        """Render in the mode the environments were made with; several frames come side by side."""
        if mode is not None and mode != self.render_mode:
            raise ValueError(f"render(mode={mode!r}): the environments were made with "
                             f"render_mode={self.render_mode!r}; give gymnasium the mode when it makes them, "
                             f"gymnasium.make(id, render_mode={mode!r})")
        frames = self.vector_env.render()
        return tile(frames) if self.num_envs > 1 and self.render_mode == "rgb_array" else frames[0]

    def close(self) -> None:
        """Close all environments."""
        self.vector_env.close()

    def get_images(self) -> list[Array]:
        """Return a frame of each environment; they must be made with render_mode="rgb_array"."""
        return list(self.vector_env.render())

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of each environment, or of those with these indices (one or a sequence)."""
        return self.ask(attribute, attr_name, indices=indices)

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of every environment, or of those with these indices, to the same value."""
        self.ask(set_attribute, attr_name, value, indices=indices)

    def env_method(self, method_name: str, *method_args: Any, indices: Indices = None,
                   **method_kwargs: Any) -> list[Any]:
        """Call a method of each environment, or of those with these indices; return the results."""
        return self.ask(call_method, method_name, method_args, method_kwargs, indices=indices)

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """Say of each environment, or of those with these indices, whether such a wrapper is around it."""
        return self.ask(is_wrapped, wrapper_class, indices=indices)

    def has_attr(self, attr_name: str) -> bool:
        """Say whether all environments have this attribute, themselves or in a wrapper."""
        return all(self.ask(has_attribute, attr_name))

    def ask(self, function: Callable[..., Any], *args: Any, indices: Indices = None) -> list[Any]:
        """Return `function(env, *args)` of each environment, or of those with these indices."""
        raise NotImplementedError

    def _chosen(self, indices: Indices) -> list[int]:
        if indices is None:
            return list(range(self.num_envs))
        chosen = [int(i) for i in np.atleast_1d(indices)]
        if wrong := [i for i in chosen if not -self.num_envs <= i < self.num_envs]:
            raise ValueError(f"indices holds {wrong[0]}; there are {self.num_envs} environments, from 0 on")
        return chosen

    def _checked(self, actions: Any) -> Any:
        """Return actions as one for each environment; a dict holds the parts of all of them."""
        if isinstance(actions, dict):
            actions = list(iterate(self.vector_env.action_space, actions))
        is_one = not hasattr(actions, "__len__") or getattr(actions, "shape", None) == ()
        if is_one or len(actions) != self.num_envs:
            raise ValueError(f"step needs one action for each of the {self.num_envs} environments, given: "
                             f"{actions!r}")
        return actions


class DummyVecEnv(VecEnv):
    """Environments in this process, stepped in turn; `envs` lists them."""

    steps_as_gymnasium = True  # so that training may step `vector_env` instead, see promises.py

    def __init__(self, env_fns: Sequence[Callable[[], gymnasium.Env[Any, Any]]]) -> None:
        self.envs = [fn() for fn in _functions("DummyVecEnv", env_fns)]
        for i, env in enumerate(self.envs):
            if not isinstance(env, gymnasium.Env):
                raise ValueError(f"DummyVecEnv: function {i} returned {env!r}; a gymnasium.Env is needed")
        if len({id(env.unwrapped) for env in self.envs}) < len(self.envs):
            raise ValueError("DummyVecEnv: the functions must not return the same instance of an "
                             f"environment; {EXAMPLE}")
        super().__init__(SyncVectorEnv([partial(_the, env) for env in self.envs]))

    def ask(self, function: Callable[..., Any], *args: Any, indices: Indices = None) -> list[Any]:
        """Return `function(env, *args)` of each environment, or of those with these indices."""
        return [function(self.envs[i], *args) for i in self._chosen(indices)]

    def step_async(self, actions: Any) -> None:
        self._actions = self._checked(actions)

    def step_wait(self) -> Outcome:
        # not by SyncVectorEnv.step: it merges the infos, fails where their shapes differ, and takes longer
        rows, rewards, dones, infos = [], np.empty(self.num_envs), np.empty(self.num_envs, bool), []
        for i, (env, action) in enumerate(zip(self.envs, self._actions)):
            obs, reward, terminated, truncated, info = env.step(action)
            rewards[i], terminated, truncated = outcome(reward, terminated, truncated, f"environment {i}")
            dones[i], info = terminated or truncated, dict(info)
            if dones[i]:
                info["terminal_observation"] = deepcopy(obs)  # reset may write into the same array
                info["TimeLimit.truncated"] = bool(truncated and not terminated)
                obs, _ = env.reset()
            rows.append(obs)
            infos.append(info)
        return stacked(self.observation_space, rows), rewards, dones, infos


class SubprocVecEnv(VecEnv):
    """Environments in processes of their own: worth it where one step takes longer than about 0.1 ms.

    `start_method` is multiprocessing's ("fork", "forkserver", "spawn"; None for the platform's default). In
    each process NumPy's global generator is another, for environments that draw from it.
    """

    steps_as_gymnasium = True  # see promises.py

    def __init__(self, env_fns: Sequence[Callable[[], gymnasium.Env[Any, Any]]],
                 start_method: str | None = None) -> None:
        # not SAME_STEP: there a worker resets before it sends the last observation, which reset may overwrite
        functions = [_Apart(fn, i) for i, fn in enumerate(_functions("SubprocVecEnv", env_fns))]
        super().__init__(AsyncVectorEnv(functions, context=start_method,
                                        autoreset_mode=AutoresetMode.DISABLED))
        watch_outcomes(self.vector_env, own_infos=True)

    def reset(self) -> Observations:
        """Start an episode in each environment; return the observations (num_envs, ...)."""
        settle(self.vector_env)
        return super().reset()

    def ask(self, function: Callable[..., Any], *args: Any, indices: Indices = None) -> list[Any]:
        """Return `function(env, *args)` of each environment, or of those with these indices."""
        chosen = self._chosen(indices)
        wanted = {i % self.num_envs for i in chosen}
        answers = self.vector_env.call(ASK, wanted, function, args)
        return [answers[i] for i in chosen]

    def step_async(self, actions: Any) -> None:
        actions, space = self._checked(actions), self.action_space
        if isinstance(space, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple)):  # then each part for all
            actions = stacked(space, actions)
        self.vector_env.step_async(actions)

    def step_wait(self) -> Outcome:
        obs, rewards, terminated, truncated, merged = self.vector_env.step_wait()
        check_outcomes(self.vector_env)
        dones, infos = terminated | truncated, split(merged, self.num_envs)
        for i in np.flatnonzero(dones):
            infos[i]["terminal_observation"] = row(obs, i)
            infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        if dones.any():
            obs, _ = self.vector_env.reset(options={"reset_mask": dones})
        return obs, rewards, dones, infos

    def close(self) -> None:
        """Close the environments and end their processes, also in the midst of a step or after a crash."""
        try:
            self.vector_env.close()
        except (EOFError, OSError):
            for process in self.vector_env.processes:
                process.kill()
                process.join()
            self.vector_env.closed = True


class _Apart:
    """A function that makes environment i in a process of its own, apart from the others."""

    def __init__(self, make: Callable, i: int):
        self.make, self.i, self.parent = make, i, os.getpid()

    def __call__(self) -> gymnasium.Env:
        if os.getpid() != self.parent:  # gymnasium also makes one here, to see its spaces
            # a terminal's Ctrl-C is for the script, which may go on with its environments
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # a forked process has a copy of the script's: what seeded that decides still, and i
            np.random.seed([*np.random.randint(2**32, size=4, dtype=np.uint32), self.i])
        env = self.make()
        setattr(env, ASK, partial(_answer, env, self.i))
        return env


ASK = "of_this_index"  # the attribute by which an environment in a process of its own answers


def _answer(env: gymnasium.Env, i: int, wanted: set, function: Callable, args: tuple) -> Any:
    return function(env, *args) if i in wanted else None


def start(env: gymnasium.Env, seed: int | None, options: dict) -> Any:
    """Start an episode; return the observation."""
    return env.reset(seed=seed, options=options)[0]


def attribute(env: gymnasium.Env, name: str) -> Any:
    """Return an attribute of an environment or of a wrapper around it."""
    return env.get_wrapper_attr(name)


def has_attribute(env: gymnasium.Env, name: str) -> bool:
    """Say whether an environment or a wrapper around it has an attribute."""
    return env.has_wrapper_attr(name)


def set_attribute(env: gymnasium.Env, name: str, value: Any) -> None:
    """Set an attribute of an environment where it or a wrapper has it, else of the outermost wrapper."""
    env.set_wrapper_attr(name, value)


def without_wrappers(env: Any) -> Any:
    """Return the vector environment within stable-baselines' wrappers of it; any other as it is."""
    while hasattr(env, "venv"):
        env = env.venv
    return env


def pending_seeds(env: Any) -> list[int]:
    """Return, and forget, the seeds that `VecEnv.seed` gave to the next reset; none if it gave none."""
    env = without_wrappers(env)
    if not isinstance(env, VecEnv) or env._seed is None:
        return []
    seed, env._seed = env._seed, None
    return [seed + i for i in range(env.num_envs)]


def leave_game(env: gymnasium.Env) -> None:
    """Let a game of which a life was lost start anew at the next reset; see atari.EpisodicLife."""
    env.set_wrapper_attr("going_on", None, force=False)


def call_method(env: gymnasium.Env, name: str, args: tuple, kwargs: dict) -> Any:
    """Call a method of an environment or of a wrapper around it."""
    return env.get_wrapper_attr(name)(*args, **kwargs)


def is_wrapped(env: gymnasium.Env, wrapper_class: type) -> bool:
    """Say whether an environment is in a wrapper of this class."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, wrapper_class):
            return True
        env = env.env
    return False


class _Watched:
    """The pipe of an AsyncVectorEnv's worker, which makes rewards and flags of what its environment gave.

    AsyncVectorEnv would take a dict for True and None for nan. An error is kept until all workers have
    answered: then the environments can go on. With `own_infos`, what infos hold is kept from being merged
    into arrays, which have one type and one shape; see `split`.
    """

    def __init__(self, pipe: Any, who: str, own_infos: bool):
        self.pipe, self.who, self.own_infos, self.asked = pipe, who, own_infos, ""
        self.error: ValueError | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "pipe" or name.startswith("__"):  # asked for by copy and pickle
            raise AttributeError(name)
        return getattr(self.pipe, name)

    def send(self, message: tuple) -> None:
        self.asked = message[0]
        self.pipe.send(message)

    def recv(self) -> Any:
        answer, success = self.pipe.recv()
        if success and self.own_infos and self.asked in ("reset", "step") and isinstance(answer[-1], dict):
            answer = *answer[:-1], _kept_apart(answer[-1])
        if success and self.asked == "step":
            obs, reward, terminated, truncated, info = answer
            try:
                answer = obs, *outcome(reward, terminated, truncated, self.who), info
            except ValueError as error:
                self.error, answer = error, (obs, 0.0, False, False, info)
        return answer, success


class OfOne(NamedTuple):
    """A value of one environment's info."""

    value: Any


def _kept_apart(info: dict) -> dict:
    return {name: value if name in (FRAME, SUCCESS, SCORE) else _kept_apart(value) if isinstance(value, dict)
            else OfOne(value) for name, value in info.items()}


def settle(vector_env: AsyncVectorEnv) -> None:
    """Take what workers still answer to a step or reset that was interrupted, as by Ctrl-C."""
    pipes: list = [pipe for pipe in vector_env.parent_pipes if pipe is not None]
    for pipe in pipes:
        pipe.send(("_call", ("render_mode", (), {})))
    for pipe in pipes:
        while isinstance(pipe.recv()[0], tuple):  # a step's or a reset's, which came before
            pass
    vector_env._state = AsyncState.DEFAULT


def watch_outcomes(vector_env: AsyncVectorEnv, own_infos: bool = False) -> None:
    """Watch the rewards and flags of environments in processes of their own; see `check_outcomes`."""
    pipes: list = vector_env.parent_pipes
    for i, pipe in enumerate(pipes):
        if not isinstance(pipe, (_Watched, type(None))):  # None: its environment has failed
            pipes[i] = _Watched(pipe, f"environment {i}", own_infos)


def check_outcomes(vector_env: AsyncVectorEnv) -> None:
    """Raise the ValueError that refuses a reward or flag of the last step, if one was none."""
    watched: list = [pipe for pipe in vector_env.parent_pipes if isinstance(pipe, _Watched)]
    errors = [pipe.error for pipe in watched if pipe.error is not None]
    for pipe in watched if errors else ():
        pipe.error = None
    if errors:
        raise errors[0]


def outcome(reward: Any, terminated: Any, truncated: Any, who: str) -> tuple[float, bool, bool]:
    """Return a step's reward and flags as Python's own types; a ValueError names the one that is no such."""
    return (number(reward, "the reward", who), flag(terminated, "terminated", who),
            flag(truncated, "truncated", who))


def number(value: Any, what: str, who: str) -> float:
    """Return a real number, or an array or a list of one, as a float; a ValueError refuses the rest."""
    try:
        if type(value) in NUMBERS:
            return float(value)
        single = _only(value)
        if isinstance(single, (str, bytes, np.complexfloating, np.datetime64, np.timedelta64)):
            raise TypeError
        return float(single)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: a tensor of several numbers
        raise ValueError(f"{who}: {what} is {value!r}; a number is needed{_of_agents(value)}") from None


def flag(value: Any, what: str, who: str) -> bool:
    """Return a flag, or an array or a list of one, as a bool; None is no. A ValueError refuses the rest.

    A text, a dict or an object without a truth value of its own would count as true, whatever it holds.
    """
    if type(value) in FLAGS:
        return bool(value)
    try:
        single = _only(value)
        if isinstance(single, (str, bytes)) or not hasattr(type(single), "__bool__") or single != single:
            raise TypeError
        return bool(single)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{who}: {what} is {value!r}; True or False is needed{_of_agents(value)}") from None


def _only(value: Any) -> Any:
    """Return the one item of an array or a list; a ValueError if there is not one. Pass all else through."""
    return np.asarray(value).reshape(()).item() if isinstance(value, (np.ndarray, list, tuple)) else value


def _of_agents(value: Any) -> str:
    several = isinstance(value, dict) or isinstance(value, (np.ndarray, list, tuple)) and np.size(value) > 1
    return ", for the environment as a whole, not for each of several agents" if several else ""


def numbers(values: Any, n: int, what: str, who: str) -> np.ndarray:
    """Return a vector environment's n rewards, of any type and of shape (n,) or (n, 1), as new float64."""
    array = _of_each(values, n, what, who)
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    return np.array([number(value, what, f"environment {i}") for i, value in enumerate(array)])


def flags(values: Any, n: int, what: str, who: str) -> np.ndarray:
    """Return a vector environment's n flags, of any type and of shape (n,) or (n, 1), as new bools."""
    array = _of_each(values, n, what, who)
    if array.dtype.kind in "biu":
        return array.astype(bool)
    return np.array([flag(value, what, f"environment {i}") for i, value in enumerate(array)])


def _of_each(values: Any, n: int, what: str, who: str) -> np.ndarray:
    try:
        if isinstance(values, (list, tuple)) and len(values) == n:  # of any types: np.array would mix them
            array = np.empty(n, object)
            for i, value in enumerate(values):
                array[i] = value
            return array
        array = np.asarray(values)
        if array.ndim and len(array) != n:
            raise ValueError
        return array.reshape(n)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{who}: {what} is {values!r:.200}; one for each of the {n} environments is "
                         "needed") from None


def _the(env: gymnasium.Env) -> gymnasium.Env:
    """Hand an environment out: a function that pickles, as a lambda does not."""
    return env


def _functions(kind: str, env_fns: Any) -> list:
    """Check that a list of functions was given."""
    if not isinstance(env_fns, Sequence) or not all(map(callable, env_fns)):
        raise ValueError(f"{kind}: You need to pass functions, not {env_fns!r}; {kind}([lambda: env]) for "
                         f"one, {EXAMPLE}")
    if not env_fns:
        raise ValueError(f"{kind}: the list of functions is empty; at least one environment is needed")
    return list(env_fns)


def stacked(space: gymnasium.Space[Any], rows: Sequence[Any]) -> Any:
    """Put observations or actions of one space together: an array, or a dict or tuple of arrays."""
    together: Any = create_empty_array(space, len(rows))
    return concatenate(space, rows, together)


def row(batch: Any, i: Any) -> Any:
    """Take row i of observations: of an array, or of each field of a dict or tuple."""
    if isinstance(batch, dict):
        return {key: row(value, i) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(row(value, i) for value in batch)
    return batch[i]


def split(merged: dict, n: int) -> list[dict]:
    """Split an info that gymnasium merged: arrays by name, each beside a mask `_name` of who gave it."""
    infos: list[dict] = [{} for _ in range(n)]
    for name, values in merged.items():
        if name.startswith("_") and name[1:] in merged:
            continue
        values = split(values, n) if isinstance(values, dict) else values
        of_each = isinstance(values, (list, tuple)) or isinstance(values, np.ndarray) and values.ndim > 0
        if not of_each or len(values) != n:
            values = [values] * n  # one for all of them
        for i in np.flatnonzero(merged.get(f"_{name}", np.ones(n, bool))):
            infos[i][name] = values[i].value if isinstance(values[i], OfOne) else values[i]
    return infos


def tile(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Put frames (height, width, 3) side by side into a square; the rest of it is black."""
    side = int(np.ceil(np.sqrt(len(frames))))
    frames = [*frames, *[np.zeros_like(frames[0])] * (-len(frames) % side)]
    return np.concatenate([np.concatenate(frames[i:i + side], axis=1) for i in range(0, len(frames), side)])
