"""One suite, two modes: compiled kernels where numba is installed, plain NumPy with TRPO_NP_NUMBA=0.

The first mode runs all tests. The second runs those marked `both_modes`: the others see no difference; `-m`
overrides that. The tests run in parallel; with `-n 0`, and with `-s` or `--pdb`, in one process.
"""

import os
import random
import signal
from pathlib import Path

from trpo_np.kernels.threads import THREADS, cores

for _name in THREADS:
    os.environ.setdefault(_name, "1")  # before NumPy loads: the arrays here are small

# ranks that wait let others run, which matters where they share cores
os.environ.setdefault("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")  # MPICH
os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")  # Open MPI

TESTS = Path(__file__).resolve().parent
# processes that tests start, wherever, import this checkout and what the tests share, installed or not
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS.parent), str(TESTS),
                                                   os.environ.get("PYTHONPATH")]))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from modes import BOTH_MODES, KERNEL_FILES  # noqa: E402

from trpo_np.kernels import act, compile, image, lstm, mlp, scalar  # noqa: E402, F401  (all with kernels)

settings.register_profile("trpo_np", max_examples=25, deadline=None, derandomize=True, database=None)
settings.load_profile("trpo_np")


def pytest_configure(config):
    if os.environ.get("TRPO_NP_NUMBA") == "0" and config.option.markexpr == "not slow":  # setup.cfg's own
        config.option.markexpr += " and both_modes"


def pytest_addoption(parser):
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in a random order")


def pytest_collection_modifyitems(config, items):
    if config.option.shuffle is not None:
        random.Random(config.option.shuffle).shuffle(items)  # each worker of xdist into the same order


def pytest_xdist_auto_num_workers(config):
    """Use each core, or, with -s, this process: workers' prints are not shown."""
    return 0 if config.option.capture == "no" else min(len(cores()), 8)


def pytest_itemcollected(item):
    if item.path.relative_to(TESTS).parts[0] in BOTH_MODES:
        item.add_marker("both_modes")


def pytest_report_header(config):
    mode = "compiled" if compile.available() else "plain NumPy"
    return f"trpo_np kernels: {mode}; tests: {config.option.markexpr or 'all'}"


# a shell's background job ignores Ctrl-C, and nohup SIGHUP; so would the processes that the tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def sigterm():
    """Put back, after each test, what SIGTERM does: a command that is called in this process changes it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session", autouse=True)
def kernel_mode():
    """Compile every kernel before the first test, or none: until then a kernel runs its plain twin.

    Each of several workers begins with another file, and finds in numba's cache what the others compiled.
    """
    first = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(KERNEL_FILES)
    for name in KERNEL_FILES[first:] + KERNEL_FILES[:first]:
        compile.compile_all({name})
    assert compile.compile_all() == compile.available()


@pytest.fixture
def plain_kernels(monkeypatch):
    """Run one test with the plain NumPy twins, whatever the mode of the suite."""
    for kernel in compile.KERNELS:
        monkeypatch.setattr(kernel, "compiled", None)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
