"""A kernel is three programs that agree: its loop as plain Python, the loop compiled, and the NumPy twin."""

import importlib.util
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from trpo_np import nn, ops
from trpo_np.autodiff import value_and_grad
from trpo_np.kernels import act as acting
from trpo_np.kernels import compile as kernels
from trpo_np.kernels import image as pixels
from trpo_np.kernels import lstm as recurrence
from trpo_np.kernels import mlp as dense
from trpo_np.params import Params

NUMBA = importlib.util.find_spec("numba") is not None
MODES = ["loop", "plain"] + ["compiled"] * NUMBA  # each tested explicitly, whatever the mode of the suite


def result(kernel, mode, args):
    """What a kernel returns; of one that writes into its arguments, what it writes."""
    run = version(kernel, mode)
    if kernel is not acting.mlp_act:
        return run(*args)
    *given, drawn, choice = args
    drawn, choice = drawn.copy(), choice.copy()
    assert run(*given, drawn, choice) == np.isfinite(given[1]).all()
    if np.isfinite(drawn).all():
        np.testing.assert_array_equal(choice, drawn[0].argmax(-1))
    return drawn


def version(kernel, mode):
    if mode == "compiled":
        return kernel.compiled or kernels._compile(kernel)
    return kernel.plain if mode == "plain" else lambda *args: interpreted(kernel, args)


def interpreted(kernel, args):
    """Run a loop, and the helpers that it calls, as the plain Python that they were written as."""
    with pytest.MonkeyPatch.context() as patch:
        for helper in kernels.HELPERS:
            patch.setitem(helper.__globals__, helper.__name__, helper)
        return kernel.loop(*args)


