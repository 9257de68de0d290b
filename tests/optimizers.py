"""Every optimizer, with settings that matter: a new one takes a line here, and its twin in reference/optimizer.py."""

import pytest

from fastnn import optim

#: Name: class and settings; lr and eps are such that losses move, and that rounding does not decide.
KINDS = {
    "sgd": ("SGD", {"lr": 0.05}),
    "decay": ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "nesterov": ("SGD", {"lr": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.01, "initial_accumulator_value": 0.1}),
    "adadelta": ("Adadelta", {"lr": 0.7, "rho": 0.8, "weight_decay": 0.01}),
    "rmsprop": ("RMSprop", {"lr": 2e-3, "alpha": 0.95, "eps": 1e-3}),
    "centered": (
        "RMSprop",
        {"lr": 1e-3, "eps": 1e-2, "momentum": 0.9, "centered": True, "weight_decay": 0.01},
    ),
    "rprop": ("Rprop", {"lr": 1e-3, "etas": (0.6, 1.1), "step_sizes": (1e-5, 2e-3)}),
    "rprop-": ("Rprop", {"lr": 1e-3, "variant": "rprop-"}),
    "rprop+": ("Rprop", {"lr": 1e-3, "variant": "rprop+"}),
    "adam": ("Adam", {"lr": 2e-3, "weight_decay": 0.01}),
    "amsgrad": ("Adam", {"lr": 2e-3, "amsgrad": True, "betas": (0.8, 0.99)}),
    "uncorrected": ("Adam", {"lr": 2e-3, "eps": 1e-3, "uncorrected_eps": True}),
    "adamw": ("AdamW", {"lr": 2e-3, "weight_decay": 0.05}),
    "adamax": ("Adamax", {"lr": 2e-3, "weight_decay": 0.01}),
    "nadam": ("NAdam", {"lr": 2e-3, "weight_decay": 0.01, "betas": (0.8, 0.99)}),
    "nadamw": ("NAdam", {"lr": 2e-3, "weight_decay": 0.05, "decoupled_weight_decay": True}),
    "radam": ("RAdam", {"lr": 2e-3, "weight_decay": 0.01, "betas": (0.9, 0.99)}),
    "radamw": ("RAdam", {"lr": 2e-3, "weight_decay": 0.05, "decoupled_weight_decay": True}),
    "lion": ("Lion", {"lr": 5e-4, "weight_decay": 0.1}),
}
#: What PyTorch has; of the others the written-out twin is followed.
IN_TORCH = tuple(kind for kind in KINDS if kind not in ("rprop-", "rprop+", "uncorrected", "lion"))
#: Each class once, with the settings of its last kind.
CLASSES = dict(KINDS.values())

every_kind = pytest.mark.parametrize("kind", KINDS)
every_kind_in_torch = pytest.mark.parametrize("kind", IN_TORCH)


def make(kind, params, kit=optim, **settings):
    """An optimizer of a kind; PyTorch's, without its own ways of looping, where kit is torch.optim."""
    name, own = KINDS[kind]
    if kit is not optim:
        settings = {"foreach": False, **settings}
    return getattr(kit, name)(params, **own, **settings)
