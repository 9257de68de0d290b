"""Max and average pooling, windowed and adaptive, channels-last inside as convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastnn_ext.pool2d as native
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_float, pair, single
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
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil_mode: bool

    def output_size(self, what: str, size: tuple[int, int]) -> tuple[int, ...]:
        """PyTorch's; in ceil mode the last window begins in the image or the padding before it."""
        result = []
        for i, extent in enumerate(size):
            k, s, p, d = self.kernel[i], self.stride[i], self.padding[i], self.dilation[i]
            span = (k - 1) * d + 1
            if 2 * p > span:
                raise ValueError(f"{what}: padding {p} is more than half of the kernel, which spans {span}")
            windows = (extent + 2 * p - span + (s - 1 if self.ceil_mode else 0)) // s + 1
            if self.ceil_mode and (windows - 1) * s >= extent + p:
                windows -= 1
            if windows < 1:
                raise ValueError(
                    f"{what}: the kernel spans {span}, the padded input only {extent + 2 * p} (kernel_size {k}, "
                    f"stride {s}, dilation {d})"
                )
            result.append(windows)
        return tuple(result)

    def dims(self) -> Arguments:
        """As the native ops take them."""
        names = native.POOL.removeprefix(native.IMAGES).split()
        return dict(zip(names, (*self.kernel, *self.stride, *self.padding, *self.dilation), strict=True))


def _pool(what: str, op: Pool, x: Tensor, windows: Windows, **settings: int) -> Tensor:
    """x (N, H, W, C)"""
    size = windows.output_size(what, (x.shape[1], x.shape[2]))
    return active_graph().add(op, [x], size=size, settings=windows.dims() | settings).output


def _image(what: str, image: Any, sizes: str) -> Tensor:
    x = as_tensor(image)
    check_float(what, x)
    if x.ndim != 2 + sizes.count(",") + 1:
        raise ValueError(f"{what}: input has shape {describe(x.shape)}; expected (N, C, {sizes})")
    return x


def _windows(kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Windows:
    size = pair(kernel, "kernel_size", 1)
    return Windows(
        size,
        size if stride is None else pair(stride, "stride", 1),
        pair(padding, "padding", 0),
        pair(dilation, "dilation", 1),
        ceil_mode,
    )


def _windows_1d(kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Windows:
    size = single(kernel, "kernel_size", 1)
    return Windows(
        (1, size),
        (1, size if stride is None else single(stride, "stride", 1)),
        (0, single(padding, "padding", 0)),
        (1, single(dilation, "dilation", 1)),
        ceil_mode,
    )


def max_pool2d(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor:
    """See fastnn.nn.functional.max_pool2d."""
    x = _image("max_pool2d", x, "H, W")
    windows = _windows(kernel, stride, padding, dilation, ceil_mode)
    return to_nchw(_pool("max_pool2d", MAX_POOL2D, to_nhwc(x), windows))


def max_pool1d(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor:
    """See fastnn.nn.functional.max_pool1d."""
    x = _image("max_pool1d", x, "L")
    windows = _windows_1d(kernel, stride, padding, dilation, ceil_mode)
    return from_nwc(_pool("max_pool1d", MAX_POOL2D, to_nwc(x), windows))


def avg_pool2d(
    x: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """See fastnn.nn.functional.avg_pool2d."""
    x = _image("avg_pool2d", x, "H, W")
    windows = _windows(kernel, stride, padding, 1, ceil_mode)
    settings: Arguments = dict(count_include_pad=int(count_include_pad), divisor=divisor or 0)
    return to_nchw(_pool("avg_pool2d", AVG_POOL2D, to_nhwc(x), windows, **settings))


def avg_pool1d(x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool) -> Tensor:
    """See fastnn.nn.functional.avg_pool1d."""
    x = _image("avg_pool1d", x, "L")
    windows = _windows_1d(kernel, stride, padding, 1, ceil_mode)
    settings: Arguments = dict(count_include_pad=int(count_include_pad), divisor=0)
    return from_nwc(_pool("avg_pool1d", AVG_POOL2D, to_nwc(x), windows, **settings))


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
