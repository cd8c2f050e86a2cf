"""A safe .npz: named arrays and one JSON record, nothing that can run code.

The file is an uncompressed zip of `.npy` 1.0 members: plain `np.load(path, allow_pickle=False)` opens it.
Its first member, `meta`, is the record as bytes: {"format": 1, "sha256": ..., and the caller's fields}.
The sha256 covers, for each array in turn, the line `name dtype shape` and then the array's bytes.

zipfile and np.load forgive too much: names given twice, trailing bytes, CRCs that nobody checks, headers
that are evaluated. Here the same content always has the same bytes: the reader takes names, sizes and CRCs
from the zip's directory, builds the headers that `write_archive` would have written, and compares. Each
check runs before the next one takes memory.
"""

import contextlib
import errno
import glob
import hashlib
import io
import json
import math
import os
import re
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator
from typing import Any

import numpy as np

FORMAT = 1                                               # raise it when an older reader would misread a file
_MAX_MEMBERS, _MAX_NAME, _MAX_JSON = 4096, 200, 2**22    # bound what is read before the caller's check
_MAX_BYTES = 2**32 - 2**20                               # 32-bit offsets, less room for the directory

_PART = "[A-Za-z0-9_-][A-Za-z0-9_.-]*"                   # no dot in front, hence no `..`
_NAME = re.compile(f"{_PART}(?:/{_PART})*")
_DIM = rb"(?:0|[1-9][0-9]{0,17})"
_NPY = re.compile(rb"\x93NUMPY\x01\x00(..)({'descr': '(<f[248]|<[iu][248]|\|[iub]1)', 'fortran_order': "
                  rb"False, 'shape': \((|%b,|%b(?:, %b){1,31})\), } *\n)" % (_DIM, _DIM, _DIM), re.DOTALL)
_END = struct.Struct("<4s4H2LH")


class FileError(ValueError):
    """Something in an archive is not as needed; the message names the file and the member or field."""


def npz_path(path: str | bytes | os.PathLike) -> str:
    """Return a file's path as text that ends in .npz; a ValueError says what is no path."""
    is_path = isinstance(path, (str, bytes, os.PathLike))
    if not is_path or os.path.basename(os.fsdecode(path)) in ("", os.curdir, os.pardir):
        why = ", since a file is replaced whole or not at all" if is_file_object(path) else ""
        raise ValueError(f"the file is {path!r}; its path is needed{why}")
    text = os.fsdecode(path)
    return text if text.endswith(".npz") else f"{text}.npz"


def is_file_object(file: Any) -> bool:
    """Say whether something is an open file, or acts as one, and not a path."""
    is_path = isinstance(file, (str, bytes, os.PathLike))  # some of which can read and write, too
    return not is_path and (hasattr(file, "read") or hasattr(file, "write"))


