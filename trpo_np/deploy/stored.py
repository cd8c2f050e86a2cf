"""A zip of plain members, as libraries save their models: from names to bytes, without a copy.

zipfile forgives too much: cut a zip short, and it opens a zip that is one of its members instead. Here the
end record is the last thing in the file, members follow each other, and none is compressed: nothing grows.
"""

import struct
import zlib

from ..files.archive import FileError

_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")  # in the directory
_LOCAL = struct.Struct("<4s5H3L2H")  # before a member
_GAPS = (0, 76)  # bytes between directory and end record: none, or the records of zip64
_MAX_MEMBERS, _MAX_NAME = 4096, 400
_FLAGS = 0x808  # sizes behind the member as well; names in UTF-8


def members(data: memoryview | bytes, where: str) -> dict[str, memoryview]:
    """Return a zip's members by name, as views of `data`; `where` names it in error messages.

    Raise FileError unless it is whole, and its members are stored, each with the CRC that it should have.
    """
    data = memoryview(data)
    signature, *disks, n, length, start, comment = _END.unpack(data[-22:] if len(data) >= 22 else bytes(22))
    gap = len(data) - 22 - start - length
    if signature != b"PK\5\6" or comment or disks != [0, 0, n] or gap not in _GAPS:
        raise FileError(f"{where} does not end as a zip does: it is no zip, cut short or added to")
    if n > _MAX_MEMBERS:
        raise FileError(f"{where} has {n} members; at most {_MAX_MEMBERS} are read")
    found: dict[str, memoryview] = {}
    at, end = start, 0
    for _ in range(n):
        name, entry, at = _entry(data, at, start + length, where)
        if name in found:
            raise FileError(f"{where} has two members {name!r}")
        *_, flags, method, _, _, crc, size, plain, _, _, _, _, _, _, offset = entry
        if method or size != plain or flags & ~_FLAGS:
            raise FileError(f"{where}: member {name!r} is compressed or encrypted (method {method}, flags "
                            f"{flags:#x}); it is needed as the library wrote it, stored")
        body = _body(data, name, offset, where)
        if offset < end or body + size > start:
            raise FileError(f"{where}: member {name!r} lies at byte {body}, of {size}, where others are")
        found[name], end = data[body:body + size], body + size
        if zlib.crc32(found[name]) != crc:
            raise FileError(f"{where}: member {name!r} does not have its CRC-32, {crc:#010x}: it is damaged")
    if at != start + length:
        raise FileError(f"{where}: its directory has {length} bytes, of which {n} members take {at - start}")
    return found


def _entry(data: memoryview, at: int, end: int, where: str) -> tuple[str, tuple, int]:
    """Return the name and the fields of the directory's entry at byte `at`, and where the next one is."""
    entry = _ENTRY.unpack(data[at:at + _ENTRY.size]) if at + _ENTRY.size <= end else (b"",) * 17
    if entry[0] != b"PK\1\2":
        raise FileError(f"{where}: its directory has no entry at byte {at}")
    n_name, n_extra, n_comment = entry[10:13]
    after = at + _ENTRY.size + n_name + n_extra + n_comment
    if after > end or n_name > _MAX_NAME:
        raise FileError(f"{where}: its directory's entry at byte {at} is too long")
    name = bytes(data[at + _ENTRY.size:at + _ENTRY.size + n_name])
    return name.decode("utf-8", "backslashreplace"), entry, after


def _body(data: memoryview, name: str, offset: int, where: str) -> int:
    """Return where the bytes of the member begin whose header is at `offset`."""
    if offset + _LOCAL.size <= len(data):
        signature, *_, n_name, n_extra = _LOCAL.unpack(data[offset:offset + _LOCAL.size])
        start = offset + _LOCAL.size
        called = bytes(data[start:start + n_name]).decode("utf-8", "backslashreplace")
        if signature == b"PK\3\4" and called == name:
            return start + n_name + n_extra
    raise FileError(f"{where}: member {name!r} is not where the directory says, at byte {offset}")
