"""Ranks under mpiexec: N are one, to rounding; they stay together; one that fails ends all, at once."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_comm import MPIEXEC, needs_mpi

from trpo_np.files import archive

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PROGRAMS = TESTS / "programs"
pytestmark = needs_mpi


def start(ranks, folder, program, *arguments, **environ):
    """Start a program of tests/programs on some ranks, in a folder, without compiled kernels."""
    command = [*MPIEXEC, "-n", str(ranks), sys.executable, PROGRAMS / f"{program}.py", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
                            env={**os.environ, "TRPO_NP_NUMBA": "0", **environ})


def finish(process, seconds=100):
    """Return a process' status and what it printed; ranks that hang fail the test."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the ranks hang\n{out}\n{err}")
    return process.returncode, out, err


def run(ranks, folder, program, *arguments, **environ):
    """Run a program that ends well; return what it printed."""
    status, out, err = finish(start(ranks, folder, program, *arguments, **environ))
    assert status == 0, out + err
    return out


def since_the_fault(folder):
    """Return the seconds since the program noted that it failed."""
    return time.time() - float((folder / "fault").read_text())


# --- N ranks are one ----------------------------------------------------------------------------------------

def test_one_two_and_four_ranks_give_the_same_step(tmp_path):
    programs = []
    for ranks in (1, 2, 4):
        (tmp_path / str(ranks)).mkdir()
        programs.append(start(ranks, tmp_path / str(ranks), "same_step"))
    for program in programs:
        status, out, err = finish(program)
        assert status == 0, out + err
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-12)):
        one, *others = (np.load(tmp_path / f"{n}/{dtype}_{n}.npz") for n in (1, 2, 4))
        for n, many in zip((2, 4), others):
            for name in one:
                size = np.linalg.norm(one["update" if name == "minibatches" else name])
                error = np.linalg.norm(many[name] - one[name]) / size
                print(f"{dtype} {n} ranks {name:16}{error:10.1e}")
                # in a step alone, conjugate gradient multiplies rounding by the condition of F + damping
                assert error < tolerance * (20 if name == "step" else 1), (name, dtype, n)


# --- they stay together -------------------------------------------------------------------------------------

def test_ranks_are_the_same_to_the_bit_after_200_updates(tmp_path):
    assert "steps" in run(2, tmp_path, "together", "long", "200")


@pytest.mark.parametrize("algorithm", ["recursive_doubling", "reduce_scatter_allgather", "ring"])
def test_ranks_are_the_same_with_each_algorithm_of_reduction(tmp_path, algorithm):
    settings = {"MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": algorithm, "MPIR_CVAR_DEVICE_COLLECTIVES": "none"}
    assert "steps" in run(3, tmp_path, "together", "long", "10", **settings)


def test_a_rank_that_drifts_by_one_bit_is_named(tmp_path):
    status, out, err = finish(start(3, tmp_path, "failing", "drift"))
    assert status not in (0, None)
    assert "must be the same on all ranks, but of 3 ranks these differ from the others: 2" in err


@pytest.mark.parametrize("case, sentence", [
    ("other_gamma", "settings.*these differ from the others: 1"),
    ("other_steps", "total_timesteps and log_interval of learn must be the same on all ranks")])
def test_ranks_with_other_settings_are_named(tmp_path, case, sentence):
    status, out, err = finish(start(2, tmp_path, "failing", case))
    assert status != 0 and re.search(sentence, err, re.DOTALL), err


def test_ranks_share_the_batch_of_the_job(tmp_path):
    assert run(3, tmp_path, "together", "shares").count("shared") == 3


def test_an_update_takes_few_collectives(tmp_path):
    """8, and one for each Fisher product, trial step and minibatch, and 2 for each normalisation."""
    run(2, tmp_path, "together", "collectives")


@pytest.mark.parametrize("hook", ["_on_step", "_on_rollout_end", "_on_update_end"])
def test_a_callback_that_stops_one_rank_stops_all(tmp_path, hook):
    assert run(2, tmp_path, "together", "stops", hook).count("stopped") == 2


def test_a_gradient_of_nan_on_one_rank_changes_nothing_on_any(tmp_path):
    run(2, tmp_path, "together", "nan")


def test_ranks_see_and_do_different_things(tmp_path):
    run(2, tmp_path, "together", "differ")


def test_a_resumed_evaluation_is_rank_0s_on_all_ranks(tmp_path):
    run(2, tmp_path, "together", "resumed")


