"""One update of policy and critic, in the order of the paper (Schulman et al., arXiv:1502.05477).

`improve` is the whole of it; each phase is a function that can be called alone. Arrays of a segment are (T,
n), time by environment. Rows that an autoreset inserted (`seg.valid` is False) count in nothing. `comm` joins
the ranks (comm.py): each calls the same phases with its own segment, and all end with the same parameters.
"""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from .normalize import RewardNormalizer
from .optim import Adam
from .policies.base import Policy
from .rollout import Segment, advantages
from .settings import Settings
from .trust_region import Batch, trust_region_step


class Values(NamedTuple):
    """V under the policy that acted: of a segment's observations, and of what came after them."""

    now: np.ndarray     # (T, n)
    last: np.ndarray    # (n,), after the last step
    final: np.ndarray   # (T, n), of an episode's last observation where it was truncated, 0 elsewhere
    memory: Any         # what the policy remembers after the segment


class Goals(NamedTuple):
    """What a segment asks of policy and critic: `advantages` and `targets` are (T, n), `count` is the samples of all ranks."""

    advantages: np.ndarray
    targets: np.ndarray
    count: float
    explained_variance: float


def improve(policy: Policy, adam: Adam, returns: RewardNormalizer, seg: Segment, settings: Settings, remaining: float,
            rng: np.random.Generator, comm) -> tuple[dict, Any]:
    """Improve the policy and its critic from one segment; return what to log, and what the policy remembers after it.

    `adam` is the critic's optimiser; `returns` holds the statistics by which rewards are scaled; `remaining`
    is the progress that schedules see, 1 at the beginning of training and 0 at its end; `rng` shuffles the
    critic's minibatches. There is nothing to log if no step was tried: a first segment may only bring
    statistics.
    """
    max_kl, entcoeff, stepsize = (settings.at(name, remaining) for name in ("max_kl", "entcoeff", "vf_stepsize"))

    # observe: normalise, with the statistics that the policy acted with
    x, last, final = observe(policy, seg)

    # value: V of everything observed
    values = value(policy, seg, x, last, final)

    # advantage: how much better than expected each action was, and what V should have been
    goals = advantage(seg, values, settings, returns, comm)
    if goals.count == 0 or not policy.normalizer.ready:
        merge(policy, seg, comm)
        return {}, values.memory

    # step: move the policy within the trust region
    inputs, line_up = policy.inputs(x, seg)
    batch = Batch(inputs, line_up(seg.actions), line_up(goals.advantages), line_up(seg.valid / goals.count))
    info = step(policy, batch, settings, max_kl, entcoeff, comm)

    # fit: move the critic, and no parameter of the policy, towards its targets
    value_loss = fit(policy, adam, x, seg, line_up(goals.targets), line_up(seg.valid), settings, stepsize, rng, comm)

    # merge: take the observations into the statistics
    merge(policy, seg, comm)
    return {**info, "value_loss": value_loss, "explained_variance": goals.explained_variance}, values.memory


def observe(policy: Policy, seg: Segment) -> tuple:
    """Return the normalised observations of a segment (T, n, ...), those after it (n, ...), and those that time limits cut.

    The last are one row for each of `seg.final`: the observation with which an episode ended when it was
    truncated.
    """
    final = np.stack([row for _, _, row in seg.final]) if seg.final else seg.last_obs[:0]
    return policy.normalizer(seg.obs), policy.normalizer(seg.last_obs), policy.normalizer(final)


def value(policy: Policy, seg: Segment, x, last, final) -> Values:
    """Return the critic's values of what `observe` gave."""
    now, after, at_end, memory = policy.segment_values(x, seg, last, final)
    final_values = np.zeros(seg.valid.shape)
    if seg.final:
        t, i, _ = zip(*seg.final)
        final_values[t, i] = at_end
    return Values(now, after, final_values, memory)


