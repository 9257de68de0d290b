"""Caffe's networks: what is read predicts what Caffe would, and trains on."""

import os
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.interop.caffe import layers

from interop_files import caffemodel

pytest.importorskip("google.protobuf")
torch = pytest.importorskip("torch")
F = torch.nn.functional

DATA = os.environ.get("FASTNN_DATA")
needs_files = pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "models").is_dir(), reason="FASTNN_DATA names no folder with models"
)
RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def load(tmp_path):
    """A function that writes a prototxt and a caffemodel, and loads them."""

    def write_and_load(text, weights=None, old=False):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        if weights is None:
            return fn.interop.load_caffe(path)
        (tmp_path / "net.caffemodel").write_bytes(caffemodel(weights, old))
        return fn.interop.load_caffe(path, tmp_path / "net.caffemodel")

    return write_and_load


def declared(*shapes):
    """Inputs of these shapes, a, b, ..."""
    names = "".join(f'input: "{name}" ' for name in "abcdef"[: len(shapes)])
    return names + "".join("input_shape {" + "".join(f" dim: {size}" for size in shape) + " } " for shape in shapes)


def layer(kind, settings="", bottoms="a", tops="y", name="l"):
    ends = "".join(f' bottom: "{b}"' for b in bottoms) + "".join(f' top: "{t}"' for t in tops)
    return f'layer {{ name: "{name}" type: "{kind}"{ends} {settings} }}\n'


# ---- a real one -------------------------------------------------------------------------------------


def lenet():
    folder = Path(DATA) / "models"
    return fn.interop.load_caffe(folder / "lenet_train_test.prototxt", folder / "lenet_iter_10000.caffemodel")


def digits(count):
    images = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-images-idx3-ubyte.gz")[:count, None]
    return images * np.float32(1 / 256), fn.data.read_idx(Path(DATA) / "mnist" / "t10k-labels-idx1-ubyte.gz")[:count]


@needs_files
def test_lenet_has_the_accuracy_that_other_readers_found():
    model = lenet()
    names = ("conv1", "conv2", "ip1", "ip2")
    assert list(model.state_dict()) == [f"{name}.{part}" for name in names for part in ("weight", "bias")]
    x, labels = digits(10_000)
    predicted = np.concatenate([model(x[i : i + 500]) for i in range(0, len(x), 500)]).argmax(1)
    assert np.sum(predicted == labels) == 9905


@needs_files
def test_lenet_trains_on():
    model, (x, labels) = lenet(), digits(64)
    assert not any(module.training for module in model.modules())  # what is loaded predicts
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.01))
    losses = [step(x, (labels.astype(np.int64) + 1) % 10) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0] and np.all(np.diff(losses[:10]) < 0)


# ---- layers beside PyTorch's ------------------------------------------------------------------------

IMAGE = (2, 4, 7, 6)
W, G, B = array(6, 4, 3, 3), array(6, 2, 3, 3), array(6)
D, IP, IPB = array(4, 3, 3, 2), array(5, 168), array(5)
MEAN, VAR, GAMMA, BETA = array(4), np.abs(array(4)) + 0.5, array(4), array(4)


def t(value):
    return torch.from_numpy(np.ascontiguousarray(value))


