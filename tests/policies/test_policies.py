"""From net_arch to parameters, from an observation to an action, and the errors for bad input."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gymnasium import spaces as gym
from scipy import stats
from scipy.special import expit, softmax

from trpo_np import TRPO, nn, ops
from trpo_np.comm import OneProcess
from trpo_np.distributions import DiagGaussian
from trpo_np.files.model import resolve_policy
from trpo_np.nn import parse_activation, parse_net_arch
from trpo_np.normalize import ObservationNormalizer
from trpo_np.policies import MlpLnLstmPolicy, MlpLstmPolicy, MlpPolicy, Policy, construct

OBS = gym.Box(-np.inf, np.inf, (3,))
ACTIONS = {
    "Discrete": gym.Discrete(4, start=2),
    "MultiDiscrete": gym.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [5, -3]]),
    "MultiBinary": gym.MultiBinary((2, 2)),
    "Box": gym.Box(np.array([-0.5, -1], np.float32), np.array([0.5, np.inf], np.float32)),
    "Box 2-D float64": gym.Box(-0.1, 0.1, (2, 2), np.float64),
    "Box number": gym.Box(-1, 1, ()),
}
each = pytest.mark.parametrize("name", ACTIONS)
X = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)


def make(actions="Box", observations=OBS, seed=0, wide=True, **options):
    """Return a policy; `wide` scales up its output layer, which starts near 0, so that outputs differ."""
    actions = ACTIONS[actions] if isinstance(actions, str) else actions
    policy = MlpPolicy(observations, actions, **options).draw(np.random.default_rng(seed))
    if wide:
        policy.params["pi/out/w"][...] *= 100
    return policy


def drawn_once(policy, noise):
    """Return the raw actions that a rollout draws for X."""
    act, actions, _ = policy.actor(noise, {})
    act(0, X, None)
    return actions[0]


# --- net_arch -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("net_arch, layers, parsed", [
    (None, None, ([], [64, 64], [64, 64])),
    (None, [32], ([], [32], [32])),
    (None, [], ([], [], [])),
    ([], None, ([], [], [])),
    ([8, 9], None, ([8, 9], [], [])),
    ([8, dict(pi=[7], vf=[6, 5])], None, ([8], [7], [6, 5])),
    ([dict(vf=[6])], None, ([], [], [6])),
    ([np.int64(8), dict(pi=(7,))], None, ([8], [7], [])),
])
def test_net_arch(net_arch, layers, parsed):
    assert parse_net_arch(net_arch, layers) == parsed


@pytest.mark.parametrize("net_arch, layers, message", [
    ([64], [64], "give net_arch or layers, not both"),
    ([dict(pi=[8]), 64], None, "after the shared widths comes one dict.*, last"),
    ([dict(pi=[8]), dict(vf=[8])], None, "comes one dict"),
    ([dict(policy=[8])], None, "comes one dict"),
    ([0], None, "net_arch holds 0; a layer's width is an integer of at least 1"),
    ([64.0], None, "net_arch holds 64.0"),
    (["64"], None, "net_arch holds '64'"),
    ([True], None, "net_arch holds True"),
    ([dict(pi=[-1])], None, "net_arch holds -1"),
    ([[64, 64]], None, r"net_arch holds \[64, 64\]"),
    (None, [64, None], "net_arch holds None"),
    (64, None, "net_arch is 64; a list is needed"),
    (None, 64, "layers is 64; a list"),
    ("64", None, "net_arch is '64'; a list"),
    ([dict(pi=64)], None, "pi in net_arch is 64; a list"),
    (64, None, "net_arch is 64; a list"),
])
def test_bad_net_arch(net_arch, layers, message):
    with pytest.raises(ValueError, match=message):
        parse_net_arch(net_arch, layers)


def test_activations():
    assert parse_activation("relu") is ops.relu and parse_activation(ops.sin) is ops.sin
    message = "act_fun is 'Tanh'; it can be 'tanh', 'relu', 'elu', 'sigmoid' or a function of"
    with pytest.raises(ValueError, match=message):
        make(act_fun="Tanh")


# --- parameters ---------------------------------------------------------------------------------------------

def shapes(policy):
    return {name: a.shape for name, a in policy.params.items()}


def test_names_and_order_of_separate_networks():
    policy = make("Box", layers=[8, 7])
    assert list(shapes(policy).items()) == [
        ("pi/fc0/w", (3, 8)), ("pi/fc0/b", (8,)), ("pi/fc1/w", (8, 7)), ("pi/fc1/b", (7,)),
        ("pi/out/w", (7, 2)), ("pi/out/b", (2,)), ("pi/log_std", (2,)),
        ("vf/fc0/w", (3, 8)), ("vf/fc0/b", (8,)), ("vf/fc1/w", (8, 7)), ("vf/fc1/b", (7,)),
        ("vf/out/w", (7, 1)), ("vf/out/b", (1,))]


@pytest.mark.parametrize("name, observations, options, widths", [
    ("MlpPolicy", OBS, dict(layers=[]), (3, 2)),
    ("MlpPolicy", gym.Dict(a=gym.Discrete(4), b=OBS), dict(net_arch=[9, dict(pi=[8], vf=[7])]), (7, 9, 8, 2)),
    ("MlpPolicy", OBS, dict(extractor=nn.dense("own", 5), layers=[4]), (3, 5, 4, 2)),
    ("MlpLstmPolicy", OBS, dict(n_lstm=6), (3, 64, 64, 6, 2)),
    ("MlpLnLstmPolicy", OBS, dict(n_lstm=6, net_arch=[8, "lstm", dict(pi=[7])]), (3, 8, 6, 7, 2)),
    ("CnnPolicy", gym.Box(0, 255, (84, 84, 1), np.uint8), dict(cnn_extractor="nature_cnn"),
     (84 * 84, 32, 64, 64, 512, 2))])
def test_widths_are_those_of_the_policys_network(name, observations, options, widths):
    policy = resolve_policy(name)(observations, ACTIONS["Box"], **options)
    assert policy.widths == widths
    assert repr(policy) == f"<{name} {' -> '.join(map(str, widths))}, float32>"


def test_names_and_order_with_shared_layers():
    policy = make("Discrete", net_arch=[8, dict(pi=[7], vf=[6])])
    assert list(shapes(policy).items()) == [
        ("shared/fc0/w", (3, 8)), ("shared/fc0/b", (8,)),
        ("pi/fc0/w", (8, 7)), ("pi/fc0/b", (7,)), ("pi/out/w", (7, 4)), ("pi/out/b", (4,)),
        ("vf/fc0/w", (8, 6)), ("vf/fc0/b", (6,)), ("vf/out/w", (6, 1)), ("vf/out/b", (1,))]


@each
@pytest.mark.parametrize("net_arch", [None, [8, dict(pi=[7], vf=[6])]])
def test_the_policys_parameters_lead_the_vector(name, net_arch):
    policy = make(name, net_arch=net_arch)
    assert list(policy.params) == [*policy.policy_weights, *policy.critic_weights]
    assert not policy.policy_weights.keys() & policy.critic_weights.keys()
    head = policy.policy_params.flat
    np.testing.assert_array_equal(head, policy.params.flat[:head.size])
    assert ("pi/log_std" in policy.params) == name.startswith("Box")


def test_initial_weights_are_orthogonal_with_their_gains():
    policy = make(wide=False, dtype="float64", net_arch=[9, dict(pi=[8], vf=[7])])
    hidden = np.sqrt(2)
    gains = {"shared/fc0": hidden, "pi/fc0": hidden, "pi/out": 0.01, "vf/fc0": hidden, "vf/out": 1.0}
    for name, gain in gains.items():
        singular_values = np.linalg.svd(policy.params[f"{name}/w"], compute_uv=False)
        np.testing.assert_allclose(singular_values, gain, rtol=1e-12)
        assert not policy.params[f"{name}/b"].any()
    assert set(policy.params) == {f"{name}/{part}" for name in gains for part in "wb"} | {"pi/log_std"}


def test_log_std_starts_where_it_is_told_and_stays_in_its_bounds():
    policy = make(log_std_init=-0.7)
    assert policy.params["pi/log_std"].tolist() == [np.float32(-0.7)] * 2
    assert not make().params["pi/log_std"].any()
    policy.params["pi/log_std"][:] = [100, -100]
    before = policy.params.flat.copy()
    assert policy.bound(policy.params) is policy.params
    assert policy.params["pi/log_std"].tolist() == list(DiagGaussian.LOG_STD_BOUNDS)[::-1]
    assert (policy.params.flat != before).sum() == 2
    discrete = make("Discrete")
    before = discrete.params.flat.copy()
    np.testing.assert_array_equal(discrete.bound(discrete.params).flat, before)


def test_same_seed_same_bits():
    a, b, other = make(seed=3), make(seed=3), make(seed=4)
    assert a.params.flat.tobytes() == b.params.flat.tobytes() != other.params.flat.tobytes()
    for _ in range(3):
        assert a.predict(X)[0].tobytes() == b.predict(X)[0].tobytes()


@each
def test_installed_parameters_predict_the_same_bits(name):
    policy, twin = make(name), make(name, seed=9)
    arrays = {n: a.copy() for n, a in policy.params.items()}
    assert twin.install(arrays) is twin and twin.params.flat.tobytes() == policy.params.flat.tobytes()
    mine, its = (one.predict(X, deterministic=True)[0] for one in (policy, twin))
    assert mine.tobytes() == its.tobytes()


@each
def test_a_new_policy_is_nearly_uniform_and_its_critic_reads_the_observation(name):
    policy = make(name, wide=False)
    phi, values = policy.pi(policy.params, policy.observe(X)[0]), policy.value(X)
    assert np.abs(phi).max() < 0.05
    assert values.shape == (6,) and len(np.unique(values)) == 6


@each
def test_float32_throughout(name):
    policy = make(name, normalize=True)
    x, _ = policy.observe(X.astype(np.float64))
    for array in (policy.params.flat, x, policy.pi(policy.params, x), policy.value(x)):
        assert array.dtype == np.float32
    dtypes = {"Discrete": np.int64, "MultiDiscrete": np.int64, "MultiBinary": np.int8,
              "Box": np.float32, "Box 2-D float64": np.float64, "Box number": np.float32}
    actions, _ = policy.predict(X)
    assert actions.dtype == dtypes[name]


def test_float64_policies():
    policy = make(dtype="float64")
    x, _ = policy.observe(X)
    assert policy.params.flat.dtype == x.dtype == policy.pi(policy.params, x).dtype == np.float64


# --- predict ------------------------------------------------------------------------------------------------

@each
@pytest.mark.parametrize("deterministic", [False, True])
def test_predicted_actions_belong_to_the_space(name, deterministic):
    policy, space = make(name), ACTIONS[name]
    for n in (1, 6, 200):
        batch = np.random.default_rng(n).standard_normal((n, 3))
        actions, state = policy.predict(batch, deterministic=deterministic)
        assert state is None and actions.shape == (n, *space.shape) and all(a in space for a in actions)
    one, state = policy.predict(X[0], deterministic=deterministic)
    assert state is None and np.shape(one) == space.shape
    assert (np.asarray(one) if name == "Box number" else one) in space


def test_one_discrete_action_is_a_hashable_integer():
    for deterministic in (False, True):
        action, _ = make("Discrete").predict(X[0], deterministic=deterministic)
        assert isinstance(action, np.integer) and {int(action): 1}[action] == 1 and type(action) is np.int64
    assert make("Discrete").predict(X[:1])[0].shape == (1,)


@each
def test_deterministic_actions_are_the_modes(name):
    policy = make(name)
    actions, _ = policy.predict(X, deterministic=True)
    for i in range(6):
        one = policy.predict(X[i], deterministic=True)[0]
        np.testing.assert_allclose(one, actions[i], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(policy.predict(X, deterministic=True)[0], actions)
    mode = policy.from_env(actions, 6)
    if name.startswith("Box"):
        expected = policy.pi(policy.params, X)[:, :policy.dist.dim].reshape(mode.shape)
        np.testing.assert_array_equal(mode, np.clip(expected, ACTIONS[name].low, ACTIONS[name].high))
    else:
        assert len(np.unique(actions.reshape(6, -1), axis=0)) > 1  # they depend on the observation
        logp = policy.action_probability(X, actions=actions, logp=True)
        for _ in range(20):
            drawn = policy.predict(X)[0]
            assert (policy.action_probability(X, actions=drawn, logp=True) <= logp + 1e-9).all()


def test_drawn_actions_vary_and_follow_the_distribution():
    policy, n = make("Discrete"), 4000
    counts = np.bincount(policy.predict(np.tile(X[0], (n, 1)))[0] - 2, minlength=4)
    assert stats.chisquare(counts, n * softmax(rows(policy)[0])).pvalue > 1e-3
    policy = make(gym.Box(-np.inf, np.inf, (2,)), log_std_init=-2.0)  # no bounds: nothing is clipped
    drawn, mean = policy.predict(np.tile(X[0], (n, 1)))[0], rows(policy)[0, :2]
    for i in range(2):
        assert stats.kstest(drawn[:, i], stats.norm(mean[i], np.exp(-2)).cdf).pvalue > 1e-3


@each
def test_raw_actions_survive_the_way_to_the_environment_and_back(name):
    policy = make(name)
    noise = policy.dist.noise(np.random.default_rng(0), 6).astype(np.float32)
    raw = policy.dist.sample(policy.pi(policy.params, X), noise)
    if name.startswith("Box"):
        raw = raw / np.abs(raw).max() * 0.09  # within the bounds: clipping has no inverse
    sent = policy.to_env(raw)
    back = policy.from_env(sent, 6)
    assert back.shape == raw.shape == (6, *policy.dist.action_shape)
    np.testing.assert_array_equal(back, raw)
    np.testing.assert_allclose(policy.from_env(sent.tolist(), 6), raw, rtol=1e-7)
    np.testing.assert_array_equal(policy.from_env(sent[0], 1)[0], raw[0])


def test_to_env_clips_what_it_sends_and_not_what_it_is_given():
    policy, raw = make("Box"), np.array([[-3, -3], [3, 3], [0.25, -0.25]], np.float32)
    copy = raw.copy()
    assert policy.to_env(raw).tolist() == [[-0.5, -1], [0.5, 3], [0.25, -0.25]]
    np.testing.assert_array_equal(raw, copy)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8])
def test_to_env_rounds_where_the_space_holds_integers(dtype):
    policy = make(gym.Box(0, 3, (4,), dtype))
    sent = policy.to_env(np.array([[0.4, 0.6, 2.9, 9], [-0.7, 1.2, 1.8, 3.4]], np.float32))
    assert sent.dtype == dtype and sent.tolist() == [[0, 1, 3, 3], [0, 1, 2, 3]]


def test_to_env_counts_from_the_start():
    assert make("Discrete").to_env(np.array([0, 3])).tolist() == [2, 5]
    sent = make("MultiDiscrete").to_env(np.array([[0, 0, 0, 0], [1, 2, 3, 1]]))
    assert sent.tolist() == [[[0, 1], [5, -3]], [[1, 3], [8, -2]]]


@each
def test_the_actor_of_a_rollout_draws_what_the_policy_would(name):
    rng = np.random.default_rng(0)
    networks = (dict(), dict(net_arch=[8, dict(pi=[7], vf=[6])]), dict(layers=[]),
                dict(act_fun="relu", layers=[5]))
    for normalize in (False, True):
        for options in networks:
            policy = make(name, normalize=normalize, log_std_init=-0.3, **options)
            policy.params.flat[:] += 0.1 * rng.standard_normal(policy.params.flat.shape).astype(np.float32)
            policy.normalizer.merge(3 * X + 1, OneProcess())
            noise = policy.dist.noise(rng, 4, 6).astype(np.float32)
            act, drawn, _ = policy.actor(noise, {})
            for t in range(4):
                obs = 5 * rng.standard_normal((6, 3)).astype(np.float32)
                expected = policy.dist.sample(policy.pi(policy.params, policy.normalizer(obs)), noise[t])
                sent, actions = act(t, obs, None), drawn[t]
                np.testing.assert_array_equal(sent, policy.to_env(actions))
                assert sent.dtype == policy.to_env(actions).dtype
                assert actions.shape == expected.shape == (6, *policy.dist.action_shape)
                np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-5)


# --- action_probability -------------------------------------------------------------------------------------

def rows(policy):
    return policy.pi(policy.params, X).astype(np.float64)


def test_probabilities_of_discrete_actions():
    policy = make("Discrete")
    p = softmax(rows(policy), axis=1)
    np.testing.assert_allclose(policy.action_probability(X), p, rtol=1e-5)
    np.testing.assert_allclose(policy.action_probability(X[2]), p[2], rtol=1e-5)
    actions = np.array([2, 3, 4, 5, 2, 3])
    assert policy.action_probability(X, actions=actions).shape == (6, 1)
    taken = p[np.arange(6), actions - 2]
    np.testing.assert_allclose(policy.action_probability(X, actions=actions)[:, 0], taken, rtol=1e-5)
    logp = policy.action_probability(X, actions=actions, logp=True)
    np.testing.assert_allclose(logp[:, 0], np.log(taken), rtol=1e-5)
    np.testing.assert_allclose(policy.action_probability(X[0], actions=3), [[p[0, 1]]], rtol=1e-5)


def test_probabilities_of_multi_discrete_actions():
    policy = make("MultiDiscrete")
    p = [softmax(part, axis=1) for part in np.split(rows(policy), [2, 5, 9], axis=1)]
    for got, want in zip(policy.action_probability(X), p, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)
    for got, want in zip(policy.action_probability(X[1]), p, strict=True):
        np.testing.assert_allclose(got, want[1], rtol=1e-5)
    actions = np.array([ACTIONS["MultiDiscrete"].sample() for _ in range(6)])
    raw = (actions - ACTIONS["MultiDiscrete"].start).reshape(6, 4)
    expected = np.prod([part[np.arange(6), raw[:, i]] for i, part in enumerate(p)], axis=0)
    np.testing.assert_allclose(policy.action_probability(X, actions=actions)[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool"])
def test_probabilities_of_binary_actions(dtype):
    policy = make("MultiBinary")
    p = expit(rows(policy))
    np.testing.assert_allclose(policy.action_probability(X), p.reshape(6, 2, 2), rtol=1e-5)
    bits = np.random.default_rng(0).integers(0, 2, (6, 2, 2)).astype(dtype)
    expected = stats.bernoulli.logpmf(bits.reshape(6, 4).astype(int), p).sum(1)
    logp = policy.action_probability(X, actions=bits, logp=True)
    np.testing.assert_allclose(logp[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["Box", "Box 2-D float64", "Box number"])
def test_densities_of_box_actions(name):
    policy, shape = make(name, log_std_init=-0.5), ACTIONS[name].shape
    mean = rows(policy)[:, :policy.dist.dim]
    got = policy.action_probability(X)
    assert type(got) is list and [part.shape for part in got] == [(6, *shape)] * 2
    np.testing.assert_allclose(got[0].reshape(6, -1), mean, rtol=1e-5)
    np.testing.assert_allclose(got[1], np.exp(-0.5), rtol=1e-6)
    assert [np.shape(part) for part in policy.action_probability(X[0])] == [shape] * 2
    actions = np.random.default_rng(0).standard_normal((6, *shape))
    expected = stats.norm.logpdf(actions.reshape(6, -1), mean, np.exp(-0.5)).sum(1)
    density = policy.action_probability(X, actions=actions)
    logp = policy.action_probability(X, actions=actions, logp=True)
    assert density.shape == (6, 1)
    np.testing.assert_allclose(logp[:, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(density[:, 0], np.exp(expected), rtol=1e-4)


@pytest.mark.parametrize("name, action, message", [
    ("Discrete", 1, "the action 1 is outside the space: 4 values, counted from 2"),
    ("Discrete", 6, "the action 6 is outside the space"),
    ("MultiDiscrete", [[0, 0], [5, -3]], "the action 0 is outside the space: 3 values, counted from 1"),
])
def test_actions_outside_the_space_have_no_probability(name, action, message):
    with pytest.raises(ValueError, match=message):
        make(name).action_probability(X[0], actions=action)


def test_logp_needs_actions():
    with pytest.raises(ValueError, match="logp=True needs the actions"):
        make().action_probability(X, logp=True)


# --- observations -------------------------------------------------------------------------------------------

def test_observations_are_encoded_and_normalised():
    space = gym.Dict({"a": gym.Discrete(2, start=1), "b": gym.Box(-9, 9, (2,))})
    policy = make(observations=space, normalize=True)
    x, single = policy.observe({"a": 2, "b": [0.5, -0.5]})
    assert single and x.tolist() == [[0, 1, 0.5, -0.5]]
    x, single = policy.observe({"a": [2, 1], "b": [[0.5, -0.5], [1, 2]]})
    assert not single and x.tolist() == [[0, 1, 0.5, -0.5], [1, 0, 1, 2]]
    rows = np.array([[1, 0, 0, 5], [0, 1, 4, 7]])  # means .5 .5 2 6, standard deviations .5 .5 2 1
    policy.normalizer.merge(rows, OneProcess())
    x, _ = policy.observe({"a": 2, "b": [0, 9]})
    np.testing.assert_allclose(x, [[-1, 1, -1, 3]], rtol=1e-6)
    action, _ = policy.predict({"a": 2, "b": [0, 9]}, deterministic=True)
    np.testing.assert_allclose(action, policy.to_env(policy.dist.mode(policy.pi(policy.params, x)))[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_observations_must_be_finite(bad):
    obs = X.copy()
    obs[4, 1] = bad
    with pytest.raises(ValueError, match=f"the observation holds {bad} in row 4, field 1"):
        make().predict(obs)


def test_observations_of_another_shape():
    message = r"an observation of shape \(4,\) does not fit: one has shape \(3,\)"
    for method in (make().predict, make().action_probability):
        with pytest.raises(ValueError, match=message):
            method(np.zeros(4))


@pytest.mark.parametrize("space", [gym.Dict({"a": gym.Discrete(2)}), gym.Tuple((gym.Discrete(2),))])
def test_composite_action_spaces_are_refused(space):
    with pytest.raises(ValueError, match="the action space is a (Dict|Tuple)"):
        MlpPolicy(OBS, space)


# --- shared layers ------------------------------------------------------------------------------------------

def test_the_critic_reads_shared_layers():
    policy = make(net_arch=[8, dict(pi=[7], vf=[6])])
    p, features = policy.params, policy.critic_input(policy.params, X)
    np.testing.assert_array_equal(features, np.tanh(X @ p["shared/fc0/w"] + p["shared/fc0/b"]))
    np.testing.assert_array_equal(policy.vf(p, features), policy.value(X))


def test_separate_networks_share_nothing():
    policy = make()
    phi, values = policy.pi(policy.params, X), policy.value(X)
    policy.critic_params.flat[:] += 1
    np.testing.assert_array_equal(policy.pi(policy.params, X), phi)
    assert (policy.value(X) != values).all()
    values = policy.value(X)
    policy.policy_params.flat[:] += 1
    np.testing.assert_array_equal(policy.value(X), values)


@pytest.mark.parametrize("share", [False, True])
def test_an_extractor_of_layers(share):
    extractor = nn.serial(nn.dense("front", 5), nn.elementwise(ops.sin))
    policy = make("Discrete", extractor=extractor, share_features=share, layers=[4])
    fronts = {name for name in policy.params if "front" in name}
    owners = ["shared"] if share else ["pi", "vf"]
    assert fronts == {f"{owner}/front/{part}" for owner in owners for part in "wb"}
    assert fronts & policy.policy_weights.keys() == fronts - {"vf/front/w", "vf/front/b"}
    p = policy.params
    for net, out in (("pi", policy.pi(p, X)), ("vf", policy.value(X)[:, None])):
        front = "shared" if share else net
        features = np.sin(X @ p[f"{front}/front/w"] + p[f"{front}/front/b"])
        h = np.tanh(features @ p[f"{net}/fc0/w"] + p[f"{net}/fc0/b"])
        np.testing.assert_allclose(out, h @ p[f"{net}/out/w"] + p[f"{net}/out/b"], rtol=1e-5, atol=1e-6)


def test_an_extractor_that_is_a_function():
    policy = make("Discrete", extractor=lambda x: ops.concatenate([ops.sin(x), ops.cos(x)], -1), layers=[4])
    p, features = policy.params, np.hstack([np.sin(X), np.cos(X)])
    assert p["pi/fc0/w"].shape == p["vf/fc0/w"].shape == (6, 4)
    h = np.tanh(features @ p["pi/fc0/w"] + p["pi/fc0/b"])
    np.testing.assert_allclose(policy.pi(p, X), h @ p["pi/out/w"] + p["pi/out/b"], rtol=1e-5, atol=1e-6)
    noise = policy.dist.noise(np.random.default_rng(0), 1, 6).astype(np.float32)
    np.testing.assert_array_equal(drawn_once(policy, noise), policy.dist.sample(policy.pi(p, X), noise[0]))


# --- names --------------------------------------------------------------------------------------------------

def test_policies_by_name_and_by_class():
    class Mine(MlpPolicy):
        pass
    assert resolve_policy("MlpPolicy") is MlpPolicy and resolve_policy(Mine) is Mine


@pytest.mark.parametrize("typo", ["MlpPolcy", "mlppolicy", "MLPPolicy", "Policy"])
def test_a_typo_is_told_the_nearest_name(typo):
    hint = r"\(did you mean 'MlpPolicy'\?\), or a subclass of"
    message = rf"policy is '{typo}'; it can be .*'MlpPolicy'.*{hint}"
    with pytest.raises(ValueError, match=message):
        resolve_policy(typo)


@pytest.mark.parametrize("wrong", [3, None, dict, "zzz", MlpPolicy(OBS, gym.Discrete(2))])
def test_what_is_not_a_policy(wrong):
    with pytest.raises(ValueError, match="it can be 'MlpPolicy'.*or a subclass of trpo_np.policies.Policy"):
        resolve_policy(wrong)


def test_unknown_arguments():
    with pytest.raises(TypeError, match="net_arc"):
        make(net_arc=[64])


def test_a_mistake_within_a_policy_is_no_unknown_argument_of_the_users():
    class Own(MlpPolicy):
        def __init__(self, *its_spaces, **options):
            super().__init__(*its_spaces, **options)
            self.layers_of(strange=3)

        def layers_of(self): ...
    with pytest.raises(TypeError, match="unexpected keyword argument 'strange'"):
        construct(Own, OBS, gym.Discrete(2), {})
    with pytest.raises(ValueError, match="policy_kwargs holds 'strange', which MlpPolicy does not take"):
        construct(MlpPolicy, OBS, gym.Discrete(2), {"strange": 3})


def test_a_subclass_may_bring_its_own_network():
    class Linear(Policy):
        def pi(self, params, x):
            return x @ params["pi/out/w"][:3]
    policy = Linear(OBS, gym.Discrete(2), layers=[4]).draw(np.random.default_rng(0))
    noise = policy.dist.noise(np.random.default_rng(0), 1, 6).astype(np.float32)
    expected = policy.dist.sample(X @ policy.params["pi/out/w"][:3], noise[0])
    np.testing.assert_array_equal(drawn_once(policy, noise), expected)
    assert policy.predict(X)[0].shape == (6,)


def test_predict_follows_the_parameters():
    """`predict` keeps views: it follows writes into the parameters, and newly installed ones."""
    policy = make("Discrete")

    def write():
        policy.params["pi/out/b"][1] = 1e3

    for change in (write, lambda: policy.install(make("Discrete", seed=5).params)):
        policy.predict(X, deterministic=True)
        change()
        expected = policy.to_env(policy.pi(policy.params, X).argmax(-1))
        np.testing.assert_array_equal(policy.predict(X, deterministic=True)[0], expected)


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("normalize", [False, True])
def test_what_predict_does_at_once_is_what_the_composed_layers_give(name, normalize):
    policy = make(name, normalize=normalize)
    if normalize:
        policy.normalizer.merge(np.random.default_rng(1).normal(2, 3, (50, 3)), OneProcess())
    change = np.random.default_rng(2).standard_normal(policy.params.flat.size)
    policy.params.flat[:] += change * 0.3  # so that no bias is 0
    for x in (X, X[0], X[:1], X[0].astype(float), list(X[0])):
        batch, is_batch = np.atleast_2d(np.asarray(x, np.float32)), np.ndim(x) == 2
        params = policy.pi(policy.params, policy.normalizer(batch))
        policy.rng = np.random.default_rng(3)
        drawn = policy.predict(x)[0]
        noise = policy.dist.noise(np.random.default_rng(3), len(params)).astype(policy.dtype)
        for actions, expected in ((drawn, policy.dist.sample(params, noise)),
                                  (policy.predict(x, deterministic=True)[0], policy.dist.mode(params))):
            expected = policy.to_env(expected)
            if len(params) > 1:  # a single row's bias is part of the product, so its bits may differ
                np.testing.assert_array_equal(actions, expected)
            np.testing.assert_allclose(actions, expected if is_batch else expected[0], rtol=1e-5, atol=1e-6)


def test_one_observation_gives_the_same_bits_however_it_comes():
    policy = make("Box")
    whole = policy.predict(X[0], deterministic=True)[0]
    for x in (X[:1], X[0].astype(float), list(X[0]), X[0][::1]):
        action = policy.predict(x, deterministic=True)[0]
        np.testing.assert_array_equal(np.squeeze(action), np.squeeze(whole))


def test_threads_may_predict_at_once():
    policy = make("Box", layers=[256, 256])  # a product takes long enough for NumPy to let other threads run
    rows = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)

    def act(i):
        return policy.predict(rows[i % 64], deterministic=True)[0]

    expected = [act(i) for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for got, one in zip(pool.map(act, range(6400)), expected * 100):
            np.testing.assert_array_equal(got, one)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_one_observation_that_is_not_finite(bad):
    policy, x = make("Box"), X[0].copy()
    x[1] = bad
    if np.isfinite(bad):  # in float32 the square of 1e30 is not
        with np.errstate(over="ignore"):
            assert np.isfinite(policy.predict(x, deterministic=True)[0]).all()
    else:
        with pytest.raises(ValueError, match="row 0, field 1"):
            policy.predict(x)


@pytest.mark.parametrize("value", [3, -50, 100.0, np.inf, np.nan, True, "0"])
def test_a_spread_that_could_not_be_learned_is_refused(value):
    with pytest.raises(ValueError, match="log_std_init is .* a number from -20 to 2 is needed"):
        make("Box", log_std_init=value)
    assert make("Box", log_std_init=np.float32(-0.5)).params["pi/log_std"] == pytest.approx(-0.5)


# --- statistics of observations -----------------------------------------------------------------------------

FIRST_DENSE = [
    (MlpPolicy, dict(layers=[4], act_fun="relu")),
    (MlpPolicy, dict()),
    (MlpPolicy, dict(net_arch=[5, dict(pi=[4], vf=[])])),
    (MlpPolicy, dict(layers=[], act_fun="relu")),
    (MlpLstmPolicy, dict(layers=[5], n_lstm=4)),
    (MlpLnLstmPolicy, dict(layers=[5], n_lstm=4, share_features=True)),
]


def answers(policy):
    """What the policy says of raw observations."""
    return policy.pi(policy.params, policy.sample_inputs(X)[0])


def moved(rng, loc, scale):
    return (loc + scale * rng.standard_normal((200, 3))).astype(np.float32)


@pytest.mark.parametrize("cls, options", FIRST_DENSE)
def test_new_statistics_leave_the_policy_as_it_is(cls, options):
    policy = cls(OBS, ACTIONS["Box"], normalize=True, dtype="float64", **options)
    policy.draw(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    policy.merge(moved(rng, 1, [1, 2, 0.5]), OneProcess())
    policy.params["pi/out/w"][...] *= 100
    before, shift, factor = answers(policy), policy.normalizer.shift, policy.normalizer.factor
    for i in range(20):
        policy.merge(moved(rng, 2, [i, 0.5, 0.5]), OneProcess())
    assert (np.abs(policy.normalizer.factor / factor - 1) > 0.01).any()
    assert (np.abs(policy.normalizer.shift - shift) > 0.5).all()
    np.testing.assert_allclose(answers(policy), before, rtol=1e-9, atol=1e-9)


def test_new_statistics_leave_a_critic_of_its_own_to_its_fit():
    policy = make(normalize=True)
    policy.merge(moved(np.random.default_rng(0), 0, 1), OneProcess())
    critic = policy.critic_params.flat.copy()
    policy.merge(moved(np.random.default_rng(0), 1, 9), OneProcess())
    np.testing.assert_array_equal(policy.critic_params.flat, critic)


def test_the_first_statistics_set_the_scale_of_new_networks():
    policy = make(normalize=True)
    drawn = policy.params.flat.copy()
    policy.merge(moved(np.random.default_rng(0), 50, 10), OneProcess())
    np.testing.assert_array_equal(policy.params.flat, drawn)
    np.testing.assert_allclose(policy.normalizer.shift, 50, rtol=0.1)


class Cubed(ObservationNormalizer):
    def scaled(self, obs):
        return super().scaled(obs) ** 3


class ReadsCubes(MlpPolicy):
    def pi(self, params, x):
        return super().pi(params, x ** 3)


class SeesCubes(MlpPolicy):
    layered = True

    def make_normalizer(self, enabled):
        return Cubed(self.observation_space.width, enabled, self.dtype)


@pytest.mark.parametrize("cls", [ReadsCubes, SeesCubes])
def test_only_layers_that_are_known_to_read_observations_follow_the_statistics(cls):
    policy = cls(OBS, ACTIONS["Box"], normalize=True).draw(np.random.default_rng(0))
    drawn = policy.params.flat.copy()
    for scale in (1, 5):
        policy.merge(moved(np.random.default_rng(0), 0, scale), OneProcess())
    np.testing.assert_array_equal(policy.params.flat, drawn)
    assert policy.normalizer.moments.std[0] > 2


def test_an_lstm_that_reads_observations_does_not_follow_the_statistics():
    policy = MlpLstmPolicy(OBS, ACTIONS["Box"], normalize=True, net_arch=["lstm"], n_lstm=4)
    policy.draw(np.random.default_rng(0))
    drawn = policy.params.flat.copy()
    for scale in (1, 5):
        policy.merge(moved(np.random.default_rng(0), 0, scale), OneProcess())
    np.testing.assert_array_equal(policy.params.flat, drawn)


def test_a_normalisation_of_ones_own_is_what_acts():
    class Halved(ObservationNormalizer):
        def __call__(self, obs):
            return super().__call__(obs) * self.dtype.type(0.5)

    class Own(MlpPolicy):
        def make_normalizer(self, enabled):
            return Halved(self.observation_space.width, enabled, self.dtype)
    policy = Own(OBS, ACTIONS["Box"], normalize=True).draw(np.random.default_rng(0))
    obs, noise = np.ones((1, *OBS.shape), np.float32), np.zeros((1, 1, policy.dist.dim), np.float32)
    act, actions, _ = policy.actor(noise, {})
    act(0, obs, np.ones(1, bool))
    mean = policy.dist.mode(policy.pi(policy.params, policy.normalizer(obs)))
    np.testing.assert_allclose(actions[0], mean, rtol=1e-6)
    predicted = policy.predict(obs[0], deterministic=True)[0]
    np.testing.assert_allclose(predicted, policy.to_env(mean)[0], rtol=1e-6)


@pytest.mark.parametrize("kwargs, message", [
    (dict(dtype="float64"), "policy_kwargs holds 'dtype'; .* are arguments of TRPO"),
    (dict(normalize=True), "policy_kwargs holds 'normalize'"),
    (dict(observation_space=3), "policy_kwargs holds 'observation_space'"),
    (dict(act_fun=[3]), r"act_fun is \[3\]; it can be"),
    (dict(act_fun=np.tanh), "act_fun is <ufunc 'tanh'>; it can be"),
    (dict(extractor=3), "extractor is 3; an nn.Layer or a function"),
])
def test_arguments_of_policies_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TRPO("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs)


def test_a_policy_without_the_arguments_of_all_policies_is_told():
    class Narrow(MlpPolicy):
        def __init__(self, observation_space, action_space):
            super().__init__(observation_space, action_space)
    with pytest.raises(ValueError, match=r"Narrow does not take '\w+', as a policy must: .*\*\*kwargs"):
        TRPO(Narrow, "CartPole-v1")


def test_slips_of_callers_are_named():
    policy = make("Discrete")
    obs = np.zeros(OBS.shape, np.float32)
    with pytest.raises(ValueError, match=r"\(observation, info\), it is the first"):
        policy.predict((obs, {}))
    with pytest.raises(ValueError, match=r"actions have shape \(2,\); 3 of shape \(\), one an observation"):
        policy.action_probability(np.stack([obs] * 3), actions=[0, 1])
    with pytest.raises(ValueError, match="the batch holds no observation"):
        policy.sample_inputs(np.zeros((0, *OBS.shape), np.float32))
