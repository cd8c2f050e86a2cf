"""The recurrences of an LSTM and of a layer-norm LSTM over a sequence: value, tangent and cotangent.

What does not wait for the step before is one matrix product over the whole sequence, see ops/lstm.py.
It gives z (T, n, 4, cells): for each of T steps and n samples a row for each gate. The rest are loops over
time. `run` computes

    i, f, o = sigmoid, g = tanh of z_t + h_{t-1} wh      c_t = f c_{t-1} + i g
    u_t = c_t                                            h_t = o tanh u_t

where c_{t-1} = h_{t-1} = 0 if an episode starts, and keeps a record. With that, `push` computes the tangent
of h, and its transpose `pull` the cotangent of z:

    di, df, do, dg = dz_t + dh_{t-1} wh
    dc_t = c_by_c dc_{t-1} + c_by_i di + c_by_f df + c_by_g dg      dh_t = h_by_u du_t + h_by_o do

Where an episode starts, dh_{t-1} = 0, and `pull` drops the cotangent of h_{t-1}. dc_{t-1} needs no such case:
the record has c_by_c = 0 there.

`run_ln`, `push_ln` and `pull_ln` do so for the layer-norm LSTM: gain_h standardize(h_{t-1} wh) replaces
h_{t-1} wh, and u_t = gain_c standardize(c_t) + bias_c.

Below: names; the weights; the compiled loops, made of small helpers; standardizing; the loops' NumPy twins.
"""

from typing import NamedTuple

import numpy as np

from . import blas, scalar
from .compile import helper, twin

EPSILON = 1e-5  # is added to a variance before it divides

I, F, O, G = range(4)  # the gates, along the axis of 4

# A record is an array (T, n, rows, cells). Its rows for a step and a sample are
C, H = range(2)  # c_t and h_t, the state
C_BY_C = 2  # the derivative of c_t in c_{t-1}; 0 where an episode starts
H_BY_U = 3  # the derivative of h_t in u_t
BY_GATES = 4  # the derivatives in z_t, a row for each gate:
C_BY_I, C_BY_F, H_BY_O, C_BY_G = range(BY_GATES, BY_GATES + 4)
UNIT_HW = 8  # standardize(h_{t-1} wh), a row for each gate
UNIT_C = 12  # standardize(c_t)
FACTOR_HW, FACTOR_C = 13, 14  # what standardize multiplied by, the same number in the whole row
STATE_ROWS, ROWS, LN_ROWS = 2, 8, 15  # how many are kept: without a trace, of an LSTM, of a layer-norm LSTM

# The weights of layer norm are an array (6, cells). Its rows are gain_h, one for each gate, gain_c and bias_c
GAIN_H, GAIN_C, BIAS_C = 0, 4, 5


class GateWeights(NamedTuple):
    """The weights wh as `run` and `push` take them; `pull` takes their `transposed()`."""

    w: np.ndarray  # a matrix for each gate, (4, cells, cells)
    # How many samples a product takes at once, `rows` of blas.multiply. 0 is for all of them: multiply then
    # reads w transposed, so each matrix is stored transposed
    at_once: int

    def transposed(self) -> "GateWeights":
        """Return the transposes of the matrices."""
        return GateWeights(_transposed(self.w), self.at_once)


def gate_weights(wh) -> GateWeights:
    """Return weights wh (cells, 4 cells) as `run` and `push` take them."""
    cells = len(wh)
    w = np.ascontiguousarray(wh.reshape(cells, 4, cells).transpose(1, 0, 2))
    at_once = blas.rows_within(cells, cells, blas.small())
    return GateWeights(w if at_once else _transposed(w), at_once)


def _transposed(w):
    out = np.empty_like(w)
    # a few rows at a time, since a column's numbers evict each other from the cache
    for i in range(0, w.shape[1], 8):
        out[:, :, i:i + 8] = w[:, i:i + 8].transpose(0, 2, 1)
    return out


def norm_weights(gain_h, gain_c, bias_c):
    """Return gain_h (4 cells,), gain_c and bias_c (cells,) as the loops take them, (6, cells)."""
    return np.concatenate([gain_h, gain_c, bias_c]).reshape(6, len(gain_c))


