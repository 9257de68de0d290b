"""What Keras saves is read as Keras computes it, where Keras is installed with a backend."""

import importlib.util
import os

import numpy as np
import pytest

import fastnn as fn

pytest.importorskip("h5py")
# Not with PyTorch beneath, which pads transposed convolutions in another way and gives tensors that need a gradient.
backend = next((name for name in ("jax", "tensorflow") if importlib.util.find_spec(name)), None)
if backend is None:
    pytest.skip("Keras needs JAX or TensorFlow here", allow_module_level=True)
os.environ["KERAS_BACKEND"] = backend
keras = pytest.importorskip("keras")

L = keras.layers
IMAGE, SEQUENCE, FLAT = (7, 6, 4), (9, 4), (5,)


def functions():
    """All activations that Keras knows by a word and that are read."""
    known = (
        "elu relu relu6 leaky_relu selu celu gelu silu mish sigmoid log_sigmoid hard_sigmoid hard_silu tanh hard_tanh"
    )
    known += " tanh_shrink hard_shrink soft_shrink softplus softsign softmax log_softmax exponential squareplus"
    known += " sparse_plus sparse_sigmoid linear swish"
    return {f"activation {name}": ((lambda name=name: L.Activation(name)), FLAT) for name in known.split()}


CASES = {
    "dense": (lambda: L.Dense(3, activation="relu"), FLAT),
    "dense of images": (lambda: L.Dense(3, use_bias=False, activation="gelu"), IMAGE),
    "dense with a layer": (lambda: L.Dense(3, activation=L.LeakyReLU(0.4)), FLAT),
    "embedding": (lambda: L.Embedding(11, 3), "labels"),
    "flatten": (lambda: L.Flatten(), IMAGE),
    "flatten channels first": (lambda: L.Flatten(data_format="channels_first"), IMAGE),
    "reshape": (lambda: L.Reshape((2, -1, 7)), IMAGE),
    "permute": (lambda: L.Permute((3, 1, 2)), IMAGE),
    "repeat vector": (lambda: L.RepeatVector(3), FLAT),
    "rescaling": (lambda: L.Rescaling(1 / 127.5, -1), IMAGE),
    "rescaling of channels": (lambda: L.Rescaling([1.0, 2.0, 3.0, 4.0], offset=[0.5, 0.0, 1.0, 2.0]), IMAGE),
    "normalization": (lambda: L.Normalization(), FLAT),
    "normalization of axes": (lambda: L.Normalization(axis=(1, 3)), IMAGE),
    "normalization of all": (lambda: L.Normalization(axis=None), FLAT),
    "normalization given": (lambda: L.Normalization(mean=[1.0, 2, 3, 4, 5], variance=[1.0, 2, 3, 4, 0]), FLAT),
    "normalization given once": (lambda: L.Normalization(mean=1.0, variance=4.0), IMAGE),
    "normalization inverted": (lambda: L.Normalization(invert=True), FLAT),
    "conv1d": (lambda: L.Conv1D(5, 3, activation="tanh"), SEQUENCE),
    "conv1d same": (lambda: L.Conv1D(6, 4, strides=2, padding="same", groups=2), SEQUENCE),
    "conv1d causal": (lambda: L.Conv1D(5, 3, padding="causal", dilation_rate=2), SEQUENCE),
    "conv2d": (lambda: L.Conv2D(5, (3, 2), activation="softmax"), IMAGE),
    "conv2d same": (lambda: L.Conv2D(5, (4, 3), strides=(2, 3), padding="same", use_bias=False), IMAGE),
    "conv2d same even": (lambda: L.Conv2D(6, 2, padding="same", groups=2), IMAGE),
    "conv2d dilated": (lambda: L.Conv2D(5, (2, 3), dilation_rate=(3, 2), padding="same"), IMAGE),
    "depthwise 1d": (lambda: L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), SEQUENCE),
    "depthwise 2d": (lambda: L.DepthwiseConv2D(3, depth_multiplier=3, strides=2, padding="same"), IMAGE),
    "separable 1d": (lambda: L.SeparableConv1D(5, 3, depth_multiplier=2, activation="relu"), SEQUENCE),
    "separable 2d": (lambda: L.SeparableConv2D(5, (2, 3), strides=2, padding="same", depth_multiplier=2), IMAGE),
    "upsampling 1d": (lambda: L.UpSampling1D(3), SEQUENCE),
    "upsampling 2d": (lambda: L.UpSampling2D((2, 3)), IMAGE),
    "upsampling bilinear": (lambda: L.UpSampling2D((2, 3), interpolation="bilinear"), IMAGE),
    "zero padding 1d": (lambda: L.ZeroPadding1D((2, 1)), SEQUENCE),
    "zero padding 2d": (lambda: L.ZeroPadding2D(((1, 2), (0, 3))), IMAGE),
    "zero padding 2d even": (lambda: L.ZeroPadding2D((2, 1)), IMAGE),
    "cropping 1d": (lambda: L.Cropping1D((2, 1)), SEQUENCE),
    "cropping 2d": (lambda: L.Cropping2D(((1, 2), (0, 3))), IMAGE),
    "batch norm": (lambda: L.BatchNormalization(), IMAGE),
    "batch norm axis": (lambda: L.BatchNormalization(axis=1, scale=False, epsilon=0.1), IMAGE),
    "batch norm of vectors": (lambda: L.BatchNormalization(center=False), FLAT),
    "batch norm bare": (lambda: L.BatchNormalization(center=False, scale=False), SEQUENCE),
    "layer norm": (lambda: L.LayerNormalization(), IMAGE),
    "layer norm axes": (lambda: L.LayerNormalization(axis=(1, 3), center=False), IMAGE),
    "layer norm offset": (lambda: L.LayerNormalization(axis=2, scale=False), IMAGE),
    "group norm": (lambda: L.GroupNormalization(2), IMAGE),
    "group norm axis": (lambda: L.GroupNormalization(3, axis=2, scale=False), IMAGE),
    "instance norm": (lambda: L.GroupNormalization(-1), IMAGE),
    "unit norm": (lambda: L.UnitNormalization(), IMAGE),
    "unit norm axes": (lambda: L.UnitNormalization(axis=[1, 2]), IMAGE),
    "relu limited": (lambda: L.ReLU(max_value=0.7, negative_slope=0.2, threshold=0.3), FLAT),
    "relu threshold": (lambda: L.ReLU(threshold=0.3), FLAT),
    "relu six": (lambda: L.ReLU(max_value=0.5), FLAT),
    "relu slope": (lambda: L.ReLU(negative_slope=0.5), FLAT),
    "leaky relu": (lambda: L.LeakyReLU(), FLAT),
    "elu": (lambda: L.ELU(0.4), FLAT),
    "prelu": (lambda: L.PReLU(), IMAGE),
    "prelu shared": (lambda: L.PReLU(shared_axes=[1, 2]), IMAGE),
    "softmax": (lambda: L.Softmax(axis=1), IMAGE),
    "dropout": (lambda: L.Dropout(0.5), FLAT),
    "spatial dropout": (lambda: L.SpatialDropout2D(0.5), IMAGE),
    "alpha dropout": (lambda: L.AlphaDropout(0.5), FLAT),
    "gaussian noise": (lambda: L.GaussianNoise(0.5), FLAT),
    "gaussian dropout": (lambda: L.GaussianDropout(0.5), FLAT),
    "activity": (lambda: L.ActivityRegularization(l1=0.1), FLAT),
    "identity": (lambda: L.Identity(), FLAT),
    **{
        f"{kind} pooling {rank}d {padding} {size} {strides}": (
            lambda kind=kind, rank=rank, padding=padding, size=size, strides=strides: getattr(
                L, f"{kind}Pooling{rank}D"
            )(size, strides, padding),
            SEQUENCE if rank == 1 else IMAGE,
        )
        for kind in ("Max", "Average")
        for rank in (1, 2)
        for padding in ("valid", "same")
        for size, strides in ((2, None), (3, 2), (4, 1), (2, 3))
    },
    **{
        f"global {kind} {rank}d {keep}": (
            lambda kind=kind, rank=rank, keep=keep: getattr(L, f"Global{kind}Pooling{rank}D")(keepdims=keep),
            SEQUENCE if rank == 1 else IMAGE,
        )
        for kind in ("Max", "Average")
        for rank in (1, 2)
        for keep in (False, True)
    },
    **functions(),
}

