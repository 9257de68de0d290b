"""Models that Keras has saved: files of other people, and files that are written here."""

import copy
import json
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

import keras_files
from keras_files import layer

pytest.importorskip("h5py")

DATA = os.environ.get("FASTNN_DATA")


def real(name):
    """A file that another system's users have made."""
    path = Path(DATA or "", "models", name)
    if not DATA or not path.is_file():
        pytest.skip(f"FASTNN_DATA names no folder with models/{name}")
    return path


def digits():
    images, labels = fn.data.mnist("test", Path(DATA, "mnist"))
    return images.reshape(-1, 28, 28, 1), labels


@pytest.mark.parametrize(("name", "right"), [("mnist_cnn.keras", 9909), ("mnist_cnn_legacy.h5", 9867)])
def test_real_networks_know_as_many_digits_as_in_keras(name, right):
    net = fn.interop.load_keras(real(name))
    images, labels = digits()
    guesses = np.concatenate([net(images[at : at + 500]) for at in range(0, len(images), 500)]).argmax(1)
    assert (guesses == labels).sum() == right


def test_a_real_file_agrees_with_its_conversion_in_onnx_runtime():
    runtime = pytest.importorskip("onnxruntime")
    net = fn.interop.load_keras(real("churn_keras.h5"))
    x = np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32)
    session = runtime.InferenceSession(str(real("churn_tf2onnx_opset13.onnx")))
    wanted = session.run(None, {session.get_inputs()[0].name: x})[0]
    np.testing.assert_allclose(net(x), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["mnist_cnn.keras", "mnist_cnn_legacy.h5"])
def test_real_networks_train_on(name):
    net = fn.interop.load_keras(real(name)).train()
    images, labels = digits()
    target = np.roll(labels[:64], 1)  # which it does not know yet
    loss = nn.NLLLoss()
    step = fn.TrainStep(net, lambda y, t: loss((y + 1e-7).log(), t), optim.Adam(net.parameters(), lr=1e-4))
    losses = [step(images[:64], target) for _ in range(20)]
    assert all(b < a for a, b in pairwise(losses)), losses


def test_a_real_probability_trains_on():
    net = fn.interop.load_keras(real("churn_keras.h5")).train()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 12)).astype(np.float32), rng.integers(0, 2, (64, 1)).astype(np.float32)
    step = fn.TrainStep(net, nn.BCELoss(), optim.Adam(net.parameters(), lr=1e-4))
    losses = [step(x, y) for _ in range(20)]
    assert all(b < a for a, b in pairwise(losses)), losses


# ---- files that are written here --------------------------------------------------------------------


def written(path, data):
    path.write_bytes(data)
    return path


def listed(calls):
    """Layers with how Keras 2 writes what they are called with."""
    return [{**value, "name": value["config"]["name"], "inbound_nodes": nodes} for value, nodes in calls]


def old(calls, inputs, outputs):
    """A functional model as Keras 2 writes it."""
    ends = {"input_layers": [[name, 0, 0] for name in inputs], "output_layers": outputs}
    return {"class_name": "Functional", "config": {"name": "net", "layers": listed(calls), **ends}}


def an_input(name, *shape):
    return layer("InputLayer", name, batch_input_shape=[None, *shape], dtype="float32"), []


def dense(x, arrays):
    return x @ arrays[0] + arrays[1]


X = np.random.default_rng(0).normal(0, 1, (5, 3)).astype(np.float32)


@pytest.mark.parametrize("data", range(7))
def test_all_forms_of_hdf5_hold_the_same(data, tmp_path):
    config, arrays = keras_files.small()
    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.archive(config, arrays)))
    wanted = net(X)
    for parameter in net.parameters():
        parameter.data = np.zeros(parameter.shape)
    file = written(tmp_path / "b", keras_files.all_of_hdf5()[data])
    assert fn.interop.load_keras(file, net) is net
    np.testing.assert_array_equal(net(X), wanted)


