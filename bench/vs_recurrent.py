"""How fast does a recurrent `learn` run, beside sb3-contrib's RecurrentPPO?

CartPole-v1, 8 environments, 128 steps of each per batch, an LSTM of --cells for the policy and another for
the critic, one BLAS thread. Both make 10 passes over a batch: trpo_np for the critic alone, RecurrentPPO for
critic and policy. Each figure comes from a process of its own, after a warm-up of one update; the programs
take turns, and the median of the rounds counts.
"""

import json
import statistics
import subprocess
import sys
import time

import _timing

PROGRAMS = ("trpo_np", "RecurrentPPO")


def ours(cells):
    from trpo_np import TRPO, make_vec_env
    model = TRPO("MlpLstmPolicy", make_vec_env("CartPole-v1", 8), seed=0, timesteps_per_batch=1024,
                 fvp_subsample=1, vf_iters=10, vf_stepsize=1e-3, cg_damping=0.1,
                 policy_kwargs=dict(n_lstm=cells, layers=[64]))
    return model.learn


def peer(cells):
    import torch
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.env_util import make_vec_env
    torch.set_num_threads(1)
    model = RecurrentPPO("MlpLstmPolicy", make_vec_env("CartPole-v1", 8), seed=0, device="cpu", n_steps=128,
                         n_epochs=10, batch_size=128,
                         policy_kwargs=dict(lstm_hidden_size=cells, net_arch=[64]))
    return model.learn


def worker(program, cells, steps):
    learn = dict(zip(PROGRAMS, (ours, peer)))[program](cells)
    learn(1024)
    started = time.perf_counter()
    learn(steps)
    print(json.dumps(steps / (time.perf_counter() - started)))


def measure(program, cells, steps):
    command = [sys.executable, __file__, "worker", program, str(cells), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{program} did not run ({done.stderr.strip().splitlines()[-1]})", flush=True)
        return None
    return float(done.stdout.split()[-1])


def main():
    args = _timing.arguments(__doc__, cells=dict(type=int, nargs="+", default=[64, 256]),
                             rounds=dict(type=int, default=3))
    steps = {"trpo_np": 10240, "RecurrentPPO": 4096}
    if args.quick:
        args.cells, args.rounds, steps = [8], 1, dict.fromkeys(PROGRAMS, 1024)
    for cells in args.cells:
        rates = {p: [] for p in PROGRAMS}
        for _ in range(args.rounds):
            for program in PROGRAMS:
                if (rate := measure(program, cells, steps[program])) is not None:
                    rates[program].append(rate)
        medians = {p: statistics.median(r) for p, r in rates.items() if r}
        for program, median in medians.items():
            ratio = medians["trpo_np"] / median
            print(f"LSTM of {cells:<5}{program:<14}{median:>8,.0f} steps/s   trpo_np is {ratio:.2f} x",
                  flush=True)
        _timing.save(args, {"cells": cells, "steps_per_second": rates})


if __name__ == "__main__":
    worker(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])) if sys.argv[1:2] == ["worker"] else main()
