"""The update: a step as its dense definition, a trust region that holds, and real samples alone count."""

import hashlib
import json
import os
import subprocess
import sys
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import reference
from checks import STEP, hessian
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from toys import ACTIONS, OBS, Toy, Vector

from trpo_np import TRPO, ops, trust_region, update
from trpo_np.autodiff import Var
from trpo_np.callbacks import BaseCallback
from trpo_np.comm import OneProcess
from trpo_np.kernels import compile as kernels
from trpo_np.optim import conjugate_gradient
from trpo_np.policies import MlpPolicy
from trpo_np.settings import LinearSchedule
from trpo_np.trust_region import Batch, trust_region_step

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = dict(net_arch=[dict(pi=[4], vf=[4])])


def small_policy(kind, seed=0, dtype="float64", cls=MlpPolicy, **kwargs):
    """A policy far from the uniform one that it is drawn as."""
    rng = np.random.default_rng(seed)
    policy = cls(OBS, ACTIONS[kind], dtype=dtype, **{**SMALL, **kwargs}).draw(rng)
    policy.params.flat[:] += 0.5 * rng.standard_normal(policy.params.flat.size)
    return policy, policy.policy_params, rng


def random_batch(policy, rng, n, scale=1.0):
    obs = rng.standard_normal((n, 3)).astype(policy.dtype)
    actions = policy.dist.sample(policy.pi(policy.params, obs),
                                 policy.dist.noise(rng, n).astype(policy.dtype))
    return Batch(obs, actions, scale * rng.standard_normal(n), np.full(n, 1 / n))


def model_on(env, **settings):
    return TRPO("MlpPolicy", env, **{"policy_kwargs": SMALL, "seed": 3, "timesteps_per_batch": 32,
                                     **settings})


def policy_part(model):
    return model.policy.policy_params.flat.copy()


def critic_part(model):
    return model.policy.critic_params.flat.copy()


@pytest.fixture
def spy(monkeypatch):
    """Record what each update gives to the trust region step, and what comes back."""
    calls = []

    def step(policy, params, batch, comm, **options):
        old = policy.params.flat.copy()
        new, info = trust_region_step(policy, params, batch, comm, **options)
        calls.append(SimpleNamespace(old=old, batch=batch, options=options, new=new.copy(), info=info))
        return new, info
    monkeypatch.setattr(update, "trust_region_step", step)
    return calls


# ---- the step against its dense definition

def gaussian(phi, actions):
    """(log-probability, mean, log std) of the textbook, for one row of parameters each."""
    mean, log_std = phi[:, :2], phi[:, 2:]
    z = (actions - mean) / np.exp(log_std)
    return np.sum(-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi), 1)


def categorical(phi, actions):
    return phi[np.arange(len(phi)), actions] - np.log(np.exp(phi).sum(1))


def kl_divergence(kind, old, new):
    if kind == "Discrete":
        p, q = (np.exp(phi) / np.exp(phi).sum(1, keepdims=True) for phi in (old, new))
        return np.sum(p * np.log(p / q), 1)
    (m, s), (m2, s2) = ((phi[:, :2], np.exp(phi[:, 2:])) for phi in (old, new))
    return np.sum(np.log(s2 / s) + (s**2 + (m - m2) ** 2) / (2 * s2**2) - 0.5, 1)


def entropy(kind, phi):
    if kind == "Discrete":
        p = np.exp(phi) / np.exp(phi).sum(1, keepdims=True)
        return -np.sum(p * np.log(p), 1)
    return np.sum(phi[:, 2:] + 0.5 * np.log(2 * np.pi * np.e), 1)


def dense_step(kind, policy, head, batch, max_kl, damping, entcoeff, every, steps, shrink, tolerance):
    """Take the step with a dense Fisher matrix and `solve`; return (new vector, KL, fraction of the step)."""
    logp = dict(Box=gaussian, Discrete=categorical)[kind]

    def phi(theta):
        p = head.like(theta)
        out = np.tanh(batch.inputs @ p["pi/fc0/w"] + p["pi/fc0/b"]) @ p["pi/out/w"] + p["pi/out/b"]
        return np.hstack([out, np.tile(p["pi/log_std"], (len(out), 1))]) if kind == "Box" else out

    theta = head.flat.copy()
    old = phi(theta)

    def surrogate(theta):
        new = phi(theta)
        ratio = np.exp(logp(new, batch.actions) - logp(old, batch.actions))
        return np.mean(ratio * batch.advantages) + entcoeff * np.mean(entropy(kind, new))

    g = np.array([np.imag(surrogate(theta + 1j * STEP * e)) / STEP for e in np.eye(theta.size)])
    thinned = policy.pi(head, batch.inputs[::every])
    A = hessian(lambda p: ops.mean(policy.dist.kl(thinned, policy.pi(p, batch.inputs[::every]))), head)
    A = A + damping * np.eye(theta.size)
    x = np.linalg.solve(A, g)
    full = np.sqrt(2 * max_kl / (x @ A @ x)) * x
    for i in range(steps):
        trial = theta + shrink**i * full
        kl = np.mean(kl_divergence(kind, old, phi(trial)))
        if kl <= tolerance * max_kl and surrogate(trial) >= surrogate(theta):
            return trial, kl, shrink**i
    return theta, 0.0, 0.0


STEPS = {"plain": {}, "damped": dict(damping=0.3), "entropy": dict(entcoeff=0.2), "thinned": dict(every=3),
         "shrinking": dict(max_kl=0.7, tolerance=1.0, shrink=0.8), "far": dict(max_kl=3.0, tolerance=0.4),
         "one try": dict(steps=1)}


