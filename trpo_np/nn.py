"""Layers as (init, apply) pairs, after JAX's stax: no base class, no state.

`init(shape)` takes the shape of one input, without the batch, and returns the shape of one output and {name:
Weight}, the parameters that the layer needs. It draws none, so that a file's parameters can be checked before
memory is taken for them. `apply(params, x)` computes the outputs of a batch; `params` is any mapping of names
to arrays or traced values.
"""

from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any, NamedTuple, ParamSpec

import numpy as np

from . import ops
from .ops.mlp import tanh_layers
from .types import Array, Value

P = ParamSpec("P")
ACTIVATIONS = {"tanh": ops.tanh, "relu": ops.relu, "elu": ops.elu, "sigmoid": ops.sigmoid}


class Weight(NamedTuple):
    """A parameter that a layer needs: its shape, and `draw(rng, shape)`, which returns its first value."""

    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], Array]


class Layer(NamedTuple):
    """A pure function with parameters: which ones it needs, and how it is applied.

    A layer that `takes_bytes` may be given images of bytes, and `ops.conv.Centred`; the others are given
    bytes divided by 255.
    """

    init: Callable[[tuple[int, ...]], tuple[tuple[int, ...], dict[str, Weight]]]
    apply: Callable[..., Value]
    takes_bytes: bool = False

    @property
    def dense(self) -> tuple[Any, ...] | None:
        """The dense layers of which this one consists, as (name of matrix, name of bias, activation or None).

        None if it is anything else. An attribute of `apply`, so it is lost when `apply` is replaced;
        policies/fast.py asks for it.
        """
        return getattr(self.apply, "dense", None)

    @property
    def call(self) -> "partial[Layer] | None":
        """The call that made this layer, see `maker`; None if it was made of functions by hand."""
        init, takes_bytes, call = getattr(self.apply, "made", (None, None, None))
        return call if init is self.init and takes_bytes == self.takes_bytes else None

    def __reduce__(self) -> tuple[Any, ...]:
        if (call := self.call) is not None:
            return call, ()
        return Layer, tuple(self)  # of functions that pickle by their names, or pickle says which does not


def maker(make: Callable[P, Layer]) -> Callable[P, Layer]:
    """Let the layers that a function makes pickle: as the call that made them, with its arguments.

    The call is noted on the function `apply`, as `Layer.dense` is.
    """
    @wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> Layer:
        again: Any = partial(call, *map(_fixed, args), **{name: _fixed(arg) for name, arg in kwargs.items()})
        layer = make(*again.args, **again.keywords)
        layer.apply.made = layer.init, layer.takes_bytes, again  # type: ignore[attr-defined]
        return layer
    return call


def _fixed(arg: Any) -> Any:
    """Return an argument that the caller can no longer change, as a list, nor use up, as an iterator."""
    if isinstance(arg, np.ndarray):
        return arg.copy()
    return tuple(arg) if isinstance(arg, Iterable) and not isinstance(arg, (str, tuple)) else arg


def of_dense(apply: Callable[..., Any], layers: Any) -> Callable[..., Any]:
    """Note on the function `apply` of which dense layers it consists, for `Layer.dense`; return it."""
    apply.dense = None if layers is None else tuple(layers)  # type: ignore[attr-defined]
    return apply


def orthogonal(rng: np.random.Generator, shape: tuple[int, ...], gain: float = 1.0) -> np.ndarray:
    """Draw a matrix (n_in, n_out) with orthonormal rows or columns, times `gain` (Saxe et al. 2013).

    All axes but the last count as one: a convolution's weights (kh, kw, c_in, c_out) are orthogonal as
    (kh * kw * c_in, c_out). Source: arXiv:1312.6120.
    """
    n_in, n_out = int(np.prod(shape[:-1])), shape[-1]
    q, r = np.linalg.qr(rng.standard_normal((max(n_in, n_out), min(n_in, n_out))))
    q = q * np.sign(np.diag(r))  # makes the draw uniform over orthogonal matrices
    return gain * (q if n_in >= n_out else q.T).reshape(shape)


class Coded(NamedTuple):
    """Rows of `width` numbers that are zero but at few places."""

    ones: np.ndarray  # (n, k), their places
    given: np.ndarray  # (n, m), numbers of other kinds
    places: np.ndarray  # (m,), their places
    width: int

    def times(self, w):
        """Return the product with w (width, n_out), which may be traced."""
        y = ops.sum_rows(self.ones, w)
        return y + ops.matmul(self.given, w[self.places]) if len(self.places) else y

    def expanded(self) -> np.ndarray:
        """Return the rows with all their zeros."""
        out = np.zeros((len(self.ones), self.width), self.given.dtype)
        np.put_along_axis(out, self.ones, 1, axis=1)
        out[:, self.places] = self.given
        return out


