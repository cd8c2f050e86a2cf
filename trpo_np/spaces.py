"""Observation and action spaces as plain descriptions: JSON in a file, NumPy in a network, without gymnasium.

`describe` reads a gymnasium space by its attributes. Every description has
    width               number of numbers that the network sees of one observation
    rows                the shape of what `encode` makes of one: (width,), (h, w, c) of an image, or, where
                        discrete values are kept as indices, a shorter row; see `as_indices`
    precision           the type of encoded observations: float32, or float64 where float32 would lose some of
                        them, or an image's bytes
    encode(x, n)        n observations as (n, *rows); x is stacked as gymnasium stacks them, or, for n = 1,
                        may be one observation
    count(x)            None if x is one observation, n if it is a batch of n; a ValueError if it is neither
    to_json()           a dict that `from_json` reads back
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
GYMNASIUM = {"sample", "contains", "seed"}  # what only a gymnasium space can do
EXACT = {FLOAT32: 2**24, FLOAT64: 2**53}  # integers up to these are numbers of the type
LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in (FLOAT32, FLOAT64)}


def _leaf_count(space, x) -> int | None:
    try:
        shape = x.shape if type(x) is np.ndarray else np.shape(x)
    except ValueError:
        raise ValueError(f"an observation of shape {space.shape} is needed, not a {type(x).__name__} of "
                         "parts that differ; of what reset() returns, (observation, info), it is the first"
                         ) from None
    if shape == space.shape:
        return None
    if len(shape) == len(space.shape) + 1 and shape[1:] == space.shape:
        return shape[0]
    want = ", ".join(map(str, space.shape))
    raise ValueError(f"an observation of shape {shape} does not fit: one has shape {space.shape}, "
                     f"a batch (n{', ' + want if want else ','})")


def all_finite(x: np.ndarray, dtype: Any = FLOAT64) -> bool:
    """Say whether all of an array's real numbers are finite, also in `dtype`."""
    flat, largest = x.ravel(), LARGEST[dtype]
    # the product can also overflow
    return float(flat.dot(flat)) < largest * largest or bool((abs(flat) <= np.float64(largest)).all())


def check_finite(obs: np.ndarray, dtype: Any, env: int | None = None) -> None:
    """Raise a ValueError if environments' observations (n, ...) hold a number that is not finite in `dtype`.

    Check before they are acted on: actions made of NaN must not reach a machine.
    """
    if obs.dtype != np.uint8 and not all_finite(obs, dtype):
        i, field, bad, needed = _first_bad(obs, dtype)
        raise ValueError(f"environment {i if env is None else env} gave an observation with {bad} in field "
                         f"{field} (counted over the flattened observation); {needed}")


def check_given(rows: np.ndarray, dtype: Any) -> None:
    """Raise a ValueError if a user's observations (n, ...) hold a number that is not finite in `dtype`."""
    if rows.dtype != np.uint8 and not all_finite(rows, dtype):
        row, field, bad, needed = _first_bad(rows, dtype)
        raise ValueError(f"the observation holds {bad} in row {row}, field {field}; {needed}")


def _first_bad(rows, dtype) -> tuple:
    """Return row, field and value of the first number that is not finite in `dtype`, and what is needed."""
    rows = rows.reshape(len(rows), -1)
    row, field = np.argwhere(~(abs(rows) <= np.float64(LARGEST[dtype])))[0]
    needed = "observations must be finite numbers"
    if np.isfinite(bad := rows[row, field]):
        needed = ("a float32 network sees no number beyond 3.4e+38: pass normalize_observations=True, which "
                  'makes observations small first, or dtype="float64"')
    return row, field, bad, needed


def find(space: "Space", column: int, field: str = "") -> tuple["Space", str]:
    """Return the space of which a column of encoded rows is a number, and a name for the number."""
    if not isinstance(space, Fields):
        return space, f"number {column} of the observation" + f"'s field {field}" * bool(field)
    ends = np.cumsum([part.width for part in space.spaces])
    i = int(np.searchsorted(ends, column, side="right"))
    part = space.spaces[i]
    return find(part, column - int(ends[i]) + part.width, f"{field}[{space.keys[i]!r}]")


