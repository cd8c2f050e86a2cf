"""Dense layers with tanh between them, on a batch: values, tangents, cotangents and the value loss, compiled.

These loops have no plain twin: `ops.mlp` composes the same of ops where they are not compiled, and that is their oracle.

A network is `flat`, in which each layer's matrix (n, m) and bias (m,) stand one after the other, and `widths`, the numbers
of its inputs, of each hidden layer and of its outputs. A batch goes through all layers in chunks of rows that stay in the
processor's cache. `hs` holds the outputs of all layers for all rows, one layer after the other. `at` says where things lie:
at[k] = (matrix of layer k in flat, its bias in flat, its outputs in hs). `small` is blas.small().
"""

import numpy as np

from . import blas, scalar
from .compile import helper, kernel

# --- where things lie -------------------------------------------------------------------------------------------------


@helper
def places(widths, n):
    # at[k], see above, for hs of n rows
    at, begin, outputs = np.empty((len(widths) - 1, 3), np.int64), 0, 0
    for k in range(len(widths) - 1):
        at[k, 0], at[k, 1], at[k, 2] = begin, begin + widths[k] * widths[k + 1], outputs
        begin, outputs = at[k, 1] + widths[k + 1], outputs + n * widths[k + 1]
    return at


@helper
def matrix(flat, widths, at, k):
    return flat[at[k, 0]:at[k, 1]].reshape((widths[k], widths[k + 1]))


@helper
def transposed(flat, widths, at, k):
    # a layer's matrix of what `transpose_all` made
    return flat[at[k, 0]:at[k, 1]].reshape((widths[k + 1], widths[k]))


@helper
def bias(flat, widths, at, k):
    return flat[at[k, 1]:at[k, 1] + widths[k + 1]]


@helper
def outputs_of(hs, widths, at, k, first, last):
    # the outputs of layer k for rows first:last
    m = widths[k + 1]
    return hs[at[k, 2] + first * m:at[k, 2] + last * m].reshape((last - first, m))


@helper
def jacobian_of(jac, widths, at, k, first, last):
    # what `jacobian` gave for hidden layer k and rows first:last, (rows, outputs, m)
    outputs, m = widths[-1], widths[k + 1]
    begin = outputs * at[k, 2]
    return jac[begin + first * outputs * m:begin + last * outputs * m].reshape((last - first, outputs, m))


# --- pieces -----------------------------------------------------------------------------------------------------------

@helper
def chunk_size(widths, small):
    # rows at a time: as many as make small products, see blas.product, or some hundred
    rows = 512
    for k in range(len(widths) - 1):
        rows = min(rows, blas.rows_within(widths[k], widths[k + 1], small))
        if rows < 64:  # and the compiler does not make a loop of vectors of this, 4,000 lines of it
            return 512
    return rows


@helper
def multiply(a, w, small, y):
    # y = a w, as many rows at a time as make small products
    rows = blas.rows_within(w.shape[0], w.shape[1], small)
    rows = rows if rows else max(len(a), 1)
    for r in range(0, len(a), rows):
        np.dot(a[r:r + rows], w, y[r:r + rows])


@helper
def affine_by_rows(a, w, b, y):
    # y = a w + b, each in one axis, for few rows, for which a call of BLAS takes longer than this
    m, n = len(b), len(w) // len(b)
    for r in range(len(y) // m):
        x, out = a[r * n:], y[r * m:]
        for j in range(m):
            out[j] = b[j]
        for i in range(n % 4):
            x0, w0 = x[i], w[i * m:]
            for j in range(m):
                out[j] += x0 * w0[j]
        for i in range(n % 4, n, 4):  # four at a time, so that the row is read and written less often
            x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
            w0, w1, w2, w3 = w[i * m:], w[(i + 1) * m:], w[(i + 2) * m:], w[(i + 3) * m:]
            for j in range(m):
                out[j] += x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]


@helper
def add_bias(y, b):
    for r in range(len(y)):
        for j in range(len(b)):
            y[r, j] += b[j]


@helper
def through_tanh(d, h):
    # d times the derivative of the tanh whose outputs are h, in place
    for r in range(len(d)):
        for j in range(d.shape[1]):
            d[r, j] *= 1 - h[r, j] * h[r, j]


