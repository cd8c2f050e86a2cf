"""Rollouts against a simulation by hand, in every way of stepping; advantages against their definition."""

import math
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ENDS, LENGTHS, Counting, Lives

from trpo_np.envs import EnvList, Vector, adapt
from trpo_np.kernels import scalar
from trpo_np.policies import MlpLstmPolicy, MlpPolicy
from trpo_np.rollout import Runner, advantages
from trpo_np.trpo import TRPO
from trpo_np.vec_env import DummyVecEnv, SubprocVecEnv


def simulation(shift, steps):
    """The first steps of Counting(shift): (observation, reward, terminated, truncated, next observation)."""
    rows, episode, time = [], shift, 0
    for _ in range(steps):
        over = time + 1 == LENGTHS[episode % 5]
        terminated, truncated = ENDS[episode % 3] if over else (False, False)
        rows.append(((episode, time), episode + (time + 1) / 16, terminated, truncated, (episode, time + 1)))
        episode, time = (episode + 1, 0) if over else (episode, time + 1)
    return rows


KINDS = {
    "env list": lambda fns: EnvList([fn() for fn in fns]),
    "dummy": lambda fns: adapt(DummyVecEnv(fns)),
    "sync": lambda fns: adapt(SyncVectorEnv(fns)),
    "sync next step": lambda fns: Vector(SyncVectorEnv(fns, autoreset_mode=AutoresetMode.NEXT_STEP)),
    "sync same step": lambda fns: Vector(SyncVectorEnv(fns, autoreset_mode=AutoresetMode.SAME_STEP)),
    "sync disabled": lambda fns: Vector(SyncVectorEnv(fns, autoreset_mode=AutoresetMode.DISABLED)),
    "async next step": lambda fns: adapt(AsyncVectorEnv(fns, autoreset_mode=AutoresetMode.NEXT_STEP)),
    "async same step": lambda fns: adapt(AsyncVectorEnv(fns, autoreset_mode=AutoresetMode.SAME_STEP)),
    "async disabled": lambda fns: adapt(AsyncVectorEnv(fns, autoreset_mode=AutoresetMode.DISABLED)),
    "subproc": lambda fns: adapt(SubprocVecEnv(fns)),
}


def runner_of(stepper, seed=0, **kwargs):
    policy = MlpPolicy(stepper.observation_space, stepper.action_space, layers=[4],
                       **kwargs).draw(np.random.default_rng(seed))
    runner = Runner(policy, stepper)
    runner.restart([seed + i for i in range(stepper.num_envs)])
    return runner


def close(stepper):
    for env in getattr(stepper, "envs", None) or [stepper.env]:
        env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_stepping_brings_the_same_rows(kind):
    stepper = KINDS[kind]([lambda i=i: Counting(i) for i in range(2)])
    runner, rng = runner_of(stepper), np.random.default_rng(1)
    # environment 0 ends at the first border: in NEXT_STEP mode the second segment starts with an autoreset
    segments = [runner.collect(steps, rng) for steps in (3, 1, 5, 20)]
    close(stepper)
    whole = {name: np.concatenate([getattr(seg, name) for seg in segments])
             for name in ("obs", "rewards", "terminated", "truncated", "valid")}
    starts = np.cumsum([0, *[len(seg.obs) for seg in segments]])
    finals = {(start + t, i): row for start, seg in zip(starts, segments) for t, i, row in seg.final}
    episodes = []
    for i in range(2):
        real = np.flatnonzero(whole["valid"][:, i])
        expected = simulation(i, len(real))
        score, length = 0.0, 0
        for t, (obs, reward, terminated, truncated, following) in zip(real, expected):
            assert tuple(whole["obs"][t, i]) == obs
            assert whole["rewards"][t, i] == reward
            assert (whole["terminated"][t, i], whole["truncated"][t, i]) == (terminated, truncated)
            score, length = score + reward, length + 1
            if truncated and not terminated:
                assert tuple(finals.pop((t, i))) == following
            if terminated or truncated:
                episodes.append((score, length))
                score, length = 0.0, 0
        ends = np.flatnonzero((whole["terminated"] | whole["truncated"])[:, i])
        bogus = np.flatnonzero(~whole["valid"][:, i])
        np.testing.assert_array_equal(bogus, [t + 1 for t in ends if t + 1 < starts[-1]]
                                      if "next" in kind else [])
        assert (runner.returns[i], runner.lengths[i]) == (score, length)
    assert not finals
    assert sorted(episodes) == sorted(sum((seg.episodes for seg in segments), []))
    assert ("next" in kind) == (not whole["valid"].all())
    for seg, following in zip(segments, segments[1:]):
        np.testing.assert_array_equal(seg.last_obs, following.obs[0])


