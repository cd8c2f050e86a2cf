"""Models of stable-baselines3 and sb3-contrib: PPO, A2C, TRPO; MlpPolicy, CnnPolicy, MultiInputPolicy.

The zip holds `data`, a record in JSON with pickles in it, and `policy.pth`, the tensors. Source: the files of
versions 1.0 to 2.9, and stable_baselines3/common/policies.py.
"""

import re
from typing import Any

import numpy as np

from .. import spaces
from ..files.archive import FileError
from . import foreign, torch_files
from .foreign import Foreign, Weights

_HOME = "stable_baselines3.common.policies."
POLICIES = {f"{_HOME}ActorCriticPolicy": "MlpPolicy", f"{_HOME}ActorCriticCnnPolicy": "CnnPolicy",
            f"{_HOME}MultiInputActorCriticPolicy": "MlpPolicy"}
ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "ELU": "elu", "Sigmoid": "sigmoid"}
EXTRACTORS = {"FlattenExtractor", "NatureCNN", "CombinedExtractor"}
# arguments that say nothing about a network that its tensors do not say; those of _check_arguments come after
_NO_MATTER = {"net_arch", "ortho_init", "log_std_init", "full_std", "use_expln", "optimizer_class",
              "optimizer_kwargs", "share_features_extractor", "sde_net_arch", ":type:", ":serialized:"}
_OF_ALL = {"gamma": "gamma", "gae_lambda": "lam"}
_OF_TRPO = _OF_ALL | {"cg_max_steps": "cg_iters", "cg_damping": "cg_damping", "target_kl": "max_kl",
                      "n_critic_updates": "vf_iters", "batch_size": "vf_batch_size",
                      "sub_sampling_factor": "fvp_subsample",
                      "learning_rate": "vf_stepsize", "line_search_shrinking_factor": "linesearch_shrink",
                      "line_search_max_iter": "linesearch_steps",
                      "normalize_advantage": "normalize_advantage"}


def read(members: dict[str, memoryview], channels: str) -> Foreign:
    """Return the model in a zip's members; raise FileError, which names the field, for what is not known.

    `channels` ("last" or "first") is where the environment's images have them: stable-baselines3 turns images
    before it looks at them, and saves the turned space.
    """
    data = foreign.record(members["data"], "data")
    policy = POLICIES[_policy_class(data)]
    activation, scales = _check_arguments(data)
    observation, action = (  # type: Any, Any
        foreign.space(foreign.unpickled(data, key, foreign.SPACE_NAMES, "data"), f"data: {key}")
        for key in ("observation_space", "action_space"))
    is_trpo = "cg_max_steps" in data
    settings = foreign.numbers(data, _OF_TRPO if is_trpo else _OF_ALL)
    batch = foreign.numbers(data, {"n_steps": "steps", "n_envs": "envs"})
    if is_trpo:
        settings["kl_tolerance"] = 1.0  # sb3-contrib's line search knows none
        if len(batch) == 2:
            settings["timesteps_per_batch"] = batch["steps"] * batch["envs"]
    version = re.match(rb"[\w.+-]{1,30}", members.get("_stable_baselines3_version", b""))
    name = "TRPO" if is_trpo else "PPO" if "clip_range" in data else "A2C"
    model = Foreign(f"stable-baselines3{f' {version[0].decode()}' if version else ''}, {name}", policy,
                    observation, action, {"act_fun": activation}, settings, foreign.steps(data),
                    normalized=data.get("_last_original_obs") is not None)
    weights = Weights(torch_files.tensors(members["policy.pth"], "policy.pth"), "policy.pth")
    if policy == "CnnPolicy":
        _set_images(model, channels, scales)
        _take_images(model, weights, observation.shape)
    elif any(map(foreign.is_image, foreign.parts(observation))):
        raise FileError("data: observation_space has images, which this policy flattens, or sees beside "
                        "other things; images alone, for a CnnPolicy, are known here")
    _take_layers(model, weights)
    weights.check_none_left()
    return model


def _policy_class(data: dict) -> str:
    try:
        found = foreign.unpickled(data, "policy_class", POLICIES, "data")
    except FileError as error:
        raise FileError(f"{error}. Policies of PPO, A2C and TRPO are: MlpPolicy, CnnPolicy, "
                        "MultiInputPolicy") from None
    if not hasattr(found, "full"):
        raise FileError("data: policy_class is no class")
    return found.full


