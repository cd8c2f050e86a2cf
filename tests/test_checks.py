"""The checkers must fail on a wrong rule."""

import numpy as np
import pytest
from checks import check_linear

from trpo_np import ops
from trpo_np.autodiff import Linear, primitive, scale

x = np.random.default_rng(1).standard_normal((3, 2))


def test_right_rule_passes():
    check_linear(primitive(np.sin, lambda y, x: scale(np.cos(x), y, x)), x)


@pytest.mark.parametrize("rule", [
    lambda y, x: scale(np.cos(x) * 1.000001, y, x),  # both directions wrong
    lambda y, x: Linear(lambda dx: np.cos(x) * dx, lambda g: 1.000001 * np.cos(x) * g),  # only the pull
    lambda y, x: Linear(lambda dx: 1.000001 * np.cos(x) * dx, lambda g: np.cos(x) * g),  # only the push
    lambda y, x: Linear(lambda dx: np.sum(np.cos(x) * dx), lambda g: np.cos(x) * g),          # the shape
])
def test_wrong_rule_fails(rule):
    with pytest.raises(AssertionError):
        check_linear(primitive(np.sin, rule), x)


def test_value_used_twice_is_counted_twice():
    check_linear(lambda z: ops.tanh(z) * z + z, x)