# --- episodes that are broken off ---------------------------------------------------------------------------

class Endless(gymnasium.Env):
    """Episodes of 1,000 steps; an observation is (episode, time), a reward 1."""

    observation_space, action_space = Box(0, 1e6, (2,), np.float32), Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.episode, self.time = getattr(self, "episode", -1) + 1, 0
        return np.array([self.episode, 0], np.float32), {}

    def step(self, action):
        self.time += 1
        return np.array([self.episode, self.time], np.float32), 1.0, False, self.time == 1000, {}


def test_episodes_are_broken_off_by_chance_and_whole_ones_alone_have_a_score():
    runner = runner_of(EnvList([Endless(), Endless()]))
    seg = runner.collect(100_000, np.random.default_rng(0), restarts=0.01)
    assert not seg.terminated.any() and seg.valid.all()
    lengths = []
    for i in range(2):
        ends = np.flatnonzero(seg.truncated[:, i])
        lengths += np.diff(ends, prepend=-1).tolist()
        np.testing.assert_array_equal(seg.starts[1:, i], seg.truncated[:-1, i])
        assert (seg.obs[ends[:-1] + 1, i, 1] == 0).all()
    lengths = np.array(lengths)
    assert abs((lengths == 1000).mean() - 0.1) < 0.03  # 0.9 ** 1000 of the others get so far
    assert abs(lengths[lengths < 1000].mean() - 100) < 10
    assert seg.episodes == [(1000.0, 1000)] * (lengths == 1000).sum()
    assert len(seg.successes) == len(seg.episodes)
    assert len(seg.final) == len(lengths)  # each with the observation that it ended in
    for t, i, last in seg.final:
        np.testing.assert_array_equal(last, seg.obs[t, i] + [0, 1])


def test_the_first_episode_is_whole_also_over_several_rollouts():
    runner, rng = runner_of(EnvList([Endless()])), np.random.default_rng(1)
    ends = np.concatenate([runner.collect(300, rng, restarts=0.02).truncated[:, 0] for _ in range(9)])
    assert np.flatnonzero(ends)[0] == 999 and ends.sum() > 9


def test_where_an_episode_is_broken_off_and_ends_it_has_ended():
    seg = runner_of(EnvList([Counting()])).collect(60, np.random.default_rng(0), restarts=1.0)
    natural = [ENDS[int(k) % 3][0] and time + 1 == LENGTHS[int(k) % 5] for k, time in seg.obs[:, 0]]
    np.testing.assert_array_equal(seg.terminated[:, 0], natural)
    only_terminated = [natural[t] and seg.obs[t, 0, 0] % 3 == 0 for t in range(60)]
    assert (seg.truncated[:, 0] & only_terminated).any()  # and was broken off in the same step
    assert [t for t, _, _ in seg.final] == np.flatnonzero(seg.truncated & ~seg.terminated).tolist()


def test_a_game_with_lost_lives_is_whole_or_has_no_score():
    """Lives plays on after a reset, so that nothing is broken off, but whole games alone are reported."""
    seg = runner_of(EnvList([Lives()])).collect(3000, np.random.default_rng(0), restarts=0.1)
    assert set(seg.episodes) == {(6.0, 6)} and 10 < len(seg.episodes) < 90 < seg.over.sum()


