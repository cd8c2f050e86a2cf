"""stable-baselines' wrappers of vector environments: what they ask of the model, and what they pass on."""

import gymnasium
import numpy as np
import pytest
from toys import Shifted

from trpo_np import TRPO, evaluate_policy, make_vec_env
from trpo_np.callbacks import BaseCallback
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


class Fined(VecEnvWrapper):
    """All rewards are -7."""

    def step_wait(self):
        obs, rewards, dones, infos = super().step_wait()
        return obs, 0 * rewards - 7, dones, infos


def test_normalisation_keeps_the_wrappers_that_it_is_around():
    model = TRPO("MlpPolicy", VecNormalize(VecFrameStack(DummyVecEnv([Counter, Counter]), 3)), seed=0,
                 timesteps_per_batch=8)
    assert model.observation_space.shape == model.get_env().observation_space.shape == (6,)
    env = VecNormalize(Fined(DummyVecEnv([Counter])))
    model = TRPO("MlpPolicy", env, timesteps_per_batch=32, seed=0).learn(32)
    assert set(model.recent) == {(-21.0, 3)} and evaluate_policy(model, env, 2) == (-21.0, 0.0)


def test_normalisation_is_heard_within_other_wrappers_and_by_set_env(tmp_path):
    def made():
        return VecNormalize(DummyVecEnv([Counter]), norm_reward=False)
    model = TRPO("MlpPolicy", env := VecFrameStack(made(), 2), timesteps_per_batch=8, seed=0)
    assert model.normalize_observations and not model.normalize_rewards
    assert model.get_vec_normalize_env() is env.venv
    later = TRPO("MlpPolicy", None, timesteps_per_batch=8, seed=0)
    later.set_env(made())
    assert later.normalize_observations and not later.normalize_rewards
    plain = TRPO("MlpPolicy", DummyVecEnv([Counter]), timesteps_per_batch=8, seed=0)
    assert plain.get_vec_normalize_env() is None
    with pytest.warns(UserWarning, match="VecNormalize asks for normalize_observations, which this model"):
        plain.set_env(made())
    assert not plain.learn(8).normalize_observations


@pytest.mark.parametrize("wrap", [VecNormalize, VecEnvWrapper])
def test_who_steps_what_is_in_a_wrapper_ends_the_episodes_of_training(wrap):
    class Look(BaseCallback):
        def _on_rollout_end(self):
            first.append(self.locals["segment"].obs[0, 0].tolist())

        def _on_update_end(self):
            if "evaluates" in ways:
                evaluate_policy(self.model, inner, 1)
    for ways in (["evaluates"], ["steps"]):
        first, inner = [], DummyVecEnv([Counter])
        model = TRPO("MlpPolicy", env := wrap(inner), timesteps_per_batch=4, seed=0)
        model.learn(4 if "steps" in ways else 8, Look())
        if "steps" in ways:
            env.reset()
            env.step([0])
            env.step([0])  # one step alone would leave the environment as training left it
            model.learn(4, Look(), reset_num_timesteps=False)
        assert first == [[1, 10], [1, 10]]


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


@pytest.mark.parametrize("shape, order, axis", [
    ((3, 8, 9), None, 0), ((8, 9, 3), None, -1), ((1, 8, 8), None, 0), ((3, 8, 9), "last", -1),
    ((8, 9, 3), "first", 0)])
def test_images_are_stacked_along_their_channels(shape, order, axis):
    class Images(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        action_space, k = gymnasium.spaces.Discrete(2), 0

        def reset(self, *, seed=None, options=None):
            self.k = 1
            return np.full(shape, 1, np.uint8), {}

        def step(self, action):
            self.k += 1
            return np.full(shape, self.k, np.uint8), 0.0, self.k == 4, False, {}
    env = VecFrameStack(DummyVecEnv([Images]), 2, channels_order=order)

    def of(*frames):
        return np.concatenate([np.full(shape, k, np.uint8) for k in frames], axis).tolist()
    assert env.observation_space.shape == np.shape(of(0, 0)) and env.reset()[0].tolist() == of(0, 1)
    assert env.step([0])[0][0].tolist() == of(1, 2) and env.step([0])[0][0].tolist() == of(2, 3)
    obs, _, _, infos = env.step([0])
    assert infos[0]["terminal_observation"].tolist() == of(3, 4) and obs[0].tolist() == of(0, 1)
    with pytest.raises(ValueError, match="channels_order is 'middle'; 'first', 'last' or None"):
        VecFrameStack(DummyVecEnv([Images]), 2, "middle")
    with pytest.raises(ValueError, match="n_stack is 0; an integer of at least 1"):
        VecFrameStack(DummyVecEnv([Images]), 0)


def test_games_that_show_several_frames_are_not_stacked_again():
    pytest.importorskip("ale_py")
    from trpo_np.common.cmd_util import make_atari_env

    games = make_atari_env("PongNoFrameskip-v4", n_envs=1, seed=0)
    assert VecFrameStack(games, n_stack=4) is games and make_atari_env("Pong", 2).num_envs == 2
    with pytest.raises(ValueError, match="these games show 4 frames already; for 2: make_atari_env"):
        VecFrameStack(games, 2)
    with pytest.warns(UserWarning, match="make_atari_env: monitor_dir, vec_env_cls have no effect here"):
        assert make_atari_env("Pong", num_env=3, monitor_dir="x", vec_env_cls=DummyVecEnv).num_envs == 3


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
