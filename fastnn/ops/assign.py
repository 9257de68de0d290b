"""Writing to a buffer of a module, as a run commits."""

from __future__ import annotations

from typing import Any

import fastnn_ext.elementwise  # noqa: F401  (registers "copy")
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.sizes import count


class Assign(Op):
    """Copies its input into memory that outlives the run. attrs: array; call (its number among the graph's, in whose
    order they are made)."""

    name = "assign"

    def infer(self, node: Node) -> OutputTypes:
        return []

    def lower(self, node: Node, to: Emitter) -> None:
        value, target = node.inputs[0], to.array(node.attrs["array"])
        form: Arguments = dict(ndim=1, shape=[count(value.shape)], y_strides=[1], x_strides=[1], dtype=value.dtype)
        to.emit("copy", y=target, x=value, **form, commit=True, late=node.attrs["call"])

    def acts(self, node: Node) -> bool:
        return True


ASSIGN = Assign()


def assign(buffer: Any, value: Tensor) -> None:
    """Let a buffer, whose memory is in the order of its shape, have this value when the run is over."""
    graph = active_graph()
    call = sum(node.op is ASSIGN for node in graph.nodes)
    graph.add(ASSIGN, [value], array=graph.storage(buffer), call=call)


def assigned(buffer: Any) -> Tensor:
    """What a buffer holds at this place of the trace: the value assigned last, or the one from before the run."""
    for node in reversed(active_graph().nodes):
        if node.op is ASSIGN and node.attrs["array"] is buffer._storage:
            return node.inputs[0]
    return as_tensor(buffer)
