"""How long does one call take: `predict` on one observation, and a Fisher-vector product, beside sb3-contrib's on PyTorch?"""

import copy

import _timing
import _update

FISHER = [((17, 64, 64, 6), 2048), ((376, 256, 256, 17), 8192)]  # widths, samples


def fisher_peer(model, obs, v):
    """Return sb3-contrib's Hessian-vector product of the mean KL, as its `train` builds it, with the graph made once."""
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


def ours(widths, samples):
    """Return functions to time: predict, and a Fisher product on random observations; and these, and the vector."""
    import numpy as np

    from trpo_np.comm import OneProcess
    from trpo_np.trust_region import fisher_operator
    learner, _ = _update.model(widths, 128)
    policy, rng = learner.policy, np.random.default_rng(0)
    batch = rng.standard_normal((samples, widths[0])).astype(np.float32)
    head = policy.params.select(policy.policy_weights)
    v = rng.standard_normal(head.flat.size).astype(np.float32)
    product = fisher_operator(policy, head, batch, np.full(samples, 1 / samples), OneProcess(), 0.1)
    return lambda: learner.predict(batch[0], deterministic=True), lambda: product(v), batch, v


def peer(widths, batch, v):
    """Return the same of sb3-contrib."""
    import numpy as np
    import torch
    from sb3_contrib import TRPO
    torch.set_num_threads(1)
    other = TRPO("MlpPolicy", _update.Noise(widths[0], widths[-1]), seed=0, device="cpu",
                 policy_kwargs=dict(net_arch=list(widths[1:-1])))
    product = fisher_peer(other, torch.as_tensor(batch), torch.as_tensor(np.append(v, v)))
    return lambda: other.predict(batch[0], deterministic=True), product


def main():
    args = _timing.arguments(__doc__)
    seconds, mine, theirs = 0.2 if args.quick else 3.0, {}, {}
    for widths, samples in FISHER[:1] if args.quick else FISHER:
        names = [f"predict, {'-'.join(map(str, widths))}", f"Fisher product, {'-'.join(map(str, widths))}, {samples:,} samples"]
        *functions, batch, v = ours(widths, samples)
        try:
            others = peer(widths, batch, v)
        except ImportError:
            print("sb3-contrib is not installed (pip install '.[bench]'): no peer")
            others = (None, None)
        for name, function, other in zip(names, functions, others):
            mine[name] = _timing.best(function, seconds)
            ratio = ""
            if other is not None:
                theirs[name] = _timing.best(other, seconds)
                ratio = f"{1e6 * theirs[name]:10.1f} us for the peer: {theirs[name] / mine[name]:.1f} x"
            print(f"{name:<48}{1e6 * mine[name]:10.1f} us {ratio}", flush=True)
    _timing.save(args, {"trpo_np_seconds": mine, "peer_seconds": theirs})


if __name__ == "__main__":
    main()
