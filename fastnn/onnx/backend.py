"""Backend: what ONNX's own tests, and programs that know ONNX's interface of backends, run networks by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.onnx.network import Network, load
from fastnn.onnx.package import package


class Prepared:
    """A network that runs inputs; `Backend.prepare` makes it."""

    def __init__(self, network: Network) -> None:
        self.network = network.eval()

    def run(self, inputs: Any, **settings: Any) -> tuple[np.ndarray[Any, Any], ...]:
        """The outputs, in the file's order.

        Parameters
        ----------
        inputs : sequence of array, or dict of them by name
        """
        if isinstance(inputs, dict):
            results = self.network(**inputs)
        else:
            results = self.network(*inputs)
        return tuple(map(np.asarray, results if isinstance(results, tuple) else (results,)))


class Backend:
    """fastnn behind ONNX's interface of backends, so that onnx.backend.test runs against it.

    Examples
    --------
    >>> import onnx
    >>> node = onnx.helper.make_node("Neg", ["x"], ["y"])
    >>> fn.onnx.Backend.run_node(node, [np.ones(3, np.float32)])
    (array([-1., -1., -1.], dtype=float32),)
    """

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **settings: Any) -> bool:
        """Whether the network is read."""
        try:
            cls.prepare(model, device)
        except ValueError:
            return False
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **settings: Any) -> Prepared:
        """A network (a ModelProto) to be run, in evaluation mode."""
        if not cls.supports_device(device):
            raise ValueError(f"device is {device!r}; fastnn runs on the CPU")
        return Prepared(load(model.SerializeToString()))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **settings: Any) -> tuple[Any, ...]:
        """The outputs of a network (a ModelProto)."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Sequence[Any], device: str = "CPU", outputs_info: Any = None, **settings: Any
    ) -> tuple[Any, ...]:
        """The outputs of one node (a NodeProto).

        Parameters
        ----------
        node : onnx.NodeProto
        inputs : sequence of array
            Of those inputs that the node has.
        device : "CPU"
        outputs_info : sequence of (dtype, shape), optional
            Of the outputs; by default they are what ONNX infers.
        **settings
            opset_version: of the operators; by default the newest.
        """
        onnx = package("Backend.run_node")
        helper, shape_inference = onnx.helper, onnx.shape_inference
        names = [name for name in dict.fromkeys(node.input) if name]
        arrays = [np.asarray(x) for x in inputs]
        if len(names) != len(arrays):
            raise ValueError(f"{node.op_type} has {len(names)} inputs, got {len(arrays)}")

        def info(name: str, dtype: Any, shape: Any) -> Any:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

        ports = [info(name, a.dtype, a.shape) for name, a in zip(names, arrays, strict=True)]
        outputs = [name for name in node.output if name]
        if outputs_info is None:
            results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        else:
            results = [info(name, *form) for name, form in zip(outputs, outputs_info, strict=True)]
        version = settings.get("opset_version", onnx.defs.onnx_opset_version())
        graph = helper.make_graph([node], "node", ports, results)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
        if outputs_info is None:
            model = shape_inference.infer_shapes(model)
        return cls.run_model(model, arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether networks run on a device: on the CPU."""
        return device.split(":")[0] == "CPU"
