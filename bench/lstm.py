"""How fast is the LSTM through time, beside PyTorch's nn.LSTM with the same weights?

Sequences of 128 steps x 8 environments, 64 inputs, float32, one thread. `forward`: the outputs of plain
arrays. `gradient`: a sum of outputs in all weights, with its forward pass. `Fisher product`: J'J v from a
forward pass made before; PyTorch's is the second backward pass that a Hessian product of a KL needs.
"""

import _timing
import numpy as np


def ours(op, x, weights, g, v):
    """Return (value, gradient, product) and a function for each."""
    from trpo_np.autodiff import linearize
    from trpo_np.kernels import compile as kernels
    kernels.compile_all()
    starts, state = np.zeros(x.shape[:2], bool), np.zeros((x.shape[1], 2 * g.shape[2]), np.float32)
    _, J = linearize(lambda *w: op(x, starts, state, *w)[0], *weights)

    def forward():
        return op(x, starts, state, *weights)[0]

    def gradient():
        return linearize(lambda *w: op(x, starts, state, *w)[0], *weights)[1].pull(g)

    def product():
        return J.pull(J.push(*v))
    return forward, gradient, product


def peer(x, weights, g, v):
    """The same with PyTorch, whose gates are in the order i, f, g, o and whose matrices are transposed."""
    import torch
    torch.set_num_threads(1)
    h = g.shape[2]
    order = np.concatenate([np.arange(2 * h), np.arange(3 * h, 4 * h), np.arange(2 * h, 3 * h)])
    net = torch.nn.LSTM(x.shape[2], h)
    params = [net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0]
    with torch.no_grad():
        for parameter, w in zip(params, weights):
            parameter.copy_(torch.from_numpy(w.T[order]))
        net.bias_hh_l0.zero_()
    x, g = torch.from_numpy(x), torch.from_numpy(g)
    v = [torch.from_numpy(np.ascontiguousarray(w.T[order])) for w in v]
    back = np.argsort(order)

    def forward():
        with torch.no_grad():
            return net(x)[0].numpy()

    def gradient():
        return [d.numpy()[back].T for d in torch.autograd.grad((net(x)[0] * g).sum(), params)]

    with torch.backends.mkldnn.flags(enabled=False):  # whose LSTM cannot be differentiated twice
        y = net(x)[0]
        first = torch.autograd.grad(0.5 * ((y - y.detach()) ** 2).sum(), params, create_graph=True)

    def product():
        along = sum((a * b).sum() for a, b in zip(first, v))
        return [d.numpy()[back].T for d in torch.autograd.grad(along, params, retain_graph=True)]
    return forward, gradient, product


PASSES = ("forward", "gradient", "Fisher product")


def main():
    args = _timing.arguments(__doc__, cells=dict(type=int, default=256), steps=dict(type=int, default=128),
                             environments=dict(type=int, default=8), inputs=dict(type=int, default=64),
                             rounds=dict(type=int, default=5))
    if args.quick:
        args.cells, args.steps, args.rounds = 16, 8, 1
    from trpo_np.kernels.malloc import keep_freed
    from trpo_np.ops.lstm import lnlstm, lstm
    rng, h = np.random.default_rng(0), args.cells

    def draw(*shape):
        return (rng.standard_normal(shape) / np.sqrt(h)).astype(np.float32)
    shapes = [(args.inputs, 4 * h), (h, 4 * h), (4 * h,)]
    weights, v = [draw(*s) for s in shapes], [draw(*s) for s in shapes]
    x = rng.standard_normal((args.steps, args.environments, args.inputs)).astype(np.float32)
    g = draw(args.steps, args.environments, h)
    one, zero = np.ones(4 * h, np.float32), np.zeros(4 * h, np.float32)
    normed = [weights[0], one, zero, weights[1], one, zero, weights[2], one[:h], zero[:h]]
    programs = {"trpo_np": ours(lstm, x, weights, g, v)}
    try:
        programs["PyTorch"] = peer(x, weights, g, v)
        for name, a, b in zip(PASSES, programs["trpo_np"], programs["PyTorch"]):
            pairs = [(a(), b())] if name == "forward" else list(zip(a(), b()))
            error = max(np.abs(p - q).max() / np.abs(q).max() for p, q in pairs)
            print(f"{name}: largest difference {error:.1e} of the largest number", flush=True)
            assert error < 1e-4
    except ImportError as error:
        print(f"PyTorch did not run ({error})")
    programs["layer norm"] = ours(lnlstm, x, normed, g, [draw(*w.shape) for w in normed])
    times: dict = {name: [np.inf] * 3 for name in programs}
    # PyTorch first: from keep_freed on, this process keeps freed memory
    for name in sorted(programs, key=lambda name: name != "PyTorch"):
        if name != "PyTorch":
            keep_freed()
        for _ in range(args.rounds):
            found = [_timing.best(run, 0.3, 3) for run in programs[name]]
            times[name] = [min(pair) for pair in zip(times[name], found)]
    print(f"{'ms':<14}{'forward':>10}{'gradient':>10}{'Fisher product':>16}")
    for name, row in times.items():
        print(f"{name:<14}{1e3 * row[0]:>10.2f}{1e3 * row[1]:>10.2f}{1e3 * row[2]:>16.2f}")
    if "PyTorch" in times:
        ratios = [b / a for a, b in zip(times["trpo_np"], times["PyTorch"])]
        print(f"{'times as fast':<14}{ratios[0]:>10.2f}{ratios[1]:>10.2f}{ratios[2]:>16.2f}")
    _timing.save(args, {"cells": h, "steps": args.steps, "environments": args.environments,
                        "inputs": args.inputs,
                        "seconds": {name: dict(zip(PASSES, row)) for name, row in times.items()}})


if __name__ == "__main__":
    main()