TRANSPOSED = {
    f"transposed {rank}d {padding} {size} {strides} {more} {dilation}": (
        lambda rank=rank, padding=padding, size=size, strides=strides, more=more, dilation=dilation: getattr(
            L, f"Conv{rank}DTranspose"
        )(3, size, strides, padding, output_padding=more, dilation_rate=dilation, activation="relu"),
        SEQUENCE if rank == 1 else IMAGE,
    )
    for rank in (1, 2)
    for padding in ("valid", "same")
    for size, strides, more, dilation in (
        (3, 1, None, 1), (3, 2, None, 1), (4, 2, None, 1), (2, 3, None, 1), (5, 3, None, 1), (3, 1, None, 2),
        (3, 2, 1, 1), (4, 2, 0, 1), (4, 3, 2, 1),
    )
}  # fmt: skip


def filled(model, seed=0):
    """A model with numbers in all of its arrays: those of Keras's beginning hide what is mixed up."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        value = rng.uniform(0.5, 1.5, variable.shape) if "var" in variable.path else rng.normal(0, 0.5, variable.shape)
        variable.assign(value.astype(variable.dtype))
    for layer in model._flatten_layers():
        if isinstance(layer, L.Normalization) and layer.built:
            layer.finalize_state()
    return model


def sample(shape, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 11, (3, 6)) if shape == "labels" else rng.normal(0, 1, (3, *shape)).astype(np.float32)


def both(model, path, *inputs, rtol=1e-5):
    """Keras's outputs and fastnn's of the same file."""
    model.save(path)
    net = fn.interop.load_keras(path)
    wanted = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
    single = not isinstance(wanted, (list, tuple, dict))
    got = net(*inputs)
    single = single or len(wanted) == 1
    wanted = dict(wanted if isinstance(wanted, dict) else enumerate([wanted] if single else wanted))
    got = got if isinstance(got, dict) else dict(enumerate([got] if single else got))
    assert list(got) == list(wanted)
    for key, value in wanted.items():
        close(got[key], value, rtol)
    return net


def close(got, wanted, rtol=1e-5):
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype or keras.backend.backend() == "jax"  # which has no float64
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("case", [*CASES, *TRANSPOSED])
def test_a_layer_gives_what_it_gives_in_keras(case, ending, tmp_path):
    make, shape = {**CASES, **TRANSPOSED}[case]
    if case in TRANSPOSED and keras.backend.backend() == "torch":
        pytest.skip("PyTorch's paddings of transposed convolutions are others")
    x = sample(shape)
    dtype = "int32" if shape == "labels" else None
    model = filled(keras.Sequential([keras.Input(x.shape[1:], dtype=dtype), make()]))
    both(model, tmp_path / f"a.{ending}", x)


# ---- whole models -----------------------------------------------------------------------------------


def merged():
    """Every way to merge, with inputs of several numbers of dimensions."""
    a, b, c = keras.Input((4, 3), name="left"), keras.Input((4, 3), name="right"), keras.Input((3,), name="flat")
    kinds = (L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum)
    outputs = [kind()([a, b, a]) for kind in kinds] + [L.Subtract()([a, b]), L.Concatenate()([a, b])]
    outputs += [L.Concatenate(axis=1)([a, b]), L.Add()([a, c])]
    outputs += [L.Dot(axes)([a, b]) for axes in (1, 2, -1, (1, 1))] + [L.Dot(-1, normalize=True)([a, c])]
    outputs += [L.Dot((1, 1))([c, c])]
    return keras.Model([a, b, c], outputs)


def residual():
    """A small residual network with everything that such networks have."""
    x = keras.Input((9, 9, 3))
    y = L.ZeroPadding2D(1)(L.Rescaling(0.5)(x))
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, strides=2, use_bias=False)(y)))
    shortcut = L.Conv2D(6, 1)(y)
    y = L.Activation("swish")(L.SeparableConv2D(6, 3, padding="same")(y))
    y = L.Add()([y, shortcut])
    y = L.Multiply()([y, L.Dense(6, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(y))])
    return keras.Model(x, L.Dense(2, "softmax")(L.Dropout(0.3)(L.Flatten()(y))))


def unet():
    x = keras.Input((8, 8, 2))
    down = L.Conv2D(3, 3, padding="same", activation="relu")(x)
    y = L.MaxPooling2D()(down)
    y = L.Conv2DTranspose(4, 3, strides=2, padding="same")(y)
    return keras.Model(x, L.Conv2D(1, 1)(L.Concatenate()([y, L.UpSampling2D()(L.AveragePooling2D(2)(down))])))


def nested():
    """Models in models, one of them called twice and with two outputs."""
    inner = keras.Input((5,))
    base = keras.Model(inner, [L.Dense(4, "tanh")(inner), L.BatchNormalization()(L.Dense(4)(inner))], name="base")
    head = keras.Sequential([keras.Input((4,)), L.Dense(3, "relu"), L.BatchNormalization()], name="head")
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    (one, two), (three, _) = base(a), base(b)
    return keras.Model([a, b], [head(L.Add()([one, two])), head(three)])


def shared():
    """One layer called again and again."""
    x = keras.Input((5,))
    dense, norm = L.Dense(5), L.BatchNormalization()
    return keras.Model(x, norm(dense(dense(norm(dense(x))))))


def frozen():
    """A base that is not trained: the order of its arrays in HDF5 is another."""
    base = keras.Sequential([keras.Input((5,)), L.Dense(4), L.BatchNormalization(), L.Dense(4)], name="base")
    base.layers[0].trainable = False
    x = keras.Input((5,))
    other = keras.Sequential([keras.Input((4,)), L.Dense(4), L.BatchNormalization()])
    other.trainable = False
    return keras.Model(x, other(base(x, training=False)))


def tables():
    """Inputs and outputs by name."""
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    return keras.Model({"b": b, "a": a}, {"sum": L.Add()([a, b]), "less": L.Subtract()([a, b])})


def channels_first():
    x = keras.Input((3, 9, 8))
    y = L.Conv2D(4, 3, strides=2, padding="same", data_format="channels_first", activation="relu")(x)
    y = L.BatchNormalization(axis=1)(y)
    y = L.MaxPooling2D(data_format="channels_first")(y)
    y = L.ZeroPadding2D(1, data_format="channels_first")(L.UpSampling2D(data_format="channels_first")(y))
    y = L.Cropping2D(1, data_format="channels_first")(L.SpatialDropout2D(0.1, data_format="channels_first")(y))
    y = L.DepthwiseConv2D(2, data_format="channels_first")(y)
    y = L.Conv2DTranspose(2, 3, strides=2, data_format="channels_first")(y)
    return keras.Model(
        x, [L.GlobalMaxPooling2D(data_format="channels_first")(y), L.Flatten(data_format="channels_first")(y)]
    )


def words():
    x = keras.Input((6,), dtype="int32")
    y = L.SpatialDropout1D(0.2)(L.Embedding(11, 4)(x))
    y = L.MaxPooling1D(2)(L.Conv1D(5, 3, activation="relu", padding="same")(y))
    return keras.Model(x, L.Dense(1, "sigmoid")(L.GlobalMaxPooling1D()(y)))


def double():
    return keras.Sequential([keras.Input((5,), dtype="float64"), L.Dense(3, "relu", dtype="float64")])


def unsized():
    """Images of any size."""
    x = keras.Input((None, None, 3))
    return keras.Model(x, L.GlobalAveragePooling2D()(L.Conv2D(4, 3, strides=2, padding="same")(x)))


def operators():
    """What Keras makes layers of by itself."""
    x, y = keras.Input((5,)), keras.Input((5,))
    z = (x + L.Dense(5)(y)) * y - keras.ops.maximum(x, y)
    return keras.Model([x, y], 1.5 - (z + 3) * (1 / 6) + keras.ops.minimum(0.25, x))


MODELS = [
    merged,
    operators,
    residual,
    unet,
    nested,
    shared,
    frozen,
    tables,
    channels_first,
    words,
    double,
    unsized,
]


def inputs_of(model):
    rng = np.random.default_rng(2)
    result = []
    for x in model.inputs:
        shape = (3, *(size or 7 for size in x.shape[1:]))
        ints = x.dtype.startswith("int")
        result.append(rng.integers(0, 11, shape) if ints else rng.normal(0, 1, shape).astype(x.dtype))
    return result


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_model_gives_what_it_gives_in_keras(make, ending, tmp_path):
    model = filled(make())
    inputs = inputs_of(model)
    if make is tables:
        model.save(tmp_path / f"a.{ending}")
        net = fn.interop.load_keras(tmp_path / f"a.{ending}")
        named = dict(zip(("a", "b"), inputs, strict=True))
        wanted, got = model(named, training=False), net(**named)
        assert list(got) == ["sum", "less"] and net.input_names == ("a", "b")
        for key in wanted:
            close(got[key], wanted[key])
        return
    both(model, tmp_path / f"a.{ending}", *inputs)


@pytest.mark.parametrize("make", [residual, nested, frozen, shared], ids=lambda make: make.__name__)
@pytest.mark.parametrize("ending", ["weights.h5", "keras", "h5"])
def test_weights_go_into_a_model_that_is_there(make, ending, tmp_path):
    model = filled(make())
    inputs = inputs_of(model)
    net = both(model, tmp_path / "a.keras", *inputs)
    filled(model, seed=5)
    path = tmp_path / f"b.{ending}"
    (model.save_weights if ending.startswith("weights") else model.save)(path)
    before = [id(p) for p in net.parameters()]
    assert fn.interop.load_keras(path, net) is net and [id(p) for p in net.parameters()] == before
    wanted, got = model(inputs if len(inputs) > 1 else inputs[0], training=False), net(*inputs)
    for one, other in zip(
        *([each] if not isinstance(each, (list, tuple)) else each for each in (got, wanted)), strict=True
    ):
        close(one, other)


def test_a_model_whose_weights_are_for_another_one_stays_as_it_was(tmp_path):
    net = both(filled(residual()), tmp_path / "a.keras", *inputs_of(residual()))
    before = net.state_dict()
    filled(unet()).save_weights(tmp_path / "b.weights.h5")
    with pytest.raises(ValueError, match=r"b\.weights\.h5 .*(conv2d|separable).*array"):
        fn.interop.load_keras(tmp_path / "b.weights.h5", net)
    assert all((value == before[name]).all() for name, value in net.state_dict().items())


def test_training_is_that_of_keras(tmp_path):
    """A step of gradient descent, with batch norm that is trained, is frozen, and was called as if it were."""
    x = keras.Input((5,))
    y = L.BatchNormalization(name="moves")(L.Dense(6, "relu", name="first")(x))
    norm = L.BatchNormalization(name="moves_too")
    y = norm(y, training=False)
    stiff = L.BatchNormalization(name="stiff")
    stiff.trainable = False
    model = filled(keras.Model(x, L.Dense(2)(stiff(y))))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.save(tmp_path / "a.keras")
    net = fn.interop.load_keras(tmp_path / "a.keras").train()
    assert "mse" in net.compile_config and "SGD" in net.compile_config
    rng = np.random.default_rng(0)
    data, target = rng.normal(0, 1, (8, 5)).astype(np.float32), rng.normal(0, 1, (8, 2)).astype(np.float32)
    step = fn.TrainStep(net, fn.nn.MSELoss(), fn.optim.SGD(net.parameters(), lr=0.1))
    assert step(data, target) == pytest.approx(float(np.asarray(model.train_on_batch(data, target))), rel=1e-5)
    model.save(tmp_path / "b.keras")
    after = fn.interop.load_keras(tmp_path / "b.keras").state_dict()
    for name, value in net.state_dict().items():
        if not name.endswith("running_var") or "stiff" in name:  # whose rule is PyTorch's
            np.testing.assert_allclose(value, after[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert not net.stiff.weight.requires_grad and net.first.weight.requires_grad


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16", "float16"])
def test_halves_are_read_as_float32(policy, ending, tmp_path):
    model = filled(keras.Sequential([keras.Input((5,)), L.Dense(3, dtype=policy), L.Dense(2, dtype=policy)]))
    path, x = tmp_path / f"a.{ending}", sample(FLAT)
    model.save(path)
    net = fn.interop.load_keras(path)
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float32)}
    kernels = [np.asarray(v.value).astype(np.float32) for v in model.weights if v.name == "kernel"]
    for parameter, kernel in zip([p for p in net.parameters() if p.ndim == 2], kernels, strict=True):
        np.testing.assert_array_equal(parameter.data, kernel.T)
    np.testing.assert_allclose(net(x), np.asarray(model(x)).astype(np.float32), atol=0.05)


@pytest.mark.parametrize("named", [True, False])
def test_weights_go_into_a_module_of_one_s_own(named, tmp_path):
    names = ("0", "3", "5") if named else (None, None, None)
    images = [keras.Input((6, 5, 3)), L.Conv2D(4, 3, activation="relu", name=names[0]), L.MaxPooling2D(2), L.Flatten()]
    model = filled(keras.Sequential([*images, L.Dense(6, "relu", name=names[1]), L.Dense(2, name=names[2])]))
    model.save_weights(tmp_path / "a.weights.h5")
    nn = fn.nn
    own = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(),
        nn.Linear(6, 2),
    )  # fmt: skip
    x = sample((6, 5, 3))
    fn.interop.load_keras(tmp_path / "a.weights.h5", own)
    close(own(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), model(x))
