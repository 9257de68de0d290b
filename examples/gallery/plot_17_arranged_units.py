"""
Hidden units in order
=====================

The units of a hidden layer stand in no order: any permutation is the same network. Put on a grid so that neighbours
have outgoing weights that look alike, by simulated annealing (Kirkpatrick et al., 1983), the grid becomes a map: units
that speak for the same digits gather.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from _images import handwritten_digits

import fastnn as fn
from fastnn import nn, optim

QUICK = "FASTNN_QUICK" in os.environ
GRID = 10
(x, labels), _ = handwritten_digits(flatten=True)
x, labels = x[:10000], labels[:10000]
side = int(x.shape[1] ** 0.5)

fn.manual_seed(0)
model = nn.Sequential(nn.Linear(x.shape[1], GRID * GRID), nn.ReLU(), nn.Linear(GRID * GRID, 10))
trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), weight_decay=0.05))
trainer.fit((x, labels), epochs=2 if QUICK else 10, batch_size=64, verbose=0)

# %%
# The cost is the distance between neighbours; two units change places if that lowers it, or by chance if it is warm.
outgoing = model[2].weight.data.T.astype(np.float64)
outgoing = outgoing / np.linalg.norm(outgoing, axis=1, keepdims=True)
apart = ((outgoing[:, None] - outgoing[None]) ** 2).sum(2)
at = np.arange(GRID * GRID).reshape(GRID, GRID)
rng = np.random.default_rng(0)


def around(i, j):
    return [((i + a) % GRID, (j + b) % GRID) for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))]


def strain(place):
    return sum(apart[at[place], at[other]] for other in around(*place))


def total():
    return sum(apart[at, np.roll(at, 1, axis)].sum() for axis in (0, 1))


moves, costs, before = 4000 if QUICK else 60000, [], at.copy()
for move in range(moves):
    heat = 1.0 * (1 - move / moves) ** 2 + 1e-3
    a, b = (tuple(rng.integers(0, GRID, 2)) for _ in range(2))
    now = strain(a) + strain(b)
    at[a], at[b] = at[b], at[a]
    worse = strain(a) + strain(b) - now
    if worse > 0 and rng.random() > np.exp(-worse / heat):
        at[a], at[b] = at[b], at[a]
    if move % 200 == 0:
        costs.append(total())
print(f"distance between neighbours: {costs[0]:.0f} at first, {total():.0f} in the end")

figure, axes = plt.subplots(1, 4, figsize=(17, 4.4), layout="constrained")
for ax, order, name in ((axes[0], before, "as trained"), (axes[1], at, "arranged")):
    ax.imshow(np.abs(model[2].weight.data).argmax(0)[order], cmap="tab10", vmin=-0.5, vmax=9.5)
    ax.set(title=f"digit of the largest outgoing weight, {name}", xticks=[], yticks=[])
    ax.title.set_size(9)
tiles = model[0].weight.data[at.ravel()]
tiles = (tiles / np.abs(tiles).max(1, keepdims=True)).reshape(GRID, GRID, side, side)
axes[2].imshow(tiles.transpose(0, 2, 1, 3).reshape(GRID * side, -1), cmap="RdBu_r", vmin=-1, vmax=1)
axes[2].set(title="their filters, arranged", xticks=[], yticks=[])
axes[3].plot(np.arange(len(costs)) * 200, costs)
axes[3].set(title="distance between neighbours", xlabel="move")
plt.show()
