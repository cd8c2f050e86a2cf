"""A pickle as data: a small machine that runs the opcodes that models' files hold, and never any code.

`pickle` would import and call whatever a file names. Here a global is a Name, and what the file wants called
is a Made: the name and the arguments, nothing else. Names come from a list of the caller; another name,
another opcode, a key that is no text end the reading. What a file wants takes no more memory than the file
itself, but for a limited number of small objects.
"""

import math
import re
import struct
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..files.archive import FileError

_MAX_STEPS, _MAX_TEXT = 2**15, 2**16  # the largest seen: 1,517 opcodes
_ARRAYS = [f"numpy.{core}.{name}" for core in ("core", "_core")
           for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")]
_RANDOM = [f"numpy.random.{name}" for name in (
    "_pickle.__generator_ctor", "_pickle.__bit_generator_ctor", "_pickle.__randomstate_ctor", "_pcg64.PCG64",
    "_mt19937.MT19937", "bit_generator.SeedSequence", "_bit_generator.SeedSequence",
    "bit_generator.__pyx_unpickle_SeedSequence", "_bit_generator.__pyx_unpickle_SeedSequence")]
NUMPY = {"numpy.dtype", "numpy.ndarray", "collections.OrderedDict", *_ARRAYS, *_RANDOM}


class Name(NamedTuple):
    """A global that a pickle names: a class or a function, never looked up."""

    full: str


class Made:
    """What a pickle wants made: the name of a class or function, its arguments, and the state for it."""

    __slots__ = ("name", "args", "state")

    def __init__(self, name: str, args: tuple):
        self.name, self.args, self.state = name, args, None


def read(data: memoryview | bytes, names: Container[str], where: str) -> Any:
    """Return what a pickle holds: None, numbers, str, bytes, lists, tuples and dicts, Name and Made.

    `names` are the globals that it may name; `where` names the pickle in error messages. Raise FileError for
    anything else.
    """
    machine = Machine(data, names, where)
    for _ in range(_MAX_STEPS):
        code = machine.take(1)
        if code == b".":
            break
        if code not in OPCODES:
            raise machine.error(f"has the opcode {_called(code)}, which such a file does not need")
        OPCODES[code](machine)
    else:
        raise machine.error(f"has more than {_MAX_STEPS} opcodes")
    value = machine.pop()
    if machine.stack or machine.below or machine.at != len(data):
        raise machine.error("ends in the midst of something")
    return value


def _called(code: bytes) -> str:
    import pickletools  # slow to load, and seldom needed

    return next((op.name for op in pickletools.opcodes if op.code == code.decode("latin1")), repr(code))


class Machine:
    """A pickle's bytes, where the reading stands, and the stack; what lies below the last mark is aside."""

    def __init__(self, data: memoryview | bytes, names: Container[str], where: str):
        self.data, self.names, self.where, self.at = memoryview(data), names, where, 0
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, Any] = {}

    def error(self, text: str) -> FileError:
        return FileError(f"{self.where}: the pickle {text} (byte {max(self.at - 1, 0)})")

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.at:
            raise self.error(f"wants {n} bytes where {len(self.data) - self.at} are left")
        self.at += n
        return bytes(self.data[self.at - n:self.at])

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def integer(self) -> int:
        return int.from_bytes(self.take(self.number("<B")), "little", signed=True)

    def text(self, form: str) -> str:
        if (n := self.number(form)) > _MAX_TEXT:
            raise self.error(f"has a text of {n} bytes; at most {_MAX_TEXT} are read")
        return self.decoded(self.take(n))

    def decoded(self, text: bytes) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise self.error("has a text that is not UTF-8") from None

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise self.error("takes something where nothing is")
        return self.stack.pop()

    def pops(self, n: int) -> tuple:
        return tuple(self.pop() for _ in range(n))[::-1]

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list:
        if not self.below:
            raise self.error("goes back to a mark that it has not set")
        since, self.stack = self.stack, self.below.pop()
        return since

    def top(self, kind: type | tuple) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise self.error("puts something into what cannot hold it")
        return self.stack[-1]

    def put(self, key: int) -> None:
        self.memo[key] = self.top(object)

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise self.error(f"looks for number {key}, which it has not kept")
        self.push(self.memo[key])

    def append(self, values: Iterable) -> None:
        self.top(list).extend(values)

    def items(self, pairs: Sequence) -> None:
        target = self.top(dict)
        if len(pairs) % 2:
            raise self.error("has a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2]):
            if type(key) is not str:  # whose hashes no file can foresee
                raise self.error(f"has a key of kind {type(key).__name__}; texts are needed")
            target[key] = value

    def name(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}" if type(module) is type(name) is str else "something that is no text"
        if full not in self.names:
            raise self.error(f"names {full[:200]!r}, which is not among what is known here")
        self.push(Name(full))

    def line(self) -> str:
        rest = bytes(self.data[self.at:self.at + 200])
        return self.decoded(self.take(rest.find(b"\n") + 1))[:-1]

    def call(self) -> None:
        target, args = self.pops(2)
        if not (isinstance(target, Name) and type(args) is tuple):
            raise self.error(f"calls a {type(target).__name__} with a {type(args).__name__}")
        is_dict = target.full == "collections.OrderedDict" and not args
        self.push({} if is_dict else Made(target.full, args))

    def build(self) -> None:
        state = self.pop()
        target = self.top((Made, dict))
        if isinstance(target, Made):  # what torch notes about an OrderedDict is not needed
            target.state = state


OPCODES: dict[bytes, Callable[[Machine], Any]] = {
    b"N": lambda m: m.push(None), b"\x88": lambda m: m.push(True), b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number("<B")), b"M": lambda m: m.push(m.number("<H")),
    b"J": lambda m: m.push(m.number("<i")), b"\x8a": lambda m: m.push(m.integer()),
    b"G": lambda m: m.push(m.number(">d")),
    b"\x8c": lambda m: m.push(m.text("<B")), b"X": lambda m: m.push(m.text("<L")),
    b"C": lambda m: m.push(m.take(m.number("<B"))), b"B": lambda m: m.push(m.take(m.number("<L"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))), b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
    b")": lambda m: m.push(()), b"]": lambda m: m.push([]), b"}": lambda m: m.push({}),
    b"(": lambda m: m.mark(), b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.push(m.pops(1)), b"\x86": lambda m: m.push(m.pops(2)),
    b"\x87": lambda m: m.push(m.pops(3)),
    b"a": lambda m: m.append(m.pops(1)), b"e": lambda m: m.append(m.since_mark()),
    b"s": lambda m: m.items(m.pops(2)), b"u": lambda m: m.items(m.since_mark()),
    b"\x94": lambda m: m.put(len(m.memo)), b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<L")),
    b"h": lambda m: m.get(m.number("<B")), b"j": lambda m: m.get(m.number("<L")),
    b"c": lambda m: m.name(m.line(), m.line()), b"\x93": lambda m: m.name(*m.pops(2)),
    b"R": lambda m: m.call(), b"\x81": lambda m: m.call(), b"b": lambda m: m.build(),
    b"Q": lambda m: m.push(Made("persistent id", m.pops(1))),  # how torch names a storage
    b"\x80": lambda m: m.number("<B"), b"\x95": lambda m: m.number("<Q"),  # version, frame: nothing to do
}


