"""ONNX files as plain nodes and arrays: read, and proved to hold together, before anything is made of them."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.onnx.external import External, Unreadable
from fastnn.onnx.package import package

Array = np.ndarray[Any, Any]

#: Under which name among its metadata a file of fastnn's describes its initializers: see State.
STATE = "fastnn.state"
#: How deep the branches of If, and functions that call functions, may lie in each other.
DEPTH = 16
#: Of nodes, those of functions counted as often as they are called.
NODES = 1 << 18
#: Of an array that a file holds: more elements, or dimensions, than any memory or kernel takes.
LARGEST_ELEMENTS, LARGEST_NDIM = 1 << 40, 32

#: By ONNX's number of a dtype: its name, NumPy's dtype in the file, and what fastnn computes in; for those that lie in
#: another field than that of 32-bit integers, which.
DTYPES: dict[int, tuple[str, str, str, str]] = {
    1: ("float32", "<f4", "float32", "float_data"),
    2: ("uint8", "<u1", "uint8", "int32_data"),
    3: ("int8", "<i1", "int8", "int32_data"),
    4: ("uint16", "<u2", "uint16", "int32_data"),
    5: ("int16", "<i2", "int16", "int32_data"),
    6: ("int32", "<i4", "int32", "int32_data"),
    7: ("int64", "<i8", "int64", "int64_data"),
    9: ("bool", "|b1", "bool", "int32_data"),
    10: ("float16", "<f2", "float32", "int32_data"),
    11: ("float64", "<f8", "float64", "double_data"),
    12: ("uint32", "<u4", "uint32", "uint64_data"),
    13: ("uint64", "<u8", "uint64", "uint64_data"),
    16: ("bfloat16", "<u2", "float32", "int32_data"),
}
_HALVES = {"float16", "bfloat16"}
_UNREAD = {8: "strings", 14: "complex64", 15: "complex128", 21: "uint4", 22: "int4", 23: "float4e2m1"}


@dataclass(frozen=True)
class Port:
    """An input or output of a network. `dtype` is what fastnn computes in; sizes that follow the data are None, and so
    is a shape that the file leaves open."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Reference:
    """An attribute that a function takes from the node that calls it."""

    name: str


@dataclass(eq=False)
class Node:
    """An operator's use: attributes are ints, floats, texts, arrays, Diagrams, or tuples of them.

    Of what calls a function of the file, that is `function`; what its attributes are where a call says nothing stands
    in `Function.defaults`.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    function: Function | None = None
    #: What the operator's registry makes of it: see fastnn.onnx.operator.
    bound: Any = None

    def __str__(self) -> str:
        return f"{self.domain + '.' if self.domain else ''}{self.op} {_check.brief(self.name)}"

    def branches(self) -> Iterator[tuple[str, Diagram]]:
        """Graphs among the attributes."""
        for name, value in self.attributes.items():
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Diagram):
                    yield name, part

    def reads(self) -> tuple[str, ...]:
        """Names of values that it needs, those that its branches take from around them among them."""
        return (*self.inputs, *(name for _, branch in self.branches() for name in branch.free()))


@dataclass(eq=False)
class State:
    """What a file of fastnn's says of its initializers: which are buffers, which parameters are not trained, and the
    counts that go with them, such as a batch norm's of batches."""

    buffers: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class Diagram:
    """Nodes in an order in which they can be computed."""

    nodes: list[Node]
    inputs: list[Port]
    outputs: list[Port]
    arrays: dict[str, Array]
    opsets: dict[str, int]
    state: State = field(default_factory=State)
    #: What messages call the file.
    origin: str = ""
    _free: tuple[str, ...] | None = None

    def free(self) -> tuple[str, ...]:
        """Names of values that come from around it."""
        if self._free is None:
            own = {*self.arrays, *(p.name for p in self.inputs), *(o for n in self.nodes for o in n.outputs)}
            wanted = [*(name for n in self.nodes for name in n.reads()), *(p.name for p in self.outputs)]
            self._free = tuple(dict.fromkeys(name for name in wanted if name and name not in own))
        return self._free


@dataclass(eq=False)
class Function(Diagram):
    """A function that the file defines."""

    attributes: frozenset[str] = frozenset()
    defaults: dict[str, Any] = field(default_factory=dict)


