"""One line an op: value as NumPy's, push and pull by complex step and adjoint identity, float32 stays
float32."""

import warnings

import numpy as np
import pytest
from checks import check_linear

from trpo_np import ops
from trpo_np.autodiff import linearize

rng = np.random.default_rng(0)


def r(*shape):
    return rng.standard_normal(shape)


def p(*shape):
    return rng.uniform(0.5, 2.0, shape)


INDEX = rng.integers(0, 4, (3, 2))
CASES = {
    "exp": (ops.exp, r(3, 2)), "expm1": (ops.expm1, r(3)), "log": (ops.log, p(3, 2)),
    "log1p": (ops.log1p, p(2)),
    "sin": (ops.sin, r(3)), "cos": (ops.cos, r(3)), "sqrt": (ops.sqrt, p(3)), "square": (ops.square, r(2, 3)),
    "tanh": (ops.tanh, r(3, 4)), "sigmoid": (ops.sigmoid, r(3, 4)), "softplus": (ops.softplus, 5 * r(7)),
    "relu": (ops.relu, r(5, 5)), "elu": (ops.elu, r(5, 5)), "abs": (ops.abs, r(7)),
    "add": (ops.add, r(3, 2), r(3, 2)), "add broadcast": (ops.add, r(3, 2), r(2)),
    "add column": (ops.add, r(3, 1), r(2)), "add one": (ops.add, r(3, 2), r(1)),
    "subtract": (ops.subtract, r(2), r(3, 2)), "multiply": (ops.multiply, r(3, 2), r(3, 1)),
    "divide": (ops.divide, r(3, 2), p(2)),
    "negative": (ops.negative, r(3)), "power": (lambda x: ops.power(x, 3), r(3)),
    "where": (lambda a, b: ops.where(np.array([True, False, True]), a, b), r(2, 3), r(3)),
    "maximum": (ops.maximum, r(4, 3), r(3)), "minimum": (ops.minimum, r(4, 3), r(4, 1)),
    "clip": (lambda x: ops.clip(x, -0.5, 0.7), r(20)),
    "matmul": (ops.matmul, r(5, 3), r(3, 2)), "matmul batch": (ops.matmul, r(4, 5, 3), r(3, 2)),
    "matmul vector": (ops.matmul, r(3), r(3, 2)), "matmul x": (lambda x: x @ CONSTANT, r(4, 3)),
    "matmul w": (lambda w: CONSTANT.T @ w, r(3, 2)),
    "affine": (ops.affine, r(5, 3), r(3, 2), r(2)), "affine batch": (ops.affine, r(4, 5, 3), r(3, 2), r(2)),
    "affine x": (lambda x: ops.affine(x, CONSTANT, CONSTANT[0]), r(2, 3)),
    "affine w": (lambda w: ops.affine(CONSTANT, w, CONSTANT[0]), r(3, 3)),
    "affine b": (lambda b: ops.affine(CONSTANT, CONSTANT, b), r(3)),
    "affine x and b": (lambda x, b: ops.affine(x, CONSTANT, b), r(2, 3), r(3)),
    "transpose": (ops.transpose, r(2, 3)),
    "transpose axes": (lambda x: ops.transpose(x, (2, 0, 1)), r(2, 3, 4)),
    "transpose axes from the end": (lambda x: ops.transpose(x, (-1, 0, -2)), r(2, 3, 4)),
    "reshape": (lambda x: ops.reshape(x, (3, -1)), r(2, 3, 4)),
    "expand_dims": (lambda x: ops.expand_dims(x, 1), r(2, 3)),
    "broadcast_to": (lambda x: ops.broadcast_to(x, (4, 3)), r(3)),
    "getitem slice": (lambda x: x[1:, ::2], r(3, 4)), "getitem row": (lambda x: x[..., 0], r(3, 2)),
    "getitem new axis": (lambda x: x[None, 1], r(3, 2)),
    "getitem mask": (lambda x: x[np.array([True, False])], r(2, 3)),
    "getitem repeated": (lambda x: x[np.array([0, 0, 2])], r(3, 2)),
    "take_along_axis": (lambda x: ops.take_along_axis(x, INDEX, -1), r(3, 4)),
    "take_along_axis repeated": (lambda x: ops.take_along_axis(x, 0 * INDEX, 0), r(3, 2)),
    "take_along_axis for all rows": (lambda x: ops.take_along_axis(x, INDEX[:1], -1), r(3, 4)),
    "take_along_axis of one row": (lambda x: ops.take_along_axis(x, INDEX, -1), r(1, 4)),
    "take_along_axis of none": (lambda x: ops.take_along_axis(x, INDEX[:0], -1), r(0, 4)),
    "concatenate": (lambda a, b: ops.concatenate([a, b], -1), r(2, 3), r(2, 1)),
    "concatenate constant": (lambda a: ops.concatenate([a, np.ones((2, 2)), a], 1), r(2, 3)),
    "stack": (lambda a, b: ops.stack([a, b], 1), r(2, 3), r(2, 3)),
    "sum_rows": (lambda w: ops.sum_rows(INDEX, w), r(4, 3)),
    "sum_rows of one": (lambda w: ops.sum_rows(INDEX[:, :1], w), r(4, 3)),
    "sum_rows batch": (lambda w: ops.sum_rows(np.stack([INDEX, INDEX]), w), r(5, 2)),
    "sum_rows of none": (lambda w: ops.sum_rows(INDEX[:0], w), r(4, 3)),
    "sum_parts": (lambda x: ops.sum_parts(x, np.array([2, 5])), r(3, 7)),
    "sum_parts of many": (lambda x: ops.sum_parts(x, np.array([1, 3, 2, 1])), r(2, 7)),
    "sum_parts vector": (lambda x: ops.sum_parts(x, np.array([1, 2, 1])), r(4)),
    "repeat_parts": (lambda x: ops.repeat_parts(x, np.array([1, 3, 2])), r(2, 3)),
    "sum": (ops.sum, r(2, 3)), "sum axis": (lambda x: ops.sum(x, axis=1), r(2, 3)),
    "sum keep": (lambda x: ops.sum(x, axis=0, keepdims=True), r(2, 3)),
    "mean": (ops.mean, r(2, 3)), "mean axis": (lambda x: ops.mean(x, axis=(0, 2)), r(2, 3, 2)),
    "var": (lambda x: ops.var(x, axis=-1, keepdims=True), r(2, 5)),
    "logsumexp": (ops.logsumexp, r(2, 3)), "log_softmax": (ops.log_softmax, r(2, 3)),
    "softmax": (ops.softmax, r(2, 3)),
    "operators": (lambda a, b: (2 - a) / (1 + b) ** 2 * -a + (3 * a - 1) @ CONSTANT, r(4, 3), p(4, 3)),
}
CONSTANT = rng.standard_normal((3, 3))


