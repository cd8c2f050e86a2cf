"""Any environment behind one stepping interface.

`adapt(env)` returns a stepper, with
    env                                 what it steps
    num_envs                            n, how many environments that is
    observation_space, action_space     as described in spaces.py
    env_id                              gymnasium's id, or None
    reset(seeds)                        observations (n, width)
    step(actions)                       a Step: the observations to act on next, rewards, how each row ended
    breaks_off                          whether step(actions, broken) can also break episodes off
    watched, infos                      if `watched` is set: the last step's infos, see Stepper
    portraits(), states(), put_back()   what episodes need to go on elsewhere, see env_state.py
Observations are encoded and copied on receipt, so an environment may reuse its buffers. A stepper calls
`self.env.reset` with keywords only: evaluation puts a function of its own in its place.
"""

import importlib.util
import math
import pickle
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from . import env_state, spaces
from .env_state import NoState
from .promises import declared
from .settings import check_count, checked_seed, install, nearest
from .vec_env import (
    EXAMPLE,
    FLAGS,
    FRAME,
    NUMBERS,
    SCORE,
    SUCCESS,
    DummyVecEnv,
    VecEnv,
    check_outcomes,
    flags,
    number,
    numbers,
    outcome,
    row,
    settle,
    split,
    watch_outcomes,
    without_wrappers,
)

API = "gymnasium's interface, that of gym 0.26 and later, is"


class Step(NamedTuple):
    """One step of n environments."""

    obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final: list  # (environment, encoded last observation) of each row truncated and not terminated
    valid: np.ndarray  # False where the row was an autoreset: no action was taken
    over: np.ndarray  # True where an episode's score is final: not where one of several lives was lost
    ordinary: bool = False  # True if no row ended and all are valid; False is always right, only slower


class Stepper:
    """What all steppers share.

    If `watched` is set, `infos` are those of the last step, as stable-baselines has them: a list with a dict
    for each environment. That of an episode's end has its last observation, as the environment gave it, under
    "terminal_observation", and whether it was only truncated under "TimeLimit.truncated".
    """

    env: Any
    breaks_off = False
    watched = False
    infos: Any = None
    told: list = []  # of episodes that ended in a step: (environment, success or None, score or None)

    def portraits(self) -> list:
        """Return what can be read of each environment."""
        return [env_state.portrait(self.env)]

    def glance(self) -> str:
        """Return a digest that shows, where it can be seen, whether somebody has stepped the environments."""
        return env_state.glance(self.env)

    def states(self, before: list) -> list:
        """Return the state of each environment, given the `portraits` from when the model got them.

        A NoState says why there is none.
        """
        raise NoState("it steps several environments as one, and such do not give their states")

    def put_back(self, before: list, states: list) -> None:
        """Give the environments, after a reset, the states of others; a NoState says what does not fit."""
        raise NoState("it steps several environments as one, which take no states")

    def note_end(self, i: int, info: Any) -> None:
        """Note what the last info of an episode in environment i says of it."""
        if not isinstance(info, dict):
            return
        success, score = info.get(SUCCESS), info.get(SCORE)
        if isinstance(score, dict) and {"r", "l"} <= score.keys():
            with suppress(ValueError):  # raised where the dict is the environment's own, of other things
                score = number(score["r"], "", ""), number(score["l"], "", "")
        self.told.append((i, None if success is None else bool(np.all(success)),
                          score if isinstance(score, tuple) else None))


def raw_return(total: float, length: int, score: tuple | None) -> float:
    """Return an episode's return: `total`, the sum of its rewards, or what a statistics wrapper saw.

    That one can stand beneath wrappers that rescale rewards. But a `score`, (return, length), of fewer steps
    is of a part of the episode, as where a game goes on after a lost life.
    """
    if score is not None and score[1] >= length and math.isfinite(score[0]):
        return score[0]
    return float(total)


