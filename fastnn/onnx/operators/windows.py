"""What convolutions and pools have in common: kernels, strides, dilations and pads along the spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn import _check
from fastnn.onnx.operator import Ints


@dataclass(frozen=True)
class Windows:
    """Settings of windows, each as long as there are spatial dimensions; pads are (before, after) of each."""

    kernel: Ints
    strides: Ints
    dilations: Ints
    pads: tuple[tuple[int, int], ...]

    def sides(self, *dims: int) -> Ints:
        """The pads of some dimensions in a row."""
        return tuple(width for dim in dims for width in self.pads[dim])


def settings(
    kernel: Sequence[int], strides: Ints | None, dilations: Ints | None, pads: Ints | None, auto_pad: str
) -> tuple[Ints, Ints, Ints, tuple[tuple[int, int], ...] | None]:
    """Attributes checked, with defaults: kernel, strides, dilations, and pads, which are None if they follow from the
    sizes (auto_pad)."""
    dims = len(kernel)
    size = _all("kernel_shape", kernel, dims, 1)
    steps = _all("strides", strides or (1,) * dims, dims, 1)
    spread = _all("dilations", dilations or (1,) * dims, dims, 1)
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"its auto_pad is {_check.brief(auto_pad)}; expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    if auto_pad.startswith("SAME"):
        return size, steps, spread, None
    around = _all("pads", pads or (0,) * 2 * dims, 2 * dims, 0) if auto_pad == "NOTSET" else (0,) * 2 * dims
    return size, steps, spread, tuple(zip(around[:dims], around[dims:], strict=True))


def windows(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Ints | None,
    dilations: Ints | None,
    pads: Ints | None,
    auto_pad: str,
) -> Windows:
    """Of a convolution or a pool over dimensions of these sizes."""
    if len(kernel) != len(sizes):
        raise ValueError(f"its kernel has {len(kernel)} dimensions, its input {len(sizes)} spatial ones")
    size, steps, spread, around = settings(kernel, strides, dilations, pads, auto_pad)
    if around is None:
        totals = []
        for extent, k, s, d in zip(sizes, size, steps, spread, strict=True):
            totals.append(max((-(-extent // s) - 1) * s + (k - 1) * d + 1 - extent, 0))
        around = split(totals, auto_pad)
    return Windows(size, steps, spread, around)


def split(totals: Sequence[int], auto_pad: str) -> tuple[tuple[int, int], ...]:
    """Pads of these sums: an odd one has more after, for SAME_UPPER, or before."""
    return tuple(
        (total // 2, total - total // 2) if auto_pad == "SAME_UPPER" else (total - total // 2, total // 2)
        for total in totals
    )


def _all(name: str, values: Sequence[int], length: int, low: int) -> Ints:
    if len(values) != length:
        raise ValueError(f"its {name} holds {len(values)} numbers; expected {length}")
    return tuple(_check.size(f"its {name}", value, low) for value in values)
