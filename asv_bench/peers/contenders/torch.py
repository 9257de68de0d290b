"""PyTorch: eager, channels-last and compiled, each with fused optimizers; MKL for products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asv_bench.peers import networks
from asv_bench.peers.rows import Convolution, Gemm, Inference, Row, Training

EAGER, LAST = "torch", "torch channels-last"
COMPILED, COMPILED_LAST = "torch compile", "torch compile channels-last"
NAMES = (EAGER, LAST, COMPILED, COMPILED_LAST)
REQUIRES = ("torch",)


def offers(name: str, row: Row) -> bool:
    if name == EAGER:
        return True
    whole = row.kind in ("train", "infer")
    if name == COMPILED:
        return whole
    return (whole and row.work.network.images) or (name == LAST and row.kind == "conv")


def make(name: str, row: Row, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    work = row.work
    if isinstance(work, Gemm):
        return _gemm(work)
    if isinstance(work, Convolution):
        return _convolution(work, name == LAST)
    samples, labels = work.network.batch(work.batch)
    x, y = torch.from_numpy(samples), torch.from_numpy(labels)
    model = build(work.network.layers)
    if name in (LAST, COMPILED_LAST):
        x, model = x.to(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)
    compiled = name in (COMPILED, COMPILED_LAST)
    if isinstance(work, Inference):
        return _inference(model.eval(), x, compiled)
    return training_step(model.train(), work, x, y, compiled)


def training_step(model: Any, work: Training, x: Any, y: Any, compiled: bool) -> Callable[[], object]:
    import torch

    if work.optimizer == "adam":
        opt: Any = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    else:
        opt = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, fused=True)

    def loss_of(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), y)

    compute = torch.compile(loss_of) if compiled else loss_of

    def step() -> float:
        opt.zero_grad(set_to_none=True)
        loss = compute(x, y)
        loss.backward()
        opt.step()
        return float(loss.item())

    return step


def _inference(model: Any, x: Any, compiled: bool) -> Callable[[], object]:
    import torch

    compute = torch.compile(model) if compiled else model

    def infer() -> object:
        with torch.inference_mode():
            return compute(x)

    return infer


def build(layers: Sequence[networks.Layer]) -> Any:
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
            super().__init__()
            self.body = body
            self.shortcut = shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + self.shortcut(x)

    def module(layer: networks.Layer) -> nn.Module:
        match layer:
            case networks.Conv(fan_in, fan_out, kernel, stride, padding, bias):
                return nn.Conv2d(fan_in, fan_out, kernel, stride, padding, bias=bias)
            case networks.Norm(channels):
                return nn.BatchNorm2d(channels)
            case networks.Relu():
                return nn.ReLU(inplace=True)
            case networks.MaxPool(kernel, stride, padding):
                return nn.MaxPool2d(kernel, stride, padding)
            case networks.GlobalPool():
                return nn.AdaptiveAvgPool2d(1)
            case networks.Flatten():
                return nn.Flatten()
            case networks.Linear(fan_in, fan_out):
                return nn.Linear(fan_in, fan_out)
            case networks.Dropout(p):
                return nn.Dropout(p)
            case networks.Residual(body, shortcut):
                return Residual(build(body), build(shortcut))
        raise TypeError(layer)

    return nn.Sequential(*map(module, layers))


def _gemm(work: Gemm) -> Callable[[], object]:
    import torch

    a = torch.randn((work.k, work.m) if work.ta else (work.m, work.k))
    b = torch.randn((work.n, work.k) if work.tb else (work.k, work.n))
    left, right = a.T if work.ta else a, b.T if work.tb else b
    result = torch.zeros((work.m, work.n))
    return lambda: torch.mm(left, right, out=result)


def _convolution(work: Convolution, channels_last: bool) -> Callable[[], object]:
    import torch

    layer, out = work.layer, work.layer.output_size(work.size)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    rng = np.random.default_rng(0)

    def tensor(*shape: int) -> Any:
        values = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        return values.contiguous(memory_format=layout)

    x = tensor(work.batch, layer.fan_in, work.size, work.size)
    w = tensor(layer.fan_out, layer.fan_in, layer.kernel, layer.kernel)
    dy = tensor(work.batch, layer.fan_out, out, out)
    bias = torch.zeros(layer.fan_out)
    stride, padding = [layer.stride] * 2, [layer.padding] * 2
    if work.direction == "forward":

        def forward() -> object:
            with torch.inference_mode():
                return torch.nn.functional.conv2d(x, w, bias, stride, padding)

        return forward
    wanted = [work.direction == "dx", work.direction == "dW", work.direction == "dW"]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(dy, x, w, [layer.fan_out], stride, padding, [1, 1], False, [0, 0], 1, wanted)
