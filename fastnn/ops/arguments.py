"""What functions over tensors ask of their arguments, and say where it is not so."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import IntegersError, Tensor


def check_dtypes(
    what: str,
    a: Tensor,
    b: Tensor,
    names: tuple[str, str] = ("the left operand", "the right operand"),
    of_model: bool = False,
) -> None:
    """TypeError unless two operands have one dtype. Of a model's parameter (`of_model`) the dtype is the model's."""
    if a.dtype != b.dtype:
        mend = f"convert {names[1]} with .astype(np.{a.dtype})"
        if of_model:
            model = "double" if a.dtype == np.float64 else "float"
            mend = f"convert {names[0]} with .astype(np.{b.dtype}), or the model with model.{model}()"
        message = f"{what}: {names[0]} is {a.dtype}, {names[1]} is {b.dtype}; they must agree: {mend}"
        integers = next((t for t in (a, b) if t.dtype.kind != "f"), None)
        raise TypeError(message) if integers is None else IntegersError(message, integers)


def check_float(what: str, tensor: Tensor, name: str = "input") -> None:
    """TypeError for integers, which are labels to a graph."""
    if tensor.dtype.kind != "f":
        raise IntegersError(
            f"{what}: {name} holds integers; expected float32 or float64: convert it with .astype(np.float32), and "
            "the bytes of images with .astype(np.float32) / 255",
            tensor,
        )


def normalize_dim(dim: int, ndim: int, what: str) -> int:
    """A dimension counted from the front, or ValueError."""
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)):
        raise TypeError(f"{what}: dim must be an int, got {type(dim).__name__}")
    if not -ndim <= dim < ndim:
        raise ValueError(f"{what}: dim {dim} is out of range for a tensor of {ndim} dimensions")
    return int(dim) % ndim


def pair(value: Any, what: str, low: int) -> tuple[int, int]:
    """An int, or a pair of them, each at least `low`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or any(isinstance(v, bool) or not isinstance(v, int) for v in values):
        raise TypeError(f"{what} must be an int or a pair of ints, got {value!r}")
    if min(values) < low or max(values) > _check.LARGEST_SIZE:
        limits = f"at least {low}" if min(values) < low else f"at most {_check.LARGEST_SIZE}"
        raise ValueError(f"{what} must be {limits}, got ({', '.join(map(_check.brief, values))})")
    return values


def single(value: Any, what: str, low: int) -> int:
    """An int, alone or in a tuple, at least `low`."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, got {value!r}")
    if not low <= value <= _check.LARGEST_SIZE:
        limits = f"at least {low}" if value < low else f"at most {_check.LARGEST_SIZE}"
        raise ValueError(f"{what} must be {limits}, got {_check.brief(value)}")
    return value


def sides(value: Any, what: str) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) from an int, a pair (height, width), or four ints."""
    if isinstance(value, (tuple, list)) and len(value) == 4:
        return (*pair(tuple(value[:2]), what, 0), *pair(tuple(value[2:]), what, 0))
    height, width = pair(value, what, 0)
    return (height, height, width, width)


def ends(value: Any, what: str) -> tuple[int, int]:
    """(left, right) from an int or two of them."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return pair(value, what, 0)
    return (single(value, what, 0),) * 2
