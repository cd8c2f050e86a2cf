"""Observations to try exported policies on: the space allows them, and they show what could go wrong."""

import numpy as np
import pytest
from exports import FIELDS, model_of
from gymnasium import spaces

from trpo_np.deploy import samples, steps


def test_bytes_are_those_of_a_generator_that_is_written_in_a_line():
    assert samples.noise_bytes(0, 4).tolist() == [60, 71, 209, 170]
    assert np.bincount(samples.noise_bytes(1, 5000), minlength=256).min() > 0


def test_the_space_allows_them_and_each_value_is_among_them():
    policy = model_of("MlpPolicy", obs=FIELDS).policy
    program = steps.describe(policy)
    rows = samples.draw(program, policy, 200)
    for row in rows:
        given = samples.nested(policy, program, row[None])
        one = {"speed": given["speed"][0], "gear": given["gear"][0], "inner": {
            "bits": given["inner"]["bits"][0].astype(np.int8), "codes": given["inner"]["codes"][0]}}
        assert FIELDS.contains(one)
    for field in program.fields:
        for i, (size, start) in enumerate(field.choices, field.start):
            assert set(rows[:, i]) == set(range(start, start + size))
    assert (np.ptp(rows, axis=0) > 0).all()


@pytest.mark.parametrize("space", [spaces.Discrete(5000), spaces.Dict(
    a=spaces.Discrete(5000, start=3), b=spaces.Box(-1, 1, (2,)), c=spaces.Discrete(3),
    d=spaces.MultiBinary(2))])
def test_indices_have_no_statistics_to_be_drawn_by(space):
    model = model_of("MlpPolicy", obs=space)
    program = steps.describe(model.policy)
    assert samples.compared(program, model.policy) < 1e-4


def test_a_second_episode_starts_in_the_midst():
    policy = model_of("MlpLstmPolicy").policy
    tried = samples.pairs(steps.describe(policy), policy, 10)
    assert np.flatnonzero(tried.starts).tolist() == [0, 5]
    alone, _ = steps.run(steps.describe(policy), tried.obs[5:6])
    np.testing.assert_allclose(tried.outputs[5], alone[0], rtol=1e-6)
