"""Hyperparameters: their defaults, ranges and schedules, and how a file holds them.

NumPy is not imported at the top: options of the command line are made from this file, and `--help` should not
wait for it.
"""

import math
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

FIXED = ("dtype", "normalize_observations", "normalize_rewards")  # part of a model and its file


class LinearSchedule(NamedTuple):
    """A schedule on a straight line: `start` at the beginning of training, `end` at its end."""

    start: float
    end: float = 0.0

    def __call__(self, remaining: float) -> float:
        """Return the value at `remaining` progress, 1 at the beginning of training and 0 at its end."""
        return self.end + (self.start - self.end) * remaining


# --- checks -------------------------------------------------------------------------------------------------

def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is {value!r}; an integer of at least {least} is needed")


_SCRIPT: list[Any] = []  # the generator that draws the seeds of models that are given none, if there is one


def seed_script(seed: int) -> None:
    """Let models that are given no seed draw theirs from this one, from now on."""
    import numpy as np

    _SCRIPT[:] = [np.random.default_rng(seed)]


def checked_seed(seed: Any) -> int:
    """Return a seed as an int; a new one if it is None."""
    if seed is None:
        return int(_SCRIPT[0].integers(2**63)) if _SCRIPT else secrets.randbits(64)
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed is {seed!r}; an integer of at least 0, or None, is needed")
    return int(seed)


def nearest(name: Any, known: Iterable[str]) -> str:
    """Return a hint for an error message: the known name that is most like a misspelt one; "" if none is."""
    import difflib  # slow to load, and seldom needed

    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def install(extra: str) -> str:
    """Return the command that installs an extra of this package, for an error message."""
    return f"pip install 'trpo_np[{extra}]' (or, in the folder of its source, pip install '.[{extra}]')"


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or math.isinf(value):
        raise ValueError(f"{name} is {value!r}; a number from {low} to {high} is needed")


def _check_schedule(name: str, value: Any, low: float) -> None:
    if not callable(value):
        _check_number(name, value, low, math.inf)


def _check_switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; True or False is needed")


