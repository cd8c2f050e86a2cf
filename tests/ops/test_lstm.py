"""The LSTM ops against those of the textbook, which are composed of small ops; resets at random places."""

import itertools

import numpy as np
import pytest
import reference
from checks import check_linear

from trpo_np.autodiff import linearize
from trpo_np.ops import lstm

OPS = {"lstm": (lstm.lstm, reference.lstm), "lnlstm": (lstm.lnlstm, reference.lnlstm)}
T, N, K, H = 7, 3, 4, 5
each = pytest.mark.parametrize("name", OPS)


def example(name, seed=0, steps=T, n=N, k=K, h=H, dtype=np.float64, often=0.25):
    """(x, weights), starts, state: resets at random places, a state that is not zero."""
    rng = np.random.default_rng(seed)
    wx, wh, gate, cell = (k, 4 * h), (h, 4 * h), (4 * h,), (h,)
    weights = [wx, wh, gate] if name == "lstm" else [wx, gate, gate, wh, gate, gate, gate, cell, cell]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in [(steps, n, k), *weights]]
    return arrays, rng.random((steps, n)) < often, rng.standard_normal((n, 2 * h)).astype(dtype)


def on(op, starts, state):
    """The outputs as a function of x and the weights."""
    return lambda x, *weights: op(x, starts, state, *weights)[0]


@each
@pytest.mark.parametrize("often", [0.0, 0.25, 1.0])
def test_values_tangents_and_cotangents_are_the_textbooks(name, often):
    arrays, starts, state = example(name, often=often)
    fused, composed = OPS[name]
    y, J = linearize(on(fused, starts, state), *arrays)
    expected, J0 = linearize(lambda x, *weights: composed(x, starts, state, *weights), *arrays)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)
    untraced, _ = fused(arrays[0], starts, state, *arrays[1:])
    np.testing.assert_allclose(untraced, expected, rtol=1e-11, atol=1e-12)
    rng = np.random.default_rng(1)
    dxs = [rng.standard_normal(a.shape) for a in arrays]
    np.testing.assert_allclose(J.push(*dxs), J0.push(*dxs), rtol=1e-10, atol=1e-10)
    g = rng.standard_normal(y.shape)
    for got, want in zip(J.pull(g), J0.pull(g)):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


@each
def test_push_is_the_complex_step_and_pull_its_transpose(name):
    arrays, starts, state = example(name, seed=1)
    check_linear(on(OPS[name][0], starts, state), *arrays)


@each
def test_any_arguments_may_be_constants(name):
    arrays, starts, state = example(name, seed=2, steps=3, n=2)
    op = on(OPS[name][0], starts, state)
    subsets = itertools.chain(*(itertools.combinations(range(len(arrays)), size) for size in (1, 2)))
    for chosen in subsets:
        def fun(*some, chosen=chosen):
            args = list(arrays)
            for i, a in zip(chosen, some):
                args[i] = a
            return op(*args)
        check_linear(fun, *(arrays[i] for i in chosen))


@each
def test_unrolled_is_step_by_step(name):
    """And so is a sequence cut in two: what is returned beside the outputs is all there is to remember."""
    (x, *weights), starts, state = example(name, seed=3, steps=20)
    op = OPS[name][0]
    y, states = op(x, starts, state, *weights)
    assert starts.any() and not starts.all()
    for t in range(20):
        step, after = op(x[t:t + 1], starts[t:t + 1], state, *weights)
        np.testing.assert_allclose(step[0], y[t], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(after[0], states[t], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(after[0, :, H:], step[0])
        state = after[0]
    rest, _ = op(x[8:], starts[8:], states[7], *weights)
    np.testing.assert_allclose(rest, y[8:], rtol=1e-12, atol=1e-12)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])  # in compiled loops, and in their NumPy twins
def test_nothing_crosses_the_start_of_an_episode(name, dtype):
    (x, *weights), starts, state = example(name, seed=4, often=0, dtype=dtype)
    starts[3] = True
    op = OPS[name][0]
    other = x.copy()
    other[:3] += 1
    found, same = op(x, starts, state, *weights)[0], op(other, starts, -state, *weights)[0]
    np.testing.assert_array_equal(found[3:], same[3:])
    y, J = linearize(lambda x: op(x, starts, state, *weights)[0], x)
    g = np.zeros_like(y)
    g[3:] = 1
    assert not J.pull(g)[:3].any() and J.pull(g)[3:].all()
    dx = np.zeros_like(x)
    dx[:3] = 1
    assert not J.push(dx)[3:].any() and J.push(dx)[:3].all()


