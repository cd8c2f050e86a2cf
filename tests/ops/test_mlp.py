"""Dense tanh layers as one op: what affine maps and tanhs give in float64, where it is always composed of
them."""

import numpy as np
import pytest
from checks import check_linear

from trpo_np.autodiff import linearize
from trpo_np.kernels import blas, mlp
from trpo_np.ops import affine, tanh
from trpo_np.ops.mlp import jacobian_pays, tanh_layers


def arrays(rng, rows, widths):
    """Rows of observations, not side by side in memory, and weights; sums are of order 1."""
    x = rng.standard_normal((2 * rows, widths[0]))[::2]
    shapes = [shape for n, m in zip(widths, widths[1:]) for shape in ((n, m), (m,))]
    return x, [rng.standard_normal(s) / (np.sqrt(s[0]) if max(widths) > 8 else 1) for s in shapes]


def test_it_is_layer_after_layer(rng):
    x, (w0, b0, w1, b1, w2, b2) = arrays(rng, 7, (3, 5, 4, 2))
    expected = affine(tanh(affine(tanh(affine(x, w0, b0)), w1, b1)), w2, b2)
    np.testing.assert_array_equal(tanh_layers(x, w0, b0, w1, b1, w2, b2), expected)
    np.testing.assert_array_equal(tanh_layers(x, w0, b0), affine(x, w0, b0))
    check_linear(tanh_layers, x, w0, b0, w1, b1, w2, b2)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("widths", [(3, 2), (5, 4, 2), (4, 8, 6, 3), (4, 24, 20, 2), (4, 40, 48, 41, 5)])
@pytest.mark.parametrize("rows", [1, 700])
def test_fused_in_float32_is_composed_in_float64(widths, rows, in_place, monkeypatch, rng):
    monkeypatch.setattr(blas, "small", lambda: blas.SMALL if in_place else 0)
    x, weights = arrays(rng, rows, widths)
    dws, g = [rng.standard_normal(w.shape) for w in weights], rng.standard_normal((rows, widths[-1]))
    y, J = linearize(lambda *w: tanh_layers(x, *w), *weights)
    x32 = np.repeat(x.astype("f"), 2, axis=0)[::2]
    weights32, dws32 = [w.astype("f") for w in weights], [dw.astype("f") for dw in dws]
    y32, J32 = linearize(lambda *w: tanh_layers(x32, *w), *weights32)
    close = dict(rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(y32, y, **close)
    np.testing.assert_allclose(tanh_layers(x32, *weights32), y, **close)
    for found, right in zip(J32.pull(g), J.pull(g)):  # of a cotangent in float64
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4 * rows)
    for _ in range(3):  # the first push may make the Jacobian, by which the others go
        np.testing.assert_allclose(J32.push(*dws32), J.push(*dws), **close)
        for found, right in zip(J32.pull(np.repeat(g.astype("f"), 2, axis=0)[::2]), J.pull(g)):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4 * rows)


@pytest.mark.parametrize("dtype", [np.int64, np.float64, bool])
def test_tangents_of_any_type_are_pushed(dtype, rng):
    x, weights = arrays(rng, 5, (3, 4, 2))
    weights = [w.astype("f") for w in weights]
    _, J = linearize(lambda *w: tanh_layers(x.astype("f"), *w), *weights)
    dws = [rng.integers(2, size=w.shape) for w in weights]
    want = J.push(*(dw.astype("f") for dw in dws))
    np.testing.assert_allclose(J.push(*(dw.astype(dtype) for dw in dws)), want, rtol=1e-5, atol=1e-6)


def test_it_is_composed_where_not_all_of_it_can_be_fused(monkeypatch, rng):
    """Of observations that are traced, of some weights that are not, of mixed types."""
    class NotToBeCalled:
        is_compiled = True
    monkeypatch.setattr(mlp, "values", NotToBeCalled())
    x, weights = arrays(rng, 5, (3, 4, 2))
    x32, weights32 = x.astype("f"), [w.astype("f") for w in weights]
    y, J = linearize(lambda x, w: tanh_layers(x, w, *weights32[1:]), x32, weights32[0])
    np.testing.assert_allclose(y, tanh_layers(x, *weights), rtol=1e-4, atol=1e-4)
    assert J.pull(y)[0].shape == x.shape
    np.testing.assert_allclose(linearize(tanh_layers, x32, *weights32)[0], y, rtol=1e-4, atol=1e-4)
    for mixed in (lambda *w: tanh_layers(x32, weights32[0], *w[1:]), lambda *w: tanh_layers(x, *w)):
        np.testing.assert_allclose(linearize(mixed, *weights32)[0], y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes", [
    [(3, 2), (3,)], [(4, 2), (2,)], [(3, 2), (2,), (3, 1), (1,)], [(3, 2), (1, 2)]])
def test_what_does_not_fit_is_refused(shapes):
    """Compiled loops would read beyond the arrays."""
    x, weights = np.zeros((5, 3), np.float32), [np.zeros(shape, np.float32) for shape in shapes]
    with pytest.raises(ValueError, match="affine: .* are needed, not"):
        linearize(lambda *w: tanh_layers(x, *w), *weights)


@pytest.mark.parametrize("n, widths, pays", [
    (2048, (4, 64, 64, 2), True), (2048, (17, 64, 64, 6), True), (2048, (17, 64, 64, 7), False),
    (2048, (4, 64, 2), False), (2048, (4, 64, 12, 2), False), (700, (4, 40, 48, 41, 5), True),
    (10_000, (17, 64, 64, 6), True), (10_500, (17, 64, 64, 6), False)])
def test_a_jacobian_pays_for_wide_layers_and_few_outputs(n, widths, pays):
    assert jacobian_pays(n, np.array(widths)) == jacobian_pays(n, widths) == pays


def test_a_jacobian_is_made_at_the_first_push_and_once(rng, monkeypatch):
    if not mlp.values.is_compiled:
        pytest.skip("nothing is fused without compiled kernels")
    made, jacobian = [], mlp.jacobian
    monkeypatch.setattr(mlp, "jacobian", lambda *args: made.append(args) or jacobian(*args))
    x, weights = arrays(rng, 9, (4, 24, 20, 2))
    weights = [w.astype("f") for w in weights]
    y, J = linearize(lambda *w: tanh_layers(x.astype("f"), *w), *weights)
    J.pull(y)
    assert not made  # a gradient alone would not pay for it
    J.push(*weights)
    J.pull(J.push(*weights))
    assert len(made) == 1
