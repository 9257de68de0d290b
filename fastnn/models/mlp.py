"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastnn import _check, nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softsign": nn.Softsign,
}


def mlp(
    in_features: int,
    hidden: int | Sequence[int],
    classes: int,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Sequential:
    """Linear layers with an activation after each but the last.

    Parameters
    ----------
    in_features : int
        Values a sample. Images are flattened first, so a sample may have any shape.
    hidden : int or sequence of int
        Sizes of the hidden layers; none makes a linear model.
    classes : int
        Size of the output: logits of classes, or values of a regression.
    activation : str, default "relu"
        "relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu" or "softsign".
    dropout : float, default 0
        Probability with which a hidden value is dropped in training.

    Returns
    -------
    Sequential
        Takes (N, ...) and returns (N, classes).

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, the activation unknown or the probability outside 0 ... 1.
    """
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation must be one of {known}; got {activation!r}")
    layers: list[nn.Module] = [nn.Flatten()]
    size = _check.size("in_features", in_features, 1)
    classes = _check.size("classes", classes, 1)
    dropout = _check.real("dropout", dropout, 0, 1)
    if isinstance(hidden, Iterable):
        widths = {f"hidden[{i}]": width for i, width in enumerate(hidden)}
    else:
        widths = {"hidden": hidden}
    for name, width in widths.items():
        width = _check.size(name, width, 1)
        layers += [nn.Linear(size, width), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        size = width
    return nn.Sequential(*layers, nn.Linear(size, classes))
