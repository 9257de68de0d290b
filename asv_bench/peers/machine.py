"""The machine: its name, its cores, and the FLOPs a second that its FMA units give."""

from __future__ import annotations

import os
import platform


def describe() -> str:
    """Processor, cores that this process may use, fastnn's instruction set, Python."""
    from fastnn_ext import runtime

    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            model = next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {cores()} cores, {runtime.get_isa()}, Python {platform.python_version()}"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fma_peak(threads: int) -> float:
    """float32 FLOPs a second of `threads` threads together: independent multiply-adds in registers,
    on vectors of the width that fastnn's kernels use here."""
    from fastnn.lowering.roofline import roofline

    return roofline(threads).flops
