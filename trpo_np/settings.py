"""Hyperparameters as plain values: checked, scheduled, written to the file and read back."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

SCHEDULED = ("max_kl", "vf_stepsize", "entcoeff")  # may be functions of the remaining progress
WHOLE = {"timesteps_per_batch": 1, "cg_iters": 1, "vf_iters": 0, "vf_batch_size": 1, "fvp_subsample": 1, "linesearch_steps": 1}
RANGES = {"gamma": (0, 1), "lam": (0, 1), "max_kl": (1e-12, math.inf), "cg_damping": (0, math.inf),
          "vf_stepsize": (0, math.inf), "entcoeff": (-math.inf, math.inf), "linesearch_shrink": (1e-12, 1),
          "kl_tolerance": (1e-12, math.inf)}
SWITCHES = ("normalize_advantage", "normalize_observations", "normalize_rewards", "bootstrap_truncated", "clip_rewards")


class LinearSchedule(NamedTuple):
    """A schedule: from `start` at the beginning of training straight to `end` at its end."""

    start: float
    end: float = 0.0

    def __call__(self, remaining: float) -> float:
        """Return the value at `remaining` progress, 1 at the beginning and 0 at the end."""
        return self.end + (self.start - self.end) * remaining


def now(settings: dict, name: str, remaining: float) -> float:
    """Return a number among the settings, of a schedule that at `remaining` progress; a ValueError if it makes no sense."""
    if not callable(settings[name]):
        return settings[name]
    value, low = float(settings[name](remaining)), min(RANGES[name][0], 0)  # 0 is where many a schedule ends
    if not low <= value < math.inf:
        raise ValueError(f"{name} gave {value} where {remaining:.2g} of training remains; a number of at least {low} is needed")
    return value


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError unless a setting is an integer of at least so many."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} is {value!r}; an integer of at least {least} is needed")


def nearest(name: Any, known: Iterable[str]) -> str:
    """Return a hint at the known name that is most like a misspelt one, to end an error message with; "" if none is."""
    import difflib  # slow to load, and seldom needed

    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def checked_seed(seed: Any) -> int:
    """Return a seed as an int, a new one for None."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}; an integer of at least 0, or None, is needed")
    return int(seed)


def checked(settings: dict) -> dict:
    """Return the settings as plain Python values; a ValueError names the first one that makes no sense."""
    result: dict[str, Any] = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    for name, least in WHOLE.items():
        check_count(name, result[name], least)
    for name, (low, high) in RANGES.items():
        value = result[name]
        if callable(value) and name in SCHEDULED:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or math.isinf(value):
            raise ValueError(f"{name} is {value!r}; a number from {low} to {high} is needed")
    for name in SWITCHES:
        if not isinstance(result[name], bool):
            raise ValueError(f"{name} is {result[name]!r}; True or False is needed")
    try:
        result["dtype"] = np.dtype(result["dtype"]).name
    except TypeError:
        pass
    if result["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype is {result['dtype']!r}; 'float32' or 'float64' is needed")
    return result


def to_json(settings: dict) -> dict:
    """Write settings for the file; a function, which a file cannot hold, as a mark that the caller must bring it again."""
    def plain(value):
        if isinstance(value, LinearSchedule):
            return {"linear": [float(value.start), float(value.end)]}
        return {"function": getattr(value, "__name__", repr(value))} if callable(value) else value
    return {name: plain(value) for name, value in settings.items()}


def from_json(settings: dict) -> dict:
    """Read settings back; a ValueError names the one that cannot be read."""
    result = dict(settings)
    for name, value in settings.items():
        if isinstance(value, dict) and set(value) == {"function"}:
            raise ValueError(f"{name} was the function {value['function']!r}, which a file cannot hold; give {name}=... again")
        if isinstance(value, dict):
            try:
                start, end = value["linear"]
                result[name] = LinearSchedule(float(start), float(end))
            except (KeyError, TypeError, ValueError):
                raise ValueError(f"{name} is {value!r}; a number or a linear schedule is needed") from None
    return result
