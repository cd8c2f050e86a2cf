"""One process, and two real ranks under mpiexec."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from trpo_np import comm
from trpo_np.comm import LAUNCHED, OneProcess, Ranks, check_agreement, connect, end_job, guarded

_FOUND = next((str(p) for p in [Path(sys.executable).with_name("mpiexec")] if p.exists()),
              shutil.which("mpiexec"))
MPIEXEC = shlex.split(os.environ.get("TRPO_NP_MPIEXEC", _FOUND or ""))  # another launcher, with options
needs_mpi = pytest.mark.skipif(not MPIEXEC or importlib.util.find_spec("mpi4py") is None,
                               reason="needs mpi4py and mpiexec")

# each rank computes its answers and prints them in one write; the values are checked here
SCRIPT = """
import json, sys
import numpy as np
from trpo_np.comm import OneProcess, Ranks, connect

assert "mpi4py" not in sys.modules
comm = connect()
r, say = comm.rank, {}
assert isinstance(comm, Ranks) and comm.size == 2
x = np.arange(3, dtype=np.float32) * (r + 1)
total = comm.sum(x)
say["array"] = [total.tolist(), total.dtype.name, x.tolist(), total is x]
say["number"] = [comm.sum(1.5 + r), np.shape(comm.sum(2.0)), float(comm.sum(float(r))),
                 int(comm.sum(np.int64(r + 1)))]
