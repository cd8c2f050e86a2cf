"""A user's file that says the types of what it gets: tests/test_typed.py gives it to `mypy --strict`.

It is never run. `assert_type` fails where the type is another, and so where it is Any.
"""

import io
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO

import gymnasium
import numpy as np

import trpo_np
from trpo_np import TRPO, evaluate_policy, load_policy, make_vec_env, nn, ops, presets
from trpo_np.autodiff import linearize, value_and_grad
from trpo_np.callbacks import BaseCallback, CallbackList, CheckpointCallback, EvalCallback
from trpo_np.common import make_vec_env as as_in_stable_baselines
from trpo_np.common.monitor import Monitor
from trpo_np.common.policies import FeedForwardPolicy, register_policy
from trpo_np.common.vec_env import VecNormalize
from trpo_np.deploy import export
from trpo_np.logger import CSVOutput, Logger, configure
from trpo_np.params import Params
from trpo_np.policies import CnnPolicy, MlpLstmPolicy, MlpPolicy, Policy
from trpo_np.presets import LinearSchedule
from trpo_np.pretrain import generate_expert_data
from trpo_np.settings import Scheduled
from trpo_np.spaces import Leaf, Space
from trpo_np.types import Actions, Array, Floats, Observations, Value, Weights
from trpo_np.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

if TYPE_CHECKING:
    from typing_extensions import assert_type


def make() -> gymnasium.Env[Array, int]:
    return gymnasium.make("CartPole-v1")