# --- NumPy's objects ----------------------------------------------------------------------------------------

def array(value: Any, where: str) -> np.ndarray:
    """Return the array that a pickle of an array, of a NumPy scalar or of a number means, as a copy.

    Raise FileError, which begins with `where`, for other dtypes than bool, int, uint and float.
    """
    if type(value) in (bool, int, float):
        if type(value) is int and not -2**63 <= value < 2**63:
            raise FileError(f"{where} has more than 64 bits")
        return np.array(value)
    if not isinstance(value, Made):
        raise FileError(f"{where} is a {type(value).__name__}; an array or a number is needed")
    kind = value.name.rpartition(".")[2]
    given = value.state if kind == "_reconstruct" else value.args
    try:
        match kind, given:
            case "_reconstruct", (_, shape, dtype, is_fortran, data):
                order = "F" if is_fortran is True else "C"
            case "_frombuffer", (data, dtype, shape, order):
                pass
            case "scalar", (dtype, data):
                shape, order = (), "C"
            case _:
                raise FileError(f"{where} is a {value.name}; an array or a number is needed")
        return _array(data, _dtype(dtype), shape, order)
    except ValueError as error:
        raise FileError(f"{where}: {error}") from None


def _array(data: Any, dtype: np.dtype, shape: Any, order: Any) -> np.ndarray:
    is_shape = type(shape) is tuple and len(shape) <= 32 and all(type(n) is int and n >= 0 for n in shape)
    if not is_shape or type(data) is not bytes or order not in ("C", "F"):
        raise ValueError("it is not pickled as arrays of numbers are")
    if math.prod(shape) * dtype.itemsize != len(data) or math.prod(n or 1 for n in shape) > 2**31:
        raise ValueError(f"it has {len(data)} bytes, not those of its shape")
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy()


def _dtype(value: Any) -> np.dtype:
    """Return the dtype that a pickle of one means."""
    match value:
        case Made(name="numpy.dtype", args=(str(text), *_), state=(int(), str(order), *_)):
            if re.fullmatch("[fiu][1248]|b1", text) and text != "f1" and order in "<|=":
                return np.dtype(("|" if text[1] == "1" else "<") + text)
            raise ValueError(f"its dtype is {order + text!r:.50}; little-endian numbers of at most 64 bits "
                             "are needed")
    raise ValueError("its dtype is none")


def dtype_name(value: Any, where: str) -> str:
    """Return the name of a pickled dtype, such as float32."""
    try:
        return _dtype(value).name
    except ValueError as error:
        raise FileError(f"{where}: {error}") from None
