"""Callbacks: when they are called, what stops training, and files that a killed run goes on from."""

import warnings

import gymnasium
import numpy as np
import pytest
from toys import Scored, Toy

from trpo_np import TRPO, evaluate_policy, load_policy
from trpo_np.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EventCallback,
    EveryNTimesteps,
    FileCallback,
    MonitorCallback,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
    as_callback,
    check_ranks,
)
from trpo_np.comm import OneProcess
from trpo_np.files.archive import read_archive
from trpo_np.vec_env import DummyVecEnv

BATCH = 64


def make(env="CartPole-v1", **kwargs):
    return TRPO("MlpPolicy", env, timesteps_per_batch=BATCH, vf_iters=1, seed=7,
                policy_kwargs={"layers": [8]}, **kwargs)


class Recorder(BaseCallback):
    """Notes every hook; says `answers[hook]` from the second call on."""

    def __init__(self, **answers):
        super().__init__()
        self.calls, self.answers = [], answers

    def _note(self, hook):
        first = hook not in self.calls
        self.calls.append(hook)
        return None if first else self.answers.get(hook)

    def _init_callback(self):
        self._note("init")

    def _on_training_start(self):
        self._note("start")

    def _on_rollout_start(self):
        self._note("rollout start")

    def _on_rollout_end(self):
        return self._note("rollout_end")

    def _on_update_end(self):
        return self._note("update_end")

    def _on_training_end(self):
        self._note("end")


class StepRecorder(Recorder):
    def _on_step(self):
        return self._note("step")


UPDATE = ["rollout start", *["step"] * BATCH, "rollout_end", "update_end"]


def without_steps(hooks):
    return [hook for hook in hooks if hook != "step"]


# --- hooks --------------------------------------------------------------------------------------------------


def test_order_of_hooks():
    recorder = StepRecorder()
    make().learn(2 * BATCH, recorder)
    assert recorder.calls == ["init", "start", *UPDATE, *UPDATE, "end"] and recorder.n_calls == 2 * BATCH


def test_steps_cost_nothing_unless_wanted():
    plain, steps = Recorder(), StepRecorder()
    model = make()
    model.learn(BATCH, plain)
    assert plain.calls == ["init", "start", *without_steps(UPDATE), "end"] and plain.n_calls == 0
    wanting = {"CallbackList": CallbackList([plain, [steps]]), "function": as_callback(lambda *_: None),
               "steps": steps}
    sober = [plain, CallbackList([plain]), CheckpointCallback(1, "x"), EveryNTimesteps(1, steps),
             EvalCallback("CartPole-v1"), as_callback(None)]
    assert all(callback.wants_steps for callback in wanting.values())
    assert not any(callback.wants_steps for callback in sober)


def test_what_callbacks_see():
    class Look(BaseCallback):
        def _on_training_start(self):
            assert self.locals["self"] is self.model and "TRPO" in self.globals
            assert self.logger is self.model.logger

        def _on_step(self):
            assert self.training_env is self.model.get_env()
            assert self.num_timesteps == self.n_calls == self.model.num_timesteps
            assert self.locals["rewards"].shape == self.locals["dones"].shape == (1,)
            assert self.locals["total_timesteps"] == 3 * BATCH

        def _on_rollout_end(self):
            assert self.num_timesteps == self.n_calls and self.num_timesteps % BATCH == 0
            assert len(self.locals["segment"].rewards) == BATCH
            updates.append(self.model.updates)

        def _on_update_end(self):
            updates.append(self.model.updates)
            self.logger.record("mine/x", 5)

    class Output:
        def write(self, values, step):
            rows.append((step, values["mine/x"]))

    updates, rows, model = [], [], make()
    model.loggers.append(Output())
    look = Look()
    model.learn(3 * BATCH, [look])
    assert updates == [0, 1, 1, 2, 2, 3] and look.n_calls == 3 * BATCH == model.num_timesteps
    assert rows == [(BATCH, 5), (2 * BATCH, 5), (3 * BATCH, 5)]


