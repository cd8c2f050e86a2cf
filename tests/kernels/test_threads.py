"""How many threads BLAS takes: what the environment says, and not more than there are cores."""

import os

import pytest

from trpo_np.kernels import threads


@pytest.mark.parametrize("said, expected", [
    ({}, 3), ({"OMP_NUM_THREADS": "1"}, 1), ({"OMP_NUM_THREADS": "8"}, 3),
    ({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"}, 2), ({"OMP_NUM_THREADS": "x"}, 3),
    ({"OMP_NUM_THREADS": "0"}, 3)])
def test_threads_of_blas(said, expected, monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: {0, 1, 2})
    for name in threads.THREADS:
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert threads.blas_threads() == expected


def test_cores_are_those_of_this_process(monkeypatch):
    assert len(threads.cores()) >= 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5}, raising=False)
    assert threads.cores() == {2, 5}
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.cores() == {0}
