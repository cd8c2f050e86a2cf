"""evaluate_policy against loops written by hand, in every kind of environment."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from toys import Planned, Shifted, Vector

from trpo_np import TRPO, evaluate_policy, load_policy
from trpo_np.callbacks import EvalCallback
from trpo_np.evaluation import normalizers
from trpo_np.vec_env import DummyVecEnv, SubprocVecEnv

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


def returns(lengths, episodes):
    return [sum(100.0 * k + t for t in range(1, lengths[k % len(lengths)] + 1)) for k in range(episodes)]


class Memory:
    """A policy whose state is the number of steps since an episode's start, known from its mask alone."""

    def __init__(self):
        self.log = []

    def predict(self, obs, state=None, mask=None, deterministic=False):
        n = len(mask)
        state = np.where(mask, 0, np.zeros(n, int) if state is None else state + 1)
        self.log.append((np.reshape(obs, (n, -1)).copy(), state.copy(), deterministic))
        return (np.zeros(n, int) if np.ndim(obs) > 1 else np.int64(0)), state


@pytest.fixture(scope="module")
def model():
    return TRPO("MlpPolicy", "CartPole-v1", seed=3)


@pytest.fixture
def counter_model():
    return TRPO("MlpPolicy", Planned(), seed=3)


def by_hand(model, seed, episodes):
    env, results = gymnasium.make("CartPole-v1"), []
    for k in range(episodes):
        obs, _ = env.reset(seed=seed if k == 0 else None)
        total, length, done = 0.0, 0, False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(model.predict(obs, deterministic=True)[0])
            total, length, done = total + reward, length + 1, terminated or truncated
        results.append((total, length))
    return results


@pytest.mark.parametrize("make", [lambda: "CartPole-v1", lambda: gymnasium.make("CartPole-v1")],
                         ids=["id", "env"])
def test_one_environment_gives_what_a_loop_by_hand_gives(model, make):
    expected = by_hand(model, 5, 4)
    got = evaluate_policy(model, make(), 4, return_episode_rewards=True, seed=5)
    assert got == ([total for total, _ in expected], [length for _, length in expected])
    mean, std = evaluate_policy(model, make(), 4, seed=5)
    assert mean == np.mean(got[0]) and std == np.std(got[0]) and type(mean) is type(std) is float


CARTPOLES = [lambda: gymnasium.make("CartPole-v1") for _ in range(3)]


@pytest.mark.parametrize("make", [SyncVectorEnv, DummyVecEnv, SubprocVecEnv,
                                  *[lambda fns, mode=mode: Vector(fns, autoreset_mode=mode)
                                    for mode in MODES]],
                         ids=["sync", "dummy", "subproc", *[mode.name for mode in MODES]])
def test_several_environments_give_what_loops_by_hand_give(model, make):
    env = make(CARTPOLES)
    expected = [episode for i, count in enumerate((2, 2, 3)) for episode in by_hand(model, 5 + i, count)]
    totals, lengths = evaluate_policy(model, env, 7, return_episode_rewards=True, seed=5)
    assert sorted(zip(totals, lengths)) == sorted(expected)
    env.close()


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_rows_that_only_reset_count_in_nothing(counter_model, mode, truncate):
    env = Vector([lambda: Planned((3,), truncate), lambda: Planned((4,), truncate)], autoreset_mode=mode)
    totals, lengths = evaluate_policy(counter_model, env, 6, return_episode_rewards=True)
    assert sorted(lengths) == [3, 3, 3, 4, 4, 4]
    assert sorted(totals) == sorted(returns((3,), 3) + returns((4,), 3))


@pytest.mark.parametrize("make", [SyncVectorEnv, Vector], ids=["sync", "plain"])
def test_short_episodes_are_not_preferred(counter_model, make):
    # the first four episodes to finish are all of environment 0, of length 2; its fair share is two of them
    env = make([lambda: Planned((2,)), lambda: Planned((9,))])
    _, lengths = evaluate_policy(counter_model, env, 4, return_episode_rewards=True)
    assert sorted(lengths) == [2, 2, 9, 9]
    _, lengths = evaluate_policy(counter_model, make([Planned, Planned, Planned]), 4,
                                 return_episode_rewards=True)
    assert sorted(lengths) == [2, 2, 2, 9]  # 1, 1 and 2 episodes, each from the start


