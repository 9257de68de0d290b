"""Odd values for every size and number of a public call: a result, or an error that names the argument."""

import inspect
import os
import time
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn, optim

from optimizers import CLASSES

SEED = int(os.environ.get("FASTNN_FUZZ_SEED", 1_000_000))
COUNT = int(os.environ.get("FASTNN_FUZZ_COUNT", 20_000))
IMAGES = np.ones((2, 4, 6, 6), np.float32)
SEQUENCES = np.ones((2, 4, 9), np.float32)
ROWS = np.ones((3, 4), np.float32)
LABELS = np.array([0, 1, 2])
KERNEL = np.ones((4, 4, 3, 3), np.float32)

# Nothing from 2**24 to 2**32 - 1: such a size may be right, and take the machine's memory.
HUGE = [10**400, -(10**400), 2**64, 2**63, 2**63 - 1, 2**62, 2**61, 2**40, 2**32, -1, -(2**63), -(2**64)]
ODD = [0, float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 1e-300, 0.5, True, None, "x", b"x", (), {}]
NUMBERS = st.sampled_from(HUGE) | st.sampled_from(ODD) | st.integers(-3, 12) | st.integers(2**33, 2**70)
VALUES = NUMBERS | st.tuples(NUMBERS) | st.tuples(NUMBERS, NUMBERS) | st.tuples(*[NUMBERS] * 4) | st.lists(NUMBERS)


def layer(kind, x, **usual):
    """A call of a layer, made with the settings given."""
    names = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "dtype")]
    return (lambda **given: kind(**{**usual, **given})(x)), names


def function(call, *names, **usual):
    return (lambda **given: call(**{**usual, **given})), list(names)


def fit(**given):
    model = nn.Linear(4, 3)
    trainer = fn.Trainer(model, loss=nn.CrossEntropyLoss(), optimizer=optim.SGD(model.parameters(), lr=0.1))
    return trainer.fit((ROWS, LABELS), verbose=False, **{"epochs": 1, **given})


def optimizer(name):
    kind = getattr(optim, name)
    numbers = [k for k, v in kind(nn.Linear(4, 3).parameters()).defaults.items() if type(v) in (int, float)]
    return (lambda **given: kind(nn.Linear(4, 3).parameters(), **given)), [*numbers, "clip_grad_value"]


