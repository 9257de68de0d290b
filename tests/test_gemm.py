"""Matrix products: exact on small integers, within rounding on real data, any strides, any threads."""

import numpy as np
import pytest

from guarded import guarded
from native import on_threads
from native.activation import ACTIVATIONS, activation, activation_backward
from native.gemm import gemm, packed_columns, row_parts
from reference import gemm as twin

DTYPES = [np.float32, np.float64]
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
# Every remainder of every tile, sizes that cross the blocks of k and of columns, and those that are
# computed the other way round (few columns), from a copy of A (many columns; rows 4 KiB apart), or, of one row, in
# parts.
SHAPES = [
    *((m, n, k) for m in (1, 2, 5, 6, 7, 13, 14, 15) for n in (1, 7, 8, 9, 16, 31, 33) for k in (1, 3, 17)),
    (32, 512, 784), (70, 70, 70), (3, 600, 513), (257, 10, 300), (1, 300, 700), (300, 1, 700), (129, 65, 257),
    (26, 300, 1024), (129, 300, 257),
    (1, 260, 1100), (1, 1030, 401), (1, 70000, 3), (2, 1030, 401),
]  # fmt: skip
# Products whose B is copied once for all chunks: with a last panel of one vector or two, and of some columns.
LARGE = [(288, 129, 463), (301, 160, 400), (450, 535, 300)]


def integers(rng, shape, dtype, largest=4):
    return rng.integers(-largest, largest + 1, shape).astype(dtype)


def operands(rng, shape, dtype, ta, tb, make):
    m, n, k = shape
    return make(rng, (k, m) if ta else (m, k), dtype), make(rng, (n, k) if tb else (k, n), dtype)


