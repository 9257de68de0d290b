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

MEMBERS, EPOCHS = (2, 4) if "FASTNN_QUICK" in os.environ else (6, 12)
(x, labels), (xt, lt) = handwritten_digits(flatten=True)
x, labels = x[:2000], labels[:2000]


def network(seed):
    fn.manual_seed(seed)
    return nn.Sequential(nn.Linear(x.shape[1], 100), nn.ReLU(), nn.Linear(100, 10))


def train(model, schedule, epochs, callbacks=()):
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    rate = fn.callbacks.LearningRateScheduler(schedule)
    trainer.fit((x, labels), epochs=epochs, batch_size=32, callbacks=[rate, *callbacks], verbose=0)
    return probabilities(model)


def probabilities(model):
    return nn.functional.softmax(np.asarray(model.evaluated(xt)), 1)


def error(predicted):
    return np.mean(np.argmax(predicted, 1) != lt)


def cosine(length):
    return lambda epoch: 0.05 * (1 + np.cos(np.pi * (epoch % length) / length))


# %%
# Members of their own; snapshots at the end of each cycle of one run; and the average of all weights of a run.
independent = [train(network(seed), cosine(EPOCHS), EPOCHS) for seed in range(MEMBERS)]

model, snapshots = network(0), []
length = EPOCHS // 2


def keep_snapshot(epoch, logs):
    if (epoch + 1) % length == 0:
        snapshots.append(probabilities(model))


train(model, cosine(length), length * MEMBERS, [fn.callbacks.LambdaCallback(on_epoch_end=keep_snapshot)])

model, average, curves = network(0), network(0), ([], [])


def keep_average(batch, logs):
    for mean, p in zip(average.parameters(), model.parameters(), strict=True):
        mean.data[:] = 0.995 * mean.data + 0.005 * p.data


def compare(epoch, logs):
    for curve, each in zip(curves, (model, average), strict=True):
        curve.append(error(probabilities(each)))


train(model, lambda epoch: 0.1, EPOCHS, [fn.callbacks.LambdaCallback(on_batch_end=keep_average, on_epoch_end=compare)])

figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for ax, (name, members) in zip(axes, (("seeds of their own", independent), ("snapshots", snapshots)), strict=False):
    single = [error(member) for member in members]
    together = [error(np.mean(members[:n], 0)) for n in range(1, len(members) + 1)]
    print(f"{name}: members {min(single):.2%} to {max(single):.2%}, all together {together[-1]:.2%}")
    ax.plot(np.arange(len(members)) + 1, single, "o", label="each member")
    ax.plot(np.arange(len(members)) + 1, together, "o-", label="the average up to it")
    ax.set(title=name, xlabel="member", ylabel="test error")
    ax.legend()
print(f"a constant rate of 0.1: {curves[0][-1]:.2%}, the average of its weights {curves[1][-1]:.2%}")
for curve, name in zip(curves, ("the weights", "their running mean"), strict=True):
    axes[2].plot(np.arange(EPOCHS) + 1, curve, "o-", label=name)
axes[2].set(title="Polyak averaging, 0.995", xlabel="epoch")
axes[2].legend()
plt.show()
