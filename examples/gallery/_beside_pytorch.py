"""Training steps a second, next to PyTorch's where it is installed."""

import time

import fastnn as fn
from fastnn import nn, optim


def print_speeds(model, x, y, steps):
    """Of Adam's steps of the squared error: the model's own, and those of PyTorch's tanh network of the same sizes."""
    step = fn.TrainStep(model, nn.MSELoss(), optim.Adam(model.parameters(), 1e-3))
    ours = steps_a_second(lambda: step(x, y), steps)
    try:
        import torch
    except ImportError:
        print(f"One step alone: {ours:.0f} a second (PyTorch, to compare with, is not installed)")
        return
    layers = [torch.nn.Linear(*layer.weight.shape[::-1]) for layer in model.modules() if isinstance(layer, nn.Linear)]
    theirs = torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.Tanh())))[:-1]
    optimizer = torch.optim.Adam(theirs.parameters(), 1e-3, fused=True)
    there = torch.tensor(x), torch.tensor(y)

    def torch_step():
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(theirs(there[0]), there[1]).backward()
        optimizer.step()

    print(f"One step alone: {ours:.0f} a second, PyTorch {steps_a_second(torch_step, steps):.0f}")


def steps_a_second(step, steps):
    """By the fastest ten in a row."""
    times = []
    for _ in range(max(steps // 10, 2)):
        began = time.perf_counter()
        for _ in range(10):
            step()
        times.append(time.perf_counter() - began)
    return 10 / min(times)
