"""Why does a policy that balances for 1,000 steps fall at a new start?

InvertedDoublePendulum's start is the hard part: whoever is upright stays so. The script trains, and looks at
every update after the first --after steps. Does the batch hold a start that failed? How much of the batch is
that, and how much of the squared advantages and of the gradient? How far do actions move, as KL, on the batch
and at new starts? How many of 40 fixed starts fall within 60 steps, before and after the update?

`--changes '{"scale_steps": true}'` shows the same with shorter steps where advantages spread less than usual.
"""

import json

import _timing
import numpy as np

STARTS, SHORT = 40, 60


def shares(model, seg):
    """Return what the failed starts of a segment are of it, and the spread of its advantages."""
    from copy import deepcopy

    from trpo_np import ops
    from trpo_np.autodiff import linearize, value_and_grad
    from trpo_np.update import advantage, observe

    policy, rows = model.policy, len(seg.rewards)
    seen = observe(policy, seg)
    values = policy.segment_values(seen.x, seg, seen.last, seen.final)
    adv = advantage(seg, values, model.settings, deepcopy(model.reward_normalizer), model.comm)
    A, x, actions = adv.advantages[:, 0], seen.x.reshape(rows, -1), seg.actions.reshape(rows, -1)
    starts = np.flatnonzero(seg.starts[:, 0])
    failed = np.zeros(rows, bool)
    for first, end in zip(starts, [*starts[1:], rows]):
        if seg.terminated[end - 1, 0] and end - first < SHORT:
            failed[first:end] = True
    phi, J = linearize(lambda p: policy.pi(p, x), policy.policy_params)

    def gradient(weights):
        logp = value_and_grad(lambda p: ops.sum(policy.dist.logp(p, actions) * weights), phi.astype(float))[1]
        return J.pull(logp.astype(phi.dtype)).astype(float)
    g = gradient(A)
    return {"starts": len(starts), "failed": bool(failed.any()), "rows": failed.mean(),
            "squares": (A * A * failed).sum() / (A * A).sum(), "gradient": gradient(A * failed) @ g / (g @ g),
            "seen": x, "before": policy.params.flat.copy()}


def falls(model, env):
    """Return the share of fixed starts that fall, and the observations of their first 20 steps."""
    seen, fallen = [], 0
    for i in range(STARTS):
        obs, terminated = env.reset(seed=7_000_000 + i)[0], False
        for t in range(SHORT):
            if t < 20:
                seen.append(obs)
            obs, _, terminated, _, _ = env.step(model.predict(obs, deterministic=True)[0])
            if terminated:
                break
        fallen += terminated
    return fallen / STARTS, model.policy.normalizer(np.array(seen, model.policy.dtype))


def run(args, seed):
    """Train; return what each update after the first `after` steps did."""
    import learn

    from trpo_np import TRPO
    from trpo_np.callbacks import BaseCallback
    from trpo_np.envs import make_env

    class Look(BaseCallback):
        before = None

        def _on_rollout_end(self):
            if self.model.num_timesteps >= args.after:
                self.batch = shares(self.model, self.locals["segment"])
                if self.before is None:
                    self.before = falls(self.model, env)

        def _on_update_end(self):
            if self.before is None:
                return
            policy, batch, (share, at_starts) = self.model.policy, self.batch, self.before

            def moved(x):
                old, new = (policy.pi(policy.policy_params.like(flat[:len(policy.policy_params.flat)]), x)
                            for flat in (batch["before"], policy.params.flat))
                return float(np.mean(policy.dist.kl(old.astype(float), new.astype(float))))
            self.before = falls(self.model, env)
            row = {name: batch[name] for name in ("starts", "failed", "rows", "squares", "gradient")}
            rows.append(row | {"kl": moved(batch["seen"]), "kl_at_starts": moved(at_starts), "fall": share,
                               "change": self.before[0] - share})

    rows: list = []
    env = make_env(args.env)
    arguments, _ = learn.arguments_of(args.env, json.loads(args.changes))
    model = TRPO("MlpPolicy", make_env(args.env), seed=seed, **learn.scheduled(arguments))
    model.learn(args.steps, callback=Look())
    return rows


def main():
    args = _timing.arguments(
        __doc__, env=dict(default="InvertedDoublePendulum-v5"), changes=dict(default="{}"),
        seeds=dict(type=int, nargs="+", default=[100, 101, 102]), after=dict(type=int, default=80_000),
        steps=dict(type=int, default=300_000))
    if args.quick:
        args.seeds, args.after, args.steps = [100], 2048, 3 * 2048
    rows = [row for seed in args.seeds for row in run(args, seed)]
    print(f"{np.mean([row['starts'] for row in rows]):.1f} starts a batch")
    found = {}
    for what, its in (("no start failed", [row for row in rows if not row["failed"]]),
                      ("a start failed", [row for row in rows if row["failed"]])):
        if its:
            mean = {name: float(np.mean([row[name] for row in its])) for name in its[0] if name != "failed"}
            error = float(np.std([row["change"] for row in its]) / len(its) ** 0.5)
            found[what] = {"updates": len(its), **mean, "error": error}
            print(f"{what}: {len(its)} updates; failed starts are {mean['rows']:.1%} of the rows, "
                  f"{mean['squares']:.0%} of the squared advantages, {mean['gradient']:.0%} of the gradient; "
                  f"KL {mean['kl']:.3f} on the batch, {mean['kl_at_starts']:.3f} at starts; of these fall "
                  f"{mean['fall']:.1%}, {mean['change']:+.2%} +- {error:.2%} an update", flush=True)
    _timing.save(args, {"env": args.env, "changes": args.changes, "seeds": args.seeds, "found": found})


if __name__ == "__main__":
    main()
