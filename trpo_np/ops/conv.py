"""Convolution of channels-last images as one op: pieces of an image become a matrix, a product does the rest.

The pieces are the windows, or, where a window is twice as large as the stride, blocks of the stride's size
(see `Blocks`). They are laid out for a few samples at a time, in memory that stays in the processor's cache,
and anew by every push and pull: keeping NatureCNN's windows would take 0.4 MB a sample, and reading them back
from memory takes as long as making them from bytes. A push in both images and weights is one product with the
rows of the two side by side.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..autodiff import Linear, primitive
from ..kernels import blas, image

# bytes of a chunk's rows: 0.75 to 2 MB run alike, at 0.25 MB and above 3 MB NatureCNN's products lose 10 %
CHUNK = 1 << 20


class Windows(NamedTuple):
    """Where the windows of a convolution lie; each field is a pair, for the height and for the width."""

    size: tuple
    stride: tuple
    before: tuple  # how many zeros come before the image
    padded: tuple  # the size of the image with its zeros
    out: tuple  # how many windows there are


def windows(image: tuple, size: tuple, stride, padding: str) -> Windows:
    """Place windows of `size` on an image (h, w), `stride` (one number or two) apart.

    With padding "valid" they lie inside the image; with "same" there are ceil(n / stride) of them, for which
    zeros are added on all sides, an odd one after the image (TensorFlow's rule). Raise ValueError if they do
    not fit.
    """
    image, size = tuple(image), tuple(size)
    stride = (stride, stride) if isinstance(stride, (int, np.integer)) else tuple(stride)
    if len(stride) != 2 or min(*stride, *size) < 1:
        raise ValueError(f"windows of {_by(size)}, {stride} apart, cannot be; a stride is an integer of at "
                         "least 1, or two")
    if padding == "valid":
        zeros = (0, 0)
    elif padding == "same":
        zeros = tuple(max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(image, size, stride))
    else:
        raise ValueError(f"padding is {padding!r}; it can be 'valid' or 'same'")
    padded = tuple(n + z for n, z in zip(image, zeros))
    if min(image) < 1 or any(n < k for n, k in zip(padded, size)):
        raise ValueError(f"windows of {_by(size)} do not fit an image of {_by(image)}; at least {_by(size)} "
                         "is needed: enlarge the first image, as by gymnasium.wrappers.ResizeObservation, or "
                         "give a network of smaller windows by cnn_extractor")
    return Windows(size, stride, tuple(z // 2 for z in zeros), padded,
                   tuple((n - k) // s + 1 for n, k, s in zip(padded, size, stride)))


def _by(size: tuple) -> str:
    return " x ".join(map(str, size))


# --- two ways to cut an image into rows ---------------------------------------------------------------------

class Pieces:
    """The windows as they are (im2col): they overlap, so they hold more numbers than the image.

    A sample has `count` rows of `width` numbers. Their product with `arrange(w)` has `columns` numbers a row,
    of which `gather` makes the output. `spread` and `fold` are the transposes of `gather` and `unfold`.
    """

    def __init__(self, at: Windows, w_shape: tuple):
        (kh, kw), (*_, c_in, c_out) = at.size, w_shape
        self.at, self.w_shape = at, w_shape
        self.count, self.width, self.columns = at.out[0] * at.out[1], kh * kw * c_in, c_out

    def unfold(self, x: np.ndarray, rows: np.ndarray) -> None:
        """Write the pieces of padded images (m, h, w, c) into `rows` (m * count, width), of whatever type."""
        n, y, x_, c = x.strides
        shape = (len(x), *self.at.out, *self.at.size, x.shape[3])
        view = _strided(x, shape, (n, y * self.at.stride[0], x_ * self.at.stride[1], y, x_, c))
        rows.reshape(shape)[...] = view  # this only splits axes of `rows`, so it is no copy

    def fold(self, rows: np.ndarray, shape: tuple) -> np.ndarray:
        """Add pieces up where they overlap, into images of `shape`."""
        return image.col2im(rows, shape, self.at.size, self.at.stride)

    def arrange(self, w: np.ndarray) -> np.ndarray:
        """Make the matrix (width, columns) of weights (kh, kw, c_in, c_out)."""
        return w.reshape(self.width, self.columns)

    def restore(self, matrix: np.ndarray) -> np.ndarray:
        """Make weights of a matrix: the transpose and the inverse of `arrange`."""
        return matrix.reshape(self.w_shape)

    def gather(self, product: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
        """Write the output (m, oh, ow, c_out) of a product (m * count, columns)."""
        np.add(product.reshape(out.shape), bias, out=out)

    def spread(self, g: np.ndarray) -> np.ndarray:
        """Return the cotangent (m * count, columns) of the product for that of the output."""
        return g.reshape(-1, self.columns)


class Blocks(Pieces):
    """Blocks of the stride's size, for windows of twice that: a window is 2 x 2 blocks, which it shares.

    One product takes each block times the weights of the four places that it can have in a window; then each
    window adds up four numbers. The rows hold a quarter of the numbers of the windows' rows, and the product
    has four times the columns, which suits BLAS: 8 channels are too few for it.
    """

    def __init__(self, at: Windows, w_shape: tuple):
        super().__init__(at, w_shape)
        self.grid = at.out[0] + 1, at.out[1] + 1
        self.count, self.width, self.columns = self.grid[0] * self.grid[1], self.width // 4, 4 * self.columns

    def _cut(self, x: np.ndarray) -> np.ndarray:
        """View padded images as blocks (m, grid, stride, c); what no window covers is left out."""
        (h, w), (down, across) = self.grid, self.at.stride
        n, y, x_, c = x.strides
        return _strided(x, (len(x), h, w, down, across, x.shape[3]), (n, y * down, x_ * across, y, x_, c))

    def unfold(self, x: np.ndarray, rows: np.ndarray) -> None:
        blocks = self._cut(x)
        rows.reshape(blocks.shape)[...] = blocks

    def fold(self, rows: np.ndarray, shape: tuple) -> np.ndarray:
        x = np.zeros(shape, rows.dtype)
        blocks = self._cut(x)
        blocks[...] = rows.reshape(blocks.shape)
        return x

    def arrange(self, w: np.ndarray) -> np.ndarray:
        (down, across), (*_, c_in, c_out) = self.at.stride, self.w_shape
        parts = w.reshape(2, down, 2, across, c_in, c_out)
        return parts.transpose(1, 3, 4, 0, 2, 5).reshape(self.width, self.columns)

    def restore(self, matrix: np.ndarray) -> np.ndarray:
        (down, across), (*_, c_in, c_out) = self.at.stride, self.w_shape
        parts = matrix.reshape(down, across, c_in, 2, 2, c_out)
        return parts.transpose(3, 0, 4, 1, 2, 5).reshape(self.w_shape)

    def gather(self, product: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
        out[...] = image.add_blocks(product.reshape(len(out), *self.grid, self.columns), bias)

    def spread(self, g: np.ndarray) -> np.ndarray:
        return image.spread_blocks(g).reshape(-1, self.columns)


def _strided(x: np.ndarray, shape: tuple, strides: tuple) -> np.ndarray:
    # does what NumPy's as_strided does, for C-contiguous x, in a tenth of its 10 us
    return np.ndarray(shape, x.dtype, x, 0, strides)


def _pieces(x, w, stride, padding: str) -> Pieces:
    at = windows(x.shape[1:3], w.shape[:2], stride, padding)
    return (Blocks if all(k == 2 * s for k, s in zip(at.size, at.stride)) else Pieces)(at, w.shape)


# --- the op, some samples at a time -------------------------------------------------------------------------

def _chunks(n: int, way: Pieces, terms: int, dtype) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield which samples, and memory for their rows and for the product: the same memory each time."""
    width = way.width * terms
    most = max(1, CHUNK // (way.count * width * np.dtype(dtype).itemsize))
    step = -(-n // -(-n // most)) if n else 0  # chunks of about equal size
    rows = np.empty((step * way.count, width), dtype)
    product = np.empty((step * way.count, way.columns), dtype)
    for i in range(0, n, step or 1):
        some = slice(i, min(i + step, n))
        count = (some.stop - i) * way.count
        yield some, rows[:count], product[:count]


def _padded(x: np.ndarray, at: Windows) -> np.ndarray:
    """Return images (m, h, w, c) with the zeros around them, in this order in memory."""
    x = _in_order(np.asarray(x))
    if at.padded == x.shape[1:3]:
        return x
    (top, left), (h, w) = at.before, x.shape[1:3]
    out = np.zeros((len(x), *at.padded, x.shape[3]), x.dtype)
    out[:, top:top + h, left:left + w] = x
    return out


def _in_order(x: np.ndarray) -> np.ndarray:
    """Return images (m, h, w, c) in this order in memory; there is a kernel for planes of bytes."""
    planes = x.transpose(0, 3, 1, 2)
    if x.dtype != np.uint8 or not planes.flags.c_contiguous:
        return np.ascontiguousarray(x)
    m, c, h, w = planes.shape
    return image.interleave(planes.reshape(m * c, h * w), np.arange(m * c).reshape(m, c)).reshape(x.shape)


def _affine(images: list, weights: list, bias, way: Pieces, y: np.ndarray) -> Iterator[tuple]:
    """Fill y with the sum of images * weights + bias; yield each chunk, its slice and values, in turn."""
    matrix = np.concatenate([way.arrange(w) for w in weights]).astype(y.dtype, copy=False)
    for some, rows, product in _chunks(len(y), way, len(images), y.dtype):
        for i, x in enumerate(images):
            way.unfold(_padded(x[some], way.at), rows[:, i * way.width:(i + 1) * way.width])
        blas.product(rows, matrix, product)
        out = y[some]
        way.gather(product, bias, out)
        yield some, out


class Centred(NamedTuple):
    """Images (n, h, w, c), and the mean image (1, h, w, c) to subtract from each, of bytes divided by 255."""

    images: Any
    mean: np.ndarray


def _scaled(x, w):
    """Divide the weights by 255 for images of bytes, instead of the images."""
    return w * w.dtype.type(1 / 255) if x.dtype == np.uint8 else w


def _conv2d(x, w, b, stride=1, padding="valid", relu=False):
    """Convolve images x (n, h, w, c_in) with w (kh, kw, c_in, c_out) and add b (c_out,).

    Return y (n, oh, ow, c_out): y[n, i, j] is b plus the sum over k, l of
    x[n, i * stride + k, j * stride + l] @ w[k, l]. Images of uint8 count as x / 255; x may also stand for an
    array, as `frames.Frames` does. `stride` is an integer or a pair, `padding` "valid" or "same" (see
    `windows`); `relu` takes the positive part of y. Raise ValueError for shapes that do not fit.
    """
    if len(x.shape) != 4 or w.ndim != 4 or x.shape[3] != w.shape[2] or b.shape != w.shape[3:]:
        raise ValueError("conv2d: images (n, h, w, c_in), weights (kh, kw, c_in, c_out) and a bias (c_out,) "
                         f"are needed, not {x.shape}, {w.shape} and {b.shape}")
    way = _pieces(x, w, stride, padding)
    dtype = np.result_type(w, b) if x.dtype == np.uint8 else np.result_type(x, w, b)
    y = np.empty((len(x), *way.at.out, w.shape[3]), dtype)
    for _, out in _affine([x], [_scaled(x, w)], b.astype(dtype, copy=False), way, y):
        if relu and np.iscomplexobj(out):
            out *= out.real > 0
        elif relu:
            np.maximum(out, 0, out=out)
    return y


def _conv2d_joint(wanted, y, x, w, b, stride=1, padding="valid", relu=False):
    way = _pieces(x, w, stride, padding)

    def push(*dxs):
        dx = dict(zip(wanted, dxs))
        dy = np.empty(y.shape, np.result_type(y, *dxs))
        terms = [(x, _scaled(x, dx[1]))] if 1 in dx else []
        terms += [(dx[0], w)] if 0 in dx else []
        bias = (dx[2] if 2 in dx else np.zeros(b.shape)).astype(dy.dtype, copy=False)
        if not terms:
            dy[...] = bias
            return dy * (y.real > 0) if relu else dy
        images, weights = zip(*terms)
        for some, out in _affine(images, weights, bias, way, dy):
            if relu:
                out[...] = image.where_positive(y[some], out)
        return dy

    def pull(g):
        dtype, at = np.result_type(y, g), way.at
        d_matrix, db = np.zeros((way.width, way.columns), dtype), np.zeros(b.shape, dtype)
        dx = np.empty(x.shape, dtype) if 0 in wanted else None
        back = np.ascontiguousarray(way.arrange(w).T, dtype)
        (top, left), (h, w_) = at.before, x.shape[1:3]
        for some, rows, _ in _chunks(len(x), way, 1, dtype):
            part = np.ascontiguousarray(g[some], dtype)
            part = image.where_positive(y[some], part) if relu else part
            spread = way.spread(part)
            if 2 in wanted:
                flat = part.reshape(-1, len(b))
                db += np.ones(len(flat), dtype) @ flat
            if 1 in wanted:
                way.unfold(_padded(x[some], at), rows)
                d_matrix += blas.product_of_columns(rows, spread)
            if dx is not None:
                full = way.fold(blas.product(spread, back, rows), (len(part), *at.padded, x.shape[3]))
                dx[some] = full[:, top:top + h, left:left + w_]
        gs = {0: dx, 1: _scaled(x, way.restore(d_matrix)), 2: db}
        return tuple(gs[i] for i in wanted) if len(wanted) > 1 else gs[wanted[0]]
    return Linear(push, pull)


conv2d = primitive(_conv2d, joint=_conv2d_joint)