def coarse(space: "Space", rows: np.ndarray, dtype: Any) -> str | None:
    """Say which number of encoded rows (n, ...) is so large that `dtype`, in which a policy takes them, shows
    no changes of 1, and what helps; None if there is none, or the environment itself has it no finer."""
    largest, seen = abs(rows.reshape(len(rows), -1)).max(0), min(rows.dtype, dtype, key=EXACT.__getitem__)
    for column in np.flatnonzero((largest > EXACT[seen]) & (largest <= LARGEST[seen])):
        part, name = find(space, int(column))
        step = np.spacing(largest[column].astype(seen))
        told = (f"an environment gave {largest[column]:.16g} as {name}; so large, {seen} shows no changes "
                f"smaller than {step:g}")
        if rows.dtype == FLOAT32:
            return f"{told}: if the environment has it in float64, its space should say so"
        if seen == FLOAT32:
            return (f"{told}: pass normalize_observations=True, which subtracts the mean in float64, or "
                    'dtype="float64"')
        if isinstance(part, Box) and np.dtype(part.dtype).kind in "iu":
            return f"{told}: the environment may subtract an offset from its integers"
    return None


def count_from_zero(x, sizes, starts, what: str = "observation") -> np.ndarray:
    """Subtract `starts` from integers x (n, len(sizes)); a ValueError names the first out of range."""
    x, sizes, starts = np.asarray(x), np.array(sizes), np.array(starts)
    if x.dtype.kind not in "biuf":
        raise ValueError(f"the {what} is {x.ravel()[0]!r}; integers are needed")
    fits = (x >= starts) & (x < starts + sizes) & (x == np.floor(x))
    if not fits.all():
        row, column = np.argwhere(~fits)[0]
        raise ValueError(f"the {what} {x[row, column]} is outside the space: {sizes[column]} values, "
                         f"counted from {starts[column]}")
    return x.astype(int) - starts


class Rows:
    """The base of all descriptions: an observation is one row of float32, if a subclass says nothing else."""

    width: Any
    precision: Any = FLOAT32  # the type of encoded observations
    is_bytes: Any = False  # whether encoded observations are bytes
    line: Any = None  # the shape of an observation, if that is a row of numbers already, else None
    frames: Any = 1  # number of frames that one observation stacks
    # Where a row holds indices: of each of its numbers, whether it is one, and its place in a row of `width`;
    # an index is counted from that place, and means a 1 there. None: the row is what the network sees.
    codes: Any = None

    @property
    def rows(self) -> tuple:
        return (self.width,)

    if not TYPE_CHECKING:
        def __getattr__(self, name: str) -> object:
            hint = ("; the environment's own do: model.get_env().observation_space and action_space"
                    if name in GYMNASIUM else "")
            raise AttributeError(f"a model's {type(self).__name__} describes a space and has no {name}{hint}")


@dataclass(frozen=True, eq=False)
class Box(Rows):
    """Arrays of numbers within bounds (either may be infinite).

    Integers beyond 2^53 are rounded to numbers of float64: a time of 1.7e18 ns to multiples of 256 ns.
    """

    shape: tuple
    dtype: str
    low: np.ndarray
    high: np.ndarray

    @cached_property
    def precision(self):
        """The type of encoded observations: float32 if it has all numbers of the space, else float64."""
        kind, size = np.dtype(self.dtype).kind, np.dtype(self.dtype).itemsize
        if kind in "iu":
            largest = max(-int(np.min(self.low, initial=0)), int(np.max(self.high, initial=0)))
            return FLOAT64 if largest > EXACT[FLOAT32] else FLOAT32
        return FLOAT64 if kind == "f" and size > 4 else FLOAT32

    @property
    def width(self):
        return math.prod(self.shape)

    @property
    def line(self):
        return self.shape if len(self.shape) == 1 else None

    def count(self, x):
        return None if type(x) is np.ndarray and x.shape == self.shape else _leaf_count(self, x)

    def encode(self, x, n):
        if len(self.shape) == 1:  # one call less
            return np.array(x, self.precision, ndmin=2)
        return np.array(x, self.precision).reshape(n, -1)

    def to_json(self):
        return {"kind": "Box", "shape": list(self.shape), "dtype": self.dtype,
                "low": _bounds_to_json(self.low), "high": _bounds_to_json(self.high)}


