"""Batch, group, layer and local response norm: twins, gradients, PyTorch, bits, in place."""

import itertools
import math

import numpy as np
import pytest

from fastnn_ext.activation import ACTIVATIONS, SAVES
from fastnn_ext.norm import group_pieces, pieces_of

from native import norm, on_threads, run_op
from native.activation import epilogue
from reference import activation as act_twin
from reference import norm as twin

DTYPES = (np.float32, np.float64)
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
# Tails of every vector, rows of fewer channels than lanes, and rows of many.
CHANNELS = (1, 2, 3, 5, 6, 8, 16, 17, 31, 33, 64, 70, 129, 515)
SHAPES = [
    *itertools.product((1, 2, 65), CHANNELS),
    *((1000, c) for c in (1, 3, 6, 16, 17, 33, 64, 129)),
    *((4999, c) for c in (1, 2, 3, 16, 31)),
]
FROM_OUTPUT = [kind for kind in ACTIVATIONS if SAVES[kind] == "output"]
EPS = 1e-5
PIECES = pieces_of(1)


def random(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def close(got, want, size, dtype, count=None):
    """Within `count` roundings of `size`, the sum of the magnitudes that make `want`.

    What is double for both types helps float32 only.
    """
    assert got.dtype == dtype and got.shape == np.shape(want)
    count = count or (8 if dtype == np.float32 else 16)
    return bool((np.abs(got - want) <= count * UNIT[dtype] * size).all())


def piece_rows(rows):
    return -(-rows // PIECES)


def batch_statistics(x, eps=EPS):
    return norm.batch_norm_finish(norm.batch_norm_stats(x), x, eps)


def group_statistics(x, groups, eps=EPS):
    return norm.group_norm_finish(norm.group_norm_stats(x), x, groups, eps)


def batch_gradients(dy, x, mean, invstd, weight, **how):
    """dx (or dx, dresidual), dweight, dbias."""
    residual = how.pop("residual", False)
    partial = norm.batch_norm_grad_stats(dy, x, mean, invstd, **how)
    dweight, dbias, sums = norm.batch_norm_grad_finish(partial, len(x))
    how["residual"] = residual
    return norm.batch_norm_grad_apply(dy, x, mean, invstd, weight, sums, **how), dweight, dbias


def group_gradients(dy, x, mean, invstd, weight, **how):
    partial = norm.group_norm_grad_stats(dy, x, mean, invstd, **how)
    dweight, dbias = norm.group_norm_grad_params(partial, x.shape[1])
    sums = norm.group_norm_grad_finish(partial, x.shape[1], mean.shape[1], weight)
    dx = norm.group_norm_grad_apply(dy, x, mean, invstd, weight, sums, **how)
    return dx, dweight, dbias


def layer_gradients(dy, x, mean, invstd, weight):
    partial = norm.layer_norm_grad_params(dy, x, mean, invstd)
    dweight, dbias, _ = norm.batch_norm_grad_finish(partial, len(x))
    return norm.layer_norm_backward(dy, x, mean, invstd, weight), dweight, dbias


# ---- statistics ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_statistics_of_pieces_are_the_twins(isa, dtype):
    rng = np.random.default_rng(0)
    for rows, channels in SHAPES:
        x = random(rng, rows, channels, dtype=dtype) * 2 + 1
        partial = norm.batch_norm_stats(x)
        want = twin.pieces(x, piece_rows(rows))
        used = len(want)
        assert partial.shape == (PIECES, 2, channels)
        assert not partial[used:].any()
        # About the first row: of few rows, it may be the one that is far from the others.
        size = np.stack([np.abs(want[:, 0]) + 2, 4 * want[:, 1]], 1)
        assert close(partial[:used], want, size, dtype), (rows, channels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_and_variance_are_the_twins(isa, dtype):
    rng = np.random.default_rng(1)
    for rows, channels in SHAPES:
        x = random(rng, rows, channels, dtype=dtype) * 2 + 1
        mean, invstd, var = batch_statistics(x, 1e-3)
        want_mean, want_var = (v[0].astype(np.float64) for v in twin.moments(x, 0))
        assert close(mean, want_mean, 1 + np.abs(x).mean(0), dtype)
        assert close(var, want_var, want_var, dtype)
        assert close(invstd, (want_var + 1e-3) ** -0.5, (want_var + 1e-3) ** -0.5, dtype)


@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6])
def test_the_variance_is_as_exact_far_from_zero_as_near_it(isa, distance):
    rng = np.random.default_rng(2)
    for rows, channels in [(31, 6), (100, 64), (20_000, 5), (5_000, 33)]:
        x = random(rng, rows, channels) + np.float32(distance)
        mean, _, var = batch_statistics(x)
        want_mean, want_var = (v[0].astype(np.float64) for v in twin.moments(x, 0))
        assert close(mean, want_mean, distance, np.float32, 1)
        assert close(var, want_var, want_var, np.float32)
        mean, _ = group_statistics(x[None], 1)
        assert close(mean, np.array([[x.mean(dtype=np.longdouble)]]), distance, np.float32, 1)


def test_an_outlying_first_row_costs_few_digits(isa):
    rng = np.random.default_rng(3)
    for channels in (3, 64):
        x = random(rng, 64 * 300, channels)
        x[::300] = 1e3
        _, _, var = batch_statistics(x)
        want = twin.moments(x, 0)[1][0].astype(np.float64)
        assert close(var, want, want, np.float32, 16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_channel_has_variance_0_and_becomes_its_bias(isa, dtype):
    for rows, channels in [(1, 3), (5, 9), (4000, 3), (4000, 40)]:
        x = np.full((rows, channels), 1234.567, dtype)
        mean, invstd, var = batch_statistics(x)
        np.testing.assert_array_equal(mean, x[0])
        assert not var.any()
        bias = np.arange(channels, dtype=dtype)
        y = norm.batch_norm_apply(x, mean, invstd, None, bias)
        np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))
        y, mean, _ = norm.layer_norm(x, None, bias)
        np.testing.assert_array_equal(mean, x[:, 0])
        np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_of_groups_are_the_twins(isa, dtype):
    rng = np.random.default_rng(4)
    for n, rows, channels, groups in GROUP_SHAPES:
        x = random(rng, n, rows, channels, dtype=dtype) * 2 + 1
        mean, invstd = group_statistics(x, groups, 1e-3)
        want = (v.reshape(n, groups) for v in twin.moments(twin.by_group(x, groups), (1, 3)))
        want_mean, want_var = (v.astype(np.float64) for v in want)
        assert close(mean, want_mean, np.abs(x).max(), dtype, 4)
        assert close(invstd, (want_var + 1e-3) ** -0.5, (want_var + 1e-3) ** -0.5, dtype)


GROUP_SHAPES = [
    (1, 1, 1, 1), (3, 1, 6, 2), (2, 5, 6, 6), (4, 49, 12, 3), (2, 64, 16, 4), (2, 65, 70, 7),
    (1, 1030, 3, 3), (3, 2500, 8, 2), (40, 9, 32, 8), (2, 300, 515, 5),
]  # fmt: skip


def test_a_groups_pieces_are_few_and_not_small():
    for rows in (1, 64, 65, 1000, 1024, 1025, 50_176):
        pieces = group_pieces(rows)
        assert 1 <= pieces <= 16
        assert pieces == 1 or rows / pieces >= 32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [2, 10])
