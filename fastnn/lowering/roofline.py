"""What this machine gives at most, measured: the roof that times are held against."""

from __future__ import annotations

import _thread
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from fastnn_ext import machine, runtime

_SECONDS = 0.1  # a measurement's
_ROUNDS = 2_000_000  # multiply-adds a call: some milliseconds (with calls of 1 ms a second thread got 0.6 of a core)
_PATIENCE = 10.0  # seconds: a machine that is busy otherwise starts a thread late, too
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
        best = max(best, _together(works))
    return best


def _together(works: list[Callable[[], float]]) -> float:
    """The sum of the rates of works that begin at once, one on each thread.

    `threading.Thread.start` may wait for ever for a thread that got no memory to begin; these are not waited for longer
    than _PATIENCE.
    """
    rates: SimpleQueue[float] = SimpleQueue()
    start = threading.Barrier(len(works))

    def run(work: Callable[[], float]) -> None:
        try:
            start.wait(_PATIENCE)
        except threading.BrokenBarrierError:
            return
        begun = time.perf_counter()
        rates.put(work() / (time.perf_counter() - begun))

    for work in works[1:]:
        _thread.start_new_thread(run, (work,))
    run(works[0])
    try:
        return sum([rates.get(timeout=_PATIENCE) for _ in works])
    except Empty:
        raise MemoryError(f"{len(works)} threads are to measure the machine, and not all of them could") from None