# --- what the loops share ---------------------------------------------------------------------------------
# r is a sample, k a gate, j a cell; `at` (rows, cells) is the record of a step and a sample. Helpers take
# whole arrays and an index: a slice is a reference that numba counts, which takes as long as several cells.
# Those named `_..._row` work on one sample; the NumPy functions without `_row` do the same for all.


@helper
def _copy(a, out):
    # numba's own out[:] = a takes four times as long
    for j in range(a.size):
        out[j] = a[j]


@helper
def _zero_where(starts, a):
    # forget the samples whose episode starts
    for r in range(len(a)):
        if starts[r]:
            a[r, :] = 0


@helper
def _times_gates(h, w, at_once, out):
    # out (4, n, cells) = h (n, cells) times the matrix of each gate
    for k in range(4):
        blas.multiply(h, w[k], at_once, out[k])


@helper
def _sum_times_gates(a, w, at_once, term, out):
    # out (n, cells) = the sum over the gates of a (4, n, cells) times their matrix; `term` is room for a term
    out[:] = 0
    for k in range(4):
        blas.multiply(a[k], w[k], at_once, term)
        for r in range(len(out)):
            for j in range(out.shape[1]):
                out[r, j] += term[r, j]


@helper
def _join_row(a, r, out):
    # out (4 cells,) = the gates of sample r in a (4, n, cells), one after the other
    cells = a.shape[2]
    for k in range(4):
        for j in range(cells):
            out[k * cells + j] = a[k, r, j]


@helper
def _split_row(a, r, out):
    # the gates of sample r in out (4, n, cells) = a (4 cells,)
    cells = out.shape[2]
    for k in range(4):
        for j in range(cells):
            out[k, r, j] = a[k * cells + j]


@helper
def _split_row_scaled(a, norm, r, out):
    # the gates of sample r in out (4, n, cells) = gain_h a (4 cells,)
    cells = out.shape[2]
    for k in range(4):
        for j in range(cells):
            out[k, r, j] = a[k * cells + j] * norm[GAIN_H + k, j]


@helper
def _unit_hw_row(flat, t, r, cells):
    # standardize(h_{t-1} wh), (4 cells,), from `flat`, a record reshaped to (T, n, rows * cells)
    return flat[t, r, UNIT_HW * cells:(UNIT_HW + 4) * cells]


@helper
def _standardize_row(a):
    # give a row mean 0 and variance 1, in place; return the factor
    total, squares = np.float32(0), np.float32(0)
    for j in range(a.size):
        total += a[j]
    mean = total / np.float32(a.size)
    for j in range(a.size):
        a[j] -= mean
        squares += a[j] * a[j]
    factor = np.float32(1) / np.sqrt(squares / np.float32(a.size) + np.float32(EPSILON))
    for j in range(a.size):
        a[j] *= factor
    return factor


@helper
def _standardize_row_linear(a, unit, factor):
    # apply the derivative of _standardize_row, where that gives `unit`, to a row, in place; its own transpose
    total, along = np.float32(0), np.float32(0)
    for j in range(a.size):
        total += a[j]
        along += a[j] * unit[j]
    mean, slope = total / np.float32(a.size), along / np.float32(a.size)
    for j in range(a.size):
        a[j] = (a[j] - mean - unit[j] * slope) * factor


# --- value ----------------------------------------------------------------------------------------------


@helper
def _begin(state, c, h):
    # c and h = the state, (n, 2 cells)
    cells = c.shape[1]
    for r in range(len(c)):
        for j in range(cells):
            c[r, j] = state[r, j]
            h[r, j] = state[r, cells + j]


@helper
def _run_gates(gates, r, z):
    # `gates` holds h wh (standardized and scaled with layer norm) and becomes i, f, o and g;
    # sigmoid x = tanh(x / 2) / 2 + 1/2
    half = np.float32(0.5)
    for j in range(gates.shape[2]):
        gates[I, r, j] = half * scalar.tanh1(half * (gates[I, r, j] + z[I, j])) + half
        gates[F, r, j] = half * scalar.tanh1(half * (gates[F, r, j] + z[F, j])) + half
        gates[O, r, j] = half * scalar.tanh1(half * (gates[O, r, j] + z[O, j])) + half
        gates[G, r, j] = scalar.tanh1(gates[G, r, j] + z[G, j])


