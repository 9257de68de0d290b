"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn import _check
from fastnn.optim.optimizer import Optimizer


class Adadelta(Optimizer):
    """Adadelta (Zeiler, 2012), as PyTorch's.

    With g the gradient plus weight_decay times the parameter: v = rho * v + (1 - rho) * g ** 2,
    u = sqrt(d + eps) / sqrt(v + eps) * g and d = rho * d + (1 - rho) * u ** 2, then param -= lr * u.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 1
    rho : float, default 0.9
        Decay of both running means of squares.
    eps : float, default 1e-6
    weight_decay : float, default 0
    **shared
        Settings that all optimizers have: see `Optimizer`.

    Examples
    --------
    >>> opt = optim.Adadelta(model.parameters())
    """

    kernel = "adadelta"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}, **shared)

    def check(self, name: str, value: Any) -> None:
        if name == "rho":
            _check.real(name, value, 0, 1)
        else:
            super().check(name, value)
