"""What cannot be read of a Keras file is refused in one sentence, and what a hostile one wants does not happen."""

import io
import json
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

import fastnn as fn
from fastnn.interop.hdf5 import Damage, Hdf5

import keras_files
from keras_files import layer, sequential

h5py = pytest.importorskip("h5py")


def refused(tmp_path, data, match, model=None):
    """A file is refused by one ValueError that names it, in little time and memory."""
    path = tmp_path / "a.keras"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        start = time.thread_time()
        with pytest.raises(ValueError, match=match) as caught:
            fn.interop.load_keras(path, model)
        seconds, peak = time.thread_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 1000 + len(str(path))
    assert seconds < 5 and peak < 2**24 + 40 * len(data)
    assert [each.name for each in tmp_path.iterdir()] == ["a.keras"]
    return text


def changed(part, **settings):
    """The small model with other settings of a layer, in both kinds of files."""
    config, arrays = keras_files.small()
    config["config"]["layers"][part]["config"].update(settings)
    return keras_files.archive(config, arrays)


def test_all_layers_that_are_not_read_are_named_in_one_message(tmp_path):
    layers = [
        layer("Lambda", "cut", function={"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}),
        layer("LSTM", "memory", units=3),
        layer("Dense", "good", units=3),
        {**layer("Mine", "own"), "module": "my.module", "registered_name": "Custom>Mine"},
        {**layer("Dense", "fake", units=3), "module": "my.module"},
        layer("Dense", "odd", units=3, activation="sparsemax"),
        layer("Dense", "code", units=3, activation={"class_name": "__lambda__", "config": {"value": "x"}}),
        layer("Dense", "small", units=3, dtype={"class_name": "QuantizedDTypePolicy", "config": {"name": "int8"}}),
        {**layer("Sum", "sum"), "module": "keras.src.ops.numpy"},
        {**layer("Average", "mean"), "module": "keras.src.ops.numpy"},
    ]
    text = refused(tmp_path, keras_files.archive(sequential((3,), *layers), {}), r"9 part\(s\) of the model")
    named = ["'cut' (Lambda)", "'memory' (LSTM)", "'own' (custom: Custom>Mine)", "'fake' (custom", "'odd'", "'code'"]
    for name in [*named, "'small' (Dense), which is quantized", "'sum' (a function", "'mean' (a function"]:
        assert name in text, text
    assert "good" not in text
    many = [layer("LSTM", f"memory_{i}", units=3) for i in range(100)]
    path = tmp_path / "b"
    path.write_bytes(keras_files.archive(sequential((3,), *many), {}))
    with pytest.raises(ValueError, match=r"'memory_0' .*'memory_50' .*'memory_99'"):
        fn.interop.load_keras(path)


def test_calls_that_are_not_read_are_named_with_the_layers_that_are_not(tmp_path):
    """A call that nobody can read hides no layer, and a layer no call."""
    scaled = layer("Multiply", "scaled"), [{"args": [{"class_name": "__keras_tensor__", "config": {}}, 0.5]}]
    added = layer("ReLU", "added"), [{"args": [*keras_files.node("x")["args"], 0.5]}]
    memory = layer("LSTM", "memory", units=3), [{"args": [3.5], "kwargs": {"initial_state": ["x", 0, 0]}}]
    masked = layer("Dense", "masked", units=3), [[["x", 0, 0, {"mask": ["x", 0, 0]}]]]
    op = layer("TFOpLambda", "tf.math.add"), [["x", 0, 0, {"y": 2.0, "name": None}]]
    config = functional(scaled, added, memory, masked, op, outputs=("memory",))
    text = refused(tmp_path, keras_files.archive(config, {}), r"5 part\(s\)")
    for name in (
        "'scaled' (Multiply)",
        "'added' (ReLU)",
        "'memory' (LSTM)",
        "'masked' (Dense)",
        "'tf.math.add' (TFOpLambda)",
    ):
        assert name in text


def test_a_mask_that_would_be_heeded_is_refused(tmp_path):
    def model(*layers):
        start = layer("Embedding", input_dim=4, output_dim=2, mask_zero=True)
        return keras_files.archive(
            sequential((5,), start, *layers, dtype="int32"), {"embedding": [np.ones((4, 2), "f4")]}
        )

    drop, mean = layer("Dropout", rate=0.1), layer("GlobalAveragePooling1D", "mean")
    refused(tmp_path, model(drop, mean), r"'mean' \(GlobalAveragePooling1D\) behind an Embedding with mask_zero")
    (tmp_path / "b").write_bytes(model(drop, layer("Cropping1D", cropping=1), mean))  # which hands no mask on
    assert fn.interop.load_keras(tmp_path / "b")(np.zeros((2, 5), np.int64)).shape == (2, 2)


@pytest.mark.parametrize(
    ("part", "settings", "match"),
    [
        (1, {"units": 5}, r"layer 'dense' \(Dense\): kernel has shape \(3, 4\); expected \(any, 5\)"),
        (1, {"units": -1}, r"'dense' \(Dense\): units must be an int of at least 1, got -1"),
        (1, {"units": "many"}, r"units must be an int"),
        (1, {"units": 2**70}, r"units must be an int"),
        (1, {"use_bias": False}, r"'dense' \(Dense\): 2 array\(s\) in the file; expected kernel"),
        (1, {"use_bias": 7}, r"use_bias must be true or false"),
        (2, {"axis": [1, 2]}, r"\(BatchNormalization\): axis must be one int"),
        (2, {"axis": 3}, r"layer 'batchnormalization': .*no axis 3"),
        (2, {"epsilon": "x"}, r"epsilon must be a number"),
        (2, {"momentum": float("nan")}, r"momentum must be a number"),
        (2, {"renorm": True}, r"renorm is not read"),
        (0, {"batch_shape": [None, 4]}, r"layer 'dense'.*"),
        (0, {"batch_shape": "x"}, r"'start' \(InputLayer\): an input's shape must be a list"),
        (0, {"batch_shape": [None, 0]}, r"an input's shape must be a list"),
        (0, {"sparse": True}, r"'start' \(InputLayer\), which is sparse"),
    ],
)
def test_settings_that_cannot_be_are_named_with_their_layer(part, settings, match, tmp_path):
    refused(tmp_path, changed(part, **settings), match)


def functional(*calls, inputs=("x",), outputs=("end",)):
    listed = [{**value, "name": value["config"]["name"], "inbound_nodes": nodes} for value, nodes in calls]
    listed.insert(0, {**layer("InputLayer", "x", batch_shape=[None, 3]), "name": "x", "inbound_nodes": []})
    ends = {"input_layers": [[n, 0, 0] for n in inputs], "output_layers": [[n, 0, 0] for n in outputs]}
    return {"class_name": "Functional", "config": {"name": "net", "layers": listed, **ends}}


A, B, END = layer("ReLU", "a"), layer("ReLU", "b"), layer("Add", "end")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (functional((A, [[["b", 0, 0]]]), (B, [[["a", 0, 0]]]), (END, [[["a", 0, 0], ["x", 0, 0]]])),
         "depend on themselves, or on what is no input: a, b, end"),
        (functional((END, [[["end", 0, 0], ["x", 0, 0]]])), "depend on themselves"),
        (functional((END, [[["end", 1, 0]], [["x", 0, 0]]])), None),
        (functional((END, [[["who", 0, 0]]])), "no layer 'who'"),
        (functional((END, [[["x", 3, 0]]])), "'x' has no call number 3"),
        (functional((END, [[["x", -1, 0]]])), "must be a layer's output"),
        (functional((END, [[["x", 0, 5]]])), "output 5 of a layer that has 1"),
        (functional((END, [[["x", 0, 0, {"mask": [1]}]]])), "called with settings that are not read: mask"),
        (functional((A, [[["x", 0, 0], ["x", 0, 0]]]), outputs=("a",)), "takes one input, and is called with 2"),
        (functional((A, [[["x", 0, 0]]]), (A, [[["x", 0, 0]]]), outputs=("a",)), "two layers .* the name 'a'"),
        (functional((A, [[["x", 0, 0]]]), inputs=("a",), outputs=("a",)), "its input 'a' is no InputLayer"),
        (functional((A, []), outputs=("a",)), "'a' has no call number 0"),
        (functional((A, "x"), outputs=("a",)), "inbound_nodes are no list"),
        (functional((A, [{"args": [3.5]}]), outputs=("a",)), "called with what is not read: 3.5"),
        ({"class_name": "Sequential", "config": {"name": "net", "layers": []}}, "it has no layers"),
        ({"class_name": "Dense", "config": {"units": 3}}, "no model's"),
        ({"class_name": "Subclassed", "config": {}}, r"'' \(Subclassed\)"),
        ({"class_name": "Sequential", "config": 3}, "is no table"),
        ([1, 2], "no table with a class_name"),
    ],
)  # fmt: skip
def test_graphs_that_cannot_be_are_refused(config, match, tmp_path):
    data = keras_files.zipped(
        {
            "config.json": json.dumps(config),
            "model.weights.h5": keras_files.hdf5(lambda root: root.create_group("layers")),
        }
    )
    if match is not None:
        refused(tmp_path, data, match)
        return
    (tmp_path / "a").write_bytes(data)
    net = fn.interop.load_keras(tmp_path / "a")
    np.testing.assert_array_equal(net(np.ones((2, 3), np.float32)), np.ones((2, 3)))


