"""Training steps and evaluation."""

import numpy as np

from eager.nn import Loss, accumulate
from eager.tensor import gradients, run, to_arrays


class TrainStep:
    """The optimizer's zero_grad, forward, loss, gradients for its parameters, and its step."""

    def __init__(self, model, loss, optimizer, outputs=False):
        self.model, self.loss, self.optimizer, self.outputs = model, loss, optimizer, outputs

    def __call__(self, *batch):
        def forward(*tensors):
            output = self.model(*tensors[:-1])
            return self.loss(output, tensors[-1]), output

        loss, output = run(forward, batch)[1]
        held = [p for group in self.optimizer.param_groups for p in group["params"]]
        trained = [p for p in held if p.requires_grad]
        grads = gradients([(loss, 1.0)], trained)
        if all(grad is None for grad in grads):
            raise ValueError("the loss depends on no trainable parameter that the optimizer holds")
        self.optimizer.zero_grad()
        accumulate(trained, grads)
        self.optimizer.step()
        return (to_arrays(loss), to_arrays(output)) if self.outputs else to_arrays(loss)


class Trainer:
    def __init__(self, model, loss, optimizer, metrics=("accuracy",)):
        self.model, self.loss, self.metrics = model, loss, metrics

    def evaluate(self, data, batch_size=256):
        """The loss of the whole set, whatever the size of the batches: each batch's counts by its share.

        Accuracy is that of the rows which the loss does not ignore.
        """
        before = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        losses, shares, hits, counts = [], [], 0, 0
        for start in range(0, len(data[0]), batch_size):
            *inputs, target = (a[start : start + batch_size] for a in data)
            loss, output = run(lambda *t: (lambda out: (self.loss(out, t[-1]), out))(self.model(*t[:-1])),
                               [*inputs, target])[1]  # fmt: skip
            share = self.loss.share(target) if isinstance(self.loss, Loss) else len(target)
            if share:
                losses.append(float(loss.data) * share)
                shares.append(share)
            if "accuracy" in self.metrics:
                counted = target != getattr(self.loss, "ignore_index", -100)
                hits += int(np.sum((output.data.argmax(1) == target)[counted]))
                counts += int(np.sum(counted))
        for module, training in before:
            module.training = training
        summed = getattr(self.loss, "reduction", "mean") == "sum"
        logs = {"loss": sum(losses) if summed else sum(losses) / sum(shares)}
        return logs | ({"accuracy": hits / counts} if "accuracy" in self.metrics else {})
