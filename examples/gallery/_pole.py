"""A cart with a pole on it, as in Barto, Sutton and Anderson (1983) and gymnasium's CartPole."""

import numpy as np


def new_episode(rng):
    """Position, velocity, angle and its velocity, all near zero."""
    return rng.uniform(-0.05, 0.05, 4)


def push(state, right):
    """0.02 s of a cart of 1 kg with a pole of 0.1 kg and 1 m: the new state, and whether it has fallen."""
    _, v, angle, spin = state
    force, sin, cos = (10.0 if right else -10.0), np.sin(angle), np.cos(angle)
    thrust = (force + 0.05 * spin**2 * sin) / 1.1
    turn = (9.8 * sin - cos * thrust) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    state = state + 0.02 * np.array([v, thrust - 0.05 * turn * cos / 1.1, spin, turn])
    return state, abs(state[0]) > 2.4 or abs(state[2]) > 0.21
