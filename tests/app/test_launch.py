"""The start of a job's ranks; tests/test_mpi.py starts real ones."""

import argparse
import os
import sys

import pytest

from trpo_np import comm
from trpo_np.app import launch
from trpo_np.kernels import threads


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Take away what a launcher sets, and mpiexec's replacement of this process."""
    for name in (*comm.LAUNCHED, *launch.NUMBERS, launch.MARK):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "execv", lambda path, command: pytest.fail(f"{command} was started"))


def args(ranks):
    return argparse.Namespace(ranks=ranks)


def ranks_of(monkeypatch, size):
    mpi = argparse.Namespace(COMM_WORLD=argparse.Namespace(size=size))
    monkeypatch.setitem(sys.modules, "mpi4py", argparse.Namespace(MPI=mpi))


def test_auto_is_a_rank_for_each_usable_core(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: {0, 3, 5})
    assert launch.ranks("auto") == 3 and launch.ranks("2") == 2
    for text in ("0", "many"):
        with pytest.raises(argparse.ArgumentTypeError):
            launch.ranks(text)


@pytest.mark.parametrize("ranks", [None, 1])
def test_one_rank_needs_no_launcher(ranks):
    launch.start(args(ranks))
    assert launch.MARK not in os.environ


def test_mpiexec_is_given_the_command_of_this_process(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(os, "execv", lambda *given: started.append(given))
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name == "mpi4py")
    monkeypatch.setattr(launch.shutil, "which", lambda name, path: f"{path.split(os.pathsep)[0]}/{name}")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "trpo_np", "train", "--ranks", "4"])
    monkeypatch.setenv(launch.MARK, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    launch.start(args(4))
    mpiexec = f"{os.path.dirname(sys.executable)}/mpiexec"  # that of the wheel, beside the interpreter
    rest = [sys.executable, "-m", "trpo_np", "train", "--ranks", "4"]
    assert started == [(mpiexec, [mpiexec, "-n", "4", *rest])] and os.environ[launch.MARK] == "4"


@pytest.mark.parametrize("there, missing", [("mpi4py", "mpiexec"), ("mpiexec", "mpi4py")])
def test_what_is_missing_is_named_with_how_to_install_it(monkeypatch, there, missing):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: there == name or None)
    monkeypatch.setattr(launch.shutil, "which", lambda name, path: name if there == name else None)
    with pytest.raises(ImportError, match=rf"--ranks 4 needs .* but there is no {missing}; pip install"):
        launch.start(args(4))


def test_ranks_that_were_started_begin_no_others(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setenv(launch.MARK, "4")
    ranks_of(monkeypatch, 4)
    launch.start(args(4))
    ranks_of(monkeypatch, 1)
    with pytest.raises(ValueError, match="mpiexec started 4 ranks, but mpi4py sees 1: they are of different"):
        launch.start(args(4))


def test_under_a_launcher_of_the_user_the_option_is_refused(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    launch.start(args(None))
    with pytest.raises(ValueError, match="--ranks 2 does not fit: a launcher started this process"):
        launch.start(args(2))


@pytest.mark.parametrize("name", launch.NUMBERS)
def test_only_the_first_rank_prints(monkeypatch, capsys, name):
    for rank in ("0", "1"):
        monkeypatch.setenv(name, rank)
        with launch.once():
            print("usage", rank)
            print("error", rank, file=sys.stderr)
        print("behind", rank)
    assert capsys.readouterr() == ("usage 0\nbehind 0\nbehind 1\n", "error 0\n")
