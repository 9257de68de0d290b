"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastnn import _check
from fastnn.graph import Arguments
from fastnn.optim.optimizer import Group, Optimizer


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1), as PyTorch's.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    lr : float, default 1e-3
    betas : pair of float, default (0.9, 0.999)
        Decay of the running means of the gradient and of its square.
    eps : float, default 1e-8
    weight_decay : float, default 0
        Added to the gradient, times the parameter (L2).
    amsgrad : bool, default False
        Divide by the largest running mean so far (Reddi et al., 2018).
    """

    kernel = "adam"
    hyper = {"lr": 0, "betas": 1, "eps": 3, "weight_decay": 4}
    step_index = 5
    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas) if isinstance(betas, list) else betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": bool(amsgrad),
                "maximize": bool(maximize),
            },
        )

    def check(self, name: str, value: Any) -> None:
        if name == "betas":
            if not isinstance(value, (tuple, list)) or len(value) != 2:
                raise TypeError(f"betas must be a pair of numbers, got {_check.brief(value)}")
            for i, beta in enumerate(value):
                _check.real(f"betas[{i}]", beta, 0, 1)
                if beta == 1.0:
                    raise ValueError(f"betas[{i}] must be below 1, got {beta}")
        elif name in self.hyper:
            _check.real(name, value, 0)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        names = ("exp_avg", "exp_avg_sq")
        return (*names, "max_exp_avg_sq") if group["amsgrad"] else names

    def switches(self, group: Group) -> Arguments:
        return {"decoupled": self.decoupled, "maximize": group["maximize"]}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as PyTorch's.

    As Adam, but weight_decay (default 0.01) shrinks the parameter itself by lr * weight_decay.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
