"""Networks that PyTorch exported: ONNX Runtime's outputs at any batch, and PyTorch's losses as they train on."""

import io
import warnings

import numpy as np
import pytest

import fastnn as fn
from fastnn import optim

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

import fastnn.onnx  # noqa: E402

from torch_networks import networks, parts  # noqa: E402

NAMES = sorted(networks(torch))
PARTS = sorted(parts(torch))
STEPS = 12


def made(name, seed=0):
    torch.manual_seed(seed)
    module, shape = (networks(torch) | parts(torch))[name]
    return module.eval(), shape


def exported(module, shape, opset=17, mode="PRESERVE"):
    """The bytes that PyTorch's exporter makes of a network; in mode EVAL it folds batch norms."""
    file = io.BytesIO()
    settings = dict(training=getattr(torch.onnx.TrainingMode, mode), do_constant_folding=mode == "EVAL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(2, *shape),), file, dynamo=False, opset_version=opset, input_names=["x"],
            dynamic_axes={"x": {0: "batch"}}, **settings,
        )  # fmt: skip
    return file.getvalue()


def batch(name, shape, n):
    return np.random.default_rng([sum(map(ord, name)), n]).standard_normal((n, *shape)).astype(np.float32)


def each(outputs):
    return outputs if isinstance(outputs, (tuple, list)) else (outputs,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("opset", "mode"), [(9, "EVAL"), (13, "PRESERVE"), (17, "EVAL"), (20, "PRESERVE")])
def test_outputs_are_onnx_runtimes_at_any_batch(name, opset, mode):
    runtime = pytest.importorskip("onnxruntime")
    module, shape = made(name)
    try:
        data = exported(module, shape, opset, mode)
    except torch.onnx.errors.UnsupportedOperatorError as error:
        pytest.skip(f"PyTorch does not export it to version {opset}: {error}")
    assert_runs(runtime, name, data, shape)


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_networks_are_onnx_runtimes_and_train_on_as_pytorchs(name):
    runtime = pytest.importorskip("onnxruntime")
    module, shape = made(name)
    assert_runs(runtime, name, exported(module, shape), shape)
    assert_trains(name, "PRESERVE", steps=4)


def assert_runs(runtime, name, data, shape):
    """ONNX Runtime's outputs, by one program for all batches but one."""
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    net = fn.onnx.load(data).eval()
    for n in (1, 2, 5, 9):
        x = batch(name, shape, n)
        for ours, theirs in zip(each(net(x)), session.run(None, {"x": x}), strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    assert net.plan(x).batched


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_pytorchs_names_and_its_state_loads(name):
    module, shape = made(name)
    other, _ = made(name, seed=1)
    net = fn.onnx.load(exported(module, shape))
    theirs = {k: v.numpy() for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert sorted(net.state_dict()) == sorted(theirs)
    for key, array in net.state_dict().items():
        np.testing.assert_array_equal(array, theirs[key])
    net.load_state_dict({k: v.numpy() for k, v in other.state_dict().items() if k in theirs})
    x = batch(name, shape, 3)
    for ours, want in zip(each(net.eval()(x)), each(other(torch.from_numpy(x))), strict=True):
        np.testing.assert_allclose(ours, want.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["PRESERVE", "TRAINING"])
def test_a_loaded_network_trains_on_as_pytorchs(name, mode):
    assert_trains(name, mode)


def assert_trains(name, mode, steps=STEPS):
    """PyTorch's losses, parameters and statistics."""
    module, shape = made(name)
    net = fn.onnx.load(exported(module.train(mode == "TRAINING"), shape, mode=mode))
    module.eval()
    x = batch(name, shape, 16)
    target = np.tanh(np.roll(np.concatenate([y.reshape(16, -1) for y in each(net.eval()(x))], 1), 1, 0))

    def loss(outputs, wanted, concat):
        return ((concat([y.reshape(16, -1) for y in each(outputs)], 1) - wanted) ** 2).mean()

    opt = optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    step = fn.TrainStep(net.train(), lambda y, t: loss(y, t, fn.concat), opt)
    ours = [float(step(x, target)) for _ in range(steps)]
    opt, theirs = torch.optim.SGD(module.train().parameters(), lr=0.02, momentum=0.9), []
    for _ in range(steps):
        opt.zero_grad()
        value = loss(module(torch.from_numpy(x)), torch.from_numpy(target), torch.cat)
        value.backward()
        opt.step()
        theirs.append(value.item())
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    for y, want in zip(each(net.eval()(x)), each(module.eval()(torch.from_numpy(x))), strict=True):
        np.testing.assert_allclose(y, want.detach(), rtol=1e-3, atol=1e-3)
    assert ours[-1] < ours[0]
    state = module.state_dict()
    for key, array in net.state_dict().items():
        np.testing.assert_allclose(array, state[key].numpy(), rtol=2e-3, atol=2e-4, err_msg=key)
