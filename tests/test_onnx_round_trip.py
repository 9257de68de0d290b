"""What fastnn.onnx.save writes, load reads: the same state bit for bit, the same outputs, and it trains on alike."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from test_onnx_save import LARGE, NETWORKS, network
from test_onnx_save_ops import ONE_BATCH, ROWS, SETTINGS, data, row

import fastnn as fn
from fastnn import nn, optim

from saved import OPSETS, assert_alike, flat


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
    assert min(expected[1:]) < expected[0]


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