# --- one that fails ends all, and says why ------------------------------------------------------------------

DIVISION = "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("case, cause", [
    ("environment", r"ZeroDivisionError: in the environment\n.*rank 1 of 2 ends the job"),
    ("nan", "environment 0 gave an observation with nan in field 0"),
    ("callback", DIVISION), ("learn", DIVISION), ("caught", DIVISION), ("pretrain", DIVISION),
    ("exits", "SystemExit: no more"), ("script", "KeyError: 'my own mistake'"), ("killed", "signal 9"),
    ("disk_full", "OSError: .*File too large")])
def test_a_rank_that_fails_ends_all(tmp_path, case, cause):
    status, out, err = finish(start(2, tmp_path, "failing", case), 40)
    took = since_the_fault(tmp_path)
    assert status != 0 and re.search(cause, out + err, re.DOTALL) and took < 10, (status, took, out, err)


@pytest.mark.parametrize("case, cause", [("raises", "job: error: a wheel came off"),
                                         ("is_missing", "job: error: the simulator has no licence here")])
def test_a_job_in_which_a_rank_fails_ends(tmp_path, case, cause):
    status, out, err = finish(start(2, tmp_path, "job", case), 40)
    took = since_the_fault(tmp_path)
    assert status != 0 and cause in err and took < 10, (status, took, out, err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_launcher_saves_and_ends_all(tmp_path, number):
    # Open MPI's mpirun hands on SIGUSR1. On the others it waits, sends SIGTERM, waits as long, kills what is
    # left and returns a status of its own, 1, whatever that of the ranks was.
    open_mpi = "openmpi" in MPIEXEC[0] and number != signal.SIGUSR1
    patience = float(os.environ.get("OMPI_MCA_odls_base_sigkill_timeout", 1))
    process = start(2, tmp_path, "job", "lasts")
    while "total_timesteps" not in process.stdout.readline():  # of the table after ten updates
        assert process.poll() is None
    process.send_signal(number)
    came = time.monotonic()
    status, out, err = finish(process, 40)
    assert status == (1 if open_mpi else 130), (status, out, err)
    assert time.monotonic() - came < 10 + (2 * patience if open_mpi else 0)
    steps = archive.read_archive(tmp_path / "m.npz")[0]["progress"]["num_timesteps"]
    assert steps % 2048 == 0 and steps >= 20480
    assert re.search(rf"{steps:,} steps in .*; saved to m.npz, from where --load goes on\nstopped", out), out


def test_a_script_with_a_communicator_of_its_own_ends_all(tmp_path):
    status, out, err = finish(start(2, tmp_path, "failing", "own_communicator"), 40)
    assert status != 0 and "behind the training" in err and "rank 1 of 2 ends the job" in err


def test_ranks_that_leave_with_success_end_nothing(tmp_path):
    status, out, err = finish(start(2, tmp_path, "failing", "success"), 40)
    assert status == 0 and "ends the job" not in err, out + err


# --- a job that goes on -------------------------------------------------------------------------------------

def test_a_job_that_loses_a_rank_goes_on_with_fewer_and_the_same_batch(tmp_path):
    job = ["lasts", "--preset", "tuned", "--vf-iters", "1", "--save-every", "4096", "--log-interval", "1"]
    process, reached = start(4, tmp_path, "job", *job), 0
    while reached < 10_000:
        line = process.stdout.readline()
        assert process.poll() is None
        if found := re.search(r"total_timesteps +\| (\d+)", line):
            reached = int(found[1])
    os.kill(int((tmp_path / "pid2").read_text()), signal.SIGKILL)
    killed = time.monotonic()
    status, out, err = finish(process, 40)
    assert status != 0 and time.monotonic() - killed < 10, (status, out, err)
    reached = max([reached, *map(int, re.findall(r"total_timesteps +\| (\d+)", out))])
    saved = archive.read_archive(tmp_path / "m.npz")[0]["progress"]["num_timesteps"]
    assert saved % 2048 == 0 and saved >= reached - 4096
    out = run(2, tmp_path, "job", *job, "--resume", "--num-timesteps", str(saved + 4096))
    assert "an update takes 2,048 steps in all, 1,024 on each rank; with another number of ranks" in out
    assert f"m.npz: {saved:,} steps so far" in " ".join(out.split()) and "4,096 steps in" in out


# --- how ranks begin ----------------------------------------------------------------------------------------

def with_ranks(folder, *arguments):
    """Start the program job as a user does, with the option --ranks."""
    foreign = ("PMI", "OMPI", "MPI4PY")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    command = [sys.executable, PROGRAMS / "job.py", "lasts", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
                            env={**environ, "TRPO_NP_NUMBA": "0"})


def test_a_job_starts_its_own_ranks(tmp_path):
    process = with_ranks(tmp_path, "--preset", "tuned", "--num-timesteps", "4096", "--ranks", "2")
    status, out, err = finish(process)
    assert status == 0, out + err
    assert out.count("2 ranks with 1 environment each, 2 in all") == 1
    assert "an update takes 2,048 steps in all, 1,024 on each rank; with another" in out
    assert "4,096 steps in" in out and out.count("deterministic return") == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be kept on one core here")
def test_more_ranks_than_cores_are_one_warning(tmp_path):
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usual)})  # which a process hands on to those that it starts
    try:
        process = with_ranks(tmp_path, "--preset", "tuned", "--num-timesteps", "2048", "--ranks", "2")
    finally:
        os.sched_setaffinity(0, usual)
    status, out, err = finish(process)
    assert status == 0 and err.count("2 ranks on this machine share 1 core,") == 1, out + err