@maker
def coded(is_index: np.ndarray, places: np.ndarray, width: int) -> Layer:
    """Read the rows that a space with `codes` encodes (spaces.py) as Coded rows of `width`.

    Such rows are for dense layers.
    """
    at, others = places[is_index], places[~is_index]

    def apply(params, x):
        return Coded(x[:, is_index].astype(np.int64) + at, x[:, ~is_index], others, width)
    return Layer(lambda shape: ((width,), {}), apply)


@maker
def expanded() -> Layer:
    """Fill Coded rows up with their zeros, for layers that are not dense; leave other rows as they are."""
    return Layer(lambda shape: (shape, {}),
                 lambda params, x: x.expanded() if isinstance(x, Coded) else x)


@maker
def dense(name: str, n_out: int, gain: float = np.sqrt(2)) -> Layer:
    """Map x to x @ w + b, `n_out` numbers; w (n_in, n_out) is drawn orthogonal, b zero."""
    w, b = f"{name}/w", f"{name}/b"

    def init(shape):
        return (n_out,), {w: Weight((shape[-1], n_out), lambda rng, s: orthogonal(rng, s, gain)),
                          b: Weight((n_out,), lambda rng, s: np.zeros(s))}

    def apply(params, x):
        if isinstance(x, Coded):
            return x.times(params[w]) + params[b]
        return ops.affine(x, params[w], params[b])
    return Layer(init, of_dense(apply, [(w, b, None)]))


@maker
def lstm(name: str, n_out: int, layer_norm: bool = False) -> Layer:
    """Make an LSTM of `n_out` cells, with layer norm or without.

    `apply(params, x (T, n, k), starts, state)` returns outputs and states, see ops.lstm. Each gate's weights
    are orthogonal, and the forget gate's bias is 1, so that a new network remembers (Jozefowicz et al. 2015).
    In the names of parameters g is a gain and b a bias: of x wx, of h wh, of all gates (b alone) and of the
    cell c.
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


@maker
def conv(name: str, n_out: int, size: int | tuple[int, int], stride: int | tuple[int, int] = 1,
         padding: str = "valid", relu: bool = False, gain: float = np.sqrt(2)) -> Layer:
    """Convolve images (n, h, w, c) to (n, oh, ow, n_out), see conv2d; draw w orthogonal and b zero.

    `size` and `stride` are numbers or pairs (down, across); `relu` takes the positive part of the result.
    With `ops.conv.Centred` images the mean is convolved once for all images, so that bytes can stay bytes.
    """
    from .ops.conv import Centred, conv2d, windows  # here, so that only policies of images load it

    w, b = f"{name}/w", f"{name}/b"
    window = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)

    def init(shape):
        try:
            *image, c = shape
            out = windows(tuple(image), window, stride, padding).out
        except ValueError as error:
            raise ValueError(f"layer {name}: {error}") from None
        return (*out, n_out), {w: Weight((*window, c, n_out), lambda rng, s: orthogonal(rng, s, gain)),
                               b: Weight((n_out,), lambda rng, s: np.zeros(s))}

    def apply(params, x):
        if not isinstance(x, Centred):
            return conv2d(x, params[w], params[b], stride=stride, padding=padding, relu=relu)
        mean = conv2d(x.mean, params[w], np.zeros(n_out, x.mean.dtype), stride=stride, padding=padding)
        y = conv2d(x.images, params[w], params[b], stride=stride, padding=padding) - mean
        return ops.relu(y) if relu else y
    return Layer(init, apply, takes_bytes=True)


@maker
def elementwise(fun: Callable[[Any], Any]) -> Layer:
    """Apply an op to each number, such as `ops.tanh`; no parameters."""
    return Layer(lambda shape: (shape, {}), lambda params, x: fun(x))


@maker
def function(fun: Callable[[Any], Value]) -> Layer:
    """Make a layer without parameters of a function of a batch, (n, *shape) to (n, ...), written with ops."""
    def init(shape):
        rows, *out = np.shape(fun(np.zeros((1, *shape), np.float32))) or (0,)
        if rows != 1:
            batch = ", ".join(map(str, (1, *shape)))
            raise ValueError(f"a function of ops made ({rows}, ...) of a batch ({batch}); it must keep the "
                             "rows apart (ops.concatenate(..., -1) puts columns side by side)")
        return tuple(out), {}
    return Layer(init, lambda params, x: fun(x))


@maker
def named(prefix: str, layer: Layer) -> Layer:
    """Put `prefix/` before the names of a layer's parameters, so that it can be used more than once."""
    def init(shape):
        shape, weights = layer.init(shape)
        return shape, {f"{prefix}/{name}": weight for name, weight in weights.items()}

    def apply(params, x):
        start = f"{prefix}/"
        own = {name.removeprefix(start): params[name] for name in params if name.startswith(start)}
        return layer.apply(own, x)
    dense = layer.dense
    if dense is not None:
        dense = tuple((f"{prefix}/{w}", f"{prefix}/{b}", fun) for w, b, fun in dense)
    return Layer(init, of_dense(apply, dense), layer.takes_bytes)


