"""How fast is a convolutional network, beside PyTorch on the same weights, and beside the processor's limit?

NatureCNN on uint8 images (n, 84, 84, 4) with 6 actions: the forward pass, the gradient of a weighted sum of
its outputs, and the Fisher product of the KL (PyTorch: the gradient of a gradient-vector product, as
sb3-contrib does it), one thread. "sgemm" is the share of the speed of a large matrix product measured in the
same run, counting the multiplications that the mathematics needs. The last lines are the memory that one
linearization with a Fisher product takes on top of the images (Linux only).
"""

import json
import subprocess
import sys

import _timing
import numpy as np

from trpo_np.autodiff import linearize
from trpo_np.kernels import compile as kernels
from trpo_np.kernels.malloc import keep_freed
from trpo_np.policies import CnnPolicy
from trpo_np.spaces import Box, Discrete


def policy_and_images(n, name="nature_cnn"):
    rng = np.random.default_rng(0)
    space = Box((4, 84, 84), "uint8", np.array(0), np.array(255))
    policy = CnnPolicy(space, Discrete(6), cnn_extractor=name).draw(rng)
    return policy, policy.observation_space.encode(rng.integers(0, 256, (n, 4, 84, 84), dtype=np.uint8), n)


def flops(policy):
    """Count multiplications and additions of a forward pass for one image, from the weights' shapes."""
    total, shape = 0, policy.observation_space.rows
    for name, weight in policy.policy_weights.items():
        if name.endswith("/w") and len(weight.shape) == 4:
            kernel, stride = weight.shape[0], {8: 4, 4: 2, 3: 1}[weight.shape[0]]
            shape = ((shape[0] - kernel) // stride + 1, (shape[1] - kernel) // stride + 1, weight.shape[3])
            total += 2 * shape[0] * shape[1] * int(np.prod(weight.shape))
        elif name.endswith("/w"):
            total += 2 * int(np.prod(weight.shape))
    return total


def ours(policy, x):
    params = policy.params.select(policy.policy_weights)
    phi, J = linearize(lambda p: policy.pi(p, x), params)
    g = np.random.default_rng(1).standard_normal(phi.shape).astype(np.float32)
    v = np.random.default_rng(2).standard_normal(params.flat.size).astype(np.float32)

    def gradient():
        return linearize(lambda p: policy.pi(p, x), params)[1].pull(g)
    return {"forward": lambda: policy.pi(policy.params, x), "gradient": gradient,
            "Fisher product": lambda: J.pull(policy.dist.fisher(phi, J.push(v)) / np.float32(len(x)))}, g, v


def torchs(policy, x, g, v):
    """Return the same functions in PyTorch with the policy's weights, and one that reorders a vector."""
    import torch
    torch.set_num_threads(1)
    p = policy.params
    shapes = [p[f"pi/conv{i}/w"].shape for i in range(3)]
    convs = [torch.nn.Conv2d(*shape[2:], shape[0], stride) for shape, stride in zip(shapes, (4, 2, 1))]
    dense = [torch.nn.Linear(*p[name].shape) for name in ("pi/fc/w", "pi/out/w")]
    net = torch.nn.Sequential(convs[0], torch.nn.ReLU(), convs[1], torch.nn.ReLU(), convs[2], torch.nn.ReLU(),
                              torch.nn.Flatten(), dense[0], torch.nn.ReLU(), dense[1])

    def shaped(named):  # channels first; the dense layer after the flattening reads (c, h, w)
        out = [named[f"pi/conv{i}/{k}"].transpose(3, 2, 0, 1) if k == "w" else named[f"pi/conv{i}/{k}"]
               for i in range(3) for k in "wb"]
        w = named["pi/fc/w"].reshape(7, 7, 64, 512).transpose(2, 0, 1, 3).reshape(3136, 512)
        return [torch.tensor(np.ascontiguousarray(a))
                for a in [*out, w.T, named["pi/fc/b"], named["pi/out/w"].T, named["pi/out/b"]]]
    for parameter, value in zip(net.parameters(), shaped(p)):
        parameter.data = value
    images, cotangent = torch.tensor(np.ascontiguousarray(np.moveaxis(x, 3, 1))), torch.tensor(g)
    params, vector = list(net.parameters()), shaped(p.select(policy.policy_weights).like(v))

    def logits():
        return net(images.float() / 255)

    def forward():
        with torch.no_grad():
            return logits()

    def prepare():
        log_p = torch.log_softmax(logits(), 1)
        old = log_p.detach()
        kl = (old.exp() * (old - log_p)).sum(1).mean()
        return torch.autograd.grad(kl, params, create_graph=True)
    grads = prepare()

    def product():
        return torch.autograd.grad(sum((a * b).sum() for a, b in zip(grads, vector)), params,
                                   retain_graph=True)
    return {"forward": forward, "gradient": lambda: torch.autograd.grad((logits() * cotangent).sum(), params),
            "Fisher product": product}, shaped


def difference(policy, a, b, shaped):
    """Largest relative difference of what the two give."""
    if a.ndim == 1:
        a, b = (np.concatenate([t.numpy().ravel() for t in ts]) for ts in
                (shaped(policy.params.select(policy.policy_weights).like(a)), b))
    else:
        b = b.numpy()
    return float(np.abs(a - b).max() / np.abs(b).max())


def memory(n):
    """Print the bytes by which the peak grew over what images and imports take, in a process of its own."""
    policy, x = policy_and_images(n)
    kernels.compile_all()
    keep_freed()
    functions = ours(policy, x[:8])[0]
    for function in functions.values():
        function()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak so far
    before = peak_bytes()
    params = policy.params.select(policy.policy_weights)
    phi, J = linearize(lambda p: policy.pi(p, x), params)
    J.pull(J.push(params.flat))
    print(json.dumps(peak_bytes() - before))


def peak_bytes():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def peers(batches, seconds):
    """Return PyTorch's seconds and results for each batch, before trpo_np keeps freed memory."""
    found = {}
    for n in batches:
        policy, x = policy_and_images(n)
        _, g, v = ours(policy, x)
        theirs, shaped = torchs(policy, x, g, v)
        timed = {name: (_timing.best(function, seconds, 3), function()) for name, function in theirs.items()}
        found[n] = timed, shaped
    return found


def main():
    args = _timing.arguments(__doc__, batch=dict(type=int, nargs="+", default=[1, 16, 512], metavar="N"))
    batches, seconds = ([2], 0.02) if args.quick else (args.batch, 4.0)
    kernels.compile_all()
    try:
        theirs = peers(batches, seconds)
    except ImportError:
        theirs = {}
    keep_freed()
    square = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    peak = 2 * 1024**3 / _timing.best(lambda: square @ square, seconds=seconds / 2)
    print(f"sgemm of 1024 x 1024: {peak / 1e9:.0f} GFLOP/s\n{'batch':>6}  "
          f"{'':16}{'trpo_np':>10}{'PyTorch':>10}{'ratio':>8}{'sgemm':>8}{'differ by':>11}")
    results = {"sgemm_gflops": peak / 1e9, "rows": []}
    for n in batches:
        policy, x = policy_and_images(n)
        mine, _, _ = ours(policy, x)
        # products of each layer, in forward passes; of those, the first layer needs none for its input
        passes = {"forward": (1, 0), "gradient": (3, 1), "Fisher product": (4, 2)}
        first = 2 * 20 * 20 * 8 * 8 * 4 * 32
        for name, function in mine.items():
            needed = n * (passes[name][0] * flops(policy) - passes[name][1] * first)
            times, error = [_timing.best(function, seconds, 3)], 0.0
            if n in theirs:
                other, value = theirs[n][0][name]
                times.append(other)
                error = difference(policy, function(), value, theirs[n][1])
                if not error < 1e-3:
                    sys.exit(f"{name} differs from PyTorch's by {error:.1e}")
            share = needed / times[0] / peak
            other = f"{'-':>10}{'-':>8}"
            if len(times) > 1:
                other = f"{1e3 * times[1]:>8.2f}ms{times[1] / times[0]:>8.2f}"
            print(f"{n:>6}  {name:16}{1e3 * times[0]:>8.2f}ms{other}{100 * share:>7.0f}%{error:>11.0e}",
                  flush=True)
            results["rows"].append(dict(batch=n, what=name, seconds=times, sgemm_share=share,
                                        difference=error))
    for n in [16] if args.quick else [512, 8192]:
        done = subprocess.run([sys.executable, __file__, "memory", str(n)], capture_output=True, text=True,
                              check=True)
        taken = float(done.stdout.split()[-1])
        print(f"memory at batch {n:,}: {taken / 2**20:,.0f} MB, {taken / n / 1024:,.0f} KB an image",
              flush=True)
        results[f"memory_{n}"] = taken
    _timing.save(args, results)


if __name__ == "__main__":
    memory(int(sys.argv[2])) if sys.argv[1:2] == ["memory"] else main()
