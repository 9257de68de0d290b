"""gradcheck passes right gradients and names wrong ones."""

import numpy as np
import pytest

from fastnn import nn
from fastnn.nn import functional as F
from fastnn.nn.function import Function
from fastnn.seed import manual_seed, state
from fastnn.testing import gradcheck

X = np.random.default_rng(0).standard_normal((4, 3))


class Cube(Function):
    """Its gradient is off by `error` at one element."""

    def __init__(self, error=0.0, at=(2, 1)):
        self.error, self.at = error, at

    def forward(self, x):
        self.save_for_backward(x)
        return x**3

    def backward(self, dy):
        (x,) = self.saved
        dx = 3 * x * x * dy
        dx[self.at] += self.error
        return dx


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x: x * 2.0, (X,)),
        (lambda x, y: (x @ y, x.sum(), {"y": y * y}), (X, X.T.copy())),
        (lambda x: (x, x), (X,)),
        (lambda x: x.exp().log().sqrt() * x.tanh() / 3.0 - 2.0**x, (abs(X) + 1,)),
        (lambda x, labels: F.cross_entropy(x, labels), (X, np.array([0, 1, 2, 0]))),
        (F.gelu, (X,)),
        (Cube(), (X,)),
        (nn.Linear(3, 2).double(), (X,)),
        (nn.MSELoss(), (X, X * 2)),
        (lambda x: x.sum(), (np.float64(2.0),)),
    ],
)
def test_right_gradients_pass(function, inputs):
    assert gradcheck(function, *inputs) is True


def test_float32_inputs_are_checked_in_float64():
    assert gradcheck(F.sigmoid, X.astype(np.float32), atol=1e-9)


def test_a_wrong_gradient_is_named_with_its_place_and_both_values():
    with pytest.raises(AssertionError, match=r"input\[0\]\[2, 1\]: .*central differences") as caught:
        gradcheck(Cube(error=0.5), X)
    assert "atol=1e-07" in str(caught.value)


@pytest.mark.parametrize("error", [1e-5, -1e-5, np.nan, np.inf])
def test_a_small_error_or_a_nan_is_found(error):
    with pytest.raises(AssertionError, match="gradient for input"):
        gradcheck(Cube(error), X)


def test_an_error_below_the_tolerance_passes():
    assert gradcheck(Cube(1e-5), X, atol=1e-4)


def test_the_worst_element_is_the_one_that_is_named():
    with pytest.raises(AssertionError, match=r"\[3, 0\]"):
        gradcheck(lambda x: Cube(1e-3, (0, 0))(x) + Cube(1.0, (3, 0))(x) + Cube(1e-3, (3, 2))(x), X)


def test_a_wrong_gradient_in_the_second_input_or_before_a_parameter_is_found():
    with pytest.raises(AssertionError, match=r"input\[1\]"):
        gradcheck(lambda a, b: a * Cube(0.1)(b), X, X)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return Cube(100.0)(self.fc(x))

    with pytest.raises(AssertionError, match=r"(input\[0\]|fc\.weight|fc\.bias)\["):
        gradcheck(Net().double(), X)
    with pytest.raises(AssertionError, match=r"fc\.(weight|bias)\["):
        gradcheck(Net().double(), X, wrt=[])


def test_only_the_inputs_asked_for_are_checked():
    def function(a, b):
        return a * Cube(0.1)(b)

    assert gradcheck(function, X, X, wrt=[0])
    with pytest.raises(AssertionError):
        gradcheck(function, X, X, wrt=[1])


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()
    model[0].requires_grad_(False)
    assert gradcheck(model, X)


def test_parameters_inputs_and_the_random_state_are_as_before():
    manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).double()
    x, before, words = X.copy(), model.state_dict(), state().copy()
    gradcheck(model, x)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(state(), words)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_parameters_are_as_before_after_an_exception_too():
    calls = []

    class Fails(Function):
        def forward(self, x):
            calls.append(1)
            if len(calls) > 4:
                raise OSError
            return x

        def backward(self, dy):
            return dy

    class Net(nn.Sequential):
        def forward(self, x):
            return Fails()(super().forward(x))

    model = Net(nn.Linear(3, 2)).double()
    before = model.state_dict()
    with pytest.raises(OSError):
        gradcheck(model, X)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: gradcheck(nn.Linear(3, 2), X),
            TypeError,
            r"weight is float32; .* model\.double\(\)",
        ),
        (lambda: gradcheck(nn.ReLU(), np.arange(3)), ValueError, "nothing to check"),
        (lambda: gradcheck(lambda: 1.0), ValueError, "nothing to check"),
        (lambda: gradcheck(F.relu, X, wrt=[1]), ValueError, "wrt"),
        (lambda: gradcheck(F.relu, X, eps=0), ValueError, "eps"),
        (lambda: gradcheck(lambda x, i: x, X, np.arange(4), wrt=[1]), ValueError, "wrt"),
        (lambda: gradcheck(F.relu, X.astype(np.float16)), TypeError, r"input\[0\]"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_error_shows_a_table_of_the_worst_elements():
    class Wrong(Function):
        """x squared, whose gradient is wrong where x is above 3, ever more so."""

        def forward(self, x):
            self.save_for_backward(x)
            return x * x

        def backward(self, dy):
            (x,) = self.saved
            return 2 * x * dy + np.where(x > 3, x**4, 0) * dy

    x = np.arange(20.0).reshape(4, 5)
    with pytest.raises(AssertionError) as caught:
        gradcheck(Wrong(), x)
    first, summary, head, *rows = str(caught.value).splitlines()
    assert first.startswith("gradient for input[0][3, 4]: ")
    assert summary == "16 element(s) are wrong, the worst of them:"
    assert head.split() == ["element", "gradient", "by", "differences", "difference", "times", "allowed"]
    assert [row.split("]")[1] for row in rows][:1] == ["[3, 4"]
    assert len(rows) == 10
    times = [float(row.split()[-1]) for row in rows]
    assert times == sorted(times, reverse=True) and times[-1] > 1
    assert len({len(row) for row in (head, *rows)}) == 1
