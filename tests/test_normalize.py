"""Merged statistics are those of all rows at once, whatever the batches and ranks."""

import math
from fractions import Fraction

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from trpo_np.comm import OneProcess
from trpo_np.normalize import Moments, ObservationNormalizer, RewardNormalizer, UsualSpread

ONE = OneProcess()


def assert_moments_of(moments, rows):
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(moments.m2, np.square(rows - rows.mean(0)).sum(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moments.std, rows.std(0), rtol=1e-9, atol=1e-9)


# --- moments ------------------------------------------------------------------------------------------------

@given(st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(any), st.integers(0, 10**6))
def test_merges_give_the_moments_of_all_rows(sizes, seed):
    rng = np.random.default_rng(seed)
    batches = [rng.standard_normal((n, 3)) * rng.uniform(0, 10) + rng.uniform(-100, 100) for n in sizes]
    moments = Moments(3)
    for batch in batches:
        moments.merge(batch, ONE)
    assert_moments_of(moments, np.concatenate(batches))


@pytest.mark.parametrize("sizes", [[[5, 3]], [[5, 0], [0, 2], [4, 1]], [[1, 2, 3], [0, 0, 0], [7, 0, 1]]])
def test_ranks_share_the_moments_of_all_rows(sizes):
    rng = np.random.default_rng(0)
    batches = [[rng.standard_normal((n, 2)) * 3 + 10 * rank for rank, n in enumerate(row)] for row in sizes]

    def run(comm):
        moments = Moments(2)
        for row in batches:
            moments.merge(row[comm.rank], comm)
        return moments
    results = reference.on_ranks(len(sizes[0]), run)
    for moments in results:
        assert_moments_of(moments, np.concatenate([batch for row in batches for batch in row]))
        assert moments.mean.tobytes() == results[0].mean.tobytes()
        assert moments.m2.tobytes() == results[0].m2.tobytes()


def test_numbers_whose_squares_overflow_are_left_out_with_a_word():
    moments, rows = Moments(2), np.array([[1.0, 2.0], [3.0, 5.0]])
    moments.merge(rows, ONE)
    with pytest.warns(UserWarning, match="left out of the running statistics: numbers in it are so large"):
        moments.merge(np.array([[1e200, 1.0]]), ONE)
    assert_moments_of(moments, rows)
    moments.merge(rows + 1, ONE)
    assert_moments_of(moments, np.concatenate([rows, rows + 1]))


def test_nothing_seen():
    moments = Moments(2)
    assert moments.count == 0 and moments.std.tolist() == [1, 1]
    moments.merge(np.zeros((0, 2)), ONE)
    assert moments.count == 0 and moments.mean.tolist() == [0, 0] and moments.std.tolist() == [1, 1]


def test_large_offsets_do_not_cancel():
    rng = np.random.default_rng(0)
    rows = 1e8 + rng.standard_normal((4000, 1))
    moments = Moments(1)
    for batch in np.split(rows, 8):
        moments.merge(batch, ONE)
    np.testing.assert_allclose(moments.std, rows.std(0), rtol=1e-6)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("offset, spread", [(1.7e9, 1.0), (1.7e9, 1e-3), (1.7e18, 1e5), (-3e15, 40.0),
                                            (0.1, 1e-9)])
def test_moments_are_exact_at_any_offset(offset, spread, ranks):
    rows = offset + spread * np.random.default_rng(0).standard_normal((600, 1))
    exact = [Fraction(float(x)) for x in rows[:, 0]]
    mean = sum(exact) / len(exact)
    m2 = sum((x - mean) ** 2 for x in exact)

    def run(comm):
        moments = Moments(1)
        for batch in np.split(rows, 3):
            moments.merge(np.array_split(batch, ranks)[comm.rank], comm)
        return moments
    for moments in reference.on_ranks(ranks, run):
        assert abs(Fraction(float(moments.mean[0])) - mean) <= 2 * Fraction(float(np.spacing(abs(offset))))
        rounding = np.spacing(abs(offset)) / spread  # of the mean, between merges, in standard deviations
        assert float(moments.m2[0]) == pytest.approx(float(m2), rel=1e-9 + 0.1 * rounding)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.7e9, -1e-7 / 3, 1e150, 1.7e18])
