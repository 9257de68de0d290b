"""ONNX Runtime: inference of a model written with the onnx package."""

from __future__ import annotations

from collections.abc import Callable

from asv_bench.peers import onnx_model
from asv_bench.peers.rows import Inference, Row

NAMES = ("onnxruntime",)
REQUIRES = ("onnxruntime", "onnx")


def offers(name: str, row: Row) -> bool:
    return row.kind == "infer"


def make(name: str, row: Row, threads: int) -> Callable[[], object]:
    import onnxruntime

    work = row.work
    assert isinstance(work, Inference)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = onnx_model.write(work.network, work.batch).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"x": work.network.batch(work.batch)[0]}
    return lambda: session.run(None, feed)
