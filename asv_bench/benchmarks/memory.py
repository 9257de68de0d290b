"""Peak memory of a process that trains, and the arenas of plans."""

from __future__ import annotations

from .common import batch, model, training, training_step

SIZES = {"MLP 784-512-256-10": 128, "LeNet-5": 64, "ResNet-20": 128, "ResNet-18": 16, "AlexNet": 32}


class Peak:
    params = list(SIZES)
    param_names = ["network"]

    def setup(self, network):
        model(network)

    def peakmem_training(self, network):
        training(network, SIZES[network])()


class Arena:
    params = list(SIZES)
    param_names = ["network"]
    unit = "bytes"

    def setup(self, network):
        self.batch = batch(network, SIZES[network])
        self.step, self.model = training_step(network), model(network).eval()

    def track_training(self, network):
        return self.step.plan(*self.batch).arena_bytes

    def track_inference(self, network):
        return self.model.plan(self.batch[0]).arena_bytes
