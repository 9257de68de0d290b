"""Arrays of other libraries: whichever door numbers come through, training makes the same bits of them."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import ArrayDataset, DataLoader
from fastnn.train.evaluation import predict

from doors import NAMES, REFERENCE, Columns, Samples, Words, X, Y, bits, fitted, make, torch_dataset


def pandas_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(X, columns=NAMES, index=range(100, 50, -1)), pandas.Series(Y, index=range(7, 57))


def pandas_mixed(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=NAMES).astype({"b": np.float32, "e": "Float64", "f": "Sparse[float64]"})
    return frame, pandas.Series(Y, dtype="Int64")


def polars_frame(tmp_path):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(X, schema=NAMES).cast({"c": polars.Float32}), polars.Series(Y)


def sparse(tmp_path):
    return pytest.importorskip("scipy.sparse").csc_array(X), Y


def memory_map(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    return np.load(tmp_path / "x.npy", mmap_mode="r"), Y


def torch_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(X), torch.from_numpy(Y)


def torch_subset(tmp_path):
    torch = pytest.importorskip("torch")
    return torch.utils.data.Subset(torch_dataset(tmp_path), range(50))


DOORS = {
    "float64": lambda _: (X, Y),
    "columns of another order of bytes": lambda _: (np.asfortranarray(X).astype(">f8"), Y.astype(np.uint8)),
    "lists": lambda _: (X.tolist(), Y.tolist()),
    "a buffer": lambda _: (memoryview(X), Y == 1),
    "a data set": lambda _: ArrayDataset(X, Y),
    "samples": lambda _: Samples(),
    "samples as dicts": lambda _: Samples(lambda i: {"label": Y[i], "x": X.tolist()[i]}),
    "columns by name": lambda _: Columns(),
    "pandas": pandas_frame,
    "pandas, of several dtypes": pandas_mixed,
    "polars": polars_frame,
    "sparse": sparse,
    "memory map": memory_map,
    "torch tensors": torch_tensors,
    "torch data set": torch_dataset,
    "torch subset": torch_subset,
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_the_same_numbers_train_to_the_same_bits_through_every_door(door, tmp_path):
    wanted = fitted(REFERENCE)
    data = door(tmp_path)
    trainer = fitted(data)
    assert bits(trainer) == bits(wanted)
    assert trainer.evaluate(data) == wanted.evaluate(REFERENCE)
    inputs = data[0] if isinstance(data, tuple) else data
    assert trainer.predict(inputs).tobytes() == wanted.predict(REFERENCE[0]).tobytes()
    loader = DataLoader(data, batch_size=16, shuffle=True, seed=1)
    assert bits(fitted(loader, batch_size=None, seed=None)) == bits(wanted)


# ---- without a copy ----------------------------------------------------------------------------


def test_arrays_are_held_where_they_lie(tmp_path):
    torch, pandas = pytest.importorskip("torch"), pytest.importorskip("pandas")
    tensor = torch.arange(12.0).reshape(4, 3)
    for given in (tensor, tensor.t(), tensor[::2]):
        (held,) = ArrayDataset(given).arrays
        assert np.shares_memory(held, tensor.numpy()) and held.shape == tuple(given.shape)
    array = np.arange(12.0).reshape(4, 3)
    (frame,) = ArrayDataset(pandas.DataFrame(array, copy=False)).arrays
    assert np.shares_memory(frame.array, array)
    np.save(tmp_path / "x.npy", array)
    (held,) = ArrayDataset(np.load(tmp_path / "x.npy", mmap_mode="r")).arrays
    assert not held.flags.owndata and not held.flags.writeable


def test_results_are_shared_with_pytorch():
    torch = pytest.importorskip("torch")
    output = make().model(X.astype(np.float32))
    tensor = torch.from_dlpack(output)
    tensor[0, 0] = 7.0
    assert output[0, 0] == 7.0 and tensor.dtype == torch.float32


class OfDlpack:
    """What has no door but __dlpack__."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **settings):
        return self.array.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_any_door_will_do_for_predictions():
    import array

    trainer = fitted(REFERENCE)
    wanted = trainer.predict(REFERENCE[0])
    for given in (OfDlpack(X), memoryview(X), X[:, ::-1][:, ::-1], np.asarray(X).view(np.ndarray)):
        assert trainer.predict(given).tobytes() == wanted.tobytes()
    column = make(1)
    flat = array.array("d", [0.5, 1.5])
    with pytest.raises(ValueError, match="shape"):
        column.predict(flat)
    assert trainer.predict(np.float64(X)).dtype == np.float32


