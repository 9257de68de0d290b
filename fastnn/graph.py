"""Tensor, Node and Graph: what a `forward` writes down when it runs.

A traced function is called with symbolic tensors of known shape, whose sizes are plain ints. Each
operation appends a Node to the active Graph. Where traces at several batches agree but for sizes that
lie on a line, the graph is made one for any of these batches (fastnn.lowering.trace): such sizes are
then of class Dim, which no code of a user ever sees.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastnn import _check
from fastnn._check import FLOATS
from fastnn_ext.atomic import Meanwhile

if TYPE_CHECKING:
    from fastnn.ops.base import Op

Shape: TypeAlias = tuple[int, ...]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class TraceError(TypeError):
    """`forward` did something that a graph cannot hold, such as a Python `if` on a value."""


class TraceWarning(UserWarning):
    """`forward` did something that it will not do in every call."""


class SpecialiseError(Exception):
    """A size that follows the batch has no form that a program can hold for any batch."""


class Dim(int):
    """A size that is fixed + per_sample * batch; as an int, its value at one batch.

    It stands for no batch at which it is 1, which broadcasts, or less: those have programs of their own.
    """

    fixed: int
    per_sample: int
    batch: int

    def __new__(cls, fixed: int, per_sample: int, batch: int) -> Dim:
        self = super().__new__(cls, fixed + per_sample * batch)
        self.fixed, self.per_sample, self.batch = fixed, per_sample, batch
        return self

    def __mul__(self, other: Any) -> Any:
        if type(other) is not int:
            raise SpecialiseError
        return Dim(self.fixed * other, self.per_sample * other, self.batch) if other else 0

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        if type(other) is int and other > 0 and self.per_sample % other == 0 and self.fixed % other == 0:
            return Dim(self.fixed // other, self.per_sample // other, self.batch)
        raise SpecialiseError

    def __add__(self, other: Any) -> Any:
        fixed, per_sample = linear(other)
        return sized(self.fixed + fixed, self.per_sample + per_sample, self.batch)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        fixed, per_sample = linear(other)
        return sized(self.fixed - fixed, self.per_sample - per_sample, self.batch)

    def _number(self, *_: Any) -> Any:
        raise SpecialiseError

    __rsub__ = __truediv__ = __rtruediv__ = _number
    __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __float__ = _number
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _number  # type: ignore[assignment]
    __hash__ = int.__hash__


def sized(fixed: int, per_sample: int, batch: int) -> int:
    """fixed + per_sample * batch: an int where it does not follow the batch, else a Dim."""
    return Dim(fixed, per_sample, batch) if per_sample else fixed


def linear(size: int) -> tuple[int, int]:
    """A size as (fixed, per_sample): it is fixed + per_sample * batch."""
    return (size.fixed, size.per_sample) if isinstance(size, Dim) else (int(size), 0)


def is_one(size: int) -> bool:
    return not isinstance(size, Dim) and size == 1


def same_shape(a: Sequence[int], b: Sequence[int]) -> bool:
    return len(a) == len(b) and all(linear(x) == linear(y) for x, y in zip(a, b, strict=True))


def count(shape: Sequence[int]) -> int:
    """Number of elements: an int, or a Dim where the shape follows the batch."""
    total: int = 1
    for size in shape:
        total = size * total if isinstance(size, Dim) else total * size
    return total


def describe(shape: Sequence[int]) -> str:
    """A shape as text, with N for the batch."""
    parts = [_term(size) if isinstance(size, Dim) else str(size) for size in shape]
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"


def _term(size: Dim) -> str:
    batch = "N" if size.per_sample == 1 else f"{size.per_sample}N"
    return batch + (f" {'+' if size.fixed > 0 else '-'} {abs(size.fixed)}" if size.fixed else "")


class Node:
    """One operation of a graph: op, inputs, attributes, outputs."""

    __slots__ = ("attrs", "inputs", "op", "outputs", "stage")

    def __init__(self, op: Op, inputs: list[Tensor], attrs: dict[str, Any], stage: int) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.outputs: list[Tensor] = []
        self.stage = stage

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    def __repr__(self) -> str:
        sizes = ", ".join(describe(t.shape) for t in self.inputs)
        return f"{self.op.name}({sizes}) -> {', '.join(describe(t.shape) for t in self.outputs)}"


def _user_line() -> str:
    """File, line and text of the innermost frame outside fastnn."""
    frame = sys._getframe(1)
    while frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return ""
    import linecache

    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    where = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
    return f"{where}\n    {text}" if text else where


class TensorMethods:
    """Arithmetic and methods shared by tensors and by the parameters that become tensors in a trace."""

    __slots__ = ()
    __array_ufunc__ = None  # ndarray + Tensor must come here, not loop over elements
    __hash__ = object.__hash__

    def __add__(self, other: Any) -> Tensor:
        return _ops().elementwise.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _ops().elementwise.add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _ops().elementwise.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _ops().elementwise.sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _ops().elementwise.mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _ops().elementwise.mul(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return _ops().elementwise.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _ops().elementwise.div(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return _ops().elementwise.power(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _ops().elementwise.power(other, self)

    def __neg__(self) -> Tensor:
        return _ops().elementwise.neg(self)

    def __abs__(self) -> Tensor:
        return _ops().elementwise.abs(self)

    def __matmul__(self, other: Any) -> Tensor:
        return _ops().gemm.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _ops().gemm.matmul(other, self)

    def __getitem__(self, index: Any) -> Tensor:
        return _ops().shape.getitem(self, index)

    def exp(self) -> Tensor:
        return _ops().elementwise.exp(self)

    def log(self) -> Tensor:
        return _ops().elementwise.log(self)

    def sqrt(self) -> Tensor:
        return _ops().elementwise.sqrt(self)

    def abs(self) -> Tensor:
        return _ops().elementwise.abs(self)

    def square(self) -> Tensor:
        return _ops().elementwise.square(self)

    def pow(self, exponent: Any) -> Tensor:
        return _ops().elementwise.power(self, exponent)

    def relu(self) -> Tensor:
        return _ops().activation.activation(self, "relu")

    def tanh(self) -> Tensor:
        return _ops().activation.activation(self, "tanh")

    def sigmoid(self) -> Tensor:
        return _ops().activation.activation(self, "sigmoid")

    def softmax(self, dim: int) -> Tensor:
        return _ops().loss.softmax(self, dim)

    def log_softmax(self, dim: int) -> Tensor:
        return _ops().loss.softmax(self, dim, log=True)

    def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return _ops().reduce.reduce(self, "sum", dim, keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return _ops().reduce.reduce(self, "mean", dim, keepdim)

    def reshape(self, *shape: Any) -> Tensor:
        return _ops().shape.reshape(self, *shape)

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        return _ops().shape.flatten(self, start_dim, end_dim)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        return _ops().shape.swap(self, dim0, dim1)

    def permute(self, *dims: Any) -> Tensor:
        return _ops().shape.permute(self, *dims)

    def squeeze(self, dim: int) -> Tensor:
        return _ops().shape.squeeze(self, dim)

    def unsqueeze(self, dim: int) -> Tensor:
        return _ops().shape.unsqueeze(self, dim)

    @property
    def T(self) -> Tensor:
        return _ops().shape.transpose_all(self)


class Tensor(TensorMethods):
    """A value of a graph: shape and dtype are known, numbers are not.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        float32 or float64; int64 for labels.
    """

    __slots__ = ("dtype", "index", "node", "shape")

    def __init__(self, node: Node, index: int, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.node = node
        self.index = index
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one size of it, as PyTorch's method."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        return count(self.shape)

    def dim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Tensor({describe(self.shape)}, {self.dtype}, from {self.node.op.name})"

    def _no_value(self, *_: Any) -> Any:
        raise TraceError(
            "a traced tensor has no value: forward is run once with symbols, so Python cannot branch "
            f"on it, convert it or loop over it{_user_line()}"
        )

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __array__ = _no_value
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __setitem__ = item = numpy = _no_value
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        # Between tensors it is identity, which graphs are made with; with a value it would never hold.
        if isinstance(other, (int, float, np.generic, np.ndarray)):
            self._no_value()
        return self is other


#: Of one value; that many sums of them fit 64 bits.
LARGEST_BYTES = 2**46


class Graph:
    """Nodes in the order in which they were written, which is a topological order.

    Attributes
    ----------
    nodes : list of Node
    inputs, outputs : list of Tensor
    calls : list of (module, result)
        Modules in the order in which they returned, and what.
    owners : list of (parameter, array)
        Parameters that the graph reads, and where each had its values.
    exposed : list
        Parameters whose values Python could read while the graph was traced.
    training : bool, optional
        The mode that modules are in while this graph is traced; None leaves each its own.
    """

    def __init__(self, training: bool | None = None) -> None:
        self.training = training
        self.nodes: list[Node] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.stage = 0
        self.calls: list[tuple[Any, Any]] = []
        self.owners: list[tuple[Any, np.ndarray[Any, Any]]] = []
        self.exposed: list[Any] = []
        self._memory: dict[Any, Tensor] = {}

    def add(self, op: Op, inputs: Sequence[Tensor], **attrs: Any) -> Node:
        node = Node(op, list(inputs), attrs, self.stage)
        for i, (shape, dtype) in enumerate(op.infer(node)):
            if int(count(shape)) * dtype.itemsize > LARGEST_BYTES:
                raise ValueError(f"{op.name}: a result of shape {describe(shape)} is larger than any memory")
            node.outputs.append(Tensor(node, i, shape, dtype))
        self.nodes.append(node)
        return node

    def memory(self, array: np.ndarray[Any, Any], owner: Any = None) -> Tensor:
        """The tensor of an array that outlives the graph, made at its first use.

        `owner` is the parameter whose values the array holds.
        """
        tensor = self._memory.get(id(array))
        if tensor is None:
            from fastnn.ops.base import MEMORY

            # What a frozen parameter holds is never written to again; another read-only array may be a view.
            constant = owner is not None and not array.flags.writeable
            tensor = self.add(MEMORY, (), array=array, source=None, constant=constant).output
            self._memory[id(array)] = tensor
            if owner is not None:
                self.owners.append((owner, array))
        return tensor

    def storage(self, value: Any) -> np.ndarray[Any, Any]:
        """The memory of a parameter or an array, for an op that writes to it."""
        if isinstance(value, np.ndarray):
            return value
        self.owners.append((value, value._storage))
        return value._storage  # type: ignore[no-any-return]

    def array(self, source: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> Tensor:
        """The tensor of an array from outside, which runs read as it then is.

        In place where dtype and layout allow; else from a copy that is made anew in each run.
        """
        if source.dtype == dtype and source.flags.c_contiguous and source.flags.aligned:
            return self.memory(source)
        key = (id(source), dtype)
        if key not in self._memory:
            from fastnn.ops.base import MEMORY

            copy = source.astype(dtype, order="C")
            self._memory[key] = self.add(MEMORY, (), array=copy, source=source, constant=False).output
        return self._memory[key]

    def __str__(self) -> str:
        """A line a node, as a pass left it."""
        return "\n".join(repr(node) for node in self.nodes)

    def consumers(self) -> dict[Tensor, list[Node]]:
        """Who reads each tensor. A graph's outputs count as read by nobody."""
        readers: dict[Tensor, list[Node]] = {}
        for node in self.nodes:
            for tensor in node.inputs:
                readers.setdefault(tensor, []).append(node)
        return readers


