"""Networks for images, by name: stable-baselines', openai/baselines' and the TRPO paper's."""

from collections.abc import Callable

import numpy as np

from . import nn, ops, spaces
from .conv import Centred

# layers of (channels, kernel, stride), then the width of a dense layer
NETWORKS = {
    "nature_cnn": ([(32, 8, 4), (64, 4, 2), (64, 3, 1)], 512),  # Mnih et al. 2015; stable-baselines' default
    "cnn_small": ([(8, 8, 4), (16, 4, 2)], 128),  # openai/baselines, for TRPO
    "trpo_cnn": ([(16, 4, 2), (16, 4, 2)], 20),  # Schulman et al. 2015: 33,500 parameters on Atari
}


def network(name: str) -> nn.Layer:
    """Make the layers of a network of `NETWORKS`: images (n, h, w, c) to features (n, width)."""
    convolutions, width = NETWORKS[name]
    layers = [nn.conv(f"conv{i}", *layer, relu=True) for i, layer in enumerate(convolutions)]
    return nn.serial(*layers, nn.flatten(), nn.dense("fc", width), nn.elementwise(ops.relu))


def extractor(given: str | nn.Layer | Callable) -> nn.Layer:
    """Make the layer of a network's name; pass a layer through, or make one of a function of ops."""
    if isinstance(given, str):
        if given not in NETWORKS:
            import difflib

            near = difflib.get_close_matches(given, NETWORKS, n=1)
            raise ValueError(f"cnn_extractor is {given!r}; it can be {', '.join(map(repr, NETWORKS))}"
                             + f" (did you mean {near[0]!r}?)" * bool(near) + ", an nn.Layer or a function of trpo_np.ops")
        return network(given)
    if not (isinstance(given, nn.Layer) or callable(given)):
        raise ValueError(f"cnn_extractor is {given!r}; a name, an nn.Layer or a function of trpo_np.ops is needed")
    return given if isinstance(given, nn.Layer) else nn.function(given)


def described(space: spaces.Space, channels: str | None) -> spaces.Space:
    """Describe a Box as an image, or the Boxes of three and four axes in a Dict or Tuple as images beside other things."""
    if channels not in (None, "first", "last"):
        raise ValueError(f'channels is {channels!r}; "first", "last" or None is needed')
    if isinstance(space, spaces.Fields):
        parts = [spaces.as_image(part, channels) if isinstance(part, spaces.Box) and len(part.shape) in (3, 4) else part
                 for part in space.spaces]
        if any(isinstance(part, spaces.Image) for part in parts):
            return spaces.Fields(space.kind, space.keys, tuple(parts))
    elif isinstance(space, spaces.Box):
        return spaces.as_image(space, channels)
    raise ValueError(f"a network for images needs some: a Box of shape (h, w, c), for example, not {space}")


def encoder(space: spaces.Space, network: nn.Layer, mean: Callable | None = None) -> nn.Layer:
    """Make the layer from encoded observations to features; of a Dict, the images' features and the rest side by side.

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
    layers = [nn.named(str(key), _of_numbers(part, network)) if isinstance(part, spaces.Image) else nn.serial()
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
    return nn.serial(nn.Layer(lambda shape: (space.rows, {}), lambda params, x: image(x)), network, nn.flatten())


def as_share(x: np.ndarray) -> np.ndarray:
    """Make of bytes the 255th parts of 1 that they mean."""
    x = np.asarray(x)
    return x * (x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)).type(1 / 255)
