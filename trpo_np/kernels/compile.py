"""When and where numba compiles the loops of this wing, and what runs until then.

A kernel is called like a function. It runs its NumPy twin until `compile_all` has compiled its loop, and for
good where numba is not installed or TRPO_NP_NUMBA=0 is set. Arrays of another type than the loop's always go
to the twin; to a kernel without one, callers give arrays of the loop's types alone. `TRPO.learn` calls
`compile_all`: compiling takes seconds, once on a machine; loading from numba's cache takes tenths of a
second. At import nothing is compiled, and numba is not loaded.
"""

import os
import sys
import warnings
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

KERNELS: list["Kernel"] = []
HELPERS: list[Callable] = []


class Kernel:
    """A loop that numba can compile, and its twin: a NumPy function that computes the same.

    Each of `examples` returns arguments to compile the loop for. Arrays of other types than those of the
    first go to the twin. Where there is none, `plain` is the loop itself: plain Python, but for the helpers
    that it calls, which once compiled take the loop's types alone.
    """

    def __init__(self, loop: Callable, plain: Callable, *examples: Callable):
        self.loop, self.plain, self.examples = loop, plain, examples
        first = list(enumerate(examples[0]()))
        self.dtypes = [(i, a.dtype) for i, a in first if hasattr(a, "dtype") and a.ndim]
        self.floats = [i for i, a in first if type(a) is float]
        self.compiled: Callable | None = None
        self.__name__, self.__doc__ = plain.__name__, plain.__doc__
        KERNELS.append(self)

    def __call__(self, *args):
        if self.compiled is None:
            return self.plain(*args)
        for i, dtype in self.dtypes:
            if args[i].dtype is not dtype and args[i].dtype != dtype:
                return self.plain(*args)
        for i in self.floats:  # of an int, numba would compile the loop once more
            args = (*args[:i], float(args[i]), *args[i + 1:])
        return self.compiled(*args)

    @property
    def has_twin(self) -> bool:
        """Whether there is a NumPy function, too; else `plain` is the loop as plain Python."""
        return self.plain is not self.loop

    @property
    def is_compiled(self) -> bool:
        """Whether calls run compiled, for arrays of the kernel's types."""
        return self.compiled is not None

    @property
    def now(self) -> Callable:
        """The function that a call runs at present, for arrays of the kernel's types."""
        return self.compiled or self.plain


def twin(loop: Callable, example: Callable) -> Callable:
    """Decorate a NumPy function with the loop that computes the same."""
    return lambda plain: Kernel(loop, plain, example)


def kernel(*examples: Callable) -> Callable:
    """Decorate a loop without a twin: callers compose the same of ops unless the kernel `is_compiled`."""
    return lambda loop: Kernel(loop, loop, *examples)


def helper(fun: Callable) -> Callable:
    """Decorate a function that loops call, from other files by its module: `blas.multiply`.

    It is plain Python until the first kernel is compiled.
    """
    HELPERS.append(fun)
    return fun


def available() -> bool:
    """Say whether kernels can be compiled: numba and scipy are installed, and TRPO_NP_NUMBA is not 0."""
    if os.environ.get("TRPO_NP_NUMBA", "1") == "0":
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    from importlib.util import find_spec

    return find_spec("scipy") is not None


def compile_all(files: Container[str] | None = None) -> bool:
    """Compile the kernels of these files, by default of all that are imported, once in a process; return
    whether numba is used.

    `files` are names of this wing's files; `Policy.kernel_files` are those that a policy needs. If compiling
    takes long, a line on the terminal says so; loading what another process has compiled is silent.
    """
    if not available():
        if os.environ.get("TRPO_NP_NUMBA", "1") != "0":
            warnings.warn("numba or scipy is not installed: training works, but takes about three times as "
                          "long; pip install numba scipy", stacklevel=3)
        return False
    import threading

    wanted = [one for one in KERNELS if files is None or one.loop.__module__.rpartition(".")[2] in files]
    todo = [one for one in wanted if one.compiled is None]
    notice = threading.Timer(2.0, print, kwargs={"file": sys.stderr, "flush": True})
    notice.daemon = True
    if todo:
        load_blas()

    def announce(where):
        if notice.ident is None:  # not started yet
            notice.args = [f"trpo_np: compiling kernels, {where} ..."]
            notice.start()

    for one in todo:
        one.compiled = compiled_loop(one, announce)
    notice.cancel()
    return True


def load_blas() -> None:
    """Load the one module of scipy.linalg that numba's matrix products call.

    All of scipy.linalg, which numba would import, takes 11 MB and a tenth of a second more.
    """
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


def compiled_loop(one: Kernel, announce: Callable[[str], object] = lambda where: None) -> Callable:
    """Compile a kernel's loop, with numba's cache, or without where no folder for it is writable.

    `announce(where)` is called before what takes seconds: where the cache does not hold the loop.
    """
    import numba

    # never fastmath=True: it makes isfinite(nan) true
    options: dict[str, Any] = dict(fastmath={"reassoc", "contract"}, error_model="numpy")
    for fun in HELPERS:
        if fun.__globals__[fun.__name__] is fun:
            fun.__globals__[fun.__name__] = numba.njit(**options)(fun)
    try:
        compiled = _cached(numba, one.loop, options)
        if not any(Path(compiled.stats.cache_path).glob(f"*.{one.loop.__name__}-*.nbi")):  # type: ignore
            announce("once on this machine")
        _call(compiled, one)
    except Exception:  # no place for a cache, or a damaged one, from which pickle raises errors of many kinds
        announce("in this process alone, as their cache cannot be used")
        compiled = numba.njit(**options)(one.loop)
        _call(compiled, one)
    return compiled


def _call(compiled: Callable, one: Kernel) -> None:
    """Compile a function for the types of a kernel's examples, or load it for them."""
    for example in one.examples:
        compiled(*example())


def _cached(numba: Any, loop: Callable, options: dict) -> Callable:
    """Decorate a loop so that numba caches it in a folder of this version; OSError if there is no place."""
    users = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = os.path.join(_writable(users), f"trpo_np_{_digest()}")
        return numba.njit(cache=True, **options)(loop)  # looks for its folder now, and keeps it
    finally:
        numba.config.CACHE_DIR = users


def _writable(users: str) -> str:
    """Return the first folder that can be written: the user's NUMBA_CACHE_DIR, beside this file, at home."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__pycache__")
    import tempfile

    for folder in filter(None, [users, beside, home]):
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    raise OSError("no folder for compiled kernels can be written")


def _digest() -> str:
    """Return a name for this version of the wing; numba itself notices changes of a loop's own file only."""
    import hashlib

    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.read_bytes())
    return sources.hexdigest()[:16]
