"""Networks that are written for Caffe, and read back."""

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn
from fastnn.interop.caffe.proto import net_parameter
from fastnn.nn import functional as F

text_format = pytest.importorskip("google.protobuf.text_format")

DATA = os.environ.get("FASTNN_DATA")
RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "net.prototxt", tmp_path / "net.caffemodel"


def kinds(path):
    net = net_parameter()()
    text_format.Parse(path.read_text(), net)
    return [layer.type for layer in net.layer]


def there_and_back(model, paths, *inputs):
    """The model as it is read back; both give the same for these inputs, and for another batch."""
    before = model.state_dict()
    model.eval()
    fn.interop.save_caffe(model, *paths, *inputs)
    again = fn.interop.load_caffe(*paths).eval()
    for given in (inputs, [np.concatenate([x, 2 * x]) for x in inputs]):
        wanted, got = model(*given), again(*given)
        if not isinstance(wanted, tuple):
            wanted, got = (wanted,), (got,)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    return again


@pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "models").is_dir(), reason="FASTNN_DATA names no folder with models"
)
def test_caffe_s_lenet_comes_back_as_it_was(paths):
    folder = Path(DATA) / "models"
    model = fn.interop.load_caffe(folder / "lenet_train_test.prototxt", folder / "lenet_iter_10000.caffemodel")
    again = there_and_back(model, paths, array(2, 1, 28, 28))
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(np.array_equal(value, state[name]) for name, value in model.state_dict().items())
    assert paths[1].stat().st_size < 1_800_000 and "blobs" not in paths[0].read_text()


@pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "models").is_dir(), reason="FASTNN_DATA names no folder with models"
)
def test_a_network_of_torch7_s_goes_to_caffe(paths):
    model = fn.interop.load_torch7(Path(DATA) / "models" / "mnist_mlp.t7")
    there_and_back(model, paths, array(2, 28, 28))
    assert kinds(paths[0])[-3:] == ["InnerProduct", "Softmax", "Log"]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: fn.models.LeNet5(), (2, 1, 28, 28)),
        (lambda: fn.models.AlexNet(), (2, 3, 224, 224)),
        (lambda: fn.models.mlp(20, [8], 3), (4, 20)),
    ],
    ids=["lenet5", "alexnet", "mlp"],
)
def test_the_library_s_networks_go_to_caffe_and_back(paths, make, shape):
    fn.manual_seed(0)
    there_and_back(make(), paths, array(*shape))


LAYERS = [
    (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), bias=False), "Convolution"),
    (nn.Conv2d(4, 8, 3, padding="same", dilation=2, groups=2), "Convolution"),
    (nn.Conv2d(4, 8, 3, padding=(1, 2), dilation=(1, 2)), "Convolution"),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), "Deconvolution"),
    (nn.BatchNorm2d(4, eps=1e-3, momentum=0.2), "BatchNorm Scale"),
    (nn.BatchNorm2d(4, affine=False), "BatchNorm"),
    (nn.BatchNorm2d(4, affine=False).frozen(), "BatchNorm"),
    (nn.MaxPool2d(3, 2), "Pooling"),
    (nn.MaxPool2d(2, 2, ceil_mode=True), "Pooling"),
    (nn.MaxPool2d(3, 2, 1), "Pooling"),
    (nn.AvgPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True), "Pooling"),
    (nn.AvgPool2d(3, 2, count_include_pad=False), "Pooling"),
    (nn.AdaptiveAvgPool2d(1), "Pooling"),
    (nn.AdaptiveMaxPool2d((4, 3)), "Pooling"),
    (nn.LocalResponseNorm(3, 0.1, 0.7, 2.0), "LRN"),
    (nn.ReLU(), "ReLU"),
    (nn.LeakyReLU(0.2), "ReLU"),
    (nn.PReLU(4), "PReLU"),
    (nn.PReLU(1), "PReLU"),
    (nn.ELU(0.5), "ELU"),
    (nn.Sigmoid(), "Sigmoid"),
    (nn.Tanh(), "TanH"),
    (nn.Softplus(), "BNLL"),
    (nn.Hardtanh(-0.5, 1.0), "Clip"),
    (nn.Swish(2.0), "Swish"),
    (nn.Softmax(1), "Softmax"),
    (nn.LogSoftmax(1), "Softmax Log"),
    (nn.Dropout(0.3), "Dropout"),
    (nn.Flatten(), "Flatten"),
    (nn.Flatten(2), "Flatten"),
    (nn.Linear(6, 3), "InnerProduct"),
    (nn.Linear(6, 3, bias=False), "InnerProduct"),
]


@pytest.mark.parametrize(("layer", "names"), LAYERS, ids=repr)
def test_a_layer_goes_to_caffe_and_back(paths, layer, names):
    if isinstance(layer, nn.BatchNorm2d):
        layer(array(9, 4, 5, 6) * 2 + 1)
    model = nn.Sequential({"first": nn.ReLU(), "it": layer})
    again = there_and_back(model, paths, array(2, 4, 8, 6))
    assert kinds(paths[0]) == ["Input", "ReLU", *names.split()]
    mine, theirs = model.state_dict(), again.state_dict()
    assert sorted(v.tobytes() for k, v in mine.items() if "tracked" not in k) == sorted(
        v.tobytes() for k, v in theirs.items() if "tracked" not in k
    )


