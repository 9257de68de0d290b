"""ONNX's own backend tests: each case passes, or stands in a table with the reason why it is left out.

Run with -s to see how many pass, and what is left out.
"""

import collections
import re
import unittest
import warnings

import numpy as np
import pytest

import fastnn as fn

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

import fastnn.onnx  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx.backend.test import BackendTest
    from onnx.backend.test.loader import load_model_tests

#: What fastnn computes in.
DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"} | {
    11: "float64", 12: "uint32", 13: "uint64"
}  # fmt: skip
#: Operators that are not read, and why.
OPERATORS = {
    "of strings": "StringNormalizer StringConcat StringSplit RegexFullMatch TfIdfVectorizer LabelEncoder",
    "of sequences and optional values": "SequenceMap SequenceInsert SequenceAt SequenceConstruct SequenceEmpty "
    "SequenceErase SequenceLength SplitToSequence ConcatFromSequence OptionalHasElement OptionalGetElement Optional",
    "loops whose length is known when the program runs": "Loop Scan",
    "recurrent, or with a state that goes from call to call": "LSTM GRU RNN LinearAttention CausalConvWithState "
    "TensorScatter ReverseSequence",
    "of quantized integers": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul "
    "ConvInteger MatMulInteger",
    "of signals": "DFT STFT BlackmanWindow HannWindow HammingWindow MelWeightMatrix",
    "of detection and image warping": "NonMaxSuppression RoiAlign GridSample AffineGrid DeformConv ImageDecoder Col2Im "
    "MaxUnpool CenterCropPad",
    "whose result has a size that depends on numbers": "Unique Compress",
    "of other domains": "ArrayFeatureExtractor Binarizer TreeEnsemble FlexAttention Gradient",
    "of no network that the issue names": "BitCast CumProd Det",
}
#: Cases, by name, and why they are left out.
CASES = {
    r"^test_(bernoulli|training_dropout(?!.*zero_ratio))": "random: ONNX's generator draws other numbers",
    r"(?i)conv(transpose_)?3d|_convtranspose_3d": "volumes: convolutions are of sequences and images",
    r"^test_causal_conv_with_state_kernel_size_one": "an empty tensor, which programs do not hold",
}


def kinds(value):
    """What an input or output holds."""
    form = value.type.WhichOneof("value")
    if form != "tensor_type":
        yield form or "a value that is not given"
    elif value.type.tensor_type.elem_type not in DTYPES:
        yield TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()


def operators(graph):
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from operators(inner)


def reason(name, model):
    """Why a case is left out; None if it is to pass."""
    for pattern, why in CASES.items():
        if re.search(pattern, name):
            return why
    old = any(o.version < 7 for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if old and not fn.onnx.Backend.is_compatible(model):
        return "of a version of the operators before 7"
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for kind in kinds(value):
            return f"holds {kind}"
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i not in DTYPES:
                return f"holds {TensorProto.DataType.Name(attribute.i).lower()}"
    used = set(operators(model.graph))
    return next((f"operators {why}" for why, names in OPERATORS.items() if used & set(names.split())), None)


def ran(case):
    """The first line of what went wrong in a test case; None if it passed."""
    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case.run(result)
    if result.skipped:
        return f"skipped: {result.skipped[0][1]}"
    wrong = [*result.errors, *result.failures]
    return wrong[0][1].strip().rsplit("\n", 1)[-1][:300] if wrong else None


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_MODELS", str(tmp_path_factory.mktemp("models")))  # where the light models' data go
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield BackendTest(fn.onnx.Backend, __name__).test_cases


def models(kind):
    """A kind's cases: name and ModelProto."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind=kind)
    for case in cases:
        yield case.name, case.model or onnx.load(f"{case.model_dir}/model.onnx")


@pytest.mark.parametrize(
    "kind, part",
    [
        ("node", "Node"),
        ("simple", "Simple"),
        ("pytorch-converted", "PyTorchConverted"),
        ("pytorch-operator", "PyTorchOperator"),
    ],
)
def test_each_case_passes_or_is_left_out_for_a_reason(suite, kind, part, capsys):
    left, failed, passed = collections.defaultdict(list), {}, 0
    cases = suite[f"OnnxBackend{part}ModelTest"]
    for name, model in models(kind):
        why = reason(name, model)
        if why is not None:
            left[why].append(name)
            continue
        wrong = ran(cases(f"{name}_cpu"))
        if wrong:
            failed[name] = wrong
        passed += wrong is None
    with capsys.disabled():
        print(f"\n{kind}: {passed} passed of {passed + len(failed)} run, {sum(map(len, left.values()))} left out")
        for why, names in sorted(left.items()):
            print(f"  {len(names):4}  {why}, such as {names[0]}")
    assert not failed, "\n".join(f"{name}: {wrong}" for name, wrong in failed.items())
    assert passed


def test_the_light_models_pass(suite):
    cases = suite["OnnxBackendRealModelTest"]
    names = [name for name in dir(cases) if name.endswith("_cpu")]
    assert len(names) == 9
    assert {name: wrong for name in names if (wrong := ran(cases(name)))} == {}


def test_what_is_left_out_for_its_operators_is_refused_by_their_names():
    unread = {name for names in OPERATORS.values() for name in names.split()}
    seen = set()
    for name, model in models("node"):
        why = reason(name, model)
        if why is None or not why.startswith("operators") or not (used := set(operators(model.graph)) & unread):
            continue
        seen |= used
        with pytest.raises(ValueError) as refused:
            fn.onnx.load(model.SerializeToString())
        for each in used if "operator" in str(refused.value) else ():
            assert each in str(refused.value)
    assert seen


def test_a_node_runs_by_itself():
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    node = helper.make_node("Relu", ["x"], ["y"])
    assert np.array_equal(fn.onnx.Backend.run_node(node, [x])[0], np.maximum(x, 0))
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    (y,) = fn.onnx.Backend.run_node(node, [x, np.float32(1)], outputs_info=[(np.float32, (2, 3))], opset_version=13)
    assert np.array_equal(y, np.minimum(x, 1))
    with pytest.raises(ValueError, match="Clip has 2 inputs, got 1"):
        fn.onnx.Backend.run_node(node, [x])


def test_a_model_runs_by_names_and_on_the_cpu_alone():
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xyz"]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Sub", ["x", "y"], ["z"])], "g", ports[:2], ports[2:])
    )
    one, two = np.ones(2, np.float32), np.full(2, 2, np.float32)
    assert fn.onnx.Backend.run_model(model, {"y": one, "x": two})[0].tolist() == [1, 1]
    assert fn.onnx.Backend.supports_device("CPU") and not fn.onnx.Backend.supports_device("CUDA")
    assert fn.onnx.Backend.is_compatible(model)
    with pytest.raises(ValueError, match="fastnn runs on the CPU"):
        fn.onnx.Backend.prepare(model, "CUDA")
