"""What both perceptrons are: checks of parameters, fitting, and answers."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastnn import _check
from fastnn.seed import Source, drawing_from
from fastnn.sklearn.descent import OPTIMIZERS, Descent, Rows, batches
from fastnn.sklearn.network import ACTIVATIONS, Answers, Objective, build, mean, views, write
from fastnn.sklearn.run import Measured, Run
from fastnn.train.minimize import lbfgs

Array = np.ndarray[Any, Any]

#: Bytes of a layer's output up to which all rows are predicted by one run.
AT_ONCE = 1 << 28


class BasePerceptron(BaseEstimator):  # type: ignore[misc]
    """Base of MLPClassifier and MLPRegressor."""

    _label_binarizer: Any
    _optimizer: Descent
    _source: Source
    n_outputs_: int
    classes_: Any
    coefs_: list[Array]
    intercepts_: list[Array]
    out_activation_: str

    # ---- what the two differ in ------------------------------------------------------------------

    @abstractmethod
    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Samples and targets found to be such."""

    @abstractmethod
    def _learn_classes(self, y: Any, incremental: bool) -> None:
        """What targets there are, if the network has yet to know; ValueError if it knows others."""

    @abstractmethod
    def _encoded(self, y: Any, dtype: np.dtype[Any]) -> Array:
        """Targets as the loss takes them: (N, outputs) of a dtype, or classes (N,)."""

    @abstractmethod
    def _output(self) -> tuple[str, str]:
        """The loss, and the activation of the output that goes with it."""

    @abstractmethod
    def _labels(self, target: Array) -> Any:
        """What targets were made of."""

    @abstractmethod
    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """What early stopping looks at."""

    # ---- parameters ------------------------------------------------------------------------------

    def _check_parameters(self) -> list[int]:
        """The sizes of the hidden layers; TypeError or ValueError for a parameter that cannot be."""
        sizes = self.hidden_layer_sizes
        given = {f"hidden_layer_sizes[{i}]": n for i, n in enumerate(sizes)} if np.iterable(sizes) else {}
        hidden = [_check.size(name, n, 1) for name, n in (given or {"hidden_layer_sizes": sizes}).items()]
        if isinstance(self.activation, str):
            _check.choice("activation", self.activation, *ACTIVATIONS)
        if isinstance(self.solver, str):
            _check.choice("solver", self.solver, "lbfgs", *OPTIMIZERS)
        for name, value in {"activation": self.activation, "solver": self.solver}.items():
            if not isinstance(value, str) and not callable(value):
                raise TypeError(f"{name} must be a name, or a class or function that makes one, got {value!r}")
        _check.choice("learning_rate", self.learning_rate, "constant", "invscaling", "adaptive")
        for name in ("alpha", "power_t", "tol"):
            _check.real(name, getattr(self, name), 0)
        for name in ("learning_rate_init", "epsilon"):
            _check.positive(name, getattr(self, name))
        _check.real("momentum", self.momentum, 0, 1)
        for name in ("validation_fraction", "beta_1", "beta_2", "dropout"):
            if _check.real(name, getattr(self, name), 0, 1) == 1:
                raise ValueError(f"{name} must be below 1, got {getattr(self, name)}")
        for name in ("max_iter", "max_fun"):
            _check.integer(name, getattr(self, name), 1)
        if self.n_iter_no_change != math.inf:
            _check.integer("n_iter_no_change", self.n_iter_no_change, 1)
        if not isinstance(self.batch_size, str) or self.batch_size != "auto":
            _check.integer("batch_size", self.batch_size, 1)
        for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "batch_norm"):
            _check.flag(name, getattr(self, name))
        return hidden

    @property
    def _stochastic(self) -> bool:
        return bool(self.solver != "lbfgs")

    def _check_solver(self) -> bool:
        if not self._stochastic:
            raise AttributeError("partial_fit goes on from batch to batch, and solver='lbfgs' takes all data at once")
        return True

    # ---- fitting ---------------------------------------------------------------------------------

    def _fit(
        self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False, validation: Any = (None, None, None)
    ) -> BasePerceptron:
        hidden = self._check_parameters()
        if not self._stochastic:
            given = {name: getattr(self, name) for name in ("callbacks", "metrics", "dropout", "solver_params")}
            for name, value in {"X_val": validation[0] is not None, **given}.items():
                if value:
                    raise ValueError(
                        f"{name}: solver='lbfgs' has no epochs, no settings, and no chance in its loss; take 'adam'"
                    )
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._checked(X, y, first)
        self._learn_classes(y, incremental)
        target, weight = self._encoded(y, X.dtype), self._weights(X, y, sample_weight)
        self.n_outputs_ = len(self.classes_) if target.ndim == 1 else target.shape[1]
        self._random_state = check_random_state(self.random_state)
        if first:
            self._begin([X.shape[1], *hidden, self.n_outputs_], X.dtype if self._stochastic else np.dtype(np.float64))
        elif [X.shape[1], *hidden, self.n_outputs_] != self._sizes():
            raise ValueError(
                f"the network to be trained on has layers of {self._sizes()} values; hidden_layer_sizes and the data "
                f"ask for {[X.shape[1], *hidden, self.n_outputs_]}"
            )
        else:  # the weights may be the user's
            self.__dict__.setdefault("_source", Source())
        with drawing_from(self._source):
            self._connect(first)
        x, t, w = self._as_own(X, target, weight)
        held_out = self._held_out(*validation)
        if self._stochastic:
            with drawing_from(self._source):
                self._fit_batches(Rows(x, t, w), held_out, incremental)
        else:
            self._fit_whole(Rows(x, t, w))
        self._show()
        if not all(np.isfinite(array).all() for array in self._shown):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
        return self

    def _as_own(self, X: Any, target: Array, weight: Array | None) -> tuple[Any, Array, Array | None]:
        """Samples, targets and weights in the dtype of the network."""
        dtype = self.coefs_[0].dtype
        target = target if target.dtype.kind == "i" else target.astype(dtype, copy=False)
        return X.astype(dtype, copy=False), target, None if weight is None else weight.astype(dtype, copy=False)

    def _sizes(self) -> list[int]:
        """The sizes of all layers of the network that there is."""
        return [np.shape(self.coefs_[0])[0], *(np.shape(coef)[1] for coef in self.coefs_)]

    def _begin(self, sizes: list[int], dtype: np.dtype[Any]) -> None:
        """What a network begins with: scikit-learn's random numbers in its order."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(sizes)
        self.coefs_, self.intercepts_ = [], []
        factor = 2.0 if self.activation == "logistic" else 6.0
        for fan_in, fan_out in pairwise(sizes):
            bound = np.sqrt(factor / (fan_in + fan_out))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, fan_out).astype(dtype))
        # What scikit-learn does not draw, comes from a source of the estimator's own: no other thread draws from it.
        beyond = self.dropout or self.solver_params or callable(self.activation) or callable(self.solver)
        self._source = Source(self._random_state.randint(2**31) if beyond else 0)
        for name in ("loss_curve_", "history_", "best_loss_", "validation_scores_", "best_validation_score_"):
            self.__dict__.pop(name, None)

    def _begin_counting(self) -> None:
        """What an epoch is measured by, where it is not there from the fit that this one goes on from."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
        self.history_ = self.__dict__.get("history_", {"loss": self.loss_curve_})
        early = self.early_stopping
        if not hasattr(self, "best_loss_") or early != (self.best_loss_ is None):
            self.best_loss_: Any = None if early else np.inf
            self.validation_scores_: Any = [] if early else None
            self.best_validation_score_: Any = -np.inf if early else None

    def _connect(self, anew: bool) -> None:
        """Let the network have the weights of `coefs_` and `intercepts_`, which anyone may have set."""
        arrays = [*self.coefs_, *self.intercepts_]
        made_of = (self.activation, self.dropout, self.batch_norm, *self._output())
        if anew or getattr(self, "_made_of", None) != made_of:
            self._made_of = made_of
            self.out_activation_ = made_of[-1]
            coefs, intercepts = ([np.asarray(a) for a in part] for part in (self.coefs_, self.intercepts_))
            self.module_ = build(coefs, intercepts, self.activation, self.dropout, self.batch_norm)
            self._objective = Objective(self.module_, made_of[-2], self.alpha)
            self._answers = Answers(self.module_, self.out_activation_)
            self.__dict__.pop("_optimizer", None)
        elif len(arrays) == len(self._shown) and all(a is b for a, b in zip(arrays, self._shown, strict=True)):
            return
        else:
            write(self.module_, self.coefs_, self.intercepts_)
        self._show()

    def _show(self) -> None:
        """Let `coefs_` and `intercepts_` be where the weights lie."""
        self.coefs_, self.intercepts_ = views(self.module_)
        self._shown = [*self.coefs_, *self.intercepts_]

    def _held_out(self, X: Any, y: Any, weight: Any) -> tuple[Any, Array, Array | None] | None:
        """Validation data of the user's own, found to be such."""
        if X is None and y is None:
            return None
        if X is None or y is None:
            raise ValueError("X_val and y_val go together: give both, or neither")
        X, y = self._checked(X, y, False)
        return self._as_own(X, self._encoded(y, X.dtype), None if weight is None else _check_sample_weight(weight, X))

    def _weights(self, X: Any, y: Any, sample_weight: Any) -> Array | None:
        """What samples weigh, and their classes."""
        weight: Array | None = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        if getattr(self, "class_weight", None) is None:
            return weight
        own: Array = compute_sample_weight(self.class_weight, y)
        return own if weight is None else own * weight

    def _fit_whole(self, rows: Rows) -> None:
        batch = rows.batch(np.arange(len(rows)))
        if not batch:
            raise ValueError("sample_weight: all samples weigh nothing")
        options = {"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol}
        self._set_alpha()
        result = lbfgs(self._objective, mean, batch, options)
        self.n_iter_ = min(result.nit, self.max_iter)
        output = self._objective.evaluated(*batch[:-1])
        self.loss_ = float((output[1] if isinstance(output, tuple) else output) * batch[-1])
        if self.verbose:
            print(f"lbfgs: {result.nit} iterations, {result.nfev} evaluations, loss = {self.loss_:.8f}")
        if result.status:
            warnings.warn(
                f"lbfgs has not converged after {result.nit} iteration(s) (status {result.status}: {result.message}); "
                "raise max_iter or max_fun, or scale the data: scikit-learn.org/stable/modules/preprocessing.html",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _set_alpha(self) -> None:
        self._objective.train()
        if self._objective.alpha != self.alpha:
            self._objective.alpha = self.alpha

    def _settings(self) -> dict[str, Any]:
        """Settings of the optimizer."""
        own: dict[str, Any] = {}
        if self.solver == "sgd":
            own = {"momentum": self.momentum, "nesterov": self.nesterovs_momentum and self.momentum > 0}
            own |= {"schedule": self.learning_rate, "power_t": self.power_t}
        elif self.solver == "adam":
            own = {"betas": (self.beta_1, self.beta_2), "eps": self.epsilon, "uncorrected_eps": True}
        return {**own, **(self.solver_params or {})}

    def _fit_batches(self, rows: Rows, held_out: Any, incremental: bool) -> None:
        self._set_alpha()
        self._begin_counting()
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = Descent(self._objective, self.solver, self.learning_rate_init, **self._settings())
            self._show()  # an optimizer gathers what it trains
        order = np.arange(len(rows))
        if self.early_stopping and held_out is None:
            order, held_out = self._split(rows)
        size = min(200, len(order)) if self.batch_size == "auto" else self.batch_size
        if size > len(order):
            warnings.warn(f"batch_size={size} is more than the {len(order)} samples: it takes all", stacklevel=4)
            size = len(order)
        batches = -(-len(order) // size)
        epochs = 1 if incremental else self.max_iter
        run = Run(self.module_, self._optimizer, self.callbacks or [], self.history_, epochs, batches)
        measured = None
        if held_out is not None or self.metrics:
            loss = self._output()[0]
            measured = Measured(self.module_, self._answers, loss, self.metrics, rows, order, held_out)
        try:
            if not self._run(run, rows, order, size, measured) and not incremental:
                warnings.warn(
                    f"after max_iter={self.max_iter} epochs the solver has not converged yet",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            run.closes()

    def _run(self, run: Run, rows: Rows, order: Array, size: int, measured: Measured | None) -> bool:
        """Epoch by epoch; whether it ended since nothing was gained any more, or a callback wanted it."""
        best, self.n_iter_, ended = None, 0, True
        try:
            run.begins()
            while run.epoch < run.epochs:
                run.epoch_begins()
                if self.shuffle:
                    order = order[self._random_state.permutation(len(order))]
                self.loss_ = self._optimizer.epoch(rows, order, size, run.told)
                self.n_iter_ += 1
                self.t_ += len(order)
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                logs = {"loss": self.loss_} if measured is None else {"loss": self.loss_, **measured.logs()}
                if self.early_stopping:
                    assert measured is not None
                    if self._improves(*measured.held_out):
                        best = {name: array.copy() for name, array in self.module_.state_dict().items()}
                    logs["val_score"] = self.validation_scores_[-1]
                else:
                    self._count(self.loss_ > self.best_loss_ - self.tol)
                    self.best_loss_ = min(self.loss_, self.best_loss_)
                run.epoch_ends(logs)
                self._optimizer.epoch_ends(self.t_)
                if self._no_improvement_count > self.n_iter_no_change:
                    if not self._goes_on():
                        break
                    self._no_improvement_count = 0
                if run.stop_training:
                    break
            else:
                ended = False
            run.ends()
            return ended
        finally:
            if best is not None:
                self.module_.load_state_dict(best)

    def _goes_on(self) -> bool:
        """Where nothing is gained any more: whether it does at a smaller rate."""
        slower = self._optimizer.slows_down()
        if self.verbose:
            what = "Validation score" if self.early_stopping else "Training loss"
            then = f"The learning rate becomes {self._optimizer.learning_rate:f}." if slower else "Stopping."
            print(f"{what} did not improve by tol={self.tol:f} in {self.n_iter_no_change} epochs. {then}")
        return slower

    def _count(self, idle: bool) -> None:
        self._no_improvement_count = self._no_improvement_count + 1 if idle else 0

    def _split(self, rows: Rows) -> tuple[Array, tuple[Any, Array, Array | None]]:
        """The rows to train on, and what to validate on, as scikit-learn draws them."""
        binary = self.out_activation_ == "logistic" and self.n_outputs_ == 1
        order, held_out = train_test_split(
            np.arange(len(rows)),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=rows.target.astype(bool) if binary else None,
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        weight = None if rows.weight is None else rows.weight[held_out]
        return order, (rows.x[held_out], rows.target[held_out], weight)

    def _improves(self, X: Any, target: Array, weight: Array | None) -> bool:
        """Whether the validation score is the best so far."""
        score = self._score(X, self._labels(target), weight)
        self.validation_scores_.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        self._count(score < self.best_validation_score_ + self.tol)
        if not score > self.best_validation_score_:
            return False
        self.best_validation_score_ = score
        return True

    # ---- answers ---------------------------------------------------------------------------------

    def _answer(self, X: Any) -> Array:
        """What the network answers, (N, outputs), to samples found to be such."""
        dtype, most = self.coefs_[0].dtype, max(max(c.shape) for c in self.coefs_)
        rows = max(1, AT_ONCE // (most * dtype.itemsize))
        parts = []
        for part in batches(X.shape[0], rows):
            x = X[part].toarray() if hasattr(X, "toarray") else X[part]
            parts.append(self._answers.evaluated(x.astype(dtype, copy=False)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _answer_to(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        self._connect(False)
        return self._answer(X)

    # ---- copies ----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "module_" in state:
            self._connect(False)
            state = {name: value for name, value in state.items() if name not in ("coefs_", "intercepts_", "_shown")}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "module_" in state:
            self._show()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
