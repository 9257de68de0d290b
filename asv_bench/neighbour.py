"""Training beside a busy neighbour: `python -m asv_bench.neighbour`.

A process that spins takes one core for itself. fastnn and PyTorch train, in turns, each in a process
of its own, with the neighbour stopped and with it running; printed is which part of the quiet
throughput is left. The fair share of two cores of which one is shared lies at 50 to 75%.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from asv_bench.peers import contenders, machine, rows
from asv_bench.peers.referee import Failure, Worker

ROWS = ("train LeNet-5, batch 64", "train ResNet-20, batch 128")
CONTENDERS = ("fastnn", "torch", "torch channels-last")
SPIN = "import os, sys\nif sys.argv[1] != '-1': os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


class Neighbour:
    """A process that spins, on one core if that is given, while it is not stopped."""

    def __init__(self, core: int | None) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SPIN, str(-1 if core is None else core)])
        self.stop()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def run(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(
    row: str, names: Iterable[str], threads: int, turn: float, rounds: int, core: int | None
) -> list[dict[str, Any]]:
    """One result a contender: median seconds a step, quiet and with the neighbour, and what is left."""
    workers = {name: Worker(name, threads) for name in names}
    neighbour = Neighbour(core)
    times: dict[str, dict[str, list[float]]] = {name: {"quiet": [], "busy": []} for name in workers}
    try:
        for name, worker in list(workers.items()):
            try:
                worker.ask(make=row)
            except Failure as failure:
                print(f"{name} is left out: {failure}")
                workers.pop(name).close()
        for _ in range(rounds):
            for name, worker in workers.items():
                times[name]["quiet"].append(worker.ask(turn=turn)["seconds"])
                neighbour.run()
                times[name]["busy"].append(worker.ask(turn=turn)["seconds"])
                neighbour.stop()
    finally:
        neighbour.close()
        for worker in workers.values():
            worker.close()
    results = []
    for name in workers:
        quiet, busy = (statistics.median(times[name][state]) for state in ("quiet", "busy"))
        results.append({"row": row, "contender": name, "quiet": quiet, "busy": busy, "left": quiet / busy})
    return results


def main(argv: list[str] | None = None) -> int:
    cores = machine.cores()
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.neighbour", description="Training beside a process that spins on one core."
    )
    add = parser.add_argument
    add("--rows", nargs="+", default=list(ROWS), metavar="ROW", help="names of training rows of asv_bench.peers")
    add("--contenders", nargs="+", default=list(CONTENDERS), choices=contenders.names(), metavar="NAME")
    add("--threads", type=int, default=cores, metavar="N")
    add("--turn", type=float, default=2.0, help="seconds of one turn (default: 2)")
    add("--rounds", type=int, default=5, help="turns of each kind (default: 5)")
    add("--anywhere", action="store_true", help="do not bind the neighbour to a core")
    add("--json", metavar="FILE")
    args = parser.parse_args(argv)
    known = {row.name for row in rows.all_rows()}
    for row in args.rows:
        if row not in known:
            parser.error(f"--rows: {row!r} is no row; python -m asv_bench.peers --list prints them")
    names = [name for name in args.contenders if not contenders.absent(name)]
    for name in set(args.contenders) - set(names):
        print(f"{name} is left out: {', '.join(contenders.absent(name))} not installed")
    core = None if args.anywhere or not hasattr(os, "sched_getaffinity") else max(os.sched_getaffinity(0))
    where = "any core" if core is None else f"core {core}"
    print(f"{machine.describe()}, {args.threads} threads, a neighbour on {where}")
    results = []
    for row in args.rows:
        for r in measure(row, names, args.threads, args.turn, args.rounds, core):
            results.append(r)
            print(
                f"{r['row']:28} {r['contender']:20} quiet {1e3 * r['quiet']:9.2f} ms, with the neighbour "
                f"{1e3 * r['busy']:9.2f} ms: {100 * r['left']:3.0f}% of the throughput left",
                flush=True,
            )
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"machine": machine.describe(), "rows": results}, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
