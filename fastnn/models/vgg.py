"""VGG networks (Simonyan and Zisserman, "Very deep convolutional networks", 2015)."""

from __future__ import annotations

from typing import Any

from fastnn import _check, nn
from fastnn.models.image import ImageModel

# Output channels of the 3 x 3 convolutions; each tuple ends in a max pooling.
WIDTHS = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}


class VGG(ImageModel):
    """3 x 3 convolutions with ReLU and max pooling, then three linear layers; see `vgg16`."""

    def __init__(
        self,
        depth: int,
        num_classes: int = 1000,
        dropout: float = 0.5,
        batch_norm: bool = False,
        input_format: str = "NCHW",
    ) -> None:
        super().__init__(input_format)
        num_classes = _check.size("num_classes", num_classes, 1)
        dropout = _check.real("dropout", dropout, 0, 1)
        layers: list[nn.Module] = []
        channels = 3
        for stage in WIDTHS[depth]:
            for width in stage:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, input: Any) -> Any:
        x = self.avgpool(self.features(self.images(input)))
        return self.classifier(x.flatten(1))


def vgg11(
    num_classes: int = 1000,
    dropout: float = 0.5,
    batch_norm: bool = False,
    input_format: str = "NCHW",
) -> VGG:
    """VGG-11, configuration A: 132 863 336 parameters; arguments as of `vgg16`."""
    return VGG(11, num_classes, dropout, batch_norm, input_format)


def vgg16(
    num_classes: int = 1000,
    dropout: float = 0.5,
    batch_norm: bool = False,
    input_format: str = "NCHW",
) -> VGG:
    """VGG-16, configuration D, with torchvision's names: 138 357 544 parameters.

    Parameters
    ----------
    num_classes : int, default 1000
    dropout : float, default 0.5
        Probability after the first two linear layers.
    batch_norm : bool, default False
        Whether a batch norm follows each convolution.
    input_format : {"NCHW", "NHWC"}

    Returns
    -------
    VGG
        Takes images (N, 3, 224, 224), or any from 32 x 32 on, and returns logits.
    """
    return VGG(16, num_classes, dropout, batch_norm, input_format)
