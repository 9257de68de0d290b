"""What operators are to the reader of ONNX files: functions by name and version, and the values that they get.

A value is a tensor of floats; an array where its numbers are known while the network is traced, as shapes are; or a
Whole, integers or bools that are not.

An operator is a function of a Call, of its inputs in ONNX's order, and of its attributes as keywords, under ONNX's
names and with ONNX's defaults:

    @operator("Gemm", 7)
    def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None, *, alpha: float = 1.0, ...) -> Tensor:

It holds from that version of its domain on, up to the next one that is registered. Optional inputs that a file leaves
out are None. What a function does not name, a file must not have: it is refused when it is loaded, together with all
other nodes that cannot be read. The annotation of an attribute says of what kind it must be: int, float, str, Array,
Ints, Floats, Strs or Diagram, perhaps with "| None".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fastnn import _check
from fastnn.graph import CONSTANT, Tensor, active_graph
from fastnn.onnx.file import Diagram, Node, Reference
from fastnn.ops.layout import broadcast_to

Array: TypeAlias = np.ndarray[Any, Any]
Ints: TypeAlias = tuple[int, ...]
Floats: TypeAlias = tuple[float, ...]
Strs: TypeAlias = tuple[str, ...]

#: Of an array that is worked out while tracing: more elements are no shape arithmetic.
LARGEST_KNOWN = 1 << 22


class Whole:
    """Integers or bools that are known when a program runs: as a tensor of labels, or of floats with these values.

    Attributes
    ----------
    tensor : Tensor
    dtype : numpy.dtype
        What the file takes them for.
    late : bool
        Whether their numbers cannot be found out before the program runs, as floats that it computes decide them; else
        those of the network's inputs alone do.
    """

    __slots__ = ("dtype", "late", "tensor")

    def __init__(self, tensor: Tensor, dtype: Any, late: bool) -> None:
        self.tensor = tensor
        self.dtype = np.dtype(dtype)
        self.late = late

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def ndim(self) -> int:
        return self.tensor.ndim


Value: TypeAlias = "Tensor | Array | Whole"


class Unknown(Exception):
    """An operator needs the numbers of inputs that are not known while the network is traced; the text says for what.

    The network is then traced anew with the numbers of its inputs that they come from.

    Attributes
    ----------
    names : list of str, optional
        The values; by default the integers and bools that the node reads, or all where there are none.
    """

    def __init__(self, text: str, names: list[str] | None = None) -> None:
        super().__init__(text)
        self.names = names


@dataclass(frozen=True)
class Operator:
    """A function, and how it takes its inputs: see `operator`."""

    name: str
    domain: str
    since: int
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    required: int
    variadic: str | None
    attributes: dict[str, tuple[str, bool]]  # kind, whether it is needed
    modes: dict[str, str]
    order: Callable[..., Sequence[int] | None] | None

    def __reduce__(self) -> Any:
        return _registered, (self.domain, self.name, self.since)

    def mode(self, i: int) -> str:
        """How the input at place i is taken."""
        name = self.inputs[i] if i < len(self.inputs) else self.variadic
        return self.modes.get(name or "", self.modes.get("*", "float"))

    def input_name(self, i: int) -> str:
        return self.inputs[i] if i < len(self.inputs) else f"{self.variadic}[{i - len(self.inputs)}]"


#: By domain and name, those of rising versions.
OPERATORS: dict[tuple[str, str], list[Operator]] = {}


def _registered(domain: str, name: str, since: int) -> Operator:
    """An operator again, in a copy of a network."""
    return next(o for o in OPERATORS[domain, name] if o.since == since)


def operator(
    name: str,
    since: int = 1,
    *,
    domain: str = "",
    known: str = "",
    raw: str = "",
    state: str = "",
    settings: str = "",
    order: Callable[..., Sequence[int] | None] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as an operator.

    Inputs are tensors of floats unless their names stand in one of these texts, "*" being all:

    Parameters
    ----------
    name : str
    since : int
        The version of its domain from which on the function holds.
    domain : str
    known : str
        Inputs that are arrays, their numbers known while tracing.
    raw : str
        Inputs that are whatever there is: a Tensor, an array, a Whole.
    state : str
        Inputs that are the Parameter itself, a buffer, where the file has an initializer that nothing else reads: what
        training keeps, such as running statistics.
    settings : str
        As `raw`; an initializer there is a number of the network's, and no parameter.
    order : callable, optional
        order(input, shape, attributes) is in which order kernels best read the dimensions of an initializer, such as a
        weight: an argument of Parameter. None leaves it.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        inputs = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        modes = {
            n: m
            for m, t in (("known", known), ("raw", raw), ("state", state), ("settings", settings))
            for n in t.split()
        }
        made = Operator(
            name,
            domain,
            since,
            function,
            tuple(p.name for p in inputs),
            sum(p.default is p.empty for p in inputs),
            next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None),
            {p.name: (p.annotation, p.default is p.empty) for p in parameters if p.kind is p.KEYWORD_ONLY},
            modes,
            order,
        )
        versions = OPERATORS.setdefault((domain, name), [])
        versions.append(made)
        versions.sort(key=lambda o: o.since)
        return function

    return register


_KINDS: dict[str, Callable[[Any], bool]] = {
    "int": lambda v: type(v) is int,
    "float": lambda v: type(v) is float,
    "str": lambda v: type(v) is str,
    "Array": lambda v: isinstance(v, np.ndarray),
    "Diagram": lambda v: isinstance(v, Diagram),
    "Ints": lambda v: type(v) is tuple and all(type(x) is int for x in v),
    "Floats": lambda v: type(v) is tuple and all(type(x) is float for x in v),
    "Strs": lambda v: type(v) is tuple and all(type(x) is str for x in v),
}


def find(node: Node, opsets: dict[str, int]) -> Operator | str:
    """The operator that reads a node; or why there is none."""
    versions = OPERATORS.get((node.domain, node.op))
    if versions is None:
        where = f"the domain {_check.brief(node.domain)}" if node.domain else "ONNX"
        return f"this operator of {where} is not read"
    version = opsets[node.domain]
    fitting = [o for o in versions if o.since <= version]
    if not fitting:
        return f"it is read from version {versions[0].since} on, and the file has {version}"
    found = fitting[-1]
    given = len(node.inputs) - next((i for i, name in enumerate(reversed(node.inputs)) if name), len(node.inputs))
    if given > len(found.inputs) and found.variadic is None:
        return f"it has {given} inputs; at most {len(found.inputs)} are read"
    missing = [name for i, name in enumerate(found.inputs[: found.required]) if i >= given or not node.inputs[i]]
    if missing:
        return f"its input {missing[0]} is missing"
    for name, value in node.attributes.items():
        if name not in found.attributes:
            return f"its attribute {_check.brief(name)} is not read"
        kind = found.attributes[name][0].split(" |")[0]
        if not isinstance(value, Reference) and not _KINDS[kind](value):
            return f"its attribute {name} is no {kind}"
    for name, (_, needed) in found.attributes.items():
        if needed and name not in node.attributes:
            return f"its attribute {name} is missing"
    return found


def fits_kind(operator: Operator, name: str, value: Any) -> bool:
    """Whether an attribute that comes from a function's call is of the right kind."""
    return _KINDS[operator.attributes[name][0].split(" |")[0]](value)


