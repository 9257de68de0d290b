"""The default source of random numbers: one seed for initializers, shuffles, and what programs draw."""

from __future__ import annotations

import copy
import operator
import threading
from typing import Any, NamedTuple

import numpy as np

from fastnn import _check
from fastnn_ext.atomic import Meanwhile, commit


class Source:
    """A seed, and what has been drawn from it.

    Attributes
    ----------
    state : array (2,) of uint64
        Seed and step of the counter-based generator that plans draw from; they hold this very array.
    default : numpy Generator, or None
        Made at its first use: numpy.random takes 15 ms to import.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.state = np.array((seed, 0), np.uint64)
        self.default: np.random.Generator | None = None


class _Present(threading.local):
    """The source that is drawn from, in each thread."""

    source = Source()


_present = _Present()


def drawing_from(source: Source) -> Meanwhile:
    """Let all that is given no seed of its own draw from a source for the time of a block, in this thread alone.

    Programs draw from the source that there was when they were made.
    """
    return Meanwhile([(vars(_present), "source", source)])


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
    if isinstance(seed, bool):
        raise TypeError("seed must be an int, got bool")
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be an int, got {type(seed).__name__}") from None
    if not 0 <= number < 2**63:
        raise ValueError(f"seed must lie in 0 ... 2**63 - 1, got {number}")
    source, start = _present.source, np.array((number, 0), np.uint64)
    commit([(source.state, start)], [(vars(source), "seed", number), (vars(source), "default", None)])


def generator(seed: int | np.random.Generator | None = None) -> np.random.Generator:
    """A NumPy generator: the default one for None, a new one for an int, a given one as it is."""
    if seed is None:
        source = _present.source
        if source.default is None:
            source.default = np.random.Generator(np.random.Philox(source.seed))
        return source.default
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool):
        raise TypeError("seed must be an int, a numpy Generator or None, got bool")
    try:
        return np.random.Generator(np.random.Philox(operator.index(seed)))
    except TypeError:
        raise TypeError(f"seed must be an int, a numpy Generator or None, got {type(seed).__name__}") from None
    except ValueError:  # negative
        raise ValueError(f"seed must be an int of at least 0, a numpy Generator or None, got {seed}") from None


def twin() -> tuple[np.random.Generator, list[tuple[dict[str, Any], str, Any]]]:
    """A generator that gives what the default one will give, and what `fastnn_ext.atomic.commit` needs to make it that:
    what has been drawn from it is then drawn, and not before."""
    own = copy.deepcopy(generator())
    return own, [(vars(_present.source), "default", own)]


def state() -> np.ndarray[Any, Any]:
    """(seed, step) of the generator that plans draw dropout masks from; plans hold this very array."""
    return _present.source.state


def get_rng_state() -> dict[str, Any]:
    """Everything that random numbers depend on, as plain numbers and lists (JSON can hold it)."""
    return snapshot().plain()


class Snapshot(NamedTuple):
    """Everything that random numbers depend on, as NumPy holds it: quickly taken."""

    plan: np.ndarray[Any, Any]
    generator: Any

    def plain(self) -> dict[str, Any]:
        """As `get_rng_state` gives it."""
        return {"plan": [int(word) for word in self.plan], "generator": _plain(self.generator)}


def snapshot() -> Snapshot:
    """What random numbers depend on now."""
    return Snapshot(state().copy(), generator().bit_generator.state)


def set_rng_state(saved: dict[str, Any]) -> None:
    """Return to a state that `get_rng_state` gave.

    Raises
    ------
    ValueError
        If it is no such state; the present one is then kept.
    """
    copies, entries = staged(saved)
    commit(copies, entries)


def staged(saved: Any) -> tuple[list[tuple[Any, Any]], list[tuple[dict[str, Any], str, Any]]]:
    """What `fastnn_ext.atomic.commit` needs to return to a state; ValueError if it is none.

    NumPy takes what it is told: with a `buffer_pos` out of range its Philox reads memory that is not its own.
    """
    try:
        _keys("the state", saved, {"plan", "generator"})
        words = _words("plan", saved["plan"], 2)
        bits = _keys("generator", saved["generator"], _GENERATOR)
        if bits["bit_generator"] != "Philox":
            raise ValueError(f"bit_generator is {_check.brief(bits['bit_generator'])}, not 'Philox'")
        inner = _keys("generator.state", bits["state"], {"counter", "key"})
        # With a key, and not a seed, which NumPy mixes in a context variable's scope: CPython 3.10 to 3.13 crash where
        # such a variable is set without memory and then again with it.
        fresh = np.random.Generator(np.random.Philox(key=0))
        fresh.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {
                "counter": _words("counter", inner["counter"], 4),
                "key": _words("key", inner["key"], 2),
            },
            "buffer": _words("buffer", bits["buffer"], 4),
            "buffer_pos": _check.integer("buffer_pos", bits["buffer_pos"], 0, 4),
            "has_uint32": _check.integer("has_uint32", bits["has_uint32"], 0, 1),
            "uinteger": _check.integer("uinteger", bits["uinteger"], 0, 2**32 - 1),
        }
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a random state of fastnn: {error}") from None
    return [(state(), words)], [(vars(_present.source), "default", fresh)]


_GENERATOR = {"bit_generator", "state", "buffer", "buffer_pos", "has_uint32", "uinteger"}


def _keys(name: str, value: Any, expected: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != expected:
        raise ValueError(f"{name} must hold {', '.join(sorted(expected))}, got {_check.brief(value)}")
    return value


def _words(name: str, value: Any, count: int) -> np.ndarray[Any, Any]:
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise ValueError(f"{name} must hold {count} numbers, got {_check.brief(value)}")
    return np.array([_check.integer(f"{name}[{i}]", v, 0, 2**64 - 1) for i, v in enumerate(value)], np.uint64)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return [int(v) for v in value]
    return value if isinstance(value, str) else int(value)
