"""Batch, layer, root mean square, group, instance and local response norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.nn.parameter import Parameter
from fastnn.ops import norm
from fastnn.ops.arguments import check_float
from fastnn.ops.elementwise import abs, sqrt, where


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


@eager("input", "weight")
def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """x / sqrt(mean(x ** 2) + eps) * weight over the last dimensions (Zhang and Sennrich, 2019).

    Parameters
    ----------
    input : (..., *normalized_shape)
    normalized_shape : int or sequence of int
        Over which dimensions the mean is taken.
    weight : normalized_shape, optional
    eps : float, optional
        By default the distance from 1 to the next number of the input's dtype.

    Examples
    --------
    >>> F.rms_norm(np.array([[3.0, -4.0, 0.0, 0.0]]), 4, eps=0.0)
    array([[ 1.2, -1.6,  0. ,  0. ]])
    """
    sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    shape = tuple(_check.size("normalized_shape", size, 1) for size in sizes)
    check_float("rms_norm", input)
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        wanted = ", ".join(map(str, ("...", *shape)))
        raise ValueError(f"rms_norm: input has shape {tuple(input.shape)}; expected ({wanted}), by normalized_shape")
    if weight is not None and tuple(weight.shape) != shape:
        raise ValueError(f"rms_norm: weight has shape {tuple(weight.shape)}; expected {shape}")
    eps = float(np.finfo(input.dtype).eps) if eps is None else _check.real("eps", eps, 0)
    dims = tuple(range(-len(shape), 0))
    # Squares of what is very large, or without eps very small, leave the range of the type: in units of the largest.
    most = 2.0 ** (np.finfo(input.dtype).maxexp // 3)
    largest = abs(input).amax(dims, keepdim=True).detach()
    far = (largest > most) & (largest < np.inf)
    if eps == 0:
        far = far | ((largest < 1 / most) & (largest > 0))
    unit = where(far, largest, 1.0)
    x = input / unit
    y = x / sqrt((x * x).mean(dims, keepdim=True) + eps / unit / unit)
    return y if weight is None else y * weight


@eager("input", "weight", "bias")
def instance_norm(input: Any, *, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of each sample (Ulyanov et al., 2016).

    Parameters
    ----------
    input : (N, C, L, ...)
    weight, bias : (C,), optional
    eps : float

    Examples
    --------
    >>> F.instance_norm(np.array([[[1.0, 3.0], [0.0, 40.0]]]), eps=0.0)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    if input.ndim < 3:
        raise ValueError(f"instance_norm: input has shape {tuple(input.shape)}; expected (N, C, L, ...)")
    return norm.group_norm(input, int(input.shape[1]), weight, bias, _check.real("eps", eps, 0))


@eager("input", "weight", "bias")
def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
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
def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
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
