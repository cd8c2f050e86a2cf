"""Dense layers with tanh between them, fused into one op; layer by layer it is what it is made of, and what it is checked by."""

import numpy as np

from ..autodiff import Linear, Var, primitive
from ..kernels import blas, mlp
from . import affine, stop_gradient, tanh


def tanh_layers(x, *weights):
    """Apply affine maps (w, b, w, b, ...) to rows x (n, k), with a tanh between them.

    Under trace one op, if x is plain and all is float32: compiled loops take a chunk of rows through all layers at once.
    """
    plain = [stop_gradient(w) for w in weights]
    widths = np.array([np.shape(x)[-1], *(np.size(b) for b in plain[1::2])])
    shapes = [shape for n, m in zip(widths[:-1], widths[1:]) for shape in ((n, m), (m,))]
    # what does not fit, `affine` refuses with a sentence; the loops would read beyond the arrays
    if isinstance(x, Var) or np.ndim(x) != 2 or [np.shape(w) for w in plain] != shapes or not all(
            isinstance(w, Var) and w.dtype == np.float32 == x.dtype for w in weights):
        for w, b in zip(weights[:-2:2], weights[1:-2:2]):
            x = tanh(affine(x, w, b))
        return affine(x, *weights[-2:])
    x, flat = np.require(x, None, "CW"), np.concatenate([w.ravel() for w in plain])
    values = mlp.mlp_values(flat, widths, x, blas.small())
    y = values[len(values) - len(x) * widths[-1]:].reshape(len(x), widths[-1])
    return primitive(lambda *_: y, joint=lambda *_: _tanh_layers_linear(flat, widths, x, values, plain))(*weights)


def _tanh_layers_linear(flat, widths, x, values, weights):
    borders = np.cumsum([0, *(w.size for w in weights)])
    places = [(slice(a, b), w.shape) for a, b, w in zip(borders, borders[1:], weights)]
    few, jac = mlp.has_few_outputs(len(x), widths), values[:0]

    def push(*dws):
        nonlocal jac
        if few and not len(jac):  # the first of conjugate gradient's ten
            jac = mlp.mlp_jacobian(flat, widths, x, values, blas.small())
        return mlp.mlp_push(flat, widths, x, values, jac, np.concatenate([dw.ravel() for dw in dws]), blas.small())

    def pull(g):
        back = mlp.mlp_pull(flat, widths, x, values, jac, np.require(g, np.float32, "CW"), blas.small())
        return tuple(back[where].reshape(shape) for where, shape in places)
    return Linear(push, pull)
