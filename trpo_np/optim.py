"""Solvers that know vectors and functions only: conjugate gradient, backtracking line search, Adam."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .kernels import scalar


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Return the inner product, summed by NumPy in float64.

    All ranks must get the same bits, since they branch on it; BLAS's order depends on CPU and threads.
    """
    return float(np.sum(np.multiply(a, b, dtype=np.float64)))


def conjugate_gradient(A: Callable, b: np.ndarray, iters: int = 10,
                       tol: float = 1e-10) -> tuple[np.ndarray, int]:
    """Solve A x = b for a symmetric positive (semi-)definite function A; return x and the products used.

    Start from zero. Stop after `iters` products, at |b - A x|^2 <= tol |b|^2, or in a direction whose
    curvature is not positive.
    """
    x, r = np.zeros_like(b), b.copy()
    p, rr = b.copy(), dot(b, b)
    target = tol * rr
    for i in range(iters):
        if rr <= target:
            return x, i
        Ap = A(p)
        curvature = dot(p, Ap)
        if not curvature > 0:  # also for NaN
            return x, i + 1
        alpha = rr / curvature
        x = x + b.dtype.type(alpha) * p
        r = r - b.dtype.type(alpha) * Ap
        rr, before = dot(r, r), rr
        p = r + b.dtype.type(rr / before) * p
    return x, iters


class Found(NamedTuple):
    """The end of a line search."""

    x: np.ndarray    # the point
    result: tuple    # of `evaluate` there
    fraction: float  # of the step; 0 if no point was acceptable


def line_search(evaluate: Callable, acceptable: Callable, x: np.ndarray, step: np.ndarray, steps: int = 10,
                shrink: float = 0.5) -> Found:
    """Try x + step, x + shrink step, x + shrink^2 step, ... until `acceptable(*evaluate(point))`.

    If none of `steps` points is acceptable, `x` itself, the very same array, comes back.
    """
    result: tuple = ()
    for i in range(steps):
        point = x + x.dtype.type(shrink**i) * step
        result = evaluate(point)
        if acceptable(*result):
            return Found(point, result, shrink**i)
    return Found(x, result, 0.0)


class Adam:
    """Step a vector against its gradient, scaled by running moments (Kingma & Ba, arXiv:1412.6980)."""

    def __init__(self, size: int, dtype="float32", beta1: float = 0.9, beta2: float = 0.999,
                 epsilon: float = 1e-8):
        self.m, self.v, self.t = np.zeros(size, dtype), np.zeros(size, dtype), 0
        self.beta1, self.beta2 = beta1, beta2
        self.constants = [self.m.dtype.type(c) for c in (1 - beta1, 1 - beta2, epsilon)]

    def step(self, x: np.ndarray, g: np.ndarray, stepsize: float) -> None:
        """Update `x` in place."""
        self.t += 1
        rate = stepsize * math.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
        x[:], self.m, self.v = scalar.adam(x, self.m, self.v, g, *self.constants, x.dtype.type(rate))
