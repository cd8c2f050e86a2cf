"""Episodes go on: from one `learn` to the next, through checkpoints, and in copies and files of a model."""

import os
import pickle
import sys
import warnings
from copy import deepcopy
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from test_env_state import Market, Simulated, Teller, Told
from test_whole import PACKAGE, TINY, make, state
from toys import Parity, Toy, Vector

from trpo_np import TRPO, evaluate_policy, snapshot
from trpo_np.callbacks import BaseCallback, CheckpointCallback, MonitorCallback
from trpo_np.comm import OneProcess
from trpo_np.envs import make_vec_env
from trpo_np.files.archive import FileError, read_archive, write_archive
from trpo_np.files.plain import pack, unpack
from trpo_np.vec_env import DummyVecEnv, SubprocVecEnv

BATCH = 8


def model_of(env, kind="mlp", **changes):
    policy = {"mlp": "MlpPolicy", "lstm": "MlpLstmPolicy"}[kind]
    kwargs = dict(net_arch=[2, "lstm"], n_lstm=2) if kind == "lstm" else TINY
    settings = dict(timesteps_per_batch=BATCH, vf_iters=2, vf_batch_size=4, vf_stepsize=0.01, cg_iters=2,
                    seed=3, normalize_observations=True, normalize_rewards=True)
    return TRPO(policy, env, policy_kwargs=kwargs, **settings | changes)


ENVS = {  # of any kind, with episodes that are mostly longer than a batch
    "one": Market, "several": lambda: DummyVecEnv([partial(Parity, limit=30), partial(Parity, limit=25)]),
    "autoreset rows": lambda: Vector([partial(Parity, limit=11)] * 2),
    "processes": lambda: AsyncVectorEnv([partial(Parity, limit=30)] * 2),
    "stable-baselines": lambda: SubprocVecEnv([partial(Parity, limit=30)] * 2)}


@pytest.mark.parametrize("kind", ["mlp", "lstm"])
@pytest.mark.parametrize("name", ENVS)
def test_learning_in_pieces_is_learning_at_once(name, kind):
    class Stop(BaseCallback):
        def _on_update_end(self):
            return self.model.updates < 14

    once, pieces = model_of(ENVS[name](), kind), model_of(ENVS[name](), kind)
    once.learn(1e9, Stop())
    pieces.learn(1)
    for steps in (1, 0, 1, BATCH + 1, BATCH + 1, 1, 1):
        pieces.learn(steps, reset_num_timesteps=False)
    pieces.learn(1e9, Stop(), reset_num_timesteps=False)
    assert state(once) == state(pieces) and once.episodes
    for model in (once, pieces):
        model.get_env().close()


def anew(act, **learning):
    """Say whether episodes start anew in the `learn` after `act(model)`."""
    model, seeds = model_of(Parity(limit=100)), []
    model.learn(BATCH)
    try:
        act(model)
    except (RuntimeError, ValueError):
        pass
    real = model.runner.restart
    model.runner.restart = lambda given: seeds.append(given) or real(given)
    model.learn(2 * BATCH, **{"reset_num_timesteps": False} | learning)
    assert len(seeds) < 2
    return bool(seeds)


def stop(*_):
    return False


def fail(*_):
    raise RuntimeError


class Fail(BaseCallback):
    """Fail when an update is over."""

    def _on_update_end(self):
        fail()


def play(model):
    """Use the environment as a user may, leaving it in the midst of an episode."""
    obs, _ = model.get_env().reset()
    for _ in range(3):
        model.get_env().step(model.predict(obs)[0])


