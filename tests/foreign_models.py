"""Models of stable-baselines3 and sb3-contrib, one of each kind that is converted, and some that are not.

Needs one of their versions 1.6 to 2.9, with gym or gymnasium; imported only where these are there.
"""

import os
from typing import NamedTuple

import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

OLD = int(stable_baselines3.__version__.split(".")[0]) < 2
if OLD:
    import gym
else:
    import gymnasium as gym
spaces = gym.spaces


class Expected(NamedTuple):
    """What the library computes: of raw observations the actions, means or normalised logits, and values."""

    obs: object
    actions: np.ndarray
    outputs: np.ndarray
    values: np.ndarray
    state: dict  # of the policy's tensors, as arrays


class Samples(gym.Env):
    """An environment whose observations are samples of its space: for models, nothing else matters."""

    metadata: dict = {}

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space, self.steps = observation_space, action_space, 0

    def reset(self, seed=None, options=None):
        self.steps = 0
        obs = self.observation_space.sample()
        return obs if OLD else (obs, {})

    def step(self, action):
        self.steps += 1
        obs, done = self.observation_space.sample(), self.steps >= 20
        return (obs, 1.0, done, {}) if OLD else (obs, 1.0, done, False, {})


def box(*shape, high=2.0, dtype="float32"):
    return spaces.Box(-high, high, shape, dtype=dtype)


def image(*shape):
    return spaces.Box(0, 255, shape, dtype=np.uint8)


def arch(pi, vf, *shared):
    return [*shared, dict(pi=pi, vf=vf)] if OLD else dict(pi=pi, vf=vf)


def dict_space():
    return spaces.Dict({"speed": box(3), "grid": box(2, 2), "mode": spaces.Discrete(4)})


class Kind(NamedTuple):
    algorithm: str
    policy: str
    observation: object
    action: object
    kwargs: dict = {}
    normalize: dict | None = None
    stack: int = 0
    options: dict = {}
    channels: str = "last"


SMALL = dict(net_arch=arch([8, 6], [7]))
NN = torch.nn
BOX, THREE = box(4), spaces.Discrete(3)
KINDS = {
    "ppo_default": Kind("PPO", "MlpPolicy", box(4, high=np.inf), spaces.Discrete(2)),
    "trpo_default": Kind("TRPO", "MlpPolicy", box(4, high=np.inf), box(2, high=0.5)),
    "a2c": Kind("A2C", "MlpPolicy", BOX, box(2), SMALL),
    "trpo_discrete": Kind("TRPO", "MlpPolicy", BOX, THREE, SMALL),
    "normalized": Kind("PPO", "MlpPolicy", box(5, high=np.inf), box(2), SMALL, {}),
    "normalized_float64": Kind("TRPO", "MlpPolicy", box(3, 2, dtype="float64"), box(3, 2, dtype="float64"),
                               SMALL, {}),
    "normalized_rewards": Kind("A2C", "MlpPolicy", BOX, THREE, SMALL, dict(norm_obs=False)),
    "relu": Kind("PPO", "MlpPolicy", BOX, THREE, dict(SMALL, activation_fn=NN.ReLU)),
    "elu_linear": Kind("PPO", "MlpPolicy", BOX, THREE, dict(net_arch=arch([], [8]), activation_fn=NN.ELU)),
    "sigmoid": Kind("A2C", "MlpPolicy", BOX, THREE, dict(SMALL, activation_fn=NN.Sigmoid)),
    "multidiscrete": Kind("PPO", "MlpPolicy", BOX, spaces.MultiDiscrete([3, 2, 5]), SMALL),
    "multibinary": Kind("TRPO", "MlpPolicy", BOX, spaces.MultiBinary(4), SMALL),
    "of_discrete": Kind("PPO", "MlpPolicy", spaces.Discrete(6), THREE, SMALL),
    "of_multidiscrete": Kind("PPO", "MlpPolicy", spaces.MultiDiscrete([3, 2, 5]), THREE, SMALL),
    "of_multibinary": Kind("PPO", "MlpPolicy", spaces.MultiBinary(5), box(1), SMALL),
    "of_bytes": Kind("A2C", "MlpPolicy", image(8), THREE, SMALL),
    "of_dict": Kind("PPO", "MultiInputPolicy", dict_space(), THREE, SMALL),
    "of_dict_normalized": Kind("TRPO", "MultiInputPolicy", dict_space(), THREE, SMALL,
                               dict(norm_obs_keys=["speed"])),
    "schedules": Kind("PPO", "MlpPolicy", BOX, THREE, SMALL,
                      options=dict(learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.1)),
    "images": Kind("PPO", "CnnPolicy", image(44, 36, 3), spaces.Discrete(4)),
    "images_first": Kind("TRPO", "CnnPolicy", image(3, 36, 44), box(2), channels="first"),
    "frames": Kind("A2C", "CnnPolicy", image(36, 36, 1), spaces.Discrete(4), stack=4),
    "images_unshared": Kind("PPO", "CnnPolicy", image(36, 36, 2), THREE,
                            dict(share_features_extractor=False, net_arch=arch([16], [8]))),
    "images_float": Kind("PPO", "CnnPolicy", spaces.Box(0, 1, (2, 36, 36), dtype=np.float32), THREE,
                         dict(normalize_images=False, features_extractor_kwargs=dict(normalized_image=True))),
}
REFUSED = {  # the kind, and what the error names
    "gsde": (Kind("PPO", "MlpPolicy", BOX, box(2), SMALL, options=dict(use_sde=True)), "use_sde"),
    "leaky": (Kind("PPO", "MlpPolicy", BOX, THREE, dict(SMALL, activation_fn=NN.LeakyReLU)), "LeakyReLU"),
    "flat_images": (Kind("PPO", "MlpPolicy", image(12, 12, 3), THREE, SMALL), "observation_space has images"),
    "dict_images": (Kind("PPO", "MultiInputPolicy", spaces.Dict({"eye": image(36, 36, 3), "at": box(2)}),
                         THREE, SMALL), "observation_space has images"),
    "narrow": (Kind("PPO", "CnnPolicy", image(36, 36, 3), THREE,
                    dict(features_extractor_kwargs=dict(features_dim=64))), "linear.0.weight"),
    "recurrent": (Kind("RecurrentPPO", "MlpLstmPolicy", BOX, THREE, SMALL), "RecurrentActorCriticPolicy"),
    "maskable": (Kind("QRDQN", "MlpPolicy", BOX, THREE), "sb3_contrib.qrdqn.policies.QRDQNPolicy"),
    "dqn": (Kind("DQN", "MlpPolicy", BOX, THREE), "stable_baselines3.dqn.policies.DQNPolicy"),
    "sac": (Kind("SAC", "MlpPolicy", BOX, box(2)), "stable_baselines3.sac.policies.SACPolicy"),
}
if not OLD:
    start = spaces.Discrete(3, start=1)
    REFUSED["start"] = Kind("PPO", "MlpPolicy", BOX, start, SMALL), "action_space.start is not 0"
    REFUSED["float_bytes"] = (Kind("PPO", "CnnPolicy", image(3, 36, 36), THREE,
                                   dict(normalize_images=False)), "normalize_images=False")
