"""What a user's type checker sees of the package: tests/programs/typed_user.py says it line by line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
USER = "tests/programs/typed_user.py"


def test_mypy_strict_accepts_a_users_file_and_finds_its_types_not_any():
    pytest.importorskip("mypy")
    # the first check reads all of NumPy; later ones find it in the cache
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
               "--cache-dir", ".mypy_cache/strict", USER]  # not that of `mypy`, whose options differ
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300,
                          env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stdout + done.stderr
