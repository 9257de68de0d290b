"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.optim.optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012), as PyTorch's.

    With g the gradient plus weight_decay times the parameter: v = alpha * v + (1 - alpha) * g ** 2 and
    u = g / (sqrt(v) + eps), then param -= lr * u, or lr * b with b = momentum * b + u.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 1e-2
    alpha : float, default 0.99
        Decay of the running mean of the squared gradient.
    eps : float, default 1e-8
    weight_decay, momentum : float, default 0
    centered : bool, default False
        Divide by the root of the gradient's variance: v less the square of its running mean (Graves, 2013).
    **shared
        Settings that all optimizers have: see `Optimizer`.

    Examples
    --------
    >>> opt = optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9)
    >>> step = fn.TrainStep(model, nn.CrossEntropyLoss(), opt)
    >>> step(x, y) > step(x, y)
    True
    """

    kernel = "rmsprop"
    optional_states = {"momentum_buffer": "momentum", "grad_avg": "centered"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        **shared: Any,
    ) -> None:
        settings = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": bool(centered),
        }
        super().__init__(params, settings, **shared)
