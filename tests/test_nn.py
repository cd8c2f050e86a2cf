"""Layers: which parameters they ask for, how these are drawn, and that they compute what the textbook
says."""

import numpy as np
import pytest
from checks import check_linear

from trpo_np import nn, ops
from trpo_np.params import Params


def draw(layer, shape, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return Params.pack({name: w.draw(rng, w.shape) for name, w in layer.init(shape)[1].items()}, dtype)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (7, 1), (1, 7), (3, 3, 2, 8), (2, 2, 1, 16)])
@pytest.mark.parametrize("gain", [1.0, 0.01, np.sqrt(2)])
def test_orthogonal(shape, gain, rng):
    w = nn.orthogonal(rng, shape, gain)
    assert w.shape == shape
    matrix = w.reshape(-1, shape[-1])
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-14)


def test_orthogonal_is_uniform_over_orthogonal_matrices():
    """Haar's first two moments are E q = 0 and E q_ij^2 = 1/n; without the sign correction the diagonal's
    mean is not 0."""
    rng, n = np.random.default_rng(0), 4000
    draws = np.array([nn.orthogonal(rng, (3, 3)) for _ in range(n)])
    assert np.abs(draws.mean(0)).max() < 4 / np.sqrt(3 * n)
    assert np.abs((draws**2).mean(0) - 1 / 3).max() < 4 * np.sqrt(4 / 45 / n)


def test_draws_come_from_the_generator_alone():
    layer = nn.mlp("fc", [8, 4], ops.tanh)
    np.testing.assert_array_equal(draw(layer, (3,)).flat, draw(layer, (3,)).flat)
    assert (draw(layer, (3,), seed=1).flat != draw(layer, (3,)).flat).any()


def test_dense(rng):
    layer = nn.dense("out", 4, gain=0.5)
    shape, weights = layer.init((3,))
    assert shape == (4,)
    assert {name: w.shape for name, w in weights.items()} == {"out/w": (3, 4), "out/b": (4,)}
    params = draw(layer, (3,))
    assert not params["out/b"].any()
    np.testing.assert_allclose(params["out/w"] @ params["out/w"].T, 0.25 * np.eye(3), atol=1e-14)
    params["out/b"][:] = rng.standard_normal(4)
    x = rng.standard_normal((5, 3))
    w, b = params["out/w"], params["out/b"]
    expected = [[sum(row[k] * w[k, j] for k in range(3)) + b[j] for j in range(4)] for row in x]
    np.testing.assert_allclose(layer.apply(params, x), expected, rtol=1e-13)
    check_linear(lambda p, z: layer.apply(p, z), params, x)


def test_nothing_is_drawn_by_init():
    weights = nn.dense("big", 10**6).init((10**6,))[1]  # 4 TB if it were
    assert weights["big/w"].shape == (10**6, 10**6)


def test_hidden_layers_have_gain_sqrt2_and_zero_bias():
    params = draw(nn.mlp("fc", [6, 5], ops.tanh), (4,))
    assert list(params) == ["fc0/w", "fc0/b", "fc1/w", "fc1/b"]
    for name in ("fc0", "fc1"):
        values = np.linalg.svd(params[f"{name}/w"], compute_uv=False)
        np.testing.assert_allclose(values, np.sqrt(2), rtol=1e-13)
        assert not params[f"{name}/b"].any()


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_mlp_is_layer_after_layer(name, rng):
    fun, x = nn.ACTIVATIONS[name], rng.standard_normal((6, 4))
    layer = nn.mlp("fc", [5, 3], fun)
    params = draw(layer, (4,))
    params.flat[:] += 0.1 * rng.standard_normal(params.flat.shape)
    expected = fun(fun(x @ params["fc0/w"] + params["fc0/b"]) @ params["fc1/w"] + params["fc1/b"])
    np.testing.assert_array_equal(layer.apply(params, x), expected)
    assert layer.init((4,))[0] == (3,)
    check_linear(lambda p, z: layer.apply(p, z), params, x)


