"""What NeuralClassifier and NeuralRegressor are: parameters of parts, fitting, and answers."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastnn import _check, nn
from fastnn.models.mlp import mlp
from fastnn.optim.optimizer import Optimizer
from fastnn.seed import Source, drawing_from
from fastnn.sklearn.descent import OPTIMIZERS
from fastnn.sklearn.network import Answers
from fastnn.train.evaluation import predict
from fastnn.train.trainer import Trainer

Array = np.ndarray[Any, Any]

#: What the names of settings of parts begin with.
PARTS = ("module__", "optimizer__", "loss__")


class BaseNeural(BaseEstimator):  # type: ignore[misc]
    """Base of NeuralClassifier and NeuralRegressor."""

    module_: nn.Module
    _width: int

    # ---- what the two differ in ------------------------------------------------------------------

    @abstractmethod
    def _learn(self, y: Any, classes: Any) -> Array:
        """Targets as the loss takes them; what classes there are is learned from the first ones."""

    @abstractmethod
    def _outputs(self) -> int:
        """How many values the module gives for a sample."""

    @abstractmethod
    def _usual_loss(self) -> type[nn.Loss]:
        """The class of losses where none is given."""

    @abstractmethod
    def _out_activation(self) -> str:
        """What makes answers of the module's output."""

    # ---- parameters, those of parts among them ---------------------------------------------------

    def _set_parts(self, settings: dict[str, Any]) -> None:
        """Take settings of parts; what else was given is refused by `fit`, as scikit-learn wants it."""
        for name, value in settings.items():
            if not name.startswith(PARTS):
                self._unknown = (*self.__dict__.get("_unknown", ()), name)
            setattr(self, name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name.

        Parameters
        ----------
        deep : bool, default True
            Also those of estimators that are parameters.

        Returns
        -------
        dict
        """
        unknown = self.__dict__.get("_unknown", ())
        own = {name: value for name, value in vars(self).items() if name.startswith(PARTS) or name in unknown}
        return {**super().get_params(deep), **own}

    def set_params(self, **params: Any) -> Any:
        """Set parameters, those of the module, the optimizer and the loss among them.

        Parameters
        ----------
        **params
            Such as ``epochs=5, module__hidden=64, optimizer__weight_decay=0.01``.

        Returns
        -------
        The estimator itself.
        """
        self._set_parts({name: value for name, value in params.items() if name.startswith(PARTS)})
        return super().set_params(**{name: value for name, value in params.items() if not name.startswith(PARTS)})

    def _settings(self, part: str) -> dict[str, Any]:
        start = f"{part}__"
        return {name.removeprefix(start): value for name, value in vars(self).items() if name.startswith(start)}

    def _check_parameters(self) -> None:
        if unknown := self.__dict__.get("_unknown"):
            some = ", ".join(f"{part}..." for part in PARTS)
            raise TypeError(f"{type(self).__name__} has no parameter {unknown[0]!r}; settings of its parts are {some}")
        for name in ("epochs", "batch_size"):
            _check.integer(name, getattr(self, name), 1)
        _check.positive("lr", self.lr)
        for name in ("shuffle", "warm_start"):
            _check.flag(name, getattr(self, name))
        _check.choice("dtype", self.dtype, "float32", "float64")
        if isinstance(self.optimizer, str):
            _check.choice("optimizer", self.optimizer, *OPTIMIZERS)
        share = self.validation_fraction
        if share is not None and not 0 < _check.real("validation_fraction", share, 0, 1) < 1:
            raise ValueError(f"validation_fraction must be above 0 and below 1, or None, got {share}")

    # ---- fitting ---------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, weight: Any, goes_on: bool, classes: Any = None, validation: Any = None) -> Any:
        self._check_parameters()
        first = not hasattr(self, "module_") or not (goes_on or self.warm_start)
        if first:
            for name in ("classes_", "_width"):
                self.__dict__.pop(name, None)
        X, y = self._checked(X, y, first)
        target = self._learn(y, classes)
        weight = self._weights(X, y, weight)
        random_state = check_random_state(self.random_state)
        if first:
            self._source = Source(random_state.randint(2**31))
            self.history_: dict[str, list[float]] = {}
            self.n_iter_ = 0
            with drawing_from(self._source):
                self._build(X)
        if self.validation_fraction is not None and validation is None and not goes_on:
            X, target, weight, validation = self._split(X, target, weight, random_state)
        elif validation is not None:
            held_out = self._checked(validation[0], validation[1], False)
            validation = held_out[0], self._fitting(self._learn(held_out[1], None))
        settings = {
            "epochs": self.n_iter_ + (1 if goes_on else self.epochs),
            "initial_epoch": self.n_iter_,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "callbacks": self.callbacks or (),
            "seed": random_state.randint(2**31),
            "verbose": self.verbose,
            "sample_weight": weight,
            "validation_data": validation,
        }
        trainer = Trainer(self.module_, self._loss, self._optimizer, self.metrics)
        try:
            with drawing_from(self._source):
                trainer.fit((X, self._fitting(target)), **settings)
        finally:
            for name, values in trainer.history.history.items():
                self.history_.setdefault(name, []).extend(values)
            self.n_iter_ = trainer.epoch
        return self

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Array, Any]:
        X, y = validate_data(self, X, y, reset=reset, **self._checks(), multi_output=True)
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _checks(self) -> dict[str, Any]:
        return {"allow_nd": True, "dtype": self.input_dtype or self.dtype, "order": "C"}

    def _weights(self, X: Array, y: Any, sample_weight: Any) -> Array | None:
        """What samples weigh, and their classes, beside the mean."""
        weight: Array | None = None if sample_weight is None else _check_sample_weight(sample_weight, X[:, ...])
        if getattr(self, "class_weight", None) is not None:
            own: Array = compute_sample_weight(self.class_weight, y)
            weight = own if weight is None else own * weight
        if weight is None:
            return None
        if not weight.sum() > 0:
            raise ValueError("sample_weight: all samples weigh nothing")
        return np.asarray(weight * (len(weight) / weight.sum(dtype=np.float64)))

    def _build(self, X: Array) -> None:
        """Make the module, its loss and its optimizer."""
        self.module_ = self._made_module(X).to(np.dtype(self.dtype))
        self._loss = self._made_loss()
        make = OPTIMIZERS[self.optimizer] if isinstance(self.optimizer, str) else self.optimizer
        made = make(self.module_.parameters(), **{"lr": float(self.lr), **self._settings("optimizer")})
        self._optimizer = _check.instance("optimizer(...)", made, Optimizer)
        self._answers = Answers(self.module_, self._out_activation())
        output = self.module_.evaluated(X[:1])
        flat = self._outputs() == 1 and is_regressor(self)
        if not isinstance(output, np.ndarray) or output.shape not in (
            [(1, 1), (1,)] if flat else [(1, self._outputs())]
        ):
            shown = output.shape if isinstance(output, np.ndarray) else f"a {type(output).__name__}"
            raise ValueError(f"the module gives {shown} for one sample; expected (1, {self._outputs()}), as y asks for")
        self._flat = output.ndim == 1

    def _made_module(self, X: Array) -> nn.Module:
        given, make = self._settings("module"), self.module
        if isinstance(make, nn.Module):
            if given:
                raise ValueError(
                    f"module__{next(iter(given))}: the module has been made; give its class, or what makes one"
                )
            return copy.deepcopy(make)
        if make is None:
            make, given = mlp, {"hidden": 100, **given}
        return _check.instance("module(...)", make(**{**self._known(make, X), **given}), nn.Module)  # type: ignore[no-any-return]

    def _known(self, make: Callable[..., Any], X: Array) -> dict[str, int]:
        """What the data say of the arguments that a module's function has."""
        known = {"in_features": X[0].size, "in_channels": X.shape[1]}
        known |= dict.fromkeys(("out_features", "num_classes", "classes"), self._outputs())
        parameters = inspect.signature(make).parameters
        return {name: value for name, value in known.items() if name in parameters}

    def _made_loss(self) -> Any:
        given, loss = self._settings("loss"), self.loss
        if loss is None or isinstance(loss, type):
            return (loss or self._usual_loss())(**given)
        if given:
            raise ValueError(f"loss__{next(iter(given))}: the loss has been made; give its class")
        return copy.deepcopy(loss)

    def _fitting(self, target: Array) -> Array:
        """Targets in the module's shape and dtype."""
        if target.dtype.kind == "i":
            return target
        return (target[:, 0] if self._flat else target).astype(self.dtype, copy=False)

    def _split(self, X: Array, target: Array, weight: Any, random_state: Any) -> tuple[Any, ...]:
        rows, held_out = train_test_split(
            np.arange(len(X)),
            random_state=random_state,
            test_size=self.validation_fraction,
            stratify=target if target.dtype.kind == "i" else None,
        )
        validation = X[held_out], self._fitting(target[held_out])
        return X[rows], target[rows], None if weight is None else weight[rows], validation

    # ---- answers ---------------------------------------------------------------------------------

    def _answer(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **self._checks())
        answer: Array = predict(self._answers, X, 1024)
        return answer

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")