@dataclass(frozen=True, eq=False)
class Image(Box):
    """An image that the network sees as (h, w, c); in a file it is the Box that it is in the environment.

    `axes` are the observation's axes in the order (c, h, w), or (frame, c, h, w) of a stack; -1 is no axis.
    """

    axes: tuple

    @property
    def planes(self) -> tuple:
        *channels, h, w = (self.shape[i] if i >= 0 else 1 for i in self.axes)
        return math.prod(channels), h, w

    @property
    def rows(self):
        c, h, w = self.planes
        return h, w, c

    @property
    def is_bytes(self):
        return self.dtype == "uint8"

    @cached_property
    def precision(self):
        """The type of encoded images."""
        return np.dtype(np.uint8) if self.is_bytes else super().precision

    @property
    def frames(self):
        channels = self.planes[0]
        if len(self.axes) == 4:
            return self.shape[self.axes[0]]
        return 1 if channels in (1, 3) else channels  # one frame, grey or coloured, or a stack of grey ones

    def encode(self, x, n):
        x = np.asarray(x).reshape(n, *self.shape)
        x = self._as_bytes(x) if self.is_bytes else self._scaled(x)
        if self.axes[-1] == x.ndim - 2:  # planes stay together in memory, where a frame is one piece
            planes = np.transpose(x, (0, *(i + 1 for i in self.axes if i >= 0)))
            return np.moveaxis(np.array(planes, order="C").reshape(n, *self.planes), 1, 3)
        lead = np.transpose(x, (0, *(i + 1 for i in self.axes if i >= 0)))
        return np.array(np.moveaxis(lead.reshape(n, *self.planes), 1, 3), order="C")

    def _as_bytes(self, x):
        if x.dtype == np.uint8:
            return x
        with np.errstate(invalid="ignore"):
            as_bytes = x.astype(np.uint8)
        if x.dtype.kind not in "fiub" or not np.array_equal(as_bytes, x):
            raise ValueError("the image holds other numbers than the integers from 0 to 255 "
                             "that its space declares")
        return as_bytes

    def _scaled(self, x):
        low, high = float(np.min(self.low)), float(np.max(self.high))
        if not (low <= np.min(x, initial=low) and np.max(x, initial=high) <= high):  # also false for NaN
            raise ValueError(f"the image holds numbers from {np.min(x)} to {np.max(x)}; "
                             f"its space declares {low:g} to {high:g}")
        return (x / high).astype(self.precision)


@dataclass(frozen=True, eq=False)
class Discrete(Rows):
    """Integers start .. start + n - 1."""

    n: int
    start: int = 0
    shape: tuple = ()

    @property
    def width(self):
        return self.n

    def count(self, x):
        return _leaf_count(self, x)

    def index(self, x, n) -> np.ndarray:
        """Count n integers from 0; a ValueError says which is out of range."""
        x = np.asarray(x).reshape(n)
        index = x.astype(np.int64) - self.start if x.dtype.kind in "iu" else np.full(n, -1)
        if index.min(initial=0) < 0 or index.max(initial=0) >= self.n:
            index = count_from_zero(x[:, None], [self.n], [self.start])[:, 0]  # which says what is wrong
        return index

    def encode(self, x, n):
        out = np.zeros((n, self.n), np.float32)
        out[np.arange(n), self.index(x, n)] = 1
        return out

    def to_json(self):
        return {"kind": "Discrete", "n": self.n, "start": self.start}


@dataclass(frozen=True, eq=False)
class MultiDiscrete(Rows):
    """An array of integers, each below its own number of values."""

    nvec: tuple
    shape: tuple
    start: tuple

    @property
    def width(self):
        return sum(self.nvec)

    def count(self, x):
        return _leaf_count(self, x)

    @cached_property
    def arrays(self) -> tuple:
        """The numbers of values, what they are counted from, and the place of each code in a row."""
        nvec = np.array(self.nvec)
        return nvec, np.array(self.start), np.cumsum(nvec) - nvec

    def index(self, x, n) -> np.ndarray:
        """Count n rows of integers from 0; a ValueError says which is out of range."""
        return count_from_zero(np.reshape(x, (n, -1)), *self.arrays[:2])

    def encode(self, x, n):
        out = np.zeros((n, self.width), np.float32)
        np.put_along_axis(out, self.index(x, n) + self.arrays[2], 1.0, axis=1)
        return out

    def to_json(self):
        return {"kind": "MultiDiscrete", "nvec": list(self.nvec), "shape": list(self.shape),
                "start": list(self.start)}


