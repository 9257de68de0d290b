"""Arrays of other libraries: whichever door numbers come through, training makes the same bits of them."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import ArrayDataset, DataLoader

rng = np.random.default_rng(0)
X = np.where(rng.random((50, 6)) < 0.4, rng.standard_normal((50, 6)), 0).round(3).astype(np.float32).astype(float)
Y = (X.sum(1) > 0).astype(np.int64)
NAMES = list("abcdef")


def make(inputs=6, seed=0, dtype=np.float32):
    fn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 2)).to(dtype)
    return fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.05))


def bits(trainer):
    return b"".join(a.tobytes() for a in trainer.model.state_dict().values())


def fitted(data, **settings):
    trainer = make()
    trainer.fit(data, **{"epochs": 2, "batch_size": 16, "seed": 1, "verbose": False, **settings})
    return trainer


REFERENCE = (X.astype(np.float32), Y)


class Samples:
    """A data set that gives a sample at a time."""

    def __init__(self, give=lambda i: (list(X)[i], int(Y[i])), length=50):
        self.give = give
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return self.give(i)


class Columns:
    """A data set whose batches are columns by name, as Hugging Face's."""

    def __len__(self):
        return 50

    def __getitem__(self, key):
        assert isinstance(key, (int, np.ndarray))
        return {"label": Y[key].tolist(), "x": X[key].tolist()}


def pandas_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(X, columns=NAMES, index=range(100, 50, -1)), pandas.Series(Y, index=range(7, 57))


def pandas_mixed(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=NAMES).astype({"b": np.float32, "e": "Float64"})
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


def torch_dataset(tmp_path):
    torch = pytest.importorskip("torch")
    return torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


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
