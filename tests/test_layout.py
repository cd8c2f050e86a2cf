"""Reading order is import order: the arrows, the walls around heavy packages, and what no file may contain."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trpo_np"

# a file imports only from rows above it; common/ re-exports, last of all
ORDER = ["memory", "kernels", "acting", "dense", "pixels", "params", "autodiff", "ops", "recurrence", "lstm", "conv",
         "nn", "distributions", "spaces", "frames", "cnn", "normalize", "policy", "recurrent", "visual", "policies",
         "archive", "checkpoint", "optim", "settings", "comm", "trust_region", "vec_env", "envs", "atari", "rollout",
         "logger", "evaluation", "callbacks", "pretrain", "resume", "model", "trpo", "presets", "signals", "jobs",
         "run_mujoco", "run_atari", "plots", "cli"]
ROW = {name: i for i, name in enumerate(ORDER)}

WALLS = {"numba": {"kernels"}, "mpi4py": {"comm"}, "tensorboard": {"logger"}, "tqdm": {"logger"}, "matplotlib": {"plots"},
         "gymnasium": set(ORDER[ROW["vec_env"]:]), "ale_py": set(ORDER[ROW["vec_env"]:]),
         "scipy": {"kernels", *ORDER[ROW["checkpoint"] + 1:]}}
NUMPY_ALONE = ORDER[:ROW["checkpoint"] + 1]
MAY_PRINT = {"callbacks", "run_mujoco", "run_atari", "jobs", "cli", "logger", "kernels"}
RANDOM = {"Generator", "default_rng", "SeedSequence", "BitGenerator", "PCG64"}
NEVER_TRUE = {"allow_pickle", "fastmath", "parallel"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(tree, inside=()):
    """Yield (line, dotted name) of each import, also inside functions; names of this package start with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = list(inside)[:len(inside) - (node.level - 1)]
            for alias in node.names:  # `from . import nn` and `from .nn import dense` both name nn
                yield node.lineno, "." + ".".join([*above, *([node.module] if node.module else [alias.name])])
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module


def complaints(path, source):
    """List what a file of the package, at `path` within it, does that it may not do."""
    *inside, name = Path(path).with_suffix("").parts
    tree, found = ast.parse(source), []
    if inside not in ([], ["common"]) or (not inside and name not in {*ROW, "__init__", "__main__"}):
        found.append(f"{path} is not in the table of tests/test_layout.py; add it to ORDER, where it belongs in reading order")
    row = len(ORDER) if inside or name == "__main__" else ROW.get(name, -1)
    for line, module in imports(tree, inside):
        if module.split(".")[0] == "trpo_np":
            module = module.removeprefix("trpo_np") or "."
        if module.startswith("."):
            target = module.split(".")[1]
            if target == "__version__":  # the one thing that `import trpo_np` holds
                continue
            if name == "__init__" and not inside:
                found.append(f"{path}:{line} imports {module}; `import trpo_np` loads nothing")
            elif target not in ROW and not (inside and target == "common"):
                found.append(f"{path}:{line} imports {module}, which is not in ORDER")
            elif ROW.get(target, row - 1) >= row:
                found.append(f"{path}:{line} imports {target}, which stands at or below its own row")
            continue
        top = module.split(".")[0]
        if top in WALLS and name not in WALLS[top] | {"__main__"}:
            found.append(f"{path}:{line} imports {top}, which only {', '.join(sorted(WALLS[top]))} may")
        compilers = {"numba", "scipy"} if name == "kernels" else set()
        if (name in NUMPY_ALONE or name == "__init__") and top not in {"numpy"} | compilers | sys.stdlib_module_names:
            found.append(f"{path}:{line} imports {top}; prediction needs NumPy alone")
        if module in ("random", "numpy.random"):
            found.append(f"{path}:{line} imports {module}; randomness is an argument, a np.random.Generator")
    for node in ast.walk(tree):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "print" and name not in MAY_PRINT:
                found.append(f"{where} prints; that is for the entry points and the logger")
            if node.func.id in ("eval", "exec"):
                found.append(f"{where} calls {node.func.id}")
        if isinstance(node, ast.keyword) and node.arg in NEVER_TRUE and getattr(node.value, "value", None) is True:
            found.append(f"{where} says {node.arg}=True")
        if (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "random"
                and ast.unparse(node.value) in ("np.random", "numpy.random") and node.attr not in RANDOM):
            found.append(f"{where} uses np.random.{node.attr}, the global generator")
    if len(source.splitlines()) > 400:
        found.append(f"{path} has {len(source.splitlines())} lines; 400 are the limit")
    if name in ("utils", "util", "helpers", "misc"):
        found.append(f"{path}: give a file the name of what it holds")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_file(path):
    found = complaints(str(path.relative_to(PACKAGE)), path.read_text())
    assert not found, "\n".join(found)


def test_the_tables_agree():
    assert len(set(ORDER)) == len(ORDER) and FILES
    assert set().union(*WALLS.values()) | MAY_PRINT <= set(ORDER)


# --- the checker must fail on what is wrong ---------------------------------------------------------------------------

