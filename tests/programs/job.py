"""A training job on several ranks, in which rank 1 may fail.

Usage: job.py raises | is_missing | lasts [OPTION...]. Ranks leave the numbers of their processes in
the files pid0, pid1, ...
"""

import os
import sys
from pathlib import Path

from ranks import RANK, fault
from toys import Shifted

from trpo_np import envs, run_mujoco
from trpo_np.app import jobs

MODE = sys.argv[1]
Path(f"pid{RANK}").write_text(str(os.getpid()))


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
OPTIONS = ["--env", "Toy", "--preset", "baselines", "--num-timesteps", "1e9", "--save", "m", *sys.argv[2:]]
jobs.main(lambda: run_mujoco.work(OPTIONS), "job")
