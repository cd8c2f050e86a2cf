"""How good a policy is: the returns of real, whole episodes, counted without preference for short ones."""

import math
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from . import spaces
from .envs import EnvList, Vector, adapt, make_env


def evaluate_policy(model, env, n_eval_episodes=10, deterministic=True, render=False, callback=None, reward_threshold=None,
                    return_episode_rewards=False, seed=None):
    """Return the mean and the standard deviation of the episodes' returns, undiscounted sums of rewards as the environment gives them.

    model: a TRPO, a policy of `load_policy`, or anything with `predict(obs, state, mask, deterministic)`; it is not changed, except
    that actions drawn without a `seed` advance its generator, as `predict` does.
    env: an id, an Env, a VectorEnv, a DummyVecEnv or a SubprocVecEnv. Its episodes start anew; evaluating in the environment of training
    interrupts the episode there. Several environments each run a share of the episodes that is fixed beforehand: of those that finish
    first, too many would be short. Episodes are those of the environment: it should not end them at each lost life, nor never.
    callback: called as `callback(locals, globals)` after each step; locals hold action, obs, reward, done, info, episode_reward and
    episode_length, of one environment, or in arrays over all if they step together.
    render: show each step. reward_threshold: raise an AssertionError unless the mean is above it.
    return_episode_rewards: return the lists (returns, lengths) instead. seed: of the environments and of drawn actions; same seed,
    same result. Without one, environments go on with their own randomness.
    """
    if isinstance(n_eval_episodes, bool) or not isinstance(n_eval_episodes, (int, np.integer)) or n_eval_episodes < 1:
        raise ValueError(f"n_eval_episodes is {n_eval_episodes!r}; an integer of at least 1 is needed")
    made = closing(make_env(env, render_mode="human" if render else None)) if isinstance(env, str) else nullcontext(env)
    with made as env, drawing_from(model, seed):
        stepper = adapt(env)
        check_spaces(model, stepper)
        targets = np.array([(n_eval_episodes + i) // stepper.num_envs for i in range(stepper.num_envs)])
        run = _one_by_one if isinstance(stepper, EnvList) else _together
        episodes = run(model, stepper, targets, deterministic, seed, callback, render)
    returns, lengths = [total for total, _ in episodes], [length for _, length in episodes]
    if bad := [total for total in returns if not math.isfinite(total)]:
        raise ValueError(f"the environment gave an episode whose rewards add up to {bad[0]}; rewards must be finite numbers")
    mean, std = float(np.mean(returns)), float(np.std(returns))
    if reward_threshold is not None and not mean > reward_threshold:
        raise AssertionError(f"the mean reward is {mean:.2f}, not above the threshold {reward_threshold:.2f}")
    return (returns, lengths) if return_episode_rewards else (mean, std)


def check_spaces(model: Any, stepper: Any) -> None:
    """Raise a ValueError that names the field in which the environment's spaces differ from the model's, if it states them."""
    policy = getattr(model, "policy", model)
    for what in ("observation", "action"):
        needed = getattr(policy, f"{what}_space", None)
        given = getattr(stepper, f"{what}_space")
        if needed is not None and (differs := spaces.difference(given, spaces.describe(needed, what))):
            raise ValueError(f"the evaluation environment's {what} space does not fit the model: {differs}")


@contextmanager
def drawing_from(model: Any, seed: int | None):
    """Let the policy draw actions from a generator of this seed for a while; without a seed, from its own."""
    policy = getattr(model, "policy", model)
    if seed is None or not hasattr(policy, "rng"):
        yield
        return
    own, policy.rng = policy.rng, np.random.default_rng(seed)
    try:
        yield
    finally:
        policy.rng = own


def _one_by_one(model, stepper: EnvList, targets, deterministic, seed, callback, render) -> list:
    """Run `targets[i]` episodes in environment i, one after the other; return (return, length) of each."""
    episodes = []
    for i, env in enumerate(stepper.envs):
        draw = render and env.render_mode != "human"  # which draws by itself
        for k in range(targets[i]):
            obs, info = env.reset(seed=int(seed) + i if seed is not None and k == 0 else None)
            state, done, episode_reward, episode_length = None, False, 0.0, 0
            while not done:
                action, state = model.predict(obs, state, np.array([episode_length == 0]), deterministic)
                obs, reward, terminated, truncated, info = env.step(action)
                done = bool(terminated or truncated)
                episode_reward += float(reward)
                episode_length += 1
                if callback is not None:
                    callback(locals(), globals())
                if draw:
                    env.render()
            episodes.append((episode_reward, episode_length))
    return episodes


def _together(model, stepper: Vector, targets, deterministic, seed, callback, render) -> list:
    """Step all environments together until the first `targets[i]` episodes of each i are over; return (return, length) of each."""
    env, n, episodes, left = stepper.env, stepper.num_envs, [], targets.copy()
    draw = render and env.render_mode != "human"
    obs, info = env.reset(seed=None if seed is None else int(seed))
    state, mask, done, resets = None, np.ones(n, bool), np.zeros(n, bool), np.zeros(n, bool)
    episode_reward, episode_length = np.zeros(n), np.zeros(n, int)
    while left.any():
        action, state = model.predict(obs, state, mask, deterministic)
        obs, reward, terminated, truncated, info = env.step(action)
        if stepper.mode is AutoresetMode.NEXT_STEP:
            resets = done  # these rows took no action: they only bring the first observation of an episode
        done = np.logical_or(terminated, truncated) & ~resets
        episode_reward += np.where(resets, 0.0, reward)
        episode_length += ~resets
        if callback is not None:
            callback(locals(), globals())
        if draw:
            env.render()
        for i in np.flatnonzero(done):
            if left[i]:
                left[i] -= 1
                episodes.append((float(episode_reward[i]), int(episode_length[i])))
            episode_reward[i], episode_length[i] = 0.0, 0
        mask = resets if stepper.mode is AutoresetMode.NEXT_STEP else done
        if stepper.mode is AutoresetMode.DISABLED and done.any():
            obs, info = env.reset(options={"reset_mask": done})
    return episodes
