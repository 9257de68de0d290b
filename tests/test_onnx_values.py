"""What values do in a network read from ONNX: shapes that follow the batch, integers, bools, precisions, gradients."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.testing import gradcheck

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastnn.onnx  # noqa: E402

RNG = np.random.default_rng(0)
F32, F64, F16, I64, I32, BOOL = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL,
)  # fmt: skip


def value(name, shape=None, dtype=F32):
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(" ") if inputs else [], outputs.split(" "), **attributes)


def network(nodes, inputs, outputs, functions=(), opset=18, **arrays):
    tensors = [numpy_helper.from_array(np.asarray(a), n.replace("__", ".")) for n, a in arrays.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))
    return fn.onnx.load(proto.SerializeToString()).eval()


# ---- the batch --------------------------------------------------------------------------------------


def test_shapes_that_follow_the_batch_keep_one_program_for_all():
    net = network(
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n", axis=0),
            node("Unsqueeze", "n axis", "n1"),
            node("Concat", "n1 minus", "to", axis=0),
            node("Reshape", "x to", "flat"),
            node("Mul", "n two", "double"),
            node("Unsqueeze", "double axis", "d1"),
            node("Concat", "d1 six", "halves", axis=0),
            node("Reshape", "flat halves", "h"),
            node("ConstantOfShape", "halves", "ones", value=numpy_helper.from_array(np.ones(1, np.float32))),
            node("Add", "h ones", "plus"),
            node("Cast", "n", "number", to=F32),
            node("Expand", "w halves", "wide"),
            node("Mul", "plus wide", "y"),
        ],
        [value("x", ["N", 3, 4])],
        [value("y", ["M", 6])],
        zero=np.array(0),
        axis=np.array([0]),
        minus=np.array([-1]),
        two=np.array(2),
        six=np.array([6]),
        w=np.arange(6, dtype=np.float32),
    )
    for n in (5, 2, 7, 1):
        x = RNG.normal(size=(n, 3, 4)).astype(np.float32)
        np.testing.assert_allclose(net(x), (x.reshape(2 * n, 6) + 1) * np.arange(6), rtol=1e-6)
    x = np.ones((9, 3, 4), np.float32)
    assert net.plan(x).batched and net.plan(x) is net.plan(np.ones((4, 3, 4), np.float32))


def test_a_number_made_of_the_batch_is_right_at_each():
    net = network(
        [
            node("Shape", "x", "s", start=0, end=1),
            node("Cast", "s", "n", to=F32),
            node("ReduceSum", "x axes", "total", keepdims=0),
            node("Div", "total n", "y"),
        ],
        [value("x", ["N", 2])],
        [value("y", [2])],
        axes=np.array([0]),
    )
    for n in (3, 8, 1):
        x = RNG.normal(size=(n, 2)).astype(np.float32)
        np.testing.assert_allclose(net(x), x.mean(0), rtol=1e-5, atol=1e-6)


def test_an_if_on_a_shape_is_followed():
    branches = {
        name: helper.make_graph([node(op, "x", f"{name}_y")], name, [], [value(f"{name}_y")])
        for name, op in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    net = network(
        [
            node("Shape", "x", "s"),
            node("Gather", "s one", "width", axis=0),
            node("Greater", "width three", "wide"),
            node("If", "wide", "y", **branches),
        ],
        [value("x", ["N", "K"])],
        [value("y", ["N", "K"])],
        one=np.array(1),
        three=np.array(3),
    )
    assert net(np.ones((2, 4), np.float32)).tolist() == [[-1] * 4] * 2
    assert net(-np.ones((2, 3), np.float32)).tolist() == [[1] * 3] * 2


# ---- names ------------------------------------------------------------------------------------------


def test_inputs_and_outputs_go_by_the_files_order_and_names():
    net = network(
        [node("Sub", "b:0 a/1", "difference"), node("Add", "b:0 a/1", "sum")],
        [value("b:0", ["N"]), value("a/1", ["N"])],
        [value("sum", ["N"]), value("difference", ["N"])],
    )
    one, two = np.ones(3, np.float32), np.full(3, 2, np.float32)
    assert net.input_names == ("b:0", "a/1") and net.output_names == ("sum", "difference")
    for outputs in (net(two, one), net(**{"a/1": one, "b:0": two}), net(two, **{"a/1": one})):
        assert [y.tolist() for y in outputs] == [[3] * 3, [1] * 3]
    with pytest.raises(TypeError, match="'c' is no input of the network; there are b:0, a/1"):
        net(two, c=one)
    with pytest.raises(TypeError, match="a/1 are missing"):
        net(two)
    with pytest.raises(TypeError, match=r"has 2 input\(s\), b:0, a/1; got 3"):
        net(one, one, one)


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a.b", "a.b.c"],
        ["a.b", "a"],
        ["training", "forward", "_parameters", "a.training", "a.forward.b"],
        ["a..b", ".a", "b.", "..."],
        [".".join("a" * 100), "x/y:0", "1.weight"],
    ],
)
def test_parameters_keep_whatever_names_the_file_has(names):
    total = [node("Add", f"{previous} {name}", f"sum{i}") for i, (previous, name) in enumerate(
        zip(["x", *(f"sum{i}" for i in range(len(names) - 1))], names, strict=True))]  # fmt: skip
    arrays = [numpy_helper.from_array(np.full(2, 1.0 + i, np.float32), name) for i, name in enumerate(names)]
    graph = helper.make_graph(total, "g", [value("x", ["N", 2])], [value(f"sum{len(names) - 1}", ["N", 2])], arrays)
    net = fn.onnx.load(
        helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    )
    assert set(net.state_dict()) == set(names) == {name for name, _ in net.named_parameters()}
    want = sum(range(1, len(names) + 1))
    assert net(np.zeros((3, 2), np.float32)).tolist() == [[want, want]] * 3
    net.load_state_dict({name: np.zeros(2, np.float32) for name in names})
    assert not net.train().eval()(np.zeros((3, 2), np.float32)).any()


# ---- integers and bools -----------------------------------------------------------------------------


def test_labels_are_looked_up_and_those_below_0_count_from_the_end():
    table = RNG.normal(size=(5, 3)).astype(np.float32)
    net = network(
        [node("Gather", "table labels", "y", axis=0)], [value("labels", ["N", 2], I64)], [value("y", ["N", 2, 3])],
        table=table,
    )  # fmt: skip
    for labels in ([[0, 4]], [[1, 2], [3, 3]], [[-1, 4], [0, -5], [2, 2]], [[1, 0], [3, 3]]):
        np.testing.assert_array_equal(net(np.array(labels)), table[np.array(labels)])
    with pytest.raises(IndexError, match=r"index 5 is out of (range|bounds)"):
        net(np.array([[5, 0]]))
    step = fn.TrainStep(net, nn.MSELoss(), optim.SGD(net.parameters(), lr=0.1))
    losses = [step(np.array([[0, 4], [1, 2]]), np.zeros((2, 2, 3), np.float32)) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_integers_that_decide_shapes_are_known_while_tracing():
    net = network([node("Reshape", "x to", "y")], [value("x", ["N"]), value("to", [2], I64)], [value("y")])
    x = np.arange(6, dtype=np.float32)
    for shape in ([2, 3], [3, 2], [-1, 6], [2, 3]):
        assert net(x, np.array(shape)).tolist() == x.reshape(shape).tolist()
    with pytest.raises(TypeError, match="the numbers of to must be known while the network is traced"):
        fn.trace(lambda x, to: net(x, to))(x, np.array([2, 3]))
    assert fn.trace(lambda x: net(x, np.array([2, 3])))(x).shape == (2, 3)


def test_integers_are_computed_with_exactly():
    net = network(
        [node("Mul", "a b", "p"), node("Add", "p one", "y"), node("Div", "a b", "q"), node("Mod", "a b", "r")],
        [value("a", ["N"], I64), value("b", ["N"], I64)],
        [value("y", ["N"], I64), value("q", ["N"], I64), value("r", ["N"], I64)],
        one=np.array(1),
    )
    a, b = np.array([2**60 + 1, -7, 7]), np.array([3, 2, -2])
    y, q, r = net(a, b)
    assert y.dtype == np.int64 and y.tolist() == (a * b + 1).tolist()
    assert q.tolist() == [(2**60 + 1) // 3, -3, -3] and r.tolist() == np.mod(a, b).tolist()


def test_a_part_of_something_else_computes_with_integers_in_float64():
    net = network(
        [node("Mul", "m m", "mm"), node("ReduceSum", "mm axes", "n"), node("Cast", "n", "count", to=F32),
         node("Mul", "x count", "y")],
        [value("x", ["N", 3]), value("m", ["N", 3], I64)], [value("y", ["N", 3])], axes=np.array([1]),
    )  # fmt: skip
    whole = fn.trace(lambda x, m: net(x, m))
    for m in ([[1, 2, 0], [0, 0, 1]], [[1, 1, 1], [-3, 0, 1]]):
        x, m = np.ones((2, 3), np.float32), np.array(m)
        np.testing.assert_array_equal(whole(x, m), x * (m * m).sum(1, keepdims=True))
        np.testing.assert_array_equal(net(x, m), whole(x, m))


def test_what_is_computed_of_places_is_an_integer():
    net = network(
        [node("ArgMax", "x", "best", axis=1, keepdims=0), node("Add", "best one", "next"),
         node("Equal", "best next", "same"), node("Gather", "names best", "named", axis=0)],
        [value("x", ["N", 4])],
        [value("best", ["N"], I64), value("next", ["N"], I64), value("same", ["N"], BOOL), value("named", ["N"], I64)],
        one=np.array(1), names=np.array([10, 20, 30, 40]),
    )  # fmt: skip
    x = RNG.normal(size=(6, 4)).astype(np.float32)
    best, after, same, named = net(x)
    assert [a.dtype for a in (best, after, same, named)] == [np.int64, np.int64, np.bool_, np.int64]
    assert best.tolist() == x.argmax(1).tolist() and after.tolist() == (x.argmax(1) + 1).tolist()
    assert not same.any() and named.tolist() == (10 * (x.argmax(1) + 1)).tolist()


def test_casts_go_between_all_kinds():
    net = network(
        [
            node("Cast", "x", "b", to=BOOL), node("Cast", "x", "i", to=I32), node("Cast", "b", "f", to=F64),
            node("Cast", "n", "nb", to=BOOL), node("Cast", "nb", "ni", to=I64), node("CastLike", "n x", "nf"),
        ],
        [value("x", ["N"]), value("n", ["N"], I64)],
        [value("b", ["N"], BOOL), value("i", ["N"], I32), value("f", ["N"], F64), value("nb", ["N"], BOOL),
         value("ni", ["N"], I64), value("nf", ["N"])],
    )  # fmt: skip
    x, n = np.array([-1.7, 0, 0.3, 2.9], np.float32), np.array([0, -3, 1, 0])
    wants = [x != 0, np.array([-1, 0, 0, 2], np.int32), (x != 0).astype(float), n != 0, (n != 0).astype(np.int64)]
    for got, want in zip(net(x, n), [*wants, n.astype(np.float32)], strict=True):
        assert got.dtype == want.dtype and got.tolist() == want.tolist()


def test_integers_that_floats_decide_are_not_taken_into_the_trace():
    net = network(
        [node("ArgMax", "x", "best", axis=1, keepdims=0), node("Equal", "best labels", "hit"),
         node("Cast", "hit", "one", to=I64), node("Add", "one one", "y")],
        [value("x", ["N", 3]), value("labels", ["N"], I64)], [value("y", ["N"], I64)],
    )  # fmt: skip
    x = np.eye(3, dtype=np.float32)
    assert net(x, np.array([0, 2, 2])).tolist() == [2, 0, 2] and not net._source.by_value


def test_bools_enter_and_leave():
    net = network(
        [node("Not", "mask", "not"), node("Greater", "x zero", "up"),
         node("And", "not up", "both"), node("Where", "both x zero", "y")],
        [value("x", ["N", 3]), value("mask", ["N", 3], BOOL)],
        [value("both", ["N", 3], BOOL), value("y", ["N", 3])],
        zero=np.float32(0),
    )  # fmt: skip
    for n in (4, 2):
        x, mask = RNG.normal(size=(n, 3)).astype(np.float32), RNG.random((n, 3)) < 0.5
        both, y = net(x, mask)
        assert both.dtype == bool and np.array_equal(both, ~mask & (x > 0))
        assert np.array_equal(y, np.where(both, x, 0))
    with pytest.raises(TypeError, match="mask"):
        net(x, x)


def test_integer_outputs_that_are_known_are_those_of_the_batch():
    net = network(
        [node("Shape", "x", "s"), node("Size", "x", "n")],
        [value("x", ["N", 2])],
        [value("s", [2], I64), value("n", [], I64)],
    )
    for n in (3, 5, 1):
        s, size = net(np.ones((n, 2), np.float32))
        assert s.tolist() == [n, 2] and s.dtype == np.int64 and size.shape == () and int(size) == 2 * n


# ---- precisions -------------------------------------------------------------------------------------


def test_a_file_of_float64_stays_so_and_a_cast_mixes():
    net = network(
        [node("Cast", "x", "wide", to=F64), node("MatMul", "wide w", "z"), node("Cast", "z", "y", to=F32)],
        [value("x", ["N", 2])],
        [value("z", ["N", 2], F64), value("y", ["N", 2])],
        w=np.array([[1.0, 1e-9], [0, 1]]),
    )
    z, y = net(np.ones((3, 2), np.float32))
    assert z.dtype == np.float64 and y.dtype == np.float32 and z[0, 1] == 1 + 1e-9
    assert net.state_dict()["w"].dtype == np.float64


def test_a_file_of_float16_is_computed_in_float32():
    weight = RNG.normal(size=(2, 2)).astype(np.float16)
    with pytest.warns(UserWarning, match="the bytes given holds float16, which is computed in float32"):
        net = network([node("MatMul", "x w", "y")], [value("x", ["N", 2], F16)], [value("y", ["N", 2], F16)], w=weight)
    x = np.ones((3, 2), np.float32)
    assert net(x).dtype == np.float32 and np.array_equal(net.state_dict()["w"], weight.astype(np.float32))
    np.testing.assert_allclose(net(x), x @ weight.astype(np.float32), rtol=1e-6)


def test_numbers_that_are_settings_are_no_parameters():
    net = network(
        [node("Pow", "x two", "p"), node("Clip", "p low high", "c"), node("Add", "c shift", "y")],
        [value("x", ["N"])],
        [value("y", ["N"])],
        two=np.float32(2), low=np.float32(0.5), high=np.float32(3), shift=np.float32(1),
    )  # fmt: skip
    assert list(net.state_dict()) == ["shift"]
    assert net(np.array([-1, 0.1, 9], np.float32)).tolist() == [2, 1.5, 4]


# ---- functions of the file --------------------------------------------------------------------------


def test_functions_take_attributes_from_their_calls():
    scaled = helper.make_function(
        "own", "Leak", ["a"], ["b"], [node("LeakyRelu", "a", "b")], [helper.make_opsetid("", 18)], ["slope"]
    )  # fmt: skip
    scaled.node[0].attribute.append(
        onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    )
    nodes = [
        helper.make_node("Leak", ["x"], ["h"], domain="own", slope=0.5),
        helper.make_node("Leak", ["h"], ["y"], domain="own"),
    ]
    net = network(nodes, [value("x", ["N"])], [value("y", ["N"])], functions=[scaled])
    np.testing.assert_allclose(net(np.array([-8, 2], np.float32)), [-8 * 0.5 * 0.01, 2], rtol=1e-6)


# ---- gradients --------------------------------------------------------------------------------------

X = RNG.normal(size=(3, 4, 2))
SINGLE = {
    "ReduceL1": ("x axes", {}), "ReduceL2": ("x axes", {"keepdims": 0}), "ReduceLogSumExp": ("x axes", {}),
    "ReduceSumSquare": ("x axes", {}), "ReduceProd": ("x axes", {}), "ReduceMax": ("x axes", {}),
    "ReduceMean": ("x", {}),
    "CumSum": ("x axis", {"exclusive": 1, "reverse": 1}), "Pad": ("x pads half", {}), "Tile": ("x repeats", {}),
    "Slice": ("x starts ends axes2 steps", {}), "Expand": ("row shape", {}), "Trilu": ("x one", {}),
    "GatherElements": ("x places", {"axis": 1}), "GatherND": ("x rows", {}), "Gather": ("x labels", {"axis": 1}),
    "ScatterElements": ("x places more", {"axis": 1, "reduction": "add"}),
    "ScatterND": ("x rows part", {"reduction": "mul"}),
    "Einsum": ("x x", {"equation": "...ab,...cb->...ac"}), "Clip": ("x low high", {}), "Mod": ("x half", {"fmod": 1}),
    "Max": ("x row", {}), "Mean": ("x row", {}), "Erf": ("x", {}), "Transpose": ("x", {}), "Asinh": ("x", {}),
    "Concat": ("x x row3", {"axis": 2}), "Where": ("flags x row", {}), "Round": ("x", {}),
}  # fmt: skip
ARRAYS = {
    "axes": np.array([1, -1]), "axis": np.array(1), "pads": np.array([0, 1, -1, 0, 2, 1]), "half": np.array(0.5),
    "repeats": np.array([1, 3, 2]), "starts": np.array([-1, 0]), "ends": np.array([-9, 2]), "axes2": np.array([1, 0]),
    "steps": np.array([-2, 1]), "shape": np.array([3, 4, 2]), "one": np.array(1),
    "places": np.array([[[3, 0]], [[1, 1]], [[-1, 2]]]),
    "rows": np.array([[0, 1], [2, -1], [0, 1]]), "labels": np.array([[1, -1], [0, 0]]), "low": np.array(-0.5),
    "high": np.array(0.6), "flags": np.array([True, False]),
}  # fmt: skip
SOURCES = {
    "row": np.array([0.3, -0.7]), "more": RNG.normal(size=(3, 1, 2)), "part": RNG.normal(size=(3, 2)),
    "row3": RNG.normal(size=(3, 4, 1)),
}  # fmt: skip


@pytest.mark.parametrize("op", SINGLE)
def test_gradients_are_the_differences(op):
    inputs, attributes = SINGLE[op]
    used = list(dict.fromkeys(inputs.split()))
    floats = [name for name in used if name in SOURCES or name == "x"]
    given = [X if name == "x" else SOURCES[name] for name in floats]
    net = network(
        [node(op, inputs, "y", **attributes)],
        [value(name, list(a.shape), F64) for name, a in zip(floats, given, strict=True)],
        [value("y", None, F64)],
        **{name: ARRAYS[name] for name in used if name in ARRAYS},
    )
    gradcheck(net, *given)


def test_the_root_of_a_sum_of_squares_is_flat_where_all_are_0():
    net = network([node("ReduceL2", "x", "y", keepdims=0)], [value("x", [3], F64)], [value("y", [], F64)])
    assert fn.grad(lambda x: net(x))(np.zeros(3)).tolist() == [0, 0, 0]
