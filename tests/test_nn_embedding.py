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


class Words(nn.Module):
    """Words by their features, and classes of their means."""

    def __init__(self, sparse, dtype=np.float32, padding=None, tied=False):
        super().__init__()
        fn.manual_seed(0)
        self.words = nn.Embedding(200, 5, padding, sparse=sparse, dtype=dtype)
        self.head = nn.Linear(5, 3, dtype=dtype)
        self.tied = tied

    def forward(self, x):
        y = self.head(self.words(x).mean(1))
        return y * self.words.weight.mean() if self.tied else y


WORDS = np.random.default_rng(4).integers(0, 200, (12, 7))
CLASSES = np.random.default_rng(5).integers(0, 3, 12)


def trained(sparse, make, way="in one", steps=8, dtype=np.float32, **settings):
    """Bits of the weights, and losses, of steps with batches of several sizes."""
    model, loss = Words(sparse, dtype, **settings), nn.CrossEntropyLoss()
    optimizer = make(model)
    step = fn.TrainStep(model, loss, optimizer)
    losses = []
    for i in range(steps):
        x, y = ((WORDS + i) % 200)[i % 3 :], CLASSES[i % 3 :]
        if way == "in one" or (way == "by turns" and i % 2):
            losses.append(step(x, y))
        else:
            optimizer.zero_grad()
            value, dy = loss.value_and_grad(model.forward_train(x), y)
            model.backward(dy)
            optimizer.step()
            losses.append(value)
        optimizer.param_groups[0]["lr"] *= 0.9
    return [array.tobytes() for array in model.state_dict().values()], losses


PLAIN = {
    "plain": lambda model: optim.SGD(model.parameters(), lr=0.5),
    "clipped": lambda model: optim.SGD(model.parameters(), lr=0.5, clip_grad_value=1e-3, dampening=0.3),
    "two groups": lambda model: optim.SGD(
        [{"params": [model.words.weight], "lr": 2.0}, {"params": model.head.parameters(), "momentum": 0.9}], lr=0.1
    ),
}
WHOLE = {
    "momentum": dict(momentum=0.9), "decay": dict(weight_decay=0.1), "penalty": dict(l1_penalty=0.01),
    "clipped by norm": dict(clip_grad_norm=0.1), "noise": dict(grad_noise=0.1), "maximize": dict(maximize=True),
}  # fmt: skip


def kernels(step, x=WORDS, y=CLASSES):
    return [op.kernel for phase in step.plan(x, y).phases for op in phase]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("settings", [{}, {"padding": 3}], ids=str)
@pytest.mark.parametrize("how", PLAIN)
def test_a_sparse_step_of_sgd_visits_the_rows_named_and_has_the_bits_of_the_whole(how, settings, dtype):
    whole = trained(False, PLAIN[how], dtype=dtype, **settings)
    for way in ("in one", "in pieces", "by turns"):
        assert trained(True, PLAIN[how], way, dtype=dtype, **settings) == whole, way
    model = Words(True, dtype, **settings)
    used = kernels(fn.TrainStep(model, nn.CrossEntropyLoss(), PLAIN[how](model)))
    assert "sgd_rows" in used and "fill" not in used


@pytest.mark.parametrize("how", [*WHOLE, "tied", "Adam", "accumulate"])
def test_a_sparse_gradient_is_taken_as_a_whole_where_rows_do_not_suffice(how):
    def make(model):
        if how == "Adam":
            return optim.Adam(model.parameters())
        return optim.SGD(model.parameters(), lr=0.5, **WHOLE.get(how, {}))

    settings = dict(tied=how == "tied")
    assert trained(True, make, **settings) == trained(False, make, **settings)
    model = Words(True, **settings)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), make(model), accumulate=1 + (how == "accumulate"))
    assert "sgd_rows" not in kernels(step)
    step(WORDS, CLASSES)
    assert model.words.weight.grad.shape == (200, 5)


def test_a_setting_that_comes_and_goes_is_followed():
    ends = []
    for sparse in (False, True):
        model = Words(sparse)
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        step = fn.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
        rows = []
        for momentum in (0.0, 0.9, 0.0, 0.0):
            optimizer.param_groups[0]["momentum"] = momentum
            step(WORDS, CLASSES)
            rows.append("sgd_rows" in kernels(step))
            assert (model.words.weight.grad is None) == (sparse and momentum == 0)
        assert rows == ([True, False, True, True] if sparse else [False] * 4)
        ends.append([array.tobytes() for array in model.state_dict().values()])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_steps_are_pytorchs(dtype):
    torch = pytest.importorskip("torch")
    model = Words(True, dtype)
    words = torch.nn.Embedding(200, 5, sparse=True).to(torch.float32 if dtype == np.float32 else torch.float64)
    head = torch.nn.Linear(5, 3).to(words.weight.dtype)
    words.load_state_dict({"weight": torch.tensor(model.words.weight.data)})
    head.load_state_dict({name: torch.tensor(value) for name, value in model.head.state_dict().items()})
    theirs = torch.optim.SGD([*words.parameters(), *head.parameters()], lr=0.5)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.5))
    for i in range(10):
        x = (WORDS + i) % 200
        theirs.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(words(torch.tensor(x)).mean(1)), torch.tensor(CLASSES))
        loss.backward()
        theirs.step()
        assert step(x, CLASSES) == pytest.approx(loss.item(), rel=1e-5 if dtype == np.float32 else 1e-12)
    rounding = dict(rtol=1e-5, atol=1e-6) if dtype == np.float32 else dict(rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(model.words.weight.data, words.weight.detach().numpy(), **rounding)


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
