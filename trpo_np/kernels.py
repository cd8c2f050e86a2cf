"""Compiled loops, each beside its plain NumPy twin: arrays in, arrays out; and matrix products in pieces that suit BLAS.

A kernel is called like a function. It runs its plain NumPy twin until `compile_all` has been called (which `TRPO.learn`
does: compiling takes seconds once on a machine, loading from numba's cache tenths of a second), and for good where
numba is not installed or TRPO_NP_NUMBA=0 is set. Nothing is compiled, and numba is not loaded, at import.
"""

import functools
import os
import sys
from collections.abc import Callable, Container
from typing import Any

import numpy as np

ALL: list["Kernel"] = []
HELPERS: list[Callable] = []


class Kernel:
    """A loop that numba can compile, and the plain NumPy function that computes the same."""

    def __init__(self, loop: Callable, plain: Callable, example: Callable):
        self.loop, self.plain, self.example = loop, plain, example
        self.compiled: Callable | None = None
        self.__name__, self.__doc__ = plain.__name__, plain.__doc__
        ALL.append(self)

    def __call__(self, *args):
        return self.plain(*args) if self.compiled is None else self.compiled(*args)


def twin(loop: Callable, example: Callable) -> Callable:
    """Decorate a plain NumPy function with its loop; `example()` gives the arguments to compile it for."""
    return lambda plain: Kernel(loop, plain, example)


def helper(fun: Callable) -> Callable:
    """Register a function that loops call: plain Python until the first kernel is compiled. It stands in their file or here."""
    HELPERS.append(fun)
    return fun


def available() -> bool:
    """Say whether kernels can be compiled here: numba, and scipy for its products, are there and TRPO_NP_NUMBA is not 0."""
    if os.environ.get("TRPO_NP_NUMBA", "1") == "0":
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    from importlib.util import find_spec

    return find_spec("scipy") is not None


def compile_all(files: Container[str] | None = None) -> bool:
    """Compile the kernels of these files, by default all, once in a process; say so on the terminal if it takes long.

    Return whether numba is used. `Policy.kernel_files` are the files that a policy needs.
    """
    if not available():
        return False
    import threading

    wanted = [kernel for kernel in ALL if files is None or kernel.loop.__module__.rpartition(".")[2] in files]
    todo = [kernel for kernel in wanted if kernel.compiled is None]
    notice = threading.Timer(2.0, print, ["trpo_np: compiling kernels, once on this machine ..."],
                             {"file": sys.stderr, "flush": True})
    notice.daemon = True
    if todo:
        notice.start()
        _load_blas()
    for kernel in todo:
        kernel.compiled = _compile(kernel)
    notice.cancel()
    return True


def _load_blas() -> None:
    """Load what numba's products call, one module of scipy.linalg; all of that would take 11 MB and a tenth of a second more."""
    import importlib.util
    from importlib.machinery import PathFinder

    import scipy

    name = "scipy.linalg.cython_blas"
    spec = PathFinder.find_spec(name, [os.path.join(folder, "linalg") for folder in scipy.__path__])
    if name in sys.modules or spec is None or spec.loader is None:  # then numba imports it in the usual way
        return
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError:
        del sys.modules[name]


def _compile(kernel: Kernel) -> Callable:
    """Compile with numba's cache, or without where no folder for it is writable."""
    import numba

    # never fastmath=True: it makes isfinite(nan) true
    options: dict[str, Any] = dict(fastmath={"reassoc", "contract"}, error_model="numpy")
    for fun in HELPERS:
        if fun.__globals__[fun.__name__] is fun:
            fun.__globals__[fun.__name__] = numba.njit(**options)(fun)
    try:
        compiled = _cached(numba, kernel.loop, options)
        compiled(*kernel.example())
    except Exception:  # no place for a cache, or a damaged one: pickle's errors are many
        compiled = numba.njit(**options)(kernel.loop)
        compiled(*kernel.example())
    return compiled