WINDOW = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
MEAN = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
CONV = ("stride", "padding", "dilation", "groups")
CALLS = {
    "conv2d": function(F.conv2d, *CONV, input=IMAGES, weight=KERNEL),
    "conv1d": function(F.conv1d, *CONV, input=SEQUENCES, weight=KERNEL[..., 0]),
    "conv_transpose2d": function(F.conv_transpose2d, *CONV, "output_padding", input=IMAGES, weight=KERNEL),
    "conv_transpose1d": function(F.conv_transpose1d, *CONV, "output_padding", input=SEQUENCES, weight=KERNEL[..., 0]),
    "max_pool2d": function(F.max_pool2d, *WINDOW, input=IMAGES, kernel_size=2),
    "max_pool1d": function(F.max_pool1d, *WINDOW, input=SEQUENCES, kernel_size=2),
    "avg_pool2d": function(F.avg_pool2d, *MEAN, "divisor_override", "dilation", input=IMAGES, kernel_size=2),
    "avg_pool1d": function(F.avg_pool1d, *MEAN, input=SEQUENCES, kernel_size=2),
    "adaptive_avg_pool2d": function(F.adaptive_avg_pool2d, "output_size", input=IMAGES),
    "adaptive_max_pool1d": function(F.adaptive_max_pool1d, "output_size", input=SEQUENCES),
    "layer_norm": function(F.layer_norm, "normalized_shape", "eps", input=ROWS, normalized_shape=4),
    "group_norm": function(F.group_norm, "num_groups", "eps", input=IMAGES, num_groups=2),
    "batch_norm": function(
        F.batch_norm, "momentum", "eps", input=IMAGES, running_mean=np.zeros(4, np.float32),
        running_var=np.ones(4, np.float32),
    ),
    "local_response_norm": function(F.local_response_norm, "size", "alpha", "beta", "k", input=IMAGES, size=3),
    "pad": function(F.pad, "pad", "value", input=IMAGES, pad=(1, 1)),
    "interpolate by scale_factor": function(F.interpolate, "scale_factor", input=IMAGES),
    "interpolate to size": function(F.interpolate, "size", "mode", "align_corners", "antialias", input=IMAGES),
    "leaky_relu": function(F.leaky_relu, "negative_slope", input=ROWS),
    "elu": function(F.elu, "alpha", input=ROWS),
    "celu": function(F.celu, "alpha", input=ROWS),
    "softplus": function(F.softplus, "beta", "threshold", input=ROWS),
    "swish": function(F.swish, "beta", input=ROWS),
    "gelu": function(F.gelu, "approximate", input=ROWS),
    "hardtanh": function(F.hardtanh, "min_val", "max_val", input=ROWS),
    "hardshrink": function(F.hardshrink, "lambd", input=ROWS),
    "softshrink": function(F.softshrink, "lambd", input=ROWS),
    "threshold": function(F.threshold, "threshold", "value", input=ROWS, threshold=0.5, value=1.0),
    "rrelu": function(F.rrelu, "lower", "upper", "training", input=ROWS, training=True),
    "glu": function(F.glu, "dim", input=ROWS),
    "maxout": function(F.maxout, "pieces", "dim", input=ROWS, pieces=2),
    "softmax": function(F.softmax, "dim", input=ROWS, dim=1),
    "flatten": function(F.flatten, "start_dim", "end_dim", input=IMAGES),
    "dropout": function(F.dropout, "p", input=ROWS),
    "cross_entropy": function(F.cross_entropy, "ignore_index", "label_smoothing", input=ROWS, target=LABELS),
    "smooth_l1_loss": function(F.smooth_l1_loss, "beta", "reduction", input=ROWS, target=ROWS),
    "huber_loss": function(F.huber_loss, "delta", input=ROWS, target=ROWS),
    "nll_loss": function(F.nll_loss, "ignore_index", "reduction", input=ROWS, target=LABELS),
    "hinge_embedding_loss": function(F.hinge_embedding_loss, "margin", input=ROWS, target=ROWS),
    "multi_margin_loss": function(F.multi_margin_loss, "p", "margin", input=ROWS, target=LABELS),
    "kl_div": function(F.kl_div, "reduction", "log_target", input=ROWS, target=ROWS),
    "poisson_nll_loss": function(F.poisson_nll_loss, "log_input", "full", "eps", input=ROWS, target=ROWS),
    "gaussian_nll_loss": function(F.gaussian_nll_loss, "full", "eps", input=ROWS, target=ROWS, var=ROWS),
    "margin_ranking_loss": function(F.margin_ranking_loss, "margin", input1=ROWS, input2=ROWS, target=ROWS),
    "triplet_margin_loss": function(
        F.triplet_margin_loss, "margin", "p", "eps", "swap", anchor=ROWS, positive=ROWS, negative=ROWS
    ),
    "sigmoid_focal_loss": function(F.sigmoid_focal_loss, "alpha", "gamma", "reduction", inputs=ROWS, targets=ROWS),
    "Linear": layer(nn.Linear, ROWS, in_features=4, out_features=3),
    "Conv2d": layer(nn.Conv2d, IMAGES, in_channels=4, out_channels=4, kernel_size=3),
    "Conv1d": layer(nn.Conv1d, SEQUENCES, in_channels=4, out_channels=4, kernel_size=3),
    "ConvTranspose2d": layer(nn.ConvTranspose2d, IMAGES, in_channels=4, out_channels=4, kernel_size=3),
    "MaxPool2d": layer(nn.MaxPool2d, IMAGES, kernel_size=2),
    "AvgPool2d": layer(nn.AvgPool2d, IMAGES, kernel_size=2),
    "BatchNorm2d": layer(nn.BatchNorm2d, IMAGES, num_features=4),
    "LayerNorm": layer(nn.LayerNorm, ROWS, normalized_shape=4),
    "RMSNorm": layer(nn.RMSNorm, ROWS, normalized_shape=4),
    "Normalization": layer(nn.Normalization, ROWS, num_features=4, mean=[0.5, 1, 2, 3], variance=[1, 4, 9, 0]),
    "GroupNorm": layer(nn.GroupNorm, IMAGES, num_groups=2, num_channels=4),
    "LocalResponseNorm": layer(nn.LocalResponseNorm, IMAGES, size=3),
    "ZeroPad2d": layer(nn.ZeroPad2d, IMAGES, padding=1),
    "ReflectionPad2d": layer(nn.ReflectionPad2d, IMAGES, padding=1),
    "InstanceNorm2d": layer(nn.InstanceNorm2d, IMAGES, num_features=4),
    "Embedding": layer(nn.Embedding, LABELS, num_embeddings=6, embedding_dim=3),
    "AlphaDropout": layer(nn.AlphaDropout, ROWS),
    "GaussianNoise": layer(nn.GaussianNoise, ROWS, std=0.1),
    "Upsample": function(lambda **given: nn.Upsample(**given)(IMAGES), "scale_factor"),
    "AdaptiveAvgPool2d": layer(nn.AdaptiveAvgPool2d, IMAGES, output_size=2),
    "PReLU": layer(nn.PReLU, ROWS),
    "RReLU": layer(nn.RReLU, ROWS),
    "Swish": layer(nn.Swish, ROWS),
    "Softplus": layer(nn.Softplus, ROWS),
    "Hardtanh": layer(nn.Hardtanh, ROWS),
    "Maxout": layer(nn.Maxout, ROWS, pieces=2),
    "Flatten": layer(nn.Flatten, IMAGES),
    "Dropout": layer(nn.Dropout, ROWS),
    "fit": (fit, ["batch_size", "initial_epoch", "seed", "shuffle"]),
    "DataLoader": function(
        lambda **given: list(fn.data.DataLoader((ROWS, LABELS), **given)), "batch_size", "seed", "shuffle", "drop_last",
        batch_size=2,
    ),
    **{name: optimizer(name) for name in CLASSES},
    "RandomCrop": function(fn.data.RandomCrop, "size", "padding", "fill", size=4),
    "moons": function(fn.data.moons, "n", "noise", "seed", n=5),
    "normal_": function(nn.init.normal_, "mean", "std", "seed", tensor=np.zeros((3, 4))),
    "uniform_": function(nn.init.uniform_, "a", "b", "seed", tensor=np.zeros((3, 4))),
    "trunc_normal_": function(nn.init.trunc_normal_, "mean", "std", "a", "b", "seed", tensor=np.zeros((3, 4))),
    "xavier_uniform_": function(nn.init.xavier_uniform_, "gain", "seed", tensor=np.zeros((3, 4))),
    "kaiming_normal_": function(nn.init.kaiming_normal_, "a", "mode", "nonlinearity", tensor=np.zeros((3, 4))),
}  # fmt: skip
#: What errors call an argument where the caller's name for it says less, or two together are wrong.
OTHER_NAMES = {
    "padding": ("pad", "output", "same"), "kernel_size": ("kernel", "window"), "normalized_shape": ("expected (..",),
    "num_groups": ("groups",), "num_features": ("channels", "shape"), "num_channels": ("channels", "shape"),
    "in_features": ("shape",), "in_channels": ("channels",), "groups": ("multiples",),
    "scale_factor": ("would become",), "size": ("would become", "scale_factor"),
    "output_size": ("larger than any memory",), "n": ("Unable to allocate",),
    "num_parameters": ("prelu: weight",),
    "mean": ("a ... b",), "std": ("a ... b",), "eps": ("at least",), "start_dim": ("dim",), "end_dim": ("dim",),
}  # fmt: skip


