"""
Why cross-entropy
=================

A sigmoid neuron that begins confidently wrong learns slowly by squared error: the error's gradient has the factor
sigma'(z), which is nearly zero where the neuron is saturated. Cross-entropy cancels it: the larger the error, the
faster it learns (Nielsen, Neural Networks and Deep Learning, chapter 3). So it is with softmax and the log-likelihood.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn, optim

one, zero = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
EPOCHS = 300


def neuron(loss, weight, bias, activation):
    """A neuron's outputs for the input 1 while it is taught 0."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid()) if activation else nn.Sequential(nn.Linear(1, 1))
    model[0].weight.data[:], model[0].bias.data[:] = weight, bias
    step = fn.TrainStep(model, loss, optim.SGD(model.parameters(), lr=0.15))
    outputs = []
    for _ in range(EPOCHS):
        z = model[0].weight.data[0, 0] + model[0].bias.data[0]
        outputs.append(1 / (1 + np.exp(-z)))
        step(one, zero)
    return outputs


figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
for ax, (weight, bias) in zip(axes, ((0.6, 0.9), (2.0, 2.0)), strict=False):
    # Squares as in the textbook, (a - y)^2 / 2: half the gradient, so half the learning rate's effect.
    ax.plot(neuron(lambda out, y: ((out - y) ** 2).mean() / 2, weight, bias, True), label="squared error")
    ax.plot(neuron(nn.BCEWithLogitsLoss(), weight, bias, False), label="cross-entropy")
    ax.set(title=f"weight {weight}, bias {bias}", xlabel="epoch", ylabel="output; 0 is right", ylim=(0, 1))
    ax.legend()

# %%
# Ten classes, and weights so large that softmax is saturated at the start, mostly in wrong places.
x, labels = fn.data.digits("train", flatten=True)
targets = np.eye(10, dtype=np.float32)[labels]


def squares(logits, y):
    return ((nn.functional.softmax(logits, 1) - y) ** 2).sum(1).mean() / 2


for name, loss, y in (
    ("squared error of softmax", squares, targets),
    ("log-likelihood", nn.CrossEntropyLoss(), labels),
):
    fn.manual_seed(0)
    model = nn.Linear(64, 10)
    nn.init.normal_(model.weight, std=3.0)
    step = fn.TrainStep(model, loss, optim.SGD(model.parameters(), lr=0.5))
    wrong = []
    for _ in range(100):
        step(x, y)
        wrong.append(np.mean(model(x).argmax(1) != labels))
    axes[2].plot(wrong, label=name)
    print(f"{name}: {wrong[-1]:.1%} of the digits wrong after {len(wrong)} steps")
axes[2].set(title="digits, softmax saturated at first", xlabel="step", ylabel="share of wrong digits", ylim=(0, 1))
axes[2].legend()
plt.show()
