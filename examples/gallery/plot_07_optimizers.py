"""
Optimizers on a ravine, a saddle and on digits
==============================================

On a ravine, steep across and flat along, plain gradient descent creeps; momentum builds up speed along it, and methods
that scale each weight by its own gradients walk straight. Beside a saddle these leave soonest. On digits, with rates
that are usual, all get there: the order is another, and no optimizer is the best of all.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn, optim

EPOCHS = 3 if "FASTNN_QUICK" in os.environ else 15
kinds = {  # with the learning rates for the surfaces and for digits
    "SGD": (optim.SGD, {}, 0.1, 0.1),
    "momentum": (optim.SGD, dict(momentum=0.9), 0.1, 0.05),
    "Nesterov": (optim.SGD, dict(momentum=0.9, nesterov=True), 0.1, 0.05),
    "Adagrad": (optim.Adagrad, {}, 0.5, 0.05),
    "RMSprop": (optim.RMSprop, {}, 0.05, 0.002),
    "Adam": (optim.Adam, {}, 0.1, 0.005),
    "NAdam": (optim.NAdam, {}, 0.1, 0.005),
    "Lion": (optim.Lion, {}, 0.05, 0.001),
}


class Point(nn.Module):
    """A place in the plane, and what a surface is there."""

    def __init__(self, surface, start):
        super().__init__()
        self.surface, self.place = surface, nn.Parameter(np.array(start))

    def forward(self, x):
        return self.surface(self.place[0], self.place[1]) + 0 * x.sum()


def ravine(a, b):
    return 0.05 * a**2 + 4 * b**2


def saddle(a, b):
    return 0.5 * a**2 - 0.5 * b**2 + 0.05 * b**4


figure, axes = plt.subplots(1, 3, figsize=(16, 4.6), layout="constrained")
for ax, surface, start in ((axes[0], ravine, (-4.0, 1.4)), (axes[1], saddle, (-3.5, 0.01))):
    across, along = np.linspace(-5, 5, 200), np.linspace(-3, 3, 200)
    ax.contour(across, along, surface(*np.meshgrid(across, along)), 25, cmap="Greys", linewidths=0.7)
    for name, (kind, settings, rate, _) in kinds.items():
        point = Point(surface, start)
        optimizer, path = kind(point.parameters(), rate, **settings), [point.place.data.copy()]
        for _ in range(60):
            optimizer.zero_grad()
            point.forward_train(np.zeros((1, 1)))
            point.backward(np.ones(()))
            optimizer.step()
            path.append(point.place.data.copy())
        ax.plot(*np.array(path).T, ".-", markersize=3, linewidth=1, label=name)
        print(f"{surface.__name__:7} {name:9} ends at {path[-1].round(2)}")
    ax.set(title=f"{surface.__name__}, 60 steps", xlim=(-5, 5), ylim=(-3, 3))
axes[0].legend(fontsize=7, ncols=2)

x, labels = fn.data.digits("train", flatten=True)
for name, (kind, settings, _, rate) in kinds.items():
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), kind(model.parameters(), rate, **settings))
    losses = trainer.fit((x, labels), epochs=EPOCHS, batch_size=32, verbose=0).history["loss"]
    axes[2].semilogy(np.arange(EPOCHS) + 1, losses, label=name)
axes[2].set(title="digits: training loss", xlabel="epoch")
axes[2].legend(fontsize=7)
plt.show()
