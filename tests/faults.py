"""Plant faults in the package, one at a time, and see whether the tests break. Run by hand:

    python tests/faults.py                 # all of faults.txt, two at a time, for about an hour
    python tests/faults.py comm envs       # those in files whose names hold one of these words
    python tests/faults.py --list          # how many there are in each file

A fault is planted in a copy of the package in a temporary folder, never in this one. It is seen if one of its
tests fails, on plain NumPy or with compiled kernels. Those that survive are listed at the end; the exit
status is 1 if there are any.

`faults.txt` holds the faults. A line `== FILE: TESTS` names a file of the package, and files or single tests
of tests/ that should see what follows. A fault is its old text, in lines that begin with `- `, and its new
text, in lines that begin with `+ `; the old text must be there exactly once. Empty lines and lines that begin
with `#` are skipped.
"""

import argparse
import ast
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

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
    """Return a file's source with the fault in it; a ValueError says that the old text is not there once."""
    if (count := source.count(fault.old)) != 1:
        raise ValueError(f"{fault}\nthe old text is there {count} times; once is needed")
    return source.replace(fault.old, fault.new)


def check(fault: Fault, source: str) -> None:
    """Raise a ValueError unless the file with the fault is Python and means something else than without."""
    try:
        same = ast.dump(ast.parse(planted(fault, source))) == ast.dump(ast.parse(source))
    except SyntaxError as error:
        raise ValueError(f"{fault}\nthe new text is not Python: {error}") from None
    if same:
        raise ValueError(f"{fault}\nthe new text means the same as the old one")


def copy_to(folder: Path) -> Path:
    """Copy what the tests need of this checkout."""
    for name in ("trpo_np", "tests", "bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("setup.cfg", "README.md"):
        shutil.copy2(ROOT / name, folder)
    return folder


def begin(fault: Fault, folder: Path) -> int:
    """Start a process that runs a fault's tests in a copy of the checkout; return its number.

    It ends with pytest's status: 0 if they pass, 1 if one fails. All run on plain NumPy first, which begins
    sooner, then those that see a difference compiled. A fork of this process has loaded already what takes a
    second to load.
    """
    if pid := os.fork():
        return pid
    os.setsid()  # with the processes that tests start it is a group, to be ended together
    status = 3
    try:
        os.chdir(folder)
        sys.dont_write_bytecode = False  # much of the time goes into byte code
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.path[:] = [str(folder), *(place for place in sys.path if place != str(ROOT / "tests"))]
        for number in (1, 2):
            os.dup2(os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        for mode, chosen in (("0", "not slow"), ("1", "not slow and both_modes")):
            os.environ["TRPO_NP_NUMBA"] = mode
            inner = os.fork()  # pytest runs once in a process
            if not inner:
                status = pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", f"({chosen})",
                                      *(f"tests/{test}" for test in fault.tests)])
                break
            status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
            status = 0 if status == pytest.ExitCode.NO_TESTS_COLLECTED and mode == "1" else status
            if status:
                break
    finally:
        sys.stdout.flush()
        os._exit(status)


def outcomes(faults: list[Fault], copies: list[Path]) -> Iterator[tuple[Fault, bool]]:
    """Plant the faults, in each copy one at a time; yield each with whether it was seen, as they end."""
    todo, idle, running = faults[::-1], copies[:], {}
    try:
        while todo or running:
            while todo and idle:
                fault, folder = todo.pop(), idle.pop()
                path = folder / "trpo_np" / fault.file
                before = path.read_text(), path.stat()
                if fault.line:
                    path.write_text(planted(fault, before[0]))
                    os.utime(path, (fault.line, fault.line))  # each its own time, by which byte code is known
                running[begin(fault, folder)] = fault, folder, path, before, time.monotonic()
            time.sleep(0.02)
            for pid in list(running):
                fault, folder, path, (source, times), began = running[pid]
                ended, status = os.waitpid(pid, os.WNOHANG)
                if late := not ended and time.monotonic() - began > SECONDS:
                    os.killpg(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                if ended and (status := os.waitstatus_to_exitcode(status)) not in (0, 1):
                    said = (folder / "said.txt").read_text()
                    sys.exit(f"{fault}\npytest ended with status {status}\n{said[-3000:]}")
                if ended or late:
                    path.write_text(source)
                    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # numba knows its cache by it
                    (folder / "said.txt").unlink()
                    idle.append(running.pop(pid)[1])
                    yield fault, late or status == 1
    finally:
        for pid in running:
            os.killpg(pid, signal.SIGKILL)


def run(faults: list[Fault], copies: list[Path]) -> list[Fault]:
    """Plant the faults; return those that survive. A test that fails without a fault is an error."""
    survived, began = [], time.monotonic()
    for i, (fault, seen) in enumerate(outcomes(faults, copies), 1):
        if not seen:
            survived.append(fault)
        print(f"{i}/{len(faults)} {'seen' if seen else 'SURVIVED'} {fault.file} line {fault.line}, "
              f"{time.monotonic() - began:.0f} s", flush=True)
    passed = {fault.tests for fault in survived}  # with a fault, hence without, too
    plain = {fault.tests: Fault(0, fault.file, fault.tests, "", "") for fault in faults}
    for fault, seen in outcomes([one for tests, one in plain.items() if tests not in passed], copies):
        if seen:
            sys.exit(f"{' '.join(fault.tests)} fails without any fault, so it has seen nothing")
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
        check(fault, (ROOT / "trpo_np" / fault.file).read_text())
    if options.list:
        for file, count in sorted(Counter(fault.file for fault in faults).items()):
            print(f"{count:4} {file}")
        files = {str(path.relative_to(ROOT / "trpo_np")) for path in (ROOT / "trpo_np").rglob("*.py")}
        print("none:", *sorted(files - {fault.file for fault in faults}))
        sys.exit(f"{len(faults)} faults")
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("gymnasium.vector", "hypothesis", "numba", "scipy.linalg", "xdist"):
        with suppress(ImportError):
            import_module(name)
    # always the same place, since numba's cache holds what was compiled of a file in one place
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = Path(tempfile.gettempdir(), "trpo_np_faults")
    place.mkdir()  # if it is there, another run is at work
    try:
        survived = run(faults, [copy_to(place / str(i)) for i in range(options.jobs)])
    finally:
        shutil.rmtree(place)
    for fault in survived:
        print(f"survived {' '.join(fault.tests)}: {fault}")
    seen = len(faults) - len(survived)
    print(f"{seen} of {len(faults)} faults seen, {seen / max(len(faults), 1):.1%}")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
