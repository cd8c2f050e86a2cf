"""Plain values as bytes and back: numbers, texts, arrays, random generators; lists, tuples, deques and dicts.

    packed = length of the text (8 bytes) + text + the bytes of arrays, one after the other

The text is JSON in which a list is always ["kind", ...]. What comes back has the same types and is equal to
the last bit; what was one thing with two names is so again. Objects of other kinds are refused, so that
reading makes values and runs no code.
"""

import json
import math
import re
import struct
import sys
from collections import deque
from typing import Any

import numpy as np

from .archive import FileError

MOST = 2**24  # bytes of a packed value
DEEP = 20     # levels of nesting
_DIGITS = 10**100
_DTYPE = re.compile(r"(<[biufcU]|\|[biuS])[1-9][0-9]{0,3}")
_LENGTH = struct.Struct("<Q")


class NotPlain(ValueError):
    """A value that `pack` refuses; the message says what is in the way."""


def pack(value: Any, most: int = MOST) -> bytes:
    """Return a plain value as at most so many bytes; a NotPlain says what in it is not plain.

    Different arrays that share memory are refused, too: their copies would go separate ways.
    """
    packer = _Packer(most)
    text = json.dumps(packer.encode(value, 0)).encode()
    packer.check_memory()
    packer.take(_LENGTH.size + len(text))
    return b"".join([_LENGTH.pack(len(text)), text, *packer.parts])


def have_in_common(one: Any, other: Any) -> bool:
    """Say whether something that can change is a part of two plain values."""
    packers = _Packer(MOST), _Packer(MOST)
    for packer, value in zip(packers, (one, other)):
        packer.encode(value, 0)
    return not packers[0].seen.keys().isdisjoint(packers[1].seen)


class _Packer:
    def __init__(self, most: int):
        self.most = self.left = most
        self.parts: list[bytes] = []
        self.seen: dict[int, tuple] = {}  # by id, what can change and its number; alive, so that ids differ
        self.inside: set[int] = set()

    def encode(self, value: Any, depth: int) -> Any:
        """Return a value as JSON knows it."""
        kind = type(value)
        if value is None or kind in (bool, str) or kind is int and abs(value) < _DIGITS:
            return value
        if kind is float:
            return value if math.isfinite(value) else ["float", repr(value)]
        if isinstance(value, np.generic) and _DTYPE.fullmatch((scalar := np.array(value)).dtype.str):
            self.take(scalar.nbytes)  # of an array, since a text of no letters takes none by itself
            self.parts.append(scalar.tobytes())
            return ["scalar", scalar.dtype.str, "C"]
        if depth > DEEP:
            raise NotPlain(f"nested deeper than {DEEP} levels")
        if kind is tuple:
            return ["tuple", *self.each(value, depth)]
        if id(value) in self.inside:
            raise NotPlain(f"a {kind.__name__} that is a part of itself")
        if id(value) in self.seen:
            return ["again", self.seen[id(value)][0]]
        self.seen[id(value)] = len(self.seen), value
        self.inside.add(id(value))
        encoded = self.encode_new(value, kind, depth)
        self.inside.remove(id(value))
        return encoded

    def encode_new(self, value: Any, kind: type, depth: int) -> list:
        """Return what can change as JSON knows it."""
        if kind is list:
            return ["list", *self.each(value, depth)]
        if kind is deque:
            return ["deque", value.maxlen, *self.each(value, depth)]
        if kind is dict:
            return ["dict", *self.each([part for item in value.items() for part in item], depth)]
        if kind is np.ndarray:
            return self.array(value)
        if kind is np.random.Generator and type(value.bit_generator) is np.random.PCG64:
            return ["generator", self.encode(value.bit_generator.state, depth + 1)]
        raise NotPlain(f"a {kind.__name__}")

    def each(self, values: Any, depth: int) -> list:
        return [self.encode(value, depth + 1) for value in values]

    def array(self, value: np.ndarray) -> list:
        if not _DTYPE.fullmatch(value.dtype.str):
            raise NotPlain(f"an array of {value.dtype}")
        order: Any = "C" if value.flags.c_contiguous else "F"  # which sums depend on
        if not (value.flags.c_contiguous or value.flags.f_contiguous):
            raise NotPlain("an array that is a part of another")
        self.take(value.nbytes)
        self.parts.append(value.tobytes(order))
        return ["array", value.dtype.str, order, *value.shape]

    def take(self, size: int) -> None:
        """Take bytes of those that are left."""
        self.left -= size
        if self.left < 0:
            raise NotPlain(f"something that takes more than {self.most:,} bytes")

    def check_memory(self) -> None:
        """Refuse arrays that share memory."""
        arrays = [value for _, value in self.seen.values() if isinstance(value, np.ndarray) and value.nbytes]
        spans = sorted((array.__array_interface__["data"][0], array.nbytes) for array in arrays)
        if any(start + size > after for (start, size), (after, _) in zip(spans, spans[1:])):
            raise NotPlain("arrays that share memory")


