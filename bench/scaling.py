"""How does training scale over MPI ranks? Measured at 1 and 2 ranks here, predicted for up to 1,024.

The model: all ranks share the batch of the job, so an update on P ranks takes

    fixed + shared / P + wait for the slowest rank + sum over its collectives of their time

`fixed` is what does not shrink with the samples, such as conjugate gradient's and Adam's work on vectors;
one process shows it with its batches cut to an eighth. --changes measures other settings: larger batches
scale further.

With a the latency and b the time of a byte, an all-reduce of n bytes over P ranks takes log2(P) (a + n b) up
to 2 kB and beyond 2 log2(P) a + 2 (P - 1) / P n b, as MPICH chooses; a broadcast the cheaper of log2(P) (a +
n b) and (log2(P) + P - 1) a + 2 n b; an all-gather of objects 2 log2(P) a + P n b. Over TCP, the sender of
more than 64 bytes also waits for the acknowledgement: 2 a for each a. Within a machine, latency and bandwidth
are those measured here, between machines those of the network; the ranks of a machine reduce among themselves
first. Compute and the bytes of collectives are measured in one process.
"""

import importlib.util
import json
import math
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import _timing

# in seconds; 2 latencies: TCP, 1: RDMA and shared memory
MESSAGE = ("latency", "seconds a byte", "latencies a message")
NETWORKS = {"1 Gbit/s": (50e-6, 8 / 1e9, 2), "10 Gbit/s": (20e-6, 8 / 1e10, 2),
            "100 Gbit/s": (3e-6, 8 / 1e11, 1)}
RANKS = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
PARTS = 8  # into which the batch is cut to see what does not shrink with it
MPIEXEC = next((str(p) for p in [Path(sys.executable).with_name("mpiexec")] if p.exists()),
               shutil.which("mpiexec"))


# --- the model ----------------------------------------------------------------------------------------------

def collective(kind: str, n: float, ranks: int, network: tuple) -> float:
    """Return the seconds that a collective of n bytes a rank takes among ranks that are all equally far."""
    if ranks == 1:
        return 0.0
    a, b, acknowledged = network
    a, steps = a * (acknowledged if n > 64 else 1), math.ceil(math.log2(ranks))
    if kind == "gather":  # first the sizes
        return steps * network[0] + steps * a + ranks * n * b
    if kind in ("bcast", "align"):
        return min(steps * (a + n * b), (steps + ranks - 1) * a + 2 * n * b)
    return steps * (a + n * b) if n <= 2048 else 2 * steps * a + 2 * (ranks - 1) / ranks * n * b


def communication(calls: list, ranks: int, per_host: int, inside: tuple, between: tuple) -> float:
    """Return the seconds of an update's collectives, [kind, bytes, number], within and between machines."""
    local, hosts = min(ranks, per_host), math.ceil(ranks / per_host)
    return sum(number * (collective(kind, n, local, inside) + collective(kind, n, hosts, between))
               for kind, n, number in calls)


def predict(one: dict, ranks: int, per_host: int, inside: tuple, between: tuple) -> float:
    """Return the seconds of an update on many ranks, from what it took on one."""
    compute = one["fixed"] + (one["seconds"] - one["fixed"]) / ranks
    return compute + communication(one["calls"], ranks, per_host, inside,
                                   between) + wait(one["spread"], ranks) * compute / one["seconds"]


def wait(spread: float, ranks: int) -> float:
    """Return by how much the slowest of many ranks is later than the mean one, if their times are normal."""
    return spread * math.sqrt(2 * math.log(ranks))


# --- what is measured ---------------------------------------------------------------------------------------

class Meter:
    """Ranks that note each collective and the time in it."""

    def __init__(self, comm):
        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        self.clear()

    def __getattr__(self, name):
        return getattr(self.comm, name)

    def clear(self):
        self.calls, self.seconds = {}, 0.0

    def _timed(self, kind, x):
        n = len(pickle.dumps(x)) if kind in ("gather", "bcast") else x.nbytes if hasattr(x, "nbytes") else 8
        self.calls[kind, n] = self.calls.get((kind, n), 0) + 1
        started = time.perf_counter()
        result = getattr(self.comm, kind)(x)
        self.seconds += time.perf_counter() - started
        return result

    def sum(self, x):
        return self._timed("sum", x)

    def gather(self, x):
        return self._timed("gather", x)

    def bcast(self, x):
        return self._timed("bcast", x)

    def align(self, x):
        return self._timed("align", x)


