"""Each layer of a Keras file gives what its definition says, in plain NumPy and float64."""

import math

import numpy as np
import pytest

import fastnn as fn

import keras_files
from keras_files import layer, sequential

pytest.importorskip("h5py")

RNG = np.random.default_rng(0)


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(np.float32)


def images(*shape):
    return numbers(3, *(shape or (7, 6, 4)), seed=9)


def padded(x, kernel, strides, padding, dilation, fill=0.0):
    """x (N, H, W, C) with what "same" or "causal" adds: what windows at each stride need, the odd one behind."""
    widths = [(0, 0)]
    for size, k, s, d in zip(x.shape[1:-1], kernel, strides, dilation, strict=True):
        span = (k - 1) * d + 1
        total = max((math.ceil(size / s) - 1) * s + span - size, 0) if padding == "same" else 0
        widths.append((span - 1, 0) if padding == "causal" else (total // 2, total - total // 2))
    return np.pad(x, [*widths, (0, 0)], constant_values=fill)


def windows(x, kernel, strides, dilation):
    """(N, OH, OW, C, KH, KW) of x (N, H, W, C)."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    axes = tuple(range(1, x.ndim - 1))
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axes)
    places = tuple(slice(None, None, s) for s in strides)
    taps = tuple(slice(None, None, d) for d in dilation)
    return view[(slice(None), *places, slice(None), *taps)]


def convolved(x, kernel, strides, padding="valid", dilation=None, groups=1):
    """The cross-correlation of x (N, ..., C) with kernel (..., C / groups, out)."""
    size = kernel.shape[:-2]
    dilation = dilation or [1] * len(size)
    seen = windows(padded(x.astype(float), size, strides, padding, dilation), size, strides, dilation)
    letters = "uv"[: len(size)]
    parts = []
    for seen_by, taps in zip(np.split(seen, groups, len(size) + 1), np.split(kernel, groups, -1), strict=True):
        parts.append(np.einsum(f"...c{letters},{letters}co->...o", seen_by, taps.astype(float)))
    return np.concatenate(parts, -1)


def depthwise(x, kernel, strides, padding):
    """Each channel of x by itself with kernel (..., C, multiplier)."""
    parts = [convolved(x[..., [c]], kernel[..., [c], :], strides, padding) for c in range(x.shape[-1])]
    return np.concatenate(parts, -1)


def transposed(x, kernel, strides, padding):
    """What a convolution with this padding gives as gradient, by definition: kernel (..., out, in)."""
    rank = len(strides)
    size = kernel.shape[:rank]
    out = [
        n * s if padding == "same" else max((n - 1) * s + k, n * s)
        for n, s, k in zip(x.shape[1:-1], strides, size, strict=True)
    ]
    start = [
        max((n - 1) * s + k - o, 0) // 2 if padding == "same" else 0
        for n, s, k, o in zip(x.shape[1:-1], strides, size, out, strict=True)
    ]
    y = np.zeros((len(x), *out, kernel.shape[-2]))
    for place in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*size):
            at = tuple(p * s + t - b for p, s, t, b in zip(place, strides, tap, start, strict=True))
            if all(0 <= a < o for a, o in zip(at, out, strict=True)):
                y[(slice(None), *at)] += x[(slice(None), *place)].astype(float) @ kernel[tap].T.astype(float)
    return y


def pooled(x, size, strides, padding, largest):
    one = [1] * len(size)
    fill = -np.inf if largest else np.nan
    seen = windows(padded(x.astype(float), size, strides, padding, one, fill), size, strides, one)
    axes = tuple(range(-len(size), 0))
    return seen.max(axes) if largest else np.nanmean(seen, axes)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def normed(x, axes, eps=1e-3):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def grouped(x, groups):
    n, h, w, c = x.shape
    return normed(x.astype(float).reshape(n, h, w, groups, c // groups), (1, 2, 4)).reshape(x.shape)


def bilinear(x, times):
    """Twice and more as large along one axis: halves of pixels are the coordinates, edges go on."""
    for axis, factor in zip((1, 2), times, strict=True):
        size = x.shape[axis]
        places = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
        low = np.floor(places).astype(int)
        share = (places - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, size - 1), axis) * share
    return x


K, B, D, BD = numbers(3, 2, 4, 6), numbers(6), numbers(3, 2, 4, 3), numbers(12)
K1, T = numbers(3, 4, 6), numbers(3, 4, 5, 4)
S1, S2 = numbers(2, 3, 4, 2), numbers(1, 1, 8, 5)
G = [numbers(4, seed=i) for i in range(3)] + [np.abs(numbers(4, seed=3)) + 0.5]
E = numbers(11, 3)
WORDS = RNG.integers(0, 11, (3, 5))
X, Q, V = images(), images(9, 4), images(5)
ALPHA = numbers(7, 1, 4)

#: By kind and settings: the layer's arrays, an input, and what comes out.
CASES = [
    (layer("Dense", units=6, activation="tanh"), [K[0, 0], B], X, lambda x: np.tanh(x @ K[0, 0] + B)),
    (layer("Dense", units=6, use_bias=False), [K[0, 0]], numbers(3, 4), lambda x: x @ K[0, 0]),
    (layer("Embedding", input_dim=11, output_dim=3), [E], WORDS, lambda x: E[x]),
    (layer("Conv2D", filters=6, kernel_size=[3, 2], strides=[1, 1], activation="relu"), [K, B], X,
     lambda x: np.maximum(convolved(x, K, (1, 1)) + B, 0)),
    (layer("Conv2D", filters=6, kernel_size=[3, 2], strides=[2, 3], padding="same"), [K, B], X,
     lambda x: convolved(x, K, (2, 3), "same") + B),
    (layer("Conv2D", filters=6, kernel_size=[3, 2], dilation_rate=[1, 2], groups=2, use_bias=False, padding="same"),
     [K[:, :, :2]], X, lambda x: convolved(x, K[:, :, :2], (1, 1), "same", (1, 2), 2)),
    (layer("Conv1D", filters=6, kernel_size=[3], strides=[2], padding="same"), [K1, B], Q,
     lambda x: convolved(x, K1, (2,), "same") + B),
    (layer("Conv1D", filters=6, kernel_size=[3], dilation_rate=[2], padding="causal"), [K1, B], Q,
     lambda x: convolved(x, K1, (1,), "causal", (2,)) + B),
    (layer("DepthwiseConv2D", kernel_size=[3, 2], strides=[2, 2], padding="same", depth_multiplier=3),
     [D, BD], X, lambda x: depthwise(x, D, (2, 2), "same") + BD),
    (layer("SeparableConv2D", filters=5, kernel_size=[2, 3], strides=[2, 2], padding="same", depth_multiplier=2,
           use_bias=False), [S1, S2], X, lambda x: depthwise(x, S1, (2, 2), "same") @ S2[0, 0]),
    (layer("SeparableConv1D", filters=5, kernel_size=[3], depth_multiplier=2, use_bias=False), [S1[0], S2[0]], Q,
     lambda x: depthwise(x, S1[0], (1,), "valid") @ S2[0, 0]),
    *((layer("Conv2DTranspose", filters=5, kernel_size=[3, 4], strides=list(strides), padding=padding, use_bias=False),
       [T], X, lambda x, strides=strides, padding=padding: transposed(x, T, strides, padding))
      for padding in ("valid", "same") for strides in ((1, 1), (2, 3), (3, 1), (4, 5))),
    (layer("Conv1DTranspose", filters=5, kernel_size=[4], strides=[3], padding="same"), [T[0], B[:5]], Q,
     lambda x: transposed(x, T[0], (3,), "same") + B[:5]),
    *((layer(f"{kind}Pooling2D", pool_size=list(size), strides=list(strides), padding=padding), [], X,
       lambda x, is_max=kind == "Max", a=size, b=strides, padding=padding: pooled(x, a, b, padding, is_max))
      for kind in ("Max", "Average") for padding in ("valid", "same")
      for size, strides in (((2, 3), (2, 2)), ((4, 2), (1, 3)))),
    (layer("MaxPooling1D", pool_size=[2]), [], Q, lambda x: pooled(x, (2,), (2,), "valid", True)),
    (layer("AveragePooling1D", pool_size=[4], strides=[1], padding="same"), [], Q,
     lambda x: pooled(x, (4,), (1,), "same", False)),
    (layer("GlobalMaxPooling2D"), [], X, lambda x: x.max((1, 2))),
    (layer("GlobalAveragePooling2D", keepdims=True), [], X, lambda x: x.mean((1, 2), keepdims=True)),
    (layer("GlobalAveragePooling1D"), [], Q, lambda x: x.mean(1)),
    (layer("GlobalMaxPooling1D", keepdims=True), [], Q, lambda x: x.max(1, keepdims=True)),
    (layer("BatchNormalization", axis=[3], epsilon=0.01), G, X,
     lambda x: (x - G[2]) / np.sqrt(G[3] + 0.01) * G[0] + G[1]),
    (layer("BatchNormalization", axis=-1, scale=False), G[1:], X, lambda x: (x - G[2]) / np.sqrt(G[3] + 1e-3) + G[1]),
    (layer("BatchNormalization", axis=-1, center=False), [G[0], *G[2:]], V[:, :4],
     lambda x: (x - G[2]) / np.sqrt(G[3] + 1e-3) * G[0]),
    (layer("LayerNormalization", axis=[-1], epsilon=0.01), G[:2], X, lambda x: normed(x, -1, 0.01) * G[0] + G[1]),
    (layer("LayerNormalization", axis=[1, 2], center=False), [numbers(7, 6)], X,
     lambda x: normed(x, (1, 2)) * numbers(7, 6)[..., None]),
    (layer("GroupNormalization", groups=2, axis=-1), G[:2], X, lambda x: grouped(x, 2) * G[0] + G[1]),
    (layer("UnitNormalization", axis=-1), [], X, lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)),
    (layer("RMSNormalization", axis=-1, epsilon=0.01), [G[0]], X,
     lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.01) * G[0]),
    (layer("Flatten"), [], X, lambda x: x.reshape(3, -1)),
    (layer("Flatten", data_format="channels_first"), [], X, lambda x: x.transpose(0, 2, 3, 1).reshape(3, -1)),
    (layer("Reshape", target_shape=[2, -1]), [], X, lambda x: x.reshape(3, 2, -1)),
    (layer("Permute", dims=[3, 1, 2]), [], X, lambda x: x.transpose(0, 3, 1, 2)),
    (layer("RepeatVector", n=3), [], V, lambda x: np.repeat(x[:, None], 3, 1)),
    (layer("Cropping1D", cropping=[2, 1]), [], Q, lambda x: x[:, 2:-1]),
    (layer("Cropping2D", cropping=[[1, 2], [0, 3]]), [], X, lambda x: x[:, 1:-2, :-3]),
    (layer("ZeroPadding1D", padding=2), [], Q, lambda x: np.pad(x, ((0, 0), (2, 2), (0, 0)))),
    (layer("ZeroPadding2D", padding=[[1, 2], [0, 3]]), [], X, lambda x: np.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)))),
    (layer("UpSampling1D", size=3), [], Q, lambda x: np.repeat(x, 3, 1)),
    (layer("UpSampling2D", size=[2, 3], interpolation="nearest"), [], X, lambda x: np.repeat(np.repeat(x, 2, 1), 3, 2)),
    (layer("UpSampling2D", size=[2, 3], interpolation="bilinear"), [], X, lambda x: bilinear(x.astype(float), (2, 3))),
    (layer("Rescaling", scale=0.5, offset=-1), [], X, lambda x: x * 0.5 - 1),
    (layer("Rescaling", scale=[1.0, 2, 3, 4], offset=0.0), [], X, lambda x: x * np.array([1.0, 2, 3, 4])),
    (layer("Normalization", axis=[-1]), [*G[2:], np.int64(7)], X, lambda x: (x - G[2]) / np.sqrt(G[3])),
    (layer("Normalization", axis=[-1], mean=[1, 2, 3, 4], variance=[4, 1, 1, 4]), [], X,
     lambda x: (x - [1, 2, 3, 4]) / [2, 1, 1, 2]),
    (layer("Normalization", axis=None, mean=1.0, variance=4.0, invert=True), [], X, lambda x: x * 2 + 1),
    (layer("ReLU", max_value=0.7, negative_slope=0.2, threshold=0.3), [], V,
     lambda x: np.where(x > 0.3, np.minimum(x, 0.7), 0.2 * (x - 0.3))),
    (layer("LeakyReLU", alpha=0.4), [], V, lambda x: np.where(x > 0, x, 0.4 * x)),
    (layer("LeakyReLU", alpha={"type": "ndarray", "value": 0.4}), [], V, lambda x: np.where(x > 0, x, 0.4 * x)),
    (layer("LeakyReLU", negative_slope=0.1), [], V, lambda x: np.where(x > 0, x, 0.1 * x)),
    (layer("PReLU", shared_axes=[2]), [ALPHA], X, lambda x: np.where(x > 0, x, ALPHA * x)),
    (layer("ELU", alpha=0.4), [], V, lambda x: np.where(x > 0, x, 0.4 * np.expm1(x))),
    (layer("ThresholdedReLU", theta=0.5), [], V, lambda x: np.where(x > 0.5, x, 0)),
    (layer("Softmax", axis=1), [], X, lambda x: softmax(x, 1)),
    (layer("Dense", units=6, activation={"class_name": "LeakyReLU", "config": {"alpha": 0.4}}), [K[0, 0], B], X,
     lambda x: np.where(x @ K[0, 0] + B > 0, 1, 0.4) * (x @ K[0, 0] + B)),
    (layer("Activation", activation={"class_name": "function", "config": "sigmoid", "registered_name": "sigmoid"}), [],
     V, sigmoid),
    *((layer(kind, **settings), [], X, lambda x: x) for kind, settings in (
        ("Dropout", {"rate": 0.5}), ("SpatialDropout2D", {"rate": 0.5}), ("GaussianNoise", {"stddev": 1.0}),
        ("AlphaDropout", {"rate": 0.5}), ("GaussianDropout", {"rate": 0.5}), ("ActivityRegularization", {"l1": 1.0}),
        ("Identity", {}))),
]  # fmt: skip

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "celu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "sigmoid": sigmoid,
    "log_sigmoid": lambda x: np.log(sigmoid(x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "tanh": np.tanh,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softmax": softmax,
    "log_softmax": lambda x: np.log(softmax(x)),
    "exponential": np.exp,
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x < 1, (x + 1) ** 2 / 4, x)),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
}


def loaded(tmp_path, config, arrays, **settings):
    """A network from both kinds of files, which agree."""
    nets = []
    for name, write in (("a.keras", keras_files.archive), ("a.h5", keras_files.legacy)):
        (tmp_path / name).write_bytes(write(config, arrays, **settings))
        nets.append(fn.interop.load_keras(tmp_path / name))
    state, other = (net.state_dict() for net in nets)
    assert state.keys() == other.keys() and all((state[name] == other[name]).all() for name in state)
    return nets[0]


def told(case):
    """A case's name: the layer, and the settings that it has."""
    values = [f"{k}={v}" for k, v in case[0]["config"].items() if k != "name"]
    return " ".join([case[0]["class_name"], *values]) if isinstance(case, tuple) else str(case)


@pytest.mark.parametrize("case", CASES, ids=told)
def test_a_layer_gives_what_it_says(case, tmp_path):
    config, arrays, x, twin = case
    dtype = "int32" if x.dtype.kind == "i" else "float32"
    net = loaded(tmp_path, sequential(x.shape[1:], config, dtype=dtype), {config["config"]["name"]: arrays})
    wanted, got = twin(x.astype(float) if x.dtype.kind == "f" else x), net(x)
    assert got.dtype == np.float32 and got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_gives_what_it_says(name, tmp_path):
    x = np.linspace(-5, 5, 44, dtype=np.float32).reshape(4, 11)
    net = loaded(tmp_path, sequential((11,), layer("Activation", activation=name)), {})
    np.testing.assert_allclose(net(x), ACTIVATIONS[name](x.astype(float)), rtol=1e-5, atol=2e-6)


def test_hard_sigmoid_of_keras_2_is_another_one(tmp_path):
    x = np.linspace(-5, 5, 44, dtype=np.float32).reshape(4, 11)
    net = loaded(tmp_path, sequential((11,), layer("Activation", activation="hard_sigmoid")), {}, version="2.4.0")
    np.testing.assert_allclose(net(x), np.clip(0.2 * x + 0.5, 0, 1), rtol=1e-6)


@pytest.mark.parametrize("case", [c for c in CASES if "2D" in c[0]["class_name"]], ids=told)
def test_channels_first_is_the_same_with_the_channels_there(case, tmp_path):
    config, arrays, x, _ = case
    name, settings = config["config"]["name"], {**config["config"], "data_format": "channels_first"}
    turned = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    y = loaded(tmp_path, sequential(x.shape[1:], config), {name: arrays})(x)
    z = loaded(tmp_path, sequential(turned.shape[1:], {**config, "config": settings}), {name: arrays})(turned)
    np.testing.assert_allclose(z, y.transpose(0, 3, 1, 2) if y.ndim == 4 else y, rtol=1e-5, atol=2e-6)


MERGES = {
    "Add": lambda a, b: a + b,
    "Subtract": lambda a, b: a - b,
    "Multiply": lambda a, b: a * b,
    "Average": lambda a, b: (a + b) / 2,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Concatenate": lambda a, b: np.concatenate([a, b], -1),
    "Dot": lambda a, b: np.einsum("nak,nbk->nab", a, b),
}


@pytest.mark.parametrize("kind", MERGES)
def test_a_merge_gives_what_it_says(kind, tmp_path):
    names = ("left", "right")
    layers = [layer("InputLayer", name, batch_shape=[None, 4, 3], dtype="float32") for name in names]
    layers.append(
        layer(kind, "merged", **({"axes": 2} if kind == "Dot" else {"axis": -1} if kind == "Concatenate" else {}))
    )
    nodes = [[], [], [[[name, 0, 0, {}] for name in names]]]
    listed = [
        {**each, "name": each["config"]["name"], "inbound_nodes": n} for each, n in zip(layers, nodes, strict=True)
    ]
    ends = {"input_layers": [[name, 0, 0] for name in names], "output_layers": [["merged", 0, 0]]}
    net = loaded(tmp_path, {"class_name": "Functional", "config": {"name": "net", "layers": listed, **ends}}, {})
    a, b = images(4, 3), images(4, 3)[::-1].copy()
    assert net.input_names == names
    np.testing.assert_allclose(net(a, b), MERGES[kind](a, b), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(net(right=b, left=a), net(a, b))


@pytest.mark.parametrize(
    ("kind", "settings", "mean", "deviation"),
    [
        ("Dropout", {"rate": 0.25}, 1.0, (1 / 3) ** 0.5),
        ("Dropout", {"rate": 0.25, "noise_shape": [None, 1, 1]}, 1.0, (1 / 3) ** 0.5),
        ("SpatialDropout1D", {"rate": 0.25}, 1.0, (1 / 3) ** 0.5),
        ("GaussianNoise", {"stddev": 0.5}, 1.0, 0.5),
        ("GaussianDropout", {"rate": 0.2}, 1.0, 0.5),
    ],
)
def test_noise_is_there_in_training_alone(kind, settings, mean, deviation, tmp_path):
    net = loaded(tmp_path, sequential((8, 50), layer(kind, **settings)), {})
    x = np.ones((200, 8, 50), np.float32)
    assert (net(x) == 1).all()
    fn.manual_seed(0)
    y = net.train()(x)
    assert y.mean() == pytest.approx(mean, abs=0.1) and y.std() == pytest.approx(deviation, abs=0.1)
    along = {"SpatialDropout1D": 1} if "noise_shape" not in settings else {"Dropout": (1, 2)}
    if kind in along:
        assert (np.ptp(y, along[kind]) == 0).all() and np.ptp(y, 0).all()


def test_alpha_dropout_keeps_mean_and_deviation(tmp_path):
    net = loaded(tmp_path, sequential((100,), layer("AlphaDropout", rate=0.3)), {}).train()
    x = np.random.default_rng(0).normal(0, 1, (2000, 100)).astype(np.float32)
    assert net(x).mean() == pytest.approx(0, abs=0.02) and net(x).std() == pytest.approx(1, abs=0.02)


def test_a_penalty_on_signals_is_that_of_the_library(tmp_path):
    net = loaded(tmp_path, sequential((4,), layer("ActivityRegularization", l1=0.1, l2=0.2)), {}).train()
    x = numbers(5, 4)
    net.forward_train(x)
    assert net.penalty == pytest.approx(float((0.1 * np.abs(x) + 0.2 * x * x).sum(1).mean()), rel=1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if c[1] and c[2].dtype.kind == "f"], ids=told)
def test_a_layer_trains_on(case, tmp_path):
    """Its parameters get gradients that make a loss smaller."""
    config, arrays, x, _ = case
    net = loaded(tmp_path, sequential(x.shape[1:], config), {config["config"]["name"]: arrays}).train()
    if not list(net.parameters()):
        return
    target = np.zeros_like(net(x))
    step = fn.TrainStep(net, fn.nn.MSELoss(), fn.optim.SGD(net.parameters(), lr=1e-3))
    losses = [step(x, target) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    assert all(p.grad is not None and np.abs(p.grad).max() > 0 for p in net.parameters())
