"""Callbacks: hooks into training, in stable-baselines' convention.

`learn` calls, in this order,
    init_callback, on_training_start
    in each update: on_rollout_start; on_step after each step of the environments; on_rollout_end;
        on_update_end; on_update_logged
    on_training_end
and a subclass overrides the methods with an underscore: `_on_step`, `_on_update_end`, ... One that returns
False stops training: `_on_step` at once, without an update from the unfinished rollout, whose steps do not
count; `_on_rollout_end` and `_on_update_end` after the update. Where a hook raises an error, the model stays
as it was after the last update.

Frequencies count environment steps as `num_timesteps` does, over all environments and ranks, and callbacks
look at the count when an update is over: "every 10,000 steps" means at the end of the updates that pass
10,000, 20,000, ... With MPI every rank has the same callbacks; only rank 0 writes files and prints.
"""

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .envs import adapt, make_env
from .evaluation import check_spaces, evaluate_policy
from .files.archive import read_archive, write_archive
from .logger import EpisodeLog, Logger, Progress
from .peers import answer
from .settings import check_count
from .snapshot import end_what_no_file_holds
from .types import Path

if TYPE_CHECKING:
    from .trpo import TRPO

EVALUATION = 4  # the number of a random stream, beside those of trpo.py


def goes_on(answer: Any) -> bool:
    """Say whether a hook's answer lets training go on: None, of a hook without `return`, or anything true."""
    return answer is None or bool(answer)


class BaseCallback:
    """Hook into training: override `_on_step` (return False to stop) and the other methods named `_on_...`.

    During training they find `self.model`, `training_env`, `logger`, `num_timesteps`, `locals` and `globals`.
    In `_on_step` the locals hold arrays over the environments (`actions`, `rewards`, `dones`, `new_obs`) and
    `infos`, a list of their dicts; at an episode's end one has "terminal_observation" and "episode", a dict
    of its return "r", its length "l" and the seconds "t" since the model got the environment.
    `parent` is the callback whose event calls this one. `n_calls` counts the calls of `on_step`, which are
    made only if some callback overrides `_on_step`.
    """

    model: "TRPO"

    def __init__(self, verbose: int = 0) -> None:
        self.verbose, self.n_calls, self.num_timesteps = verbose, 0, 0
        self.locals: dict[str, Any] = {}
        self.globals: dict[str, Any] = {}
        self.parent: BaseCallback | None = None

    @property
    def logger(self) -> Logger:
        """Return the logger, whose `record` adds numbers to those of training."""
        return self.model.logger

    @property
    def training_env(self) -> Any:
        """Return the environment that the model is trained on."""
        return self.model.get_env()

    @property
    def wants_steps(self) -> bool:
        """Say whether the per-step hook is used; if not, it costs nothing."""
        return not hasattr(self._on_step, "does_nothing")

    def init_callback(self, model: "TRPO") -> None:
        """Get to know the model, before training."""
        self.model = model
        self._init_callback()

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Called before the first rollout."""
        self.locals, self.globals, self.num_timesteps = locals_, globals_, self.model.num_timesteps
        self._on_training_start()

    def on_rollout_start(self) -> None:
        """Called before each rollout."""
        self.num_timesteps = self.model.num_timesteps
        self._on_rollout_start()

    def update_locals(self, locals_: dict[str, Any]) -> None:
        """Add to what `self.locals` shows: one dict, which callbacks share with those that they call."""
        self.locals.update(locals_)

    def on_step(self) -> bool:
        """Called after each step of the environments, or by an event; False stops training."""
        self.n_calls, self.num_timesteps = self.n_calls + 1, self.model.num_timesteps
        return goes_on(self._on_step())

    def on_rollout_end(self) -> bool:
        """Called after each rollout, before the update; False stops training after it."""
        self.num_timesteps = self.model.num_timesteps
        return goes_on(self._on_rollout_end())

    def on_update_end(self) -> bool:
        """Called after each update, when the model is whole, or by an event; False stops training."""
        self.num_timesteps = self.model.num_timesteps
        return goes_on(self._on_update_end())

    def on_update_logged(self) -> None:
        """Called after the update's row of the logs, if any, is written: a model saved now is not ahead."""
        self._on_update_logged()

    def on_training_end(self) -> None:
        """Called once, after the last update."""
        self._on_training_end()

    def say(self, text: str, level: int = 1) -> None:
        """Print on rank 0 if `verbose` is at least `level`."""
        if self.verbose >= level and self.model.comm.rank == 0:
            print(text)

    def _init_callback(self) -> None: ...
    def _on_training_start(self) -> None: ...
    def _on_rollout_start(self) -> None: ...
    def _on_step(self) -> Any: ...
    _on_step.does_nothing = True  # type: ignore[attr-defined]  # `wants_steps` asks for it
    def _on_rollout_end(self) -> Any: ...
    def _on_update_end(self) -> Any: ...
    def _on_update_logged(self) -> None: ...
    def _on_training_end(self) -> None: ...


