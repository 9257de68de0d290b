"""Operations computed by Python functions over NumPy arrays, inside a program.

The native op "callback" hands an object of class Call copies of its inputs, and copies what that
returns into its outputs. All checks of what came back are here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastnn_ext.callback as native
from fastnn.graph import Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.layout import broadcast_to
from fastnn.sizes import Shape

#: Shape of the last output of a callback, which is the last input of its gradient. Nobody reads it,
#: but it makes the gradient run after the call whose saved values it uses, even where it needs no
#: result.
TOKEN: Shape = (1,)


class Callback(Op):
    """attrs: name, use (its methods forward and backward take arrays), shapes (of the outputs)."""

    name = "callback"
    sized = ("shapes",)

    def infer(self, node: Node) -> OutputTypes:
        dtype = next(t.dtype for t in node.inputs if t.dtype.kind == "f")
        return [(shape, dtype) for shape in (*node.attrs["shapes"], TOKEN)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        *outputs, token = node.outputs
        given = [
            broadcast_to(y.dtype.type(0), y.shape) if dy is None else dy for y, dy in zip(outputs, grads, strict=False)
        ]
        wrt = [i for i, x in enumerate(node.inputs) if needs[i] and x.dtype.kind == "f"]
        result: list[Tensor | None] = [None] * len(node.inputs)
        if wrt:
            grad = active_graph().add(CALLBACK_GRAD, [*given, token], of=node, wrt=wrt)
            for i, dx in zip(wrt, grad.outputs, strict=True):
                result[i] = dx
        return result

    def lower(self, node: Node, to: Emitter) -> None:
        *outputs, _ = node.outputs
        call = Call(
            node.attrs["use"].forward,
            f"{node.attrs['name']}.forward",
            count=len(outputs),
            chosen=range(len(outputs)),
            outputs=outputs,
            inputs=node.inputs,
            first_input=len(node.outputs),
        )
        to.emit("callback", outputs=node.outputs, inputs=node.inputs, sizes=call.sizes, callback=call)


class CallbackGrad(Op):
    """inputs: gradients for the outputs of the callback attrs["of"], and its token.

    outputs: gradients for those of its inputs that attrs["wrt"] numbers.
    """

    name = "callback_grad"

    def infer(self, node: Node) -> OutputTypes:
        inputs = node.attrs["of"].inputs
        return [(inputs[i].shape, inputs[i].dtype) for i in node.attrs["wrt"]]

    def lower(self, node: Node, to: Emitter) -> None:
        of = node.attrs["of"]
        *grads, _ = node.inputs
        call = Call(
            of.attrs["use"].backward,
            f"{of.attrs['name']}.backward",
            count=len(of.inputs),
            chosen=node.attrs["wrt"],
            outputs=node.outputs,
            inputs=grads,
            first_input=len(node.outputs),
        )
        to.emit("callback", outputs=node.outputs, inputs=node.inputs, sizes=call.sizes, callback=call)


CALLBACK = Callback()
CALLBACK_GRAD = CallbackGrad()


def callback(
    inputs: Sequence[Any],
    shapes: Sequence[Shape],
    name: str,
    use: Any,
) -> list[Tensor]:
    """Outputs of these shapes, and of the inputs' floating dtype, computed by Python at run time.

    Parameters
    ----------
    inputs : sequence of tensor, parameter or array
    shapes : sequence of shape
    name : str
        For messages.
    use : object
        use.forward(*inputs), arrays, returns an array, or a tuple of as many as there are shapes;
        use.backward(*gradients for the outputs) a gradient for each input, likewise. It equals the one
        of another trace if that computes the same.
    """
    tensors = [as_tensor(x) for x in inputs]
    floats = [(i, t) for i, t in enumerate(tensors) if t.dtype.kind == "f"]
    if not floats:
        raise TypeError(f"{name}: at least one input must be a float32 or float64 tensor")
    for i, t in floats[1:]:
        if t.dtype != floats[0][1].dtype:
            raise TypeError(f"{name}: input {floats[0][0]} is {floats[0][1].dtype}, input {i} is {t.dtype}")
    buffers = len(tensors) + len(shapes) + 1
    sizes = sum(t.ndim for t in tensors) + sum(len(shape) for shape in shapes)
    if buffers > native.MAX_BUFFERS or sizes > native.MAX_SIZES:
        raise ValueError(
            f"{name}: {buffers - 1} inputs and outputs of {sizes} dimensions together; at most "
            f"{native.MAX_BUFFERS - 1} of {native.MAX_SIZES} are supported"
        )
    node = active_graph().add(CALLBACK, tensors, name=name, use=use, shapes=tuple(shapes))
    return node.outputs[:-1]


class Call:
    """What the native op calls: a function of arrays, and what it must return.

    Attributes
    ----------
    outputs, inputs : tuple of (slot, dtype, ndim)
        Where each array lies in the op's `buf`.
    sizes : list of int
        The op's `dim`: the shapes of the outputs, then those of the inputs.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        count: int,
        chosen: Sequence[int],
        outputs: Sequence[Tensor],
        inputs: Sequence[Tensor],
        first_input: int,
    ) -> None:
        """`function` returns `count` arrays, of which `chosen` are the outputs."""
        self.function = function
        self.name = name
        self.count = count
        self.chosen = chosen
        self.outputs = tuple((i, str(t.dtype), t.ndim) for i, t in enumerate(outputs))
        self.inputs = tuple((first_input + i, str(t.dtype), t.ndim) for i, t in enumerate(inputs))
        self.sizes = [size for t in (*outputs, *inputs) for size in t.shape]

    def __call__(self, arrays: list[Any], shapes: list[tuple[int, ...]]) -> list[np.ndarray[Any, Any]]:
        returned = self.function(*arrays)
        values = returned if isinstance(returned, (tuple, list)) else (returned,)
        if len(values) != self.count:
            raise ValueError(f"{self.name} returned {len(values)} arrays; expected {self.count}")
        dtype = self.outputs[0][1]
        return [self._checked(i, values[i], shape, dtype) for i, shape in zip(self.chosen, shapes, strict=True)]

    def _checked(self, i: int, value: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
        what = self.name if self.count == 1 else f"{self.name}: array {i}"
        array = np.asarray(value, dtype) if isinstance(value, (int, float)) else np.asarray(value)
        if array.dtype != dtype:
            hint = "; is a `return` missing?" if value is None else f"; return it with .astype(np.{dtype})"
            raise TypeError(f"{what} has dtype {array.dtype}; expected {dtype}{hint}")
        if array.shape != shape:
            raise ValueError(f"{what} has shape {array.shape}; expected {shape}")
        return array
