"""Every layer, function, method of tensors and loss is written as ONNX, and ONNX Runtime computes the same.

The tables are those of test_bits.py and test_nn_loss.py, which fail where anything is missing.
"""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import test_bits
import test_nn_loss

import fastnn as fn
from fastnn import nn

from fuzz_programs import generate
from fuzz_run import Side
from native.activation import ACTIVATIONS, LAYERS
from saved import OPSETS, assert_runs_alike, flat

#: Ops that no file can hold, and why.
UNWRITTEN = {
    "callback": "runs Python",
    "assign": "changes the model",
}

#: Rows of test_bits.py that are right for their own batch alone.
ONE_BATCH = {"x.flatten(1).reshape(12, 20, 132).view(12, 2640)", "x.take(PLACES)", "x.gather(1, PLACES)"}
DRAWS = "fn.random.normal((96, 1000)) * x + fn.random.uniform((96, 1000)) + fn.random.bernoulli(0.4, (96, 1000))"
#: Rows that have no values for a batch of one.
WITHOUT_ONE = {"F.batch_norm(x, None, None, training=True)"}

RNG = np.random.default_rng(3)


class Computes(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def row(text):
    """The module of a row of test_bits.py; functions draw as many numbers as there are samples."""
    if text.startswith("nn."):
        return eval(text, test_bits.NAMES)
    return Computes(test_bits.function("x", text.replace("(96, 1000)", "x.shape")))


def data(text, shape):
    if "Embedding" in text:
        return [RNG.integers(0, 50, shape)]
    return [RNG.standard_normal(shape).astype(np.float32) for _ in range(2 if "Bilinear" in text else 1)]


ROWS = [(text, shape) for text, shape in (*test_bits.LAYERS, *test_bits.FUNCTIONS) if text != DRAWS]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("text, shape", ROWS, ids=[text for text, _ in ROWS])
def test_onnx_runtime_computes_what_layers_and_functions_do(tmp_path, text, shape, opset):
    batches = (None,) if text in ONE_BATCH else (None, 5) if text in WITHOUT_ONE else (None, 1, 5)
    rows = shape[0] if text in ONE_BATCH else 7
    model = row(text)
    settings = dict(opset=opset, dynamic_batch=text not in ONE_BATCH)
    assert_runs_alike(model, tmp_path / "m.onnx", data(text, (rows, *shape[1:])), batches, **settings)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_agree_far_out_and_at_their_corners(tmp_path, kind, opset):
    edges = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0, -20.0, 50.0, -50.0, 88.0, -88.0]
    x = np.float32([edges, np.linspace(-9, 9, len(edges))])
    assert_runs_alike(eval(f"nn.{LAYERS[kind]}"), tmp_path / "m.onnx", [x], (None,), opset=opset)


def single(value):
    array = np.asarray(value)
    return np.ascontiguousarray(array, np.int64 if array.dtype.kind == "i" else np.float32).reshape(array.shape)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("reduction", test_nn_loss.REDUCTIONS)
@pytest.mark.parametrize("case", test_nn_loss.CASES, ids=lambda case: f"{case[0]}{case[1]}"[:60])
def test_losses_are_written(tmp_path, case, reduction, opset):
    name, settings, x, target = case
    loss = getattr(nn, name)(**{k: single(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()})
    loss.reduction = reduction
    given = [single(value) for value in (x, target)]
    follows = given[0].ndim > 1 and not any(np.ndim(value) > 1 for value in settings.values())
    batches = (None, 2) if follows else (None,)
    assert_runs_alike(loss, tmp_path / "m.onnx", given, batches, opset=opset, dynamic_batch=follows)


def assert_a_random_program_runs_alike(seed, path):
    """The model of a program of test_fuzz.py, where its numbers stay within bounds."""
    program, side = generate(seed, {1, 2, 3, 5, 6, 10}), Side(fn, "float32")
    definitions = program.definitions()
    assert side.run(definitions) is None
    model = side.space["model"]
    shape = (5, 4, 4, 4) if "Conv2d" in definitions or "(2, 3)" in definitions else (5, 4)
    inputs = [side.data(seed, *((5, 4) if name == "y" else shape)) for name in program.arguments.split(", ")]
    if not all(np.abs(y).max() < 1e4 for y in flat(model.evaluated(*inputs))):
        return
    opset = OPSETS[seed % len(OPSETS)]
    try:
        assert_runs_alike(model, path, inputs, (None, 6), opset=opset)
    except ValueError as error:
        if "another network" not in str(error):
            raise
        assert_runs_alike(model, path, inputs, (None,), opset=opset, dynamic_batch=False)


def test_models_of_random_programs_are_written(tmp_path):
    for seed in range(100):
        assert_a_random_program_runs_alike(seed, tmp_path / "m.onnx")


@pytest.mark.slow
def test_models_of_many_random_programs_are_written(tmp_path):
    for seed in range(100, 5000):
        assert_a_random_program_runs_alike(seed, tmp_path / "m.onnx")