def test_restarts_of_a_living_model_warn_too():
    model = TRPO("MlpPolicy", AsyncVectorEnv([Counting]), timesteps_per_batch=8)
    with pytest.warns(UserWarning, match="restarts=0.1 is left out: AsyncVectorEnv"):
        model.restarts = 0.1
    model.env.close()


@pytest.mark.parametrize("make", [SubprocVecEnv, AsyncVectorEnv])
def test_episodes_of_environments_that_reset_themselves_are_not_broken_off(make):
    def learned(**settings):
        env = make([Counting, Counting])
        model = TRPO("MlpPolicy", env, seed=0, timesteps_per_batch=40, **settings).learn(40)
        env.close()
        return model.policy.params.flat.tobytes()
    with pytest.warns(UserWarning, match=r"restarts=0.5 is left out: .*Env resets its environments itself"):
        broken = learned(restarts=0.5)
    assert broken == learned()


def test_a_restart_forgets_that_an_autoreset_was_due():
    runner = runner_of(KINDS["sync next step"]([Counting]))
    assert runner.collect(3, np.random.default_rng(0)).terminated[-1]
    runner.restart([0])
    assert runner.collect(1, np.random.default_rng(0)).valid.all()


@pytest.mark.parametrize("kind",
                         ["env list", "dummy", "sync", "sync next step", "sync disabled", "async next step",
                          "subproc"])
def test_an_environment_may_reuse_its_buffer(kind):
    def collect(reuse):
        stepper = KINDS[kind]([lambda i=i: Counting(i, reuse) for i in range(2)])
        seg = runner_of(stepper).collect(12, np.random.default_rng(1))
        close(stepper)
        return seg
    assert_same(collect(True), collect(False))


@pytest.mark.parametrize("space", [gymnasium.spaces.Discrete(3), gymnasium.spaces.MultiDiscrete([2, 3]),
                                   gymnasium.spaces.MultiBinary(2), Box(-1, 1, (2,)),
                                   Box(-1, 1, (2,), np.float64)])
@pytest.mark.parametrize("kind", ["env list", "sync next step"])
@pytest.mark.parametrize("act_fun", ["tanh", "relu"])
def test_an_environment_may_write_into_its_actions(space, kind, act_fun):
    class Writing(Counting):
        action_space, writes = space, False

        def step(self, action):
            result = super().step(action)
            if self.writes and isinstance(action, np.ndarray):
                action[...] = 0
            return result

    def collect(writes):
        envs = [Writing(i) for i in range(2)]
        for env in envs:
            env.writes = writes
        stepper = KINDS[kind]([lambda env=env: env for env in envs])
        seg = runner_of(stepper, act_fun=act_fun).collect(12, np.random.default_rng(1))
        close(stepper)
        return seg
    assert_same(collect(True), collect(False))


