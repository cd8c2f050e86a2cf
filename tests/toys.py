"""Small environments that the tests share; the first line of each says what it is for."""

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

OBS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = {"Box": spaces.Box(-1, 1, (2,), np.float32), "Discrete": spaces.Discrete(3, start=2),
           "MultiDiscrete": spaces.MultiDiscrete([3, 2]), "MultiBinary": spaces.MultiBinary(3)}


class Vector(SyncVectorEnv):
    """A vector environment that is stepped as one: `adapt` takes a plain SyncVectorEnv apart."""


# --- updates ------------------------------------------------------------------------------------------------

class Toy(gymnasium.Env):
    """For updates: every kind of end in a few steps, any action space.

    Observations are random. Episodes end by chance, after `horizon` steps, or both at once. Each real step
    goes into `log`.
    """

    observation_space = OBS

    def __init__(self, action_space=ACTIONS["Discrete"], log=None, horizon=4, chance=0.25):
        self.action_space, self.log, self.horizon, self.chance = action_space, log, horizon, chance

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.obs = 0, self.np_random.standard_normal(3).astype(np.float32)
        return self.obs, {}

    def step(self, action):
        self.steps += 1
        before, self.obs = self.obs, self.np_random.standard_normal(3).astype(np.float32)
        reward = float(before.sum() + np.sum(action))
        terminated, truncated = bool(self.np_random.random() < self.chance), self.steps >= self.horizon
        if self.log is not None:
            self.log.append((id(self), before, np.array(action), reward, self.obs, terminated, truncated))
        return self.obs, reward, terminated, truncated, {}


class Shifted(gymnasium.Env):
    """For statistics: observations lie around 3, and each observation and action counts in the reward."""

    observation_space = OBS
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, horizon=9):
        self.horizon = horizon

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.normal(3, 2, 3).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        obs = self.np_random.normal(3, 2, 3).astype(np.float32)
        reward = float(obs @ [1, 0, 0.3] + np.sum(action * obs[:2]))
        return obs, reward, bool(self.np_random.random() < 0.05), self.steps >= self.horizon, {}


class Samples(gymnasium.Env):
    """For spaces: gives samples of any observation space, and refuses an action that is not in its space."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        return self.observation_space.sample(), 1.0, False, False, {}


# --- learning -----------------------------------------------------------------------------------------------

class Bandit(gymnasium.Env):
    """For learning a choice: one step, see which of three arms pays, pull one."""

    observation_space, action_space = spaces.Discrete(3), spaces.Discrete(3, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.paying = int(self.np_random.integers(3))
        return self.paying, {}

    def step(self, action):
        return self.paying, float(action == self.paying + 1), True, False, {}


class Target(gymnasium.Env):
    """For learning numbers: see two, name their sum and their difference, in one step."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-2, 2, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.seen, {}

    def step(self, action):
        a, b = self.seen
        return self.seen, -float(np.square(action - [a + b, a - b]).sum()), True, False, {}


class Corridor(gymnasium.Env):
    """For credit over time: walk right over seven cells; only the last pays, and each step costs a little."""

    observation_space, action_space = spaces.Discrete(7), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell, self.steps = 0, 0
        return 0, {}

    def step(self, action):
        self.steps += 1
        self.cell = max(0, self.cell + (1 if action else -1))
        there = self.cell == 6
        return self.cell, 1.0 if there else -0.01, there, self.steps >= 40, {}


