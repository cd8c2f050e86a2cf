"""Check a compiled kernel: what its bodies compute agrees, whatever the mode of the suite.

The bodies are its loop as plain Python, the loop compiled (where numba is installed) and, if the kernel has
one, its NumPy twin. A check takes a kernel and its cases, a list of tuples of arguments. Its twin says what
is right, or an `oracle` given: a function of the same arguments that returns what the kernel does, in the
same type. A kernel that fills some of its arguments names their positions, `fills`: these count as results
too, after what is returned, and the oracle returns a list of all.
"""

import functools
import importlib.util

import numpy as np
import pytest

from trpo_np.kernels import compile

NUMBA = importlib.util.find_spec("numba") is not None
SHAPES = [(5, 3), (1, 4), (7, 1), (1, 1), (0, 3), (3, 0), (0, 0)]  # rows: several, one, none


def kernels_of(module):
    """The kernels that a file of the wing holds."""
    return {kernel for kernel in compile.KERNELS if kernel.loop.__module__ == module.__name__}


def bodies(kernel):
    """The names of a kernel's bodies."""
    return ["loop", *["plain"] * kernel.has_twin, *["compiled"] * NUMBA]


def body(kernel, name):
    """The body of this name, a function."""
    if name == "compiled":
        return kernel.compiled or compiled_once(kernel)
    return kernel.plain if name == "plain" else lambda *args: interpreted(kernel.loop, *args)


@functools.cache
def compiled_once(kernel):
    return compile.compiled_loop(kernel)


def interpreted(fun, *args):
    """Call a loop or a helper, and the helpers that it calls, as plain Python."""
    with pytest.MonkeyPatch.context() as patch:
        for helper in compile.HELPERS:
            patch.setitem(helper.__globals__, helper.__name__, helper)
        return fun(*args)


def results(kernel, name, args, fills=()):
    """What a body returns, one array or several, then the arguments that it fills: copies of those given."""
    args = [np.copy(arg) if i in fills else arg for i, arg in enumerate(args)]
    returned = body(kernel, name)(*args)
    returned = returned if isinstance(returned, tuple) else (returned,)
    return [*map(np.asarray, returned), *(args[i] for i in fills)]


def expected(kernel, args, oracle, fills):
    if oracle is None:
        return results(kernel, "plain", args, fills)
    right = oracle(*args)
    return right if isinstance(right, (list, tuple)) else [right]


def check_agreement(kernel, cases, rtol, atol=None, *, oracle=None, fills=()):
    """Require the same of all bodies: shapes, types, and values to a tolerance (`atol` is by default `rtol`).

    Arguments stay unchanged, and what is returned shares no memory with them.
    """
    close = dict(rtol=rtol, atol=rtol if atol is None else atol)
    for args in cases:
        copies = [np.copy(arg) for arg in args]
        right = expected(kernel, args, oracle, fills)
        for name in bodies(kernel):
            found = results(kernel, name, args, fills)
            assert len(found) == len(right)
            for one, other in zip(found, right):
                assert one.shape == np.shape(other) and one.dtype == np.asarray(other).dtype, name
                np.testing.assert_allclose(one, other, **close, err_msg=name)
            assert not any(np.shares_memory(one, arg) for one in found for arg in args)
        for arg, copy in zip(args, copies):
            np.testing.assert_array_equal(arg, copy)


def check_nan(kernel, cases, *, oracle=None, fills=()):
    """Require of cases with some NaN that all bodies give NaN where it belongs, and numbers elsewhere."""
    for args in cases:
        right = [np.isnan(one) for one in expected(kernel, args, oracle, fills)]
        assert any(one.any() for one in right) and not all(one.all() for one in right), "no case"
        for name in bodies(kernel):
            for one, other in zip(results(kernel, name, args, fills), right):
                np.testing.assert_array_equal(np.isnan(one), other, err_msg=name)


def with_nan(cases, position):
    """The cases that hold several rows in the argument at `position`, with NaN for its first number."""
    found = []
    for args in cases:
        if len(args[position]) > 1 and args[position].size > 1:
            found.append(tuple(np.copy(arg) if i == position else arg for i, arg in enumerate(args)))
            found[-1][position].flat[0] = np.nan
    return found


# --- dense networks as mlp.py and act.py take them ----------------------------------------------------------

def network(rng, widths):
    """Draw (flat, widths) of a network; sums stay of order 1."""
    layers = [rng.standard_normal((n + 1, m)) / np.sqrt(n) for n, m in zip(widths, widths[1:])]
    return np.concatenate([layer.ravel() for layer in layers]).astype(np.float32), np.array(widths)


def weights_of(flat, widths):
    """Each layer's matrix and bias, w, b, w, b, ..., in float64, in which ops.mlp composes."""
    found, at = [], 0
    for n, m in zip(widths, widths[1:]):
        found += [flat[at:at + n * m].reshape(n, m), flat[at + n * m:at + (n + 1) * m]]
        at += (n + 1) * m
    return [np.array(one, np.float64) for one in found]
