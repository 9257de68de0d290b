"""The optimizer stem's native ops as functions, on one parameter."""

import numpy as np

from fastnn_ext.optimizer import HYPER_NAMES

from native import run_op


def hyper(kernel, **numbers):
    """What the op reads at each step; by default 0."""
    assert numbers.keys() <= set(HYPER_NAMES[kernel])
    return np.array([numbers.get(name, 0.0) for name in HYPER_NAMES[kernel]])


def memory(kernel, hyper):
    """What an op reads beside its arrays; all updates are the parameter's."""
    at = HYPER_NAMES[kernel].index("updates")
    return {"hyper": hyper, "steps": hyper[at : at + 1].copy(), "begins": np.zeros(1, np.int64)}


def sgd(param, grad, momentum_buffer, hyper, nesterov=False, maximize=False):
    run_op(
        "sgd", param=param, grad=grad, momentum_buffer=momentum_buffer, **memory("sgd", hyper), n=param.size, count=1,
        nesterov=nesterov, maximize=maximize,
    )  # fmt: skip


def adam(param, grad, m, v, vmax, hyper, decoupled=False, maximize=False):
    run_op(
        "adam", param=param, grad=grad, exp_avg=m, exp_avg_sq=v, max_exp_avg_sq=vmax, **memory("adam", hyper),
        n=param.size, count=1, decoupled=decoupled, maximize=maximize,
    )  # fmt: skip


def rmsprop(param, grad, square, buffer, mean, hyper, maximize=False):
    run_op(
        "rmsprop", param=param, grad=grad, square_avg=square, momentum_buffer=buffer, grad_avg=mean,
        **memory("rmsprop", hyper), n=param.size, count=1, maximize=maximize,
    )  # fmt: skip


def tick(hyper, steps, updates, condition=-1):
    """Adds 1 to hyper[updates], and to all steps unless hyper[condition] is 0."""
    run_op("tick", hyper=hyper, steps=steps, count=steps.size, updates=updates, condition=condition)
