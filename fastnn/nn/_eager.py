"""Functions of tensors, called with arrays: each runs as a program of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

from fastnn.graph import Graph, is_tracing
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import flatten_result, to_array

P = ParamSpec("P")


def eager(*names: str) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Let a function of tensors take arrays outside a trace, and return arrays there.

    Parameters
    ----------
    *names : str
        The arguments that are arrays, or None by default; the others are settings.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            if is_tracing():
                return function(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            absent = {n for n in names if given.get(n, 0) is None and signature.parameters[n].default is None}
            arrays = {n: given.pop(n) for n in names if n in given and n not in absent}
            return run_function(function, arrays, **given)

        return call

    return decorate


class _Call:
    """A function with its settings, of tensors alone. Equal to another one that computes the same."""

    def __init__(self, function: Callable[..., Any], names: tuple[str, ...], settings: dict[str, Any]) -> None:
        self.function, self.names, self.settings = function, names, settings
        self.key = (function, names, tuple((name, _typed(value)) for name, value in settings.items()))

    def __call__(self, *tensors: Any) -> Any:
        return self.function(**dict(zip(self.names, tensors, strict=True)), **self.settings)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Call) and self.key == other.key


def _typed(value: Any) -> Any:
    """A setting such that 2, 2.0 and True differ, and 0.0 and -0.0; other objects are themselves alone."""
    if isinstance(value, (tuple, list)):
        return (type(value), tuple(map(_typed, value)))
    if isinstance(value, (int, float, str, bool, type(None))):
        return (type(value), repr(value))
    return _Same(value)


class _Same:
    """Equal for one object alone, which it holds."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def _finish(graph: Graph, result: Any) -> Recipe:
    tensors, rebuild = flatten_result(result, "the function")
    return Recipe([tensors], rebuild)


#: The programs of all functions. Their settings are part of the key, so nothing else is to be watched.
PROGRAMS = Programs(lambda *_: None, _finish, lambda _: (), (), "the function", any_batch=False, trusted=True)


def run_function(function: Callable[..., Any], inputs: Mapping[str, Any], **settings: Any) -> Any:
    """Run `function(**inputs, **settings)` on arrays, and keep the program for the next time."""
    arrays = [to_array(value, name) for name, value in inputs.items()]
    entry = PROGRAMS.find(arrays, _Call(function, tuple(inputs), settings))
    return entry.rebuild(entry.program.plans[0].run(*arrays))
