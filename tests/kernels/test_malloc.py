"""Freed memory: kept where glibc does the work, left alone where the user or the system has its own way."""

import subprocess
import sys

import pytest

from trpo_np.kernels import malloc as memory

COUNT = """
import resource, numpy as np
from trpo_np.kernels import malloc as memory
kept = memory.keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(2**20)  # 8 MB
before = faults()
for _ in range(100):
    np.ones(2**20)
print(int(kept), (faults() - before) // 100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_arrays_get_pages_that_were_used_before():
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    kept, fresh = map(int, done.stdout.split())
    assert fresh < 10 or not kept  # another C library than glibc cannot be told


def test_the_users_own_setting_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert memory.keep_freed() is False


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed() is False


def test_another_c_library(monkeypatch):
    def without(name):
        raise OSError("no such library")
    for loaded in (without, lambda name: object()):  # or one that has no mallopt
        monkeypatch.setattr(memory.ctypes, "CDLL", loaded)
        assert memory.keep_freed() is False
