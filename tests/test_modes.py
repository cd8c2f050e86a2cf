"""The suite's second mode leaves out no test of code that has a compiled and a plain way."""

import re
from pathlib import Path

import pytest
from modes import BOTH_MODES, KERNEL_FILES

from trpo_np.kernels import compile as kernels

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "trpo_np"
SAME = {"compile", "malloc", "threads"}  # files of kernels/ that compute nothing


def callers():
    """Yield the test file or folder of each file that imports a kernel."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        names = re.findall(r"^ *from \.+kernels import ([\w, ]+)|^ *from \.+kernels\.(\w+) import", text,
                           re.MULTILINE)
        if {word for pair in names for text in pair for word in re.findall(r"\w+", text)} - SAME:
            room = path.relative_to(PACKAGE).parts[0]
            yield room if (PACKAGE / room).is_dir() else f"test_{room}"


def test_what_calls_a_kernel_is_tested_in_both_modes():
    found = set(callers())
    assert {"ops", "policies", "test_optim.py"} <= found <= set(BOTH_MODES)


@pytest.mark.parametrize("name", BOTH_MODES)
def test_the_table_of_both_modes_names_what_exists(name):
    assert Path(TESTS, name).exists()


def test_the_table_of_files_to_compile_names_all():
    assert {kernel.loop.__module__.rpartition(".")[2] for kernel in kernels.KERNELS} == set(KERNEL_FILES)
