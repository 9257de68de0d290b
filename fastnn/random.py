"""Random numbers that a program draws anew in each run, and the seed of all of fastnn's.

Python's and NumPy's generators draw while `forward` is traced, once: that is refused. What stands here
draws when the program runs: in a trace, the functions give tensors, outside arrays. The numbers follow
from `manual_seed`, the step and the place in the program, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import is_tracing
from fastnn.nn._eager import run_function
from fastnn.ops import random as op
from fastnn.seed import get_rng_state, manual_seed, set_rng_state

__all__ = ["bernoulli", "get_rng_state", "manual_seed", "normal", "set_rng_state", "uniform"]


def normal(shape: int | Sequence[int], mean: Any = 0.0, std: Any = 1.0, dtype: Any = None) -> Any:
    """Normally distributed numbers.

    Parameters
    ----------
    shape : int or sequence of int
        `x.shape`, say; sizes that follow the batch do so here, too.
    mean, std : number, tensor or array, default 0 and 1
        Broadcast to `shape`. Their gradients are those of mean + std * z, with z fixed (the
        reparametrisation of Kingma and Welling, 2014).
    dtype : float32 or float64, optional
        That of `mean` or `std`, if they are tensors or arrays; else float32.

    Returns
    -------
    tensor in a trace, array outside
        None lies further than 8.6 std from the mean.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or `mean` or `std` a number that is not finite, or `std` negative.

    Examples
    --------
    >>> class Noisy(nn.Module):
    ...     def forward(self, x):
    ...         return x + fn.random.normal(x.shape, std=0.1) if self.training else x
    """
    if not _is_array(mean):
        _check.real("mean", mean)
    if not _is_array(std):
        _check.real("std", std, 0)
    return _draw(op.normal, shape, dtype, mean=mean, std=std)


def uniform(shape: int | Sequence[int], low: Any = 0.0, high: Any = 1.0, dtype: Any = None) -> Any:
    """Numbers evenly spread from `low` to `high`, which rounding may give.

    Parameters
    ----------
    shape : int or sequence of int
    low, high : number, tensor or array, default 0 and 1
        Broadcast to `shape`; with gradients as those of low + (high - low) * u. Between 0 and 1 the
        numbers are multiples of 2**-53 (in float32 of 2**-24) below 1.
    dtype : float32 or float64, optional
        That of `low` or `high`, if they are tensors or arrays; else float32.

    Returns
    -------
    tensor in a trace, array outside

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or `low` and `high` are numbers out of order.
    """
    numbers = [_check.real(name, v) for name, v in (("low", low), ("high", high)) if not _is_array(v)]
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise ValueError(f"low must not exceed high, got {low} and {high}")
    return _draw(op.uniform, shape, dtype, low=low, high=high)


def bernoulli(p: Any, shape: int | Sequence[int] | None = None, dtype: Any = None) -> Any:
    """1 with probability p, else 0.

    Parameters
    ----------
    p : number, tensor or array
        Its gradient is zero: a decision is a step function of it.
    shape : int or sequence of int, optional
        That of `p`, if it is a tensor or an array.
    dtype : float32 or float64, optional
        That of `p`, if it is a tensor or an array; else float32.

    Returns
    -------
    tensor in a trace, array outside

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or p a number outside 0 ... 1.
    """
    if not _is_array(p):
        _check.real("p", p, 0, 1)
        if shape is None:
            raise ValueError(f"shape must be given where p is a number, got p={p} and no shape")
    return _draw(op.bernoulli, p.shape if shape is None else shape, dtype, p=p)


def _is_array(value: Any) -> bool:
    """Whether a setting is a tensor, parameter or array; NumPy's numbers and 0-d arrays are numbers."""
    return hasattr(value, "shape") and not (isinstance(value, (np.ndarray, np.generic)) and value.shape == ())


def _draw(function: Any, shape: Any, dtype: Any, **settings: Any) -> Any:
    """`function` in a trace as it stands, outside on the arrays among the settings."""
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    sizes = tuple(_check.integer("shape", size, 1) for size in sizes)
    arrays = {name: value for name, value in settings.items() if _is_array(value)}
    numbers = {name: float(value) for name, value in settings.items() if name not in arrays}
    given = next((value.dtype for value in arrays.values() if value.dtype.kind == "f"), None)
    kind = _check.floating("dtype", given if dtype is None else dtype)
    if is_tracing():
        return function(shape=sizes, dtype=kind, **arrays, **numbers)
    return run_function(function, arrays, shape=sizes, dtype=kind, **numbers)