@pytest.mark.parametrize("path, source, message", [
    ("params.py", "from .autodiff import Var", "params.py:1 imports autodiff, which stands at or below"),
    ("params.py", "from . import kernels, ops", "imports ops, which stands at or below"),
    ("ops.py", "def f():\n    if True:\n        from . import nn", "ops.py:3 imports nn, which stands"),
    ("ops.py", "from .ops import exp", "imports ops, which stands at or below its own row"),
    ("ops.py", "import trpo_np.trpo", "imports trpo, which stands"),
    ("ops.py", "from trpo_np.trpo import TRPO", "imports trpo, which stands"),
    ("ops.py", "from .common.policies import x", "imports .common.policies, which is not in ORDER"),
    ("trpo.py", "from .nowhere import x", "imports .nowhere, which is not in ORDER"),
    ("new.py", "", "add it to ORDER"), ("deep/ops.py", "", "add it to ORDER"), ("common/deep/a.py", "", "add it to ORDER"),
    ("common/policies.py", "from ..nowhere import x", "imports .nowhere"),
    ("__init__.py", "from .trpo import TRPO", "`import trpo_np` loads nothing"),
    ("__init__.py", "import gymnasium", "imports gymnasium"),
    ("ops.py", "def f():\n    import numba", "ops.py:2 imports numba, which only kernels may"),
    ("trpo.py", "from numba import njit", "imports numba"),
    ("trpo.py", "import mpi4py.MPI", "imports mpi4py, which only comm may"), ("rollout.py", "import tqdm", "imports tqdm"),
    ("trpo.py", "from matplotlib import pyplot", "imports matplotlib, which only plots may"),
    ("spaces.py", "import gymnasium as gym", "imports gymnasium"), ("comm.py", "import gymnasium", "imports gymnasium"),
    ("checkpoint.py", "from scipy.linalg import qr", "prediction needs NumPy alone"),
    ("ops.py", "def f():\n    import scipy", "ops.py:2 imports scipy; prediction needs NumPy alone"),
    ("policies.py", "import torch", "prediction needs NumPy alone"), ("rollout.py", "print('x')", "rollout.py:1 prints"),
    ("trpo.py", "eval('1')", "calls eval"), ("trpo.py", "exec('1')", "calls exec"),
    ("archive.py", "np.load(path, allow_pickle=True)", "allow_pickle=True"),
    ("kernels.py", "njit(fastmath=True)", "fastmath=True"),
    ("kernels.py", "options = dict(parallel=True)", "parallel=True"),
    ("trpo.py", "np.random.seed(0)", "uses np.random.seed"), ("trpo.py", "x = numpy.random.normal", "uses np.random.normal"),
    ("trpo.py", "from numpy.random import rand", "randomness is an argument"),
    ("trpo.py", "import random", "randomness is an argument"),
    ("trpo.py", "x = 1\n" * 401, "401 lines"), ("utils.py", "", "give a file the name"),
])
def test_the_checker_sees(path, source, message):
    assert any(message in complaint for complaint in complaints(path, source)), complaints(path, source)


@pytest.mark.parametrize("path, source", [
    ("kernels.py", "def f():\n    import numba\nprint('compiling')"), ("comm.py", "from mpi4py import MPI"),
    ("trpo.py", "from . import kernels, ops\nfrom .rollout import Runner\nimport scipy.linalg"),
    ("envs.py", "import gymnasium\nfrom .vec_env import x"), ("common/policies.py", "from ..policies import *"),
    ("common/__init__.py", "from ..envs import make_vec_env\nfrom . import policies"), ("common/a.py", "from .policies import x"),
    ("cli.py", "from . import __version__, jobs"),
    ("__main__.py", "from .cli import main"), ("__init__.py", "from importlib import import_module"),
    ("ops.py", "rng = np.random.default_rng(0)\nx: np.random.Generator\n# np.random.seed, fastmath=True\nlog = '''print(1)'''"),
    ("archive.py", "np.load(path, allow_pickle=False)"), ("trpo.py", "x = 1\n" * 400),
])
def test_the_checker_allows(path, source):
    assert complaints(path, source) == []


# --- what an import loads ---------------------------------------------------------------------------------------------

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
    loaded = loaded_by("from trpo_np import load_policy; import trpo_np.checkpoint")
    assert "numpy" in loaded and not loaded & HEAVY
    of_numpy = loaded_by("import numpy, numpy.random, numpy.linalg")  # and of this environment's site
    assert loaded - sys.stdlib_module_names - of_numpy == {"trpo_np"}


@pytest.mark.parametrize("name, needed, not_needed", [
    ("MlpPolicy", "policy", {"recurrent", "visual", "conv", "lstm"}), ("MlpLstmPolicy", "recurrent", {"visual", "conv"}),
    ("CnnPolicy", "visual", set())])
def test_a_policy_loads_no_other(name, needed, not_needed):
    command = [sys.executable, "-c", f"import sys\nfrom trpo_np.policies import {name}\nprint(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    assert f"trpo_np.{needed}" in loaded and not {f"trpo_np.{other}" for other in not_needed} & set(loaded)


def test_training_loads_neither_numba_nor_mpi4py_at_import():
    loaded = loaded_by("from trpo_np import TRPO")
    assert "gymnasium" in loaded and not loaded & (HEAVY - {"gymnasium", "scipy"})