def lrn_within(x, size, alpha, beta):
    return x / (1 + alpha * F.avg_pool2d(x * x, size, 1, size // 2)) ** beta


def normalized(x, dims, eps=1e-9):
    centered = x - x.mean(dims, keepdim=True)
    return centered / (centered.square().mean(dims, keepdim=True).sqrt() + eps)


CONVOLUTION = "num_output: 6 kernel_size: 3"
LAYERS = [
    ("Convolution", f"convolution_param {{ {CONVOLUTION} }}", [W, B], lambda x: F.conv2d(x, t(W), t(B))),
    ("Convolution", f"convolution_param {{ {CONVOLUTION} pad: 1 stride: 2 bias_term: false }}", [W],
     lambda x: F.conv2d(x, t(W), None, 2, 1)),
    ("Convolution", f"convolution_param {{ {CONVOLUTION} group: 2 pad: 2 dilation: 2 }}", [G, B],
     lambda x: F.conv2d(x, t(G), t(B), 1, 2, 2, 2)),
    ("Convolution", "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 1 pad_h: 1 stride_h: 2 stride_w: 1 }",
     [W[..., :1], B], lambda x: F.conv2d(x, t(W[..., :1]), t(B), (2, 1), (1, 0))),
    ("Convolution", "convolution_param { num_output: 6 kernel_size: 3 kernel_size: 2 pad: 1 pad: 0 }",
     [W[..., :2], B], lambda x: F.conv2d(x, t(W[..., :2]), t(B), 1, (1, 0))),
    ("Deconvolution", "convolution_param { num_output: 3 kernel_h: 3 kernel_w: 2 stride: 2 pad: 1 }", [D, B[:3]],
     lambda x: F.conv_transpose2d(x, t(D), t(B[:3]), 2, 1)),
    ("Deconvolution", "convolution_param { num_output: 4 kernel_size: 3 group: 4 bias_term: false }", [W[:4, :1]],
     lambda x: F.conv_transpose2d(x, t(W[:4, :1]), None, groups=4)),
    ("InnerProduct", "inner_product_param { num_output: 5 }", [IP, IPB],
     lambda x: F.linear(x.flatten(1), t(IP), t(IPB))),
    ("InnerProduct", "inner_product_param { num_output: 5 transpose: true bias_term: false }", [IP.T],
     lambda x: F.linear(x.flatten(1), t(IP))),
    ("InnerProduct", "inner_product_param { num_output: 5 axis: 2 }", [IP[:, :42], IPB],
     lambda x: F.linear(x.flatten(2), t(IP[:, :42]), t(IPB))),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", [], lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", [],
     lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", [],
     lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 2 stride: 2 round_mode: FLOOR }", [],
     lambda x: F.avg_pool2d(x, 2, 2)),
    ("Pooling", "pooling_param { kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0 }", [],
     lambda x: F.max_pool2d(x, (2, 3), (1, 2), (1, 0), ceil_mode=True)),
    ("Pooling", "pooling_param { pool: AVE global_pooling: true }", [], lambda x: x.mean((2, 3), keepdim=True)),
    ("Pooling", "pooling_param { pool: MAX global_pooling: true }", [], lambda x: x.amax((2, 3), keepdim=True)),
    ("Pooling", "pooling_param { kernel_size: 2 stride_h: 3 stride_w: 2 round_mode: FLOOR }", [],
     lambda x: F.max_pool2d(x, 2, (3, 2))),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.1 beta: 0.7 k: 2 }", [],
     lambda x: F.local_response_norm(x, 3, 0.1, 0.7, 2)),
    ("LRN", "", [], lambda x: F.local_response_norm(x, 5, 1.0, 0.75, 1)),
    ("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 beta: 0.7 }", [],
     lambda x: lrn_within(x, 3, 0.5, 0.7)),
    ("BatchNorm", "batch_norm_param { eps: 0.001 }", [MEAN * 3, VAR * 3, np.float32([3])],
     lambda x: F.batch_norm(x, t(MEAN), t(VAR), eps=1e-3)),
    ("BatchNorm", "", [MEAN, VAR, np.float32([0])], lambda x: F.batch_norm(x, t(MEAN), t(VAR))),
    ("BatchNorm", "batch_norm_param { use_global_stats: false }", [MEAN, VAR, np.float32([1])],
     lambda x: F.batch_norm(x, None, None, training=True)),
    ("Scale", "", [GAMMA], lambda x: x * t(GAMMA)[:, None, None]),
    ("Scale", "scale_param { bias_term: true }", [GAMMA, BETA],
     lambda x: x * t(GAMMA)[:, None, None] + t(BETA)[:, None, None]),
    ("Scale", "scale_param { axis: 2 num_axes: 2 }", [IP[0, :42].reshape(7, 6)],
     lambda x: x * t(IP[0, :42].reshape(7, 6))),
    ("Scale", "scale_param { axis: -1 }", [IP[0, :6]], lambda x: x * t(IP[0, :6])),
    ("Scale", "scale_param { num_axes: 0 }", [np.float32(0.3)], lambda x: x * 0.3),
    ("Bias", "", [BETA], lambda x: x + t(BETA)[:, None, None]),
    ("ReLU", "", [], F.relu),
    ("ReLU", "relu_param { negative_slope: 0.1 }", [], lambda x: F.leaky_relu(x, 0.1)),
    ("PReLU", "", [GAMMA], lambda x: F.prelu(x, t(GAMMA))),
    ("PReLU", "prelu_param { channel_shared: true }", [np.float32(0.2)], lambda x: F.prelu(x, t(np.float32([0.2])))),
    ("ELU", "elu_param { alpha: 0.7 }", [], lambda x: F.elu(x, 0.7)),
    ("Sigmoid", "", [], torch.sigmoid),
    ("TanH", "", [], torch.tanh),
    ("AbsVal", "", [], torch.abs),
    ("BNLL", "", [], F.softplus),
    ("Swish", "swish_param { beta: 2 }", [], lambda x: x * torch.sigmoid(2 * x)),
    ("Clip", "clip_param { min: -0.5 max: 1 }", [], lambda x: x.clamp(-0.5, 1)),
    ("Power", "power_param { power: 2 scale: 0.5 shift: 3 }", [], lambda x: (3 + 0.5 * x) ** 2),
    ("Power", "power_param { scale: 0.5 }", [], lambda x: 0.5 * x),
    ("Exp", "", [], torch.exp),
    ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", [], lambda x: 2 ** (1 + 0.5 * x)),
    ("Log", "log_param { base: 10 scale: 0.1 shift: 2 }", [], lambda x: torch.log10(2 + 0.1 * x)),
    ("Dropout", "dropout_param { dropout_ratio: 0.3 }", [], lambda x: x),
    ("Softmax", "", [], lambda x: F.softmax(x, 1)),
    ("Softmax", "softmax_param { axis: -1 }", [], lambda x: F.softmax(x, -1)),
    ("Flatten", "", [], lambda x: x.flatten(1)),
    ("Flatten", "flatten_param { axis: 2 end_axis: 3 }", [], lambda x: x.flatten(2)),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }", [], lambda x: x.reshape(2, 2, -1)),
    ("Reshape", "reshape_param { shape { dim: 2 dim: 2 } axis: 1 num_axes: 1 }", [],
     lambda x: x.reshape(2, 2, 2, 7, 6)),
    ("Reshape", "reshape_param { shape { dim: 42 } axis: -3 }", [], lambda x: x.reshape(2, 4, 42)),
    ("MVN", "", [], lambda x: normalized(x, (2, 3))),
    ("MVN", "mvn_param { across_channels: true eps: 0.1 }", [], lambda x: normalized(x, (1, 2, 3), 0.1)),
    ("MVN", "mvn_param { normalize_variance: false }", [], lambda x: x - x.mean((2, 3), keepdim=True)),
    ("Tile", "tile_param { axis: 1 tiles: 3 }", [], lambda x: x.repeat(1, 3, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "settings", "weights", "expected"), LAYERS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_layer_computes_what_caffe_does(load, kind, settings, weights, expected):
    model = load(declared(IMAGE) + layer(kind, settings), {"l": weights} if weights else None).eval()
    x = array(*IMAGE)
    wanted = expected(t(x)).numpy()
    for batch in (x, x[:1]):
        if kind == "BatchNorm" and "use_global" in settings:
            continue
        if "dim: 0 dim" in settings and len(batch) == 1:
            continue
        got = model(batch)
        assert got.shape[1:] == wanted.shape[1:]
        np.testing.assert_allclose(got, wanted[: len(batch)], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(model(x), wanted, rtol=2e-5, atol=2e-5)


def test_two_inputs_are_combined(load):
    x, z = array(2, 3, 4, 5), array(2, 3, 4, 5)
    narrow = array(2, 3)
    cases = [
        ("Eltwise", "", z, x + z),
        ("Eltwise", "eltwise_param { coeff: 1 coeff: -0.5 }", z, x - 0.5 * z),
        ("Eltwise", "eltwise_param { operation: PROD }", z, x * z),
        ("Eltwise", "eltwise_param { operation: MAX }", z, np.maximum(x, z)),
        ("Concat", "", z, np.concatenate([x, z], 1)),
        ("Concat", "concat_param { axis: -1 }", z, np.concatenate([x, z], 3)),
        ("Concat", "concat_param { concat_dim: 2 }", z, np.concatenate([x, z], 2)),
        ("Crop", "crop_param { axis: 2 offset: 1 }", z[:, :, :2, :3], x[:, :, 1:3, 1:4]),
        ("Crop", "crop_param { axis: 1 offset: 1 offset: 0 offset: 2 }", z[:, :2, :2, :3], x[:, 1:, :2, 2:]),
        ("Crop", "", z[..., :3], x[..., :3]),
        ("Scale", "scale_param { axis: 0 }", narrow, x * narrow[:, :, None, None]),
        ("Bias", "bias_param { axis: 0 }", narrow, x + narrow[:, :, None, None]),
    ]
    for kind, settings, other, wanted in cases:
        model = load(declared(x.shape, other.shape) + layer(kind, settings, "ab"))
        np.testing.assert_allclose(model(x, other), wanted, rtol=1e-6, atol=1e-6, err_msg=f"{kind} {settings}")


def test_slices_are_several_outputs(load):
    x = array(2, 6, 4)
    for settings, parts in (
        ("", [x[:, :3], x[:, 3:]]),
        ("slice_param { slice_point: 2 }", [x[:, :2], x[:, 2:]]),
        ("slice_param { axis: -1 slice_point: 1 }", [x[..., :1], x[..., 1:]]),
        ("slice_param { slice_dim: 2 }", [x[..., :2], x[..., 2:]]),
    ):
        model = load(declared(x.shape) + layer("Slice", settings, tops="yz"))
        for got, wanted in zip(model(x), parts, strict=True):
            assert np.array_equal(got, wanted)
    copies = load(declared(x.shape) + layer("Split", tops="yz"))(x)
    assert len(copies) == 2 and all(np.array_equal(copy, x) for copy in copies)


@pytest.mark.parametrize("size", range(3, 12))
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 1, 1), (3, 3, 1)]
)
def test_pooling_has_caffe_s_sizes(load, size, kernel, stride, pad):
    """PoolingLayer::Reshape's: rounded up; with padding, no window begins beyond the image."""
    wanted = -(-(size + 2 * pad - kernel) // stride) + 1
    if pad and (wanted - 1) * stride >= size + pad:
        wanted -= 1
    model = load(
        declared((1, 1, size, 8))
        + layer("Pooling", f"pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} }}")
    )
    assert model(array(3, 1, size, 8)).shape[2] == wanted


def test_a_window_that_would_hold_no_pixel_is_refused(load):
    text = layer("Pooling", "pooling_param { kernel_size: 1 stride: 2 }")
    assert load(declared((1, 1, 5, 5)) + text)(array(1, 1, 5, 5)).shape == (1, 1, 3, 3)
    with pytest.raises(ValueError, match="hold none"):
        load(declared((1, 1, 4, 5)) + text)


# ---- networks ---------------------------------------------------------------------------------------

BLOCK = (
    layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false }", "a", "c", "conv/a"
    )
    + layer("BatchNorm", "", "c", "c", "bn")
    + layer("Scale", "scale_param { bias_term: true }", "c", "c", "scale")
    + layer("ReLU", "", "c", "c", "relu")
    + layer("Eltwise", "", "ca", "s", "sum")
    + layer("InnerProduct", 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }', "s", "f", "fc.1")
)


