"""The Fisher product is the dense Hessian of the mean KL, to 1e-9, for every distribution and network.

The Hessian is the complex step of the KL's gradient: it shares the gradient with the operator, but neither
the distributions' closed-form M nor the push. `pytest -s` prints the largest relative error of each
distribution.
"""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import reference
from checks import hessian, jacobian
from gymnasium import spaces as gym

from trpo_np import nn, ops, policies
from trpo_np.autodiff import linearize, value_and_grad
from trpo_np.comm import OneProcess
from trpo_np.policies import MlpPolicy
from trpo_np.policies.recurrent import Sequence
from trpo_np.trpo import TRPO
from trpo_np.trust_region import fisher_operator
from trpo_np.update import fit

OBS = gym.Box(-np.inf, np.inf, (3,))
ACTIONS = {"Categorical": gym.Discrete(3), "MultiCategorical": gym.MultiDiscrete([2, 3]),
           "Bernoulli": gym.MultiBinary((2, 2)),
           "DiagGaussian": gym.Box(-1, 1, (2,))}
NETWORKS = {"separate": dict(layers=[5, 4]), "shared": dict(net_arch=[8, dict(pi=[8], vf=[8])]),
            "extractor": dict(extractor=nn.dense("front", 4), share_features=True, layers=[3])}
ONE, N = OneProcess(), 7
each_distribution = pytest.mark.parametrize("name", ACTIONS)
each_network = pytest.mark.parametrize("network", NETWORKS)


def make(name, network="separate", act_fun="tanh", dtype="float64", seed=0):
    """A float64 policy away from its start, with normalised observations and one weight for each sample."""
    rng = np.random.default_rng(seed)
    policy = MlpPolicy(OBS, ACTIONS[name], normalize=True, act_fun=act_fun, dtype=dtype,
                       **NETWORKS[network]).draw(rng)
    policy.params.flat[:] += 0.3 * rng.standard_normal(policy.params.flat.shape).astype(dtype)
    policy.params["pi/out/w"][...] *= 20
    policy.normalizer.merge(4 * rng.standard_normal((50, 3)) + [1, -20, 300], ONE)
    obs, _ = policy.observe(4 * rng.standard_normal((N, 3)) + [1, -20, 300])
    weights = rng.uniform(0.5, 1.5, N)
    return policy, policy.policy_params, obs, weights / weights.sum()


def dense_hessian(policy, params, obs, weights):
    """Hessian at `params` of the weighted mean KL(old || new) in the new parameters."""
    old = policy.pi(params, obs)
    return hessian(lambda p: ops.sum(policy.dist.kl(old, policy.pi(p, obs)) * weights), params)


def dense(product, size):
    return np.stack([product(e) for e in np.eye(size)], axis=1)


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.fixture(scope="module")
def worst():
    """The largest relative error of each distribution; printed at the end (shown with `pytest -s`)."""
    errors = {}
    yield errors
    print("\n\nFisher product against the dense Hessian of the mean KL, largest relative error")
    for name, (error, where) in errors.items():
        print(f"    {name:18}{error:10.1e}   {where}")


@each_distribution
@each_network
@pytest.mark.parametrize("act_fun", nn.ACTIVATIONS)
def test_fisher_is_the_hessian_of_the_mean_kl(name, network, act_fun, worst):
    policy, params, obs, weights = make(name, network, act_fun)
    H = dense_hessian(policy, params, obs, weights)
    F = dense(fisher_operator(policy, params, obs, weights, ONE, 0.0), params.flat.size)
    error = relative(F, H)
    v = np.random.default_rng(1).standard_normal(params.flat.size)
    error = max(error, np.linalg.norm(F @ v - H @ v) / np.linalg.norm(H @ v))
    worst[name] = max(worst.get(name, (0.0, "")), (error, f"{network}, {act_fun}"))
    assert error < 1e-9
    np.testing.assert_allclose(F, F.T, atol=1e-11 * np.abs(F).max())
    eigenvalues = np.linalg.eigvalsh((F + F.T) / 2)
    assert eigenvalues[0] > -1e-11 * eigenvalues[-1] and eigenvalues[-1] > 1e-4
    for block in params:  # no parameter is left out of the curvature
        assert np.abs(params.like(np.abs(F).max(axis=0))[block]).max() > 0, block


