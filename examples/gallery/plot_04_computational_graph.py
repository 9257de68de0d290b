"""
The computational graph
=======================

f(x, y, z) = (x + y) z at (-2, 5, -4), drawn with its values and, below them in red, its gradients: each node hands the
gradient of f with respect to its output on to its inputs, times its own derivatives. A scalar chain shows the same step
by step. In a directed acyclic graph of bricks, a weight that is used twice gets the sum of both gradients.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn

f = fn.value_and_grad(lambda x, y, z: ((x + y) * z).sum(), argnums=(0, 1, 2))
x, y, z = (np.array([v], np.float32) for v in (-2, 5, -4))
value, (dx, dy, dz) = f(x, y, z)
assert (value, dx, dy, dz) == (-12, -4, -4, 3)

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained", width_ratios=[3, 2])
nodes = {
    "x": (0, 2, x[0], dx[0]),
    "y": (0, 1, y[0], dy[0]),
    "z": (0, 0, z[0], dz[0]),
    "+": (1, 1.5, x[0] + y[0], z[0]),
    "×": (2, 0.8, value, 1.0),
}
for a, b in (("x", "+"), ("y", "+"), ("+", "×"), ("z", "×")):
    left.annotate("", nodes[b][:2], nodes[a][:2], arrowprops=dict(arrowstyle="->", shrinkA=22, shrinkB=22))
for name, (i, j, here, slope) in nodes.items():
    left.text(i, j, name, ha="center", va="center", size=16, bbox=dict(boxstyle="circle", fc="white"))
    left.text(i + 0.16, j + 0.18, f"{here:g}", color="tab:green", size=12)
    left.text(i + 0.16, j - 0.28, f"{slope:g}", color="tab:red", size=12)
left.set(xlim=(-0.4, 2.6), ylim=(-0.5, 2.5), title="(x + y) z: values in green, gradients in red")
left.set_axis_off()

# %%
# A chain by hand, as backpropagation goes: forward keeps each value, backward multiplies the local derivatives.
u0 = 0.5
u1 = 3 * u0
u2 = np.tanh(u1)
steps = [("u3 = u2^2", u2**2, 1.0)]
steps.append(("u2 = tanh u1", u2, steps[-1][2] * 2 * u2))
steps.append(("u1 = 3 u0", u1, steps[-1][2] * (1 - u2**2)))
steps.append(("u0", u0, steps[-1][2] * 3))
for name, here, slope in steps:
    print(f"{name:14} value {here:8.5f}   d u3 / d {name[:2]} = {slope:.5f}")
by_program = fn.grad(lambda u: (nn.functional.tanh(3.0 * u) ** 2).sum())(np.array([u0]))
assert np.isclose(by_program[0], steps[-1][2])


# %%
# Bricks in a graph: the input takes two ways, and both use the same weight.
class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.brick = nn.Linear(3, 3)

    def forward(self, x):
        return (self.brick(nn.functional.tanh(self.brick(x))) + nn.functional.tanh(self.brick(-x))).sum()


model, point = Shared().double(), np.ones((1, 3))
model.forward_train(point)
model.backward(np.ones(()))
analytic, numeric = model.brick.weight.grad.copy(), np.zeros((3, 3))
for place in np.ndindex(3, 3):
    for sign in (1, -1):
        model.brick.weight.data[place] += sign * 1e-5
        numeric[place] += sign * model(point) / 2e-5
        model.brick.weight.data[place] -= sign * 1e-5
print("largest difference from finite differences:", np.abs(analytic - numeric).max())
bound = 1.1 * np.abs(analytic).max()
right.plot([-bound, bound], [-bound, bound], color="0.8")
right.plot(numeric.ravel(), analytic.ravel(), "o")
right.set(title="a weight used three times", xlabel="by differences", ylabel="by backpropagation")
plt.show()
