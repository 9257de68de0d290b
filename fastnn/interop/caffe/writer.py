"""What a prototxt is written with: layers, and the blobs of a graph's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.graph import Tensor
from fastnn.interop.caffe.proto import net_parameter


class Unknown(ValueError):
    """What is read could not be written."""


class Value(NamedTuple):
    """A blob, and which of its axes each dimension of a tensor is: a graph's images have channels last."""

    blob: str
    axes: tuple[int, ...]


class Writer:
    """A NetParameter that grows by layers.

    Attributes
    ----------
    net : NetParameter
    read : set of str
        Blobs that some layer reads.
    failed : set of Tensor
        What could not be written.
    """

    def __init__(self, name: str) -> None:
        self.net = net_parameter()(name=name)
        self.read: set[str] = set()
        self.failed: set[Tensor] = set()
        self._values: dict[Tensor, Value] = {}
        self._blobs: set[str] = set()

    def value(self, tensor: Tensor) -> Value:
        """The blob of a tensor, in whichever order of axes."""
        if tensor not in self._values:
            node = tensor.node
            if node.op.name not in ("transpose", "detach"):
                raise (Unknown if tensor in self.failed else ValueError)("it reads a tensor that no layer makes")
            value = self.value(node.inputs[0])
            if node.op.name == "transpose":
                value = value._replace(axes=tuple(value.axes[a] for a in node.attrs["axes"]))
            self._values[tensor] = value
        return self._values[tensor]

    def plain(self, tensor: Tensor) -> Value:
        """The blob of a tensor that has its axes."""
        value = self.value(tensor)
        if value.axes != tuple(range(tensor.ndim)):
            raise ValueError("it reads a tensor with its axes in another order")
        return value

    def claim(self, tensor: Tensor, value: Value) -> None:
        """A tensor's blob; and that of what it is a transpose of."""
        self._values[tensor] = value
        while tensor.node.op.name == "transpose":
            axes = dict(zip(tensor.node.attrs["axes"], value.axes, strict=True))
            tensor = tensor.node.inputs[0]
            value = value._replace(axes=tuple(axes[d] for d in range(tensor.ndim)))
            self._values.setdefault(tensor, value)

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[Tensor | str],
        outputs: Sequence[Tensor | None],
        blobs: Sequence[Any] = (),
        axes: tuple[int, ...] | None = None,
        **settings: Any,
    ) -> Any:
        """A layer, of tensors or blobs by name; tensors have their axes in the order of `axes`, by default their own.
        An output of None is a blob that stands for no tensor. Settings are message=table."""
        layer = self.net.layer.add(type=kind)
        layer.name, number = name, 0
        while layer.name in self._blobs:
            number += 1
            layer.name = f"{name}_{number}"
        for given in inputs:
            if isinstance(given, str):
                blob = given
            else:
                blob = (self.plain(given) if axes is None else self.value(given)).blob
            layer.bottom.append(blob)
            self.read.add(blob)
        for i, output in enumerate(outputs):
            top = layer.name if len(outputs) == 1 else f"{layer.name}_{i}"
            self._blobs.add(top)
            layer.top.append(top)
            if output is not None:
                self.claim(output, Value(top, tuple(range(output.ndim)) if axes is None else axes))
        self._blobs.add(layer.name)
        for array in blobs:
            values = np.asarray(array)
            blob = layer.blobs.add()
            blob.shape.dim.extend(values.shape)
            if values.dtype == np.float64:
                blob.double_data.append(values.astype("<f8").tobytes())
            else:
                blob.data.append(values.astype("<f4").tobytes())
        for message, table in settings.items():
            self.set(layer, message, table)
        return layer

    def set(self, layer: Any, message: str, table: dict[str, Any]) -> None:
        """Fields of one of a layer's messages."""
        for key, value in table.items():
            target = getattr(layer, message)
            if isinstance(value, (list, tuple)):
                getattr(target, key).extend(value)
            else:
                setattr(target, key, value)
