"""Each formula against SciPy, enumeration, integration or sampling; the Fisher matrix by three routes."""

import itertools

import numpy as np
import pytest
from checks import check_linear, complex_step, hessian
from scipy import integrate, stats
from scipy.special import expit, log_softmax

from trpo_np import ops
from trpo_np.autodiff import linearize, value_and_grad
from trpo_np.distributions import (
    Bernoulli,
    Categorical,
    DiagGaussian,
    MultiCategorical,
    WideCategorical,
    WideMultiCategorical,
)

DISTS = {
    "Categorical": Categorical(4),
    "MultiCategorical": MultiCategorical((2, 3, 4)),
    "MultiCategorical many": MultiCategorical((2, 3, 1, 2)),  # more parts than a part has actions
    "WideCategorical": WideCategorical(4),
    "WideMultiCategorical": WideMultiCategorical((2, 3, 4)),
    "Bernoulli": Bernoulli((2, 2)),
    "DiagGaussian": DiagGaussian((2, 2)),
}
DISCRETE = [name for name, dist in DISTS.items() if dist.action_dtype is not None]
ADDITIVE = [name for name, dist in DISTS.items() if dist.additive]
each = pytest.mark.parametrize("name", DISTS)
each_discrete = pytest.mark.parametrize("name", DISCRETE)
each_additive = pytest.mark.parametrize("name", ADDITIVE)


def parameters(dist, *lead, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal((*lead, dist.size)).astype(dtype)


def draws(dist, params, seed=1):
    return dist.sample(params, dist.noise(np.random.default_rng(seed), len(params)))


def all_actions(dist):
    """List every action of a discrete distribution."""
    if isinstance(dist, Categorical):
        return np.arange(dist.size)
    sizes = dist.sizes if isinstance(dist, MultiCategorical) else [2] * dist.size
    return np.array(list(itertools.product(*map(range, sizes)))).reshape(-1, *dist.action_shape)


def logits_of_parts(dist, row):
    """Split a row of a discrete distribution's parameters into logits of independent categoricals."""
    if isinstance(dist, Categorical):
        return [row]
    if isinstance(dist, MultiCategorical):
        return np.split(row, dist.starts[1:])
    return [np.array([0.0, x]) for x in row]


def scipy_parts(dist, row):
    """Return the independent one-dimensional distributions of a row of parameters, as frozen SciPy ones."""
    if isinstance(dist, DiagGaussian):
        return [stats.norm(m, np.exp(s)) for m, s in zip(row[:dist.dim], row[dist.dim:])]
    return [stats.rv_discrete(values=(np.arange(len(logits)), np.exp(log_softmax(logits))))
            for logits in logits_of_parts(dist, row)]


def scipy_logp(dist, params, actions):
    log = "logpdf" if isinstance(dist, DiagGaussian) else "logpmf"
    return np.array([sum(getattr(part, log)(a) for part, a in zip(scipy_parts(dist, row), np.ravel(action)))
                     for row, action in zip(params, actions)])


# --- values -------------------------------------------------------------------------------------------------

@each
def test_logp_is_scipys(name):
    dist = DISTS[name]
    params = parameters(dist, 20)
    actions = draws(dist, params)
    np.testing.assert_allclose(dist.logp(params, actions), scipy_logp(dist, params, actions), rtol=1e-10)


@each_discrete
def test_probabilities_sum_to_one_over_all_actions(name):
    dist = DISTS[name]
    actions = all_actions(dist)
    params = np.tile(parameters(dist, 1), (len(actions), 1))
    np.testing.assert_allclose(np.exp(dist.logp(params, actions)).sum(), 1, rtol=1e-13)


@each_discrete
def test_entropy_is_minus_the_mean_logp(name):
    dist = DISTS[name]
    actions = all_actions(dist)
    for row in parameters(dist, 3):
        logp = dist.logp(np.tile(row, (len(actions), 1)), actions)
        np.testing.assert_allclose(dist.entropy(row), -np.sum(np.exp(logp) * logp), rtol=1e-13)


def test_entropy_of_the_gaussian_is_scipys():
    dist = DISTS["DiagGaussian"]
    params = parameters(dist, 5)
    expected = [sum(part.entropy() for part in scipy_parts(dist, row)) for row in params]
    np.testing.assert_allclose(dist.entropy(params), expected, rtol=1e-13)


@each_discrete
def test_kl_is_the_mean_log_ratio_over_all_actions(name):
    dist = DISTS[name]
    old, new = parameters(dist, 4), parameters(dist, 4, seed=9)
    expected = []
    for p, q in zip(old, new):
        pairs = zip(logits_of_parts(dist, p), logits_of_parts(dist, q))
        expected.append(sum(stats.entropy(np.exp(log_softmax(a)), np.exp(log_softmax(b))) for a, b in pairs))
    np.testing.assert_allclose(dist.kl(old, new), expected, rtol=1e-12)


def test_kl_of_the_gaussian_is_the_integral():
    dist = DISTS["DiagGaussian"]
    old, new = parameters(dist, 1), parameters(dist, 1, seed=9)
    expected = 0.0
    for p, q in zip(scipy_parts(dist, old[0]), scipy_parts(dist, new[0])):
        integral, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), *p.interval(1 - 1e-15))
        expected += integral
    np.testing.assert_allclose(dist.kl(old, new)[0], expected, rtol=1e-8)


