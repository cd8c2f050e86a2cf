"""Ranks behind a few words: `rank`, `size`, `sum`, `bcast`, `gather`, `align`. One process needs no MPI.

mpi4py is imported if a launcher started this process, else never. Reduce first, then branch: every rank must
see the same control values. MPI promises that a reduction gives the same bits on all ranks (MPI 4.1, section
6.9.5).
"""

import functools
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import numpy as np

from .kernels.threads import blas_threads, cores
from .settings import install
from .types import Method

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
LAUNCHED = (*SIZES, "PMI_RANK", "PMIX_RANK")


class OneProcess:
    """The stand-in for MPI: one rank."""

    rank, size = 0, 1
    ends_on_error = True

    def sum(self, x):
        """Sum over ranks."""
        return x

    def bcast(self, x: Any) -> Any:
        """Give rank 0's object to all ranks."""
        return x

    def gather(self, x: Any) -> list:
        """Collect each rank's object, in rank order, on all ranks."""
        return [x]

    def align(self, x: np.ndarray) -> None:
        """Overwrite an array with rank 0's."""

    def first_on_machine(self, fun: Callable) -> None:
        """Call `fun()` on one rank of each machine, then on the others, which may find what it left there."""
        fun()

    def guard(self):
        """Make a context: if its block raises on one of several ranks, the job ends on all of them."""
        return nullcontext()


