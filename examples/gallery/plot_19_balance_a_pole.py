"""
Balancing a pole
================

A cart carries a pole and is pushed left or right (Barto, Sutton, Anderson, 1983). REINFORCE (Williams, 1992) raises the
probability of what was followed by much reward; a deep Q-network (Mnih et al., 2015) learns what each push is worth,
from a memory of the past. Both make thousands of tiny updates, so that the time of a single call is what counts.
"""

import os
import time

import matplotlib.pyplot as plt
import numpy as np
from _beside_pytorch import print_speeds
from _pole import new_episode, push

import fastnn as fn
from fastnn import nn, optim

UPDATES, FRAMES = (6, 2000) if "FASTNN_QUICK" in os.environ else (60, 20000)
rng = np.random.default_rng(0)
F = nn.functional


def network():
    fn.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))


# %%
# REINFORCE: batches of 1000 pushes; a push's return is the discounted time that the pole stands after it.
policy = network()
update = fn.TrainStep(
    policy, lambda out, y: -(F.log_softmax(out, 1) * y).sum(1).mean(), optim.Adam(policy.parameters(), 0.01)
)
by_policy, state, length, began = [], new_episode(rng), 0, time.perf_counter()
for _ in range(UPDATES):
    states, chosen, ends = np.empty((1000, 4), np.float32), np.empty(1000, int), np.zeros(1000, bool)
    for t in range(1000):
        states[t] = state
        left, right = policy(states[t : t + 1])[0]
        chosen[t] = rng.random() < 1 / (1 + np.exp(left - right))
        state, fallen = push(state, chosen[t])
        length += 1
        if fallen or length == 500:
            ends[t], state = True, new_episode(rng)
            by_policy.append(length)
            length = 0
    returns = np.zeros(1001)
    for t in reversed(range(1000)):
        returns[t] = 1 + 0.98 * returns[t + 1] * (not ends[t])
    advantage = (returns[:-1] - returns[:-1].mean()) / returns[:-1].std()
    update(states, (np.eye(2)[chosen] * advantage[:, None]).astype(np.float32))
print(f"REINFORCE: {np.mean(by_policy[-10:]):.0f} pushes an episode, {time.perf_counter() - began:.1f} s")

# %%
# DQN: after each push, 64 remembered ones are learned from. Every 200 pushes the target network catches up.
q, target, began = network(), network(), time.perf_counter()
learn = fn.TrainStep(
    q, lambda out, y: (((out * y[:, :2]).sum(1) - y[:, 2]) ** 2).mean(), optim.Adam(q.parameters(), 1e-3)
)
states, afters, pushes = (np.zeros((FRAMES, n), np.float32) for n in (4, 4, 3))  # a push: left, right, fallen
by_value, state, length = [], new_episode(rng), 0
for t in range(FRAMES):
    explores = rng.random() < max(0.02, 1 - t / 3000)
    right = int(rng.integers(2) if explores else q(state[None].astype(np.float32)).argmax())
    states[t], (state, fallen), length = state, push(state, right), length + 1
    afters[t], pushes[t] = state, (1 - right, right, fallen)
    if fallen or length == 500:
        by_value.append(length)
        state, length = new_episode(rng), 0
    if t >= 500:
        pick = rng.integers(0, t, 64)
        value = 1 + 0.98 * target(afters[pick]).max(1) * (1 - pushes[pick, 2])
        learn(states[pick], np.column_stack([pushes[pick, :2], value]))
    if t % 200 == 0:
        target.load_state_dict(q.state_dict())
rate = FRAMES / (time.perf_counter() - began)
print(f"DQN: {np.mean(by_value[-10:]):.0f} pushes an episode, {rate:.0f} updates a second")
print_speeds(q, states[:64], states[:64, :2].copy(), UPDATES * 10)

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
for ax, (name, lengths) in zip(axes, (("REINFORCE", by_policy), ("DQN", by_value)), strict=True):
    ax.plot(lengths, ".", markersize=3)
    ax.plot(np.convolve(lengths, np.ones(5) / 5, "valid"), label="mean of 5")
    ax.set(title=name, xlabel="episode", ylabel="pushes until it falls, 500 at most")
    ax.legend()
plt.show()
