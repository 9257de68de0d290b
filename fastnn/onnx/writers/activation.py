"""Activations: a node where ONNX has it, else the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

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

    def _is_single(self, *numbers: float) -> bool:
        """Whether attributes, which are float32, hold these numbers as exactly as x is."""
        return self.dtype.itemsize == 4 or all(float(np.float32(number)) == number for number in numbers)

    def _above_zero_else(self, above: str, below: str) -> str:
        return self._where(self._above(self.x, 0.0), above, below)

    def _relu(self) -> str:
        return self.w.node("Relu", self.x)

    def _leaky_relu(self) -> str:
        if self._is_single(self.a):
            return self.w.node("LeakyRelu", self.x, alpha=self.a)
        return self._above_zero_else(self.x, self._times(self.x, self.a))

    def _elu(self) -> str:
        w, x = self.w, self.x
        if self.b == 1.0 and self._is_single(self.a):
            return w.node("Elu", x, alpha=self.a)
        if self.a > 0 and self.b == 1 / self.a and w.opset >= 12 and self.dtype.itemsize == 4:
            return w.node("Celu", x, alpha=self.a)
        return self._above_zero_else(x, self._below_zero(self.a, self.b))

    def _below_zero(self, a: float, b: float) -> str:
        """a * (exp(b * x) - 1)"""
        w = self.w
        power = w.node("Exp", self._times(self.x, b) if b != 1.0 else self.x)
        return self._times(w.node("Sub", power, self._number(1)), a)

    def _selu(self) -> str:
        if self.dtype.itemsize == 4:
            return self.w.node("Selu", self.x)
        scale, alpha = 1.05070098735548049342, 1.67326324235437728481
        return self._above_zero_else(self._times(self.x, scale), self._below_zero(scale * alpha, 1.0))

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
        if self.dtype.itemsize == 4:
            return self.w.node("HardSigmoid", self.x, alpha=1 / 6, beta=0.5)
        return clipped(self.w, affine(self.w, self.x, 1 / 6, 0.5, self.dtype), 0.0, 1.0, self.dtype)

    def _hardswish(self) -> str:
        w = self.w
        if w.opset >= 14 and self.dtype.itemsize == 4:
            return w.node("HardSwish", self.x)
        return w.node("Mul", self.x, self._hardsigmoid())

    def _hardtanh(self) -> str:
        return clipped(self.w, self.x, self.a, self.b, self.dtype)

    def _hardshrink(self) -> str:
        return self._shrunk(0.0)

    def _softshrink(self) -> str:
        return self._shrunk(self.a)

    def _shrunk(self, by: float) -> str:
        """x nearer to 0 by so much, where it is beyond the bound, else 0."""
        w, x = self.w, self.x
        if self._is_single(self.a):
            return w.node("Shrink", x, lambd=self.a, bias=by)
        up, down = (affine(w, x, 1.0, b, self.dtype) for b in (by, -by))
        below = self._where(compared(w, "less", x, self._number(-self.a)), up, self._number(0))
        return self._where(self._above(x, self.a), down, below)

    def _threshold(self) -> str:
        if self.b == 0.0 and self.w.opset >= 10 and self._is_single(self.a):
            return self.w.node("ThresholdedRelu", self.x, alpha=self.a)
        return self._where(self._above(self.x, self.a), self.x, self._number(self.b))
