"""An episode goes on in another environment to the last bit, or a sentence says why it cannot."""

import gc
import importlib.util
import sys
import threading
from collections import deque

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from gymnasium.envs.registration import registry
from toys import OBS, Corridor, Lives, Moving, Parity, Planned, Samples, Toy, Walk

from trpo_np import env_state
from trpo_np.atari import EpisodicLife
from trpo_np.env_state import NoState, portrait, put_back, state
from trpo_np.files.plain import pack, unpack

SMALL = ("Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "CartPole-v1",
         "Blackjack-v1", "FrozenLake-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4")
MUJOCO = [f"{name}-{version}" for version in ("v4", "v5") for name in (
    "Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum",
    "InvertedPendulum", "Pusher", "Reacher", "Swimmer", "Walker2d")
    if (name, version) != ("Pusher", "v4")]  # which needs an old MuJoCo
needs_mujoco = pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="needs mujoco")
needs_box2d = pytest.mark.skipif(importlib.util.find_spec("Box2D") is None, reason="needs Box2D")


def given(make):
    """Make an environment as a model gets it; return it and its portrait."""
    env = make()
    return env, portrait(env)


def steps(env, actions):
    """What steps bring, episode after episode, as bytes."""
    brought = []
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        brought.append(pack([obs, reward, terminated, truncated]))
        if terminated or truncated:
            obs, info = env.reset()
            brought.append(pack(obs))
    return brought


def attributes(env, birth):
    """What has changed, without spaces, which classes share, and the time of day."""
    changed = state(env, birth)["changed"]
    return {key: pack(value) for key, value in changed.items()
            if key[0] != env_state.SPACE and "time" not in key.split(".")[-1]}


def goes_on(make, before=37, after=90, saves=3):
    """Check that an episode goes on alike in environments that were made anew, used or not."""
    env, birth = given(make)
    space = make().action_space
    space.seed(1)
    actions = [space.sample() for _ in range(saves * (before + after))]
    env.reset(seed=3)
    for k in range(saves):
        now = actions[k * (before + after):]
        steps(env, now[:before])
        saved = pack(state(env, birth))
        copies = []
        for used in (0, 5):
            other, its = given(make)
            other.reset(seed=9)
            steps(other, actions[:used])
            put_back(other, its, unpack(saved))
            assert attributes(other, its) == attributes(env, birth)
            copies.append(steps(other, now[before:before + after]))
        expected = steps(env, now[before:before + after])
        assert copies == [expected, expected]
        assert attributes(other, its) == attributes(env, birth)


@pytest.mark.parametrize("env_id", SMALL)
def test_gymnasiums_small_environments(env_id):
    if env_id not in registry:
        pytest.skip(f"this gymnasium has no {env_id}")
    goes_on(lambda: gymnasium.make(env_id))


@needs_mujoco
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", MUJOCO)
def test_mujoco(env_id):
    goes_on(lambda: gymnasium.make(env_id), saves=2)


@pytest.mark.parametrize("make", [
    Toy, lambda: Parity(limit=30), Moving, Corridor, Planned, Walk, lambda: EpisodicLife(Lives()),
    lambda: Samples(spaces.Dict(a=spaces.Box(-1, 1), b=spaces.Tuple([spaces.Discrete(9)])),
                    spaces.Discrete(2))])
def test_environments_of_plain_values(make):
    goes_on(make)


class Market(gymnasium.Env):
    """Large settings, a memory of its own, a generator of its own, and what only some episodes have."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (4,)), spaces.Discrete(3)
    fee = 0.001

    def __init__(self, prices=None, most=60):
        self.prices = np.cumsum(np.random.default_rng(0).normal(size=200_000)) if prices is None else prices
        self.most, self.rng, self.orders, self.state = most, np.random.default_rng(1), {}, ("flat", 0)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.recent = int(self.np_random.integers(1000)), deque([0.0] * 4, maxlen=4)
        self.left, self.best = self.most, -np.inf
        return np.array(self.recent, np.float32), {}

    def step(self, action):
        self.at, self.left = self.at + 1, self.left - 1
        self.orders[self.at % 7] = (int(action), self.prices[self.at])
        self.state = ("long", self.at) if action == 1 else self.state
        if action == 2:
            self.sold = True
        self.recent.append(self.prices[self.at] + self.rng.normal())
        self.best = max(self.best, self.recent[-1])
        reward = self.best - self.fee * len(self.orders) + (self.state[0] == "long") + hasattr(self, "sold")
        return np.array(self.recent, np.float32), reward, False, self.left == 0, {}


class Mean(gymnasium.Wrapper):
    """A wrapper of one's own, with a memory."""

    total, count = 0.0, 0

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        self.total, self.count = self.total + reward, self.count + 1
        return obs, reward - self.total / self.count, *rest


