"""What native ops take, by name."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn
from fastnn.graph import Graph
from fastnn.lowering.builder import Builder
from fastnn.lowering.signature import ANY, signature
from fastnn_ext import runtime


@pytest.mark.parametrize("kernel", runtime.registered_ops())
def test_each_op_names_all_that_it_takes_once(kernel):
    form = signature(kernel)
    parameters = (*form.outputs, *form.inputs, *form.dims, *form.scalars)
    names = [p.name for p in parameters]
    assert len(set(names)) == len(names)
    assert not {"flops", "dtype", "callback", "commit", "late"} & set(names)  # these are emit's own
    assert all(p.places == ANY or p.places >= 1 for p in parameters)
    assert len(form.outputs) + len(form.inputs) <= 16 and sum(p.places for p in form.dims) <= 40


@pytest.fixture
def emitter():
    return Builder(Graph(), set())


def test_an_op_that_lacks_something_is_not_made(emitter):
    y = emitter.temporary((4,), np.dtype(np.float32))
    with pytest.raises(TypeError, match="fill lacks n, value; it takes y, n, value"):
        emitter.emit("fill", y=y)
    assert not emitter.ops


def test_an_op_that_is_given_something_else_is_not_made(emitter):
    y = emitter.temporary((4,), np.dtype(np.float32))
    with pytest.raises(TypeError, match="fill has no value_; it takes y, n, value"):
        emitter.emit("fill", y=y, n=4, value=0.0, value_=1.0)
    with pytest.raises(TypeError, match="fill lacks value and has no values"):
        emitter.emit("fill", y=y, n=4, values=1.0)


def test_no_more_places_are_taken_than_there_are(emitter):
    x, y = (emitter.temporary((4,), np.dtype(np.float32)) for _ in "xy")
    with pytest.raises(ValueError, match="shape takes 8 places, got 9"):
        emitter.emit("copy", y=y, x=x, ndim=9, shape=[1] * 9, y_strides=[1], x_strides=[1])


def test_what_is_absent_leaves_its_place_empty(emitter):
    a, b, c = (emitter.temporary((2, 2), np.dtype(np.float32)) for _ in "abc")
    sizes = dict.fromkeys("batch m n k a_row a_col a_batch b_row b_col b_batch c_row c_batch".split(), 1)
    emitter.emit("gemm", c=c, a=a, b=b, **sizes, act=-1, act_grad=-1, alpha=0.5, beta=0.0)
    (op,) = emitter.ops
    assert op.names == ["c", "partial", "a", "b", "bias", "saved", "panels"]
    assert [buffer is None for buffer in op.buffers] == [False, True, False, False, True, True, True]
    assert op.dims == [1] * 12 + [-1, -1]
    assert op.scalars == [0.5, 0.0]
    emitter.emit("copy", y=c, x=a, ndim=1, shape=[4], y_strides=[1], x_strides=[1])
    assert emitter.ops[-1].dims == [1, 4, *[0] * 7, 1, *[0] * 7, 1, *[0] * 7, 0, 0]  # y_at and x_at are optional


def test_explain_names_the_operands():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    text = model.plan(np.zeros((5, 3), np.float32)).explain()
    assert "a (N, 3), b (3, 4), bias (4,) -> c (N, 4)" in text


def test_the_work_of_a_norm_is_counted_once():
    model = nn.BatchNorm1d(8)
    step = fn.TrainStep(model, nn.MSELoss(), fn.optim.SGD(model.parameters(), lr=0.1))
    x = np.ones((16, 8), np.float32)
    flops = {}
    for phase in step.plan(x, x).phases:
        for op in phase:
            flops[op.kernel] = op.flops
    forward = [kernel for kernel in flops if kernel.startswith("batch_norm") and "grad" not in kernel]
    backward = [kernel for kernel in flops if kernel.startswith("batch_norm_grad")]
    assert sum(flops[kernel] for kernel in forward) == 5 * 16 * 8
    assert sum(flops[kernel] for kernel in backward) in (4 * 16 * 8, 9 * 16 * 8)
