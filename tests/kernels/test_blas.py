"""Products in pieces are products; pieces are small, and only for a BLAS that gains by them."""

import numpy as np
import pytest
from kernel_checks import interpreted

from trpo_np.kernels import blas


@pytest.mark.parametrize("in_place", [True, False])
def test_product_is_the_product_in_pieces_or_not(in_place, monkeypatch):
    monkeypatch.setattr(blas, "small", lambda: 4 * 5 * 3 + 1 if in_place else 0)
    rng = np.random.default_rng(0)
    for n in (0, 1, 3, 4, 8, 11):
        for dtype in (np.float32, np.float64):
            a, w = rng.standard_normal((n, 5)).astype(dtype), rng.standard_normal((5, 3)).astype(dtype)
            out = np.empty((n, 3), dtype)
            for rows in (a, np.asfortranarray(a)):
                np.testing.assert_allclose(blas.product(rows, w), a @ w, rtol=1e-6, atol=1e-6)
                assert blas.product(rows, w, out) is out
                np.testing.assert_allclose(out, a @ w, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("small", [0, 1000, 10**6])
def test_product_of_columns_is_that_of_the_transpose(small, monkeypatch):
    monkeypatch.setattr(blas, "small", lambda: small)
    rng = np.random.default_rng(0)
    for s in (0, 1, 65, 300):
        for dtype in (np.float32, np.float64):
            a, b = rng.standard_normal((s, 5)).astype(dtype), rng.standard_normal((s, 3)).astype(dtype)
            for columns in (a, np.asfortranarray(a)):
                found = blas.product_of_columns(columns, b)
                np.testing.assert_allclose(found, a.T @ b, rtol=1e-4, atol=1e-4)


def test_small_products_are_small():
    for n, m in (64, 64), (30, 50), (17, 64), (64, 1):
        rows = blas.rows_within(n, m, blas.SMALL)
        assert rows % 4 == 0 and rows * n * m <= blas.SMALL < (rows + 4) * n * m
    assert blas.rows_within(64, 64, 0) == 0 == blas.rows_within(2000, 1000, blas.SMALL)


@pytest.mark.parametrize("rows", [0, 4])
@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 4, 4), (7, 3, 6), (0, 3, 2), (3, 1, 1)])
def test_multiply_takes_few_rows_at_a_time_or_the_matrix_transposed(shape, rows, rng):
    n, k, m = shape
    a, w = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal((k, m)).astype(np.float32)
    for call in (blas.multiply, lambda *args: interpreted(blas.multiply, *args)):
        y = np.full((n, m), np.nan, np.float32)
        call(a, w if rows else np.ascontiguousarray(w.T), rows, y)
        np.testing.assert_allclose(y, a @ w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_several_threads_share_large_products(threads, monkeypatch):
    monkeypatch.setattr(blas, "blas_threads", lambda: threads)
    monkeypatch.setattr(blas, "reads_in_place", lambda: True)
    assert blas.small.__wrapped__() == (blas.SMALL if threads == 1 else 0)


@pytest.mark.parametrize("core, may", [
    (None, True), ("", True), ("SkylakeX", True), ("COOPERLAKE", True), ("Haswell", False)])
def test_small_products_are_not_for_another_processors_code(core, may, monkeypatch):
    config = {"Build Dependencies": {"blas": {"name": "scipy-openblas"}},
              "SIMD Extensions": {"baseline": [], "found": ["X86_V4"]}}
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    if core is None:
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    else:
        monkeypatch.setenv("OPENBLAS_CORETYPE", core)
    assert blas.reads_in_place.__wrapped__() == may


@pytest.mark.parametrize("name, extensions", [("mkl", ["X86_V4"]), ("scipy-openblas", ["AVX2"])])
def test_small_products_are_for_openblas_with_avx512(name, extensions, monkeypatch):
    config = {"Build Dependencies": {"blas": {"name": name}}, "SIMD Extensions": {"found": extensions}}
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert not blas.reads_in_place.__wrapped__()