@helper
def _keep_c_derivatives(gates, c, r, start, at):
    # the derivatives of c_t; c still holds c_{t-1}, so call it before _run_cell
    one = np.float32(1)
    for j in range(c.shape[1]):
        i, f, g = gates[I, r, j], gates[F, r, j], gates[G, r, j]
        at[C_BY_C, j] = f
        at[C_BY_I, j] = g * i * (one - i)
        at[C_BY_F, j] = c[r, j] * f * (one - f)
        at[C_BY_G, j] = i * (one - g * g)
    if start:
        at[C_BY_C, :] = 0


@helper
def _run_cell(gates, c, r, at):
    # c = f c + i g; at[H] is room for the row: c, then u, then tanh u, at last h
    for j in range(c.shape[1]):
        c[r, j] = at[C, j] = at[H, j] = gates[F, r, j] * c[r, j] + gates[I, r, j] * gates[G, r, j]


@helper
def _run_output(gates, h, r, at, trace):
    # h = o tanh u; at[H] holds u. If `trace`, keep the derivatives of h_t
    one = np.float32(1)
    for j in range(h.shape[1]):
        at[H, j] = scalar.tanh1(at[H, j])
    if trace:
        for j in range(h.shape[1]):
            tanh_u, o = at[H, j], gates[O, r, j]
            at[H_BY_U, j] = o * (one - tanh_u * tanh_u)
            at[H_BY_O, j] = tanh_u * o * (one - o)
    for j in range(h.shape[1]):
        h[r, j] = at[H, j] = gates[O, r, j] * at[H, j]


def _run_loop(z, starts, state, w, at_once, trace):
    (steps, n), cells = starts.shape, w.shape[2]
    record = np.empty((steps, n, ROWS if trace else STATE_ROWS, cells), np.float32)
    c, h = np.empty((n, cells), np.float32), np.empty((n, cells), np.float32)
    gates = np.empty((4, n, cells), np.float32)
    _begin(state, c, h)
    for t in range(steps):
        _zero_where(starts[t], c)
        _zero_where(starts[t], h)
        _times_gates(h, w, at_once, gates)
        for r in range(n):
            at = record[t, r]
            _run_gates(gates, r, z[t, r])
            if trace:
                _keep_c_derivatives(gates, c, r, starts[t, r], at)
            _run_cell(gates, c, r, at)
            _run_output(gates, h, r, at, trace)
    return record


def _run_ln_loop(z, starts, state, w, at_once, norm, trace):
    (steps, n), cells, rows = starts.shape, w.shape[2], LN_ROWS if trace else STATE_ROWS
    record = np.empty((steps, n, rows, cells), np.float32)
    flat = record.reshape(steps, n, rows * cells)
    c, h = np.empty((n, cells), np.float32), np.empty((n, cells), np.float32)
    gates, hw = np.empty((4, n, cells), np.float32), np.empty(4 * cells, np.float32)
    _begin(state, c, h)
    for t in range(steps):
        _zero_where(starts[t], c)
        _zero_where(starts[t], h)
        _times_gates(h, w, at_once, gates)
        for r in range(n):
            at = record[t, r]
            _join_row(gates, r, hw)
            factor_hw = _standardize_row(hw)
            if trace:
                _copy(hw, _unit_hw_row(flat, t, r, cells))
            _split_row_scaled(hw, norm, r, gates)
            _run_gates(gates, r, z[t, r])
            if trace:
                _keep_c_derivatives(gates, c, r, starts[t, r], at)
            _run_cell(gates, c, r, at)
            factor_c = _standardize_row(at[H])
            if trace:
                for j in range(cells):
                    at[UNIT_C, j], at[FACTOR_HW, j], at[FACTOR_C, j] = at[H, j], factor_hw, factor_c
            for j in range(cells):
                at[H, j] = at[H, j] * norm[GAIN_C, j] + norm[BIAS_C, j]
            _run_output(gates, h, r, at, trace)
    return record


# --- tangent --------------------------------------------------------------------------------------------


