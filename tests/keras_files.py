"""Files as Keras writes them, made without Keras: a config, and arrays by layer in Keras's layouts."""

import io
import json
import re
import zipfile

import numpy as np


def layer(kind, name=None, **config):
    """A layer's config."""
    return {"class_name": kind, "config": {"name": name or kind.lower(), **config}}


def sequential(shape, *layers, dtype="float32"):
    """A Sequential's config for inputs of a shape, without the batch."""
    start = layer("InputLayer", "start", batch_shape=[None, *shape], dtype=dtype)
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [start, *layers]}}


def snake_case(kind):
    """As paths of Keras 3 have a class's name."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()


def by_path(file, config, arrays, path=""):
    """Arrays as Keras 3 writes them: layers/dense_1/vars/0. `arrays` has a list for each layer's name."""
    used = {}
    for entry in config["config"]["layers"]:
        stem = snake_case(entry["class_name"])
        used[stem] = used.get(stem, -1) + 1
        here = f"{path}layers/{stem}" + (f"_{used[stem]}" if used[stem] else "")
        if "layers" in entry["config"]:
            by_path(file, entry, arrays, f"{here}/")
            continue
        group = file.create_group(f"{here}/vars")
        for i, array in enumerate(arrays.get(entry["config"]["name"], [])):
            group[str(i)] = array


def by_order(group, arrays, texts=str, **packing):
    """Arrays as Keras 2 writes them: named in attributes."""

    def listed(values):
        return [value if texts is str else value.encode() for value in values]

    group.attrs["layer_names"] = listed(arrays)
    for name, each in arrays.items():
        inner = group.create_group(name)
        names = [f"{name}/array{i}:0" for i in range(len(each))]
        inner.attrs["weight_names"] = listed(names)
        for place, array in zip(names, each, strict=True):
            inner.create_dataset(place, data=array, **(packing if array.ndim else {}))


def hdf5(write, **settings):
    """The bytes of an HDF5 file that a function fills."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w", **settings) as root:
        write(root)
    return file.getvalue()


def legacy(config, arrays, version="2.15.0", texts=str, **packing):
    """A whole model as HDF5."""

    def write(root):
        root.attrs["model_config"] = json.dumps(config)
        root.attrs["keras_version"] = version
        root.attrs["training_config"] = '{"loss": "mse"}'
        by_order(root.create_group("model_weights"), arrays, texts, **packing)

    return hdf5(write)


def archive(config, arrays, version="3.3.3", packed=False):
    """A whole model as .keras."""
    weights = hdf5(lambda root: by_path(root, config, arrays))
    return zipped(
        {
            "metadata.json": json.dumps({"keras_version": version}),
            "config.json": json.dumps(config),
            "model.weights.h5": weights,
        },
        packed,
    )


def zipped(members, packed=False):
    """An archive of members that are always of the same day."""
    file = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w") as target:
        for name, content in members.items():
            target.writestr(zipfile.ZipInfo(name), content, kind)
    return file.getvalue()


def ramp(*shape):
    """Numbers that differ."""
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def small():
    """A config with a dense layer, a norm and an activation, and arrays for it."""
    norm = layer("BatchNormalization", axis=[1])
    layers = (layer("Dense", units=4, activation="relu"), norm, layer("Dense", "last", units=2))
    arrays = {"dense": [ramp(3, 4), ramp(4)], norm["config"]["name"]: [ramp(4)] * 3 + [ramp(4) + 2]}
    return sequential((3,), *layers), {**arrays, "last": [ramp(4, 2), ramp(2)]}


def node(*names):
    """How Keras 3 writes a call with the outputs of layers."""
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in names]
    return {"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": {}}


def functional():
    """A model with two inputs and two outputs, and a model in it."""
    inner = sequential((4,), layer("Dense", "inside", units=4))
    inner["config"]["name"] = "model"
    shape = {"batch_shape": [None, 5, 5, 1], "dtype": "float32"}
    calls = [
        (layer("InputLayer", "a", **shape), []),
        (layer("InputLayer", "b", **shape), []),
        (layer("Add", "sum"), [node("a", "b")]),
        (layer("Conv2D", "conv", filters=4, kernel_size=[3, 2], strides=[2, 1], padding="same"), [node("sum")]),
        (layer("MaxPooling2D", "pool", pool_size=[2, 2]), [node("conv")]),
        (layer("GlobalAveragePooling2D", "mean"), [node("pool")]),
        (inner, [node("mean")]),
        (layer("Concatenate", "all"), [node("model", "mean")]),
    ]
    layers = [{**value, "name": value["config"]["name"], "inbound_nodes": nodes} for value, nodes in calls]
    ends = {"input_layers": [["a", 0, 0], ["b", 0, 0]], "output_layers": [["all", 0, 0], ["mean", 0, 0]]}
    config = {"class_name": "Functional", "config": {"name": "net", "layers": layers, **ends}}
    return config, {"conv": [ramp(3, 2, 1, 4), ramp(4)], "inside": [ramp(4, 4), ramp(4)]}


def archives():
    """Models as .keras."""
    return [archive(*small()), archive(*functional())]


def all_of_hdf5():
    """A model, and weights alone, in all the forms of HDF5 that are read."""
    config, arrays = small()

    def native(root):
        root.attrs["model_config"] = json.dumps(config)
        by_path(root, config, arrays)

    def older(root):
        native(root)
        root.move("layers", "_layer_checkpoint_dependencies")

    packing = {"chunks": True, "compression": "gzip", "shuffle": True}
    return [
        legacy(config, arrays),
        legacy(config, arrays, texts=bytes),
        legacy(config, arrays, **packing),
        hdf5(native),
        hdf5(older),
        hdf5(native, libver="latest", track_order=True),
        hdf5(lambda root: by_order(root, arrays)),
    ]


class Form:
    """For mutants: a .keras file taken apart into its JSON, and its arrays by their paths."""

    @staticmethod
    def parts(data):
        import h5py

        with zipfile.ZipFile(io.BytesIO(data)) as source:
            config, metadata = (json.loads(source.read(f"{name}.json")) for name in ("config", "metadata"))
            weights = io.BytesIO(source.read("model.weights.h5"))
        arrays = {}

        def take(path, item):
            if isinstance(item, h5py.Dataset):
                arrays[path] = {"dtype": item.dtype.str, "shape": list(item.shape), "data": item[()].tobytes()}

        with h5py.File(weights, "r") as root:
            root.visititems(take)
        return {"config": config, "metadata": metadata, "arrays": arrays}

    @staticmethod
    def whole(parts):
        def write(root):
            for path, array in parts["arrays"].items():
                root[path] = np.frombuffer(array["data"], array["dtype"]).reshape(array["shape"])

        members = {f"{name}.json": json.dumps(parts[name]) for name in ("metadata", "config")}
        return zipped({**members, "model.weights.h5": hdf5(write)})
