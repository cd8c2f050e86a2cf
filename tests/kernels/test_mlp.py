"""Dense layers on a batch: the loops, compiled or not, compute what is composed of ops in float64."""

import numpy as np
import pytest
import reference
from kernel_checks import bodies, body, check_agreement, check_nan, kernels_of, network, weights_of

from trpo_np import ops
from trpo_np.autodiff import linearize, value_and_grad
from trpo_np.kernels import mlp
from trpo_np.ops.mlp import tanh_layers
from trpo_np.params import Params

# --- composed of ops, the arguments those of the kernels ----------------------------------------------------

def composed_values(flat, widths, x, small):
    weights, h, outputs = weights_of(flat, widths), x.astype(float), []
    for w, b in zip(weights[:-2:2], weights[1:-2:2]):
        h = ops.tanh(ops.affine(h, w, b))
        outputs.append(h)
    return flattened([*outputs, ops.affine(h, *weights[-2:])])


def composed_jacobian(flat, widths, x, hs, small):
    """Each row has biases of its own here: a bias has the derivative of what goes into the tanh."""
    weights, n, k = weights_of(flat, widths), len(x), widths[-1]

    def outputs(*biases):
        h = x.astype(float)
        for w, b in zip(weights[:-2:2], biases):
            h = ops.tanh(ops.matmul(h, w) + b)
        return ops.matmul(h, weights[-2]) + biases[-1]
    _, J = linearize(outputs, *(np.repeat(b[None], n, 0) for b in weights[1::2]))
    of_output = [J.pull(np.repeat(np.eye(k)[c:c + 1], n, 0)) for c in range(k)]
    return flattened([np.stack([gs[layer] for gs in of_output], 1) for layer in range(len(widths) - 3)])


def composed_push(flat, widths, x, hs, jac, dflat, small):
    return composed(flat, widths, x).push(*weights_of(dflat, widths)).astype(np.float32)


def composed_pull(flat, widths, x, hs, jac, g, small):
    return flattened(composed(flat, widths, x).pull(g.astype(float)))


def composed_loss(flat, widths, x, goal, weights, small):
    params = Params.pack({str(i): one for i, one in enumerate(weights_of(flat, widths))}, "float64")

    def loss(p):
        return reference.value_loss(tanh_layers(x.astype(float), *p.values())[:, 0], goal, weights)
    value, grad = value_and_grad(loss, params)
    return flattened([grad, value, weights.sum()])


def composed(flat, widths, x):
    return linearize(lambda *weights: tanh_layers(x.astype(float), *weights), *weights_of(flat, widths))[1]


def flattened(arrays):
    return np.concatenate([np.zeros(0), *map(np.ravel, arrays)]).astype(np.float32)


# --- cases --------------------------------------------------------------------------------------------------

# rows, widths, and the most multiplications in a small product, 0 for none: such products take a few rows at
# a time; 700 rows go through the layers in chunks, of 512 or of as many as make small products
NETWORKS = [(rows, widths, small) for rows, widths in [
    (5, [3, 2]), (1, [2, 4, 1]), (9, [4, 8, 6, 2]), (0, [3, 2, 1]), (700, [2, 3, 2]), (600, [2, 3, 5, 4, 5]),
    (9, [4, 8, 6, 5, 2])] for small in (0, 256)] + [(700, [2, 3, 3, 2], 1000)]
CRITICS = [(5, [3, 1], 0), (1, [2, 4, 1], 0), (3, [4, 8, 6, 1], 256), (0, [3, 2, 1], 0),
           (700, [2, 3, 1], 256)]


def cases(kernel, rng, networks=None, nan=False):
    """Arguments of a kernel for each network; with `nan`, the first observation's first number is NaN."""
    found = []
    for rows, widths, small in networks or (CRITICS if kernel is mlp.loss else NETWORKS):
        x = rng.standard_normal((rows, widths[0])).astype(np.float32)
        x[:nan, 0] = np.nan
        found += [(*args, small) for args in arguments(kernel, rng, *network(rng, widths), x)]
    return found


