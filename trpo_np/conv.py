"""Convolution of images, as one op: columns of windows and a matrix product, over chunks of samples."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import kernels
from .autodiff import Linear, primitive

CHUNK = 1 << 21


class Windows(NamedTuple):
    """Where the windows of a convolution lie."""

    size: tuple
    stride: tuple
    before: tuple
    padded: tuple
    out: tuple


def pair(v) -> tuple:
    return (int(v), int(v)) if np.ndim(v) == 0 else tuple(int(i) for i in v)


def windows(image, size, stride, padding) -> Windows:
    stride = pair(stride)
    if padding == "valid":
        before = after = (0, 0)
        padded = tuple(image)
    else:
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(image, size, stride)]
        before = tuple(t // 2 for t in total)
        padded = tuple(n + t for n, t in zip(image, total))
    out = tuple((n - k) // s + 1 for n, k, s in zip(padded, size, stride))
    return Windows(tuple(size), stride, before, padded, out)


def frame(x, at):
    if at.padded == x.shape[1:3]:
        return x
    (top, left), (h, w) = at.before, x.shape[1:3]
    out = np.zeros((len(x), *at.padded, x.shape[3]), x.dtype)
    out[:, top:top + h, left:left + w] = x
    return out


def im2col(x, at, cols):
    x = frame(x, at)
    n, _, _, c = x.shape
    s0, s1, s2, s3 = x.strides
    (kh, kw), (sy, sx) = at.size, at.stride
    v = as_strided(x, (n, *at.out, kh, kw, c), (s0, s1 * sy, s2 * sx, s1, s2, s3), writeable=False)
    cols.reshape(v.shape)[...] = v


def chunks(n, rows, width, dtype):
    many = max(1, CHUNK // (rows * width * np.dtype(dtype).itemsize))
    for i in range(0, n, many):
        yield slice(i, min(i + many, n))


def affine(images, matrix, bias, at, y, gate=None, relu=False):
    n, rows, k = len(y), at.out[0] * at.out[1], len(matrix) // len(images)
    flat = y.reshape(n, rows, -1)
    buffer = None
    for s in chunks(n, rows, len(matrix), y.dtype):
        m = (s.stop - s.start) * rows
        if buffer is None:
            buffer = np.empty((m, len(matrix)), y.dtype)
        cols = buffer[:m]
        for i, x in enumerate(images):
            im2col(x[s], at, cols[:, i * k:(i + 1) * k])
        out = flat[s].reshape(m, -1)
        np.matmul(cols, matrix, out=out)
        out += bias
        if relu:
            np.maximum(out, 0, out=out)
        elif gate is not None:
            np.multiply(out, gate.reshape(n, rows, -1)[s].reshape(m, -1) > 0, out=out)
    return y


def _conv(x, w, b, stride=1, padding="valid", relu=False):
    at = windows(x.shape[1:3], w.shape[:2], stride, padding)
    dtype = np.result_type(w, b) if x.dtype == np.uint8 else np.result_type(x, w, b)
    matrix = w.reshape(-1, w.shape[-1])
    if x.dtype == np.uint8:
        matrix = matrix * (1 / 255)
    y = np.empty((len(x), *at.out, w.shape[-1]), dtype)
    return affine([x], matrix, b, at, y, relu=relu)


def _joint(wanted, y, x, w, b, stride=1, padding="valid", relu=False):
    at = windows(x.shape[1:3], w.shape[:2], stride, padding)
    scale = 1 / 255 if x.dtype == np.uint8 else 1
    matrix = w.reshape(-1, w.shape[-1]) * scale
    rows, n = at.out[0] * at.out[1], len(x)

    def push(*dxs):
        d = dict(zip(wanted, dxs))
        images, ms = [], []
        if 1 in d:
            images.append(x)
            ms.append(d[1].reshape(matrix.shape) * scale)
        if 0 in d:
            images.append(d[0])
            ms.append(matrix)
        dtype = np.result_type(matrix, *dxs)
        return affine(images, np.concatenate(ms), d[2], at, np.empty(y.shape, dtype), y if relu else None)

    def pull(g):
        dw = np.zeros(matrix.shape, g.dtype)
        db = np.zeros(len(b), g.dtype)
        if 0 in wanted:
            dx = np.empty(x.shape, g.dtype)
        buffer = None
        for s in chunks(n, rows, len(matrix), g.dtype):
            m = (s.stop - s.start) * rows
            if buffer is None:
                buffer = np.empty((m, len(matrix)), g.dtype)
            cols = buffer[:m]
            gs = g[s].reshape(m, -1)
            if relu:
                gs = gs * (y[s].reshape(m, -1) > 0)
            im2col(x[s], at, cols)
            dw += cols.T @ gs
            db += np.ones(m, g.dtype) @ gs
            if 0 in wanted:
                np.matmul(gs, matrix.T, out=cols)
                dx[s] = col2im(cols, (s.stop - s.start, *at.padded, x.shape[3]), at.size, at.stride)
        dw = dw.reshape(w.shape) * scale
        gs = {1: dw, 2: db}
        if 0 in wanted:
            gs[0] = dx
        return tuple(gs[i] for i in wanted)
    return Linear(push, pull)


def _col2im_loop(cols, shape, size, stride):
    x = np.zeros(shape, cols.dtype).reshape(shape[0], shape[1], shape[2] * shape[3])
    run, step = size[1] * shape[3], stride[1] * shape[3]
    down, across = (shape[1] - size[0]) // stride[0] + 1, (shape[2] - size[1]) // stride[1] + 1
    for i in range(shape[0]):
        for oy in range(down):
            for ox in range(across):
                row = cols[(i * down + oy) * across + ox]
                for ky in range(size[0]):
                    to = x[i, oy * stride[0] + ky, ox * step:ox * step + run]
                    source = row[ky * run:ky * run + run]
                    for j in range(run):
                        to[j] += source[j]
    return x.reshape(shape)

import numba
col2im = numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")(_col2im_loop)
conv2d = primitive(_conv, joint=_joint)
