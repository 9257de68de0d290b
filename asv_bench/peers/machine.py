"""The machine: its name, and the FLOPs a second that its FMA units give."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

FLAGS = {
    "avx512": ["-mavx512f", "-mprefer-vector-width=512", "-DWIDTH=64"],
    "avx2": ["-mavx2", "-mfma", "-DWIDTH=32"],
}
SOURCE = Path(__file__).with_name("fma_peak.c")


def describe() -> str:
    """Processor, cores that this process may use, fastnn's instruction set, Python."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            model = next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {cores()} cores, {isa()}, Python {platform.python_version()}"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def isa() -> str:
    from fastnn_ext import runtime

    return runtime.get_isa()


def fma_peak(threads: int, seconds: float = 0.3) -> float | None:
    """float32 FLOPs a second of `threads` threads together: independent multiply-adds in registers,
    on vectors of the width that fastnn's kernels use here. None without a C compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, "fma_peak.so")
        flags = ["-O2", "-ffp-contract=fast", "-shared", "-fPIC", *FLAGS.get(isa(), ["-DWIDTH=16"])]
        subprocess.run([compiler, *flags, str(SOURCE), "-o", library], check=True, capture_output=True)
        multiply = ctypes.CDLL(library).fma_flops  # ctypes gives the interpreter's lock away
    multiply.restype = ctypes.c_double
    multiply.argtypes = [ctypes.c_long]
    loops = 200_000
    multiply(loops)
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = max(best, _rate(multiply, loops, threads))
    return best


def _rate(multiply: ctypes._CFuncPtr, loops: int, threads: int) -> float:
    done: list[float] = []

    def run() -> None:
        begun = time.perf_counter()
        flops = multiply(loops)
        done.append(flops / (time.perf_counter() - begun))

    team = [threading.Thread(target=run) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    return sum(done)
