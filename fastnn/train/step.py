"""TrainStep: forward, loss, backward and update as one native call."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.graph import Graph, Tensor
from fastnn.lowering.builder import Builder
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import flatten_result, only
from fastnn.lowering.gradients import gradients, one
from fastnn.lowering.program import Program
from fastnn.nn.module import Module
from fastnn.nn.parameter import marks
from fastnn.optim.optimizer import Optimizer
from fastnn.train.diagnosis import diagnose
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
        _check.instance("model", model, Module)
        if not callable(loss) or isinstance(loss, type):
            raise TypeError(f"loss must be callable as loss(output, target), got {_check.kind_of(loss)}")
        _check.instance("optimizer", optimizer, Optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in held for p in model.parameters()):
            raise ValueError("optimizer holds no parameter of this model; make it of model.parameters()")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.outputs = outputs
        self.finite = finite
        self._receipt: Receipt | None = None  # where each step leaves its result; a call then returns the loss alone
        self._make_programs()

    def __setattr__(self, name: str, value: Any) -> None:
        """Another model, loss or optimizer, or other settings: other programs."""
        super().__setattr__(name, value)
        if name != "_programs" and "_programs" in self.__dict__:
            self._make_programs()

    def _make_programs(self) -> None:
        roots = (self.model, self.loss, self.optimizer)
        self._programs = Programs(self._forward, self._finish, self._names, roots, "the model with its loss")

    def __call__(self, *batch: Any, **kwargs: Any) -> Any:
        """Train on one batch.

        Parameters
        ----------
        *batch : array
            The model's inputs, then the loss's target (int64 labels, or an array of the model's dtype).
        **kwargs
            More of the model's inputs, or settings, by name, as for a call of the model.

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
        return self._programs(batch, kwargs)

    def plan(self, *batch: Any, **kwargs: Any) -> Program:
        """The program that a step on such a batch runs: see its explain() and profile()."""
        return self._programs.served(batch, kwargs)[1].program

    def diagnose(self, *batch: Any) -> tuple[float, str]:
        """The loss of a batch, and why it is not finite; nothing is changed.

        Returns
        -------
        loss : float
        reason : str
            Such as "the first layer whose output is not finite is fc2 (Linear)".
        """
        return diagnose(self.model, self.loss, self._programs.arrays(batch), self._names(len(batch)))

    @staticmethod
    def _names(count: int) -> list[str]:
        if count < 2:
            raise TypeError(f"a step takes the model's inputs and a target, step(x, y), got {count} array(s)")
        if count == 2:
            return ["input", "target"]
        return [*(f"input[{i}]" for i in range(count - 1)), "target"]

    def _forward(self, *tensors: Tensor, **keywords: Any) -> tuple[Any, Any]:
        self.optimizer.follow()
        output = self.model(*tensors[:-1], **keywords)
        return self.loss(output, tensors[-1]), output

    def _finish(self, graph: Graph, result: tuple[Any, Any]) -> Recipe:
        loss, output = result
        if not isinstance(loss, Tensor) or loss.shape != ():
            raise ValueError(
                f"the loss must be a scalar to train on, got {loss!r}; use reduction='mean' or 'sum', or .mean() in a "
                "function of your own"
            )
        tensors, rebuild = flatten_result(output, f"{type(self.model).__name__}.forward")
        trained = [p for p in self.optimizer.parameters() if p.requires_grad]
        grads = gradients(graph, {loss: one(loss.dtype)}, [graph.memory(p._storage) for p in trained])
        reached = [p for p, grad in zip(trained, grads, strict=True) if grad is not None]
        if not reached:
            raise ValueError(
                "the loss depends on no trainable parameter that the optimizer holds; does it use the model's output, "
                "and is requires_grad True?"
            )
        sinks = [(grad, p._gradient_storage(), 0) for p, grad in zip(trained, grads, strict=True) if grad is not None]
        facts = [
            *((ATTRIBUTE, p, "_grad_storage", p._gradient_storage()) for p in reached),
            *((ATTRIBUTE, p, "_requires_grad", p.requires_grad) for p in self.optimizer.parameters()),
            *self.optimizer.facts(),
        ]
        known = set(reached)
        absent = [p for p in self.optimizer.parameters() if p not in known]
        wanted = [loss, *tensors] if self.outputs else [loss]

        def with_outputs(values: Any) -> Any:
            return values[0], rebuild(values[1:])

        def update(to: Builder) -> None:
            if self.finite:
                to.emit("finite", loss=loss, dtype=loss.dtype)
            self.optimizer.emit(to, reached)

        returned = with_outputs if self.outputs else only
        done = marks(reached, absent)
        if self._receipt is not None:
            return Recipe([wanted], only, sinks, update, facts, done, (self._receipt, returned))
        return Recipe([wanted], returned, sinks, update, facts, done)

    def __repr__(self) -> str:
        return f"TrainStep({describe_parts(self.model, self.loss, self.optimizer)})"

    # A copy is tied to the copies of model, loss and optimizer; plans stay behind.

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_programs"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_programs()


def describe_parts(model: Module, loss: Any, optimizer: Optimizer) -> str:
    """What a step or a trainer is made of, for its repr; the model by its kind alone."""
    name = repr(loss) if isinstance(loss, Module) else getattr(loss, "__name__", repr(loss))
    return f"model={type(model).__name__}, loss={name}, optimizer={optimizer!r}"
