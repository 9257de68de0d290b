"""The default source of random numbers: one seed for initializers, shuffles, and what programs draw."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

_state = np.zeros(2, np.uint64)  # seed and step of the counter-based generator that plans draw from
_seed = 0
_default: np.random.Generator | None = None  # made at its first use: numpy.random takes 15 ms to import


def manual_seed(seed: int) -> None:
    """Set the seed of everything in fastnn that is given none of its own.

    Parameters
    ----------
    seed : int
        0 ... 2**63 - 1.

    Raises
    ------
    TypeError, ValueError
        If seed is no such integer.
    """
    global _seed, _default
    if isinstance(seed, bool):
        raise TypeError("seed must be an int, got bool")
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be an int, got {type(seed).__name__}") from None
    if not 0 <= number < 2**63:
        raise ValueError(f"seed must lie in 0 ... 2**63 - 1, got {number}")
    _state[:] = (number, 0)
    _seed, _default = number, None


def generator(seed: int | np.random.Generator | None = None) -> np.random.Generator:
    """A NumPy generator: the default one for None, a new one for an int, a given one as it is."""
    global _default
    if seed is None:
        if _default is None:
            _default = np.random.Generator(np.random.Philox(_seed))
        return _default
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool):
        raise TypeError("seed must be an int, a numpy Generator or None, got bool")
    try:
        return np.random.Generator(np.random.Philox(operator.index(seed)))
    except TypeError:
        raise TypeError(
            f"seed must be an int, a numpy Generator or None, got {type(seed).__name__}"
        ) from None
    except ValueError:  # negative
        raise ValueError("seed must be an int of at least 0, a numpy Generator or None") from None


def state() -> np.ndarray[Any, Any]:
    """(seed, step) of the generator that plans draw dropout masks from; plans hold this very array."""
    return _state


def get_rng_state() -> dict[str, Any]:
    """Everything that random numbers depend on, as plain numbers and lists (JSON can hold it)."""
    bits: Any = generator().bit_generator.state
    return {"plan": [int(word) for word in _state], "generator": _plain(bits)}


def set_rng_state(saved: dict[str, Any]) -> None:
    """Return to a state that `get_rng_state` gave.

    Raises
    ------
    ValueError
        If it is no such state; the present one is then kept.
    """
    global _default
    try:
        plan = [int(word) for word in saved["plan"]]
        bits = dict(saved["generator"])
        inner = dict(bits["state"])
        bits["state"] = {k: np.array(v, np.uint64) for k, v in inner.items()}
        bits["buffer"] = np.array(bits["buffer"], np.uint64)
        fresh = np.random.Generator(np.random.Philox(0))
        fresh.bit_generator.state = bits
        words = np.array(plan, np.uint64)
        if words.shape != (2,):
            raise ValueError("plan must hold two numbers")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a random state of fastnn: {error}") from None
    _state[:] = words
    _default = fresh


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return [int(v) for v in value]
    return value if isinstance(value, str) else int(value)
