"""Whole networks with a library axis: the lines of all that are installed, in one graph."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

# After the environment's own packages: fastnn itself must be the installed one.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from asv_bench.peers import contenders, rows

from .common import warm


@functools.cache
def contender(name: str, row: str):
    chosen = rows.find(row)
    if contenders.absent(name) or not contenders.offers(name, chosen):
        raise NotImplementedError(f"{name} is not installed, or does not do this")
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
    try:
        return warm(contenders.library(name).make(name, chosen, threads))
    except AttributeError as error:
        raise NotImplementedError(f"the commit under test lacks a layer: {error}") from None


class Library:
    """Interleaved measurements are `python -m asv_bench.peers`'s; here is their history."""

    params = [
        [
            "train MLP 784-512-256-10, batch 128",
            "train LeNet-5, batch 64",
            "train ResNet-20, batch 128",
            "infer LeNet-5, batch 1",
            "infer ResNet-18, batch 1",
        ],
        [name for name in contenders.names() if "compile" not in name and name != "openblas"],
    ]
    param_names = ["row", "library"]

    def setup(self, row, name):
        self.run = contender(name, row)

    def time_call(self, row, name):
        self.run()
