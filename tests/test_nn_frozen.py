"""Module.frozen: a read-only copy, whose packed weights are made once."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim


def small_network():
    fn.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 40, 3, padding=1, bias=False),
        nn.BatchNorm2d(40),
        nn.ReLU(),
        nn.Conv2d(40, 40, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(40, 24, 3, stride=2, padding=1, groups=2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(24 * 4 * 4, 7),
    )


def images(count, dtype=np.float32):
    return np.random.default_rng(count).standard_normal((count, 3, 16, 16)).astype(dtype)


def trained(model):
    """The model after some steps, so that its running statistics are not those it began with."""
    step = fn.TrainStep(model.train(), nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    for _ in range(3):
        step(images(8), np.arange(8) % 7)
    return model


def native_ops(program):
    return [op for phase in program.phases for op in phase]


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_outputs_are_the_models(dtype, rtol):
    model = trained(small_network()).to(dtype).eval()
    frozen = model.frozen()
    for count in (5, 1, 9, 5, 5, 1):
        x = images(count, dtype)
        y = frozen(x)
        np.testing.assert_allclose(y, model(x), rtol=rtol, atol=rtol)
        assert np.array_equal(y, frozen(x)), "the second run reads what the first has packed"


@pytest.mark.parametrize("make", [fn.models.lenet5, fn.models.resnet20])
def test_the_models_of_the_collection_can_be_frozen(make):
    model = make().eval()
    x = np.random.default_rng(0).random((2, *((1, 28, 28) if make is fn.models.lenet5 else (3, 32, 32))), np.float32)
    np.testing.assert_allclose(model.frozen()(x), model(x), rtol=1e-4, atol=1e-5)


def test_weights_are_packed_and_norms_folded_in_the_first_run_alone():
    frozen = trained(small_network()).frozen()
    x = images(4)
    frozen(x)
    program = frozen.plan(x)
    constant = [op.kernel for op in native_ops(program) if op.constant]
    assert constant.count("conv2d_pack") == 3 and "batch_norm_invstd" in constant
    plan = program.plans[0]

    def seconds_of_packing():
        plan.start_profile()
        frozen(x)
        seconds = plan.stop_profile().sum(axis=1)
        return sum(s for op, s in zip(native_ops(program), seconds, strict=True) if op.constant)

    assert seconds_of_packing() == 0
    frozen(x[:2])
    assert seconds_of_packing() > 0, "another batch may want another packing"
    assert "constant" in program.explain()
    assert not any(op.constant for op in native_ops(small_network().eval().plan(x)))


def test_a_large_linear_copies_its_weights_once_if_frozen_and_in_every_run_if_not():
    layer = nn.Linear(300, 200).eval()
    frozen = layer.frozen()
    rng = np.random.default_rng(0)
    for count in (320, 5, 400):
        x = rng.standard_normal((count, 300)).astype(np.float32)
        expected = x.astype(np.float64) @ layer.weight.numpy().T.astype(np.float64) + layer.bias.numpy()
        np.testing.assert_allclose(layer(x), expected, atol=2e-5)
        np.testing.assert_array_equal(frozen(x), layer(x))
    assert [op.constant for op in native_ops(layer.plan(x)) if op.kernel == "gemm_pack"] == [False]
    assert [op.constant for op in native_ops(frozen.plan(x)) if op.kernel == "gemm_pack"] == [True]
    before = layer(x)
    layer.weight.numpy()[...] *= 2
    assert not np.array_equal(layer(x), before)
    np.testing.assert_array_equal(frozen(x), before)


def test_the_bits_do_not_depend_on_the_threads():
    model = trained(small_network())
    results = []
    for threads in (1, 2, 3, 8):
        with fn.threads(threads):
            frozen = model.frozen()
            results += [frozen(images(6)) for _ in range(3)]
    assert all(np.array_equal(results[0], y) for y in results)


def test_threads_may_share_a_frozen_model():
    frozen, x = trained(small_network()).frozen(), images(5)
    expected = {n: frozen(x[:n]) for n in (1, 3, 5)}
    wrong = []

    def call(n):
        for _ in range(50):
            if not np.array_equal(frozen(x[:n]), expected[n]):
                wrong.append(n)

    team = [threading.Thread(target=call, args=(n,)) for n in (1, 3, 5)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not wrong


def test_the_original_and_its_copy_are_independent():
    model = trained(small_network())
    frozen, x = model.frozen(), images(3)
    before = frozen(x)
    model[0].weight.data[...] = 0
    model[1].running_mean.data[...] = 9
    trained(model)
    assert np.array_equal(frozen(x), before)
    assert model.training and model[0].weight.requires_grad
    assert all(p.data.flags.writeable for p in model.parameters())
    assert list(frozen.state_dict()) == list(model.state_dict())


def test_shared_parameters_stay_shared():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    frozen = nn.Sequential(first, second).frozen()
    assert frozen[0].weight is frozen[1].weight
    assert frozen[0].weight is not first.weight


def test_what_would_change_a_frozen_module_is_refused():
    frozen = small_network().frozen()
    weight = frozen[0].weight
    before = weight.data.copy()
    with pytest.raises(ValueError, match="read-only"):
        weight.data[...] = 1
    with pytest.raises(ValueError, match="read-only"):
        weight.data = np.ones(weight.shape)
    with pytest.raises(ValueError, match="read-only"):
        frozen.load_state_dict({name: array + 1 for name, array in frozen.state_dict().items()})
    frozen.load_state_dict(frozen.state_dict())  # changes nothing
    with pytest.raises(ValueError, match="read-only"):
        frozen.double()
    with pytest.raises(ValueError, match="read-only"):
        weight.requires_grad = True
    with pytest.raises(ValueError, match="read-only"):
        optim.SGD(frozen.parameters(), lr=0.1)
    frozen[1].training = True
    with pytest.raises(ValueError, match="read-only"):
        frozen(images(2))
    assert np.array_equal(weight.data, before)


def test_a_frozen_module_takes_part_in_a_training_and_stays_as_it_is():
    backbone = trained(small_network()).frozen()
    head = nn.Linear(7, 7)
    model = nn.Sequential(backbone, head).train()
    assert not backbone.training and not backbone[6].training and head.training
    x, y = images(6), np.arange(6)
    features = backbone(x)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.Adam(head.parameters(), lr=0.3))
    losses = [step(x, y) for _ in range(100)]
    assert losses[-1] < 0.5 * losses[0]
    assert np.array_equal(backbone(x), features)
    assert any(op.constant for op in native_ops(step.plan(x, y)))
    model.eval()
    np.testing.assert_allclose(model(x), head(features), rtol=1e-5, atol=1e-6)


def test_gradients_pass_through_a_frozen_module():
    inner = trained(small_network()).eval()
    outer = nn.Sequential(nn.Conv2d(3, 3, 1), inner)
    theirs = nn.Sequential(outer[0], inner.frozen())
    x, dy = images(4), np.ones((4, 7), np.float32)
    grads = []
    for model in (outer, theirs):
        outer[0].zero_grad()
        model.forward_train(x)
        model.backward(dy)
        grads.append(outer[0].weight.grad.copy())
    np.testing.assert_allclose(grads[1], grads[0], rtol=1e-4, atol=1e-4)


def test_a_frozen_copy_can_be_frozen_and_saved(tmp_path):
    frozen = trained(small_network()).frozen()
    again = frozen.frozen()
    frozen.save(tmp_path / "model.safetensors")
    model = small_network().load(tmp_path / "model.safetensors").eval()
    x = images(2)
    assert np.array_equal(again(x), frozen(x))
    np.testing.assert_allclose(model(x), frozen(x), rtol=1e-5, atol=1e-6)


EMPTY_PHASE = """
from fastnn_ext import gemm, runtime
from fastnn_ext.plan import Plan
runtime.set_num_threads(2)
def product(m):
    n, place = 400, ("arena", 0, 0)
    dims = [1, m, n, n, n, 1, 0, n, 1, 0, n, 0, -1, -1]
    refs = [place, None, ("arena", 0, 4 * n * n), ("arena", 0, 8 * n * n), None, None, None]
    return ("gemm", 0, refs, dims, [0.0], None)
ops, phases = [product(400), product(0), product(400)], [(0, 1), (1, 1), (2, 1)]
plan = Plan(ops, phases, 3, 12 * 400 * 400, [], [], [], 1, None, constant=1)
for _ in range(3):
    plan.run()
"""


def test_a_run_may_begin_at_a_phase_without_work():
    """The first run begins at a phase that the team shares, the others at one that has no chunks."""
    subprocess.run([sys.executable, "-c", EMPTY_PHASE], check=True, timeout=60)
