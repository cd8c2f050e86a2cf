"""Pickles are read as data: arrays of NumPy whichever protocol wrote them, and nothing else."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest

from trpo_np.deploy import pickles
from trpo_np.files.archive import FileError


def read(data):
    return pickles.read(data, pickles.NUMPY, "x")


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("value", [
    None, True, False, 0, 255, 256, -1, 2**31, -2**63, 2**128, 0.5, -1e300, "", "näme", "a" * 300, b"",
    b"\0\xff", [], [1, [2]], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {},
    {"a": 1, "b": {"c": [None]}}, [(1,)] * 3])
def test_plain_values_come_back(value, protocol):
    assert read(pickle.dumps(value, protocol)) == value
    assert read(pickle.dumps(OrderedDict(a=value), protocol)) == {"a": value}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "uint32", "float16", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4), (1, 1, 2)])
def test_arrays_come_back_to_the_bit(dtype, shape, protocol):
    given = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    for order in "CF":
        found = pickles.array(read(pickle.dumps(np.array(given, order=order), protocol)), "x")
        assert found.dtype == given.dtype and found.shape == shape and found.flags.writeable
        np.testing.assert_array_equal(found, given)
    if not shape:
        assert pickles.array(read(pickle.dumps(given[()], protocol)), "x") == given


@pytest.mark.parametrize("rng", [np.random.default_rng(3), np.random.RandomState(3)])
def test_random_generators_are_read_as_data(rng):
    found = read(pickle.dumps(rng))
    assert isinstance(found, pickles.Made) and found.name.startswith("numpy.random._pickle.")


@pytest.mark.parametrize("value, said", [
    (np.array([1], ">f4"), "little-endian"), (np.array([1j]), "little-endian"),
    (np.array(["a"]), "little-endian"), (np.array([None]), "O8'; little-endian"),
    (np.zeros(2, "M8[s]"), "little-endian"), ("text", "is a str"),
    (2**64, "64 bits"), ([1.0], "is a list"), (None, "is a NoneType")])
def test_other_arrays_are_refused(value, said):
    with pytest.raises(FileError, match=said):
        pickles.array(read(pickle.dumps(value)), "x")


def test_structured_arrays_are_refused():
    with pytest.raises(FileError, match="x"):
        pickles.array(read(pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "i4")]))), "x")


@pytest.mark.parametrize("value", [{1, 2}, frozenset(), 1j, pickle.loads, Exception("a"), range(3)])
def test_other_values_are_refused(value):
    with pytest.raises(FileError, match="x: the pickle (names|has the opcode)"):
        read(pickle.dumps(value))


def test_old_protocols_are_refused_by_the_opcode():
    with pytest.raises(FileError, match="has the opcode"):
        read(pickle.dumps([1, "a"], 0))


@pytest.mark.parametrize("data, said", [
    (b"}(X\1\0\0\0au.", "has a key without a value"), (b"}K\1K\2s.", "has a key of kind int; texts"),
    (b"N.N", "ends in the midst of something"), (b"(N.", "ends in the midst of something"),
    (b"]X\1\0\0\0aNs.", "puts something into what cannot hold it"),
    (b"X" + (70_000).to_bytes(4, "little") + 70_000 * b"a" + b".", "a text of 70000 bytes; at most 65536")])
def test_what_no_pickle_of_a_model_does_is_refused(data, said):
    with pytest.raises(FileError, match=said):
        read(b"\x80\2" + data)
