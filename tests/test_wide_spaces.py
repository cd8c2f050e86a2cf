"""Spaces of very many values: indices compute what one-hot rows do, blocks what the whole batch does, and
memory goes with what is stored."""

import math
import sys
import tracemalloc

import gymnasium as gym
import numpy as np
import pytest
from checks import hessian
from gymnasium import spaces as gs

from trpo_np import TRPO, load_policy, nn, ops, spaces
from trpo_np.autodiff import linearize
from trpo_np.comm import OneProcess
from trpo_np.distributions import Categorical, MultiCategorical, WideCategorical, WideMultiCategorical
from trpo_np.normalize import ObservationNormalizer
from trpo_np.policies import MlpLstmPolicy, MlpPolicy, base, recurrent
from trpo_np.policies.recurrent import Sequence
from trpo_np.trust_region import Batch, fisher_operator, trust_region_step

ONE = OneProcess()
SPACES = {
    "Discrete": gs.Discrete(60, start=-7),
    "MultiDiscrete": gs.MultiDiscrete([[30, 20], [25, 40]], start=[[0, 3], [-2, 1]]),
    "Dict": gs.Dict({"a": gs.Box(-1, 1, (2, 2)), "item": gs.Discrete(50), "few": gs.Discrete(3),
                     "deep": gs.Tuple((gs.MultiDiscrete([20, 30]), gs.MultiBinary(2)))}),
    "Dict without numbers": gs.Dict({"x": gs.Discrete(40), "y": gs.MultiDiscrete([16, 17])}),
}
NETWORKS = {"separate": dict(layers=[5, 4]), "linear": dict(layers=[]), "relu": dict(act_fun="relu"),
            "shared": dict(net_arch=[6, dict(pi=[5], vf=[4])]), "share_features": dict(share_features=True)}
each = pytest.mark.parametrize("name", SPACES)


@pytest.fixture
def narrow(monkeypatch):
    """Take small spaces for wide ones."""
    monkeypatch.setattr(spaces, "WIDE", 30)
    monkeypatch.setattr(spaces, "PER_INDEX", 16)


class OneHotPolicy(MlpPolicy):
    """A subclass that overrides a method: it sees all zeros."""

    def value(self, x):
        return super().value(x)


class OneHotLstmPolicy(MlpLstmPolicy):
    def value(self, x):
        return super().value(x)


def samples(space, n):
    space.seed(0)
    batch = [space.sample() for _ in range(n)]
    return batch, gym.vector.utils.concatenate(space, batch, gym.vector.utils.create_empty_array(space, n))


def pair(cls, other, space, **options):
    """Return two policies with the same weights, of which the second sees one-hot rows."""
    made = [one(space, gs.Discrete(3), dtype="float64", **options).draw(np.random.default_rng(0))
            for one in (cls, other)]
    made[0].params.flat[:] += 0.3 * np.random.default_rng(1).standard_normal(made[0].params.flat.shape)
    made[1].install(dict(made[0].params))
    assert made[0].observation_space.codes is not None and made[1].observation_space.codes is None
    return made


# --- observations -------------------------------------------------------------------------------------------

@each
def test_indices_mean_the_one_hot_row(name, narrow):
    plain = spaces.describe(SPACES[name])
    short = spaces.as_indices(plain)
    single, batch = samples(SPACES[name], 9)
    rows = short.encode(batch, 9)
    assert rows.shape == (9, *short.rows) and rows.dtype == np.float32
    assert short.width == plain.width > math.prod(short.rows) + 30
    is_index, places = short.codes
    layer = nn.coded(is_index, places, short.width)
    assert layer.init(short.rows)[0] == (plain.width,)
    np.testing.assert_array_equal(layer.apply({}, rows).expanded(), plain.encode(batch, 9))
    np.testing.assert_array_equal(short.encode(single[3], 1), rows[3:4])
    assert spaces.difference(short, plain) is None and short.to_json() == plain.to_json()
    assert spaces.describe(short).codes is None, "another policy decides for itself"


def test_small_spaces_and_short_codes_stay_rows():
    for space in (gs.Discrete(2000), gs.MultiDiscrete([50] * 100), gs.MultiBinary(4000),
                  gs.Box(-1, 1, (4000,)), gs.Dict({"a": gs.Box(-1, 1, (4000,)), "b": gs.Discrete(1000)})):
        assert spaces.as_indices(described := spaces.describe(space)) is described
    assert spaces.as_indices(spaces.describe(gs.Discrete(2001))).rows == (1,)
    # float32 counts no further
    assert spaces.as_indices(spaces.describe(gs.Discrete(2**24 + 1))).codes is None


