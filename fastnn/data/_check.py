"""Checks of the arguments that the functions of this room have in common."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

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


def real(name: str, value: Any, minimum: float, maximum: float = math.inf) -> float:
    """`value` as a finite float in [minimum, maximum]."""
    wanted = f"a number of at least {minimum:g}"
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


def generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """A Generator from a seed: an int starts one, a Generator is used as it stands, None is chance."""
    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    return np.random.default_rng(integer("seed", seed, 0, LARGEST_SEED))
