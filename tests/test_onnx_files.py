"""ONNX files as other people's tools wrote them, arrays beside files, and files that do not hold together."""

import os
import pathlib

import numpy as np
import pytest

import fastnn as fn
from fastnn import optim

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, external_data_helper, helper, numpy_helper  # noqa: E402

import fastnn.onnx  # noqa: E402

DATA = pathlib.Path(os.environ.get("FASTNN_DATA") or ".") / "models"
#: Files of the folder, and which outputs are drawn at random.
FILES = {
    "churn_tf2onnx_opset13.onnx": (),
    "cifar100_selu_opset14.onnx": (),
    "mnist_cnn_bn_opset11.onnx": (),
    "policy_gaussian_opset11.onnx": ("output", "72"),
    "two_inputs_conv1d_opset13.onnx": (),
}


def whole(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def path_of(name):
    if not (DATA / name).exists():
        pytest.skip("FASTNN_DATA names no folder with models")
    return DATA / name


def inputs_of(net, batch):
    rng = np.random.default_rng(batch)
    for port in net._source.diagram.inputs:
        yield rng.normal(size=[batch if n is None else n for n in port.shape]).astype(port.dtype)


# ---- files of other people --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_onnx_runtimes_outputs(name):
    runtime = pytest.importorskip("onnxruntime")
    path = path_of(name)
    net, session = fn.onnx.load(path).eval(), runtime.InferenceSession(str(path))
    fixed = net._source.diagram.inputs[0].shape[0] is not None
    for batch in (1,) if fixed else (1, 2, 5, 64):
        given = dict(zip(net.input_names, inputs_of(net, batch), strict=True))
        want = session.run(list(net.output_names), given)
        for output, ours, theirs in zip(net.output_names, whole(net(**given)), want, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            if output not in FILES[name]:
                assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("name", FILES)
def test_a_file_trains_on(name):
    net = fn.onnx.load(path_of(name))
    fixed = net._source.diagram.inputs[0].shape[0] is not None
    given = list(inputs_of(net, 1 if fixed else 32))
    fn.manual_seed(0)
    opt = optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(21):
        outputs = whole(net.forward_train(*given))
        chosen = [output not in FILES[name] for output in net.output_names]
        losses.append(sum(float((y**2).mean()) for y, counts in zip(outputs, chosen, strict=True) if counts))
        opt.zero_grad()
        net.backward(*(2 * y / y.size if counts else 0 * y for y, counts in zip(outputs, chosen, strict=True)))
        opt.step()
    assert losses[-1] < 0.9 * losses[0]


def test_a_policy_draws_its_actions_about_their_mean():
    net = fn.onnx.load(path_of("policy_gaussian_opset11.onnx")).eval()
    (x,) = inputs_of(net, 1)
    fn.manual_seed(0)
    actions = net(np.repeat(x, 20_000, 0))[0][:, 0]
    sigma = float(np.exp(net.log_std.data).item())
    assert abs(actions.std() - sigma) < 0.03 * sigma
    again = net(np.repeat(x, 20_000, 0))[0][:, 0]
    assert abs(actions.mean() - again.mean()) < 0.05 * sigma and not np.array_equal(actions, again)


def test_a_file_of_one_sample_says_so_for_more():
    net = fn.onnx.load(path_of("cifar100_selu_opset14.onnx"))
    with pytest.raises(ValueError, match=r"'input' has shape \(2, 3, 32, 32\); the network takes \(1, 3, 32, 32\)"):
        net(np.zeros((2, 3, 32, 32), np.float32))


# ---- arrays beside a file ---------------------------------------------------------------------------


def external(folder, **entries):
    """A network whose weight lies beside it in w.bin."""
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    (folder / "w.bin").write_bytes(b"\0" * 8 + weight.raw_data + b"\0")
    external_data_helper.set_external_data(weight, "w.bin", 8, 24)
    for name, text in entries.items():
        for entry in weight.external_data:
            if entry.key == name:
                entry.value = text
    weight.ClearField("raw_data")
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["N", 2]), ("y", ["N", 3]))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight])
    path = folder / "net.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


