"""Whole scripts of stable-baselines (2 and 3) with the imports renamed, and the paths that they use."""

import importlib
import os
import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from trpo_np import TRPO, settings
from trpo_np.common import set_global_seeds
from trpo_np.common.callbacks import CheckpointCallback
from trpo_np.common.cmd_util import make_vec_env, mujoco_arg_parser
from trpo_np.common.env_checker import check_env
from trpo_np.common.monitor import Monitor, load_results
from trpo_np.common.policies import FeedForwardPolicy, LstmPolicy, MlpPolicy, register_policy
from trpo_np.common.results_plotter import plot_results, ts2xy
from trpo_np.common.utils import get_linear_fn
from trpo_np.settings import LinearSchedule
from trpo_np.vec_env import SubprocVecEnv

PATHS = {"bench": "Monitor load_results", "results_plotter": "plot_results ts2xy X_TIMESTEPS load_results",
         "common": "set_global_seeds make_vec_env", "common.env_checker": "check_env",
         "common.cmd_util": "make_vec_env make_atari_env mujoco_arg_parser arg_parser",
         "common.env_util": "make_vec_env make_atari_env", "common.utils": "set_random_seed get_linear_fn",
         "common.misc_util": "set_random_seed",
         "common.monitor": "Monitor", "common.logger": "configure Logger",
         "common.policies": "FeedForwardPolicy LstmPolicy MlpPolicy register_policy",
         "common.callbacks": "BaseCallback EvalCallback", "common.evaluation": "evaluate_policy",
         "common.vec_env": "VecNormalize VecFrameStack VecMonitor VecCheckNan VecVideoRecorder SubprocVecEnv"}

STABLE_BASELINES = """
import os
import gymnasium as gym
import numpy as np
from trpo_np import TRPO, results_plotter
from trpo_np.bench import Monitor
from trpo_np.common import make_vec_env, set_global_seeds
from trpo_np.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from trpo_np.common.evaluation import evaluate_policy
from trpo_np.common.policies import FeedForwardPolicy, register_policy
from trpo_np.common.vec_env import DummyVecEnv, VecNormalize
from trpo_np.results_plotter import load_results, ts2xy


class CustomPolicy(FeedForwardPolicy):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, net_arch=[dict(pi=[16, 16], vf=[16, 16])],
                         feature_extraction="mlp")


register_policy("CustomPolicy", CustomPolicy)


class SaveOnBest(BaseCallback):
    def __init__(self, log_dir):
        super().__init__()
        self.log_dir, self.best = log_dir, -np.inf

    def _on_step(self):
        if self.n_calls % 500 == 0:
            x, y = ts2xy(load_results(self.log_dir), "timesteps")
            if len(x) and np.mean(y[-100:]) > self.best:
                self.best = np.mean(y[-100:])
                self.model.save(os.path.join(self.log_dir, "best"))
        return True


log_dir = "gym"
os.makedirs(log_dir, exist_ok=True)
set_global_seeds(0)
env = make_vec_env("CartPole-v1", n_envs=2, seed=0, monitor_dir=log_dir)
env = VecNormalize(env, norm_obs=True, norm_reward=False, clip_obs=10.)
evaluated = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]), training=False, norm_reward=False)
model = TRPO("CustomPolicy", env, gamma=0.99, timesteps_per_batch=256, verbose=0, tensorboard_log="tb",
             full_tensorboard_log=False, n_cpu_tf_sess=1, seed=0)
callback = [SaveOnBest(log_dir), CheckpointCallback(1000, "checkpoints"),
            EvalCallback(evaluated, best_model_save_path="best", eval_freq=1000, n_eval_episodes=2)]
model.learn(total_timesteps=2048, callback=callback, tb_log_name="run")
model.save("trpo_cartpole")
env.save("vec_normalize.pkl")
figure = results_plotter.plot_results([log_dir], 2048, results_plotter.X_TIMESTEPS, "TRPO CartPole")
del model
env = VecNormalize.load("vec_normalize.pkl", DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"), None)]))
env.training = False
env.norm_reward = False
model = TRPO.load("trpo_cartpole", env=env, policy=CustomPolicy)
obs = env.reset()
probabilities = model.action_probability(obs)
action, _states = model.predict(obs)
mean, std = evaluate_policy(model, env, n_eval_episodes=2)
"""