@pytest.mark.parametrize("no", [False, np.False_, 0])
@pytest.mark.parametrize("wrap", [lambda callback: callback, lambda callback: [Recorder(), [callback]]],
                         ids=["alone", "lists"])
@pytest.mark.parametrize("hook", ["rollout_end", "update_end"])
def test_false_stops_after_the_update(hook, wrap, no):
    model, recorder = make(), Recorder(**{hook: no})
    model.learn(10 * BATCH, wrap(recorder))
    assert model.updates == 2 and model.num_timesteps == 2 * BATCH
    # also after the last one: checkpoints
    assert recorder.calls.count("update_end") == 2 and recorder.calls[-1] == "end"


@pytest.mark.parametrize("no", [False, np.False_])
def test_false_from_a_step_stops_at_once(no):
    model, recorder = make(), StepRecorder(step=no)
    model.learn(10 * BATCH, recorder)
    assert model.updates == 0 and recorder.calls == ["init", "start", "rollout start", "step", "step", "end"]


def test_none_and_true_go_on():
    for answer in (None, True, np.True_, 1):
        model = make()
        model.learn(2 * BATCH, StepRecorder(step=answer, rollout_end=answer, update_end=answer))
        assert model.updates == 2


def test_functions():
    seen = []

    def function(locals_, globals_):
        assert locals_["self"] is model and "TRPO" in globals_ and locals_["t"] == len(seen) % BATCH
        seen.append(locals_["self"].num_timesteps)
        return len(seen) < 100

    model = make()
    model.learn(10 * BATCH, function)
    assert len(seen) == 100 and seen[0] == 1 and seen[-1] == 100 and model.updates == 1


def test_a_list_calls_all_even_after_one_that_stops():
    first, second = Recorder(update_end=False), Recorder()
    seen = []
    make().learn(10 * BATCH, [first, lambda locals_, globals_: seen.append(locals_["t"]), (second,)])
    assert first.calls == second.calls == ["init", "start", *without_steps(UPDATE * 2), "end"]
    assert len(seen) == 2 * BATCH


@pytest.mark.parametrize("callback", [3, "EvalCallback", [None, 3], EvalCallback], ids=str)
def test_what_is_no_callback_is_refused(callback):
    with pytest.raises(ValueError, match="callback is .*BaseCallback.*needed"):
        make().learn(BATCH, callback)


# --- events -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps, marks", [(1, range(1, 8)), (BATCH, range(1, 8)), (150, [3, 5, 8]),
                                            (2 * BATCH + 1, [3, 5, 7])])
def test_every_n_timesteps(n_steps, marks):
    class At(BaseCallback):
        def _on_step(self):
            at.append(self.num_timesteps)
            assert isinstance(self.parent, EveryNTimesteps)
            assert self.model.updates == self.num_timesteps // BATCH

    at = []
    make().learn(7 * BATCH, EveryNTimesteps(n_steps, [At(), lambda *_: None]))
    assert at == [mark * BATCH for mark in marks if mark <= 7]


def test_events_stop_training():
    model = make()
    model.learn(10 * BATCH, EveryNTimesteps(100, lambda *_: False))
    assert model.updates == 2

    class Mine(EventCallback):
        def _on_rollout_end(self):
            return self._on_event() if self.num_timesteps >= 3 * BATCH else None

    model, child = make(), Recorder(update_end=False)
    model.learn(10 * BATCH, Mine(child))
    # stops at its second event
    assert model.updates == 4 and child.calls == ["init", "start", "update_end", "update_end", "end"]


def test_marks_go_on_when_training_is_resumed():
    model, at = make(), []
    for _ in range(7):
        model.learn(BATCH, EveryNTimesteps(150, lambda *_: at.append(model.num_timesteps)),
                    reset_num_timesteps=False)
    assert at == [3 * BATCH, 5 * BATCH]


