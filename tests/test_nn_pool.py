"""Pooling layers: windows, ties, NaN, refusals, and PyTorch's results."""

import itertools

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.testing import gradcheck

from torch_twin import assert_same_as_torch

KERNELS = (2, 3, (3, 2))
STRIDES = (None, 1, 2, 3)
WINDOWS = list(itertools.product(KERNELS, STRIDES, (0, 1), (False, True)))
ONES = np.ones((1, 1, 4, 5), np.float32)


def kernels_of(model, x):
    return [op.kernel for phase in model.plan(x).phases for op in phase]


def test_the_first_of_equal_maxima_gets_the_gradient():
    x = np.array([[[[3.0, 3.0], [1.0, 3.0]]]])
    np.testing.assert_array_equal(fn.grad(lambda x: F.max_pool2d(x, 2).sum())(x), [[[[1, 0], [0, 0]]]])


def test_nan_is_larger_than_all():
    x = np.ones((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 0] = np.nan
    np.testing.assert_array_equal(F.max_pool2d(x, 2), [[[[np.nan, 1], [1, 1]]]])


def test_a_window_of_ceil_mode_begins_inside():
    x = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
    assert F.max_pool2d(x, 2).shape == (1, 1, 2, 2)
    np.testing.assert_array_equal(F.max_pool2d(x, 2, ceil_mode=True), [[[[6, 8, 9], [16, 18, 19], [21, 23, 24]]]])
    assert F.max_pool2d(x, 1, 5, ceil_mode=True).shape == (1, 1, 1, 1)


#: kernel, stride, (top, bottom, left, right), dilation
UNEVEN = [
    ((3, 2), (2, 1), (1, 2, 0, 1), (1, 1)),
    ((3, 2), (2, 1), (1, 2, 0, 1), (2, 3)),
    ((2, 3), (1, 3), (0, 1, 2, 0), (1, 1)),
    ((3, 3), (2, 2), (2, 2, 2, 2), (1, 1)),
    ((3, 3), (2, 2), (1, 0, 2, 2), (2, 2)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), UNEVEN)
@pytest.mark.parametrize("ceil", [False, True])
def test_windows_with_another_padding_on_each_side(kernel, stride, padding, dilation, ceil):
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 11))
    most = F.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    means = [F.avg_pool2d(x, kernel, stride, padding, ceil, include, dilation=dilation) for include in (True, False)]
    sums = F.avg_pool2d(x, kernel, stride, padding, ceil, divisor_override=1, dilation=dilation)
    places = []
    for size, k, s, d, before, after in zip(
        (9, 11), kernel, stride, dilation, padding[::2], padding[1::2], strict=True
    ):
        begins = [b for b in range(-before, size + after, s) if b + (k - 1) * d < size + after or (ceil and b < size)]
        begins = [b for i, b in enumerate(begins) if i == 0 or begins[i - 1] + (k - 1) * d < size + after - 1]
        places.append([[b + i * d for i in range(k) if b + i * d < size + after] for b in begins])
    assert most.shape[2:] == tuple(map(len, places))
    for i, rows in enumerate(places[0]):
        for j, cols in enumerate(places[1]):
            taps = [x[:, :, r, c] for r in rows for c in cols if 0 <= r < 9 and 0 <= c < 11]
            np.testing.assert_array_equal(most[:, :, i, j], np.max(taps, 0))
            total = np.sum(taps, 0)
            for value, by in ((means[0], len(rows) * len(cols)), (means[1], len(taps)), (sums, 1)):
                np.testing.assert_allclose(value[:, :, i, j], total / by, rtol=1e-12, atol=1e-13)
    layer = nn.MaxPool2d(kernel, stride, padding, dilation, ceil)
    np.testing.assert_array_equal(layer(x.astype(np.float32)), most.astype(np.float32))
    gradcheck(lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, dilation=dilation), x)
    gradcheck(lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, ceil), x)


def test_sequences_take_a_padding_for_each_end():
    x = np.arange(5.0).reshape(1, 1, 5)
    np.testing.assert_array_equal(F.max_pool1d(x, 3, 2, (2, 1)), [[[0, 2, 4]]])
    np.testing.assert_array_equal(F.avg_pool1d(x, 2, 2, (0, 1)), [[[0.5, 2.5, 2]]])
    np.testing.assert_array_equal(F.avg_pool1d(x, 2, 2, (0, 1), count_include_pad=False), [[[0.5, 2.5, 4]]])
    np.testing.assert_array_equal(F.avg_pool1d(x, 2, 1, dilation=3), [[[1.5, 2.5]]])


