"""Who runs when. Contenders live in processes of their own and take turns; the others are stopped.

A library's pool spins after its work is done (OpenMP's, XLA's and ONNX Runtime's for milliseconds),
as its users have it; next to another contender it would take a core away. So a process that is not
on turn is stopped by SIGSTOP, which costs microseconds and stops spinning threads, too. Each turn
starts with a warm-up that is not timed.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asv_bench.peers import contenders
from asv_bench.peers.rows import Row


@dataclass
class Timing:
    """Seconds a call: the fastest turn, the median turn, and how many turns there were."""

    minimum: float
    median: float
    turns: int


class Failure(Exception):
    """A contender cannot do a row; the message is its own."""


class Worker:
    """A contender's process, stopped but during its turns."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.log = tempfile.TemporaryFile("w+")
        # The one setting that all of these libraries read; pools keep their defaults otherwise.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asv_bench.peers.worker", name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failure(f"its process ended with {self.process.wait()}: {self._last_words()}")
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failure(answer["failed"])
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def _last_words(self) -> str:
        self.log.seek(0)
        return " ".join(self.log.read().split())[-300:]


class Referee:
    """Contenders with a number of threads each; workers start when a row first needs them."""

    def __init__(self, names: Iterable[str], threads: int) -> None:
        self.names = [name for name in names if not contenders.absent(name)]
        self.threads = threads
        self.workers: dict[str, Worker] = {}

    def __enter__(self) -> Referee:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def measure(
        self, row: Row, seconds: float, turn: float = 0.02, rounds: int = 5
    ) -> tuple[dict[str, Timing], dict[str, str]]:
        """Time a row: `seconds` a contender in turns of `turn` seconds, at least `rounds` of them.

        Returns
        -------
        timings : by name
        failures : by name, what the contender said
        """
        samples: dict[str, list[float]] = {}
        failures: dict[str, str] = {}
        for name in self.names:
            if contenders.offers(name, row):
                samples[name] = []
                self._ask(name, samples, failures, make=row.name)
        spent = 0.0  # by the contender that has spent most
        taken = dict.fromkeys(samples, 0.0)
        done = 0
        while samples and (done < rounds or spent + turn <= seconds):
            for name in list(samples):
                answer = self._ask(name, samples, failures, turn=turn)
                if answer is not None:
                    samples[name].append(answer["seconds"])
                    taken[name] += answer["seconds"] * answer["calls"]
            spent = max(taken.values())
            done += 1
        for name in list(samples):
            self._ask(name, samples, failures, drop=True)
        return {n: Timing(min(s), statistics.median(s), len(s)) for n, s in samples.items()}, failures

    def _ask(
        self, name: str, samples: dict[str, list[float]], failures: dict[str, str], **order: Any
    ) -> dict[str, Any] | None:
        if name not in self.workers:
            self.workers[name] = Worker(name, self.threads)
        try:
            return self.workers[name].ask(**order)
        except Failure as failure:
            failures[name] = str(failure)
            samples.pop(name)
            # Its process may be in any state now; a later row gets a new one.
            self.workers.pop(name).close()
            return None
