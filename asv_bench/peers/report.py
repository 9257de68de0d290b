"""Results as rows of a table, as text, as Markdown, and as a bar chart."""

from __future__ import annotations

import math
from typing import Any

from asv_bench.peers.referee import Timing
from asv_bench.peers.rows import KINDS, Row

Result = dict[str, Any]


def result(row: Row, threads: int, timings: dict[str, Timing], failures: dict[str, str], peak: float) -> Result:
    """One row as it stands in the JSON file; a ratio above 1 means that fastnn is faster."""
    ours = timings.get("fastnn")
    peers = {name: timing for name, timing in timings.items() if name != "fastnn"}
    best = min(peers, key=lambda name: peers[name].minimum, default=None)
    both = ours is not None and best is not None
    return {
        "kind": row.kind,
        "name": row.name,
        "threads": threads,
        "flops": row.flops,
        "times": {name: {"min": t.minimum, "median": t.median, "turns": t.turns} for name, t in timings.items()},
        "failures": failures,
        "best_peer": best,
        "ratio_min": peers[best].minimum / ours.minimum if both else None,
        "ratio_median": min(p.median for p in peers.values()) / ours.median if both else None,
        "gflops": row.flops / ours.minimum / 1e9 if ours else None,
        "share_of_peak": row.flops / ours.minimum / peak if ours else None,
    }


def line(r: Result) -> str:
    """One row as text: fastnn's time, its ratio to the best peer, and everybody's time."""
    share = f"{100 * r['share_of_peak']:3.0f}%" if r["share_of_peak"] else "    "
    ratio = f"{r['ratio_min']:6.2f}/{r['ratio_median']:6.2f}" if r["ratio_min"] else " " * 13
    times = "  ".join(f"{name} {both(t)}" for name, t in by_speed(r))
    failures = "".join(f"  [{name} failed: {text}]" for name, text in r["failures"].items())
    return f"{r['threads']}t {r['name']:46} {share} {ratio}  {times}{failures}"


def by_speed(r: Result) -> list[tuple[str, dict[str, float]]]:
    return sorted(r["times"].items(), key=lambda item: item[1]["min"])


def both(t: dict[str, float]) -> str:
    """Minimum/median in one unit, such as "1.02/1.10 ms"."""
    scale, unit = (1e6, "us") if t["min"] < 1e-3 else (1e3, "ms")
    return f"{digits(scale * t['min'])}/{digits(scale * t['median'])} {unit}"


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def summary(results: list[Result]) -> list[str]:
    """Geometric mean and worst ratio of each kind and number of threads."""
    lines = []
    for kind in KINDS:
        for threads in sorted({r["threads"] for r in results}):
            chosen = [r for r in results if (r["kind"], r["threads"]) == (kind, threads) and r["ratio_min"]]
            if chosen:
                mean = math.exp(sum(math.log(r["ratio_min"]) for r in chosen) / len(chosen))
                worst = min(chosen, key=lambda r: r["ratio_min"])
                lost = sum(r["ratio_min"] < 1 for r in chosen)
                lines.append(
                    f"{kind}, {threads} thread{'s' * (threads > 1)}: {len(chosen)} rows, geometric mean "
                    f"{mean:.2f} times the best peer, {lost} behind it, worst {worst['ratio_min']:.2f} "
                    f"({worst['name']})"
                )
    return lines


#: What cells() says of a row.
COLUMNS = ("min / median", "of peak", "best peer: min / median", "ratio")


def table(results: list[Result]) -> list[tuple[str, ...]]:
    """A header, then a line a row: for each number of threads fastnn's time, its share of peak, the best peer
    and the ratio; with several of them what the most threads gain over the fewest."""
    counts = sorted({r["threads"] for r in results})
    header = ["row"]
    for n in counts:
        header += [f"{n} thread{'s' * (n > 1)}: {COLUMNS[0]}", *COLUMNS[1:]]
    lines = [(*header, *["speed-up"] * (len(counts) > 1))]
    names = dict.fromkeys(r["name"] for r in results)
    for name in names:
        by_threads = {r["threads"]: r for r in results if r["name"] == name}
        row = [name]
        for n in counts:
            row += cells(by_threads[n]) if n in by_threads else [""] * len(COLUMNS)
        if len(counts) > 1:
            ours = [by_threads[n]["times"].get("fastnn") if n in by_threads else None for n in (counts[0], counts[-1])]
            row.append(f"{ours[0]['min'] / ours[1]['min']:.2f}" if ours[0] and ours[1] else "")
        lines.append(tuple(row))
    return lines


def cells(r: Result) -> list[str]:
    """fastnn's time, its share of peak, the best peer and the ratio."""
    ours, best = r["times"].get("fastnn"), r["best_peer"]
    return [
        both(ours).replace("/", " / ") if ours else "failed",
        f"{100 * r['share_of_peak']:.0f}%" if r["share_of_peak"] else "",
        f"{best} {both(r['times'][best]).replace('/', ' / ')}" if best else "",
        f"{r['ratio_min']:.2f}" if r["ratio_min"] else "",
    ]


def markdown(run: Result) -> str:
    """The short table, losing rows included, with machine, date and versions."""
    header, *lines = table(run["rows"])
    text = [f"{run['machine']}; {run['date']}; {', '.join(run['versions'].values())}.", ""]
    text += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    text += ["| " + " | ".join(row) + " |" for row in lines]
    text += ["", *(f"- {line}" for line in summary(run["rows"]))]
    return "\n".join(text) + "\n"


def picture(run: Result, path: str) -> None:
    """Bars, one a row: how many times as fast as the best peer fastnn is."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--png needs matplotlib: pip install matplotlib") from None
    rows = [r for r in run["rows"] if r["ratio_min"]]
    figure = Figure(figsize=(9, 1.2 + 0.22 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    ratios = [r["ratio_min"] for r in rows]
    colors = ["tab:green" if ratio >= 1 else "tab:red" for ratio in ratios]
    axes.barh(range(len(rows)), ratios, color=colors, left=0)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{r['name']}, {r['threads']}t" for r in rows], fontsize=7)
    for y, r in enumerate(rows):
        axes.text(r["ratio_min"], y, f" {r['ratio_min']:.2f} {r['best_peer']}", va="center", fontsize=6)
    axes.invert_yaxis()
    axes.margins(x=0.25, y=0.01)
    axes.set_xscale("log")
    axes.set_xlabel("times as fast as the best peer (minimum against minimum)")
    axes.set_title(f"{run['machine']}, {run['date']}", fontsize=9)
    figure.savefig(path, dpi=120)
