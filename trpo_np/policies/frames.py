"""Stacked frames, stored once: an observation of four frames shares three of them with the one before it.

What follows an observation in the same environment is compared with it byte by byte: where all but the newest
frame are the older one's, only that is stored. So nothing is assumed of how an environment begins an episode.
"""

import numpy as np

from ..kernels import image


class Frames:
    """Images (..., h, w, c) of bytes as planes (m, h, w) and the `index` (..., c) of each image's planes.

    It stands for the array: `np.asarray` makes that, and indices of the leading axes give a part without
    copying planes.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, planes: np.ndarray, index: np.ndarray):
        self.planes, self.index = planes, index
        self.shape = (*index.shape[:-1], *planes.shape[1:], index.shape[-1])
        self.ndim = len(self.shape)

    def __len__(self):
        return len(self.index)

    def __getitem__(self, some):
        return Frames(self.planes, self.index[some])

    def reshape(self, *shape):
        """Change the leading axes; `shape` names the images' own axes too."""
        if shape[-3:] != self.shape[-3:]:
            raise ValueError(f"frames of shape {self.shape} cannot become {shape}; the last three axes stay")
        return Frames(self.planes, self.index.reshape(*shape[:-3], self.shape[-1]))

    def __array__(self, dtype=None, copy=None):
        m, h, w = self.planes.shape
        index = np.ascontiguousarray(self.index.reshape(-1, self.shape[-1]))  # as the kernel is compiled for
        images = image.interleave(self.planes.reshape(m, h * w), index).reshape(self.shape)
        return images.astype(dtype or np.uint8, copy=False)


def side_by_side(parts: list[Frames]) -> Frames:
    """Return frames (T, n, ...) with more of them to their right, (T, n + ..., ...)."""
    used = [int(part.index.max()) + 1 for part in parts]
    first = np.cumsum([0, *used[:-1]])
    return Frames(np.concatenate([part.planes[:most] for part, most in zip(parts, used)]),
                  np.concatenate([part.index + k for part, k in zip(parts, first)], axis=1))


class Recorder(Frames):
    """Frames of `steps` steps of n environments, to be filled in order of time: `recorder[t] = images (n, h,
    w, c)`.

    `new` is the number of planes by which an observation differs from the one before.
    """

    def __init__(self, steps: int, n: int, shape: tuple, new: int = 1):
        h, w, c = shape
        # as much as could be needed; what is not written takes no memory
        super().__init__(np.empty((steps * n * c, h, w), np.uint8), np.zeros((steps, n, c), np.int64))
        self.new, self.used, self.found = new, 0, False
        self.before = self.planes[:0]

    def __setitem__(self, t: int, images: np.ndarray):
        planes, index, new = np.moveaxis(images, 3, 1), self.index[t], self.new
        follows = np.zeros(len(planes), bool)
        if t and (self.found or t < 5):  # else the environment does not stack
            follows = (planes[:, :-new] == self.before[:, new:]).all(axis=(1, 2, 3))
            self.found |= bool(follows.any())
        self.before = planes
        if follows.all():
            fresh = planes[:, -new:].reshape(-1, *planes.shape[2:])
        else:
            fresh = np.concatenate([row[-new:] if old else row for row, old in zip(planes, follows)])
        self.planes[self.used:self.used + len(fresh)] = fresh
        counts = np.where(follows, new, planes.shape[1])
        ends = self.used + np.cumsum(counts)
        index[...] = ends[:, None] - np.arange(planes.shape[1], 0, -1)
        index[follows, :-new] = self.index[t - 1, follows, new:]
        self.used += len(fresh)
