"""A model and its file: the policy, its statistics, the optimiser and the counters in one archive.

The record tells the policy's class, arguments and spaces, and how far training came. The arrays are
    parameters/<name>      the policy's and the critic's parameters, in the order of the flat vector
    observations/<name>    count, mean and m2 of the running statistics, if observations are normalised
                           (for images only count and mean)
    training/<name>        what only training needs: Adam's moments, the statistics of returns
A file that was saved with training=False has neither the last ones nor the critic's parameters. NumPy is all
that is needed to load and to predict.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import nn, ops, policies, spaces
from ..policies import NAMES, construct
from ..policies.base import Policy
from ..settings import nearest
from ..types import File
from .archive import (
    FileError,
    check_entries,
    check_not_negative,
    is_file_object,
    npz_path,
    read_archive,
    write_archive,
)

__all__ = ["FileError", "load_policy", "read_model", "resolve_policy", "write_model"]

OLD_LEAST_STD = 1e-4  # by no less did the first versions, whose files lack `least_std`, divide observations


def resolve_policy(policy: Any) -> type[Policy]:
    """Return the class of a policy given by class or by name."""
    if isinstance(policy, type) and issubclass(policy, Policy):
        return policy
    if isinstance(policy, str):
        policy = {"MultiInputPolicy": "MlpPolicy"}.get(policy, policy)  # an MlpPolicy takes a Dict
        if policy in NAMES:
            return getattr(policies, policy)
        if policy in policies.NAMED:
            return policies.NAMED[policy]
    raise ValueError(f"policy is {policy!r}; it can be {', '.join(map(repr, NAMES))}" + nearest(policy, NAMES)
                     + ", or a subclass of trpo_np.policies.Policy")


def write_model(path: Any, policy: Policy, policy_kwargs: dict, parameters: np.ndarray, observations: dict,
                record: dict, training: dict | None) -> Any:
    """Write a policy with the `record` and the arrays of its training; return the path, with its .npz.

    Without `training` (None) the file holds what acts, and no critic. A file object in place of the path is
    written to at its position, and returned.

    `parameters` (the flat vector) and `observations` (the statistics) are those to write, arrays that nothing
    changes meanwhile: another thread may be training the policy.
    """
    path = path if is_file_object(path) else npz_path(path)
    arrays = {f"parameters/{name}": array for name, array in policy.params.like(parameters).items()
              if training is not None or name in policy.policy_weights}
    if policy.normalizer.enabled:
        arrays |= {f"observations/{name}": array for name, array in observations.items()}
    arrays |= {f"training/{name}": array for name, array in (training or {}).items()}
    cls = type(policy)
    own = cls.__name__ in NAMES and getattr(policies, cls.__name__) is cls
    about = {"class": cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}",
             "kwargs": {key: _to_json(value) for key, value in policy_kwargs.items()},
             "normalize": policy.normalizer.enabled, "least_std": 0.0, "dtype": policy.dtype.name,
             "observation_space": policy.observation_space.to_json(),
             "action_space": policy.action_space.to_json(),
             "rng": policy.rng.bit_generator.state, **({} if training is not None else {"critic": False})}
    write_archive(path, arrays, {"policy": about, **record})
    return path


def read_model(path, policy: Any = None, policy_kwargs: dict | None = None,
               check_training: Callable | None = None) -> tuple[Policy, dict, dict, dict]:
    """Return the policy of a file, its keyword arguments, its record and the arrays of its training.

    `policy` (a class) and `policy_kwargs` are needed where the file names a class or a function that is not
    this package's own. `check_training(record, entries, policy)` may refuse the rest of the file before
    memory is taken for it.
    """
    if not isinstance(policy_kwargs, (dict, type(None))):
        raise ValueError(f"policy_kwargs is {policy_kwargs!r:.100}; "
                         "a dict of the policy's arguments is needed")
    built: list = []

    def check(record, entries):
        built.append(_build(record, entries, policy, policy_kwargs or {}))
        if check_training is not None:
            check_training(record, entries, built[0][0])

    record, arrays = read_archive(path, check)
    model, kwargs = built[0]
    weights = model.policy_weights | model.critic_weights
    absent = {} if has_critic(record) else model.critic_weights  # zeros: there is nothing to tell values by
    model.install({name: np.zeros(weight.shape) if name in absent else arrays[f"parameters/{name}"]
                   for name, weight in weights.items()})
    if model.normalizer.enabled:
        statistics = {name: arrays[f"observations/{name}"] for name in model.normalizer.arrays()}
        for name, array in statistics.items():
            if name != "mean":
                check_not_negative(f"{path}: observations/{name}", array)
        if "m2" in statistics and "least_std" not in record["policy"]:  # its policy was taught with 1e-4
            statistics["m2"] = np.maximum(statistics["m2"], statistics["count"] * OLD_LEAST_STD**2)
        model.normalizer.restore(statistics)
    try:
        model.rng.bit_generator.state = record["policy"]["rng"]
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise FileError(f"{path}: policy.rng is not the state of a PCG64 generator ({error})") from None
    training = {name.removeprefix("training/"): array for name, array in arrays.items()
                if name.startswith("training/")}
    return model, kwargs, record, training


def load_policy(path: File, policy: type[Policy] | str | None = None,
                policy_kwargs: dict[str, Any] | None = None, seed: int | None = None) -> Policy:
    """Return the policy of a file (a path or a binary file object), ready to `predict`; needs NumPy only.

    `policy` (the class) and `policy_kwargs` are needed where it is of your own or has functions of your own.
    `seed` is that of drawn actions: without one, workers that load the same file draw different ones.
    Raise FileNotFoundError, or a FileError (a ValueError) that names the field, if the file is damaged,
    hostile or does not fit.
    """
    return read_model(path, policy, policy_kwargs)[0].seed(seed)


def has_critic(record: dict) -> bool:
    """Say whether a file holds the critic too, as all do that were not saved with training=False."""
    return record["policy"].get("critic") is not False


def _build(record: dict, entries: dict, policy: Any, changes: dict) -> tuple[Policy, dict]:
    """Make the policy that a record describes, without parameters; refuse entries that it does not imply."""
    about = _field(record, "policy", dict)
    kwargs = dict(_field(about, "kwargs", dict, "policy.")) | changes
    for key, value in kwargs.items():
        if key not in changes and (absent := list(_absent(value))):
            raise FileError(f"policy.kwargs.{key} is, or has in it, {absent[0]!r}, which a file cannot hold; "
                            f"pass it with policy_kwargs={{{key!r}: ...}}")
    name = _field(about, "class", str, "policy.")
    if policy is None and name not in NAMES:
        raise FileError(f"policy.class is {name!r}, not one of {', '.join(NAMES)}; "
                        "pass the class with policy=")
    cls = resolve_policy(name if policy is None else policy)
    total = sum(math.prod(shape) for _, shape in entries.values())
    described, normalize = [], _field(about, "normalize", bool, "policy.")
    for key in ("net_arch", "layers"):
        if (widths := _count(kwargs.get(key))) > len(entries):  # each layer has weights in the file
            raise FileError(f"policy.kwargs.{key} names {widths} layers, the file has {len(entries)} arrays")
    for key in ("observation_space", "action_space"):
        try:
            space = spaces.from_json(_field(about, key, dict, "policy."))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise FileError(f"policy.{key} cannot be read ({type(error).__name__}: {error})") from None
        # each number has a weight or a mean in the file
        if space.width > total and not (cls.reads_pixels and not normalize):
            raise FileError(f"policy.{key} has {space.width} numbers, the file's arrays only {total}")
        described.append(space)
    try:
        dtype = _field(about, "dtype", str, "policy.")
        # statistics of each one-hot number: the file is of a version that knew no indices
        of_rows = entries.get("observations/mean", (None, ()))[1] == (described[0].width,)
        model = construct(cls, described[0], described[1], kwargs, normalize=normalize, dtype=dtype)
        if of_rows and model.observation_space.codes is not None:
            kwargs["indices"] = False
            model = construct(cls, described[0], described[1], kwargs, normalize=normalize, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise FileError(f"policy.kwargs do not make a {cls.__name__}: {error}") from None
    weights = model.policy_weights | (model.critic_weights if has_critic(record) else {})
    needed = {f"parameters/{name}": (model.dtype.name, weight.shape) for name, weight in weights.items()}
    if model.normalizer.enabled:
        needed |= {f"observations/{name}": ("float64", array.shape)
                   for name, array in model.normalizer.arrays().items()}
    own = {name: entry for name, entry in entries.items() if not name.startswith("training/")}
    check_entries(own, needed, "the policy")
    return model, kwargs


def _count(value: Any) -> int:
    """Return the number of values in nested lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_count, value)) if isinstance(value, list) else 1


def _absent(value: Any) -> Iterator:
    """Yield the names of the marks that `_to_json` left in an argument."""
    if isinstance(value, dict) and set(value) == {"function"}:
        yield value["function"]
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _absent(item)


def _field(record: dict, key: str, kind: type, prefix: str = ""):
    value = record.get(key)
    if not isinstance(value, kind):
        raise FileError(f"{prefix}{key} is {value!r:.100}; a {kind.__name__} is needed")
    return value


def _to_json(value: Any) -> Any:
    """Return an argument as JSON can hold it: an op as its name, what JSON does not know as a mark."""
    if callable(value) or isinstance(value, nn.Layer):
        name = getattr(value, "__name__", repr(value)).lstrip("_")
        return name if getattr(ops, name, None) is value and name in nn.ACTIVATIONS else {"function": name}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _to_json(item) for key, item in value.items()}
    value = value.item() if isinstance(value, np.generic) else value
    is_plain = value is None or isinstance(value, (bool, int, str))
    is_plain = is_plain or isinstance(value, float) and math.isfinite(value)
    return value if is_plain else {"function": repr(value)[:100]}
