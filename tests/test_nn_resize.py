"""Padding, repeating and dropping parts of images."""

import itertools

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.testing import gradcheck

from torch_twin import assert_same_as_torch

ONES = np.ones((2, 3, 4, 5), np.float32)


def kernels_of(model, x):
    return [op.kernel for phase in model.plan(x).phases for op in phase]


def test_pad_counts_from_the_last_dimension():
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.testing.assert_array_equal(F.pad(x, (1, 2)), np.pad(x, ((0, 0), (0, 0), (1, 2))))
    np.testing.assert_array_equal(F.pad(x, (1, 0, 0, 3)), np.pad(x, ((0, 0), (0, 3), (1, 0))))
    np.testing.assert_array_equal(F.pad(x, (0, 0, 0, 0, 1, 1)), np.pad(x, ((1, 1), (0, 0), (0, 0))))
    np.testing.assert_array_equal(F.pad(x, ()), x)


def test_zeropad2d_is_left_right_top_bottom():
    y = nn.ZeroPad2d((1, 2, 3, 0))(ONES)
    np.testing.assert_array_equal(y, np.pad(ONES, ((0, 0), (0, 0), (3, 0), (1, 2))))
    assert nn.ZeroPad2d(2)(ONES).shape == (2, 3, 8, 9)


def test_upsampling_repeats_pixels():
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    y = nn.Upsample(scale_factor=(2, 3))(x)
    np.testing.assert_array_equal(y, x.repeat(2, axis=2).repeat(3, axis=3))
    np.testing.assert_array_equal(F.interpolate(x, size=(4, 6)), y)


def test_what_moves_pixels_between_convolutions_changes_no_layout():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(8, 4, 3)

        def forward(self, x):
            x = self.a(x)
            small = F.dropout2d(F.dropout(F.pad(x[:, :, ::2, 1:3], (0, 1, 0, 0, 2, 2)), 0.5), 0.5)
            return self.b(F.interpolate(small, scale_factor=2))

    x = np.ones((2, 3, 12, 12), np.float32)
    plan = Net().plan(x)
    copies = [op for phase in plan.phases for op in phase if op.kernel == "copy"]
    transposes = [op for op in copies if op.node is not None and op.node.op.name == "transpose"]
    assert len(transposes) == 2
    joined = fn.trace(lambda x: fn.concat([x.permute(0, 3, 1, 2)] * 2, 1).permute(0, 2, 3, 1))
    assert all(op.node.op.name == "concat" for phase in joined.plan(x).phases for op in phase)
    np.testing.assert_array_equal(joined(x), np.concatenate([x, x], 3))


def test_dropout2d_drops_whole_channels_and_its_gradient_the_same_ones():
    fn.manual_seed(3)
    model = nn.Dropout2d(0.4)
    x = np.random.default_rng(0).standard_normal((40, 10, 3, 4)) + 5
    y = model.forward_train(x)
    kept = (y != 0).mean((2, 3))
    assert set(np.unique(kept)) == {0, 1}
    assert 0.5 < kept.mean() < 0.7
    np.testing.assert_allclose(y, x * kept[:, :, None, None] / 0.6)
    fn.manual_seed(3)
    value, dx = fn.value_and_grad(lambda t: (model(t) * x).sum())(x)
    np.testing.assert_allclose(value, (y * x).sum())
    np.testing.assert_allclose(dx, x * kept[:, :, None, None] / 0.6)
    np.testing.assert_array_equal(model.eval()(x), x)


