"""A model's trainable parameters as one vector, for methods that look at all data at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.nn.module import Module
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