@pytest.mark.parametrize("n", [0, -5, 2.5, True])
def test_frequencies_are_checked(n):
    for build in (lambda: EveryNTimesteps(n, None), lambda: CheckpointCallback(n, "x"),
                  lambda: FileCallback("x", n), lambda: EvalCallback("CartPole-v1", eval_freq=n),
                  lambda: EvalCallback("CartPole-v1", n_eval_episodes=n)):
        with pytest.raises(ValueError, match="at least 1"):
            build()


# --- checkpoints --------------------------------------------------------------------------------------------


def test_checkpoints_are_whole_models(tmp_path, capsys):
    model = make()
    model.learn(5 * BATCH, CheckpointCallback(2 * BATCH, tmp_path / "new" / "folder", verbose=2))
    names = [f"trpo_{2 * BATCH}_steps.npz", f"trpo_{4 * BATCH}_steps.npz"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(names)
    loaded = TRPO.load(tmp_path / "new" / "folder" / names[1])
    assert loaded.num_timesteps == 4 * BATCH and loaded.updates == 4 and loaded.adam.t > 0
    assert capsys.readouterr().out.count("Saved a checkpoint to") == 2
    model.learn(BATCH, EveryNTimesteps(1, CheckpointCallback(1, tmp_path, name_prefix="mine")))
    assert (tmp_path / f"mine_{BATCH}_steps.npz").exists()


def test_one_file_is_replaced(tmp_path):
    seen, path = [], tmp_path / "sub" / "model"

    class Look(BaseCallback):
        def _on_update_logged(self):
            seen.append(TRPO.load(path).num_timesteps)
    make().learn(3 * BATCH, [FileCallback(path, BATCH), Look()])
    assert seen == [BATCH, 2 * BATCH, 3 * BATCH]
    assert [file.name for file in path.parent.iterdir()] == ["model.npz"]


class Killed(Exception):
    pass


class Kill(BaseCallback):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def _on_rollout_end(self):
        if self.num_timesteps >= self.after:
            raise Killed


def envs():
    return gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1") for _ in range(3)])


@pytest.mark.parametrize("env", [lambda: "CartPole-v1", envs, lambda: "Pendulum-v1"],
                         ids=["one", "three", "box"])
@pytest.mark.parametrize("kill_after", [3, 5, 6])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, env, kill_after):
    settings = {"normalize_observations": True, "normalize_rewards": True}

    def callbacks(name):
        return [CheckpointCallback(2 * BATCH, tmp_path / name), StepRecorder()]

    whole = make(env(), **settings)
    whole.learn(8 * BATCH, callbacks("whole"))
    killed = make(env(), **settings)
    with pytest.raises(Killed):
        killed.learn(8 * BATCH, [*callbacks("killed"), Kill(kill_after * BATCH)])
    files = sorted((tmp_path / "killed").iterdir(), key=lambda path: int(path.stem.split("_")[1]))
    assert len(files) == (kill_after - 1) // 2
    resumed = TRPO.load(files[-1], env=env())
    resumed.learn(8 * BATCH - resumed.num_timesteps, callbacks("killed"), reset_num_timesteps=False)

    assert resumed.num_timesteps == whole.num_timesteps >= 8 * BATCH
    for name, array in whole.get_parameters().items():
        assert np.array_equal(array, resumed.get_parameters()[name]), name
    assert np.array_equal(whole.adam.m, resumed.adam.m) and np.array_equal(whole.adam.v, resumed.adam.v)
    assert np.array_equal(whole.policy.normalizer.moments.m2, resumed.policy.normalizer.moments.m2)
    for file in (tmp_path / "whole").iterdir():  # the same content has the same bytes
        assert file.read_bytes() == (tmp_path / "killed" / file.name).read_bytes()


@pytest.mark.parametrize("callback", [
    lambda folder: CheckpointCallback(BATCH, folder), lambda folder: FileCallback(folder / "m", BATCH),
    lambda folder: EvalCallback("CartPole-v1", eval_freq=BATCH, log_path=folder),
    lambda folder: EvalCallback("CartPole-v1", eval_freq=BATCH, best_model_save_path=folder)])
