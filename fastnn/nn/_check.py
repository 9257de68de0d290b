"""Checks of the settings that layers and losses take."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from fastnn.graph import FLOATS


def integer(name: str, value: Any, minimum: int | None = None) -> int:
    """`value` as an int; TypeError for what is none (bool included), ValueError below `minimum`."""
    wanted = "an int" if minimum is None else f"an int of at least {minimum}"
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {wanted}, got {value!r}") from None
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be {wanted}, got {number}")
    return number


def real(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a finite float in low ... high."""
    wanted = "a finite number" if low == -math.inf else f"a number in {low:g} ... {high:g}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise ValueError(f"{name} must be {wanted}, got {number}")
    return number


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; TypeError for anything that is not True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def floating(name: str, value: Any) -> np.dtype[Any]:
    """`value` as a dtype, float32 for None; TypeError for what is neither float32 nor float64."""
    try:
        dtype = np.dtype(np.float32 if value is None else value)
    except TypeError:
        raise TypeError(f"{name} must be float32 or float64, got {value!r}") from None
    if dtype not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {dtype}")
    return dtype