def _cached(numba: Any, loop: Callable, options: dict) -> Callable:
    """Decorate a loop so that it is kept in a folder of this version of it; an OSError if there is no place for one."""
    users = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = os.path.join(_writable(users), f"trpo_np_{_digest(loop)}")
        return numba.njit(cache=True, **options)(loop)  # looks for its folder now, and keeps it
    finally:
        numba.config.CACHE_DIR = users


def _writable(users: str) -> str:
    """Return the first folder that can be written: the user's NUMBA_CACHE_DIR, beside this file, in the user's home."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    import tempfile

    for folder in filter(None, [users, os.path.join(os.path.dirname(os.path.abspath(__file__)), "__pycache__"), home]):
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    raise OSError("no folder for compiled kernels can be written")


def _digest(loop: Callable) -> str:
    """Return a name for this version of a loop: numba sees when its file changes, but not when that of its helpers does."""
    import hashlib

    sources = hashlib.sha256()
    for path in sorted({__file__, loop.__code__.co_filename}):
        with open(path, "rb") as file:
            sources.update(file.read())
    return sources.hexdigest()[:16]


# --- activations ------------------------------------------------------------------------------------------------------

@helper
def _tanh(v):
    # rational approximation, largest error 3e-7: a tenth of the time of libm's
    f = np.float32
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
    return v * p / q


def _tanh_loop(x):
    out = np.empty_like(x)
    flat, y = x.ravel(), out.ravel()
    for i in range(flat.size):
        y[i] = _tanh(flat[i])
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


# --- Adam ---------------------------------------------------------------------------------------------------------------

def _adam_loop(x, m, v, g, c1, c2, epsilon, rate):
    out = np.empty((3, x.size), x.dtype)
    for i in range(x.size):
        out[1, i] = m[i] + c1 * (g[i] - m[i])
        out[2, i] = v[i] + c2 * (g[i] * g[i] - v[i])
        out[0, i] = x[i] - rate * out[1, i] / (np.sqrt(out[2, i]) + epsilon)
    return out


@twin(_adam_loop, lambda: (*(np.zeros(1, np.float32) for _ in range(4)), *map(np.float32, (0.1, 0.1, 0.1, 0.1))))
def adam(x, m, v, g, c1, c2, epsilon, rate):
    """Return x moved against the gradient g, and the moments m and v moved towards g and g^2, (3, size); see optim.Adam."""
    m, v = m + c1 * (g - m), v + c2 * (g * g - v)
    return np.stack([x - rate * m / (np.sqrt(v) + epsilon), m, v])


# --- small matrix products ----------------------------------------------------------------------------------------------

SMALL = 10**6  # the most multiplications in a product for which OpenBLAS, where it can, reads its matrices where they lie


THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")  # the first that is set counts


def cores() -> set:
    """Return the numbers of the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def blas_threads() -> int:
    """Return how many threads BLAS uses: what the environment says, and not more than there are cores."""
    numbers = [int(os.environ[name]) for name in THREADS if os.environ.get(name, "").isdecimal()]
    return min([*filter(None, numbers[:1]), len(cores())])  # BLAS takes 0 for nothing said


@functools.cache
def reads_in_place() -> bool:
    """Say whether NumPy's BLAS computes small products without copying its matrices first: OpenBLAS with AVX-512 does.

    Such products run at up to 1.2 times the speed of large ones, and a few rows at a time at 3 times; elsewhere at half of it.
    OPENBLAS_CORETYPE may tell OpenBLAS to take another processor's code.
    """
    if os.environ.get("OPENBLAS_CORETYPE", "").lower() not in ("", "skylakex", "cooperlake", "sapphirerapids"):
        return False
    config: dict = np.show_config(mode="dicts")  # type: ignore[assignment]
    blas, found = config.get("Build Dependencies", {}).get("blas", {}), config.get("SIMD Extensions", {})
    names = {*found.get("baseline", ()), *found.get("found", ())}
    return "openblas" in str(blas.get("name")) and not names.isdisjoint(("AVX512_SKX", "X86_V4"))


