"""What does each phase of one update take, beside what this machine's matrix products and memory allow?

Two times are shown beside each: that of the multiplications which the mathematics needs at the speed of a
large sgemm, and that of the bytes of each layer's inputs and outputs, read or written once a pass, at the
speed of a large copy in main memory; both speeds are measured in the same run. No phase can be faster than
the first; one that keeps its rows in the cache can beat the second. `share` is the part of sgemm's speed at
which a phase multiplies. Networks of tanh layers and NatureCNN; 10 Fisher products on every sample, one point
of the line search, 3 critic epochs in minibatches of 128. Where outputs are few, a Fisher product needs no
product for the tangents between inner layers, but the rows of the Jacobian, once (kernels/mlp.py). With
--fresh-pages the C library gives freed memory back, as it does by default.
"""

import json
import os
import subprocess
import sys

import _timing
import _update
import numpy as np


def peaks(seconds):
    """Return sgemm's multiplications and additions, and a copy's bytes read and written, a second."""
    square = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    long, to = np.ones(2**26, np.float32), np.empty(2**26, np.float32)
    return (2 * 1024**3 / _timing.best(lambda: square @ square, seconds),
            2 * long.nbytes / _timing.best(lambda: np.copyto(to, long), seconds))


class Costs:
    """The costs of one sample: lists of each layer's multiplications, and of its inputs and outputs."""

    def __init__(self, products, sizes, outputs, few=0):
        self.products, self.sizes, self.outputs, self.few = products, sizes, outputs, few

    @classmethod
    def dense(cls, widths, n=0):
        from trpo_np.ops.mlp import jacobian_pays
        few = widths[-1] if n and jacobian_pays(n, widths) else 0
        return cls([a * b for a, b in zip(widths, widths[1:])], list(widths[:-1]), list(widths[1:]), few)

    @classmethod
    def nature_cnn(cls, n_out):
        outputs = [20 * 20 * 32, 9 * 9 * 64, 7 * 7 * 64]
        windows = [8 * 8 * 4, 4 * 4 * 32, 3 * 3 * 64]
        fully = cls.dense((3136, 512, n_out))
        return cls([a * b for a, b in zip(outputs, windows)] + fully.products,
                   [84 * 84, *outputs[:2], *fully.sizes], outputs + fully.outputs)

    def forward(self):
        return 2 * sum(self.products), 4 * sum(self.sizes + self.outputs)

    def back(self):  # the first layer needs no cotangent of its input
        rows = 2 * sum(self.sizes + self.outputs) - self.sizes[0]
        return 2 * (2 * sum(self.products) - self.products[0]), 4 * rows

    def fisher(self):  # tangents of weights and inputs forward, the same back
        if self.few:  # those of inputs by the Jacobian's rows, but for the last layer's
            rows = self.few * sum(self.outputs[:-2])
            return 4 * (sum(self.products) + self.products[-1] + rows), 2 * self.back()[1] + 8 * rows
        return 2 * self.back()[0], 2 * self.back()[1]

    def jacobian(self):
        rows = self.few * sum(self.outputs[:-2])
        return 2 * self.few * sum(self.products[1:-1]), 4 * (sum(self.outputs[:-1]) + rows)


def phases(learner, segment, actor: Costs, critic: Costs, seconds):
    """Yield (name, times in an update, seconds, operations, bytes) of each phase on the whole batch."""
    from trpo_np import nn
    from trpo_np.autodiff import linearize
    from trpo_np.comm import OneProcess
    from trpo_np.kernels import blas
    from trpo_np.kernels import mlp as dense
    from trpo_np.policies.fast import tanh_network
    from trpo_np.trust_region import fisher_operator
    from trpo_np.update import fit
    policy, n = learner.policy, segment.valid.size
    inputs, _ = policy.inputs(policy.normalizer(segment.obs), segment)
    head = policy.params.select(policy.policy_weights)
    phi, J = linearize(lambda p: policy.pi(p, inputs), head)
    product = fisher_operator(policy, head, inputs, np.full(n, 1 / n), OneProcess(), 0.1)
    product(head.flat)  # this makes the Jacobian's rows, where there are any
    targets, valid, v = np.zeros(n, np.float32), np.ones(n, bool), head.flat.copy()

    def timed(fun):
        return _timing.best(fun, seconds, 3)

    def whole(pair):
        return pair[0] * n, pair[1] * n
    there_and_back = [a + b for a, b in zip(critic.forward(), critic.back())]
    values = (lambda: policy.value(inputs))
    yield "values for the advantages", 1, timed(values), *whole(critic.forward())
    seconds_each = timed(lambda: linearize(lambda p: policy.pi(p, inputs), head))
    yield "linearize", 1, seconds_each, *whole(actor.forward())
    if actor.few:
        layers = nn.serial(policy.trunk, policy.pi_head).dense
        flat, widths, *_ = tanh_network(layers, policy.params, policy.normalizer)
        hs = dense.values(flat, widths, inputs, blas.small())
        seconds_each = timed(lambda: dense.jacobian(flat, widths, inputs, hs, blas.small()))
        yield "the Jacobian's rows", 1, seconds_each, *whole(actor.jacobian())
    yield "gradient", 1, timed(lambda: J.pull(phi)), *whole(actor.back())
    yield "Fisher product", 10, timed(lambda: product(v)), *whole(actor.fisher())
    yield "a point of the line search", 1, timed(lambda: policy.pi(head, inputs)), *whole(actor.forward())
    arguments = policy, learner.adam, segment.obs, segment, targets, valid, learner.settings, 1e-9
    critic_fit = lambda: fit(*arguments, np.random.default_rng(0), learner.comm)
    yield "critic, one epoch", 3, timed(critic_fit) / 3, *whole(there_and_back)
    yield "the whole update", 1, timed(lambda: learner.update(segment)), 0, 0


