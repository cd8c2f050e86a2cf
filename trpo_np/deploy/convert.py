"""From other libraries' models to a file of ours, which can be evaluated, exported and trained on.

Nothing but NumPy is needed: neither torch nor TensorFlow nor pickle.
"""

import math
import os
from typing import Any

import numpy as np

from .. import policies
from ..files.archive import FileError, npz_path
from ..files.model import resolve_policy, write_model
from ..files.training import COUNTERS
from ..settings import Settings
from . import sb2, sb3, stored, vec_normalize
from .foreign import Foreign

_MAX_BYTES = 2**30
_SIGNATURES = {  # how files begin that people take for a model
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself, by git lfs pull",
    b"\x89HDF": "an HDF5 file, as Keras writes them", b"\x80": "a pickle", b"{": "JSON", b"<": "a web page",
    b"\x1f\x8b": "compressed by gzip", b"PK": "a zip"}


def convert(source: str | os.PathLike, target: str | os.PathLike, statistics: str | os.PathLike | None = None,
            channels: str = "last") -> list[str]:
    """Read a model of stable-baselines3, sb3-contrib or stable-baselines 2, and write it to `target`.npz.

    source: the .zip that `model.save` wrote: PPO, A2C or TRPO (any algorithm of stable-baselines 2 that has
    such a policy).
    statistics: the file that `VecNormalize.save` wrote, if the model was trained with one.
    channels: where the environment's images have them, "last" or "first".
    Return sentences that tell what was converted and what to look out for. Raise FileError (a ValueError)
    that names the file and the field for what is not known; no code of the files is ever run.
    """
    if channels not in ("last", "first"):
        raise ValueError(f"channels is {channels!r}; 'last' or 'first' is needed")
    out = npz_path(target)  # refuses what is no path, before the work
    for given in [source] if statistics is None else [source, statistics]:
        if os.path.exists(given) and os.path.exists(out) and os.path.samefile(given, out):
            raise ValueError(f"{out} is one of the files to read; name another to write")
    where = os.fsdecode(source)
    try:
        foreign = _read(_bytes(source), channels)
        found = None
        if statistics is not None:
            where = os.fsdecode(statistics)
            found = _statistics(_bytes(statistics), foreign)
            where = os.fsdecode(source)
        policy = _policy(foreign, found)
        settings = _settings(foreign, found)
    except FileError as error:
        raise FileError(f"{where}: {error}") from None
    written = write_model(target, policy, foreign.arguments, policy.params.flat, policy.normalizer.arrays(),
                          *_training(policy, foreign, settings, found))
    about = (f"{foreign.policy} with {policy.params.flat.size:,} parameters, trained for {foreign.steps:,} "
             f"steps, from {foreign.library}")
    return [f"{written}: {about}", *foreign.notes, *(found.notes if found else [])]


def _bytes(path: str | os.PathLike) -> bytes:
    """Return a file's content; raise FileNotFoundError, or FileError for what cannot be a model."""
    if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would wait for its writer
        raise FileError("is a folder, pipe or device; a file is needed")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 < size <= _MAX_BYTES:
            raise FileError(f"has {size} bytes; 1 to {_MAX_BYTES} are read")
        return file.read(size)


def _read(data: bytes, channels: str) -> Foreign:
    """Return the model in a zip's bytes; say of another file what it seems to be."""
    seems = next((what for start, what in _SIGNATURES.items() if data.startswith(start)), "no zip")
    if not data.startswith(b"PK"):
        raise FileError(f"is {seems}; the .zip that stable-baselines3's model.save wrote is needed")
    members = stored.members(data, "the zip")
    if {"data", "policy.pth"} <= members.keys():
        return sb3.read(members, channels)
    if {"data", "parameters"} <= members.keys():
        return sb2.read(members)
    raise FileError(f"is {_seems(members)}; the .zip of a model of stable-baselines3, sb3-contrib or "
                    "stable-baselines 2 is needed")