@helper
def sum_rows(a, out):
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
def transpose_all(flat, widths, at):
    # the same with each layer's matrix transposed
    out = np.empty_like(flat)
    for k in range(len(widths) - 1):
        w, turned = matrix(flat, widths, at, k), transposed(out, widths, at, k)
        for i in range(w.shape[0]):
            for j in range(w.shape[1]):
                turned[j, i] = w[i, j]
    return out


@helper
def push_rows(jac, dy, out):
    # add to out (n, outputs) the tangents dy (n, m) times the Jacobian's rows, jac (n, outputs, m)
    for r in range(len(dy)):
        d = dy[r]
        for c in range(jac.shape[1]):
            row, total = jac[r, c], np.float32(0)
            for j in range(len(d)):
                total += row[j] * d[j]
            out[r, c] += total


@helper
def pull_rows(jac, g, out):
    # out (n, m): the cotangents g (n, outputs) times the Jacobian's rows, three at a time
    k = jac.shape[1]
    for r in range(len(g)):
        gy = out[r]
        gy[:] = 0
        for c in range(k % 3):
            a, u = g[r, c], jac[r, c]
            for j in range(len(gy)):
                gy[j] += a * u[j]
        for i in range(k % 3, k, 3):
            a, b, c, u, v, w = g[r, i], g[r, i + 1], g[r, i + 2], jac[r, i], jac[r, i + 1], jac[r, i + 2]
            for j in range(len(gy)):
                gy[j] += a * u[j] + b * v[j] + c * w[j]


# --- the network ------------------------------------------------------------------------------------------------------

@helper
def forward(flat, widths, x, n, first, last, small, by_rows, hs):
    # fill hs, of n rows, for the rows first:last of x, which is one axis; `by_rows` suits few of them
    h, begin, block = x[first * widths[0]:last * widths[0]], 0, 0
    for k in range(len(widths) - 1):
        m = widths[k + 1]
        end = begin + widths[k] * m
        w, b, y = flat[begin:end], flat[end:end + m], hs[block + first * m:block + last * m]
        if by_rows:
            affine_by_rows(h, w, b, y)
        else:
            rows = last - first
            multiply(h.reshape((rows, widths[k])), w.reshape((widths[k], m)), small, y.reshape((rows, m)))
            add_bias(y.reshape((rows, m)), b)
        if k < len(widths) - 2:
            for i in range(len(y)):
                y[i] = scalar.tanh1(y[i])
        h, begin, block = y, end + m, block + n * m


@helper
def forward_all(flat, widths, x, small, hs):
    chunk, n = chunk_size(widths, small), len(x)
    for first in range(0, n, chunk):
        forward(flat, widths, x.reshape(x.size), n, first, min(first + chunk, n), small, False, hs)


@helper
def backward(flat, widths, at, x, hs, jac, g, small, out):
    # the cotangent of flat, into out, for that of the outputs, g (n, outputs)
    layers, chunk = len(widths) - 1, chunk_size(widths, small)
    part, turned = np.empty_like(out), transpose_all(flat, widths, at)
    spare = np.empty((2, chunk * widths[1:].max()), np.float32)
    out[:] = 0
    for first in range(0, len(x), chunk):
        last = min(first + chunk, len(x))
        rows, gy = last - first, g[first:last]
        for k in range(layers - 1, -1, -1):
            h = x[first:last] if k == 0 else outputs_of(hs, widths, at, k - 1, first, last)
            np.dot(h.T, gy, matrix(part, widths, at, k))
            sum_rows(gy, bias(part, widths, at, k))
            if k:
                gh = spare[k % 2, :rows * widths[k]].reshape((rows, widths[k]))
                if len(jac) and k < layers - 1:
                    pull_rows(jacobian_of(jac, widths, at, k - 1, first, last), g[first:last], gh)
                else:
                    multiply(gy, transposed(turned, widths, at, k), small, gh)
                    through_tanh(gh, h)
                gy = gh
        for i in range(len(out)):
            out[i] += part[i]


# --- kernels ----------------------------------------------------------------------------------------------------------

def _example(*more):
    f = np.float32
    return lambda: (np.zeros(2, f), np.array([1, 1]), np.zeros((1, 1), f), *(np.zeros(shape, f) for shape in more), 0)


@kernel(_example())
def values(flat, widths, x, small):
    """Return the outputs of all layers on rows x (n, k), one layer after the other, in one axis."""
    hs = np.empty(len(x) * widths[1:].sum(), np.float32)
    forward_all(flat, widths, x, small, hs)
    return hs


