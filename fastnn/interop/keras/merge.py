"""Layers of several inputs: sums, products, joins."""

from __future__ import annotations

from functools import reduce
from typing import Any

from fastnn.interop.keras.config import Settings
from fastnn.interop.keras.layer import Arrays, Layer, register
from fastnn.interop.keras.norm import unit
from fastnn.ops.elementwise import maximum, minimum
from fastnn.ops.shape import concat


def _aligned(inputs: list[Any]) -> list[Any]:
    """Tensors of one number of dimensions: those that lack some have them behind the batch. Numbers stay."""
    most = max(x.ndim for x in inputs if not isinstance(x, float))
    result = []
    for x in inputs:
        while not isinstance(x, float) and x.ndim < most:
            x = x.unsqueeze(1)
        result.append(x)
    return result


@register("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
class Merge(Layer):
    """Element by element."""

    merges = True

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.kind = self._shown = s.kind

    def forward(self, input: Any, training: bool | None = None) -> Any:
        inputs = _aligned(input)
        match self.kind:
            case "Subtract":
                if len(inputs) != 2:
                    raise ValueError(f"it takes two inputs, got {len(inputs)}")
                return inputs[0] - inputs[1]
            case "Multiply":
                return reduce(lambda a, b: a * b, inputs)
            case "Maximum":
                return reduce(maximum, inputs)
            case "Minimum":
                return reduce(minimum, inputs)
            case _:
                total = reduce(lambda a, b: a + b, inputs)
                return total / float(len(inputs)) if self.kind == "Average" else total


@register("Concatenate")
class Concatenate(Layer):
    """One after another along a dimension."""

    merges = True

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.axis = s.axis()
        self._shown = f"axis={self.axis}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return concat(input, self.axis)


@register("Dot")
class Dot(Layer):
    """Products of two inputs, summed over one dimension of each."""

    merges = True

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        axes = s.axes("axes", None)
        if len(axes) > 2 or 0 in axes:
            raise s.wrong(f"axes must be one or two ints that are not 0, got {list(axes)}")
        self.axes = (axes[0], axes[-1])
        self.normalize = s.flag("normalize", False)
        self.least = 1e-7 if s.major >= 3 else 1e-6
        self._shown = f"axes={self.axes}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        if len(input) != 2 or min(x.ndim for x in input) < 2:
            raise ValueError(f"it takes two inputs of at least two dimensions, got {[tuple(x.shape) for x in input]}")
        rows, kept = [], []
        for x, given in zip(input, self.axes, strict=True):
            if not -x.ndim <= given < x.ndim or given % x.ndim == 0:
                raise ValueError(f"input has shape {tuple(x.shape)}, of which there is no axis {given}")
            axis = given % x.ndim
            x = unit(x, (axis,), self.least) if self.normalize else x
            others = [d for d in range(1, x.ndim) if d != axis]
            kept.append([int(x.shape[d]) for d in others])
            rows.append(x.permute(0, *others, axis).reshape(x.shape[0], -1, int(x.shape[axis])))
        if rows[0].shape[2] != rows[1].shape[2]:
            raise ValueError(f"the axes {self.axes} of inputs {[tuple(x.shape) for x in input]} differ in size")
        product = rows[0] @ rows[1].permute(0, 2, 1)
        return product.reshape(product.shape[0], *(kept[0] + kept[1] or [1]))
