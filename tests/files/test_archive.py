"""The archive: what goes in comes out, a kill loses nothing, and a bad file gets a no and nothing else."""
import base64
import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from trpo_np.files import archive
from trpo_np.files.archive import FileError, read_archive, remove_drafts, write_archive

ARRAYS = {"parameters/pi/fc0/w": np.array([[1.5, -2.0, 0.25], [3.0, -0.0, 1e-40]], np.float32),
          "counts": np.array([1, 2**62]), "done": np.array(True), "none": np.zeros((0, 3))}
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs links, pipes, umask or SIGKILL")
META = {"name": "pi \u03c0", "gamma": 0.99, "layers": [64, 64], "rng": {"state": 2**127 + 1}, "seed": None}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.npz")


def same(left, right):
    """Whether two (meta, arrays) are the same to the last bit, in order, dtype and shape too."""
    (meta, arrays), (other_meta, others) = left, right
    return json.dumps(meta) == json.dumps(other_meta) and list(arrays) == list(others) and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in zip(arrays.values(), others.values(), strict=True))


# ---- round trips

DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_layout_comes_back(path, dtype):
    base = np.arange(24).astype(dtype).reshape(2, 3, 4)
    arrays = {"c": base, "fortran": np.asfortranarray(base), "transposed": base.T, "one": base.ravel()[5:6],
              "strided": base[:, ::-2, 1::2], "zero-d": base[1, 2, 3], "scalar": np.array(1, dtype),
              "empty": base[:0], "hollow": np.zeros((2, 0, 3), dtype),
              "broadcast": np.broadcast_to(base[0, 0], (5, 4)),
              "swapped": base.astype(base.dtype.newbyteorder(">")), "ndim32": np.ones((1,) * 32, dtype)}
    write_archive(path, arrays, {})
    meta, back = read_archive(path)
    assert meta == {} and list(back) == list(arrays)
    for name, array in back.items():
        np.testing.assert_array_equal(array, arrays[name], name)
        assert array.dtype == dtype and array.dtype.isnative and array.shape == arrays[name].shape, name
        assert array.flags.writeable and array.flags.owndata and array.flags.aligned and array.flags.carray


def test_record_comes_back_as_given(path):
    write_archive(path, ARRAYS, META)
    back = read_archive(path)
    assert same(back, (META, ARRAYS))
    write_archive(path, back[1], back[0])         # nothing of the archive's own is left in what was read
    assert same(read_archive(path), back)


def test_numpy_reads_it(path):
    write_archive(path, ARRAYS, META)
    with np.load(path, allow_pickle=False) as data:
        assert data.files == ["meta", *ARRAYS]
        assert same((META, ARRAYS), (META, {name: data[name] for name in ARRAYS}))
        text = data["meta"].tobytes()
    record = json.loads(text)
    assert list(record) == ["format", "sha256", *META] and record["format"] == 1
    assert zipfile.ZipFile(path).testzip() is None


def test_limits_are_told_apart_from_what_fits(path):
    many = {f"a{i}": np.zeros(1) for i in range(4095)}
    write_archive(path, many, {"text": "x" * 4_000_000})
    assert len(read_archive(path)[1]) == 4095
    with pytest.raises(FileError, match=r"model\.npz: 4096 arrays given"):
        write_archive(path, many | {"b": np.zeros(1)}, {})


