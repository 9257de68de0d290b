"""Peak memory of training: `python -m asv_bench.peers.memory`, each contender in a process of its own.

The peak is the process's largest resident set, as the kernel counts it. What the process held once its
library was imported is shown beside it: the difference is the network's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from asv_bench.peers import contenders, machine, rows

STEPS = 4  # nothing grows after the second


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m asv_bench.peers.memory", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", metavar="TEXT", default=["ResNet-18"], help="rows whose name contains one of these")
    add("--contenders", nargs="+", metavar="NAME", default=["fastnn", "torch", "torch channels-last"])
    add("--threads", type=int, default=machine.cores())
    add("--json", metavar="FILE")
    args = parser.parse_args(argv)
    results = []
    print(f"{machine.describe()}; {args.threads} threads, {STEPS} steps; MiB of resident memory")
    print(f"{'row':36} {'contender':22} {'peak':>8} {'imported':>9} {'network':>8}")
    for row in rows.all_rows():
        if row.kind != "train" or not any(text in row.name for text in args.only):
            continue
        for name in args.contenders:
            if contenders.absent(name) or not contenders.offers(name, row):
                continue
            result = {"row": row.name, "contender": name, **_in_a_process(name, row.name, args.threads)}
            results.append(result)
            peak, imported = result["peak"] / 2**20, result["imported"] / 2**20
            print(f"{row.name:36} {name:22} {peak:8.1f} {imported:9.1f} {peak - imported:8.1f}", flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(results, f, indent=1)
    return 0


def _in_a_process(name: str, row: str, threads: int) -> dict[str, Any]:
    code = f"from asv_bench.peers.memory import measure; measure({name!r}, {row!r}, {threads})"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(name: str, row: str, threads: int) -> None:
    """Train in this process, and print what it held at most."""
    library = contenders.library(name)
    for package in library.REQUIRES:
        __import__(package)
    imported = _bytes("VmRSS")
    step = library.make(name, rows.find(row), threads)
    for _ in range(STEPS):
        step()
    print(json.dumps({"peak": _bytes("VmHWM"), "imported": imported}))


def _bytes(field: str) -> int:
    """A field of this process's status; Linux."""
    with open("/proc/self/status") as f:
        line = next(line for line in f if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