def test_layers_print_their_settings():
    assert repr(nn.ZeroPad2d(1)) == "ZeroPad2d((1, 1, 1, 1))"
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2, mode='nearest')"
    assert repr(nn.Dropout2d(0.2)) == "Dropout2d(p=0.2)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.ZeroPad2d((1, 2)), ValueError, r"padding must be an int or \(left, right"),
        (lambda: nn.ZeroPad2d(-1), ValueError, "padding must be an int of at least 0"),
        (lambda: F.pad(ONES, (1, 1, 1)), ValueError, "two numbers for each"),
        (lambda: F.pad(ONES, (-1, 1)), ValueError, "pad must not be negative"),
        (lambda: F.pad(ONES, (1.0, 1)), TypeError, "pad must be a tuple of ints"),
        (lambda: F.pad(ONES, (5, 1), "reflect"), ValueError, "reflect takes at most 4 for a dimension of 5, got 5"),
        (lambda: F.pad(ONES, (1, 6), "circular"), ValueError, "circular takes at most 5"),
        (lambda: F.pad(ONES, (1, 1), "edge"), ValueError, "'reflect', 'replicate' or 'circular', got mode='edge'"),
        (lambda: F.pad(ONES, (1, 1), "reflect", 2.0), ValueError, "got mode='reflect', value=2.0"),
        (lambda: nn.Upsample(), ValueError, "give either size or scale_factor"),
        (lambda: nn.Upsample(2, mode="cubic"), ValueError, "mode must be one of 'nearest'"),
        (lambda: nn.Upsample(2, align_corners=True), ValueError, "align_corners is a setting of linear, bilinear"),
        (lambda: F.interpolate(ONES, 2, antialias=True), ValueError, "antialias is a setting of bilinear and bicubic"),
        (lambda: F.interpolate(ONES, scale_factor=0.1), ValueError, "a dimension of 4 would become 0"),
        (lambda: F.interpolate(ONES, size=2**30), ValueError, "a dimension of 4 would become 1073741824"),
        (lambda: F.interpolate(ONES, scale_factor=1e300), ValueError, "a dimension of 4 would become an integer of"),
        (lambda: F.interpolate(ONES, size=(1, 2, 3)), ValueError, "size must be one or 2"),
        (lambda: F.interpolate(ONES[0], scale_factor=2, mode="bilinear"), ValueError, r"expected \(N, C, H, W\) for"),
        (lambda: F.interpolate(ONES[0, 0], scale_factor=2), ValueError, r"expected \(N, C, L\), \(N, C, H, W\) or"),
        (lambda: F.interpolate(ONES), ValueError, "give either size or scale_factor"),
        (lambda: F.dropout2d(ONES[0]), ValueError, r"dropout2d: input has shape \(3, 4, 5\)"),
        (lambda: nn.Dropout2d(1.5), ValueError, "p must be a number from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_padding_and_upsampling_follow_torch():
    torch = pytest.importorskip("torch")
    sides = (1, 2, 0, 3)
    assert_same_as_torch(torch, nn.ZeroPad2d(sides), torch.nn.ZeroPad2d(sides), 2, 3, 4, 5)
    assert_same_as_torch(torch, nn.CircularPad2d(sides), torch.nn.CircularPad2d(sides), 2, 3, 4, 5)
    assert_same_as_torch(torch, nn.ConstantPad2d(sides, 1.5), torch.nn.ConstantPad2d(sides, 1.5), 2, 3, 4, 5)
    for settings in (dict(scale_factor=2), dict(scale_factor=(3, 1)), dict(size=(8, 15))):
        ours, theirs = nn.Upsample(**settings), torch.nn.Upsample(**settings)
        assert_same_as_torch(torch, ours, theirs, 2, 3, 4, 5)


SIZES = [
    dict(size=3), dict(size=10), dict(size=1), dict(scale_factor=2), dict(scale_factor=1.5), dict(scale_factor=0.6),
    dict(scale_factor=1.7, recompute_scale_factor=True), dict(scale_factor=1),
]  # fmt: skip
KINDS = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}


@pytest.mark.parametrize(
    ("mode", "dims"), [*((mode, d) for mode in ("nearest", "nearest-exact", "area") for d in (3, 4)), *KINDS.items()]
)
def test_resizing_and_its_gradient_are_pytorchs(mode, dims):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7, 4)[:dims])
    theirs = torch.tensor(x, requires_grad=True)
    settings = [{}, dict(align_corners=True), dict(align_corners=False)] if mode in KINDS else [{}]
    settings += [dict(antialias=True)] if dims == 4 and mode in KINDS else []
    for size, extra in itertools.product(SIZES, settings):
        given = dict(mode=mode, **size, **extra)
        want = torch.nn.functional.interpolate(theirs, **given)
        np.testing.assert_allclose(F.interpolate(x, **given), want.detach(), rtol=1e-9, atol=1e-9, err_msg=f"{given}")
        (grad,) = torch.autograd.grad(want.square().sum(), theirs)
        ours = fn.grad(lambda x, given=given: F.interpolate(x, **given).square().sum())(x)
        np.testing.assert_allclose(ours, grad, rtol=1e-9, atol=1e-9, err_msg=f"{given}")


def test_resizing_follows_the_batch_and_keeps_the_dtype():
    up = nn.Upsample(scale_factor=(1.5, 2), mode="bilinear", align_corners=True)
    for n in (1, 2, 5, 3):
        x = np.random.default_rng(n).standard_normal((n, 2, 4, 5)).astype(np.float32)
        y = up(x)
        assert y.shape == (n, 2, 6, 10) and y.dtype == np.float32
        np.testing.assert_allclose(y, up(x.astype(np.float64)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [2.5, -np.inf, np.nan])
def test_a_constant_stands_around(value):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    for pad in ((1, 2), (0, 0, 0, 3), (1, 0, 0, 0, 2, 2), (1, 1, 1, 1, 1, 1, 1, 1), ()):
        widths = [(0, 0)] * (4 - len(pad) // 2) + [pad[i : i + 2] for i in range(0, len(pad), 2)][::-1]
        np.testing.assert_array_equal(F.pad(x, pad, value=value), np.pad(x, widths, constant_values=value))
    grad = fn.grad(lambda x: (F.pad(x, (2, 1, 3, 0), value=value)[:, :, 3:, 2:-1] * 2.0).sum())(x)
    np.testing.assert_array_equal(grad, np.full(x.shape, 2.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mode", "numpys"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_edges_are_padded_as_by_numpy(mode, numpys, dtype):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(dtype)
    for pad in ((1, 2), (4, 0, 3, 1), (0, 0, 0, 3), (1, 1, 1, 1, 2, 2), (0, 0), ()):
        widths = [(0, 0)] * (4 - len(pad) // 2) + [pad[i : i + 2] for i in range(0, len(pad), 2)][::-1]
        np.testing.assert_array_equal(F.pad(x, pad, mode), np.pad(x, widths, numpys))
    np.testing.assert_array_equal(F.pad(x[0, 0], (3, 4), mode), np.pad(x[0, 0], ((0, 0), (3, 4)), numpys))
    gradcheck(lambda x: F.pad(x, (2, 1, 3, 0), mode), x.astype(np.float64), eps=1.0)