def test_adaptive_windows_cover_the_image_evenly():
    x = np.arange(7, dtype=np.float64).reshape(1, 1, 7, 1)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(x, (3, 1)).ravel(), [1, 3, 5])
    np.testing.assert_array_equal(F.adaptive_max_pool2d(x, (3, None)).ravel(), [2, 4, 6])
    assert F.adaptive_avg_pool2d(x, 1).ravel() == 3


def test_where_the_maxima_are_is_kept_for_training_alone():
    model = nn.MaxPool2d(2)
    x = np.ones((2, 3, 4, 4), np.float32)
    (op,) = [op for phase in model.plan(x).phases for op in phase if op.kernel == "max_pool2d"]
    assert op.buffers[1] is None
    np.testing.assert_array_equal(model.forward_train(x), model(x))


def test_pooling_between_convolutions_changes_no_layout():
    x = np.ones((2, 3, 16, 16), np.float32)
    images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2))
    assert kernels_of(images, x).count("copy") == 2
    sequences = nn.Sequential(nn.Conv1d(3, 4, 3), nn.MaxPool1d(2), nn.Conv1d(4, 4, 2), nn.AvgPool1d(2))
    assert kernels_of(sequences, x[:, :, 0]).count("copy") == 2


def test_global_pooling_flattens_without_a_copy():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert kernels_of(model, np.ones((2, 3, 6, 6), np.float32)).count("copy") == 1


