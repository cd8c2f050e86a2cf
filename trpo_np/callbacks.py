"""Callbacks: what surrounds training, in stable-baselines' convention.

`learn` calls, in this order,
    init_callback, on_training_start
    for each update: on_rollout_start, on_step after each step of the environments, on_rollout_end, (the update,) on_update_end
    on_training_end
and subclasses override what follows the underscore: `_on_step`, `_on_update_end`, ... Returning False stops training, from
`_on_step` at once, without an update from the rollout that it cuts short, from `_on_rollout_end` and `_on_update_end` after the
update. Frequencies count environment steps as `num_timesteps` does, over all environments and ranks, and are looked at when an
update is over: what happens every 10,000 steps happens at the end of the update that passes 10,000, 20,000, ...

With MPI every rank has the same callbacks; rank 0 alone writes files and prints.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .archive import read_archive, write_archive
from .envs import adapt, make_env
from .evaluation import check_spaces, evaluate_policy
from .logger import EpisodeLog, Logger
from .settings import to_json

EVALUATION = 4  # a stream of random numbers beside those of trpo.py


def goes_on(answer: Any) -> bool:
    """Read a hook's answer: anything false stops, NumPy's False too; None, of a hook without `return`, does not."""
    return answer is None or bool(answer)


class BaseCallback:
    """Hook into training: override `_on_step` (return False to stop) and the other methods that start with `_on`.

    While training there are `self.model`, `training_env`, `logger`, `num_timesteps`, `locals` and `globals`; `parent` is the callback
    whose event calls this one. `n_calls` counts the calls of `on_step`, which happen only if some callback overrides `_on_step`.
    """

    def __init__(self, verbose: int = 0):
        self.verbose, self.n_calls, self.num_timesteps = verbose, 0, 0
        self.locals: dict = {}
        self.globals: dict = {}
        self.logger = Logger([])  # until `learn` brings its own
        self.parent: Any = None

    def init_callback(self, model) -> None:
        """Get to know the model, before training."""
        self.model, self.training_env = model, model.get_env()
        self._init_callback()

    @property
    def wants_steps(self) -> bool:
        """Whether the per-step hook is used; if not, it costs nothing."""
        return type(self)._on_step is not BaseCallback._on_step

    @property
    def is_collective(self) -> bool:
        """Whether ranks work on this together, so that each of them needs it."""
        return False

    def on_training_start(self, locals_: dict, globals_: dict) -> None:
        """Called before the first rollout."""
        self.locals, self.globals = locals_, globals_
        self.logger = locals_.get("logger", self.logger)
        self.num_timesteps = self.model.num_timesteps
        self._on_training_start()

    def on_rollout_start(self) -> None:
        """Called before each rollout."""
        self.num_timesteps = self.model.num_timesteps
        self._on_rollout_start()

    def update_locals(self, locals_: dict) -> None:
        """Add to what `self.locals` shows."""
        self.locals.update(locals_)

    def on_step(self) -> bool:
        """Called after each step of the environments, or by an event; False stops training at once."""
        self.n_calls += 1
        self.num_timesteps = self.model.num_timesteps
        return goes_on(self._on_step())

    def on_rollout_end(self) -> bool:
        """Called after each rollout, before the update; False stops training after it."""
        self.num_timesteps = self.model.num_timesteps
        return goes_on(self._on_rollout_end())

    def on_update_end(self) -> bool:
        """Called after each update, when the model is whole; False stops training."""
        self.num_timesteps = self.model.num_timesteps
        return goes_on(self._on_update_end())

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

    def _on_rollout_end(self) -> Any: ...

    def _on_update_end(self) -> Any: ...

    def _on_training_end(self) -> None: ...


class FunctionCallback(BaseCallback):
    """Call a function of (locals, globals) after each step, as stable-baselines did; False stops training."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def _on_step(self) -> Any:
        return self.function(self.locals, self.globals)


class CallbackList(BaseCallback):
    """Several callbacks, called in their order; each is called even if one before it stops training."""

    def __init__(self, callbacks: list):
        super().__init__()
        self.callbacks = [as_callback(callback) for callback in callbacks]

    @property
    def wants_steps(self) -> bool:
        return any(callback.wants_steps for callback in self.callbacks)

    @property
    def is_collective(self) -> bool:
        return any(callback.is_collective for callback in self.callbacks)

    def update_locals(self, locals_: dict) -> None:
        super().update_locals(locals_)
        for callback in self.callbacks:
            callback.update_locals(locals_)

    def _init_callback(self) -> None:
        for callback in self.callbacks:
            callback.parent = self.parent  # a list is no event: its members belong to what the list belongs to
            callback.init_callback(self.model)

    def _on_training_start(self) -> None:
        for callback in self.callbacks:
            callback.on_training_start(self.locals, self.globals)

    def _on_rollout_start(self) -> None:
        for callback in self.callbacks:
            callback.on_rollout_start()

    def _on_step(self) -> bool:
        return all([callback.on_step() for callback in self.callbacks])

    def _on_rollout_end(self) -> bool:
        return all([callback.on_rollout_end() for callback in self.callbacks])

    def _on_update_end(self) -> bool:
        return all([callback.on_update_end() for callback in self.callbacks])

    def _on_training_end(self) -> None:
        for callback in self.callbacks:
            callback.on_training_end()


