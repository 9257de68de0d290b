"""Nodes to native ops over symbolic buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fastnn.graph import INPUT, MEMORY, Graph, Leaf, Node, Temporary, Tensor
from fastnn.lowering.signature import Signature, places, signature
from fastnn.seed import state
from fastnn.sizes import Shape, count, linear

# By their strings: NumPy 2.4 keeps a wrong hash of a dtype that memory lacked for once.
DTYPE_CODES = {np.dtype(kind).str: code for code, kind in enumerate((np.float32, np.float64, np.int64))}

Size: TypeAlias = int | tuple[int, int]


@dataclass(eq=False)
class Buffer:
    """Where a value lies: in the arena (offset known after planning), in an array that outlives the
    plan, or in an argument or result of the call."""

    where: str  # "arena", "fixed", "input", "output"
    nbytes: int
    index: int = 0
    offset: int = 0
    first: int = -1  # phases between which the arena must hold it
    last: int = -1
    constant: bool = False  # an array that nobody writes to
    same_as: Buffer | None = None  # lives in another buffer's memory

    def root(self) -> Buffer:
        return self if self.same_as is None else self.same_as.root()


@dataclass(eq=False)
class NativeOp:
    """One native op before it has a place in time and memory."""

    signature: Signature
    dtype: int
    names: list[str]  # of the operands, outputs first
    buffers: list[Buffer | None]
    n_outputs: int
    dims: list[Size]
    scalars: list[float]
    stage: int
    commit: bool
    callback: Any
    node: Node | None
    flops: int
    shapes: dict[str, Shape]  # of the operands that have one
    constant: bool = False  # depends on constants alone: computed for the first batch of a size, and stays

    @property
    def kernel(self) -> str:
        return self.signature.kernel

    def __post_init__(self) -> None:
        n, form = self.n_outputs, self.signature
        made = [b for b in self.buffers[:n] if b is not None]
        read = [(name, b) for name, b in zip(self.names[n:], self.buffers[n:], strict=True) if b is not None]
        #: What it writes to.
        self.outputs = [*made, *(b for name, b in read if name in form.written)]
        #: What it reads.
        self.inputs = [b for _, b in read]
        #: Inputs in whose memory the first output may lie.
        self.replaceable = [b for name, b in read if name in form.in_place]


def as_size(size: int) -> Size:
    fixed, per_sample = linear(size)
    return (fixed, per_sample) if per_sample else fixed


class Builder:
    """What Op.lower writes to."""

    def __init__(self, graph: Graph, wanted: set[Tensor]) -> None:
        self.graph = graph
        self.ops: list[NativeOp] = []
        self.fixed: list[Any] = []
        self.readers = graph.consumers()
        self.protected = wanted
        self._storage: dict[Any, Buffer] = {}
        self._fixed_index: dict[int, int] = {}
        self._fixed_buffers: dict[tuple[int, int], Buffer] = {}
        self._snapshot: Temporary | None = None
        self._node: Node | None = None
        self._late: list[tuple[int, Node | None, str, dict[str, Any]]] = []

    # ---- for Op.lower ---------------------------------------------------------------------------

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
        """See `Emitter.emit`."""
        if late is not None:
            settings = dict(flops=flops, dtype=dtype, callback=callback, commit=commit, **arguments)
            self._late.append((late, self._node, kernel, settings))
            return
        form = signature(kernel)
        form.check(arguments)
        outputs = places(form.outputs, arguments, None)
        operands = outputs + places(form.inputs, arguments, None)
        if dtype is None:
            dtype = next(value.dtype for _, value in outputs if value is not None)
        buffers = [None if value is None else self.storage(value) for _, value in operands]
        made, read = buffers[: len(outputs)], buffers[len(outputs) :]
        # What adds to memory that outlives the run must not be done by halves: it runs at the end.
        commit = commit or any(b.where == "fixed" and b in read for b in made if b is not None)
        op = NativeOp(
            signature=form,
            dtype=DTYPE_CODES[dtype.str],
            names=[name for name, _ in operands],
            buffers=buffers,
            n_outputs=len(outputs),
            dims=[size if type(size) is int else as_size(size) for _, size in places(form.dims, arguments, 0)],
            scalars=[float(number) for _, number in places(form.scalars, arguments, 0.0)],
            stage=self._node.stage if self._node is not None else self.graph.stage,
            commit=commit,
            callback=callback,
            node=self._node,
            flops=int(flops),
            shapes={n: o.shape for n, o in operands if isinstance(o, (Tensor, Temporary))},
        )
        if any(b.where == "fixed" and not self.fixed[b.index].flags.writeable for b in op.outputs):
            what = f"{kernel} would write to the read-only arrays of a frozen module"
            raise ValueError(f"{what}; train the module that it is a copy of")
        self.ops.append(op)

    def alias(self, output: Tensor, source: Tensor) -> None:
        """The output is the source's memory under another shape."""
        self._storage[output] = self.storage(source)

    def temporary(self, shape: Shape, dtype: np.dtype[Any]) -> Temporary:
        return Temporary(shape, dtype)

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether the tensor is an array that nobody writes to."""
        return self.storage(tensor).constant

    def wanted(self, outputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Outputs that somebody reads; None in place of the others, which need not be computed."""
        return [t if t in self.readers or t in self.protected else None for t in outputs]

    def array(self, array: np.ndarray[Any, Any], offset: int = 0, constant: bool = False) -> Buffer:
        """Memory of a contiguous array that outlives the plan, from `offset` bytes on; `constant` if nobody
        ever writes to it."""
        key = (id(array), offset)
        buffer = self._fixed_buffers.get(key)
        if buffer is None:
            index = self._fixed_index.get(id(array))
            if index is None:
                index = self._fixed_index[id(array)] = len(self.fixed)
                self.fixed.append(array)
            buffer = Buffer("fixed", array.nbytes - offset, index, offset, constant=constant)
            self._fixed_buffers[key] = buffer
        return buffer

    def random_state(self) -> Temporary:
        """The state of the default generator as it was when the run began: (seed, step).

        The generator itself moves on when the run commits, so an interrupted step draws the same
        numbers again, and the backward pass those of its forward.
        """
        if self._snapshot is None:
            node, self._node = self._node, None
            self._snapshot = Temporary((2,), np.dtype(np.int64))
            words = self.array(state())
            self.graph.stage, stage = 0, self.graph.stage
            self._copy(self._snapshot, words, 2, np.dtype(np.int64))
            self.ops.insert(0, self.ops.pop())
            self.emit("advance", state=words, dtype=np.dtype(np.float64), commit=True)
            self.graph.stage = stage
            self._node = node
        return self._snapshot

    # ---- for the passes -------------------------------------------------------------------------

    def lower(self, targets: Sequence[tuple[Tensor, Buffer]]) -> None:
        """Emit all nodes; each tensor of `targets` ends in its buffer, without a copy if possible."""
        copies = []
        for tensor, target in targets:
            root = tensor
            while root.node.op.view_of is not None:
                root = root.node.inputs[root.node.op.view_of]
            if isinstance(root.node.op, Leaf) or root in self._storage or self._outlives(root):
                copies.append((tensor, target))
            else:
                self._storage[root] = target
        for node in self.graph.nodes:
            self._node = node
            node.op.lower(node, self)
        for _, origin, kernel, settings in sorted(self._late, key=lambda late: late[0]):
            self._node = origin
            self.emit(kernel, **settings)
        for tensor, target in copies:
            self._node = tensor.node
            self._copy(target, tensor, count(tensor.shape), tensor.dtype)
        self._node = None

    def bind_leaf(self, node: Node) -> None:
        tensor = node.output
        if node.op is INPUT:
            index = next(i for i, t in enumerate(self.graph.inputs) if t is tensor)
            self._storage[tensor] = Buffer("input", _nbytes(tensor), index)
            if self._outlives(tensor):
                # The caller's array is gone when the backward pass runs: keep a copy.
                kept = Buffer("arena", _nbytes(tensor))
                self._copy(kept, tensor, count(tensor.shape), tensor.dtype)
                self._storage[tensor] = kept
        elif node.op is MEMORY:
            self._storage[tensor] = self.array(node.attrs["array"], constant=node.attrs["constant"])
        else:
            # Labels and numbers may be given in any layout; the record keeps the array that it was.
            self._storage[tensor] = self.array(np.require(node.attrs["value"], requirements="C"))

    def _outlives(self, tensor: Tensor) -> bool:
        """Whether a later stage reads the tensor, or a view of it."""
        return any(
            reader.stage > tensor.node.stage or (reader.op.view_of is not None and self._outlives(reader.output))
            for reader in self.readers.get(tensor, ())
        )

    def storage(self, operand: Any) -> Buffer:
        if isinstance(operand, Buffer):
            return operand
        buffer = self._storage.get(operand)
        if buffer is None:
            buffer = self._storage[operand] = Buffer("arena", _nbytes(operand))
        return buffer

    def _copy(self, target: Any, source: Any, size: int, dtype: np.dtype[Any]) -> None:
        """A copy of `size` elements that lie one behind the other; whole numbers are copied as what is as long."""
        real = np.dtype(np.float64) if dtype.itemsize == 8 else dtype
        self.emit("copy", y=target, x=source, ndim=1, shape=[size], y_strides=[1], x_strides=[1], dtype=real)


def _nbytes(operand: Any) -> int:
    return int(count(operand.shape)) * int(operand.dtype.itemsize)
