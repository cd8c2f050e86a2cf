"""The part of a file that training goes on from: settings, counters, Adam's moments, statistics of returns.

Random numbers need no state here: the generators of an update are made from the seed and the update's number.
"""

import hashlib
import json
import math
from typing import Any

import numpy as np

from ..settings import FIELDS, Settings
from .archive import FileError, check_entries, check_not_negative
from .plain import MOST, unpack

COUNTERS = ("num_timesteps", "updates", "skipped_updates", "episodes", "failures")


def training_record(model: Any, state: Any) -> tuple[dict, dict]:
    """Return the fields of the record and the arrays from which `restore` puts a TRPO back.

    state: the model's snapshot (snapshot.py).
    """
    m, v, t = state.adam
    recent = [list(episode) for episode in state.recent]
    progress = {**state.counters, "seed": model.seed, "adam_steps": t, "recent": recent}
    if any(success is not None for success in state.successes):
        progress["successes"] = state.successes
    if model.cut_every:
        progress["cut_every"] = model.cut_every
    if state.usual["count"]:
        progress["usual_spread"] = state.usual
    arrays = {"adam_m": m, "adam_v": v}
    if state.running is not None:
        arrays["running"] = np.frombuffer(state.running, np.uint8)
    arrays |= {f"returns_{name}": array for name, array in state.returns.items()}
    return {"env_id": model.env_id, "algorithm": model.settings.to_json(), "progress": progress}, arrays


def fingerprint(model: Any, state: Any) -> bytes:
    """Return a hash of all that a file of this state of the model would hold; it is the same on all ranks."""
    record, arrays = training_record(model, state)
    digest = hashlib.blake2b(json.dumps(record).encode(), digest_size=16)
    for array in (state.parameters, *state.observations.values(), *arrays.values()):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def check_training(record: dict, entries: dict, policy: Any, changes: dict) -> None:
    """Raise a FileError that names the first thing in a file that does not fit the policy and its optimiser.

    `entries` maps the file's arrays to (dtype, shape); `changes` are settings that replace those of the
    record.
    """
    algorithm = record.get("algorithm")
    if record["policy"].get("critic") is False:
        raise FileError("was saved with training=False, and holds what acts but neither critic nor settings; "
                        "load_policy reads it, and load_parameters(path, exact_match=False) of a new model "
                        "takes its policy over, to train on")
    if not isinstance(algorithm, dict):
        raise FileError(f"algorithm is {algorithm!r:.100}; the settings are needed")
    if strange := sorted(algorithm.keys() - FIELDS.keys()):
        raise FileError(f"algorithm.{strange[0]} is not a setting")
    for name, fixed in (("dtype", policy.dtype.name), ("normalize_observations", policy.normalizer.enabled)):
        for source in (algorithm, changes):
            if name in source and source[name] != fixed:
                raise FileError(f"{name} cannot be {source[name]!r}; the file's network was made with "
                                f"{fixed!r}")
    Settings.from_json(algorithm | changes)  # or a ValueError
    if not isinstance(record.get("env_id"), (str, type(None))):
        raise FileError(f"env_id is {record['env_id']!r:.100}; the id of an environment, or null, is needed")
    _check_progress(record.get("progress"))
    size = sum(math.prod(weight.shape) for weight in policy.critic_weights.values())
    adam, number = (policy.dtype.name, (size,)), ("float64", (1,))
    needed = {"adam_m": adam, "adam_v": adam,
              "returns_count": ("float64", ()), "returns_mean": number, "returns_m2": number}
    found = {name: entry for name, entry in entries.items() if name.startswith("training/")}
    _, shape = found.get("training/running", (None, (0,)))
    if "training/running" in found:
        needed["running"] = "uint8", (min(math.prod(shape), MOST),)
    check_entries(found, {f"training/{name}": entry for name, entry in needed.items()}, "the training")


def _check_progress(progress: Any) -> None:
    if not isinstance(progress, dict):
        raise FileError(f"progress is {progress!r:.100}; the counters are needed")
    for name in (*COUNTERS, "seed", "adam_steps"):
        value = progress.get(name, 0 if name == "failures" else None)  # files of version 0.1 do not have it
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise FileError(f"progress.{name} is {value!r:.100}; an integer of at least 0 is needed")
    recent = progress.get("recent")
    if not (isinstance(recent, list) and all(_is_episode(item) for item in recent)):
        raise FileError(f"progress.recent is {recent!r:.100}; a list of [return, length] is needed")
    cuts = progress.get("cut_every", [])
    if not (isinstance(cuts, list) and all(type(every) is int and every > 0 for every in cuts)):
        raise FileError(f"progress.cut_every is {cuts!r:.100}; a list of numbers of steps is needed")
    said = progress.get("successes", [])
    if not (isinstance(said, list) and all(success in (True, False, None) for success in said)):
        raise FileError(f"progress.successes is {said!r:.100}; a list of true, false and null is needed")
    usual = progress.get("usual_spread", {"square": 0.0, "count": 0})
    if not (isinstance(usual, dict) and set(usual) == {"square", "count"} and all(
            isinstance(x, (int, float)) and 0 <= x < math.inf for x in usual.values())):
        raise FileError(f"progress.usual_spread is {usual!r:.100}; square and count are needed")


