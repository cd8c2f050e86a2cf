"""When and where kernels are compiled: by `compile_all` alone, into a cache where one can be written.

What concerns a process, or the cache on the disk, is tested in processes of their own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_checks import NUMBA

from trpo_np.kernels import act, compile, image, scalar
from trpo_np.policies import MlpLstmPolicy, MlpPolicy
from trpo_np.policies.frames import Frames
from trpo_np.spaces import Box, Discrete

needs_numba = pytest.mark.skipif(not NUMBA, reason="numba is not installed")


# --- what a call runs ---------------------------------------------------------------------------------------

@pytest.fixture
def doubled(monkeypatch):
    """A kernel on float32 rows and a number, whose bodies say who they are."""
    monkeypatch.setattr(compile, "KERNELS", [])
    decorate = compile.twin(lambda x, n: "loop", lambda: (np.zeros((1, 1), np.float32), np.float32(2)))
    return decorate(lambda x, n: "plain")


def test_the_suite_runs_compiled_kernels_or_none():
    assert compile.KERNELS
    assert all(kernel.is_compiled == compile.available() for kernel in compile.KERNELS)


def test_each_file_with_kernels_has_tests():
    """Which say that they know all kernels of their file."""
    for name in {kernel.loop.__module__.rpartition(".")[2] for kernel in compile.KERNELS}:
        text = (Path(__file__).parent / f"test_{name}.py").read_text()
        assert f"kernels_of({name})" in text, name


def test_a_call_runs_what_is_compiled_or_the_twin(doubled):
    x = np.ones((2, 3), np.float32)
    assert doubled(x, 2) == doubled.now(x, 2) == "plain" and not doubled.is_compiled
    doubled.compiled = lambda x, n: "compiled"
    assert doubled(x, 2) == doubled.now(x, 2) == "compiled" and doubled.is_compiled


def test_arrays_of_another_type_go_to_the_twin(doubled):
    """So do those of another byte order; the type of a number is no obstacle."""
    doubled.compiled = lambda x, n: "compiled"
    for dtype in (np.float64, np.int32, ">f4", np.complex64):
        assert doubled(np.ones((2, 3), dtype), 2) == "plain"
    for args in (np.ones((2, 3), "=f4"), 2.0), (np.ones(2, np.float32), np.float64(2)):
        assert doubled(*args) == "compiled"


def test_a_number_for_which_a_loop_is_compiled_may_come_as_an_integer(monkeypatch):
    """Compiled once more, in the middle of training, the loop would take as long as at first."""
    monkeypatch.setattr(compile, "KERNELS", [])
    kernel = compile.twin(lambda *_: "loop", lambda: (0, np.zeros((1, 1)), 0.5))(lambda *_: "plain")
    kernel.compiled = lambda *args: [type(arg) for arg in args]
    assert kernel(1, np.ones((2, 2)), 1) == kernel(1, np.ones((2, 2)), np.float64(1)) == [
        int, np.ndarray, float]


@needs_numba
def test_training_compiles_nothing_once_more(rng):
    """Neither for whole numbers nor for every other stack of frames."""
    if not scalar.discounted_sum.is_compiled:
        pytest.skip("nothing is compiled")
    known = {kernel: len(kernel.compiled.signatures) for kernel in (scalar.discounted_sum, image.interleave)}
    scalar.discounted_sum(np.ones((3, 2)), np.zeros((3, 2)), 1)
    frames = Frames(rng.integers(0, 256, (6, 4, 4), dtype=np.uint8), rng.integers(0, 6, (10, 2)))
    np.testing.assert_array_equal(np.asarray(frames[::2]), np.asarray(frames)[::2])
    assert {kernel: len(kernel.compiled.signatures) for kernel in known} == known


def test_a_kernel_without_a_twin_is_its_loop_until_it_is_compiled(monkeypatch):
    monkeypatch.setattr(compile, "KERNELS", [])

    @compile.kernel(lambda: (np.zeros(1, np.float32),))
    def total(x):
        """Add up."""
        return sum(x)
    assert total(np.ones(3, np.float32)) == 3 and not total.has_twin
    assert (total.__name__, total.__doc__) == ("total", "Add up.") and compile.KERNELS == [total]
    total.compiled = lambda x: "compiled"
    assert total(np.ones(3, np.float32)) == "compiled" and total(np.ones(3)) == 3


@needs_numba
def test_a_loop_is_compiled_for_each_of_its_examples():
    compiled = compile.compiled_loop(act.draw)
    assert {str(types[1].dtype) for types in compiled.signatures} == {"float32", "float64"}


def test_only_what_a_policy_needs_is_compiled(monkeypatch):
    found: list = []
    monkeypatch.setattr(compile, "available", lambda: True)
    monkeypatch.setattr(compile, "load_blas", lambda: None)
    monkeypatch.setattr(compile, "compiled_loop",
                        lambda kernel, announce: found.append(kernel.loop) or kernel.plain)
    for kernel in compile.KERNELS:
        monkeypatch.setattr(kernel, "compiled", None)
    space = Box((2,), "float32", np.zeros(2), np.ones(2))
    for policy, files in (MlpPolicy, {"scalar", "mlp", "act"}), (MlpLstmPolicy, {"lstm"}):
        assert compile.compile_all(policy(space, Discrete(2)).kernel_files)
        assert {loop.__module__.rpartition(".")[2] for loop in found} == files
        found.clear()
    assert compile.compile_all() and {loop.__module__.rpartition(".")[2] for loop in found} == {"image"}


# --- when they are compiled ---------------------------------------------------------------------------------

def python(code, **environment):
    """Run code in a process of its own, where nothing says whether to compile; return its lines and
    stderr."""
    env = {**{key: value for key, value in os.environ.items() if key != "TRPO_NP_NUMBA"}, **environment}
    env["PYTHONDONTWRITEBYTECODE"] = "1"  # a source that is written twice in a second may seem to be the same
    command = [sys.executable, "-c", f"import sys\nimport numpy as np\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


PACKAGE = "from trpo_np.kernels import compile, mlp, scalar\n"
CALL = "scalar.discounted_sum(np.ones((2, 1)), np.zeros((2, 1)), 0.5)"
STATE = "\nprint(any(kernel.is_compiled for kernel in compile.KERNELS), 'numba' in sys.modules)"


def test_nothing_is_compiled_at_import_nor_by_a_call():
    code = f"import trpo_np.trpo\n{PACKAGE}{CALL}{STATE}"
    assert python(code)[0] == ["False False"]


def test_switched_off():
    code = (f"{PACKAGE}assert not compile.available() and not compile.compile_all()\n"
            f"print({CALL}){STATE}")
    assert python(code, TRPO_NP_NUMBA="0")[0] == ["[[1.5]", " [1. ]]", "False False"]


@pytest.mark.parametrize("missing", ["numba", "scipy"])
def test_without_numba_or_scipy(missing):
    code = (f"sys.modules[{missing!r}] = None\n{PACKAGE}"
            "assert not compile.available() and not compile.compile_all() and not compile.compile_all()")
    said, warned = python(code + STATE)
    assert said[0].startswith("False") and warned.count("takes about three times as long") == 1


# --- scipy's products ---------------------------------------------------------------------------------------

PRODUCT = PACKAGE + """
compile.KERNELS[:] = [mlp.values]

