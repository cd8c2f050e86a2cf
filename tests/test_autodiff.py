"""linearize: one pass, two products; what it must get right, and what it must refuse."""

import gc
import math
import weakref

import numpy as np
import pytest
from checks import check_linear, complex_step, hessian

from trpo_np import TRPO, ops
from trpo_np.autodiff import Linear, Var, linearize, primitive, scale, value_and_grad
from trpo_np.params import Params

rng = np.random.default_rng(0)
X = rng.standard_normal((4, 3))


def network(dtype="float64"):
    return Params.pack({"w": rng.standard_normal((3, 2)), "unused": rng.standard_normal(2),
                        "b": rng.standard_normal(2),
                        "scale": rng.standard_normal(())}, dtype)


def apply(p):
    return ops.tanh(X @ p["w"] + p["b"]) * p["scale"]


# --- what it computes ---------------------------------------------------------------------------------------

def test_params_are_pushed_and_pulled_as_the_flat_vector():
    params = network()
    check_linear(apply, params)
    y, J = linearize(apply, params)
    assert J.push(np.ones(params.flat.size)).shape == y.shape == (4, 2)
    g = J.pull(np.ones((4, 2)))
    assert g.shape == params.flat.shape
    assert not params.like(g)["unused"].any()
    assert all(params.like(g)[name].all() for name in ("w", "b", "scale"))


def test_several_inputs_of_both_kinds():
    check_linear(lambda p, x, c: ops.tanh(x @ p["w"]) * c + p["b"] * c, network(), X, np.array(0.7))


def test_pull_returns_a_tuple_for_several_inputs_and_an_array_for_one():
    assert type(linearize(ops.tanh, X)[1].pull(X)) is np.ndarray
    gs = linearize(lambda a, b: a * b, X, X)[1].pull(X)
    assert type(gs) is tuple and len(gs) == 2


@pytest.mark.parametrize("fun", [
    lambda x: x * x + x,
    lambda x: (lambda y: y * y * ops.exp(y) + y)(ops.tanh(x)),
    lambda x: ops.concatenate([x, x, 2 * x], -1),
    lambda x: x @ np.ones((3, 1)) * x + x[0],
    lambda x: ops.matmul(x, x.T @ np.ones((4, 3))),
])
def test_fan_out_is_counted_each_time(fun):
    check_linear(fun, X)


def test_doubling_costs_a_walk_over_the_tape_not_over_its_paths():
    def fun(x):
        for _ in range(60):
            x = x + x
        return x
    y, J = linearize(fun, np.array(1.0))
    assert y == J.push(np.array(1.0)) == J.pull(np.array(1.0)) == 2.0**60


def test_unused_input_has_zero_gradient():
    gs = linearize(lambda a, b: ops.sin(a), X, np.ones((2, 5)))[1].pull(X)
    assert gs[1].shape == (2, 5) and not gs[1].any() and gs[0].any()


def test_input_itself_as_output():
    y, J = linearize(lambda x: x, X)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(J.push(2 * X), 2 * X)
    np.testing.assert_array_equal(J.pull(3 * X), 3 * X)


def test_output_before_the_end_of_the_tape():
    def fun(x):
        y = ops.sin(x)
        ops.exp(y)  # computed, then forgotten
        return y
    check_linear(fun, X)


def test_a_path_that_does_not_reach_the_input_carries_no_tangent():
    _, J = linearize(lambda x: x * ops.stop_gradient(ops.exp(x)), X)
    np.testing.assert_array_equal(J.push(np.ones_like(X)), np.exp(X))


def test_jacobian_products_are_linear_and_can_be_repeated():
    _, J = linearize(apply, network())
    v, w = rng.standard_normal((2, 11))
    g = rng.standard_normal((4, 2))
    first = J.pull(g)
    np.testing.assert_allclose(J.push(2 * v - 3 * w), 2 * J.push(v) - 3 * J.push(w), atol=1e-12)
    np.testing.assert_array_equal(J.pull(g), first)  # what a pull frees, the next makes anew
    np.testing.assert_array_equal(J.pull(g), first)


def test_products_stay_valid_and_leave_their_arguments_alone():
    params = network()
    before, g, v = params.flat.copy(), np.ones((4, 2)), np.ones(11)
    _, J = linearize(apply, params)
    push, pull = J.push(v).copy(), J.pull(g).copy()
    moved = params.like(params.flat + 1)
    linearize(apply, moved)[1].pull(g)
    moved.flat[:] = 0
    np.testing.assert_array_equal(J.push(v), push)
    np.testing.assert_array_equal(J.pull(g), pull)
    assert (g == 1).all() and (v == 1).all() and (params.flat == before).all()