class Watch(BaseCallback):
    def __init__(self, limit: float, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.limit = limit

    def _on_training_start(self) -> None:
        assert_type(self.model, TRPO)
        assert_type(self.parent, BaseCallback | None)

    def _on_step(self) -> bool:
        self.logger.record("watch/steps", self.num_timesteps)
        return self.model.num_timesteps < self.limit

    def _on_update_end(self) -> None:
        self.model.max_kl = 0.02
        self.say(f"{self.n_calls} calls, {len(self.model.recent)} episodes")


class Wide(MlpPolicy):
    def encoder(self, name: str) -> nn.Layer:
        return nn.serial(nn.dense(f"{name}/wide", 128), nn.elementwise(ops.relu))

    def vf(self, params: Weights, features: Any) -> Value:
        return ops.tanh(super().vf(params, features)) * 10.0


def squares(x: Value) -> Value:
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    return ops.concatenate([centred, ops.square(x)[:, :2], -x / 2], axis=-1)


swish = ops.primitive(lambda x: x / (1 + np.exp(-x)))


def train() -> None:
    assert_type(trpo_np.__version__, str)
    env = DummyVecEnv([make, make])
    model = TRPO(MlpPolicy, env, gamma=0.9, max_kl=LinearSchedule(0.02, 0.001), dtype="float64", seed=0,
                 entcoeff=lambda remaining: 0.1 * remaining, normalize_observations=True, verbose=1,
                 policy_kwargs=dict(net_arch=[32, dict(pi=[8], vf=[8])], extractor=squares))
    assert_type(model, TRPO)
    assert_type(model, Any)  # type: ignore[assert-type]  # an unused `ignore` fails: this tests the test
    model.set_env("CartPole-v1")
    model.env = env
    model.get_env().reset()
    callback = CallbackList([Watch(1e4), CheckpointCallback(1000, "runs", name_prefix="one"),
                             EvalCallback(make(), eval_freq=1000, best_model_save_path="runs")])
    assert_type(model.learn(1000, callback=callback, log_interval=2, progress_bar=True), TRPO)
    model.learn(1000, [Watch(1e4)], reset_num_timesteps=False)
    model.learn(1000, lambda locals_, globals_: True)
    assert_type(model.pretrain("expert.npz", n_epochs=2), TRPO)
    assert_type(generate_expert_data(model, n_episodes=1), dict[str, Array])

    obs = env.reset()
    assert_type(obs, Observations)
    action, state = model.predict(obs, deterministic=True)
    assert_type(action, Actions)
    assert_type(state, Floats | None)
    obs, rewards, dones, infos = env.step(action)
    assert_type(rewards, Array)
    assert_type(dones, Array)
    assert_type(infos, list[dict[str, Any]])
    assert_type(model.action_probability(obs), Floats | list[Floats])
    assert_type(model.fisher_vector_product(np.ones(3), obs, damping=0.1), Floats)


def files(model: TRPO, env: DummyVecEnv) -> None:
    assert_type(model.get_parameters(), dict[str, Floats])
    assert_type(model.get_parameter_list(), list[Floats])
    model.load_parameters({name: 2 * array for name, array in model.get_parameters().items()})
    model.load_parameters("one.npz", exact_match=False)
    assert_type(model.save("one"), str)
    assert_type(model.save(io.BytesIO(), training=False), BinaryIO)
    assert_type(TRPO.load("one", env, policy=Wide, max_kl=0.01), TRPO)
    assert_type(load_policy("one.npz", seed=1), Policy)
    assert_type(export("one.npz", "one.h", to="c"), dict[str, str])


def attributes(model: TRPO) -> None:
    assert_type(model.gamma, float)
    assert_type(model.max_kl, Scheduled)
    assert_type(model.vf_iters, int)
    assert_type(model.normalize_advantage, bool)
    assert_type(model.dtype, str)
    assert_type(model.seed, int)
    assert_type(model.num_timesteps, int)
    assert_type(model.recent, deque[tuple[float, int]])
    assert_type(model.logger, Logger)
    assert_type(model.observation_space, Space)
    assert_type(model.policy, Policy)
    assert_type(model.policy.action_space, Leaf)
    assert_type(model.policy.widths, tuple[int, ...])
    assert_type(model.policy.params, Params)
    assert_type(model.policy.params.flat, Floats)
    assert_type(model.policy.params["pi/out/w"], Floats)
    assert_type(model.policy.predict([0.0, 0.1, 0.0, -0.1]), tuple[Actions, Floats | None])
    model.vf_stepsize = LinearSchedule(1e-3, 0.0)
    model.cg_iters = 5


def around(model: TRPO) -> None:
    TRPO(CnnPolicy, None)
    TRPO("MlpLstmPolicy", "CartPole-v1", policy_kwargs={"n_lstm": 8})
    TRPO(MlpLstmPolicy, make())
    TRPO("MlpPolicy", "Hopper-v5", **presets.tuned("Hopper-v5"))
    envs = make_vec_env("CartPole-v1", n_envs=2, seed=0, vec_env_cls=SubprocVecEnv)
    assert_type(envs, VecEnv)
    assert_type(envs.num_envs, int)
    assert_type(envs.seed(1), list[int])
    envs.close()
    assert_type(evaluate_policy(model.policy, envs, n_eval_episodes=2), tuple[float, float])
    assert_type(evaluate_policy(model, envs, return_episode_rewards=True), tuple[list[float], list[int]])
    logger = configure("runs", ["stdout", "csv"])
    assert_type(logger, Logger)
    logger.outputs.append(CSVOutput("more.csv"))
    logger.record("one", 1.0)
    model.logger = logger


def moved_here() -> None:
    env = VecNormalize(DummyVecEnv([lambda: Monitor(make(), "runs")]))
    assert_type(env.reset(), Observations)
    assert_type(as_in_stable_baselines("CartPole-v1", n_envs=2), VecEnv)
    register_policy("Mine", FeedForwardPolicy)


def derivatives(policy: Policy, obs: Array) -> None:
    value, J = linearize(lambda p: policy.pi(p, obs), policy.params)
    assert_type(value, Floats)
    assert_type(J.push(policy.params.flat), Floats)
    assert_type(policy.dist.entropy(value), Value)
    assert_type(J.pull(policy.dist.fisher(value, J.push(policy.params.flat))), Floats)
    assert_type(value_and_grad(lambda x: ops.sum(ops.square(x)), np.ones(3)), tuple[np.floating[Any], Floats])
    layer = nn.mlp("fc", [8, 8], ops.tanh, ("out", 1, 1.0))
    shape, weights = layer.init((4,))
    assert_type(shape, tuple[int, ...])
    assert_type(weights, dict[str, nn.Weight])
    assert_type(layer.apply(policy.params, obs), Value)
    assert_type(ops.exp(obs), Value)
