"""Modules: networks of any shape, modes, freezing, state, and what is refused."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
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
        return {name: None if p.grad is None else p.grad.copy() for name, p in model.named_parameters()}

    model = Residual().double()
    some = grads({"a.weight", "c.bias"})
    assert some["a.weight"] is None
    assert some["c.bias"] is None
    everything = grads(())
    for name in ("a.bias", "b.weight", "b.bias", "c.weight"):
        np.testing.assert_array_equal(some[name], everything[name])


def test_freezing_the_first_layers_removes_their_work_from_the_plan():
    def ops(frozen):
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 1))
        for i in frozen:
            model[i].requires_grad_(False)
        step = fn.TrainStep(model, nn.MSELoss(), optim.SGD(model.parameters()))
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


# ---- assignments ---------------------------------------------------------------------------------


def small():
    """A linear layer of known weights; x is (2, 3)."""
    layer = nn.Linear(3, 2).double()
    layer.weight = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    layer.bias = [0.5, -0.5]
    return layer


x3 = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
W3 = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_an_array_that_is_assigned_to_a_parameter_is_copied_into_it():
    layer = small()
    weight, bias = layer.weight, layer.bias
    np.testing.assert_array_equal(layer(x3), x3 @ W3.T + [0.5, -0.5])
    for value in (2 * W3, (3 * W3).astype(np.float32), (4 * W3).astype(int), np.asfortranarray(5 * W3), W3.tolist()):
        layer.weight = value
        assert layer.weight is weight
        assert weight.dtype == np.float64
        np.testing.assert_array_equal(weight.data, value)
        np.testing.assert_array_equal(layer(x3), x3 @ np.asarray(value, float).T + [0.5, -0.5])
    layer.weight = array = W3.copy()
    array[...] = 7
    np.testing.assert_array_equal(weight.data, W3)
    layer.weight = weight.data[::-1]
    np.testing.assert_array_equal(weight.data, W3[::-1])
    layer.bias = np.float32([3, 4])
    assert layer.bias is bias
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert weight.requires_grad


def test_an_array_that_is_assigned_to_a_buffer_is_copied_into_it():
    norm = nn.BatchNorm1d(3).double().eval()
    norm(x3)
    norm.running_mean = np.array([1.0, 2.0, 3.0])
    norm.running_var = [4, 4, 4]
    norm.num_batches_tracked = 5
    np.testing.assert_allclose(norm(x3), (x3 - [1, 2, 3]) / np.sqrt(4 + norm.eps))
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert norm.num_batches_tracked.dtype == np.int64
    assert int(norm.num_batches_tracked) == 5
    assert not norm.running_mean.requires_grad


def test_an_assigned_array_trains_on_in_the_optimizers_memory():
    layer, twin = small(), small()
    twin.weight.data[...] = 2 * W3
    step, step_of_twin = (fn.TrainStep(m, nn.MSELoss(), optim.SGD(m.parameters(), 0.1)) for m in (layer, twin))
    layer.weight = 2 * W3
    for _ in range(2):
        assert step(x3, x3[:, :2]) == step_of_twin(x3, x3[:, :2])
    np.testing.assert_array_equal(layer.weight.data, twin.weight.data)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("weight", np.ones((3, 2)), ValueError, r"Linear.weight has shape \(2, 3\); .* assign a Parameter"),
        ("weight", 1.0, ValueError, r"Linear.weight has shape \(2, 3\); an array of shape \(\)"),
        ("weight", "text", TypeError, "Linear.weight is a parameter or buffer; assign an array, a Parameter or None"),
        ("weight", np.ones((2, 3), bool), TypeError, "assign an array, a Parameter or None"),
        ("weight", np.ones((2, 3), complex), TypeError, "assign an array, a Parameter or None"),
        ("weight", object(), TypeError, "delete it first; got object"),
        ("bias", np.ones(3), ValueError, "Linear.bias has shape"),
    ],
)
def test_what_does_not_fit_a_parameter_is_refused_and_changes_nothing(name, value, error, message):
    layer = small()
    with pytest.raises(error, match=message):
        setattr(layer, name, value)
    np.testing.assert_array_equal(layer(x3), x3 @ W3.T + [0.5, -0.5])
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_what_is_no_module_is_refused_where_a_module_stands():
    model = nn.Sequential(nn.Linear(3, 2))
    model.head = nn.Tanh()
    for value in (3, np.ones(2), lambda x: x):
        with pytest.raises(TypeError, match=r"Sequential\.head is a module; assign a Module or None to it, or delete"):
            model.head = value
    with pytest.raises(ValueError, match="frozen"):
        model.frozen()[0].weight = np.ones((2, 3))
    with pytest.raises(ValueError, match="running_mean has shape"):
        nn.BatchNorm1d(3).running_mean = np.ones(2)


def test_none_takes_a_parameter_a_buffer_and_a_module_away():
    layer = small()
    layer(x3)
    layer.bias = None
    np.testing.assert_array_equal(layer(x3), x3 @ W3.T)
    assert layer.bias is None
    assert list(layer.state_dict()) == ["weight"]
    layer.bias = nn.Parameter(np.ones(2))
    np.testing.assert_array_equal(layer(x3), x3 @ W3.T + 1)
    norm = nn.BatchNorm1d(3)
    norm.running_mean = None
    assert "running_mean" not in norm.state_dict()
    model = nn.Sequential()
    model.part = layer
    model.part = None
    assert model.part is None
    assert list(model.modules()) == [model]


class Slots(nn.Module):
    """y = x * what, which may be a parameter, a module, a buffer or a plain value."""

    def __init__(self):
        super().__init__()
        self.what = nn.Parameter(np.full(3, 2.0))

    def forward(self, x):
        return self.what(x) if callable(self.what) else x * self.what


def test_parameters_modules_and_plain_values_take_over_each_others_names():
    model = Slots()
    where = {
        "_parameters": lambda: setattr(model, "what", nn.Parameter(np.full(3, 2.0))),
        "_modules": lambda: setattr(model, "what", nn.Tanh()),
        "_buffers": lambda: model.register_buffer("what", np.full(3, 4.0)),
        "__dict__": lambda: (delattr(model, "what"), setattr(model, "what", 5.0)),
    }
    expected = {"_parameters": 2 * x3, "_modules": np.tanh(x3), "_buffers": 4 * x3, "__dict__": 5 * x3}
    for first in where:
        for then in where:
            for table in (first, then):
                where[table]()
                np.testing.assert_allclose(model(x3), expected[table], rtol=1e-15)
                assert [t for t in where if "what" in getattr(model, t)] == [table], (first, then)


def test_deleted_attributes_are_gone():
    layer, norm, model = small(), nn.BatchNorm1d(3), nn.Sequential(nn.Tanh())
    layer(x3)
    for owner, name in ((layer, "weight"), (norm, "running_mean"), (model, "0"), (layer, "in_features")):
        delattr(owner, name)
        assert not hasattr(owner, name)
        with pytest.raises(AttributeError, match=name):
            delattr(owner, name)
    with pytest.raises(AttributeError, match="Linear has no attribute 'weight'"):
        layer(x3)


def test_plain_attributes_of_any_kind_count_at_the_next_call():
    class Plain(nn.Module):
        def forward(self, x):
            return x * self.factor + self.table["shift"][0]

    model = Plain()
    model.factor, model.table = 2.0, {"shift": [1.0]}
    np.testing.assert_array_equal(model(x3), 2 * x3 + 1)
    model.factor = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(model(x3), x3 * [1, 2, 3] + 1)
    model.factor[0] = 9
    np.testing.assert_array_equal(model(x3), x3 * [9, 2, 3] + 1)
    model.table["shift"][0] = -4.0
    np.testing.assert_array_equal(model(x3), x3 * [9, 2, 3] - 4)
    del model.factor
    with pytest.raises(AttributeError, match="factor"):
        model(x3)


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([small(), nn.Identity()])
        self.named = nn.ModuleDict({"a": nn.Identity(), "b": nn.Identity()})
        self.gain = nn.Parameter(np.ones(1))

    def forward(self, x):
        x = x * self.gain
        for part in self.parts:
            x = part(x)
        for name in self.named:
            x = self.named[name](x)
        return x


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x + self.by


def other_linear():
    layer = small()
    layer.weight.data[...] *= -1
    return layer


Y3 = x3 @ W3.T + [0.5, -0.5]
CHANGES = {
    "list item": (lambda m: m.parts.__setitem__(1, nn.Tanh()), np.tanh(Y3)),
    "list item from behind": (lambda m: m.parts.__setitem__(-1, Shift(1)), Y3 + 1),
    "list append": (lambda m: m.parts.append(Shift(2)), Y3 + 2),
    "dict item": (lambda m: m.named.__setitem__("b", Shift(3)), Y3 + 3),
    "dict del": (lambda m: (m.named.__setitem__("b", Shift(3)), m.named.__delitem__("b")), Y3),
    "_modules of a list": (lambda m: m.parts._modules.__setitem__("1", Shift(4)), Y3 + 4),
    "_modules new name": (lambda m: m.parts._modules.update({"2": Shift(5)}), Y3 + 5),
    "_modules pop": (lambda m: m.named._modules.pop("a"), Y3),
    "_modules clear": (lambda m: m.named._modules.clear(), Y3),
    "_modules del": (lambda m: m.parts._modules.__delitem__("1"), Y3),
    "_modules as a whole": (lambda m: setattr(m.parts, "_modules", {"x": m.parts[0], "y": Shift(6)}), Y3 + 6),
    "_parameters": (
        lambda m: m.parts[0]._parameters.__setitem__("bias", nn.Parameter(np.array([7.0, 7.0]))),
        x3 @ W3.T + 7,
    ),
    "_parameters |=": (
        lambda m: m.parts[0]._parameters.__ior__({"bias": nn.Parameter(np.array([8.0, 8.0]))}),
        x3 @ W3.T + 8,
    ),
    "_parameters as a whole": (
        lambda m: setattr(m.parts[0], "_parameters", {"weight": nn.Parameter(-W3), "bias": m.parts[0].bias}),
        -x3 @ W3.T + [0.5, -0.5],
    ),
    "attribute": (lambda m: setattr(m.parts[0], "bias", nn.Parameter(np.array([9.0, 9.0]))), x3 @ W3.T + 9),
    "attribute of a list": (lambda m: setattr(m.parts, "0", other_linear()), -x3 @ W3.T + [0.5, -0.5]),
    "del": (lambda m: (delattr(m.parts[0], "bias"), setattr(m.parts[0], "bias", None)), x3 @ W3.T),
    "forward of one module": (lambda m: setattr(m.parts[1], "forward", lambda x: x * 2), Y3 * 2),
    "__dict__": (lambda m: m.__dict__.__setitem__("parts", [small(), Shift(10)]), Y3 + 10),
    "swap": (lambda m: setattr(m, "parts", nn.ModuleList([small(), Shift(11)])), Y3 + 11),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["call", "forward_train", "step"])
def test_a_change_of_parts_counts_at_the_next_call(change, kind):
    model = Parts().double()
    do, expected = CHANGES[change]
    # Of a loss that is a sum of outputs, at a learning rate of 0.
    step = fn.TrainStep(model, lambda y, _: y.sum(), optim.SGD(model.parameters(), 0.0), outputs=True)
    run = {"call": model, "forward_train": model.forward_train, "step": lambda x: step(x, x)[1]}[kind]
    np.testing.assert_allclose(run(x3), Y3, rtol=1e-12)
    np.testing.assert_allclose(run(x3), Y3, rtol=1e-12)
    do(model)
    np.testing.assert_allclose(run(x3), expected, rtol=1e-12)
    np.testing.assert_allclose(run(x3), expected, rtol=1e-12)


def test_a_layer_put_in_after_the_optimizer_was_made_is_not_trained_and_the_others_are():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    opt = optim.SGD(model.parameters(), 0.1)
    step = fn.TrainStep(model, nn.MSELoss(), opt)
    x, y = x3.astype(np.float32), np.ones((2, 2), np.float32)
    step(x, y)
    old, model[2] = model[2], nn.Linear(3, 2)
    kept, new, first = (m.weight.data.copy() for m in (old, model[2], model[0]))
    loss = step(x, y)
    assert loss != step(x, y)
    np.testing.assert_array_equal(old.weight.data, kept)
    np.testing.assert_array_equal(model[2].weight.data, new)
    assert (model[0].weight.data != first).all()


def test_a_backward_pass_follows_its_forward_pass_though_the_model_was_changed_in_between():
    model = nn.Sequential(nn.Linear(3, 2)).double()
    old = model[0].weight
    model.forward_train(x3)
    model[0].weight = nn.Parameter(W3)
    model.backward(np.ones((2, 2)))
    np.testing.assert_array_equal(old.grad, np.ones((2, 2)) @ x3)
    assert model[0].weight.grad is None
    model.forward_train(x3)
    model.float()
    with pytest.raises(RuntimeError, match="forward_train of the unchanged model"):
        model.backward(np.ones((2, 2)))


# ---- names in a state_dict ------------------------------------------------------------------------


def shared(kit):
    """A layer used twice, a weight of two layers and a norm used twice, in either library."""
    layer, norm, other = kit.Linear(4, 4), kit.BatchNorm1d(4), kit.Linear(4, 4)
    other.weight = layer.weight
    return kit.Sequential(layer, kit.ReLU(), layer, norm, other, norm)


def test_a_state_dict_lists_what_is_shared_under_each_name_as_pytorchs_does():
    torch = pytest.importorskip("torch")
    ours, theirs = shared(nn), shared(torch.nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    ours.load_state_dict(theirs.state_dict())
    x = X.astype(np.float32)
    np.testing.assert_allclose(ours.eval()(x), theirs.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
    again = shared(torch.nn).eval()
    again.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    np.testing.assert_array_equal(again(torch.tensor(x)).detach(), theirs(torch.tensor(x)).detach())
    with pytest.raises(ValueError, match=r"missing: 2\.weight"):
        ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k != "2.weight"})


def test_a_layer_that_stands_twice_has_two_names_and_is_saved_and_loaded(tmp_path):
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    model.save(tmp_path / "m.safetensors")
    other = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).load(tmp_path / "m.safetensors")
    x = X.astype(np.float32)
    np.testing.assert_array_equal(other(x), model(x))


def test_a_module_that_leads_back_to_itself_does_not_recurse_for_ever():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].add_module("up", model)
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    model.load_state_dict({"0.weight": np.ones((4, 4)), "0.bias": np.zeros(4)})
    assert [name for name, _ in model.named_modules()] == ["", "0"]
    assert len(list(model.parameters())) == 2
    assert not model.eval().training
    np.testing.assert_array_equal(model[0](X.astype(np.float32)), model(X.astype(np.float32)))
    assert not model.frozen()[0].weight.data.flags.writeable
    model.double().zero_grad()
    assert model[0].weight.dtype == np.float64


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


@pytest.mark.parametrize("data", [1.0, [1.0, 2.0], ((1.0, 2), (3, 4.5))])
def test_a_parameter_of_pythons_floats_is_float32(data):
    parameter = nn.Parameter(data)
    assert parameter.dtype == np.float32
    np.testing.assert_array_equal(parameter.data, np.asarray(data, np.float32))


@pytest.mark.parametrize("data", [np.float64(1.0), np.ones(3), np.array(2.0)])
def test_a_parameter_of_an_array_keeps_its_dtype(data):
    assert nn.Parameter(data).dtype == np.float64
    assert nn.Parameter(np.asarray(data, np.float32)).dtype == np.float32
    with pytest.raises(TypeError, match="float32 or float64"):
        nn.Parameter(np.asarray(data, np.int32))
