"""LeNet-5."""

from __future__ import annotations

from typing import Any

import fastnn.nn.functional as F
from fastnn import _check, nn
from fastnn.models.image import ImageModel


class LeNet5(ImageModel):
    """Two convolutions with pooling, then three linear layers: 6-16-120-84-num_classes.

    For images of 28 x 28 pixels; see `lenet5`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        variant: str = "taught",
        input_format: str = "NCHW",
    ) -> None:
        super().__init__(input_format)
        self.variant = _check.choice("variant", variant, "taught", "lecun")
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, _check.size("num_classes", num_classes, 1))

    def forward(self, input: Any) -> Any:
        taught = self.variant == "taught"
        activation, pool = (F.relu, F.max_pool2d) if taught else (F.tanh, F.avg_pool2d)
        x = self.images(input)
        x = pool(activation(self.conv1(x)), 2)
        x = pool(activation(self.conv2(x)), 2)
        x = activation(self.fc1(x.flatten(1)))
        return self.fc3(activation(self.fc2(x)))


def lenet5(
    num_classes: int = 10,
    in_channels: int = 1,
    variant: str = "taught",
    input_format: str = "NCHW",
) -> LeNet5:
    """LeNet-5 (LeCun et al., 1998) for images of 28 x 28 pixels; 61 706 parameters.

    Parameters
    ----------
    num_classes : int, default 10
    in_channels : int, default 1
    variant : {"taught", "lecun"}
        "taught" has ReLU and max pooling. "lecun" has tanh and average pooling, as the original;
        like most others it sees all feature maps in its second convolution, does not train its
        pooling, and ends in a linear layer.
    input_format : {"NCHW", "NHWC"}

    Returns
    -------
    LeNet5
        Takes (N, in_channels, 28, 28) and returns logits (N, num_classes).
    """
    return LeNet5(num_classes, in_channels, variant, input_format)
