"""Tensor, Op, Node and Graph: what a `forward` writes down when it runs.

A traced function is called with symbolic tensors of known shape. Each operation appends a Node to the active
Graph. The ops themselves are in fastnn.ops, but for the leaves: what is there before a program runs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from fastnn import _check
from fastnn._check import FLOATS
from fastnn.sizes import Shape, count, describe
from fastnn_ext.atomic import Meanwhile

#: What a native op takes, by the names of its signature.
Arguments: TypeAlias = dict[str, Any]

#: Shapes and dtypes of an op's outputs.
OutputTypes: TypeAlias = list[tuple[Shape, np.dtype[Any]]]

#: Where frames lie that are no user's: NumPy calls back into tensors.
_PACKAGES = tuple(os.path.dirname(os.path.abspath(file)) + os.sep for file in (__file__, np.__file__))


class TraceError(TypeError):
    """`forward` did something that a graph cannot hold, such as a Python `if` on a value."""


class TraceWarning(UserWarning):
    """`forward` did something that it will not do in every call."""


class Temporary:
    """Memory that an op needs between two native ops of its own."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype


class Emitter(Protocol):
    """What `Op.lower` writes native ops to."""

    def emit(
        self,
        kernel: str,
        /,
        *,
        flops: int = 0,
        dtype: np.dtype[Any] | None = None,
        callback: Any = None,
        commit: bool = False,
        late: int | None = None,
        **arguments: Any,
    ) -> None:
        """Append a native op.

        Parameters
        ----------
        kernel : str
        flops : int, default 0
            For explain() and profile().
        dtype : numpy.dtype, optional
            By default that of the first output that is there.
        callback : object, optional
            What an op that runs Python calls.
        commit : bool, default False
            It changes what outlives the run, and so comes when nothing can stop the program any more.
        late : int, optional
            It comes behind all nodes, in this order: passes may have moved nodes, but effects keep theirs.
        **arguments
            By the names of the op's signature: tensors, temporaries and memory; sizes; numbers. What is
            optional may be None or left out.
        """

    def alias(self, output: Tensor, source: Tensor) -> None:
        """The output is the source's memory under another shape."""

    def bind_leaf(self, node: Node) -> None:
        """The node's output is there before the program runs."""

    def temporary(self, shape: Shape, dtype: np.dtype[Any]) -> Temporary: ...

    def array(self, array: np.ndarray[Any, Any], offset: int = 0, constant: bool = False) -> Any:
        """Memory of a contiguous array that outlives the program, from `offset` bytes on; `constant` if nobody
        ever writes to it."""

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether the tensor is an array that nobody writes to."""

    def wanted(self, outputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Outputs that somebody reads; None in place of the others, which need not be computed."""

    def random_state(self) -> Temporary:
        """The state of the default generator as it was when the run began: (seed, step)."""


class Op:
    """One kind of node.

    `infer` gives the outputs' shapes and dtypes; `vjp` the gradients for the inputs, written as
    further nodes; `lower` emits native ops.
    """

    name: str = ""
    #: Attributes that hold sizes, which may follow the batch.
    sized: tuple[str, ...] = ()
    #: Index of the input whose memory the output shares (views), else None.
    view_of: int | None = None
    #: What fusion may put behind the op: "act" (attrs["act"] = (kind, settings)), "grad" (attrs["grad"],
    #: and what the gradient was saved from as the last input), or both.
    epilogue: tuple[str, ...] = ()
    #: What fusion may put behind the op before gradients are made, since `vjp` knows of it:
    #: "residual" (attrs["residual"], and what is to be added as the last input), "act", or both.
    absorbs: tuple[str, ...] = ()

    def infer(self, node: Node) -> OutputTypes:
        raise NotImplementedError(self.name)

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        """Gradients for the inputs that `needs` names; `grads` are those of the outputs."""
        raise TypeError(f"{self.name} has no gradient")

    def lower(self, node: Node, to: Emitter) -> None:
        raise NotImplementedError(self.name)

    def acts(self, node: Node) -> bool:
        """Whether it changes what outlives the run, so that it is needed even where nobody reads its output."""
        return False


