"""Builds the page from asv's results, and serves it."""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from asv_bench.dashboard import front, vendor
from asv_bench.peers import report

SUITE = Path(__file__).resolve().parents[1]


def build(suite: Path, html: Path, cache: Path, peers: Path | None) -> None:
    """Write the page into the folder `html`, which is replaced.

    Parameters
    ----------
    suite : folder of asv.conf.json, with results
    cache : folder of the npm packages, filled at the first time
    peers : what `python -m asv_bench.peers --json` wrote, for the front page
    """
    shutil.rmtree(html, ignore_errors=True)
    history = html / "history"
    subprocess.run(
        [sys.executable, "-m", "asv", "publish", "--no-pull", "--html-dir", str(history)], cwd=suite, check=True
    )
    _leave_out_unmeasured(history)
    vendor.vendor(history, cache)
    run: dict[str, Any] | None = json.loads(peers.read_text()) if peers else None
    drawn = False
    if run is not None:
        try:
            report.picture(run, str(html / "peers.png"))
            drawn = True
        except SystemExit as missing:
            print(f"no picture: {missing}", file=sys.stderr)
    (html / "index.html").write_text(front.page(run, drawn))


def _leave_out_unmeasured(history: Path) -> None:
    """asv lists all benchmarks, and asks in vain for graphs of those that were never run."""
    index = history / "index.json"
    content = json.loads(index.read_text())
    graphs = history / "graphs" / "summary"
    content["benchmarks"] = {
        name: facts for name, facts in content["benchmarks"].items() if (graphs / f"{name}.json").exists()
    }
    index.write_text(json.dumps(content))


def serve(html: Path, port: int) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.dashboard", description="Builds the benchmarks' page from asv's results."
    )
    add = parser.add_argument
    add("--peers", type=Path, metavar="FILE", help="JSON of python -m asv_bench.peers, for the front page")
    add("--suite", type=Path, default=SUITE, metavar="DIR", help="folder of asv.conf.json (default: asv_bench)")
    add("--html", type=Path, metavar="DIR", help="where the page goes (default: .asv/html in the suite)")
    add("--serve", nargs="?", type=int, const=8000, metavar="PORT", help="serve it, too (default: 8000)")
    args = parser.parse_args(argv)
    html = (args.html or args.suite / ".asv" / "html").resolve()
    try:
        build(args.suite, html, SUITE / ".asv" / "vendor", args.peers)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"asv_bench.dashboard: {error}", file=sys.stderr)
        return 1
    print(html / "index.html")
    if args.serve is not None:
        serve(html, args.serve)
    return 0


if __name__ == "__main__":
    sys.exit(main())