def read(source: Any) -> Diagram:
    """The network of a file, by its path or its bytes.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing, no ONNX network, or does not hold together.
    """
    onnx = package("reading an ONNX file")
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, what, folder = bytes(source), "the bytes given", None
    else:
        path = _check.path("path", source)
        with open(path, "rb") as file:
            data = file.read()
        what, folder = _check.brief(os.fspath(path), str), os.path.dirname(os.path.abspath(path))
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # DecodeError, of a package that is not imported here
        raise Unreadable(f"{what}: no ONNX network ({_check.brief(str(error), str)})") from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise Unreadable(f"{what}: no ONNX network: it holds no graph with a version of operators")
    try:
        reader = _Reader(proto, folder)
        diagram = reader.network()
    except Unreadable as error:
        raise Unreadable(f"{what}: {error}") from None
    except RecursionError:
        raise Unreadable(f"{what}: graphs lie too deep in each other") from None
    diagram.origin = what
    if reader.halves:
        warnings.warn(f"{what} holds {' and '.join(sorted(reader.halves))}, which is computed in float32", stacklevel=3)
    return diagram


def _state(text: str) -> State:
    try:
        table = json.loads(text)
        buffers, frozen, counts = table["buffers"], table["frozen"], table["counts"]
        names = [*buffers, *frozen, *counts]
        if not all(isinstance(name, str) for name in names) or any(type(n) is not int for n in counts.values()):
            raise TypeError("names and counts")
        if any(not 0 <= count < 2**63 for count in counts.values()):
            raise ValueError("a count")
        return State(frozenset(buffers), frozenset(frozen), dict(counts))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise Unreadable(f"what it says under {STATE!r} is damaged ({_check.brief(str(error), str)})") from None


