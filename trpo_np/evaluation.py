"""Evaluate a policy: the returns of real, whole episodes, with no preference for short ones."""

import math
import sys
import warnings
from collections.abc import Callable
from contextlib import closing, contextmanager, nullcontext
from typing import Any, Literal, overload

import gymnasium
import numpy as np

from . import spaces
from .envs import EnvList, adapt, innermost, make_env, raw_return
from .settings import check_count
from .vec_env import VecEnv, leave_game, without_wrappers

LONG = 10_000  # steps of an episode after which a warning says that it may never end

StepCallback = Callable[[dict[str, Any], dict[str, Any]], Any]


@overload
def evaluate_policy(model: Any, env: Any, n_eval_episodes: int = ..., deterministic: bool = ...,
                    render: bool = ..., callback: StepCallback | None = ...,
                    reward_threshold: float | None = ..., return_episode_rewards: Literal[False] = ...,
                    seed: int | None = ..., max_steps: int | None = ...) -> tuple[float, float]: ...


@overload
def evaluate_policy(model: Any, env: Any, n_eval_episodes: int = ..., deterministic: bool = ...,
                    render: bool = ..., callback: StepCallback | None = ...,
                    reward_threshold: float | None = ..., *, return_episode_rewards: Literal[True],
                    seed: int | None = ..., max_steps: int | None = ...) -> tuple[list[float], list[int]]: ...


