"""What `adapt` accepts and refuses; sloppy environments; other people's vector environments."""

import re
import types
import warnings
from decimal import Decimal
from fractions import Fraction
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from toys import Parts, Planned

from trpo_np.envs import EnvList, EnvPool, StableBaselines, Vector, adapt, make_env
from trpo_np.vec_env import DummyVecEnv, SubprocVecEnv

ACT = spaces.Discrete(2)


class Scripted(gymnasium.Env):
    """Return what it is told to."""

    def __init__(self, space, start, step=None):
        self.observation_space, self.action_space, self.start = space, ACT, start
        self.outcome = (start, 1.0, False, False, {}) if step is None else step

    def reset(self, *, seed=None, options=None):
        return self.start, {}

    def step(self, action):
        return self.outcome


BOX = spaces.Box(-9, 9, (3,), np.float32)


def test_what_adapt_takes():
    fns = [lambda: gymnasium.make("CartPole-v1")] * 2
    assert isinstance(adapt("CartPole-v1"), EnvList)
    assert isinstance(adapt(gymnasium.make("CartPole-v1")), EnvList)
    assert isinstance(adapt(DummyVecEnv(fns)), EnvList)
    assert isinstance(adapt(SyncVectorEnv(fns)), EnvList)
    assert isinstance(adapt(gymnasium.wrappers.vector.ClipReward(SyncVectorEnv(fns), max_reward=1.0)), Vector)
    assert isinstance(adapt(gymnasium.make_vec("CartPole-v1", num_envs=8,
                                               vectorization_mode="vector_entry_point")), Vector)
    subproc = SubprocVecEnv(fns)
    assert isinstance(adapt(subproc), Vector) and adapt(subproc).num_envs == 2
    subproc.close()


@pytest.mark.parametrize("env",
                         [None, 7, [gymnasium.make("CartPole-v1")], lambda: gymnasium.make("CartPole-v1"),
                          gymnasium.Env])
def test_what_adapt_refuses(env):
    with pytest.raises(ValueError, match="gymnasium.Env"):
        adapt(env)


def test_an_old_gym_environment_is_told_apart():
    old = type("Env", (), {"__module__": "gym.envs.classic", "observation_space": BOX, "action_space": ACT})()
    with pytest.raises(ValueError, match="old gym"):
        adapt(old)
    own = type("Own", (type(old),), {"__module__": "__main__"})  # a class of the user's own, too
    with pytest.raises(ValueError, match=r"shimmy converts: GymV26CompatibilityV0\(env=env\)"):
        adapt(own())


class Duck:
    """What acts as an environment, and is none."""

    def reset(self): ...

    def step(self, action): ...


@pytest.mark.parametrize("env, way_out", [
    (Scripted, "this makes one when it is called"), (lambda: None, "this makes one when it is called"),
    ([Scripted(None, None)], r"for several, \[lambda: .*, in DummyVecEnv"),
    (Duck(), r"derive its class from gymnasium\.Env"), (3, "$")])
def test_what_is_nearly_an_environment_is_told_the_way(env, way_out):
    with pytest.raises(ValueError, match=f"the environment is .*; a gymnasium id, .* is needed.*{way_out}"):
        adapt(env)


@pytest.mark.parametrize("env_id, says", [
    ("Cartpole-v1", "CartPole-v1"), ("CartPole-v99", "CartPole-v1"), ("HalfCheeta-v5", "HalfCheetah-v5"),
    ("Pendulum-v0", "Pendulum-v1"), ("Nowhere/Nothing-v0", "Nothing")])
@pytest.mark.filterwarnings("ignore:.*out of date")
def test_an_unknown_id_gets_the_nearest(env_id, says):
    with pytest.raises(ValueError, match=says) as error:
        adapt(env_id)
    assert repr(env_id) in str(error.value)


