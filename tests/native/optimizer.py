"""The optimizer stem's native ops as functions, on one parameter."""

import numpy as np

from fastnn.lowering.signature import signature
from fastnn_ext.optimizer import HYPER_NAMES

from native import run_op


def hyper(kernel, **numbers):
    """What the op reads at each step; by default 0, and nothing is clipped."""
    assert numbers.keys() <= set(HYPER_NAMES[kernel])
    numbers = {"clip_grad_value": np.inf, "averaging_every": 1, **numbers}
    return np.array([numbers.get(name, 0.0) for name in HYPER_NAMES[kernel]])


def state_names(kernel):
    """Of the arrays that it writes to beside the parameter."""
    return [p.name for p in signature(kernel).inputs if p.written]


def update(kernel, param, grad, states, numbers, step=0, averaged=None, **switches):
    """An update after `step` others, of which an average has seen so many (default: all); `states` by name."""
    switches = {p.name: 0 for p in signature(kernel).dims[2:]} | switches
    counters = {"mu_product": np.ones(1)} if kernel == "nadam" else {}
    if "average" in states:
        counters["averaged"] = np.array([float(step if averaged is None else averaged)])
    run_op(
        kernel, param=param, grad=grad, **states, **counters, hyper=hyper(kernel, **numbers), n=param.size, count=1,
        steps=np.array([float(step)]), begins=np.zeros(1, np.int64), **switches,
    )  # fmt: skip


def tick(hyper, steps, updates, condition=-1):
    """Adds 1 to hyper[updates], and to all steps unless hyper[condition] is 0."""
    run_op("tick", hyper=hyper, steps=steps, count=steps.size, updates=updates, condition=condition)
