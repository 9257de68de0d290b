"""Functions of arrays as programs: fn.trace, fn.value_and_grad, fn.grad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.graph import Graph, Tensor
from fastnn.lowering.call import build, flatten_result, to_array
from fastnn.lowering.gradients import gradients, one
from fastnn.lowering.program import Program

#: Programs that a traced function keeps, one a combination of shapes and dtypes; the oldest goes first.
KEPT = 128


class Traced:
    """A function that runs as a program; made by `trace`, `value_and_grad` and `grad`.

    Attributes
    ----------
    function : callable
        What is traced, once for each combination of shapes and dtypes.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        finish: Callable[[Graph, Any], tuple[Program, Callable[[Sequence[Any]], Any]]],
    ) -> None:
        if not callable(function):
            raise TypeError(f"function must be callable, got {type(function).__name__}")
        self.function = function
        self._finish = finish
        self._programs: dict[Any, tuple[Program, Callable[[Sequence[Any]], Any]]] = {}

    def __call__(self, *args: Any) -> Any:
        arrays = _arguments(args)
        program, rebuild = self._program(arrays)
        return rebuild(program.plans[0].run(*arrays))

    def plan(self, *args: Any) -> Program:
        """The program that a call with these arguments runs: see its explain() and profile()."""
        return self._program(_arguments(args))[0]

    def _program(
        self, arrays: list[np.ndarray[Any, Any]]
    ) -> tuple[Program, Callable[[Sequence[Any]], Any]]:
        key = tuple((a.shape, a.dtype.char) for a in arrays)
        entry = self._programs.get(key)
        if entry is None:
            names = [f"argument {i}" for i in range(len(arrays))]
            entry = build(self.function, arrays, names, self._finish, batched=False)
            if len(self._programs) == KEPT:
                del self._programs[next(iter(self._programs))]
            self._programs[key] = entry
        return entry


def _arguments(args: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Arguments as arrays of one dtype: numbers take that of the arrays, float64 if there are none."""
    arrays = [
        None if isinstance(a, (int, float)) and not isinstance(a, bool) else to_array(a, f"argument {i}")
        for i, a in enumerate(args)
    ]
    floats = {a.dtype for a in arrays if a is not None and a.dtype.kind == "f"}
    if len(floats) > 1:
        raise TypeError(f"the arguments mix dtypes: {', '.join(sorted(map(str, floats)))}")
    dtype = floats.pop() if floats else np.dtype(np.float64)
    return [np.asarray(args[i], dtype) if a is None else a for i, a in enumerate(arrays)]


def trace(function: Callable[..., Any]) -> Traced:
    """Make a function of tensors one of arrays, run as a plan.

    Parameters
    ----------
    function : callable
        Written with arithmetic, `@`, methods of tensors (exp, log, sqrt, tanh, sum, mean, reshape,
        transpose, ...), fastnn.nn.functional, fn.concat, and indexing by constants. It may return a
        tensor, or tuples, lists or dicts of them.

    Returns
    -------
    Traced
        Takes arrays and numbers; traced anew for each combination of shapes.

    Examples
    --------
    >>> fn.trace(lambda x, y: (x * y).sum())(np.ones(3), np.ones(3))
    3.0
    """

    def finish(graph: Graph, result: Any) -> tuple[Program, Callable[[Sequence[Any]], Any]]:
        tensors, rebuild = flatten_result(result, _name(function))
        return Program(graph, [tensors]), rebuild

    return Traced(function, finish)


def value_and_grad(function: Callable[..., Any], argnums: int | Sequence[int] | None = None) -> Traced:
    """A function's value and its gradients for its arguments.

    Parameters
    ----------
    function : callable
        As for `trace`; must return a scalar.
    argnums : int or sequence of int, optional
        Which arguments to differentiate for; default all floating-point ones.

    Returns
    -------
    Traced
        Called, it returns (value, gradient): one gradient for an int `argnums` or a single argument,
        else a tuple of them. The gradient of an argument without influence is zero.

    Examples
    --------
    >>> fn.value_and_grad(lambda x, y, z: (x + y) * z)(-2.0, 5.0, -4.0)
    (-12.0, (-4.0, -4.0, 3.0))
    """
    return Traced(function, _differentiate(function, argnums, lambda value, grads: (value, grads)))


def grad(function: Callable[..., Any], argnums: int | Sequence[int] | None = None) -> Traced:
    """A function's gradients for its arguments; see `value_and_grad`."""
    return Traced(function, _differentiate(function, argnums, lambda value, grads: grads))


def _differentiate(
    function: Callable[..., Any], argnums: int | Sequence[int] | None, combine: Callable[[Any, Any], Any]
) -> Callable[[Graph, Any], tuple[Program, Callable[[Sequence[Any]], Any]]]:
    def finish(graph: Graph, value: Any) -> tuple[Program, Callable[[Sequence[Any]], Any]]:
        if not isinstance(value, Tensor) or value.shape != ():
            raise ValueError(f"{_name(function)} must return a scalar to be differentiated, got {value!r}")
        inputs = graph.inputs
        if argnums is None:
            chosen = [i for i, t in enumerate(inputs) if t.dtype.kind == "f"]
        else:
            chosen = [argnums] if isinstance(argnums, int) else list(argnums)
            for i in chosen:
                if not -len(inputs) <= i < len(inputs):
                    raise ValueError(f"argnums names argument {i}; there are {len(inputs)}")
        wrt = [inputs[i] for i in chosen]
        grads = gradients(graph, {value: one(value.dtype)}, wrt)
        filled = [zeros_like(t) if g is None else g for g, t in zip(grads, wrt, strict=True)]
        single = isinstance(argnums, int) or (argnums is None and len(inputs) == 1)

        def rebuild(values: Sequence[Any]) -> Any:
            return combine(values[0], values[1] if single else tuple(values[1:]))

        return Program(graph, [[value, *filled]]), rebuild

    return finish


def zeros_like(tensor: Tensor) -> Tensor:
    from fastnn.ops.shape import broadcast_to

    return broadcast_to(np.zeros((), tensor.dtype), tensor.shape)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
