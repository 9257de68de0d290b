"""The laws that a training run obeys: same bits, thread settings, nothing half-updated.

Forks, Ctrl-C and failing memory: test_forks.py, test_signals.py, test_faults.py.
"""

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn_ext import runtime

from optimizers import CLASSES, every_kind
from optimizers import make as make_optimizer

STEPS = 200


def make(optimizer="Adam", dropout=0.2, dtype=np.float32, width=96):
    fn.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 48), nn.Tanh(), nn.Linear(48, 10)
    ).to(dtype)
    opt = getattr(optim, optimizer)(model.parameters(), **CLASSES[optimizer])
    return model, opt, fn.TrainStep(model, nn.CrossEntropyLoss(), opt)


def batches(count, batch=250, dtype=np.float32):
    x, y = fn.data.digits("train", flatten=True)
    x = x.astype(dtype)
    loader = fn.data.DataLoader((x, y), batch_size=batch, shuffle=True, seed=1)
    made = 0
    while made < count:
        for xb, yb in loader:
            if made == count:
                return
            made += 1
            yield xb, yb


def digest(model):
    h = hashlib.sha256()
    for name, array in sorted(model.state_dict().items()):
        h.update(name.encode())
        h.update(array.tobytes())
    return h.hexdigest()


def trained(threads, optimizer, steps=STEPS):
    with fn.threads(threads):
        model, _, step = make(optimizer)
        losses = [step(xb, yb) for xb, yb in batches(steps)]
    return digest(model), losses


@pytest.mark.parametrize("optimizer", CLASSES)
def test_weights_are_the_same_bits_for_any_number_of_threads_and_any_run(optimizer):
    first = trained(1, optimizer)
    assert first[1][-1] < first[1][0] / 2
    for threads in (1, 2, 3, 8):
        assert trained(threads, optimizer) == first


@pytest.mark.parametrize("optimizer", CLASSES)
def test_a_run_stopped_at_any_step_and_resumed_ends_with_the_same_bits(tmp_path, optimizer):
    total = 24
    data = list(batches(total, 100))
    model, _, step = make(optimizer)
    for xb, yb in data:
        step(xb, yb)
    expected = digest(model)
    for stop in range(total):
        model, opt, step = make(optimizer)
        for xb, yb in data[:stop]:
            step(xb, yb)
        path = tmp_path / f"{stop}.safetensors"
        fn.save_checkpoint(path, model, opt, step=stop)
        model, opt, step = make(optimizer)
        fn.manual_seed(99)
        fn.load_checkpoint(path, model, opt)
        for xb, yb in data[stop:]:
            step(xb, yb)
        assert digest(model) == expected, f"stopped after {stop} steps"


def test_a_step_in_pieces_gives_the_bits_of_a_step_in_one():
    data = list(batches(10))
    model, _, step = make(dropout=0.2)
    for xb, yb in data:
        step(xb, yb)
    whole = digest(model)
    model, opt, _ = make(dropout=0.2)
    loss_fn = nn.CrossEntropyLoss()
    for xb, yb in data:
        out = model.forward_train(xb)
        _, dy = loss_fn.value_and_grad(out, yb)
        opt.zero_grad()
        model.backward(dy)
        opt.step()
    np.testing.assert_equal(digest(model), whole)


def test_gradients_add_up_until_there_are_none():
    (xb, yb), *_ = batches(1)
    model, opt, _ = make(dropout=0.0)
    loss_fn = nn.CrossEntropyLoss()

    def backward():
        _, dy = loss_fn.value_and_grad(model.forward_train(xb), yb)
        model.backward(dy)
        return [p.grad.copy() for p in model.parameters()]

    once, twice = backward(), backward()
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_allclose(2 * a, b, rtol=1e-6)
    opt.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    np.testing.assert_array_equal(backward()[0], once[0])


