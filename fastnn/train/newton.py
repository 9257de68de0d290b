"""Newton's method and Gauss-Newton, of small models on data that fit into one batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _check
from fastnn.functions import Curved, Hessian, zeros_like
from fastnn.graph import CONSTANT, Graph, Tensor
from fastnn.lowering.cache import Recipe
from fastnn.lowering.gradients import gradients, one
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.train.flat import Flat, Slope, loss_of
from fastnn_ext.atomic import Meanwhile, commit

Array = np.ndarray[Any, Any]

#: Damping beyond which nothing is gained any more, in units of the largest curvature.
MOST_DAMPING = 1e12


def newton(
    model: Module,
    loss: Any,
    *batch: Any,
    curvature: str = "gauss_newton",
    max_iter: int = 100,
    damping: float = 1e-3,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
) -> float:
    """Train a small model on one batch by steps that divide the gradient by the curvature.

    The curvature is a whole matrix, made of as many products as there are parameters: some hundreds of them are quick,
    thousands are not. Each step solves (curvature + damping * identity) step = -gradient; where the loss would not
    fall, the damping becomes ten times as large, and where it does, a tenth (Levenberg and Marquardt). The loss must be
    the same when it is computed again: without dropout.

    Parameters
    ----------
    model : Module
        Runs in the mode that it is in; parameters that do not require a gradient are left alone.
    loss : callable
        loss(output, target), a scalar, twice differentiable: MSELoss, CrossEntropyLoss without class weights, or a
        function that is arithmetic. The model must be so, too: see `fn.hvp`.
    *batch : array
        The model's inputs, then the loss's target: all of the data.
    curvature : {"gauss_newton", "hessian", "absolute"}, default "gauss_newton"
        The Hessian of the loss with a model that is linear in its parameters, which is never negative (for squares:
        Levenberg-Marquardt; penalties on signals are no part of it); the Hessian (Newton), damped until it is positive;
        or the Hessian with the absolute values of its eigenvalues, which leaves saddles behind (Dauphin et al., 2014).
    max_iter : int, default 100
    damping : float, default 1e-3
        To begin with, in units of the largest element of the curvature's diagonal.
    tolerance_grad : float, default 1e-7
        It ends where no element of the gradient is larger,
    tolerance_change : float, default 1e-9
        or where a step gains less, relative to the loss.

    Returns
    -------
    float
        The loss at the end.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or an op is not twice differentiable. Whatever is raised, the parameters are as
        they were.

    Examples
    --------
    >>> small = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    >>> points = np.linspace(-2, 2, 40)[:, None]
    >>> fn.train.newton(small, nn.MSELoss(), points, np.sin(points)) < 1e-3
    True
    """
    _check.instance("model", model, Module)
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"loss must be callable as loss(output, target), got {_check.kind_of(loss)}")
    if len(batch) < 2:
        raise TypeError(f"newton takes the model's inputs and a target, got {len(batch)} array(s)")
    _check.choice("curvature", curvature, "gauss_newton", "hessian", "absolute")
    max_iter = _check.integer("max_iter", max_iter, 1)
    damping = _check.real("damping", damping, 0)
    least_gradient = _check.real("tolerance_grad", tolerance_grad, 0)
    least_gain = _check.real("tolerance_change", tolerance_change, 0)
    flat = Flat(model)
    make = _gauss_newton if curvature == "gauss_newton" else _hessian
    matrix, slope = make(model, loss, flat.params), Slope(loss_of(model, loss), flat.params)

    def at(values: Array) -> tuple[float, Array]:
        flat.put(values)
        value, gradient = slope(*batch)
        return float(value), np.asarray(gradient, np.float64)

    # The parameters are as before behind the block, however it ends: what came of it is copied as a whole.
    with Meanwhile([], flat.arrays):
        here = flat.before
        value, gradient = at(here)
        for _ in range(max_iter):
            if not np.abs(gradient).max() > least_gradient:
                break
            curved = np.asarray(matrix(*batch), np.float64)
            if curvature == "absolute":
                values, vectors = np.linalg.eigh(curved)
                curved = (vectors * np.abs(values)) @ vectors.T
            unit = np.abs(np.diag(curved)).max() or 1.0
            taken = None
            while taken is None and damping <= MOST_DAMPING:
                step = _solved(curved + damping * unit * np.eye(here.size), -gradient)
                if step is not None:
                    there = here + step
                    reached = at(there)
                    if reached[0] < value:
                        taken = there, *reached
                damping = max(damping * 10, 1e-15) if taken is None else damping / 10
            if taken is None:
                break
            gain = value - taken[1]
            here, value, gradient = taken
            if gain <= least_gain * max(abs(value), gain):
                break
        flat.put(here)
        found = flat.found()
    commit(found)
    return value


def _solved(matrix: Array, vector: Array) -> Array | None:
    """matrix^-1 vector, if the matrix is positive and the result finite."""
    try:
        root = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return None
    result: Array = np.linalg.solve(root.T, np.linalg.solve(root, vector))
    return result if np.isfinite(result).all() else None


def _hessian(model: Module, loss: Any, params: list[Parameter]) -> Hessian:
    return Hessian(Curved(loss_of(model, loss), 0, params))


def _gauss_newton(model: Module, loss: Any, params: list[Parameter]) -> Hessian:
    def parts(*tensors: Tensor) -> Any:
        output = model(*tensors[:-1])
        if not isinstance(output, Tensor):
            raise TypeError(f"Gauss-Newton is for models of one output, got {_check.kind_of(output)}")
        given = output.detach()
        return output, given, loss(given, tensors[-1])

    return Hessian(_GaussNewton(parts, 0, params))


class _GaussNewton(Curved):
    """Products J^T H J v, with J the Jacobian of a model's output, and H the Hessian of the loss for it (Schraudolph,
    "Fast curvature matrix-vector products for second-order gradient descent", 2002)."""

    def _finish(self, graph: Graph, result: Any) -> Recipe:
        (output, given, loss), v = result
        if not isinstance(loss, Tensor) or loss.shape != ():
            raise ValueError(f"the loss must be a scalar to train on, got {loss!r}")
        leaves, directions = self._directions(graph, v)
        # J^T u is linear in u, so that its product with v has the gradient J v for u, whatever u is.
        u = graph.add(CONSTANT, (), value=np.ones(tuple(map(int, output.shape)), output.dtype)).output
        backward = gradients(graph, {output: u}, leaves)
        moved = _gradient(graph, [(g, d) for g, d in zip(backward, directions, strict=True) if g is not None], u)
        (slope,) = gradients(graph, {loss: one(loss.dtype)}, [given])
        curved = None if moved is None or slope is None else _gradient(graph, [(slope, moved.detach())], given)
        found = [None] * len(leaves) if curved is None else gradients(graph, {output: curved}, leaves)
        return self._product([zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True)])


def _gradient(graph: Graph, pairs: list[tuple[Tensor, Tensor]], wrt: Tensor) -> Tensor | None:
    """Of the sum of products of tensors; None if it does not depend on `wrt`."""
    terms = [(a * b).sum() for a, b in pairs]
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return gradients(graph, {total: one(total.dtype)}, [wrt])[0]
