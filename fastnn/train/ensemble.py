"""Ensembles: several models behind one `predict`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fastnn.nn.functional as F
from fastnn import _check
from fastnn.graph import Tensor
from fastnn.nn.container import ModuleList
from fastnn.nn.module import Module
from fastnn.train.evaluation import predict


class Ensemble(Module):
    """The mean of several models' outputs, computed as one plan.

    Models that began with other weights, or were trained on other data, err in other places, which the mean evens out
    (Hansen and Salamon, 1990). Members are trained one by one, before; `callbacks.Snapshots` gets them from one run.

    Parameters
    ----------
    models : sequence of Module
        Of the same inputs, and one output of the same shape.
    average : {"outputs", "softmax", "sigmoid"}, default "outputs"
        What the mean is taken of: the outputs as they are, or the probabilities that they are logits of, by softmax
        over dimension 1, or by sigmoid.

    Attributes
    ----------
    members : ModuleList
        The models.

    Raises
    ------
    TypeError, ValueError
        If there is no model, or something else is given.

    Examples
    --------
    >>> def network(seed):
    ...     fn.manual_seed(seed)
    ...     return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> ensemble = fn.train.Ensemble([network(seed) for seed in range(3)], average="softmax")
    >>> ensemble.predict(np.zeros((5, 4), np.float32)).shape
    (5, 3)
    """

    def __init__(self, models: Sequence[Module], average: str = "outputs") -> None:
        super().__init__()
        members = list(models)
        if not members:
            raise ValueError("models is empty: an ensemble has one member or more")
        for i, model in enumerate(members):
            _check.instance(f"models[{i}]", model, Module)
        self.members = ModuleList(members)
        self.average = _check.choice("average", average, "outputs", "softmax", "sigmoid")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = [self._averaged(i, member(*args, **kwargs)) for i, member in enumerate(self.members)]
        shapes = [tuple(output.shape) for output in outputs]
        if shapes.count(shapes[0]) != len(shapes):
            raise ValueError(f"the members of an ensemble must give outputs of one shape, got {_check.some(shapes)}")
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total / len(outputs)

    def _averaged(self, i: int, output: Any) -> Any:
        """What the mean takes of a member's output."""
        if not isinstance(output, Tensor):
            raise TypeError(f"members[{i}] must give one output, got {_check.kind_of(output)}")
        if self.average == "outputs":
            return output
        return F.softmax(output, 1) if self.average == "softmax" else F.sigmoid(output)

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """The mean in evaluation mode.

        Parameters
        ----------
        x : array, or tuple of arrays for models of several inputs
        batch_size : int, default 256
            How many samples are computed at a time.

        Returns
        -------
        array
            For all samples.
        """
        return predict(self, x, batch_size)

    def extra_repr(self) -> str:
        return f"average={self.average!r}"
