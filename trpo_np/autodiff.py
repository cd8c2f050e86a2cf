"""The derivative of a program is a linear map, and a linear map is a pair: push (J v) and pull (J' g).

A primitive declares that pair for each of its arguments; `linearize` runs a program once and returns the pair
of the whole. The tape has a place for each value, in the order of evaluation: the list of its (parent slots,
Linear), empty for an input. Nothing to sort, no recursion, no global state. A pair stays valid as long as the
arrays that it captured are not overwritten.
"""

from collections.abc import Callable
from inspect import currentframe
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .params import Params

if TYPE_CHECKING:
    from .types import Floats, Value

OPS: set[str] = set()  # the names that ops/ offers, for messages


class Linear(NamedTuple):
    """A linear map J: `push(dx)` is J dx, tangents forward; `pull(g)` is J' g, cotangents back."""

    push: "Callable[..., Floats]"
    pull: "Callable[..., Floats]"  # a tuple of arrays, if it has several inputs


class Var:
    """A value under trace: an array and its slot on the tape. It lives while `linearize` runs its program."""

    __slots__ = ("value", "tape", "slot")

    def __init__(self, value: Any, tape: list, parents: Any = ()) -> None:
        self.value, self.tape, self.slot = value, tape, len(tape)
        tape.append(parents)

    if TYPE_CHECKING:  # made below
        shape: tuple[int, ...]
        ndim: int
        size: int
        dtype: np.dtype[Any]
        T: "Var"

        def __add__(self, other: Any) -> "Var": ...
        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
        __matmul__ = __rmatmul__ = __pow__ = __getitem__ = __add__
        def __neg__(self) -> "Var": ...
    else:
        shape = property(lambda self: np.shape(self.value))
        ndim = property(lambda self: np.ndim(self.value))
        size = property(lambda self: np.size(self.value))
        dtype = property(lambda self: self.value.dtype)
        T = property(lambda self: transpose(self))

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self):
        return f"Var({self.value!r})"

    def __array_ufunc__(self, ufunc, method, *args, **options):
        """Compute `ndarray @ Var`, which comes as np.matmul(ndarray, Var); refuse all else of NumPy."""
        op = _OPERATORS.get(ufunc)
        if op is not None and method == "__call__" and type(args[0]) is not Var and not options:
            return op(*args)
        if ufunc in _COMPARISONS:
            return self._no_branch()
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        raise TypeError(f"numpy.{name} was given a Var, a value under trace{_instead(name)}")

    def __array__(self, *_args, **_kwargs):
        raise TypeError("a NumPy function was given a Var, a value under trace; "
                        "use the function of the same name in trpo_np.ops")

    def __getattr__(self, name):
        raise AttributeError(f"a Var, a value under trace, has no {name!r}{_instead(name)}")

    def _no_branch(self, *_):
        raise TypeError("a program under trace cannot branch on a Var, nor compare it; branch on "
                        "ops.stop_gradient(x), its value, or use ops.where, ops.maximum, ops.clip")

    def _no_number(self):
        raise TypeError("a Var, a value under trace, is no Python number; use trpo_np.ops, as ops.exp in "
                        "place of math.exp, or its value, ops.stop_gradient(x)")

    def __setitem__(self, index, value):
        raise TypeError("a Var, a value under trace, cannot be written to; make a new one by ops.where or "
                        "ops.concatenate")

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _no_branch
    __float__ = __int__ = __complex__ = __index__ = __abs__ = __round__ = _no_number


def _instead(name: str) -> str:
    """Say what a custom network takes in place of a function or method of NumPy's."""
    name = {"add.reduce": "sum", "absolute": "abs"}.get(name, name)
    if name in OPS:
        return f"; use trpo_np.ops.{name}"
    return "; see trpo_np.ops for what there is instead, or make an op of it by trpo_np.ops.primitive"


