"""What several benchmarks need: kernels as programs of one op, and the networks.

asv calls `setup` again before every sample, so what is made here is kept for the process, and is run
five times before it is timed: memory touched, threads started, sizes planned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import nn, optim

WARM_UP = 5


def array(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def warm(call: Callable[[], object]) -> Callable[[], object]:
    for _ in range(WARM_UP):
        call()
    return call


def kernel(function: Callable[..., Any], *arrays: np.ndarray[Any, Any], wrt: int | None = None) -> Callable[[], object]:
    """function(*arrays), or the gradient of it for arrays[wrt] alone, into memory that is there."""
    from fastnn.graph import Graph, recording
    from fastnn.lowering.gradients import gradients
    from fastnn.lowering.program import Program

    graph = Graph()
    with recording(graph):
        tensors = [graph.memory(a) for a in arrays]
        result = function(*tensors)
        if wrt is not None:
            seed = graph.memory(np.ones(tuple(map(int, result.shape)), np.float32))
            (result,) = gradients(graph, {result: seed}, [tensors[wrt]])
        out = np.zeros(tuple(map(int, result.shape)), result.dtype)
        program = Program(graph, [[]], [(result, out, 0)])
    return warm(program.plans[0].run)


def cifar_cnn() -> nn.Module:
    """32-32-P-64-64-P-128-P-10, batch norm after each convolution."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 32, 0, 64, 64, 0, 128, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))


#: name: model, one sample, classes, optimizer
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, str]] = {
    "MLP 4-64-64-2": (lambda: fn.models.mlp(4, (64, 64), 2), (4,), 2, "adam"),
    "MLP 784-512-256-10": (lambda: fn.models.mlp(784, (512, 256), 10), (784,), 10, "adam"),
    "LeNet-5": (lambda: fn.models.lenet5(), (1, 28, 28), 10, "sgd"),
    "CIFAR CNN": (cifar_cnn, (3, 32, 32), 10, "sgd"),
    "ResNet-20": (lambda: fn.models.resnet20(), (3, 32, 32), 10, "sgd"),
    "ResNet-18": (lambda: fn.models.resnet18(), (3, 224, 224), 1000, "sgd"),
    "AlexNet": (lambda: fn.models.alexnet(), (3, 224, 224), 1000, "sgd"),
}


def model(name: str) -> nn.Module:
    """A network with the same weights each time.

    Raises
    ------
    NotImplementedError
        If the commit under test lacks it, or one of its layers; asv prints n/a then.
    """
    fn.manual_seed(0)
    try:
        return NETWORKS[name][0]()
    except AttributeError as error:
        raise NotImplementedError(str(error)) from None


def batch(name: str, size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    _, shape, classes, _ = NETWORKS[name]
    return array(size, *shape), np.random.default_rng(1).integers(0, classes, size)


def training_step(name: str) -> fn.TrainStep:
    """A new step. The rate is too small for the numbers to drift while it is timed."""
    net = model(name).train()
    if NETWORKS[name][3] == "adam":
        opt: optim.Optimizer = optim.Adam(net.parameters(), lr=1e-5)
    else:
        opt = optim.SGD(net.parameters(), lr=1e-5, momentum=0.9)
    return fn.TrainStep(net, nn.CrossEntropyLoss(), opt)


@functools.cache
def training(name: str, size: int) -> Callable[[], object]:
    step, (x, y) = training_step(name), batch(name, size)
    return warm(lambda: step(x, y))


@functools.cache
def inference(name: str, size: int, frozen: bool = False) -> Callable[[], object]:
    net, (x, _) = model(name).eval(), batch(name, size)
    if frozen:
        if not hasattr(net, "frozen"):
            raise NotImplementedError("no Module.frozen")
        net = net.frozen()
    return warm(lambda: net(x))
