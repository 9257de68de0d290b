"""Training of multilayer perceptrons batch by batch, as scikit-learn orders it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn import _check, nn, optim
from fastnn.optim.optimizer import Optimizer
from fastnn.sklearn.network import Objective, mean
from fastnn.train.step import TrainStep

Array = np.ndarray[Any, Any]

#: Optimizers by their names in small letters; "sgd" and "adam" are scikit-learn's.
OPTIMIZERS: dict[str, Any] = {
    name.lower(): kind
    for name, kind in vars(optim).items()
    if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind not in (Optimizer, optim.Custom)
}


class Rows:
    """The samples that are trained on, by row: a batch of sparse ones is made dense when its turn comes.

    Parameters
    ----------
    x : array (N, features), or sparse matrix of that shape
    target : array (N,) or (N, outputs)
    weight : array (N,), optional
    """

    def __init__(self, x: Any, target: Array, weight: Array | None) -> None:
        self.sparse = hasattr(x, "tocsr")
        self.x = x.tocsr() if self.sparse else x
        self.target = target
        self.weight = weight
        self._inverses: dict[int, Array] = {}

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: Any) -> tuple[Array, Array]:
        return self.x[rows].toarray() if self.sparse else self.x[rows], self.target[rows]

    def batch(self, rows: Array) -> tuple[Any, ...]:
        """What a step takes, or nothing if the rows weigh nothing."""
        x = self.x[rows].toarray() if self.sparse else self.x.take(rows, 0)
        target = self.target.take(rows, 0)
        if self.weight is None:
            inverse = self._inverses.get(len(rows))
            if inverse is None:
                inverse = self._inverses[len(rows)] = np.array(1 / len(rows), x.dtype)
            return x, target, inverse
        weight = self.weight.take(rows)
        total = weight.sum(dtype=np.float64)
        return (x, target, weight, np.array(1 / total, x.dtype)) if total else ()


class Descent:
    """A perceptron with what trains it, which goes on from epoch to epoch and from call to call.

    Parameters
    ----------
    objective : Objective
    solver : str, or callable
        An optimizer's name, or what makes one of the parameters and `lr`.
    learning_rate : float
    schedule : {"constant", "invscaling", "adaptive"}
    power_t : float
        Of "invscaling".
    **settings
        Of the optimizer.
    """

    def __init__(
        self,
        objective: Objective,
        solver: Any,
        learning_rate: float,
        schedule: str = "constant",
        power_t: float = 0.5,
        **settings: Any,
    ) -> None:
        make = OPTIMIZERS[solver] if isinstance(solver, str) else solver
        self.objective = objective
        self.optimizer = _check.instance(
            "solver(...)", make(objective.network.parameters(), lr=float(learning_rate), **settings), Optimizer
        )
        self.initial = float(learning_rate)
        self.schedule = schedule
        self.power_t = power_t
        several = objective.loss == "squared_error" and nn_outputs(objective.network) > 1
        self.step = TrainStep(objective, mean, self.optimizer, outputs=several)

    @property
    def learning_rate(self) -> float:
        """The present one."""
        return float(self.optimizer.lr)

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        """scikit-learn's velocities hold the rates of their times, and PyTorch's do not: what is kept is rescaled."""
        before = self.optimizer.lr
        if rate == before:
            return
        state = self.optimizer.state_dict()
        for settings, arrays in zip(state["groups"], state["state"], strict=True):
            settings["lr"] = rate
            if "momentum_buffer" in arrays:
                arrays["momentum_buffer"] *= before / rate
        self.optimizer.load_state_dict(state)

    def epoch(self, rows: Rows, order: Array, batch_size: int, told: Callable[..., None] | None = None) -> float:
        """Train on all rows once, in an order; the mean of the losses, of which each batch counts by its rows.

        Whoever is told of batches is called as told(number, batch, mean so far).
        """
        total, step = 0.0, self.step
        for number, begin in enumerate(range(0, len(order), batch_size)):
            batch = rows.batch(order[begin : begin + batch_size])
            if batch:
                value = step(*batch)
                if step.outputs:
                    value = value[1][1] * float(batch[-1])
                done = min(begin + batch_size, len(order))
                total += value * (done - begin)
                if told is not None:
                    told(number, batch, total / done)
        return total / len(order)

    def epoch_ends(self, samples: int) -> None:
        """After an epoch, by which so many samples were seen."""
        if self.schedule == "invscaling":
            self.learning_rate = self.initial / (samples + 1) ** self.power_t

    def slows_down(self) -> bool:
        """Where nothing is gained any more: whether it goes on at a fifth of the rate."""
        if self.schedule != "adaptive" or self.learning_rate <= 1e-6:
            return False
        self.learning_rate /= 5
        return True


def nn_outputs(network: nn.Module) -> int:
    """How many outputs a perceptron has."""
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    return last.out_features


def batches(rows: int, most: int) -> Iterator[slice]:
    """Parts of so many rows at most."""
    return (slice(i, i + most) for i in range(0, rows, most))