def test_the_module_stays_in_an_id(tmp_path, monkeypatch):
    own = "import gymnasium\ngymnasium.register('Own-v0', 'gymnasium.envs.classic_control:CartPoleEnv')"
    (tmp_path / "trpo_np_test_module.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    full = "trpo_np_test_module:Own-v0"
    for env in (full, make_env(full), DummyVecEnv([lambda: make_env(full)] * 2)):
        assert adapt(env).env_id == full
    again = gymnasium.make(make_env(full).spec)  # the spec serves as before
    assert again.spec.id == full and gymnasium.spec("Own-v0").id == adapt("Own-v0").env_id == "Own-v0"
    gymnasium.registry.pop("Own-v0")


def test_an_id_that_nobody_knows_may_lack_its_module():
    with pytest.raises(ValueError, match="'Strange-v0'.*a module of yours registers it: 'module:Strange-v0'"):
        adapt("Strange-v0")


def test_a_missing_package_is_named(monkeypatch):
    def make(*args, **kwargs):
        raise gymnasium.error.DependencyNotInstalled("no mujoco")
    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(ImportError, match=r"no mujoco.*trpo_np\[mujoco\]"):
        make_env("Ant-v5")


def test_atari_ids_are_known_without_importing_ale_py():
    pytest.importorskip("ale_py")
    assert adapt("ALE/Pong-v5").observation_space.shape == (210, 160, 3)


# --- sloppy environments ------------------------------------------------------------------------------------

@pytest.mark.parametrize("obs", [
    [1, 2, 3], (1.0, 2.0, 3.0), np.arange(1.0, 4.0), np.arange(1, 4, dtype=np.uint8), np.float16([1, 2, 3])])
@pytest.mark.parametrize("reward", [1, True, 1.0, np.float32(1), np.array(1), np.array(1.0)])
@pytest.mark.parametrize("ended", [False, 0, np.bool_(False), np.array(False)])
def test_types_do_not_matter(obs, reward, ended):
    stepper = adapt(Scripted(BOX, obs, (obs, reward, ended, ended, {})))
    start = stepper.reset([0])
    step = stepper.step(np.array([0]))
    for row in (start, step.obs):
        assert row.dtype == np.float32 and row.shape == (1, 3) and row.tolist() == [[1, 2, 3]]
    assert step.rewards.dtype == np.float64 and step.rewards.tolist() == [1]
    assert (step.terminated.dtype, step.truncated.dtype, step.valid.dtype) == (bool, bool, bool)
    assert not step.terminated.any() and not step.truncated.any() and step.valid.all() and step.final == []


@pytest.mark.parametrize("yes", [True, 1, np.bool_(True), np.array(True), np.array([True])])
def test_ends_of_any_type(yes):
    step = adapt(Scripted(BOX, np.zeros(3), (np.ones(3), 0.0, False, yes, {}))).step(np.array([0]))
    assert step.truncated.tolist() == [True] and not step.terminated.any()
    assert step.obs.tolist() == [[0, 0, 0]]
    assert [(i, row.tolist()) for i, row in step.final] == [(0, [1, 1, 1])]


def test_observations_are_copies():
    buffer = np.zeros(3, np.float32)
    stepper = adapt(Scripted(BOX, buffer))
    start = stepper.reset([0])
    step = stepper.step(np.array([0]))
    buffer[:] = 7
    assert not start.any() and not step.obs.any()
    vector = Vector(SyncVectorEnv([lambda: Scripted(BOX, np.zeros(3, np.float32))] * 2, copy=False))
    rows = [vector.reset([0, 1]), vector.step(np.array([0, 0])).obs]
    vector.env._observations[:] = 7
    assert not np.any(rows)


class Writes(Scripted):
    """Writes into the action that it is given."""

    def __init__(self):
        super().__init__(BOX, np.zeros(3, np.float32))
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def step(self, action):
        action[:] = 7
        return super().step(action)


class WritesAll(DummyVecEnv):
    """Writes into the actions that it is given, and is stepped as one of stable-baselines'."""

    def step(self, actions):
        actions[:] = 7
        return super().step(actions)


@pytest.mark.parametrize("make", [lambda fns: Vector(SyncVectorEnv(fns)), lambda fns: adapt(WritesAll(fns))],
                         ids=["gymnasium", "stable-baselines"])
def test_actions_given_to_a_vector_environment_are_copies(make):
    stepper = make([Writes] * 2)
    actions = np.zeros((2, 2), np.float32)
    stepper.reset([0, 1])
    stepper.step(actions)
    assert not actions.any()


def stepped(*outcome):
    return [EnvList([Scripted(BOX, np.zeros(3)), Scripted(BOX, np.zeros(3), outcome)]).step(np.zeros(2, int))]


@pytest.mark.parametrize("outcome, says", [
    ((np.zeros(3), 1.0, False, {}),
     r"environment 1: step\(\) returned 4 values.*0\.26.*terminated, truncated, info"),
    ((np.zeros(3), None, 1.0), r"environment 1: step\(\) returned 3 values"),
    ((np.zeros(4), 1.0, False, False, {}),
     r"environment 1: the observation has shape \(4,\).*declares \(3,\)"),
    ((np.zeros((1, 3)), 1.0, False, False, {}),
     r"environment 1: the observation has shape \(1, 3\).*declares \(3,\)"),
    ((5.0, 1.0, False, False, {}), r"environment 1: the observation has shape \(\).*declares \(3,\)"),
    ((None, 1.0, False, False, {}), r"environment 1: the observation has shape \(\)"),
    ((["a", "b", "c"], 1.0, False, False, {}), "environment 1: .*'a'"),
    ((np.array(["a", "b", "c"]), 1.0, False, False, {}), "environment 1: .*'a'"),
    ((np.zeros(3), "one", False, False, {}), "environment 1: the reward is 'one'"),
    ((np.zeros(3), [1.0, 2.0], False, False, {}), "environment 1: the reward is"),
])
def test_a_bad_step_gets_a_sentence(outcome, says):
    with pytest.raises(ValueError, match=says):
        stepped(*outcome)


# --- one check of rewards and flags, however the environments are stepped -----------------------------------

class Tensor:
    """What other libraries give: one number, with Python's conversions and no dtype."""

    def __init__(self, x):
        self.x = x

    def __float__(self):
        return float(self.x)

    def __bool__(self):
        return bool(self.x)

    def __repr__(self):  # parallel tests must agree on their names
        return f"Tensor({self.x})"


class TwoOf:
    """Two scripted environments behind the interface of stable-baselines."""

    observation_space, action_space, num_envs, step_wait = BOX, ACT, 2, None

    def __init__(self, reward=0.0, end=False, cut=False):
        self.outcome = reward, end, cut

    def step(self, actions):
        reward, end, cut = self.outcome
        info = {"TimeLimit.truncated": bool(cut), "terminal_observation": np.ones(3)}
        return np.ones((2, 3)), [0.0, reward], [False, end or cut], [info, info]


def lists(n, last, first):
    """What gives n values, of which the last is `last`, as an environment of the user's own may."""
    values = np.empty(n, object)
    values[:-1], values[-1] = first, last
    return values


class TwoTogether(VectorEnv):
    """Two environments behind gymnasium's interface of vector environments."""

    single_observation_space, single_action_space, num_envs = BOX, ACT, 2
    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, reward=0.0, end=False, cut=False):
        self.reward, self.end, self.cut = lists(2, reward, 0.0), lists(2, end, False), lists(2, cut, False)

    def step(self, actions):
        return np.ones((2, 3)), self.reward, self.end, self.cut, {}


