"""``fastnn convert`` and ``fastnn export``."""

from __future__ import annotations

import argparse
import os

from fastnn import _check
from fastnn.cli.foreign import Network, described
from fastnn.cli.output import print_json

#: What is written, by the ending of its name.
KINDS = {".onnx": "ONNX", ".safetensors": "safetensors", ".prototxt": "Caffe", ".caffemodel": "Caffe"}


def run(args: argparse.Namespace) -> int:
    """Write a network as a file of another kind, which the ending of its name says."""
    ending = os.path.splitext(args.out)[1].lower()
    wanted = [".onnx"] if args.exports else list(KINDS)
    if ending not in wanted:
        raise ValueError(f"OUT: expected a name that ends in {', '.join(wanted)}, got {_check.brief(args.out)}")
    network = Network.open(args)
    files = [args.out]
    try:
        if ending == ".onnx":
            from fastnn.onnx import save

            save(network.model, args.out, *network.example(2), dynamic_batch=network.batch is None)
        elif ending == ".safetensors":
            network.model.save(args.out)
        else:
            from fastnn.interop.caffe.write import save_caffe

            stem = os.path.splitext(args.out)[0]
            files = [f"{stem}.prototxt", f"{stem}.caffemodel"]
            save_caffe(network.model, *files, *network.example(1))
    except (ImportError, TypeError) as error:
        raise ValueError(f"{network.path}: {error}") from None
    shapes = [described(shape) for shape in network.shapes]
    sizes = [os.path.getsize(file) for file in files]
    if args.json:
        print_json({"from": network.path, "kind": network.kind, "files": files, "bytes": sizes})
    else:
        written = " and ".join(f"{file} ({size:,} bytes)" for file, size in zip(files, sizes, strict=True))
        print(f"{written}: {KINDS[ending]}, of {network.path}, samples of {' and '.join(shapes)}")
    return 0
