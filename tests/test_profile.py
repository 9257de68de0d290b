"""Profiles: what they count agrees with what is known, and with the clock."""

import itertools
import json

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.lowering.roofline import _best, roofline

SIZES = (64, 128, 10)
BATCH = 32


@pytest.fixture
def step():
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, 64), dtype=np.float32), rng.integers(0, 10, BATCH)


@pytest.fixture
def profile(step, batch):
    with fn.threads(1):
        return step.plan(*batch).profile(*batch, repeats=5)


def test_products_have_the_flops_of_their_sizes(profile):
    flops = sorted(op.flops for op in profile.ops if op.kernel == "gemm")
    first, second = 2 * BATCH * 64 * 128, 2 * BATCH * 128 * 10
    assert flops == sorted([first, first, second, second, second])  # no gradient for the data


def test_a_smaller_batch_makes_fewer_flops(step, batch):
    x, y = batch
    part = x[: BATCH // 2], y[: BATCH // 2]
    whole, half = step.plan(x, y).profile(x, y, repeats=1), step.plan(*part).profile(*part, repeats=1)
    assert step.plan(x, y) is step.plan(*part)
    assert sum(op.flops for op in whole.ops) == 2 * sum(op.flops for op in half.ops)
    assert sum(op.bytes for op in whole.ops) > sum(op.bytes for op in half.ops)


def test_a_convolution_is_counted_once_whatever_it_is_cut_into():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1), nn.Flatten())
    step = fn.TrainStep(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    x, y = np.ones((2, 3, 10, 10), np.float32), np.zeros((2, 400), np.float32)
    profile = step.plan(x, y).profile(x, y, repeats=1)
    first, second = (2 * 2 * 100 * 9 * a * b for a, b in ((3, 8), (8, 4)))
    assert sum(op.flops for op in profile.ops if op.kernel.startswith("conv2d")) == 2 * first + 3 * second


def test_all_work_is_within_the_time_that_passed(step, batch):
    for threads in (1, 2):
        with fn.threads(threads):
            profile = step.plan(*batch).profile(*batch, repeats=5)
        # The clocks that time chunks and runs may differ in their last digits.
        assert 0 < profile.busy <= profile.wall * threads * 1.0001
        assert 0 <= profile.idle < 1
        assert sum(profile.by_kernel().values()) == pytest.approx(profile.busy)


def test_a_step_that_is_profiled_trains(step, batch):
    before = step(*batch)
    step.plan(*batch).profile(*batch, repeats=10)
    assert step(*batch) < before


def test_the_table_names_every_op_and_the_peak(profile):
    text = str(profile)
    assert text.count("matmul") == 5
    assert "of peak" in text
    assert f"{profile.roofline.flops / 1e9:.0f} GF/s" in text


def test_a_trace_has_an_event_for_each_chunk_of_the_first_runs(profile, tmp_path):
    path = tmp_path / "trace.json"
    profile.save_trace(path)
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
    for index, op in enumerate(profile.ops):
        mine = [e for e in events if e["args"]["op"] == index]
        assert len(mine) % 3 == 0
        assert mine, op
        assert all(e["name"] == op.name and e["dur"] >= 0 for e in mine)
    assert min(e["ts"] for e in events) == 0


def test_chunks_of_one_thread_do_not_overlap_in_a_trace():
    x = np.ones((512, 512), np.float32)
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512)).eval()
    with fn.threads(2):
        events = model.plan(x).profile(x, repeats=3).trace()["traceEvents"]
    for thread in (0, 1):
        mine = sorted((e["ts"], e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == thread)
        for (start, length), (following, _) in itertools.pairwise(mine):
            assert start + length <= following + 1e-3


def test_threads_that_never_begin_to_measure_are_not_waited_for(monkeypatch):
    monkeypatch.setattr("_thread.start_new_thread", lambda *_: None)
    monkeypatch.setattr("fastnn.lowering.roofline._PATIENCE", 0.01)
    with pytest.raises(MemoryError, match="2 threads are to measure the machine"):
        _best([lambda: 1.0, lambda: 1.0])


def test_the_roofline_is_measured_once_for_a_number_of_threads():
    roof = roofline(1)
    assert roofline(1) is roof
    assert roof.flops > 1e8
    assert roof.bytes > 1e8


@pytest.mark.parametrize("repeats", [0, -1])
def test_no_runs_are_refused(step, batch, repeats):
    with pytest.raises(ValueError, match="repeats must be an int of at least 1, got"):
        step.plan(*batch).profile(*batch, repeats=repeats)


def test_what_does_not_fit_is_refused(step, batch):
    plan = step.plan(*batch)
    with pytest.raises(TypeError, match="repeats must be an int"):
        plan.profile(*batch, repeats=1.5)
    with pytest.raises(TypeError, match="profile takes the arrays of a call, input, target, and got 1"):
        plan.profile(batch[0])


def test_the_picture_shows_each_op_that_matters(profile):
    pytest.importorskip("matplotlib").use("Agg")
    from fastnn.plotting import plot_profile, pyplot

    figure = plot_profile(profile)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    shown = [op for op in profile.ops if op.busy >= 0.01 * profile.busy]
    assert len(labels) == len(shown) + (len(shown) < len(profile.ops))
    assert all(label.startswith(op.name) for label, op in zip(labels, shown, strict=False))
    pyplot().close(figure)
    with pytest.raises(TypeError, match="profile must be a Profile"):
        plot_profile("profile")


def test_a_prompt_and_a_notebook_show_profiles_and_plans_as_print_does(profile, step, batch):
    assert repr(profile) == str(profile)
    plan = step.plan(*batch)
    assert repr(plan.explain()) == str(plan.explain())


def test_a_plan_shows_its_inputs_and_its_size(step, batch):
    plan = step.plan(*batch)
    *_, last = plan.explain().splitlines()
    phases, ops, arena, most = last.split(", ")
    assert repr(plan) == f"Program(input (N, 64), target (N,): {ops} in {phases}, {arena}, {most})"
