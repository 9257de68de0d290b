"""Native ops to phases: sets of ops that do not depend on each other, each as early as it can be."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.lowering.builder import Buffer, NativeOp


def schedule(ops: Sequence[NativeOp]) -> list[list[NativeOp]]:
    """Levels by data dependence (read after write, write after read or write).

    Stages follow each other; within the last, ops that commit (they write what outlives the run)
    come after everything that does not, so that a program can be stopped before them.
    """
    phases: list[list[NativeOp]] = []
    for stage in sorted({op.stage for op in ops}):
        for commit in (False, True):
            part = [op for op in ops if op.stage == stage and op.commit == commit]
            phases.extend(_levels(part))
    return phases


def _levels(ops: Sequence[NativeOp]) -> list[list[NativeOp]]:
    written: dict[Buffer, int] = {}
    read: dict[Buffer, int] = {}
    levels: list[list[NativeOp]] = []
    for op in ops:
        level = 0
        for buffer in op.inputs():
            level = max(level, written.get(buffer, -1) + 1)
        for buffer in op.outputs():
            level = max(level, written.get(buffer, -1) + 1, read.get(buffer, -1) + 1)
        for buffer in op.inputs():
            read[buffer] = max(read.get(buffer, -1), level)
        for buffer in op.outputs():
            written[buffer] = level
        while len(levels) <= level:
            levels.append([])
        levels[level].append(op)
    return levels
