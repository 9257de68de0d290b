"""Norm layers: statistics, fusion, folding, state, refusals, and PyTorch's results."""

import itertools

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn, optim

from native.activation import ACTIVATIONS, call
from torch_twin import assert_same_as_torch

IMAGES = np.random.default_rng(0).standard_normal((4, 3, 6, 5)).astype(np.float32)


class Residual(nn.Module):
    """relu(bn(conv(x)) + shortcut(x)), as in residual networks."""

    def __init__(self, activation="relu", shortcut=True, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        if shortcut:
            self.down = nn.Conv2d(channels, channels, 1, bias=False)
            self.down_bn = nn.BatchNorm2d(channels)
        self.shortcut, self.activation = shortcut, activation

    def forward(self, x):
        shortcut = self.down_bn(self.down(x)) if self.shortcut else x
        return call(F, self.activation, self.bn(self.conv(x)) + shortcut)


def torch_residual(torch, activation="relu", shortcut=True):
    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1, bias=False)
            self.bn = torch.nn.BatchNorm2d(3)
            if shortcut:
                self.down = torch.nn.Conv2d(3, 3, 1, bias=False)
                self.down_bn = torch.nn.BatchNorm2d(3)

        def forward(self, x):
            other = self.down_bn(self.down(x)) if shortcut else x
            return getattr(torch.nn.functional, activation)(self.bn(self.conv(x)) + other)

    return Residual()


def randomise(model, seed=0):
    rng = np.random.default_rng(seed)
    for value in (*model.parameters(), *model.buffers()):
        if value.dtype.kind == "f":
            value.data = 0.5 + rng.random(value.shape)
    return model


def kernels_of(program):
    return [op.kernel for phase in program.phases for op in phase]


def step_of(model, loss=None):
    opt = optim.SGD(model.parameters(), lr=0.01)
    return fn.TrainStep(model, loss or (lambda y, t: F.mse_loss(y, t)), opt)


# ---- what they compute --------------------------------------------------------------------------


def test_training_normalises_each_channel_by_the_batch():
    layer = nn.BatchNorm2d(3)
    y = layer(IMAGES)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, atol=1e-4)


def test_running_statistics_move_by_the_momentum_and_evaluation_uses_them():
    layer = nn.BatchNorm2d(3, momentum=0.25, eps=0.5)
    layer(IMAGES)
    mean, var = IMAGES.mean((0, 2, 3)), IMAGES.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.data, 0.25 * mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(layer.running_var.data, 0.75 + 0.25 * var, rtol=1e-5)
    assert layer.num_batches_tracked.data == 1
    before = layer.state_dict()
    y = layer.eval()(IMAGES)
    scale = 1 / np.sqrt(layer.running_var.data + 0.5)
    expected = (IMAGES - layer.running_mean.data[:, None, None]) * scale[:, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(before[name], value) for name, value in layer.state_dict().items())


def test_without_momentum_running_statistics_are_the_average():
    layer = nn.BatchNorm2d(3, momentum=None)
    batches = [IMAGES, IMAGES * 2 + 1, IMAGES[:2] - 3]
    for x in batches:
        layer(x)
    mean = np.mean([x.mean((0, 2, 3)) for x in batches], axis=0)
    var = np.mean([x.var((0, 2, 3), ddof=1) for x in batches], axis=0)
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.running_var.data, var, rtol=1e-5)
    layer.reset_running_stats()
    np.testing.assert_array_equal(layer.running_var.data, 1)
    assert layer.num_batches_tracked.data == 0


def test_a_layer_used_twice_counts_both_batches():
    layer = nn.BatchNorm1d(5)
    fn.trace(lambda x: layer(layer(x)))(np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32))
    assert layer.num_batches_tracked.data == 2


def test_a_constant_channel_becomes_its_bias():
    layer = nn.BatchNorm1d(2)
    layer.bias.data = [3, -1]
    np.testing.assert_allclose(layer(np.full((6, 2), 7, np.float32)), [[3, -1]] * 6)
    np.testing.assert_allclose(nn.LayerNorm(2)(np.full((6, 2), 7, np.float32)), 0)


