"""One update of policy and critic, in the order of the paper (Schulman et al., arXiv:1502.05477).

`improve` is the whole of it; each phase is a function that can be called alone. Arrays of a segment are
(T, n), time by environment; rows that an autoreset inserted (`seg.valid` is False) count in nothing. `comm`
joins the ranks (comm.py): each runs the same phases on its own segment, and all end with the same parameters.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .normalize import RewardNormalizer, UsualSpread
from .optim import Adam
from .policies.base import Policy, Values
from .reuse import beside, importance
from .rollout import Segment, advantages
from .settings import Settings
from .trust_region import Batch, trust_region_step


class Seen(NamedTuple):
    """Normalised observations."""

    x: Any              # (T, n, ...), of a segment
    last: np.ndarray    # (n, ...), after its last step
    final: np.ndarray   # (k, ...), the last ones of truncated episodes, in the order of `seg.final`


class Goals(NamedTuple):
    """What policy and critic are to learn from a segment."""

    advantages: np.ndarray      # (T, n), for the policy
    targets: np.ndarray         # (T, n), for the critic
    weights: np.ndarray         # (T, n), of the policy's samples
    spread: float               # of new samples' advantages, before they are normalised
    samples: float              # the weights' sum over all ranks
    explained_variance: float   # of new targets, by the critic before it is fitted: 1 is perfect, 0 useless


def improve(policy: Policy, adam: Adam, reward_normalizer: RewardNormalizer, usual: UsualSpread,
            seg: Segment, settings: Settings, remaining: float, rng: np.random.Generator,
            comm, earlier: Sequence[Segment] = ()) -> tuple[dict, dict]:
    """Improve policy and critic from one segment; return numbers to log and the critic's memory after it.

    adam: the critic's optimiser. reward_normalizer: the statistics that scale rewards. usual: the spread of
    earlier batches' advantages. remaining: the progress that schedules see, 1 at the start of training, 0 at
    its end. rng: shuffles the critic's minibatches. earlier: segments to learn from once more, of as many
    steps. If no step was tried, there is only the reason, `no_update`: nothing in the segment counts, or a
    first batch only brings statistics.
    """
    max_kl, entcoeff = settings.at("max_kl", remaining), settings.at("entcoeff", remaining)
    stepsize = settings.at("vf_stepsize", remaining)

    # observe: normalise by the statistics that the policy acted with; earlier segments stand beside the new
    new, seg = seg, beside(seg, earlier)
    seen = observe(policy, seg)

    # value: V of all that was seen, by the critic as it was
    values = policy.segment_values(seen.x, seg, seen.last, seen.final)
    memory = {name: states[:len(new.last_obs)] for name, states in values.memory.items()}

    # advantage: how much better than expected each action was, and what V should have been
    ratio = importance(policy, new, earlier) if settings.sample_reuse > 1 else None
    goals = advantage(seg, values, settings, reward_normalizer, comm, ratio)
    if goals.samples == 0 or not policy.normalizer.ready:
        merge(policy, new, comm)
        nothing, first = "no step of this batch counts", "the first batch brings the mean image"
        return {"no_update": first if goals.samples else nothing}, memory

    # step: move the policy, as far as the trust region and what there is to learn allow
    if settings.scale_steps:
        max_kl *= usual.share(goals.spread)
    inputs, line_up = policy.inputs(seen.x, seg)
    batch = Batch(inputs, line_up(seg.actions), line_up(goals.advantages),
                  line_up(goals.weights / goals.samples))
    info = step(policy, batch, settings, max_kl, entcoeff, comm)

    # fit: move the critic, and no parameter of the policy, towards its targets
    targets, valid = line_up(goals.targets), line_up(seg.valid)
    value_loss = fit(policy, adam, seen.x, seg, targets, valid, settings, stepsize, rng, comm)

    # merge: take the observations into the statistics for the next rollout
    merge(policy, new, comm)
    return {**info, "value_loss": value_loss, "explained_variance": goals.explained_variance}, memory


def observe(policy: Policy, seg: Segment) -> Seen:
    """Return a segment's observations as the networks take them."""
    final = np.stack([row for _, _, row in seg.final]) if seg.final else seg.last_obs[:0]
    return Seen(policy.normalizer(seg.obs), policy.normalizer(seg.last_obs), policy.normalizer(final))


