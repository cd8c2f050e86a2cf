"""Dense tanh networks for acting: on one row in few calls of NumPy, and on some rows in one compiled kernel; see kernels.py."""

from math import isfinite

import numpy as np
from numpy import tanh

from . import kernels
from .kernels import twin


class Plain:
    """A tanh network in as few calls of NumPy as possible; its layers (w, b) stand one after the other in `flat`.

    One row ends with a 1, so that a layer's matrix and bias, side by side in `flat`, are one matrix. These are views: what is
    written into `flat` counts at once. Each call takes rows of its own to work in, since threads may call at the same time.
    """

    def __init__(self, flat: np.ndarray, widths):
        self.widths, self.layers, at = [int(n) for n in widths], [], 0
        self.idle: list = []
        for n, m in zip(self.widths, self.widths[1:]):
            self.layers.append(flat[at:at + (n + 1) * m].reshape(n + 1, m))
            at += (n + 1) * m
        self.parts = [(layer[:-1], layer[-1:]) for layer in self.layers]

    def _rows(self):
        rows = [np.ones((1, n + 1), self.layers[0].dtype) for n in self.widths[:-1]]
        first, hidden = rows[0][0], [(x, w, y[:, :-1]) for x, w, y in zip(rows, self.layers, rows[1:])]
        return first, first[:-1], hidden, rows[-1], self.layers[-1]

    def of_one(self, x: np.ndarray, normalize=None) -> np.ndarray | None:
        """Return the outputs (1, k) for normalize(x), x of shape (n,); None if x is not finite, or its square is not."""
        try:
            rows = self.idle.pop()
        except IndexError:
            rows = self._rows()
        first, given, hidden, last, weights = rows
        given[...] = x
        if not isfinite(first.dot(first)):
            return None
        if normalize is not None:
            given[...] = normalize(given[None])[0]
        for x, w, y in hidden:
            x.dot(w, y)
            tanh(y, y)
        out = last.dot(weights)
        self.idle.append(rows)
        return out

    def of_rows(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs (n, k) for rows x; for one row with the bits of `of_one`."""
        if len(x) == 1 and (out := self.of_one(x[0])) is not None:
            return out
        for w, b in self.parts[:-1]:
            x = tanh(x.dot(w) + b)  # `dot` takes half the time of `@` on few rows
        return kernels.times(x, self.parts[-1][0]) + self.parts[-1][1]


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
                h[j] = kernels._tanh(y[j]) if k < layers - 1 else y[j]
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
