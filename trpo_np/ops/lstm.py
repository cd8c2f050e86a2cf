"""Recurrent ops, each one primitive over a whole sequence: LSTM and layer-norm LSTM.

    z_t = x_t wx + h_{t-1} wh + b      i, f, o, g = sigmoid, sigmoid, sigmoid, tanh of the quarters of z_t
    c_t = f c_{t-1} + i g              h_t = o tanh u_t                u_t = c_t

Where an episode starts, c_{t-1} = h_{t-1} = 0. The layer-norm LSTM standardizes x_t wx, h_{t-1} wh and
u_t, each with a gain and a bias (Ba et al., arXiv:1607.06450).

Here are the products over the whole sequence; the loops over its steps are in kernels/lstm.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..autodiff import Linear, Var, primitive
from ..kernels import blas
from ..kernels import lstm as loops
from ..kernels.lstm import standardize, standardize_linear
from . import stop_gradient


class Arguments(NamedTuple):
    """The arguments in which the outputs of an LSTM have derivatives."""

    x: Any  # (T, n, k)
    wx: Any  # (k, 4 cells)
    wh: Any  # (cells, 4 cells)
    b: Any  # (4 cells,)


class LnArguments(NamedTuple):
    """The arguments in which the outputs of a layer-norm LSTM have derivatives."""

    x: Any  # (T, n, k)
    wx: Any  # (k, 4 cells)
    gain_x: Any  # (4 cells,)
    bias_x: Any  # (4 cells,)
    wh: Any  # (cells, 4 cells)
    gain_h: Any  # (4 cells,)
    bias_h: Any  # (4 cells,)
    b: Any  # (4 cells,)
    gain_c: Any  # (cells,)
    bias_c: Any  # (cells,)


def lstm(x, starts, state, wx, wh, b):
    """Run an LSTM over sequences x (T, n, k); return its outputs (T, n, cells) and states (T, n, 2 cells).

    `starts` (T, n) is True where a step begins an episode: the state is zero before that step. `state`
    (n, 2 cells) is [c, h] before the first step, a constant; the states returned, a plain array, are those
    after each step. `Arguments` has the shapes of the weights; their gates are in the order i, f, o, g.
    """
    args = Arguments(x, wx, wh, b)
    v = Arguments(*map(stop_gradient, args))
    starts, state, dtype = _checked(v, starts, state)
    samples = v.x.reshape(-1, len(v.wx))
    x1 = np.concatenate([samples, np.ones((len(samples), 1), samples.dtype)], 1)  # the 1 is for the bias
    z = blas.product(x1, np.concatenate([v.wx, v.b[None]])).astype(dtype, copy=False)
    weights = loops.gate_weights(v.wh)
    z = z.reshape(*starts.shape, 4, len(v.wh))
    record = loops.run(z, starts, state, *weights, _traced(args))

    def linear(wanted, y):
        return _lstm_linear(wanted, v, x1, _outputs_before(y, starts, state), starts, record, weights)
    return _result(args, record, linear)


def lnlstm(x, starts, state, wx, gain_x, bias_x, wh, gain_h, bias_h, b, gain_c, bias_c):
    """Run a layer-norm LSTM over sequences, see `lstm`; `LnArguments` has the shapes of the weights."""
    args = LnArguments(x, wx, gain_x, bias_x, wh, gain_h, bias_h, b, gain_c, bias_c)
    v = LnArguments(*map(stop_gradient, args))
    starts, state, dtype = _checked(v, starts, state)
    samples = v.x.reshape(-1, len(v.wx))
    unit_x = standardize(blas.product(samples, v.wx))
    z = (unit_x[0] * v.gain_x + (v.bias_x + v.bias_h + v.b)).astype(dtype, copy=False)
    weights = loops.gate_weights(v.wh)
    norm = loops.norm_weights(v.gain_h, v.gain_c, v.bias_c).astype(dtype, copy=False)
    z = z.reshape(*starts.shape, 4, len(v.wh))
    record = loops.run_ln(z, starts, state, *weights, norm, _traced(args))

    def linear(wanted, y):
        h_before = _outputs_before(y, starts, state)
        return _lnlstm_linear(wanted, v, samples, unit_x, h_before, starts, record, weights, norm)
    return _result(args, record, linear)


def _checked(v, starts, state):
    """Return starts, state and the type of the result; refuse what does not fit."""
    if v.x.ndim != 3:
        raise ValueError(f"lstm: x has shape {v.x.shape}; T steps of n sequences, (T, n, k), are needed")
    (steps, n, k), cells = v.x.shape, v.wh.shape[0]
    if v.wx.shape != (k, 4 * cells) or v.wh.shape != (cells, 4 * cells):
        raise ValueError(f"lstm: inputs of width {k} need wx ({k}, 4h) and wh (h, 4h), "
                         f"not {v.wx.shape} and {v.wh.shape}")
    for name, vector in zip(v._fields, v):
        size = cells if name.endswith("_c") else 4 * cells
        if name not in ("x", "wx", "wh") and vector.shape != (size,):
            raise ValueError(f"lstm: {name} has shape {vector.shape}; {cells} cells need ({size},)")
    if np.shape(starts) != (steps, n):
        raise ValueError(f"lstm: starts has shape {np.shape(starts)}; {steps} steps of {n} sequences need "
                         f"({steps}, {n})")
    if isinstance(state, Var) or np.shape(state) != (n, 2 * cells):
        raise ValueError(f"lstm: the state is a constant [c, h] of shape ({n}, {2 * cells}), "
                         f"not {np.shape(state)}")
    dtype = np.result_type(*v, state)
    return np.ascontiguousarray(starts, bool), np.ascontiguousarray(state, dtype), dtype


def _traced(args):
    return any(isinstance(a, Var) for a in args)


def _result(args, record, linear: Callable):
    """Return the outputs and the states in a record, the outputs as a function of `args`.

    `linear(wanted, outputs)` is the pair of their derivative in the arguments whose names are in `wanted`.
    """
    steps, n, _, cells = record.shape
    y = record[:, :, loops.H]
    states = record[:, :, :loops.STATE_ROWS].reshape(steps, n, loops.STATE_ROWS * cells)
    if not _traced(args):
        return y, states
    y = np.ascontiguousarray(y)

    def _lstm(*_):
        return y  # which is computed already: the primitive only puts it on the tape
    op = primitive(_lstm, joint=lambda wanted, *_: linear([args._fields[i] for i in wanted], y))
    return op(*args), states


def _outputs_before(y, starts, state):
    """Return h_{t-1} of each step, (T * n, cells)."""
    steps, _, cells = y.shape
    before = np.concatenate([state[None, :, cells:], y[:-1]])[:steps]
    before[starts] = 0
    return before.reshape(-1, cells)


def _by_name(wanted, forward, backward) -> Linear:
    """Make a pair for the arguments `wanted`, in this order.

    `forward` takes their tangents in a dict; `backward` returns a dict of functions that give the cotangents.
    """
    def push(*tangents):
        return forward(dict(zip(wanted, tangents)))

    def pull(g):
        cotangents = backward(g)
        gs = tuple(cotangents[name]() for name in wanted)
        return gs if len(gs) > 1 else gs[0]
    return Linear(push, pull)


def _lstm_linear(wanted, v, x1, h_before, starts, record, weights):
    k, cells, transposed = len(v.wx), len(v.wh), weights.transposed()
    any_weight = any(name != "x" for name in wanted)
    if any_weight:
        x1h = np.concatenate([x1, h_before], 1)  # one product for wx, b and wh

    def forward(d):
        dz = 0.0
        if any_weight:
            dwx, db, dwh = (d.get(name, np.zeros_like(getattr(v, name))) for name in ("wx", "b", "wh"))
            dz = x1h @ np.concatenate([dwx, db[None], dwh])
        if "x" in d:
            dz += d["x"].reshape(-1, k) @ v.wx
        return loops.push(dz.reshape(*starts.shape, 4, cells), starts, record, *weights)

    def backward(g):
        g = np.ascontiguousarray(g, np.result_type(g, record))
        gz = loops.pull(g, starts, record, *transposed).reshape(-1, 4 * cells)
        gw = x1h.T @ gz if any_weight else None
        return dict(x=lambda: (gz @ v.wx.T).reshape(v.x.shape),
                    wx=lambda: gw[:k], b=lambda: gw[k], wh=lambda: gw[k + 1:])
    return _by_name(wanted, forward, backward)


def _lnlstm_linear(wanted, v, samples, unit_x, h_before, starts, record, weights, norm):
    cells, transposed = len(v.wh), weights.transposed()
    flat = record.reshape(len(samples), loops.LN_ROWS, cells)
    unit_hw = loops.unit_hw(flat)  # a pair as unit_x is: what standardize returned
    h_by_u, unit_c = flat[:, loops.H_BY_U], flat[:, loops.UNIT_C]

    def forward(d):
        dtype = np.result_type(record, *d.values())
        dz, du = np.zeros((len(samples), 4 * cells), dtype), np.zeros((len(samples), cells), dtype)
        if "x" in d or "wx" in d:
            dxw = d["x"].reshape(samples.shape) @ v.wx if "x" in d else 0
            dxw = dxw + samples @ d["wx"] if "wx" in d else dxw
            dz += standardize_linear(dxw, *unit_x) * v.gain_x
        if "wh" in d:
            dz += standardize_linear(h_before @ d["wh"], *unit_hw) * v.gain_h
        if "gain_x" in d:
            dz += unit_x[0] * d["gain_x"]
        if "gain_h" in d:
            dz += unit_hw[0] * d["gain_h"]
        dz += sum(d[name] for name in ("bias_x", "bias_h", "b") if name in d)
        if "gain_c" in d:
            du += unit_c * d["gain_c"]
        du += d.get("bias_c", 0)
        dh_direct = (h_by_u * du).reshape(*starts.shape, cells)
        return loops.push_ln(dz.reshape(*starts.shape, 4, cells), dh_direct, starts, record, *weights, norm)

    def backward(g):
        g = np.ascontiguousarray(g, np.result_type(g, record))
        gz, gh_direct = loops.pull_ln(g, starts, record, *transposed, norm)
        gz, gu = gz.reshape(-1, 4 * cells), h_by_u * gh_direct.reshape(-1, cells)
        gxw = standardize_linear(gz * v.gain_x, *unit_x) if "x" in wanted or "wx" in wanted else None
        gb = gz.sum(0)
        return dict(
            x=lambda: (gxw @ v.wx.T).reshape(v.x.shape), wx=lambda: samples.T @ gxw,
            gain_x=lambda: _sum_of_products(gz, unit_x[0]), bias_x=lambda: gb,
            wh=lambda: h_before.T @ standardize_linear(gz * v.gain_h, *unit_hw),
            gain_h=lambda: _sum_of_products(gz, unit_hw[0]), bias_h=lambda: gb, b=lambda: gb,
            gain_c=lambda: _sum_of_products(gu, unit_c), bias_c=lambda: gu.sum(0))
    return _by_name(wanted, forward, backward)


def _sum_of_products(a, b):
    return np.einsum("sj,sj->j", a, b)