def unpack(packed: bytes) -> Any:
    """Return the value that was packed; a FileError says what is wrong with the bytes."""
    try:
        length, = _LENGTH.unpack_from(packed)
        if length > len(packed) - _LENGTH.size:
            raise ValueError(f"a text of {length} bytes is not there")
        reader = _Reader(packed, _LENGTH.size + length)
        text = packed[_LENGTH.size:reader.at].decode()
        value = reader.decode(json.loads(text, parse_constant=_no_constant), 0)
        if reader.at != len(packed):
            raise ValueError(f"{len(packed) - reader.at} bytes are left over")
        return value
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError,
            struct.error) as error:
        raise FileError(f"packed values cannot be read: {error}") from None


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


class _Reader:
    def __init__(self, packed: bytes, at: int):
        self.packed, self.at = packed, at
        self.known: list = []  # what can change, by its number

    def decode(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            raise ValueError("a JSON object is there, which `pack` does not write")
        if not isinstance(value, list):
            return value
        if depth > DEEP:
            raise ValueError(f"nested deeper than {DEEP} levels")
        kind, *rest = value
        if kind == "float":
            if rest not in (["nan"], ["inf"], ["-inf"]):
                raise ValueError(f"float {rest!r:.100} is not known")
            return float(rest[0])
        if kind == "scalar":
            return self.array(rest)[()]
        if kind == "again":
            if self.known[rest[0]] is None:
                raise ValueError("a value is a part of itself")
            return self.known[rest[0]]
        if kind == "tuple":
            return tuple(self.decode(part, depth + 1) for part in rest)
        number = len(self.known)
        self.known.append(None)
        self.known[number] = value = self.decode_new(kind, rest, depth)
        return value

    def decode_new(self, kind: str, rest: list, depth: int) -> Any:
        """Return what can change."""
        if kind == "array":
            return self.array(rest)
        parts = [self.decode(part, depth + 1) for part in rest]
        if kind == "list":
            return parts
        if kind == "deque":
            return deque(parts[1:], parts[0])
        if kind == "dict":
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if kind == "generator":
            generator = np.random.Generator(np.random.PCG64(0))
            generator.bit_generator.state, = parts
            return generator
        raise ValueError(f"kind {kind!r:.100} is not known")

    def array(self, described: list) -> np.ndarray:
        dtype, order, *shape = described
        if not _DTYPE.fullmatch(dtype) or order not in ("C", "F"):
            raise ValueError(f"dtype {dtype!r:.40} or order {order!r:.40} is not known")
        if len(shape) > 32 or not all(type(size) is int and 0 <= size <= MOST for size in shape):
            raise ValueError(f"shape {shape!r:.100} is none")
        kind, start = np.dtype(dtype), self.at
        self.at += math.prod(shape) * kind.itemsize
        if self.at > len(self.packed):
            raise ValueError(f"an array of {dtype} and shape {shape} is cut off")
        flat = np.frombuffer(self.packed[start:self.at], kind).copy()
        if kind.kind == "b" and (flat.view(np.uint8) > 1).any():
            raise ValueError("a bool is neither 0 nor 1")
        if kind.kind == "U" and (flat.view("<u4") > sys.maxunicode).any():
            raise ValueError("a letter of a text is none")
        return flat.reshape(shape, order=order)