@dataclass(frozen=True, eq=False)
class MultiBinary(Rows):
    """An array of bits."""

    shape: tuple

    @property
    def width(self):
        return math.prod(self.shape)

    def count(self, x):
        return _leaf_count(self, x)

    def encode(self, x, n):
        return np.array(x, np.float32).reshape(n, -1)

    def to_json(self):
        return {"kind": "MultiBinary", "shape": list(self.shape)}


@dataclass(frozen=True, eq=False)
class Fields(Rows):
    """Several spaces by name (Dict) or by position (Tuple), encoded side by side."""

    kind: str
    keys: tuple
    spaces: tuple

    def __post_init__(self):
        # not later: by now the parts know theirs, and however deep they are nested, nothing recurs
        exact = any(space.precision == FLOAT64 for space in self.spaces)
        width = sum(space.width for space in self.spaces)
        vars(self).update(precision=FLOAT64 if exact else FLOAT32, width=width, codes=self._codes(),
                          short_rows=(sum(math.prod(space.rows) for space in self.spaces),))

    @property
    def rows(self):
        return self.short_rows

    def _codes(self) -> Any:
        """Return what Rows.codes says."""
        if all(space.codes is None for space in self.spaces):
            return None
        places, are_indices, at = [], [], 0
        for space in self.spaces:
            is_index, place = space.codes or (np.zeros(space.width, bool), np.arange(space.width))
            are_indices.append(is_index)
            places.append(at + place)
            at += space.width
        return np.concatenate(are_indices), np.concatenate(places)

    def _values(self, x):
        try:
            return [x[key] for key in self.keys]
        except (KeyError, IndexError, TypeError):
            given = sorted(x) if isinstance(x, dict) else f"{type(x).__name__} {x!r}"[:200]
            raise ValueError(f"the observation needs the fields {list(self.keys)}, given: {given}") from None

    def count(self, x):
        counts = {space.count(value) for space, value in zip(self.spaces, self._values(x))}
        if len(counts) != 1:
            raise ValueError(f"the fields {list(self.keys)} hold different numbers of observations: {counts}")
        return counts.pop()

    def encode(self, x, n):
        parts = [space.encode(value, n) for space, value in zip(self.spaces, self._values(x))]
        return np.concatenate([part.reshape(n, -1) for part in parts], axis=1, dtype=self.precision)

    def to_json(self):
        return {"kind": self.kind, "keys": list(self.keys),
                "spaces": [space.to_json() for space in self.spaces]}


@dataclass(frozen=True, eq=False)
class Index(Discrete):
    """A Discrete of many values, of which a row holds the index instead of a 1 among zeros.

    In a file it is the Discrete that it is in the environment.
    """

    codes = np.ones(1, bool), np.zeros(1, int)

    @property
    def rows(self):
        return (1,)

    def encode(self, x, n):
        return self.index(x, n)[:, None].astype(np.float32)


@dataclass(frozen=True, eq=False)
class Indices(MultiDiscrete):
    """A MultiDiscrete of many values, of which a row holds the indices; see Index."""

    @property
    def rows(self):
        return (len(self.nvec),)

    @property
    def codes(self):
        return np.ones(len(self.nvec), bool), self.arrays[2]

    def encode(self, x, n):
        return self.index(x, n).astype(np.float32)


Leaf = Box | Discrete | MultiDiscrete | MultiBinary  # also what actions are
Space = Leaf | Fields
# An update with a row of 2,000 one-hot numbers takes as long as one with an index instead, and each further
# index in a row as long as 100 numbers more. Up to as many logits actions are drawn by a random number each.
WIDE, PER_INDEX = 2000, 100
KINDS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple")
DEEP = 20  # levels of spaces in spaces


