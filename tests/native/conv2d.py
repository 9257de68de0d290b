"""The conv2d stem's native ops as functions, over images (N, H, W, C) and weights (groups, KH, KW, IC / groups,
OC / groups)."""

import numpy as np

from fastnn.ops.conv2d import Geometry
from fastnn_ext.conv2d import packed_elements, weight_grad_pieces

from native import run_op
from native.activation import epilogue


def sizes_of(x_shape, w_shape, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """The ops' geometry, by name; `padding` is that at the top, bottom, left and right."""
    geometry = Geometry(w_shape[1:3], stride, padding, dilation, groups)
    y_shape = (x_shape[0], *geometry.output_size(x_shape[1:3]), groups * w_shape[4])
    return geometry.dims(x_shape, y_shape)


def outputs(sizes):
    return tuple(sizes[name] for name in ("n", "oh", "ow", "oc"))


def packed_weights(w, sizes, kind, constant, scale=None):
    packed = np.empty(packed_elements(**sizes, kind=kind), w.dtype)
    run_op("conv2d_pack", packed=packed, w=w, scale=scale, **sizes, kind=kind, constant=constant)
    return packed


def conv2d(
    x, w, bias=None, *, activation=None, alpha=None, residual=None, scale=None, packed=False, constant=False, **geometry
):  # fmt: skip
    """y; `packed` goes through conv2d_pack, as a plan does."""
    sizes = sizes_of(x.shape, w.shape, **geometry)
    y = np.empty(outputs(sizes), x.dtype)
    weights = packed_weights(w, sizes, 0, constant, scale) if packed else None
    inputs = {"x": x, "w": w, "packed": weights, "scale": scale, "bias": bias, "residual": residual}
    run_op("conv2d", y=y, **inputs, **sizes, **epilogue(activation, alpha), constant=constant)
    return y


def conv2d_input_grad(
    dy, w, x_shape, *, activation_grad=None, alpha=None, saved=None, packed=False, constant=False, **geometry
):  # fmt: skip
    """dx"""
    sizes = sizes_of(x_shape, w.shape, **geometry)
    dx = np.empty(x_shape, dy.dtype)
    weights = packed_weights(w, sizes, 1, constant) if packed else None
    inputs = {"dy": dy, "w": w, "packed": weights, "saved": saved}
    run_op(
        "conv2d_input_grad",
        dx=dx,
        **inputs,
        **sizes,
        **epilogue(activation_grad, alpha, name="act_grad"),
        constant=constant,
    )
    return dx


def conv2d_weight_grad(x, dy, w_shape, *, pieces=None, **geometry):
    """dw and dbias; the sum is cut into `pieces`, by default into as many as a plan would."""
    sizes = sizes_of(x.shape, w_shape, **geometry)
    by_shape, elements = weight_grad_pieces(**{**sizes, "n": max(1, x.shape[0])})
    pieces = by_shape if pieces is None else pieces
    dw, dbias = np.empty(w_shape, x.dtype), np.empty(dy.shape[3], x.dtype)
    if pieces == 1:
        run_op("conv2d_weight_grad", dw=dw, dbias=dbias, x=x, dy=dy, **sizes, pieces=1)
        return dw, dbias
    partial = np.empty((pieces, elements), x.dtype)
    run_op("conv2d_weight_grad", dbias=dbias, partial=partial, x=x, dy=dy, **sizes, pieces=pieces)
    run_op(
        "conv2d_weight_grad_sum", dw=dw, dbias=dbias, partial=partial, elements=dw.size, oc=dbias.size, pieces=pieces
    )  # fmt: skip
    return dw, dbias
