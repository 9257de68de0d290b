"""The executor: batches, refusals, phases on teams, locks, faults."""

import copy
import threading

import numpy as np
import pytest

import fastnn_ext.activation
from fastnn_ext import runtime
from fastnn_ext.plan import Plan, Receipt

RELU = fastnn_ext.activation.ACTIVATIONS.index("relu")
COLUMNS = 257


def relu(output, source, per_sample=COLUMNS):
    return ("activation", 0, [output, source], [(0, per_sample), RELU], [0.0], None)


def chain(length, batch):
    """x -> relu -> relu ... through two arena buffers, one phase each."""
    size = 4 * COLUMNS * batch + 64
    places = [("arena", 0, 0), ("arena", 0, size // 64 * 64 + 64)]
    ops, source = [], ("input", 0, 0)
    for i in range(length - 1):
        ops.append(relu(places[i % 2], source))
        source = places[i % 2]
    ops.append(relu(("output", 0, 0), source))
    phases = [(i, 1) for i in range(length)]
    shape = [(0, 1), COLUMNS]
    return Plan(ops, phases, length, 3 * size, [], [("x", 0, shape)], [(0, shape)], batch)


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((300, COLUMNS)).astype(np.float32)


def test_a_plan_serves_every_batch_up_to_its_largest(x):
    plan = chain(3, 300)
    for n in (300, 1, 299, 7, 300):
        (y,) = plan.run(x[:n])
        np.testing.assert_array_equal(y, np.maximum(x[:n], 0))


def test_a_batch_larger_than_the_plan_is_refused(x):
    with pytest.raises(ValueError, match="batch of 300 exceeds"):
        chain(1, 10).run(x)


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        (np.zeros((3, COLUMNS)), TypeError, "x has dtype float64; expected float32"),
        (np.zeros((3, COLUMNS - 1), np.float32), ValueError, r"x has shape \(3, 256\); expected \(N, 257\)"),
        (np.zeros(COLUMNS, np.float32), ValueError, "x has shape"),
        (np.zeros((0, COLUMNS), np.float32), ValueError, "x has shape"),
        (np.zeros((3, COLUMNS), ">f4"), TypeError, "x has dtype"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_by_name(argument, error, message):
    plan = chain(2, 10)
    with pytest.raises(error, match=message):
        plan.run(argument)
    assert plan.try_run(argument) is None


def test_the_wrong_number_of_arguments_is_refused():
    with pytest.raises(TypeError, match="expected 1 arrays, got 2"):
        chain(1, 4).run(None, None)


def test_labels_outside_the_classes_are_refused_before_anything_runs():
    copy = ("activation", 0, [("output", 0, 0), ("input", 0, 0)], [(0, 4), RELU], [0.0], None)
    plan = Plan(
        [copy], [(0, 1)], 1, 64, [],
        [("x", 0, [(0, 1), 4]), ("target", 2, [(0, 1)], 3, -100)], [(0, [(0, 1), 4])], 5,
    )  # fmt: skip
    x = np.ones((2, 4), np.float32)
    plan.run(x, np.array([2, -100]))
    with pytest.raises(ValueError, match=r"target\[1\] is 3; labels must lie in 0 ... 2"):
        plan.run(x, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"target has shape \(3,\); expected \(N,\) with N = 2"):
        plan.run(x, np.array([0, 1, 2]))


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_phases_on_any_number_of_threads_give_the_same_result(x, count):
    before = runtime.get_num_threads()
    runtime.set_num_threads(count)
    try:
        plan = chain(40, 300)
        for _ in range(25):
            (y,) = plan.run(x)
            np.testing.assert_array_equal(y, np.maximum(x, 0))
    finally:
        runtime.set_num_threads(before)


def test_independent_ops_of_one_phase_share_their_chunks(x):
    batch = len(x)
    ops = [relu(("output", k, 0), ("input", 0, 0)) for k in range(5)]
    shape = [(0, 1), COLUMNS]
    plan = Plan(ops, [(0, 5)], 1, 64, [], [("x", 0, shape)], [(0, shape)] * 5, batch)
    for y in plan.run(x):
        np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_two_python_threads_may_run_one_plan(x):
    plan = chain(6, 300)
    wrong = []

    def work():
        for _ in range(50):
            if not np.array_equal(plan.run(x)[0], np.maximum(x, 0)):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_without_memory_a_run_raises_and_the_plan_goes_on_later(x):
    plan = chain(2, 300)
    for nth in range(1, 4):
        runtime.fail_allocation(nth)
        try:
            try:
                (y,) = chain(2, 300).run(x)
            except MemoryError:
                pass
            else:
                np.testing.assert_array_equal(y, np.maximum(x, 0))
            runtime.fail_allocation(nth)
            try:
                plan.run(x)
            except MemoryError:
                pass
        finally:
            runtime.fail_allocation(0)
        np.testing.assert_array_equal(plan.run(x)[0], np.maximum(x, 0))


def test_an_unknown_op_is_refused():
    with pytest.raises(LookupError, match="no driver has registered the op 'nonsense'"):
        Plan([("nonsense", 0, [], [], [], None)], [(0, 1)], 1, 64, [], [], [], 1)


def test_profiling_counts_every_op(x):
    plan = chain(3, 300)
    plan.start_profile()
    plan.run(x)
    seconds = plan.stop_profile()
    assert seconds.shape[0] == 3
    assert (seconds.sum(axis=1) > 0).all()


def test_a_run_that_was_made_leaves_its_values_in_a_receipt(x):
    plan, receipt = chain(2, 300), Receipt()
    with pytest.raises(RuntimeError, match="no run"):
        receipt.result()
    plan.leave_in(receipt)
    (y,) = plan.run(x[:5])
    assert receipt.runs == 1 and receipt.result() is y
    plan.leave_in(receipt, len)
    with pytest.raises(ValueError):
        plan.run(x[:0])
    assert receipt.runs == 1 and receipt.result() is y
    plan.run(x)
    assert receipt.runs == 2 and receipt.result() == 1
    for wrong in (None, 5):
        with pytest.raises(TypeError):
            plan.leave_in(wrong)


def test_a_copied_receipt_counts_on_without_values(x):
    plan, receipt = chain(1, 300), Receipt()
    plan.leave_in(receipt)
    plan.run(x)
    other = copy.deepcopy(receipt)
    assert other.runs == 1
    with pytest.raises(RuntimeError, match="no run"):
        other.result()
