"""Networks as ONNX files, checked in all ways there are, and run by ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime

import fastnn as fn
import fastnn.onnx


def newest():
    """The newest opset that both the onnx package and ONNX Runtime know."""
    make = onnx.helper
    x, y = (make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = make.make_graph([make.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    for opset in range(onnx.defs.onnx_opset_version(), 18, -1):
        imports = [make.make_opsetid("", opset)]
        version = make.find_min_ir_version_for(imports)
        try:
            runtime(make.make_model(graph, opset_imports=imports, ir_version=version).SerializeToString())
            return opset
        except Exception:  # of ONNX Runtime's own kinds
            continue
    return 18


def runtime(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


#: The oldest opset, the usual one and the newest; and all.
OPSETS = (9, 18, newest())
MORE_OPSETS = range(OPSETS[0], OPSETS[-1] + 1)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def written(model, path, *inputs, **settings):
    """The file of a model, which passes all checks."""
    fn.onnx.save(model, path, *inputs, **settings)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    return proto


def flat(result):
    if isinstance(result, dict):
        return flat(list(result.values()))
    if isinstance(result, (tuple, list)):
        return [value for part in result for value in flat(part)]
    return [np.asarray(result, np.float32 if isinstance(result, float) else None)]


def assert_alike(got, wanted, tolerance=None):
    assert len(got) == len(wanted)
    for ours, theirs in zip(wanted, got, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if ours.dtype.kind == "f":
            largest = np.abs(ours[np.isfinite(ours)]).max(initial=0)
            least = TOLERANCE[ours.dtype.type] if tolerance is None else tolerance
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=least * max(largest, 1e-30))
        else:
            np.testing.assert_array_equal(theirs, ours)


def assert_runs_alike(model, path, inputs, batches=(None, 1, 5), **settings):
    """ONNX Runtime gives the model's outputs for inputs, cut to several batches or repeated (None: as they are)."""
    proto = written(model, path, *inputs, **settings)
    session = runtime(path)
    names = [port.name for port in session.get_inputs()]
    for batch in batches:
        given = [x if batch is None else x[np.arange(batch) % len(x)] for x in inputs]
        assert_alike(session.run(None, dict(zip(names, given, strict=True))), flat(model.evaluated(*given)))
    return proto


def operators(proto):
    return [node.op_type for node in proto.graph.node if node.op_type != "Constant"]