def make_model(case, comm, parts=1, changes=None):
    from trpo_np import TRPO, presets
    from trpo_np.settings import Settings
    network, env_id = case.split(":")
    preset, options = (presets.tuned(env_id), {}) if network == "mlp" else presets.atari("tuned")
    preset |= changes or {}
    kwargs = preset.pop("policy_kwargs", {})
    settings = vars(Settings(**preset).for_rank(parts)) | {"batch_of": "job"}
    if network == "mlp":
        from trpo_np.envs import make_env
        return TRPO("MlpPolicy", make_env(env_id), seed=0, comm=comm, policy_kwargs=kwargs, **settings)
    from trpo_np import atari
    return TRPO("CnnPolicy", atari.make_atari(env_id, 8, **options), seed=0, comm=comm,
                policy_kwargs=kwargs | {"cnn_extractor": network}, **settings)


def worker(case, updates, parts=1, changes=None):
    """Train on a part of the batch; print what an update took, phase by phase, as JSON (rank 0)."""
    import numpy as np

    from trpo_np import update
    from trpo_np.callbacks import BaseCallback
    from trpo_np.comm import connect
    comm = Meter(connect())
    model = make_model(case, comm, parts, changes)
    phases = {}

    def timed(name, fun):
        def inner(*args, **kwargs):
            started = time.perf_counter()
            try:
                return fun(*args, **kwargs)
            finally:
                phases[name] = phases.get(name, 0.0) + time.perf_counter() - started
        return inner
    update.trust_region_step = timed("step", update.trust_region_step)
    update.fit = timed("critic", update.fit)
    model.update = timed("update", model.update)
    rows, started = [], []

    class Watch(BaseCallback):
        def _on_rollout_start(self):
            now = time.perf_counter()
            if started:
                rows.append([now - started[-1], comm.seconds, dict(phases), dict(comm.calls)])
            comm.clear()
            phases.clear()
            started.append(now)

        def _on_update_end(self):
            return len(started) <= updates + 2
    model.learn(1e12, Watch())
    rows = rows[2:]  # the first ones load kernels and touch memory
    seconds = [row[0] for row in rows]
    steps = model.num_timesteps / (model.updates * comm.size)  # of a rank
    parts = {name: statistics.mean(row[2].get(name, 0.0) for row in rows)
             for name in ("update", "step", "critic")}
    parts = {"rollout": statistics.mean(seconds) - parts["update"], "step": parts["step"],
             "critic": parts["critic"], "rest": parts["update"] - parts["step"] - parts["critic"]}
    calls = {}
    for _, _, _, each in rows:
        for key, number in each.items():
            calls[key] = calls.get(key, 0) + number / len(rows)
    spread = statistics.stdev(seconds) if len(seconds) > 1 else 0.0
    gathered = comm.gather([statistics.mean(seconds), statistics.mean(row[1] for row in rows)])
    if comm.rank == 0:
        print(json.dumps({"ranks": comm.size, "seconds": float(np.mean(gathered, axis=0)[0]),
                          "spread": spread, "steps": steps,
                          "in_collectives": float(np.mean(gathered, axis=0)[1]), "phases": parts,
                          "parameters": model.policy.params.flat.size,
                          "calls": [[*key, n] for key, n in calls.items()]}))


def ping(rounds):
    """Measure latency and time of a byte between two ranks by messages to and fro; print them (rank 0)."""
    import numpy as np
    from mpi4py import MPI
    comm, times = MPI.COMM_WORLD, {}
    for n in (8, 4_000_000):
        x, found = np.zeros(n, np.uint8), []
        for _ in range(rounds):
            comm.Barrier()
            started = time.perf_counter()
            for _ in range(20):
                if comm.rank == 0:
                    comm.Send(x, 1)
                    comm.Recv(x, 1)
                else:
                    comm.Recv(x, 0)
                    comm.Send(x, 0)
            found.append((time.perf_counter() - started) / 40)
        times[n] = min(found)
    if comm.rank == 0:
        print(json.dumps([times[8], (times[4_000_000] - times[8]) / 4_000_000, 1]))


def can_launch() -> bool:
    return MPIEXEC is not None and importlib.util.find_spec("mpi4py") is not None


def run(ranks, *job, prefix=(), options=(), environ=None, seconds=1800):
    """Run this script's worker on so many ranks; return what it printed, or None where it cannot run."""
    launcher = [*prefix, MPIEXEC, *options, "-n", str(ranks)] if ranks > 1 else []
    try:
        done = subprocess.run([*launcher, sys.executable, __file__, *map(str, job)], capture_output=True,
                              text=True, check=True, env={**os.environ, **(environ or {})}, timeout=seconds,
                              stdin=subprocess.DEVNULL)
    except subprocess.SubprocessError as error:
        print(f"{' '.join(map(str, job))} on {ranks} ranks did not run: {error}\n{str(error.stderr)[-500:]}",
              flush=True)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


# --- the report ---------------------------------------------------------------------------------------------