@functools.cache
def small() -> int:
    """Return up to how many multiplications make a product a small one, which is done faster; 0 where none is.

    Several threads share a large product, not a small one.
    """
    return SMALL if reads_in_place() and blas_threads() == 1 else 0


def times(a, w):
    """Return a @ w; if w is one column, without warnings of invalid numbers.

    OpenBLAS 0.3.31 with AVX-512 may see such where there are none: it reads unused lanes off the stack. What is invalid indeed
    comes from an overflow, which has warned already.
    """
    if w.shape[1] > 1:
        return np.matmul(a, w)
    with np.errstate(invalid="ignore"):
        return np.matmul(a, w)


def product(a, w, out=None):
    """Return a @ w of rows a (s, n) and w (n, m), as several small products where they are the faster ones."""
    n, m = w.shape
    rows = _rows(n, m, small()) if a.dtype == w.dtype == np.float32 and a.flags.c_contiguous else 0
    if not rows:
        return np.matmul(a, w, out=out)
    out = np.empty((len(a), m), a.dtype) if out is None else out
    whole = len(a) // rows * rows
    np.matmul(a[:whole].reshape(-1, rows, n), w, out=out[:whole].reshape(-1, rows, m))
    if whole < len(a):
        np.matmul(a[whole:], w, out=out[whole:])
    return out


def product_of_columns(a, b):
    """Return a.T @ b of rows a (s, n) and b (s, m), as a sum of small products where the result is small, too."""
    n, m = a.shape[1], b.shape[1]
    rows = _rows(n, m, small()) if a.dtype == b.dtype == np.float32 and a.flags.c_contiguous and b.flags.c_contiguous else 0
    if rows < 64 or len(a) < rows:  # adding the products up would take as long as computing them
        return a.T @ b
    whole = len(a) // rows * rows
    out = np.matmul(a[:whole].reshape(-1, rows, n).transpose(0, 2, 1), b[:whole].reshape(-1, rows, m)).sum(0)
    return out + a[whole:].T @ b[whole:]


@helper
def _rows(n, m, small):
    # how many rows make a product with a matrix (n, m) of at most `small` multiplications; in fours, as suits BLAS
    return small // (n * m) // 4 * 4


@helper
def _product(a, w, rows, y):
    # y = a @ w, `rows` at a time (see _rows), or, if that is 0, a @ w.T
    if rows:
        for r in range(0, len(a), rows):
            np.dot(a[r:r + rows], w, y[r:r + rows])
    else:
        _product_transposed(a, w, y)


@helper
def _product_transposed(a, w, y):
    # y = a @ w.T for few rows, for which BLAS would copy w at each step; at the edges a row is computed twice instead of
    # having a remainder
    n, m = a.shape[0], w.shape[0]
    for i in range(0, m, 4):
        i1, i2, i3 = min(i + 1, m - 1), min(i + 2, m - 1), min(i + 3, m - 1)
        w0, w1, w2, w3 = w[i], w[i1], w[i2], w[i3]
        for r in range(0, n, 2):
            q = min(r + 1, n - 1)
            a0, a1 = a[r], a[q]
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0)
            for j in range(a0.size):
                s0 += a0[j] * w0[j]
                s1 += a0[j] * w1[j]
                s2 += a0[j] * w2[j]
                s3 += a0[j] * w3[j]
                t0 += a1[j] * w0[j]
                t1 += a1[j] * w1[j]
                t2 += a1[j] * w2[j]
                t3 += a1[j] * w3[j]
            y[r, i], y[r, i1], y[r, i2], y[r, i3] = s0, s1, s2, s3
            y[q, i], y[q, i1], y[q, i2], y[q, i3] = t0, t1, t2, t3
