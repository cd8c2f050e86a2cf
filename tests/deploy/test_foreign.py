"""What the readers of other libraries' models have in common."""

import pickle

import numpy as np
import pytest
from gymnasium import spaces as gym

from trpo_np import spaces
from trpo_np.deploy import foreign, pickles
from trpo_np.files.archive import FileError


@pytest.mark.parametrize("change", [dict(_shape=(3,)), dict(_shape=None), dict(low=0.0)])
def test_the_shape_of_a_box_is_that_of_its_bounds(change):
    box = pickles.read(pickle.dumps(gym.Box(-1, 1, (2,))), foreign.SPACE_NAMES, "x")
    assert foreign.space(box, "x").shape == (2,)
    box.state |= change
    with pytest.raises(FileError, match=r"x: its bounds have shapes \(.*\) and \(2,\), not its own"):
        foreign.space(box, "x")


@pytest.mark.parametrize("space, is_one", [
    (gym.Box(0, 255, (8, 9, 3), np.uint8), True), (gym.Box(0, 254, (8, 9, 3), np.uint8), False),
    (gym.Box(1, 255, (8, 9, 3), np.uint8), False), (gym.Box(0, 255, (8, 9, 3)), False),
    (gym.Box(0, 255, (8, 9), np.uint8), False), (gym.MultiBinary((8, 9, 3)), False)])
def test_an_image_has_three_axes_and_all_bytes(space, is_one):
    assert foreign.is_image(spaces.describe(space)) == is_one


def test_steps_are_a_count_or_unknown():
    assert foreign.steps({"num_timesteps": 2**63 - 1}) == 2**63 - 1
    for strange in (-1, 2**63, 5.0, True, "5", None):
        assert type(count := foreign.steps({"num_timesteps": strange})) is int and count == 0
    assert foreign.steps({}) == 0
