"""Float64 twins of fastnn_ext.pool2d: a loop over windows, and one over each window's taps.

A window is a list of taps (place, row, column); rows and columns are of the image, and taps outside
it have been left out. Images are (N, H, W, C).
"""

import numpy as np


def output_size(size, kernel, stride, padding, dilation, ceil_mode):
    """Outputs along one axis."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    outputs = (-(-room // stride) if ceil_mode else room // stride) + 1
    # A window that would start in the padding on the right is left out.
    return outputs - 1 if ceil_mode and (outputs - 1) * stride >= size + padding else outputs


def windows(x_shape, kernel, stride, padding=(0, 0), dilation=(1, 1), ceil_mode=False):
    """For each output: its taps in the image, and how many lie in the padded image."""
    sizes = x_shape[1:3]
    axes = []
    for size, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        axis = []
        for o in range(output_size(size, k, s, p, d, ceil_mode)):
            places = [(t, o * s - p + t * d) for t in range(k)]
            inside = [(t, i) for t, i in places if 0 <= i < size]
            axis.append((inside, sum(i < size + p for _, i in places)))
        axes.append(axis)
    return [
        [([(i * kernel[1] + j, y, x) for i, y in rows for j, x in cols], height * width) for cols, width in axes[1]]
        for rows, height in axes[0]
    ]


def adaptive_windows(x_shape, output_size):
    """Windows [floor(o * in / out), ceil((o + 1) * in / out)) alike; place: row * W + column."""
    axes = [
        [range(o * size // out, -(-(o + 1) * size // out)) for o in range(out)]
        for size, out in zip(x_shape[1:3], output_size, strict=True)
    ]
    width = x_shape[2]
    return [
        [([(y * width + x, y, x) for y in rows for x in cols], len(rows) * len(cols)) for cols in axes[1]]
        for rows in axes[0]
    ]


def max_pool(x, taps, none):
    """y and the place of each maximum: the first of equals, the last NaN, `none` without taps."""
    shape = (x.shape[0], len(taps), len(taps[0]), x.shape[3])
    y, index = np.full(shape, -np.inf), np.full(shape, none)
    for r, row in enumerate(taps):
        for c, (window, _) in enumerate(row):
            for k, (place, i, j) in enumerate(window):
                v = x[:, i, j].astype(np.float64)
                wins = (v > y[:, r, c]) | np.isnan(v) | (k == 0)
                y[:, r, c] = np.where(wins, v, y[:, r, c])
                index[:, r, c] = np.where(wins, place, index[:, r, c])
    return y, index


def max_pool_backward(dy, index, x_shape, taps):
    dx = np.zeros(x_shape)
    for r, row in enumerate(taps):
        for c, (window, _) in enumerate(row):
            for place, i, j in window:
                dx[:, i, j] += np.where(index[:, r, c] == place, dy[:, r, c], 0)
    return dx


def _divisor(window, padded_taps, count_include_pad, divisor):
    return divisor or (padded_taps if count_include_pad else len(window))


def avg_pool(x, taps, count_include_pad=True, divisor=None):
    y = np.zeros((x.shape[0], len(taps), len(taps[0]), x.shape[3]))
    for r, row in enumerate(taps):
        for c, (window, padded_taps) in enumerate(row):
            for _, i, j in window:
                y[:, r, c] += x[:, i, j]
            if window:
                y[:, r, c] /= _divisor(window, padded_taps, count_include_pad, divisor)
    return y


def avg_pool_backward(dy, x_shape, taps, count_include_pad=True, divisor=None):
    dx = np.zeros(x_shape)
    for r, row in enumerate(taps):
        for c, (window, padded_taps) in enumerate(row):
            for _, i, j in window:
                dx[:, i, j] += dy[:, r, c].astype(np.float64) / _divisor(
                    window, padded_taps, count_include_pad, divisor
                )
    return dx
