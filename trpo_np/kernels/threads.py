"""The cores of this process and the threads of BLAS; importable before NumPy, for jobs set threads first."""

import os

# the variables that set BLAS' threads; the first that is set counts
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cores() -> set:
    """Return the numbers of the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def blas_threads() -> int:
    """Return how many threads BLAS uses: what the environment says, but not more than there are cores."""
    numbers = [int(os.environ[name]) for name in THREADS if os.environ.get(name, "").isdecimal()]
    return min([*filter(None, numbers[:1]), len(cores())])  # 0 means the same as no number
