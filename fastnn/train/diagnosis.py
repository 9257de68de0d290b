"""Why a loss is not finite: the same batch once more, with the output of every module to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.graph import Graph, Tensor, active_graph
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import tensors_in
from fastnn.nn.module import Module
from fastnn.seed import state
from fastnn_ext.atomic import Meanwhile

Array = np.ndarray[Any, Any]


def diagnose(
    model: Module, function: Callable[..., Any], arrays: Sequence[Array], names: Sequence[str], roots: Sequence[Any]
) -> tuple[float, str]:
    """The loss of a batch, and what made it NaN or infinite.

    The model runs in the mode it is in and draws the same dropout masks as a step on this batch would; its
    running statistics and the random numbers are then as they were.

    Parameters
    ----------
    model : Module
    function : callable
        Of tensors: the loss of the model's output, a scalar.
    arrays : sequence of array
        Its arguments, as plans take them.
    names : sequence of str
        What to call them.
    roots : sequence
        What the trace depends on.

    Returns
    -------
    loss : float
    reason : str
        Which of the arrays is not finite, or the first layer whose output is not.
    """
    owners: list[Module] = []

    def forward(*tensors: Tensor) -> list[Tensor]:
        value = function(*tensors)
        inside = set(model.modules())
        outputs: dict[Tensor, Module] = {}
        for module, result in active_graph().calls:
            if module in inside:
                for tensor in tensors_in(result):
                    outputs.setdefault(tensor, module)
        owners[:] = outputs.values()
        return [value, *outputs]

    def finish(graph: Graph, results: list[Tensor]) -> Recipe:
        return Recipe([results], tuple)

    programs = Programs(forward, finish, lambda _: names, roots, "the model with its loss", any_batch=False)
    program = programs.find(arrays).program
    # Running statistics and random numbers have their values again afterwards.
    kept = [b._storage for b in model.buffers() if b._storage.flags.writeable]
    with Meanwhile([], [*kept, state()]):
        value, *outputs = program.plans[0].run(*arrays)
    for name, array in zip(names, arrays, strict=True):
        if not _finite(array):
            row = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))[0]
            return value, f"{name} is not finite, first in sample {row} of the batch"
    for module, output in zip(owners, outputs, strict=True):
        if not _finite(output):
            return value, f"the first layer whose output is not finite is {_describe(model, module)}"
    return value, "the outputs of all layers are finite, so that it is the loss itself"


def _describe(model: Module, module: Module) -> str:
    """A module's name and type, and which of its own arrays are not finite."""
    name = next(name for name, entry in model.named_modules() if entry is module)
    text = f"{name} ({type(module).__name__})" if name else f"the whole {type(module).__name__}"
    own = {**module._parameters, **module._buffers}
    wrong = [name for name, value in own.items() if not _finite(value.data)]
    return f"{text}, whose {' and '.join(wrong)} is not finite either" if wrong else text


def _finite(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else bool(np.isfinite(value).all())
