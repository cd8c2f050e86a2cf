"""Dense tanh networks: plain ones for a single row, and compiled loops, each beside its plain NumPy twin; see kernels.py."""

import math

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
        rows = self.idle.pop() if self.idle else self._rows()
        first, given, hidden, last, weights = rows
        given[...] = x
        if not math.isfinite(first.dot(first)):
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
        return x.dot(self.parts[-1][0]) + self.parts[-1][1]


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
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:])):
        h = h @ flat[at:at + n * m].reshape(n, m) + flat[at + n * m:at + n * m + m]
        h = np.tanh(h) if k < len(widths) - 2 else h
        at += n * m + m
    drawn[0, t] = h + noise[t]
    drawn[1, t] = np.minimum(np.maximum(drawn[0, t], bounds[0]), bounds[1])
    choice[t] = drawn[0, t].argmax(-1)
    return bool(np.isfinite(x).all())


# --- a batch, in chunks of rows that stay in the processor's cache: value, tangent and cotangent ---------------------------
#
# `hs` holds the outputs of all layers, one layer after the other: those of rows first:last of a layer of m that begins at
# `block` are hs[block + first * m:block + last * m].

@kernels.helper
def _chunk(widths, small):
    # rows at a time: as many as make small products, see kernels.product, or some hundred
    rows = 512
    for k in range(len(widths) - 1):
        rows = min(rows, kernels._rows(widths[k], widths[k + 1], small))
    return rows if rows >= 64 else 512


@kernels.helper
def _multiply(a, w, small, y):
    rows = kernels._rows(w.shape[0], w.shape[1], small)
    kernels._product(a, w, rows if rows else len(a), y)


@kernels.helper
def _sum_rows(a, out):
    # four rows at a time: each sum waits for the one before
    out[:] = 0
    whole = len(a) // 4 * 4
    for r in range(0, whole, 4):
        a0, a1, a2, a3 = a[r], a[r + 1], a[r + 2], a[r + 3]
        for j in range(len(out)):
            out[j] += a0[j] + a1[j] + a2[j] + a3[j]
    for r in range(whole, len(a)):
        for j in range(len(out)):
            out[j] += a[r, j]


@kernels.helper
def _values(flat, widths, x, small, hs):
    n, layers, chunk = len(x), len(widths) - 1, _chunk(widths, small)
    for first in range(0, n, chunk):
        last, at, block = min(first + chunk, n), 0, 0
        h = x[first:last]
        for k in range(layers):
            m, end = widths[k + 1], at + widths[k] * widths[k + 1]
            b, y = flat[end:end + m], hs[block + first * m:block + last * m].reshape((last - first, m))
            _multiply(h, flat[at:end].reshape((widths[k], m)), small, y)
            for r in range(last - first):
                for j in range(m):
                    y[r, j] = kernels._tanh(y[r, j] + b[j]) if k < layers - 1 else y[r, j] + b[j]
            h, at, block = y, end + m, block + n * m


@kernels.helper
def _cotangents(flat, widths, x, hs, g, small, out):
    n, layers, chunk, size = len(x), len(widths) - 1, _chunk(widths, small), len(out)
    part, turned, widest = np.empty(size, np.float32), np.empty(size, np.float32), 0
    at = 0
    for k in range(layers):
        m, end = widths[k + 1], at + widths[k] * widths[k + 1]
        turned[at:end].reshape((m, widths[k]))[:] = flat[at:end].reshape((widths[k], m)).T
        at, widest = end + m, max(widest, m)
    spare = np.empty((2, chunk * widest), np.float32)
    out[:] = 0
    for first in range(0, n, chunk):
        last, end, block = min(first + chunk, n), size, len(hs)
        rows, back = last - first, g[first:last]
        for k in range(layers - 1, -1, -1):
            w, m = widths[k], widths[k + 1]
            end, block = end - m, block - n * m
            at, before = end - w * m, block - n * w
            h = x[first:last] if k == 0 else hs[before + first * w:before + last * w].reshape((rows, w))
            np.dot(h.T, back, part[at:end].reshape((w, m)))
            _sum_rows(back, part[end:end + m])
            if k:
                ahead = spare[k % 2, :rows * w].reshape((rows, w))
                _multiply(back, turned[at:end].reshape((m, w)), small, ahead)
                for r in range(rows):
                    for j in range(w):
                        ahead[r, j] *= 1 - h[r, j] * h[r, j]
                back = ahead
            end = at
        for i in range(size):
            out[i] += part[i]


def _mlp_values_loop(flat, widths, x, small):
    hs = np.empty(len(x) * widths[1:].sum(), np.float32)
    _values(flat, widths, x, small, hs)
    return hs


