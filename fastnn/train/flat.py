"""A model's trainable parameters as one vector, for methods that look at all data at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.functions import Traced, zeros_like
from fastnn.graph import Graph, Tensor, active_graph
from fastnn.lowering.cache import Recipe
from fastnn.lowering.gradients import gradients, one
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.ops.shape import concat
from fastnn_ext.atomic import commit

Array = np.ndarray[Any, Any]


class Flat:
    """Parameters that require a gradient, one behind the other, in float64.

    Attributes
    ----------
    params : list of Parameter
    before : array
        The values when this was made.
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self.params = [p for p in model.parameters() if p.requires_grad]
        if not self.params:
            raise ValueError("the model has no parameter that requires a gradient")
        self.before = joined([p._view(p._storage) for p in self.params])

    def put(self, values: Array) -> None:
        """Let the parameters have these values."""
        parts = np.split(values, np.cumsum([p.size for p in self.params])[:-1])
        pairs = zip((p._view(p._storage) for p in self.params), parts, strict=True)
        commit([(array, part.reshape(array.shape).astype(array.dtype)) for array, part in pairs])

    @property
    def arrays(self) -> list[Array]:
        """Where the values lie."""
        return [p._storage for p in self.params]

    def found(self) -> list[tuple[Array, Array]]:
        """What `commit` copies to let the parameters have the values that they have now."""
        return [(array, array.copy()) for array in self.arrays]


def joined(arrays: list[Array]) -> Array:
    """One vector of all."""
    return np.concatenate([array.reshape(-1).astype(np.float64) for array in arrays])


def loss_of(model: Module, loss: Any) -> Callable[..., Any]:
    """The loss of a model, penalties on its signals included, as a function of tensors: inputs, then the target."""

    def value(*tensors: Tensor) -> Any:
        total = loss(model(*tensors[:-1]), tensors[-1])
        for penalty in active_graph().penalties:
            total = total + penalty
        return total

    return value


class Slope(Traced):
    """A function's value, and its gradient for parameters as one vector."""

    def __init__(self, function: Callable[..., Any], parameters: list[Parameter]) -> None:
        self.parameters = parameters
        super().__init__(function)

    def _finish(self, graph: Graph, result: Any) -> Recipe:
        if not isinstance(result, Tensor) or result.shape != ():
            raise ValueError(f"the loss must be a scalar to train on, got {result!r}")
        leaves = [graph.memory(p._storage) for p in self.parameters]
        grads = gradients(graph, {result: one(result.dtype)}, leaves)
        found = [zeros_like(t) if g is None else g for g, t in zip(grads, leaves, strict=True)]
        flat = [g.permute(*p._shown).flatten() for g, p in zip(found, self.parameters, strict=True)]
        return Recipe([[result, concat(flat, 0)]], tuple)