@pytest.mark.parametrize("name", CASES)
def test_derivative(name):
    fun, *xs = CASES[name]
    check_linear(fun, *xs)


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name):
    fun, *xs = CASES[name]
    xs = [x.astype(np.float32) for x in xs]
    if name == "concatenate constant":
        fun = lambda a: ops.concatenate([a, np.ones((2, 2), np.float32), a], 1)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "CONSTANT", CONSTANT.astype(np.float32))
        y, J = linearize(fun, *xs)
    assert y.dtype == np.float32
    assert J.push(*xs).dtype == np.float32
    gs = J.pull(y)
    assert all(g.dtype == np.float32 for g in (gs if len(xs) > 1 else [gs]))


@pytest.mark.parametrize("name, x", [
    ("exp", r(3)), ("tanh", r(3)), ("sum", r(3, 2)), ("mean", r(3, 2)), ("var", r(3)), ("abs", r(4)),
    ("sqrt", p(3)), ("log1p", p(3)), ("expm1", p(3)), ("square", r(3)), ("transpose", r(2, 3))])
def test_numpy_names_mean_what_numpy_means(name, x):
    np.testing.assert_allclose(getattr(ops, name)(x), getattr(np, name)(x), rtol=1e-14)


def test_plain_arrays_stay_plain():
    assert type(ops.tanh(r(3)) + 1) is np.ndarray and ops.softmax(r(2, 3)).shape == (2, 3)


