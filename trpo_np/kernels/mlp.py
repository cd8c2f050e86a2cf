"""Dense layers with tanh between them, on a batch: values, tangents, cotangents and the value loss, compiled.

These loops have no NumPy twin. Where they are not compiled, `ops.mlp` composes the same of ops; the tests
compare the loops with that.

A batch goes through all layers in chunks of rows that stay in the processor's cache. All arrays are float32:

    flat    the network: each layer's matrix (n, m) and bias (m,), one after the other, in one axis
    widths  the numbers of its inputs, of each hidden layer's outputs, and of its outputs
    x       the rows that go in, (rows, inputs)
    hs      what `values` returns: the outputs of each layer for all rows, after tanh, in one axis
    jac     what `jacobian` returns, or an empty array
    at      where layer k lies: at[k] = (its matrix in flat, its bias in flat, its outputs in hs)
    small   up to how many multiplications a product is a small one, see blas.small
"""

import numpy as np

from . import blas, scalar
from .compile import helper, kernel

# --- where things lie ---------------------------------------------------------------------------------------

@helper
def places(widths, n):
    # `at` for n rows
    at, begin, outputs = np.empty((len(widths) - 1, 3), np.int64), 0, 0
    for k in range(len(widths) - 1):
        at[k, 0], at[k, 1], at[k, 2] = begin, begin + widths[k] * widths[k + 1], outputs
        begin, outputs = at[k, 1] + widths[k + 1], outputs + n * widths[k + 1]
    return at


@helper
def matrix(flat, widths, at, k):
    # of layer k
    return flat[at[k, 0]:at[k, 1]].reshape((widths[k], widths[k + 1]))


@helper
def transposed(flat, widths, at, k):
    # the matrix of layer k, transposed, where flat is what `transpose_all` made
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
    # the part of `jac` for hidden layer k and rows first:last, (rows, outputs, m)
    outputs, m = widths[-1], widths[k + 1]
    begin = outputs * at[k, 2]
    return jac[begin + first * outputs * m:begin + last * outputs * m].reshape((last - first, outputs, m))


# --- steps of a layer ---------------------------------------------------------------------------------------

@helper
def chunk_size(widths, small):
    # how many rows go through all layers at a time: as many as make small products in each, or some hundred
    rows = 512
    for k in range(len(widths) - 1):
        rows = min(rows, blas.rows_within(widths[k], widths[k + 1], small))
        if rows < 64:  # left inside, since the compiler would turn a loop without it into 4,000 lines
            return 512
    return rows


@helper
def product(a, w, small, y):
    # y = a w, as many rows at a time as make a small product; the same as blas.product
    rows = blas.rows_within(w.shape[0], w.shape[1], small)
    rows = rows if rows else max(len(a), 1)
    for r in range(0, len(a), rows):
        np.dot(a[r:r + rows], w, y[r:r + rows])


@helper
def affine_by_rows(a, w, b, y):
    # y = a w + b, all in one axis, for few rows: a call of BLAS takes longer than this
    m, n = len(b), len(w) // len(b)
    for r in range(len(y) // m):
        x, out = a[r * n:], y[r * m:]
        for j in range(m):
            out[j] = b[j]
        for i in range(n % 4):
            x0, w0 = x[i], w[i * m:]
            for j in range(m):
                out[j] += x0 * w0[j]
        for i in range(n % 4, n, 4):  # four inputs at a time, so that y is read and written less often
            x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
            w0, w1, w2, w3 = w[i * m:], w[(i + 1) * m:], w[(i + 2) * m:], w[(i + 3) * m:]
            for j in range(m):
                out[j] += x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]


@helper
def add_bias(y, b):
    # y += b
    for r in range(len(y)):
        for j in range(len(b)):
            y[r, j] += b[j]


@helper
def pull_tanh(g, h):
    # g *= the derivative of the tanh whose outputs are h
    for r in range(len(g)):
        for j in range(g.shape[1]):
            g[r, j] *= 1 - h[r, j] * h[r, j]


