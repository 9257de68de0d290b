"""A plain eager twin of fastnn in float64 NumPy: the part of its interface that programs are written on.

Everything is computed at the moment it is written, on a tape; there is no trace, no cache and no plan, so
there is nothing that could be stale. What a program observes here is what fastnn must show, too.
"""

from eager import functional, nn, optim
from eager.functional import concat, exp, maximum, minimum, sqrt, stack
from eager.tensor import Tensor, grad, trace, value_and_grad
from eager.train import Trainer, TrainStep

__all__ = [
    "Tensor",
    "TrainStep",
    "Trainer",
    "concat",
    "exp",
    "functional",
    "grad",
    "maximum",
    "minimum",
    "nn",
    "optim",
    "sqrt",
    "stack",
    "trace",
    "value_and_grad",
]