def test_local_response_norm_follows_its_formula():
    x = np.random.default_rng(0).standard_normal((2, 7, 3, 4))
    for size in (1, 4, 5, 20):
        padded = np.pad(x**2, ((0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0)))
        total = sum(padded[:, i : i + 7] for i in range(size))
        expected = x / (2 + 0.3 / size * total) ** 0.6
        np.testing.assert_allclose(F.local_response_norm(x, size, 0.3, 0.6, 2.0), expected, rtol=1e-12)


def test_functional_batch_norm_writes_to_the_arrays_it_is_given():
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    y = F.batch_norm(IMAGES, mean, var, training=True, momentum=0.5)
    np.testing.assert_allclose(mean, 0.5 * IMAGES.mean((0, 2, 3)), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(y, F.batch_norm(IMAGES, None, None))
    z = F.batch_norm(IMAGES, mean, var, bias=np.array([1, 2, 3], np.float32))
    expected = (IMAGES - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    np.testing.assert_allclose(z, expected + np.array([1, 2, 3])[:, None, None], rtol=1e-5, atol=1e-5)


# ---- fusion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shortcut", [True, False], ids=["projection", "identity"])
def test_a_training_step_adds_and_masks_within_the_norm(shortcut):
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), Residual(shortcut=shortcut))
    program = step_of(model).plan(IMAGES, IMAGES)
    kernels = kernels_of(program)
    assert not {"activation", "activation_backward"} & set(kernels)
    assert kernels.count("binary") == 1  # adds the gradients of the two branches
    assert kernels.count("copy") == 3  # the input's layout, the loss's, and its gradient's
    assert "batch_norm+residual+relu" in program.explain()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_fused_gradients_agree_with_differences(activation, training):
    model = randomise(Residual(activation)).double().train(training)
    x = np.random.default_rng(1).standard_normal((3, 3, 4, 3))
    assert fn.testing.gradcheck(model, x, atol=1e-6)


def test_a_norm_that_others_read_is_not_fused():
    layer = nn.BatchNorm2d(3).double()
    x = IMAGES.astype(np.float64)

    def function(x):
        y = layer(x)
        return F.relu(y), y + x

    plain, added = fn.trace(function)(x)
    y = layer(x)
    np.testing.assert_array_equal(plain, np.maximum(y, 0))
    np.testing.assert_array_equal(added, y + x)


def test_a_sum_of_two_norms_and_of_one_with_itself():
    one, two = randomise(nn.BatchNorm2d(3)).double(), randomise(nn.BatchNorm2d(3), 1).double()
    x = IMAGES.astype(np.float64)
    expected = one(x) + two(x)
    np.testing.assert_allclose(fn.trace(lambda x: one(x) + two(x))(x), expected, rtol=1e-12)

    def doubled(x):
        y = one(x)
        return y + y

    np.testing.assert_allclose(fn.trace(doubled)(x), 2 * one(x), rtol=1e-12)


def test_a_broadcast_addition_stays_one():
    layer = nn.BatchNorm2d(3).double()
    x, b = IMAGES.astype(np.float64), np.ones((3, 1, 1))
    y = fn.trace(lambda x: layer(x) + b)(x)
    np.testing.assert_allclose(y, layer(x) + 1, rtol=1e-12)


