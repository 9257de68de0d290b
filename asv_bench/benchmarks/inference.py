"""Inference of whole networks: an array in, an array out."""

from __future__ import annotations

from .common import inference

CALLS = {
    "MLP 784-512-256-10, batch 1": ("MLP 784-512-256-10", 1),
    "LeNet-5, batch 1": ("LeNet-5", 1),
    "ResNet-20, batch 1": ("ResNet-20", 1),
    "ResNet-18, batch 1": ("ResNet-18", 1),
    "ResNet-18, batch 16": ("ResNet-18", 16),
    "AlexNet, batch 1": ("AlexNet", 1),
    "AlexNet, batch 32": ("AlexNet", 32),
}


class Inference:
    params = list(CALLS)
    param_names = ["network"]
    rounds = 2
    frozen = False

    def setup(self, network):
        self.call = inference(*CALLS[network], frozen=self.frozen)

    def time_call(self, network):
        self.call()


class FrozenInference(Inference):
    frozen = True
