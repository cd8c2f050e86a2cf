"""The loops of LSTMs over time: loop, compiled loop and NumPy twin agree; push is the derivative of run, pull
is the transpose of push, and a record holds what the names of its rows say."""

import numpy as np
import pytest
from checks import STEP
from kernel_checks import bodies, body, check_agreement, check_nan, kernels_of, with_nan

from trpo_np.kernels import blas, lstm
from trpo_np.kernels.lstm import GateWeights

SHAPES = [(4, 3, 5), (3, 2, 1), (1, 1, 4), (2, 0, 3), (0, 2, 3)]  # steps, samples, cells
# each kernel, and the one with layer norm
KERNELS = {lstm.run: lstm.run_ln, lstm.push: lstm.push_ln, lstm.pull: lstm.pull_ln}
ALL = [*KERNELS, *KERNELS.values()]
each_kernel = pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.__name__)
each_lstm = pytest.mark.parametrize("layer_norm", [False, True], ids=["lstm", "lnlstm"])
each_body = pytest.mark.parametrize("name", bodies(lstm.run))


class Case:
    """Random arguments of an LSTM's kernels, with resets at random places; methods take the kernel without
    layer norm and mean the one of this case's LSTM."""

    def __init__(self, rng, layer_norm, shape=(4, 3, 5), at_once=2, dtype=np.float32, often=0.3):
        (self.steps, self.n, self.cells), self.layer_norm = shape, layer_norm

        def draw(*shape):
            return rng.standard_normal(shape).astype(dtype)
        self.draw, self.starts = draw, rng.random((self.steps, self.n)) < often
        self.z, self.state = draw(self.steps, self.n, 4, self.cells), draw(self.n, 2 * self.cells)
        self.weights = GateWeights(draw(4, self.cells, self.cells), at_once)
        self.norm = [draw(6, self.cells)] if layer_norm else []
        self.record = self.kernel(lstm.run).plain(*self.arguments(lstm.run))

    def kernel(self, plain):
        return KERNELS[plain] if self.layer_norm else plain

    def arguments(self, plain, trace=True):
        if plain is lstm.run:
            return self.z, self.starts, self.state, *self.weights, *self.norm, trace
        steps, n, cells = self.steps, self.n, self.cells
        if plain is lstm.pull:
            weights = self.weights.transposed()
            return self.draw(steps, n, cells), self.starts, self.record, *weights, *self.norm
        dh_direct = [self.draw(steps, n, cells)] if self.layer_norm else []
        dz = self.draw(steps, n, 4, cells)
        return dz, *dh_direct, self.starts, self.record, *self.weights, *self.norm


def cases(kernel, rng):
    """Arguments of a kernel for several shapes, and for products of both kinds."""
    plain = next(plain for plain, ln in KERNELS.items() if kernel in (plain, ln))
    return [Case(rng, kernel is not plain, shape, at_once).arguments(plain)
            for shape in SHAPES for at_once in (0, 2)]


def test_all_kernels_are_here():
    assert {*ALL} == kernels_of(lstm)


@each_kernel
def test_bodies_agree(kernel, rng):
    check_agreement(kernel, cases(kernel, rng), rtol=2e-5)


@each_kernel
def test_nan_stays_nan_where_it_is(kernel, rng):
    check_nan(kernel, with_nan(cases(kernel, rng), 0))


@each_lstm
def test_push_is_the_complex_step_of_run(layer_norm, rng):
    case = Case(rng, layer_norm, dtype=np.float64)
    dz = rng.standard_normal(case.z.shape)
    moved = [case.z + 1j * STEP * dz, *case.arguments(lstm.run)[1:]]
    right = case.kernel(lstm.run).plain(*moved)[:, :, lstm.H].imag / STEP
    args = list(case.arguments(lstm.push))
    args[0] = dz
    if layer_norm:
        args[1] = np.zeros_like(args[1])
    np.testing.assert_allclose(case.kernel(lstm.push)(*args), right, rtol=1e-10, atol=1e-10)


@each_lstm
@each_body
@pytest.mark.parametrize("at_once", [0, 2])
def test_pull_is_the_transpose_of_push(layer_norm, name, at_once, rng):
    case = Case(rng, layer_norm, at_once=at_once)
    args, (g, *rest) = case.arguments(lstm.push), case.arguments(lstm.pull)
    tangents = args[:1 + layer_norm]
    dh, found = body(case.kernel(lstm.push), name)(*args), body(case.kernel(lstm.pull), name)(g, *rest)
    cotangents = found if layer_norm else [found]
    right = sum(np.sum(one * other) for one, other in zip(tangents, cotangents, strict=True))
    np.testing.assert_allclose(np.sum(g * dh), right, rtol=1e-4)