CAFFE = """
input: "a" input_shape { dim: 2 dim: 4 dim: 6 dim: 5 }
input: "b" input_shape { dim: 2 dim: 4 dim: 6 dim: 5 }
input: "c" input_shape { dim: 2 dim: 1 dim: 4 dim: 3 }
layer { name: "abs" type: "AbsVal" bottom: "a" top: "abs" }
layer { name: "power" type: "Power" bottom: "abs" top: "power" power_param { power: 2 scale: 0.5 shift: 1 } }
layer { name: "log" type: "Log" bottom: "power" top: "log" log_param { base: 10 } }
layer { name: "exp" type: "Exp" bottom: "log" top: "exp" exp_param { base: 2 scale: 0.5 } }
layer { name: "sum" type: "Eltwise" bottom: "exp" bottom: "b" top: "sum" eltwise_param { coeff: 1 coeff: -0.5 } }
layer { name: "max" type: "Eltwise" bottom: "sum" bottom: "b" top: "max" eltwise_param { operation: MAX } }
layer { name: "lrn" type: "LRN" bottom: "max" top: "lrn"
        lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 } }
layer { name: "mvn" type: "MVN" bottom: "lrn" top: "mvn" mvn_param { across_channels: true } }
layer { name: "cut" type: "Slice" bottom: "mvn" top: "c1" top: "c2" slice_param { slice_point: 1 } }
layer { name: "cat" type: "Concat" bottom: "c2" bottom: "c1" top: "cat" }
layer { name: "scale" type: "Scale" bottom: "cat" top: "cat" scale_param { bias_term: true } }
layer { name: "shift" type: "Bias" bottom: "cat" top: "shift" bias_param { axis: 2 num_axes: 1 } }
layer { name: "crop" type: "Crop" bottom: "shift" bottom: "c" top: "crop" crop_param { offset: 1 } }
layer { name: "tile" type: "Tile" bottom: "crop" top: "tile" tile_param { axis: 1 tiles: 2 } }
layer { name: "pool" type: "Pooling" bottom: "tile" top: "pool"
        pooling_param { kernel_size: 1 stride: 2 round_mode: FLOOR } }
layer { name: "shape" type: "Reshape" bottom: "pool" top: "shape" reshape_param { shape { dim: 0 dim: 2 dim: -1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "shape" top: "fc" inner_product_param { num_output: 3 axis: 2 } }
"""


def test_every_layer_of_caffe_s_own_goes_back(paths, tmp_path):
    (tmp_path / "first.prototxt").write_text(CAFFE)
    model = fn.interop.load_caffe(tmp_path / "first.prototxt")
    again = there_and_back(model, paths, array(2, 4, 6, 5), array(2, 4, 6, 5), array(2, 1, 4, 3))
    assert kinds(paths[0])[3:] == kinds(tmp_path / "first.prototxt")
    assert list(again.state_dict()) == list(model.state_dict())
    inputs = [array(2, 4, 6, 5), array(2, 4, 6, 5), array(2, 1, 4, 3)]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.frozen()):
        assert np.array_equal(twin.eval()(*inputs), model.eval()(*inputs))
    wanted = model(*inputs)
    np.testing.assert_allclose(model.double()(*(x.astype(np.float64) for x in inputs)), wanted, rtol=1e-4, atol=1e-5)
    fn.interop.save_caffe(model, *paths, *(x.astype(np.float64) for x in inputs))
    net = net_parameter()()
    net.ParseFromString(paths[1].read_bytes())
    (fc,) = (layer for layer in net.layer if layer.name == "fc")
    assert np.array_equal(np.frombuffer(b"".join(fc.blobs[0].double_data)), model.fc.weight.data.ravel())


class Functions(nn.Module):
    """A DAG of functions between modules."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.fc = nn.Linear(80, 5)

    def forward(self, x):
        x = F.leaky_relu(self.conv(x), 0.1)
        y = F.relu(self.block(x) + x)
        y = fn.concat([F.max_pool2d(y, 2), F.avg_pool2d(fn.maximum(x, y) - x * y, 3, 2, 1)], 1)
        h = self.fc((y * 2 + 1).flatten(1)[:].reshape(len(y), 80)).tanh()
        return F.softmax(h, 1), h, y.abs().exp().log().sqrt().sigmoid()


def test_functions_between_modules_are_written(paths):
    there_and_back(Functions(), paths, array(2, 3, 4, 10) + 0.1)
    written = kinds(paths[0])
    assert written.count("Pooling") == 2 and written[-3:] == ["Split"] * 3


def test_all_that_caffe_lacks_is_named_and_nothing_is_written(paths):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.act, self.pool = nn.GroupNorm(2, 4), nn.GELU(), nn.MaxPool2d(2, dilation=2)

        def forward(self, x):
            return self.pool(self.act(self.norm(x))).cos()

    with pytest.raises(ValueError) as caught:
        fn.interop.save_caffe(Odd(), *paths, array(2, 4, 6, 6))
    for part in ("group_norm", "pool (MaxPool2d)", "Odd"):
        assert part in str(caught.value), part
    assert not paths[0].exists() and not paths[1].exists()
    with pytest.raises(TypeError, match="inputs after the paths"):
        fn.interop.save_caffe(nn.ReLU(), *paths)


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (nn.Conv2d(1, 1, 2, padding="same"), (1, 1, 4, 4), "both sides"),
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 1, 6, 6), "count it in means"),
        (nn.LocalResponseNorm(2), (1, 4, 4, 4), "odd"),
        (nn.AdaptiveAvgPool2d(3), (1, 1, 4, 4), "one size"),
        (nn.Softplus(2.0), (2, 3), "beta"),
        (nn.Softsign(), (2, 3), "Caffe has no|no layer"),
    ],
)
def test_settings_that_caffe_lacks_are_refused(paths, model, shape, words):
    with pytest.raises(ValueError, match=words):
        fn.interop.save_caffe(model, *paths, array(*shape))