def test_path_may_lack_its_ending(tmp_path, path, monkeypatch):
    write_archive(path, ARRAYS, META)
    assert same(read_archive(tmp_path / "model"), (META, ARRAYS))
    assert same(read_archive(os.fsencode(path)), (META, ARRAYS))
    with pytest.raises(FileNotFoundError, match=r"no archive.* seen from .*missing") as caught:
        read_archive(tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")
    monkeypatch.chdir(tmp_path)
    write_archive("relative", ARRAYS, META)
    assert same(read_archive("relative"), (META, ARRAYS))


@pytest.mark.parametrize("name", ["model.npz", "a[1].npz", "n" * 80 + ".npz"])
def test_drafts_that_kills_left_are_removed_and_nothing_else(tmp_path, monkeypatch, name):
    def killed(*_):
        raise SystemExit
    monkeypatch.setattr(archive.os, "remove", lambda path: None)  # a kill runs no `finally`
    monkeypatch.setattr(archive.os, "replace", killed)
    for other in (name, f"x{name}"):
        with pytest.raises(SystemExit):
            write_archive(tmp_path / other, ARRAYS, META)
    monkeypatch.undo()
    write_archive(tmp_path / name, ARRAYS, META)
    (tmp_path / f".{name[:60]}.mine.tmp").write_text("")
    assert len(os.listdir(tmp_path)) == 4
    remove_drafts(tmp_path / name)
    left = os.listdir(tmp_path)
    assert len(left) == 3 and name in left and f".{name[:60]}.mine.tmp" in left
    assert any(entry.startswith(".x") for entry in left)


def test_same_content_same_bytes(tmp_path, monkeypatch):
    write_archive(tmp_path / "a", ARRAYS, META)
    monkeypatch.setattr("time.time", lambda: 0.0)
    fortran = {name: np.array(array, order="F") for name, array in ARRAYS.items()}
    write_archive(tmp_path / "b", fortran, dict(META))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


GOLDEN_1 = """
eNqlVEGL1DAUTnd2VTwvCl6svVSh7iRNJm2WRefkZVB7UFBc0UyaWQemndJ2lGUcGPcXCF4EL/4Cb4J4WvwLnj148D8s6MEXVGoLlcH5yoO8
r7yXL3nvJRp0NrfRL1xCP/wLb/YthIydASbRpdxJs8NXt+7ejO5b6Cmau7EuVO7u2u7zGXE92x1N8zKX6aNpHmvD35CTQgNfPJGZBv+y72Pv
imcv7P/G2bkDuySydHZt4tkOpPZ7HBxHaSko08yXPuEsZlQNxYgJRWQs4IcKqGJKYF9wGXAxFFJILFlI8ZATFojQgWypTLTJlY3t/RmmChvy
QCaJBBbvCAHuRB7qvAD/AWeezdlD4PL0AIi5U5SyNAlIgAkjJKSMY8aFT0lACQ8DimlAemHICO4FvliYA2gdQ0Q6m0wWUa0C+P3bD69hZew8
WCZzkFfC5t1s3B0p3H3WWpC9EVutIJ5N1ywIQsfXQd0xQstrCPX7sF5+Omeh+mG+fvz25SWsjEEIUtNZWhbt+sfhivrXUw/6LVRDv6776OrJ
5xewMmbGIJ6mun0MhquNwbqajeq6zHvfH58szc3/lpn+S+beaLXLxes3RzSwNrZR+6tSx583phnVnIQKR1brXDSTNDuwwu2Nv/uxGdfsgAqn
O1U/NKOaBanwrlOVJxpsnTLcFnwX4Sh3No33E127It0=
"""


def test_golden_file_of_format_1(path):
    """The first released format is read for ever, and written as long as it is the current one."""
    golden = zlib.decompress(base64.b64decode(GOLDEN_1))
    with open(path, "wb") as file:
        file.write(golden)
    assert same(read_archive(path), (META, ARRAYS))
    write_archive(path, ARRAYS, META)
    with open(path, "rb") as file:
        assert file.read() == golden


# ---- writing

@pytest.mark.parametrize("arrays, meta, message", [
    ({"w": np.array([1, np.nan, np.inf])}, {}, "array w: has NaN or infinity in 2 of 3"),
    ({"w": np.float16(np.inf)}, {}, "array w: has NaN or infinity in 1 of 1"),
    ({"w": np.array([None])}, {}, "array w: has dtype object"),
    ({"w": np.array(["a"])}, {}, "array w: has dtype <U1"),
    ({"w": np.zeros(2, "c16")}, {}, "array w: has dtype complex128"),
    ({"w": np.zeros(2, "f4,i4")}, {}, r"array w: has dtype \["),
    ({"w": np.zeros(2, "M8[s]")}, {}, r"array w: has dtype datetime64"),
    ({"w": np.zeros(2, getattr(np.dtypes, "StringDType", object))}, {}, "array w: has dtype"),
    ({"meta": np.zeros(2)}, {}, "member name 'meta': need a new one"),
    ({"../w": np.zeros(2)}, {}, r"member name '\.\./w': need"),
    ({"a b": np.zeros(2)}, {}, "member name 'a b': need"),
    ({"w\n": np.zeros(2)}, {}, r"member name 'w\\n': need"),
    ({3: np.zeros(2)}, {}, "member name 3: need"),
    ({"w" * 201: np.zeros(2)}, {}, "member name 'www.*at most 200"),
    ({}, {"x": np.float32(1)}, "meta field 'x': .*float32"),
    ({}, {"x": {"y": [1.0, float("nan")]}}, "meta field 'x': .*not JSON compliant"),
    ({}, {"x": {1: 0, "1": 0}}, "member meta: field '1' is there twice"),
    ({}, {"format": 1}, "member meta: field 'format' is there twice"),
    ({}, {"sha256": ""}, "member meta: field 'sha256' is there twice"),
    ({}, {"x": 10**100}, "member meta: 1000.* at most 100 digits"),
    ({}, {"x": "y" * 2**22}, r"member meta: .* at most 4194304 bytes"),
    ({}, {1: 0}, "member meta: Expecting property name"),
])
def test_what_could_not_be_read_is_not_written(path, arrays, meta, message):
    write_archive(path, ARRAYS, META)
    with pytest.raises(FileError, match=r"model\.npz: " + message):
        write_archive(path, arrays, meta)
    assert same(read_archive(path), (META, ARRAYS))


def test_four_gigabytes_are_refused(path, monkeypatch):
    monkeypatch.setattr(archive, "_MAX_BYTES", 5000)
    with pytest.raises(FileError, match=r"model\.npz: array b: would end at byte .*; need at most 5000"):
        write_archive(path, {"a": np.zeros(300), "b": np.zeros(300)}, {})
    assert not os.path.exists(path)


@pytest.mark.parametrize("function", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, path, monkeypatch, function, error):
    write_archive(path, ARRAYS, META)

    def fail(*args, **kwargs):
        raise error

    if function == "write":
        monkeypatch.setattr(archive, "_pack", lambda *args: (b"x" if i < 3 else fail() for i in range(9)))
    elif function == "open":
        monkeypatch.setattr(archive, "open", fail, raising=False)
    else:
        monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)) as caught:
        write_archive(path, {}, {})
    monkeypatch.undo()
    if isinstance(error, OSError):
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == path
        assert "No space left on device; need a writable folder and free space" in str(caught.value)
    assert os.listdir(tmp_path) == ["model.npz"] and same(read_archive(path), (META, ARRAYS))


