"""Training in which one rank fails, in the way that the case says. Usage: failing.py CASE."""

import os
import resource
import sys
import time

import numpy as np
from ranks import RANK, On, fault, toy
from toys import Shifted

from trpo_np.callbacks import CheckpointCallback


class Raising(Shifted):
    def step(self, action):
        if self.steps == 5 and fault():
            raise ZeroDivisionError("in the environment")
        return super().step(action)


class Nan(Shifted):
    def step(self, action):
        obs, *rest = super().step(action)
        return (obs * np.nan if self.steps == 5 and fault() else obs), *rest


def environment():
    toy(Raising()).learn(1e9)


def nan():
    toy(Nan()).learn(1e9)


def callback():
    toy().learn(1e9, lambda *_: fault() and 1 / 0)


def learn():
    model = toy()
    model.policy.segment_values = lambda *_: fault() and 1 / 0 or time.sleep(30)
    model.learn(1e9)


def caught():
    try:
        callback()
    except ZeroDivisionError:
        time.sleep(100)


def exits():
    toy().learn(1e9, lambda *_: fault() and sys.exit("no more"))


def script():
    toy().learn(64)
    if fault():
        raise KeyError("my own mistake")
    toy().learn(1e9)


def pretrain():
    model = toy()
    model.policy.bound = lambda *_: fault() and 1 / 0
    model.pretrain((np.zeros((300, 3), "f"), np.zeros((300, 2), "f")))


def killed():
    toy().learn(1e9, lambda *_: fault() and os.kill(os.getpid(), 9))


def disk_full():
    def limit():  # the size of files, to some bytes
        if RANK == 0:
            open("fault", "w").write(str(time.time()))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    toy().learn(1e9, [On("_on_rollout_start", limit), CheckpointCallback(1, ".")])


def drift():
    """Change one bit of the optimiser of rank 2 after three updates."""
    def change():
        if RANK == 2 and model.updates == 3:
            model.adam.v[5] = np.nextafter(model.adam.v[5], np.float32(1))
    model = toy(normalize_observations=True)
    model.learn(1e9, On("_on_update_end", change))


def other_gamma():
    toy(gamma=0.99 - 0.01 * RANK).learn(1000)


def other_steps():
    toy().learn(1000 + RANK)


def own_communicator():
    """Fail behind the training, with a communicator that the script made."""
    from mpi4py import MPI

    model = toy(comm=MPI.COMM_WORLD).learn(64)
    if RANK == 1:
        raise ValueError("behind the training")
    model.comm.sum(1.0)


def success():
    """Leave in the midst of training, all ranks with success: that is no failure."""
    toy().learn(1e9, On("_on_rollout_end", lambda: sys.exit(0)))


CASES = [environment, nan, callback, learn, caught, exits, script, pretrain, killed, disk_full, drift,
         other_gamma, other_steps, own_communicator, success]

if __name__ == "__main__":
    {fun.__name__: fun for fun in CASES}[sys.argv[1]]()
