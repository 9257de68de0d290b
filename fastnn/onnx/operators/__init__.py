"""The operators of ONNX files, one family a file: importing them registers them (see fastnn.onnx.operator)."""

from fastnn.onnx.operators import (  # noqa: F401
    activation,
    attention,
    conv,
    creation,
    elementwise,
    index,
    linear,
    logic,
    loss,
    norm,
    optimizer,
    pool,
    random,
    reduce,
    resize,
    shape,
)
