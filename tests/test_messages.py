"""What people are told who made a mistake: the argument, what it got, what it wanted, and the line that mends it.

`MISTAKES` is a table: a mistake in words, the call, what the message says, and the call mended as the message says.
"""

import errno
import inspect
import io
import pydoc
import re
import subprocess
import sys
import types

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import callbacks, data, nn, optim, plotting
from fastnn.cli import main

X = np.arange(24, dtype=np.float32).reshape(4, 6) / 24
Y = np.array([0, 1, 2, 0])
IMAGES = np.arange(2 * 3 * 6 * 6, dtype=np.uint8).reshape(2, 3, 6, 6)

#: What a message says of the line that made it.
HERE = re.compile(r" at \S*test_messages\.py:\d+\n    \S")
#: What a tensor's message says of why.
SYMBOL = "forward runs once, with symbols in place of numbers"


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def trainer(model=None, loss=None, **settings):
    model = model or net()
    return fn.Trainer(model, loss or nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), **settings)


def fit(x, y, model=None, loss=None, **settings):
    return trainer(model, loss, **settings).fit((x, y), verbose=False)


def step(model=None, loss=None, optimizer=None):
    model = model or net()
    return fn.TrainStep(model, loss or nn.CrossEntropyLoss(), optimizer or optim.SGD(net().parameters()))


def backward(*grads):
    model = net()
    model.forward_train(X)
    model.backward(*grads)


def run(function, *arrays):
    """A function as a forward."""
    return fn.trace(function)(*(arrays or (X,)))


class Two(nn.Module):
    """Two outputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x):
        return self.a(x), self.b(x)


class Wide(fn.Function):
    """float64 of float32."""

    def forward(self, x):
        return x.astype(np.float64)


def first(output, target):
    return F.cross_entropy(output[0], target)


def assigned(x):
    x[:, 0] = 0
    return x


def added_in_place(x):
    total = np.zeros((4, 6), np.float32)
    total += x
    return total


def added(x):
    total = np.zeros((4, 6), np.float32)
    total = total + x
    return total


class csr_matrix:
    """A sparse matrix as SciPy's: NumPy takes it for one object."""

    __module__ = "scipy.sparse._csr"

    def __init__(self, array):
        self.array = array

    def toarray(self):
        return self.array


class DataLoader:
    """A loader as PyTorch's: of the same name, and not indexed."""

    __module__ = "torch.utils.data.dataloader"

    def __len__(self):
        return 1

    def __iter__(self):
        yield X, Y


