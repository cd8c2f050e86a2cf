"""What the README says runs."""

import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from trpo_np import TRPO

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def code_with(words):
    """Return the README's block of Python that holds these words."""
    [block] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if words in block]
    return block


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_predictor_of_the_readme_predicts_as_the_model_does(env_id, normalize, tmp_path):
    model = TRPO("MlpPolicy", env_id, normalize_observations=normalize, timesteps_per_batch=64, seed=0).learn(64)
    model.policy.params["pi/out/w"][...] *= 100
    names = {}
    exec(code_with("def load(path)"), names)
    act, env = names["load"](model.save(tmp_path / "model")), gymnasium.make(env_id)
    obs, _ = env.reset(seed=0)
    for _ in range(20):
        action = model.predict(obs, deterministic=True)[0]
        np.testing.assert_allclose(act(obs), action, rtol=1e-4, atol=1e-5)
        obs = env.step(action)[0]


def test_the_ten_lines_run_up_to_the_window(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = code_with("# remove to demonstrate").partition("env = DummyVecEnv([lambda: gym.make")[0].replace("25000", "1024")
    names = {}
    exec(code, names)
    assert names["model"].num_timesteps == 1024 and (tmp_path / "trpo_cartpole.npz").exists()


def test_the_custom_policies_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code_with("class Squared"), {"__name__": "readme"})
    assert (tmp_path / "squared.npz").exists()