def test_products_take_lists_of_numbers():
    params, x = network(), np.arange(3.0)
    _, J = linearize(lambda v: v * 2, x)
    for product in J:
        np.testing.assert_array_equal(product([1, 2, 3]), [2, 4, 6])
    assert linearize(lambda v: ops.sum(v * v), x)[1].pull(1.0).tolist() == [0, 2, 4]
    _, J = linearize(apply, params)
    v, g = rng.standard_normal(11), rng.standard_normal((4, 2))
    np.testing.assert_array_equal(J.push(v.tolist()), J.push(v))
    np.testing.assert_array_equal(J.pull(g.tolist()), J.pull(g))
    with pytest.raises(ValueError, match="a vector of 11 parameters is needed, not one of shape"):
        J.push(params)


def test_the_cotangent_of_parameters_is_an_array_of_its_own():
    params = network()
    g = linearize(lambda p: ops.reshape(p["b"], (2,)), params)[1].pull(np.ones(2))
    assert g.flags.writeable and g.flags.owndata


def test_deep_chains_need_no_recursion():
    def fun(x):
        for i in range(5000):
            x = x * 1.0001 if i % 2 else ops.sin(x)
        return x
    x, v = rng.standard_normal(3), rng.standard_normal(3)
    _, J = linearize(fun, x)
    np.testing.assert_allclose(J.push(v), complex_step(fun, [x], [v]), rtol=1e-10)
    np.testing.assert_allclose(J.pull(v), J.push(v), rtol=1e-10)


def test_the_program_runs_once():
    calls = []

    def fun(x):
        calls.append(1)
        return ops.tanh(x)
    _, J = linearize(fun, X)
    for _ in range(3):
        J.push(X), J.pull(X)
    assert len(calls) == 1


def test_rules_run_only_for_what_is_differentiated():
    ran = []

    def rule(i):
        return lambda y, a, b: ran.append(i) or scale((b, a)[i], y, (a, b)[i])
    times = primitive(np.multiply, rule(0), rule(1))
    assert type(times(X, X)) is np.ndarray and not ran
    linearize(lambda x: times(X, x), X)
    assert ran == [1]


@pytest.mark.parametrize("low, high", [("float32", "float64"), ("float64", "float32")])
def test_dtypes_follow_numpy(low, high):
    params = network(low)
    x = X.astype(low)
    y, J = linearize(lambda p: ops.tanh(x @ p["w"]) * 2 + p["b"], params)
    assert y.dtype == J.push(params.flat).dtype == J.pull(y).dtype == np.dtype(low)
    assert J.push(params.flat.astype(high)).dtype == J.pull(y.astype(high)).dtype == np.float64


def test_float64_products_of_a_float32_program_are_those_of_its_float32_derivative():
    x = X.astype(np.float32)
    _, J = linearize(lambda z: z * z, x)
    np.testing.assert_array_equal(J.push(X), 2.0 * x.astype(np.float64) * X)


# --- joint rules --------------------------------------------------------------------------------------------

def hypot_joint(wanted, y, *xs):
    """d sqrt(a^2 + b^2) = (a da + b db) / y, as one pair for both arguments."""
    def push(*dxs):
        return sum(xs[i] * dx for i, dx in zip(wanted, dxs)) / y

    def pull(g):
        gs = tuple(g * xs[i] / y for i in wanted)
        return gs if len(wanted) > 1 else gs[0]
    return Linear(push, pull)


hypot = primitive(lambda a, b: np.sqrt(a * a + b * b), joint=hypot_joint)


@pytest.mark.parametrize("fun, xs", [
    (hypot, (X, X[::-1] + 3)),
    (lambda a: hypot(a, 2.0), (X,)),
    (lambda b: hypot(X, b), (X + 1,)),
    (lambda a: hypot(a, a), (X,)),
    (lambda a: hypot(ops.exp(a), a * a) * a, (X,)),
])
def test_joint_rule(fun, xs):
    check_linear(fun, *xs)


# --- Python's operators -------------------------------------------------------------------------------------

@pytest.mark.parametrize("fun", [
    lambda v: np.ones((2, 4)) @ v, lambda v: np.ones((4, 3)) * v, lambda v: np.ones(3) + v,
    lambda v: np.ones(3) - v, lambda v: np.ones(3) / (v * v + 1), lambda v: np.float64(2) * v,
    lambda v: np.float32(2) - v, lambda v: 1 / (v * v + 1),
    lambda v: 2 - v, lambda v: -v, lambda v: v**3, lambda v: v.T @ np.ones((4, 2)), lambda v: v[1:, 0],
    lambda v: v @ np.ones((3, 2)),
])
def test_operators_with_arrays_and_numbers_on_either_side(fun):
    check_linear(fun, X)


