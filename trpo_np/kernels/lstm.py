"""The recurrences of an LSTM and a layer-norm LSTM over a sequence: value, tangent and cotangent.

What does not wait for the step before is one matrix product over the whole sequence (lstm.py). The rest are three loops over
time: `run` and its derivative `push`, whose transpose is `pull`. `run` records what the other two need:

    dc_t = F dc_{t-1} + Di di + Df df + Dg dg       dh_t = Q dc_t + Do do          d(i, f, o, g) in z

They take wh as `gates` makes it: a matrix (4, h, h) for each gate, transposed or not, as suits the product with few rows.
A record is c, h, F, Q (h numbers each), D (4h); with layer norm also the standardized h wh (4h) and c (h) and their factors.
"""

import numpy as np

from . import blas, scalar
from .compile import helper, twin

EPSILON = 1e-5
NO_NORM = np.zeros(0, np.float32)


def _widths(h, norm, trace):
    return (13 * h + 2 if norm else 8 * h) if trace else 2 * h


@helper
def _copy(a, b):
    # b[:] = a of one axis: numba's own takes four times as long
    for j in range(a.size):
        b[j] = a[j]


@helper
def _side_by_side(y, r, a):
    # copy row r of each of y (4, n, h) to a (4h,)
    h = y.shape[2]
    for k in range(4):
        for j in range(h):
            a[k * h + j] = y[k, r, j]


@helper
def _standardize(v):
    # make mean 0 and variance 1 of a row, in place; return the factor
    total, squares = np.float32(0), np.float32(0)
    for j in range(v.size):
        total += v[j]
    mean = total / np.float32(v.size)
    for j in range(v.size):
        v[j] -= mean
        squares += v[j] * v[j]
    factor = np.float32(1) / np.sqrt(squares / np.float32(v.size) + np.float32(1e-5))
    for j in range(v.size):
        v[j] *= factor
    return factor


@helper
def _standardize_linear(d, v, factor):
    # the derivative of _standardize, where its result is v, applied to d in place: symmetric, so its own transpose
    total, along = np.float32(0), np.float32(0)
    for j in range(d.size):
        total += d[j]
        along += d[j] * v[j]
    mean, slope = total / np.float32(d.size), along / np.float32(d.size)
    for j in range(d.size):
        d[j] = (d[j] - mean - v[j] * slope) * factor


def _run_loop(z, starts, state, w, rows, ln, trace):
    steps, n, h = z.shape[0], z.shape[1], w.shape[2]
    half, one, norm = np.float32(0.5), np.float32(1), ln.size > 0
    record = np.empty((steps, n, (13 * h + 2 if norm else 8 * h) if trace else 2 * h), np.float32)
    c, before, y = np.empty((n, h), np.float32), np.empty((n, h), np.float32), np.empty((4, n, h), np.float32)
    a = np.empty(4 * h, np.float32)
    for r in range(n):
        c[r, :] = state[r, :h]
        before[r, :] = state[r, h:]
    for t in range(steps):
        for r in range(n):
            if starts[t, r]:
                c[r, :] = 0
                before[r, :] = 0
        for k in range(4):
            blas.multiply(before, w[k], rows, y[k])
        for r in range(n):
            out, cr, zr, i, f, o, g = record[t, r], c[r], z[t, r], y[0, r], y[1, r], y[2, r], y[3, r]
            if norm:
                _side_by_side(y, r, a)
                factor = _standardize(a)
                if trace:
                    _copy(a, out[8 * h:12 * h])
                    out[13 * h] = factor
                for k in range(4):
                    for j in range(h):
                        y[k, r, j] = a[k * h + j] * ln[k * h + j]
            for j in range(h):
                i[j] = half * scalar.tanh1(half * (i[j] + zr[j])) + half
                f[j] = half * scalar.tanh1(half * (f[j] + zr[h + j])) + half
                o[j] = half * scalar.tanh1(half * (o[j] + zr[2 * h + j])) + half
                g[j] = scalar.tanh1(g[j] + zr[3 * h + j])
            if trace:
                F, Di, Df, Dg = out[2 * h:3 * h], out[4 * h:5 * h], out[5 * h:6 * h], out[7 * h:8 * h]
                for j in range(h):
                    F[j] = f[j]
                    Di[j] = g[j] * i[j] * (one - i[j])
                    Df[j] = cr[j] * f[j] * (one - f[j])
                    Dg[j] = i[j] * (one - g[j] * g[j])
                if starts[t, r]:
                    F[:] = 0
            q = out[h:2 * h]
            for j in range(h):
                cr[j] = f[j] * cr[j] + i[j] * g[j]
                out[j] = q[j] = cr[j]
            if norm:
                factor = _standardize(q)
                if trace:
                    _copy(q, out[12 * h:13 * h])
                    out[13 * h + 1] = factor
                for j in range(h):
                    q[j] = q[j] * ln[4 * h + j] + ln[5 * h + j]
            for j in range(h):
                q[j] = scalar.tanh1(q[j])
            if trace:
                Q, Do = out[3 * h:4 * h], out[6 * h:7 * h]
                for j in range(h):
                    Q[j] = o[j] * (one - q[j] * q[j])
                    Do[j] = q[j] * o[j] * (one - o[j])
            for j in range(h):
                q[j] *= o[j]
            _copy(q, before[r])
    return record