@pytest.mark.parametrize("x, message", [
    (60, "the observation 60 is outside the space: 60 values"), (-1, "the observation -1 is outside"),
    (0.5, "the observation 0.5 is outside"), (np.array([3, 60]), "the observation 60 is outside")])
def test_what_is_no_index_is_refused(x, message, narrow):
    space = spaces.as_indices(spaces.describe(gs.Discrete(60)))
    with pytest.raises(ValueError, match=message):
        space.encode(x, np.size(x))


@each
@pytest.mark.parametrize("network", NETWORKS)
def test_a_policy_computes_the_same_of_indices(name, network, narrow):
    policy, other = pair(MlpPolicy, OneHotPolicy, SPACES[name], **NETWORKS[network])
    assert {k: v.shape for k, v in policy.params.items()} == {k: v.shape for k, v in other.params.items()}
    obs = samples(SPACES[name], 8)[1]
    (x, _), (rows, _) = policy.observe(obs), other.observe(obs)
    rng = np.random.default_rng(2)
    for head, function in (("policy", lambda p, params, x: p.pi(params, x)),
                           ("critic", lambda p, params, x: p.vf(params, p.critic_input(p.params, x)))):
        params, others = (getattr(p, f"{head}_params") for p in (policy, other))
        y, J = linearize(lambda p: function(policy, p, x), params)
        want, K = linearize(lambda p: function(other, p, rows), others)
        g, v = rng.standard_normal(y.shape), rng.standard_normal(params.flat.shape)
        for a, b in ((y, want), (J.push(v), K.push(v)), (J.pull(g), K.pull(g))):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(policy.predict(obs, deterministic=True)[0],
                                  other.predict(obs, deterministic=True)[0])


@pytest.mark.parametrize("options", [dict(layers=[5]), dict(layers=[]), dict(share_features=True)])
def test_a_policy_with_memory_computes_the_same_of_indices(options, narrow):
    policy, other = pair(MlpLstmPolicy, OneHotLstmPolicy, SPACES["Dict"], n_lstm=3, **options)
    obs = samples(SPACES["Dict"], 6)[1]
    results = []
    for one in (policy, other):
        x = one.observe(obs)[0]
        seq = Sequence(x.reshape(3, 2, -1), np.zeros((3, 2), bool), np.ones((2, 6)))
        y, J = linearize(lambda p, one=one, seq=seq: one.pi(p, seq), one.policy_params)
        results.append((y, J.pull(np.ones_like(y)), one.vf(one.params, one.critic_input(one.params, seq))))
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_fisher_is_the_hessian_with_indices(narrow):
    policy, _ = pair(MlpPolicy, OneHotPolicy, SPACES["Dict"], layers=[3])
    x = policy.observe(samples(SPACES["Dict"], 6)[1])[0]
    params, weights = policy.policy_params, np.full(6, 1 / 6)
    old = policy.pi(params, x)
    H = hessian(lambda p: ops.sum(policy.dist.kl(old, policy.pi(p, x)) * weights), params)
    product = fisher_operator(policy, params, x, weights, ONE, 0.0)
    F = np.stack([product(e) for e in np.eye(params.flat.size)], axis=1)
    np.testing.assert_allclose(F, H, atol=1e-11 * np.abs(H).max())


def test_normalisation_leaves_indices_alone(narrow):
    space = SPACES["Dict"]
    batch = samples(space, 9)[1]
    policy, plain = (MlpPolicy(space, gs.Discrete(2), normalize=on) for on in (True, False))
    rows, is_index = plain.observe(batch)[0], plain.observation_space.codes[0]
    policy.normalizer.merge(rows, ONE)
    x = policy.observe(batch)[0]
    assert x.dtype == np.float32 and x.shape == rows.shape
    np.testing.assert_array_equal(x[:, is_index], rows[:, is_index])
    others = ObservationNormalizer((~is_index).sum(), True)
    others.merge(rows[:, ~is_index], ONE)
    np.testing.assert_array_equal(x[:, ~is_index], others(rows[:, ~is_index]))


