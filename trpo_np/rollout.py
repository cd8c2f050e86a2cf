"""Collect a segment of experience; values and advantages come in one batch afterwards.

Arrays are (T, n): time by environment. `valid` is False on rows that an autoreset inserted: they count in
nothing.
"""

import time
import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from . import spaces
from .envs import raw_return
from .kernels import scalar
from .policies.base import Policy

WHOLE = 0.1  # the share of episodes that are never broken off: theirs are the returns that are reported


@dataclass
class Segment:
    """What T steps of n environments brought."""

    obs: np.ndarray  # (T, n, width), as the environment gave them
    actions: np.ndarray  # (T, n, ...), raw: neither clipped nor shifted
    rewards: np.ndarray  # (T, n), raw
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    over: np.ndarray  # an episode's score is final: at its end, but not where one of several lives was lost
    starts: np.ndarray  # a new episode begins with this row
    last_obs: np.ndarray  # (n, width), after the last step
    final: list  # (t, environment, last observation) of each truncated episode
    memory: dict = field(default_factory=dict)  # a recurrent policy's states (n, width) before the first step
    episodes: list = field(default_factory=list)  # (return, length) of each finished episode
    successes: list = field(default_factory=list)  # of each of these: its `is_success`, or None
    env_seconds: float = 0.0
    policy_seconds: float = 0.0
    logp: np.ndarray | None = None  # (T, n), log-probabilities of the actions when drawn; see reuse.py
    new: int | None = None  # how many environments are new, if others stand to their right

    ROWS: ClassVar = "actions", "rewards", "terminated", "truncated", "valid", "over", "starts"  # (T, n, ...)

    def plain(self) -> dict:
        """Return the samples as plain values; `Segment(**plain)` has them again."""
        arrays = {name: np.array(getattr(self, name)) for name in ("obs", *self.ROWS, "last_obs", "logp")}
        memory = {name: np.array(states) for name, states in self.memory.items()}
        final = [(int(t), int(i), np.array(row)) for t, i, row in self.final]
        return {**arrays, "memory": memory, "final": final}


