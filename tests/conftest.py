"""One suite, two modes: compiled kernels where numba is installed, plain NumPy with TRPO_NP_NUMBA=0.

A kernel runs its plain twin until `compile_all`, so without the fixture below the default run would test only that.
"""

import os
import signal

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy loads: the arrays here are small

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from trpo_np.kernels import act, compile, image, lstm, mlp, scalar  # noqa: E402, F401  (all that have kernels)

settings.register_profile("trpo_np", max_examples=25, deadline=None, derandomize=True, database=None)
settings.load_profile("trpo_np")


def pytest_report_header():
    return f"trpo_np kernels: {'compiled' if compile.available() else 'plain NumPy'}"


# a shell's background job ignores Ctrl-C, one under nohup SIGHUP, and so would the processes that the tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def kernel_mode():
    """Compile every kernel before the first test, or none."""
    assert compile.compile_all() == compile.available()


@pytest.fixture
def plain_kernels(monkeypatch):
    """Run one test with the plain NumPy twins, whatever the mode of the suite."""
    for kernel in compile.KERNELS:
        monkeypatch.setattr(kernel, "compiled", None)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