def test_convolutions_add_a_residual_themselves():
    first, second = (nn.Conv2d(3, 3, 3, padding=1).double() for _ in range(2))
    x = IMAGES.astype(np.float64)

    def block(x):
        y = first(x)
        return F.relu(second(y) + y)

    program = fn.trace(block).plan(x)
    assert not {"binary", "activation"} & set(kernels_of(program))
    assert "conv2d+bias+residual+relu" in program.explain()
    y = first(x)
    np.testing.assert_allclose(fn.trace(block)(x), np.maximum(second(y) + y, 0), rtol=1e-12)
    assert fn.testing.gradcheck(block, x[:1])


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_inference_folds_a_norm_into_the_convolution_before_it(groups, bias, affine):
    conv = nn.Conv2d(3, 6, 3, padding=1, groups=groups, bias=bias)
    bn = randomise(nn.BatchNorm2d(6, affine=affine, eps=0.01))
    model = nn.Sequential(conv, bn, nn.ReLU()).double().eval()
    x = IMAGES.astype(np.float64)
    program = model.plan(x)
    assert "batch_norm_eval" not in kernels_of(program)
    assert "conv2d+bias+relu" in program.explain()
    np.testing.assert_allclose(model(x), np.maximum(bn(conv(x)), 0), rtol=1e-12, atol=1e-12)
    bn.running_mean.data += 1
    np.testing.assert_allclose(model(x), np.maximum(bn(conv(x)), 0), rtol=1e-12, atol=1e-12)


def test_layers_over_sequences_fuse_as_those_over_images_do():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = (nn.Conv1d(4, 4, 3, padding=1) for _ in range(2))
            self.bn = randomise(nn.BatchNorm1d(4))

        def forward(self, x):
            y = F.relu(self.conv1(x))
            return F.relu(self.bn(self.conv2(y)) + y)

    model = Block().double()
    x = np.random.default_rng(0).standard_normal((3, 4, 20))
    program = model.plan(x)
    assert not {"activation", "binary"} & set(kernels_of(program))
    assert "batch_norm+residual+relu" in program.explain()
    assert fn.testing.gradcheck(model, x)
    y = np.maximum(model.conv1(x), 0)
    expected = np.maximum(model.eval().bn(model.conv2(y)) + y, 0)
    np.testing.assert_allclose(model(x), expected, rtol=1e-12, atol=1e-12)
    assert not {"activation", "batch_norm_eval"} & set(kernels_of(model.plan(x)))


def test_a_residual_block_in_evaluation_is_two_convolutions():
    model = randomise(Residual()).double().eval()
    x = IMAGES.astype(np.float64)
    kernels = kernels_of(model.plan(x))
    assert kernels.count("conv2d") == 2
    assert not {"activation", "batch_norm_eval"} & set(kernels)
    expected = np.maximum(model.bn(model.conv(x)) + model.down_bn(model.down(x)), 0)
    np.testing.assert_allclose(model(x), expected, rtol=1e-12)


def test_a_norm_folds_into_weights_that_are_more_than_the_outputs():
    conv, bn = nn.Conv2d(3, 6, 3, groups=3), randomise(nn.BatchNorm2d(6))
    model = nn.Sequential(conv, bn).double().eval()
    x = IMAGES[:1, :, :4, :4].astype(np.float64)
    assert "batch_norm_eval" not in kernels_of(model.plan(x))
    np.testing.assert_allclose(model(x), bn(conv(x)), rtol=1e-12, atol=1e-12)


def test_a_frozen_norm_trains_the_convolution_before_it():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), randomise(nn.BatchNorm2d(4)), nn.ReLU()).double().eval()
    model[1].requires_grad_(False)
    assert fn.testing.gradcheck(model, IMAGES[:2].astype(np.float64))


def test_the_mask_of_an_activation_is_applied_before_unpooling():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 2)

        def forward(self, x):
            return self.conv2(F.max_pool2d(F.relu(self.conv1(x)), 3, 1))

    model, x = Net().double(), np.random.default_rng(0).standard_normal((2, 3, 8, 7))
    program = step_of(model).plan(x, model(x))
    assert "activation_backward" not in kernels_of(program)
    assert "conv2d_input_grad+relu'" in program.explain()
    assert fn.testing.gradcheck(model, x)


# ---- state --------------------------------------------------------------------------------------


def test_state_has_torchs_names_and_dtypes():
    state = nn.BatchNorm2d(3).state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert state["num_batches_tracked"].dtype == np.int64
    assert state["num_batches_tracked"].shape == ()
    assert list(nn.BatchNorm1d(3, affine=False, track_running_stats=False).state_dict()) == []
    assert list(nn.LayerNorm((2, 3), bias=False).state_dict()) == ["weight"]


