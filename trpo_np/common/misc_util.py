"""`set_global_seeds` at stable-baselines' path, for a script's random numbers."""

import random

import numpy as np

from ..settings import seed_script

__all__ = ["set_global_seeds", "set_random_seed"]


def set_global_seeds(seed: int) -> None:
    """Seed Python's and NumPy's global generators, and models that are given no seed of their own."""
    random.seed(seed)
    np.random.seed(seed)
    seed_script(seed)


set_random_seed = set_global_seeds
