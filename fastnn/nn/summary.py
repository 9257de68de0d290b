"""The table that Module.summary gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.lowering.call import tensors_in
from fastnn.lowering.explain import Text
from fastnn.nn.parameter import Parameter
from fastnn.sizes import describe


def examples(shape: tuple[Any, ...], batch: int, dtype: np.dtype[Any]) -> list[np.ndarray[Any, Any]]:
    """A batch of zeros for each input, of samples of this shape: (784,), ((1, 28, 28),) or ((3,), (4,))."""
    if not shape:
        raise ValueError("shape is missing: give the sizes of one sample's input, such as summary(784)")
    each = shape if all(isinstance(s, (tuple, list)) for s in shape) else (shape,)
    sizes = [tuple(_check.size("shape", size, 1) for size in one) for one in each]
    return [np.zeros((batch, *one), dtype) for one in sizes]


def summary(
    calls: Sequence[tuple[Any, Any]],
    names: Mapping[int, str],
    parameters: Sequence[Parameter],
    held: Sequence[Parameter],
    batch: int,
    arena_bytes: int,
) -> str:
    """Layers in the order in which they run, with output shapes and parameters; totals below.

    Parameters
    ----------
    calls : sequence of (module, result)
        As a graph recorded them.
    names : mapping of int to str
        Of the modules, by their id.
    parameters, held : sequence of Parameter
        What is counted, and what takes memory.
    batch, arena_bytes : int
        What inference takes, and of how large a batch.
    """
    rows = [("layer", "type", "output", "parameters")]
    counted: set[int] = set()
    for layer, result in calls:
        if layer._modules and not layer._parameters:
            continue  # a container: its layers have rows of their own
        size = sum(p.size for p in layer._parameters.values() if id(p) not in counted)
        counted.update(id(p) for p in layer._parameters.values())
        shapes = ", ".join(describe(t.shape) for t in tensors_in(result))
        rows.append((names.get(id(layer), ""), type(layer).__name__, shapes, f"{size:,}" if size else ""))

    total = sum(p.size for p in parameters)
    trained = sum(p.size for p in parameters if p.requires_grad)
    nbytes = sum(p.size * p.dtype.itemsize for p in held)
    return Text(
        "\n".join(
            [
                *_table(rows),
                f"parameters: {total:,}, of which trained: {trained:,}",
                f"memory: parameters {_bytes(nbytes)}, inference of a batch of {batch} {_bytes(arena_bytes)}",
            ]
        )
    )


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
