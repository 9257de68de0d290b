"""Modules: networks of any shape, modes, freezing, state, and what is refused."""

import numpy as np
import pytest

from fastnn import nn
from fastnn.nn import functional as F
from fastnn.testing import gradcheck

RNG = np.random.default_rng(5)
X = RNG.standard_normal((6, 4))


class Residual(nn.Module):
    """One tensor read by several, and paths of different length."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x):
        h = self.a(x).tanh()
        left = F.gelu(self.b(h)) + h
        return self.c(F.concat([left, h * x], 1)) + left[:, :3] * 0.5


class TwoToTwo(nn.Module):
    """Two inputs, two outputs, one of them a dict's."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(3, 5)

    def forward(self, x, z):
        h = self.a(x) + self.b(z)
        return h.sigmoid(), {"sum": h.sum(1), "x": x * 2.0}


def torch_residual(torch):
    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (
                torch.nn.Linear(4, 4),
                torch.nn.Linear(4, 4),
                torch.nn.Linear(8, 3),
            )

        def forward(self, x):
            h = self.a(x).tanh()
            left = torch.nn.functional.gelu(self.b(h)) + h
            return self.c(torch.cat([left, h * x], 1)) + left[:, :3] * 0.5

    return Residual()


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-11)])
def test_a_graph_with_fan_out_gives_pytorchs_outputs_and_gradients(dtype, rtol):
    torch = pytest.importorskip("torch")
    theirs = torch_residual(torch).to(getattr(torch, np.dtype(dtype).name))
    ours = Residual().to(dtype)
    ours.load_state_dict(theirs.state_dict())
    x, dy = X.astype(dtype), RNG.standard_normal((6, 3)).astype(dtype)
    y_torch = theirs(torch.tensor(x))
    y_torch.backward(torch.tensor(dy))
    np.testing.assert_allclose(ours(x), y_torch.detach().numpy(), rtol=rtol, atol=rtol / 10)
    np.testing.assert_array_equal(ours.forward_train(x), ours(x))
    ours.backward(dy)
    for p, p_torch in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, p_torch.grad.numpy(), rtol=rtol, atol=rtol)


def test_gradients_of_a_graph_with_fan_out_agree_with_central_differences():
    assert gradcheck(Residual().double(), X)


def test_several_inputs_and_outputs_keep_their_structure():
    model = TwoToTwo().double()
    z = RNG.standard_normal((6, 3))
    first, rest = model(X, z)
    assert first.shape == (6, 5)
    assert {k: v.shape for k, v in rest.items()} == {"sum": (6,), "x": (6, 4)}
    np.testing.assert_array_equal(rest["x"], 2 * X)
    assert gradcheck(model, X, z)
    y = model.forward_train(X, z)
    model.backward(np.ones_like(y[0]), np.zeros_like(y[1]["sum"]), np.zeros_like(X))
    s = first * (1 - first)
    np.testing.assert_allclose(model.a.weight.grad, s.T @ X)


def test_an_output_returned_twice_takes_both_gradients():
    class Twice(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y, y

    model = Twice(4, 2).double()
    model.forward_train(X)
    model.backward(np.ones((6, 2)), 2 * np.ones((6, 2)))
    np.testing.assert_allclose(model.weight.grad, 3 * np.ones((2, 6)) @ X)


def test_a_frozen_parameter_gets_no_gradient_and_the_others_the_same_as_before():
    def grads(frozen):
        model.zero_grad()
        for name, p in model.named_parameters():
            p.requires_grad = name not in frozen
        model.forward_train(X)
        model.backward(np.ones((6, 3)))
        return {
            name: None if p.grad is None else p.grad.copy() for name, p in model.named_parameters()
        }

    model = Residual().double()
    some = grads({"a.weight", "c.bias"})
    assert some["a.weight"] is None
    assert some["c.bias"] is None
    everything = grads(())
    for name in ("a.bias", "b.weight", "b.bias", "c.weight"):
        np.testing.assert_array_equal(some[name], everything[name])


def test_freezing_the_first_layers_removes_their_work_from_the_plan():
    from fastnn import optim
    from fastnn.train.step import TrainStep

    def ops(frozen):
        model = nn.Sequential(
            nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 1)
        )
        for i in frozen:
            model[i].requires_grad_(False)
        step = TrainStep(model, nn.MSELoss(), optim.SGD(model.parameters()))
        program = step.plan(X.astype(np.float32), np.ones((6, 1), np.float32))
        return sum(op.kernel == "gemm" for phase in program.phases for op in phase)

    # Three products forward; backward one for each weight, and for each layer's input but the data.
    assert ops(()) == 3 + 3 + 2
    assert ops((0,)) == 3 + 2 + 1
    assert ops((0, 2)) == 3 + 1


