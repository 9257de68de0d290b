"""Checks of arguments: each returns the value as the one type that its caller works with."""

from __future__ import annotations

import math
import operator
import os
import reprlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

LARGEST = 2**63 - 1  # that native code holds
LARGEST_SIZE = 2**31 - 1  # of a kernel, a stride, a padding, ...
LARGEST_SEED = 2**64 - 1  # a Philox key holds the seed in 64 bits
LARGEST_COUNT = 2**53  # of steps, epochs, samples: a float64 counts so far, and no run does


def brief(value: Any, form: Callable[[Any], str] = repr) -> str:
    """A value as messages show it, by `repr` or `str`: short, however large it is, and without what moves a cursor."""
    if isinstance(value, str):
        for length in (120, 60, 10):  # a character may take ten to be printed
            shown = printable(form(value[:length]))
            if len(shown) <= 122:
                break
        return shown if len(value) <= length else f"{shown}... ({len(value)} characters)"
    if isinstance(value, int) and not -(2**128) < value < 2**128:
        return f"an integer of {value.bit_length()} bits"
    text = _SHORT.repr(value)
    return text if len(text) <= 120 else f"{text[:100]}..."


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 60, 100, 40


def printable(text: str) -> str:
    """A text with what no terminal prints, or obeys instead, in escapes such as \\x1b."""
    return text if text.isprintable() else repr(text)[1:-1]


def some(names: Iterable[Any]) -> str:
    """Names in a row, the first few of many."""
    listed = list(names)
    shown: list[str] = []
    for name in listed[:8]:
        shown.append(brief(name, str) if isinstance(name, str) else brief(name))
        if sum(map(len, shown)) > 250:
            break
    rest = len(listed) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def integer(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """`value` as an int of 64 bits; TypeError for what is no integer (bool included), ValueError outside."""
    wanted = "an int" if minimum is None else f"an int of at least {minimum}"
    if maximum is not None:
        wanted = f"an int from {minimum} to {maximum}"
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {wanted}, got {brief(value)}") from None
    low, high = -LARGEST if minimum is None else minimum, LARGEST if maximum is None else maximum
    if not low <= number <= high:
        wanted += "" if abs(number) <= LARGEST else " that fits 64 bits"
        raise ValueError(f"{name} must be {wanted}, got {brief(number)}")
    return number


def size(name: str, value: Any, minimum: int) -> int:
    """`value` as an int from `minimum` to LARGEST_SIZE: sums and products of a few such fit 64 bits."""
    number = integer(name, value, minimum)
    if number > LARGEST_SIZE:
        raise ValueError(f"{name} must be at most {LARGEST_SIZE}, got {number}")
    return number


def real(name: str, value: Any, minimum: float = -math.inf, maximum: float = math.inf) -> float:
    """`value` as a finite float in [minimum, maximum]; TypeError for what is no number."""
    wanted = "a finite number" if minimum == -math.inf else f"a finite number of at least {minimum:g}"
    if maximum < math.inf:
        wanted = f"a number from {minimum:g} to {maximum:g}"
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be {wanted}, got {brief(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {wanted}, got {brief(value)}") from None
    if not (math.isfinite(number) and minimum <= number <= maximum):
        raise ValueError(f"{name} must be {wanted}, got {number}")
    return number


def positive(name: str, value: Any) -> float:
    """`value` as a finite float above 0."""
    number = real(name, value, 0)
    if number == 0:
        raise ValueError(f"{name} must be above 0, got {number}")
    return number


def plain(value: Any) -> Any:
    """`value` with Python's numbers in place of NumPy's, in the dicts and lists that it holds, too."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, dict):
        return {k.item() if isinstance(k, np.generic) else k: plain(entry) for k, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def count(name: str, value: Any) -> int:
    """`value` as an int from 0 to LARGEST_COUNT, for what a file says of how often something was done."""
    return integer(name, value, 0, LARGEST_COUNT)


def readable(name: str, value: Any) -> Any:
    """`value`; TypeError for what NumPy would read as something else: the numbers of a masked array without its
    mask, a sparse matrix as one object."""
    if type(value) is not np.ndarray:
        if is_masked(value):
            raise TypeError(f"{name} is a masked array, whose mask would be lost; fill it or compress it first")
        if hasattr(value, "toarray") and not hasattr(value, "__array__"):
            raise TypeError(f"{name} is a sparse {type(value).__name__}; dense arrays are expected: give .toarray()")
    return value


def is_masked(value: Any) -> bool:
    """Whether this is a masked array: where numpy.ma was never imported, there is none."""
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(value, masked.MaskedArray)


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; TypeError for anything that is not True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {brief(value)}")
    return bool(value)


def choice(name: str, value: Any, *known: str) -> str:
    """`value` if it is one of the known names; ValueError otherwise."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {brief(value)}")
    return value


def floating(name: str, value: Any) -> np.dtype[Any]:
    """`value` as a dtype, float32 for None; TypeError for what is neither float32 nor float64."""
    try:
        dtype = np.dtype(np.float32 if value is None else value)
    except TypeError:
        raise TypeError(f"{name} must be float32 or float64, got {value!r}") from None
    if dtype not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {dtype}")
    return dtype


def height_and_width(name: str, value: Any) -> tuple[int, int]:
    """Two positive sizes, from a pair of ints or one int for both."""
    if not isinstance(value, (tuple, list)):
        side = integer(name, value, 1)
        return side, side
    if len(value) != 2:
        raise ValueError(f"{name} must be a height and a width, got {value!r}")
    return integer(f"{name}[0]", value[0], 1), integer(f"{name}[1]", value[1], 1)


def instance(name: str, value: Any, kind: type, wanted: str = "") -> Any:
    """`value` if it is an instance of `kind`, which messages call `wanted`; TypeError otherwise."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{name} must be {wanted or f'{article} {kind.__name__}'}, got {kind_of(value)}")
    return value


def kind_of(value: Any) -> str:
    """What kind of object this is: with its package, where it has another one's name perhaps; of a class, how to
    make an instance of it."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself; make one with {value.__name__}(...)"
    package = type(value).__module__.partition(".")[0]
    name = type(value).__name__
    return name if package in ("builtins", "__main__", "numpy", "fastnn") else f"{package}'s {name}"


def path(name: str, value: Any) -> str:
    """A path as str; TypeError for what is none."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name} must be a path, got {value!r}") from None


def generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """A Generator started by an int or, with None, by chance; a Generator as it stands."""
    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    return np.random.default_rng(integer("seed", seed, 0, LARGEST_SEED))
