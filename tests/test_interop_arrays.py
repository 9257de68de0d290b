"""Weights of Theano (Lasagne), Mocha.jl and PyTorch into models that are there."""

import subprocess
import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# ---- Lasagne ----------------------------------------------------------------------------------------


def convolved(x, w):
    """A true convolution, as Theano computes it: filters turned by 180 degrees."""
    (n, _, height, width), (out, _, kh, kw) = x.shape, w.shape
    y = np.zeros((n, out, height - kh + 1, width - kw + 1))
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            y[:, :, i, j] = np.einsum("nchw,ochw->no", x[:, :, i : i + kh, j : j + kw], w[:, :, ::-1, ::-1])
    return y


def network():
    fn.manual_seed(1)
    head = [nn.Flatten(), nn.Linear(48, 5), nn.PReLU(5), nn.Linear(5, 4, bias=False)]
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), *head)


def lasagne_s():
    w, b, beta, gamma, mean = array(3, 2, 3, 3), array(3), array(3), array(3), array(3)
    inv_std = (np.abs(array(3)) + 0.5) ** -0.5
    return [w, b, beta, gamma, mean, inv_std, array(48, 5), array(5), np.abs(array(5)), array(5, 4)]


def predicted(arrays, x):
    w, b, beta, gamma, mean, inv_std, w1, b1, alpha, w2 = (a.astype(np.float64) for a in arrays)
    h = convolved(x, w) + b[:, None, None]
    h = (h - mean[:, None, None]) * (gamma * inv_std)[:, None, None] + beta[:, None, None]
    h = np.maximum(h, 0).reshape(len(x), -1) @ w1 + b1
    return np.where(h > 0, h, alpha * h) @ w2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_lasagne_s_arrays_give_its_predictions(tmp_path, dtype, save):
    arrays = [a.astype(dtype) for a in lasagne_s()]
    save(tmp_path / "net.npz", *arrays)
    model = network()
    assert fn.interop.load_lasagne(tmp_path / "net.npz", model) is model
    x = array(6, 2, 6, 6)
    np.testing.assert_allclose(model.evaluated(x), predicted(arrays, x), rtol=2e-5, atol=2e-5)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.005))
    losses = [step(x, np.arange(6) % 4) for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]


def test_filters_stay_where_the_layers_did_not_flip_them(tmp_path):
    w, b = array(3, 2, 3, 2), array(3)
    np.savez(tmp_path / "net.npz", w, b)
    model = fn.interop.load_lasagne(tmp_path / "net.npz", nn.Conv2d(2, 3, (3, 2)), flip_filters=False)
    assert np.array_equal(model.weight.data, w)
    model = fn.interop.load_lasagne(tmp_path / "net.npz", nn.Conv2d(2, 3, (3, 2)))
    assert np.array_equal(model.weight.data, w[:, :, ::-1, ::-1]) and np.array_equal(model.bias.data, b)


def test_an_inverse_deviation_is_right_whatever_the_model_s_eps(tmp_path):
    inv_std = np.float64([0.5, 2.0, 90.0])
    np.savez(tmp_path / "net.npz", np.zeros(3), np.ones(3), np.zeros(3), inv_std)
    for eps in (1e-5, 1e-3, 0.0):
        model = fn.interop.load_lasagne(tmp_path / "net.npz", nn.BatchNorm1d(3, eps=eps))
        np.testing.assert_allclose(model.eval()(np.ones((2, 3), np.float32))[0], inv_std, rtol=2e-4)