# --- through time -------------------------------------------------------------------------------------------

RECURRENT = [name for name in policies.NAMES if issubclass(getattr(policies, name), policies.RecurrentPolicy)]
IMAGE = nn.serial(nn.conv("conv", 2, 3, 2, relu=True), nn.flatten())
each_recurrent = pytest.mark.parametrize("cls", RECURRENT)


def make_recurrent(cls, name, share=False, seed=0):
    """As `make`, on 3 sequences of 6 steps in which episodes start at random; two rows are an autoreset's."""
    rng = np.random.default_rng(seed)
    sees = cls.startswith("Cnn")
    space, kwargs = (gym.Box(0, 1, (5, 7)), {"cnn_extractor": IMAGE}) if sees else (OBS, {"normalize": True})
    policy = getattr(policies, cls)(
        space, ACTIONS[name], dtype="float64", n_lstm=3, share_features=share, **kwargs,
        net_arch=[2, "lstm", dict(pi=[3], vf=[2])]).draw(rng)
    policy.params.flat[:] += 0.3 * rng.standard_normal(policy.params.flat.shape)
    policy.params["pi/out/w"][...] *= 20
    if sees:
        x = rng.uniform(0, 1, (18, 5, 7))
    else:
        policy.normalizer.merge(4 * rng.standard_normal((50, 3)) + [1, -20, 300], ONE)
        x = 4 * rng.standard_normal((18, 3)) + [1, -20, 300]
    x = policy.observe(x)[0]
    x = x.reshape(6, 3, *x.shape[1:])
    starts = rng.random((6, 3)) < 0.2
    starts[3, 1] = starts[4, 1] = starts[0, 2] = starts[1, 2] = True
    weights = rng.uniform(0.5, 1.5, (6, 3))
    weights[3, 1] = weights[0, 2] = 0
    seq = Sequence(x, starts, rng.standard_normal((3, 6)))
    return policy, policy.policy_params, seq, weights.ravel() / weights.sum()


@each_distribution
@each_recurrent
@pytest.mark.parametrize("share", [False, True])
def test_fisher_is_the_hessian_through_time(name, cls, share, worst):
    policy, params, seq, weights = make_recurrent(cls, name, share)
    H = dense_hessian(policy, params, seq, weights)
    F = dense(fisher_operator(policy, params, seq, weights, ONE, 0.0), params.flat.size)
    error = relative(F, H)
    v = np.random.default_rng(1).standard_normal(params.flat.size)
    error = max(error, np.linalg.norm(F @ v - H @ v) / np.linalg.norm(H @ v))
    worst[cls] = max(worst.get(cls, (0.0, "")), (error, name))
    assert error < 1e-9
    for block in params:
        assert np.abs(params.like(np.abs(F).max(axis=0))[block]).max() > 0, block


@each_distribution
@each_recurrent
def test_gradients_through_time_are_the_complex_step(name, cls, worst):
    policy, params, seq, weights = make_recurrent(cls, name)
    actions = policy.dist.sample(policy.pi(params, seq), policy.dist.noise(np.random.default_rng(0), 18))

    def loss(p):
        return ops.sum(policy.dist.logp(policy.pi(p, seq), actions) * weights)
    _, g = value_and_grad(loss, params)
    assert all(array.any() for array in params.like(g).values())
    expected = jacobian(loss, params)[0]
    error = relative(g, expected)
    worst[f"{cls} gradient"] = max(worst.get(f"{cls} gradient", (0.0, "")), (error, name))
    assert error < 1e-9


@each_recurrent
def test_the_critics_gradient_through_time(cls):
    policy, _, seq, weights = make_recurrent(cls, "DiagGaussian")
    critic, goal = policy.critic_params, np.random.default_rng(0).standard_normal(18)
    result = policy.critic_loss(critic, seq, goal, weights)
    expected = jacobian(lambda p: reference.value_loss(policy.vf(p, seq), goal, weights), critic)[0]
    assert relative(result[:-2], expected) < 1e-9
    assert all(array.any() for array in critic.like(result[:-2]).values())


