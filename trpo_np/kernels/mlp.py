"""Dense tanh networks on a batch, with derivatives: compiled loops, each beside its plain NumPy twin; see compile.py.

A batch goes through all layers in chunks of rows that stay in the processor's cache. `hs` holds the outputs of all layers, one
layer after the other: those of rows first:last of a layer of m that begins at `block` are hs[block + first * m:block + last * m].
"""

import numpy as np

from . import blas, scalar
from .compile import helper, twin


@helper
def _chunk(widths, small):
    # rows at a time: as many as make small products, see blas.product, or some hundred
    rows = 512
    for k in range(len(widths) - 1):
        rows = min(rows, blas.rows_within(widths[k], widths[k + 1], small))
        if rows < 64:  # and the compiler does not make a loop of vectors of this, 4,000 lines of it
            return 512
    return rows


@helper
def _multiply(a, w, small, y):
    # y = a @ w, as many rows at a time as make small products
    rows = blas.rows_within(w.shape[0], w.shape[1], small)
    rows = rows if rows else max(len(a), 1)
    for r in range(0, len(a), rows):
        np.dot(a[r:r + rows], w, y[r:r + rows])


@helper
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


@helper
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
                    y[r, j] = scalar.tanh1(y[r, j] + b[j]) if k < layers - 1 else y[r, j] + b[j]
            h, at, block = y, end + m, block + n * m


@helper
def _along(jac, y, out):
    # add to out (n, k) the tangents y (n, m) times the Jacobian's rows, jac (n, k, m)
    for r in range(len(y)):
        u = y[r]
        for c in range(jac.shape[1]):
            row, total = jac[r, c], np.float32(0)
            for j in range(len(u)):
                total += row[j] * u[j]
            out[r, c] += total


@helper
def _back(jac, g, out):
    # out (n, m): the cotangents g (n, k) times the Jacobian's rows, three at a time
    k = jac.shape[1]
    for r in range(len(g)):
        y = out[r]
        y[:] = 0
        for c in range(k % 3):
            a, u = g[r, c], jac[r, c]
            for j in range(len(y)):
                y[j] += a * u[j]
        for i in range(k % 3, k, 3):
            a, b, c, u, v, w = g[r, i], g[r, i + 1], g[r, i + 2], jac[r, i], jac[r, i + 1], jac[r, i + 2]
            for j in range(len(y)):
                y[j] += a * u[j] + b * v[j] + c * w[j]


@helper
def _turned(flat, widths):
    # the same with each layer's matrix transposed
    out, at = np.empty_like(flat), 0
    for k in range(len(widths) - 1):
        n, m = widths[k], widths[k + 1]
        for i in range(n):
            for j in range(m):
                out[at + j * n + i] = flat[at + i * m + j]
        at += n * m + m
    return out


@helper
def _cotangents(flat, widths, x, hs, jac, g, small, out):
    n, layers, chunk, size, few = len(x), len(widths) - 1, _chunk(widths, small), len(out), widths[-1]
    part, turned, spare = np.empty(size, np.float32), _turned(flat, widths), np.empty((2, chunk * widths[1:].max()), np.float32)
    out[:] = 0
    for first in range(0, n, chunk):
        last, end, block, place = min(first + chunk, n), size, len(hs), len(jac)
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
                if len(jac) and k < layers - 1:
                    place -= n * few * w
                    known = jac[place + first * few * w:place + last * few * w].reshape((rows, few, w))
                    _back(known, g[first:last], ahead)
                else:
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


def _mlp_jacobian_loop(flat, widths, x, hs, small):
    n, layers, chunk, few, top = len(x), len(widths) - 1, _chunk(widths, small), widths[-1], widths[-2]
    out, spare = np.empty(n * few * widths[1:-2].sum(), np.float32), np.empty(chunk * few * top, np.float32)
    turned, begin = _turned(flat, widths), len(flat) - few - few * top
    for first in range(0, n, chunk):
        last, at, block, place = min(first + chunk, n), begin, len(hs) - n * (few + top), len(out)
        rows, w = last - first, turned[begin:begin + few * top].reshape((few, top))
        h, back = hs[block + first * top:block + last * top], spare[:rows * few * top].reshape((rows * few, top))
        for r in range(rows):
            for c in range(few):
                for j in range(top):
                    back[r * few + c, j] = w[c, j] * (1 - h[r * top + j] * h[r * top + j])
        for k in range(layers - 2, 0, -1):
            m, size = widths[k], widths[k] * widths[k + 1]
            at, block, place = at - size - widths[k + 1], block - n * m, place - n * few * m
            ahead = out[place + first * few * m:place + last * few * m].reshape((rows * few, m))
            _multiply(back, turned[at:at + size].reshape((widths[k + 1], m)), small, ahead)
            h, back = hs[block + first * m:block + last * m], ahead
            for r in range(rows):
                for c in range(few):
                    for j in range(m):
                        back[r * few + c, j] *= 1 - h[r * m + j] * h[r * m + j]
    return out


