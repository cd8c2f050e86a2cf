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


def test_a_rule_that_is_right_only_along_its_argument_fails():
    """The direction is not one that a test draws its arguments with."""
    def joint(wanted, y, a, b):  # right is b da + a db; where da is a and db is b, this is as much
        return Linear(lambda da, db: a * b * (da * da / a / a + db * db / b / b), lambda g: (b * g, a * g))
    for a, b in (np.random.default_rng(seed).standard_normal((2, 3)) for seed in (0, 1)):
        with pytest.raises(AssertionError):
            check_linear(primitive(np.multiply, joint=joint), a, b)