def test_running_statistics_move_by_the_momentum_towards_the_unbiased_variance(isa, rows, dtype):
    rng = np.random.default_rng(5)
    running = random(rng, 2, 19, dtype=dtype) ** 2
    mean, var = random(rng, 2, 19, dtype=dtype) ** 2
    before = running.copy()
    norm.batch_norm_running(*running, mean, var, rows, 0.25)
    np.testing.assert_allclose(running[0], 0.75 * before[0] + 0.25 * mean, rtol=8 * UNIT[dtype])
    unbiased = var * rows / (rows - 1)
    np.testing.assert_allclose(running[1], 0.75 * before[1] + 0.25 * unbiased, rtol=8 * UNIT[dtype])


def test_without_a_momentum_running_statistics_are_averages_of_all_batches(isa):
    rng = np.random.default_rng(6)
    running_mean, running_var, batches = np.zeros(7), np.ones(7), np.array(0)
    means, variances = rng.random((2, 12, 7))
    for count, (mean, var) in enumerate(zip(means, variances, strict=True), 1):
        norm.batch_norm_running(running_mean, running_var, mean, var, 5, None, batches)
        assert batches == count
        np.testing.assert_allclose(running_mean, means[:count].mean(0), rtol=1e-14)
        np.testing.assert_allclose(running_var, variances[:count].mean(0) * 5 / 4, rtol=1e-14)


def test_batches_are_counted_whatever_the_momentum():
    running_mean, running_var, batches = np.zeros(3), np.ones(3), np.array(41)
    norm.batch_norm_running(running_mean, running_var, np.ones(3), np.ones(3), 2, 0.5, batches)
    assert batches == 42
    np.testing.assert_array_equal(running_mean, np.full(3, 0.5))


def test_the_count_of_batches_ends_at_the_largest():
    """A file may say that there were so many; the next count was the most negative one, and so the statistics' gain."""
    running_mean, running_var, batches = np.zeros(3), np.ones(3), np.array(2**63 - 1)
    norm.batch_norm_running(running_mean, running_var, np.ones(3), np.ones(3), 2, None, batches)
    assert batches == 2**63 - 1
    np.testing.assert_array_equal(running_mean, np.full(3, 1 / (2**63 - 1)))


def test_one_row_has_no_unbiased_variance_and_counts_its_own():
    running_mean, running_var = np.zeros(3), np.ones(3)
    norm.batch_norm_running(running_mean, running_var, np.ones(3), np.zeros(3), 1, 0.5)
    np.testing.assert_array_equal(running_var, np.full(3, 0.5))


