"""The networks of the comparison, as data: each library builds its own from the same list."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Conv:
    """A square kernel over images, with the same padding on all sides."""

    fan_in: int
    fan_out: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    def output_size(self, size: int) -> int:
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class Norm:
    """Batch normalisation over (N, H, W)."""

    channels: int


@dataclass(frozen=True)
class Relu:
    pass


@dataclass(frozen=True)
class MaxPool:
    kernel: int
    stride: int
    padding: int = 0

    def output_size(self, size: int) -> int:
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class GlobalPool:
    """The mean over (H, W)."""


@dataclass(frozen=True)
class Flatten:
    pass


@dataclass(frozen=True)
class Linear:
    fan_in: int
    fan_out: int


@dataclass(frozen=True)
class Dropout:
    p: float


@dataclass(frozen=True)
class Residual:
    """body(x) + shortcut(x); an empty shortcut is x itself."""

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


Layer = Conv | Norm | Relu | MaxPool | GlobalPool | Flatten | Linear | Dropout | Residual


@dataclass(frozen=True)
class Network:
    name: str
    input: tuple[int, ...]  # one sample: (features,) or (C, H, W)
    classes: int
    layers: tuple[Layer, ...]

    @property
    def images(self) -> bool:
        return len(self.input) == 3

    def contains(self, kind: type) -> bool:
        return any(isinstance(layer, kind) for layer, _ in walk(self.layers, self.input))

    def forward_flops(self) -> float:
        """Of one sample: those of convolutions and matrix products alone."""
        return sum(layer_flops(layer, shape) for layer, shape in walk(self.layers, self.input))

    def training_flops(self) -> float:
        """Forward, weight gradients, and input gradients but for the first layer, which needs none."""
        first, shape = next(
            (layer, shape) for layer, shape in walk(self.layers, self.input) if isinstance(layer, (Conv, Linear))
        )
        return 3 * self.forward_flops() - layer_flops(first, shape)

    def batch(self, size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Random samples (N, ...) and labels (N,), the same for all libraries."""
        rng = np.random.default_rng(0)
        samples = rng.standard_normal((size, *self.input), dtype=np.float32)
        return samples, rng.integers(0, self.classes, size)


def layer_flops(layer: Layer, shape: tuple[int, ...]) -> float:
    """Of one sample of this shape."""
    if isinstance(layer, Linear):
        return 2.0 * layer.fan_in * layer.fan_out
    if isinstance(layer, Conv):
        height, width = (layer.output_size(size) for size in shape[1:])
        return 2.0 * height * width * layer.kernel**2 * layer.fan_in * layer.fan_out
    return 0.0


def walk(layers: Sequence[Layer], shape: tuple[int, ...]) -> Iterator[tuple[Layer, tuple[int, ...]]]:
    """All layers with the shapes of their inputs, residual blocks opened."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from walk(layer.shortcut, shape)
            yield from walk(layer.body, shape)
            for inner in layer.body:
                shape = _output_shape(inner, shape)
        else:
            yield layer, shape
            shape = _output_shape(layer, shape)


def _output_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(layer, Conv):
        return (layer.fan_out, *(layer.output_size(size) for size in shape[1:]))
    if isinstance(layer, MaxPool):
        return (shape[0], *(layer.output_size(size) for size in shape[1:]))
    if isinstance(layer, GlobalPool):
        return (shape[0], 1, 1)
    if isinstance(layer, Flatten):
        return (int(np.prod(shape)),)
    if isinstance(layer, Linear):
        return (layer.fan_out,)
    return shape


def mlp(*sizes: int) -> Network:
    layers: list[Layer] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [Linear(fan_in, fan_out), Relu()]
    return Network("MLP " + "-".join(map(str, sizes)), (sizes[0],), sizes[-1], tuple(layers[:-1]))


def lenet5() -> Network:
    """LeCun et al. (1998) as it is taught today: ReLU, max pooling, 6-16-120-84-10."""
    return Network(
        "LeNet-5",
        (1, 28, 28),
        10,
        (
            *(Conv(1, 6, 5, padding=2), Relu(), MaxPool(2, 2)),
            *(Conv(6, 16, 5), Relu(), MaxPool(2, 2), Flatten()),
            *(Linear(400, 120), Relu(), Linear(120, 84), Relu(), Linear(84, 10)),
        ),
    )


def _conv_norm(fan_in: int, fan_out: int, kernel: int = 3, stride: int = 1) -> tuple[Layer, ...]:
    return (Conv(fan_in, fan_out, kernel, stride, kernel // 2, bias=False), Norm(fan_out))


def cifar_cnn() -> Network:
    """32-32-P-64-64-P-128-P-10, batch norm after each convolution."""
    layers: list[Layer] = []
    channels = 3
    for width in (32, 32, 0, 64, 64, 0, 128, 0):
        if width:
            layers += [*_conv_norm(channels, width), Relu()]
            channels = width
        else:
            layers.append(MaxPool(2, 2))
    return Network("CIFAR CNN", (3, 32, 32), 10, (*layers, Flatten(), Linear(128 * 16, 10)))


def _block(fan_in: int, fan_out: int, stride: int) -> tuple[Layer, ...]:
    body = (*_conv_norm(fan_in, fan_out, 3, stride), Relu(), *_conv_norm(fan_out, fan_out))
    shortcut = _conv_norm(fan_in, fan_out, 1, stride) if stride > 1 or fan_in != fan_out else ()
    return Residual(body, shortcut), Relu()


def resnet20() -> Network:
    """He et al. (2016), section 4.2, with projections (1x1) where the size changes."""
    layers: list[Layer] = [*_conv_norm(3, 16), Relu()]
    for fan_in, fan_out, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += _block(fan_in, fan_out, stride)
        layers += 2 * _block(fan_out, fan_out, 1)
    return Network("ResNet-20", (3, 32, 32), 10, (*layers, GlobalPool(), Flatten(), Linear(64, 10)))


def resnet18() -> Network:
    """He et al. (2016), table 1, as in torchvision."""
    layers: list[Layer] = [*_conv_norm(3, 64, 7, 2), Relu(), MaxPool(3, 2, 1)]
    for fan_in, fan_out, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers += [*_block(fan_in, fan_out, stride), *_block(fan_out, fan_out, 1)]
    head = (GlobalPool(), Flatten(), Linear(512, 1000))
    return Network("ResNet-18", (3, 224, 224), 1000, (*layers, *head))


def alexnet() -> Network:
    """Krizhevsky (2014) as in torchvision, 61M parameters."""
    return Network(
        "AlexNet",
        (3, 224, 224),
        1000,
        (
            *(Conv(3, 64, 11, 4, 2), Relu(), MaxPool(3, 2)),
            *(Conv(64, 192, 5, padding=2), Relu(), MaxPool(3, 2)),
            *(Conv(192, 384, 3, padding=1), Relu(), Conv(384, 256, 3, padding=1), Relu()),
            *(Conv(256, 256, 3, padding=1), Relu(), MaxPool(3, 2), Flatten()),
            *(Dropout(0.5), Linear(256 * 36, 4096), Relu()),
            *(Dropout(0.5), Linear(4096, 4096), Relu(), Linear(4096, 1000)),
        ),
    )