def product():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    print(*mlp.values(np.arange(8, dtype=np.float32), np.array([3, 2]), x, 0), "scipy.linalg" in sys.modules)
"""


@needs_numba
def test_of_scipy_products_load_blas_alone_and_all_of_it_may_follow():
    code = PRODUCT + """
assert compile.compile_all() and mlp.values.is_compiled
product()
import scipy.linalg.cython_blas as blas
from scipy.linalg import cython_blas, solve
import scipy.optimize, scipy.sparse.linalg, scipy.stats
assert blas is cython_blas is sys.modules["scipy.linalg.cython_blas"] and "sgemm" in blas.__pyx_capi__
assert solve(2 * np.eye(3), np.ones(3)).tolist() == [0.5] * 3
product()
"""
    assert python(code)[0] == ["16.0 20.0 34.0 47.0 False", "16.0 20.0 34.0 47.0 True"]


@needs_numba
@pytest.mark.parametrize("broken", ["find_spec = lambda *args: None", "find_spec = lambda *args: BROKEN"])
def test_where_blas_is_not_found_alone_numba_looks_for_it(broken):
    code = PRODUCT + f"""
from importlib.machinery import ModuleSpec, PathFinder
class Loader:
    create_module = staticmethod(lambda spec: None)
    def exec_module(self, module): raise ImportError("not alone")
BROKEN, found = ModuleSpec("scipy.linalg.cython_blas", Loader()), PathFinder.find_spec
import scipy
PathFinder.{broken}
compile.load_blas()
PathFinder.find_spec = found
compile.load_blas = lambda: None
assert compile.compile_all()
product()
"""
    assert python(code)[0] == ["16.0 20.0 34.0 47.0 True"]


# --- the cache, of a small wing -----------------------------------------------------------------------------

LOOPS = """
from . import helpers
from .compile import twin

def loop(x):
    return helpers.shifted(x)

@twin(loop, lambda: (1.0,))
def shift(x):
    return x + 1
"""
HELPERS = """
from .compile import helper

@helper
def shifted(x):
    return x + {shift}