def cases(name):
    """Arguments of random, empty and one-row shapes."""
    rng = np.random.default_rng(0)
    shapes = [(5, 3), (1, 4), (7, 1), (1, 1), (0, 3), (3, 0), (0, 0)]
    if name == "tanh32":
        return [(4 * rng.standard_normal(shape).astype(np.float32),) for shape in shapes]
    if name == "mlp_act":
        return [(1, x, *net, rng.standard_normal((3, rows, widths[-1])).astype(np.float32),
                 np.sort(rng.standard_normal((2, widths[-1])).astype(np.float32), 0),
                 np.zeros((2, 3, rows, widths[-1]), np.float32), np.zeros((3, rows), np.int64))
                for (*net, x), rows, widths in ((network(rng, rows, widths), rows, widths) for rows, widths in
                [(5, [3, 2]), (1, [3, 2]), (3, [4, 8, 6, 2]), (1, [1, 1]), (0, [3, 2]), (2, [2, 5, 7, 1]), (4, [9, 2, 2, 6])])]
    if name == "mlp_loss":
        shapes = [(5, [3, 1]), (1, [2, 4, 1]), (3, [4, 8, 6, 1]), (0, [3, 2, 1])]
        return [(flat, widths, x, rng.standard_normal(rows).astype(np.float32), rng.uniform(0, 2, rows).astype(np.float32), small)
                for rows, shape in shapes for flat, widths, *_, x in [network(rng, rows, shape)] for small in (0, 256)]
    if name == "mlp_jacobian":
        return [batch_args(name, rng, rows, shape, small) for rows, shape in
                [(5, [3, 2, 4, 2]), (2, [2, 4, 3, 1]), (9, [4, 8, 6, 5, 2]), (0, [3, 2, 2, 1]), (3, [3, 4, 2]),
                 (700, [2, 3, 3, 2])] for small in (0, 256)]
    if name in ("mlp_values", "mlp_push", "mlp_pull"):
        return [batch_args(name, rng, rows, shape, small, few) for rows, shape in
                [(5, [3, 2]), (1, [2, 4, 1]), (9, [4, 8, 6, 2]), (0, [3, 2, 1]), (700, [2, 3, 2]), (600, [2, 3, 5, 4, 5])]
                for small in (0, 256) for few in (False, True)]
    if name in ("run", "push", "pull"):
        return [recurrence_args(name, rng, *shape, norm, few)
                for shape in [(4, 3, 5), (3, 2, 1), (1, 1, 4), (2, 0, 3), (0, 2, 3)]
                for norm in (False, True) for few in (0, 2)]
    if name == "col2im":
        found = []
        for (n, height, width, c), (h, w), (down, across) in [((2, 5, 6, 3), (3, 2), (1, 2)), ((1, 4, 4, 1), (4, 4), (2, 2)),
                                                              ((3, 7, 5, 2), (2, 2), (3, 1))]:
            rows = n * ((height - h) // down + 1) * ((width - w) // across + 1)
            found.append((rng.standard_normal((rows, h * w * c)).astype(np.float32), (n, height, width, c), (h, w),
                          (down, across)))
        return found
    if name == "add_blocks":
        return [(rng.standard_normal((n, h, w, 4 * c)).astype(np.float32), rng.standard_normal(c).astype(np.float32))
                for n, h, w, c in [(2, 3, 4, 8), (1, 2, 2, 1), (3, 4, 2, 5), (0, 2, 2, 3)]]
    if name == "spread_blocks":
        return [(rng.standard_normal(shape).astype(np.float32),)
                for shape in [(2, 2, 3, 8), (1, 1, 1, 1), (3, 3, 1, 5), (0, 1, 1, 3)]]
    if name == "adam":
        return [(*rng.standard_normal((2, n)).astype(np.float32), *rng.uniform(0, 1, (2, n)).astype(np.float32),
                 *np.array([0.1, 0.001, 1e-8, 0.02], np.float32)) for n in (5, 1, 7, 0)]
    if name == "where_positive":
        return [tuple(rng.standard_normal((2, *shape)).astype(np.float32))
                for shape in [(2, 3, 4, 5), (1, 1, 1, 1), (3, 2, 2, 3), (0, 2, 2, 3)]]
    if name == "interleave":
        return [(rng.integers(0, 256, (m, size), dtype=np.uint8), rng.integers(0, m, (n, c)))
                for m, size, n, c in [(9, 12, 4, 4), (3, 5, 2, 4), (5, 7, 3, 3), (2, 4, 2, 1), (1, 3, 0, 4), (6, 1, 2, 6)]]
    assert name == "discounted_sum", f"say which arguments to test {name} with"
    return [(rng.standard_normal(shape), (rng.random(shape) < 0.3).astype(float), decay)
            for shape in shapes for decay in (0.0, 0.95, 1.0)]


def floats(name, args):
    """The argument through which a NaN would come in."""
    places = {"adam": 3, "mlp_act": 1, "mlp_values": 2, "mlp_jacobian": 3, "mlp_push": 2, "mlp_pull": 5, "mlp_loss": 2,
              "where_positive": 1}
    return args[places.get(name, 0)]


def recurrence_args(name, rng, steps, n, h, norm, few):
    """Arguments of the recurrence `name`, which may multiply `few` rows at a time: resets at random places, the plain record."""
    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)
    starts, w, ln = rng.random((steps, n)) < 0.3, draw(4, h, h), draw(6 * h) if norm else recurrence.NO_NORM
    run_args = draw(steps, n, 4 * h), starts, draw(n, 2 * h), w, few, ln, True
    if name == "run":
        return run_args
    record = recurrence.run.plain(*run_args)
    return draw(steps, n, (5 * h if norm else 4 * h) if name == "push" else h), starts, record, w, few, ln


def batch_args(name, rng, rows, widths, small, few=False):
    """Arguments of the batch kernel `name` on a network of `widths`; with `few`, tangents go by the Jacobian's rows."""
    flat, widths, *_, x = network(rng, rows, widths)
    if name == "mlp_values":
        return flat, widths, x, small
    hs = dense.mlp_values.plain(flat, widths, x, 0)
    if name == "mlp_jacobian":
        return flat, widths, x, hs, small
    more = flat.shape if name == "mlp_push" else (rows, widths[-1])
    jac = dense.mlp_jacobian.plain(flat, widths, x, hs, 0) if few else hs[:0]
    return flat, widths, x, hs, jac, rng.standard_normal(more).astype(np.float32), small


