"""The comparison with peers: its networks are those that they are named after, and rows come out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "asv_bench"


@pytest.fixture
def bench_path(tmp_path, monkeypatch):
    """A folder with asv_bench alone, so that fastnn is the one under test, wherever it lies."""
    (tmp_path / "asv_bench").symlink_to(BENCH, target_is_directory=True)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def peers(path, *options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "asv_bench.peers", *options]
    return subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, timeout=120)


def parameters(network):
    from asv_bench.peers import networks

    total = 0
    for layer, _ in networks.walk(network.layers, network.input):
        match layer:
            case networks.Conv(fan_in, fan_out, kernel, _, _, bias):
                total += fan_out * (fan_in * kernel**2 + bias)
            case networks.Norm(channels):
                total += 2 * channels
            case networks.Linear(fan_in, fan_out):
                total += fan_out * (fan_in + 1)
    return total


def test_the_networks_have_the_parameters_of_their_papers(bench_path):
    from asv_bench.peers import networks

    assert parameters(networks.lenet5()) == 61_706
    assert parameters(networks.resnet18()) == 11_689_512
    assert parameters(networks.alexnet()) == 61_100_840
    assert round(parameters(networks.resnet20()) / 1e6, 2) == 0.27


def test_resnet18_takes_the_flops_that_are_known_for_it(bench_path):
    from asv_bench.peers import networks

    assert round(networks.resnet18().forward_flops() / 2e9, 2) == 1.81  # multiply-adds


def test_every_row_can_be_named_and_has_work_in_it(bench_path):
    from asv_bench.peers import rows

    names = [row.name for row in rows.all_rows()]
    assert len(set(names)) == len(names)
    assert all(row.flops > 0 for row in rows.all_rows())


def test_a_row_is_timed_next_to_a_peer_and_saved(bench_path):
    out = bench_path / "out.json"
    only = ["--only", "gemm square 64", "--contenders", "fastnn", "openblas", "--threads", "1"]
    run = peers(bench_path, "--quick", *only, "--json", str(out))
    assert run.returncode == 0, run.stderr
    (row,) = json.loads(out.read_text())["rows"]
    assert not row["failures"]
    assert set(row["times"]) == {"fastnn", "openblas"}
    times = {name: t["min"] for name, t in row["times"].items()}
    assert row["ratio_min"] == times["openblas"] / times["fastnn"]
    assert "gemm square 64" in run.stdout


def test_a_contender_that_fails_is_named_and_the_others_go_on(bench_path, monkeypatch):
    from asv_bench.peers import contenders, rows
    from asv_bench.peers.referee import Referee

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(bench_path), *filter(None, sys.path)]))
    monkeypatch.setattr(contenders, "offers", lambda name, row: True)
    with Referee(["fastnn", "openblas"], 1) as referee:
        timings, failures = referee.measure(rows.find("infer MLP 4-64-64-2, batch 1"), 0, rounds=1)
    assert set(timings) == {"fastnn"}
    assert "AssertionError" in failures["openblas"]


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_process_that_is_not_on_turn_takes_no_time(bench_path, monkeypatch):
    from asv_bench.peers import referee

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(bench_path), *filter(None, sys.path)]))
    with referee.Referee(["fastnn"], 1) as team:
        worker = team.workers["fastnn"] = referee.Worker("fastnn", 1)
        worker.ask(make="gemm square 64")
        state = Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    assert state == "T"
