"""Bad input to every public call: ValueError or TypeError that names the argument, and nothing changed."""

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn, optim

X = np.zeros((4, 6), np.float32)
Y = np.zeros(4, np.int64)
NAN = float("nan")


def model():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def step(m=None, **settings):
    m = m or model()
    return fn.TrainStep(m, nn.CrossEntropyLoss(**settings), optim.SGD(m.parameters(), lr=0.1))


def adam(**settings):
    return optim.Adam(model().parameters(), **settings)


def trainer():
    m = model()
    return fn.Trainer(m, loss=nn.CrossEntropyLoss(), optimizer=optim.SGD(m.parameters(), lr=0.1))


# What is called, and what the message must name.
CASES = {
    # calling a model
    "model: too few columns": (lambda: model()(X[:, :5]), r"input.*\(4, 5\)"),
    "model: a vector where a batch is due": (lambda: model()(X[0, :5]), "input"),
    "model: float64 to a float32 model": (lambda: model()(X.astype(np.float64)), "float64"),
    "model: float16": (lambda: model()(X.astype(np.float16)), "input has dtype float16"),
    "model: integers": (lambda: model()(X.astype(np.int32)), "input holds integers"),
    "model: bool": (lambda: model()(X > 0), "input has dtype bool"),
    "model: objects": (lambda: model()(X.astype(object)), "input has dtype object"),
    "model: complex": (lambda: model()(X.astype(np.complex64)), "input has dtype complex64"),
    "model: text": (lambda: model()("text"), "input must be an array .*got str"),
    "model: None": (lambda: model()(None), "input must be an array .*got NoneType"),
    "model: nothing": (lambda: model()(), "without an input"),
    "model: no samples": (lambda: model()(X[:0]), r"input has shape \(0, 6\)"),
    "model: one input too many": (lambda: model()(X, X), "positional argument"),
    "model: a ragged list": (lambda: model()([[1.0, 2.0], [3.0]]), "inhomogeneous"),
    # a training step
    "step: label equal to the classes": (lambda: step()(X, Y + 3), r"target\[0\] is 3.*0 ... 2"),
    "step: negative label": (lambda: step()(X, Y - 1), r"target\[0\] is -1"),
    "step: labels too few": (lambda: step()(X, Y[:3]), "target"),
    "step: labels as floats": (lambda: step()(X, Y.astype(np.float32)), "target.*float32"),
    "step: labels as one-hot rows": (lambda: step()(X, np.zeros((4, 3), np.int64)), "target"),
    "step: no samples": (lambda: step()(X[:0], Y[:0]), "input has shape"),
    "step: no target": (lambda: step()(X), "target"),
    "step: a uint64 label beyond int64": (lambda: step()(X, np.full(4, 2**64 - 1, np.uint64)), "target holds"),
    "step: a loss that is no scalar": (lambda: step(reduction="none")(X, Y), "scalar"),
    "step: no model": (lambda: fn.TrainStep(3, nn.MSELoss(), adam()), "model must be a Module"),
    "step: no loss": (lambda: fn.TrainStep(model(), 3, adam()), "loss must be callable"),
    "step: no optimizer": (lambda: fn.TrainStep(model(), nn.MSELoss(), 3), "optimizer must be"),
    "step: another model's optimizer": (lambda: fn.TrainStep(model(), nn.MSELoss(), adam()), "no parameter of this"),
    "mse: shapes differ": (lambda: nn.MSELoss()(X, X[:, :3]), r"\(4, 3\)|N, 3"),
    "mse: dtypes differ": (lambda: nn.MSELoss()(X, X.astype(np.float64)), "float64"),
    # pieces
    "backward: before forward_train": (lambda: model().backward(X), "forward_train"),
    "backward: a gradient of another shape": (lambda: forward_backward(X[:, :2]), r"dy.*\(4, 2\)"),
    "backward: a gradient of another dtype": (lambda: forward_backward(np.zeros((4, 3))), "dy has dtype float64"),
    # optimizers
    "optimizer: nothing to optimize": (lambda: optim.SGD([]), "params is empty"),
    "optimizer: arrays": (lambda: optim.SGD([X]), "params must hold parameters"),
    "optimizer: a single parameter": (lambda: optim.SGD(nn.Parameter(X)), "params must be an iterable"),
    "optimizer: a parameter twice": (lambda: optim.SGD([p := nn.Parameter(X), p]), "twice"),
    "optimizer: an unknown setting": (lambda: optim.SGD([{"params": [nn.Parameter(X)], "speed": 1}]), "'speed'"),
    "sgd: negative lr": (lambda: optim.SGD(model().parameters(), lr=-1), "lr must be"),
    "sgd: lr NaN": (lambda: optim.SGD(model().parameters(), lr=NAN), "lr must be"),
    "sgd: lr as text": (lambda: optim.SGD(model().parameters(), lr="fast"), "lr must be a finite number.*fast"),
    "sgd: nesterov without momentum": (lambda: optim.SGD(model().parameters(), nesterov=True), "nesterov"),
    "adam: a beta of 1": (lambda: adam(betas=(0.9, 1.0)), r"betas\[1\]"),
    "adam: one beta": (lambda: adam(betas=0.9), "betas must be a pair"),
    "adam: negative eps": (lambda: adam(eps=-1e-8), "eps must be"),
    "adam: infinite weight decay": (lambda: adam(weight_decay=float("inf")), "weight_decay must be a finite number"),
    "optimizer: lr assigned NaN": (lambda: setattr(adam(), "lr", NAN), "lr must be"),
    "optimizer: another's state": (lambda: adam().load_state_dict(optim.SGD(model().parameters()).state_dict()), "SGD"),
    "optimizer: a state without its steps": (lambda: load_state(lambda group, _: group.pop("steps")), "lacks"),
    "optimizer: steps as text": (lambda: load_state(lambda group, _: group.update(steps="many")), "steps must be"),
    "optimizer: a state of text": (lambda: load_state(lambda _, states: spell(states)), "exp_avg must hold numbers"),
    # layers
    "Linear: no inputs": (lambda: nn.Linear(0, 3), "in_features"),
    "Linear: a fraction": (lambda: nn.Linear(2.5, 3), "in_features"),
    "Linear: negative outputs": (lambda: nn.Linear(3, -1), "out_features"),
    "Dropout: p above 1": (lambda: nn.Dropout(1.5), "p must"),
    "Dropout: p NaN": (lambda: nn.Dropout(NAN), "p must"),
    "Softmax: a dimension too far": (lambda: nn.Softmax(2)(X), "dim 2"),
    "Sequential: a function": (lambda: nn.Sequential(len), "Module"),
    "CrossEntropyLoss: an unknown reduction": (lambda: nn.CrossEntropyLoss(reduction="avg"), "reduction.*'avg'"),
    "CrossEntropyLoss: smoothing above 1": (lambda: nn.CrossEntropyLoss(label_smoothing=2.0), "label_smoothing"),
    "CrossEntropyLoss: weights too few": (
        lambda: nn.CrossEntropyLoss(weight=np.ones(2, np.float32))(X[:, :3], Y),
        "weight",
    ),
    "flatten: dims the wrong way round": (lambda: fn.trace(lambda x: F.flatten(x, 1, 0))(X), "start_dim"),
    "functional: an unknown shape": (lambda: fn.trace(lambda x: x.reshape(5, 5))(X), r"\(4, 6\).*\(5, 5\)"),
    # state
    "state_dict: a missing name": (lambda: model().load_state_dict({}), "missing: 0.weight"),
    "state_dict: a wrong shape": (lambda: model().load_state_dict({**model().state_dict(), "0.bias": X}), "0.bias has"),
    "state_dict: no mapping": (lambda: model().load_state_dict(3), "state_dict must be a mapping"),
    "load: no such file": (lambda: model().load("/nonexistent/x.safetensors"), "no file /nonexistent"),
    "Parameter: integers": (lambda: nn.Parameter(Y), "int64"),
    "Parameter: data of another shape": (lambda: setattr(nn.Parameter(X), "data", Y), "data has shape"),
    "to: float16": (lambda: model().to(np.float16), "float16"),
    # functions
    "trace: no function": (lambda: fn.trace(3), "function must be callable"),
    "trace: mixed dtypes": (lambda: fn.trace(lambda a, b: a + b)(X, X.astype(np.float64)), "mix dtypes"),
    "trace: shapes that do not broadcast": (lambda: fn.trace(lambda a: a + a[:, :2])(X), "broadcast"),
    "trace: matmul sizes": (lambda: fn.trace(lambda a: a @ a)(X), "inner sizes"),
    "trace: a branch on a value": (lambda: fn.trace(lambda a: a if a.sum() else -a)(X), "test_bad_input.py"),
    "trace: an empty slice": (lambda: fn.trace(lambda a: a[:, 3:3])(X), "empty"),
    "trace: concat of different widths": (lambda: fn.trace(lambda a: fn.concat([a, a[:, :2]]))(X), "tensor 1"),
    "grad: a value that is no scalar": (lambda: fn.grad(lambda a: a * 2)(X), "scalar"),
    "grad: argnums too far": (lambda: fn.grad(lambda a: a.sum(), argnums=3)(X), "argnums"),
    # data
    "DataLoader: batches of nothing": (lambda: fn.data.DataLoader((X, Y), batch_size=0), "batch_size"),
    "DataLoader: lengths differ": (lambda: fn.data.DataLoader((X, Y[:2]), batch_size=1), "4|2"),
    "ArrayDataset: nothing": (lambda: fn.data.ArrayDataset(), "array"),
    "digits: an unknown split": (lambda: fn.data.digits("validation"), "split"),
    "mnist: files that are not there": (lambda: fn.data.mnist(root="/nonexistent"), "/nonexistent"),
    # training
    "fit: epochs below zero": (lambda: trainer().fit((X, Y), epochs=-1), "epochs"),
    "fit: half an epoch": (lambda: trainer().fit((X, Y), epochs=0.5), "epochs"),
    "fit: batches of nothing": (lambda: trainer().fit((X, Y), batch_size=0), "batch_size"),
    "fit: lengths differ": (lambda: trainer().fit((X, Y[:3])), "3"),
    "Trainer: an unknown metric": (
        lambda: fn.Trainer(m := model(), loss=nn.MSELoss(), optimizer=optim.SGD(m.parameters()), metrics=["beauty"]),
        "beauty",
    ),
    "load_checkpoint: no such file": (lambda: fn.load_checkpoint("/nonexistent/c", model(), adam()), "nonexistent"),
    # settings
    "set_num_threads: none": (lambda: fn.set_num_threads(0), "n: expected at least 1"),
    "set_num_threads: a fraction": (lambda: fn.set_num_threads(1.5), "n: expected"),
    "manual_seed: negative": (lambda: fn.manual_seed(-1), "seed must lie"),
    "manual_seed: text": (lambda: fn.manual_seed("x"), "seed must be an int"),
    "mlp: no hidden units": (lambda: fn.models.mlp(4, [0], 2), "got 0"),
}


