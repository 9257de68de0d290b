"""fn.Function: operations written in NumPy take their place in a program."""

import threading

import numpy as np
import pytest

from fastnn import nn
from fastnn.functions import grad, trace, value_and_grad
from fastnn.nn import functional as F
from fastnn.nn.function import Function
from fastnn.seed import manual_seed
from fastnn.testing import gradcheck

X = np.random.default_rng(0).standard_normal((4, 3))


class Sine(Function):
    def forward(self, x):
        self.save_for_backward(x)
        return np.sin(x)

    def backward(self, dy):
        (x,) = self.saved
        return dy * np.cos(x)


class Scale(Function):
    """Keeps what it needs in an attribute; has a setting."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        self.x = x
        return self.factor * x * x

    def backward(self, dy):
        return 2 * self.factor * self.x * dy


class PolarToPlane(Function):
    """Two inputs, two outputs."""

    def forward(self, r, phi):
        self.save_for_backward(r, phi)
        return r * np.cos(phi), r * np.sin(phi)

    def backward(self, dx, dy):
        r, phi = self.saved
        return dx * np.cos(phi) + dy * np.sin(phi), r * (dy * np.cos(phi) - dx * np.sin(phi))

    def output_shape(self, r, phi):
        return r, phi


class Outer(Function):
    """(N, a), (N, b) -> (N, a, b)"""

    def forward(self, a, b):
        self.save_for_backward(a, b)
        return a[:, :, None] * b[:, None, :]

    def backward(self, dy):
        a, b = self.saved
        return (dy * b[:, None, :]).sum(2), (dy * a[:, :, None]).sum(1)

    def output_shape(self, a, b):
        return (a[0], a[1], b[1])


class Pick(Function):
    """Integer inputs pass through; they have no gradient."""

    def forward(self, x, index):
        self.form, self.index = x.shape, index
        return np.take_along_axis(x, index[:, None], 1)[:, 0]

    def backward(self, dy):
        dx = np.zeros(self.form, dy.dtype)
        np.put_along_axis(dx, self.index[:, None], dy[:, None], 1)
        return dx, None

    def output_shape(self, x, index):
        return x[:1]


class Net(nn.Module):
    def __init__(self, function=None):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 5), nn.Linear(5, 2)
        self.function = function or Sine()

    def forward(self, x):
        return self.fc2(self.function(self.fc1(x)))


def test_called_with_arrays_it_runs_at_once():
    np.testing.assert_array_equal(Sine()(X), np.sin(X))
    x, y = PolarToPlane()(X, X + 1)
    np.testing.assert_array_equal(x, X * np.cos(X + 1))
    np.testing.assert_array_equal(y, X * np.sin(X + 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inside_a_model_it_computes_on_the_models_dtype(dtype):
    model = Net().to(dtype)
    y = model(X.astype(dtype))
    a, b = model.fc1, model.fc2
    hidden = np.sin(X.astype(dtype) @ a.weight.data.T + a.bias.data)
    np.testing.assert_allclose(y, hidden @ b.weight.data.T + b.bias.data, rtol=1e-5)
    assert y.dtype == dtype


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (Sine(), (X,)),
        (Scale(0.7), (X,)),
        (PolarToPlane(), (X, X + 1)),
        (Outer(), (X, X[:, :2] + 1)),
        (Pick(), (X, np.array([0, 2, 1, 1]))),
        (lambda x: Sine()(Sine()(x)), (X,)),
        (lambda x: Sine()(x).sum(), (X,)),
    ],
)
def test_gradients_agree_with_central_differences(function, inputs):
    assert gradcheck(function, *inputs)
    assert gradcheck(Net(Scale(0.3)).double(), X)


def test_one_instance_in_two_places_keeps_what_each_saved():
    twice = Scale(1.0)
    assert gradcheck(lambda x: twice(x) + twice(twice(x)), X)


def test_a_gradient_that_reads_no_output_still_runs_after_the_forward():
    # The seed of a sum is a constant: nothing but the saved values ties backward to forward.
    dx = grad(lambda x: Sine()(x).sum())
    np.testing.assert_allclose(dx(X), np.cos(X))
    np.testing.assert_allclose(dx(2 * X), np.cos(2 * X))


def test_an_unused_output_has_a_zero_gradient_in_backward():
    seen = []

    class Watch(PolarToPlane):
        def backward(self, dx, dy):
            seen.append(dy)
            return super().backward(dx, dy)

    dr, dphi = grad(lambda r, phi: Watch()(r, phi)[0].sum())(X, X)
    np.testing.assert_allclose(dr, np.cos(X))
    np.testing.assert_allclose(dphi, -X * np.sin(X))
    np.testing.assert_array_equal(seen[0], np.zeros_like(X))


def test_none_from_backward_is_a_zero_gradient():
    class Blind(Sine):
        def backward(self, dy):
            return None

    _, dx = value_and_grad(lambda x: Blind()(x).sum() + x.sum())(X)
    np.testing.assert_array_equal(dx, np.ones_like(X))


def test_batches_of_more_than_one_run_one_program():
    model = Net().double()
    for n in (4, 2, 3):
        assert model(X[:n]).shape == (n, 2)
    assert model._programs["infer"].count() == 1


def test_forward_train_and_backward_in_pieces_meet():
    model, twin = Net().double(), Net().double()
    twin.load_state_dict(model.state_dict())

    def with_values(values):
        model.zero_grad()
        model.forward_train(values)
        model(np.ones((2, 3)))  # another run in between has a copy of its own
        model.backward(np.ones((len(values), 2)))
        return [p.grad.copy() for p in model.parameters()]

    first = with_values(X)
    with_values(X[:2])
    for again, before in zip(with_values(X), first, strict=True):
        np.testing.assert_array_equal(again, before)
    weights = [p.data for p in model.parameters()]
    hidden = X @ weights[0].T + weights[1]
    np.testing.assert_allclose(first[2], np.ones((4, 2)).T @ np.sin(hidden))
    np.testing.assert_allclose(first[0], ((np.ones((4, 2)) @ weights[2]) * np.cos(hidden)).T @ X)


def test_what_python_keeps_is_its_own():
    kept = []

    class Keeper(Sine):
        def forward(self, x):
            kept.append(x)
            return super().forward(x)

    f = trace(lambda x: Keeper()(x * 2.0) * 3.0)
    f(X)
    f(X + 1)
    np.testing.assert_array_equal(kept[0], 2 * X)
    kept[0][...] = 0  # writable, and no longer of any importance
    np.testing.assert_allclose(f(X), 3 * np.sin(2 * X))


def test_a_returned_input_is_copied():
    class Same(Function):
        def forward(self, x):
            return x

        def backward(self, dy):
            return dy

    y = trace(lambda x: (Same()(x), x))(X)
    assert not np.shares_memory(y[0], X)
    np.testing.assert_array_equal(y[0], X)


def test_strided_results_and_numbers_are_taken():
    class Turned(Function):
        def forward(self, x):
            return x[::-1, ::-1]

    class Total(Function):
        def forward(self, x):
            return float(x.sum())

        def output_shape(self, x):
            return ()

    np.testing.assert_array_equal(Turned()(X), X[::-1, ::-1])
    assert Total()(X) == X.sum()


def test_attributes_set_by_forward_end_with_the_run_and_settings_are_read_at_each():
    scale = Scale(1.0)
    f = trace(scale)
    np.testing.assert_array_equal(f(X), X * X)
    assert not hasattr(scale, "x")
    scale.factor = 2.0
    np.testing.assert_array_equal(f(X), 2 * X * X)


# ---- exceptions ---------------------------------------------------------------------------------


class Trouble(Exception):
    pass


class Fails(Function):
    def __init__(self, where):
        self.where = where
        self.armed = [False]

    def forward(self, x):
        if self.armed[0] and self.where == "forward":
            raise Trouble("in forward")
        return x

    def backward(self, dy):
        if self.armed[0] and self.where == "backward":
            raise Trouble("in backward")
        return dy


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_exception_comes_out_unchanged_and_the_model_goes_on(where):
    model = Net(Fails(where)).double()
    before = model.state_dict()

    def run():
        model.zero_grad()
        y = model.forward_train(X)
        model.backward(np.ones((4, 2)))
        return y

    expected = run()
    model.function.armed[0] = True
    with pytest.raises(Trouble, match=f"in {where}") as caught:
        run()
    assert caught.traceback[-1].name == where
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    model.function.armed[0] = False
    np.testing.assert_array_equal(run(), expected)


def test_a_backward_that_fails_adds_to_no_gradient():
    model = Net(Fails("backward")).double()
    model.forward_train(X)
    model.backward(np.ones((4, 2)))
    before = [p.grad.copy() for p in model.parameters()]
    model.function.armed[0] = True
    model.forward_train(X)
    with pytest.raises(Trouble):
        model.backward(np.ones((4, 2)))
    for p, grad_before in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.grad, grad_before)


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_step_that_fails_updates_nothing(where, threads):
    from fastnn import optim
    from fastnn.train.step import TrainStep
    from fastnn_ext import runtime

    before_threads = runtime.get_num_threads()
    runtime.set_num_threads(threads)
    try:
        manual_seed(0)
        fails = Fails(where)
        model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 3))
        model.append(Net(fails))
        opt = optim.Adam(model.parameters())
        step = TrainStep(model, nn.MSELoss(), opt)
        x, target = np.ones((200, 300), np.float32), np.ones((200, 2), np.float32)
        first = step(x, target)
        before = model.state_dict()
        fails.armed[0] = True
        for _ in range(20):
            with pytest.raises(Trouble):
                step(x, target)
        assert opt.param_groups[0].steps == 1
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[name])
        fails.armed[0] = False
        assert step(x, target) < first
    finally:
        runtime.set_num_threads(before_threads)


def returning(value, shape=None):
    class Returns(Function):
        def forward(self, x):
            return value(x)

        def output_shape(self, x):
            return shape or x

    return Returns()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (
            returning(lambda x: x[:, :2]),
            ValueError,
            r"Returns.forward has shape \(4, 2\); expected \(4, 3\)",
        ),
        (returning(lambda x: x[0]), ValueError, r"shape \(3,\); expected \(4, 3\)"),
        (
            returning(lambda x: x.astype(np.float32)),
            TypeError,
            "has dtype float32; expected float64",
        ),
        (returning(lambda x: None), TypeError, "Returns.forward has dtype object"),
        (returning(lambda x: (x, x)), ValueError, "returned 2 arrays; expected 1"),
        (returning(lambda x: (x,), ((4, 3), (4, 3))), ValueError, "returned 1 arrays; expected 2"),
        (
            returning(lambda x: (x, x[0]), ((4, 3), (4, 3))),
            ValueError,
            r"forward: array 1 has shape \(3,\)",
        ),
        (returning(lambda x: x, "ab"), TypeError, "output_shape must return"),
        (returning(lambda x: x, (4, 0)), TypeError, "output_shape must return"),
        (returning(lambda x: x, ((4, 3), 5)), TypeError, "output_shape must return"),
        (Function(), NotImplementedError, "Function has no forward"),
    ],
)
def test_what_a_function_returns_is_checked(function, error, message):
    with pytest.raises(error, match=message):
        function(X)


def test_what_backward_returns_is_checked():
    class Wrong(Sine):
        def __init__(self, value):
            self.value = value

        def backward(self, dy):
            return self.value(dy)

    for value, error, message in [
        (lambda dy: dy[0], ValueError, r"Wrong.backward has shape \(3,\); expected \(4, 3\)"),
        (lambda dy: dy.astype(np.float32), TypeError, "Wrong.backward has dtype float32"),
        (lambda dy: (dy, dy), ValueError, "Wrong.backward returned 2 arrays; expected 1"),
    ]:
        with pytest.raises(error, match=message):
            grad(lambda x, value=value: Wrong(value)(x).sum())(X)


def test_a_function_without_backward_can_be_used_where_no_gradient_flows():
    class Forward(Function):
        def forward(self, x):
            return x + 1

    np.testing.assert_array_equal(Forward()(X), X + 1)
    with pytest.raises(NotImplementedError, match="Forward has no backward"):
        grad(lambda x: Forward()(x).sum())(X)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Sine()(), TypeError, "Sine was called without an input"),
        (lambda: Sine()(np.arange(3)), TypeError, "Sine: at least one input must be a float"),
        (
            lambda: trace(lambda x: PolarToPlane()(x, np.ones((4, 3), np.float32)))(X),
            TypeError,
            "input 0 is float64",
        ),
        (lambda: Sine()(np.zeros((0, 3))), ValueError, "no elements"),
        (lambda: Sine()(X.astype(np.float16)), TypeError, "float16"),
        (lambda: Function()(*[X] * 15), ValueError, "at most 15"),
        (lambda: Function()(*[np.ones((1,) * 8)] * 5), ValueError, "at most"),
    ],
)
def test_wrong_inputs_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_another_model_may_run_inside_a_callback_but_not_the_same_program():
    inner = nn.Linear(3, 3).double()

    class Nested(Function):
        def forward(self, x):
            return inner(x)

    np.testing.assert_array_equal(Nested()(X), inner(X))

    class Recursive(Function):
        def forward(self, x):
            return model(x)

    model = nn.Sequential()
    function = Recursive()

    class Holder(nn.Module):
        def forward(self, x):
            return function(x)

    model.append(Holder())
    with pytest.raises(RuntimeError, match="inside itself"):
        model(X)


def test_two_python_threads_run_callbacks_of_two_models_at_once():
    models = [Net().double() for _ in range(2)]
    expected = [m(X) for m in models]
    wrong = []

    def work(model, y):
        for _ in range(200):
            if not np.array_equal(model(X), y):
                wrong.append(1)

    workers = [threading.Thread(target=work, args=pair) for pair in zip(models, expected, strict=True)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_callbacks_among_native_work_on_several_threads_give_the_same_bits():
    from fastnn_ext import runtime

    before = runtime.get_num_threads()
    model = nn.Sequential(nn.Linear(400, 400), Net(), nn.Linear(2, 400), nn.Linear(400, 3), Net())
    model[1].fc1 = nn.Linear(400, 5)
    x = np.random.default_rng(1).standard_normal((300, 400), dtype=np.float32)
    results = []
    try:
        for threads in (1, 2, 3):
            runtime.set_num_threads(threads)
            results.append(model(x))
    finally:
        runtime.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_loss_after_a_callback_has_its_gradient():
    labels = np.array([0, 2, 1, 1])
    assert gradcheck(lambda x, labels: F.cross_entropy(Sine()(x), labels), X, labels)
