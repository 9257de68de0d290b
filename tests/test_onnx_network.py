"""Networks read from ONNX files: values, parameters, batches, and what is refused."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastnn.onnx  # noqa: E402

RNG = np.random.default_rng(0)


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs, outputs, arrays=(), opset=17, **settings):
    """The bytes of a network; nodes are (op, inputs, outputs, attributes)."""
    made = [helper.make_node(op, i.split(), o.split(), **dict(*a)) for op, i, o, *a in nodes]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in dict(arrays).items()]
    graph = helper.make_graph(made, "g", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8, **settings)
    return proto.SerializeToString()


def mlp():
    arrays = {
        "fc.weight": RNG.normal(size=(8, 12)).astype(np.float32),
        "fc.bias": np.zeros(8, np.float32),
        "w/2:0": RNG.normal(size=(8, 3)).astype(np.float32),
        "shape": np.array([0, -1]),
    }
    nodes = [
        ("Reshape", "x shape", "r"),
        ("Gemm", "r fc.weight fc.bias", "h", {"transB": 1}),
        ("Relu", "h", "a"),
        ("Gemm", "a w/2:0", "y"),
    ]
    return model(nodes, [value("x", ["N", 3, 4])], [value("y", ["N", 3])], arrays), arrays


def test_a_trainer_gives_it_integers_as_numbers():
    net = fn.onnx.load(mlp()[0])
    x, y = RNG.integers(0, 9, (20, 3, 4)), RNG.integers(0, 3, 20)
    trainer = fn.Trainer(net, loss=nn.CrossEntropyLoss(), optimizer=optim.SGD(net.parameters(), lr=1e-3))
    assert np.array_equal(trainer.predict(x.astype(np.uint8)), net(x.astype(np.float32)))
    trainer.fit((x, y), epochs=2, batch_size=8, verbose=0)
    with pytest.raises(TypeError, match="has dtype int64; the network takes float32"):
        net(x)


def test_a_network_has_the_files_values_at_any_batch():
    data, arrays = mlp()
    net = fn.onnx.load(data)
    for n in (1, 2, 5, 7):
        x = RNG.normal(size=(n, 3, 4)).astype(np.float32)
        hidden = np.maximum(x.reshape(n, 12).astype(float) @ arrays["fc.weight"].T, 0)
        np.testing.assert_allclose(net(x), hidden @ arrays["w/2:0"], rtol=1e-4, atol=1e-5)
        assert np.array_equal(net(x=x), net(x))
    assert net.plan(x).batched  # one program for all but one


def test_parameters_are_the_initializers_under_their_names():
    data, arrays = mlp()
    net = fn.onnx.load(data)
    state = net.state_dict()
    assert state.keys() == arrays.keys() - {"shape"}
    for name, array in state.items():
        assert np.array_equal(array, arrays[name])
    assert np.array_equal(net.fc.weight.data, arrays["fc.weight"])
    assert all(p.requires_grad for p in net.parameters())


def test_a_network_trains_copies_and_converts_as_others():
    data, _ = mlp()
    net = fn.onnx.load(data)
    x, y = RNG.normal(size=(8, 3, 4)).astype(np.float32), np.arange(8) % 3
    step = fn.TrainStep(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.05))
    losses = [step(x, y) for _ in range(20)]
    assert losses[-1] < losses[0] / 2
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.frozen()):
        assert np.array_equal(twin(x), net(x))
    wide = copy.deepcopy(net).double()
    assert wide(x.astype(np.float64)).dtype == np.float64
    np.testing.assert_allclose(wide(x.astype(np.float64)), net(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="'x' has dtype float64"):
        net(x.astype(np.float64))


def test_a_network_comes_in_evaluation_mode():
    net = fn.onnx.load(model([("Dropout", "x", "y")], [value("x", ["N"])], [value("y", ["N"])], opset=17))
    x = np.ones(100, np.float32)
    assert not net.training and np.array_equal(net(x), x)
    fn.manual_seed(0)
    assert set(net.train()(x)) == {0.0, 2.0}


def test_all_nodes_that_are_not_read_are_named_at_once():
    nodes = [("StringNormalizer", "x", "a"), ("Relu", "a", "b"), ("Wonder", "b", "y"), ("Relu", "x", "z", {"k": 1})]
    with pytest.raises(ValueError) as refused:
        fn.onnx.load(model(nodes, [value("x", [1])], [value("y", [1])]))
    message = str(refused.value)
    assert "3 node(s)" in message and "StringNormalizer: this operator of ONNX is not read ('a')" in message
    assert "Wonder: this operator of ONNX is not read ('y'); Relu: its attribute 'k' is not read ('z')" in message
