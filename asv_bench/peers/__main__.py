"""The command line: which rows, which contenders, how long, and where the results go."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from typing import Any

from asv_bench.peers import contenders, machine, report, rows
from asv_bench.peers.referee import Referee


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    if args.read:
        with open(args.read) as f:
            return _report(json.load(f), args)
    names = [n for n in contenders.names() if args.compile or not n.startswith("torch compile")]
    if args.contenders:
        names = [n for n in names if n in args.contenders]
    present = [n for n in names if not contenders.absent(n)]
    chosen = [
        row
        for row in rows.all_rows()
        if row.kind in args.rows and (not args.only or any(text in row.name for text in args.only))
    ]
    if args.list:
        print("\n".join(row.name for row in chosen))
        return 0
    run: dict[str, Any] = {
        "machine": machine.describe(),
        "date": datetime.date.today().isoformat(),
        "versions": {contenders.library(n).REQUIRES[0]: contenders.version(n) for n in present},
        "left_out": {n: contenders.absent(n) for n in names if n not in present},
        "peak_gflops": {},
        "rows": [],
    }
    print(f"{run['machine']}, {run['date']}\n{', '.join(run['versions'].values())}")
    for name, packages in run["left_out"].items():
        print(f"{name} is left out: {', '.join(packages)} not installed")
    if not args.compile:
        print("torch compile is left out: it takes long to start; --compile takes it in")
    print("row, share of peak, ratio to the best peer (minimum/median), minimum/median of each contender")
    for threads in args.threads:
        peak = machine.fma_peak(threads)
        run["peak_gflops"][threads] = peak / 1e9
        print(f"FMA peak of {threads} thread{'s' * (threads > 1)}: {peak / 1e9:.0f} GF/s, measured")
        with Referee(names, threads) as referee:
            for row in chosen:
                timings, failures = referee.measure(row, args.seconds, rounds=args.rounds)
                run["rows"].append(report.result(row, threads, timings, failures, peak))
                print(report.line(run["rows"][-1]), flush=True)
                _save(run, args.json)
    return _report(run, args)


def _report(run: dict[str, Any], args: argparse.Namespace) -> int:
    print("\n".join(report.summary(run["rows"])))
    if args.markdown:
        with open(args.markdown, "w") as f:
            f.write(report.markdown(run))
    if args.png:
        report.picture(run, args.png)
    return 0


def _save(run: dict[str, Any], path: str | None) -> None:
    """After every row, so that a run that is broken off leaves what it has."""
    if path:
        with open(path, "w") as f:
            json.dump(run, f, indent=1)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.peers",
        description="fastnn next to its peers on this machine, in turns within one run.",
    )
    add = parser.add_argument
    add(
        "--rows",
        nargs="+",
        default=list(rows.KINDS),
        choices=rows.KINDS,
        metavar="KIND",
        help="gemm, conv, train, infer (default: all)",
    )
    add("--only", nargs="+", metavar="TEXT", help="only rows whose name contains one of these")
    add("--contenders", nargs="+", choices=contenders.names(), metavar="NAME", help=", ".join(contenders.names()))
    add("--compile", action="store_true", help="torch.compile, too: needs g++, half a minute to start a network")
    add("--threads", nargs="+", type=int, default=sorted({1, machine.cores()}), metavar="N")
    add("--seconds", type=float, default=1.0, help="timed seconds a contender and row (default: 1)")
    add("--rounds", type=int, default=5, help="turns a contender has at least (default: 5)")
    add("--quick", action="store_true", help="a look: two rounds, no more")
    add("--list", action="store_true", help="print the chosen rows' names")
    add("--json", metavar="FILE", help="all results, written after every row")
    add("--read", metavar="FILE", help="measure nothing: the table and chart of an earlier run's --json")
    add("--markdown", metavar="FILE", help="the short table")
    add("--png", metavar="FILE", help="bar chart of the ratios (matplotlib)")
    args = parser.parse_args(argv)
    if args.quick:
        args.seconds, args.rounds = 0.0, 2
    return args


if __name__ == "__main__":
    sys.exit(main())