def test_a_network_with_layers_in_place_and_a_shortcut(load):
    w, fc, b = array(4, 4, 3, 3), array(3, 168), array(3)
    weights = {"conv/a": [w], "bn": [MEAN, VAR, np.float32([1])], "scale": [GAMMA, BETA], "fc.1": [fc, b]}
    model = load(declared((1, *IMAGE[1:])) + BLOCK, weights).eval()
    names = [
        "conv/a.weight",
        "bn.running_mean",
        "bn.running_var",
        "bn.num_batches_tracked",
        "scale.weight",
        "scale.bias",
    ]
    assert list(model.state_dict()) == [*names, "fc_1.weight", "fc_1.bias"]
    x = array(*IMAGE)
    h = F.relu(F.batch_norm(F.conv2d(t(x), t(w), None, 1, 1), t(MEAN), t(VAR), t(GAMMA), t(BETA)))
    wanted = F.linear((h + t(x)).flatten(1), t(fc), t(b)).numpy()
    np.testing.assert_allclose(model(x), wanted, rtol=2e-5, atol=5e-5)


def test_a_network_without_weights_starts_as_its_fillers_say_and_trains(load):
    fn.manual_seed(0)
    model = load(declared((1, *IMAGE[1:])) + BLOCK)
    bound = np.sqrt(3 / 168)
    weight = model.state_dict()["fc_1.weight"]
    assert 0.9 * bound < np.abs(weight).max() <= bound
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.02))
    x, y = array(12, *IMAGE[1:]), np.arange(12) % 3
    losses = [step(x, y) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("filler", "check"),
    [
        ('type: "constant" value: 0.5', lambda w: np.all(w == 0.5)),
        ('type: "uniform" min: 2 max: 3', lambda w: w.min() >= 2 and w.max() <= 3 and w.std() > 0.2),
        ('type: "gaussian" mean: 1 std: 0.1', lambda w: abs(w.mean() - 1) < 0.02 and abs(w.std() - 0.1) < 0.02),
        ('type: "gaussian" sparse: 2', lambda w: abs((w != 0).mean() - 0.25) < 0.05 and w.std() > 0.3),
        ('type: "positive_unitball"', lambda w: w.min() >= 0 and np.allclose(w.reshape(8, -1).sum(1), 1)),
        ('type: "msra"', lambda w: abs(w.std() - np.sqrt(2 / 36)) < 0.02),
        ('type: "msra" variance_norm: FAN_OUT', lambda w: abs(w.std() - np.sqrt(2 / 72)) < 0.02),
        ('type: "xavier" variance_norm: AVERAGE', lambda w: 0.9 < np.abs(w).max() / np.sqrt(3 / 54) <= 1),
        ('type: "bilinear"', lambda w: np.allclose(w[0, 0], np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))),
    ],
)
def test_fillers(load, filler, check):
    fn.manual_seed(0)
    settings = f"convolution_param {{ num_output: 8 kernel_size: 3 weight_filler {{ {filler} }} }}"
    assert check(load(declared((1, 4, 5, 5)) + layer("Convolution", settings)).state_dict()["l.weight"])


