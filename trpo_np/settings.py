"""Hyperparameters as plain values: checked, scheduled, written to the file and read back."""

import math
from typing import Any, NamedTuple

import numpy as np


class LinearSchedule(NamedTuple):
    """A schedule: from `start` at the beginning of training straight to `end` at its end."""

    start: float
    end: float = 0.0

    def __call__(self, remaining: float) -> float:
        """Return the value at `remaining` progress, 1 at the beginning and 0 at the end."""
        return self.end + (self.start - self.end) * remaining


def check_settings(settings: dict) -> None:
    """Raise a ValueError that names the first setting that makes no sense."""
    whole = {"timesteps_per_batch": 1, "cg_iters": 1, "vf_iters": 0, "vf_batch_size": 1, "fvp_subsample": 1, "linesearch_steps": 1}
    for name, least in whole.items():
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} is {value!r}; an integer of at least {least} is needed")
    ranges = {"gamma": (0, 1), "lam": (0, 1), "max_kl": (1e-12, math.inf), "cg_damping": (0, math.inf), "vf_stepsize": (0, math.inf),
              "entcoeff": (-math.inf, math.inf), "linesearch_shrink": (1e-12, 1), "kl_tolerance": (1e-12, math.inf)}
    for name, (low, high) in ranges.items():
        value = settings[name]
        if callable(value) and name in ("max_kl", "vf_stepsize"):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not low <= value <= high or math.isinf(value):
            raise ValueError(f"{name} is {value!r}; a number from {low} to {high} is needed")
    if np.dtype(settings["dtype"]).name not in ("float32", "float64"):
        raise ValueError(f"dtype is {settings['dtype']!r}; 'float32' or 'float64' is needed")


def now(value: Any, remaining: float) -> float:
    """Evaluate a schedule."""
    return float(value(remaining)) if callable(value) else value


def to_json(value: Any) -> Any:
    if isinstance(value, LinearSchedule):
        return {"linear": [value.start, value.end]}
    if callable(value):
        raise ValueError(f"a file cannot hold the function {value!r}; use trpo_np.settings.LinearSchedule(start, end), or a number")
    return value


def from_json(value: Any) -> Any:
    return LinearSchedule(*value["linear"]) if isinstance(value, dict) else value
