"""Function: an operation that fastnn lacks, written in NumPy."""

from __future__ import annotations

import copy
import types
from typing import Any

import numpy as np

from fastnn.functions import trace
from fastnn.graph import as_tensor, is_tracing
from fastnn.ops.callback import callback
from fastnn.sizes import Shape


class Function:
    """Base of operations written in NumPy, which take their place in a program.

    A subclass writes `forward` and, if it is to be trained through, `backward`; both take and
    return arrays. Called with tensors, in a module's `forward`, an instance becomes a node of the
    graph; called with arrays, it is run at once.

    The arrays that the two methods get are copies, theirs to keep or change. What they return is
    checked and copied. What they raise comes out of the run; parameters are then as they were.

    In every run, `forward` gets as `self` a fresh shallow copy of the instance, and `backward` the
    same one: attributes that `forward` sets are there in `backward`, apart from those of any other
    place where the instance is used, and gone thereafter. What is to outlast a run must lie in an
    object that an attribute holds, such as a list or an array.

    Python computes it on one thread, and the program waits: keep it for what matters little, or
    will become a kernel.

    Examples
    --------
    >>> class Square(fn.Function):
    ...     def forward(self, x):
    ...         self.save_for_backward(x)
    ...         return x * x
    ...     def backward(self, dy):
    ...         (x,) = self.saved
    ...         return 2 * x * dy
    >>> Square()(np.array([1.0, 2.0, 3.0]))
    array([1., 4., 9.])
    """

    #: What `save_for_backward` was given.
    saved: tuple[Any, ...] = ()

    def forward(self, *inputs: Any) -> Any:
        """Compute the output: an array of the shape that output_shape gives, or a tuple of them.

        Its dtype is that of the floating inputs.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward; write one: def forward(self, *inputs)")

    def backward(self, *grads: Any) -> Any:
        """Compute the gradient for the input, of its shape and dtype; a tuple with one for each.

        None stands for zero.

        Parameters
        ----------
        *grads : array
            The gradient for each output, zero where it is not used.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no backward, which training through it needs; write one: "
            "def backward(self, *grads)"
        )

    def output_shape(self, *shapes: tuple[int, ...]) -> Any:
        """The output's shape, or a tuple of shapes, from the inputs'; the first input's by default.

        Sizes on a line through batches (fixed + per_sample * batch) follow the batch; others tie the
        program to one batch.
        """
        return shapes[0]

    def save_for_backward(self, *arrays: Any) -> None:
        """Keep arrays for `backward`, where they are `self.saved`."""
        self.saved = arrays

    def __call__(self, *inputs: Any) -> Any:
        """Apply it to tensors (in a trace) or arrays; returns one of them, or a tuple."""
        if not is_tracing():
            return trace(self)(*inputs)
        name = type(self).__name__
        if not inputs:
            raise TypeError(f"{name} was called without an input")
        tensors = [as_tensor(x) for x in inputs]
        result = self.output_shape(*(t.shape for t in tensors))
        single = _is_shape(result)
        shapes = [result] if single else result
        if not (isinstance(shapes, (tuple, list)) and shapes and all(map(_is_shape, shapes))):
            raise TypeError(
                f"{name}.output_shape must return a tuple of positive ints, or of such tuples, got {result!r}"
            )
        outputs = callback(tensors, [tuple(shape) for shape in shapes], name, _Use(self))
        return outputs[0] if single else tuple(outputs)


class _Use:
    """A place in a graph where a Function stands, and its copy in the run under way."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.running = function
        self.forms: list[tuple[Shape, np.dtype[Any]]] = []

    def __eq__(self, other: object) -> bool:
        """Whether another trace stands for the same computation: one instance, or two that are alike."""
        if not isinstance(other, _Use):
            return NotImplemented
        return _alike(self.function, other.function)

    __hash__ = object.__hash__

    def forward(self, *arrays: np.ndarray[Any, Any]) -> Any:
        self.running = copy.copy(self.function)
        self.forms = [(a.shape, a.dtype) for a in arrays]
        return self.running.forward(*arrays)

    def backward(self, *arrays: np.ndarray[Any, Any]) -> Any:
        returned = self.running.backward(*arrays)
        grads = returned if isinstance(returned, (tuple, list)) else (returned,)
        if len(grads) != len(self.forms):
            return grads
        return [np.zeros(*form) if g is None else g for g, form in zip(grads, self.forms, strict=True)]


def _alike(a: Any, b: Any) -> bool:
    """Whether two values that traces have made, instances of Function among them, stand for the same."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (bool, int, float, str, bytes)):
        return repr(a) == repr(b)
    if isinstance(a, (np.ndarray, np.generic)):
        return bool(a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_alike(a[name], b[name]) for name in a)
    if isinstance(a, types.FunctionType):
        cells = [[cell.cell_contents for cell in f.__closure__ or ()] for f in (a, b)]
        return a.__code__ is b.__code__ and _alike(cells[0], cells[1]) and _alike(a.__defaults__, b.__defaults__)
    return isinstance(a, Function) and _alike(vars(a), vars(b))


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(
        isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size > 0 for size in value
    )
