"""What tests of the doors for data share: numbers, a trainer of them, data sets that are none of fastnn's."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

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


class Words(nn.Module):
    """Integers that are looked up beside integers that are computed with."""

    def __init__(self):
        super().__init__()
        self.table, self.fc = nn.Embedding(7, 3), nn.Linear(6, 2)

    def forward(self, words, numbers):
        return self.fc(fn.concat([self.table(words)[:, 0], numbers], 1))


def torch_dataset(tmp_path):
    torch = pytest.importorskip("torch")
    return torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