@pytest.mark.parametrize("cls", ["MlpLstmPolicy", "MlpLnLstmPolicy"])
def test_fisher_vector_product_of_a_model_that_remembers(cls):
    model = TRPO(cls, gymnasium.make("CartPole-v1"), policy_kwargs=dict(n_lstm=3, layers=[2]),
                 dtype="float64", seed=0, timesteps_per_batch=64, normalize_observations=True)
    model.learn(64)
    rng, policy = np.random.default_rng(0), model.policy
    obs, mask = rng.uniform(-1, 1, (5, 2, 4)).astype(np.float32), rng.random((5, 2)) < 0.3
    params, state = policy.policy_params, rng.standard_normal((2, 6))
    v = rng.standard_normal(params.flat.size)
    x = policy.observe(obs.reshape(10, 4))[0].reshape(5, 2, 4)
    H = dense_hessian(policy, params, Sequence(x, mask, state), np.full(10, 0.1))
    assert relative(model.fisher_vector_product(v, obs, state, mask), H @ v) < 1e-9
    H = dense_hessian(policy, params, Sequence(x, np.zeros((5, 2), bool), np.zeros((2, 6))), np.full(10, 0.1))
    assert relative(model.fisher_vector_product(v, obs), H @ v) < 1e-9
    H = dense_hessian(policy, params, Sequence(x[:1], mask[1:2], state), np.full(2, 0.5))
    assert relative(model.fisher_vector_product(v, obs[0], state, mask[1], damping=0.5),
                    H @ v + 0.5 * v) < 1e-9
    for bad, message in ((dict(mask=mask[:4]), r"the mask has shape \(4, 2\)"),
                         (dict(mask=mask[0]), r"the mask has shape \(2,\)"),
                         (dict(state=state[:1]),
                          r"the state has shape \(1, 6\); 2 observations and n_lstm=3 need \(2, 6\)")):
        with pytest.raises(ValueError, match=message):
            model.fisher_vector_product(v, obs, **bad)


# --- by other routes ----------------------------------------------------------------------------------------

@each_distribution
def test_three_routes_to_one_number(name):
    policy, params, obs, weights = make(name, "shared")
    v = np.random.default_rng(2).standard_normal(params.flat.size)
    phi, size = policy.pi(params, obs), params.flat.size
    J = jacobian(lambda p: policy.pi(p, obs), params)
    M = np.zeros((phi.size, phi.size))
    for i in range(N):
        block = slice(i * policy.dist.size, (i + 1) * policy.dist.size)
        M[block, block] = weights[i] * policy.dist.fisher(np.tile(phi[i], (policy.dist.size, 1)),
                                                          np.eye(policy.dist.size))
    operator = fisher_operator(policy, params, obs, weights, ONE, 0.0)(v)
    by_matrices, by_hessian = J.T @ (M @ (J @ v)), dense_hessian(policy, params, obs, weights) @ v
    assert relative(operator, by_matrices) < 1e-12 and relative(operator, by_hessian) < 1e-9 and size > 100


@each_distribution
def test_fisher_is_the_covariance_of_the_score(name):
    """By its other definition, E[grad log p  grad log p'], over draws: it shares no formula but logp."""
    policy, params, obs, _ = make(name)
    policy.params["pi/out/w"][...] /= 10  # no action so rare that the mean hangs on a few draws
    draws, v = 4000, np.random.default_rng(4).standard_normal(params.flat.size)
    x = np.repeat(obs[:1], draws, axis=0)
    phi, J = linearize(lambda p: policy.pi(p, x), params)
    actions = policy.dist.sample(phi, policy.dist.noise(np.random.default_rng(5), draws))
    K = linearize(lambda q: policy.dist.logp(q, actions), phi)[1]
    score = K.push(J.push(v))  # grad log p . v, for each draw
    vFv = v @ fisher_operator(policy, params, obs[:1], np.ones(1), ONE, 0.0)(v)
    assert abs(np.mean(score**2) - vFv) < 4 * np.std(score**2) / np.sqrt(draws) < 0.3 * vFv


