"""Caffe's networks: what is read predicts what Caffe would, and trains on."""

import os
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

pytest.importorskip("google.protobuf")

from fastnn.interop.caffe.proto import net_parameter  # after protobuf is known to be there

DATA = os.environ.get("FASTNN_DATA")
needs_files = pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "models").is_dir(), reason="FASTNN_DATA names no folder with models"
)


def arrays(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


class Files:
    """Writes a prototxt and a caffemodel, and loads them."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, text, weights=None):
        path = self.folder / "net.prototxt"
        path.write_text(text)
        if weights is None:
            return fn.interop.load_caffe(path)
        return fn.interop.load_caffe(path, self.caffemodel(weights))

    def caffemodel(self, weights, old=False):
        net = net_parameter()()
        for name, blobs in weights.items():
            layer = (net.layers if old else net.layer).add(name=name)
            for array in blobs:
                blob = layer.blobs.add()
                array = np.asarray(array)
                if old:
                    sizes = (1,) * (4 - array.ndim) + array.shape
                    blob.num, blob.channels, blob.height, blob.width = sizes
                else:
                    blob.shape.dim.extend(array.shape)
                (blob.double_data if array.dtype == np.float64 else blob.data).append(array.tobytes())
        path = self.folder / "net.caffemodel"
        path.write_bytes(net.SerializeToString())
        return path


@pytest.fixture
def load(tmp_path):
    return Files(tmp_path)


def declared(*shapes):
    """Inputs of these shapes, a, b, ..."""
    names = "abcdef"[: len(shapes)]
    dims = [" ".join(f"dim: {size}" for size in shape) for shape in shapes]
    return "".join(f'input: "{name}" ' for name in names) + "".join(f"input_shape {{ {dim} }} " for dim in dims)


def layer(kind, settings="", bottoms="a", tops="y", name="l"):
    reads = " ".join(f'bottom: "{b}"' for b in bottoms)
    makes = " ".join(f'top: "{t}"' for t in tops)
    return f'layer {{ name: "{name}" type: "{kind}" {reads} {makes} {settings} }}\n'


# ---- a real one -------------------------------------------------------------------------------------


@needs_files
def test_lenet_has_the_accuracy_that_other_readers_found():
    folder = Path(DATA) / "models"
    model = fn.interop.load_caffe(folder / "lenet_train_test.prototxt", folder / "lenet_iter_10000.caffemodel")
    assert list(model.state_dict()) == [
        f"{name}.{part}" for name in ("conv1", "conv2", "ip1", "ip2") for part in ("weight", "bias")
    ]
    labels = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-labels-idx1-ubyte.gz")
    x = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-images-idx3-ubyte.gz")[:, None] * np.float32(1 / 256)
    predicted = np.concatenate([model(x[i : i + 500]) for i in range(0, len(x), 500)]).argmax(1)
    assert np.sum(predicted == labels) == 9905


@needs_files
def test_lenet_trains_on():
    folder = Path(DATA) / "models"
    model = fn.interop.load_caffe(folder / "lenet_train_test.prototxt", folder / "lenet_iter_10000.caffemodel")
    x = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-images-idx3-ubyte.gz")[:64, None] * np.float32(1 / 256)
    y = (fn.data.read_idx(Path(DATA) / "mnist" / "t10k-labels-idx1-ubyte.gz")[:64].astype(np.int64) + 1) % 10
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.01))
    losses = [step(x, y) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0] and np.all(np.diff(losses[:10]) < 0)