def describe(space: Any, what: str = "observation") -> Space:
    """Describe a gymnasium space (or pass a description through); `what` is its name in error messages."""
    described = _describe(space, what, "")
    if not described.width:
        raise ValueError(f"the {what} space {space} is empty; at least one number is needed")
    return described


def as_indices(space: Space) -> Space:
    """Describe a space with indices in place of one-hot codes, if that makes its rows much shorter.

    A row of 100,000 numbers for a Discrete(100000) would cost 100,000 multiplications a unit where a look-up
    in the weights does; small spaces stay as they are. Indices are numbers of float32, exact up to 2^24.
    """
    short = _as_indices(space)
    return short if space.width - math.prod(short.rows) >= WIDE else space


def _as_indices(space: Space) -> Space:
    if isinstance(space, Fields):
        return Fields(space.kind, space.keys, tuple(map(_as_indices, space.spaces)))
    if isinstance(space, Discrete) and PER_INDEX <= space.n <= 2**24:
        return Index(space.n, space.start)
    if (isinstance(space, MultiDiscrete) and space.width >= PER_INDEX * len(space.nvec)
            and max(space.nvec) <= 2**24):
        return Indices(space.nvec, space.shape, space.start)
    return space


def _kind(space: Any) -> str:
    """Name the kind of a space: its own, or that from which its class is derived."""
    names = [base.__name__ for base in type(space).__mro__]
    return next((name for name in names if name in KINDS), names[0])


def _describe(space: Any, what: str, field: str, depth: int = 0) -> Space:
    """Describe a space; `field` tells, in error messages, where in a Dict or Tuple it stands."""
    if isinstance(space, Space) and not (what == "action" and isinstance(space, Fields)):
        return space if space.codes is None else from_json(space.to_json())  # each policy decides on indices
    kind = space.kind if isinstance(space, Fields) else _kind(space)
    if kind == "Box":
        if np.dtype(space.dtype).kind not in "fiub":
            raise ValueError(f"the {what} space{field} is a Box of dtype {space.dtype}; a numeric dtype is "
                             "needed")
        low, high = np.asarray(space.low), np.asarray(space.high)
        return Box(tuple(space.shape), np.dtype(space.dtype).name, low, high)
    if kind == "Discrete":
        return Discrete(int(space.n), int(getattr(space, "start", 0)))
    if kind == "MultiDiscrete":
        nvec = np.asarray(space.nvec)
        start = np.ravel(getattr(space, "start", np.zeros_like(nvec)))
        return MultiDiscrete(tuple(int(n) for n in nvec.ravel()), nvec.shape, tuple(int(s) for s in start))
    if kind == "MultiBinary":
        return MultiBinary(tuple(space.shape))
    if what == "observation" and kind in ("Dict", "Tuple"):
        keys = tuple(space.spaces) if kind == "Dict" else tuple(range(len(space.spaces)))
        where = field or " in the field "
        _check_depth(depth)
        parts = (_describe(space.spaces[key], what, f"{where}[{key!r}]", depth + 1) for key in keys)
        return Fields(kind, keys, tuple(parts))
    hint = ("; join its parts into one, for example by a wrapper that makes a Box or MultiDiscrete of them"
            if kind in ("Tuple", "Dict") else "")
    if field:
        hint = ("; leave the field out, or encode it as one of these, by "
                "gymnasium.wrappers.TransformObservation")
    known = ", ".join(KINDS if what == "observation" else KINDS[:4])
    raise ValueError(f"the {what} space{field} is a {kind} ({space}); this can be one of {known}{hint}")


def _check_depth(depth: int) -> None:
    if depth > DEEP:
        raise ValueError(f"spaces are nested deeper than {DEEP} levels; put their parts side by side")


