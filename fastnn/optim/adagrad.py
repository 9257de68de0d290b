"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.optim.optimizer import Optimizer


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer, 2011), as PyTorch's.

    With g the gradient plus weight_decay times the parameter: sum += g ** 2, then
    param -= lr / (1 + t * lr_decay) * g / (sqrt(sum) + eps), where t counts the updates before.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 1e-2
    lr_decay, weight_decay : float, default 0
    initial_accumulator_value : float, default 0
        Where a parameter's sum begins, at its first update.
    eps : float, default 1e-10
    **shared
        Settings that all optimizers have: see `Optimizer`.

    Examples
    --------
    >>> opt = optim.Adagrad(model.parameters(), lr=0.1)
    """

    kernel = "adagrad"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **shared: Any,
    ) -> None:
        settings = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
        }
        super().__init__(params, settings, **shared)