MISTAKES = {
    # ---- tensors as if they had values ---------------------------------------------------------------
    "a branch on a comparison": (
        lambda: run(lambda x: x if x >= 0 else -x),
        ["whether a traced tensor is true is asked for", HERE, SYMBOL, "fn.where(x > 0, a, b)", "fn.maximum(x, 0)"],
        lambda: run(lambda x: fn.where(x >= 0, x, -x)),
    ),
    "Python's max of a tensor": (
        lambda: run(lambda x: max(x, 0)),
        ["whether a traced tensor is true is asked for", HERE, "max(x, 0)", "fn.maximum(x, 0)"],
        lambda: run(lambda x: fn.maximum(x, 0)),
    ),
    "a chain of comparisons": (
        lambda: run(lambda x: x * (0 < x < 1)),
        ["whether a traced tensor is true is asked for", HERE, "a < b < c", "&, | and ~"],
        lambda: run(lambda x: x * ((0 < x) & (x < 1))),
    ),
    "masks combined without parentheses": (
        lambda: run(lambda x: x > 0 & x),
        ["`&` combines masks, not the number 0", "write (x > 0) & (y > 0)"],
        lambda: run(lambda x: (x > 0) & (x > 1)),
    ),
    "a tensor is indexed by a mask": (
        lambda: run(lambda x: x[x > 0]),
        ["how many elements a mask leaves is not known before it runs", "fn.where(mask, x, 0) or x * mask"],
        lambda: run(lambda x: [fn.where(x > 0, x, 0), x * (x > 0)]),
    ),
    "a part of a tensor is assigned to": (
        lambda: run(assigned),
        ["a part of a traced tensor is assigned to", HERE, "x[:, 0] = 0", SYMBOL, "x * mask", "fn.concat"],
        lambda: run(lambda x: x * np.array([0, 1, 1, 1, 1, 1], np.float32)),
    ),
    "a branch on a tensor": (
        lambda: run(lambda x: x if x.sum() else -x),
        ["whether a traced tensor is true is asked for", HERE, "`if`, `while`", "shapes and Python's values"],
        lambda: run(lambda x: x if x.shape[0] > 1 else -x),
    ),
    "a tensor is made a number": (
        lambda: run(lambda x: x * float(x.sum())),
        ["the numbers of a traced tensor are asked for", HERE, "Compute with the tensor itself"],
        lambda: run(lambda x: x * x.sum()),
    ),
    "a tensor is looped over": (
        lambda: run(lambda x: sum(x)),
        ["a traced tensor is looped over", HERE, "x[i] for i in range(len(x))", "x.sum(dim)"],
        lambda: run(lambda x: sum(x[i] for i in range(len(x)))),
    ),
    "a tensor is indexed by text": (
        lambda: run(lambda x: x["a"]),
        ["constant ints, slices, ..., None, arrays of ints or bools and tensors of labels, not str"],
        lambda: run(lambda x: x[np.array([1, 0])]),
    ),
    "NumPy's maximum of a tensor": (
        lambda: run(lambda x: np.maximum(x, 0)),
        ["np.maximum is called with a traced tensor", HERE, "Write fn.maximum(x, y)"],
        lambda: run(lambda x: fn.maximum(x, 0)),
    ),
    "NumPy's exp of a tensor": (
        lambda: run(lambda x: np.exp(x)),
        ["np.exp is called with a traced tensor", HERE, "Write x.exp(...)"],
        lambda: run(lambda x: x.exp()),
    ),
    "NumPy's sum of a tensor": (
        lambda: run(lambda x: np.sum(x, axis=1)),
        ["np.sum is called with a traced tensor", HERE, "Write x.sum(...)"],
        lambda: run(lambda x: x.sum(1)),
    ),
    "NumPy's concatenate of tensors": (
        lambda: run(lambda x: np.concatenate([x, x])),
        ["np.concatenate is called with a traced tensor", HERE, "Write fn.concat(tensors, dim)"],
        lambda: run(lambda x: fn.concat([x, x], 0)),
    ),
    "NumPy's clip of a tensor": (
        lambda: run(lambda x: np.clip(x, 0, 0.5)),
        ["np.clip is called with a traced tensor", HERE, "Write x.clip(...)"],
        lambda: run(lambda x: x.clip(0, 0.5)),
    ),
    "NumPy's where of a tensor": (
        lambda: run(lambda x: np.where(x > 0, x, 0)),
        ["np.where is called with a traced tensor", HERE, "fn.where(condition, x, y)"],
        lambda: run(lambda x: fn.where(x > 0, x, 0)),
    ),
    "a function of NumPy that fastnn has nothing like": (
        lambda: run(lambda x: np.arctan(x)),
        ["np.arctan is called with a traced tensor", HERE, "an fn.Function, which computes with arrays"],
        None,
    ),
    "a function of a room of NumPy": (
        lambda: run(lambda x: np.linalg.norm(x)),
        ["np.linalg.norm is called with a traced tensor", HERE],
        lambda: run(lambda x: (x * x).sum().sqrt()),
    ),
    "a tensor is added into an array": (
        lambda: run(added_in_place),
        ["np.add is to write a traced tensor into an array", HERE, "Write array = array + x"],
        lambda: run(added),
    ),
    "arithmetic with a parameter outside a forward": (
        lambda: nn.Parameter(X) + 1,
        ["only while a forward is traced", "of a parameter, its .data"],
        lambda: nn.Parameter(X).data + 1,
    ),
    "a function of tensors outside a forward": (
        lambda: fn.maximum(X, 0),
        ["only while a forward is traced", "NumPy arrays and functions", "fn.trace(function)"],
        lambda: [np.maximum(X, 0), fn.trace(lambda x: fn.maximum(x, 0))(X)],
    ),
    "a tensor is printed with a format": (
        lambda: run(lambda x: f"{x:.3f}"),
        ["the numbers of a traced tensor are asked for", HERE],
        lambda: run(lambda x: (f"{x}", x)[1]),
    ),
    "a parameter is compared": (
        lambda: nn.Parameter(X) >= 0,
        ["a Parameter is neither compared nor assigned to in part", "parameter.data >= 0"],
        lambda: nn.Parameter(X).data >= 0,
    ),
    "NumPy's exp of a parameter": (
        lambda: np.exp(nn.Parameter(X)),
        ["np.exp is called with a Parameter", "parameter.data"],
        lambda: np.exp(nn.Parameter(X).data),
    ),
    "a forward that forgets to return": (
        lambda: run(lambda x: None),
        ["returned NoneType; expected a tensor", "is a `return` missing?"],
        lambda: run(lambda x: x),
    ),
    "None in arithmetic": (
        lambda: run(lambda x: x + None),
        ["NoneType cannot enter a graph; expected a tensor, array or number", HERE],
        None,
    ),
    # ---- arrays that do not fit ----------------------------------------------------------------------
    "float64 data for a float32 model": (
        lambda: net()(X.astype(np.float64)),
        ["linear: the input is float64, the weight is float32", "input with .astype(np.float32)", "model.double()"],
        lambda: [net()(X.astype(np.float64).astype(np.float32)), net().double()(X.astype(np.float64))],
    ),
    "float32 data for a float64 model": (
        lambda: net().double()(X),
        ["the input is float32, the weight is float64", "input with .astype(np.float64)", "model.float()"],
        lambda: [net().double()(X.astype(np.float64)), net().double().float()(X)],
    ),
    "float64 images": (
        lambda: nn.Conv2d(3, 2, 3)(IMAGES / 255),
        ["conv2d: the input is float64, the weight is float32", ".astype(np.float32)", "model.double()"],
        lambda: nn.Conv2d(3, 2, 3)((IMAGES / 255).astype(np.float32)),
    ),
    "float64 data for a norm without weights": (
        lambda: nn.BatchNorm1d(6, affine=False)(X.astype(np.float64)),
        ["batch_norm: the input is float64, the running mean is float32", ".astype(np.float32)", "model.double()"],
        lambda: nn.BatchNorm1d(6, affine=False).double()(X.astype(np.float64)),
    ),
    "a float64 target": (
        lambda: nn.MSELoss()(X, X.astype(np.float64)),
        ["mse: the input is float32, the target is float64", "convert the target with .astype(np.float32)"],
        lambda: nn.MSELoss()(X, X.astype(np.float64).astype(np.float32)),
    ),
    "uint8 images": (
        lambda: nn.Conv2d(3, 2, 3)(IMAGES),
        ["conv2d: input holds integers; expected float32 or float64", ".astype(np.float32) / 255"],
        lambda: nn.Conv2d(3, 2, 3)(IMAGES.astype(np.float32) / 255),
    ),
    "bools": (
        lambda: net()(X > 0),
        ["input has dtype bool; expected float32 or float64", ".astype(np.float32)"],
        lambda: net()((X > 0).astype(np.float32)),
    ),
    "arrays of several dtypes": (
        lambda: run(lambda a, b: a + b, X, X.astype(np.float64)),
        ["argument 0 is float32, argument 1 is float64", ".astype(np.float32)"],
        lambda: run(lambda a, b: a + b, X, X.astype(np.float64).astype(np.float32)),
    ),
    "a sparse matrix": (
        lambda: net()(csr_matrix(X)),
        ["input is a sparse csr_matrix", ".toarray()"],
        lambda: net()(csr_matrix(X).toarray()),
    ),
    "a sparse matrix to train on": (
        lambda: fit(csr_matrix(X), Y),
        ["data[0] is a sparse csr_matrix", ".toarray()"],
        lambda: fit(csr_matrix(X).toarray(), Y),
    ),
    "a sparse matrix in a data set": (
        lambda: data.ArrayDataset(csr_matrix(X), Y),
        ["arrays[0] is a sparse csr_matrix", ".toarray()"],
        lambda: data.ArrayDataset(csr_matrix(X).toarray(), Y),
    ),
    "a sparse matrix in a forward": (
        lambda: run(lambda x: x * csr_matrix(X)),
        ["an operand of the traced function is a sparse csr_matrix", ".toarray()"],
        lambda: run(lambda x: x * csr_matrix(X).toarray()),
    ),
    "a list of unequal rows": (
        lambda: net()([[1.0, 2.0], [3.0]]),
        ["input is a list of unequal parts"],
        None,
    ),
    "what is no array": (
        lambda: net()({"x": X}),
        ["input must be an array of float32 or float64, got dict"],
        None,
    ),
    "images with the channels last": (
        lambda: nn.Conv2d(3, 2, 3)(np.ones((2, 6, 6, 3), np.float32)),
        ["input has 6 channels, in shape (2, 6, 6, 3)", "takes 3", "(N, C, H, W)", "permute the input"],
        lambda: nn.Conv2d(3, 2, 3)(np.ones((2, 6, 6, 3), np.float32).transpose(0, 3, 1, 2)),
    ),
    "a target without the output's column": (
        lambda: fit(X, X[:, 0], nn.Linear(6, 1), nn.MSELoss()),
        ["mse: input has shape (4, 1), target (4,)", "target[:, None]"],
        lambda: fit(X, X[:, 0][:, None], nn.Linear(6, 1), nn.MSELoss()),
    ),
    "labels in a column": (
        lambda: fit(X, Y[:, None]),
        ["cross_entropy: input has shape (4, 3), target (4, 1)", "target[:, 0]"],
        lambda: fit(X, Y[:, None][:, 0]),
    ),
    "labels as one-hot rows": (
        lambda: fit(X, np.eye(3, dtype=np.int64)[Y]),
        ["input has shape (4, 3), target (4, 3)", "one-hot rows become classes by target.argmax(1)"],
        lambda: fit(X, np.eye(3, dtype=np.int64)[Y].argmax(1)),
    ),
    "more inputs than labels": (
        lambda: fit(X, Y[:3]),
        ["data: expected arrays of equal lengths, with a row for each sample, got shapes (4, 6), (3,)"],
        lambda: fit(X[:3], Y[:3]),
    ),
    "nothing to predict": (
        lambda: trainer().predict(X[:0]),
        ["x: expected at least one row, got shapes (0, 6)"],
        None,
    ),
    # ---- objects of another kind ---------------------------------------------------------------------
    "the class of a loss": (
        lambda: fit(X, Y, loss=nn.CrossEntropyLoss),
        ["loss must be callable as loss(output, target)", "got the class CrossEntropyLoss itself", "CrossEntropyLoss("],
        lambda: fit(X, Y, loss=nn.CrossEntropyLoss()),
    ),
    "the class of a loss, in a step": (
        lambda: step(loss=nn.MSELoss),
        ["loss must be callable", "got the class MSELoss itself; make one with MSELoss(...)"],
        None,
    ),
    "the class of a model": (
        lambda: step(Two),
        ["model must be a Module, got the class Two itself; make one with Two(...)"],
        None,
    ),
    "the class of an optimizer": (
        lambda: step(optimizer=optim.SGD),
        ["optimizer must be an Optimizer, such as", "got the class SGD itself; make one with SGD(...)"],
        None,
    ),
    "the name of a loss": (
        lambda: trainer(loss="cross_entropy"),
        ["loss must be callable", "such as nn.CrossEntropyLoss(), got str"],
        lambda: trainer(loss=nn.CrossEntropyLoss()),
    ),
    "the name of an optimizer": (
        lambda: step(optimizer="sgd"),
        ["optimizer must be an Optimizer, such as optim.SGD(model.parameters()), got str"],
        lambda: step(model := net(), optimizer=optim.SGD(model.parameters())),
    ),
    "the class of a layer": (
        lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU),
        ["module '1' must be a Module, got the class ReLU itself; make one with ReLU(...)"],
        lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU()),
    ),
    "the class of a callback": (
        lambda: trainer().fit((X, Y), callbacks=[callbacks.EarlyStopping]),
        ["callbacks: expected Callback objects, got the class EarlyStopping itself"],
        None,
    ),
    "the class of an augmentation": (
        lambda: data.DataLoader((IMAGES,), augment=data.RandomHorizontalFlip),
        ["augment: expected a callable", "got the class RandomHorizontalFlip itself"],
        lambda: data.DataLoader((IMAGES,), augment=data.RandomHorizontalFlip()),
    ),
    "a list of layers": (
        lambda: nn.Sequential([nn.Linear(6, 3), nn.ReLU()]),
        ["each argument must be a Module, got list", "Sequential(*modules)"],
        lambda: nn.Sequential(*[nn.Linear(6, 3), nn.ReLU()]),
    ),
    "a model where its parameters are due": (
        lambda: optim.SGD(net()),
        ["params must be an iterable of parameters, such as model.parameters(), got Sequential"],
        lambda: optim.SGD(net().parameters()),
    ),
    "parameters with their names": (
        lambda: optim.SGD(net().named_parameters()),
        ["params must hold parameters, as model.parameters() does, got tuple"],
        lambda: optim.SGD(net().parameters()),
    ),
    "a dict to train on": (
        lambda: trainer().fit({"x": X, "y": Y}),
        [
            "data: expected (x, y)",
            "fastnn's DataLoader",
            "fn.data.DataLoader((x, y), ",
            "or an iterable of",
            "got dict",
        ],
        lambda: trainer().fit(fn.data.DataLoader((X, Y), batch_size=64), verbose=False),
    ),
    "PyTorch's DataLoader in a checkpoint": (
        lambda: fn.save_checkpoint("never", net(), loader=DataLoader()),
        ["loader must be fastnn's DataLoader, got torch's DataLoader"],
        None,
    ),
    "PyTorch's DataLoader in a DataLoader": (
        lambda: data.DataLoader(DataLoader()),
        ["dataset: expected a tuple of arrays", "dataset[indices], got torch's DataLoader"],
        None,
    ),
    "a dict as a data set": (
        lambda: data.DataLoader({"x": X, "y": Y}),
        ["dataset: expected a tuple of arrays", "got dict"],
        lambda: data.DataLoader((X, Y)),
    ),
    "a path that is none": (
        lambda: net().save(3),
        ["path must be a path, got 3"],
        None,
    ),
    "a state with a list that is no array": (
        lambda: net().load_state_dict({**net().state_dict(), "0.bias": [[1.0], [2.0, 3.0]]}),
        ["state_dict: 0.bias is no array"],
        None,
    ),
    "gradients for more outputs than there are": (
        lambda: backward(X[:, :3], X[:, :3]),
        ["backward takes the gradient of each of the 1 output(s), got 2"],
        lambda: backward(X[:, :3]),
    ),
    "a float64 gradient": (
        lambda: backward(X[:, :3].astype(np.float64)),
        ["dy has dtype float64; expected float32 of shape (N, 3)", ".astype(np.float32)"],
        lambda: backward(X[:, :3].astype(np.float64).astype(np.float32)),
    ),
    "a Function of another dtype": (
        lambda: Wide()(X),
        ["Wide.forward has dtype float64; expected float32", "return it with .astype(np.float32)"],
        None,
    ),
    "a device where a dtype is due": (
        lambda: net().to("cpu"),
        ["dtype must be float32 or float64, got 'cpu'"],
        lambda: net().to("float64"),
    ),
    "a size of a model's hidden layers": (
        lambda: fn.models.mlp(6, (5, 0), 3),
        ["hidden[1] must be an int of at least 1, got 0"],
        lambda: fn.models.mlp(6, (5, 1), 3),
    ),
    # ---- outputs and what they are measured by -------------------------------------------------------
    "two outputs and accuracy": (
        lambda: fit(X, Y, Two(), first, metrics=["accuracy"]),
        ["metrics: accuracy compares one output", "model returns a tuple of 2", "metrics=[]", "metric(output, target)"],
        lambda: fit(X, Y, Two(), first, metrics=[]),
    ),
    "two outputs and a loss for one": (
        lambda: fit(X, Y, Two()),
        ["input is a tuple of 2", "CrossEntropyLoss compares one output", "output, target: loss(output[0], target)"],
        lambda: fit(X, Y, Two(), lambda output, target: nn.CrossEntropyLoss()(output[0], target)),
    ),
    "one metric that is no list": (
        lambda: trainer(metrics="accuracy"),
        ["metrics: expected a list of names or callables, got 'accuracy'; of one metric, too: metrics=[metric]"],
        lambda: trainer(metrics=["accuracy"]),
    ),
    "a regression's accuracy": (
        lambda: fit(X, X[:, :3], loss=nn.MSELoss(), metrics=["accuracy"]),
        ["accuracy: expected targets 0 or 1", "a regression has no accuracy: give metrics=[]"],
        lambda: fit(X, X[:, :3], loss=nn.MSELoss(), metrics=["mean_absolute_error"]),
    ),
    "binary logits in a confusion matrix": (
        lambda: plotting.confusion_matrix([0, 1, 1], np.array([[-1.0], [2.0], [-3.0]])),
        ["predictions: shape (3, 1) has one score a sample", "(predictions[:, 0] > 0).astype(int)"],
        lambda: plotting.confusion_matrix([0, 1, 1], (np.array([[-1.0], [2.0], [-3.0]])[:, 0] > 0).astype(int)),
    ),
    "a log that validation makes": (
        lambda: trainer().fit((X, Y), callbacks=[callbacks.EarlyStopping()], verbose=False),
        ["monitor: there is no log 'val_loss'; there are loss", "fit(validation_data=...)"],
        lambda: trainer().fit((X, Y), validation_data=(X, Y), callbacks=[callbacks.EarlyStopping()], verbose=False),
    ),
    # ---- the toolbox -------------------------------------------------------------------------------------
    "a method of tensors with NumPy's word": (
        lambda: run(lambda x: x.max(axis=1)),
        ["Tensor.max() got an unexpected keyword argument 'axis'"],
        lambda: run(lambda x: x.max(1)[0]),
    ),
    "an argument of PyTorch's that no layer needs": (
        lambda: nn.ReLU(inplace=True),
        ["ReLU() takes no arguments, got inplace=True"],
        lambda: nn.ReLU(),
    ),
    "an update in place of settings": (
        lambda: optim.Custom(net().parameters(), lambda param, grad, state: param - grad),
        ['settings must be a dict, such as {"lr": 0.1}, got function', "a method of a subclass"],
        lambda: optim.Custom(net().parameters(), {"lr": 0.1}),
    ),
    "a factor in place of a function": (
        lambda: optim.lr_scheduler.LambdaLR(optim.SGD(net().parameters()), 0.95),
        ["lr_lambda must be a function of the step, as lambda step: 0.95**step", "got 0.95"],
        lambda: optim.lr_scheduler.LambdaLR(optim.SGD(net().parameters()), lambda step: 0.95**step),
    ),
    "a function that gives no number": (
        lambda: optim.lr_scheduler.MultiplicativeLR(optim.SGD(net().parameters()), lambda step: "x").step(),
        ["lr_lambda(step) must be a finite number, got 'x'"],
        None,
    ),
    "a weight that is computed already": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.utils.weight_norm(nn.Linear(2, 3))),
        ["Linear has no parameter 'weight': it is computed from others already"],
        None,
    ),
    "a width of 0 for a loss": (lambda: nn.HuberLoss(delta=0), ["delta must be above 0, got 0.0"], None),
    "a margin of 0 for a loss": (lambda: nn.TripletMarginLoss(margin=0), ["margin must be above 0, got 0.0"], None),
    "a least variance of 0": (lambda: nn.GaussianNLLLoss(eps=0), ["eps must be above 0, got 0.0"], None),
    "a share below 0": (
        lambda: nn.SigmoidFocalLoss(alpha=-0.5),
        ["alpha must be a number from 0 to 1, or -1, got -0.5"],
        lambda: nn.SigmoidFocalLoss(alpha=-1),
    ),
}