def test_a_constant_has_the_unit_1(value):
    moments = Moments(1)
    for n in (2048, 1, 777, 2048):
        moments.merge(np.full((n, 1), value), ONE)
        assert moments.unit.tolist() == [1]
        assert abs(moments.mean[0] - value) <= np.spacing(abs(value))


def test_what_varies_by_more_than_rounding_has_its_spread_as_unit():
    signs = np.array([[-1.0], [1.0]] * 50)
    for dtype, steps in (("float64", 2.0**-52), ("float32", 2.0**-23)):
        for mean, spread, counts in [(0, 1e-12, True), (0, 1e-14, True), (0, 5e-16, False),
                                     (1, 7 * steps, False), (1, 16 * steps, True),
                                     (-1e9, 2e10 * steps, True)]:
            moments = Moments(1, dtype)
            moments.merge(mean + spread * signs, ONE)
            assert (moments.unit == moments.std if counts else moments.unit == 1).all(), (dtype, mean, spread)


def test_float32_rows_are_summed_in_float64():
    rows = np.full((10**5, 1), 0.1, np.float32)
    moments = Moments(1)
    moments.merge(rows, ONE)
    np.testing.assert_allclose(moments.mean, float(np.float32(0.1)), rtol=1e-10)
    assert moments.mean.dtype == moments.m2.dtype == np.float64 and moments.std < 1e-8


def test_state_goes_out_and_in():
    moments, twin, rows = Moments(3), Moments(3), np.random.default_rng(0).standard_normal((9, 3))
    moments.merge(rows[:5], ONE)
    saved = {name: np.array(a) for name, a in moments.arrays().items()}
    twin.restore(moments.arrays())
    for m in (moments, twin):
        m.merge(rows[5:], ONE)
    assert twin.mean.tobytes() == moments.mean.tobytes() and twin.m2.tobytes() == moments.m2.tobytes()
    assert twin.count == 9
    twin.restore(saved)
    assert_moments_of(twin, rows[:5])


# --- observations -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normalised_observations_have_mean_zero_and_spread_one(dtype):
    rows = (np.random.default_rng(0).standard_normal((500, 3)) * [1, 20, 0.1] + [0, 5, -100]).astype(dtype)
    normalizer = ObservationNormalizer(3, True, dtype, clip=np.inf)
    normalizer.merge(rows, ONE)
    x = normalizer(rows)
    assert x.dtype == dtype
    expected = (rows - rows.mean(0, np.float64)) / rows.std(0, dtype=np.float64)
    np.testing.assert_allclose(x, expected, atol=1e-2 if dtype == "float32" else 1e-9)
    np.testing.assert_allclose([x.mean(0, np.float64), x.std(0, dtype=np.float64)], [[0] * 3, [1] * 3],
                               atol=1e-3)


def test_disabled_is_the_identity():
    normalizer, rows = ObservationNormalizer(2, False), np.array([[1e6, -1e6]], np.float32)
    normalizer.merge(rows, ONE)
    assert normalizer(rows) is rows and normalizer.moments.count == 0


def test_before_the_first_merge_it_only_clips():
    normalizer = ObservationNormalizer(2, True, clip=5)
    np.testing.assert_array_equal(normalizer(np.array([[1, -2], [9, -9]], np.float32)), [[1, -2], [5, -5]])