def test_models_in_models_are_bounded_in_depth_and_in_calls(tmp_path):
    def wrapped(depth, calls):
        config = layer("ReLU", "inner")
        for i in range(depth):
            nodes = [[["x", 0, 0]], *([[f"m{i}", k, 0]] for k in range(calls - 1))]
            named = {**config, "config": {**config["config"], "name": f"m{i}"}}
            config = functional((named, nodes), outputs=(f"m{i}",))
            config["config"]["output_layers"] = [[f"m{i}", calls - 1, 0]]
        return keras_files.archive(config, {})

    refused(tmp_path, wrapped(40, 1), "nested deeper than 16")
    refused(tmp_path, wrapped(15, 2), "calls more than 10000 layers")
    (tmp_path / "b").write_bytes(wrapped(10, 2))
    assert fn.interop.load_keras(tmp_path / "b")(np.ones((1, 3), np.float32)).shape == (1, 3)


def test_json_that_is_too_deep_or_too_large_is_refused(tmp_path):
    def model(text):
        return keras_files.zipped({"config.json": text, "model.weights.h5": keras_files.hdf5(lambda root: None)})

    refused(tmp_path, model("[" * 100_000 + "]" * 100_000), "nested too deeply|no JSON")
    refused(tmp_path, model("[" + "[]," * (1 << 19) + "[]]"), "larger than any")
    refused(tmp_path, model('{"class_name": '), "no JSON")
    refused(tmp_path, model(b"\xff\xfe"), "decode")