def test_an_environment_of_the_user_s_with_all_kinds_of_attributes():
    goes_on(Market)
    env, birth = given(Market)
    env.reset(seed=0)
    assert len(pack(state(env, birth))) < 4000  # its prices are settings
    goes_on(lambda: Mean(Market(most=15)))


WRAPPED = {
    "RescaleAction": lambda env: wrappers.RescaleAction(env, -1.0, 1.0), "ClipAction": wrappers.ClipAction,
    "StickyAction": lambda env: wrappers.StickyAction(env, 0.3),
    "RepeatAction": lambda env: wrappers.RepeatAction(env, 2), "TimeAware": wrappers.TimeAwareObservation,
    "Delay": lambda env: wrappers.DelayObservation(env, 2), "Flatten": wrappers.FlattenObservation,
    "FrameStack": lambda env: wrappers.FrameStackObservation(env, 3),
    "Rescale": lambda env: wrappers.RescaleObservation(env, np.float32(-1), np.float32(1)),
    "Dtype": lambda env: wrappers.DtypeObservation(env, np.float64),
    "Statistics": wrappers.RecordEpisodeStatistics, "ClipReward": lambda env: wrappers.ClipReward(env, -1, 1),
    "Autoreset": wrappers.Autoreset, "own": Mean, "limits": lambda env: wrappers.TimeLimit(Mean(env), 20)}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers(name):
    goes_on(lambda: WRAPPED[name](gymnasium.make("Pendulum-v1", max_episode_steps=31)), saves=2)


