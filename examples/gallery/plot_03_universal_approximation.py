"""
Universal approximation by staircases
=====================================

A sigmoid with a large weight is a step; n of them are a staircase with n treads, and so any function on an interval is
approximated as well as one likes (Cybenko, 1989). Two layers of steps share their treads: a symmetric staircase, folded
by the first layer, needs half as many. And a ReLU network with d layers can have a number of linear pieces that grows
exponentially with d, where one layer of n units has n + 1 (Montufar et al., 2014).
"""

import matplotlib.pyplot as plt
import numpy as np

from fastnn import nn

x, SHARP = np.linspace(0, 1, 1001, dtype=np.float32)[:, None], 2000.0


def staircase(f, n):
    """A network with n hidden units; each is a step up or down to the next value of f."""
    edges = (np.arange(n) / n).astype(np.float32)
    heights = f(edges + 0.5 / n)
    network = nn.Sequential(nn.Linear(1, n), nn.Sigmoid(), nn.Linear(n, 1))
    network[0].weight.data[:], network[0].bias.data[:] = SHARP, 10 - SHARP * edges  # the first is already on at 0
    network[2].weight.data[:], network[2].bias.data[:] = np.diff(heights, prepend=0), 0
    return network


def f(x):
    return 0.5 + 0.3 * np.sin(2 * np.pi * x) + 0.15 * np.sin(6 * np.pi * x)


# %%
# A symmetric hill: |2 x - 1| from two ReLU units, and a staircase of 6 steps on it; one layer would need 12.
fold = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 6), nn.Sigmoid(), nn.Linear(6, 1))
fold[0].weight.data[:], fold[0].bias.data[:] = [[2], [-2]], [-1, 1]
fold[2].weight.data[:], fold[2].bias.data[:] = SHARP / 4, -SHARP / 4 * (np.arange(6) + 0.5) / 6
fold[4].weight.data[:], fold[4].bias.data[:] = -1 / 6, 1

widths = 2 ** np.arange(1, 9)
errors = [np.abs(staircase(f, n)(x) - f(x)).max() for n in widths]


# %%
# Each layer of two units folds the interval once more: 2^depth pieces. One layer of as many units has few.
def folded(depth):
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)]
        layers[-3].weight.data[:], layers[-3].bias.data[:] = [[2], [4]], [0, -2]
        layers[-1].weight.data[:], layers[-1].bias.data[:] = [[1, -1]], 0
    return nn.Sequential(*layers)


def pieces(network, points=2**14):
    y = network(np.linspace(0, 1, points + 1, dtype=np.float32)[:, None])[:, 0]
    return 1 + np.count_nonzero(np.abs(np.diff(y, 2)) > 1e-5)


depths = range(1, 8)
deep = [pieces(folded(d)) for d in depths]
print("pieces by depth:", *deep)

figure, axes = plt.subplots(1, 4, figsize=(16, 3.8), layout="constrained")
axes[0].plot(x, f(x), color="0.7", label="f")
for n in (8, 32):
    axes[0].plot(x, staircase(f, n)(x), lw=1, label=f"{n} hidden units")
axes[0].set_title("a staircase of steps")
axes[1].plot(x, fold(x))
axes[1].set_title("two layers: 2 + 6 units, 12 steps")
axes[2].loglog(widths, errors, "o-")
axes[2].set(title="largest error of n steps", xlabel="hidden units")
axes[3].semilogy(depths, deep, "o-", label="two units a layer")
axes[3].semilogy(depths, [2 * d + 1 for d in depths], "s-", label="one layer, as many units: at most")
axes[3].set(title="linear pieces", xlabel="layers")
for ax in (axes[0], axes[3]):
    ax.legend()
plt.show()