class OwnWay(DummyVecEnv):
    """A DummyVecEnv that its user has changed: it is stepped as one of stable-baselines'."""

    def step(self, actions):
        return super().step(actions)


def pool(reward=0.0, end=False, cut=False):
    made = FakePool(2)
    made.step = TwoTogether(reward, end, cut).step
    return made


def scripted(*outcome):
    return Scripted(BOX, np.ones(3), (np.ones(3), *outcome, {}))


WAYS = {"list": lambda *o: EnvList([scripted(0.0, False, False), scripted(*o)]),
        "vector": lambda *o: adapt(TwoTogether(*o)), "pool": lambda *o: adapt(pool(*o)),
        "sb": lambda *o: adapt(TwoOf(*o)),
        "dummy": lambda *o: adapt(OwnWay([lambda: scripted(0.0, False, False), lambda: scripted(*o)]))}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.mark.parametrize("reward", [
    2, 2.0, np.float32(2), np.float64(2), np.longdouble(2), np.int8(2), np.array(2.0), np.array([2.0]),
    np.array([[2]]), [2.0], (2.0,), Decimal(2), Fraction(2), Tensor(2.0)], ids=repr)
def test_a_reward_is_any_one_number(way, reward):
    step = way(reward, False, False).step(np.zeros(2, int))
    assert step.rewards.dtype == np.float64 and step.rewards.tolist() == [0.0, 2.0]


