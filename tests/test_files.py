"""Safetensors files that others wrote: their dtypes."""

import json

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn
from fastnn.files import load_arrays

VALUES = np.array([[1.0, -2.5, 3e38], [np.inf, -0.0, 1e-40]], np.float32)


def bfloat16(values):
    """The upper half of each float32, as bytes."""
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


def write(path, **tensors):
    """A file of tensors given as (dtype, shape, bytes)."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_bfloat16_is_widened_to_the_same_numbers(tmp_path):
    scalar = ("BF16", [], bfloat16(7.0))
    path = write(
        tmp_path / "m.st", first=("F64", [1], np.ones(1).tobytes()), a=("BF16", [2, 3], bfloat16(VALUES)), scalar=scalar
    )
    arrays, metadata = load_arrays(path)
    assert metadata == {"format": "pt"}
    assert arrays["a"].dtype == arrays["scalar"].dtype == np.float32
    expected = (VALUES.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert arrays["a"].tobytes() == expected.tobytes()
    assert (arrays["scalar"].shape, float(arrays["scalar"])) == ((), 7.0)
    assert arrays["first"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_a_model_loads_half_precision(tmp_path, dtype):
    weight, bias = np.array([[0.5, -2.0], [3.0, 0.25]], np.float32), np.array([1.0, 2.0], np.float32)
    pack = bfloat16 if dtype == "BF16" else lambda values: values.astype("<f2").tobytes()
    path = write(tmp_path / "m.st", weight=(dtype, [2, 2], pack(weight)), bias=(dtype, [2], pack(bias)))
    model = nn.Linear(2, 2).load(path)
    assert model.weight.dtype == np.float32
    np.testing.assert_array_equal(model.weight.data, weight)
    np.testing.assert_array_equal(model.bias.data, bias)
    other = nn.Linear(2, 2).double()
    other.load_state_dict(load_arrays(path)[0])
    np.testing.assert_array_equal(other.weight.data, weight)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F9_NEW"])
def test_a_dtype_that_cannot_be_read_is_named_with_its_tensor_and_file(tmp_path, dtype):
    path = write(tmp_path / "m.st", bias=("F32", [1], b"\0" * 4), weight=(dtype, [4], b"\0" * 4))
    with pytest.raises(ValueError, match=rf"m\.st: tensor 'weight' has dtype {dtype}, which fastnn does not read"):
        load_arrays(path)


def test_a_file_of_bfloat16_that_is_cut_is_not_intact(tmp_path):
    path = write(tmp_path / "m.st", a=("BF16", [2, 3], bfloat16(VALUES)))
    for size in range(len(path.read_bytes())):
        cut = tmp_path / "cut.st"
        cut.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ValueError, match=r"cut\.st is no intact safetensors file"):
            load_arrays(cut)


def test_half_precision_as_an_argument_is_refused_by_name_with_what_to_do():
    x, half = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float16)
    model = nn.Linear(3, 3)
    step = fn.TrainStep(model, nn.MSELoss(), fn.optim.SGD(model.parameters()))
    trainer = fn.Trainer(model, nn.MSELoss(), fn.optim.SGD(model.parameters()), [])
    cases = [
        ("input", lambda: model(half)),
        ("input", lambda: nn.MSELoss()(half, x)),
        ("target", lambda: nn.MSELoss()(x, half)),
        ("target", lambda: nn.MSELoss().value_and_grad(x, half)),
        ("input", lambda: nn.functional.relu(half)),
        ("target", lambda: step(x, half)),
        (r"data\[0\]", lambda: trainer.fit((half, x))),
        (r"data\[1\]", lambda: trainer.evaluate((x, half))),
        ("x", lambda: trainer.predict(half)),
    ]
    for name, call in cases:
        with pytest.raises(TypeError, match=rf"^{name} has dtype float16; .*convert it with \.astype\(np\.float32\)"):
            call()


def test_bfloat16_as_an_argument_is_refused_by_name():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(TypeError, match=r"^input has dtype bfloat16; .*convert it with \.astype\(np\.float32\)"):
        nn.Linear(3, 3)(np.zeros((2, 3), ml_dtypes.bfloat16))


def test_a_tensor_that_numpy_cannot_read_is_named():
    class Tensor:
        dtype = "torch.bfloat16"

        def __dlpack__(self, **_):
            raise BufferError("unsupported dtype")

        def __dlpack_device__(self):
            return (1, 0)

    with pytest.raises(TypeError, match=r"^input of dtype torch\.bfloat16 cannot be read as an array: unsupported"):
        nn.Linear(3, 3)(Tensor())
