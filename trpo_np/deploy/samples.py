"""Observations to try an exported policy on, and what the policy does with them.

`compared` makes sure that the steps compute what `predict` does, whatever the class of the policy.
"""

from typing import Any, NamedTuple

import numpy as np

from .. import spaces
from ..policies.base import Policy
from .reference import act
from .steps import Field, Program, normalized, run


class Pairs(NamedTuple):
    """Observations, one after the other, and what the policy makes of them."""

    obs: np.ndarray  # (T, size), flattened
    starts: np.ndarray  # (T,), where an episode starts
    outputs: np.ndarray  # (T, k)
    actions: np.ndarray  # (T, m), flattened


def noise_bytes(seed: int, n: int) -> np.ndarray:
    """Return n bytes that any language makes: the upper ones of s = 1664525 s + 1013904223 mod 2^32."""
    out, s = np.empty(n, np.uint8), seed
    for i in range(n):
        s = (1664525 * s + 1013904223) & 0xFFFFFFFF
        out[i] = s >> 24
    return out


def draw(program: Program, policy: Policy, n: int, seed: int = 0) -> np.ndarray:
    """Return n flattened observations (n, size) that the space allows, of numbers near those of training."""
    rng, parts = np.random.default_rng(seed), []
    moments = getattr(policy.normalizer, "moments", None)
    for field, columns in zip(program.fields, normalized(policy, program.fields)):
        mean, std = 0.0, 1.0
        if moments is not None and policy.normalizer.enabled and columns is not None:
            mean, std = moments.mean[columns], moments.std[columns]
        parts.append(_draw(field, rng, n, mean, std, seed))
    return np.concatenate(parts, 1)


def _draw(field: Field, rng, n: int, mean, std, seed: int) -> np.ndarray:
    space, size = field.space, field.stop - field.start
    if isinstance(space, spaces.Image):
        unit = 1.0 if space.is_bytes else np.float32(np.max(space.high) / 255)
        return noise_bytes(seed, n * size).reshape(n, size).astype(np.float32) * unit
    if isinstance(space, spaces.Box):
        x = mean + std * rng.normal(size=(n, size))
        x = np.clip(x, np.ravel(space.low), np.ravel(space.high))
        return (np.rint(x) if np.dtype(space.dtype).kind in "iub" else x).astype(space.precision)
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.start, space.start + space.n, (n, 1)).astype(np.float32)
    if isinstance(space, spaces.MultiDiscrete):
        return (np.array(space.start) + rng.integers(space.nvec, size=(n, size))).astype(np.float32)
    return rng.integers(0, 2, (n, size)).astype(np.float32)


def nested(policy: Policy, program: Program, rows: np.ndarray) -> Any:
    """Return flattened observations (n, size) as the environment gives a batch of them."""
    def of(space, path):
        if isinstance(space, spaces.Fields):
            parts = {key: of(part, (*path, key)) for key, part in zip(space.keys, space.spaces)}
            return parts if space.kind == "Dict" else tuple(parts.values())
        [field] = [field for field in program.fields if field.path == path]
        x = rows[:, field.start:field.stop].reshape(len(rows), *field.shape)
        integer = not isinstance(space, spaces.Box) or np.dtype(space.dtype).kind in "iub"
        return x.astype(np.int64 if not isinstance(space, spaces.Box) else space.dtype) if integer else x
    return of(policy.observation_space, ())


def pairs(program: Program, policy: Policy, n: int, seed: int = 0) -> Pairs:
    """Return n observations as one sequence, whose second half is another episode, and the actions."""
    obs, starts = draw(program, policy, n, seed), np.zeros(n, bool)
    starts[[0, n // 2]] = True
    outputs, memory = [], np.zeros((1, program.memory), np.float32)
    for row, start in zip(obs, starts):
        y, memory = run(program, row[None], memory * (not start))
        outputs.append(y[0])
    stacked = np.stack(outputs)
    return Pairs(obs, starts, stacked, act(program.action, stacked))


def compared(program: Program, policy: Policy, n: int = 32) -> float:
    """Return the largest difference between the outputs of the steps and of the policy itself, over n steps.

    A ValueError says that they do not compute the same.
    """
    tried, worst, state = pairs(program, policy, n, seed=1), 0.0, None
    dist: Any = policy.dist
    for i, row in enumerate(tried.obs):
        obs, mask = nested(policy, program, row[None]), np.array([tried.starts[i]])
        params, _, state = policy.distribution(obs, state, mask)
        theirs = dist.location(params)
        ours = tried.outputs[i][None].astype(theirs.dtype)
        worst = max(worst, float(np.max(np.abs(theirs - ours) / (1 + np.abs(theirs)))))
        actions = np.reshape(policy.to_env(dist.settle(ours)), (1, -1)).astype(float)
        if not np.allclose(actions, act(program.action, ours), rtol=1e-6) or not worst < 1e-4:
            raise ValueError(f"the layers of {type(policy).__name__} do not say all that it computes: they "
                             f"give {act(program.action, ours)[0]} where predict gives {actions[0]}; a class "
                             "that replaces `pi`, `decode`, `observe` or `to_env` cannot be exported")
    return worst