class _Reader:
    """Makes Diagrams of what protobuf has parsed."""

    def __init__(self, proto: Any, folder: str | None) -> None:
        self.proto = proto
        self.opsets = _opsets(proto.opset_import)
        self.external = External(folder)
        self.functions: dict[tuple[str, str], Any] = {}
        for function in proto.functions:
            key = (_domain(function.domain), function.name)
            if key in self.functions:
                raise Unreadable(f"it defines the function {_check.brief(function.name)} twice")
            self.functions[key] = function
        #: Functions that were met, how many nodes each is, and how deep.
        self.made: dict[tuple[str, str], tuple[Function, int, int]] = {}
        self.calls: list[tuple[str, str]] = []
        self.count = self.deepest = 0
        #: What is computed in float32, and is less in the file.
        self.halves: set[str] = set()

    def network(self) -> Diagram:
        diagram = self.graph(self.proto.graph, self.opsets, {}, 0)
        for entry in self.proto.metadata_props:
            if entry.key == STATE:
                diagram.state = _state(entry.value)
        return diagram

    def graph(self, proto: Any, opsets: dict[str, int], around: Mapping[str, Any], depth: int) -> Diagram:
        """A graph; `around` are the names that it may take from what it lies in."""
        self.at(depth)
        if proto.sparse_initializer:
            raise Unreadable("it has sparse initializers, which are not read")
        arrays: dict[str, Array] = {}
        for tensor in proto.initializer:
            if not tensor.name or tensor.name in arrays:
                raise Unreadable(f"two initializers have the name {_check.brief(tensor.name)}")
            arrays[tensor.name] = self.array(tensor)
        self.halves |= {
            DTYPES[v.type.tensor_type.elem_type][0] for v in proto.input if v.type.tensor_type.elem_type in DTYPES
        } & _HALVES
        inputs = [_port(value, "input") for value in proto.input if value.name not in arrays]
        names = [*arrays, *(p.name for p in inputs)]
        if len(set(names)) != len(names):
            raise Unreadable("two inputs have one name")
        nodes = self.nodes(proto.node, opsets, dict.fromkeys([*around, *names]), names, depth)
        outputs = [_port(value, "output", nested=depth > 0) for value in proto.output]
        diagram = Diagram(nodes, inputs, outputs, arrays, opsets)
        for name in diagram.free():
            if name not in around:
                raise Unreadable(f"nothing makes the value {_check.brief(name)}")
        return diagram

    def at(self, depth: int) -> None:
        """So deep in graphs and functions that hold each other."""
        if depth > DEPTH:
            raise Unreadable(f"graphs and functions lie more than {DEPTH} deep in each other")
        self.deepest = max(self.deepest, depth)

    def nodes(
        self, protos: Any, opsets: dict[str, int], around: dict[str, None], names: Iterable[str], depth: int
    ) -> list[Node]:
        self.count += len(protos)
        if self.count > NODES:
            raise Unreadable(f"it has more than {NODES} nodes")
        known = {*around, *(name for proto in protos for name in proto.output)}
        inside = dict.fromkeys(known)
        made = set(names)
        nodes = []
        for proto in protos:
            node = self.node(proto, opsets, inside, depth)
            for output in node.outputs:
                if output and output in made:
                    raise Unreadable(f"two nodes make the value {_check.brief(output)}")
                made.add(output)
            nodes.append(node)
        return _sorted(nodes)

    def node(self, proto: Any, opsets: dict[str, int], around: dict[str, None], depth: int) -> Node:
        domain = _domain(proto.domain)
        name = proto.name or next((o for o in proto.output if o), "")
        attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.name in attributes:
                raise Unreadable(f"{proto.op_type} {_check.brief(name)} has the attribute {attribute.name!r} twice")
            attributes[attribute.name] = self.attribute(attribute, opsets, around, depth)
        function = self.function(domain, proto.op_type, depth) if (domain, proto.op_type) in self.functions else None
        if function is None and domain not in opsets:
            raise Unreadable(f"{proto.op_type} {_check.brief(name)} is of the domain {domain!r}, which has no version")
        return Node(name, proto.op_type, domain, tuple(proto.input), tuple(proto.output), attributes, function)

    def function(self, domain: str, name: str, depth: int) -> Function:
        """A function of the file. What lies in it counts at each call."""
        key = (domain, name)
        if key in self.calls:
            raise Unreadable(f"the function {_check.brief(name)} calls itself")
        if key in self.made:
            function, count, height = self.made[key]
            self.at(depth + height)
            self.count += count
            if self.count > NODES:
                raise Unreadable(f"it has more than {NODES} nodes")
            return function
        proto, before, deepest = self.functions[key], self.count, self.deepest
        self.deepest = depth
        self.at(depth + 1)
        self.calls.append(key)
        opsets = _opsets(proto.opset_import)
        names = list(proto.input)
        nodes = self.nodes(proto.node, opsets, dict.fromkeys(names), names, depth + 1)
        inputs, outputs = ([Port(n, np.dtype(np.float32), None) for n in part] for part in (proto.input, proto.output))
        defaults = {a.name: self.attribute(a, opsets, {}, depth + 1) for a in proto.attribute_proto}
        function = Function(
            nodes, inputs, outputs, {}, opsets, attributes=frozenset(proto.attribute), defaults=defaults
        )
        if unknown := function.free():
            raise Unreadable(f"in the function {_check.brief(name)} nothing makes the value {_check.brief(unknown[0])}")
        self.calls.pop()
        self.made[key] = function, self.count - before, self.deepest - depth
        self.deepest = max(self.deepest, deepest)
        return function

    def attribute(self, proto: Any, opsets: dict[str, int], around: dict[str, None], depth: int) -> Any:
        if proto.ref_attr_name:
            if not self.calls:
                raise Unreadable(f"the attribute {proto.name!r} is taken from a function's call, outside of a function")
            return Reference(proto.ref_attr_name)
        match proto.type:
            case 1:
                return proto.f
            case 2:
                return proto.i
            case 3:
                return _text(proto.s)
            case 4:
                return self.array(proto.t)
            case 5:
                return self.graph(proto.g, opsets, around, depth + 1)
            case 6:
                return tuple(proto.floats)
            case 7:
                return tuple(proto.ints)
            case 8:
                return tuple(map(_text, proto.strings))
            case 9:
                return tuple(map(self.array, proto.tensors))
            case 10:
                return tuple(self.graph(g, opsets, around, depth + 1) for g in proto.graphs)
        raise Unreadable(f"the attribute {_check.brief(proto.name)} is of a kind that is not read ({proto.type})")

    def array(self, proto: Any) -> Array:
        """An array of a file, its sizes proved against what there is of it."""
        name = f"the array {_check.brief(proto.name)}"
        if proto.data_type not in DTYPES:
            kind = _UNREAD.get(proto.data_type, f"dtype {proto.data_type}")
            raise Unreadable(f"{name} holds {kind}, which is not read")
        shape = tuple(proto.dims)
        if len(shape) > LARGEST_NDIM or min(shape, default=1) < 0 or math.prod(shape) > LARGEST_ELEMENTS:
            raise Unreadable(f"{name} has the shape {_check.brief(shape)}, larger than any memory")
        if proto.HasField("segment"):
            raise Unreadable(f"{name} is cut into segments, which are not read")
        kind, stored, computed, place = DTYPES[proto.data_type]
        self.halves |= {kind} & _HALVES
        dtype, count = np.dtype(stored), math.prod(shape)
        if proto.data_location == 1:
            data = self.external.array(name, {e.key: e.value for e in proto.external_data}, dtype, count)
        elif proto.HasField("raw_data"):
            if len(proto.raw_data) != count * dtype.itemsize:
                raise Unreadable(
                    f"{name} has {len(proto.raw_data)} bytes; {shape} of {kind} are {count * dtype.itemsize}"
                )
            data = np.frombuffer(proto.raw_data, dtype)
        else:
            values = getattr(proto, place)
            if len(values) != count:
                raise Unreadable(f"{name} has {len(values)} elements; its shape {shape} wants {count}")
            data = _from_field(name, np.array(values), kind, dtype)
        if kind == "bfloat16":
            data = (data.astype("<u4") << 16).view("<f4")
        return data.astype(computed).reshape(shape)


