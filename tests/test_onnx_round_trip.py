"""What fastnn.onnx.save writes, load reads: the same state bit for bit, the same outputs, and it trains on alike."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from test_onnx_save import LARGE, NETWORKS, network
from test_onnx_save_ops import ONE_BATCH, ROWS, SETTINGS, data, row

import fastnn as fn
from fastnn import interop, nn, optim

from saved import OPSETS, assert_alike, assert_runs_alike, flat


def back(model, path, *inputs, **settings):
    fn.onnx.save(model, path, *inputs, **settings)
    return fn.onnx.load(path)


def assert_same_state(model, read):
    states = [
        {name: (array.dtype, array.shape, array.tobytes()) for name, array in m.state_dict().items()}
        for m in (model, read)
    ]
    assert states[0] == states[1]
    for kind in ("named_parameters", "named_buffers"):
        kinds = [{name: p.requires_grad for name, p in getattr(m, kind)()} for m in (model, read)]
        assert kinds[0] == kinds[1]


def tensors(result):
    if isinstance(result, dict):
        return tensors(list(result.values()))
    return [t for part in result for t in tensors(part)] if isinstance(result, (tuple, list)) else [result]


def losses(model, inputs, steps=6):
    """Of some steps in training mode, from one seed."""
    fn.manual_seed(5)
    model.train()

    def loss(output, _):
        return sum((y - 0.5).square().mean() for y in tensors(output) if y.dtype.kind == "f")

    step = fn.TrainStep(model, loss, optim.SGD(model.parameters(), lr=0.002, momentum=0.5))
    return [step(*inputs, inputs[0]) for _ in range(steps)]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_come_back_with_the_same_state_and_train_on_alike(tmp_path, name):
    model, inputs = network(name)
    read = back(model, tmp_path / "m.onnx", *inputs)
    assert_same_state(model, read)
    assert_alike(flat(read.evaluated(*inputs)), flat(model.evaluated(*inputs)))
    expected = losses(model, inputs)
    np.testing.assert_allclose(losses(read, inputs), expected, rtol=1e-5)
    assert len(set(expected)) == len(expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_networks_come_back_with_the_same_state(tmp_path, name):
    model, inputs = network(name)
    read = back(model, tmp_path / "m.onnx", *inputs)
    assert_same_state(model, read)
    assert_alike(flat(read.evaluated(*inputs)), flat(model.evaluated(*inputs)))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("text, shape", [*ROWS, *SETTINGS], ids=[text for text, _ in (*ROWS, *SETTINGS)])
def test_layers_and_functions_come_back(tmp_path, text, shape, opset):
    model = row(text)
    inputs = data(text, shape if text in ONE_BATCH else (4, *shape[1:]))
    read = back(model, tmp_path / "m.onnx", *inputs, opset=opset, dynamic_batch=text not in ONE_BATCH)
    assert_same_state(model, read)
    assert_alike(flat(read.evaluated(*inputs)), flat(model.evaluated(*inputs)))


def test_frozen_parameters_and_counts_come_back(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    for _ in range(3):
        model.forward_train(np.float32([[1, 2, 3], [3, 2, 0]]))
    read = back(model, tmp_path / "m.onnx", np.zeros((2, 3), np.float32))
    assert_same_state(model, read)
    assert read.state_dict()["1.num_batches_tracked"] == 3


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 10000, '{"buffers": 1, "frozen": [], "counts": {}}']
    + [f'{{"buffers": [], "frozen": [], "counts": {{"n": {n}}}}}' for n in ("-1", "1.5", "true", 2**63, '"1"')],
)
def test_a_file_whose_description_of_its_state_is_damaged_is_refused(tmp_path, text):
    path = tmp_path / "m.onnx"
    fn.onnx.save(nn.Linear(3, 2), path, np.zeros((2, 3), np.float32))
    proto = onnx.load(path)
    assert [entry.key for entry in proto.metadata_props] == ["fastnn.state"]
    proto.metadata_props[0].value = text
    with pytest.raises(ValueError, match=r"what it says under 'fastnn\.state' is damaged"):
        fn.onnx.load(proto.SerializeToString())


FOREIGN = Path(os.environ.get("FASTNN_DATA", "")) / "models"


def keras(name):
    pytest.importorskip("h5py")
    return interop.load_keras(FOREIGN / name)


def caffe(name):
    pytest.importorskip("google.protobuf")
    return interop.load_caffe(FOREIGN / "lenet_train_test.prototxt", FOREIGN / name)


#: Files that others have trained, how they are read, and shapes of their inputs, of which the batch is fixed.
FILES = {
    "churn_tf2onnx_opset13.onnx": (fn.onnx.load, [(4, 12)], False),
    "cifar100_selu_opset14.onnx": (fn.onnx.load, [(1, 3, 32, 32)], True),
    "mnist_cnn_bn_opset11.onnx": (fn.onnx.load, [(4, 1, 28, 28)], False),
    "two_inputs_conv1d_opset13.onnx": (fn.onnx.load, [(1, 1, 200), (1, 7)], True),
    "lenet_iter_10000.caffemodel": (caffe, [(4, 1, 28, 28)], False),
    "mnist_mlp.t7": (interop.load_torch7, [(4, 784)], False),
    "mnist_cnn.keras": (keras, [(4, 28, 28, 1)], False),
    "mnist_cnn_legacy.h5": (keras, [(4, 28, 28, 1)], False),
    "churn_keras.h5": (keras, [(4, 12)], False),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", FILES)
def test_files_of_others_leave_as_onnx_that_onnx_runtime_runs_and_come_back(tmp_path, name, opset):
    if not (FOREIGN / name).exists():
        pytest.skip("FASTNN_DATA names no folder with models")
    load, shapes, fixed = FILES[name]
    model = load(name if load in (keras, caffe) else FOREIGN / name)
    inputs = [np.random.default_rng(2).uniform(0, 1, shape).astype(np.float32) for shape in shapes]
    settings = dict(opset=opset, dynamic_batch=not fixed)
    assert_runs_alike(model, tmp_path / "m.onnx", inputs, (None,) if fixed else (None, 1, 7), **settings)
    read = back(model, tmp_path / "m.onnx", *inputs, **settings)
    assert_same_state(model, read)
    assert_alike(flat(read.evaluated(*inputs)), flat(model.evaluated(*inputs)))


def test_a_policy_that_draws_keeps_what_it_computes(tmp_path):
    path = FOREIGN / "policy_gaussian_opset11.onnx"
    if not path.exists():
        pytest.skip("FASTNN_DATA names no folder with models")
    model = fn.onnx.load(path)
    shapes = [[d.dim_value or 3 for d in p.type.tensor_type.shape.dim] for p in onnx.load(path).graph.input]
    inputs = [
        np.random.default_rng(2).uniform(0, 1, shape).astype(np.float32) for shape in shapes[: len(model.input_names)]
    ]
    read = back(model, tmp_path / "m.onnx", *inputs)
    assert_same_state(model, read)
    results = [flat(m.evaluated(*inputs)) for m in (model, model, read)]
    same = [i for i, (a, b) in enumerate(zip(*results[:2], strict=True)) if np.array_equal(a, b)]
    assert same
    assert_alike([results[2][i] for i in same], [results[0][i] for i in same])