BOUNDED = """
import os, resource, sys
import numpy as np
import fastnn as fn
from fastnn import nn, optim

rows, path = 1 << 20, sys.argv[1]
with open(path, "wb") as file:  # 4 GiB, of which the disk holds nothing
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (rows, 512)})
    file.truncate(file.tell() + rows * 512 * 8)
x, y = np.load(path, mmap_mode="r"), np.zeros(rows, np.int64)
model = nn.Linear(512, 2)
trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) << 10

few = fn.data.Subset((x, y), np.arange(0, rows, rows // 4096))
trainer.fit(fn.data.Subset((x[:512], y[:512]), np.arange(512)), batch_size=256, verbose=False)
before = anonymous()
soft = int(open("/proc/self/statm").read().split()[5]) * os.sysconf("SC_PAGE_SIZE") + (256 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (soft, soft))  # a copy of the whole would be refused
trainer.fit(few, batch_size=256, verbose=False)
assert trainer.evaluate(few)["accuracy"] == 1.0
assert trainer.predict(x[: 1 << 14]).shape == (1 << 14, 2)
loader = fn.data.DataLoader((x, y), 256, shuffle=True, seed=0)
for i, (a, b) in enumerate(loader):
    if i == 8:
        break
assert a.shape == (256, 512)
assert anonymous() - before < 64 << 20, (before, anonymous())
"""


def test_a_memory_map_larger_than_the_memory_allowed_is_read_a_batch_at_a_time(tmp_path):
    import subprocess
    import sys

    if not sys.platform.startswith("linux"):
        pytest.skip("RLIMIT_DATA and /proc are Linux's")
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path / "x.npy")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_sparse_matrix_is_dense_a_batch_at_a_time():
    scipy = pytest.importorskip("scipy.sparse")
    rows, columns = 400_000, 50_000  # 80 GB, were it dense in float32
    i = np.arange(0, rows, 500)
    matrix = scipy.coo_matrix((np.ones(len(i)), (i, i % columns)), shape=(rows, columns))
    fn.manual_seed(0)
    model = nn.Linear(columns, 2)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    loader = DataLoader((matrix, np.zeros(rows, np.int64)), 64)
    x, y = next(iter(loader))
    np.testing.assert_array_equal(x, matrix.tocsr()[:64].toarray())
    assert (len(loader), y.shape) == (6250, (64,))
    trainer.fit(iter([next(iter(loader))]), verbose=False)
    assert trainer.predict(matrix.tocsr()[:100], batch_size=50).shape == (100, 2)


# ---- the rule for dtypes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["float16", "float64", "longdouble", "int8", "uint8", "int32", "uint64", "bool", ">f4"]
)
@pytest.mark.parametrize("model", [np.float32, np.float64])
def test_numbers_become_the_models_dtype(dtype, model):
    x = (np.arange(24).reshape(4, 6) % 5).astype(dtype)
    trainer = make(dtype=model)
    assert trainer.predict(x).tobytes() == trainer.model.eval()(x.astype(model)).tobytes()
    trainer.fit((x, Y[:4]), verbose=False)
    assert np.isfinite(trainer.evaluate((x, Y[:4]))["loss"])


def test_bytes_of_images_stay_0_to_255():
    fn.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 4, 4), np.uint8)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0))
    assert trainer.predict(images).tobytes() == model.eval()(images.astype(np.float32)).tobytes()
    assert trainer.predict(images).tobytes() != model.eval()(images.astype(np.float32) / 255).tobytes()


