"""One contender in a process of its own: `python -m asv_bench.peers.worker NAME THREADS`.

The referee writes one JSON object a line to its standard input and reads one from its standard
output: {"make": row}, {"turn": seconds}, {"drop": true}. What libraries print goes to standard error.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from asv_bench.peers import contenders, rows

#: Part of a turn that is run but not timed: caches, pools and clocks are the last contender's.
WARM_UP = 0.3
PR_SET_PDEATHSIG = 1


def main(name: str, threads: int) -> None:
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    call: Callable[[], object] | None = None
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if "make" in order:
                call = None
                call = contenders.library(name).make(name, rows.find(order["make"]), threads)
                for _ in range(3):
                    call()
            elif "turn" in order:
                assert call is not None, "a turn before a row was made"
                answer["seconds"], answer["calls"] = turn(call, order["turn"])
            else:
                call = None
                gc.collect()
        except Exception as error:  # whatever a library raises is told, and the others go on
            answer["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def turn(call: Callable[[], object], seconds: float) -> tuple[float, int]:
    """Seconds a call, mean of a turn of about `seconds` after a warm-up; and how many calls it was."""
    begun = time.perf_counter()
    calls = 0
    while True:
        call()
        calls += 1
        warm = time.perf_counter() - begun
        if warm >= WARM_UP * seconds:
            break
    loops = max(1, round(seconds * calls / warm))
    begun = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - begun) / loops, loops


def _die_with_parent() -> None:
    """Linux: a worker stopped between turns would outlive a referee that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