@pytest.mark.parametrize("mode", [None, *MODES])
def test_state_and_mask_follow_the_episodes(mode):
    policy, lengths = Memory(), (2, 5)
    env = Planned(lengths) if mode is None else Vector([lambda: Planned(lengths)] * 3, autoreset_mode=mode)
    evaluate_policy(policy, env, 6 if mode else 3)
    seen = 0
    for obs, state, deterministic in policy.log:
        assert deterministic
        for (episode, t), steps in zip(obs, state):
            # in NEXT_STEP mode the last observation is acted on, to no effect
            if t < lengths[int(episode) % 2]:
                assert steps == t
                seen += 1
    assert seen >= 9
    policy = Memory()
    evaluate_policy(policy, Planned(lengths), 1, deterministic=False)
    assert policy.log[0][2] is False


def test_a_vector_environment_of_stable_baselines_works_too(counter_model):
    class VecEnv:
        """Two environments as stable-baselines3 has them: reset gives observations alone, an end resets."""

        num_envs, render_mode = 2, None
        observation_space, action_space = Planned.observation_space, Planned.action_space
        envs = [Planned((2,)), Planned((9,))]

        def seed(self, seed):
            self.seeded = seed

        def reset(self):
            return np.stack([env.reset()[0] for env in self.envs])

        def step(self, actions):
            rows = [env.step(action) for env, action in zip(self.envs, actions)]
            obs, rewards, dones, _, infos = (list(column) for column in zip(*rows))
            obs = [env.reset()[0] if done else x for env, done, x in zip(self.envs, dones, obs)]
            return np.stack(obs), np.array(rewards), np.array(dones), infos

        step_wait = None

    env = VecEnv()
    totals, lengths = evaluate_policy(counter_model, env, 4, return_episode_rewards=True, seed=3)
    assert env.seeded == 3 and sorted(lengths) == [2, 2, 9, 9]
    assert sorted(totals) == sorted(returns((2,), 2) + returns((9,), 2))


def test_the_policy_of_a_file_is_evaluated_too(model, tmp_path):
    policy = load_policy(model.save(tmp_path / "model"))
    of_file, of_model = (evaluate_policy(one, "CartPole-v1", 3, seed=1) for one in (policy, model))
    assert of_file == of_model


def test_the_model_is_not_changed(tmp_path):
    model = TRPO("MlpPolicy", "CartPole-v1", seed=0, timesteps_per_batch=64, normalize_observations=True,
                 normalize_rewards=True)
    model.learn(64)
    before = (tmp_path / "a.npz", tmp_path / "b.npz")
    model.save(before[0])
    evaluate_policy(model, "CartPole-v1", 3)
    evaluate_policy(model, "CartPole-v1", 3, deterministic=False, seed=4)
    model.save(before[1])
    assert before[0].read_bytes() == before[1].read_bytes()


def test_seeds(model):
    drawn = [evaluate_policy(model, "CartPole-v1", 3, False, return_episode_rewards=True, seed=seed)
             for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    env, other = Planned(), Planned()
    evaluate_policy(Memory(), env, 3)
    evaluate_policy(Memory(), other, 3, seed=np.int64(7))
    assert not any(env.seeds) and other.seeds[0] == 7 and not any(other.seeds[1:])


def test_a_seed_is_that_of_the_drawn_actions_too(counter_model):
    def drawn(seed):
        actions = []
        evaluate_policy(counter_model, Planned((30,)), 1, False, seed=seed,
                        callback=lambda names, _: actions.append(int(names["action"])))
        return actions
    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("make", [Planned, lambda: Vector([Planned, Planned])], ids=["env", "vector"])
def test_callback_sees_every_step(make):
    calls = []

    def callback(locals_, globals_):
        assert globals_["__name__"] == "trpo_np.evaluation"
        calls.append({name: np.copy(locals_[name])
                      for name in ("reward", "done", "episode_reward", "episode_length")})
        assert np.all(np.asarray(locals_["info"]["t"]) == locals_["episode_length"])
        assert locals_["obs"].shape[-1] == 2 and "action" in locals_

    env = make()
    evaluate_policy(Memory(), env, getattr(env, "num_envs", 1), callback=callback)
    assert len(calls) == 2 and all(calls[-1]["done"]) and not any(calls[0]["done"])
    assert all(calls[-1]["episode_reward"] == calls[0]["reward"] + calls[1]["reward"])


def test_render_draws_each_step():
    env = Planned((4,))
    evaluate_policy(Memory(), env, 2)
    assert env.rendered == 0
    evaluate_policy(Memory(), env, 2, render=True)
    assert env.rendered == 8
    env.render_mode = "human"  # it draws by itself
    evaluate_policy(Memory(), env, 2, render=True)
    assert env.rendered == 8


def test_lives_are_not_episodes():
    class Lives(Planned):
        """Every second end is that of a life: the frame number of the game goes on, as under ALE."""

        def reset(self, seed=None, options=None):
            self.frame = 0 if self.episode % 2 else self.frame + 1
            return super().reset()[0], {"episode_frame_number": self.frame}

        def step(self, action):
            self.frame += 4
            return *super().step(action)[:4], {"episode_frame_number": self.frame}

    totals, lengths = evaluate_policy(Memory(), Lives((3, 5)), 2, return_episode_rewards=True)
    assert lengths == [8, 8] and totals == [sum(returns((3, 5), 4)[:2]), sum(returns((3, 5), 4)[2:])]


def test_threshold():
    mean = np.mean(returns((2, 9), 2))
    assert evaluate_policy(Memory(), Planned(), 2, reward_threshold=mean - 1)[0] == mean
    with pytest.raises(AssertionError, match=f"{mean:.2f}, not above the threshold"):
        evaluate_policy(Memory(), Planned(), 2, reward_threshold=mean)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, None])