class Within(gymnasium.Env):
    """Holds plain values by the name of what a wrapper wraps."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (1,)), spaces.Discrete(2)

    def __init__(self, env=None):
        if env is not None:
            self.env = env

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.env = {"x": self.np_random.normal()}
        return self.step(0)[0], {}

    def step(self, action):
        self.env["x"] += action + self.np_random.normal()
        return np.array([self.env["x"]], np.float32), 1.0, self.env["x"] > 20, False, {}


@pytest.mark.parametrize("env", [None, {"x": 0.0}])
def test_plain_values_of_an_environment_that_is_no_wrapper_are_state_by_any_name(env):
    goes_on(lambda: Within(env))


# --- methods of the environment's own -----------------------------------------------------------------------

class Engine:
    """A simulator that only its environment knows."""

    x = 0.0


class Simulated(gymnasium.Env):
    observation_space, action_space = spaces.Box(-np.inf, np.inf, (2,)), spaces.Discrete(2)

    def __init__(self):
        self.engine = Engine()

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.engine.x, self.t = self.np_random.normal(), 0
        return np.array([self.engine.x, self.t], np.float32), {}

    def step(self, action):
        self.engine.x += action + self.np_random.normal()
        self.t += 1
        return np.array([self.engine.x, self.t], np.float32), self.engine.x, self.t == 40, False, {}


class Told(Simulated):
    def env_state(self):
        return {"x": self.engine.x, "t": self.t}

    def set_env_state(self, state):
        if not isinstance(state["x"], float):
            raise ValueError("x is no float")
        self.engine.x, self.t = state["x"], state["t"]


class Teller(gymnasium.Wrapper):
    """A wrapper that speaks for what it wraps."""

    def env_state(self):
        return [self.unwrapped.engine.x, self.unwrapped.t]

    def set_env_state(self, state):
        self.unwrapped.engine.x, self.unwrapped.t = state


@pytest.mark.parametrize("make", [Told, lambda: wrappers.TimeLimit(Told(), 25), lambda: Teller(Simulated()),
                                  lambda: Mean(wrappers.TimeLimit(Teller(Simulated()), 25))])
def test_an_environment_s_own_methods(make):
    goes_on(make)


# --- what has no state --------------------------------------------------------------------------------------

class Shared(Parity):
    """Counts in its class."""

    total = 0

    def step(self, action):
        type(self).total += 1
        return super().step(action)


class Slots(Parity):
    __slots__ = ("hidden",)


def holding(**attributes):
    def make():
        env = Parity()
        vars(env).update(attributes)
        return env
    return make


class Part(Parity):
    """Holds a part of what counts as a setting."""

    def __init__(self):
        super().__init__()
        self.start = [1, 2]

    def reset(self, **kwargs):
        self.path = [self.start]
        return super().reset(**kwargs)


@pytest.mark.parametrize("make, says", [
    (Simulated, "attribute engine is a Engine"), (holding(env=Engine()), "attribute env is a Engine"),
    (holding(env=Corridor()), "attribute env is a Corridor"),
    (Shared, "its class has changed the attribute total"),
    (Slots, "__slots__"), (holding(lock=threading.Lock()), "attribute lock is a lock"),
    (holding(reward=lambda x: x), "attribute reward is a function"), (Part, "share a part"),
    (holding(rng=np.random.RandomState(0)), "attribute rng is a RandomState"),
    (holding(seen=np.zeros((5, 5))[:, 1]), "attribute seen is an array that is a part"),
    (lambda: wrappers.NormalizeObservation(Parity()), "attribute obs_rms is a RunningMeanStd"),
    (lambda: wrappers.TransformObservation(Parity(), lambda obs: obs, OBS), "attribute func is a function"),
    pytest.param(lambda: gymnasium.make("LunarLander-v3"), "is a b2", marks=needs_box2d)])
def test_what_is_not_plain_has_no_state_and_is_named(make, says):
    env, birth = given(make)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    with pytest.raises(NoState, match=says):
        state(env, birth)


@needs_mujoco
def test_mujoco_has_no_state_where_its_class_or_its_model_is_another():
    from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

    class Own(HopperEnv):
        """May read anything of the step before."""

    env, birth = given(Own)
    env.reset(seed=0)
    with pytest.raises(NoState, match="attribute (data|model) is a Mj"):
        state(env, birth)
    env, birth = given(lambda: gymnasium.make("Hopper-v5"))
    env.reset(seed=0)
    state(env, birth)
    env.unwrapped.model.opt.gravity[2] = -5
    with pytest.raises(NoState, match="MuJoCo model has been changed"):
        state(env, birth)


# --- what does not fit --------------------------------------------------------------------------------------

def saved_of(make, actions=5):
    env, birth = given(make)
    env.reset(seed=0)
    steps(env, [env.action_space.sample() for _ in range(actions)])
    return unpack(pack(state(env, birth)))


@pytest.mark.parametrize("make, other, says", [
    (Parity, lambda: Parity(limit=8), "limit is not what it was"), (Parity, Corridor, "is of another kind"),
    (Parity, lambda: wrappers.TimeLimit(Parity(), 5), "another kind"),
    (lambda: Market(), lambda: Market(np.zeros(200_000)), "prices is not what it was"),
    (lambda: gymnasium.make("Pendulum-v1"), lambda: gymnasium.make("Pendulum-v1", g=9.81), "g is not what"),
    pytest.param(lambda: gymnasium.make("Hopper-v5"), lambda: gymnasium.make("Walker2d-v5"), "another kind",
                 marks=needs_mujoco),
    pytest.param(lambda: gymnasium.make("Hopper-v5"), lambda: gymnasium.make("Hopper-v5", frame_skip=2),
                 "frame_skip is not what", marks=needs_mujoco)])
def test_another_kind_or_other_settings_are_named(make, other, says):
    env, birth = given(other)
    env.reset(seed=0)
    with pytest.raises(NoState, match=says):
        put_back(env, birth, saved_of(make))


def test_a_state_that_its_methods_refuse_is_named():
    saved = saved_of(Told)
    env, birth = given(Told)
    env.reset(seed=0)
    for wrong, says in (({"x": 3, "t": 1}, "ValueError: x is no float"), ({}, "KeyError: 'x'")):
        key, = [key for key in saved["changed"] if key.endswith("env_state()")]
        with pytest.raises(NoState, match=says):
            put_back(env, birth, {**saved, "changed": {**saved["changed"], key: wrong}})


@pytest.mark.parametrize("name", ["step", "observation_space", "reset", "__class__", "__dict__", "spec",
                                  "a b", "unwrapped"])
def test_a_file_cannot_replace_what_an_environment_does(name):
    saved = saved_of(Parity)
    env, birth = given(Parity)
    env.reset(seed=0)
    for key in (f"0:Parity.{name}", f"*0:Parity.{name}", f"1:Parity.{name}", name):
        with pytest.raises((NoState, ValueError, TypeError, LookupError)):
            put_back(env, birth, {**saved, "changed": {**saved["changed"], key: "x"}})
    assert callable(env.step) and isinstance(env.observation_space, spaces.Box)


def test_a_file_cannot_replace_what_a_wrapper_wraps():
    saved = saved_of(lambda: Mean(Parity()))
    env, birth = given(lambda: Mean(Parity()))
    env.reset(seed=0)
    with pytest.raises(NoState, match="it cannot have '0:Mean.env'"):
        put_back(env, birth, {**saved, "changed": {**saved["changed"], "0:Mean.env": "x"}})


# --- whether somebody has stepped it ------------------------------------------------------------------------

@pytest.mark.parametrize("make", [
    Parity, Told, Simulated, Market, lambda: gymnasium.make("Pendulum-v1"), lambda: gymnasium.make("Taxi-v4"),
    lambda: gymnasium.vector.AsyncVectorEnv([Parity] * 2),
    lambda: gymnasium.vector.SyncVectorEnv([Parity] * 2),
    pytest.param(lambda: gymnasium.make("Hopper-v5"), marks=needs_mujoco),
    pytest.param(lambda: gymnasium.make("LunarLander-v3"), marks=needs_box2d)])
def test_a_glance_shows_that_an_environment_was_stepped(make):
    env = make()
    env.reset(seed=0)
    first = env_state.glance(env)
    assert env_state.glance(env) == first
    env.step(env.action_space.sample())
    second = env_state.glance(env)
    env.reset()
    assert len({first, second, env_state.glance(env)}) == 3
    env.close()


@pytest.mark.parametrize("make", [Parity, Market, lambda: gymnasium.make("CartPole-v1"),
                                  lambda: wrappers.FrameStackObservation(gymnasium.make("Pendulum-v1"), 2)])
def test_reading_a_state_makes_no_environment_slower(make):
    """Where `vars` would: see env_state.attributes."""
    env, birth = given(make)
    env.reset(seed=0)
    state(env, birth)
    put_back(env, birth, saved_of(make))
    env.late = [1]  # a name that occurs in no method
    for i, (_, layer) in enumerate(env_state.named_layers(env)):
        inner = [layer, layer.action_space, layer.observation_space] if i else [layer.action_space]
        for thing in inner if (3, 11) <= sys.version_info < (3, 13) else []:
            assert not any(type(held) is dict and "__" not in held and held.keys() == vars_of(thing)
                           for held in gc.get_referents(thing)), layer
    assert env_state.attributes(env)["late"] == [1] and "^0:Parity.total" not in portrait(env)
    assert all(env_state.attributes(layer).items() >= vars(layer).items()
               for _, layer in env_state.named_layers(Parity()))


def vars_of(thing):
    return set(env_state.attributes(thing)) - set(env_state.class_attributes(type(thing)))


# --- what is kept, and how ----------------------------------------------------------------------------------

class Stored(Toy):
    """Has a long table and a generator of its own, and uses neither before its episodes begin."""

    def __init__(self, seed=0):
        super().__init__()
        self.table, self.rng = np.zeros(10_000), np.random.default_rng(seed)


def test_a_long_attribute_that_never_changes_is_kept_as_a_digest():
    env, birth = given(Stored)
    assert len(pack(env.table)) > 80_000 and len(birth["0:Stored.table"]) == 32
    assert len(pack(state(env, birth))) < 10_000


def test_a_generator_is_state_also_before_it_has_drawn():
    env, birth = given(Stored)
    saved = unpack(pack(state(env, birth)))
    other, its = given(lambda: Stored(seed=1))
    put_back(other, its, saved)
    assert other.rng.random() == env.rng.random()