@maker
def flatten() -> Layer:
    """Make one row of each sample."""
    def apply(params, x):
        return ops.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))
    return Layer(lambda shape: ((int(np.prod(shape)),), {}), apply)


@maker
def serial(*layers: Layer) -> Layer:
    """Apply layers one after the other."""
    def init(shape):
        weights: dict = {}
        for layer in layers:
            shape, new = layer.init(shape)
            if twice := weights.keys() & new.keys():
                raise ValueError(f"two layers share the parameter name {sorted(twice)[0]!r}; give each layer "
                                 "its own name")
            weights.update(new)
        return shape, weights

    def apply(params, x):
        for layer in layers:
            x = layer.apply(params, x)
        return x
    parts: list = [layer.dense for layer in layers]
    dense = None if None in parts else [one for part in parts for one in part]
    return Layer(init, of_dense(apply, dense), bool(layers) and layers[0].takes_bytes)


@maker
def mlp(name: str, widths: Iterable[int], activation: Callable[..., Value],
        out: tuple[str, int, float] | None = None) -> Layer:
    """Stack dense layers `name0`, `name1`, ... of `widths`, each followed by `activation`.

    `out` (name, width, gain) adds one more layer, without an activation; with `ops.tanh` the whole is then
    one op, `ops.mlp.tanh_layers`.
    """
    layers: list[Layer] = []
    described: list[tuple[Any, ...]] = []
    for i, width in enumerate(widths):
        layers += [dense(f"{name}{i}", width), elementwise(activation)]
        described.append((f"{name}{i}/w", f"{name}{i}/b", activation))
    if out is None:
        stacked = serial(*layers)
        return Layer(stacked.init, of_dense(stacked.apply, described))
    composed = serial(*layers, dense(*out))
    described.append((f"{out[0]}/w", f"{out[0]}/b", None))

    def fused(params, x):
        if isinstance(x, Coded):
            return composed.apply(params, x)
        return tanh_layers(x, *(params[weight] for w, b, _ in described for weight in (w, b)))
    return Layer(composed.init, of_dense(fused if activation is ops.tanh else composed.apply, described))


# --- from a policy's arguments to layers --------------------------------------------------------------------

def parse_activation(fun: str | Callable[..., Value]) -> Callable[..., Value]:
    """Return the op that an activation's name means; an op is returned as it is."""
    if callable(fun) and not isinstance(fun, np.ufunc):  # NumPy's functions know no derivative
        return fun
    if not isinstance(fun, str) or fun not in ACTIVATIONS:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"act_fun is {fun!r}; it can be {names} or a function of trpo_np.ops")
    return ACTIVATIONS[fun]


def parse_net_arch(net_arch: Any, layers: Any) -> tuple[list[int], list[int], list[int]]:
    """Return the widths of the shared, the policy's and the critic's layers."""
    if net_arch is not None and layers is not None:
        raise ValueError("give net_arch or layers, not both")
    if net_arch is None:
        widths = [64, 64] if layers is None else listed(layers, "layers")
        net_arch = [dict(pi=widths, vf=widths)]
    if isinstance(net_arch, dict):
        net_arch = [net_arch]
    shared, split = [], {}
    for i, item in enumerate(listed(net_arch, "net_arch")):
        if isinstance(item, dict):
            if i != len(net_arch) - 1 or item.keys() - {"pi", "vf"}:
                raise ValueError(f"net_arch is {net_arch}; after the shared widths comes one "
                                 "dict(pi=[...], vf=[...]), last")
            split = item
        else:
            shared.append(item)
    pi, vf = (listed(split.get(key, []), f"{key} in net_arch") for key in ("pi", "vf"))
    for width in shared + pi + vf:
        if not isinstance(width, (int, np.integer)) or isinstance(width, bool) or width < 1:
            raise ValueError(f"net_arch holds {width!r}; a layer's width is an integer of at least 1")
    return shared, pi, vf


def listed(widths: Any, name: str) -> list[Any]:
    """Return a list or tuple as a list; raise ValueError for anything else."""
    if not isinstance(widths, (list, tuple)):
        raise ValueError(f"{name} is {widths!r}; a list is needed, such as [64, 64]")
    return list(widths)