def test_var_looks_like_its_array():
    seen = []

    def fun(v):
        seen.append((type(v), v.shape, v.ndim, v.size, v.dtype, len(v), v.T.shape, repr(v)[:8]))
        rows = [row for row in v]
        return rows[0] + rows[3]
    check_linear(fun, X)
    assert seen[0] == (Var, (4, 3), 2, 12, np.float64, 4, (3, 4), "Var(arra")


# --- what it refuses ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("fun", [
    lambda x: X, lambda x: 1.0, lambda x: None, lambda x: (x, x), lambda x: ops.stop_gradient(x)])
def test_output_that_does_not_depend_on_the_input(fun):
    with pytest.raises(ValueError, match="does not depend on the input"):
        linearize(fun, X)


def test_missing_rule():
    floor = primitive(np.floor)
    np.testing.assert_array_equal(floor(X), np.floor(X))
    with pytest.raises(TypeError, match="floor has no derivative in argument 0; pass a plain array there"):
        linearize(floor, X)
    with pytest.raises(TypeError, match="where has no derivative in argument 0"):
        linearize(lambda c: ops.where(c, X, X), X)
    with pytest.raises(TypeError, match="power has no derivative in argument 1"):
        linearize(lambda c: ops.power(X * X, c), X)


@pytest.mark.parametrize("fun", [
    lambda v: v if v else -v,
    lambda v: v if v[0, 0] and True else -v,
    lambda v: -v if v == 0 else v,
    lambda v: ops.where(v != 0, v, -v),
    lambda v: ops.where(v > 0, v, -v),
    lambda v: np.where(X < v, X, X),
    lambda v: 0.0 if X[0] @ v[0] in [1.0] else v,
])
def test_branching_on_a_var(fun):
    with pytest.raises((TypeError, ValueError)):
        linearize(fun, X)


def test_branching_on_a_var_says_what_to_do():
    for fun in (lambda v: v if v else -v, lambda v: v == X, lambda v: v if v > 0 else -v, lambda v: X <= v,
                lambda v: max(v[0, 0], 0)):
        with pytest.raises(TypeError, match=r"nor compare it; branch on ops\.stop_gradient\(x\), its"):
            linearize(fun, X)
    check_linear(lambda v: ops.where(ops.stop_gradient(v) > 0, v, -v), X)


@pytest.mark.parametrize("fun", [
    np.sin, np.exp, np.sum, np.mean, np.tanh, np.sqrt, np.asarray, np.array, np.max, np.concatenate, float,
    lambda v: np.matmul(v, X.T), lambda v: np.dot(X.T, v), lambda v: np.add(v, 1), lambda v: np.stack([v, v]),
    lambda v: np.where(X > 0, v, v), lambda v: np.einsum("ij->i", v),
])
def test_numpy_functions_refuse_a_var(fun):
    with pytest.raises(TypeError):
        linearize(fun, X)


@pytest.mark.parametrize("fun, words", [
    (np.tanh, r"numpy\.tanh was given a Var, a value under trace; use trpo_np\.ops\.tanh$"),
    (lambda v: np.maximum(0, v), r"use trpo_np\.ops\.maximum$"), (np.sum, r"use trpo_np\.ops\.sum$"),
    (np.abs, r"use trpo_np\.ops\.abs$"),
    (np.arctan, r"numpy\.arctan was .*; see trpo_np\.ops for .*, or make an op of it by trpo_np\.ops\.prim"),
    (np.mean, r"use the function of the same name in trpo_np\.ops"),
    (lambda v: np.concatenate([v, v]), r"use the function of the same name in trpo_np\.ops"),
    (math.exp, r"no Python number; use trpo_np\.ops, as ops\.exp in place of math\.exp"),
    (float, "no Python number"), (abs, "no Python number"), (lambda v: [1, 2][v], "no Python number"),
    (lambda v: v.__setitem__(0, 1), r"cannot be written to; make a new one by ops\.where")])
def test_a_function_that_is_no_op_says_what_to_use(fun, words):
    with pytest.raises(TypeError, match=words):
        linearize(fun, X)


@pytest.mark.parametrize("fun, words", [
    (lambda v: v.sum(), "has no 'sum'; use trpo_np.ops.sum"), (lambda v: v.mean(1), "use trpo_np.ops.mean"),
    (lambda v: v.astype(float), "has no 'astype'; see trpo_np.ops for what there is instead")])
def test_a_method_of_arrays_says_what_to_use(fun, words):
    with pytest.raises(AttributeError, match=words):
        linearize(fun, X)


def test_a_custom_network_of_numpy_functions_gets_the_word_where_it_learns():
    model = TRPO("MlpPolicy", "CartPole-v1", timesteps_per_batch=16, seed=0, policy_kwargs=dict(
        act_fun=lambda x: np.tanh(x)))
    with pytest.raises(TypeError, match="use trpo_np.ops.tanh"):
        model.learn(16)