def test_a_folder_in_which_nothing_can_be_written_is_found_out_before_training(
        tmp_path, monkeypatch, callback):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # which root could do in any folder
    model = make()
    with pytest.raises(PermissionError, match="no file can be written in this folder: Perm") as caught:
        model.learn(BATCH, callback(tmp_path))
    assert caught.value.filename == str(tmp_path) and model.num_timesteps == 0


def test_a_folder_that_cannot_be_made_is_found_out_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "x"
    for callback in (CheckpointCallback(1, folder), EvalCallback("CartPole-v1", log_path=folder),
                     EvalCallback("CartPole-v1", best_model_save_path=folder)):
        model = make()
        with pytest.raises(OSError):
            model.learn(BATCH, callback)
        assert model.updates == 0


# --- evaluation ---------------------------------------------------------------------------------------------


def staged(values, **kwargs):
    """A model, and an environment whose episodes after update k return 3 * values[k]."""
    model, env = make(Scored()), Scored(values)
    env.model = model
    return model, env


def test_evaluations(tmp_path, capsys):
    class New(BaseCallback):
        def _on_step(self):
            best.append((self.num_timesteps, self.parent.best_mean_reward, self.parent.last_mean_reward))

    class Output:
        def write(self, values, step):
            if "eval/mean_reward" in values:
                rows.append((step, values["eval/mean_reward"], values["eval/mean_ep_length"],
                             values["time/total_timesteps"]))

    best, rows = [], []
    model, env = staged([1.0, 3.0, 2.0, 2.5, 4.0])
    model.loggers.append(Output())
    callback = EvalCallback(env, New(), n_eval_episodes=2, eval_freq=BATCH, log_path=tmp_path / "log",
                            best_model_save_path=tmp_path / "best")
    model.learn(4 * BATCH, callback, log_interval=3)
    assert best == [(BATCH, 3.0, 3.0), (2 * BATCH, 9.0, 9.0)]
    assert callback.best_mean_reward == 9.0 and callback.last_mean_reward == 7.5
    assert rows == [(k * BATCH, 3 * value, 3.0, k * BATCH) for k, value in enumerate([1.0, 3.0, 2.0, 2.5], 1)]
    with np.load(tmp_path / "log" / "evaluations.npz", allow_pickle=False) as file:
        assert file["timesteps"].tolist() == [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]
        assert file["results"].tolist() == [[3.0, 3.0], [9.0, 9.0], [6.0, 6.0], [7.5, 7.5]]
        assert file["ep_lengths"].tolist() == [[3, 3]] * 4
    assert TRPO.load(tmp_path / "best" / "best_model.npz").updates == 2
    load_policy(tmp_path / "best" / "best_model").predict(np.zeros(1))
    out = capsys.readouterr().out
    assert f"Eval num_timesteps={BATCH}, episode_reward=3.00 +/- 0.00" in out
    assert "Episode length: 3.00 +/- 0.00" in out
    assert out.count("New best mean reward!") == 2 and out.count("Eval") == 4


def test_a_tie_is_no_new_best(tmp_path):
    model, env = staged([3.0, 3.0, 2.0, 3.0])
    best = []
    callback = EvalCallback(env, lambda *_: best.append(model.updates), 1, BATCH, verbose=0,
                            best_model_save_path=tmp_path)
    model.learn(4 * BATCH, callback)
    assert best == [1] and TRPO.load(tmp_path / "best_model").updates == 1


def test_each_evaluation_has_seeds_of_its_own_the_same_in_the_same_run():
    runs = [Scored(), Scored()]
    for env in runs:
        make(Scored()).learn(3 * BATCH, EvalCallback(env, None, 1, BATCH, verbose=0))
    seeds = [[seed for seed in env.seeds if seed is not None] for env in runs]
    assert seeds[0] == seeds[1] and len(seeds[0]) == len(set(seeds[0])) == 3