def pixels(batch):
    """Return a TRPO with NatureCNN and a made-up segment of images for it."""
    from trpo_np import TRPO
    from trpo_np.kernels import compile as kernels
    from trpo_np.kernels import malloc as memory
    from trpo_np.rollout import Segment
    rng, steps = np.random.default_rng(0), batch
    learner = TRPO("CnnPolicy", _update.Pictures(), seed=0, timesteps_per_batch=batch, **_update.SETTINGS)
    kernels.compile_all()
    memory.keep_freed()
    no = np.zeros((steps, 1), bool)
    obs = rng.integers(0, 256, (steps, 1, 84, 84, 4), dtype=np.uint8)
    return learner, Segment(obs=obs, actions=rng.integers(0, 6, (steps, 1)),
                            rewards=rng.standard_normal((steps, 1)), terminated=no, truncated=no, valid=~no,
                            over=no, starts=no, last_obs=obs[-1], final=[])


def main():
    args = _timing.arguments(__doc__, fresh_pages=dict(action="store_true"))
    if args.fresh_pages:
        os.environ["MALLOC_TRIM_THRESHOLD_"] = ""  # which memory.keep_freed leaves alone
    seconds = 0.1 if args.quick else 1.5
    # in a process of its own: large arrays that were freed change how the C library treats smaller ones
    found = subprocess.run([sys.executable, __file__, "peaks", str(seconds)], capture_output=True, text=True,
                           check=True)
    gemm, copy = json.loads(found.stdout)
    print(f"sgemm {gemm / 1e9:.0f} GFLOP/s, copy {copy / 1e9:.1f} "
          f"GB/s\n{'ms':>53}{'sgemm':>9}{'memory':>9}{'share':>8}")
    small, large = (17, 64, 64, 6), (376, 256, 256, 17)
    cases = {"17-64-64-6, 2,048 samples": (lambda: _update.model(small, 2048),
                                           lambda: Costs.dense(small, 2048), Costs.dense((*small[:-1], 1)))}
    if not args.quick:
        cases |= {"376-256-256-17, 8,192 samples": (lambda: _update.model(large, 8192),
                                                    lambda: Costs.dense(large, 8192),
                                                    Costs.dense((*large[:-1], 1))),
                  "NatureCNN, 512 images": (lambda: pixels(512), lambda: Costs.nature_cnn(6),
                                            Costs.nature_cnn(1))}
    results = {"sgemm_flops": gemm, "copy_bytes": copy}
    for case, (build, actor, critic) in cases.items():
        print(case)
        results[case], total, floors = {}, 0.0, np.zeros(2)
        learner, segment = build()
        for name, times, taken, flops, size in phases(learner, segment, actor(), critic, seconds):
            floor = times * np.array([flops / gemm, size / copy])
            total, floors = total + times * taken * bool(flops), floors + floor
            if not flops:  # the whole update: the rest is advantages, statistics and bookkeeping
                results[case]["the rest"] = taken - total
                print(f"  {'the rest':<42}{1e3 * (taken - total):>9.2f}")
                floor = floors
            label = f"{times} x {name}" if times > 1 else name
            share = floor[0] / (times * taken)
            figures = "".join(f"{1e3 * x:>9.2f}" for x in (times * taken, *floor))
            print(f"  {label:<42}{figures}{100 * share:>7.0f}%", flush=True)
            results[case][name] = dict(times=times, seconds=times * taken, sgemm=floor[0], memory=floor[1],
                                       share=share)
    _timing.save(args, results)


if __name__ == "__main__":
    print(json.dumps(peaks(float(sys.argv[2])))) if sys.argv[1:2] == ["peaks"] else main()