def plain(a, b, ta, tb):
    return a.T if ta else a, b.T if tb else b


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ta", "tb"), [(False, False), (False, True), (True, False), (True, True)])
def test_small_integers_are_exact_in_every_transpose_and_shape(isa, dtype, ta, tb):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        a, b = operands(rng, shape, dtype, ta, tb, integers)
        bias = integers(rng, shape[1], dtype)
        expected = twin.gemm(*plain(a, b, ta, tb), bias=bias)
        np.testing.assert_array_equal(gemm(a, b, bias=bias, transpose_a=ta, transpose_b=tb), expected, str(shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ta", "tb"), [(False, False), (False, True), (True, False), (True, True)])
def test_a_large_product_reads_one_copy_of_its_right_operand(isa, dtype, ta, tb):
    rng = np.random.default_rng(7)
    for shape in LARGE:
        assert packed_columns(*shape, np.dtype(dtype).itemsize)
        a, b = operands(rng, shape, dtype, ta, tb, integers)
        bias = integers(rng, shape[1], dtype)
        left, right = plain(a, b, ta, tb)
        expected = np.maximum(left.astype(np.int64) @ right.astype(np.int64) + bias, 0)
        result = gemm(a, b, bias=bias, activation="relu", transpose_a=ta, transpose_b=tb)
        np.testing.assert_array_equal(result, expected, str(shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 3, 5])
def test_long_sums_of_few_rows_are_cut_into_no_more_pieces_than_there_are_rows(isa, m, dtype):
    one = np.ones(1, dtype)
    for n in (24, 40, 71, 72, 96, 160):
        for k in (10000, 50000, 400000):
            a, b = np.broadcast_to(one, (m, k)), np.broadcast_to(one, (n, k))
            np.testing.assert_array_equal(gemm(a, b, transpose_b=True), np.full((m, n), k, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ta", "tb"), [(False, False), (False, True), (True, False)])
def test_real_data_stay_within_eight_roundings(isa, dtype, ta, tb):
    rng = np.random.default_rng(1)

    def normal(rng, shape, dtype):
        return rng.standard_normal(shape).astype(dtype)

    for shape in SHAPES[-9:]:
        a, b = operands(rng, shape, dtype, ta, tb, normal)
        bias = normal(rng, shape[1], dtype)
        left, right = plain(a, b, ta, tb)
        expected = twin.gemm(left, right, bias=bias)
        bound = 8 * UNIT[dtype] * twin.magnitude(left, right, bias=bias)
        result = gemm(a, b, bias=bias, transpose_a=ta, transpose_b=tb)
        if dtype == np.float64:  # the twin itself rounds
            bound = 2 * bound
        assert (np.abs(result - expected) <= bound).all(), shape


@pytest.mark.parametrize(
    "shape", [(32, 512, 784), (784, 512, 32), (1024, 256, 512), (200, 10, 300), (1, 2000, 500), LARGE[2]]
)
def test_the_bits_do_not_depend_on_the_threads(isa, shape):
    rng = np.random.default_rng(2)
    m, n, k = shape
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    results = on_threads(lambda: gemm(a, b, activation="tanh"))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_every_activation_is_the_one_of_its_stem(isa, dtype, kind):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((13, 21)).astype(dtype), rng.standard_normal((21, 37)).astype(dtype)
    saved = rng.standard_normal((13, 37)).astype(dtype)
    plain_product = gemm(a, b)
    np.testing.assert_array_equal(gemm(a, b, activation=kind, alpha=0.3), activation(kind, plain_product, alpha=0.3))
    np.testing.assert_array_equal(
        gemm(a, b, saved=saved, activation_grad=kind, alpha=0.3),
        activation_backward(kind, plain_product, saved, alpha=0.3),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_in_parts_has_the_epilogue_of_any_product(isa, dtype):
    m, n, k = 1, 2100, 401
    assert row_parts(n, k, np.dtype(dtype).itemsize) > 1
    rng = np.random.default_rng(6)
    a, b, bias, saved = (integers(rng, s, dtype) for s in ((m, k), (k, n), (n,), (m, n)))
    np.testing.assert_array_equal(gemm(a, b, bias=bias, activation="relu"), np.maximum(a @ b + bias, 0))
    np.testing.assert_array_equal(gemm(a, b, saved=saved, activation_grad="relu"), a @ b * (saved > 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_row_in_parts_is_cut_into_strips_and_rounds(isa, dtype):
    rng = np.random.default_rng(8)
    n, k = 4100, 40_000
    a, row = integers(rng, (1, k), dtype), integers(rng, n, dtype)
    for c in on_threads(lambda: gemm(a, np.broadcast_to(row, (k, n)))):
        np.testing.assert_array_equal(c[0], a.sum() * row)


def test_stacks_of_matrices_are_multiplied_one_by_one(isa):
    rng = np.random.default_rng(4)
    a, b = integers(rng, (5, 9, 11), np.float32), integers(rng, (5, 11, 7), np.float32)
    np.testing.assert_array_equal(gemm(a, b), twin.gemm(a, b))
    np.testing.assert_array_equal(gemm(a, b[:1]), twin.gemm(a, b[:1]))
    np.testing.assert_array_equal(gemm(a[:1], b), twin.gemm(a[:1], b))


def test_any_strides_of_the_operands_are_read(isa):
    rng = np.random.default_rng(5)
    a, b = integers(rng, (40, 60), np.float32), integers(rng, (80, 90), np.float32)
    left, right = a[::2, 5:45:2], b[3:63:3, ::4]
    np.testing.assert_array_equal(gemm(left, right), twin.gemm(left, right))
    row = np.broadcast_to(a[0, :20], (6, 20))
    np.testing.assert_array_equal(gemm(row, right), twin.gemm(row, right))


def test_a_product_over_nothing_is_the_bias(isa):
    a, b = np.zeros((3, 0), np.float32), np.zeros((0, 4), np.float32)
    bias = np.arange(4, dtype=np.float32)
    for out in (np.ones((3, 4), np.float32), np.ones((1, 4), np.float32)):
        gemm(a[: len(out)], b, bias=bias, out=out)
        np.testing.assert_array_equal(out, np.tile(bias, (len(out), 1)))
        gemm(a[: len(out)], b, out=out)
        np.testing.assert_array_equal(out, np.zeros_like(out))


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2)])
def test_an_empty_result_is_returned(shape):
    m, n, k = shape
    assert gemm(np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)).shape == (m, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ta", "tb"), [(False, False), (False, True), (True, False), (True, True)])
def test_nothing_beyond_the_operands_is_touched(isa, dtype, ta, tb):
    rng = np.random.default_rng(6)
    for m, n, k in [(1, 1, 1), (5, 9, 3), (7, 17, 33), (13, 31, 5), (1, 33, 7), (15, 1, 9), (2, 70, 9), (3, 140, 9),
                    (23, 7, 40), (29, 260, 1024), (31, 260, 200)]:  # fmt: skip
        a, b = (guarded(x) for x in operands(rng, (m, n, k), dtype, ta, tb, integers))
        bias, out = guarded(integers(rng, n, dtype)), guarded(np.zeros((m, n), dtype))
        gemm(a, b, bias=bias, out=out, transpose_a=ta, transpose_b=tb)
        np.testing.assert_array_equal(out, twin.gemm(*plain(a, b, ta, tb), bias=bias))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_reach_the_results_that_depend_on_them(isa, bad):
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((9, 20)), rng.standard_normal((20, 19)) + 5
    for i in range(9):
        spoiled = a.copy()
        spoiled[i, 11] = bad
        result = gemm(spoiled, b)
        assert not np.isfinite(result[i]).any()
        assert np.isfinite(np.delete(result, i, axis=0)).all()


def test_room_is_asked_for_by_sizes_alone():
    assert row_parts(2**32, 2**32, 4) == row_parts(10_000, 10_000, 8) == 8
    assert row_parts(10_000, 10_000, 4) > row_parts(10_000, 7, 4) == row_parts(255, 10_000, 4) == 1
    assert packed_columns(300, 129, 1000, 4) == 160
    assert packed_columns(287, 129, 1000, 4) == packed_columns(300, 127, 1000, 4) == 0
    assert packed_columns(300, 4096, 1024, 4) == 4096  # 16 MiB, and a column more
    assert packed_columns(300, 4097, 1024, 4) == packed_columns(300, 4096, 1024, 8) == 0
    assert packed_columns(2**40, 2**40, 2**40, 8) == packed_columns(2**40, 2**22, 2**40, 4) == 0


@pytest.mark.parametrize("sizes", [(-1, 2, 4), (2, 2**40 + 1, 4), (2, 2, 0), (2, 2, 2)])
def test_sizes_that_no_product_has_are_refused(sizes):
    with pytest.raises(ValueError, match="must be"):
        row_parts(*sizes)
    with pytest.raises(ValueError, match="must be"):
        packed_columns(3, *sizes)
