"""Policies for images: the networks by name, the encoder in front of any policy, and work done on some images
at a time."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import nn, ops, spaces
from ..autodiff import Var
from ..normalize import MeanImage
from ..ops.conv import Centred
from ..settings import nearest
from ..types import Floats, Value, Weights
from .base import Policy, Values
from .frames import Recorder
from .recurrent import RecurrentPolicy

# layers of (channels, kernel, stride), then the width of a dense layer
NETWORKS = {
    "nature_cnn": ([(32, 8, 4), (64, 4, 2), (64, 3, 1)], 512),  # Mnih et al. 2015; stable-baselines' default
    "cnn_small": ([(8, 8, 4), (16, 4, 2)], 128),  # openai/baselines, for TRPO
    "trpo_cnn": ([(16, 4, 2), (16, 4, 2)], 20),  # Schulman et al. 2015: 33,500 parameters on Atari
}


class Visual(Policy):
    """The encoder of a policy that sees images, to be mixed with a class that brings the layers behind it.

    `cnn_extractor` is a name of `NETWORKS`, an nn.Layer from images (n, h, w, c) to features, or a function
    of ops; bytes are given to it as numbers from 0 to 1. `channels` is "first" or "last" where the
    observations' shape does not say it. `normalize` subtracts the mean image of the first batch, which is a
    part of the model.
    """

    layered = True
    loops = ("image",)
    reads_pixels = True

    def __init__(self, observation_space: Any, action_space: Any, *,
                 cnn_extractor: str | nn.Layer | Callable[[Any], Value] = "nature_cnn",
                 channels: str | None = None, net_arch: Any = None, layers: Any = None,
                 **options: Any) -> None:
        if "extractor" in options:
            raise ValueError("a policy for images takes its network as cnn_extractor, not as extractor")
        self.network = make_extractor(cnn_extractor)
        space = described(spaces.describe(observation_space, "observation"), channels)
        if isinstance(cnn_extractor, str):
            check_size(space, cnn_extractor)
        layers = [] if net_arch is None and layers is None else layers
        super().__init__(space, action_space, net_arch=net_arch, layers=layers, **options)

    def make_normalizer(self, enabled: bool) -> Any:
        """Make what keeps the mean image."""
        space = self.observation_space
        if not isinstance(space, spaces.Image):
            if enabled:
                raise ValueError("images in a Dict or Tuple are brought to numbers from 0 to 1, not "
                                 "normalised; normalize_observations=False is needed")
            return super().make_normalizer(False)
        return MeanImage(space.rows, enabled, space.is_bytes, self.dtype)

    def encoder(self, name: str) -> nn.Layer:
        """Return the layer that turns images (n, h, w, c), or the rows of a Dict, into features (n,
        width)."""
        mean = (lambda: self.normalizer.shift) if self.normalizer.enabled else None
        return nn.named(name, make_encoder(self.observation_space, self.network, mean))

    def storage(self, steps: int, n: int) -> Any:
        """Return memory for the encoded observations; that of stacked frames holds each frame once."""
        space = self.observation_space
        if not (space.is_bytes and space.frames > 1):
            return super().storage(steps, n)
        return Recorder(steps, n, space.rows, space.rows[2] // space.frames)


class CnnPolicy(Visual):
    """Convolutional networks for images, or for a Dict or Tuple with images; see Visual for the arguments.

    By default the critic has a network of its own; with `share_features` it is a head on the policy's
    features, which it does not move, and much less work. `net_arch` and `layers` add layers after the
    features (by default none).
    """

    layered = True

    def segment_values(self, x, seg: Any, last, final) -> Values:
        """Return V of a segment, of the observations after it and of truncated episodes' last ones; see
        Policy."""
        values = self.value(x.reshape(-1, *x.shape[2:])).reshape(x.shape[:2])
        return Values(values, self.value(last), self.value(final) if len(final) else values[:0, 0], {})

    def critic_input(self, params: Weights, x: Any) -> Any:
        """The critic's input: the images, or the policy's features, which it cannot change."""
        if not self.trunk.init(self.observation_space.rows)[1]:
            return x
        return in_parts(lambda rows: Policy.critic_input(self, params, rows), x, params)

    def pi(self, params: Weights, x: Any) -> Value:
        """Distribution parameters (n, k) of images x; without a trace, some images at a time."""
        return in_parts(lambda rows: Policy.pi(self, params, rows), x, params)

    def value(self, x: Any) -> Floats:
        """Values (n,) of images under the current parameters, some images at a time."""
        return in_parts(lambda rows: Policy.value(self, rows), x, self.params)


class CnnLstmPolicy(Visual, RecurrentPolicy):
    """A network for images and an LSTM behind it, nature_cnn and 256 cells by default."""


class CnnLnLstmPolicy(Visual, RecurrentPolicy):
    """A network for images and a layer-norm LSTM behind it, nature_cnn and 256 cells by default."""

    layer_norm = True


def in_parts(fun: Callable, x, params: Mapping, most: int = 256) -> Any:
    """Apply a function of rows to at most so many at once, unless `params` are traced: what it computes
    between stays small."""
    if len(x) <= most or any(isinstance(array, Var) for array in params.values()):
        return fun(x)
    return np.concatenate([fun(x[i:i + most]) for i in range(0, len(x), most)])


# --- networks for images ------------------------------------------------------------------------------------

def network(name: str) -> nn.Layer:
    """Make the layers of a network of `NETWORKS`: images (n, h, w, c) to features (n, width)."""
    convolutions, width = NETWORKS[name]
    layers = [nn.conv(f"conv{i}", *layer, relu=True) for i, layer in enumerate(convolutions)]
    return nn.serial(*layers, nn.flatten(), nn.dense("fc", width), nn.elementwise(ops.relu))


def check_size(space: spaces.Space, name: str) -> None:
    """Raise a ValueError if an image is too small for a network of `NETWORKS`."""
    least = 1
    for _, size, stride in reversed(NETWORKS[name][0]):
        least = (least - 1) * stride + size
    for part in space.spaces if isinstance(space, spaces.Fields) else [space]:
        if isinstance(part, spaces.Image) and min(part.rows[:2]) < least:
            raise ValueError(f"an image of {part.rows[0]} x {part.rows[1]} is too small for "
                             f"cnn_extractor={name!r}, which needs {least} x {least}: enlarge it, as by "
                             "gymnasium.wrappers.ResizeObservation, or give a network of smaller windows")


def make_extractor(given: str | nn.Layer | Callable) -> nn.Layer:
    """Make the layer of a network's name; pass a layer through, or make one of a function of ops."""
    if isinstance(given, str):
        if given not in NETWORKS:
            raise ValueError(f"cnn_extractor is {given!r}; it can be {', '.join(map(repr, NETWORKS))}"
                             f"{nearest(given, NETWORKS)}, an nn.Layer or a function of trpo_np.ops")
        return network(given)
    if not (isinstance(given, nn.Layer) or callable(given)):
        raise ValueError(f"cnn_extractor is {given!r}; a name, an nn.Layer or a function of trpo_np.ops is "
                         "needed")
    return given if isinstance(given, nn.Layer) else nn.function(given)


