"""Compiled loops over dense tanh layers, each beside its plain NumPy twin; see kernels.py."""

import numpy as np

from . import kernels
from .kernels import twin

# --- many rows, layer by layer: the products are BLAS's, and each pass over the rows does all that it can ---------------

def _bias_tanh_loop(z, b):
    out = np.empty_like(z)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            out[i, j] = kernels._tanh(z[i, j] + b[j])
    return out


@twin(_bias_tanh_loop, lambda: (np.zeros((1, 1), np.float32), np.zeros(1, np.float32)))
def bias_tanh(z, b):
    """Return tanh(z + b) of products z (n, m) and a bias b (m,)."""
    y = z + b
    return np.tanh(y, out=y)


def _tanh_push_loop(dz, more, db, y):
    out, both = np.empty_like(dz), more.size > 0
    for i in range(dz.shape[0]):
        if both:
            for j in range(dz.shape[1]):
                out[i, j] = (dz[i, j] + more[i, j] + db[j]) * (np.float32(1) - y[i, j] * y[i, j])
        else:
            for j in range(dz.shape[1]):
                out[i, j] = (dz[i, j] + db[j]) * (np.float32(1) - y[i, j] * y[i, j])
    return out


def _matrix():
    return np.zeros((1, 1), np.float32)


@twin(_tanh_push_loop, lambda: (_matrix(), _matrix(), np.zeros(1, np.float32), _matrix()))
def tanh_push(dz, more, db, y):
    """Return (dz + more + db) * (1 - y^2), the tangent of y = tanh(z + b), (n, m); of `more` (n, m) there may be no rows."""
    dy = dz + more if more.size else dz.copy()
    dy += db
    dy *= 1 - y * y
    return dy


def _tanh_pull_loop(g, y):
    out = np.empty_like(y)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            out[i, j] = g[i, j] * (np.float32(1) - y[i, j] * y[i, j])
    return out


@twin(_tanh_pull_loop, lambda: (_matrix(), _matrix()))
def tanh_pull(g, y):
    """Return g * (1 - y^2), the cotangent of z, for that of y = tanh(z), (n, m)."""
    return g * (1 - y * y)


# --- a small network on few rows --------------------------------------------------------------------------------------

def _mlp_loop(flat, widths, shift, factor, clip, x):
    rows, layers = x.shape[0], len(widths) - 1
    out = np.empty((rows, widths[layers]), np.float32)
    widest = 0
    for width in widths:
        widest = max(widest, width)
    h, y = np.empty(widest, np.float32), np.empty(widest, np.float32)
    for r in range(rows):
        for i in range(widths[0]):
            h[i] = min(max((x[r, i] - shift[i]) * factor[i], -clip), clip)
        at = 0
        for k in range(layers):
            n, m = widths[k], widths[k + 1]
            for j in range(m):
                y[j] = flat[at + n * m + j]
            for i in range(n):
                a = h[i]
                w = flat[at:at + m]
                for j in range(m):
                    y[j] += a * w[j]
                at += m
            at += m
            for j in range(m):
                h[j] = kernels._tanh(y[j]) if k < layers - 1 else y[j]
        for j in range(widths[layers]):
            out[r, j] = h[j]
    return out


def _mlp_example():
    f = np.float32
    return np.zeros(2, f), np.array([1, 1]), np.zeros(1, f), np.ones(1, f), f(10), np.zeros((1, 1), f)


@twin(_mlp_loop, _mlp_example)
def mlp_tanh(flat, widths, shift, factor, clip, x):
    """Apply a tanh network to the rows clip((x - shift) * factor): float32, layers (w, b) one after the other in `flat`."""
    h, at = np.minimum(np.maximum((x - shift) * factor, -clip), clip), 0
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:])):
        h = h @ flat[at:at + n * m].reshape(n, m) + flat[at + n * m:at + n * m + m]
        h = np.tanh(h) if k < len(widths) - 2 else h
        at += n * m + m
    return h


def _mlp_loss_loop(flat, widths, x, goal, weights):
    n, layers, at = x.shape[0], len(widths) - 1, 0
    grad = np.zeros(flat.size + 2, np.float32)
    hs = [x]
    for k in range(layers):
        end = at + widths[k] * widths[k + 1]
        y, b = np.dot(hs[k], flat[at:end].reshape((widths[k], widths[k + 1]))), flat[end:end + widths[k + 1]]
        for r in range(n):
            for j in range(y.shape[1]):
                y[r, j] = kernels._tanh(y[r, j] + b[j]) if k < layers - 1 else y[r, j] + b[j]
        hs.append(y)
        at = end + widths[k + 1]
    g = np.empty((n, 1), np.float32)
    for r in range(n):
        error = hs[layers][r, 0] - goal[r]
        g[r, 0] = 2 * weights[r] * error
        grad[at] += weights[r] * error * error
        grad[at + 1] += weights[r]
    for k in range(layers - 1, -1, -1):
        h = hs[k]
        end = at - widths[k + 1]
        at = end - widths[k] * widths[k + 1]
        np.dot(h.T, g, grad[at:end].reshape((widths[k], widths[k + 1])))
        for r in range(n):
            for j in range(widths[k + 1]):
                grad[end + j] += g[r, j]
        if k:
            g = np.dot(g, flat[at:end].reshape((widths[k], widths[k + 1])).T)
            for r in range(n):
                for j in range(widths[k]):
                    g[r, j] *= 1 - h[r, j] * h[r, j]
    return grad


def _mlp_loss_example():
    f = np.float32
    return np.zeros(2, f), np.array([1, 1]), np.zeros((1, 1), f), np.zeros(1, f), np.ones(1, f)


@twin(_mlp_loss_loop, _mlp_loss_example)
def mlp_loss(flat, widths, x, goal, weights):
    """Return the gradient of sum(weights * (y - goal)^2) in `flat`, then that sum, then sum(weights); y (n, 1) is the tanh
    network of `mlp_tanh` on rows x (n, k), all float32."""
    hs, layers, at = [x], [], 0
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:])):
        layers.append((slice(at, at + n * m), slice(at + n * m, at + n * m + m), flat[at:at + n * m].reshape(n, m)))
        y = hs[-1] @ layers[-1][2] + flat[layers[-1][1]]
        hs.append(np.tanh(y) if k < len(widths) - 2 else y)
        at += n * m + m
    grad, error = np.zeros(at + 2, flat.dtype), hs.pop()[:, 0] - goal
    grad[at:] = np.sum(weights * error * error), np.sum(weights)
    g = (2 * weights * error)[:, None]
    for h, (w, b, matrix) in zip(hs[::-1], layers[::-1]):
        grad[w], grad[b] = (h.T @ g).ravel(), g.sum(0)
        g = (g @ matrix.T) * (1 - h * h)  # of the observations too, in the end: of no use
    return grad