@each
def test_kl_is_the_mean_log_ratio_of_draws(name):
    """Estimate KL(old || new), and not its reverse, from the distribution's own draws."""
    dist, n = DISTS[name], 40_000
    old, new = np.tile(parameters(dist, 1), (n, 1)), np.tile(parameters(dist, 1, seed=9), (n, 1))
    actions = draws(dist, old)
    ratio = dist.logp(old, actions) - dist.logp(new, actions)
    kl, back = dist.kl(old[:1], new[:1])[0], dist.kl(new[:1], old[:1])[0]
    error = 4 * ratio.std() / np.sqrt(n)
    assert abs(ratio.mean() - kl) < error < abs(kl - back), (ratio.mean(), kl, back, error)


@each
def test_kl_is_zero_only_between_equals(name):
    dist = DISTS[name]
    old = parameters(dist, 5)
    np.testing.assert_allclose(dist.kl(old, old), 0, atol=1e-14)
    assert (dist.kl(old, parameters(dist, 5, seed=3)) > 0.01).all()


@each
def test_mode_is_the_most_likely_action(name):
    dist = DISTS[name]
    params = parameters(dist, 6)
    if name not in DISCRETE:
        np.testing.assert_array_equal(dist.mode(params), params[:, :4].reshape(6, 2, 2))
        np.testing.assert_array_equal(dist.std(params), np.exp(params[:, 4:]).reshape(6, 2, 2))
        return
    actions = all_actions(dist)
    for row in params:
        best = actions[np.argmax(dist.logp(np.tile(row, (len(actions), 1)), actions))]
        np.testing.assert_array_equal(dist.mode(row[None])[0], best)


