"""What does it cost to import, and to predict from a file? Time and peak memory, beside `import numpy`.

Whole processes are measured. The peer is stable-baselines3's way: import sb3_contrib, load the model's zip,
predict. Byte code is written at the first run, as pip writes it for an installed package, whatever
PYTHONDONTWRITEBYTECODE says.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import _timing

PROGRAMS = {
    "python alone": "pass",
    "import numpy": "import numpy",
    "import trpo_np": "import trpo_np",
    "load_policy, predict": "import numpy, trpo_np; "
                            "trpo_np.load_policy('{0}/ours.npz').predict(numpy.zeros(4), deterministic=True)",
    "import TRPO (training)": "from trpo_np import TRPO",
    "sb3-contrib: load, predict": "import numpy; from sb3_contrib import TRPO; TRPO.load('{0}/peer.zip', "
                                  "device='cpu').predict(numpy.zeros(4, 'f'), deterministic=True)",
}
MODELS = ("from trpo_np import TRPO; TRPO('MlpPolicy', 'CartPole-v1').save('{0}/ours')",
          "from sb3_contrib import TRPO; TRPO('MlpPolicy', 'CartPole-v1').save('{0}/peer.zip')")


def run(code):
    """Return seconds and peak memory (MB) of a process, or None if it fails."""
    peak = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    watch = f"import resource, sys; code = {code!r}; exec(code); print({peak})"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        return None
    return seconds, int(done.stdout.split()[-1]) / (1024 if sys.platform != "darwin" else 2**20)


def main():
    args = _timing.arguments(__doc__)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for code in MODELS:  # in processes of their own: a child's peak memory starts at its parent's
            subprocess.run([sys.executable, "-c", code.format(folder)], capture_output=True)
        for _ in range(1 if args.quick else 12):
            for name, code in PROGRAMS.items():
                results.setdefault(name, []).append(run(code.format(folder)))
    print(f"{'':<30}{'seconds':>9}{'MB':>8}")
    summary = {}
    for name, found in results.items():
        found = [x for x in found[not args.quick:] if x]  # the first one reads the disk
        if found:
            summary[name] = [statistics.median(x) for x in zip(*found)]
            print(f"{name:<30}{summary[name][0]:>9.3f}{summary[name][1]:>8.0f}", flush=True)
    heavy = "('numpy', 'numba', 'scipy', 'gymnasium', 'mpi4py')"
    code = f"import sys, trpo_np; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    print("loaded by `import trpo_np`:", loaded)
    _timing.save(args, {"seconds_and_megabytes": summary})


if __name__ == "__main__":
    main()