def test_mixing_tapes():
    with pytest.raises(ValueError, match="multiply: its arguments come from different linearize calls"):
        linearize(lambda x: linearize(lambda y: x * y, X)[0], X)
    with pytest.raises(ValueError, match="does not depend on the input"):
        linearize(lambda x: linearize(lambda y: x + 1, X)[0], X)

    def of_an_outer_input(x):
        with pytest.raises(ValueError, match="does not depend on the input"):
            linearize(lambda y: x + 1, X)
        return x
    linearize(of_an_outer_input, X)


def test_products_with_the_wrong_shape():
    params = network()
    _, J = linearize(apply, params)
    with pytest.raises(ValueError, match=r"cotangent has shape \(2,\), the output \(4, 2\)"):
        J.pull(np.ones(2))
    with pytest.raises(ValueError, match="11 parameters"):
        J.push(np.ones(10))
    with pytest.raises(ValueError):
        J.push(np.ones(11), np.ones(11))
    with pytest.raises(ValueError, match=r"tangent has shape \(3,\), its input \(4, 3\)"):
        linearize(ops.tanh, X)[1].push(np.ones(3))
    with pytest.raises(ValueError, match=r"tangent has shape \(3, 4\), its input \(4, 3\)"):
        linearize(ops.tanh, X)[1].push(X.T)
    with pytest.raises(ValueError, match=r"cotangent has shape \(3, 4\), the output \(4, 3\)"):
        linearize(ops.tanh, X)[1].pull(X.T)


def test_matmul_refuses_shapes_that_its_rule_does_not_cover():
    for a, b in [((3,), (3,)), ((), (3, 2)), ((2, 3, 3), (2, 3, 3))]:
        with pytest.raises(ValueError, match="is what this op does"):
            linearize(lambda x, b=b: x @ np.ones(b), np.ones(a))


# --- value_and_grad -----------------------------------------------------------------------------------------

def test_value_and_grad():
    value, g = value_and_grad(lambda p: ops.sum(ops.square(apply(p))), params := network())
    np.testing.assert_allclose(value, np.sum(apply(params) ** 2), rtol=1e-14)
    v = rng.standard_normal(11)
    np.testing.assert_allclose(g @ v, complex_step(lambda p: ops.sum(ops.square(apply(p))), [params], [v]),
                               rtol=1e-11)
    assert value_and_grad(lambda x: x * x, np.array(3.0)) == (9.0, 6.0)
    assert value_and_grad(lambda x: x * x, 3.0) == (9.0, 6.0)


def test_value_and_grad_needs_a_scalar():
    with pytest.raises(ValueError, match=r"must return a scalar, not shape \(4, 3\)"):
        value_and_grad(ops.tanh, X)
    with pytest.raises(ValueError, match=r"must return a scalar, not shape \(1,\)"):
        value_and_grad(lambda x: ops.sum(x, axis=0), np.ones((3, 1)))


def test_gradient_can_be_differentiated_by_the_complex_step():
    x, A = rng.standard_normal(3), rng.standard_normal((3, 3))
    A = A + A.T
    H = hessian(lambda z: ops.sum(z * ops.matmul(z, A)) + ops.sum(z**3), x)
    np.testing.assert_allclose(H, 2 * A + np.diag(6 * x), rtol=1e-13)


# --- memory -------------------------------------------------------------------------------------------------

@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("use", [
    lambda J: None, lambda J: J.push(np.ones(11)), lambda J: J.pull(np.ones((4, 2)))])
def test_arrays_are_freed_without_the_garbage_collector(no_collector, use):
    alive = []

    def fun(p):
        y = X @ p["w"]
        z = ops.concatenate([ops.tanh(y)[:, :1], y[:, 1:]], -1) * p["scale"]
        alive.extend(weakref.ref(v.value) for v in (y, z) if isinstance(v.value, np.ndarray))
        return z * z
    value, J = linearize(fun, network())
    use(J)
    assert len(alive) == 2 and all(ref() is not None for ref in alive)  # the pair needs them
    del value, J
    assert [ref() for ref in alive] == [None, None]


def test_a_pull_frees_each_cotangent_once_it_is_passed_on(no_collector):
    made, alive = [], []

    def rule(y, x):
        def pull(g):
            alive.append(sum(ref() is not None for ref in made))
            g = 1.0 * g
            made.append(weakref.ref(g))
            return g
        return Linear(lambda dx: dx, pull)
    same = primitive(np.positive, rule)
    linearize(lambda x: same(same(same(same(x)))), X)[1].pull(X)
    assert alive == [0, 1, 1, 1]


def test_a_failed_trace_leaves_nothing_behind(no_collector):
    alive = []

    def fun(x):
        y = ops.tanh(x)
        alive.append(weakref.ref(y.value))
        return np.sin(y)
    try:
        linearize(fun, X)
    except TypeError:
        pass
    assert alive[0]() is None
