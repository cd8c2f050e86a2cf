"""Solvers against NumPy's own, and what they do with bad input."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from trpo_np.optim import Adam, Found, conjugate_gradient, dot, line_search


def spd(n, seed=0, condition=10.0):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (Q * np.geomspace(1, condition, n)) @ Q.T, rng.standard_normal(n)


# --- conjugate gradient -------------------------------------------------------------------------------------

@given(st.integers(1, 12), st.integers(0, 10**6))
def test_cg_solves_in_as_many_products_as_dimensions(n, seed):
    A, b = spd(n, seed)
    x, products = conjugate_gradient(lambda p: A @ p, b, iters=n, tol=0.0)
    np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=1e-8, atol=1e-9)
    assert products <= n


def test_cg_needs_one_product_for_each_different_eigenvalue():
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 9)))[0]
    A, b = (Q * np.array([1, 1, 1, 4, 4, 4, 9, 9, 9])) @ Q.T, np.ones(9)
    x, products = conjugate_gradient(lambda p: A @ p, b, iters=9)
    np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=1e-10)
    assert products == 3


def test_cg_minimises_over_the_krylov_space():
    """The method's definition: after k products x is the best of span(b, Ab, ..., A^(k-1) b) in A's norm."""
    A, b = spd(8, condition=1e3)
    for k in range(1, 6):
        K = np.stack([np.linalg.matrix_power(A, i) @ b for i in range(k)], axis=1)
        K /= np.linalg.norm(K, axis=0)
        best = K @ np.linalg.lstsq(K.T @ A @ K, K.T @ b, rcond=None)[0]
        np.testing.assert_allclose(conjugate_gradient(lambda p: A @ p, b, iters=k, tol=0.0)[0], best,
                                   rtol=1e-6, atol=1e-8)


def test_cg_stops_at_the_tolerance():
    A, b = spd(50, condition=100)
    used = []
    for tol in (1e-2, 1e-6, 1e-10):
        x, products = conjugate_gradient(lambda p: A @ p, b, iters=50, tol=tol)
        assert dot(b - A @ x, b - A @ x) <= 1.01 * tol * dot(b, b)
        before, _ = conjugate_gradient(lambda p: A @ p, b, iters=products - 1, tol=0.0)
        assert dot(b - A @ before, b - A @ before) > tol * dot(b, b)  # and not later than it must
        used.append(products)
    assert used == sorted(set(used)) and used[-1] < 50


def counting(A):
    calls = []
    return (lambda p: calls.append(1) or A @ p), calls


def test_cg_reports_the_products_it_used():
    A, b = spd(20, condition=1e4)
    product, calls = counting(A)
    assert conjugate_gradient(product, b, iters=7)[1] == len(calls) == 7


def test_cg_of_nothing_is_nothing():
    product, calls = counting(np.eye(4))
    x, products = conjugate_gradient(product, np.zeros(4))
    assert not x.any() and products == 0 == len(calls)


@pytest.mark.parametrize("A", [np.zeros((3, 3)), -np.eye(3), np.full((3, 3), np.nan)],
                         ids=["zero", "negative", "nan"])
def test_cg_stops_on_a_direction_without_curvature(A):
    product, calls = counting(A)
    x, products = conjugate_gradient(product, np.ones(3))
    assert not x.any() and products == 1 == len(calls)


def test_cg_keeps_what_it_has_when_curvature_ends():
    A, b = np.diag([2.0, 1.0, -1.0]), np.array([1.0, 1.0, 0.1])
    x, products = conjugate_gradient(lambda p: A @ p, b, iters=10)
    assert np.isfinite(x).all() and x.any() and products < 10
    good = [conjugate_gradient(lambda p: A @ p, b, iters=k)[0] for k in range(1, 10)]
    assert any((x == g).all() for g in good)


def test_cg_survives_a_product_that_turns_bad():
    A, b = spd(6, condition=1e3)
    for bad in (np.nan, np.inf):
        calls = []

        def product(p, bad=bad, calls=calls):
            calls.append(1)
            return A @ p if len(calls) < 3 else np.full(6, bad)
        with np.errstate(all="ignore"):
            x, _ = conjugate_gradient(product, b, iters=10)
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x, conjugate_gradient(lambda p: A @ p, b, iters=2)[0])


def test_cg_with_a_nan_in_b():
    assert not conjugate_gradient(lambda p: p, np.array([1.0, np.nan]))[0].any()


def test_cg_on_a_singular_matrix_solves_what_can_be_solved():
    A = np.diag([1.0, 2.0, 3.0, 0.0])
    x, _ = conjugate_gradient(lambda p: A @ p, np.array([1.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(x, [1, 0.5, 1 / 3, 0], rtol=1e-10)


def test_cg_in_float32_keeps_its_type_and_its_arguments():
    A, b = (a.astype(np.float32) for a in spd(10))
    before = b.copy()
    x, _ = conjugate_gradient(lambda p: A @ p, b, iters=10)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(b, before)
    np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=1e-3, atol=1e-5)


def test_dot_accumulates_in_float64():
    a = np.full(10**6, 0.1, np.float32)
    np.testing.assert_allclose(dot(a, a), 10**6 * float(np.float32(0.1)) ** 2, rtol=1e-12)


# --- line search --------------------------------------------------------------------------------------------

def recorder(good):
    points = []

    def evaluate(x):
        points.append(x)
        return len(points), float(x[0])
    return points, evaluate, good


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_line_search_restores_the_very_array(dtype):
    x, step = np.array([0.1, 1 / 3], dtype), np.array([1.0, 1e10], dtype)
    before = x.tobytes()
    points, evaluate, never = recorder(lambda i, first: False)
    found = line_search(evaluate, never, x, step, steps=4)
    assert found.x is x and x.tobytes() == before and found.fraction == 0.0
    assert found.result == (4, points[-1][0]) and len(points) == 4


def test_line_search_halves():
    x, step = np.array([1.0, 2.0]), np.array([8.0, -8.0])
    points, evaluate, never = recorder(lambda *_: False)
    line_search(evaluate, never, x, step, steps=5)
    np.testing.assert_array_equal(points, [x + step * 0.5**i for i in range(5)])
    points, evaluate, never = recorder(lambda *_: False)
    line_search(evaluate, never, x, step, steps=3, shrink=0.1)
    np.testing.assert_allclose(points, [x + step * 0.1**i for i in range(3)], rtol=1e-15)


@pytest.mark.parametrize("k", range(4))
def test_line_search_takes_the_first_acceptable_point(k):
    x, step = np.zeros(2), np.array([1.0, -1.0])
    points, evaluate, good = recorder(lambda i, first: i >= k + 1)
    found = line_search(evaluate, good, x, step)
    assert isinstance(found, Found) and found.x is points[k] and len(points) == k + 1
    assert found.fraction == 0.5**k and found.result == (k + 1, 0.5**k)
    np.testing.assert_array_equal(found.x, step * 0.5**k)
    assert not x.any() and not np.shares_memory(found.x, x)


def test_line_search_keeps_float32():
    points, evaluate, good = recorder(lambda *_: True)
    assert line_search(evaluate, good, np.ones(2, np.float32), np.ones(2, np.float32)).x.dtype == np.float32


def test_line_search_of_no_steps():
    x = np.ones(2)
    assert line_search(None, None, x, x, steps=0) == (x, (), 0.0)


# --- Adam ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, tol", [("float64", 1e-12), ("float32", 2e-6)])
def test_adam_is_the_textbook_one(dtype, tol):
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(5), rng.standard_normal((30, 5)) * np.array([1, 1e-6, 1e3, 0, 1])
    x, adam = start.astype(dtype), Adam(5, dtype)
    same = x
    for g in gradients:
        adam.step(x, g.astype(dtype), 0.01)
    assert same is x and x.dtype == adam.m.dtype == adam.v.dtype == dtype and adam.t == 30
    np.testing.assert_allclose(x, reference.adam(start, gradients, 0.01), rtol=tol, atol=tol)
    assert x[3] == start.astype(dtype)[3]  # no gradient, no step


def test_adam_with_other_constants():
    rng = np.random.default_rng(1)
    start, gradients = rng.standard_normal(3), rng.standard_normal((10, 3))
    x, adam = start.copy(), Adam(3, "float64", beta1=0.5, beta2=0.7, epsilon=1e-3)
    for g in gradients:
        adam.step(x, g, 0.1)
    np.testing.assert_allclose(x, reference.adam(start, gradients, 0.1, 0.5, 0.7, 1e-3), rtol=1e-12)


def test_first_adam_step_has_the_stepsize_against_the_gradient():
    x = np.zeros(3)
    Adam(3, "float64").step(x, np.array([5.0, -1e-2, 100.0]), 0.1)
    np.testing.assert_allclose(x, [-0.1, 0.1, -0.1], rtol=1e-4)


def test_adam_leaves_the_gradient_alone_and_minimises():
    x, adam = np.array([3.0, -2.0]), Adam(2, "float64")
    for _ in range(2000):
        g = 2 * (x - [1.0, 1.0])
        copy = g.copy()
        adam.step(x, g, 0.01)
        np.testing.assert_array_equal(g, copy)
    np.testing.assert_allclose(x, 1, atol=1e-3)