def load_state(spoil):
    """Load a state of Adam that is spoilt by spoil(settings, arrays) of its first group."""
    optimizer = adam()
    state = optimizer.state_dict()
    spoil(state["groups"][0], state["state"][0])
    before = optimizer.state_dict()
    try:
        optimizer.load_state_dict(state)
    finally:
        np.testing.assert_equal(optimizer.state_dict(), before)


def spell(states):
    states["exp_avg"] = np.full(states["exp_avg"].shape, "x")


def forward_backward(dy):
    m = model()
    m.forward_train(X)
    m.backward(dy)


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_with_a_message_that_names_it(name):
    call, message = CASES[name]
    with pytest.raises((ValueError, TypeError, FileNotFoundError, RuntimeError), match=f"(?s){message}") as caught:
        call()
    if isinstance(caught.value, RuntimeError):
        assert "before" in name, "only a call out of order may raise RuntimeError"


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_values_that_are_not_finite_flow(bad):
    x = X.copy()
    x[0, 0] = bad
    y = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))(x) if bad != bad else nn.Linear(6, 3)(x)
    assert not np.isfinite(y[0]).all()
    assert np.isfinite(y[1:]).all()


@pytest.mark.parametrize(
    "awkward",
    [
        lambda x: x[:, ::-1].copy()[:, ::-1],
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x.astype(">f4"),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: x.tolist(),
    ],
    ids=["negative strides", "Fortran order", "strided", "big-endian", "misaligned", "stride 0", "a list"],
)
def test_awkward_layouts_give_the_result_of_a_plain_copy(awkward):
    m = model()
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    given = awkward(x)
    plain = np.array(given, np.float32)
    np.testing.assert_array_equal(m(given), m(plain))
    s = step(m)
    before = m.state_dict()
    loss = s(given, Y.tolist())
    m.load_state_dict(before)
    assert s(plain, Y) == loss


def test_a_read_only_input_is_read():
    x = X.copy()
    x.flags.writeable = False
    assert model()(x).shape == (4, 3)
