"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn.optim.optimizer import Optimizer


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
    uncorrected_eps : bool, default False
        Add eps to the root before its bias is corrected, as Kingma and Ba do in their faster form (end of section 2),
        and with them TensorFlow, scikit-learn and ONNX: in the first steps it then counts for more.
    **shared
        Settings that all optimizers have: see `Optimizer`.
    """

    kernel = "adam"
    optional_states = {"max_exp_avg_sq": "amsgrad"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        uncorrected_eps: bool = False,
        **shared: Any,
    ) -> None:
        switches = {"amsgrad": bool(amsgrad), "uncorrected_eps": bool(uncorrected_eps)}
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **switches}
        super().__init__(params, settings, **shared)


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
        uncorrected_eps: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, uncorrected_eps=uncorrected_eps, **shared)