def test_a_resumed_run_continues_the_evaluations(tmp_path):
    def callback(n_eval_episodes=1):
        return EvalCallback(env, None, n_eval_episodes, BATCH, tmp_path, tmp_path, verbose=0)

    model, env = staged([1.0, 3.0, 2.0, 2.5, 4.0])
    model.learn(2 * BATCH, [callback(), CheckpointCallback(1, tmp_path)])
    model.learn(BATCH, callback(), reset_num_timesteps=False)  # the evaluation that the kill takes away
    env.values[2] = 2.25
    model = env.model = TRPO.load(tmp_path / f"trpo_{2 * BATCH}_steps.npz", env=Scored())
    resumed = callback()
    model.learn(2 * BATCH, resumed, reset_num_timesteps=False)
    arrays = read_archive(tmp_path / "evaluations.npz")[1]
    assert arrays["timesteps"].tolist() == [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]
    assert arrays["results"].tolist() == [[3.0], [9.0], [6.75], [7.5]]
    assert arrays["ep_lengths"].dtype.kind == "i"
    # not replaced by a worse one
    assert resumed.best_mean_reward == 9.0 and TRPO.load(tmp_path / "best_model").updates == 2
    with pytest.raises(ValueError, match=r"evaluations.npz holds results \(4, 1\).*\(4, 2\) is needed"):
        model.learn(BATCH, callback(2), reset_num_timesteps=False)
    model = env.model = make(Scored())
    model.learn(BATCH, callback(2))  # a new run starts anew
    assert read_archive(tmp_path / "evaluations.npz")[1]["results"].tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("threshold, updates", [(8.9, 2), (9.0, 2), (9.1, 5), (100.0, 6)])
@pytest.mark.parametrize("wrap", [lambda callback: callback, lambda callback: [lambda *_: None, callback]],
                         ids=["alone", "list"])
def test_reward_threshold(threshold, updates, wrap, capsys):
    model, env = staged([1.0, 3.0, 2.0, 2.5, 4.0, 4.0])
    stop = StopTrainingOnRewardThreshold(threshold, verbose=1)
    model.learn(6 * BATCH, EvalCallback(env, wrap(stop), 1, BATCH, verbose=0))
    assert model.updates == updates
    assert capsys.readouterr().out.count("Stopping training") == (updates < 6)


def test_reward_threshold_needs_an_evaluation():
    for callback in (StopTrainingOnRewardThreshold(1), EveryNTimesteps(1, StopTrainingOnRewardThreshold(1))):
        with pytest.raises(ValueError, match="needs an EvalCallback"):
            make().learn(BATCH, callback)


def test_spaces_are_compared_before_training():
    model = make()
    with pytest.raises(ValueError, match="evaluation environment's observation space does not fit"):
        model.learn(BATCH, EvalCallback(Scored()))
    assert model.updates == 0


@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluation_leaves_training_alone_and_repeats_itself(tmp_path, deterministic):
    runs = [make() for _ in range(3)]
    evals = [EvalCallback("CartPole-v1", None, 3, 2 * BATCH, deterministic=deterministic, verbose=0)
             for _ in runs[:2]]
    for model, callback in zip(runs, [*evals, None]):
        model.learn(4 * BATCH, callback)
    assert evals[0].evaluations_results == evals[1].evaluations_results
    assert len(evals[0].evaluations_results) == 2
    files = [model.save(tmp_path / str(i)) for i, model in enumerate(runs)]
    assert open(files[0], "rb").read() == open(files[2], "rb").read()