def test_a_file_is_told_by_its_contents(tmp_path):
    config, arrays = keras_files.small()
    for name in ("a.keras", "a.h5", "a", "a.onnx"):
        for data in (keras_files.archive(config, arrays), keras_files.legacy(config, arrays)):
            assert fn.interop.load_keras(written(tmp_path / name, data))(X).shape == (5, 2)
    with pytest.raises(ValueError, match=r"a\.keras is no Keras file .*neither a zip archive nor an HDF5 file"):
        fn.interop.load_keras(written(tmp_path / "a.keras", b"text"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fn.interop.load_keras(tmp_path / "nowhere")


def test_parameters_have_the_layers_names_and_the_library_s_layouts(tmp_path):
    config, arrays = keras_files.functional()
    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.archive(config, arrays)))
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    inside = {"model.inside.weight": (4, 4), "model.inside.bias": (4,)}
    assert shapes == {"conv.weight": (4, 1, 3, 2), "conv.bias": (4,), **inside}
    np.testing.assert_array_equal(net.conv.weight.data, arrays["conv"][0].transpose(3, 2, 0, 1))
    assert net.input_names == ("a", "b") and not net.training
    a = np.random.default_rng(0).normal(0, 1, (2, 5, 5, 1)).astype(np.float32)
    both, mean = net(b=a, a=a)
    assert both.shape == (2, 8) and mean.shape == (2, 4)


def test_names_that_modules_cannot_have_are_changed(tmp_path):
    names = ("block.1/conv", "training", "forward", "state_dict", "_modules", "layer")
    layers = [layer("Dense", name, units=3) for name in names]
    arrays = {name: [keras_files.ramp(3, 3), keras_files.ramp(3)] for name in names}
    data = keras_files.archive(keras_files.sequential((3,), *layers), arrays)
    net = fn.interop.load_keras(written(tmp_path / "a", data))
    wanted = X
    for _ in names:
        wanted = dense(wanted, arrays["layer"])
    np.testing.assert_allclose(net(X), wanted, rtol=1e-5)
    assert {name.split(".")[0] for name in net.state_dict()} == {
        "block_1_conv", "training_", "forward_", "state_dict_", "_modules_", "layer",
    }  # fmt: skip


def test_a_sequential_of_old_files_has_its_shape_in_the_first_layer(tmp_path):
    arrays = {"first": [keras_files.ramp(3, 4), keras_files.ramp(4)]}
    first = layer("Dense", "first", units=4, batch_input_shape=[None, 3])
    for config in ([first], {"name": "net", "layers": [first]}):
        data = keras_files.legacy({"class_name": "Sequential", "config": config}, arrays, version="2.1.3")
        net = fn.interop.load_keras(written(tmp_path / "a", data))
        np.testing.assert_allclose(net(X), dense(X, arrays["first"]), rtol=1e-5)
        with pytest.raises(ValueError, match=r"shape \(5, 2\); expected \(N, 3\)"):
            net(X[:, :2])


def nested(frozen=()):
    """A model of Keras 2 that calls a model twice, one of which calls is its second; and its arrays in that order."""
    rng = np.random.default_rng(3)

    def array(*shape):
        return rng.normal(0, 1, shape).astype(np.float32)

    norm = [array(3), array(3), array(3), np.abs(array(3)) + 1]
    inner = {"one": [array(3, 3), array(3)], "norm": norm, "two": [array(3, 3), array(3)]}
    parts = [
        layer("Dense", "one", units=3), layer("BatchNormalization", "norm", axis=[1]), layer("Dense", "two", units=3),
    ]  # fmt: skip
    for part in parts:
        part["config"]["trainable"] = part["config"]["name"] not in frozen
    base = keras_files.sequential((3,), *parts)
    base["config"]["name"] = "base"
    calls = [
        an_input("a", 3),
        (base, [[["a", 0, 0, {"training": False}]], [["base", 1, 0, {}]]]),
        (layer("Add", "sum"), [[["base", 1, 0, {}], ["base", 2, 0, {}]]]),
    ]
    trained = [value for name in inner if name not in frozen for value in inner[name][:2]]
    others = [v for name in inner for v in (inner[name] if name in frozen else inner[name][2:])]
    return old(calls, ["a"], [["sum", 0, 0]]), inner, {"base": [*trained, *others]}


