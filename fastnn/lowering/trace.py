"""Tracing, and the proof that a graph holds for more than one batch.

A function is traced with plain ints for sizes. Traces at two batches are aligned node by node: what is
equal is constant, sizes on one line (fixed + per_sample * batch) follow the batch, and anything else makes
the program one for its batch alone. Every further batch is traced before it is served, and compared; so a
program never runs at a batch at which the function was not seen to do the same. A batch of one, which
broadcasts, always has a program of its own.

Two traces at one batch that differ mean randomness, or state that changes while tracing: TraceError.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastnn.graph import CONSTANT, INPUT, MEMORY, Graph, Node, Op, Tensor, TraceError, recording
from fastnn.lowering.call import flatten_result
from fastnn.lowering.fusion import remove_dead
from fastnn.lowering.watch import global_generators, state_of
from fastnn.sizes import Dim, Shape

RANDOM = (
    "while it was traced, {what} drew random numbers from {source}: they would be the same in every call; use "
    "fn.random.normal, uniform or bernoulli, or nn.Dropout, which draw anew in each run"
)


class Line(NamedTuple):
    """A size that is fixed + per_sample * batch."""

    fixed: int
    per_sample: int

    def at(self, batch: int) -> int:
        return self.fixed + self.per_sample * batch


class Form(NamedTuple):
    """What of an argument a trace sees. A `batched` one has the batch as its first size."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    batched: bool

    def at(self, batch: int) -> Shape:
        return (batch, *self.shape[1:]) if self.batched else self.shape


class Step(NamedTuple):
    """A node as it is compared: sizes are ints, or Lines where traces were aligned."""

    op: Op
    stage: int
    inputs: tuple[tuple[int, int], ...]  # (step, output)
    attrs: dict[str, Any]
    outputs: tuple[tuple[Any, np.dtype[Any]], ...]  # (shape, dtype)


@dataclass(eq=False)
class Record:
    """What a trace did. `batch` is that of a single trace; Lines are its values at any."""

    batch: int
    steps: list[Step]
    results: list[tuple[int, int]]
    structure: Any


class Parted(Exception):
    """Two traces differ; the text says where."""


@dataclass(eq=False)
class Trace:
    """A graph as a function wrote it, for one batch.

    Attributes
    ----------
    tensors : list of Tensor
        What the function returned, flat; `rebuild` puts values in their places.
    result : object
        What it returned.
    """

    graph: Graph
    result: Any
    tensors: list[Tensor]
    rebuild: Callable[[Sequence[Any]], Any]
    record: Record


def trace(
    function: Callable[..., Any],
    forms: Sequence[Form],
    batch: int,
    what: str,
    generators: Iterable[Any] = (),
    training: bool | None = None,
) -> Trace:
    """Run `function` on symbols of these forms.

    Raises
    ------
    TraceError
        If it draws from the global generators, or from one of `generators`.
    """
    drawn_from = [*global_generators(), *generators]
    before = [state_of(generator) for generator in drawn_from]
    known = "numpy.random" in sys.modules
    graph = Graph(training)
    with recording(graph):
        for form in forms:
            shape = form.at(batch)
            if 0 in shape:
                raise ValueError(f"{form.name} has shape {shape}: it holds no elements")
            graph.inputs.append(
                graph.add(INPUT, (), name=form.name, shape=shape, dtype=form.dtype, limit=0, ignore=-1).output
            )
        result = function(*graph.inputs)
        tensors, rebuild = flatten_result(result, what)
    for generator, state in zip(drawn_from, before, strict=True):
        if state_of(generator) != state:
            raise TraceError(RANDOM.format(what=what, source=type(generator).__name__))
    if not known and "numpy.random" in sys.modules:  # imported by the function itself: did it draw, too?
        return trace(function, forms, batch, what, generators, training)
    remove_dead(graph, [*tensors, *graph.penalties, *graph.inputs])
    _temporaries_to_constants(graph)
    return Trace(graph, result, tensors, rebuild, _record(graph, tensors, result, batch))


def _temporaries_to_constants(graph: Graph) -> None:
    """Arrays that nobody but the graph holds cannot change: they are constants."""
    for node in graph.nodes:
        if node.op is MEMORY and node.attrs["source"] is None:
            array = node.attrs["array"]
            # Held by: the node's attrs, `array`, the argument of getrefcount.
            if array.base is None and array.flags.owndata and sys.getrefcount(array) == 3:
                node.op, node.attrs = CONSTANT, {"value": array}


def _record(graph: Graph, tensors: Sequence[Tensor], result: Any, batch: int) -> Record:
    place = _Places()
    steps = []
    for i, node in enumerate(graph.nodes):
        steps.append(
            Step(
                node.op,
                node.stage,
                tuple(place[t] for t in node.inputs),
                dict(node.attrs),
                tuple((t.shape, t.dtype) for t in node.outputs),
            )
        )
        place.update((t, (i, k)) for k, t in enumerate(node.outputs))
    return Record(batch, steps, [place[t] for t in tensors], _structure(result))


class _Places(dict[Tensor, tuple[int, int]]):
    """Where each tensor of a graph is made."""

    def __missing__(self, tensor: Tensor) -> Any:
        raise TraceError(
            f"{tensor!r} was made in another trace: a tensor that forward keeps is a symbol, gone when the trace "
            "ends. Return such state, and pass it in as an array with the next call"
        )


