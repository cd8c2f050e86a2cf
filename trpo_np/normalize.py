"""Running mean and spread of observations and of discounted returns: part of the model and of its file.

Statistics change once per rollout, by merging the rollout's own moments (summed over ranks) in float64; between merges
they are frozen, so the policy that is updated is the policy that acted.
"""

import math

import numpy as np


class Moments:
    """Count, mean and sum of squared deviations of rows, merged by Chan's formula (Chan, Golub & LeVeque 1979)."""

    def __init__(self, size: int):
        self.count, self.mean, self.m2 = 0.0, np.zeros(size), np.zeros(size)

    def merge(self, rows: np.ndarray, comm) -> None:
        """Add the rows (n, size) of all ranks."""
        rows = np.asarray(rows, np.float64)
        total = comm.sum(np.concatenate([[len(rows)], rows.sum(0)]))
        if total[0] == 0:
            return
        n, mean = total[0], total[1:] / total[0]
        m2 = comm.sum(np.square(rows - mean).sum(0))
        delta, count = mean - self.mean, self.count + n
        self.m2 = self.m2 + m2 + np.square(delta) * (self.count * n / count)
        self.mean = self.mean + delta * (n / count)
        self.count = count

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of the rows, 1 as long as there are none."""
        return np.sqrt(self.m2 / self.count) if self.count else np.ones_like(self.m2)

    def arrays(self) -> dict:
        """Return the state as named arrays."""
        return {"count": np.array(self.count), "mean": self.mean, "m2": self.m2}

    def restore(self, arrays: dict) -> None:
        """Take over a state that `arrays` gave."""
        self.count, self.mean, self.m2 = float(arrays["count"]), arrays["mean"].copy(), arrays["m2"].copy()


class ObservationNormalizer:
    """Shift and scale observations to mean 0 and spread 1, clipped at `clip`; the identity unless `enabled`."""

    ready = True  # to be trained with
    affine = True  # __call__ is clip((obs - shift) * factor)

    def __init__(self, size: int, enabled: bool, dtype="float32", clip: float = 10.0):
        self.moments, self.enabled, self.dtype = Moments(size), enabled, np.dtype(dtype)
        self.clip = self.dtype.type(clip if enabled else np.inf)
        self._freeze()

    def _freeze(self):
        # rows (1, size): half a microsecond less an operation on one observation than NumPy's broadcasting of (size,)
        self.shift = self.moments.mean.astype(self.dtype)[None]
        self.factor = (1 / np.maximum(self.moments.std, 1e-4)).astype(self.dtype)[None]

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Normalise rows (n, size)."""
        if not self.enabled:
            return obs
        x = (obs - self.shift) * self.factor
        return np.minimum(np.maximum(x, -self.clip), self.clip)

    def merge(self, rows: np.ndarray, comm) -> None:
        """Take the rows of a rollout into the statistics."""
        if self.enabled:
            self.moments.merge(rows, comm)
            self._freeze()

    @property
    def count(self) -> float:
        """How many rows the statistics are of."""
        return self.moments.count

    def arrays(self) -> dict:
        """Return the state as named arrays."""
        return self.moments.arrays()

    def restore(self, arrays: dict) -> None:
        """Take over a saved state."""
        self.moments.restore(arrays)
        self._freeze()


class MeanImage:
    """The mean of the first batch of images (h, w, c), for their network to subtract; zeros unless `enabled`.

    What never changes in a game is most of its picture: left in, it makes nearly all of what the layers put out, equal for all
    images, and the Fisher matrix ten times as uneven. It does not change again: the policy would, outside of the trust region.
    Bytes stay bytes here: `cnn.encoder` subtracts, in the first layer.
    """

    def __init__(self, shape: tuple, enabled: bool, is_bytes: bool, dtype="float32"):
        self.shape, self.enabled = shape if enabled else (0,), enabled
        self.unit, self.dtype = 255 if is_bytes else 1, np.dtype(dtype)
        self.restore({"count": 0, "mean": np.zeros(math.prod(self.shape))})

    @property
    def ready(self) -> bool:
        """Say whether there is a mean; a policy that learned without one would be another with it."""
        return not self.enabled or self.count > 0

    def __call__(self, images):
        """Return the images as they are."""
        return images

    def merge(self, images, comm) -> None:
        """Take the mean of the first images (n, h, w, c) of all ranks, some at a time."""
        if self.ready:
            return
        total = np.zeros(self.shape)
        for i in range(0, len(images), 256):
            total += np.asarray(images[i:i + 256]).sum(0, dtype=np.float64)
        *total, count = comm.sum(np.append(total, len(images)))
        if count:
            self.restore({"count": count, "mean": np.array(total) / count})

    def arrays(self) -> dict:
        """Return the state as named arrays."""
        return {"count": np.array(self.count), "mean": self.mean}

    def restore(self, arrays: dict) -> None:
        """Take over a saved state."""
        self.count, self.mean = float(arrays["count"]), arrays["mean"].copy()
        self.shift = (self.mean.reshape(1, *self.shape) / self.unit).astype(self.dtype)


class RewardNormalizer:
    """Divide rewards by the spread of their discounted sum (Engstrom et al., arXiv:2005.12729), clipped at `clip`."""

    def __init__(self, enabled: bool, clip: float = 10.0):
        self.moments, self.enabled, self.clip = Moments(1), enabled, clip
        self._sums = np.zeros(0)

    def restart(self, num_envs: int) -> None:
        """Forget unfinished episodes."""
        self._sums = np.zeros(num_envs)

    def __call__(self, rewards: np.ndarray, done: np.ndarray, valid: np.ndarray, gamma: float, comm) -> np.ndarray:
        """Take a segment's rewards (T, n) into the statistics and return them scaled.

        Sums are discounted by `gamma` and begin anew after an episode's end; rows that are not `valid` do not count.
        """
        if not self.enabled:
            return rewards
        sums = np.empty_like(rewards)
        for t in range(len(rewards)):
            self._sums = rewards[t] + gamma * self._sums
            sums[t] = self._sums
            self._sums = np.where(done[t] | ~valid[t], 0.0, self._sums)
        self.moments.merge(sums[valid][:, None], comm)
        return np.clip(rewards / max(float(self.moments.std[0]), 1e-4), -self.clip, self.clip)