def test_activations_are_the_textbook_ones(rng):
    x = rng.standard_normal((3, 4)) * 3
    expected = {"tanh": np.tanh(x), "relu": np.maximum(x, 0), "elu": np.where(x > 0, x, np.exp(x) - 1),
                "sigmoid": 1 / (1 + np.exp(-x))}
    assert expected.keys() == nn.ACTIVATIONS.keys()
    for name, fun in nn.ACTIVATIONS.items():
        np.testing.assert_allclose(fun(x), expected[name], rtol=1e-12)


def test_flatten_and_elementwise(rng):
    x = rng.standard_normal((5, 2, 3))
    layer = nn.serial(nn.flatten(), nn.elementwise(ops.sin))
    assert layer.init((2, 3)) == ((6,), {})
    np.testing.assert_array_equal(layer.apply({}, x), np.sin(x.reshape(5, 6)))
    check_linear(lambda z: layer.apply({}, z), x)


def test_named_lets_a_layer_be_used_twice(rng):
    block = nn.mlp("fc", [4], ops.tanh)
    layer = nn.serial(nn.named("a", block), nn.named("b", block))
    params = draw(layer, (3,))
    shapes = {name: array.shape for name, array in params.items()}
    assert shapes == {"a/fc0/w": (3, 4), "a/fc0/b": (4,), "b/fc0/w": (4, 4), "b/fc0/b": (4,)}
    x = rng.standard_normal((5, 3))
    expected = np.tanh(np.tanh(x @ params["a/fc0/w"]) @ params["b/fc0/w"])
    np.testing.assert_array_equal(layer.apply(params, x), expected)
    check_linear(lambda p: layer.apply(p, x), params)
    outer, names = nn.named("x", layer), layer.init((3,))[1]
    check_linear(lambda p: outer.apply({f"x/{name}": p[name] for name in names}, x), params)


def test_function_of_a_batch(rng):
    for wrong in (lambda x: ops.concatenate([x, x]), lambda x: ops.sum(x)):
        with pytest.raises(ValueError, match=r"of a batch \(1, 3\); it must keep the rows apart"):
            nn.function(wrong).init((3,))
    layer = nn.function(lambda x: ops.concatenate([x, ops.square(x[:, :1])], -1))
    assert layer.init((3,)) == ((4,), {})
    assert nn.function(lambda x: ops.reshape(x, (-1, 2, 3))).init((6,)) == ((2, 3), {})
    x = rng.standard_normal((5, 3))
    np.testing.assert_array_equal(layer.apply({}, x), np.hstack([x, x[:, :1] ** 2]))
    check_linear(lambda z: layer.apply({}, z), x)


def test_empty_serial_is_the_identity(rng):
    x = rng.standard_normal((2, 3))
    assert nn.serial().init((3,)) == ((3,), {}) and nn.serial().apply({}, x) is x
    assert nn.mlp("fc", [], ops.tanh).init((3,)) == ((3,), {})


def test_serial_refuses_a_name_given_twice():
    message = "two layers share the parameter name 'a/b'; give each layer its own name"
    with pytest.raises(ValueError, match=message):
        nn.serial(nn.dense("a", 3), nn.dense("a", 3)).init((3,))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_an_lstm_begins_orthogonal_gate_by_gate_and_remembers(layer_norm):
    shape, weights = nn.lstm("m", 5, layer_norm).init((3,))
    params = draw(nn.lstm("m", 5, layer_norm), (3,))
    assert shape == (5,) and {name: w.shape for name, w in weights.items()}.items() >= {
        "m/wx": (3, 20), "m/wh": (5, 20), "m/b": (20,)}.items()
    for name, size in (("m/wx", 3), ("m/wh", 5)):
        gates = np.split(params[name], 4, axis=1)
        for gate in gates:
            np.testing.assert_allclose(gate @ gate.T, np.eye(size), atol=1e-12)
        assert not np.allclose(gates[0], gates[1])
    assert params["m/b"].reshape(4, 5).tolist() == [[0] * 5, [1] * 5, [0] * 5, [0] * 5]  # i, f, o, g
    for name in params.keys() - {"m/wx", "m/wh", "m/b"}:
        assert (params[name] == (1 if name.startswith("m/g") else 0)).all()


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_an_output_layer_has_no_activation(name, rng):
    fun, x = nn.ACTIVATIONS[name], rng.standard_normal((6, 4))
    layer = nn.mlp("fc", [5], fun, ("out", 2, 0.1))
    params = draw(layer, (4,))
    params.flat[:] += 0.1 * rng.standard_normal(params.flat.shape)
    expected = fun(x @ params["fc0/w"] + params["fc0/b"]) @ params["out/w"] + params["out/b"]
    np.testing.assert_allclose(layer.apply(params, x), expected, rtol=1e-12)
    assert layer.dense == (("fc0/w", "fc0/b", fun), ("out/w", "out/b", None))