class Leaf(Op):
    """A value that is there before the plan runs."""

    def infer(self, node: Node) -> OutputTypes:
        return [(node.attrs["shape"], node.attrs["dtype"])]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return []

    def lower(self, node: Node, to: Emitter) -> None:
        to.bind_leaf(node)


class Input(Leaf):
    """An argument of the call. attrs: name, shape, dtype; for labels: limit, ignore."""

    name = "input"
    sized = ("shape",)


class Memory(Leaf):
    """An array that outlives the plan, such as a parameter's storage. attrs: array; source: None, or the
    array from outside that each run first copies into it; constant: whether nobody ever writes to it."""

    name = "memory"

    def infer(self, node: Node) -> OutputTypes:
        array = node.attrs["array"]
        return [(array.shape, array.dtype)]


class Constant(Leaf):
    """An array known when the graph is made. attrs: value."""

    name = "constant"

    def infer(self, node: Node) -> OutputTypes:
        value = node.attrs["value"]
        return [(value.shape, value.dtype)]


INPUT = Input()
MEMORY = Memory()
CONSTANT = Constant()


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
    """File, line and text of the innermost frame outside fastnn and NumPy."""
    frame = sys._getframe(1)
    while frame is not None and not _is_users(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return ""
    import linecache

    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    where = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
    return f"{where}\n    {text}" if text else where


def _is_users(file: str) -> bool:
    # Before NumPy 1.25 its functions are called through a frame of that name.
    return file != "<__array_function__ internals>" and not os.path.abspath(file).startswith(_PACKAGES)


def _refusal(what: str, instead: str) -> TraceError:
    """The error for what a user's line does with a tensor: it, the line, and what to write instead."""
    return TraceError(
        f"{what}{_user_line()}\nand it has no value: forward runs once, with symbols in place of numbers, and what it "
        f"writes down is run as a program. {instead}"
    )


#: The operators that NumPy's functions stand for, where an array comes first; and with the operands exchanged.
_OPERATORS = {
    np.add: ("add", "radd"), np.subtract: ("sub", "rsub"), np.multiply: ("mul", "rmul"),
    np.divide: ("truediv", "rtruediv"), np.power: ("pow", "rpow"), np.matmul: ("matmul", "rmatmul"),
    np.less: ("lt", "gt"), np.less_equal: ("le", "ge"), np.greater: ("gt", "lt"), np.greater_equal: ("ge", "le"),
    np.equal: ("eq", "eq"), np.not_equal: ("ne", "ne"),
    np.bitwise_and: ("and", "rand"), np.bitwise_or: ("or", "ror"), np.bitwise_xor: ("xor", "rxor"),
}  # fmt: skip
#: What to write for functions of NumPy that tensors have no method of the same name and arguments for.
_COUNTERPARTS = {
    "absolute": "x.abs()",
    "broadcast_to": "fn.broadcast_to(x, shape)",
    "concatenate": "fn.concat(tensors, dim)",
    "dot": "x @ y",
    "expand_dims": "x.unsqueeze(dim)",
    "maximum": "fn.maximum(x, y)",
    "minimum": "fn.minimum(x, y)",
    "negative": "-x",
    "pad": "F.pad(x, widths)",
    "ravel": "x.flatten()",
    "stack": "fn.stack(tensors, dim)",
    "take": "fn.index_select(x, dim, index)",
    "take_along_axis": "x.gather(dim, index)",
    "transpose": "x.permute(dims)",
    "where": "fn.where(condition, x, y)",
    "einsum": "fn.einsum(equation, x, y)",
}


def _not_of_numpy(name: str, room: str = "np") -> TraceError:
    """The error for a function of NumPy, or of a room of it, that is called with a tensor."""
    counterpart = _COUNTERPARTS.get(name) or (f"x.{name}(...)" if hasattr(TensorMethods, name) else None)
    instead = (
        f"Write {counterpart}"
        if counterpart
        else "Use methods of tensors and the functions of fastnn and fastnn.nn.functional, or an fn.Function, which "
        "computes with arrays"
    )
    return _refusal(f"{room}.{name} is called with a traced tensor", instead)


class TensorMethods:
    """Arithmetic and methods shared by tensors and by the parameters that become tensors in a trace.

    fastnn.ops.methods binds them: they are ops, of which this floor knows nothing.
    """

    __slots__ = ()
    __hash__ = object.__hash__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Tensor:
        """array + tensor, which NumPy would compute element by element; its other functions are refused."""
        operators = _OPERATORS.get(ufunc) if method == "__call__" else None
        if operators is None:
            raise _not_of_numpy(ufunc.__name__)
        if settings:
            raise _refusal(
                f"np.{ufunc.__name__} is to write a traced tensor into an array",
                "Write array = array + x, which makes a tensor, and not array += x",
            )
        left, right = inputs
        if isinstance(left, TensorMethods):
            return getattr(left, f"__{operators[0]}__")(right)  # type: ignore[no-any-return]
        return getattr(right, f"__{operators[1]}__")(left)  # type: ignore[no-any-return]

    if TYPE_CHECKING:

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __and__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __rxor__(self, other: Any) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def abs(self) -> Tensor: ...
        def square(self) -> Tensor: ...
        def pow(self, exponent: Any) -> Tensor: ...
        def sign(self) -> Tensor: ...
        def sin(self) -> Tensor: ...
        def cos(self) -> Tensor: ...
        def acos(self) -> Tensor: ...
        def acosh(self) -> Tensor: ...
        def asin(self) -> Tensor: ...
        def asinh(self) -> Tensor: ...
        def atan(self) -> Tensor: ...
        def atanh(self) -> Tensor: ...
        def ceil(self) -> Tensor: ...
        def cosh(self) -> Tensor: ...
        def erf(self) -> Tensor: ...
        def expm1(self) -> Tensor: ...
        def floor(self) -> Tensor: ...
        def log1p(self) -> Tensor: ...
        def round(self) -> Tensor: ...
        def sinh(self) -> Tensor: ...
        def tan(self) -> Tensor: ...
        def trunc(self) -> Tensor: ...
        def clamp(self, min: Any = None, max: Any = None) -> Tensor: ...

        clip = clamp

        def amax(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def amin(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor: ...
        def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor: ...
        def cumsum(self, dim: int) -> Tensor: ...
        def gather(self, dim: int, index: Any) -> Tensor: ...
        def index_select(self, dim: int, index: Any) -> Tensor: ...
        def max(self, dim: Any = None, keepdim: bool = False) -> Any: ...
        def min(self, dim: Any = None, keepdim: bool = False) -> Any: ...
        def prod(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def std(self, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Tensor: ...
        def take(self, index: Any) -> Tensor: ...
        def topk(self, k: int, dim: int = -1, largest: bool = True) -> Any: ...
        def var(self, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Tensor: ...
        def detach(self) -> Tensor: ...
        def to(self, dtype: Any) -> Tensor: ...
        def float(self) -> Tensor: ...
        def double(self) -> Tensor: ...
        def relu(self) -> Tensor: ...
        def tanh(self) -> Tensor: ...
        def sigmoid(self) -> Tensor: ...
        def softmax(self, dim: int) -> Tensor: ...
        def log_softmax(self, dim: int) -> Tensor: ...
        def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...

        view = reshape

        def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor: ...
        def transpose(self, dim0: int, dim1: int) -> Tensor: ...
        def permute(self, *dims: Any) -> Tensor: ...
        def squeeze(self, dim: int) -> Tensor: ...
        def unsqueeze(self, dim: int) -> Tensor: ...
        @property
        def T(self) -> Tensor: ...


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

    # ---- what a symbol cannot do -----------------------------------------------------------------

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Shapes are answered; the other functions of NumPy are refused."""
        if function is np.shape:
            return self.shape
        if function is np.ndim:
            return self.ndim
        raise _not_of_numpy(function.__name__, function.__module__.replace("numpy", "np", 1))

    def _no_value(self, *_: Any, **__: Any) -> Any:
        raise _refusal(
            "the numbers of a traced tensor are asked for",
            "Compute with the tensor itself, return it to have its values as an array, or compute with arrays in an "
            "fn.Function",
        )

    __float__ = __int__ = __index__ = __array__ = item = numpy = _no_value

    def __format__(self, form: str) -> str:
        return self._no_value() if form else repr(self)

    def __bool__(self) -> bool:
        raise _refusal(
            "whether a traced tensor is true is asked for",
            "`if`, `while`, `and`, `or`, `not`, a < b < c, max(x, 0) and min(x, 0) can depend on shapes and Python's "
            "values; to choose between values write fn.where(x > 0, a, b), fn.maximum(x, 0) or fn.minimum(x, 0), and "
            "combine masks with &, | and ~; or compute with arrays in an fn.Function",
        )

    def __iter__(self) -> Any:
        raise _refusal(
            "a traced tensor is looped over",
            "Its parts are x[i] for i in range(len(x)); sums are x.sum(dim)",
        )

    def __contains__(self, value: Any) -> bool:
        raise _refusal("`in` asks whether a traced tensor has a value", "How many are equal is (x == value).sum()")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise _refusal(
            "a part of a traced tensor is assigned to",
            "Tensors are never changed: make another one, such as fn.where(mask, x, value), x * mask with an array of "
            "zeros and ones, or fn.concat of parts",
        )

    __hash__ = object.__hash__


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
    penalties : list of Tensor
        Scalars that whoever trains adds to the loss.
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
        self.penalties: list[Tensor] = []
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


class _Active(threading.local):
    """The graph that this thread traces, or None, which is then the class's: to find nothing would take longer."""

    graph: Graph | None = None


active = _Active()


def active_graph() -> Graph:
    graph = active.graph
    if graph is None:
        raise TraceError(
            "tensors exist only while a forward is traced; outside, use NumPy arrays and functions (of a parameter, "
            "its .data), or fn.trace(function)"
        )
    return graph


def is_tracing() -> bool:
    return active.graph is not None


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
    as_leaf: Callable[[Graph], Tensor] | None = getattr(value, "_as_tensor", None)
    if as_leaf is not None:
        return as_leaf(graph)
    if isinstance(value, np.ndarray):
        _check_enters(value.dtype)
        _check.readable("an array of the traced function", value)
        if like is not None and (value.dtype.kind != "f" or not value.ndim):  # 0-d arrays are as numbers
            return graph.array(value, like.dtype)
        return graph.array(value, value.dtype if value.dtype in FLOATS else np.dtype(np.float32))
    if isinstance(value, (bool, int, float, np.generic)):
        number = np.asarray(value)
        _check_enters(number.dtype)
        dtype = like.dtype if like is not None else number.dtype if number.dtype in FLOATS else np.float32
        return graph.add(CONSTANT, (), value=number.astype(dtype)).output
    _check.readable("an operand of the traced function", value)
    raise TypeError(f"{type(value).__name__} cannot enter a graph; expected a tensor, array or number{_user_line()}")


class IntegersError(TypeError):
    """Integers where numbers of a floating type are computed with.

    Attributes
    ----------
    inputs : frozenset of int
        The inputs of the graph, by their numbers, that these come from.
    """

    def __init__(self, message: str, tensor: Tensor) -> None:
        super().__init__(message)
        met, nodes = set(), [tensor.node]
        while nodes:
            node = nodes.pop()
            if node not in met:
                met.add(node)
                nodes += [t.node for t in node.inputs if t.dtype.kind != "f"]
        graph = active.graph
        inputs = [] if graph is None else graph.inputs
        self.inputs = frozenset(i for i, t in enumerate(inputs) if t.node in met and t.dtype.kind != "f")


def _check_enters(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "fiub":
        raise TypeError(f"an array of dtype {dtype} cannot enter a graph; use float32 or float64{_user_line()}")
