"""
Ways down an error surface
==========================

C(w1, w2) = (w1 w2 - 1.5)^2 + 0.04 (w1^2 + w2^2): a network of one hidden linear unit, with weight decay. It has two
minima and a saddle between them. Gradient descent at 0.25 arrives; at 0.35 it is thrown across the saddle into the
other valley. Newton's step goes to the saddle, where a curvature is negative; the saddle-free one (Dauphin et al.,
2014) takes the curvatures' absolute values. Momentum carries on through flat places and averages noise away. Twice w1
and half w2 is the same function, but its gradients are others.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn


def cost(w):
    w1, w2 = w[0], w[1]
    return (w1 * w2 - 1.5) ** 2 + 0.04 * (w1**2 + w2**2)


slope, hessian = fn.grad(cost), fn.hessian(cost)


def descend(start, direction, steps=25):
    path = [np.array(start, np.float64)]
    for _ in range(steps):
        step = direction(path[-1])
        path.append(path[-1] + np.clip(step, -3, 3))
    return np.array(path)


def saddle_free(w):
    values, vectors = np.linalg.eigh(hessian(w))
    return -vectors @ ((vectors.T @ slope(w)) / np.maximum(np.abs(values), 1e-3))


class Momentum:
    """The velocity keeps 0.8 of itself; noise of a deviation of its own is added to each gradient."""

    def __init__(self, rate, noise=0.0):
        self.rate, self.noise, self.velocity = rate, noise, np.zeros(2)
        self.rng = np.random.default_rng(1)

    def __call__(self, w):
        self.velocity = 0.8 * self.velocity - self.rate * (slope(w) + self.noise * self.rng.normal(size=2))
        return self.velocity


START = (0.3, 2.2)
paths = {
    "gradient descent, rate 0.25": descend(START, lambda w: -0.25 * slope(w)),
    "gradient descent, rate 0.35": descend(START, lambda w: -0.35 * slope(w)),
    "Newton, to the saddle": descend((0.4, 0.5), lambda w: -np.linalg.solve(hessian(w), slope(w)), 6),
    "saddle-free Newton": descend((0.4, 0.5), saddle_free, 12),
    "momentum 0.8, rate 0.05": descend(START, Momentum(0.05), 60),
    "the same with noisy gradients": descend(START, Momentum(0.05, noise=1.0), 60),
}
product = fn.grad(lambda w: (w[0] * w[1] - 1.5) ** 2)
print("without decay, (1, 1) and (2, 0.5) are the same network:", product(np.ones(2)), product(np.array([2, 0.5])))
for name, path in paths.items():
    print(f"{name:30} ends at {path[-1].round(3)} with a cost of {cost(path[-1]):.4f}")

across = np.linspace(-2.6, 2.8, 200)
surface = cost(np.stack(np.meshgrid(across, across)))
figure, axes = plt.subplots(2, 3, figsize=(12, 7.6), layout="constrained", sharex=True, sharey=True)
for ax, (name, path) in zip(axes.flat, paths.items(), strict=True):
    ax.contour(across, across, surface, np.geomspace(0.06, 60, 16), cmap="Blues_r", linewidths=0.8)
    ax.plot(*path.T, "o-", color="tab:orange", markersize=3, linewidth=1)
    ax.plot(*path[0], "ko")
    ax.set(title=name, xlim=(-2.6, 2.8), ylim=(-2.6, 2.8), xlabel="w1", ylabel="w2")
plt.show()