def message(call):
    with pytest.raises((TypeError, ValueError, OSError)) as caught:
        call()
    return str(caught.value)


def says(text, phrase):
    return phrase.search(text) if isinstance(phrase, re.Pattern) else phrase in text


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_message_names_what_is_wrong_and_what_mends_it(mistake):
    call, phrases, _ = MISTAKES[mistake]
    text = message(call)
    for phrase in phrases:
        assert says(text, phrase), f"{phrase!r} is not in: {text}"


@pytest.mark.parametrize("mistake", [name for name, (_, _, mended) in MISTAKES.items() if mended])
def test_what_a_message_advises_works(mistake):
    MISTAKES[mistake][2]()


def test_uint8_images_are_not_called_int64():
    assert "int64" not in message(MISTAKES["uint8 images"][0])


def test_a_sparse_matrix_of_scipy_is_refused_by_name():
    sparse = pytest.importorskip("scipy.sparse")
    for make in (sparse.csr_matrix, sparse.csr_array, sparse.coo_matrix):
        assert f"input is a sparse {make.__name__}; dense arrays" in message(lambda make=make: net()(make(X)))


def test_shapes_of_tensors_are_answered_to_numpy():
    run(lambda x: x * (np.ndim(x) + np.shape(x)[1]))


def test_an_array_before_a_tensor_counts_as_after_it():
    a = np.linspace(1, 2, 6, dtype=np.float32)
    pairs = {
        "+": (lambda x: a + x, a + X), "-": (lambda x: a - x, a - X), "*": (lambda x: a * x, a * X),
        "/": (lambda x: a / (x + 1), a / (X + 1)), "**": (lambda x: a**x, a**X),
        "@": (lambda x: np.stack([a, a]) @ x.T, np.stack([a, a]) @ X.T),
        "0-d": (lambda x: np.array(2.0) * x, 2 * X), "np.float64": (lambda x: np.float64(2) - x, 2 - X),
    }  # fmt: skip
    for sign, (function, expected) in pairs.items():
        got = run(function)
        assert got.dtype == np.float32, sign
        np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=sign)


