"""Models of averaged weights, which optimizers keep where their setting `averaging` says so."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.data.dataset import is_array
from fastnn.nn.module import Module
from fastnn.nn.norm import _BatchNorm
from fastnn.nn.parameter import Parameter
from fastnn.optim.optimizer import Optimizer
from fastnn.seed import state
from fastnn.train.batches import Batches, in_order, inputs_in_order
from fastnn.train.intake import Intake
from fastnn_ext.atomic import Meanwhile, commit


def averaged(model: Module, optimizer: Optimizer, out: Module | None = None) -> Module:
    """A model whose parameters are the averages that an optimizer keeps.

    Parameters of which there is no average yet, and buffers, are as the model's are now; see `update_bn`.

    Parameters
    ----------
    model : Module
    optimizer : Optimizer
        Of the model's parameters, with the setting averaging=0.995, say, or "uniform".
    out : Module, optional
        What an earlier call gave: it gets the present averages, and no new copy of the model is made.

    Returns
    -------
    Module
        A copy of the model, or `out`.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the optimizer averages nothing, or `out` is not a copy of the model; it is unchanged then.

    Examples
    --------
    >>> opt = optim.SGD(model.parameters(), lr=0.1, averaging=0.995)
    >>> step = fn.TrainStep(model, nn.CrossEntropyLoss(), opt)
    >>> loss = step(x, y)
    >>> smooth = fn.train.averaged(model, opt)
    >>> loss = step(x, y)
    >>> logits = fn.train.averaged(model, opt, out=smooth)(x)
    """
    _check.instance("model", model, Module)
    _check.instance("optimizer", optimizer, Optimizer)
    if not any("average" in group.states for group in optimizer.param_groups):
        raise ValueError(
            'the optimizer keeps no averages: make it with averaging=0.995 or averaging="uniform", or train with the '
            "callback Averaging"
        )
    if out is None:
        out = copy.deepcopy(model)
    values = _entries(model)
    targets = _entries(_check.instance("out", out, Module))
    if [(name, p._storage.shape, p.dtype) for name, p in targets.items()] != [
        (name, p._storage.shape, p.dtype) for name, p in values.items()
    ]:
        raise ValueError("out must be what averaged(model, optimizer) gave for this model")
    sources = {p: p._storage for p in values.values()} | _averages(optimizer)
    pairs = [(targets[name]._storage, sources[p]) for name, p in values.items()]
    commit([(target, source) for target, source in pairs if target.flags.writeable])  # what is frozen has its values
    return out


def _entries(model: Module) -> dict[str, Parameter]:
    """Parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _averages(optimizer: Optimizer) -> dict[Parameter, np.ndarray[Any, Any]]:
    """The averages that there are, as they lie in memory."""
    return {
        p: group.states["average"][begin : begin + p.size].reshape(p._storage.shape)
        for group in optimizer.param_groups
        if "average" in group.states
        for p, begin, seen in zip(group["params"], group.begins, group.counters["averaged"], strict=True)
        if seen >= group["averaging_every"]
    }


def update_bn(data: Any, model: Module, batch_size: int | None = None) -> None:
    """Take the running statistics of all batch norms anew: their means over the batches of data, as PyTorch's does.

    Averaged weights make other activations than those that the statistics were taken of.

    Parameters
    ----------
    data : array, tuple of arrays, ArrayDataset, DataLoader or iterable of batches
        The model's inputs: one array, or as for `Trainer.fit`, with the loss's target, which is not used.
    model : Module
        It runs in training mode, and is then in the mode that it was in.
    batch_size : int, default 256
        A DataLoader brings its own.

    Raises
    ------
    TypeError, ValueError
        If a batch does not fit. Whatever is raised, the statistics are as they were.

    Examples
    --------
    >>> fn.train.update_bn((x, y), model)
    """
    _check.instance("model", model, Module)
    batches = _inputs(data, batch_size)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    intake = Intake(model, "data")
    arrays = [state(), *(value._storage for norm in norms for value in norm._buffers.values())]
    modes = [(vars(module), "training", True) for module in model.modules()]
    # They are as before behind the block, however it ends: what came of it is copied as a whole.
    with Meanwhile([*modes, *((vars(norm), "momentum", None) for norm in norms)], arrays):
        for norm in norms:
            norm.reset_running_stats()
        for batch in batches:
            intake.run(batch._replace(target=None), lambda b: model(*b.inputs, **b.keywords))
        found = [(array, array.copy()) for array in arrays]
    commit(found)


def _inputs(data: Any, batch_size: int | None) -> Batches:
    """A pass over the model's inputs."""
    if is_array(data):
        return inputs_in_order("data", data, 256 if batch_size is None else batch_size)
    return in_order("data", data, batch_size)
