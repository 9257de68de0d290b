"""Penalties on signals, as a part of what a training step minimizes."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.graph import Tensor, active_graph
from fastnn.nn.module import Module, RemovableHandle


class ActivityRegularization(Module):
    """Give back the input, and add a penalty on it to the loss: l1 * sum of |x| + l2 * sum of x ** 2.

    The sums are those of a sample; the penalty is their mean over the batch. It is a part of what `TrainStep` and
    `Trainer` minimize and return, and of the gradients of `backward`, in training mode alone: losses of evaluation are
    without. `nn.utils.activity_regularizer` adds it to any layer's output.

    Parameters
    ----------
    l1 : float, default 0.0
        For signals of which many are 0.
    l2 : float, default 0.0

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.ActivityRegularization(l1=1e-3), nn.Linear(32, 10))
    >>> step = fn.TrainStep(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1))
    >>> loss = step(x, y)
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        super().__init__()
        self.l1 = _check.real("l1", l1, 0)
        self.l2 = _check.real("l2", l2, 0)

    def forward(self, input: Any) -> Any:
        if self.training:
            penalize(input, self.l1, self.l2)
        return input

    def extra_repr(self) -> str:
        return f"l1={self.l1:g}, l2={self.l2:g}"


def activity_regularizer(module: Module, l1: float = 0.0, l2: float = 0.0) -> RemovableHandle:
    """Add a penalty on a layer's output to the loss, in training mode: see `nn.ActivityRegularization`.

    Parameters
    ----------
    module : Module
        Whose output is one tensor.
    l1, l2 : float, default 0.0

    Returns
    -------
    RemovableHandle
        Its `remove()` takes the penalty away.

    Examples
    --------
    >>> handle = nn.utils.activity_regularizer(model[0], l1=1e-4)
    >>> loss = fn.TrainStep(model, nn.CrossEntropyLoss(), opt)(x, y)
    >>> handle.remove()
    """
    _check.instance("module", module, Module)
    factors = _check.real("l1", l1, 0), _check.real("l2", l2, 0)

    def hook(layer: Module, args: Any, output: Any) -> None:
        if layer.training:
            penalize(output, *factors)

    return module.register_forward_hook(hook)


def penalize(signal: Any, l1: float, l2: float) -> None:
    """Note a penalty on a signal in the graph, for whoever trains."""
    if not isinstance(signal, Tensor) or not signal.ndim:
        raise TypeError(f"an activity penalty is on one tensor with a row for each sample, got {signal!r}")
    rows = signal.flatten(1) if signal.ndim > 1 else signal.unsqueeze(1)
    if l1:
        active_graph().penalties.append((rows.abs().sum(1) * l1).mean())
    if l2:
        active_graph().penalties.append((rows.square().sum(1) * l2).mean())
