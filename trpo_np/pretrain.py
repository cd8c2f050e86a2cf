"""Behaviour cloning: record an expert's episodes, and fit a policy to them before it learns by itself."""

import os
import zlib
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any
from zipfile import BadZipFile

import numpy as np

from . import ops, spaces
from .autodiff import value_and_grad
from .envs import adapt
from .files.archive import npz_path, write_archive
from .optim import Adam
from .policies.base import Policy
from .policies.fast import warm_up
from .settings import check_count
from .types import Array, Path


def generate_expert_data(model: Any, save_path: Path | None = None, env: Any = None, n_timesteps: int = 0,
                         n_episodes: int = 100, seed: int | None = None) -> dict[str, Array]:
    """Record whole episodes of an expert; return the arrays, and write them to `save_path`.npz if given.

    The arrays are obs, actions, rewards, episode_starts (one row a step) and episode_returns.
    model: an object with `predict`, or a function of the observation that returns an action.
    env: a gymnasium Env or id; the model's if None. n_timesteps: train the model for so many steps first.
    """
    if n_timesteps:
        model.learn(n_timesteps)
    env = model.get_env() if env is None else env
    envs = getattr(adapt(env), "envs", None)
    if not envs:
        raise ValueError("whole episodes are recorded from a gymnasium Env or its id, not from "
                         f"{type(env).__name__}")
    env = envs[0]
    if isinstance(spaces.describe(env.observation_space), spaces.Fields):
        raise ValueError("expert data hold observations that are arrays; wrap the environment in "
                         "gymnasium.wrappers.FlattenObservation")
    act: Callable = model.predict if hasattr(model, "predict") else (lambda obs, *_: (model(obs), None))
    rows: dict[str, list] = {name: [] for name in ("obs", "actions", "rewards", "episode_starts")}
    returns = []
    for episode in range(n_episodes):
        obs, _ = env.reset(seed=None if seed is None else seed + episode)
        state, start, over, total = None, True, False, 0.0
        while not over:
            action, state = act(obs, state, None, True)
            rows["obs"].append(np.array(obs))
            rows["actions"].append(np.array(action))
            rows["episode_starts"].append(start)
            obs, reward, terminated, truncated, _ = env.step(action)
            rows["rewards"].append(float(reward))
            start, over, total = False, terminated or truncated, total + float(reward)
        returns.append(total)
    arrays = {name: np.array(values) for name, values in [*rows.items(), ("episode_returns", returns)]}
    if save_path is not None:
        write_archive(npz_path(save_path), arrays, {"kind": "expert data"})
    return arrays


