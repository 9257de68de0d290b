"""Adamax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.optim.optimizer import Optimizer


class Adamax(Optimizer):
    """Adam by the largest gradient (Kingma and Ba, 2015, algorithm 2), as PyTorch's.

    With g the gradient plus weight_decay times the parameter: m = beta1 * m + (1 - beta1) * g and
    u = max(beta2 * u, abs(g) + eps), then param -= lr / (1 - beta1 ** t) * m / u.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 2e-3
    betas : pair of float, default (0.9, 0.999)
        Decay of the running mean of the gradient, and of its largest size.
    eps : float, default 1e-8
    weight_decay : float, default 0
    **shared
        Settings that all optimizers have: see `Optimizer`.

    Examples
    --------
    >>> opt = optim.Adamax(model.parameters())
    """

    kernel = "adamax"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, **shared)
