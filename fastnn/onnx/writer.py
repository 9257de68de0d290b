"""What the writers of ops write to: nodes of an ONNX graph, and values that know how they lie.

fastnn's graph holds images channels-last and weights as kernels read them; ONNX has the channels first. So a tensor's
`Value` says which dimension of the ONNX value each of its own is, and a transpose writes nothing: it is written where
somebody wants another order than there is, which between convolutions nobody does. Likewise a reshape waits until the
shape is asked for, and shapes of shapes are taken from where they began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.graph import Node, Tensor
from fastnn.sizes import Dim, Shape, is_one, linear, same_shape

Array = np.ndarray[Any, Any]

INT64 = np.dtype(np.int64)
#: What Slice takes for "to the end".
LAST = np.iinfo(np.int64).max


class Unwritable(Exception):
    """Why a node cannot be written."""


class Value(NamedTuple):
    """An ONNX value that holds a tensor.

    Attributes
    ----------
    name : str
    shape : Shape
        Of the ONNX value.
    axes : tuple of (int or None), or None
        Which of its dimensions each of the tensor's is; None for one of size 1 that it lacks. Where there are no axes,
        the tensor is the value under another shape.
    """

    name: str
    shape: Shape
    axes: tuple[int | None, ...] | None

    def place(self, dim: int) -> int | None:
        assert self.axes is not None
        return self.axes[dim]


class Writer:
    """An ONNX graph in the making.

    Parameters
    ----------
    onnx : module
        The onnx package.
    opset : int
    reserved : iterable of str
        Names that are taken: of inputs and of parameters.
    batch : str
        The input whose first size is the batch.
    paths : mapping of Node to str
        The module that wrote each node.
    readers : mapping of Tensor to list of Node
    stored : callable
        stored(array) is the initializer that holds a parameter's memory, None for other arrays.
    training : bool
        Whether the graph was traced in training mode.

    Attributes
    ----------
    nodes : list of NodeProto
    values, masks : dict of Tensor to Value
        Where tensors are; those whose elements are 1 or 0 may be there as bools.
    totals : dict of Tensor to str
        Of parts of a sum, the sum.
    padded : dict of str to (str, (str, list of int))
        Of values that were padded, what they were before, and how.
    """

    def __init__(
        self,
        onnx: Any,
        opset: int,
        reserved: Sequence[str],
        batch: str,
        paths: Mapping[Node, str],
        readers: Mapping[Tensor, Sequence[Node]],
        stored: Callable[[Array], str | None],
        training: bool,
    ) -> None:
        self.onnx = onnx
        self.opset = opset
        self.nodes: list[Any] = []
        self.values: dict[Tensor, Value] = {}
        self.masks: dict[Tensor, Value] = {}
        self.totals: dict[Tensor, str] = {}
        self.padded: dict[str, tuple[str, tuple[str, list[int]]]] = {}
        self.readers = readers
        self.stored = stored
        self.training = training
        self._paths = paths
        self._path = ""
        self._batch = batch
        self._taken = set(reserved)
        self._made: dict[Any, str] = {}
        self._roots: dict[str, tuple[str, Shape]] = {}
        self._arrays: dict[str, Array] = {}
        self._resized: dict[str, tuple[str, list[float]]] = {}

    def begin(self, node: Node) -> None:
        """What is written from here on is `node`."""
        self._path = self._paths.get(node, "")

    # ---- nodes ------------------------------------------------------------------------------------

    def node(self, kind: str, *inputs: str, **attrs: Any) -> str:
        """Write a node; the name of its output, which is the node's own."""
        name = self._unique(f"{self._path}/{kind}" if self._path else kind)
        used = list(inputs)
        while used and not used[-1]:
            used.pop()
        settings = {key: value for key, value in attrs.items() if value is not None}
        for value in settings.values():
            for number in value if isinstance(value, (list, tuple)) else (value,):
                fixed(number)
        self.nodes.append(self.onnx.helper.make_node(kind, used, [name], name=name, **settings))
        return name

    def once(self, kind: str, *inputs: str, **attrs: Any) -> str:
        """As `node`, where the same was not written before."""
        key = (kind, inputs, repr(sorted(attrs.items())))
        if key not in self._made:
            self._made[key] = self.node(kind, *inputs, **attrs)
        return self._made[key]

    def constant(self, value: Any, dtype: Any = None) -> str:
        array = np.asarray(value, dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            self._made[key] = self.node("Constant", value=self.onnx.numpy_helper.from_array(array))
            self._arrays[self._made[key]] = array
        return self._made[key]

    def ints(self, *values: int) -> str:
        return self.constant([fixed(value) for value in values], np.int64)

    def cast(self, name: str, dtype: Any) -> str:
        return self.once("Cast", name, to=self.element_type(dtype))

    def element_type(self, dtype: Any) -> int:
        number: int = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return number

    def _unique(self, wish: str) -> str:
        name, number = wish, 0
        while name in self._taken:
            number += 1
            name = f"{wish}_{number}"
        self._taken.add(name)
        return name

    # ---- sizes ------------------------------------------------------------------------------------

    def size(self, size: int) -> str:
        """A size as int64 of shape (1,)."""
        if not isinstance(size, Dim):
            return self.ints(size)
        name = self.once("Gather", self.once("Shape", self._batch), self.ints(0), axis=0)
        if size.per_sample != 1:
            name = self.once("Mul", name, self.ints(size.per_sample))
        return self.once("Add", name, self.ints(size.fixed)) if size.fixed else name

    def sizes(self, shape: Sequence[int]) -> str:
        """A shape as int64 of shape (dimensions,)."""
        if not any(isinstance(size, Dim) for size in shape):
            return self.ints(*shape)
        return self.once("Concat", *map(self.size, shape), axis=0)

    # ---- layouts ----------------------------------------------------------------------------------

    def value(self, tensor: Tensor) -> Value:
        """Where a tensor is, as numbers."""
        if tensor not in self.values:
            mask = self.masks[tensor]
            self.values[tensor] = mask._replace(name=self.cast(mask.name, tensor.dtype))
        return self.values[tensor]

    def truth(self, tensor: Tensor) -> Value:
        """Where a tensor is, as bools: whether it is not 0."""
        if tensor not in self.masks:
            value = self.value(tensor)
            return value._replace(name=self.cast(value.name, np.bool_))
        return self.masks[tensor]

    def laid(self, tensor: Tensor, of: Callable[[Tensor], Value] | None = None) -> Value:
        """Where a tensor is, with its dimensions."""
        value = (of or self.value)(tensor)
        if value.axes is not None:
            return value
        return Value(self.reshape(value.name, value.shape, tensor.shape), tensor.shape, tuple(range(tensor.ndim)))

    def name(self, tensor: Tensor) -> str:
        """A tensor as it is."""
        return self.arranged(tensor, range(tensor.ndim))

    def arranged(self, tensor: Tensor, order: Sequence[int | None], of: Callable[[Tensor], Value] | None = None) -> str:
        """A tensor with its dimensions in another order; None is one of size 1 more, and what is left out has it."""
        value = self.laid(tensor, of)
        wanted, sizes = self._wanted(tensor, value, order)
        kept = [a for a in wanted if a is not None and not is_one(value.shape[a])]
        name, shape = value.name, value.shape
        if kept != sorted(kept):
            named = [a for a in wanted if a is not None]
            perm = [*named, *(a for a in range(len(shape)) if a not in named)]
            name, shape = self._transposed(name, perm), tuple(shape[a] for a in perm)
        return self.reshape(name, shape, sizes)

    def _transposed(self, name: str, perm: list[int]) -> str:
        if name in self._arrays:
            return self.constant(self._arrays[name].transpose(perm))
        return self.once("Transpose", name, perm=perm)

    def is_free(self, tensor: Tensor, order: Sequence[int | None], of: Callable[[Tensor], Value] | None = None) -> bool:
        """Whether a tensor lies in this order."""
        value = (of or self.value)(tensor)
        if value.axes is None:
            return False
        wanted, sizes = self._wanted(tensor, value, order)
        kept = [a for a in wanted if a is not None and not is_one(value.shape[a])]
        return kept == sorted(kept) and same_shape(sizes, value.shape)

    @staticmethod
    def _wanted(tensor: Tensor, value: Value, order: Sequence[int | None]) -> tuple[list[int | None], Shape]:
        return (
            [None if dim is None else value.place(dim) for dim in order],
            tuple(1 if dim is None else tensor.shape[dim] for dim in order),
        )

    def reshape(self, name: str, shape: Shape, sizes: Shape) -> str:
        """A value of `shape` under other sizes, from what it was before it had that shape."""
        root, before = self._roots.get(name, (name, shape))
        if same_shape(before, sizes):
            return root
        if root in self._arrays and not any(isinstance(size, Dim) for size in sizes):
            return self.constant(self._arrays[root].reshape(sizes))
        key = (root, tuple(map(linear, sizes)))
        if key not in self._made:
            self._made[key] = self._reshaped(root, before, sizes)
            self._roots[self._made[key]] = (root, before)
        return self._made[key]

    def _reshaped(self, name: str, shape: Shape, sizes: Shape) -> str:
        for kind, fewer, more in (("Unsqueeze", shape, sizes), ("Squeeze", sizes, shape)):
            ones = _ones_between(fewer, more)
            if ones is not None:
                return self._with_axes(kind, name, ones)
        if len(sizes) == 2 and len(shape) > 2 and linear(sizes[0]) == linear(shape[0]):
            return self.node("Flatten", name, axis=1)
        kept = [i < len(shape) and linear(shape[i]) == linear(size) for i, size in enumerate(sizes)]
        follow = [isinstance(size, Dim) and not kept[i] for i, size in enumerate(sizes)]
        if sum(follow) > 1:
            return self.node("Reshape", name, self.sizes(sizes))
        target = [
            -1 if follows else 0 if isinstance(size, Dim) else size for size, follows in zip(sizes, follow, strict=True)
        ]
        return self.node("Reshape", name, self.ints(*target))

    def _with_axes(self, kind: str, name: str, axes: Sequence[int]) -> str:
        if self.opset < 13:
            return self.node(kind, name, axes=list(axes))
        return self.node(kind, name, self.ints(*axes))

    def put(self, tensor: Tensor, name: str, like: Value | None = None, mask: bool = False) -> None:
        """Say where a tensor is: as it is, or laid out as another value."""
        value = Value(name, tensor.shape, tuple(range(tensor.ndim))) if like is None else like._replace(name=name)
        (self.masks if mask else self.values)[tensor] = value

    # ---- what several ops need --------------------------------------------------------------------

    def channels_first(self, tensor: Tensor) -> tuple[str, list[int]]:
        """Images (N, H, W, C) as (N, C, H, W), sequences among them as (N, C, L); and the order of dimensions."""
        axes, last = self.laid(tensor).axes, tensor.ndim - 1
        assert axes is not None
        middle = range(1, last)
        real = [i for i in middle if axes[i] is not None]
        large = [i for i in middle if not is_one(tensor.shape[i])]
        for dims in (real, large, middle):  # of dimensions of size 1 it is not known which one is which
            if dims and self.is_free(tensor, [0, last, *dims]):
                break
        else:
            dims = real
        return self.arranged(tensor, [0, last, *dims]), [0, last, *dims]

    def put_ordered(self, tensor: Tensor, name: str, order: Sequence[int | None]) -> None:
        """Say that a value has a tensor's dimensions in this order; those left out have a size of 1."""
        places = {dim: i for i, dim in enumerate(order) if dim is not None}
        axes = tuple(places.get(i) for i in range(tensor.ndim))
        shape = tuple(1 if dim is None else tensor.shape[dim] for dim in order)
        self.values[tensor] = Value(name, shape, axes)

    def together(self, out: Tensor, operands: Sequence[Tensor], truths: int = 0) -> tuple[list[str], Value]:
        """Operands of elementwise work, which broadcast to `out`, in a layout that most of them have; and the layout
        of the result. The first `truths` of them are wanted as bools."""
        given = [(t, self.truth if i < truths else self.value) for i, t in enumerate(operands)]
        large = [(t, of) for t, of in given if t.ndim]
        values = [of(t) for t, of in large]
        first = values[0] if values else None
        if first is not None and all(
            v.axes is None and same_shape(v.shape, first.shape) and same_shape(t.shape, out.shape)
            for v, (t, _) in zip(values, large, strict=True)
        ):
            return [of(t).name if t.ndim else self.arranged(t, (), of) for t, of in given], first
        best, fits = tuple(range(out.ndim)), -1
        orders: list[Sequence[int | None]] = [tuple(range(out.ndim))]
        for value, (tensor, _) in zip(values, large, strict=True):
            if value.axes is not None and tensor.ndim == out.ndim and self._holds(value, out):
                places = {place: dim for dim, place in enumerate(value.axes) if place is not None}
                orders.append(tuple(places.get(i) for i in range(len(value.shape))))
        for order in orders:
            free = sum(self.is_free(t, self._aligned(t, out, order), of) for t, of in large if t.ndim == out.ndim)
            if free > fits:
                best, fits = order, free  # type: ignore[assignment]
        names = [self.arranged(t, self._aligned(t, out, best), of) for t, of in given]
        places = {dim: i for i, dim in enumerate(best) if dim is not None}
        shape = tuple(1 if dim is None else out.shape[dim] for dim in best)
        return names, Value("", shape, tuple(places.get(i) for i in range(out.ndim)))

    @staticmethod
    def _holds(value: Value, out: Tensor) -> bool:
        """Whether a value's layout has a place for each dimension of `out` that needs one."""
        assert value.axes is not None
        return all(place is not None or is_one(out.shape[i]) for i, place in enumerate(value.axes))

    @staticmethod
    def _aligned(tensor: Tensor, out: Tensor, order: Sequence[int | None]) -> list[int | None]:
        """The order for an operand that broadcasts to `out` from its last dimension on."""
        missing = out.ndim - tensor.ndim
        aligned = [None if dim is None or dim < missing else dim - missing for dim in order]
        while missing and aligned and aligned[0] is None:
            aligned.pop(0)
        return aligned

    def resized(self, name: str, scales: list[float]) -> str:
        """A value with its elements repeated, along each dimension so many times; at once if it was resized before."""
        name, before = self._resized.get(name, (name, [1.0] * len(scales)))
        scales = [a * b for a, b in zip(scales, before, strict=True)]
        numbers = self.constant(scales, np.float32)
        if self.opset < 11:
            resized = self.node("Upsample" if self.opset < 10 else "Resize", name, numbers, mode="nearest")
        else:
            region = self.constant([], np.float32) if self.opset < 13 else ""
            how = dict(coordinate_transformation_mode="asymmetric", nearest_mode="floor")
            resized = self.node("Resize", name, region, numbers, mode="nearest", **how)
        self._resized[resized] = (name, scales)
        return resized

    def reader(self, tensor: Tensor) -> Node | None:
        """The one node that reads a tensor."""
        found = self.readers.get(tensor, ())
        return found[0] if len(found) == 1 else None


def fixed(size: Any) -> Any:
    """A size where ONNX wants a number."""
    if isinstance(size, Dim):
        raise Unwritable("a size follows the batch where ONNX wants a number")
    return size


def _ones_between(fewer: Shape, more: Shape) -> list[int] | None:
    """Where sizes of 1 come in to make the one shape the other; None if it takes more than that."""
    ones, j = [], 0
    for i, size in enumerate(more):
        if j < len(fewer) and linear(size) == linear(fewer[j]):
            j += 1
        elif is_one(size):
            ones.append(i)
        else:
            return None
    return ones if j == len(fewer) and ones else None


Write = Callable[[Writer, Node], None]

#: By the names of ops.
WRITERS: dict[str, Write] = {}


def writes(*names: str) -> Callable[[Write], Write]:
    """Register the function that writes the ops of these names."""

    def register(function: Write) -> Write:
        for name in names:
            WRITERS[name] = function
        return function

    return register
