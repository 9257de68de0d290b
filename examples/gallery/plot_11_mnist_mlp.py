"""
Digits by a network of 784-225-144-10
=====================================

A network of two hidden layers errs on about 1.2% of the test digits when its units are dropped out at random while it
trains. Its first layer begins as noise and finds strokes, blobs and their absence within a few epochs; the histogram
shows how often each hidden unit is active: hardly one is always on or always off.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from _images import handwritten_digits

import fastnn as fn
from fastnn import nn, optim

QUICK = "FASTNN_QUICK" in os.environ
EPOCHS = 6 if QUICK else 40
(x, labels), (xt, lt) = handwritten_digits(flatten=True)
if QUICK:
    x, labels = x[:5000], labels[:5000]
side = int(x.shape[1] ** 0.5)

fn.manual_seed(0)
model = nn.Sequential(
    nn.Dropout(0.2), nn.Linear(side * side, 225), nn.ReLU(), nn.Dropout(0.3),
    nn.Linear(225, 144), nn.ReLU(), nn.Dropout(0.3), nn.Linear(144, 10),
)  # fmt: skip
filters = {"0": model[1].weight.data.copy()}


class KeepFilters(fn.callbacks.Callback):
    def on_epoch_end(self, epoch, logs):
        if epoch + 1 in (1, 2, 3, 4, 5, 10, EPOCHS):
            filters[str(epoch + 1)] = model[1].weight.data.copy()


rate = fn.callbacks.LearningRateScheduler(lambda epoch: 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS)) + 1e-5)
trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
history = trainer.fit(
    (x, labels), validation_data=(xt, lt), epochs=EPOCHS, batch_size=128, callbacks=[rate, KeepFilters()], verbose=0
)
error = [1 - accuracy for accuracy in history.history["val_accuracy"]]
print(f"test error after epoch 1: {error[0]:.2%}, after {EPOCHS}: {error[-1]:.2%}")

# %%
# Sixteen filters as they develop, and the share of test digits for which each unit is active.
hidden = np.asarray(model[:3].evaluated(xt) > 0).mean(0), np.asarray(model[:6].evaluated(xt) > 0).mean(0)
figure = plt.figure(figsize=(14, 7), layout="constrained")
upper, lower = figure.subfigures(2, 1)
for place, (epoch, weight) in zip(upper.subfigures(1, len(filters)), filters.items(), strict=True):
    tiles = weight[:16] / np.abs(weight[:16]).max(1, keepdims=True)  # each on a scale of its own
    ax = place.subplots()
    tiles = tiles.reshape(4, 4, side, side).transpose(0, 2, 1, 3).reshape(4 * side, 4 * side)
    ax.imshow(tiles, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set(title=f"epoch {epoch}", xticks=[], yticks=[])
left, right = lower.subplots(1, 2)
left.semilogy(np.arange(EPOCHS) + 1, error, "o-")
left.set(title=f"test error: {error[-1]:.2%} at the end", xlabel="epoch")
right.hist(hidden, bins=20, range=(0, 1), label=["first hidden layer", "second"])
right.set(title="how often a unit is active", xlabel="share of the test digits", ylabel="units")
right.legend()
plt.show()
