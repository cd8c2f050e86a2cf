"""What do callbacks, logs and a monitor cost one `learn` iteration?

CartPole-v1, 2,048 steps an update; each variant beside the bare one, in turns, as the ratio of the shortest
times.
"""

import tempfile
import time

import _timing


def variants(folder):
    """Return name -> (constructor arguments, callback, further outputs)."""
    from trpo_np.callbacks import BaseCallback, CheckpointCallback
    from trpo_np.logger import configure

    class EachStep(BaseCallback):
        def _on_step(self):
            return True

    return {
        "bare": (None, []),
        "callback without per-step hook": (BaseCallback(), []),
        "callback with a per-step hook": (EachStep(), []),
        "checkpoint every 10,000 steps": (CheckpointCallback(10_000, folder), []),
        "CSV, JSON, TensorBoard": (None, configure(folder, ["csv", "json", "tensorboard"]).outputs),
        "all of them": ([EachStep(), CheckpointCallback(10_000, folder)],
                        configure(f"{folder}/all", ["csv", "json", "tensorboard"]).outputs),
    }


def main():
    args = _timing.arguments(__doc__)
    from trpo_np import TRPO
    steps, rounds = (2048, 1) if args.quick else (20480, 7)
    with tempfile.TemporaryDirectory() as folder:
        cases = variants(folder)
        times = {name: [] for name in cases}
        for _ in range(rounds):
            for name, (callback, outputs) in cases.items():
                model = TRPO("MlpPolicy", "CartPole-v1", seed=0, timesteps_per_batch=2048)
                model.learn(2048)
                model.loggers = outputs
                started = time.perf_counter()
                model.learn(steps, callback)
                times[name].append((time.perf_counter() - started) / (steps / 2048))
        bare = min(times["bare"])
        for name, found in times.items():
            print(f"{name:<34}{1e3 * min(found):8.1f} ms an iteration, {min(found) / bare:.3f} x the bare "
                  "one", flush=True)
        _timing.save(args, {"milliseconds": {name: 1e3 * min(found) for name, found in times.items()}})


if __name__ == "__main__":
    main()
