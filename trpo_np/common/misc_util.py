"""`set_global_seeds` at stable-baselines' path, for a script's own random numbers."""

import random

import numpy as np

__all__ = ["set_global_seeds", "set_random_seed"]


def set_global_seeds(seed: int) -> None:
    """Seed Python's and NumPy's global generators; a model uses neither: give it `seed=`."""
    random.seed(seed)
    np.random.seed(seed)


set_random_seed = set_global_seeds
