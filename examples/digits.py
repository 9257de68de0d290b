"""Handwritten digits: train with a held-out part, stop early, save, and load into a new model."""

import os
import tempfile

import fastnn as fn
from fastnn import nn, optim

fn.manual_seed(0)
x, y = fn.data.digits("train")  # (1437, 1, 8, 8) float32, (1437,) int64


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
    )  # fmt: skip


model = network()
trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=2e-3))
trainer.fit(
    (x[200:], y[200:]),
    validation_data=(x[:200], y[:200]),
    epochs=12,
    callbacks=[fn.callbacks.EarlyStopping(patience=3)],
    verbose=2,
)
print("test:", trainer.evaluate(fn.data.digits("test")))

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "digits.safetensors")
    model.save(path)
    again = network().eval()
    again.load(path)
    assert (again(x[:5]) == model.eval()(x[:5])).all()