@pytest.mark.parametrize("space", [SPACES["Discrete"], SPACES["Dict"]], ids=["Discrete", "Dict"])
def test_normalised_models_of_both_kinds_are_saved_and_loaded(space, narrow, tmp_path, monkeypatch):
    """A file of a version that knew no indices holds statistics of each one-hot number."""
    env = Draw(space, gs.Discrete(2))
    options = dict(timesteps_per_batch=64, seed=0, normalize_observations=True)
    with monkeypatch.context() as before:
        before.setattr(spaces, "as_indices", lambda space: space)
        old = TRPO("MlpPolicy", env, **options).learn(64)
    for model, codes in ((old, False), (TRPO("MlpPolicy", env, **options).learn(64), True)):
        path = model.save(tmp_path / "model")
        for _again in range(2):
            loaded = TRPO.load(path, env=env)
            assert (loaded.policy.observation_space.codes is not None) == codes
            obs = samples(space, 6)[1]
            np.testing.assert_array_equal(loaded.action_probability(obs), model.action_probability(obs))
            path = loaded.save(tmp_path / "again")
        loaded.learn(64)


def test_indices_are_not_for_extractors_nor_where_they_are_unwanted(narrow):
    for options in (dict(indices=False), dict(extractor=nn.dense("front", 4))):
        policy = MlpPolicy(SPACES["Discrete"], gs.Discrete(2), **options)
        assert policy.observation_space.codes is None and policy.observation_space.rows == (60,)


