"""What users of stable-baselines (2 and 3) write, and what to write here: the table behind the messages.

`answer` is called with what a function of this package does not take. An argument that has nothing to say
here is taken, with a warning; one that goes by another name is refused by a sentence that says that name.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from .settings import checked_seed, nearest

if TYPE_CHECKING:
    from .logger import Logger
    from .policies.base import Policy
    from .types import Floats, Method

# Arguments that change nothing here, and why, by the function that takes them.
WITHOUT_EFFECT = {
    "TRPO": {
        "_init_setup_model": "the network is made as soon as there is an environment",
        "full_tensorboard_log": "TensorBoard gets all that the tables show",
        "n_cpu_tf_sess": "OMP_NUM_THREADS is the number of threads; the same seed gives the same bits",
        "device": "the CPU is the one device",
        "custom_objects": "a file holds no objects, only arrays and JSON",
        "print_system_info": "`trpo-np info FILE` prints what a file holds",
        "force_reset": "a loaded model starts new episodes if the file does not hold the running ones"},
    "save": {
        "cloudpickle": "a file holds arrays and JSON, no pickles",
        "include": "a file holds all that training needs", "exclude": "a file holds no environment"},
    "pretrain": {"adam_epsilon": "Adam's epsilon is 1e-8"},
    "ExpertDataset": {
        "batch_size": "`pretrain` takes minibatches of 128", "train_fraction": "0.7 are fitted, 0.3 held out",
        "randomize": "`pretrain` shuffles", "verbose": "a dataset prints nothing",
        "sequential_preprocessing": "nothing is left to be preprocessed"},
    "generate_expert_traj": {"image_folder": "images are in the file, too"},
    "CheckpointCallback": {
        "save_replay_buffer": "there is none", "save_vecnormalize": "the statistics are in the model's file"},
    "EvalCallback": {"warn": "nothing is warned of"},
}

# Arguments that go by another name here.
ELSEWHERE = {
    "TRPO": {
        "learning_rate": "vf_stepsize, which is the critic's; max_kl sets the policy's step",
        "n_steps": "timesteps_per_batch, which counts the steps of all environments together",
        "target_kl": "max_kl", "gae_lambda": "lam", "batch_size": "vf_batch_size, the critic's minibatch",
        "cg_max_steps": "cg_iters", "n_critic_updates": "vf_iters", "ent_coef": "entcoeff",
        "sub_sampling_factor": "fvp_subsample", "line_search_max_iter": "linesearch_steps",
        "line_search_shrinking_factor": "linesearch_shrink",
        "policy_base": "policy", "monitor_wrapper": "nothing: the model keeps statistics of whole episodes",
        "use_sde": "policy_kwargs=dict(log_std_init=...): noise is drawn anew at each step",
        "sde_sample_freq": "policy_kwargs=dict(log_std_init=...): noise is drawn anew at each step",
        "rollout_buffer_class": "timesteps_per_batch", "rollout_buffer_kwargs": "timesteps_per_batch",
        "stats_window_size": "model.recent, which holds the latest 100 episodes",
        "callback": "learn(total_timesteps, callback=...)"},
    "learn": dict.fromkeys(("eval_env", "eval_freq", "n_eval_episodes", "eval_log_path"),
                           "callback=EvalCallback(eval_env, eval_freq=..., log_path=...)"),
    "predict": {"episode_start": "mask", "observation": "obs"},
    "policy_kwargs": {
        "activation_fn": 'act_fun: "tanh", "relu", "elu", "sigmoid" or a function of trpo_np.ops',
        "features_extractor_class": "extractor: an nn.Layer or a function of trpo_np.ops; for images "
                                    "cnn_extractor",
        "features_extractor_kwargs": "extractor: an nn.Layer or a function of trpo_np.ops",
        "share_features_extractor": "share_features", "lstm_hidden_size": "n_lstm",
        "feature_extraction": "the class: MlpPolicy or CnnPolicy",
        "ortho_init": "nothing: weights are orthogonal", "normalize_images": "nothing: bytes become 0 to 1",
        "squash_output": "nothing: actions are clipped to their space",
        "optimizer_class": "vf_stepsize of TRPO, Adam's for the critic",
        "optimizer_kwargs": "vf_stepsize of TRPO, Adam's for the critic"},
}

_BASES = "the base of policies is trpo_np.policies.Policy; docs/policies.md shows how to make one's own"
_RECORDED = "record numbers, texts or lists; model.loggers takes outputs that draw more"
_ONE = "the one algorithm is trpo_np.TRPO"

# Modules and names that have no place here, by their path, and what to do instead.
NOT_HERE = {
    "common.atari_wrappers": "trpo_np.atari.make_atari(id, n) makes games with their wrappers",
    "common.base_class": _ONE, "common.on_policy_algorithm": _ONE,
    "common.buffers": "a batch is a trpo_np.rollout.Segment",
    "common.distributions": "they are in trpo_np.distributions",
    "common.envs": "a small environment is written in ten lines of gymnasium",
    "common.math_util": "NumPy does it", "common.tf_util": "functions of arrays are in trpo_np.ops",
    "common.noise": "a policy draws its actions itself",
    "common.preprocessing": "policies encode observations of all spaces",
    "common.save_util": "use model.save and TRPO.load", "common.type_aliases": "they are in trpo_np.types",
    "common.schedules": "use trpo_np.settings.LinearSchedule(start, end), or a function of what remains",
    "common.tf_layers": "layers are in trpo_np.nn", "common.torch_layers": "layers are in trpo_np.nn",
    "common.policies.ActorCriticPolicy": _BASES, "common.policies.RecurrentActorCriticPolicy": _BASES,
    "common.policies.ActorCriticCnnPolicy": "use CnnPolicy",
    "common.policies.MultiInputActorCriticPolicy": "use MlpPolicy, which takes Dict observations",
    "common.callbacks.ConvertCallback": "learn takes a function as its callback",
    "common.callbacks.LogEveryNTimesteps": "learn(log_interval=...) counts updates",
    "common.logger.Figure": _RECORDED, "common.logger.HParam": _RECORDED, "common.logger.Image": _RECORDED,
    "common.logger.Video": _RECORDED,
    "common.logger.KVWriter": "an output is any object with write(values, step) and close()",
    "common.logger.TensorBoardOutputFormat": "write TRPO(tensorboard_log=folder)",
    "common.vec_env.sync_envs_normalization": "EvalCallback and evaluate_policy do it",
    "common.vec_env.unwrap_vec_normalize": "use model.get_vec_normalize_env()",
    "common.vec_env.VecExtractDictObs": "put gymnasium.wrappers.FilterObservation around each environment",
    **dict.fromkeys((f"common.vec_env.{name}" for name in ("base_vec_env", "dummy_vec_env", "subproc_vec_env",
                                                           "vec_frame_stack", "vec_normalize")),
                    "its classes are in trpo_np.common.vec_env"),
    "common.vec_env.vec_monitor": "a model keeps the statistics of whole episodes itself",
    "common.vec_env.vec_video_recorder": "record a saved policy: trpo-np play FILE --video FOLDER",
    "common.vec_env.is_vecenv_wrapped": "use isinstance along env.venv",
    "common.running_mean_std": "statistics are in trpo_np.normalize",
    "common.policies.nature_cnn": "it is CnnPolicy's; policy_kwargs=dict(cnn_extractor=...) takes another",
    "common.utils.get_schedule_fn": "a schedule is a number, a LinearSchedule or a function of what remains",
    "common.utils.safe_mean": "NumPy does it", "common.utils.obs_as_tensor": "observations stay arrays",
    "common.logger.HumanOutputFormat": "write trpo_np.logger.configure(folder, ['stdout'])",
    "common.monitor.ResultsWriter": "use trpo_np.logger.EpisodeLog",
    "common.monitor.get_monitor_files": "load_results and plot_results take a folder",
    "common.env_util.is_wrapped": "use VecEnv.env_is_wrapped(class)",
    "common.env_util.unwrap_wrapper": "use gymnasium's env.get_wrapper_attr(name)",
    "common.results_plotter.plot_curves": "use plot_results, or `trpo-np plot FOLDER...`",
    "common.results_plotter.window_func": "plot_results averages; so does NumPy's convolve",
    "common.cmd_util.make_mujoco_env": "use gymnasium.make(id); the model takes the seed",
    "gail.GAIL": "model.pretrain(ExpertDataset(...)) imitates an expert, learn goes on from there",
}


def absent(module: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module at a peer's path: an ImportError says what to write instead.

    An AttributeError would not be seen: `from module import name` replaces its text.
    """
    def missing(name: str) -> Any:
        if here := NOT_HERE.get(f"{module}.{name}".removeprefix("trpo_np.")):
            raise ImportError(f"{module} has no {name}; {here}", name=module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return missing


# Attributes of models there, and what has their place here; arguments of the constructor are, too.
ATTRIBUTES = ELSEWHERE["TRPO"] | {
    "rollout_buffer": "a callback's self.locals['segment'], a trpo_np.rollout.Segment",
    "lr_schedule": "vf_stepsize, which may be a schedule", "n_epochs": "vf_iters",
    "clip_range": "max_kl", "max_grad_norm": "max_kl", "vf_coef": "vf_stepsize",
    "device": "nothing: the CPU is the one device",
    "action_noise": "nothing: a policy draws its actions itself",
    "_last_obs": "model.runner.obs, encoded", "_vec_normalize_env": "get_vec_normalize_env()"}


NEVER_CALLED = "train", "collect_rollouts", "_setup_model"  # methods of models there


def hint(name: str) -> str:
    """Return what to write for a peer's attribute of a model, for an error message; "" if it is none."""
    return f"; write {ATTRIBUTES[name]}" if name in ATTRIBUTES else ""


def warn_of_attribute(name: str) -> None:
    """Warn if an attribute that is set on a model is a peer's setting, which says nothing here."""
    if name in ATTRIBUTES:
        warnings.warn(f"{name} is no setting of TRPO, and has no effect{hint(name)}", stacklevel=_outside())


def warn_of_shared_layers(policy_kwargs: dict[str, Any]) -> None:
    """Warn where all layers of `net_arch` are shared, as stable-baselines3's users do not mean it."""
    layers = policy_kwargs.get("net_arch")
    if isinstance(layers, (list, tuple)) and layers and all(isinstance(width, int) for width in layers):
        warnings.warn(f"net_arch={layers}: policy and critic share these layers, and the critic does not "
                      "train them; two networks, as in stable-baselines3, are "
                      f"net_arch=dict(pi={layers}, vf={layers})", stacklevel=_outside())


class Absent:
    """The last of the places where Python looks for a module: says what stands for one of a peer's."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raise an ImportError if the module is in the table: `from package import module` shows its text."""
        if name.startswith("trpo_np.") and (here := NOT_HERE.get(name.removeprefix("trpo_np."))):
            raise ImportError(f"there is no {name}; {here}", name=name)


def answer(where: str, given: Iterable[str], known: Iterable[str] = ()) -> None:
    """Answer what `where`, a function or a dict of arguments, does not take: a warning or an error.

    known: what it does take. Raise a ValueError that says what to write here, or, for a word that no relative
    of this package knows either, a TypeError with the nearest known one.
    """
    for name in given:
        if why := WITHOUT_EFFECT.get(where, {}).get(name):
            warnings.warn(f"{where}: {name} has no effect here: {why}", stacklevel=_outside())
        elif here := ELSEWHERE.get(where, {}).get(name):
            raise ValueError(f"{where} takes no {name}; write {here}")
        else:
            raise TypeError(f"{where}() got an unexpected keyword argument {name!r}{nearest(name, known)}")


def _outside() -> int:
    """Return the stacklevel at which a warning shows the line that called this package."""
    level, frame = 0, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").startswith("trpo_np."):
        level, frame = level + 1, frame.f_back
    return level


def guide() -> str:
    """Return the tables as the guide shows them (docs/migrating.md)."""
    lines = ["| argument | of | write |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | `{where}` | {here} |" for where, names in ELSEWHERE.items()
              for name, here in names.items()]
    lines += ["", "| argument | of | has no effect, because |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | `{where}` | {why} |" for where, names in WITHOUT_EFFECT.items()
              for name, why in names.items()]
    lines += ["", "| path | has no place here, because |", "| --- | --- |"]
    lines += [f"| `{name}` | {here} |" for name, here in NOT_HERE.items()]
    return "\n".join(lines)


def warn_of_position(learn: "Method") -> "Method":
    """Decorate `learn`: warn if its third argument is given by position.

    It is the seed, as on the page of stable-baselines; in later versions it is log_interval.
    """
    @functools.wraps(learn)
    def inner(model: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > 2:
            warnings.warn(f"learn: the third argument by position, {args[2]!r}, is the seed here; some "
                          "versions of stable-baselines have log_interval there. Write seed=... or "
                          "log_interval=...", stacklevel=2)
        return learn(model, *args, **kwargs)
    return cast("Method", inner)


class _OnTheClass(classmethod):
    def __get__(self, instance, owner=None):
        method = super().__get__(instance, owner)
        if instance is None:
            return method

        @functools.wraps(method)
        def call(*args, **kwargs):
            warnings.warn(f"{method.__name__} returns another model and leaves this one as it is; write "
                          f"model = {owner.__name__}.{method.__name__}(...), or change this one by "
                          "load_parameters", stacklevel=2)
            return method(*args, **kwargs)
        return call


def on_the_class(method: "Method") -> "Method":
    """Decorate a class method to warn where it is called on an instance, as if it changed that."""
    return cast("Method", _OnTheClass(cast(Any, method).__func__))


def vec_normalize(env: Any) -> Any:
    """Return the VecNormalize among the wrappers of a vector environment, or None."""
    while env is not None and not hasattr(env, "norm_obs"):
        env = getattr(env, "venv", None)
    return env


class StableBaselines:
    """Names of stable-baselines' models for what TRPO has anyway."""

    seed: int
    is_seeded: bool
    stepper: Any
    env: Any
    policy: "Policy"
    logger: "Logger"
    recent: Any
    load_parameters: Callable[..., None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if names := [name for name in NEVER_CALLED if name in vars(cls)]:
            warnings.warn(f"{cls.__name__}: nothing calls {', '.join(names)} here; `update` and `learn` can "
                          "be overridden, or give learn a callback", stacklevel=2)

    @property
    def n_envs(self) -> int:
        """The number of environments."""
        return int(self.stepper.num_envs)

    def setup_model(self) -> None:
        """Do nothing: the network is made as soon as there is an environment."""

    def set_random_seed(self, seed: int | None) -> None:
        """Seed what `learn` and `predict` draw from now on."""
        self.seed, self.is_seeded = checked_seed(seed), True
        self.policy.seed(self.seed)

    def get_parameter_list(self) -> "list[Floats]":
        """Return copies of the parameters, in the order of `get_parameters`."""
        return [array.copy() for array in self.policy.params.values()]

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: Any = None) -> None:
        """Take over parameters as `load_parameters` does."""
        self.load_parameters(load_path_or_dict, exact_match)

    @property
    def ep_info_buffer(self) -> list[dict[str, float]]:
        """The return "r" and the length "l" of the latest 100 episodes, as `recent` has them."""
        return [{"r": total, "l": length} for total, length in self.recent]

    def get_vec_normalize_env(self) -> Any:
        """Return the VecNormalize around the environment, or None."""
        return vec_normalize(self.env)

    def set_logger(self, logger: "Logger") -> None:
        """Log to this logger from the next dump on; see `trpo_np.logger.configure`."""
        self.logger = logger
