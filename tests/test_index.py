"""Elements by labels, and labels of elements, against NumPy: exact, within their buffers, alike on any threads."""

import math

import numpy as np
import pytest

from native import on_threads
from native.index import arg_extreme, first_rows, flat_index, gather, one_hot, scatter_add, top
from reference import index as twin

DTYPES = (np.float32, np.float64)
SHAPES = [(7,), (5, 1), (1, 9), (6, 17), (4, 3, 130), (2, 5, 1), (300, 2), (2, 70, 129)]
THREADS = (1, 2, 3, 8)


def cases(dtype):
    """x, a list of labels and labels for each element, along each axis."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x = rng.integers(-9, 10, shape).astype(dtype)
        for axis, size in enumerate(shape):
            yield x, rng.integers(0, size, 11), axis
            if len(shape) > 1:
                yield x, rng.integers(0, size, (*shape[:axis], 6, *shape[axis + 1 :])), axis


@pytest.mark.parametrize("dtype", [*DTYPES, np.int64])
def test_what_labels_name_is_read(dtype, guarded):
    for x, index, axis in cases(dtype):
        want = twin.gather(x, index, axis)
        for got in on_threads(lambda: gather(x, index, axis), THREADS):  # noqa: B023
            np.testing.assert_array_equal(got, want)
        got = gather(guarded(x), guarded(index), axis, out=guarded(np.zeros_like(want)))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_labels_name_is_added_to(dtype, guarded):
    for x, index, axis in cases(dtype):
        dy = np.random.default_rng(1).integers(-5, 6, twin.gather(x, index, axis).shape).astype(dtype)
        want = twin.scatter_add(x, dy, index, axis)
        for got in on_threads(lambda: scatter_add(x.copy(), dy, index, axis), THREADS):  # noqa: B023
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(scatter_add(guarded(x), guarded(dy), guarded(index), axis), want)


def test_many_labels_take_several_rounds_and_the_same_bits():
    rng = np.random.default_rng(2)
    dy, index = rng.standard_normal((400_000, 3)).astype(np.float32), rng.integers(0, 5, 400_000)
    first, *others = on_threads(lambda: scatter_add(np.zeros((5, 3), np.float32), dy, index, 0), THREADS)
    want = np.zeros((5, 3), np.float32)
    np.add.at(want, index, dy)
    np.testing.assert_array_equal(first, want)
    assert all(other.tobytes() == first.tobytes() for other in others)


def test_the_first_of_equal_labels_is_found_whatever_was_marked_before(guarded):
    rng = np.random.default_rng(2)
    for n, length in [(1, 1), (9, 4), (500, 30), (700_000, 90)]:
        index = rng.integers(0, length, n)
        index[1:6:3] = [-1, 2**62][: len(index[1:6:3])]
        want = twin.first_rows(index, length)
        for mark in (0, -1, 7, 2**62):
            marks = np.full(length, mark)
            for got in on_threads(lambda: first_rows(index, length, mark=marks), (1, 3)):  # noqa: B023
                np.testing.assert_array_equal(got, want)
        out = guarded(np.zeros(n, np.int64))
        got = first_rows(guarded(index), length, out=out, mark=guarded(np.zeros(length, np.int64)))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_labels_name_are_summed_anew_and_others_left(dtype, guarded):
    rng = np.random.default_rng(3)
    for length, width, n in [(5, 3, 9), (40, 130, 70), (3, 1, 1), (7, 2, 300_000)]:
        index, dy = rng.integers(0, length, n), rng.standard_normal((n, width)).astype(dtype)
        dy[:1] = -0.0
        rows = first_rows(index, length)
        want = scatter_add(np.zeros((length, width), dtype), dy, index, 0)
        named = np.isin(np.arange(length), index)
        want[~named] = np.nan
        for got in on_threads(lambda: scatter_add(np.full_like(want, np.nan), dy, index, 0, rows), THREADS):  # noqa: B023
            assert got.tobytes() == want.tobytes()
        got = scatter_add(guarded(np.full_like(want, np.nan)), guarded(dy), guarded(index), 0, guarded(rows))
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_out_of_range_read_nan_and_add_nothing(dtype, guarded):
    x = np.arange(6, dtype=dtype).reshape(3, 2)
    bad = np.array([-1, 3, 2**62, -(2**62), 1])
    got = gather(guarded(x), bad, 0)
    assert np.isnan(got[:4]).all()
    np.testing.assert_array_equal(got[4], x[1])
    full = np.stack([bad, bad], 1)
    assert np.isnan(gather(guarded(x), full, 0)[:4]).all()
    for index in (bad, full):
        np.testing.assert_array_equal(
            scatter_add(guarded(x), np.ones((5, 2), dtype), index, 0), x + np.array([[0], [1], [0]])
        )
    assert (gather(np.array([5, 6]), np.array([2, 1]), 0) == [0, 6]).all()
    np.testing.assert_array_equal(one_hot(np.array([-1, 1, 2]), 2, dtype), [[0, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_first_extreme_is_found(kind, dtype, guarded):
    rng = np.random.default_rng(3)
    for shape in [*SHAPES, (1_000_003,), (200_001, 3)]:
        x = rng.integers(-3, 4, shape).astype(dtype)
        for axis in range(len(shape)):
            want = twin.arg_extreme(kind, x, axis)
            for got in on_threads(lambda: arg_extreme(kind, x, axis), (1, 3)):  # noqa: B023
                np.testing.assert_array_equal(got, want)
            out = guarded(np.zeros(want.shape, np.int64))
            np.testing.assert_array_equal(arg_extreme(kind, guarded(x), axis, out=out), want)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_first_nan_wins_and_infinities_are_ordered(kind):
    for row in ([1, math.nan, 3, math.nan], [math.nan, math.inf], [math.inf, -math.inf, math.inf], [-math.inf] * 3):
        x = np.array(row)
        assert arg_extreme(kind, x, 0) == twin.arg_extreme(kind, x, 0)
        assert (arg_extreme(kind, np.stack([x, x], 1), 0) == twin.arg_extreme(kind, x, 0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_top_are_those_of_a_stable_sort(kind, dtype, guarded):
    rng = np.random.default_rng(3)
    for shape in [*SHAPES, (300_007,), (50_001, 3)]:
        x = (rng.integers(-3, 4, shape) if rng.random() < 0.5 else rng.normal(size=shape)).astype(dtype)
        x[rng.random(shape) < 0.1] = rng.choice([math.nan, math.inf, -math.inf, 0.0, -0.0])
        for axis, size in enumerate(shape):
            for count in {1, min(size, 3), min(size, 1000), size}:
                want = twin.top(kind, x, count, axis)
                for got in on_threads(lambda: top(kind, x, count, axis), (1, 3)):  # noqa: B023
                    np.testing.assert_array_equal(got, want)
                out = guarded(np.zeros(want.shape, np.int64))
                np.testing.assert_array_equal(top(kind, guarded(x), count, axis, out=out), want)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_top_of_rising_and_falling_rows_are_their_ends(kind):
    for x in (np.arange(5000.0), -np.arange(5000.0), np.zeros(5000)):
        for count in (1, 7, 5000):
            np.testing.assert_array_equal(top(kind, x, count, 0), twin.top(kind, x, count, 0))


def test_one_hot_rows_and_flat_labels(isa):
    rng = np.random.default_rng(4)
    for n, classes in [(1, 1), (7, 3), (1000, 37), (3, 50_000), (50_000, 2)]:
        index = rng.integers(0, classes, n)
        for dtype in DTYPES:
            for got in on_threads(lambda: one_hot(index, classes, dtype), (1, 3)):  # noqa: B023
                np.testing.assert_array_equal(got, twin.one_hot(index, classes))
    i, j, k = (rng.integers(0, size, 20_000) for size in (4, 5, 6))
    np.testing.assert_array_equal(flat_index([i, j, k], [30, 6, 1]), np.ravel_multi_index((i, j, k), (4, 5, 6)))
