"""One walk over a network's nodes, while it is traced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn._check import FLOATS
from fastnn.graph import CONSTANT, IntegersError, Tensor, TensorMethods, TraceError, active_graph, as_tensor
from fastnn.lowering.watch import Walk
from fastnn.nn.parameter import Parameter
from fastnn.onnx.file import Array, Diagram, Node, Port, Reference
from fastnn.onnx.operator import Call, Operator, Unknown, Whole, constant, dense, fits_kind
from fastnn.onnx.static import sources
from fastnn.sizes import count, describe

#: Bytes of a tensor.
LARGEST = 1 << 36


class NeedsNumbers(TraceError):
    """Inputs of the network whose numbers must be known while it is traced.

    Attributes
    ----------
    names : set of str
    """

    def __init__(self, names: set[str], why: str) -> None:
        super().__init__(
            f"{why}: the numbers of {_check.some(sorted(names))} must be known while the network is traced, as they "
            "are in a direct call of the network with arrays; where it is a part of something else, give arrays there"
        )
        self.names = names


class Source:
    """What a network was read from, which never changes.

    Attributes
    ----------
    diagram : Diagram
    entries : list of str
        Names of its parameters and buffers.
    dtypes : set of numpy.dtype
        Of the floating-point ones among them, in the file.
    by_value : set of str
        Inputs whose numbers were needed in some trace: calls then have a program for each.
    """

    def __init__(self, diagram: Diagram) -> None:
        self.diagram = diagram
        self.entries: list[str] = []
        self.dtypes: set[Any] = set()
        self.by_value: set[str] = set()

    def __fastnn_watch__(self, walk: Walk) -> None:
        """Nothing that a trace depends on changes here."""

    def __deepcopy__(self, memo: Any) -> Source:
        return self

    def in_order(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Arguments in the order of the file's inputs; TypeError where they do not fit."""
        names = [p.name for p in self.diagram.inputs]
        if len(args) > len(names):
            raise TypeError(f"the network has {len(names)} input(s), {_check.some(names)}; got {len(args)}")
        given = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in given:
                problem = "is given twice" if name in given else "is no input of the network"
                raise TypeError(f"{_check.brief(name)} {problem}; there are {_check.some(names)}")
            given[name] = value
        if missing := [name for name in names if name not in given]:
            raise TypeError(f"the network's input(s) {_check.some(missing)} are missing")
        return [given[name] for name in names]