def test_layers_print_their_windows():
    assert repr(nn.MaxPool2d(2)) == (
        "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1), ceil_mode=False)"
    )
    assert repr(nn.AvgPool1d(3, 1)) == "AvgPool1d(kernel_size=3, stride=1, padding=0, ceil_mode=False)"
    assert repr(nn.AdaptiveAvgPool2d((None, 2))) == "AdaptiveAvgPool2d(output_size=(None, 2))"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.MaxPool2d(0), ValueError, "kernel_size must be at least 1"),
        (lambda: nn.MaxPool2d(2, 0), ValueError, "stride must be at least 1"),
        (lambda: nn.MaxPool2d(2.0), TypeError, "kernel_size must be an int or a pair"),
        (lambda: nn.MaxPool2d(2, ceil_mode=1), TypeError, "ceil_mode must be True or False"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), ValueError, "divisor_override must be"),
        (lambda: nn.AvgPool1d((2, 2)), TypeError, "kernel_size must be an int"),
        (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "output_size must be at least 1"),
        (
            lambda: nn.AdaptiveAvgPool2d((1, 2, 3)),
            TypeError,
            "output_size must be an int or a pair",
        ),
        (
            lambda: F.adaptive_avg_pool2d(ONES, (1, 2, 3)),
            TypeError,
            "output_size must be an int or a",
        ),
        (
            lambda: F.max_pool2d(ONES, 2, padding=2),
            ValueError,
            "padding 2 is more than half of the",
        ),
        (lambda: F.max_pool2d(ONES, (5, 1)), ValueError, "kernel spans 5, the padded input only 4"),
        (lambda: F.max_pool2d(ONES[0], 2), ValueError, r"expected \(N, C, H, W\)"),
        (lambda: F.max_pool1d(ONES, 2), ValueError, r"expected \(N, C, L\)"),
        (lambda: F.avg_pool2d(np.ones((1, 1, 4, 4), np.int64), 2), TypeError, "float32 or float64"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil"), WINDOWS)
def test_max_pool2d_follows_torch(kernel, stride, padding, ceil, dilation):
    torch = pytest.importorskip("torch")
    settings = (kernel, stride, padding, dilation)
    ours, theirs = nn.MaxPool2d(*settings, ceil), torch.nn.MaxPool2d(*settings, ceil_mode=ceil)
    assert_same_as_torch(torch, ours, theirs, 2, 3, 8, 7)


@pytest.mark.parametrize(("include", "divisor"), [(True, None), (False, None), (True, 5)])
@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil"), WINDOWS)
def test_avg_pool2d_follows_torch(kernel, stride, padding, ceil, include, divisor):
    torch = pytest.importorskip("torch")
    settings = (kernel, stride, padding, ceil, include, divisor)
    assert_same_as_torch(torch, nn.AvgPool2d(*settings), torch.nn.AvgPool2d(*settings), 2, 3, 8, 7)


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil"), WINDOWS[:32])
def test_pooling_of_sequences_follows_torch(kernel, stride, padding, ceil):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MaxPool1d(kernel, stride, padding, ceil_mode=ceil)
    assert_same_as_torch(torch, nn.MaxPool1d(kernel, stride, padding, 1, ceil), theirs, 2, 3, 11)
    settings = (kernel, stride, padding, ceil, False)
    assert_same_as_torch(torch, nn.AvgPool1d(*settings), torch.nn.AvgPool1d(*settings), 2, 3, 11)


@pytest.mark.parametrize("kind", ["Avg", "Max"])
@pytest.mark.parametrize("size", [1, 2, 5, (3, 1), (None, 2), 9])
def test_adaptive_pooling_follows_torch(size, kind):
    torch = pytest.importorskip("torch")
    name = f"Adaptive{kind}Pool2d"
    assert_same_as_torch(torch, getattr(nn, name)(size), getattr(torch.nn, name)(size), 2, 3, 7, 6)


@pytest.mark.parametrize("kind", ["Avg", "Max"])
@pytest.mark.parametrize("size", [1, 3, 11, 14])
def test_adaptive_pooling_of_sequences_follows_torch(size, kind):
    torch = pytest.importorskip("torch")
    name = f"Adaptive{kind}Pool1d"
    assert_same_as_torch(torch, getattr(nn, name)(size), getattr(torch.nn, name)(size), 2, 3, 11)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_ceil_mode_takes_kernels_above_the_input_as_torch_does(size):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = np.random.default_rng(size).standard_normal((1, 2, size, size)).astype(np.float32)
    taken = 0
    for kernel in (2, 3, 4, 5, 6, 7, 9):
        for stride in (1, 2, 3, 5):
            for padding in range(min(3, kernel // 2 + 1)):
                for dilation in (1, 2):
                    for kind in ("max", "avg"):
                        if kind == "avg" and dilation > 1:
                            continue
                        more = (dilation,) if kind == "max" else ()
                        theirs = torch.from_numpy(x).requires_grad_()
                        what = (kernel, stride, padding, *more, True)
                        try:
                            expected = getattr(functional, f"{kind}_pool2d")(theirs, *what)
                        except RuntimeError:
                            with pytest.raises(ValueError, match="kernel spans"):
                                getattr(F, f"{kind}_pool2d")(x, *what)
                            continue
                        taken += 1
                        expected.sum().backward()
                        pool = getattr(F, f"{kind}_pool2d")
                        dx = fn.grad(lambda t, pool=pool, what=what: pool(t, *what).sum())(x)
                        np.testing.assert_allclose(pool(x, *what), expected.detach(), rtol=1e-6, atol=1e-7)
                        np.testing.assert_allclose(dx, theirs.grad, rtol=1e-6, atol=1e-7)
    assert taken > 30


def test_ceil_mode_takes_a_kernel_above_the_input():
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    assert F.max_pool2d(x, 4, 3, ceil_mode=True).tolist() == [[[[3.0]]]]
    assert F.avg_pool2d(x, 4, 3, ceil_mode=True).tolist() == [[[[1.5]]]]
    with pytest.raises(ValueError, match="kernel_size 4"):
        F.max_pool2d(x, 4, 1, ceil_mode=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maxima_of_large_windows_and_their_gradients_are_pytorchs(dtype):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 3, 40, 50)).astype(dtype)
    cases = [
        (lambda nn: nn.MaxPool2d(16), x), (lambda nn: nn.MaxPool2d((20, 17), 3, padding=(10, 4)), x),
        (lambda nn: nn.MaxPool2d(16, 7, dilation=2, ceil_mode=True), x), (lambda nn: nn.MaxPool2d((40, 50)), x),
        (lambda nn: nn.MaxPool1d(300, 100, 20), x.reshape(2, 3, 2000)),
    ]  # fmt: skip
    for make, data in cases:
        layer, leaf = make(nn), torch.tensor(data, requires_grad=True)
        want = make(torch.nn)(leaf)
        want.square().sum().backward()
        value, grad = fn.value_and_grad(lambda t: layer(t).square().sum())(data)  # noqa: B023
        np.testing.assert_array_equal(layer(data), want.detach().numpy())
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-5)
        assert value == pytest.approx(float(want.square().sum()), rel=1e-5)