# ---- metrics follow the loss -----------------------------------------------------------------------------

REGRESSION = (X, X[:, :3])


@pytest.mark.parametrize(
    ("loss", "target", "metrics"),
    [
        (nn.CrossEntropyLoss(), Y, {"accuracy"}),
        (F.cross_entropy, Y, {"accuracy"}),
        (nn.BCEWithLogitsLoss(), (X[:, :3] > 0.5).astype(np.float32), {"accuracy"}),
        (F.binary_cross_entropy_with_logits, (X[:, :3] > 0.5).astype(np.float32), {"accuracy"}),
        (nn.MSELoss(), X[:, :3], set()),
        (F.mse_loss, X[:, :3], set()),
        (lambda output, target: ((output - target) ** 2).mean(), X[:, :3], set()),
    ],
    ids=["cross-entropy", "its function", "binary", "its function", "squares", "their function", "one's own"],
)
def test_by_default_a_trainer_measures_what_goes_with_the_loss(loss, target, metrics):
    logs = fit(X, target, loss=loss).history
    assert logs.keys() == {"loss", "samples_per_second"} | metrics
    assert trainer(loss=loss).evaluate((X, target)).keys() == {"loss"} | metrics


def test_a_loss_of_ones_own_says_what_goes_with_it():
    class Absolute(nn.Loss):
        metrics = ("mean_absolute_error",)

        def forward(self, input, target):
            return fn.abs(input - target).mean()

    logs = fit(*REGRESSION, loss=Absolute()).history
    assert logs["mean_absolute_error"] == pytest.approx(logs["loss"])


