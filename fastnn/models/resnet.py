"""Residual networks (He et al., "Deep residual learning for image recognition", 2015)."""

from __future__ import annotations

from typing import Any

import fastnn.nn.functional as F
from fastnn import _check, nn
from fastnn.models.image import ImageModel


class BasicBlock(nn.Module):
    """relu(bn(conv3x3(relu(bn(conv3x3(x))))) + shortcut(x))

    Parameters
    ----------
    in_channels, width : int
        Channels of the input and of the output.
    stride : int
        Of the first convolution and the shortcut.
    downsample : Module, optional
        The shortcut, where it is not the input itself.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, input: Any) -> Any:
        shortcut = input if self.downsample is None else self.downsample(input)
        x = self.relu(self.bn1(self.conv1(input)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """As BasicBlock, of convolutions 1x1, 3x3 and 1x1; the output has 4 * width channels.

    The stride is the 3x3 convolution's, as in torchvision.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, input: Any) -> Any:
        shortcut = input if self.downsample is None else self.downsample(input)
        x = self.relu(self.bn1(self.conv1(input)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class Subsample(nn.Module):
    """The shortcut without parameters: every stride-th pixel, and zeros for new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before
        self.stride = stride

    def forward(self, input: Any) -> Any:
        x = input[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    width: int,
    blocks: int,
    stride: int,
    shortcut: Any = _projection,
) -> nn.Sequential:
    """Blocks of one width, the first of which changes size and channels."""
    out_channels = width * block.expansion
    plain = stride == 1 and in_channels == out_channels
    first = block(in_channels, width, stride, None if plain else shortcut(in_channels, out_channels, stride))
    return nn.Sequential(first, *(block(out_channels, width) for _ in range(blocks - 1)))


def _draw(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNet(ImageModel):
    """A residual network for images of 224 x 224 pixels; see `resnet18`."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        num_classes: int = 1000,
        input_format: str = "NCHW",
    ) -> None:
        super().__init__(input_format)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        grown = block.expansion
        self.layer1 = _stage(block, 64, 64, blocks[0], 1)
        self.layer2 = _stage(block, 64 * grown, 128, blocks[1], 2)
        self.layer3 = _stage(block, 128 * grown, 256, blocks[2], 2)
        self.layer4 = _stage(block, 256 * grown, 512, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * grown, _check.size("num_classes", num_classes, 1))
        _draw(self)

    def forward(self, input: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.images(input)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class CifarResNet(ImageModel):
    """A residual network for images of 32 x 32 pixels; see `resnet20`."""

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        shortcut: str = "A",
        input_format: str = "NCHW",
    ) -> None:
        super().__init__(input_format)
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6 n + 2, got {depth}; 20, 32 and 44 are")
        option = Subsample if _check.choice("shortcut", shortcut, "A", "B") == "A" else _projection
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(BasicBlock, 16, 16, blocks, 1)
        self.layer2 = _stage(BasicBlock, 16, 32, blocks, 2, option)
        self.layer3 = _stage(BasicBlock, 32, 64, blocks, 2, option)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, _check.size("num_classes", num_classes, 1))
        _draw(self)

    def forward(self, input: Any) -> Any:
        x = self.relu(self.bn1(self.conv1(self.images(input))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(num_classes: int = 1000, input_format: str = "NCHW") -> ResNet:
    """ResNet-18 with torchvision's names: 11 689 512 parameters.

    Parameters
    ----------
    num_classes : int, default 1000
    input_format : {"NCHW", "NHWC"}

    Returns
    -------
    ResNet
        Takes images (N, 3, 224, 224), or of other sizes from 33 x 33 on, and returns logits.
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, input_format)


def resnet34(num_classes: int = 1000, input_format: str = "NCHW") -> ResNet:
    """ResNet-34: 21 797 672 parameters; arguments as of `resnet18`."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, input_format)


def resnet50(num_classes: int = 1000, input_format: str = "NCHW") -> ResNet:
    """ResNet-50: 25 557 032 parameters; arguments as of `resnet18`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, input_format)


def resnet20(num_classes: int = 10, shortcut: str = "A", input_format: str = "NCHW") -> CifarResNet:
    """ResNet-20 for CIFAR (section 4.2): 269 722 parameters.

    Parameters
    ----------
    num_classes : int, default 10
    shortcut : {"A", "B"}
        Where sizes change: "A" takes every second pixel and pads channels with zeros, as the
        paper's networks for CIFAR; "B" is a 1x1 convolution with batch norm.
    input_format : {"NCHW", "NHWC"}

    Returns
    -------
    CifarResNet
        Takes images (N, 3, 32, 32) and returns logits (N, num_classes).
    """
    return CifarResNet(20, num_classes, shortcut, input_format)


def resnet32(num_classes: int = 10, shortcut: str = "A", input_format: str = "NCHW") -> CifarResNet:
    """ResNet-32 for CIFAR: 464 154 parameters; arguments as of `resnet20`."""
    return CifarResNet(32, num_classes, shortcut, input_format)


def resnet56(num_classes: int = 10, shortcut: str = "A", input_format: str = "NCHW") -> CifarResNet:
    """ResNet-56 for CIFAR: 853 018 parameters; arguments as of `resnet20`."""
    return CifarResNet(56, num_classes, shortcut, input_format)


def resnet110(num_classes: int = 10, shortcut: str = "A", input_format: str = "NCHW") -> CifarResNet:
    """ResNet-110 for CIFAR: 1 727 962 parameters; arguments as of `resnet20`."""
    return CifarResNet(110, num_classes, shortcut, input_format)
