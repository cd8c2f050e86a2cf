"""How long until a policy is good: on one rank, on all cores, and beside sb3-contrib's TRPO?

The clock runs from the first step of training, when all is imported and kernels are loaded, until the mean of
the last 20 training episodes reaches a goal. All ranks of a job share its batch; sb3-contrib has
rl-baselines3-zoo's settings (on Pong, for which there are none, those of bench/atari.py with 8 environments),
plain with one thread, and with SubprocVecEnv: as many processes as there are cores, among which its batch is
shared out, and for images as many threads.

    python bench/time_to_score.py                                        # hours; the same command goes on
    python bench/time_to_score.py --envs PongNoFrameskip-v4 --limit 40000
    python bench/time_to_score.py --programs 1 2 4 16 --envs HalfCheetah-v4 --steps 300000 --to-the-end \
        --seeds 1000 1001 1002                                           # learning curves over ranks

A run that is in the file of results is not run again. One that does not reach its goal within its steps or
--limit seconds counts as infinitely slow; of a median that is then infinite the least is shown. With
--to-the-end runs go on after the goal.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import _timing
import scaling

from trpo_np.kernels.threads import cores

EPISODES = 20
TASKS = {"CartPole-v1": (475, 200_000), "Pendulum-v1": (-200, 300_000), "HalfCheetah-v4": (3000, 1_000_000),
         "Hopper-v4": (2500, 1_000_000), "PongNoFrameskip-v4": (15, 10_000_000)}  # goal, most steps
SB3, SUBPROC = "sb3-contrib", "sb3-contrib-subproc"
_MUJOCO = dict(n_envs=2, n_steps=1024, batch_size=128, gamma=0.99, gae_lambda=0.95, sub_sampling_factor=1,
               cg_max_steps=25, cg_damping=0.1, n_critic_updates=20, learning_rate=1e-3, normalize=True)
ZOO = {  # hyperparams/trpo.yml
    "CartPole-v1": dict(n_envs=2, n_steps=512, batch_size=512, cg_damping=1e-3, gae_lambda=0.98, gamma=0.99,
                        learning_rate=1e-3, n_critic_updates=20),
    "Pendulum-v1": dict(n_envs=2, n_steps=1024, gamma=0.9, n_critic_updates=15, use_sde=True,
                        sde_sample_freq=4),
    "HalfCheetah-v4": _MUJOCO | dict(target_kl=0.04), "Hopper-v4": _MUJOCO,
    "PongNoFrameskip-v4": dict(n_envs=8, n_steps=256, batch_size=128, cg_max_steps=10, cg_damping=0.1,
                               n_critic_updates=3, gae_lambda=0.95)}


# --- one run, in a process of its own -----------------------------------------------------------------------

class Watch:
    """The returns of the last episodes after each rollout, with the time and the steps."""

    def __init__(self, goal: float, limit: float, to_the_end: bool):
        self.goal, self.limit, self.to_the_end = goal, limit, to_the_end
        self.points, self.reached, self.started = [], None, time.perf_counter()

    def note(self, steps: int, returns: list) -> bool:
        """Note the returns of the latest episodes; say whether the run goes on."""
        seconds, last = time.perf_counter() - self.started, returns[-EPISODES:]
        if last:
            self.points.append([steps, round(seconds, 3), round(statistics.mean(last), 2)])
        if self.reached is None and len(last) == EPISODES and statistics.mean(last) >= self.goal:
            self.reached = [steps, round(seconds, 3)]
        return seconds < self.limit and (self.reached is None or self.to_the_end)

    def result(self) -> dict:
        steps, seconds, _ = self.points[-1] if self.points else (0, 0.0, 0.0)
        thinned = self.points[::-(-len(self.points) // 60) or 1]
        return {"reached": self.reached, "steps": steps, "seconds": seconds, "points": thinned}


def ours(env_id: str, seed: int, steps: int, watch: Watch, settings: dict) -> None:
    """Train on the ranks of this job."""
    from trpo_np import TRPO, atari, presets, run_atari
    from trpo_np.callbacks import BaseCallback
    from trpo_np.envs import make_env

    class Noted(BaseCallback):
        def _on_training_start(self):
            watch.started = time.perf_counter()

        def _on_rollout_end(self):
            return watch.note(self.model.num_timesteps, [total for total, _ in self.model.recent])

    if atari.is_atari(env_id):
        preset, changes = presets.atari("tuned")
        env = atari.make_atari(env_id, run_atari.OPTIONS["num_envs"], **changes)
        model = TRPO("CnnPolicy", env, seed=seed, **preset | settings)
    else:
        model = TRPO("MlpPolicy", make_env(env_id), seed=seed, **presets.tuned(env_id) | settings)
    model.learn(steps, Noted())


def peer(env_id: str, seed: int, steps: int, watch: Watch, settings: dict, processes: bool) -> None:
    """Train sb3-contrib's TRPO."""
    import torch
    from sb3_contrib import TRPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

    class Noted(BaseCallback):
        def _on_training_start(self):
            watch.started = time.perf_counter()

        def _on_step(self):
            return self.going

        def _on_rollout_end(self):
            self.going = watch.note(self.num_timesteps, [info["r"] for info in self.model.ep_info_buffer])
            if not self.going:
                raise StopIteration  # the return value of this hook does not count

    settings = dict(settings)
    n, normalize = settings.pop("n_envs"), settings.pop("normalize", False)
    batch = n * settings["n_steps"]
    n = max(n, len(cores())) if processes else n
    is_pixels, kind = env_id.startswith("Pong"), SubprocVecEnv if processes else DummyVecEnv
    # small networks are slower with more threads than one
    torch.set_num_threads(len(cores()) if processes and is_pixels else 1)
    if is_pixels:
        games = f"ale_py:{env_id}"  # each process imports ale_py, which makes the games known
        env = VecFrameStack(make_atari_env(games, n, seed, vec_env_cls=kind), n_stack=4)
    else:
        env = make_vec_env(env_id, n, seed, vec_env_cls=kind)
    env = VecNormalize(env, gamma=settings["gamma"]) if normalize else env
    model = TRPO("CnnPolicy" if is_pixels else "MlpPolicy", env, seed=seed, device="cpu",
                 **settings | {"n_steps": batch // n})
    hooks = Noted()
    hooks.going = True
    try:
        model.learn(steps, hooks)
    except StopIteration:
        pass
    env.close()


def work(program: str, env_id: str, seed: int, steps: int, settings: dict, *how) -> None:
    """Train; print what was seen on the way, as JSON (rank 0)."""
    watch = Watch(*how)
    if program in (SB3, SUBPROC):
        peer(env_id, seed, steps, watch, settings, program == SUBPROC)
        print(json.dumps(watch.result()))
        return
    from trpo_np.comm import connect

    ours(env_id, seed, steps, watch, settings)
    if connect().rank == 0:
        print(json.dumps(watch.result()))


# --- all runs -----------------------------------------------------------------------------------------------

def known_program(text: str) -> str:
    """Read a number of ranks, or a name of the peer."""
    if text in (SB3, SUBPROC) or text.isdecimal() and int(text):
        return str(int(text)) if text.isdecimal() else text
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of ranks nor {SB3} or {SUBPROC}")


def label(program: str) -> str:
    return f"{program} rank{'s' * (program != '1')}" if program.isdecimal() else program


def settings_of(program: str, env_id: str) -> dict:
    """Return what tells a run of this program from one with other settings."""
    from trpo_np import atari, presets

    if program in (SB3, SUBPROC):
        return ZOO[env_id]
    settings = presets.atari("tuned")[0] if atari.is_atari(env_id) else presets.tuned(env_id)
    return json.loads(json.dumps(settings))  # a schedule is a list


def key(line: dict) -> str:
    names = ("env", "program", "seed", "goal", "budget", "cores", "to_the_end", "settings")
    return json.dumps([line[name] for name in names], sort_keys=True)


def train(task: dict, limit: float) -> dict | None:
    """Run one job; return its line, or None if it failed."""
    program, given = task["program"], {}
    launcher = [scaling.MPIEXEC, "-n", program] if program.isdecimal() and program != "1" else []
    if program in (SB3, SUBPROC):
        given = task["settings"]
    job = [program, task["env"], task["seed"], task["budget"], given, task["goal"], limit, task["to_the_end"]]
    done = subprocess.run([*launcher, sys.executable, __file__, "worker", json.dumps(job)], text=True,
                          capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        print(f"{task['env']}, {label(program)} ended with {done.returncode}: {done.stderr.strip()[-500:]}",
              flush=True)
        return None
    return task | json.loads(done.stdout.strip().splitlines()[-1])


def times(lines: list[dict]) -> list[float]:
    """Return the seconds to the goal, infinite where it was not reached."""
    return [line["reached"][1] if line["reached"] else math.inf for line in lines]


def table(lines: list[dict]) -> list[list[str]]:
    """Return a table's rows: of each task and program the median time, and how many times ours it is on as
    many cores."""
    rows = [["environment", "goal", "program", "runs", "reached", "seconds, median", "spread", "steps/s",
             "beside ours"]]
    groups: dict[tuple, list[dict]] = {}
    for line in lines:
        groups.setdefault((line["env"], line["goal"], line["program"]), []).append(line)
    for (env_id, goal, program), found in groups.items():
        seconds = times(found)
        rate = statistics.median(line["steps"] / max(line["seconds"], 1e-9) for line in found)
        ranks = [int(name) for *task, name in groups if task == [env_id, goal] and name.isdecimal()]
        own = str(max(ranks, default=1)) if program == SUBPROC else "1"
        rows.append([env_id, f"{goal:g}", label(program), str(len(found)),
                     str(sum(x < math.inf for x in seconds)), "{}{:.1f}".format(*median(found)),
                     f"{min(seconds):.1f} to {max(seconds):.1f}".replace("inf to inf", "-"), f"{rate:,.0f}",
                     beside(found, groups.get((env_id, goal, own), []), label(own))])
    return rows


def median(lines: list[dict]) -> tuple[str, float]:
    """Return the median of the seconds to the goal; "more than " and what it is at least, where it is
    infinite."""
    if (known := statistics.median(times(lines))) < math.inf:
        return "", known
    return "more than ", statistics.median(line["reached"][1] if line["reached"] else line["seconds"]
                                           for line in lines)


def beside(lines: list[dict], own: list[dict], name: str) -> str:
    """Return how many times the median of `own` that of `lines` is."""
    (more, seconds), (unknown, ours) = median(lines), median(own) if own else ("-", 0.0)
    if unknown or more and seconds < ours:  # it was stopped too early to tell
        return "-"
    return f"{more}{seconds / ours:.2f} x {name}"


def curves(lines: list[dict]) -> list[list[str]]:
    """Return a table's rows: the mean return, over the seeds, of each task and program at tenths."""
    groups: dict[tuple, list[dict]] = {}
    for line in lines:
        groups.setdefault((line["env"], line["program"], line["budget"]), []).append(line)
    rows = [["environment", "program", "runs", *(f"{10 * tenth} %" for tenth in range(1, 11))]]
    for (env_id, program, budget), found in groups.items():
        cells = []
        for tenth in range(1, 11):
            at = [[mean for steps, _, mean in line["points"] if steps <= tenth * budget / 10][-1:]
                  for line in found]
            values = [value for each in at for value in each]
            spread = f" +- {statistics.stdev(values) / len(values) ** 0.5:.0f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.0f}{spread}" if values else "-")
        rows.append([env_id, label(program), str(len(found)), *cells])
    return rows


def lay_out(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)


def main():
    args = _timing.arguments(
        __doc__, envs=dict(nargs="+", default=[env_id for env_id in TASKS if env_id in ZOO][:4]),
        programs=dict(nargs="+", type=known_program, default=["1", str(len(cores())), SB3, SUBPROC],
                      help="numbers of ranks, and names of the peer"),
        seeds=dict(nargs="+", type=int, default=[1000, 1001, 1002, 1003, 1004]),
        goal=dict(type=float, help="default: that of the task"),
        steps=dict(type=int, help="most steps of a run; default: those of the task"),
        limit=dict(type=float, default=14_400, metavar="SECONDS"), to_the_end=dict(action="store_true"))
    if args.quick:
        args.envs, args.seeds, args.goal, args.steps = ["CartPole-v1"], [0], 15.0, 2048
    path = Path(args.json) if args.json else _timing.RESULTS / "time_to_score.jsonl"
    done = {}
    if path.exists():
        done = {key(line): line for line in map(json.loads, path.read_text().splitlines()) if "env" in line}
    lines = []
    for seed in args.seeds:
        for env_id in args.envs:
            for program in dict.fromkeys(args.programs):
                if program.isdecimal() and program != "1" and not scaling.can_launch():
                    print(f"{label(program)}: mpiexec or mpi4py is missing (pip install 'trpo_np[mpi]')")
                    continue
                goal, steps = TASKS.get(env_id, (math.inf, 1_000_000))
                task = {"env": env_id, "program": program, "seed": seed, "budget": args.steps or steps,
                        "goal": goal if args.goal is None else args.goal, "cores": len(cores()),
                        "to_the_end": args.to_the_end, "settings": settings_of(program, env_id)}
                line = done.get(key(task))
                if line is None and (line := train(task, args.limit)):
                    said = f"reached after {line['reached']}" if line["reached"] else "not reached"
                    print(f"{env_id}, {label(program)}, seed {seed}: {said}", flush=True)
                    _timing.save(args, line)
                lines += [line] if line else []
    print(lay_out(curves(lines) if args.to_the_end else table(lines)))


if __name__ == "__main__":
    work(*json.loads(sys.argv[2])) if sys.argv[1:2] == ["worker"] else main()
