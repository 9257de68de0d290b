"""Functions of tensors without state, under PyTorch's names.

Inside a trace they take and return tensors; called with arrays they run as programs of their own
and return new arrays. The arguments' names, order and defaults are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import is_tracing
from fastnn.nn._eager import eager, run_function
from fastnn.nn.parameter import Parameter
from fastnn.ops import conv2d as convolution
from fastnn.ops import gemm, layout, loss, norm, pool2d, random, shape
from fastnn.ops.activation import activation

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cat",
    "concat",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "flatten",
    "gelu",
    "group_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "pad",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]

# ---- layers -------------------------------------------------------------------------------------


@eager("input", "weight", "bias")
def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """input @ weight.T + bias over the last dimension.

    Parameters
    ----------
    input : (..., in)
    weight : (out, in)
    bias : (out,), optional

    Returns
    -------
    (..., out)
    """
    return gemm.linear_map(input, weight, bias)


@eager("input")
def dropout(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """Zero each element with probability p and scale the rest by 1 / (1 - p), if training.

    The mask is drawn anew at each run, from the seed that `fn.manual_seed` sets.
    """
    p = _check.real("p", p, 0, 1)
    return random.dropout(input, p if _check.flag("training", training) else 0.0)


@eager("input")
def dropout2d(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """dropout of whole channels of images (N, C, H, W) (Tompson et al., 2015)."""
    p = _check.real("p", p, 0, 1)
    return random.dropout2d(input, p if _check.flag("training", training) else 0.0)


@eager("input")
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Merge the dimensions start_dim ... end_dim into one."""
    return layout.flatten(input, start_dim, end_dim)


def concat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join tensors along a dimension; all other sizes must agree."""
    if is_tracing() or not isinstance(tensors, (list, tuple)) or not tensors:
        return shape.concat(tensors, dim)
    return run_function(_concat, {f"tensors[{i}]": t for i, t in enumerate(tensors)}, dim=dim)


def _concat(dim: int, **tensors: Any) -> Any:
    return shape.concat(list(tensors.values()), dim)


cat = concat

# ---- convolution --------------------------------------------------------------------------------


@eager("input", "weight", "bias")
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of images with kernels.

    Parameters
    ----------
    input : (N, C, H, W)
    weight : (out, C / groups, KH, KW)
    bias : (out,), optional
    stride, dilation : int or (height, width)
    padding : int, (height, width), (top, bottom, left, right), "same" or "valid"
        Zeros around the input, in pixels. "same" keeps the size, for a stride of 1.
    groups : int
        Parts into which the channels are cut; each part of the output sees its part of the input.

    Returns
    -------
    (N, out, OH, OW)
        OH = (H + padding - dilation * (KH - 1) - 1) // stride + 1, and so for OW.

    Raises
    ------
    ValueError
        If the sizes do not fit, the kernel is larger than the padded input among them.
    """
    return convolution.conv2d(input, weight, bias, stride, padding, dilation, groups)