# ---- maps ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "gelu"])
def test_normalized_values_are_the_twins(isa, dtype, activation):
    rng = np.random.default_rng(7)
    for rows, channels in SHAPES:
        x, residual = random(rng, 2, rows, channels, dtype=dtype)
        mean, weight, bias = random(rng, 3, channels, dtype=dtype)
        invstd = np.abs(random(rng, channels, dtype=dtype)) + dtype(0.1)
        for used in [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)]:
            w, b, r = (v if u else None for v, u in zip((weight, bias, residual), used, strict=True))
            parts = (1.0 if w is None else w, 0.0 if b is None else b, 0.0 if r is None else r)
            want = twin.normalize(x, mean, invstd, *parts)
            size = np.abs(x - mean) * invstd * np.abs(parts[0]) + np.abs(parts[1]) + np.abs(parts[2])
            if activation:
                want = act_twin.activation(activation, want, 0.5, 0.0)
            how = {"residual": r, "activation": activation, "alpha": 0.5}
            y = norm.batch_norm_apply(x, mean, invstd, w, b, **how)
            assert close(y, want, size, dtype, 12), (rows, channels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_integers_are_normalized_exactly(isa, dtype):
    rng = np.random.default_rng(8)
    for rows, channels in SHAPES:
        x, residual = rng.integers(-9, 10, (2, rows, channels)).astype(dtype)
        mean, weight, bias = rng.integers(-3, 4, (3, channels)).astype(dtype)
        invstd = 2.0 ** rng.integers(-2, 3, channels).astype(dtype)
        y = norm.batch_norm_apply(x, mean, invstd, weight, bias, residual=residual, activation="relu")
        want = np.maximum(twin.normalize(x, mean, invstd, weight, bias, residual), 0)
        np.testing.assert_array_equal(y, want)
        y = norm.batch_norm_eval(x, mean, invstd**-2, weight, bias, 0.0, residual=residual)
        np.testing.assert_array_equal(y, twin.normalize(x, mean, invstd, weight, bias, residual))


@pytest.mark.parametrize("dtype", DTYPES)
def test_evaluation_uses_the_running_statistics(isa, dtype):
    rng = np.random.default_rng(9)
    for rows, channels in [(1, 3), (50, 16), (9, 515), (3000, 6)]:
        x, residual = random(rng, 2, rows, channels, dtype=dtype)
        mean, weight, bias = random(rng, 3, channels, dtype=dtype)
        var = rng.random(channels).astype(dtype)
        y = norm.batch_norm_eval(x, mean, var, weight, bias, 0.1, residual=residual, activation="relu")
        invstd = norm.batch_norm_invstd(var, 0.1)
        assert close(invstd, (var + 0.1) ** -0.5, (var + 0.1) ** -0.5, dtype)
        same = norm.batch_norm_apply(x, mean, invstd, weight, bias, residual=residual, activation="relu")
        np.testing.assert_array_equal(y, same)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_normalized_by_group_are_the_twins(isa, dtype):
    rng = np.random.default_rng(10)
    for n, rows, channels, groups in GROUP_SHAPES:
        x, residual = random(rng, 2, n, rows, channels, dtype=dtype)
        weight, bias = random(rng, 2, channels, dtype=dtype)
        mean, invstd = group_statistics(x, groups)
        y = norm.group_norm_apply(x, mean, invstd, weight, bias, residual=residual, activation="relu")
        per = channels // groups
        spread = [np.repeat(v, per, 1)[:, None] for v in (mean, invstd)]
        want = np.maximum(twin.normalize(x, *spread, weight, bias, residual), 0)
        size = np.abs(x - spread[0]) * spread[1] * np.abs(weight) + np.abs(bias) + np.abs(residual)
        assert close(y, want, size, dtype)


def test_instance_norm_of_one_sample_is_batch_norm(isa):
    rng = np.random.default_rng(11)
    x, dy = random(rng, 2, 1, 900, 20, dtype=np.float64)
    weight = random(rng, 20, dtype=np.float64)
    mean, invstd = group_statistics(x, 20)
    np.testing.assert_allclose((mean[0], invstd[0]), batch_statistics(x[0])[:2], rtol=1e-12)
    ours = group_gradients(dy, x, mean, invstd, weight)
    batch = batch_gradients(dy[0], x[0], mean[0], invstd[0], weight)
    for a, b in zip((ours[0][0], *ours[1:]), batch, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_is_the_twin(isa, dtype):
    rng = np.random.default_rng(12)
    for cols, rows in itertools.product((*CHANNELS, 4096, 5001), (1, 7)):
        x = random(rng, rows, cols, dtype=dtype) * 2 + 1
        weight, bias = random(rng, 2, cols, dtype=dtype)
        y, mean, invstd = norm.layer_norm(x, weight, bias, 1e-3)
        want_mean, want_var = (v[:, 0].astype(np.float64) for v in twin.moments(x, 1))
        assert close(mean, want_mean, np.abs(x).mean(1), dtype, 4)
        assert close(invstd, (want_var + 1e-3) ** -0.5, (want_var + 1e-3) ** -0.5, dtype)
        xhat = twin.normalize(x, mean[:, None], invstd[:, None])
        assert close(y, xhat * weight + bias, np.abs(xhat * weight) + np.abs(bias), dtype)
        np.testing.assert_array_equal(norm.layer_norm(x, weight, None, 1e-3)[1], mean)
        plain = norm.layer_norm(x, None, None, 1e-3)[0]
        assert close(plain, xhat, np.abs(xhat), dtype)


@pytest.mark.parametrize("distance", [1e3, 1e6])
def test_layer_norm_is_as_exact_far_from_zero_as_near_it(isa, distance):
    x = random(np.random.default_rng(13), 5, 3000) + np.float32(distance)
    _, mean, invstd = norm.layer_norm(x)
    want_mean, want_var = (v[:, 0].astype(np.float64) for v in twin.moments(x, 1))
    assert close(mean, want_mean, distance, np.float32, 1)
    assert close(invstd, (want_var + EPS) ** -0.5, want_var**-0.5, np.float32)


def response_grad_size(dy, x, base, size, alpha, beta):
    """The terms of the gradient, all taken as positive, where log(base) is lost in a power."""
    dy, x, power = np.abs(dy), np.abs(x), base**-beta * (2 + np.abs(np.log(base)))
    terms = twin.windows(dy * x * power / base, size, (size - 1) // 2)
    return dy * power + 2 * alpha * beta / size * x * terms


RESPONSES = [
    (5, 1e-4, 0.75, 1.0),
    (5, 1.0, 0.75, 2.0),
    (4, 0.5, 0.5, 1.0),
    (1, 2.0, 1.3, 0.5),
    (9, 3.0, 0.75, 1.0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("setting", RESPONSES)
def test_local_response_norm_is_the_twin(isa, dtype, setting):
    rng = np.random.default_rng(14)
    for rows, channels in itertools.product((1, 6, 700), (1, 2, 3, 8, 17, 33, 64, 70)):
        x, dy = random(rng, 2, rows, channels, dtype=dtype) * 3
        y, base = norm.local_response_norm(x, *setting)
        want, want_base = twin.local_response_norm(x, *setting)
        assert close(base, want_base, want_base, dtype)
        assert close(y, want, np.abs(want) * (2 + np.abs(np.log(want_base))), dtype)
        dx = norm.local_response_norm_backward(dy, x, base, *setting[:3])
        want = twin.local_response_norm_backward(dy, x, *setting)
        assert close(dx, want, response_grad_size(dy, x, want_base, *setting[:3]), dtype)


# ---- gradients ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_gradient_sums_of_pieces_are_the_twins(isa, dtype, activation):
    rng = np.random.default_rng(15)
    for rows, channels in SHAPES:
        dy, x, y = random(rng, 3, rows, channels, dtype=dtype)
        mean, invstd = random(rng, channels, dtype=dtype), rng.random(channels).astype(dtype)
        g = dy.astype(np.float64)
        how = {}
        if activation:
            g = g * ((y > 0) if activation == "relu" else 1 - y.astype(np.float64) ** 2)
            how = {"y": y, "activation": activation}
        partial = norm.batch_norm_grad_stats(dy, x, mean, invstd, **how)
        xhat = twin.normalize(x, mean, invstd)
        want = twin.grad_pieces(g, xhat, piece_rows(rows))
        slope = np.abs(dy) * (1 + y.astype(np.float64) ** 2)
        size = twin.grad_pieces(slope, np.abs(xhat), piece_rows(rows))
        assert not partial[len(want) :].any()
        assert close(partial[: len(want)], want, size, dtype), (rows, channels)
        dweight, dbias, sums = norm.batch_norm_grad_finish(partial, rows)
        size = np.abs(partial).sum(0)
        assert close(sums, partial.sum(0, np.float64), size, dtype, 1 if dtype == np.float32 else 16)
        np.testing.assert_array_equal(sums, [dbias, dweight])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_sums_of_small_integers_are_exact(isa, dtype):
    rng = np.random.default_rng(16)
    for rows, channels in SHAPES:
        dy, x, y = rng.integers(-4, 5, (3, rows, channels)).astype(dtype)
        mean, invstd = rng.integers(-3, 4, channels).astype(dtype), np.full(channels, 2, dtype)
        partial = norm.batch_norm_grad_stats(dy, x, mean, invstd, y=y, activation="relu")
        dweight, dbias, _ = norm.batch_norm_grad_finish(partial, rows)
        g = dy * (y > 0)
        np.testing.assert_array_equal(dbias, g.sum(0))
        np.testing.assert_array_equal(dweight, (g * (x - mean) * 2).sum(0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid"])
def test_gradients_for_the_input_are_the_twins(isa, dtype, activation):
    rng = np.random.default_rng(17)
    for rows, channels in SHAPES:
        dy, x, y = random(rng, 3, rows, channels, dtype=dtype)
        mean, weight, *sums = random(rng, 4, channels, dtype=dtype)
        invstd = rng.random(channels).astype(dtype)
        sums = np.array(sums) * dtype(rows)
        how = {"y": y, "activation": activation} if activation else {}
        slope = {None: 1, "relu": y > 0, "sigmoid": y * (1 - y.astype(np.float64))}[activation]
        g, xhat = dy * np.float64(1) * slope, twin.normalize(x, mean, invstd)
        along = [sums[0] / rows, xhat * sums[1] / rows]
        size = np.abs(dy) * (1 + y.astype(np.float64) ** 2) + np.abs(along[0]) + np.abs(along[1])
        for w, residual in itertools.product((None, weight), (False, True)):
            scale = invstd * (np.float64(1) if w is None else w)
            dx = norm.batch_norm_grad_apply(dy, x, mean, invstd, w, sums, residual=residual, **how)
            if residual:
                dx, dresidual = dx
                assert close(dresidual, g, np.abs(dy) * (1 + y.astype(np.float64) ** 2), dtype)
            assert close(dx, scale * (g - along[0] - along[1]), np.abs(scale) * size, dtype)
            frozen = norm.batch_norm_grad_apply(dy, x, mean, invstd, w, **how)
            assert close(frozen, scale * g, np.abs(scale) * size, dtype)


def central(f, x, step=1e-6):
    """The gradient of f at x; f takes no argument and reads x."""
    slope = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        at = x[i]
        x[i] = at + step
        up = f()
        x[i] = at - step
        slope[i] = (up - f()) / (2 * step)
        x[i] = at
    return slope


def assert_gradient(got, f, x):
    np.testing.assert_allclose(got, central(f, x), rtol=2e-7, atol=2e-8)


@pytest.mark.parametrize("activation", [None, *FROM_OUTPUT])
@pytest.mark.parametrize("shape", [(9, 5), (70, 2)])
def test_batch_norm_gradients_are_central_differences(activation, shape):
    rng = np.random.default_rng(18)
    x, residual, dy = random(rng, 3, *shape, dtype=np.float64)
    weight, bias = random(rng, 2, shape[1], dtype=np.float64)

    def forward():
        mean, invstd, _ = batch_statistics(x)
        how = {"residual": residual, "activation": activation}
        return norm.batch_norm_apply(x, mean, invstd, weight, bias, **how), mean, invstd

    def loss():
        return (forward()[0] * dy).sum()

    y, mean, invstd = forward()
    how = {"y": y, "activation": activation} if activation else {}
    dx, dweight, dbias = batch_gradients(dy, x, mean, invstd, weight, residual=True, **how)
    for got, array in zip((*dx, dweight, dbias), (x, residual, weight, bias), strict=True):
        assert_gradient(got, loss, array)


def test_gradients_in_evaluation_mode_are_central_differences():
    rng = np.random.default_rng(19)
    x, dy = random(rng, 2, 11, 5, dtype=np.float64)
    running_mean, weight, bias = random(rng, 3, 5, dtype=np.float64)
    running_var = rng.random(5)

    def forward():
        return norm.batch_norm_eval(x, running_mean, running_var, weight, bias, activation="relu")

    def loss():
        return (forward() * dy).sum()

    how = {"y": forward(), "activation": "relu"}
    invstd = norm.batch_norm_invstd(running_var)
    dx = norm.batch_norm_grad_apply(dy, x, running_mean, invstd, weight, **how)
    partial = norm.batch_norm_grad_stats(dy, x, running_mean, invstd, **how)
    dweight, dbias, _ = norm.batch_norm_grad_finish(partial, len(x))
    for got, array in zip((dx, dweight, dbias), (x, weight, bias), strict=True):
        assert_gradient(got, loss, array)


@pytest.mark.parametrize("shape", [(2, 4, 6, 2), (2, 3, 6, 6), (3, 1, 4, 1), (1, 70, 2, 2)])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_group_norm_gradients_are_central_differences(shape, activation):
    rng = np.random.default_rng(20)
    *shape, groups = shape
    x, dy = random(rng, 2, *shape, dtype=np.float64)
    weight, bias = random(rng, 2, shape[2], dtype=np.float64)

    def forward():
        mean, invstd = group_statistics(x, groups)
        return (
            norm.group_norm_apply(x, mean, invstd, weight, bias, activation=activation),
            mean,
            invstd,
        )

    def loss():
        return (forward()[0] * dy).sum()

    y, mean, invstd = forward()
    how = {"y": y, "activation": activation} if activation else {}
    gradients = group_gradients(dy, x, mean, invstd, weight, **how)
    for got, array in zip(gradients, (x, weight, bias), strict=True):
        assert_gradient(got, loss, array)


@pytest.mark.parametrize("shape", [(3, 7), (70, 2), (2, 33)])
def test_layer_norm_gradients_are_central_differences(shape):
    rng = np.random.default_rng(21)
    x, dy = random(rng, 2, *shape, dtype=np.float64)
    weight, bias = random(rng, 2, shape[1], dtype=np.float64)

    def loss():
        return (norm.layer_norm(x, weight, bias)[0] * dy).sum()

    _, mean, invstd = norm.layer_norm(x, weight, bias)
    gradients = layer_gradients(dy, x, mean, invstd, weight)
    for got, array in zip(gradients, (x, weight, bias), strict=True):
        assert_gradient(got, loss, array)


@pytest.mark.parametrize("setting", RESPONSES)
def test_local_response_norm_gradients_are_central_differences(setting):
    rng = np.random.default_rng(22)
    x, dy = random(rng, 2, 2, 13, dtype=np.float64)
    _, base = norm.local_response_norm(x, *setting)
    dx = norm.local_response_norm_backward(dy, x, base, *setting[:3])
    assert_gradient(dx, lambda: (norm.local_response_norm(x, *setting)[0] * dy).sum(), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_gradients_are_the_twins(isa, dtype):
    rng = np.random.default_rng(23)
    for rows, cols in [(1, 1), (3, 5), (7, 16), (130, 33), (500, 70), (9, 4097)]:
        dy, x = random(rng, 2, rows, cols, dtype=dtype)
        weight = random(rng, cols, dtype=dtype)
        _, mean, invstd = norm.layer_norm(x)
        wide = invstd[:, None].astype(np.float64)
        xhat = twin.normalize(x, mean[:, None], wide)
        dx, dweight, dbias = layer_gradients(dy, x, mean, invstd, weight)
        want = wide * (dy * weight - (dy * weight).mean(1, keepdims=True, dtype=np.float64))
        want -= wide * xhat * (dy * weight * xhat).mean(1, keepdims=True)
        size = wide * (np.abs(dy * weight) + (np.abs(dy * weight) * (1 + np.abs(xhat))).mean(1, keepdims=True))
        assert close(dx, want, size * (1 + np.abs(xhat)), dtype)
        assert close(dweight, (dy * xhat).sum(0), np.abs(dy * xhat).sum(0), dtype)
        assert close(dbias, dy.sum(0, dtype=np.float64), np.abs(dy).sum(0), dtype)


# ---- numbers far from 1 ----

# Powers of two: of numbers so scaled, everything else is scaled exactly, and the twins may look at the others.
FAR = [
    *((np.float32, power) for power in (50, 63, 83, 123, -50, -63, -83, -119)),
    *((np.float64, power) for power in (400, 511, 830, 1015, -400, -511, -830, -1000)),
]


def far_settings(dtype, power):
    """eps, and what it is to the numbers near 1."""
    yield 0.0, 0.0
    if abs(power) < 500:
        yield 1e-5, math.ldexp(1e-5, -2 * power)
        yield math.ldexp(1e-3, 2 * power), 1e-3


def check_far(near, dy, weight, bias, axes, count, power, eps, got):
    """y, statistics and gradients of near * 2**power against the twins of `near`; `axes` are those that each mean
    is taken over, and `count` how many times the usual roundings are allowed."""
    y, mean, invstd, dx, dweight, dbias = got
    dtype = near.dtype.type
    scale = math.ldexp(1.0, power)
    want_mean, want_var = (v.astype(np.float64) for v in twin.moments(near, axes))
    want_invstd = 1 / np.sqrt(want_var + eps)
    allowed = count * (8 if dtype == np.float32 else 16)
    assert close(mean * dtype(1 / scale), want_mean.reshape(mean.shape), np.abs(near).max(), dtype, allowed)
    sharp = want_invstd.reshape(mean.shape)
    assert close(invstd * dtype(scale), sharp, sharp, dtype, allowed)
    xhat = (near - want_mean) * want_invstd
    spread = (np.abs(near) + np.abs(want_mean)) * want_invstd
    assert close(y, xhat * weight + bias, np.abs(spread * weight) + np.abs(bias), dtype, allowed)
    want = twin.grad(dy, xhat, want_invstd, weight, axes)
    size = want_invstd * (np.abs(dy * weight) + (np.abs(dy * weight) * (1 + spread)).mean(axes, keepdims=True))
    # Gradients of the largest numbers are subnormal, as is the weight by the inverse deviation that they begin with.
    size = size + (1 + np.abs(dy)) * (float(np.finfo(dtype).smallest_subnormal) * scale / UNIT[dtype])
    assert close(dx * dtype(scale), want, size * (1 + spread), dtype, allowed)
    others = tuple(range(near.ndim - dweight.ndim))
    assert close(dweight, (dy * xhat).sum(others), (np.abs(dy) * spread).sum(others), dtype, allowed)
    assert close(dbias, dy.sum(others, np.float64), np.abs(dy).sum(others), dtype, allowed)


@pytest.mark.parametrize("dtype, power", FAR)
def test_layer_norm_of_numbers_far_from_1_is_the_twin(isa, dtype, power):
    rng = np.random.default_rng(40)
    for rows, cols in ((1, 7), (5, 16), (6, 70), (20, 1500)):
        near = random(rng, rows, cols, dtype=dtype) * 2 + 1
        dy, (weight, bias) = random(rng, rows, cols, dtype=dtype), random(rng, 2, cols, dtype=dtype)
        for eps, near_eps in far_settings(dtype, power):
            x = near * dtype(math.ldexp(1.0, power))
            y, mean, invstd = norm.layer_norm(x, weight, bias, eps)
            gradients = layer_gradients(dy, x, mean, invstd, weight)
            check_far(near, dy, weight, bias, (1,), 1, power, near_eps, (y, mean, invstd, *gradients))
            in_place = x.copy()
            norm.layer_norm(in_place, weight, bias, eps, out=in_place)
            np.testing.assert_array_equal(in_place, y)


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("dtype, power", FAR)
def test_batch_norm_of_numbers_far_from_1_is_the_twin(isa, dtype, power, activation):
    rng = np.random.default_rng(41)
    for rows, channels in ((5, 17), (300, 3), (2000, 33)):
        near = random(rng, rows, channels, dtype=dtype) * 2 + 1
        dy, (weight, bias) = random(rng, rows, channels, dtype=dtype), random(rng, 2, channels, dtype=dtype)
        for eps, near_eps in far_settings(dtype, power):
            x = near * dtype(math.ldexp(1.0, power))
            mean, invstd, var = batch_statistics(x, eps)
            with np.errstate(over="ignore", under="ignore"):
                want_var = (twin.moments(near, 0)[1][0] * np.longdouble(2.0) ** (2 * power)).astype(dtype)
            kept = np.isfinite(want_var) & (want_var > np.finfo(dtype).tiny / UNIT[dtype])
            np.testing.assert_allclose(var[kept], want_var[kept], rtol=32 * UNIT[dtype])
            assert np.all(np.isinf(var) == np.isinf(want_var))
            y = norm.batch_norm_apply(x, mean, invstd, weight, bias)
            how, g = {}, dy
            if activation:
                output = random(rng, rows, channels, dtype=dtype)
                how = {"activation": activation, "y": output}
                g = (dy * ((output > 0) if activation == "relu" else 1 - output * output)).astype(dtype)
            gradients = batch_gradients(dy, x, mean, invstd, weight, **how)
            check_far(near, g, weight, bias, (0,), 2, power, near_eps, (y, mean, invstd, *gradients))


@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("dtype, power", FAR)
def test_group_norm_of_numbers_far_from_1_is_the_twin(isa, dtype, power, groups):
    rng = np.random.default_rng(42)
    for rows in (4, 200):
        near = random(rng, 2, rows, 12, dtype=dtype) * 2 + 1
        dy, (weight, bias) = random(rng, 2, rows, 12, dtype=dtype), random(rng, 2, 12, dtype=dtype)
        for eps, near_eps in far_settings(dtype, power):
            x = near * dtype(math.ldexp(1.0, power))
            mean, invstd = group_statistics(x, groups, eps)
            y = norm.group_norm_apply(x, mean, invstd, weight, bias)
            dx, dweight, dbias = group_gradients(dy, x, mean, invstd, weight)
            grouped = [twin.by_group(v, groups) for v in (near, dy, y, dx)]
            shape = (groups, -1)
            check_far(
                *grouped[:2],
                weight.reshape(shape),
                bias.reshape(shape),
                (1, 3),
                2,
                power,
                near_eps,
                (grouped[2], mean, invstd, grouped[3], dweight.reshape(shape), dbias.reshape(shape)),
            )


def far_shapes():
    """Statistics of so many numbers that far ones are cut: their family, shape, and axes of a mean."""
    yield "layer", (2, 600_000), (1,)
    yield "batch", (300_000, 3), (0,)
    yield "batch", (9_000, 140), (0,)
    yield "group", (2, 1000, 300), (1, 3)
    yield "group", (1, 2, 400_000), (1, 3)  # a group in parts


def statistics(family, x, eps):
    """y, mean and invstd, as the family's ops compute them, of one group."""
    if family == "layer":
        return norm.layer_norm(x, None, None, eps)
    if family == "batch":
        mean, invstd, _ = batch_statistics(x, eps)
        return norm.batch_norm_apply(x, mean, invstd, None, None), mean, invstd
    mean, invstd = group_statistics(x, 1, eps)
    return norm.group_norm_apply(x, mean, invstd, None, None), mean, invstd


@pytest.mark.parametrize("family, shape, axes", list(far_shapes()))
@pytest.mark.parametrize("dtype, power, eps", [(np.float32, 100, 0), (np.float64, 900, 0), (np.float64, 1000, 1e-300)])
@pytest.mark.parametrize("kind", ["large", "small", "of all sizes"])
def test_many_numbers_far_from_1_have_the_twins_statistics(family, shape, axes, dtype, power, eps, kind):
    """Parts have scales of their own: also those of zeros only, and of numbers next to much larger ones."""
    rng = np.random.default_rng(43)
    sizes = {"large": [power], "small": [-power], "of all sizes": [-power, None, 0, power - 3, -power, power]}[kind]
    scales = np.array([0 if p is None else math.ldexp(1, p) for p in sizes], dtype)
    places = np.arange(np.prod(shape)).reshape(shape) * len(scales) // np.prod(shape)
    x = (random(rng, *shape, dtype=dtype) + dtype(0.5)) * scales[places]
    y, mean, invstd = statistics(family, x, eps)
    grouped = twin.by_group(x, 1) if family == "group" else x
    want_mean, want_var = twin.moments(grouped, axes)
    sharp = 1 / np.sqrt(want_var + np.longdouble(eps))
    largest = np.abs(grouped).max(axes, keepdims=True).astype(np.longdouble)
    rounding = 16 * UNIT[dtype]
    want_mean, sharp, largest = (v.reshape(mean.shape) for v in (want_mean, sharp, largest))
    assert np.all(np.abs(mean - want_mean) <= rounding * largest)
    assert np.all(np.abs(invstd - sharp) <= rounding * sharp)
    shape = (-1, *(1,) * (x.ndim - 1)) if family != "batch" else (1, -1)
    want = (x - want_mean.reshape(shape)) * sharp.reshape(shape)
    spread = (np.abs(x) + np.abs(want_mean).reshape(shape)) * sharp.reshape(shape)
    assert np.all(np.abs(y - want) <= rounding * (spread + 1))
    for got in on_threads(lambda: statistics(family, x, eps)):
        for a, b in zip(got, (y, mean, invstd), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family, shape, axes", list(far_shapes()))
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_value_that_is_not_finite_among_many_far_from_1_spoils_its_statistics(family, shape, axes, value):
    x = np.full(shape, 1e30, np.float32)
    x[..., 0][..., : shape[-1] // 2] *= -1
    x[(-1,) * len(shape)] = value
    _, _, invstd = statistics(family, x, 0)
    assert np.isnan(invstd.reshape(-1)[-1])


@pytest.mark.parametrize("dtype, power", [(np.float32, 100), (np.float32, -100), (np.float64, 900), (np.float64, -900)])
def test_gradients_of_long_rows_far_from_1_are_the_twins(dtype, power):
    rng = np.random.default_rng(44)
    rows, cols = 2, 600_000
    near, dy = (random(rng, rows, cols, dtype=dtype) for _ in range(2))
    x, weight = near * dtype(math.ldexp(1, power)), random(rng, cols, dtype=dtype)
    _, mean, invstd = norm.layer_norm(x, weight, None, 0)
    dx, *_ = layer_gradients(dy, x, mean, invstd, weight)
    want_mean, want_var = (v.astype(np.float64) for v in twin.moments(near, 1))
    sharp = 1 / np.sqrt(want_var)
    want = twin.grad(dy, (near - want_mean) * sharp, sharp, weight, (1,))
    size = sharp * (np.abs(dy * weight) + 1) * (1 + np.abs(near))
    assert close(dx * dtype(math.ldexp(1, power)), want, size, dtype)
    for got, *_ in on_threads(lambda: layer_gradients(dy, x, mean, invstd, weight)):
        np.testing.assert_array_equal(got, dx)


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("rows, channels", [(60_000, 40), (600_000, 1)])
def test_dots_that_overflow_are_taken_again_in_parts(isa, rows, channels, activation):
    """(x - mean) dy leaves the range of float32 in some channels; times invstd, it is far from it."""
    rng = np.random.default_rng(45)
    dy, y = random(rng, rows, channels), random(rng, rows, channels)
    x = random(rng, rows, channels) + np.float32(0.5)
    large = np.arange(channels) % 3 == 0
    scale = np.where(large, np.float32(2.0**120), np.float32(1))
    x, dy = x * scale, dy * np.float32(2**20)
    mean, invstd = np.zeros(channels, np.float32), np.float32(1) / scale
    how = {"activation": activation, "y": y} if activation else {}
    partial = on_threads(lambda: norm.batch_norm_grad_stats(dy, x, mean, invstd, **how))
    for other in partial[1:]:
        np.testing.assert_array_equal(other, partial[0])
    g = dy * {None: 1, "relu": y > 0, "tanh": 1 - y * y}[activation].astype(np.float64) if activation else dy
    want = (g * (x / scale)).sum(0, np.float64)
    assert close(partial[0][:, 1].sum(0), want, np.abs(g * (x / scale)).sum(0, np.float64), np.float32)


# ---- special values ----


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("channels", [1, 3, 8, 40])
def test_a_value_that_is_not_finite_spoils_its_channel_and_no_other(isa, value, channels):
    rng = np.random.default_rng(24)
    x = random(rng, 500, channels)
    usual = batch_statistics(x)
    for row, channel in [(0, 0), (3, channels - 1), (499, channels // 2)]:
        spoilt = x.copy()
        spoilt[row, channel] = value
        mean, invstd, var = batch_statistics(spoilt)
        assert not math.isfinite(mean[channel])
        assert math.isnan(invstd[channel]) and math.isnan(var[channel])
        for got, want in zip((mean, invstd, var), usual, strict=True):
            np.testing.assert_array_equal(np.delete(got, channel), np.delete(want, channel))
        y = norm.batch_norm_apply(spoilt, mean, invstd, activation="relu")
        assert np.isnan(y[:, channel]).all()
        assert np.isfinite(np.delete(y, channel, 1)).all()
        spoilt_dy = norm.batch_norm_grad_stats(spoilt, x, *usual[:2])
        _, dbias, sums = norm.batch_norm_grad_finish(spoilt_dy, 500)
        np.testing.assert_array_equal(np.isfinite(dbias), np.arange(channels) != channel)
        dx = norm.batch_norm_grad_apply(spoilt, x, *usual[:2], None, sums)
        np.testing.assert_array_equal(np.isfinite(dx), np.broadcast_to(np.arange(channels) != channel, x.shape))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_spoils_its_row_or_group_and_no_other(isa, value):
    for cols in (1, 5, 16, 40, 700):
        x = random(np.random.default_rng(25), 6, cols)
        x[2, cols // 2] = value
        y, mean, invstd = norm.layer_norm(x)
        assert np.isnan(y[2]).all() and math.isnan(invstd[2])
        assert np.isfinite(np.delete(y, 2, 0)).all() and np.isfinite(np.delete(mean, 2)).all()
    x = random(np.random.default_rng(26), 2, 30, 12)
    x[1, 4, 5] = value
    mean, invstd = group_statistics(x, 3)
    np.testing.assert_array_equal(np.isnan(mean), [[False] * 3, [False, True, False]])
    np.testing.assert_array_equal(np.isnan(invstd), np.isnan(mean))


def test_relu_passes_nan_and_stops_gradients_where_the_output_is_not_positive(isa):
    x = np.array([[math.nan, -1.0, 0.0, 2.0, math.inf, -math.inf]], np.float32)
    zero, one = np.zeros(6, np.float32), np.ones(6, np.float32)
    y = norm.batch_norm_apply(x, zero, one, activation="relu")
    np.testing.assert_array_equal(y, [[math.nan, 0, 0, 2, math.inf, 0]])
    dy = np.full((1, 6), 3, np.float32)
    _, g = norm.batch_norm_grad_apply(dy, x, zero, one, y=y, activation="relu", residual=True)
    np.testing.assert_array_equal(g, [[3, 0, 0, 3, 3, 0]])


def test_local_response_norm_passes_nan_within_its_window(isa):
    x = np.ones((2, 20), np.float32)
    x[0, 7] = math.nan
    y, base = norm.local_response_norm(x, 5)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y[0])), [5, 6, 7, 8, 9])
    assert np.isfinite(y[1]).all()
    dx = norm.local_response_norm_backward(np.ones_like(x), x, base, 5)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(dx[0])), range(3, 12))
    assert np.isfinite(dx[1]).all()


# ---- bits, buffers, places ----


def everything(x, dy, residual, y, weight, bias):
    """All results of all functions, in a list."""
    rows, channels = x.shape
    results = []

    def keep(*arrays):
        results.extend(np.array(a, copy=True) for a in arrays)

    mean, invstd, var = batch_statistics(x)
    keep(norm.batch_norm_stats(x), mean, invstd, var)
    for activation in (None, "relu", "tanh"):
        how = {"residual": residual, "activation": activation}
        keep(norm.batch_norm_apply(x, mean, invstd, weight, bias, **how))
        keep(norm.batch_norm_eval(x, mean, var, weight, bias, **how))
        how = {"y": y, "activation": activation} if activation else {}
        dx, *params = batch_gradients(dy, x, mean, invstd, weight, residual=True, **how)
        keep(*dx, *params)
        keep(norm.batch_norm_grad_apply(dy, x, mean, invstd, weight, **how))
    keep(*norm.layer_norm(x, weight, bias))
    _, means, invstds = norm.layer_norm(x)
    keep(*layer_gradients(dy, x, means, invstds, weight))
    samples = next(n for n in (7, 3, 2, 1) if rows % n == 0)
    x3, dy3, y3 = (a.reshape(samples, rows // samples, channels) for a in (x, dy, y))
    for groups in {1, channels}:
        mean, invstd = group_statistics(x3, groups)
        keep(mean, invstd, norm.group_norm_apply(x3, mean, invstd, weight, bias, activation="relu"))
        keep(*group_gradients(dy3, x3, mean, invstd, weight, y=y3, activation="relu"))
    normed, base = norm.local_response_norm(x, 5)
    keep(normed, base, norm.local_response_norm_backward(dy, x, base, 5))
    return results


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40_001, 3), (12_600, 16), (3_003, 64), (901, 515), (50, 2048)])
def test_the_bits_do_not_depend_on_the_threads(isa, dtype, shape):
    rng = np.random.default_rng(27)
    arrays = [*random(rng, 4, *shape, dtype=dtype), *random(rng, 2, shape[1], dtype=dtype)]
    first, *others = on_threads(lambda: everything(*arrays))
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_kernel_leaves_its_buffers(isa, guarded, dtype):
    rng = np.random.default_rng(28)
    for rows, channels in itertools.product((1, 5, 66), (1, 3, 7, 16, 17, 33)):
        x, dy, residual, y = random(rng, 4, rows, channels, dtype=dtype)
        weight, bias, mean, invstd = random(rng, 4, channels, dtype=dtype)
        sums, rowwise = random(rng, 2, channels, dtype=dtype), random(rng, 2, rows, dtype=dtype)
        grow = random(rng, PIECES, 2, channels, dtype=dtype)

        def check(kernel, dims, **arrays):
            """The same on guarded buffers as on others, where what is not written stays."""
            given = {name: a if a is None else a.copy() for name, a in arrays.items()}
            run_op(kernel, dtype, **given, **dims)
            held = {name: a if a is None else guarded(a) for name, a in arrays.items()}
            run_op(kernel, dtype, **held, **dims)
            for a, b in zip(given.values(), held.values(), strict=True):
                if a is not None:
                    np.testing.assert_array_equal(a, b)

        size = {"rows": rows, "channels": channels}
        moments = {"mean": mean, "invstd": invstd}
        affine = {"weight": weight, "bias": bias}
        params = {"dweight": weight, "dbias": bias}
        check("batch_norm_stats", size, partial=grow, x=x)
        check("batch_norm_finish", {**size, "eps": EPS}, **moments, var=bias, partial=np.abs(grow), x=x)
        moved = {"running_mean": mean, "running_var": invstd}
        check("batch_norm_running", {**size, "momentum": 0.01}, **moved, mean=weight, var=bias)
        check("batch_norm_invstd", {"channels": channels, "eps": EPS}, invstd=invstd, var=np.abs(mean))
        samples = {"n": 1, **size}
        grouped = {**samples, "groups": channels}
        few = grow[: group_pieces(rows)]
        check("group_norm_stats", samples, partial=few, x=x)
        check("group_norm_finish", {**grouped, "eps": EPS}, **moments, partial=np.abs(few), x=x)
        check("group_norm_grad_params", samples, **params, partial=few)
        check("group_norm_grad_finish", grouped, sums=sums, partial=few, weight=weight)
        check("batch_norm_grad_finish", size, **params, sums=sums, partial=grow)
        for kind in (None, "relu", "tanh"):
            act = epilogue(kind, 0.01)
            check("batch_norm_apply", size | act, y=dy, x=x, **moments, **affine, residual=residual)
            running = {"running_mean": mean, "running_var": np.abs(invstd)}
            evaluation = {**size, **act, "eps": EPS}
            check("batch_norm_eval", evaluation, y=dy, x=x, **running, **affine, residual=residual)
            check("batch_norm_grad_stats", size | act, partial=grow, dy=dy, x=x, **moments, y=y)
            given = {"dy": dy, "x": x, **moments, "weight": weight, "sums": sums, "y": y}
            check("batch_norm_grad_apply", size | act, dx=residual, dresidual=x, **given)
            check("batch_norm_grad_apply", size | act, dresidual=x, **given)
            # Without sums, x and mean are not read: they have no more than an element.
            constants = {"dy": dy, "x": x[:1, :1], "mean": mean[:1], "invstd": invstd, "y": y}
            check("batch_norm_grad_apply", size | act, dx=residual, dresidual=np.ones_like(x), **constants)
            check("group_norm_apply", grouped | act, y=dy, x=x, **moments, **affine)
            check("group_norm_grad_stats", grouped | act, partial=few, dy=dy, x=x, **moments, y=y)
            check("group_norm_grad_apply", grouped | act, dx=residual, dresidual=x, **given)
        size = {"rows": rows, "cols": channels}
        of_rows = dict(zip(("mean", "invstd"), rowwise, strict=True))
        check("layer_norm", {**size, "eps": EPS}, y=y, **of_rows, x=x, **affine)
        check("layer_norm", {**size, "eps": EPS}, y=y, x=x)
        check("layer_norm_backward", size, dx=y, dy=dy, x=x, **of_rows, weight=weight)
        check("layer_norm_grad_params", size, partial=grow, dy=dy, x=x, **of_rows)
        for window in (1, 5, 40):
            setting = {"rows": rows, "channels": channels, "size": window, "alpha": 1.0}
            check("local_response_norm", {**setting, "beta": 0.75, "k": 1.0}, y=y, base=residual, x=x)
            check("local_response_norm", {**setting, "beta": 0.6, "k": 1.0}, y=y, x=x)
            base = np.abs(residual) + 1
            check("local_response_norm_backward", {**setting, "beta": 0.75}, dx=y, dy=dy, x=x, base=base)


def test_maps_work_in_place(isa):
    rng = np.random.default_rng(29)
    for rows, channels in [(7, 3), (700, 16), (130, 70)]:
        x, dy, residual = random(rng, 3, rows, channels)
        weight, bias = random(rng, 2, channels)
        mean, invstd, _ = batch_statistics(x)
        sums = random(rng, 2, channels)
        for activation in (None, "relu", "tanh"):
            how = {"residual": residual, "activation": activation}
            y = norm.batch_norm_apply(x, mean, invstd, weight, bias, **how)
            target = x.copy()
            assert norm.batch_norm_apply(target, mean, invstd, weight, bias, out=target, **how) is target
            np.testing.assert_array_equal(target, y)
            how["residual"] = target = residual.copy()
            norm.batch_norm_apply(x, mean, invstd, weight, bias, out=target, **how)
            np.testing.assert_array_equal(target, y)
            how = {"y": y, "activation": activation} if activation else {}
            for given in (sums, None):
                args = (x, mean, invstd, weight, given)
                dx, dresidual = norm.batch_norm_grad_apply(dy, *args, residual=True, **how)
                target = dy.copy()
                assert norm.batch_norm_grad_apply(target, *args, out=target, **how) is target
                np.testing.assert_array_equal(target, dx)
                # dresidual in dy's place, and dx without it.
                target, other = dy.copy(), np.empty_like(dy)
                operands = {"x": x, "mean": mean, "invstd": invstd, "weight": weight, "sums": given, "y": y}
                settings = {"rows": rows, "channels": channels, **epilogue(activation)}
                run_op("batch_norm_grad_apply", dx=other, dresidual=target, dy=target, **operands, **settings)
                np.testing.assert_array_equal(other, dx)
                np.testing.assert_array_equal(target, dresidual)
        target = x.copy()
        want = norm.layer_norm(x, weight, bias)[0]
        np.testing.assert_array_equal(norm.layer_norm(target, weight, bias, out=target)[0], want)
        want, base = norm.local_response_norm(x, 3)
        target = x.copy()
        np.testing.assert_array_equal(norm.local_response_norm(target, 3, out=target)[0], want)
        want = norm.local_response_norm_backward(dy, x, base, 3)
        target = dy.copy()
        got = norm.local_response_norm_backward(target, x, base, 3, out=target)
        np.testing.assert_array_equal(got, want)
        _, mean, invstd = norm.layer_norm(x)
        want = norm.layer_norm_backward(dy, x, mean, invstd, weight)
        target = dy.copy()
        got = norm.layer_norm_backward(target, x, mean, invstd, weight, out=target)
        np.testing.assert_array_equal(got, want)


# ---- PyTorch ----


def channels_last(array):
    """(n, rows, channels) as a torch tensor (n, channels, rows, 1) that wants a gradient."""
    torch = pytest.importorskip("torch")
    return torch.tensor(array.transpose(0, 2, 1)[..., None].copy(), requires_grad=True)


def as_rows(tensor):
    return tensor.detach().numpy()[..., 0].transpose(0, 2, 1)


def leaves(*arrays):
    torch = pytest.importorskip("torch")
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def agree(dtype, *pairs):
    """Sums of hundreds of rows in another order: roundings of what is of the order of 1."""
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2000 * UNIT[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_training_with_batch_norm_relu_and_residual_agrees_with_torch(isa, dtype, momentum):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(30)
    for n, rows, channels in [(2, 49, 3), (4, 100, 16), (1, 30, 70)]:
        module = torch.nn.BatchNorm2d(channels, momentum=momentum).to(torch.tensor(dtype(0)).dtype)
        weight, bias = random(rng, 2, channels, dtype=dtype)
        module.weight.data, module.bias.data = torch.tensor(weight), torch.tensor(bias)
        running_mean, running_var = np.zeros(channels, dtype), np.ones(channels, dtype)
        batches = np.array(0)
        for _ in range(3):
            x, residual, dy = random(rng, 3, n, rows, channels, dtype=dtype)
            tx, tr = channels_last(x), channels_last(residual)
            module.zero_grad()
            ty = torch.relu(module(tx) + tr)
            (ty * channels_last(dy).detach()).sum().backward()
            x, residual, dy = (a.reshape(-1, channels) for a in (x, residual, dy))
            mean, invstd, var = batch_statistics(x)
            norm.batch_norm_running(running_mean, running_var, mean, var, len(x), momentum, batches)
            y = norm.batch_norm_apply(x, mean, invstd, weight, bias, residual=residual, activation="relu")
            how = {"y": y, "activation": "relu"}
            (dx, dr), dw, db = batch_gradients(dy, x, mean, invstd, weight, residual=True, **how)
            shape = (n, rows, channels)
            agree(
                dtype,
                *[(a.reshape(shape), as_rows(b)) for a, b in ((y, ty), (dx, tx.grad), (dr, tr.grad))],
            )
            agree(dtype, (dw, module.weight.grad), (db, module.bias.grad))
            agree(dtype, (running_mean, module.running_mean), (running_var, module.running_var))
            assert batches == module.num_batches_tracked
        module.eval()
        y = norm.batch_norm_eval(x, running_mean, running_var, weight, bias)
        agree(dtype, (y.reshape(n, rows, channels), as_rows(module(tx))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_in_evaluation_mode_agree_with_torch(isa, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(31)
    x, dy = random(rng, 2, 90, 13, dtype=dtype)
    mean, weight, bias = random(rng, 3, 13, dtype=dtype)
    var = rng.random(13).astype(dtype)
    tx, tw, tb = leaves(x, weight, bias)
    ty = torch.nn.functional.batch_norm(tx, torch.tensor(mean), torch.tensor(var), tw, tb)
    ty.backward(torch.tensor(dy))
    invstd = norm.batch_norm_invstd(var)
    dx = norm.batch_norm_grad_apply(dy, x, mean, invstd, weight)
    dw, db, _ = norm.batch_norm_grad_finish(norm.batch_norm_grad_stats(dy, x, mean, invstd), 90)
    agree(dtype, (dx, tx.grad), (dw / 100, tw.grad / 100), (db, tb.grad))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 3, 12])
def test_group_norm_agrees_with_torch(isa, dtype, groups):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(32)
    x, dy = random(rng, 2, 3, 140, 12, dtype=dtype)
    weight, bias = random(rng, 2, 12, dtype=dtype)
    tx = channels_last(x)
    tw, tb = leaves(weight, bias)
    if groups == 12:
        ty = torch.nn.functional.instance_norm(tx, weight=tw, bias=tb)
    else:
        ty = torch.nn.functional.group_norm(tx, groups, tw, tb)
    ty.backward(channels_last(dy).detach())
    mean, invstd = group_statistics(x, groups)
    y = norm.group_norm_apply(x, mean, invstd, weight, bias)
    dx, dw, db = group_gradients(dy, x, mean, invstd, weight)
    agree(dtype, (y, as_rows(ty)), (dx, as_rows(tx.grad)), (dw, tw.grad), (db, tb.grad))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 5), (130, 64), (3, 1000)])
def test_layer_norm_agrees_with_torch(isa, dtype, shape):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(33)
    x, dy = random(rng, 2, *shape, dtype=dtype)
    weight, bias = random(rng, 2, shape[1], dtype=dtype)
    tx, tw, tb = leaves(x, weight, bias)
    ty = torch.nn.functional.layer_norm(tx, shape[1:], tw, tb)
    ty.backward(torch.tensor(dy))
    y, mean, invstd = norm.layer_norm(x, weight, bias)
    dx, dw, db = layer_gradients(dy, x, mean, invstd, weight)
    agree(dtype, (y, ty.detach()), (dx, tx.grad), (dw, tw.grad), (db, tb.grad))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("setting", RESPONSES)
def test_local_response_norm_agrees_with_torch(isa, dtype, setting):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(34)
    for channels in (1, 3, 16, 70):
        x, dy = random(rng, 2, 2, 9, channels, dtype=dtype)
        tx = channels_last(x)
        ty = torch.nn.functional.local_response_norm(tx, *setting)
        ty.backward(channels_last(dy).detach())
        y, base = norm.local_response_norm(x.reshape(18, channels), *setting)
        dx = norm.local_response_norm_backward(dy.reshape(18, channels), x.reshape(18, channels), base, *setting[:3])
        agree(dtype, (y.reshape(x.shape), as_rows(ty)), (dx.reshape(x.shape), as_rows(tx.grad)))


@pytest.mark.parametrize("ratio", [0, 100, 1e4, 1e6])
def test_statistics_are_at_least_as_exact_as_torchs(isa, ratio):
    torch = pytest.importorskip("torch")
    x = random(np.random.default_rng(35), 20_000, 16) + np.float32(ratio)
    want_mean, want_var = (v[0] for v in twin.moments(x, 0))
    mean, _, var = batch_statistics(x)
    t = torch.tensor(x).reshape(1, len(x), 1, 16).permute(0, 3, 1, 2)
    running = torch.zeros(16), torch.zeros(16)
    torch.nn.functional.batch_norm(t, *running, training=True, momentum=1.0)
    theirs = running[0].numpy(), running[1].numpy() * (len(x) - 1) / len(x)
    for ours, other, want in zip((mean, var), theirs, (want_mean, want_var), strict=True):
        slack = 2 * UNIT[np.float32] * np.abs(want).max()
        assert np.abs(ours - want).max() <= np.abs(other - want).max() + slack


# ---- sizes ----


@pytest.mark.parametrize("pieces", [pieces_of, group_pieces])
@pytest.mark.parametrize("rows", [0, -1, 2**62, 2**63 - 1])
def test_rows_that_no_memory_holds_have_no_pieces(pieces, rows):
    with pytest.raises(ValueError, match=r"^rows must"):
        pieces(rows)
