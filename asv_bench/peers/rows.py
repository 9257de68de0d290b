"""The rows of the comparison: what is computed in each, and how many FLOPs that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from asv_bench.peers import networks
from asv_bench.peers.networks import Conv, Network

KINDS = ("gemm", "conv", "train", "infer")


@dataclass(frozen=True)
class Gemm:
    """C (m, n) = A B over k; ta, tb: the operand lies transposed in memory."""

    m: int
    n: int
    k: int
    ta: bool = False
    tb: bool = False


@dataclass(frozen=True)
class Convolution:
    """One direction of one layer: "forward" (with bias), "dx" or "dW" (with the bias's gradient)."""

    layer: Conv
    size: int  # height and width of the input
    batch: int
    direction: str


@dataclass(frozen=True)
class Training:
    """A step on one batch: forward, cross-entropy, backward, update."""

    network: Network
    batch: int
    optimizer: str  # "adam" or "sgd" (momentum 0.9)


@dataclass(frozen=True)
class Inference:
    network: Network
    batch: int


@dataclass(frozen=True)
class Row:
    kind: str
    name: str
    flops: float
    work: Gemm | Convolution | Training | Inference


@cache
def all_rows() -> tuple[Row, ...]:
    return (*_gemm_rows(), *_conv_rows(), *_training_rows(), *_inference_rows())


def find(name: str) -> Row:
    return next(row for row in all_rows() if row.name == name)


def _gemm_rows() -> Iterator[Row]:
    """The products of a step (forward x W, weight gradient x' dy, input gradient dy W'), and some more."""
    for batch in (32, 128, 1024):
        for fan_in, fan_out in ((784, 512), (512, 256), (256, 10)):
            layer = f"mlp b{batch} {fan_in}x{fan_out}"
            yield _gemm(f"{layer} forward", Gemm(batch, fan_out, fan_in))
            yield _gemm(f"{layer} dW", Gemm(fan_in, fan_out, batch, ta=True))
            if fan_in != 784:
                yield _gemm(f"{layer} dx", Gemm(batch, fan_in, fan_out, tb=True))
    for fan_in, fan_out in ((400, 120), (120, 84), (84, 10)):
        layer = f"lenet b64 {fan_in}x{fan_out}"
        yield _gemm(f"{layer} forward", Gemm(64, fan_out, fan_in))
        yield _gemm(f"{layer} dW", Gemm(fan_in, fan_out, 64, ta=True))
        yield _gemm(f"{layer} dx", Gemm(64, fan_in, fan_out, tb=True))
    for size in (64, 256, 1024):
        yield _gemm(f"square {size}", Gemm(size, size, size))
    yield _gemm("resnet18 b16 1x1 64->128 28x28", Gemm(16 * 28 * 28, 128, 64))
    yield _gemm("alexnet b32 9216x4096 forward", Gemm(32, 4096, 9216))
    yield _gemm("alexnet b32 9216x4096 dW", Gemm(9216, 4096, 32, ta=True))
    yield _gemm("alexnet b32 9216x4096 dx", Gemm(32, 9216, 4096, tb=True))


def _gemm(name: str, work: Gemm) -> Row:
    return Row("gemm", "gemm " + name, 2.0 * work.m * work.n * work.k, work)


#: network and batch, layer, size of its input
LAYERS = (
    ("lenet b64", 64, Conv(1, 6, 5, padding=2), 28),
    ("lenet b64", 64, Conv(6, 16, 5), 14),
    ("resnet20 b128", 128, Conv(3, 16, 3, padding=1), 32),
    ("resnet20 b128", 128, Conv(16, 16, 3, padding=1), 32),
    ("resnet20 b128", 128, Conv(16, 32, 3, 2, 1), 32),
    ("resnet20 b128", 128, Conv(32, 32, 3, padding=1), 16),
    ("resnet20 b128", 128, Conv(64, 64, 3, padding=1), 8),
    ("resnet18 b16", 16, Conv(3, 64, 7, 2, 3), 224),
    ("resnet18 b16", 16, Conv(64, 64, 3, padding=1), 56),
    ("resnet18 b16", 16, Conv(64, 128, 3, 2, 1), 56),
    ("resnet18 b16", 16, Conv(64, 128, 1, 2), 56),
    ("resnet18 b16", 16, Conv(128, 128, 3, padding=1), 28),
    ("resnet18 b16", 16, Conv(256, 256, 3, padding=1), 14),
    ("resnet18 b16", 16, Conv(512, 512, 3, padding=1), 7),
    ("alexnet b32", 32, Conv(3, 64, 11, 4, 2), 224),
    ("alexnet b32", 32, Conv(64, 192, 5, padding=2), 27),
    ("alexnet b32", 32, Conv(192, 384, 3, padding=1), 13),
    ("alexnet b32", 32, Conv(384, 256, 3, padding=1), 13),
)


def _conv_rows() -> Iterator[Row]:
    for where, batch, layer, size in LAYERS:
        stride = f"/{layer.stride}" if layer.stride > 1 else ""
        sizes = f"{layer.fan_in}->{layer.fan_out} {layer.kernel}x{layer.kernel}{stride} at {size}"
        flops = batch * networks.layer_flops(layer, (layer.fan_in, size, size))
        # A first layer's input is the data, which needs no gradient.
        for direction in ("forward", "dW") if layer.fan_in <= 3 else ("forward", "dx", "dW"):
            work = Convolution(layer, size, batch, direction)
            yield Row("conv", f"conv {where} {sizes} {direction}", flops, work)


def _training_rows() -> Iterator[Row]:
    big, small = networks.mlp(784, 512, 256, 10), networks.mlp(4, 64, 64, 2)
    for network, batch, optimizer in (
        *((big, 32, "adam"), (big, 128, "adam"), (big, 1024, "adam"), (small, 32, "adam")),
        *((networks.lenet5(), 64, "sgd"), (networks.lenet5(), 256, "sgd")),
        *((networks.cifar_cnn(), 64, "sgd"), (networks.resnet20(), 128, "sgd")),
        *((networks.resnet18(), 16, "sgd"), (networks.alexnet(), 32, "sgd")),
    ):
        name = f"train {network.name}, batch {batch}"
        flops = batch * network.training_flops()
        yield Row("train", name, flops, Training(network, batch, optimizer))


def _inference_rows() -> Iterator[Row]:
    for network, batch in (
        *((networks.mlp(4, 64, 64, 2), 1), (networks.mlp(784, 512, 256, 10), 1)),
        *((networks.lenet5(), 1), (networks.resnet20(), 1)),
        *((networks.resnet18(), 1), (networks.resnet18(), 16)),
        *((networks.alexnet(), 1), (networks.alexnet(), 32)),
    ):
        flops = batch * network.forward_flops()
        yield Row("infer", f"infer {network.name}, batch {batch}", flops, Inference(network, batch))
