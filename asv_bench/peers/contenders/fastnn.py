"""fastnn: TrainStep, Module's call, and single ops as plans of one op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asv_bench.peers import networks
from asv_bench.peers.rows import Convolution, Gemm, Inference, Row, Training

NAMES = ("fastnn",)
REQUIRES = ("fastnn",)


def offers(name: str, row: Row) -> bool:
    return True


def make(name: str, row: Row, threads: int) -> Callable[[], object]:
    import fastnn as fn

    fn.set_num_threads(threads)
    fn.manual_seed(0)
    work = row.work
    if isinstance(work, Gemm):
        return _gemm(work)
    if isinstance(work, Convolution):
        return _convolution(work)
    x, y = work.network.batch(work.batch)
    model = build(work.network.layers)
    if isinstance(work, Inference):
        frozen = model.frozen()
        return lambda: frozen(x)
    step = training_step(model, work)
    return lambda: step(x, y)


def training_step(model: Any, work: Training) -> Any:
    import fastnn as fn
    from fastnn import nn, optim

    if work.optimizer == "adam":
        opt: Any = optim.Adam(model.parameters(), lr=1e-5)
    else:
        opt = optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)
    return fn.TrainStep(model.train(), nn.CrossEntropyLoss(), opt)


def build(layers: Sequence[networks.Layer]) -> Any:
    from fastnn import nn

    class Residual(nn.Module):
        def __init__(self, body: nn.Module, shortcut: nn.Module | None) -> None:
            super().__init__()
            self.body = body
            self.shortcut = shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + (x if self.shortcut is None else self.shortcut(x))

    def module(layer: networks.Layer) -> nn.Module:
        match layer:
            case networks.Conv(fan_in, fan_out, kernel, stride, padding, bias):
                return nn.Conv2d(fan_in, fan_out, kernel, stride, padding, bias=bias)
            case networks.Norm(channels):
                return nn.BatchNorm2d(channels)
            case networks.Relu():
                return nn.ReLU()
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
                return Residual(build(body), build(shortcut) if shortcut else None)
        raise TypeError(layer)

    return nn.Sequential(*map(module, layers))


def _gemm(work: Gemm) -> Callable[[], object]:
    from fastnn.graph import Graph, recording
    from fastnn.lowering.program import Program
    from fastnn.ops.gemm import product

    rng = np.random.default_rng(0)
    m, n, k = work.m, work.n, work.k
    a = rng.standard_normal((k, m) if work.ta else (m, k), dtype=np.float32)
    b = rng.standard_normal((n, k) if work.tb else (k, n), dtype=np.float32)
    result = np.zeros((m, n), np.float32)
    graph = Graph()
    with recording(graph):
        c = product(graph.memory(a), graph.memory(b), ta=work.ta, tb=work.tb)
        return Program(graph, [[]], [(c, result, 0)]).plans[0].run


def _convolution(work: Convolution) -> Callable[[], object]:
    from fastnn.graph import Graph, recording
    from fastnn.lowering.program import Program
    from fastnn.ops.conv2d import CONV2D, INPUT_GRAD, WEIGHT_GRAD, Geometry

    layer, size, batch = work.layer, work.size, work.batch
    square = (layer.kernel, layer.kernel), (layer.stride, layer.stride)
    geometry = Geometry(*square, (layer.padding,) * 4, (1, 1), 1)
    out = layer.output_size(size)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, size, size, layer.fan_in), dtype=np.float32)
    w = rng.standard_normal((1, layer.kernel, layer.kernel, layer.fan_in, layer.fan_out), dtype=np.float32)
    dy = rng.standard_normal((batch, out, out, layer.fan_out), dtype=np.float32)
    bias = np.zeros(layer.fan_out, np.float32)
    graph = Graph()
    with recording(graph):
        if work.direction == "forward":
            operands = [graph.memory(x), graph.memory(w), graph.memory(bias)]
            node = graph.add(CONV2D, operands, geometry=geometry, bias=True, residual=False, act=None)
        elif work.direction == "dx":
            operands = [graph.memory(dy), graph.memory(w)]
            node = graph.add(INPUT_GRAD, operands, geometry=geometry, shape=x.shape, grad=None)
        else:
            operands = [graph.memory(x), graph.memory(dy)]
            node = graph.add(WEIGHT_GRAD, operands, geometry=geometry, shape=w.shape)
        sinks = [(t, np.zeros(tuple(map(int, t.shape)), np.float32), 0) for t in node.outputs]
        return Program(graph, [[]], sinks).plans[0].run