class EventCallback(BaseCallback):
    """Call another callback, a list of them or a function when something happens: override a hook to call `self._on_event()`."""

    def __init__(self, callback: Any = None, verbose: int = 0):
        super().__init__(verbose)
        self.callback = as_callback(callback)
        self.callback.parent = self

    @property
    def is_collective(self) -> bool:
        return self.callback.is_collective

    def update_locals(self, locals_: dict) -> None:
        super().update_locals(locals_)
        self.callback.update_locals(locals_)

    def init_callback(self, model) -> None:
        super().init_callback(model)
        self.callback.init_callback(model)

    def on_training_start(self, locals_: dict, globals_: dict) -> None:
        super().on_training_start(locals_, globals_)
        self.callback.on_training_start(locals_, globals_)

    def on_training_end(self) -> None:
        super().on_training_end()
        self.callback.on_training_end()

    def _on_event(self) -> bool:
        # stable-baselines' callbacks act in `on_step`, those below when an update is over
        return all([self.callback.on_step(), self.callback.on_update_end()])


class EveryNTimesteps(EventCallback):
    """Call `callback` at the end of each update that passes a multiple of `n_steps` environment steps."""

    def __init__(self, n_steps: int, callback: Any, verbose: int = 0):
        super().__init__(callback, verbose)
        if isinstance(n_steps, bool) or not isinstance(n_steps, (int, np.integer)) or n_steps < 1:
            raise ValueError(f"{type(self).__name__}: the number of steps between two events is {n_steps!r}; "
                             "an integer of at least 1 is needed")
        self.n_steps, self._passed = n_steps, 0

    def on_training_start(self, locals_: dict, globals_: dict) -> None:
        super().on_training_start(locals_, globals_)
        self._passed = self.num_timesteps // self.n_steps

    def _on_update_end(self) -> bool:
        # Absolute marks, not so many steps after the last event: a resumed run meets the same ones.
        before, self._passed = self._passed, self.num_timesteps // self.n_steps
        return self._on_event() if self._passed > before else True


class CheckpointCallback(EveryNTimesteps):
    """Save the model every `save_freq` environment steps as `save_path`/`name_prefix`_<num_timesteps>_steps.npz.

    A killed run loses what came after its last file, and goes on from there with

        model = TRPO.load(path, env)
        model.learn(total_timesteps - model.num_timesteps, reset_num_timesteps=False, callback=CheckpointCallback(...))

    to the very bits of a run that was never killed: a file is written when an update is over, and holds all of the model's state. It
    cannot hold the environment's, so each environment then starts an episode with a seed made from the count of updates, in the run that
    goes on as in one that is resumed. (Wrappers that keep statistics of their own over episodes are not in the file either: use
    normalize_observations.) Checkpoints hence cut episodes short: take them a good deal rarer than episodes end.
    """

    def __init__(self, save_freq: int, save_path: str | os.PathLike, name_prefix: str = "trpo", verbose: int = 0):
        super().__init__(save_freq, None, verbose)
        self.save_path, self.name_prefix = save_path, name_prefix

    def _init_callback(self) -> None:
        prepare_folder(self.model, self.save_path)

    def _path(self) -> str:
        return os.path.join(self.save_path, f"{self.name_prefix}_{self.num_timesteps}_steps")

    def _on_event(self) -> bool:
        if self.model.comm.rank == 0:
            self.say(f"Saved a checkpoint to {self.model.save(self._path())}", level=2)
        self.model.restart_pending = True
        return True


class FileCallback(CheckpointCallback):
    """Save the model every `save_freq` environment steps to one file, which is replaced in one step; else as CheckpointCallback."""

    def __init__(self, path: str | os.PathLike, save_freq: int, verbose: int = 0):
        folder, name = os.path.split(os.path.abspath(path))
        super().__init__(save_freq, folder, name, verbose)

    def _path(self) -> str:
        return os.path.join(self.save_path, self.name_prefix)


