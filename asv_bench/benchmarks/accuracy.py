"""Accuracy after a fixed budget: speed that costs learning is none."""

from __future__ import annotations

import fastnn as fn
from fastnn import nn, optim


class Digits:
    """Ten epochs on the 1 437 embedded digits; the same bits each time, so any change is real."""

    unit = "% of held-out digits wrong"

    def track_mlp(self):
        return self._error(fn.models.mlp(64, (128, 64), 10))

    def track_convolutions(self):
        pooled = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        last = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        return self._error(nn.Sequential(*pooled, *last, nn.Flatten(), nn.Linear(128, 10)))

    def _error(self, model):
        fn.manual_seed(0)
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        opt = optim.Adam(model.parameters(), lr=3e-3)
        step = fn.TrainStep(model.train(), nn.CrossEntropyLoss(), opt)
        x, y = fn.data.digits("train")
        loader = fn.data.DataLoader((x, y), batch_size=32, shuffle=True, seed=0)
        for _ in range(10):
            for images, labels in loader:
                step(images, labels)
        x, y = fn.data.digits("test")
        return 100.0 * float((model.eval()(x).argmax(1) != y).mean())
