"""Training by L-BFGS, of small models on data that fit into one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.nn.module import Module
from fastnn.train.flat import Flat, Slope, loss_of
from fastnn_ext.atomic import Meanwhile, commit


def minimize(
    model: Module,
    loss: Any,
    *batch: Any,
    max_iter: int = 200,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
    history_size: int = 10,
) -> float:
    """Train a model on one batch by L-BFGS (SciPy's L-BFGS-B), until nothing is gained any more.

    It needs SciPy: `pip install "fastnn[optimize]"`. The loss must be the same when it is computed again: without
    dropout. Layers that count batches, as batch norm, count each evaluation.

    Parameters
    ----------
    model : Module
        Runs in the mode that it is in; parameters that do not require a gradient are left alone.
    loss : callable
        loss(output, target), a scalar, such as a loss module.
    *batch : array
        The model's inputs, then the loss's target: all of the data.
    max_iter : int, default 200
    tolerance_grad : float, default 1e-7
        It ends where no element of the gradient is larger,
    tolerance_change : float, default 1e-9
        or where an iteration gains less, relative to the loss.
    history_size : int, default 10
        How many steps the curvature is estimated from.

    Returns
    -------
    float
        The loss at the end.

    Raises
    ------
    ImportError
        Without SciPy.
    TypeError, ValueError
        If an argument does not fit. Whatever is raised, the parameters are as they were.

    Examples
    --------
    >>> before = nn.CrossEntropyLoss().value_and_grad(model(x), y)[0]
    >>> fn.train.minimize(model, nn.CrossEntropyLoss(), x, y, max_iter=5) < before
    True
    """
    _check.instance("model", model, Module)
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"loss must be callable as loss(output, target), got {_check.kind_of(loss)}")
    if len(batch) < 2:
        raise TypeError(f"minimize takes the model's inputs and a target, got {len(batch)} array(s)")
    options = {
        "maxiter": _check.integer("max_iter", max_iter, 1),
        "maxfun": 100 * max_iter,
        "gtol": _check.real("tolerance_grad", tolerance_grad, 0),
        "ftol": _check.real("tolerance_change", tolerance_change, 0),
        "maxcor": _check.integer("history_size", history_size, 1),
    }
    return float(lbfgs(model, loss, batch, options).fun)


def lbfgs(model: Module, loss: Any, batch: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """As `minimize`, with SciPy's options of L-BFGS-B; what SciPy says of how it went."""
    try:
        from scipy import optimize
    except ImportError:
        raise ImportError('minimize needs SciPy: pip install "fastnn[optimize]"') from None
    flat = Flat(model)
    slope = Slope(loss_of(model, loss), flat.params)

    def value_and_gradient(values: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        flat.put(values)
        value, gradient = slope(*batch)
        return float(value), np.asarray(gradient, np.float64)

    # The parameters are as before behind the block, however it ends: what came of it is copied as a whole.
    with Meanwhile([], flat.arrays):
        result = optimize.minimize(value_and_gradient, flat.before, jac=True, method="L-BFGS-B", options=dict(options))
        flat.put(result.x)
        found = flat.found()
    commit(found)
    return result