def test_old_layers_are_read_with_their_old_arrays(load):
    text = """
    input: "a" input_dim: 1 input_dim: 4 input_dim: 7 input_dim: 6
    layers { name: "c" type: CONVOLUTION bottom: "a" top: "c" blobs_lr: 0 blobs_lr: 2 weight_decay: 1
             convolution_param { num_output: 6 kernel_size: 3 } }
    layers { name: "r" type: RELU bottom: "c" top: "c" }
    layers { name: "f" type: FLATTEN bottom: "c" top: "f" }
    layers { name: "i" type: INNER_PRODUCT bottom: "f" top: "i" inner_product_param { num_output: 5 } }
    layers { name: "p" type: SOFTMAX bottom: "i" top: "p" }
    layers { name: "loss" type: SOFTMAX_LOSS bottom: "i" bottom: "label" }
    """
    ip = array(5, 120)
    model = load(text, {"c": [W, B], "i": [ip, IPB]}, old=True)
    x = array(*IMAGE)
    wanted = F.softmax(F.linear(F.relu(F.conv2d(t(x), t(W), t(B))).flatten(1), t(ip), t(IPB)), 1).numpy()
    np.testing.assert_allclose(model(x), wanted, rtol=2e-5, atol=1e-5)
    state = dict(model.named_parameters())
    assert not state["c.weight"].requires_grad and state["c.bias"].requires_grad


