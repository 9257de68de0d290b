"""The networks of multilayer perceptrons, what is minimised over them, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import _check, nn
from fastnn.models.mlp import ACTIVATIONS as LAYERS
from fastnn.nn import functional as F
from fastnn.ops.elementwise import log, maximum

Array = np.ndarray[Any, Any]

#: Layers by scikit-learn's names and by those of `fn.models.mlp`.
ACTIVATIONS: dict[str, Any] = {"identity": nn.Identity, "logistic": nn.Sigmoid, **LAYERS}


def build(
    coefs: Sequence[Array], intercepts: Sequence[Array], activation: Any, dropout: float, batch_norm: bool
) -> nn.Sequential:
    """A perceptron with these weights, (in, out), and biases."""
    layers: list[nn.Module] = []
    for i, coef in enumerate(coefs):
        linear = nn.Linear(coef.shape[0], coef.shape[1], dtype=coef.dtype)
        layers.append(linear)
        if i + 1 < len(coefs):
            if batch_norm:
                layers.append(nn.BatchNorm1d(coef.shape[1]).to(coef.dtype))
            make = ACTIVATIONS[activation] if isinstance(activation, str) else activation
            if make is not nn.Identity:
                layers.append(_check.instance("activation(...)", make(), nn.Module).to(coef.dtype))
            if dropout:
                layers.append(nn.Dropout(dropout))
    network = nn.Sequential(*layers)
    write(network, coefs, intercepts)
    return network


def write(network: nn.Module, coefs: Sequence[Array], intercepts: Sequence[Array]) -> None:
    """Let a perceptron have these weights and biases."""
    for layer, coef, intercept in zip(linears(network), coefs, intercepts, strict=True):
        layer.weight.data = coef.T
        layer.bias.data = intercept


def linears(network: nn.Module) -> list[nn.Linear]:
    """The layers with weights, in order."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def views(network: nn.Module) -> tuple[list[Array], list[Array]]:
    """Weights, (in, out), and biases where they lie."""
    layers = linears(network)
    return [layer.weight.data.T for layer in layers], [layer.bias.data for layer in layers]


class Objective(nn.Module):
    """Of a batch: the sum of the losses, each times its sample's weight, and the penalty on the weights.

    Parameters
    ----------
    network : Module
    loss : {"log_loss", "binary_log_loss", "squared_error", "poisson"}
    alpha : float
        The penalty is alpha / 2 times the sum of the squares of all weights, without biases.
    """

    def __init__(self, network: nn.Module, loss: str, alpha: float) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.alpha = alpha

    def forward(self, input: Any, target: Any, *weight: Any) -> Any:
        """The sum that is minimised; of several outputs' squared errors also that with their mean."""
        output = self.network(input)
        losses = LOSSES[self.loss](output, target, "none" if weight else "sum")
        if weight:
            losses = (losses.sum(1) if losses.ndim == 2 else losses) * weight[0]
        data = losses.sum() if losses.ndim else losses
        penalty: Any = 0.0
        if self.alpha:
            # As they lie, (in, out): no transposes.
            squares = [layer.weight.permute(1, 0).square().sum() for layer in linears(self.network)]
            penalty = sum(squares[1:], squares[0]) * (self.alpha / 2)
        if self.loss != "squared_error" or output.shape[1] == 1:
            return data + penalty
        return data + penalty, data / output.shape[1] + penalty


class PerSample(nn.Loss):
    """The mean loss of samples, without a penalty; of counts' from what `Answers` gives.

    Parameters
    ----------
    loss : str
        As an Objective's.
    """

    def __init__(self, loss: str) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, input: Any, target: Any) -> Any:
        """The mean, or with reduction "none" each."""
        each = LOSSES[self.loss](log(input) if self.loss == "poisson" else input, target, "none")
        if each.ndim == 2:
            each = each.mean(1) if self.loss == "squared_error" else each.sum(1)
        return each if self.reduction == "none" else each.mean()


def mean(output: Any, inverse: Any) -> Any:
    """What is minimised, from an Objective's output and 1 / (what all samples weigh)."""
    return (output[0] if isinstance(output, tuple) else output) * inverse


def _poisson(output: Any, target: Any, reduction: str) -> Any:
    """Half of the deviance of counts from exp(output)."""
    tiny = float(np.finfo(target.dtype).tiny)
    losses = F.poisson_nll_loss(output, target, reduction="none")
    losses = losses + target * log(maximum(target, tiny)) - target
    return losses if reduction == "none" else losses.sum()


LOSSES: dict[str, Callable[..., Any]] = {
    "log_loss": lambda output, target, reduction: F.cross_entropy(output, target, reduction=reduction),
    "binary_log_loss": lambda output, target, reduction: F.binary_cross_entropy_with_logits(
        output, target, reduction=reduction
    ),
    "squared_error": F.half_mse_loss,
    "poisson": _poisson,
}


class Answers(nn.Module):
    """A network with the activation of its output.

    Parameters
    ----------
    network : Module
    activation : {"identity", "softmax", "logistic", "exp"}
    """

    def __init__(self, network: nn.Module, activation: str) -> None:
        super().__init__()
        self.network = network
        self.activation = activation

    def forward(self, input: Any) -> Any:
        """Probabilities, or values."""
        output = self.network(input)
        if self.activation == "softmax":
            return F.softmax(output, 1)
        if self.activation == "logistic":
            return F.sigmoid(output)
        return output.exp() if self.activation == "exp" else output
