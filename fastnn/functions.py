"""Functions of arrays as programs: fn.trace, fn.value_and_grad, fn.grad."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Graph, Tensor
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import flatten_result, only, to_array
from fastnn.lowering.gradients import gradients, one
from fastnn.lowering.program import Program
from fastnn.ops.layout import broadcast_to
from fastnn.ops.shape import concat
from fastnn.sizes import same_shape


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


class Curved(Traced):
    """Products of a function's Hessian with a vector; made by `hvp`."""

    def __init__(self, function: Callable[..., Any], argnum: int, parameters: Sequence[Any] | None) -> None:
        self.argnum = _check.integer("argnum", argnum, 0)
        self.parameters = None if parameters is None else list(parameters)
        super().__init__(function)

    def _make_programs(self) -> None:
        def forward(*tensors: Tensor) -> Any:
            return self.function(*tensors[:-1]), tensors[-1]  # the vector is returned, lest it be taken for unused

        roots = (self.function, self.parameters)
        self._programs = Programs(forward, self._finish, _names, roots, _name(self.function), any_batch=False)

    def _finish(self, graph: Graph, result: Any) -> Recipe:
        result, v = result
        if not isinstance(result, Tensor) or result.shape != ():
            raise ValueError(f"{_name(self.function)} must return a scalar to be differentiated, got {result!r}")
        leaves, directions = self._directions(graph, v)
        first = gradients(graph, {result: one(result.dtype)}, leaves)
        terms = [(g * d).sum() for g, d in zip(first, directions, strict=True) if g is not None]
        if terms:
            slope = terms[0]
            for term in terms[1:]:
                slope = slope + term
            second = gradients(graph, {slope: one(slope.dtype)}, leaves)
        else:
            second = [None] * len(leaves)
        found = [zeros_like(t) if h is None else h for h, t in zip(second, leaves, strict=True)]
        return self._product(found)

    def _directions(self, graph: Graph, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What is differentiated for, and the vector's parts."""
        inputs = graph.inputs[:-1]
        if self.parameters is None:
            if self.argnum >= len(inputs):
                raise ValueError(f"argnum is {self.argnum}; there are {len(inputs)} arguments")
            leaves = [inputs[self.argnum]]
            if not same_shape(v.shape, leaves[0].shape):
                raise ValueError(f"the vector has shape {v.shape}; expected {leaves[0].shape}, the argument's")
            directions = [v]
        else:
            leaves = [graph.memory(p._storage) for p in self.parameters]
            sizes = [p.numel() for p in self.parameters]
            if v.shape != (sum(sizes),):
                raise ValueError(f"the vector has shape {v.shape}; expected ({sum(sizes)},), all parameters' elements")
            ends = np.cumsum(sizes).tolist()
            directions = [
                v[end - p.numel() : end].reshape(p.shape).permute(*p._order)
                for p, end in zip(self.parameters, ends, strict=True)
            ]
        return leaves, directions

    def _product(self, found: list[Tensor]) -> Recipe:
        """The product's parts as what a call returns."""
        if self.parameters is None:
            return Recipe([found], only)
        flat = [h.permute(*p._shown).flatten() for h, p in zip(found, self.parameters, strict=True)]
        return Recipe([[concat(flat, 0)]], only)


class Hessian:
    """A function's second derivatives as one array; made by `hessian`."""

    def __init__(self, product: Curved) -> None:
        self.product = product

    def __call__(self, *args: Any) -> np.ndarray[Any, Any]:
        arrays = _arguments(args)
        if self.product.parameters is None:
            shape: tuple[int, ...] = arrays[self.product.argnum].shape
            dtype = arrays[self.product.argnum].dtype
        else:
            shape = (sum(p.numel() for p in self.product.parameters),)
            dtype = self.product.parameters[0].dtype
        size = math.prod(shape)
        unit = np.zeros(size, dtype)
        rows = np.empty((size, size), dtype)
        for i in range(size):
            unit[i] = 1
            rows[i] = np.reshape(self.product(*arrays, unit.reshape(shape)), -1)
            unit[i] = 0
        return rows.reshape((*shape, *shape))


def hvp(function: Callable[..., Any], argnum: int = 0, parameters: Sequence[Any] | None = None) -> Curved:
    """Products of a function's Hessian with vectors, without the Hessian itself (Pearlmutter, 1994).

    Twice differentiable are arithmetic, indexing, reductions, products, activations, softmax, mean squared error, and
    cross entropy without class weights; not convolutions, pooling, norms and the other losses, for which arithmetic can
    stand in.

    Parameters
    ----------
    function : callable
        As for `trace`; must return a scalar.
    argnum : int, default 0
        The argument to differentiate for.
    parameters : sequence of Parameter, optional
        Differentiate for these instead, of a model that the function calls.

    Returns
    -------
    Traced
        Called with the function's arguments and, behind them, a vector of the shape of the argument (of all elements of
        the parameters, one after another), it returns the product, of that shape.

    Examples
    --------
    >>> fn.hvp(lambda x: (x**3).sum())(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    array([  6., 120.])
    """
    return Curved(function, argnum, parameters)


def hessian(function: Callable[..., Any], argnum: int = 0, parameters: Sequence[Any] | None = None) -> Hessian:
    """A function's Hessian, by a product for each of its rows; arguments as for `hvp`.

    Returns
    -------
    callable
        Called with the function's arguments, it returns an array of the argument's shape twice; for parameters (n, n),
        n being the number of all their elements.

    Examples
    --------
    >>> fn.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 3.0]))
    array([[6., 2.],
           [2., 0.]])
    """
    return Hessian(Curved(function, argnum, parameters))


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