@each_distribution
def test_half_the_curvature_is_the_kl_of_a_small_step(name):
    policy, params, obs, weights = make(name)
    v = np.random.default_rng(3).standard_normal(params.flat.size)
    vFv, old = v @ fisher_operator(policy, params, obs, weights, ONE, 0.0)(v), policy.pi(params, obs)
    errors = []
    for h in (1e-2, 1e-3):
        kl = np.sum(policy.dist.kl(old, policy.pi(params.like(params.flat + h * v), obs)) * weights)
        errors.append(abs(kl / (0.5 * h * h * vFv) - 1))
    assert errors[1] < 0.05 and errors[1] < 0.3 * errors[0]  # of third order, hence a tenth


def test_damping_is_added_to_the_diagonal():
    policy, params, obs, weights = make("DiagGaussian")
    v = np.random.default_rng(0).standard_normal(params.flat.size)
    bare, damped = (fisher_operator(policy, params, obs, weights, ONE, damping)(v) for damping in (0.0, 0.25))
    np.testing.assert_allclose(damped - bare, 0.25 * v, atol=1e-12)


@each_distribution
def test_weights_weigh_samples(name):
    policy, params, obs, weights = make(name)
    v = np.random.default_rng(0).standard_normal(params.flat.size)
    each = [fisher_operator(policy, params, obs[i:i + 1], np.ones(1), ONE, 0.0)(v) for i in range(N)]
    np.testing.assert_allclose(fisher_operator(policy, params, obs, weights, ONE, 0.0)(v), weights @ each,
                               rtol=1e-10, atol=1e-13)


@each_distribution
def test_ranks_with_a_part_of_the_samples_each_make_one_product(name):
    policy, params, obs, weights = make(name)
    v = np.random.default_rng(0).standard_normal(params.flat.size)
    parts = [slice(0, 2), slice(2, 3), slice(3, N)]

    def run(comm):
        mine = parts[comm.rank]
        return fisher_operator(policy, params, obs[mine], weights[mine], comm, 0.1)(v)
    for product in reference.on_ranks(3, run):
        np.testing.assert_allclose(product, fisher_operator(policy, params, obs, weights, ONE, 0.1)(v),
                                   rtol=1e-12, atol=1e-14)


@each_distribution
def test_float32_products_are_the_float64_ones_to_rounding(name, kernel_mode):
    policy, params, obs, weights = make(name, "shared", dtype="float32")
    v = np.random.default_rng(0).standard_normal(params.flat.size).astype(np.float32)
    twin = MlpPolicy(OBS, ACTIONS[name], dtype="float64", **NETWORKS["shared"]).install(policy.params)
    params64 = twin.policy_params
    low = fisher_operator(policy, params, obs, weights, ONE, 0.1)(v)
    high = fisher_operator(twin, params64, obs.astype(np.float64), weights, ONE, 0.1)(v.astype(np.float64))
    assert low.dtype == np.float32 and relative(low, high) < 1e-4


# --- the model's own product --------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def model():
    env = gymnasium.make("CartPole-v1")
    model = TRPO("MlpPolicy", env, policy_kwargs=dict(net_arch=[6, dict(pi=[5], vf=[4])]), dtype="float64",
                 seed=0, timesteps_per_batch=64, normalize_observations=True)
    model.learn(128)
    return model