class Runner:
    """Step environments with a policy, segment after segment; episodes go on from one segment to the next.

    stepper: the environments, see envs.py.
    """

    _UNDER_WAY = "returns", "lengths", "starts", "whole"  # (n,), of the episodes under way

    def __init__(self, policy: Policy, stepper):
        self.policy, self.stepper, n = policy, stepper, stepper.num_envs
        self.obs = np.zeros((n, *policy.observation_space.rows), policy.observation_space.precision)
        self.warned = self.warned_of_coarse = False  # that all actions are clipped; of large observations
        self.portraits, self.began = stepper.portraits(), time.perf_counter()
        self.earlier: list[Segment] = []  # that updates learn from again, the newest first
        self._forget()

    def restart(self, seeds: list) -> None:
        """Start new episodes in all environments."""
        self.obs = self.stepper.reset(seeds)
        self._forget()
        self._warn_of_coarse_numbers()

    def state(self) -> dict:
        """Return what the episodes under way need to go on elsewhere, and samples that count in further
        updates, as plain values.

        A NoState (env_state.py) says why there is none.
        """
        arrays = {name: np.array(getattr(self, name)) for name in ("obs", *self._UNDER_WAY)}
        memory = {name: np.array(array) for name, array in self.memory.items()}
        earlier = {"earlier": [seg.plain() for seg in self.earlier]} if self.earlier else {}
        return {**arrays, **earlier, "memory": memory, "envs": self.stepper.states(self.portraits)}

    def put_back(self, state: dict) -> None:
        """Go on, after a restart, with the episodes whose `state` it is; a NoState says what does not fit."""
        self.stepper.put_back(self.portraits, state["envs"])
        self.obs, self.memory = state["obs"], state["memory"]
        for name in self._UNDER_WAY:
            setattr(self, name, state.get(name, self.whole))  # older files have no `whole`
        self.earlier = [Segment(**samples) for samples in state.get("earlier", [])]

    def _forget(self) -> None:
        n = self.stepper.num_envs
        self.returns, self.lengths = np.zeros(n), np.zeros(n, int)
        self.starts, self.whole = np.ones(n, bool), np.ones(n, bool)  # whole: is not to be broken off
        self.memory, self.earlier = self.policy.new_memory(n), []

    def remember(self, memory: dict) -> None:
        """Put states of networks that run after a rollout, such as the critic's, into the memory for the next
        one."""
        self.memory = self.memory | memory

    def collect(self, steps: int, rng: np.random.Generator, on_step=None,
                restarts: float = 0.0) -> Segment | None:
        """Take `steps` steps in each environment, drawing all noise at once; None if `on_step(locals)`
        returned False. `restarts` is each step's chance to break its episode off."""
        policy, stepper, n = self.policy, self.stepper, self.stepper.num_envs
        dist = policy.dist
        act, actions, memory_after = policy.actor(dist.noise(rng, steps, n).astype(policy.dtype), self.memory)
        seg = Segment(obs=policy.storage(steps, n), actions=actions, rewards=np.zeros((steps, n)),
                      terminated=np.zeros((steps, n), bool), truncated=np.zeros((steps, n), bool),
                      valid=np.ones((steps, n), bool), over=np.zeros((steps, n), bool),
                      starts=np.zeros((steps, n), bool), last_obs=self.obs, final=[], memory=self.memory)
        due = np.zeros(steps, bool)  # whether an episode that is not whole is broken off in this step
        if breaking := restarts > 0 and stepper.breaks_off:
            breaks, stays_whole = rng.random((steps, n)) < restarts, rng.random((steps, n)) < WHOLE
            due = np.logical_or.reduce(breaks, axis=1)
        clock, obs, starts = time.perf_counter, self.obs, self.starts
        told: dict = {}
        partial = np.zeros((steps, n), bool)
        sums = np.array([self.returns, self.lengths], float)  # of the episodes under way, for callbacks
        stepper.watched = on_step is not None
        no_starts, policy_seconds, env_seconds, stepped = np.zeros(n, bool), 0.0, 0.0, clock()
        for t in range(steps):
            env_actions = act(t, obs, starts)  # raises if an observation is not finite
            seg.obs[t] = obs
            acted = clock()
            policy_seconds += acted - stepped
            step = (stepper.step(env_actions, breaks[t] & ~self.whole) if due[t]
                    else stepper.step(env_actions))
            stepped = clock()
            env_seconds += stepped - acted
            seg.rewards[t], obs, starts = step.rewards, step.obs, no_starts
            if not step.ordinary:  # ordinary: no episode ended, no row was inserted
                seg.terminated[t], seg.truncated[t] = step.terminated, step.truncated
                seg.valid[t], seg.over[t] = step.valid, step.over
                seg.final += [(t, i, row) for i, row in step.final]
                for i, *said in stepper.told:
                    told[t, i] = said
                starts = step.terminated | step.truncated | ~step.valid
                if breaking:
                    partial[t] = step.over & ~self.whole
                    self.whole = np.where(step.over, stays_whole[t], self.whole)
            if on_step is not None:
                sums += step.rewards * step.valid, step.valid
                self._tell_ends(step, partial[t], told, t, sums)
                done = step.terminated | step.truncated
                if on_step(dict(t=t, steps=int(seg.valid[:t + 1].sum()), actions=env_actions,
                                rewards=step.rewards, dones=done, new_obs=step.obs,
                                infos=stepper.infos)) is False:
                    return None
        spaces.check_finite(obs, policy.row_dtype)
        seg.starts[0], seg.starts[1:] = self.starts, (seg.terminated | seg.truncated | ~seg.valid)[:-1]
        self.obs, self.starts, self.memory, seg.last_obs = obs, starts, memory_after, obs.copy()
        seg.policy_seconds, seg.env_seconds = policy_seconds, env_seconds
        self._count(seg, told, partial)
        self._warn_if_all_are_clipped(seg)
        return seg

    def _tell_ends(self, step, partial: np.ndarray, told: dict, t: int, sums: np.ndarray) -> None:
        """Add to the infos of episodes that ended what a Monitor says of them, "episode", if none has."""
        if step.ordinary:
            return
        infos = self.stepper.infos = list(self.stepper.infos)
        for i in np.flatnonzero(step.over | partial):
            total, length = float(sums[0, i]), int(sums[1, i])
            if not partial[i]:
                score = raw_return(total, length, told.get((t, i), (None, None))[1])
                seconds = round(time.perf_counter() - self.began, 6)
                infos[i] = {"episode": {"r": score, "l": length, "t": seconds}} | infos[i]
            sums[:, i] = 0

    def _warn_of_coarse_numbers(self) -> None:
        """Warn, once, if the observations that episodes start with are so large that changes of them are
        lost."""
        policy = self.policy
        if self.warned_of_coarse or self.obs.dtype == np.uint8:
            return
        if told := spaces.coarse(policy.observation_space, self.obs, policy.row_dtype):
            self.warned_of_coarse = True
            warnings.warn(told, stacklevel=4)

    def _warn_if_all_are_clipped(self, seg: Segment) -> None:
        """Warn, once, if no number of a rollout's actions lies within its bounds: nothing can be learned."""
        space = self.policy.action_space
        if self.warned or not isinstance(space, spaces.Box) or seg.valid.sum() < 32:  # may be chance
            return
        for actions in (seg.actions[0], seg.actions[seg.valid]):  # the first row tells, nearly always
            if ((actions >= space.low) & (actions <= space.high)).any():
                return
        self.warned = True
        low, high = float(np.min(space.low)), float(np.max(space.high))
        warnings.warn(f"all actions of a rollout, {seg.valid.sum():,}, were clipped to the bounds of their "
                      f"space, {low:g} to {high:g}: a new policy draws about 0. Rescale the space, for "
                      "example with gymnasium.wrappers.RescaleAction(env, -1.0, 1.0)", stacklevel=4)

    def _count(self, seg: Segment, told: dict, partial: np.ndarray) -> None:
        """Note the episodes that ended, in order of time; carry the returns and lengths of those under way.

        `told` maps (t, environment) to the success and the score of an episode that ended there. Where one
        ended that is `partial`, having been free to be broken off, it has no score.
        """
        if not np.isfinite(seg.rewards).all():
            t, i = np.argwhere(~np.isfinite(seg.rewards))[0]
            raise ValueError(f"environment {i} gave the reward {seg.rewards[t, i]}; rewards must be finite "
                             "numbers")
        for _, i, last in seg.final:
            spaces.check_finite(last[None], self.policy.row_dtype, i)
        first_row = np.zeros(len(self.returns), int)  # of each environment's episode
        for t, i in np.argwhere(seg.over | partial):
            rows = slice(first_row[i], t + 1)
            total = self.returns[i] + seg.rewards[rows, i].sum()
            length = self.lengths[i] + seg.valid[rows, i].sum()
            success, score = told.get((t, i), (None, None))
            if not partial[t, i]:
                seg.episodes.append((raw_return(total, length, score), int(length)))
                seg.successes.append(success)
            self.returns[i], self.lengths[i], first_row[i] = 0.0, 0, t + 1
        for i, first in enumerate(first_row):
            self.returns[i] += seg.rewards[first:, i].sum()
            self.lengths[i] += seg.valid[first:, i].sum()


