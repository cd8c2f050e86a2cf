"""How long does a newcomer wait, from an empty virtual environment to the first table of returns?

Each side is installed into an environment of its own, by pip without its cache, then trains on HalfCheetah-v5
until the first table is out: here by `python -m trpo_np.run_mujoco`, which first compiles the kernels, in the
peer by a script of three lines. The second first table is that of a later run, when all has been read from
disk and compiled. pip may find packages on the network or on this disk: the seconds of `install` say as much
about that as about their size. --quick measures the interpreter that runs it, and installs nothing.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _timing

ROOT = Path(__file__).parents[1]
PEER = """
from sb3_contrib import TRPO
TRPO("MlpPolicy", "HalfCheetah-v5", verbose=1, device="cpu").learn(10_000)
"""
SIDES = {"trpo_np": ([f"{ROOT}[mujoco]"], ["-m", "trpo_np.run_mujoco", "--env", "HalfCheetah-v5"]),
         "sb3-contrib": (["stable-baselines3", "sb3-contrib", "gymnasium[mujoco]"], ["-c", PEER])}


def installed(folder, packages):
    """Install packages into a new virtual environment; return its Python, the seconds and the megabytes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(Path(folder) / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-cache-dir", *packages], check=True)
    seconds = time.perf_counter() - started
    size = sum(path.lstat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return python, seconds, size / 1e6


def first_table(python, words, environment):
    """Return the seconds until a program has printed a table; it is ended then."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place, subprocess.Popen(
            [python, *words], cwd=place, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL) as program:
        found = any("total_timesteps" in line for line in program.stdout)
        seconds = time.perf_counter() - started
        program.kill()
    if not found:
        raise SystemExit(f"{python} {' '.join(words)} printed no table")
    return seconds


def main():
    args = _timing.arguments(__doc__, torch=dict(default="torch", metavar="REQUIREMENT", help=(
        "which PyTorch pip installs for the peer, such as torch==2.13.0+cpu (default: what it chooses)")))
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if args.quick:
        python = sys.executable
        words = SIDES["trpo_np"][1][:-1] + ["CartPole-v1", "--log-interval", "1"]
        seconds = first_table(python, words, environment | {"PYTHONPATH": str(ROOT)})
        print(f"first table of trpo_np: {seconds:.1f} seconds")
        return _timing.save(args, {"first_table": seconds})
    results = {"load": os.getloadavg()[0]}
    print(f"{'':<14}{'install':>9}{'MB':>8}{'first table':>13}{'together':>10}{'next time':>11}   seconds")
    for name, (packages, words) in SIDES.items():
        with tempfile.TemporaryDirectory() as place:
            environment["NUMBA_CACHE_DIR"] = f"{place}/numba"
            packages = packages if name == "trpo_np" else [*packages, args.torch]
            python, seconds, size = installed(f"{place}/venv", packages)
            first = first_table(python, words, environment)
            again = first_table(python, words, environment)
        results[name] = {"install": seconds, "megabytes": size, "first_table": first, "next_time": again}
        print(f"{name:<14}{seconds:>9.1f}{size:>8.0f}{first:>13.1f}{seconds + first:>10.1f}{again:>11.1f}",
              flush=True)
    _timing.save(args, results)


if __name__ == "__main__":
    main()