def _push_loop(pre, starts, record, w, rows, ln):
    steps, n, h, norm = pre.shape[0], pre.shape[1], w.shape[2], ln.size > 0
    dh, a = np.empty((steps, n, h), np.float32), np.empty(4 * h, np.float32)
    dc, before, y = np.zeros((n, h), np.float32), np.zeros((n, h), np.float32), np.empty((4, n, h), np.float32)
    for t in range(steps):
        for r in range(n):
            if starts[t, r]:
                before[r, :] = 0
        for k in range(4):
            blas.multiply(before, w[k], rows, y[k])
        for r in range(n):
            at, p, d, e = record[t, r], pre[t, r], dc[r], dh[t, r]
            _side_by_side(y, r, a)
            if norm:
                _standardize_linear(a, at[8 * h:12 * h], at[13 * h])
                for j in range(4 * h):
                    a[j] *= ln[j]
            F, Q, D = at[2 * h:3 * h], at[3 * h:4 * h], at[4 * h:8 * h]
            for j in range(4 * h):
                a[j] = (a[j] + p[j]) * D[j]
            i, f, o, g = a[:h], a[h:2 * h], a[2 * h:3 * h], a[3 * h:]
            for j in range(h):
                d[j] = F[j] * d[j] + i[j] + f[j] + g[j]
                e[j] = d[j]
            if norm:
                _standardize_linear(e, at[12 * h:13 * h], at[13 * h + 1])
                for j in range(h):
                    e[j] *= ln[4 * h + j]
                    o[j] += p[4 * h + j]
            for j in range(h):
                e[j] = Q[j] * e[j] + o[j]
            _copy(e, before[r])
    return dh


def _pull_loop(g, starts, record, back, rows, ln):
    steps, n, h, norm = g.shape[0], g.shape[1], back.shape[2], ln.size > 0
    out, b = np.empty((steps, n, 5 * h if norm else 4 * h), np.float32), np.empty(4 * h, np.float32)
    gc, gh, y = np.zeros((n, h), np.float32), np.zeros((n, h), np.float32), np.empty((4, n, h), np.float32)
    part = np.empty((n, h), np.float32)
    for t in range(steps - 1, -1, -1):
        for r in range(n):
            at, a, e, c, gt = record[t, r], out[t, r], gh[r], gc[r], g[t, r]
            for j in range(h):
                e[j] += gt[j]
            if norm:
                _copy(e, a[4 * h:])
            i, f, o, u = a[:h], a[h:2 * h], a[2 * h:3 * h], a[3 * h:4 * h]
            F, Q, D = at[2 * h:3 * h], at[3 * h:4 * h], at[4 * h:8 * h]
            for j in range(h):
                o[j] = e[j]
                e[j] *= Q[j]
            if norm:
                for j in range(h):
                    e[j] *= ln[4 * h + j]
                _standardize_linear(e, at[12 * h:13 * h], at[13 * h + 1])
            for j in range(h):
                c[j] += e[j]
                i[j] = c[j] * D[j]
                f[j] = c[j] * D[h + j]
                o[j] *= D[2 * h + j]
                u[j] = c[j] * D[3 * h + j]
                c[j] *= F[j]
            _copy(a[:4 * h], b)
            if norm:
                for j in range(4 * h):
                    b[j] *= ln[j]
                _standardize_linear(b, at[8 * h:12 * h], at[13 * h])
            for k in range(4):
                _copy(b[k * h:(k + 1) * h], y[k, r])
        gh[:] = 0
        for k in range(4):
            blas.multiply(y[k], back[k], rows, part)
            for r in range(n):
                for j in range(h):
                    gh[r, j] += part[r, j]
        for r in range(n):
            if starts[t, r]:
                gh[r, :] = 0
    return out