@helper
def _push_gates(dgates, r, dz, at):
    # `dgates` holds dh wh and becomes by_gates (dz + dh wh)
    for k in range(4):
        for j in range(dgates.shape[2]):
            dgates[k, r, j] = (dgates[k, r, j] + dz[k, j]) * at[BY_GATES + k, j]


@helper
def _push_cell(dgates, dc, r, at, out):
    # dc = c_by_c dc + the part of i, f and g; `out` is room for the row: dc, then du, at last dh
    for j in range(dc.shape[1]):
        dc[r, j] = out[j] = (
            at[C_BY_C, j] * dc[r, j] + dgates[I, r, j] + dgates[F, r, j] + dgates[G, r, j])


@helper
def _push_output(dgates, dh, r, at, out):
    # dh = h_by_u du + the part of o; `out` holds du
    for j in range(dh.shape[1]):
        dh[r, j] = out[j] = at[H_BY_U, j] * out[j] + dgates[O, r, j]


def _push_loop(dz, starts, record, w, at_once):
    (steps, n), cells = starts.shape, w.shape[2]
    out, dgates = np.empty((steps, n, cells), np.float32), np.empty((4, n, cells), np.float32)
    dc, dh = np.zeros((n, cells), np.float32), np.zeros((n, cells), np.float32)
    for t in range(steps):
        _zero_where(starts[t], dh)
        _times_gates(dh, w, at_once, dgates)
        for r in range(n):
            at, new = record[t, r], out[t, r]
            _push_gates(dgates, r, dz[t, r], at)
            _push_cell(dgates, dc, r, at, new)
            _push_output(dgates, dh, r, at, new)
    return out


def _push_ln_loop(dz, dh_direct, starts, record, w, at_once, norm):
    (steps, n), cells = starts.shape, w.shape[2]
    flat = record.reshape(steps, n, LN_ROWS * cells)
    out, dgates = np.empty((steps, n, cells), np.float32), np.empty((4, n, cells), np.float32)
    dc, dh = np.zeros((n, cells), np.float32), np.zeros((n, cells), np.float32)
    dhw = np.empty(4 * cells, np.float32)
    for t in range(steps):
        _zero_where(starts[t], dh)
        _times_gates(dh, w, at_once, dgates)
        for r in range(n):
            at, new = record[t, r], out[t, r]
            _join_row(dgates, r, dhw)
            _standardize_row_linear(dhw, _unit_hw_row(flat, t, r, cells), at[FACTOR_HW, 0])
            _split_row_scaled(dhw, norm, r, dgates)
            _push_gates(dgates, r, dz[t, r], at)
            _push_cell(dgates, dc, r, at, new)
            _standardize_row_linear(new, at[UNIT_C], at[FACTOR_C, 0])
            for j in range(cells):
                new[j] *= norm[GAIN_C, j]
                dgates[O, r, j] += dh_direct[t, r, j]
            _push_output(dgates, dh, r, at, new)
    return out


# --- cotangent ------------------------------------------------------------------------------------------
# gh is the cotangent of h_t, then of u_t and (by way of u_t) of c_t; after the product, of h_{t-1}. gc is the
# cotangent of c_t by way of c_{t+1}, then all of it, at last that of c_{t-1}. ghw is gz by gates, as the
# product takes it; with layer norm, the cotangent of h_{t-1} wh.


@helper
def _pull_output(gh, r, at, gz):
    # the gate o gets its part of gh, and gh becomes the cotangent of u_t
    for j in range(gh.shape[1]):
        gz[O, j] = gh[r, j] * at[H_BY_O, j]
        gh[r, j] *= at[H_BY_U, j]


@helper
def _pull_cell(gh, gc, r, at, gz):
    # gc + gh is the cotangent of c_t: i, f and g get their parts, and gc becomes the cotangent of c_{t-1}
    for j in range(gc.shape[1]):
        gc[r, j] += gh[r, j]
        gz[I, j] = gc[r, j] * at[C_BY_I, j]
        gz[F, j] = gc[r, j] * at[C_BY_F, j]
        gz[G, j] = gc[r, j] * at[C_BY_G, j]
        gc[r, j] *= at[C_BY_C, j]


