"""A network as an ONNX model with random weights (opset 17), for the inference engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asv_bench.peers import networks
from asv_bench.peers.networks import Network


def write(network: Network, batch: int) -> Any:
    """The model: input "x" of this batch, output "y"."""
    from onnx import TensorProto, helper

    writer = _Writer()
    last = writer.run(network.layers, "x")
    writer.node("Identity", [last], output="y")
    graph = helper.make_graph(
        writer.nodes,
        network.name.replace(" ", "_"),
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (batch, *network.input))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (batch, network.classes))],
        writer.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class _Writer:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.rng = np.random.default_rng(0)

    def node(self, kind: str, inputs: list[str], output: str = "", **settings: Any) -> str:
        from onnx import helper

        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **settings))
        return output

    def weight(self, shape: tuple[int, ...], fan_in: int) -> str:
        return self.constant(self.rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape))

    def constant(self, values: np.ndarray[Any, Any]) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def run(self, layers: Sequence[networks.Layer], x: str) -> str:
        for layer in layers:
            match layer:
                case networks.Conv(fan_in, fan_out, kernel, stride, padding, bias):
                    fan = fan_in * kernel * kernel
                    inputs = [x, self.weight((fan_out, fan_in, kernel, kernel), fan)]
                    if bias:
                        inputs.append(self.weight((fan_out,), fan))
                    x = self.node("Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)
                case networks.Norm(channels):
                    one, zero = np.ones(channels), np.zeros(channels)
                    x = self.node("BatchNormalization", [x, *map(self.constant, (one, zero, zero, one))])
                case networks.Relu():
                    x = self.node("Relu", [x])
                case networks.MaxPool(kernel, stride, padding):
                    x = self.node("MaxPool", [x], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)
                case networks.GlobalPool():
                    x = self.node("GlobalAveragePool", [x])
                case networks.Flatten():
                    x = self.node("Flatten", [x])
                case networks.Linear(fan_in, fan_out):
                    inputs = [x, self.weight((fan_out, fan_in), fan_in), self.weight((fan_out,), fan_in)]
                    x = self.node("Gemm", inputs, transB=1)
                case networks.Residual(body, shortcut):
                    x = self.node("Add", [self.run(body, x), self.run(shortcut, x)])
        return x
