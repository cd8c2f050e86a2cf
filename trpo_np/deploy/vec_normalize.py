"""The statistics in a vecnormalize.pkl of stable-baselines3 or stable-baselines, in this package's terms."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import spaces
from ..files.archive import FileError
from ..normalize import ObservationNormalizer, RewardNormalizer
from . import pickles
from .foreign import SPACE_NAMES

_CLASSES = {f"{library}.common.{name}" for library in ("stable_baselines3", "stable_baselines") for name in (
    "vec_env.vec_normalize.VecNormalize", "running_mean_std.RunningMeanStd")}
NAMES = SPACE_NAMES | _CLASSES | {"gymnasium.vector.vector_env.AutoresetMode"}


@dataclass
class Statistics:
    """What a VecNormalize kept, as normalize.Moments has it: count, mean and m2; None where it kept nothing.

    The m2 have the constant in them that VecNormalize adds to each variance.
    """

    observations: dict | None
    returns: dict | None
    notes: list[str]


def read(data: bytes, space: spaces.Space, where: str) -> Statistics:
    """Return the statistics for observations of `space`; FileErrors begin with `where`."""
    made = pickles.read(data, NAMES, where)
    if not isinstance(made, pickles.Made) or not made.name.endswith(".VecNormalize"):
        raise FileError(f"{where} is a pickle of something else than a VecNormalize")
    state = made.state
    if type(state) is not dict:
        raise FileError(f"{where}: the VecNormalize has no state")
    notes = []
    clip, clip_reward, epsilon = (_number(state, key, where)
                                  for key in ("clip_obs", "clip_reward", "epsilon"))
    observations = returns = None
    if _switch(state, "norm_obs", where):
        own = float(ObservationNormalizer(0, True).clip)
        if clip != own:
            raise FileError(f"{where}: clip_obs is {clip:g}; {own:g} is known here")
        observations = _observations(state, space, epsilon, own, where)
    if _switch(state, "norm_reward", where):
        returns = _moments(state.get("ret_rms"), (), epsilon, f"{where}: ret_rms")
        own = RewardNormalizer(True).clip
        if clip_reward != own:
            notes.append(f"rewards were clipped to {clip_reward:g} in training; from now on to {own:g}")
    return Statistics(observations, returns, notes)


def _observations(state: dict, space: spaces.Space, epsilon: float, clip: float, where: str) -> dict:
    """Return the moments of encoded observations, which are the fields of a Dict side by side."""
    rms = state.get("obs_rms")
    if not isinstance(space, spaces.Fields):
        return _moments(rms, space.shape, epsilon, f"{where}: obs_rms")
    if type(rms) is not dict:
        raise FileError(f"{where}: obs_rms is not that of a Dict")
    if strange := rms.keys() - set(space.keys):
        raise FileError(f"{where}: obs_rms has the field {min(strange)!r:.60}, the model's space has not")
    fields, count = [], 0.0
    for key, part in zip(space.keys, space.spaces):
        name = f"{where}: obs_rms[{key!r:.60}]"
        if key in rms:
            found = _moments(rms[key], part.shape, epsilon, name)
        else:  # neither shifted nor scaled there; here it is clipped like the others
            if isinstance(part, spaces.Box) and max(-part.low.min(), part.high.max()) > clip:
                raise FileError(f"{name} is missing, and the field is not within {-clip:g} and {clip:g}, to "
                                "which all fields are clipped here")
            found = {"count": 1.0, "mean": np.zeros(part.width), "m2": np.ones(part.width)}
        count = max(count, found["count"])
        fields.append(found)
    return {"count": np.array(count), "mean": np.concatenate([found["mean"] for found in fields]),
            "m2": np.concatenate([found["m2"] / found["count"] * count for found in fields])}


def _moments(value: Any, shape: tuple, epsilon: float, where: str) -> dict:
    state = value.state if isinstance(value, pickles.Made) else None
    if type(state) is not dict:
        raise FileError(f"{where} is no RunningMeanStd")
    mean, var, count = (pickles.array(state.get(key), f"{where}.{key}") for key in ("mean", "var", "count"))
    if mean.shape != shape or var.shape != shape or count.shape:
        raise FileError(f"{where} has moments of shapes {mean.shape} and {var.shape}; {shape} is needed")
    if not ((np.abs(mean) < 1e30).all() and (var >= 0).all() and (var < 1e60).all() and 0 < count < 1e18):
        raise FileError(f"{where} holds moments that are none: negative, not finite, or beyond float32")
    var = np.ravel(var).astype(np.float64) + epsilon
    total = float(count)
    return {"count": np.array(total), "mean": np.ravel(mean).astype(np.float64), "m2": var * total}


def _number(state: dict, key: str, where: str) -> float:
    value = pickles.array(state.get(key), f"{where}: {key}")
    if value.shape or not math.isfinite(value) or value < 0:
        raise FileError(f"{where}: {key} is no number")
    return float(value)


def _switch(state: dict, key: str, where: str) -> bool:
    if type(value := state.get(key)) is not bool:
        raise FileError(f"{where}: {key} is missing, or neither True nor False")
    return value