@pytest.mark.parametrize("reward", [
    None, "2", b"2", 2 + 1j, np.complex128(2), np.array([1.0, 2.0]), [], {"agent_0": 1.0}, object(),
    np.array("2"), np.datetime64("2000-01-01"), 10**400], ids=lambda x: repr(x)[:20])
def test_a_reward_that_is_no_number_is_named(way, reward):
    with pytest.raises(ValueError) as error:
        way(reward, False, False).step(np.zeros(2, int))
    assert str(error.value).startswith(f"environment 1: the reward is {reward!r}; a number is needed")


@pytest.mark.parametrize("value, meant", [
    (True, True), (np.bool_(True), True), (1, True), (1.0, True), (np.array([True]), True), ([1], True),
    (Tensor(True), True), (np.array([[1]]), True), (np.bool_(False), False), (0, False), (None, False),
    (np.array([False]), False), ([False], False), (Tensor(False), False)], ids=repr)
def test_a_flag_is_any_one_truth_value(way, value, meant):
    step = way(0.0, value, False).step(np.zeros(2, int))
    assert step.terminated.dtype == bool and step.terminated.tolist() == [False, meant]
    assert step.over.tolist() == [False, meant] and not step.truncated.any()


@pytest.mark.parametrize("value", [
    {"a": False, "__all__": False}, {}, "False", np.array([True, False]), [False, False], object(), np.nan,
    np.array("no"), ()], ids=lambda x: repr(x)[:20])
@pytest.mark.parametrize("which", ["terminated", "truncated"])
def test_a_flag_that_is_none_is_named(way, value, which):
    outcome = (0.0, value, False) if which == "terminated" else (0.0, False, value)
    stepper = way(*outcome)
    if isinstance(stepper, StableBaselines) and isinstance(stepper.env, TwoOf):
        result = np.ones((2, 3)), [0.0, 0.0], [False, value], [{}, {}]
        which, stepper.env.step = "done", lambda actions: result
    with pytest.raises(ValueError) as error:
        stepper.step(np.zeros(2, int))
    assert str(error.value).startswith(f"environment 1: {which} is {value!r}; True or False is needed")


MODES = {"subproc": SubprocVecEnv, **{mode.value: partial(AsyncVectorEnv, autoreset_mode=mode)
                                      for mode in AutoresetMode}}


class Told(Scripted):
    """Takes what it is told to return as an attribute, which can be set in another process."""

    def __init__(self):
        super().__init__(BOX, np.ones(3, np.float32))

    def step(self, action):
        return self.start, *self.told, {}


@pytest.mark.parametrize("kind", MODES)
def test_processes_have_the_same_check_and_go_on_after_it(kind):
    env, good = MODES[kind]([Told, Told]), (1.0, False, False)
    stepper, at = adapt(env), 0 if kind == "subproc" else 1

    def step(*outcome):
        env.set_attr("told", outcome) if kind == "subproc" else env.set_attr("told", [good, outcome])
        return stepper.step(np.zeros(2, int))
    try:
        stepper.reset([0, 1])
        for reward in (2, [2.0], np.array([[2]]), Decimal(2), Fraction(2), Tensor(2.0)):
            assert step(reward, False, None).rewards[1] == 2
        for reward in (None, "2", 2 + 1j, np.ones(2), [], {"a": 1.0}):
            with pytest.raises(ValueError) as error:
                step(reward, False, False)
            assert str(error.value).startswith(f"environment {at}: the reward is {reward!r}; a number is")
            assert step(2.0, False, False).rewards[1] == 2
        for i, which in enumerate(("terminated", "truncated")):
            for flag in ({"a": False}, "False", np.nan):
                with pytest.raises(ValueError, match=rf": {which} is {re.escape(repr(flag))}; True or False"):
                    step(2.0, *[flag, False][::1 - 2 * i])
                stepper.reset([0, 1])
        assert step(1.0, np.array([True]), False).terminated[1]
        stepper.reset([0, 1])
        message = "True or False is needed, for the environment as a whole, not for each of several agents"
        with pytest.raises(ValueError, match=message), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step(2.0, np.array([False, False]), False)
    finally:
        env.close()


