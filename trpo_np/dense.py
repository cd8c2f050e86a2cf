"""Compiled dense tanh networks, each beside its plain NumPy twin: an actor's few rows, a critic's minibatch; see kernels.py."""

import numpy as np

from . import kernels
from .kernels import twin


def _mlp_loop(flat, widths, scale, clip, x, noise, bounds):
    rows, layers = x.shape[0], len(widths) - 1
    out = np.empty((2, rows, widths[layers]), np.float32)
    widest = 0
    for width in widths:
        widest = max(widest, width)
    h, y = np.empty(widest, np.float32), np.empty(widest, np.float32)
    for r in range(rows):
        for i in range(widths[0]):
            h[i] = min(max((x[r, i] - scale[0, i]) * scale[1, i], -clip), clip)
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
            out[0, r, j] = h[j] + noise[r, j]
            out[1, r, j] = min(max(out[0, r, j], bounds[0, j]), bounds[1, j])
    return out


def _mlp_example():
    f = np.float32
    return (np.zeros(2, f), np.array([1, 1]), np.ones((2, 1), f), f(10), np.zeros((1, 1), f), np.zeros((1, 1), f),
            np.ones((2, 1), f))


def unbounded(size: int) -> np.ndarray:
    """Return bounds (2, size) for `mlp_tanh` that clip nothing."""
    return np.repeat(np.array([[-np.inf], [np.inf]], np.float32), size, axis=1)


@twin(_mlp_loop, _mlp_example)
def mlp_tanh(flat, widths, scale, clip, x, noise, bounds):
    """Return a tanh network's outputs for rows x plus `noise`, and the same within `bounds` (2, k): (2, n, k), all float32.

    The network has its layers (w, b) one after the other in `flat`; it sees clip((x - scale[0]) * scale[1]).
    """
    h, at = np.minimum(np.maximum((x - scale[0]) * scale[1], -clip), clip), 0
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:])):
        h = h @ flat[at:at + n * m].reshape(n, m) + flat[at + n * m:at + n * m + m]
        h = np.tanh(h) if k < len(widths) - 2 else h
        at += n * m + m
    h = h + noise
    return np.stack([h, np.minimum(np.maximum(h, bounds[0]), bounds[1])])


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