def restore(model: Any, record: dict, arrays: dict) -> None:
    """Put a TRPO back into the state that `training_record` describes."""
    for name in ("adam_v", "returns_count", "returns_m2"):
        check_not_negative(f"training/{name}", arrays[name])
    progress = record["progress"]
    model.env_id = record.get("env_id")
    for name in COUNTERS:
        setattr(model, name, progress.get(name, 0))
    model.recent.extend(map(tuple, progress["recent"]))
    model.successes.extend(progress.get("successes", [None] * len(model.recent)))
    vars(model.usual_spread).update(progress.get("usual_spread", {}))
    model.adam.m, model.adam.v, model.adam.t = arrays["adam_m"], arrays["adam_v"], progress["adam_steps"]
    moments = {name: arrays[f"returns_{name}"] for name in ("count", "mean", "m2")}
    model.reward_normalizer.moments.restore(moments)
    model.cut_every = progress.get("cut_every", [])
    if "running" in arrays:
        model.held = arrays["running"].tobytes()
        _check_running(model.held, model.policy)


def _check_running(held: bytes, policy: Any) -> None:
    """Raise a FileError that names what does not fit in the state of episodes under way."""
    try:
        state = unpack(held)
    except FileError as error:
        raise FileError(f"training/running: {error}") from None
    names = ["obs", "returns", "lengths", "starts", "whole", "memory", "envs", "sums"]
    if isinstance(state, dict) and "whole" not in state:  # of before episodes could be broken off
        names.remove("whole")
    if isinstance(state, dict) and "earlier" in state:
        names.insert(names.index("memory"), "earlier")
    if not isinstance(state, dict) or list(state) != names or not isinstance(state["envs"], list):
        raise FileError(f"training/running does not hold {', '.join(names)}")
    n = len(state["envs"])
    alike = [name for name in ("returns", "lengths", "starts", "whole", "sums") if name in state]
    needed = {"obs": (n, *policy.observation_space.rows), **dict.fromkeys(alike, (n,))}
    kinds = {"starts": "b", "whole": "b", "lengths": "i"}
    _check_arrays(state, needed, kinds, n, policy)
    earlier = state.get("earlier", [])
    for samples in earlier if isinstance(earlier, list) else [earlier]:
        _check_samples(samples, n, policy)


def _check_arrays(found: dict, needed: dict, kinds: dict, n: int, policy: Any) -> None:
    """Raise a FileError unless arrays have these shapes and kinds, and `memory` is of n environments."""
    memory = found["memory"]
    wanted = {name: (n, *array.shape[1:]) for name, array in policy.new_memory(0).items()}
    if not isinstance(memory, dict) or memory.keys() != wanted.keys():
        raise FileError("training/running: its memory is not that of the policy")
    for name, shape in (needed | wanted).items():
        array = (found | memory)[name]
        fits = isinstance(array, np.ndarray) and array.shape == shape
        if not (fits and array.dtype.kind in kinds.get(name, "fiu") and np.isfinite(array).all()):
            raise FileError(f"training/running: {name} is not of finite numbers of shape {shape}")


def _check_samples(samples: Any, n: int, policy: Any) -> None:
    """Raise a FileError that names what does not fit in samples that count in further updates."""
    rows, switches = policy.observation_space.rows, ["terminated", "truncated", "valid", "over", "starts"]
    names = ["obs", "actions", "rewards", *switches, "last_obs", "logp", "memory", "final"]
    if not isinstance(samples, dict) or list(samples) != names:
        raise FileError(f"training/running: samples do not hold {', '.join(names)}")
    rewards, actions = samples["rewards"], samples["actions"]
    steps = len(rewards) if isinstance(rewards, np.ndarray) and rewards.ndim else 0
    needed = dict.fromkeys(["rewards", "logp", *switches], (steps, n))
    needed |= {"obs": (steps, n, *rows), "last_obs": (n, *rows),
               "actions": (steps, n, *policy.dist.action_shape)}
    _check_arrays(samples, needed, dict.fromkeys(switches, "b"), n, policy)
    final = samples["final"] if isinstance(samples["final"], list) else [None]
    for item in final:
        t, i, row = item if isinstance(item, tuple) and len(item) == 3 else (None, None, None)
        fits = type(t) is type(i) is int and t in range(steps) and i in range(n)
        if not (fits and isinstance(row, np.ndarray) and row.shape == rows and row.dtype.kind in "fiu"
                and np.isfinite(row).all()):
            raise FileError("training/running: samples' last observations do not fit")
    try:  # actions that there are not have no probability; the least and the largest tell of all
        ends = np.stack([actions.min((0, 1)), actions.max((0, 1))])
        policy.dist.logp(np.zeros((2, policy.dist.size)), ends)
    except (IndexError, ValueError, TypeError):
        raise FileError("training/running: samples' actions do not fit") from None
    if actions.dtype.kind in "iu" and ends.min() < 0:
        raise FileError("training/running: samples' actions do not fit")


def _is_episode(item: Any) -> bool:
    is_pair = isinstance(item, list) and len(item) == 2
    return is_pair and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in item)
