"""The trust region step in the paper's order: gradient, conjugate gradient, line search.

Schulman et al., arXiv:1502.05477, appendix C.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from . import ops
from .autodiff import linearize, value_and_grad
from .optim import conjugate_gradient, dot, line_search
from .params import Params


class Batch(NamedTuple):
    """Samples of this rank."""

    inputs: Any             # what `policy.pi` takes
    actions: np.ndarray     # (n, ...), raw
    advantages: np.ndarray  # (n,)
    weights: np.ndarray     # (n,); the sum over the samples of all ranks is 1


def fisher_operator(policy, params: Params, inputs, weights, comm, damping: float,
                    known: tuple | None = None) -> Callable:
    """Return v -> (F + damping) v, where F is the Fisher information of the policy averaged with `weights`.

    F = J' M J, with J the derivative of the network and M the Fisher information of its distribution. At
    `params` the gradient of KL(old || new) in the distribution's parameters is zero, so F is the Hessian of
    the mean KL, exactly. One pass through the network serves every product; pass as `known` what `linearize`
    returned, if it ran on these inputs before.
    """
    blocks = []
    for some, rows in policy.blocks(inputs, len(weights)):
        phi, J = known or linearize(lambda p, some=some: policy.pi(p, some), params)
        blocks.append((J, policy.dist.fisher_at(phi), weights[rows, None].astype(phi.dtype)))

    def product(v):
        total = reduce(np.add, (J.pull(metric(J.push(v)) * w) for J, metric, w in blocks))
        return comm.sum(total) + v.dtype.type(damping) * v
    return product


class Look(NamedTuple):
    """What is to be known of a block of samples under the old policy."""

    gradient: np.ndarray  # of the surrogate, in the policy's parameters
    entropy: float
    changes: Callable     # new Params -> sums of the surrogate's gain, KL(old || new) and entropy
    linear: tuple         # what `linearize` returned


def look(policy, params: Params, batch: Batch, entcoeff: float, keep: bool) -> Look:
    """Linearize the old policy on a block of samples, once; with `keep`, `changes` remembers its outputs.

    Formulas on distribution parameters run in float64.
    """
    dist, weights = policy.dist, batch.weights
    old, J = linearize(lambda p: policy.pi(p, batch.inputs), params)
    old64 = old.astype(np.float64)
    old_logp = dist.logp(old64, batch.actions)

    def surrogate(phi):
        gain = ops.sum(ops.exp(dist.logp(phi, batch.actions) - old_logp) * (weights * batch.advantages))
        return gain + entcoeff * ops.sum(dist.entropy(phi) * weights) if entcoeff else gain
    old_surrogate, dphi = value_and_grad(surrogate, old64)
    kept = old64 if keep else None

    def changes(params_new):
        new = policy.pi(params_new, batch.inputs).astype(np.float64)
        before = policy.pi(params, batch.inputs).astype(np.float64) if kept is None else kept
        return np.array([surrogate(new) - old_surrogate, np.sum(dist.kl(before, new) * weights),
                         np.sum(dist.entropy(new) * weights)])
    entropy = float(np.sum(dist.entropy(old64) * weights))
    return Look(J.pull(dphi.astype(old.dtype)), entropy, changes, (old, J))


def trust_region_step(policy, params: Params, batch: Batch, comm, *, max_kl=0.01, entcoeff=0.0, cg_iters=10,
                      cg_damping=1e-2, fvp_subsample=5, linesearch_steps=10, linesearch_shrink=0.5,
                      kl_tolerance=1.5) -> tuple[np.ndarray, dict]:
    """Return the new policy parameters, a flat vector, and numbers by name that say how the step went.

    Maximise the surrogate mean[ratio * advantage] + entcoeff * mean[entropy], subject to
    mean KL(old || new) <= max_kl. If no step is accepted, the old vector itself comes back.
    """
    # the policy on the batch: in one block, or in as many as keep its distribution parameters few
    blocks = policy.blocks(batch.inputs, len(batch.weights))
    gradient: Any = 0
    entropy, changes, known = 0.0, [], None
    for inputs, rows in blocks:
        block = Batch(inputs, *(array[rows] for array in batch[1:]))
        seen = look(policy, params, block, entcoeff, keep=len(blocks) == 1)
        gradient, entropy = gradient + seen.gradient, entropy + seen.entropy
        changes.append(seen.changes)
        known = seen.linear if len(blocks) == 1 == fvp_subsample else None

    def evaluate(flat):
        new = policy.bound(params.like(flat))
        gain, kl, entropy = comm.sum(sum(change(new) for change in changes))
        return float(gain), float(kl), float(entropy)

    def acceptable(gain, kl, entropy):
        return np.isfinite(gain) and np.isfinite(kl) and kl <= kl_tolerance * max_kl and gain >= 0

    # gradient g, direction x with F x = g, and the longest step beta x with beta^2 x'F x / 2 <= max_kl
    g = comm.sum(gradient)
    some, some_weights = policy.thin(batch.inputs, batch.weights, fvp_subsample)
    # share: the thinned samples' weight over all ranks
    share, entropy = comm.sum(np.array([np.sum(some_weights), entropy]))
    info = dict(gradient_norm=np.sqrt(dot(g, g)), curvature=0.0, expected_gain=0.0, gain=0.0, kl=0.0,
                entropy=float(entropy), step_fraction=0.0, cg_products=0)
    if not (np.isfinite(info["gradient_norm"]) and info["gradient_norm"] > 0 and share > 0):
        return params.flat, info
    fisher = fisher_operator(policy, params, some, some_weights / share, comm, cg_damping, known)
    x, info["cg_products"] = conjugate_gradient(fisher, g, cg_iters)
    curvature = dot(x, g)  # x'F x: conjugate gradient leaves a residual g - F x that is orthogonal to x
    info["curvature"] = curvature or dot(g, fisher(g))  # x is 0 if it was not positive along g
    if not (np.isfinite(curvature) and curvature > 0):
        return params.flat, info
    full_step = x * x.dtype.type(np.sqrt(2 * max_kl / curvature))
    info["expected_gain"] = dot(g, full_step)

    # the longest acceptable fraction of it
    found = line_search(evaluate, acceptable, params.flat, full_step, linesearch_steps, linesearch_shrink)
    if found.fraction:
        info.update(zip(("gain", "kl", "entropy"), found.result), step_fraction=found.fraction)
    return found.x, info
