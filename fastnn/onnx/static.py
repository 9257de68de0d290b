"""What can be said of an ONNX network before it is traced: which operators read its nodes, and what its initializers
are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastnn import _check
from fastnn._check import FLOATS
from fastnn.nn.parameter import Parameter
from fastnn.onnx.external import Unreadable
from fastnn.onnx.file import Diagram, Node, Port
from fastnn.onnx.operator import Operator, find

#: Of nodes that a message names for one reason.
MOST_NAMES = 500
#: Of these outputs no number comes from the input's.
_SHAPES = ("Shape", "Size")


def bind(diagram: Diagram) -> None:
    """Give all nodes their operators; ValueError that names those that have none."""
    problems: dict[str, list[str]] = {}
    for node, why in _bind(diagram, set()):
        domain = f"{_check.brief(node.domain, str)}." if node.domain else ""
        problems.setdefault(f"{domain}{_check.brief(node.op, str)}: {why}", []).append(node.name)
    if problems:
        count = sum(map(len, problems.values()))
        shown = "; ".join(
            f"{problem} ({', '.join(map(_check.brief, names[:MOST_NAMES]))}"
            + (f" and {len(names) - MOST_NAMES} more)" if len(names) > MOST_NAMES else ")")
            for problem, names in list(problems.items())[:MOST_NAMES]
        )
        raise Unreadable(f"{count} node(s) of the network cannot be read: {shown}")


def _bind(diagram: Diagram, seen: set[int]) -> Iterator[tuple[Node, str]]:
    """Nodes without an operator, and why."""
    if id(diagram) in seen:  # a function
        return
    seen.add(id(diagram))
    for node in diagram.nodes:
        for _, branch in node.branches():
            yield from _bind(branch, seen)
        if node.function is not None:
            yield from _bind(node.function, seen)
            if problem := _misfit(node):
                yield node, problem
            continue
        found = find(node, diagram.opsets)
        if isinstance(found, str):
            yield node, found
        else:
            node.bound = found


def _misfit(node: Node) -> str:
    """What is wrong with the call of a function."""
    assert node.function is not None
    inputs, outputs = len(node.function.inputs), len(node.function.outputs)
    if len(node.inputs) > inputs or len(node.outputs) > outputs:
        return f"the function has {inputs} inputs and {outputs} outputs"
    known = node.function.attributes | node.function.defaults.keys()
    unknown = [name for name in node.attributes if name not in known]
    return f"the function has no attribute {_check.brief(unknown[0])}" if unknown else ""


def part_equals(diagram: Diagram) -> None:
    """Give what an Identity makes of an initializer an array of its own, where all numbers in it are the same.

    PyTorch's exporter writes parameters that are equal once, as those of new norms are, and training would tie them.
    """
    kept = []
    for node in diagram.nodes:
        is_identity = (node.op, node.domain, len(node.inputs), len(node.outputs)) == ("Identity", "", 1, 1)
        array = diagram.arrays.get(node.inputs[0]) if is_identity else None
        if array is not None and array.dtype in FLOATS and array.size and (array == array.flat[0]).all():
            diagram.arrays[node.outputs[0]] = array
        else:
            kept.append(node)
    diagram.nodes = kept


def entries(diagram: Diagram) -> dict[str, tuple[Parameter, bool]]:
    """The initializers that are parameters, by name, and whether each is a buffer. They are taken out of the arrays."""
    fixed = needed(diagram)
    readers: dict[str, list[tuple[Node, Operator, int]]] = {}
    _readers(diagram, readers)
    found = {}
    for name, array in list(diagram.arrays.items()):
        if array.dtype not in FLOATS or not array.size or name in fixed:
            continue
        reading = readers.get(name, [])
        is_state = bool(reading) and all(operator.mode(i) == "state" for _, operator, i in reading)
        is_state = is_state or name in diagram.state.buffers
        order = None
        for node, operator, i in reading[:1]:
            if operator.order is not None:
                order = operator.order(operator.input_name(i), array.shape, node.attributes)
        is_trained = not is_state and name not in diagram.state.frozen
        found[name] = Parameter(array, requires_grad=is_trained, order=order), is_state
        del diagram.arrays[name]
    return found


def _readers(diagram: Diagram, found: dict[str, list[tuple[Node, Operator, int]]]) -> None:
    for node in diagram.nodes:
        if isinstance(node.bound, Operator):
            for i, name in enumerate(node.inputs):
                found.setdefault(name, []).append((node, node.bound, i))
        for _, branch in node.branches():
            _readers(branch, found)


def needed(diagram: Diagram) -> set[str]:
    """Names of a diagram whose numbers must be known while tracing, and what these are computed from."""
    direct: set[str] = set()
    wanted: set[str] = set()
    for node in reversed(diagram.nodes):
        made = any(output in wanted for output in node.outputs)
        if made and node.op not in _SHAPES:
            wanted.update(node.reads())
        if node.function is not None:
            inner = needed(node.function)
            wanted.update(
                name for name, port in zip(node.inputs, node.function.inputs, strict=False) if port.name in inner
            )
        elif isinstance(node.bound, Operator):
            for i, name in enumerate(node.inputs):
                if node.bound.mode(i) == "known":
                    wanted.add(name)
                elif node.bound.mode(i) == "settings":
                    direct.add(name)
        for _, branch in node.branches():
            wanted.update(needed(branch).intersection(branch.free()))
    return wanted | direct


def sources(diagram: Diagram, names: Iterable[str]) -> list[Port]:
    """The inputs of a network that values are computed from, but for their shapes."""
    maker = {output: node for node in diagram.nodes for output in node.outputs if output}
    wanted, pending = set(), list(names)
    while pending:
        name = pending.pop()
        if name in wanted:
            continue
        wanted.add(name)
        node = maker.get(name)
        if node is not None and node.op not in _SHAPES:
            pending.extend(node.reads())
    return [port for port in diagram.inputs if port.name in wanted]
