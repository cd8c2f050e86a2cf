"""A policy as a list of steps, from the numbers of one observation to the outputs of its network.

`describe` makes a Program of a policy. Each step has an op, the names of its inputs and of its output, and
the numbers that belong to it. The first inputs are the fields of the observation, by name, as the environment
gives them. All writers walk this list; `run` computes it, as their reference. The ops are

    onehot(sizes, starts)    integers as ones among zeros, side by side
    image(axes)              an image's axes in the order of `axes`, (height, width, channels of each frame)
    scale(shift, factor, clip, precise)   clip((x - shift) * factor) as one row of float32; None: leave that
                             out. The shift is float64; it is subtracted in the type in which observations
                             come, or, if they are `precise`, in float64
    concat()                 rows side by side
    dense(w, b)              x @ w + b
    conv(w, b, stride, before, padded)   images (h, w, c), zeros around them up to the size `padded`
    tanh() relu() elu() sigmoid()
    flatten()                an image as a row
    lstm(wx, wh, b)          one step of kernels/lstm.py on the memory [c, h]; gates in the order i, f, o, g.
                             With layer norm also the gains gx, gh, gc and the cell's bias bc; b is then
                             the sum of all biases of the gates

The outputs are logits, or the means of a Box; `reference.act` makes the likeliest action of them.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import nn, spaces
from ..distributions import ByUniform
from ..ops.conv import windows
from ..policies.base import Policy
from ..promises import declared
from . import reference

ACTIVATIONS = {fun: name for name, fun in nn.ACTIVATIONS.items()}


class Value(NamedTuple):
    """What a step computes: its name and, without the batch, its shape."""

    name: str
    shape: tuple


class Step(NamedTuple):
    """One op: from values by name to a new one."""

    op: str
    inputs: tuple[Value, ...]
    out: Value
    given: dict[str, Any]


class Field(NamedTuple):
    """A part of the observation: its keys in the Dict or Tuple, where its numbers begin in the flattened
    observation, its space."""

    path: tuple
    start: int
    space: Any

    @property
    def name(self) -> str:
        return ".".join(map(str, ("obs", *self.path)))

    @property
    def shape(self) -> tuple:
        return tuple(self.space.shape)

    @property
    def choices(self) -> list[tuple[int, int]]:
        """For each integer of a Discrete or MultiDiscrete, how many values it has and the first of them."""
        if isinstance(self.space, spaces.Discrete):
            return [(self.space.n, self.space.start)]
        if isinstance(self.space, spaces.MultiDiscrete):
            return [*zip(self.space.nvec, self.space.start)]
        return []

    @property
    def stop(self) -> int:
        return self.start + int(np.prod(self.shape))


class Program(NamedTuple):
    """A policy as data."""

    fields: tuple[Field, ...]  # in the order of the file
    steps: tuple[Step, ...]
    memory: int  # how many numbers are carried from step to step, [c, h]; 0 for none
    action: dict[str, Any]  # kind, shape and what `act` needs; `std` of a Box, for drawing
    about: dict[str, Any]  # where the policy comes from

    @property
    def size(self) -> int:
        """How many numbers an observation has."""
        return self.fields[-1].stop

    @property
    def is_precise(self) -> bool:
        """Whether observations need float64."""
        return any(step.given.get("precise") for step in self.steps)

    @property
    def outputs(self) -> Value:
        """The last value."""
        return self.steps[-1].out


def normalized(policy: Policy, fields) -> list[slice | None]:
    """Return which of the normaliser's columns are those of each field; None for indices, which have none."""
    found: list[slice | None] = []
    at = 0
    for field in fields:
        if field.space.codes is not None:
            found.append(None)
        else:
            found.append(slice(at, at + field.space.width))
            at += field.space.width
    return found


def describe(policy: Policy, about: dict | None = None) -> Program:
    """Return the steps of a policy; a ValueError names what is no layer of trpo_np.nn."""
    _require_layers(policy)
    builder = _Builder(policy)
    _require_names([field.name for field in builder.fields])
    x = None if policy.reads_pixels else builder.encoded(policy.observation_space)
    for layer in policy.pi_layers():
        x = builder.walk(layer, x)
    if not builder.steps or x is not builder.steps[-1].out:
        raise ValueError(f"{type(policy).__name__} has no layers")
    cells = [step.given["wh"].shape[0] for step in builder.steps if step.op == "lstm"]
    named = {"policy": type(policy).__name__, **(about or {})}
    return Program(tuple(builder.fields), tuple(builder.steps), 2 * sum(cells), _action(policy), named)


def _require_layers(policy: Policy) -> None:
    name = type(policy).__name__
    if not declared(policy, "layered"):
        raise ValueError(f"{name} has methods of its own, which cannot be exported; if its layers still say "
                         "all that it computes, write `layered = True` into the class")
    if not (declared(policy.dist, "additive") or isinstance(policy.dist, ByUniform)):
        raise ValueError(f"{name} draws actions from {type(policy.dist).__name__}, a distribution of your "
                         "own, which cannot be exported; one of trpo_np.distributions is needed")