def assert_same(a, b):
    for name in ("obs", "actions", "rewards", "terminated", "truncated", "valid", "over", "last_obs"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name
    assert a.episodes == b.episodes
    finals = [[(t, i, row.tobytes()) for t, i, row in seg.final] for seg in (a, b)]
    assert finals[0] == finals[1]


@pytest.mark.parametrize("env_id, limit", [("CartPole-v1", 20), ("Pendulum-v1", 30)])
def test_same_seeds_give_the_same_bits_in_every_kind(env_id, limit):
    segments = []
    for kind in ("env list", "dummy", "sync", "sync same step", "sync disabled", "async same step",
                 "async disabled", "subproc"):
        stepper = KINDS[kind]([lambda: gymnasium.make(env_id, max_episode_steps=limit)] * 3)
        segments.append(runner_of(stepper, seed=5).collect(70, np.random.default_rng(6)))
        close(stepper)
    assert segments[0].final and segments[0].episodes
    for segment in segments[1:]:
        assert_same(segments[0], segment)


def test_raw_actions_are_kept_and_clipped_ones_are_taken():
    env = Counting()
    seg = runner_of(EnvList([env])).collect(50, np.random.default_rng(0))
    raw = seg.actions[:, 0]
    assert (raw > 0.5).any() and (raw < -0.25).any()
    np.testing.assert_array_equal(np.stack(env.actions), np.clip(raw, np.float32(-0.25), np.float32(0.5)))
    assert np.stack(env.actions).dtype == np.float32


def test_only_real_steps_count():
    envs = SyncVectorEnv([lambda i=i: Counting(i) for i in range(2)])
    stepped = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
    model = TRPO("MlpPolicy", stepped, timesteps_per_batch=40, seed=0).learn(100)
    taken = sum(len(env.actions) for env in stepped.unwrapped.envs)
    assert model.num_timesteps == taken
    assert 40 * model.updates > taken


class Spoilt(Counting):
    """Give a bad observation or reward at one step."""

    def __init__(self, shift, at, field, value):
        super().__init__(shift)
        self.at, self.field, self.value = at, field, value

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        if len(self.actions) == self.at:
            if self.field == "reward":
                reward = self.value
            else:
                obs = np.array([0.0, self.value])
        return obs, reward, terminated, truncated, info


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("field", ["reward", "observation"])
@pytest.mark.parametrize("at", [2, 4])  # the middle of an episode; the last observation of a truncated one
@pytest.mark.parametrize("kind", ["env list", "sync next step", "sync same step"])
def test_what_is_not_finite_is_refused_by_name(kind, at, field, value):
    stepper = KINDS[kind]([lambda: Counting(1), lambda: Spoilt(0, at, field, value)])
    with pytest.raises(ValueError, match=f"environment 1 gave .*{field}.*{value}") as error:
        runner_of(stepper).collect(12, np.random.default_rng(0))
    assert field == "reward" or "field 1" in str(error.value)


def test_a_huge_observation_is_a_number():
    seg = runner_of(EnvList([Spoilt(0, 2, "observation", 1e15)])).collect(12, np.random.default_rng(0))
    assert seg.obs.max() == np.float32(1e15)


def test_a_callback_can_stop_a_rollout():
    seen = []
    runner = runner_of(EnvList([Counting()]))
    assert runner.collect(10, np.random.default_rng(0), lambda step: seen.append(step)
                          or len(seen) < 3) is None
    assert [step["t"] for step in seen] == [0, 1, 2]
    # not one buffer three times
    assert [tuple(step["new_obs"][0]) for step in seen] == [(0, 1), (0, 2), (1, 0)]
    assert [bool(step["dones"][0]) for step in seen] == [False, False, True]


def test_a_callback_hears_of_real_steps_only():
    runner = runner_of(KINDS["sync next step"]([lambda i=i: Counting(i) for i in range(2)]))
    heard = []
    seg = runner.collect(20, np.random.default_rng(0), lambda step: heard.append(step["steps"]))
    assert not seg.valid.all()
    assert heard == seg.valid.sum(1).cumsum().tolist()


def test_a_callback_sees_the_end_of_a_truncated_episode_too():
    runner, seen = runner_of(EnvList([Counting(), Counting(1)])), []
    seg = runner.collect(20, np.random.default_rng(0), lambda step: seen.append(step["dones"].copy()))
    np.testing.assert_array_equal(seen, seg.terminated | seg.truncated)
    assert (seg.truncated & ~seg.terminated).any()


@pytest.mark.parametrize("kind", ["env list", "sync next step"])
def test_memory_goes_on_from_one_segment_to_the_next(kind):
    """Several short segments act as one long one does, in the midst of episodes, too."""
    def collect(*lengths):
        stepper, rng = KINDS[kind]([lambda i=i: Counting(i) for i in range(2)]), np.random.default_rng(1)
        policy = MlpLstmPolicy(stepper.observation_space, stepper.action_space, n_lstm=3,
                               layers=[]).draw(np.random.default_rng(0))
        policy.params["pi/out/w"][...] *= 100
        runner = Runner(policy, stepper)
        runner.restart([0, 1])
        return [runner.collect(steps, rng) for steps in lengths]
    [whole], parts = collect(13), collect(2, 5, 6)
    for name in ("obs", "actions", "starts", "valid"):
        np.testing.assert_array_equal(np.concatenate([getattr(seg, name) for seg in parts]),
                                      getattr(whole, name))
    assert not parts[0].memory["pi"].any() and parts[1].memory["pi"].any(axis=1).tolist() == [True, True]
    assert not parts[1].starts[0].all()


def test_memory_of_networks_that_run_after_a_rollout_is_kept_beside_the_actors():
    runner = runner_of(EnvList([Counting()]))
    runner.memory = {"pi": 1, "vf": 2}
    runner.remember({"vf": 3})
    assert runner.memory == {"pi": 1, "vf": 3}


def test_the_observations_after_a_segment_are_its_own():
    runner, rng = runner_of(EnvList([Counting(0, reuse=True)])), np.random.default_rng(0)
    seg = runner.collect(2, rng)
    last = seg.last_obs.copy()
    runner.obs[:] = 7
    np.testing.assert_array_equal(seg.last_obs, last)


# --- lives: a lost life ends the credit for rewards, not the game -------------------------------------------

@pytest.mark.parametrize("mode", list(AutoresetMode)[:2])
def test_lives_of_the_atari_vector_environment(mode):
    ale = pytest.importorskip("ale_py.vector_env")

    def collect(**options):
        env = ale.AtariVectorEnv("breakout", 1, autoreset_mode=mode, num_threads=1, reward_clipping=False,
                                 img_height=8, img_width=8, stack_num=1, **options)
        seg = runner_of(Vector(env), seed=3).collect(450, np.random.default_rng(3))
        env.close()
        return seg
    whole, lives, restarts = collect(), collect(life_loss_info=True), collect(episodic_life=True)
    next_step = mode is AutoresetMode.NEXT_STEP
    # five lives are one game: the same rows, the same scores, more ends for the advantages
    assert len(whole.episodes) >= 2
    assert whole.episodes == lives.episodes
    np.testing.assert_array_equal(whole.valid, lives.valid)
    np.testing.assert_array_equal(whole.rewards, lives.rewards)
    ends = whole.terminated.sum()
    assert lives.terminated.sum() >= 5 * ends and (whole.terminated <= lives.terminated).all()
    # here each lost life resets the game: it is an episode's end, in NEXT_STEP mode before an autoreset
    done = restarts.terminated[:-1].sum()
    assert len(restarts.episodes) >= done > ends
    assert (~restarts.valid).sum() == done * next_step


@pytest.mark.parametrize("kind", ["env list", "sync next step", "sync same step", "sync disabled", "subproc"])
def test_a_lost_life_is_not_the_end_of_a_score(kind):
    stepper = KINDS[kind]([Lives, Lives])
    seg = runner_of(stepper).collect(40, np.random.default_rng(0))
    close(stepper)
    assert set(seg.episodes) == {(6.0, 6)}
    assert seg.terminated.sum() > 2 * len(seg.episodes)


# --- advantages ---------------------------------------------------------------------------------------------

def slow_advantages(rewards, values, last_value, final_values, terminated, truncated, gamma, lam):
    """A[t] = sum over l of (gamma lam)^l delta[t + l], up to the end of the episode or segment; O(T^2)."""
    steps, n = rewards.shape
    out = np.zeros((steps, n))
    for i in range(n):
        for t in range(steps):
            for k in range(t, steps):
                if terminated[k, i]:
                    following = 0.0
                elif truncated[k, i]:
                    following = final_values[k, i]
                else:
                    following = last_value[i] if k == steps - 1 else values[k + 1, i]
                delta = rewards[k, i] + gamma * following - values[k, i]
                out[t, i] += (gamma * lam) ** (k - t) * delta
                if terminated[k, i] or truncated[k, i]:
                    break
    return out


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 9), n=st.integers(1, 3), gamma=st.floats(0, 1), lam=st.floats(0, 1),
       ends=st.floats(0, 1), bootstrap=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_advantages_match_their_definition(steps, n, gamma, lam, ends, bootstrap, seed):
    rng = np.random.default_rng(seed)
    rewards, values, final_values = rng.standard_normal((3, steps, n))
    terminated, truncated = rng.random((2, steps, n)) < ends  # at times both at once
    final_values = final_values * bootstrap
    given_ = rewards, values, rng.standard_normal(n), final_values, terminated, truncated, gamma, lam
    adv, targets = advantages(*given_)
    np.testing.assert_allclose(adv, slow_advantages(*given_), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(targets, adv + values)
    loop = scalar.discounted_sum.loop  # what numba compiles, as plain Python
    delta, cut = rng.standard_normal((steps, n)), (terminated | truncated).astype(float)
    np.testing.assert_allclose(loop(delta, cut, gamma * lam),
                               scalar.discounted_sum.plain(delta, cut, gamma * lam), rtol=1e-10)


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("kind", ["env list", "sync next step", "sync same step", "sync disabled"])
def test_truncation_bootstraps_from_the_last_observation_and_termination_does_not(
        kind, bootstrap, monkeypatch):
    stepper = KINDS[kind]([lambda i=i: Counting(i) for i in range(2)])
    model = TRPO("MlpPolicy", Counting(), timesteps_per_batch=16, gamma=0.5, lam=0.0, seed=0,
                 bootstrap_truncated=bootstrap)
    critic = lambda x: 100.0 * x[:, 0] + x[:, 1]  # a value that says of which observation it is
    monkeypatch.setattr(model.policy, "value", critic)
    results = []
    monkeypatch.setattr("trpo_np.update.advantages", lambda *args: results.append(advantages(*args))
                        or results[0])
    runner = Runner(model.policy, stepper)
    runner.restart([0, 1])
    seg = runner.collect(16, np.random.default_rng(0))
    model.update(seg)
    targets = results[0][1]
    kinds_seen = set()
    for i in range(2):
        real = np.flatnonzero(seg.valid[:, i])
        for t, (_, reward, terminated, truncated, following) in zip(real, simulation(i, len(real))):
            worth = critic(np.array([following]))[0] * (not terminated and (bootstrap or not truncated))
            # lam = 0: the target is r + gamma V(next)
            assert math.isclose(targets[t, i], reward + 0.5 * worth, rel_tol=1e-6)
            kinds_seen.add((terminated, truncated))
    assert len(kinds_seen) == 4


def test_an_observation_that_is_not_finite_is_refused_also_as_the_last_of_a_segment():
    runner = runner_of(EnvList([Spoilt(0, 12, "observation", np.nan)]))
    with pytest.raises(ValueError, match="environment 0 gave an observation with nan"):
        runner.collect(12, np.random.default_rng(0))


@pytest.mark.parametrize("low, high, warns", [
    (20, 200, True), (-200, -20, True), (-1, 1, False), (0.5, 2, False), ([-1, 50], [1, 60], False)])
def test_a_rollout_whose_actions_are_all_clipped_says_so_once(low, high, warns):
    class Far(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Box(np.full(2, low, np.float32), np.full(2, high, np.float32))

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), 0.0, False, False, {}

    env = Far()
    policy = MlpPolicy(env.observation_space, env.action_space).draw(np.random.default_rng(0))
    runner = Runner(policy, EnvList([env]))
    runner.restart([0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            runner.collect(50, np.random.default_rng(1))
    assert len(said) == warns
    assert not warns or "all actions of a rollout, 50, were clipped to the bounds" in str(said[0].message)
