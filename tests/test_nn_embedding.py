"""Embedding and Bilinear: values, gradients and training, as PyTorch's."""

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.testing import gradcheck

LABELS = np.array([[2, 0, 2], [4, 4, 2]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("padding", [None, 2, -1])
def test_rows_and_their_gradients_are_pytorchs(padding, dtype):
    torch = pytest.importorskip("torch")
    ours = nn.Embedding(5, 3, padding_idx=padding).to(dtype)
    theirs = torch.nn.Embedding(
        5, 3, padding_idx=padding, dtype=torch.float32 if dtype == np.float32 else torch.float64
    )
    assert ours.padding_idx == theirs.padding_idx
    ours.load_state_dict(theirs.state_dict())
    y, theirs_y = ours.forward_train(LABELS), theirs(torch.tensor(LABELS))
    np.testing.assert_array_equal(y, theirs_y.detach().numpy())
    np.testing.assert_array_equal(ours(LABELS[0]), y[0])
    assert y.dtype == dtype
    dy = np.random.default_rng(0).standard_normal(y.shape).astype(dtype)
    ours.backward(dy)
    theirs_y.backward(torch.tensor(dy))
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad.numpy(), rtol=1e-6)


def test_a_padding_row_starts_as_zero_and_stays():
    model = nn.Embedding(5, 3, padding_idx=2)
    assert not model.weight.data[2].any() and model.weight.data[[0, 1, 3, 4]].all()
    step = fn.TrainStep(model, lambda out, target: ((out - 1) * target).sum(), optim.SGD(model.parameters(), lr=0.1))
    before = model.weight.data.copy()
    for _ in range(3):
        step(LABELS, np.ones((2, 3, 3), np.float32))
    moved = (model.weight.data != before).any(1)
    np.testing.assert_array_equal(moved, [True, False, False, False, True])
    model.weight.data[2] = 7
    assert (model(np.array([2])) == 7).all()
    model.reset_parameters()
    assert not model.weight.data[2].any()


def test_labels_that_are_constants_count_from_the_end_and_meet_the_padding_row():
    weight = np.arange(10.0).reshape(5, 2)
    for labels in ([-1, 0, 4], np.array([[-1], [3]]), -1, 2):
        value, grad = fn.value_and_grad(lambda w, i=labels: F.embedding(i, w, 4).sum())(weight)
        assert value == weight[np.asarray(labels)].sum()
        expected = np.zeros((5, 2))
        np.add.at(expected, np.asarray(labels) % 5, 1.0)
        expected[4] = 0
        np.testing.assert_array_equal(grad, expected)


def test_a_padding_row_gets_no_gradient_whatever_comes_back_to_it():
    weight, labels = np.arange(10.0).reshape(5, 2), np.array([1, 0])
    grad = fn.grad(lambda w: (F.embedding(labels, w, 0) * np.array([[1.0], [np.nan]])).sum())(weight)
    np.testing.assert_array_equal(grad, [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0]])


def test_a_padding_row_costs_by_the_labels_and_not_by_the_rows():
    layer, labels = nn.Embedding(1000, 4, padding_idx=0), np.zeros((2, 3), np.int64)
    step = fn.TrainStep(layer, nn.MSELoss(), optim.SGD(layer.parameters(), lr=0.1))
    for program in (layer.plan(labels), step.plan(labels, np.zeros((2, 3, 4), np.float32))):
        ops = [op for phase in program.phases for op in phase if "where" in op.kernel]
        assert ops and all(int(np.prod(op.shapes["y"])) == 24 for op in ops)


def test_an_embedding_trains_beside_other_layers_on_any_batch():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(24, 2))
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.02))
    x = rng.integers(0, 50, (64, 3))
    y = (x.sum(1) > 75).astype(np.int64)
    losses = [step(x[: n or 1], y[: n or 1]) for n in (64, 30, 64, 1) * 30]
    assert losses[-2] < 0.1 * losses[0]
    assert model(x).shape == (64, 2)
    sequence = nn.Embedding(4, 3)
    assert sequence.weight.data.std() > 0.3


def test_embeddings_of_both_dtypes_pass_gradcheck():
    gradcheck(nn.Embedding(5, 3, padding_idx=1).double(), np.array([0, 2, 2, 4]), eps=1.0)
    gradcheck(lambda i, w: F.embedding(i, w), LABELS, np.random.default_rng(0).standard_normal((5, 2)), eps=1.0)


def test_the_bits_of_an_embeddings_gradient_do_not_depend_on_the_threads():
    rng = np.random.default_rng(0)
    labels, weight = rng.integers(0, 100, 20_000), rng.standard_normal((100, 300)).astype(np.float32)
    dy = rng.standard_normal((20_000, 300)).astype(np.float32)
    grads = set()
    for threads in (1, 2, 3, 8):
        with fn.threads(threads):
            grads.add(fn.grad(lambda w: (F.embedding(labels, w) * dy).sum())(weight).tobytes())
    assert len(grads) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Embedding(5, 3)(np.array([5])), ValueError, r"input\[0\] is 5; labels must lie in 0 \.\.\. 4"),
        (lambda: nn.Embedding(5, 3)(np.array([1.0])), TypeError, "an index holds labels, int64, got float64"),
        (lambda: nn.Embedding(0, 3), ValueError, "num_embeddings must be"),
        (lambda: nn.Embedding(5, 3, padding_idx=5), ValueError, r"padding_idx must lie in -5 \.\.\. 4, got 5"),
        (lambda: F.embedding(LABELS, np.ones(3)), ValueError, r"weight has shape \(3,\); expected \(rows, features\)"),
        (lambda: F.bilinear(np.ones((2, 3)), np.ones((3, 3)), np.ones((1, 3, 3))), ValueError, "bilinear: expected"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (2, 3), ()])
def test_bilinear_is_pytorchs(shape, bias, dtype):
    torch = pytest.importorskip("torch")
    ours = nn.Bilinear(4, 5, 3, bias=bias).to(dtype)
    theirs = torch.nn.Bilinear(4, 5, 3, bias=bias).to(torch.float32 if dtype == np.float32 else torch.float64)
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((*shape, 4)).astype(dtype), rng.standard_normal((*shape, 5)).astype(dtype)
    want = theirs(torch.tensor(x), torch.tensor(y))
    np.testing.assert_allclose(ours(x, y), want.detach().numpy(), rtol=1e-4, atol=1e-5)
    ours.forward_train(x, y)
    ours.backward(np.ones(want.shape, dtype))
    want.sum().backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_bilinear_passes_gradcheck_and_starts_as_pytorchs():
    rng = np.random.default_rng(0)
    gradcheck(nn.Bilinear(4, 5, 3).double(), rng.standard_normal((6, 4)), rng.standard_normal((6, 5)))
    layer = nn.Bilinear(25, 40, 30)
    for p in layer.parameters():
        assert 0.9 * 0.2 < abs(p.data).max() <= 0.2