def test_two_outputs_are_trained_on_by_a_loss_that_takes_them():
    assert fit(X, Y, Two(), first).history.keys() == {"loss", "samples_per_second"}


# ---- the command line ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder."""
    folder = str(tmp_path_factory.mktemp("runs") / "r")
    out, sys.stdout = sys.stdout, io.StringIO()
    try:
        assert main(["train", "--hidden", "4", "--epochs", "1", "--out", folder]) == 0
    finally:
        sys.stdout = out
    return folder


# The arguments, RUN standing for a run folder, and what the one line says.
COMMANDS = {
    "a text file of samples": (
        ["predict", "RUN", "t.csv"],
        ["t.csv: ", ".npy files", "IDX files", "np.save('samples.npy', np.loadtxt('t.csv', delimiter=','))"],
    ),
    "MNIST that is not there": (
        ["train", "--data", "mnist", "--data-dir", "nowhere"],
        ["MNIST: no folder with both train-images-idx3-ubyte", "nowhere", "--data-dir", "FASTNN_DATA"],
    ),
    "CIFAR-10 that is not there": (
        ["train", "--data", "cifar10", "--data-dir", "nowhere"],
        ["CIFAR-10: no folder with data_batch_1.bin", "nowhere", "--data-dir", "FASTNN_DATA"],
    ),
    "a learning rate below 0": (["train", "--lr", "-1"], ["--lr: expected a number of at least 0, got '-1'"]),
    "a learning rate that is no number": (["train", "--lr", "nan"], ["--lr: expected a number of", "'nan'"]),
    "a momentum that is infinite": (["train", "--momentum", "inf"], ["--momentum: expected a number of", "'inf'"]),
    "a probability above 1": (["train", "--dropout", "2"], ["--dropout: expected a number from 0 to 1, got '2'"]),
    "a model that does not go with the data": (
        ["train", "--model", "mlp", "--data", "cifar10"],
        ["--data: --model mlp goes with digits, mnist, got cifar10"],
    ),
    "an option of another model": (
        ["train", "--model", "lenet5", "--hidden", "3"],
        ["--hidden: it goes with --model mlp, not lenet5; leave it out"],
    ),
    "a run that is not there": (["eval", "nowhere"], ["RUN: there is no folder nowhere; fastnn train makes one"]),
    "more samples than there are": (
        ["predict", "RUN", "--samples", "0:9999"],
        ["--samples: expected a part of the 360 samples, 0:360, got 0:9999"],
    ),
    "a size that the network does not take": (
        ["bench", "--model", "lenet5", "--input", "5,5"],
        ["--model lenet5 with an --input of 5,5: input has shape", "expected (N, C, H, W)"],
    ),
}