@dataclass
class Call:
    """What an operator may ask beside its inputs and attributes.

    Attributes
    ----------
    node : Node
    version : int
        Of the operators' domain, as the file has it.
    training : bool
        Whether the network is in training mode.
    run : object
        What walks the nodes: `run.branch(diagram, call.around)` follows a graph among the attributes.
    around : dict
        The values that there are so far, by name.
    """

    node: Node
    version: int
    training: bool
    run: Any
    around: dict[str, Any]

    def wants(self, i: int) -> bool:
        """Whether the file reads the operator's output at place i."""
        return i < len(self.node.outputs) and bool(self.node.outputs[i])

    def tensor(self, value: Any) -> Tensor:
        """A value as a tensor of floats, or TypeError for integers and bools."""
        return self.run.tensor(value)  # type: ignore[no-any-return]

    def float_dtype(self, dtype: Any) -> np.dtype[Any]:
        """What is computed in where the file says float32 or float64: the other one in a network that was converted."""
        return self.run.float_dtype(np.dtype(dtype))  # type: ignore[no-any-return]


def constant(array: Array) -> Tensor:
    """A tensor of numbers that nothing changes. One number everywhere is stretched, so that it may follow the batch."""
    collapsed = collapse(array)
    tensor = active_graph().add(CONSTANT, (), value=collapsed).output
    return tensor if collapsed.shape == array.shape else broadcast_to(tensor, array.shape)


def collapse(array: Array) -> Array:
    """An array without what is repeated in it by np.broadcast_to: of size 1 along those dimensions."""
    index = tuple(
        slice(0, 1) if step == 0 and size > 1 else slice(None)
        for size, step in zip(array.shape, array.strides, strict=True)
    )
    return array[index]


def fold(function: Callable[..., Any], *arrays: Array) -> Array:
    """function(*arrays), elementwise, of what is not repeated in the arrays alone."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    parts = [collapse(a) for a in arrays]
    check_known(np.broadcast_shapes(*(p.shape for p in parts)))
    with np.errstate(all="ignore"):
        result = np.asarray(function(*parts))
    return np.broadcast_to(result, shape) if result.shape != shape else result


def check_known(shape: Sequence[int]) -> None:
    """ValueError where an array is too large to be worked out while tracing."""
    size = 1
    for each in shape:
        size *= int(each)
    if size > LARGEST_KNOWN:
        raise ValueError(f"integers of shape {_check.brief(tuple(shape))} are more than are worked out while tracing")


def dense(array: Array) -> Array:
    """An array whose elements are all visited; ValueError where it is too large for that."""
    check_known(array.shape)
    return array


def axis_of(axis: int, ndim: int, what: str = "axis") -> int:
    """A dimension counted from the front, or ValueError."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"{what} {axis} is out of range for {ndim} dimensions")
    return axis % ndim


def axes_of(axes: Sequence[int], ndim: int) -> list[int]:
    """Dimensions counted from the front, in rising order, each once; or ValueError."""
    found = sorted(axis_of(int(a), ndim) for a in axes)
    if len(set(found)) != len(found):
        raise ValueError(f"axes {tuple(axes)} name a dimension twice")
    return found


def lift(value: Value, of_array: Callable[[Array], Array], of_tensor: Callable[[Tensor], Tensor]) -> Value:
    """What moves elements and changes none, of whatever value it is."""
    if isinstance(value, np.ndarray):
        return of_array(value)
    if isinstance(value, Whole):
        return Whole(of_tensor(value.tensor), value.dtype, value.late)
    return of_tensor(value)
