"""AlexNet."""

from __future__ import annotations

from typing import Any

from fastnn import _check, nn
from fastnn.models.image import ImageModel


class AlexNet(ImageModel):
    """Five convolutions and three linear layers; see `alexnet`."""

    def __init__(
        self,
        num_classes: int = 1000,
        dropout: float = 0.5,
        variant: str = "torchvision",
        input_format: str = "NCHW",
    ) -> None:
        super().__init__(input_format)
        num_classes = _check.size("num_classes", num_classes, 1)
        dropout = _check.real("dropout", dropout, 0, 1)
        self.variant = _check.choice("variant", variant, "torchvision", "published")
        published = self.variant == "published"
        self.features = _published() if published else _one_tower()
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )
        if published:
            self._draw_as_published()

    def forward(self, input: Any) -> Any:
        x = self.avgpool(self.features(self.images(input)))
        return self.classifier(x.flatten(1))

    def _draw_as_published(self) -> None:
        """Section 5: weights normal with deviation 0.01; biases 1 where they keep ReLUs alive."""
        layers = [m for m in self.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        for i, layer in enumerate(layers):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.constant_(layer.bias, float(i in (1, 3, 4, 5, 6)))


def _one_tower() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )


def _published() -> nn.Sequential:
    # The paper's alpha, 1e-4, is a factor of the sum; LocalResponseNorm divides its own by size.
    def response_norm() -> nn.LocalResponseNorm:
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4, padding=2),
        nn.ReLU(),
        response_norm(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(),
        response_norm(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )


def alexnet(
    num_classes: int = 1000,
    dropout: float = 0.5,
    variant: str = "torchvision",
    input_format: str = "NCHW",
) -> AlexNet:
    """AlexNet for images of 224 x 224 pixels, or any from 63 x 63 on.

    Parameters
    ----------
    num_classes : int, default 1000
    dropout : float, default 0.5
        Probability before the first two linear layers.
    variant : {"torchvision", "published"}
        "torchvision" is the network of Krizhevsky, "One weird trick for parallelizing convolutional
        neural networks" (2014), with torchvision's names: 61 100 840 parameters. "published" is
        that of Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
        neural networks" (2012), with local response norm, groups and its initial values:
        60 965 224 parameters.
    input_format : {"NCHW", "NHWC"}

    Returns
    -------
    AlexNet
        Takes (N, 3, 224, 224) and returns logits (N, num_classes).
    """
    return AlexNet(num_classes, dropout, variant, input_format)
