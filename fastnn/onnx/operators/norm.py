"""Normalisations."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.nn.functional import rms_norm
from fastnn.nn.parameter import Parameter
from fastnn.onnx.operator import Call, Ints, axes_of, axis_of, operator
from fastnn.ops import norm
from fastnn.ops.elementwise import equal, sqrt, where
from fastnn.ops.layout import broadcast_to, reshape
from fastnn.ops.reduce import var as variance_of
from fastnn.sizes import same_shape


@operator("BatchNormalization", 7, state="mean var")
def batch_normalization(
    call: Call,
    X: Tensor,
    scale: Tensor,
    B: Tensor,
    mean: Any,
    var: Any,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Any:
    """(X - mean) / sqrt(var + epsilon) * scale + B for each channel.

    The network's mode decides: in training mean and variance are the batch's, and the running ones move by 1 - momentum
    and with the unbiased variance, as BatchNorm2d's. Where these are not the network's own, the node's mode does.
    """
    if not spatial:
        raise ValueError("its spatial is 0: statistics of each pixel are not read")
    eps, step = _check.real("its epsilon", epsilon, 0), 1 - _check.real("its momentum", momentum, 0, 1)
    own = isinstance(mean, Parameter) and isinstance(var, Parameter)
    # Up to version 13 a node that trains shows it by its outputs.
    trains = bool(training_mode) or (call.version < 14 and call.wants(1))
    batch = call.training or (trains and not own)
    running = (mean, var, None) if own or not batch else None
    y = norm.batch_norm(X, running, scale, B, batch, step, eps)
    if not any(call.wants(i) for i in range(1, 5)):
        return y
    axes = (0, *range(2, X.ndim))
    now = X.mean(axes), variance_of(X, axes, correction=0)
    if not batch:
        now = mean * 1.0, var * 1.0
    moved = [old * (1 - step) + new * step for old, new in zip((mean, var), now, strict=True)]
    return y, *moved, *now


@operator("InstanceNormalization", 6)
def instance_normalization(call: Call, input: Tensor, scale: Tensor, B: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Each channel of each sample by its own mean and variance."""
    if input.ndim < 3:
        raise ValueError(f"its input has {input.ndim} dimensions; expected (N, C, L, ...)")
    return norm.group_norm(input, input.shape[1], scale, B, _check.real("its epsilon", epsilon, 0))


@operator("GroupNormalization", 18)
def group_normalization_18(
    call: Call, X: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5
) -> Tensor:
    """Groups of channels by their own mean and variance; scale and bias are of groups."""
    groups, channels = _check.size("its num_groups", num_groups, 1), X.shape[1]
    if channels % groups or scale.shape != (groups,) or bias.shape != (groups,):
        raise ValueError(
            f"its {groups} groups, scale {scale.shape} and bias {bias.shape} do not fit {channels} channels"
        )
    each = (groups, channels // groups)
    scale, bias = (reshape(broadcast_to(reshape(t, (groups, 1)), each), (channels,)) for t in (scale, bias))
    return norm.group_norm(X, groups, scale, bias, _check.real("its epsilon", epsilon, 0))


@operator("GroupNormalization", 21)
def group_normalization_21(
    call: Call, X: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Groups of channels by their own mean and variance; scale and bias are of channels."""
    groups = _check.size("its num_groups", num_groups, 1)
    return norm.group_norm(X, groups, scale, bias, _check.real("its epsilon", epsilon, 0))


@operator("LayerNormalization", 1)
def layer_normalization(
    call: Call,
    X: Tensor,
    Scale: Tensor,
    B: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Any:
    """The dimensions from `axis` on by their mean and variance."""
    d, eps = axis_of(axis, X.ndim), _check.real("its epsilon", epsilon, 0)
    shape = X.shape[d:]
    if same_shape(Scale.shape, shape) and (B is None or same_shape(B.shape, shape)):
        y = norm.layer_norm(X, shape, Scale, B, eps)
    else:
        y = norm.layer_norm(X, shape, None, None, eps) * Scale
        y = y if B is None else y + B
        _check_unchanged(X, y)
    if not (call.wants(1) or call.wants(2)):
        return y
    axes = tuple(range(d, X.ndim))
    return y, X.mean(axes, keepdim=True), 1.0 / sqrt(variance_of(X, axes, 0, keepdim=True) + eps)


@operator("RMSNormalization", 23)
def rms_normalization(
    call: Call, X: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """The dimensions from `axis` on by the root of their mean square."""
    shape = X.shape[axis_of(axis, X.ndim) :]
    y: Tensor = rms_norm(X, shape, eps=_check.real("its epsilon", epsilon, 0)) * scale
    _check_unchanged(X, y)
    return y


def _check_unchanged(x: Tensor, y: Tensor) -> None:
    if not same_shape(x.shape, y.shape):
        raise ValueError(f"its scale and bias would stretch its input of shape {tuple(x.shape)} to {tuple(y.shape)}")


@operator("LpNormalization", 1)
def lp_normalization(call: Call, input: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """input over its p-norm along a dimension; 0 where that is 0."""
    d = axis_of(axis, input.ndim)
    if p not in (1, 2):
        raise ValueError(f"its p is {_check.brief(p)}; expected 1 or 2")
    size = (input.abs() if p == 1 else input.square()).sum(d, keepdim=True)
    none = equal(size, 0.0)
    size = where(none, 1.0, size)
    return where(none, 0.0, input / (size if p == 1 else sqrt(size)))


@operator("MeanVarianceNormalization", 1)
def mean_variance_normalization(call: Call, X: Tensor, *, axes: Ints = (0, 2, 3)) -> Tensor:
    """(X - mean) / deviation over some dimensions."""
    dims = tuple(axes_of(axes, X.ndim))
    deviation = sqrt(variance_of(X, dims, correction=0, keepdim=True))
    return (X - X.mean(dims, keepdim=True)) / (deviation + 1e-9)


@operator("LRN", 1)
def lrn(call: Call, X: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """X / (bias + alpha / size * s) ** beta, s the sum of squares of `size` neighbouring channels."""
    window = _check.size("its size", size, 1)
    if window % 2:
        return norm.local_response_norm(X, window, alpha, beta, bias)
    # Of an even number ONNX has one more above the channel, fastnn below it.
    mirrored = norm.local_response_norm(X[:, ::-1], window, alpha, beta, bias)
    return mirrored[:, ::-1]
