"""Does each fused or compiled body pay for itself in a whole update?

One process runs pairs of updates from the same parameters, with a body and without it, now one first, now the
other. The gain is how much longer the update takes without the body, in per cent of the update with it: the
median over the pairs, and the middle half of them, in the time of the processor: other programs do not count.
A body that gains less than 3 % everywhere is to be deleted. Networks of tanh layers with 2,048 samples, and
NatureCNN with 128 images; 10 CG iterations on every sample, 3 critic epochs in minibatches of 128.
"""

import dataclasses
import functools
import statistics
import time
from contextlib import ExitStack
from unittest import mock

import _timing
import _update
import limits
import numpy as np


def bodies_of_layers():
    """Return name -> the replacements that take the body away."""
    from trpo_np.kernels import blas, mlp, scalar
    from trpo_np.ops import mlp as fused
    from trpo_np.policies import fast
    return {
        "the Jacobian's rows": [(fused, "jacobian_pays", lambda n, widths: False)],
        "small products": [(blas, "small", lambda: 0)],
        "fused tanh layers": [(mlp.values, "compiled", None)],
        "compiled value loss": [(fast, "value_loss", lambda *args: None)],
        "compiled Adam": [(scalar.adam, "compiled", None)],
        "compiled discounted sum": [(scalar.discounted_sum, "compiled", None)],
    }


def images(batch):
    """Return a TRPO with NatureCNN and a segment of images of four stacked frames, as Atari brings them."""
    from trpo_np.policies.frames import Frames
    learner, segment = limits.pixels(batch)
    frames = np.ascontiguousarray(segment.obs[:, 0, :, :, 0])
    index = (np.arange(batch)[:, None] + np.arange(4)) % batch
    return learner, dataclasses.replace(segment, obs=Frames(frames, index[:, None]))


def bodies_of_images():
    from trpo_np.kernels import blas, image
    kernels = [image.col2im, image.add_blocks, image.spread_blocks, image.interleave, image.where_positive]
    found = {f"compiled {kernel.__name__}": [(kernel, "compiled", None)] for kernel in kernels}
    return {**found, "small products": [(blas, "small", lambda: 0)]}


def pairs(learner, segment, without, rounds):
    """Return the seconds of pairs of updates, with a body and without it, all from the same parameters."""
    adam, flat = learner.adam, learner.policy.params.flat
    start = flat.copy(), (adam.m, adam.v, adam.t), learner.updates
    found = []

    def seconds(replacements):
        flat[:], (adam.m, adam.v, adam.t), learner.updates = start
        with ExitStack() as stack:
            for replacement in replacements:
                stack.enter_context(mock.patch.object(*replacement))
            started = time.process_time()
            learner.update(segment)
            return time.process_time() - started
    for i in range(rounds + 1):  # the first pair does not count
        if i % 2:
            with_body, without_body = seconds([]), seconds(without)
        else:
            without_body, with_body = seconds(without), seconds([])
        found.append((with_body, without_body))
    return found[1:]


def main():
    args = _timing.arguments(__doc__, rounds=dict(type=int, default=60))
    shapes = [("4-64-64-2, discrete", (4, 64, 64, 2), True), ("11-64-64-3", (11, 64, 64, 3), False),
              ("17-64-64-6", (17, 64, 64, 6), False)]
    rounds, batch = (2, 256) if args.quick else (args.rounds, 2048)
    cases = {name: (functools.partial(_update.model, widths, batch, discrete=discrete), bodies_of_layers,
                    rounds) for name, widths, discrete in shapes[:1 if args.quick else None]}
    if not args.quick:
        cases["NatureCNN"] = functools.partial(images, 128), bodies_of_images, rounds // 4
    results = {}
    print(f"{'gain in per cent of an update':<48}{'median':>8}   middle half")
    for case, (make, bodies, times) in cases.items():
        learner, segment = make()
        print(case)
        results[case] = {}
        for body, without in bodies().items():
            found = pairs(learner, segment, without, times)
            gains = [100 * (slow / fast - 1) for fast, slow in found]
            low, median, high = statistics.quantiles(gains, n=4, method="inclusive")
            milliseconds = 1e3 * statistics.median(fast for fast, _ in found)
            results[case][body] = dict(gain=median, middle_half=[low, high], milliseconds=milliseconds)
            print(f"  {body:<46}{median:>8.1f}{low:>8.1f} to {high:.1f}", flush=True)
    _timing.save(args, {"gains": results})


if __name__ == "__main__":
    main()