def test_a_weight_of_a_stack_of_samples_has_its_gradient_in_pieces_too():
    """The input is read by the backward pass through a reshaped view of it."""
    model = nn.Linear(4, 3).double()
    x, dy = RNG.standard_normal((2, 5, 4)), RNG.standard_normal((2, 5, 3))
    model.forward_train(x.copy())
    model.backward(dy)
    np.testing.assert_allclose(model.weight.grad, np.einsum("bto,bti->oi", dy, x))


def test_the_callers_arrays_may_change_between_forward_and_backward():
    model = nn.Linear(4, 3).double()
    x = X.copy()
    model.forward_train(x)
    x[...] = np.nan
    model.backward(np.ones((6, 3)))
    np.testing.assert_allclose(model.weight.grad, np.ones((3, 6)) @ X)


def test_any_array_like_input_is_taken():
    torch = pytest.importorskip("torch")
    model = nn.Linear(4, 3)
    x = X.astype(np.float32)
    expected = model(x)
    wide = np.zeros((6, 8), np.float32)
    wide[:, ::2] = x
    strided = (np.asfortranarray(x), wide[:, ::2], x[::-1].copy()[::-1])
    for same in (x.tolist(), *strided, x.astype(">f4"), torch.tensor(x), memoryview(x)):
        np.testing.assert_array_equal(model(same), expected)
    x.flags.writeable = False
    np.testing.assert_array_equal(model(x), expected)


def test_a_module_traces_a_branch_on_its_own_attributes_anew():
    class Switch(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = 2.0

        def forward(self, x):
            return x * self.factor if self.training else x

    model = Switch()
    np.testing.assert_array_equal(model(X), 2 * X)
    model.factor = 3.0
    np.testing.assert_array_equal(model(X), 3 * X)
    np.testing.assert_array_equal(model.eval()(X), X)


def test_load_state_dict_takes_pytorchs_and_refuses_what_does_not_fit():
    torch = pytest.importorskip("torch")
    model = Residual()
    state = torch_residual(torch).state_dict()
    model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name].numpy())
    before = model.state_dict()
    for change, message in [
        ({"a.weight": None}, "missing: a.weight"),
        ({"d.weight": np.zeros(3)}, "unexpected: d.weight"),
        ({"a.bias": np.zeros(5)}, r"a.bias has shape \(5,\); expected \(4,\)"),
        ({"a.bias": np.array(["x"] * 4)}, "a.bias has dtype"),
    ]:
        bad = {k: v for k, v in {**state, **change}.items() if v is not None}
        with pytest.raises(ValueError, match=message):
            model.load_state_dict(bad)
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[name])
    with pytest.raises(TypeError, match="state_dict"):
        model.load_state_dict([1])
    assert model.load_state_dict({"a.bias": np.ones(4), "z": 1}, strict=False)[1] == ["z"]
    np.testing.assert_array_equal(model.a.bias.data, 1)


# ---- refusals -----------------------------------------------------------------------------------

