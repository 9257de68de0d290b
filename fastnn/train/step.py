"""TrainStep: forward, loss, backward and update as one native call."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.graph import Graph, Tensor
from fastnn.lowering.builder import Builder
from fastnn.lowering.call import build, flatten_result, to_array
from fastnn.lowering.gradients import gradients, one
from fastnn.lowering.program import Program
from fastnn.nn import parameter as parameters_
from fastnn.nn.module import Module, fits
from fastnn.optim.optimizer import Optimizer


class TrainStep:
    """One step of training as one native call.

    Parameters
    ----------
    model : Module
        Runs in the mode it is in at each call; call `model.train()` for dropout to drop.
    loss : callable
        loss(output, target), a scalar: a loss module, or any function of tensors.
    optimizer : Optimizer
        Over parameters of the model; others of the model are left alone.
    outputs : bool, default False
        Whether a call returns the model's output beside the loss (for metrics).
    finite : bool, default False
        Whether a step whose loss is NaN or infinite raises FloatingPointError instead of being made.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the optimizer holds no trainable parameter of the model.

    Examples
    --------
    >>> step = fn.TrainStep(model, nn.CrossEntropyLoss(), opt)
    >>> loss = step(xb, yb)
    """

    def __init__(
        self, model: Module, loss: Any, optimizer: Optimizer, *, outputs: bool = False, finite: bool = False
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"model must be a Module, got {type(model).__name__}")
        if not callable(loss):
            raise TypeError(f"loss must be callable, got {type(loss).__name__}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer, got {type(optimizer).__name__}")
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in held for p in model.parameters()):
            raise ValueError("the optimizer holds no parameter of this model")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.outputs = outputs
        self.finite = finite
        self._version = -1
        self._signature: tuple[Any, ...] = ()
        self._programs: dict[Any, tuple[Program, Any]] = {}
        self._latest: tuple[Any, Any] | None = None

    def __call__(self, *batch: Any) -> Any:
        """Train on one batch.

        Parameters
        ----------
        *batch : array
            The model's inputs, then the loss's target (int64 labels, or an array of the model's dtype).

        Returns
        -------
        float, or (float, output) if outputs=True
            The loss before the update.

        Raises
        ------
        TypeError, ValueError
            If an array does not fit; nothing is changed then.
        FloatingPointError
            With finite=True, if the loss is not; nothing is changed then.
        KeyboardInterrupt
            On Ctrl-C: the step was either made as a whole or not at all.
        """
        if self._version != parameters_.structure_version:
            self._refresh()
        if self._latest is not None:
            plan, rebuild = self._latest
            values = plan.try_run(*batch)
            if values is not None:
                return values[0] if rebuild is None else (values[0], rebuild(values[1:]))
        arrays = self._arrays(batch)
        program, rebuild = self._program(arrays)
        self._latest = program.plans[0], rebuild
        values = program.plans[0].run(*arrays)
        return values[0] if rebuild is None else (values[0], rebuild(values[1:]))

    def plan(self, *batch: Any) -> Program:
        """The program that a step on such a batch runs: see its explain() and profile()."""
        self._refresh()
        return self._program(self._arrays(batch))[0]

    def diagnose(self, *batch: Any) -> tuple[float, str]:
        """The loss of a batch, and why it is not finite; nothing is changed.

        Returns
        -------
        loss : float
        reason : str
            Such as "the first layer whose output is not finite is fc2 (Linear)".
        """
        from fastnn.train.diagnosis import diagnose

        return diagnose(self.model, self.loss, self._arrays(batch), self._names(len(batch)))

    def _arrays(self, batch: tuple[Any, ...]) -> list[np.ndarray[Any, Any]]:
        if len(batch) < 2:
            raise TypeError(f"a step takes the model's inputs and a target, got {len(batch)} array(s)")
        return [to_array(a, name) for a, name in zip(batch, self._names(len(batch)), strict=True)]

    @staticmethod
    def _names(count: int) -> list[str]:
        if count == 2:
            return ["input", "target"]
        return [*(f"input[{i}]" for i in range(count - 1)), "target"]

    def _refresh(self) -> None:
        loss = self.loss.signature() if isinstance(self.loss, Module) else id(self.loss)
        groups = tuple(group.signature() for group in self.optimizer.param_groups)
        signature = (self.model.signature(), loss, groups)
        if signature != self._signature:
            self._signature = signature
            self._programs.clear()
            self._latest = None
        self._version = parameters_.structure_version

    def _program(self, arrays: list[np.ndarray[Any, Any]]) -> tuple[Program, Any]:
        key = tuple((a.shape[1:], a.dtype.char, a.ndim) for a in arrays)
        entry = self._programs.get(key)
        if entry is not None and fits(entry[0], arrays):
            return entry
        exact = (*key, arrays[0].shape[:1])
        if exact in self._programs:
            return self._programs[exact]
        entry = build(self._forward, arrays, self._names(len(arrays)), self._finish)
        self._programs[key if entry[0].batched else exact] = entry
        return entry

    def _forward(self, *tensors: Tensor) -> tuple[Any, Any]:
        output = self.model(*tensors[:-1])
        return self.loss(output, tensors[-1]), output

    def _finish(self, graph: Graph, result: tuple[Any, Any]) -> tuple[Program, Any]:
        loss, output = result
        if not isinstance(loss, Tensor) or loss.shape != ():
            raise ValueError(f"the loss must be a scalar to train on, got {loss!r}; use reduction='mean' or 'sum'")
        tensors, rebuild = flatten_result(output, f"{type(self.model).__name__}.forward")
        trained = [p for g in self.optimizer.param_groups for p in g["params"] if p.requires_grad]
        leaves = [graph.memory(p._storage) for p in trained]
        grads = gradients(graph, {loss: one(loss.dtype)}, leaves)
        sinks = [
            (grad, p._gradient_storage(), 0) for p, grad in zip(trained, grads, strict=True) if grad is not None
        ]
        if not sinks:
            raise ValueError("the loss depends on no trainable parameter that the optimizer holds")
        wanted = [loss, *tensors] if self.outputs else [loss]

        def update(to: Builder) -> None:
            if self.finite:
                to.emit("finite", [], [loss], [], dtype=loss.dtype)
            self.optimizer.emit(to)

        program = Program(graph, [wanted], sinks, update)
        return program, rebuild if self.outputs else None