def check(name, argument, value):
    call, _ = CALLS[name]
    begun = time.perf_counter()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            call(**{argument: value})
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            names = (argument, *OTHER_NAMES.get(argument, ()))
            assert any(n in str(error) for n in names), f"{name}({argument}={value!r}): {error}"
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("name", CALLS)
def test_huge_numbers_give_a_result_or_an_error_that_names_the_argument(name):
    for argument in CALLS[name][1]:
        for value in HUGE:
            check(name, argument, value)
            check(name, argument, (value, 1))


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_odd_values_give_a_result_or_an_error_that_names_the_argument(name, data):
    argument = data.draw(st.sampled_from(CALLS[name][1]))
    check(name, argument, data.draw(VALUES))


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
@seed(SEED)
@settings(max_examples=1 + COUNT // len(CALLS), deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_odd_values_give_a_result_or_an_error_that_names_the_argument(name, data):
    """FASTNN_FUZZ_SEED and FASTNN_FUZZ_COUNT, over all calls, name other values, or more."""
    argument = data.draw(st.sampled_from(CALLS[name][1]))
    check(name, argument, data.draw(VALUES))


def test_a_window_beyond_all_channels_sees_all_of_them():
    """Its size was added to pointers: SIGSEGV."""
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 3)).astype(np.float32)
    for size in (10, 11, 2**26, 2**61, 2**63 - 1):
        begun = time.perf_counter()
        y = F.local_response_norm(x, size, alpha=size / 4)
        dx = fn.grad(lambda t, size=size: F.local_response_norm(t, size, alpha=size / 4).sum())(x)
        assert time.perf_counter() - begun < 1
        s = 1 + (x.astype(np.float64) ** 2).sum(1, keepdims=True) / 4
        np.testing.assert_allclose(y, x / s**0.75, rtol=1e-5)
        expected = s**-0.75 - 0.75 / 2 * x * s**-1.75 * x.sum(1, keepdims=True)
        np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-5)