@each
def test_environments_do_not_see_each_other(name):
    (x, *weights), starts, state = example(name, seed=5)
    op = OPS[name][0]
    whole, _ = op(x, starts, state, *weights)
    for i in range(N):
        alone, _ = op(x[:, i:i + 1], starts[:, i:i + 1], state[i:i + 1], *weights)
        np.testing.assert_allclose(alone[:, 0], whole[:, i], rtol=1e-12, atol=1e-12)


@each
@pytest.mark.parametrize("steps, n, h", [(6, 5, 8), (5, 4, 7), (1, 1, 1), (3, 2, 33)])
def test_float32_gives_the_values_pushes_and_pulls_of_float64(name, steps, n, h):
    arrays, starts, state = example(name, seed=6, steps=steps, n=n, h=h)
    low = [a.astype(np.float32) for a in arrays]
    arrays = [a.astype(np.float64) for a in low]
    op, state32 = OPS[name][0], state.astype(np.float32)
    y, J = linearize(on(op, starts, state32), *low)
    y64, J64 = linearize(on(op, starts, state32.astype(np.float64)), *arrays)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, y64, atol=1e-4)
    rng = np.random.default_rng(7)
    dxs = [rng.standard_normal(a.shape) for a in arrays]
    dy, dy64, g = J.push(*(d.astype(np.float32) for d in dxs)), J64.push(*dxs), rng.standard_normal(y.shape)
    assert dy.dtype == np.float32
    np.testing.assert_allclose(dy, dy64, atol=1e-3 * max(1, np.abs(dy64).max()))
    for got, want in zip(J.pull(g.astype(np.float32)), J64.pull(g)):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=1e-3 * max(1, np.abs(want).max()))


@each
@pytest.mark.parametrize("steps, n", [(0, 2), (3, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_nothing_comes_nothing(name, steps, n, dtype):
    arrays, starts, state = example(name, steps=steps, n=n, dtype=dtype)
    y, J = linearize(on(OPS[name][0], starts, state), *arrays)
    assert y.shape == (steps, n, H) and J.push(*arrays).shape == y.shape
    assert all(not g.any() for g in J.pull(y))


@each
def test_what_does_not_fit_is_named(name):
    (x, *weights), starts, state = example(name)
    op = OPS[name][0]
    shapes = r"inputs of width 3 need wx \(3, 4h\) and wh \(h, 4h\), not \(4, 20\) and \(5, 20\)"
    with pytest.raises(ValueError, match=shapes):
        op(x[..., :3], starts, state, *weights)
    with pytest.raises(ValueError, match=r"x has shape \(3, 4\); T steps of n sequences, \(T, n, k\), are"):
        op(x[0], starts, state, *weights)
    for i, weight in enumerate(weights):
        if weight.ndim == 1:
            wrong = [*weights[:i], weight[:1], *weights[i + 1:]]
            with pytest.raises(ValueError, match=rf"has shape \(1,\); 5 cells need \({len(weight)},\)"):
                op(x, starts, state, *wrong)
    with pytest.raises(ValueError, match=r"starts has shape \(7, 2\); 7 steps of 3 sequences need \(7, 3\)"):
        op(x, starts[:, :2], state, *weights)
    with pytest.raises(ValueError, match=r"starts has shape \(3, 7\); 7 steps of 3 sequences need \(7, 3\)"):
        op(x, starts.T, state, *weights)
    with pytest.raises(ValueError, match=r"a constant \[c, h\] of shape \(3, 10\), not \(3, 5\)"):
        op(x, starts, state[:, :5], *weights)
    with pytest.raises(ValueError, match=r"the state is a constant \[c, h\]"):
        linearize(lambda state: op(x, starts, state, *weights)[0], state)


@each
def test_an_error_on_the_tape_names_the_op(name):
    (x, wx, *weights), starts, state = example(name)

    def fun(x):
        return linearize(lambda wx: OPS[name][0](x, starts, state, wx, *weights)[0], wx)[0]
    with pytest.raises(ValueError, match="^lstm: its arguments come from different linearize calls"):
        linearize(fun, x)
