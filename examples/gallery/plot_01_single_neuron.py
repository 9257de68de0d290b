"""
A single neuron, and what it cannot do
======================================

One neuron is a perceptron, a logistic or a linear regression, by its activation and loss. Each parts the plane by a
straight line; XOR has no such line (Minsky and Papert, 1969). What helps: basis functions made by hand, units that are
OR and AND, or a hidden layer that finds such units itself.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn, optim

fn.manual_seed(1)
rng = np.random.default_rng(0)
cloud = np.concatenate([rng.normal([-1, -1], 0.7, (40, 2)), rng.normal([1, 1], 0.7, (40, 2))]).astype(np.float32)
side = np.repeat([0, 1], 40)
corners, xor = fn.data.xor(80, noise=0.1)
corners = corners.astype(np.float32)

# %%
# The perceptron rule (Rosenblatt, 1958): a point on the wrong side moves the line towards itself.
perceptron = nn.Linear(2, 1)
perceptron.weight.data[:] = perceptron.bias.data[:] = 0
rule = fn.TrainStep(perceptron, nn.PerceptronLoss("sum"), optim.SGD(perceptron.parameters(), lr=1.0))
for _ in range(20):
    for point, label in zip(cloud, side, strict=True):
        rule(point[None], np.array([[label]], np.float32))


def trained(model, loss, x, y, steps=400):
    step = fn.TrainStep(model, loss, optim.Adam(model.parameters(), lr=0.05))
    for _ in range(steps):
        step(x, y.astype(np.float32)[:, None])
    return model


# %%
# The same line by the logistic loss and by squares; then XOR, four times.
logistic, linear = nn.Linear(2, 1), nn.Linear(2, 1)
trained(logistic, nn.BCEWithLogitsLoss(), cloud, side)
trained(linear, nn.MSELoss(), cloud, side)
fails = trained(nn.Linear(2, 1), nn.BCEWithLogitsLoss(), corners, xor)


def basis(p):
    """x, y and x y: in this space a plane parts the corners."""
    return np.concatenate([p, p[:, :1] * p[:, 1:]], 1)


by_hand = trained(nn.Linear(3, 1), nn.BCEWithLogitsLoss(), basis(corners), xor)
units = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1))
units[0].weight.data[:] = [[20, 20], [20, 20]]  # OR fires from 0.5 on, AND from 1.5
units[0].bias.data[:] = [-10, -30]
units[2].weight.data[:] = [[20, -20]]  # OR, and not AND
units[2].bias.data[:] = [-10]
learned = trained(nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)), nn.BCEWithLogitsLoss(), corners, xor)

figure = plt.figure(figsize=(13, 7), layout="constrained")
panels = [
    ("perceptron rule", lambda p: 5 * perceptron(p), cloud, side),
    ("logistic regression", logistic, cloud, side),
    ("linear regression, cut at one half", lambda p: 5 * (linear(p) - 0.5), cloud, side),
    ("XOR: no line parts it", fails, corners, xor),
    ("basis functions x, y, x y", lambda p: by_hand(basis(p)), corners, xor),
    ("OR and AND units set by hand", units, corners, xor),
    ("four hidden units, learned", learned, corners, xor),
]
places = figure.subfigures(2, 4).ravel()
for place, (title, model, x, y) in zip(places, panels, strict=False):
    fn.plotting.plot_decision_boundary(model, x, y, figure=place)
    logits = np.asarray(model(x)).reshape(-1)
    place.suptitle(f"{title}\n{np.mean((logits > 0) == y):.0%} right", fontsize=10)
plt.show()
