"""Buffers to offsets in one arena, by their lifetimes in phases."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.lowering.builder import Buffer, NativeOp

ALIGN = 64


def plan_memory(phases: Sequence[Sequence[NativeOp]]) -> int:
    """Give each arena buffer an offset; returns the arena's size in bytes."""
    _lifetimes(phases)
    _share_in_place(phases)
    buffers = list(dict.fromkeys(b.root() for op in _ops(phases) for b in (*op.outputs, *op.inputs)))
    return _place([b for b in buffers if b.where == "arena"])


def _ops(phases: Sequence[Sequence[NativeOp]]) -> list[NativeOp]:
    return [op for phase in phases for op in phase]


def _lifetimes(phases: Sequence[Sequence[NativeOp]]) -> None:
    for p, phase in enumerate(phases):
        for op in phase:
            for buffer in (*op.outputs, *op.inputs):
                if buffer.first < 0:
                    buffer.first = p
                buffer.last = max(buffer.last, p)
            if op.constant:  # what it makes stays from run to run
                for buffer in op.outputs:
                    buffer.first, buffer.last = 0, len(phases)


def _share_in_place(phases: Sequence[Sequence[NativeOp]]) -> None:
    """Let an op write over an input that dies with it."""
    for p, phase in enumerate(phases):
        readers: dict[Buffer, int] = {}
        for op in phase:
            for buffer in op.inputs:
                root = buffer.root()
                readers[root] = readers.get(root, 0) + 1
        for op in phase:
            new = op.buffers[0] if op.n_outputs else None
            if new is None:
                continue
            for source in op.replaceable:
                old = source.root()
                if (
                    old.where == new.where == "arena"
                    and new.same_as is None
                    and new is not old
                    and new.first == p
                    and old.last == p
                    and old.first < p
                    and readers[old] == 1
                    and old.nbytes == new.nbytes
                ):
                    new.same_as = old
                    old.last = new.last
                    break


def _place(buffers: list[Buffer]) -> int:
    """Largest first, each at the lowest offset that is free during its lifetime."""
    placed: list[Buffer] = []
    total = 0
    for buffer in sorted(buffers, key=lambda b: -b.nbytes):
        size = -(-buffer.nbytes // ALIGN) * ALIGN
        busy = sorted(
            (other.offset, other.offset + -(-other.nbytes // ALIGN) * ALIGN)
            for other in placed
            if other.first <= buffer.last and buffer.first <= other.last
        )
        offset = 0
        for start, end in busy:
            if offset + size <= start:
                break
            offset = max(offset, end)
        buffer.offset = offset
        placed.append(buffer)
        total = max(total, offset + size)
    return total