def network(rng, rows, widths):
    """Arguments of `mlp_act` but for noise and bounds: observations far enough out that some are clipped."""
    f = np.float32
    layers = [rng.standard_normal((n + 1, m)) / np.sqrt(n) for n, m in zip(widths[:-1], widths[1:])]
    flat = np.concatenate([layer.ravel() for layer in layers]).astype(f)
    scale = np.array([rng.standard_normal(widths[0]), rng.uniform(0.5, 2, widths[0])], f)
    return flat, np.array(widths), scale, f(2), 3 * rng.standard_normal((rows, widths[0])).astype(f)


# how far two versions may be apart: the rational tanh is stated to be within 3e-7, sums may be associated differently
STATED = {"tanh32": dict(rtol=0, atol=3e-7), "adam": dict(rtol=1e-6, atol=1e-6), "mlp_act": dict(rtol=2e-6, atol=2e-6),
          "mlp_values": dict(rtol=2e-6, atol=2e-6), "mlp_push": dict(rtol=1e-5, atol=1e-5),
          "mlp_pull": dict(rtol=1e-5, atol=1e-5), "mlp_loss": dict(rtol=1e-5, atol=1e-5),
          "mlp_jacobian": dict(rtol=1e-5, atol=1e-6),
          "run": dict(rtol=2e-5, atol=2e-5), "push": dict(rtol=2e-5, atol=2e-5), "pull": dict(rtol=2e-5, atol=2e-5),
          "discounted_sum": dict(rtol=1e-13, atol=1e-13), "col2im": dict(rtol=1e-6, atol=1e-6),
          "add_blocks": dict(rtol=1e-6, atol=1e-6), "spread_blocks": dict(rtol=0, atol=0),
          "where_positive": dict(rtol=0, atol=0), "interleave": dict(rtol=0, atol=0)}


@pytest.mark.parametrize("kernel", kernels.KERNELS, ids=lambda k: k.__name__)
def test_loop_compiled_and_plain_agree(kernel):
    for args in cases(kernel.__name__):
        copies = [np.copy(a) for a in args]
        results = {mode: result(kernel, mode, args) for mode in MODES}
        for mode, found in results.items():
            assert found.shape == results["plain"].shape and found.dtype == floats(kernel.__name__, args).dtype, mode
            np.testing.assert_allclose(found, results["plain"], **STATED[kernel.__name__], err_msg=mode)
            assert not any(np.shares_memory(found, a) for a in args)
        for a, copy in zip(args, copies):
            np.testing.assert_array_equal(a, copy)


@pytest.mark.parametrize("kernel", [k for k in kernels.KERNELS if k is not pixels.interleave], ids=lambda k: k.__name__)
def test_nan_stays_nan_where_it_is(kernel):
    for args in cases(kernel.__name__)[:3]:
        rows = floats(kernel.__name__, args)
        rows.flat[0] = np.nan
        expected = np.isnan(result(kernel, "plain", args))
        assert expected.any() and (len(rows) == 1 or not expected.all())
        for mode in MODES:
            np.testing.assert_array_equal(np.isnan(result(kernel, mode, args)), expected, err_msg=mode)


@pytest.mark.parametrize("kernel", kernels.KERNELS, ids=lambda k: k.__name__)
def test_calling_a_kernel_runs_what_is_compiled_or_its_twin(kernel, monkeypatch):
    assert (kernel.compiled is not None) == kernels.available()
    args = cases(kernel.__name__)[0]
    np.testing.assert_array_equal(kernel(*args), (kernel.compiled or kernel.plain)(*args))
    monkeypatch.setattr(kernel, "compiled", lambda *_: "compiled")
    assert kernel(*args) == "compiled"


def test_without_compilation_a_kernel_is_its_twin(plain_kernels):
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(kernels.tanh32(x), np.tanh(x))


# --- each kernel against mathematics ----------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", MODES)
def test_tanh32_over_all_its_range(mode):
    x = np.concatenate([np.linspace(-12, 12, 20_001), np.logspace(-38, 0, 200), [0.0, 1e30, np.inf, -np.inf]])
    x = x.astype(np.float32)[None]
    x = x[:, ::50].copy() if mode == "loop" else x
    y = version(kernels.tanh32, mode)(np.ascontiguousarray(x))
    assert np.abs(y - np.tanh(x.astype(np.float64))).max() < 3e-7
    assert (np.abs(y) <= 1).all()  # else 1 - y^2, the derivative, would be negative
    np.testing.assert_array_equal(y, -version(kernels.tanh32, mode)(-x))


