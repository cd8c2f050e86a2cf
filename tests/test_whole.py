"""A model is always whole, whatever interrupts `learn`; what callbacks assign takes effect."""

import signal
import sys
import threading
from copy import deepcopy
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from toys import ACTIONS, Moving, Parity, Toy

import trpo_np
from trpo_np import TRPO
from trpo_np.callbacks import BaseCallback
from trpo_np.logger import Logger

PACKAGE = str(Path(trpo_np.__file__).parent)
TINY = dict(net_arch=[dict(pi=[2], vf=[2])])
MODELS = {
    "mlp": ("MlpPolicy", partial(Toy, ACTIONS["Box"]), TINY, {}),
    "lstm": ("MlpLstmPolicy", Parity, dict(net_arch=[2, "lstm"], n_lstm=2), {}),
    "images": ("CnnPolicy", partial(Moving, "last"),
               dict(cnn_extractor=lambda x: x.reshape(len(x), -1)[:, :8], net_arch=[2]),
               dict(normalize_rewards=False)),
}


def make(kind="mlp", env=None, **changes):
    policy, toy, kwargs, settings = MODELS[kind]
    usual = dict(timesteps_per_batch=8, vf_iters=2, vf_batch_size=4, vf_stepsize=0.01, cg_iters=2, seed=3,
                 linesearch_steps=3, normalize_observations=True, normalize_rewards=True)
    settings = usual | settings | changes
    return TRPO(policy, toy() if env is None else env, policy_kwargs=kwargs, **settings)


def state(model):
    """All that an update changes, arrays as bytes."""
    normalizer, adam = model.policy.normalizer, model.adam
    arrays = [model.policy.params.flat, adam.m, adam.v, normalizer.shift, getattr(normalizer, "factor", 0),
              *normalizer.arrays().values(), *model.reward_normalizer.moments.arrays().values()]
    return (*[np.asarray(array).tobytes() for array in arrays], adam.t, model.num_timesteps, model.updates,
            model.episodes, model.skipped_updates, tuple(model.recent))


def interrupted(run, at, folder=PACKAGE):
    """Call `run()` with a KeyboardInterrupt at the line with this number of those run in a folder's files.

    Return the number of lines, or None if it was interrupted.
    """
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        if not frame.f_code.co_filename.startswith(folder):
            return None
        if event == "line":
            count += 1
            if count == at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        return None
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind, tries", [("mlp", 200), ("lstm", 40), ("images", 40)])
def test_an_interrupt_at_any_line_leaves_a_state_between_updates(kind, tries):
    model = make(kind).learn(8)
    start, first = deepcopy(model), state(model)

    def go_on(model):
        return model.learn(8, reset_num_timesteps=False)
    allowed, seen = {first, state(go_on(model))}, set()
    model = deepcopy(start)
    lines = interrupted(partial(go_on, model), -1)
    assert state(model) in allowed
    assert len(allowed) == 2 and lines > tries
    for at in np.unique(np.linspace(1, lines, tries).astype(int)):
        model = deepcopy(start)
        assert interrupted(partial(go_on, model), at) is None, f"line {at} was not reached"
        seen.add(state(model))
        assert seen <= allowed, f"an interrupt at line {at} of {lines} left a model that is not whole"
    assert seen == allowed
    model = deepcopy(start)
    interrupted(partial(go_on, model), lines // 2)
    assert state(go_on(model)) == state(go_on(deepcopy(start))), "it must go on as if nothing had been"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer of POSIX")
def test_signals_at_random_moments():
    whole, rng = set(), np.random.default_rng(0)

    class Note(BaseCallback):
        def _on_update_end(self):
            whole.add(state(self.model))
    make().learn(2000, Note())
    whole.add(state(make()))

    def interrupt(*_):
        raise KeyboardInterrupt
    before, came = signal.signal(signal.SIGALRM, interrupt), 0
    try:
        for _ in range(15):
            model = make()
            try:
                signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(0.002, 0.03)))
                model.learn(2000)
            except KeyboardInterrupt:
                came += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert state(model) in whole
    finally:
        signal.signal(signal.SIGALRM, before)
    assert came > 5


HOOKS = ("_on_training_start", "_on_rollout_start", "_on_step", "_on_rollout_end", "_on_update_end",
         "_on_update_logged", "_on_training_end")


