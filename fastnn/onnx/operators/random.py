"""Dropout, and random numbers: drawn anew in each run from fastnn's seed, whatever a node's own says."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.onnx.file import DTYPES
from fastnn.onnx.operator import Array, Call, Ints, Value, Whole, operator
from fastnn.ops import random
from fastnn.ops.elementwise import cast, mul


@operator("Dropout", 7)
def dropout_7(call: Call, data: Tensor, *, ratio: float = 0.5) -> Any:
    """In training mode each element is 0 with probability `ratio`, and the others grow in proportion."""
    return _drop(call, data, ratio, call.training)


@operator("Dropout", 12, known="ratio", raw="training_mode")
def dropout_12(
    call: Call,
    data: Tensor,
    ratio: Array | None = None,
    training_mode: Value | None = None,
    *,
    seed: int | None = None,
) -> Any:
    """The same: the network's mode decides, and not the one that it was exported in."""
    return _drop(call, data, 0.5 if ratio is None else float(ratio.reshape(())), call.training)


def _drop(call: Call, data: Tensor, ratio: float, training: bool) -> Any:
    chance = _check.real("its ratio", ratio, 0, 1)
    p = chance if training else 0.0
    if not call.wants(1):
        return random.dropout(data, p)
    keep = random.bernoulli(data.shape, data.dtype, 1 - p)
    y = mul(data, keep) * (1 / (1 - p) if p < 1 else 0.0) if p else data
    return y, keep if call.version < 10 else Whole(keep, bool, late=True)


@operator("RandomNormal", 1)
def random_normal(
    call: Call, *, shape: Ints, dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Tensor:
    """Numbers of a normal distribution."""
    return random.normal(_sizes(shape), _dtype(call, dtype), mean, scale)


@operator("RandomNormalLike", 1, raw="input")
def random_normal_like(
    call: Call,
    input: Value,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    """Numbers of a normal distribution, as many as there are in the input."""
    return random.normal(input.shape, _dtype_like(call, input, dtype), mean, scale)


@operator("RandomUniform", 1)
def random_uniform(
    call: Call, *, shape: Ints, dtype: int = 1, high: float = 1.0, low: float = 0.0, seed: float | None = None
) -> Tensor:
    """Numbers from low to high."""
    return random.uniform(_sizes(shape), _dtype(call, dtype), low, high)


@operator("RandomUniformLike", 1, raw="input")
def random_uniform_like(
    call: Call,
    input: Value,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Tensor:
    """Numbers from low to high, as many as there are in the input."""
    return random.uniform(input.shape, _dtype_like(call, input, dtype), low, high)


@operator("Bernoulli", 15)
def bernoulli(call: Call, input: Tensor, *, dtype: int | None = None, seed: float | None = None) -> Value:
    """1 with the probability that the input says, else 0."""
    drawn = random.bernoulli(input.shape, input.dtype, input)
    if dtype is None:
        return drawn
    wanted = _wanted(dtype)
    return cast(drawn, call.float_dtype(wanted)) if wanted.kind == "f" else Whole(drawn, wanted, late=True)


@operator("Multinomial", 7)
def multinomial(call: Call, input: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None) -> Value:
    """Labels drawn with probabilities whose logarithms, but for a constant, are the rows of the input."""
    wanted = _wanted(dtype)
    if input.ndim != 2 or wanted.kind != "i":
        raise ValueError(f"it draws {wanted} from {input.ndim} dimensions; expected integers, from rows")
    n, classes = input.shape
    size = _check.size("its sample_size", sample_size, 1)
    even = random.uniform((n, size, classes), input.dtype, 0.0, 1.0)
    # The largest of log p + Gumbel noise falls on each label with its probability (Gumbel, 1954).
    noisy = input.unsqueeze(1) - (-even.log()).log()
    return Whole(noisy.argmax(-1), wanted, late=True)


def _sizes(shape: Ints) -> tuple[int, ...]:
    return tuple(_check.size("its shape", size, 1) for size in shape)


def _wanted(dtype: int) -> np.dtype[Any]:
    if dtype not in DTYPES:
        raise ValueError(f"its dtype is ONNX's number {_check.brief(dtype)}, which is not read")
    return np.dtype(DTYPES[dtype][2])


def _dtype(call: Call, dtype: int) -> np.dtype[Any]:
    """What is drawn in."""
    wanted = _wanted(dtype)
    if wanted.kind != "f":
        raise ValueError(f"its dtype is {wanted}; expected a floating-point one")
    return call.float_dtype(wanted)


def _dtype_like(call: Call, input: Value, dtype: int | None) -> np.dtype[Any]:
    if dtype is not None:
        return _dtype(call, dtype)
    if input.dtype.kind != "f":
        raise ValueError(f"its input is {input.dtype}, and it says no floating-point dtype")
    return call.float_dtype(input.dtype)
