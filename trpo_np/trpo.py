"""Trust Region Policy Optimization (Schulman et al., arXiv:1502.05477): the step, and the class around it."""

import inspect
import math
import time
import warnings
from collections import deque
from contextlib import closing

import numpy as np

from . import callbacks, spaces
from .comm import check_agreement, connect, guarded
from .envs import adapt, make_env
from .files.model import FileError, read_model, resolve_policy, write_model
from .files.training import check_training, fingerprint, restore, training_record
from .kernels.compile import compile_all
from .kernels.malloc import keep_freed
from .logger import Logger, Progress, configure, run_folder
from .normalize import RewardNormalizer
from .optim import Adam
from .policies import construct
from .pretrain import expert_arrays, imitate
from .rollout import Runner, Segment, advantages
from .settings import checked, checked_seed, now
from .trust_region import Batch, fisher_operator, trust_region_step

NOISE, SHUFFLE, ENVS, INIT = range(4)  # independent streams of random numbers


class TRPO:
    """Train a policy by trust region policy optimization; stable-baselines' interface.

    policy: a policy class or its name, such as "MlpPolicy". env: a gymnasium id, Env, VectorEnv, VecEnv, EnvPool, or None.
    gamma: discount, 0.99 to 0.999; nearer 1 where what counts comes late. lam: GAE's trade of variance (1) for bias (0), 0.9
    to 1.
    timesteps_per_batch: environment steps per rank and update, over all of a rank's environments; more is slower and steadier.
    max_kl: trust region, 0.001 (pixels) to 0.05; the knob to try first. kl_tolerance: a step within this multiple of it is
    accepted.
    cg_iters, cg_damping: conjugate gradient; 0.1 damping suits control tasks. fvp_subsample: curvature from every k-th sample,
    or, of a policy that remembers, from every k-th environment.
    linesearch_steps, linesearch_shrink: how many shorter steps to try, each times this.
    entcoeff: weight of an entropy bonus; 0.01 with normalize_advantage=False where rewards are rare, so that it outweighs noise
    where there is nothing else.
    vf_stepsize, vf_iters, vf_batch_size: Adam's stepsize, passes over the batch and minibatch of the critic.
    normalize_observations, normalize_rewards: running statistics inside the model and its file (of images the first mean).
    normalize_advantage: mean 0, spread 1.
    clip_rewards: learn from rewards clipped to -1 .. 1, as is usual for Atari; returns are reported as they are.
    bootstrap_truncated: value the state in which a time limit cut an episode (False: as if it had ended, as in stable-baselines).
    policy_kwargs: arguments of the policy class, such as net_arch; see trpo_np.policies.Policy.
    max_kl, vf_stepsize and entcoeff may be functions of the remaining progress (1 at the start, 0 at the end);
    `presets.LinearSchedule(start, end)` is one that the file keeps, another must be given to `load` again.
    seed: same seed, same bits, on the same machine and versions. verbose: 1 prints a table. tensorboard_log: a folder.
    dtype: "float32", or "float64" for checks. comm: an mpi4py communicator; by default that of the launcher.
    """

    def __init__(self, policy, env, gamma=0.99, timesteps_per_batch=1024, max_kl=0.01, cg_iters=10, lam=0.98, entcoeff=0.0,
                 cg_damping=1e-2, vf_stepsize=3e-4, vf_iters=3, verbose=0, tensorboard_log=None, policy_kwargs=None, seed=None, *,
                 vf_batch_size=128, fvp_subsample=5, linesearch_steps=10, linesearch_shrink=0.5, kl_tolerance=1.5,
                 normalize_advantage=True, normalize_observations=False, normalize_rewards=False, bootstrap_truncated=True,
                 clip_rewards=False, dtype="float32", comm=None):
        given = locals()
        self.settings = checked({name: given[name] for name in SETTINGS})
        if policy_kwargs is not None and not isinstance(policy_kwargs, dict):
            raise ValueError(f"policy_kwargs is {policy_kwargs!r}; a dict of the policy's arguments is needed")
        self.policy_class, self.policy_kwargs = resolve_policy(policy), dict(policy_kwargs or {})
        self.verbose, self.tensorboard_log = verbose, tensorboard_log
        self.comm = connect(comm)
        self.seed = self.comm.bcast(checked_seed(seed))
        self.num_timesteps = self.updates = self.skipped_updates = self.episodes = 0
        self.reward_normalizer = RewardNormalizer(gamma, normalize_rewards)
        self.recent = deque(maxlen=100)  # (return, length) of the latest episodes of all ranks
        self.loggers: list = []  # further outputs of logger.py, which their owner closes
        self.logger = Logger([])
        self.restart_pending = True
        self.env, self.env_id = env, None
        if env is not None:
            self.set_env(env)

    # --- environment --------------------------------------------------------------------------------------------------

    def get_env(self):
        """Return the environment (None if there is none)."""
        return self.env

    def set_env(self, env) -> None:
        """Train on this environment from now on; its spaces must be the model's."""
        env = make_env(env) if isinstance(env, str) else env
        stepper = adapt(env)
        if "policy" in vars(self):
            for what in ("observation_space", "action_space"):
                if differs := spaces.difference(getattr(stepper, what), getattr(self.policy, what)):
                    raise ValueError(f"the environment's {what} does not fit the model: {differs}")
        if stepper.num_envs > self.settings["timesteps_per_batch"]:
            raise ValueError(f"timesteps_per_batch is {self.settings['timesteps_per_batch']}, fewer than the {stepper.num_envs} "
                             "environments; each must take at least one step")
        if "policy" not in vars(self):
            policy = construct(self.policy_class, stepper.observation_space, stepper.action_space, self.policy_kwargs,
                               dtype=self.settings["dtype"], normalize=self.settings["normalize_observations"])
            self._install(policy.draw(self._rng(INIT)))
        stepper.observation_space = self.policy.observation_space  # which may know more: how an image lies
        self.env, self._stepper, self.restart_pending = env, stepper, True
        self.env_id = stepper.env_id

    def _install(self, policy) -> None:
        self.policy = policy
        self.adam = Adam(policy.params.select(policy.critic_weights).flat.size, policy.dtype)

    def __getattr__(self, name):
        if name in ("policy", "_stepper"):
            what = "environment" if name == "_stepper" else "network"
            raise AttributeError(f"this model has no {what} yet; call set_env(env) first")
        if name in ("observation_space", "action_space"):  # as described in spaces.py: shape, n, low, high
            return getattr(self.policy, name)
        if name in vars(self).get("settings", {}):
            return self.settings[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name, value):
        if name in FIXED:
            raise AttributeError(f"{name} is a part of the model and its file; make another model for another {name}")
        if name not in SETTINGS:
            return super().__setattr__(name, value)
        self.settings = checked(self.settings | {name: value})
        self.reward_normalizer.gamma = self.settings["gamma"]

    def _rng(self, stream: int, *more: int) -> np.random.Generator:
        """Make the generator of a stream for the coming update: counters are all that must be saved."""
        rank = 0 if stream == INIT else self.comm.rank
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(rank, stream, self.updates, *more)))

    # --- training -----------------------------------------------------------------------------------------------------

    @guarded
    def learn(self, total_timesteps, callback=None, seed=None, log_interval=1, tb_log_name="TRPO", reset_num_timesteps=True,
              progress_bar=False):
        """Train for at least `total_timesteps` environment steps (over all ranks) in whole batches; return the model.

        Episodes start anew. `callback`: a BaseCallback, a list of them, or a function of (locals, globals) that stops training by
        returning False. `seed`: takes the place of the model's. `log_interval`: updates per table. `tb_log_name`: the folder
        within `tensorboard_log`. `reset_num_timesteps=False` continues the count and the logs. `progress_bar`: on the terminal.
        """
        stepper, policy, comm = self._stepper, self.policy, self.comm
        callback, new_seed = callbacks.as_callback(callback), self.seed if seed is None else checked_seed(seed)
        for name, value, least in (("total_timesteps", total_timesteps, 0), ("log_interval", log_interval, 1)):
            if not (isinstance(value, (int, float, np.number)) and least <= value < math.inf):
                raise ValueError(f"{name} is {value!r}; a number of at least {least} is needed")
        comm.first_on_machine(lambda: compile_all(policy.kernel_files))
        keep_freed()
        self.seed, self.num_timesteps = new_seed, 0 if reset_num_timesteps else self.num_timesteps
        start_timesteps, total = self.num_timesteps, self.num_timesteps + int(total_timesteps)
        runner, steps = Runner(policy, stepper), -(-self.settings["timesteps_per_batch"] // stepper.num_envs)
        callbacks.check_ranks(callback, comm)
        check_agreement(comm.gather((total, log_interval)), "total_timesteps and log_interval of learn")
        own = self._open_logger(tb_log_name, reset_num_timesteps)
        self.logger = logger = Logger(own.outputs + self.loggers * (comm.rank == 0))
        callback.init_callback(self)
        self.restart_pending = True
        started, shares, going = time.perf_counter(), np.zeros(3), True
        with own, closing(Progress(total_timesteps, enabled=progress_bar and comm.rank == 0)) as progress:
            callback.on_training_start(locals(), globals())
            while self.num_timesteps < total and going:
                if self.restart_pending:
                    runner.restart([int(self._rng(ENVS, i).integers(2**31)) for i in range(stepper.num_envs)])
                    self.reward_normalizer.restart(stepper.num_envs)
                    self.restart_pending = False
                callback.on_rollout_start()
                before, state = self.num_timesteps, comm.size > 1 and fingerprint(self)
                segment = runner.collect(steps, self._rng(NOISE), self._step_hook(callback))
                news = comm.gather((state, segment and (int(segment.valid.sum()), segment.episodes)))
                check_agreement([state for state, _ in news], "settings, counters, parameters, optimiser and statistics")
                if not all(brought for _, brought in news):
                    self.num_timesteps = comm.bcast(self.num_timesteps)
                    break
                self.num_timesteps = before + sum(count for _, (count, _) in news)
                new_episodes = [episode for _, (_, episodes) in news for episode in episodes]
                self.recent.extend(new_episodes)
                self.episodes += len(new_episodes)
                callback.update_locals(dict(segment=segment, new_episodes=new_episodes))
                going = callback.on_rollout_end() is not False
                clock = time.perf_counter()
                stats = self._update(segment, remaining=max(0.0, 1 - self.num_timesteps / total))
                runner.remember(self.after)
                shares += segment.env_seconds, segment.policy_seconds, time.perf_counter() - clock
                progress.clear()
                going = all(comm.gather(callback.on_update_end() is not False and going))
                for key, value in stats.items():
                    logger.record(f"train/{key}", value)
                seconds = time.perf_counter() - started
                if self.updates % log_interval == 0 or self.num_timesteps >= total or not going:
                    self._record(logger, (self.num_timesteps - start_timesteps) / seconds, seconds, shares)
                    logger.dump(self.num_timesteps)
                callback.on_update_logged()
                progress.update(self.num_timesteps - start_timesteps)
            callback.on_training_end()
        return self

    def _update(self, seg: Segment, remaining: float) -> dict:
        """Improve policy and critic from one segment; return what to log."""
        policy, comm, s = self.policy, self.comm, self.settings
        max_kl, entcoeff, stepsize = (now(s, name, remaining) for name in ("max_kl", "entcoeff", "vf_stepsize"))
        valid = seg.valid
        x = policy.normalizer(seg.obs)
        final = np.stack([row for _, _, row in seg.final]) if seg.final else seg.last_obs[:0]
        values, last_value, at_end, self.after = policy.segment_values(x, seg, policy.normalizer(seg.last_obs), policy.normalizer(final))
        final_values = np.zeros(valid.shape)
        if seg.final and s["bootstrap_truncated"]:
            t, i, _ = zip(*seg.final)
            final_values[t, i] = at_end
        rewards = np.clip(seg.rewards, -1, 1) if s["clip_rewards"] else seg.rewards
        rewards = self.reward_normalizer(rewards, seg.terminated | seg.truncated, valid, comm)
        adv, targets = advantages(rewards, values, last_value, final_values, seg.terminated, seg.truncated, s["gamma"], s["lam"])

        self.updates += 1
        n, *sums = comm.sum(np.array([valid.sum(), adv[valid].sum(), targets[valid].sum()]))
        if not policy.normalizer.ready:  # the first batch only brings the statistics
            policy.normalizer.merge(seg.obs[valid], comm)
            return {}
        if n == 0:
            return {}
        centred = [np.where(valid, x - total / n, 0.0) for x, total in zip((adv, targets), sums)]
        adv_spread, spread = np.sqrt(comm.sum(np.array([np.sum(np.square(x)) for x in centred])) / n)
        if s["normalize_advantage"]:
            # equal up to rounding: no reason to move
            adv = np.zeros_like(adv) if adv_spread <= 1e-8 else centred[0] / adv_spread
        inputs, line_up = policy.inputs(x, seg)
        weights = line_up(valid / n)
        batch = Batch(inputs, line_up(seg.actions), line_up(adv), weights)
        whole = policy.params
        head = whole.select(policy.policy_weights)
        flat, info = trust_region_step(policy, head, batch, comm, max_kl=max_kl, entcoeff=entcoeff,
                                       **{name: s[name] for name in STEP_SETTINGS})
        if max_kl and info["gradient_norm"] != 0 and not info["expected_gain"] > 0:
            warnings.warn("an update was skipped: gradient or curvature are not finite; rewards may be too large", stacklevel=4)
        head.flat[:] = flat
        value_loss = self._fit_critic(x, seg, line_up(targets), line_up(valid), stepsize)
        comm.align(whole.flat)  # machines may differ in the last bit of a power, in Adam and in the line search
        policy.normalizer.merge(seg.obs[valid], comm)
        self.skipped_updates += not info["step_fraction"]
        return {**info, "value_loss": value_loss,
                "explained_variance": 1 - float((adv_spread / spread) ** 2) if spread > 0 else math.nan,
                "n_updates": self.updates, "skipped_updates": self.skipped_updates}

    def _fit_critic(self, x, seg: Segment, targets, valid, stepsize: float) -> float:
        """Fit the critic to `targets` by minibatch Adam, or leave it; return the mean squared error of the last pass."""
        policy, comm, s, adam = self.policy, self.comm, self.settings, self.adam
        critic = policy.params.select(policy.critic_weights)
        before = critic.flat.copy(), adam.m, adam.v, adam.t
        most = max(comm.gather(int(valid.sum())))  # as many minibatches on all ranks
        batches = policy.critic_batches(x, seg, s["vf_batch_size"], most, self._rng(SHUFFLE))
        targets, valid, loss = targets.astype(policy.dtype), valid.astype(policy.dtype), math.nan
        for _ in range(s["vf_iters"]):
            total = np.zeros(2)
            for inputs, rows in batches():
                sums = comm.sum(policy.critic_loss(critic, inputs, targets[rows], valid[rows]))
                if sums[-1]:  # a batch of a recurrent critic may hold nothing that counts
                    adam.step(critic.flat, sums[:-2] / sums[-1], stepsize)
                total += sums[-2:]
            loss = float(total[0] / total[1])
        if not all(np.isfinite(array).all() for array in (critic.flat, adam.m, adam.v)):
            warnings.warn("a fit of the critic was undone: not finite; rewards or vf_stepsize may be too large", stacklevel=5)
            critic.flat[:], adam.m, adam.v, adam.t = before
        return loss

    @guarded
    def pretrain(self, dataset, n_epochs=10, learning_rate=1e-4, val_interval=None):
        """Imitate an expert before training: raise the likelihood of its actions; return the model.

        dataset: a path, a dict with "obs" and "actions" or a pair (obs, actions), as `pretrain.generate_expert_data` makes it.
        `val_interval`: epochs between printed losses on the held-out 30 % (verbose; by default a tenth of the epochs).
        """
        data = expert_arrays(dataset, self.policy)
        losses = imitate(self.policy, *data, n_epochs, learning_rate, self._rng(SHUFFLE), self.comm)
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
        """Make what the runner calls after each step, or None if no callback wants it."""
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

    def _record(self, logger: Logger, rate: float, seconds: float, shares) -> None:
        if self.recent:
            returns, lengths = zip(*self.recent)
            logger.record("rollout/ep_rew_mean", float(np.mean(returns)))
            logger.record("rollout/ep_len_mean", float(np.mean(lengths)))
        logger.record("rollout/episodes", self.episodes)
        logger.record("time/fps", rate)
        logger.record("time/time_elapsed", seconds)
        logger.record("time/total_timesteps", self.num_timesteps)
        for name, share in zip(("environment", "policy", "update"), shares / max(shares.sum(), 1e-9)):
            logger.record(f"time/share_{name}", float(share))

    # --- acting -------------------------------------------------------------------------------------------------------

    def predict(self, obs, state=None, mask=None, deterministic=False):
        """Return (actions, state) for one observation or a batch (n, ...): the likeliest actions if `deterministic`, else drawn.

        `state` and `mask` are a recurrent policy's (None for others): what `predict` returned, (n, 2 * n_lstm), and (n,), True
        where an episode starts.
        """
        return self.policy.predict(obs, state, mask, deterministic)

    def action_probability(self, obs, state=None, mask=None, actions=None, logp=False):
        """Return the distribution of actions, or the probability (density) of given `actions`; see Policy.action_probability."""
        return self.policy.action_probability(obs, state, mask, actions, logp)

    def fisher_vector_product(self, v, obs, state=None, mask=None, damping=0.0):
        """Return (F + damping) v, with F the Hessian of the mean KL(policy || .) over the batch `obs` at the current policy.

        `v` covers the policy's parameters, the leading part of the flat vector, or all of it (the critic has no curvature). A
        recurrent policy takes one step, obs (n, ...) and mask (n,), or a sequence, (T, n, ...) and (T, n), with the state
        (n, 2 * n_lstm) before it. The batch is that of all ranks, all of which must call this. ValueError if v does not fit.
        """
        policy, kept = self.policy, self.policy.params.select(self.policy.policy_weights)
        v = np.asarray(v, policy.dtype)
        if v.shape not in (kept.flat.shape, policy.params.flat.shape):
            raise ValueError(f"v has shape {v.shape}; {kept.flat.size} (policy) or {policy.params.flat.size} (all) numbers "
                             "are needed")
        inputs, count = policy.sample_inputs(obs, state, mask)
        weights = np.full(count, 1 / self.comm.sum(count))
        product = fisher_operator(policy, kept, inputs, weights, self.comm, damping)
        out = damping * v
        out[:kept.flat.size] = product(v[:kept.flat.size])
        return out

    # --- parameters and files -----------------------------------------------------------------------------------------

    def get_parameters(self) -> dict:
        """Return copies of the parameters by name, in the order of the flat vector."""
        return {name: array.copy() for name, array in self.policy.params.items()}

    def load_parameters(self, path_or_dict, exact_match=True) -> None:
        """Set parameters from a dict of arrays or a saved file; without `exact_match` some may be missing.

        A file brings its statistics of observations too. A ValueError says what does not fit; nothing is changed then.
        """
        policy, arrays, statistics = self.policy, path_or_dict, None
        if not isinstance(path_or_dict, dict):
            other = read_model(path_or_dict, self.policy_class, self.policy_kwargs)[0]
            arrays, statistics = dict(other.params), other.normalizer.arrays()
            if other.normalizer.enabled != policy.normalizer.enabled:
                raise ValueError(f"normalize_observations is {policy.normalizer.enabled} here, in the file it is not")
        policy.params.assign(arrays, exact_match)
        policy.bound(policy.params)
        if statistics:
            policy.normalizer.restore(statistics)

    def save(self, path) -> str:
        """Write the model to `path`.npz, whole or not at all; return the file's path."""
        return write_model(path, self.policy, self.policy_kwargs, *training_record(self))

    @classmethod
    def load(cls, path, env=None, policy=None, **changes) -> "TRPO":
        """Read a model back, ready to predict and to go on training; `changes` replace arguments of the constructor.

        `policy` (the class) and `policy_kwargs` are needed where the model has a policy or a function of your own. Raise
        FileNotFoundError, or a FileError (a ValueError) that names the field, if the file is damaged, hostile or does not fit.
        """
        settings = {name: value for name, value in changes.items() if name in SETTINGS}
        others = {name: value for name, value in changes.items() if name not in SETTINGS}
        built: dict = {}

        def check(record, entries, network):
            built.update(check_training(record, entries, network, SETTINGS, settings))
        network, others["policy_kwargs"], record, training = read_model(path, policy, others.get("policy_kwargs"), check)
        model = cls(type(network), None, **{"seed": record["progress"]["seed"]} | built | others)
        model._install(network)
        try:
            restore(model, record, training)
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None
        if env is not None:
            model.set_env(env)
        return model


NOT_SETTINGS = ("self", "policy", "env", "verbose", "tensorboard_log", "policy_kwargs", "seed", "comm")
SETTINGS = {name: p.default for name, p in inspect.signature(TRPO.__init__).parameters.items() if name not in NOT_SETTINGS}
FIXED = ("dtype", "normalize_observations", "normalize_rewards")
STEP_SETTINGS = ("cg_iters", "cg_damping", "fvp_subsample", "linesearch_steps", "linesearch_shrink", "kl_tolerance")