def test_clip_and_nan():
    normalizer = ObservationNormalizer(1, True, "float64")
    normalizer.merge(np.array([[-1.0], [1.0]]), ONE)
    x = normalizer(np.array([[0.5], [1e9], [-1e9], [np.nan]])).ravel()
    assert x[:3].tolist() == [0.5, 10, -10] and np.isnan(x[3])


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_constant_observation_becomes_zero_and_is_seen_in_its_own_units_when_it_moves(precision):
    normalizer = ObservationNormalizer(2, True, precision=precision)
    rows = np.array([[3.3, 0.0]] * 7, precision)
    normalizer.merge(rows, ONE)
    normalizer.merge(rows, ONE)
    np.testing.assert_allclose(normalizer(rows), np.zeros((7, 2)), atol=1e-15)
    np.testing.assert_allclose(normalizer(rows + 3), np.full((7, 2), 3), rtol=1e-6)
    assert np.abs(normalizer(rows + 100)).max() == 10
    normalizer.merge(rows + 1e-3, ONE)  # a third of what was seen
    np.testing.assert_allclose(normalizer(rows + 1e-3), np.full((7, 2), 2**0.5), rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float64_rows_are_shifted_and_scaled_before_they_are_cut(dtype):
    normalizer = ObservationNormalizer(3, True, dtype, precision="float64")
    rows = np.array([1.7e9, 1e39, 0]) + np.random.default_rng(0).standard_normal((400, 3)) * [1, 1e38, 1e-12]
    normalizer.merge(rows, ONE)
    x = normalizer(rows)
    assert x.dtype == dtype
    np.testing.assert_allclose(x, (rows - rows.mean(0)) / rows.std(0), atol=1e-6)
    assert (normalizer(np.array([[1e300, -1e300, 1]])) == [10, -10, 10]).all()


@pytest.mark.parametrize("scale", [1e-8, 1e-12])
def test_tiny_observations_have_spread_one(scale):
    rows = (scale * np.random.default_rng(0).standard_normal((500, 1))).astype(np.float32)
    normalizer = ObservationNormalizer(1, True)
    normalizer.merge(rows, ONE)
    assert normalizer(rows).std() == pytest.approx(1, rel=1e-5)


def test_what_is_not_normalised_is_cut_to_the_networks_type():
    rows = np.array([[1 / 3, 1.7e9]])
    for dtype in ("float32", "float64"):
        x = ObservationNormalizer(2, False, dtype, precision="float64")(rows)
        assert x.dtype == dtype and (x == rows.astype(dtype)).all()


def test_statistics_are_frozen_between_merges():
    normalizer, rng = ObservationNormalizer(2, True), np.random.default_rng(0)
    normalizer.merge(rng.standard_normal((50, 2)), ONE)
    rows = rng.standard_normal((4, 2)).astype(np.float32)
    first = normalizer(rows)
    np.testing.assert_array_equal(normalizer(rows), first)
    normalizer.merge(10 + rng.standard_normal((50, 2)), ONE)
    assert (normalizer(rows) != first).all()


def test_restored_observations_are_normalised_to_the_bit():
    rng = np.random.default_rng(0)
    normalizer, twin = ObservationNormalizer(3, True), ObservationNormalizer(3, True)
    normalizer.merge(rng.standard_normal((20, 3)), ONE)
    twin.restore(normalizer.moments.arrays())
    rows = rng.standard_normal((5, 3)).astype(np.float32)
    assert twin(rows).tobytes() == normalizer(rows).tobytes()


# --- rewards ------------------------------------------------------------------------------------------------

def segments(rng, shapes, offset=0.0):
    made = []
    for shape in shapes:
        done, valid = rng.random(shape) < 0.15, rng.random(shape) > 0.1
        made.append((np.where(valid, 3 * rng.standard_normal(shape) + offset, 0.0), done, valid))
    return made


@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_rewards_are_scaled_as_the_loops_do(offset):
    data = segments(np.random.default_rng(1), [(30, 3), (7, 3), (1, 3), (20, 3)], offset)
    assert any((done & ~valid).any() for _, done, valid in data)
    normalizer = RewardNormalizer(True, clip=1.0)
    normalizer.restart(3)
    expected = reference.scaled_rewards(data, 0.9, 1.0)
    assert max(np.abs(e).max() for e in expected) == 1.0  # some are clipped
    for (rewards, done, valid), want in zip(data, expected):
        copy = rewards.copy()
        np.testing.assert_allclose(normalizer(rewards, done, valid, 0.9, ONE), want, rtol=1e-11)
        np.testing.assert_array_equal(rewards, copy)


@pytest.mark.parametrize("scale", [1e-10, 1e12])
def test_the_scale_of_rewards_does_not_matter(scale):
    data, results = segments(np.random.default_rng(1), [(30, 3), (20, 3)]), []
    for factor in (1.0, scale):
        normalizer = RewardNormalizer(True)
        normalizer.restart(3)
        results.append([normalizer(factor * rewards, *rest, 0.9, ONE) for rewards, *rest in data])
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_invalid_rows_do_not_count():
    rng = np.random.default_rng(2)
    (rewards, done, valid), = segments(rng, [(40, 2)])
    strange = np.where(valid, rewards, 1e9)
    a, b = RewardNormalizer(True), RewardNormalizer(True)
    for normalizer, r in ((a, rewards), (b, strange)):
        normalizer.restart(2)
        normalizer(r, done, valid, 0.9, ONE)
    assert a.moments.count == b.moments.count == valid.sum()
    np.testing.assert_array_equal(a.moments.std, b.moments.std)


def test_ranks_scale_by_the_returns_of_all():
    data = segments(np.random.default_rng(3), [(25, 4), (10, 4)])

    def run(comm, columns=2):
        normalizer, mine = RewardNormalizer(True), slice(columns * comm.rank, columns * (comm.rank + 1))
        normalizer.restart(columns)
        return [normalizer(*(part[:, mine] for part in segment), 0.95, comm) for segment in data]
    for i, whole in enumerate(run(ONE, columns=4)):
        np.testing.assert_allclose(np.hstack([parts[i] for parts in reference.on_ranks(2, run)]), whole,
                                   rtol=1e-11)


def test_restart_forgets_unfinished_episodes_but_not_the_statistics():
    normalizer, never, always = RewardNormalizer(True), np.zeros((1, 1), bool), np.ones((1, 1), bool)
    normalizer.restart(1)
    normalizer(np.array([[4.0]]), never, always, 0.5, ONE)
    normalizer.restart(1)
    normalizer(np.array([[8.0]]), never, always, 0.5, ONE)
    assert normalizer.moments.count == 2 and normalizer.moments.mean == 6  # 8, not 8 + 0.5 * 4


def test_constant_and_disabled_rewards():
    rewards, done, valid = np.ones((3, 1)), np.ones((3, 1), bool), np.ones((3, 1), bool)
    normalizer = RewardNormalizer(True)
    normalizer.restart(1)
    # no spread: in their own units, and clipped
    assert normalizer(3 * rewards, done, valid, 0.9, ONE).tolist() == [[3.0]] * 3
    normalizer = RewardNormalizer(True)
    normalizer.restart(1)
    assert normalizer(30 * rewards, done, valid, 0.9, ONE).tolist() == [[10.0]] * 3
    assert RewardNormalizer(False)(rewards, done, valid, 0.9, ONE) is rewards


def test_the_usual_spread_is_a_mean_of_squares_in_which_old_batches_fade():
    usual, spreads = UsualSpread(), np.random.default_rng(0).uniform(1, 2, 40)
    shares = [usual.share(spread) for spread in spreads[:20]]
    means = np.cumsum(spreads[:20] ** 2) / np.arange(1, 21)
    assert np.allclose(shares, np.minimum(1, spreads[:20] ** 2 / means), rtol=1e-12)
    square = means[-1]
    for spread in spreads[20:]:
        usual.share(spread)
        square = 0.95 * square + 0.05 * spread ** 2
    assert np.isclose(usual.square, square, rtol=1e-12)
    assert usual.share(math.nan) == usual.share(math.inf) == 1 and usual.count == 40
    assert UsualSpread().share(0.0) == 1 and usual.share(0.0) == 0