class EnvList(Stepper):
    """One or several `gymnasium.Env`, stepped in turn without a vector wrapper and reset when they end."""

    breaks_off = True

    def __init__(self, envs: list):
        self.envs, self.num_envs = envs, len(envs)
        self.observation_space = spaces.describe(envs[0].observation_space, "observation")
        self.action_space = spaces.describe(envs[0].action_space, "action")
        self.env_id = id_of(envs[0])
        self._names = [f"environment {i}" for i in range(self.num_envs)]
        self._line = self.observation_space.line  # the shape of observations that need no encoding, or None
        self._rows = (self.num_envs, *self._line) if self._line is not None else None
        self._dtype = self.observation_space.precision
        self._all, self._none = np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool)
        self._all.flags.writeable = self._none.flags.writeable = False  # many steps share them

    def reset(self, seeds: list) -> np.ndarray:
        """Start an episode in each environment, seeded."""
        return np.concatenate([self._start(i, seed=seed)[0] for i, seed in enumerate(seeds)])

    def step(self, actions: np.ndarray, broken: np.ndarray | None = None) -> Step:
        """Take one action in each environment; where `broken` (n,), truncate its episode."""
        rewards, final = np.empty(self.num_envs), []
        infos: list | None = [] if self.watched else None
        rows: Any = [None] * self.num_envs if self._rows is None else np.empty(self._rows, self._dtype)
        terminated = truncated = over = self._none
        for i, env in enumerate(self.envs):
            result = env.step(actions[i])
            try:
                obs, reward, end, cut, info = result
            except (TypeError, ValueError):
                raise ValueError(f"{self._names[i]}: {_not_a_step(result)}") from None
            if type(reward) not in NUMBERS or type(end) not in FLAGS or type(cut) not in FLAGS:
                reward, end, cut = outcome(reward, end, cut, self._names[i])
            if broken is not None and broken[i]:
                cut = True
            if infos is not None:
                infos.append(_noted(info, obs, end, cut))
            if type(obs) is not np.ndarray or obs.shape != self._line:
                obs = encode(self.observation_space, obs, None, self._names[i])
            if end or cut:
                if terminated is self._none:
                    terminated, truncated, over = (self._none.copy() for _ in range(3))
                    self.told = []
                if not end:
                    final.append((i, obs.astype(self._dtype) if obs.shape == self._line else obs[0]))
                obs, started = self._start(i)
                terminated[i], truncated[i], over[i] = end, cut, not _same_game(info, started)
                self.note_end(i, info)
            try:
                rewards[i], rows[i] = reward, obs
            except (TypeError, ValueError, OverflowError):  # these raise it with the environment's name
                rewards[i] = number(reward, "the reward", self._names[i])
                rows[i] = encode(self.observation_space, obs, None, self._names[i])
        if self._line is None:
            rows = rows[0] if len(rows) == 1 else np.concatenate(rows)
        if infos is not None:
            self.infos = infos
        return Step(rows, rewards, terminated, truncated, final, self._all, over, terminated is self._none)

    def portraits(self) -> list:
        """Return what can be read of each environment."""
        return [env_state.portrait(env) for env in self.envs]

    def glance(self) -> str:
        """Return a digest of the first environment; who steps one of several steps that."""
        return env_state.glance(self.envs[0])

    def states(self, before: list) -> list:
        """Return the state of each environment; a NoState says why there is none."""
        return [env_state.state(env, its) for env, its in zip(self.envs, before)]

    def put_back(self, before: list, states: list) -> None:
        """Give the environments, after a reset, the states of others; a NoState says what does not fit."""
        if len(states) != self.num_envs:
            raise NoState(f"there are {self.num_envs} environments, not {len(states)}")
        for env, its, saved in zip(self.envs, before, states):
            env_state.put_back(env, its, saved)

    def _start(self, i: int, **seed) -> tuple[np.ndarray, dict]:
        try:
            result = self.envs[i].reset(**seed)
        except TypeError as error:
            if "seed" not in str(error):
                raise
            raise ValueError(f"{self._names[i]}: {error}; {API} reset(seed=None, options=None)") from error
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise ValueError(f"{self._names[i]}: {_not_a_start(result)}")
        return encode(self.observation_space, result[0], None, self._names[i]), result[1]


