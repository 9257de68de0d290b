"""The front page: the table of peers, and the way to the history."""

from __future__ import annotations

from html import escape
from typing import Any

from asv_bench.peers import report

STYLE = """
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child, td:nth-child(5), th:nth-child(5) { text-align: left }
tr.behind td { background: #fde8e4 }
tr.failed td { background: #eee }
nav a { margin-right: 2em }
img { max-width: 100% }
"""


def page(run: dict[str, Any] | None, picture: bool) -> str:
    """The page as HTML.

    Parameters
    ----------
    run : what `python -m asv_bench.peers --json` wrote, or None if there is none yet
    picture : whether peers.png lies beside the page
    """
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>fastnn: benchmarks</title>",
        f"<link rel='icon' href='data:,'><style>{STYLE}</style></head><body><h1>fastnn: benchmarks</h1>",
        "<nav><a href='history/index.html'>History of all benchmarks</a>",
        "<a href='history/index.html#/regressions'>Regressions</a></nav>",
    ]
    if run is None:
        parts.append("<p>No comparison with peers yet: python -m asv_bench.peers --json FILE makes one.</p>")
    else:
        parts += _comparison(run)
        if picture:
            parts.append("<img src='peers.png' alt='Ratios to the best peer, row by row'>")
    return "\n".join([*parts, "</body></html>\n"])


def _comparison(run: dict[str, Any]) -> list[str]:
    versions = ", ".join(run["versions"].values())
    left_out = "; ".join(f"{n} left out ({', '.join(p)} not installed)" for n, p in run["left_out"].items())
    parts = [
        "<h2>Next to its peers</h2>",
        f"<p>{escape(run['machine'])}, {escape(run['date'])}. {escape(versions)}. {escape(left_out)}</p>",
        "<p>A ratio above 1 means that fastnn is faster, minimum against minimum; rows where it is behind are "
        "tinted.</p><ul>",
        *(f"<li>{escape(text)}</li>" for text in report.summary(run["rows"])),
        "</ul><table id='peers'><thead><tr>",
        *(f"<th>{text}</th>" for text in ("row", "threads", *report.COLUMNS)),
        "</tr></thead><tbody>",
    ]
    for r in run["rows"]:
        kind = "failed" if not r["ratio_min"] else "behind" if r["ratio_min"] < 1 else "ahead"
        all_times = "; ".join(f"{name} {report.both(t)}" for name, t in report.by_speed(r))
        parts.append(f"<tr class='{kind}' title='{escape(all_times)}'>")
        parts += [f"<td>{escape(cell)}</td>" for cell in (r["name"], str(r["threads"]), *report.cells(r))]
        parts.append("</tr>")
    return [*parts, "</tbody></table>"]
