"""The passes in their order, and the Program that callers hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.graph import MEMORY, Graph, Tensor
from fastnn.lowering.builder import DTYPE_CODES, Buffer, Builder, NativeOp, as_size
from fastnn.lowering.explain import explain
from fastnn.lowering.fusion import PASSES
from fastnn.lowering.memory import plan_memory
from fastnn.lowering.profile import Profile, profile
from fastnn.lowering.schedule import schedule
from fastnn.sizes import Dim, describe
from fastnn_ext.plan import Arena, Marked, Plan

#: About what a native op takes with its node and its record, measured over networks.
OP_BYTES = 12000


class Program:
    """A lowered graph: one Plan a stage over one arena, and what explain() and profile() print.

    Attributes
    ----------
    plans : list of Plan
        One for inference and for a whole training step; two (forward, backward) where the caller
        holds the gradient in between.
    graph : Graph
    phases : list of list of NativeOp
    arena_bytes : int
    nbytes : int
        About what is held beside the arena that is shared with others.
    """

    def __init__(
        self,
        graph: Graph,
        outputs: Sequence[Sequence[Tensor]],
        sinks: Sequence[tuple[Tensor, np.ndarray[Any, Any], int]] = (),
        update: Callable[[Builder], None] | None = None,
        arena: Arena | None = None,
        batches: set[int] | None = None,
        marks: Sequence[tuple[Marked, bool]] = (),
    ) -> None:
        """
        Parameters
        ----------
        outputs : sequence of sequences of Tensor
            What each stage returns.
        sinks : sequence of (tensor, array, offset)
            Tensors (gradients) to be written into the flat `array` from element `offset` on.
        update : callable, optional
            Emits further ops of the last stage: the optimizer's.
        arena : Arena, optional
            Memory that programs share which never run at once. What is constant needs
            its own.
        batches : set of int, optional
            The batches that may be run; more may be added. None for all.
        marks : sequence of (Parameter, bool), optional
            Which have a gradient once the last stage has been run, and which have none.
        """
        self.graph = graph
        self.batches = batches if batches is not None else set()
        self._any_batch = batches is None
        targets: list[tuple[Tensor, Buffer]] = []
        for stage_outputs in outputs:
            for k, tensor in enumerate(stage_outputs):
                targets.append((tensor, Buffer("output", 0, k)))
        wanted = [tensor for tensor, _ in targets] + [tensor for tensor, _, _ in sinks]
        for rewrite in PASSES:
            rewrite(graph, wanted)
        builder = Builder(graph, set(wanted))
        for tensor, array, offset in sinks:
            targets.append((tensor, builder.array(array, offset * array.itemsize)))
        builder.lower(targets)
        if update is not None:
            update(builder)
        self.phases = schedule(builder.ops)
        self.arena_bytes = plan_memory(self.phases)
        keeps = any(op.constant for phase in self.phases for op in phase)
        self.nbytes = OP_BYTES * (1 + len(builder.ops)) + (self.arena_bytes if keeps else 0)
        self.plans = self._make_plans(builder, outputs, Arena() if keeps or arena is None else arena, marks)

    def _make_plans(
        self,
        builder: Builder,
        outputs: Sequence[Sequence[Tensor]],
        arena: Arena,
        marks: Sequence[tuple[Marked, bool]],
    ) -> list[Plan]:
        plans: list[Plan] = []
        for stage, stage_outputs in enumerate(outputs):
            phases, inputs = self._phases_of(stage), self._inputs_of(stage)
            ops: list[tuple[Any, ...]] = []
            ranges: list[tuple[int, int]] = []
            for phase in phases:
                ranges.append((len(ops), len(phase)))
                ops.extend(_spec(op, self.graph.inputs, inputs) for op in phase)
            commit = next((p for p, phase in enumerate(phases) if phase[0].commit), len(phases))
            plans.append(
                Plan(
                    ops,
                    ranges,
                    commit,
                    self.arena_bytes,
                    builder.fixed,
                    [
                        (
                            t.node.attrs["name"],
                            DTYPE_CODES[t.dtype.str],
                            [as_size(size) for size in t.shape],
                            t.node.attrs.get("limit", 0),
                            t.node.attrs.get("ignore", -1),
                        )
                        for t in inputs
                    ],
                    [(DTYPE_CODES[t.dtype.str], [as_size(size) for size in t.shape]) for t in stage_outputs],
                    self.batch,
                    arena,
                    plans[0] if plans else None,
                    sum(phase[0].constant for phase in phases),
                    tuple(
                        (node.attrs["array"], node.attrs["source"])
                        for node in self.graph.nodes
                        if node.op is MEMORY and node.attrs["source"] is not None and not plans
                    ),
                    None if self._any_batch else self.batches,
                    tuple(marks) if stage == len(outputs) - 1 else (),
                )
            )
        return plans

    def _phases_of(self, stage: int) -> list[list[NativeOp]]:
        return [phase for phase in self.phases if phase[0].stage == stage]

    def _inputs_of(self, stage: int) -> list[Tensor]:
        return [t for t in self.graph.inputs if t.node.stage == stage]

    @property
    def batched(self) -> bool:
        """Whether the batch is a run-time number; otherwise the program holds for one batch alone."""
        return any(isinstance(size, Dim) for tensor in self.graph.inputs for size in tensor.shape)

    @property
    def batch(self) -> int:
        """The largest batch this program serves."""
        for tensor in self.graph.inputs:
            for size in tensor.shape:
                if isinstance(size, Dim):
                    return size.batch
        return next((int(t.shape[0]) for t in self.graph.inputs[:1] if t.shape), 1)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t.node.attrs['name']} {describe(t.shape)}" for t in self.graph.inputs)
        count = sum(len(phase) for phase in self.phases)
        return (
            f"{type(self).__name__}({inputs}: {count} ops in {len(self.phases)} phases, arena "
            f"{self.arena_bytes / 1024:.1f} KiB, batch up to {self.batch})"
        )

    def explain(self) -> str:
        """Every native op with its phase, shapes, FLOPs, bytes and place in the arena."""
        return explain(self.phases, self.arena_bytes, self.batch)

    def profile(self, *args: Any, repeats: int = 20) -> Profile:
        """Run `repeats` times on these arguments and time each op.

        A training step's program trains: these are `repeats` steps.

        Parameters
        ----------
        *args : array
            As the call takes them.
        repeats : int, default 20

        Returns
        -------
        Profile
            Printed, a table: time, rates and shares of this machine's peak by op. It can be drawn by
            `fastnn.plotting.plot_profile`, and saved as a Chrome trace by `save_trace`.
        """
        return profile(self.plans[0], self._phases_of(0), self._inputs_of(0), args, repeats)


def _spec(op: NativeOp, all_inputs: list[Tensor], inputs: list[Tensor]) -> tuple[Any, ...]:
    """A native op as Plan takes it."""
    refs: list[tuple[str, int, int] | None] = []
    for entry in op.buffers:
        if entry is None:
            refs.append(None)
            continue
        buffer = entry.root()
        index = buffer.index
        if buffer.where == "input":
            index = next(i for i, tensor in enumerate(inputs) if tensor is all_inputs[buffer.index])
        refs.append((buffer.where, index, buffer.offset))
    return (op.kernel, op.dtype, refs, op.dims, op.scalars, op.callback)
