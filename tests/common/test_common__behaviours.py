"""What scripts of stable-baselines rely on, one behaviour a test: their imports renamed, nothing else."""

import io

import gymnasium as gym
import numpy as np
import pytest

from trpo_np import TRPO
from trpo_np.common import make_vec_env, set_global_seeds
from trpo_np.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnRewardThreshold,
)
from trpo_np.common.evaluation import evaluate_policy
from trpo_np.common.monitor import Monitor, load_results
from trpo_np.common.policies import FeedForwardPolicy, MlpPolicy
from trpo_np.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

SPACES = {"Discrete": gym.spaces.Discrete(3), "MultiDiscrete": gym.spaces.MultiDiscrete([2, 3]),
          "MultiBinary": gym.spaces.MultiBinary(3), "Box": gym.spaces.Box(-1, 1, (1,), np.float32)}
SMALL = dict(timesteps_per_batch=256, policy_kwargs=dict(layers=[16]), seed=0)
each_space = pytest.mark.parametrize("kind", SPACES)


class Identity(gym.Env):
    """The action to take is the observation; episodes last 20 steps, and the best return is 20."""

    def __init__(self, kind="Discrete"):
        self.observation_space = self.action_space = SPACES[kind]

    def _draw(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.seen = self.observation_space.sample()
        return self.seen

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._draw(), {}

    def step(self, action):
        self.t += 1
        distance = np.abs(np.subtract(action, self.seen, dtype=float)).mean()
        reward = 1 - distance if self.action_space is SPACES["Box"] else float(np.all(action == self.seen))
        return self._draw(), float(reward), False, self.t == 20, {}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model():
    return TRPO("MlpPolicy", DummyVecEnv([Identity]), **SMALL)


def observations(kind="Discrete", n=20):
    space = SPACES[kind]
    space.seed(0)
    return np.array([space.sample() for _ in range(n)])


# --- learning -----------------------------------------------------------------------------------------------

@each_space
def test_the_identity_is_learned_in_every_action_space_and_kept_in_a_file(kind):
    env = DummyVecEnv([lambda: Identity(kind)])
    model = TRPO("MlpPolicy", env, gamma=0.5, max_kl=0.05, **SMALL)
    model.learn(total_timesteps=256 * 25)
    evaluate_policy(model, env, n_eval_episodes=5, reward_threshold=14)
    obs = env.reset()
    action, _ = model.predict(obs, deterministic=True)
    model.save("identity")
    del model
    model = TRPO.load("identity")
    np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], action)
    model.set_env(env)
    model.learn(256)
    assert evaluate_policy(model, env, n_eval_episodes=5)[0] > 14


def test_learn_called_again_goes_on_counting_or_begins_anew(model):
    model.learn(256)
    model.learn(256, reset_num_timesteps=False)
    assert model.num_timesteps == 512
    assert model.learn(256) is model and model.num_timesteps == 256


def test_learning_rates_may_be_functions_of_what_remains():
    seen = []
    model = TRPO("MlpPolicy", Identity(), vf_stepsize=lambda left: seen.append(left) or 1e-3 * left, **SMALL)
    model.learn(256 * 4)
    assert list(dict.fromkeys(seen)) == [0.75, 0.5, 0.25, 0.0]  # as in stable-baselines3, after each batch


@each_space
def test_two_runs_of_one_seed_are_the_same(kind):
    def run(seed):
        set_global_seeds(seed)
        model = TRPO("MlpPolicy", Identity(kind), **SMALL | dict(seed=seed)).learn(512)
        return model.predict(observations(kind, 30))[0]
    np.testing.assert_array_equal(run(0), run(0))
    assert (run(0) != run(1)).any()


