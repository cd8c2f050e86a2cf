"""stable-baselines' calling convention, as its users' programs expect it."""

import copy
import gc
import multiprocessing
import os
import signal
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ClipReward, TimeLimit
from toys import Walk

from trpo_np import TRPO, evaluate_policy, make_vec_env
from trpo_np.common import set_global_seeds
from trpo_np.envs import EnvList, adapt
from trpo_np.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, row, split, tile
from trpo_np.vec_wrappers import VecFrameStack

KINDS = [DummyVecEnv, SubprocVecEnv]


def walks():
    return [lambda: Walk(3), lambda: Walk(4, hurried=True)]


@pytest.fixture(params=KINDS)
def env(request):
    env = request.param(walks())
    yield env
    env.close()


def test_reset_and_step(env):
    assert env.num_envs == 2 and env.observation_space == Walk.observation_space
    assert env.action_space == spaces.Discrete(2)
    obs = env.reset()
    np.testing.assert_array_equal(obs["at"], [[0], [0]])
    assert obs["at"].dtype == np.float32
    obs, rewards, dones, infos = env.step(np.array([1, 0]))
    np.testing.assert_array_equal(obs["at"], [[1], [1]])
    np.testing.assert_array_equal(rewards, [1, 0])
    assert dones.dtype == bool and not dones.any() and type(infos) is list
    for info in infos:
        assert info["deep"] == {"at": 1} and list(info["path"]) == [0]
        assert "word" not in info and "terminal_observation" not in info
    kept = obs
    env.step_async([0, 1])
    obs, rewards, dones, infos = env.step_wait()
    np.testing.assert_array_equal(kept["at"], [[1], [1]])  # observations are copies
    np.testing.assert_array_equal(rewards, [0, 1])
    assert infos == [{"word": "on"}, {"word": "on"}]


def test_ends(env):
    env.reset()
    seen = [env.step([1, 1]) for _ in range(12)]
    for t, (obs, _, dones, infos) in enumerate(seen, 1):
        # both walks last three steps: one gets to its goal, the other is cut short of it
        assert list(dones) == [t % 3 == 0] * 2
        np.testing.assert_array_equal(obs["at"], [[t % 3]] * 2)
        if dones.any():
            assert [info["terminal_observation"]["at"][0] for info in infos] == [3, 3]
            assert [info["terminal_observation"]["door"] for info in infos] == [1, 0]
            assert [info["TimeLimit.truncated"] for info in infos] == [False, True]
            assert [info["word"] for info in infos] == ["on", "on"]  # the last step's, not the reset's
        else:
            assert not any("terminal_observation" in info or info.get("TimeLimit.truncated")
                           for info in infos)


@pytest.mark.parametrize("kind", KINDS)
def test_where_an_episode_ends_in_both_ways_it_was_not_only_truncated(kind):
    env = kind([lambda: TimeLimit(Walk(2), 2)])
    env.reset()
    env.step([1])
    _, _, [done], [info] = env.step([1])
    env.close()
    assert done and info["TimeLimit.truncated"] is False


def test_seeds(env):
    assert env.seed(7) == [7, 8]
    env.reset()
    first = env.get_attr("luck")
    env.reset()
    assert env.get_attr("luck") != first  # a seed serves one reset
    env.seed(np.int64(8))
    env.reset()
    assert env.get_attr("luck")[0] == first[1]

    seeds = env.seed()  # draws one
    env.reset()
    first = env.get_attr("luck")
    assert seeds[1] == seeds[0] + 1 != env.seed()[1]
    env.seed(seeds[0])
    env.reset()
    assert env.get_attr("luck") == first


def test_attributes_and_methods(env):
    env.reset()
    env.step([0, 0])
    assert env.get_attr("goal") == [3, 4]
    assert env.env_method("scaled", 10, plus=1) == [11, 11]
    env.set_attr("speed", [1, 2])  # one value for all, also when it is a list
    assert env.get_attr("speed") == [[1, 2], [1, 2]]


