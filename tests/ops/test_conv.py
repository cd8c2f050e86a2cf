"""Convolution against a loop over single numbers; its derivatives against the complex step and the adjoint
identity."""

import numpy as np
import pytest
import reference
from checks import check_linear

from trpo_np import nn, ops
from trpo_np.autodiff import linearize
from trpo_np.ops import conv
from trpo_np.ops.conv import conv2d, windows
from trpo_np.policies import frames

# images, kernel, stride, padding: windows of twice the stride go through Blocks, all others through Pieces
CASES = {
    "blocks": ((3, 9, 8, 2), (4, 4), (2, 2), "valid"),
    "blocks, uneven": ((2, 11, 13, 3), (4, 2), (2, 1), "valid"),
    "blocks, one": ((2, 4, 4, 1), (4, 4), (2, 2), "valid"),
    "blocks, same": ((2, 7, 9, 2), (4, 4), (2, 2), "same"),
    "3 x 3": ((2, 6, 7, 3), (3, 3), (1, 1), "valid"), "same": ((2, 8, 5, 2), (3, 2), (2, 3), "same"),
    "same, uneven": ((2, 8, 9, 2), (5, 3), (1, 2), "same"),
    "twice the stride in height alone": ((2, 9, 8, 2), (4, 3), (2, 2), "valid"),
    "gaps": ((2, 9, 9, 1), (2, 2), (3, 4), "valid"), "1 x 1": ((2, 3, 3, 2), (1, 1), (1, 1), "same"),
}
each_case = pytest.mark.parametrize("case", CASES)


def arrays(case, dtype=np.float64, out=5):
    shape, size, stride, padding = CASES[case]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(one) for one in (shape, (*size, shape[3], out), out)]
    return [a.astype(dtype) for a in arrays], dict(stride=stride, padding=padding)


def close(a, b, tol):
    np.testing.assert_allclose(a, b, rtol=tol, atol=tol * np.abs(b).max(initial=1e-30))


@each_case
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-13), (np.float32, 3e-6)])
def test_it_is_the_loop(case, dtype, tol):
    (x, w, b), how = arrays(case, dtype)
    expected = reference.conv2d(x.astype(float), w, b, **how)
    y = conv2d(x, w, b, **how)
    assert y.dtype == dtype and y.flags.c_contiguous
    close(y, expected, tol)
    close(conv2d(x, w, b, relu=True, **how), np.maximum(expected, 0), tol)


@each_case
@pytest.mark.parametrize("relu", [False, True])
def test_derivatives(case, relu):
    (x, w, b), how = arrays(case)
    check_linear(lambda x, w, b: conv2d(x, w, b, relu=relu, **how), x, w, b)
    # the first layer: no tangent of its input
    check_linear(lambda w, b: conv2d(x, w, b, relu=relu, **how), w, b)
    for one in (lambda x: conv2d(x, w, b, relu=relu, **how), lambda w: conv2d(x, w, b, relu=relu, **how),
                lambda b: conv2d(x, w, b, relu=relu, **how)):
        check_linear(one, dict(zip("xwb", (x, w, b)))[one.__code__.co_varnames[0]])


@each_case
def test_float32_derivatives_are_the_float64_ones_to_rounding(case):
    results = []
    for dtype in (np.float64, np.float32):
        args, how = arrays(case, dtype)
        y, J = linearize(lambda x, w, b: conv2d(x, w, b, relu=True, **how), *args)
        found = [J.push(*[np.cos(a) for a in args]), *J.pull(np.sin(y))]
        assert all(a.dtype == dtype for a in found)
        results.append(found)
    for high, low in zip(*results):
        close(low, high, 1e-5)


@each_case
def test_bytes_are_shares_of_255(case):
    (_, w, b), how = arrays(case, np.float32)
    x = np.random.default_rng(1).integers(0, 256, CASES[case][0], dtype=np.uint8)
    close(conv2d(x, w, b, **how), reference.conv2d(x, w, b, **how), 3e-6)
    _, J = linearize(lambda w, b: conv2d(x, w, b, **how), w, b)
    _, K = linearize(lambda w, b: conv2d((x / 255).astype(np.float32), w, b, **how), w, b)
    g = np.random.default_rng(2).standard_normal(conv2d(x, w, b, **how).shape).astype(np.float32)
    close(J.push(w, b), K.push(w, b), 1e-5)
    for from_bytes, from_floats in zip(J.pull(g), K.pull(g)):
        close(from_bytes, from_floats, 1e-5)