def test_the_number_of_episodes_is_checked(model, n):
    with pytest.raises(ValueError, match="n_eval_episodes is .*at least 1"):
        evaluate_policy(model, "CartPole-v1", n)


def test_spaces_are_compared_before_anything_is_done(model, tmp_path):
    env = Planned()
    with pytest.raises(ValueError,
                       match="observation space does not fit the model: (shape|low|high) is .* is needed"):
        evaluate_policy(model, env)
    assert not env.seeds
    with pytest.raises(ValueError, match="observation space"):
        evaluate_policy(load_policy(model.save(tmp_path / "model")), env)

    class ThreeActions(gymnasium.ActionWrapper):
        action_space = gymnasium.spaces.Discrete(3)

    with pytest.raises(ValueError, match="action space does not fit the model: n is 3, 2 is needed"):
        evaluate_policy(model, ThreeActions(gymnasium.make("CartPole-v1")))


@pytest.mark.parametrize("make", [lambda env: env, lambda env: Vector([lambda: env])], ids=["env", "vector"])
def test_rewards_must_be_finite(make):
    class Broken(Planned):
        def step(self, action):
            return self.obs(), np.nan, True, False, {}

    with pytest.raises(ValueError, match="rewards .* nan.*finite"):
        evaluate_policy(Memory(), make(Broken()), 1)


def test_an_environment_that_was_made_here_is_closed(monkeypatch):
    closed = []
    gymnasium.register("Closing-v0", entry_point=lambda: Planned())
    monkeypatch.setattr(Planned, "close", lambda self: closed.append(1), raising=False)
    evaluate_policy(Memory(), "Closing-v0", 1)
    assert closed == [1]
    evaluate_policy(Memory(), Planned(), 1)
    assert closed == [1]
    del gymnasium.registry["Closing-v0"]


# --- episodes that never end --------------------------------------------------------------------------------

