"""Training steps of whole networks: forward, loss, backward, update."""

from __future__ import annotations

from .common import training

STEPS = {
    "MLP 784-512-256-10, batch 32": ("MLP 784-512-256-10", 32),
    "MLP 784-512-256-10, batch 128": ("MLP 784-512-256-10", 128),
    "MLP 784-512-256-10, batch 1024": ("MLP 784-512-256-10", 1024),
    "LeNet-5, batch 64": ("LeNet-5", 64),
    "LeNet-5, batch 256": ("LeNet-5", 256),
    "CIFAR CNN, batch 64": ("CIFAR CNN", 64),
    "ResNet-20, batch 128": ("ResNet-20", 128),
    "ResNet-18, batch 16": ("ResNet-18", 16),
    "AlexNet, batch 32": ("AlexNet", 32),
}


class Training:
    params = list(STEPS)
    param_names = ["network"]
    rounds = 2

    def setup(self, network):
        self.step = training(*STEPS[network])

    def time_step(self, network):
        self.step()
