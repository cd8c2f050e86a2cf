"""Why does a policy that balanced an inverted pendulum forget how to?

A policy normalises its observations by statistics that follow what it sees. The wider they spread, the
smaller is what its network gets of the same angle: where the network stays as it is, the policy changes. The
script trains twice, with a first layer that does not make up for new statistics and with one that does. It
prints the training return, the spread of one number of the observations (--number; 1 is the pole's angle),
what the policy answers to it (the change of the first action over that of the number), what its network
answers to the normalised number (the product of both), and the standard deviation of the action.
"""

import warnings

import _timing
import numpy as np

COLUMNS = "{:>9} {:>8} {:>9} {:>9} {:>9} {:>9}"


def run(args, seed, follows):
    """Train; return a row (steps, return, spread, answer, spread * answer, std of actions) now and then."""
    import learn

    from trpo_np import TRPO
    from trpo_np.callbacks import BaseCallback
    from trpo_np.envs import make_env
    from trpo_np.policies import MlpPolicy

    class Drifting(MlpPolicy):
        standard = layered = True

        def merge(self, obs, comm):
            self.normalizer.merge(obs, comm)

    class Look(BaseCallback):
        def _on_update_end(self):
            model = self.model
            if model.num_timesteps >= args.every * (len(rows) + 1):
                policy, spread = model.policy, model.policy.normalizer.moments.std[args.number]
                x = np.zeros((2, len(policy.normalizer.moments.std)), policy.dtype)
                x[:, args.number] = 0.001, -0.001
                up, down = policy.pi(policy.params, x)
                own = (up[0] - down[0]) / 0.002
                row = [model.num_timesteps, np.mean([one for one, _ in model.recent] or [np.nan]), spread,
                       own / spread, own, np.exp(up[policy.dist.dim])]
                rows.append([float(number) for number in row])
                print(COLUMNS.format(*(f"{number:,.4g}" for number in rows[-1])), flush=True)

    rows: list = []
    print(f"{args.env}, seed {seed}, {'with' if follows else 'without'} compensation")
    print(COLUMNS.format("steps", "return", "spread", "answer", "network", "std"))
    arguments, _ = learn.arguments_of(args.env, {})
    policy = MlpPolicy if follows else Drifting
    model = TRPO(policy, make_env(args.env), seed=seed, **learn.scheduled(arguments))
    if not 0 <= args.number < (width := len(model.policy.normalizer.moments.std)):
        raise SystemExit(f"--number is {args.number}, but {args.env} gives the numbers 0 to {width - 1}")
    model.learn(args.steps, callback=Look())
    return rows


def main():
    args = _timing.arguments(
        __doc__, env=dict(default="InvertedPendulum-v4"), number=dict(type=int, default=1),
        seeds=dict(type=int, nargs="+", default=[103]), every=dict(type=int, default=100_000),
        steps=dict(type=int, default=1_000_000))
    if args.quick:
        args.seeds, args.every, args.steps = args.seeds[:1], 2048, 3 * 2048
    warnings.simplefilter("ignore", DeprecationWarning)
    for seed in args.seeds:
        found = {name: run(args, seed, follows) for name, follows in (("without", False), ("with", True))}
        _timing.save(args, {"env": args.env, "seed": seed, "number": args.number, "found": found})


if __name__ == "__main__":
    main()
