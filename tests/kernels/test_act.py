"""A step of a rollout: the loop, compiled or not, draws what is composed of ops in float64."""

import numpy as np
import pytest
from kernel_checks import (
    bodies,
    body,
    check_agreement,
    check_nan,
    kernels_of,
    network,
    results,
    weights_of,
    with_nan,
)

from trpo_np import nn, ops
from trpo_np.kernels import act
from trpo_np.ops.mlp import tanh_layers
from trpo_np.params import Params

FILLS = (8, 9)  # the positions of `drawn` and `largest`
NETWORKS = [(5, [3, 2]), (1, [3, 2]), (3, [4, 8, 6, 2]), (1, [1, 1]), (0, [3, 2]), (2, [2, 5, 7, 1]),
            (4, [9, 2, 2, 6])]  # rows, widths


def composed_draw(t, x, flat, widths, scale, clip, noise, bounds, drawn, largest):
    drawn, largest = drawn.copy(), largest.copy()
    inputs = np.clip((x.astype(float) - scale[0]) * scale[1], -clip, clip)
    drawn[0, t] = tanh_layers(inputs, *weights_of(flat, widths)) + noise[t]
    drawn[1, t] = np.clip(drawn[0, t], *bounds)
    largest[t] = drawn[0, t].argmax(-1)
    return [np.isfinite(x).all(), drawn, largest]


def observations(rng, rows, n):
    """Observations, a scale for them, and a limit that some of them exceed."""
    scale = np.array([rng.standard_normal(n), rng.uniform(0.5, 2, n)], np.float32)
    return 3 * rng.standard_normal((rows, n)).astype(np.float32), scale, np.float32(2)


def cases(rng):
    found = []
    for rows, widths in NETWORKS:
        (flat, shape), (x, scale, clip) = network(rng, widths), observations(rng, rows, widths[0])
        k = widths[-1]
        noise = rng.standard_normal((3, rows, k)).astype(np.float32)
        bounds = np.sort(rng.standard_normal((2, k)).astype(np.float32), 0)
        drawn, largest = np.zeros((2, 3, rows, k), np.float32), np.zeros((3, rows), np.int64)
        found.append((1, x, flat, shape, scale, clip, noise, bounds, drawn, largest))
    return found


def test_all_kernels_are_here():
    assert {act.draw} == kernels_of(act)


def test_bodies_are_what_is_composed(rng):
    check_agreement(act.draw, cases(rng), 2e-6, oracle=composed_draw, fills=FILLS)


@pytest.mark.parametrize("name", bodies(act.draw))
def test_float64_observations_are_shifted_in_float64(name, rng):
    for args in cases(rng):
        t, x, flat, widths, scale, clip, *rest = args
        far = np.array([[1.7e9], [0]])  # float32 has steps of 128 there
        given = t, x + far[0], flat, widths, scale + far, np.float64(clip), *rest
        near, found = composed_draw(*args), results(act.draw, name, given, FILLS)
        assert found[0] and found[1].dtype == np.float32
        np.testing.assert_allclose(found[1], near[1], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", bodies(act.draw))
def test_a_number_beyond_float32_is_finite_only_where_it_is_clipped(name, rng):
    (t, x, flat, widths, scale, clip, *rest), *_ = cases(rng)
    x = x.astype(np.float64)
    x[-1, 0] = 1e39
    with np.errstate(over="ignore"):  # in the loop as plain Python
        for clip, finite in (2.0, True), (np.inf, False):
            given = t, x, flat, widths, scale.astype(np.float64), np.float64(clip), *rest
            assert results(act.draw, name, given, FILLS)[0] == finite


def test_nan_stays_nan_where_it_is(rng):
    """In the row of its observation."""
    check_nan(act.draw, with_nan(cases(rng), 1), oracle=composed_draw, fills=FILLS)


@pytest.mark.parametrize("name", bodies(act.draw))
def test_it_is_the_network_of_nn(name):
    rng, widths, draw = np.random.default_rng(3), [5, 8, 6, 3], body(act.draw, name)
    layer = nn.serial(nn.mlp("fc", widths[1:-1], ops.tanh), nn.dense("out", widths[-1]))
    for rows in (1, 7):
        (flat, shape), (x, scale, clip) = network(rng, widths), observations(rng, rows, widths[0])
        weights = {key: np.zeros(weight.shape) for key, weight in layer.init((widths[0],))[1].items()}
        params = Params.pack(weights, "float64").like(flat.astype(np.float64))
        inputs = np.clip((x.astype(np.float64) - scale[0]) * scale[1], -clip, clip)
        noise = rng.standard_normal((rows, 3)).astype(np.float32)
        bounds = np.array([[-1, 0, -np.inf], [1, np.inf, 0]], np.float32)
        assert (np.abs(inputs) == clip).any() or rows == 1
        out, largest = np.zeros((2, 2, rows, 3), np.float32), np.zeros((2, rows), np.int64)
        given = x, flat, shape, scale, clip, np.stack([noise * 0, noise]), bounds, out, largest
        assert draw(1, *given)
        drawn, clipped = out[:, 1]
        np.testing.assert_allclose(drawn, layer.apply(params, inputs) + noise, rtol=3e-6, atol=3e-6)
        np.testing.assert_array_equal(clipped, np.clip(drawn, *bounds))
        np.testing.assert_array_equal(largest[1], drawn.argmax(1))
        assert not out[:, 0].any() and not largest[0].any()  # the other step
        for bad in (np.nan, np.inf, -np.inf):
            x[-1, 2] = bad
            assert not draw(1, *given)


@pytest.mark.parametrize("name", bodies(act.draw))
def test_the_first_of_equal_outputs_is_the_largest(name, rng):
    for args in cases(rng):
        *given, drawn, largest = args
        given[2], given[6] = given[2] * 0, given[6] * 0  # weights and noise
        largest[:] = -1
        body(act.draw, name)(*given, drawn, largest)
        assert not drawn[0].any() and not largest[1].any()


@pytest.mark.parametrize("name", bodies(act.draw))
def test_without_bounds_nothing_is_clipped(name, rng):
    for args in cases(rng):
        *given, drawn, largest = args
        given[7] = act.unbounded(drawn.shape[-1])
        body(act.draw, name)(*given, drawn, largest)
        np.testing.assert_array_equal(drawn[0], drawn[1])