def _check_choice(name: str, value: Any, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; {' or '.join(map(repr, choices))} is needed")


# --- the settings, each with its default, its range and its meaning -----------------------------------------

def _field(default: Any, check: Callable, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={"check": partial(check, **limits), "help": help, **limits})


def _whole(default: int, least: int = 1, *, help: str) -> Any:
    return _field(default, check_count, help, least=least)


def _number(default: float, low: float = 0, high: float = math.inf, *, help: str) -> Any:
    return _field(default, _check_number, help, low=low, high=high)


def _schedule(default: float, low: float = 0, *, help: str) -> Any:
    return _field(default, _check_schedule, help, low=low)


def _switch(default: bool, *, help: str) -> Any:
    return _field(default, _check_switch, help)


def _choice(*choices: str, help: str) -> Any:
    return _field(choices[0], _check_choice, help, choices=choices)


# a number, or a function of the remaining progress (1 to 0), such as a LinearSchedule
Scheduled = float | LinearSchedule | Callable[[float], float]


@dataclass(frozen=True)
class Settings:
    """TRPO's hyperparameters; see TRPO for advice. A ValueError names the first one that makes no sense.

    `dataclasses.replace(settings, gamma=0.9)` makes a changed copy, which is checked too.
    """

    gamma: float = _number(
        0.99, 0, 1, help="discount, 0.99 to 0.999; nearer 1 where what counts comes late")
    timesteps_per_batch: int = _whole(
        1024, help="environment steps per update, see batch-of; more is slower and steadier")
    max_kl: Scheduled = _schedule(
        0.01, 1e-12, help="trust region, 0.001 (pixels) to 0.05; the setting to try first")
    cg_iters: int = _whole(
        10, help="Fisher products of the conjugate gradient")
    lam: float = _number(
        0.98, 0, 1, help="of GAE: trades variance (1) for bias (0), 0.9 to 1")
    entcoeff: Scheduled = _schedule(
        0.0, -math.inf, help="weight of the entropy bonus; 0.01 where rewards are rare")
    cg_damping: float = _number(
        1e-2, help="added to the Fisher matrix; 0.1 suits control tasks")
    vf_stepsize: Scheduled = _schedule(
        3e-4, help="stepsize of Adam, which fits the critic")
    vf_iters: int = _whole(
        3, 0, help="passes of the critic over the batch")
    vf_batch_size: int = _whole(
        128, help="samples per minibatch of the critic")
    fvp_subsample: int = _whole(
        5, help="curvature from every k-th sample; of a recurrent policy, from every k-th environment")
    linesearch_steps: int = _whole(
        10, help="how many ever shorter steps to try")
    linesearch_shrink: float = _number(
        0.5, 1e-12, 1, help="each of these is so many times the one before")
    kl_tolerance: float = _number(
        1.5, 1e-12, help="a step is accepted up to this multiple of max_kl")
    normalize_advantage: bool = _switch(
        True, help="to mean 0 and spread 1")
    normalize_observations: bool = _switch(
        False, help="by running statistics, which the model's file keeps")
    normalize_rewards: bool = _switch(
        False, help="by the running spread of returns")
    bootstrap_truncated: bool = _switch(
        True, help="value the state in which a time limit cut an episode")
    clip_rewards: bool = _switch(
        False, help="learn from rewards clipped to -1 .. 1; reports show the real returns")
    restarts: float = _number(
        0.0, 0, 1, help="each step's chance to break a training episode off; 0.005 suits control tasks")
    scale_steps: bool = _switch(
        False, help="shorten the step where a batch's advantages spread less than usual")
    sample_reuse: int = _whole(
        1, help="in how many updates a sample counts; 2 where steps are few")
    batch_of: str = _choice(
        "rank", "job", help="who has timesteps_per_batch and vf_batch_size: each rank so many, or the job, "
                            "whose ranks share them")
    dtype: str = _choice(
        "float32", "float64", help="float32, or float64 for checks")

    def __post_init__(self) -> None:
        for name, item in FIELDS.items():
            value = _plain(name, getattr(self, name))
            item.metadata["check"](name, value)
            object.__setattr__(self, name, value)  # the one write to what is frozen

    def at(self, name: str, remaining: float) -> float:
        """Return a setting's current value, which may depend on the `remaining` progress, from 1 to 0.

        Raise a ValueError if a schedule gives no finite number in the setting's range. It may always give 0,
        where many a schedule ends.
        """
        if not callable(schedule := getattr(self, name)):
            return schedule
        value, low = float(schedule(remaining)), min(0, FIELDS[name].metadata["low"])
        if not low <= value < math.inf:
            raise ValueError(f"{name} gave {value} where {remaining:.2g} of training remains; "
                             f"a number of at least {low} is needed")
        return value

    def for_rank(self, ranks: int) -> "Settings":
        """Return those of one of so many ranks, with its part of the job's batches: equal, rounded up."""
        if self.batch_of == "rank" or ranks == 1:
            return self
        shares = {name: -(-getattr(self, name) // ranks) for name in ("timesteps_per_batch", "vf_batch_size")}
        return replace(self, **shares, batch_of="rank")

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults."""
        return {name: value for name, value in vars(self).items() if value != FIELDS[name].default}

    def to_json(self) -> dict[str, Any]:
        """Return the settings for a file, which holds a mark in place of a function."""
        return {name: _write(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, data: dict) -> "Settings":
        """Read settings from a file's record; what an older file lacks has its default.

        A ValueError names the first setting that cannot be read.
        """
        return cls(**{name: _read(name, value) for name, value in data.items()})


FIELDS = {item.name: item for item in fields(Settings)}  # by name


def _plain(name: str, value: Any) -> Any:
    """Return a setting without NumPy's types, which JSON does not know: 0.5 of np.float32(0.5)."""
    import numpy as np

    if name != "dtype":
        return value.item() if isinstance(value, np.generic) else value
    try:
        return np.dtype(value).name
    except TypeError:
        return value


def _write(value: Any) -> Any:
    if isinstance(value, LinearSchedule):
        return {"linear": [float(value.start), float(value.end)]}
    return {"function": getattr(value, "__name__", repr(value))} if callable(value) else value


def _read(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"function"}:
        raise ValueError(f"{name} was the function {value['function']!r}, which a file cannot hold; "
                         f"give {name}=... again")
    try:
        start, end = value["linear"]
        return LinearSchedule(float(start), float(end))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}; a number or a linear schedule is needed") from None
