"""
Learning rates over time
========================

Schedules, drawn; a range test (Smith, 2017), which raises the rate from step to step and shows where the loss begins to
fall and where it explodes; and cyclical rates and warm restarts (Loshchilov and Hutter, 2017) beside a constant one.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn
from fastnn import nn, optim
from fastnn.optim import lr_scheduler as schedules
from fastnn.plotting import plot_range_test

STEPS, EPOCHS = 100, 4 if "FASTNN_QUICK" in os.environ else 30
x, labels = fn.data.digits("train", flatten=True)
test = fn.data.digits("test", flatten=True)


def network():
    fn.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


drawn = {
    "step": lambda o: schedules.StepLR(o, 30, 0.5),
    "exponential": lambda o: schedules.ExponentialLR(o, 0.97),
    "1 / t": lambda o: schedules.InverseTimeLR(o, 20, 1.0),
    "polynomial": lambda o: schedules.PolynomialLR(o, 100, 2.0),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, 100),
    "warm restarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 20, 2),
    "triangular": lambda o: schedules.CyclicLR(o, 0.01, 0.1, 15, cycle_momentum=False),
    "triangular2": lambda o: schedules.CyclicLR(o, 0.01, 0.1, 15, mode="triangular2", cycle_momentum=False),
    "one cycle": lambda o: schedules.OneCycleLR(o, 0.1, 101),
}
figure = plt.figure(figsize=(15, 7), layout="constrained")
upper, lower = figure.subfigures(2, 1)
for ax, (name, make) in zip(upper.subplots(1, len(drawn), sharey=True), drawn.items(), strict=True):
    optimizer = optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    schedule, rates = make(optimizer), []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    ax.plot(rates)
    ax.set_title(name, fontsize=10)

# %%
# The range test: 200 steps, the rate from 1e-4 to 30; model and optimizer are then as they were.
beside = lower.subfigures(1, 2)
model = network()
trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
found = fn.train.lr_range_test(trainer, (x, labels), min_lr=1e-4, max_lr=30, num_training=200, seed=0)
plot_range_test(found, beside[0])
beside[0].axes[0].set(title="range test", ylim=(0, 5))
print(f"the loss falls most steeply at a rate of {found.suggestion():.2g}")
right = beside[1].subplots()

ways = {
    "constant": lambda o: schedules.ConstantLR(o, 1.0),
    "cyclical": lambda o: schedules.CyclicLR(o, 0.01, 0.2, 3, cycle_momentum=False),
    "warm restarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 4, 2),
}
for name, make in ways.items():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.2)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer)
    watch = [fn.callbacks.Scheduler(make(optimizer))]
    history = trainer.fit((x, labels), validation_data=test, epochs=EPOCHS, batch_size=32, callbacks=watch, verbose=0)
    error = 1 - np.array(history.history["val_accuracy"])
    print(f"{name:13}: test error {error[-1]:.2%}, best {error.min():.2%}")
    right.semilogy(np.arange(EPOCHS) + 1, history.history["val_loss"], label=name)
right.set(title="digits: test loss", xlabel="epoch")
right.legend()
plt.show()