def primitive(fun: Callable[..., Any], *rules: Callable[..., Any] | None,
              joint: Callable[..., Any] | None = None) -> "Callable[..., Value]":
    """Make an op from a NumPy function and its derivative in each argument.

    `rules[i](y, *args, **options)` returns the Linear (or a pair of functions) of argument i. Instead,
    `joint(wanted, y, *args, **options)` returns one pair for all arguments at the positions `wanted`: its
    push takes a tangent for each of them, its pull returns a tuple of cotangents (or the cotangent, if there
    is one).

    On plain arrays the op is `fun` itself. Rules run only under trace, on plain arrays, for those arguments
    that depend on the input. The op pickles by the name of `fun` in the module that calls `primitive`, so
    bind it to that name there.
    """
    name = getattr(fun, "__name__", repr(fun)).lstrip("_")

    def op(*args, **options):
        for arg in args:
            if type(arg) is Var:
                break
        else:
            return fun(*args, **options)
        wanted = [i for i, arg in enumerate(args) if type(arg) is Var]
        tape = args[wanted[0]].tape
        if any(args[i].tape is not tape for i in wanted):
            raise ValueError(f"{name}: its arguments come from different linearize calls")
        values = [arg.value if isinstance(arg, Var) else arg for arg in args]
        y = fun(*values, **options)
        if joint is not None:
            parents = [(tuple(args[i].slot for i in wanted), joint(wanted, y, *values, **options))]
        else:
            if missing := [i for i in wanted if i >= len(rules) or rules[i] is None]:
                raise TypeError(f"{name} has no derivative in argument {missing[0]}; "
                                "pass a plain array there")
            parents = [((args[i].slot,), rules[i](y, *values, **options)) for i in wanted]
        return Var(y, tape, parents)

    op.__name__ = op.__qualname__ = name
    op.__module__ = currentframe().f_back.f_globals.get("__name__", "__main__")  # type: ignore[union-attr]
    op.__doc__ = fun.__doc__
    return op


def linearize(fun: Callable[..., Any], *xs: Any) -> "tuple[Floats, Linear]":
    """Run `fun(*xs)` once; return its value and the Linear of its derivative there.

    Each x is an array or a Params. Of a Params, `fun` sees the names, push and pull the flat vector. `push`
    takes one tangent for each x; `pull` returns a tuple of cotangents (or the cotangent, if there is one x).
    Arrays that they return may be read-only, or share memory with each other and with what came in: copy one
    before you write to it. The flat vector of a Params is always new.
    """
    tape: list = []
    inputs = [{name: Var(array, tape) for name, array in x.items()} if isinstance(x, Params)
              else Var(np.asarray(x), tape) for x in xs]
    y = fun(*inputs)
    if not isinstance(y, Var) or y.tape is not tape:
        raise ValueError("linearize: the output does not depend on the input (or is not one array)")
    out, shape = y.slot, y.shape

    def push(*dxs):
        tangents: list = [None] * len(tape)
        for x, var, dx in zip(xs, inputs, dxs, strict=True):
            dx = np.asarray(dx)
            if isinstance(x, Params):
                for name, dx_name in x.like(dx).items():
                    tangents[var[name].slot] = dx_name
            elif dx.shape != var.shape:
                raise ValueError(f"push: a tangent has shape {dx.shape}, its input {var.shape}")
            else:
                tangents[var.slot] = dx
        return _push_along(tape, tangents, out)

    def pull(g):
        g = np.asarray(g)
        if g.shape != shape:
            raise ValueError(f"pull: the cotangent has shape {g.shape}, the output {shape}")
        cotangents: list = [None] * len(tape)
        cotangents[out] = g
        _pull_along(tape, cotangents, out)
        results = []
        for x, var in zip(xs, inputs):
            if isinstance(x, Params):
                flat = np.zeros(x.flat.shape, np.result_type(g, x.flat))
                for name, (where, _) in x.layout.items():
                    if cotangents[var[name].slot] is not None:
                        flat[where] = cotangents[var[name].slot].ravel()
                results.append(flat)
            else:
                g_x = cotangents[var.slot]
                results.append(np.zeros_like(var.value) if g_x is None else g_x)
        return results[0] if len(results) == 1 else tuple(results)

    return y.value, Linear(push, pull)


def _push_along(tape: list, tangents: list, out: int):
    """Push the inputs' tangents along the tape; return the tangent in slot `out`."""
    for slot in range(out + 1):
        for parents, (push, _) in tape[slot]:
            dy = push(*[tangents[i] for i in parents])  # none is None: every input has a tangent
            tangents[slot] = dy if tangents[slot] is None else tangents[slot] + dy
    return tangents[out]


def _pull_along(tape: list, cotangents: list, out: int) -> None:
    """Pull the cotangent in slot `out` back along the tape, to the slots of the inputs."""
    for slot in range(out, -1, -1):
        if cotangents[slot] is None:  # the output does not depend on this value
            continue
        for parents, (_, pull) in tape[slot]:
            gs = pull(cotangents[slot])
            for i, g_i in zip(parents, gs if len(parents) > 1 else (gs,)):
                cotangents[i] = g_i if cotangents[i] is None else cotangents[i] + g_i
        if tape[slot]:
            cotangents[slot] = None  # free the memory of what has been passed on


