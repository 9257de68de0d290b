"""The comparison with peers: its networks are those that they are named after, and rows come out."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optimizers import CLASSES as optimizer_classes

BENCH = Path(__file__).resolve().parent.parent / "asv_bench"


@pytest.fixture
def bench_path(tmp_path, monkeypatch):
    """A folder with asv_bench alone, so that fastnn is the one under test, wherever it lies."""
    (tmp_path / "asv_bench").symlink_to(BENCH, target_is_directory=True)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def threads_after():
    """Leaves the number of threads as it was."""
    import fastnn as fn

    threads = fn.get_num_threads()
    yield
    fn.set_num_threads(threads)


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


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_peak_memory_is_that_of_a_process_that_trained(bench_path, monkeypatch):
    from asv_bench.peers import memory

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(bench_path), *filter(None, sys.path)]))
    out = bench_path / "memory.json"
    rows = ["MLP 4-64-64-2", "LeNet-5, batch 256"]
    assert memory.main(["--only", *rows, "--contenders", "fastnn", "--json", str(out)]) == 0
    small, large = json.loads(out.read_text())
    assert large["peak"] - large["imported"] > small["peak"] - small["imported"] > 0
    assert large["peak"] - large["imported"] > 2**20  # its arena alone


def test_a_neighbour_leaves_a_part_of_the_throughput(bench_path, monkeypatch):
    from asv_bench import neighbour

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(bench_path), *filter(None, sys.path)]))
    (r,) = neighbour.measure("train MLP 4-64-64-2, batch 32", ["fastnn"], 1, turn=0.02, rounds=2, core=None)
    assert r["left"] == r["quiet"] / r["busy"] > 0


def test_the_neighbour_is_stopped_until_it_is_told_to_run(bench_path):
    from asv_bench.neighbour import Neighbour

    def seconds():
        fields = Path(f"/proc/{other.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")

    if not Path("/proc").exists():
        pytest.skip("needs /proc")
    other = Neighbour(None)
    try:
        time.sleep(0.1)
        before = seconds()
        time.sleep(0.2)
        assert seconds() == before
        other.run()
        deadline = time.monotonic() + 20
        while seconds() < before + 0.05:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        other.close()


def test_the_cost_of_the_law_is_that_of_more_pieces(bench_path, threads_after):
    from asv_bench import same_bits
    from asv_bench.peers import networks
    from fastnn_ext import conv2d

    sizes = dict(zip(conv2d.GEOMETRY.split(), (64, 28, 28, 1, 28, 28, 6, 5, 5, 1, 1, 2, 2, 1, 1, 1), strict=True))
    pieces, elements = conv2d.weight_grad_pieces(**sizes)
    assert pieces > 2
    with same_bits.one_piece_a_thread(2):
        assert conv2d.weight_grad_pieces(**sizes) == (2, elements)
    assert conv2d.weight_grad_pieces(**sizes) == (pieces, elements)
    r = same_bits.measure(networks.lenet5(), 64, 1, seconds=0.01)
    assert r["cost_min"] == r["law_min"] / r["free_min"] - 1
    assert 0 < r["combining"] < 1


def test_in_an_unbuilt_checkout_the_installed_fastnn_is_measured(tmp_path):
    """The README's command after `pip install .`: `python -m` puts the checkout first on the path."""
    for package in ("fastnn", "fastnn_ext"):
        source = Path(importlib.import_module(package).__file__).parent
        shutil.copytree(source, tmp_path / package, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    (tmp_path / "asv_bench").symlink_to(BENCH, target_is_directory=True)
    options = ["--contenders", "fastnn", "--rows", "train", "--only", "784-512-256-10, batch 32", "--quick"]
    done = peers(tmp_path, *options, "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "train MLP" in done.stdout


def test_the_benchmark_prints_a_rate_for_each_optimizer(bench_path, monkeypatch, capsys):
    from asv_bench import optimizers

    monkeypatch.setattr("sys.argv", ["optimizers", "--parameters", "100", "--repeats", "1"])
    optimizers.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line[:30].strip() for line in lines[3:]] == [*optimizers.KINDS]
    assert all("GB/s" in line for line in lines[3:])
    assert {name for name, *_ in optimizers.KINDS.values()} == optimizer_classes.keys()
