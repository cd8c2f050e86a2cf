"""How does the cost of training grow with the batch, the parameters, the number of environments?

The batch: one update of 17-64-64-6. Parameters: one update of 17-n-n-6 with 512 samples. Environments: a
whole iteration (rollout and update) of 8,192 steps of CartPole's vectorised entry point. 10 CG iterations on
every sample, 3 critic epochs in minibatches of 128. Each figure comes from a process of its own: the median
time of an update, and by how much the peak of memory grew (Linux only). The exponent is that of the best fit
of cost = c * size^exponent to the largest three.
"""

import json
import statistics
import subprocess
import sys
import time

import _timing
import numpy as np

BATCHES, WIDTHS, ENVS = [512, 2048, 8192, 32768, 131072], [20, 88, 304, 992, 3152], [1, 4, 16, 64, 256]


def batch(size):
    import _update
    learner, segment = _update.model((17, 64, 64, 6), size)
    return lambda: learner.update(segment), size


def parameters(width):
    import _update
    learner, segment = _update.model((17, width, width, 6), 512)
    size = learner.policy.params.select(learner.policy.policy_weights).flat.size
    return lambda: learner.update(segment), size


def environments(n):
    import _update
    import gymnasium

    from trpo_np import TRPO
    env = gymnasium.make_vec("CartPole-v1", n, vectorization_mode="vector_entry_point")
    learner = TRPO("MlpPolicy", env, seed=0, timesteps_per_batch=8192, **_update.SETTINGS)
    return lambda: learner.learn(8192), n


KINDS = {"batch": (batch, BATCHES), "parameters": (parameters, WIDTHS), "environments": (environments, ENVS)}


def peak_bytes():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def measure(kind, value, most):
    run, size = KINDS[kind][0](value)
    before, seconds = peak_bytes(), []
    started = time.perf_counter()
    while len(seconds) < 3 or (time.perf_counter() - started < most and len(seconds) < 20):
        clock = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - clock)
    return [size, statistics.median(seconds[1:]), peak_bytes() - before]


def measure_apart(*arguments):
    """Measure in a process of its own: a peak of memory stays."""
    done = subprocess.run([sys.executable, __file__, "worker", *map(str, arguments)], capture_output=True,
                          text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(sizes, costs):
    """Fit cost = c * size^exponent."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(costs, 1e-9)), 1)[0])


def main():
    args = _timing.arguments(__doc__)
    results = {}
    for kind, (_, values) in KINDS.items():
        rows = []
        for i, value in enumerate(values[:2] if args.quick else values):
            is_apart = not args.quick or not results and i == 0
            rows.append((measure_apart if is_apart else measure)(kind, value, 0.1 if args.quick else 3))
            size, seconds, grown = rows[-1]
            print(f"{kind:<14}{size:>12,}{1e3 * seconds:>12,.1f} ms{grown / 2**20:>10,.0f} MB", flush=True)
        sizes, seconds, grown = zip(*rows)
        fits = {"seconds": exponent(sizes[-3:], seconds[-3:]), "bytes": exponent(sizes[-3:], grown[-3:])}
        print(f"{kind:<14}exponents: seconds {fits['seconds']:.2f}, memory {fits['bytes']:.2f}")
        results[kind] = {"seconds": dict(zip(sizes, seconds)), "bytes": dict(zip(sizes, grown)),
                         "exponents": fits}
    _timing.save(args, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
    else:
        main()
