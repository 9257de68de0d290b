"""Normalisation layers: batch, layer, root mean square, group, instance and local response norm; standardisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn import init
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.ops import norm


class _Norm(Module):
    """What norms share: eps, and weight and bias that start as 1 and 0."""

    def __init__(self, eps: Any, shape: tuple[int, ...], affine: bool, bias: bool, dtype: Any) -> None:
        super().__init__()
        self.eps = _check.real("eps", eps, 0)
        dtype = _check.floating("dtype", dtype)
        self.register_parameter("weight", Parameter(np.ones(shape, dtype)) if affine else None)
        has_bias = affine and bias
        self.register_parameter("bias", Parameter(np.zeros(shape, dtype)) if has_bias else None)

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _BatchNorm(_Norm):
    dimensions: ClassVar[tuple[int, ...]]
    shapes: ClassVar[str]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
    ) -> None:
        size = _check.size("num_features", num_features, 1)
        super().__init__(eps, (size,), _check.flag("affine", affine), True, dtype)
        self.num_features = size
        self.affine = bool(affine)
        self.momentum = None if momentum is None else _check.real("momentum", momentum, 0, 1)
        self.track_running_stats = _check.flag("track_running_stats", track_running_stats)
        if self.track_running_stats:
            dtype = _check.floating("dtype", dtype)
            self.register_buffer("running_mean", np.zeros(size, dtype))
            self.register_buffer("running_var", np.ones(size, dtype))
            self.register_buffer("num_batches_tracked", np.zeros((), np.int64))

    def reset_running_stats(self) -> None:
        """Forget what batches had: mean 0, variance 1."""
        for name, value in self._buffers.items():
            value.data = np.full(value.shape, float(name == "running_var"))

    def forward(self, input: Any) -> Any:
        if input.ndim not in self.dimensions:
            raise ValueError(f"{type(self).__name__}: input has shape {tuple(input.shape)}; expected {self.shapes}")
        running = None
        if self.track_running_stats:
            running = (self.running_mean, self.running_var, self.num_batches_tracked)
        momentum = -1.0 if self.momentum is None else self.momentum
        return norm.batch_norm(input, running, self.weight, self.bias, self.training, momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm2d(_BatchNorm):
    """Batch norm over images (N, C, H, W) (Ioffe and Szegedy, 2015).

    In training mode each channel is normalised by its mean and (biased) variance in the batch, and
    running statistics move towards the batch's mean and unbiased variance; in evaluation mode it is
    normalised by the running statistics. A ReLU and an addition that follow join the same pass.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        How far running statistics move; None makes them the average over all batches.
    affine : bool, default True
        Whether there are weight and bias.
    track_running_stats : bool, default True
        False: the batch's statistics in evaluation mode, too.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter (num_features,), or None
        Start as 1 and 0.
    running_mean, running_var, num_batches_tracked
        Buffers of shapes (num_features,), (num_features,) and (); the last is an int64.
    """

    dimensions = (4,)
    shapes = "(N, C, H, W)"


class BatchNorm1d(_BatchNorm):
    """Batch norm over (N, C), or over sequences (N, C, L); see BatchNorm2d."""

    dimensions = (2, 3)
    shapes = "(N, C) or (N, C, L)"


class LayerNorm(_Norm):
    """Normalises each sample over its last dimensions (Ba et al., 2016).

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Sizes of the last dimensions, over which mean and (biased) variance are taken.
    eps : float, default 1e-5
        Added to the variance.
    elementwise_affine : bool, default True
        Whether there is a weight.
    bias : bool, default True
        Whether there is a bias beside the weight.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter of shape normalized_shape, or None
        Start as 1 and 0.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        shape = tuple(_check.size("normalized_shape", size, 1) for size in sizes)
        if not shape:
            raise ValueError(f"normalized_shape must name at least one dimension, got {normalized_shape!r}")
        affine = _check.flag("elementwise_affine", elementwise_affine)
        super().__init__(eps, shape, affine, _check.flag("bias", bias), dtype)
        self.normalized_shape = shape
        self.elementwise_affine = affine

    def forward(self, input: Any) -> Any:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divides each sample by its root mean square over its last dimensions (Zhang and Sennrich, 2019).

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Sizes of the last dimensions, over which the mean is taken.
    eps : float, optional
        Added to the mean of the squares; by default the distance from 1 to the next number of the input's dtype.
    elementwise_affine : bool, default True
        Whether there is a weight.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter of shape normalized_shape, or None
        Starts as 1.

    Examples
    --------
    >>> nn.RMSNorm(4, eps=0.0)(np.array([[3.0, -4.0, 0.0, 0.0]], np.float32))
    array([[ 1.2, -1.6,  0. ,  0. ]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        self.normalized_shape = tuple(_check.size("normalized_shape", size, 1) for size in sizes)
        if not self.normalized_shape:
            raise ValueError(f"normalized_shape must name at least one dimension, got {normalized_shape!r}")
        self.eps = None if eps is None else _check.real("eps", eps, 0)
        self.elementwise_affine = _check.flag("elementwise_affine", elementwise_affine)
        ones = np.ones(self.normalized_shape, _check.floating("dtype", dtype))
        self.register_parameter("weight", Parameter(ones) if self.elementwise_affine else None)

    def reset_parameters(self) -> None:
        """Set the weight to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Any) -> Any:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Norm):
    """Normalises groups of channels of each sample (Wu and He, 2018).

    Parameters
    ----------
    num_groups : int
        As many as channels make it instance norm, 1 layer norm over the whole sample.
    num_channels : int
        A multiple of num_groups.
    eps : float, default 1e-5
        Added to the variance.
    affine : bool, default True
        Whether there are weight and bias.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter (num_channels,), or None
        Start as 1 and 0.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
    ) -> None:
        groups = _check.size("num_groups", num_groups, 1)
        channels = _check.size("num_channels", num_channels, 1)
        if channels % groups:
            raise ValueError(f"num_channels {channels} must be a multiple of num_groups {groups}")
        super().__init__(eps, (channels,), _check.flag("affine", affine), True, dtype)
        self.num_groups = groups
        self.num_channels = channels
        self.affine = bool(affine)

    def forward(self, input: Any) -> Any:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class _InstanceNorm(_Norm):
    dimensions: ClassVar[int]
    shapes: ClassVar[str]

    def __init__(self, num_features: int, eps: float = 1e-5, *, affine: bool = False, dtype: Any = None) -> None:
        size = _check.size("num_features", num_features, 1)
        super().__init__(eps, (size,), _check.flag("affine", affine), True, dtype)
        self.num_features = size
        self.affine = bool(affine)

    def forward(self, input: Any) -> Any:
        if input.ndim != self.dimensions or input.shape[1] != self.num_features:
            wanted = self.shapes.replace("C", str(self.num_features))
            raise ValueError(f"{type(self).__name__}: input has shape {tuple(input.shape)}; expected {wanted}")
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}"


