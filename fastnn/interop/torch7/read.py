"""load_torch7: a network of Torch7's as a module."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fastnn import _check, nn
from fastnn.files import named
from fastnn.interop.network import Apply, Network, Step, free_name, refusal
from fastnn.interop.torch7 import functions as f
from fastnn.interop.torch7.file import Damage, Object, Table, parse
from fastnn.interop.torch7.layers import KINDS, Fields

_DEEPEST = 100  # containers within containers
_MOST_CALLS = 100_000  # of layers in a call of the network: one that stands in two places counts twice


def load_torch7(path: str | os.PathLike[str]) -> nn.Module:
    """A network of Torch7's, from a .t7 file: binary or ASCII, of 32 or 64 bits, with tensors of any kind.

    Parameters
    ----------
    path : path-like
        It holds a module of ``nn``, ``cudnn`` or ``nngraph``, or a table with one.

    Returns
    -------
    Module
        Inputs are batches, as always. A table of inputs is several arguments, one of outputs a tuple. Layers have the
        names that they were given, or their positions: ``0``, ``1``, ...; parameters are float32. Labels of lookup
        tables, and classes, count from 1 in Torch7: the former still do, and output 0 is class 1. It is in evaluation
        mode; ``train()`` it before a TrainStep.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is damaged, or holds layers that cannot be read; the message names each.

    Examples
    --------
    >>> with open("tanh.t7", "a") as file:  # nn.Tanh() in ASCII
    ...     _ = file.write("4\\n1\\n3\\nV 1\\n7\\nnn.Tanh\\n3\\n2\\n0\\n")
    >>> fn.interop.load_torch7("tanh.t7")
    Tanh()
    """
    name = _check.path("path", path)
    with named(name), open(name, "rb") as file:
        data = file.read()
    convert = _Conversion()
    try:
        module = convert(_module_of(name, parse(data)), "", 0)
    except Damage as damage:
        raise ValueError(f"{name} is no intact file of Torch7: {damage}") from None
    if convert.problems:
        raise refusal(name, convert.problems)
    return module.eval()


def _module_of(name: str, value: Any) -> Object:
    """The network, or the only one in a table."""
    found = [value] if isinstance(value, Object) else []
    if isinstance(value, Table):
        found = [part for part in value.values() if isinstance(part, Object) and _is_layer(part)]
    if len(found) != 1:
        keys = f", under {_check.some(list(value))}" if isinstance(value, Table) and value else ""
        raise ValueError(f"{name}: it holds {len(found)} networks{keys}; expected one")
    return found[0]


def _is_layer(thing: Object) -> bool:
    return "modules" in thing.fields or _kind(thing) in KINDS or _kind(thing) in _CONTAINERS


def _kind(thing: Object) -> str:
    room, _, kind = thing.kind.rpartition(".")
    return kind if room in ("nn", "cudnn", "cunn") else thing.kind


class _Conversion:
    """From objects to modules; one object is one module, wherever it stands."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._done: dict[int, tuple[nn.Module, int]] = {}  # and how many layers it calls
        self._calls = 0
        self._open: set[int] = set()
        self._shared: dict[Any, nn.Parameter] = {}

    def __call__(self, thing: Any, where: str, depth: int) -> nn.Module:
        """The module of an object; where that cannot be read, a problem more and a module that does nothing."""
        if not isinstance(thing, Object):
            self.problems.append(f"{where or 'the network'}: it is no layer")
            return nn.Identity()
        if id(thing) in self._done:
            module, calls = self._done[id(thing)]
            self._calls += calls
            return module
        kind, before, self._calls = _kind(thing), self._calls, 1
        try:
            if id(thing) in self._open or depth > _DEEPEST:
                raise ValueError("it stands within itself" if id(thing) in self._open else "it is nested too deeply")
            self._open.add(id(thing))
            if kind in _CONTAINERS:
                module = _CONTAINERS[kind](self, thing, where, depth)
            elif kind in KINDS:
                module = KINDS[kind](Fields(thing, self._shared))
            else:
                raise ValueError("this kind of layer is not known")
        except (ValueError, TypeError) as error:
            text = _check.brief(str(error).partition("\n")[0], str)
            self.problems.append(
                f"{_check.brief(where, str) or 'the network'} ({_check.brief(thing.kind, str)}): {text}"
            )
            module = nn.Identity()
        self._open.discard(id(thing))
        if self._calls > _MOST_CALLS:
            raise Damage(f"a call of its network would be one of more than {_MOST_CALLS} layers")
        self._done[id(thing)] = module, self._calls
        self._calls += before
        return module

    def children(self, thing: Object, where: str, depth: int) -> dict[str, nn.Module]:
        """The layers of a container by name."""
        modules = thing.fields.get("modules")
        if not isinstance(modules, Table):
            raise ValueError("it has no table of modules")
        found: dict[str, nn.Module] = {}
        for i, child in enumerate(modules.items_in_order()):
            given = child.fields.get("name") if isinstance(child, Object) else None
            name = free_name(given if isinstance(given, str) and given else str(i), found)
            found[name] = self(child, f"{where}.{name}" if where else name, depth + 1)
        return found


