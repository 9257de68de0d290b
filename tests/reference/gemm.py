"""Float64 twin of fastnn_ext.gemm: one product, bias, activation."""

import numpy as np

from reference import activation as act


def gemm(a, b, *, bias=None, activation=None, alpha=0.0):
    """activation(a @ b + bias) in float64; a (..., m, k), b (..., k, n)."""
    c = np.asarray(a, np.float64) @ np.asarray(b, np.float64)
    if bias is not None:
        c = c + bias
    return c if activation is None else act.VALUE[activation](c, alpha)


def magnitude(a, b, *, bias=None):
    """|a| @ |b| + |bias|: what rounding errors are measured by."""
    c = np.abs(np.asarray(a, np.float64)) @ np.abs(np.asarray(b, np.float64))
    return c if bias is None else c + np.abs(bias)
