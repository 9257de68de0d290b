"""Every layer, function, method of tensors and loss is written as ONNX, and ONNX Runtime computes the same.

The tables are those of test_bits.py and test_nn_loss.py, which fail where anything is missing.
"""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import test_bits
import test_nn_loss
from onnx.reference import ReferenceEvaluator

import fastnn as fn
from fastnn import nn, ops
from fastnn.graph import Op
from fastnn.onnx.writer import WRITERS

from fuzz_programs import generate
from fuzz_run import Side
from native.activation import ACTIVATIONS, LAYERS
from saved import MORE_OPSETS, OPSETS, assert_alike, assert_runs_alike, flat, written

#: Ops that no file can hold, and why.
UNWRITTEN = {
    "callback": "runs Python",
    "assign": "changes the model",
    "input": "is an input of the file",
    "memory": "is an initializer, or a constant",
    "constant": "is a constant",
}
#: What stands in programs of training alone.
GRADIENTS = re.compile(r".*(_grad|_backward|_invstd)$|conv2d_weight_grad|scatter_.*")

#: Rows of test_bits.py that are right for their own batch alone.
ONE_BATCH = {"x.flatten(1).reshape(12, 20, 132).view(12, 2640)", "x.take(PLACES)", "x.gather(1, PLACES)"}
DRAWS = "fn.random.normal((96, 1000)) * x + fn.random.uniform((96, 1000)) + fn.random.bernoulli(0.4, (96, 1000))"
#: Rows that have no values for a batch of one.
WITHOUT_ONE = {"F.batch_norm(x, None, None, training=True)", "x.topk(2, 0)[0]"}

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


# Settings that the rows of test_bits.py leave out.
IMAGES, SEQUENCES = (3, 6, 9, 11), (3, 6, 17)
SETTINGS = [
    *((f"nn.Conv2d(6, 4, {how})", IMAGES) for how in (
        "3, padding='same', dilation=2", "(2, 3), padding=(1, 0, 2, 1)", "3, stride=(2, 1), bias=False",
        "(1, 5), padding=(0, 2)", "3, groups=2, padding=2, dilation=(1, 2)", "1",
    )),
    ("nn.Conv2d(6, 6, 3, groups=6)", IMAGES),
    ("nn.Conv2d(6, 12, (3, 1), groups=6, bias=False)", IMAGES),
    *((f"nn.Conv1d(6, 4, {how})", SEQUENCES) for how in (
        "3, padding='same', dilation=2", "4, padding='same'", "3, stride=2, groups=2, bias=False", "1, padding=1",
    )),
    ("nn.Conv1d(6, 6, 3, groups=6)", SEQUENCES),
    *((f"nn.ConvTranspose2d(6, 4, {how})", IMAGES) for how in (
        "3, 2, 1, 1", "(3, 2), (2, 3), bias=False", "3, groups=2, dilation=2", "4, 3, (1, 0), (2, 1)", "1",
    )),
    ("F.conv_transpose2d(x, np.ones((6, 4, 3, 3), np.float32), None, 2, (0, 1, 1, 0))", IMAGES),
    ("F.max_pool2d(x, 3, 2, (0, 1, 2, 0)) + F.avg_pool2d(x, 3, 2, (0, 1, 2, 0), count_include_pad=False)", IMAGES),
    ("nn.ConvTranspose2d(6, 6, 3, 2, groups=6)", IMAGES),
    *((f"nn.ConvTranspose1d(6, 4, {how})", SEQUENCES) for how in ("3, 2, 1, 1", "3, groups=2, bias=False", "4, 3")),
    *((f"nn.MaxPool2d({how})", IMAGES) for how in (
        "2, ceil_mode=True", "3, 2, 1, ceil_mode=True", "(2, 3), (1, 2), (1, 0)", "3, 3, (0, 1), ceil_mode=True",
        "1, 2",
    )),
    *((f"nn.MaxPool1d({how})", SEQUENCES) for how in ("3, 2, 1, ceil_mode=True", "2, 1", "5, 4, 2")),
    *((f"nn.AvgPool2d({how})", IMAGES) for how in (
        "3, 2, 1", "3, 2, 1, count_include_pad=False", "3, 2, 1, ceil_mode=True", "2, ceil_mode=True",
        "3, 2, 1, ceil_mode=True, count_include_pad=False", "3, 2, divisor_override=5",
        "3, 2, 1, ceil_mode=True, divisor_override=2",
    )),
    *((f"nn.AvgPool1d({how})", SEQUENCES) for how in ("3, 2, 1, ceil_mode=True", "3, 2, 1, False, False")),
    *((f"nn.Adaptive{kind}Pool2d({how})", IMAGES) for kind in ("Max", "Avg") for how in (1, 3, (3, 1), (9, None))),
    *((f"nn.Adaptive{kind}Pool1d({how})", SEQUENCES) for kind in ("Max", "Avg") for how in (1, 17)),
    *((f"nn.BatchNorm{n}d(6, {how})", shape) for n, shape in ((1, SEQUENCES), (2, IMAGES)) for how in (
        "affine=False", "track_running_stats=False", "eps=0.1, momentum=0.5",
    ) if (n, how) != (1, "track_running_stats=False")),
    ("nn.LayerNorm((9, 11))", IMAGES), ("nn.LayerNorm(11, elementwise_affine=False)", IMAGES),
    ("nn.LayerNorm((6, 9, 11), bias=False)", IMAGES), ("nn.RMSNorm((9, 11))", IMAGES),
    ("nn.GroupNorm(2, 6, affine=False)", SEQUENCES), ("nn.GroupNorm(6, 6)", (3, 6)), ("nn.GroupNorm(1, 6)", (3, 6)),
    *((f"nn.LocalResponseNorm({how})", IMAGES) for how in ("4, 0.1, 0.5, 2.0", "1", "99", "5, alpha=1e-2")),
    ("nn.LocalResponseNorm(3)", SEQUENCES),
    *((f"nn.{name}(dim={dim})", IMAGES) for name in ("Softmax", "LogSoftmax", "Softmin") for dim in (0, 1, 2, -1)),
    ("nn.Sequential(nn.Conv2d(6, 4, 1), nn.Softmax(dim=1), nn.PReLU(4), nn.Flatten())", IMAGES),
    ("nn.Sequential(nn.Linear(11, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))", IMAGES),
    ("F.interpolate(F.relu(x), scale_factor=(1.0, 2.0)) * x.mean((2, 3), keepdim=True)", IMAGES),
    ("fn.concat([F.relu(x), x], 1).amax((1, 3)).clamp(min=0.0)", IMAGES),
    ("fn.stack([x.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1).tanh()], 3) + 1.0", IMAGES),
    ("x[:, 1, :, ::2] * x[:, -1:, 0, 3:9]", IMAGES),
    ("x[:, [0, 2], :, [1, 3]].sum(0) + x[:, 0, ..., 2]", IMAGES),
    ("fn.einsum('nchw,ndhw->ncd', x, x[:, :2])", IMAGES),
    ("x.flatten(1) @ np.ones((594, 3), np.float32)", IMAGES),
    ("(x > 0).float() * x + fn.where((x > 0.5) | ~(x < -0.5) & (x != 0.0), x, 2.0)", IMAGES),
    ("fn.where(x, x, 1.0) + fn.where(x > 0, 1.0, 0.0) ** 2 + x.abs() ** 0.3 + 2.0 ** x", IMAGES),
    ("x.argmax(2) == x.argmin(2)", IMAGES),
    ("F.one_hot(x.argmax(1).reshape(-1), 6) + F.pad(x.unsqueeze(1), (0, 0) * 3 + (1, 1)).amax()", IMAGES),
    ("F.layer_norm(x, 11).flatten(1) + F.max_pool2d(x, 2, dilation=(3, 2)).amax()", IMAGES),
    ("F.max_pool2d(x, (2, 3), 2, (1, 0), dilation=2, ceil_mode=True)", IMAGES),
    ("F.max_pool1d(x, 3, 2, 1, 2)", SEQUENCES),
    ("F.embedding(x.argmax(1), np.arange(24, dtype=np.float32).reshape(6, 4))", IMAGES),
    ("F.one_hot(x.argmax(1), 6).sum(1) / x.std()", IMAGES),
]  # fmt: skip


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("text, shape", SETTINGS, ids=[text for text, _ in SETTINGS])
def test_settings_are_written(tmp_path, text, shape, opset):
    batches = (None, 5) if "track" in text or "std" in text or "one_hot(x.argmax(1).re" in text else (None, 1, 5)
    assert_runs_alike(
        row(text.replace("nn_(", "F.relu(")), tmp_path / "m.onnx", data(text, shape), batches, opset=opset
    )


