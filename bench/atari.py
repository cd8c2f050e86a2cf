"""How fast does TRPO train on Pong's pixels, and in how much memory, beside sb3-contrib's TRPO?

First at equal settings: NatureCNN, one environment, 512 steps a batch, 10 CG iterations on every sample, 3
critic epochs in minibatches of 128, the emulator without sticky actions, one thread. Then what run_atari
does: with one environment and 512 steps a batch, and as it is. Each figure comes from a process of its own,
after a warm-up of one update; the median of the rounds counts, and the peak of the process's memory.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

import _timing

BATCH = 512


def ours(batch):
    from trpo_np import TRPO, atari
    model = TRPO("CnnPolicy", atari.make_atari("Pong", 1), seed=0, timesteps_per_batch=batch, cg_iters=10,
                 fvp_subsample=1, vf_iters=3, vf_batch_size=128, vf_stepsize=1e-3, cg_damping=0.1, lam=0.95,
                 clip_rewards=True)
    return model.learn, batch


def tuned(num_envs=1, **more):
    from trpo_np import TRPO, atari, presets
    preset, changes = presets.atari("tuned")
    preset |= more
    env = atari.make_atari("Pong", num_envs, **changes)
    return TRPO("CnnPolicy", env, seed=0, **preset).learn, preset["timesteps_per_batch"]


def small(batch):
    return tuned(timesteps_per_batch=batch)


def whole(batch):
    from trpo_np import run_atari
    return tuned(run_atari.OPTIONS["num_envs"])


def peer(batch):
    import ale_py  # noqa: F401  (which makes the games known)
    import torch
    from sb3_contrib import TRPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack
    torch.set_num_threads(1)
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=1, seed=0), n_stack=4)
    model = TRPO("CnnPolicy", env, seed=0, n_steps=batch, batch_size=128, cg_max_steps=10, n_critic_updates=3,
                 cg_damping=0.1, gae_lambda=0.95, device="cpu")
    return model.learn, batch


PROGRAMS = {"trpo_np": ours, "sb3-contrib": peer, "run_atari, 512": small, "run_atari": whole}


def worker(program, updates, batch):
    learn, batch = PROGRAMS[program](batch)
    learn(batch)
    started = time.perf_counter()
    learn(updates * batch)
    seconds = time.perf_counter() - started
    print(json.dumps([updates * batch / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def main():
    args = _timing.arguments(__doc__, rounds=dict(type=int, default=3))
    programs, batch = (["trpo_np"], 16) if args.quick else (list(PROGRAMS), BATCH)
    updates = {"trpo_np": 1 if args.quick else 8, "sb3-contrib": 2, "run_atari, 512": 8, "run_atari": 6}
    found = {program: [] for program in programs}
    for _ in range(1 if args.quick else args.rounds):
        for program in programs:
            command = [sys.executable, __file__, "worker", program, str(updates[program]), str(batch)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{program} did not run ({done.stderr.strip().splitlines()[-1]})", flush=True)
            else:
                found[program].append(json.loads(done.stdout.splitlines()[-1]))
    rates = {program: statistics.median(rate for rate, _ in rows) for program, rows in found.items() if rows}
    for program, rate in rates.items():
        top = max(size for _, size in found[program]) / 2**20
        ratio = f"{rate / rates['sb3-contrib']:6.1f} x sb3-contrib" if "sb3-contrib" in rates else ""
        print(f"{program:<16}{rate:>8,.0f} steps/s{top:>8,.0f} MB {ratio}", flush=True)
    _timing.save(args, {"env": "PongNoFrameskip-v4", "steps_per_second_and_bytes": found})


if __name__ == "__main__":
    worker(sys.argv[2], *map(int, sys.argv[3:])) if sys.argv[1:2] == ["worker"] else main()