def test_evaluations_measure_what_evaluate_policy_does():
    model, env = make(), gymnasium.make("CartPole-v1")
    most_likely, drawn = (EvalCallback(env, None, 50, BATCH, deterministic=answer, verbose=0)
                          for answer in (True, False))
    model.learn(BATCH, [most_likely, drawn])
    assert most_likely.last_mean_reward == np.mean(most_likely.evaluations_results[0])
    assert most_likely.last_mean_reward != drawn.last_mean_reward
    for callback, deterministic in ((most_likely, True), (drawn, False)):
        mean, std = evaluate_policy(model, env, 50, deterministic, seed=1)
        assert abs(mean - callback.last_mean_reward) < std  # five standard errors


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: DummyVecEnv([lambda: env])])
def test_evaluating_in_the_environment_of_training_starts_its_episodes_anew(wrap):
    env = Scored()
    model = make(wrap(env))
    outer = gymnasium.wrappers.TimeLimit(env, 10)
    model.learn(3 * BATCH, EvalCallback(outer, None, 1, BATCH, verbose=0))
    seeded = [seed for seed in env.seeds if seed is not None]
    assert len(seeded) == 6  # three rollouts and three evaluations
    env = Scored()
    make(env).learn(3 * BATCH, EvalCallback(Scored(), None, 1, BATCH, verbose=0))
    assert len([seed for seed in env.seeds if seed is not None]) == 1


# --- episodes, ranks ----------------------------------------------------------------------------------------


def test_monitor(tmp_path):
    model = make(Scored())
    model.learn(2 * BATCH, MonitorCallback(tmp_path, "Scored-v0"))
    lines = (tmp_path / "monitor.csv").read_text().splitlines()
    assert '"Scored-v0"' in lines[0] and lines[1] == "r,l,t"
    assert len(lines) == 2 + model.episodes == 2 + 2 * BATCH // 3
    assert all(line.startswith("0.0,3,") for line in lines[2:])


class Ranks(OneProcess):
    """Rank `rank` of two that do the same."""

    size = 2

    def __init__(self, rank, other=None):
        self.rank, self.other = rank, other

    def gather(self, x):
        return [x, x] if self.other is None else [x, self.other]


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_share_an_evaluation_and_rank_0_writes(tmp_path, rank, capsys):
    model, env = staged([1.0])
    model.comm, model.updates, model.logger = Ranks(rank), 1, model.__dict__.get("logger")
    callback = CallbackList([EvalCallback(env, None, 4, BATCH, tmp_path, tmp_path),
                             CheckpointCallback(BATCH, tmp_path)])
    callback.init_callback(model)

    class Logger:
        record = dump = staticmethod(lambda *_: None)

    model.logger = Logger()
    callback.on_training_start({}, {})
    model.num_timesteps, model.restart_pending = BATCH, False
    assert callback.on_update_end() and not model.restart_pending
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        callback.on_update_logged()
    assert model.restart_pending and ["several ranks" in str(w.message) for w in said] == [True] * (rank == 0)
    assert sum(seed is None for seed in env.seeds) + 1 == len(env.seeds)
    assert callback.callbacks[0].evaluations_results == [[3.0] * 4]
    files = {"evaluations.npz", "best_model.npz", f"trpo_{BATCH}_steps.npz"}
    assert {path.name for path in tmp_path.iterdir()} == (set() if rank else files)
    assert bool(capsys.readouterr().out) == (rank == 0)


def test_ranks_evaluate_with_seeds_of_their_own():
    seeds = []
    for rank in (0, 1):
        model, env = make(Scored()), Scored()
        model.comm, model.num_timesteps = Ranks(rank), BATCH
        callback = EvalCallback(env, None, 3, BATCH, verbose=0)
        callback.init_callback(model)
        callback.on_update_end()
        seeds.append(env.seeds[0])
        assert len(env.seeds) >= (1, 2)[rank]  # the last rank has the odd one
    assert None not in seeds and seeds[0] != seeds[1]


def test_an_evaluation_that_only_some_ranks_have_is_refused():
    evaluation = EvalCallback("CartPole-v1")
    check_ranks(Recorder(), Ranks(0, other=False))
    check_ranks(CallbackList([Recorder(), evaluation]), Ranks(0, other=True))
    for callback in (evaluation, CallbackList([Recorder(), EveryNTimesteps(5, evaluation)])):
        with pytest.raises(ValueError, match=r"only the ranks \[0\] of 2 have an EvalCallback"):
            check_ranks(callback, Ranks(0, other=False))


