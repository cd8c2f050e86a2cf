"""Compiled loops, each beside its plain NumPy twin: arrays in, arrays out.

A kernel is called like a function. It runs its plain NumPy twin until `compile_all` has been called (which `TRPO.learn`
does: compiling takes seconds once on a machine, loading from numba's cache tenths of a second), and for good where
numba is not installed or TRPO_NP_NUMBA=0 is set. Nothing is compiled, and numba is not loaded, at import.
"""

import os
import sys
import time
from collections.abc import Callable

import numpy as np

ALL: list["Kernel"] = []


class Kernel:
    """A loop that numba can compile, and the plain NumPy function that computes the same."""

    def __init__(self, loop: Callable, plain: Callable, example: Callable):
        self.loop, self.plain, self.example, self.compiled = loop, plain, example, None
        self.__name__, self.__doc__ = plain.__name__, plain.__doc__
        ALL.append(self)

    def __call__(self, *args):
        return self.plain(*args) if self.compiled is None else self.compiled(*args)


def twin(loop: Callable, example: Callable) -> Callable:
    """Decorate a plain NumPy function with its loop; `example()` gives the arguments to compile it for."""
    return lambda plain: Kernel(loop, plain, example)


def available() -> bool:
    """Say whether kernels can be compiled here: numba is installed and TRPO_NP_NUMBA is not 0."""
    if os.environ.get("TRPO_NP_NUMBA", "1") == "0":
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def compile_all() -> bool:
    """Compile every kernel, once in a process; say so on the terminal if it takes long. Return whether numba is used."""
    if not available():
        return False
    todo = [kernel for kernel in ALL if kernel.compiled is None]
    started, said = time.perf_counter(), False
    for kernel in todo:
        if not said and time.perf_counter() - started > 1.0:
            print("trpo_np: compiling kernels (once on this machine) ...", file=sys.stderr, flush=True)
            said = True
        kernel.compiled = _compile(kernel)
    return True


def _compile(kernel: Kernel) -> Callable:
    """Compile with numba's cache, or without where no folder for it is writable."""
    import numba

    # never fastmath=True: it makes isfinite(nan) true
    options = dict(fastmath={"reassoc", "contract"}, error_model="numpy")
    try:
        compiled = numba.njit(cache=True, **options)(kernel.loop)
        compiled(*kernel.example())
    except (RuntimeError, OSError):
        compiled = numba.njit(**options)(kernel.loop)
        compiled(*kernel.example())
    return compiled


# --- activations ------------------------------------------------------------------------------------------------------

def _tanh_loop(x):
    # rational approximation, largest error 2e-7: a third of the time of a vectorised exponential, a tenth of libm's
    out = np.empty_like(x)
    flat, y = x.ravel(), out.ravel()
    f = np.float32
    for i in range(flat.size):
        v = flat[i]
        v = f(7.905311) if v > f(7.905311) else v
        v = f(-7.905311) if v < f(-7.905311) else v
        s = v * v
        p = f(-2.76076847742355e-16) * s + f(2.00018790482477e-13)
        p = p * s + f(-8.60467152213735e-11)
        p = p * s + f(5.12229709037114e-08)
        p = p * s + f(1.48572235717979e-05)
        p = p * s + f(6.37261928875436e-04)
        p = p * s + f(4.89352455891786e-03)
        q = f(1.19825839466702e-06) * s + f(1.18534705686654e-04)
        q = q * s + f(2.26843463243900e-03)
        q = q * s + f(4.89352518554385e-03)
        y[i] = v * p / q
    return out


@twin(_tanh_loop, lambda: (np.zeros((2, 2), np.float32),))
def tanh32(x):
    """Hyperbolic tangent of a C-contiguous float32 array of two dimensions."""
    return np.tanh(x)


# --- advantages -------------------------------------------------------------------------------------------------------

def _gae_loop(delta, cut, decay):
    steps, n = delta.shape
    out = np.empty_like(delta)
    for i in range(n):
        running = 0.0
        for t in range(steps - 1, -1, -1):
            running = delta[t, i] + decay * (1.0 - cut[t, i]) * running
            out[t, i] = running
    return out


@twin(_gae_loop, lambda: (np.zeros((2, 1)), np.zeros((2, 1)), 0.5))
def discounted_sum(delta, cut, decay):
    """Sum `delta` (T, n) backwards in time, out[t] = delta[t] + decay * (1 - cut[t]) * out[t + 1]; float64."""
    out = np.empty_like(delta)
    running = np.zeros(delta.shape[1])
    for t in range(len(delta) - 1, -1, -1):
        running = delta[t] + decay * (1.0 - cut[t]) * running
        out[t] = running
    return out
