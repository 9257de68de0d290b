"""Optimizers with PyTorch's semantics, each parameter with a state and a count of steps of its own.

A parameter whose gradient is None is left alone: no decay, no state, no step. So is one that does not
require a gradient, which is fastnn's rule: such a parameter is not updated.
"""

import numpy as np


class Optimizer:
    def __init__(self, params, settings):
        params = list(params)
        if not params:
            raise ValueError("params is empty: there is nothing to optimize")
        groups = params if isinstance(params[0], dict) else [{"params": params}]
        self.param_groups = [{**settings, **group, "params": list(group["params"])} for group in groups]
        self.state = [[{"steps": 0} for _ in group["params"]] for group in self.param_groups]

    def zero_grad(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self):
        for group, states in zip(self.param_groups, self.state, strict=True):
            for p, state in zip(group["params"], states, strict=True):
                if p.grad is not None and p.requires_grad:
                    state["steps"] += 1
                    self.update(p, p.grad, state, group)

    @property
    def lr(self):
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value):
        for group in self.param_groups:
            group["lr"] = value

    def state_dict(self):
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        return {"settings": settings, "state": [[dict(state) for state in states] for states in self.state]}

    def load_state_dict(self, saved):
        for group, settings in zip(self.param_groups, saved["settings"], strict=True):
            group.update(settings)
        self.state = [[dict(state) for state in states] for states in saved["state"]]


class SGD(Optimizer):
    def __init__(self, params, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
        settings = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
        super().__init__(params, {**settings, "nesterov": nesterov})

    def update(self, p, g, state, group):
        g = g + group["weight_decay"] * p.data
        if group["momentum"]:
            before = state.get("momentum_buffer")
            fresh = (1 - group["dampening"]) * g
            b = g if before is None else group["momentum"] * before + fresh
            state["momentum_buffer"] = b
            g = g + group["momentum"] * b if group["nesterov"] else b
        p.data = p.data - group["lr"] * g


class Adam(Optimizer):
    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
        settings = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, {**settings, "amsgrad": amsgrad})

    def update(self, p, g, state, group):
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        if self.decoupled:
            p.data = p.data * (1 - lr * decay)
        else:
            g = g + decay * p.data
        state["exp_avg"] = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * g
        state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * g * g
        square = state["exp_avg_sq"]
        if group["amsgrad"]:
            square = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0.0), square)
        mean = state["exp_avg"] / (1 - beta1 ** state["steps"])
        square = square / (1 - beta2 ** state["steps"])
        p.data = p.data - lr * mean / (np.sqrt(square) + group["eps"])


class AdamW(Adam):
    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)
