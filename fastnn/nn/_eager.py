"""Functions of tensors, called with arrays: each runs as a program of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np

from fastnn.graph import Graph, is_tracing
from fastnn.lowering.call import build, flatten_result, to_array
from fastnn.lowering.program import Program

P = ParamSpec("P")
Entry = tuple[Program, Callable[[Sequence[Any]], Any]]

#: Programs kept, over all functions; the least recently used one goes first.
KEPT = 64


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
            absent = {
                n
                for n in names
                if given.get(n, 0) is None and signature.parameters[n].default is None
            }
            arrays = {n: given.pop(n) for n in names if n in given and n not in absent}
            return run_function(function, arrays, **given)

        return call

    return decorate


def run_function(function: Callable[..., Any], inputs: Mapping[str, Any], **settings: Any) -> Any:
    """Run `function(**inputs, **settings)` on arrays, and keep the program for the next time."""
    arrays = [to_array(value, name) for name, value in inputs.items()]
    forms = tuple((a.shape, a.dtype) for a in arrays)
    try:
        program, rebuild = _kept(function, tuple(inputs), forms, tuple(settings.items()))
    except TypeError:
        # A setting without a hash is most likely a wrong one: the function itself says so.
        program, rebuild = make(function, tuple(inputs), forms, tuple(settings.items()))
    return rebuild(program.plans[0].run(*arrays))


def make(
    function: Callable[..., Any],
    names: tuple[str, ...],
    forms: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...],
    settings: tuple[tuple[str, Any], ...],
) -> Entry:
    """The program of a function for inputs of these names, shapes and dtypes."""

    def call(*tensors: Any) -> Any:
        return function(**dict(zip(names, tensors, strict=True)), **dict(settings))

    def finish(graph: Graph, result: Any) -> Entry:
        tensors, rebuild = flatten_result(
            result, getattr(function, "__name__", type(function).__name__)
        )
        return Program(graph, [tensors]), rebuild

    # Only shape and dtype of the inputs matter here.
    arrays = [np.broadcast_to(np.zeros((), dtype), shape) for shape, dtype in forms]
    return build(call, arrays, names, finish, batched=False)


_kept = functools.lru_cache(maxsize=KEPT)(make)
