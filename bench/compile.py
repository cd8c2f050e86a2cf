"""How long do kernels take to compile, once on a machine, and to load from the cache in every later process?

Each figure comes from a process of its own with a cache of its own: the time of `kernels.compile_all` for
what a policy's first `learn` needs, numba's import included; with --quick for the smallest file alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import _timing

POLICIES = ["MlpPolicy", "CnnPolicy", "MlpLstmPolicy", "CnnLnLstmPolicy"]


def worker(name):
    from trpo_np import policies
    from trpo_np.kernels import compile as kernels
    bases = getattr(policies, name).__mro__ if name in POLICIES else ()
    files = {file for base in bases for file in vars(base).get("loops", ())} or {name}
    started = time.perf_counter()
    kernels.compile_all(files)
    print(json.dumps(time.perf_counter() - started))


def main():
    args = _timing.arguments(__doc__)
    results = {}
    print(f"{'seconds':<18}{'first':>8}{'later':>8}")
    for name in ["scalar"] if args.quick else POLICIES:
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "NUMBA_CACHE_DIR": folder}
            command = [sys.executable, __file__, "worker", name]
            runs = [subprocess.run(command, env=env, capture_output=True, text=True, check=True)
                    for _ in range(2 if args.quick else 4)]
        first, *later = (float(run.stdout.split()[-1]) for run in runs)
        results[name] = {"first": first, "later": min(later)}
        print(f"{name:<18}{first:>8.2f}{min(later):>8.2f}", flush=True)
    _timing.save(args, {"seconds": results})


if __name__ == "__main__":
    worker(sys.argv[2]) if sys.argv[1:2] == ["worker"] else main()
