"""Convolution layers: shapes, settings, refusals, and PyTorch's results."""

import itertools

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.testing import gradcheck

from torch_twin import assert_same_as_torch

SIZES = dict(kernel=(1, 3, (2, 3)), stride=(1, 2), padding=(0, 1, "same"), dilation=(1, 2), groups=(1, 2, 4))
SETTINGS = [s for s in itertools.product(*SIZES.values()) if s[2] != "same" or s[1] == 1]
KINDS = ("weight", "input", "bias")


def test_convolution_is_cross_correlation():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    w = np.array([[[[1, 0], [0, -1]]]], np.float32)
    np.testing.assert_array_equal(F.conv2d(x, w, np.array([0.5], np.float32)), np.full((1, 1, 3, 3), -4.5))


def test_four_paddings_are_top_bottom_left_right():
    x = np.ones((1, 1, 2, 3), np.float32)
    y = F.conv2d(x, np.ones((1, 1, 1, 1), np.float32), padding=(1, 2, 3, 4))
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (1, 2), (3, 4))))
    y = F.conv1d(x[0, :, :1], np.ones((1, 1, 1), np.float32), padding=(2, 1))
    np.testing.assert_array_equal(y, np.pad(x[0, :, :1], ((0, 0), (0, 0), (2, 1))))


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, (2, 5)])
def test_same_keeps_the_size(kernel):
    assert nn.Conv2d(2, 3, kernel, padding="same", dilation=2)(np.ones((2, 2, 6, 7), np.float32)).shape == (2, 3, 6, 7)
    assert nn.Conv2d(2, 3, 1, padding="valid")(np.ones((2, 2, 6, 7), np.float32)).shape == (
        2,
        3,
        6,
        7,
    )


def test_weights_have_torchs_shapes_and_bounds():
    fn.manual_seed(0)
    for layer, shape, fan in (
        (nn.Conv2d(6, 8, (3, 5), groups=2), (8, 3, 3, 5), 45),
        (nn.Conv1d(6, 8, 3), (8, 6, 3), 18),
        (nn.ConvTranspose2d(6, 8, 3, groups=2), (6, 4, 3, 3), 36),
    ):
        assert layer.weight.shape == shape
        assert layer.bias.shape == (8,)
        for values in (layer.weight.data, layer.bias.data):
            assert 0.5 / np.sqrt(fan) < np.abs(values).max() <= 1 / np.sqrt(fan)
    assert nn.Conv2d(6, 8, 3, bias=False).bias is None


def test_layers_print_what_is_not_usual():
    assert repr(nn.Conv2d(1, 6, 5)) == "Conv2d(1, 6, kernel_size=(5, 5))"
    layer = nn.Conv2d(4, 8, 3, 2, (1, 0), 2, 4, False)
    assert repr(layer) == (
        "Conv2d(4, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 0), dilation=(2, 2), groups=4, bias=False)"
    )
    assert repr(nn.Conv1d(2, 2, 3, padding="same")) == "Conv1d(2, 2, kernel_size=(3,), padding='same')"


def test_layout_changes_stand_at_the_edges_alone():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.Tanh(),
        nn.ConvTranspose2d(5, 4, 2),
    )
    kernels = [op.kernel for phase in model.plan(np.ones((2, 3, 6, 6), np.float32)).phases for op in phase]
    assert kernels.count("copy") == 2
    sequences = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 5, 3), nn.Tanh(), nn.Conv1d(5, 4, 2))
    kernels = [op.kernel for phase in sequences.plan(np.ones((2, 3, 9), np.float32)).phases for op in phase]
    assert kernels.count("copy") == 2


def test_weights_are_packed_in_the_phase_before_they_are_read():
    """Not all at the start: that would fill the arena, and they would be out of the caches when read."""
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(5)))
    phases = model.plan(np.ones((2, 4, 20, 20), np.float32)).phases
    where = {
        kernel: [i for i, phase in enumerate(phases) for op in phase if op.kernel == kernel]
        for kernel in ("conv2d_pack", "conv2d")
    }
    assert len(where["conv2d"]) == 5
    assert where["conv2d_pack"] == [i - 1 for i in where["conv2d"]]


def test_explain_shows_layout_changes_with_both_shapes():
    text = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).plan(np.ones((2, 3, 6, 7), "f")).explain()
    first, last = (line for line in text.splitlines() if "transpose" in line)
    assert "x (N, 3, 6, 7) -> y (N, 6, 7, 3)" in first
    assert "x (N, 4, 5, 4) -> y (N, 4, 4, 5)" in last


