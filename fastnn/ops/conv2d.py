"""Convolution, channels-last inside: the functions take PyTorch's NCHW and wrap it in transposes,
which cancel between neighbouring layers and remain only at a plan's edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fastnn_ext.conv2d as native
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Temporary, Tensor, active_graph, as_tensor
from fastnn.ops.activation import epilogue
from fastnn.ops.arguments import check_dtypes, check_float, ends, pair, sides, single
from fastnn.ops.elementwise import add
from fastnn.ops.layout import from_nwc, reshape, to_nchw, to_nhwc, to_nwc, transpose
from fastnn.sizes import count, describe, linear


@dataclass(frozen=True)
class Geometry:
    """A convolution's sizes, the same for its forward and both gradients."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    dilation: tuple[int, int]
    groups: int

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        top, bottom, left, right = self.padding
        padded = (size[0] + top + bottom, size[1] + left + right)
        span = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        for axis, extent, reach, k, d in zip(
            ("height", "width"), padded, span, self.kernel, self.dilation, strict=True
        ):
            if reach > extent:
                raise ValueError(
                    f"conv2d: the kernel spans {reach} along the {axis}, the padded input only {extent} (kernel "
                    f"{k}, dilation {d})"
                )
        return tuple((p - s) // t + 1 for p, s, t in zip(padded, span, self.stride, strict=True))  # type: ignore[return-value]

    def dims(self, x: tuple[int, ...], y: tuple[int, ...]) -> Arguments:
        """The sizes as the native ops take them, for images x and outputs y."""
        values = (*x, *y[1:], *self.kernel, *self.stride, *self.padding[::2], *self.dilation, self.groups)
        return dict(zip(native.GEOMETRY.split(), values, strict=True))


def _packed(to: Emitter, w: Tensor, dims: Arguments, kind: int, scale: Tensor | None = None) -> Temporary:
    """The weights as the kernels read them, made once a run instead of in every chunk; if constant, once a size."""
    packed = to.temporary((native.packed_elements(**dims, kind=kind),), w.dtype)
    to.emit("conv2d_pack", packed=packed, w=w, scale=scale, **dims, kind=kind, constant=to.is_constant(w))
    return packed


def _flops(node: Node, y: Tensor, w: Tensor) -> int:
    geometry = node.attrs["geometry"]
    return 2 * int(count(y.shape)) * int(geometry.kernel[0] * geometry.kernel[1]) * int(w.shape[3])


class Conv2d(Op):
    """inputs: x (N, H, W, IC), w (groups, KH, KW, IC/groups, OC/groups), then bias (OC,) and a
    residual of the output's shape where attrs["bias"] and attrs["residual"] say so, and a scale (OC,)
    of the weights where the graph's passes have put one (attrs["scale"]).
    attrs: geometry, act."""

    name = "conv2d"
    epilogue = ("act",)
    absorbs = ("residual",)

    def infer(self, node: Node) -> OutputTypes:
        x, w = node.inputs[:2]
        oh, ow = node.attrs["geometry"].output_size((x.shape[1], x.shape[2]))
        return [((x.shape[0], oh, ow, w.shape[0] * w.shape[4]), x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy,), (x, w) = grads, node.inputs[:2]
        assert dy is not None
        geometry = node.attrs["geometry"]
        dx = dw = None
        if needs[0]:
            dx = active_graph().add(INPUT_GRAD, [dy, w], geometry=geometry, shape=x.shape, grad=None).output
        result = [dx]
        if needs[1]:
            dw = active_graph().add(WEIGHT_GRAD, [x, dy], geometry=geometry, shape=w.shape)
        result.append(dw.outputs[0] if dw is not None else None)
        if node.attrs["bias"]:
            if dw is None and needs[2]:
                dw = active_graph().add(WEIGHT_GRAD, [x, dy], geometry=geometry, shape=w.shape)
            result.append(dw.outputs[1] if dw is not None and needs[2] else None)
        if node.attrs["residual"]:
            result.append(dy)
        return result

    def lower(self, node: Node, to: Emitter) -> None:
        x, w, *rest = node.inputs
        bias = rest.pop(0) if node.attrs["bias"] else None
        residual = rest.pop(0) if node.attrs["residual"] else None
        scale = rest.pop(0) if node.attrs.get("scale") else None
        dims = node.attrs["geometry"].dims(x.shape, node.output.shape)
        to.emit(
            "conv2d",
            y=node.output,
            x=x,
            w=w,
            bias=bias,
            residual=residual,
            packed=_packed(to, w, dims, 0, scale),
            scale=scale,
            **dims,
            **epilogue(node.attrs["act"]),
            constant=to.is_constant(w),
            flops=_flops(node, node.output, w),
        )


class InputGrad(Op):
    """dx from dy and w; the forward of a transposed convolution. inputs: dy, w, then what an
    activation's gradient was saved from if attrs["grad"]. attrs: geometry, shape (of x), grad."""

    name = "conv2d_input_grad"
    sized = ("shape",)
    epilogue = ("grad",)

    def infer(self, node: Node) -> OutputTypes:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (g,), (dy, w) = grads, node.inputs[:2]
        assert g is not None
        geometry = node.attrs["geometry"]
        ddy = dw = None
        if needs[0]:
            ddy = active_graph().add(CONV2D, [g, w], geometry=geometry, bias=False, residual=False, act=None).output
        if needs[1]:
            dw = active_graph().add(WEIGHT_GRAD, [g, dy], geometry=geometry, shape=w.shape).outputs[0]
        return [ddy, dw]

    def lower(self, node: Node, to: Emitter) -> None:
        dy, w, *saved = node.inputs
        dims = node.attrs["geometry"].dims(node.output.shape, dy.shape)
        to.emit(
            "conv2d_input_grad",
            dx=node.output,
            dy=dy,
            w=w,
            saved=saved[0] if saved else None,
            packed=_packed(to, w, dims, 1),
            **dims,
            **epilogue(node.attrs["grad"], "act_grad"),
            constant=to.is_constant(w),
            flops=_flops(node, dy, w),
        )


class WeightGrad(Op):
    """dw and dbias from x and dy. attrs: geometry, shape (of w)."""

    name = "conv2d_weight_grad"

    def infer(self, node: Node) -> OutputTypes:
        dtype = node.inputs[0].dtype
        return [(node.attrs["shape"], dtype), (node.inputs[1].shape[3:], dtype)]

    def lower(self, node: Node, to: Emitter) -> None:
        x, dy = node.inputs
        dims = node.attrs["geometry"].dims(x.shape, dy.shape)
        dw, dbias = node.outputs[0], to.wanted(node.outputs)[1]
        pieces, elements = native.weight_grad_pieces(**{name: int(size) for name, size in dims.items()})
        partial = None if pieces == 1 else to.temporary((pieces, elements), x.dtype)
        to.emit(
            "conv2d_weight_grad",
            dw=dw if partial is None else None,
            dbias=dbias,
            partial=partial,
            x=x,
            dy=dy,
            **dims,
            pieces=pieces,
            dtype=x.dtype,
            flops=_flops(node, dy, node.outputs[0]),
        )
        if partial is not None:
            to.emit(
                "conv2d_weight_grad_sum",
                dw=dw,
                dbias=dbias,
                partial=partial,
                elements=count(node.outputs[0].shape),
                oc=dy.shape[3],
                pieces=pieces,
            )


CONV2D = Conv2d()
INPUT_GRAD = InputGrad()
WEIGHT_GRAD = WeightGrad()


def padding_of(
    padding: Any, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) from an int, a pair, four ints, "same" or "valid"."""
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0, 0, 0)
        if padding != "same":
            raise ValueError(f'padding must be ints, "same" or "valid", got {padding!r}')
        if stride != (1, 1):
            raise ValueError(f'padding="same" needs a stride of 1, got {stride}')
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    return sides(padding, "padding")


def ends_of(padding: Any, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(left, right) from an int, two of them, "same" or "valid"."""
    if not isinstance(padding, str):
        return ends(padding, "padding")
    return padding_of(padding, (1, kernel), (1, stride), (1, dilation))[2:]


def kernel_layout(weight: Tensor, groups: int) -> Tensor:
    """(OC, IC/groups, KH, KW) as (groups, KH, KW, IC/groups, OC/groups); no copy without groups, if
    the parameter is kept as (KH, KW, IC, OC)."""
    oc, ic, kh, kw = weight.shape
    if groups == 1:
        return reshape(transpose(weight, (2, 3, 1, 0)), (1, kh, kw, ic, oc))
    return transpose(reshape(weight, (groups, oc // groups, ic, kh, kw)), (0, 3, 4, 2, 1))


def _operands(
    what: str, x: Any, weight: Any, bias: Any, groups: int, sizes: str, transposed: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Input, weight and bias as tensors that fit each other; `sizes` names the spatial ones."""
    x = as_tensor(x)
    weight = as_tensor(weight, like=x)
    check_float(what, x)
    check_dtypes(what, x, weight, ("the input", "the weight"), of_model=True)
    ndim = 2 + sizes.count(",") + 1
    if x.ndim != ndim or weight.ndim != ndim:
        kernel = ", ".join("K" + size for size in sizes.split(", "))
        expected = f"(in, out/groups, {kernel})" if transposed else f"(out, in/groups, {kernel})"
        raise ValueError(
            f"{what}: input has shape {describe(x.shape)}, weight {describe(weight.shape)}; "
            f"expected (N, C, {sizes}) and {expected}"
        )
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f"{what}: groups must be an int of at least 1, got {groups!r}")
    first, second = weight.shape[:2]
    ic, oc = (first, second * groups) if transposed else (second * groups, first)
    if linear(x.shape[1]) != linear(ic):
        last = linear(x.shape[-1]) == linear(ic)
        mend = f"; the channels come second, (N, C, {sizes}), and here perhaps last: permute the input" if last else ""
        raise ValueError(
            f"{what}: input has {x.shape[1]} channels, in shape {describe(x.shape)}; the weight of shape "
            f"{describe(weight.shape)} with groups={groups} takes {ic}{mend}"
        )
    if first % groups:
        raise ValueError(
            f"{what}: groups is {groups}, which does not divide the first size of the weight of shape "
            f"{describe(weight.shape)}"
        )
    if bias is not None:
        bias = as_tensor(bias, like=x)
        check_dtypes(what, x, bias, ("the input", "the bias"), of_model=True)
        if bias.ndim != 1 or linear(bias.shape[0]) != linear(oc):
            raise ValueError(f"{what}: bias has shape {describe(bias.shape)}; expected ({oc},)")
    return x, weight, bias


def _convolve(x: Tensor, w: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """x (N, H, W, IC), w in the layout of kernels -> (N, OH, OW, OC)"""
    inputs = [x, w] if bias is None else [x, w, bias]
    return active_graph().add(CONV2D, inputs, geometry=geometry, bias=bias is not None, residual=False, act=None).output


def conv2d(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
    """See fastnn.nn.functional.conv2d."""
    x, weight, bias = _operands("conv2d", x, weight, bias, groups, "H, W")
    kernel = (weight.shape[2], weight.shape[3])
    strides, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    geometry = Geometry(kernel, strides, padding_of(padding, kernel, strides, dilations), dilations, groups)
    return to_nchw(_convolve(to_nhwc(x), kernel_layout(weight, groups), bias, geometry))


def conv1d(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
    """See fastnn.nn.functional.conv1d: images one pixel high."""
    x, weight, bias = _operands("conv1d", x, weight, bias, groups, "L")
    oc, ic, width = weight.shape
    step, spread = single(stride, "stride", 1), single(dilation, "dilation", 1)
    around = ends_of(padding, width, step, spread)
    geometry = Geometry((1, width), (1, step), (0, 0, *around), (1, spread), groups)
    if groups == 1:
        w = reshape(transpose(weight, (2, 1, 0)), (1, 1, width, ic, oc))
    else:
        w = kernel_layout(reshape(weight, (oc, ic, 1, width)), groups)
    return from_nwc(_convolve(to_nwc(x), w, bias, geometry))


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    """See fastnn.nn.functional.conv_transpose2d."""
    x, weight, bias = _operands("conv_transpose2d", x, weight, bias, groups, "H, W", transposed=True)
    geometry, size = _transposed(
        "conv_transpose2d",
        (x.shape[2], x.shape[3]),
        (weight.shape[2], weight.shape[3]),
        pair(stride, "stride", 1),
        sides(padding, "padding"),
        pair(output_padding, "output_padding", 0),
        pair(dilation, "dilation", 1),
        groups,
    )
    return to_nchw(_convolve_back(to_nhwc(x), weight, bias, geometry, size))


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    """See fastnn.nn.functional.conv_transpose1d: images one pixel high."""
    x, weight, bias = _operands("conv_transpose1d", x, weight, bias, groups, "L", transposed=True)
    geometry, size = _transposed(
        "conv_transpose1d",
        (1, x.shape[2]),
        (1, weight.shape[2]),
        (1, single(stride, "stride", 1)),
        (0, 0, *ends(padding, "padding")),
        (0, single(output_padding, "output_padding", 0)),
        (1, single(dilation, "dilation", 1)),
        groups,
    )
    first, second, width = weight.shape
    image = reshape(weight, (first, second, 1, width))
    return from_nwc(_convolve_back(to_nwc(x), image, bias, geometry, size))


def _transposed(
    what: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    extra: tuple[int, int],
    dilations: tuple[int, int],
    groups: int,
) -> tuple[Geometry, tuple[int, int]]:
    """The convolution of whose input this is the gradient, and the size of that input."""
    result, after = [], []
    for axis in (0, 1):
        if extra[axis] >= max(strides[axis], dilations[axis]):
            raise ValueError(
                f"{what}: output_padding {extra} must be less than stride {strides} or dilation {dilations}"
            )
        span = (kernel[axis] - 1) * dilations[axis] + 1
        # The convolution that goes back from the output leaves out what output_padding put at its end.
        after.append(padding[2 * axis + 1] - extra[axis])
        result.append((size[axis] - 1) * strides[axis] + span - padding[2 * axis] - after[axis])
    if min(result) < 1:
        raise ValueError(f"{what}: the output would be {result[0]} x {result[1]}; use less padding")
    around = (padding[0], after[0], padding[2], after[1])
    return Geometry(kernel, strides, around, dilations, groups), (result[0], result[1])


def _convolve_back(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, size: tuple[int, int]) -> Tensor:
    """x (N, H, W, IC) -> (N, *size, OC), by weight (IC, OC/groups, KH, KW)"""
    shape = (x.shape[0], *size, weight.shape[1] * geometry.groups)
    inputs = [x, kernel_layout(weight, geometry.groups)]
    y = active_graph().add(INPUT_GRAD, inputs, geometry=geometry, shape=shape, grad=None).output
    return y if bias is None else add(y, bias)
