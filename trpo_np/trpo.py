"""The class around the update: construct, train, predict, save and load, with stable-baselines' interface."""

import math
import time
import warnings
from collections import deque
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast, overload

import numpy as np

from . import callbacks, spaces
from .comm import OneProcess, check_agreement, connect, guarded
from .env_state import NoState
from .envs import Carried, adapt, make_env
from .files.model import FileError, has_critic, read_model, resolve_policy, write_model
from .files.training import check_training, fingerprint, restore, training_record
from .logger import Logger, Progress, configure, run_folder
from .normalize import RewardNormalizer, UsualSpread
from .optim import Adam
from .peers import (
    StableBaselines,
    answer,
    hint,
    on_the_class,
    vec_normalize,
    warn_of_attribute,
    warn_of_position,
    warn_of_shared_layers,
)
from .policies import construct
from .policies.base import Policy
from .policies.fast import warm_up
from .pretrain import expert_arrays, imitate
from .rollout import Runner, Segment
from .settings import FIELDS, FIXED, Scheduled, Settings, check_count, checked_seed
from .snapshot import Snapshot, all_or_nothing, state_of, take_up
from .trust_region import fisher_operator
from .types import Actions, File, Floats, Path
from .update import improve
from .vec_env import pending_seeds

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from typing_extensions import Self

NOISE, SHUFFLE, ENVS, INIT = range(4)  # independent streams of random numbers