else:
    KINDS["shared"] = Kind("PPO", "MlpPolicy", BOX, THREE, dict(net_arch=arch([8], [7], 10)))
    del KINDS["images_unshared"], KINDS["images_float"]


def make(kind: Kind, folder, name: str, steps: int = 64, n_obs: int = 1000, fill=None) -> Expected:
    """Train a model for a few steps, shake or `fill` its tensors, save it; return what it computes."""
    for space in (kind.observation, kind.action):
        space.seed(0)
    env = DummyVecEnv([lambda: Samples(kind.observation, kind.action)] * 2)
    if kind.stack:
        env = VecFrameStack(env, kind.stack)
    if kind.normalize is not None:
        env = VecNormalize(env, **kind.normalize)
    cls = getattr(stable_baselines3, kind.algorithm, None) or getattr(sb3_contrib, kind.algorithm)
    sizes = dict(n_steps=32, batch_size=32) if kind.algorithm in ("PPO", "TRPO", "RecurrentPPO") else {}
    model = cls(kind.policy, env, policy_kwargs=dict(kind.kwargs), seed=0, device="cpu", **sizes,
                **kind.options)
    if steps:
        model.learn(steps)
    with torch.no_grad():
        for p in model.policy.parameters():
            p.copy_(p + 0.1 * (p.abs().mean() + 0.1) * torch.randn_like(p) if fill is None else fill(p))
    model.save(os.path.join(folder, f"{name}.zip"))
    if isinstance(env, VecNormalize):
        env.save(os.path.join(folder, f"{name}.pkl"))
    return expected(model, env, kind, n_obs) if n_obs else None


def expected(model, env, kind: Kind, n: int) -> Expected:
    """Let the library act on n observations of the environment, and value them."""
    space = env.observation_space if kind.stack else kind.observation
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        obs = seen = {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
    else:
        obs = seen = np.stack(samples)
    if isinstance(env, VecNormalize):
        seen = env.normalize_obs(obs)
    tensor = model.policy.obs_to_tensor(seen)[0]
    with torch.no_grad():
        values = model.policy.predict_values(tensor).numpy().ravel()
        parts = model.policy.get_distribution(tensor).distribution
    parts = parts if isinstance(parts, (list, tuple)) else [parts]
    outputs = [(part.mean if hasattr(part, "loc") else part.logits).numpy().reshape(n, -1) for part in parts]
    return Expected(obs, model.predict(seen, deterministic=True)[0], np.concatenate(outputs, 1), values,
                    {name: array.numpy() for name, array in model.policy.state_dict().items()})
