"""Expert data at stable-baselines' path: read from either library's files, cut to episodes, imitated."""

import numpy as np
import pytest
from toys import Planned

from trpo_np import TRPO
from trpo_np.gail import ExpertDataset, generate_expert_traj


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record(**kwargs):
    return generate_expert_traj(lambda obs: 1, "expert", env=Planned((2, 3, 2)), n_episodes=3, **kwargs)


def test_a_script_of_stable_baselines_imitates():
    model = TRPO("MlpPolicy", "CartPole-v1", seed=0)
    generate_expert_traj(model, "expert_cartpole", n_timesteps=1024, n_episodes=3)
    with pytest.warns(UserWarning, match="ExpertDataset: verbose has no effect"):
        dataset = ExpertDataset(expert_path="expert_cartpole.npz", traj_limitation=2, verbose=0)
    assert dataset.num_traj == 2
    before = model.get_parameters()
    model.pretrain(dataset, n_epochs=2)
    assert (model.get_parameters()["pi/out/w"] != before["pi/out/w"]).any()


@pytest.mark.parametrize("limit, rows", [(-1, 7), (1, 2), (2, 5), (3, 7), (9, 7)])
def test_the_first_episodes_are_kept(limit, rows):
    data = record()
    for dataset in (ExpertDataset("expert.npz", traj_limitation=limit),
                    ExpertDataset(traj_data=data, traj_limitation=limit)):
        assert sorted(dataset) == ["actions", "episode_starts", "obs"]
        for name, array in dataset.items():
            np.testing.assert_array_equal(array, data[name][:rows])
        assert dataset.num_traj == (3 if limit in (-1, 9) else limit)


def test_what_is_missing_is_said():
    with pytest.raises(ValueError, match="either expert_path or traj_data"):
        ExpertDataset()
    with pytest.raises(ValueError, match="either expert_path or traj_data"):
        ExpertDataset("expert.npz", record())
    with pytest.raises(ValueError, match="lack the array 'episode_starts'"):
        ExpertDataset(traj_data={"obs": np.zeros((2, 2)), "actions": np.zeros(2)})
    with pytest.warns(UserWarning, match="image_folder has no effect here: images are in the file"):
        record(image_folder="images")


def test_arrays_that_do_not_belong_together_are_told():
    data = record()
    for name, array in data.items():
        if name in ("obs", "actions", "episode_starts"):
            with pytest.raises(ValueError, match=f"hold .*6 {name}.*; as many of each are needed"):
                ExpertDataset(traj_data=data | {name: array[:6]})
    nowhere = data | {"episode_starts": np.zeros(7, bool)}
    with pytest.raises(ValueError, match="in the expert data no episode starts; .* must be True at"):
        ExpertDataset(traj_data=nowhere, traj_limitation=1)
    assert ExpertDataset(traj_data=nowhere).num_traj == 0


def test_columns_of_discrete_numbers_are_what_stable_baselines_writes():
    model = TRPO("MlpPolicy", "FrozenLake-v1", seed=0)
    obs, actions = np.arange(16) % 16, np.arange(16) % 4
    flat = TRPO("MlpPolicy", "FrozenLake-v1", seed=0).pretrain((obs, actions), n_epochs=1)
    starts = obs == 0
    model.pretrain(ExpertDataset(traj_data={"obs": obs[:, None], "actions": actions[:, None],
                                            "episode_starts": starts}), n_epochs=1)
    np.testing.assert_array_equal(model.policy.params.flat, flat.policy.params.flat)


@pytest.mark.parametrize("wrong", [0, -2, 1.5, True, "2"])
def test_wrong_numbers_of_episodes_are_told(wrong):
    record()
    with pytest.raises(ValueError, match="traj_limitation is .*; an integer of at least 1 is needed"):
        ExpertDataset("expert.npz", traj_limitation=wrong)
    with pytest.raises(ValueError, match="n_episodes is .*; an integer of at least 1 is needed"):
        generate_expert_traj(lambda obs: 1, env=Planned((2,)), n_episodes=wrong)