def test_state_survives_files_and_dtypes(tmp_path):
    layer = nn.BatchNorm2d(3)
    for _ in range(3):
        layer(IMAGES)
    layer.save(tmp_path / "norm.safetensors")
    other = nn.BatchNorm2d(3).load(tmp_path / "norm.safetensors")
    assert other.num_batches_tracked.data == 3
    np.testing.assert_array_equal(other.running_var.data, layer.running_var.data)
    other.double()
    assert other.running_var.dtype == np.float64
    assert other.num_batches_tracked.dtype == np.int64
    other(IMAGES.astype(np.float64))
    assert other.num_batches_tracked.data == 4


def test_a_refused_batch_leaves_running_statistics_alone():
    layer = nn.BatchNorm2d(3)
    step = step_of(nn.Sequential(layer))
    with pytest.raises(ValueError):
        step(IMAGES, IMAGES[:2])
    assert layer.num_batches_tracked.data == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.BatchNorm2d(0), ValueError, "num_features must be an int of at least 1"),
        (lambda: nn.BatchNorm2d(3, eps=-1), ValueError, "eps must be a finite number of at least 0"),
        (lambda: nn.BatchNorm2d(3, momentum=2), ValueError, "momentum must be a number from 0 to 1"),
        (lambda: nn.BatchNorm2d(3, affine=1), TypeError, "affine must be True or False"),
        (lambda: nn.BatchNorm2d(3)(IMAGES[0]), ValueError, r"expected \(N, C, H, W\)"),
        (lambda: nn.BatchNorm1d(3)(IMAGES), ValueError, r"expected \(N, C\) or \(N, C, L\)"),
        (
            lambda: nn.BatchNorm2d(4)(IMAGES),
            ValueError,
            r"weight has shape \(4,\); the input of shape .* takes \(3,\)",
        ),
        (
            lambda: nn.BatchNorm2d(4, affine=False)(IMAGES),
            ValueError,
            r"the running mean has shape \(4,\); the input of shape .* takes \(3,\)",
        ),
        (lambda: nn.BatchNorm2d(3)(IMAGES.astype(np.float64)), TypeError, "float64"),
        (lambda: nn.BatchNorm1d(3)(np.ones((1, 3), np.float32)), ValueError, "one value a channel"),
        (lambda: F.batch_norm(IMAGES, np.zeros(3, np.float32), None), ValueError, "or neither"),
        (lambda: F.batch_norm(IMAGES, [0, 0, 0], [1, 1, 1]), TypeError, "running_mean must be a"),
        (lambda: nn.LayerNorm(()), ValueError, "at least one dimension"),
        (lambda: nn.LayerNorm((3, 0)), ValueError, "normalized_shape must be an int of at least 1"),
        (lambda: nn.LayerNorm(4)(IMAGES), ValueError, r"expected \(..., 4\)"),
        (lambda: nn.RMSNorm(()), ValueError, "normalized_shape must name"),
        (lambda: nn.RMSNorm(4, eps=-1), ValueError, "eps must be"),
        (lambda: F.rms_norm(np.ones((2, 3)), 4), ValueError, r"expected \(..., 4\)"),
        (lambda: F.rms_norm(np.ones((2, 4)), 4, np.ones(3)), ValueError, "weight has shape"),
        (lambda: nn.GroupNorm(2, 3), ValueError, "must be a multiple of num_groups 2"),
        (lambda: F.group_norm(IMAGES, 2), ValueError, "num_groups is 2, which does not divide the 3 channels"),
        (lambda: nn.LocalResponseNorm(0), ValueError, "size must be an int of at least 1"),
        (lambda: F.local_response_norm(IMAGES[0, 0], 3), ValueError, r"expected \(N, C, L, ...\)"),
        (lambda: F.layer_norm(np.ones((2, 3), np.int64), 3), TypeError, "float32 or float64"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(("layer", "shape"), [(nn.BatchNorm1d(3), (3,)), (nn.BatchNorm2d(3), (3, 1, 1))])
def test_a_batch_of_one_value_a_channel_is_refused_after_larger_ones_too(layer, shape):
    layer(np.ones((4, *shape), np.float32))
    before = layer.running_mean.numpy().copy()
    with pytest.raises(ValueError, match="one value a channel"):
        layer(np.zeros((1, *shape), np.float32))
    np.testing.assert_array_equal(layer.running_mean.numpy(), before)
    layer.eval()(np.zeros((1, *shape), np.float32))


def test_layers_print_their_settings():
    assert repr(nn.BatchNorm2d(3)) == ("BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")
    assert repr(nn.RMSNorm(4)) == "RMSNorm((4,), eps=None, elementwise_affine=True)"
    assert repr(nn.GroupNorm(2, 4)) == "GroupNorm(2, 4, eps=1e-05, affine=True)"
    assert repr(nn.LayerNorm(4)) == "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)"
    assert repr(nn.LocalResponseNorm(5)) == "LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=1.0)"


# ---- next to PyTorch ----------------------------------------------------------------------------

SHAPES = {"BatchNorm1d": ((5, 3), (4, 3, 6)), "BatchNorm2d": ((4, 3, 5, 2), (70, 3, 4, 3))}
BATCH_NORMS = [
    (name, shape, momentum, affine, track)
    for name in SHAPES
    for shape, momentum, affine, track in itertools.product(
        SHAPES[name], (0.1, 0.7, None), (True, False), (True, False)
    )
]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("name", "shape", "momentum", "affine", "track"), BATCH_NORMS)
def test_batch_norm_follows_torch(name, shape, momentum, affine, track, training):
    torch = pytest.importorskip("torch")
    settings = (3, 1e-3, momentum, affine, track)
    ours, theirs = getattr(nn, name)(*settings), getattr(torch.nn, name)(*settings)
    for value in theirs.parameters():
        torch.nn.init.uniform_(value, 0.5, 1.5)
    if track and not training:
        torch.nn.init.uniform_(theirs.running_mean)
        torch.nn.init.uniform_(theirs.running_var, 0.5, 1.5)
    ours.train(training)
    theirs.train(training)
    assert_same_as_torch(torch, ours, theirs, *shape, steps=3)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shortcut", [True, False], ids=["projection", "identity"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_fused_blocks_follow_torch(activation, shortcut, training):
    torch = pytest.importorskip("torch")
    ours = Residual(activation, shortcut).train(training)
    theirs = torch_residual(torch, activation, shortcut).train(training)
    assert_same_as_torch(torch, ours, theirs, 5, 3, 6, 7, steps=2)