@kernel(_example(1))
def jacobian(flat, widths, x, hs, small):
    """Return the derivatives of the outputs in what goes into each hidden layer's tanh, but the last layer's.

    They are (n, outputs, m) for a layer of m, one layer after the other, in one axis. Where outputs are few, tangents of a
    layer get to them, and cotangents back, without a product for each layer between.
    """
    layers, chunk, outputs = len(widths) - 1, chunk_size(widths, small), widths[-1]
    at = places(widths, len(x))
    out, top = np.empty(outputs * at[layers - 2, 2], np.float32), widths[-2]
    spare, turned = np.empty(chunk * outputs * top, np.float32), transpose_all(flat, widths, at)
    w = transposed(turned, widths, at, layers - 1)
    for first in range(0, len(x), chunk):
        last = min(first + chunk, len(x))
        h, n = outputs_of(hs, widths, at, layers - 2, first, last), (last - first) * outputs
        g = spare[:n * top].reshape((last - first, outputs, top))
        for r in range(last - first):
            for c in range(outputs):
                for j in range(top):
                    g[r, c, j] = w[c, j] * (1 - h[r, j] * h[r, j])
        for k in range(layers - 2, 0, -1):
            gh, h = jacobian_of(out, widths, at, k - 1, first, last), outputs_of(hs, widths, at, k - 1, first, last)
            multiply(g.reshape((n, widths[k + 1])), transposed(turned, widths, at, k), small, gh.reshape((n, widths[k])))
            for r in range(last - first):
                for c in range(outputs):
                    for j in range(widths[k]):
                        gh[r, c, j] *= 1 - h[r, j] * h[r, j]
            g = gh
    return out


@kernel(_example(1, 0, 2))
def push(flat, widths, x, hs, jac, dflat, small):
    """Return the tangent (n, outputs) of the outputs for that of `flat`; hs is of `values`, jac of `jacobian` or empty."""
    layers, chunk, outputs, at = len(widths) - 1, chunk_size(widths, small), widths[-1], places(widths, len(x))
    dout, side = np.empty((len(x), outputs), np.float32), np.empty((chunk, outputs), np.float32)
    spare, other = np.empty((2, chunk * widths.max()), np.float32), np.empty(chunk * widths.max(), np.float32)
    for first in range(0, len(x), chunk):
        last = min(first + chunk, len(x))
        rows, h, dh = last - first, x[first:last], x[first:last]
        side[:] = 0
        for k in range(layers):
            m, top = widths[k + 1], k == layers - 1
            dy = dout[first:last] if top else spare[k % 2, :rows * m].reshape((rows, m))
            multiply(h, matrix(dflat, widths, at, k), small, dy)
            h = outputs_of(hs, widths, at, k, first, last)
            if k and (not len(jac) or top):
                more = other[:rows * m].reshape((rows, m))
                multiply(dh, matrix(flat, widths, at, k), small, more)
                for r in range(rows):
                    for j in range(m):
                        dy[r, j] += more[r, j]
            add_bias(dy, bias(dflat, widths, at, k))
            if len(jac) and k < layers - 2:
                push_rows(jacobian_of(jac, widths, at, k, first, last), dy, side)
            elif not top:
                through_tanh(dy, h)
            else:
                for r in range(rows):
                    for j in range(m):
                        dy[r, j] += side[r, j]
            dh = dy
    return dout


@kernel(_example(1, 0, (1, 1)))
def pull(flat, widths, x, hs, jac, g, small):
    """Return the cotangent of `flat` for that of the outputs, g (n, outputs): the transpose of `push`."""
    out = np.empty_like(flat)
    backward(flat, widths, places(widths, len(x)), x, hs, jac, g, small, out)
    return out


@kernel(_example(1, 1))
def loss(flat, widths, x, goal, weights, small):
    """Return the gradient of sum(weights * (y - goal)^2) in `flat`, then that sum, then sum(weights); y (n, 1) is the output."""
    n, size, at = len(x), len(flat), places(widths, len(x))
    hs, g, out = np.empty(n * widths[1:].sum(), np.float32), np.empty((n, 1), np.float32), np.zeros(size + 2, np.float32)
    forward_all(flat, widths, x, small, hs)
    y = hs[len(hs) - n:]
    for r in range(n):
        error = y[r] - goal[r]
        g[r, 0] = 2 * weights[r] * error
        out[size] += weights[r] * error * error
        out[size + 1] += weights[r]
    backward(flat, widths, at, x, hs, hs[:0], g, small, out[:size])
    return out
