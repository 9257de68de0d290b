"""XOR: no line parts it, so a single layer fails, and one hidden layer of four units learns it."""

import numpy as np

import fastnn as fn
from fastnn import nn, optim

x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
y = np.array([[0], [1], [1], [0]], np.float32)

fn.manual_seed(3)
for name, model in (
    ("one layer", nn.Linear(2, 1)),
    ("a hidden layer", nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))),
):
    step = fn.TrainStep(model, nn.BCEWithLogitsLoss(), optim.Adam(model.parameters(), lr=0.05))
    for _ in range(500):
        loss = step(x, y)
    print(f"{name}: loss {loss:.4f}, right {int(((model(x) > 0) == y).sum())} of 4")