class FunctionCallback(BaseCallback):
    """Call a function of (locals, globals) after each step, as stable-baselines did; False stops training."""

    def __init__(self, function: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
        super().__init__()
        self.function = function

    def _on_step(self) -> Any:
        return self.function(self.locals, self.globals)


class Group(BaseCallback):
    """Callbacks that start and end training together; subclasses say when to call their other hooks."""

    def __init__(self, callbacks: Sequence["Callback"], verbose: int = 0) -> None:
        super().__init__(verbose)
        self.callbacks = [as_callback(callback) for callback in callbacks]

    def each(self, hook: str, *args: Any) -> bool:
        """Call a hook of every callback; return False if one stops training, after all have been called."""
        return all([goes_on(getattr(callback, hook)(*args)) for callback in self.callbacks])

    def init_callback(self, model: "TRPO") -> None:
        for callback in self.callbacks:
            callback.parent = self.parent if isinstance(self, CallbackList) else self  # a list is no event
        super().init_callback(model)
        self.each("init_callback", model)

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        super().on_training_start(locals_, globals_)
        self.each("on_training_start", locals_, globals_)

    def on_update_logged(self) -> None:
        super().on_update_logged()
        self.each("on_update_logged")

    def on_training_end(self) -> None:
        super().on_training_end()
        self.each("on_training_end")


class CallbackList(Group):
    """Several callbacks, called in their order."""

    @property
    def wants_steps(self) -> bool:
        return any(callback.wants_steps for callback in self.callbacks)

    def _on_rollout_start(self) -> None:
        self.each("on_rollout_start")

    def _on_step(self) -> bool:
        return self.each("on_step")

    def _on_rollout_end(self) -> bool:
        return self.each("on_rollout_end")

    def _on_update_end(self) -> bool:
        return self.each("on_update_end")


class EventCallback(Group):
    """Call another callback when something happens: override a hook and let it return `self._on_event()`."""

    def __init__(self, callback: "Callback" = None, verbose: int = 0) -> None:
        super().__init__([callback], verbose)
        self.callback = self.callbacks[0]

    def _on_event(self) -> bool:
        # stable-baselines' callbacks act in `on_step`, those of this file when an update is over
        return all([self.each("on_step"), self.each("on_update_end")])


class EveryNTimesteps(EventCallback):
    """Call `callback` at the end of each update that passes a multiple of `n_steps` environment steps."""

    def __init__(self, n_steps: int, callback: "Callback", verbose: int = 0) -> None:
        super().__init__(callback, verbose)
        check_count(f"{type(self).__name__}'s number of steps between events", n_steps)
        self.n_steps, self._passed = n_steps, 0
        if type(self)._on_step is not EveryNTimesteps._on_step:
            warnings.warn(f"{type(self).__name__} overrides _on_step, but acts when an update is over: "
                          "override _on_event, and call super()._on_event() there", stacklevel=2)

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        super().on_training_start(locals_, globals_)
        self._passed = self.num_timesteps // self.n_steps

    def _on_update_end(self) -> bool:
        # absolute marks, not a distance from the last event: a resumed run meets the same ones
        before, self._passed = self._passed, self.num_timesteps // self.n_steps
        return self._on_event() if self._passed > before else True


class CheckpointCallback(EveryNTimesteps):
    """Save the model every `save_freq` environment steps to a file of its own in `save_path`.

    The file is `save_path`/`name_prefix`_<num_timesteps>_steps.npz. A killed run loses the steps after its
    last file, and goes on from there with

        model = TRPO.load(path, env)
        model.learn(total - model.num_timesteps, reset_num_timesteps=False, callback=CheckpointCallback(...))

    to the very bits of a run that was never killed. For that the file holds the environments' state, too, and
    their episodes go on. Those that do not give their state (docs/environments.md), and those of several
    ranks, end their episodes at each checkpoint as if truncated and start new ones, in a run that goes on as
    in a resumed one, and a warning says so. Then save much less often than episodes end. What such an
    environment keeps from one episode to the next, as the statistics of a wrapper, is not in the file, and a
    resumed run is another one; normalise by the model.
    """

    def __init__(self, save_freq: int, save_path: Path, name_prefix: str = "trpo", verbose: int = 0,
                 **others: Any) -> None:
        answer("CheckpointCallback", others)
        super().__init__(save_freq, None, verbose)
        self.save_path, self.name_prefix, self.due = save_path, name_prefix, False

    def _init_callback(self) -> None:
        make_folder(self.model, self.save_path)

    def _file(self) -> str:
        return os.path.join(self.save_path, f"{self.name_prefix}_{self.num_timesteps}_steps")

    def _on_event(self) -> bool:
        self.due = True
        return True

    def _on_update_logged(self) -> None:
        if self.due:
            end_what_no_file_holds(self.model, self.n_steps)
            if self.model.comm.rank == 0:
                self.say(f"Saved a checkpoint to {self.model.save(self._file())}", level=2)
        self.due = False


    @property
    def save_freq(self) -> int:
        """The environment steps between files."""
        return self.n_steps


class FileCallback(CheckpointCallback):
    """Save as CheckpointCallback does, but to one file, whose old content is replaced whole or not at all."""

    def __init__(self, path: Path, save_freq: int, verbose: int = 0) -> None:
        super().__init__(save_freq, *os.path.split(os.path.abspath(path)), verbose)

    def _file(self) -> str:
        return os.path.join(self.save_path, self.name_prefix)


class EvalCallback(EveryNTimesteps):
    """Evaluate the model every `eval_freq` environment steps in a separate environment; keep the best model.

    eval_env: as for `evaluate_policy`; with MPI each rank runs its share of the `n_eval_episodes` in its own.
    Episodes are seeded from the model's seed and its count of updates: the same run has the same evaluations.
    callback_on_new_best: is called when the mean reward, its `self.parent.best_mean_reward`, is the highest
    so far; callback_after_eval: after every evaluation.
    log_path: the folder of `evaluations.npz`, which holds timesteps (k,), results and ep_lengths
    (k, n_eval_episodes). A resumed run continues it and takes the best mean reward from it; without it, the
    first evaluation counts as the best.
    best_model_save_path: the folder of `best_model.npz`.
    The logger gets eval/mean_reward and eval/mean_ep_length.
    """

    def __init__(self, eval_env: Any, callback_on_new_best: "Callback" = None, n_eval_episodes: int = 5,
                 eval_freq: int = 10000, log_path: Path | None = None,
                 best_model_save_path: Path | None = None, deterministic: bool = True,
                 render: bool = False, verbose: int = 1, callback_after_eval: "Callback" = None,
                 **others: Any) -> None:
        answer("EvalCallback", others)
        super().__init__(eval_freq, callback_on_new_best, verbose)
        self.after = as_callback(callback_after_eval)
        self.callbacks.append(self.after)
        check_count("n_eval_episodes", n_eval_episodes)
        self.eval_env = make_env(eval_env) if isinstance(eval_env, str) else eval_env
        self.n_eval_episodes, self.deterministic, self.render = int(n_eval_episodes), deterministic, render
        self.log_path, self.best_model_save_path = log_path, best_model_save_path
        self.best_mean_reward = self.last_mean_reward = -np.inf
        self.evaluations_timesteps: list[int] = []
        self.evaluations_results: list[list[float]] = []
        self.evaluations_length: list[list[int]] = []

    @property
    def eval_freq(self) -> int:
        """The environment steps between evaluations."""
        return self.n_steps

    def _init_callback(self) -> None:
        check_spaces(self.model, adapt(self.eval_env))
        for folder in (self.log_path, self.best_model_save_path):
            if folder is not None:
                make_folder(self.model, folder)

    def _on_training_start(self) -> None:
        if self.log_path is None or self.evaluations_timesteps or not self.num_timesteps:
            return
        path, comm = os.path.join(self.log_path, "evaluations.npz"), self.model.comm
        if not comm.bcast(os.path.exists(path)):
            return
        arrays = comm.bcast(read_archive(path)[1] if comm.rank == 0 else {})  # other machines may not see it
        timesteps, results, lengths = (arrays.get(name, np.zeros(0))
                                       for name in ("timesteps", "results", "ep_lengths"))
        needed = (*timesteps.shape, self.n_eval_episodes)
        if not results.shape == lengths.shape == needed:
            raise ValueError(f"{path} holds results {results.shape} and ep_lengths {lengths.shape}; to "
                             f"continue it, {needed} is needed: move it away or change n_eval_episodes")
        known = timesteps <= self.num_timesteps  # the killed run may have come further
        self.evaluations_timesteps = timesteps[known].tolist()
        self.evaluations_results, self.evaluations_length = results[known].tolist(), lengths[known].tolist()
        self.best_mean_reward = max((float(np.mean(row)) for row in results[known]), default=-np.inf)

    def _on_event(self) -> bool:
        rewards, lengths = self._evaluate()
        mean, length = float(np.mean(rewards)), float(np.mean(lengths))
        is_best = mean > self.best_mean_reward
        self.last_mean_reward, self.best_mean_reward = mean, max(mean, self.best_mean_reward)
        self.evaluations_timesteps.append(self.num_timesteps)
        self.evaluations_results.append(rewards)
        self.evaluations_length.append(lengths)
        self._write(is_best)
        score = f"episode_reward={mean:.2f} +/- {np.std(rewards):.2f}"
        self.say(f"Eval num_timesteps={self.num_timesteps}, {score}\n"
                 f"Episode length: {length:.2f} +/- {np.std(lengths):.2f}")
        if is_best:
            self.say("New best mean reward!")
        # dump at once: with a longer log_interval they would appear at a later step, or be overwritten
        self.logger.record("eval/mean_reward", mean)
        self.logger.record("eval/mean_ep_length", length)
        self.logger.record("time/total_timesteps", self.num_timesteps)
        self.logger.dump(self.num_timesteps)
        called = self.callbacks if is_best else [self.after]
        return all([goes_on(hook()) for callback in called for hook in (callback.on_step,
                                                                        callback.on_update_end)])

    def _evaluate(self) -> tuple[list, ...]:
        """Return the returns and the lengths of the episodes of all ranks."""
        model, comm = self.model, self.model.comm
        share = (self.n_eval_episodes + comm.rank) // comm.size
        seeds = np.random.SeedSequence(model.seed, spawn_key=(comm.rank, EVALUATION, model.updates))
        mine: tuple = [], []
        if share:
            mine = evaluate_policy(model, self.eval_env, share, self.deterministic, self.render,
                                   return_episode_rewards=True, seed=int(seeds.generate_state(1)[0] >> 1))
        return tuple(sum(parts, []) for parts in zip(*comm.gather(mine)))

    def _write(self, is_best: bool) -> None:
        if self.model.comm.rank:
            return
        if is_best and self.best_model_save_path is not None:
            self.model.save(os.path.join(self.best_model_save_path, "best_model"))
        if self.log_path is not None:  # not np.savez: a kill would leave half a file
            write_archive(os.path.join(self.log_path, "evaluations.npz"), {
                "timesteps": np.array(self.evaluations_timesteps),
                "results": np.array(self.evaluations_results),
                "ep_lengths": np.array(self.evaluations_length)}, {})


class StopTrainingOnRewardThreshold(BaseCallback):
    """Stop training when an EvalCallback, whose callback_on_new_best this is, reaches a mean reward."""

    def __init__(self, reward_threshold: float, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.reward_threshold = reward_threshold

    def _init_callback(self) -> None:
        if not isinstance(self.parent, EvalCallback):
            raise ValueError("StopTrainingOnRewardThreshold needs an EvalCallback: give it to one as "
                             "callback_on_new_best")
        self.evaluation = self.parent

    def _on_step(self) -> bool:
        best = self.evaluation.best_mean_reward
        if best >= self.reward_threshold:
            threshold = self.reward_threshold
            self.say(f"Stopping training: the mean reward {best:.2f} reached the threshold {threshold}")
        return best < self.reward_threshold


class StopTrainingOnNoModelImprovement(BaseCallback):
    """Stop training after more than `max_no_improvement_evals` evaluations in a row without a new best model.

    To be an EvalCallback's callback_after_eval; the first `min_evals` evaluations do not count.
    """

    def __init__(self, max_no_improvement_evals: int, min_evals: int = 0, verbose: int = 0) -> None:
        super().__init__(verbose)
        check_count("max_no_improvement_evals", max_no_improvement_evals)
        self.most, self.min_evals = max_no_improvement_evals, min_evals
        self.best, self.without = -np.inf, 0

    def _init_callback(self) -> None:
        if not isinstance(self.parent, EvalCallback):
            raise ValueError("StopTrainingOnNoModelImprovement needs an EvalCallback: give it to one as "
                             "callback_after_eval")
        self.evaluation = self.parent

    def _on_step(self) -> bool:
        best = self.evaluation.best_mean_reward
        is_better, self.best = best > self.best, best
        self.without = 0 if is_better or self.n_calls <= self.min_evals else self.without + 1
        if self.without > self.most:
            self.say(f"Stopping training: {self.without} evaluations in a row found no new best model")
        return self.without <= self.most


class StopTrainingOnMaxEpisodes(BaseCallback):
    """Stop training when as many episodes have ended, over all environments and ranks, in this `learn`."""

    def __init__(self, max_episodes: int, verbose: int = 0) -> None:
        super().__init__(verbose)
        check_count("max_episodes", max_episodes)
        self.max_episodes = max_episodes

    def _on_training_start(self) -> None:
        self.before = self.model.episodes

    def _on_rollout_end(self) -> bool:
        ended = self.model.episodes - self.before
        if ended >= self.max_episodes:
            self.say(f"Stopping training: {ended} episodes have ended, of at most {self.max_episodes}")
        return ended < self.max_episodes


class ProgressBarCallback(BaseCallback):
    """Show a progress bar; `learn(..., progress_bar=True)` is the same."""

    def _on_training_start(self) -> None:
        self.began = self.num_timesteps
        self.progress = Progress(self.locals["total"] - self.began, enabled=self.model.comm.rank == 0)

    def _on_update_logged(self) -> None:
        self.progress.update(self.model.num_timesteps - self.began)

    def _on_training_end(self) -> None:
        self.progress.close()


class MonitorCallback(BaseCallback):
    """Write the finished episodes of all ranks to a Monitor file; `path` as for trpo_np.logger.EpisodeLog."""

    def __init__(self, path: Path, env_id: str | None = None) -> None:
        super().__init__()
        self.path, self.env_id = path, env_id

    def _on_training_start(self) -> None:
        if self.model.comm.rank == 0:
            self._log = EpisodeLog(self.path, self.env_id, self.model.episodes)

    def _on_update_end(self) -> None:  # not before: an update that fails takes its episodes back
        if self.model.comm.rank == 0:
            for reward, length in self.locals["new_episodes"]:
                self._log.write(reward, length)

    def _on_training_end(self) -> None:
        if self.model.comm.rank == 0:
            self._log.close()


# what `learn` takes; a function is called with (locals, globals) after each step
Callback = BaseCallback | Callable[[dict[str, Any], dict[str, Any]], Any] | Sequence[Any] | None


def as_callback(callback: Callback) -> BaseCallback:
    """Make a BaseCallback of None, a callback, a function or a list of these."""
    if callback is None:
        return BaseCallback()
    if isinstance(callback, BaseCallback):
        return callback
    if isinstance(callback, (list, tuple)):
        return CallbackList(list(callback))
    if callable(callback) and not isinstance(callback, type):
        return FunctionCallback(callback)
    raise ValueError(f"callback is {callback!r}; a BaseCallback, a function of (locals, globals) or a list "
                     "of these is needed")


def check_ranks(callback: BaseCallback, comm: Any) -> None:
    """Raise a ValueError if only some ranks have an EvalCallback: they would wait for the others for ever."""
    def evaluates(callback):
        return isinstance(callback, EvalCallback) or any(map(evaluates, getattr(callback, "callbacks", [])))

    have = [rank for rank, answer in enumerate(comm.gather(evaluates(callback))) if answer]
    if have and len(have) < comm.size:
        raise ValueError(f"only the ranks {have} of {comm.size} have an EvalCallback, in which all ranks "
                         "work together; give every rank the same callbacks (rank 0 alone writes and prints)")


def make_folder(model: Any, folder: Path) -> None:
    """Make the folder of a file to come, on rank 0: if that fails, before training and not after hours.

    An OSError says that it cannot be made, or that no file can be written there.
    """
    if model.comm.rank == 0:
        os.makedirs(folder, exist_ok=True)
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OSError(error.errno, f"no file can be written in this folder: {error.strerror}",
                          os.fspath(folder)) from None
