"""Plain values come back to the last bit; what is not plain, or not well formed, is refused."""

import math
import struct
from collections import deque

import numpy as np
import pytest

from trpo_np.files import plain
from trpo_np.files.archive import FileError
from trpo_np.files.plain import NotPlain, pack, unpack

PCG = np.random.default_rng(5)
PCG.integers(3, dtype=np.int32)  # keeps half a number for the next one
VALUES = {
    "nothing": None, "truth": True, "number": -3, "large": 2**127, "text": 'a "word"\n\u20ac', "empty": "",
    "float": 0.1, "minus zero": -0.0, "infinity": -math.inf, "nan": math.nan,
    "scalar": np.float32(0.1), "integer scalar": np.int64(3), "text scalar": np.str_("ten"),
    "empty text scalar": np.str_(""), "empty bytes": np.bytes_(b""),
    "array": np.arange(6.0).reshape(2, 3), "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "no dimension": np.array(2, np.int8), "no rows": np.zeros((0, 4), np.float32),
    "bools": np.array([True, False]), "letters": np.array([[b"S", b"FF"]]), "nan there": np.array([math.nan]),
    "list": [1, [2.0, None], ()], "tuple": (1, ("x", (True,))),
    "dict": {1: "a", "1": [np.ones(2)], (2, 3): 4},
    "deque": deque([np.zeros(1), 2], maxlen=4), "endless deque": deque([1]), "generator": PCG}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_to_the_last_bit(name):
    value = VALUES[name]
    packed = pack(value)
    again = unpack(packed)
    assert type(again) is type(value) and pack(again) == packed
    if isinstance(value, np.ndarray):
        assert again.dtype == value.dtype and again.tobytes("A") == value.tobytes("A")
        assert again.flags.f_contiguous == value.flags.f_contiguous and again.flags.writeable
    elif name == "generator":
        assert again.integers(9, size=3, dtype=np.int32).tolist() == value.integers(
            9, size=3, dtype=np.int32).tolist()
    elif isinstance(value, (float, str, int, tuple)):
        assert repr(again) == repr(value)
    elif isinstance(value, deque):
        assert again.maxlen == value.maxlen


@pytest.mark.parametrize("name", VALUES)
def test_a_value_takes_the_bytes_that_it_is_packed_in(name):
    size = len(pack(VALUES[name]))
    assert len(pack(VALUES[name], size)) == size
    with pytest.raises(NotPlain, match=f"more than {size - 1:,} bytes"):
        pack(VALUES[name], size - 1)


class Number(float):
    pass


base = np.zeros(6)


@pytest.mark.parametrize("value, says", [
    (object(), "a object"), ({"f": len}, "a builtin_function"), (Number(1), "a Number"), ({1, 2}, "a set"),
    (np.array([None]), "an array of object"), (np.ndarray((3,), "U0"), "an array of <U0"),
    (np.zeros(2, [("a", float)]), "an array of"),
    (np.random.RandomState(0), "a RandomState"), (10**100, "a int"),
    (np.random.Generator(np.random.MT19937(0)), "a Generator"), (base[::2], "a part of another"),
    ([base, base[2:4]], "arrays that share memory"),
    (np.zeros(plain.MOST + 1, np.int8), "more than 16,777,216 bytes")])
def test_what_is_not_plain_is_named(value, says):
    with pytest.raises(NotPlain, match=says):
        pack(value)


def test_one_thing_with_two_names_is_so_again():
    rng, array, inner = np.random.default_rng(0), np.zeros(2), [1]
    again = unpack(pack({"a": [inner, array], "b": (inner, rng), "c": array, "d": rng, "e": inner}))
    again["e"].append(2)
    again["c"][0] = 7
    assert again["a"][0] == again["b"][0] == [1, 2] and again["a"][1][0] == 7 and again["b"][1] is again["d"]
    inner.append({"deep": inner})
    with pytest.raises(NotPlain, match="a list that is a part of itself"):
        pack(inner)
    assert plain.have_in_common([array, 1], {"x": (array,)}) and not plain.have_in_common([[1]], [[1]])


def test_nesting_is_bounded_in_both_directions():
    value: list = []
    for _ in range(plain.DEEP):
        value = [value]
    assert unpack(pack(value)) == value
    with pytest.raises(NotPlain, match="nested deeper than 20"):
        pack([value])


def of(text, more=b""):
    return struct.pack("<Q", len(text)) + text.encode() + more


@pytest.mark.parametrize("packed, says", [
    (b"", "cannot be read"), (b"12345", "cannot be read"),
    (struct.pack("<Q", 9) + b"1", "9 bytes is not there"),
    *[(of(text), says) for text, says in [
        ('["list", ["again", 0]]', "part of itself"), ('["list", ["again", 5]]', "cannot be read"),
        ("{}", "JSON object"), ("[]", "cannot be read"), ('["object", 1]', "'object' is not known"),
        ("NaN", "NaN is not JSON"), ('["float", "1"]', "float"), ('["array", "<f8", "C", -1]', "shape"),
        ('["array", "<f8", "C", 99999999]', "shape"), ('["array", "|u1", "C", 2, 2, 2]', "cut off"),
        ('["array", "|u1", "C", 16000000, 16000000]', "cut off"), ('["array"]', "cannot be read"),
        ('["dict", 1]', "cannot be read"), ('["dict", ["list"], 1]', "cannot be read"),
        ('["deque", "x"]', "cannot be read"), ('["generator", 3]', "cannot be read"),
        ('["generator", ["dict", "bit_generator", "MT19937"]]', "PCG64"), ("[" * 100_000, "cannot be read"),
        ('["list", ' * 30 + "1" + "]" * 30, "nested deeper"), ("9" * 5000, "cannot be read")]],
    *[(of(text, b"12345678"), says) for text, says in [
        ("1", "8 bytes are left over"), ('["array", "|O", "C", 1]', "dtype"),
        ('["array", "<f8", "K", 1]', "order"), ('["array", "<f8", "C", 2]', "cut off"),
        ('["array", "|b1", "C", 8]', "bool"), ('["scalar", "<U2", "C"]', "a letter")]]])
def test_bytes_that_are_not_well_formed_are_refused(packed, says):
    with pytest.raises(FileError, match=says):
        unpack(packed)


def test_every_cut_and_many_a_changed_byte_give_a_value_or_a_sentence(rng):
    packed = pack(list(VALUES.values()))
    for end in range(len(packed)):
        with pytest.raises(FileError):
            unpack(packed[:end])
    for _ in range(2000):
        changed = bytearray(packed)
        changed[rng.integers(len(packed))] = rng.integers(256)
        try:
            unpack(bytes(changed))
        except FileError:
            pass