def _pull_loop(g, starts, record, w, at_once):
    (steps, n), cells = starts.shape, w.shape[2]
    gz = np.empty((steps, n, 4, cells), np.float32)
    gc, gh = np.zeros((n, cells), np.float32), np.zeros((n, cells), np.float32)
    ghw, term = np.empty((4, n, cells), np.float32), np.empty((n, cells), np.float32)
    for t in range(steps - 1, -1, -1):
        for r in range(n):
            at, new = record[t, r], gz[t, r]
            for j in range(cells):
                gh[r, j] += g[t, r, j]
            _pull_output(gh, r, at, new)
            _pull_cell(gh, gc, r, at, new)
            for k in range(4):
                for j in range(cells):
                    ghw[k, r, j] = new[k, j]
        _sum_times_gates(ghw, w, at_once, term, gh)
        _zero_where(starts[t], gh)
    return gz


def _pull_ln_loop(g, starts, record, w, at_once, norm):
    (steps, n), cells = starts.shape, w.shape[2]
    flat = record.reshape(steps, n, LN_ROWS * cells)
    gz, gh_direct = np.empty((steps, n, 4, cells), np.float32), np.empty((steps, n, cells), np.float32)
    gc, gh = np.zeros((n, cells), np.float32), np.zeros((n, cells), np.float32)
    ghw, term = np.empty((4, n, cells), np.float32), np.empty((n, cells), np.float32)
    ghw_row = np.empty(4 * cells, np.float32)
    for t in range(steps - 1, -1, -1):
        for r in range(n):
            at, new = record[t, r], gz[t, r]
            for j in range(cells):
                gh[r, j] += g[t, r, j]
            _copy(gh[r], gh_direct[t, r])
            _pull_output(gh, r, at, new)
            for j in range(cells):
                gh[r, j] *= norm[GAIN_C, j]
            _standardize_row_linear(gh[r], at[UNIT_C], at[FACTOR_C, 0])
            _pull_cell(gh, gc, r, at, new)
            for k in range(4):
                for j in range(cells):
                    ghw_row[k * cells + j] = new[k, j] * norm[GAIN_H + k, j]
            _standardize_row_linear(ghw_row, _unit_hw_row(flat, t, r, cells), at[FACTOR_HW, 0])
            _split_row(ghw_row, r, ghw)
        _sum_times_gates(ghw, w, at_once, term, gh)
        _zero_where(starts[t], gh)
    return gz, gh_direct


# --- standardizing: for the twins below and for ops/lstm.py ---------------------------------------------


def standardize(a):
    """Subtract the mean of each row and divide by its standard deviation; return also the factors."""
    a = a - a.mean(-1, keepdims=True)
    factor = 1 / np.sqrt((a * a).mean(-1, keepdims=True) + EPSILON)
    return a * factor, factor


def standardize_linear(da, unit, factor):
    """Apply the derivative of `standardize` where that gives `unit`; it is its own transpose."""
    return (da - da.mean(-1, keepdims=True) - unit * (unit * da).mean(-1, keepdims=True)) * factor


def unit_hw(rows):
    """Return standardize(h_{t-1} wh), (..., 4 cells), and its factors from a record's (..., rows, cells)."""
    *lead, _, cells = rows.shape
    return rows[..., UNIT_HW:UNIT_HW + 4, :].reshape(*lead, 4 * cells), rows[..., FACTOR_HW, :1]


# --- the NumPy twins ------------------------------------------------------------------------------------


def _matrices(w, at_once):
    # the matrices themselves, however they are stored
    return w if at_once else w.transpose(0, 2, 1)


def _zeroed(starts, *arrays):
    # new arrays, zero where an episode starts
    return [np.where(starts[:, None], 0, a) for a in arrays] if starts.any() else arrays


def _join(gates):
    # (4, n, cells) as (n, 4 cells)
    return np.concatenate(gates, 1)


