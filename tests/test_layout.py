"""Reading order is import order: the arrows, the walls around heavy packages, what no file may contain."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trpo_np"

# Rooms in reading order: a file imports only from rows above it. A wing (a folder, with a /) is one row; its
# own files are ordered by the names in `backticks` of its __init__ docstring. common/ re-exports, last.
ORDER = ["kernels/", "params", "promises", "autodiff", "types", "ops/", "nn", "distributions", "spaces",
         "normalize", "settings", "peers", "policies/", "files/", "optim", "comm", "trust_region",
         "vec_env", "vec_wrappers", "env_state", "envs", "atari", "rollout", "reuse", "snapshot", "logger",
         "evaluation", "callbacks", "pretrain", "update", "trpo", "deploy/", "presets", "app/",
         "run_mujoco", "run_atari", "cli", "common/", "bench", "gail", "results_plotter"]
ROW = {name.rstrip("/"): i for i, name in enumerate(ORDER)}
FACE_FIRST = {"ops"}  # wings whose __init__ stands above their files; elsewhere it only hands names out

WALLS = {"numba": {"kernels"}, "mpi4py": {"comm"}, "tensorboard": {"logger"}, "tqdm": {"logger"},
         "matplotlib": {"app"}, "onnx": {"deploy"},
         "gymnasium": {*ROW} - {name for name in ROW if ROW[name] < ROW["vec_env"]},
         "scipy": {"kernels", *(name for name in ROW if ROW[name] > ROW["files"])}}
WALLS["ale_py"] = WALLS["gymnasium"]
NUMPY_ALONE = {name for name in ROW if ROW[name] <= ROW["files"]}
# the core, which a newcomer reads in an hour; it names formulas, not how and when they are compiled
CORE = ["params", "autodiff", "ops/__init__", "nn", "distributions", "optim", "trust_region", "rollout",
        "policies/base", "update", "trpo"]
MAY_PRINT = {"callbacks", "run_mujoco", "run_atari", "cli", "logger", "kernels/compile", "app/jobs",
             "app/sweep"}
RANDOM = {"Generator", "default_rng", "SeedSequence", "BitGenerator", "PCG64"}
# a script's own generators are seeded on its wish; those of processes with environments are set apart
GLOBAL_SEEDS = {"common/misc_util.py", "vec_env.py"}
NEVER_TRUE = {"allow_pickle", "fastmath", "parallel"}
NAMEDTUPLES = {"_replace", "_asdict", "_fields"}  # underscored, and public
FILES = sorted(PACKAGE.rglob("*.py"))


def wing_order(wing):
    """The files of a wing, in the order in which its __init__ names them."""
    names = re.findall(r"`(\w+)`", ast.get_docstring(ast.parse((PACKAGE / wing / "__init__.py").read_text())))
    return [name for name in dict.fromkeys(names) if (PACKAGE / wing / f"{name}.py").exists()]


WINGS = {name.rstrip("/"): wing_order(name) for name in ORDER if name.endswith("/")}


def place(parts):
    """Where a module stands: (row, row within its wing); a name of a module counts as the module."""
    room, *inner = parts
    if room not in ROW:
        return None
    if room not in WINGS:
        return ROW[room], 0
    files = WINGS[room]
    if inner and inner[0] in files:
        return ROW[room], files.index(inner[0]) + 1
    return ROW[room], 0 if room in FACE_FIRST else len(files) + 1


def imports(tree, inside=()):
    """Yield (line, dotted name) of each import, also in functions; names of this package start with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = list(inside)[:len(inside) - (node.level - 1)]
            for alias in node.names:  # `from . import nn` and `from .nn import dense` both name nn
                module = [node.module] if node.module else []
                yield node.lineno, "." + ".".join([*above, *module, alias.name])
        elif isinstance(node, ast.ImportFrom):
            dotted = node.module.startswith("trpo_np")
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}" if dotted else node.module


