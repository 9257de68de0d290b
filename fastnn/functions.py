"""Functions of arrays as programs: fn.trace, fn.value_and_grad, fn.grad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Graph, Tensor
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import flatten_result, to_array
from fastnn.lowering.gradients import gradients, one
from fastnn.lowering.program import Program
from fastnn.ops.layout import broadcast_to


class Traced:
    """A function that runs as a program; made by `trace`, `value_and_grad` and `grad`.

    Attributes
    ----------
    function : callable
        What is traced, once for each combination of shapes and dtypes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"function must be callable, got {_check.kind_of(function)}")
        self.function = function
        self._make_programs()

    def _make_programs(self) -> None:
        self._programs = Programs(
            self.function, self._finish, _names, (self.function,), _name(self.function), any_batch=False
        )

    def __call__(self, *args: Any) -> Any:
        arrays = _arguments(args)
        entry = self._programs.find(arrays)
        return entry.rebuild(entry.program.plans[0].run(*arrays))

    def plan(self, *args: Any) -> Program:
        """The program that a call with these arguments runs: see its explain() and profile()."""
        return self._programs.find(_arguments(args)).program

    def _finish(self, graph: Graph, result: Any) -> Recipe:
        tensors, rebuild = flatten_result(result, _name(self.function))
        return Recipe([tensors], rebuild)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_programs"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_programs()


class Differentiated(Traced):
    """A function's gradients, with its value or without."""

    def __init__(self, function: Callable[..., Any], argnums: int | Sequence[int] | None, with_value: bool) -> None:
        if isinstance(argnums, (tuple, list)):
            self.argnums: Any = [_check.integer(f"argnums[{k}]", i) for k, i in enumerate(argnums)]
        else:
            self.argnums = None if argnums is None else _check.integer("argnums", argnums)
        self.with_value = with_value
        super().__init__(function)

    def _finish(self, graph: Graph, result: Any) -> Recipe:
        if not isinstance(result, Tensor) or result.shape != ():
            raise ValueError(
                f"{_name(self.function)} must return a scalar to be differentiated, got {result!r}; its sum or mean "
                "is one: .sum(), .mean()"
            )
        inputs, argnums = graph.inputs, self.argnums
        if argnums is None:
            chosen = [i for i, t in enumerate(inputs) if t.dtype.kind == "f"]
        else:
            chosen = [argnums] if isinstance(argnums, int) else list(argnums)
            for i in chosen:
                if not -len(inputs) <= i < len(inputs):
                    raise ValueError(f"argnums names argument {i}; there are {len(inputs)}")
        wrt = [inputs[i] for i in chosen]
        grads = gradients(graph, {result: one(result.dtype)}, wrt)
        filled = [zeros_like(t) if g is None else g for g, t in zip(grads, wrt, strict=True)]
        single = isinstance(argnums, int) or (argnums is None and len(inputs) == 1)
        with_value = self.with_value

        def rebuild(values: Sequence[Any]) -> Any:
            grads = values[1] if single else tuple(values[1:])
            return (values[0], grads) if with_value else grads

        return Recipe([[result, *filled]], rebuild)


def _names(count: int) -> list[str]:
    return [f"argument {i}" for i in range(count)]


def _arguments(args: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Arguments as arrays of one dtype: numbers take that of the arrays, float64 if there are none."""
    arrays = [
        None if isinstance(a, (int, float)) and not isinstance(a, bool) else to_array(a, f"argument {i}")
        for i, a in enumerate(args)
    ]
    floats = {a.dtype: i for i, a in enumerate(arrays) if a is not None and a.dtype.kind == "f"}
    if len(floats) > 1:
        kinds = ", ".join(f"argument {i} is {dtype}" for dtype, i in floats.items())
        raise TypeError(f"the arguments mix dtypes: {kinds}; convert them to one with .astype(np.float32)")
    dtype = next(iter(floats), np.dtype(np.float64))
    return [np.asarray(args[i], dtype) if a is None else a for i, a in enumerate(arrays)]


def trace(function: Callable[..., Any]) -> Traced:
    """Make a function of tensors one of arrays, run as a plan.

    Parameters
    ----------
    function : callable
        Written with arithmetic, comparisons (masks of 1 and 0, combined by &, | and ~), `@`, methods of
        tensors (exp, log, sqrt, tanh, sum, mean, max, reshape, transpose, ...), fastnn.nn.functional,
        fn.where, fn.concat, and indexing by constants and tensors of labels. It may return a tensor, or
        tuples, lists or dicts of them.

    Returns
    -------
    Traced
        Takes arrays and numbers; traced anew for each combination of shapes.

    Examples
    --------
    >>> fn.trace(lambda x, y: (x * y).sum())(np.ones(3), np.ones(3))
    3.0
    """
    return Traced(function)


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
    return Differentiated(function, argnums, with_value=True)


def grad(function: Callable[..., Any], argnums: int | Sequence[int] | None = None) -> Traced:
    """A function's gradients for its arguments; see `value_and_grad`."""
    return Differentiated(function, argnums, with_value=False)


def zeros_like(tensor: Tensor) -> Tensor:
    return broadcast_to(tensor.dtype.type(0), tensor.shape)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