def _split(a):
    # (n, 4 cells) as (4, n, cells)
    return a.reshape(len(a), 4, a.shape[1] // 4).transpose(1, 0, 2)


def _activated(gates):
    # i, f, o and g
    return *(0.5 * np.tanh(0.5 * gates[:G]) + 0.5), np.tanh(gates[G])


def _keep_derivatives(at, starts, i, f, o, g, c_before, tanh_u):
    at[C_BY_C] = _zeroed(starts, f)[0]
    at[H_BY_U] = o * (1 - tanh_u * tanh_u)
    at[C_BY_I] = g * i * (1 - i)
    at[C_BY_F] = c_before * f * (1 - f)
    at[H_BY_O] = tanh_u * o * (1 - o)
    at[C_BY_G] = i * (1 - g * g)


def _named(norm):
    # gain_h (4 cells,), gain_c and bias_c
    return norm[GAIN_H:GAIN_H + 4].ravel(), norm[GAIN_C], norm[BIAS_C]


def _zeros(*shape):
    return np.zeros(shape, np.float32)


# arguments to compile the loops for: a step of one sample with one cell
_Z, _STARTS = _zeros(1, 1, 4, 1), np.zeros((1, 1), bool)
_WH, _NORM = GateWeights(_zeros(4, 1, 1), 0), _zeros(6, 1)


@twin(_run_loop, lambda: (_Z, _STARTS, _zeros(1, 2), *_WH, True))
def run(z, starts, state, w, at_once, trace):
    """Return the record of a sequence: its states and, if `trace`, what `push` and `pull` need.

    z (T, n, 4, cells) is the part of the gates that does not depend on the step before; `state` (n, 2 cells)
    is [c, h] before the first step; w and at_once are `GateWeights`.
    """
    (steps, n), cells, w = starts.shape, w.shape[2], _matrices(w, at_once)
    record = np.empty((steps, n, ROWS if trace else STATE_ROWS, cells), z.dtype)
    c, h = state[:, :cells], state[:, cells:]
    for t in range(steps):
        at = record[t].swapaxes(0, 1)
        c_before, h = _zeroed(starts[t], c, h)
        i, f, o, g = _activated(h @ w + z[t].swapaxes(0, 1))
        c = f * c_before + i * g
        tanh_u = np.tanh(c)
        h = o * tanh_u
        at[C], at[H] = c, h
        if trace:
            _keep_derivatives(at, starts[t], i, f, o, g, c_before, tanh_u)
    return record


@twin(_run_ln_loop, lambda: (_Z, _STARTS, _zeros(1, 2), *_WH, _NORM, True))
def run_ln(z, starts, state, w, at_once, norm, trace):
    """Return the record of a layer-norm LSTM's sequence, see `run`; `norm` is what `norm_weights` returns."""
    (steps, n), cells, w = starts.shape, w.shape[2], _matrices(w, at_once)
    gain_h, gain_c, bias_c = _named(norm)
    record = np.empty((steps, n, LN_ROWS if trace else STATE_ROWS, cells), z.dtype)
    c, h = state[:, :cells], state[:, cells:]
    for t in range(steps):
        at = record[t].swapaxes(0, 1)
        c_before, h = _zeroed(starts[t], c, h)
        hw, factor_hw = standardize(_join(h @ w))
        i, f, o, g = _activated(_split(hw * gain_h + z[t].reshape(n, 4 * cells)))
        c = f * c_before + i * g
        unit_c, factor_c = standardize(c)
        tanh_u = np.tanh(unit_c * gain_c + bias_c)
        h = o * tanh_u
        at[C], at[H] = c, h
        if trace:
            _keep_derivatives(at, starts[t], i, f, o, g, c_before, tanh_u)
            at[UNIT_HW:UNIT_HW + 4], at[FACTOR_HW] = _split(hw), factor_hw
            at[UNIT_C], at[FACTOR_C] = unit_c, factor_c
    return record


@twin(_push_loop, lambda: (_Z, _STARTS, _zeros(1, 1, ROWS, 1), *_WH))
def push(dz, starts, record, w, at_once):
    """Return the tangent of h (T, n, cells), given that of z."""
    (steps, n), cells, w = starts.shape, w.shape[2], _matrices(w, at_once)
    out = np.empty((steps, n, cells), dz.dtype)
    dc, dh = np.zeros((n, cells), dz.dtype), np.zeros((n, cells), dz.dtype)
    for t in range(steps):
        at = record[t].swapaxes(0, 1)
        dh, = _zeroed(starts[t], dh)
        di, df, do, dg = (dh @ w + dz[t].swapaxes(0, 1)) * at[BY_GATES:BY_GATES + 4]
        dc = at[C_BY_C] * dc + di + df + dg
        out[t] = dh = at[H_BY_U] * dc + do
    return out


@twin(_push_ln_loop, lambda: (_Z, _zeros(1, 1, 1), _STARTS, _zeros(1, 1, LN_ROWS, 1), *_WH, _NORM))
def push_ln(dz, dh_direct, starts, record, w, at_once, norm):
    """Return the tangent of h (T, n, cells), given that of z and `dh_direct`, which is added to each dh_t."""
    (steps, n), cells, w = starts.shape, w.shape[2], _matrices(w, at_once)
    gain_h, gain_c, _ = _named(norm)
    out = np.empty((steps, n, cells), dz.dtype)
    dc, dh = np.zeros((n, cells), dz.dtype), np.zeros((n, cells), dz.dtype)
    for t in range(steps):
        at = record[t].swapaxes(0, 1)
        dh, = _zeroed(starts[t], dh)
        dhw = standardize_linear(_join(dh @ w), *unit_hw(record[t])) * gain_h
        di, df, do, dg = (_split(dhw) + dz[t].swapaxes(0, 1)) * at[BY_GATES:BY_GATES + 4]
        dc = at[C_BY_C] * dc + di + df + dg
        du = standardize_linear(dc, at[UNIT_C], at[FACTOR_C]) * gain_c
        out[t] = dh = at[H_BY_U] * du + do + dh_direct[t]
    return out


@twin(_pull_loop, lambda: (_zeros(1, 1, 1), _STARTS, _zeros(1, 1, ROWS, 1), *_WH))
def pull(g, starts, record, w, at_once):
    """Return the cotangent of z, given g (T, n, cells), that of h; w and at_once are those `transposed()`."""
    (steps, n), cells, w = starts.shape, w.shape[2], _matrices(w, at_once)
    gz = np.empty((steps, n, 4, cells), g.dtype)
    gc, gh = np.zeros((n, cells), g.dtype), np.zeros((n, cells), g.dtype)
    for t in range(steps - 1, -1, -1):
        at, new = record[t].swapaxes(0, 1), gz[t].swapaxes(0, 1)
        gh = gh + g[t]
        gc = gc + at[H_BY_U] * gh
        np.multiply(gc, at[BY_GATES:BY_GATES + 4], out=new)
        np.multiply(gh, at[H_BY_O], out=new[O])
        gc = gc * at[C_BY_C]
        gh, = _zeroed(starts[t], (new @ w).sum(0))
    return gz


@twin(_pull_ln_loop, lambda: (_zeros(1, 1, 1), _STARTS, _zeros(1, 1, LN_ROWS, 1), *_WH, _NORM))
def pull_ln(g, starts, record, w, at_once, norm):
    """Return the cotangents of z and of `dh_direct`, see `push_ln`; the arguments are as in `pull`."""
    (steps, n), cells, w = starts.shape, w.shape[2], _matrices(w, at_once)
    gain_h, gain_c, _ = _named(norm)
    gz, gh_direct = np.empty((steps, n, 4, cells), g.dtype), np.empty((steps, n, cells), g.dtype)
    gc, gh = np.zeros((n, cells), g.dtype), np.zeros((n, cells), g.dtype)
    for t in range(steps - 1, -1, -1):
        at, new = record[t].swapaxes(0, 1), gz[t].swapaxes(0, 1)
        gh_direct[t] = gh = gh + g[t]
        gc = gc + standardize_linear(at[H_BY_U] * gh * gain_c, at[UNIT_C], at[FACTOR_C])
        np.multiply(gc, at[BY_GATES:BY_GATES + 4], out=new)
        np.multiply(gh, at[H_BY_O], out=new[O])
        gc = gc * at[C_BY_C]
        ghw = standardize_linear(gz[t].reshape(n, 4 * cells) * gain_h, *unit_hw(record[t]))
        gh, = _zeroed(starts[t], (_split(ghw) @ w).sum(0))
    return gz, gh_direct
