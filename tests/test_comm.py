"""One process, and two real ranks under mpiexec."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trpo_np.comm import LAUNCHED, OneProcess, Ranks, connect

MPIEXEC = next((str(p) for p in [Path(sys.executable).with_name("mpiexec")] if p.exists()),
               shutil.which("mpiexec"))
needs_mpi = pytest.mark.skipif(MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
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
say["matrix"] = comm.sum(np.eye(4)[:, ::2] * (r + 1))[:, 1].tolist()  # not contiguous
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
    command = [MPIEXEC, "-n", "2", sys.executable, "script.py"]
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
