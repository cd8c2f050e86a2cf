"""Plant faults in the package, one at a time, and see whether the tests break. Run by hand:

    python tests/faults.py                 # all of faults.txt, two at a time, for about half an hour
    python tests/faults.py comm envs       # those in files whose names hold one of these words
    python tests/faults.py --list          # how many there are in each file

A fault is planted in a copy of the package in a temporary folder, never in this one. It is seen if one of its
tests fails: with compiled kernels or, of tests that run in both modes, on plain NumPy. Those that survive are
listed at the end; the exit status is 1 if there are any.

`faults.txt` holds the faults. A line `== FILE: TESTS` names a file of the package, and files or single tests
of tests/ that should see what follows. A fault is its old text, in lines that begin with `- `, and its new
text, in lines that begin with `+ `; the old text must be there exactly once. Empty lines and lines that begin
with `#` are skipped.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from modes import BOTH_MODES

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ROOT / "tests" / "faults.txt"
SECONDS = 300  # after which a test that a fault keeps busy counts as failed


class Fault(NamedTuple):
    """A wrong edit of the package, and the tests that should see it."""

    line: int  # of faults.txt
    file: str  # of the package
    tests: tuple
    old: str
    new: str

    def __str__(self):
        return f"faults.txt:{self.line} {self.file}\n    - " + self.old.replace("\n", "\n    - ") + (
            "\n    + " + self.new.replace("\n", "\n    + "))


def read(text: str) -> list[Fault]:
    """Read the faults in a text such as faults.txt."""
    found, file, tests, parts, first = [], "", (), {"-": [], "+": []}, 0
    for number, line in enumerate([*text.splitlines(), "=="], 1):
        if not line.startswith("+") and parts["+"]:  # the fault before this line is complete
            found.append(Fault(first, file, tests, *("\n".join(parts[sign]) for sign in "-+")))
            parts = {"-": [], "+": []}
        if line.startswith(("-", "+")):
            first = first if any(parts.values()) else number
            parts[line[0]].append(line[2:])
        elif parts["-"]:
            raise ValueError(f"faults.txt:{number} the fault from line {first} on has no new text (+)")
        elif line.startswith("== "):
            file, _, names = line[3:].partition(": ")
            tests = tuple(names.split())
        elif line and not line.startswith(("#", "==")):
            raise ValueError(f"faults.txt:{number} begins with neither -, +, # nor ==: {line!r}")
    return found


def planted(fault: Fault, source: str) -> str:
    """Return a file's source with the fault in it; a ValueError says why the fault does not fit."""
    if (count := source.count(fault.old)) != 1:
        raise ValueError(f"{fault}\nthe old text is there {count} times; once is needed")
    faulty = source.replace(fault.old, fault.new)
    try:
        same = ast.dump(ast.parse(faulty)) == ast.dump(ast.parse(source))
    except SyntaxError as error:
        raise ValueError(f"{fault}\nthe new text is not Python: {error}") from None
    if same:
        raise ValueError(f"{fault}\nthe new text means the same as the old one")
    return faulty


def copy_to(folder: Path) -> Path:
    """Copy what the tests need of this checkout."""
    for name in ("trpo_np", "tests", "bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("setup.cfg", "README.md"):
        shutil.copy2(ROOT / name, folder)
    return folder


def passes(folder: Path, tests: tuple, numba: str, workers: str = "0") -> bool:
    """Run tests in a copy of the checkout; return whether they pass. Anything but a failure is an error."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", workers, "-p", "no:cacheprovider",
               *(f"tests/{test}" for test in tests)]
    environ = {**os.environ, "TRPO_NP_NUMBA": numba, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environ, text=True, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, _ = process.communicate(timeout=SECONDS if workers == "0" else None)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # the tests' own processes, too
        process.communicate()
        return False
    if numba == "0" and process.returncode == 5:  # none of them runs in this mode
        return True
    if process.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with status {process.returncode}\n{said[-3000:]}")
    return process.returncode == 0


def modes_of(fault: Fault) -> list[str]:
    """Return the values of TRPO_NP_NUMBA to try: in a kernel's file the one that compiles nothing first."""
    both = any(test.split("/")[0].split("::")[0] in BOTH_MODES for test in fault.tests)
    modes = ["1", "0"] if both else ["1"]
    return modes[::-1] if fault.file.startswith("kernels/") else modes


def is_seen(fault: Fault, folder: Path) -> bool:
    """Plant a fault in a copy of the checkout, run its tests, and take it out again."""
    path = folder / "trpo_np" / fault.file
    source, times = path.read_text(), path.stat()
    path.write_text(planted(fault, source))
    try:
        return not all(passes(folder, fault.tests, numba) for numba in modes_of(fault))
    finally:
        path.write_text(source)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # by which numba knows its cache


def run(faults: list[Fault], jobs: int) -> list[Fault]:
    """Plant the faults, `jobs` at a time, each job in a copy of its own; return those that survive."""
    survived, began = [], time.monotonic()
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(jobs) as pool:
        copies: SimpleQueue = SimpleQueue()
        for i in range(jobs):
            copies.put(copy_to(Path(place) / str(i)))
        folder = copies.get()
        tests = tuple(dict.fromkeys(test for fault in faults for test in fault.tests))
        for numba in ("1", "0"):
            if not passes(folder, tests, numba, str(jobs)):
                sys.exit("the tests fail without any fault")
        copies.put(folder)
        print(f"the tests pass without a fault, after {time.monotonic() - began:.0f} s", flush=True)

        def work(fault):
            folder = copies.get()
            try:
                return is_seen(fault, folder)
            finally:
                copies.put(folder)
        for i, (fault, seen) in enumerate(zip(faults, pool.map(work, faults)), 1):
            if not seen:
                survived.append(fault)
            print(f"{i}/{len(faults)} {'seen' if seen else 'SURVIVED'} {fault.file} line {fault.line}, "
                  f"{time.monotonic() - began:.0f} s", flush=True)
    return survived


def main() -> None:
    """Read the options, plant the faults, print the score."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", metavar="WORD", help="only files whose names hold one of these")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="only count the faults of each file")
    options = parser.parse_args()
    faults = [fault for fault in read(FAULTS.read_text())
              if not options.files or any(word in fault.file for word in options.files)]
    for fault in faults:
        planted(fault, (ROOT / "trpo_np" / fault.file).read_text())
    if options.list:
        for file, count in sorted(Counter(fault.file for fault in faults).items()):
            print(f"{count:4} {file}")
        sys.exit(f"{len(faults)} faults")
    survived = run(faults, options.jobs)
    for fault in survived:
        print(f"survived {' '.join(fault.tests)}: {fault}")
    seen = len(faults) - len(survived)
    print(f"{seen} of {len(faults)} faults seen, {seen / max(len(faults), 1):.1%}")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
