"""A program as text: what each native op does, where its data lies, how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn.graph import describe

if TYPE_CHECKING:
    from fastnn.lowering.builder import NativeOp
    from fastnn.lowering.program import Program


def explain(program: Program) -> str:
    """One line a native op: phase, kernel, shapes, FLOPs, bytes, arena offset of its first output."""
    header = ("phase", "op", "shapes", "from", "MFLOP", "KiB", "arena")
    rows = [header]
    for p, phase in enumerate(program.phases):
        for op in phase:
            rows.append((str(p), op.kernel, *_details(op)))
    text = [_table(rows)]
    text.append(
        f"{len(program.phases)} phases, {len(rows) - 1} ops, arena {program.arena_bytes / 1024:.1f} KiB, "
        f"batch up to {program.batch}"
    )
    return "\n".join(text)


def profile(program: Program, args: Sequence[Any], repeats: int) -> str:
    """Run the first stage `repeats` times and print each op's mean time, rate and threads' shares."""
    from fastnn.lowering.call import to_array

    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    plan = program.plans[0]
    arrays = [to_array(a, spec.name) for a, spec in zip(args, plan.inputs, strict=True)]
    plan.run(*arrays)
    plan.start_profile()
    try:
        for _ in range(repeats):
            plan.run(*arrays)
    finally:
        seconds = plan.stop_profile() / repeats
    rows = [("phase", "op", "shapes", "us", "%", "GF/s", "GB/s", "threads")]
    total = float(seconds.sum())
    index = 0
    for p, phase in enumerate(program.phases):
        for op in phase:
            if op.stage == 0:
                each = seconds[index]
                used = float(each.sum())
                flops, nbytes = _work(op)
                busy = max(float(each.max()), 1e-12)
                shares = "+".join(f"{100 * t / used:.0f}%" for t in each) if used else "-"
                rows.append(
                    (
                        str(p),
                        op.kernel,
                        _shapes(op),
                        f"{1e6 * used:.1f}",
                        f"{100 * used / total:.1f}" if total else "0.0",
                        f"{flops / busy / 1e9:.1f}" if flops else "",
                        f"{nbytes / busy / 1e9:.1f}",
                        shares,
                    )
                )
                index += 1
    return _table(rows) + f"\n{1e6 * total:.1f} us of work a run, over all threads (mean of {repeats})"


def _shapes(op: NativeOp) -> str:
    outputs = [describe(s) for s in op.shapes[:1]]
    inputs = [describe(s) for s in op.shapes[1:]]
    return f"{' x '.join(inputs)} -> {outputs[0]}" if outputs and inputs else " ".join(outputs or inputs)


def _work(op: NativeOp) -> tuple[int, int]:
    """FLOPs and bytes of an op at the program's largest batch."""
    sizes = {}
    for entry in op.buffers:
        if entry is not None:
            sizes[entry[0]] = entry[0].nbytes
    flops = op.node.op.flops(op.node) if op.node is not None and op.kernel not in ("copy", "fill") else 0
    return int(flops), sum(sizes.values())


def _details(op: NativeOp) -> tuple[str, str, str, str, str]:
    flops, nbytes = _work(op)
    output = op.outputs()[0].root() if op.outputs() else None
    place = "" if output is None else str(output.offset) if output.where == "arena" else output.where
    origin = op.node.op.name if op.node is not None else "update"
    if op.node is not None:
        fused = [f"+{op.node.attrs[k][0]}" for k in ("act",) if op.node.attrs.get(k)]
        fused += [f"+{op.node.attrs[k][0]}'" for k in ("grad",) if op.node.attrs.get(k)]
        for operand in ("residual", "bias"):
            if op.node.attrs.get(operand) is True:
                fused.insert(0, f"+{operand}")
        origin += "".join(fused)
    return (_shapes(op), origin, f"{flops / 1e6:.3f}", f"{nbytes / 1024:.1f}", place)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)
