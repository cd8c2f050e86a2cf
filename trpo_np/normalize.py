"""Running mean and spread of observations and of discounted returns: part of the model and of its file.

Statistics change once per rollout: the rollout's own moments, summed over ranks, are merged in float64.
Between merges they are frozen, so that the policy that is updated is the policy that acted.
"""

import math
import warnings

import numpy as np


class Moments:
    """Count, mean and sum of squared deviations of rows, merged as by Chan, Golub & LeVeque (1979).

    dtype: the type of the rows. A spread of up to 8 of its rounding steps is nothing but rounding.
    """

    def __init__(self, size: int, dtype="float64"):
        self.count, self.mean, self.m2 = 0.0, np.zeros(size), np.zeros(size)
        self.rounding = 8 * float(np.finfo(dtype).eps)

    def merge(self, rows: np.ndarray, comm) -> None:
        """Add the rows (n, size) of all ranks."""
        rows = np.asarray(rows, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            total = comm.sum(np.concatenate([[len(rows)], rows.sum(0)]))
            if total[0] == 0:
                return
            n, near = total[0], total[1:] / total[0]
            # `near` is the mean but for rounding of a large sum: the deviations from it tell the rest
            rest = rows - near
            both = comm.sum(np.concatenate([rest.sum(0), np.square(rest).sum(0)]))
            rest_mean, square = both.reshape(2, -1) / n
            delta, count = near - self.mean + rest_mean, self.count + n
            m2 = self.m2 + n * np.maximum(square - np.square(rest_mean), 0)
            m2 += np.square(delta) * (self.count * n / count)
        if not np.isfinite(m2).all():
            warnings.warn("a rollout is left out of the running statistics: numbers in it are so large that "
                          "their squares overflow", stacklevel=2)
            return
        self.m2, self.mean, self.count = m2, self.mean + delta * (n / count), count

    @property
    def std(self) -> np.ndarray:
        """Return the standard deviation of the rows; 1 as long as there are none."""
        return np.sqrt(self.m2 / self.count) if self.count else np.ones_like(self.m2)

    @property
    def unit(self) -> np.ndarray:
        """Return by what to divide to bring the rows to spread 1: the standard deviation, or 1 for a number
        that was constant until now but for rounding."""
        return np.where(self.std > 1e-15 + self.rounding * np.abs(self.mean), self.std, 1.0)

    def arrays(self) -> dict:
        """Return the state as named arrays."""
        return {"count": np.array(self.count), "mean": self.mean, "m2": self.m2}

    def restore(self, arrays: dict) -> None:
        """Take over a state that `arrays` returned."""
        self.count, self.mean, self.m2 = float(arrays["count"]), arrays["mean"].copy(), arrays["m2"].copy()


class ObservationNormalizer:
    """Shift and scale rows to mean 0 and spread 1, clipped at `clip`; the identity if not `enabled`.

    Rows come in `precision`; they are shifted and scaled in it, or in `dtype` if that is finer, and returned
    in `dtype`.
    """

    ready = True  # a policy can learn with it from the first batch on
    affine = True  # __call__ is clip((obs - shift) * factor)

    def __init__(self, size: int, enabled: bool, dtype="float32", precision="float32", clip: float = 10.0):
        self.moments, self.enabled = Moments(size, precision), enabled
        self.dtype, self.precision = np.dtype(dtype), np.result_type(dtype, precision)
        self.clip = self.precision.type(clip if enabled else np.inf)
        self._freeze()

    def _freeze(self):
        # rows (1, size): on one observation, half a microsecond less per operation than broadcasting (size,)
        self.shift = self.moments.mean.astype(self.precision)[None]
        self.factor = (1 / self.moments.unit).astype(self.precision)[None]

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Normalise rows (n, size)."""
        x = self.scaled(obs) if self.enabled else obs
        return x if x.dtype is self.dtype else x.astype(self.dtype)

    def scaled(self, obs: np.ndarray) -> np.ndarray:
        """Normalise rows (n, size) without a last cut to `dtype`, for a caller that cuts them anyway."""
        return np.minimum(np.maximum((obs - self.shift) * self.factor, -self.clip), self.clip)

    def merge(self, rows: np.ndarray, comm) -> None:
        """Take a rollout's rows of all ranks into the statistics."""
        if self.enabled:
            self.moments.merge(rows, comm)
            self._freeze()

    @property
    def count(self) -> float:
        """Return the number of rows in the statistics."""
        return self.moments.count

    def arrays(self) -> dict:
        """Return the state as named arrays."""
        return self.moments.arrays()

    def restore(self, arrays: dict) -> None:
        """Take over a saved state."""
        self.moments.restore(arrays)
        self._freeze()


class BesidesIndices(ObservationNormalizer):
    """Normalise the numbers of rows that hold indices too, and leave the indices as they are.

    is_index: of each number of a row, whether it is an index.
    """

    def __init__(self, is_index: np.ndarray, enabled: bool, dtype="float32", precision="float32"):
        self.others = np.flatnonzero(~is_index)
        super().__init__(len(self.others), enabled, dtype, precision)

    def scaled(self, obs):
        """Normalise rows (n, size) without a last cut to `dtype`."""
        x = obs.astype(self.precision)
        x[..., self.others] = super().scaled(obs[..., self.others])
        return x

    def merge(self, rows, comm):
        """Take a rollout's rows of all ranks into the statistics."""
        super().merge(rows[..., self.others], comm)


class MeanImage:
    """The mean of the first batch of images (h, w, c), for their network to subtract; zeros unless `enabled`.

    Most of a game's picture never changes. Left in, it dominates the layers' outputs, the same for all
    images, and makes the condition of the Fisher matrix ten times worse. The mean stays that of the first
    batch: with another, the policy would change outside of the trust region. Images pass as they are, bytes
    as bytes; the first layer of an encoder subtracts (policies/images.py).
    """

    def __init__(self, shape: tuple, enabled: bool, is_bytes: bool, dtype="float32"):
        self.shape, self.enabled = shape if enabled else (0,), enabled
        self.unit, self.dtype = 255 if is_bytes else 1, np.dtype(dtype)
        self.restore({"count": 0, "mean": np.zeros(math.prod(self.shape))})

    @property
    def ready(self) -> bool:
        """Say whether there is a mean: a policy that learned without one would be another policy with it."""
        return not self.enabled or self.count > 0

    def __call__(self, images):
        """Return the images as they are, in the policy's type unless they are bytes."""
        return images if images.dtype in (np.uint8, self.dtype) else images.astype(self.dtype)

    def merge(self, images, comm) -> None:
        """Take the mean of the first images (n, h, w, c) of all ranks; later ones change nothing."""
        if self.ready:
            return
        total = np.zeros(self.shape)
        for i in range(0, len(images), 256):  # in pieces, to need little memory
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


class UsualSpread:
    """The usual spread of a batch's advantages: the root of a mean of squares, in which old batches fade."""

    def __init__(self) -> None:
        self.square, self.count = 0.0, 0

    def share(self, spread: float) -> float:
        """Take a batch's spread in; return the square of its ratio to the usual one, at most 1.

        The first 20 batches count alike, later ones a twentieth.
        """
        if not math.isfinite(spread):
            return 1.0
        self.count += 1
        self.square += (spread ** 2 - self.square) / min(self.count, 20)
        return min(1.0, spread ** 2 / self.square) if self.square else 1.0


class RewardNormalizer:
    """Divide rewards by the spread of their discounted sums, if these differ, clipped at `clip`.

    Engstrom et al., arXiv:2005.12729.
    """

    def __init__(self, enabled: bool, clip: float = 10.0):
        self.moments, self.enabled, self.clip = Moments(1), enabled, clip
        self.sums = np.zeros(0)

    def restart(self, num_envs: int) -> None:
        """Forget unfinished episodes."""
        self.sums = np.zeros(num_envs)

    def __call__(self, rewards: np.ndarray, done: np.ndarray, valid: np.ndarray, gamma: float,
                 comm) -> np.ndarray:
        """Take a segment's rewards (T, n) into the statistics and return them scaled.

        Sums are discounted by `gamma` and begin anew after an episode's end; rows that are not `valid` do not
        count.
        """
        if not self.enabled:
            return rewards
        sums = np.empty_like(rewards)
        for t in range(len(rewards)):
            self.sums = rewards[t] + gamma * self.sums
            sums[t] = self.sums
            self.sums = np.where(done[t] | ~valid[t], 0.0, self.sums)
        self.moments.merge(sums[valid][:, None], comm)
        return self.scaled(rewards)

    def scaled(self, rewards: np.ndarray) -> np.ndarray:
        """Return rewards as they are scaled now."""
        if not self.enabled:
            return rewards
        return np.clip(rewards / self.moments.unit[0], -self.clip, self.clip)