def test_activations_run_in_the_epilogue():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    kernels = [op.kernel for phase in model.plan(np.ones((2, 3, 6, 6), np.float32)).phases for op in phase]
    assert "activation" not in kernels
    assert "conv2d+bias+relu" in model.plan(np.ones((2, 3, 6, 6), np.float32)).explain()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=4), ValueError, "multiples of groups 4"),
        (lambda: nn.Conv2d(4, 6, 0), ValueError, "kernel_size must be at least 1"),
        (lambda: nn.Conv2d(4, 6, (3, 3, 3)), TypeError, "kernel_size must be an int or a pair"),
        (lambda: nn.Conv2d(4, 6, 3, stride=0), ValueError, "stride must be at least 1"),
        (lambda: nn.Conv2d(4, 6, 3, stride=2, padding="same"), ValueError, "needs a stride of 1"),
        (
            lambda: nn.Conv2d(4, 6, 3, padding="full"),
            ValueError,
            'padding must be ints, "same" or "valid"',
        ),
        (lambda: nn.Conv2d(4, 6, 3, padding=-1), ValueError, "padding must be at least 0"),
        (
            lambda: nn.Conv2d(4, 6, 3, padding_mode="reflect"),
            ValueError,
            "padding_mode must be 'zeros'",
        ),
        (lambda: nn.Conv2d(0, 6, 3), ValueError, "in_channels must be an int of at least 1"),
        (lambda: nn.Conv1d(4, 6, (3, 3)), TypeError, "kernel_size must be an int"),
        (
            lambda: nn.Conv2d(4, 6, 3)(np.ones((2, 3, 5, 5), np.float32)),
            ValueError,
            "input has 3 channels",
        ),
        (
            lambda: nn.Conv2d(4, 6, 3)(np.ones((4, 5, 5), np.float32)),
            ValueError,
            r"expected \(N, C, H, W\)",
        ),
        (
            lambda: nn.Conv1d(4, 6, 3)(np.ones((4, 5), np.float32)),
            ValueError,
            r"expected \(N, C, L\) and \(out, in",
        ),
        (
            lambda: nn.Conv2d(4, 6, 3)(np.ones((2, 4, 2, 5), np.float32)),
            ValueError,
            "kernel spans 3 along the height",
        ),
        (
            lambda: nn.Conv2d(4, 6, 3)(np.ones((2, 4, 5, 5))),
            TypeError,
            "input is float64|operand is float64",
        ),
        (
            lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=2)(np.ones((2, 4, 5, 5), np.float32)),
            ValueError,
            "must be less than stride",
        ),
        (
            lambda: nn.ConvTranspose2d(4, 6, 3, padding=3)(np.ones((2, 4, 2, 2), np.float32)),
            ValueError,
            "use less padding",
        ),
        (
            lambda: F.conv2d(np.ones((1, 2, 4, 4)), np.ones((3, 2, 2, 2)), np.ones(2)),
            ValueError,
            r"bias has shape \(2,\); expected \(3,\)",
        ),
        (
            lambda: F.conv_transpose2d(np.ones((1, 2, 4, 4)), np.ones((3, 2, 2, 2))),
            ValueError,
            "input has 2 channels",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_plan_serves_smaller_batches():
    model = nn.Conv2d(3, 4, 3, padding=1)
    x = np.random.default_rng(0).standard_normal((5, 3, 6, 7)).astype(np.float32)
    whole = model(x)
    np.testing.assert_array_equal(model(x[:2]), whole[:2])


@pytest.mark.parametrize("layer", ["Conv2d", "Conv1d", "ConvTranspose2d", "ConvTranspose1d"])
def test_gradients_agree_with_differences(layer):
    model = getattr(nn, layer)(2, 4, 3, stride=2, padding=1, groups=2).double()
    shape = (2, 2, 5) if layer.endswith("1d") else (2, 2, 5, 4)
    x = np.random.default_rng(0).standard_normal(shape)
    assert fn.testing.gradcheck(model, x, eps=1.0)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), SETTINGS)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_conv2d_follows_torch(kernel, stride, padding, dilation, groups, bias):
    torch = pytest.importorskip("torch")
    settings = (4, 8, kernel, stride, padding, dilation, groups, bias)
    assert_same_as_torch(torch, nn.Conv2d(*settings), torch.nn.Conv2d(*settings), 2, 4, 8, 7)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), SETTINGS[:48])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_conv1d_follows_torch(kernel, stride, padding, dilation, groups):
    torch = pytest.importorskip("torch")
    settings = (4, 8, kernel, stride, padding, dilation, groups)
    assert_same_as_torch(torch, nn.Conv1d(*settings), torch.nn.Conv1d(*settings), 2, 4, 9)


TRANSPOSED = [(*s, extra) for s in SETTINGS if s[2] != "same" for extra in (0, 1) if extra < max(s[1], s[3])]


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups", "output_padding"), TRANSPOSED)
def test_conv_transpose2d_follows_torch(kernel, stride, padding, dilation, groups, output_padding):
    torch = pytest.importorskip("torch")
    settings = (4, 8, kernel, stride, padding, output_padding, groups, True, dilation)
    assert_same_as_torch(torch, nn.ConvTranspose2d(*settings), torch.nn.ConvTranspose2d(*settings), 2, 4, 4, 5)


ONE_SIDED = [s for s in TRANSPOSED if all(isinstance(value, int) for value in s)]


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups", "output_padding"), ONE_SIDED)
def test_conv_transpose1d_follows_torch(kernel, stride, padding, dilation, groups, output_padding):
    torch = pytest.importorskip("torch")
    settings = (4, 8, kernel, stride, padding, output_padding, groups, True, dilation)
    assert_same_as_torch(torch, nn.ConvTranspose1d(*settings), torch.nn.ConvTranspose1d(*settings), 2, 4, 5)


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 1, 2, 1), (2, 0, 0, 1)])
def test_transposed_convolutions_leave_out_what_each_side_has_as_padding(padding):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((3, 4, 3, 4))
    settings = dict(stride=(2, 3), output_padding=(1, 2), dilation=(2, 1))
    whole = F.conv_transpose2d(x, w, **settings)
    top, bottom, left, right = padding
    cut = whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]
    np.testing.assert_allclose(F.conv_transpose2d(x, w, padding=padding, **settings), cut, rtol=1e-12, atol=1e-12)
    gradcheck(lambda x, w: F.conv_transpose2d(x, w, padding=padding, **settings), x, w)
    assert nn.ConvTranspose2d(3, 4, (3, 4), padding=padding, **settings)(x.astype(np.float32)).shape == cut.shape
    whole = F.conv_transpose1d(x[:, :, 0], w[:, :, 0], stride=3)
    cut = F.conv_transpose1d(x[:, :, 0], w[:, :, 0], stride=3, padding=(left, right))
    np.testing.assert_allclose(cut, whole[:, :, left : whole.shape[2] - right], rtol=1e-12, atol=1e-12)