@pytest.mark.parametrize("hook", HOOKS)
def test_an_error_in_a_callback_leaves_the_last_update(hook):
    states, calls, in_rollout = [], [], hook in ("_on_step", "_on_rollout_end")

    class Boom(BaseCallback):
        def _on_update_end(self):
            states.append(state(self.model))

    def boom(self):
        calls.append(1)
        if hook == "_on_update_end":
            Boom._on_update_end(self)
        if len(calls) == (1 if "training" in hook else 12 if hook == "_on_step" else 2):
            raise OSError("no space left on device")
    model = make()
    states.append(state(model))
    with pytest.raises(OSError, match="no space left"):
        model.learn(24, type("Callback", (Boom,), {hook: boom})())
    assert state(model) == states[-1] and model.num_timesteps == 8 * model.updates
    assert model.snapshot is None and model.failures == in_rollout
    assert model.restart_pending == (in_rollout or hook == "_on_training_start")
    model.learn(16, reset_num_timesteps=False)
    assert model.failures == 0 and model.num_timesteps == 8 * model.updates


def test_a_rollout_that_a_callback_stops_does_not_count():
    model = make()
    model.learn(800, lambda locals_, globals_: model.num_timesteps < 20)
    assert model.updates == 2 and model.num_timesteps == 16
    first = state(model)
    with pytest.raises(ValueError, match="total_timesteps"):
        model.learn("many", reset_num_timesteps=True)
    assert state(model) == first and model.failures == 0


class Flaky(gymnasium.Env):
    """Fail where some actions lead."""

    observation_space, action_space = spaces.Box(-99, 99, (1,), np.float32), spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t, self.x = self.t + 1, self.x + 2 * int(action) - 1
        if self.x == 6:
            raise RuntimeError("the simulation diverged")
        return np.array([self.x], np.float32), 0.0, self.t == 10, False, {}


def test_after_an_error_of_the_environment_other_numbers_are_drawn(tmp_path):
    model, errors = make(env=Flaky(), timesteps_per_batch=64), 0
    while model.num_timesteps < 256:
        try:
            model.learn(256 - model.num_timesteps, reset_num_timesteps=False)
        except RuntimeError:
            errors += 1
            assert errors < 50 and model.num_timesteps == 64 * model.updates and model.failures
            path = model.save(tmp_path / "failed")
    assert errors
    # a file knows of the failures, too: it goes on with the numbers that come next
    first, second = TRPO.load(path), TRPO.load(path)
    assert first.failures > 0
    second.failures = 0
    for one in (first, second):
        one.set_env(Quiet())
        one.learn(64, reset_num_timesteps=False)
    assert state(first) != state(second) and first.failures == 0


class Quiet(Flaky):
    """Fail never."""

    def step(self, action):
        self.t, self.x = self.t + 1, self.x + 2 * int(action) - 1
        return np.array([self.x], np.float32), float(self.x), self.t == 10, False, {}


# --- saving while training ----------------------------------------------------------------------------------

def test_another_thread_saves_whole_states(tmp_path):
    model, whole, errors = make(), set(), []
    path = model.save(tmp_path / "live")

    class Note(BaseCallback):
        def _on_update_end(self):
            whole.add(state(self.model))
            return not done.is_set()

    def saves():
        try:
            for _ in range(60):
                model.save(path)
                files.append(Path(path).read_bytes())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()
    whole.add(state(model))
    done, files, interval = threading.Event(), [], sys.getswitchinterval()
    thread = threading.Thread(target=saves)
    sys.setswitchinterval(1e-5)
    try:
        thread.start()
        model.learn(1e9, Note())
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert not errors and len(files) == 60
    for i, content in enumerate(files):
        Path(path).write_bytes(content)
        assert state(TRPO.load(path)) in whole, f"save {i} is not whole"
    assert len(set(files)) > 3, "the saves must have come while the model learned"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_saves_a_whole_state(hook, tmp_path):
    saved, whole = [], []

    class Save(BaseCallback):
        def _on_update_end(self):
            whole.append(state(self.model))

    def save(self):
        if hook == "_on_update_end":
            Save._on_update_end(self)
        saved.append((state(TRPO.load(self.model.save(tmp_path / "x"))), len(whole)))
    model = make()
    whole.append(state(model))
    model.learn(24, type("Callback", (Save,), {hook: save})())
    assert saved and all(content == whole[count - 1] for content, count in saved)


def test_what_a_callback_changes_between_updates_is_saved_and_kept(tmp_path):
    class Change(BaseCallback):
        def _on_update_end(self):
            self.model.load_parameters({"pi/log_std": [-1.5, -1.5]}, exact_match=False)
            saved = TRPO.load(self.model.save(tmp_path / "x"))
            assert (saved.get_parameters()["pi/log_std"] == -1.5).all()

        def _on_rollout_end(self):
            if self.model.updates:
                raise OSError
    model = make()
    with pytest.raises(OSError):
        model.learn(24, Change())
    assert (model.get_parameters()["pi/log_std"] == -1.5).all() and model.updates == 1


