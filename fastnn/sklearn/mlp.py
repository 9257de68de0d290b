"""MLPClassifier and MLPRegressor: scikit-learn's, and what its users asked for beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastnn import _check
from fastnn.sklearn.base import BasePerceptron

Array = np.ndarray[Any, Any]
CHECKS = {"accept_sparse": "csr", "multi_output": True, "dtype": (np.float64, np.float32), "order": "C"}


class MLPClassifier(ClassifierMixin, BasePerceptron):  # type: ignore[misc]
    """Multilayer perceptron that tells classes apart: scikit-learn's, trained and run by fastnn.

    Parameters, attributes and results are those of scikit-learn 1.9, whose random numbers it draws: with the same
    `random_state` it ends at the same weights, up to rounding. More parameters follow behind those.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
    activation : str, class or function, default "relu"
        Of hidden layers: "identity", "logistic", "tanh" or "relu"; or of more, "leaky_relu", "elu", "gelu", "silu",
        "softsign", or what makes a layer, such as `nn.Mish`.
    solver : str, class or function, default "adam"
        "lbfgs" (by `fn.train.minimize`, in float64), "sgd" or "adam"; or of more, any optimizer of `fn.optim` by its
        name in small letters, such as "adamw", or what makes one of the parameters and `lr`.
    alpha : float, default 1e-4
        The penalty on weights, alpha / 2 times the sum of their squares, is divided by what the samples of a batch
        weigh.
    batch_size : int or "auto", default "auto"
        "auto" is 200, or all samples where there are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Of "sgd": as it is; divided by (samples seen + 1) ** power_t; or by 5 whenever nothing is gained any more.
    learning_rate_init : float, default 0.001
    power_t : float, default 0.5
    max_iter : int, default 200
        Epochs at most; of "lbfgs", iterations.
    shuffle : bool, default True
        Draw an order of the samples for each epoch.
    random_state : int, RandomState or None
        Of weights, orders, the validation set and dropout. With an int the results are the same bits for any number
        of threads and of jobs.
    tol : float, default 1e-4
        What the loss, or the validation score, must gain in `n_iter_no_change` epochs.
    verbose : bool or int, default False
    warm_start : bool, default False
        Whether `fit` goes on from the weights that there are.
    momentum : float, default 0.9
        Of "sgd".
    nesterovs_momentum : bool, default True
    early_stopping : bool, default False
        End where the score of validation data gains nothing any more, with the weights of the best epoch.
    validation_fraction : float, default 0.1
        The share of the samples that are validated on, unless `fit` is given others.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999, 1e-8
        Of "adam".
    n_iter_no_change : int or inf, default 10
    max_fun : int, default 15000
        Evaluations by "lbfgs" at most.
    dropout : float, default 0
        Probability with which a hidden value is dropped in training.
    batch_norm : bool, default False
        Normalise by batches between each hidden layer and its activation.
    class_weight : dict, list of dicts, "balanced" or None
        What classes weigh, as scikit-learn's other classifiers have it.
    solver_params : dict, optional
        More settings of the optimizer, such as ``{"weight_decay": 0.01}``.
    metrics : sequence of str or callable, optional
        Measured of the training data after each epoch, and of validation data: names as for `fn.Trainer`, or functions
        of the network's output and the target.
    callbacks : sequence of Callback, optional
        Of `fn.callbacks`. They see the network as `trainer.model`.

    Attributes
    ----------
    classes_ : array (classes,)
    coefs_, intercepts_ : list of array
        The weights (in, out) and biases of each layer, where the network has them: what is written there counts.
    loss_, best_loss_, loss_curve_
        The loss of the last epoch, the least one, and all of them.
    validation_scores_, best_validation_score_
        With early stopping; else None.
    history_ : dict of str to list of float
        What was measured, a value an epoch: "loss", the metrics, and of validation data those with "val_" before them
        and "val_score".
    n_iter_, t_ : int
        Epochs of the last `fit`, and samples seen.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : array of str
        If there are any.
    out_activation_ : str
        "softmax", or "logistic" of two classes and of labels.
    module_ : Module
        The network, without the activation of its output: `fn.onnx.save(classifier.module_, ...)`.

    Examples
    --------
    >>> from fastnn.sklearn import MLPClassifier
    >>> X, y = fn.data.moons(300, noise=0.1, seed=0)
    >>> classifier = MLPClassifier(learning_rate_init=0.01, dropout=0.1, random_state=0).fit(X, y)
    >>> classifier.score(X, y) > 0.95
    True
    """

    _label_binarizer: Any

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
        metrics: Any = None,
        callbacks: Any = None,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name != "self"})

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:
        """Train.

        Parameters
        ----------
        X : array or sparse matrix (samples, features)
            float32 as it is; else in float64.
        y : array (samples,) or (samples, labels)
            Classes; or of each label whether it is there, 0 or 1.
        sample_weight : array (samples,), optional
        X_val, y_val, sample_weight_val : the same, optional
            To be validated on after each epoch.

        Returns
        -------
        MLPClassifier
            Itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data do not fit, or weights have become infinite.
        """
        return self._fit(X, y, sample_weight, validation=(X_val, y_val, sample_weight_val))

    @available_if(lambda self: self._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch, from where it is.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array (classes,)
            All that there will be; the first call must have them.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        if getattr(self, "classes_", None) is None:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self.classes_ = unique_labels(classes)
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"classes={classes!r} is not what the first call got, {self.classes_!r}")
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """The most probable class of each sample, or its labels.

        Parameters
        ----------
        X : array or sparse matrix (samples, features)

        Returns
        -------
        array (samples,) or (samples, labels)
        """
        return self._classes(self._answer_to(X))

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of classes, in the order of `classes_`, or of labels.

        Parameters
        ----------
        X : array or sparse matrix (samples, features)

        Returns
        -------
        array (samples, classes)
        """
        answer = self._answer_to(X)
        return np.hstack([1 - answer, answer]) if self.n_outputs_ == 1 else answer

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`.

        Parameters
        ----------
        X : array or sparse matrix (samples, features)

        Returns
        -------
        array (samples, classes)
        """
        answer = self.predict_proba(X)
        return np.log(answer, out=answer)

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(self, X, y, reset=reset, **CHECKS)
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        check_classification_targets(y)
        return X, y

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        elif self.warm_start and set(classes := unique_labels(y)) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {classes}"
            )

    def _encoded(self, y: Any, dtype: np.dtype[Any]) -> Array:
        if self._label_binarizer.y_type_.startswith("multilabel"):
            labels: Array = self._label_binarizer.transform(y).astype(dtype)
            return labels
        y = column_or_1d(y)
        index: Array = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        if (unseen := self.classes_[index] != y).any():
            raise ValueError(f"y has the classes {np.unique(y[unseen])}, which are not among classes_, {self.classes_}")
        return index if self._output()[1] == "softmax" else index[:, None].astype(dtype)

    def _output(self) -> tuple[str, str]:
        softmax = self._label_binarizer.y_type_ == "multiclass"
        return ("log_loss", "softmax") if softmax else ("binary_log_loss", "logistic")

    def _labels(self, target: Array) -> Any:
        return self.classes_[target] if target.ndim == 1 else self._classes(target)

    def _classes(self, answer: Array) -> Array:
        classes: Array = self._label_binarizer.inverse_transform(answer.ravel() if self.n_outputs_ == 1 else answer)
        return classes

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        return float(accuracy_score(y, self._classes(self._answer(X)), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BasePerceptron):  # type: ignore[misc]
    """Multilayer perceptron that predicts numbers: scikit-learn's, trained and run by fastnn.

    See `MLPClassifier` for the parameters and attributes that are not told here.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default "squared_error"
        Half the squared error; or half the deviance of counts, whose logarithm the network then computes.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction
    beta_1, beta_2, epsilon, n_iter_no_change, max_fun, dropout, batch_norm, solver_params, metrics, callbacks
        As of MLPClassifier.

    Attributes
    ----------
    out_activation_ : str
        "identity", or "exp" of counts.

    Examples
    --------
    >>> from fastnn.sklearn import MLPRegressor
    >>> X = np.linspace(-2, 2, 100)[:, None]
    >>> regressor = MLPRegressor(activation="tanh", solver="lbfgs", random_state=0, max_iter=1000)
    >>> regressor.fit(X, np.sin(X[:, 0])).score(X, np.sin(X[:, 0])) > 0.999
    True
    """

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
        metrics: Any = None,
        callbacks: Any = None,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name != "self"})

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPRegressor:
        """Train.

        Parameters
        ----------
        X : array or sparse matrix (samples, features)
            float32 as it is; else in float64.
        y : array (samples,) or (samples, outputs)
        sample_weight : array (samples,), optional
        X_val, y_val, sample_weight_val : the same, optional
            To be validated on after each epoch.

        Returns
        -------
        MLPRegressor
            Itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data do not fit, or weights have become infinite.
        """
        return self._fit(X, y, sample_weight, validation=(X_val, y_val, sample_weight_val))

    @available_if(lambda self: self._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch, from where it is.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        MLPRegressor
            Itself.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """What the network computes for each sample.

        Parameters
        ----------
        X : array or sparse matrix (samples, features)

        Returns
        -------
        array (samples,) or (samples, outputs)
        """
        answer = self._answer_to(X)
        return answer.ravel() if answer.shape[1] == 1 else answer

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        _check.choice("loss", self.loss, "squared_error", "poisson")
        X, y = validate_data(self, X, y, reset=reset, y_numeric=True, **CHECKS)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError("loss='poisson' is of counts, and y has numbers below 0")
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        """There are none."""

    def _encoded(self, y: Any, dtype: np.dtype[Any]) -> Array:
        target: Array = y.reshape(len(y), -1).astype(dtype, copy=False)
        return target

    def _output(self) -> tuple[str, str]:
        return self.loss, "exp" if self.loss == "poisson" else "identity"

    def _labels(self, target: Array) -> Any:
        return target

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        answer = self._answer(X)
        return float(r2_score(y, answer, sample_weight=sample_weight)) if np.isfinite(answer).all() else np.nan