def test_probabilities():
    row = parameters(DISTS["MultiCategorical"], 2)
    parts = DISTS["MultiCategorical"].summary(row)
    for part, logits in zip(parts, logits_of_parts(DISTS["MultiCategorical"], row[0]), strict=True):
        np.testing.assert_allclose(part[0], np.exp(log_softmax(logits)), rtol=1e-13)
    logits = parameters(DISTS["Bernoulli"], 2)
    np.testing.assert_allclose(DISTS["Bernoulli"].summary(logits), expit(logits).reshape(2, 2, 2), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool", "int64", "float32"])
def test_bits_of_any_type_are_bits(dtype):
    dist = DISTS["Bernoulli"]
    params, bits = parameters(dist, 16), all_actions(dist)
    np.testing.assert_array_equal(dist.logp(params, bits.astype(dtype)), dist.logp(params, bits))


def test_gaussian_of_one_number_without_axes():
    dist = DiagGaussian(())
    params = parameters(dist, 7)
    assert dist.mode(params).shape == draws(dist, params).shape == dist.std(params).shape == (7,)
    expected = stats.norm.logpdf(1, params[:, 0], np.exp(params[:, 1]))
    np.testing.assert_allclose(dist.logp(params, np.ones(7)), expected, rtol=1e-12)


# --- derivatives --------------------------------------------------------------------------------------------

@each
def test_gradients(name):
    dist = DISTS[name]
    params, new = parameters(dist, 5), parameters(dist, 5, seed=2)
    actions = draws(dist, params)
    check_linear(lambda p: dist.logp(p, actions), params)
    check_linear(lambda p: dist.kl(params, p), new)
    check_linear(dist.entropy, params)


@each
def test_kl_has_no_gradient_at_old(name):
    dist = DISTS[name]
    old = parameters(dist, 5)
    _, g = value_and_grad(lambda p: ops.sum(dist.kl(old, p)), old)
    np.testing.assert_allclose(g, 0, atol=1e-15)


def fisher_matrix(dist, row):
    return dist.fisher(np.tile(row, (dist.size, 1)), np.eye(dist.size))


@each
def test_fisher_is_the_hessian_of_the_kl(name):
    dist = DISTS[name]
    for row in parameters(dist, 3):
        H = hessian(lambda p, row=row: dist.kl(row, p), row)
        np.testing.assert_allclose(fisher_matrix(dist, row), H, rtol=1e-10, atol=1e-13)
        t = np.random.default_rng(5).standard_normal((6, dist.size))
        np.testing.assert_allclose(dist.fisher(np.tile(row, (6, 1)), t), t @ H, rtol=1e-10, atol=1e-12)


@each_discrete
def test_fisher_is_the_covariance_of_the_score(name):
    dist = DISTS[name]
    actions = all_actions(dist)
    row = np.tile(parameters(dist, 1), (len(actions), 1))
    logp, J = linearize(lambda p: dist.logp(p, actions), row)
    score = J.pull(np.ones_like(logp))
    covariance = np.einsum("a,ai,aj", np.exp(logp), score, score)
    np.testing.assert_allclose(fisher_matrix(dist, row[0]), covariance, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.exp(logp) @ score, 0, atol=1e-14)


def test_fisher_of_the_gaussian_is_the_covariance_of_the_score_by_quadrature():
    dist = DiagGaussian((1,))
    row = np.array([0.3, -0.4])
    nodes, w = np.polynomial.hermite_e.hermegauss(8)  # exact: the score's square is a polynomial of degree 4
    actions = (row[0] + np.exp(row[1]) * nodes)[:, None]
    logp, J = linearize(lambda p: dist.logp(p, actions), np.tile(row, (8, 1)))
    score = J.pull(np.ones(8))
    covariance = np.einsum("a,ai,aj", w / w.sum(), score, score)
    np.testing.assert_allclose(fisher_matrix(dist, row), covariance, rtol=1e-12, atol=1e-13)


@each
def test_fisher_is_symmetric_and_positive(name):
    dist = DISTS[name]
    rank = dist.size - (len(logits_of_parts(dist, np.zeros(dist.size))) if "Categorical" in name else 0)
    for row in parameters(dist, 3) * 3:
        M = fisher_matrix(dist, row)
        np.testing.assert_allclose(M, M.T, atol=1e-15)
        assert np.linalg.eigvalsh(M).min() > -1e-14
        assert np.linalg.matrix_rank(M, tol=1e-9 * M.max()) == rank


@each
def test_fisher_leaves_its_arguments_alone(name):
    dist = DISTS[name]
    params, t = parameters(dist, 3), parameters(dist, 3, seed=4)
    before = params.copy(), t.copy()
    dist.fisher(params, t)
    np.testing.assert_array_equal((params, t), before)


# --- draws --------------------------------------------------------------------------------------------------

@each_discrete
def test_draws_have_the_right_frequencies(name):
    dist, n = DISTS[name], 20_000
    row = parameters(dist, 1)
    actions = draws(dist, np.tile(row, (n, 1)))
    assert actions.shape == (n, *dist.action_shape) and actions.dtype == dist.action_dtype
    everything = all_actions(dist)
    flat, every = actions.reshape(n, -1), everything.reshape(len(everything), -1)
    counts = np.array([(flat == action).all(axis=1).sum() for action in every])
    expected = n * np.exp(dist.logp(np.tile(row, (len(every), 1)), everything))
    assert counts.sum() == n and stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_of_very_many_actions_by_one_number_each(dtype):
    """Their probabilities are far below the 2^-24 that float32 tells apart from 0 in a uniform number."""
    size, n = 3_000_000, 20_000
    dist = WideCategorical(size)
    noise = dist.noise(np.random.default_rng(0), n).astype(dtype)
    assert noise.shape == (n, 2)
    row = np.zeros(size, dtype)
    row[size // 2:] = np.log(3)
    total = np.cumsum(np.exp(row, dtype=np.float64))
    actions = dist.sample(np.broadcast_to(row, (50, size)), noise[:50])
    np.testing.assert_array_equal(
        actions, np.searchsorted(total, (noise[:50].astype(np.float64) @ [1, 2.0**-24]) * total[-1], "right"))
    u = noise.astype(np.float64) @ [1, 2.0**-24]
    assert stats.kstest(u, "uniform").pvalue > 1e-3 and len(np.unique(u)) == n
    assert stats.kstest(noise[:, 1].astype(np.float64), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_impossible_action_is_never_drawn_by_inverse_cdf(dtype):
    dist = WideMultiCategorical((3, 1, 4))
    row = np.array([-np.inf, 0, -np.inf, 0, -np.inf, -1e4, 2, -np.inf], dtype)
    edge = 1 - 2.0**-24
    for coarse, fine in itertools.product((0, 0.5, edge), (0, 0.5, edge)):
        noise = np.repeat([coarse, fine], 3)[None].astype(dtype)
        assert dist.sample(row[None], noise).tolist() == [[1, 0, 2]]


def test_the_largest_of_many_parts_is_that_of_each():
    """Also where numbers are equal: the first counts."""
    sizes = np.random.default_rng(0).integers(1, 6, 50)
    x = np.random.default_rng(1).integers(0, 3, (4, 5, sizes.sum())).astype(float)
    each = [part.argmax(-1) for part in np.split(x, np.cumsum(sizes)[:-1], axis=-1)]
    for dist in (MultiCategorical(sizes), MultiCategorical(sizes[:20])):
        want = np.stack(each[:len(dist.sizes)], axis=-1)
        np.testing.assert_array_equal(dist.settle(x[..., :dist.size]), want)


def test_gaussian_draws():
    dist, n = DISTS["DiagGaussian"], 5000
    row = parameters(dist, 1)
    actions = draws(dist, np.tile(row, (n, 1)))
    assert actions.shape == (n, 2, 2)
    for i, part in enumerate(scipy_parts(dist, row[0])):
        assert stats.kstest(actions.reshape(n, 4)[:, i], part.cdf).pvalue > 1e-3
    correlations = np.corrcoef(actions.reshape(n, 4).T) - np.eye(4)
    assert np.abs(correlations).max() < 4 / np.sqrt(n)


@each
def test_noise_is_reproducible_and_drawn_for_a_whole_segment_at_once(name):
    dist = DISTS[name]
    noise = dist.noise(np.random.default_rng(3), 5, 2)
    assert noise.shape[:2] == (5, 2) and noise.ndim == 3 and np.isfinite(noise).all()
    np.testing.assert_array_equal(noise, dist.noise(np.random.default_rng(3), 5, 2))
    params = parameters(dist, 5, 2)
    together = dist.sample(params, noise)
    assert together.shape == (5, 2, *dist.action_shape)
    for t in range(5):
        np.testing.assert_array_equal(together[t], dist.sample(params[t], noise[t]))
    assert len(np.unique(noise)) == noise.size


@each
def test_the_global_generator_is_not_touched(name):
    before = np.random.get_state()[1].copy()
    draws(DISTS[name], parameters(DISTS[name], 3))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


# --- numbers ------------------------------------------------------------------------------------------------

@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_parameters_stay_finite(name, dtype):
    dist = DISTS[name]
    old, new = (np.where(parameters(dist, 6, seed=s) > 0, 1e4, -1e4).astype(dtype) for s in (0, 1))
    if name not in DISCRETE:
        for params in (old, new):
            params[:, 4:] = np.sign(params[:, 4:]) * 11 - 9  # -20 or 2, the bounds of log_std
    actions = dist.mode(new)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for fun in (lambda p: dist.logp(p, actions), lambda p: dist.kl(old, p), dist.entropy):
            for at in (old, new):
                y, J = linearize(fun, at)
                assert y.dtype == dtype and np.isfinite(y).all()
                assert np.isfinite(J.pull(np.ones_like(y))).all()
        assert np.isfinite(dist.fisher(old, new)).all()
        assert (dist.kl(old, new) > -1e-6).all()  # 0 up to rounding, where the rows are equal


@each
def test_float32_in_float32_out(name):
    dist = DISTS[name]
    params, new = parameters(dist, 3, dtype="float32"), parameters(dist, 3, seed=1, dtype="float32")
    noise = dist.noise(np.random.default_rng(0), 3).astype(np.float32)
    actions = dist.sample(params, noise)
    assert actions.dtype == (dist.action_dtype or np.float32)
    fisher, logp = dist.fisher(params, new), dist.logp(params, actions)
    for y in (fisher, logp, dist.kl(params, new), dist.entropy(params)):
        assert y.dtype == np.float32
    exact = dist.fisher(params.astype(np.float64), new.astype(np.float64))
    np.testing.assert_allclose(fisher, exact, rtol=1e-5, atol=1e-6)


@each
def test_one_row_without_a_batch(name):
    dist = DISTS[name]
    params = parameters(dist, 2)
    action = draws(dist, params)
    np.testing.assert_allclose(dist.logp(params[0], action[0]), dist.logp(params, action)[0], rtol=1e-14)
    np.testing.assert_array_equal(dist.mode(params[0]), dist.mode(params)[0])
    assert np.shape(dist.entropy(params[0])) == () == np.shape(dist.kl(params[0], params[1]))
    v = np.random.default_rng(0).standard_normal(dist.size)
    np.testing.assert_allclose(complex_step(lambda p: dist.entropy(p), [params[0]], [v]),
                               linearize(dist.entropy, params[0])[1].push(v), rtol=1e-10)


@pytest.mark.parametrize("dist", [Categorical(3), WideCategorical(3), Bernoulli(()), DiagGaussian(())])
def test_one_number_without_a_batch(dist):
    params = parameters(dist)
    action = dist.sample(params, dist.noise(np.random.default_rng(0)))
    assert np.shape(action) == np.shape(dist.mode(params)) == () == np.shape(dist.logp(params, action))
    for part in dist.summary(params) if isinstance(dist, DiagGaussian) else []:
        assert np.shape(part) == ()
    assert not isinstance(dist, Bernoulli) or np.shape(dist.summary(params)) == ()


# --- from a network's outputs to a draw ---------------------------------------------------------------------

def outputs_and_own(dist, n=50):
    rng = np.random.default_rng(3)
    weights = {name: rng.standard_normal(weight.shape) for name, weight in dist.weights().items()}
    return rng.standard_normal((n, dist.outputs)), weights


@each_additive
def test_parameters_are_made_of_outputs_and_own_weights(name):
    dist = DISTS[name]
    outputs, own = outputs_and_own(dist)
    params = dist.parameters(outputs, own)
    assert params.shape == (50, dist.size) == (50, dist.outputs + sum(w.size for w in own.values()))
    np.testing.assert_array_equal(dist.location(params), outputs)
    for key in own:
        check_linear(lambda w: dist.parameters(outputs, own | {key: w}), own[key])
    check_linear(lambda x: dist.parameters(x, own), outputs)


@each_additive
def test_a_draw_of_outputs_is_a_draw_of_parameters(name):
    """The fast path draws from outputs, without rows of parameters."""
    dist = DISTS[name]
    outputs, own = outputs_and_own(dist)
    noise = dist.noise(np.random.default_rng(4), len(outputs))
    params = dist.parameters(outputs, own)
    settled = dist.settle(outputs + dist.spread(own) * noise)
    np.testing.assert_array_equal(settled, dist.sample(params, noise))
    np.testing.assert_array_equal(dist.settle(outputs), dist.mode(params))
    assert settled.shape == (50, *dist.action_shape)
    assert dist.additive == {"Categorical": "largest", "DiagGaussian": "reshape"}.get(name, "settle")


def test_bounds_of_own_weights():
    gaussian, own = DISTS["DiagGaussian"], {"log_std": np.array([-100.0, 100, 0, 1])}
    gaussian.bound(own)
    assert own["log_std"].tolist() == [-20, 2, 0, 1]
    DISTS["Categorical"].bound({})
    assert DISTS["Categorical"].weights() == {}


def test_log_std_starts_where_it_is_told():
    weight = DiagGaussian((3,), -0.5).weights()["log_std"]
    assert weight.shape == (3,) and weight.draw(None, weight.shape).tolist() == [-0.5] * 3