def test_no_random_numbers_are_drawn_where_weights_are_there(load):
    before = fn.get_rng_state()
    text = declared(IMAGE) + layer("Convolution", f"convolution_param {{ {CONVOLUTION} }}")
    assert type(load(text, {"l": [W, B]}).l) is nn.Conv2d and fn.get_rng_state() == before
    load(text)
    assert fn.get_rng_state() != before


def test_statistics_that_the_file_fixes_stay_in_training(load):
    settings, weights = "batch_norm_param { use_global_stats: true }", {"l": [MEAN, VAR, np.float32([1])]}
    x = array(*IMAGE) * 3
    for fixed in (True, False):
        model = load(declared(IMAGE) + layer("BatchNorm", settings if fixed else ""), weights).eval().train()
        same = np.allclose(model(x), F.batch_norm(t(x), t(MEAN), t(VAR)).numpy(), atol=1e-5)
        assert same == fixed == np.array_equal(model.l.running_mean.data, MEAN)


def test_double_weights_are_read(load):
    weights = {"l": [W.astype(np.float64), B]}
    model = load(declared(IMAGE) + layer("Convolution", f"convolution_param {{ {CONVOLUTION} }}"), weights)
    assert np.array_equal(model.state_dict()["l.weight"], W)


def test_layers_of_data_and_of_phase_train_are_left_out(load):
    text = (
        'layer { name: "d" type: "ImageData" top: "data" top: "label" image_data_param { source: "x" batch_size: 2 } }'
        + layer("Dropout", "include { phase: TRAIN }", ["data"], ["data"], "drop")
        + layer("Power", "power_param { scale: 2 } exclude { phase: TEST }", ["data"], ["data"], "twice")
        + layer("Power", "power_param { scale: 3 } include { phase: TEST }", ["data"], ["y"], "thrice")
        + layer("Power", 'include { stage: "deploy" }', ["y"], ["y"], "staged")
        + layer("EuclideanLoss", "", ["y", "label"], ["loss"], "loss")
        + layer("Accuracy", "", ["y", "label"], ["acc"], "acc")
        + layer("Silence", "", ["data"], [], "silence")
    )
    model = load(text)
    assert [name for name, _ in model.named_children()] == ["thrice"]
    assert model.inputs == ("data",) and model.outputs == ("y",)
    assert model(np.ones((2, 3), np.float32)).tolist() == [[3.0] * 3] * 2


