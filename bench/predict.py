"""How long does one call take, `predict` or a Fisher-vector product, beside sb3-contrib's on PyTorch?

`predict` gets one observation. The peer comes first: what trpo_np tells the C library about memory holds for
the whole process.
"""

import copy

import _timing
import _update
import numpy as np

FISHER = [((17, 64, 64, 6), 2048), ((376, 256, 256, 17), 8192)]  # widths, samples


def fisher_peer(model, obs, v):
    """Return sb3-contrib's Hessian-vector product of the mean KL, as in `train`, with a graph made once."""
    import torch
    from stable_baselines3.common.distributions import kl_divergence
    with torch.no_grad():
        old = copy.copy(model.policy.get_distribution(obs))  # the policy reuses one object
    kl = kl_divergence(model.policy.get_distribution(obs), old).mean()
    params = [p for name, p in model.policy.named_parameters() if "value" not in name and p.requires_grad]
    grads = torch.autograd.grad(kl, params, create_graph=True, allow_unused=True)
    pairs = [(p, g) for p, g in zip(params, grads) if g is not None]
    flat = torch.cat([g.reshape(-1) for _, g in pairs])
    chosen = [p for p, _ in pairs]
    v = v[:flat.numel()]
    return lambda: torch.autograd.grad((flat * v).sum(), chosen, retain_graph=True)


def ours(widths, batch, v):
    """Return what is to be timed: predict, and a Fisher product on a batch of observations."""
    from trpo_np.comm import OneProcess
    from trpo_np.trust_region import fisher_operator
    learner, _ = _update.model(widths, 128)
    policy = learner.policy
    head = policy.params.select(policy.policy_weights)
    product = fisher_operator(policy, head, batch, np.full(len(batch), 1 / len(batch)), OneProcess(), 0.1)
    return lambda: learner.predict(batch[0], deterministic=True), lambda: product(v[:head.flat.size])


def peer(widths, batch, v):
    """Return the same of sb3-contrib."""
    import torch
    from sb3_contrib import TRPO
    torch.set_num_threads(1)
    other = TRPO("MlpPolicy", _update.Noise(widths[0], widths[-1]), seed=0, device="cpu",
                 policy_kwargs=dict(net_arch=list(widths[1:-1])))
    product = fisher_peer(other, torch.as_tensor(batch), torch.as_tensor(v))
    return lambda: other.predict(batch[0], deterministic=True), product


def main():
    args = _timing.arguments(__doc__)
    seconds, times = 0.2 if args.quick else 3.0, {"peer": {}, "trpo_np": {}}
    rng, cases = np.random.default_rng(0), FISHER[:1] if args.quick else FISHER
    for program, make in (("peer", peer), ("trpo_np", ours)):
        for widths, samples in cases:
            shape, size = "-".join(map(str, widths)), sum((a + 1) * b for a, b in zip(widths, widths[1:]))
            batch = rng.standard_normal((samples, widths[0])).astype(np.float32)
            v = rng.standard_normal(2 * size).astype(np.float32)
            try:
                functions = make(widths, batch, v)
            except ImportError:
                print("sb3-contrib is not installed (pip install '.[bench]'): no peer")
                break
            for name, function in zip((f"predict, {shape}", f"Fisher product, {shape}, {samples:,} samples"),
                                      functions):
                times[program][name] = _timing.best(function, seconds)
    for name, mine in times["trpo_np"].items():
        theirs = times["peer"].get(name)
        ratio = f"{1e6 * theirs:10.1f} us for the peer: {theirs / mine:.1f} x" if theirs else ""
        print(f"{name:<48}{1e6 * mine:10.1f} us {ratio}", flush=True)
    _timing.save(args, {"trpo_np_seconds": times["trpo_np"], "peer_seconds": times["peer"]})


if __name__ == "__main__":
    main()