class Vector(Stepper):
    """A `gymnasium.vector.VectorEnv` in any autoreset mode."""

    _processes: AsyncVectorEnv | None = None  # what steps the environments, if it does so in processes

    def __init__(self, env: VectorEnv):
        mode = env.metadata.get("autoreset_mode")
        if mode is None:
            gymnasium.logger.warn(f"{env} does not say its autoreset mode (metadata['autoreset_mode']): "
                                  "NEXT_STEP is assumed")
            mode = AutoresetMode.NEXT_STEP
        self._begin(env, env.num_envs, env.single_observation_space, env.single_action_space, mode)
        self._own = isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
        if isinstance(env.unwrapped, AsyncVectorEnv):
            self._processes = env.unwrapped
            watch_outcomes(env.unwrapped)

    def _begin(self, env, num_envs: int, observation_space, action_space, mode) -> None:
        self.env, self.num_envs, self.mode = env, num_envs, AutoresetMode(mode)
        self._name, self.env_id = type(env).__name__, id_of(env)
        self.observation_space = spaces.describe(observation_space, "observation")
        self.action_space = spaces.describe(action_space, "action")
        self._ended, self._frames, self._own = np.zeros(num_envs, bool), np.full(num_envs, np.inf), False
        self._said: list = []  # of the ends of the step before

    def reset(self, seeds: list) -> np.ndarray:
        """Start an episode in each environment, seeded."""
        self._ended[:] = False
        if self._processes is not None:
            self._ask(settle, self._processes)
        # gymnasium's own vector environments take a list of seeds, those of others a single one
        return self._started(self._ask(self.env.reset, seed=list(seeds) if self._own else seeds[0]))

    def step(self, actions: np.ndarray) -> Step:
        """Take one action in each environment.

        In NEXT_STEP mode the row after an end is an autoreset, and so not valid.
        """
        result = self._ask(self.env.step, np.array(actions))  # a copy: it may write into them
        if self._processes is not None:
            check_outcomes(self._processes)
        if not (isinstance(result, (tuple, list)) and len(result) == 5 and isinstance(result[4], dict)):
            raise ValueError(f"{self._name}: {_not_a_step(result)}")
        raw, rewards, terminated, truncated, info = result
        obs, rewards = self._encode(raw), numbers(rewards, self.num_envs, "the reward", self._name)
        terminated = flags(terminated, self.num_envs, "terminated", self._name)
        truncated = flags(truncated, self.num_envs, "truncated", self._name)
        valid = np.ones(self.num_envs, bool)
        # a game that does not start anew at an end has lost a life: its score goes on
        before, self._frames = self._frames, np.array(info.get(FRAME, self._frames))
        anew = info.get(FRAME, 0) < before
        over = (terminated | truncated) & anew
        if self.mode is AutoresetMode.NEXT_STEP:
            # gymnasium's own call reset after every end; ALE's can report a lost life and play on
            valid = ~(self._ended if self._own else self._ended & anew)
            rewards = np.where(valid, rewards, 0.0)
            terminated, truncated = terminated & valid, truncated & valid
            over = self._ended & anew if FRAME in info else terminated | truncated
            self._ended = terminated | truncated
        done, cut = terminated | truncated, np.flatnonzero(truncated & ~terminated)
        same_step = self.mode is AutoresetMode.SAME_STEP
        last = [self._final(info, int(i)) for i in cut] if same_step else obs[cut]
        self._note_ends(info, done)
        if self.mode is AutoresetMode.NEXT_STEP and FRAME in info:  # whether the game is over shows in a step
            self.told, self._said = self._said, self.told
        if self.watched:
            self.infos = self._listed(info, raw, done, truncated & ~terminated)
        if self.mode is AutoresetMode.DISABLED and done.any():
            raw, started = self._ask(self.env.reset, options={"reset_mask": done.copy()})
            obs, over = self._encode(raw), done & (started.get(FRAME, 0) < self._frames)
        return Step(obs, rewards, terminated, truncated, list(zip(cut.tolist(), last)), valid, over)

    def _started(self, result: Any) -> np.ndarray:
        if not (isinstance(result, (tuple, list)) and len(result) == 2):
            raise ValueError(f"{self._name}: {_not_a_start(result)}")
        return self._encode(result[0])

    def _note_ends(self, info: dict, ended: np.ndarray) -> None:
        self.told = []
        said = info.get("final_info", info)  # of SAME_STEP: the others are of the reset
        if SCORE not in said and f"_{SCORE}" in info:  # of a wrapper around the vector environment
            said = {**said, SCORE: info[SCORE], f"_{SCORE}": info[f"_{SCORE}"]}
        if ended.any() and (SUCCESS in said or SCORE in said):
            names = (SUCCESS, f"_{SUCCESS}", SCORE, f"_{SCORE}")
            each = split({key: said[key] for key in names if key in said}, self.num_envs)
            for i in np.flatnonzero(ended).tolist():
                self.note_end(i, each[i])

    def _listed(self, info: dict, raw: Any, done: np.ndarray, cut: np.ndarray) -> list:
        """Return a dict for each environment of the info that they share, and of their observations."""
        same_step = self.mode is AutoresetMode.SAME_STEP
        infos = split({key: info[key] for key in info if key not in ("final_obs", "_final_obs")},
                      self.num_envs)
        for i in np.flatnonzero(done).tolist():
            last = row(info["final_obs"] if same_step and "final_obs" in info else raw, i)
            ended = infos[i].get("final_info", {}) if same_step else infos[i]  # the others are of the reset
            infos[i] = _noted(ended, last, not cut[i], cut[i])
        return infos

    def _ask(self, method: Callable, *args, **kwargs) -> Any:
        try:
            return method(*args, **kwargs)
        except (EOFError, ConnectionError) as error:
            raise RuntimeError(f"{self._name}: an environment's process has died; was it killed, or out of "
                               "memory?") from error
        except ValueError as error:
            needs = {"truth value of an array": "of terminated and truncated, True or False is needed, for "
                                                "the environment as a whole, not for each of several agents",
                     "values to unpack": f"{API} (observation, info) of reset(), and of step() (observation, "
                                         "reward, terminated, truncated, info)"}
            hints = [hint for words, hint in needs.items() if self._processes and words in str(error)]
            if not hints:
                raise
            raise ValueError(f"{self._name}: an environment has failed ({error}); {hints[0]}") from error

    def _encode(self, raw) -> np.ndarray:
        return encode(self.observation_space, raw, self.num_envs, self._name)

    def _final(self, info: dict, i: int) -> np.ndarray:
        if "final_obs" not in info:
            raise ValueError(f"{self._name} is in SAME_STEP mode, but its info lacks 'final_obs', the last "
                             "observations")
        return encode(self.observation_space, row(info["final_obs"], i), None, f"environment {i}")[0]