STABLE_BASELINES3 = """
import gymnasium as gym
import numpy as np
from trpo_np import TRPO
from trpo_np.common.callbacks import BaseCallback, CallbackList, EvalCallback
from trpo_np.common.env_checker import check_env
from trpo_np.common.env_util import make_vec_env
from trpo_np.common.evaluation import evaluate_policy
from trpo_np.common.logger import configure
from trpo_np.common.monitor import Monitor


class Goal(gym.Env):
    observation_space = gym.spaces.Dict(position=gym.spaces.Box(-1, 1, (2,), np.float32),
                                        goal=gym.spaces.Discrete(3))
    action_space = gym.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def _obs(self):
        return dict(position=self.np_random.uniform(-1, 1, 2).astype(np.float32),
                    goal=np.int64(self.np_random.integers(3)))

    def step(self, action):
        self.t += 1
        return self._obs(), float(action), self.t == 8, False, {"is_success": bool(action)}


class Means(BaseCallback):
    def _on_step(self):
        self.logger.record_mean("custom/reward", float(np.mean(self.locals["rewards"])))
        return True


check_env(Goal())
env = make_vec_env(Goal, n_envs=2, seed=0)
model = TRPO("MultiInputPolicy", env, timesteps_per_batch=128, seed=0, device="cpu",
             policy_kwargs=dict(net_arch=dict(pi=[16], vf=[16])))
model.set_logger(configure("logs", ["csv"]))
model.learn(512, callback=CallbackList([Means(), EvalCallback(Monitor(Goal()), eval_freq=256, verbose=0)]))
obs, _ = Goal().reset(seed=0)
action, _ = model.predict(obs, deterministic=True)
mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=2)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.mark.parametrize("path", PATHS)
def test_a_path_holds_its_names(path):
    module = importlib.import_module(f"trpo_np.{path}")
    for name in PATHS[path].split():
        assert getattr(module, name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_script_of_stable_baselines_runs_with_its_imports_renamed(tmp_path):
    names = {"__name__": "script"}
    exec(STABLE_BASELINES, names)
    assert names["probabilities"].shape == (1, 2) and 1 <= names["mean"] <= 500
    assert (tmp_path / "checkpoints" / "trpo_1024_steps.npz").exists()
    assert len(load_results("gym")) > 20 and names["callback"][0].best > 0
    assert type(names["figure"]).__name__ == "Figure"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_script_of_stable_baselines3_runs_with_its_imports_renamed():
    names = {"__name__": "script"}
    exec(STABLE_BASELINES3, names)
    assert names["mean"] > 4 and names["model"].policy.observation_space.width == 5
    head, *rows = open("logs/progress.csv").read().splitlines()
    column = head.split(",").index("custom/reward")
    assert [0 < float(row.split(",")[column]) <= 1 for row in rows if row.split(",")[column]]


# --- the parts ----------------------------------------------------------------------------------------------

def test_monitor_logs_whole_episodes_of_raw_rewards():
    env = Monitor(gymnasium.wrappers.TransformReward(gymnasium.make("CartPole-v1"), lambda r: r / 4), "logs/")
    env.reset(seed=0)
    env.action_space.seed(0)
    returns, total = [], 0.0
    for _ in range(200):
        *_, reward, terminated, truncated, info = env.step(env.action_space.sample())
        total += reward
        if terminated or truncated:
            assert info["episode"]["r"] == total
            returns, total = [*returns, total], 0.0
            env.reset()
    assert reward == 0.25
    env.close()
    found = load_results("logs")
    np.testing.assert_array_equal(found.r, returns)
    assert env.get_episode_rewards() == returns and env.get_episode_lengths() == found.l.tolist()
    x, y = ts2xy(found, "timesteps")
    np.testing.assert_array_equal(x, np.cumsum(returns) * 4)
    np.testing.assert_array_equal(y, returns)
    assert env.get_total_steps() == x[-1] and len(ts2xy(found, "walltime_hrs")[0]) == len(returns)
    np.testing.assert_array_equal(ts2xy(found, "episodes")[0], np.arange(len(returns)))


@pytest.mark.filterwarnings("ignore:.*check_env")
def test_an_environment_that_breaks_gymnasiums_interface_is_found():
    class Wrong(gymnasium.Env):
        observation_space, action_space = gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 2, {}
    with pytest.raises(AssertionError, match="reset"):
        check_env(Wrong())


def test_before_the_first_episode_ends_there_are_no_results():
    env = Monitor(gymnasium.make("CartPole-v1"), "logs/")
    found = load_results("logs")
    x, y = ts2xy(found, "timesteps")
    assert len(found) == len(x) == len(y) == 0
    env.close()


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(ValueError, match="holds no monitor.csv"):
        load_results(str(tmp_path))
    with pytest.raises(ValueError, match="xaxis is 'steps'; it can be 'timesteps', 'episodes', 'w"):
        plot_results([], 1, "steps", "")
    with pytest.raises(ValueError, match=r"dirs is \[\]; folders that hold Monitor files are needed"):
        plot_results([])


def test_policies_of_ones_own_go_by_a_name():
    class Wide(FeedForwardPolicy):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, layers=[7], feature_extraction="mlp")
    register_policy("Wide", Wide)
    register_policy("Wide", Wide)
    model = TRPO("Wide", "CartPole-v1", timesteps_per_batch=64, seed=0).learn(64)
    assert model.policy.params["pi/fc0/w"].shape == (4, 7) and model.policy.is_fast
    with pytest.raises(ValueError, match="there is already another policy 'Wide'"):
        register_policy("Wide", MlpPolicy)
    with pytest.raises(ValueError, match="a subclass of trpo_np.policies.Policy is needed"):
        register_policy("Number", int)


def test_base_classes_say_where_images_go():
    class Seen(LstmPolicy):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, feature_extraction="cnn")
    with pytest.raises(ValueError, match="LstmPolicy: feature_extraction is 'cnn'; derive from CnnPolicy"):
        TRPO(Seen, "CartPole-v1")


def test_make_vec_env_logs_each_environment():
    class Named(gymnasium.Wrapper):
        pass
    env = make_vec_env("CartPole-v1", 2, 0, monitor_dir="logs", wrapper_class=Named)
    assert all(isinstance(one, Named) and isinstance(one.env, Monitor) for one in env.envs)
    env.reset()
    for _ in range(80):
        env.step([0, 0])
    env.close()
    results = load_results("logs")
    assert len(results) > 10 and (np.diff(results.t) >= 0).all()


def test_environments_in_processes_log_to_files_of_their_own():
    env = make_vec_env("CartPole-v1", 2, 0, 3, monitor_dir="logs", vec_env_cls=SubprocVecEnv)
    env.reset()
    for _ in range(30):
        env.step([0, 0])
    env.close()
    assert sorted(os.listdir("logs")) == ["3.monitor.csv", "4.monitor.csv"]
    for name in os.listdir("logs"):
        with open(f"logs/{name}") as file:
            assert len(file.readlines()) >= 3, name  # two lines of head, and each has ended an episode


def test_a_linear_schedule_may_end_early():
    assert get_linear_fn(0.1, 0.0, 1) == LinearSchedule(0.1, 0.0)
    early = get_linear_fn(0.1, 0.02, 0.5)
    np.testing.assert_allclose([early(x) for x in (1, 0.75, 0.5, 0)], [0.1, 0.06, 0.02, 0.02])
    assert [get_linear_fn(0.1, 0.02, 0.0)(x) for x in (1, 0.5, 0)] == [0.02] * 3


def test_a_script_that_seeds_all_seeds_models_and_environments_their_own(monkeypatch):
    monkeypatch.setattr(settings, "_SCRIPT", [])
    assert TRPO("MlpPolicy", "CartPole-v1").seed != TRPO("MlpPolicy", "CartPole-v1").seed
    seeds = []
    for _ in range(2):
        set_global_seeds(3)
        seeds.append([TRPO("MlpPolicy", "CartPole-v1").seed for _ in range(2)])
    assert seeds[0] == seeds[1] and seeds[0][0] != seeds[0][1]

    def first_reset(**kwargs):
        env = make_vec_env("CartPole-v1", 2, seed=7)
        TRPO("MlpPolicy", env, timesteps_per_batch=64, **kwargs).learn(64)
        return [one.unwrapped.np_random_seed for one in env.envs]
    assert first_reset() == [7, 8] != first_reset(seed=1)
    env = make_vec_env("CartPole-v1", 2, seed=7)  # on each of several ranks
    model = TRPO("MlpPolicy", env, timesteps_per_batch=64)
    model.comm = SimpleNamespace(rank=1, size=2)
    model._start_episodes()
    assert [one.unwrapped.np_random_seed for one in env.envs] != [7, 8]


def test_a_monitor_file_of_an_earlier_run_is_continued_with_a_word():
    def play(**kwargs):
        env = Monitor(gymnasium.make("CartPole-v1"), "logs/", **kwargs)
        env.reset(seed=0)
        while not any(env.step(0)[2:4]):
            pass
        env.close()
        return len(load_results("logs"))
    assert play() == 1
    with pytest.warns(UserWarning, match="Monitor continues logs/monitor.csv, which holds episodes of an"):
        assert play() == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert play(override_existing=False) == 3 and play(override_existing=True) == 1
    with pytest.warns(UserWarning, match="Monitor: is_success are not logged"):
        Monitor(gymnasium.make("CartPole-v1"), info_keywords=("is_success",))


def test_a_monitor_is_no_reason_to_end_episodes_at_a_checkpoint(tmp_path):
    def run(env):
        model = TRPO("MlpPolicy", env, timesteps_per_batch=64, seed=0)
        return model.learn(256, callback=CheckpointCallback(64, tmp_path)).policy.params.flat
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitored = run(Monitor(gymnasium.make("Pendulum-v1"), str(tmp_path / "log")))
    np.testing.assert_array_equal(monitored, run(gymnasium.make("Pendulum-v1")))


def test_seeds_and_arguments():
    set_global_seeds(3)
    first = np.random.random()
    set_global_seeds(3)
    assert np.random.random() == first
    args = mujoco_arg_parser().parse_args(["--seed", "4", "--num-timesteps", "100"])
    assert (args.env, args.seed, args.num_timesteps, args.play) == ("Reacher-v5", 4, 100, False)
