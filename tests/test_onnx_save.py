"""Networks are written as ONNX files that hold what the network is, and nothing else."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import models, nn, optim

from saved import MORE_OPSETS, OPSETS, assert_runs_alike, operators, runtime, written

RNG = np.random.default_rng(11)


def normal(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


class Computes(nn.Module):
    """A function of tensors, with layers by name."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4, 8, 3, 2, 1, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(8, 1, 3, padding=1)
        )

    def forward(self, image):
        return self.decoder(self.encoder(image)).sigmoid()


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.words = nn.Linear(5, 8), nn.Linear(3, 8), nn.Embedding(10, 8)
        self.head = nn.Linear(16, 2)

    def forward(self, features, more, words):
        h = fn.concat([self.left(features).relu(), self.right(more).tanh()], 1)
        h = h + F.pad(self.words(words).mean(1), (8, 0))
        return {"logits": self.head(h), "hidden": (h, h.argmax(1))}


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.LayerNorm(32), nn.Linear(32, 32), nn.Tanh())
        self.mean, self.value = nn.Linear(32, 4), nn.Linear(32, 1)
        self.log_std = nn.Parameter(np.full(4, -0.5, np.float32))

    def forward(self, observation):
        h = self.body(observation)
        mean = self.mean(h)
        return mean, fn.broadcast_to(self.log_std.exp(), mean.shape), self.value(h).squeeze(1)


class Transformer(nn.Module):
    def __init__(self, width=16, heads=4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Dropout(0.2), nn.Linear(32, width))

    def forward(self, x):
        n, t, d = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = parts[0], parts[1], parts[2]
        weights = ((q @ k.transpose(-1, -2)) * (d // self.heads) ** -0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, d))
        return x + self.mlp(self.norm2(x))


def narrow_alexnet():
    """AlexNet's layers with fewer channels, and its local response norm."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 11, 4, 2), nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 12, 5, padding=2, groups=2), nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2),
        nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(5), nn.Flatten(),
        nn.Dropout(), nn.Linear(400, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10),
    )  # fmt: skip


def narrow_vgg():
    """VGG's layers, with batch norm, and fewer channels."""
    stages = []
    for before, after in ((3, 8), (8, 12), (12, 16)):
        stages += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *stages, nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10)
    )


NETWORKS = {
    "LeNet-5": (models.LeNet5, [(4, 1, 28, 28)]),
    "ResNet-20": (models.resnet20, [(3, 3, 32, 32)]),
    "ResNet-18": (lambda: models.resnet18(num_classes=7), [(3, 3, 33, 40)]),
    "narrow AlexNet": (narrow_alexnet, [(3, 3, 99, 99)]),
    "narrow VGG": (narrow_vgg, [(3, 3, 40, 40)]),
    "autoencoder": (Autoencoder, [(3, 1, 28, 28)]),
    "two inputs": (TwoInputs, [(4, 5), (4, 3), (4, 6)]),
    "policy": (Policy, [(4, 8)]),
    "transformer": (Transformer, [(3, 5, 16)]),
}
LARGE = {
    "AlexNet": (models.alexnet, [(2, 3, 224, 224)]),
    "VGG-11": (models.vgg11, [(2, 3, 224, 224)]),
    "ResNet-50": (models.resnet50, [(2, 3, 224, 224)]),
}


def network(name):
    make, shapes = (NETWORKS | LARGE)[name]
    fn.manual_seed(1)
    inputs = [RNG.integers(0, 10, s) if name == "two inputs" and i == 2 else normal(*s) for i, s in enumerate(shapes)]
    return make(), inputs


@pytest.mark.parametrize("opset", (13, *OPSETS))
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_run_elsewhere_with_the_same_outputs(tmp_path, name, opset):
    model, inputs = network(name)
    proto = assert_runs_alike(model, tmp_path / "m.onnx", inputs, opset=opset)
    arrays = {a.name: onnx.numpy_helper.to_array(a) for a in proto.graph.initializer}
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert arrays.keys() == state.keys()
    for key, value in state.items():
        assert value.tobytes() == arrays[key].tobytes() and value.shape == arrays[key].shape


@pytest.mark.parametrize("opset", MORE_OPSETS)
def test_every_opset_is_written(tmp_path, opset):
    for name in ("autoencoder", "policy", "two inputs", "transformer"):
        model, inputs = network(name)
        assert_runs_alike(model, tmp_path / "m.onnx", inputs, (None,), opset=opset)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_networks_run_elsewhere_with_the_same_outputs(tmp_path, name):
    model, inputs = network(name)
    assert_runs_alike(model, tmp_path / "m.onnx", inputs, (None, 1))