def advantage(seg: Segment, values: Values, settings: Settings, reward_normalizer: RewardNormalizer, comm,
              ratio: np.ndarray | None = None) -> Goals:
    """Return advantages and targets, from rewards clipped, scaled and discounted as the settings say.

    Advantages have mean 0 and spread 1 over the samples of all ranks, unless `normalize_advantage` is off.
    ratio: the samples' importance (reuse.py), if not all are new.
    """
    s, valid = settings, seg.valid
    weights = valid if ratio is None else valid * ratio
    rewards = np.clip(seg.rewards, -1, 1) if s.clip_rewards else seg.rewards
    done, new = seg.terminated | seg.truncated, slice(seg.new)
    scaled = reward_normalizer(rewards[:, new], done[:, new], valid[:, new], s.gamma, comm)
    if seg.new:  # the others are in the statistics already
        scaled = np.concatenate([scaled, reward_normalizer.scaled(rewards[:, seg.new:])], axis=1)
    final = np.zeros(valid.shape)
    if seg.final and s.bootstrap_truncated:
        t, i, _ = zip(*seg.final)
        final[t, i] = values.final
    adv, targets = advantages(scaled, values.steps, values.last, final, seg.terminated, seg.truncated,
                              s.gamma, s.lam, ratio)
    count, *sums = comm.sum(np.array([weights.sum(), (weights * adv)[valid].sum(),
                                      (weights * targets)[valid].sum()]))
    if count == 0:
        return Goals(adv, targets, weights, math.nan, 0.0, math.nan)
    centred = [np.where(valid, array - total / count, 0.0) for array, total in zip((adv, targets), sums)]
    squares = comm.sum(np.array([np.sum(weights * np.square(array)) for array in centred]))
    adv_spread, target_spread = np.sqrt(squares / count)
    if s.normalize_advantage:
        # advantages that are equal but for the rounding of values are no reason to move
        rounding = 4 * np.finfo(values.steps.dtype).eps * (np.abs(sums).sum() / count + target_spread)
        adv = np.zeros_like(adv) if adv_spread <= rounding else centred[0] / adv_spread
    if ratio is not None:  # of new ones alone: the critic has been fitted to the others
        adv_spread, target_spread = (spread(array[:, new][valid[:, new]], comm) for array in centred)
    explained = 1 - float((adv_spread / target_spread) ** 2) if target_spread > 0 else math.nan
    return Goals(adv, targets, weights, float(adv_spread), count, explained)


def spread(numbers: np.ndarray, comm) -> float:
    """Return the standard deviation of the numbers of all ranks; NaN if there are none."""
    count, total = comm.sum(np.array([numbers.size, numbers.sum()]))
    return math.sqrt(comm.sum(np.square(numbers - total / count).sum()) / count) if count else math.nan


def step(policy: Policy, batch: Batch, settings: Settings, max_kl: float, entcoeff: float, comm) -> dict:
    """Take a trust region step on this rank's samples, or none; return numbers that say how it went."""
    s, params = settings, policy.policy_params
    params.flat[:], info = trust_region_step(
        policy, params, batch, comm, max_kl=max_kl, entcoeff=entcoeff, cg_iters=s.cg_iters,
        cg_damping=s.cg_damping, fvp_subsample=s.fvp_subsample, linesearch_steps=s.linesearch_steps,
        linesearch_shrink=s.linesearch_shrink, kl_tolerance=s.kl_tolerance)
    curvature = info.pop("curvature")  # not a metric: it only says why no step was tried
    if max_kl and info["gradient_norm"] != 0 and not info["expected_gain"] > 0:
        warnings.warn(f"an update was skipped: {_obstacle(info, curvature)}", stacklevel=2)
    return info


def _obstacle(info: dict, curvature: float) -> str:
    """Say why no step could be tried."""
    if not math.isfinite(norm := info["gradient_norm"]):
        return f"the gradient is not finite (its norm is {norm:g}); rewards may be too large"
    if not info["cg_products"]:
        return "no sample is left for the curvature; a smaller fvp_subsample is needed"
    if not math.isfinite(curvature):
        return (f"the curvature is not finite ({curvature:g}): products with the Fisher matrix overflowed; a "
                "larger cg_damping, smaller rewards or dtype='float64' may help")
    if curvature <= 0:
        return f"the curvature is not positive ({curvature:g}); a larger cg_damping may help"
    return f"the gain expected of it is {info['expected_gain']:g}; rewards may be too large or too small"


def fit(policy: Policy, adam: Adam, x, seg: Segment, targets: np.ndarray, valid: np.ndarray,
        settings: Settings, stepsize: float, rng: np.random.Generator, comm) -> float:
    """Fit the critic to its targets by minibatch Adam; return the mean squared error of the last pass.

    `x` (T, n, ...) are a segment's normalised observations; `targets` and `valid` are rows that belong to
    those of `policy.inputs(x, seg)`. If the result is not finite, critic and optimiser stay as they were.
    """
    critic = policy.critic_params
    before = critic.flat.copy(), adam.m, adam.v, adam.t
    most = max(comm.gather(int(valid.sum())))  # all ranks go through as many minibatches
    batches = policy.critic_batches(x, seg, settings.vf_batch_size, most, rng)
    targets, valid, loss = targets.astype(policy.dtype), valid.astype(policy.dtype), math.nan
    for _ in range(settings.vf_iters):
        total = np.zeros(2)
        for inputs, rows in batches():
            sums = comm.sum(policy.critic_loss(critic, inputs, targets[rows], valid[rows]))
            grad, error_and_weight = sums[:-2], sums[-2:]
            if weight := error_and_weight[1]:  # a recurrent critic's minibatch may hold nothing that counts
                adam.step(critic.flat, grad / weight, stepsize)
            total += error_and_weight
        loss = float(total[0] / total[1])
    if not all(np.isfinite(array).all() for array in (critic.flat, adam.m, adam.v)):
        warnings.warn("a fit of the critic was undone: not finite; rewards or vf_stepsize may be too large",
                      stacklevel=2)
        critic.flat[:], adam.m, adam.v, adam.t = before
    return loss


def merge(policy: Policy, seg: Segment, comm) -> None:
    """Take a segment's observations into the statistics; make the ranks' parameters equal to the last bit.

    Machines may differ in the last bit of a power, in Adam and in the line search: rank 0's parameters count.
    """
    policy.merge(seg.obs[seg.valid], comm)
    comm.align(policy.params.flat)