def for_types_only(tree):
    """The lines of blocks `if TYPE_CHECKING:`, which never run."""
    blocks = [node for node in ast.walk(tree)
              if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {line for node in blocks for line in range(node.lineno, node.end_lineno + 1)}


def import_complaints(path, tree, inside, name):
    room = inside[0] if inside else name
    own = (len(ORDER), 0) if name == "__main__" else place([*inside, name] if inside else [name])
    skipped = for_types_only(tree)
    for line, module in imports(tree, inside):
        if line in skipped:
            continue
        if module.split(".")[0] == "trpo_np":
            module = module.removeprefix("trpo_np") or "."
        if module.startswith("."):
            parts = module.split(".")[1:]
            if parts[0] == "__version__":  # the one thing that `import trpo_np` holds
                continue
            target = place(parts)
            if room == "__init__":
                yield f"{path}:{line} imports {module}; `import trpo_np` loads nothing"
            elif target is None:
                yield f"{path}:{line} imports {module}, which is not in ORDER"
            elif own is not None and target >= own and not (inside == ["common"] and parts[0] == "common"):
                yield f"{path}:{line} imports {'.'.join(parts)}, which stands at or below its own row"
            if parts[-1].startswith("_"):
                yield f"{path}:{line} imports {parts[-1]}, an underscored name of another file"
            if "/".join([*inside, name]) in CORE and parts[0] == "kernels" and parts[1:2] != ["scalar"]:
                yield (f"{path}:{line} imports {'.'.join(parts)}; the core knows formulas, "
                       "not what is compiled")
            continue
        top = module.split(".")[0]
        if top in WALLS and room not in WALLS[top] | {"__main__"}:
            yield f"{path}:{line} imports {top}, which only {', '.join(sorted(WALLS[top]))} may"
        compilers = {"numba", "scipy"} if room == "kernels" else set()
        allowed = {"numpy"} | compilers | sys.stdlib_module_names
        if (room in NUMPY_ALONE or room == "__init__") and top not in allowed:
            yield f"{path}:{line} imports {top}; prediction needs NumPy alone"
        if module in ("random", "numpy.random") and path not in GLOBAL_SEEDS:
            yield f"{path}:{line} imports {module}; randomness is an argument, a np.random.Generator"


def own_underscored(tree):
    """Underscored names that a file defines itself, as functions, classes, or attributes that it assigns."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__slots__" for t in node.targets):
            yield from ast.literal_eval(node.value)


def node_complaints(path, tree, here):
    own = set(own_underscored(tree)) | NAMEDTUPLES
    for node in ast.walk(tree):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "print" and here not in MAY_PRINT:
                yield f"{where} prints; that is for the entry points and the logger"
            if node.func.id in ("eval", "exec"):
                yield f"{where} calls {node.func.id}"
        value = getattr(getattr(node, "value", None), "value", None)
        if isinstance(node, ast.keyword) and node.arg in NEVER_TRUE and value is True:
            yield f"{where} says {node.arg}=True"
        is_attribute = isinstance(node, ast.Attribute)
        if (is_attribute and ast.unparse(node.value) in ("np.random", "numpy.random")
                and node.attr not in RANDOM and path not in GLOBAL_SEEDS):
            yield f"{where} uses np.random.{node.attr}, the global generator"
        if is_attribute and re.match("_[^_]", node.attr) and node.attr not in own:
            yield f"{where} reaches for {ast.unparse(node)}, an underscored name of another file"
        if isinstance(node, ast.FunctionDef) and (lines := node.end_lineno - node.lineno + 1) > 60:
            yield f"{where} {node.name} has {lines} lines; a function fits a screen of 60"


def complaints(path, source):
    """List what a file of the package, at `path` within it, does that it may not do."""
    *inside, name = Path(path).with_suffix("").parts
    tree, found = ast.parse(source), []
    known = name in {*ROW, "__init__", "__main__"} if not inside else (
        len(inside) == 1 and inside[0] in WINGS and name in {*WINGS[inside[0]], "__init__"})
    if not known:
        found.append(f"{path} is not in the table of tests/test_layout.py (of a wing: in the docstring of "
                     "its __init__); add it where it belongs in reading order")
    found += import_complaints(path, tree, inside, name)
    found += node_complaints(path, tree, "/".join([*inside, name]))
    found += [f"{path}:{i} has {len(line)} columns; 110 are the limit"
              for i, line in enumerate(source.splitlines(), 1) if len(line) > 110]
    if name in ("utils", "util", "helpers", "misc") and inside != ["common"]:  # whose names are others''
        found.append(f"{path}: give a file the name of what it holds")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_file(path):
    found = complaints(str(path.relative_to(PACKAGE)), path.read_text())
    assert not found, "\n".join(found)


def test_the_tables_agree():
    assert len(set(ORDER)) == len(ORDER) and FILES
    assert set().union(*WALLS.values()) <= set(ROW)
    assert all((PACKAGE / f"{path}.py").exists() for path in [*MAY_PRINT, *CORE])


def test_tests_mirror_the_package():
    """Every folder of tests is a wing, and a test file in a wing is named after a file of the wing."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        *inside, name = path.relative_to(ROOT / "tests").with_suffix("").parts
        name = name.removeprefix("test_").partition("__")[0]
        if inside:
            assert len(inside) == 1 and name in {*WINGS[inside[0]], inside[0]}, path


# --- the checker must fail on what is wrong -----------------------------------------------------------------

@pytest.mark.parametrize("path, source, message", [
    ("params.py", "from .autodiff import Var", "params.py:1 imports autodiff.Var, which stands at or below"),
    ("params.py", "from .kernels import blas\nfrom . import ops",
     "params.py:2 imports ops, which stands at or below"),
    ("ops/__init__.py", "def f():\n    if True:\n        from .. import nn",
     "ops/__init__.py:3 imports nn, which stands"),
    ("ops/mlp.py", "from .conv import conv2d",
     "imports ops.conv.conv2d, which stands at or below its own row"),
    ("ops/__init__.py", "from .mlp import tanh_layers",
     "imports ops.mlp.tanh_layers, which stands at or below"),
    ("ops/conv.py", "from .conv import windows",
     "imports ops.conv.windows, which stands at or below its own row"),
    ("kernels/compile.py", "from . import mlp", "imports kernels.mlp, which stands at or below"),
    ("kernels/blas.py", "from . import small", "imports kernels.small, which stands at or below"),
    ("policies/base.py", "from . import construct", "imports policies.construct, which stands at or below"),
    ("nn.py", "import trpo_np.trpo", "imports trpo, which stands"),
    ("nn.py", "from trpo_np.trpo import TRPO", "imports trpo.TRPO, which stands"),
    ("nn.py", "from .common.policies import x", "imports common.policies.x, which stands at or below"),
    ("trpo.py", "from .nowhere import x", "imports .nowhere.x, which is not in ORDER"),
    ("trpo.py", "from .comm import _machine", "imports _machine, an underscored name"),
    ("optim.py", "from .kernels import compile", "the core knows formulas"),
    ("optim.py", "from .kernels.compile import twin", "the core knows formulas"),
    ("trpo.py", "kernels._rows(1)", "reaches for kernels._rows"),
    ("trpo.py", "def f(policy):\n    return policy._fast", "reaches for policy._fast"),
    ("new.py", "", "add it where it belongs"), ("deep/nn.py", "", "add it where it belongs"),
    ("kernels/new.py", "", "add it where it belongs"), ("common/deep/a.py", "", "add it where it belongs"),
    ("common/policies.py", "from ..nowhere import x", "imports .nowhere.x"),
    ("__init__.py", "from .trpo import TRPO", "`import trpo_np` loads nothing"),
    ("__init__.py", "import gymnasium", "imports gymnasium"),
    ("nn.py", "def f():\n    import numba", "nn.py:2 imports numba, which only kernels may"),
    ("trpo.py", "from numba import njit", "imports numba"),
    ("trpo.py", "import mpi4py.MPI", "imports mpi4py, which only comm may"),
    ("rollout.py", "import tqdm", "imports tqdm"),
    ("trpo.py", "from matplotlib import pyplot", "imports matplotlib"),
    ("spaces.py", "import gymnasium as gym", "imports gymnasium"),
    ("comm.py", "import gymnasium", "imports gymnasium"),
    ("files/model.py", "from scipy.linalg import qr", "prediction needs NumPy alone"),
    ("ops/conv.py", "def f():\n    import scipy",
     "ops/conv.py:2 imports scipy; prediction needs NumPy alone"),
    ("policies/base.py", "import torch", "prediction needs NumPy alone"),
    ("rollout.py", "print('x')", "rollout.py:1 prints"),
    ("trpo.py", "eval('1')", "calls eval"), ("trpo.py", "exec('1')", "calls exec"),
    ("files/archive.py", "np.load(path, allow_pickle=True)", "allow_pickle=True"),
    ("kernels/compile.py", "njit(fastmath=True)", "fastmath=True"),
    ("kernels/mlp.py", "options = dict(parallel=True)", "parallel=True"),
    ("trpo.py", "np.random.seed(0)", "uses np.random.seed"),
    ("trpo.py", "x = numpy.random.normal", "uses np.random.normal"),
    ("trpo.py", "from numpy.random import rand", "randomness is an argument"),
    ("trpo.py", "import random", "randomness is an argument"),
    ("trpo.py", "def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
    ("trpo.py", "x" * 111, "has 111 columns"),
    ("utils.py", "", "give a file the name"),
])
def test_the_checker_sees(path, source, message):
    assert any(message in complaint for complaint in complaints(path, source)), complaints(path, source)


@pytest.mark.parametrize("path, source", [
    ("kernels/compile.py", "def f():\n    import numba\nprint('compiling')"),
    ("comm.py", "from mpi4py import MPI"),
    ("kernels/mlp.py", "from . import blas, scalar\nfrom .compile import twin"),
    ("ops/conv.py", "from ..kernels import blas\nfrom . import exp\nfrom .mlp import x"),
    ("trpo.py", "from . import ops, callbacks\nfrom .rollout import Runner\nimport scipy.linalg"),
    ("optim.py", "from .kernels import scalar\nfrom .kernels.scalar import adam"),
    ("envs.py", "import gymnasium\nfrom .vec_env import x"),
    ("common/policies.py", "from ..policies import *"),
    ("common/__init__.py", "from ..envs import make_vec_env\nfrom . import policies"),
    ("policies/__init__.py",
     "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..trpo import TRPO"),
    ("__init__.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .trpo import TRPO"),
    ("policies/recurrent.py", "from .. import nn\nfrom .base import Policy"),
    ("cli.py", "from . import __version__, run_atari\nfrom .app import jobs"),
    ("__main__.py", "from .cli import main"), ("__init__.py", "from importlib import import_module"),
    ("nn.py",
     "rng = np.random.default_rng(0)\nx: np.random.Generator\n# np.random.seed, fastmath=True\n"
     "log = 'print(1)'"),
    ("files/archive.py", "np.load(path, allow_pickle=False)"),
    ("trpo.py",
     "class A:\n    def __init__(self, b):\n        self._x = b._replace(a=1)\n        self._x, b._x"),
    ("trpo.py", "def f():\n" + "    x = 1\n" * 59 + "y = 2\n" * 400),
])
def test_the_checker_allows(path, source):
    assert complaints(path, source) == []


# --- what an import loads -----------------------------------------------------------------------------------

HEAVY = {"numba", "scipy", "gymnasium", "mpi4py", "torch", "matplotlib", "tensorboard", "tqdm"}


def loaded_by(code):
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


def test_import_trpo_np_loads_nothing_not_even_numpy():
    loaded = loaded_by("import trpo_np; trpo_np.__version__; dir(trpo_np)")
    assert "trpo_np" in loaded and not loaded & (HEAVY | {"numpy"})


def test_loading_a_policy_needs_numpy_alone():
    loaded = loaded_by("from trpo_np import load_policy; import trpo_np.files.model")
    assert "numpy" in loaded and not loaded & HEAVY
    of_numpy = loaded_by("import numpy, numpy.random, numpy.linalg")  # and of this environment's site
    assert loaded - sys.stdlib_module_names - of_numpy == {"trpo_np"}


@pytest.mark.parametrize("name, needed, not_needed", [

    ("MlpPolicy", "policies.base", {"policies.recurrent", "policies.images", "ops.conv", "ops.lstm",
     "kernels.image"}),
    ("MlpLstmPolicy", "policies.recurrent", {"policies.images", "ops.conv", "kernels.image"}),
    ("CnnPolicy", "policies.images", set())])
def test_a_policy_loads_no_other(name, needed, not_needed):
    command = [sys.executable, "-c", f"import sys\nfrom trpo_np.policies import {name}\nprint(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    assert f"trpo_np.{needed}" in loaded and not {f"trpo_np.{other}" for other in not_needed} & set(loaded)


def test_training_loads_neither_numba_nor_mpi4py_at_import():
    loaded = loaded_by("from trpo_np import TRPO")
    assert "gymnasium" in loaded and not loaded & (HEAVY - {"gymnasium", "scipy"})
