"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn import _check
from fastnn.nn.parameter import Parameter
from fastnn.optim.optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as PyTorch's.

    With g the gradient plus weight_decay times the parameter: b = momentum * b + (1 - dampening) * g
    (b = g in the first step), then param -= lr * b, or lr * (g + momentum * b) with Nesterov
    (Sutskever et al., 2013, in PyTorch's form).

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 1e-3
    momentum, dampening, weight_decay : float, default 0
    nesterov : bool, default False
    **shared
        Settings that all optimizers have: see `Optimizer`.
    """

    kernel = "sgd"
    optional_states = {"momentum_buffer": "momentum"}
    steps_only_with = "momentum"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **shared: Any,
    ) -> None:
        if nesterov and not (_check.real("momentum", momentum, 0) > 0 and dampening == 0):
            raise ValueError(
                f"nesterov needs a momentum above 0 and a dampening of 0, got momentum={momentum}, "
                f"dampening={dampening}"
            )
        settings = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": bool(nesterov),
        }
        super().__init__(params, settings, **shared)

    def skips_zeros(self, p: Parameter) -> bool:
        """See Optimizer.skips_zeros."""
        harmless = ("params", "lr", "dampening", "nesterov", "clip_grad_value", "averaging_every")
        group = next(group for group in self.param_groups if any(other is p for other in group["params"]))
        clipped = any(group["clip_grad_norm"] is not None for group in self.param_groups)
        return not clipped and not any(value for name, value in group.items() if name not in harmless)
