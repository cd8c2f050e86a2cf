"""Policies for images: an encoder in front of any policy, and the work done on some images at a time."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import cnn, nn, spaces
from .autodiff import Var
from .frames import Recorder
from .normalize import MeanImage
from .policy import Policy
from .recurrent import RecurrentPolicy


class Visual(Policy):
    """What a policy that sees images has in front of its other layers; a class beside it says what these are.

    `cnn_extractor` is a name of `cnn.NETWORKS`, an nn.Layer from images (n, h, w, c) to features, or a function of ops; bytes are
    given to it as numbers from 0 to 1. `channels` is "first" or "last" where the observations' shape does not say it.
    `normalize` subtracts the mean image of the first batch, which is a part of the model.
    """

    loops = ("pixels",)
    reads_pixels = True

    def __init__(self, observation_space, action_space, *, cnn_extractor="nature_cnn", channels: str | None = None, net_arch=None,
                 layers=None, **options):
        if "extractor" in options:
            raise ValueError("a policy for images takes its network as cnn_extractor, not as extractor")
        self.network = cnn.extractor(cnn_extractor)
        space = cnn.described(spaces.describe(observation_space, "observation"), channels)
        layers = [] if net_arch is None and layers is None else layers
        super().__init__(space, action_space, net_arch=net_arch, layers=layers, **options)

    def make_normalizer(self, enabled):
        """Make what keeps the mean image."""
        space = self.observation_space
        if not isinstance(space, spaces.Image):
            if enabled:
                raise ValueError("images in a Dict or Tuple are brought to numbers from 0 to 1, not normalised; "
                                 "normalize_observations=False is needed")
            return super().make_normalizer(False)
        return MeanImage(space.rows, enabled, space.is_bytes, self.dtype)

    def encoder(self, name: str) -> nn.Layer:
        """Return the layer that turns images (n, h, w, c), or the rows of a Dict, into features (n, width)."""
        mean = (lambda: self.normalizer.shift) if self.normalizer.enabled else None
        return nn.named(name, cnn.encoder(self.observation_space, self.network, mean))

    def storage(self, steps: int, n: int) -> Any:
        """Return memory for the encoded observations; that of stacked frames holds each frame once."""
        space = self.observation_space
        if not (space.is_bytes and space.frames > 1):
            return super().storage(steps, n)
        return Recorder(steps, n, space.rows, space.rows[2] // space.frames)


class CnnPolicy(Visual):
    """Convolutional networks for images, or for a Dict or Tuple with images; see Visual for the arguments.

    By default the critic has a network of its own; with `share_features` it is a head on the policy's features, which it does
    not move, and much less work. `net_arch` and `layers` add layers after the features (by default none).
    """

    def segment_values(self, x, seg: Any, last, final) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return V of a segment (T, n), of what comes after it (n,), and of truncated episodes' last observations `final`."""
        values = self.value(x.reshape(-1, *x.shape[2:])).reshape(x.shape[:2])
        return values, self.value(last), self.value(final) if len(final) else values[:0, 0]

    def critic_input(self, params, x):
        """What the critic reads: the images, or the policy's features, which it cannot change."""
        if not self.trunk.init(self.observation_space.rows)[1]:
            return x
        return in_parts(lambda rows: Policy.critic_input(self, params, rows), x, params)

    def pi(self, params, x):
        """Distribution parameters (n, k) of images x; without a trace, some images at a time."""
        return in_parts(lambda rows: Policy.pi(self, params, rows), x, params)

    def value(self, x) -> np.ndarray:
        """Values (n,) of images under the current parameters, some images at a time."""
        return in_parts(lambda rows: Policy.value(self, rows), x, self.params)


class CnnLstmPolicy(Visual, RecurrentPolicy):
    """A network for images and an LSTM behind it, nature_cnn and 256 cells by default."""


class CnnLnLstmPolicy(Visual, RecurrentPolicy):
    """A network for images and a layer-norm LSTM behind it, nature_cnn and 256 cells by default."""

    layer_norm = True


def in_parts(fun: Callable, x, params: Mapping, most: int = 256) -> Any:
    """Apply a function of rows to at most so many at once, unless `params` are traced: what it computes between stays small."""
    if len(x) <= most or any(isinstance(array, Var) for array in params.values()):
        return fun(x)
    return np.concatenate([fun(x[i:i + most]) for i in range(0, len(x), most)])
