"""Where a program's time goes: op by op, as a table and as a Chrome trace."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.files import write_atomically
from fastnn.graph import Tensor
from fastnn.lowering.builder import NativeOp
from fastnn.lowering.call import to_array
from fastnn.lowering.explain import origin, shapes, table, work
from fastnn.lowering.roofline import Roofline, roofline
from fastnn.sizes import linear
from fastnn_ext import runtime
from fastnn_ext.plan import Plan

_TRACED_RUNS = 3
_ROOM = 1 << 20  # chunks that a trace holds


@dataclass(frozen=True)
class OpProfile:
    """One native op, on average over the runs.

    Attributes
    ----------
    phase : int
        Ops of one phase do not depend on each other.
    kernel : str
        The native op.
    name : str
        What it does: the op of the graph and what is fused into it, or the native op where that
        says more.
    shapes : str
    flops, bytes : int
        Arithmetic, and the sizes of all that it reads and writes.
    seconds : tuple of float
        That each thread spent in it.
    """

    phase: int
    kernel: str
    name: str
    shapes: str
    flops: int
    bytes: int
    seconds: tuple[float, ...]

    @property
    def busy(self) -> float:
        """Seconds of all threads together."""
        return sum(self.seconds)


@dataclass(frozen=True, repr=False)
class Profile:
    """Where the time of a plan's runs goes; `print` it, or see `fastnn.plotting.plot_profile`.

    Attributes
    ----------
    ops : list of OpProfile
        In the order in which they run.
    wall : float
        Seconds a run, the mean, as the ops' times are: they are parts of it. The clock is read around every chunk,
        which costs some percent.
    runs : int
        Over how many runs times are means.
    roofline : Roofline
        What the threads would get at most.
    """

    ops: list[OpProfile]
    wall: float
    runs: int
    roofline: Roofline
    _events: np.ndarray[Any, Any]

    @property
    def busy(self) -> float:
        """Seconds a run that threads were in ops, of all threads together."""
        return sum(op.busy for op in self.ops)

    @property
    def idle(self) -> float:
        """The part of the threads' time, from 0 to 1, in which they were in no op: between phases,
        waiting, or not woken for work too small to share."""
        return max(0.0, 1.0 - self.busy / (self.wall * self.roofline.threads))

    def of_peak(self, op: OpProfile) -> float:
        """The op's FLOPs a second, as a part of what its threads could do while they were at it; above 1
        where a convolution gets by with fewer (3 x 3 kernels by Winograd's products)."""
        return op.flops / op.busy / (self.roofline.flops / self.roofline.threads) if op.busy else 0.0

    def of_memory(self, op: OpProfile) -> float:
        """The same for its bytes; above 1 where data stays in caches."""
        return op.bytes / op.busy / (self.roofline.bytes / self.roofline.threads) if op.busy else 0.0

    def by_kernel(self) -> dict[str, float]:
        """Busy seconds a run of each kind of native op, most first."""
        total: dict[str, float] = {}
        for op in self.ops:
            total[op.kernel] = total.get(op.kernel, 0.0) + op.busy
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    def __str__(self) -> str:
        header = ("phase", "op", "shapes", "us", "%", "GF/s", "of peak", "GB/s", "of memory", "threads")
        rows = [header, *(self._row(op) for op in self.ops)]
        roof = self.roofline
        flops = sum(op.flops for op in self.ops)
        kinds = (f"{kind} {100 * seconds / self.busy:.0f}%" for kind, seconds in self.by_kernel().items())
        return "\n".join(
            [
                table(rows),
                "by op: " + ", ".join(kinds) if self.busy else "nothing ran",
                f"{1e6 * self.wall:.1f} us a run, {1e6 * self.busy:.1f} us of work over {roof.threads} "
                f"thread(s), which are idle {100 * self.idle:.0f}% of the time (mean of {self.runs} runs)",
                f"{flops / self.wall / 1e9:.1f} GF/s, {100 * flops / self.wall / roof.flops:.0f}% of the "
                f"{roof.flops / 1e9:.0f} GF/s that this machine was measured to give; memory "
                f"{roof.bytes / 1e9:.0f} GB/s",
            ]
        )

    __repr__ = __str__

    def _row(self, op: OpProfile) -> tuple[str, ...]:
        busy = op.busy
        rate = busy / max(1, sum(t > 0 for t in op.seconds))  # seconds, if all that helped did so at once
        return (
            str(op.phase),
            op.name,
            op.shapes,
            f"{1e6 * busy:.1f}",
            f"{100 * busy / self.busy:.1f}" if self.busy else "0.0",
            f"{op.flops / rate / 1e9:.1f}" if op.flops and busy else "",
            f"{100 * self.of_peak(op):.0f}%" if op.flops and busy else "",
            f"{op.bytes / rate / 1e9:.1f}" if busy else "",
            f"{100 * self.of_memory(op):.0f}%" if busy else "",
            "+".join(f"{100 * t / busy:.0f}%" for t in op.seconds) if busy else "-",
        )

    def trace(self) -> dict[str, Any]:
        """Some runs chunk by chunk, as chrome://tracing and ui.perfetto.dev read it.

        Returns
        -------
        dict
            The Trace Event Format: an event a chunk, in microseconds, a row a thread.
        """
        start = float(self._events["begin"].min()) if len(self._events) else 0.0
        events: list[dict[str, Any]] = [
            {"ph": "M", "name": "thread_name", "pid": 0, "tid": t, "args": {"name": f"thread {t}"}}
            for t in range(self.roofline.threads)
        ]
        for begin, end, index, thread in self._events.tolist():
            op = self.ops[index]
            events.append(
                {
                    "ph": "X",
                    "name": op.name,
                    "cat": op.kernel,
                    "pid": 0,
                    "tid": thread,
                    "ts": 1e6 * (begin - start),
                    "dur": 1e6 * (end - begin),
                    "args": {"op": index, "phase": op.phase, "shapes": op.shapes},
                }
            )
        return {"traceEvents": events, "displayTimeUnit": "ns"}

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write `trace` as JSON; open it in chrome://tracing or ui.perfetto.dev."""
        write_atomically(path, json.dumps(self.trace()).encode())


def profile(
    plan: Plan, phases: Sequence[Sequence[NativeOp]], inputs: Sequence[Tensor], args: Sequence[Any], repeats: int
) -> Profile:
    """Run a plan, of these phases, `repeats` times on these arguments."""
    repeats = _check.integer("repeats", repeats, 1)
    if len(args) != len(plan.inputs):
        names = ", ".join(spec.name for spec in plan.inputs)
        raise TypeError(f"profile takes the arrays of a call, {names}, and got {len(args)}")
    roof = roofline(runtime.get_num_threads())
    arrays = [to_array(a, spec.name) for a, spec in zip(args, plan.inputs, strict=True)]
    plan.run(*arrays)
    plan.start_profile(events=_ROOM)
    times: list[float] = []
    events = np.zeros(0)
    try:
        for run in range(repeats):
            begun = time.perf_counter()
            plan.run(*arrays)
            times.append(time.perf_counter() - begun)
            if run < _TRACED_RUNS:
                events = plan.profile_events()
        events = events.copy()
    finally:
        seconds = plan.stop_profile() / repeats
    entries = [(p, op) for p, phase in enumerate(phases) for op in phase]
    part = _part(inputs, arrays)
    ops = [
        OpProfile(p, op.kernel, _name(op), shapes(op), *work(op, part), tuple(map(float, each)))
        for (p, op), each in zip(entries, seconds, strict=True)
    ]
    return Profile(ops, statistics.fmean(times), repeats, roof, events)


def _part(inputs: Sequence[Tensor], arrays: Sequence[np.ndarray[Any, Any]]) -> float:
    """The batch of these arrays, as a part of the largest one, which the inputs' sizes are for."""
    for tensor, array in zip(inputs, arrays, strict=True):
        for size, given in zip(tensor.shape, array.shape, strict=True):
            if linear(size)[1]:
                return float(given / int(size))
    return 1.0


def _name(op: NativeOp) -> str:
    return origin(op) if op.node is not None and op.flops else op.kernel