@helper
def sum_rows(a, out):
    # out = the sum of the rows, four at a time: each addition waits for the one before
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
    # a copy of flat in which each layer's matrix is transposed; biases are left out
    out = np.empty_like(flat)
    for k in range(len(widths) - 1):
        w, to = matrix(flat, widths, at, k), transposed(out, widths, at, k)
        for i in range(w.shape[0]):
            for j in range(w.shape[1]):
                to[j, i] = w[i, j]
    return out


@helper
def push_rows(jac, dy, out):
    # out (n, outputs) += the Jacobian's rows jac (n, outputs, m) times the tangents dy (n, m)
    for r in range(len(dy)):
        d = dy[r]
        for c in range(jac.shape[1]):
            row, total = jac[r, c], np.float32(0)
            for j in range(len(d)):
                total += row[j] * d[j]
            out[r, c] += total


@helper
def pull_rows(jac, g, out):
    # out (n, m) = the cotangents g (n, outputs) times the Jacobian's rows jac (n, outputs, m), by threes
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


# --- the network --------------------------------------------------------------------------------------------

@helper
def forward(flat, widths, x, n, first, last, small, by_rows, hs):
    # fill hs, which is of n rows, for the rows first:last of x, in one axis; `by_rows` suits few of them
    h, begin, block = x[first * widths[0]:last * widths[0]], 0, 0
    for k in range(len(widths) - 1):
        m = widths[k + 1]
        end = begin + widths[k] * m
        w, b, y = flat[begin:end], flat[end:end + m], hs[block + first * m:block + last * m]
        if by_rows:
            affine_by_rows(h, w, b, y)
        else:
            rows = last - first
            product(h.reshape((rows, widths[k])), w.reshape((widths[k], m)), small, y.reshape((rows, m)))
            add_bias(y.reshape((rows, m)), b)
        if k < len(widths) - 2:
            for i in range(len(y)):
                y[i] = scalar.tanh1(y[i])
        h, begin, block = y, end + m, block + n * m


@helper
def forward_all(flat, widths, x, small, hs):
    # fill hs for all rows of x
    chunk, n = chunk_size(widths, small), len(x)
    for first in range(0, n, chunk):
        forward(flat, widths, x.reshape(x.size), n, first, min(first + chunk, n), small, False, hs)


@helper
def backward(flat, widths, at, x, hs, jac, g, small, out):
    # out = the cotangent of flat for that of the outputs, g (n, outputs), a sum of each chunk's `part`
    layers, chunk = len(widths) - 1, chunk_size(widths, small)
    part, flipped = np.empty_like(out), transpose_all(flat, widths, at)
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
                    product(gy, transposed(flipped, widths, at, k), small, gh)
                    pull_tanh(gh, h)
                gy = gh
        for i in range(len(out)):
            out[i] += part[i]


# --- kernels ------------------------------------------------------------------------------------------------

def _example(*shapes):
    # flat, widths, x, float32 arrays of these shapes, small
    def zeros(shape):
        return np.zeros(shape, np.float32)
    return lambda: (zeros(2), np.array([1, 1]), zeros((1, 1)), *map(zeros, shapes), 0)


@kernel(_example())
def values(flat, widths, x, small):
    """Return `hs`: the outputs of all layers on rows x, one layer after the other, in one axis."""
    hs = np.empty(len(x) * widths[1:].sum(), np.float32)
    forward_all(flat, widths, x, small, hs)
    return hs