@pytest.mark.parametrize("mistake", COMMANDS)
def test_the_command_line_says_it_by_its_options(mistake, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("0,1,2\n3,4,5\n")
    words, phrases = COMMANDS[mistake]
    try:
        status = main([trained if word == "RUN" else word for word in words])
    except SystemExit as end:
        status = end.code
    text = capsys.readouterr().err
    assert status == 2
    assert text.startswith("fastnn: error: ") and text.count("\n") == 1, text
    for phrase in phrases:
        assert phrase in text, f"{phrase!r} is not in: {text}"
    assert "root=" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv"]  # no run folder is left


def test_the_reader_of_a_set_is_told_of_its_argument():
    for read in (data.mnist, data.cifar10, data.cifar100):
        with pytest.raises(FileNotFoundError, match="root= or the environment variable FASTNN_DATA") as caught:
            read("train", "nowhere")
        assert "--data-dir" not in str(caught.value)


# ---- files -----------------------------------------------------------------------------------------------


def test_a_checkpoint_is_no_model_and_the_message_says_how_it_is_read(tmp_path):
    path, model = tmp_path / "c.safetensors", net()
    optimizer = optim.SGD(model.parameters())
    fn.save_checkpoint(path, model, optimizer)
    for strict in (True, False):
        text = message(lambda strict=strict: net().load(path, strict=strict))
        assert str(path) in text and "is a checkpoint" in text and "fn.load_checkpoint(path, model)" in text
    other = net()
    fn.load_checkpoint(path, other)
    np.testing.assert_array_equal(other(X), model(X))


def test_a_model_is_no_checkpoint_and_the_message_says_how_it_is_read(tmp_path):
    path, model = tmp_path / "m.safetensors", net()
    model.save(path)
    text = message(lambda: fn.load_checkpoint(path, net()))
    assert str(path) in text and "is no checkpoint" in text and "model.load(path)" in text
    np.testing.assert_array_equal(net().load(path)(X), model(X))


#: Writes a file of each kind where the system lets no file grow beyond 100 bytes, as on a disk that is nearly full.
FULL = """
import resource, sys
import numpy as np
import fastnn as fn
from fastnn import callbacks, nn, optim
from fastnn.cli import main
model = nn.Linear(6, 3)
trainer = fn.Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
x = np.ones((4, 6), np.float32)
what = {
    "weights.safetensors": lambda path: model.save(path),
    "checkpoint.safetensors": lambda path: fn.save_checkpoint(path, model),
    "x.idx": lambda path: fn.data.write_idx(path, x),
    "log.csv": lambda path: trainer.fit((x, x[:, :3]), epochs=9, callbacks=[callbacks.CSVLogger(path)], verbose=False),
    "runs": lambda path: main(["train", "--epochs", "1", "--out", path]),
    "standard output": lambda path: main(["info"]),
}[sys.argv[1]]
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    sys.exit(what(sys.argv[1]))
except OSError as error:
    print(error, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "checkpoint.safetensors", "x.idx", "log.csv", "runs", "standard output"]
)
def test_where_the_disk_is_full_the_message_names_the_file(name, tmp_path):
    pytest.importorskip("resource")
    with open(tmp_path / "out", "w") as out:
        done = subprocess.run(
            [sys.executable, "-c", FULL, name], cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True
        )
    assert name in done.stderr and "File too large" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    if name == "log.csv":  # the first lines fit
        assert (tmp_path / name).read_text().startswith("epoch,loss")


def test_what_reading_a_file_raises_names_it_too(tmp_path, monkeypatch):
    from fastnn import files

    path = tmp_path / "m.safetensors"
    net().save(path)

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "_read_into", fail)
    with pytest.raises(OSError, match=r"Input/output error: '.*m\.safetensors'"):
        net().load(path)


# ---- help ------------------------------------------------------------------------------------------------


def help_of(thing):
    return pydoc.plain(pydoc.render_doc(thing))


def test_help_of_nn_begins_with_an_overview_of_all_that_is_in_it():
    overview = help_of(nn).split("PACKAGE CONTENTS")[0]
    words = set(re.findall(r"\w+", overview))
    assert words >= set(nn.__all__), set(nn.__all__) - words
    assert len(overview.splitlines()) < 40


def test_help_of_fastnn_begins_with_an_overview_of_its_rooms():
    words = set(re.findall(r"\w+", help_of(fn).split("PACKAGE CONTENTS")[0]))
    rooms = {name for name in fn.__all__ if isinstance(getattr(fn, name), types.ModuleType)}
    assert words >= rooms | {"TrainStep", "Trainer", "trace", "grad", "value_and_grad", "Function"}


@pytest.mark.parametrize("name", [name for name in nn.__all__ if inspect.isclass(getattr(nn, name))])
def test_help_of_a_class_tells_first_what_is_its_own(name):
    kind = getattr(nn, name)
    own = help_of(kind).split("inherited from")[0]
    lines = [line.removeprefix(" |  ").strip() for line in own.splitlines()]
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"class {name}"))
    summary = vars(kind)["__doc__"].splitlines()[0]
    assert summary in lines[begin : begin + 4], own  # behind the line of its arguments
    for method in (m for m, f in vars(kind).items() if inspect.isfunction(f) and not m.startswith("_")):
        assert any(line.startswith(f"{method}(") for line in lines), method


def test_each_method_that_layers_inherit_is_told_in_a_line():
    missing = [m for m, f in vars(nn.Module).items() if inspect.isfunction(f) and m[0] != "_" and not f.__doc__]
    assert not missing