@pytest.mark.parametrize("frozen", [(), ("one",), ("norm", "two")])
def test_a_model_in_a_model_of_keras_2_has_its_arrays_in_the_order_of_training(frozen, tmp_path):
    config, inner, arrays = nested(frozen)
    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.legacy(config, arrays)))

    def base(x):
        x = dense(x.astype(float), inner["one"])
        gamma, beta, mean, variance = inner["norm"]
        return dense((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, inner["two"])

    np.testing.assert_allclose(net(X), base(X) + base(base(X)), rtol=1e-4, atol=1e-5)
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {f"base.{n}.{p}" for n in inner if n not in frozen for p in ("weight", "bias")}


def test_a_call_that_is_never_one_of_training_stays_so_in_keras_2(tmp_path):
    arrays = {"norm": [np.float32([1, 2, 3])] * 3 + [np.float32([1, 2, 3])]}
    norm = layer("BatchNormalization", "norm", axis=[1])
    for mode, same in ((False, True), (None, False), (True, False)):
        config = old([an_input("a", 3), (norm, [[["a", 0, 0, {"training": mode}]]])], ["a"], [["norm", 0, 0]])
        net = fn.interop.load_keras(written(tmp_path / "a", keras_files.legacy(config, arrays)))
        before, evaluated = net.norm.running_mean.data.copy(), net(X)
        assert np.allclose(evaluated, (X - before) / np.sqrt(arrays["norm"][3] + 1e-3) * before + before) == (not mode)
        net.train()
        assert np.allclose(net(X), evaluated) == (same or bool(mode))


def test_a_layer_of_two_models_is_one(tmp_path):
    one = {**layer("Dense", "one", units=3), "shared_object_id": 7}
    inner = keras_files.sequential((3,), one)
    inner["config"]["name"] = "inner"
    calls = [an_input("a", 3), (one, [keras_files.node("a")]), (inner, [keras_files.node("one")])]
    config = old(calls, ["a"], [["inner", 0, 0]])
    arrays = [keras_files.ramp(3, 3), keras_files.ramp(3)]

    data = keras_files.legacy(config, {"one": arrays, "inner": arrays})
    net = fn.interop.load_keras(written(tmp_path / "a", data))
    assert net.one is net.inner.one and len(list(net.parameters())) == 2
    np.testing.assert_allclose(net(X), dense(dense(X, arrays), arrays), rtol=1e-5)


def test_a_frozen_norm_does_not_move(tmp_path):
    config, arrays = keras_files.small()
    config["config"]["layers"][2]["config"]["trainable"] = False
    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.archive(config, arrays)))
    evaluated = net(X)
    np.testing.assert_array_equal(net.train()(X), evaluated)


def test_names_of_layers_may_be_in_several_attributes(tmp_path):
    config, arrays = keras_files.small()

    def write(root):
        root.attrs["model_config"] = json.dumps(config)
        group = root.create_group("model_weights")
        keras_files.by_order(group, arrays)
        names = group.attrs["layer_names"]
        del group.attrs["layer_names"]
        group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:1], names[1:]

    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.hdf5(write)))
    assert net(X).shape == (5, 2)


def test_float64_stays_and_halves_become_float32(tmp_path):
    for policy, stored, dtype in (("float64", "f8", "f8"), ("mixed_float16", "f4", "f4"), ("float16", "f2", "f4")):
        kind = {"class_name": "DTypePolicy", "config": {"name": policy}}
        config = keras_files.sequential((3,), layer("Dense", units=2, dtype=kind))
        arrays = {"dense": [keras_files.ramp(3, 2).astype(stored), keras_files.ramp(2).astype(stored)]}
        net = fn.interop.load_keras(written(tmp_path / "a", keras_files.archive(config, arrays)))
        assert {p.dtype for p in net.parameters()} == {np.dtype(dtype)}
        np.testing.assert_allclose(net(X.astype(dtype)), dense(X, arrays["dense"]), rtol=1e-3)


def test_what_a_model_was_compiled_with_is_kept_as_text(tmp_path):
    config, arrays = keras_files.small()
    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.legacy(config, arrays)))
    assert json.loads(net.compile_config) == {"loss": "mse"} and json.loads(net.keras_config) == config
    config["compile_config"] = {"optimizer": "adam"}
    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.archive(config, arrays)))
    assert json.loads(net.compile_config) == {"optimizer": "adam"}


def test_a_network_can_be_copied_and_saved(tmp_path):
    config, arrays = keras_files.functional()
    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.archive(config, arrays)))
    x = np.random.default_rng(0).normal(0, 1, (2, 5, 5, 1)).astype(np.float32)
    other = copy.deepcopy(net)
    for parameter in other.parameters():
        parameter.data = np.zeros(parameter.shape)
    net.save(tmp_path / "b")
    other.load(tmp_path / "b")
    for one, two in zip(net(x, x), other(x, x), strict=True):
        np.testing.assert_array_equal(one, two)
    assert "conv" in repr(net) and "Conv2D" in repr(net) and "GlobalAveragePooling2D" in repr(net)