def test_extremes_stay_finite():
    big = np.array([-1e4, -50.0, 0.0, 50.0, 1e4])
    for op in (ops.sigmoid, ops.softplus, ops.elu, ops.log_softmax, ops.softmax, ops.logsumexp):
        with np.errstate(over="raise", invalid="raise"):
            y, J = linearize(op, big)
            assert np.isfinite(y).all() and np.isfinite(J.pull(np.ones_like(y))).all()


def test_nan_is_not_hidden():
    x = np.array([np.nan, 1.0, -1.0])
    for found in (ops.relu(x), ops.maximum(x, 0.0), ops.maximum(0.0, x), ops.minimum(x, 0.0),
                  ops.minimum(0.0, x)):
        assert np.isnan(found).tolist() == [True, False, False]


def test_every_op_is_offered():
    assert all(hasattr(ops, name) for name in ops.__all__)


def test_a_product_with_one_column_does_not_warn_of_invalid_numbers():
    """BLAS may say so of numbers that are not; of several columns it is to be believed."""
    x, b = np.full((6, 5), np.inf, np.float32), np.zeros(1, np.float32)
    for columns in (1, 2):
        w = np.zeros((5, columns), np.float32)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert np.isnan(ops.affine(x, w, np.repeat(b, columns))).all()
        assert len(caught) == columns - 1


def test_sums_and_maxima_along_short_rows_are_numpys():
    rng = np.random.default_rng(0)
    for shape in [(5, 3), (5, 1), (0, 3), (3, 16), (3, 17), (2, 3, 4)]:
        x = rng.standard_normal(shape)
        for axis in (None, 0, 1, -1):
            for keepdims in (False, True):
                how = dict(axis=axis, keepdims=keepdims)
                np.testing.assert_allclose(ops.sum(x, **how), np.sum(x, **how))
    x[0, 0, 0], y = np.nan, np.array([[1.0, np.nan], [2.0, 1.0]])
    assert np.isnan(ops.logsumexp(y)).tolist() == [True, False] and np.isnan(ops.sum(x))


def test_what_numpy_does_by_default_is_done_by_default():
    a, b = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    np.testing.assert_array_equal(ops.concatenate([a, b]), np.concatenate([a, b]))
    np.testing.assert_array_equal(ops.stack([a, b]), np.stack([a, b]))
    np.testing.assert_array_equal(ops.clip(np.array([1, 5, 9]), 1.5, 7.5), [1.5, 5, 7.5])
    assert ops.mean([1, 2]) == 1.5 and ops.clip([3, 4], 0, 1).tolist() == [1, 1]


@pytest.mark.parametrize("how", [dict(axis=0), dict(axis=-1), dict(axis=(0, 2)), dict(axis=1, keepdims=True)])
def test_an_axis_means_what_it_means_to_numpy(how):
    x = r(2, 3, 4)
    for name in ("sum", "mean", "var"):
        np.testing.assert_allclose(getattr(ops, name)(x, **how), getattr(np, name)(x, **how), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_arrays_are_joined_along_the_axis_that_numpy_would_take(axis):
    a, b = r(2, 3), r(2, 3)
    np.testing.assert_array_equal(ops.stack([a, b], axis), np.stack([a, b], axis))
    a, b = r(2, 3, 4), r(2, 3, 4)
    np.testing.assert_array_equal(ops.concatenate([a, b], axis), np.concatenate([a, b], axis))


def test_where_two_are_equal_the_first_takes_the_derivative():
    x = np.ones(2)
    for op in (ops.maximum, ops.minimum):
        a, b = linearize(op, x, x)[1].pull(np.array([2.0, 3.0]))
        assert a.tolist() == [2, 3] and b.tolist() == [0, 0]


def test_a_power_has_a_derivative_at_zero():
    x = np.array([0.0, 2.0, -1.0], np.float32)
    powers = np.array([0, 1, 2], np.float32)
    for c, expected in [(0, [0, 0, 0]), (1, [1, 1, 1]), (2, [0, 4, -2]), (powers, [0, 1, -2])]:
        _, J = linearize(lambda x, c=c: x**c, x)
        assert J.push(np.ones(3, np.float32)).tolist() == expected