def arguments(kernel, rng, flat, widths, x):
    """All but the last, for this network and batch; of a push and a pull without and with the Jacobian."""
    rows, hidden = len(x), len(widths) - 2
    if kernel is mlp.values:
        return [(flat, widths, x)]
    if kernel is mlp.loss:
        goal, weights = rng.standard_normal(rows), rng.uniform(0, 2, rows)
        return [(flat, widths, x, *np.array([goal, weights], np.float32))]
    hs = composed_values(flat, widths, x, 0)
    if kernel is mlp.jacobian:
        return [(flat, widths, x, hs)] if hidden else []
    more = rng.standard_normal(len(flat) if kernel is mlp.push else (rows, widths[-1])).astype(np.float32)
    jacobians = [hs[:0], composed_jacobian(flat, widths, x, hs, 0)] if hidden > 1 else [hs[:0]]
    return [(flat, widths, x, hs, jacobian, more) for jacobian in jacobians]


# each kernel's oracle and the tolerance: the compiled tanh is within 3e-7, and sums are of float32
TABLE = {mlp.values: (composed_values, dict(rtol=2e-6)),
         mlp.jacobian: (composed_jacobian, dict(rtol=1e-5, atol=1e-6)),
         mlp.push: (composed_push, dict(rtol=1e-5)), mlp.pull: (composed_pull, dict(rtol=1e-5)),
         mlp.loss: (composed_loss, dict(rtol=1e-5))}
each_kernel = pytest.mark.parametrize("kernel", TABLE, ids=lambda kernel: kernel.__name__)


def test_all_kernels_are_here():
    assert TABLE.keys() == kernels_of(mlp)


@each_kernel
def test_bodies_are_what_is_composed(kernel, rng):
    oracle, close = TABLE[kernel]
    check_agreement(kernel, cases(kernel, rng), **close, oracle=oracle)


@each_kernel
def test_nan_stays_nan_where_it_is(kernel, rng):
    """In the rows of one observation, and in all weights that it passes through."""
    actors, critics = [(5, [3, 5, 4, 2], 0), (9, [4, 8, 6, 2], 256)], [(5, [3, 4, 2, 1], 0)]
    networks = critics if kernel is mlp.loss else actors
    check_nan(kernel, cases(kernel, rng, networks, nan=True), oracle=TABLE[kernel][0])


@pytest.mark.parametrize("name", bodies(mlp.loss))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_goal_that_is_infinite_gives_a_gradient_that_is_not_finite(name, rng):
    """So the critic's fit can tell."""
    for *given, goal, weights, small in cases(mlp.loss, rng, [(5, [3, 4, 1], 0), (5, [3, 1], 0)]):
        goal[2] = np.inf
        result = body(mlp.loss, name)(*given, goal, weights, small)
        assert not np.isfinite(result[:-1]).any() and np.isfinite(result[-1])


@pytest.mark.parametrize("kernel", [mlp.push, mlp.pull], ids=lambda kernel: kernel.__name__)
def test_by_the_jacobian_derivatives_are_the_same(kernel, rng):
    for name in bodies(kernel):
        plain, by_jacobian = cases(kernel, rng, [(40, [4, 20, 16, 12, 2], 0)])
        assert not len(plain[4]) and len(by_jacobian[4]) == 40 * 2 * (20 + 16)
        run = body(kernel, name)
        np.testing.assert_allclose(run(*plain), run(*by_jacobian), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", bodies(mlp.pull))
def test_pull_is_the_transpose_of_push(name, rng):
    push, pull = body(mlp.push, name), body(mlp.pull, name)
    for *given, dflat, small in cases(mlp.push, rng):
        dy = push(*given, dflat, small)
        g = rng.standard_normal(dy.shape).astype(np.float32)
        left, right = np.sum(g * dy, dtype=float), np.sum(pull(*given, g, small) * dflat, dtype=float)
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)
