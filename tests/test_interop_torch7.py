"""Torch7's networks: files that these tests write, in all forms, and a real one."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.interop.torch7.file import Damage, parse

from interop_files import Code, Sizes, Thing, View, Writer, module, t7

torch = pytest.importorskip("torch")
F = torch.nn.functional

DATA = os.environ.get("FASTNN_DATA")
needs_files = pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "models").is_dir(), reason="FASTNN_DATA names no folder with models"
)
RNG = np.random.default_rng(0)


class Pairs(dict):
    """A table with any keys: tables, and both 1 and True."""

    def __init__(self, pairs=()):
        self.pairs = list(pairs)

    def __len__(self):
        return len(self.pairs)

    def items(self):
        return self.pairs


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def load(tmp_path):
    def write_and_load(value, **form):
        path = tmp_path / "net.t7"
        path.write_bytes(t7(value, **form))
        return fn.interop.load_torch7(path)

    return write_and_load


# ---- a real one -------------------------------------------------------------------------------------


@needs_files
def test_a_network_of_cuda_tensors_has_the_accuracy_that_torch_found():
    model = fn.interop.load_torch7(Path(DATA) / "models" / "mnist_mlp.t7")
    assert [p.shape for p in model.parameters()] == [(64, 784), (64,), (128, 64), (128,), (10, 128), (10,)]
    pixels = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-images-idx3-ubyte.gz").astype(np.float32)
    labels = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-labels-idx1-ubyte.gz")
    x = (pixels - np.float32(33.318)) / np.float32(78.567)
    assert np.sum(model(x).argmax(1) == labels) == 9802


@needs_files
def test_the_real_network_trains_on():
    model = fn.interop.load_torch7(Path(DATA) / "models" / "mnist_mlp.t7")
    pixels = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-images-idx3-ubyte.gz")[:64].astype(np.float32)
    labels = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-labels-idx1-ubyte.gz")[:64].astype(np.int64)
    x = (pixels - np.float32(33.318)) / np.float32(78.567)
    step = fn.TrainStep(model, nn.NLLLoss(), optim.SGD(model.parameters(), lr=0.01))
    losses = [step(x, (labels + 1) % 10) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0] and np.all(np.diff(losses) < 0)


# ---- forms ------------------------------------------------------------------------------------------

FORMS = [
    {}, {"ascii": True}, {"long": 4}, {"room": "torch.Cuda"}, {"room": "torch.Cl"}, {"versions": False},
    {"room": "torch.Cuda", "ascii": True},
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_of_a_file_gives_the_same_network(load, form):
    weight, bias = array(3, 4), array(3)
    net = module(
        "Sequential",
        modules=[module("View", size=Sizes((4,)), numElements=4), module("Linear", weight=weight, bias=bias)],
    )
    model = load(net, **form)
    x = array(5, 2, 2)
    np.testing.assert_allclose(model(x), x.reshape(5, 4) @ weight.T + bias, rtol=1e-6, atol=1e-6)
    assert model.state_dict()["1.weight"].tobytes() == weight.tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("form", FORMS[:4], ids=str)
def test_tensors_of_every_type_are_read(dtype, form):
    values = np.array([[1, 2, 3], [100, 5, 0]], dtype)
    table = parse(t7({"a": values, "empty": np.zeros(0, dtype)}, **form))
    read = table["a"].array()
    assert np.array_equal(read, values)
    assert form.get("ascii") or read.dtype == values.dtype or (dtype == "i8" and form.get("long") == 4)
    assert table["empty"].array().size == 0


def test_numbers_keep_every_bit_in_binary_and_in_ascii():
    values = np.array([0.1, -1e-300, 1e308, np.pi, np.inf, -np.inf, np.nan])
    for ascii in (False, True):
        table = parse(t7({"array": values, "number": float(np.pi)}, ascii=ascii))
        assert table["array"].array().tobytes() == values.tobytes() and table["number"] == np.pi


def test_tensors_are_views_of_their_storages():
    base = np.arange(12.0)
    views = {"row": View(base[4:8]), "turned": View(base.reshape(3, 4).T), "grid": View(base.reshape(3, 4)[1:, ::2])}
    table = parse(t7(views))
    for name, view in views.items():
        assert np.array_equal(table[name].array(), view.array)
    assert table["row"].storage is table["turned"].storage


def test_values_of_every_kind_are_read():
    shared = {"x": 1}
    pairs = [(1, "text"), ("b", True), (True, False), (2.5, None), ("t", shared), ("again", shared)]
    value = Pairs([*pairs, ("f", Code(6)), ("g", Code(7)), ("h", Code(8))])
    for ascii in (False, True):
        table = parse(t7(value, ascii=ascii))
        assert table[1] == "text" and table["b"] is True and table["True"] is False and table["t"] is table["again"]
        assert set(table) == {1, "b", "True", 2.5, "t", "again", "f", "g", "h"}


def test_deep_tables_are_read_and_deeper_ones_refused():
    def nested(depth):
        writer = Writer()
        for i in range(depth):
            writer.int(3, i + 1, 1)
            writer.value("a")
        return writer.value(None)

    assert parse(nested(9000))
    with pytest.raises(Damage, match="deeper"):
        parse(nested(20_000))


# ---- layers beside PyTorch's ------------------------------------------------------------------------


def tensors(*arrays):
    return [torch.from_numpy(a) for a in arrays]


W4, W2, B3 = array(3, 2, 3, 3), array(3, 18), array(3)
FULL = array(2, 3, 3, 3)
MEAN, VAR, GAMMA, BETA = array(2), np.abs(array(2)) + 0.5, array(2), array(2)
CONV = dict(nInputPlane=2, nOutputPlane=3, kW=3, kH=3, dW=2, dH=1, padW=1, padH=0)
POOL = dict(kW=3, kH=2, dW=2, dH=1, padW=1, padH=0)
IMAGE, ROWS, SEQUENCE = (4, 2, 7, 6), (4, 2), (4, 5, 2)
TEMPORAL = array(3, 4)


def conv(weight, **settings):
    return lambda x: F.conv2d(x, torch.from_numpy(weight), torch.from_numpy(B3), (1, 2), (0, 1), **settings)


def bn(x):
    return F.batch_norm(x, *tensors(MEAN, VAR, GAMMA, BETA), eps=1e-3)


def temporal(x):
    weight = torch.from_numpy(TEMPORAL).reshape(3, 2, 2).transpose(1, 2)
    return F.conv1d(x.transpose(1, 2), weight, torch.from_numpy(B3)).transpose(1, 2)


NORM = dict(running_mean=MEAN, running_var=VAR, weight=GAMMA, bias=BETA, eps=1e-3, momentum=0.2, affine=True)
LAYERS = [
    ("Linear", dict(weight=array(3, 2), bias=B3), ROWS, None),
    ("SpatialConvolution", dict(CONV, weight=W4, bias=B3), IMAGE, conv(W4)),
    ("SpatialConvolutionMM", dict(CONV, weight=W2, bias=B3), IMAGE, conv(W2.reshape(3, 2, 3, 3))),
    ("SpatialConvolution", dict(CONV, weight=W4),
     IMAGE, lambda x: F.conv2d(x, torch.from_numpy(W4), None, (1, 2), (0, 1))),
    ("cudnn.SpatialConvolution", dict(CONV, nOutputPlane=4, weight=array(4, 1, 3, 3), bias=array(4), groups=2),
     IMAGE, "groups"),
    ("SpatialDilatedConvolution", dict(CONV, weight=W4, bias=B3, dilationW=1, dilationH=2),
     IMAGE, conv(W4, dilation=(2, 1))),
    ("SpatialConvolution", dict(CONV, padW=None, padH=None, padding=1, weight=W4, bias=B3), IMAGE,
     lambda x: F.conv2d(x, *tensors(W4, B3), (1, 2), 1)),
    ("SpatialFullConvolution", dict(CONV, weight=FULL, bias=B3, adjW=1, adjH=0), IMAGE,
     lambda x: F.conv_transpose2d(x, *tensors(FULL, B3), (1, 2), (0, 1), (0, 1))),
    ("TemporalConvolution", dict(inputFrameSize=2, outputFrameSize=3, kW=2, dW=1, weight=TEMPORAL, bias=B3),
     SEQUENCE, temporal),
    ("SpatialMaxPooling", dict(POOL), IMAGE, lambda x: F.max_pool2d(x, (2, 3), (1, 2), (0, 1))),
    ("SpatialMaxPooling", dict(POOL, ceil_mode=True),
     IMAGE, lambda x: F.max_pool2d(x, (2, 3), (1, 2), (0, 1), ceil_mode=True)),
    ("cudnn.SpatialMaxPooling", dict(kW=2, kH=2, dW=2, dH=2), IMAGE, lambda x: F.max_pool2d(x, 2)),
    ("SpatialAveragePooling", dict(POOL, ceil_mode=True, count_include_pad=True, divide=True), IMAGE,
     lambda x: F.avg_pool2d(x, (2, 3), (1, 2), (0, 1), True)),
    ("SpatialAveragePooling", dict(POOL, ceil_mode=False, count_include_pad=False, divide=True), IMAGE,
     lambda x: F.avg_pool2d(x, (2, 3), (1, 2), (0, 1), False, False)),
    ("SpatialAveragePooling", dict(kW=2, kH=2, dW=2, dH=2), IMAGE, lambda x: F.avg_pool2d(x, 2) * 4),
    ("cudnn.SpatialAveragePooling", dict(kW=2, kH=2, dW=2, dH=2), IMAGE, lambda x: F.avg_pool2d(x, 2)),
    ("SpatialAdaptiveMaxPooling", dict(W=2, H=3), IMAGE, lambda x: F.adaptive_max_pool2d(x, (3, 2))),
    ("SpatialAdaptiveAveragePooling", dict(W=2, H=3), IMAGE, lambda x: F.adaptive_avg_pool2d(x, (3, 2))),
    ("SpatialBatchNormalization", NORM, IMAGE, bn),
    ("BatchNormalization", NORM, ROWS, bn),
    ("BatchNormalization", dict(NORM, running_var=None, running_std=(VAR + np.float32(1e-3)) ** -0.5), ROWS, bn),
    ("BatchNormalization", dict(running_mean=MEAN, running_var=VAR, eps=1e-3), ROWS,
     lambda x: F.batch_norm(x, *tensors(MEAN, VAR), eps=1e-3)),
    ("View", dict(size=Sizes((-1,)), numElements=1, numInputDims=3), IMAGE, lambda x: x.flatten(1)),
    ("View", dict(size=Sizes((-1, 84)), numElements=84), IMAGE, lambda x: x.reshape(-1, 84)),
    ("View", dict(size=Sizes((14, 6)), numElements=84), IMAGE, lambda x: x.reshape(4, 14, 6)),
    ("Reshape", dict(size=Sizes((14, 6)), nelement=84), IMAGE, lambda x: x.reshape(4, 14, 6)),
    ("Reshape", dict(size=Sizes((14, 24)), nelement=336, batchMode=False), IMAGE, lambda x: x.reshape(14, 24)),
    ("ReLU", dict(threshold=0, val=0, inplace=True), IMAGE, F.relu),
    ("cudnn.ReLU", dict(mode="CUDNN_ACTIVATION_RELU"), IMAGE, F.relu),
    ("Threshold", dict(threshold=0.1, val=-1), IMAGE, lambda x: F.threshold(x, 0.1, -1.0)),
    ("ReLU6", {}, IMAGE, F.relu6),
    ("LeakyReLU", dict(negval=0.3), IMAGE, lambda x: F.leaky_relu(x, 0.3)),
    ("PReLU", dict(nOutputPlane=2, weight=GAMMA), IMAGE, lambda x: F.prelu(x, torch.from_numpy(GAMMA))),
    ("RReLU", dict(lower=0.1, upper=0.3), IMAGE, lambda x: F.leaky_relu(x, 0.2)),
    ("ELU", dict(alpha=0.7), IMAGE, lambda x: F.elu(x, 0.7)),
    ("Tanh", {}, IMAGE, torch.tanh),
    ("Sigmoid", {}, IMAGE, torch.sigmoid),
    ("SoftPlus", dict(beta=2, threshold=20), IMAGE, lambda x: F.softplus(x, 2)),
    ("SoftSign", {}, IMAGE, F.softsign),
    ("HardTanh", dict(min_val=-0.5, max_val=1), IMAGE, lambda x: x.clamp(-0.5, 1)),
    ("Clamp", dict(min_val=-0.5, max_val=1), IMAGE, lambda x: x.clamp(-0.5, 1)),
    ("HardShrink", {"lambda": 0.4}, IMAGE, lambda x: F.hardshrink(x, 0.4)),
    ("SoftShrink", {"lambda": 0.4}, IMAGE, lambda x: F.softshrink(x, 0.4)),
    ("TanhShrink", {}, IMAGE, F.tanhshrink),
    ("LogSigmoid", {}, IMAGE, F.logsigmoid),
    ("LogSoftMax", {}, ROWS, lambda x: F.log_softmax(x, 1)),
    ("SoftMax", {}, IMAGE, lambda x: F.softmax(x, 1)),
    ("cudnn.SpatialSoftMax", {}, IMAGE, lambda x: F.softmax(x, 1)),
    ("SpatialLogSoftMax", {}, IMAGE, lambda x: F.log_softmax(x, 1)),
    ("SoftMin", {}, ROWS, lambda x: F.softmin(x, 1)),
    ("Dropout", dict(p=0.4, v2=True), IMAGE, lambda x: x),
    ("Dropout", dict(p=0.4), IMAGE, lambda x: x * 0.6),
    ("SpatialDropout", dict(p=0.4), IMAGE, lambda x: x * 0.6),
    ("SpatialZeroPadding", dict(pad_l=1, pad_r=2, pad_t=-1, pad_b=3), IMAGE, lambda x: F.pad(x, (1, 2, -1, 3))),
    ("SpatialZeroPadding", dict(pad_l=-1, pad_r=-2, pad_t=0, pad_b=-1), IMAGE, lambda x: F.pad(x, (-1, -2, 0, -1))),
    ("SpatialReflectionPadding", dict(pad_l=1, pad_r=2, pad_t=1, pad_b=0),
     IMAGE, lambda x: F.pad(x, (1, 2, 1, 0), "reflect")),
    ("SpatialReplicationPadding", dict(pad_l=1, pad_r=2, pad_t=1, pad_b=0), IMAGE,
     lambda x: F.pad(x, (1, 2, 1, 0), "replicate")),
    ("Padding", dict(dim=1, pad=-2, nInputDim=3, value=0, index=1), IMAGE, lambda x: F.pad(x, (0, 0, 0, 0, 2, 0))),
    ("Padding", dict(dim=2, pad=2, value=0, index=1), IMAGE, lambda x: F.pad(x, (0, 0, 0, 0, 0, 2))),
    ("SpatialCrossMapLRN", dict(size=3, alpha=0.1, beta=0.7, k=2),
     IMAGE, lambda x: F.local_response_norm(x, 3, 0.1, 0.7, 2)),
    ("cudnn.SpatialCrossMapLRN", dict(size=3, alpha=0.1, beta=0.7, K=2), IMAGE,
     lambda x: F.local_response_norm(x, 3, 0.1, 0.7, 2)),
    ("SpatialUpSamplingNearest", dict(scale_factor=2), IMAGE, lambda x: F.interpolate(x, scale_factor=2)),
    ("SpatialUpSamplingBilinear", dict(scale_factor=2), IMAGE,
     lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)),
    ("SpatialUpSamplingBilinear", dict(oheight=9, owidth=5), IMAGE,
     lambda x: F.interpolate(x, (9, 5), mode="bilinear", align_corners=True)),
    ("Identity", {}, IMAGE, lambda x: x),
    ("Contiguous", {}, IMAGE, lambda x: x),
    ("Copy", dict(intype="torch.FloatTensor", outtype="torch.CudaTensor"), IMAGE, lambda x: x),
    ("MulConstant", dict(constant_scalar=0.3), IMAGE, lambda x: x * 0.3),
    ("AddConstant", dict(constant_scalar=0.3), IMAGE, lambda x: x + 0.3),
    ("Mul", dict(weight=np.float32([0.7])), IMAGE, lambda x: x * 0.7),
    ("Add", dict(bias=BETA), ROWS, lambda x: x + torch.from_numpy(BETA)),
    ("CMul", dict(weight=GAMMA.reshape(1, 2, 1, 1)), IMAGE, lambda x: x * torch.from_numpy(GAMMA).reshape(1, 2, 1, 1)),
    ("CMul", dict(weight=GAMMA), ROWS, lambda x: x * torch.from_numpy(GAMMA)),
    ("CAdd", dict(bias=BETA), ROWS, lambda x: x + torch.from_numpy(BETA)),
    ("Abs", {}, IMAGE, torch.abs),
    ("Square", {}, IMAGE, torch.square),
    ("Exp", {}, IMAGE, torch.exp),
    ("Power", dict(pow=3), IMAGE, lambda x: x**3),
    ("Normalize", dict(p=2, eps=1e-10), ROWS, lambda x: F.normalize(x, 2, 1)),
    ("Normalize", dict(p=3, eps=1e-10), ROWS, lambda x: F.normalize(x, 3, 1)),
    ("Mean", dict(dimension=2, nInputDims=3, sizeAverage=True, squeeze=True), IMAGE, lambda x: x.mean(2)),
    ("Sum", dict(dimension=-1, squeeze=False), IMAGE, lambda x: x.sum(-1, keepdim=True)),
    ("Sum", dict(dimension=2, sizeAverage=True), IMAGE, lambda x: x.mean(1)),
    ("Max", dict(dimension=1, nInputDims=3), IMAGE, lambda x: x.amax(1)),
    ("Min", dict(dimension=4), IMAGE, lambda x: x.amin(3)),
    ("Select", dict(dimension=3, index=2), IMAGE, lambda x: x[:, :, 1]),
    ("Select", dict(dimension=3, index=-1), IMAGE, lambda x: x[:, :, -1]),
    ("Narrow", dict(dimension=3, index=2, length=3), IMAGE, lambda x: x[:, :, 1:4]),
    ("Narrow", dict(dimension=3, index=2, length=-2), IMAGE, lambda x: x[:, :, 1:6]),
    ("Narrow", dict(dimension=3, index=-1, length=2), IMAGE, lambda x: x[:, :, :5]),
    ("Transpose", dict(permutations={1: {1: 1, 2: 2}}, numInputDims=3), IMAGE, lambda x: x.transpose(1, 2)),
    ("Squeeze", dict(), (4, 1, 3, 1), lambda x: x[:, 0, :, 0]),
    ("Replicate", dict(nfeatures=3, dim=2), ROWS, lambda x: x[:, None].expand(4, 3, 2)),
    ("Replicate", dict(nfeatures=3, dim=2, ndim=1), ROWS, lambda x: x[:, :, None].expand(4, 2, 3)),
    ("TemporalMaxPooling", dict(kW=2, dW=2), SEQUENCE, lambda x: F.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2)),
    ("Transpose", dict(permutations={1: {1: 2, 2: 3}, 2: {1: 3, 2: 4}}),
     IMAGE, lambda x: x.transpose(1, 2).transpose(2, 3)),
    ("Squeeze", dict(dim=1, numInputDims=2), (4, 1, 3), lambda x: x[:, 0]),
    ("Unsqueeze", dict(pos=1, numInputDims=1), ROWS, lambda x: x[:, None]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fields", "shape", "expected"), LAYERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_layer_computes_what_torch_does(load, kind, fields, shape, expected):
    model = load(module(kind, **fields)).eval()
    x = array(*shape)
    if expected is None:
        expected = lambda x: F.linear(x, *tensors(fields["weight"], fields["bias"]))  # noqa: E731
    elif expected == "groups":
        expected = lambda x: F.conv2d(x, *tensors(fields["weight"], fields["bias"]), (1, 2), (0, 1), groups=2)  # noqa: E731
    wanted = expected(torch.from_numpy(x)).numpy()
    got = model(x)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


def test_roots_and_logarithms_are_torch_s(load):
    x = np.abs(array(*ROWS)) + 0.1
    np.testing.assert_allclose(load(module("Sqrt", eps=0.5))(x), np.sqrt(x + 0.5), rtol=1e-6)
    np.testing.assert_allclose(load(module("Log"))(x), np.log(x), rtol=1e-5, atol=1e-6)


def test_labels_of_a_lookup_table_count_from_1(load):
    weight = array(5, 3)
    model = load(module("LookupTable", weight=weight, paddingValue=0))
    labels = np.array([[1, 5], [2, 2]])
    assert np.array_equal(model(labels), weight[labels - 1])
    assert np.isnan(model(np.array([[0, 1]]))).tolist() == [[[True] * 3, [False] * 3]]
    with pytest.raises(ValueError):
        model(np.array([[6]]))


def test_the_padding_of_a_lookup_table_is_not_trained(load):
    weight = array(5, 3)
    model = load(module("LookupTable", weight=weight, paddingValue=2))
    y = model.forward_train(np.array([1, 2, 2, 3]))
    model.backward(np.ones_like(y))
    assert model.weight.grad.tolist() == [[1.0] * 3, [0.0] * 3, [1.0] * 3, [0.0] * 3, [0.0] * 3]


def test_the_older_dropout_scales_afterwards_and_not_in_training(load):
    drop = load(module("Dropout", p=0.25))
    assert np.all(drop(np.ones((2, 2), np.float32)) == 0.75)  # what is loaded predicts
    y = drop.train()(np.ones((100, 100), np.float32))
    assert set(np.unique(y)) == {0.0, 1.0} and abs(y.mean() - 0.75) < 0.02


# ---- containers -------------------------------------------------------------------------------------


def linear(inputs, outputs):
    return module("Linear", weight=array(outputs, inputs), bias=array(outputs))


def applied(layer, x):
    return x @ layer.fields["weight"].T + layer.fields["bias"]


def test_branches_are_joined_as_tables_are(load):
    a, b = linear(2, 3), linear(2, 3)
    x = array(4, 2)
    ya, yb = applied(a, x), applied(b, x)
    cases = [
        (module("Concat", modules=[a, b], dimension=2), np.concatenate([ya, yb], 1)),
        ([module("ConcatTable", modules=[a, b]), module("CAddTable")], ya + yb),
        ([module("ConcatTable", modules=[a, b]), module("CMulTable")], ya * yb),
        ([module("ConcatTable", modules=[a, b]), module("CSubTable")], ya - yb),
        ([module("ConcatTable", modules=[a, b]), module("CDivTable")], ya / yb),
        ([module("ConcatTable", modules=[a, b]), module("CMaxTable")], np.maximum(ya, yb)),
        ([module("ConcatTable", modules=[a, b]), module("CMinTable")], np.minimum(ya, yb)),
        ([module("ConcatTable", modules=[a, b]), module("JoinTable", dimension=1, nInputDims=1)],
         np.concatenate([ya, yb], 1)),
        ([module("ConcatTable", modules=[a, b]), module("JoinTable", dimension=-1)], np.concatenate([ya, yb], 1)),
        ([module("ConcatTable", modules=[a, b]), module("SelectTable", index=-1)], yb),
        ([module("ConcatTable", modules=[a, b, a]), module("NarrowTable", offset=2, length=2), module("CSubTable")],
         yb - ya),
        ([module("ConcatTable", modules=[a, module("ConcatTable", modules=[b, b])]), module("FlattenTable"),
          module("SelectTable", index=3)], yb),
        ([module("SplitTable", dimension=1, nInputDims=1), module("CAddTable")], x.sum(1)),
        ([module("ConcatTable", modules=[module("Identity"), module("Tanh")]),
          module("ParallelTable", modules=[a, b]), module("CAddTable")], ya + applied(b, np.tanh(x))),
        ([module("ConcatTable", modules=[module("Identity"), module("Identity")]),
          module("MM", transA=True, transB=False)], x.T @ x),
    ]  # fmt: skip
    for net, wanted in cases:
        model = load(module("Sequential", modules=net) if isinstance(net, list) else net)
        np.testing.assert_allclose(model(x), wanted, rtol=1e-4, atol=1e-5)


def test_parallel_layers_take_slices(load):
    a, b = linear(3, 2), linear(3, 2)
    x = array(4, 2, 3)
    model = load(module("Parallel", modules=[a, b], inputDimension=2, outputDimension=2))
    wanted = np.concatenate([applied(a, x[:, 0]), applied(b, x[:, 1])], 1)
    np.testing.assert_allclose(model(x), wanted, rtol=1e-5, atol=1e-6)


def test_a_bottle_merges_the_first_dimensions(load):
    a, x = linear(2, 3), array(4, 5, 2)
    model = load(
        module("Bottle", modules=[module("Sequential", modules=[a, module("Tanh")])], nInputDim=2, nOutputDim=2)
    )
    np.testing.assert_allclose(model(x), np.tanh(applied(a, x)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(x[0]), np.tanh(applied(a, x[0])), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="other dimensions"):
        load(module("Bottle", modules=[a], nInputDim=2, nOutputDim=1))


def test_depth_concat_puts_zeros_around_smaller_images(load):
    net = module(
        "DepthConcat", dimension=2, modules=[module("Identity"), module("Narrow", dimension=3, index=1, length=4)]
    )
    x = array(2, 1, 7, 3)
    y = load(net)(x)
    assert y.shape == (2, 2, 7, 3) and np.array_equal(y[:, :1], x)
    assert np.array_equal(y[:, 1:, 1:5], x[:, :, :4]) and not y[:, 1:, 0].any() and not y[:, 1:, 5:].any()


def test_a_table_of_inputs_is_several_arguments(load):
    a, b = linear(2, 3), linear(4, 3)
    model = load(module("Sequential", modules=[module("ParallelTable", modules=[a, b]), module("CAddTable")]))
    x, z = array(5, 2), array(5, 4)
    np.testing.assert_allclose(model(x, z), applied(a, x) + applied(b, z), rtol=1e-5, atol=1e-6)


def graph(inputs, nodes, outputs):
    """nngraph's gModule. Nodes are (module or None, [sources]) by position; a source is a node, or -1, -2, ... for the
    first, second, ... input."""
    datas = [{"input": {}, "mapindex": Pairs(), "annotations": {}}]
    sources = [[]]
    if inputs > 1:
        datas[0]["nSplitOutputs"] = inputs
        datas += [{"selectindex": i, "mapindex": Pairs(), "annotations": {}} for i in range(1, inputs + 1)]
        sources += [[0]] * inputs
    first = len(datas)
    for net, reads in nodes:
        datas.append({"module": net, "mapindex": Pairs(), "annotations": {"name": f"n{len(datas)}"}})
        sources.append([first + s if s >= 0 else (0 if inputs == 1 else -s) for s in reads])
    datas.append({"input": {}, "mapindex": Pairs()})
    sources.append([first + s for s in outputs])
    things = [Thing("nngraph.Node", data=data, children={}) for data in datas]
    for target, reads in enumerate(sources):
        for place, source in enumerate(reads, 1):
            datas[target]["mapindex"].pairs.append((datas[source], place))
            children = things[source].fields["children"]
            children[len(children) + 1] = things[target]
    return Thing(
        "nn.gModule", nInputs=inputs, innode=things[0], outnode=things[-1], forwardnodes=dict(enumerate(things, 1))
    )


def test_a_graph_of_nngraph_is_read(load):
    a, b = linear(2, 3), linear(3, 3)
    net = graph(1, [(a, [-1]), (b, [0]), (module("CAddTable"), [0, 1]), (module("Tanh"), [2])], [3])
    model = load(net)
    x = array(4, 2)
    h = applied(a, x)
    np.testing.assert_allclose(model(x), np.tanh(h + applied(b, h)), rtol=1e-5, atol=1e-5)
    assert sorted(model.state_dict()) == ["n1.bias", "n1.weight", "n2.bias", "n2.weight"]
    assert np.array_equal(copy.deepcopy(model)(x), model(x))


def test_a_graph_with_several_inputs_and_outputs_is_read(load):
    a, b = linear(2, 3), linear(4, 3)
    net = graph(2, [(a, [-1]), (b, [-2]), (module("CSubTable"), [0, 1])], [2, 0])
    x, z = array(5, 2), array(5, 4)
    for model, args in ((load(net), (x, z)), (load(module("Sequential", modules=[net])), (x, z))):
        y, h = model(*args)
        np.testing.assert_allclose(h, applied(a, x), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(y, applied(a, x) - applied(b, z), rtol=1e-5, atol=1e-5)


def test_a_residual_network_of_graphs_and_containers_trains(load):
    conv1 = module(
        "SpatialConvolution", **dict(CONV, dW=1, padH=1, nOutputPlane=2), weight=array(2, 2, 3, 3) / 4, bias=array(2)
    )
    inner = module("Sequential", modules=[conv1, module("SpatialBatchNormalization", **NORM)])
    branches = module("ConcatTable", modules=[inner, module("Identity")])
    block = module("Sequential", modules=[branches, module("CAddTable"), module("ReLU", inplace=True)])
    view = module("View", size=Sizes((-1,)), numInputDims=3, numElements=1)
    last = module("Linear", weight=array(3, 84) / 9, bias=array(3))
    net = module("Sequential", modules=[block, view, last, module("LogSoftMax")])
    model = load(net)
    step = fn.TrainStep(model, nn.NLLLoss(), optim.SGD(model.parameters(), lr=0.02))
    x, y = array(8, *IMAGE[1:]), np.arange(8) % 3
    losses = [step(x, y) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


# ---- names and sharing ------------------------------------------------------------------------------


def test_layers_keep_the_names_that_they_were_given(load):
    named = [linear(2, 3), module("ReLU"), linear(3, 2)]
    named[0].fields["name"], named[2].fields["name"] = "fc.1", "forward"
    model = load(module("Sequential", modules=named))
    assert list(model.state_dict()) == ["fc_1.weight", "fc_1.bias", "forward_3.weight", "forward_3.bias"]


def test_shared_layers_and_shared_tensors_stay_shared(load):
    whole = array(12)
    a = module("Linear", weight=View(whole[:6].reshape(3, 2)), bias=View(whole[6:9]))
    b = module("Linear", weight=View(whole[:6].reshape(3, 2)), bias=View(whole[9:]))
    model = load(module("Concat", dimension=2, modules=[a, b, a]))
    assert model[0] is model[2] and model[0].weight is model[1].weight and model[0].bias is not model[1].bias
    x = array(4, 2)
    np.testing.assert_allclose(model(x)[:, :3], x @ whole[:6].reshape(3, 2).T + whole[6:9], rtol=1e-5, atol=1e-6)
    assert len(list(model.parameters())) == 3


def test_a_network_in_a_checkpoint_s_table_is_found(load):
    model = load(
        {"epoch": 3, "model": linear(2, 3), "optimState": {"lr": 0.1}, "confusion": Thing("optim.ConfusionMatrix")}
    )
    assert isinstance(model, nn.Linear)


def test_no_random_numbers_are_drawn(load):
    before = fn.get_rng_state()
    model = load(module("Sequential", modules=[linear(2, 3), module("LookupTable", weight=array(3, 2))]))
    assert fn.get_rng_state() == before and type(model[0]) is nn.Linear
    model[0].reset_parameters()
    assert fn.get_rng_state() != before


# ---- refusals ---------------------------------------------------------------------------------------


def test_all_that_cannot_be_read_is_named_at_once(load):
    net = module("Sequential", modules=[
        module("VolumetricConvolution"), linear(2, 3),
        module("Concat", modules=[module("Linear"), module("my.Layer")], dimension=2),
        module("SpatialMaxPooling", kW=2.5, kH=2), module("Dropout", p=1.5)])  # fmt: skip
    with pytest.raises(ValueError) as caught:
        load(net)
    named = ["0 (nn.VolumetricConvolution)", "2.0 (nn.Linear)", "2.1 (my.Layer)", "3 (nn.SpatialMaxPooling)"]
    for part in ("net.t7: ", *named, "4 (nn.Dropout)"):
        assert part in str(caught.value)


def test_a_container_within_itself_is_refused(load):
    net = module("Sequential", modules=[module("Tanh")])
    net.fields["modules"][2] = net
    with pytest.raises(ValueError, match="within itself"):
        load(net)


def test_a_network_that_calls_itself_over_and_over_is_refused(load):
    """In a file of a few kilobytes: each container has the one before it twice."""
    net = module("Tanh")
    for _ in range(40):
        net = module("Sequential", modules=[net, net])
    with pytest.raises(ValueError, match="more than 100000 layers"):
        load(net)
    net = module("Sequential", modules=[module("MulConstant", constant_scalar=0.5)] * 3)
    assert load(module("Sequential", modules=[net, net]))(np.ones((1, 1), np.float32)) == 0.5**6


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": 1}, "0 networks"),
        ({"a": module("Tanh"), "b": module("Tanh")}, "2 networks"),
        ("text", "0 networks"),
        (Thing("nn.gModule"), "forwardnodes"),
        (module("Linear", weight=array(3, 2), bias=array(4)), "bias has the shape"),
        (module("Linear", weight=array(3, 2, 1)), "dimensions"),
        (module("SpatialConvolution", **dict(CONV, kW=5), weight=W4), "expected"),
        (module("SpatialConvolution", **dict(CONV, nInputPlane=1e12, nOutputPlane=1e12), weight=W4), "size"),
        (module("View", size=Sizes((-1, -1))), "size"),
        (module("Padding", dim=1, pad=1, value=3), "other numbers"),
        (module("Linear"), "it has none"),
    ],
)
def test_what_is_no_network_is_refused(load, value, words):
    with pytest.raises(ValueError, match=words):
        load(value)


def test_a_tensor_beyond_its_storage_is_refused(load):
    weight = np.lib.stride_tricks.as_strided(array(2), (3, 2), (0, 4))
    for sizes, strides in (((3, 2), (2, 1)), ((2**40, 2**22), (0, 0)), ((3, 2), (0, 1))):
        value = parse(t7({"w": array(2)}))["w"]
        value.sizes, value.strides = sizes, strides
        with pytest.raises(ValueError, match="does not lie within"):
            value.array()
    assert weight.shape == (3, 2)


@pytest.mark.parametrize("form", FORMS[:3], ids=str)
def test_a_file_that_is_cut_anywhere_is_refused(load, tmp_path, form):
    data = t7(module("Sequential", modules=[linear(2, 3)]), **form)
    path = tmp_path / "cut.t7"
    for end in range(0, len(data) - 1, 3):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"cut\.t7"):
            fn.interop.load_torch7(path)
    path.write_bytes(data + b"more")
    with pytest.raises(ValueError, match=r"there is more|tag|no integer"):
        fn.interop.load_torch7(path)


def test_a_missing_file_is_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fn.interop.load_torch7(tmp_path / "nowhere.t7")
