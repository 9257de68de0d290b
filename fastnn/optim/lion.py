"""Lion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.optim.optimizer import Optimizer


class Lion(Optimizer):
    """Lion (Chen and others, 2023): steps of one size, by the sign of a running mean of the gradient.

    param *= 1 - lr * weight_decay, then param -= lr * sign(beta1 * m + (1 - beta1) * g) with g the gradient, and
    m = beta2 * m + (1 - beta2) * g. Its lr is to be some 3 to 10 times smaller than AdamW's, its weight_decay larger.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 1e-4
    betas : pair of float, default (0.9, 0.99)
        Decay of the running mean of the gradient: as the step takes it, and as it is kept.
    weight_decay : float, default 0
    **shared
        Settings that all optimizers have: see `Optimizer`.

    Examples
    --------
    >>> opt = optim.Lion(model.parameters(), weight_decay=0.1)
    """

    kernel = "lion"
    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, **shared)
