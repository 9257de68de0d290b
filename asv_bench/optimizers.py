"""Bytes a second of each optimizer's update, next to PyTorch's fused one: `python -m asv_bench.optimizers`.

The bytes are those that the algorithm must move: each array of the parameters' size that it reads, and each that it
writes. Updates of both libraries take turns, and the fastest of each is printed; a busy machine shows.
Where PyTorch has no fused update for CPUs, its plain one is measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fn
from asv_bench.benchmarks.optimizer import KINDS
from fastnn import nn, optim


def of_fastnn(name: str, settings: dict[str, Any], n: int) -> Callable[[], object]:
    parameter = nn.Parameter(np.ones(n, np.float32))
    opt = getattr(optim, name)([parameter], lr=1e-5, **settings)
    parameter.grad = np.full(n, 0.5, np.float32)
    return opt.step


def of_torch(name: str, settings: dict[str, Any], n: int) -> tuple[str, Callable[[], object] | None]:
    """PyTorch's update, and how it runs; None where there is none."""
    try:
        import torch
    except ImportError:
        return "", None
    if not hasattr(torch.optim, name):
        return "", None
    torch.set_num_threads(fn.get_num_threads())
    parameter = torch.ones(n, requires_grad=True)
    parameter.grad = torch.full((n,), 0.5)
    for how in ({"fused": True}, {"foreach": False}):
        try:
            step = getattr(torch.optim, name)([parameter], lr=1e-5, **settings, **how).step
            step()
        except (TypeError, RuntimeError):
            continue
        return ("fused" if "fused" in how else "plain"), step
    return "", None


def fastest(calls: list[Callable[[], object] | None], repeats: int) -> list[float]:
    """Seconds of each call, in turns; infinite for None."""
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            if call is not None:
                begin = time.perf_counter()
                call()
                best[i] = min(best[i], time.perf_counter() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes a second of each optimizer's update.")
    parser.add_argument("--parameters", type=int, default=10**7, metavar="N")
    parser.add_argument("--repeats", type=int, default=20, metavar="N")
    args = parser.parse_args()
    print(f"{args.parameters:,} parameters, {fn.get_num_threads()} threads\n")
    print(f"{'optimizer':30}{'fastnn':>12}{'PyTorch':>12}")
    for kind, (name, settings, arrays) in KINDS.items():
        how, theirs = of_torch(name, settings, args.parameters)
        ours = of_fastnn(name, settings, args.parameters)
        ours()
        rates = [4e-9 * arrays * args.parameters / seconds for seconds in fastest([ours, theirs], max(1, args.repeats))]
        print(f"{kind:30}{rates[0]:7.1f} GB/s" + (f"{rates[1]:7.1f} GB/s {how}" if theirs else ""), flush=True)


if __name__ == "__main__":
    main()
