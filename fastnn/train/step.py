"""TrainStep: forward, loss, backward and update as one native call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Graph, Tensor, active_graph
from fastnn.lowering.builder import Builder
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import Keywords, flatten_result, only, to_array
from fastnn.lowering.gradients import gradients, one
from fastnn.lowering.program import Program
from fastnn.nn.module import Module
from fastnn.ops.elementwise import add, mul
from fastnn.ops.index import sparse_rows
from fastnn.optim.optimizer import Optimizer
from fastnn.train.diagnosis import diagnose
from fastnn.train.weighting import as_sample_weight, shares, weighted_sum
from fastnn_ext.plan import Receipt
from fastnn_ext.watch import ATTRIBUTE


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
    accumulate : int, default 1
        Update once in so many calls, from the mean of their gradients: as one call on a batch so many times as large,
        where the loss is a mean and batches are of one size. The update is a native run of its own then. Gradients that
        wait for it are no part of a checkpoint.

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
        self,
        model: Module,
        loss: Any,
        optimizer: Optimizer,
        *,
        outputs: bool = False,
        finite: bool = False,
        accumulate: int = 1,
    ) -> None:
        _check.instance("model", model, Module)
        if not callable(loss) or isinstance(loss, type):
            wanted = "callable as loss(output, target), such as nn.CrossEntropyLoss()"
            raise TypeError(f"loss must be {wanted}, got {_check.kind_of(loss)}")
        _check.instance("optimizer", optimizer, Optimizer, "an Optimizer, such as optim.SGD(model.parameters())")
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in held for p in model.parameters()):
            raise ValueError("optimizer holds no parameter of this model; make it of model.parameters()")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.outputs = outputs
        self.finite = finite
        self.accumulate = _check.integer("accumulate", accumulate, 1)
        self._gathered = np.zeros(1)  # batches whose gradients wait for an update; programs count them
        self._receipt: Receipt | None = None  # where each step leaves its result; a call then returns the loss alone
        self._make_programs()

    def __setattr__(self, name: str, value: Any) -> None:
        """Another model, loss or optimizer, or other settings: other programs."""
        super().__setattr__(name, value)
        if name not in ("_programs", "_others", "_updates") and "_programs" in self.__dict__:
            self._make_programs()

    def _make_programs(self) -> None:
        roots = (self.model, self.loss, self.optimizer)
        what = "the model with its loss"
        if self.accumulate == 1:
            self._programs = Programs(self._forward, self._finish, self._names, roots, what)
        else:
            self._programs = Programs(self._forward, self._finish_first, self._names, roots, what)
            self._others = Programs(self._forward, self._finish_other, self._names, roots, what)
            self._updates = self.optimizer._update_programs(self._emit_counter(0))

    def __call__(self, *batch: Any, **kwargs: Any) -> Any:
        """Train on one batch.

        Parameters
        ----------
        *batch : array
            The model's inputs, then the loss's target (int64 labels, or an array of the model's dtype).
        **kwargs
            More of the model's inputs, or settings, by name, as for a call of the model. `sample_weight` is for the
            loss: of each sample, (N,), or with more of the first sizes of the losses. The sum of the losses times
            their weights is then divided by what a mean without weights divides by, as in Keras: a weight of 2
            doubles the sample's gradient. The loss is one of fastnn.nn, or a function with an argument `reduction`.

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
        if kwargs.get("sample_weight") is not None:
            kwargs["sample_weight"] = self._shares(batch, kwargs["sample_weight"])
        if self.accumulate == 1:
            return self._programs(batch, kwargs)
        self._update_if_due()  # an interrupt came before the update
        if self._gathered[0] == 0:
            result = self._programs(batch, kwargs)
        else:
            for p in self.optimizer.parameters():
                if p.requires_grad and not p._has_grad:
                    p._gradient_storage()[...] = 0  # the program adds to it
            result = self._others(batch, kwargs)
        self._update_if_due()
        return result

    def _update_if_due(self) -> None:
        """Update, if all gradients are there of which it is to be made."""
        if self.accumulate > 1 and self._gathered[0] == self.accumulate:
            self.optimizer._update(self._updates)

    def _shares(self, batch: tuple[Any, ...], weight: Any) -> Any:
        target = to_array(batch[-1], "target")
        return shares(self.loss, target, as_sample_weight("sample_weight", weight, len(target)))

    def _emit_counter(self, value: int | None) -> Callable[[Builder], None]:
        """What counts a batch whose gradients are there, or sets the count."""

        def emit(to: Builder) -> None:
            gathered, double = to.array(self._gathered), np.dtype(np.float64)
            if value is None:
                sizes: dict[str, Any] = dict(count=1, updates=-1, condition=-1)
                to.emit("tick", hyper=gathered, steps=gathered, **sizes, dtype=double, commit=True)
            else:
                to.emit("fill", y=gathered, n=1, value=value, dtype=double, commit=True)

        return emit

    def plan(self, *batch: Any, **kwargs: Any) -> Program:
        """The program that a step on such a batch runs: see its explain() and profile()."""
        return self._programs.served(batch, kwargs)[1].program

    def diagnose(self, *batch: Any, **kwargs: Any) -> tuple[float, str]:
        """The loss of a batch, and why it is not finite; nothing is changed. Arguments are those of a call.

        Returns
        -------
        loss : float
        reason : str
            Such as "the first layer whose output is not finite is fc2 (Linear)".
        """
        if kwargs.get("sample_weight") is not None:
            kwargs["sample_weight"] = self._shares(batch, kwargs["sample_weight"])
        function = Keywords(self._forward, self._names(len(batch)), kwargs)
        arrays = self._programs.arrays(batch) + [to_array(kwargs[name], name) for name in function.keywords]
        roots = (self.model, self.loss)
        return diagnose(self.model, lambda *tensors: function(*tensors)[0], arrays, function.names, roots)

    @staticmethod
    def _names(count: int) -> list[str]:
        if count <= 2:
            return ["input", "target"][2 - count :]
        return [*(f"input[{i}]" for i in range(count - 1)), "target"]

    def _forward(self, *tensors: Tensor, sample_weight: Any = None, **keywords: Any) -> tuple[Any, Any]:
        if not tensors or (len(tensors) < 2 and not keywords):
            raise TypeError(f"a step takes the model's inputs and a target, step(x, y), got {len(tensors)} array(s)")
        self.optimizer.follow()
        output = self.model(*tensors[:-1], **keywords)
        if sample_weight is None:
            loss = self.loss(output, tensors[-1])
        else:
            loss = weighted_sum(self.loss, output, tensors[-1], sample_weight)
        for penalty in active_graph().penalties:
            loss = loss + penalty
        return loss, output

    def _finish(self, graph: Graph, result: tuple[Any, Any]) -> Recipe:
        return self._finished(graph, result, None)

    def _finish_first(self, graph: Graph, result: tuple[Any, Any]) -> Recipe:
        return self._finished(graph, result, 1)

    def _finish_other(self, graph: Graph, result: tuple[Any, Any]) -> Recipe:
        return self._finished(graph, result, 2)

    def _finished(self, graph: Graph, result: tuple[Any, Any], call: int | None) -> Recipe:
        """A step; or one that leaves gradients behind, as the first one (1) or adding to those that are there (2)."""
        loss, output = result
        if not isinstance(loss, Tensor) or loss.shape != ():
            raise ValueError(
                f"the loss must be a scalar to train on, got {loss!r}; use reduction='mean' or 'sum', or .mean() in a "
                "function of your own"
            )
        tensors, rebuild = flatten_result(output, f"{type(self.model).__name__}.forward")
        trained = [p for p in self.optimizer.parameters() if p.requires_grad]
        share = loss if call is None else mul(loss, 1 / self.accumulate)
        grads = gradients(graph, {share: one(loss.dtype)}, [graph.memory(p._storage) for p in trained])
        reached = [p for p, grad in zip(trained, grads, strict=True) if grad is not None]
        if not reached:
            raise ValueError(
                "the loss depends on no trainable parameter that the optimizer holds; does it use the model's output, "
                "and is requires_grad True?"
            )
        given = [(p, grad) for p, grad in zip(trained, grads, strict=True) if grad is not None]
        if call == 2:
            given = [(p, add(graph.memory(p._gradient_storage()), grad)) for p, grad in given]
        by_rows = {}
        for i, (p, grad) in enumerate(given):
            if call is None and (parts := sparse_rows(grad)) is not None and self.optimizer.skips_zeros(p):
                given[i], by_rows[p] = (p, parts[0]), parts[1]
        sinks = [(grad, p._gradient_storage(), 0) for p, grad in given]
        facts = [
            *((ATTRIBUTE, p, "_grad_storage", p._gradient_storage()) for p in reached),
            *((ATTRIBUTE, p, "_requires_grad", p.requires_grad) for p in self.optimizer.parameters()),
            *self.optimizer.facts(),
        ]
        whole = [p for p in reached if p not in by_rows]  # that have a gradient afterwards
        known = set(whole)
        absent = [p for p in self.optimizer.parameters() if p not in known]
        wanted = [loss, *tensors] if self.outputs else [loss]

        def with_outputs(values: Any) -> Any:
            return values[0], rebuild(values[1:])

        def update(to: Builder) -> None:
            if self.finite:
                to.emit("finite", loss=loss, dtype=loss.dtype)
            if call is None:
                self.optimizer.emit(to, reached, loss, by_rows)
            else:
                self._emit_counter(1 if call == 1 else None)(to)

        returned = with_outputs if self.outputs else only
        marks = [*((p, True) for p in whole), *((p, False) for p in absent if call != 2)]
        if self._receipt is not None:
            return Recipe([wanted], only, sinks, update, facts, marks, (self._receipt, returned))
        return Recipe([wanted], returned, sinks, update, facts, marks)

    def __repr__(self) -> str:
        return f"TrainStep({describe_parts(self.model, self.loss, self.optimizer)})"

    # A copy is tied to the copies of model, loss and optimizer; plans stay behind.

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_programs", "_others", "_updates")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_programs()


def describe_parts(model: Module, loss: Any, optimizer: Optimizer) -> str:
    """What a step or a trainer is made of, for its repr; the model by its kind alone."""
    name = repr(loss) if isinstance(loss, Module) else getattr(loss, "__name__", repr(loss))
    return f"model={type(model).__name__}, loss={name}, optimizer={optimizer!r}"