def as_image(space: Box, channels: str | None = None) -> Image:
    """Describe a Box of shape (h, w), (c, h, w), (h, w, c), or a stack of these, as an image.

    The channels are the axis that is shorter than the other two; if there is no such axis, `channels` says
    where they are, "first" or "last".
    """
    shape = space.shape
    if not 2 <= len(shape) <= 4:
        raise ValueError(f"the observation has shape {shape}; an image (h, w), (c, h, w) or (h, w, c), "
                         "or a stack of them, is needed; MlpPolicy takes all shapes")
    low, high = float(np.min(space.low)), float(np.max(space.high))
    if not 0 <= low < high <= 255:
        raise ValueError(f"the image's bounds are {low:g} and {high:g}; "
                         "an image holds numbers from 0 to 255, or to 1")
    last = len(shape) - 1
    if len(shape) == 2:
        axes: tuple = (-1, 0, 1)
    else:
        a, b, c = shape[-3:]
        fits = [name for name, is_it in (("first", a < min(b, c)), ("last", c < min(a, b))) if is_it]
        if channels is None and len(fits) != 1:
            raise ValueError(f"an image of shape {shape} can have its channels first or last; say which, "
                             'for example policy_kwargs=dict(channels="first")')
        first = (channels or fits[0]) == "first"
        axes = (*range(last - 2), *((last - 2, last - 1, last) if first else (last, last - 2, last - 1)))
    return Image(shape, space.dtype, space.low, space.high, axes)


def from_json(data: dict, depth: int = 0) -> Space:
    """Read back what `to_json` wrote; `depth` is the number of spaces around it."""
    match data["kind"]:
        case "Box":
            shape = _integers(data["shape"], 0)
            if np.dtype(data["dtype"]).kind not in "fiub":  # "V2000000000" would take 2 GB
                raise ValueError(f"{data['dtype']!r} is not a numeric dtype")
            low, high = (_bounds_from_json(data[key], shape, data["dtype"]) for key in ("low", "high"))
            return Box(shape, np.dtype(data["dtype"]).name, low, high)
        case "Discrete":
            return Discrete(*_integers([data["n"]], 1), *_integers([data["start"]]))
        case "MultiDiscrete":
            nvec, start = _integers(data["nvec"], 1), _integers(data["start"])
            shape = _integers(data["shape"], 0)
            if not len(nvec) == len(start) == math.prod(shape):
                raise ValueError(f"nvec, start and shape do not belong together: {len(nvec)}, {len(start)} "
                                 f"numbers, shape {shape}")
            return MultiDiscrete(nvec, shape, start)
        case "MultiBinary":
            return MultiBinary(_integers(data["shape"], 0))
        case "Dict" | "Tuple":
            if len(data["keys"]) != len(data["spaces"]):
                raise ValueError(f"{len(data['keys'])} keys do not belong to {len(data['spaces'])} spaces")
            _check_depth(depth)
            parts = tuple(from_json(part, depth + 1) for part in data["spaces"])
            return Fields(data["kind"], tuple(data["keys"]), parts)
    raise ValueError(f"unknown kind of space {data['kind']!r}")


def difference(given: Space, needed: Space) -> str | None:
    """Name the first field in which two descriptions differ, or return None."""
    if (isinstance(given, Fields) and isinstance(needed, Fields)
            and (given.kind, given.keys) == (needed.kind, needed.keys)):
        for key, *pair in zip(given.keys, given.spaces, needed.spaces):
            if differs := difference(*pair):
                return f"[{key!r}] {differs}"
        return None
    a, b = given.to_json(), needed.to_json()
    for key in a | b:  # the kind comes first
        if a.get(key) != b.get(key):
            return f"{key} is {a.get(key)}, {b.get(key)} is needed"
    return None


def _bounds_to_json(bound):
    # JSON knows no infinity; an image's bounds are one number
    values = [x if math.isfinite(x) else str(x) for x in np.ravel(bound).tolist()]
    return values[0] if values and all(x == values[0] for x in values) else values


def _bounds_from_json(data, shape, dtype):
    def number(x):
        return x if isinstance(x, int) else float(x)  # 64-bit integers do not fit a float
    bound = np.array([number(x) for x in data] if isinstance(data, list) else number(data), dtype)
    return np.broadcast_to(bound.reshape(shape) if bound.ndim else bound, shape)


def _integers(values, least=None) -> tuple:
    for x in values:
        if type(x) is not int or (least is not None and x < least):
            raise ValueError(f"{x!r} is not an integer" + f" of at least {least}" * (least is not None))
    return tuple(values)