def expert_arrays(dataset: Any, policy: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return a dataset's encoded observations (n, width), raw actions (n, ...) and episode starts (n,).

    The last are None if it has none. A ValueError names the array that does not fit.
    """
    dataset = read_expert_data(dataset)
    if missing := {"obs", "actions"} - dataset.keys():
        raise ValueError(f"the expert data lack the array {sorted(missing)[0]!r}; obs and actions are needed")
    space, obs, actions = policy.observation_space, dataset["obs"], np.atleast_1d(dataset["actions"])
    if isinstance(space, spaces.Discrete) and np.ndim(obs) == 2:  # columns, as stable-baselines records them
        obs = np.ravel(obs)
    count = space.count(obs)
    if count is None or count < 2 or len(actions) != count:
        raise ValueError(f"the expert data hold {count or 1} observations and {len(actions)} actions; as "
                         "many of both, and at least 2, are needed")
    obs = space.encode(obs, count)
    try:
        raw = policy.from_env(actions, count)
        logp = policy.dist.logp(np.zeros((count, policy.dist.size)), raw)
    except (ValueError, IndexError) as error:
        raise ValueError(f"the expert's actions {actions.dtype} {actions.shape} do not fit the action space "
                         f"{policy.action_space.to_json()}: {error}") from None
    if not np.isfinite(logp).all():
        raise ValueError("the expert data hold numbers that are not finite")
    spaces.check_given(obs, policy.row_dtype)
    starts = dataset.get("episode_starts")
    if starts is not None and np.shape(starts) != (count,):
        raise ValueError(f"the expert data hold {count} observations, but episode_starts of shape "
                         f"{np.shape(starts)}")
    return obs.astype(policy.row_dtype, copy=False), raw, None if starts is None else np.asarray(starts, bool)


def read_expert_data(dataset: Any) -> dict:
    """Return a dataset, given as a pair, a dict or the path of a file, as a dict of arrays."""
    if isinstance(dataset, dict):
        return dataset
    if isinstance(dataset, (list, tuple)) and len(dataset) == 2:
        return {"obs": dataset[0], "actions": dataset[1]}
    if not isinstance(dataset, (str, os.PathLike)):
        raise ValueError(f"the expert data are {dataset!r}; a path, a dict with obs and actions, or a pair "
                         "of them is needed")
    path = dataset if os.path.exists(dataset) else npz_path(dataset)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ("obs", "actions", "episode_starts") if name in file}
    except (OSError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"the expert data {dataset!r} cannot be read: {error}") from None
    except ValueError:
        raise ValueError(f"the expert data {dataset!r} are no .npz file of plain arrays; pickled objects are "
                         "not read") from None


def imitate(policy: Policy, obs, actions, starts, n_epochs: int, learning_rate: float,
            rng: np.random.Generator, comm, batch_size: int = 128,
            held_out: float = 0.3) -> Iterator[tuple[float, float]]:
    """Fit the policy by Adam to the negative log-likelihood of an expert's actions, as the result is read.

    Yield its mean over the training part and over the held-out part of the data after each epoch. A
    ValueError says what makes no sense, at once, or that the fit is not finite: the policy is then what it
    was.
    """
    check_count("n_epochs", n_epochs, 0)
    number = isinstance(learning_rate, Real) and not isinstance(learning_rate, bool)
    if not (number and 0 < learning_rate < np.inf):
        raise ValueError(f"learning_rate is {learning_rate!r}; a positive number is needed")
    if policy.demonstrations(obs, starts)[0] < 2:
        raise ValueError("the expert data hold one episode; a policy with memory needs at least two, one of "
                         "them to be held out")
    return _epochs(policy, obs, actions, starts, n_epochs, learning_rate, rng, comm, batch_size, held_out)


def _epochs(policy, obs, actions, starts, n_epochs, learning_rate, rng, comm, batch_size, held_out):
    comm.first_on_machine(lambda: warm_up(policy.kernel_files))
    params = policy.policy_params
    before = params.flat.copy(), {name: np.array(array) for name, array in policy.normalizer.arrays().items()}
    if policy.normalizer.count == 0:
        policy.normalizer.merge(obs, comm)
    number, pick = policy.demonstrations(policy.normalizer(obs), starts)
    order = np.random.default_rng(0).permutation(number)  # on all ranks: none trains on held-out data
    test, train = np.split(order, [max(1, int(held_out * len(order)))])
    adam = Adam(params.flat.size, policy.dtype)
    batches = max(comm.gather(-(-len(pick(train)[1]) // batch_size)))  # the same number on all ranks

    def loss(p, inputs, rows):
        return -ops.sum(policy.dist.logp(policy.pi(p, inputs), actions[rows]))

    for epoch in range(1, n_epochs + 1):
        total = np.zeros(2)
        for chosen in np.array_split(rng.permutation(train), batches):
            inputs, rows = pick(chosen)
            nll, grad = value_and_grad(lambda p: loss(p, inputs, rows), params)
            sums = comm.sum(np.append(grad, [nll, len(rows)]).astype(grad.dtype))
            grad, nll_and_count = sums[:-2], sums[-2:]
            if count := nll_and_count[1]:  # a batch may hold no sample
                adam.step(params.flat, grad / count, learning_rate)
                policy.bound(params)
            total += nll_and_count
        comm.align(params.flat)
        inputs, rows = pick(test)
        lost = not all(np.isfinite(array).all() for array in (params.flat, adam.m, adam.v))
        held = comm.sum(np.array([loss(params, inputs, rows), len(rows), lost]))
        if held[2]:
            params.flat[:] = before[0]
            policy.normalizer.restore(before[1])
            raise ValueError(f"pretrain was undone: epoch {epoch} left numbers that are not finite; a "
                             f"learning_rate below {learning_rate:g} is needed, or an expert's actions and "
                             "observations that are smaller")
        yield float(total[0] / total[1]), float(held[0] / held[1])
