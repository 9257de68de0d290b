"""NAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.optim.optimizer import Optimizer


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016), as PyTorch's.

    Adam's running mean of the gradient is looked at one step ahead, with momenta that grow:
    mu(t) = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)).

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 2e-3
    betas : pair of float, default (0.9, 0.999)
        Decay of the running means of the gradient and of its square.
    eps : float, default 1e-8
    weight_decay : float, default 0
    momentum_decay : float, default 4e-3
    decoupled_weight_decay : bool, default False
        Whether weight_decay shrinks the parameter itself, as AdamW's, and is not added to the gradient.
    **shared
        Settings that all optimizers have: see `Optimizer`.

    Examples
    --------
    >>> opt = optim.NAdam(model.parameters())
    """

    kernel = "nadam"
    counters = {**Optimizer.counters, "mu_product": 1.0}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **shared: Any,
    ) -> None:
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": bool(decoupled_weight_decay),
        }
        super().__init__(params, settings, **shared)