class TRPO(StableBaselines):
    """Train a policy by trust region policy optimization; stable-baselines' interface.

    policy: a policy class or its name, such as "MlpPolicy".
    env: a gymnasium id, Env, VectorEnv, VecEnv, EnvPool, or None.
    gamma: discount, 0.99 to 0.999; nearer 1 where what counts comes late.
    lam: GAE's trade of variance (1) for bias (0), 0.9 to 1.
    timesteps_per_batch: environment steps per update; more is slower and steadier.
    batch_of: "rank": timesteps_per_batch and vf_batch_size are each rank's; "job": all ranks share them, each
        takes an equal part, rounded up. A rank's environments share its part, rounded up too.
    max_kl: trust region, 0.001 (pixels) to 0.05; the setting to try first.
    kl_tolerance: a step is accepted up to this multiple of max_kl.
    cg_iters, cg_damping: conjugate gradient; a damping of 0.1 suits control tasks.
    fvp_subsample: curvature from every k-th sample, or, for a recurrent policy, from every k-th environment.
        Samples of n environments come in turn: where k divides n, only every k-th environment is in it.
    linesearch_steps, linesearch_shrink: how many steps to try, each this times the one before.
    entcoeff: weight of an entropy bonus. Where rewards are rare, 0.01 with normalize_advantage=False: while
        there is nothing to learn from, the bonus then outweighs the noise.
    vf_stepsize, vf_iters, vf_batch_size: Adam's stepsize, passes over the batch, and minibatch of the critic.
    normalize_observations, normalize_rewards: by running statistics, which are part of the model and its file
        (for images, the mean of the first batch). Observations in float64 or large integers are normalised in
        float64, so that a large offset, such as a time stamp's, hides nothing; without it they are cut to
        `dtype`. One-hot rows of discrete observations are normalised too; indices, which stand for them
        where there are thousands of values, are not.
    normalize_advantage: to mean 0 and spread 1.
    clip_rewards: learn from rewards clipped to -1 .. 1, as is usual for Atari; reports show the real returns.
    restarts: each step's chance to break a training episode off, as a truncation, and start another: states
        are then drawn as the discounted objective weighs them (all: 1 - gamma), so that a batch sees many
        starts. A tenth of the episodes is left whole; theirs are the returns that are reported. The
        environment is reset before its episode's end: not for wrappers that refuse that, or play on.
    scale_steps: shorten the step where a batch's advantages spread less than usual. Else each step is as long
        as max_kl allows, also after a batch in which nothing went wrong, and that one follows noise.
    sample_reuse: in how many updates a sample counts: 2 takes the batch before in again, weighted by how
        likely its actions are now. It pays where steps are few; an update takes as many times as long. New
        episodes (a new `learn`, a checkpoint that ends episodes) begin without earlier samples.
    bootstrap_truncated: value the state in which a time limit cut an episode; False treats it as an end, as
        stable-baselines does.
    policy_kwargs: arguments of the policy class, such as net_arch; see trpo_np.policies.Policy.
    seed: same seed, same bits, on the same machine and versions.
    verbose: 1 prints a table.
    tensorboard_log: a folder.
    dtype: "float32", or "float64" for checks.
    comm: an mpi4py communicator; by default that of the launcher.
    others: words of stable-baselines for what goes without saying here are taken with a warning, and those
        that have another name here are answered with it (peers.py).

    max_kl, vf_stepsize and entcoeff may be functions of the remaining progress, which falls from 1 to 0. The
    file keeps a `presets.LinearSchedule(start, end)`; any other function must be given to `load` again.
    Settings are read and set as attributes (`model.max_kl = 0.02`), also by callbacks; a change counts from
    the next rollout on, and so does another environment (`set_env`). `loggers` are further outputs of
    logger.py, which their owner closes; `logger` may be replaced. Both count from the next dump on.

    A model is always whole: what interrupts `learn`, be it Ctrl-C or an error of an environment or a
    callback, leaves it as it was after the last update; a file saved meanwhile holds that state.
    """

    # the settings, which are read and set as attributes
    gamma: float
    timesteps_per_batch: int
    max_kl: Scheduled
    cg_iters: int
    lam: float
    entcoeff: Scheduled
    cg_damping: float
    vf_stepsize: Scheduled
    vf_iters: int
    vf_batch_size: int
    fvp_subsample: int
    linesearch_steps: int
    linesearch_shrink: float
    kl_tolerance: float
    normalize_advantage: bool
    normalize_observations: bool
    normalize_rewards: bool
    bootstrap_truncated: bool
    clip_rewards: bool
    restarts: float
    scale_steps: bool
    sample_reuse: int
    batch_of: str
    dtype: str
    # made by `set_env`
    runner: Runner
    observation_space: spaces.Space
    action_space: spaces.Leaf

    def __init__(self, policy: type[Policy] | str, env: Any, gamma: float = 0.99,
                 timesteps_per_batch: int = 1024, max_kl: Scheduled = 0.01, cg_iters: int = 10,
                 lam: float = 0.98, entcoeff: Scheduled = 0.0, cg_damping: float = 1e-2,
                 vf_stepsize: Scheduled = 3e-4, vf_iters: int = 3, verbose: int = 0,
                 tensorboard_log: Path | None = None, policy_kwargs: dict[str, Any] | None = None,
                 seed: int | None = None, *, vf_batch_size: int = 128, fvp_subsample: int = 5,
                 linesearch_steps: int = 10, linesearch_shrink: float = 0.5, kl_tolerance: float = 1.5,
                 normalize_advantage: bool = True, normalize_observations: bool = False,
                 normalize_rewards: bool = False, bootstrap_truncated: bool = True,
                 clip_rewards: bool = False, restarts: float = 0.0, scale_steps: bool = False,
                 sample_reuse: int = 1, batch_of: str = "rank", dtype: "DTypeLike" = "float32",
                 comm: Any = None, **others: Any) -> None:
        answer("TRPO", others, FIELDS)
        if isinstance(gamma, float) and 0 < gamma < 0.1:
            warnings.warn(f"gamma is {gamma}: rewards a step ahead hardly count. The third argument is gamma "
                          "here; a learning rate, which has this place in stable-baselines3, is vf_stepsize",
                          stacklevel=2)
        self.settings = Settings(
            gamma=gamma, timesteps_per_batch=timesteps_per_batch, max_kl=max_kl, cg_iters=cg_iters, lam=lam,
            entcoeff=entcoeff, cg_damping=cg_damping, vf_stepsize=vf_stepsize, vf_iters=vf_iters,
            vf_batch_size=vf_batch_size, fvp_subsample=fvp_subsample, linesearch_steps=linesearch_steps,
            linesearch_shrink=linesearch_shrink, kl_tolerance=kl_tolerance,
            normalize_advantage=normalize_advantage, normalize_observations=normalize_observations,
            normalize_rewards=normalize_rewards, bootstrap_truncated=bootstrap_truncated,
            clip_rewards=clip_rewards, restarts=restarts, scale_steps=scale_steps,
            sample_reuse=sample_reuse, batch_of=batch_of, dtype=cast(str, dtype))
        if policy_kwargs is not None and not isinstance(policy_kwargs, dict):
            raise ValueError(f"policy_kwargs is {policy_kwargs!r}; "
                             "a dict of the policy's arguments is needed")
        self.policy_class, self.policy_kwargs = resolve_policy(policy), dict(policy_kwargs or {})
        self.verbose, self.tensorboard_log = verbose, tensorboard_log
        self.comm = connect(comm)
        self.seed = self.comm.bcast(checked_seed(seed))
        self.is_seeded = seed is not None  # else seeds that were given to the environments count
        self.num_timesteps = self.updates = self.skipped_updates = self.episodes = 0
        self.failures = 0  # errors since the last update, each of which calls for other random numbers
        self.snapshot: Snapshot | None = None  # while the model learns: its last whole state
        self.reward_normalizer, self.usual_spread = RewardNormalizer(normalize_rewards), UsualSpread()
        # (return, length) of the latest episodes of all ranks; whether each succeeded, None if it did not say
        self.recent: deque[tuple[float, int]] = deque(maxlen=100)
        self.successes: deque[bool | None] = deque(maxlen=100)
        self.loggers: list[Any] = []
        self.logger: Logger = RunLogger([], self)
        self.restart_pending = True  # the next rollout starts new episodes, unless some are held:
        self.held: bytes | None = None  # episodes that go on there, of the file or model this is a copy of
        self.cut_every: list[int] = []  # the steps between the checkpoints that end episodes
        self.glimpse = ""  # of the environments, as `learn` left them
        self.env_id = vars(self)["env"] = None
        if env is not None:
            self.set_env(env)

    def __repr__(self) -> str:
        """Say which policy it is, where it learns, how far it came and which settings are not the usual."""
        policy = repr(self.policy) if "policy" in vars(self) else f"<{self.policy_class.__name__}>"
        place = "no environment"
        if self.env is not None:
            n = self.stepper.num_envs
            place = (self.env_id or type(self.env).__name__) + (f" x {n}" if n > 1 else "")
        changed = [f", {name}={getattr(value, '__name__', value)}"
                   for name, value in self.settings.changed().items() if name != "dtype"]
        return f"<{type(self).__name__} {policy}, {place}, {self.num_timesteps:,} steps{''.join(changed)}>"

    # --- environment and settings ---------------------------------------------------------------------------

    def get_env(self) -> Any:
        """Return the environment (None if there is none)."""
        return self.env

    def set_env(self, env: Any) -> None:
        """Train on this environment from now on; its spaces must be the model's."""
        env = make_env(env) if isinstance(env, str) else env
        stepper, settings = adapt(env), self.settings
        if "policy" in vars(self):
            for what in ("observation_space", "action_space"):
                if differs := spaces.difference(getattr(stepper, what), getattr(self.policy, what)):
                    raise ValueError(f"the environment's {what} does not fit the model: {differs}")
        _check_stepper(settings, self.comm.size, stepper)
        settings = self._heed(vec_normalize(env))
        if "policy" not in vars(self):
            warn_of_shared_layers(self.policy_kwargs)
            policy = construct(
                self.policy_class, stepper.observation_space, stepper.action_space, self.policy_kwargs,
                dtype=settings.dtype, normalize=settings.normalize_observations)
            self._install(policy.draw(self._rng(INIT, self.updates)))
        stepper.observation_space = self.policy.observation_space  # it also knows the channels' axis
        held = None if "stepper" in vars(self) else self.held
        vars(self).update(env=env, env_id=stepper.env_id, stepper=stepper, restart_pending=True, held=held,
                          runner=Runner(self.policy, stepper))

    def _heed(self, wrapper: Any) -> Settings:
        """Normalise what a VecNormalize asks for; if the model is made already, warn where it does not."""
        asked = {"normalize_observations": wrapper.norm_obs, "normalize_rewards": wrapper.norm_reward
                 } if wrapper is not None else {}
        missing = [name for name, wanted in asked.items() if wanted and not getattr(self.settings, name)]
        if missing and "policy" in vars(self):
            warnings.warn(f"VecNormalize asks for {' and '.join(missing)}, which this model was made "
                          "without: it learns from numbers as they are", stacklevel=4)
        elif missing:
            self.settings = replace(self.settings, **cast("dict[str, Any]", dict.fromkeys(missing, True)))
            self.reward_normalizer = RewardNormalizer(self.settings.normalize_rewards)
        return self.settings

    def _install(self, policy: Policy) -> None:
        self.policy = policy
        self.adam = Adam(policy.critic_params.flat.size, policy.dtype)

    def __getattr__(self, name: str) -> object:
        if name in ("policy", "stepper", "runner"):
            what = "network" if name == "policy" else "environment"
            raise AttributeError(f"this model has no {what} yet; call set_env(env) first")
        if name in ("observation_space", "action_space"):  # as described in spaces.py: shape, n, low, high
            return getattr(self.policy, name)
        if name in FIELDS and "settings" in vars(self):
            return getattr(self.settings, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint(name)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED:
            raise AttributeError(f"{name} is a part of the model and its file; "
                                 f"make another model for another {name}")
        if name in FIELDS:
            settings = replace(self.settings, **{name: value})
            if "stepper" in vars(self):
                _check_stepper(settings, self.comm.size, self.stepper)
            self.settings = settings
        elif name == "env":
            self.set_env(value)
        elif name == "policy" and name in vars(self):
            raise AttributeError("policy is a part of the model; give it other parameters by "
                                 "load_parameters, or make another model, by TRPO.load")
        elif name == "logger" and not (hasattr(value, "record") and hasattr(value, "dump")):
            raise ValueError(f"logger is {value!r}; a Logger is needed, as trpo_np.logger.configure makes "
                             "it (an output alone goes into `loggers`)")
        else:
            warn_of_attribute(name)
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle all but loggers and MPI; without its environment, and a warning, if that does not pickle."""
        left = {"stepper", "runner", "comm", "logger", "loggers"}
        held = state_of(self).running if "policy" in vars(self) else None
        kept = {k: v for k, v in vars(self).items() if k not in left}
        return kept | {"env": Carried(self.env), "held": held, "restart_pending": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        env = state["env"]
        vars(self).update(state, env=None, comm=OneProcess(), loggers=[])
        self.logger = RunLogger([], self)
        if env is not None:
            self.set_env(env.env if isinstance(env, Carried) else env)  # Carried in a shallow copy

    def _rng(self, stream: int, update: int, *more: int) -> np.random.Generator:
        """Make a stream's generator for one update; a file then needs the update's number, not a state."""
        rank = 0 if stream == INIT else self.comm.rank
        if stream in (NOISE, ENVS) and self.failures:  # else the next rollout would meet the same error
            more += self.failures,
        seed = np.random.SeedSequence(self.seed, spawn_key=(rank, stream, update, *more))
        return np.random.default_rng(seed)

    # --- training -------------------------------------------------------------------------------------------

    @warn_of_position
    @guarded
    @all_or_nothing
    def learn(self, total_timesteps: float, callback: callbacks.Callback = None, seed: int | None = None,
              log_interval: int = 1, tb_log_name: str = "TRPO", reset_num_timesteps: bool = True,
              progress_bar: bool = False, **others: Any) -> "Self":
        """Train for at least `total_timesteps` environment steps, in whole batches; return the model.

        Steps count over all ranks. callback: a BaseCallback, a list of them, or a function of (locals,
        globals) that stops training by returning False. seed: replaces the model's. log_interval: updates per
        table. tb_log_name: the folder within `tensorboard_log`. progress_bar: on the terminal.

        reset_num_timesteps: False continues the count, the logs and, as in stable-baselines3, the episodes
        under way: schedules apart, learning twice in this way takes the same steps as learning once for as
        long. True starts new episodes, and so do a `seed`, another environment, an error or Ctrl-C in the
        `learn` before, and environments that were seen to be stepped meanwhile, as by `evaluate_policy`.
        """
        answer("learn", others)
        comm, callback = self.comm, callbacks.as_callback(callback)
        _check_number("total_timesteps", total_timesteps, 0)
        _check_number("log_interval", log_interval, 1)
        self._begin(None if seed is None else checked_seed(seed), bool(reset_num_timesteps))
        before, total = self.num_timesteps, self.num_timesteps + int(total_timesteps)
        callbacks.check_ranks(callback, comm)
        check_agreement(comm.gather((total, log_interval)), "total_timesteps and log_interval of learn")
        own = self._open_logger(tb_log_name, reset_num_timesteps)
        if isinstance(self.logger, RunLogger):
            self.logger = RunLogger(own.outputs, self)
        callback.init_callback(self)
        started, seconds, going = time.perf_counter(), np.zeros(3), True
        with own, closing(Progress(total_timesteps, enabled=progress_bar and comm.rank == 0)) as progress:
            callback.on_training_start(locals(), globals())
            while self.num_timesteps < total and going:
                # rollout: act in the environments
                segment = self._rollout(callback)
                if segment is None:
                    break
                going = callback.on_rollout_end() is not False

                # update: improve policy and critic (update.py)
                clock = time.perf_counter()
                stats, memory = self.update(segment, max(0.0, 1 - self.num_timesteps / total))
                self.runner.remember(memory)
                self.snapshot = Snapshot(self)  # from now on the update counts
                seconds += segment.env_seconds, segment.policy_seconds, time.perf_counter() - clock
                progress.clear()
                going = comm.sum(int(callback.on_update_end() is not False and going)) == comm.size

                # log: tables and files, every `log_interval` updates and at the end
                for key, number in stats.items():
                    self.logger.record(f"train/{key}", number)
                if self.updates % log_interval == 0 or self.num_timesteps >= total or not going:
                    self._record(self.num_timesteps - before, time.perf_counter() - started, seconds)
                    self.logger.dump(self.num_timesteps)
                callback.on_update_logged()
                progress.update(self.num_timesteps - before)
            self.glimpse = self.stepper.glance()
            callback.on_training_end()
        return self

    def _begin(self, seed: int | None, anew: bool) -> None:
        """Prepare to learn: compile, take another seed or count of steps, see whether episodes can go on."""
        stepper, ranks, batch = self.stepper, self.comm.size, self.settings.timesteps_per_batch
        share = self.settings.for_rank(ranks).timesteps_per_batch
        if share < min(batch, 32) and self.comm.rank == 0:
            warnings.warn(f"{ranks} ranks share a batch of {batch:,} steps: {share} a rank are few for what "
                          "messages between ranks cost; fewer ranks may be faster", stacklevel=4)
        self.comm.first_on_machine(lambda: warm_up(self.policy.kernel_files))
        if anew or seed is not None:
            self.restart_pending, self.held = True, None
        elif not self.restart_pending:
            self.restart_pending = self.glimpse != stepper.glance()
        if seed is not None:
            self.seed, self.is_seeded = seed, True
        self.num_timesteps = 0 if anew else self.num_timesteps

    def _start_episodes(self) -> None:
        """Start an episode in each environment, or go on with those that are held."""
        rngs = [self._rng(ENVS, self.updates, i) for i in range(self.stepper.num_envs)]
        seeds = [int(rng.integers(2**31)) for rng in rngs]
        if not self.is_seeded and self.comm.size == 1:  # several ranks would all start the same episodes
            seeds = pending_seeds(self.env) or seeds
        held, self.held = self.held, None
        while True:
            self.runner.restart(seeds)
            self.reward_normalizer.restart(self.stepper.num_envs)
            self.restart_pending = False
            if held is None:
                return
            try:
                return take_up(self, held)
            except NoState as error:
                held = None
                warnings.warn("the episodes that were under way when the model was saved cannot go on in "
                              f"this environment: {error}. New ones start", stacklevel=4)

    def _rollout(self, callback) -> Segment | None:
        """Collect a segment, count the steps and episodes of all ranks; None if a callback stopped one."""
        callback.on_rollout_start()
        self.snapshot = Snapshot(self, between=False)
        comm, before = self.comm, self.num_timesteps
        if self.restart_pending:
            self._start_episodes()
        # ranks that drifted apart must not go on
        state = comm.size > 1 and fingerprint(self, self.snapshot)
        share = self.settings.for_rank(comm.size).timesteps_per_batch
        steps = -(-share // self.stepper.num_envs)
        segment = self.runner.collect(steps, self._rng(NOISE, self.updates), self._step_hook(callback),
                                      self.settings.restarts)
        reports = comm.gather((state, segment and (int(segment.valid.sum()), segment.episodes,
                                                   segment.successes)))
        check_agreement([state for state, _ in reports],
                        "settings, counters, parameters, optimiser and statistics")
        if not all(collected for _, collected in reports):
            self.num_timesteps = before  # steps that nothing was learned from do not count
            self.restart_pending = True
            return None
        self.num_timesteps = before + sum(count for _, (count, *_) in reports)
        new_episodes = [episode for _, (_, episodes, _) in reports for episode in episodes]
        self.recent.extend(new_episodes)
        self.successes.extend(success for _, (*_, successes) in reports for success in successes)
        self.episodes += len(new_episodes)
        callback.update_locals(dict(segment=segment, new_episodes=new_episodes))
        return segment

    def update(self, segment: Segment, remaining: float = 1.0) -> tuple[dict[str, Any], dict[str, Any]]:
        """Improve policy and critic from one segment; return numbers to log and the critic's memory after it.

        remaining: the progress that schedules see, 1 at the start of training, 0 at its end. All ranks call
        this, each with its own segment.
        """
        again, runner = self.settings.sample_reuse - 1, vars(self).get("runner")
        known = runner.earlier[:again] if runner else []
        earlier = [old for old in known if len(old.obs) == len(segment.obs)]
        stats, memory = improve(
            self.policy, self.adam, self.reward_normalizer, self.usual_spread, segment,
            self.settings.for_rank(self.comm.size), remaining, self._rng(SHUFFLE, self.updates + 1),
            self.comm, earlier)
        if runner:
            runner.earlier = [segment, *earlier][:again]
        self.updates, self.failures = self.updates + 1, 0
        if "no_update" not in stats:
            self.skipped_updates += not stats["step_fraction"]
            stats |= {"n_updates": self.updates, "skipped_updates": self.skipped_updates}
        return stats, memory

    @guarded
    def pretrain(self, dataset: Any, n_epochs: int = 10, learning_rate: float = 1e-4,
                 val_interval: int | None = None, **others: Any) -> "Self":
        """Imitate an expert before training: raise the likelihood of its actions; return the model.

        dataset: a path, a dict with "obs" and "actions", or a pair (obs, actions), as made by
        `pretrain.generate_expert_data`. val_interval: epochs between the printed losses on the held-out 30 %
        (with verbose=1; by default a tenth of the epochs). If the fit is not finite, a ValueError says so,
        and the model is what it was.
        """
        answer("pretrain", others)
        if val_interval is not None:
            check_count("val_interval", val_interval, 0)
        data, rng = expert_arrays(dataset, self.policy), self._rng(SHUFFLE, self.updates)
        losses = imitate(self.policy, *data, n_epochs, learning_rate, rng, self.comm)
        every = val_interval or max(1, n_epochs // 10)
        with self._open_logger("pretrain", True) as logger:
            for epoch, (fitted, held_out) in enumerate(losses, 1):
                if epoch % every == 0 or epoch == n_epochs:
                    logger.record("pretrain/epoch", epoch)
                    logger.record("pretrain/negative_log_likelihood", fitted)
                    logger.record("pretrain/held_out", held_out)
                    logger.dump(epoch)
        return self

    def _step_hook(self, callback):
        """Return the function that the runner calls after each step, or None if no callback needs it."""
        if not callback.wants_steps:
            return None
        before = self.num_timesteps

        def hook(step_locals):
            self.num_timesteps = before + step_locals["steps"] * self.comm.size
            callback.update_locals(step_locals)
            return callback.on_step()
        return hook

    def _open_logger(self, name: str, new: bool) -> Logger:
        if self.comm.rank:
            return Logger([])
        logger = configure(None, ["stdout"] * bool(self.verbose))
        if self.tensorboard_log:
            logger.outputs += configure(run_folder(self.tensorboard_log, name, new), ["tensorboard"]).outputs
        return logger

    def _record(self, steps: int, elapsed: float, seconds: np.ndarray) -> None:
        """Record the latest episodes, the speed and each part's share of the time.

        `steps` took `elapsed` seconds; environment, policy and update took `seconds` (3,) of them.
        """
        logger = self.logger
        if self.recent:
            returns, lengths = zip(*self.recent)
            logger.record("rollout/ep_rew_mean", float(np.mean(returns)))
            logger.record("rollout/ep_len_mean", float(np.mean(lengths)))
        if known := [success for success in self.successes if success is not None]:
            logger.record("rollout/success_rate", float(np.mean(known)))
        logger.record("rollout/episodes", self.episodes)
        logger.record("time/fps", steps / max(elapsed, 1e-9))  # a clock may stand still
        logger.record("time/time_elapsed", elapsed)
        logger.record("time/total_timesteps", self.num_timesteps)
        for name, share in zip(("environment", "policy", "update"), seconds / max(seconds.sum(), 1e-9)):
            logger.record(f"time/share_{name}", float(share))

    # --- acting ---------------------------------------------------------------------------------------------

    def predict(self, obs: Any, state: Any = None, mask: Any = None, deterministic: bool = False,
                **others: Any) -> tuple[Actions, Floats | None]:
        """Return (actions, state) for one observation or a batch (n, ...).

        Actions are the likeliest ones if `deterministic`, else drawn. `state` and `mask` are for recurrent
        policies (None for others): the state that the last `predict` returned, (n, 2 * n_lstm), and a mask
        (n,) that is True where an episode starts.
        """
        if others:
            answer("predict", others)
        return self.policy.predict(obs, state, mask, deterministic)

    def action_probability(self, obs: Any, state: Any = None, mask: Any = None, actions: Any = None,
                           logp: bool = False) -> Floats | list[Floats]:
        """Return the distribution of actions, or the probability (density) of given `actions`.

        See Policy.action_probability.
        """
        return self.policy.action_probability(obs, state, mask, actions, logp)

    def fisher_vector_product(self, v: Any, obs: Any, state: Any = None, mask: Any = None,
                              damping: float = 0.0) -> Floats:
        """Return (F + damping) v, F being the Hessian of the mean KL(policy || .) over a batch at the policy.

        `v` covers the policy's parameters, the leading part of the flat vector, or all of it (the critic has
        no curvature). A recurrent policy takes one step, obs (n, ...) and mask (n,), or a sequence, (T, n,
        ...) and (T, n), with the state (n, 2 * n_lstm) before it. The batch is that of all ranks: each calls
        this with its own `obs`. Raise a ValueError if `v` does not fit, or the product overflows.
        """
        policy, params = self.policy, self.policy.policy_params
        v = np.asarray(v, policy.dtype)
        if v.shape not in (params.flat.shape, policy.params.flat.shape):
            raise ValueError(f"v has shape {v.shape}; {params.flat.size} (policy) or "
                             f"{policy.params.flat.size} (all) numbers are needed")
        inputs, count = policy.sample_inputs(obs, state, mask)
        weights = np.full(count, 1 / self.comm.sum(count))
        product = fisher_operator(policy, params, inputs, weights, self.comm, damping)
        out = v.dtype.type(damping) * v
        out[:params.flat.size] = product(v[:params.flat.size])
        if not np.isfinite(out).all():
            raise ValueError(f"(F + damping) v is not finite in {v.dtype}: v holds numbers up to "
                             f"{np.max(np.abs(v)):g}; a smaller v is needed, or dtype='float64'")
        return out

    # --- parameters and files -------------------------------------------------------------------------------

    def get_parameters(self) -> dict[str, Floats]:
        """Return copies of the parameters by name, in the order of the flat vector."""
        return {name: array.copy() for name, array in self.policy.params.items()}

    def load_parameters(self, path_or_dict: File | dict[str, Any] | list[Any],
                        exact_match: bool = True) -> None:
        """Set parameters from a dict of arrays or a saved file; without `exact_match` some may be missing.

        A list has the arrays in the order of `get_parameters`. A file brings its statistics of observations
        too. If something does not fit, a ValueError says what, and nothing is changed.
        """
        arrays: Any = path_or_dict
        policy, statistics = self.policy, None
        if isinstance(path_or_dict, list):
            if len(path_or_dict) != len(policy.params):
                raise ValueError(f"the list holds {len(path_or_dict)} arrays, not {len(policy.params)}")
            arrays = dict(zip(policy.params, path_or_dict))
        elif not isinstance(path_or_dict, dict):
            other, _, record, _ = read_model(path_or_dict, self.policy_class, self.policy_kwargs)
            arrays = dict(other.params if has_critic(record) else other.policy_params)
            statistics = other.normalizer.arrays()
            if other.normalizer.enabled != policy.normalizer.enabled:
                raise ValueError(f"normalize_observations is {policy.normalizer.enabled} here, "
                                 "in the file it is not")
        policy.params.assign(arrays, exact_match)
        policy.bound(policy.params)
        if statistics:
            policy.normalizer.restore(statistics)

    @overload
    def save(self, path: Path, training: bool = ..., **others: Any) -> str: ...
    @overload
    def save(self, path: BinaryIO, training: bool = ..., **others: Any) -> BinaryIO: ...
    def save(self, path: File, training: bool = True, **others: Any) -> Any:
        """Write the model to `path`.npz, whole or not at all; return the file's path.

        A binary file object in place of the path, such as io.BytesIO(), gets the same bytes at its position
        by one `write`, and is returned. With training=False the file holds what acts only, in a quarter of
        the room: for `load_policy` and `trpo-np export`, not for `load`. While the model learns, the file
        holds its state after the last update, also if another thread saves. Between two updates it holds the
        episodes under way, too, if the environments give their state.
        """
        answer("save", others)
        state = state_of(self)
        record, arrays = training_record(self, state)
        if not training:
            steps = {"num_timesteps": record["progress"]["num_timesteps"]}
            record = {"env_id": record["env_id"], "progress": steps}
        return write_model(path, self.policy, self.policy_kwargs, state.parameters, state.observations,
                           record, arrays if training else None)

    @on_the_class
    @classmethod
    def load(cls, path: File, env: Any = None, policy: type[Policy] | str | None = None,
             **changes: Any) -> "Self":
        """Read a model back, ready to predict and to go on training; `changes` replace constructor arguments.

        `path` may be a binary file object that can seek: the model is what it holds from its position on.
        `policy` (the class) and `policy_kwargs` are needed if the model has a policy or a function of your
        own. Actions are drawn as the saved model would go on to draw them, unless there is a `seed`: give
        each of several workers another. Raise FileNotFoundError, or a FileError (a ValueError) that names the
        field, if the file is damaged, hostile or does not fit.
        """
        changed = {name: value for name, value in changes.items() if name in FIELDS}
        others = {name: value for name, value in changes.items() if name not in FIELDS}
        network, policy_kwargs, record, training = read_model(
            path, policy, others.get("policy_kwargs"), partial(check_training, changes=changed))
        settings = Settings.from_json(record["algorithm"] | changed)
        given = {"seed": record["progress"]["seed"]} | others | {"policy_kwargs": policy_kwargs}
        model = cls(type(network), None, **vars(settings), **given)
        model._install(network)
        if "seed" in changes:
            network.seed(model.seed)
        try:
            restore(model, record, training)
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None
        if env is not None:
            model.set_env(env)
        return model


class RunLogger(Logger):
    """The logger of one `learn`: writes to the model's `loggers` too, those that there are at each dump."""

    def __init__(self, outputs, model: TRPO):
        super().__init__(outputs)
        self.model = model

    def dump(self, step: int) -> None:
        """Write everything recorded since the last dump under this number of environment steps; forget it."""
        values = self.values
        super().dump(step)
        for output in self.model.loggers if values and self.model.comm.rank == 0 else ():
            output.write(values, int(step))


def _check_stepper(settings: Settings, ranks: int, stepper) -> None:
    share, n = settings.for_rank(ranks).timesteps_per_batch, stepper.num_envs
    if n > share:
        of_rank = f", of which a rank has {share}" if share < settings.timesteps_per_batch else ""
        raise ValueError(f"timesteps_per_batch is {settings.timesteps_per_batch}{of_rank}, fewer than the "
                         f"{n} environments; each must take at least one step")
    if settings.restarts and not stepper.breaks_off:
        warnings.warn(f"restarts={settings.restarts} is left out: {type(stepper.env).__name__} resets its "
                      "environments itself; an own, unwrapped DummyVecEnv lets episodes be broken off",
                      stacklevel=4)


def _check_number(name: str, value, least: int) -> None:
    if not (isinstance(value, (int, float, np.number)) and least <= value < math.inf):
        raise ValueError(f"{name} is {value!r}; a number of at least {least} is needed")
