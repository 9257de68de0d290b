"""Unary and binary arithmetic, copies between layouts and fills against float64 twins."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn_ext import runtime

from native import on_threads
from native.elementwise import BINARY, UNARY, binary, cast, copy, fill, unary, where
from reference import elementwise as twin

DTYPES = (np.float32, np.float64)
# 0 ... 70 has every tail of every vector, with and without whole vectors before it.
LENGTHS = range(71)
ROUNDED_ONCE = ("sqrt", "abs", "square", "reciprocal", "sign", "floor", "ceil", "round")
EXPONENTS = [0.5, 1.0, 2.0, 3.0, -1.0, -0.5, 1.7, 0.0, -2.0, 4.0]
COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal")
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 1e-45, 3e38]


def eps(dtype):
    return {np.float32: 2.0**-24, np.float64: 2.0**-53}[dtype]


def assert_same_bits(got, want):
    """Equal, with NaN equal to NaN and -0 unequal to 0."""
    np.testing.assert_array_equal(got, want)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(want)[numbers])


# ---- unary ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", UNARY)
def test_unary_values_are_the_twins(isa, dtype, kind):
    rng = np.random.default_rng(0)
    a, b = float(dtype(1.7)), float(dtype(-0.3))
    for n in LENGTHS:
        x = (rng.standard_normal(n) * 3).astype(dtype)
        if kind in ("log", "sqrt", "power", "log1p", "acosh"):
            x = np.abs(x) + dtype(kind == "acosh")
        elif kind in ("asin", "acos", "atanh"):
            x = np.tanh(x / 3)
        y, want = unary(kind, x, a, b), twin.unary(kind, x, a, b)
        assert y.dtype == dtype
        if kind in ROUNDED_ONCE:
            assert_same_bits(y, want.astype(dtype))
        else:
            scale = np.abs(a * x) + abs(b) if kind == "affine" else np.abs(want)
            assert (np.abs(y - want) <= 8 * eps(dtype) * scale).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", UNARY)
def test_unary_of_special_values_is_the_twins_in_every_lane(isa, dtype, kind):
    for value in SPECIAL:
        for place in range(19):
            x = np.full(19, 0.75, dtype)
            usual = unary(kind, x, 3.0, 0.0)[0]
            with np.errstate(all="ignore"):
                x[place] = value
                want = twin.unary(kind, x, 3.0, 0.0).astype(dtype)[place]
            y = unary(kind, x, 3.0, 0.0)
            np.testing.assert_allclose(y[place], want, rtol=8 * eps(dtype), atol=0)
            if want == 0:
                assert np.signbit(y[place]) == np.signbit(want)
            np.testing.assert_array_equal(np.delete(y, place), usual)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a", EXPONENTS)
def test_powers_agree_with_pytorch(isa, dtype, a):
    torch = pytest.importorskip("torch")
    x = np.array([0.0, -0.0, math.inf, -math.inf, math.nan, 1.5, -1.5, 1e-3, 7.0, -3.0], dtype)
    want = torch.pow(torch.tensor(x), a).numpy()
    np.testing.assert_allclose(unary("power", x, a), want, rtol=8 * eps(dtype), atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a", EXPONENTS)
def test_powers_of_small_integers_are_the_twins(isa, dtype, a):
    x = np.arange(1, 41).astype(dtype)
    got, want = unary("power", x, a), twin.unary("power", x, a)
    if a in (1.0, 2.0, 3.0, -1.0, 0.5, 0.0):
        assert_same_bits(got, want.astype(dtype))
    assert (np.abs(got - want) <= 4 * eps(dtype) * want).all()


def test_scaling_by_affine_keeps_the_sign_of_zero(isa):
    x = np.array([0.0, -0.0, 2.0])
    assert_same_bits(unary("affine", x, 3.0), np.array([0.0, -0.0, 6.0]))
    assert_same_bits(unary("affine", x, 3.0, 1.0), np.array([1.0, 1.0, 7.0]))


def test_fill_sets_every_element_and_no_more(isa, guarded):
    for dtype, n in itertools.product(DTYPES, [*LENGTHS, 200_003]):
        y = guarded(np.zeros(n, dtype))
        assert fill(y, 1.5) is y
        assert (y == 1.5).all()


# ---- binary ----


def operands(rng, shape_a, shape_b, dtype):
    return (np.asarray(rng.integers(-8, 9, shape), dtype) for shape in (shape_a, shape_b))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", BINARY)
def test_binary_of_small_integers_is_exact_for_each_inner_loop(isa, dtype, kind):
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        for shape_a, shape_b in [
            ((n,), (n,)),
            ((n,), ()),
            ((), (n,)),
            ((3, n), (n,)),
            ((3, n), (3, 1)),
        ]:
            a, b = operands(rng, shape_a, shape_b, dtype)
            if kind == "power":
                a, b = np.asarray(np.abs(a) + 1), np.asarray(np.clip(b, 0, 6))
            got, want = binary(kind, a, b), twin.binary(kind, a, b)
            assert got.dtype == dtype
            assert got.flags.c_contiguous
            assert_same_bits(got, np.asarray(want, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", BINARY)
def test_binary_of_special_values_is_the_twins_in_every_lane(isa, dtype, kind):
    for p, q in itertools.product(SPECIAL, SPECIAL):
        for place in (0, 3, 7, 15, 16, 18):
            a, b = np.full(19, 2.0, dtype), np.full(19, 1.5, dtype)
            usual = binary(kind, a, b)[0]
            with np.errstate(all="ignore"):
                a[place], b[place] = p, q
                want = twin.binary(kind, a, b).astype(dtype)[place]
            y = binary(kind, a, b)
            np.testing.assert_allclose(y[place], want, rtol=4 * eps(dtype), atol=0)
            np.testing.assert_array_equal(np.delete(y, place), usual)


def test_comparisons_are_1_or_0_and_false_for_nan(isa):
    a, b = np.array([1.0, 2.0, 3.0, math.nan]), np.array([2.0, 2.0, 2.0, 2.0])
    rows = [binary(kind, a, b).tolist() for kind in COMPARISONS]
    assert rows == [[0, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]]


@st.composite
def broadcasting(draw):
    """Two views, permuted and sliced, whose shapes broadcast."""
    ndim = draw(st.integers(0, 6))
    shape = [draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, 5)) for _ in range(ndim)]
    views = []
    for _ in range(2):
        kept = shape[draw(st.integers(0, ndim)) :]
        lengths = [n if draw(st.booleans()) else 1 for n in kept]
        order = draw(st.permutations(range(len(kept))))
        steps = [draw(st.integers(1, 2)) for _ in kept]
        memory = np.arange(math.prod(lengths) * math.prod(steps), dtype=np.float32)
        stored = memory.reshape([lengths[i] * steps[i] for i in order])
        view = stored.transpose(np.argsort(order)) if order else stored
        views.append(view[(..., *[slice(None, None, s) for s in steps])])
    return views


@settings(max_examples=300, deadline=None)
@given(broadcasting())
def test_any_broadcast_of_any_strides_is_numpys(views):
    a, b = views
    np.testing.assert_array_equal(binary("sub", a, b), a - b)


def test_chunks_that_cut_rows_anywhere_join_up(isa):
    rng = np.random.default_rng(2)
    for shape_a, shape_b in [
        ((7, 1, 30011), (7, 1, 1)),
        ((301, 7, 101), (7, 1)),
        ((50000, 3), (3,)),
        ((50000, 3), (50000, 1)),
        ((40, 50, 60), (50, 60)),
        ((1, 300, 1), (500, 1, 2)),
    ]:
        a, b = operands(rng, shape_a, shape_b, np.float32)
        np.testing.assert_array_equal(binary("add", a, b), a + b)
        np.testing.assert_array_equal(binary("add", b, a), a + b)


def test_binary_works_in_place_on_either_operand(isa):
    a, b = np.random.default_rng(3).standard_normal((2, 9, 45)).astype(np.float32)
    want = a - b
    row = b[0].copy()
    for out, left, right in [((x := a.copy()), x, b), ((x := b.copy()), a, x)]:
        assert binary("sub", left, right, out=out) is out
        np.testing.assert_array_equal(out, want)
    x = a.copy()
    np.testing.assert_array_equal(binary("sub", x, row, out=x), a - row)


# ---- copies ----


@st.composite
def layouts(draw):
    """A source and a target view of one shape, permuted and sliced; the source may be broadcast."""
    ndim = draw(st.integers(0, 8))
    longest = 40 if ndim < 4 else 3
    shape = [draw(st.integers(1, longest)) for _ in range(ndim)]
    views = []
    for broadcast in (True, False):
        order = draw(st.permutations(range(ndim)))
        steps = [draw(st.integers(1, 2)) for _ in shape]
        lengths = [1 if broadcast and draw(st.integers(0, 4)) == 0 else n for n in shape]
        stored = np.zeros([lengths[i] * steps[i] for i in order], np.float32)
        stored.reshape(-1)[...] = np.arange(stored.size)
        view = stored.transpose(np.argsort(order)) if order else stored
        view = view[(..., *[slice(None, None, s) for s in steps])]
        views.append((stored, np.broadcast_to(view, shape) if broadcast else view))
    return views


@settings(max_examples=300, deadline=None)
@given(layouts())
def test_any_layout_is_copied_to_any_other(views):
    (_, x), (memory, y) = views
    before, want = memory.copy(), np.array(x)
    assert copy(x, out=y) is y
    np.testing.assert_array_equal(y, want)
    y[...] = 0
    touched = np.zeros_like(memory)
    touched_view = np.lib.stride_tricks.as_strided(touched, y.shape, y.strides)
    touched_view[...] = 1
    np.testing.assert_array_equal(memory[touched == 0], before[touched == 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_transposes_of_every_small_shape_are_exact_and_stay_inside(isa, guarded, dtype):
    sides = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 70]
    for rows, cols in itertools.product(sides, sides):
        x = np.arange(rows * cols, dtype=dtype).reshape(rows, cols)
        y = copy(guarded(x).T, out=guarded(np.zeros((cols, rows), dtype)))
        np.testing.assert_array_equal(y, twin.copy(x.T))


def test_large_layout_changes_are_exact(isa, threads):
    rng = np.random.default_rng(4)
    for shape in [
        (3, 17, 50, 31),
        (2, 64, 32, 32),
        (700, 1, 1, 701),
        (1, 3, 150, 150),
        (5, 40000, 1, 2),
    ]:
        x = rng.standard_normal(shape).astype(np.float32)
        for axes in [(0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0), (1, 0, 2, 3), (2, 3, 0, 1)]:
            np.testing.assert_array_equal(copy(x.transpose(axes)), twin.copy(x.transpose(axes)))


def test_slices_are_copied_both_ways(isa, threads):
    x = np.random.default_rng(5).standard_normal((60, 90, 70))
    part = x[3:50:2, 10:80, 5:66:3]
    np.testing.assert_array_equal(copy(part), twin.copy(part))
    y = np.zeros_like(x)
    copy(twin.copy(part), out=y[3:50:2, 10:80, 5:66:3])
    want = np.zeros_like(x)
    want[3:50:2, 10:80, 5:66:3] = part
    np.testing.assert_array_equal(y, want)


def test_nan_payloads_and_minus_zero_are_copied_bit_for_bit(isa):
    bits = np.random.default_rng(6).integers(0, 2**32, (70, 70), dtype=np.uint64).astype(np.uint32)
    for view in (bits, bits.T, bits[:, ::2], bits[::2].T):
        got = (
            copy(view.view(np.float32))
            if view.flags.c_contiguous
            else copy(np.lib.stride_tricks.as_strided(bits.view(np.float32), view.shape, view.strides))
        )
        np.testing.assert_array_equal(got.view(np.uint32), view)


# ---- all ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_tails_stop_at_the_end_of_their_buffers(isa, guarded, dtype):
    for n in LENGTHS[1:]:
        a, b = np.random.default_rng(n).random((2, n)).astype(dtype)
        end_a, end_b, one = guarded(a), guarded(b), guarded(a[:1])
        out = guarded(np.zeros(n, dtype))
        for kind in UNARY:
            np.testing.assert_array_equal(unary(kind, end_a, 2.0, out=out), unary(kind, a, 2.0))
        for kind in BINARY:
            for p, q in [(end_a, end_b), (end_a, one), (one, end_b)]:
                np.testing.assert_array_equal(binary(kind, p, q, out=out), binary(kind, p.copy(), q.copy()))
        for x in (end_a, guarded(np.repeat(a, 2))[1::2], guarded(np.repeat(a, 2))[::2]):
            np.testing.assert_array_equal(copy(x, out=out), x)


@pytest.mark.parametrize("kind", BINARY)
def test_the_bits_do_not_depend_on_the_threads(isa, kind, threads):
    rng = np.random.default_rng(7)
    a, b = np.exp(rng.standard_normal((2, 300, 1001))).astype(np.float32)
    got = [
        binary(kind, a, b),
        binary(kind, a, b[:, :1]),
        binary(kind, a, b[0]),
        binary(kind, a[1], b),
    ]
    runtime.set_num_threads(1)
    want = [
        binary(kind, a, b),
        binary(kind, a, b[:, :1]),
        binary(kind, a, b[0]),
        binary(kind, a[1], b),
    ]
    for x, y in zip(got, want, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", UNARY)
def test_the_bits_of_maps_do_not_depend_on_the_threads(isa, kind, threads):
    x = np.exp(np.random.default_rng(8).standard_normal(300_007)).astype(np.float32)
    got = unary(kind, x, 1.3, 0.7)
    runtime.set_num_threads(1)
    parts = [unary(kind, part, 1.3, 0.7) for part in np.split(x, [1, 17, 100_000, 100_003])]
    np.testing.assert_array_equal(got, np.concatenate(parts))


# ---- where and cast ----


def wheres(rng, dtype):
    """Conditions and operands of each combination of strides."""
    for n in (1, 3, 16, 17, 40):
        shapes = [(n,), (1,), (3, n), (3, 1), (1, n), (2, 3, n), (2, 1, n), (2, 3, 1), ()]
        for c, a, b in itertools.product(shapes, repeat=3):
            yield (
                rng.integers(-1, 2, c).astype(dtype),
                np.asarray(rng.standard_normal(a), dtype),
                np.asarray(rng.standard_normal(b), dtype),
            )


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_chooses_for_all_that_broadcasts(isa, dtype):
    for c, a, b in wheres(np.random.default_rng(0), dtype):
        assert_same_bits(where(c, a, b), twin.where(c, a, b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_lets_nothing_through_of_what_is_not_chosen(isa, dtype):
    for value, other in itertools.permutations(SPECIAL, 2):
        a, b, c = np.full(19, value, dtype), np.full(19, other, dtype), np.zeros(19, dtype)
        for place in range(19):
            c[place] = math.nan if place % 2 else -math.inf
            assert_same_bits(where(c, a, b), twin.where(c, a, b))
            c[place] = 0


def test_where_reads_other_strides_and_stops_at_the_ends(isa, guarded):
    rng = np.random.default_rng(1)
    for n in range(1, 40):
        c, a, b = (guarded(rng.integers(0, 2, (3, n)).astype(np.float32)) for _ in range(3))
        assert_same_bits(where(c, a, b, out=guarded(np.zeros((3, n), np.float32))), twin.where(c, a, b))
        assert_same_bits(where(c.T, a.T, b.T), twin.where(c.T, a.T, b.T))
        assert_same_bits(where(c[:, ::2], a[:, ::2], b[:, ::2]), twin.where(c[:, ::2], a[:, ::2], b[:, ::2]))


def test_the_bits_of_where_and_cast_do_not_depend_on_the_threads(isa):
    rng = np.random.default_rng(2)
    c, a, b = rng.integers(0, 2, (700, 1)).astype(float), rng.standard_normal((700, 501)), rng.standard_normal(501)
    for got in on_threads(lambda: where(c, a, b), (1, 2, 3, 8)):
        assert_same_bits(got, twin.where(c, a, b))
    for got in on_threads(lambda: cast(a, np.float32), (1, 2, 3, 8)):
        assert_same_bits(got, a.astype(np.float32))


def test_a_cast_is_numpys():
    for source in (
        np.array([0.1, -0.0, math.nan, math.inf, -math.inf, 3e38, 1e-45]),
        np.array([0.1, 1e-45, -math.inf], np.float32),
        np.array([0, -1, 2**53, 2**24 + 1, -(2**62)]),
    ):
        for dtype in DTYPES:
            if source.dtype != dtype:
                assert_same_bits(cast(source, dtype), source.astype(dtype))