class EvalCallback(EveryNTimesteps):
    """Evaluate the model every `eval_freq` environment steps in an environment of its own, and keep the best model.

    eval_env: as for `evaluate_policy`. With MPI each rank runs its share of the `n_eval_episodes` in the eval_env that it was given.
    Episodes are seeded from the model's seed and count of updates, so that the same run has the same evaluations.
    callback_on_new_best: called when the mean reward is the highest so far; it reads `self.parent.best_mean_reward`.
    log_path: a folder for `evaluations.npz`, with arrays timesteps (k,), results (k, n_eval_episodes) and ep_lengths (the same shape).
    A resumed run continues the file, and takes from it what the best so far was: without it, the first evaluation counts as the best.
    best_model_save_path: a folder for `best_model.npz`, a whole model. The logger gets eval/mean_reward and eval/mean_ep_length.
    """

    def __init__(self, eval_env: Any, callback_on_new_best: Any = None, n_eval_episodes: int = 5, eval_freq: int = 10000,
                 log_path: str | os.PathLike | None = None, best_model_save_path: str | os.PathLike | None = None,
                 deterministic: bool = True, verbose: int = 1):
        super().__init__(eval_freq, callback_on_new_best, verbose)
        if isinstance(n_eval_episodes, bool) or not isinstance(n_eval_episodes, (int, np.integer)) or n_eval_episodes < 1:
            raise ValueError(f"n_eval_episodes is {n_eval_episodes!r}; an integer of at least 1 is needed")
        self.eval_env = make_env(eval_env) if isinstance(eval_env, str) else eval_env
        self.n_eval_episodes, self.deterministic = n_eval_episodes, deterministic
        self.log_path, self.best_model_save_path = log_path, best_model_save_path
        self.best_mean_reward = self.last_mean_reward = -np.inf
        self.evaluations_timesteps: list = []
        self.evaluations_results: list = []
        self.evaluations_length: list = []

    @property
    def is_collective(self) -> bool:
        return True

    def _init_callback(self) -> None:
        check_spaces(self.model, adapt(self.eval_env))
        for folder in (self.log_path, self.best_model_save_path):
            if folder is not None:
                prepare_folder(self.model, folder)

    def _on_training_start(self) -> None:
        if self.log_path is not None and self.num_timesteps and not self.evaluations_timesteps:
            self._continue_file(os.path.join(self.log_path, "evaluations.npz"))

    def _continue_file(self, path: str) -> None:
        """Take over the evaluations of the run that is resumed, as far as it was resumed."""
        if not os.path.exists(path):
            return
        arrays = read_archive(path)[1]
        timesteps, results, lengths = (arrays.get(name, np.zeros(0)) for name in ("timesteps", "results", "ep_lengths"))
        if not results.shape == lengths.shape == (*timesteps.shape, self.n_eval_episodes):
            raise ValueError(f"{path} holds timesteps {timesteps.shape}, results {results.shape} and ep_lengths {lengths.shape}, which "
                             f"evaluations of {self.n_eval_episodes} episodes cannot continue: move it away or change n_eval_episodes")
        known = timesteps <= self.num_timesteps
        self.evaluations_timesteps = timesteps[known].tolist()
        self.evaluations_results, self.evaluations_length = results[known].tolist(), lengths[known].tolist()
        self.best_mean_reward = max(map(np.mean, self.evaluations_results), default=-np.inf)

    def _on_event(self) -> bool:
        rewards, lengths = self._evaluate()
        mean, length = float(np.mean(rewards)), float(np.mean(lengths))
        self.last_mean_reward, is_best = mean, mean > self.best_mean_reward
        self.evaluations_timesteps.append(self.num_timesteps)
        self.evaluations_results.append(rewards)
        self.evaluations_length.append(lengths)
        self.say(f"Eval num_timesteps={self.num_timesteps}, episode_reward={mean:.2f} +/- {np.std(rewards):.2f}\n"
                 f"Episode length: {length:.2f} +/- {np.std(lengths):.2f}" + "\nNew best mean reward!" * is_best)
        # written at once: with a longer log_interval it would be shown at a later step, or overwritten
        self.logger.record("eval/mean_reward", mean)
        self.logger.record("eval/mean_ep_length", length)
        self.logger.record("time/total_timesteps", self.num_timesteps)
        self.logger.dump(self.num_timesteps)
        self._write(is_best)
        if not is_best:
            return True
        self.best_mean_reward = mean
        return super()._on_event()

    def _evaluate(self) -> tuple[list, list]:
        """Return the returns and lengths of the episodes of all ranks."""
        model, comm = self.model, self.model.comm
        share = (int(self.n_eval_episodes) + comm.rank) // comm.size
        seeds = np.random.SeedSequence(model.seed, spawn_key=(comm.rank, EVALUATION, model.updates))
        mine = evaluate_policy(model, self.eval_env, share, self.deterministic, return_episode_rewards=True,
                               seed=int(seeds.generate_state(1)[0] >> 1)) if share else ([], [])
        if core(self.eval_env) is core(self.training_env):
            model.restart_pending = True  # its episode was interrupted
        parts = comm.gather(mine)
        return sum((rewards for rewards, _ in parts), []), sum((lengths for _, lengths in parts), [])

    def _write(self, is_best: bool) -> None:
        if self.model.comm.rank:
            return
        if is_best and self.best_model_save_path is not None:  # before the table says that it is the best: a kill may come between
            self.model.save(os.path.join(self.best_model_save_path, "best_model"))
        if self.log_path is not None:  # np.savez would leave half a file if killed
            write_archive(os.path.join(self.log_path, "evaluations.npz"), {
                "timesteps": np.array(self.evaluations_timesteps), "results": np.array(self.evaluations_results),
                "ep_lengths": np.array(self.evaluations_length)}, {})


