"""Side-by-side timing: all contenders of a row take turns, so that they meet the same noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

#: One turn of a contender lasts about this long.
TURN_SECONDS = 0.02


@dataclass
class Timing:
    """Seconds a call: the fastest turn and the median turn."""

    minimum: float
    median: float


def side_by_side(contenders: dict[str, Callable[[], object]], seconds: float = 1.0) -> dict[str, Timing]:
    """Time each contender for about `seconds` in turns of 20 ms, after a warm-up."""
    loops: dict[str, int] = {}
    for name, call in contenders.items():
        for _ in range(5):
            call()
        started = time.perf_counter()
        call()
        once = max(time.perf_counter() - started, 1e-7)
        loops[name] = max(1, int(TURN_SECONDS / once))
    slowest = max(TURN_SECONDS, *(_turn(call, loops[name]) * loops[name] for name, call in contenders.items()))
    turns = max(5, int(seconds / slowest))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, call in contenders.items():
            samples[name].append(_turn(call, loops[name]))
    return {name: Timing(min(s), statistics.median(s)) for name, s in samples.items()}


def _turn(call: Callable[[], object], loops: int) -> float:
    started = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - started) / loops
