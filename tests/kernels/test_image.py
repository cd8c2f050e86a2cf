"""Loops over images: loop, compiled loop and NumPy twin agree, and each is what it says."""

import numpy as np
import pytest
from kernel_checks import bodies, body, check_agreement, check_nan, kernels_of, with_nan

from trpo_np.kernels import image


def col2im_cases(rng):
    found = []
    for shape, size, stride in [((2, 5, 6, 3), (3, 2), (1, 2)), ((1, 4, 4, 1), (4, 4), (2, 2)),
                                ((3, 7, 5, 2), (2, 2), (3, 1)), ((0, 3, 3, 1), (2, 2), (1, 1))]:
        n, height, width, c = shape
        down, across = (height - size[0]) // stride[0] + 1, (width - size[1]) // stride[1] + 1
        cols = rng.standard_normal((n * down * across, size[0] * size[1] * c)).astype(np.float32)
        found.append((cols, shape, size, stride))
    return found


def add_blocks_cases(rng):
    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)
    return [(draw(n, h, w, 4 * c), draw(c)) for n, h, w, c in
            [(2, 3, 4, 8), (1, 2, 2, 1), (3, 4, 2, 5), (0, 2, 2, 3)]]


def spread_blocks_cases(rng):
    return [(rng.standard_normal(shape).astype(np.float32),)
            for shape in [(2, 2, 3, 8), (1, 1, 1, 1), (3, 3, 1, 5), (0, 1, 1, 3)]]


def interleave_cases(rng):
    return [(rng.integers(0, 256, (m, size), dtype=np.uint8), rng.integers(0, m, (n, c))) for m, size, n, c in
            [(9, 12, 4, 4), (3, 5, 2, 4), (5, 7, 3, 3), (2, 4, 2, 1), (1, 3, 0, 4), (6, 1, 2, 6)]]


def where_positive_cases(rng):
    return [tuple(rng.standard_normal((2, *shape)).astype(np.float32))
            for shape in [(2, 3, 4, 5), (1, 1, 1, 1), (3, 2, 2, 3), (0, 2, 2, 3)]]


# each kernel's cases, the tolerance (sums may be associated differently), and the argument through which a
# NaN may come in; bytes hold none
TABLE = {image.col2im: (col2im_cases, 1e-6, 0), image.add_blocks: (add_blocks_cases, 1e-6, 0),
         image.spread_blocks: (spread_blocks_cases, 0, 0), image.interleave: (interleave_cases, 0, None),
         image.where_positive: (where_positive_cases, 0, 1)}


def test_all_kernels_are_here():
    assert TABLE.keys() == kernels_of(image)


@pytest.mark.parametrize("kernel", TABLE, ids=lambda kernel: kernel.__name__)
def test_bodies_agree(kernel, rng):
    cases, tolerance, _ = TABLE[kernel]
    check_agreement(kernel, cases(rng), tolerance)


@pytest.mark.parametrize("kernel", [k for k in TABLE if k is not image.interleave], ids=lambda k: k.__name__)
def test_nan_stays_nan_where_it_is(kernel, rng):
    cases, _, position = TABLE[kernel]
    check_nan(kernel, with_nan(cases(rng), position))


@pytest.mark.parametrize("name", bodies(image.col2im))
def test_col2im_is_the_transpose_of_cutting_windows_out(name, rng):
    for cols, shape, size, stride in col2im_cases(rng):
        x = rng.standard_normal(shape).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))[:, ::stride[0], ::stride[1]]
        cut = np.moveaxis(windows, 3, 5).reshape(cols.shape)
        images = body(image.col2im, name)(cols, shape, size, stride)
        left, right = np.sum(cut * cols, dtype=float), np.sum(x * images, dtype=float)
        np.testing.assert_allclose(left, right, rtol=1e-5)


@pytest.mark.parametrize("name", bodies(image.spread_blocks))
def test_spread_blocks_is_the_transpose_of_add_blocks(name, rng):
    for z, bias in add_blocks_cases(rng):
        added = body(image.add_blocks, name)(z, 0 * bias)
        g = rng.standard_normal(added.shape).astype(np.float32)
        spread = body(image.spread_blocks, name)(g)
        left, right = np.sum(added * g, dtype=float), np.sum(z * spread, dtype=float)
        np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize("name", bodies(image.interleave))
def test_interleave_puts_planes_side_by_side(name, rng):
    for planes, index in interleave_cases(rng):
        found = body(image.interleave, name)(planes, index)
        for i, row in enumerate(index):
            for k, plane in enumerate(row):
                np.testing.assert_array_equal(found[i, :, k], planes[plane])


@pytest.mark.parametrize("name", bodies(image.where_positive))
def test_where_positive_is_the_derivative_of_relu(name, rng):
    for y, v in where_positive_cases(rng):
        y.flat[:1] = 0  # of which none passes
        np.testing.assert_array_equal(body(image.where_positive, name)(y, v), v * (y > 0))
