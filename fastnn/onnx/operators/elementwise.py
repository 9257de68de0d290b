"""Arithmetic."""

from __future__ import annotations

from fastnn.graph import Tensor
from fastnn.onnx.operator import Call, operator


@operator("Add", 7)
def add(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """a + b."""
    return a + b