def test_a_signal_to_a_job_reaches_the_ranks_that_it_started(tmp_path):
    process = with_ranks(tmp_path, "--ranks", "2")
    while "total_timesteps" not in process.stdout.readline():
        assert process.poll() is None
    process.terminate()
    status, out, err = finish(process, 40)
    assert status == 130 and "saved to m.npz" in out and out.count("stopped") == 1, (status, out, err)


def test_ranks_say_once_what_all_would_say(tmp_path):
    for arguments, sentence in [(["--load", "none"], "job: error: none: no archive"),
                                (["--typo"], "error: unrecognized arguments: --typo"),
                                (["--ranks", "2"], "error: --ranks 2 does not fit: a launcher started this")]:
        status, out, err = finish(start(3, tmp_path, "job", "lasts", *arguments), 60)
        assert status != 0 and (out + err).count(sentence) == 1, (out, err)
    status, out, err = finish(start(3, tmp_path, "job", "lasts", "--help"), 60)
    assert status == 0 and out.count("usage:") == 1 and not err


@pytest.fixture
def own_copy(tmp_path):
    """Copy the package to a folder without compiled kernels; return the environment that uses it."""
    pytest.importorskip("numba")
    shutil.copytree(ROOT / "trpo_np", tmp_path / "trpo_np", ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS)]), "PYTHONDONTWRITEBYTECODE": "1",
            "TRPO_NP_NUMBA": "1", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_ranks_with_a_cold_cache_compile_once(tmp_path, own_copy):
    out = run(3, tmp_path, "together", "compiled", **own_copy, NUMBA_CACHE_DIR=str(tmp_path / "numba"))
    number = int(re.search(r"kernels (\d+)", out)[1])
    assert number and f"found {[0, number, number]}" in out


def test_ranks_that_can_write_nowhere_compile_each(tmp_path, own_copy):
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "NUMBA_CACHE_DIR": f"{os.devnull}/numba"}
    (tmp_path / "trpo_np" / "kernels" / "__pycache__").write_text("a file where a folder is needed")
    assert "found [0, 0]" in run(2, tmp_path, "together", "compiled", **own_copy | nowhere)


def test_threads_beyond_the_cores_are_a_warning(tmp_path):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    out = run(2, tmp_path, "together", "threads", OPENBLAS_NUM_THREADS=str(cores))
    warned = f"2 ranks on this machine run {2 * cores} BLAS threads on {cores} cores"
    assert (warned in out) == (cores > 1) and out.count("[]") >= 1


def test_threads_within_the_cores_are_no_warning(tmp_path):
    settings = dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    assert run(2, tmp_path, "together", "threads", **settings).count("[]") == 2


@pytest.mark.parametrize("absent", [True, False])
def test_one_process_never_starts_mpi(tmp_path, absent):
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "OMPI"))}
    command = [sys.executable, PROGRAMS / "together.py", "alone", str(absent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60,
                          env={**environ, "TRPO_NP_NUMBA": "0"})
    assert done.returncode == 0 and done.stdout == "caught\n", done.stderr


def test_mpiexec_with_one_rank_is_one_process(tmp_path):
    assert run(1, tmp_path, "together", "caught") == "caught\n"
