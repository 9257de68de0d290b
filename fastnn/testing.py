"""Checks of gradients against central differences."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.functions import zeros_like
from fastnn.graph import INPUT, Graph, Tensor
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import flatten_result, to_array
from fastnn.lowering.gradients import gradients
from fastnn.lowering.program import Program
from fastnn.nn.loss import Loss
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.ops.elementwise import add
from fastnn.seed import state

__all__ = ["gradcheck"]

Array = np.ndarray[Any, Any]

#: How many wrong elements an error shows.
WORST = 10


def gradcheck(
    function: Callable[..., Any],
    *inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-6,
    wrt: Sequence[int] | None = None,
) -> bool:
    """Compare fastnn's gradients with central differences, in float64.

    The outputs are weighted by fixed random numbers and summed; the gradient of that sum is checked
    for every element of the inputs and, for a module, of its trained parameters. Dropout draws one
    and the same mask throughout. Stay away from kinks: inputs of relu should be larger than `eps`.

    Parameters
    ----------
    function : callable or Module
        Of tensors; returns a tensor, or tuples, lists or dicts of them. A module must be float64
        (`model.double()`).
    *inputs : array
        Floating ones are converted to float64; integer ones (labels) are passed on.
    eps : float
        The step. The error of central differences is about eps**2 times the third derivative plus
        1e-16 / eps times the outputs; for what is linear in its arguments 1.0 is exact.
    atol, rtol : float
        The difference allowed, atol + rtol * abs(central difference).
    wrt : sequence of int, optional
        The inputs to check; by default all floating ones, of a loss the first.

    Returns
    -------
    True

    Raises
    ------
    AssertionError
        If a gradient is wrong: with a table of the worst elements, of at most WORST.
    TypeError, ValueError
        If a parameter is not float64, or there is nothing to check.
    """
    arrays = [to_array(x, f"input[{i}]") for i, x in enumerate(inputs)]
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    if wrt is None:
        wrt = floats[:1] if isinstance(function, Loss) else floats
    if not set(wrt) <= set(floats):
        raise ValueError(f"wrt must name floating inputs, {floats}; got {list(wrt)}")
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps}")
    parameters = _parameters(function)
    if not wrt and not parameters:
        raise ValueError("there is nothing to check: no floating input, no trained parameter")

    # What is changed in small steps: arrays that the programs read.
    checked = {f"input[{i}]": arrays[i] for i in wrt} | {name: p.data for name, p in parameters}
    before = state().copy()

    def run(program: Program, *extra: Array) -> tuple[Any, ...]:
        state()[:] = before
        return program.plans[0].run(*arrays, *extra)

    entries: list[tuple[float, str, float, float]] = []  # how many times the difference is what is allowed
    try:
        forward = _program(function, arrays, None, parameters)
        rng = np.random.default_rng(0)
        weights = [rng.uniform(0.5, 1.5, np.shape(y)) for y in run(forward)]
        grads = run(_program(function, arrays, wrt, parameters), *weights)
        storages = zip(parameters, grads[len(wrt) :], strict=True)
        views = [*grads[: len(wrt)], *(p._view(np.asarray(g)) for (_, p), g in storages)]
        for (name, array), grad in zip(checked.items(), views, strict=True):
            for index in np.ndindex(array.shape):
                given = float(np.asarray(grad)[index])
                numeric = _central_difference(array, index, eps, lambda: run(forward), weights)
                excess = abs(given - numeric) / (atol + rtol * abs(numeric))
                excess = np.inf if np.isnan(excess) else excess
                if excess > 1:
                    entries.append((excess, f"{name}{list(index) or ''}", given, numeric))
    finally:
        state()[:] = before
    if entries:
        worst = heapq.nlargest(WORST, entries)
        _, name, given, numeric = worst[0]
        raise AssertionError(
            f"gradient for {name}: {given:.12g}, by central differences {numeric:.12g}; atol={atol:g}, rtol={rtol:g}\n"
            f"{len(entries)} element(s) are wrong, the worst of them:\n{_table(worst)}"
        )
    return True


def _table(entries: Sequence[tuple[float, str, float, float]]) -> str:
    """A line an element: its name, both gradients, their difference, and how many times that is what is allowed."""
    rows = [("element", "gradient", "by differences", "difference", "times allowed")]
    for excess, name, given, numeric in entries:
        rows.append((name, f"{given:.9g}", f"{numeric:.9g}", f"{given - numeric:.3g}", f"{excess:.3g}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(lines)


def _central_difference(
    array: Array, index: tuple[int, ...], eps: float, run: Callable[[], Any], weights: list[Array]
) -> float:
    value = array[index]
    try:
        array[index] = value + eps
        upper = array[index]
        above = run()
        array[index] = value - eps
        step = upper - array[index]
        below = run()
    finally:
        array[index] = value
    # Differences before the sum: outputs that do not depend on the element add no rounding error.
    return float(sum(np.sum(w * (a - b)) for w, a, b in zip(weights, above, below, strict=True)) / step)


def _parameters(function: Any) -> list[tuple[str, Parameter]]:
    if not isinstance(function, Module):
        return []
    trained = [(name, p) for name, p in function.named_parameters() if p.requires_grad]
    for name, p in trained:
        if p.dtype != np.float64:
            raise TypeError(f"{name} is {p.dtype}; gradients are checked in float64: call model.double() first")
    return trained


def _program(
    function: Callable[..., Any],
    arrays: list[Array],
    wrt: Sequence[int] | None,
    parameters: list[tuple[str, Parameter]],
) -> Program:
    """The program of the outputs (wrt=None), or of gradients, which also takes their weights."""

    def finish(graph: Graph, result: Any) -> Recipe:
        tensors, rebuild = flatten_result(result, what)
        if wrt is None:
            return Recipe([tensors], rebuild)
        leaves = [
            *(graph.inputs[i] for i in wrt),
            *(graph.memory(p._storage) for _, p in parameters),
        ]
        seeds: dict[Tensor, Tensor] = {}
        for k, tensor in enumerate(tensors):
            seed = graph.add(INPUT, (), name=f"weight[{k}]", shape=tensor.shape, dtype=tensor.dtype).output
            graph.inputs.append(seed)
            seeds[tensor] = add(seeds[tensor], seed) if tensor in seeds else seed
        found = gradients(graph, seeds, leaves)
        grads = [zeros_like(t) if g is None else g for t, g in zip(leaves, found, strict=True)]
        return Recipe([grads], tuple)

    what = getattr(function, "__name__", type(function).__name__)
    names = [f"input[{i}]" for i in range(len(arrays))]
    return Programs(function, finish, lambda _: names, (function,), what).find(arrays).program