def test_what_starts_episodes_anew():
    assert not anew(lambda model: None)
    assert anew(lambda model: None, reset_num_timesteps=True) and anew(lambda model: None, seed=3)
    assert anew(lambda model: model.learn(BATCH, fail, reset_num_timesteps=False))
    assert anew(lambda model: model.learn(BATCH, stop, reset_num_timesteps=False))
    assert anew(play) and anew(lambda model: model.get_env().step(0))
    assert anew(lambda model: evaluate_policy(model, model.get_env(), 1))
    assert anew(lambda model: evaluate_policy(model.policy, model.get_env(), 1))
    assert not anew(lambda model: evaluate_policy(model, Parity(), 1))
    assert not anew(lambda model: model.learn("many"))  # refused before anything
    # between two updates
    assert not anew(lambda model: model.learn(BATCH, Fail(), reset_num_timesteps=False))
    assert not anew(lambda model: [model.predict(np.zeros(3)), model.save(os.devnull + "x/y")])


def test_another_environment_starts_anew():
    model, other = model_of(Told()).learn(BATCH), Told()
    model.set_env(other)
    model.learn(BATCH, reset_num_timesteps=False)
    assert other.t == BATCH and model.get_env() is other


def test_an_evaluation_in_several_training_environments_starts_them_anew():
    env = AsyncVectorEnv([partial(Parity, limit=100)] * 2)
    model = model_of(env).learn(BATCH)
    assert not model.restart_pending
    evaluate_policy(model, env, 2)
    assert model.restart_pending
    env.close()


# --- files and copies ---------------------------------------------------------------------------------------

EXACT = {
    "one": (Market, "mlp"), "memory": (partial(Parity, limit=40), "lstm"), "methods": (Told, "mlp"),
    "several": (lambda: DummyVecEnv([partial(Parity, limit=30), partial(Parity, limit=25)]), "lstm"),
    "a wrapper's methods": (lambda: wrappers.TimeLimit(Teller(Simulated()), 30), "mlp"),
    "CartPole": (lambda: make_vec_env("CartPole-v1", 3, seed=1), "mlp"),
    "sync": (lambda: SyncVectorEnv([partial(gymnasium.make, "Acrobot-v1")] * 2), "lstm"),
    "frames": (lambda: wrappers.FrameStackObservation(gymnasium.make("Pendulum-v1"), 3), "mlp")}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("way", ["file", "pickle", "copy", "file of a copy of a file"])
def test_a_model_goes_on_elsewhere_with_the_same_bits(name, way, tmp_path):
    env, kind = EXACT[name]
    whole, part = model_of(env(), kind), model_of(env(), kind)
    whole.learn(9 * BATCH)
    part.learn(5 * BATCH)
    if way == "pickle":
        other = pickle.loads(pickle.dumps(part))
    elif way == "copy":
        other = deepcopy(part)
    else:
        other = TRPO.load(part.save(tmp_path / "x"), env())
        if way != "file":
            other = TRPO.load(deepcopy(other).save(tmp_path / "y"))
            assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()
            other.set_env(env())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.learn(whole.num_timesteps - part.num_timesteps, reset_num_timesteps=False)
    assert state(other) == state(whole) and other.runner.lengths.tolist() == whole.runner.lengths.tolist()
    part.learn(whole.num_timesteps - part.num_timesteps, reset_num_timesteps=False)
    assert state(part) == state(whole)  # saving changed nothing


def test_episodes_that_are_held_wait_for_a_rollout_that_counts(tmp_path):
    whole = model_of(Market()).learn(9 * BATCH)
    path = model_of(Market()).learn(5 * BATCH).save(tmp_path / "x")
    model = TRPO.load(path, Market())
    evaluate_policy(model, model.get_env(), 1)
    for interruption in (KeyboardInterrupt, KeyboardInterrupt):
        def interrupt(*_):
            raise interruption  # noqa: B023
        with pytest.raises(interruption):
            model.learn(BATCH, interrupt, reset_num_timesteps=False)
    assert Path(model.save(tmp_path / "y")).read_bytes() == Path(path).read_bytes()
    assert state(model.learn(4 * BATCH, reset_num_timesteps=False)) == state(whole)


