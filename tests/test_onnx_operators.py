"""Operators of networks in ONNX files: next to ONNX Runtime, in training mode, and with hostile attributes."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.testing import gradcheck

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402
from test_onnx_network import model, value  # noqa: E402

import fastnn.onnx  # noqa: E402

IMAGES = np.random.default_rng(0).standard_normal((3, 4, 6, 8)).astype(np.float32)


def of_node(op, arrays, outputs=1, opset=19, types=None, constants=(), **attributes):
    """The bytes of a network of one node: without the inputs that are None, and with those of `constants` in it."""
    names = ["" if a is None else f"i{k}" for k, a in enumerate(arrays)]
    inputs = [
        value(name, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype))
        for k, (name, a) in enumerate(zip(names, arrays, strict=True))
        if a is not None and k not in constants
    ]
    results = [value(f"o{k}", None, t) for k, t in enumerate(types or [TensorProto.FLOAT] * outputs)]
    node = helper.make_node(op, names, [r.name for r in results], **attributes)
    held = [onnx.numpy_helper.from_array(arrays[k], names[k]) for k in constants]
    graph = helper.make_graph([node], "g", inputs, results, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def run(op, arrays, training=False, **settings):
    net = fn.onnx.load(of_node(op, arrays, **settings)).train(training)
    constants = settings.get("constants", ())
    return net(*(a for k, a in enumerate(arrays) if a is not None and k not in constants))


def random_windows(draw, dims):
    """Sizes of an input and of a kernel, and attributes that go together in ONNX Runtime, too."""
    sizes, kernel = draw.integers(6, 12, dims), draw.integers(1, 4, dims)
    strides, dilations = draw.integers(1, 4, dims), draw.integers(1, 3, dims)
    auto = draw.choice(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if auto.startswith("SAME"):  # which ONNX Runtime does not make with these
        dilations, strides = np.ones(dims, int), np.minimum(strides, kernel)
    given = dict(strides=strides.tolist(), dilations=dilations.tolist())
    if auto == "NOTSET":
        return sizes, kernel, dict(given, pads=[int(draw.integers(0, k)) for k in (*kernel, *kernel)])
    return sizes, kernel, dict(given, auto_pad=str(auto))


def random_node(kind, draw):
    """(op, arrays, settings)"""
    dims = int(draw.integers(1, 3))
    sizes, kernel, given = random_windows(draw, dims)
    group = int(draw.integers(1, 3))

    def numbers(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    bias = numbers(3 * group) if draw.integers(2) else None
    if kind == "Conv":
        return kind, [numbers(2, 2 * group, *sizes), numbers(3 * group, 2, *kernel), bias], dict(given, group=group)
    if kind == "ConvTranspose":
        given["output_padding"] = [int(draw.integers(0, s)) for s in given["strides"]]
        if draw.integers(2) and given.get("auto_pad", "NOTSET") == "NOTSET":
            whole = (np.array(sizes) - 1) * given["strides"] + (kernel - 1) * given["dilations"] + 1
            del given["output_padding"]
            given.pop("pads", None)
            given["output_shape"] = (whole - draw.integers(0, 2, dims)).tolist()
        return kind, [numbers(2, 2 * group, *sizes), numbers(2 * group, 3, *kernel), bias], dict(given, group=group)
    if kind == "Resize":
        mode = str(draw.choice(["nearest", "linear", "cubic"]))
        transform = str(draw.choice(["half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric"]))
        rounding = str(draw.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
        settings = dict(mode=mode, coordinate_transformation_mode=transform, nearest_mode=rounding)
        if draw.integers(2):
            sizes = np.array([1, 2, *draw.integers(1, 12, 2)])
            return kind, [numbers(1, 2, *draw.integers(2, 7, 2)), None, None, sizes], settings
        scales = np.array([1, 1, *draw.choice([0.5, 0.6, 1.5, 2, 3, 0.8, 2.5], 2)], np.float32)
        return kind, [numbers(1, 2, *draw.integers(2, 7, 2)), None, scales], settings
    dims = int(draw.integers(1, 4))
    sizes, kernel, given = random_windows(draw, dims)
    given |= dict(kernel_shape=kernel.tolist(), ceil_mode=int(draw.integers(2)))
    if kind == "AveragePool":
        given["count_include_pad"] = int(draw.integers(2))
    elif kind == "LpPool":
        given["p"] = int(draw.integers(1, 4))
    else:
        given |= dict(types=[TensorProto.FLOAT, TensorProto.INT64], outputs=2)
    return kind, [numbers(2, 3, *sizes)], given


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "Resize"])
def test_windows_and_sizes_are_onnx_runtimes(kind):
    runtime = pytest.importorskip("onnxruntime")
    draw = np.random.default_rng(sum(map(ord, kind)))
    for _ in range(25):
        op, arrays, settings = random_node(kind, draw)
        data = of_node(op, arrays, **settings)
        feeds = {f"i{k}": a for k, a in enumerate(arrays) if a is not None}
        want = runtime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feeds)
        got = fn.onnx.load(data).eval()(**feeds)
        for ours, theirs in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=f"{settings}")


def test_the_gradients_of_composed_operators_are_right():
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 6))
    barred = np.where(x[..., :5] > 0, x[..., :5], -np.inf)
    for op, arrays, settings in [
        ("LpPool", [x], dict(kernel_shape=[2, 3], p=3)),
        ("AveragePool", [x], dict(kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)),
        ("GlobalLpPool", [x], dict(p=2)),
        ("LpNormalization", [x], dict(axis=1)),
        ("MeanVarianceNormalization", [x], {}),
        ("LRN", [x], dict(size=2, alpha=0.5)),
        ("Shrink", [x], dict(lambd=0.4, bias=0.2)),
        ("Hardmax", [x], {}),
        ("PRelu", [x, np.array([[[0.2]]] * 4)], {}),
        ("RMSNormalization", [x, np.arange(1.0, 7)], dict(opset=23)),
        ("GroupNormalization", [x, np.arange(1.0, 3), np.arange(2.0)], dict(opset=18, num_groups=2)),
        ("Swish", [x], dict(alpha=0.7, opset=24)),
        ("Attention", [x, x[:, :2] * 0.5, x[:, 1:3]], dict(opset=24, is_causal=1, softcap=2.0)),
        ("Attention", [x, x, x[..., :2], barred], dict(opset=23, constants=(3,))),
        ("RotaryEmbedding", [x, *x.transpose(1, 0, 2, 3)[:2, :, :, :3]], dict(opset=23)),
        ("Resize", [x, None, None, np.array([2, 4, 7, 3])], dict(mode="cubic", constants=(3,))),
        ("Resize", [x, None, None, np.array([2, 4, 2, 3])], dict(mode="linear", antialias=1, constants=(3,))),
    ]:
        data = of_node(op, arrays, types=[TensorProto.DOUBLE], **settings)
        fed = [a for k, a in enumerate(arrays) if a is not None and k not in settings.get("constants", ())]
        gradcheck(fn.onnx.load(data).eval(), *fed)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_local_response_norm_sees_more_channels_above_than_below(size):
    squares = np.pad(IMAGES.astype(float) ** 2, ((0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0)))
    total = sum(squares[:, c : c + 4] for c in range(size))
    want = IMAGES / (1.5 + 0.7 / size * total) ** 0.6
    np.testing.assert_allclose(run("LRN", [IMAGES], size=size, alpha=0.7, beta=0.6, bias=1.5), want, rtol=1e-5)


@pytest.mark.parametrize(
    ("rounding", "chosen"),
    [
        ("round_prefer_floor", [0, 0, 1, 1, 2, 2, 3, 3]), ("round_prefer_ceil", [0, 1, 1, 2, 2, 3, 3, 3]),
        ("floor", [0, 0, 1, 1, 2, 2, 3, 3]), ("ceil", [0, 1, 1, 2, 2, 3, 3, 3]),
    ],
)  # fmt: skip
def test_an_element_between_two_is_one_of_them_by_the_rounding(rounding, chosen):
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    settings = dict(coordinate_transformation_mode="asymmetric", nearest_mode=rounding, constants=(2,))
    scales = np.array([1, 1, 2], np.float32)
    assert run("Resize", [x, None, scales], **settings).ravel().tolist() == chosen


def test_what_kernels_do_not_reach_of_an_output_shape_is_at_its_end():
    x, w = np.ones((1, 1, 3), np.float32), np.ones((1, 1, 2), np.float32)
    y = run("ConvTranspose", [x, w, np.zeros(1, "f")], strides=[3], output_shape=[10])
    assert y.ravel().tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 0, 0]


def test_windows_far_beyond_the_image_take_no_memory():
    far = dict(kernel_shape=[2, 2], dilations=[2**30, 1], strides=[2**30, 1], pads=[2**30, 0, 2**30 - 1, 0])
    np.testing.assert_array_equal(run("MaxPool", [IMAGE], **far), np.ones((1, 2, 2, 5)))
    np.testing.assert_array_equal(run("AveragePool", [IMAGE], count_include_pad=1, **far), np.full((1, 2, 2, 5), 0.5))


# ---- training mode ----


def batch_norm(momentum, **settings):
    arrays = {"s": np.full(4, 2.0, "f"), "b": np.ones(4, "f"), "m": np.zeros(4, "f"), "v": np.ones(4, "f")}
    nodes = [("BatchNormalization", "x s b m v", "y", dict(momentum=momentum, **settings))]
    return fn.onnx.load(model(nodes, [value("x", ["N", 4, 6, 8])], [value("y", None)], arrays))


def test_batch_norm_moves_its_statistics_in_training_alone():
    net, twin = batch_norm(0.7), nn.BatchNorm2d(4, momentum=0.3)
    twin.weight, twin.bias = np.full(4, 2.0, "f"), np.ones(4, "f")
    assert sorted(dict(net.named_parameters())) == ["b", "s"] and sorted(dict(net.named_buffers())) == ["m", "v"]
    assert np.allclose(net.eval()(IMAGES), twin.eval()(IMAGES), atol=1e-5)
    assert not net.m.data.any()
    for _ in range(2):
        assert np.allclose(net.train().forward_train(IMAGES), twin.train().forward_train(IMAGES), atol=1e-5)
    assert np.allclose(net.m.data, twin.running_mean.data) and np.allclose(net.v.data, twin.running_var.data)
    assert np.allclose(net.eval()(IMAGES), twin.eval()(IMAGES), atol=1e-5)


def test_dropout_drops_in_training_alone():
    x = np.ones((200, 50), np.float32)
    ratio, trains = np.array(0.25, np.float32), np.array(True)
    outputs = dict(outputs=2, types=[TensorProto.FLOAT, TensorProto.BOOL])
    for opset, arrays, settings in [
        (7, [x], dict(ratio=0.25)),
        (12, [x, ratio], dict(constants=(1,))),
        (13, [x, ratio, trains], dict(constants=(1, 2))),
    ]:
        fn.manual_seed(0)
        kinds = dict(outputs, types=[TensorProto.FLOAT] * 2) if opset == 7 else outputs
        y, mask = run("Dropout", arrays, training=True, opset=opset, **kinds, **settings)
        assert set(np.unique(y).tolist()) == {0.0, np.float32(4 / 3)} and np.array_equal(y > 0, mask > 0)
        assert 0.7 < mask.mean() < 0.8
        y, mask = run("Dropout", arrays, opset=opset, **kinds, **settings)
        assert np.all(y == 1) and np.all(mask > 0)
    net = fn.onnx.load(of_node("Dropout", [x], opset=7))
    assert not np.array_equal(net.train()(x), net.train()(x)) and np.array_equal(net.eval()(x), x)


def test_random_numbers_are_drawn_anew_in_each_run_from_the_seed():
    nodes = [
        ("RandomUniform", "", "u", dict(shape=[500], low=2.0, high=3.0, seed=1.0)),
        ("RandomNormalLike", "x", "n", dict(mean=4.0, scale=0.5)),
        ("Bernoulli", "p", "b", dict(dtype=TensorProto.INT32)),
        ("RandomNormal", "", "d", dict(shape=[4, 3], dtype=TensorProto.DOUBLE)),
    ]
    inputs = [value("x", ["N", 7]), value("p", ["N", 7])]
    kinds = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32, TensorProto.DOUBLE]
    outputs = [value(name, None, kind) for name, kind in zip("unbd", kinds, strict=True)]
    net = fn.onnx.load(model(nodes, inputs, outputs)).eval()
    x, p = np.zeros((100, 7), np.float32), np.full((100, 7), 0.25, np.float32)
    fn.manual_seed(3)
    first, second = net(x, p), net(x, p)
    u, n, b, d = first
    assert u.min() >= 2 and u.max() < 3 and abs(n.mean() - 4) < 0.1 and abs(n.std() - 0.5) < 0.05
    assert b.dtype == np.int32 and set(b.ravel().tolist()) == {0, 1} and 0.2 < b.mean() < 0.3
    assert d.dtype == np.float64 and d.shape == (4, 3)
    assert not any(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    fn.manual_seed(3)
    assert all(np.array_equal(one, again) for one, again in zip(first, net(x, p), strict=True))


def test_labels_are_drawn_with_the_probabilities_of_their_row():
    shares = np.array([[0.1, 0.0, 0.6, 0.3], [0.25, 0.25, 0.25, 0.25]])
    with np.errstate(divide="ignore"):
        logs = (np.log(shares) + 3).astype(np.float32)
    fn.manual_seed(0)
    drawn = run("Multinomial", [logs], sample_size=4000, types=[TensorProto.INT32])
    assert drawn.shape == (2, 4000) and drawn.dtype == np.int32
    counts = np.array([np.bincount(row, minlength=4) for row in drawn]) / 4000
    np.testing.assert_allclose(counts, shares, atol=0.03)
    assert counts[0, 1] == 0


def test_equal_parameters_that_an_exporter_merged_are_not_tied():
    arrays = {"one": np.ones(5, np.float32), "weight": np.arange(5, dtype=np.float32)}
    nodes = [
        ("Identity", "one", "two"), ("LayerNormalization", "x one", "a"), ("LayerNormalization", "a two", "b"),
        ("Add", "b weight", "y"),
    ]  # fmt: skip
    net = fn.onnx.load(model(nodes, [value("x", ["N", 5])], [value("y", None)], arrays))
    assert sorted(net.state_dict()) == ["one", "two", "weight"]
    x = IMAGES.ravel()[:200].reshape(40, 5)
    step = fn.TrainStep(net, nn.MSELoss(), optim.SGD(net.parameters(), lr=0.1))
    step(x, np.zeros_like(x))
    assert not np.array_equal(net.one.data, net.two.data)


# ---- losses ----


@pytest.mark.parametrize("op", ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_labels_may_be_constants(op, reduction):
    draw = np.random.default_rng(0)
    x, labels = draw.standard_normal((3, 5, 4)).astype(np.float32), draw.integers(0, 5, (3, 4))
    weight = draw.uniform(0.5, 2, 5).astype(np.float32)
    settings = dict(reduction=reduction, ignore_index=int(labels[0, 0]), opset=13)
    for arrays in ([x, labels], [x, labels, weight]):
        fed = run(op, arrays, **settings)
        np.testing.assert_allclose(run(op, arrays, constants=(1,), **settings), fed, rtol=1e-5)
    held = fn.onnx.load(of_node(op, [x, labels, weight], constants=(2,), **settings))
    assert not held.state_dict()  # nobody trains the weights of classes
    np.testing.assert_allclose(held(x, labels), fed, rtol=1e-5)
    with pytest.raises(ValueError, match=r"labels go from 0 to 7, for 5 classes"):
        run(op, [x, np.where(labels == 4, 7, labels)], constants=(1,), reduction=reduction, opset=13)


def test_a_label_that_is_no_class_is_refused():
    x = np.zeros((2, 3), np.float32)
    for label in (3, -1, -100):
        with pytest.raises((ValueError, IndexError), match=r"label|class"):
            run("SoftmaxCrossEntropyLoss", [x, np.array([0, label])], opset=13)


# ---- what is refused ----

IMAGE = np.ones((1, 2, 6, 6), np.float32)
KERNEL = np.ones((2, 2, 3, 3), np.float32)
HUGE = 2**40
REFUSED = [
    ("Conv", [IMAGE, KERNEL], dict(strides=[-1, 1]), "strides must be an int of at least 1, got -1"),
    ("Conv", [IMAGE, KERNEL], dict(strides=[0, 1]), "strides must be an int of at least 1, got 0"),
    ("Conv", [IMAGE, KERNEL], dict(strides=[1]), "strides holds 1 numbers; expected 2"),
    ("Conv", [IMAGE, KERNEL], dict(pads=[1, 1, 1]), "pads holds 3 numbers; expected 4"),
    ("Conv", [IMAGE, KERNEL], dict(pads=[1] * 9), "pads holds 9 numbers; expected 4"),
    ("Conv", [IMAGE, KERNEL], dict(pads=[-1, 0, 0, 0]), "pads must be an int of at least 0, got -1"),
    ("Conv", [IMAGE, KERNEL], dict(dilations=[HUGE, 1]), f"dilations must be at most 2147483647, got {HUGE}"),
    ("Conv", [IMAGE, KERNEL], dict(dilations=[2**30, 1]), "the kernel spans 2147483649 along the height"),
    ("Conv", [IMAGE, KERNEL], dict(kernel_shape=[HUGE, HUGE]), f"kernel_shape is ({HUGE}, {HUGE}), its weight"),
    ("Conv", [IMAGE, KERNEL], dict(group=0), "group must be an int of at least 1"),
    ("Conv", [IMAGE, KERNEL], dict(group=3), "takes 6"),
    ("Conv", [IMAGE, KERNEL], dict(auto_pad="SAME"), "auto_pad is 'SAME'; expected NOTSET, VALID"),
    ("Conv", [np.ones((1, 2, 3, 4, 5), "f"), np.ones((1, 2, 1, 1, 1), "f")], {}, "sequences and images are read"),
    ("ConvTranspose", [IMAGE, KERNEL], dict(output_shape=[HUGE, HUGE]), "output_shape must be at most"),
    ("ConvTranspose", [IMAGE, KERNEL], dict(output_padding=[-1, 0]), "output_padding must be an int of at least 0"),
    ("ConvTranspose", [IMAGE, KERNEL], dict(pads=[9] * 4), "the output would be -10 x -10"),
    ("MaxPool", [IMAGE], dict(kernel_shape=[HUGE, 1]), f"kernel_shape must be at most 2147483647, got {HUGE}"),
    ("MaxPool", [IMAGE], dict(kernel_shape=[2**30, 1]), "the kernel spans 1073741824, the padded input only 6"),
    ("MaxPool", [IMAGE], dict(kernel_shape=[2]), "its kernel has 1 dimensions, its input 2 spatial ones"),
    ("MaxPool", [IMAGE], dict(kernel_shape=[2, 2], pads=[2] * 4), "padding 2 leaves the kernel"),
    ("MaxPool", [np.ones((2, 3), "f")], dict(kernel_shape=[1]), "expected (N, C, L, ...)"),
    ("AveragePool", [IMAGE], dict(kernel_shape=[2, 2], strides=[1, -3]), "strides must be an int of at least 1"),
    (
        "MaxPool", [IMAGE],
        dict(kernel_shape=[2, 2], dilations=[2**30, 1], strides=[2**30, 1], pads=[2**30, 0] * 2, outputs=2),
        "windows that span 1048576 at most",
    ),
    ("LpPool", [IMAGE], dict(kernel_shape=[2, 2], p=0), "its p must be an int of at least 1"),
    ("LpNormalization", [IMAGE], dict(p=3), "its p is 3; expected 1 or 2"),
    ("LpNormalization", [IMAGE], dict(axis=4), "axis 4 is out of range for 4 dimensions"),
    ("Softmax", [IMAGE], dict(axis=7), "axis 7 is out of range for 4 dimensions"),
    ("Hardmax", [IMAGE], dict(axis=-5), "axis -5 is out of range for 4 dimensions"),
    ("MeanVarianceNormalization", [IMAGE], dict(axes=[0, 0]), "axes (0, 0) name a dimension twice"),
    ("LayerNormalization", [IMAGE, np.ones(5, "f")], {}, "do not broadcast"),
    ("LayerNormalization", [IMAGE, np.ones((3, 1, 1, 1, 6), "f")], {}, "would stretch its input"),
    ("LRN", [IMAGE], dict(size=0), "its size must be an int of at least 1"),
    ("Celu", [IMAGE], dict(alpha=0.0), "alpha must not be 0"),
    ("Dropout", [IMAGE, np.array(1.5, "f"), np.array(True)], dict(constants=(1, 2)), "its ratio must be a number from"),
    ("RandomNormalLike", [IMAGE], dict(dtype=TensorProto.STRING), "its dtype is ONNX's number 8, which is not read"),
    ("RandomUniformLike", [IMAGE], dict(dtype=TensorProto.INT64), "its dtype is int64; expected a floating-point one"),
    ("Resize", [IMAGE, None, np.array([1, 1, -2, 1], "f")], {}, "scales must be above 0, got -2"),
    ("Resize", [IMAGE, None, np.array([1, 1, np.nan, 1], "f")], {}, "scales must be finite numbers"),
    ("Resize", [IMAGE, None, np.array([1, 1, 1e30, 1], "f")], {}, "a dimension of 6 would become"),
    ("Resize", [IMAGE, None, None, np.array([1, 2, 0, 4])], {}, "a dimension of 6 would become 0"),
    ("Resize", [IMAGE, None, None, np.array([1, 2, HUGE, 4])], {}, "a dimension of 6 would become"),
    ("Resize", [IMAGE, None, None, np.array([1, 2])], {}, "it has 2 scales or sizes for 4 dimensions"),
    ("Resize", [IMAGE], {}, "give it either scales or sizes"),
    ("Resize", [IMAGE, None, None, np.array([2, 2])], dict(axes=[2, 9]), "axis 9 is out of range"),
    ("Resize", [IMAGE, None, None, np.array([1, 2, 3, 4])], dict(mode="area"), "its mode must be one of 'nearest'"),
    ("Attention", [IMAGE[0]] * 3, dict(opset=23), "expected 4 dimensions, or 3 and a number of heads"),
    ("BatchNormalization", [IMAGE, *[np.ones(2, "f")] * 4], dict(epsilon=-1.0), "epsilon must be a finite number of"),
    ("GroupNormalization", [IMAGE, *[np.ones(2, "f")] * 2], dict(num_groups=0, opset=21), "num_groups must be an int"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "arrays", "settings", "message"), REFUSED)
def test_what_an_attribute_may_not_be_is_refused_in_one_sentence(op, arrays, settings, message):
    with pytest.raises((ValueError, TypeError, IndexError)) as refused:
        run(op, arrays, **settings)
    assert message in str(refused.value) and str(refused.value).startswith(f"{op} 'o0': ")


def test_a_padding_for_each_side_is_written_as_onnx_runtime_takes_it(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    for layer in (
        nn.ConvTranspose2d(4, 3, (3, 4), (2, 3), (0, 1, 2, 1), (1, 2), dilation=(2, 1)),
        nn.ConvTranspose2d(4, 3, 3, 2, 1, 1),
        nn.MaxPool2d((3, 2), (2, 1), (1, 2, 0, 1)),
        nn.Upsample((7, 20), mode="bilinear"),
        nn.ConstantPad2d((1, 2, 0, 3), -1.5),
    ):
        fn.onnx.save(layer.eval(), tmp_path / "layer.onnx", IMAGES)
        session = runtime.InferenceSession(str(tmp_path / "layer.onnx"), providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {session.get_inputs()[0].name: IMAGES})
        np.testing.assert_allclose(layer(IMAGES), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [7, 9, 10, 12, 13, 17, 20, 22])
def test_versions_of_operators_are_onnx_runtimes(opset):
    runtime = pytest.importorskip("onnxruntime")
    draw = np.random.default_rng(0)
    numbers = [draw.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4)]
    x, halves = IMAGES, np.array([1, 1, 0.5, 2], np.float32)
    cases = [
        ("Upsample", [x], dict(scales=[1.0, 1.0, 2.0, 1.5]), 7, 8),
        ("Upsample", [x, np.array([1, 1, 2, 3], np.float32)], dict(mode="linear"), 9, 9),
        ("Resize", [x, halves], {}, 10, 10),
        ("Resize", [x, np.array([1, 1, 1.5, 2], np.float32)], dict(mode="linear"), 10, 10),
        *((name, [x], dict(axis=axis), 7, 99) for name in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, 1, 2)),
        ("BatchNormalization", [x, *numbers], dict(epsilon=0.1), 7, 99),
        ("InstanceNormalization", [x, *numbers[:2]], {}, 7, 99),
        ("PRelu", [x, numbers[0].reshape(4, 1, 1)], {}, 7, 99),
        ("Gemm", [x[0, 0], x[1, 1], numbers[0][:, None][:1]], dict(transB=1, alpha=0.5, beta=2.0), 7, 99),
        ("AveragePool", [x], dict(kernel_shape=[2, 2], pads=[1, 0, 0, 1]), 7, 99),
        ("MeanVarianceNormalization", [x], {}, 9, 99),
        ("LayerNormalization", [x, x[0, 0], x[0, 1]], dict(axis=2), 17, 99),
    ]
    for op, arrays, settings, first, last in cases:
        if first <= opset <= last:
            data = of_node(op, arrays, opset=opset, **settings)
            feeds = {f"i{k}": a for k, a in enumerate(arrays)}
            (want,) = runtime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feeds)
            got = fn.onnx.load(data).eval()(**feeds)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=f"{op} {settings}")
