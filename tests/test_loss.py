"""Softmax and the losses: their twins' values, PyTorch's special cases, gradients, threads."""

import itertools

import numpy as np
import pytest

from native import loss, on_threads
from reference import loss as twin

DTYPES = (np.float32, np.float64)
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
# One lane and one column, blocks of rows with and without a tail, both sides of the change from
# rows side by side to one row at a time, several blocks of a sum.
SHAPES = [(1, 1), (3, 2), (16, 10), (33, 10), (7, 32)]
SHAPES += [(7, 33), (5, 64), (3, 257), (2, 1000), (2, 10_007)]
INF, NAN = np.inf, np.nan


def numbers(shape, dtype, seed=0, scale=2.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def labels_for(rows, cols, ignore=None, seed=0):
    """With `ignore`: every third row and more are ignored, but not the first."""
    labels = np.random.default_rng(seed).integers(0, cols, rows)
    if ignore is not None:
        labels[0], labels[1::3] = (ignore + 1) % cols, ignore
    return labels


def positive(n, dtype, seed=0):
    return (np.random.default_rng(seed).random(n) + 0.1).astype(dtype)


def assert_close(actual, expected, gate):
    """|actual - expected| <= gate; NaN and Inf in the same places."""
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(np.asarray(actual)[infinite], np.asarray(expected)[infinite])
    finite = np.isfinite(expected)
    difference = abs(np.asarray(actual, np.float64)[finite] - np.asarray(expected)[finite])
    assert np.all(difference <= np.broadcast_to(gate, np.shape(expected))[finite])


def same_on_any_threads(function):
    """What function() returns, a sequence of arrays."""
    first, *rest = on_threads(function)
    for other in rest:
        assert [array.tobytes() for array in other] == [array.tobytes() for array in first]
    return first


# ---- softmax -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_and_its_logarithm_are_the_twins(isa, dtype, shape):
    x = numbers(shape, dtype)
    # exp(d) of a difference d that was rounded has a relative error of |d| units and exp's own.
    depth = 1 + x.max(axis=1, keepdims=True).astype(np.float64) - x
    y = twin.softmax(x)
    assert_close(loss.softmax(x), y, 8 * UNIT[dtype] * y * depth)
    log_y = twin.softmax(x, log=True)
    assert_close(loss.softmax(x, log=True), log_y, 8 * UNIT[dtype] * (depth - log_y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("log", [False, True])
def test_the_gradient_of_softmax_is_the_twins(isa, dtype, shape, log):
    dy, y = numbers(shape, dtype, 1), twin.softmax(numbers(shape, dtype), log).astype(dtype)
    if log:
        size = abs(dy) + np.exp(y.astype(np.float64)) * (abs(dy).sum(axis=1, keepdims=True) + 1)
    else:
        size = y * (abs(dy) + abs(dy * y).sum(axis=1, keepdims=True))
    expected = twin.softmax_backward(dy, y, log)
    assert_close(loss.softmax_backward(dy, y, log), expected, 8 * UNIT[dtype] * size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cols", [3, 40])
def test_rows_with_nan_or_inf_are_nan_as_in_pytorch(isa, dtype, cols):
    x = np.zeros((5, cols), dtype)
    x[0, -1], x[1, 0], x[2], x[3, 1], x[4, 2] = NAN, INF, -INF, -INF, 1
    for log in (False, True):
        y = loss.softmax(x, log)
        assert np.isnan(y[:3]).all()
        expected = twin.softmax(x[3:], log)
        assert_close(y[3:], expected, 8 * UNIT[dtype] * (1 + abs(expected)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_the_maximum_are_found_in_any_column(isa, dtype):
    for cols in (1, 2, 9, 32, 33, 70, 131):
        for place in range(cols):
            x = numbers((2, cols), dtype)
            x[0, place], x[1, place] = NAN, 1e30
            y = loss.softmax(x)
            assert np.isnan(y[0]).all()
            np.testing.assert_array_equal(y[1], np.arange(cols) == place)


def test_special_rows_agree_with_pytorch(isa):
    torch = pytest.importorskip("torch")
    for cols in (4, 50):
        x = numbers((6, cols), np.float64)
        x[0, 1], x[1, 1], x[2, 1], x[3], x[4] = NAN, INF, -INF, -INF, 1e308
        for log, function in ((False, torch.softmax), (True, torch.log_softmax)):
            expected = function(torch.tensor(x), 1).numpy()
            np.testing.assert_allclose(loss.softmax(x, log), expected, rtol=1e-13)


def test_softmax_takes_any_number_of_leading_dimensions(isa):
    x = numbers((2, 3, 5), np.float32)
    np.testing.assert_array_equal(loss.softmax(x).reshape(6, 5), loss.softmax(x.reshape(6, 5)))
    np.testing.assert_array_equal(loss.softmax(x[0, 0]), loss.softmax(x)[0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_stops_at_the_end_of_its_buffers_and_works_in_place(isa, guarded, dtype):
    for rows, cols in [(1, 1), (3, 5), (9, 10), (17, 3), (2, 33), (3, 67)]:
        for log in (0, 1):
            x, dy = guarded(numbers((rows, cols), dtype)), guarded(numbers((rows, cols), dtype, 1))
            y, dx = guarded(np.zeros_like(x)), guarded(np.zeros_like(x))
            np.testing.assert_array_equal(loss.softmax(x, log, out=y), loss.softmax(np.array(x), log))
            np.testing.assert_array_equal(loss.softmax(x, log, out=x), y)
            loss.softmax_backward(dy, y, log, out=dx)
            np.testing.assert_array_equal(dx, loss.softmax_backward(np.array(dy), np.array(y), log))
            np.testing.assert_array_equal(loss.softmax_backward(dy, y, log, out=y), dx)
            np.testing.assert_array_equal(loss.softmax_backward(dy, x, log, out=dy), dx)


LONG = 350_001  # columns: more than a chunk may have, so that a row is cut into parts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
def test_softmax_of_rows_that_are_cut_is_the_twins_on_any_threads(isa, dtype, log):
    x, dy = numbers((2, LONG), dtype), numbers((2, LONG), dtype, 1)
    x[1, -1] = NAN
    y, dx = same_on_any_threads(lambda: (y := loss.softmax(x, log), loss.softmax_backward(dy, y, log)))
    for out in (dy.copy(), y.copy()):
        operands = (out, y) if (out == dy).all() else (dy, out)
        np.testing.assert_array_equal(loss.softmax_backward(*operands, log, out=out), dx)
    np.testing.assert_array_equal(loss.softmax(over := x.copy(), log, out=over), y)
    expected = twin.softmax(x, log)
    depth = 1 + x[:1].max().astype(np.float64) - x
    assert_close(y, expected, 8 * UNIT[dtype] * (depth - expected if log else expected * depth))
    size = abs(dy) if log else y * abs(dy)
    size = size + (np.exp(y.astype(np.float64)) if log else y) * size.sum(axis=1, dtype=np.float64, keepdims=True)
    assert_close(dx, twin.softmax_backward(dy, y, log), 8 * UNIT[dtype] * size)


# ---- cross-entropy -----------------------------------------------------------------------------


def row_shares(x, labels, how):
    """Each row's weight in the loss: all logits alike give it times log(cols)."""
    rows, cols = x.shape
    return twin.cross_entropy(np.zeros_like(x), labels, *how)[0] / np.log(cols) if cols > 1 else np.ones(rows) * 1.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_and_its_gradient_are_the_twins(isa, dtype, shape, smoothing):
    rows, cols = shape
    x, labels = numbers(shape, dtype), labels_for(rows, cols, ignore=1)
    for weight, reduction in itertools.product((None, positive(cols, dtype)), loss.REDUCTIONS):
        how = (weight, 1, reduction, smoothing)
        row_loss, dx = loss.cross_entropy(x, labels, *how)
        expected, gradient = twin.cross_entropy(x, labels, *how)
        share = row_shares(x, labels, how)
        depth = 1 + np.ptp(x, axis=1) + np.log(cols)
        assert_close(row_loss, expected, 8 * UNIT[dtype] * depth * share)
        assert_close(dx, gradient, 8 * UNIT[dtype] * (depth * share)[:, None])
        assert loss.cross_entropy(x, labels, *how, gradient=False)[1] is None


@pytest.mark.parametrize("cols", [4, 40])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", loss.REDUCTIONS)
def test_cross_entropy_agrees_with_pytorch(isa, cols, smoothing, weighted, reduction):
    torch = pytest.importorskip("torch")
    x, labels = numbers((19, cols), np.float64), labels_for(19, cols, ignore=2)
    weight = positive(cols, np.float64) if weighted else None
    theirs = torch.tensor(x, requires_grad=True)
    value = torch.nn.functional.cross_entropy(
        theirs,
        torch.tensor(labels),
        None if weight is None else torch.tensor(weight),
        ignore_index=2,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    value.sum().backward()
    row_loss, dx = loss.cross_entropy(x, labels, weight, 2, reduction, smoothing)
    ours = row_loss if reduction == "none" else row_loss.sum()
    np.testing.assert_allclose(ours, value.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(dx, theirs.grad.numpy(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("cols", [4, 40])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", ["all ignored", "weight zero", "masked", "label masked", "nan"])
def test_special_cases_of_cross_entropy_agree_with_pytorch(isa, cols, smoothing, weighted, case):
    torch = pytest.importorskip("torch")
    x, labels = numbers((3, cols), np.float64), np.zeros(3, np.int64)
    weight = positive(cols, np.float64) if weighted else None
    if case == "all ignored":
        labels[:] = -100
    elif case == "weight zero" and weighted:
        weight[0] = 0
    elif case == "masked":
        x[1, 1] = -INF
    elif case == "label masked":
        x[1, 0] = -INF
    elif case == "nan":
        x[1, 2] = NAN
    theirs = torch.tensor(x, requires_grad=True)
    value = torch.nn.functional.cross_entropy(
        theirs,
        torch.tensor(labels),
        None if weight is None else torch.tensor(weight),
        label_smoothing=smoothing,
    )
    value.backward()
    row_loss, dx = loss.cross_entropy(x, labels, weight, label_smoothing=smoothing)
    np.testing.assert_allclose(row_loss.sum(), value.item(), rtol=1e-13)
    np.testing.assert_allclose(dx, theirs.grad.numpy(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("cols", [4, 40])
def test_an_ignored_row_has_no_loss_and_no_gradient_whatever_it_holds(isa, cols):
    x, labels = numbers((3, cols), np.float32), np.array([0, -100, 1])
    x[1] = NAN
    row_loss, dx = loss.cross_entropy(x, labels)
    assert row_loss[1] == 0
    assert (dx[1] == 0).all()
    assert np.isfinite(row_loss).all()
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("cols", [4, 40])
def test_a_mean_over_ignored_rows_is_nan_and_their_sum_is_0(isa, cols):
    x, labels = numbers((3, cols), np.float32), np.full(3, -100)
    assert np.isnan(loss.cross_entropy(x, labels)[0].sum())
    assert loss.cross_entropy(x, labels, reduction="sum")[0].sum() == 0
    for reduction in loss.REDUCTIONS:
        assert (loss.cross_entropy(x, labels, reduction=reduction)[1] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_stops_at_the_end_of_its_buffers_and_works_in_place(isa, guarded, dtype):
    for rows, cols in [(1, 1), (3, 5), (9, 10), (17, 3), (2, 33), (3, 67)]:
        labels = guarded(labels_for(rows, cols, ignore=-1))
        for smoothing, weight in [(0.0, None), (0.1, guarded(positive(cols, dtype)))]:
            x = guarded(numbers((rows, cols), dtype))
            expected = loss.cross_entropy(x, labels, weight, -1, "mean", smoothing)
            for dx in (guarded(np.zeros_like(x)), None, x):
                row_loss = guarded(np.zeros(rows, dtype))
                loss.cross_entropy(x, labels, weight, -1, "mean", smoothing, out=(row_loss, dx))
                np.testing.assert_array_equal(row_loss, expected[0])
                if dx is not None:
                    np.testing.assert_array_equal(dx, expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("weighted", "smoothing"), [(False, 0.0), (True, 0.0), (False, 0.1), (True, 0.1)])
def test_cross_entropy_of_rows_that_are_cut_is_the_twins_on_any_threads(isa, dtype, weighted, smoothing):
    x, labels = numbers((4, LONG), dtype), np.array([0, 7, LONG - 1, LONG // 2])
    how = (positive(LONG, dtype) if weighted else None, 7, "mean", smoothing)
    row_loss, dx = same_on_any_threads(lambda: loss.cross_entropy(x, labels, *how))
    expected, gradient = twin.cross_entropy(x, labels, *how)
    depth, share = 1 + np.ptp(x) + np.log(LONG), row_shares(x, labels, how)
    # Of each class: all logits alike give a class 1 / cols of the row's share, less its own.
    own = share[:, None] / LONG - twin.cross_entropy(np.zeros_like(x), labels, *how)[1]
    assert_close(row_loss, expected, 8 * UNIT[dtype] * depth * share)
    assert_close(dx, gradient, 8 * UNIT[dtype] * depth * (gradient + 2 * own))
    np.testing.assert_array_equal(loss.cross_entropy(x, labels, *how, gradient=False)[0], row_loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_mean_over_many_labels_is_the_twins_on_any_threads(isa, dtype, weighted):
    rows = 150_000  # more than each chunk counts for itself
    x, labels = numbers((rows, 3), dtype), labels_for(rows, 3, ignore=1)
    weight = np.array([0.5, 1.0, 1.75], dtype)  # whose sums are exact
    how = (weight if weighted else None, 1, "mean", 0.0)
    row_loss, dx = same_on_any_threads(lambda: loss.cross_entropy(x, labels, *how))
    expected, gradient = twin.cross_entropy(x, labels, *how)
    size = (1 + np.ptp(x) + np.log(3)) * row_shares(x, labels, how)
    assert_close(row_loss, expected, 8 * UNIT[dtype] * size)
    assert_close(dx, gradient, 8 * UNIT[dtype] * size[:, None])


# ---- losses by elements ------------------------------------------------------------------------

SIZES = [1, 7, 63, 256, 257, 1000, 16_384, 16_385, 40_003]
DIFFERENCES = [("mse", ()), ("l1", ())]
DIFFERENCES += [("huber", (INF,))]
DIFFERENCES += [("smooth_l1", (0.7,)), ("smooth_l1", (0.0,)), ("huber", (0.7,))]


def total(value, reduction):
    """The loss: the plain sum of the pieces."""
    return value if reduction == "none" else value.astype(np.float64).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("name", "parameter"), DIFFERENCES)
def test_a_loss_of_differences_is_the_twins(isa, dtype, n, name, parameter):
    x, t = numbers(n, dtype), numbers(n, dtype, 1)
    for reduction in loss.REDUCTIONS:
        value, dx = getattr(loss, name)(x, t, *parameter, reduction)
        expected, gradient = getattr(twin, name)(x, t, *parameter, reduction)
        assert value.shape == ((n,) if reduction == "none" else (loss.PIECES,))
        # A rounded difference passes its error on with the slope; d^2 has it twice.
        d = abs(x.astype(np.float64) - t)
        size = np.maximum(d, d * d) if reduction == "none" else expected
        assert_close(total(value, reduction), expected, 8 * UNIT[dtype] * size)
        assert_close(dx, gradient, 8 * UNIT[dtype] * abs(gradient))
        assert getattr(loss, name)(x, t, *parameter, reduction, gradient=False)[1] is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("cols", [0, 1, 7])
def test_binary_cross_entropy_is_the_twins(isa, dtype, n, cols):
    shape = (-(-n // cols), cols) if cols else (n,)
    x, t = numbers(shape, dtype, scale=4.0), np.random.default_rng(1).random(shape).astype(dtype)
    pos_weight = 3 * positive(cols, dtype, 2) if cols else None
    for weight, reduction in itertools.product((None, positive(shape, dtype)), loss.REDUCTIONS):
        value, dx = loss.bce_with_logits(x, t, weight, pos_weight, reduction)
        expected, gradient = twin.bce_with_logits(x, t, weight, pos_weight, reduction)
        scale = (1 if weight is None else weight) * (1 if pos_weight is None else 1 + pos_weight)
        scale = scale / (x.size if reduction == "mean" else 1)
        size = scale * (1 + abs(x)) if reduction == "none" else expected
        assert_close(total(value, reduction), expected, 8 * UNIT[dtype] * size)
        assert_close(dx, gradient, 8 * UNIT[dtype] * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_binary_cross_entropy_of_probabilities_is_the_twins(isa, dtype, n):
    rng = np.random.default_rng(0)
    x, t = rng.random(n).astype(dtype), rng.random(n).astype(dtype)
    x[::5] = 10.0 ** -rng.integers(1, 30, len(x[::5]))
    for reduction in loss.REDUCTIONS:
        value, dx = loss.bce(x, t, reduction)
        expected, gradient = twin.bce(x, t, reduction)
        # Near 1, the logarithm of x has the absolute error of x.
        assert_close(total(value, reduction), expected, 8 * UNIT[dtype] * (expected + (reduction == "none")))
        assert_close(dx, gradient, 8 * UNIT[dtype] * abs(gradient))
        assert loss.bce(x, t, reduction, gradient=False)[1] is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_soft_margin_is_the_twins_at_margins_of_any_size(isa, dtype, n):
    rng = np.random.default_rng(0)
    x, t = (30 * rng.standard_normal(n)).astype(dtype), rng.choice([-1.0, 1.0], n).astype(dtype)
    for reduction in loss.REDUCTIONS:
        value, dx = loss.soft_margin(x, t, reduction)
        expected, gradient = twin.soft_margin(x, t, reduction)
        tiny = np.finfo(dtype).smallest_subnormal
        assert_close(total(value, reduction), expected, 8 * UNIT[dtype] * expected + tiny)
        assert_close(dx, gradient, 8 * UNIT[dtype] * abs(gradient) + tiny)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_negative_log_likelihood_is_the_twins(isa, guarded, dtype, shape):
    rows, cols = shape
    x, labels = numbers(shape, dtype), labels_for(rows, cols, ignore=1)
    for weight, reduction in itertools.product((None, positive(cols, dtype)), loss.REDUCTIONS):
        row_loss, dx = loss.nll(x, labels, weight, 1, reduction)
        expected, gradient = twin.nll(x, labels, weight, 1, reduction)
        assert_close(row_loss, expected, 8 * UNIT[dtype] * abs(expected))
        assert_close(dx, gradient, 8 * UNIT[dtype] * abs(gradient))
        out = guarded(np.ones(rows, dtype)), guarded(np.ones(shape, dtype))
        loss.nll(guarded(x), guarded(labels), None if weight is None else guarded(weight), 1, reduction, out=out)
        np.testing.assert_array_equal(out[0], row_loss)
        np.testing.assert_array_equal(out[1], dx)
        assert loss.nll(x, labels, weight, 1, reduction, gradient=False)[1] is None


@pytest.mark.parametrize(("rows", "cols"), [(150_000, 3), (2, 6_000_001)])
def test_negative_log_likelihood_in_rounds_and_parts_is_the_twins_on_any_threads(isa, rows, cols):
    x, labels = numbers((rows, cols), np.float32), labels_for(rows, cols, ignore=1)
    row_loss, dx = same_on_any_threads(lambda: loss.nll(x, labels, None, 1))
    expected, gradient = twin.nll(x, labels, None, 1, "mean")
    assert_close(row_loss, expected, 8 * UNIT[np.float32] * abs(expected))
    assert_close(dx, gradient, 8 * UNIT[np.float32] * abs(gradient))


@pytest.mark.parametrize("reduction", loss.REDUCTIONS)
def test_losses_and_gradients_agree_with_pytorch_on_special_values(isa, reduction):
    torch = pytest.importorskip("torch")
    f, how = torch.nn.functional, {"reduction": reduction}
    special = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 300.0, -300.0, 1e300, INF, -INF, NAN])
    x, t = (a.ravel().copy() for a in np.meshgrid(special, [0.0, 1.0, 0.25]))
    pos_weight = np.array([2.5])
    column, target = x[:, None].copy(), t[:, None].copy()
    cases = [
        (loss.mse(x, t, "none"), lambda a, b: f.mse_loss(a, b, **how)),
        (loss.l1(x, t, "none"), lambda a, b: f.l1_loss(a, b, **how)),
        (loss.smooth_l1(x, t, 0.5, "none"), lambda a, b: f.smooth_l1_loss(a, b, **how, beta=0.5)),
        (loss.huber(x, t, 0.5, "none"), lambda a, b: f.huber_loss(a, b, **how, delta=0.5)),
        (
            loss.bce_with_logits(x, t, reduction="none"),
            lambda a, b: f.binary_cross_entropy_with_logits(a, b, **how),
        ),
        (
            loss.bce_with_logits(column, target, None, pos_weight, "none"),
            lambda a, b: f.binary_cross_entropy_with_logits(
                a[:, None], b[:, None], **how, pos_weight=torch.tensor(pos_weight)
            ),
        ),
    ]
    for k, ((value, dx), function) in enumerate(cases):
        theirs = torch.tensor(x, requires_grad=True)
        expected = function(theirs, torch.tensor(t))
        expected.sum().backward()
        scale = 1 / x.size if reduction == "mean" else 1
        with np.errstate(invalid="ignore"):
            ours = value.ravel() if reduction == "none" else value.sum() * scale
        message = f"case {k}"
        np.testing.assert_allclose(ours, expected.detach().numpy().ravel(), 1e-13, err_msg=message)
        np.testing.assert_allclose(dx.ravel() * scale, theirs.grad.numpy(), 1e-13, 1e-16, err_msg=message)


def test_the_slope_of_the_absolute_error_is_0_without_a_difference_and_at_nan(isa):
    x = np.array([3.0, NAN, 3.0, 3.0])
    np.testing.assert_array_equal(loss.l1(x, np.array([3.0, 0.0, NAN, 5.0]), "sum")[1], [0, 0, 0, -1])


def test_a_sum_over_pieces_that_are_cut_is_the_twins_on_any_threads(isa):
    n = 7_000_001  # of which a piece takes longer than a chunk may
    x, t = numbers(n, np.float64), positive(n, np.float64)
    value, dx = same_on_any_threads(lambda: loss.bce_with_logits(x, t, reduction="sum"))
    expected, gradient = twin.bce_with_logits(x, t, None, None, "sum")
    assert_close(value.sum(), expected, 8 * UNIT[np.float64] * expected)
    assert_close(dx, gradient, 8 * UNIT[np.float64])


def test_pieces_past_the_end_are_zero(isa):
    for n in (1, 256, 257, 5000, 16_385):
        value, _ = loss.mse(np.ones(n), np.zeros(n), "sum")
        size = -(-n // (64 * 256)) * 256
        np.testing.assert_array_equal(value, np.clip(n - size * np.arange(64), 0, size))


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_by_elements_stop_at_the_end_of_their_buffers(isa, guarded, dtype):
    for n in (1, 5, 31, 257, 263):
        x, t, w = (guarded(numbers(n, dtype, seed)) for seed in range(3))
        for reduction, with_gradient in itertools.product(loss.REDUCTIONS, (True, False)):
            cases = [(getattr(loss, name), (*parameter, reduction)) for name, parameter in DIFFERENCES]
            cases += [(loss.bce_with_logits, (w, w, reduction)), (loss.soft_margin, (reduction,))]
            for function, how in cases:
                value = guarded(np.zeros(n if reduction == "none" else loss.PIECES, dtype))
                dx = guarded(np.zeros(n, dtype)) if with_gradient else None
                function(x, t, *how, out=(value, dx))
                expected = function(np.array(x), np.array(t), *how)
                np.testing.assert_array_equal(value, expected[0])
                if with_gradient:
                    np.testing.assert_array_equal(dx, expected[1])


# ---- all ---------------------------------------------------------------------------------------


def slope(function, x, step=1e-5):
    """Central differences of function(x), a number, for each element of x."""
    result = np.empty_like(x)
    for i in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[i] += step
        low[i] -= step
        result[i] = (function(high) - function(low)) / (high[i] - low[i])
    return result


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_the_slopes_of_the_losses(isa, reduction):
    x, t = numbers((6, 5), np.float64), np.random.default_rng(1).random((6, 5))
    labels, w, pos = labels_for(6, 5, -100), positive((6, 5), np.float64), positive(5, np.float64)
    wide, wide_labels = numbers((2, 37), np.float64), np.array([36, 3])
    cases = [
        (x, lambda v: loss.cross_entropy(v, labels, pos, -100, reduction, 0.1)),
        (x, lambda v: loss.cross_entropy(v, labels, None, -100, reduction)),
        (wide, lambda v: loss.cross_entropy(v, wide_labels, None, -100, reduction, 0.2)),
        (x, lambda v: loss.nll(v, labels, pos, -100, reduction)),
        (0.3 + 0.4 * t, lambda v: loss.bce(v, t[::-1].copy(), reduction)),
        (x, lambda v: loss.soft_margin(v, np.sign(t - 0.5), reduction)),
        (x, lambda v: loss.mse(v, t, reduction)),
        (x, lambda v: loss.l1(v, t, reduction)),
        (x, lambda v: loss.smooth_l1(v, t, 0.6, reduction)),
        (x, lambda v: loss.huber(v, t, 0.6, reduction)),
        (x, lambda v: loss.bce_with_logits(v, t, w, pos, reduction)),
    ]
    for value, function in cases:
        expected = slope(lambda v, f=function: f(v)[0].sum(), value)
        np.testing.assert_allclose(function(value)[1], expected, rtol=1e-8, atol=1e-9)
    dy = numbers((6, 5), np.float64, 3)
    for log in (False, True):
        expected = slope(lambda v, log=log: (loss.softmax(v, log) * dy).sum(), x)
        actual = loss.softmax_backward(dy, loss.softmax(x, log), log)
        np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_do_not_depend_on_the_threads(isa, dtype):
    x, t = numbers((5003, 10), dtype), numbers((5003, 10), dtype, 1)
    labels, w, pos = labels_for(5003, 10, -100), positive((5003, 10), dtype), positive(10, dtype)
    wide = numbers((83, 1001), dtype)

    def run():
        return [
            loss.softmax(x), loss.softmax(wide, True), loss.softmax_backward(t, x),
            *loss.cross_entropy(x, labels, pos, label_smoothing=0.1),
            *loss.cross_entropy(wide, labels_for(83, 1001)),
            *loss.mse(x, t), *loss.l1(x, t), *loss.smooth_l1(x, t), *loss.huber(x, t),
            *loss.bce_with_logits(x, t, w, pos), *loss.bce(w, w[::-1].copy()), *loss.soft_margin(x, t),
            *loss.nll(x, labels, pos), *loss.nll(wide, labels_for(83, 1001)),
        ]  # fmt: skip

    same_on_any_threads(run)


@pytest.mark.parametrize("cols", [10, 100])
def test_a_rows_bits_do_not_depend_on_the_other_rows(isa, cols):
    x, labels = numbers((700, cols), np.float32), labels_for(700, cols)
    y, (row_loss, dx) = loss.softmax(x), loss.cross_entropy(x, labels, reduction="sum")
    for begin, end in [(0, 1), (3, 20), (5, 700), (699, 700)]:
        part = slice(begin, end)
        np.testing.assert_array_equal(loss.softmax(x[part]), y[part])
        again = loss.cross_entropy(x[part], labels[part], reduction="sum")
        np.testing.assert_array_equal(again[0], row_loss[part])
        np.testing.assert_array_equal(again[1], dx[part])
