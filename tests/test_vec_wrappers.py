"""stable-baselines' wrappers of vector environments: what they ask of the model, and what they pass on."""

import gymnasium
import numpy as np
import pytest
from toys import Shifted

from trpo_np import TRPO, evaluate_policy, make_vec_env
from trpo_np.vec_env import DummyVecEnv
from trpo_np.vec_wrappers import (
    VecCheckNan,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)


def shifted():
    return DummyVecEnv([Shifted])


class Counter(gymnasium.Env):
    """Observe [k, 10 k], the number of the step; episodes of three steps."""

    observation_space, action_space = gymnasium.spaces.Box(0, 99, (2,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.k = 1
        return np.array([1.0, 10.0], np.float32), {}

    def step(self, action):
        self.k += 1
        return np.array([self.k, 10 * self.k], np.float32), 1.0, self.k == 4, False, {}


# --- normalisation ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("norm_obs, norm_reward", [(True, True), (True, False), (False, True)])
def test_normalisation_becomes_the_models(norm_obs, norm_reward):
    env = VecNormalize(shifted(), norm_obs=norm_obs, norm_reward=norm_reward)
    model = TRPO("MlpPolicy", env, timesteps_per_batch=64, seed=0)
    assert (model.normalize_observations, model.normalize_rewards) == (norm_obs, norm_reward)
    plain = TRPO("MlpPolicy", shifted(), timesteps_per_batch=64, seed=0, normalize_observations=norm_obs,
                 normalize_rewards=norm_reward)
    np.testing.assert_array_equal(model.learn(128).policy.params.flat, plain.learn(128).policy.params.flat)
    assert model.get_vec_normalize_env() is model.get_env() is env


def test_statistics_travel_in_the_models_file(tmp_path):
    model = TRPO("MlpPolicy", VecNormalize(shifted()), timesteps_per_batch=64, seed=0).learn(128)
    path, env = model.save(tmp_path / "m"), shifted()
    with pytest.warns(UserWarning, match="VecNormalize.save: nothing is written to .*v.pkl"):
        model.get_env().save(tmp_path / "v.pkl")
    with pytest.warns(UserWarning, match="VecNormalize.load: .* is not read"):
        env = VecNormalize.load(tmp_path / "v.pkl", env)
    env.training = env.norm_reward = False
    again = TRPO.load(path, env)
    obs = np.full((5, 3), 3.0)
    np.testing.assert_array_equal(again.predict(obs, deterministic=True)[0],
                                  model.predict(obs, deterministic=True)[0])
    with pytest.raises(AttributeError, match="are the original observations"):
        env.get_original_obs()


def test_returns_are_the_real_ones():
    model = TRPO("MlpPolicy", VecNormalize(shifted()), timesteps_per_batch=64, seed=0).learn(128)
    through, bare = (evaluate_policy(model, env, 3, seed=5) for env in (VecNormalize(shifted()), Shifted()))
    assert through == bare


def test_another_clip_is_said_to_have_no_effect():
    with pytest.warns(UserWarning, match="clip_obs=5 has no effect"):
        VecNormalize(shifted(), clip_obs=5.0)


# --- frames -------------------------------------------------------------------------------------------------

def test_frames_are_stacked_along_the_last_axis_and_start_anew_with_an_episode():
    env = VecFrameStack(DummyVecEnv([Counter, Counter]), 2)
    assert env.observation_space.shape == (4,)
    np.testing.assert_array_equal(env.reset(), [[0, 0, 1, 10]] * 2)
    np.testing.assert_array_equal(env.step([0, 0])[0], [[1, 10, 2, 20]] * 2)
    env.step([0, 0])
    obs, _, dones, infos = env.step([0, 0])
    assert dones.all()
    np.testing.assert_array_equal(obs, [[0, 0, 1, 10]] * 2)
    np.testing.assert_array_equal(infos[0]["terminal_observation"], [3, 30, 4, 40])
    obs = env.step([0, 0])[0]
    np.testing.assert_array_equal(env.reset(), [[0, 0, 1, 10]] * 2)  # in the midst of an episode
    np.testing.assert_array_equal(obs, [[1, 10, 2, 20]] * 2, "what was returned before stays as it was")


def test_a_policy_learns_from_stacked_frames():
    model = TRPO("MlpPolicy", VecFrameStack(DummyVecEnv([Counter]), 3), timesteps_per_batch=64, seed=0)
    assert model.learn(64).policy.observation_space.width == 6 and model.episodes == 21


def test_only_a_box_is_stacked():
    with pytest.raises(ValueError, match="VecFrameStack: the observation space is Discrete"):
        VecFrameStack(make_vec_env("FrozenLake-v1"), 2)


# --- the rest -----------------------------------------------------------------------------------------------

def test_what_the_model_does_anyway_passes_the_environment_on():
    env = shifted()
    assert VecMonitor(env) is VecCheckNan(env, raise_exception=True) is VecTransposeImage(env) is env
    with pytest.warns(UserWarning, match="callback=MonitorCallback"):
        assert VecMonitor(env, "folder") is env
    with pytest.raises(ValueError, match="gymnasium.wrappers.RecordVideo.*trpo-np play"):
        VecVideoRecorder(env, "folder", lambda step: True)


def test_a_wrapper_of_ones_own_is_stepped_by_its_methods():
    class Doubled(VecEnvWrapper):
        def step_wait(self):
            obs, rewards, dones, infos = self.venv.step_wait()
            return obs, 2 * rewards, dones, infos
    model = TRPO("MlpPolicy", Doubled(DummyVecEnv([Counter])), timesteps_per_batch=64, seed=0).learn(64)
    assert {score for score, _ in model.recent} == {6.0}
    with pytest.raises(ValueError, match="Doubled was given .*; a DummyVecEnv or SubprocVecEnv is needed"):
        Doubled(Counter())


def test_wrappers_reach_the_environments():
    env = VecFrameStack(VecNormalize(DummyVecEnv([Counter, Counter])), 2)
    env.reset()
    assert env.get_attr("k") == [1, 1] and env.env_method("get_wrapper_attr", "k", indices=0) == [1]
    assert env.seed(3) == [3, 4]
    env.close()