@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("shape", [5, (5,), (4, 5), (3, 4, 5)])
def test_layer_norm_follows_torch(shape, affine):
    torch = pytest.importorskip("torch")
    ours, theirs = nn.LayerNorm(shape, 1e-3, *affine), torch.nn.LayerNorm(shape, 1e-3, *affine)
    for value in theirs.parameters():
        torch.nn.init.uniform_(value)
    assert_same_as_torch(torch, ours, theirs, 7, 3, 4, 5)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(3, 6, 4, 5), (2, 6, 11), (4, 6), (2, 6, 20, 20)])
def test_group_norm_follows_torch(shape, groups, affine):
    torch = pytest.importorskip("torch")
    settings = (groups, 6, 1e-3, affine)
    ours, theirs = nn.GroupNorm(*settings), torch.nn.GroupNorm(*settings)
    for value in theirs.parameters():
        torch.nn.init.uniform_(value)
    assert_same_as_torch(torch, ours, theirs, *shape)


@pytest.mark.parametrize("shape", [(3, 7, 4, 5), (2, 7, 11)])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_local_response_norm_follows_torch(size, shape):
    torch = pytest.importorskip("torch")
    settings = (size, 0.5, 0.6, 1.5)
    ours, theirs = nn.LocalResponseNorm(*settings), torch.nn.LocalResponseNorm(*settings)
    assert_same_as_torch(torch, ours, theirs, *shape)