def test_some_of_the_environments_are_asked(env):
    env.reset()
    env.step([0, 0])
    assert env.env_method("scaled", 10, indices=[-1, 0, 1]) == [10, 10, 10]
    assert env.env_method("scaled", 10, plus=2, indices=1) == [12]
    env.set_attr("goal", 9, indices=1)
    assert env.get_attr("goal", -1) == [9] and env.get_attr("goal") == [3, 9]
    assert env.has_attr("goal") and env.has_attr("scaled") and not env.has_attr("nothing")
    assert env.env_is_wrapped(TimeLimit) == [False, False]
    with pytest.raises(ValueError, match="indices holds 2; there are 2 environments"):
        env.env_method("scaled", 10, indices=2)


@pytest.mark.parametrize("kind", KINDS)
def test_wrappers_are_found_wherever_they_are(kind):
    env = kind([lambda: ClipReward(TimeLimit(gymnasium.make("Pendulum-v1"), 9), -1, 1), partial(
        gymnasium.make, "Pendulum-v1")])
    assert env.env_is_wrapped(ClipReward) == [True, False] == VecFrameStack(env, 2).env_is_wrapped(
        ClipReward)
    assert env.env_is_wrapped(TimeLimit, indices=1) == [True]
    env.close()


class Optional(gymnasium.Env):
    """Begins where its options say, and takes actions of parts."""

    observation_space = spaces.Box(-9, 9, (2,))

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.luck = int(self.np_random.integers(1000))
        return np.array([(options or {}).get("at", -1), len(options or {})], np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        how, much = (action["how"], action["much"]) if isinstance(action, dict) else action
        return np.array([how, much[0]], np.float32), float(how), False, False, {}


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_for_the_next_reset(kind):
    env = kind([partial(Optional, spaces.Discrete(2))] * 2)
    for options, seen in [({"at": 3}, [3, 3]), (None, [-1, -1]), ([{"at": 1}, {"at": 2}], [1, 2])]:
        env.set_options(options)
        assert env.reset()[:, 0].tolist() == seen
        assert env.reset()[:, 0].tolist() == [-1, -1]
    env.seed(4)
    env.reset()
    lucks = env.get_attr("luck")
    env.set_options([{}, {"at": 1}])
    assert env.seed(4) and env.reset().tolist() == [[-1, 0], [1, 1]] and env.get_attr("luck") == lucks
    with pytest.raises(ValueError, match="set_options needs a dict, or one for each of the 2"):
        env.set_options([{}])
    env.close()


PARTS = [spaces.Discrete(3), spaces.Box(-1, 1, (1,))]
HALF = np.array([0.5], np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space, actions", [
    (spaces.Tuple(PARTS), ((1, HALF), (2, -HALF))), (spaces.Tuple(PARTS), [(1, HALF), (2, -HALF)]),
    (spaces.Dict(how=PARTS[0], much=PARTS[1]), [dict(how=1, much=HALF), dict(how=2, much=-HALF)]),
    (spaces.Dict(how=PARTS[0], much=PARTS[1]), dict(how=np.array([1, 2]), much=np.stack([HALF, -HALF])))])
def test_actions_of_parts(kind, space, actions):
    env = kind([partial(Optional, space)] * 2)
    env.reset()
    obs, rewards, _, _ = env.step(actions)
    assert obs.tolist() == [[1, 0.5], [2, -0.5]] and rewards.tolist() == [1, 2]
    if not isinstance(actions, dict):
        with pytest.raises(ValueError, match="2 environments"):
            env.step(actions[:1])
    env.close()


class Drawing(gymnasium.Env):
    """Draws from NumPy's global generator, of which each process has one."""

    observation_space, action_space = spaces.Box(0, 1, (1,), np.float64), spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return np.random.random(1), {}


def drawn():
    set_global_seeds(3)
    env = SubprocVecEnv([Drawing] * 3, "fork")
    rows = env.reset()
    env.close()
    return rows, np.random.random()


