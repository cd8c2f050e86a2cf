"""Start a job's ranks under mpiexec, and say once what each of them would say."""

import argparse
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import ExitStack, redirect_stderr, redirect_stdout

from . import options

NUMBERS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")  # in which launchers tell a process its rank
MARK = "TRPO_NP_RANKS"  # set for the ranks that `start` starts: how many there are


def ranks(text: str) -> int:
    """Read a number of ranks; "auto" is that of the cores that this process may use."""
    from ..kernels.threads import cores

    if text == "auto":
        return len(cores())
    try:
        return options.positive(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number such as 2") from None


def once() -> ExitStack:
    """Make a context in which only the first rank of a job prints."""
    stack = ExitStack()
    if any(int(os.environ.get(name) or 0) for name in NUMBERS):
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
    return stack


def start(args: argparse.Namespace) -> None:
    """Replace this process by mpiexec, which runs its command on `args.ranks` ranks; in these, only return.

    Signals to this process and its exit status are then those of mpiexec. A ValueError or ImportError says
    why that cannot be done.
    """
    from ..comm import is_launched, world_size
    from ..settings import install

    if (expected := os.environ.get(MARK)) and is_launched():
        if (seen := world_size()) != int(expected):
            raise ValueError(f"mpiexec started {expected} ranks, but mpi4py sees {seen}: they are of "
                             f"different MPI libraries; {install('mpi')}")
    elif args.ranks and is_launched():
        raise ValueError(f"--ranks {args.ranks} does not fit: a launcher started this process, and says how "
                         "many ranks there are")
    elif (args.ranks or 1) > 1:
        places = [os.path.dirname(sys.executable), sysconfig.get_path("scripts"), os.environ.get("PATH", "")]
        mpiexec = shutil.which("mpiexec", path=os.pathsep.join(places))
        if not (mpiexec and importlib.util.find_spec("mpi4py")):
            missing = "mpi4py" if mpiexec else "mpiexec"
            raise ImportError(f"--ranks {args.ranks} needs mpi4py and mpiexec, but there is no {missing}; "
                              f"{install('mpi')}")
        os.environ[MARK] = str(args.ranks)
        command = [mpiexec, "-n", str(args.ranks), sys.executable, *sys.orig_argv[1:]]
        if os.name == "nt":  # where exec would give the terminal back at once
            sys.exit(subprocess.call(command))
        sys.stdout.flush()
        os.execv(mpiexec, command)
