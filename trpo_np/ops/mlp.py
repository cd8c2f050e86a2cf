"""Dense layers with tanh between them as one op: compiled where that is possible, else composed."""

import numpy as np

from ..autodiff import Linear, Var, primitive
from ..kernels import blas, mlp
from . import affine, stop_gradient, tanh

MOST_OUTPUTS = 1000  # the loops copy all weights, which costs more than they save where a last layer is large


def tanh_layers(x, *weights):
    """Apply affine maps (w, b, w, b, ...) to rows x (n, k), with a tanh between them.

    Where kernels are compiled it is one op under trace, if all weights are traced, x is not, and all are
    float32: the loops of kernels/mlp.py take a chunk of rows through all layers.
    """
    plain = [stop_gradient(w) for w in weights]
    if mlp.values.is_compiled and _can_be_fused(x, weights, plain):
        return _fused(x, weights, plain)
    for w, b in zip(weights[:-2:2], weights[1:-2:2]):
        x = tanh(affine(x, w, b))
    return affine(x, *weights[-2:])


def _can_be_fused(x, weights, plain) -> bool:
    """Say whether the loops can take these; shapes that do not fit go to `affine`, which refuses them."""
    if isinstance(x, Var) or np.ndim(x) != 2 or not all(isinstance(w, Var) for w in weights):
        return False
    widths = [np.shape(x)[-1], *(np.size(b) for b in plain[1::2])]
    if widths[-1] > MOST_OUTPUTS:
        return False
    shapes = [shape for n, m in zip(widths, widths[1:]) for shape in ((n, m), (m,))]
    return [w.shape for w in plain] == shapes and all(w.dtype == np.float32 == x.dtype for w in plain)


def _fused(x, weights, plain):
    """Compute the outputs y and record them as one op of the traced `weights`; `plain` are their arrays."""
    widths = np.array([x.shape[-1], *(b.size for b in plain[1::2])])
    x, flat = np.require(x, None, "CW"), np.concatenate([w.ravel() for w in plain])
    hs = mlp.values(flat, widths, x, blas.small())
    y = hs[len(hs) - len(x) * widths[-1]:].reshape(len(x), widths[-1])  # the last layer's
    return primitive(lambda *_: y, joint=lambda *_: _linear(flat, widths, x, hs, plain))(*weights)


def _linear(flat, widths, x, hs, weights) -> Linear:
    """Return the derivative in all weights; the arguments are as kernels/mlp.py names them."""
    ends = np.cumsum([w.size for w in weights]).tolist()
    places = [(slice(end - w.size, end), w.shape) for end, w in zip(ends, weights)]
    pays, jac = jacobian_pays(len(x), widths), hs[:0]

    def push(*dws):
        nonlocal jac
        if pays and not len(jac):  # the first push of about ten, which conjugate gradient asks for
            jac = mlp.jacobian(flat, widths, x, hs, blas.small())
        dflat = np.concatenate([dw.ravel() for dw in dws], dtype=np.float32)  # the one type that it takes
        return mlp.push(flat, widths, x, hs, jac, dflat, blas.small())

    def pull(g):
        gflat = mlp.pull(flat, widths, x, hs, jac, np.require(g, np.float32, "CW"), blas.small())
        return tuple(gflat[where].reshape(shape) for where, shape in places)
    return Linear(push, pull)


def jacobian_pays(n: int, widths) -> bool:
    """Say whether making `mlp.jacobian` of n rows pays for some ten pushes and pulls.

    It does with wide hidden layers and few outputs, as long as it fits the cache. Without it an update takes
    11 % longer with 2 or 3 outputs, and as long with 6 (bench/bodies.py).
    """
    inner, outputs = widths[1:-1], widths[-1]
    size = n * outputs * sum(inner[:-1])
    return len(inner) > 1 and outputs <= 6 and min(inner) >= 8 * outputs and size <= 4_000_000
