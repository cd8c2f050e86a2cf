"""What is learned? Train settings on environments and seeds, two at a time; tell which are best.

    python bench/learn.py --envs Hopper-v4 Swimmer-v4 --seeds 100-103 --halve 2 --picture curves.png \
        --settings '{"tuned": {}, "other": {"preset": "general", "lam": 0.9, "max_kl": "0.03:0.01"}}'

A setting is a name and what it changes of a preset: arguments of TRPO ("a:b" is a linear schedule), `preset`
("tuned", "baselines" or "general": what an environment that has no settings of its own gets) and `num_envs`.
Each final policy plays 20 fresh episodes with its most likely actions, and 20 with drawn ones. A run that is
in the file of results is not run again, so the same command goes on where it was stopped.

All settings run on the same seeds. With --halve K the worse half of them goes after each K seeds, by the mean
of score / best public over environments and seeds; shown is also what each lies behind the best one, seed by
seed. Seeds 100 to 199 choose settings; 1000 to 1009 are run once, to report what has been chosen.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _learned
import _timing

EPISODES = 20


def seeds_of(words: list[str]) -> list[int]:
    """Read seeds such as 100-103 105."""
    found: list[int] = []
    for first, _, last in (word.partition("-") for word in words):
        found += range(int(first), int(last or first) + 1)
    return found


# --- one run, in a process of its own -----------------------------------------------------------------------

def arguments_of(env_id: str, changes: dict) -> tuple[dict, int]:
    """Return TRPO's arguments for a setting, schedules as "a:b", and how many environments it steps."""
    from trpo_np.presets import PRESETS, LinearSchedule

    preset, num_envs = changes.get("preset", "tuned"), changes.get("num_envs", 1)
    arguments = PRESETS["tuned"]("") if preset == "general" else PRESETS[preset](env_id)
    arguments |= {name: value for name, value in changes.items() if name not in ("preset", "num_envs")}
    return {name: f"{value.start:g}:{value.end:g}" if isinstance(value, LinearSchedule) else value
            for name, value in arguments.items() if name != "batch_of"}, num_envs  # there is one rank


def scheduled(arguments: dict) -> dict:
    """Return arguments with a linear schedule for each "a:b"."""
    from trpo_np.presets import LinearSchedule

    return {name: LinearSchedule(*map(float, value.split(":"))) if isinstance(value, str) and ":" in value
            else value for name, value in arguments.items()}