class StopTrainingOnRewardThreshold(BaseCallback):
    """Stop training when the best mean reward of an EvalCallback, whose callback_on_new_best this must be, reaches a threshold."""

    def __init__(self, reward_threshold: float, verbose: int = 0):
        super().__init__(verbose)
        self.reward_threshold = reward_threshold

    def _init_callback(self) -> None:
        if not isinstance(self.parent, EvalCallback):
            raise ValueError("StopTrainingOnRewardThreshold needs an EvalCallback: give it as EvalCallback(..., callback_on_new_best=...)")

    def _on_step(self) -> bool:
        if self.parent.best_mean_reward < self.reward_threshold:
            return True
        self.say(f"Stopping training because the mean reward {self.parent.best_mean_reward:.2f} reached the threshold "
                 f"{self.reward_threshold}")
        return False


class StopTrainingOnMaxEpisodes(BaseCallback):
    """Stop training after the update in which `max_episodes` episodes per environment, on average, have finished."""

    def __init__(self, max_episodes: int, verbose: int = 0):
        super().__init__(verbose)
        self.max_episodes = max_episodes

    def _on_training_start(self) -> None:
        count = getattr(self.training_env, "num_envs", 1) * self.model.comm.size
        self._last = self.model.episodes + self.max_episodes * count

    def _on_update_end(self) -> bool:
        if self.model.episodes < self._last:
            return True
        self.say(f"Stopping training after {self.num_timesteps} steps: {self.max_episodes} episodes per environment are finished")
        return False


class MonitorCallback(BaseCallback):
    """Write each finished episode of all ranks to a Monitor file, `path` as for trpo_np.logger.EpisodeLog."""

    def __init__(self, path: str | os.PathLike, env_id: str | None = None):
        super().__init__()
        self.path, self.env_id = path, env_id

    def _on_training_start(self) -> None:
        if self.model.comm.rank == 0:
            self._log = EpisodeLog(self.path, self.env_id)

    def _on_rollout_end(self) -> None:
        if self.model.comm.rank == 0:
            for reward, length in self.locals["new_episodes"]:
                self._log.write(reward, length)

    def _on_training_end(self) -> None:
        if self.model.comm.rank == 0:
            self._log.close()


def as_callback(callback: Any) -> BaseCallback:
    """Make a BaseCallback of None, a function, a callback or a list of such."""
    if callback is None:
        return BaseCallback()
    if isinstance(callback, BaseCallback):
        return callback
    if isinstance(callback, (list, tuple)):
        return CallbackList(list(callback))
    if callable(callback) and not isinstance(callback, type):
        return FunctionCallback(callback)
    raise ValueError(f"callback is {callback!r}; a BaseCallback, a list of them or a function of (locals, globals) is needed")


def check_ranks(callback: BaseCallback, comm: Any) -> None:
    """Refuse an EvalCallback that only some ranks have: they would wait for the others for ever."""
    having = [rank for rank, has in enumerate(comm.gather(callback.is_collective)) if has]
    if having and len(having) < comm.size:
        raise ValueError(f"of {comm.size} ranks only {having} have an EvalCallback, which evaluates on all ranks together: give it to every "
                         "rank (rank 0 alone writes and prints)")


def prepare_folder(model: Any, folder: str | os.PathLike) -> None:
    """Find out before training, not after hours, that a model cannot be saved or a folder not be made."""
    for value in model.settings.values():
        to_json(value)
    if model.comm.rank == 0:
        os.makedirs(folder, exist_ok=True)


def core(env: Any) -> Any:
    """Return the environment within its wrappers."""
    return getattr(env, "unwrapped", env)
