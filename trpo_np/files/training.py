"""What a file holds so that training can go on: settings, counters, Adam's moments, the statistics of returns.

Random numbers need no state of their own: each update's generators are made from the seed and the number of the update.
"""

import hashlib
import json
import math
from typing import Any

import numpy as np

from .. import settings
from .archive import FileError

COUNTERS = ("num_timesteps", "updates", "skipped_updates", "episodes")


def training_record(model: Any) -> tuple[dict, dict]:
    """Return what `restore` needs of a TRPO: the fields of the record and the arrays."""
    progress = {name: getattr(model, name) for name in COUNTERS}
    progress |= {"seed": model.seed, "adam_steps": model.adam.t, "recent": [list(episode) for episode in model.recent]}
    arrays = {"adam_m": model.adam.m, "adam_v": model.adam.v}
    arrays |= {f"returns_{name}": array for name, array in model.reward_normalizer.moments.arrays().items()}
    return {"env_id": model.env_id, "algorithm": settings.to_json(model.settings), "progress": progress}, arrays


def fingerprint(model: Any) -> bytes:
    """Return a hash of all that a file of the model would hold, which is what all ranks share."""
    record, arrays = training_record(model)
    digest = hashlib.blake2b(json.dumps(record).encode(), digest_size=16)
    for array in (model.policy.params.flat, *model.policy.normalizer.arrays().values(), *arrays.values()):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def check_training(record: dict, entries: dict, policy: Any, known: dict, changes: dict) -> dict:
    """Return the settings of a record with `changes`; a FileError names what does not fit the policy and its optimiser.

    `known` holds every setting with its default.
    """
    algorithm = record.get("algorithm")
    if not isinstance(algorithm, dict):
        raise FileError(f"algorithm is {algorithm!r:.100}; the settings are needed")
    if strange := sorted(algorithm.keys() - known.keys()):
        raise FileError(f"algorithm.{strange[0]} is not a setting")
    for name, fixed in (("dtype", policy.dtype.name), ("normalize_observations", policy.normalizer.enabled)):
        for source in (algorithm, changes):
            if name in source and source[name] != fixed:
                raise FileError(f"{name} cannot be {source[name]!r}; the file's network was made with {fixed!r}")
    result = settings.checked(settings.from_json(known | algorithm | changes))

    if not isinstance(record.get("env_id"), (str, type(None))):
        raise FileError(f"env_id is {record['env_id']!r:.100}; the id of an environment, or null, is needed")
    progress = record.get("progress")
    if not isinstance(progress, dict):
        raise FileError(f"progress is {progress!r:.100}; the counters are needed")
    for name in (*COUNTERS, "seed", "adam_steps"):
        value = progress.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise FileError(f"progress.{name} is {value!r:.100}; an integer of at least 0 is needed")
    recent = progress.get("recent")
    if not (isinstance(recent, list) and all(_is_episode(item) for item in recent)):
        raise FileError(f"progress.recent is {recent!r:.100}; a list of [return, length] is needed")

    size = sum(math.prod(weight.shape) for weight in policy.critic_weights.values())
    needed = {"adam_m": (policy.dtype.name, (size,)), "adam_v": (policy.dtype.name, (size,)), "returns_count": ("float64", ()),
              "returns_mean": ("float64", (1,)), "returns_m2": ("float64", (1,))}
    found = {name.removeprefix("training/"): entry for name, entry in entries.items() if name.startswith("training/")}
    for name in needed.keys() | found.keys():
        if name not in found:
            raise FileError(f"training/{name} is missing; {' '.join(map(str, needed[name]))} is needed")
        if name not in needed:
            raise FileError(f"training/{name} is not a part of the training that the file describes")
        dtype, shape = np.dtype(found[name][0]).name, tuple(found[name][1])
        if (dtype, shape) != needed[name]:
            raise FileError(f"training/{name} is {dtype} {shape}; {' '.join(map(str, needed[name]))} is needed")
    return result


def restore(model: Any, record: dict, arrays: dict) -> None:
    """Put a TRPO back to where `training_record` was taken."""
    for name in ("adam_v", "returns_count", "returns_m2"):
        if np.any(arrays[name] < 0):
            raise FileError(f"training/{name} holds negative numbers, which squares and counts are not")
    progress = record["progress"]
    model.env_id = record.get("env_id")
    for name in COUNTERS:
        setattr(model, name, progress[name])
    model.recent.extend(map(tuple, progress["recent"]))
    model.adam.m, model.adam.v, model.adam.t = arrays["adam_m"], arrays["adam_v"], progress["adam_steps"]
    model.reward_normalizer.moments.restore({name: arrays[f"returns_{name}"] for name in ("count", "mean", "m2")})


def _is_episode(item: Any) -> bool:
    is_pair = isinstance(item, list) and len(item) == 2
    return is_pair and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in item)
