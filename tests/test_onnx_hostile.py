"""ONNX files that nobody meant: each is refused by one clear error, or read; what it leaves is as before.

Mutants are made of the parts of files (as protobuf's JSON has them) and of their bytes, by the machinery of
fuzz_readers.py.
"""

import itertools
import os

import numpy as np
import pytest

import fastnn as fn

onnx = pytest.importorskip("onnx")

from google.protobuf import json_format  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastnn.onnx  # noqa: E402

from fuzz_readers import Finding, Reader, mutants, surroundings, tries  # noqa: E402

SEED = int(os.environ.get("FASTNN_FUZZ_SEED", 1))
#: Bytes of memory that a mutant's program may take to be run here.
RUN = 2**24


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs, outputs, arrays, opset=17, functions=()):
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions).SerializeToString()


def image_network():
    rng = np.random.default_rng(0)
    arrays = {
        "conv.weight": rng.normal(size=(3, 1, 3, 3)).astype(np.float32),
        "bn.scale": np.ones(3, np.float32),
        "bn.bias": np.zeros(3, np.float32),
        "bn.mean": np.zeros(3, np.float32),
        "bn.var": np.ones(3, np.float32),
        "fc.weight": rng.normal(size=(4, 12)).astype(np.float32),
        "zero": np.array([0]),
    }
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "conv.weight"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        make("BatchNormalization", ["c", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["b"], epsilon=1e-3),
        make("Relu", ["b"], ["r"]),
        make("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1]),
        make("Shape", ["p"], ["s"]),
        make("Slice", ["s", "zero", "one"], ["n"]),
        make("Concat", ["n", "rest"], ["shape"], axis=0),
        make("Reshape", ["p", "shape"], ["flat"]),
        make("Gemm", ["flat", "fc.weight"], ["z"], transB=1, alpha=0.5),
        make("Softmax", ["z"], ["y"], axis=-1),
    ]
    arrays |= {"one": np.array([1]), "rest": np.array([-1])}
    return model(nodes, [value("x", ["N", 1, 4, 4])], [value("y", ["N", 4])], arrays)


def other_network():
    """With labels, an If, a function, and shapes that integers decide."""
    make = helper.make_node
    branches = [
        helper.make_graph([make(op, ["h"], [f"{op}_out"])], op, [], [value(f"{op}_out", None)])
        for op in ("Tanh", "Exp")
    ]
    double = helper.make_function(
        "own", "Scaled", ["a"], ["b"],
        [make("Constant", [], ["k"], value_float=2.0), make("Mul", ["a", "k"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [
        make("Gather", ["table", "labels"], ["g"], axis=0),
        make("Pad", ["g", "pads"], ["h"], mode="constant"),
        make("Greater", ["size", "three"], ["deep"]),
        make("If", ["deep"], ["i"], then_branch=branches[0], else_branch=branches[1]),
        make("Scaled", ["i"], ["d"], domain="own"),
        make("ReduceSum", ["d", "axes"], ["sum"], keepdims=1),
        make("Where", ["flags", "d", "sum"], ["w"]),
        make("ArgMax", ["w"], ["best"], axis=1, keepdims=0),
        make("Cast", ["best"], ["y"], to=TensorProto.FLOAT),
        make("Transpose", ["w"], ["z"], perm=[1, 0]),
    ]
    arrays = {
        "table": np.arange(12, dtype=np.float32).reshape(4, 3),
        "pads": np.array([0, 1, 0, 1]),
        "size": np.array(5),
        "three": np.array(3),
        "axes": np.array([1]),
    }
    inputs = [value("labels", [None], TensorProto.INT64), value("flags", [None, 5], TensorProto.BOOL)]
    return model(nodes, inputs, [value("y", [None]), value("z", [5, None])], arrays, functions=[double])


class Form:
    """A file as what JSON holds."""

    @staticmethod
    def parts(data):
        return json_format.MessageToDict(onnx.ModelProto.FromString(data))

    @staticmethod
    def whole(parts):
        try:
            return json_format.ParseDict(parts, onnx.ModelProto()).SerializeToString()
        except (json_format.ParseError, UnicodeError, SystemError) as error:  # of protobuf, for lone surrogates
            raise ValueError(str(error)) from None


def arguments(net):
    """Small inputs of the shapes and dtypes that a network takes; None where there are none."""
    rng = np.random.default_rng(0)
    for port in net._source.diagram.inputs:
        shape = [2 if size is None else size for size in port.shape or (2, 2)]
        if np.prod([float(size) for size in shape]) > 1e4 or len(shape) > 8:
            return
        yield (rng.normal(size=shape) * 2).astype(port.dtype) % (2 if port.dtype.kind in "iub" else 1e9)


class Network(Reader):
    """`fastnn.onnx.load`, and a run of what was loaded."""

    form = Form
    file = "a.onnx"
    memory = 2**25
    ran = 0

    def seeds(self):
        yield image_network()
        yield other_network()

    def read(self):
        net = fn.onnx.load(self.path).eval()
        given = list(arguments(net))
        if len(given) < len(net.input_names):
            return
        try:
            program = net.plan(*given)
            if program.arena_bytes < RUN:
                net(*given)
                self.ran += 1
        except (TypeError, ValueError, IndexError) as error:  # of this network's shapes and dtypes
            if len(str(error)) > 2000:
                raise Finding(f"no short text: {str(error)[:300]!r}") from error

    def state(self):
        return fn.get_rng_state()

    def judge(self, refusal):
        super().judge(refusal if "cannot be read" not in refusal else refusal[:900])


@pytest.fixture
def reader(tmp_path):
    with surroundings(tmp_path):
        folder = tmp_path / "reader"
        folder.mkdir()
        yield Network(folder)


def test_mutants_of_networks_are_read_or_refused_as_promised(reader):
    endings = tries(reader, itertools.chain(reader.corpus, [b""], mutants(reader, 0, 600)))
    assert os.listdir(reader.folder) == [reader.file]
    print(reader.summary(), reader.ran)
    assert endings["accepted"] > 50 and endings["refused"] > 50 and reader.ran > 20


@pytest.mark.slow
def test_many_mutants_of_networks_are_read_or_refused_as_promised(reader):
    """FASTNN_FUZZ_SEED names other mutants."""
    tries(reader, mutants(reader, SEED, 50_000))
    assert os.listdir(reader.folder) == [reader.file]


BIG, LEAST = 2**40, -(2**63)
#: An operator, its inputs (x is 2 x 3 floats), and its attributes; each is refused.
ODD = [
    ("Tile", "x ints", dict(), [BIG, BIG]),
    ("Tile", "x ints", dict(), [-1, 2]),
    ("Tile", "x ints", dict(), [2]),
    ("Expand", "x ints", dict(), [BIG, BIG, 2, 3]),
    ("Expand", "x ints", dict(), [2, 4]),
    ("Expand", "x ints", dict(), [-2, 3]),
    ("Reshape", "x ints", dict(), [BIG, -1]),
    ("Reshape", "x ints", dict(), [-1, -1]),
    ("Reshape", "x ints", dict(), [-2, -3]),
    ("Reshape", "x ints", dict(), [0, 0, 0]),
    ("Reshape", "x ints", dict(allowzero=1), [0, 6]),
    ("Pad", "x ints", dict(), [BIG, 0, 0, 0]),
    ("Pad", "x ints", dict(), [0, 0, 0]),
    ("Pad", "x ints", dict(), [LEAST, 0, 0, 0]),
    ("Pad", "x ints", dict(mode="reflect"), [2, 0, 0, 0]),
    ("Pad", "x ints", dict(mode="magic"), [1, 0, 0, 0]),
    ("ConstantOfShape", "ints", dict(), [BIG, BIG, BIG]),
    ("ConstantOfShape", "ints", dict(), [-1]),
    ("Gather", "x ints", dict(axis=2), [0]),
    ("Gather", "x ints", dict(), [2]),
    ("Gather", "x ints", dict(), [LEAST]),
    ("GatherElements", "x ints", dict(), [0]),
    ("GatherND", "x ints", dict(), [0, 0, 0]),
    ("GatherND", "x ints", dict(batch_dims=5), [0, 0]),
    ("ScatterND", "x ints x", dict(), [[5], [0]]),
    ("ScatterElements", "x ints x", dict(reduction="magic"), [[0, 0, 0], [1, 1, 1]]),
    ("Concat", "x x", dict(axis=LEAST), []),
    ("Concat", "x", dict(), []),
    ("Split", "x ints", dict(axis=1), [-1]),
    ("Split", "x ints", dict(axis=9), [3]),
    ("Squeeze", "x ints", dict(), [0]),
    ("Squeeze", "x ints", dict(), [LEAST]),
    ("Unsqueeze", "x ints", dict(), [7]),
    ("Unsqueeze", "x ints", dict(), [1, 1]),
    ("Transpose", "x", dict(perm=[0, 0]), []),
    ("Transpose", "x", dict(perm=[0, BIG]), []),
    ("Flatten", "x", dict(axis=3), []),
    ("Slice", "x ints ints ints ints", dict(), [0]),
    ("Slice", "x ints ints ints", dict(), [5]),
    ("CumSum", "x ints", dict(), [2]),
    ("TopK", "x ints", dict(axis=0), [3]),
    ("TopK", "x ints", dict(), [LEAST]),
    ("OneHot", "ints ints x", dict(), [BIG]),
    ("ReduceSum", "x ints", dict(), [2]),
    ("ReduceSum", "x ints", dict(), [0, -2]),
    ("ArgMax", "x", dict(axis=-3), []),
    ("Range", "ints ints ints", dict(), 0),
    ("DepthToSpace", "x", dict(blocksize=0), []),
    ("EyeLike", "ints", dict(), [1]),
    ("Trilu", "ints", dict(), [1]),
    ("Einsum", "x x", dict(equation="ab,bc->ac"), []),
    ("Einsum", "x", dict(equation="...abc->..."), []),
    ("Einsum", "x", dict(equation="a1->"), []),
    ("Cast", "x", dict(to=99), []),
    ("Clip", "x x", dict(), []),
    ("MatMul", "x x", dict(), []),
    ("Add", "x ints", dict(), [1]),
    ("Relu", "ints", dict(), [1]),
    ("If", "x", dict(), []),
]  # fmt: skip


@pytest.mark.parametrize("op, inputs, attributes, ints", ODD)
def test_odd_settings_are_refused_by_one_error_that_names_the_node(op, inputs, attributes, ints):
    node = helper.make_node(op, inputs.split(), ["y"], name="odd", **attributes)
    data = model([node], [value("x", [2, 3])], [value("y", None)], {"ints": np.array(ints, np.int64)}, opset=18)
    with pytest.raises((TypeError, ValueError, IndexError)) as refused:
        fn.onnx.load(data)(np.ones((2, 3), np.float32))
    text = str(refused.value)
    assert op in text and "odd" in text and len(text) < 500


def test_what_is_huge_and_the_same_everywhere_takes_no_memory():
    nodes = [
        helper.make_node("ConstantOfShape", ["ints"], ["c"]),
        helper.make_node("Neg", ["c"], ["n"]),
        helper.make_node("Slice", ["n", "zero", "one", "zero"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "one", "one"], ["t"]),
        helper.make_node("Add", ["t", "x"], ["y"]),
    ]
    arrays = {"ints": np.array([2**30, 2**30]), "zero": np.array([0]), "one": np.array([1])}
    net = fn.onnx.load(model(nodes, [value("x", [1, 1])], [value("y", [1, 1])], arrays))
    assert net(np.ones((1, 1), np.float32)).tolist() == [[1]]


@pytest.mark.parametrize("op", ["ReduceSum", "ArgMax", "CumSum", "NonZero", "TopK", "Concat", "Tile", "Gather", "Cast"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_no_operator_visits_all_of_what_is_huge_while_tracing(op, dtype):
    attributes = dict(to=TensorProto.INT32) if op == "Cast" else dict(axis=0) if op in ("ArgMax", "Concat") else {}
    second = {
        "ReduceSum": " zero",
        "CumSum": " zero",
        "TopK": " one",
        "Concat": " c",
        "Tile": " pair",
        "Gather": " zero",
    }
    nodes = [
        helper.make_node("ConstantOfShape", ["ints"], ["c"], value=numpy_helper.from_array(np.ones(1, dtype))),
        helper.make_node(
            op, f"c{second.get(op, '')}".split(), ["v", "places"] if op == "TopK" else ["v"], **attributes
        ),
        helper.make_node("Shape", ["v"], ["s"]),
        helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "x"], ["y"]),
    ]
    arrays = {"ints": np.array([2**40, 2**16]), "zero": np.array([0]), "one": np.array([1]), "pair": np.array([1, 2])}
    net = fn.onnx.load(model(nodes, [value("x", [1])], [value("y", None)], arrays))
    try:
        net(np.ones(1, np.float32))
    except (TypeError, ValueError) as error:
        assert op in str(error)
