"""
Decision boundaries while they are learned
==========================================

Four small sets of points that no line parts, and what a network makes of the plane: its boundary at the end, the views
of its hidden units, each one a soft line, and, as an animated GIF, all of that while it trains.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter

import fastnn as fn
from fastnn import nn, optim

QUICK = "FASTNN_QUICK" in os.environ
FRAMES, STEPS = (4, 20) if QUICK else (40, 25)
sets = {
    "spirals": fn.data.spirals(300, classes=2, noise=0.1),
    "moons": fn.data.moons(200),
    "circles": fn.data.circles(200),
    "XOR": fn.data.xor(200, noise=0.15),
}


def network(width=16):
    fn.manual_seed(2)
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))


def prepared(model, points, labels):
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.02))
    x = points.astype(np.float32)
    return lambda: [step(x, labels) for _ in range(STEPS)][-1]


figure = plt.figure(figsize=(14, 7.2), layout="constrained")
upper, lower = figure.subfigures(2, 1)
for place, (name, (points, labels)) in zip(upper.subfigures(1, 4), sets.items(), strict=True):
    model = network()
    train = prepared(model, points, labels)
    for _ in range(FRAMES):
        train()
    right = np.mean(model(points.astype(np.float32)).argmax(1) == labels)
    print(f"{name}: {right:.0%} right")
    fn.plotting.plot_decision_boundary(model, points, labels, figure=place)
    place.suptitle(f"{name}: {right:.0%} right")
    if name == "spirals":
        across = np.linspace(-1.2, 1.2, 60, dtype=np.float32)
        plane = np.stack(np.meshgrid(across, across), 2).reshape(-1, 2)
        views = np.asarray(model[:4](plane)).T.reshape(-1, 60, 60)
for ax, view in zip(lower.subplots(2, 8).ravel(), views, strict=True):
    ax.imshow(view, origin="lower", cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[])
lower.suptitle("spirals: the views of the second layer's hidden units")

# %%
# The film: each frame is drawn anew after some steps.
film = plt.figure(figsize=(4.5, 4.5))
points, labels = sets["spirals"]
model = network()
train = prepared(model, points, labels)


def draw(frame):
    film.clear()
    loss = train() if frame else float("nan")
    fn.plotting.plot_decision_boundary(model, points, labels, 80, figure=film)
    film.suptitle(f"step {frame * STEPS}, loss {loss:.3f}" if frame else "before training")


FuncAnimation(film, draw, FRAMES, init_func=lambda: None).save("spirals.gif", PillowWriter(fps=8))
plt.close(film)
print("spirals.gif: the boundary while it is learned")
plt.show()
