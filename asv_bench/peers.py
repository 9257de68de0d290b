"""fastnn next to its peers, in one run on this machine: `python -m asv_bench.peers`.

Rows: matrix products of the networks' shapes, against OpenBLAS (NumPy) and MKL (PyTorch); training
steps of multilayer perceptrons, against PyTorch (eager with fused optimizers, and compiled). A peer
that is not installed is left out by name. Each row's contenders take turns; minimum and median are
over turns, and a ratio above 1 means that fastnn is faster.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from asv_bench.timing import Timing, side_by_side

Contenders = dict[str, Callable[[], object]]

#: name, (m, n, k), transpose of a, transpose of b
MLP_LAYERS = ((784, 512), (512, 256), (256, 10))
LENET_LAYERS = ((400, 120), (120, 84), (84, 10))


def gemm_shapes() -> Iterator[tuple[str, tuple[int, int, int], bool, bool]]:
    """The products of a step: forward x W, weight gradient x' dy, input gradient dy W'."""
    for batch in (32, 128, 1024):
        for i, (fan_in, fan_out) in enumerate(MLP_LAYERS):
            layer = f"mlp b{batch} {fan_in}x{fan_out}"
            yield f"{layer} forward", (batch, fan_out, fan_in), False, False
            yield f"{layer} dW", (fan_in, fan_out, batch), True, False
            if i:
                yield f"{layer} dx", (batch, fan_in, fan_out), False, True
    for fan_in, fan_out in LENET_LAYERS:
        layer = f"lenet b64 {fan_in}x{fan_out}"
        yield f"{layer} forward", (64, fan_out, fan_in), False, False
        yield f"{layer} dW", (fan_in, fan_out, 64), True, False
        yield f"{layer} dx", (64, fan_in, fan_out), False, True
    for size in (64, 256, 1024):
        yield f"square {size}", (size, size, size), False, False
    yield "resnet18 1x1 b16 64->128 28x28", (16 * 28 * 28, 128, 64), False, False
    yield "alexnet b32 9216x4096 forward", (32, 4096, 9216), False, False


def gemm_contenders(shape: tuple[int, int, int], ta: bool, tb: bool) -> Contenders:
    from fastnn.graph import Graph, recording
    from fastnn.lowering.program import Program
    from fastnn.ops.gemm import product

    m, n, k = shape
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if ta else (m, k), dtype=np.float32)
    b = rng.standard_normal((n, k) if tb else (k, n), dtype=np.float32)
    result, blas_out = np.empty((m, n), np.float32), np.empty((m, n), np.float32)
    with recording(Graph()) as graph:
        y = product(graph.memory(a), graph.memory(b), ta=ta, tb=tb)
        plan = Program(graph, [[]], [(y, result, 0)]).plans[0]
    left, right = a.T if ta else a, b.T if tb else b
    contenders: Contenders = {"fastnn": plan.run, "openblas": lambda: np.matmul(left, right, out=blas_out)}
    torch = import_torch()
    if torch is not None:
        ta_, tb_ = torch.from_numpy(a), torch.from_numpy(b)
        tl, tr = ta_.T if ta else ta_, tb_.T if tb else tb_
        torch_out = torch.empty((m, n))
        contenders["mkl"] = lambda: torch.mm(tl, tr, out=torch_out)
    return contenders


#: name, layer sizes, batch
MLP_STEPS = (
    ("MLP 784-512-256-10, Adam, batch 32", (784, 512, 256, 10), 32),
    ("MLP 784-512-256-10, Adam, batch 128", (784, 512, 256, 10), 128),
    ("MLP 784-512-256-10, Adam, batch 1024", (784, 512, 256, 10), 1024),
    ("MLP 4-64-64-2, Adam, batch 32", (4, 64, 64, 2), 32),
)


def mlp_contenders(sizes: tuple[int, ...], batch: int, compiled: bool) -> Contenders:
    import fastnn as fn
    from fastnn import nn, optim

    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, sizes[0]), dtype=np.float32)
    y = rng.integers(0, sizes[-1], batch)
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(fan_in, fan_out)] + ([nn.ReLU()] if i < len(sizes) - 2 else [])
    model = nn.Sequential(*layers)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
    contenders: Contenders = {"fastnn": lambda: step(x, y)}
    torch = import_torch()
    if torch is None:
        return contenders
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def torch_step(compile_model: bool) -> Callable[[], object]:
        parts: list[Any] = []
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            parts += [torch.nn.Linear(fan_in, fan_out)] + ([torch.nn.ReLU()] if i < len(sizes) - 2 else [])
        net = torch.nn.Sequential(*parts)
        opt = torch.optim.Adam(net.parameters(), fused=True)

        def forward_loss(images: Any, labels: Any) -> Any:
            return torch.nn.functional.cross_entropy(net(images), labels)

        compute = torch.compile(forward_loss) if compile_model else forward_loss

        def run() -> None:
            opt.zero_grad(set_to_none=True)
            compute(tx, ty).backward()
            opt.step()

        return run

    contenders["torch eager"] = torch_step(False)
    if compiled:
        contenders["torch compile"] = torch_step(True)
    return contenders


def import_torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


def set_threads(threads: int) -> None:
    import fastnn as fn

    fn.set_num_threads(threads)
    torch = import_torch()
    if torch is not None:
        torch.set_num_threads(threads)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(kind: str, name: str, threads: int, flops: float, contenders: Contenders, seconds: float) -> None:
        timings = side_by_side(contenders, seconds)
        rows.append(row(kind, name, threads, flops, timings))
        if not args.json:
            print(format_row(rows[-1]), flush=True)

    for threads in args.threads:
        with threadpool_limits(threads):
            set_threads(threads)
            if "gemm" in args.rows:
                for name, (m, n, k), ta, tb in gemm_shapes():
                    contenders = gemm_contenders((m, n, k), ta, tb)
                    add("gemm", name, threads, 2.0 * m * n * k, contenders, args.seconds)
            if "mlp" in args.rows:
                for name, sizes, batch in MLP_STEPS:
                    weights = sum(a * b for a, b in itertools.pairwise(sizes))
                    flops = 2.0 * batch * (3 * weights - sizes[0] * sizes[1])
                    contenders = mlp_contenders(sizes, batch, args.compile)
                    add("mlp", name, threads, flops, contenders, 3 * args.seconds)
    return rows


def row(kind: str, name: str, threads: int, flops: float, timings: dict[str, Timing]) -> dict[str, Any]:
    ours = timings["fastnn"]
    peers = {k: v for k, v in timings.items() if k != "fastnn"}
    best = min(peers, key=lambda k: peers[k].minimum) if peers else None
    return {
        "kind": kind,
        "name": name,
        "threads": threads,
        "gflops": flops / ours.minimum / 1e9,
        "times": {k: {"min_us": 1e6 * v.minimum, "median_us": 1e6 * v.median} for k, v in timings.items()},
        "best_peer": best,
        "ratio_min": peers[best].minimum / ours.minimum if best else None,
        "ratio_median": peers[best].median / ours.median if best else None,
    }


def format_row(r: dict[str, Any]) -> str:
    times = "  ".join(f"{k} {v['min_us']:9.1f}/{v['median_us']:9.1f}" for k, v in r["times"].items())
    ratio = f"{r['ratio_min']:5.2f}/{r['ratio_median']:5.2f} of {r['best_peer']}" if r["best_peer"] else ""
    return f"{r['threads']}t {r['name']:38} {r['gflops']:7.1f} GF/s  us min/median: {times}  ratio {ratio}"


def summarize(rows: list[dict[str, Any]]) -> list[str]:
    """Geometric mean and worst ratio of each kind and thread count."""
    lines = []
    for kind in ("gemm", "mlp"):
        for threads in sorted({r["threads"] for r in rows}):
            ratios = [r["ratio_min"] for r in rows if r["kind"] == kind and r["threads"] == threads and r["ratio_min"]]
            if ratios:
                mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                lines.append(
                    f"{kind}, {threads} thread(s): {len(ratios)} rows, geometric mean {mean:.2f} times the best "
                    f"peer, worst {min(ratios):.2f}"
                )
    return lines


def machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            model = next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    from fastnn_ext import runtime

    return f"{model}, {os.cpu_count()} cores, {runtime.get_isa()}, Python {platform.python_version()}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m asv_bench.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=["gemm", "mlp"], choices=["gemm", "mlp"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.5, help="per contender and row")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile (slow to start)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    torch = import_torch()
    if not args.json:
        print(machine())
        print("PyTorch is not installed: left out" if torch is None else f"PyTorch {torch.__version__}")
    rows = measure(args)
    if args.json:
        json.dump({"machine": machine(), "rows": rows}, sys.stdout, indent=1)
    else:
        print("\n".join(summarize(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
