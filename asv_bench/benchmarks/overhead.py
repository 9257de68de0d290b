"""What it costs besides arithmetic: calls of tiny networks, planning, importing, installing."""

from __future__ import annotations

import importlib.metadata
import io
import zipfile

import fastnn as fn

from .common import batch, inference, model, training, training_step

TINY = "MLP 4-64-64-2"
CALLS = 100


class HundredCalls:
    """Microseconds each, so a hundred of them are timed together."""

    def setup(self):
        self.step, self.call = training(TINY, 32), inference(TINY, 1)

    def time_training(self):
        for _ in range(CALLS):
            self.step()

    def time_inference(self):
        for _ in range(CALLS):
            self.call()


class Planning:
    """From a model to a plan: tracing, gradients, passes, memory."""

    params = ["MLP 784-512-256-10", "LeNet-5", "ResNet-18"]
    param_names = ["network"]

    def setup(self, network):
        self.batch = batch(network, 2)
        self.step = training_step(network)
        self.model = model(network).eval()
        self.step.plan(*self.batch)

    def time_training_plan(self, network):
        fn.TrainStep(self.step.model, self.step.loss, self.step.optimizer).plan(*self.batch)

    def time_summary(self, network):
        """Plans anew each time, as a first inference does."""
        self.model.summary(*self.batch[0].shape[1:])


def timeraw_import():
    """What fastnn adds to NumPy's own import."""
    return "import fastnn", "import numpy"


class Wheel:
    """The installed files, compressed as a wheel is."""

    unit = "bytes"

    def setup(self):
        try:
            self.files = importlib.metadata.files("fastnn") or []
        except importlib.metadata.PackageNotFoundError:
            raise NotImplementedError("fastnn runs from its sources") from None

    def track_size(self):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
            for file in self.files:
                path = file.locate()
                if path.is_file() and path.suffix != ".pyc":
                    wheel.write(path, str(file))
        return len(packed.getvalue())
