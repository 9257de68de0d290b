"""Arithmetic."""

from __future__ import annotations

from fastnn.graph import Tensor
from fastnn.onnx.operator import Call, operator


@operator("Relu", 6)
def relu(call: Call, x: Tensor) -> Tensor:
    """max(0, x)."""
    return x.relu()


@operator("Add", 7)
def add(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """a + b."""
    return a + b
