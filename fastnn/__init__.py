"""fastnn trains and runs neural networks on CPUs.

>>> import fastnn as fn
>>> from fastnn import nn, optim
>>> import fastnn.nn.functional as F

nn, optim       what networks are composed of, and what trains them
TrainStep       a step of training as one native call
Trainer         whole runs: fit, evaluate, predict, with callbacks and checkpoints
data            loaders, augmentation, readers and sets
models          networks that are known by name
trace, grad, value_and_grad
                functions of arrays as programs, and their gradients
Function        an operation that fastnn lacks, written in NumPy
random, debug, testing, plotting
                random numbers in programs, checks of traces and of gradients, pictures

onnx, interop, sklearn
                models and data of other systems: ONNX; Keras, Caffe, Torch7, Theano, Mocha; scikit-learn

`fn.plotting`, `fn.onnx`, `fn.interop` and `fn.sklearn` are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

from fastnn import data, debug, models, nn, optim, random, testing
from fastnn.config import __version__, get_num_threads, set_num_threads, show_config, show_versions, threads
from fastnn.functions import grad, hessian, hvp, trace, value_and_grad
from fastnn.graph import Tensor
from fastnn.nn.function import Function
from fastnn.ops.einsum import einsum
from fastnn.ops.elementwise import abs, clamp, clip, cos, exp, log, maximum, minimum, sign, sin, sqrt, where
from fastnn.ops.gemm import matmul
from fastnn.ops.index import argmax, argmin, gather, index_select, take
from fastnn.ops.layout import broadcast_to
from fastnn.ops.reduce import amax, amin, cumsum, prod, std, var
from fastnn.ops.shape import concat, stack
from fastnn.seed import get_rng_state, manual_seed, set_rng_state
from fastnn.train import Trainer, TrainStep, callbacks, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from fastnn import interop, onnx, plotting, sklearn

#: Rooms that need more than NumPy, imported when they are first used.
_LAZY = ("interop", "onnx", "plotting", "sklearn")

__all__ = [
    "Function",
    "Tensor",
    "TrainStep",
    "Trainer",
    "__version__",
    "abs",
    "amax",
    "amin",
    "argmax",
    "argmin",
    "broadcast_to",
    "callbacks",
    "clamp",
    "clip",
    "concat",
    "cos",
    "cumsum",
    "data",
    "debug",
    "einsum",
    "exp",
    "gather",
    "get_num_threads",
    "get_rng_state",
    "grad",
    "hessian",
    "hvp",
    "index_select",
    "interop",
    "load_checkpoint",
    "log",
    "manual_seed",
    "matmul",
    "maximum",
    "minimum",
    "models",
    "nn",
    "onnx",
    "optim",
    "plotting",
    "prod",
    "random",
    "save_checkpoint",
    "set_num_threads",
    "set_rng_state",
    "show_config",
    "show_versions",
    "sign",
    "sin",
    "sklearn",
    "sqrt",
    "stack",
    "std",
    "take",
    "testing",
    "threads",
    "trace",
    "value_and_grad",
    "var",
    "where",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return import_module(f"fastnn.{name}")
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
