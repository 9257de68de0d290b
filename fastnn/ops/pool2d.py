"""Max and average pooling, windowed and adaptive, channels-last inside as convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastnn_ext.pool2d as native
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_float, ends, pair, sides, single
from fastnn.ops.elementwise import div
from fastnn.ops.layout import from_nwc, to_nchw, to_nhwc, to_nwc
from fastnn.sizes import count, describe


class Pool(Op):
    """inputs: x (N, H, W, C). outputs: y (N, OH, OW, C) and, of maxima, where they were.
    attrs: size (OH, OW); settings, what else the native op takes, by name."""

    def __init__(self, name: str, maxima: bool = False) -> None:
        self.name = name
        self.maxima = maxima
        self.grad = PoolGrad(name + "_backward")

    def infer(self, node: Node) -> OutputTypes:
        (x,) = node.inputs
        shape = (x.shape[0], *node.attrs["size"], x.shape[3])
        outputs: OutputTypes = [(shape, x.dtype)]
        if not self.maxima:
            return outputs
        settings = node.attrs["settings"]
        small = settings and settings["kh"] * settings["kw"] <= native.MOST_TAPS
        return [*outputs, (shape, np.dtype(np.uint8 if small else np.int32))]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        settings, shape = node.attrs["settings"], node.inputs[0].shape
        operands = [grads[0], *node.outputs[1:]]
        return [active_graph().add(self.grad, operands, shape=shape, settings=settings).output]

    def lower(self, node: Node, to: Emitter) -> None:
        x, y, settings = node.inputs[0], node.output, node.attrs["settings"]
        index: Arguments = {"index": to.wanted(node.outputs)[1]} if self.maxima else {}
        to.emit(self.name, y=y, x=x, **index, **_sizes(x, y), **settings, flops=_flops(x, y, settings))


class PoolGrad(Op):
    """inputs: dy, then where the maxima were. attrs: shape (of x), settings."""

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, node: Node) -> OutputTypes:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def lower(self, node: Node, to: Emitter) -> None:
        (dy, *index), dx, settings = node.inputs, node.output, node.attrs["settings"]
        operands: Arguments = dict(zip(("index",), index, strict=False))
        to.emit(self.name, dx=dx, dy=dy, **operands, **_sizes(dx, dy), **settings, flops=_flops(dx, dy, settings))


def _sizes(x: Tensor, y: Tensor) -> Arguments:
    """The sizes as the native ops take them, for images x and outputs y."""
    return dict(zip(native.IMAGES.split(), (*x.shape, *y.shape[1:3]), strict=True))


def _flops(x: Tensor, y: Tensor, settings: Mapping[str, int]) -> int:
    """One operation a tap."""
    if settings:
        return count(y.shape) * settings["kh"] * settings["kw"]
    return max(count(x.shape), count(y.shape), key=int)


MAX_POOL2D = Pool("max_pool2d", maxima=True)
AVG_POOL2D = Pool("avg_pool2d")
ADAPTIVE_MAX_POOL2D = Pool("adaptive_max_pool2d", maxima=True)
ADAPTIVE_AVG_POOL2D = Pool("adaptive_avg_pool2d")


@dataclass(frozen=True)
class Windows:
    """Where windows lie in an image."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    dilation: tuple[int, int]
    ceil_mode: bool

    def output_size(self, what: str, size: tuple[int, int]) -> tuple[int, ...]:
        """PyTorch's; in ceil mode the last window begins in the image or the padding before it."""
        result = []
        for i, extent in enumerate(size):
            k, s, d = self.kernel[i], self.stride[i], self.dilation[i]
            before, after = self.padding[2 * i : 2 * i + 2]
            span = (k - 1) * d + 1
            if (widest := max(before, after)) >= span:
                raise ValueError(f"{what}: padding {widest} leaves the kernel, which spans {span}, no pixel")
            room = extent + before + after - span
            windows = (room + (s - 1 if self.ceil_mode else 0)) // s + 1
            if self.ceil_mode and (windows - 1) * s >= extent + before:
                windows -= 1
            if windows < 1:
                raise ValueError(
                    f"{what}: the kernel spans {span}, the padded input only {room + span} (kernel_size {k}, "
                    f"stride {s}, dilation {d})"
                )
            result.append(windows)
        return tuple(result)

    def taps(self, axis: int, extent: int, outputs: int) -> np.ndarray[Any, Any]:
        """How many taps of each window lie in the padded input, along an axis."""
        before, after = self.padding[2 * axis : 2 * axis + 2]
        room = extent + after + before - np.arange(outputs) * self.stride[axis]
        return np.minimum(-(-room // self.dilation[axis]), self.kernel[axis])

    def dims(self) -> Arguments:
        """As the native ops take them."""
        names = native.POOL.removeprefix(native.IMAGES).split()
        return dict(zip(names, (*self.kernel, *self.stride, *self.padding[::2], *self.dilation), strict=True))


def _maxima(what: str, x: Tensor, windows: Windows) -> Tensor:
    """x (N, H, W, C)"""
    size = windows.output_size(what, (x.shape[1], x.shape[2]))
    return active_graph().add(MAX_POOL2D, [x], size=size, settings=windows.dims()).output


def _averages(what: str, x: Tensor, windows: Windows, count_include_pad: bool, divisor: int | None) -> Tensor:
    """x (N, H, W, C)"""
    size = windows.output_size(what, (x.shape[1], x.shape[2]))
    top, bottom, left, right = windows.padding
    # The native op counts pixels of a padding that both sides have; of any other, sums are divided by what it would be.
    uneven = count_include_pad and not divisor and (top, left) != (bottom, right)
    settings: Arguments = dict(count_include_pad=int(count_include_pad), divisor=1 if uneven else divisor or 0)
    y = active_graph().add(AVG_POOL2D, [x], size=size, settings=windows.dims() | settings).output
    if not uneven:
        return y
    rows, cols = (windows.taps(i, x.shape[1 + i], size[i]) for i in (0, 1))
    return div(y, np.multiply.outer(rows, cols)[..., None].astype(x.dtype))


def _image(what: str, image: Any, sizes: str) -> Tensor:
    x = as_tensor(image)
    check_float(what, x)
    if x.ndim != 2 + sizes.count(",") + 1:
        raise ValueError(f"{what}: input has shape {describe(x.shape)}; expected (N, C, {sizes})")
    return x


def _windows(what: str, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Windows:
    size = pair(kernel, "kernel_size", 1)
    windows = Windows(
        size,
        size if stride is None else pair(stride, "stride", 1),
        sides(padding, "padding"),
        pair(dilation, "dilation", 1),
        ceil_mode,
    )
    return windows if isinstance(padding, (tuple, list)) and len(padding) == 4 else _half_at_most(what, windows)


def _windows_1d(what: str, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Windows:
    size = single(kernel, "kernel_size", 1)
    windows = Windows(
        (1, size),
        (1, size if stride is None else single(stride, "stride", 1)),
        (0, 0, *ends(padding, "padding")),
        (1, single(dilation, "dilation", 1)),
        ceil_mode,
    )
    return windows if isinstance(padding, (tuple, list)) and len(padding) == 2 else _half_at_most(what, windows)


def _half_at_most(what: str, windows: Windows) -> Windows:
    """PyTorch's rule, for a padding that both sides have."""
    for k, d, p in zip(windows.kernel, windows.dilation, windows.padding[::2], strict=True):
        if 2 * p > (span := (k - 1) * d + 1):
            raise ValueError(f"{what}: padding {p} is more than half of the kernel, which spans {span}")
    return windows


def max_pool2d(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor:
    """See fastnn.nn.functional.max_pool2d."""
    x = _image("max_pool2d", x, "H, W")
    windows = _windows("max_pool2d", kernel, stride, padding, dilation, ceil_mode)
    return to_nchw(_maxima("max_pool2d", to_nhwc(x), windows))


def max_pool1d(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor:
    """See fastnn.nn.functional.max_pool1d."""
    x = _image("max_pool1d", x, "L")
    windows = _windows_1d("max_pool1d", kernel, stride, padding, dilation, ceil_mode)
    return from_nwc(_maxima("max_pool1d", to_nwc(x), windows))


def avg_pool2d(
    x: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    dilation: Any,
) -> Tensor:
    """See fastnn.nn.functional.avg_pool2d."""
    x = _image("avg_pool2d", x, "H, W")
    windows = _windows("avg_pool2d", kernel, stride, padding, dilation, ceil_mode)
    return to_nchw(_averages("avg_pool2d", to_nhwc(x), windows, count_include_pad, divisor))


def avg_pool1d(
    x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool, dilation: Any
) -> Tensor:
    """See fastnn.nn.functional.avg_pool1d."""
    x = _image("avg_pool1d", x, "L")
    windows = _windows_1d("avg_pool1d", kernel, stride, padding, dilation, ceil_mode)
    return from_nwc(_averages("avg_pool1d", to_nwc(x), windows, count_include_pad, None))


def adaptive_pool2d(x: Any, output_size: Any, kind: str) -> Tensor:
    """See fastnn.nn.functional.adaptive_avg_pool2d; kind is "avg" or "max"."""
    what = f"adaptive_{kind}_pool2d"
    x = _image(what, x, "H, W")
    given = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    filled = [old if new is None else new for new, old in zip(given, x.shape[2:], strict=False)]
    size = pair(filled if len(given) == 2 else given, "output_size", 1)
    op = ADAPTIVE_MAX_POOL2D if kind == "max" else ADAPTIVE_AVG_POOL2D
    return to_nchw(active_graph().add(op, [to_nhwc(x)], size=size, settings={}).output)


def adaptive_pool1d(x: Any, output_size: Any, kind: str) -> Tensor:
    """See fastnn.nn.functional.adaptive_avg_pool1d; kind is "avg" or "max"."""
    x = _image(f"adaptive_{kind}_pool1d", x, "L")
    size = (1, single(output_size, "output_size", 1))
    op = ADAPTIVE_MAX_POOL2D if kind == "max" else ADAPTIVE_AVG_POOL2D
    return from_nwc(active_graph().add(op, [to_nwc(x)], size=size, settings={}).output)
