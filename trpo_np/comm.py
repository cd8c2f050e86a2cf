"""Ranks behind five words: `rank`, `size`, `sum`, `mean`, `bcast`, `gather`. One process needs no MPI.

mpi4py is imported when a launcher started this process, or never. Reduce first, then branch: every rank must see the
same control values.
"""

import os
from typing import Any

import numpy as np

LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK")


class OneProcess:
    """The stand-in for MPI: one rank."""

    rank, size = 0, 1

    def sum(self, x):
        """Sum over ranks."""
        return x

    def mean(self, x):
        """Average over ranks."""
        return x

    def bcast(self, x: Any) -> Any:
        """Give rank 0's object to all ranks."""
        return x

    def gather(self, x: Any) -> list:
        """Collect each rank's object, in rank order, on all ranks."""
        return [x]


class Ranks:
    """An MPI communicator of mpi4py."""

    def __init__(self, mpi_comm):
        self.mpi, self.rank, self.size = mpi_comm, mpi_comm.Get_rank(), mpi_comm.Get_size()

    def sum(self, x):
        """Sum arrays or numbers over ranks; a new array of the same type."""
        x = np.asarray(x, order="C")
        out = np.empty_like(x)
        self.mpi.Allreduce(x, out)
        return out[()]  # of a number, a number

    def mean(self, x):
        """Average arrays or numbers over ranks."""
        return self.sum(x) / self.size

    def bcast(self, x: Any) -> Any:
        """Give rank 0's object to all ranks."""
        return self.mpi.bcast(x)

    def gather(self, x: Any) -> list:
        """Collect each rank's object, in rank order, on all ranks."""
        return self.mpi.allgather(x)


def connect(comm=None):
    """Return the ranks of this job: of `comm` (an mpi4py communicator), of the launcher, or one process."""
    if comm is not None:
        return comm if hasattr(comm, "gather") and hasattr(comm, "sum") else Ranks(comm)
    if any(name in os.environ for name in LAUNCHED):
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise ImportError("a launcher started this process as one of several ranks, but mpi4py cannot be imported "
                              f"({error}); pip install 'trpo_np[mpi]'") from error
        return Ranks(MPI.COMM_WORLD)
    return OneProcess()