"""
# say what the kernel gives, how often it came from the cache, and the cache's folder
COMPILE = """
from wing import compile, loops
assert compile.compile_all() and loops.shift.is_compiled
compiled = loops.shift.compiled
assert compile.compile_all() and loops.shift.compiled is compiled
print(compiled(1.0))
print(len(compiled.stats.cache_hits))
print(compiled.stats.cache_path)
"""


@pytest.fixture
def wing(tmp_path):
    """A wing with one kernel and a helper; `run(**environment)` compiles it and returns what it says."""
    return Wing(tmp_path / "package")


class Wing:
    def __init__(self, folder):
        self.folder = folder / "wing"
        self.folder.mkdir(parents=True)
        shutil.copy(compile.__file__, self.folder / "compile.py")
        for name, text in {"__init__": "", "loops": LOOPS, "helpers": HELPERS.format(shift=1)}.items():
            (self.folder / f"{name}.py").write_text(text)

    def run(self, before="", after="", **environment):
        code = f"sys.path.insert(0, {str(self.folder.parent)!r})\n{before}\n{COMPILE}\n{after}"
        return python(code, **{"NUMBA_CACHE_DIR": "", **environment})


@needs_numba
def test_no_folder_for_the_cache_is_writable(wing, tmp_path):
    """Neither the one that is named, nor beside the source, nor at home: below a file not even root may
    write."""
    (wing.folder / "__pycache__").write_text("")
    below = str(wing.folder / "__pycache__" / "folder")
    lines, errors = wing.run(NUMBA_CACHE_DIR=below, HOME=below, XDG_CACHE_HOME=below)
    assert lines == ["2.0", "0", "None"]
    assert all(line.startswith("trpo_np: compiling kernels, in this process alone, as their cache cannot")
               for line in errors.splitlines())


@needs_numba
def test_a_cache_is_written_and_used(wing, tmp_path):
    runs = [wing.run(NUMBA_CACHE_DIR=str(tmp_path / "cache"))[0] for _ in range(2)]
    assert [lines[:2] for lines in runs] == [["2.0", "0"], ["2.0", "1"]]
    assert list((tmp_path / "cache").rglob("*.nbi")) and not list(wing.folder.rglob("*.nbi"))


@needs_numba
def test_the_word_on_compiling_comes_where_it_compiles(wing, tmp_path):
    """Not from ranks and processes that load what another one has compiled, however long that takes."""
    patch = """
import threading
class Now:  # a Timer that does not wait
    ident = None
    def __init__(self, seconds, function, kwargs):
        self.call = lambda: function(*self.args, **kwargs)
    def start(self):
        self.ident = 1
        self.call()
    def cancel(self): ...
threading.Timer = Now
"""
    def said():
        return wing.run(patch, NUMBA_CACHE_DIR=str(tmp_path / "cache"))[1].partition(", ")[2]

    once = "once on this machine ...\n"
    assert [said(), said(), said()] == [once, "", ""]
    (wing.folder / "helpers.py").write_text(HELPERS.format(shift=2))
    assert [said(), said()] == [once, ""]
    for path in (tmp_path / "cache").rglob("*.nb[ic]"):
        path.write_bytes(path.read_bytes()[:50])
    assert said() == "in this process alone, as their cache cannot be used ...\n"


@needs_numba
def test_without_a_named_folder_the_cache_is_beside_the_source_or_at_home(wing, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    beside = wing.folder / "__pycache__"
    assert wing.run(XDG_CACHE_HOME=str(home))[0][2].startswith(str(beside / "trpo_np_"))
    shutil.rmtree(beside)
    beside.write_text("")
    assert wing.run(XDG_CACHE_HOME=str(home))[0][2].startswith(str(home / "trpo_np_"))
    assert wing.run(XDG_CACHE_HOME="", HOME=str(home))[0][2].startswith(str(home / ".cache" / "trpo_np_"))


@needs_numba
def test_numbas_settings_are_left_as_they_were(wing, tmp_path):
    for users in ("", str(tmp_path / "cache")):
        lines, _ = wing.run("import numba", "print(numba.config.CACHE_DIR)", NUMBA_CACHE_DIR=users)
        assert lines[3] == users


@needs_numba
def test_a_helper_that_changed_in_another_file_is_seen(wing, tmp_path):
    """Numba's own check, of the loop's file alone, would go on with the old helper."""
    found = []
    for shift in (1, 1, 2):
        (wing.folder / "helpers.py").write_text(HELPERS.format(shift=shift))
        found.append(wing.run(NUMBA_CACHE_DIR=str(tmp_path / "cache"))[0][:2])
    assert found == [["2.0", "0"], ["2.0", "1"], ["3.0", "0"]]


@needs_numba
def test_a_damaged_cache_is_no_obstacle(wing, tmp_path):
    for _ in range(2):
        assert wing.run(NUMBA_CACHE_DIR=str(tmp_path / "cache"))[0][0] == "2.0"
        files = [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".nbi", ".nbc")]
        assert files
        for path in files:
            path.write_bytes(path.read_bytes()[:50])