@pytest.mark.parametrize("other, says", [
    (lambda: DummyVecEnv([Market, Market]), "there are 2 environments, not 1"),
    (lambda: Market(most=50), "most is not what it was there"),
    (lambda: wrappers.TimeLimit(Market(), 5), "it is of another kind"),
    (lambda: AsyncVectorEnv([Market]), "several environments as one")])
def test_an_environment_that_does_not_fit_starts_new_episodes_with_a_word(other, says, tmp_path):
    path = model_of(Market()).learn(5 * BATCH).save(tmp_path / "x")
    model = TRPO.load(path, other())
    with pytest.warns(UserWarning, match=f"cannot go on in this environment: .*{says}.*New ones start"):
        model.learn(BATCH, reset_num_timesteps=False)
    fresh = TRPO.load(path)
    fresh.held = None  # as of a file of before
    fresh.set_env(other())
    assert state(fresh.learn(BATCH, reset_num_timesteps=False)) == state(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TRPO.load(path, other()).learn(BATCH)  # a fresh start needs no word
    for each in (model, fresh):
        each.get_env().close()


def test_a_state_that_its_methods_refuse_starts_new_episodes(tmp_path):
    class Refuses(Told):
        def set_env_state(self, state):
            raise TypeError("a mistake")
    Refuses.__name__ = "Told"
    model = TRPO.load(model_of(Told()).learn(BATCH).save(tmp_path / "x"), Refuses())
    with pytest.warns(UserWarning, match="TypeError: a mistake"):
        model.learn(BATCH, reset_num_timesteps=False)
    assert model.num_timesteps == 2 * BATCH


def test_an_error_in_env_state_is_no_reason_not_to_save(tmp_path):
    class Broken(Told):
        def env_state(self):
            raise RuntimeError("the engine is gone")
    model = model_of(Broken())
    said, = said_by(lambda: model.learn(4 * BATCH, CheckpointCallback(BATCH, tmp_path)))
    assert "env_state raised RuntimeError: the engine is gone" in said
    assert TRPO.load(model.save(tmp_path / "x")).held is None


@pytest.mark.parametrize("envs", [
    [None], [3], [{}], [{"changed": {}}], [{"changed": 3, "same": []}], [{"changed": {}, "same": 5}],
    [{"changed": {3: 4}, "same": []}]])
def test_a_strange_state_of_an_environment_starts_new_episodes(envs, tmp_path):
    path = model_of(Market()).learn(BATCH).save(tmp_path / "x")
    record, arrays = read_archive(path)
    running = unpack(arrays["training/running"].tobytes())
    arrays["training/running"] = np.frombuffer(pack(running | {"envs": envs}), np.uint8)
    record.pop("format", None)
    write_archive(path, arrays, record)
    model = TRPO.load(path, Market())
    with pytest.warns(UserWarning, match="New ones start"):
        model.learn(BATCH, reset_num_timesteps=False)
    assert model.num_timesteps == 2 * BATCH


def test_changed_bytes_are_refused_or_lead_to_some_episodes(tmp_path, rng):
    path = model_of(DummyVecEnv([partial(Parity, limit=30)] * 2)).learn(2 * BATCH).save(tmp_path / "x")
    record, arrays = read_archive(path)
    outcomes = set()
    for _ in range(150):
        changed = arrays["training/running"].copy()
        changed[rng.integers(len(changed))] = rng.integers(256)
        write_archive(path, arrays | {"training/running": changed}, record)
        try:
            model = TRPO.load(path, DummyVecEnv([partial(Parity, limit=30)] * 2))
            outcomes.add(len(said_by(partial(model.learn, 0, reset_num_timesteps=False))
                             + said_by(model._start_episodes)))
        except FileError as error:
            assert "training/running" in str(error)
            outcomes.add("refused")
    assert outcomes == {"refused", 0, 1}


def test_only_the_state_of_now_knows_of_episodes(tmp_path):
    """A file from within a rollout or an update holds the last whole state; the environment has left that."""
    found = {}

    class Save(BaseCallback):
        def save(self, hook):
            path = self.model.save(tmp_path / "x")
            found.setdefault(hook, []).append("training/running" in read_archive(path)[1])

    hooks = ("_on_step", "_on_rollout_end", "_on_update_end", "_on_update_logged", "_on_training_end")
    Spy = type("Spy", (Save,), {hook: lambda self, hook=hook: self.save(hook) for hook in hooks})
    model_of(Market()).learn(2 * BATCH, Spy())
    assert {hook: set(answers) for hook, answers in found.items()} == {
        hook: {"update_" in hook or "training" in hook} for hook in hooks}


# --- checkpoints that end episodes --------------------------------------------------------------------------

def said_by(learn):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        learn()
    return [str(w.message) for w in said]


def test_a_checkpoint_ends_episodes_whose_state_no_file_can_hold(tmp_path):
    model, path = model_of(Simulated()), tmp_path / "a"
    said, = said_by(lambda: model.learn(20 * BATCH, CheckpointCallback(4 * BATCH, path)))
    assert "every 32 steps, ends the episodes under way" in said and "docs/environments.md" in said
    assert "state of Simulated: its attribute engine is a Engine" in said
    assert model.episodes == 0 and not model.recent  # of 40 steps each; those that are cut do not count
    record, _ = read_archive(path / "trpo_96_steps")
    assert model.cut_every == record["progress"]["cut_every"] == [32]
    assert said_by(lambda: model.learn(4 * BATCH, CheckpointCallback(4 * BATCH, path))) == []
    again = TRPO.load(path / "trpo_96_steps", Simulated())
    assert said_by(lambda: again.learn(64, CheckpointCallback(32, path), reset_num_timesteps=False)) == []
    whole = model_of(Simulated())
    said_by(lambda: whole.learn(160, CheckpointCallback(32, tmp_path / "b")))
    assert state(again) == state(whole)
    said, = said_by(lambda: model.learn(64, CheckpointCallback(64, path), reset_num_timesteps=False))
    assert "every 64 steps" in said and model.cut_every == [32, 64]
    assert TRPO.load(model.save(path / "x")).cut_every == [32, 64]


def test_other_saves_end_no_episode(tmp_path):
    class Save(BaseCallback):
        def _on_update_end(self):
            self.model.save(tmp_path / "x")
    model = model_of(Simulated())
    assert said_by(lambda: model.learn(20 * BATCH, Save())) == []
    assert model.episodes == 4 and "training/running" not in read_archive(tmp_path / "x")[1]


@pytest.mark.parametrize("env, episodes", [(Told, 4), (Simulated, 0)])
def test_episodes_longer_than_the_interval_end_where_the_state_can_be_had(env, episodes, tmp_path):
    model = model_of(env())
    said_by(lambda: model.learn(20 * BATCH, CheckpointCallback(3 * BATCH, tmp_path)))
    assert model.episodes == episodes
    whole = model_of(env()).learn(20 * BATCH)
    assert (state(whole) == state(model)) == (episodes > 0)  # then a checkpoint changes nothing


@pytest.mark.parametrize("env", [Told, Simulated, lambda: DummyVecEnv([Market, partial(Market, most=33)]),
                                 lambda: Vector([partial(Parity, limit=30)] * 2)])
@pytest.mark.parametrize("kind", ["mlp", "lstm"])
@pytest.mark.filterwarnings("ignore:each checkpoint")
def test_a_killed_run_of_long_episodes_goes_on_to_the_same_bits(env, kind, tmp_path):
    class Kill(BaseCallback):
        def _on_rollout_end(self):
            if self.model.updates == 13:
                raise SystemExit(9)

    whole, killed = model_of(env(), kind), model_of(env(), kind)
    whole.learn(20 * BATCH, CheckpointCallback(3 * BATCH, tmp_path / "whole"))
    with pytest.raises(SystemExit):
        killed.learn(20 * BATCH, [CheckpointCallback(3 * BATCH, tmp_path / "part"), Kill()])
    last = max((tmp_path / "part").iterdir(), key=lambda path: int(path.stem.split("_")[1]))
    resumed = TRPO.load(last, env())
    resumed.learn(20 * BATCH - resumed.num_timesteps, CheckpointCallback(3 * BATCH, tmp_path / "part"),
                  reset_num_timesteps=False)
    assert state(resumed) == state(whole)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "part").iterdir()) and len(names) > 4
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes(), name