def test_a_prototxt_for_training_starts_from_the_shape_that_is_given(tmp_path):
    data = 'layer { name: "d" type: "%s" top: "a" top: "label" include { phase: TRAIN stage: "x" } }'
    head = layer("InnerProduct", "inner_product_param { num_output: 3 }") + layer(
        "SoftmaxWithLoss", "", ["y", "label"], "z"
    )
    (tmp_path / "net.prototxt").write_text(data % "Data" + head)
    model = fn.interop.load_caffe(tmp_path / "net.prototxt", input_shape=(1, 4, 5))
    assert model(array(7, 4, 5)).shape == (7, 3)
    (tmp_path / "net.prototxt").write_text(data % "Python" + layer("Power", "", "b", "c") + data % "Data" + head)
    with pytest.raises(ValueError, match="reads b, which no layer"):
        fn.interop.load_caffe(tmp_path / "net.prototxt", input_shape=[(1, 4, 5)])
    with pytest.raises(ValueError, match="each of the inputs a, got 2"):
        fn.interop.load_caffe(tmp_path / "net.prototxt", input_shape=[(1, 4), (1, 5)])
    with pytest.raises(ValueError, match="at least 1"):
        fn.interop.load_caffe(tmp_path / "net.prototxt", input_shape=(0, 4))


def test_input_layers_and_several_outputs(load):
    text = (
        layer("Input", "input_param { shape { dim: 1 dim: 2 } shape { dim: 1 dim: 3 } }", "", "ab", "in")
        + layer("InnerProduct", "inner_product_param { num_output: 4 }", "a", "c", "fc1")
        + layer("InnerProduct", "inner_product_param { num_output: 4 }", "b", "d", "fc2")
        + layer("Eltwise", "", "cd", "e", "sum")
        + layer("TanH", "", "b", "f", "tanh")
    )
    model = load(text)
    e, f = model(array(5, 2), array(5, 3))
    assert e.shape == (5, 4) and f.shape == (5, 3)


def test_parameters_of_one_name_are_one(load):
    shared = 'param { name: "w" } param { name: "b" lr_mult: 0 } inner_product_param { num_output: 3 }'
    text = (
        declared((1, 2), (1, 2))
        + layer("InnerProduct", shared, "a", "x", "one")
        + layer("InnerProduct", shared, "b", "y", "two")
    )
    w, b = array(3, 2), array(3)
    model = load(text, {"one": [w, b], "two": [w, b]})
    assert len(list(model.parameters())) == 2 and model.one.weight is model.two.weight
    assert model.one.weight.requires_grad and not model.one.bias.requires_grad
    x, z = array(4, 2), array(4, 2)
    for got, given in zip(model(x, z), (x, z), strict=True):
        np.testing.assert_allclose(got, given @ w.T + b, rtol=1e-5, atol=1e-6)