@kernel(_example(1))
def jacobian(flat, widths, x, hs, small):
    """Return the derivatives of the outputs in what goes into the tanh of each hidden layer but the last.

    They are (rows, outputs, m) for a layer of m, one layer after the other, in one axis. With them tangents
    of a layer get to the outputs, and cotangents back, without a product for each layer between: less work
    where outputs are few (ops.mlp.jacobian_pays).
    """
    layers, chunk, outputs = len(widths) - 1, chunk_size(widths, small), widths[-1]
    at = places(widths, len(x))
    out, top = np.empty(outputs * at[layers - 2, 2], np.float32), widths[-2]
    spare, flipped = np.empty(chunk * outputs * top, np.float32), transpose_all(flat, widths, at)
    w = transposed(flipped, widths, at, layers - 1)
    for first in range(0, len(x), chunk):
        last = min(first + chunk, len(x))
        h, n = outputs_of(hs, widths, at, layers - 2, first, last), (last - first) * outputs
        g = spare[:n * top].reshape((last - first, outputs, top))
        for r in range(last - first):
            for c in range(outputs):
                for j in range(top):
                    g[r, c, j] = w[c, j] * (1 - h[r, j] * h[r, j])
        for k in range(layers - 2, 0, -1):
            gh = jacobian_of(out, widths, at, k - 1, first, last)
            h = outputs_of(hs, widths, at, k - 1, first, last)
            w_k = transposed(flipped, widths, at, k)
            product(g.reshape((n, widths[k + 1])), w_k, small, gh.reshape((n, widths[k])))
            for r in range(last - first):
                for c in range(outputs):
                    for j in range(widths[k]):
                        gh[r, c, j] *= 1 - h[r, j] * h[r, j]
            g = gh
    return out


@kernel(_example(1, 0, 2))
def push(flat, widths, x, hs, jac, dflat, small):
    """Return the tangent of the outputs, (rows, outputs), for that of `flat`.

    With `jac`, that of a layer is not pushed through the layers above, but added to the outputs' (`direct`).
    """
    layers, chunk, outputs = len(widths) - 1, chunk_size(widths, small), widths[-1]
    at, most = places(widths, len(x)), chunk * widths.max()
    dout, direct = np.empty((len(x), outputs), np.float32), np.empty((chunk, outputs), np.float32)
    spare, other = np.empty((2, most), np.float32), np.empty(most, np.float32)
    for first in range(0, len(x), chunk):
        last = min(first + chunk, len(x))
        rows, h, dh = last - first, x[first:last], x[first:last]
        direct[:] = 0
        for k in range(layers):
            m, is_last = widths[k + 1], k == layers - 1
            dy = dout[first:last] if is_last else spare[k % 2, :rows * m].reshape((rows, m))
            product(h, matrix(dflat, widths, at, k), small, dy)
            h = outputs_of(hs, widths, at, k, first, last)
            if k and (not len(jac) or is_last):
                more = other[:rows * m].reshape((rows, m))
                product(dh, matrix(flat, widths, at, k), small, more)
                for r in range(rows):
                    for j in range(m):
                        dy[r, j] += more[r, j]
            db = bias(dflat, widths, at, k)
            if len(jac) and k < layers - 2:
                add_bias(dy, db)
                push_rows(jacobian_of(jac, widths, at, k, first, last), dy, direct)
            else:
                for r in range(rows):
                    for j in range(m):
                        d = dy[r, j] + db[j]
                        dy[r, j] = d + direct[r, j] if is_last else d * (1 - h[r, j] * h[r, j])
            dh = dy
    return dout


@kernel(_example(1, 0, (1, 1)))
def pull(flat, widths, x, hs, jac, g, small):
    """Return the cotangent of `flat` for that of the outputs, g (rows, outputs): the transpose of `push`."""
    out = np.empty_like(flat)
    backward(flat, widths, places(widths, len(x)), x, hs, jac, g, small, out)
    return out


@kernel(_example(1, 1))
def loss(flat, widths, x, goal, weights, small):
    """Return the gradient in `flat` of sum(weights * (y - goal)^2), then that sum, then sum(weights).

    The network has one output, y; `goal` and `weights` are (rows,).
    """
    n, size, at = len(x), len(flat), places(widths, len(x))
    hs, g = np.empty(n * widths[1:].sum(), np.float32), np.empty((n, 1), np.float32)
    out = np.zeros(size + 2, np.float32)
    forward_all(flat, widths, x, small, hs)
    y = hs[len(hs) - n:]
    for r in range(n):
        error = y[r] - goal[r]
        g[r, 0] = 2 * weights[r] * error
        out[size] += weights[r] * error * error
        out[size + 1] += weights[r]
    backward(flat, widths, at, x, hs, hs[:0], g, small, out[:size])
    return out