def described(space: spaces.Space, channels: str | None) -> spaces.Space:
    """Describe a Box as an image, or the Boxes of three and four axes in a Dict or Tuple as images beside
    other things."""
    if channels not in (None, "first", "last"):
        raise ValueError(f'channels is {channels!r}; "first", "last" or None is needed')
    if isinstance(space, spaces.Fields):
        parts = [spaces.as_image(part, channels)
                 if isinstance(part, spaces.Box) and len(part.shape) in (3, 4) else part
                 for part in space.spaces]
        if any(isinstance(part, spaces.Image) for part in parts):
            return spaces.Fields(space.kind, space.keys, tuple(parts))
    elif isinstance(space, spaces.Box):
        return spaces.as_image(space, channels)
    raise ValueError(f"a network for images needs some: a Box of shape (h, w, c), for example, not {space}")


@nn.maker
def make_encoder(space: spaces.Space, network: nn.Layer, mean: Callable | None = None) -> nn.Layer:
    """Make the layer from encoded observations to features; of a Dict, the images' features and the rest side
    by side.

    `mean()` is an image (1, h, w, c) that is subtracted from each, in shares of 1 for bytes.
    """
    return _of_fields(space, network) if isinstance(space, spaces.Fields) else _of_image(space, network, mean)


def _of_image(space: spaces.Space, network: nn.Layer, mean: Callable | None) -> nn.Layer:
    layers = [network, nn.flatten()]
    if mean is not None:
        layers.insert(0, nn.elementwise(lambda x: Centred(x, mean()) if network.takes_bytes else x - mean()))
    if space.is_bytes and not network.takes_bytes:
        layers.insert(0, nn.elementwise(as_share))
    return nn.serial(*layers)


def _of_fields(space: spaces.Fields, network: nn.Layer) -> nn.Layer:
    borders = np.cumsum([0, *(part.width for part in space.spaces)])
    columns = [slice(a, b) for a, b in zip(borders, borders[1:])]
    layers = [nn.named(str(key), _of_numbers(part, network))
              if isinstance(part, spaces.Image) else nn.serial()
              for key, part in zip(space.keys, space.spaces)]

    def init(shape):
        width, weights = 0, {}
        for part, layer in zip(space.spaces, layers):
            (features,), new = layer.init((part.width,))
            width, weights = width + features, weights | new
        return (width,), weights

    def apply(params, x):
        return ops.concatenate([layer.apply(params, x[:, some]) for some, layer in zip(columns, layers)], -1)
    return nn.Layer(init, apply)


def _of_numbers(space: spaces.Image, network: nn.Layer) -> nn.Layer:
    """Take an image from a row of numbers, from 0 to 255 if it was bytes."""
    def image(x):
        return as_share(x).reshape(-1, *space.rows) if space.is_bytes else x.reshape(-1, *space.rows)
    from_row = nn.Layer(lambda shape: (space.rows, {}), lambda params, x: image(x))
    return nn.serial(from_row, network, nn.flatten())


def as_share(x: np.ndarray) -> np.ndarray:
    """Make of bytes the 255th parts of 1 that they mean."""
    x = np.asarray(x)
    return x * (x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)).type(1 / 255)