class InstanceNorm2d(_InstanceNorm):
    """Normalises each channel of each image (N, C, H, W) by itself (Ulyanov et al., 2016), in training and afterwards.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
        Added to the variance.
    affine : bool, default False
        Whether there are weight and bias.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter (num_features,), or None
        Start as 1 and 0.

    Examples
    --------
    >>> nn.InstanceNorm2d(1, eps=0.0)(np.array([[[[1.0, 3.0]]]], np.float32))
    array([[[[-1.,  1.]]]], dtype=float32)
    """

    dimensions = 4
    shapes = "(N, C, H, W)"


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each sequence (N, C, L) by itself; see InstanceNorm2d."""

    dimensions = 3
    shapes = "(N, C, L)"


class LocalResponseNorm(Module):
    """AlexNet's norm over neighbouring channels; see fastnn.nn.functional.local_response_norm.

    Parameters
    ----------
    size : int
        How many channels count.
    alpha, beta, k : float, default 1e-4, 0.75, 1
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = _check.integer("size", size, 1)
        self.alpha = _check.real("alpha", alpha)
        self.beta = _check.real("beta", beta)
        self.k = _check.real("k", k)

    def forward(self, input: Any) -> Any:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class Normalization(Module):
    """Standardise features by the mean and variance of the data: (x - mean) / sqrt(variance), as Keras' layer.

    The first layer of a network that is given data in their own units; with `invert` the last one of a regression.
    Mean and variance are buffers: they are saved with the model, and training does not change them.

    Parameters
    ----------
    num_features : int
        Size of axis 1: of features (N, F), or channels (N, C, ...).
    mean, variance : array of shape (num_features,), optional
        Default: 0 and 1, until `adapt` measures them.
    invert : bool, default False
        Turn standardised values back: x * sqrt(variance) + mean.
    dtype : dtype, default float32

    Attributes
    ----------
    mean, variance : Buffer, shape (num_features,)

    Notes
    -----
    The deviation is taken as 1e-7 at least, as in Keras, so that a constant feature does not divide by 0.

    Examples
    --------
    >>> data = np.array([[1.0, 200.0], [2.0, 300.0], [3.0, 400.0]], np.float32)
    >>> model = nn.Sequential(nn.Normalization(2).adapt(data), nn.Linear(2, 1))
    >>> model[0](data).astype(float).round(3).tolist()
    [[-1.225, -1.225], [0.0, 0.0], [1.225, 1.225]]
    """

    def __init__(
        self,
        num_features: int,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_features = _check.size("num_features", num_features, 1)
        self.invert = _check.flag("invert", invert)
        dtype = _check.floating("dtype", dtype)
        for name, value, default in (("mean", mean, 0.0), ("variance", variance, 1.0)):
            values = np.full(self.num_features, default) if value is None else value
            self.register_buffer(name, self._checked(name, values, dtype))

    def _checked(self, name: str, value: Any, dtype: Any) -> np.ndarray[Any, Any]:
        try:
            with np.errstate(over="ignore"):
                values = np.asarray(value, np.float64).astype(dtype)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name} must be numbers, got {_check.brief(value)}") from None
        if values.shape != (self.num_features,) or not np.isfinite(values).all():
            raise ValueError(
                f"{name} must be finite numbers of shape ({self.num_features},), got {_check.brief(values)}"
            )
        if name == "variance" and (values < 0).any():
            raise ValueError(f"variance must be at least 0, got {values.min():g}")
        return values

    def adapt(self, data: Any) -> Normalization:
        """Measure mean and variance of data: those of the training data.

        Parameters
        ----------
        data : array, (N, num_features, ...)

        Returns
        -------
        Normalization
            Itself.

        Raises
        ------
        ValueError
            If the data have another number of features, or are not finite.
        """
        values = np.asarray(_check.readable("data", data), np.float64)
        if values.ndim < 2 or values.shape[1] != self.num_features or not len(values):
            raise ValueError(f"data must have shape (N, {self.num_features}, ...), got {values.shape}")
        axes = (0, *range(2, values.ndim))
        with np.errstate(over="ignore", invalid="ignore"):
            moments = {"mean": values.mean(axes), "variance": values.var(axes)}
        checked = [self._checked(name, moments[name], self.mean.dtype) for name in moments]
        self.mean.data, self.variance.data = checked
        return self

    def forward(self, input: Any) -> Any:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(
                f"Normalization: input has shape {tuple(input.shape)}; expected (N, {self.num_features}, ...)"
            )
        ones = [1] * (input.ndim - 2)
        mean = self.mean.reshape(self.num_features, *ones)
        std = self.variance.sqrt().clamp(min=1e-7).reshape(self.num_features, *ones)
        return input * std + mean if self.invert else (input - mean) / std

    def extra_repr(self) -> str:
        return f"{self.num_features}{', invert=True' if self.invert else ''}"
