"""Op, the interface of everything that a graph can hold, and the leaves: inputs and constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.graph import Node, Shape, Tensor

if TYPE_CHECKING:
    from fastnn.lowering.builder import Builder

Signature = list[tuple[Shape, np.dtype[Any]]]


class Op:
    """One kind of node.

    `infer` gives the outputs' shapes and dtypes; `vjp` the gradients for the inputs, written as
    further nodes; `lower` emits native ops. `flops` is what plan.explain() prints.
    """

    name: str = ""
    #: Attributes that hold sizes, which may follow the batch.
    sized: tuple[str, ...] = ()
    #: Index of the input whose memory the output shares (views), else None.
    view_of: int | None = None
    #: What fusion may put behind the op: "act" (attrs["act"] = (kind, alpha)), "grad" (attrs["grad"],
    #: and what the gradient was saved from as the last input), or both.
    epilogue: tuple[str, ...] = ()
    #: What fusion may put behind the op before gradients are made, since `vjp` knows of it:
    #: "residual" (attrs["residual"], and what is to be added as the last input), "act", or both.
    absorbs: tuple[str, ...] = ()

    def infer(self, node: Node) -> Signature:
        raise NotImplementedError(self.name)

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        """Gradients for the inputs that `needs` names; `grads` are those of the outputs."""
        raise TypeError(f"{self.name} has no gradient")

    def lower(self, node: Node, to: Builder) -> None:
        raise NotImplementedError(self.name)

    def flops(self, node: Node) -> int:
        return 0

    def acts(self, node: Node) -> bool:
        """Whether it changes what outlives the run, so that it is needed even where nobody reads its output."""
        return False


class Leaf(Op):
    """A value that is there before the plan runs."""

    def infer(self, node: Node) -> Signature:
        return [(node.attrs["shape"], node.attrs["dtype"])]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return []

    def lower(self, node: Node, to: Builder) -> None:
        to.bind_leaf(node)


class Input(Leaf):
    """An argument of the call. attrs: name, shape, dtype; for labels: limit, ignore."""

    name = "input"
    sized = ("shape",)


class Memory(Leaf):
    """An array that outlives the plan, such as a parameter's storage. attrs: array; source: None, or the
    array from outside that each run first copies into it; constant: whether nobody ever writes to it."""

    name = "memory"

    def infer(self, node: Node) -> Signature:
        array = node.attrs["array"]
        return [(array.shape, array.dtype)]


class Constant(Leaf):
    """An array known when the graph is made. attrs: value."""

    name = "constant"

    def infer(self, node: Node) -> Signature:
        value = node.attrs["value"]
        return [(value.shape, value.dtype)]


INPUT = Input()
MEMORY = Memory()
CONSTANT = Constant()


def constant_value(tensor: Tensor) -> float | None:
    """The number that all elements of a tensor are known to be, else None."""
    node = tensor.node
    while node.op.name in ("reshape", "broadcast"):
        node = node.inputs[0].node
    if node.op is CONSTANT and node.attrs["value"].size == 1:
        return float(node.attrs["value"].reshape(()))
    return None


def check_dtypes(
    what: str,
    a: Tensor,
    b: Tensor,
    names: tuple[str, str] = ("the left operand", "the right operand"),
    of_model: bool = False,
) -> None:
    """TypeError unless two operands have one dtype. Of a model's parameter (`of_model`) the dtype is the model's."""
    if a.dtype != b.dtype:
        mend = f"convert {names[1]} with .astype(np.{a.dtype})"
        if of_model:
            model = "double" if a.dtype == np.float64 else "float"
            mend = f"convert {names[0]} with .astype(np.{b.dtype}), or the model with model.{model}()"
        raise TypeError(f"{what}: {names[0]} is {a.dtype}, {names[1]} is {b.dtype}; they must agree: {mend}")


def check_float(what: str, tensor: Tensor, name: str = "input") -> None:
    """TypeError for integers, which are labels to a graph."""
    if tensor.dtype.kind != "f":
        raise TypeError(
            f"{what}: {name} holds integers; expected float32 or float64: convert it with .astype(np.float32), and "
            "the bytes of images with .astype(np.float32) / 255"
        )


def normalize_dim(dim: int, ndim: int, what: str) -> int:
    """A dimension counted from the front, or ValueError."""
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)):
        raise TypeError(f"{what}: dim must be an int, got {type(dim).__name__}")
    if not -ndim <= dim < ndim:
        raise ValueError(f"{what}: dim {dim} is out of range for a tensor of {ndim} dimensions")
    return int(dim) % ndim
