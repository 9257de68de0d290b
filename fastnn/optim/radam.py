"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.optim.optimizer import Optimizer


class RAdam(Optimizer):
    """Rectified Adam (Liu and others, 2020), as PyTorch's.

    As Adam; but while the mean of squares is of few gradients, a step goes by the mean of the gradient alone, and
    then it is as large as that mean of squares is certain.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 1e-3
    betas : pair of float, default (0.9, 0.999)
        Decay of the running means of the gradient and of its square.
    eps : float, default 1e-8
    weight_decay : float, default 0
    decoupled_weight_decay : bool, default False
        Whether weight_decay shrinks the parameter itself, as AdamW's, and is not added to the gradient.
    **shared
        Settings that all optimizers have: see `Optimizer`.

    Examples
    --------
    >>> opt = optim.RAdam(model.parameters())
    """

    kernel = "radam"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **shared: Any,
    ) -> None:
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": bool(decoupled_weight_decay),
        }
        super().__init__(params, settings, **shared)