class Run:
    """A walk: `network` gives the outputs for the inputs.

    Parameters
    ----------
    source : Source
    entries : mapping of str to Parameter
        What initializers are now.
    training : bool
    direct : bool
        Whether a call of the network itself is traced, which can find out the numbers of integers.
    """

    def __init__(self, source: Source, entries: Mapping[str, Any], training: bool, direct: bool) -> None:
        self.source = source
        self.training = training
        self.direct = direct
        self.env: dict[str, Any] = {**source.diagram.arrays, **entries}
        self._constants: dict[int, tuple[Array, Tensor]] = {}
        held = {p.dtype for p in entries.values()} & set(FLOATS)
        #: What a network is in now that was converted as a whole.
        self._converted = held.pop() if len(held) == 1 and held != source.dtypes else None

    def network(self, given: Sequence[Any]) -> list[Tensor]:
        """The outputs' tensors."""
        diagram = self.source.diagram
        for port, value in zip(diagram.inputs, given, strict=True):
            self.env[port.name] = self._entered(port, value)
        for node in diagram.nodes:
            try:
                self._node(node, self.env, diagram.opsets, {})
            except Unknown as unknown:
                inputs = sources(diagram, unknown.names or self._undecided(node))
                names = {p.name for p in inputs if not isinstance(self.env[p.name], np.ndarray)}
                if names:
                    raise NeedsNumbers(names, f"{node}: {unknown}") from None
                raise TypeError(f"{node}: {unknown}, and the network computes them when it runs") from None
        return [self._left(port) for port in diagram.outputs]

    def _undecided(self, node: Node) -> list[str]:
        """Of what a node reads and is not known, the integers and bools; all where there are none."""
        unknown = [name for name in node.reads() if name and not isinstance(self.env[name], np.ndarray)]
        return [name for name in unknown if isinstance(self.env[name], Whole)] or unknown

    def branch(self, diagram: Diagram, around: Mapping[str, Any]) -> list[Any]:
        """The values of a graph's outputs; `around` are those that it may read."""
        env = {**around, **diagram.arrays}
        for node in diagram.nodes:
            self._node(node, env, diagram.opsets, {})
        return [env[port.name] for port in diagram.outputs]

    # ---- values ----

    def float_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """What is computed in where the file has this floating-point dtype."""
        return self._converted or dtype

    def tensor(self, value: Any) -> Tensor:
        """A value as a tensor of floats."""
        if isinstance(value, Tensor):
            return value
        if isinstance(value, TensorMethods):  # a parameter
            return as_tensor(value)
        if value.dtype.kind != "f":
            raise TypeError(f"it takes floating-point numbers, got {value.dtype}")
        found = self._constants.get(id(value))
        if found is None:
            found = (value, constant(value.astype(self.float_dtype(value.dtype), copy=False)))
            self._constants[id(value)] = found
        return found[1]

    def _entered(self, port: Port, value: Any) -> Any:
        """An argument as a value."""
        what = f"the input {_check.brief(port.name)}"
        wanted = self.float_dtype(port.dtype) if port.dtype.kind == "f" else port.dtype
        if isinstance(value, TensorMethods):
            value = as_tensor(value)
        elif port.name in self.source.by_value or wanted.kind != "f" or not np.size(value):
            value = np.asarray(value)
            if value.dtype.kind not in ("f" if wanted.kind == "f" else "iub"):
                raise TypeError(f"{what} has dtype {value.dtype}; the network takes {wanted}")
            value = value.astype(wanted, copy=False)
        else:
            value = as_tensor(np.asarray(value))
        fits = port.shape is None or (
            len(port.shape) == len(value.shape)
            and all(want in (None, size) for want, size in zip(port.shape, value.shape, strict=True))
        )
        if not fits:
            sizes = ", ".join("any" if size is None else str(size) for size in port.shape or ())
            raise ValueError(f"{what} has shape {describe(value.shape)}; the network takes ({sizes})")
        if isinstance(value, np.ndarray):
            return value
        if value.dtype != (wanted if wanted.kind == "f" else np.int64):
            mend = f": convert it with .astype(np.{wanted})" if wanted.kind != "b" else ""
            message = f"{what} has dtype {value.dtype}; the network takes {wanted}{mend}"
            raise IntegersError(message, value) if value.dtype.kind != "f" else TypeError(message)
        return value if wanted.kind == "f" else Whole(value, wanted, late=not self.direct)

    def _left(self, port: Port) -> Tensor:
        """An output's tensor."""
        value = self.env[port.name]
        if isinstance(value, Whole):
            return value.tensor
        if isinstance(value, np.ndarray) and value.dtype.kind != "f":
            return active_graph().add(CONSTANT, (), value=np.array(dense(value), np.int64)).output
        return self.tensor(value)

    # ---- nodes ----

    def _node(self, node: Node, env: dict[str, Any], opsets: Mapping[str, int], attributes: Mapping[str, Any]) -> None:
        """Make a node's outputs. `attributes` are those of the call of the function that it is in."""
        own = {}
        for name, value in node.attributes.items():
            if not isinstance(value, Reference):
                own[name] = value
            elif value.name in attributes:
                own[name] = attributes[value.name]
        try:
            if node.function is not None:
                results: Any = self._function(node, env, own)
            else:
                results = self._operator(node, env, opsets, own)
        except (TraceError, Unknown, NotImplementedError):
            raise
        except (TypeError, ValueError, IndexError, ArithmeticError) as error:
            kind = next((k for k in (TypeError, ValueError, IndexError) if isinstance(error, k)), ValueError)
            raise kind(f"{node}: {error}") from error
        if not isinstance(results, (tuple, list)):
            results = (results,)
        for i, name in enumerate(node.outputs):
            if name:
                if i >= len(results) or results[i] is None:
                    raise ValueError(f"{node}: its output {_check.brief(name)} is not made")
                if isinstance(results[i], Tensor) and count(results[i].shape) * 8 > LARGEST:
                    shape = describe(results[i].shape)
                    raise ValueError(f"{node}: a result of shape {shape} is larger than any that a network needs")
                env[name] = results[i]

    def _function(self, node: Node, env: dict[str, Any], own: Mapping[str, Any]) -> list[Any]:
        function = node.function
        assert function is not None
        inner = {p.name: env[name] if name else None for p, name in zip(function.inputs, node.inputs, strict=False)}
        inner |= {p.name: None for p in function.inputs if p.name not in inner}
        for part in function.nodes:
            self._node(part, inner, function.opsets, {**function.defaults, **own})
        return [inner.get(p.name) for p in function.outputs]

    def _operator(self, node: Node, env: dict[str, Any], opsets: Mapping[str, int], own: dict[str, Any]) -> Any:
        operator: Operator = node.bound
        for name, value in own.items():
            if isinstance(node.attributes[name], Reference) and not fits_kind(operator, name, value):
                raise TypeError(f"its attribute {name} is of another kind")
        if missing := [n for n, (_, needed) in operator.attributes.items() if needed and n not in own]:
            raise TypeError(f"its attribute {missing[0]} is missing")
        call = Call(node, opsets[node.domain], self.training, self, env)
        values = [self._taken(operator, i, env[name] if name else None) for i, name in enumerate(node.inputs)]
        self._are_known(operator, node, values, env)
        while values and values[-1] is None:
            values.pop()
        if any(v is None for v in values[: operator.required]) or len(values) < operator.required:
            raise TypeError("an input that it needs is missing")
        return operator.function(call, *values, **own)

    def _are_known(self, operator: Operator, node: Node, values: list[Any], env: dict[str, Any]) -> None:
        """Unknown unless the inputs are arrays that must be."""
        missing = [
            i for i, v in enumerate(values)
            if operator.mode(i) == "known" and not (v is None or isinstance(v, np.ndarray))
        ]  # fmt: skip
        if missing:
            what = _check.some(operator.input_name(i) for i in missing)
            names = [node.inputs[i] for i in missing] if env is self.env else None
            raise Unknown(f"the numbers of its input(s) {what} decide what is computed", names)

    def _taken(self, operator: Operator, i: int, value: Any) -> Any:
        """An input as the operator takes it."""
        mode = operator.mode(i)
        if value is None:
            return None
        if mode == "known":
            return value
        if mode == "state" and isinstance(value, Parameter):
            return value
        if isinstance(value, TensorMethods):
            return as_tensor(value)
        if mode in ("raw", "settings"):
            return value
        try:
            return self.tensor(value)
        except TypeError as error:
            raise TypeError(f"its input {operator.input_name(i)}: {error}") from None
