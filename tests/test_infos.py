"""Infos: what the environments say reaches callbacks as in stable-baselines, in every way of stepping."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics, TransformReward
from test_envs import FakePool
from test_rollout import KINDS, close, runner_of
from toys import ENDS, LENGTHS, Counting, Lives, Moving

from trpo_np import TRPO, evaluate_policy
from trpo_np.atari import EpisodicLife
from trpo_np.callbacks import BaseCallback
from trpo_np.envs import EnvList, StableBaselines, Vector, adapt
from trpo_np.files.archive import read_archive
from trpo_np.vec_env import DummyVecEnv, SubprocVecEnv, split
from trpo_np.vec_wrappers import VecFrameStack


class Telling(Counting):
    """Counting, which says at each step where it is, and at most ends whether it succeeded."""

    def __init__(self, shift=0, reuse=True):
        super().__init__(shift, reuse)

    def reset(self, **kwargs):
        return super().reset(**kwargs)[0], {"begins": self.episode}

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        info |= {"energy": 0.5 * self.time, "place": np.array([self.episode, self.time])}
        if (terminated or truncated) and self.episode % 4:
            info["is_success"] = self.episode % 4 == 1
        return obs, reward, terminated, truncated, info


class Foreign(DummyVecEnv):
    """A vector environment that is stepped in stable-baselines' way."""