def _example(*shapes):
    def example():
        f = np.float32
        return [np.zeros(s, f) if s else np.zeros((1, 1), bool) for s in shapes] + [0, NO_NORM]
    return example


def _run_example():
    f = np.float32
    return np.zeros((1, 1, 4), f), np.ones((1, 1), bool), np.zeros((1, 2), f), np.zeros((4, 1, 1), f), 0, NO_NORM, True


def gates(wh):
    """Return what `run` and `push` take of weights wh (h, 4h): a matrix (h, h) for each gate, (4, h, h), and how to multiply.

    The matrices are transposed where that suits a product with few rows, see `blas.multiply`; `pull` takes them `turned`.
    """
    h = len(wh)
    w, rows = np.ascontiguousarray(wh.reshape(h, 4, h).transpose(1, 0, 2)), blas.rows_within(h, h, blas.small())
    return (w if rows else turned(w)), rows


def turned(w):
    """Return a copy of matrices (4, h, h), each transposed; a few rows at a time: one column's numbers evict each other from
    the cache."""
    out = np.empty_like(w)
    for i in range(0, w.shape[1], 8):
        out[:, :, i:i + 8] = w[:, i:i + 8].transpose(0, 2, 1)
    return out


def _straight(w, rows):
    # what `gates` made, as it is to be multiplied with
    return w if rows else w.transpose(0, 2, 1)


def _reset(starts, *arrays):
    # zero the rows where an episode starts; new arrays
    return [np.where(starts[:, None], 0, a) for a in arrays] if starts.any() else arrays


def standardize(v):
    """Subtract the mean of each row and divide by its standard deviation; return also the factors."""
    v = v - v.mean(-1, keepdims=True)
    factor = 1 / np.sqrt((v * v).mean(-1, keepdims=True) + EPSILON)
    return v * factor, factor


def standardize_linear(d, v, factor):
    """Apply the derivative of `standardize`, where its result is `v`: a symmetric map, so its own transpose."""
    return (d - d.mean(-1, keepdims=True) - v * (v * d).mean(-1, keepdims=True)) * factor