def test_nodes_are_those_that_a_reader_hopes_to_see(tmp_path):
    model, inputs = network("LeNet-5")
    conv = ["Conv", "Relu", "MaxPool"]
    assert operators(written(model, tmp_path / "m.onnx", *inputs)) == [
        *conv * 2,
        "Flatten",
        *["Gemm", "Relu"] * 2,
        "Gemm",
    ]
    model, inputs = network("ResNet-18")
    kinds = set(operators(written(model, tmp_path / "m.onnx", *inputs)))
    assert kinds == {"Conv", "BatchNormalization", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Squeeze", "Gemm"}
    for channels in (1, 3):
        layers = nn.Conv1d(channels, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2), nn.ConvTranspose1d(4, 2, 3)
        for batch in (2, 1):
            x, how = normal(batch, channels, 20), dict(dynamic_batch=batch > 1)
            kinds = operators(written(nn.Sequential(*layers), tmp_path / "m.onnx", x, **how))
            assert kinds == ["Conv", "BatchNormalization", "Relu", "MaxPool", "ConvTranspose"]
    flat = nn.Sequential(nn.Conv2d(3, 4, (1, 3)), nn.MaxPool2d((1, 2)))
    assert operators(written(flat, tmp_path / "m.onnx", normal(2, 3, 1, 20))) == ["Conv", "MaxPool"]
    images = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8), nn.LocalResponseNorm(3)
    )
    kinds = operators(written(images, tmp_path / "m.onnx", normal(2, 4, 8, 8), opset=21))
    assert kinds == ["Conv", "GroupNormalization", "InstanceNormalization", "LRN"]

    kinds = operators(written(nn.Upsample(scale_factor=(2, 3)), tmp_path / "m.onnx", normal(2, 3, 4, 5)))
    assert kinds == ["Resize"]
    gates = Computes(lambda _, x: x * x.mean((2, 3), keepdim=True).sigmoid())
    assert operators(written(gates, tmp_path / "m.onnx", normal(2, 4, 6, 5))) == ["ReduceMean", "Sigmoid", "Mul"]
    pads = nn.Sequential(nn.ReflectionPad2d(2), nn.ReplicationPad2d((1, 0, 2, 3)), nn.PReLU(4), nn.ZeroPad2d(1))
    kinds = operators(written(pads, tmp_path / "m.onnx", normal(2, 4, 6, 5)))
    assert [kind for kind in kinds if kind != "Unsqueeze"] == ["Pad", "Pad", "PRelu", "Pad"]


def test_padding_twice_is_not_padding_once_by_more(tmp_path):
    twice = nn.Sequential(
        nn.ReflectionPad2d(2), nn.ReflectionPad2d(2), nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=(3, 1))
    )
    assert_runs_alike(twice, tmp_path / "m.onnx", [normal(2, 3, 4, 5)])


def test_names_are_those_of_modules_and_parameters(tmp_path):
    model, inputs = network("ResNet-20")
    proto = written(model, tmp_path / "m.onnx", *inputs)
    names = [node.name for node in proto.graph.node]
    assert {"layer1/0/conv1/Conv", "layer1/0/bn1/BatchNormalization", "fc/Gemm"} <= set(names)
    assert len(set(names)) == len(names)
    assert (proto.producer_name, proto.graph.name) == ("fastnn", "CifarResNet")
    data = (tmp_path / "m.onnx").read_bytes()
    assert str(tmp_path).encode() not in data and os.path.dirname(fn.__file__).encode() not in data


def test_inputs_and_outputs_have_names(tmp_path):
    def ports(proto):
        return [[port.name for port in ports] for ports in (proto.graph.input, proto.graph.output)]

    path = tmp_path / "m.onnx"
    taken = Computes(lambda self, x: {"layer": self.input(x), "a": (x, x), "a_1": x * 2}, input=nn.Linear(3, 3))
    taken.output = nn.Parameter(np.ones(3, np.float32))
    names = [["input"], ["layer", "a", "a_1", "a_1_1"]]
    assert ports(assert_runs_alike(taken, path, [normal(2, 3)])) == names
    model, inputs = network("two inputs")
    assert ports(written(model, path, *inputs)) == [["features", "more", "words"], ["logits", "hidden", "hidden_1"]]
    named = written(model, path, *inputs, input_names=["a", "b", "c"], output_names=["x", "y", "z"])
    assert ports(named) == [["a", "b", "c"], ["x", "y", "z"]]
    assert ports(written(Computes(lambda _, x, y: (x, y, x)), path, *inputs[:2])) == [
        ["input", "input_1"],
        ["output", "output_1", "output_2"],
    ]
    assert_runs_alike(Computes(lambda _, x, y: (x, y, x, x + y[:, :1], x + y[:, :1])), path, inputs[:2])