class Parity(gymnasium.Env):
    """For memory: see a bit; the right action is the sum of all of the episode's bits, modulo 2.

    Episodes of varying length end in both ways.
    """

    observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, action_space=None, limit=9):
        self.action_space, self.limit = action_space or spaces.Discrete(3, start=1), limit

    def _observation(self):
        self.bit = int(self.np_random.integers(2))
        self.sum += self.bit
        return np.array([self.bit, 1 - self.bit, self.np_random.uniform()], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = self.sum = 0
        return self._observation(), {}

    def step(self, action):
        right = 1.0 if np.ravel(action)[0] % 2 == self.sum % 2 else 0.0
        self.t += 1
        ends = self.np_random.random() < 0.1
        return self._observation(), right, bool(ends), self.t == self.limit, {}


class Moving(gymnasium.Env):
    """For images: a stack of frames with a bright column each; the last one's place is the right action.

    Episodes last 20 steps. `layout` "first" has channels first, "last" has them last.
    """

    action_space = spaces.Discrete(2)

    def __init__(self, layout="first", dtype=np.uint8):
        self.layout = layout
        self.observation_space = spaces.Box(0, 255, {"first": (4, 12, 11), "last": (12, 11, 3)}[layout],
                                            dtype)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        channels = 4 if self.layout == "first" else 3
        self.t, self.frames = 0, np.zeros((channels, 12, 11), self.observation_space.dtype)
        return self._draw(), {}

    def _draw(self):
        self.side = int(self.np_random.integers(2))
        self.frames = np.roll(self.frames, -1, 0)
        self.frames[-1] = 0
        self.frames[-1][:, 7 * self.side:7 * self.side + 4] = 255
        return self.frames.copy() if self.layout == "first" else self.frames.transpose(1, 2, 0).copy()

    def step(self, action):
        self.t, reward = self.t + 1, float(action == self.side)
        return self._draw(), reward, False, self.t >= 20, {}


# --- stepping -----------------------------------------------------------------------------------------------

LENGTHS = (3, 1, 4, 2, 6)  # of the first episodes of Counting, over and over
ENDS = [(True, False), (False, True), (True, True)]  # their (terminated, truncated), over and over


class Counting(gymnasium.Env):
    """For rollouts: observes (episode, step), and its reward says which, too; actions are kept.

    `shift` makes environments differ; with `reuse` each observation is the same array, written anew.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-0.25, 0.5, (2,), np.float32)

    def __init__(self, shift=0, reuse=False):
        self.episode, self.time, self.shift, self.actions = shift - 1, 0, shift, []
        self.buffer = np.zeros(2) if reuse else None

    def _observation(self):
        if self.buffer is None:
            return np.array([self.episode, self.time], float)
        self.buffer[:] = self.episode, self.time
        return self.buffer

    def reset(self, *, seed=None, options=None):
        self.episode, self.time = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action):
        self.actions.append(np.array(action))
        self.time += 1
        over = self.time == LENGTHS[self.episode % 5]
        terminated, truncated = ENDS[self.episode % 3] if over else (False, False)
        return self._observation(), self.episode + self.time / 16, terminated, truncated, {"time": self.time}


class Planned(gymnasium.Env):
    """For evaluations: episode k has length `lengths[k % len(lengths)]`, and its step t brings 100 k + t.

    Observes (k, t); keeps the seeds that `reset` gets, and counts calls of `render`.
    """

    observation_space = spaces.Box(-1e6, 1e6, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, lengths=(2, 9), truncate=False):
        self.lengths, self.truncate, self.episode, self.seeds, self.rendered = lengths, truncate, -1, [], 0

    def obs(self):
        return np.array([self.episode, self.t], np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode, self.t = self.episode + 1, 0
        return self.obs(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        done = self.t == self.lengths[self.episode % len(self.lengths)]
        terminated, truncated = done and not self.truncate, done and self.truncate
        return self.obs(), 100.0 * self.episode + self.t, terminated, truncated, {"t": self.t}

    def render(self):
        self.rendered += 1


class Lives(gymnasium.Env):
    """For lost lives: three of two steps each; `reset` starts a new game only if none is left."""

    observation_space, action_space = spaces.Box(-9, 9, (1,)), spaces.Discrete(2)

    def __init__(self):
        self.frame, self.lives = 0, 0

    def _info(self):
        return {"episode_frame_number": self.frame, "lives": self.lives}

    def reset(self, *, seed=None, options=None):
        self.frame, self.lives = (1, 3) if self.lives == 0 else (self.frame + 1, self.lives)
        return np.zeros(1, np.float32), self._info()

    def step(self, action):
        self.frame += 1
        lost = self.frame % 3 == 0
        self.lives -= lost
        return np.full(1, self.frame, np.float32), 1.0, lost, False, self._info()


class Parts(gymnasium.Env):
    """For observations of several parts: each field tells the episode and the step.

    Even episodes are terminated and odd ones truncated, after 1 + episode % 3 steps.
    """

    observation_space = spaces.Dict(
        a=spaces.Box(-99, 99, (2,), np.float64), b=spaces.Discrete(9, start=1),
        c=spaces.Tuple([spaces.MultiBinary(3), spaces.MultiDiscrete([3, 4])]),
        d=spaces.Box(0, 255, (2, 1), np.uint8))
    action_space = spaces.MultiDiscrete([2, 3])

    def __init__(self, shift=0):
        self.episode = shift

    def _observation(self):
        code = 4 * self.episode + self.time
        bits, numbers = np.array([code >> i & 1 for i in range(3)], np.int8), np.array([code % 3, code % 4])
        pixels = np.full((2, 1), code, np.uint8)
        return {"a": np.array([code, -code], float), "b": 1 + code % 9, "c": (bits, numbers), "d": pixels}

    def reset(self, *, seed=None, options=None):
        self.episode, self.time = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action):
        assert action.shape == (2,)
        self.time += 1
        over, odd = self.time == 1 + self.episode % 3, self.episode % 2
        return self._observation(), 1.0, over and not odd, over and bool(odd), {"odd": odd}


class Walk(gymnasium.Env):
    """For stable-baselines' convention: walk `goal` steps; has infos of any form, attributes, a method.

    Truncated one step before the goal if `hurried`. Observations are one reused buffer.
    """

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Dict(at=spaces.Box(0, 9, (1,)), door=spaces.Discrete(2))
    action_space = spaces.Discrete(2)

    def __init__(self, goal=3, hurried=False, render_mode=None):
        self.goal, self.hurried, self.render_mode, self.speed = goal, hurried, render_mode, 1
        self.buffer, self.closed = np.zeros(1, np.float32), False

    def _observation(self):
        self.buffer[:] = self.at
        return {"at": self.buffer, "door": int(self.at == self.goal)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.luck = 0, int(self.np_random.integers(1000))
        return self._observation(), {"luck": self.luck}

    def step(self, action):
        self.at += 1
        info = {"path": np.arange(self.at), "deep": {"at": self.at}} if self.at == 1 else {"word": "on"}
        truncated = self.hurried and self.at == self.goal - 1
        return self._observation(), float(action), self.at == self.goal, truncated, info

    def scaled(self, by, plus=0):
        return self.at * by + plus

    def render(self):
        return np.full((2, 3, 3), self.goal, np.uint8)

    def close(self):
        self.closed = True


class Scored(gymnasium.Env):
    """For evaluations in training: after update k each step brings `values[k - 1]`, in episodes of 3.

    `model` counts the updates; without values the rewards are 0. Keeps the seeds that `reset` gets.
    """

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, values=None):
        self.values, self.model, self.seeds = values, None, []

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        value = 0.0 if self.values is None else self.values[self.model.updates - 1]
        return np.zeros(1, np.float32), value, self.t == 3, False, {}


class Blocks(gymnasium.Env):
    """For pictures: frame t of its episodes of 5 steps is grey of brightness 40 t; `made` lists them."""

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 10}
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(3)
    made: list = []

    def __init__(self, render_mode=None):
        self.render_mode, self.resets = render_mode, 0
        Blocks.made.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.resets = 0, self.resets + 1
        return self._look(), {}

    def step(self, action):
        self.t += 1
        return self._look(), 1.0, self.t == 5, False, {}

    def render(self):
        return np.full((64, 96, 3), 40 * self.t, np.uint8)

    def _look(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)