def _require_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two fields of the observation have the same name, {name}; rename a key "
                             "that has a dot in it")


def _action(policy: Policy) -> dict:
    """Describe what makes actions of outputs."""
    space = policy.action_space
    dtype = "int8" if isinstance(space, spaces.MultiBinary) else getattr(space, "dtype", "int64")
    action = {"kind": type(space).__name__, "shape": tuple(space.shape), "dtype": dtype}
    if isinstance(space, spaces.Box):
        std = np.exp(policy.own_weights(policy.params)["log_std"]).astype(np.float32)
        low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
        return action | {"low": low, "high": high, "integer": np.dtype(space.dtype).kind in "iub", "std": std}
    if isinstance(space, spaces.Discrete):
        return action | {"nvec": (space.n,), "start": (space.start,)}
    if isinstance(space, spaces.MultiDiscrete):
        return action | {"nvec": space.nvec, "start": space.start}
    return action


# --- from layers to steps -----------------------------------------------------------------------------------

class _Builder:
    """Walks layers and notes their steps. The methods named after the makers of layers take their arguments,
    after the value to apply them to and the prefix of their parameters' names."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.precise = True if policy.observation_space.precision == np.float64 else None
        self.steps: list[Step] = []
        self.fields = list(_fields(policy.observation_space))

    def add(self, op: str, inputs, shape, **given) -> Value:
        out = Value(f"x{len(self.steps)}", tuple(map(int, shape)))
        self.steps.append(Step(op, tuple(inputs), out, given))
        return out

    def weight(self, name: str) -> np.ndarray:
        return np.asarray(self.policy.params[name], np.float32)

    def walk(self, layer: nn.Layer, x: Value | None, at: str = "") -> Value:
        """Note the steps of a layer."""
        if layer.call is None:
            raise ValueError(f"{type(self.policy).__name__} has a layer of functions of your own "
                             f"({_name(layer.apply)}), which cannot be exported; make it of trpo_np.nn's: "
                             "dense, conv, elementwise, flatten, mlp, serial")
        name = layer.call.func.__name__
        if x is None and name not in ("named", "serial", "make_encoder"):
            raise ValueError(f"{type(self.policy).__name__} has an encoder of its own for images, which "
                             "cannot be exported; give the layer as cnn_extractor")
        return getattr(self, f"_{name}")(x, at, *layer.call.args, **layer.call.keywords)

    # --- layers

    def _serial(self, x, at, *layers):
        for layer in layers:
            x = self.walk(layer, x, at)
        return x

    def _named(self, x, at, prefix, layer):
        return self.walk(layer, x, f"{at}{prefix}/")

    def _dense(self, x, at, name, n_out, gain=None):
        w, b = self.weight(f"{at}{name}/w"), self.weight(f"{at}{name}/b")
        return self.add("dense", [x], (n_out,), w=w, b=b)

    def _mlp(self, x, at, name, widths, activation, out=None):
        for i, width in enumerate(widths):
            x = self._elementwise(self._dense(x, at, f"{name}{i}", width), at, activation)
        return x if out is None else self._dense(x, at, *out)

    def _elementwise(self, x, at, fun):
        if fun not in ACTIVATIONS:
            raise ValueError(f"the activation {_name(fun)} cannot be exported; it can be "
                             f"{', '.join(ACTIVATIONS.values())}")
        return self.add(ACTIVATIONS[fun], [x], x.shape)

    def _function(self, x, at, fun):
        raise ValueError(f"{_name(fun)} is a function of ops, which cannot be exported; train with an "
                         "extractor of layers of trpo_np.nn (dense, conv, elementwise, flatten, mlp, serial)")

    def _coded(self, x, at, is_index, places, width):
        return x  # rows are one-hot here

    def _expanded(self, x, at):
        return x

    def _flatten(self, x, at):
        return x if len(x.shape) == 1 else self.add("flatten", [x], (np.prod(x.shape),))

    def _conv(self, x, at, name, n_out, size, stride=1, padding="valid", relu=False, gain=None):
        w, b = self.weight(f"{at}{name}/w"), self.weight(f"{at}{name}/b")
        where = windows(x.shape[:2], w.shape[:2], stride, padding)
        y = self.add("conv", [x], (*where.out, n_out), w=w, b=b, stride=where.stride, before=where.before,
                     padded=where.padded)
        return self.add("relu", [y], y.shape) if relu else y

    def _lstm(self, x, at, name, n_out, layer_norm=False):
        def given(*keys):
            return {key: self.weight(f"{at}{name}/{key}") for key in keys}
        weights = given("wx", "wh", "b")
        if layer_norm:
            weights |= given("gx", "gh", "gc", "bc") | {"b": sum(given("bx", "bh", "b").values())}
        return self.add("lstm", [x], (n_out,), **weights)

    def _make_encoder(self, x, at, space, network, mean=None):
        """Of policies/images.py: from the observation itself to features."""
        if not isinstance(space, spaces.Fields):
            return self._flatten(self.walk(network, self._pixels(self.fields[0]), at), at)
        rows = []
        for key, part in zip(space.keys, space.spaces):
            mine = [field for field in self.fields if field.path[0] == key]
            if isinstance(part, spaces.Image):
                seen = self.walk(network, self._pixels(mine[0]), f"{at}{key}/")
                rows.append(self._flatten(seen, at))
            else:
                rows += [self._numbers(field, None) for field in mine]
        return self._beside(rows)

    # --- observations

    def encoded(self, space) -> Value:
        """Note the steps from the observation to the normalised row."""
        return self._beside([self._numbers(field, columns)
                             for field, columns in zip(self.fields, normalized(self.policy, self.fields))])

    def _beside(self, rows: list) -> Value:
        return rows[0] if len(rows) == 1 else self.add("concat", rows, (sum(x.shape[0] for x in rows),))

    def _numbers(self, field: Field, columns: slice | None) -> Value:
        """Note how a field that is no image becomes a row, and is normalised as these `columns` are."""
        space, x = field.space, Value(field.name, field.shape)
        if field.choices:
            sizes, starts = zip(*field.choices)
            x = self.add("onehot", [x], (space.width,), sizes=sizes, starts=starts)
        normalizer = self.policy.normalizer
        if columns is not None and normalizer.enabled:
            factor = (1 / normalizer.moments.unit).astype(np.float32)
            return self.add("scale", [x], (space.width,), shift=normalizer.moments.mean[columns],
                            factor=factor[columns], clip=float(normalizer.clip), precise=self.precise)
        if x.name != field.name:
            return x
        return self.add("scale", [x], (space.width,), shift=None, factor=None, clip=None)

    def _pixels(self, field: Field) -> Value:
        """Note how an image becomes (h, w, c), of numbers from 0 to 1, less the mean image."""
        space, normalizer = field.space, self.policy.normalizer
        *channels, h, w = space.axes
        axes = [axis for axis in (h, w, *channels) if axis >= 0]
        x = self.add("image", [Value(field.name, field.shape)], space.rows, axes=tuple(axes))
        unit = 255.0 if space.is_bytes else float(np.max(space.high))
        shift = None
        if normalizer.enabled:  # its mean is one of bytes, or of numbers from 0 to 1
            shift = (normalizer.mean * (1 if space.is_bytes else unit)).reshape(space.rows)
        return self.add("scale", [x], x.shape, shift=shift, factor=np.float32(1 / unit), clip=None)


def _name(fun: Callable) -> str:
    return getattr(fun, "__name__", repr(fun)).lstrip("_")


def _fields(space, path: tuple = (), start: int = 0) -> Iterator[Field]:
    """Yield the fields of a space, in its order."""
    if not isinstance(space, spaces.Fields):
        yield Field(path, start, space)
        return
    for key, part in zip(space.keys, space.spaces):
        for field in _fields(part, (*path, key), start):
            yield field
            start = field.stop


# --- the reference ------------------------------------------------------------------------------------------

def run(program: Program, rows: np.ndarray, memory: np.ndarray | None = None) -> tuple[np.ndarray, Any]:
    """Return the outputs (n, k) of flattened observations (n, size), and the memory (n, ...) after them."""
    n = len(rows)
    memory = np.zeros((n, program.memory), np.float32) if memory is None else memory
    values: dict = {field.name: rows[:, field.start:field.stop].reshape(n, *field.shape)
                    for field in program.fields}
    for step in program.steps:
        x = [values[value.name] for value in step.inputs]
        if step.op == "lstm":
            y, memory = reference.lstm(x[0], memory, **step.given)
        else:
            y = getattr(reference, step.op)(*x, **step.given)
        values[step.out.name] = y.reshape(n, *step.out.shape)
    return values[program.outputs.name], memory


# --- in words -----------------------------------------------------------------------------------------------

def plain(text: Any) -> str:
    """Return a file's text without what could end a comment or a string: a file must not write code."""
    return re.sub(r"[^A-Za-z0-9 _.,:;()\[\]+=/-]", "_", str(text))[:200]


def describe_field(field: Field) -> str:
    """Describe a part of the observation in a line."""
    space = field.space
    if isinstance(space, spaces.Discrete):
        said = f"an integer from {space.start} to {space.start + space.n - 1}"
    elif isinstance(space, spaces.MultiDiscrete):
        said = f"integers {space.shape}, from {space.start} on, of {space.nvec} values"
    elif isinstance(space, spaces.MultiBinary):
        said = f"{space.shape}, 0 or 1"
    else:
        low, high = float(np.min(space.low)), float(np.max(space.high))
        said = f"{type(space).__name__} {space.shape}, {space.dtype}, from {low:g} to {high:g}"
    return f"{field.name}, {said}"


def describe_action(action: dict) -> str:
    """Describe the actions in a line."""
    if action["kind"] == "Box":
        return (f"Box {action['shape']}, from {action['low'].min():g} to {action['high'].max():g}"
                + ", whole numbers" * action["integer"])
    if action["kind"] == "MultiBinary":
        return f"MultiBinary {action['shape']}, 0 or 1"
    return f"{action['kind']}, from {action['start']} on, of {action['nvec']} values"