def test_a_checkpoint_is_not_ahead_of_the_logs(tmp_path):
    """The logs hold all that the last file of a killed run knows, also where an event calls the callback."""
    rows, seen, model = [], [], make()

    class Output:
        def write(self, values, step):
            rows.append(step)
    model.loggers.append(Output())
    save = model.save
    model.save = lambda path: seen.append((list(rows), model.num_timesteps)) or save(path)
    model.learn(3 * BATCH, [CheckpointCallback(BATCH, tmp_path / "a"),
                            EveryNTimesteps(2 * BATCH, CheckpointCallback(BATCH, tmp_path / "b"))])
    assert len(seen) == 4 and all(steps == rows[-1] for rows, steps in seen)


# --- further stops ------------------------------------------------------------------------------------------

def scores(monkeypatch, means):
    """Let evaluations find these mean rewards, one after the other."""
    left = iter(means)
    monkeypatch.setattr(EvalCallback, "_evaluate", lambda self: ([next(left)], [1]))


@pytest.mark.parametrize("most, min_evals, evaluations", [(1, 0, 4), (2, 0, 5), (1, 4, 6)])
def test_training_stops_without_a_new_best_model(monkeypatch, most, min_evals, evaluations):
    scores(monkeypatch, [1, 2, 2, 1, 0, 0, 0, 0])
    stop = StopTrainingOnNoModelImprovement(most, min_evals)
    callback = EvalCallback(Toy(), callback_after_eval=stop, eval_freq=64, verbose=0)
    model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=64, seed=0).learn(64 * 8, callback)
    assert model.updates == evaluations


def test_what_comes_after_every_evaluation_is_not_what_comes_with_a_new_best(monkeypatch):
    class Count(BaseCallback):
        def _on_step(self):
            return True
    scores(monkeypatch, [1, 0, 2, 2])
    best, after = Count(), Count()
    callback = EvalCallback(Toy(), best, eval_freq=64, verbose=0, callback_after_eval=after)
    TRPO("MlpPolicy", Toy(), timesteps_per_batch=64, seed=0).learn(64 * 4, callback)
    assert (best.n_calls, after.n_calls) == (2, 4)
    with pytest.raises(ValueError, match="StopTrainingOnNoModelImprovement needs an EvalCallback"):
        TRPO("MlpPolicy", Toy(), timesteps_per_batch=64).learn(64, StopTrainingOnNoModelImprovement(1))


def test_training_stops_after_so_many_episodes_of_this_learn():
    model = TRPO("MlpPolicy", Toy(chance=0, horizon=4), timesteps_per_batch=64, seed=0)
    for updates in (2, 4):
        model.learn(10_000, StopTrainingOnMaxEpisodes(20), reset_num_timesteps=False)
        assert model.updates == updates


def test_a_progress_bar_may_be_a_callback(capsys):
    TRPO("MlpPolicy", Toy(), timesteps_per_batch=64, seed=0).learn(128, ProgressBarCallback())
    assert "128/128  100%" in capsys.readouterr().err


def test_arguments_of_stable_baselines3_are_answered(tmp_path):
    with pytest.warns(UserWarning, match="CheckpointCallback: save_replay_buffer has no effect here"):
        CheckpointCallback(10, tmp_path, save_replay_buffer=True)
    with pytest.warns(UserWarning, match="EvalCallback: warn has no effect here"):
        EvalCallback(Toy(), warn=False)


def test_a_callback_that_acts_after_updates_says_so_where_it_is_overridden():
    class Trial(EvalCallback):
        def _on_step(self):
            return super()._on_step()
    with pytest.warns(UserWarning, match="Trial overrides _on_step, but acts when an update is over"):
        callback = Trial("CartPole-v1", eval_freq=500)
    assert callback.eval_freq == 500 and CheckpointCallback(300, ".").save_freq == 300