class Endless(gymnasium.Env):
    """Gives the reward 1, and no end."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.starts = 0

    def reset(self, *, seed=None, options=None):
        self.starts += 1
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}


class Stays(Memory):
    def predict(self, obs, state=None, mask=None, deterministic=False):
        self.starts = getattr(self, "starts", 0) + np.count_nonzero(mask)
        return np.zeros(len(mask), int), state


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("make", [SyncVectorEnv, Vector], ids=["stepped alone", "stepped together"])
def test_an_episode_that_never_ends_is_cut_and_counts(n, make, recwarn):
    env, policy, done = make([Endless] * n), Stays(), []
    found = evaluate_policy(policy, env, 4, return_episode_rewards=True, max_steps=70,
                            callback=lambda names, _: done.append(names["done"].sum()))
    assert found == ([70.0] * 4, [70] * 4) and sum(done) >= 4 and not recwarn.list
    if make is SyncVectorEnv:  # the next one starts anew, for the environment as for the policy
        assert policy.starts >= 4 and sum(one.starts for one in env.envs) == 4 + n


def test_a_word_comes_while_an_episode_does_not_end():
    said = []
    for max_steps, until in ((12_000, "cut after 12,000, and counts then"), (10_001, "cut after 10,001")):
        with pytest.warns(UserWarning, match=f"not ended in 10,000 steps; it is {until}") as caught:
            assert evaluate_policy(Stays(), Endless(), 1, max_steps=max_steps) == (max_steps, 0.0)
        said.append(len(caught))
        assert caught[0].filename == __file__
    assert said == [1, 1]


def test_an_episode_that_ends_in_time_is_not_cut(recwarn):
    limited = gymnasium.wrappers.TimeLimit(Endless(), 10_000)
    for max_steps in (None, 10_000, 10_001, 200_000):
        assert evaluate_policy(Stays(), limited, 2, max_steps=max_steps) == (10_000.0, 0.0)
    assert not recwarn.list
    with pytest.raises(ValueError, match="max_steps is 0"):
        evaluate_policy(Stays(), limited, 1, max_steps=0)


def test_an_episode_that_ends_where_it_would_be_cut_is_followed_by_the_next():
    found = evaluate_policy(Memory(), Planned((7,)), 3, return_episode_rewards=True, max_steps=7)
    assert found == (returns((7,), 3), [7] * 3)


# --- wrappers that normalise --------------------------------------------------------------------------------

def normal(make):
    env = gymnasium.wrappers.RecordEpisodeStatistics(make())
    return gymnasium.wrappers.NormalizeReward(gymnasium.wrappers.NormalizeObservation(env))


def vector_normal(make):
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(SyncVectorEnv([make]))
    return gymnasium.wrappers.vector.NormalizeReward(gymnasium.wrappers.vector.NormalizeObservation(env))


def foreign_normal(make):
    common = pytest.importorskip("stable_baselines3.common")
    env = common.vec_env.DummyVecEnv([lambda: common.monitor.Monitor(make())])
    return common.vec_env.VecNormalize(env)


WRAPPED = {"env": normal, "dummy": lambda make: DummyVecEnv([lambda: normal(make)]), "vector": vector_normal,
           "stable-baselines3": foreign_normal}


def statistics(env):
    found = [getattr(wrapper, name) for its in normalizers(env) for name, wrapper in its.items()]
    return found, [(np.copy(rms.mean), np.copy(rms.var), rms.count) for rms in found]


@pytest.mark.parametrize("kind", WRAPPED)
def test_an_evaluation_normalises_as_training_does_and_reports_raw_returns(kind):
    env, other = WRAPPED[kind](Shifted), WRAPPED[kind](Shifted)
    model = TRPO("MlpPolicy", env, timesteps_per_batch=256, seed=0).learn(256)
    (_, before), (own, own_before) = statistics(env), statistics(other)
    assert before[0][2] > 200 and len(before) == len(own) >= 2
    rms = normalizers(env)[0]["obs_rms"].obs_rms
    mean, var = rms.mean.copy(), rms.var.copy()

    class Normal:  # does by hand what the wrapper does
        def predict(self, obs, state, mask, deterministic):
            obs = np.clip((obs - mean) / np.sqrt(var + 1e-8), -10, 10).astype(np.float32)
            return model.predict(obs, state, mask, deterministic)
    expected = evaluate_policy(Normal(), Shifted(), 6, seed=3, return_episode_rewards=True)
    for used in (other, env):
        found = evaluate_policy(model, used, 6, seed=3, return_episode_rewards=True)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-3)
        assert found[1] == expected[1]
    np.testing.assert_equal(statistics(env)[1], before)  # to evaluate is not to train
    np.testing.assert_equal(statistics(other)[1], own_before)
    assert all(a is b for a, b in zip(statistics(other)[0], own))
    callback = EvalCallback(other, n_eval_episodes=6, eval_freq=256, verbose=0)
    model.learn(256, callback)
    again = evaluate_policy(model, other, 100, seed=5)
    assert abs(callback.last_mean_reward - again[0]) < 2 * again[1]  # of raw returns, about 30
    assert abs(np.mean([total for total, _ in model.recent]) - again[0]) < 2 * again[1] and again[0] > 9


def test_normalising_wrappers_keep_their_own_statistics_where_training_has_none():
    model = TRPO("MlpPolicy", Shifted(), timesteps_per_batch=64, seed=0).learn(64)
    env = normal(Shifted)
    for its in (model, model.policy):
        before = env.get_wrapper_attr("obs_rms").count
        evaluate_policy(its, env, 1)
        assert env.get_wrapper_attr("obs_rms").count > before + 1 and env.update_running_mean
