"""Layers as (init, apply) pairs, after JAX's stax: no base class, no state.

`init(shape) -> (shape of one output, {name: Weight})` says which parameters inputs of `shape` (without the batch) need and how to
draw them; nothing is drawn yet, so a file's parameters can be checked before any memory is taken. `apply(params, x)`
computes, from any mapping of names to arrays or traced values.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import ops
from .ops.mlp import tanh_layers

ACTIVATIONS = {"tanh": ops.tanh, "relu": ops.relu, "elu": ops.elu, "sigmoid": ops.sigmoid}


class Weight(NamedTuple):
    """A parameter to be: its shape, and `draw(rng, shape)`, which returns its first value."""

    shape: tuple
    draw: Callable


class Layer(NamedTuple):
    """A pure function with parameters: which ones it needs and how it is applied.

    One that `takes_bytes` reads an image's bytes as the 255th parts of 1 that they mean, and knows `ops.conv.Centred`;
    others are given these parts.
    """

    init: Callable
    apply: Callable
    takes_bytes: bool = False

    @property
    def dense(self) -> tuple | None:
        """Of dense layers and nothing else: the names of each one's matrix and bias, and the activation after it, or None.

        It is a property of the function `apply`: another one in its place is not taken for the same.
        """
        return getattr(self.apply, "dense", None)


def of_dense(apply: Callable, layers) -> Callable:
    """Note on a function what `Layer.dense` tells of it; return the function."""
    apply.dense = None if layers is None else tuple(layers)  # type: ignore[attr-defined]
    return apply


def orthogonal(rng: np.random.Generator, shape: tuple, gain: float = 1.0) -> np.ndarray:
    """Draw a matrix (n_in, n_out) with orthonormal rows or columns, times `gain` (Saxe et al., arXiv:1312.6120).

    Axes before the last are one: a convolution's (kh, kw, c_in, c_out) is orthogonal as (kh * kw * c_in, c_out).
    """
    n_in, n_out = int(np.prod(shape[:-1])), shape[-1]
    q, r = np.linalg.qr(rng.standard_normal((max(n_in, n_out), min(n_in, n_out))))
    q = q * np.sign(np.diag(r))  # makes the draw uniform over orthogonal matrices
    return gain * (q if n_in >= n_out else q.T).reshape(shape)


def dense(name: str, n_out: int, gain: float = np.sqrt(2)) -> Layer:
    """Affine map x @ w + b to `n_out` numbers, with orthogonal w (n_in, n_out) and zero b."""
    w, b = f"{name}/w", f"{name}/b"

    def init(shape):
        return (n_out,), {w: Weight((shape[-1], n_out), lambda rng, s: orthogonal(rng, s, gain)),
                          b: Weight((n_out,), lambda rng, s: np.zeros(s))}

    def apply(params, x):
        return ops.affine(x, params[w], params[b])
    return Layer(init, of_dense(apply, [(w, b, None)]))


def lstm(name: str, n_out: int, layer_norm: bool = False) -> Layer:
    """LSTM of `n_out` cells, with layer norm or without.

    `apply(params, x (T, n, k), starts, state)` returns outputs and states, see ops.lstm. Each gate's weights are
    orthogonal, and the forget gate's bias is 1, so that a new network remembers (Jozefowicz et al. 2015). In the
    parameters' names g is a gain and b a bias: of x wx, of h wh, of all gates (b alone) and of the cell c.
    """
    from .ops import lstm as recurrent  # only networks with memory load it

    zeros, ones = (lambda rng, s: np.zeros(s)), (lambda rng, s: np.ones(s))
    names = ["wx", "gx", "bx", "wh", "gh", "bh", "b", "gc", "bc"] if layer_norm else ["wx", "wh", "b"]
    op = recurrent.lnlstm if layer_norm else recurrent.lstm

    def gates(rng, shape):
        return np.concatenate([orthogonal(rng, (shape[0], n_out)) for _ in range(4)], axis=1)

    def forget(rng, shape):
        return np.repeat([0.0, 1.0, 0.0, 0.0], n_out)

    def init(shape):
        gate, cell = (4 * n_out,), (n_out,)
        weights = {"wx": Weight((shape[-1], 4 * n_out), gates), "wh": Weight((n_out, 4 * n_out), gates),
                   "gx": Weight(gate, ones), "gh": Weight(gate, ones), "gc": Weight(cell, ones),
                   "bx": Weight(gate, zeros), "bh": Weight(gate, zeros), "bc": Weight(cell, zeros),
                   "b": Weight(gate, forget)}
        return (n_out,), {f"{name}/{key}": weights[key] for key in names}

    def apply(params, x, starts, state):
        return op(x, starts, state, *(params[f"{name}/{key}"] for key in names))
    return Layer(init, apply)


def conv(name: str, n_out: int, size, stride=1, padding: str = "valid", relu: bool = False, gain: float = np.sqrt(2)) -> Layer:
    """Convolution of images (n, h, w, c) to (n, oh, ow, n_out), with orthogonal w (kh, kw, c, n_out) and zero b; see conv2d.

    Of images less their mean, `ops.conv.Centred`, the mean is convolved once for all, so that bytes can stay bytes.
    `size` and `stride` are numbers or pairs (down, across); `relu` takes the positive part of the result.
    """
    from .ops.conv import Centred, conv2d, windows  # loaded by who uses it

    w, b = f"{name}/w", f"{name}/b"
    size = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)

    def init(shape):
        try:
            *image, c = shape
            out = windows(tuple(image), size, stride, padding).out
        except ValueError as error:
            raise ValueError(f"layer {name}: {error}") from None
        return (*out, n_out), {w: Weight((*size, c, n_out), lambda rng, s: orthogonal(rng, s, gain)),
                               b: Weight((n_out,), lambda rng, s: np.zeros(s))}

    def apply(params, x):
        if not isinstance(x, Centred):
            return conv2d(x, params[w], params[b], stride=stride, padding=padding, relu=relu)
        mean = conv2d(x.mean, params[w], np.zeros(n_out, x.mean.dtype), stride=stride, padding=padding)
        y = conv2d(x.images, params[w], params[b], stride=stride, padding=padding) - mean
        return ops.relu(y) if relu else y
    return Layer(init, apply, takes_bytes=True)


def elementwise(fun: Callable) -> Layer:
    """Apply an op to each number, such as `ops.tanh`: no parameters."""
    return Layer(lambda shape: (shape, {}), lambda params, x: fun(x))


def function(fun: Callable) -> Layer:
    """Make a layer without parameters of a function of a batch, (n, *shape) to (n, ...), written with ops."""
    def init(shape):
        rows, *out = np.shape(fun(np.zeros((1, *shape), np.float32))) or (0,)
        if rows != 1:
            raise ValueError(f"a function of ops made ({rows}, ...) of a batch (1, {', '.join(map(str, shape))}); it must keep "
                             "the rows apart (ops.concatenate(..., -1) puts columns side by side)")
        return tuple(out), {}
    return Layer(init, lambda params, x: fun(x))


def named(prefix: str, layer: Layer) -> Layer:
    """Put `prefix/` before the names of a layer's parameters, so that it can be used more than once."""
    def init(shape):
        shape, weights = layer.init(shape)
        return shape, {f"{prefix}/{name}": weight for name, weight in weights.items()}

    def apply(params, x):
        return layer.apply({name[len(prefix) + 1:]: params[name] for name in params if name.startswith(f"{prefix}/")}, x)
    dense = None if layer.dense is None else [(f"{prefix}/{w}", f"{prefix}/{b}", fun) for w, b, fun in layer.dense]
    return Layer(init, of_dense(apply, dense), layer.takes_bytes)