def evaluate_policy(model: Any, env: Any, n_eval_episodes: int = 10, deterministic: bool = True,
                    render: bool = False, callback: StepCallback | None = None,
                    reward_threshold: float | None = None, return_episode_rewards: bool = False,
                    seed: int | None = None, max_steps: int | None = 200_000
                    ) -> tuple[float, float] | tuple[list[float], list[int]]:
    """Return the mean and the standard deviation of episodes' returns, undiscounted sums of rewards.

    model: a TRPO, a policy of `load_policy`, or any object with `predict(obs, state, mask, deterministic)`.
    Only its random generator changes: without a `seed`, actions are drawn from it, as in `predict`.
    env: an id, an Env, a VectorEnv, a DummyVecEnv or a SubprocVecEnv. Episodes start anew, which cuts short
    the episode of an environment in training. Each of several environments runs a fixed share of the
    episodes: among the first to finish, short ones would be too many. Where an Atari environment ends
    episodes at lost lives, the whole game counts. Returns are of the rewards that `env` gives, or, beneath a
    wrapper that rescales them, of those that a wrapper as gymnasium's RecordEpisodeStatistics saw. Wrappers
    that normalise observations use the statistics of the model's own environment, and add nothing to them.
    callback: is called with (locals, globals) after each step; locals hold obs, action, info, and as arrays
    over the environments that step together reward, done, episode_reward, episode_length.
    render: show each step. reward_threshold: raise an AssertionError unless the mean is above it.
    return_episode_rewards: return the lists (returns, lengths) instead.
    seed: seeds the environments and the drawn actions: same seed, same result. None seeds neither.
    max_steps: an episode that has not ended after so many steps is cut there, and counts; None: never. A
    warning comes long before, after 10,000 steps. Where several environments step together, the next episode
    of one that was cut goes on from there.
    """
    check_count("n_eval_episodes", n_eval_episodes)
    if max_steps is not None:
        check_count("max_steps", max_steps)
    made: Any = nullcontext(env)
    if isinstance(env, str):
        made = closing(make_env(env, **{"render_mode": "human"} if render else {}))
    episodes: list = []
    with made as env, drawing_from(model, seed), normalizing_as_in_training(model, env):
        stepper = adapt(env)
        check_spaces(model, stepper)
        if hasattr(model, "restart_pending") and shares(env, model.get_env()):
            model.restart_pending = True  # an episode of training is cut short
        targets = [(n_eval_episodes + i) // stepper.num_envs for i in range(stepper.num_envs)]
        seeds = [None if seed is None else int(seed) + i for i in range(stepper.num_envs)]
        leave_games(env)
        if isinstance(stepper, EnvList):  # one after the other: a batch of observations would gain little
            for one, target, its_seed in zip(stepper.envs, targets, seeds):
                tap = Tap(one)
                its = EnvList([tap]), tap, [target], [its_seed]
                episodes += run(model, *its, deterministic, callback, render, max_steps)
        else:
            stepper.env = tap = Tap(stepper.env)
            episodes = run(model, stepper, tap, targets, seeds, deterministic, callback, render, max_steps)
    returns, lengths = [total for total, _ in episodes], [length for _, length in episodes]
    if bad := [total for total in returns if not math.isfinite(total)]:
        raise ValueError(f"the rewards of an episode add up to {bad[0]}; rewards must be finite numbers")
    mean, std = float(np.mean(returns)), float(np.std(returns))
    if reward_threshold is not None and not mean > reward_threshold:
        raise AssertionError(f"the mean reward is {mean:.2f}, not above the threshold {reward_threshold:.2f}")
    return (returns, lengths) if return_episode_rewards else (mean, std)


def shares(env: Any, other: Any) -> bool:
    """Say whether some environment is behind both of these."""
    return not {id(inner) for inner in innermost(env)}.isdisjoint(map(id, innermost(other)))


def leave_games(env: Any) -> None:
    """Let games that would go on after a lost life start anew at the next reset: atari.EpisodicLife."""
    env = without_wrappers(env)
    if isinstance(env, VecEnv):
        env.ask(leave_game)
        return
    for one in getattr(getattr(env, "unwrapped", env), "envs", [env]):
        if isinstance(one, gymnasium.Env):
            leave_game(one)


class Tap:
    """Stand between a stepper and its environment; keep the environment's last answers as it gave them."""

    def __init__(self, env: Any):
        self.env = env

    def __getattr__(self, name):
        return getattr(self.env, name)

    def reset(self, **kwargs):
        """Reset the environment."""
        self.last = self.env.reset(**kwargs)
        return self.last

    def step(self, action):
        """Step the environment."""
        self.last = self.last_step = self.env.step(action)
        return self.last_step

    @property
    def obs(self):
        """Return the observations to act on; in stable-baselines' convention reset gives them alone."""
        return self.last[0] if isinstance(self.last, tuple) else self.last


def run(model, stepper, tap: Tap, targets: list, seeds: list, deterministic: bool, callback,
        render: bool, max_steps: int | None) -> list:
    """Return (return, length) of the first `targets[i]` episodes of each environment i."""
    limit = sys.maxsize if max_steps is None else max_steps
    n, episodes, left = stepper.num_envs, [], np.array(targets)
    is_single = isinstance(stepper, EnvList)
    draw = render and tap.render_mode != "human"  # that one draws by itself
    if left.any():
        stepper.reset(seeds)
    steps, due = 0, min(LONG, limit)
    state, mask, episode_reward, episode_length = None, np.ones(n, bool), np.zeros(n), np.zeros(n, int)
    while left.any():
        obs = tap.obs
        action, state = model.predict(obs, state, mask, deterministic)
        step = stepper.step([action] if is_single else action)
        reward, done, info = step.rewards, step.over, tap.last_step[-1]
        episode_reward += reward
        episode_length += step.valid  # a row that only resets an environment is no step
        steps, cut = steps + 1, None
        if steps == due:  # before that no episode can have become so long
            cut = ~done & (episode_length >= limit)
            done = done | cut
            longest = int((episode_length * ~done).max())
            if longest == LONG:
                warn_of_long_episode(max_steps)
            due = steps + min([length - longest for length in (LONG, limit) if length > longest], default=1)
        if callback is not None:
            callback(locals(), globals())
        if draw:
            tap.render()
        scores = {i: score for i, _, score in stepper.told if step.over[i]} if done.any() else {}
        for i in np.flatnonzero(done):
            if left[i]:
                left[i] -= 1
                total = raw_return(episode_reward[i], episode_length[i], scores.get(i))
                episodes.append((total, int(episode_length[i])))
            episode_reward[i], episode_length[i] = 0.0, 0
        mask = step.terminated | step.truncated | ~step.valid
        if is_single and cut is not None and cut.any():
            stepper.reset([None])
            mask = cut
    return episodes


def warn_of_long_episode(max_steps: int | None) -> None:
    """Tell that an episode of the evaluation may never end."""
    until = "it goes on" if max_steps is None else f"it is cut after {max_steps:,}, and counts then"
    warnings.warn(f"an episode of evaluate_policy has not ended in {LONG:,} steps; {until}. The argument "
                  "max_steps cuts earlier or later; a time limit of the environment, as "
                  "gymnasium.wrappers.TimeLimit, does so in training, too", stacklevel=4)


def check_spaces(model: Any, stepper: Any) -> None:
    """Raise a ValueError that names the field in which an environment's spaces differ from the model's."""
    policy = getattr(model, "policy", model)
    for what in ("observation", "action"):
        needed = getattr(policy, f"{what}_space", None)  # a policy from elsewhere may have none
        given = getattr(stepper, f"{what}_space")
        if needed is not None and (differs := spaces.difference(given, spaces.describe(needed, what))):
            raise ValueError(f"the evaluation environment's {what} space does not fit the model: {differs}")


@contextmanager
def drawing_from(model: Any, seed: int | None):
    """Let the policy draw actions, within a `with`, from a generator of this seed; from its own if None."""
    policy = getattr(model, "policy", model)
    if seed is None or not hasattr(policy, "rng"):
        yield
        return
    own, policy.rng = policy.rng, np.random.default_rng(seed)
    try:
        yield
    finally:
        policy.rng = own


STATISTICS = ("obs_rms", "return_rms", "ret_rms")  # of wrappers that normalise, gymnasium's and others'
SWITCHES = ("update_running_mean", "training")  # by which these add to their statistics


def normalizers(env: Any) -> list[dict]:
    """Return, for each environment behind `env`, the wrappers that normalise, by their statistics' names."""
    around: dict = {}
    passed: list = []
    while env is not None and not any(env is one for one in passed):
        passed.append(env)
        has = getattr(env, "__dict__", {})
        around |= {name: env for name in STATISTICS if name in has}
        if has.get("envs"):
            return [around | its for one in has["envs"] for its in normalizers(one)]
        env = next((has[name] for name in ("env", "venv", "vector_env") if name in has), None)
    return [around]


@contextmanager
def normalizing_as_in_training(model: Any, env: Any):
    """Let wrappers that normalise use, within a `with`, the statistics of those around the model's own.

    Where there are none, or none yet, they keep their own. Statistics of training stand still: an evaluation
    adds nothing to them. Wrappers in processes of their own are out of reach.
    """
    get_env = getattr(model, "get_env", None)
    trained, before = normalizers(get_env() if get_env else None), []
    try:
        for i, its in enumerate(normalizers(env)):
            for name, wrapper in its.items():
                statistics = getattr(trained[i % len(trained)].get(name), name, None)
                switch = next((each for each in SWITCHES if hasattr(wrapper, each)), None)
                if switch and has_begun(statistics):
                    before += [(wrapper, each, getattr(wrapper, each)) for each in (name, switch)]
                    setattr(wrapper, name, statistics)
                    setattr(wrapper, switch, False)
        yield
    finally:
        for wrapper, name, value in reversed(before):
            setattr(wrapper, name, value)


def has_begun(statistics: Any) -> bool:
    """Say whether running statistics, or one of a dict of them, have counted anything."""
    each = statistics.values() if isinstance(statistics, dict) else [statistics]
    return any(getattr(one, "count", 0) >= 1 for one in each)
