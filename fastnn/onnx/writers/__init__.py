"""How each op of a graph is written as ONNX: a file a family."""

from fastnn.onnx.writers import (
    activation,
    conv,
    elementwise,
    gemm,
    index,
    layout,
    loss,
    norm,
    pad,
    pool,
    random,
    reduce,
)

__all__ = [
    "activation",
    "conv",
    "elementwise",
    "gemm",
    "index",
    "layout",
    "loss",
    "norm",
    "pad",
    "pool",
    "random",
    "reduce",
]
