"""Reductions against float64 twins: exact on small integers, accurate and reproducible."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn_ext import runtime

from native import on_threads
from native.reduce import PIECES, REDUCE, cumsum, reduce
from reference import reduce as twin

DTYPES = (np.float32, np.float64)
# Each number of whole vectors, chains and blocks, with and without a rest, on every ISA.
LENGTHS = [*range(1, 71), 127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1025, 1536, 1543, 5000]


def eps(dtype):
    return {np.float32: 2.0**-24, np.float64: 2.0**-53}[dtype]


def integers(shape, dtype, seed=0, kind=None):
    """Small ones; for a product 1 and -1, and a few of 2 and 4, which stay exact."""
    x = np.random.default_rng(seed).integers(-8, 9, shape)
    if kind == "prod":
        places = np.random.default_rng(seed).random(shape) < min(1.0, 20 / np.prod(shape))
        x = np.where(x < 0, -1, 1) * np.where(places, 2 + 2 * (x % 2), 1)
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", REDUCE)
def test_rows_of_small_integers_are_exact(isa, dtype, kind):
    for n in LENGTHS:
        x = integers((3, n), dtype, n, kind=kind)
        y = reduce(kind, x, 1)
        assert y.dtype == dtype
        assert y.shape == (3,)
        np.testing.assert_array_equal(y, twin.reduce(kind, x, 1).astype(dtype))
        np.testing.assert_array_equal(reduce(kind, x), twin.reduce(kind, x).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", REDUCE)
def test_columns_of_small_integers_are_exact(isa, dtype, kind):
    for n, inner in itertools.product([1, 2, 15, 16, 17, 33, 100, 1000], [2, 3, 5, 8, 16, 17, 64, 70, 129, 300]):
        x = integers((n, inner), dtype, n, kind=kind)
        np.testing.assert_array_equal(reduce(kind, x, 0), twin.reduce(kind, x, 0).astype(dtype))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.data(), st.sampled_from(REDUCE))
def test_any_axis_of_any_shape_is_reduced(shape, data, kind):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = integers(shape, np.float32, kind=kind)
    np.testing.assert_array_equal(reduce(kind, x, axis), twin.reduce(kind, x, axis).astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1_000_003,), (100_003, 3), (20_011, 17), (3, 70_001)])
def test_long_sums_stay_close_to_the_exact_ones(isa, dtype, shape):
    rng = np.random.default_rng(1)
    for x in (
        rng.random(shape),
        rng.standard_normal(shape),
        np.exp(4 * rng.standard_normal(shape)),
    ):
        x = x.astype(dtype)
        for axis in range(len(shape)):
            error = np.abs(reduce("sum", x, axis) - twin.reduce("sum", x, axis))
            assert (error <= 8 * eps(dtype) * twin.reduce("sum", np.abs(x), axis)).all()


def test_a_million_equal_terms_lose_nothing_to_naive_addition(isa):
    """Sixteen million ones are where adding one by one stops at 2^24."""
    x = np.ones(2**24 + 2**20, np.float32)
    assert reduce("sum", x) == len(x)
    assert reduce("sum", x.reshape(-1, 2), 0).tolist() == [len(x) / 2] * 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", REDUCE)
def test_nan_and_infinities_are_found_in_every_lane(isa, dtype, kind):
    for value, n in itertools.product([math.nan, math.inf, -math.inf, -0.0], [19, 70]):
        for place in range(n):
            x = np.full((n, 5), -2.0, dtype)
            x[place, 3] = value
            want = twin.reduce(kind, x, 0).astype(dtype)
            np.testing.assert_array_equal(reduce(kind, x, 0), want)
            np.testing.assert_array_equal(reduce(kind, np.ascontiguousarray(x.T), 1), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_wins_wherever_it_stands_in_a_long_row(isa, dtype):
    x = np.zeros(1543, dtype)
    for place in [*range(0, 40), 511, 512, 700, 1023, 1024, 1500, *range(1530, 1543)]:
        x[place] = math.nan
        for kind in REDUCE:
            assert math.isnan(reduce(kind, x))
        x[place] = 0


@pytest.mark.parametrize("kind", REDUCE)
@pytest.mark.parametrize("shape", [(1000,), (1000, 1), (1000, 7), (3, 130, 40), (2, 65, 1), (1, 3, 2)])
@pytest.mark.parametrize("pieces", [2, 7, PIECES])
def test_pieces_are_partial_results_that_reduce_to_the_whole(isa, kind, shape, pieces):
    axis = 1 if len(shape) == 3 else 0
    x = integers(shape, np.float64, kind=kind)
    parts = reduce(kind, x, axis, pieces=pieces)
    want = twin.reduce_pieces(kind, x, axis, pieces)
    assert parts.shape == want.shape
    np.testing.assert_array_equal(parts, want)
    whole = reduce("sum" if kind == "mean" else kind, parts, axis)
    np.testing.assert_allclose(whole, twin.reduce(kind, x, axis), rtol=1e-14, atol=1e-14)


def test_there_are_64_pieces():
    assert PIECES == 64
    assert REDUCE == ("sum", "mean", "max", "min", "prod")


@pytest.mark.parametrize("kind", REDUCE)
def test_results_take_the_place_of_what_is_there(isa, kind):
    for shape, axis in [((5, 70), 1), ((70, 5), 0), ((70, 37), 0), ((2, 3, 4), 1)]:
        x = integers(shape, np.float32, kind=kind)
        want = twin.reduce(kind, x, axis).astype(np.float32)
        out = np.full(want.shape, 3.0, np.float32)
        reduce(kind, x, axis, out=out)
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("kind", REDUCE)
@pytest.mark.parametrize(("shape", "axis"), [((2, 3_500_003), 1), ((250_001, 20), 0), ((2, 40_001, 131), 1)])
def test_what_is_cut_into_segments_is_as_exact(isa, kind, shape, axis):
    x = integers(shape, np.float32, kind=kind)
    want = twin.reduce(kind, x.astype(np.float64), axis).astype(np.float32)
    for got in on_threads(lambda: reduce(kind, x, axis)):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", REDUCE)
def test_the_bits_do_not_depend_on_the_threads(isa, kind, threads):
    rng = np.random.default_rng(2)
    inputs = [
        (rng.standard_normal(shape).astype(np.float32), axis, pieces)
        for shape, axis, pieces in [
            ((400, 1000), 1, 1),
            ((1000, 400), 0, 1),
            ((30, 100, 101), 1, 1),
            ((400_009,), 0, PIECES),
            ((40_009, 10), 0, PIECES),
            ((3, 50_000), 1, PIECES),
            ((100_000, 5), 1, 1),
        ]
    ]
    got = [reduce(kind, x, axis, pieces=pieces) for x, axis, pieces in inputs]
    runtime.set_num_threads(1)
    for y, (x, axis, pieces) in zip(got, inputs, strict=True):
        np.testing.assert_array_equal(y, reduce(kind, x, axis, pieces=pieces))


@pytest.mark.parametrize("kind", REDUCE)
def test_a_rows_bits_do_not_depend_on_the_other_rows(isa, kind):
    x = np.random.default_rng(3).standard_normal((500, 777)).astype(np.float32)
    whole = reduce(kind, x, 1)
    for i in range(500):
        assert reduce(kind, x[i]) == whole[i]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tails_stop_at_the_end_of_their_buffers(isa, guarded, dtype):
    for n in range(1, 71):
        for shape in [(n,), (2, n), (n, 2), (2, n, 3), (3, n // 3 + 1)]:
            x = integers(shape, dtype)
            end = guarded(x)
            for kind, axis in itertools.product(REDUCE, range(len(shape))):
                want = reduce(kind, x, axis)
                np.testing.assert_array_equal(reduce(kind, end, axis, out=guarded(np.zeros_like(want))), want)


def test_sums_over_nothing_are_zero(isa):
    for shape, axis in [((0,), 0), ((0, 3), 0), ((2, 0, 3), 1), ((2, 0), 1)]:
        np.testing.assert_array_equal(reduce("sum", np.zeros(shape), axis), np.zeros(shape).sum(axis))
    assert reduce("max", np.zeros((0, 3)), 1).shape == (0,)
    assert reduce("sum", np.array(3.0)) == 3


# ---- cumsum ----


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_running_sums_of_small_integers_are_exact(dtype, reverse):
    for shape in [(1,), (7,), (3, 5), (5, 3), (2, 3, 4), (4, 300), (300, 4), (3, 1, 200), (2_000_003,), (400_001, 3)]:
        x = integers(shape, dtype)
        for axis in range(len(shape)):
            want = twin.cumsum(x, axis, reverse).astype(dtype)
            for got in on_threads(lambda: cumsum(x, axis, reverse), (1, 2, 8)):  # noqa: B023
                np.testing.assert_array_equal(got, want)


def test_a_long_running_sum_is_kept_in_float64():
    x = np.random.default_rng(0).random(3_000_000).astype(np.float32)
    want = np.cumsum(x.astype(np.float64))
    np.testing.assert_array_equal(cumsum(x, 0), want.astype(np.float32))


def test_running_sums_stop_at_the_ends_and_go_on_from_nan(guarded):
    for n in range(1, 20):
        x = integers((3, n), np.float32)
        np.testing.assert_array_equal(cumsum(guarded(x), 0, out=guarded(np.zeros_like(x))), np.cumsum(x, 0))
    np.testing.assert_array_equal(cumsum(np.array([1.0, math.inf, 2, -math.inf, 1]), 0)[:3], [1, math.inf, math.inf])
    assert np.isnan(cumsum(np.array([1.0, math.inf, 2, -math.inf, 1]), 0)[3:]).all()
