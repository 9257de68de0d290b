"""The files of other systems leave as ONNX, which ONNX Runtime runs with the same outputs."""

import os
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn

from interop_files import caffemodel, module, t7

pytest.importorskip("onnx")
pytest.importorskip("google.protobuf")
onnxruntime = pytest.importorskip("onnxruntime")

DATA = os.environ.get("FASTNN_DATA")
needs_files = pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "models").is_dir(), reason="FASTNN_DATA names no folder with models"
)
RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def leaves(model, path, *inputs):
    """ONNX Runtime computes of the file what the model does, for another batch; read back, weights are equal."""
    model.eval()
    fn.onnx.save(model, path, *(x[:2] for x in inputs))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {entry.name: x for entry, x in zip(session.get_inputs(), inputs, strict=True)})
    outputs = model(*inputs)
    for got, wanted in zip(found, outputs if isinstance(outputs, tuple) else (outputs,), strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * scale)
    state, again = model.state_dict(), fn.onnx.load(path).state_dict()
    assert all(np.array_equal(state[name], again[name]) for name, _ in model.named_parameters())


@needs_files
def test_the_real_lenet_of_caffe_leaves(tmp_path):
    folder = Path(DATA) / "models"
    model = fn.interop.load_caffe(folder / "lenet_train_test.prototxt", folder / "lenet_iter_10000.caffemodel")
    x = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-images-idx3-ubyte.gz")[:100, None] * np.float32(1 / 256)
    leaves(model, tmp_path / "lenet.onnx", x)


@needs_files
def test_the_real_network_of_torch7_leaves(tmp_path):
    x = fn.data.read_idx(Path(DATA) / "mnist" / "t10k-images-idx3-ubyte.gz")[:100].astype(np.float32)
    model = fn.interop.load_torch7(Path(DATA) / "models" / "mnist_mlp.t7")
    leaves(model, tmp_path / "mlp.onnx", (x - np.float32(33.318)) / np.float32(78.567))


@needs_files
@pytest.mark.parametrize("name", ["churn_keras.h5", "mnist_cnn.keras", "mnist_cnn_legacy.h5"])
def test_the_real_networks_of_keras_leave(tmp_path, name):
    pytest.importorskip("h5py")
    model = fn.interop.load_keras(Path(DATA) / "models" / name)
    leaves(model, tmp_path / "keras.onnx", np.abs(array(9, 12) if "churn" in name else array(9, 28, 28, 1)))


PROTOTXT = """
input: "a" input_shape { dim: 2 dim: 4 dim: 9 dim: 8 }
input: "b" input_shape { dim: 2 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "a" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 group: 2 pad: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "PReLU" bottom: "c" top: "c" }
layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "a" top: "s" eltwise_param { coeff: 1 coeff: -0.5 } }
layer { name: "lrn" type: "LRN" bottom: "s" top: "n" lrn_param { local_size: 3 alpha: 0.1 } }
layer { name: "pool" type: "Pooling" bottom: "n" top: "p" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "p" top: "u"
        convolution_param { num_output: 3 kernel_size: 2 stride: 2 } }
layer { name: "cut" type: "Slice" bottom: "u" top: "u1" top: "u2" slice_param { slice_point: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "u2" top: "f" inner_product_param { num_output: 6 } }
layer { name: "drop" type: "Dropout" bottom: "f" top: "f" }
layer { name: "both" type: "Concat" bottom: "f" bottom: "b" top: "both" }
layer { name: "prob" type: "Softmax" bottom: "both" top: "prob" }
layer { name: "mvn" type: "MVN" bottom: "u1" top: "mvn" }
"""


def test_a_network_of_caffe_s_with_two_inputs_leaves(tmp_path):
    (tmp_path / "net.prototxt").write_text(PROTOTXT)
    weights = {
        "conv": [array(4, 2, 3, 3), array(4)], "bn": [array(4), abs(array(4)), np.float32([2])],
        "scale": [array(4), array(4)], "relu": [array(4)], "up": [array(4, 3, 2, 2), array(3)],
        "fc": [array(6, 128) / 9, array(6)],
    }  # fmt: skip
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(weights))
    model = fn.interop.load_caffe(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    leaves(model, tmp_path / "net.onnx", array(5, 4, 9, 8), array(5, 6))


def test_a_network_of_torch7_s_leaves(tmp_path):
    conv = dict(nInputPlane=2, nOutputPlane=3, kW=3, kH=3, dW=1, dH=1, padW=1, padH=1)
    norm = dict(running_mean=array(3), running_var=abs(array(3)) + 1, weight=array(3), bias=array(3), eps=1e-5)
    branch = module("Sequential", modules=[module("Tanh"), module("Square")])
    net = module("Sequential", modules=[
        module("SpatialConvolution", **conv, weight=array(3, 2, 3, 3), bias=array(3)),
        module("SpatialBatchNormalization", **norm), module("LeakyReLU", negval=0.1),
        module("SpatialMaxPooling", kW=3, kH=3, dW=2, dH=2, padW=1, padH=1, ceil_mode=True),
        module("ConcatTable", modules=[module("Identity"), branch]),
        module("JoinTable", dimension=1, nInputDims=3),
        module("SpatialZeroPadding", pad_l=1, pad_r=0, pad_t=-1, pad_b=2),
        module("Mean", dimension=3), module("Mean", dimension=3), module("Linear", weight=array(4, 6), bias=array(4)),
        module("LogSoftMax")])  # fmt: skip
    (tmp_path / "net.t7").write_bytes(t7(net))
    leaves(fn.interop.load_torch7(tmp_path / "net.t7"), tmp_path / "net.onnx", array(5, 2, 9, 8))


def test_a_model_with_weights_of_lasagne_s_leaves(tmp_path):
    np.savez(tmp_path / "net.npz", array(3, 2, 3, 3), array(3), array(48, 5), array(5))
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))
    leaves(fn.interop.load_lasagne(tmp_path / "net.npz", model), tmp_path / "net.onnx", array(5, 2, 6, 6))
