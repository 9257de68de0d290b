"""Native ops to phases: sets of ops that do not depend on each other.

An op goes into the first phase behind what it depends on. Two kinds are moved: what is computed from parameters alone
(packed weights) goes right before its first reader, and what is computed from constants alone comes first of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence

from fastnn.lowering.builder import Buffer, NativeOp


def schedule(ops: Sequence[NativeOp]) -> list[list[NativeOp]]:
    """Levels by data dependence (read after write, write after read or write).

    Stages follow each other, each begun by what depends on constants alone (`constant`). Within the last, ops that
    commit (they write what outlives the run) come after everything that does not, so that a program can be
    stopped before them.
    """
    phases: list[list[NativeOp]] = []
    _mark_constant(ops)
    for stage in sorted({op.stage for op in ops}):
        phases.extend(_levels([op for op in ops if op.stage == stage and op.constant]))
        for commit in (False, True):
            part = [op for op in ops if op.stage == stage and op.commit == commit and not op.constant]
            phases.extend(_prepared_late(_levels(part)))
    return phases


def _levels(ops: Sequence[NativeOp]) -> list[list[NativeOp]]:
    written: dict[Buffer, int] = {}
    read: dict[Buffer, int] = {}
    levels: list[list[NativeOp]] = []
    for op in ops:
        level = 0
        for buffer in op.inputs:
            level = max(level, written.get(buffer, -1) + 1)
        for buffer in op.outputs:
            level = max(level, written.get(buffer, -1) + 1, read.get(buffer, -1) + 1)
        for buffer in op.inputs:
            read[buffer] = max(read.get(buffer, -1), level)
        for buffer in op.outputs:
            written[buffer] = level
        while len(levels) <= level:
            levels.append([])
        levels[level].append(op)
    return levels


def _mark_constant(ops: Sequence[NativeOp]) -> None:
    """Sets `constant` on the ops that make the same of the same constants in each run."""
    repeatable = [op for op in ops if op.inputs and not op.commit and op.callback is None]
    for op in _from_givens(ops, lambda buffer: buffer.constant, set(repeatable)):
        op.constant = True


def _from_givens(
    ops: Sequence[NativeOp], given: Callable[[Buffer], bool], candidates: Container[NativeOp]
) -> Iterator[NativeOp]:
    """The candidates, in order, that compute what lies in the arena from given buffers, and each other's, alone."""
    writers = Counter(buffer for op in ops for buffer in op.outputs)
    made: set[Buffer] = set()
    for op in ops:
        known = all(b in made or (given(b) and b not in writers) for b in op.inputs)
        if op in candidates and known and all(b.where == "arena" and writers[b] == 1 for b in op.outputs):
            made.update(op.outputs)
            yield op


def _prepared_late(levels: Sequence[list[NativeOp]]) -> list[list[NativeOp]]:
    """Moves what depends on parameters alone (packed weights) to the level before its first reader: all
    of it at once would fill the arena, and be out of the caches by the time it is read."""
    in_order = [op for ops in levels for op in ops]
    made = {b for op in _from_givens(in_order, lambda b: b.where == "fixed", in_order) for b in op.outputs}

    result: list[list[NativeOp]] = [[] for _ in levels]
    first_read: dict[Buffer, int] = {}
    for level in reversed(range(len(levels))):
        for op in levels[level]:
            reads = [first_read[b] for b in op.outputs if b in made and b in first_read]
            at = max(level, min(reads, default=0) - 1)
            result[at].append(op)
            for b in op.inputs:
                first_read[b] = min(at, first_read.get(b, at))
    return result