def _structure(result: Any) -> Any:
    """A result without its tensors."""
    if isinstance(result, dict):
        return (type(result), [(key, _structure(part)) for key, part in result.items()])
    if isinstance(result, (tuple, list)):
        return (type(result), [_structure(part) for part in result])
    return None


def align(first: Record, second: Record, *, fit: bool = False, lines: bool = False) -> Record:
    """The record of which both are instances.

    Parameters
    ----------
    first : Record
        Of one trace, or already of several.
    second : Record
        Of one trace, at the same batch or another one; or of several.
    fit : bool
        Whether sizes in which two single traces differ may become Lines. They must grow with the batch, as
        memory is planned for the largest.
    lines : bool
        Whether `second` is of several traces, too, and Lines must be equal.

    Raises
    ------
    Parted
        If there is none.
    """
    if first.structure != second.structure:
        raise Parted("what is returned has another structure")
    steps = []
    for i, (a, b) in enumerate(zip(first.steps, second.steps, strict=False)):
        merge = _Merge(first.batch, second.batch, fit, lines, f"operation {i + 1}, {a.op.name}")
        if (a.op, a.stage, a.inputs) != (b.op, b.stage, b.inputs):
            raise Parted(f"{merge.where}: {_show(a)} at one time, {_show(b)} at another")
        outputs = tuple(
            (merge.value("shape", x, y, True), dtype) for (x, dtype), (y, _) in zip(a.outputs, b.outputs, strict=True)
        )
        if [d for _, d in a.outputs] != [d for _, d in b.outputs] or a.attrs.keys() != b.attrs.keys():
            raise Parted(f"{merge.where}: another dtype or other settings")
        attrs = {name: merge.value(name, value, b.attrs[name], name in a.op.sized) for name, value in a.attrs.items()}
        steps.append(Step(a.op, a.stage, a.inputs, attrs, outputs))
    if len(first.steps) != len(second.steps):
        raise Parted(f"{len(first.steps)} operations at one time, {len(second.steps)} at another")
    if first.results != second.results:
        raise Parted("other values are returned")
    return Record(first.batch, steps, first.results, first.structure)


def _show(step: Step) -> str:
    shapes = ", ".join(str(shape) for shape, _ in step.outputs)
    return f"{step.op.name} -> {shapes}"


class _Merge:
    """Values of two traces as one."""

    def __init__(self, batch: int, other: int, fit: bool, lines: bool, where: str) -> None:
        self.batch, self.other, self.fit, self.lines, self.where = batch, other, fit, lines, where

    def value(self, name: str, a: Any, b: Any, is_size: bool) -> Any:
        if isinstance(a, Line):
            if a == b or (not self.lines and type(b) is int and a.at(self.other) == b):
                return a
        elif type(a) is int and type(b) is int:
            if a == b:
                return a
            span = self.other - self.batch
            if self.fit and is_size and (b - a) % span == 0 and (slope := (b - a) // span) > 0:
                return Line(a - slope * self.batch, slope)
        elif isinstance(a, (tuple, list)) and type(a) is type(b) and len(a) == len(b):
            return type(a)([self.value(name, x, y, is_size) for x, y in zip(a, b, strict=True)])
        elif _equal(a, b):
            return b  # of two equal arrays the later one: the function may have kept it
        raise Parted(f"{self.where}: {name} is {_brief(a)} at one time, {_brief(b)} at another")


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and _equal_arrays(a, b)
    if isinstance(a, float) and isinstance(b, float):
        return repr(a) == repr(b)
    return type(a) is type(b) and bool(a == b)


def _equal_arrays(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of {value.dtype}, shape {value.shape}"
    return repr(value)


def reads_the_same_memory(made: Record, now: Record) -> bool:
    """Whether a program made earlier reads the very arrays that a trace reads now, not equal ones."""
    for a, b in zip(made.steps, now.steps, strict=True):
        if a.op is CONSTANT:
            continue
        for name, value in a.attrs.items():
            copied = name == "array" and a.attrs["source"] is not None  # then `source` decides
            if not copied and not _same_memory(value, b.attrs[name]):
                return False
    return True


def _same_memory(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)) and not isinstance(a, Line):
        return all(_same_memory(x, y) for x, y in zip(a, b, strict=True))
    if not isinstance(a, np.ndarray) or a is b:
        return True
    return bool(a.ctypes.data == b.ctypes.data and a.strides == b.strides)


def generalise(trace: Trace, record: Record) -> None:
    """Make a trace's graph the one that `record` describes: sizes on a line become Dims."""
    trace.record = record
    for node, step in zip(trace.graph.nodes, record.steps, strict=True):
        node.attrs = {
            name: _sized(value, record.batch) if name in node.op.sized else value for name, value in step.attrs.items()
        }
        for tensor, (shape, _) in zip(node.outputs, step.outputs, strict=True):
            tensor.shape = _sized(shape, record.batch)


def _sized(value: Any, batch: int) -> Any:
    if isinstance(value, Line):
        return Dim(value.fixed, value.per_sample, batch)
    if isinstance(value, (tuple, list)):
        return type(value)([_sized(part, batch) for part in value])
    return value


def in_place(graph: Graph) -> list[np.ndarray[Any, Any]]:
    """The arrays that a graph's runs read, or copy anew."""
    nodes: list[Node] = [node for node in graph.nodes if node.op is MEMORY]
    return [node.attrs["array"] if node.attrs["source"] is None else node.attrs["source"] for node in nodes]
