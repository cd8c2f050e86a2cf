"""Recurrent ops, each one primitive over a whole sequence: LSTM and layer-norm LSTM.

    z_t = x_t wx + h_{t-1} wh + b        (i, f, o, g) = (sigmoid, sigmoid, sigmoid, tanh) of the four quarters of z_t
    c_t = f c_{t-1} + i g                h_t = o tanh c_t            where an episode starts, c_{t-1} = h_{t-1} = 0

The layer-norm LSTM standardizes x wx, h wh and the c inside the last tanh, each with a gain and a bias (Ba et al.,
arXiv:1607.06450).
"""

import numpy as np

from ..autodiff import Linear, Var, primitive
from ..kernels import blas
from ..kernels.lstm import NO_NORM, gates, pull, push, run, standardize, standardize_linear, turned
from . import stop_gradient


def lstm(x, starts, state, wx, wh, b):
    """Run an LSTM over sequences x (T, n, k); return its outputs h (T, n, h) and, a plain array, its states (T, n, 2h).

    `starts` (T, n) is True where a step begins an episode: the state is zero before that step. `state` (n, 2h) is [c, h]
    before the first step, a constant; the states returned are those after each step. Weights are wx (k, 4h), wh (h, 4h)
    and b (4h,), with the gates in the order i, f, o, g.
    """
    args, values = (x, wx, wh, b), [stop_gradient(a) for a in (x, wx, wh, b)]
    starts, state, dtype = _sequence(values, starts, state, wx, wh)
    rows = values[0].reshape(-1, wx.shape[0])
    rows = np.concatenate([rows, np.ones((len(rows), 1), rows.dtype)], 1)  # for the bias
    z = blas.product(rows, np.concatenate([values[1], values[3][None]])).astype(dtype, copy=False)
    return _record(_lstm_linear, args, values, rows, z, starts, state, values[2], NO_NORM)


def lnlstm(x, starts, state, wx, gx, bx, wh, gh, bh, b, gc, bc):
    """Run a layer-norm LSTM over sequences x (T, n, k): as `lstm`, with gains and biases (4h,) of x wx and h wh, (h,) of c."""
    args = (x, wx, gx, bx, wh, gh, bh, b, gc, bc)
    values = [stop_gradient(a) for a in args]
    starts, state, dtype = _sequence(values, starts, state, wx, wh)
    rows = values[0].reshape(-1, wx.shape[0])
    u = standardize(blas.product(rows, values[1]))
    z = (u[0] * values[2] + (values[3] + values[6] + values[7])).astype(dtype, copy=False)
    ln = np.concatenate([values[5], values[8], values[9]]).astype(dtype, copy=False)
    return _record(_lnlstm_linear, args, values, (rows, *u), z, starts, state, values[4], ln)


def _sequence(values, starts, state, wx, wh):
    # refuse what does not fit; return starts, state and the type of the result
    (steps, n, k), h = values[0].shape, wh.shape[0]
    if wx.shape != (k, 4 * h) or wh.shape != (h, 4 * h):
        raise ValueError(f"lstm: inputs of width {k} need wx ({k}, 4h) and wh (h, 4h), not {wx.shape} and {wh.shape}")
    if np.shape(starts) != (steps, n):
        raise ValueError(f"lstm: starts has shape {np.shape(starts)}; {steps} steps of {n} sequences need ({steps}, {n})")
    if isinstance(state, Var) or np.shape(state) != (n, 2 * h):
        raise ValueError(f"lstm: the state is a constant [c, h] of shape ({n}, {2 * h}), not {np.shape(state)}")
    dtype = np.result_type(*values, state)
    return np.ascontiguousarray(starts, bool), np.ascontiguousarray(state, dtype), dtype


def _record(linear, args, values, residuals, z, starts, state, wh, ln):
    # run the recurrence, and hang its derivative on the tape if any argument is traced
    (steps, n), h = starts.shape, wh.shape[0]
    traced = any(isinstance(a, Var) for a in args)
    w, few = gates(wh)
    record = run(z.reshape(steps, n, 4 * h), starts, state, w, few, ln, traced)
    y, states = record[:, :, h:2 * h], record[:, :, :2 * h]
    if not traced:
        return y, states
    y = np.ascontiguousarray(y)
    before = np.concatenate([state[None, :, h:], y[:-1]])[:steps]
    before[starts] = 0
    op = primitive(lambda *_: y, joint=lambda wanted, *_: linear(
        wanted, values, residuals, before.reshape(-1, h), record, starts, (w, few, ln), (turned(w), few, ln)))
    return op(*args), states