@pytest.mark.filterwarnings("ignore:.*ERROR")
def test_a_process_with_an_old_style_step_gets_a_sentence():
    class Old(Scripted):
        def step(self, action):
            return self.start, 0.0, False, {}

    env = SubprocVecEnv([lambda: Old(BOX, np.ones(3, np.float32))])
    with pytest.raises(ValueError, match=r"has failed \(not enough values .*\); gymnasium's interface"):
        adapt(env).step(np.zeros(1, int))
    env.close()


def test_a_subproc_env_on_its_own_has_the_same_check():
    env = SubprocVecEnv([Told, Told])
    env.set_attr("told", (None, False, False))
    env.reset()
    with pytest.raises(ValueError, match="environment 0: the reward is None; a number is needed"):
        env.step(np.zeros(2, int))
    env.set_attr("told", (Decimal(2), False, False))
    assert env.step(np.zeros(2, int))[1].tolist() == [2.0, 2.0]
    env.close()


def test_environments_that_take_no_seed_are_used_after_a_word():
    two = TwoOf()
    two.reset = lambda: np.ones((2, 3))
    with pytest.warns(UserWarning, match=r"TwoOf has no seed\(\): its episodes do not follow"):
        assert adapt(two).reset([0, 1]).shape == (2, 3)


def test_a_word_for_those_of_several_agents():
    for outcome in ((np.ones(2), False, False), (0.0, {"a": True}, False)):
        with pytest.raises(ValueError, match="the environment as a whole, not for each of several agents"):
            stepped(np.zeros(3), *outcome, {})


@pytest.mark.parametrize("kind", [TwoTogether, TwoOf])
@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 2), (3,), ()])
def test_rewards_and_flags_of_vector_environments_are_one_for_each(kind, shape):
    for what in ("the reward", "the flag"):
        raw, rewards, ends, *more = kind().step(None)
        ours = np.ones(shape)
        is_reward, env = what == "the reward", kind()
        outcome = (raw, ours, ends, *more) if is_reward else (raw, rewards, ours.astype(bool), *more)
        env.step = lambda actions, outcome=outcome: outcome
        if shape in ((2,), (2, 1)):
            step = adapt(env).step(np.zeros(2, int))
            assert (step.rewards if what == "the reward" else step.terminated).tolist() == [1, 1]
        else:
            with pytest.raises(ValueError, match=f"{kind.__name__}: .*one for each of the 2 environments"):
                adapt(env).step(np.zeros(2, int))


def test_an_old_style_reset_gets_a_sentence():
    class Bare(Scripted):
        def reset(self, *, seed=None, options=None):
            return self.start

    class Unseeded(Scripted):
        def reset(self):
            return self.start, {}

    with pytest.raises(ValueError,
                       match=r"environment 0: reset\(\) returned one ndarray.*\(observation, info\)"):
        adapt(Bare(BOX, np.zeros(3))).reset([0])
    with pytest.raises(ValueError, match="environment 0: .*seed.*options"):
        adapt(Unseeded(BOX, np.zeros(3))).reset([0])


def test_errors_of_the_environment_pass_through():
    class Broken(Scripted):
        def reset(self, *, seed=None, options=None):
            raise TypeError("my own mistake")

        def step(self, action):
            raise ValueError("my own mistake")

    for call in (lambda env: env.reset([0]), lambda env: env.step(np.array([0]))):
        with pytest.raises((TypeError, ValueError), match="^my own mistake$"):
            call(adapt(Broken(BOX, np.zeros(3))))


