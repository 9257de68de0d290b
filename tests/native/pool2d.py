"""The pool2d stem's native ops as functions, over images (N, H, W, C)."""

import numpy as np

from fastnn.ops.arguments import sides
from fastnn.ops.pool2d import Windows
from fastnn_ext.pool2d import IMAGES, MOST_TAPS

from native import run_op


def max_pool2d(x, kernel, stride=None, padding=(0, 0), dilation=(1, 1), *, ceil_mode=False, return_index=False):
    """y, or (y, index)."""
    windows = Windows(kernel, stride or kernel, sides(padding, "padding"), dilation, ceil_mode)
    dtype = np.uint8 if kernel[0] * kernel[1] <= MOST_TAPS else np.int32
    return forward("max_pool2d", x, output_size(windows, x.shape), dtype if return_index else None, windows.dims())


def max_pool2d_backward(
    dy, index, x_shape, kernel, stride=None, padding=(0, 0), dilation=(1, 1), *, ceil_mode=False
):  # fmt: skip
    windows = Windows(kernel, stride or kernel, sides(padding, "padding"), dilation, ceil_mode)
    return backward("max_pool2d_backward", dy, x_shape, {"index": index}, windows.dims())


def avg_pool2d(
    x, kernel, stride=None, padding=(0, 0), *, ceil_mode=False, count_include_pad=True, divisor_override=None
):  # fmt: skip
    windows = Windows(kernel, stride or kernel, sides(padding, "padding"), (1, 1), ceil_mode)
    settings = {**windows.dims(), "count_include_pad": count_include_pad, "divisor": divisor_override or 0}
    return forward("avg_pool2d", x, output_size(windows, x.shape), None, settings)


def avg_pool2d_backward(
    dy, x_shape, kernel, stride=None, padding=(0, 0), *, ceil_mode=False, count_include_pad=True, divisor_override=None
):  # fmt: skip
    windows = Windows(kernel, stride or kernel, sides(padding, "padding"), (1, 1), ceil_mode)
    settings = {**windows.dims(), "count_include_pad": count_include_pad, "divisor": divisor_override or 0}
    return backward("avg_pool2d_backward", dy, x_shape, {}, settings)


def adaptive_avg_pool2d(x, size):
    return forward("adaptive_avg_pool2d", x, size, None, {})


def adaptive_avg_pool2d_backward(dy, x_shape, size):
    return backward("adaptive_avg_pool2d_backward", dy, x_shape, {}, {})


def adaptive_max_pool2d(x, size, *, return_index=False):
    """y, or (y, index)."""
    return forward("adaptive_max_pool2d", x, size, np.int32 if return_index else None, {})


def adaptive_max_pool2d_backward(dy, index, x_shape, size):
    return backward("adaptive_max_pool2d_backward", dy, x_shape, {"index": index}, {})


def output_size(windows, x_shape):
    return windows.output_size("pool", x_shape[1:3])


def images(x_shape, size):
    """The sizes of images, and of what is made of them."""
    return dict(zip(IMAGES.split(), (*x_shape, *size), strict=True))


def forward(kernel, x, size, index_dtype, settings):
    shape = (x.shape[0], *size, x.shape[3])
    y = np.empty(shape, x.dtype)
    if index_dtype is None:
        run_op(kernel, y=y, x=x, **images(x.shape, size), **settings)
        return y
    index = np.empty(shape, index_dtype)
    run_op(kernel, y=y, index=index, x=x, **images(x.shape, size), **settings)
    return y, index


def backward(kernel, dy, x_shape, index, settings):
    dx = np.empty(x_shape, dy.dtype)
    run_op(kernel, dx=dx, dy=dy, **index, **images(x_shape, dy.shape[1:3]), **settings)
    return dx