class EnvPool(Vector):
    """An EnvPool: a NEXT_STEP vector environment that takes its seed when it is made."""

    def __init__(self, env: Any):
        if env.spec.config.batch_size not in (0, len(env)):
            raise ValueError(f"this EnvPool steps {env.spec.config.batch_size} of its {len(env)} "
                             "environments at a time; make it with batch_size=num_envs")
        self._begin(env, len(env), env.observation_space, env.action_space, AutoresetMode.NEXT_STEP)

    def reset(self, seeds: list) -> np.ndarray:
        """Start an episode in each environment; the seeds are not used."""
        self._ended[:] = False
        return self._started(self.env.reset())


class StableBaselines(Stepper):
    """A vector environment of stable-baselines or stable-baselines3."""

    def __init__(self, env: Any):
        self.env, self.num_envs, self._name, self.env_id = env, env.num_envs, type(env).__name__, None
        self.observation_space = spaces.describe(env.observation_space, "observation")
        self.action_space = spaces.describe(env.action_space, "action")

    def glance(self) -> str:
        """Return a digest of the first environment behind the wrappers."""
        return env_state.glance(innermost(self.env)[0])

    def reset(self, seeds: list) -> np.ndarray:
        """Start an episode in each environment, seeded one after the other from the first seed."""
        if hasattr(self.env, "seed"):
            self.env.seed(seeds[0])
        else:  # as those of openai/baselines
            warnings.warn(f"{self._name} has no seed(): its episodes do not follow from the model's seed",
                          stacklevel=2)
        obs = self.env.reset()
        if obs is None or isinstance(obs, tuple) and not isinstance(self.observation_space, spaces.Fields):
            raise ValueError(f"{self._name}: reset() returned {_shown(obs)}; in the interface of "
                             "stable-baselines it is the observations, alone")
        return encode(self.observation_space, obs, self.num_envs, self._name)

    def step(self, actions: np.ndarray) -> Step:
        """Take one action in each environment."""
        result = self.env.step(np.array(actions))
        if not (isinstance(result, (tuple, list)) and len(result) == 4):
            raise ValueError(f"{self._name}: step() returned {_shown(result)}; the interface of "
                             "stable-baselines is (observations, rewards, dones, infos)")
        raw, rewards, dones, infos = result
        if isinstance(infos, (list, tuple)) and not infos and not np.any(dones):  # told at ends alone
            infos = [{} for _ in range(self.num_envs)]
        if len(infos) != self.num_envs or not all(isinstance(info, dict) for info in infos):
            raise ValueError(f"{self._name}: the infos are {infos!r:.200}; a dict for each of the "
                             f"{self.num_envs} environments is needed")
        self.infos = infos
        obs = encode(self.observation_space, raw, self.num_envs, self._name)
        rewards = numbers(rewards, self.num_envs, "the reward", self._name)
        done = flags(dones, self.num_envs, "done", self._name)
        cut = done & [bool(info.get("TimeLimit.truncated")) for info in infos]
        final = [(i, self._last(infos[i], i)) for i in np.flatnonzero(cut).tolist()]
        valid = np.ones(self.num_envs, bool)
        self.told = []
        for i in np.flatnonzero(done).tolist():
            self.note_end(i, infos[i])
        # an end with lives left is that of a life: the game goes on, and so does its score
        over = done & [bool(cut[i] or FRAME not in info or not info.get("lives"))
                       for i, info in enumerate(infos)]
        return Step(obs, rewards, done & ~cut, cut, final, valid, over)

    def _last(self, info: dict, i: int) -> np.ndarray:
        if info.get("terminal_observation") is None:
            raise ValueError(f"environment {i} of {self._name} was truncated, but its info lacks "
                             "'terminal_observation', the episode's last observation")
        return encode(self.observation_space, info["terminal_observation"], None, f"environment {i}")[0]