def test_each_op_of_the_vocabulary_is_written_or_has_a_reason():
    kinds = {module.__name__: vars(module).values() for module in map(importlib.import_module, modules_of_ops())}
    names = {op.name for values in kinds.values() for op in values if isinstance(op, Op)}
    assert {name for name in names - WRITERS.keys() - UNWRITTEN.keys() if not GRADIENTS.fullmatch(name)} == set()


def modules_of_ops():
    return ["fastnn.graph", *(f"fastnn.ops.{path.stem}" for path in Path(ops.__file__).parent.glob("[a-z]*.py"))]


def single(value):
    array = np.asarray(value)
    return np.ascontiguousarray(array, np.int64 if array.dtype.kind == "i" else np.float32).reshape(array.shape)


#: What the reference of onnx computes in single precision (erf), of other neighbours, or of 64 places at most.
NOT_BY_REFERENCE = {"nn.GELU()", "x.erf()", "nn.LocalResponseNorm(3)", "x.topk(2, 1)[0]"}
DOUBLE = [(text, shape) for text, shape in ROWS if text not in ONE_BATCH | NOT_BY_REFERENCE]


@pytest.mark.parametrize("text, shape", DOUBLE, ids=[text for text, _ in DOUBLE])
def test_the_reference_computes_the_same_in_float64(tmp_path, text, shape):
    model = row(text).double() if text.startswith("nn.") else row(text)
    inputs = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in data(text, (2, *shape[1:]))]
    proto = written(model, tmp_path / "m.onnx", *inputs)
    names = [port.name for port in proto.graph.input]
    got = ReferenceEvaluator(proto).run(None, dict(zip(names, inputs, strict=True)))
    assert_alike(flat(got), flat(model.evaluated(*inputs)), 1e-11)


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
    opset = MORE_OPSETS[seed % len(MORE_OPSETS)]
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
