"""Checks of the arguments that the functions of this room have in common."""

from __future__ import annotations

import math
import operator
import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

LARGEST_SEED = 2**64 - 1  # a Philox key holds the seed in 64 bits


def integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """`value` as an int; TypeError for what is no integer (bool included), ValueError outside."""
    wanted = f"an integer of at least {minimum}"
    if maximum is not None:
        wanted = f"an integer from {minimum} to {maximum}"
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected {wanted}, got {value!r}") from None
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{name}: expected {wanted}, got {number}")
    return number


def real(name: str, value: Any, minimum: float = -math.inf, maximum: float = math.inf) -> float:
    """`value` as a finite float in [minimum, maximum]."""
    wanted = f"a number of at least {minimum:g}" if minimum > -math.inf else "a finite number"
    if maximum < math.inf:
        wanted = f"a number from {minimum:g} to {maximum:g}"
    if isinstance(value, (bool, np.bool_, str)):
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected {wanted}, got {value!r}") from None
    if not (minimum <= number <= maximum and math.isfinite(number)):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return number


def height_and_width(name: str, value: Any) -> tuple[int, int]:
    """Two positive sizes, from a pair of ints or one int for both."""
    if not isinstance(value, (tuple, list)):
        side = integer(name, value, 1)
        return side, side
    if len(value) != 2:
        raise ValueError(f"{name}: expected a height and a width, got {value!r}")
    return integer(f"{name}[0]", value[0], 1), integer(f"{name}[1]", value[1], 1)


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; TypeError for anything that is not True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """`value` if it is one of `allowed`; ValueError otherwise."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def floating(name: str, value: DTypeLike) -> np.dtype[Any]:
    """`value` as a dtype; TypeError for what is none, or not floating."""
    try:
        dtype = np.dtype(value)
        if dtype.kind != "f":
            raise TypeError
    except TypeError:
        raise TypeError(f"{name}: expected a floating dtype, got {value!r}") from None
    return dtype


def path(name: str, value: Any) -> str:
    """A path as str; TypeError for what is none."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name}: expected a path, got {value!r}") from None


def generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """A Generator started by an int or, with None, by chance; a Generator as it stands."""
    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    return np.random.default_rng(integer("seed", seed, 0, LARGEST_SEED))
