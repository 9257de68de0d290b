"""Initial values of parameters: PyTorch's names, arguments and formulas.

Each fills a Parameter or an array of float32 or float64 in place, and returns it. `seed` is an int,
a NumPy generator, or None for the default one, which `fn.manual_seed` sets. A normal distribution with the
variance 4 / (fan_in + fan_out), for ReLU, is xavier_normal_(tensor, gain=math.sqrt(2)).
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fastnn import _check
from fastnn._check import FLOATS
from fastnn.graph import Graph, Tensor, active_graph
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import tensors_in
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.seed import generator

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "lsuv_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "variance_scaling_",
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


def lecun_uniform_(tensor: Array, seed: Seed = None) -> Array:
    """Uniform in +-sqrt(3 / fan_in), which has the variance 1 / fan_in (LeCun et al., 1998)."""
    return variance_scaling_(tensor, distribution="uniform", seed=seed)


def lecun_normal_(tensor: Array, seed: Seed = None) -> Array:
    """Normal with the variance 1 / fan_in, within two deviations of the normal distribution, as Keras's."""
    return variance_scaling_(tensor, seed=seed)


#: The standard deviation of a normal distribution that is cut off two deviations from its mean.
CUT_OFF_STD = 0.87962566103423978


def variance_scaling_(
    tensor: Array, scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal", seed: Seed = None
) -> Array:
    """Of the variance scale / fan; Keras's VarianceScaling.

    Parameters
    ----------
    tensor : Parameter or array (out, in, *kernel)
    scale : float
    mode : {"fan_in", "fan_out", "fan_avg"}
        fan_avg is the mean of the other two.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        truncated_normal is cut off two deviations of the normal distribution from its mean.
    seed : int, Generator or None
    """
    if mode not in ("fan_in", "fan_out", "fan_avg"):
        raise ValueError(f"mode must be 'fan_in', 'fan_out' or 'fan_avg', got {mode!r}")
    fan_in, fan_out = _fans(tensor)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    scale = _check.real("scale", scale, 0)
    std = math.sqrt(scale / fan) if min(fan_in, fan_out) else 0.0  # without elements there is nothing to spread
    match distribution:
        case "uniform":
            return uniform_(tensor, -math.sqrt(3) * std, math.sqrt(3) * std, seed)
        case "untruncated_normal":
            return normal_(tensor, 0.0, std, seed)
        case "truncated_normal":
            whole = std / CUT_OFF_STD
            return trunc_normal_(tensor, 0.0, whole, -2 * whole, 2 * whole, seed) if std else zeros_(tensor)
    raise ValueError(
        f"distribution must be 'truncated_normal', 'untruncated_normal' or 'uniform', got {distribution!r}"
    )


def eye_(tensor: Array) -> Array:
    """The identity, of a matrix (out, in)."""
    shape = _shape(tensor)
    if len(shape) != 2:
        raise ValueError(f"tensor must have two dimensions, got {shape}")
    return _fill(tensor, np.eye(*shape))


def dirac_(tensor: Array, groups: int = 1) -> Array:
    """A convolution's weight (out, in, *kernel) that hands as many channels on as it can, unchanged, in each group."""
    shape = _shape(tensor)
    groups = _check.size("groups", groups, 1)
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"tensor must be the weight of a convolution, (out, in, *kernel), got {shape}")
    if shape[0] % groups:
        raise ValueError(f"groups must divide the {shape[0]} channels that go out, got {groups}")
    values = np.zeros(shape)
    center = tuple([size // 2 for size in shape[2:]])
    each = shape[0] // groups
    for channel in range(shape[0]):
        if channel % each < shape[1]:
            values[channel, channel % each][center] = 1
    return _fill(tensor, values)


def sparse_(tensor: Array, sparsity: float, std: float = 0.01, seed: Seed = None) -> Array:
    """Normal, but for zeros: a share `sparsity` of each column of a matrix (out, in), rounded up (Martens, 2010)."""
    shape = _shape(tensor)
    if len(shape) != 2:
        raise ValueError(f"tensor must have two dimensions, got {shape}")
    sparsity, std = _check.real("sparsity", sparsity, 0, 1), _check.real("std", std, 0)
    rng = generator(seed)
    values = rng.normal(0.0, std, shape)
    zeros = math.ceil(sparsity * shape[0])
    for column in range(shape[1]):
        values[rng.permutation(shape[0])[:zeros], column] = 0
    return _fill(tensor, values)


def lsuv_(model: Module, *inputs: Any, tol: float = 0.01, max_iter: int = 10, seed: Seed = None) -> Module:
    """Layer-sequential unit variance (Mishkin and Matas, 2016): orthogonal weights, then scaled on data.

    Layer by layer, in the order in which they run, weights are divided by the standard deviation of the layer's output
    for these inputs, until its variance is 1.

    Parameters
    ----------
    model : Module
        Of which all modules that have a `weight` of two dimensions or more are initialised; biases become 0.
    *inputs : array
        A batch, as for a call of the model.
    tol : float
        How far from 1 a variance may be.
    max_iter : int
        How often a layer is scaled at most.
    seed : int, Generator or None
    """
    _check.instance("model", model, Module)
    tol, max_iter = _check.real("tol", tol, 0), _check.size("max_iter", max_iter, 1)
    rng = generator(seed)
    watched: list[Module] = []

    def forward(*tensors: Tensor) -> list[Tensor]:
        model(*tensors)
        outputs: dict[Module, Tensor] = {}
        for module, result in active_graph().calls:
            if isinstance(getattr(module, "weight", None), Parameter) and module.weight.ndim >= 2:
                outputs.setdefault(module, next(tensors_in(result)))
        watched[:] = outputs
        return list(outputs.values())

    def finish(graph: Graph, result: list[Tensor]) -> Recipe:
        return Recipe([result], tuple)

    what = type(model).__name__
    programs = Programs(forward, finish, model._argument_names, (model,), what, any_batch=False, training=False)
    arrays = programs.arrays(inputs)
    programs.find(arrays)
    for layer in watched:
        orthogonal_(layer.weight, seed=rng)
        if isinstance(getattr(layer, "bias", None), Parameter):
            zeros_(layer.bias)
    for i, layer in enumerate(watched):
        for _ in range(max_iter):
            variance = float(np.var(programs.find(arrays).program.plans[0].run(*arrays)[i]))
            if not 0 < variance < math.inf or abs(variance - 1) <= tol:
                break
            layer.weight.data /= math.sqrt(variance)
    return model


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
    if not array.flags.writeable:
        raise ValueError(
            "tensor is read-only: it is of a frozen module, or computed from other parameters (weight norm, spectral "
            "norm), which are what to initialize"
        )
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
