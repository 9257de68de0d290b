"""NeuralClassifier and NeuralRegressor: any network as an estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from fastnn import nn
from fastnn.sklearn.parts import BaseNeural

Array = np.ndarray[Any, Any]


class NeuralClassifier(ClassifierMixin, BaseNeural):  # type: ignore[misc]
    """Any network that gives logits as a classifier of scikit-learn.

    Parameters
    ----------
    module : class or function that makes a Module, or a Module, optional
        Of its arguments those named `in_features`, `in_channels`, and `classes`, `num_classes` or `out_features`, are
        taken from the data unless a parameter says otherwise. A Module is copied. Default: `fn.models.mlp` with
        hidden=100.
    loss : Loss, class, or function of output and target, optional
        Default: cross-entropy; of labels, binary cross-entropy of logits.
    optimizer : str, class or function, default "adam"
        An optimizer of `fn.optim` by its name in small letters, or what makes one of the parameters and `lr`.
    lr : float, default 0.001
    epochs : int, default 20
    batch_size : int, default 64
    shuffle : bool, default True
    validation_fraction : float, optional
        Of the samples, to be validated on after each epoch; drawn by classes.
    class_weight : dict, list of dicts, "balanced" or None
    metrics : sequence of str or callable, optional
        As for `fn.Trainer`.
    callbacks : sequence of Callback, optional
        Such as ``[fn.callbacks.EarlyStopping("val_loss")]``.
    dtype : {"float32", "float64"}, default "float32"
        Of the module; samples become that.
    input_dtype : str, optional
        What samples become instead: "int64" for an embedding.
    random_state : int, RandomState or None
        Of initial weights, orders, the validation set and dropout; no other thread draws from it. With an int the
        results are the same bits for any number of threads and of jobs.
    warm_start : bool, default False
        Whether `fit` goes on with the module that there is.
    verbose : bool or int, default False
        As for `Trainer.fit`.
    **parts
        Settings of the module, the optimizer and the loss: ``module__hidden=64``, ``optimizer__weight_decay=0.01``,
        ``loss__label_smoothing=0.1``.

    Attributes
    ----------
    module_ : Module
        What was trained.
    classes_ : array (classes,)
    history_ : dict of str to list of float
        What the trainer logged, a value an epoch.
    n_iter_ : int
        Epochs done.
    n_features_in_, feature_names_in_
        Of samples that are rows of a table.

    Examples
    --------
    >>> from fastnn.sklearn import NeuralClassifier
    >>> X, y = fn.data.moons(300, noise=0.1, seed=0)
    >>> classifier = NeuralClassifier(fn.models.mlp, module__hidden=(32, 32), lr=0.01, random_state=0)
    >>> classifier.fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        module: Any = None,
        *,
        loss: Any = None,
        optimizer: Any = "adam",
        lr: Any = 0.001,
        epochs: Any = 20,
        batch_size: Any = 64,
        shuffle: Any = True,
        validation_fraction: Any = None,
        class_weight: Any = None,
        metrics: Any = None,
        callbacks: Any = None,
        dtype: Any = "float32",
        input_dtype: Any = None,
        random_state: Any = None,
        warm_start: Any = False,
        verbose: Any = False,
        **parts: Any,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name not in ("self", "parts")})
        self._set_parts(parts)

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> NeuralClassifier:
        """Train.

        Parameters
        ----------
        X : array (samples, ...)
            Of any number of dimensions.
        y : array (samples,) or (samples, labels)
            Classes; or of each label whether it is there, 0 or 1.
        sample_weight : array (samples,), optional
            What samples weigh beside their mean.
        X_val, y_val : the same, optional
            To be validated on after each epoch.

        Returns
        -------
        NeuralClassifier
            Itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter, the module or the data do not fit.
        FloatingPointError
            If a loss is NaN or infinite.
        """
        return self._fit(X, y, sample_weight, False, validation=_both(X_val, y_val))  # type: ignore[no-any-return]

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> NeuralClassifier:
        """Train for one epoch, from where it is.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array (classes,), optional
            All that there will be; the first call must have them, unless y has all.

        Returns
        -------
        NeuralClassifier
            Itself.
        """
        return self._fit(X, y, sample_weight, True, classes)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> Array:
        """The most probable class of each sample, or its labels.

        Parameters
        ----------
        X : array (samples, ...)

        Returns
        -------
        array (samples,) or (samples, labels)
        """
        answer = self._answer(X)
        found: Array = (answer > 0.5).astype(int) if self._multilabel else self.classes_[answer.argmax(1)]
        return found

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of classes, in the order of `classes_`, or of labels.

        Parameters
        ----------
        X : array (samples, ...)

        Returns
        -------
        array (samples, classes)
        """
        return self._answer(X)

    def _learn(self, y: Any, classes: Any) -> Array:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError("y has several columns of classes; an estimator for each: sklearn.multioutput")
        if not hasattr(self, "classes_"):
            self._multilabel = kind == "multilabel-indicator"
            self.classes_ = unique_labels(y) if classes is None or self._multilabel else unique_labels(classes)
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"classes={classes!r} is not what the first call got, {self.classes_!r}")
        if len(unseen := np.setdiff1d(unique_labels(y), self.classes_)):
            raise ValueError(f"y has the classes {unseen}, which are not among classes_, {self.classes_}")
        if self._multilabel:
            dense = y.toarray() if hasattr(y, "toarray") else y
            return np.asarray(dense, np.float64)
        found: Array = np.searchsorted(self.classes_, y)
        return found

    def _outputs(self) -> int:
        return len(self.classes_)

    def _usual_loss(self) -> type[nn.Loss]:
        return nn.BCEWithLogitsLoss if self._multilabel else nn.CrossEntropyLoss

    def _out_activation(self) -> str:
        if isinstance(self._loss, nn.BCELoss):
            return "identity"
        return "logistic" if self._multilabel else "softmax"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class NeuralRegressor(RegressorMixin, BaseNeural):  # type: ignore[misc]
    """Any network that gives numbers as a regressor of scikit-learn.

    See `NeuralClassifier` for the parameters and attributes that are not told here.

    Parameters
    ----------
    module
        As of NeuralClassifier; it gives (N, outputs), or (N,).
    loss : Loss, class, or function of output and target, optional
        Default: the mean squared error.
    optimizer, lr, epochs, batch_size, shuffle, validation_fraction, metrics, callbacks, dtype, input_dtype
    random_state, warm_start, verbose, **parts
        As of NeuralClassifier.

    Examples
    --------
    >>> from fastnn.sklearn import NeuralRegressor
    >>> X = np.linspace(-2, 2, 200)[:, None]
    >>> regressor = NeuralRegressor(module__activation="tanh", lr=0.01, epochs=100, random_state=0)
    >>> regressor.fit(X, np.sin(X[:, 0])).score(X, np.sin(X[:, 0])) > 0.99
    True
    """

    def __init__(
        self,
        module: Any = None,
        *,
        loss: Any = None,
        optimizer: Any = "adam",
        lr: Any = 0.001,
        epochs: Any = 20,
        batch_size: Any = 64,
        shuffle: Any = True,
        validation_fraction: Any = None,
        metrics: Any = None,
        callbacks: Any = None,
        dtype: Any = "float32",
        input_dtype: Any = None,
        random_state: Any = None,
        warm_start: Any = False,
        verbose: Any = False,
        **parts: Any,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name not in ("self", "parts")})
        self._set_parts(parts)

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> NeuralRegressor:
        """Train.

        Parameters
        ----------
        X : array (samples, ...)
            Of any number of dimensions.
        y : array (samples,) or (samples, outputs)
        sample_weight : array (samples,), optional
            What samples weigh beside their mean.
        X_val, y_val : the same, optional
            To be validated on after each epoch.

        Returns
        -------
        NeuralRegressor
            Itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter, the module or the data do not fit.
        FloatingPointError
            If a loss is NaN or infinite.
        """
        return self._fit(X, y, sample_weight, False, validation=_both(X_val, y_val))  # type: ignore[no-any-return]

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralRegressor:
        """Train for one epoch, from where it is.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        NeuralRegressor
            Itself.
        """
        return self._fit(X, y, sample_weight, True)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> Array:
        """What the network gives for each sample.

        Parameters
        ----------
        X : array (samples, ...)

        Returns
        -------
        array (samples,) or (samples, outputs)
        """
        answer = self._answer(X)
        return answer.reshape(-1) if self._width == 1 else answer

    def _learn(self, y: Any, classes: Any) -> Array:
        target: Array = np.asarray(y, np.float64).reshape(len(y), -1)
        width = self.__dict__.setdefault("_width", target.shape[1])
        if target.shape[1] != width:
            raise ValueError(f"y has {target.shape[1]} outputs; the module was made for {width}")
        return target

    def _outputs(self) -> int:
        return self._width

    def _usual_loss(self) -> type[nn.Loss]:
        return nn.MSELoss

    def _out_activation(self) -> str:
        return "identity"


def _both(X: Any, y: Any) -> tuple[Any, Any] | None:
    """Validation data, or None where there are none."""
    if (X is None) != (y is None):
        raise ValueError("X_val and y_val go together: give both, or neither")
    return None if X is None else (X, y)
