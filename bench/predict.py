"""How long does one call take: `predict` on one observation, and a Fisher-vector product, beside sb3-contrib's on PyTorch?"""

import copy

import _timing


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


def main():
    args = _timing.arguments(__doc__)
    import numpy as np

    from trpo_np import TRPO, kernels, memory
    from trpo_np.comm import OneProcess
    from trpo_np.trust_region import fisher_operator
    seconds, env_id = 0.2 if args.quick else 2.0, "HalfCheetah-v5"
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((2048, 17)).astype(np.float32)
    model = TRPO("MlpPolicy", env_id, seed=0)
    kernels.compile_all()
    memory.keep_freed()
    policy = model.policy
    head = policy.params.select(policy.policy_weights)
    v = rng.standard_normal(head.flat.size).astype(np.float32)
    product = fisher_operator(policy, head, batch, np.full(2048, 1 / 2048), OneProcess(), 0.1)
    ours = {"predict": _timing.best(lambda: model.predict(batch[0], deterministic=True), seconds),
            "fisher": _timing.best(lambda: product(v), seconds)}
    peer = {}
    try:
        import torch
        from sb3_contrib import TRPO as Peer
    except ImportError:
        print("sb3-contrib is not installed (pip install '.[bench]'): no peer")
    else:
        torch.set_num_threads(1)
        other = Peer("MlpPolicy", env_id, seed=0, device="cpu")
        peer["predict"] = _timing.best(lambda: other.predict(batch[0], deterministic=True), seconds)
        peer["fisher"] = _timing.best(fisher_peer(other, torch.as_tensor(batch), torch.as_tensor(np.append(v, v))), seconds)
    for name, label in (("predict", "predict, one observation"), ("fisher", "Fisher product, 17-64-64-6, 2,048 samples")):
        ratio = f"{1e6 * peer[name]:10.1f} us for the peer: {peer[name] / ours[name]:.1f} x" if name in peer else ""
        print(f"{label:<44}{1e6 * ours[name]:10.1f} us {ratio}", flush=True)
    _timing.save(args, {"trpo_np_seconds": ours, "peer_seconds": peer})


if __name__ == "__main__":
    main()