@pytest.mark.parametrize("kind", ["Box", "Discrete"])
@pytest.mark.parametrize("case", STEPS)
def test_the_step_equals_its_dense_definition(kind, case, monkeypatch):
    # the solver stops at a residual of 1e-5, good enough for a policy; here it may go on to rounding
    monkeypatch.setattr(trust_region, "conjugate_gradient", partial(conjugate_gradient, tol=1e-28))
    usual = dict(max_kl=0.01, damping=0.01, entcoeff=0.0, every=1, steps=10, shrink=0.5, tolerance=1.5)
    o = usual | STEPS[case]
    fractions = []
    for seed in range(4):
        policy, head, rng = small_policy(kind, seed)
        batch = random_batch(policy, rng, 50)
        want, kl, fraction = dense_step(kind, policy, head, batch, **o)
        new, info = trust_region_step(
            policy, head, batch, OneProcess(), max_kl=o["max_kl"], cg_iters=400, cg_damping=o["damping"],
            entcoeff=o["entcoeff"], fvp_subsample=o["every"], linesearch_steps=o["steps"],
            linesearch_shrink=o["shrink"], kl_tolerance=o["tolerance"])
        assert info["step_fraction"] == fraction > 0
        np.testing.assert_allclose(new, want, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(info["kl"], kl, rtol=1e-8)
        fractions.append(fraction)
    assert case not in ("shrinking", "far") or min(fractions) < 1, "the case is meant to shrink the step"


@pytest.mark.parametrize("kind", ACTIONS)
def test_the_trust_region_holds_and_the_surrogate_is_no_worse(kind):
    accepted = 0
    for seed in range(40):
        policy, head, rng = small_policy(kind, seed, "float32")
        batch = random_batch(policy, rng, int(rng.integers(1, 60)), scale=10.0 ** rng.integers(-3, 4))
        max_kl, tolerance = 10.0 ** rng.uniform(-4, 0), rng.uniform(0.5, 2)
        old = policy.pi(head, batch.inputs).astype(float)
        start = head.flat.copy()
        new, info = trust_region_step(policy, head, batch, OneProcess(), max_kl=max_kl,
                                      kl_tolerance=tolerance)
        assert head.flat.tobytes() == start.tobytes(), "the step must not write to the vector it was given"
        phi = policy.pi(head.like(new), batch.inputs).astype(float)
        ratio = np.exp(policy.dist.logp(phi, batch.actions) - policy.dist.logp(old, batch.actions))
        gain = np.mean(batch.advantages * (ratio - 1))
        assert np.isfinite(new).all() and new.dtype == np.float32
        assert np.mean(policy.dist.kl(old, phi)) <= tolerance * max_kl * (1 + 1e-5)
        assert gain >= -1e-6 * np.abs(batch.advantages).max()
        accepted += info["step_fraction"] > 0
        assert (info["step_fraction"] > 0) == (new.tobytes() != start.tobytes())
    assert accepted >= 38


def test_the_spread_of_actions_stays_within_bounds():
    policy, head, rng = small_policy("Box", dtype="float32")
    head["pi/log_std"][:] = 1.9
    batch = random_batch(policy, rng, 30)._replace(advantages=np.zeros(30))
    new, info = trust_region_step(policy, head, batch, OneProcess(), entcoeff=1.0, max_kl=1.0)
    assert info["step_fraction"] > 0 and (head.like(new)["pi/log_std"] == 2.0).all()
    model = model_on(Toy(ACTIONS["Box"]))
    model.load_parameters({"pi/log_std": [99.0, -99.0]}, exact_match=False)
    assert model.get_parameters()["pi/log_std"].tolist() == [2.0, -20.0]


# ---- steps that must not be taken

class Fooled(MlpPolicy):
    """A policy whose new parameters look to the line search as `trick` says; tape and old policy are true."""

    trick = None

    def pi(self, params, x):
        out = super().pi(params, x)
        return out if self.trick is None or isinstance(out, Var) else self.trick(out)


def with_one(value):
    def spoil(batch):
        batch.advantages[1] = value
        return batch
    return spoil


REFUSED = {
    "all advantages NaN": (lambda b: b._replace(advantages=np.full(20, np.nan)), None, {}),
    "one advantage NaN": (with_one(np.nan), None, {}),
    "an infinite advantage": (with_one(np.inf), None, {}),
    "no advantage": (lambda b: b._replace(advantages=np.zeros(20)), None, {}),
    "the new policy is NaN": (lambda b: b, lambda policy, old: lambda out: out * np.nan, {}),
    "one number of the new policy is NaN": (
        lambda b: b, lambda policy, old: lambda out: out + np.eye(*out.shape) * np.nan, {}),
    "the new policy is infinite": (lambda b: b, lambda policy, old: lambda out: out + np.inf, {}),
    "each step makes it worse": (lambda b: b, lambda policy, old: lambda out: 2 * old - out, {}),
    "each step goes too far": (lambda b: b, None, dict(kl_tolerance=1e-9, linesearch_steps=3)),
    "no curvature": (lambda b: b, None, dict(cg_damping=0.0)),
    "curvature NaN": (lambda b: b, None, {}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the NaN that the case is about
def test_without_an_acceptable_step_the_very_same_vector_comes_back(case, dtype):
    spoil, trick, options = REFUSED[case]
    policy, head, rng = small_policy("Box", 5, dtype, Fooled)
    batch = spoil(random_batch(policy, rng, 20))
    start = head.flat.copy()
    policy.trick = trick and trick(policy, policy.pi(head, batch.inputs))
    if "curvature" in case:
        policy.dist.fisher_at = lambda params: lambda t: t * (np.nan if "NaN" in case else 0)
    new, info = trust_region_step(policy, head, batch, OneProcess(), **{"max_kl": 0.01, **options})
    assert new.tobytes() == head.flat.tobytes() == start.tobytes()
    assert info["step_fraction"] == info["kl"] == info["gain"] == 0


class Spoil(BaseCallback):
    """Let the new policy be NaN while it is updated."""

    def _on_rollout_start(self):
        self.model.policy.trick = None

    def _on_rollout_end(self):
        self.model.policy.trick = lambda out: out * np.nan


@pytest.mark.parametrize("shared", [[], [5]])
def test_skipped_updates_are_counted_and_the_value_fit_moves_no_policy_parameter(shared):
    model = TRPO(Fooled, Toy(ACTIONS["Box"]), timesteps_per_batch=32, seed=0, vf_stepsize=0.1,
                 policy_kwargs=dict(net_arch=[*shared, dict(pi=[4], vf=[4])]))
    policy, critic = policy_part(model), critic_part(model)
    model.learn(96, Spoil())
    assert model.updates == model.skipped_updates == 3
    assert policy_part(model).tobytes() == policy.tobytes()
    assert (critic_part(model) != critic).all(), "the critic must have been fitted"
    model.policy.trick = None
    model.learn(64, reset_num_timesteps=False)
    assert model.updates == 5 and model.skipped_updates == 3
    assert (policy_part(model) != policy).any()


@pytest.mark.parametrize("shared", [[], [5]])
@pytest.mark.parametrize("kind", ACTIONS)
def test_the_policy_step_moves_every_policy_parameter_and_no_critic_parameter(shared, kind):
    model = model_on(Toy(ACTIONS[kind]), vf_iters=0,
                     policy_kwargs=dict(net_arch=[*shared, dict(pi=[4], vf=[4])]))
    before, critic = model.get_parameters(), critic_part(model)
    model.learn(32)
    assert model.skipped_updates == 0 and model.updates == 1
    assert critic_part(model).tobytes() == critic.tobytes()
    for name in model.policy.policy_weights:
        assert (model.get_parameters()[name] != before[name]).any(), f"{name} did not move"


def test_the_step_reported_is_the_step_taken(spy):
    model = model_on(Toy(ACTIONS["Box"]))
    before = policy_part(model)
    model.learn(32)
    assert spy[0].new.tobytes() == policy_part(model).tobytes() != before.tobytes()
    assert spy[0].options["max_kl"] == 0.01 and spy[0].options["kl_tolerance"] == 1.5


class OwnHead(MlpPolicy):
    """A user's policy with a head of its own: the rollout must not take a short cut around it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        own = self.pi_head.apply
        self.pi_head = self.pi_head._replace(apply=lambda params, x: -500 * own(params, x))


def test_the_policy_that_acts_is_the_policy_that_is_updated():
    acted = []

    class Watch(BaseCallback):
        def _on_rollout_end(self):
            policy, seg = self.model.policy, self.locals["segment"]
            phi = policy.pi(policy.params, seg.obs.reshape(-1, 3))
            acted.append(np.mean(policy.dist.logp(phi, seg.actions.ravel()))
                         + np.mean(policy.dist.entropy(phi)))
    for cls in (MlpPolicy, OwnHead):
        TRPO(cls, Toy(), timesteps_per_batch=2000, seed=0, policy_kwargs=SMALL).learn(2000, Watch())
    # the mean log-probability of what was drawn is minus the entropy
    np.testing.assert_allclose(acted, 0, atol=0.1)


# ---- what goes into the step

MODES = {"list": None} | {mode.name: mode for mode in AutoresetMode}


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_each_real_step_counts_once_with_its_textbook_advantage(mode, bootstrap, spy):
    log = []
    make = [partial(Toy, ACTIONS["Discrete"], log)] * 3
    env = SyncVectorEnv(make) if mode == "list" else Vector(make, autoreset_mode=MODES[mode])
    model = model_on(env, dtype="float64", timesteps_per_batch=60, normalize_advantage=False,
                     bootstrap_truncated=bootstrap)
    ends = []

    class Mark(BaseCallback):
        def _on_rollout_end(self):
            ends.append(len(log))
    model.learn(170, Mark())
    assert len(spy) == len(ends) >= 3 and model.num_timesteps == len(log)
    assert any(t and c for *_, t, c in log), "the toy must end in both ways"
    assert any(c and not t for *_, t, c in log), "the toy must end in both ways"
    for call, start, end in zip(spy, [0, *ends], ends):
        steps = log[start:end]
        np.testing.assert_array_equal(call.batch.inputs, [before for _, before, *_ in steps])
        np.testing.assert_array_equal(call.batch.actions + 2, [action for _, _, action, *_ in steps])
        np.testing.assert_allclose(call.batch.weights, 1 / len(steps))
        params = model.policy.params.like(call.old)

        def value(obs):
            return model.policy.vf(params, np.array(obs, np.float64))
        wanted = np.zeros(len(steps))
        for name in {name for name, *_ in steps}:
            own = [k for k, step in enumerate(steps) if step[0] == name]
            _, before, _, rewards, after, terminated, truncated = map(np.array, zip(*[steps[k] for k in own]))
            values, final = value(before), value(after) * bootstrap
            column = [x[:, None] for x in (rewards, values, final, terminated, truncated)]
            wanted[own] = reference.gae(*column[:2], value(after)[-1:], *column[2:], 0.99, 0.98).ravel()
        np.testing.assert_allclose(call.batch.advantages, wanted, rtol=1e-9, atol=1e-9)


def test_advantages_have_mean_0_and_spread_1(spy):
    model_on(Toy()).learn(64)
    for call in spy:
        np.testing.assert_allclose([np.mean(call.batch.advantages), np.std(call.batch.advantages)], [0, 1],
                                   atol=1e-12)


class Still(Toy):
    """One observation, one reward, no end in sight: all advantages are equal if lam is 0."""

    def step(self, action):
        return self.obs, 1.0, False, False, {}


@pytest.mark.parametrize("env, settings", [(Toy, dict(timesteps_per_batch=1)), (Still, dict(lam=0.0))])
def test_one_sample_or_equal_advantages_are_no_reason_to_move(env, settings, spy):
    model = model_on(env(), dtype="float64", **settings)
    policy, critic = policy_part(model), critic_part(model)
    model.learn(3 * model.timesteps_per_batch)
    assert len(spy) == 3 and all(np.isfinite(call.batch.advantages).all() for call in spy)
    assert max(np.abs(call.batch.advantages).max() for call in spy) < 1e-6
    assert model.skipped_updates == 3 and policy_part(model).tobytes() == policy.tobytes()
    assert np.isfinite(critic_part(model)).all() and (critic_part(model) != critic).any()


@pytest.mark.parametrize("kind", ACTIONS)
def test_the_entropy_bonus_raises_the_entropy(kind):
    policy, head, rng = small_policy(kind)
    batch = random_batch(policy, rng, 40)._replace(advantages=np.zeros(40))
    before = np.mean(policy.dist.entropy(policy.pi(head, batch.inputs)))
    for coefficient in (0.1, -0.1):
        new, info = trust_region_step(policy, head, batch, OneProcess(), entcoeff=coefficient, max_kl=0.02)
        change = np.mean(policy.dist.entropy(policy.pi(head.like(new), batch.inputs))) - before
        assert change * coefficient > 0
        np.testing.assert_allclose(info["gain"], coefficient * change, rtol=1e-9)


def test_the_entropy_that_is_logged_is_the_new_policys(kind="Discrete"):
    policy, head, rng = small_policy(kind)
    batch = random_batch(policy, rng, 40)
    new, info = trust_region_step(policy, head, batch, OneProcess(), max_kl=0.02)
    assert info["step_fraction"] > 0
    for flat, tolerance in ((new, None), (head.flat, 0.0)):  # no step is accepted: the old one's
        if tolerance is not None:
            _, info = trust_region_step(policy, head, batch, OneProcess(), max_kl=0.02, kl_tolerance=1e-9)
            assert info["step_fraction"] == 0
        entropy = np.mean(policy.dist.entropy(policy.pi(head.like(flat), batch.inputs)))
        np.testing.assert_allclose(info["entropy"], entropy, rtol=1e-9)


def test_curvature_of_every_sample_needs_no_second_pass():
    """The linearization that gives the gradient serves the Fisher products too, with the same bits."""
    policy, head, rng = small_policy("Box")
    batch, passes = random_batch(policy, rng, 40), []
    pi = policy.pi
    policy.pi = lambda params, x: passes.append(len(x)) or pi(params, x)
    one, _ = trust_region_step(policy, head, batch, OneProcess(), fvp_subsample=1)
    count = len(passes)
    passes.clear()
    policy.thin = lambda inputs, weights, k: (inputs, weights)
    two, _ = trust_region_step(policy, head, batch, OneProcess(), fvp_subsample=2)
    assert len(passes) == count + 1
    np.testing.assert_array_equal(one, two)


def test_entcoeff_reaches_the_step():
    def spread(entcoeff):
        model = model_on(Toy(ACTIONS["Box"]), entcoeff=entcoeff, vf_iters=0).learn(96)
        return model.get_parameters()["pi/log_std"].sum()
    assert spread(1.0) > spread(0.0) > spread(-1.0)


def test_schedules_see_the_remaining_progress():
    seen = {"max_kl": [], "vf_stepsize": [], "entcoeff": []}

    def schedule(name, value):
        return lambda remaining: seen[name].append(remaining) or value * (0.1 + remaining)
    model = model_on(Toy(), max_kl=schedule("max_kl", 0.01), vf_stepsize=schedule("vf_stepsize", 1e-3),
                     entcoeff=schedule("entcoeff", 1e-2))
    # what continues a run continues its schedule
    for reset, step in ((True, 0.2), (True, 0.2), (False, 0.1)):
        for values in seen.values():
            values.clear()
        model.learn(5 * 32, reset_num_timesteps=reset)
        assert seen["max_kl"] == seen["vf_stepsize"] == seen["entcoeff"] and len(seen["max_kl"]) == 5
        np.testing.assert_allclose(seen["max_kl"], step * np.arange(4, -1, -1), atol=1e-12)


def test_a_schedule_sets_the_trust_region(spy):
    model_on(Toy(), max_kl=lambda remaining: 0.001 if remaining > 0.5 else 0.002).learn(128)
    assert sorted({call.options["max_kl"] for call in spy}) == [0.001, 0.002]
    spy.clear()
    model_on(Toy(), max_kl=LinearSchedule(0.03, 0.01)).learn(320)
    seen = [call.options["max_kl"] for call in spy]
    np.testing.assert_allclose(np.diff(seen), -0.002)
    assert 0.01 - 1e-12 <= seen[-1] <= 0.012 + 1e-12, "it begins at 0.03 and ends at 0.01"
    model = model_on(Toy(), vf_stepsize=lambda remaining: 0.0)
    critic = critic_part(model)
    assert critic_part(model.learn(32)).tobytes() == critic.tobytes()


class Reading(MlpPolicy):
    """Note the rows on which the critic is fitted."""

    def vf(self, params, features):
        out = super().vf(params, features)
        if isinstance(out, Var):
            vars(self).setdefault("batches", []).append(features)
        return out


@pytest.mark.parametrize("size, sizes", [(1000, [50]), (50, [50]), (16, [13, 13, 12, 12]), (1, [1] * 50)])
def test_the_critic_sees_every_sample_once_a_pass(size, sizes, spy):
    model = TRPO(Reading, Toy(), timesteps_per_batch=50, vf_batch_size=size, vf_iters=2, seed=0,
                 policy_kwargs=SMALL).learn(50)
    batches, rows = model.policy.batches, spy[0].batch.inputs
    assert [len(batch) for batch in batches] == sizes * 2 and model.adam.t == 2 * len(sizes)
    orders = [np.concatenate(batches[:len(sizes)]), np.concatenate(batches[len(sizes):])]
    for order in orders:
        np.testing.assert_array_equal(order[np.lexsort(order.T)], rows[np.lexsort(rows.T)])
    assert (orders[0] != orders[1]).any() and (orders[0] != rows).any(), "the samples must be shuffled"


def test_the_value_fit_lowers_the_error():
    model = model_on(Toy(), vf_iters=200, vf_stepsize=1e-2, gamma=0.0)
    errors = []

    class Watch(BaseCallback):
        def _on_rollout_end(self):
            self.segment = self.locals["segment"]

        def _on_update_end(self):
            seg, policy = self.segment, self.model.policy
            errors.append(float(np.corrcoef(policy.value(seg.obs.reshape(-1, 3)), seg.rewards.ravel())[0, 1]))
    model.learn(64, Watch())
    assert errors[-1] > 0.7, "values must follow what they are fitted to"


# ---- rows that an autoreset inserted

class Littering(Vector):
    """Rewards of rows that took no action are `litter`, where gymnasium says 0."""

    litter, ended = 0.0, None

    def step(self, actions):
        obs, rewards, terminated, truncated, infos = super().step(actions)
        rewards = np.where(self.ended, self.litter, rewards) if self.ended is not None else rewards
        self.ended = (terminated | truncated) & ~(False if self.ended is None else self.ended)
        return obs, rewards, terminated, truncated, infos


def model_state(model):
    moments = model.policy.normalizer.moments, model.reward_normalizer.moments
    return (model.policy.params.flat.tobytes(), model.adam.m.tobytes(), list(model.recent),
            model.num_timesteps, model.episodes, *[a.tobytes() for m in moments for a in m.arrays().values()])


def test_rewards_of_reset_rows_count_in_nothing():
    def train(litter):
        env = Littering([Toy] * 2)
        env.litter = litter
        return model_on(env, normalize_observations=True, normalize_rewards=True).learn(96)
    clean, littered = train(0.0), train(1e3)
    assert clean.num_timesteps > 90 and clean.recent
    for one, other in zip(model_state(clean), model_state(littered)):
        assert one == other


def test_whatever_stands_in_reset_rows_counts_in_nothing():
    segments = []

    class Keep(BaseCallback):
        def _on_rollout_end(self):
            segments.append(deepcopy(self.locals["segment"]))
    settings = dict(normalize_observations=True, normalize_rewards=True, entcoeff=0.01)
    model_on(Vector([Toy] * 2), **settings).learn(96, Keep())
    assert any((~seg.valid).any() for seg in segments)

    def after_updates(litter):
        model, stats = model_on(Vector([Toy] * 2), **settings), []
        model.reward_normalizer.restart(2)
        for seg in deepcopy(segments):
            if litter:
                bad = ~seg.valid
                seg.obs[bad], seg.rewards[bad], seg.actions[bad] = 7.0, -300.0, (seg.actions[bad] + 1) % 3
            stats.append(model.update(seg, 0.5)[0])
        return model_state(model), stats
    (clean, numbers), (littered, other_numbers) = after_updates(False), after_updates(True)
    assert clean == littered and numbers == other_numbers


def test_a_batch_of_nothing_but_reset_rows_changes_nothing():
    model = model_on(Vector([partial(Toy, horizon=1)]), timesteps_per_batch=1)
    states = []

    class Watch(BaseCallback):
        def _on_rollout_end(self):
            states.append((self.locals["segment"].valid.any(), self.model.policy.params.flat.copy()))
    model.learn(3, Watch())
    assert model.num_timesteps == 3 and [valid for valid, _ in states] == [True, False] * 2 + [True]
    assert states[1][1].tobytes() == states[2][1].tobytes()


@pytest.mark.parametrize("batch", [64, 2])  # 2: every other batch of rank 1 is nothing but resets
def test_ranks_with_different_numbers_of_real_rows_stay_together(batch):
    """They must do as many minibatches as each other, or wait for ever, and weigh each real row alike."""
    def train(comm):
        env = Vector([partial(Toy, horizon=1 if comm.rank else 6, chance=0.0)] * 2)
        model = model_on(env, comm=comm, timesteps_per_batch=batch, vf_batch_size=16,
                         normalize_observations=True).learn(190)
        policy, counters = model.policy, (model.num_timesteps, model.updates, model.adam.t)
        return policy.params.flat, *counters, policy.normalizer.moments.mean
    one, other = reference.on_ranks(2, train)
    for a, b in zip(one, other):
        assert np.array_equal(a, b) and np.isfinite(a).all()


# ---- counting and reproducing

def test_ranks_have_the_seed_of_the_first():
    """Without one, each would draw its own, and begin with other networks."""
    assert reference.on_ranks(2, lambda comm: model_on(Toy(), comm=comm, seed=7 + comm.rank).seed) == [7, 7]


@pytest.mark.parametrize("hook", ["_on_rollout_end", "_on_update_end"])
def test_what_stops_one_rank_stops_all_after_the_same_update(hook):
    def train(comm):
        stop = type("Stop", (BaseCallback,), {hook: lambda self: comm.rank == 0})()
        return model_on(Toy(), comm=comm, timesteps_per_batch=8).learn(800, stop).updates
    assert reference.on_ranks(2, train) == [1, 1]


@pytest.mark.parametrize("last, logged", [(7, [3, 6, 7]), (100, [3, 6, 9, 10])])
def test_a_table_comes_every_so_many_updates_and_at_the_end(last, logged):
    """Whether the end is that of the steps or a callback's."""
    class Stop(BaseCallback):
        def _on_update_end(self):
            return self.model.updates < last
    model, seen = model_on(Toy(), timesteps_per_batch=8), []
    model.loggers.append(SimpleNamespace(write=lambda values, step: seen.append(step // 8)))
    model.learn(80, Stop(), log_interval=3)
    assert seen == logged


@pytest.mark.parametrize("callback", [None, lambda locals_, globals_: True])
def test_steps_are_counted_alike_with_and_without_a_callback(callback):
    model = model_on(SyncVectorEnv([Toy] * 3), timesteps_per_batch=32)  # 11 steps of 3: 33 an update
    assert model.learn(99, callback).num_timesteps == 99 and model.updates == 3
    assert model.learn(1, callback).num_timesteps == 33 and model.updates == 4
    assert model.learn(34, callback, reset_num_timesteps=False).num_timesteps == 99 and model.updates == 6
    assert model.learn(0, callback).num_timesteps == 0 and model.updates == 6


def test_more_environments_than_steps_are_refused():
    with pytest.raises(ValueError, match="timesteps_per_batch is 2.* 3 environments"):
        model_on(SyncVectorEnv([Toy] * 3), timesteps_per_batch=2)


def test_each_update_draws_anew():
    """A stream of random numbers that began anew with each update would explore the same actions for ever."""
    actions = []

    class Keep(Spoil):  # the policy stays as it is
        def _on_rollout_end(self):
            actions.append(self.locals["segment"].actions)
            super()._on_rollout_end()
    TRPO(Fooled, Still(ACTIONS["Box"]), timesteps_per_batch=32, seed=0, policy_kwargs=SMALL).learn(96, Keep())
    assert len(actions) == 3 and len(np.unique(actions)) > 90


def test_no_random_numbers_are_drawn_twice():
    """Rollouts, environments and minibatches have generators of their own, in each update others."""
    keys = []

    class Noted(TRPO):
        def _rng(self, *key):
            keys.append(key)
            return super()._rng(*key)

    class Anew(BaseCallback):
        def _on_update_end(self):
            self.model.restart_pending = True
    Noted("MlpPolicy", SyncVectorEnv([Toy] * 2), timesteps_per_batch=32, seed=0).learn(96, Anew())
    assert len(keys) == len(set(keys)) == 1 + 3 * (2 + 1 + 1)


def test_environments_begin_with_seeds_of_their_own_in_each_update_that_starts_them():
    class Seeded(Toy):
        seeds: list = []

        def reset(self, *, seed=None, options=None):
            if seed is not None:
                self.seeds.append(seed)
            return super().reset(seed=seed)
    model = model_on(SyncVectorEnv([Seeded] * 3), timesteps_per_batch=32)
    for _ in range(2):
        model.learn(32)
    assert len(Seeded.seeds) == len(set(Seeded.seeds)) == 6


class Alike(OneProcess):
    """One of several ranks that all do the same."""

    def __init__(self, size=3):
        self.size = size

    def sum(self, x):
        return self.size * np.asarray(x)[()]

    def gather(self, x):
        return [x] * self.size


def test_a_callback_sees_the_steps_of_all_ranks():
    seen = []
    model = model_on(Toy(), comm=Alike(3), timesteps_per_batch=4)
    model.learn(24, lambda locals_, _: seen.append(model.num_timesteps))
    assert seen == [3, 6, 9, 12, 15, 18, 21, 24] and model.num_timesteps == 24


def test_the_gain_that_is_expected_is_that_of_the_longest_step():
    """By the gradient g and the step s it is g's; of a small step, nearly what the surrogate gains."""
    for max_kl in (1e-8, 4e-8):
        policy, params, rng = small_policy("Box")
        batch = random_batch(policy, rng, 64)
        flat, info = trust_region_step(policy, params, batch, OneProcess(), max_kl=max_kl, fvp_subsample=1)
        assert info["step_fraction"] == 1.0
        np.testing.assert_allclose(info["expected_gain"], info["gain"], rtol=1e-3)


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="total_timesteps is -1"):
        model_on(Toy()).learn(-1)
    with pytest.raises(ValueError, match="log_interval is 0"):
        model_on(Toy()).learn(1, log_interval=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ACTIONS)
def test_the_dtype_is_kept_from_end_to_end(dtype, kind, spy):
    model = model_on(Toy(ACTIONS[kind]), dtype=dtype, normalize_observations=True,
                     normalize_rewards=True).learn(64)
    call = spy[-1]
    arrays = call.batch.inputs, call.new, model.policy.params.flat, model.adam.m, model.adam.v
    assert {array.dtype.name for array in arrays} == {dtype}
    assert np.isfinite(model.policy.params.flat).all() and model.skipped_updates == 0
    action, _ = model.predict(np.ones(3))
    assert ACTIONS[kind].contains(action)


def train(seed, steps=512):
    """Two updates on CartPole and what shows their bits; run in several processes."""
    actions, flats = [], []

    class Watch(BaseCallback):
        def _on_rollout_end(self):
            actions.append(hashlib.sha256(self.locals["segment"].actions.tobytes()).hexdigest())

        def _on_update_end(self):
            flats.append(self.model.policy.params.flat.tolist())
    model = TRPO("MlpPolicy", SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2),
                 timesteps_per_batch=256, seed=seed,
                 vf_iters=5, normalize_observations=True).learn(steps, Watch())
    return {"actions": actions, "compiled": kernels.KERNELS[0].compiled is not None,
            "first": flats[:1] and flats[0],
            "flat": model.policy.params.flat.tolist(),
            "draws": [int(model.predict(np.zeros(4))[0]) for _ in range(20)]}


def elsewhere(seed, **environment):
    paths = os.pathsep.join([HERE, os.path.dirname(HERE)])
    code = f"import json, numpy, test_trpo; numpy.random.seed(5); print(json.dumps(test_trpo.train({seed})))"
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths, **environment},
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_same_seed_same_bits_in_another_process():
    here, there = train(1), elsewhere(1)
    assert here == there
    assert train(2)["actions"][0] != here["actions"][0]


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1:3]
    first = train(1)
    after = np.random.get_state()[1:3]
    assert before[0].tobytes() == after[0].tobytes() and before[1] == after[1]
    np.random.seed(123)
    assert train(1) == first


@pytest.mark.skipif(not kernels.available(), reason="numba is not used in this run")
def test_compiled_and_plain_kernels_learn_the_same_to_rounding():
    start, one, two = (np.array(train(1, steps)["flat"]) for steps in (0, 256, 512))
    compiled, plain = train(1), elsewhere(1, TRPO_NP_NUMBA="0")
    assert compiled["compiled"] and not plain["compiled"]
    assert compiled["actions"][0] == plain["actions"][0]
    np.testing.assert_allclose(one, plain["first"], atol=2e-5)  # the movement is 0.1 for the largest
    moved, apart = np.linalg.norm(two - start), np.linalg.norm(two - plain["flat"])
    assert apart < 0.1 * moved, "rounding grows, but not in two updates"


# ---- the Fisher product

@pytest.fixture(scope="module")
def fisher_cases():
    """Models in float64 with a dense Hessian of the mean KL and the observations it belongs to."""
    cases = {}
    for kind in ACTIONS:
        for normalize in (False, True):
            model = TRPO("MlpPolicy", Toy(ACTIONS[kind]), dtype="float64", seed=1,
                         normalize_observations=normalize,
                         policy_kwargs=dict(net_arch=[3, dict(pi=[3], vf=[3])]))
            rng = np.random.default_rng(7)
            model.policy.params.flat[:] += 0.5 * rng.standard_normal(model.policy.params.flat.size)
            seen, obs = 2 + 3 * rng.standard_normal((50, 3)), rng.standard_normal((6, 3)).astype(np.float32)
            model.policy.normalizer.merge(seen, OneProcess())
            x = np.clip((obs - seen.mean(0)) / seen.std(0), -10, 10) if normalize else obs.astype(np.float64)
            head = model.policy.policy_params

            def mean_kl(p, x, policy=model.policy, head=head):
                return ops.mean(policy.dist.kl(policy.pi(head, x), policy.pi(p, x)))
            cases[kind, normalize] = model, obs, [hessian(partial(mean_kl, x=x), head),
                                                  hessian(partial(mean_kl, x=x[:1]), head)]
    return cases


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_fisher_products_equal_the_dense_hessian(kind, normalize, damping, fisher_cases, rng):
    model, obs, (dense, dense_first) = fisher_cases[kind, normalize]
    k, whole = len(dense), model.policy.params.flat.size
    assert np.linalg.norm(dense) > 1e-3 and np.linalg.eigvalsh(dense).min() > -1e-12
    v = rng.standard_normal(whole)
    kept = v.copy()
    for batch, H in ((obs, dense), (obs[0], dense_first), (obs[:1], dense_first)):
        want = H @ v[:k] + damping * v[:k]
        out = model.fisher_vector_product(v[:k], batch, damping=damping)
        assert out.shape == (k,) and out.dtype == np.float64
        assert np.linalg.norm(out - want) < 1e-9 * np.linalg.norm(want)
        out = model.fisher_vector_product(v, batch, damping=damping)
        assert np.linalg.norm(out - np.append(want, damping * v[k:])) < 1e-9 * np.linalg.norm(want)
    assert (v == kept).all(), "v must not be overwritten"


def test_fisher_products_of_float32_and_of_wrong_sizes(rng):
    model = model_on(Toy(ACTIONS["Box"]))
    k = policy_part(model).size
    v, w, obs = rng.standard_normal((2, k)), rng.standard_normal(k), rng.standard_normal((9, 3))
    out = [model.fisher_vector_product(x, obs) for x in v]
    assert out[0].dtype == np.float32
    np.testing.assert_allclose(v[1] @ out[0], v[0] @ out[1], rtol=1e-4)  # symmetric
    assert w @ model.fisher_vector_product(w, obs) >= 0
    for bad in (np.ones(k + 1), np.ones((1, k)), 1.0):
        with pytest.raises(ValueError, match=f"{k} .policy."):
            model.fisher_vector_product(bad, obs)
    with pytest.raises(ValueError, match="shape"):
        model.fisher_vector_product(w, np.ones((9, 4)))


# --- numbers that make no sense -----------------------------------------------------------------------------

@pytest.mark.parametrize("name, value", [
    ("max_kl", np.nan), ("max_kl", -1.0), ("vf_stepsize", np.inf), ("entcoeff", np.nan)])
def test_a_schedule_that_gives_no_number_stops_before_the_update(name, value):
    model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=16, policy_kwargs=SMALL, seed=0,
                 **{name: lambda remaining: value})
    before = model.policy.params.flat.copy()
    with pytest.raises(ValueError, match=f"{name} gave {value} where"):
        model.learn(16)
    assert (model.policy.params.flat == before).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the plain twins
def test_a_critic_that_diverges_is_set_back(tmp_path):
    class Huge(Toy):
        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, 1e30, *rest
    model = TRPO("MlpPolicy", Huge(), timesteps_per_batch=64, policy_kwargs=SMALL, seed=0)
    before = model.policy.critic_params.flat.copy()
    with pytest.warns(UserWarning, match="a fit of the critic was undone"):
        model.learn(64)
    assert (model.policy.critic_params.flat == before).all()
    assert model.adam.t == 0 and np.isfinite(model.adam.v).all()
    again = TRPO.load(model.save(tmp_path / "model"), env=Toy())
    assert again.learn(64).skipped_updates == model.skipped_updates


def test_a_gradient_that_is_not_finite_is_told():
    class Wrong(MlpPolicy):
        def segment_values(self, *args):
            values = super().segment_values(*args)
            return values._replace(steps=values.steps * np.nan)
    model = TRPO(Wrong, Toy(), timesteps_per_batch=16, policy_kwargs=SMALL, seed=0, vf_iters=0)
    before = model.policy.params.flat.copy()
    with pytest.warns(UserWarning, match="an update was skipped"):
        model.learn(16)
    assert model.skipped_updates == 1 and (model.policy.params.flat == before).all()


def test_what_learn_refuses_changes_nothing():
    model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=16, policy_kwargs=SMALL, seed=5).learn(32)
    for options in (dict(total_timesteps=np.inf), dict(total_timesteps=np.nan), dict(total_timesteps="16"),
                    dict(total_timesteps=None), dict(total_timesteps=16, log_interval="1"),
                    dict(total_timesteps=16, callback=3),
                    dict(total_timesteps=16, seed=-1)):
        with pytest.raises(ValueError, match="is needed"):
            model.learn(**{"seed": 9} | options)
        assert (model.seed, model.num_timesteps) == (5, 32)


