"""A dense tanh network on a few rows, from observations to drawn actions: one call a step of a rollout.

The loop has no NumPy twin. Where it is not compiled, policies compose the same; the tests compare the two.
"""

import numpy as np

from . import mlp
from .compile import kernel


def _example(of_x):
    f = np.float32
    return (0, np.zeros((1, 1), of_x), np.zeros(2, f), np.array([1, 1]), np.ones((2, 1), of_x), of_x(10),
            np.zeros((1, 1, 1), f), np.ones((2, 1), f), np.zeros((2, 1, 1, 1), f), np.zeros((1, 1), np.int64))


@kernel(lambda: _example(np.float32), lambda: _example(np.float64))
def draw(t, x, flat, widths, scale, clip, noise, bounds, drawn, largest):
    """Fill step t of `drawn` and `largest` for observations x (n, inputs); return whether these are finite.

    drawn[0, t] are the network's outputs plus noise[t], drawn[1, t] the same within `bounds`; largest[t] is
    the index of each row's largest number in drawn[0, t]. The network (`flat`, `widths`: see mlp.py) sees
    clip((x - scale[0]) * scale[1]). Of T steps, noise is (T, n, k), drawn (2, T, n, k), bounds (2, k), all
    float32, and largest (T, n), integers. x, scale (2, inputs) and clip are float32, or float64 to subtract
    in. What is not finite, or not in float32, raises no error.
    """
    rows, n, k, finite = x.shape[0], x.shape[1], noise.shape[2], True
    h, hs = np.empty(rows * n, np.float32), np.empty(rows * widths[1:].sum(), np.float32)
    for r in range(rows):
        for i in range(n):
            h[r * n + i] = min(max((x[r, i] - scale[0, i]) * scale[1, i], -clip), clip)
            finite &= np.isfinite(x[r, i]) & np.isfinite(h[r * n + i])
    mlp.forward(flat, widths, h, rows, 0, rows, 0, True, hs)
    outputs = hs[len(hs) - rows * k:]
    for r in range(rows):
        best, y = 0, outputs[r * k:]
        for j in range(k):
            y[j] += noise[t, r, j]
            drawn[0, t, r, j] = y[j]
            drawn[1, t, r, j] = min(max(y[j], bounds[0, j]), bounds[1, j])
            if y[j] > y[best]:
                best = j
        largest[t, r] = best
    return finite


def unbounded(size: int) -> np.ndarray:
    """Return bounds (2, size) for `draw` that clip nothing."""
    return np.repeat(np.array([[-np.inf], [np.inf]], np.float32), size, axis=1)