def test_keras_files_are_read_without_h5py(tmp_path, monkeypatch):
    data = [keras_files.archive(*keras_files.small()), keras_files.legacy(*keras_files.small())]
    monkeypatch.setitem(sys.modules, "h5py", None)
    for each in data:
        assert fn.interop.load_keras(written(tmp_path / "a", each))(X).shape == (5, 2)


def test_loading_draws_no_random_numbers(tmp_path):
    state = fn.get_rng_state()
    fn.interop.load_keras(written(tmp_path / "a", keras_files.archive(*keras_files.small())))
    assert fn.get_rng_state() == state


# ---- weights for modules of one's own ---------------------------------------------------------------


class Images(nn.Module):
    """A network over images (N, C, H, W)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3)
        self.deep = nn.Conv2d(6, 12, 2, groups=6, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.first, self.second = nn.Linear(12 * 2 * 3, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.norm(self.deep(self.conv(x).relu()))
        return self.second(self.first(x.flatten(1)).relu())


IMAGES = [
    layer("Conv2D", "conv", filters=6, kernel_size=[3, 3], activation="relu"),
    layer("DepthwiseConv2D", "deep", kernel_size=[2, 2], depth_multiplier=2, use_bias=False),
    layer("BatchNormalization", "norm", axis=[3], epsilon=1e-5),
    layer("Flatten", "flat"), layer("Dense", "first", units=5, activation="relu"), layer("Dense", "second", units=2),
]  # fmt: skip


def of_images(names):
    rng = np.random.default_rng(4)
    shapes = [[(3, 3, 2, 6), (6,)], [(2, 2, 6, 2)], [(12,)] * 4, [], [(72, 5), (5,)], [(5, 2), (2,)]]
    values = [[np.abs(rng.normal(0, 1, shape)).astype(np.float32) for shape in each] for each in shapes]
    config = keras_files.sequential((5, 6, 2), *json.loads(json.dumps(IMAGES)))
    for value, name in zip(config["config"]["layers"][1:], names, strict=True):
        value["config"]["name"] = name
    return config, dict(zip(names, values, strict=True))


@pytest.mark.parametrize("names", [["conv", "deep", "norm", "flat", "first", "second"], ["f", "e", "d", "c", "b", "a"]])
@pytest.mark.parametrize("form", ["archive", "legacy", "paths", "order"])
def test_weights_go_into_a_module_of_one_s_own(form, names, tmp_path):
    config, arrays = of_images(names)
    net = fn.interop.load_keras(written(tmp_path / "a", keras_files.archive(config, arrays)))
    if form in ("archive", "legacy"):
        data = getattr(keras_files, form)(config, arrays)
    elif form == "paths":
        data = keras_files.hdf5(lambda root: keras_files.by_path(root, config, arrays))
    else:
        data = keras_files.hdf5(lambda root: keras_files.by_order(root, arrays))
    own = Images()
    assert fn.interop.load_keras(written(tmp_path / "b", data), own) is own
    x = np.random.default_rng(0).normal(0, 1, (3, 5, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(own.eval()(x.transpose(0, 3, 1, 2).copy()), net(x), rtol=1e-5, atol=1e-5)


def test_weights_that_do_not_fit_a_module_of_one_s_own_leave_it_as_it_was(tmp_path):
    config, arrays = of_images("abcdef")
    path = written(tmp_path / "a", keras_files.archive(config, arrays))
    for model, match in (
        (nn.Sequential(nn.Linear(3, 2)), r"5 layer\(s\) have weights in it; 1"),
        (nn.Sequential(*(nn.Linear(3, 2) for _ in range(5))), r"no weights for '2' \(Linear\)"),
        (nn.Sequential(nn.Linear(3, 2), nn.PReLU()), "has as 1.weight"),
    ):
        before = model.state_dict()
        with pytest.raises(ValueError, match=match):
            fn.interop.load_keras(path, model)
        assert all((value == before[name]).all() for name, value in model.state_dict().items())
    model = Images()
    model.second = nn.Linear(5, 3)
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"'second' \(Linear\) from layer 'dense_1': weight has shape \(2, 5\)"):
        fn.interop.load_keras(path, model)
    assert all((value == before[name]).all() for name, value in model.state_dict().items())
