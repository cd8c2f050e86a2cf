"""Make the golden files of the current format: python tests/golden/make.py (from the repository's folder).

A released format's files are never made again: they show that a later reader still reads them.
"""

import json
import os
import sys

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

from trpo_np import TRPO
from trpo_np.files import archive
from trpo_np.settings import LinearSchedule

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = {
    "cartpole": (lambda: gymnasium.make("CartPole-v1"),
                 dict(policy_kwargs=dict(net_arch=[6, dict(pi=[5], vf=[4])], act_fun="relu"),
                      max_kl=LinearSchedule(0.02, 0.01))),
    "pendulum": (lambda: gymnasium.make("Pendulum-v1"),
                 dict(policy_kwargs=dict(layers=[6, 5], log_std_init=-0.5), normalize_observations=True,
                      normalize_rewards=True)),
}


def main() -> None:
    expected = {}
    for name, (make_env, settings) in CASES.items():
        env = SyncVectorEnv([make_env] * 2)
        model = TRPO("MlpPolicy", env, timesteps_per_batch=256, seed=7, vf_iters=5, **settings).learn(512)
        obs = np.random.default_rng(0).standard_normal((8, model.policy.observation_space.width)).round(3)
        path = model.save(os.path.join(HERE, f"format{archive.FORMAT}_{name}"))
        expected[name] = dict(obs=obs.tolist(), actions=model.predict(obs, deterministic=True)[0].tolist(),
                              probability=[np.asarray(part).tolist()
                                           for part in model.action_probability(obs)],
                              num_timesteps=model.num_timesteps, updates=model.updates,
                              adam_steps=model.adam.t)
        print(path, os.path.getsize(path), "bytes")
    with open(os.path.join(HERE, f"format{archive.FORMAT}.json"), "w") as file:
        json.dump(expected, file, indent=1)


if __name__ == "__main__":
    sys.exit(main())
