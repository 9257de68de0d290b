"""
Exploding and vanishing signals
===============================

Through many layers a signal is multiplied by a weight matrix again and again: W^t x grows or dies with the largest
eigenvalue. Activations and gradients do the same, unless weights begin at the right size (Glorot and Bengio, 2010; He
et al., 2015) or batch norm keeps each layer's signals at size one. A gradient that explodes at a cliff throws the
weights far away, unless it is clipped (Pascanu et al., 2013); a ReLU that is zero for all data never learns again.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn

DEPTH, WIDTH, rng = 20, 100, np.random.default_rng(0)
x = rng.normal(size=(256, WIDTH)).astype(np.float32)


def deep(activation, start, norm):
    layers = []
    for _ in range(DEPTH):
        linear = nn.Linear(WIDTH, WIDTH)
        start(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.append(nn.Sequential(linear, *([nn.BatchNorm1d(WIDTH)] if norm else []), activation()))
    return nn.Sequential(*layers)


starts = {
    "small": lambda weight: nn.init.normal_(weight, std=0.05),
    "large": lambda weight: nn.init.normal_(weight, std=0.3),
    "Glorot": nn.init.xavier_normal_,
    "He": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
}
starts["small + batch norm"] = starts["small"]
figure, axes = plt.subplots(2, 4, figsize=(16, 7.5), layout="constrained")
for column, activation in enumerate((nn.Sigmoid, nn.Tanh, nn.ReLU)):
    for name, start in starts.items():
        fn.manual_seed(1)
        model = deep(activation, start, "norm" in name)
        signals = fn.train.Signals(model)(x)  # of all layers, by their names
        outputs = [signals[f"{i}.{len(layer) - 1}"] for i, layer in enumerate(model)]
        axes[0, column].semilogy([np.sqrt(output.var(0).mean()) + 1e-12 for output in outputs], label=name)
        out = model.forward_train(x)
        model.backward(rng.normal(size=out.shape).astype(np.float32) / 256)
        gradients = [np.sqrt(np.mean(layer[0].weight.grad ** 2)) for layer in model]
        axes[1, column].semilogy(np.array(gradients) + 1e-12)
        if activation is nn.ReLU:
            print(f"{name:18}: {np.mean((out <= 0).all(0)):.0%} of the last layer's ReLUs are dead")
    axes[0, column].set(title=f"{activation.__name__}: deviation of a unit", xlabel="layer")
    axes[1, column].set(title="gradients of weights", xlabel="layer")
axes[0, 0].legend(fontsize=8)

# %%
# The linear case; and a cliff: (w^20 - 1)^2, a chain of 20 layers with one weight.
w, v = rng.normal(size=(50, 50)), rng.normal(size=50)
for radius in (0.8, 1.0, 1.25):
    scaled = w * (radius / np.abs(np.linalg.eigvals(w)).max())
    norms = [np.linalg.norm(np.linalg.matrix_power(scaled, t) @ v) for t in range(60)]
    axes[0, 3].semilogy(norms, label=f"largest eigenvalue {radius}")
axes[0, 3].set(title="|W^t x|", xlabel="t")
slope = fn.grad(lambda w: (w**20 - 1) ** 2)
for name, limit in (("gradients as they are", np.inf), ("clipped to 0.5", 0.5)):
    path = [np.float64(1.2)]
    while len(path) < 30 and abs(path[-1]) < 1e3:
        path.append(path[-1] - 0.1 * np.clip(slope(path[-1]), -limit, limit))
    axes[1, 3].plot(path, "o-", markersize=3, label=name)
axes[1, 3].set(title="descending from a cliff to 1", xlabel="step", ylabel="w", ylim=(-3, 2))
axes[0, 3].legend(fontsize=8)
axes[1, 3].legend(fontsize=8)
plt.show()
