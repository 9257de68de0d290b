"""How elements lie."""

from __future__ import annotations

import math

import numpy as np

from fastnn.onnx.operator import Array, Call, Value, lift, operator
from fastnn.ops import layout


@operator("Reshape", 5, raw="data", known="shape")
def reshape(call: Call, data: Value, shape: Array, *, allowzero: int = 0) -> Value:
    """data under another shape: 0 keeps a size, unless `allowzero` says that it is one."""
    wanted = [int(size) for size in shape.ravel()]
    for i, size in enumerate(wanted):
        if size == 0 and not allowzero:
            if i >= len(data.shape):
                raise ValueError(f"shape {wanted} keeps size {i} of {len(data.shape)}")
            wanted[i] = data.shape[i]
    total = math.prod(data.shape)
    if wanted.count(-1) == 1 and -1 in wanted:
        rest = math.prod(size for size in wanted if size != -1)
        if not rest or total % rest:
            raise ValueError(f"{tuple(data.shape)} does not fit {tuple(wanted)}")
        wanted[wanted.index(-1)] = total // rest
    if min(wanted, default=0) < 0 or math.prod(wanted) != total:
        raise ValueError(f"{tuple(data.shape)} does not fit {tuple(wanted)}")
    return lift(data, lambda a: np.reshape(a, wanted), lambda t: layout.reshape(t, wanted))
