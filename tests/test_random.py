"""Philox against its known answers, dropout and arrays of numbers against their twins, and what programs draw."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn
from fastnn.nn import functional as F
from fastnn_ext import runtime

from native import on_threads, random, run_op
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
        run_op("philox", np.float32, out=out, state=state, n=n, stream=7, first=2)
        np.testing.assert_array_equal(out, twin.words(3, 5, 7, n, 2))


def test_all_instruction_sets_and_threads_draw_the_same_bits():
    before = runtime.get_isa()

    def draw():
        x = np.ones(100_003, np.float32)
        return b"".join(
            [
                random.philox(1, 2, 3, 100_003).tobytes(),
                random.uniform(1, 2, 40_001).tobytes(),
                random.normal(1, 2, 20_001).tobytes(),
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
            sizes = dict(n=n, stream=2, inner=1, period=0, p=0.5)
            run_op("dropout", y=y, x=x, state=state, **sizes)
            np.testing.assert_array_equal(y, twin.dropout(x, 0.5, 11, 3, 2))
            run_op("dropout", y=x, x=x, state=state, **sizes)
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
    run_op("dropout", y=y, x=x, state=state, n=1000, stream=4, inner=1, period=0, p=0.5)
    np.testing.assert_array_equal(y, random.dropout(x, 0.5, 9, 2**32, 4))


@pytest.mark.parametrize("n", [0, 1, 2, 511, 512, 513, 9001])
def test_uniform_numbers_are_those_of_the_twin(isa, n):
    u = twin.unit_interval(1, 2, n)
    np.testing.assert_array_equal(random.uniform(1, 2, n), u)
    assert n == 0 or (u.min() >= 0 and u.max() < 1)


@pytest.mark.parametrize("n", [0, 1, 2, 511, 512, 513, 9001])
def test_normal_numbers_are_those_of_the_twin_to_rounding(isa, n):
    z = random.normal(1, 2, n)
    # The angle, up to 2 pi, is rounded by NumPy's way and exact in ours.
    np.testing.assert_allclose(z, twin.normal(1, 2, n), rtol=0, atol=40 * 2.0**-53)


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


# ---- fastnn.random: what programs draw -----------------------------------------------------------

N = 200_000


class Draws(nn.Module):
    """A module of a function of x that draws."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["outside", "in a program"])
def test_moments_are_those_of_the_distributions(dtype, where):
    fn.manual_seed(7)

    def draw(function):
        if where == "outside":
            return function((N,))
        return fn.trace(lambda x: function(x.shape) + 0 * x)(np.zeros(N, dtype))

    z = draw(lambda shape: fn.random.normal(shape, 2.0, 0.5, dtype))
    u = draw(lambda shape: fn.random.uniform(shape, -1.0, 3.0, dtype))
    b = draw(lambda shape: fn.random.bernoulli(0.25, shape, dtype))
    for values, mean, std, fourth in ((z, 2.0, 0.5, 3.0), (u, 1.0, 4 / 12**0.5, 1.8), (b, 0.25, 0.1875**0.5, None)):
        assert values.dtype == dtype
        assert values.shape == (N,)
        assert abs(values.mean(dtype=float) - mean) < 5 * std / N**0.5
        assert abs(values.std(dtype=float) - std) < 5 * std / N**0.5
        if fourth:
            assert abs((((values.astype(float) - mean) / std) ** 4).mean() - fourth) < 0.1
        # Neighbours know nothing of each other, near or far.
        for lag in (1, 2, 4, 64, 4096):
            pairs = (values[lag:].astype(float) - mean) * (values[:-lag].astype(float) - mean) / std**2
            assert abs(pairs.mean()) < 5 / N**0.5, lag
    assert u.min() >= -1
    assert u.max() <= 3
    assert set(np.unique(b)) == {0, 1}


def test_uniform_numbers_of_float32_stay_below_one():
    fn.manual_seed(1)
    for _ in range(3):  # 12 million, of which 24 bits count
        u = fn.random.uniform(4_000_000)
        assert u.dtype == np.float32
        assert u.max() < 1
        assert u.min() >= 0
        np.testing.assert_array_equal(u * 2.0**24 % 1, 0)
    assert fn.random.bernoulli(1.0, 1_000_000).min() == 1
    assert fn.random.bernoulli(0.0, 1_000_000).max() == 0


def all_draws(x):
    z, u = fn.random.normal(x.shape, dtype=x.dtype), fn.random.uniform(x.shape, dtype=x.dtype)
    return {
        "normal": z,
        "again": fn.random.normal(x.shape, dtype=x.dtype),
        "uniform": u,
        "uniform again": fn.random.uniform(x.shape, dtype=x.dtype),
        "dropout": F.dropout(x, 0.5),
        "dropout again": F.dropout(x, 0.5),
        "bernoulli": fn.random.bernoulli(0.5, x.shape, x.dtype),
        "of a tensor": fn.random.bernoulli(u * 0 + 0.5),
        "last": fn.random.normal(x.shape, dtype=x.dtype),
    }