F32 = np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Linear(0, 3), ValueError, "in_features must be an int of at least 1, got 0"),
        (lambda: nn.Linear(3, -1), ValueError, "out_features"),
        (lambda: nn.Linear(3.0, 1), TypeError, "in_features"),
        (lambda: nn.Linear(True, 1), TypeError, "in_features"),
        (lambda: nn.Linear("3", 1), TypeError, "in_features"),
        (lambda: nn.Linear(3, 1, bias=1), TypeError, "bias"),
        (
            lambda: nn.Linear(3, 1, dtype=np.float16),
            TypeError,
            "dtype must be float32 or float64, got float16",
        ),
        (lambda: nn.Linear(3, 1, dtype="nonsense"), TypeError, "dtype"),
        (lambda: nn.Linear(3), TypeError, "out_features"),
        (lambda: nn.LeakyReLU("x"), TypeError, "negative_slope"),
        (lambda: nn.LeakyReLU(float("inf")), ValueError, "negative_slope"),
        (lambda: nn.ELU(None), TypeError, "alpha"),
        (lambda: nn.ELU(float("nan")), ValueError, "alpha"),
        (lambda: nn.Softmax(), TypeError, "dim"),
        (lambda: nn.Softmax(1.5), TypeError, "dim"),
        (lambda: nn.LogSoftmax(None), TypeError, "dim"),
        (lambda: nn.Softmax(2)(F32), ValueError, "dim 2 is out of range"),
        (lambda: nn.Dropout(-0.1), ValueError, "p must be a number from 0 to 1, got -0.1"),
        (lambda: nn.Dropout(1.1), ValueError, "p must be"),
        (lambda: nn.Dropout("half"), TypeError, "p must be"),
        (lambda: nn.Flatten("x"), TypeError, "start_dim"),
        (lambda: nn.Flatten(0, 1.5), TypeError, "end_dim"),
        (lambda: nn.Flatten(3)(F32), ValueError, "start_dim"),
        (lambda: nn.CrossEntropyLoss(reduction="average"), ValueError, "reduction"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=-0.1), ValueError, "label_smoothing"),
        (lambda: nn.CrossEntropyLoss(ignore_index="x"), TypeError, "ignore_index"),
        (lambda: nn.CrossEntropyLoss(weight=[[1.0]]), ValueError, r"weight must have shape \(C,\)"),
        (lambda: nn.CrossEntropyLoss(weight="abc"), TypeError, "weight"),
        (
            lambda: nn.CrossEntropyLoss(weight=[1.0] * 3)(F32, [0, 1]),
            ValueError,
            "weight has shape",
        ),
        (
            lambda: nn.CrossEntropyLoss(weight=np.ones(4))(F32, [0, 1]),
            TypeError,
            "the weight is float64",
        ),
        (
            lambda: nn.CrossEntropyLoss()(F32, [0, 4]),
            ValueError,
            r"target\[1\] is 4; labels must lie in 0 ... 3",
        ),
        (lambda: nn.CrossEntropyLoss()(F32, [-1, 0]), ValueError, r"target\[0\] is -1"),
        (lambda: nn.CrossEntropyLoss()(F32, [0]), ValueError, "target"),
        (lambda: nn.CrossEntropyLoss()(F32), TypeError, "target"),
        (lambda: nn.CrossEntropyLoss()(F32[:0], np.zeros(0, int)), ValueError, "input has shape"),
        (
            lambda: nn.CrossEntropyLoss().value_and_grad(F32, [0, 9]),
            ValueError,
            r"target\[1\] is 9",
        ),
        (
            lambda: nn.CrossEntropyLoss(reduction="none").value_and_grad(F32, [0, 1]),
            ValueError,
            "no scalar",
        ),
        (lambda: nn.MSELoss("max"), ValueError, "reduction"),
        (lambda: nn.MSELoss()(F32, F32[:1]), ValueError, "target"),
        (lambda: nn.MSELoss()(F32, F32.astype(np.float64)), TypeError, "target"),
        (lambda: nn.MSELoss()(F32.astype(np.float16), F32), TypeError, "input has dtype float16"),
        (lambda: nn.BCEWithLogitsLoss(pos_weight=np.ones(3, int)), TypeError, "pos_weight"),
        (lambda: nn.BCEWithLogitsLoss(reduction=1), ValueError, "reduction"),
        (lambda: nn.BCEWithLogitsLoss()(F32, F32[:, :2]), ValueError, "target"),
        (
            lambda: nn.Linear(4, 2)(F32[:, :3]),
            ValueError,
            r"input has shape \(2, 3\); expected \(\.\.\., 4\)",
        ),
        (lambda: nn.Linear(4, 2)(F32.astype(np.float64)), TypeError, "the input"),
        (lambda: nn.Linear(4, 2)(F32[:0]), ValueError, "input has shape"),
        (lambda: nn.Linear(4, 2)(np.float32(1)), ValueError, "input"),
        (lambda: nn.Linear(4, 2)(F32.astype(object)), TypeError, "input has dtype object"),
        (lambda: nn.Linear(4, 2)(), TypeError, "without an input"),
        (lambda: nn.Linear(4, 2)(None), TypeError, "input"),
        (lambda: nn.Linear(4, 2).forward_train(F32[:, :1]), ValueError, "input"),
        (lambda: nn.Linear(4, 2).backward(F32), RuntimeError, "forward_train"),
        (lambda: nn.Linear(4, 2).to(np.int32), TypeError, "float32 or float64"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_wrong_gradient_is_refused_and_the_right_one_still_taken():
    model = nn.Linear(4, 2)
    model.forward_train(F32)
    for bad, error in (
        (np.ones((2, 3), np.float32), ValueError),
        (np.ones((2, 2)), TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="dy"):
            model.backward(bad)
    model.backward(np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(model.bias.grad, 2)
    with pytest.raises(RuntimeError, match="forward_train"):
        model.backward(np.ones((2, 2), np.float32))


def test_modules_made_between_forward_and_backward_do_not_matter():
    model = nn.Linear(4, 3).double()
    y = model.forward_train(X)
    nn.Linear(2, 2)
    model.backward(np.ones_like(y))
    np.testing.assert_allclose(model.bias.grad, np.full(3, len(X), X.dtype))


def test_inputs_need_not_agree_on_their_first_size():
    class Lookup(nn.Module):
        def forward(self, x, table):
            return x @ table

    rng, model = np.random.default_rng(0), Lookup()
    for first, second in (((8, 4), (4, 5)), ((8, 4), (4, 3)), ((6, 4), (4, 3)), ((8, 8), (8, 3)), ((6, 8), (8, 3))):
        a, b = rng.standard_normal(first), rng.standard_normal(second)
        np.testing.assert_allclose(model(a, b), a @ b, rtol=1e-12)