def _from_field(name: str, values: Array, kind: str, dtype: np.dtype[Any]) -> Array:
    """What a field of wider numbers holds, as the array that it stands for."""
    if not values.size:
        return np.zeros(0, dtype)
    if kind in ("float16", "bfloat16"):  # as bits
        dtype, values = np.dtype("<u2"), values.astype(np.int64)
    elif dtype.kind == "b":
        return values.astype(bool)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise Unreadable(f"{name} holds numbers that are no {kind}")
    result: Array = values.astype(dtype)
    return result.view("<f2") if kind == "float16" else result


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _opsets(imports: Any) -> dict[str, int]:
    return {_domain(each.domain): each.version for each in imports}


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"an attribute holds {_check.brief(data)}, which is no text") from None


def _port(value: Any, what: str, nested: bool = False) -> Port:
    kind = value.type.WhichOneof("value")
    if kind is None and nested:  # a branch need not say
        return Port(value.name, np.dtype(np.float32), None)
    number = value.type.tensor_type.elem_type
    if kind != "tensor_type" or number not in DTYPES or not value.name:
        given = _UNREAD.get(number, f"dtype {number}") if kind == "tensor_type" else kind or "nothing that is said"
        raise Unreadable(f"{what} {_check.brief(value.name)} holds {given}, which is not read")
    shape: tuple[int | None, ...] | None = None
    if value.type.tensor_type.HasField("shape"):
        sizes = value.type.tensor_type.shape.dim
        shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in sizes)
    return Port(value.name, np.dtype(DTYPES[number][2]), shape)


def _sorted(nodes: list[Node]) -> list[Node]:
    """Nodes behind those that they read from; they stay where they are if they all do."""
    maker = {output: i for i, node in enumerate(nodes) for output in node.outputs if output}
    waits = [{maker[name] for name in node.reads() if name in maker} for node in nodes]
    if all(max(before, default=-1) < i for i, before in enumerate(waits)):
        return nodes
    readers: dict[int, list[int]] = {}
    for i, before in enumerate(waits):
        for other in before:
            readers.setdefault(other, []).append(i)
    left = [len(before) for before in waits]
    ready = [i for i in range(len(nodes)) if not left[i]]
    for i in ready:  # grows
        for reader in readers.get(i, ()):
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    if len(ready) != len(nodes):
        stuck = next(i for i in range(len(nodes)) if left[i])
        raise Unreadable(f"nodes wait for each other in a circle, {nodes[stuck]} among them")
    return [nodes[i] for i in ready]