def _mlp_push_loop(flat, widths, x, hs, dflat, small):
    n, layers, chunk = len(x), len(widths) - 1, _chunk(widths, small)
    out, widest = np.empty((n, widths[layers]), np.float32), widths.max()
    spare, other = np.empty((2, chunk * widest), np.float32), np.empty(chunk * widest, np.float32)
    for first in range(0, n, chunk):
        last, at, block = min(first + chunk, n), 0, 0
        rows = last - first
        h, d = x[first:last], x[first:last]
        for k in range(layers):
            m, end = widths[k + 1], at + widths[k] * widths[k + 1]
            y = out[first:last] if k == layers - 1 else spare[k % 2, :rows * m].reshape((rows, m))
            _multiply(h, dflat[at:end].reshape((widths[k], m)), small, y)
            db, h = dflat[end:end + m], hs[block + first * m:block + last * m].reshape((rows, m))
            if k:
                more = other[:rows * m].reshape((rows, m))
                _multiply(d, flat[at:end].reshape((widths[k], m)), small, more)
                for r in range(rows):
                    for j in range(m):
                        y[r, j] += more[r, j]
            for r in range(rows):
                for j in range(m):
                    v = y[r, j] + db[j]
                    y[r, j] = v * (1 - h[r, j] * h[r, j]) if k < layers - 1 else v
            d, at, block = y, end + m, block + n * m
    return out


def _mlp_pull_loop(flat, widths, x, hs, g, small):
    out = np.empty_like(flat)
    _cotangents(flat, widths, x, hs, g, small, out)
    return out


def _mlp_loss_loop(flat, widths, x, goal, weights, small):
    n, size = len(x), len(flat)
    hs, g, out = np.empty(n * widths[1:].sum(), np.float32), np.empty((n, 1), np.float32), np.zeros(size + 2, np.float32)
    _values(flat, widths, x, small, hs)
    y = hs[len(hs) - n:]
    for r in range(n):
        error = y[r] - goal[r]
        g[r, 0] = 2 * weights[r] * error
        out[size] += weights[r] * error * error
        out[size + 1] += weights[r]
    _cotangents(flat, widths, x, hs, g, small, out[:size])
    return out


def _example(*more):
    f = np.float32
    return lambda: (np.zeros(2, f), np.array([1, 1]), np.zeros((1, 1), f), *(np.zeros(shape, f) for shape in more), 0)


def _layers(flat, widths):
    # matrix and bias of each layer
    at = 0
    for n, m in zip(widths[:-1], widths[1:]):
        yield flat[at:at + n * m].reshape(n, m), flat[at + n * m:at + n * m + m]
        at += n * m + m


def _outputs(widths, x, hs):
    # what each layer reads, and then the network's outputs
    blocks = np.split(hs, len(x) * np.cumsum(widths[1:-1]))
    return [x, *(block.reshape(len(x), m) for block, m in zip(blocks, widths[1:]))]


@twin(_mlp_values_loop, _example())
def mlp_values(flat, widths, x, small):
    """Return the outputs of all layers of a tanh network on rows x (n, k), one layer after the other, in one axis; float32.

    The network has its layers (w, b) one after the other in `flat`; there is no tanh after the last. `small` is kernels.small().
    """
    hs, last = [x], len(widths) - 2
    for k, (w, b) in enumerate(_layers(flat, widths)):
        y = hs[-1] @ w + b
        hs.append(np.tanh(y) if k < last else y)
    return np.concatenate([h.ravel() for h in hs[1:]])


@twin(_mlp_push_loop, _example(1, 2))
def mlp_push(flat, widths, x, hs, dflat, small):
    """Return the tangent (n, m) of the outputs of `mlp_values`, which gave `hs`, for that of `flat`."""
    hs, d = _outputs(widths, x, hs), None
    for k, ((w, _), (dw, db)) in enumerate(zip(_layers(flat, widths), _layers(dflat, widths))):
        y = hs[k] @ dw + db
        y = y if d is None else y + d @ w
        d = y * (1 - hs[k + 1] * hs[k + 1]) if k < len(widths) - 2 else y
    return d


@twin(_mlp_pull_loop, _example(1, (1, 1)))
def mlp_pull(flat, widths, x, hs, g, small):
    """Return the cotangent of `flat` for that of the outputs, g (n, m): the transpose of `mlp_push`."""
    hs, parts = _outputs(widths, x, hs), []
    for h, (w, _) in zip(hs[-2::-1], list(_layers(flat, widths))[::-1]):
        parts += [g.sum(0), (h.T @ g).ravel()]
        g = (g @ w.T) * (1 - h * h)  # of the observations too, in the end: of no use
    return np.concatenate(parts[::-1])


@twin(_mlp_loss_loop, _example(1, 1))
def mlp_loss(flat, widths, x, goal, weights, small):
    """Return the gradient of sum(weights * (y - goal)^2) in `flat`, then that sum, then sum(weights); y (n, 1) is the output."""
    hs = mlp_values.plain(flat, widths, x, small)
    error = hs[len(hs) - len(x):] - goal
    grad = mlp_pull.plain(flat, widths, x, hs, (2 * weights * error)[:, None], small)
    return np.append(grad, np.array([np.sum(weights * error * error), np.sum(weights)], flat.dtype))