def advantages(rewards, values, last_value, final_values, terminated, truncated, gamma: float, lam: float,
               ratio=None):
    """Return generalised advantage estimates and the critic's targets, (T, n) float64 (Schulman et al.,
    arXiv:1506.02438).

        delta[t]  = r[t] + gamma (1 - terminated[t]) V(next observation) - V(s[t])
        A[t]      = delta[t] + gamma lam (1 - done[t]) ratio[t + 1] A[t + 1]
        target[t] = V(s[t]) + ratio[t] A[t]

    `values` (T, n) and `last_value` (n,) are V of the observations acted on; `final_values` (T, n) is V of an
    episode's last observation where it was truncated (0 switches bootstrapping off). Where an episode both
    terminated and was truncated, it terminated. `ratio` (T, n): how likely actions are now, beside how likely
    they were when drawn, 1 at most (Espeholt et al., arXiv:1802.01561); None: all are 1.
    """
    done = terminated | truncated
    following = np.concatenate([values[1:], last_value[None]]).astype(np.float64)
    following = np.where(done, np.where(terminated, 0.0, final_values), following)
    delta = rewards + gamma * following - values
    if ratio is None:
        adv = scalar.discounted_sum(delta, done.astype(np.float64), gamma * lam)
        return adv, adv + values
    passed = np.concatenate([~done[:-1] * ratio[1:], np.zeros_like(ratio[:1])])
    adv = scalar.discounted_sum(delta, 1.0 - passed, gamma * lam)
    return adv, ratio * adv + values