def test_a_file_that_was_read_keeps_its_names(tmp_path):
    model, inputs = network("two inputs")
    written(model, tmp_path / "m.onnx", *inputs)
    again = written(fn.onnx.load(tmp_path / "m.onnx"), tmp_path / "n.onnx", *inputs)
    assert [port.name for port in again.graph.input] == ["features", "more", "words"]
    assert [port.name for port in again.graph.output] == ["logits", "hidden", "hidden_1"]


def test_the_batch_is_a_symbol_unless_it_is_asked_to_be_fixed(tmp_path):
    model, (x,) = network("policy")

    def first_sizes(proto):
        ports = [*proto.graph.input, *proto.graph.output]
        return {d.dim_param or d.dim_value for d in (port.type.tensor_type.shape.dim[0] for port in ports)}

    assert first_sizes(written(model, tmp_path / "m.onnx", x)) == {"batch"}
    assert first_sizes(written(model, tmp_path / "m.onnx", x[:1])) == {"batch"}
    assert first_sizes(written(model, tmp_path / "m.onnx", x, dynamic_batch=False)) == {4}
    assert_runs_alike(model, tmp_path / "m.onnx", [x], (None,), dynamic_batch=False)


SIZES = {
    "flattened with the batch": lambda _, x: (x.reshape(-1, 2), x.reshape(-1)),
    "several that follow": lambda _, x: x.reshape(2 * len(x), 3).T.reshape(3, len(x), 2),
    "a stack of the batch": lambda _, x: x.reshape(len(x), 1, 6) + x.reshape(1, len(x), 6),
    "a slice from the end": lambda _, x: (x[1:], x[:-1], x[::2] if len(x) % 2 else x[:], x[-1:]),
    "two that follow": lambda _, x: (x @ fn.concat([x, x], 0).T).reshape(2 * len(x), len(x)),
    "in another layout": lambda _, x: F.layer_norm(x.reshape(-1, 2, 3), 3).relu() + x.reshape(-1, 2, 3),
    "two norms": lambda _, x: F.layer_norm(x.reshape(-1, 2, 3), 3) + F.layer_norm(x.reshape(-1, 2, 3), (3,)).tanh(),
    "the mean over the batch": lambda _, x: x.mean() + x.var(0),
    "half of it": lambda _, x: fn.concat([x, x[:, ::-1]], 0)[len(x) :],
    "padded": lambda _, x: F.pad(x, (0, 0, 0, 3)),
    "as large as the batch": lambda _, x: fn.broadcast_to(x[:1], x.shape).cumsum(0),
}


@pytest.mark.parametrize("opset", (13, *OPSETS))
@pytest.mark.parametrize("case", [case for case in SIZES if case != "a slice from the end"])
def test_sizes_that_follow_the_batch(tmp_path, case, opset):
    assert_runs_alike(Computes(SIZES[case]), tmp_path / "m.onnx", [normal(4, 6)], (None, 3, 7), opset=opset)


def test_a_size_that_follows_the_batch_is_refused_where_onnx_wants_a_number(tmp_path):
    group_norm = Computes(lambda _, x: F.group_norm(x.reshape(1, len(x), 6), 1))
    layer_norm = Computes(lambda _, x: F.layer_norm(x.reshape(6, len(x)), len(x)))
    for model in (group_norm, layer_norm):
        for opset in (18, 21):
            with pytest.raises(ValueError, match="a size follows the batch where ONNX wants a number"):
                fn.onnx.save(model, tmp_path / "m.onnx", normal(4, 6), opset=opset)


@pytest.mark.parametrize("limit", [2, 5, 90])
def test_a_network_that_is_another_one_for_few_or_many_samples_is_not_written_for_all(tmp_path, limit):
    model = Computes(lambda _, x: x * 2.0 if len(x) > limit else x * 3.0)
    with pytest.raises(ValueError, match="another network for a batch of"):
        fn.onnx.save(model, tmp_path / "m.onnx", normal(4, 6))


