"""Loops over images for convolution and frames, each beside its NumPy twin."""

import numpy as np

from .compile import twin


def _col2im_loop(cols, shape, size, stride):
    n, height, width, c = shape
    run, step = size[1] * c, stride[1] * c  # a window's row is one run of numbers
    down, across = (height - size[0]) // stride[0] + 1, (width - size[1]) // stride[1] + 1
    out = np.zeros((n, height, width * c), cols.dtype)
    for i in range(n):
        for y in range(down):
            for x in range(across):
                window = cols[(i * down + y) * across + x]
                for k in range(size[0]):
                    source = window[k * run:k * run + run]
                    to = out[i, y * stride[0] + k, x * step:x * step + run]
                    for j in range(run):
                        to[j] += source[j]
    return out.reshape((n, height, width, c))


@twin(_col2im_loop, lambda: (np.zeros((1, 1), np.float32), (1, 1, 1, 1), (1, 1), (1, 1)))
def col2im(cols, shape, size, stride):
    """Add up windows where they overlap, into new images of `shape` (n, h, w, c).

    A row of `cols` is a window, kh * kw * c numbers; `size` (kh, kw) and `stride` (down, across) are pairs.
    All windows lie inside the image. The transpose of cutting windows out.
    """
    n, height, width, c = shape
    down, across = (height - size[0]) // stride[0] + 1, (width - size[1]) // stride[1] + 1
    windows, out = cols.reshape(n, down, across, *size, c), np.zeros(shape, cols.dtype)
    for k in range(size[0]):
        rows = slice(k, k + stride[0] * down, stride[0])
        for l in range(size[1]):
            out[:, rows, l:l + stride[1] * across:stride[1]] += windows[:, :, :, k, l]
    return out


def _add_blocks_loop(z, bias):
    n, h, w, _ = z.shape
    c = bias.size
    out = np.empty((n, h - 1, w - 1, c), z.dtype)
    for i in range(n):
        for y in range(h - 1):
            for x in range(w - 1):
                for j in range(c):
                    out[i, y, x, j] = (bias[j] + z[i, y, x, j] + z[i, y, x + 1, c + j]
                                       + z[i, y + 1, x, 2 * c + j] + z[i, y + 1, x + 1, 3 * c + j])
    return out


@twin(_add_blocks_loop, lambda: (np.zeros((1, 2, 2, 4), np.float32), np.zeros(1, np.float32)))
def add_blocks(z, bias):
    """Add up 2 x 2 neighbours of z (n, h, w, 4 * c), a quarter of each, and `bias` (c,).

    Return (n, h - 1, w - 1, c).
    """
    n, h, w, _ = z.shape
    z = z.reshape(n, h, w, 4, len(bias))
    out = z[:, :-1, :-1, 0] + bias
    for quarter, part in enumerate((z[:, :-1, 1:], z[:, 1:, :-1], z[:, 1:, 1:]), 1):
        out += part[:, :, :, quarter]
    return out


def _spread_blocks_loop(g):
    n, h, w, c = g.shape
    out = np.empty((n, h + 1, w + 1, 4 * c), g.dtype)
    for i in range(n):
        for y in range(h + 1):
            for x in range(w + 1):
                to = out[i, y, x]
                for q in range(4):
                    above, left = y - q // 2, x - q % 2
                    if 0 <= above < h and 0 <= left < w:
                        source = g[i, above, left]
                        for j in range(c):
                            to[q * c + j] = source[j]
                    else:
                        to[q * c:(q + 1) * c] = 0
    return out


@twin(_spread_blocks_loop, lambda: (np.zeros((1, 1, 1, 1), np.float32),))
def spread_blocks(g):
    """Spread g (n, h, w, c) over (n, h + 1, w + 1, 4 * c), zeros elsewhere: the transpose of `add_blocks`."""
    n, h, w, c = g.shape
    out = np.zeros((n, h + 1, w + 1, 4, c), g.dtype)
    out[:, :-1, :-1, 0] = out[:, :-1, 1:, 1] = out[:, 1:, :-1, 2] = out[:, 1:, 1:, 3] = g
    return out.reshape(n, h + 1, w + 1, 4 * c)


def _interleave_loop(planes, index):
    n, c = index.shape
    size = planes.shape[1]
    out = np.empty((n, size, c), np.uint8)
    for i in range(n):
        if c == 4:  # one number of four bytes at a time
            whole = out[i].reshape(size * 4).view(np.uint32)
            p, q, r, s = planes[index[i, 0]], planes[index[i, 1]], planes[index[i, 2]], planes[index[i, 3]]
            for j in range(size):
                whole[j] = (np.uint32(p[j]) | np.uint32(q[j]) << np.uint32(8)
                            | np.uint32(r[j]) << np.uint32(16) | np.uint32(s[j]) << np.uint32(24))
        else:
            for k in range(c):
                p = planes[index[i, k]]
                for j in range(size):
                    out[i, j, k] = p[j]
    return out


@twin(_interleave_loop, lambda: (np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.int64)))
def interleave(planes, index):
    """Put those of the planes (m, size), of bytes, side by side that `index` (n, c) names: (n, size, c)."""
    return np.ascontiguousarray(planes[index].transpose(0, 2, 1))


def _where_positive_loop(y, v):
    out = np.empty(v.size, v.dtype)
    mask, flat = y.ravel(), v.ravel()
    for i in range(out.size):
        out[i] = flat[i] if mask[i] > 0 else np.float32(0)
    return out.reshape(v.shape)


@twin(_where_positive_loop, lambda: np.zeros((2, 1, 1, 1, 1), np.float32))
def where_positive(y, v):
    """Return v where y is positive, else 0, both (n, h, w, c), C-contiguous: relu's derivative, times v."""
    return np.where(y.real > 0, v, v.dtype.type(0))
