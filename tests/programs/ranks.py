"""What the programs in this folder share, which tests/test_mpi.py runs under mpiexec."""

import os
import time

from toys import Shifted

from trpo_np import TRPO
from trpo_np.callbacks import BaseCallback

RANK = int(os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK", 0))


def fault():
    """Return True on rank 1, and note when that was in the file `fault`."""
    return RANK == 1 and open("fault", "w").write(str(time.time())) > 0


class On(BaseCallback):
    """Call a function at one hook."""

    def __init__(self, hook, fun):
        super().__init__()
        setattr(self, hook, fun)


def toy(env=None, comm=None, policy="MlpPolicy", **settings):
    """Make a small model, in an environment of this rank."""
    usual = {"seed": 3, "timesteps_per_batch": 64, "vf_batch_size": 16,
             "policy_kwargs": dict(net_arch=[dict(pi=[8], vf=[8])])}
    return TRPO(policy, env or Shifted(), comm=comm, **{**usual, **settings})