def value_and_grad(fun: Callable[..., Any], x: Any) -> "tuple[np.floating[Any], Floats]":
    """Return the value of a scalar function and its gradient, flat if `x` is a Params.

    The gradient in an array may be read-only: copy it before you write to it.
    """
    y: Any
    y, J = linearize(fun, x)
    if np.shape(y) != ():
        raise ValueError(f"value_and_grad: the function must return a scalar, not shape {np.shape(y)}")
    return y, J.pull(np.ones_like(y))


# --- Python's operators -------------------------------------------------------------------------------------

def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which an argument of `shape` was broadcast."""
    if np.shape(g) == shape:
        return g
    lead = np.ndim(g) - len(shape)
    if lead == 1 and np.ndim(g) == 2 and g.shape[1:] == shape:
        return np.ones(len(g), g.dtype) @ g  # a tenth of the time of np.sum
    g = np.sum(g, axis=tuple(range(lead))) if lead else g
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return np.sum(g, axis=axes, keepdims=True) if axes else g


def scale(d: Any, y: Any, x: Any) -> Linear:
    """Declare an elementwise derivative: multiply by `d` in both directions."""
    shape, out = np.shape(x), np.shape(y)
    if shape == out:
        return Linear(lambda dx: d * dx, lambda g: d * g)
    return Linear(lambda dx: np.broadcast_to(d * dx, out), lambda g: unbroadcast(d * g, shape))


def itself(y: Any, x: Any, *_args: Any) -> Linear:
    """Declare that the derivative is the identity, up to broadcasting."""
    shape, out = np.shape(x), np.shape(y)
    if shape == out:
        return Linear(lambda dx: dx, lambda g: g)
    return Linear(lambda dx: np.broadcast_to(dx, out), lambda g: unbroadcast(g, shape))


def _power_x(y, x, c):
    if np.ndim(c):
        exponent = np.where(c == 0, 1, c - 1)
    else:
        exponent = c - 1 if c else 1  # not -1: x^0 has derivative 0, at 0 too
    return scale(c * x ** exponent, y, x)


def _matmul(x, w):
    """x (..., n) times w (n, m)."""
    if np.ndim(x) < 1 or np.ndim(w) != 2:
        raise ValueError(f"matmul: (..., n) @ (n, m) is what this op does, not {np.shape(x)} @ {np.shape(w)}")
    return np.matmul(x, w)


def _matmul_w(y, x, w):
    rows = x.reshape(-1, x.shape[-1])
    return Linear(lambda dw: x @ dw, lambda g: rows.T @ g.reshape(-1, g.shape[-1]))


def _getitem(x, index):
    """x[index], with integers, slices, `...`, None or arrays of integers."""
    return x[index]


def _getitem_x(y, x, index):
    parts = index if isinstance(index, tuple) else (index,)
    is_slice = all(part is Ellipsis or part is None or isinstance(part, (slice, int)) for part in parts)

    def pull(g):
        out = np.zeros(x.shape, g.dtype)
        if is_slice:
            out[index] = g
        else:
            np.add.at(out, index, g)  # an index may name an element twice
        return out
    return Linear(lambda dx: dx[index], pull)


def _transpose_x(y, x, axes=None):
    back = None if axes is None else np.argsort([axis % np.ndim(x) for axis in axes])
    return Linear(lambda dx: np.transpose(dx, axes), lambda g: np.transpose(g, back))


add = primitive(np.add, itself, lambda y, a, b: itself(y, b))
subtract = primitive(np.subtract, itself, lambda y, a, b: scale(-1, y, b))
multiply = primitive(np.multiply, lambda y, a, b: scale(b, y, a), lambda y, a, b: scale(a, y, b))
divide = primitive(np.divide, lambda y, a, b: scale(1 / b, y, a), lambda y, a, b: scale(-y / b, y, b))
negative = primitive(np.negative, lambda y, x: scale(-1, y, x))
power = primitive(np.power, _power_x)
matmul = primitive(_matmul, lambda y, x, w: Linear(lambda dx: dx @ w, lambda g: g @ w.T), _matmul_w)
transpose = primitive(np.transpose, _transpose_x)
getitem = primitive(_getitem, _getitem_x)

_OPERATORS = {np.add: add, np.subtract: subtract, np.multiply: multiply, np.divide: divide,
              np.power: power, np.matmul: matmul}
_COMPARISONS = {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal}

for _name, _op in dict(add=add, sub=subtract, mul=multiply, truediv=divide, matmul=matmul).items():
    setattr(Var, f"__{_name}__", lambda a, b, op=_op: op(a, b))
    setattr(Var, f"__r{_name}__", lambda a, b, op=_op: op(b, a))
for _name, _op in dict(neg=negative, pow=power, getitem=getitem).items():
    setattr(Var, f"__{_name}__", lambda *args, op=_op: op(*args))
