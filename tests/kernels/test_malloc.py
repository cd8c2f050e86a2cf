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


@pytest.mark.parametrize("largest, told, kept", [
    (2**30, [(-3, 2**30), (-1, 2**31 - 1)], True),
    (2**25, [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)], True),  # an older version
    (0, [(-3, 2**30), (-3, 2**25)], False),
])
def test_what_the_c_library_is_told(monkeypatch, largest, told, kept):
    """Of large arrays first: told of trimming alone, it would map each of them anew."""
    class Library:
        def mallopt(self, what, size):
            calls.append((what, size))
            return int(what == -1 or size <= largest)
    calls = []
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library())
    assert memory.keep_freed() is kept and calls == told