def test_layers_inside_others_take_arrays_in_the_order_of_the_model(tmp_path):
    model = nn.Sequential(
        nn.Embedding(7, 3), nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False)), nn.Linear(2, 1)
    )
    shapes = [(7, 3), (3, 2), (2,), (2,), (2,), (2, 1), (1,)]
    arrays = [np.abs(array(*shape)) + 0.5 for shape in shapes]
    np.savez(tmp_path / "net.npz", *arrays)
    state = fn.interop.load_lasagne(tmp_path / "net.npz", model).state_dict()
    assert np.array_equal(state["0.weight"], arrays[0]) and np.array_equal(state["2.weight"], arrays[5].T)
    assert np.array_equal(state["1.1.running_mean"], arrays[3])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:-1], "holds 9 arrays, and the model takes 10"),
        (lambda a: [*a, a[0]], "holds 11 arrays"),
        (lambda a: [*a[:6], a[6].T, *a[7:]], r"arr_6 has shape \(5, 48\); expected \(48, 5\) for 4.weight"),
        (lambda a: [a[0], a[1][:2], *a[2:9], a[9][:, :3]], r"arr_1 .* for 0.bias; arr_9 .* for 6.weight"),
        (lambda a: [np.array([None, 1]), *a[1:]], "holds object"),
        (lambda a: [a[0].astype("U8"), *a[1:]], "holds <U8"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_the_model_stays(tmp_path, change, words):
    np.savez(tmp_path / "net.npz", *change(lasagne_s()))
    model = network()
    before = model.state_dict()
    with pytest.raises(ValueError, match=words) as caught:
        fn.interop.load_lasagne(tmp_path / "net.npz", model)
    assert "net.npz" in str(caught.value)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())


def test_arrays_under_other_names_are_refused(tmp_path):
    np.savez(tmp_path / "net.npz", w=array(2, 3), b=array(3))
    with pytest.raises(ValueError, match=r"arr_0, arr_1, \.\.\., got w, b"):
        fn.interop.load_lasagne(tmp_path / "net.npz", nn.Linear(2, 3))
    np.savez(tmp_path / "net.npz", array(3))
    with pytest.raises(TypeError, match="LayerNorm"):
        fn.interop.load_lasagne(tmp_path / "net.npz", nn.Sequential(nn.LayerNorm(3)))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fn.interop.load_lasagne(tmp_path / "nowhere.npz", nn.Linear(2, 3))


# ---- Mocha ------------------------------------------------------------------------------------------


