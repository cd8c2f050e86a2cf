"""Golden models of other versions act as they did there; what is no model, cut or hostile is a sentence."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from base64 import b64decode

import numpy as np
import pytest
import zips

from trpo_np import TRPO, cli, load_policy, ops, spaces
from trpo_np.deploy import sb3
from trpo_np.deploy.convert import convert
from trpo_np.files.archive import FileError

ZIPS = sorted(path.name.removesuffix(".zip.xz") for path in zips.GOLDEN.glob("*.zip.xz"))
ONE = "sb3_2.9.2_trpo_normalized"


def written(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


def converted(folder, name):
    statistics = None
    if (zips.GOLDEN / f"{name}.pkl.xz").exists():
        statistics = written(folder, "v.pkl", zips.golden(f"{name}.pkl"))
    return convert(written(folder, "m.zip", zips.golden(f"{name}.zip")), folder / "m", statistics)


@pytest.mark.parametrize("name", ZIPS)
def test_golden_models_act_as_they_did_in_their_library(name, tmp_path):
    said, *notes = converted(tmp_path, name)
    assert said.startswith(f"{tmp_path / 'm.npz'}: ") and name.split("_")[1] in said
    assert len(notes) == ("images" in name)
    policy = load_policy(tmp_path / "m.npz")
    want = json.loads((zips.GOLDEN / f"{name}.json").read_text())
    obs = want["obs"]
    if "shape" in want:
        obs = np.frombuffer(bytes.fromhex(obs), np.uint8).reshape(want["shape"])
    obs = {key: np.array(part) for key, part in obs.items()} if isinstance(obs, dict) else np.asarray(obs)
    x = policy.observe(obs)[0]
    np.testing.assert_allclose(policy.predict(obs, deterministic=True)[0], want["actions"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(policy.value(x), want["values"], rtol=1e-5, atol=1e-5)
    outputs, space = policy.pi(policy.params, x), policy.action_space
    if isinstance(space, spaces.Box):
        outputs = outputs[:, :space.width]
    else:
        ends = np.cumsum([space.n] if isinstance(space, spaces.Discrete) else space.nvec)[:-1]
        parts = np.split(outputs, ends, axis=1)
        outputs = np.concatenate([ops.log_softmax(part) for part in parts], axis=1)
    np.testing.assert_allclose(outputs, want["outputs"], rtol=1e-5, atol=1e-5)
    sums = sorted(np.abs(array).sum(dtype=np.float64) for array in policy.params.values())
    theirs = {key: value for key, value in want["sums"].items() if not key.startswith(("pi_", "vf_"))}
    np.testing.assert_allclose(sums, sorted(theirs.values()), rtol=1e-12)
    assert TRPO.load(tmp_path / "m.npz").policy.params.flat.size == policy.params.flat.size


def test_conversion_needs_numpy_alone(tmp_path):
    path = written(tmp_path, "m.zip", zips.golden(f"{ONE}.zip"))
    code = (f"from trpo_np.deploy.convert import convert; convert({str(path)!r}, {str(tmp_path / 'm')!r})\n"
            "import sys; print(*sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unwanted = {"torch", "pickle", "tensorflow", "gymnasium", "numba", "scipy", "zipfile", "_pickle"}
    names = {name.split(".")[0] for name in done.stdout.split()}
    bare = subprocess.run([sys.executable, "-c", "import numpy, numpy.random, sys; print(*sys.modules)"],
                          capture_output=True, text=True, check=True).stdout.split()  # NumPy loads pickle
    assert not (names - set(bare)) & unwanted


def test_the_command_converts_and_says_what_to_look_out_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "m.zip", zips.golden(f"{ONE}.zip"))
    written(tmp_path, "v.pkl", zips.golden(f"{ONE}.pkl"))
    with pytest.raises(SystemExit) as end:
        cli.main(["convert", "m.zip", "-o", "m.npz"])
    assert not end.value.code and "trained with VecNormalize" in capsys.readouterr().out
    assert not load_policy("m.npz").normalizer.enabled
    with pytest.raises(SystemExit):
        cli.main(["convert", "m.zip", "v.pkl", "-o", "m.npz"])
    assert "VecNormalize" not in capsys.readouterr().out and load_policy("m.npz").normalizer.enabled
    os.remove("m.npz")
    with pytest.raises(SystemExit):
        cli.main(["convert", str(tmp_path / "m.zip")])
    assert os.path.exists("m.npz")  # in the working folder
    with pytest.raises(SystemExit) as end:
        cli.main(["convert", "v.pkl", "-o", "m.npz"])
    assert "v.pkl: is a pickle; the .zip" in end.value.code


def test_a_model_whose_name_ends_as_those_of_this_package_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "m.npz", zips.golden(f"{ONE}.zip"))
    written(tmp_path, "m.zip", zips.golden(f"{ONE}.zip"))
    written(tmp_path, "v.npz", zips.golden(f"{ONE}.pkl"))
    with pytest.raises(SystemExit) as end:
        cli.main(["convert", "m.npz"])
    assert "m.npz is one of the files to read; name another to write" in end.value.code
    with pytest.raises(ValueError, match="v.npz is one of the files to read"):
        convert("m.zip", "v", "v.npz")
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "m.zip").read_bytes()


def test_a_model_of_stable_baselines3_is_not_loaded_but_pointed_to_the_command(tmp_path):
    path = written(tmp_path, "m.zip", zips.golden(f"{ONE}.zip"))
    with pytest.raises(FileError, match=r"a model of stable-baselines3.*trpo-np convert MODEL\.zip"):
        load_policy(path)


# --- what is no model ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("data, said", [
    (b"", "has 0 bytes"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b'{"a": 1}', "is JSON"),
    (b"x" * 100, "is no zip"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"), (b"<!DOCTYPE html>", "a web page"),
    (b"\x1f\x8b\x08", "compressed by gzip"), (pickle.dumps({"a": 1}), "is a pickle"),
    (zips.zipped({}), "an empty zip"), (zips.zipped({"a.txt": b"a", "b": b"b"}), "a zip of 'a.txt', 'b'"),
    (zips.zipped({"meta.npy": b""}), "a model of this package already"),
    (zips.zipped({"a.npy": b""}), "an .npz of arrays"), (zips.zipped({"data": b"{}"}), "without policy.pth"),
    (zips.members(zips.golden(f"{ONE}.zip"))["policy.pth"], "a file of torch.save")])
def test_an_error_tells_what_a_file_seems_to_be(data, said, tmp_path):
    with pytest.raises(FileError, match=rf"m\.zip: .*{re.escape(said)}"):
        convert(written(tmp_path, "m.zip", data), tmp_path / "m")
    assert not (tmp_path / "m.npz").exists()


def test_paths_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "nothing.zip", tmp_path / "m")
    with pytest.raises(FileError, match="is a folder"):
        convert(tmp_path, tmp_path / "m")
    with pytest.raises(ValueError, match="channels is 'middle'"):
        convert(tmp_path, tmp_path / "m", channels="middle")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileError, match="pipe or device"):
            convert(tmp_path / "pipe", tmp_path / "m")


@pytest.mark.parametrize("field, value, said", [
    ("policy_kwargs", {"features_extractor_class": "<class '__main__.Mine'>"}, "extractor_class is 'Mine'"),
    ("policy_kwargs", {"mystery": 1}, "policy_kwargs has 'mystery'"), ("policy_kwargs", 3, "is a int"),
    ("policy_kwargs", {"activation_fn": 5}, "activation_fn is 'int'"),
    ("use_sde", True, "use_sde is set"), ("gamma", 7.0, "gamma is 7.0"),
    ("observation_space", None, "observation_space is missing"),
    ("observation_space", {":serialized:": "!"}, "observation_space: "),
    ("observation_space", b"\x80\x04N.", "observation_space is no space"),
    ("policy_class", b"\x80\x04N.", "policy_class is no class"),
    ("policy_class", b"\x80\x02cmine\nPolicy\n.", "names 'mine.Policy'")])
def test_a_field_that_is_not_known_is_named(field, value, said, tmp_path):
    data = zips.with_field(zips.golden(f"{ONE}.zip"), field, value)
    with pytest.raises(FileError, match=rf"m\.zip: data: .*{re.escape(said)}"):
        convert(written(tmp_path, "m.zip", data), tmp_path / "m")


def test_a_tensor_that_is_not_known_is_named(tmp_path):
    pickled = zips.members(zips.members(zips.golden(f"{ONE}.zip"))["policy.pth"])["archive/data.pkl"]
    for name in (b"value_net.bias", b"log_std"):
        data = zips.with_tensors(zips.golden(f"{ONE}.zip"), pickled.replace(name, name.upper()))
        with pytest.raises(FileError, match=rf"policy\.pth lacks {re.escape(name.decode())}"):
            convert(written(tmp_path, "m.zip", data), tmp_path / "m")
    net = b"mlp_extractor.value_net.0.weight"
    data = zips.with_tensors(zips.golden(f"{ONE}.zip"), pickled.replace(net, net.replace(b"0", b"1")))
    with pytest.raises(FileError, match=r"policy\.pth has 'mlp_extractor\.value_net\."):
        convert(written(tmp_path, "m.zip", data), tmp_path / "m")


def test_a_weight_of_another_shape_is_named_though_it_has_as_many_numbers(tmp_path, monkeypatch):
    read = sb3.read

    def turned(members, channels):
        found = read(members, channels)
        found.parameters["pi/fc0/w"] = np.ascontiguousarray(found.parameters["pi/fc0/w"].T)
        return found
    monkeypatch.setattr(sb3, "read", turned)
    with pytest.raises(FileError, match=r"\.0, for pi/fc0/w, has shape \(4, 6\) here; .* need \(6, 4\)"):
        convert(written(tmp_path, "m.zip", zips.golden(f"{ONE}.zip")), tmp_path / "m")


def test_statistics_of_another_space_are_refused(tmp_path):
    path = written(tmp_path, "m.zip", zips.golden("sb3_2.9.2_ppo_multidiscrete.zip"))
    statistics = written(tmp_path, "v.pkl", zips.golden(f"{ONE}.pkl"))
    with pytest.raises(FileError, match=r"v\.pkl: .*obs_rms has moments of shapes \(3, 2\).*\(4,\) is"):
        convert(path, tmp_path / "m", statistics)
    with pytest.raises(FileError, match=r"m\.zip: is no pickle"):
        convert(path, tmp_path / "m", path)


# --- what is hostile ----------------------------------------------------------------------------------------

def refused(data, folder, said="", statistics=None):
    """Require a FileError within a second and within 50 MB."""
    path = written(folder, "m.zip", data)
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match=said or ": ") as caught:
            convert(path, folder / "m", statistics)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    began = time.process_time()
    with pytest.raises(FileError):
        convert(path, folder / "m", statistics)
    assert time.process_time() - began < 1 and peak < 50e6
    assert len(str(caught.value)) < 1000 and not (folder / "m.npz").exists()


def test_a_model_that_is_cut_short_anywhere(tmp_path):
    data = zips.golden(f"{ONE}.zip")
    for end in range(1, len(data), 100):
        with pytest.raises(FileError, match=r"m\.zip: "):
            convert(written(tmp_path, "m.zip", data[:end]), tmp_path / "m")


def test_statistics_that_are_cut_short_anywhere(tmp_path):
    path, data = written(tmp_path, "m.zip", zips.golden(f"{ONE}.zip")), zips.golden(f"{ONE}.pkl")
    for end in range(0, len(data), 7):
        with pytest.raises(FileError, match=r"v\.pkl: "):
            convert(path, tmp_path / "m", written(tmp_path, "v.pkl", data[:end]))


def calls(module, name, argument):
    return b"\x80\x02c%b\n%b\nX%b%b\x85R." % (module, name, struct.pack("<L", len(argument)), argument)


SHELL = os.system.__module__.encode()
HOSTILE = {
    "os.system": (calls(SHELL, b"system", b"touch owned"), f"names '{SHELL.decode()}.system'"),
    "eval": (calls(b"builtins", b"eval", b"open('owned', 'w')"), r"names 'builtins\.eval'"),
    "stack global": (b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x01a\x85R.", r"names 'builtins\.exec'"),
    "torch's own": (b"\x80\x02ctorch.serialization\nload\n.", r"names 'torch\.serialization\.load'"),
    "inst": (b"(S'touch owned'\nios\nsystem\n.", "has the opcode STRING"),
    "obj": (b"(cos\nsystem\nX\x01\x00\x00\x00ao.", "names 'os.system'"),
    "extension": (b"\x82\x01.", "has the opcode EXT1"), "unknown": (b"\xff.", r"has the opcode b'\\xff'"),
    "nested tuples": (b")" + b"\x85" * 2**20 + b".", "more than 32768 opcodes"),
    "nested key": (b"}" + b")" + b"\x85" * 10**4 + b"Ns.", "a key of kind tuple"),
    "nested lists": (b"](" * 10000 + b"e" * 10000 + b".", ""), "nine bytes": (b"\x80\x02Nr\0\0\0\x40.", ""),
    "bytes of 1 TB": (b"\x96" + struct.pack("<Q", 2**40) + b".", "wants 1099511627776 bytes"),
    "bytes of 4 GB": (b"B" + struct.pack("<L", 2**32 - 1) + b".", "wants 4294967295 bytes"),
    "a long text": (b"X" + struct.pack("<L", 2**20) + b"a" * 2**20 + b".", "a text of 1048576 bytes"),
    "itself": (b"]q\0h\0a.", ""), "a dict in itself": (b"}q\0X\1\0\0\0ah\0s.", ""),
    "nothing": (b".", "takes something"), "empty": (b"", "wants 1 bytes where 0 are left"),
    "no mark": (b"t.", "a mark that it has not set"), "no memo": (b"h\7.", "looks for number 7"),
    "what is left": (b"NN.", "in the midst"), "what follows": (b"N.N", "in the midst"),
    "a call of None": (b"N)R.", "calls a NoneType"), "odd": (b"}(Nu.", "a key without a value"),
    "bad text": (b"X\1\0\0\0\xff.", "not UTF-8"), "a list of None": (b"NNa.", "cannot hold it"),
}


@pytest.mark.parametrize("where", ["policy_class", "observation_space", "tensors", "statistics"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_a_sentence_and_never_runs(name, where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (pickled, said), data, statistics = HOSTILE[name], zips.golden(f"{ONE}.zip"), None
    if where == "statistics":
        if not pickled.startswith(b"\x80"):
            pickled = b"\x80\x04" + pickled
        statistics = written(tmp_path, "v.pkl", pickled)
    elif where == "tensors":
        data = zips.with_tensors(data, pickled)
    else:
        data = zips.with_field(data, where, pickled)
    refused(data, tmp_path, "" if name == "empty" else said, statistics)
    assert not os.path.exists("owned")


def storage(size, shape, strides, start=0):
    """Return a pickle of one tensor over storage 0 of `size` numbers."""
    def tup(*numbers):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in numbers) + b"t"
    head = b"\x80\x02}(X\x07\0\0\0log_stdctorch._utils\n_rebuild_tensor_v2\n(("
    key = b"X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpu\x8a\x08"
    return (head + key + struct.pack("<q", size) + b"tQ\x8a\x08" + struct.pack("<q", start)
            + tup(*shape) + tup(*strides) + b"\x89ccollections\nOrderedDict\n)RtRu.")


@pytest.mark.parametrize("size, shape, strides, start", [
    (6, (10**9,), (0,), 0), (6, (7,), (1,), 0), (6, (6,), (1,), 1), (6, (2,), (2**60,), 0),
    (6, (-1,), (1,), 0), (6, (0, 10**12), (1, 1), 0), (7, (6,), (1,), 0), (6, (6,), (-1,), 5),
    (6, (6,), (1,), -1), (6, (1,) * 40, (1,) * 40, 0), (2**40, (2**40,), (1,), 0), (6, (2, 3), (3,), 0)])
def test_a_tensor_outside_of_its_numbers_is_refused(size, shape, strides, start, tmp_path):
    data = zips.golden(f"{ONE}.zip")
    refused(zips.with_tensors(data, storage(size, shape, strides, start)), tmp_path, "log_std")


def test_many_tensors_of_the_same_numbers_are_refused(tmp_path):
    numbers = b"\0" * 4 * 10**6
    one = storage(10**6, (10**6,), (1,)).removeprefix(b"\x80\x02}(").removesuffix(b"u.")
    many = b"".join(one.replace(b"log_std", b"a%06d" % i) for i in range(500))
    tensors = zips.zipped({"a/data.pkl": b"\x80\x02}(" + many + b"u.", "a/data/0": numbers})
    refused(zips.with_members(zips.golden(f"{ONE}.zip"), {"policy.pth": tensors}), tmp_path, "over and over")


def test_spaces_that_are_larger_than_the_networks_are_refused(tmp_path):
    def space(kind, state):
        return b"\x80\x02cgymnasium.spaces.%b\n)\x81}(%bub." % (kind, state)
    data, n = zips.golden(f"{ONE}.zip"), b"X\1\0\0\0n\x8a\x06" + struct.pack("<q", 10**12)[:6]
    for field in ("observation_space", "action_space"):
        discrete = space(b"discrete\nDiscrete", n)
        refused(zips.with_field(data, field, discrete), tmp_path)
        refused(zips.with_field(data, field, space(b"multi_binary\nMultiBinary", n)), tmp_path)
        refused(zips.with_field(data, field, space(b"discrete\nDiscrete", b"X\1\0\0\0nN")), tmp_path)
        refused(zips.with_field(data, field, space(b"box\nBox", n)), tmp_path)
        refused(zips.with_field(data, field, space(b"dict\nDict", b"X\6\0\0\0spaces]")), tmp_path)


def test_zips_that_are_made_to_deceive(tmp_path):
    data = zips.golden(f"{ONE}.zip")
    bomb = zips.zipped(zips.members(data) | {"data": b" " * 10**8}, zipfile.ZIP_DEFLATED)
    refused(bomb, tmp_path, "is compressed or encrypted")
    with pytest.warns(UserWarning, match="Duplicate"):
        path = written(tmp_path, "twice.zip", data)
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("data", "{}")
    refused(path.read_bytes(), tmp_path, "two members 'data'")
    refused(data + b"more", tmp_path, "cut short or added to")
    damaged = bytearray(data)
    damaged[data.index(b"policy.pth") + 2000] ^= 1
    refused(bytes(damaged), tmp_path, "'policy.pth' does not have its CRC-32")
    refused(b"PK" + data, tmp_path)
    refused(zips.zipped({f"{i}": b"" for i in range(5000)}), tmp_path, "5000 members")
    refused(zips.with_members(data, {"data": b"[" * 10**6}), tmp_path, "no model's record")
    refused(zips.with_members(data, {"data": b"[" * 10**5}), tmp_path, "is not JSON")
    refused(zips.with_members(data, {"data": b'{"a": ' + b"9" * 10**6 + b"}"}), tmp_path, "is not JSON")
    refused(zips.with_members(data, {"data": b"[]"}), tmp_path, "is a list")
    refused(zips.with_members(data, {"data": b"\xff"}), tmp_path, "is not JSON")
    tensors = zips.members(data)["policy.pth"]
    turned = zips.with_members(tensors, {"archive/byteorder": b"big"})
    refused(zips.with_members(data, {"policy.pth": turned}), tmp_path, "byteorder is b'big'")
    overlapping = bytearray(data)
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"PK\1\2"))
    overlapping[entry + 42:entry + 46] = bytes(4)  # where the first member is
    refused(bytes(overlapping), tmp_path, "is not where the directory says")


def fuzzed(rng, data):
    changed = bytearray(data)
    changed[rng.integers(len(data))] ^= rng.integers(1, 256)
    return bytes(changed)


@pytest.mark.parametrize("what", ["zip", "pickle of tensors", "record", "spaces", "statistics"])
def test_400_changed_bytes_are_the_same_model_or_a_sentence(what, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    rng, data = np.random.default_rng(0), zips.golden(f"{ONE}.zip")
    record, statistics = json.loads(zips.members(data)["data"]), None
    pickled = zips.members(zips.members(data)["policy.pth"])["archive/data.pkl"]
    for i in range(400):
        changed = data
        if what == "zip":
            changed = fuzzed(rng, data)
        elif what == "pickle of tensors":
            changed = zips.with_tensors(data, fuzzed(rng, pickled))
        elif what == "record":
            changed = zips.with_members(data, {"data": fuzzed(rng, zips.members(data)["data"])})
        elif what == "spaces":
            field = ("observation_space", "action_space", "policy_class")[i % 3]
            changed = zips.with_field(data, field, fuzzed(rng, b64decode(record[field][":serialized:"])))
        else:
            statistics = written(tmp_path, "v.pkl", fuzzed(rng, zips.golden(f"{ONE}.pkl")))
        began = time.process_time()
        try:
            convert(written(tmp_path, "m.zip", changed), tmp_path / "m", statistics)
        except FileError:
            pass
        assert time.process_time() - began < 1


def test_a_file_cannot_control_the_terminal(tmp_path):
    data, bad = zips.golden(f"{ONE}.zip"), b"\x1b[2J"
    path = written(tmp_path, "m.zip", zips.with_members(data, {"_stable_baselines3_version": bad}))
    assert "\x1b" not in "".join(convert(path, tmp_path / "m"))
    pickled = zips.members(zips.members(data)["policy.pth"])["archive/data.pkl"]
    changed = [zips.with_tensors(data, pickled.replace(b"log_std", bad + b"std")),
               zips.with_tensors(data, storage(7, (6,), (1,)).replace(b"log_std", bad + b"std")),
               zips.with_members(data, {"policy.pth": zips.zipped({"\x1b[2J": b""})}),
               zips.with_field(data, "policy_kwargs", {"\x1b[2J": 1}),
               zips.with_field(data, "policy_kwargs", {"activation_fn": "\x1b[2J"}),
               zips.with_field(data, "observation_space", b"\x80\x02c\x1b[2J\na\n."),
               zips.zipped({"\x1b[2J": b""})]
    for one in changed:
        with pytest.raises(FileError) as caught:
            convert(written(tmp_path, "m.zip", one), tmp_path / "m")
        assert "\x1b" not in str(caught.value)
