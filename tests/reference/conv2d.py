"""Float64 twins of fastnn_ext.conv2d: a loop over groups and taps, a matrix product for each.

Shapes as there: x (N, H, W, IC), w (groups, KH, KW, IC / groups, OC / groups), y (N, OH, OW, OC);
padding is (top, bottom, left, right).
"""

import numpy as np


def output_size(size, kernel, stride, padding, dilation):
    """(OH, OW)."""
    (h, w), (kh, kw), (sh, sw), (dh, dw) = size, kernel, stride, dilation
    top, bottom, left, right = padding
    return (h + top + bottom - dh * (kh - 1) - 1) // sh + 1, (w + left + right - dw * (kw - 1) - 1) // sw + 1


def _padded(x, padding):
    top, bottom, left, right = padding
    return np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))


def _taps(kernel, out, stride, dilation, groups, ic, oc):
    """For each group and tap: the two indices of w, and where its pixels and channels lie."""
    (kh, kw), (oh, ow), (sh, sw), (dh, dw) = kernel, out, stride, dilation
    icg, ocg = ic // groups, oc // groups
    for g in range(groups):
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
                cols = slice(j * dw, j * dw + (ow - 1) * sw + 1, sw)
                x_part = (slice(None), rows, cols, slice(g * icg, (g + 1) * icg))
                yield g, i, j, x_part, (..., slice(g * ocg, (g + 1) * ocg))


def conv2d(
    x,
    w,
    bias=None,
    *,
    stride=(1, 1),
    padding=(0, 0, 0, 0),
    dilation=(1, 1),
    groups=1,
    residual=None,
):
    """conv(x, w) + bias + residual."""
    _, kh, kw, _, ocg = w.shape
    out = output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    y = np.zeros((x.shape[0], *out, groups * ocg))
    x_padded, w = _padded(x, padding), w.astype(np.float64)
    for g, i, j, x_part, y_part in _taps((kh, kw), out, stride, dilation, groups, x.shape[3], groups * ocg):
        y[y_part] += x_padded[x_part] @ w[g, i, j]
    if bias is not None:
        y += bias
    return y if residual is None else y + residual


def input_grad(dy, w, x_shape, *, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """The gradient for x."""
    top, _, left, _ = padding
    _, h, width, ic = x_shape
    dx = np.zeros(_padded(np.zeros(x_shape), padding).shape)
    dy, w = dy.astype(np.float64), w.astype(np.float64)
    for g, i, j, x_part, y_part in _taps(w.shape[1:3], dy.shape[1:3], stride, dilation, groups, ic, dy.shape[3]):
        dx[x_part] += dy[y_part] @ w[g, i, j].T
    return dx[:, top : top + h, left : left + width]


def weight_grad(x, dy, w_shape, *, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """The gradients for w and bias."""
    dw = np.zeros(w_shape)
    x_padded, dy = _padded(x, padding), dy.astype(np.float64)
    for g, i, j, x_part, y_part in _taps(
        w_shape[1:3], dy.shape[1:3], stride, dilation, groups, x.shape[3], dy.shape[3]
    ):
        pixels, grads = x_padded[x_part], dy[y_part]
        dw[g, i, j] = pixels.reshape(-1, pixels.shape[3]).T @ grads.reshape(-1, grads.shape[3])
    return dw, dy.sum((0, 1, 2))
