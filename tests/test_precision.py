"""Nothing is cut in silence: what acts and what learns sees observations as precisely as they came."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from trpo_np import TRPO, evaluate_policy, load_policy
from trpo_np.comm import OneProcess
from trpo_np.pretrain import generate_expert_data
from trpo_np.vec_env import DummyVecEnv, SubprocVecEnv

# how a bit may come in an observation: its space, and a function of the offset and the bit
FLOAT = Box(-np.inf, np.inf, (1,), np.float64)
INTEGER = Box(-2**62, 2**62, (1,), np.int64)
SPACES = {
    "float64": (FLOAT, lambda offset, bit: np.array([offset + bit], np.float64)),
    "int64": (INTEGER, lambda offset, bit: np.array([offset + bit], np.int64)),
    "Dict": (Dict(a=Box(-1, 1, (1,)), b=Tuple([Discrete(2), FLOAT])), lambda offset, bit: {
        "a": np.zeros(1, np.float32), "b": (1, np.array([offset + bit], np.float64))}),
}
POLICIES = {"MlpPolicy": {}, "MlpLstmPolicy": dict(n_lstm=8), "MlpLnLstmPolicy": dict(n_lstm=8)}
UNIX = 1_700_000_000  # seconds


class Signal(gymnasium.Env):
    """The right action is the bit that was added to an offset."""

    action_space = Discrete(2)

    def __init__(self, offset=UNIX, kind="float64", unit=1):
        (self.observation_space, self.make), self.offset, self.unit = SPACES[kind], offset, unit

    def observed(self):
        self.bit = int(self.np_random.integers(2))
        return self.make(self.offset, self.unit * self.bit)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observed(), {}

    def step(self, action):
        reward = float(action == self.bit)
        self.t += 1
        return self.observed(), reward, False, self.t == 16, {}


def model_at(offset, kind="float64", policy="MlpPolicy", dtype="float32", **options):
    """A model that has seen the bit behind this offset, from 32 observations on."""
    model = TRPO(policy, Signal(offset, kind), timesteps_per_batch=64, seed=0, dtype=dtype,
                 normalize_observations=True, policy_kwargs=POLICIES[policy], **options)
    space = model.policy.observation_space
    rows = [space.encode(SPACES[kind][1](offset, bit), 1) for bit in [0, 1, 1, 0] * 8]
    model.policy.normalizer.merge(np.concatenate(rows), OneProcess())
    model.policy.params["pi/out/w"][...] *= 100
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("policy", POLICIES)
def test_an_offset_changes_nothing(policy, kind, dtype):
    # more steps of CG in float32 can make 1e-2 of a parameter's last bit
    near, far = (model_at(offset, kind, policy, dtype, cg_iters=3) for offset in (0, 2**26))
    outputs = []  # at 2**26 float32 has steps of 8
    for model, offset in (near, 0), (far, 2**26):
        obs = [SPACES[kind][1](offset, bit) for bit in (0, 1)]
        x = [model.policy.observe(one)[0] for one in obs]
        assert x[0].dtype == dtype and x[1].max() == 1 and (x[0] != x[1]).sum() == 1
        state = np.full((1, 16), 0.5) if model.policy.new_memory(1) else None
        drawn = [model.predict(one, state)[0] for one in obs * 20]
        parts = [model.action_probability(one, state) for one in obs]
        v = np.arange(model.policy.params.flat.size) % 7 - 3.0
        product = model.fisher_vector_product(v, obs[1], state)
        model.learn(128)  # acts by the compiled loops, where there are any
        outputs.append([*parts, product, drawn, model.policy.params.flat, model.policy.normalizer.moments.m2])
    assert abs(outputs[0][0] - outputs[0][1]).max() > 1e-4, "the bit counts"
    for one, other in zip(*outputs):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


KINDS = {"list": lambda fns: fns[0](), "dummy": DummyVecEnv, "subproc": SubprocVecEnv,
         "async": AsyncVectorEnv,
         **{f"sync {mode.name}": lambda fns, mode=mode: SyncVectorEnv(fns, autoreset_mode=mode)
            for mode in AutoresetMode}}


@pytest.mark.parametrize("kind", ["float64", "Dict"])
@pytest.mark.parametrize("stepping", KINDS)
def test_every_kind_of_stepping_keeps_all_digits(stepping, kind):
    segments = []
    env = KINDS[stepping]([lambda: Signal(UNIX + 0.125, kind)] * 2)
    model = TRPO("MlpPolicy", env, timesteps_per_batch=80, seed=0, normalize_observations=True)
    model.update = lambda *args: segments.append(args[0]) or TRPO.update(model, *args)
    model.learn(80)
    env.close()
    segment = segments[0]
    rows = [*segment.obs.reshape(80, -1), *segment.last_obs, *(row for _, _, row in segment.final)]
    assert segment.final and {row[-1] for row in rows} == {UNIX + 0.125, UNIX + 1.125}
    assert segment.obs.dtype == np.float64
    std = float(model.policy.normalizer.moments.std[-1])
    assert std == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("policy, kind, unit, stepping", [
    ("MlpPolicy", "float64", 1, "list"), ("MlpPolicy", "int64", 10**6, "subproc"),
    ("MlpPolicy", "Dict", 1, "sync NEXT_STEP"), ("MlpLstmPolicy", "float64", 1e-3, "dummy")])
def test_what_stands_behind_a_time_stamp_is_learned(policy, kind, unit, stepping, tmp_path):
    offset = UNIX * 10**9 if kind == "int64" else UNIX  # nanoseconds
    env = KINDS[stepping]([lambda: Signal(offset, kind, unit)] * 2)
    model = TRPO(policy, env, timesteps_per_batch=512, max_kl=0.05, gamma=0.0, seed=0, vf_stepsize=3e-3,
                 normalize_observations=True, policy_kwargs=POLICIES[policy])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that integers beyond 2^53 are rounded
        model.learn(512 * 12)
    env.close()
    ours = [evaluate_policy(one, Signal(offset, kind, unit), 4, seed=1)[0]
            for one in (model, load_policy(model.save(tmp_path / "model")))]
    assert ours[0] == ours[1] > 15.5
    single = Signal(offset, kind, unit)
    if kind != "Dict":
        data = generate_expert_data(model, None, single, n_episodes=4, seed=3)
        other = TRPO(policy, single, normalize_observations=True, policy_kwargs=POLICIES[policy], seed=1)
        other.pretrain(data, n_epochs=150, learning_rate=1e-2)
        assert evaluate_policy(other, single, 4, seed=1)[0] > 15.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e15])
def test_the_scale_of_observations_does_not_matter(scale, dtype):
    class Scaled(Signal):
        observation_space = Box(-np.inf, np.inf, (1,), dtype)

        def __init__(self):
            self.offset, self.unit = 0, 1
            self.make = lambda _, bit: np.array([scale * (2 * bit - 1)], dtype)
    model = TRPO("MlpPolicy", Scaled(), timesteps_per_batch=512, max_kl=0.05, gamma=0.0, seed=0,
                 normalize_observations=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that float32 has large steps where numbers are large
        model.learn(512 * 10)
    assert evaluate_policy(model, Scaled(), 4, seed=1)[0] > 15.5
    assert float(model.policy.observe(np.array([scale], dtype))[0][0, 0]) == pytest.approx(1, abs=0.1)


# --- what cannot be seen is said ----------------------------------------------------------------------------

def told_at_start(env, **options):
    model = TRPO("MlpPolicy", env, timesteps_per_batch=32, seed=0, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.learn(64)
    return [str(one.message) for one in said]


def test_an_offset_that_hides_changes_is_said_once():
    [told] = told_at_start(Signal(UNIX, "Dict"))
    assert "as number 0 of the observation's field ['b'][1]; so large, float32 shows no changes" in told
    assert "gave 170000000" in told and "than 128" in told and "normalize_observations=True" in told
    assert not told_at_start(Signal(2**24 - 1))
    for options in dict(normalize_observations=True), dict(dtype="float64"):
        assert not told_at_start(Signal(UNIX), **options)


def test_integers_beyond_float64_are_said():
    for options in dict(normalize_observations=True), dict(dtype="float64"):
        [told] = told_at_start(Signal(UNIX * 10**9, "int64"), **options)
        assert "as number 0 of the observation; so large, float64 shows no changes smaller than 256" in told
        assert not told_at_start(Signal(UNIX * 10**9), **options)  # a float64 has no finer numbers itself


def test_large_numbers_that_a_space_declares_as_float32_are_said():
    class Narrow(Signal):
        def __init__(self):
            super().__init__()
            self.observation_space = Box(-np.inf, np.inf, (1,))
    [told] = told_at_start(Narrow(), normalize_observations=True)
    assert "float32 shows no changes smaller than 128: if the environment has it in float64" in told


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stepping", ["list", "sync SAME_STEP", "subproc"])
def test_a_number_beyond_float32_is_named_or_normalised(stepping, policy):
    def make():
        env = Signal(0)
        env.make = lambda _, bit: np.array([bit * (1 if env.t < 3 else 1e39)])
        return env

    env = KINDS[stepping]([make] * 2)
    settings = dict(timesteps_per_batch=40, seed=0, policy_kwargs=POLICIES[policy])
    with pytest.raises(ValueError, match=r"gave an observation with 1e\+39 in field 0 .* no number beyond "
                                         "3.4e.38: pass normalize_observations=True"):
        TRPO(policy, env, **settings).learn(40)
    model = TRPO(policy, env, normalize_observations=True, **settings).learn(120)
    assert 0 < model.policy.observe(np.array([1e39]))[0][0, 0] <= 10
    TRPO(policy, env, dtype="float64", **settings).learn(40)
    env.close()


def test_a_number_beyond_float32_is_named_by_predict():
    model = TRPO("MlpPolicy", Signal())
    for row, obs in enumerate([np.array([1e39]), np.array([[0], [1e39]])]):
        told = rf"the observation holds 1e\+39 in row {row}, field 0; a float32 network sees no number beyond"
        with pytest.raises(ValueError, match=told), np.errstate(over="ignore"):
            model.predict(obs)
    for options in dict(normalize_observations=True), dict(dtype="float64"):
        TRPO("MlpPolicy", Signal(), **options).predict(np.array([1e39]))