def test_fisher_vector_product_of_a_model(model):
    obs = np.random.default_rng(0).uniform(-1, 1, (9, 4)).astype(np.float32)
    policy = model.policy
    params = policy.policy_params
    H = dense_hessian(policy, params, policy.observe(obs)[0], np.full(9, 1 / 9))
    n, m = policy.params.flat.size, params.flat.size
    v = np.random.default_rng(1).standard_normal(n)
    np.testing.assert_allclose(model.fisher_vector_product(v[:m], obs), H @ v[:m], rtol=1e-8,
                               atol=1e-9 * np.abs(H @ v[:m]).max())
    whole = model.fisher_vector_product(v, obs, damping=0.5)
    np.testing.assert_allclose(whole[:m], H @ v[:m] + 0.5 * v[:m], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(whole[m:], 0.5 * v[m:], rtol=1e-12)  # the critic has no curvature
    for size in (m - 1, m + 1, n + 1):
        needed = f"v has shape \\({size},\\); {m} .policy. or {n} .all. numbers are needed"
        with pytest.raises(ValueError, match=needed):
            model.fisher_vector_product(np.zeros(size), obs)


def test_a_product_has_the_models_type_whatever_that_of_the_damping():
    model = TRPO("MlpPolicy", "CartPole-v1", seed=0)
    v, obs = np.ones(model.policy.params.flat.size), np.ones((4, 4), np.float32)
    products = [model.fisher_vector_product(v, obs, damping=kind(1)) for kind in (float, int, np.float64)]
    assert all(product.dtype == np.float32 for product in products)
    np.testing.assert_array_equal(products[0], products[2])


def test_a_product_that_overflows_is_told():
    model = TRPO("MlpPolicy", "CartPole-v1", seed=0)
    obs, size = np.ones((4, 4), np.float32), model.policy.policy_params.flat.size
    for number, shown in ((1e38, "1e\\+38"), (np.inf, "inf"), (np.nan, "nan")):
        with pytest.raises(ValueError, match=f"not finite in float32: v holds numbers up to {shown}; a"):
            with np.errstate(all="ignore"):
                model.fisher_vector_product(np.full(size, number), obs)


# --- gradients reach the policy, the whole policy and nothing but the policy --------------------------------

@each_distribution
@each_network
@pytest.mark.parametrize("act_fun", nn.ACTIVATIONS)
def test_every_policy_parameter_has_a_gradient(name, network, act_fun):
    policy, params, obs, weights = make(name, network, act_fun)
    actions = policy.dist.sample(policy.pi(params, obs), policy.dist.noise(np.random.default_rng(0), N))
    gains = weights * np.random.default_rng(1).standard_normal(N)
    _, g = value_and_grad(lambda p: ops.sum(policy.dist.logp(policy.pi(p, obs), actions) * gains), params)
    for block, array in params.like(g).items():
        assert array.any() if act_fun == "relu" else array.all(), block  # a relu may be off for all samples


@each_network
def test_the_critics_gradient_is_its_own(network):
    policy, params, obs, weights = make("DiagGaussian", network)
    critic, goal = policy.critic_params, np.random.default_rng(0).standard_normal(N)
    features = policy.critic_input(policy.params, obs)
    *g, error, total = policy.critic_loss(critic, features, goal, weights)

    def loss(p):
        return reference.value_loss(policy.vf(p, features), goal, weights)
    assert relative(np.array(g), jacobian(loss, critic)[0]) < 1e-9
    assert all(array.all() for array in critic.like(np.array(g)).values())
    np.testing.assert_allclose((error, total), (loss(critic), weights.sum()), rtol=1e-12)
    assert not np.shares_memory(critic.flat, params.flat)
    assert critic.flat.size + params.flat.size == policy.params.flat.size


@pytest.mark.parametrize("policy_kwargs", [
    None, dict(net_arch=[6, dict(pi=[5], vf=[4])]), dict(net_arch=[6])])
def test_fitting_values_moves_no_bit_of_the_policy(policy_kwargs):
    model = TRPO("MlpPolicy", gymnasium.make("CartPole-v1"), policy_kwargs=policy_kwargs, seed=0, vf_iters=20)
    policy, rng = model.policy, np.random.default_rng(0)
    x, targets = rng.standard_normal((300, 4)).astype(np.float32), rng.standard_normal(300)
    head, critic = policy.policy_params, policy.critic_params
    before, critic_before = head.flat.tobytes(), critic.flat.copy()
    phi = policy.pi(policy.params, x).tobytes()
    error = np.mean((policy.value(x) - targets) ** 2)
    seg = SimpleNamespace(valid=np.ones((300, 1), bool))
    loss = fit(policy, model.adam, x[:, None], seg, targets, np.ones(300), model.settings, 0.01, rng,
               model.comm)
    assert head.flat.tobytes() == before and policy.pi(policy.params, x).tobytes() == phi
    assert (critic.flat != critic_before).all() and loss < error
