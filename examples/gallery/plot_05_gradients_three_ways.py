"""
Gradients by hand, by differences, by backpropagation
=====================================================

A network's gradient written out by hand, by central differences and by backpropagation: all agree. Differences cost two
forward passes for each weight, so that their time grows with the square of the width; backpropagation costs about as
much as two forward passes for all weights together.
"""

import os
import time

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn

N, rng = 16, np.random.default_rng(0)
x, y = rng.normal(size=(N, 8)), rng.normal(size=(N, 1))


def network(width):
    fn.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 1)).double()


def by_hand(model):
    """dC/dW of C = mean (a2 - y)^2, layer by layer, as in a textbook."""
    w1, b1, w2, b2 = (p.data for p in model.parameters())
    a1 = np.tanh(x @ w1.T + b1)
    a2 = a1 @ w2.T + b2
    delta2 = 2 * (a2 - y) / N
    delta1 = delta2 @ w2 * (1 - a1**2)
    return [delta1.T @ x, delta1.sum(0), delta2.T @ a1, delta2.sum(0)]


def by_backpropagation(model):
    out = model.forward_train(x)
    for p in model.parameters():
        p.grad = None
    model.backward(2 * (out - y) / N)
    return [p.grad for p in model.parameters()]


def by_differences(model, h=1e-6):
    slopes = []
    for p in model.parameters():
        slope = np.zeros_like(p.data)
        for place in np.ndindex(*p.data.shape):
            for sign in (1, -1):
                p.data[place] += sign * h
                slope[place] += sign * np.mean((model(x) - y) ** 2) / (2 * h)
                p.data[place] -= sign * h
        slopes.append(slope)
    return slopes


widths = (4, 16, 64) if "FASTNN_QUICK" in os.environ else (4, 16, 64, 256, 512)
ways = {"by hand": by_hand, "by differences": by_differences, "by backpropagation": by_backpropagation}
seconds, counts = {name: [] for name in ways}, []
for width in widths:
    model, results = network(width), {}
    counts.append(sum(p.data.size for p in model.parameters()))
    for name, way in ways.items():
        times = []
        for _ in range(3):  # the first call plans
            begin = time.perf_counter()
            results[name] = np.concatenate([slope.ravel() for slope in way(model)])
            times.append(time.perf_counter() - begin)
        seconds[name].append(min(times))
    for name, slope in results.items():
        print(f"{counts[-1]:6} weights, {name:18}: off by {np.abs(slope - results['by hand']).max():.1e}")

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name in ways:
    ax.loglog(counts, seconds[name], "o-", label=name)
ax.set(xlabel="weights", ylabel="seconds for a gradient", title="differences take two passes a weight")
ax.legend()
plt.show()