def _mlp_push_loop(flat, widths, x, hs, jac, dflat, small):
    n, layers, chunk, few = len(x), len(widths) - 1, _chunk(widths, small), widths[-1]
    out, widest, side = np.empty((n, few), np.float32), widths.max(), np.empty((chunk, few), np.float32)
    spare, other = np.empty((2, chunk * widest), np.float32), np.empty(chunk * widest, np.float32)
    for first in range(0, n, chunk):
        last, at, block, place = min(first + chunk, n), 0, 0, 0
        rows = last - first
        side[:] = 0
        h, d = x[first:last], x[first:last]
        for k in range(layers):
            m, end = widths[k + 1], at + widths[k] * widths[k + 1]
            y = out[first:last] if k == layers - 1 else spare[k % 2, :rows * m].reshape((rows, m))
            _multiply(h, dflat[at:end].reshape((widths[k], m)), small, y)
            db, h = dflat[end:end + m], hs[block + first * m:block + last * m].reshape((rows, m))
            if k and (not len(jac) or k == layers - 1):
                more = other[:rows * m].reshape((rows, m))
                _multiply(d, flat[at:end].reshape((widths[k], m)), small, more)
                for r in range(rows):
                    for j in range(m):
                        y[r, j] += more[r, j]
            if len(jac) and k < layers - 2:
                for r in range(rows):
                    for j in range(m):
                        y[r, j] += db[j]
                _along(jac[place + first * few * m:place + last * few * m].reshape((rows, few, m)), y, side)
                place += n * few * m
            else:
                for r in range(rows):
                    for j in range(m):
                        v = y[r, j] + db[j]
                        y[r, j] = v * (1 - h[r, j] * h[r, j]) if k < layers - 1 else v + side[r, j]
            d, at, block = y, end + m, block + n * m
    return out


def _mlp_pull_loop(flat, widths, x, hs, jac, g, small):
    out = np.empty_like(flat)
    _cotangents(flat, widths, x, hs, jac, g, small, out)
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
    _cotangents(flat, widths, x, hs, hs[:0], g, small, out[:size])
    return out


def has_few_outputs(n: int, widths) -> bool:
    """Say whether `mlp_jacobian` of n rows pays in some ten products: wide layers, few outputs, and it stays in the cache."""
    inner, few = widths[1:-1], widths[-1]
    pays = len(inner) > 1 and few <= 6 and min(inner) >= 8 * few and n * few * sum(inner[:-1]) <= 4_000_000
    return pays and mlp_jacobian.compiled is not None  # the plain twins do without


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

    The network has its layers (w, b) one after the other in `flat`; there is no tanh after the last. `small` is blas.small().
    """
    hs, last = [x], len(widths) - 2
    for k, (w, b) in enumerate(_layers(flat, widths)):
        y = blas.times(hs[-1], w) + b
        hs.append(np.tanh(y) if k < last else y)
    return np.concatenate([h.ravel() for h in hs[1:]])


@twin(_mlp_jacobian_loop, _example(1))
def mlp_jacobian(flat, widths, x, hs, small):
    """Return the derivatives of the k outputs of `mlp_values` in what goes into each hidden layer's tanh, but the last layer's.

    They are (n, k, m) for a layer of m, one layer after the other, in one axis. Where outputs are few, tangents of a layer get to
    them, and cotangents back, without a product for each layer between.
    """
    found, hs, (*layers, last) = [], _outputs(widths, x, hs), list(_layers(flat, widths))
    back = np.broadcast_to(last[0].T, (len(x), *last[0].T.shape))
    for h, (w, _) in zip(hs[-2:1:-1], layers[:0:-1]):
        back = (back * (1 - h * h)[:, None]) @ w.T
        found.append(back)
    scaled = [back * (1 - h * h)[:, None] for back, h in zip(found[::-1], hs[1:])]
    return np.concatenate([block.ravel() for block in scaled]) if scaled else flat[:0]


@twin(_mlp_push_loop, _example(1, 0, 2))
def mlp_push(flat, widths, x, hs, jac, dflat, small):
    """Return the tangent (n, m) of the outputs of `mlp_values`, which gave `hs`, for that of `flat`; jac, if not empty, is
    what `mlp_jacobian` gave."""
    hs, d = _outputs(widths, x, hs), None
    for k, ((w, _), (dw, db)) in enumerate(zip(_layers(flat, widths), _layers(dflat, widths))):
        y = blas.times(hs[k], dw) + db
        y = y if d is None else y + blas.times(d, w)
        d = y * (1 - hs[k + 1] * hs[k + 1]) if k < len(widths) - 2 else y
    return d


@twin(_mlp_pull_loop, _example(1, 0, (1, 1)))
def mlp_pull(flat, widths, x, hs, jac, g, small):
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
    grad = mlp_pull.plain(flat, widths, x, hs, flat[:0], (2 * weights * error)[:, None], small)
    return np.append(grad, np.array([np.sum(weights * error * error), np.sum(weights)], flat.dtype))