@POSIX
def test_the_file_is_on_the_disk_before_its_name_is(tmp_path, path, monkeypatch):
    steps, replace, fsync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *names: (steps.append("rename"), replace(*names)))
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append(os.fstat(file).st_ino), fsync(file)))
    write_archive(path, ARRAYS, META)
    assert steps == [os.stat(path).st_ino, "rename", os.stat(tmp_path).st_ino]


@POSIX
def test_folders_are_made_and_links_and_umask_kept(tmp_path):
    target, link = tmp_path / "runs" / "1" / "model.npz", tmp_path / "latest.npz"
    old = os.umask(0o027)
    try:
        write_archive(target, ARRAYS, META)
    finally:
        os.umask(old)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    link.symlink_to(target)
    write_archive(link, {}, {"new": True})
    assert link.is_symlink() and read_archive(target) == ({"new": True}, {})
    write_archive(tmp_path / ("n" * 251 + ".npz"), {}, {})       # the longest name that a folder can hold


@POSIX
def test_only_files_are_replaced(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("folder.npz", "pipe.npz", "file/model.npz"):
        with pytest.raises(OSError, match="cannot save: .*; need a writable folder") as caught:
            write_archive(tmp_path / name, {}, {})
        assert caught.value.filename == str(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.npz", "pipe.npz"]


SAVE_FOR_EVER = """
import itertools, sys
import numpy as np
from trpo_np.files.archive import write_archive
for k in itertools.count():
    write_archive(sys.argv[1], {name: np.full(20_000, k, np.float32) for name in "abc"}, {"k": k})
    if k == 0:
        print("saved once", flush=True)
"""


@POSIX
def test_a_kill_never_leaves_an_unreadable_file(tmp_path):
    rng = random.Random(0)
    paths = [str(tmp_path / str(i) / "model.npz") for i in range(10)]
    runs = [subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, path], stdout=subprocess.PIPE,
                             env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) for path in paths]
    try:
        for path, run in zip(paths, runs, strict=True):
            assert run.stdout.readline() == b"saved once\n"
            threading.Event().wait(rng.uniform(0, 0.03))
            run.kill()
            run.wait()
            meta, arrays = read_archive(path)
            assert list(arrays) == list("abc")
            assert all((array == meta["k"]).all() for array in arrays.values())
            assert len(os.listdir(os.path.dirname(path))) <= 2       # the file, and what it was about to be
    finally:
        for run in runs:
            run.kill()
            run.communicate()


