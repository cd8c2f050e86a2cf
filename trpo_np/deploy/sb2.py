"""Models of stable-baselines 2: MlpPolicy and CnnPolicy of TRPO, PPO1, PPO2, A2C and others.

The zip holds `data`, a record in JSON with pickles in it, and `parameters`, an .npz. Weights have there the
same layout as here, but for the names. Source: version 2.10, stable_baselines/common/policies.py and
tf_layers.py.
"""

import re
import struct
from typing import Any

import numpy as np

from .. import spaces
from ..files.archive import FileError
from . import foreign, stored
from .foreign import Foreign, Weights
from .torch_files import Tensor

POLICIES = {f"stable_baselines.common.policies.{name}": name for name in ("MlpPolicy", "CnnPolicy")}
_SETTINGS = {name: name for name in ("gamma", "lam", "timesteps_per_batch", "max_kl", "cg_iters", "entcoeff",
                                     "cg_damping", "vf_stepsize", "vf_iters")}
_NPY = re.compile(rb"\x93NUMPY\x01\x00(..){'descr': '<f4', 'fortran_order': (True|False), 'shape': "
                  rb"\(((?:[0-9]{1,9}(?:, ?|(?=\))))*)\), } *\n", re.DOTALL)


def read(members: dict[str, memoryview]) -> Foreign:
    """Return the model in a zip's members; raise FileError, which names the field, for what is not known."""
    data = foreign.record(members["data"], "data")
    policy = POLICIES[_policy_class(data)]
    observation, action = (
        foreign.space(foreign.unpickled(data, key, foreign.SPACE_NAMES, "data"), f"data: {key}")
        for key in ("observation_space", "action_space"))
    is_trpo = "max_kl" in data
    settings = foreign.numbers(data, _SETTINGS if is_trpo else {"gamma": "gamma", "lam": "lam"})
    model = Foreign("stable-baselines 2" + ", TRPO" * is_trpo, policy, observation, action,
                    {"act_fun": _activation(data)}, settings, foreign.steps(data))
    arrays = {name.removesuffix(".npy").removesuffix(":0"): _array(array, f"parameters: {name!r:.100}")
              for name, array in stored.members(members["parameters"], "parameters").items()}
    weights = Weights(arrays, "parameters")
    for unused in ("oldpi/", "model/q/"):  # TRPO's copy of the policy, and values that nobody asks for
        weights.drop(unused)
    if policy == "CnnPolicy":
        _take_images(model, weights)
    _take_layers(model, weights)
    weights.check_none_left()
    return model


def _policy_class(data: dict) -> str:
    try:
        found = foreign.unpickled(data, "policy", POLICIES, "data")
    except FileError as error:
        raise FileError(f"{error}. MlpPolicy and CnnPolicy are read") from None
    if not hasattr(found, "full"):
        raise FileError("data: policy is no class")
    return found.full


def _activation(data: dict) -> str:
    """Return the name of the hidden layers' activation; tanh unless policy_kwargs say another."""
    kwargs = data.get("policy_kwargs") or {}
    if not isinstance(kwargs, dict):
        raise FileError(f"data: policy_kwargs is a {type(kwargs).__name__}")
    if strange := sorted(kwargs.keys() - {"act_fun", "layers", "net_arch", ":type:", ":serialized:"}):
        raise FileError(f"data: policy_kwargs has {strange[0][:50]!r}, which is not known here")
    text = kwargs.get("act_fun", "<function tanh at 0>")
    found = re.match(r"<function (tanh|relu|elu|sigmoid) at ", text) if isinstance(text, str) else None
    if not found:
        raise FileError(f"data: policy_kwargs: act_fun is {str(text)[:80]!r}; tanh, relu, elu and sigmoid "
                        "are known here")
    return found[1]


def _array(data: memoryview, where: str) -> Tensor:
    """Return the float32 array of a .npy member, a view of the file."""
    head = _NPY.match(bytes(data[:1024]))
    if not head or struct.unpack("<H", head[1])[0] != head.end() - 10:
        raise FileError(f"{where} is no .npy of float32")
    shape = tuple(int(n) for n in re.findall(rb"\d+", head[3]))
    steps, size = [], 1
    for n in shape if head[2] == b"True" else shape[::-1]:
        steps.append(size)
        size *= n
    if len(shape) > 8 or not size or len(data) - head.end() != 4 * size:
        raise FileError(f"{where} has {len(data) - head.end()} bytes, not those of the shape {shape}")
    strides = tuple(steps if head[2] == b"True" else steps[::-1])
    return Tensor(where, 0, shape, strides, np.frombuffer(data[head.end():], "<f4"))


def _take_images(model: Foreign, weights: Weights) -> None:
    """Take nature_cnn, which policy and critic share, and which reads images (h, w, c) as ours does."""
    box: Any = model.observation_space
    if not (isinstance(box, spaces.Box) and len(box.shape) == 3 and box.low.min() == 0
            and box.high.max() == (255 if box.dtype == "uint8" else 1) and not np.ptp(box.high)):
        raise FileError("data: observation_space is not one image (h, w, c) of bytes, or of numbers to 1")
    model.arguments |= {"share_features": True, "channels": "last"}
    for i in range(3):
        _put(model, weights, f"shared/conv{i}", f"model/c{i + 1}", 4)
    _put(model, weights, "shared/fc", "model/fc1", 2)


def _take_layers(model: Foreign, weights: Weights) -> None:
    widths: dict = {}
    for ours in ("shared", "pi", "vf"):
        widths[ours] = []
        while f"model/{ours}_fc{len(widths[ours])}/w" in weights.left:
            i = len(widths[ours])
            widths[ours].append(_put(model, weights, f"{ours}/fc{i}", f"model/{ours}_fc{i}", 2))
    model.arguments["net_arch"] = [*widths["shared"], {"pi": widths["pi"], "vf": widths["vf"]}]
    _put(model, weights, "pi/out", "model/pi", 2)
    _put(model, weights, "vf/out", "model/vf", 2)
    if isinstance(model.action_space, spaces.Box):
        name = "model/pi/logstd"
        model.parameters["pi/log_std"], model.origin["pi/log_std"] = weights.take(name, 2).ravel(), name


def _put(model: Foreign, weights: Weights, ours: str, theirs: str, axes: int) -> int:
    """Take a layer's weights and its bias, (n,) or, of a convolution, (1, n, 1, 1); return its width."""
    model.parameters[f"{ours}/w"] = weights.take(f"{theirs}/w", axes)
    is_bare = f"{theirs}/b" in weights.left and len(weights.left[f"{theirs}/b"].shape) == 1
    model.parameters[f"{ours}/b"] = weights.take(f"{theirs}/b", 1 if is_bare else 4).ravel()
    model.origin |= {f"{ours}/{part}": f"{theirs}/{part}" for part in "wb"}
    return model.parameters[f"{ours}/w"].shape[-1]