def test_the_copy_of_a_model_that_learns_is_a_model_of_its_own(tmp_path):
    copies = []

    class Copy(BaseCallback):
        def _on_update_end(self):
            copies.append(deepcopy(self.model))
    make().learn(16, Copy())
    copies[0].learn(8, reset_num_timesteps=False)
    assert copies[0].snapshot is None and state(TRPO.load(copies[0].save(tmp_path / "x"))) == state(copies[0])


# --- what is assigned takes effect --------------------------------------------------------------------------

class Level(gymnasium.Env):
    """Episodes of 4 steps, each of which brings `level`."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, level):
        self.level, self.steps = level, 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        return np.zeros(1, np.float32), float(self.level), self.t == 4, False, {}


class Once(BaseCallback):
    """Call a function of the model once, at a hook of the first update (or the start of the second)."""

    def __init__(self, hook, function):
        super().__init__()
        self.done = False

        def act():
            if not self.done and (hook != "_on_rollout_start" or self.model.updates):
                self.done = True
                function(self.model)
        setattr(self, hook, act)


@pytest.mark.parametrize("how", ["set_env", "assign"])
@pytest.mark.parametrize("hook", HOOKS[1:-1])
def test_another_environment_counts_from_the_next_rollout(hook, how):
    easy, hard, hard_too = Level(1), Level(2), Level(2)
    several = SyncVectorEnv([lambda: hard, lambda: hard_too])
    model, seen = make(env=easy), []

    def switch(model):
        if how == "set_env":
            model.set_env(several)
        else:
            model.env = several

    class See(BaseCallback):
        def _on_rollout_end(self):
            seen.append((self.locals["segment"].rewards.shape, self.training_env is self.model.get_env()))
    model.learn(32, [Once(hook, switch), See()])
    assert (easy.steps, hard.steps, hard_too.steps) == (8, 12, 12) and model.get_env() is several
    assert seen == [((8, 1), True)] + [((4, 2), True)] * 3
    assert [reward for reward, _ in model.recent] == [4.0] * 2 + [8.0] * 6


def test_a_recurrent_policy_goes_on_in_another_environment():
    several = SyncVectorEnv([Parity] * 2)
    model = make("lstm").learn(32, Once("_on_update_end", lambda model: model.set_env(several)))
    assert model.updates == 4 and model.stepper.num_envs == 2


@pytest.mark.parametrize("env, words", [
    (Toy(ACTIONS["Discrete"]), "does not fit the model"),
    (SyncVectorEnv([partial(Toy, ACTIONS["Box"])] * 9), "9 environments")])
def test_an_environment_that_does_not_fit_is_refused(env, words):
    model = make()
    first, before = state(model), model.get_env()
    with pytest.raises(ValueError, match=words):
        model.learn(16, Once("_on_rollout_end", lambda model: model.set_env(env)))
    assert state(model) == first and model.get_env() is before


def test_a_batch_size_counts_from_the_next_rollout():
    sizes = []

    class Grow(BaseCallback):
        def _on_rollout_end(self):
            sizes.append(len(self.locals["segment"].rewards))
            self.model.timesteps_per_batch = 16
    model = make().learn(40, Grow())
    assert sizes == [8, 16, 16]
    model.set_env(SyncVectorEnv([partial(Toy, ACTIONS["Box"])] * 3))
    with pytest.raises(ValueError, match="timesteps_per_batch is 2, fewer than the 3 environments"):
        model.timesteps_per_batch = 2
    assert model.timesteps_per_batch == 16


class Rows:
    """An output that keeps the steps of its rows."""

    def __init__(self):
        self.steps = []

    def write(self, values, step):
        self.steps.append(step)

    def close(self):
        raise AssertionError("their owner closes outputs")


@pytest.mark.parametrize("how", ["append", "assign", "logger"])
@pytest.mark.parametrize("hook", ["_on_step", "_on_rollout_end", "_on_update_end", "_on_update_logged"])
def test_an_output_counts_from_the_next_dump(hook, how):
    old, new = Rows(), Rows()

    def change(model):
        if how == "append":
            model.loggers.append(new)
        elif how == "assign":
            model.loggers = [new]
        else:
            model.logger = Logger([new])
    model = make()
    model.loggers.append(old)
    model.learn(24, Once(hook, change))
    first = 2 if hook == "_on_update_logged" else 1
    assert new.steps == [8 * k for k in range(first, 4)]
    assert old.steps == [8, 16, 24][:None if how == "append" else first - 1]
    model.learn(8, reset_num_timesteps=False)
    assert new.steps[-1] == 32, "it stays until it is replaced"


def test_what_is_no_logger_is_refused():
    model = make()
    with pytest.raises(ValueError, match="logger is .*Rows.*a Logger is needed"):
        model.logger = Rows()
    model.logger = Logger([])
    assert model.learn(8).updates == 1
