"""Activations: a node where ONNX has it, else the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.graph import Node
from fastnn.onnx.writer import Writer, writes
from fastnn.onnx.writers.elementwise import affine, clipped, compared


@writes("activation")
def activation(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    value = w.value(x)
    a, b = node.attrs["settings"]
    w.put(y, _Formula(w, value.name, y.dtype, a, b).write(node.attrs["kind"]), value)


class _Formula:
    """An activation of `x` with the settings `a` and `b`."""

    def __init__(self, w: Writer, x: str, dtype: Any, a: float, b: float) -> None:
        self.w, self.x, self.dtype, self.a, self.b = w, x, dtype, a, b

    def write(self, kind: str) -> str:
        method: Callable[[], str] = getattr(self, f"_{kind}")
        return method()

    def _number(self, value: float) -> str:
        return self.w.constant(value, self.dtype)

    def _times(self, x: str, factor: float) -> str:
        return affine(self.w, x, factor, 0.0, self.dtype)

    def _where(self, condition: str, a: str, b: str) -> str:
        return self.w.node("Where", condition, a, b)

    def _above(self, x: str, bound: float) -> str:
        return compared(self.w, "greater", x, self._number(bound))

    def _relu(self) -> str:
        return self.w.node("Relu", self.x)

    def _leaky_relu(self) -> str:
        return self.w.node("LeakyRelu", self.x, alpha=self.a)

    def _elu(self) -> str:
        w, x = self.w, self.x
        if self.b == 1.0:
            return w.node("Elu", x, alpha=self.a)
        if self.a > 0 and self.b == 1 / self.a and w.opset >= 12:
            return w.node("Celu", x, alpha=self.a)
        low = w.node("Sub", w.node("Exp", self._times(x, self.b)), self._number(1))
        return self._where(self._above(x, 0.0), x, self._times(low, self.a))

    def _selu(self) -> str:
        return self.w.node("Selu", self.x)

    def _sigmoid(self) -> str:
        return self.w.node("Sigmoid", self.x)

    def _tanh(self) -> str:
        return self.w.node("Tanh", self.x)

    def _softsign(self) -> str:
        return self.w.node("Softsign", self.x)

    def _gelu(self) -> str:
        w, x = self.w, self.x
        if w.opset >= 20:
            return w.node("Gelu", x)
        cdf = affine(w, w.node("Erf", self._times(x, math.sqrt(0.5))), 1.0, 1.0, self.dtype)
        return self._times(w.node("Mul", x, cdf), 0.5)

    def _gelu_tanh(self) -> str:
        w, x = self.w, self.x
        if w.opset >= 20:
            return w.node("Gelu", x, approximate="tanh")
        slope = affine(
            w, w.node("Mul", x, x), 2 * 0.044715 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi), self.dtype
        )
        return w.node("Mul", x, w.node("Sigmoid", w.node("Mul", x, slope)))

    def _silu(self) -> str:
        w, x = self.w, self.x
        return w.node("Mul", x, w.node("Sigmoid", self._times(x, self.a) if self.a != 1.0 else x))

    def _step(self) -> str:
        one = self.w.cast(self._above(self.x, 0.0), self.dtype)
        return self._where(self.w.node("IsNaN", self.x), self.x, one)

    def _softplus(self) -> str:
        w, x, a = self.w, self.x, self.a
        scaled = self._times(x, a) if a != 1.0 else x
        y = w.node("Softplus", scaled)
        y = y if a == 1.0 else self._times(y, 1 / a)
        # Beyond 20 the two differ by less than half of float32's last digit.
        if self.b == math.inf or (self.b >= 20 and self.dtype.itemsize == 4):
            return y
        return self._where(self._above(scaled, self.b), x, y)

    def _mish(self) -> str:
        w, x = self.w, self.x
        if w.opset >= 18:
            return w.node("Mish", x)
        return w.node("Mul", x, w.node("Tanh", w.node("Softplus", x)))

    def _hardsigmoid(self) -> str:
        return self.w.node("HardSigmoid", self.x, alpha=1 / 6, beta=0.5)

    def _hardswish(self) -> str:
        w = self.w
        return w.node("HardSwish", self.x) if w.opset >= 14 else w.node("Mul", self.x, self._hardsigmoid())

    def _hardtanh(self) -> str:
        return clipped(self.w, self.x, self.a, self.b, self.dtype)

    def _hardshrink(self) -> str:
        return self.w.node("Shrink", self.x, lambd=self.a, bias=0.0)

    def _softshrink(self) -> str:
        return self.w.node("Shrink", self.x, lambd=self.a, bias=self.a)

    def _threshold(self) -> str:
        if self.b == 0.0 and self.w.opset >= 10:
            return self.w.node("ThresholdedRelu", self.x, alpha=self.a)
        return self._where(self._above(self.x, self.a), self.x, self._number(self.b))