class TwoRanks(OneProcess):
    size = 2

    def sum(self, x):
        return 2 * np.asarray(x)

    def gather(self, x):
        return [x, x]


def test_several_ranks_end_their_episodes(tmp_path):
    model = model_of(Told(), comm=TwoRanks())
    said, = said_by(lambda: model.learn(160, CheckpointCallback(32, tmp_path)))
    assert "several ranks" in said and model.episodes == 0
    assert "training/running" not in read_archive(tmp_path / "trpo_96_steps")[1]
    one = model_of(Told()).learn(64).save(tmp_path / "one")
    model = TRPO.load(one, Told(), comm=TwoRanks())
    assert "there are several ranks now" in said_by(lambda: model.learn(16, reset_num_timesteps=False))[0]


# --- putting a snapshot back --------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["mlp", "lstm"])
def test_an_interrupt_at_any_line_of_putting_a_snapshot_back_waits_until_it_is_whole(kind):
    """Ctrl-C comes in the midst of an update, and again while the half of it is undone."""
    start = make(kind).learn(BATCH)
    first, tried = state(start), 0

    @snapshot.all_or_nothing
    def learn(model, at):
        model.snapshot = snapshot.Snapshot(model, between=False)
        model.policy.params.flat += 1
        model.adam.m, model.adam.t, model.updates, model.num_timesteps = model.adam.m + 1, 99, 99, 99
        model.policy.normalizer.merge(np.ones((3, 3)), model.comm)
        model.reward_normalizer.moments.merge(np.ones((3, 1)), model.comm)
        model.recent.append((9.0, 9))
        sys.settrace(at)
        raise RuntimeError

    def interrupting(number):
        count = 0

        def trace(frame, event, arg):
            nonlocal count
            if not frame.f_code.co_filename.startswith(PACKAGE) or frame.f_code.co_name == "inner":
                return trace if count <= number else None
            if event in ("call", "line"):
                count += 1
                if count == number:
                    raise KeyboardInterrupt
            return trace
        return trace

    while True:
        model, before = deepcopy(start), sys.gettrace()
        try:
            learn(model, interrupting(tried + 1))
        except KeyboardInterrupt as error:
            assert isinstance(error.__cause__ or error.__context__, RuntimeError)
        except RuntimeError:
            break  # it was over before
        finally:
            sys.settrace(before)
        assert state(model) == first and model.snapshot is None, f"interrupted at line {tried + 1}"
        tried += 1
    assert state(model) == first and tried > 40


# --- the log of episodes ------------------------------------------------------------------------------------

@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_log_has_no_episodes_of_an_update_that_failed(error, tmp_path, monkeypatch):
    from trpo_np import trpo

    calls, real = [], trpo.improve

    def improve(*args):
        calls.append(1)
        if len(calls) == 4:
            raise error
        return real(*args)
    monkeypatch.setattr(trpo, "improve", improve)
    model = model_of(Toy())
    with pytest.raises(error):
        model.learn(9 * BATCH, MonitorCallback(tmp_path))
    rows = (tmp_path / "monitor.csv").read_text().splitlines()[2:]
    assert [int(row.split(",")[1]) for row in rows] == [length for _, length in model.recent]
    assert len(rows) == model.episodes > 0