def _check_arguments(data: dict) -> tuple[str, bool]:
    """Return the name of the activation, and whether images are divided by 255; refuse what is not known."""
    kwargs = data.get("policy_kwargs") or {}
    if not isinstance(kwargs, dict):
        raise FileError(f"data: policy_kwargs is a {type(kwargs).__name__}")
    for key in ("use_sde", "squash_output"):
        if data.get(key) or kwargs.get(key):
            raise FileError(f"data: {key} is set; state-dependent exploration (gSDE) and squashed actions "
                            "are not known here")
    mine = {"use_sde", "squash_output", "activation_fn", "features_extractor_class",
            "features_extractor_kwargs", "normalize_images"}
    if strange := sorted(kwargs.keys() - mine - _NO_MATTER):
        raise FileError(f"data: policy_kwargs has {strange[0][:50]!r}, which is not known here")
    extractor = _class_name(kwargs.get("features_extractor_class", "'x.FlattenExtractor'"))
    if extractor not in EXTRACTORS:
        raise FileError(f"data: policy_kwargs: features_extractor_class is {extractor[:100]!r}, not one of "
                        f"{', '.join(sorted(EXTRACTORS))}")
    activation = _class_name(kwargs.get("activation_fn", "'x.Tanh'"))
    if activation not in ACTIVATIONS:
        raise FileError(f"data: policy_kwargs: activation_fn is {activation[:100]!r}, not one of "
                        f"{', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[activation], kwargs.get("normalize_images", True) is True


def _class_name(text: Any) -> str:
    """Return the last part of a class's name in the text "<class 'a.b.Name'>"."""
    found = re.search(r"\.(\w{1,50})'", text[:300]) if isinstance(text, str) else None
    return found[1] if found else str(text)[:300] if isinstance(text, str) else type(text).__name__


# --- images -------------------------------------------------------------------------------------------------

def _set_images(model: Foreign, channels: str, scales: bool) -> None:
    """Turn the space back into the environment's; refuse images that are scaled in another way than ours."""
    box = model.observation_space
    if not (isinstance(box, spaces.Box) and len(box.shape) == 3):
        raise FileError("data: observation_space is not one image (channels, height, width)")
    if box.dtype == "uint8":
        if not (foreign.is_image(box) and scales):
            raise FileError("data: images of bytes that are not divided by 255 (normalize_images=False, or "
                            "other bounds than 0 and 255) are not known here")
        if channels == "last":
            low, high = (np.moveaxis(bound, 0, 2) for bound in (box.low, box.high))
            model.observation_space = spaces.Box(low.shape, box.dtype, low, high)
        c, h, w = box.shape
        turned, other = ((h, w, c), "first") if channels == "last" else ((c, h, w), "last")
        model.notes.append(f"images are taken to come as {turned}, channels {channels}; if the environment "
                           f"gives them the other way, convert again with --channels {other}")
    elif box.low.min() < 0 or box.high.max() != 1:
        raise FileError(f"data: images of {box.dtype} from {box.low.min():g} to {box.high.max():g} are not "
                        "known here; bytes, or numbers from 0 to 1, are")
    else:
        channels = "first"
    model.arguments["channels"] = channels


def _take_images(model: Foreign, weights: Weights, shape: tuple) -> None:
    """Take the tensors of NatureCNN: one network for policy and critic, or one each."""
    def place(name: str) -> tuple:
        tensor = weights.left.get(name)
        return (tensor.storage, tensor.start) if tensor else (None, None)

    last = "linear.0.weight"
    own = place(f"vf_features_extractor.{last}")
    if own == (None, None) or own == place(f"features_extractor.{last}"):
        model.arguments["share_features"] = True
        _take_nature(model, weights, "features_extractor", "shared", shape)
        weights.drop("pi_features_extractor.")  # the same once more
        weights.drop("vf_features_extractor.")
    else:
        _take_nature(model, weights, "pi_features_extractor", "pi", shape)
        _take_nature(model, weights, "vf_features_extractor", "vf", shape)
        weights.drop("features_extractor.")


def _take_nature(model: Foreign, weights: Weights, theirs: str, ours: str, shape: tuple) -> None:
    """Take one network; its dense layer reads (height, width, channels) here and (c, h, w) there."""
    for i in range(3):
        name = f"{theirs}.cnn.{2 * i}"
        _put(model, f"{ours}/conv{i}/w", name, weights.take(f"{name}.weight", 4).transpose(2, 3, 1, 0))
        _put(model, f"{ours}/conv{i}/b", name, weights.take(f"{name}.bias", 1))
    h, w = (((n - 8) // 4 + 1 - 4) // 2 + 1 - 2 for n in shape[1:])
    dense = weights.take(f"{theirs}.linear.0.weight", 2)
    if min(h, w) < 1 or dense.shape != (512, 64 * h * w):
        raise FileError(f"{weights.where}: {theirs}.linear.0.weight has shape {dense.shape}; NatureCNN of "
                        f"512 features on images {shape} is known here")
    turned = dense.reshape(512, 64, h, w).transpose(2, 3, 1, 0).reshape(-1, 512)
    _put(model, f"{ours}/fc/w", f"{theirs}.linear.0", turned)
    _put(model, f"{ours}/fc/b", f"{theirs}.linear.0", weights.take(f"{theirs}.linear.0.bias", 1))


# --- dense layers -------------------------------------------------------------------------------------------

def _take_layers(model: Foreign, weights: Weights) -> None:
    """Take the dense layers: shared ones (before version 1.8), the policy's, the critic's, and the heads."""
    widths = {ours: _take_chain(model, weights, f"mlp_extractor.{theirs}_net", f"{ours}/fc")
              for theirs, ours in (("shared", "shared"), ("policy", "pi"), ("value", "vf"))}
    model.arguments["net_arch"] = [*widths["shared"], {"pi": widths["pi"], "vf": widths["vf"]}]
    _take_dense(model, weights, "action_net", "pi/out")
    _take_dense(model, weights, "value_net", "vf/out")
    if isinstance(model.action_space, spaces.Box):
        _put(model, "pi/log_std", "log_std", weights.take("log_std", 1))


def _take_chain(model: Foreign, weights: Weights, theirs: str, ours: str) -> list[int]:
    """Take the layers theirs.0, theirs.2, ... between which the activations stand; return their widths."""
    widths: list[int] = []
    while f"{theirs}.{2 * len(widths)}.weight" in weights.left:
        i = len(widths)
        widths.append(_take_dense(model, weights, f"{theirs}.{2 * i}", f"{ours}{i}"))
    return widths


def _take_dense(model: Foreign, weights: Weights, theirs: str, ours: str) -> int:
    _put(model, f"{ours}/w", theirs, w := weights.take(f"{theirs}.weight", 2).T)
    _put(model, f"{ours}/b", theirs, weights.take(f"{theirs}.bias", 1))
    return w.shape[1]


def _put(model: Foreign, ours: str, theirs: str, array: np.ndarray) -> None:
    model.parameters[ours], model.origin[ours] = array, theirs
