"""Zips of plain members: what comes out, and two deceptions that leave sizes and CRCs right."""

import struct

import pytest
import zips

from trpo_np.deploy.stored import members
from trpo_np.files.archive import FileError

CONTENTS = {"a": b"one", "folder/b": bytes(1000), "c": b""}


def entry_of(data: bytes, name: bytes) -> int:
    """Where the directory's entry of a member begins."""
    return data.rindex(name) - 46


def test_members_are_views_of_what_was_stored():
    found = members(zips.zipped(CONTENTS), "some")
    assert {name: bytes(view) for name, view in found.items()} == CONTENTS
    assert all(isinstance(view, memoryview) for view in found.values())


def test_a_member_that_says_it_is_compressed_is_refused_whatever_its_sizes():
    data = bytearray(zips.zipped(CONTENTS))
    struct.pack_into("<H", data, entry_of(data, b"a") + 10, 8)
    with pytest.raises(FileError, match=r"member 'a' is compressed or encrypted \(method 8, flags 0x0\)"):
        members(data, "some")


def test_a_member_within_another_is_refused():
    inner = zips.zipped({"b": b"inside"})
    inner = inner[:inner.index(b"PK\1\2")]  # its header and its bytes
    data = bytearray(zips.zipped({"a": inner, "b": b"inside"}))
    assert bytes(members(data, "some")["b"]) == b"inside"
    struct.pack_into("<L", data, entry_of(data, b"b") + 42, data.index(inner))
    with pytest.raises(FileError, match=f"member 'b' lies at byte {data.index(inner) + 31}, of 6, where"):
        members(data, "some")
