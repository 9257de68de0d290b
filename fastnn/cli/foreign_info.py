"""``fastnn info`` of one file: a network, or weights alone."""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from typing import Any

from fastnn import _check, nn
from fastnn.cli.foreign import Network, described
from fastnn.cli.output import print_json
from fastnn.files import read_forms
from fastnn.interop.files import NAMES, kind_of

_MOST = 30  # tensors, or layers, that are listed


def describe(args: argparse.Namespace) -> int:
    """Print what a file holds."""
    kind, size = kind_of(args.run), os.path.getsize(args.run)
    if kind in ("safetensors", "checkpoint"):
        _weights(args, kind, size)
    else:
        _network(args, Network.open(args), size)
    return 0


def _weights(args: argparse.Namespace, kind: str, size: int) -> None:
    forms = read_forms(args.run)
    count = sum(math.prod(shape) for _, shape in forms.values())
    if args.json:
        tensors = {name: {"dtype": str(dtype), "shape": list(shape)} for name, (dtype, shape) in forms.items()}
        print_json({"file": args.run, "format": NAMES[kind], "bytes": size, "numbers": count, "tensors": tensors})
        return
    print(f"{args.run}: {NAMES[kind]}, {size:,} bytes, {len(forms)} tensors of {count:,} numbers, no network")
    for name, (dtype, shape) in list(forms.items())[:_MOST]:
        print(f"  {_check.brief(name, str)}: {dtype} {described(shape)}")
    if len(forms) > _MOST:
        print(f"  and {len(forms) - _MOST} more")


def _network(args: argparse.Namespace, network: Network, size: int) -> None:
    model = network.model
    try:
        inputs = network.example(2)
    except ValueError:
        outputs = None
    else:
        outputs = [output.shape[1:] if output.ndim else () for output in network.outputs(inputs)]
    parameters = sum(p.size for p in model.parameters())
    layers = _layers(model)
    if args.json:
        print_json(
            {
                "file": args.run,
                "format": network.kind,
                "bytes": size,
                "inputs": [None if shape is None else list(shape) for shape in network.shapes],
                "outputs": None if outputs is None else [list(shape) for shape in outputs],
                "batch": network.batch,
                "layers": dict(layers),
                "parameters": parameters,
            }
        )
        return
    print(f"{args.run}: {network.kind}, {size:,} bytes, {parameters:,} parameters")
    names = getattr(model, "input_names", ()) or getattr(model, "inputs", ())
    together = "" if network.batch is None else f", {network.batch} at a time"
    for i, shape in enumerate(network.shapes):
        name = f" {_check.brief(names[i], str)}" if i < len(names) else ""
        print(f"  input{name}: samples of {described(shape)}{together}")
    for shape in outputs or []:
        print(f"  output: {described(shape) if shape else 'a number'} a sample")
    if outputs is None:
        print("  output: not known without the sizes of a sample; give them with --input, such as --input 1,28,28")
    print(f"  layers: {', '.join(f'{count} {name}' for name, count in layers.most_common(_MOST))}")
    if outputs is not None and len(network.shapes) == 1 and not hasattr(model, "output_names"):
        print(model.summary(*inputs[0].shape[1:]))


def _layers(model: nn.Module) -> Counter[str]:
    """How often each kind of layer, or of ONNX's nodes, is there."""
    kinds: Any = getattr(model, "operators", None)
    if kinds is None:
        kinds = [type(m).__name__ for m in model.modules() if m._parameters or not m._modules]
    return Counter(kinds)