@twin(_run_loop, _run_example)
def run(z, starts, state, w, rows, ln, trace):
    """Return the record of the sequence, (T, n, width): c, h and, if `trace`, what `push` and `pull` need.

    z (T, n, 4h) is what does not depend on the step before; `ln` holds the gains of h wh and of c and the bias of c, or nothing.
    """
    steps, n, h = len(z), z.shape[1], w.shape[2]
    w = _straight(w, rows)
    record = np.empty((steps, n, _widths(h, ln.size, trace)), z.dtype)
    c, y = state[:, :h], state[:, h:]
    for t in range(steps):
        c, y = _reset(starts[t], c, y)
        a, out = np.concatenate(y @ w, 1), record[t]
        if ln.size:
            v, factor = standardize(a)
            if trace:
                out[:, 8 * h:12 * h], out[:, 13 * h:13 * h + 1] = v, factor
            a = v * ln[:4 * h]
        a = a + z[t]
        gates = 0.5 * np.tanh(0.5 * a[:, :3 * h]) + 0.5
        i, f, o, g = gates[:, :h], gates[:, h:2 * h], gates[:, 2 * h:], np.tanh(a[:, 3 * h:])
        if trace:
            out[:, 2 * h:3 * h] = _reset(starts[t], f)[0]
            out[:, 4 * h:5 * h] = g * i * (1 - i)
            out[:, 5 * h:6 * h] = c * f * (1 - f)
            out[:, 7 * h:8 * h] = i * (1 - g * g)
        c = q = f * c + i * g
        if ln.size:
            v, factor = standardize(c)
            if trace:
                out[:, 12 * h:13 * h], out[:, 13 * h + 1:] = v, factor
            q = v * ln[4 * h:5 * h] + ln[5 * h:]
        q = np.tanh(q)
        y = o * q
        out[:, :h], out[:, h:2 * h] = c, y
        if trace:
            out[:, 3 * h:4 * h] = o * (1 - q * q)
            out[:, 6 * h:7 * h] = q * o * (1 - o)
    return record


@twin(_push_loop, _example((1, 1, 4), (), (1, 1, 8), (4, 1, 1)))
def push(pre, starts, record, w, rows, ln):
    """Return the tangent of h, (T, n, h), of the tangent of z and (with layer norm) of h, side by side in `pre`."""
    steps, n, h, w = len(pre), pre.shape[1], w.shape[2], _straight(w, rows)
    dh = np.empty((steps, n, h), pre.dtype)
    dc, dy = np.zeros((n, h), pre.dtype), np.zeros((n, h), pre.dtype)
    for t in range(steps):
        at = record[t]
        a = np.concatenate(_reset(starts[t], dy)[0] @ w, 1)
        if ln.size:
            a = standardize_linear(a, at[:, 8 * h:12 * h], at[:, 13 * h:13 * h + 1]) * ln[:4 * h]
        a = (a + pre[t, :, :4 * h]) * at[:, 4 * h:8 * h]
        dc = at[:, 2 * h:3 * h] * dc + a[:, :h] + a[:, h:2 * h] + a[:, 3 * h:]
        dy = dc
        if ln.size:
            dy = standardize_linear(dc, at[:, 12 * h:13 * h], at[:, 13 * h + 1:]) * ln[4 * h:5 * h]
        dy = at[:, 3 * h:4 * h] * dy + a[:, 2 * h:3 * h]
        if ln.size:
            dy = dy + pre[t, :, 4 * h:]
        dh[t] = dy
    return dh


@twin(_pull_loop, _example((1, 1, 1), (), (1, 1, 8), (4, 1, 1)))
def pull(g, starts, record, back, rows, ln):
    """Return the cotangent of z and (with layer norm) of h, side by side, of the cotangent `g` (T, n, h) of h."""
    steps, n, h = g.shape
    back = _straight(back, rows)
    out = np.empty((steps, n, 5 * h if ln.size else 4 * h), g.dtype)
    gc, gh = np.zeros((n, h), g.dtype), np.zeros((n, h), g.dtype)
    for t in range(steps - 1, -1, -1):
        at, a = record[t], out[t]
        gh = gh + g[t]
        e = at[:, 3 * h:4 * h] * gh
        if ln.size:
            a[:, 4 * h:] = gh
            e = standardize_linear(e * ln[4 * h:5 * h], at[:, 12 * h:13 * h], at[:, 13 * h + 1:])
        gc = gc + e
        a[:, :4 * h] = np.concatenate([gc, gc, gh, gc], 1) * at[:, 4 * h:8 * h]
        gc = gc * at[:, 2 * h:3 * h]
        gz = a[:, :4 * h]
        if ln.size:
            gz = standardize_linear(gz * ln[:4 * h], at[:, 8 * h:12 * h], at[:, 13 * h:13 * h + 1])
        gh, = _reset(starts[t], (gz.reshape(n, 4, h).transpose(1, 0, 2) @ back).sum(0))
    return out
