"""Every primitive: a NumPy function beside its derivative, in order of difficulty; derived ops at the end.

A rule sees the output `y` and the arguments, and returns the pair (push, pull). `scale(d, y, x)` is the pair
of an elementwise function with derivative d, `itself` that of a linear one with derivative 1. Rules are right
for complex numbers too (`.T`, never the conjugate), so that the complex step can check them. The ops of
Python's operators (add, multiply, matmul, ...) are defined in autodiff.py and offered here. Fused ops stand
in `mlp` (dense tanh layers), `conv` (convolution) and `lstm` (recurrence over a sequence).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff import (
    OPS,
    Linear,
    Var,
    add,
    divide,
    getitem,
    itself,
    matmul,
    multiply,
    negative,
    power,
    primitive,
    scale,
    subtract,
    transpose,
)

__all__ = ["abs", "add", "affine", "broadcast_to", "clip", "concatenate", "cos", "divide", "elu", "exp",
           "expand_dims", "expm1", "getitem", "log", "log1p", "log_softmax", "logsumexp", "matmul", "maximum",
           "mean", "minimum", "multiply", "negative", "power", "primitive", "relu", "repeat_parts", "reshape",
           "sigmoid", "sin", "softmax", "softplus", "sqrt", "square", "stack", "stop_gradient", "subtract",
           "sum", "sum_parts", "sum_rows", "take_along_axis", "tanh", "transpose", "var", "where"]
OPS.update(__all__)

if TYPE_CHECKING:
    from ..types import Value

Axis = int | tuple[int, ...] | None


def _sigmoid(x):
    """1 / (1 + exp -x)."""
    return 0.5 * np.tanh(0.5 * x) + 0.5  # does not overflow


def _softplus(x):
    """log(1 + exp x), without overflow."""
    return np.where(np.real(x) > 0, x, 0) + np.log1p(np.exp(np.where(np.real(x) > 0, -x, x)))


def _relu(x):
    """x where it is positive, else 0; NaN stays."""
    return np.where(np.real(x) <= 0, x.dtype.type(0) if hasattr(x, "dtype") else 0.0, x)


def _elu(x):
    """x where it is positive, else exp(x) - 1."""
    return np.where(np.real(x) > 0, x, np.expm1(np.where(np.real(x) > 0, 0, x)))


def _abs(x):
    """The absolute value."""
    return np.where(np.real(x) < 0, -x, x)


# --- elementwise, one argument ------------------------------------------------------------------------------

exp = primitive(np.exp, lambda y, x: scale(y, y, x))
expm1 = primitive(np.expm1, lambda y, x: scale(y + 1, y, x))
log = primitive(np.log, lambda y, x: scale(1 / x, y, x))
log1p = primitive(np.log1p, lambda y, x: scale(1 / (1 + x), y, x))
sin = primitive(np.sin, lambda y, x: scale(np.cos(x), y, x))
cos = primitive(np.cos, lambda y, x: scale(-np.sin(x), y, x))
sqrt = primitive(np.sqrt, lambda y, x: scale(0.5 / y, y, x))
square = primitive(np.square, lambda y, x: scale(2 * x, y, x))
tanh = primitive(np.tanh, lambda y, x: scale(1 - y * y, y, x))
sigmoid = primitive(_sigmoid, lambda y, x: scale(y * (1 - y), y, x))
softplus = primitive(_softplus, lambda y, x: scale(_sigmoid(x), y, x))
relu = primitive(_relu, lambda y, x: scale((np.real(x) > 0).astype(np.real(x).dtype), y, x))
elu = primitive(_elu, lambda y, x: scale(np.where(np.real(x) > 0, 1, y + 1), y, x))
abs = primitive(_abs, lambda y, x: scale(np.sign(np.real(x)), y, x))


# --- elementwise, several arguments -------------------------------------------------------------------------

def _where(condition, a, b):
    """a where `condition`, a plain array, is True, else b."""
    return np.where(condition, a, b)


def _maximum(a, b):
    """The larger of a and b; where they are equal, a; NaN where either is."""
    return np.where((np.real(a) >= np.real(b)) | np.isnan(a), a, b)


def _minimum(a, b):
    """The smaller of a and b; where they are equal, a; NaN where either is."""
    return np.where((np.real(a) <= np.real(b)) | np.isnan(a), a, b)


def _mask(keep, y):
    """1 where `keep` is True, else 0, in the real type of y."""
    return np.asarray(keep).astype(np.real(y).dtype)


where = primitive(_where, None,
                  lambda y, condition, a, b: scale(_mask(condition, y), y, a),
                  lambda y, condition, a, b: scale(1 - _mask(condition, y), y, b))
maximum = primitive(_maximum,
                    lambda y, a, b: scale(_mask(np.real(a) >= np.real(b), y), y, a),
                    lambda y, a, b: scale(_mask(np.real(a) < np.real(b), y), y, b))
minimum = primitive(_minimum,
                    lambda y, a, b: scale(_mask(np.real(a) <= np.real(b), y), y, a),
                    lambda y, a, b: scale(_mask(np.real(a) > np.real(b), y), y, b))


def _clip(x, low, high):
    """x, but `low` where it is below that and `high` where it is above; both are plain numbers or arrays."""
    x = np.asarray(x)
    dtype = x.dtype if x.dtype.kind in "fc" else np.result_type(x, low, high)
    return np.where(np.real(x) < low, low, np.where(np.real(x) > high, high, x)).astype(dtype)


def _clip_x(y, x, low, high):
    return scale(_mask((np.real(x) >= low) & (np.real(x) <= high), y), y, x)


clip = primitive(_clip, _clip_x)


# --- products -----------------------------------------------------------------------------------------------

def _times(a, w):
    """Return a @ w; if w is one column, without warnings of invalid numbers.

    OpenBLAS 0.3.31 with AVX-512 may see invalid numbers where there are none: it reads unused lanes off the
    stack. Real ones come from an overflow, which has warned already.
    """
    if w.shape[1] > 1:
        return np.matmul(a, w)
    with np.errstate(invalid="ignore"):
        return np.matmul(a, w)


def _affine(x, w, b):
    """Map rows x (..., n) to x @ w + b, (..., m): one op, for two would read and write all rows twice."""
    if np.ndim(x) < 2 or np.ndim(w) != 2 or np.shape(x)[-1] != len(w) or np.shape(b) != np.shape(w)[1:]:
        raise ValueError("affine: x (..., n), w (n, m) and b (m,) are needed, not "
                         f"{np.shape(x)}, {np.shape(w)} and {np.shape(b)}")
    return _plus(_times(x, w), b)


def _plus(a, b):
    """Return a + b, in the memory of a if that has the type for it."""
    return np.add(a, b, out=a if np.result_type(a, b) == a.dtype else None)


def _affine_joint(wanted, y, x, w, b):
    rows, shape = x.reshape(-1, len(w)), y.shape
    ones = np.ones(len(rows), rows.dtype)

    def push(*dxs):
        dx = dict(zip(wanted, dxs))
        terms = [_times(rows, dx[1])] if 1 in dx else []
        if 0 in dx:
            terms.append(_times(dx[0].reshape(rows.shape), w))
        if 2 in dx:
            terms.append(dx[2])
        dy = terms[0] if np.ndim(terms[0]) == 2 else np.broadcast_to(terms[0], (len(rows), len(b)))
        for term in terms[1:]:
            dy = _plus(dy, term)
        return dy.reshape(shape)

    def pull(g):
        g = g.reshape(len(rows), len(b))
        gs = {0: lambda: (g @ w.T).reshape(x.shape), 1: lambda: rows.T @ g, 2: lambda: ones @ g}
        return tuple(gs[i]() for i in wanted) if len(wanted) > 1 else gs[wanted[0]]()
    return Linear(push, pull)


affine = primitive(_affine, joint=_affine_joint)


def _sum_rows(index, w):
    """Sum the rows of w (n, m) that `index` (..., k) names, (..., m): what a row with ones at k places and
    zeros elsewhere gives times w, at a cost that does not depend on n."""
    y = np.take(w, index[..., 0], axis=0)
    for k in range(1, index.shape[-1]):
        y += np.take(w, index[..., k], axis=0)
    return y


def _sum_rows_w(y, index, w):
    def pull(g):
        out, g = np.zeros(w.shape, g.dtype), g.reshape(-1, w.shape[1])
        for places in index.reshape(-1, index.shape[-1]).T:
            order = np.argsort(places, kind="stable")
            named, first = np.unique(places[order], return_index=True)
            out[named] += np.add.reduceat(g[order], first, axis=0) if len(g) else g
        return out
    return Linear(lambda dw: _sum_rows(index, dw), pull)


sum_rows = primitive(_sum_rows, None, _sum_rows_w)


# --- shape --------------------------------------------------------------------------------------------------

def _reshape_x(y, x, shape):
    return Linear(lambda dx: dx.reshape(y.shape), lambda g: g.reshape(x.shape))


def _expand_dims_x(y, x, axis):
    return Linear(lambda dx: np.expand_dims(dx, axis), lambda g: np.squeeze(g, axis))


def _broadcast_to_x(y, x, shape):
    return itself(y, x)


def _take_along_axis(x, index, axis=-1):
    """Take the elements of x that `index`, a plain array of integers, names along `axis`."""
    return np.take_along_axis(x, index, axis)


def _take_along_axis_x(y, x, index, axis=-1):
    places = np.ogrid[tuple(slice(n) for n in y.shape)]
    grid = [np.minimum(place, n - 1) for place, n in zip(places, x.shape)]  # of an axis of 1 the first
    grid[axis] = index

    def pull(g):
        out = np.zeros(x.shape, g.dtype)
        np.add.at(out, tuple(grid), g)  # an index may name an element twice
        return out
    return Linear(lambda dx: np.take_along_axis(dx, index, axis), pull)


def _concatenate(*xs, axis):
    return np.concatenate(xs, axis)


def _concatenate_joint(wanted, y, *xs, axis):
    ends = np.cumsum([np.shape(x)[axis] for x in xs]).tolist()
    lead = (slice(None),) * (axis % y.ndim)
    places = [(*lead, slice(a, b)) for a, b in zip([0, *ends], ends)]

    def push(*dxs):
        dx = dict(zip(wanted, dxs))
        parts = [dx[i] if i in dx else np.zeros(np.shape(x), y.dtype) for i, x in enumerate(xs)]
        return np.concatenate(parts, axis)

    def pull(g):
        return tuple(g[places[i]] for i in wanted) if len(wanted) > 1 else g[places[wanted[0]]]
    return Linear(push, pull)


reshape = primitive(np.reshape, _reshape_x)
expand_dims = primitive(np.expand_dims, _expand_dims_x)
broadcast_to = primitive(np.broadcast_to, _broadcast_to_x)
take_along_axis = primitive(_take_along_axis, _take_along_axis_x)
_concatenate_all = primitive(_concatenate, joint=_concatenate_joint)


def concatenate(arrays: "Iterable[Value]", axis: int = 0) -> "Value":
    """Join arrays along an existing axis, by default the first; -1 puts columns side by side."""
    return _concatenate_all(*arrays, axis=axis)


def stack(arrays: "Iterable[Value]", axis: int = 0) -> "Value":
    """Join arrays along a new axis."""
    return concatenate([expand_dims(x, axis) for x in arrays], axis)


# --- sums ---------------------------------------------------------------------------------------------------

def _reduce(ufunc, x, axis=None, keepdims=False):
    # short rows go column by column: NumPy's own loop takes as long for a row of 2 numbers as for one of 100
    x = np.asarray(x)
    if x.ndim == 2 and axis in (-1, 1) and 0 < x.shape[1] <= 16:
        y = ufunc.reduce(np.ascontiguousarray(x.T), 0)
        return y[:, None] if keepdims else y
    return ufunc.reduce(x, axis, keepdims=keepdims)


def _sum(x, axis=None, keepdims=False):
    """Sum over `axis` (an int, a tuple, or None for all)."""
    return _reduce(np.add, x, axis, keepdims)


def _sum_x(y, x, axis=None, keepdims=False):
    def push(dx):
        return np.sum(dx, axis=axis, keepdims=keepdims)

    def pull(g):
        return np.broadcast_to(g if keepdims or axis is None else np.expand_dims(g, axis), x.shape)
    return Linear(push, pull)


sum = primitive(_sum, _sum_x)


def reduce_parts(ufunc, x, sizes):
    """Reduce each of the parts of x (..., n), which lie side by side with these sizes, by a ufunc of NumPy,
    to (..., parts); no op."""
    starts = np.cumsum(sizes) - sizes
    if len(sizes) <= np.max(sizes):
        return np.stack([_reduce(ufunc, x[..., i:i + n], -1) for i, n in zip(starts, sizes)], -1)
    y = np.take(x, starts, axis=-1)  # many short parts: their first numbers, then their second ones, ...
    for i in range(1, np.max(sizes)):
        there = np.flatnonzero(sizes > i)
        y[..., there] = ufunc(np.take(y, there, axis=-1), np.take(x, starts[there] + i, axis=-1))
    return y


def _sum_parts(x, sizes):
    """Sum each of the parts of x (..., n), which lie side by side with these sizes, to (..., parts)."""
    return reduce_parts(np.add, x, sizes)


def _repeat_parts(x, sizes):
    """Repeat each number of x (..., parts) as often as its size says, (..., n): `sum_parts` transposed."""
    return np.repeat(x, sizes, axis=-1)


sum_parts = primitive(_sum_parts, lambda y, x, sizes: Linear(
    lambda dx: _sum_parts(dx, sizes), lambda g: _repeat_parts(g, sizes)))
repeat_parts = primitive(_repeat_parts, lambda y, x, sizes: Linear(
    lambda dx: _repeat_parts(dx, sizes), lambda g: _sum_parts(g, sizes)))


# --- derived ------------------------------------------------------------------------------------------------

def mean(x: "Value", axis: Axis = None, keepdims: bool = False) -> "Value":
    """Average over `axis` (an int, a tuple, or None for all)."""
    total = sum(x, axis=axis, keepdims=keepdims)
    return total * (total.size / np.size(x))


def var(x: "Value", axis: Axis = None, keepdims: bool = False) -> "Value":
    """Average squared distance from the mean over `axis`."""
    return mean(square(x - mean(x, axis, keepdims=True)), axis, keepdims)


def logsumexp(x: "Value", axis: int = -1, keepdims: bool = False) -> "Value":
    """log sum exp x along `axis`, without overflow."""
    top = _reduce(np.maximum, np.real(stop_gradient(x)), axis, keepdims=True)
    return log(sum(exp(x - top), axis=axis, keepdims=keepdims)) + (top if keepdims else np.squeeze(top, axis))


def log_softmax(x: "Value", axis: int = -1) -> "Value":
    """Logarithm of the softmax along `axis`."""
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: "Value", axis: int = -1) -> "Value":
    """exp x / sum exp x along `axis`."""
    return exp(log_softmax(x, axis))


def stop_gradient(x: Any) -> Any:
    """Take the value only: what follows does not see that it depends on the input."""
    return x.value if isinstance(x, Var) else x