@pytest.mark.parametrize("mode", MODES)
def test_tanh32_of_what_is_not_finite(mode):
    y = version(kernels.tanh32, mode)(np.array([[np.nan, np.inf, -np.inf, 0.0]], np.float32))[0]
    assert np.isnan(y[0]) and y[3] == 0
    np.testing.assert_allclose(y[1:3], [1, -1], atol=3e-7)


@pytest.mark.parametrize("mode", MODES)
def test_mlp_act_is_the_network_of_nn(mode):
    rng, widths = np.random.default_rng(3), [5, 8, 6, 3]
    layer = nn.serial(nn.mlp("fc", widths[1:-1], ops.tanh), nn.dense("out", widths[-1]))
    for rows in (1, 7):
        flat, _, scale, clip, x = network(rng, rows, widths)
        weights = layer.init((widths[0],))[1]
        params = Params.pack({name: np.zeros(w.shape) for name, w in weights.items()}, "float64").like(flat.astype(np.float64))
        inputs = np.clip((x.astype(np.float64) - scale[0]) * scale[1], -clip, clip)
        noise = rng.standard_normal((rows, 3)).astype(np.float32)
        bounds = np.array([[-1, 0, -np.inf], [1, np.inf, 0]], np.float32)
        assert (np.abs(inputs) == clip).any() or rows == 1
        out, choice = np.zeros((2, 2, rows, 3), np.float32), np.zeros((2, rows), np.int64)
        given = x, flat, np.array(widths), scale, clip, np.stack([noise * 0, noise]), bounds, out, choice
        assert version(acting.mlp_act, mode)(1, *given)
        (drawn, clipped), chosen = out[:, 1], choice[1]
        np.testing.assert_allclose(drawn, layer.apply(params, inputs) + noise, rtol=3e-6, atol=3e-6)
        np.testing.assert_array_equal(clipped, np.clip(drawn, *bounds))
        np.testing.assert_array_equal(chosen, drawn.argmax(1))
        assert not out[:, 0].any() and not choice[0].any()
        for bad in (np.nan, np.inf, -np.inf):
            x[-1, 2] = bad
            assert not version(acting.mlp_act, mode)(1, *given)


