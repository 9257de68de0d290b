"""Models that Keras has saved: files of other people, and files that are written here."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

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