def test_fields_of_newer_caffes_are_passed_over(load):
    model = load(
        'some_new_field: 3 engine { x: "y" } '
        + declared(IMAGE)
        + layer("ReLU", "relu_param { engine: CUDNN newer: 1 } what { is: 1 }")
    )
    assert model(array(*IMAGE)).min() == 0


# ---- refusals ---------------------------------------------------------------------------------------


def test_all_that_cannot_be_read_is_named_at_once(load):
    text = (
        declared(IMAGE)
        + layer("Python", "", "a", "b", "one")
        + layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 axis: 2 }", "a", "c", "two")
        + layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", "b", "d", "three")
        + layer("ReLU", "", "nowhere", "e", "four")
        + layer("LRN", "lrn_param { local_size: 4 }", "a", "f", "five")
    )
    with pytest.raises(ValueError) as caught:
        load(text)
    for part in ("net.prototxt: ", "one (Python)", "two (Convolution)", "three (Pooling)", "four (ReLU)", "five (LRN)"):
        assert part in str(caught.value)


CONV = layer("Convolution", f"convolution_param {{ {CONVOLUTION} }}")


@pytest.mark.parametrize(
    ("text", "weights", "words"),
    [
        (declared(IMAGE) + CONV, {"l": [W[:5], B]}, r"shape \(5, 4, 3, 3\); expected \(6, 4, 3, 3\)"),
        (declared(IMAGE) + CONV, {"l": [W, B[:5]]}, r"weights 2 have the shape \(5,\)"),
        (declared(IMAGE) + CONV, {"l": [W]}, "lacks weights 2"),
        (declared(IMAGE) + CONV, {"other": [W]}, "no weights for it"),
        (declared(IMAGE) + CONV, {"l": [array(6, 3, 3, 3), B]}, r"l \(Convolution\)"),
        (declared((1, 4, 2, 2)) + CONV, None, r"l \(Convolution\)"),
        (CONV.replace('bottom: "a"', ""), None, "0 inputs"),
        ('layer { type: "Data" top: "a" }' + CONV, None, "does not say the sizes of its input"),
        (declared(IMAGE) + layer("InnerProduct", "inner_product_param { num_output: 2147483647 }"), None, "not made"),
        (declared(IMAGE) + layer("Slice", "slice_param { slice_point: 9 }", tops="yz"), None, "do not cut"),
        (declared(IMAGE) + layer("Reshape", "reshape_param { shape { dim: 5 } axis: 2 }"), None, r"l \(Reshape\)"),
        (declared(IMAGE) + layer("Pooling", "pooling_param { kernel_size: 3 pad: 2 }"), None, "more than half"),
        (declared((1, 0, 3)) + layer("ReLU"), None, "sizes"),
        (declared((2, 4)) + layer("MVN"), None, "no deviation"),
        (declared(IMAGE) + layer("Scale"), {"l": [np.float32(2)]}, r"shape \(\); expected 1 dimension"),
        (declared(IMAGE) + layer("Bias"), {"l": [array(4, 7)]}, r"shape \(4, 7\); expected 1 dimension"),
        (declared(IMAGE), None, "no layer but"),
        ("layers { name: \"a\" } layer { name: \"b\" }", None, "old one"),
        ("layer {", None, "no prototxt"),
        ('layer { name: "x" type: "Data" top: "a" } layers_ {', None, "no prototxt"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(load, text, weights, words):
    with pytest.raises(ValueError, match=words):
        load(text, weights)


def test_what_is_no_caffemodel_is_refused(load, tmp_path):
    load(declared(IMAGE) + CONV)
    path = tmp_path / "bad.caffemodel"
    for data, words in (
        (b"", "no layers"),
        (b"\xff" * 9, "no caffemodel"),
        (caffemodel({"l": [W]})[:-9], "no caffemodel"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"bad\.caffemodel.*{words}"):
            fn.interop.load_caffe(tmp_path / "net.prototxt", path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fn.interop.load_caffe(tmp_path / "nowhere.prototxt")


def test_no_memory_is_taken_for_a_network_that_is_too_large(load, monkeypatch):
    monkeypatch.setattr(layers, "MOST_PARAMETERS", 100)
    text = declared(IMAGE) + layer("InnerProduct", "inner_product_param { num_output: 1 }")
    with pytest.raises(ValueError, match="not made without a file"):
        load(text)
    assert load(text, {"l": [IP[:1], IPB[:1]]})
