"""MLPClassifier and MLPRegressor: scikit-learn's, and what its users asked for beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastnn import _check
from fastnn.sklearn.base import BasePerceptron

Array = np.ndarray[Any, Any]
FLOATS = (np.float64, np.float32)


class MLPClassifier(ClassifierMixin, BasePerceptron):  # type: ignore[misc]
    """Multilayer perceptron that tells classes apart, as scikit-learn's."""

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        dropout: Any = 0.0,
        batch_norm: Any = False,
        class_weight: Any = None,
        solver_params: Any = None,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name != "self"})

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Fit."""
        return self._fit(X, y, sample_weight)

    def _targets(self, X: Any, y: Any, incremental: bool, first: bool) -> tuple[Any, Array, Array | None]:
        X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True, dtype=FLOATS, order="C", reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                        f"Previously got {self.classes_}, `y` has {classes}"
                    )
            elif len(unseen := np.setdiff1d(classes, self.classes_)):
                raise ValueError(f"y has the classes {unseen}, which are not among classes_, {self.classes_}")
        target = self._label_binarizer.transform(y)
        self.n_outputs_ = target.shape[1]
        weight = None if self.class_weight is None else compute_sample_weight(self.class_weight, y)
        return X, target.argmax(1) if self._output()[1] == "softmax" else target.astype(X.dtype), weight

    def _output(self) -> tuple[str, str]:
        softmax = self._label_binarizer.y_type_ == "multiclass"
        return ("log_loss", "softmax") if softmax else ("binary_log_loss", "logistic")

    def _labels(self, target: Array) -> Any:
        if target.ndim == 1:
            return self.classes_[target]
        return self._label_binarizer.inverse_transform(target)

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        return float(accuracy_score(y, self._classes(self._answer(X)), sample_weight=sample_weight))

    def _classes(self, answer: Array) -> Array:
        classes: Array = self._label_binarizer.inverse_transform(answer.ravel() if self.n_outputs_ == 1 else answer)
        return classes

    def predict(self, X: Any) -> Array:
        """Predict."""
        return self._classes(self._answer_to(X))

    def predict_proba(self, X: Any) -> Array:
        """Probabilities."""
        answer = self._answer_to(X)
        return np.hstack([1 - answer, answer]) if self.n_outputs_ == 1 else answer

    def predict_log_proba(self, X: Any) -> Array:
        """Logs."""
        answer = self.predict_proba(X)
        return np.log(answer, out=answer)

    @available_if(lambda self: self._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch."""
        if getattr(self, "classes_", None) is None:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self.classes_ = unique_labels(classes)
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"classes={classes!r} is not what the first call got, {self.classes_!r}")
        return self._fit(X, y, sample_weight, incremental=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BasePerceptron):  # type: ignore[misc]
    """Multilayer perceptron that predicts numbers, as scikit-learn's."""

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        dropout: Any = 0.0,
        batch_norm: Any = False,
        solver_params: Any = None,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name != "self"})

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Fit."""
        return self._fit(X, y, sample_weight)

    def _targets(self, X: Any, y: Any, incremental: bool, first: bool) -> tuple[Any, Array, Array | None]:
        _check.choice("loss", self.loss, "squared_error", "poisson")
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=True,
            dtype=FLOATS,
            order="C",
            reset=first,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError("loss='poisson' is of counts, and y has numbers below 0")
        target = y.reshape(len(y), -1).astype(X.dtype, copy=False)
        self.n_outputs_ = target.shape[1]
        return X, target, None

    def _output(self) -> tuple[str, str]:
        return self.loss, "exp" if self.loss == "poisson" else "identity"

    def _labels(self, target: Array) -> Any:
        return target

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        answer = self._answer(X)
        return float(r2_score(y, answer, sample_weight=sample_weight)) if np.isfinite(answer).all() else np.nan

    def predict(self, X: Any) -> Array:
        """Predict."""
        answer = self._answer_to(X)
        return answer.ravel() if answer.shape[1] == 1 else answer

    @available_if(lambda self: self._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch."""
        return self._fit(X, y, sample_weight, incremental=True)
