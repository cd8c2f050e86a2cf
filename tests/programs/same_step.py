"""Compute steps and updates of 1, 2 or 4 ranks that share one segment; write them to DTYPE_RANKS.npz.

Usage: same_step.py (in an empty folder)
"""

from dataclasses import fields

import numpy as np
from ranks import toy
from toys import Shifted, Vector

from trpo_np.comm import OneProcess, connect
from trpo_np.rollout import Runner, Segment
from trpo_np.trust_region import Batch, fisher_operator, trust_region_step
from trpo_np.update import fit

PARTS = {1: [range(4)], 2: [range(3), range(3, 4)], 4: [[0], [1], [2], [3]]}  # environments of each rank
SETTINGS = dict(normalize_observations=True, normalize_rewards=True, fvp_subsample=1, cg_damping=0.1,
                entcoeff=1e-3, policy_kwargs=dict(layers=[64, 64], log_std_init=-0.5))


class FirstSum(OneProcess):
    """Ranks that keep the first sum they are asked for: in a step, the gradient."""

    def __init__(self, comm):
        self.comm, self.size, self.rank = comm, comm.size, comm.rank

    def __getattr__(self, name):
        return getattr(self.comm, name)

    def sum(self, x):
        total = self.comm.sum(x)
        self.__dict__.setdefault("first", total)
        return total

    def gather(self, x):
        return self.comm.gather(x)

    def align(self, x):
        self.comm.align(x)


def part(seg, columns):
    """Return the segment of some of the environments."""
    mine = {f.name: getattr(seg, f.name) for f in fields(Segment)}
    for name in ("obs", "actions", "rewards", "terminated", "truncated", "valid", "over", "starts"):
        mine[name] = mine[name][:, columns]
    mine["last_obs"] = seg.last_obs[columns]
    mine["final"] = [(t, columns.index(i), row) for t, i, row in seg.final if i in columns]
    return Segment(**mine)


def same_model(one, comm, **settings):
    """Return the model `one` again, on these ranks."""
    model = toy(Shifted(), comm, **{**vars(one.settings), "policy_kwargs": one.policy_kwargs, **settings})
    model.load_parameters(one.get_parameters())
    model.policy.normalizer.restore(one.policy.normalizer.moments.arrays())
    model.reward_normalizer.moments.restore(one.reward_normalizer.moments.arrays())
    return model


def fit_once(model, seg, targets):
    """Fit the critic to rows that all count."""
    policy, rng = model.policy, np.random.default_rng(model.comm.rank)
    x, valid = policy.normalizer(seg.obs), np.ones(len(targets))
    fit(policy, model.adam, x, seg, targets, valid, model.settings, 1e-3, rng, model.comm)


def steps(one, seg, mine, columns, comm):
    """The step by itself: Fisher product, gradient, step."""
    policy, dtype, count = one.policy, one.policy.params.flat.dtype, mine.valid.sum()
    inputs, weights = policy.normalizer(mine.obs[mine.valid]), np.full(count, 1 / seg.valid.sum())
    adv = np.random.default_rng(1).standard_normal(seg.valid.shape)[:, columns][mine.valid]
    head, watched = policy.policy_params, FirstSum(comm)
    v = np.random.default_rng(2).standard_normal(head.flat.size).astype(dtype)
    yield "fisher", fisher_operator(policy, head, inputs, weights, comm, 0.1)(v)
    batch = Batch(inputs, mine.actions[mine.valid], adv, weights)
    step, info = trust_region_step(policy, head, batch, watched, max_kl=0.02, fvp_subsample=1, cg_damping=0.1)
    assert info["step_fraction"] and len(watched.first) == len(head.flat)
    yield "gradient", watched.first
    yield "step", step - head.flat
    yield "parameters", step
    yield "product", same_model(one, comm).fisher_vector_product(v, mine.obs[mine.valid])


def updates(one, mine, columns, comm):
    """A whole update: normalisation, advantages, step, critic on minibatches that hold the whole batch."""
    model = same_model(one, comm)
    model.reward_normalizer.restart(len(columns))
    stats, _ = model.update(mine, 0.5)
    yield "update", model.policy.params.flat
    yield "adam", model.adam.m
    for name, moments in (("observations", model.policy.normalizer.moments),
                          ("rewards", model.reward_normalizer.moments)):
        yield name, np.concatenate([np.ravel(x) for x in moments.arrays().values()])
    names = ("entropy", "explained_variance", "gain", "kl", "value_loss", "gradient_norm", "expected_gain")
    yield "stats", np.array([stats[name] for name in names])


def minibatches(one, mine, comm):
    """Zeros: the critic after each rank's small minibatches, less one rank's after the joined ones."""
    model = same_model(one, comm, vf_batch_size=16)
    targets = np.cos(mine.obs[mine.valid].sum(1))
    made, own = [], model.policy.critic_batches

    def batches(*args):
        passes = own(*args)

        def each():
            for inputs, rows in passes():
                made.append((inputs, targets[rows]))
                yield inputs, rows
        return each
    model.policy.critic_batches = batches
    fit_once(model, mine, targets)
    joined = [[np.concatenate(x) for x in zip(*parts)] for parts in zip(*comm.gather(made))]
    sizes = {len(goal) for _, goal in made}
    assert comm.size == 1 or {len(goal) for _, goal in joined} != sizes
    assert len(set(comm.gather(len(made)))) == 1 and len(made) > 3

    alone = same_model(one, OneProcess(), vf_batch_size=16, vf_iters=1)
    goals = np.concatenate([goal for _, goal in joined])
    at = np.cumsum([0] + [len(goal) for _, goal in joined])
    alone.policy.critic_batches = lambda *_: lambda: (
        (x, slice(i, j)) for (x, _), i, j in zip(joined, at, at[1:]))
    fit_once(alone, mine, goals)
    yield "minibatches", model.policy.params.flat - alone.policy.params.flat
    assert np.abs(model.adam.m).max() > 0 and model.adam.t == alone.adam.t == len(made)


def answers(dtype, comm):
    """Yield (name, array) of all that must not depend on the number of ranks."""
    # the first environment has an autoreset row in every other
    envs = Vector([lambda h=h: Shifted(h) for h in (1, 3, 7, 40)])
    one = toy(envs, OneProcess(), vf_batch_size=1000, dtype=dtype, **SETTINGS).learn(64)
    runner = Runner(one.policy, one.stepper)
    runner.restart([7, 8, 9, 10])
    seg = runner.collect(50, np.random.default_rng(0))
    columns = list(PARTS[comm.size][comm.rank])
    mine = part(seg, columns)
    assert 0 < mine.valid.sum() < seg.valid.sum() or comm.size == 1
    yield from steps(one, seg, mine, columns, comm)
    yield from updates(one, mine, columns, comm)
    yield from minibatches(one, mine, comm)


def main():
    comm = connect()
    for dtype in ("float32", "float64"):
        said = dict(answers(dtype, comm))
        for name, array in said.items():
            found = comm.gather(array.tobytes())
            assert found == comm.size * [array.tobytes()], f"{name} differs between ranks"
        if comm.rank == 0:
            np.savez(f"{dtype}_{comm.size}.npz", **said)


if __name__ == "__main__":
    main()
