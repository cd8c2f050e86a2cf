"""Matrix products in pieces that suit BLAS."""

import functools
import os

import numpy as np

from .compile import helper
from .threads import blas_threads

SMALL = 10**6  # up to so many multiplications OpenBLAS, where it can, reads the matrices where they lie


@functools.cache
def reads_in_place() -> bool:
    """Say whether NumPy's BLAS computes small products without copying matrices: OpenBLAS with AVX-512 does.

    Such products run at up to 1.2 times the speed of large ones, those of a few rows at 3 times; elsewhere at
    half of it. OPENBLAS_CORETYPE may tell OpenBLAS to take another processor's code.
    """
    code = os.environ.get("OPENBLAS_CORETYPE", "").lower()
    if code not in ("", "skylakex", "cooperlake", "sapphirerapids"):
        return False
    config: dict = np.show_config(mode="dicts")  # type: ignore[assignment]
    blas, found = config.get("Build Dependencies", {}).get("blas", {}), config.get("SIMD Extensions", {})
    names = {*found.get("baseline", ()), *found.get("found", ())}
    return "openblas" in str(blas.get("name")) and not names.isdisjoint(("AVX512_SKX", "X86_V4"))


@functools.cache
def small() -> int:
    """Return the most multiplications in a product that is faster for being small; 0 where none is.

    None is with several threads, which share a large product, but not a small one.
    """
    return SMALL if reads_in_place() and blas_threads() == 1 else 0


def product(a, w, out=None):
    """Return a @ w of rows a (s, n) and w (n, m), in several small products where these are faster."""
    n, m = w.shape
    rows = rows_within(n, m, small()) if a.dtype == w.dtype == np.float32 and a.flags.c_contiguous else 0
    if not rows:
        return np.matmul(a, w, out=out)
    out = np.empty((len(a), m), a.dtype) if out is None else out
    whole = len(a) // rows * rows
    np.matmul(a[:whole].reshape(-1, rows, n), w, out=out[:whole].reshape(-1, rows, m))
    if whole < len(a):
        np.matmul(a[whole:], w, out=out[whole:])
    return out


def product_of_columns(a, b):
    """Return a.T @ b of rows a (s, n) and b (s, m), as a sum of small products where these are faster."""
    n, m = a.shape[1], b.shape[1]
    fits = a.dtype == b.dtype == np.float32 and a.flags.c_contiguous and b.flags.c_contiguous
    rows = rows_within(n, m, small()) if fits else 0
    if rows < 64 or len(a) < rows:  # with fewer, adding the products up takes as long as computing them
        return a.T @ b
    whole = len(a) // rows * rows
    out = np.matmul(a[:whole].reshape(-1, rows, n).transpose(0, 2, 1), b[:whole].reshape(-1, rows, m)).sum(0)
    return out + a[whole:].T @ b[whole:]


@helper
def rows_within(n, m, small):
    # how many rows times a matrix (n, m) are at most `small` multiplications; a multiple of 4, as suits BLAS
    return small // (n * m) // 4 * 4


@helper
def multiply(a, w, rows, y):
    # y = a @ w, `rows` at a time (see rows_within), or, if `rows` is 0, y = a @ w.T
    if rows:
        for r in range(0, len(a), rows):
            np.dot(a[r:r + rows], w, y[r:r + rows])
    else:
        multiply_transposed(a, w, y)


@helper
def multiply_transposed(a, w, y):
    # y = a @ w.T for few rows, for which BLAS would copy w at each step. In blocks of 2 rows and 4 columns;
    # those at the edges are filled up by computing the last row or column again
    n, m = a.shape[0], w.shape[0]
    for i in range(0, m, 4):
        i1, i2, i3 = min(i + 1, m - 1), min(i + 2, m - 1), min(i + 3, m - 1)
        w0, w1, w2, w3 = w[i], w[i1], w[i2], w[i3]
        for r in range(0, n, 2):
            q = min(r + 1, n - 1)
            a0, a1 = a[r], a[q]
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0)
            for j in range(a0.size):
                s0 += a0[j] * w0[j]
                s1 += a0[j] * w1[j]
                s2 += a0[j] * w2[j]
                s3 += a0[j] * w3[j]
                t0 += a1[j] * w0[j]
                t1 += a1[j] * w1[j]
                t2 += a1[j] * w2[j]
                t3 += a1[j] * w3[j]
            y[r, i], y[r, i1], y[r, i2], y[r, i3] = s0, s1, s2, s3
            y[q, i], y[q, i1], y[q, i2], y[q, i3] = t0, t1, t2, t3
