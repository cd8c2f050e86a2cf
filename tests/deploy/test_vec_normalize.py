"""Statistics of a VecNormalize, in this package's terms; test_convert.py and test_sb3.py have real ones."""

import pickle

import numpy as np
import pytest
from gymnasium import spaces as gym

from trpo_np import spaces
from trpo_np.deploy import vec_normalize
from trpo_np.files.archive import FileError


class VecNormalize:
    def __init__(self, **state):
        vars(self).update(state)


class RunningMeanStd:
    def __init__(self, mean, var, count):
        self.mean, self.var, self.count = np.array(mean, float), np.array(var, float), count


def read(space, **changes):
    """Read the pickle that stable-baselines3 would write of a VecNormalize with this state."""
    state = dict(norm_obs=True, norm_reward=True, clip_obs=10.0, clip_reward=10.0, epsilon=0.5,
                 obs_rms=RunningMeanStd([1, 2], [3, 4], 20.0), ret_rms=RunningMeanStd(5, 6, 7.0))
    data = pickle.dumps(VecNormalize(**state | changes), 3)
    for name in ("vec_env.vec_normalize.VecNormalize", "running_mean_std.RunningMeanStd"):
        theirs = f"cstable_baselines3.common.{name}".replace(".V", "\nV").replace(".R", "\nR")
        data = data.replace(f"c{__name__}\n{theirs.split()[1]}".encode(), theirs.encode())
    return vec_normalize.read(data, spaces.describe(space), "v.pkl")


TWO = gym.Box(-9, 9, (2,))


def test_the_constant_that_it_adds_to_variances_is_in_the_moments():
    found = read(TWO)
    assert found.observations["count"] == 20 and found.observations["mean"].tolist() == [1, 2]
    assert found.observations["m2"].tolist() == [3.5 * 20, 4.5 * 20]
    assert (found.returns["mean"], found.returns["m2"]) == (5, 6.5 * 7) and not found.notes


def test_fields_with_counts_of_their_own_keep_their_variances():
    fields = dict(a=RunningMeanStd([1, 2], [3, 4], 20.0), b=RunningMeanStd([5], [6], 30.0))
    found = read(gym.Dict(a=TWO, b=gym.Box(-9, 9, (1,))), obs_rms=fields).observations
    assert found["count"] == 30 and found["mean"].tolist() == [1, 2, 5]
    np.testing.assert_allclose(found["m2"], [3.5 * 30, 4.5 * 30, 6.5 * 30])


def test_another_clip_of_observations_is_refused_and_one_of_rewards_is_told():
    with pytest.raises(FileError, match="v.pkl: clip_obs is 5; 10 is known here"):
        read(TWO, clip_obs=5.0)
    assert read(TWO, clip_obs=5.0, norm_obs=False).observations is None
    assert read(TWO, clip_reward=3.0).notes == ["rewards were clipped to 3 in training; from now on to 10"]
    assert not read(TWO, clip_reward=3.0, norm_reward=False).notes