def test_a_network_that_is_another_one_for_another_batch_is_written_for_one_alone(tmp_path):
    model = Computes(SIZES["a slice from the end"])
    with pytest.raises(ValueError, match=r"another network for a batch of 5 .*dynamic_batch=False"):
        fn.onnx.save(model, tmp_path / "m.onnx", normal(4, 6))
    assert not (tmp_path / "m.onnx").exists()
    assert_runs_alike(model, tmp_path / "m.onnx", [normal(5, 6)], (None,), dynamic_batch=False)


# ---- training ---------------------------------------------------------------------------------------


def test_dropout_and_batch_norm_survive_whatever_mode_the_model_is_in(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=0.2), nn.Dropout2d(0.3), nn.Flatten(), nn.Dropout(0.4)
    )
    for mode in (True, False):
        model.train(mode)
        model[1].eval()
        before = [m.__dict__["training"] for m in model.modules()]
        proto = assert_runs_alike(model, tmp_path / "m.onnx", [normal(3, 1, 6, 6)])
        assert [m.__dict__["training"] for m in model.modules()] == before
        kinds = operators(proto)
        assert kinds.count("Dropout") == 2 and kinds.count("BatchNormalization") == 1
    norm = next(node for node in proto.graph.node if node.op_type == "BatchNormalization")
    assert {a.name: a.f for a in norm.attribute} == pytest.approx({"epsilon": 1e-5, "momentum": 0.8})


def test_running_statistics_may_be_arrays(tmp_path):
    mean, var = np.float32([1, 2, 3]), np.float32([4, 5, 6])
    model = Computes(lambda self, x: F.batch_norm(x, mean, var, training=self.training))
    kinds = operators(assert_runs_alike(model, tmp_path / "m.onnx", [normal(4, 3)]))
    assert kinds == ["BatchNormalization"]


@pytest.mark.parametrize(
    "layer",
    [nn.GaussianNoise(0.5), nn.RReLU(), nn.AlphaDropout(0.3), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))],
)
def test_what_does_anything_else_in_training_is_written_as_it_is_evaluated(tmp_path, layer):
    model = nn.Sequential(nn.Linear(6, 6), layer, nn.Dropout(0.5))
    assert "Dropout" not in operators(assert_runs_alike(model, tmp_path / "m.onnx", [normal(3, 6)]))


@pytest.mark.parametrize("opset", OPSETS[:2])
def test_what_is_dropped_in_evaluation_is_dropped_elsewhere(tmp_path, opset):
    model = Computes(lambda _, x: F.dropout(x, 0.5, training=True))
    written(model, tmp_path / "m.onnx", normal(3, 600), opset=opset)
    (y,) = runtime(tmp_path / "m.onnx").run(None, {"input": np.ones((3, 600), np.float32)})
    assert set(np.unique(y)) == {0.0, 2.0} and 0.4 < (y == 0).mean() < 0.6


def test_random_numbers_are_drawn_in_each_run(tmp_path):
    model = Computes(lambda _, x: (x * 0 + fn.random.normal(x.shape), x * 0 + fn.random.uniform(x.shape, 2.0, 3.0)))
    written(model, tmp_path / "m.onnx", normal(3, 6))
    session = runtime(tmp_path / "m.onnx")
    x = normal(400, 6)
    (a, u), (b, _) = session.run(None, {"input": x}), session.run(None, {"input": x})
    assert (a != b).any() and abs(a.mean()) < 0.1 and 0.9 < a.std() < 1.1
    assert 2 <= u.min() < 2.05 and 2.95 < u.max() <= 3


# ---- parameters -------------------------------------------------------------------------------------


def test_shared_parameters_are_written_once(tmp_path):
    layer = nn.Linear(6, 6)
    model = Computes(lambda self, x: self.a(self.b(x)) @ self.a.weight, a=layer, b=layer)
    proto = assert_runs_alike(model, tmp_path / "m.onnx", [normal(3, 6)])
    assert [a.name for a in proto.graph.initializer] == ["a.weight", "a.bias"]


def test_what_training_has_made_is_written(tmp_path):
    model, (x,) = network("LeNet-5")
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01))
    for _ in range(3):
        step(x, np.arange(4))
        assert_runs_alike(model, tmp_path / "m.onnx", [x])