def test_what_is_added_to_an_output_reaches_later_ones_by_wh(rng):
    case = Case(rng, True, dtype=np.float64)
    dz, dh_direct, starts, record, w, *rest = case.arguments(lstm.push)
    dz[:] = 0
    still = lstm.push_ln(dz, dh_direct, starts, record, 0 * w, *rest)
    np.testing.assert_array_equal(still, dh_direct)
    assert not np.allclose(lstm.push_ln(dz, dh_direct, starts, record, w, *rest)[1:], dh_direct[1:])


@each_lstm
@each_body
def test_without_a_trace_the_state_is_the_same_and_all_there_is(layer_norm, name, rng):
    case = Case(rng, layer_norm)
    run = body(case.kernel(lstm.run), name)
    found = run(*case.arguments(lstm.run, trace=False))
    assert found.shape[2] == lstm.STATE_ROWS
    np.testing.assert_array_equal(found, run(*case.arguments(lstm.run))[:, :, :lstm.STATE_ROWS])


# --- the rows of a record -----------------------------------------------------------------------------------


def one_step(layer_norm, rng, start=False):
    """A case of one step in float64, and a function of (z, state) that gives its record; wh = 0."""
    case = Case(rng, layer_norm, (1, 3, 5), dtype=np.float64)
    case.starts[:] = start
    case.weights = GateWeights(0 * case.weights.w, 2)

    def record(z, state):
        return case.kernel(lstm.run).plain(z, case.starts, state, *case.weights, *case.norm, True)[0]
    return case, record


@each_lstm
@pytest.mark.parametrize("start", [False, True])
def test_derivatives_in_the_cell_before(layer_norm, start, rng):
    case, record = one_step(layer_norm, rng, start)
    moved = case.state.astype(complex)
    moved[:, :case.cells] += 1j * STEP
    at = record(case.z, case.state)
    found = record(case.z.astype(complex), moved).imag / STEP
    np.testing.assert_allclose(at[:, lstm.C_BY_C], found[:, lstm.C], rtol=1e-12)
    assert (at[:, lstm.C_BY_C] == 0).all() == start


@each_lstm
@pytest.mark.parametrize("gate, row, of", [
    (lstm.I, lstm.C_BY_I, lstm.C), (lstm.F, lstm.C_BY_F, lstm.C), (lstm.O, lstm.H_BY_O, lstm.H),
    (lstm.G, lstm.C_BY_G, lstm.C)], ids="ifog")
def test_derivatives_in_the_gates(layer_norm, gate, row, of, rng):
    case, record = one_step(layer_norm, rng)
    moved = case.z.astype(complex)
    moved[:, :, gate] += 1j * STEP
    at, found = record(case.z, case.state), record(moved, case.state.astype(complex)).imag / STEP
    np.testing.assert_allclose(at[:, row], found[:, of], rtol=1e-12)
    if of == lstm.C:
        du = at[:, row]
        if layer_norm:
            du = lstm.standardize_linear(du, at[:, lstm.UNIT_C], at[:, lstm.FACTOR_C])
            du *= case.norm[0][lstm.GAIN_C]
        np.testing.assert_allclose(at[:, lstm.H_BY_U] * du, found[:, lstm.H], rtol=1e-12)


def test_what_layer_norm_keeps(rng):
    case = Case(rng, True, dtype=np.float64)
    h = np.concatenate([case.state[None, :, case.cells:], case.record[:-1, :, lstm.H]])
    h[case.starts] = 0
    hw = np.concatenate([h @ w for w in case.weights.w], -1)
    for found, right in zip(lstm.unit_hw(case.record), lstm.standardize(hw), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-12)
    unit, factor = lstm.standardize(case.record[:, :, lstm.C])
    np.testing.assert_allclose(case.record[:, :, lstm.UNIT_C], unit, rtol=1e-12)
    factors = np.broadcast_to(factor, unit.shape)
    np.testing.assert_allclose(case.record[:, :, lstm.FACTOR_C], factors, rtol=1e-12)


# --- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [0, 2000])
def test_gate_weights_are_the_columns_of_each_gate(small, rng, monkeypatch):
    monkeypatch.setattr(blas, "small", lambda: small)
    wh = rng.standard_normal((9, 36)).astype(np.float32)
    weights = lstm.gate_weights(wh)
    assert (weights.at_once > 0) == (small > 0)
    for k in range(4):
        right = wh[:, 9 * k:9 * (k + 1)]
        np.testing.assert_array_equal(weights.w[k], right if small else right.T)
        np.testing.assert_array_equal(weights.transposed().w[k], right.T if small else right)


def test_norm_weights_have_a_row_for_each_name(rng):
    gain_h, gain_c, bias_c = rng.standard_normal(12), rng.standard_normal(3), rng.standard_normal(3)
    norm = lstm.norm_weights(gain_h, gain_c, bias_c)
    np.testing.assert_array_equal(norm[lstm.GAIN_H:lstm.GAIN_H + 4].ravel(), gain_h)
    np.testing.assert_array_equal(norm[[lstm.GAIN_C, lstm.BIAS_C]], [gain_c, bias_c])