class Carried:
    """An environment in a model that is pickled or copied; a pickle holds None if it does not pickle."""

    def __init__(self, env: Any):
        self.env = env

    def __reduce__(self):
        try:
            pickle.dumps(self.env)
        except Exception as error:  # of any kind: environments hold processes, windows, simulators
            warnings.warn(f"the model is pickled without its environment, which does not pickle ({error}); "
                          "give the copy one by set_env", stacklevel=2)
            return type(None), ()
        return _itself, (self.env,)

    def __deepcopy__(self, memo):
        if _in_processes(self.env):  # parts of a copy would close what the original needs
            warnings.warn("the model is copied without its environment, which runs in processes of its own; "
                          "give the copy one by set_env", stacklevel=4)
            return None
        return deepcopy(self.env, memo)


def _itself(env: Any) -> Any:
    return env


def _in_processes(env: Any) -> bool:
    """Say whether an environment is, behind its wrappers, one that keeps processes."""
    env = without_wrappers(env)
    env = getattr(env, "vector_env", env)
    return hasattr(getattr(env, "unwrapped", env), "processes")


def id_of(env: Any) -> str | None:
    """Return the id by which gymnasium made an environment, or None."""
    name = getattr(getattr(env, "spec", None), "id", None)
    return name if isinstance(name, str) else None