def test_settings_can_be_assigned():
    model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=16, policy_kwargs=SMALL, seed=0)
    model.timesteps_per_batch, model.gamma = 32, 0.5
    assert model.learn(1).num_timesteps == 32 and model.settings.gamma == 0.5
    with pytest.raises(ValueError, match="gamma is 2; a number"):
        model.gamma = 2
    with pytest.raises(AttributeError, match="dtype is a part of the model"):
        model.dtype = "float64"
    with pytest.raises(AttributeError, match="policy is a part of the model; .* load_parameters"):
        model.policy = TRPO("MlpPolicy", Toy()).policy
    assert model.gamma == 0.5 and model.dtype == "float32" and model.runner.policy is model.policy


@pytest.mark.parametrize("name", ["MlpPolicy", "MlpLstmPolicy"])
def test_a_copy_is_a_model_of_its_own(name):
    kwargs = {"n_lstm": 4} if "Lstm" in name else SMALL
    model = TRPO(name, Toy(), timesteps_per_batch=32, policy_kwargs=kwargs, seed=0,
                 normalize_observations=True).learn(64)
    obs = np.ones(3, np.float32)
    model.predict(obs)  # which keeps views of the parameters
    copy, kept = deepcopy(model), model.action_probability(obs)
    np.testing.assert_array_equal(copy.action_probability(obs), kept)
    copy.learn(128, reset_num_timesteps=False)
    assert (copy.action_probability(obs) != kept).all() and (model.action_probability(obs) == kept).all()
    likeliest = copy.action_space.start + copy.action_probability(obs).argmax()
    assert copy.predict(obs, deterministic=True)[0] == likeliest
    model.learn(128, reset_num_timesteps=False)
    np.testing.assert_array_equal(model.policy.params.flat, copy.policy.params.flat)


