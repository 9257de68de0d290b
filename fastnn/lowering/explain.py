"""A program as text: what each native op does, and where its data lies."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.lowering.builder import NativeOp
from fastnn.sizes import describe


class Text(str):
    """Text of some lines that a prompt or a notebook shows as `print` does."""

    def __repr__(self) -> str:
        return str(self)


def explain(phases: Sequence[Sequence[NativeOp]], arena_bytes: int, batch: int) -> str:
    """One line a native op: phase, kernel, shapes, FLOPs, bytes, arena offset of its first output.

    "constant" in place of the phase: it runs for the first batch of a size, and what it made stays.
    """
    header = ("phase", "op", "shapes", "from", "MFLOP", "KiB", "arena")
    rows = [header]
    for p, phase in enumerate(phases):
        for op in phase:
            rows.append(("constant" if op.constant else str(p), op.kernel, *_details(op)))
    text = [table(rows)]
    text.append(f"{len(phases)} phases, {len(rows) - 1} ops, arena {arena_bytes / 1024:.1f} KiB, batch up to {batch}")
    return Text("\n".join(text))


def shapes(op: NativeOp) -> str:
    """Operands by their names, with their shapes: "a (N, 784), b (784, 10) -> c (N, 10)"."""
    parts = [f"{name} {describe(op.shapes[name])}" for name in op.names if name in op.shapes]
    made = sum(name in op.shapes for name in op.names[: op.n_outputs])
    outputs, inputs = ", ".join(parts[:made]), ", ".join(parts[made:])
    return f"{inputs} -> {outputs}" if outputs and inputs else outputs or inputs


def work(op: NativeOp, part: float = 1.0) -> tuple[int, int]:
    """FLOPs and bytes of an op at a batch that is `part` of the program's largest one.

    What outlives the run (parameters, gradients, states) is taken as of one size for all batches,
    everything else as proportional to the batch.
    """
    sizes = {}
    for buffer in op.buffers:
        if buffer is not None:
            sizes[buffer] = int(buffer.nbytes) * (1.0 if buffer.root().where == "fixed" else part)
    return round(op.flops * part), round(sum(sizes.values()))


def origin(op: NativeOp) -> str:
    """The op of the graph that a native op computes, and what is fused into it."""
    if op.node is None:
        return "update"
    attrs = op.node.attrs
    fused = [f"+{attrs['act'][0]}"] if attrs.get("act") else []
    fused += [f"+{attrs['grad'][0]}'"] if attrs.get("grad") else []
    for operand in ("residual", "bias"):
        if attrs.get(operand) is True:
            fused.insert(0, f"+{operand}")
    return op.node.op.name + "".join(fused)


def _details(op: NativeOp) -> tuple[str, str, str, str, str]:
    flops, nbytes = work(op)
    output = op.outputs[0].root() if op.outputs else None
    place = "" if output is None else str(output.offset) if output.where == "arena" else output.where
    return (shapes(op), origin(op), f"{flops / 1e6:.3f}", f"{nbytes / 1024:.1f}", place)


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)