def write_archive(path: Any, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write `arrays` and the JSON record `meta`, whole or not at all; same content, same bytes.

    Names are letters, digits, `_`, `-`, `.`, in parts joined by `/`; arrays are bool, int, uint or finite
    float, of any shape and memory order. Makes missing folders. Raises FileError for what `read_archive`
    would refuse, OSError where nothing can be written; an older file at `path` then stays as it was. A kill
    may leave a `.<name>.<random>.tmp` in the folder, to be deleted.

    `path` may be a binary file object: it gets the archive at its position, by one `write`.
    """
    path = path if is_file_object(path) else os.fsdecode(path)
    try:
        pieces = _pack(arrays, meta)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    if is_file_object(path):
        _write(path, b"".join(pieces))
    else:
        replace_file(path, pieces)


def read_archive(path: Any, check: Callable[[dict, dict], object] | None = None,
                 max_bytes: int = 2**32) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return `(meta, arrays)` as `write_archive` was given them, from `path` or `path.npz`.

    `check(meta, {name: (dtype, shape)})` is called before memory is taken for the arrays; it refuses the file
    by a FileError or another ValueError. The arrays are native and writable. Raises FileNotFoundError where
    there is no file, FileError for all else.

    `path` may be a binary file object that can seek: the archive is what it holds from its position on.
    """
    path = path if is_file_object(path) else find(path)
    try:
        with _opened(path) as source:
            return _unpack(source, check, max_bytes)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error


def find(path: str | bytes | os.PathLike) -> str:
    """Return which is there, `path` or `path.npz`; raise FileNotFoundError if neither is."""
    named, given = npz_path(path), os.fsdecode(path)
    if given.endswith(".zip") and not os.path.exists(given) and not os.path.exists(named):
        named = f"{given[:-4]}.npz"  # stable-baselines' ending
    is_named = not os.path.isfile(given) and (os.path.isfile(named) or not os.path.exists(given))
    if not os.path.exists(found := named if is_named else given):
        other = f"; there is {given}.zip" if os.path.exists(f"{given}.zip") else ""  # of stable-baselines
        raise FileNotFoundError(errno.ENOENT, f"no archive, nor with .npz, seen from {os.getcwd()}{other}",
                                given)
    return found


def check_entries(declared: dict, needed: dict, owner: str) -> None:
    """Require that the arrays a file declares are exactly those needed, {name: (dtype, shape)} both.

    A FileError names the first that is missing, that differs, or that `owner`, such as "the policy", has no
    use for.
    """
    for name, (dtype, shape) in needed.items():
        if name not in declared:
            raise FileError(f"{name} is missing; {owner} needs it as {dtype} {shape}")
        found = np.dtype(declared[name][0]).name, tuple(declared[name][1])
        if found != (dtype, tuple(shape)):
            raise FileError(f"{name} is {found[0]} {found[1]}; {owner} needs {dtype} {shape}")
    if extra := [name for name in declared if name not in needed]:
        raise FileError(f"{extra[0]} is not a part of {owner} that the file describes")


def check_not_negative(name: str, array: np.ndarray) -> None:
    """Require of an array that holds counts or sums of squares what is true of those."""
    if np.any(array < 0):
        raise FileError(f"{name} holds negative numbers; counts and squares are needed")


# ---- for writer and reader

def _npy_header(array: np.ndarray) -> bytes:
    # Not np.lib.format: its padding has changed between NumPy versions, and with it would our bytes.
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _zip_headers(name: str, offset: int, size: int, crc: int) -> tuple[bytes, bytes]:
    """Return a stored member's local header and directory entry; the date, 33, is always 1 January 1980."""
    filename = f"{name}.npy".encode()
    shared = struct.pack("<5H3L2H", 20, 0, 0, 0, 33, crc, size, size, len(filename), 0)
    return (b"PK\3\4" + shared + filename,
            b"PK\1\2\x14\0" + shared + struct.pack("<3H2L", 0, 0, 0, 0, offset) + filename)


def _check_name(name: str, taken: Container[str]) -> None:
    if not isinstance(name, str) or len(name) > _MAX_NAME or not _NAME.fullmatch(name) or name in taken:
        raise FileError(f"member name {name!r:.250}: need a new one, of letters, digits, _ - . in parts "
                        f"joined by /, none with a dot in front, at most {_MAX_NAME} long")


def _vet(name: str, array: np.ndarray, digest: Any) -> None:
    """Refuse what is not a number, and add the array to the digest."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise FileError(f"array {name}: has NaN or infinity in {bad} of {array.size} places; need none")
    if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():      # NumPy computes nonsense with it
        raise FileError(f"array {name}: has a bool that is neither 0 nor 1")
    digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
    digest.update(array.reshape(-1).data)


# ---- writing

def _pack(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> list[Any]:
    """Return the file as a list of buffers; an array that is contiguous is not copied."""
    if len(arrays) >= _MAX_MEMBERS:
        raise FileError(f"{len(arrays)} arrays given; need fewer than {_MAX_MEMBERS}")
    digest, contents = hashlib.sha256(), {}
    for name, array in arrays.items():
        _check_name(name, taken=("meta",))
        array = np.asarray(array)
        if array.dtype.kind in "fiub":
            array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")  # ascontiguousarray loses 0-d
        if not _NPY.fullmatch(_npy_header(array)):                          # the reader's pattern decides
            raise FileError(f"array {name}: has dtype {array.dtype} and {array.ndim} dimensions; need bool, "
                            "int8-64, uint8-64 or float16-64, and at most 32")
        _vet(name, array, digest)
        contents[name] = array
    fields = []
    for key, value in [("format", FORMAT), ("sha256", digest.hexdigest()), *meta.items()]:
        try:
            fields.append(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
        except (TypeError, ValueError, RecursionError) as error:
            raise FileError(f"meta field {key!r}: {error}; need what JSON can hold") from error
    record = ("{" + ", ".join(fields) + "}").encode()
    _parse(record)                                # refuse now what reading would: keys 1 and "1", our names

    pieces: list[Any] = []
    directory, offset = b"", 0
    for name, array in {"meta": np.frombuffer(record, np.uint8), **contents}.items():
        head = _npy_header(array)
        size = len(head) + array.nbytes
        if offset + size > _MAX_BYTES:
            raise FileError(f"array {name}: would end at byte {offset + size}; need at most {_MAX_BYTES}")
        local, entry = _zip_headers(name, offset, size, zlib.crc32(array.data, zlib.crc32(head)))
        pieces += [local + head, array.data]
        directory += entry
        offset += len(local) + size
    n = len(contents) + 1
    return [*pieces, directory, _END.pack(b"PK\5\6", 0, 0, n, n, len(directory), offset, 0)]


def _draft(path: str, middle: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{os.fsdecode(os.fsencode(name)[:60])}.{middle}.tmp")


def remove_drafts(path: str | os.PathLike) -> None:
    """Remove what kills in the midst of saving to `path` left beside it; nobody may be saving there now."""
    before, after = map(glob.escape, _draft(os.path.realpath(npz_path(path)), "\0").split("\0"))
    for draft in glob.glob(before + "[0-9a-f]" * 16 + after):
        with contextlib.suppress(OSError):
            os.remove(draft)


def replace_file(path: str, pieces: list[Any]) -> None:
    """Write beside `path`, force to the disk, rename: a kill leaves the old file or the new one."""
    path = os.path.realpath(path)                 # a link stays, the file it points to is replaced
    folder, _ = os.path.split(path)
    temporary = _draft(path, os.urandom(8).hex())
    try:
        if os.path.exists(path) and not os.path.isfile(path):     # root's rename would replace /dev/null too
            raise OSError(errno.EINVAL, "a folder, pipe or device has this name")
        os.makedirs(folder, exist_ok=True)
        with open(temporary, "xb") as file:       # not tempfile, whose files only their owner may read
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot save: {error.strerror or error}; need a writable folder and free "
                      "space (an older file is unchanged)", path) from error
    finally:                                      # after a KeyboardInterrupt too; after the rename it is gone
        with contextlib.suppress(OSError):
            os.remove(temporary)
    with contextlib.suppress(OSError):            # make the rename last; Windows has no means for it
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(file: Any, data: bytes) -> None:
    """Write to a file object; a ValueError says what is wrong with it, and then nothing is written."""
    try:
        file.write(b"")                           # finds text mode, closed files, files open for reading only
    except (TypeError, ValueError, AttributeError, io.UnsupportedOperation) as error:
        raise ValueError(f"the file is {file!r}; one that is open for writing, in binary mode, is needed "
                         f"({error})") from None
    if file.write(data) not in (len(data), None):  # None: of objects that do not count
        raise OSError(errno.EIO, f"cannot save: {file!r} took less than {len(data)} bytes")
    if hasattr(file, "flush"):
        file.flush()                              # errors belong here, not to a `close` much later


# ---- reading

class _Source:
    """A file object from its position on; bytes are counted from there."""

    def __init__(self, file: Any):
        self.file, self.start, self._into = file, file.tell(), file.readinto
        self.size = file.seek(0, os.SEEK_END) - self.start

    def read(self, start: int, n: int) -> bytes:
        self.file.seek(self.start + start)
        data = self.file.read(n)
        if len(data) != n:
            raise FileError(f"has {len(data)} bytes from byte {start} on; need {n}: no archive, or cut short")
        return data

    def fill(self, array: np.ndarray, start: int) -> bool:
        """Read an array's bytes into its memory; say whether there were enough."""
        self.file.seek(self.start + start)
        return self._into(array.data) == array.nbytes


@contextlib.contextmanager
def _opened(path: Any) -> Iterator[_Source]:
    """Open a file, or take the user's file object, which stays open."""
    if not is_file_object(path):
        if not os.path.isfile(path):              # asked before open, which would wait for a pipe's writer
            raise FileError("is a folder, pipe or device; need a regular file")
        with open(path, "rb") as file:
            yield _Source(file)
        return
    with contextlib.ExitStack() as stack:
        try:
            file = path if path.readable() else stack.enter_context(_open_again(path))
            if file.read(0) != b"":
                raise ValueError("open in text mode")
            source = _Source(file)
        except (TypeError, ValueError, AttributeError, OSError) as error:  # closed, a pipe, no file at all
            raise FileError(f"cannot be read ({error}); need an open binary file that can seek, such as "
                            "open(path, 'rb') or io.BytesIO(data)") from None
        if source.start and not source.size:
            raise FileError(f"holds nothing behind its position, {source.start}; seek(0) leads back to its "
                            "beginning")
        yield source
        file.seek(0, os.SEEK_END)


def _open_again(file: Any) -> Any:
    """Open for reading, at the same position, what a file object has open for writing only."""
    again = open(file.name, "rb")
    if not os.path.samestat(os.fstat(file.fileno()), os.fstat(again.fileno())):
        again.close()
        raise ValueError("open for writing only, and no longer found by its name")
    again.seek(file.tell())
    return again


def _unpack(file: _Source, check: Callable | None, max_bytes: int) -> tuple[dict, dict]:
    if file.size > max_bytes:
        raise FileError(f"has {file.size} bytes; need at most max_bytes = {max_bytes}")
    try:
        members = _members(file)
    except FileError as error:
        raise FileError(_of_others(file) or str(error)) from error
    dtype, shape, *_ = members.get("meta", (None, ()))
    if next(iter(members)) != "meta" or dtype != np.uint8 or len(shape) != 1 or shape[0] > _MAX_JSON:
        raise FileError(f"member meta: is {dtype} of shape {shape}; need it first, at most {_MAX_JSON} uint8")
    meta = _parse(_body(file, "meta", *members.pop("meta")).tobytes())
    expected = meta.pop("sha256", None)
    if check is not None:
        check(meta, {name: (dtype.newbyteorder("="), shape) for name, (dtype, shape, *_) in members.items()})
    arrays, digest = {}, hashlib.sha256()
    for name, member in members.items():
        array = _body(file, name, *member)
        _vet(name, array, digest)
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    if digest.hexdigest() != expected:
        raise FileError(f"meta field sha256: is {expected!r:.80}, the arrays give {digest.hexdigest()}")
    return meta, arrays


def _of_others(file: _Source) -> str:
    """Say what a file is that another library wrote, by the names in a zip's directory; "" if unknown."""
    with contextlib.suppress(OSError):
        length = min(file.size, 2**16)
        end = file.read(file.size - length, length)
        for name, owner in ((b"_stable_baselines3_version", "stable-baselines3"),
                            (b"parameter_list", "stable-baselines")):
            if b"PK\1\2" in end and name in end and b"meta.npy" not in end:
                return (f"is a model of {owner}, which holds pickled objects; `trpo-np convert MODEL.zip -o "
                        "x.npz` reads its policy, as data")
    return ""


def _members(file: _Source) -> dict[str, tuple]:
    """Return what `_body` needs to know of each member; reads the zip's structure and 1 KB of a member."""
    size, end = file.size, file.read(max(file.size - 22, 0), 22)
    n, length, start = struct.unpack_from("<HLL", end, 10)
    if end != _END.pack(b"PK\5\6", 0, 0, n, n, length, start, 0):
        raise FileError("does not end with a zip's end record of 22 bytes: no archive, cut short or added to")
    if not 0 < n <= _MAX_MEMBERS or start + length + 22 != size or length > n * (50 + _MAX_NAME):
        raise FileError(f"has {n} members and its directory at bytes {start} to {start + length}; need 1 to "
                        f"{_MAX_MEMBERS}, and up to byte {size - 22}")
    directory, at, offset = file.read(start, length), 0, 0
    members: dict[str, tuple] = {}
    while at < length:
        crc, _, size, n_name = struct.unpack_from("<3LH", directory[at:at + 46].ljust(46), 16)
        name = directory[at + 46:at + 46 + n_name].decode("ascii", "backslashreplace").removesuffix(".npy")
        _check_name(name, taken=members)
        local, entry = _zip_headers(name, offset, size, crc)
        body, at = offset + len(local), at + len(entry)
        if (directory[at - len(entry):at] != entry or file.read(offset, len(local)) != local
                or body + size > start):
            raise FileError(f"member {name}: does not have the headers of {size} plain bytes at {offset}; "
                            "need it as write_archive writes: uncompressed, no extras, behind the one before "
                            "(what np.savez wrote, with or without pickled objects, is never read)")
        members[name] = _npy_member(name, file.read(body, min(size, 1024)), body, size, crc)
        offset = body + size
    if len(members) != n or offset != start:
        raise FileError(f"has {len(members)} members up to byte {offset}; need {n}, and up to byte {start}")
    return members


def _npy_member(name: str, peek: bytes, start: int, size: int, crc: int) -> tuple:
    match = _NPY.match(peek)
    if not match or struct.unpack("<H", match[1])[0] != len(match[2]):
        raise FileError(f"member {name}: begins {peek[:100]!r}; need .npy 1.0 of plain little-endian numbers")
    dtype, shape = np.dtype(match[3].decode()), tuple(int(dim) for dim in re.findall(rb"\d+", match[4]))
    found, limit = size - match.end(), sys.maxsize // dtype.itemsize      # NumPy's limit skips lengths of 0
    if math.prod(shape) * dtype.itemsize != found or math.prod(dim or 1 for dim in shape) > limit:
        raise FileError(f"member {name}: has {found} bytes; need as many as {dtype} of shape {shape} takes")
    return dtype, shape, match[0], start + match.end(), crc


def _body(file: _Source, name: str, dtype: np.dtype, shape: tuple, head: bytes, start: int,
          crc: int) -> np.ndarray:
    """Return the array at byte `start`; `head` is what was parsed, so the CRC must cover those very bytes."""
    array = np.empty(shape, dtype)
    if not file.fill(array, start) or zlib.crc32(array.data, zlib.crc32(head)) != crc:
        raise FileError(f"member {name}: does not have its CRC-32, {crc:#010x}: the file is damaged")
    return array


def _parse(text: bytes) -> dict[str, Any]:
    """Return the JSON record without its version, which is looked at before anything else in it."""
    version = re.match(rb'{"format": ([0-9]{1,18})[,}]', text)
    if not version or len(text) > _MAX_JSON:
        raise FileError(f"member meta: is {text[:40]!r} of {len(text)} bytes; need JSON that begins with "
                        f'{{"format": {FORMAT}, at most {_MAX_JSON} bytes')
    if int(version[1]) != FORMAT:
        raise FileError(f"meta field format: is {int(version[1])}; this trpo_np reads {FORMAT}"
                        + (", upgrade trpo_np to read the file" if int(version[1]) > FORMAT else ""))
    try:
        record = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_number,
                            parse_float=_number, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise FileError(f"member meta: {error}; need strict JSON") from error
    del record["format"]
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"field {key!r:.80} is there twice")
    return dict(pairs)


def _number(text: str) -> int | float:
    if len(text) > 100 or not math.isfinite(float(text)):      # NaN, 1e999; and endless digits are slow
        raise ValueError(f"{text[:40]} is no finite number of at most 100 digits")
    return int(text) if text.lstrip("-").isdigit() else float(text)