class Ranks:
    """An MPI communicator of mpi4py.

    Set `ends_on_error` to False to catch errors outside of `guard`, and call `end_job` there.
    """

    def __init__(self, mpi_comm):
        self.mpi, self.rank, self.size = mpi_comm, mpi_comm.Get_rank(), mpi_comm.Get_size()
        self.ends_on_error = True

    def sum(self, x):
        """Sum arrays or numbers over ranks; a new array of the same type."""
        x = np.asarray(x, order="C")
        out = np.empty_like(x)
        self.mpi.Allreduce(x, out)
        return out[()]  # of a number, a number

    def bcast(self, x: Any) -> Any:
        """Give rank 0's object to all ranks."""
        return self.mpi.bcast(x)

    def gather(self, x: Any) -> list:
        """Collect each rank's object, in rank order, on all ranks."""
        return self.mpi.allgather(x)

    def align(self, x: np.ndarray) -> None:
        """Overwrite an array with rank 0's."""
        self.mpi.Bcast(x)

    @functools.cached_property
    def _machine(self):
        from mpi4py import MPI
        return self.mpi.Split_type(MPI.COMM_TYPE_SHARED)

    def first_on_machine(self, fun: Callable) -> None:
        """Call `fun()` on one rank of each machine, then on the others, which may find what it left there."""
        if self._machine.rank == 0:
            fun()
        turn = self._machine.Ibarrier()
        while not turn.Test():
            time.sleep(0.01)  # where MPI waits it takes all of a core, which `fun` may need
        if self._machine.rank:
            fun()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Make a context: if its block raises on one of several ranks, the job ends on all of them.

        The other ranks would wait for that one in their next collective, for ever.
        """
        try:
            yield
        except BaseException as error:
            if self.ends_on_error and self.size > 1 and not _is_success(error):
                traceback.print_exc()
                end_job(130 if isinstance(error, KeyboardInterrupt) else 1)
            raise

    def check_threads(self) -> None:
        """Warn where the ranks of a machine, or their BLAS threads, are more than it has cores for them."""
        found = self._machine.allgather((blas_threads(), cores()))
        threads, available = sum(n for n, _ in found), len(set().union(*(own for _, own in found)))
        if self._machine.rank == 0 and threads > max(available, len(found)):
            warnings.warn(f"{len(found)} ranks on this machine run {threads} BLAS threads on {available} "
                          "cores, which is slow; set OMP_NUM_THREADS=1 before NumPy is imported",
                          stacklevel=2)
        if self._machine.rank == 0 and len(found) > available:
            plural = "s" * (available > 1)
            warnings.warn(f"{len(found)} ranks on this machine share {available} core{plural}, which is "
                          "slow: those that wait for others take all of a core; start at most as many ranks "
                          "as there are cores", stacklevel=2)


def guarded(method: Method) -> Method:
    """Decorate a method of an object that has a `comm`: it runs in `comm.guard()`."""
    @functools.wraps(method)
    def inner(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.comm.guard():
            return method(self, *args, **kwargs)
    return cast(Method, inner)


def end_job(status: int | str) -> None:
    """End the job on all ranks, at once; do nothing if there is no launcher, or only one rank.

    `status` is a number, or a text to print, as for sys.exit. MPI is started if it is not running yet: the
    other ranks wait for that.
    """
    if not is_launched() and "mpi4py.MPI" not in sys.modules:
        return
    try:
        from mpi4py import MPI
    except ImportError:
        return
    if MPI.Is_finalized() or MPI.COMM_WORLD.size == 1:
        return
    text = f"{status}\n" if isinstance(status, str) else ""
    if text and _all_come(MPI.COMM_WORLD) and MPI.COMM_WORLD.rank:
        time.sleep(9)  # what all would say, such as that a file is missing, rank 0 says and ends the job
    sys.stdout.flush()  # and one write, since the lines of several ranks would mix:
    sys.stderr.write(f"{text}trpo_np: rank {MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size} ends the job\n")
    sys.stderr.flush()
    time.sleep(0.5)  # the launcher may drop what it has not read when it ends the ranks
    MPI.COMM_WORLD.Abort(1 if isinstance(status, str) else status)
    time.sleep(9)  # where it returns before the launcher ends this process, which has said all


def _all_come(world, seconds: float = 2.0) -> bool:
    """Say whether all ranks call this within so many seconds."""
    turn, end = world.Ibarrier(), time.monotonic() + seconds
    while not (come := turn.Test()) and time.monotonic() < end:
        time.sleep(0.01)
    return come


def check_agreement(values: Sequence, what: str) -> None:
    """Raise a RuntimeError that names the ranks whose value is not that of most ranks."""
    common = Counter(values).most_common(1)[0][0]
    if odd := [rank for rank, value in enumerate(values) if value != common]:
        raise RuntimeError(f"{what} must be the same on all ranks, but of {len(values)} ranks these differ "
                           f"from the others: {', '.join(map(str, odd))}")


def is_launched() -> bool:
    """Say whether an MPI launcher started this process."""
    return any(name in os.environ for name in LAUNCHED)


def world_size() -> int:
    """Return how many ranks MPI sees; start it, if it is not running yet."""
    from mpi4py import MPI
    return MPI.COMM_WORLD.size


def connect(comm=None):
    """Return the ranks of this job: of `comm` (an mpi4py communicator), of the launcher, or one process."""
    if comm is not None:
        if hasattr(comm, "gather") and hasattr(comm, "sum"):
            return comm
        if not hasattr(comm, "Get_rank"):
            raise ValueError(f"comm is {comm!r}; a communicator of mpi4py is needed, such as MPI.COMM_WORLD")
        _end_on_uncaught()
        return Ranks(comm)
    if is_launched():
        try:
            from mpi4py import MPI
        except ImportError as error:
            if {os.environ[name] for name in SIZES if name in os.environ} == {"1"}:
                return OneProcess()
            raise ImportError("a launcher started this process as one of several ranks, but mpi4py cannot be "
                              f"imported ({error}); {install('mpi')}") from error
        ranks = Ranks(MPI.COMM_WORLD)
        if ranks.size > 1:
            _end_on_uncaught()
            ranks.check_threads()
        return ranks
    return OneProcess()


def _end_on_uncaught() -> None:
    """Let an error that ends one rank end all: in MPI's finalisation it would wait for the others."""
    if getattr(sys.excepthook, "ends_job", False):
        return
    show = sys.excepthook

    def hook(*error):
        show(*error)
        end_job(130 if issubclass(error[0], KeyboardInterrupt) else 1)

    hook.ends_job = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _is_success(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and not error.code
