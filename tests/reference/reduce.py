"""Float64 twins of fastnn_ext.reduce; sums in extended precision where NumPy has it."""

import numpy as np

REDUCE = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod}
EMPTY = {"sum": 0.0, "mean": 0.0, "max": -np.inf, "min": np.inf, "prod": 1.0}


def reduce(kind, x, axis=None):
    with np.errstate(all="ignore"):
        return np.asarray(REDUCE[kind](x.astype(np.longdouble), axis=axis)).astype(np.float64)


def reduce_pieces(kind, x, axis, pieces):
    """The partial results that `pieces` asks for, in the place of the axis."""
    x = np.moveaxis(x, axis, 0)
    length = -(-len(x) // pieces)
    parts = []
    for p in range(pieces):
        part = x[p * length : (p + 1) * length]
        if len(part) == 0:
            parts.append(np.full(x.shape[1:], EMPTY[kind]))
        elif kind == "mean":
            parts.append(reduce("sum", part, 0) / len(x))
        else:
            parts.append(reduce(kind, part, 0))
    return np.moveaxis(np.stack(parts), 0, axis)


def cumsum(x, axis, reverse=False):
    x = x.astype(np.longdouble)
    y = np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)
    return y.astype(np.float64)