def test_a_layer_is_described_only_if_all_of_it_is_dense():
    a, b = nn.dense("a", 3), nn.mlp("b", [4], ops.relu)
    both = nn.serial(a, b)
    assert both.dense == (("a/w", "a/b", None), ("b0/w", "b0/b", ops.relu))
    assert nn.named("x", both).dense == (("x/a/w", "x/a/b", None), ("x/b0/w", "x/b0/b", ops.relu))
    for other in (nn.elementwise(ops.tanh), nn.flatten(), nn.conv("c", 2, 1)):
        assert other.dense is nn.serial(a, other).dense is nn.named("x", other).dense is None


def test_bytes_go_to_a_network_whose_first_layer_takes_them():
    conv, dense = nn.conv("c", 2, 1), nn.dense("a", 3)
    assert conv.takes_bytes and not dense.takes_bytes and not nn.serial().takes_bytes
    assert nn.serial(conv, dense).takes_bytes and nn.named("x", conv).takes_bytes
    assert not nn.serial(dense, conv).takes_bytes


def test_a_network_of_a_prefix_sees_the_whole_of_the_rest_of_a_name():
    layer = nn.named("x", nn.serial(nn.named("a", nn.dense("d", 2)), nn.named("b", nn.dense("d", 2))))
    params = draw(layer, (2,))
    x = np.eye(2)
    np.testing.assert_array_equal(layer.apply(params, x), params["x/a/d/w"] @ params["x/b/d/w"])


# --- from a policy's arguments to layers --------------------------------------------------------------------

@pytest.mark.parametrize("net_arch, layers, expected", [
    (None, None, ([], [64, 64], [64, 64])), (None, [5], ([], [5], [5])), ([], None, ([], [], [])),
    ([3, dict(pi=[4], vf=(5, 6))], None, ([3], [4], [5, 6])), ([3, 2], None, ([3, 2], [], [])),
    ([dict(vf=[np.int64(7)])], None, ([], [], [7]))])
def test_widths_are_shared_then_the_policys_and_the_critics(net_arch, layers, expected):
    assert nn.parse_net_arch(net_arch, layers) == expected


@pytest.mark.parametrize("net_arch, layers, sentence", [
    ([3], [3], "give net_arch or layers, not both"), (3, None, "net_arch is 3; a list is needed"),
    ([dict(pi=[3]), 4], None, "after the shared widths comes one dict"),
    ([dict(), dict()], None, "comes one dict"), ([dict(qf=[3])], None, "comes one dict"),
    ([0], None, "net_arch holds 0; a layer's width"), ([True], None, "net_arch holds True"),
    ([2.5], None, "net_arch holds 2.5"), (None, "64", "layers is '64'; a list is needed"),
    ([dict(pi=4)], None, "pi in net_arch is 4; a list")])
def test_widths_that_make_no_sense_are_named(net_arch, layers, sentence):
    with pytest.raises(ValueError, match=sentence):
        nn.parse_net_arch(net_arch, layers)


def test_an_activation_is_a_name_or_an_op():
    assert nn.parse_activation("elu") is ops.elu and nn.parse_activation(ops.sin) is ops.sin
    for wrong in ("elo", np.tanh, None, 3):
        with pytest.raises(ValueError, match="act_fun is .*; it can be 'tanh', .* or a function"):
            nn.parse_activation(wrong)