def test_arrays_beside_a_file_are_read(tmp_path):
    net = fn.onnx.load(external(tmp_path))
    x = np.ones((4, 2), np.float32)
    assert np.array_equal(net(x), x @ np.arange(6, dtype=np.float32).reshape(2, 3))
    (tmp_path / "deep").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "deep" / "w.bin")
    assert np.array_equal(fn.onnx.load(external_moved(tmp_path, "deep/w.bin"))(x), net(x))


def external_moved(folder, location):
    kept = (folder / location).read_bytes()
    path = external(folder, location=location)
    (folder / location).write_bytes(kept)
    return path


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"location": "../w.bin"}, "no path within the network's folder"),
        ({"location": "/etc/passwd"}, "no path within the network's folder"),
        ({"location": "a/../w.bin"}, "no path within the network's folder"),
        ({"location": "C:w.bin"}, "no path within the network's folder"),
        ({"location": "a\\w.bin"}, "no path within the network's folder"),
        ({"location": ""}, "no path within the network's folder"),
        ({"location": "."}, "no path within the network's folder"),
        ({"location": "link.bin"}, "no plain file"),
        ({"location": "hard.bin"}, "no plain file"),
        ({"location": "linked/w.bin"}, "no plain file"),
        ({"location": "folder"}, "no plain file"),
        ({"location": "none.bin"}, "cannot be read"),
        ({"offset": "10"}, "has 33 bytes; 24 from 10 on are wanted"),
        ({"offset": "-8"}, "24 bytes from -8 on"),
        ({"offset": "9" * 30}, "24 from 9+ on are wanted"),
        ({"offset": "one"}, "not in numbers"),
        ({"length": "20"}, "20 bytes from 8 on; its shape wants 24"),
    ],
)
def test_arrays_come_from_the_files_folder_alone(tmp_path, entries, message):
    folder, elsewhere = tmp_path / "net", tmp_path / "elsewhere"
    folder.mkdir(), elsewhere.mkdir(), (folder / "folder").mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(64))
    (elsewhere / "w.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(elsewhere / "w.bin")
    (folder / "hard.bin").hardlink_to(elsewhere / "w.bin")
    (folder / "linked").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=message):
        fn.onnx.load(external(folder, **entries))


def test_a_file_beside_may_be_the_array_as_it_is(tmp_path):
    proto = onnx.ModelProto.FromString(external(tmp_path).read_bytes())
    weight = proto.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes((tmp_path / "w.bin").read_bytes()[8:32])
    kept = [entry for entry in weight.external_data if entry.key == "location"]
    del weight.external_data[:]
    weight.external_data.extend(kept)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    net = fn.onnx.load(tmp_path / "net.onnx")
    assert net.state_dict()["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_bytes_have_no_folder(tmp_path):
    with pytest.raises(ValueError, match="load the network by its path"):
        fn.onnx.load(external(tmp_path).read_bytes())


# ---- what does not hold together --------------------------------------------------------------------


def proto(nodes, functions=(), arrays=(), opset=17):
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], list(arrays))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def function(name, *nodes):
    return helper.make_function("own", name, ["a"], ["b"], list(nodes), [helper.make_opsetid("", 17)])


def nested(depth):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y0"])], "g", [], [helper.make_empty_tensor_value_info("y0")]
    )
    for i in range(1, depth):
        both = helper.make_node("If", ["c"], [f"y{i}"], then_branch=graph, else_branch=graph if i < 2 else None)
        graph = helper.make_graph([both], "g", [], [helper.make_empty_tensor_value_info(f"y{i}")])
    return helper.make_node("If", ["c"], ["y"], then_branch=graph)


def relu(a, b, **settings):
    return helper.make_node("Relu", [a], [b], **settings)


