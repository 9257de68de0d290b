"""
Training the first layer only
=============================

The last layers of this network keep the random weights that they begin with; only the first layer learns. It still
brings the training error to nearly zero and the test error to about 2%: what it learns is what the random rest of the
network happens to need.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from _images import handwritten_digits

import fastnn as fn
from fastnn import nn, optim

QUICK = "FASTNN_QUICK" in os.environ
EPOCHS = 5 if QUICK else 25
(x, labels), (xt, lt) = handwritten_digits(flatten=True)
if QUICK:
    x, labels = x[:5000], labels[:5000]


def network():
    fn.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(x.shape[1], 500), nn.ReLU(), nn.Linear(500, 150), nn.ReLU(), nn.Linear(150, 10),
    )  # fmt: skip
    for layer in model[2], model[4]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model


class TrainingError(fn.callbacks.Callback):
    """Of the whole training set, after each epoch."""

    def __init__(self):
        self.errors = []

    def on_epoch_end(self, epoch, logs):
        self.errors.append(1 - self.trainer.evaluate((x, labels))["accuracy"])


figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
for ax, only in zip(axes, (False, True), strict=True):
    model = network()
    before = model[2].weight.data.copy()
    layers = model[0] if only else model
    if only:
        for p in (*model[2].parameters(), *model[4].parameters()):
            p.requires_grad = False
    optimizer = optim.Adam(layers.parameters(), lr=1e-3)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer)
    watch = TrainingError()
    decay = fn.callbacks.LearningRateScheduler(lambda epoch: 1e-3 * 0.87**epoch)
    history = trainer.fit((x, labels), validation_data=(xt, lt), epochs=EPOCHS, batch_size=128,
                          callbacks=[decay, watch], verbose=0)  # fmt: skip
    test = [1 - accuracy for accuracy in history.history["val_accuracy"]]
    assert only == np.array_equal(before, model[2].weight.data)
    name = "the first layer only" if only else "all layers"
    print(f"{name}: training error {watch.errors[-1]:.2%}, test error {test[-1]:.2%}")
    ax.semilogy(np.arange(EPOCHS) + 1, np.maximum(watch.errors, 1e-5), "o-", label="training")
    ax.semilogy(np.arange(EPOCHS) + 1, test, "o-", label="test")
    ax.set(title=f"{name}: {watch.errors[-1]:.2%} and {test[-1]:.2%} at the end", xlabel="epoch")
    ax.legend()
axes[0].set_ylabel("share of wrong digits")
plt.show()
