"""How long does one update take, beside sb3-contrib's on PyTorch?

An update is gradient, conjugate gradient, line search and the fit of the critic.

Made-up experience of 2,048 steps, 17 observations, 6 actions, two tanh layers of 64; 10 CG iterations on
every sample, 3 critic epochs in minibatches of 128, one thread. The median of the rounds counts. The peer
comes first: what trpo_np tells the C library about memory holds for the whole process.
"""

import statistics
import time

import _timing
import _update

WIDTHS, BATCH = (17, 64, 64, 6), 2048


def ours():
    learner, segment = _update.model(WIDTHS, BATCH)
    return lambda: learner.update(segment)


def peer():
    import torch
    from sb3_contrib import TRPO
    torch.set_num_threads(1)
    learner = TRPO("MlpPolicy", _update.Noise(WIDTHS[0], WIDTHS[-1]), seed=0, n_steps=BATCH, batch_size=128,
                   cg_max_steps=10, n_critic_updates=3, cg_damping=0.1, gae_lambda=0.95, device="cpu")
    learner.learn(BATCH)  # fills the buffer, which stays
    return learner.train


def main():
    args = _timing.arguments(__doc__, rounds=dict(type=int, default=20))
    seconds = {}
    for name, make in {"sb3-contrib": peer, "trpo_np": ours}.items():
        try:
            update = make()
        except ImportError:
            print("sb3-contrib is not installed (pip install '.[bench]'): no peer")
            continue
        update()
        seconds[name] = []
        for _ in range(2 if args.quick else args.rounds):
            started = time.perf_counter()
            update()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<12}{1e3 * median:>8.1f} ms  {median / medians['trpo_np']:6.2f} x", flush=True)
    _timing.save(args, {"seconds": seconds})


if __name__ == "__main__":
    main()
