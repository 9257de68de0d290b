"""Functional forms: the same numbers inside a trace and called with arrays."""

import numpy as np
import pytest

from fastnn import nn
from fastnn.functions import grad, trace, value_and_grad
from fastnn.lowering import cache
from fastnn.lowering.program import OP_BYTES
from fastnn.nn import _eager
from fastnn.nn import functional as F
from fastnn.seed import manual_seed
from fastnn.testing import gradcheck

from native.activation import FUNCTIONS, OURS_ALONE

RNG = np.random.default_rng(3)
X = RNG.standard_normal((6, 4))
LABELS = RNG.integers(0, 4, 6)
W, B = RNG.standard_normal((5, 4)), RNG.standard_normal(5)

CALLS = [
    ("linear", (X, W), {}),
    ("linear", (X, W, B), {}),
    *((name, (X,), settings) for kind, (name, settings) in FUNCTIONS.items() if kind not in OURS_ALONE),
    ("leaky_relu", (X, 0.2), {}),
    ("elu", (X,), {"alpha": 0.5}),
    ("celu", (X, 2.0), {}),
    ("relu6", (X * 4,), {}),
    ("prelu", (X, W[0]), {}),
    ("rrelu", (X, 0.1, 0.5), {}),
    ("softplus", (X, 2.0), {"threshold": 1.0}),
    ("logsigmoid", (X,), {}),
    ("hardsigmoid", (X * 2,), {}),
    ("hardswish", (X * 2,), {}),
    ("hardtanh", (X, -0.5, 0.8), {}),
    ("hardshrink", (X,), {"lambd": 0.4}),
    ("softshrink", (X, 0.4), {}),
    ("tanhshrink", (X,), {}),
    ("threshold", (X, 0.2, 7.0), {}),
    ("glu", (X,), {}),
    ("glu", (X, 0), {}),
    ("softmin", (X, 0), {}),
    ("softmax", (X, 1), {}),
    ("softmax", (X,), {"dim": 0}),
    ("log_softmax", (X, -1), {}),
    ("dropout", (X, 0.5, False), {}),
    ("rms_norm", (X, [4]), {"eps": 0.1}),
    ("alpha_dropout", (X, 0.5, False), {}),
    ("bilinear", (X, X, np.ones((2, 4, 4))), {}),
    ("embedding", (LABELS, np.arange(60, dtype=np.float32).reshape(20, 3)), {}),
    ("flatten", (X,), {}),
    ("cross_entropy", (X, LABELS), {}),
    (
        "cross_entropy",
        (X, LABELS),
        {"reduction": "none", "ignore_index": 1, "label_smoothing": 0.2},
    ),
    ("cross_entropy", (X, LABELS, abs(W[0])), {}),
    ("mse_loss", (X, X * 0.5), {"reduction": "sum"}),
    ("mse_loss", (X, X * 0.5), {"weight": abs(X)}),
    ("l1_loss", (X, X * 0.5), {"reduction": "sum"}),
    ("smooth_l1_loss", (X, X * 0.3), {"beta": 0.4}),
    ("huber_loss", (X, X * 0.3), {"delta": 0.4}),
    ("nll_loss", (X, LABELS), {"ignore_index": 1}),
    ("cross_entropy", (X, abs(np.tanh(X))), {"label_smoothing": 0.1}),
    ("binary_cross_entropy", (abs(np.tanh(X)), abs(np.tanh(X[::-1])).copy()), {}),
    ("soft_margin_loss", (X, np.sign(X)), {}),
    ("hinge_embedding_loss", (X, np.sign(X[::-1]).copy()), {}),
    ("multi_margin_loss", (X, LABELS), {"p": 2}),
    ("kl_div", (X, abs(np.tanh(X))), {"reduction": "batchmean"}),
    ("poisson_nll_loss", (X, abs(X)), {"full": True}),
    ("cosine_embedding_loss", (X, X[::-1].copy(), np.sign(X[:, 0])), {}),
    ("gaussian_nll_loss", (X, X[::-1].copy(), abs(X) + 0.1), {"full": True}),
    ("margin_ranking_loss", (X, X[::-1].copy(), np.sign(X)), {"margin": 0.2}),
    ("triplet_margin_loss", (X, X[::-1].copy(), np.roll(X, 1, 1)), {}),
    ("binary_cross_entropy_with_logits", (X, abs(np.tanh(X))), {}),
    ("binary_cross_entropy_with_logits", (X, abs(np.tanh(X)), abs(X)), {"pos_weight": abs(W[0])}),
]