def flatten() -> Layer:
    """Make one row of each sample."""
    def apply(params, x):
        return ops.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))
    return Layer(lambda shape: ((int(np.prod(shape)),), {}), apply)


def serial(*layers: Layer) -> Layer:
    """Apply layers one after the other."""
    def init(shape):
        weights: dict = {}
        for layer in layers:
            shape, new = layer.init(shape)
            if twice := weights.keys() & new.keys():
                raise ValueError(f"two layers share the parameter name {sorted(twice)[0]!r}; give each layer its own name")
            weights.update(new)
        return shape, weights

    def apply(params, x):
        for layer in layers:
            x = layer.apply(params, x)
        return x
    parts = [layer.dense for layer in layers]
    dense = None if None in parts else [one for part in parts for one in part]
    return Layer(init, of_dense(apply, dense), bool(layers) and layers[0].takes_bytes)


def mlp(name: str, widths, activation: Callable, out: tuple | None = None) -> Layer:
    """Stack dense layers `name0`, `name1`, ... of `widths`, each followed by `activation`.

    `out` (name, width, gain) is one more without; a network of tanh is then one op, `ops.mlp.tanh_layers`.
    """
    layers, listed = [], []
    for i, width in enumerate(widths):
        layers += [dense(f"{name}{i}", width), elementwise(activation)]
        listed.append((f"{name}{i}/w", f"{name}{i}/b", activation))
    if out is None:
        stacked = serial(*layers)
        return Layer(stacked.init, of_dense(stacked.apply, listed))
    composed = serial(*layers, dense(*out))
    listed.append((f"{out[0]}/w", f"{out[0]}/b", None))

    def fused(params, x):
        return tanh_layers(x, *(params[name] for w, b, _ in listed for name in (w, b)))
    return Layer(composed.init, of_dense(fused if activation is ops.tanh else composed.apply, listed))


# --- from a policy's arguments to layers ---------------------------------------------------------------------------------------

def parse_activation(fun: str | Callable) -> Callable:
    """Return the op of an activation's name; an op passes through."""
    if callable(fun) and not isinstance(fun, np.ufunc):  # which knows no derivative
        return fun
    if not isinstance(fun, str) or fun not in ACTIVATIONS:
        raise ValueError(f"act_fun is {fun!r}; it can be {', '.join(map(repr, ACTIVATIONS))} or a function of trpo_np.ops")
    return ACTIVATIONS[fun]


def parse_net_arch(net_arch, layers) -> tuple[list, list, list]:
    """Return the widths of the shared, the policy's and the critic's layers."""
    if net_arch is not None and layers is not None:
        raise ValueError("give net_arch or layers, not both")
    if net_arch is None:
        widths = [64, 64] if layers is None else listed(layers, "layers")
        net_arch = [dict(pi=widths, vf=widths)]
    shared, split = [], {}
    for i, item in enumerate(listed(net_arch, "net_arch")):
        if isinstance(item, dict):
            if i != len(net_arch) - 1 or item.keys() - {"pi", "vf"}:
                raise ValueError(f"net_arch is {net_arch}; after the shared widths comes one dict(pi=[...], vf=[...]), last")
            split = item
        else:
            shared.append(item)
    pi, vf = (listed(split.get(key, []), f"{key} in net_arch") for key in ("pi", "vf"))
    for width in shared + pi + vf:
        if not isinstance(width, (int, np.integer)) or isinstance(width, bool) or width < 1:
            raise ValueError(f"net_arch holds {width!r}; a layer's width is an integer of at least 1")
    return shared, pi, vf


def listed(widths, name: str) -> list:
    """Return a list or tuple as a list; a ValueError names what else was given."""
    if not isinstance(widths, (list, tuple)):
        raise ValueError(f"{name} is {widths!r}; a list is needed, such as [64, 64]")
    return list(widths)