def encode(space: spaces.Space, obs: Any, n: int | None, who: str) -> np.ndarray:
    """Encode one observation (n is None) or n of them; an error names who gave a wrong one."""
    try:
        if space.count(obs) == n:
            return space.encode(obs, n or 1)
        problem = ""
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise ValueError(f"{who}: {_misfit(space, obs, () if n is None else (n,)) or problem}")


def _misfit(space: spaces.Space, obs: Any, lead: tuple, field: str = "") -> str:
    """Say which part of an observation does not have the shape that its space declares."""
    if isinstance(space, spaces.Fields):
        try:
            parts = [(part, obs[key], lead, f" in the field {key!r}")
                     for key, part in zip(space.keys, space.spaces)]
        except (KeyError, IndexError, TypeError):
            return ""
        return next(filter(None, (_misfit(*part) for part in parts)), "")
    given, declared = np.shape(obs), lead + space.shape
    if given == declared:
        return ""
    return f"the observation{field} has shape {given}, but its space declares {declared}"


def _not_a_start(result: Any) -> str:
    """Say why what `reset` returned cannot be used."""
    return f"reset() returned {_shown(result)}; {API} (observation, info)"


def _noted(info: Any, obs: Any, terminated, truncated) -> dict:
    """Copy an environment's info; add at an episode's end what stable-baselines adds."""
    info = dict(info) if isinstance(info, dict) else {}
    if terminated or truncated:
        info["terminal_observation"] = deepcopy(obs)  # reset may write into the same array
        info["TimeLimit.truncated"] = bool(truncated and not terminated)
    return info


def _not_a_step(result: Any) -> str:
    """Say why what `step` returned cannot be used."""
    return f"step() returned {_shown(result)}; {API} (observation, reward, terminated, truncated, info)"


def _shown(result: Any) -> str:
    if result is None:
        return "None"
    return f"{len(result)} values" if isinstance(result, tuple) else f"one {type(result).__name__}"


def _same_game(ended: Any, started: dict) -> bool:
    """Say whether the game goes on from an episode's last info to the next one's first: a life was lost."""
    return isinstance(ended, dict) and FRAME in ended and started.get(FRAME, 0) >= ended[FRAME]


def make_env(env_id: str, **kwargs) -> gymnasium.Env:
    """Make an environment by its id; a ValueError names the known id that is nearest to an unknown one.

    An id such as "module:Mine-v0" imports the module first, which registers "Mine-v0". The environment keeps
    all of the id, since without the module nobody could make it again.
    """
    if env_id not in gymnasium.registry and importlib.util.find_spec("ale_py"):
        importlib.import_module("ale_py")  # registers the Atari games
    try:
        env = gymnasium.make(env_id, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{env_id} needs a package that is not installed: {error}. For MuJoCo: "
                          f"{install('mujoco')}; for Atari, the extra atari") from None
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        hint = nearest(env_id, gymnasium.registry)
        own = "" if ":" in env_id else f"; if a module of yours registers it: 'module:{env_id}'"
        raise ValueError(f"there is no environment {env_id!r}{hint}: {error}{own}") from None
    except TypeError as error:
        unknown = re.search("unexpected keyword argument '(.*?)'", str(error))
        if not unknown or unknown[1] not in kwargs:
            raise
        raise ValueError(f"{env_id} takes no argument {unknown[1]!r}") from None
    if ":" in env_id and (spec := env.unwrapped.spec) is not None:
        spec.id = env_id  # of this environment's own copy
    return env


