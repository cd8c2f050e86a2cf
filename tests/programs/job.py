"""A training job on several ranks, in which rank 1 may fail. Usage: job.py raises | is_missing | lasts."""

import sys

from ranks import fault
from toys import Shifted

from trpo_np import envs, run_mujoco
from trpo_np.app import jobs

MODE = sys.argv[1]


class Env(Shifted):
    def step(self, action):
        if MODE == "raises" and self.np_random.random() < 0.005 and fault():
            raise ValueError("a wheel came off")
        return super().step(action)


def make_env(*_, **__):
    if MODE == "is_missing" and fault():
        raise OSError("the simulator has no licence here")
    return Env()


envs.make_env = make_env
OPTIONS = ["--env", "Toy", "--preset", "baselines", "--num-timesteps", "1e9", "--save", "m"]
jobs.main(lambda: run_mujoco.work(OPTIONS), "job")
