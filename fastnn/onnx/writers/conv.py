"""Convolutions and transposed ones."""

from __future__ import annotations

from typing import Any

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import Writer, writes
from fastnn.ops.conv2d import Geometry


def _laid_out(w: Writer, x: Tensor, geometry: Geometry) -> tuple[str, list[int]]:
    """The images with the channels first, and the order of their dimensions: sequences stay sequences if the kernel
    is as flat as they are."""
    name, order = w.channels_first(x)
    flat = order[2:] == [2] and geometry.kernel[0] == 1 and not any(geometry.padding[:2])
    return (name, order) if flat else (w.arranged(x, [0, 3, 1, 2]), [0, 3, 1, 2])


def _settings(geometry: Geometry, order: list[int]) -> dict[str, Any]:
    top, bottom, left, right = geometry.padding
    sides = {1: (top, bottom), 2: (left, right)}
    spatial = order[2:]
    pads = [sides[dim][end] for end in (0, 1) for dim in spatial]

    def along(values: tuple[int, int]) -> list[int]:
        return [values[dim - 1] for dim in spatial]

    return dict(
        kernel_shape=along(geometry.kernel),
        strides=along(geometry.stride),
        dilations=along(geometry.dilation),
        pads=pads,
        group=geometry.groups,
    )


def _kernel(w: Writer, weight: Tensor, order: list[int]) -> str:
    """(groups, KH, KW, I, O) as ONNX has it: (groups * O, I, KH, KW), or without KH."""
    groups, *sizes, i, o = weight.shape
    dims = order[2:]
    sizes = [sizes[dim - 1] for dim in dims]
    if groups == 1:
        return w.arranged(weight, [4, 3, *dims])
    return w.reshape(w.arranged(weight, [0, 4, 3, *dims]), (groups, o, i, *sizes), (groups * o, i, *sizes))


@writes("conv2d")
def conv2d(w: Writer, node: Node) -> None:
    x, weight = node.inputs[:2]
    name, order = _laid_out(w, x, node.attrs["geometry"])
    bias = [w.name(node.inputs[2])] if node.attrs["bias"] else []
    settings = _settings(node.attrs["geometry"], order)
    w.put_ordered(node.output, w.node("Conv", name, _kernel(w, weight, order), *bias, **settings), order)


@writes("conv2d_input_grad")
def conv_transpose(w: Writer, node: Node) -> None:
    (x, weight), y = node.inputs[:2], node.output
    geometry = node.attrs["geometry"]
    name, order = _laid_out(w, x, geometry)
    settings = _settings(geometry, order)
    half = len(settings["pads"]) // 2
    begin, end = settings["pads"][:half], settings["pads"][half:]
    more = [max(0, -last) for last in end]  # what the convolution back from the output does not reach
    settings["pads"] = [*begin, *(last + extra for last, extra in zip(end, more, strict=True))]
    if any(more):
        settings["output_padding"] = more
    bias, y = _with_bias(w, y)
    w.put_ordered(y, w.node("ConvTranspose", name, _kernel(w, weight, order), *bias, **settings), order)


def _with_bias(w: Writer, y: Tensor) -> tuple[list[str], Tensor]:
    """The bias that a graph adds in a node of its own, and its output, if it does."""
    after = w.reader(y)
    if after is None or after.op.name != "binary" or after.attrs["kind"] != "add" or after.inputs[0] is not y:
        return [], y
    bias = after.inputs[1]
    if bias.ndim != 1 or bias not in w.values or len(bias.shape) != 1 or bias.shape[0] != y.shape[-1]:
        return [], y
    return [w.name(bias)], after.output
