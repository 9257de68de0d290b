"""What the law of the same bits costs: `python -m asv_bench.same_bits`.

Sums over a batch are cut into pieces by shape alone and combined in a fixed order, so that the bits
do not depend on the threads. Without that law one piece a thread would do: no piece's sums would be
written and read again but those few. Two measurements say what the law costs a training step:

- The step itself, next to the same step with its weight gradients, the largest of these sums, cut
  into one piece a thread. Both live in one process and take turns.
- The part of the step's time that goes into the ops which combine pieces: what could be won, at
  most, by combining nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from asv_bench.peers import machine, networks
from asv_bench.peers.contenders import fastnn as contender
from asv_bench.peers.networks import Network
from asv_bench.peers.rows import Training

#: Native ops that are there to combine pieces.
COMBINING = ("conv2d_weight_grad_sum", "batch_norm_finish", "batch_norm_grad_finish")
STEPS: dict[str, tuple[Callable[[], Network], int]] = {
    "LeNet-5": (networks.lenet5, 64),
    "CIFAR CNN": (networks.cifar_cnn, 64),
    "ResNet-20": (networks.resnet20, 128),
    "ResNet-18": (networks.resnet18, 16),
    "AlexNet": (networks.alexnet, 32),
}
TURN = 0.05


@contextlib.contextmanager
def one_piece_a_thread(threads: int) -> Iterator[None]:
    """Plans made in this block cut weight gradients by the threads, at the expense of the law."""
    from fastnn_ext import conv2d

    by_shape = conv2d.weight_grad_pieces

    def by_threads(**sizes: int) -> tuple[int, int]:
        pieces, elements = by_shape(**sizes)
        return min(pieces, threads), elements

    conv2d.weight_grad_pieces = by_threads
    try:
        yield
    finally:
        conv2d.weight_grad_pieces = by_shape


def measure(network: Network, batch: int, threads: int, seconds: float) -> dict[str, Any]:
    import fastnn as fn

    fn.set_num_threads(threads)
    work = Training(network, batch, "sgd")
    x, y = network.batch(batch)
    law = contender.training_step(contender.build(network.layers), work)
    free = contender.training_step(contender.build(network.layers), work)
    law(x, y)
    with one_piece_a_thread(threads):
        free(x, y)
    times: dict[str, list[float]] = {"law": [], "free": []}
    end = time.perf_counter() + 2 * seconds
    while time.perf_counter() < end or len(times["law"]) < 3:
        for name, step in (("law", law), ("free", free)):
            step(x, y)
            begun = time.perf_counter()
            calls = 0
            while calls == 0 or time.perf_counter() < begun + TURN:
                step(x, y)
                calls += 1
            times[name].append((time.perf_counter() - begun) / calls)
    profile = law.plan(x, y).profile(x, y, repeats=3)
    combining = sum(seconds for op, seconds in profile.by_kernel().items() if op in COMBINING)
    return {
        "network": network.name,
        "batch": batch,
        "threads": threads,
        **{f"{name}_min": min(each) for name, each in times.items()},
        **{f"{name}_median": statistics.median(each) for name, each in times.items()},
        "cost_min": min(times["law"]) / min(times["free"]) - 1,
        "cost_median": statistics.median(times["law"]) / statistics.median(times["free"]) - 1,
        "combining": combining / profile.busy,
    }


def line(r: dict[str, Any]) -> str:
    return (
        f"{r['threads']}t {r['network'] + ', batch ' + str(r['batch']):22} by shape "
        f"{1e3 * r['law_min']:8.3f}/{1e3 * r['law_median']:8.3f} ms, by thread {1e3 * r['free_min']:8.3f}/"
        f"{1e3 * r['free_median']:8.3f} ms: the law costs {100 * r['cost_min']:+.1f}%/{100 * r['cost_median']:+.1f}%; "
        f"combining is {100 * r['combining']:.1f}% of the work"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.same_bits", description="What the law of the same bits costs a training step."
    )
    add = parser.add_argument
    add("--networks", nargs="+", choices=list(STEPS), default=list(STEPS), metavar="NAME", help=", ".join(STEPS))
    add("--threads", nargs="+", type=int, default=sorted({1, machine.cores()}), metavar="N")
    add("--seconds", type=float, default=5.0, help="each way of a step (default: 5)")
    add("--json", metavar="FILE")
    args = parser.parse_args(argv)
    print(f"{machine.describe()}; minimum/median")
    results = []
    for threads in args.threads:
        for name in args.networks:
            make, batch = STEPS[name]
            results.append(measure(make(), batch, threads, args.seconds))
            print(line(results[-1]), flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"machine": machine.describe(), "rows": results}, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
