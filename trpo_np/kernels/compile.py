"""When and where numba compiles the loops of this wing; what runs until then.

A kernel is called like a function. It runs its plain NumPy twin until `compile_all` has been called (which `TRPO.learn`
does: compiling takes seconds once on a machine, loading from numba's cache tenths of a second), and for good where numba
is not installed or TRPO_NP_NUMBA=0 is set; and always for numbers of another type than it is compiled for. Nothing is
compiled, and numba is not loaded, at import.
"""

import os
import sys
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

KERNELS: list["Kernel"] = []
HELPERS: list[Callable] = []


class Kernel:
    """A loop that numba can compile, for arrays of one type, and the plain NumPy function that computes the same.

    `example()` gives the arguments to compile it for: arrays of the very types are what the compiled loop takes.
    """

    def __init__(self, loop: Callable, plain: Callable, example: Callable):
        self.loop, self.plain, self.example = loop, plain, example
        self.dtypes = [(i, arg.dtype) for i, arg in enumerate(example()) if hasattr(arg, "dtype") and arg.ndim]
        self.compiled: Callable | None = None
        self.__name__, self.__doc__ = plain.__name__, plain.__doc__
        KERNELS.append(self)

    def __call__(self, *args):
        if self.compiled is None:
            return self.plain(*args)
        for i, dtype in self.dtypes:
            if args[i].dtype is not dtype and args[i].dtype != dtype:
                return self.plain(*args)
        return self.compiled(*args)

    @property
    def is_compiled(self) -> bool:
        """Whether calls run compiled, for arrays of the kernel's types."""
        return self.compiled is not None

    @property
    def now(self) -> Callable:
        """What a call runs at present, for arrays of the kernel's type: a loop that calls it often looks it up once."""
        return self.compiled or self.plain


def twin(loop: Callable, example: Callable) -> Callable:
    """Decorate a plain NumPy function with its loop."""
    return lambda plain: Kernel(loop, plain, example)


def kernel(example: Callable) -> Callable:
    """Decorate a loop that has no twin, since other code composes the same where the loop `is_compiled` not."""
    return lambda loop: Kernel(loop, loop, example)


def helper(fun: Callable) -> Callable:
    """Register a function that loops call, by its module: plain Python until the first kernel is compiled."""
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

    Return whether numba is used. `files` are names of this wing: `Policy.kernel_files` are those that a policy needs.
    """
    if not available():
        return False
    import threading

    wanted = [kernel for kernel in KERNELS if files is None or kernel.loop.__module__.rpartition(".")[2] in files]
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
        numba.config.CACHE_DIR = os.path.join(_writable(users), f"trpo_np_{_digest()}")
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


def _digest() -> str:
    """Return a name for this version of the wing: numba sees when a loop's file changes, not when that of a helper does."""
    import hashlib

    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.read_bytes())
    return sources.hexdigest()[:16]