def work(env_id: str, arguments: dict, num_envs: int, seed: int, steps: int) -> dict:
    """Train and evaluate; return what is recorded."""
    import numpy as np

    from trpo_np import TRPO, evaluate_policy
    from trpo_np.callbacks import BaseCallback
    from trpo_np.envs import make_env
    from trpo_np.vec_env import DummyVecEnv

    class Curve(BaseCallback):
        def _on_rollout_end(self):
            if self.model.recent:
                mean = float(np.mean([total for total, _ in self.model.recent]))
                curve.append((self.model.num_timesteps, round(mean, 2)))

    curve: list = []
    env = make_env(env_id) if num_envs == 1 else DummyVecEnv([lambda: make_env(env_id)] * num_envs)
    model = TRPO("MlpPolicy", env, seed=seed, **scheduled(arguments))
    started = time.perf_counter()
    model.learn(steps, callback=Curve())
    seconds = time.perf_counter() - started
    result = {"steps": model.num_timesteps, "steps_per_second": round(model.num_timesteps / seconds)}
    for name, deterministic in (("score", True), ("sampled", False)):
        returns, lengths = evaluate_policy(model, make_env(env_id), EPISODES, deterministic=deterministic,
                                           seed=10_000 + seed, return_episode_rewards=True)
        result[name], result[f"{name}_std"] = float(np.mean(returns)), float(np.std(returns))
        result[f"{name}_length"], result[f"{name}_worst"] = float(np.mean(lengths)), float(min(returns))
    thinned = curve[:: -(-len(curve) // 50)]
    return {**result, "curve": thinned + curve[-1:] * (thinned[-1:] != curve[-1:])}


# --- all runs -----------------------------------------------------------------------------------------------

class Bench:
    """Runs, as many at a time as there are slots; each result is a line in a file as soon as it is there."""

    def __init__(self, args, settings: dict):
        self.args, self.settings = args, settings
        self.path = Path(args.json) if args.json else _timing.RESULTS / "learn.jsonl"
        self.lock, self.children, self.failed = threading.Lock(), set(), 0
        self.stopped = False
        if args.hold:
            threading.Thread(target=self.hold, daemon=True).start()

    def hold(self) -> None:
        """Stand still as long as the file --hold is there."""
        while True:
            stop = os.path.exists(self.args.hold)
            with self.lock:
                if stop != self.stopped:
                    print("standing still" if stop else "going on", flush=True)
                self.stopped = stop
                for child in self.children:
                    child.send_signal(signal.SIGSTOP if stop else signal.SIGCONT)
            time.sleep(1)

    def steps(self, env_id: str) -> int:
        return self.args.steps or _learned.steps(env_id)

    def key(self, env_id: str, name: str, seed: int) -> tuple:
        """Return what tells a run from others: TRPO's arguments count, not the setting's name."""
        arguments = arguments_of(env_id, self.settings[name])
        return env_id, json.dumps(arguments, sort_keys=True), seed, self.steps(env_id)

    def done(self) -> dict:
        """Return the recorded runs by their keys."""
        lines = map(json.loads, self.path.read_text().splitlines()) if self.path.exists() else ()
        return {(line["env"], json.dumps([line["arguments"], line["num_envs"]], sort_keys=True), line["seed"],
                 line["budget"]): line for line in lines if "budget" in line}

    def runs(self, names: list[str], seeds: list[int]) -> list[dict]:
        """Return the recorded runs of these settings, under the names that they have now."""
        done = self.done()
        keys = [(name, self.key(env_id, name, seed))
                for seed in seeds for env_id in self.args.envs for name in names]
        return [done[key] | {"setting": name} for name, key in keys if key in done]

    def run(self, names: list[str], seeds: list[int]) -> None:
        """Run what is not yet recorded; settings that are the same for a task are run once."""
        jobs = [(env_id, name, seed) for seed in seeds for env_id in self.args.envs for name in names]
        todo = {self.key(*job): job for job in reversed(jobs)}  # of equal ones the first counts
        for key in self.done():
            todo.pop(key, None)
        with ThreadPoolExecutor(self.args.processes) as pool:
            list(pool.map(self.one, reversed(todo.values())))

    def one(self, job: tuple[str, str, int]) -> None:
        """Run one job in a process of its own and record it."""
        env_id, name, seed = job
        while self.stopped:
            time.sleep(1)
        arguments, num_envs = arguments_of(env_id, self.settings[name])
        task = [env_id, arguments, num_envs, seed, self.steps(env_id)]
        child = subprocess.Popen([sys.executable, __file__, "worker", json.dumps(task)], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with self.lock:
            self.children.add(child)
        out, errors = child.communicate()
        with self.lock:
            self.children.remove(child)
            if child.returncode:
                self.failed += 1
                print(f"{env_id} {name} seed {seed} failed:\n{errors}", file=sys.stderr, flush=True)
                return
            result = json.loads(out.splitlines()[-1])
            print(f"{env_id} {name} seed {seed}: {result['score']:.1f} +- {result['score_std']:.1f}, drawn "
                  f"{result['sampled']:.1f}, {result['steps_per_second']} steps/s", flush=True)
            _timing.save(self.args, {"env": env_id, "setting": name, "arguments": arguments,
                                     "num_envs": num_envs, "seed": seed, "budget": task[-1], **result})


def halving(bench: Bench, seeds: list[int], halve: int) -> list[str]:
    """Run all settings; after each `halve` seeds drop the worse half. Return the settings that are left."""
    names = list(bench.settings)
    for i in range(0, len(seeds), halve or len(seeds)):
        bench.run(names, seeds[i:i + (halve or len(seeds))])
        so_far = seeds[:i + (halve or len(seeds))]
        if len(names) > 1:
            order = _learned.ranking(bench.runs(names, so_far))
            print(_learned.lay_out(_learned.comparison(bench.runs(names, so_far))), flush=True)
            if halve and len(so_far) < len(seeds):
                names = [name for name in order if name in names][:-(-len(names) // 2)]
                print(f"after {len(so_far)} seeds there remain: {', '.join(names)}", flush=True)
    return names


def main():
    args = _timing.arguments(
        __doc__, envs=dict(nargs="+", default=["CartPole-v1"]), seeds=dict(nargs="+", default=["100-104"]),
        settings=dict(default='{"tuned": {}}', help="JSON, or a file of it: name -> changes"),
        steps=dict(type=int, help="default: those of the published results, 1,000,000 for MuJoCo"),
        halve=dict(type=int, default=0, metavar="K"), processes=dict(type=int, default=2),
        hold=dict(metavar="FILE", help="all runs stand still as long as this file is there"),
        picture=dict(metavar="PNG", help="draw the curves beside the best published returns"))
    if args.quick:
        args.envs, args.steps, args.seeds, args.halve = ["CartPole-v1", "Pendulum-v1"], 2048, ["100-102"], 1
        args.settings = '{"tuned": {}, "short": {"preset": "general", "max_kl": "0.001:0"}}'
    text = Path(args.settings).read_text() if args.settings.endswith(".json") else args.settings
    seeds = seeds_of(args.seeds)
    about = _learned.kind(seeds)
    if args.quick and not args.json:
        args.json = str(Path(tempfile.mkdtemp()) / "learn.jsonl")
    bench = Bench(args, json.loads(text))
    left = halving(bench, seeds, args.halve)
    for name in left:
        runs = bench.runs([name], seeds)
        print(f"\n{name} ({about})\n{_learned.lay_out(_learned.table(runs))}\n{_learned.interquartile(runs)}",
              flush=True)
    if args.picture:
        _learned.picture(bench.runs(left, seeds), args.picture)
    return 1 if bench.failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        print(json.dumps(work(*json.loads(sys.argv[2]))))
    else:
        sys.exit(main())