def test_frozen_and_untrained_models_are_written_alike(tmp_path):
    model, inputs = network("autoencoder")
    names = [operators(assert_runs_alike(m, tmp_path / "m.onnx", inputs)) for m in (model, model.frozen())]
    assert names[0] == names[1]


def test_arrays_that_a_network_holds_are_constants(tmp_path):
    mask = np.float32([1, 0, 1, 0, 1, 0])
    proto = assert_runs_alike(
        Computes(lambda _, x: x * mask + x * mask[::2].sum()), tmp_path / "m.onnx", [normal(3, 6)]
    )
    assert not proto.graph.initializer


def test_a_float64_model_is_written_in_float64(tmp_path):
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2), nn.Softmax(dim=1)).double()
    proto = assert_runs_alike(model, tmp_path / "m.onnx", [normal(3, 6, dtype=np.float64)])
    assert {a.data_type for a in proto.graph.initializer} == {onnx.TensorProto.DOUBLE}


# ---- what is refused --------------------------------------------------------------------------------


class Doubled(fn.Function):
    def forward(self, x):
        return x * 2

    def backward(self, dy):
        return dy * 2


class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Computes(lambda _, x: Doubled()(x))
        self.second = nn.Sequential(Computes(lambda _, x: Doubled()(x) + 1.0))

    def forward(self, x):
        return self.second(self.first(x))


def test_all_that_cannot_be_written_is_named_in_one_message(tmp_path):
    with pytest.raises(
        ValueError, match=r"cannot be written as ONNX of opset 18: Doubled.*\(in first\); Doubled.*\(before second.0\)"
    ):
        fn.onnx.save(Refused(), tmp_path / "m.onnx", normal(2, 3))
    assert not os.listdir(tmp_path)


def test_wrong_use_is_said_in_the_callers_words(tmp_path):
    model, x, path = nn.Linear(3, 2), normal(4, 3), tmp_path / "m.onnx"

    def refused(kind, match, *args, **settings):
        with pytest.raises(kind, match=match):
            fn.onnx.save(*args, **settings)

    refused(TypeError, "model must be a", lambda x: x, path, x)
    refused(TypeError, "give an input for each argument of forward", model, path)
    refused(ValueError, r"linear: input has shape .*expected \(\.\.\., 3\)", model, path, normal(4, 5))
    refused(TypeError, "input has dtype float16", model, path, x.astype(np.float16))
    refused(TypeError, "convert the input", model, path, x.astype(np.float64))
    refused(ValueError, "opset must lie in 9 ... ", model, path, x, opset=5)
    refused(ValueError, "opset must lie in 9 ... ", model, path, x, opset=1000)
    refused(TypeError, "opset must be an int", model, path, x, opset="18")
    refused(ValueError, r"input_names must be 1 name\(s\)", model, path, x, input_names=["a", "b"])
    refused(ValueError, r"output_names must be 1 name\(s\)", model, path, x, output_names=[])
    refused(TypeError, "input_names must be a list of names", model, path, x, input_names="x")
    refused(ValueError, "output_names: 'a' is the name", model, path, x, input_names=["a"], output_names=["a"])
    refused(ValueError, "input_names: 'weight' is the name", model, path, x, input_names=["weight"])
    refused(TypeError, "output_names must be a list of names", model, path, x, output_names=7)
    refused(FileNotFoundError, "none", model, tmp_path / "none" / "m.onnx", x)
    refused(TypeError, "path must be", model, 7, x)
    assert not os.listdir(tmp_path)


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["fastnn.onnx.save"], "LARGEST_FILE", 1000)
    with pytest.raises(ValueError, match=r"would take \d+ bytes, and an ONNX file holds at most 1000"):
        fn.onnx.save(nn.Linear(30, 20), tmp_path / "m.onnx", normal(2, 30))
    assert not os.listdir(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path, x = tmp_path / "m.onnx", normal(2, 3)
    fn.onnx.save(nn.Linear(3, 2), path, x)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fn.onnx.save(nn.Linear(3, 4), path, x)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.onnx"]


def test_a_missing_package_is_said_with_the_line_that_installs_it(tmp_path):
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import numpy as np, fastnn as fn\n"
        "import fastnn.onnx\n"
        "fn.onnx.save(fn.nn.Linear(3, 2), 'm.onnx', np.zeros((2, 3), np.float32))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode and 'pip install "fastnn[onnx]"' in done.stderr and not os.listdir(tmp_path)
