"""What this machine gives at most, measured: the roof that times are held against."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastnn_ext import machine, runtime

_SECONDS = 0.1  # a measurement's
_ROUNDS = 2_000_000  # multiply-adds a call: some milliseconds (with calls of 1 ms a second thread got 0.6 of a core)
_ELEMENTS = 1 << 22  # of each of three arrays a thread: 48 MiB, more than most caches


@dataclass(frozen=True)
class Roofline:
    """The most that some threads get together.

    Attributes
    ----------
    threads : int
    flops : float
        float32 FLOPs a second: multiply-adds in registers, with the instruction set in use.
    bytes : float
        Bytes a second between memory and the cores: two arrays read, one written.
    """

    threads: int
    flops: float
    bytes: float


def roofline(threads: int) -> Roofline:
    """Measure, or recall, what `threads` threads get; takes about 0.3 s the first time."""
    return _measured(threads, runtime.get_isa())


@functools.cache
def _measured(threads: int, isa: str) -> Roofline:
    def multiply() -> float:
        return 2.0 * _ROUNDS * len(machine.multiply_add(1.0, 0.999, 0.001, _ROUNDS))

    arrays = [[np.ones(_ELEMENTS, np.float32) for _ in range(3)] for _ in range(threads)]

    def stream(y: np.ndarray, x: np.ndarray, z: np.ndarray) -> float:
        machine.triad(y, x, z, 2.0)
        return 3.0 * y.nbytes

    flops = _best([multiply] * threads)
    return Roofline(threads, flops, _best([functools.partial(stream, *a) for a in arrays]))


def _best(works: list[Callable[[], float]]) -> float:
    """The highest sum of rates among rounds in which all work at once."""
    best = 0.0
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end or best == 0.0:
        rates: list[float] = []
        start = threading.Barrier(len(works))

        def run(work: Callable[[], float], rates: list[float] = rates, start: threading.Barrier = start) -> None:
            start.wait()
            begun = time.perf_counter()
            rates.append(work() / (time.perf_counter() - begun))

        team = [threading.Thread(target=run, args=(work,)) for work in works[1:]]
        for thread in team:
            thread.start()
        run(works[0])
        for thread in team:
            thread.join()
        best = max(best, sum(rates))
    return best
