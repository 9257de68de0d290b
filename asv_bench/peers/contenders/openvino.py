"""OpenVINO: inference of the same ONNX model, compiled for latency in float32."""

from __future__ import annotations

from collections.abc import Callable

from asv_bench.peers import onnx_model
from asv_bench.peers.rows import Inference, Row

NAMES = ("openvino",)
REQUIRES = ("openvino", "onnx")


def offers(name: str, row: Row) -> bool:
    return row.kind == "infer"


def make(name: str, row: Row, threads: int) -> Callable[[], object]:
    import openvino

    work = row.work
    assert isinstance(work, Inference)
    model = openvino.Core().read_model(onnx_model.write(work.network, work.batch).SerializeToString())
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.compile_model(model, "CPU", settings).create_infer_request()
    x = work.network.batch(work.batch)[0]
    return lambda: request.infer({0: x})
