"""Philox against its known answers, dropout and initial values against their twins."""

import numpy as np
import pytest

from fastnn_ext import random, runtime

from native_op import on_threads, run_op
from reference import random as twin

DTYPES = (np.float32, np.float64)
EVERY_BIT = 2**64 - 1


@pytest.mark.parametrize(
    ("seed", "step", "stream", "block", "answer"),
    [
        (0, 0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (EVERY_BIT, EVERY_BIT, 2**24 - 1, 2**40 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        # Digits of pi: the counter 243f6a88 85a308d3 13198a2e 03707344, the key a4093822 299f31d0.
        (
            0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308, 0xD3243F6A88,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)  # fmt: skip
def test_philox_gives_the_known_answers_of_random123(isa, seed, step, stream, block, answer):
    expected = [int(word, 16) for word in answer.split()]
    assert random.philox(seed, step, stream, 4, first=4 * block).tolist() == expected
    assert twin.words(seed, step, stream, 4, 4 * block).tolist() == expected


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 1021, 2**34 - 9])
def test_any_part_of_a_stream_can_be_had_by_itself(isa, first):
    expected = twin.words(3, 5, 7, 80, first)
    for n in range(80):
        np.testing.assert_array_equal(random.philox(3, 5, 7, n, first), expected[:n])


def test_words_stop_at_the_end_of_their_buffer(isa, guarded):
    state = np.array([3, 5], np.uint64)
    for n in range(70):
        out = guarded(np.zeros(n, np.uint32))
        run_op("philox", [out, state], [n, 7, 2])
        np.testing.assert_array_equal(out, twin.words(3, 5, 7, n, 2))


def test_all_instruction_sets_and_threads_draw_the_same_bits():
    before = runtime.get_isa()

    def draw():
        x = np.ones(100_003, np.float32)
        return b"".join(
            [
                random.philox(1, 2, 3, 100_003).tobytes(),
                random.uniform(1, 2, 40_001, -1, 3).tobytes(),
                random.normal(1, 2, 20_001, 1, 0.5).tobytes(),
                random.dropout(x, 0.3, 1, 2, 3).tobytes(),
                random.dropout(x[:99_999], 0.3, 1, 2, 3, inner=3).tobytes(),
                random.dropout(x[:99_000], 0.3, 1, 2, 3, inner=99, period=100).tobytes(),
            ]
        )

    try:
        drawn = set()
        for name in runtime.available_isas():
            runtime.set_isa(name)
            drawn.update(on_threads(draw))
        assert len(drawn) == 1
    finally:
        runtime.set_isa(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "inner", "period"),
    [
        ((1,), 1, 0),
        ((77,), 1, 0),
        ((5, 8193), 1, 0),
        ((9, 7), 7, 0),
        ((9, 700), 700, 0),
        ((3, 20_000), 20_000, 0),
        ((3000, 4), 4, 0),
        ((4, 5, 7), 5, 7),
        ((3, 301, 64), 301, 64),
        ((2, 3, 5000), 3, 5000),
        ((6, 1, 9), 1, 9),
        ((0, 4), 4, 0),
    ],
)
def test_dropout_keeps_and_scales_what_the_twin_does(isa, dtype, shape, inner, period):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for p in (0.1, 0.5, 0.97):
        y = random.dropout(x, p, 11, 3, 2, inner, period)
        expected = twin.dropout(x, p, 11, 3, 2, inner, period)
        np.testing.assert_array_equal(y, expected.astype(dtype))


def test_dropout_stops_at_the_end_of_its_buffers(isa, guarded):
    state = np.array([11, 3], np.uint64)
    for dtype in DTYPES:
        for n in range(1, 70):
            x = guarded(np.arange(1, n + 1).astype(dtype))
            y = guarded(np.zeros(n, dtype))
            run_op("dropout", [y, x, state], [n, 1, 2, 0], [0.5], dtype)
            np.testing.assert_array_equal(y, twin.dropout(x, 0.5, 11, 3, 2))
            run_op("dropout", [x, x, state], [n, 1, 2, 0], [0.5], dtype)
            np.testing.assert_array_equal(x, y, err_msg="in place")


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_of_nothing_copies_and_of_everything_gives_zeros(isa, dtype):
    x = np.linspace(-3, 3, 1001).astype(dtype)
    np.testing.assert_array_equal(random.dropout(x, 0.0, 1, 2, 3), x)
    np.testing.assert_array_equal(random.dropout(x, 1.0, 1, 2, 3), 0)


def test_dropout_multiplies_so_that_nan_stays_where_it_is_dropped(isa):
    for p in (0.0, 0.5, 1.0):
        for inner in (1, 11):
            y = random.dropout(np.full(99, np.nan, np.float32), p, 1, 2, 3, inner)
            assert np.isnan(y).all()


def test_nan_flows_through_dropout_as_in_pytorch():
    torch = pytest.importorskip("torch")
    x = torch.full((100,), float("nan"))
    for p in (0.0, 0.5, 1.0):
        assert torch.isnan(torch.nn.functional.dropout(x, p)).all()


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_dropout_keeps_the_right_share_whatever_the_neighbours(p):
    n = 400_000
    kept = random.dropout(np.ones(n), p, 5, 6, 7) > 0
    deviation = np.sqrt(p * (1 - p) / n)
    assert abs(kept.mean() - (1 - p)) < 5 * deviation
    for lag in (1, 2, 4, 16, 64, 1024):
        both = (kept[lag:] & kept[:-lag]).mean()
        assert abs(both - (1 - p) ** 2) < 6 * (1 - p) * deviation, f"lag {lag}"


def test_seeds_steps_and_streams_draw_independent_masks():
    n = 100_000
    base = (5, 6, 7)
    kept = random.dropout(np.ones(n), 0.5, *base) > 0
    for other in [(6, 6, 7), (5 + 2**32, 6, 7), (5, 7, 7), (5, 6 + 2**32, 7), (5, 6, 8), (5, 7, 6)]:
        agree = (random.dropout(np.ones(n), 0.5, *other) > 0) == kept
        assert abs(agree.mean() - 0.5) < 5 * 0.5 / np.sqrt(n), other


def test_advance_moves_on_to_the_next_step_and_its_masks():
    state = np.array([9, 2**32 - 1], np.uint64)
    random.advance(state)
    assert state.tolist() == [9, 2**32]
    x, y = np.ones(1000, np.float32), np.empty(1000, np.float32)
    run_op("dropout", [y, x, state], [1000, 1, 4, 0], [0.5])
    np.testing.assert_array_equal(y, random.dropout(x, 0.5, 9, 2**32, 4))


@pytest.mark.parametrize("n", [0, 1, 2, 511, 512, 513, 9001])
def test_uniform_numbers_are_those_of_the_twin(isa, n):
    u = twin.unit_interval(1, 2, n)
    np.testing.assert_array_equal(random.uniform(1, 2, n), u)
    np.testing.assert_array_equal(random.uniform(1, 2, n, -0.5, 2.0), -0.5 + 2.5 * u)
    assert n == 0 or (u.min() >= 0 and u.max() < 1)


@pytest.mark.parametrize("n", [0, 1, 2, 511, 512, 513, 9001])
def test_normal_numbers_are_those_of_the_twin_to_rounding(isa, n):
    z = random.normal(1, 2, n)
    # The angle, up to 2 pi, is rounded by NumPy's way and exact in ours.
    np.testing.assert_allclose(z, twin.normal(1, 2, n), rtol=0, atol=40 * 2.0**-53)
    np.testing.assert_array_equal(random.normal(1, 2, n, 3.0, 0.25), 3.0 + 0.25 * z)


def test_normal_numbers_are_normal():
    n = 1_000_000
    z = np.sort(random.normal(2024, 0, n))
    moments = [(z**k).mean() for k in (1, 2, 3, 4)]
    limits = 5 * np.sqrt(np.array([1, 2, 15, 96]) / n)
    assert np.all(abs(np.array(moments) - [0, 1, 0, 3]) < limits)
    # Kolmogorov and Smirnov's distance from the normal distribution, at points where it is known.
    for point, share in [(-3, 0.0013498980), (-2, 0.0227501319), (-1, 0.1586552539), (0, 0.5),
                         (1, 0.8413447461), (2, 0.9772498681), (3, 0.9986501020)]:  # fmt: skip
        below = np.searchsorted(z, point) / n
        assert abs(below - share) < 5 * np.sqrt(share * (1 - share) / n), point


X = np.ones((4, 6), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: random.philox(-1, 0, 0, 4), ValueError, r"seed must lie in 0 ... 2\^64 - 1"),
        (lambda: random.philox(0, 2**64, 0, 4), ValueError, "step must lie in"),
        (lambda: random.philox(0, 0, 2**24, 4), ValueError, r"stream must lie in 0 ... 2\^24 - 1"),
        (lambda: random.philox(0, 0, 0, -1), ValueError, "n must lie in"),
        (lambda: random.philox(0, 0, 0, 2, 2**42 - 1), ValueError, "first"),
        (lambda: random.philox(0.5, 0, 0, 4), TypeError, "seed must be an int, got float"),
        (lambda: random.dropout([1.0], 0.5, 0, 0, 0), TypeError, "x must be a NumPy array"),
        (lambda: random.dropout(X.T, 0.5, 0, 0, 0), ValueError, "x must be C-contiguous"),
        (lambda: random.dropout(X, 1.5, 0, 0, 0), ValueError, r"p must lie in \[0, 1\], got 1.5"),
        (lambda: random.dropout(X, np.nan, 0, 0, 0), ValueError, "p must lie in"),
        (lambda: random.dropout(X, 0.5, 0, 0, 0, 0), ValueError, "inner must be at least 1, got 0"),
        (lambda: random.dropout(X, 0.5, 0, 0, 0, 5), ValueError, "24 elements, which inner = 5"),
        (lambda: random.dropout(X, 0.5, 0, 0, 0, 1, -1), ValueError, "period must be at least 0"),
        (lambda: random.uniform(0, 0, 3, 1.0, 0.0), ValueError, "low and high must be finite"),
        (lambda: random.uniform(0, 0, 3, 0.0, np.inf), ValueError, "low and high must be finite"),
        (lambda: random.normal(0, 0, 3, 0.0, -1.0), ValueError, "mean must be finite, and std too"),
        (lambda: random.advance(np.zeros(2)), TypeError, "state must have dtype uint64"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