def test_a_bad_field_is_named():
    space = spaces.Dict(camera=spaces.Box(0, 255, (2, 2), np.uint8),
                        pose=spaces.Dict(x=spaces.Box(-1, 1, (3,))))
    good = {"camera": np.zeros((2, 2), np.uint8), "pose": {"x": np.zeros(3)}}
    bad = {"camera": np.zeros((2, 2), np.uint8), "pose": {"x": np.zeros(2)}}
    adapt(Scripted(space, good)).reset([0])
    with pytest.raises(ValueError,
                       match=r"environment 0: the observation in the field 'x' has shape \(2,\).*declares "
                             r"\(3,\)"):
        adapt(Scripted(space, bad)).reset([0])
    with pytest.raises(ValueError, match="environment 0: .*needs the fields.*pose"):
        adapt(Scripted(space, {"camera": good["camera"]})).reset([0])


# --- observations of several parts, in every mode -----------------------------------------------------------

@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_parts_in_every_mode(kind, mode):
    fns = [lambda i=i: Parts(i) for i in range(3)]
    plain, vector = EnvList([fn() for fn in fns]), Vector(kind(fns, autoreset_mode=mode))
    np.testing.assert_array_equal(plain.reset([0] * 3), vector.reset([0] * 3))
    rows = [[], []], [[], []], [[], []]  # of each environment: those of the list, those of the vector
    for which, stepper in enumerate((plain, vector)):
        for _ in range(30):
            step = stepper.step(np.zeros((3, 2), int))
            last = dict(step.final)
            for i in range(3):
                end = bool(step.terminated[i]), bool(step.truncated[i]), bool(step.over[i])
                following = last[i] if i in last else None if step.terminated[i] else step.obs[i]
                if step.valid[i]:
                    rows[i][which].append((end, step.rewards[i],
                                           None if following is None else following.tolist()))
    vector.env.close()
    for a, b in rows:
        assert len(b) >= 15 and a[:len(b)] == b
        assert any(end == (False, True, True) for end, *_ in b)
        assert any(end == (True, False, True) for end, *_ in b)


# --- other people's vector environments ---------------------------------------------------------------------

def test_the_vector_entry_point_of_cartpole():
    env = gymnasium.make_vec("CartPole-v1", num_envs=8, vectorization_mode="vector_entry_point",
                             max_episode_steps=12)
    stepper, rng = adapt(env), np.random.default_rng(0)
    obs, length, cut, ended = stepper.reset([3] * 8), np.zeros(8, int), 0, 0
    assert (obs == adapt(env).reset([3] * 8)).all()
    for _ in range(60):
        step = stepper.step(rng.integers(2, size=8))
        length = (length + 1) * step.valid
        assert (step.rewards == step.valid).all()
        assert (np.abs(step.obs[~step.valid]) <= 0.05).all()  # the first observation of an episode
        np.testing.assert_array_equal(length[step.truncated], 12)
        assert sorted(i for i, _ in step.final) == np.flatnonzero(step.truncated & ~step.terminated).tolist()
        for i, row in step.final:
            np.testing.assert_array_equal(row, step.obs[i])
        cut, ended = cut + step.truncated.sum(), ended + step.terminated.sum()
    assert cut and ended


class Foreign(VectorEnv):
    """A vector environment of someone else, which gives what it is told to."""

    single_observation_space, single_action_space, num_envs = BOX, ACT, 2

    def __init__(self, mode, obs=None, info=None, ends=(False, True)):
        self.metadata = {} if mode is None else {"autoreset_mode": mode}
        self.obs, self.info, self.ends = np.ones((2, 3)) if obs is None else obs, info or {}, ends

    def reset(self, *, seed=None, options=None):
        assert isinstance(seed, int)  # gymnasium's promise is one seed, not a list
        return np.zeros((2, 3)), {}

    def step(self, actions):
        return self.obs, np.array([1, 2], np.int32), np.array([False, False]), np.array(self.ends), self.info


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_each_environment_of_a_vector_gets_the_seed_that_is_its_own(mode):
    stepper = Vector(SyncVectorEnv([Planned, Planned], autoreset_mode=mode))
    stepper.reset([5, 50])
    assert [env.seeds for env in stepper.env.envs] == [[5], [50]]


