"""The table that Module.summary gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import describe
from fastnn.lowering.call import tensors_in
from fastnn.lowering.explain import Text
from fastnn.lowering.program import Program
from fastnn.nn.module import Module


def summary(module: Module, shape: tuple[Any, ...], batch_size: int = 1) -> str:
    """Layers in the order in which they run, with output shapes and parameters; totals below.

    Parameters
    ----------
    module : Module
    shape : tuple of int, or of tuples of int
        One sample's input, without the batch; a tuple for each input.
    batch_size : int
        The smallest batch to state the memory for.
    """
    batch = _check.size("batch_size", batch_size, 1)
    parameters = list(module.parameters())
    dtype = next((p.dtype for p in parameters if p.dtype.kind == "f"), np.dtype(np.float32))

    def program_for(batch: int) -> Program:
        return module.plan(*(np.zeros((batch, *sizes), dtype) for sizes in _shapes(shape)))

    program = program_for(batch)
    graph = program_for(max(batch, 2)).graph  # a batch of one has a program of its own, without an N

    names = {id(m): name or type(module).__name__ for name, m in module.named_modules()}
    rows = [("layer", "type", "output", "parameters")]
    counted: set[int] = set()
    for layer, result in graph.calls:
        if layer._modules and not layer._parameters:
            continue  # a container: its layers have rows of their own
        size = sum(p.size for p in layer._parameters.values() if id(p) not in counted)
        counted.update(id(p) for p in layer._parameters.values())
        shapes = ", ".join(describe(t.shape) for t in tensors_in(result))
        rows.append(
            (names.get(id(layer), ""), type(layer).__name__, shapes, f"{size:,}" if size else "")
        )

    total = sum(p.size for p in parameters)
    trained = sum(p.size for p in parameters if p.requires_grad)
    held = sum(p.size * p.dtype.itemsize for p in (*parameters, *module.buffers()))
    return Text(
        "\n".join(
            [
                *_table(rows),
                f"parameters: {total:,}, of which trained: {trained:,}",
                f"memory: parameters {_bytes(held)}, "
                f"inference of a batch of {program.batch} {_bytes(program.arena_bytes)}",
            ]
        )
    )


def _shapes(shape: tuple[Any, ...]) -> list[tuple[int, ...]]:
    """The inputs' shapes from (784,), ((1, 28, 28),) or ((3,), (4,))."""
    if not shape:
        raise ValueError(
            "shape is missing: give the sizes of one sample's input, such as summary(784)"
        )
    each = shape if all(isinstance(s, (tuple, list)) for s in shape) else (shape,)
    return [tuple(_check.size("shape", size, 1) for size in sizes) for sizes in each]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            [
                *(cell.ljust(w) for cell, w in zip(row[:-1], widths, strict=False)),
                row[-1].rjust(widths[-1]),
            ]
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return [lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:]), rule]


def _bytes(n: int) -> str:
    if n < 1024:
        return f"{n} B"
    power = min(int(math.log(n, 1024)), 3)
    return f"{n / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB')[power]}"