def _seems(members: dict) -> str:
    """Say what a zip seems to be, by its members' names."""
    names = list(members)
    if "meta.npy" in names:
        return "a model of this package already"
    if any(name.endswith("/data.pkl") for name in names):
        return "a file of torch.save, a member of the zip that is needed (policy.pth?)"
    if names and all(name.endswith(".npy") for name in names):
        return "an .npz of arrays"
    if "data" in names:
        return "a model without policy.pth, cut down"
    return f"a zip of {', '.join(map(repr, names[:3]))[:200]}" if names else "an empty zip"


def _statistics(data: bytes, foreign: Foreign) -> vec_normalize.Statistics:
    if not data.startswith(b"\x80"):
        raise FileError("is no pickle; the file that VecNormalize.save wrote is needed")
    found = vec_normalize.read(data, foreign.observation_space, "the statistics")
    if found.observations is not None and foreign.policy == "CnnPolicy":
        raise FileError("has statistics of images; here images are only divided by 255")
    return found


def _policy(foreign: Foreign, found: vec_normalize.Statistics | None) -> Any:
    """Make our policy of a foreign one; a FileError names the tensor that does not fit."""
    total = sum(array.size for array in foreign.parameters.values())
    cls = resolve_policy(foreign.policy)
    for what, space in (("observation", foreign.observation_space), ("action", foreign.action_space)):
        if space.width > total and not (what == "observation" and cls.reads_pixels):
            raise FileError(f"the {what} space has {space.width} numbers, the policy only {total} parameters")
    if foreign.normalized and found is None:
        foreign.notes.append("it was trained with VecNormalize: give the file of VecNormalize.save too, or "
                             "it will see observations of another size than it knows")
    normalize = found is not None and found.observations is not None
    try:
        policy = policies.construct(cls, foreign.observation_space, foreign.action_space, foreign.arguments,
                                    dtype="float32", normalize=normalize)
    except ValueError as error:
        raise FileError(f"its arguments do not make a {foreign.policy}: {error}") from None
    weights = policy.policy_weights | policy.critic_weights
    for name, weight in weights.items():
        shape, theirs = np.shape(foreign.parameters.get(name, ())), foreign.origin.get(name, "nothing")
        if shape != weight.shape:
            raise FileError(f"{theirs}, for {name}, has shape {shape} here; the spaces and the other layers "
                            f"need {weight.shape}")
        if not np.isfinite(foreign.parameters[name]).all():
            raise FileError(f"{theirs}, for {name}, holds numbers that are not finite: training went wrong")
    policy.install(foreign.parameters)
    if found is not None and found.observations is not None:
        policy.normalizer.restore(found.observations)
        spread = np.sqrt(found.observations["m2"] / found.observations["count"])
        if (other := np.flatnonzero(np.abs(policy.normalizer.factor[0] * spread - 1) > 1e-4)).size:
            which = ", ".join(map(str, other[:10]))
            foreign.notes.append(f"numbers {which} of an observation (counted over all fields) were constant "
                                 "in training; should they change, they are scaled in another way here")
    return policy


def _settings(foreign: Foreign, found: vec_normalize.Statistics | None) -> Settings:
    """Return TRPO's settings to train on with; what the other library did not know is our default."""
    try:
        return Settings(**foreign.settings,
                        normalize_observations=found is not None and found.observations is not None,
                        normalize_rewards=found is not None and found.returns is not None)
    except ValueError as error:
        raise FileError(f"data: {error}") from None


def _training(policy: Any, foreign: Foreign, settings: Settings,
              found: vec_normalize.Statistics | None) -> tuple[dict, dict]:
    """Return the record and the arrays that training goes on from: a new optimiser, old statistics."""
    size = sum(math.prod(weight.shape) for weight in policy.critic_weights.values())
    returns = found.returns if found else None
    if returns is None:
        returns = {"count": np.array(0.0), "mean": np.zeros(1), "m2": np.zeros(1)}
    progress = dict.fromkeys(COUNTERS, 0) | {"num_timesteps": foreign.steps, "seed": 0, "adam_steps": 0,
                                             "recent": []}
    arrays = {"adam_m": np.zeros(size, policy.dtype), "adam_v": np.zeros(size, policy.dtype)}
    return ({"env_id": None, "algorithm": settings.to_json(), "progress": progress},
            arrays | {f"returns_{name}": array for name, array in returns.items()})