def test_processes_do_not_draw_the_same_from_the_global_generator():
    rows, here = drawn()
    assert len({*rows[:, 0].tolist()}) == 3
    np.testing.assert_array_equal(rows, drawn()[0])  # the script's seed decides
    set_global_seeds(3)
    assert here == np.random.random()  # whose own generator is left alone


@pytest.mark.parametrize("actions", [1, [1], [1, 0, 1], np.int64(0), np.array(1)])
def test_one_action_for_each_environment(env, actions):
    env.reset()
    with pytest.raises(ValueError, match="2 environments"):
        env.step(actions)
    env.step([0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_render(kind):
    env = kind([lambda goal=goal: Walk(goal, render_mode="rgb_array") for goal in (3, 4, 5)])
    env.reset()
    frame = env.render()
    assert frame.shape == (4, 6, 3)
    assert [frame[0, 0, 0], frame[0, 3, 0], frame[2, 0, 0], frame[2, 3, 0]] == [3, 4, 5, 0]
    np.testing.assert_array_equal(env.render(mode="rgb_array"), frame)
    assert [image[0, 0, 0] for image in env.get_images()] == [3, 4, 5]
    with pytest.raises(ValueError, match="render_mode='human'"):
        env.render(mode="human")
    env.close()
    one = kind([lambda: Walk(render_mode="rgb_array")])
    one.reset()
    assert one.render().shape == (2, 3, 3)
    one.close()


def test_tile_and_split():
    assert tile([np.zeros((2, 3, 3))] * 5).shape == (4, 9, 3)
    merged = {"a": np.array([1, 0]), "_a": np.array([True, False]), "b": {"c": np.array([5, 6])},
              "_mine": np.array([3, 4])}
    assert split(merged, 2) == [{"a": 1, "b": {"c": 5}, "_mine": 3}, {"b": {"c": 6}, "_mine": 4}]


@pytest.mark.parametrize("kind", KINDS)
def test_functions_are_needed(kind):
    for given in (Walk(), [Walk()], Walk, [lambda: Walk(), Walk()]):
        with pytest.raises(ValueError, match="You need to pass functions"):
            kind(given)
    with pytest.raises(ValueError, match="empty"):
        kind([])


def test_an_instance_serves_once():
    shared = Walk()
    with pytest.raises(ValueError, match="must not return the same instance"):
        DummyVecEnv([lambda: shared] * 2)
    with pytest.raises(ValueError, match="must not return the same instance"):
        DummyVecEnv([lambda: shared, lambda: gymnasium.wrappers.TimeLimit(shared, 5)])
    with pytest.raises(ValueError, match="function 1 returned None"):
        DummyVecEnv([Walk, lambda: None])


def test_close():
    env = DummyVecEnv(walks())
    env.close()
    assert all(inner.closed for inner in env.envs)
    env.close()


@pytest.mark.filterwarnings("ignore:.*Calling `close` while waiting")
@pytest.mark.parametrize("start_method", [None, "forkserver"])
def test_close_leaves_no_processes(start_method):
    before = multiprocessing.active_children()
    env = SubprocVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2, start_method=start_method)
    env.reset()
    env.step_async([0, 1])
    pids = [process.pid for process in env.vector_env.processes]
    env.close()  # in the middle of a step
    env.close()
    assert multiprocessing.active_children() == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class Interrupts(gymnasium.Env):
    """For Ctrl-C: its infos hold arrays of changing shapes, and of several types."""

    observation_space, action_space = spaces.Box(0, 99, (1,)), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.k = 0
        return np.zeros(1, np.float32), {"legal": np.arange(2)}

    def step(self, action):
        self.k += 1
        info = {"legal": np.arange(self.k % 3 + action), "at": {"place": (1, 2) if action else None}}
        return np.full(1, self.k, np.float32), 1.0, self.k == 9, False, info


def test_infos_of_any_types_and_shapes():
    seen = []
    for kind in KINDS:
        env = kind([Interrupts, Interrupts])
        env.reset()
        seen.append([env.step([0, 1])[3] for _ in range(10)])
        env.close()
    assert repr(seen[0]) == repr(seen[1]) and seen[0][1][1]["legal"].tolist() == [0, 1, 2]
    model = TRPO("MlpPolicy", env := SubprocVecEnv([Interrupts, Interrupts]), timesteps_per_batch=32, seed=0)
    assert list(model.learn(64).recent)[0] == (9, 9)
    env.close()


def test_environments_in_processes_go_on_after_an_interrupted_step(monkeypatch):
    env = SubprocVecEnv([Interrupts, Interrupts])
    model = TRPO("MlpPolicy", env, timesteps_per_batch=32, seed=0)
    steps, wait = iter(range(99)), env.vector_env.step_wait

    def interrupted(*args, **kwargs):
        if next(steps) == 5:
            raise KeyboardInterrupt
        return wait(*args, **kwargs)
    monkeypatch.setattr(env.vector_env, "step_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.learn(64)
    for process in env.vector_env.processes:
        os.kill(process.pid, signal.SIGINT)  # as a terminal does
    assert env.reset().tolist() == [[0], [0]] and env.step([0, 0])[0].tolist() == [[1], [1]]
    assert model.learn(64).num_timesteps == 64 and evaluate_policy(model, env, 2)[0] == 9
    env.close()


def test_a_copy_of_a_model_leaves_processes_alone():
    env = SubprocVecEnv([Interrupts, Interrupts])
    model = TRPO("MlpPolicy", env, timesteps_per_batch=32, seed=0)
    with pytest.warns(UserWarning, match="copied without its environment, which runs in processes"):
        assert copy.deepcopy(model).env is None
    gc.collect()
    assert model.learn(32).num_timesteps == 32
    env.close()


def test_a_dead_process_is_an_error_and_close_still_closes():
    before = multiprocessing.active_children()
    env = SubprocVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
    model = TRPO("MlpPolicy", env, timesteps_per_batch=8)
    model.learn(8)
    os.kill(env.vector_env.processes[1].pid, signal.SIGKILL)
    env.vector_env.processes[1].join()
    with pytest.raises(RuntimeError, match="process has died"):
        model.learn(8)
    env.close()
    assert multiprocessing.active_children() == before


@pytest.mark.filterwarnings("ignore:.*render")  # the page renders without having asked for it
def test_the_example_of_the_page():
    env = gymnasium.make("CartPole-v1")
    env = DummyVecEnv([lambda: env])
    model = TRPO("MlpPolicy", env, timesteps_per_batch=64, seed=0)
    model.learn(total_timesteps=128)
    obs = env.reset()
    assert obs.shape == (1, 4)
    ends = 0
    for _ in range(60):
        action, _states = model.predict(obs)
        assert action.shape == (1,)
        obs, rewards, dones, info = env.step(action)
        env.render()
        ends += dones[0]
    assert ends >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_make_vec_env(kind):
    env = make_vec_env("CartPole-v1", n_envs=3, seed=4, start_index=2, vec_env_cls=kind,
                       env_kwargs={"max_episode_steps": 7},
                       wrapper_class=gymnasium.wrappers.TimeAwareObservation)
    assert isinstance(env, kind) and isinstance(env, VecEnv) and env.num_envs == 3
    obs = env.reset()
    assert obs.shape == (3, 5)
    for i in range(3):
        np.testing.assert_array_equal(obs[i, :4], gymnasium.make("CartPole-v1").reset(seed=4 + 2 + i)[0])
    assert (env.reset()[:, :4] != obs[:, :4]).all()
    infos = [env.step([0, 1, 0])[3] for _ in range(7)][-1]
    assert [info["TimeLimit.truncated"] for info in infos] == [True] * 3
    env.close()


def test_make_vec_env_of_a_function():
    env = make_vec_env(Walk, n_envs=2, env_kwargs={"goal": 5})
    assert type(env) is DummyVecEnv and env.get_attr("goal") == [5, 5]


def test_samples_of_action_spaces_are_seeded_for_each_environment_by_itself():
    for i, env in enumerate(make_vec_env("CartPole-v1", 2, seed=4, start_index=2).envs):
        space = spaces.Discrete(2, seed=4 + 2 + i)
        assert [env.action_space.sample() for _ in range(20)] == [space.sample() for _ in range(20)]


def test_stable_baselines_import_paths():
    from trpo_np import common
    from trpo_np.common.callbacks import BaseCallback
    from trpo_np.common.policies import MlpPolicy
    from trpo_np.common.vec_env import DummyVecEnv as Dummy
    from trpo_np.common.vec_env import SubprocVecEnv as Subproc
    assert (Dummy, Subproc) == (DummyVecEnv, SubprocVecEnv)
    assert common.make_vec_env("CartPole-v1").envs[0].spec == make_vec_env("CartPole-v1").envs[0].spec
    assert MlpPolicy.__module__ == "trpo_np.policies.base" and BaseCallback.__module__ == "trpo_np.callbacks"
    with pytest.raises(AttributeError):
        common.nothing  # noqa: B018


def test_attributes_and_methods_of_some_environments():
    env = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 3)
    env.set_attr("length", 2.0)
    env.set_attr("length", 9.0, indices=[2, 0])
    assert env.get_attr("length") == [9.0, 2.0, 9.0] and env.get_attr("length", 1) == [2.0]
    env.reset()
    assert env.env_method("has_wrapper_attr", "length", indices=-1) == [True]
    assert len(env.env_method("has_wrapper_attr", "length")) == 3
    with pytest.raises(ValueError, match="indices holds 3; there are 3 environments"):
        env.get_attr("length", [0, 3])


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_may_be_functions_and_new(kind):
    env = kind([partial(gymnasium.make, "CartPole-v1")] * 2)
    env.set_attr("reward_of", abs, indices=1)  # of the second alone
    assert env.get_attr("reward_of", 1) == [abs] and not env.has_attr("reward_of")
    assert env.has_attr("theta_threshold_radians")  # of the environment within its wrappers
    env.set_attr("reward_of", max)
    assert env.get_attr("reward_of") == [max, max]
    env.close()


def test_what_a_bare_base_cannot_do_is_said():
    env = DummyVecEnv([Walk])
    for method, args in ((VecEnv.step_async, ([0],)), (VecEnv.step_wait, ()), (VecEnv.ask, (str,))):
        with pytest.raises(NotImplementedError):
            method(env, *args)


def test_a_row_of_parts_is_taken_from_each_part():
    batch = {"a": np.arange(4), "b": (np.arange(8).reshape(4, 2), np.arange(4) * 10)}
    found = row(batch, 2)
    assert found["a"] == 2 and found["b"][0].tolist() == [4, 5] and found["b"][1] == 20


def test_a_subclass_that_steps_in_another_way_is_respected():
    class Doubled(DummyVecEnv):
        def step_wait(self):
            obs, rewards, dones, infos = super().step_wait()
            return obs, 2 * rewards, dones, infos

    class Named(DummyVecEnv):
        def __init__(self, n):
            super().__init__([lambda: gymnasium.make("CartPole-v1")] * n)
    assert isinstance(adapt(Named(2)), EnvList)
    model = TRPO("MlpPolicy", Doubled([lambda: gymnasium.make("CartPole-v1")] * 2), timesteps_per_batch=256,
                 seed=0).learn(256)
    assert model.recent and all(total == 2 * length for total, length in model.recent)


@pytest.mark.parametrize("options, message", [
    (dict(n_envs=0), "n_envs is 0; an integer of at least 1"), (dict(n_envs="2"), "n_envs is '2'"),
    (dict(n_envs=2, seed="a"), "seed is 'a'; an integer"), (dict(n_envs=2, seed=-1), "seed is -1")])
def test_numbers_of_make_vec_env_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        make_vec_env("CartPole-v1", **options)
