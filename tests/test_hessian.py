"""Gradients of gradients: products with Hessians, and whole ones, against differences of gradients and formulas."""

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn

from native.activation import ACTIVATIONS, call

X = np.random.default_rng(0).standard_normal((3, 4))
Y = np.random.default_rng(1).standard_normal((3, 4))
LABELS = np.array([2, 0, 3])


def by_differences(grad, x, eps=1e-6):
    """Central differences of a gradient."""
    rows = []
    for i in range(x.size):
        step = np.zeros(x.size)
        step[i] = eps
        step = step.reshape(x.shape)
        rows.append((grad(x + step) - grad(x - step)).ravel() / (2 * eps))
    return np.array(rows).reshape(x.shape + x.shape)


FUNCTIONS = {
    "powers": lambda x: (x * x * x + (x.abs() ** 2.5) + 1 / (x * x + 1)).sum(),
    "maps": lambda x: (x.exp() * x.sin() + x.cos() * (x * x + 1).log() + (x * x + 1).sqrt()).sum(),
    **{kind: lambda x, kind=kind: (call(F, kind, x) ** 3).sum() for kind in ACTIVATIONS},
    "elu by 0.7": lambda x: (F.elu(x, 0.7) ** 3).sum(), "elu by -0.7": lambda x: (F.elu(x, -0.7) ** 3).sum(),
    "celu by 2": lambda x: (F.celu(x, 2.0) ** 3).sum(), "celu by -0.5": lambda x: (F.celu(x, -0.5) ** 3).sum(),
    "swish by 3": lambda x: (F.swish(x, 3.0) ** 3).sum(), "softplus by 2": lambda x: (F.softplus(x, 2.0) ** 3).sum(),
    "softplus to 1": lambda x: (F.softplus(x, 1.5, 1.0) ** 3).sum(), "softmax": lambda x: (x.softmax(1) ** 2).sum(),
    "log_softmax": lambda x: (x.log_softmax(0) ** 2).sum(), "products": lambda x: ((x @ x.T) @ (x @ Y.T)).tanh().sum(),
    "reductions": lambda x: x.var(1).sum() * x.std() + (x.mean(0) ** 3).sum() + (x.amax(1) ** 2).sum(),
    "indexing": lambda x: (x[[0, 0, 2], 1:] ** 3).sum() + (x[::2].cumsum(1) ** 3).sum() + (x.T[1:] ** 3).mean(),
    "prod": lambda x: x.prod(1).sum(),
    "choices": lambda x: fn.where(x > 0, x**3, x.exp()).sum() + (x.clamp(-0.5, 0.5) ** 3).sum(),
    "einsum": lambda x: fn.einsum("ij,ik,kl->jl", x, x, fn.concat([x, x[:1]], 0)).square().sum(),
    "linear": lambda x: (F.linear(x, Y) ** 3).sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_hessian_is_the_differences_of_the_gradient(name):
    function = FUNCTIONS[name]
    hessian = fn.hessian(function)(X)
    np.testing.assert_allclose(hessian, by_differences(fn.grad(function), X), rtol=1e-5, atol=1e-6)
    flat = hessian.reshape(12, 12)
    np.testing.assert_allclose(flat, flat.T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fn.hvp(function)(X, Y), (flat @ Y.ravel()).reshape(3, 4), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.3}, {"ignore_index": 0}])
def test_cross_entropy_is_twice_differentiable(settings, reduction):
    def loss(x, t):
        y = F.cross_entropy(x, t, reduction=reduction, **settings)
        return (y * y).sum() if reduction == "none" else y

    hessian = fn.hessian(loss)(X, LABELS)
    grad = fn.grad(loss, argnums=0)
    np.testing.assert_allclose(hessian, by_differences(lambda x: grad(x, LABELS), X), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, 0.5, 3.0])])
@pytest.mark.parametrize("first", [lambda x: x, lambda x: F.log_softmax(x, 1)])
def test_nll_loss_is_twice_differentiable(first, weight, reduction):
    def loss(x, t):
        return (F.nll_loss(first(x), t, weight, reduction=reduction) ** 2).sum()

    hessian = fn.hessian(loss)(X, LABELS)
    grad = fn.grad(loss, argnums=0)
    np.testing.assert_allclose(hessian, by_differences(lambda x: grad(x, LABELS), X), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_hessian_of_a_model_is_that_of_its_parameters(dtype):
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4)).to(dtype)
    parameters = list(model.parameters())
    x = X.astype(dtype)

    def loss(x, t):
        return F.cross_entropy(model(x), t)

    hessian = fn.hessian(loss, parameters=parameters)(x, LABELS)
    n = sum(p.numel() for p in parameters)
    assert hessian.shape == (n, n) and hessian.dtype == dtype
    start = np.concatenate([p.data.ravel() for p in parameters])

    def gradient(flat):
        at = 0
        for p in parameters:
            p.data = flat[at : at + p.numel()].reshape(p.shape)
            p.grad = None
            at += p.numel()
        y = model.forward_train(x)
        model.backward(fn.grad(lambda y, t: F.cross_entropy(y, t), argnums=0)(y, LABELS))
        return np.concatenate([p.grad.ravel() for p in parameters])

    if dtype == np.float64:
        np.testing.assert_allclose(hessian, by_differences(gradient, start), rtol=1e-5, atol=1e-7)
        gradient(start)
    v = np.random.default_rng(2).standard_normal(n).astype(dtype)
    product = fn.hvp(loss, parameters=parameters)(x, LABELS, v)
    np.testing.assert_allclose(product, hessian @ v, rtol=1e-4, atol=1e-5)
    model[0].weight.data *= 2
    assert not np.allclose(fn.hvp(loss, parameters=parameters)(x, LABELS, v), product)


def test_a_linear_function_has_no_curvature():
    assert not fn.hessian(lambda x: (x * 3).sum())(X).any()
    assert not fn.hvp(lambda x, y: (y * y).sum())(X, Y, X).any()


def test_what_has_no_second_gradient_says_so():
    images = np.ones((1, 1, 6, 6))
    for function, x, message in (
        (lambda x: F.l1_loss(x, Y), X, "l1 has no gradient of its gradient"),
        (lambda x: F.layer_norm(x, 4).square().sum(), X, "has no gradient"),
        (lambda x: F.max_pool2d(x, 2).square().sum(), images, "has no gradient"),
    ):
        with pytest.raises(TypeError, match=message):
            fn.hessian(function)(x)
    with pytest.raises(TypeError, match="with class weights has no gradient of its gradient"):
        fn.hessian(lambda x, t: F.cross_entropy(x, t, np.ones(4)))(X, LABELS)
    with pytest.raises(ValueError, match=r"the vector has shape \(4, 3\); expected \(3, 4\)"):
        fn.hvp(lambda x: x.sum())(X, X.T)
    with pytest.raises(ValueError, match="must return a scalar"):
        fn.hvp(lambda x: x)(X, X)
    with pytest.raises(ValueError, match="argnum is 1; there are 1"):
        fn.hvp(lambda x: x.sum(), argnum=1)(X, X)
