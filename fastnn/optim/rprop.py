"""Rprop, which goes by the sign of the gradient alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastnn import _check
from fastnn._check import FLOATS
from fastnn.graph import Arguments, Tensor
from fastnn.lowering.builder import Builder
from fastnn.optim.optimizer import Group, Optimizer, check_pair
from fastnn_ext.atomic import assign

#: What is done where the gradient's sign has changed: (take it for 0, take the last step back).
VARIANTS = {"irprop-": (True, False), "rprop-": (False, False), "rprop+": (True, True), "irprop+": (True, True)}


class Rprop(Optimizer):
    """Resilient backpropagation (Riedmiller and Braun, 1993), for gradients of whole data sets; as PyTorch's.

    Each weight has a step size, which grows while its gradient keeps its sign, and shrinks when that changes;
    param -= sign(gradient) * step size.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 1e-2
        A parameter's step size at its first update.
    etas : pair of float, default (0.5, 1.2)
        What a step size is multiplied by when the sign has changed, and when it has not.
    step_sizes : pair of float, default (1e-6, 50)
        The least and the largest step size.
    variant : {"irprop-", "rprop-", "rprop+", "irprop+"}, default "irprop-"
        What to do where the sign has changed: "irprop-" (PyTorch's; Igel and Huesken, 2000) leaves the weight where
        it is, "rprop-" goes on with the smaller step, "rprop+" takes the last step back, and "irprop+" (Igel and
        Huesken) does so only if the loss has become larger. It knows the loss in a TrainStep or a Trainer; outside it
        is told: opt.step(loss).
    **shared
        Settings that all optimizers have: see `Optimizer`.

    Examples
    --------
    >>> opt = optim.Rprop(model.parameters(), lr=1e-3)
    """

    kernel = "rprop"
    counters = {**Optimizer.counters, "loss": math.inf}
    later = (*Optimizer.later, "loss")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        variant: str = "irprop-",
        **shared: Any,
    ) -> None:
        self._losses = {np.dtype(kind).str: np.zeros(1, kind) for kind in FLOATS}
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "variant": variant}, **shared)

    def check(self, name: str, value: Any) -> None:
        if name == "etas":
            check_pair(name, value)
            minus, plus = (_check.real(f"etas[{i}]", eta) for i, eta in enumerate(value))
            if not 0 < minus < 1 < plus:
                raise ValueError(f"etas must be one between 0 and 1 and one above 1, got {value}")
        elif name == "step_sizes":
            check_pair(name, value)
            least, most = (_check.real(f"step_sizes[{i}]", size, 0) for i, size in enumerate(value))
            if least > most:
                raise ValueError(f"step_sizes must be the least and the largest, got {value}")
        elif name == "variant":
            _check.choice(name, value, *VARIANTS)
        else:
            super().check(name, value)

    def numbers(self, name: str, value: Any) -> Mapping[str, float]:
        names = {"etas": ("eta_minus", "eta_plus"), "step_sizes": ("least", "most")}.get(name)
        return dict(zip(names, value, strict=True)) if names else super().numbers(name, value)

    def step(self, loss: float | None = None) -> None:
        """Update the parameters from their gradients; those without one are left alone.

        Parameters
        ----------
        loss : float, optional
            That the gradients are of; "irprop+" needs it.
        """
        if any(group["variant"] == "irprop+" for group in self.param_groups):
            if loss is None:
                raise ValueError('"irprop+" goes by the loss: call step(loss), or train by a TrainStep')
            value = _check.real("loss", loss)
            assign([(array, np.full(1, value, array.dtype)) for array in (self._losses or {}).values()], [], [])
        super().step()

    def counters_in_use(self, group: Group) -> list[str]:
        names = super().counters_in_use(group)
        return names if group["variant"] == "irprop+" else [name for name in names if name != "loss"]

    def told(self, to: Builder, group: Group, loss: Tensor | Mapping[str, Any] | None) -> Arguments:
        if group["variant"] != "irprop+":
            return {}
        if loss is None:
            raise ValueError('"irprop+" goes by the loss of each step, and gradients that are gathered have several')
        return {"present": to.array(loss[group.dtype.str]) if isinstance(loss, Mapping) else loss}

    def switches(self, group: Group) -> Arguments:
        zero, undo = VARIANTS[group["variant"]]
        return {**super().switches(group), "zero": zero, "undo": undo}
