"""tanh, discounted sums and Adam's step: loop, compiled loop and NumPy twin agree, and are what mathematics
says."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import SHAPES, bodies, body, check_agreement, check_nan, kernels_of, with_nan

from trpo_np.kernels import scalar


def sum_cases(rng):
    return [(rng.standard_normal(shape), (rng.random(shape) < 0.3).astype(float), decay)
            for shape in SHAPES for decay in (0.0, 0.95, 1.0)]


def adam_cases(rng):
    return [(*rng.standard_normal((2, n)).astype(np.float32), *rng.uniform(0, 1, (2, n)).astype(np.float32),
             *np.array([0.1, 0.001, 1e-8, 0.02], np.float32)) for n in (5, 1, 7, 0)]


# each kernel's cases, the tolerance (sums may be associated differently), and the argument through which a
# NaN may come in
TABLE = {scalar.discounted_sum: (sum_cases, dict(rtol=1e-13), 0),
         scalar.adam: (adam_cases, dict(rtol=1e-6), 3)}
each_kernel = pytest.mark.parametrize("kernel", TABLE, ids=lambda kernel: kernel.__name__)


def each_body(kernel):
    return pytest.mark.parametrize("name", bodies(kernel))


def test_all_kernels_are_here():
    assert TABLE.keys() == kernels_of(scalar)


@each_kernel
def test_bodies_agree(kernel, rng):
    cases, close, _ = TABLE[kernel]
    check_agreement(kernel, cases(rng), **close)


@each_kernel
def test_nan_stays_nan_where_it_is(kernel, rng):
    cases, _, position = TABLE[kernel]
    check_nan(kernel, with_nan(cases(rng), position))


def test_without_compilation_a_kernel_is_its_twin(plain_kernels):
    delta, cut, decay = np.linspace(-3, 3, 12).reshape(3, 4), np.zeros((3, 4)), 0.9
    expected = scalar.discounted_sum.plain(delta, cut, decay)
    np.testing.assert_array_equal(scalar.discounted_sum(delta, cut, decay), expected)


def tanh(x):
    """What loops compute, number by number."""
    return np.array([scalar.tanh1(v) for v in np.asarray(x, np.float32)])


def test_tanh_over_all_its_range():
    x = np.concatenate([np.linspace(-12, 12, 2001), np.logspace(-38, 0, 200), [0.0, 1e30, np.inf, -np.inf]])
    y = tanh(x)
    assert np.abs(y - np.tanh(x.astype(np.float32).astype(np.float64))).max() < 3e-7
    assert (np.abs(y) <= 1).all()  # else 1 - y^2, the derivative, would be negative
    np.testing.assert_array_equal(y, -tanh(-x))


def test_tanh_of_what_is_not_finite():
    y = tanh([np.nan, np.inf, -np.inf, 0.0])
    assert np.isnan(y[0]) and y[3] == 0
    np.testing.assert_allclose(y[1:3], [1, -1], atol=3e-7)


@each_body(scalar.discounted_sum)
@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 3), st.floats(0, 1), st.floats(0, 1))
def test_discounted_sum_is_the_quadratic_sum(name, seed, steps, n, decay, often):
    rng = np.random.default_rng(seed)
    delta, cut = rng.standard_normal((steps, n)), (rng.random((steps, n)) < often).astype(float)
    found = body(scalar.discounted_sum, name)(delta, cut, decay)
    np.testing.assert_allclose(found, reference.discounted_sum(delta, cut, decay), rtol=1e-12, atol=1e-12)


@each_body(scalar.discounted_sum)
def test_discounted_sum_of_td_errors_is_gae(name):
    rng = np.random.default_rng(1)
    steps, n, gamma, lam = 20, 4, 0.9, 0.8
    rewards, values, final = rng.standard_normal((3, steps, n))
    terminated, truncated = rng.random((2, steps, n)) < 0.15
    assert (terminated & truncated).any() and (terminated ^ truncated).any()
    last = rng.standard_normal(n)
    following = np.concatenate([values[1:], last[None]])
    after = np.where(terminated, 0, np.where(truncated, final, following))
    done = (terminated | truncated).astype(float)
    found = body(scalar.discounted_sum, name)(rewards + gamma * after - values, done, gamma * lam)
    right = reference.gae(rewards, values, last, final, terminated, truncated, gamma, lam)
    np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-12)


@each_body(scalar.discounted_sum)
def test_columns_do_not_see_each_other(name):
    discounted_sum = body(scalar.discounted_sum, name)
    delta, cut = np.random.default_rng(2).standard_normal((2, 6, 3))
    whole = discounted_sum(delta, cut, 0.9)
    for i in range(3):
        one = discounted_sum(delta[:, i:i + 1].copy(), cut[:, i:i + 1].copy(), 0.9)
        np.testing.assert_allclose(one[:, 0], whole[:, i])


@each_body(scalar.adam)
def test_adam_is_the_papers_step(name):
    """Kingma and Ba's algorithm 1, its factors written as optim.Adam gives them: 1 - beta1, 1 - beta2."""
    rng = np.random.default_rng(0)
    x, m, g = rng.standard_normal((3, 4))
    v, betas, epsilon, rate = rng.uniform(0, 1, 4), (0.9, 0.999), 0.1, 0.02
    arrays = [one.astype(np.float32) for one in (x, m, v, g)]
    factors = np.array([1 - betas[0], 1 - betas[1], epsilon, rate], np.float32)
    found = body(scalar.adam, name)(*arrays, *factors)
    m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
    np.testing.assert_allclose(found, [x - rate * m / (np.sqrt(v) + epsilon), m, v], rtol=1e-5, atol=1e-6)