# ---- archives ---------------------------------------------------------------------------------------


def test_archives_that_would_grow_are_refused_before_they_do(tmp_path):
    config, _ = keras_files.small()
    bomb = {"config.json": json.dumps(config), "model.weights.h5": bytes(2**26)}
    text = refused(
        tmp_path, keras_files.zipped(bomb, packed=True), r"model\.weights\.h5 would unpack from \d+ bytes to"
    )
    assert str(2**26) in text
    refused(
        tmp_path, keras_files.zipped({**bomb, "config.json": " " * 2**26}, packed=True), r"config\.json would unpack"
    )


def test_an_archive_that_lies_of_its_sizes_or_lacks_a_part_is_refused(tmp_path):
    config, arrays = keras_files.small()
    data = keras_files.archive(config, arrays, packed=True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = archive.getinfo("config.json").file_size
    refused(tmp_path, data.replace(size.to_bytes(4, "little"), (size - 9).to_bytes(4, "little")), "damaged")
    refused(tmp_path, keras_files.zipped({"config.json": "{}"}), r"lacks config\.json or model\.weights\.h5")
    refused(tmp_path, data[: len(data) // 2], "damaged")
    flagged = bytearray(data)
    at = flagged.rfind(b"PK\1\2", 0, flagged.rfind(b"PK\1\2"))  # config.json's entry, whose flags follow
    flagged[at + 8] |= 1
    refused(tmp_path, bytes(flagged), "encrypted|damaged")


def test_paths_in_an_archive_lead_nowhere(tmp_path):
    config, arrays = keras_files.small()
    with zipfile.ZipFile(io.BytesIO(keras_files.archive(config, arrays))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    evil = {"../outside": b"x", "/tmp/outside": b"x", **members, "assets/../../outside": b"x"}
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.keras").write_bytes(keras_files.zipped(evil))
    fn.interop.load_keras(folder / "a.keras")
    assert [each.name for each in tmp_path.iterdir()] == ["in"]
    moved = {f"../{name}": content for name, content in members.items()}
    with pytest.raises(ValueError, match="lacks"):
        (folder / "a.keras").write_bytes(keras_files.zipped(moved))
        fn.interop.load_keras(folder / "a.keras")


# ---- HDF5 -------------------------------------------------------------------------------------------


def with_kernel(make):
    """The small model as HDF5 whose first kernel is what a function makes of its group."""
    config, arrays = keras_files.small()

    def write(root):
        root.attrs["model_config"] = json.dumps(config)
        group = root.create_group("model_weights")
        keras_files.by_order(group, arrays)
        del group["dense/dense/array0:0"]
        make(group["dense/dense"], "array0:0")

    return keras_files.hdf5(write)


def outside(group, name):
    group[name] = h5py.ExternalLink("other.h5", "/kernel")


def soft(group, name):
    group[name] = h5py.SoftLink("/model_weights/last/last/array0:0")


def elsewhere(group, name):
    group.create_dataset(name, (3, 4), "f4", external=[("other.bin", 0, 48)])


def virtual(group, name):
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "kernel", (3, 4))
    group.create_virtual_dataset(name, layout)


def huge(group, name):
    group.create_dataset(name, (2**20, 2**20), "f4", chunks=(64, 64), compression="gzip")


def never_written(group, name):
    group.create_dataset(name, (2**15, 4), "f4")


def zeros(group, name):
    group.create_dataset(
        name, (2**12, 2**12), "f4", data=np.zeros((2**12, 2**12), "f4"), compression="gzip", chunks=True
    )


def a_group(group, name):
    group.create_group(name)


def texts(group, name):
    group[name] = ["a", "b"]


def pairs(group, name):
    group[name] = np.zeros((3, 4), [("a", "f4"), ("b", "f4")])


def other_shape(group, name):
    group[name] = np.zeros((4, 3), "f4")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (outside, "is a link, which is not followed"), (soft, "is a link, which is not followed"),
        (elsewhere, "in another file"), (virtual, "laid out in a way that is not read"), (huge, "has the shape"),
        (never_written, "has .* bytes in the file|has the shape"), (zeros, "has the shape"),
        (a_group, "there is no array"), (texts, "no array of numbers"), (pairs, "no array of numbers"),
        (other_shape, r"'dense' \(Dense\): kernel has shape \(4, 3\); expected \(any, 4\)"),
    ],
)  # fmt: skip
def test_arrays_that_are_elsewhere_or_larger_than_the_file_are_refused(make, match, tmp_path):
    refused(tmp_path, with_kernel(make), match)


def test_arrays_that_are_the_same_bytes_do_not_add_up_to_more_than_the_file(tmp_path):
    arrays = [f"d{i}" for i in range(200)]
    config = sequential((64,), *(layer("Dense", name, units=64, use_bias=False) for name in arrays))

    def write(root):
        root.attrs["model_config"] = json.dumps(config)
        kept = root.create_dataset("kept", data=np.ones((64, 64), "f4"))
        for i in range(len(arrays)):
            root.create_group("layers/dense" + (f"_{i}" if i else "") + "/vars")["0"] = kept

    refused(tmp_path, keras_files.hdf5(write), "more bytes than it has")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_is_refused(cut, tmp_path):
    for data in keras_files.all_of_hdf5():
        refused(tmp_path, data[: int(cut * len(data))], "a.keras is no Keras file")


def test_weights_alone_want_a_model_and_other_weights_leave_it_as_it_is(tmp_path):
    config, arrays = keras_files.small()
    weights = keras_files.hdf5(lambda root: keras_files.by_order(root, arrays))
    refused(tmp_path, weights, r"weights alone: .*load_keras\(path, model\)")
    (tmp_path / "a.keras").write_bytes(keras_files.archive(config, arrays))
    net = fn.interop.load_keras(tmp_path / "a.keras")
    before = net.state_dict()
    (tmp_path / "a.keras").unlink()
    del arrays["last"]
    less = keras_files.hdf5(lambda root: keras_files.by_order(root, arrays))
    refused(tmp_path, less, r"2 layer\(s\) have weights in it; 3", net)
    refused(tmp_path, keras_files.hdf5(lambda root: root.create_group("other")), "no weights of Keras", net)
    assert all((value == before[name]).all() for name, value in net.state_dict().items())
    with pytest.raises(TypeError, match="model must be"):
        fn.interop.load_keras(tmp_path / "a.keras", 3)


def test_a_text_that_says_to_be_of_gigabytes_takes_none(tmp_path):
    """HDF5's own library takes them."""
    config, arrays = keras_files.small()
    data = bytearray(keras_files.legacy(config, arrays))
    heap = data.find(b"GCOL").to_bytes(8, "little")
    at = data.find(len("dense").to_bytes(4, "little") + heap)
    data[at : at + 4] = b"\xff\xff\xff\xff"
    refused(tmp_path, bytes(data), "a text is not in its heap")


def test_a_heap_that_goes_in_circles_ends(tmp_path):
    """HDF5's own library does not end."""
    config, arrays = keras_files.small()
    data = bytearray(keras_files.legacy(config, arrays))
    at = data.find(b"GCOL") + 16
    data[at : at + 16] = bytes(16)
    refused(tmp_path, bytes(data), "a text is not in its heap")


def test_headers_and_trees_that_go_in_circles_end():
    data = bytearray(keras_files.legacy(*keras_files.small()))
    tree = int.from_bytes(data[80:88], "little")
    inner = bytes(data)
    data[tree + 5] = 1  # a node of the lowest level says to be one above
    data[tree + 32 : tree + 40] = tree.to_bytes(8, "little")
    with pytest.raises(Damage, match="tree at byte"):
        Hdf5(bytes(data)).names("")
    assert Hdf5(inner).names("") == ["model_weights"]
    root = int.from_bytes(inner[64:72], "little")
    loop = bytearray(inner)
    at = root + 16
    loop[at : at + 24] = (
        (16).to_bytes(2, "little")
        + (16).to_bytes(2, "little")
        + bytes(4)
        + at.to_bytes(8, "little")
        + (24).to_bytes(8, "little")
    )
    with pytest.raises(Damage, match="goes in circles"):
        Hdf5(bytes(loop)).names("")


# ---- HDF5 beside h5py -------------------------------------------------------------------------------


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i4", ">i8", "u1"])
def test_arrays_are_those_of_h5py(dtype, libver):
    value = np.arange(3 * 5 * 7).reshape(3, 5, 7).astype(dtype)

    def write(root):
        root["plain"], root["scalar"] = value, value[0, 0, 1]
        root.create_dataset("compact", data=value[0])
        if libver == "earliest":
            root.create_dataset("cut", data=value, chunks=(2, 2, 4))
            root.create_dataset("packed", data=value, chunks=(2, 5, 3), compression="gzip", shuffle=True)
            root.create_dataset("many", data=np.tile(value, (9, 9, 9)), chunks=(1, 3, 4), compression="gzip")

    file = Hdf5(keras_files.hdf5(write, libver=libver))
    names = ["compact", "plain", "scalar", *(["cut", "many", "packed"] if libver == "earliest" else [])]
    assert sorted(file.names("")) == sorted(names)
    wanted = {"scalar": value[0, 0, 1], "compact": value[0], "many": np.tile(value, (9, 9, 9))}
    for name in names:
        got = file.array(f"/{name}").read()
        np.testing.assert_array_equal(got, wanted.get(name, value))
        assert got.dtype == value.dtype.newbyteorder("=") and got.flags.writeable


def test_large_groups_and_long_texts_are_those_of_h5py():
    names = [f"layer_{i}" for i in range(1500)]

    def write(root):
        root.attrs["long"], root.attrs["fixed"] = "é" * 40_000, [name.encode() for name in names[:300]]
        root.attrs["texts"], root.attrs["empty"] = names[:300], np.zeros(0)
        for name in names:
            root.create_group(f"deep/{name}/inner")

    file = Hdf5(keras_files.hdf5(write))
    assert sorted(file.names("deep")) == sorted(names) and file.names("deep/layer_7") == ["inner"]
    assert file.text("", "long") == "é" * 40_000
    assert file.texts("", "texts") == file.texts("", "fixed") == names[:300]
    assert file.texts("", "empty") == [] and file.texts("", "none") is None and file.names("nowhere") == []


def test_bfloat16_is_widened_whichever_type_it_has():
    value = np.float32([[1.5, -2.0, 3.25], [0.0, 1e30, -1e-30]])
    upper = (value.view(np.uint32) >> 16).astype(np.uint16)
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)

    def write(root):
        root["opaque"] = upper.view("V2")
        space = h5py.h5s.create_simple(value.shape)
        dataset = h5py.h5d.create(root.id, b"float", kind, space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, upper, mtype=kind)

    file = Hdf5(keras_files.hdf5(write))
    for name in ("opaque", "float"):
        got = file.array(name).read()
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, (upper.astype(np.uint32) << 16).view(np.float32))


def test_headers_in_several_pieces_are_read():
    names = [f"attribute_{i}" for i in range(7)]  # of more, HDF5's newer form keeps attributes elsewhere

    def write(root):
        group = root.create_group("group", track_order=True)
        for name in names:
            group.attrs[name] = name * 100
        for name in names:
            group.create_group(name)

    for libver in ("earliest", "latest"):
        file = Hdf5(keras_files.hdf5(write, libver=libver))
        assert [file.text("group", name) for name in names] == [name * 100 for name in names]
        assert file.names("group") == names
