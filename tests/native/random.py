"""The random stem's native ops as functions."""

import numpy as np

from native import run_op

FILL_STEP = 2**64 - 1  # the twins' arrays are of this step


def state_of(seed, step):
    return np.array([seed, step], np.uint64)


def philox(seed, step, stream, n, first=0):
    """n words of a stream."""
    out = np.empty(n, np.uint32)
    run_op("philox", np.float32, out=out, state=state_of(seed, step), n=n, stream=stream, first=first)
    return out


def dropout(x, p, seed, step, stream, inner=1, period=0):
    y = np.empty_like(x)
    run_op("dropout", y=y, x=x, state=state_of(seed, step), n=x.size, stream=stream, inner=inner, period=period, p=p)
    return y


def advance(state):
    """Adds 1 to state[1]."""
    run_op("advance", np.float64, state=state)


def uniform(seed, stream, n):
    out = np.empty(n)
    run_op("uniform", out=out, state=state_of(seed, FILL_STEP), n=n, stream=stream)
    return out


def normal(seed, stream, n):
    out = np.empty(n)
    run_op("normal", out=out, state=state_of(seed, FILL_STEP), n=n, stream=stream)
    return out
