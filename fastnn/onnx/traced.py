"""The graph of a network that is written to a file: for any batch, and for training where that is the same network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.graph import CONSTANT, INPUT, MEMORY, Node, Tensor, TraceError
from fastnn.lowering.trace import Form, Parted, Trace, align, generalise, trace
from fastnn.nn.module import Module
from fastnn.ops.assign import ASSIGN
from fastnn.ops.norm import BATCH_NORM, BATCH_NORM_EVAL
from fastnn.ops.random import DROPOUT, NUMBERS
from fastnn.sizes import SpecialiseError

#: How much larger than the given batch the largest one is at which a network is looked at.
FAR = 96


def traced(model: Module, forms: Sequence[Form], dynamic: bool) -> Trace:
    """What `forward` does with arguments of these forms.

    In training mode, if all that differs from evaluation mode are dropout and the statistics of batch norm; else in
    evaluation mode.

    Raises
    ------
    ValueError
        If it is another network for another batch, and the batch is `dynamic`.
    TraceError
        If it is another one each time.
    """
    evaluated = _traced(model, forms, dynamic, False)
    try:
        trained = _traced(model, forms, dynamic, True)
    except MemoryError:
        raise
    except Exception:  # what it does in training is not asked for
        return evaluated
    return trained if _is_same_network(trained, evaluated) else evaluated


def _traced(model: Module, forms: Sequence[Form], dynamic: bool, training: bool) -> Trace:
    what = f"{type(model).__name__}.forward"
    given = forms[0].shape[0] if forms[0].shape else 1
    follows = dynamic and forms[0].batched
    batch = max(given, 2) if follows else given

    def at(size: int) -> Trace:
        return trace(model, forms, size, what, training=training)

    first = at(batch)
    if not follows:
        try:
            align(first.record, at(batch).record)
        except Parted as parted:
            raise TraceError(f"{what} is another network each time it is traced: {parted}") from None
        return first
    size = batch + 1
    try:
        record = align(first.record, at(size).record, fit=True)
        for size in {2, 3, batch + FAR} - {batch, batch + 1}:
            align(record, at(size).record)
        generalise(first, record)
    except (Parted, SpecialiseError, ValueError, TypeError) as error:
        raise ValueError(
            f"{what} is another network for a batch of {size} than for one of {batch} ({error}); write it for batches "
            f"of {given} alone with dynamic_batch=False"
        ) from None
    return first


def _is_same_network(trained: Trace, evaluated: Trace) -> bool:
    """Whether a network in training is the evaluated one but for dropout and the statistics of batch norm."""
    if any(node.op is DROPOUT for node in evaluated.graph.nodes):
        return False  # drops always, or elsewhere
    known: dict[Any, list[Tensor]] = {}
    for source, learns in ((evaluated, True), (trained, False)):
        same: dict[Tensor, Tensor] = {}  # of tensors that are computed alike, the first
        draws = 0
        for node in source.graph.nodes:
            if node.op is ASSIGN and not learns:
                return False
            inputs = [same[t] for t in node.inputs if t in same]
            if len(inputs) < len(node.inputs):
                continue  # made of what differs
            if node.op is DROPOUT:
                same[node.output] = inputs[0]
                continue
            draws += node.op is NUMBERS
            key = (_key(node, inputs), draws if node.op is NUMBERS else 0)
            if learns:
                known.setdefault(key, node.outputs)
            if key in known:
                same.update(zip(node.outputs, known[key], strict=False))
        results = [same.get(tensor) for tensor in source.tensors]
        if learns:
            wanted = results
    return all(a is b for a, b in zip(results, wanted, strict=True))


def _key(node: Node, inputs: Sequence[Tensor]) -> Any:
    """What a node computes of inputs, as what compares by value; of batch norm in both modes the same."""
    attrs = node.attrs
    what: Any
    if node.op is MEMORY:
        what = id(attrs["array"] if attrs["source"] is None else attrs["source"])
    elif node.op is CONSTANT:
        what = (attrs["value"].dtype.str, attrs["value"].shape, attrs["value"].tobytes())
    elif node.op is INPUT:
        what = attrs["name"]
    elif node.op is BATCH_NORM_EVAL:
        x, mean, var, *affine = inputs
        running = [id(t.node.attrs.get("array")) for t in (mean, var)]
        return ("batch norm", attrs["eps"], tuple(running), id(x), *map(id, affine))
    elif node.op is BATCH_NORM and attrs["running"] is not None:
        running = [id(array) for array in attrs["running"][:2]]
        return ("batch norm", attrs["eps"], tuple(running), *map(id, inputs))
    else:
        what = tuple((name, repr(value)) for name, value in attrs.items() if name not in ("stream", "call"))
    return (node.op, what, *map(id, inputs))