@each_case
@pytest.mark.parametrize("at_once", [1, 2])
def test_however_the_samples_are_cut(case, at_once, monkeypatch):
    (x, w, b), how = arrays(case)
    x = np.concatenate([x] * 3)[:5]
    y, J = linearize(lambda x, w, b: conv2d(x, w, b, relu=True, **how), x, w, b)
    found = [y, J.push(x, w, b), *J.pull(y)]
    one = conv._pieces(x, w, **how)
    monkeypatch.setattr(conv, "CHUNK", at_once * one.count * one.width * 2 * x.itemsize)  # of x and w
    y, J = linearize(lambda x, w, b: conv2d(x, w, b, relu=True, **how), x, w, b)
    for whole, cut in zip(found, [y, J.push(x, w, b), *J.pull(y)]):
        close(whole, cut, 1e-12)


@each_case
def test_no_samples(case):
    (x, w, b), how = arrays(case)
    y, J = linearize(lambda w, b: conv2d(x[:0], w, b, **how), w, b)
    assert y.shape[0] == 0 and J.push(w, b).shape == y.shape
    dw, db = J.pull(y)
    assert not dw.any() and dw.shape == w.shape and not db.any()


def test_memory_of_any_order(rng):
    planes = rng.integers(0, 256, (3, 4, 9, 8), dtype=np.uint8)
    w, b = rng.standard_normal((4, 4, 4, 2)).astype(np.float32), np.ones(2, np.float32)
    x = np.moveaxis(planes, 1, 3)
    expected = conv2d(np.ascontiguousarray(x), w, b, stride=2)
    stored = frames.Frames(planes.reshape(12, 9, 8), np.arange(12).reshape(3, 4))
    for same in (x, x.copy("F"), stored):
        np.testing.assert_array_equal(conv2d(same, w, b, stride=2), expected)


def test_equal_to_a_dense_layer_where_the_window_is_the_image(rng):
    x, w, b = rng.standard_normal((4, 3, 5, 2)), rng.standard_normal((3, 5, 2, 6)), rng.standard_normal(6)
    close(conv2d(x, w, b).reshape(4, 6), ops.affine(x.reshape(4, 30), w.reshape(30, 6), b), 1e-13)


@pytest.mark.parametrize("call, message", [
    (lambda x, w, b: conv2d(x[0], w, b), r"images \(n, h, w, c_in\), weights .* are needed, not \(9, 8, 2\)"),
    (lambda x, w, b: conv2d(x[..., :1], w, b), "are needed, not"),
    (lambda x, w, b: conv2d(x, w, b[1:]), "are needed, not"),
    (lambda x, w, b: conv2d(x[:, :3], w, b),
     "windows of 4 x 4 do not fit an image of 3 x 8; at least 4 x 4 is needed: enlarge the first image"),
    (lambda x, w, b: conv2d(x, w, b, stride=0), "a stride is an integer of at least 1"),
    (lambda x, w, b: conv2d(x, w, b, stride=(1, 2, 3)), "a stride is an integer of at least 1"),
    (lambda x, w, b: conv2d(x, w, b, padding="full"), "padding is 'full'; it can be 'valid' or 'same'")])
def test_what_does_not_fit_is_said(call, message):
    (x, w, b), _ = arrays("blocks")
    with pytest.raises(ValueError, match=message):
        call(x, w, b)


def test_same_is_tensorflows_rule():
    assert windows((5, 6), (3, 3), 2, "same") == ((3, 3), (2, 2), (1, 0), (7, 7), (3, 3))
    assert windows((7, 9), (5, 2), 1, "same")[2:] == ((2, 0), (11, 10), (7, 9))
    for n, k, s in [(5, 3, 2), (6, 3, 2), (7, 4, 3), (1, 1, 1), (4, 2, 5)]:
        assert windows((n, n), (k, k), s, "same").out == (-(-n // s),) * 2


def test_the_layer(rng):
    layer = nn.conv("c", 3, (4, 2), (2, 1), relu=True)
    shape, weights = layer.init((9, 8, 2))
    params = {name: weight.draw(rng, weight.shape) for name, weight in weights.items()}
    assert shape == (3, 7, 3)
    assert {name: w.shape for name, w in weights.items()} == {"c/w": (4, 2, 2, 3), "c/b": (3,)}
    flat = params["c/w"].reshape(16, 3)
    close(flat.T @ flat, 2 * np.eye(3), 1e-12)  # orthogonal, with gain sqrt 2
    x = rng.standard_normal((2, 9, 8, 2))
    expected = np.maximum(reference.conv2d(x, params["c/w"], params["c/b"], (2, 1)), 0)
    close(layer.apply(params, x), expected, 1e-12)
    message = "layer c: windows of 4 x 2 do not fit an image of 3 x 8; at least 4 x 2"
    with pytest.raises(ValueError, match=message):
        layer.init((3, 8, 2))
