"""A small convolutional network for images of any size."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn import _check, nn


def cnn(num_classes: int = 10, in_channels: int = 3, widths: Sequence[int] = (16, 32, 64)) -> nn.Sequential:
    """3 x 3 convolutions with batch norm and ReLU, max pooling between them, and the mean of all places at last.

    Parameters
    ----------
    num_classes : int, default 10
        Size of the output: logits of classes, or values of a regression.
    in_channels : int, default 3
    widths : sequence of int, default (16, 32, 64)
        Channels of each convolution; images must have a side of 2 ** (len(widths) - 1) pixels at least.

    Returns
    -------
    Sequential
        Takes (N, in_channels, H, W) and returns (N, num_classes).

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, or there is none.

    Examples
    --------
    >>> model = fn.models.cnn(10, in_channels=1)
    >>> model.eval()(np.zeros((5, 1, 12, 9), np.float32)).shape
    (5, 10)
    """
    channels = _check.size("in_channels", in_channels, 1)
    outputs = _check.size("num_classes", num_classes, 1)
    sizes = [_check.size(f"widths[{i}]", width, 1) for i, width in enumerate(widths)]
    if not sizes:
        raise ValueError("widths must name the channels of one convolution at least")
    layers: list[nn.Module] = []
    for number, width in enumerate(sizes):
        if number:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))