def test_an_environment_given_by_its_id_is_handed_out():
    model = TRPO("MlpPolicy", "CartPole-v1")
    assert isinstance(model.get_env(), gymnasium.Env) and model.get_env() is model.env
    assert model.env_id == "CartPole-v1"


def test_rewards_are_reported_as_they_are():
    class Ten(Toy):
        def step(self, action):
            obs, _, _, _, info = super().step(action)
            return obs, 1.0, self.steps == 10, False, info

    class Spy:
        rows = []

        def write(self, row, step):
            self.rows.append(row)
    model = TRPO("MlpPolicy", Ten(), timesteps_per_batch=40, policy_kwargs=SMALL, seed=0,
                 normalize_rewards=True,
                 clip_rewards=True)
    model.loggers.append(Spy())
    model.learn(80)
    assert list(model.recent) == [(10.0, 10)] * 8
    assert [row["rollout/ep_rew_mean"] for row in Spy.rows] == [10.0, 10.0]


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_memory_stays_flat_over_updates():
    code = """
import resource, sys
from test_trpo import SMALL
from toys import Toy
from trpo_np import TRPO

def pages():
    return int(open("/proc/self/statm").read().split()[1])

model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=512, policy_kwargs=SMALL, seed=0).learn(5 * 512)
before = pages()
model.learn(60 * 512)
print((pages() - before) * resource.getpagesize())
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([HERE, os.path.dirname(HERE)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert int(done.stdout) < 2**21


# --- environments that fail ---------------------------------------------------------------------------------

class Flaky(gymnasium.Env):
    """Raises an error in a state that certain actions lead to, as an engine of physics does."""

    observation_space, action_space = gymnasium.spaces.Box(-99, 99, (1,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.at = self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t, self.at = self.t + 1, self.at + 2 * int(action) - 1
        if self.at == 9:
            raise RuntimeError("simulation diverged")
        return np.float32([self.at]), 0.0, self.t == 20, False, {}


def persistent(model, updates):
    """Learn, and learn on after each error; return the number of errors."""
    errors = 0
    while model.updates < updates and errors < 50:
        try:
            model.learn(256 * (updates - model.updates), reset_num_timesteps=False)
        except RuntimeError as error:
            assert str(error) == "simulation diverged"
            errors += 1
    return errors


def test_learning_gets_past_an_error_of_the_environment(tmp_path):
    def make():
        return TRPO("MlpPolicy", Flaky(), timesteps_per_batch=256, policy_kwargs=SMALL, seed=3)

    model, again = make(), make()
    errors = persistent(model, 4)
    assert 0 < errors < 50 and model.num_timesteps == 4 * 256 and model.failures == 0
    assert persistent(again, 4) == errors  # and the same each time
    assert (again.policy.params.flat == model.policy.params.flat).all()


def test_a_model_saved_after_an_error_gets_past_it_too(tmp_path):
    model = TRPO("MlpPolicy", Flaky(), timesteps_per_batch=256, policy_kwargs=SMALL, seed=3)
    with pytest.raises(RuntimeError, match="diverged"):
        model.learn(256 * 50)
    loaded = TRPO.load(model.save(tmp_path / "m"), Flaky())
    assert loaded.failures == model.failures == 1
    updates = model.updates + 2
    assert persistent(model, updates) == persistent(loaded, updates) < 49
    assert (loaded.policy.params.flat == model.policy.params.flat).all()


def test_a_clock_that_stands_still_stops_nothing(monkeypatch):
    for name in ("perf_counter", "time", "monotonic"):
        monkeypatch.setattr(f"time.{name}", lambda: 1000.0)
    seen = []
    model = model_on(Toy())
    model.learn(64, callback=lambda locals_, globals_: seen.append(locals_["self"].num_timesteps),
                progress_bar=True)
    assert model.num_timesteps == 64 and seen