def test_a_norm_that_is_used_twice_moves_its_statistics_in_the_order_of_calls():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x):
            first = self.bn(x)
            second = self.bn(4 * x + 1)
            return second + first  # the addition is absorbed by one of them, which moves behind the other

    x = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
    model = Twice()
    model(x)
    mean, var = np.zeros(3), np.ones(3)
    for part in (x, 4 * x + 1):
        mean = 0.9 * mean + 0.1 * part.mean(0)
        var = 0.9 * var + 0.1 * part.var(0, ddof=1)
    np.testing.assert_allclose(model.bn.running_mean.data, mean, rtol=1e-5)
    np.testing.assert_allclose(model.bn.running_var.data, var, rtol=1e-5)
    assert model.bn.num_batches_tracked.data == 2


def test_a_norm_whose_result_is_not_used_still_moves_its_statistics():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x):
            self.bn(x)
            return x * 2

    model, twin = Unused(), nn.BatchNorm1d(3)
    x = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(x), 2 * x)
    twin(x)
    np.testing.assert_array_equal(model.bn.running_mean.data, twin.running_mean.data)


def test_running_statistics_given_to_the_function_are_followed_through_changes_of_dtype():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", np.zeros(3, np.float32))
            self.register_buffer("var", np.ones(3, np.float32))

        def forward(self, x):
            return F.batch_norm(x, self.mean, self.var, training=True)

    model, x = Functional(), np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
    model(x)
    once = model.mean.data.copy()
    model.double().float()
    model(x)
    np.testing.assert_allclose(model.mean.data, once + 0.1 * (x.mean(0) - once), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps", [0.0, None, 1e-6])
def test_rms_norm_of_numbers_whose_squares_leave_the_range_is_as_exact(dtype, eps):
    """x / x.square().mean().sqrt() is 0 or NaN there."""
    x = np.random.default_rng(0).standard_normal((3, 7)).astype(dtype)
    w = np.linspace(0.5, 2, 7).astype(dtype)
    tolerance = 8 * np.finfo(dtype).eps
    exponents = [0, np.finfo(dtype).maxexp - 4, 2 * np.finfo(dtype).maxexp // 3, np.finfo(dtype).minexp + 4]
    for e in exponents if eps == 0 else exponents[:3]:
        y = x * dtype(2.0) ** e
        small = (y.astype(np.longdouble) ** 2).mean(1, keepdims=True) + (np.finfo(dtype).eps if eps is None else eps)
        want = y / np.sqrt(small) * w
        np.testing.assert_allclose(F.rms_norm(y, 7, w, eps), want, rtol=tolerance)
        dy = np.random.default_rng(1).standard_normal((3, 7))
        given = fn.grad(lambda y: (F.rms_norm(y, 7, w, eps) * dy.astype(dtype)).sum())(y)  # noqa: B023
        norm, rms = y / np.sqrt(small), np.sqrt(small)
        expected = (dy * w - norm * (dy * w * norm).mean(1, keepdims=True)) / rms
        np.testing.assert_allclose(given, expected, rtol=1e3 * tolerance, atol=tolerance * abs(expected).max())


def test_rms_norm_passes_nan_and_infinity_on_as_pytorchs():
    torch = pytest.importorskip("torch")
    x = np.array([[1.0, np.inf, 2.0], [np.nan, 1.0, 2.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(F.rms_norm(x, 3), torch.nn.functional.rms_norm(torch.tensor(x), (3,)).numpy())


def test_instance_norm_sees_its_shapes():
    with pytest.raises(ValueError, match=r"InstanceNorm2d: input has shape \(2, 3, 4\); expected \(N, 3, H, W\)"):
        nn.InstanceNorm2d(3)(np.ones((2, 3, 4), np.float32))
    with pytest.raises(ValueError, match=r"InstanceNorm1d: input has shape \(2, 5, 4\); expected \(N, 3, L\)"):
        nn.InstanceNorm1d(3)(np.ones((2, 5, 4), np.float32))
    with pytest.raises(ValueError, match=r"expected \(N, C, L, ...\)"):
        F.instance_norm(np.ones((2, 3)))
    assert repr(nn.InstanceNorm1d(3)) == "InstanceNorm1d(3, eps=1e-05, affine=False)"
