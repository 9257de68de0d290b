"""The benchmarks' page in a real browser: a small project of eight commits with a slowdown, measured
by asv, published, and opened with all the world's content networks out of reach."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = [
    pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed"),
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromium-driver is not installed"),
    pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed"),
    pytest.mark.skipif(not shutil.which("git"), reason="git is not installed"),
]
BENCH = Path(__file__).resolve().parent.parent / "asv_bench"

# A benchmark's results are dropped when its own text changes, so the figure lies in a file.
SUITE = """
from pathlib import Path
def track_seconds():
    return float(Path(__file__).with_name("figure").read_text())
track_seconds.unit = "seconds"
def track_unmeasured():
    return 1.0
"""
CONF = {
    "version": 1,
    "project": "small",
    "project_url": "..",
    "repo": "..",
    "branches": ["main"],
    "benchmark_dir": "benchmarks",
    "environment_type": "virtualenv",
    "results_dir": ".asv/results",
    "html_dir": ".asv/html",
    "regressions_thresholds": {".*": 0.1},
}


def result(name, ratio):
    ours, theirs = {"min": 1e-3, "median": 1.1e-3, "turns": 5}, {"min": ratio * 1e-3, "median": 2e-3, "turns": 5}
    return {
        "kind": "train", "name": name, "threads": 2, "flops": 1e6, "failures": {}, "best_peer": "torch",
        "times": {"fastnn": ours, "torch": theirs}, "ratio_min": ratio, "ratio_median": ratio,
        "gflops": 1.0, "share_of_peak": 0.5,
    }  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The page's folder."""
    root = tmp_path_factory.mktemp("small")
    environment = {
        **os.environ,
        "HOME": str(root),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PYTHONPATH": os.pathsep.join([str(root / "path"), *filter(None, sys.path)]),
        **{f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    run = functools.partial(subprocess.run, check=True, env=environment, capture_output=True, text=True, timeout=300)
    repo, suite = root / "repo", root / "repo" / "suite"
    (suite / "benchmarks").mkdir(parents=True)
    (root / "path").mkdir()
    (root / "path" / "asv_bench").symlink_to(BENCH, target_is_directory=True)
    (suite / "asv.conf.json").write_text(json.dumps(CONF))
    (suite / "benchmarks" / "__init__.py").touch()
    (suite / "benchmarks" / "speed.py").write_text(SUITE)
    run(["git", "init", "-q", "-b", "main", "."], cwd=repo)
    asv = [sys.executable, "-m", "asv"]
    run([*asv, "machine", "--yes"], cwd=suite)
    for commit in range(8):
        seconds = 1.0 + 0.001 * (commit % 3) + (commit >= 4)
        (suite / "benchmarks" / "figure").write_text(str(seconds))
        date = {"GIT_COMMITTER_DATE": f"2026-01-0{commit + 1}T12:00:00", "GIT_AUTHOR_DATE": "2026-01-01T12:00:00"}
        run(["git", "add", "."], cwd=repo)
        run(["git", "commit", "-q", "-m", f"commit {commit}"], cwd=repo, env={**environment, **date})
        head = run(["git", "rev-parse", "HEAD"], cwd=repo).stdout.strip()
        chosen = ["--quick", "--bench", "track_seconds", "-E", f"existing:{sys.executable}"]
        run([*asv, "run", *chosen, "--set-commit-hash", head], cwd=suite)
    peers = root / "peers.json"
    rows = [result("train LeNet-5, batch 64", 3.0), result("train slow, batch 1", 0.5)]
    facts = {"machine": "a machine", "date": "2026-01-01", "versions": {"torch": "torch 2.13"}, "left_out": {}}
    peers.write_text(json.dumps({**facts, "rows": rows}))
    built = subprocess.run(
        [sys.executable, "-m", "asv_bench.dashboard", "--suite", suite, "--html", root / "html", "--peers", peers],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if "npm could not fetch" in built.stderr:
        pytest.skip(f"npm has no network: {built.stderr.strip()}")
    assert built.returncode == 0, built.stderr
    return root / "html"


@pytest.fixture(scope="module")
def address(published):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(published))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    local_alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", local_alone):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.implicitly_wait(20)
    try:
        yield driver
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        driver.quit()


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def wait_for(browser, selector, text):
    """Until the page, which asv's scripts build and rebuild as files arrive, shows this text there."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    def shown(browser):
        return any(text in element.text for element in find(browser, selector))

    WebDriverWait(browser, 20, ignored_exceptions=[StaleElementReferenceException]).until(shown)


def test_the_front_page_shows_all_rows_and_tints_those_behind(browser, address):
    browser.get(address)
    assert [row.get_attribute("class") for row in find(browser, "#peers tbody tr")] == ["ahead", "behind"]
    assert "0.50" in find(browser, "#peers tr.behind")[0].text


def test_the_front_page_leads_to_the_grid_and_the_grid_back(browser, address):
    browser.get(address)
    find(browser, "nav a")[0].click()
    wait_for(browser, "div.benchmark-text", "track_seconds")
    assert len(find(browser, "div.benchmark-text")) == 1, "a benchmark that was never run has no graph"
    find(browser, "#project-name")[0].click()
    browser.switch_to.window(browser.window_handles[-1])
    assert find(browser, "#peers")


def test_a_graph_opens_with_a_point_for_each_commit(browser, address):
    browser.get(address + "history/index.html#speed.track_seconds")
    assert find(browser, "canvas.flot-base")
    points = "return $('#main-graph').data('plot').getData().map(line => line.data.length)"
    assert 8 in browser.execute_script(points)
    assert not any(message.is_displayed() for message in find(browser, "#error-message"))


def test_the_slowdown_is_among_the_regressions(browser, address):
    browser.get(address + "history/index.html#/regressions")
    wait_for(browser, "#regressions-body table tbody tr", "track_seconds")


def test_the_page_loads_nothing_from_elsewhere(published):
    text = (published / "history" / "index.html").read_text()
    assert "vendor/jquery/dist/jquery.min.js" in text
    assert 'src="https://' not in text
    assert "integrity" not in text
