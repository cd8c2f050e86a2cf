"""What did jobs reach? Sum up the folders that they wrote with --log-dir, one seed each:

    python -m trpo_np.run_atari --env Pong --num-timesteps 1.5e6 --seed 0 --log-dir runs/Pong_seed0
    python bench/curves.py --goal 15 --folders runs/Pong_seed0 runs/Pong_seed1 runs/Pong_seed2

The return is the mean of the last 100 training episodes (whole games, unclipped rewards, actions drawn); the
curve begins with the 100th. `passes` is the number of steps after which the return first reached --goal,
`score` the mean return of the evaluation at the end.
"""

import json
import re
import tempfile
from pathlib import Path

import _timing


def summary(folder, goal):
    """Return what a run reached, from its monitor.csv and progress.json."""
    about, _, *rows = (folder / "monitor.csv").read_text().splitlines()
    tables = [json.loads(line) for line in (folder / "progress.json").read_text().splitlines()]
    tables = [table for table in tables if "rollout/ep_rew_mean" in table]
    full = [table for table in tables if table.get("rollout/episodes", 100) >= 100] or tables
    curve = [(table["time/total_timesteps"], round(table["rollout/ep_rew_mean"], 2)) for table in full]
    returns = [float(row.split(",")[0]) for row in rows][-100:]
    evaluation = folder / "evaluation.json"
    score = json.loads(evaluation.read_text())["returns"] if evaluation.exists() else []
    seed = re.search(r"seed(\d+)", folder.name)
    last = tables[-1]
    return {"env": json.loads(about[1:])["env_id"], "run": folder.name, "steps": last["time/total_timesteps"],
            "seconds": round(last["time/time_elapsed"]), "final": round(sum(returns) / len(returns), 2),
            "seed": int(seed[1]) if seed else None, "episodes": len(rows), "best": max(r for _, r in curve),
            "score": round(sum(score) / len(score), 2) if score else None,
            "passes": next((t for t, r in curve if goal is not None and r >= goal), None),
            "curve": curve[:: max(1, len(curve) // 100)]}


def made_up(folder):
    """Write a small run, for --quick."""
    (folder / "monitor.csv").write_text('#{"env_id": "CartPole-v1"}\nr,l,t\n1.0,1,0.1\n3.0,3,0.4\n')
    table = {"time/total_timesteps": 4, "time/time_elapsed": 0.4, "rollout/ep_rew_mean": 2.0}
    (folder / "progress.json").write_text(json.dumps(table) + "\n")
    return summary(folder, 2.0)


def main():
    args = _timing.arguments(__doc__, folders=dict(nargs="*", type=Path, default=[]), goal=dict(type=float))
    if args.quick:
        with tempfile.TemporaryDirectory() as folder:
            runs = [made_up(Path(folder))]
    else:
        runs = [summary(folder, args.goal) for folder in args.folders]
    for run in runs:
        print(f"{run['env']:<28}{run['run']:<18}{run['steps']:>11,} steps {run['seconds']:>7,} s  "
              f"return {run['final']:8.2f}  best {run['best']:8.2f}  passes {run['passes']}  "
              f"score {run['score']}", flush=True)
    finals = [run["final"] for run in runs]
    print(f"mean over seeds {sum(finals) / len(finals):.2f}, from {min(finals):.2f} to {max(finals):.2f}")
    _timing.save(args, {"env": runs[0]["env"], "runs": runs})


if __name__ == "__main__":
    main()