class Spy(BaseCallback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        self.seen.append((self.locals["dones"], self.locals["infos"]))


STEPPERS = KINDS | {"stable-baselines": lambda fns: StableBaselines(Foreign(fns))}


@pytest.mark.parametrize("kind", STEPPERS)
def test_each_step_has_the_infos_of_its_environments(kind):
    reuse = "same step" not in kind  # there gymnasium resets before it hands the last observation on
    stepper, seen = STEPPERS[kind]([lambda i=i: Telling(i, reuse) for i in range(2)]), []
    seg = runner_of(stepper).collect(40, np.random.default_rng(0),
                                     lambda step: seen.append((step["dones"], step["infos"])))
    close(stepper)
    for i in range(2):
        rows = [(dones[i], infos[i]) for t, (dones, infos) in enumerate(seen) if seg.valid[t, i]]
        episode, time = i, 0
        for done, info in rows:
            time += 1
            assert info["time"] == time and info["energy"] == 0.5 * time and "begins" not in info
            np.testing.assert_array_equal(info["place"], [episode, time])
            assert done == (time == LENGTHS[episode % 5]) == ("terminal_observation" in info)
            if done:
                np.testing.assert_array_equal(info["terminal_observation"], [episode, time])
                assert info["TimeLimit.truncated"] == (ENDS[episode % 3] == (False, True))
                assert info.get("is_success") == ([None, True, False, False][episode % 4])
                episode, time = episode + 1, 0
        assert episode > i + 5
    # and the successes stand beside the episodes
    assert len(seg.successes) == len(seg.episodes) > 10
    for (total, length), success in zip(seg.episodes, seg.successes):
        episode = round((total - sum(range(1, length + 1)) / 16) / length)
        assert success is [None, True, False, False][episode % 4]


def test_infos_of_a_pool_and_of_observations_with_parts():
    stepper, seen = adapt(FakePool()), []
    runner_of(stepper).collect(9, np.random.default_rng(0), lambda step: seen.append(step["infos"]))
    assert all(len(infos) == stepper.num_envs and all(type(info) is dict for info in infos) for infos in seen)


def test_what_is_of_all_environments_is_given_to_each():
    merged = {"a": np.array([1, 2]), "b": "word", "c": np.float32(3), "_a": np.array([True, False])}
    assert split(merged, 2) == [{"a": 1, "b": "word", "c": 3}, {"b": "word", "c": 3}]


def test_an_info_is_a_copy_that_a_callback_may_keep():
    class Reusing(Telling):
        said = {}

        def step(self, action):
            *result, info = super().step(action)
            self.said.clear()
            self.said.update(info)
            return *result, self.said
    spy = Spy()
    TRPO("MlpPolicy", Reusing(), timesteps_per_batch=8, seed=0).learn(8, callback=spy)
    assert [infos[0]["time"] for _, infos in spy.seen] == [1, 2, 3, 1, 1, 2, 3, 4]


def test_no_infos_are_listed_where_nobody_looks():
    stepper = EnvList([Telling()])
    runner = runner_of(stepper)
    runner.collect(4, np.random.default_rng(0), lambda step: True)
    runner.collect(4, np.random.default_rng(0))
    assert not stepper.watched


# --- success ------------------------------------------------------------------------------------------------

class Rows:
    def __init__(self):
        self.rows = []

    def write(self, row, step):
        self.rows.append(row)


class Sometimes(gymnasium.Env):
    """Succeeds in every `every`-th episode; episodes have one step."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, every, say=bool):
        self.every, self.say, self.count = every, say, 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        said = self.say(self.count % self.every == 0)
        return np.zeros(1, np.float32), 1.0, True, False, {"is_success": said}


@pytest.mark.parametrize("say", [bool, np.bool_, float, lambda x: np.array([x]), lambda x: [True, x]])
def test_the_rate_of_successes_is_logged_over_the_last_episodes(say, tmp_path):
    rows = Rows()
    model = TRPO("MlpPolicy", Sometimes(4, say), timesteps_per_batch=80, seed=0)
    model.loggers.append(rows)
    model.learn(160)
    assert [row["rollout/success_rate"] for row in rows.rows] == [0.25, 0.25]
    assert len(model.successes) == len(model.recent) == 100
    copy = TRPO.load(model.save(tmp_path / "m"), Sometimes(4, say))
    assert list(copy.successes) == list(model.successes)
    assert read_archive(tmp_path / "m.npz")[0]["progress"]["successes"] == list(model.successes)


def test_episodes_that_say_nothing_count_in_no_rate(tmp_path):
    rows = Rows()
    model = TRPO("MlpPolicy", Sometimes(2, lambda x: x or None), timesteps_per_batch=8, seed=0)
    model.loggers.append(rows)
    model.learn(8)
    assert rows.rows[0]["rollout/success_rate"] == 1.0 and list(model.successes) == [None, True] * 4
    other = TRPO("MlpPolicy", Moving(), timesteps_per_batch=40, seed=0, policy_kwargs=dict(layers=[4]))
    other.loggers.append(rows)
    other.learn(40)
    assert "rollout/success_rate" not in rows.rows[-1] and list(other.successes) == [None] * 2
    assert "successes" not in read_archive(other.save(tmp_path / "m"))[0]["progress"]
    assert list(TRPO.load(tmp_path / "m").successes) == [None] * 2


# --- the environment's own returns, beneath wrappers that rescale rewards -----------------------------------

def scaled(shift=0, reuse=True):
    seen = gymnasium.wrappers.RecordEpisodeStatistics(Counting(shift, reuse))
    return gymnasium.wrappers.TransformReward(seen, lambda reward: reward / 7 - 1)


@pytest.mark.parametrize("kind", STEPPERS)
def test_returns_are_those_that_a_statistics_wrapper_saw(kind):
    reuse = "same step" not in kind

    def episodes(make):
        stepper = STEPPERS[kind]([lambda i=i: make(i, reuse) for i in range(2)])
        runner = runner_of(stepper)
        segs = [runner.collect(steps, np.random.default_rng(0)) for steps in (7, 40)]
        close(stepper)
        return sum((seg.episodes for seg in segs), []), segs[0].rewards[0]
    (raw, _), (seen, rewards) = episodes(Counting), episodes(scaled)
    assert len(raw) > 20
    np.testing.assert_allclose(seen, raw)
    assert (rewards < 0).all()  # what training learns from


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_returns_are_those_that_a_wrapper_around_a_vector_environment_saw(mode):
    def episodes(wrap):
        env = SyncVectorEnv([lambda i=i: Counting(i) for i in range(2)], autoreset_mode=mode)
        return runner_of(Vector(wrap(env))).collect(40, np.random.default_rng(0)).episodes

    def wrap(env):
        return TransformReward(RecordEpisodeStatistics(env), lambda rewards: rewards / 7)
    np.testing.assert_allclose(episodes(wrap), episodes(lambda env: env))


def test_a_statistic_of_a_part_of_a_game_is_not_its_return():
    stepper = EnvList([gymnasium.wrappers.RecordEpisodeStatistics(Lives())])  # it begins anew with each life
    assert runner_of(stepper).collect(24, np.random.default_rng(0)).episodes[0][0] > 3


@pytest.mark.parametrize("said", [3, {"r": "much", "l": 2}, {"r": 1.0}, {"r": np.nan, "l": 99}, None])
def test_what_an_environment_calls_an_episode_itself_is_no_return(said):
    class Own(Counting):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, info | {"episode": said}
    given, plain = (runner_of(EnvList([kind()])).collect(20, np.random.default_rng(0)).episodes
                    for kind in (Own, Counting))
    assert given == plain


class Game(gymnasium.Env):
    """A game of three lives of four steps, 5 a step, whose infos are as ALE's."""

    observation_space, action_space = spaces.Box(-9, 9, (1,)), spaces.Discrete(2)

    def _info(self):
        return {"episode_frame_number": 4 * self.k, "lives": 3 - self.k // 4}

    def reset(self, *, seed=None, options=None):
        self.k = 0
        return np.zeros(1, np.float32), self._info()

    def step(self, action):
        self.k += 1
        return np.zeros(1, np.float32), 5.0, self.k == 12, False, self._info()


class Own(SyncVectorEnv):
    """Is stepped as it is, not its environments one by one."""


def of_lives():
    return EpisodicLife(wrappers.TransformReward(wrappers.RecordEpisodeStatistics(Game()), np.sign))


@pytest.mark.parametrize("make", [*(partial(Own, autoreset_mode=mode) for mode in AutoresetMode), DummyVecEnv,
                                  SubprocVecEnv, lambda fns: VecFrameStack(DummyVecEnv(fns), 2)])
def test_the_score_of_a_game_with_lives_is_that_of_all_of_it_beneath_wrappers(make):
    env = make([of_lives, of_lives])
    model = TRPO("MlpPolicy", env, timesteps_per_batch=64, seed=0).learn(64)
    assert set(model.recent) == {(60.0, 12)} and len(model.recent) >= 2
    assert evaluate_policy(model, env, 2, return_episode_rewards=True) == ([60.0, 60.0], [12, 12])
    env.close()


@pytest.mark.parametrize("kind", STEPPERS)
def test_the_last_info_of_an_episode_has_its_return_and_length(kind):
    stepper = STEPPERS[kind]([lambda i=i: Counting(i, "same step" not in kind) for i in range(2)])
    runner, ends, episodes = runner_of(stepper), [], []
    for steps in (7, 40):  # an episode goes on from one segment to the next
        seg = runner.collect(steps, np.random.default_rng(0), lambda step: ends.extend(
            info["episode"] for info in step["infos"] if "episode" in info))
        episodes += seg.episodes
    close(stepper)
    assert len(episodes) > 10
    np.testing.assert_allclose([(end["r"], end["l"]) for end in ends], episodes)
    assert all(0 <= one["t"] <= other["t"] for one, other in zip(ends, ends[1:]))