def test_a_vector_environment_of_others_gets_one_seed():
    class Others(SyncVectorEnv):
        unwrapped = None  # none of gymnasium's own

        def reset(self, *, seed=None, options=None):
            self.given = seed
            return super().reset(seed=seed, options=options)
    stepper = Vector(Others([Planned, Planned]))
    stepper.reset([5, 50])
    assert stepper.env.given == 5


def test_a_missing_mode_is_assumed_with_a_warning():
    with pytest.warns(UserWarning, match="NEXT_STEP is assumed"):
        stepper = adapt(Foreign(None))
    stepper.reset([5, 6])
    first, second = stepper.step(np.zeros(2, int)), stepper.step(np.zeros(2, int))
    assert first.valid.tolist() == [True, True] and second.valid.tolist() == [True, False]
    # the bogus row gives no reward, no end, no last observation
    assert second.rewards.tolist() == [1, 0] and not second.truncated.any() and second.final == []


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, "SameStep"])
def test_dense_final_observations(mode):
    stepper = adapt(Foreign(mode, info={"final_obs": np.array([[7.0] * 3, [8.0] * 3])}))
    step = stepper.step(np.zeros(2, int))
    assert [(i, row.tolist()) for i, row in step.final] == [(1, [8, 8, 8])]


def test_bad_vector_environments_get_a_sentence():
    act = np.zeros(2, int)
    with pytest.raises(ValueError, match="Foreign.*final_obs"):
        adapt(Foreign(AutoresetMode.SAME_STEP)).step(act)
    with pytest.raises(ValueError, match=r"environment 1: .*shape \(4,\).*declares \(3,\)"):
        adapt(Foreign(AutoresetMode.SAME_STEP, info={"final_obs": np.zeros((2, 4))})).step(act)
    with pytest.raises(ValueError, match=r"Foreign: .*shape \(2, 4\).*declares \(2, 3\)"):
        adapt(Foreign(AutoresetMode.NEXT_STEP, obs=np.zeros((2, 4)))).step(act)
    with pytest.raises(ValueError, match=r"Foreign: .*shape \(3, 3\).*declares \(2, 3\)"):
        adapt(Foreign(AutoresetMode.NEXT_STEP, obs=np.zeros((3, 3)))).step(act)
    with pytest.raises(ValueError, match="NotAMode"):
        adapt(Foreign("NotAMode"))


@pytest.mark.parametrize("kind, change, says", [
    (TwoTogether, dict(reset=None), r"TwoTogether: reset\(\) returned None; .*\(observation, info\)"),
    (TwoTogether, dict(reset=np.zeros((2, 3))), r"TwoTogether: reset\(\) returned one ndarray"),
    (TwoTogether, dict(step=None), r"TwoTogether: step\(\) returned None"),
    (TwoTogether, dict(step=(np.zeros((2, 3)), np.zeros(2), [False] * 2, [{}, {}])), "returned 4 values"),
    (TwoOf, dict(reset=None), r"TwoOf: reset\(\) returned None; .*the observations, alone"),
    (TwoOf, dict(reset=(np.zeros((2, 3)), {})), r"TwoOf: reset\(\) returned 2 values"),
    (TwoOf, dict(step=(np.zeros((2, 3)), np.zeros(2), [False] * 2, [False] * 2, {})),
     "returned 5 values.*dones"),
    (TwoOf, dict(step=(np.zeros((2, 3)), np.zeros(2), [False] * 2, {})), "the infos are {}; a dict for each"),
    (TwoOf, dict(step=(np.zeros((2, 3)), np.zeros(2), [0, 1], [{}, {"TimeLimit.truncated": True}])),
     "environment 1 of TwoOf was truncated.*lacks 'terminal_observation'")])
def test_other_vector_environments_get_a_sentence(kind, change, says):
    env = kind()
    env.seed = lambda seed: None
    for name, result in change.items():
        setattr(env, name, lambda *args, result=result, **kwargs: result)
    stepper = adapt(env)
    with pytest.raises(ValueError, match=says):
        stepper.reset([0, 1]) if "reset" in change else stepper.step(np.zeros(2, int))