def advantage(seg: Segment, values: Values, settings: Settings, returns: RewardNormalizer, comm) -> Goals:
    """Return advantages and targets of a segment, from rewards that are clipped, scaled and discounted as `settings` say.

    Advantages have mean 0 and spread 1 over the samples of all ranks, unless `normalize_advantage` is off.
    """
    s, valid = settings, seg.valid
    rewards = np.clip(seg.rewards, -1, 1) if s.clip_rewards else seg.rewards
    rewards = returns(rewards, seg.terminated | seg.truncated, valid, s.gamma, comm)
    final = values.final if s.bootstrap_truncated else np.zeros_like(values.final)
    adv, targets = advantages(rewards, values.now, values.last, final, seg.terminated, seg.truncated, s.gamma, s.lam)
    count, *sums = comm.sum(np.array([valid.sum(), adv[valid].sum(), targets[valid].sum()]))
    if count == 0:
        return Goals(adv, targets, 0.0, math.nan)
    centred = [np.where(valid, array - total / count, 0.0) for array, total in zip((adv, targets), sums)]
    squares = comm.sum(np.array([np.sum(np.square(array)) for array in centred]))
    adv_spread, spread = np.sqrt(squares / count)
    if s.normalize_advantage:
        # advantages that are equal up to rounding are no reason to move
        adv = np.zeros_like(adv) if adv_spread <= 1e-8 else centred[0] / adv_spread
    explained = 1 - float((adv_spread / spread) ** 2) if spread > 0 else math.nan
    return Goals(adv, targets, count, explained)


def step(policy: Policy, batch: Batch, settings: Settings, max_kl: float, entcoeff: float, comm) -> dict:
    """Move the policy's parameters by a trust region step on this rank's samples; return what happened, by name."""
    s, head = settings, policy.params.select(policy.policy_weights)
    head.flat[:], info = trust_region_step(
        policy, head, batch, comm, max_kl=max_kl, entcoeff=entcoeff, cg_iters=s.cg_iters, cg_damping=s.cg_damping,
        fvp_subsample=s.fvp_subsample, linesearch_steps=s.linesearch_steps, linesearch_shrink=s.linesearch_shrink,
        kl_tolerance=s.kl_tolerance)
    if max_kl and info["gradient_norm"] != 0 and not info["expected_gain"] > 0:
        warnings.warn("an update was skipped: gradient or curvature are not finite; rewards may be too large",
                      stacklevel=2)
    return info


def fit(policy: Policy, adam: Adam, x, seg: Segment, targets: np.ndarray, valid: np.ndarray, settings: Settings,
        stepsize: float, rng: np.random.Generator, comm) -> float:
    """Fit the critic by minibatch Adam, or leave it as it was; return the mean squared error of the last pass.

    `x` are the segment's normalised observations; `targets` and `valid` are lined up with `policy.inputs(x,
    seg)`. Where the result is not finite, critic and optimiser are set back.
    """
    critic = policy.params.select(policy.critic_weights)
    before = critic.flat.copy(), adam.m, adam.v, adam.t
    most = max(comm.gather(int(valid.sum())))  # so that all ranks make as many minibatches
    batches = policy.critic_batches(x, seg, settings.vf_batch_size, most, rng)
    targets, valid, loss = targets.astype(policy.dtype), valid.astype(policy.dtype), math.nan
    for _ in range(settings.vf_iters):
        total = np.zeros(2)
        for inputs, rows in batches():
            sums = comm.sum(policy.critic_loss(critic, inputs, targets[rows], valid[rows]))
            if sums[-1]:  # a minibatch of a recurrent critic may hold nothing that counts
                adam.step(critic.flat, sums[:-2] / sums[-1], stepsize)
            total += sums[-2:]
        loss = float(total[0] / total[1])
    if not all(np.isfinite(array).all() for array in (critic.flat, adam.m, adam.v)):
        warnings.warn("a fit of the critic was undone: not finite; rewards or vf_stepsize may be too large",
                      stacklevel=2)
        critic.flat[:], adam.m, adam.v, adam.t = before
    return loss


def merge(policy: Policy, seg: Segment, comm) -> None:
    """Take a segment's observations into the policy's statistics; make parameters equal on all ranks to the last bit.

    Machines may differ in the last bit of a power, in Adam and in the line search: rank 0's parameters count.
    """
    comm.align(policy.params.flat)
    policy.normalizer.merge(seg.obs[seg.valid], comm)