def test_environments_in_processes_learn_the_same_as_in_one():
    def run(kind):
        env = make_vec_env("CartPole-v1", n_envs=2, seed=0, vec_env_cls=kind)
        model = TRPO(MlpPolicy, env, **SMALL).learn(256)
        env.close()
        return model.get_parameter_list()
    for one, other in zip(run(DummyVecEnv), run(SubprocVecEnv), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("policy", ["MlpLstmPolicy", "MlpLnLstmPolicy"])
def test_a_policy_with_memory_predicts_with_state_and_mask(policy):
    env = make_vec_env("CartPole-v1", n_envs=4, seed=0)
    model = TRPO(policy, env, timesteps_per_batch=64, policy_kwargs=dict(n_lstm=8), seed=0).learn(64)
    obs, state, done = env.reset(), None, [False] * 4
    for _ in range(5):
        action, state = model.predict(obs, state=state, mask=done)
        obs, rewards, done, _ = env.step(action)
    assert state.shape == (4, 16) and rewards.shape == (4,)


def test_images_are_learned_from(monkeypatch):
    class Pixels(Identity):
        def __init__(self):
            super().__init__()
            self.observation_space = gym.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    model = TRPO("CnnPolicy", DummyVecEnv([Pixels]), timesteps_per_batch=32, seed=0).learn(32)
    assert model.predict(np.zeros((36, 36, 1), np.uint8))[0] in (0, 1, 2)


def test_an_expert_is_imitated():
    obs = np.random.default_rng(0).integers(0, 3, 300)
    model = TRPO("MlpPolicy", Identity(), **SMALL)
    model.pretrain(dict(obs=obs, actions=obs), n_epochs=60, learning_rate=1e-2)
    assert model.predict(np.arange(3), deterministic=True)[0].tolist() == [0, 1, 2]
    assert evaluate_policy(model, Identity(), n_eval_episodes=2) == (20.0, 0.0)


# --- predicting ---------------------------------------------------------------------------------------------

def test_one_observation_and_a_batch_are_predicted(model):
    action, state = model.predict(1)
    assert np.shape(action) == () and state is None
    assert model.predict([1, 2, 0])[0].shape == (3,)


@each_space
def test_probabilities_of_actions(kind):
    model = TRPO("MlpPolicy", Identity(kind), **SMALL)
    obs = observations(kind)
    actions = model.predict(obs)[0]
    given = model.action_probability(obs, actions=actions)
    assert given.shape == (20, 1) and (given > 0).all()
    np.testing.assert_allclose(np.log(given), model.action_probability(obs, actions=actions, logp=True),
                               rtol=1e-4, atol=1e-6)
    whole = model.action_probability(obs)
    if kind == "Discrete":
        np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(whole[np.arange(20), actions], given[:, 0], rtol=1e-5)
    elif kind == "Box":
        mean, std = whole
        z = (actions - mean) / std
        np.testing.assert_allclose(given, np.exp(-z**2 / 2) / std / np.sqrt(2 * np.pi), rtol=1e-4)


# --- files and parameters -----------------------------------------------------------------------------------

@pytest.mark.parametrize("place_of", [lambda: "model", lambda: "model.npz", io.BytesIO])
def test_a_model_is_saved_to_a_path_or_a_file_object(model, place_of):
    path = place_of()
    model.learn(256)
    model.save(path)
    if isinstance(path, io.BytesIO):
        path.seek(0)
    copy = TRPO.load(path, env=model.get_env())
    obs = observations()
    np.testing.assert_array_equal(copy.predict(obs, deterministic=True)[0],
                                  model.predict(obs, deterministic=True)[0])
    assert copy.num_timesteps == 256
    copy.learn(256, reset_num_timesteps=False)
    assert copy.num_timesteps == 512


def test_parameters_go_out_and_in_by_name_and_as_a_list(model):
    named = model.get_parameters()
    zeros = {name: np.zeros_like(array) for name, array in named.items()}
    model.load_parameters(zeros)
    assert not any(array.any() for array in model.get_parameter_list())
    model.load_parameters(list(named.values()))
    for array, before in zip(model.get_parameter_list(), named.values(), strict=True):
        np.testing.assert_array_equal(array, before)
    first = next(iter(named))
    with pytest.raises(ValueError):
        model.load_parameters({first: zeros[first]})
    model.load_parameters({first: zeros[first]}, exact_match=False)
    assert not model.get_parameters()[first].any()
    with pytest.raises(ValueError, match="the list holds 1 arrays"):
        model.load_parameters([zeros[first]])


def test_arguments_of_the_policy_are_saved_with_the_model():
    policy_kwargs = dict(net_arch=[dict(pi=[12], vf=[7, 5])], act_fun="relu")
    TRPO(MlpPolicy, "CartPole-v1", policy_kwargs=policy_kwargs).save("model")
    with pytest.raises(ValueError, match="the policy needs it as"):
        TRPO.load("model", policy_kwargs=dict(net_arch=[3]))
    shapes = [array.shape for array in TRPO.load("model").get_parameter_list()]
    assert (4, 12) in shapes and (7, 5) in shapes


def test_a_policy_of_ones_own_is_given_again_when_loading():
    class Own(FeedForwardPolicy):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, net_arch=[8, dict(pi=[4], vf=[4])], feature_extraction="mlp")
    model = TRPO(Own, "CartPole-v1", seed=0)
    model.save("own")
    obs = np.zeros(4)
    assert TRPO.load("own", policy=Own).predict(obs, deterministic=True)[0] == model.predict(
        obs, deterministic=True)[0]
    with pytest.raises(ValueError, match="pass the class with policy="):
        TRPO.load("own")


# --- environments -------------------------------------------------------------------------------------------