class Mocha(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.ip1 = nn.Conv2d(2, 3, (3, 2)), nn.Linear(12, 4)

    def forward(self, x):
        return self.ip1(self.conv1(x).relu().flatten(1))


@pytest.fixture
def write(tmp_path):
    h5py = pytest.importorskip("h5py")

    def write(**arrays):
        with h5py.File(tmp_path / "net.hdf5", "w") as file:
            for name, values in arrays.items():
                file[name] = values
        return tmp_path / "net.hdf5"

    return write


def julia(shape):
    """An array as Julia has it, and as its HDF5 file shows it to others: with the axes from the other end."""
    values = array(*shape)
    return values, np.ascontiguousarray(values.T)


def test_mocha_s_parameters_give_its_predictions(write):
    filters, filters_in_file = julia((2, 3, 2, 3))  # width, height, in, out
    weight, weight_in_file = julia((12, 4))  # in, out
    bias, bias_in_file = julia((4, 1))
    path = write(
        conv1___filter=filters_in_file,
        conv1___bias=np.float32([1, 2, 3]),
        ip1___weight=weight_in_file,
        ip1___bias=bias_in_file,
    )
    model = fn.interop.load_mocha(path, Mocha())
    x = array(5, 2, 4, 3)
    h = np.zeros((5, 3, 2, 2))
    for i in range(2):
        for j in range(2):
            h[:, :, i, j] = np.einsum("nchw,whco->no", x[:, :, i : i + 3, j : j + 2], filters) + np.float32([1, 2, 3])
    wanted = np.maximum(h, 0).reshape(5, -1) @ weight + bias[:, 0]
    np.testing.assert_allclose(model(x), wanted, rtol=1e-5, atol=1e-5)


def test_a_bias_that_mocha_left_out_is_zero(write):
    path = write(conv1___weight=array(3, 2, 3, 2), ip1___weight=array(4, 12), note=np.ones(2))
    model = fn.interop.load_mocha(path, Mocha())
    assert not model.conv1.bias.data.any() and not model.ip1.bias.data.any()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (dict(conv1___filter=array(3, 2, 3, 2)), "ip1.weight is missing"),
        (dict(conv1___filter=array(3, 2, 2, 3), ip1___weight=array(4, 12)), r"conv1___filter has shape \(3, 2, 2, 3\)"),
        (dict(conv1___filter=array(3, 2, 3, 2), ip1___weight=array(4, 12), ip2___bias=array(2)), "ip2___bias has no"),
        (dict(conv1___filter=array(3, 2, 3, 2), ip1___weight="text"), "is no array of numbers"),
        (dict(weight=array(3)), "holds no datasets"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_and_the_model_stays(write, arrays, words):
    model = Mocha()
    before = model.state_dict()
    with pytest.raises(ValueError, match=rf"net\.hdf5.*{words}"):
        fn.interop.load_mocha(write(**arrays), model)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_lies_in_another_file_is_not_read(write, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = write(conv1___filter=array(3, 2, 3, 2), ip1___weight=array(4, 12))
    with h5py.File(tmp_path / "links.hdf5", "w") as file:
        file["conv1___filter"] = h5py.ExternalLink(str(path), "conv1___filter")
        file["ip1___weight"] = h5py.SoftLink("/conv1___filter")
        (tmp_path / "raw").write_bytes(bytes(192))
        file.create_dataset("ip1___bias", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
    with pytest.raises(ValueError) as caught:
        fn.interop.load_mocha(tmp_path / "links.hdf5", Mocha())
    for words in ("conv1___filter' is a link", "ip1___weight' is a link", "ip1___bias' are in another file"):
        assert words in str(caught.value)


def test_what_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "net.hdf5").write_bytes(b"text")
    with pytest.raises(ValueError, match="no HDF5 file that is read"):
        fn.interop.load_mocha(tmp_path / "net.hdf5", Mocha())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fn.interop.load_mocha(tmp_path / "nowhere", Mocha())


# ---- PyTorch ----------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_a_state_dict_of_tensors_loads(torch):
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(48, 5)
    )
    theirs(torch.randn(8, 2, 6, 6))
    ours = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 5))
    x = array(4, 2, 6, 6)
    for state in (
        theirs.state_dict(),
        theirs.double().state_dict(),
        dict(ours.named_parameters()) | dict(ours.named_buffers()),
    ):
        ours.load_state_dict(state)
        np.testing.assert_allclose(
            ours.evaluated(x), theirs.eval().float()(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", ["bfloat16", "half", "double"])
def test_tensors_of_any_precision_load(torch, kind):
    theirs = getattr(torch.nn.Linear(3, 4), kind)()
    ours = nn.Linear(3, 4)
    ours.load_state_dict(dict(theirs.named_parameters()))
    assert np.array_equal(ours.weight.data, theirs.weight.detach().float().numpy())


def test_a_safetensors_file_of_pytorch_s_loads(torch, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    theirs = torch.nn.Linear(3, 4)
    safetensors.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    ours = nn.Linear(3, 4).load(tmp_path / "model.safetensors")
    assert np.array_equal(ours.weight.data, theirs.weight.detach().numpy())


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_with_the_line_that_converts_it(torch, tmp_path, monkeypatch, name, zipped):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    theirs = torch.nn.Linear(3, 4)
    torch.save(theirs.state_dict(), name, _use_new_zipfile_serialization=zipped)
    ours = nn.Linear(3, 4)
    with pytest.raises(ValueError, match="pickled objects, which could run code") as caught:
        ours.load(name)
    exec(str(caught.value).partition("trust it: ")[2])
    assert np.array_equal(ours.load("model.safetensors").weight.data, theirs.weight.detach().numpy())


def test_what_is_neither_is_a_damaged_file(tmp_path):
    for data in (b"PK\3\4 an archive of something else", b"\x80\x02\0\0\0\0\0\0", b"\x80\x03"):
        (tmp_path / "model").write_bytes(data)
        with pytest.raises(ValueError, match="no intact safetensors file"):
            nn.Linear(3, 4).load(tmp_path / "model")


# ---- packages that are optional ---------------------------------------------------------------------


def test_the_room_is_imported_without_what_its_readers_need():
    code = "import sys, fastnn as fn; fn.interop; print({'h5py', 'google', 'onnx', 'torch'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'load_theano'"):
        fn.interop.load_theano  # noqa: B018
    assert set(fn.interop.__all__) <= set(dir(fn.interop))


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("google.protobuf", lambda path: fn.interop.load_caffe(path)),
        ("google.protobuf", lambda path: fn.interop.save_caffe(nn.ReLU(), path, path, array(1))),
    ],
)
def test_a_missing_package_is_said_with_the_line_that_installs_it(monkeypatch, tmp_path, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[interop\]"'):
        call(tmp_path / "file")
