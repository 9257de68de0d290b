"""
Residual connections and depth
==============================

Blocks that add what they compute to what they were given (He et al., 2016) train at any depth: at worst a block does
nothing. Without the connection, the same blocks stop learning when there are many of them.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn, optim

QUICK = "FASTNN_QUICK" in os.environ
EPOCHS = 3 if QUICK else 15
DEPTHS = (2, 20) if QUICK else (2, 5, 10, 20, 50, 100)
x, labels = fn.data.digits("train", flatten=True)
test = fn.data.digits("test", flatten=True)


class Block(nn.Module):
    def __init__(self, width, residual):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.residual = residual

    def forward(self, x):
        y = nn.functional.tanh(self.linear(x))
        return x + y if self.residual else y


def network(depth, residual, width=48):
    blocks = (Block(width, residual) for _ in range(depth))
    return nn.Sequential(nn.Linear(64, width), nn.Tanh(), *blocks, nn.LayerNorm(width), nn.Linear(width, 10))


figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
for residual, name in ((False, "plain"), (True, "residual")):
    errors = []
    for depth in DEPTHS:
        fn.manual_seed(0)
        model = network(depth, residual)
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=1e-3))
        history = trainer.fit((x, labels), validation_data=test, epochs=EPOCHS, batch_size=32, verbose=0).history
        errors.append(1 - history["val_accuracy"][-1])
        if depth in DEPTHS[-1:]:
            left.semilogy(np.arange(EPOCHS) + 1, history["loss"], label=f"{name}, {depth} blocks")
    print(f"{name:8}: test error by depth", {d: f"{e:.1%}" for d, e in zip(DEPTHS, errors, strict=True)})
    right.plot(DEPTHS, errors, "o-", label=name)
left.set(title=f"{DEPTHS[-1]} blocks", xlabel="epoch", ylabel="training loss")
right.set(title=f"after {EPOCHS} epochs", xlabel="blocks", ylabel="test error", ylim=(0, 1))
for ax in (left, right):
    ax.legend()
plt.show()