@pytest.mark.parametrize(("name", "args", "settings"), CALLS)
def test_called_with_arrays_they_give_what_pytorch_and_a_trace_give(name, args, settings):
    torch = pytest.importorskip("torch")
    ours = getattr(F, name)(*args, **settings)
    if name == "flatten":
        theirs = torch.flatten(torch.tensor(X))
    else:

        def as_torch(v):
            return torch.tensor(v) if isinstance(v, np.ndarray) else v

        theirs = getattr(torch.nn.functional, name)(
            *map(as_torch, args), **{k: as_torch(v) for k, v in settings.items()}
        )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12)

    arrays = [a for a in args if isinstance(a, np.ndarray)]
    others = args[len(arrays) :]
    traced = trace(lambda *tensors: getattr(F, name)(*tensors, *others, **settings))
    np.testing.assert_array_equal(traced(*arrays), ours)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_and_its_gradient_lie_in_the_place_of_what_nobody_else_reads(name, dtype):
    x, weight = X.astype(dtype), W.T.astype(dtype)  # (6, 4), (4, 5)

    def attention(x):
        return getattr(F, name)(x * 2, 1) @ weight

    eager = getattr(F, name)(x * 2, 1) @ weight
    traced = trace(attention)
    np.testing.assert_array_equal(traced(x), eager)
    pulled = grad(lambda x: attention(x).square().sum())
    slope = getattr(F, name)(x * 2, 1)
    into = 2 * eager @ weight.T
    total = (into * slope if name == "softmax" else into).sum(1, keepdims=True)
    wanted = 2 * (slope * (into - total) if name == "softmax" else into - np.exp(slope) * total)
    np.testing.assert_allclose(pulled(x), wanted, rtol=2e-5 if dtype == np.float32 else 1e-12)

    for function, kernels in ((traced, {"softmax"}), (pulled, {"softmax", "softmax_backward"})):
        ops = [op for phase in function.plan(x).phases for op in phase if op.kernel in kernels]
        assert {op.kernel for op in ops} == kernels
        for op in ops:
            assert op.buffers[0].root() in [buffer.root() for buffer in op.inputs]


@pytest.mark.parametrize(("name", "args", "settings"), [c for c in CALLS if c[2].get("reduction") != "none"])
def test_gradients_agree_with_central_differences(name, args, settings):
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    others = args[len(arrays) :]
    flat = {"cross_entropy": 1, "binary_cross_entropy_with_logits": 1, "binary_cross_entropy": 1, "nll_loss": 1}
    flat |= {"soft_margin_loss": 1, "hinge_embedding_loss": 1, "multi_margin_loss": 1, "poisson_nll_loss": 1}
    flat |= {"cosine_embedding_loss": 2, "margin_ranking_loss": 2}
    wrt = list(range(flat[name])) if name in flat else None
    assert gradcheck(lambda *t: getattr(F, name)(*t, *others, **settings), *arrays, wrt=wrt)


STEPS = np.array([-np.inf, -2, -1e-30, -0.0, 0, 1e-30, 2, np.inf, np.nan])


def test_a_step_is_1_above_0_and_a_sign_has_both_sides():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(F.step(STEPS), np.heaviside(STEPS, 0))
    np.testing.assert_array_equal(F.sign(STEPS), torch.sign(torch.tensor(STEPS)).numpy())
    np.testing.assert_array_equal(nn.Step()(STEPS), F.step(STEPS))
    np.testing.assert_array_equal(nn.Sign()(STEPS), F.sign(STEPS))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["step", "sign"])