@pytest.mark.parametrize("mode", MODES)
def test_mlp_loss_is_the_loss_of_the_composed_network(mode):
    rng, widths = np.random.default_rng(4), [5, 8, 6, 1]
    layer = nn.serial(nn.mlp("fc", widths[1:-1], ops.tanh), nn.dense("out", 1))
    for rows in (1, 7):
        flat, _, *_, x = network(rng, rows, widths)
        goal, weights = rng.standard_normal(rows), rng.uniform(0, 2, rows)
        names = {name: np.zeros(w.shape) for name, w in layer.init((5,))[1].items()}
        params = Params.pack(names, "float64").like(flat.astype(np.float64))
        loss, grad = value_and_grad(lambda p: ops.sum(weights * ops.square(layer.apply(p, x)[:, 0] - goal)), params)  # noqa: B023
        got = version(dense.mlp_loss, mode)(flat, np.array(widths), x, goal.astype(np.float32), weights.astype(np.float32),
                                           kernels.small())
        np.testing.assert_allclose(got, [*grad, loss, weights.sum()], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("mode", MODES)
@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 3), st.floats(0, 1), st.floats(0, 1))
def test_discounted_sum_is_the_quadratic_sum(mode, seed, steps, n, decay, often):
    rng = np.random.default_rng(seed)
    delta, cut = rng.standard_normal((steps, n)), (rng.random((steps, n)) < often).astype(float)
    got = version(kernels.discounted_sum, mode)(delta, cut, decay)
    np.testing.assert_allclose(got, reference.discounted_sum(delta, cut, decay), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_discounted_sum_of_td_errors_is_gae(mode):
    rng = np.random.default_rng(1)
    steps, n, gamma, lam = 20, 4, 0.9, 0.8
    rewards, values, final = rng.standard_normal((3, steps, n))
    terminated, truncated = rng.random((2, steps, n)) < 0.15
    assert (terminated & truncated).any() and (terminated ^ truncated).any()
    last = rng.standard_normal(n)
    after = np.where(terminated, 0, np.where(truncated, final, np.concatenate([values[1:], last[None]])))
    done = (terminated | truncated).astype(float)
    got = version(kernels.discounted_sum, mode)(rewards + gamma * after - values, done, gamma * lam)
    expected = reference.gae(rewards, values, last, final, terminated, truncated, gamma, lam)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_columns_do_not_see_each_other():
    delta, cut = np.random.default_rng(2).standard_normal((2, 6, 3))
    whole = kernels.discounted_sum(delta, cut, 0.9)
    for i in range(3):
        one = kernels.discounted_sum(delta[:, i:i + 1].copy(), cut[:, i:i + 1].copy(), 0.9)
        np.testing.assert_allclose(one[:, 0], whole[:, i])


# --- when they are compiled, in processes of their own ----------------------------------------------------------------

STATE = "print(all(k.compiled is None for k in kernels.KERNELS), 'numba' in sys.modules)"


def python(code, **environment):
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(("TRPO_NP_", "NUMBA_"))}, **environment}
    done = subprocess.run([sys.executable, "-c", f"import sys\nimport numpy as np\nfrom trpo_np import kernels\n{code}"],
                          capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_nothing_is_compiled_at_import_nor_by_a_call():
    code = f"import trpo_np.trpo\nkernels.tanh32(np.zeros((2, 2), np.float32))\n{STATE}"
    assert python(code).stdout.split() == ["True", "False"]


def test_switched_off():
    show = "print(kernels.tanh32(np.ones((1, 1), np.float32))[0, 0])"
    code = f"assert not kernels.available() and not kernels.compile_all()\n{STATE}\n{show}"
    assert python(code, TRPO_NP_NUMBA="0").stdout.split() == ["True", "False", str(np.tanh(np.float32(1)))]


def test_without_numba():
    code = f"sys.modules['numba'] = None\nassert not kernels.available() and not kernels.compile_all()\n{STATE}"
    assert python(code).stdout.split()[0] == "True"


def test_only_what_a_policy_needs_is_compiled():
    code = """
from trpo_np.policies import MlpLstmPolicy, MlpPolicy
from trpo_np.spaces import Box, Discrete
space = Box((2,), "float32", np.zeros(2), np.ones(2))
done = []
kernels._compile = lambda kernel: done.append(kernel.__name__) or kernel.plain
for cls in (MlpPolicy, MlpLstmPolicy):
    kernels.compile_all(cls(space, Discrete(2)).kernel_files)
    print(*sorted(done))
    done.clear()
"""
    if NUMBA:
        assert python(code).stdout.splitlines() == [
            "adam discounted_sum mlp_act mlp_jacobian mlp_loss mlp_pull mlp_push mlp_values tanh32", "pull push run"]


COMPILE = """
kernels.KERNELS[:] = [kernels.discounted_sum]  # one is enough, and quick
assert kernels.compile_all() and kernels.discounted_sum.compiled is not None
print(kernels.discounted_sum(np.ones((3, 1)), np.zeros((3, 1)), 0.5).ravel().tolist())
first = kernels.discounted_sum.compiled
assert kernels.compile_all() and kernels.discounted_sum.compiled is first
print(len(first.stats.cache_hits), first.stats.cache_path)
"""


PRODUCT = """
from trpo_np.kernels import mlp as dense
kernels.KERNELS[:] = [dense.mlp_values]

def product():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    print(*dense.mlp_values(np.arange(8, dtype=np.float32), np.array([3, 2]), x, 0), "scipy.linalg" in sys.modules)
"""


def test_of_scipy_products_load_blas_alone_and_all_of_it_may_follow():
    code = PRODUCT + """
assert kernels.compile_all() == kernels.available()
product()
import scipy.linalg.cython_blas as blas
from scipy.linalg import cython_blas, solve
import scipy.optimize, scipy.sparse.linalg, scipy.stats
assert blas is cython_blas is sys.modules["scipy.linalg.cython_blas"] and "sgemm" in blas.__pyx_capi__
assert solve(2 * np.eye(3), np.ones(3)).tolist() == [0.5] * 3
product()
"""
    assert python(code).stdout.splitlines() == ["16.0 20.0 34.0 47.0 False", "16.0 20.0 34.0 47.0 True"]


@pytest.mark.skipif(not NUMBA, reason="numba is not installed")
@pytest.mark.parametrize("broken", ["find_spec = lambda *args: None", "find_spec = lambda *args: BROKEN"])
def test_where_blas_is_not_found_alone_numba_looks_for_it(broken):
    code = PRODUCT + f"""
from importlib.machinery import ModuleSpec, PathFinder
class Loader:
    create_module = staticmethod(lambda spec: None)
    def exec_module(self, module): raise ImportError("not alone")
BROKEN, found = ModuleSpec("scipy.linalg.cython_blas", Loader()), PathFinder.find_spec
import scipy
PathFinder.{broken}
kernels._load_blas()
PathFinder.find_spec = found
kernels._load_blas = lambda: None
assert kernels.compile_all()
product()
"""
    assert python(code).stdout.split()[-1] == "True"


def test_no_folder_for_the_cache_is_writable(tmp_path):
    """Neither the one that is named, nor beside the source, nor at home: root may write anywhere, but nobody below a file."""
    if not NUMBA:
        return
    (tmp_path / "__pycache__").write_text("")
    below = str(tmp_path / "__pycache__" / "folder")
    shutil.copy(kernels.__file__, tmp_path / "kernels.py")
    code = f"sys.path.insert(0, {str(tmp_path)!r})\nimport kernels\n{COMPILE}"
    done = python(code, NUMBA_CACHE_DIR=below, HOME=below, XDG_CACHE_HOME=below)
    assert done.stdout.splitlines() == ["[1.75, 1.5, 1.0]", "0 None"]
    assert all(line.startswith("trpo_np: compiling kernels") for line in done.stderr.splitlines())


def test_a_cache_is_written_and_used(tmp_path):
    if not NUMBA:
        return
    hits = [python(COMPILE, NUMBA_CACHE_DIR=str(tmp_path)).stdout.splitlines()[1].split()[0] for _ in range(2)]
    assert hits == ["0", "1"] and list(tmp_path.rglob("*.nbi"))


def test_without_a_named_folder_the_cache_is_beside_the_source_or_at_home(tmp_path):
    if not NUMBA:
        return
    beside, home = tmp_path / "package", tmp_path / "home"
    for folder in (beside, home):
        folder.mkdir()
    shutil.copy(kernels.__file__, beside / "kernels.py")
    code = f"sys.path.insert(0, {str(beside)!r})\nimport kernels\n{COMPILE}"
    assert str(beside / "__pycache__" / "trpo_np_") in python(code, XDG_CACHE_HOME=str(home)).stdout
    shutil.rmtree(beside / "__pycache__")
    (beside / "__pycache__").write_text("")
    assert str(home / "trpo_np_") in python(code, XDG_CACHE_HOME=str(home)).stdout


def test_numbas_settings_are_left_as_they_were(tmp_path):
    if not NUMBA:
        return
    code = f"import numba\n{COMPILE}\nprint(numba.config.CACHE_DIR)"
    for users in ("", str(tmp_path)):
        assert python(code, NUMBA_CACHE_DIR=users).stdout.splitlines()[-1] == users


def test_a_helper_that_changed_in_another_file_is_seen(tmp_path):
    """Numba's own check, of the loop's file alone, would go on with the old helper."""
    if not NUMBA:
        return
    source = open(kernels.__file__).read()
    loops = "import kernels\ndef loop(x):\n    return kernels._shifted(x)\nkernel = kernels.twin(loop, lambda: (1.0,))(loop)"
    (tmp_path / "loops.py").write_text(loops)
    code = (f"sys.path.insert(0, {str(tmp_path)!r})\nimport kernels, loops\nkernels.KERNELS[:] = [loops.kernel]\n"
            "kernels.compile_all()\nprint(loops.kernel(1.0), len(loops.kernel.compiled.stats.cache_hits))")
    results = []
    for shift in (1, 1, 2):
        helper = f"@helper\ndef _shifted(x):\n    return x + {shift}"
        (tmp_path / "kernels.py").write_text(f"{source}\n\n{helper}\n")
        results.append(python(code, NUMBA_CACHE_DIR=str(tmp_path / "cache")).stdout.split())
    assert results == [["2.0", "0"], ["2.0", "1"], ["3.0", "0"]]


@pytest.mark.parametrize("in_place", [True, False])
def test_product_is_the_product_in_pieces_or_not(in_place, monkeypatch):
    monkeypatch.setattr(kernels, "small", lambda: 4 * 5 * 3 + 1 if in_place else 0)
    rng = np.random.default_rng(0)
    for n in (0, 1, 3, 4, 8, 11):
        for dtype in (np.float32, np.float64):
            a, w = rng.standard_normal((n, 5)).astype(dtype), rng.standard_normal((5, 3)).astype(dtype)
            out = np.empty((n, 3), dtype)
            for rows in (a, np.asfortranarray(a)):
                np.testing.assert_allclose(kernels.product(rows, w), a @ w, rtol=1e-6, atol=1e-6)
                assert kernels.product(rows, w, out) is out
                np.testing.assert_allclose(out, a @ w, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("small", [0, 1000, 10**6])
def test_product_of_columns_is_that_of_the_transpose(small, monkeypatch):
    monkeypatch.setattr(kernels, "small", lambda: small)
    rng = np.random.default_rng(0)
    for s in (0, 1, 65, 300):
        for dtype in (np.float32, np.float64):
            a, b = rng.standard_normal((s, 5)).astype(dtype), rng.standard_normal((s, 3)).astype(dtype)
            np.testing.assert_allclose(kernels.product_of_columns(a, b), a.T @ b, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(kernels.product_of_columns(np.asfortranarray(a), b), a.T @ b, rtol=1e-4, atol=1e-4)


def test_small_products_are_small():
    rows = kernels._rows(64, 64, kernels.SMALL)
    assert rows % 4 == 0 and rows * 64 * 64 <= kernels.SMALL < (rows + 4) * 64 * 64
    assert kernels._rows(64, 64, 0) == 0 == kernels._rows(2000, 1000, kernels.SMALL)


@pytest.mark.parametrize("said, threads", [({}, 3), ({"OMP_NUM_THREADS": "1"}, 1), ({"OMP_NUM_THREADS": "8"}, 3),
                                           ({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"}, 2),
                                           ({"OMP_NUM_THREADS": "x"}, 3), ({"OMP_NUM_THREADS": "0"}, 3)])
def test_several_threads_share_large_products(said, threads, monkeypatch):
    monkeypatch.setattr(kernels, "cores", lambda: {0, 1, 2})
    monkeypatch.setattr(kernels, "reads_in_place", lambda: True)
    for name in kernels.THREADS:
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert kernels.blas_threads() == threads
    assert kernels.small.__wrapped__() == (kernels.SMALL if threads == 1 else 0)


@pytest.mark.parametrize("core, may", [(None, True), ("", True), ("SkylakeX", True), ("COOPERLAKE", True), ("Haswell", False)])
def test_small_products_are_not_for_another_processors_code(core, may, monkeypatch):
    built, found = {"blas": {"name": "scipy-openblas"}}, {"baseline": [], "found": ["X86_V4"]}
    monkeypatch.setattr(np, "show_config", lambda mode: {"Build Dependencies": built, "SIMD Extensions": found})
    if core is None:
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    else:
        monkeypatch.setenv("OPENBLAS_CORETYPE", core)
    assert kernels.reads_in_place.__wrapped__() == may


@pytest.mark.skipif(not NUMBA, reason="needs numba")
def test_a_damaged_cache_is_no_obstacle(tmp_path):
    code = "print(kernels.compile_all(['kernels']), kernels.tanh32.compiled is not None)"
    for _ in range(2):
        assert python(code, NUMBA_CACHE_DIR=str(tmp_path)).stdout.split() == ["True", "True"]
        files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
        assert files
        for path in files:
            path.write_bytes(path.read_bytes()[:50])