def test_integers_are_labels_where_they_are_looked_up_and_numbers_elsewhere():
    fn.manual_seed(0)
    model = Words()
    words, numbers = np.arange(8, dtype=np.int32).reshape(4, 2) % 7, np.arange(12).reshape(4, 3)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    wanted = model.eval()(words, numbers.astype(np.float32))
    assert trainer.predict((words, numbers)).tobytes() == wanted.tobytes()
    trainer.fit((words, {"numbers": numbers}, Y[:4]), epochs=2, verbose=False)
    trainer.fit((words, numbers, Y[:4]), sample_weight=np.ones(4), verbose=False)
    with pytest.raises(TypeError, match="an index holds labels, int64, got float32"):
        trainer.predict((words.astype(float), numbers))


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.HuberLoss(), nn.SoftMarginLoss()])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float16, np.float64])
def test_targets_of_losses_of_numbers_become_numbers(loss, dtype):
    def trained(target):
        fn.manual_seed(0)
        model = nn.Linear(6, 1)
        trainer = fn.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1))
        trainer.fit((X, target), epochs=2, seed=0, verbose=False)
        return bits(trainer), trainer.evaluate((X, target))["loss"]

    assert trained(Y[:, None].astype(dtype)) == trained(Y[:, None].astype(np.float32))


def test_a_number_that_the_models_dtype_cannot_hold_is_refused():
    big = X.copy()
    big[3, 2] = 1e300
    trainer = make()
    before = bits(trainer)
    for call in (lambda: trainer.fit((big, Y), verbose=False), lambda: trainer.predict(big)):
        with pytest.raises(
            ValueError, match=r"holds numbers up to 1e\+300, and float32 none above 3.4e\+38; scale them"
        ):
            call()
    assert bits(trainer) == before
    make(dtype=np.float64).predict(big)
    with pytest.raises(ValueError, match="9223372036854775808, which does not fit int64"):
        trainer.fit((X, np.full(50, 2**63, np.uint64)), verbose=False)


def test_nan_and_infinities_flow():
    odd = X.copy()
    odd[0], odd[1] = np.nan, np.inf
    output = make().predict(odd)
    assert np.isnan(output[0]).all() and not np.isnan(output[2:]).any()


REFUSED = {
    "complex": (lambda: X + 1j, "got dtype complex128; give its real and imaginary parts as columns"),
    "texts": (lambda: X.astype(str), r"got dtype <U\d+; .astype\(np.float32\) makes numbers of texts"),
    "bytes": (lambda: X.astype("S8"), "got dtype"),
    "objects": (lambda: X.astype(object), "got dtype object"),
    "times": (lambda: X.astype("M8[s]"), r"got dtype datetime64\[s\]; t - t.min\(\) makes differences"),
    "differences of times": (lambda: X.astype("m8[s]"), r"t / np.timedelta64\(1, 's'\) makes seconds"),
    "a masked array": (lambda: np.ma.masked_array(X, X > 0), "masked array, whose mask would be lost"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_numbers_is_refused_everywhere(kind):
    make_it, message = REFUSED[kind]
    value = make_it()
    trainer = make()
    for call in (
        lambda: trainer.fit((value, Y), verbose=False),
        lambda: trainer.evaluate((value, Y)),
        lambda: trainer.predict(value),
        lambda: trainer.fit(iter([(value, Y)]), verbose=False),
        lambda: trainer.fit(Samples(lambda i: (value[i], 0)), verbose=False),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    assert trainer.step == 0


def test_labels_that_are_texts_are_refused_with_a_hint():
    with pytest.raises(
        TypeError, match=r"data\[1\]: expected numbers .* np.unique\(y, return_inverse=True\)\[1\] labels"
    ):
        make().fit((X, np.where(Y == 1, "cat", "dog")), verbose=False)


def test_modules_and_steps_called_themselves_convert_nothing():
    trainer = make()
    step = fn.TrainStep(trainer.model, trainer.loss, trainer.optimizer)
    for call in (lambda: trainer.model(X), lambda: step(X, Y)):
        with pytest.raises(TypeError, match=r"convert the input with .astype\(np.float32\), or the model with"):
            call()
    for call in (lambda: trainer.model(X.astype(int)), lambda: step(X.astype(np.uint8), Y)):
        with pytest.raises(TypeError, match=r"holds integers; .* \.astype\(np.float32\)"):
            call()


def test_a_model_without_parameters_keeps_float32_and_float64():
    for given, dtype in (("float16", "float32"), ("float32", "float32"), ("float64", "float64"), ("int64", "float32")):
        assert predict(nn.ReLU(), np.ones((3, 2), given)).dtype == dtype