#: Has the graph that this thread traces, if it does, as `active.graph`.
active = threading.local()


def active_graph() -> Graph:
    graph = getattr(active, "graph", None)
    if graph is None:
        raise TraceError("tensors exist only while a forward is traced; outside, use NumPy arrays")
    return graph


def is_tracing() -> bool:
    return getattr(active, "graph", None) is not None


def recording(graph: Graph) -> Meanwhile:
    """Make `graph` the one that operations append to, for the time of a block."""
    return Meanwhile([(active.__dict__, "graph", graph)])


def as_tensor(value: Any, like: Tensor | None = None) -> Tensor:
    """A tensor, a parameter, a number or an array, as a tensor of the active graph.

    Numbers, and arrays of integers, take the dtype of `like`; floating arrays must have it. Arrays enter by
    reference: what is written to them later, later runs read.
    """
    if isinstance(value, Tensor):
        return value
    graph = active_graph()
    as_leaf = getattr(value, "_as_tensor", None)
    if as_leaf is not None:
        return as_leaf(graph)
    if isinstance(value, np.ndarray):
        _check_enters(value.dtype)
        _check.unmasked("an array of the traced function", value)
        if like is not None and (value.dtype.kind != "f" or not value.ndim):  # 0-d arrays are as numbers
            return graph.array(value, like.dtype)
        return graph.array(value, value.dtype if value.dtype in FLOATS else np.dtype(np.float32))
    if isinstance(value, (bool, int, float, np.generic)):
        from fastnn.ops.base import CONSTANT

        number = np.asarray(value)
        _check_enters(number.dtype)
        dtype = like.dtype if like is not None else number.dtype if number.dtype in FLOATS else np.float32
        return graph.add(CONSTANT, (), value=number.astype(dtype)).output
    raise TypeError(f"{type(value).__name__} cannot enter a graph; expected a tensor, array or number")


def _check_enters(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "fiub":
        raise TypeError(f"an array of dtype {dtype} cannot enter a graph; use float32 or float64")


class _Stems:
    """fastnn.ops, imported at the first operation: ops import this module."""

    def __getattr__(self, name: str) -> Any:
        import importlib

        module = importlib.import_module(f"fastnn.ops.{name}")
        setattr(self, name, module)
        return module


_STEMS = _Stems()


def _ops() -> Any:
    return _STEMS