def test_draws_are_the_same_bits_on_any_number_of_threads_after_a_seed():
    model, x = Draws(all_draws), np.ones((300, 500), np.float32)

    def draw():
        fn.manual_seed(11)
        outputs = [model(x) for _ in range(2)]
        outside = [fn.random.normal(70_001), fn.random.uniform(70_001), fn.random.bernoulli(0.5, 70_001)]
        return b"".join(a.tobytes() for out in outputs for a in out.values()) + b"".join(a.tobytes() for a in outside)

    first, *others = on_threads(draw)
    assert all(other == first for other in others)
    fn.manual_seed(12)
    assert model(x)["normal"].tobytes() not in first


def test_each_run_draws_anew_and_a_seed_or_a_state_returns_to_the_same():
    model, x = Draws(all_draws), np.ones((20, 30))
    fn.manual_seed(5)
    runs = [model(x)]
    state = fn.random.get_rng_state()
    runs += [model(x), model(x)]
    for name in runs[0]:
        assert len({run[name].tobytes() for run in runs}) == 3, name
    assert model._programs["infer"].count() == 1
    fn.random.set_rng_state(state)
    np.testing.assert_array_equal(model(x)["normal"], runs[1]["normal"])
    fn.random.manual_seed(5)
    for name, value in model(x).items():
        np.testing.assert_array_equal(value, runs[0][name])
    draws = [fn.random.normal((3, 4)) for _ in range(3)]
    assert len({d.tobytes() for d in draws}) == 3


def test_streams_of_the_draws_of_a_program_differ():
    fn.manual_seed(2)
    x = np.ones(100_000)
    out = Draws(all_draws)(x)
    values = {name: (v - v.mean()) / v.std() for name, v in out.items()}
    names = list(values)
    for i, a in enumerate(names):
        for b in names[:i]:
            assert abs((values[a] * values[b]).mean()) < 5 / len(x) ** 0.5, (a, b)


def test_draws_of_layers_that_are_added_beside_others_are_their_own():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5), Draws(lambda x: x * fn.random.bernoulli(0.5, x.shape)))
    fn.manual_seed(3)
    x = np.ones((1000, 100), np.float32)
    y = model(x)
    assert set(np.unique(y)) == {0, 4}
    assert abs((y > 0).mean() - 1 / 8) < 5 * (7 / 64) ** 0.5 / y.size**0.5


def test_shapes_follow_the_batch():
    model = Draws(lambda x: (x + fn.random.normal(x.shape), fn.random.uniform((x.shape[0], 3)), fn.random.normal(2)))
    for n in (8, 3, 5, 2, 7, 1):
        y, u, two = model(np.zeros((n, 4), np.float32))
        assert (y.shape, u.shape, two.shape) == ((n, 4), (n, 3), (2,))
        assert len(np.unique(y)) == 4 * n
    fn.manual_seed(4)
    wide = model(np.zeros((8, 4), np.float32))[0]
    fn.manual_seed(4)
    np.testing.assert_array_equal(model(np.zeros((3, 4), np.float32))[0], wide[:3])
    assert model._programs["infer"].count() == 2  # a batch of one apart


def test_a_backward_pass_uses_the_numbers_of_its_forward_pass():
    model, x = Draws(lambda x: x * fn.random.normal(x.shape, dtype=x.dtype)), np.ones((6, 5))

    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(np.ones((6, 5)))

        def forward(self, x):
            return model(x * self.weight)

    weighted = Weighted()
    z = weighted.forward_train(x)
    weighted.backward(np.ones_like(z))
    np.testing.assert_array_equal(weighted.weight.grad, z)
    weighted.zero_grad()
    z_next = weighted.forward_train(x)
    weighted.backward(np.ones_like(z))
    np.testing.assert_array_equal(weighted.weight.grad, z_next)
    assert (z != z_next).all()


def test_gradients_are_those_of_the_reparametrisation():
    fn.manual_seed(6)
    mean, std = np.linspace(-1, 1, 12).reshape(3, 4), np.linspace(0.5, 2, 4)

    def normal(mean, std):
        y = fn.random.normal((3, 4), mean, std)
        return (y * y).sum() / 2

    state = fn.get_rng_state()
    _, (d_mean, d_std) = fn.value_and_grad(normal)(mean, std)
    fn.set_rng_state(state)
    y = fn.trace(lambda m, s: fn.random.normal((3, 4), m, s))(mean, std)
    np.testing.assert_allclose(d_mean, y, rtol=1e-12)
    np.testing.assert_allclose(d_std, (y * (y - mean) / std).sum(0), rtol=1e-11)

    def uniform(low, high):
        y = fn.random.uniform((3, 4), low, high)
        return (y * y).sum() / 2

    state = fn.get_rng_state()
    _, (d_low, d_high) = fn.value_and_grad(uniform)(mean, mean + 2)
    fn.set_rng_state(state)
    y = fn.trace(lambda a, b: fn.random.uniform((3, 4), a, b))(mean, mean + 2)
    u = (y - mean) / 2
    np.testing.assert_allclose(d_low, y * (1 - u), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(d_high, y * u, rtol=1e-10, atol=1e-12)

    value, d_p = fn.value_and_grad(lambda p: (fn.random.bernoulli(p) * 3).sum() + (p * p).sum())(np.full(5, 0.5))
    np.testing.assert_array_equal(d_p, 1.0)  # of p * p alone
    assert (value - 1.25) % 3 == 0


def test_parameters_train_through_what_is_drawn_of_them():
    """The expectation of (mean + std z - 3)^2 is least at a mean of 3 and a std of 0."""

    class Gaussian(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.log_std = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))

        def forward(self, x):
            return fn.random.normal(x.shape, self.mean, self.log_std.exp())

    fn.manual_seed(8)
    model = Gaussian()
    step = fn.TrainStep(model, nn.MSELoss(), fn.optim.Adam(model.parameters(), 0.05))
    x = np.full((64, 1), 3.0)
    for _ in range(300):
        step(x, x)
    assert abs(float(model.mean) - 3) < 0.1
    assert float(model.log_std) < -1.5


