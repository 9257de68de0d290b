"""
Overfitting, and what helps
===========================

A network with far more weights than examples learns these by heart: its training error is zero, its test error stays.
Early stopping takes the best epoch; weight decay keeps weights small; noise on the inputs and dropout show the network
other examples in each epoch. With noise the test error goes on falling, long after the training error would have ended.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from _images import handwritten_digits

import fastnn as fn
from fastnn import nn, optim

QUICK = "FASTNN_QUICK" in os.environ
EPOCHS = 10 if QUICK else 120
(x, labels), (xt, lt) = handwritten_digits(flatten=True)
x, labels, xt, lt = x[:500], labels[:500], xt[:4000], lt[:4000]
inputs = x.shape[1]


class NoisyInput(nn.Module):
    """Adds noise while training, and none in evaluation."""

    def __init__(self, deviation):
        super().__init__()
        self.deviation = deviation

    def forward(self, x):
        return x + self.deviation * fn.random.normal(x.shape) if self.training else x


def network(first=(), between=()):
    return nn.Sequential(
        *first, nn.Linear(inputs, 300), nn.ReLU(), *between, nn.Linear(300, 300), nn.ReLU(), *between,
        nn.Linear(300, 10),
    )  # fmt: skip


ways = {
    "nothing": (network, {}),
    "weight decay": (network, dict(weight_decay=0.3)),
    "input noise": (lambda: network(first=[NoisyInput(0.5)]), {}),
    "dropout": (lambda: network(first=[nn.Dropout(0.2)], between=[nn.Dropout(0.5)]), {}),
}


class TrainingError(fn.callbacks.Callback):
    """In evaluation mode: without noise and dropout."""

    def __init__(self):
        self.errors = []

    def on_epoch_end(self, epoch, logs):
        self.errors.append(1 - self.trainer.evaluate((x, labels))["accuracy"])


figure, axes = plt.subplots(1, 4, figsize=(16, 4), layout="constrained", sharey=True)
for ax, (name, (build, settings)) in zip(axes, ways.items(), strict=True):
    fn.manual_seed(0)
    model, watch = build(), TrainingError()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, **(dict(weight_decay=0.0) | settings))
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer)
    history = trainer.fit(
        (x, labels), validation_data=(xt, lt), epochs=EPOCHS, batch_size=50, callbacks=[watch], verbose=0
    ).history
    test = 1 - np.array(history["val_accuracy"])
    best = int(np.argmin(history["val_loss"]))
    print(f"{name:13}: training {watch.errors[-1]:.1%}, test {test[-1]:.1%}, by early stopping {test[best]:.1%}")
    ax.plot(watch.errors, label="training error")
    ax.plot(test, label="test error")
    ax.axvline(best, color="0.7", linestyle=":", label="early stopping")
    ax.set(title=f"{name}: test {test[-1]:.1%}", xlabel="epoch", ylim=(0, 0.3))
axes[0].legend()
plt.show()