@eager("input", "weight", "bias")
def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of sequences with kernels; see conv2d.

    Parameters
    ----------
    input : (N, C, L)
    weight : (out, C / groups, K)
    bias : (out,), optional
    stride, dilation : int
    padding : int, (left, right), "same" or "valid"
    groups : int

    Returns
    -------
    (N, out, OL)
    """
    return convolution.conv1d(input, weight, bias, stride, padding, dilation, groups)


@eager("input", "weight", "bias")
def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> Any:
    """The gradient of conv2d for its input, as a layer (Zeiler et al., 2010).

    Parameters
    ----------
    input : (N, C, H, W)
    weight : (C, out / groups, KH, KW)
    bias : (out,), optional
    stride, padding, dilation : int or (height, width)
        Those of the convolution that this one is the transpose of.
    output_padding : int or (height, width)
        Rows and columns added at the bottom and right of the output; less than stride or dilation.
    groups : int

    Returns
    -------
    (N, out, OH, OW)
        OH = (H - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1, and so OW.
    """
    return convolution.conv_transpose2d(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@eager("input", "weight", "bias")
def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
) -> Any:
    """The gradient of conv1d for its input, as a layer; see conv_transpose2d.

    Parameters
    ----------
    input : (N, C, L)
    weight : (C, out / groups, K)
    bias : (out,), optional
    stride, padding, dilation, output_padding, groups : int

    Returns
    -------
    (N, out, OL)
    """
    return convolution.conv_transpose1d(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )


# ---- pooling ------------------------------------------------------------------------------------


@eager("input")
def max_pool2d(
    input: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Any:
    """The largest value of each window of each channel; NaN if one is.

    Of equal values the first, row by row, gets the gradient.

    Parameters
    ----------
    input : (N, C, H, W)
    kernel_size : int or (height, width)
        Of at most 255 pixels.
    stride : int or (height, width), optional
        kernel_size by default.
    padding : int or (height, width)
        At most half of the kernel; never the largest.
    dilation : int or (height, width)
    ceil_mode : bool
        Whether a last window may reach beyond the padded input, if it begins inside of it.

    Returns
    -------
    (N, C, OH, OW)
        OH = (H + 2 * padding - dilation * (KH - 1) - 1) / stride + 1, rounded down (in ceil mode
        up), and so for OW.
    """
    return pool2d.max_pool2d(
        input, kernel_size, stride, padding, dilation, _check.flag("ceil_mode", ceil_mode)
    )


@eager("input")
def max_pool1d(
    input: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
) -> Any:
    """max_pool2d over sequences (N, C, L)."""
    return pool2d.max_pool1d(
        input, kernel_size, stride, padding, dilation, _check.flag("ceil_mode", ceil_mode)
    )


@eager("input")
def avg_pool2d(
    input: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window of each channel.

    Parameters
    ----------
    input, kernel_size, stride, padding, ceil_mode
        As for max_pool2d; padding is of zeros.
    count_include_pad : bool
        Whether pixels of the padding count in the mean.
    divisor_override : int, optional
        What sums are divided by instead of the number of pixels.

    Returns
    -------
    (N, C, OH, OW)
    """
    if divisor_override is not None:
        divisor_override = _check.integer("divisor_override", divisor_override, 1)
    return pool2d.avg_pool2d(
        input,
        kernel_size,
        stride,
        padding,
        _check.flag("ceil_mode", ceil_mode),
        _check.flag("count_include_pad", count_include_pad),
        divisor_override,
    )


@eager("input")
def avg_pool1d(
    input: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """avg_pool2d over sequences (N, C, L)."""
    return pool2d.avg_pool1d(
        input,
        kernel_size,
        stride,
        padding,
        _check.flag("ceil_mode", ceil_mode),
        _check.flag("count_include_pad", count_include_pad),
    )


@eager("input")
def adaptive_avg_pool2d(input: Any, output_size: int | tuple[int | None, int | None]) -> Any:
    """The means of windows that cut the image into output_size parts, as even as they can be.

    Window i of OH covers the rows floor(i * H / OH) ... ceil((i + 1) * H / OH) - 1.

    Parameters
    ----------
    input : (N, C, H, W)
    output_size : int or (height, width)
        None for a side keeps it. 1 gives the mean of a channel.

    Returns
    -------
    (N, C, *output_size)
    """
    return pool2d.adaptive_pool2d(input, output_size, "avg")


@eager("input")
def adaptive_max_pool2d(input: Any, output_size: int | tuple[int | None, int | None]) -> Any:
    """The largest values of the windows of adaptive_avg_pool2d."""
    return pool2d.adaptive_pool2d(input, output_size, "max")


@eager("input")
def adaptive_avg_pool1d(input: Any, output_size: int | tuple[int]) -> Any:
    """adaptive_avg_pool2d over sequences (N, C, L)."""
    return pool2d.adaptive_pool1d(input, output_size, "avg")


@eager("input")
def adaptive_max_pool1d(input: Any, output_size: int | tuple[int]) -> Any:
    """adaptive_max_pool2d over sequences (N, C, L)."""
    return pool2d.adaptive_pool1d(input, output_size, "max")


# ---- normalisation ------------------------------------------------------------------------------


@eager("input", "weight", "bias")
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel (Ioffe and Szegedy, 2015).

    Parameters
    ----------
    input : (N, C, ...)
    running_mean, running_var : (C,), or None
        Parameters or arrays of the input's dtype. In training they are written to: they move by
        `momentum` towards the batch's mean and unbiased variance.
    weight, bias : (C,), optional
    training : bool
        Whether mean and (biased) variance are the batch's, as they are without running ones.
    momentum : float
    eps : float
        Added to the variance.

    Returns
    -------
    (N, C, ...)
    """
    mean, var = _memory("running_mean", running_mean), _memory("running_var", running_var)
    if (mean is None) != (var is None):
        raise ValueError("give both running_mean and running_var, or neither")
    return norm.batch_norm(
        input,
        None if mean is None or var is None else (mean, var, None),
        weight,
        bias,
        _check.flag("training", training),
        _check.real("momentum", momentum, 0, 1),
        _check.real("eps", eps, 0),
    )


def _memory(name: str, value: Any) -> np.ndarray[Any, Any] | None:
    """The array of a parameter, or one that a program can write to."""
    if isinstance(value, Parameter):
        value = value._storage
    if value is None or (isinstance(value, np.ndarray) and value.flags.carray):
        return value
    raise TypeError(f"{name} must be a Parameter or a contiguous array, got {value!r}")


@eager("input", "weight", "bias")
def layer_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions (Ba et al., 2016).

    Parameters
    ----------
    input : (..., *normalized_shape)
    normalized_shape : int or sequence of int
        Over which dimensions mean and (biased) variance are taken.
    weight, bias : normalized_shape, optional
    eps : float
    """
    sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    shape = tuple(_check.size("normalized_shape", size, 1) for size in sizes)
    return norm.layer_norm(input, shape, weight, bias, _check.real("eps", eps, 0))


@eager("input", "weight", "bias")
def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias for groups of channels (Wu and He, 2018).

    Parameters
    ----------
    input : (N, C, ...)
    num_groups : int
        Parts into which each sample's channels are cut; mean and (biased) variance are a part's.
    weight, bias : (C,), optional
    eps : float
    """
    groups = _check.size("num_groups", num_groups, 1)
    return norm.group_norm(input, groups, weight, bias, _check.real("eps", eps, 0))


@eager("input")
def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    """x / (k + alpha / size * s) ** beta, s the sum of squares of `size` neighbouring channels.

    Krizhevsky et al. (2012), section 3.3; in PyTorch's form, where alpha is divided by size.

    Parameters
    ----------
    input : (N, C, L, ...)
    size : int
        Channel c sees the channels c - size // 2 ... c + (size - 1) // 2.
    alpha, beta, k : float
    """
    return norm.local_response_norm(
        input,
        _check.integer("size", size, 1),
        _check.real("alpha", alpha),
        _check.real("beta", beta),
        _check.real("k", k),
    )


# ---- sizes of images ----------------------------------------------------------------------------


@eager("input")
def pad(
    input: Any, pad: tuple[int, ...], mode: str = "constant", value: float | None = None
) -> Any:
    """Zeros around the last dimensions.

    Parameters
    ----------
    input : (...)
    pad : tuple of int
        Before and after the last dimension, then the last but one, ...: (left, right, top, bottom)
        for images.
    mode : "constant"
    value : 0
    """
    if mode != "constant" or value not in (None, 0):
        raise ValueError(f"pad: only zeros are supported, got mode={mode!r}, value={value!r}")
    return shape.zero_pad(input, pad)


@eager("input")
def interpolate(
    input: Any,
    size: int | tuple[int, int] | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
) -> Any:
    """Larger images (N, C, H, W), each pixel repeated.

    Parameters
    ----------
    input : (N, C, H, W)
    size : int or (height, width), optional
        The new size, a multiple of the old one.
    scale_factor : number or (height, width), optional
        How often each pixel is repeated along a side; give this or size.
    mode : "nearest"

    Returns
    -------
    (N, C, H * scale_factor, W * scale_factor)
    """
    if mode != "nearest":
        raise ValueError(f"interpolate: mode must be 'nearest', got {mode!r}")
    return shape.upsample(input, size, scale_factor)


# ---- activations --------------------------------------------------------------------------------


@eager("input")
def relu(input: Any) -> Any:
    """max(x, 0); NaN stays NaN."""
    return activation(input, "relu")


@eager("input")
def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope * x."""
    return activation(input, "leaky_relu", _check.real("negative_slope", negative_slope))


@eager("input")
def elu(input: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2016)."""
    return activation(input, "elu", _check.real("alpha", alpha))


@eager("input")
def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return activation(input, "sigmoid")


@eager("input")
def tanh(input: Any) -> Any:
    """Hyperbolic tangent."""
    return activation(input, "tanh")


@eager("input")
def gelu(input: Any) -> Any:
    """x * Phi(x), with the exact normal distribution function (Hendrycks and Gimpel, 2016)."""
    return activation(input, "gelu")


@eager("input")
def silu(input: Any) -> Any:
    """x * sigmoid(x)."""
    return activation(input, "silu")


@eager("input")
def softmax(input: Any, dim: int) -> Any:
    """exp(x) / sum(exp(x)) along a dimension."""
    return loss.softmax(input, dim)


@eager("input")
def log_softmax(input: Any, dim: int) -> Any:
    """x - log(sum(exp(x))) along a dimension."""
    return loss.softmax(input, dim, log=True)


# ---- losses -------------------------------------------------------------------------------------


@eager("input", "target", "weight")
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Negative log-likelihood of classes under the softmax of logits.

    Parameters
    ----------
    input : (N, C), (C,) or (N, C, d1, ...)
        Logits.
    target : (N,), () or (N, d1, ...) of int64
        Classes, 0 ... C - 1.
    weight : (C,), optional
        Weight of each class; a mean is then weighted by it.
    ignore_index : int
        Targets of this value count for nothing.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float
        The part of the target that is spread evenly over all classes, 0 ... 1 (Szegedy et al.,
        2016).
    """
    return loss.cross_entropy(
        input,
        target,
        weight,
        _check.integer("ignore_index", ignore_index),
        reduction,
        _check.real("label_smoothing", label_smoothing, 0, 1),
    )


@eager("input", "target")
def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """(input - target) ** 2, reduced by "mean", "sum" or "none"; both have one shape."""
    return loss.elementwise("mse", input, target, reduction)


@eager("input", "target", "weight", "pos_weight")
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Binary cross-entropy of sigmoid(input), computed from the logits without overflow.

    Parameters
    ----------
    input : (...)
        Logits.
    target : (...)
        Probabilities of the positive class, of the input's shape.
    weight : array, optional
        Factor of each element; broadcast to the input's shape.
    reduction : {"mean", "sum", "none"}
    pos_weight : array, optional
        Weight of positive targets; its sizes are the last ones of the input's shape.
    """
    return loss.bce_with_logits(input, target, weight, pos_weight, reduction)