def _chosen(wanted, gs):
    return tuple(gs[i]() for i in wanted) if len(wanted) > 1 else gs[wanted[0]]()


def _along(g, v):
    return np.einsum("sj,sj->j", g, v)


def _lstm_linear(wanted, values, rows, before, record, starts, ahead, back):
    wx, wh, k, h = values[1], values[2], values[0].shape[-1], len(values[2])
    samples, shape = len(rows), starts.shape
    weights = [i for i in wanted if i]
    inputs = np.concatenate([rows, before], 1) if weights else rows  # x, 1 and h

    def forward(*tangents):
        d = dict(zip(wanted, tangents))
        if weights:  # one product for wx, b and wh
            pre = inputs @ np.concatenate([d.get(1, np.zeros_like(wx)), d.get(3, np.zeros_like(wx[0]))[None],
                                           d.get(2, np.zeros_like(wh))])
            if 0 in d:
                pre += d[0].reshape(samples, k) @ wx
        else:
            pre = d[0].reshape(samples, k) @ wx
        return push(pre.reshape(*shape, 4 * h), starts, record, *ahead)

    def backward(g):
        g = np.ascontiguousarray(g, np.result_type(g, record))
        gz = pull(g, starts, record, *back).reshape(samples, 4 * h)
        gw = inputs.T @ gz if weights else None
        return _chosen(wanted, {0: lambda: (gz @ wx.T).reshape(*shape, k), 1: lambda: gw[:k], 2: lambda: gw[k + 1:],
                                3: lambda: gw[k]})
    return Linear(forward, backward)


def _lnlstm_linear(wanted, values, residuals, before, record, starts, ahead, back):
    rows, u, u_factor = residuals
    x, wx, gx, _, _, gh, _, _, gc, _ = values
    samples, shape, h = len(rows), starts.shape, len(values[4])
    flat = record.reshape(samples, record.shape[-1])
    Q, v, q = flat[:, 3 * h:4 * h], flat[:, 8 * h:12 * h], flat[:, 12 * h:13 * h]
    v_factor = flat[:, 13 * h:13 * h + 1]

    def forward(*tangents):
        d = dict(zip(wanted, tangents))
        pre = np.zeros((samples, 5 * h), np.result_type(record, *tangents))
        dz, dq = pre[:, :4 * h], pre[:, 4 * h:]
        if 0 in d or 1 in d:
            du = d[0].reshape(rows.shape) @ wx if 0 in d else 0
            du = du + rows @ d[1] if 1 in d else du
            dz += standardize_linear(du, u, u_factor) * gx
        if 4 in d:
            dz += standardize_linear(before @ d[4], v, v_factor) * gh
        for i, factor in ((2, u), (5, v)):
            if i in d:
                dz += factor * d[i]
        dz += sum(d[i] for i in (3, 6, 7) if i in d)
        if 8 in d:
            dq += q * d[8]
        dq += d.get(9, 0)
        dq *= Q
        return push(pre.reshape(*shape, 5 * h), starts, record, *ahead)

    def backward(g):
        g = np.ascontiguousarray(g, np.result_type(g, record))
        both = pull(g, starts, record, *back).reshape(samples, 5 * h)
        gz, gq = both[:, :4 * h], Q * both[:, 4 * h:]
        gu = standardize_linear(gz * gx, u, u_factor) if 0 in wanted or 1 in wanted else None
        gb = gz.sum(0)
        return _chosen(wanted, {
            0: lambda: (gu @ wx.T).reshape(x.shape), 1: lambda: rows.T @ gu, 2: lambda: _along(gz, u), 3: lambda: gb,
            4: lambda: before.T @ standardize_linear(gz * gh, v, v_factor), 5: lambda: _along(gz, v), 6: lambda: gb,
            7: lambda: gb, 8: lambda: _along(gq, q), 9: lambda: gq.sum(0)})
    return Linear(forward, backward)