def make_vec_env(env_id: str | Callable[..., gymnasium.Env[Any, Any]], n_envs: int = 1,
                 seed: int | None = None, *, start_index: int = 0,
                 wrapper_class: Callable[..., gymnasium.Env[Any, Any]] | None = None,
                 env_kwargs: dict[str, Any] | None = None,
                 vec_env_cls: Callable[..., VecEnv] | None = None) -> VecEnv:
    """Make several environments of one kind, from an id or by a function.

    At the first reset environment i is seeded with `seed + start_index + i`, and so are the samples of its
    action space. wrapper_class: is applied to each. env_kwargs: arguments for the id or the function.
    vec_env_cls: DummyVecEnv if None; SubprocVecEnv, for example.
    """
    check_count("n_envs", n_envs)
    kwargs, seed = env_kwargs or {}, None if seed is None else checked_seed(seed)

    def maker(index: int) -> Callable[[], gymnasium.Env]:
        def make() -> gymnasium.Env:
            env = make_env(env_id, **kwargs) if isinstance(env_id, str) else env_id(**kwargs)
            if seed is not None:
                env.action_space.seed(seed + index)
            return env if wrapper_class is None else wrapper_class(env)
        return make

    vec_env = (vec_env_cls or DummyVecEnv)([maker(start_index + i) for i in range(n_envs)])
    if seed is not None:
        vec_env.seed(seed + start_index)
    return vec_env


def innermost(env: Any) -> list:
    """Return the environments behind wrappers and behind a vector environment of this process; else [env]."""
    env = without_wrappers(env)
    envs = getattr(getattr(env, "unwrapped", env), "envs", None)
    return [getattr(inner, "unwrapped", inner) for inner in envs or [env]]


def adapt(env: Any):
    """Return a stepper for any environment.

    env: a gymnasium id, an Env, a VectorEnv, an EnvPool, or a vector environment of stable-baselines' kind.
    """
    if isinstance(env, str):
        return EnvList([make_env(env)])
    if isinstance(env, VecEnv):
        while hasattr(env, "venv") and declared(env, "steps_as_gymnasium"):
            env = env.venv
        if not declared(env, "steps_as_gymnasium"):
            return StableBaselines(env)  # a subclass, which may step in another way
        env = env.vector_env
    if type(env) is SyncVectorEnv:  # its environments can be stepped without it: 35-110 us less a step
        return EnvList(list(env.envs))
    if hasattr(env, "__len__") and hasattr(getattr(env, "spec", None), "config"):
        return EnvPool(env)  # before the next two: an EnvPool claims to be an Env
    if isinstance(env, VectorEnv):
        return Vector(env)
    if isinstance(env, gymnasium.Env):
        return EnvList([env])
    if hasattr(env, "step_wait") and hasattr(env, "num_envs"):
        return StableBaselines(env)
    raise ValueError(f"the environment is {env!r}; a gymnasium id, gymnasium.Env, "
                     "gymnasium.vector.VectorEnv, EnvPool, DummyVecEnv or SubprocVecEnv is needed"
                     f"{_way_out(env)}")


def _way_out(env: Any) -> str:
    """Say how to make an environment of what is nearly one; "" if it is not."""
    if isinstance(env, (list, tuple)):
        return f"; {EXAMPLE}, in DummyVecEnv(...)"
    if callable(env):  # a class or a function
        return "; this makes one when it is called: give what it returns"
    if any(kind.__module__.split(".")[0] == "gym" for kind in type(env).__mro__):
        return ("; this is one of the old gym, which the package shimmy converts: "
                "GymV26CompatibilityV0(env=env), or GymV21CompatibilityV0 for gym before 0.26")
    if hasattr(env, "reset") and hasattr(env, "step"):
        return "; derive its class from gymnasium.Env"
    return ""