def tensor(**fields):
    made = TensorProto(name="w", data_type=TensorProto.FLOAT)
    for name, given in fields.items():
        if isinstance(given, (list, tuple)):
            getattr(made, name).extend(given)
        else:
            setattr(made, name, given)
    return made


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda: proto([relu("z", "y")]), "nothing makes the value 'z'"),
        (lambda: proto([relu("x", "z")]), "nothing makes the value 'y'"),
        (lambda: proto([relu("b", "a"), relu("a", "b"), relu("x", "y")]), "wait for each other in a circle"),
        (lambda: proto([relu("x", "y"), relu("x", "y")]), "two nodes make the value 'y'"),
        (lambda: proto([relu("x", "x"), relu("x", "y")]), "two nodes make the value 'x'"),
        (lambda: proto([helper.make_node("F", ["x"], ["y"], domain="far")]), "domain 'far', which has no version"),
        (
            lambda: proto(
                [helper.make_node("F", ["x"], ["y"], domain="own")],
                [function("F", helper.make_node("F", ["a"], ["b"], domain="own"))],
            ),
            "the function 'F' calls itself",
        ),
        (
            lambda: proto(
                [helper.make_node("F0", ["x"], ["y"], domain="own")],
                [
                    *(function(f"F{i}", *(helper.make_node(f"F{i + 1}", ["a"], [f"b{k}" if k else "b"], domain="own")
                                          for k in range(9))) for i in range(9)),
                    function("F9", relu("a", "b")),
                ],
            ),
            "more than 262144 nodes",
        ),
        (
            lambda: proto(
                [helper.make_node("F0", ["x"], ["y"], domain="own")],
                [
                    *(function(f"F{i}", helper.make_node(f"F{i + 1}", ["a"], ["b"], domain="own")) for i in range(40)),
                    function("F40", relu("a", "b")),
                ],
            ),
            "more than 16 deep",
        ),
        (
            lambda: proto(
                [helper.make_node(f"F{i}", ["x"], [f"y{i}" if i else "y"], domain="own") for i in reversed(range(40))],
                [
                    *(function(f"F{i}", helper.make_node(f"F{i + 1}", ["a"], ["b"], domain="own")) for i in range(40)),
                    function("F40", relu("a", "b")),
                ],
            ),
            "more than 16 deep",
        ),
        (lambda: proto([nested(25)]), "more than 16 deep|no ONNX network"),
        (lambda: proto([relu("x", "y")], arrays=[tensor(dims=[2**40, 2**40])]), "larger than any memory"),
        (lambda: proto([relu("x", "y")], arrays=[tensor(dims=[-1])]), "larger than any memory"),
        (lambda: proto([relu("x", "y")], arrays=[tensor(dims=[1] * 40)]), "larger than any memory"),
        (lambda: proto([relu("x", "y")], arrays=[tensor(dims=[2**30], raw_data=b"\0" * 8)]), "has 8 bytes"),
        (lambda: proto([relu("x", "y")], arrays=[tensor(dims=[2**30], float_data=[1.0])]), "has 1 elements"),
        (lambda: proto([relu("x", "y")], arrays=[tensor(dims=[1], data_type=8)]), "holds strings"),
        (lambda: proto([relu("x", "y")], arrays=[tensor(dims=[1], data_type=99)]), "dtype 99"),
        (lambda: proto([relu("x", "y")], arrays=[tensor(dims=[1], float_data=[1.0])] * 2), "two initializers"),
        (
            lambda: proto([relu("x", "y")], arrays=[tensor(dims=[1], data_type=3, int32_data=[300])]),
            "numbers that are no int8",
        ),
    ],
)  # fmt: skip
def test_what_does_not_hold_together_is_said(tmp_path, model, message):
    path = tmp_path / "net.onnx"
    path.write_bytes(model().SerializeToString())
    with pytest.raises(ValueError, match=message) as refused:
        fn.onnx.load(path)
    assert str(path) in str(refused.value) and len(str(refused.value)) < 600
    assert os.listdir(tmp_path) == ["net.onnx"]


@pytest.mark.parametrize("data", [b"", b"not a network", b"\x08\x08", b"\xff" * 100, b"\x89HDF\r\n\x1a\n"])
def test_other_bytes_are_no_network(data):
    with pytest.raises(ValueError, match="the bytes given: no ONNX network"):
        fn.onnx.load(data)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        fn.onnx.load(tmp_path / "none.onnx")


def test_nodes_in_any_order_are_put_in_order():
    net = fn.onnx.load(proto([relu("a", "y"), helper.make_node("Neg", ["x"], ["a"])]).SerializeToString())
    assert net(np.array([-1, 2], np.float32)).tolist() == [1, 0]
