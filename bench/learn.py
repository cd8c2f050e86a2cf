"""What does a preset reach? Train several seeds; evaluate each final policy over 20 fresh episodes.

Prints one line a seed (mean return with the most likely and with sampled actions) and the mean and spread
over seeds. `passes` is the number of steps after which the mean return of the last 100 training episodes
first reached --goal.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import _timing


def worker(env_id, preset, seed, steps, changes):
    import numpy as np

    from trpo_np import TRPO, evaluate_policy
    from trpo_np.callbacks import BaseCallback
    from trpo_np.envs import make_env
    from trpo_np.presets import PRESETS

    class Curve(BaseCallback):
        def _on_rollout_end(self):
            returns = [r for r, _ in self.model.recent]
            curve.append((self.model.num_timesteps, round(float(np.mean(returns)), 2)
                          if len(returns) == 100 else None))

    curve = []
    model = TRPO("MlpPolicy", make_env(env_id), seed=seed, **{**PRESETS[preset](env_id), **changes})
    started = time.perf_counter()
    model.learn(steps, callback=Curve())
    seconds = time.perf_counter() - started
    result = {"seed": seed, "steps": model.num_timesteps, "steps_per_second": model.num_timesteps / seconds}
    for name, deterministic in (("deterministic", True), ("sampled", False)):
        score = evaluate_policy(model, make_env(env_id), 20, deterministic=deterministic, seed=10_000 + seed)
        result[name], result[f"{name}_std"] = score
    print(json.dumps({**result, "curve": curve[:: max(1, len(curve) // 100)], "first": curve}))


def train(args, seed):
    command = [sys.executable, __file__, "worker", args.env, args.preset, str(seed), str(args.steps),
               args.changes]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    result = json.loads(done.stdout.splitlines()[-1])
    first = result.pop("first")
    result["passes"] = next((t for t, r in first if args.goal is not None and r is not None
                             and r >= args.goal), None)
    print(f"{args.env} seed {seed}: deterministic {result['deterministic']:.1f} +- "
          f"{result['deterministic_std']:.1f}, sampled {result['sampled']:.1f} +- "
          f"{result['sampled_std']:.1f}, passes {result['passes']}, {result['steps_per_second']:.0f} "
          "steps/s", flush=True)
    return result


def main():
    args = _timing.arguments(__doc__, env=dict(default="CartPole-v1"), preset=dict(default="tuned"),
                             steps=dict(type=int, default=100_000),
                             seeds=dict(type=int, nargs="+", default=[0, 1, 2, 3, 4]), goal=dict(type=float),
                             processes=dict(type=int, default=2),
                             changes=dict(default="{}", help="JSON of settings to change"))
    if args.quick:
        args.steps, args.seeds = 4096, [0]
    with ThreadPoolExecutor(args.processes) as pool:
        results = list(pool.map(lambda seed: train(args, seed), args.seeds))
    import numpy as np
    for name in ("deterministic", "sampled"):
        scores = [r[name] for r in results]
        print(f"{args.env} {args.preset} {name}: mean {np.mean(scores):.1f}, spread over seeds "
              f"{np.std(scores):.1f}, median {np.median(scores):.1f}, min {min(scores):.1f}, max "
              f"{max(scores):.1f}")
    _timing.save(args, {"env": args.env, "preset": args.preset, "steps": args.steps, "changes": args.changes,
                  "seeds": results})


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), json.loads(sys.argv[6]))
    else:
        main()
