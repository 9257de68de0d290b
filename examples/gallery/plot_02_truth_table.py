"""
Any Boolean function as a network
=================================

A truth table becomes a network of two layers by its disjunctive normal form: a hidden unit for each row that is true,
which fires on that row alone (AND), and an output that fires if any does (OR). Nothing is trained. Turned around, a
satisfiability problem becomes a network of its clauses whose loss, as a function of its *input*, is zero exactly at the
solutions, and gradient descent looks for one.
"""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn

D = 6
inputs = np.array(list(product([0, 1], repeat=D)), np.float32)  # all 2^D rows
truth = (inputs.sum(1) % 2 == 1) | (inputs[:, 0] * inputs[:, 3] * inputs[:, 5] == 1)
rows = inputs[truth]

# %%
# A hidden unit adds 1 for each input that is as in its row and subtracts 1 for each that is not: only its own row
# reaches D.
SHARP = 20.0
network = nn.Sequential(nn.Linear(D, len(rows)), nn.Sigmoid(), nn.Linear(len(rows), 1), nn.Sigmoid())
network[0].weight.data[:] = SHARP * (2 * rows - 1)
network[0].bias.data[:] = SHARP * (0.5 - rows.sum(1))
network[2].weight.data[:] = SHARP
network[2].bias.data[:] = -SHARP / 2
output = network(inputs)[:, 0]
assert ((output > 0.5) == truth).all()
print(f"{D} inputs, {len(rows)} hidden units: right on all {len(inputs)} rows")

# %%
# Clauses of three literals over ten variables; x is kept in (0, 1) by a sigmoid. A clause fails as much as all of its
# literals do: the product of their distances from true.
rng = np.random.default_rng(3)
VARIABLES, CLAUSES = 10, 38
solution = rng.integers(0, 2, VARIABLES)
which = np.array([rng.permutation(VARIABLES)[:3] for _ in range(CLAUSES)])
wanted = rng.integers(0, 2, (CLAUSES, 3))
wanted[:, 0] = solution[which[:, 0]]  # so that there is a solution
chosen = np.eye(VARIABLES, dtype=np.float32)[which.T]  # (3, clauses, variables), which pick a literal's variable
signs = (1 - 2 * wanted.T).astype(np.float32)  # a literal's distance from true: x if it wants 0, 1 - x if it wants 1


@fn.value_and_grad
def unsatisfied(z):
    x = 1 / (1 + fn.exp(-z))
    distance = [wanted.T[i].astype(np.float32) + signs[i] * (x @ chosen[i].T) for i in range(3)]
    return (distance[0] * distance[1] * distance[2]).sum()


z, losses = rng.normal(0, 0.5, VARIABLES).astype(np.float32), []
for _ in range(600):
    loss, slope = unsatisfied(z)
    z = z - 0.5 * slope + 0.05 * rng.normal(size=VARIABLES).astype(np.float32)  # noise leads out of flat places
    losses.append(loss)
found = z > 0
failed = CLAUSES - ((found[which] == wanted).any(1)).sum()
print(f"clauses that the found assignment leaves unsatisfied: {failed} of {CLAUSES}")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
left.bar(range(len(inputs)), output, color=np.where(truth, "tab:orange", "tab:blue"))
left.set(
    title=f"{len(rows)} units set by hand: every row of the table", xlabel="row of the truth table", ylabel="output"
)
right.plot(losses)
right.set(
    title=f"{CLAUSES} clauses: {failed} unsatisfied at the end",
    xlabel="step",
    ylabel="loss, of the input",
    yscale="log",
)
plt.show()
