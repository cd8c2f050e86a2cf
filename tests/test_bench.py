"""Every bench script runs with --quick, so that none can rot."""

import pathlib
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).parent.parent / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_quick(script, tmp_path):
    done = subprocess.run([sys.executable, str(BENCH / script), "--quick", "--json",
                           str(tmp_path / "out.jsonl")],
                          capture_output=True,
                          text=True, cwd=BENCH.parent, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.jsonl").read_text().startswith('{"machine": {"date"'), done.stdout