def _sequence(kind: type[nn.Sequential]) -> Callable[..., nn.Module]:
    return lambda convert, thing, where, depth: kind(convert.children(thing, where, depth))


def _concat(convert: _Conversion, thing: Object, where: str, depth: int) -> nn.Module:
    layers = convert.children(thing, where, depth)
    if not layers:
        raise ValueError("it has no layers")
    fields = Fields(thing, {})
    if _kind(thing) == "Parallel":
        return f.Parallel(layers, fields.integer("inputDimension"), fields.integer("outputDimension"))
    return f.Concat(layers, fields.integer("dimension"), _kind(thing) == "DepthConcat")


def _bottle(convert: _Conversion, thing: Object, where: str, depth: int) -> nn.Module:
    fields = Fields(thing, {})
    inputs = fields.integer("nInputDim", 2, 1)
    if fields.integer("nOutputDim", inputs) != inputs:
        raise ValueError("outputs of other dimensions than inputs are not known")
    return f.Bottle(convert.children(thing, where, depth), inputs)


class Graph(Network):
    """A network of nngraph's: its inputs are arguments or, within another one, a table."""

    def forward(self, *inputs: Any) -> Any:
        return super().forward(*(f.table(inputs) if len(self.inputs) > 1 else inputs))


def _graph(convert: _Conversion, thing: Object, where: str, depth: int) -> nn.Module:
    nodes = thing.fields.get("forwardnodes")
    ends = [thing.fields.get(name) for name in ("innode", "outnode")]
    if not isinstance(nodes, Table) or not all(isinstance(end, Object) for end in ends):
        raise ValueError("it has no forwardnodes, innode and outnode")
    first, last = _data(ends[0]), _data(ends[1])
    children = {id(_data(node)): [_data(child) for child in _list(node, "children")] for node in nodes.items_in_order()}
    count = Fields(thing, {}).integer("nInputs", len(children.get(id(first), ())) or 1, 1)
    names = [f"input{i}" for i in range(1, _check.integer("nInputs", count, 1, 1000) + 1)]
    # What each node reads, by position, and the value that each makes.
    read: dict[int, dict[int, str]] = {id(first): dict(enumerate(names, 1))}
    layers: dict[str, nn.Module] = {}
    steps: list[Step] = []
    for number, node in enumerate(nodes.items_in_order()):
        data = _data(node)
        sources = read.get(id(data), {})
        if sorted(sources) != [*range(1, len(sources) + 1)]:
            raise ValueError(f"its node {number + 1} lacks an input")
        inputs, value = tuple(sources[i] for i in sorted(sources)), f"node{number + 1}"
        if data is last:
            continue
        if not inputs:
            raise ValueError(f"its node {number + 1} has no input")
        layer = _node(convert, data, len(inputs), where, depth, layers)
        if layer is None:
            value = inputs[0]
        else:
            steps.append(Step(layer, inputs, (value,)))
        for target in children[id(data)]:
            place = _mapped(target, data)
            if place in read.setdefault(id(target), {}):
                raise ValueError(f"an input of a node has two sources behind node {number + 1}")
            read[id(target)][place] = value
    outputs = [name for _, name in sorted(read.get(id(last), {}).items())]
    if not outputs:
        raise ValueError("nothing reaches its outnode")
    return Graph(layers, steps, names, outputs)


def _node(
    convert: _Conversion, data: Table, inputs: int, where: str, depth: int, layers: dict[str, nn.Module]
) -> str | None:
    """The name of a node's layer, which is added; None where it only passes its input on."""
    module, index = data.get("module"), data.get("selectindex")
    if module is None and index is None and inputs == 1:
        return None
    notes = data.get("annotations")
    given = notes.get("name") if isinstance(notes, Table) else None
    name = free_name(given if isinstance(given, str) and given else str(len(layers)), layers)
    if module is not None:
        layers[name] = convert(module, f"{where}.{name}" if where else name, depth + 1)
    elif index is not None:
        layers[name] = Apply(f.entry, index=_check.integer("selectindex", int(index), 1))
    else:
        layers[name] = Apply(f.listed)
    return name


def _data(node: Any) -> Table:
    data = node.fields.get("data") if isinstance(node, Object) else None
    if not isinstance(data, Table):
        raise ValueError("a node of its graph has no data")
    return data


def _list(node: Object, name: str) -> list[Any]:
    value = node.fields.get(name)
    return value.items_in_order() if isinstance(value, Table) else []


def _mapped(target: Table, source: Table) -> int:
    """At which input of a node another one's value arrives."""
    places = target.get("mapindex")
    place = places.get(source) if isinstance(places, Table) else None
    if not isinstance(place, float) or not place.is_integer():
        raise ValueError("a node of its graph does not say which input is whose")
    return int(place)


_CONTAINERS: dict[str, Callable[..., nn.Module]] = {
    "Bottle": _bottle,
    "Concat": _concat,
    "ConcatTable": _sequence(f.ConcatTable),
    "DepthConcat": _concat,
    "Parallel": _concat,
    "ParallelTable": _sequence(f.ParallelTable),
    "Sequential": _sequence(f.Chain),
    "gModule": _graph,
}
