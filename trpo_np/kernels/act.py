"""A dense tanh network on a few rows, from observations to drawn actions."""

import numpy as np

from . import scalar
from .compile import twin


def _mlp_act_loop(t, x, flat, widths, scale, clip, noise, bounds, drawn, choice):
    rows, layers, finite = x.shape[0], len(widths) - 1, True
    widest = 0
    for width in widths:
        widest = max(widest, width)
    h, y = np.empty(widest, np.float32), np.empty(widest, np.float32)
    for r in range(rows):
        for i in range(widths[0]):
            finite &= np.isfinite(x[r, i])
            h[i] = min(max((x[r, i] - scale[0, i]) * scale[1, i], -clip), clip)
        at = 0
        for k in range(layers):
            n, m = widths[k], widths[k + 1]
            for j in range(m):
                y[j] = flat[at + n * m + j]
            for i in range(n % 4):
                a, w = h[i], flat[at:at + m]
                for j in range(m):
                    y[j] += a * w[j]
                at += m
            for i in range(n % 4, n, 4):  # four at a time, so that y is read and written less often
                a, b, c, d = h[i], h[i + 1], h[i + 2], h[i + 3]
                u, v, w, z = flat[at:], flat[at + m:], flat[at + 2 * m:], flat[at + 3 * m:]
                for j in range(m):
                    y[j] += a * u[j] + b * v[j] + c * w[j] + d * z[j]
                at += 4 * m
            at += m
            for j in range(m):
                h[j] = scalar.tanh1(y[j]) if k < layers - 1 else y[j]
        best = 0
        for j in range(widths[layers]):
            h[j] += noise[t, r, j]
            drawn[0, t, r, j] = h[j]
            drawn[1, t, r, j] = min(max(h[j], bounds[0, j]), bounds[1, j])
            if h[j] > h[best]:
                best = j
        choice[t, r] = best
    return finite


def _mlp_act_example():
    f = np.float32
    return (0, np.zeros((1, 1), f), np.zeros(2, f), np.array([1, 1]), np.ones((2, 1), f), f(10), np.zeros((1, 1, 1), f),
            np.ones((2, 1), f), np.zeros((2, 1, 1, 1), f), np.zeros((1, 1), np.int64))


def unbounded(size: int) -> np.ndarray:
    """Return bounds (2, size) for `mlp_act` that clip nothing."""
    return np.repeat(np.array([[-np.inf], [np.inf]], np.float32), size, axis=1)


@twin(_mlp_act_loop, _mlp_act_example)
def mlp_act(t, x, flat, widths, scale, clip, noise, bounds, drawn, choice):
    """Put a tanh network's outputs for rows x plus noise[t] into drawn[0, t], the same within `bounds` (2, k) into drawn[1, t],
    and each row's largest, which one it is, into choice[t]; return whether x is finite.

    The network has its layers (w, b) one after the other in `flat`; it sees clip((x - scale[0]) * scale[1]). Of T steps with n
    rows, noise is (T, n, k), drawn (2, T, n, k), all float32, and choice (T, n) integers. What is not finite brings no error.
    """
    h, at = np.minimum(np.maximum((x - scale[0]) * scale[1], -clip), clip), 0
    with np.errstate(invalid="ignore"):  # the caller says what is not finite
        for k, (n, m) in enumerate(zip(widths[:-1], widths[1:])):
            h = h @ flat[at:at + n * m].reshape(n, m) + flat[at + n * m:at + n * m + m]
            h = np.tanh(h) if k < len(widths) - 2 else h
            at += n * m + m
    drawn[0, t] = h + noise[t]
    drawn[1, t] = np.minimum(np.maximum(drawn[0, t], bounds[0]), bounds[1])
    choice[t] = drawn[0, t].argmax(-1)
    return bool(np.isfinite(x).all())
