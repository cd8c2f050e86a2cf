"""The only numerical derivatives of the repository: the complex step and the adjoint identity, in float64.

`check_linear` states two facts about a program: push is the derivative, and pull the transpose of push.
"""

import numpy as np

from trpo_np.autodiff import linearize, value_and_grad
from trpo_np.params import Params

STEP = 1e-30


def plain(x):
    return x.flat if isinstance(x, Params) else np.asarray(x)


def moved(x, step):
    return x.like(x.flat + step) if isinstance(x, Params) else np.asarray(x) + step


def complex_step(fun, xs, dxs):
    """Directional derivative Im f(x + i h dx) / h: no subtraction, hence no step size to choose."""
    return np.imag(fun(*[moved(x, 1j * STEP * dx) for x, dx in zip(xs, dxs)])) / STEP


def check_linear(fun, *xs, seed=0, tol=1e-10):
    """Require that push equals the complex step and <g, push dx> = <pull g, dx>, for random dx and g."""
    rng = np.random.default_rng([seed, 0xd1])  # of its own: with default_rng(0) dx would often be x
    y, J = linearize(fun, *xs)
    np.testing.assert_allclose(y, fun(*xs), rtol=1e-12, atol=1e-12)
    dxs = [rng.standard_normal(plain(x).shape) for x in xs]
    dy = J.push(*dxs)
    assert np.shape(dy) == np.shape(y), f"push gives shape {np.shape(dy)}, the value has {np.shape(y)}"
    np.testing.assert_allclose(dy, complex_step(fun, xs, dxs), rtol=tol, atol=tol)
    g = rng.standard_normal(np.shape(y))
    gs = J.pull(g)
    gs = gs if len(xs) > 1 else (gs,)
    for x, g_x in zip(xs, gs):
        assert np.shape(g_x) == plain(x).shape
    left, right = np.sum(g * dy), sum(np.sum(g_x * dx) for g_x, dx in zip(gs, dxs))
    np.testing.assert_allclose(left, right, rtol=tol, atol=tol)


def jacobian(fun, x):
    """Dense Jacobian (size of y, size of x) by the complex step."""
    flat = plain(x)
    columns = [complex_step(fun, [x], [e.reshape(flat.shape)]) for e in np.eye(flat.size)]
    return np.stack([np.ravel(c) for c in columns], axis=1)


def hessian(fun, x):
    """Dense Hessian of a scalar function: the complex step of its gradient."""
    return jacobian(lambda z: value_and_grad(fun, z)[1], x)