def test_what_a_step_throws_away_has_the_gradient_zero(name, dtype):
    x = STEPS.astype(dtype)
    infinite = np.full_like(x, np.inf)
    dx = grad(lambda x: (getattr(F, name)(x) * infinite).sum())(x)
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, np.zeros_like(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_swish_has_a_fixed_beta_or_one_with_a_gradient(dtype):
    torch = pytest.importorskip("torch")
    x, beta = X.astype(dtype), np.array([0.5, 1.0, -2.0, 3.0], dtype)
    for given in (0.5, beta, beta[:1]):
        tx = torch.tensor(x, requires_grad=True)
        tb = torch.tensor(given, dtype=tx.dtype, requires_grad=True)
        y = tx * torch.sigmoid(tb * tx)
        y.sum().backward()
        np.testing.assert_allclose(F.swish(x, given), y.detach().numpy(), rtol=2e-6)
        if isinstance(given, float):
            dx = grad(lambda x, b=given: F.swish(x, b).sum())(x)
        else:
            dx, db = grad(lambda x, b: F.swish(x, b).sum(), argnums=(0, 1))(x, given)
            np.testing.assert_allclose(db, tb.grad.numpy(), rtol=1e-5)
        np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(F.swish(x), F.silu(x))
    assert gradcheck(F.swish, X, beta.astype(np.float64))


def test_swish_learns_its_beta():
    layer = nn.Swish(0.7, trainable=True, dtype=np.float64)
    assert [name for name, _ in layer.named_parameters()] == ["beta"]
    np.testing.assert_allclose(layer(X), F.swish(X, 0.7))
    assert gradcheck(layer, X)
    assert not list(nn.Swish(0.7).parameters())
    np.testing.assert_array_equal(nn.Swish(0.7)(X), F.swish(X, 0.7))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_maxout_is_the_largest_of_neighbours(dim):
    x = RNG.standard_normal((6, 4, 2))
    pieces = 2
    shape = list(x.shape)
    d = dim % 3
    shape[d : d + 1] = [shape[d] // pieces, pieces]
    np.testing.assert_array_equal(F.maxout(x, pieces, dim), x.reshape(shape).max(d + 1))
    np.testing.assert_array_equal(nn.Maxout(pieces, dim)(x), F.maxout(x, pieces, dim))
    assert gradcheck(lambda x: F.maxout(x, pieces, dim), x)
    np.testing.assert_array_equal(grad(lambda x: F.maxout(x, 2).sum())(np.zeros((1, 4))), np.full((1, 4), 0.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prelu_at_special_points_is_pytorchs(dtype):
    torch = pytest.importorskip("torch")
    for w in (0.25, -1.5, np.inf):
        tx, tw = torch.tensor(STEPS, requires_grad=True), torch.tensor([w], dtype=torch.float64, requires_grad=True)
        y = torch.nn.functional.prelu(tx, tw)
        y.backward(torch.ones_like(y))
        x, weight = STEPS.astype(dtype), np.array([w], dtype)
        np.testing.assert_allclose(F.prelu(x, weight), y.detach().numpy().astype(dtype))
        dx, _ = grad(lambda x, w: F.prelu(x, w).sum(), argnums=(0, 1))(x, weight)
        np.testing.assert_allclose(dx, tx.grad.numpy())
    finite = STEPS[np.isfinite(STEPS)].astype(dtype)
    dw = grad(lambda x, w: F.prelu(x, w).sum(), argnums=1)(finite, np.ones(1, dtype))
    np.testing.assert_allclose(dw, [-2.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rrelu_draws_a_slope_for_each_element_below_0(dtype):
    x = np.array([-np.inf, -1.0, -0.0, 0.0, 2.0, np.inf, np.nan] * 300, dtype)
    manual_seed(1)
    y = F.rrelu(x, 0.2, 0.6, training=True)
    slopes = -y[x == -1]
    assert slopes.min() >= 0.2 and slopes.max() <= 0.6 and len(np.unique(slopes)) > 250
    assert abs(slopes.mean() - 0.4) < 0.03
    np.testing.assert_array_equal(y[~(x < 0)], x[~(x < 0)])
    assert np.all(y[x == -np.inf] == -np.inf)
    manual_seed(1)
    np.testing.assert_array_equal(F.rrelu(x, 0.2, 0.6, training=True), y)
    manual_seed(1)
    value, dx = value_and_grad(lambda x: F.rrelu(x, 0.2, 0.6, training=True).sum())(x[np.isfinite(x)])
    x = x[np.isfinite(x)]
    assert np.all(dx[x > 0] == 1)
    assert np.all((dx[x < 0] >= 0.2) & (dx[x < 0] <= 0.6))
    np.testing.assert_allclose((dx * x).sum(), value, rtol=1e-5)
    layer = nn.RReLU(0.2, 0.6)
    assert len(np.unique(layer.train().forward_train(x))) > 200
    np.testing.assert_allclose(layer.eval()(x), np.where(x > 0, x, x * dtype(0.4)))


def test_float32_stays_float32_and_lists_become_it():
    assert F.relu(X.astype(np.float32)).dtype == np.float32
    assert F.relu([[1.5, -2.0]]).dtype == np.float32
    np.testing.assert_array_equal(F.relu([[1.5, -2.0]]), [[1.5, 0]])


def test_a_parameter_is_taken_as_an_array():
    layer = nn.Linear(4, 5).double()
    np.testing.assert_array_equal(F.linear(X, layer.weight, layer.bias), layer(X))


def test_results_are_new_arrays_even_where_nothing_is_computed():
    y = F.dropout(X, training=False)
    np.testing.assert_array_equal(y, X)
    assert not np.shares_memory(y, X)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_concat_joins_arrays_and_tensors_as_numpy_does(dim):
    parts = [X, X * 2, X[:, ::-1]]
    expected = np.concatenate(parts, dim)
    np.testing.assert_array_equal(F.concat(parts, dim), expected)
    np.testing.assert_array_equal(F.cat(parts, dim=dim), expected)
    np.testing.assert_array_equal(trace(lambda a, b, c: F.cat([a, b, c], dim))(*parts), expected)
    assert gradcheck(lambda a, b: F.concat((a, b, a), dim), X, X)


def test_dropout_draws_anew_each_time():
    x = np.ones((10, 50), np.float32)
    manual_seed(1)
    first = F.dropout(x, 0.25)
    assert not np.array_equal(F.dropout(x, 0.25), first)
    manual_seed(1)
    np.testing.assert_array_equal(F.dropout(x, 0.25), first)


def test_a_program_is_made_once_for_a_function_its_settings_and_shapes():
    _eager.PROGRAMS.clear()  # what other tests left might go when there is more
    shape = (3, 17)
    F.elu(np.ones(shape), 0.7)
    made = _eager.PROGRAMS.count()
    F.elu(np.zeros(shape), alpha=0.7)
    assert _eager.PROGRAMS.count() == made
    F.elu(np.zeros(shape), 0.8)
    F.elu(np.zeros(shape, np.float32), 0.7)
    assert _eager.PROGRAMS.count() == made + 2


def test_settings_that_are_equal_but_of_another_kind_are_told_apart():
    x = np.ones((1, 1, 4, 4))
    assert F.max_pool2d(x, 2).shape == (1, 1, 2, 2)
    for kernel in (2.0, True):
        with pytest.raises(TypeError):
            F.max_pool2d(x, kernel)
    assert np.signbit(F.leaky_relu(-x, 0.0)).all()
    assert not np.signbit(F.leaky_relu(-x, -0.0)).any()


def test_programs_that_were_not_used_for_long_are_let_go(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 20 * OP_BYTES)
    for i in range(100):
        F.relu(np.ones(i + 1))
    assert _eager.PROGRAMS.count() <= 20


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.relu(None), TypeError, "input must be an array .*, got NoneType"),
        (lambda: F.relu("abc"), TypeError, "input"),
        (lambda: F.relu(X.astype(np.float16)), TypeError, "input has dtype float16"),
        (lambda: F.relu(np.ones(3, complex)), TypeError, "input has dtype complex128"),
        (lambda: F.relu(np.ones(3, bool)), TypeError, "input has dtype bool"),
        (
            lambda: F.relu(np.arange(3)),
            TypeError,
            "relu: input holds integers; expected float32 or float64",
        ),
        (lambda: F.relu(np.zeros((0, 3))), ValueError, "input has shape"),
        (lambda: F.relu(), TypeError, "input"),
        (lambda: F.leaky_relu(X, "a"), TypeError, "negative_slope"),
        (lambda: F.leaky_relu(X, [0.1]), TypeError, "negative_slope"),
        (lambda: F.leaky_relu(X, np.nan), ValueError, "negative_slope"),
        (lambda: F.elu(X, None), TypeError, "alpha"),
        (lambda: F.celu(X, 0.0), ValueError, "alpha must not be 0"),
        (lambda: F.softplus(X, beta=0), ValueError, "beta must not be 0"),
        (lambda: F.softplus(X, threshold=np.inf), ValueError, "threshold"),
        (lambda: F.hardtanh(X, 1.0, 0.5), ValueError, "min_val must not exceed max_val"),
        (lambda: F.softshrink(X, -0.5), ValueError, "lambd"),
        (lambda: F.gelu(X, "erf"), ValueError, "approximate must be 'none' or 'tanh', got 'erf'"),
        (lambda: F.rrelu(X, 0.5, 0.25), ValueError, "lower must not exceed upper"),
        (lambda: F.rrelu(X, training=1), TypeError, "training"),
        (lambda: F.rrelu(LABELS), TypeError, "rrelu: input holds integers"),
        (lambda: F.prelu(X, W[0, :3]), ValueError, r"prelu: weight has shape \(3,\); the input's \(6, 4\) wants"),
        (lambda: F.prelu(X, W[0].astype(np.float32)), TypeError, "the weight is float32"),
        (lambda: F.swish(X, "a"), TypeError, "beta"),
        (lambda: F.glu(X[:, :3]), ValueError, "glu: input has shape .6, 3.; its size along dim -1 must be even"),
        (lambda: F.glu(X, 2), ValueError, "dim 2 is out of range"),
        (lambda: F.maxout(X, 3), ValueError, "must be a multiple of pieces=3"),
        (lambda: F.maxout(X, 0), ValueError, "pieces"),
        (lambda: F.softmin(X, 2), ValueError, "dim 2 is out of range"),
        (lambda: F.dropout(X, 1.5), ValueError, "p must be a number from 0 to 1, got 1.5"),
        (lambda: F.dropout(X, True), TypeError, "p must be"),
        (lambda: F.dropout(X, 0.5, training=1), TypeError, "training"),
        (lambda: F.softmax(X, 2), ValueError, "dim 2 is out of range"),
        (lambda: F.softmax(X, 1.0), TypeError, "dim must be an int"),
        (lambda: F.log_softmax(X, None), TypeError, "dim must be an int"),
        (lambda: F.softmax(X), TypeError, "dim"),
        (lambda: F.linear(X, W[:, :3]), ValueError, r"expected \(..., 3\)"),
        (lambda: F.linear(X, W[0]), ValueError, "weight has shape"),
        (lambda: F.linear(X, W, B[:4]), ValueError, "bias has shape"),
        (lambda: F.linear(X, W.astype(np.float32)), TypeError, "weight"),
        (lambda: F.flatten(X, 1, 0), ValueError, "start_dim"),
        (lambda: F.flatten(X, 3), ValueError, "start_dim"),
        (lambda: F.flatten(X, 0, "a"), TypeError, "end_dim"),
        (lambda: F.concat([]), ValueError, "no tensors"),
        (lambda: F.concat(X), TypeError, "tensors must be a list or tuple"),
        (lambda: F.concat([X, X[:, :2]]), ValueError, "tensor 1 has shape"),
        (lambda: F.concat([X, X.astype(np.float32)]), TypeError, "tensor 1 is float32"),
        (lambda: F.concat([X, None]), TypeError, r"tensors\[1\]"),
        (lambda: F.concat([X, X], 5), ValueError, "dim 5"),
        (lambda: F.cross_entropy(X, LABELS[:5]), ValueError, "target"),
        (
            lambda: F.cross_entropy(X, LABELS + 4),
            ValueError,
            r"target\[\d\] is \d; labels must lie in 0 ... 3",
        ),
        (lambda: F.cross_entropy(X, LABELS - 4), ValueError, "target"),
        (lambda: F.cross_entropy(X, LABELS * 1.0), TypeError, "target"),
        (lambda: F.cross_entropy(X, None), TypeError, "target"),
        (lambda: F.cross_entropy(LABELS, LABELS), TypeError, "input"),
        (lambda: F.cross_entropy(X, LABELS, W[0, :3]), ValueError, "weight has shape"),
        (lambda: F.cross_entropy(X, LABELS, abs(W[0]).astype(np.float32)), TypeError, "weight"),
        (
            lambda: F.cross_entropy(X, LABELS, reduction="avg"),
            ValueError,
            "reduction must be one of",
        ),
        (lambda: F.cross_entropy(X, LABELS, reduction=None), ValueError, "reduction"),
        (lambda: F.cross_entropy(X, LABELS, label_smoothing=2), ValueError, "label_smoothing"),
        (lambda: F.cross_entropy(X, LABELS, ignore_index=0.5), TypeError, "ignore_index"),
        (lambda: F.mse_loss(X, X[:, :2]), ValueError, "target"),
        (lambda: F.mse_loss(X, X.astype(np.float32)), TypeError, "target"),
        (lambda: F.mse_loss(X, X, "sums"), ValueError, "reduction"),
        (lambda: F.mse_loss(X, X, weight=X[:2]), ValueError, "weight has shape"),
        (lambda: F.mse_loss(X, X, "sums", weight=X), ValueError, "reduction"),
        (lambda: F.huber_loss(X, X, delta=0), ValueError, "delta must be above 0"),
        (lambda: F.smooth_l1_loss(X, X, beta=-1), ValueError, "beta"),
        (lambda: F.nll_loss(X, LABELS + 4), ValueError, r"labels must lie in 0 ... 3"),
        (lambda: F.nll_loss(X, X), TypeError, "nll_loss: target must hold class indices"),
        (lambda: F.nll_loss(X, LABELS, W[0, :3]), ValueError, "nll_loss: weight has shape"),
        (lambda: F.cross_entropy(X, abs(X), ignore_index=1), ValueError, "ignore_index=1 names a class"),
        (lambda: F.cross_entropy(X, abs(X), W[0, :3]), ValueError, "weight has shape"),
        (lambda: F.cross_entropy(X, abs(X), reduction="avg"), ValueError, "reduction must be one of"),
        (lambda: F.cross_entropy(X, abs(X).astype(np.float32)), TypeError, "the target is float32"),
        (lambda: F.soft_margin_loss(X, X[0]), ValueError, "target"),
        (lambda: F.soft_margin_loss(X, X.astype(np.float32)), TypeError, "target"),
        (lambda: F.soft_margin_loss(X, X, "sums"), ValueError, "reduction"),
        (lambda: F.hinge_loss(X, X, "sums"), ValueError, "reduction"),
        (lambda: F.hinge_embedding_loss(X, X[0]), ValueError, "hinge_embedding_loss: input has shape"),
        (lambda: F.multi_margin_loss(X, LABELS, p=3), ValueError, "p must be 1 or 2, got 3"),
        (lambda: F.multi_margin_loss(X, LABELS[:4]), ValueError, "multi_margin_loss: input has shape"),
        (lambda: F.multi_margin_loss(X, LABELS + 4), ValueError, "target"),
        (lambda: F.multi_margin_loss(X, LABELS, weight=W[0, :3]), ValueError, "weight has shape"),
        (lambda: F.kl_div(X, X, "batch"), ValueError, "reduction"),
        (lambda: F.cosine_embedding_loss(X, X, X), ValueError, "cosine_embedding_loss: input1 has shape"),
        (lambda: F.gaussian_nll_loss(X, X, X[0]), ValueError, "gaussian_nll_loss: input has shape"),
        (lambda: F.gaussian_nll_loss(X, X, X, eps=0), ValueError, "eps must be above 0"),
        (lambda: F.margin_ranking_loss(X, X, X[0]), ValueError, "margin_ranking_loss: input1 has shape"),
        (lambda: F.triplet_margin_loss(X, X, X[0]), ValueError, "anchor has shape .6, 4., negative"),
        (lambda: F.triplet_margin_loss(X, X, X, p=0.5), ValueError, "p must be"),
        (lambda: F.triplet_margin_loss(X, X, X, margin=0), ValueError, "margin must be above 0"),
        (lambda: F.sigmoid_focal_loss(X, X, alpha=-0.5), ValueError, "alpha must be a number from 0 to 1, or -1"),
        (lambda: F.binary_cross_entropy_with_logits(X, X[0]), ValueError, "target"),
        (lambda: F.binary_cross_entropy_with_logits(X, X, X[0, :3]), ValueError, "weight"),
        (
            lambda: F.binary_cross_entropy_with_logits(X, X, [1.0]),
            TypeError,
            "the weight is float32",
        ),
        (
            lambda: F.binary_cross_entropy_with_logits(X, X, weight=X[:2]),
            ValueError,
            "weight has shape",
        ),
        (
            lambda: F.binary_cross_entropy_with_logits(X, X, pos_weight=X[0, :3]),
            ValueError,
            "pos_weight",
        ),
        (
            lambda: F.binary_cross_entropy_with_logits(X, X, pos_weight=[1.0] * 4),
            TypeError,
            "the pos_weight is float32",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_target_cannot_serve_losses_over_different_numbers_of_classes():
    function = trace(lambda x, y: F.cross_entropy(x, y) + F.cross_entropy(x[:, :2], y))
    with pytest.raises(ValueError, match="one target serves losses over 4 and 2 classes"):
        function(X, LABELS)


def test_labels_are_checked_behind_a_reshape_and_refused_behind_a_computation():
    function = trace(lambda x, y: F.cross_entropy(x, y.flatten()))
    assert np.isfinite(function(X, LABELS[:, None]))
    with pytest.raises(ValueError, match=r"labels must lie in 0 \.\.\. 3"):
        function(X, LABELS[:, None] + 4)
    with pytest.raises(TypeError, match="target must be an argument of the traced function"):
        trace(lambda x, y: F.cross_entropy(x, y[:, 0]))(X, np.stack([LABELS, LABELS], 1))
    for held in (lambda x: F.cross_entropy(x, LABELS), lambda x: F.nll_loss(x, LABELS)):
        with pytest.raises(TypeError, match=r"target must be an argument .* not an array that the function holds"):
            trace(held)(X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, t: F.binary_cross_entropy_with_logits(x, t),
        lambda x, t: F.binary_cross_entropy(t * 0.0 + 0.5, t),
        lambda x, t: F.soft_margin_loss(x, t),
        lambda x, t: F.binary_cross_entropy_with_logits(x, x * 0.0, t),
        lambda x, t: F.binary_cross_entropy_with_logits(x, x * 0.0, pos_weight=t),
    ],
)
def test_gradients_that_are_not_provided_are_refused_and_never_zero(function):
    with pytest.raises(TypeError, match="gradient for its input alone"):
        grad(function, argnums=1)(X, abs(np.tanh(X)))


def test_the_gradient_for_class_weights_is_refused_and_never_zero():
    with pytest.raises(TypeError, match="gradient for its input alone"):
        grad(lambda x, y, w: F.cross_entropy(x, y, w), argnums=2)(X, LABELS, abs(W[0]))