def test_settings_may_be_arrays_and_decide_the_dtype():
    mean = np.arange(3, dtype=np.float64)
    assert fn.random.normal((2, 3), mean, 0.0).dtype == np.float64
    np.testing.assert_array_equal(fn.random.normal((2, 3), mean, 0.0), [mean, mean])
    np.testing.assert_array_equal(fn.random.uniform(3, mean, mean), mean)
    p = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(fn.random.bernoulli(p), p)
    np.testing.assert_array_equal(fn.random.bernoulli(p, (2, 2)), [p[0], p[0]])
    assert fn.random.normal([2, 3]).dtype == np.float32
    assert fn.random.normal(np.int64(4)).shape == (4,)


@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), np.array(0.5), np.array(0.5, np.float32), 0.5])
def test_numbers_of_numpy_are_settings_as_pythons_are(number):
    model, x = Draws(lambda x: x + fn.random.normal(x.shape, number, number * 0)), np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(model(x), x + np.float32(0.5))
    for draw in (fn.random.normal(5, number, number), fn.random.uniform(5, number, number)):
        assert draw.dtype == np.float32
    np.testing.assert_array_equal(draw, np.float32(0.5))
    assert fn.random.bernoulli(number, 5).dtype == np.float32


def test_tensors_and_parameters_without_dimensions_are_settings():
    std = nn.Parameter(np.array(0.0))
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(fn.random.normal((3, 4), 2.0, std), np.full((3, 4), 2.0))
    y = fn.trace(lambda x: fn.random.normal(x.shape, x.mean(), std) + fn.random.bernoulli(x.mean() * 0 + 1, (3, 4)))(x)
    np.testing.assert_allclose(y, np.full((3, 4), x.mean() + 1))
    y = fn.trace(lambda x: fn.random.uniform(x.shape, x.mean(), x.mean()))(x)
    np.testing.assert_allclose(y, np.full((3, 4), x.mean()))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r, x: r.normal((0, 3)), ValueError, "shape must be an int of at least 1, got 0"),
        (lambda r, x: r.normal((2.5,)), TypeError, "shape must be an int"),
        (lambda r, x: r.normal("ab"), TypeError, "shape must be an int"),
        (lambda r, x: r.normal(None), TypeError, "shape must be an int"),
        (lambda r, x: r.normal(3, 0.0, -1.0), ValueError, "std must be a finite number of at least 0, got -1.0"),
        (lambda r, x: r.normal(3, 0.0, "a"), TypeError, "std must be a finite number"),
        (lambda r, x: r.normal(3, "a"), TypeError, "mean must be a finite number"),
        (lambda r, x: r.normal(3, np.nan), ValueError, "mean must be a finite number"),
        (lambda r, x: r.normal(3, dtype=np.float16), TypeError, "dtype must be float32 or float64, got float16"),
        (lambda r, x: r.normal(3, dtype="nonsense"), TypeError, "dtype must be float32 or float64"),
        (lambda r, x: r.uniform(3, 2.0, 1.0), ValueError, "low must not exceed high, got 2.0 and 1.0"),
        (lambda r, x: r.uniform(3, None), TypeError, "low must be a finite number"),
        (lambda r, x: r.uniform(3, 0.0, np.inf), ValueError, "high must be a finite number"),
        (lambda r, x: r.bernoulli(1.5, 3), ValueError, "p must be a number from 0 to 1, got 1.5"),
        (lambda r, x: r.bernoulli(True, 3), TypeError, "p must be a number from 0 to 1"),
        (lambda r, x: r.bernoulli(0.5), ValueError, "shape must be given where p is a number"),
        (lambda r, x: r.normal((2, 3), np.zeros((4, 3), np.float32)), ValueError, "broadcast|shape"),
        (lambda r, x: r.normal((3,), np.zeros((2, 3), np.float32)), ValueError, r"shape \(3,\) were asked for"),
    ],
)
@pytest.mark.parametrize("where", ["outside", "in a program"])
def test_what_does_not_fit_a_draw_is_refused_by_name(call, error, message, where):
    with pytest.raises(error, match=message):
        if where == "outside":
            call(fn.random, None)
        else:
            fn.trace(lambda x: call(fn.random, x) + x.sum() * 0)(np.ones((2, 3), np.float32))