def threads_in(code, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | environment
    code = "import fastnn as fn\n" + textwrap.dedent(code)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_omp_num_threads_is_obeyed():
    assert threads_in("print(fn.get_num_threads())", OMP_NUM_THREADS="3") == ["3"]
    assert threads_in("print(fn.get_num_threads())", OMP_NUM_THREADS="1") == ["1"]


def test_the_default_is_at_most_the_processors_this_process_may_use():
    available = len(os.sched_getaffinity(0))
    assert 1 <= int(threads_in("print(fn.get_num_threads())")[0]) <= available


def test_threadpool_limits_takes_effect_at_call_time_and_ends():
    lines = threads_in(
        """
        from threadpoolctl import threadpool_limits
        fn.set_num_threads(3)
        with threadpool_limits(1):
            print(fn.get_num_threads())
        print(fn.get_num_threads())
        with threadpool_limits(2, user_api="openmp"):
            print(fn.get_num_threads())
        """
    )
    assert lines == ["1", "3", "2"]


def test_a_setting_reaches_other_python_threads():
    lines = threads_in(
        """
        import threading
        fn.set_num_threads(3)
        t = threading.Thread(target=lambda: print(fn.get_num_threads()))
        t.start(); t.join()
        """
    )
    assert lines == ["3"]


def test_two_python_threads_train_two_models_at_once():
    # Dropout draws from the one default generator, so these models have none.
    results = []
    data = list(batches(40))
    _model, _, step = make(dropout=0.0)
    alone = [step(xb, yb) for xb, yb in data]
    models = [make(dropout=0.0) for _ in range(3)]

    def run(entry):
        results.append([entry[2](xb, yb) for xb, yb in data])

    workers = [threading.Thread(target=run, args=(m,)) for m in models]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert results == [alone] * 3


def trained_lenet(state, batch=32, steps=3):
    """LeNet-5 trained from here on: its digest, losses and outputs."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((batch, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, batch)
    model = fn.models.lenet5()
    model.load_state_dict(state)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=1e-3))
    losses = [step(x, y) for _ in range(steps)]
    return digest(model), losses, model(x).tobytes()


@pytest.mark.parametrize("count", [2, 4, 8])
def test_python_threads_with_teams_of_their_own_train_lenet_to_the_same_bits(count):
    state = fn.models.lenet5().state_dict()
    with fn.threads(1):
        alone = trained_lenet(state)
    results = []
    with fn.threads(count):
        workers = [threading.Thread(target=lambda: results.append(trained_lenet(state))) for _ in range(3)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
    assert results == [alone] * 3


EXTRAS = {"clip_grad_norm": 1.0, "clip_grad_value": 0.1, "grad_noise": 1e-4, "l1_penalty": 1e-5}


@pytest.mark.parametrize("extras", [EXTRAS, {**EXTRAS, "averaging": 0.9}, {"averaging": "uniform", "max_norm": 0.5}])
@pytest.mark.parametrize("optimizer", CLASSES)
def test_nothing_is_allocated_after_the_second_step(optimizer, extras):
    _model, opt, step = make(optimizer, width=512)
    opt.param_groups[0].update(extras)
    data = list(batches(2, 512))
    for xb, yb in data:
        step(xb, yb)
    tracemalloc.start()
    try:
        for _ in range(3):
            step(*data[0])
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        runtime.fail_allocation(10**6)
        for _ in range(20):
            step(*data[1])
        current, peak = tracemalloc.get_traced_memory()
    finally:
        left = runtime.fail_allocation(0)
        tracemalloc.stop()
    assert left == 10**6  # native allocations would have been counted down from it
    # Python itself makes tuples and floats; an activation of this model would be 1 MB.
    assert peak - before < 20_000
    assert current - before < 2_000


#: How many running arrays each algorithm has of its paper.
STATES = {
    "sgd": 0, "decay": 0, "momentum": 1, "nesterov": 1, "dampening": 1, "adagrad": 1, "adadelta": 2, "rmsprop": 1,
    "centered": 3, "rprop": 2, "rprop-": 2, "rprop+": 2, "adam": 2, "amsgrad": 3, "uncorrected": 2, "adamw": 2,
    "adamax": 2, "nadam": 2, "nadamw": 2, "radam": 2, "radamw": 2, "lion": 1,
}  # fmt: skip


@pytest.mark.parametrize("averaging", [None, 0.9])
@every_kind
def test_an_update_is_one_sweep_that_moves_what_its_algorithm_needs(kind, averaging):
    model = nn.Sequential(nn.Linear(64, 50), nn.Tanh(), nn.Linear(50, 10))
    opt = make_optimizer(kind, model.parameters(), averaging=averaging)
    step = fn.TrainStep(model, nn.MSELoss(), opt)
    x, y = np.zeros((8, 64), np.float32), np.zeros((8, 10), np.float32)
    commits = [op for phase in step.plan(x, y).phases for op in phase if op.commit]
    size = opt.param_groups[0].size * 4
    (sweep,) = (op for op in commits if op.kernel == opt.kernel)
    assert {op.kernel for op in commits} <= {opt.kernel, "tick", f"{opt.kernel}_count"}
    large = [[b for b in buffers if b.nbytes == size] for buffers in (sweep.inputs, sweep.outputs)]
    # The parameter is read, too: so it is read and written, the gradient read, each state read and written.
    assert 1 + len(large[0]) + len(large[1]) == 3 + 2 * STATES[kind] + 2 * (averaging is not None)


def test_floating_point_state_is_left_alone():
    _, _, step = make()
    tiny = np.float32(1e-40)
    for xb, yb in batches(2, 500):
        step(xb, yb)
        assert tiny * np.float32(0.5) != 0.0, "a native call left flush-to-zero on"


def test_a_wrong_batch_changes_nothing():
    model, opt, step = make(dropout=0.0)
    (xb, yb), *_ = batches(1)
    step(xb, yb)
    before, steps = digest(model), opt.param_groups[0].steps
    for bad in (
        (xb[:, :63], yb), (xb, yb[:-1]), (xb.astype(np.float64), yb), (xb, yb + 10), (xb, -1 - yb), (xb[:0], yb[:0]),
        (xb.astype(np.float16), yb), (xb, yb.astype(np.float32)), (xb,), (xb, yb, yb), (None, yb), ("x", yb),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            step(*bad)
        assert digest(model) == before
        assert opt.param_groups[0].steps == steps
    step(xb, yb)
    assert digest(model) != before


def test_time_between_steps_does_not_matter():
    """A team that has gone to sleep wakes up again."""
    _, _, step = make(width=512)
    data = next(iter(batches(1, 512)))
    for pause in (0, 0.05, 0.3):
        time.sleep(pause)
        assert np.isfinite(step(*data))