say["matrix"] = comm.sum((np.eye(4) * (r + 1))[:, ::2])[:, 1].tolist()  # not contiguous
aligned = np.arange(3.0) + r
comm.align(aligned)
say["align"] = aligned.tolist()
say["empty"] = comm.sum(np.zeros((0, 2))).shape
say["bcast"] = [comm.bcast({"seed": 5 + r}), comm.bcast(None if r else [1]), comm.bcast(2**200 + r)]
say["gather"] = comm.gather((r, "abc"[r]))
say["nan"] = [str(float(comm.sum(np.nan if r else 1.0)))]
from mpi4py import MPI
alone = connect(MPI.COMM_SELF)
say["alone"] = [alone.rank, alone.size, alone.gather(r), float(alone.sum(3.0))]
say["given"] = [connect(comm) is comm, connect(MPI.COMM_WORLD).size, connect(OneProcess()).size]
sys.stdout.write(json.dumps({"rank": r, **say}) + "\\n")
"""


@needs_mpi
def test_two_ranks(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [*MPIEXEC, "-n", "2", sys.executable, "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    said = sorted((json.loads(line) for line in done.stdout.splitlines()),
                  key=lambda answers: answers["rank"])
    assert [answers.pop("rank") for answers in said] == [0, 1]
    for rank, answers in enumerate(said):
        assert answers.pop("array") == [[0, 3, 6], "float32", [0, 1.0 * (rank + 1), 2.0 * (rank + 1)], False]
        assert answers.pop("alone") == [0, 1, [rank], 3.0]
    assert said[0] == said[1]  # every rank sees the same control values
    assert said[0] == {"number": [4.0, [], 1.0, 3], "matrix": [0, 0, 3, 0], "empty": [0, 2],
                       "bcast": [{"seed": 5}, [1], 2**200], "gather": [[0, "a"], [1, "b"]], "nan": ["nan"],
                       "align": [0, 1, 2],
                       "given": [True, 2, 1]}


def test_one_process():
    comm, x = OneProcess(), np.arange(3.0)
    assert (comm.rank, comm.size) == (0, 1)
    np.testing.assert_array_equal(comm.sum(x), x)
    assert comm.sum(2.5) == comm.bcast(2.5) == 2.5 and comm.gather("a") == ["a"]


def test_without_a_launcher_there_is_one_process(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # importing it would raise
    assert isinstance(connect(), OneProcess)


@pytest.mark.parametrize("name", LAUNCHED)
def test_under_a_launcher_mpi4py_is_needed(monkeypatch, name):
    monkeypatch.setenv(name, "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"mpi4py cannot be imported .*; pip install 'trpo_np\[mpi\]'"):
        connect()


def test_what_is_given_is_taken():
    class Fake:
        def Get_rank(self):
            return 3

        def Get_size(self):
            return 4

        def gather(self, x):  # mpi4py's communicators have a gather of their own
            return None
    ranks = connect(Fake())
    assert isinstance(ranks, Ranks) and (ranks.rank, ranks.size) == (3, 4)
    assert connect(ranks) is ranks
    one = OneProcess()
    assert connect(one) is one


def test_what_is_no_communicator_is_refused():
    with pytest.raises(ValueError, match="comm is 3; a communicator of mpi4py is needed"):
        connect(3)


def test_a_scheduler_that_starts_one_process_needs_no_mpi(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "1")
    assert isinstance(connect(), OneProcess)
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ImportError, match="one of several ranks"):
        connect()


# --- ranks that are not there -------------------------------------------------------------------------------

class World:
    """A communicator of mpi4py with one rank of several; what it is asked for is noted."""

    def __init__(self, rank=0, size=2, machine=None, others=(({0}, 1),)):
        self.rank, self.size, self.calls, self.others = rank, size, [], others
        self.machine = machine or self

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size

    def Split_type(self, kind):
        assert kind == "shared"
        return self.machine

    def Ibarrier(self):
        self.calls.append("barrier")
        return self

    def Test(self):
        return self.calls.append("test") or self.calls.count("test") == 3

    def allgather(self, own):
        return [own, *[(threads, cores) for cores, threads in self.others]]

    def Abort(self, status):
        self.calls.append(("abort", status))


class FakeMPI:
    """The module mpi4py.MPI."""

    COMM_TYPE_SHARED = "shared"

    def __init__(self, world, finalized=False):
        self.COMM_WORLD, self.finalized = world, finalized

    def Is_finalized(self):
        return self.finalized


@pytest.fixture
def launched(monkeypatch):
    """Let this process be a rank of a launcher; return a function that gives it its world."""
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setattr(comm.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def start(world, **options):
        mpi = FakeMPI(world, **options)
        monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi))
        monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi)
        return world
    return start


def test_agreement_is_with_most_ranks():
    check_agreement(["a"] * 3, "it")
    for values, odd in [("abb", "0"), ("bab", "1"), ("bbabcb", "2, 4")]:
        sentence = f"it must be the same on all ranks, but of {len(values)} ranks these differ .*: {odd}$"
        with pytest.raises(RuntimeError, match=sentence):
            check_agreement(values, "it")


def test_one_process_guards_and_aligns_nothing():
    one, x, calls = OneProcess(), np.ones(3), []
    one.align(x)
    one.first_on_machine(lambda: calls.append(1))
    with pytest.raises(KeyError), one.guard():
        raise KeyError
    assert (x == 1).all() and calls == [1]


def test_the_first_of_a_machine_works_before_the_others(launched):
    for rank in (0, 1):
        world = launched(World(rank))
        Ranks(world).first_on_machine(lambda world=world: world.calls.append("work"))
        waits = ["barrier", *["test"] * 3]
        assert world.calls == (["work", *waits] if rank == 0 else [*waits, "work"])


@pytest.mark.parametrize("error, status", [
    (ValueError("bad"), 1), (KeyboardInterrupt(), 130), (SystemExit("why"), 1), (SystemExit(2), 1)])
def test_an_error_in_a_guard_ends_the_job_with_its_traceback(launched, capsys, error, status):
    world = launched(World(rank=1))

    class Guarded:
        comm = Ranks(world)

        @guarded
        def work(self):
            """Work."""
            raise error
    with pytest.raises(type(error)):
        Guarded().work()
    assert world.calls == [("abort", status)] and Guarded.work.__doc__ == "Work."
    said = capsys.readouterr().err
    assert "Traceback" in said and said.endswith("trpo_np: rank 1 of 2 ends the job\n")


@pytest.mark.parametrize("size, ends, error", [
    (1, True, ValueError()), (2, False, ValueError()), (2, True, SystemExit()), (2, True, SystemExit(0))])
def test_a_guard_ends_no_job_of_one_rank_nor_one_that_leaves_with_success(launched, size, ends, error):
    world = launched(World(size=size))
    ranks = Ranks(world)
    ranks.ends_on_error = ends
    with pytest.raises(type(error)), ranks.guard():
        raise error
    assert world.calls == []


def test_a_job_ends_with_a_number_or_a_text(launched, capsys):
    world = launched(World(rank=3, size=4))
    end_job(130)
    assert world.calls == [("abort", 130)]
    end_job("job: error: why")
    assert "job: error: why\ntrpo_np: rank 3 of 4 ends the job\n" in capsys.readouterr().err


@pytest.mark.parametrize("rank, others_come, waits", [(0, True, False), (2, True, True), (2, False, False)])
def test_what_all_ranks_would_say_is_said_by_the_first(launched, monkeypatch, rank, others_come, waits):
    world, now = launched(World(rank, size=4)), iter(range(100))
    monkeypatch.setattr(comm.time, "sleep", lambda seconds: seconds > 5 and world.calls.append("wait"))
    monkeypatch.setattr(comm.time, "monotonic", lambda: next(now))
    world.Test = lambda: others_come
    end_job("job: error: why")
    assert world.calls == ["barrier", *["wait"] * waits, ("abort", 1), "wait"]


@pytest.mark.parametrize("world, finalized", [(World(size=1), False), (World(size=2), True)])
def test_nothing_is_ended_where_nobody_waits(launched, world, finalized):
    launched(world, finalized=finalized)
    end_job(1)
    assert world.calls == []


def test_without_a_launcher_and_without_mpi_there_is_no_job_to_end(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    end_job(1)  # imports nothing
    monkeypatch.setenv("PMI_RANK", "0")
    end_job(1)  # mpi4py cannot be imported


def test_what_is_not_caught_ends_the_job_after_it_is_shown(launched, capsys):
    world, before = launched(World()), sys.excepthook
    shown = []
    sys.excepthook = lambda *error: shown.append((error[0], len(world.calls)))
    connect()
    hook = sys.excepthook
    connect()
    assert sys.excepthook is hook is not before  # once
    hook(ValueError, ValueError(), None)
    hook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert shown == [(ValueError, 0), (KeyboardInterrupt, 1)]
    assert world.calls == [("abort", 1), ("abort", 130)]


def test_a_launcher_with_one_rank_changes_no_hook(launched):
    launched(World(size=1, others=()))
    before = sys.excepthook
    assert connect().size == 1 and sys.excepthook is before


@pytest.mark.parametrize("own, others, warned", [
    (({0, 1}, 2), [({0, 1}, 2)], "2 ranks on this machine run 4 BLAS threads on 2 cores"),
    (({0, 1}, 1), [({0, 1}, 1)], None),
    (({0}, 1), [({0}, 1)], "2 ranks on this machine share 1 core,"),  # as many threads as ranks
    (({0, 1}, 2), [({2, 3}, 2)], None), (({0, 1}, 2), [({2}, 2)], "4 BLAS threads on 3 cores")])
@pytest.mark.parametrize("rank", [0, 1])
def test_more_threads_or_ranks_than_cores_are_a_warning_of_the_first(
        launched, monkeypatch, rank, own, others, warned):
    monkeypatch.setattr(comm, "cores", lambda: own[0])
    monkeypatch.setattr(comm, "blas_threads", lambda: own[1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Ranks(launched(World(rank, others=others))).check_threads()
    assert len(caught) == (rank == 0 and warned is not None)
    assert all(warned in str(one.message) for one in caught)


def test_the_threads_of_ranks_are_checked_when_they_connect(launched, monkeypatch):
    launched(World(others=[({0}, 5)]))
    monkeypatch.setattr(comm, "cores", lambda: {0})
    with pytest.warns(UserWarning, match="set OMP_NUM_THREADS=1 before NumPy is imported"):
        connect()
