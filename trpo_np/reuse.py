"""Samples that count in more than one update: earlier batches stand beside the new one.

Older policies drew them. So a sample counts as much as its action is likely now, beside how likely it was
when it was drawn, 1 at most, and errors of the critic are passed on in the same measure: that is V-trace
(Espeholt et al., arXiv:1802.01561). The trust region holds on average over all of these samples, as in GeTRPO
(Queeney et al., arXiv:2206.13714).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .policies.base import Policy
from .policies.frames import Frames, side_by_side
from .rollout import Segment


def beside(seg: Segment, earlier: Sequence[Segment]) -> Segment:
    """Return a segment (T, n) with earlier ones of T steps to its right, as if more environments had been
    stepped."""
    if not earlier:
        return seg
    parts = [seg, *earlier]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts], axis=1)
                              for name in Segment.ROWS}
    first = np.cumsum([0, *(part.rewards.shape[1] for part in parts)])
    return replace(
        seg, **joined, new=seg.rewards.shape[1], obs=_join([part.obs for part in parts]),
        last_obs=np.concatenate([part.last_obs for part in parts]),
        final=[(t, k + i, row) for k, part in zip(first, parts) for t, i, row in part.final],
        memory={name: np.concatenate([part.memory[name] for part in parts]) for name in seg.memory})


def _join(obs: list):
    if all(isinstance(part, Frames) for part in obs):
        return side_by_side(obs)
    return np.concatenate([np.asarray(part) for part in obs], axis=1)


def importance(policy: Policy, seg: Segment, earlier: Sequence[Segment]) -> np.ndarray:
    """Return the importance of samples that stand beside each other, (T, n + ...): 1 for those of `seg`, that
    the policy drew as it is now; their log-probabilities are noted."""
    seg.logp = log_probability(policy, seg)
    ratios = [np.exp(np.minimum(log_probability(policy, old) - old.logp, 0.0)) for old in earlier]
    return np.concatenate([np.ones(seg.valid.shape), *ratios], axis=1)


def log_probability(policy: Policy, seg: Segment) -> np.ndarray:
    """Return the log-probabilities of a segment's actions, (T, n) float64; 0 in rows that do not count."""
    inputs, line_up = policy.inputs(policy.normalizer(seg.obs), seg)
    actions, cells = line_up(seg.actions), line_up(np.arange(seg.valid.size).reshape(seg.valid.shape))
    logp = np.zeros(seg.valid.size)
    for some, rows in policy.blocks(inputs, len(cells)):
        phi = policy.pi(policy.policy_params, some).astype(np.float64)
        logp[cells[rows]] = policy.dist.logp(phi, actions[rows])
    return np.where(seg.valid, logp.reshape(seg.valid.shape), 0.0)