class Draw(gym.Env):
    """Observations and actions of any space, at random; a reward for even actions."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space, self.t = observation_space, action_space, 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        return self.observation_space.sample(), float(np.sum(action) % 2 == 0), self.t == 20, False, {}


@pytest.mark.parametrize("cls, other", [(MlpPolicy, OneHotPolicy), (MlpLstmPolicy, OneHotLstmPolicy)])
def test_learning_from_indices_is_learning_from_one_hot_rows(cls, other, narrow, tmp_path):
    ends = []
    for policy in (cls, other):
        model = TRPO(policy, Draw(SPACES["Dict"], gs.Discrete(3)), timesteps_per_batch=64, seed=0,
                     dtype="float64", policy_kwargs=dict(layers=[6]), cg_iters=3)  # 10 magnify rounding
        model.learn(128)
        ends.append(model.policy.params.flat)
    np.testing.assert_allclose(*ends, rtol=1e-10, atol=1e-12)
    model = TRPO(cls, Draw(SPACES["Dict"], gs.Discrete(3)), timesteps_per_batch=64, seed=0).learn(64)
    loaded = load_policy(model.save(tmp_path / "indices"))
    obs = samples(SPACES["Dict"], 5)[1]
    np.testing.assert_array_equal(loaded.distribution(obs)[0], model.policy.distribution(obs)[0])


def test_minibatches_of_a_policy_with_memory_may_hold_no_index(narrow):
    """There are fewer episodes, and fewer pieces of a segment, than batches."""
    env = gym.vector.SyncVectorEnv([lambda: Draw(gs.Discrete(60), gs.Discrete(3))])
    model = TRPO("MlpLstmPolicy", env, timesteps_per_batch=63, vf_batch_size=1, seed=0,
                 policy_kwargs=dict(n_lstm=2, layers=[2]))
    rows = np.arange(600)
    data = dict(obs=rows % 60, actions=rows % 3, episode_starts=rows % 200 == 0)
    before = model.policy.params.flat.copy()
    assert (model.pretrain(data, n_epochs=1).policy.params.flat != before).any()
    assert model.learn(63).updates == 1


# --- actions ------------------------------------------------------------------------------------------------

def test_only_wide_action_spaces_are_drawn_by_inverse_cdf():
    for space, cls in ((gs.Discrete(2000), Categorical), (gs.Discrete(2001), WideCategorical),
                       (gs.MultiDiscrete([1000, 1000]), MultiCategorical),
                       (gs.MultiDiscrete([1999, 2]), WideMultiCategorical)):
        assert type(MlpPolicy(gs.Discrete(2), space).dist) is cls


@pytest.mark.parametrize("cls", [MlpPolicy, MlpLstmPolicy])
@pytest.mark.parametrize("action_space", [gs.Discrete(2200, start=3), gs.MultiDiscrete([1700, 2, 500])])
def test_wide_actions_are_the_same_compiled_and_composed(cls, action_space):
    policy = cls(gs.Box(-1, 1, (3,)), action_space).draw(np.random.default_rng(0))
    policy.params["pi/out/w"][...] *= 100
    noise = policy.dist.noise(np.random.default_rng(1), 5, 6).astype(np.float32)
    obs = np.random.default_rng(2).standard_normal((5, 6, 3)).astype(np.float32)

    def act():
        step, actions, _ = policy.actor(noise, policy.new_memory(6))
        taken = [step(t, obs[t], np.zeros(6, bool)) for t in range(5)]
        return actions, np.array(taken)
    actions, taken = act()
    policy._network = lambda: None
    composed, composed_taken = act()
    np.testing.assert_array_equal(actions, composed)
    np.testing.assert_array_equal(taken, composed_taken)
    assert len(np.unique(actions)) > 5


def small_blocks(monkeypatch):
    monkeypatch.setattr(base, "LARGEST_BLOCK", 20)
    monkeypatch.setattr(recurrent, "LARGEST_BLOCK", 20)


@pytest.mark.parametrize("kind", ["Discrete", "Box", "with memory"])
@pytest.mark.parametrize("options", [{}, dict(entcoeff=0.1, fvp_subsample=1)])
def test_a_step_in_blocks_is_the_step_of_the_whole_batch(kind, options, monkeypatch):
    rng, cls = np.random.default_rng(0), MlpLstmPolicy if kind == "with memory" else MlpPolicy
    actions = gs.Box(-1, 1, (2,)) if kind == "Box" else gs.Discrete(3)
    policy = cls(gs.Box(-1, 1, (3,)), actions, layers=[4], dtype="float64").draw(rng)
    inputs, n = rng.standard_normal((31, 3)), 31
    if kind == "with memory":
        inputs, n = Sequence(rng.standard_normal((5, 6, 3)), rng.random((5, 6)) < 0.2,
                             rng.standard_normal((6, 512))), 30
    phi = policy.pi(policy.params, inputs)
    batch = Batch(inputs, policy.dist.sample(phi, policy.dist.noise(rng, n)), rng.standard_normal(n),
                  np.full(n, 1 / n))
    want, info = trust_region_step(policy, policy.policy_params, batch, ONE, **options)
    small_blocks(monkeypatch)
    blocks = policy.blocks(inputs, n)
    rows = np.concatenate([np.arange(n)[at] for _, at in blocks])
    assert len(blocks) > 4 and sorted(rows) == list(range(n))
    parts = [policy.pi(policy.params, some) for some, _ in blocks]
    np.testing.assert_allclose(np.concatenate(parts), phi[rows])
    got, in_blocks = trust_region_step(policy, policy.policy_params, batch, ONE, **options)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)
    assert info["step_fraction"] == in_blocks["step_fraction"] > 0
    np.testing.assert_allclose(list(in_blocks.values()), list(info.values()), rtol=1e-8)


# --- what it costs ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("observations, actions", [
    (gs.Discrete(50_000), gs.Discrete(2)), (gs.MultiDiscrete([500] * 100), gs.Discrete(2)),
    (gs.Dict({"item": gs.Discrete(50_000), "price": gs.Box(-1, 1, (2,))}), gs.Discrete(2)),
    (gs.Discrete(4), gs.Discrete(50_000)), (gs.Discrete(4), gs.MultiDiscrete([500] * 100))])
def test_memory_goes_with_what_is_stored(observations, actions, monkeypatch):
    """One-hot rows, or a random number for each logit, of 512 steps would be 100 MB; so would one float64 of
    each logit at the same time."""
    monkeypatch.setattr(base, "LARGEST_BLOCK", 400_000)
    model = TRPO("MlpPolicy", Draw(observations, actions), timesteps_per_batch=512, seed=0,
                 normalize_observations=True, policy_kwargs=dict(layers=[4]))
    tracemalloc.start()
    try:
        model.learn(512)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()
    assert model.updates == 1 and model.skipped_updates == 0


def test_many_parts_take_few_calls_of_numpy():
    """Formulas on 400 bits as a MultiDiscrete do not loop over the bits."""
    dist, calls = MultiCategorical([2] * 400), 0
    params = np.random.default_rng(0).standard_normal((3, 800))
    actions = dist.mode(params)

    def count(_frame, event, _arg):
        nonlocal calls
        calls += event == "c_call"
    for run in (lambda: dist.kl(params, params[::-1]), lambda: dist.fisher(params, params),
                lambda: linearize(lambda p: dist.logp(p, actions), params), lambda: dist.settle(params)):
        calls = 0
        sys.setprofile(count)
        try:
            run()
        finally:
            sys.setprofile(None)
        assert calls < 200
