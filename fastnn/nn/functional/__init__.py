"""Functions of tensors without state, under PyTorch's names.

Inside a trace they take and return tensors; called with arrays they run as programs of their own
and return new arrays. The arguments' names, order and defaults are PyTorch's.
"""

from fastnn.nn.functional.activation import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softsign,
    tanh,
)
from fastnn.nn.functional.conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from fastnn.nn.functional.dropout import alpha_dropout, dropout, dropout2d
from fastnn.nn.functional.embedding import embedding, one_hot
from fastnn.nn.functional.linear import bilinear, linear
from fastnn.nn.functional.loss import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from fastnn.nn.functional.norm import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm, rms_norm
from fastnn.nn.functional.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from fastnn.nn.functional.resize import interpolate, pad
from fastnn.nn.functional.shape import cat, concat, flatten, unflatten

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "alpha_dropout",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy_with_logits",
    "cat",
    "concat",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "embedding",
    "flatten",
    "gelu",
    "group_norm",
    "instance_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "one_hot",
    "pad",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "softsign",
    "tanh",
    "unflatten",
]
