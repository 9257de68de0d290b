"""Initial values of parameters: PyTorch's names, arguments and formulas.

Each fills a Parameter or an array of float32 or float64 in place, and returns it. `seed` is an int,
a NumPy generator, or None for the default one, which `fn.manual_seed` sets.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fastnn import _check
from fastnn._check import FLOATS
from fastnn.nn.parameter import Parameter
from fastnn.seed import generator

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Array = TypeVar("Array", Parameter, np.ndarray[Any, Any])
Seed: TypeAlias = "int | np.random.Generator | None"  # a string: numpy.random takes 15 ms to import

LARGEST_SLOPE = 1e150  # of leaky_relu: its square is a number

GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which an activation shrinks standard deviations, to be made up for.

    Parameters
    ----------
    nonlinearity : str
        "linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
    param : float, optional
        The negative slope of leaky_relu, 0.01 by default.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else _check.real("param", param, -LARGEST_SLOPE, LARGEST_SLOPE)
        return math.sqrt(2 / (1 + slope**2))
    if not isinstance(nonlinearity, str) or nonlinearity not in GAINS:
        known = ", ".join([*GAINS, "leaky_relu"])
        raise ValueError(f"nonlinearity must be one of {known}; got {nonlinearity!r}")
    return GAINS[nonlinearity]


def constant_(tensor: Array, val: float) -> Array:
    """Fill with one number."""
    return _fill(tensor, _check.real("val", val))


def zeros_(tensor: Array) -> Array:
    """Fill with 0."""
    return _fill(tensor, 0.0)


def ones_(tensor: Array) -> Array:
    """Fill with 1."""
    return _fill(tensor, 1.0)


def uniform_(tensor: Array, a: float = 0.0, b: float = 1.0, seed: Seed = None) -> Array:
    """Uniform in a ... b."""
    low, high = _range(a, b)
    return _fill(tensor, generator(seed).uniform(low, high, _shape(tensor)))


def normal_(tensor: Array, mean: float = 0.0, std: float = 1.0, seed: Seed = None) -> Array:
    """Normal with this mean and standard deviation."""
    mean, std = _check.real("mean", mean), _check.real("std", std, 0)
    return _fill(tensor, generator(seed).normal(mean, std, _shape(tensor)))


def trunc_normal_(
    tensor: Array,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    seed: Seed = None,
) -> Array:
    """Normal, but drawn from a ... b alone."""
    mean, std = _check.real("mean", mean), _check.real("std", std, 0)
    low, high = _interval(a, b)
    # Beyond 8 deviations lies less than 1e-15 of the distribution.
    low, high = max(low, mean - 8 * std), min(high, mean + 8 * std)
    if low > high or std == 0:
        raise ValueError(f"a ... b must hold a part of the distribution {mean} +- {std}, got {a} ... {b}")
    rng = generator(seed)
    if not math.isfinite(high - low):
        raise ValueError(f"std and a ... b must leave a finite range, got {std} and {a} ... {b}")
    # In deviations, as the square of a small one is 0.
    peak = (min(max(mean, low), high) - mean) / std
    shape = _shape(tensor)
    values = np.empty(math.prod(shape))
    missing = np.arange(values.size)
    while missing.size:  # uniform proposals, accepted by the density relative to its maximum
        x = rng.uniform(low, high, missing.size)
        density = np.exp((peak**2 - ((x - mean) / std) ** 2) / 2)
        accepted = rng.random(missing.size) <= density
        values[missing[accepted]] = x[accepted]
        missing = missing[~accepted]
    return _fill(tensor, values.reshape(shape))


def xavier_uniform_(tensor: Array, gain: float = 1.0, seed: Seed = None) -> Array:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, seed)


def xavier_normal_(tensor: Array, gain: float = 1.0, seed: Seed = None) -> Array:
    """Normal, with the variance of xavier_uniform_: gain**2 * 2 / (fan_in + fan_out)."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), seed)


def kaiming_uniform_(
    tensor: Array,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    seed: Seed = None,
) -> Array:
    """Uniform in +-gain * sqrt(3 / fan) (He et al., 2015).

    Parameters
    ----------
    tensor : Parameter or array (out, in, *kernel)
    a : float
        The negative slope of the leaky_relu that follows.
    mode : {"fan_in", "fan_out"}
        Whether variances are to be kept forward or backward.
    nonlinearity : str
        See calculate_gain.
    seed : int, Generator or None
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, seed)


def kaiming_normal_(
    tensor: Array,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    seed: Seed = None,
) -> Array:
    """Normal with standard deviation gain / sqrt(fan); arguments as in kaiming_uniform_."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), seed)


def orthogonal_(tensor: Array, gain: float = 1.0, seed: Seed = None) -> Array:
    """gain times a matrix (out, in * kernel) of orthonormal rows or columns (Saxe et al., 2014)."""
    gain = _check.real("gain", gain)
    _fans(tensor)
    rows, cols = tensor.shape[0], math.prod(tensor.shape[1:])
    if rows * cols == 0:
        return tensor
    q, r = np.linalg.qr(generator(seed).standard_normal((max(rows, cols), min(rows, cols))))
    q *= np.sign(np.diag(r))  # makes the distribution uniform over orthogonal matrices
    return _fill(tensor, gain * (q if rows >= cols else q.T).reshape(tensor.shape))


def _shape(tensor: Any) -> tuple[int, ...]:
    if not isinstance(tensor, (Parameter, np.ndarray)):
        raise TypeError(f"tensor must be a Parameter or an array, got {type(tensor).__name__}")
    if tensor.dtype not in FLOATS:
        raise TypeError(f"tensor must be float32 or float64, got {tensor.dtype}")
    return tensor.shape


def _fill(tensor: Array, values: Any) -> Array:
    _shape(tensor)
    array = tensor.data if isinstance(tensor, Parameter) else tensor
    array[...] = values
    return tensor


def _interval(a: float, b: float) -> tuple[float, float]:
    low, high = _check.real("a", a), _check.real("b", b)
    if low > high:
        raise ValueError(f"a must be at most b, got {a} and {b}")
    return low, high


def _range(a: float, b: float) -> tuple[float, float]:
    low, high = _interval(a, b)
    if not math.isfinite(high - low):
        raise ValueError(f"b - a must be finite, got {a} and {b}")
    return low, high


def _fans(tensor: Any) -> tuple[int, int]:
    """fan_in and fan_out of a shape (out, in, *kernel)."""
    shape = _shape(tensor)
    if len(shape) < 2:
        raise ValueError(f"tensor must have the shape (out, in, ...) for its fans to be known, got {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _xavier_std(tensor: Any, gain: float) -> float:
    fans = _fans(tensor)
    # Without elements there is nothing to spread.
    return _check.real("gain", gain, 0) * (math.sqrt(2 / sum(fans)) if min(fans) else 0.0)


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fans = _fans(tensor)
    gain = calculate_gain(nonlinearity, a)
    return gain / math.sqrt(fans[mode == "fan_out"]) if min(fans) else 0.0