def test_two_writers_do_not_mix(path):
    def save(k):
        for _ in range(25):
            write_archive(path, {"w": np.full(5000, k)}, {"k": k})

    write_archive(path, {"w": np.full(5000, 0)}, {"k": 0})
    threads = [threading.Thread(target=save, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        meta, arrays = read_archive(path)
        assert (arrays["w"] == meta["k"]).all()
    assert os.listdir(os.path.dirname(path)) == ["model.npz"]


# ---- damage

def read_bytes(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return read_archive(path)


@pytest.fixture
def small(path):
    write_archive(path, {"w": np.array([1.5, -2.0], np.float32)}, {"a": 1})
    with open(path, "rb") as file:
        return file.read()


def test_every_single_bit_flip_is_noticed(path, small):
    with open(path, "r+b", buffering=0) as file:
        for position, byte in enumerate(small):
            for flipped in [byte ^ 1 << bit for bit in range(8)] + [byte]:
                file.seek(position)
                file.write(bytes([flipped]))
                try:
                    read_archive(path)
                except FileError as error:
                    assert str(error).startswith(f"{path}: ")
                    noticed = True
                else:
                    noticed = False
                assert noticed == (flipped != byte), f"byte {position}: {flipped:#x} for {byte:#x}"


def test_every_truncation_is_noticed(path, small):
    for length in range(len(small)):
        with pytest.raises(FileError, match=r"model\.npz: "):
            read_bytes(path, small[:length])


def test_a_file_that_shrinks_under_the_reader_is_noticed(path, small):
    with pytest.raises(FileError, match=r"model\.npz: member n: does not have its CRC-32"):
        write_archive(path, {"n": np.zeros(50_000)}, {})
        read_archive(path, check=lambda meta, arrays: os.truncate(path, 10_000))


# ---- attacks: files made by hand, from the formats and not from archive.py, with one thing wrong in each

def npy(body, descr="'<f4'", shape="(2,)", order="False", magic=b"\x93NUMPY\1\0", text=None, stated=0):
    text = text or f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text += " " * (-(11 + len(text)) % 64) + "\n"
    return magic + struct.pack("<H" if magic[6] == 1 else "<I", stated or len(text)) + text.encode() + body


def member(content, name="w.npy", **wrong):
    return {"name": name.encode("latin-1"), "content": content, **wrong}


def zipped(*members, gap=b"", padding=b"", comment=b"", disk=0, n=None, n_all=None):
    data, directory = bytearray(), bytearray()
    for m in members:
        offset, size = m.get("offset", len(data)), m.get("size", len(m["content"]))
        shared = struct.pack("<5H3L2H", 20, m.get("flags", 0), m.get("method", 0), 0, 33,
                             m.get("crc", zlib.crc32(m["content"])), m.get("packed", size), size,
                             len(m["name"]), 0)
        if not m.get("hidden"):
            directory += struct.pack("<4sH26s3H2L", b"PK\1\2", 20, shared, 0, 0, 0, 0, offset) + m["name"]
        if not m.get("absent"):
            data += b"PK\3\4" + m.get("shared", shared) + m.get("local_name", m["name"]) + m["content"]
    n = len(members) - sum("hidden" in m for m in members) if n is None else n
    end = struct.pack("<4s4H2LH", b"PK\5\6", disk, 0, n, n if n_all is None else n_all,
                      len(directory + padding), len(data + gap), len(comment))
    return bytes(data + gap + directory + padding + end + comment)


W = np.array([1.5, -2.0], np.float32)
SHA = hashlib.sha256(b"w <f4 (2,)\n" + W.tobytes()).hexdigest()
GOOD = npy(W.tobytes())


def meta(digest=SHA, text=None, **wrong):
    text = text or f'{{"format": 1, "sha256": "{digest}", "a": 1}}'
    text = text if isinstance(text, bytes) else text.encode()
    return member(npy(text, "'|u1'", f"({len(text)},)"), "meta.npy", **wrong)


def record(text):
    text = text if isinstance(text, bytes) else text.replace("SHA", SHA)
    return lambda: zipped(meta(text=text), member(GOOD))


def also(*more, **wrong):
    return lambda: zipped(meta(), member(GOOD), *more, **wrong)


def one(content=GOOD, name="w.npy", digest=SHA, **wrong):
    return lambda: zipped(meta(digest), member(content, name, **wrong))


def by_zipfile(compression):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as zipped_file:
        zipped_file.writestr("meta.npy", meta()["content"])
        zipped_file.writestr("w.npy", npy(bytes(2**24), "'|u1'", f"({2**24},)"))
    return file.getvalue()


def by_savez():
    file = io.BytesIO()
    np.savez(file, w=np.array([Bomb()]))
    return file.getvalue()


class Bomb:
    """An object whose unpickling leaves a mark in the working folder."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_the_files_made_here_are_good_but_for_what_is_wrong(path):
    data = zipped(meta(), member(GOOD))
    assert same(read_bytes(path, data), ({"a": 1}, {"w": W}))
    write_archive(path, {"w": W}, {"a": 1})
    with open(path, "rb") as file:
        assert file.read() == data                # two independent spellings of the format agree


END, NAME = "does not end with a zip's end record", "member name .*need a new one"
HEADERS, NPY = "member w: does not have the headers", "member w: begins"
ATTACKS = {
    # the end record and the directory
    "empty file": (lambda: b"", "has 0 bytes from byte 0 on"),
    "text": (lambda: b"PK" * 100, END),
    "pickled dictionary": (lambda: pickle.dumps({"w": [1] * 100}), END),
    "bytes behind": (lambda: one()() + b"\0", END),
    "bytes in front": (lambda: b"#!" + one()(), "its directory at bytes"),
    "two zips joined": (lambda: one()() + one()(), "its directory at bytes"),
    "comment": (also(comment=b"PK\5\6"), END),
    "end record in a comment": (also(comment=zipped(n=1)), "directory at bytes"),
    "endless directory": (lambda: zipped(meta(), padding=bytes(40_000_000)), "directory at bytes"),
    "several disks": (also(disk=1), END),
    "two counts": (also(n_all=3), END),
    "zip64": (also(n=0xffff), "has 65535 members"),
    "no members": (lambda: zipped(), "has 0 members"),
    "too many members": (also(*(member(GOOD, f"{i}.npy") for i in range(5000))), "has 5002 members"),
    "more counted than there": (also(n=3), "has 2 members .*; need 3"),
    "fewer counted than there": (also(n=1), "has 2 members .*; need 1"),
    # names
    "duplicate names": (also(member(GOOD)), NAME),
    "two records": (lambda: zipped(meta(), meta(), member(GOOD)), NAME),
    "parent folder": (one(name="../w.npy"), NAME),
    "parent folder inside": (one(name="a/../../w.npy"), NAME),
    "absolute": (one(name="/w.npy"), NAME),
    "backslash": (one(name="a\\w.npy"), NAME),
    "drive": (one(name="c:w.npy"), NAME),
    "NUL": (one(name="w\0.npy"), NAME),
    "not ASCII": (one(name="w\xe9.npy"), NAME),
    "no .npy": (one(name="w"), HEADERS),
    "empty name": (one(name=".npy"), NAME),
    "long name": (one(name="w" * 300 + ".npy"), NAME + "|directory at bytes"),
    "no record": (lambda: zipped(member(GOOD)), "member meta: is None"),
    "record not first": (lambda: zipped(member(GOOD), meta()), "member meta: is .*; need it first"),
    # members
    "deflate bomb": (lambda: by_zipfile(zipfile.ZIP_DEFLATED), "member meta: does not have the headers"),
    "deflated member": (one(zlib.compress(GOOD)[2:-4], method=8), HEADERS),
    "method without compression": (one(method=8), HEADERS),
    "encrypted": (one(flags=1), HEADERS),
    "sizes follow later": (one(flags=8), HEADERS),
    "two sizes": (one(packed=1), HEADERS),
    "size beyond the end": (one(size=2**32 - 1), HEADERS),
    "size into the directory": (one(size=len(GOOD) + 10), HEADERS),
    "size too small": (one(size=len(GOOD) - 4), "member w: has 4 bytes"),
    "overlapping members": (also(member(GOOD, "v.npy", offset=0)), "member v: does not have the headers"),
    "quoted overlap": (also(*(member(GOOD, f"{i}.npy", offset=0, absent=True) for i in range(1000))),
                       "member 0: does not have the headers"),
    "gap before the directory": (also(gap=b"x"), "2 members up to byte"),
    "hidden member": (lambda: zipped(meta(), member(GOOD, "v.npy", hidden=True), member(GOOD)), HEADERS),
    "other name inside": (one(local_name=b"v.npy"), HEADERS),
    "other sizes inside": (one(shared=bytes(26)), HEADERS),
    "stale CRC": (one(npy(np.float32([1.5, 2.0]).tobytes()), crc=zlib.crc32(GOOD)), "member w: .*CRC-32"),
    "stale CRC of the record": (lambda: zipped(meta(crc=1), member(GOOD)), "member meta: .*CRC-32, 0x0+1"),
    # .npy headers
    "pickle by np.savez": (by_savez, HEADERS + ".*need it as write_archive"),
    "pickle": (one(npy(pickle.dumps([Bomb()]), "'|O'")), NPY),
    "structured dtype": (one(npy(bytes(16), "[('a', '<f4'), ('b', '<i4')]")), NPY),
    "strings": (one(npy(bytes(8), "'<U1'")), NPY),
    "void": (one(npy(bytes(8), "'|V4'")), NPY),
    "complex": (one(npy(bytes(16), "'<c8'")), NPY),
    "dates": (one(npy(bytes(16), "'<M8[s]'")), NPY),
    "long double": (one(npy(bytes(32), "'<f16'")), NPY),
    "big-endian": (one(npy(bytes(8), "'>f4'")), NPY),
    "Fortran order": (one(npy(W.tobytes(), order="True")), NPY),
    "code": (one(npy(W.tobytes(), shape="(__import__('os').mkdir('exploded') or 2,)")), NPY),
    "deep parentheses": (one(npy(W.tobytes(), shape="(" * 900)), NPY),
    "negative length": (one(npy(W.tobytes(), shape="(-2,)")), NPY),
    "33 dimensions": (one(npy(b"\0", "'|u1'", str((1,) * 33))), NPY),
    "number for a shape": (one(npy(W.tobytes(), shape="(2)")), NPY),
    "further key": (one(npy(W.tobytes(), shape="(2,), 'x': 1")), NPY),
    "header version 2": (one(npy(W.tobytes(), magic=b"\x93NUMPY\2\0")), NPY),
    "header of another length": (one(npy(W.tobytes(), stated=70)), NPY),
    "header that never ends": (one(npy(W.tobytes(), text="{'descr': '<f4'" + " " * 60000)), NPY),
    "no header": (one(b""), NPY),
    "terabytes claimed": (one(npy(bytes(8), "'<f8'", f"({2**40},)")), "w: has 8 bytes; need as many as"),
    "overflow to the right size": (one(npy(b"", "'<f8'", f"({2**32}, {2**29})")), "member w: has 0 bytes"),
    "nothing, but of huge shape": (one(npy(b"", "'<f8'", f"(0, {2**58}, {2**58})")), "member w: has 0 bytes"),
    "fewer bytes than shape": (one(npy(W.tobytes(), shape="(1,)")), "member w: has 8 bytes"),
    # the record
    "record of floats": (lambda: zipped(member(GOOD, "meta.npy"), member(GOOD)), "member meta: is float32"),
    "huge record": (lambda: zipped(meta(text=b" " * 40_000_000)), "member meta: .*at most 4194304"),
    "record of two dimensions": (lambda: zipped(member(npy(b"{}", "'|u1'", "(2, 1)"), "meta.npy")),
                                 r"member meta: is uint8 of shape \(2, 1\)"),
    "newer format": (record('{"format": 2, "sha256": NaN, not JSON'), "meta field format: is 2; .*upgrade"),
    "format 0": (record('{"format": 0}'), "meta field format: is 0; this trpo_np reads 1$"),
    "format not first": (record('{"sha256": "SHA", "format": 1}'), "member meta: .*need JSON that begins"),
    "format of text": (record('{"format": "1", "sha256": "SHA"}'), "member meta: .*need JSON that begins"),
    "no object": (record('[{"format": 1}]'), "member meta: .*need JSON that begins"),
    "record cut short": (record('{"format": 1, "sha256": "SH'), "member meta: Unterminated"),
    "text behind": (record('{"format": 1, "sha256": "SHA"} {}'), "member meta: Extra data"),
    "duplicate keys": (record('{"format": 1, "a": {"b": 1, "c": 2, "b": 3}}'), "field 'b' is there twice"),
    "two formats": (record('{"format": 1, "sha256": "SHA", "format": 2}'), "field 'format' is there twice"),
    **{f"record with {text}": (record(f'{{"format": 1, "a": [{text}]}}'), f"meta: {text} is no finite")
       for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")},
    "endless digits": (record('{"format": 1, "a": ' + "9" * 4_000_000 + "}"), "at most 100 digits"),
    "deep nesting": (record('{"format": 1, "a": ' + "[" * 200_000 + "]" * 200_000 + "}"), "recursion"),
    "not UTF-8": (record(b'{"format": 1, "a": "\xff"}'), "member meta: .*utf-8"),
    "UTF-16": (record('{"format": 1}'.encode("utf-16")), "member meta: .*need JSON that begins"),
    # what the arrays hold
    "NaN": (one(npy(np.float32([0, np.nan]).tobytes())), "array w: has NaN or infinity in 1 of 2"),
    "infinity": (one(npy(np.float64([-np.inf, 0]).tobytes(), "'<f8'")), "array w: has NaN or infinity"),
    "a bool of 2": (one(npy(b"\1\2", "'|b1'")), "array w: has a bool that is neither"),
    "other bytes": (one(npy(np.float32([1.5, 2]).tobytes())), "meta field sha256: is '"),
    "other dtype": (one(npy(W.tobytes(), "'<i4'")), "meta field sha256: is '"),
    "other name": (one(name="v.npy"), "meta field sha256: is '"),
    "other shape": (one(npy(W.tobytes(), shape="(2, 1)")), "meta field sha256: is '"),
    "array left out": (lambda: zipped(meta()), "meta field sha256: is '"),
    "array put in": (also(member(GOOD, "v.npy")), "meta field sha256: is '"),
    "no sha256": (record('{"format": 1}'), "meta field sha256: is None"),
    "sha256 of another type": (record('{"format": 1, "sha256": ["SHA"]}'), r"meta field sha256: is \["),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused_in_little_memory(tmp_path, path, attack, monkeypatch):
    make, message = ATTACKS[attack]
    monkeypatch.chdir(tmp_path)
    data = make()
    with open(path, "wb") as file:
        file.write(data)
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as caught:
            read_archive(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 600 + len(path)
    assert caught.match(message)
    assert os.listdir() == ["model.npz"]
    assert peak < 300_000 + 4 * min(len(data), 5_000_000)     # of the file's order, and bounded for any


def test_the_payload_of_the_attacks_is_live(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.load(io.BytesIO(by_savez()), allow_pickle=True)["w"]
    assert os.listdir() == ["exploded"]


@POSIX
@pytest.mark.parametrize("make", ["mkdir", "mkfifo", "symlink"])
def test_only_files_are_read(path, make):
    getattr(os, make)(*["/dev/zero"] * (make == "symlink"), path)
    caught = []

    def read():
        try:
            read_archive(path)
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=read, daemon=True)          # a pipe that is opened would wait for ever
    thread.start()
    thread.join(5)
    assert caught and isinstance(caught[0], FileError)
    assert str(caught[0]) == f"{path}: is a folder, pipe or device; need a regular file"


def test_a_file_that_cannot_be_read_is_a_file_error(path, small, monkeypatch):
    def fail(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(archive, "open", fail, raising=False)
    with pytest.raises(FileError, match=r"model\.npz: cannot be read: Permission denied"):
        read_archive(path)


def test_size_limit_comes_first(path, small):
    assert read_archive(path, max_bytes=len(small))[0] == {"a": 1}
    with pytest.raises(FileError, match=rf"model\.npz: has {len(small)} bytes; need at most max_bytes = 100"):
        read_archive(path, max_bytes=100)


def test_random_damage_with_a_right_crc_raises_nothing_but_file_errors(path):
    """Headers and JSON are mangled before the CRC is taken, so that the parsers themselves see the damage."""
    rng = random.Random(1)
    sources = [meta()["content"], GOOD]
    scraps = [b"", b"9", b",", b"(", b"}", b'"', b"'", b"e", b"\xff", b" "]
    for _ in range(1000):
        contents = [bytearray(content) for content in sources]
        for _ in range(rng.randint(1, 3)):
            content = rng.choice(contents)
            at = rng.randrange(6, len(content))
            content[at:at + rng.randint(0, 2)] = rng.choice(scraps)
        try:
            back = read_bytes(path, zipped(member(contents[0], "meta.npy"), member(contents[1])))
        except FileError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            np.testing.assert_array_equal(back[1]["w"], W)


# ---- the caller's check

def test_check_sees_the_declaration_before_memory_is_taken(path):
    write_archive(path, {"w": np.zeros((1 << 11, 1 << 10)), "b": np.array([1, 2], np.int8)}, {"layers": [3]})
    seen = []

    def check(meta, declared):
        seen.append((meta, declared, tracemalloc.get_traced_memory()[1]))
        raise FileError(f"array w: has shape {declared['w'][1]}; need (3, 64)")

    tracemalloc.start()
    with pytest.raises(FileError, match=r"model\.npz: array w: has shape \(2048, 1024\); need \(3, 64\)$"):
        read_archive(path, check)
    tracemalloc.stop()
    (meta, declared, peak), = seen
    assert meta == {"layers": [3]} and peak < 500_000
    assert declared == {"w": (np.float64, (2048, 1024)), "b": (np.int8, (2,))} and declared["w"][0].isnative


def test_check_comes_after_the_record_and_before_the_values(path):
    with open(path, "wb") as file:
        file.write(one(npy(np.float32([0, np.nan]).tobytes()))())

    def check(meta, declared):
        raise ValueError("no space of 0 actions")       # as the modules raise that a check calls

    with pytest.raises(FileError, match=r"model\.npz: no space of 0 actions") as caught:
        read_archive(path, check)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(FileError, match="array w: has NaN"):
        read_archive(path, lambda meta, declared: None)
    with open(path, "wb") as file:
        file.write(record('{"format": 2}')())
    with pytest.raises(FileError, match="upgrade"):
        read_archive(path, lambda meta, declared: pytest.fail("checked a record of another format"))


@pytest.mark.parametrize("members, owner", [
    (["data", "policy.pth", "pytorch_variables.pth", "_stable_baselines3_version"], "stable-baselines3"),
    (["data", "parameter_list", "parameters"], "stable-baselines")])
def test_a_model_of_stable_baselines_is_called_one(tmp_path, members, owner):
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as file:
        for name in members:
            file.writestr(name, b"{}")
    with pytest.raises(FileError, match=rf"theirs\.zip: is a model of {owner}, which holds pickled objects"):
        read_archive(tmp_path / "theirs.zip")


def test_a_zip_that_is_there_instead_is_named(tmp_path):
    (tmp_path / "model.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"nor with \.npz, seen from .*; there is .*model\.zip"):
        read_archive(tmp_path / "model")


def test_counts_and_squares_are_not_negative():
    archive.check_not_negative("some", np.array([0.0, 2.0]))
    with pytest.raises(FileError, match="some holds negative numbers"):
        archive.check_not_negative("some", np.array([2.0, -1e-9]))


# ---- file objects

def test_an_archive_stands_in_a_file_object_from_its_position_to_its_end(path):
    write_archive(path, ARRAYS, META)
    with open(path, "rb") as file:
        data = file.read()
    file = io.BytesIO(b"ahead")
    file.seek(5)
    write_archive(file, ARRAYS, META)
    assert file.getvalue() == b"ahead" + data and file.tell() == len(data) + 5
    file.seek(5)
    assert same(read_archive(file), (META, ARRAYS))
    assert file.tell() == len(data) + 5 and not file.closed
    with pytest.raises(FileError, match=f"holds nothing behind its position, {len(data) + 5}; seek"):
        read_archive(file)


@pytest.mark.parametrize("make", [
    lambda folder: open(folder / "file", "w+b"), lambda folder: open(folder / "file", "w+b", buffering=0),
    lambda folder: open(folder / "file", "wb"), lambda folder: tempfile.TemporaryFile(),
    lambda folder: tempfile.NamedTemporaryFile(), lambda folder: gzip.open(folder / "file", "wb"),
    lambda folder: zipfile.ZipFile(folder / "file", "w").open("member", "w")])
def test_file_objects_of_any_kind_are_taken(tmp_path, make):
    with make(tmp_path) as file:
        write_archive(file, ARRAYS, META)
        if file.seekable() and not isinstance(file, gzip.GzipFile):
            file.seek(0)
            assert same(read_archive(file), (META, ARRAYS))  # opened by "wb": by its name
            return
    if isinstance(file, gzip.GzipFile):
        file = gzip.open(tmp_path / "file")
    else:
        file._zipfile.close()
        file = zipfile.ZipFile(tmp_path / "file").open("member")
    with file:
        assert same(read_archive(file), (META, ARRAYS))


def closed(file):
    file.close()
    return file


def by_pipe(folder):
    read, write = os.pipe()
    os.write(write, b"x" * 100)
    os.close(write)
    return os.fdopen(read, "rb")


def by_another_name(folder):
    file = open(folder / "moved", "wb")
    os.replace(folder / "moved", folder / "new")
    (folder / "moved").touch()
    return file


@POSIX
@pytest.mark.parametrize("make, why", [
    (lambda folder: io.StringIO("text"), "open in text mode"), (lambda folder: open(__file__), "in text"),
    (lambda folder: closed(io.BytesIO()), "closed file"), (by_pipe, "seek"),
    (by_another_name, "open for writing only, and no longer found by its name")])
def test_a_file_object_that_cannot_be_read_gets_a_sentence(tmp_path, make, why):
    with contextlib.closing(make(tmp_path)) as file:
        with pytest.raises(FileError, match=rf"^<_io.*>: cannot be read \(.*{why}.*\); need an open binary "
                                            r"file that can seek, such as open\(path, 'rb'\) or io\.BytesIO"):
            read_archive(file)


@pytest.mark.parametrize("make, why", [
    (lambda: io.StringIO(), "bytes"), (lambda: closed(io.BytesIO()), "closed file"),
    (lambda: open(__file__, "rb"), "write")])
def test_a_file_object_that_cannot_be_written_gets_a_sentence(make, why):
    with pytest.raises(ValueError, match=f"one that is open for writing, in binary mode, is needed .*{why}"):
        write_archive(make(), ARRAYS, META)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk")
@pytest.mark.parametrize("buffering", [0, 2**20])
def test_a_full_disk_behind_a_file_object_is_an_error_of_saving(buffering):
    file = open("/dev/full", "wb", buffering=buffering)
    with pytest.raises(OSError, match="No space left"):
        write_archive(file, ARRAYS, META)
    with contextlib.suppress(OSError):
        file.close()


def test_file_objects_pass_all_checks_of_files(path, small):
    for i in range(0, len(small), 7):
        file = io.BytesIO(small[:i] + bytes([small[i] ^ 1]) + small[i + 1:])
        with pytest.raises(FileError, match=r"^<_io\.BytesIO"):
            read_archive(file)
    for data in (small[:-1], small + b"\0", b"", b"\0" + small):
        with pytest.raises(FileError):
            read_archive(io.BytesIO(data))
    with pytest.raises(FileError, match="need at most max_bytes = 100"):
        read_archive(io.BytesIO(small), max_bytes=100)
    with pytest.raises(FileError, match="no thanks"):
        read_archive(io.BytesIO(small), lambda meta, arrays: (_ for _ in ()).throw(FileError("no thanks")))
