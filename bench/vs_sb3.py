"""How fast does a whole `learn` run, beside sb3-contrib's TRPO and beside the bare environment?

The same settings on both sides (2,048 steps a batch, 10 CG iterations, no subsampling, 3 critic epochs in
minibatches of 128, 64-64 tanh networks), one environment, one BLAS thread. Each figure comes from a process
of its own, after a warm-up of one update; the three programs take turns, and the median of the rounds counts,
of memory the process's peak.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

import _timing

PROGRAMS = ("trpo_np", "sb3-contrib", "environment")


def ours(env_id, batch):
    from trpo_np import TRPO
    model = TRPO("MlpPolicy", env_id, seed=0, timesteps_per_batch=batch, cg_iters=10, fvp_subsample=1,
                 vf_iters=3, vf_batch_size=128, vf_stepsize=1e-3, cg_damping=0.1, lam=0.95)
    return model.learn


def peer(env_id, batch):
    import torch
    from sb3_contrib import TRPO
    torch.set_num_threads(1)
    model = TRPO("MlpPolicy", env_id, seed=0, n_steps=batch, batch_size=128, cg_max_steps=10,
                 n_critic_updates=3, cg_damping=0.1, gae_lambda=0.95, device="cpu")
    return model.learn


def bare(env_id, batch):
    import gymnasium
    env = gymnasium.make(env_id)
    actions = [env.action_space.sample() for _ in range(1024)]

    def run(total):
        env.reset(seed=0)
        for i in range(total):
            _, _, terminated, truncated, _ = env.step(actions[i % 1024])
            if terminated or truncated:
                env.reset()
    return run


def worker(program, env_id, steps, batch):
    learn = dict(zip(PROGRAMS, (ours, peer, bare)))[program](env_id, batch)
    learn(batch)
    started = time.perf_counter()
    learn(steps)
    rate = steps / (time.perf_counter() - started)
    print(json.dumps([rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def measure(program, env_id, steps, batch):
    command = [sys.executable, __file__, "worker", program, env_id, str(steps), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{program} did not run ({done.stderr.strip().splitlines()[-1]})", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main():
    args = _timing.arguments(__doc__,
                             envs=dict(nargs="+", default=["CartPole-v1", "HalfCheetah-v5"], metavar="ID"),
                             rounds=dict(type=int, default=5))
    batch, steps = 2048, {"trpo_np": 40960, "sb3-contrib": 10240, "environment": 40960}
    if args.quick:
        args.envs, args.rounds, batch, steps = ["CartPole-v1"], 1, 128, dict.fromkeys(PROGRAMS, 128)
    print(f"{'environment':<18}{'program':<14}{'steps/s':>10}{'min':>9}{'max':>9}{'MB':>7}  trpo_np is")
    for env_id in args.envs:
        rates, peaks = {p: [] for p in PROGRAMS}, {p: [] for p in PROGRAMS}
        for _ in range(args.rounds):
            for program in PROGRAMS:
                if (found := measure(program, env_id, steps[program], batch)) is not None:
                    rates[program].append(found[0])
                    peaks[program].append(found[1])
        medians = {p: statistics.median(r) for p, r in rates.items() if r}
        for program, median in medians.items():
            ratio = medians["trpo_np"] / median
            notes = {"sb3-contrib": f"{ratio:.2f} x the peer",
                     "environment": f"{100 * ratio:.0f} % of the limit"}
            spread = f"{min(rates[program]):>9,.0f}{max(rates[program]):>9,.0f}"
            memory = f"{statistics.median(peaks[program]) / 2**20:>7,.0f}"
            print(f"{env_id:<18}{program:<14}{median:>10,.0f}{spread}{memory}  {notes.get(program, '')}",
                  flush=True)
        _timing.save(args, {"env": env_id, "steps_per_second": rates, "bytes": peaks})


if __name__ == "__main__":
    worker(*sys.argv[2:4], *map(int, sys.argv[4:])) if sys.argv[1:2] == ["worker"] else main()