class FakePool(gymnasium.Env):
    """EnvPool's interface: one buffer, no seeds at reset; a step after an end resets, whatever the action."""

    observation_space, action_space = BOX, ACT

    def __init__(self, n=3, batch_size=None):
        config = types.SimpleNamespace(num_envs=n, batch_size=n if batch_size is None else batch_size)
        self.spec, self.n, self.buffer = types.SimpleNamespace(config=config), n, np.zeros((n, 3), np.float32)
        self.clock, self.taken = np.zeros(n, int), 0

    def __len__(self):
        return self.n

    def reset(self, env_id=None):
        self.clock[:], self.buffer[:] = 0, 0
        return self.buffer, {"env_id": np.arange(self.n)}

    def step(self, action, env_id=None):
        assert action.shape == (self.n,)
        fresh = self.clock == 4 + np.arange(self.n)
        self.clock[:] = np.where(fresh, 0, self.clock + 1)
        self.taken += (~fresh).sum()
        self.buffer[:] = self.clock[:, None]
        over = self.clock == 4 + np.arange(self.n)
        truncated = over & (np.arange(self.n) == 1)
        rewards, info = np.where(fresh, 0, 1).astype(np.float32), {"elapsed_step": self.clock}
        return self.buffer, rewards, over & ~truncated, truncated, info


def test_envpool():
    pool = FakePool()
    stepper = adapt(pool)
    assert isinstance(stepper, EnvPool) and stepper.num_envs == 3
    rows = [stepper.reset([1, 2, 3])]
    steps = [stepper.step(np.zeros(3, int)) for _ in range(20)]
    assert sum(step.valid.sum() for step in steps) == pool.taken < 60
    for i in range(3):
        clock = [step.obs[i, 0] for step in steps]
        assert clock == [(t + 1) % (5 + i) for t in range(20)]  # and each is a copy
        assert [step.valid[i] for step in steps] == [c != 0 for c in clock]
    finals = [(t, i, row.tolist()) for t, step in enumerate(steps) for i, row in step.final]
    assert finals == [(t, 1, [5, 5, 5]) for t in (4, 10, 16)]
    assert not rows[0].any()
    with pytest.raises(ValueError, match="batch_size=num_envs"):
        adapt(FakePool(3, batch_size=2))


class Theirs:
    """stable-baselines' interface and nothing of ours."""

    def __init__(self, fns):
        self.inner = DummyVecEnv(fns)
        self.num_envs, self.step, self.step_wait = self.inner.num_envs, self.inner.step, self.inner.step_wait
        self.seed, self.reset = self.inner.seed, self.inner.reset
        self.observation_space, self.action_space = self.inner.observation_space, self.inner.action_space


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_stable_baselines(real):
    kind = pytest.importorskip("stable_baselines3.common.vec_env").DummyVecEnv if real else Theirs
    fns = [lambda: gymnasium.make("CartPole-v1", max_episode_steps=12)] * 2
    theirs, ours = adapt(kind(fns)), adapt(DummyVecEnv(fns))
    assert isinstance(theirs, StableBaselines)
    np.testing.assert_array_equal(theirs.reset([5, 6]), ours.reset([5, 6]))
    rng, cuts = np.random.default_rng(0), 0
    for _ in range(50):
        actions = rng.integers(2, size=2)
        a, b = theirs.step(actions), ours.step(actions)
        for x, y in zip(a[:-1], b[:-1]):
            if isinstance(x, list):
                assert [(i, row.tolist()) for i, row in x] == [(i, row.tolist()) for i, row in y]
                cuts += len(x)
            else:
                np.testing.assert_array_equal(x, y)
    assert cuts


def test_infos_may_be_an_empty_list_where_no_episode_ended():
    env = TwoOf()
    env.step = lambda actions: (np.zeros((2, 3)), np.zeros(2), env.dones, [])
    stepper = adapt(env)
    env.dones = [False, False]
    assert stepper.step(np.zeros(2, int)).valid.all() and stepper.infos == [{}, {}]
    env.dones = [False, True]
    with pytest.raises(ValueError, match=r"TwoOf: the infos are \[\]; a dict for each of the 2"):
        stepper.step(np.zeros(2, int))
