"""What every bench script needs: timing, the machine's description, one JSON line per result."""

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trpo_np.kernels.threads import THREADS

RESULTS = Path(__file__).parent / "results"
for _name in THREADS:
    os.environ.setdefault(_name, "1")  # one thread on both sides; before NumPy loads


def arguments(description: str, **extra) -> argparse.Namespace:
    """Parse --quick, --json and a script's own options (name -> dict of add_argument)."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true",
                   help="seconds instead of minutes: shows that the script works, not the figures")
    p.add_argument("--json", metavar="FILE",
                   help="append the results here (default: bench/results/NAME.jsonl; not with --quick)")
    for name, options in extra.items():
        p.add_argument(f"--{name.replace('_', '-')}", **options)
    args = p.parse_args()
    print(json.dumps(machine()), flush=True)
    return args


def machine() -> dict:
    """Describe what the figures depend on."""
    cpu = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", _text("/proc/cpuinfo"), re.MULTILINE))
    name = ", ".join([cpu.pop("model name", platform.processor()),
                      *(f"{key.split()[-1]} {value}" for key, value in cpu.items())])
    about = {"date": datetime.date.today().isoformat(), "cpu": name, "cores": os.cpu_count(),
             "python": platform.python_version(), "threads": os.environ["OMP_NUM_THREADS"]}
    for package in ("numpy", "numba", "gymnasium", "mujoco", "torch", "sb3-contrib"):
        try:
            about[package] = version(package)
        except PackageNotFoundError:
            pass
    try:
        import numpy  # noqa: F401  (loads its BLAS)
        import threadpoolctl

        loaded = [pool for pool in threadpoolctl.threadpool_info() if "numpy" in pool["filepath"]
                  and pool["user_api"] == "blas"]
        about["blas"] = " ".join(f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}"
                                 for pool in loaded)
    except ImportError:
        pass
    return about


def _text(path: str) -> str:
    return Path(path).read_text() if os.path.exists(path) else ""


def save(args: argparse.Namespace, results: dict) -> None:
    """Write the machine, the command and the results as one line."""
    if args.quick and not args.json:
        return
    path = Path(args.json) if args.json else RESULTS / f"{Path(sys.argv[0]).stem}.jsonl"
    path.parent.mkdir(exist_ok=True)
    script, words = Path(sys.argv[0]), sys.argv[1:]
    if args.json:  # where the line goes says nothing about the result
        del words[(at := words.index("--json")):at + 2]
    command = shlex.join(["python", f"{script.parent.name}/{script.name}", *words])
    with open(path, "a") as file:
        file.write(json.dumps({"machine": machine(), "command": command, **results}) + "\n")


def best(fun, seconds: float = 0.5, repeats: int = 5) -> float:
    """Return the shortest mean time of one call, in seconds, over `repeats` rounds."""
    fun()
    started = time.perf_counter()
    fun()
    number = max(1, int(seconds / repeats / max(time.perf_counter() - started, 1e-9)))
    rounds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(number):
            fun()
        rounds.append((time.perf_counter() - started) / number)
    return min(rounds)
