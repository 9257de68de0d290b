"""
Ensembles and averages
======================

Networks that begin with other weights make other mistakes, so the mean of their predictions is better than the best of
them. Snapshot ensembles (Huang et al., 2017) get members from a single run: the learning rate falls to zero and starts
again, cycle by cycle. Polyak averaging keeps a running mean of the weights themselves, which costs no second network.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from _images import handwritten_digits

import fastnn as fn
from fastnn import nn, optim
from fastnn.train import Ensemble

MEMBERS, EPOCHS = (2, 4) if "FASTNN_QUICK" in os.environ else (6, 12)
(x, labels), (xt, lt) = handwritten_digits(flatten=True)
x, labels = x[:2000], labels[:2000]


def network(seed):
    fn.manual_seed(seed)
    return nn.Sequential(nn.Linear(x.shape[1], 100), nn.ReLU(), nn.Linear(100, 10))


def trained(seed, epochs, cycle=None, callbacks=()):
    """A trainer whose rate falls to zero and starts again by cycles of so many epochs, or is constant."""
    model = network(seed)
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if cycle:
        callbacks = [fn.callbacks.Scheduler(optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, cycle)), *callbacks]
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    trainer.fit((x, labels), epochs=epochs, batch_size=32, callbacks=callbacks, verbose=0)
    return trainer


def error(predicted):
    return np.mean(np.argmax(predicted, 1) != lt)


# %%
# Members of their own; snapshots at the end of each cycle of one run; and the average of all weights of a run.
independent = Ensemble([trained(seed, EPOCHS, EPOCHS).model for seed in range(MEMBERS)], "softmax")

snapshots = fn.callbacks.Snapshots(EPOCHS // 2)
trained(0, EPOCHS // 2 * MEMBERS, EPOCHS // 2, [snapshots])


class Compare(fn.callbacks.Callback):
    """The test error of the weights and of their average after each epoch."""

    curves = ([], [])

    def on_epoch_end(self, epoch, logs):
        for curve, averaged in zip(self.curves, (False, True), strict=True):
            curve.append(error(self.trainer.predict(xt, averaged=averaged)))


trained(0, EPOCHS, callbacks=[fn.callbacks.Averaging(0.995), Compare()])

figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
ensembles = {"seeds of their own": independent, "snapshots": snapshots.ensemble("softmax")}
for ax, (name, ensemble) in zip(axes, ensembles.items(), strict=False):
    members = list(ensemble.members)
    single = [error(member(xt)) for member in members]
    together = [error(Ensemble(members[: n + 1], "softmax").predict(xt)) for n in range(len(members))]
    print(f"{name}: members {min(single):.2%} to {max(single):.2%}, all together {together[-1]:.2%}")
    ax.plot(np.arange(len(members)) + 1, single, "o", label="each member")
    ax.plot(np.arange(len(members)) + 1, together, "o-", label="the average up to it")
    ax.set(title=name, xlabel="member", ylabel="test error")
    ax.legend()
print(f"a constant rate of 0.1: {Compare.curves[0][-1]:.2%}, the average of its weights {Compare.curves[1][-1]:.2%}")
for curve, name in zip(Compare.curves, ("the weights", "their running mean"), strict=True):
    axes[2].plot(np.arange(EPOCHS) + 1, curve, "o-", label=name)
axes[2].set(title="Polyak averaging, 0.995", xlabel="epoch")
axes[2].legend()
plt.show()