def measure(case, updates, rounds=1, most=1, changes="{}"):
    """Return the medians at 1 and 2 ranks (at most `most`), taking turns; at 1 rank with what is `fixed`."""
    found = {(1, 1): [], (1, PARTS): [], (2, 1): []}
    for _ in range(rounds):
        for (ranks, parts), results in found.items():
            if ranks <= most and (result := run(ranks, "worker", case, updates, parts, changes)):
                results.append(result)
    median = {key: sorted(results, key=lambda r: r["seconds"])[len(results) // 2]
              for key, results in found.items() if results}
    if {(1, 1), (1, PARTS)} <= median.keys():
        whole, part = median[1, 1]["seconds"], median[1, PARTS]["seconds"]
        median[1, 1]["fixed"] = min(max((PARTS * part - whole) / (PARTS - 1), 0.0), whole)
    return {ranks: result for (ranks, parts), result in median.items() if parts == 1}


def report(case, measured, inside, per_host):
    """Print measured points beside the prediction, and the prediction for more ranks; return it."""
    one = measured[1]
    compute, megabytes = one["seconds"], sum(n * number for _, n, number in one["calls"]) / 1e6
    count = sum(number for *_, number in one["calls"])
    print(f"\n{case}: {one['parameters']:,} parameters, {one['steps']:.0f} steps an update; one "
          f"rank: {one['steps'] / compute:,.0f} steps/s, {1e3 * compute:.0f} ms an update ("
          + ", ".join(f"{name} {1e3 * t:.0f}" for name, t in one["phases"].items())
          + f"), of which {1e3 * one['fixed']:.1f} do not shrink with the batch; {count:.0f} collectives of "
          f"{megabytes:.2f} MB in all", flush=True)
    if two := measured.get(2):
        predicted = predict(one, 2, 2, inside, inside)
        print(f"  2 ranks here: measured {1e3 * two['seconds']:.0f} ms an update (of which in collectives, "
              f"waiting included, {1e3 * two['in_collectives']:.0f}), predicted {1e3 * predicted:.0f}; "
              f"{2 * two['steps'] / two['seconds']:,.0f} steps/s, {compute / two['seconds']:.2f} x one "
              "rank", flush=True)
    table = {}
    print(f"  predicted efficiency, {per_host} ranks a machine\n  {'ranks':>7}"
          + "".join(f"{name:>24}" for name in NETWORKS))
    for ranks in RANKS:
        row = []
        for name, network in NETWORKS.items():
            seconds = predict(one, ranks, per_host, inside or (1e-6, 2e-10, 1), network)
            table[f"{name}, {ranks}"] = [seconds, compute / seconds / ranks]
            row.append(f"{1e3 * seconds:>13,.1f} ms {100 * compute / seconds / ranks:>5.0f} %")
        print(f"  {ranks:>7}" + "".join(f"{cell:>24}" for cell in row), flush=True)
    for name in NETWORKS:
        least = [ranks for ranks in RANKS if table[f"{name}, {ranks}"][1] < 0.5]
        print(f"  {name}: less than 50 % " + (f"from {least[0]} ranks on" if least else "at none of these"))
    return table


def main():
    args = _timing.arguments(
        __doc__, cases=dict(nargs="+", metavar="NETWORK:ENV", default=[
            "mlp:HalfCheetah-v4", "cnn_small:PongNoFrameskip-v4", "nature_cnn:PongNoFrameskip-v4"]),
        rounds=dict(type=int, default=3), updates=dict(type=int, default=20),
        ranks_per_host=dict(type=int, default=16),
        changes=dict(default="{}", metavar="JSON", help='such as {"timesteps_per_batch": 16384}'))
    if args.quick:
        args.cases, args.rounds, args.updates = ["mlp:CartPole-v1"], 1, 2
    inside = None
    if can_launch():
        inside = run(2, "ping", 2 if args.quick else 20)
        print(f"between two ranks here: {1e6 * inside[0]:.2f} us latency, {1e-9 / inside[1]:.1f} GB/s")
    else:
        print("mpiexec or mpi4py is missing (pip install 'trpo_np[mpi]'): only one rank is measured")
    results = {}
    for case in args.cases:
        measured = measure(case, args.updates if case.startswith("mlp") else max(2, args.updates // 4),
                           args.rounds, 1 + (inside is not None), args.changes)
        if "fixed" in measured.get(1, {}):
            name = case if args.changes == "{}" else f"{case}, {args.changes}"
            results[name] = {"measured": measured,
                             "predicted": report(name, measured, inside, args.ranks_per_host)}
    _timing.save(args, {"message": inside and dict(zip(MESSAGE, inside)), "cases": results,
                        "ranks_per_host": args.ranks_per_host})


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], *map(int, sys.argv[3:5]), *map(json.loads, sys.argv[5:]))
    elif sys.argv[1:2] == ["ping"]:
        ping(int(sys.argv[2]))
    else:
        main()