def test_an_environment_may_come_later():
    model = TRPO("MlpPolicy", None, **SMALL)
    assert model.get_env() is None
    with pytest.raises(ValueError, match="no environment to learn in yet; call set_env"):
        model.learn(256)
    model.set_env(Identity())
    assert model.learn(256).num_timesteps == 256
    model.save("alone")
    loaded = TRPO.load("alone")
    with pytest.raises(ValueError, match="no environment to learn in yet; call set_env"):
        loaded.learn(256)
    assert loaded.num_timesteps == 256
    with pytest.raises(ValueError, match="observation"):
        model.set_env(gym.make("CartPole-v1"))


def test_normalised_environments_report_real_returns():
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0), norm_obs=True, norm_reward=True)
    model = TRPO("MlpPolicy", env, **SMALL | dict(timesteps_per_batch=400)).learn(400)
    assert model.get_vec_normalize_env() is env
    assert np.mean([total for total, _ in model.recent]) < -300
    assert evaluate_policy(model, env, n_eval_episodes=2)[0] < -300


def test_frames_are_stacked_over_normalised_ones():
    env = VecFrameStack(VecNormalize(make_vec_env("CartPole-v1", seed=0)), n_stack=4)
    model = TRPO("MlpPolicy", env, **SMALL).learn(256)
    assert env.reset().shape == (1, 16) and model.predict(env.reset())[0].shape == (1,)


def test_a_monitor_writes_what_training_saw():
    env = Monitor(Identity(), "logs/", allow_early_resets=True)
    model = TRPO("MlpPolicy", env, **SMALL).learn(512)
    env.close()
    assert load_results("logs").r.tolist() == pytest.approx([total for total, _ in model.recent])
    assert env.get_total_steps() == 500 == sum(env.get_episode_lengths())


# --- callbacks and logs -------------------------------------------------------------------------------------

def test_a_function_is_a_callback_and_false_stops(model):
    seen = []

    def callback(locals_, globals_):
        seen.append(locals_["self"].num_timesteps)
        return len(seen) < 2
    model.learn(256 * 9, callback=callback)
    assert len(seen) == 2 and model.num_timesteps <= 512


def test_callbacks_are_combined(model):
    class Hooks(BaseCallback):
        def __init__(self):
            super().__init__()
            self.called = []

        def _on_training_start(self):
            self.called.append("start")

        def _on_rollout_start(self):
            self.called.append("rollout")

        def _on_step(self):
            assert self.model is model and self.training_env is model.get_env()
            self.steps = self.n_calls
            return True

        def _on_training_end(self):
            self.called.append("end")

    hooks = Hooks()
    stop = StopTrainingOnRewardThreshold(reward_threshold=-1, verbose=0)
    evaluate = EvalCallback(Identity(), callback_on_new_best=stop, n_eval_episodes=1, eval_freq=256,
                            verbose=0, best_model_save_path="best", log_path="evaluations")
    model.learn(256 * 9, callback=CallbackList([hooks, CheckpointCallback(256, "saved", name_prefix="m"),
                                                EveryNTimesteps(256, Hooks()), evaluate]))
    assert model.num_timesteps == 256 and hooks.steps == 256
    assert hooks.called == ["start", "rollout", "end"]
    assert TRPO.load("saved/m_256_steps").num_timesteps == TRPO.load("best/best_model").num_timesteps == 256
    assert np.load("evaluations/evaluations.npz")["timesteps"].tolist() == [256]


def test_each_run_has_a_folder_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    model = TRPO("MlpPolicy", Identity(), tensorboard_log="logs", **SMALL)
    model.learn(256)
    model.learn(256, tb_log_name="other")
    model.learn(256)
    model.learn(256, reset_num_timesteps=False)  # goes on in the folder of the run before
    assert sorted(folder.name for folder in (tmp_path / "logs").iterdir()) == ["TRPO_1", "TRPO_2", "other_1"]
    assert all(any(folder.glob("events.*")) for folder in (tmp_path / "logs").iterdir())


def test_verbose_prints_a_table(model, capsys):
    model.learn(256)
    assert not capsys.readouterr().out
    model.verbose = 1
    model.learn(256)
    assert "total_timesteps" in capsys.readouterr().out


def test_episodes_under_a_monitor_go_on_with_the_same_bits(tmp_path):
    def make():
        return Monitor(gym.make("CartPole-v1"), None)
    model = TRPO("MlpPolicy", make(), seed=0, timesteps_per_batch=50).learn(50)
    copy = TRPO.load(model.save(tmp_path / "m"), make())
    for each in (model, copy):
        each.learn(50, reset_num_timesteps=False)
    assert copy.policy.params.flat.tobytes() == model.policy.params.flat.tobytes()
    assert copy.env.get_episode_rewards() == model.env.get_episode_rewards() != []
