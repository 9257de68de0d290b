"""Estimators for scikit-learn, beside its own checks and tests: what its perceptrons do, and what is more."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.preprocessing import StandardScaler

import fastnn as fn
from fastnn import nn, optim
from fastnn.sklearn import MLPClassifier, MLPRegressor, NeuralClassifier, NeuralRegressor
from fastnn.sklearn.descent import OPTIMIZERS, Rows
from fastnn.sklearn.network import ACTIVATIONS, mean
from fastnn.train.flat import Flat, Slope, loss_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
RNG = np.random.default_rng(0)
WEIGHT = RNG.random(len(X)) + 0.1
LABELS = make_multilabel_classification(n_samples=len(X), n_features=4, random_state=0)
NUMBERS = np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]])
COUNTS = RNG.poisson(np.exp(X[:, 0] / 2)).astype(float)
WEIGHTED = "sample_weight" in inspect.signature(TheirClassifier.fit).parameters


def weights(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def bits(estimator, x=X):
    answer = estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)
    return np.ascontiguousarray(answer).tobytes()


# ---- as scikit-learn's -------------------------------------------------------------------------------

SETTINGS = {
    "adam": {},
    "batches": {"batch_size": 32},
    "in order": {"batch_size": 32, "shuffle": False},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "no nesterov": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
    "no momentum": {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5, "batch_size": 50},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "tol": 0.05, "n_iter_no_change": 1,
    },
    "lbfgs": {"solver": "lbfgs", "max_iter": 10},
    "early": {"early_stopping": True, "batch_size": 40},
    "early, to its end": {"early_stopping": True, "tol": 0.5, "n_iter_no_change": 3},
    "deep": {"hidden_layer_sizes": (8, 6), "activation": "tanh", "alpha": 0.1},
    "logistic": {"hidden_layer_sizes": 5, "activation": "logistic", "alpha": 0.0},
    "eps": {"epsilon": 0.01, "beta_1": 0.5, "beta_2": 0.9},
}  # fmt: skip

TASKS = {
    "classes": (MLPClassifier, TheirClassifier, X, Y),
    "two classes": (MLPClassifier, TheirClassifier, X, np.where(Y == 1, 3, 5)),
    "labels": (MLPClassifier, TheirClassifier, X, LABELS[1]),
    "numbers": (MLPRegressor, TheirRegressor, X, NUMBERS[:, 0]),
    "two outputs": (MLPRegressor, TheirRegressor, X, NUMBERS),
}


def both(task, settings, **fitted):
    """Our estimator and scikit-learn's, fitted alike."""
    ours, theirs, x, y = TASKS[task]
    settings = {"max_iter": 15, "random_state": 3, **settings}
    return ours(**settings).fit(x, y, **fitted), theirs(**settings).fit(x, y, **fitted)


def assert_alike(ours, theirs, rtol=1e-9):
    for mine, other in zip(weights(ours), weights(theirs), strict=True):
        assert mine.shape == other.shape and mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=rtol)
    names = ["loss_", "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_"]
    if ours.solver != "lbfgs":
        names += ["loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"]
    for name in names:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if isinstance(other, str) or other is None:
            assert mine == other, name
        else:
            np.testing.assert_allclose(mine, other, rtol=rtol, err_msg=name)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("task", TASKS)
def test_a_fit_ends_at_scikit_learns_weights(task, setting):
    if (task, setting) == ("two outputs", "lbfgs"):
        pytest.skip("scikit-learn gives L-BFGS a loss of which its gradient is not the gradient: a mean and a sum")
    ours, theirs = both(task, SETTINGS[setting])
    assert_alike(ours, theirs, 1e-6 if setting == "lbfgs" else 1e-9)
    assert task not in ("classes", "two classes", "labels") or (ours.predict(X) == theirs.predict(X)).all()
    if hasattr(theirs, "predict_proba"):
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-5, atol=1e-9)


@pytest.mark.skipif(not WEIGHTED, reason="this scikit-learn's perceptrons know no sample_weight")
@pytest.mark.parametrize("setting", ["adam", "batches", "lbfgs", "early", "sgd"])
@pytest.mark.parametrize("task", ["classes", "two classes", "labels", "numbers"])
def test_weights_of_samples_are_scikit_learns(task, setting):
    assert_alike(*both(task, SETTINGS[setting], sample_weight=WEIGHT), 1e-6 if setting == "lbfgs" else 1e-9)


@pytest.mark.skipif(not WEIGHTED, reason="this scikit-learn has no Poisson loss")
@pytest.mark.parametrize("setting", ["adam", "batches", "lbfgs", "early"])
def test_counts_are_scikit_learns(setting):
    settings = {"loss": "poisson", "max_iter": 15, "random_state": 3, **SETTINGS[setting]}
    ours, theirs = (kind(**settings).fit(X, COUNTS) for kind in (MLPRegressor, TheirRegressor))
    assert_alike(ours, theirs, 1e-6 if setting == "lbfgs" else 1e-9)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-5)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_going_on_is_scikit_learns(solver):
    pairs = []
    for kind in (MLPClassifier, TheirClassifier):
        estimator = kind(solver=solver, random_state=1, batch_size=40)
        for rows in (slice(0, 70), slice(30, 150), slice(0, 150)):
            estimator.partial_fit(X[rows], Y[rows], classes=np.unique(Y))
        estimator.set_params(warm_start=True, max_iter=3, alpha=0.01).fit(X, Y)
        pairs.append(estimator)
    assert_alike(*pairs)


def test_all_parameters_and_their_defaults_are_scikit_learns():
    for ours, theirs in ((MLPClassifier, TheirClassifier), (MLPRegressor, TheirRegressor)):
        mine = ours().get_params()
        assert theirs().get_params().items() <= mine.items()
        assert set(inspect.signature(theirs.partial_fit).parameters) <= set(
            inspect.signature(ours.partial_fit).parameters
        )


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "log_loss", "binary_log_loss"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_those_of_the_loss(loss, weighted):
    y = {"squared_error": NUMBERS, "poisson": COUNTS, "log_loss": Y, "binary_log_loss": LABELS[1]}[loss]
    kind = MLPClassifier if "log" in loss else MLPRegressor
    settings = {} if kind is MLPClassifier else {"loss": loss}
    model = kind(hidden_layer_sizes=6, activation="tanh", alpha=0.3, max_iter=1, random_state=0, **settings)
    model.fit(X, y)
    target = y if y.ndim == 2 or loss == "log_loss" else y[:, None]
    target = target if loss == "log_loss" else target.astype(float)
    batch = Rows(X, target, WEIGHT if weighted else None).batch(np.arange(len(X)))
    flat = Flat(model._objective)
    slope = Slope(loss_of(model._objective, mean), flat.params)

    def at(values):
        flat.put(values)
        return slope(*batch)

    _, gradient = at(flat.before)
    for i in RNG.choice(len(gradient), 12, replace=False):
        step = np.zeros(len(gradient))
        step[i] = 1e-6
        slope_there = (at(flat.before + step)[0] - at(flat.before - step)[0]) / 2e-6
        assert gradient[i] == pytest.approx(slope_there, rel=1e-5, abs=1e-8)


def test_sparse_samples_are_as_dense_ones():
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(abs(X) > 0.5, X, 0)
    for solver in ("adam", "lbfgs"):
        fits = [
            MLPClassifier(solver=solver, batch_size=40, max_iter=5, random_state=0, early_stopping=solver == "adam")
            .fit(x, Y)
            for x in (dense, sparse.csr_matrix(dense), sparse.csc_matrix(dense))
        ]  # fmt: skip
        assert {bits(fit, dense) for fit in fits} == {bits(fits[0], sparse.csr_matrix(dense))}
        assert len({bits(fit, dense) for fit in fits}) == 1
    measured = MLPClassifier(max_iter=2, metrics=["accuracy"], random_state=0)
    measured.fit(sparse.csr_matrix(dense), Y, X_val=sparse.csr_matrix(dense), y_val=Y)
    assert measured.history_["accuracy"] == measured.history_["val_accuracy"]


def test_other_dtypes_and_layouts_become_the_models(tmp_path):
    expected = bits(MLPClassifier(max_iter=3, random_state=0).fit(X, Y))
    mapped = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    mapped.flags.writeable = False
    for x in (np.asfortranarray(X), X[::-1][::-1], mapped, X.tolist(), X.astype(">f8")):
        assert bits(MLPClassifier(max_iter=3, random_state=0).fit(x, Y)) == expected
    single = MLPRegressor(max_iter=3, random_state=0).fit(X.astype(np.float32), NUMBERS[:, 0])
    assert single.predict(X).dtype == single.coefs_[0].dtype == np.float32
    assert MLPRegressor(max_iter=2).fit(X.astype(np.float16), NUMBERS).coefs_[0].dtype == np.float64
    assert NeuralRegressor(epochs=1).fit(X.astype(int), Y).predict(X).dtype == np.float32


def test_weights_that_a_user_writes_count():
    model = MLPClassifier(5, max_iter=2, random_state=0).fit(X, Y)
    zeros = [np.zeros_like(coef) for coef in model.coefs_]
    for write in ("list", "item", "in place"):
        changed = copy.deepcopy(model)
        if write == "list":
            changed.coefs_ = zeros
        for i, zero in enumerate(zeros):
            if write == "item":
                changed.coefs_[i] = zero
            elif write == "in place":
                changed.coefs_[i][...] = 0
        logits = changed.intercepts_[1]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(changed.predict_proba(X[:3]), np.tile(expected, (3, 1)), rtol=1e-12)
        loaded = pickle.loads(pickle.dumps(changed))
        assert bits(loaded) == bits(changed) and not loaded.coefs_[0].any()
        changed.partial_fit(X, Y)
        assert changed.coefs_[1].any()


def test_parameters_may_change_between_fits():
    pairs = []
    for kind in (MLPClassifier, TheirClassifier):
        model = kind(5, max_iter=3, random_state=0, warm_start=True).fit(X, Y)
        model.set_params(activation="tanh")
        answers = [model.predict_proba(X), model.fit(X, Y).predict_proba(X)]
        pairs.append((answers, weights(model)))
    for mine, other in zip([*pairs[0][0], *pairs[0][1]], [*pairs[1][0], *pairs[1][1]], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)
    model = MLPClassifier(solver="lbfgs", warm_start=True, max_iter=2, random_state=0).fit(X, Y)
    assert not hasattr(model, "loss_curve_")
    assert len(model.set_params(solver="adam").fit(X, Y).loss_curve_) == 2
    assert len(model.set_params(early_stopping=True).fit(X, Y).validation_scores_) == 2
    assert model.best_loss_ is None and len(model.loss_curve_) == 4
    assert len(model.set_params(early_stopping=False).fit(X, Y).loss_curve_) == 6 and model.best_loss_ < np.inf


def test_a_fit_that_ends_too_early_warns_at_the_users_line():
    for solver in ("adam", "lbfgs"):
        with pytest.warns(ConvergenceWarning) as caught:
            MLPClassifier(solver=solver, max_iter=1).fit(X, Y)
        assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier(max_iter=1).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.warns(UserWarning, match="takes all") as caught:
        MLPClassifier(batch_size=500, max_iter=2, n_iter_no_change=1, tol=9.0).fit(X, Y)
    assert caught[0].filename == __file__


def test_ctrl_c_ends_a_fit_with_what_was_learned():
    def strike(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    callback = fn.callbacks.LambdaCallback(on_epoch_end=strike)
    with pytest.warns(UserWarning, match="interrupted"):
        model = MLPClassifier(callbacks=[callback], random_state=0).fit(X, Y)
    assert model.n_iter_ == 3 and len(model.loss_curve_) == 3
    model.predict(X)


# ---- what is more ------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_every_optimizer_trains(solver):
    rate = {"adadelta": 0.5, "radam": 0.1}.get(solver, 0.01)
    model = MLPClassifier(16, solver=solver, learning_rate_init=rate, max_iter=25, random_state=0, tol=0).fit(X, Y)
    assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]


@pytest.mark.parametrize("activation", [*ACTIVATIONS, nn.Mish, lambda: nn.LeakyReLU(0.3)])
def test_every_activation_trains(activation):
    model = MLPRegressor(
        hidden_layer_sizes=(12, 12), activation=activation, solver="lbfgs", max_iter=60, random_state=0
    )
    assert model.fit(X, NUMBERS[:, 0]).score(X, NUMBERS[:, 0]) > 0.5


def test_an_optimizer_of_ones_own_and_its_settings():
    named = MLPClassifier(solver="adamw", solver_params={"weight_decay": 0.5}, max_iter=5, random_state=0).fit(X, Y)
    made = MLPClassifier(solver=lambda p, lr: optim.AdamW(p, lr, weight_decay=0.5), max_iter=5, random_state=0)
    assert bits(made.fit(X, Y)) == bits(named)
    assert bits(named.set_params(solver_params={"weight_decay": 0.1}).fit(X, Y)) != bits(made)


def test_dropout_and_batch_norm_are_in_the_network_and_for_training_alone():
    model = MLPClassifier((8, 8), dropout=0.3, batch_norm=True, max_iter=30, learning_rate_init=0.01, random_state=0)
    model.fit(X, Y)
    kinds = [type(module).__name__ for module in model.module_.children()]
    assert kinds == [*("Linear", "BatchNorm1d", "ReLU", "Dropout") * 2, "Linear"]
    assert bits(model) == bits(model) and model.score(X, Y) > 0.9
    single = np.concatenate([model.predict_proba(row[None]) for row in X])
    np.testing.assert_allclose(single, model.predict_proba(X), rtol=1e-9)
    assert [c.shape for c in model.coefs_] == [(4, 8), (8, 8), (8, 3)]


@pytest.mark.parametrize("kind", [MLPClassifier, NeuralClassifier])
def test_class_weights_are_weights_of_samples(kind):
    settings = {"random_state": 0, **({"max_iter": 4} if kind is MLPClassifier else {"epochs": 4})}
    named = kind(class_weight={0: 1.0, 1: 3.0, 2: 0.5}, **settings).fit(X, Y, WEIGHT)
    assert bits(kind(**settings).fit(X, Y, WEIGHT * np.array([1.0, 3.0, 0.5])[Y])) == bits(named)
    rare = np.r_[0:50, 50:55]
    share = [
        (kind(class_weight=c, **settings).fit(X[rare], Y[rare]).predict_proba(X[rare])[:, 1]).mean()
        for c in (None, "balanced")
    ]
    assert share[1] > share[0]


def test_weight_zero_is_as_if_a_sample_were_not_there():
    kept = Y != 2
    some = MLPRegressor(max_iter=5, random_state=0, shuffle=False).fit(X[kept], NUMBERS[kept])
    zeros = MLPRegressor(max_iter=5, random_state=0, shuffle=False, batch_size=100)
    np.testing.assert_allclose(zeros.fit(X, NUMBERS, kept.astype(float)).coefs_[0], some.coefs_[0], rtol=1e-10)
    for model in (NeuralRegressor(epochs=1), MLPRegressor(solver="lbfgs")):
        with pytest.raises(ValueError, match=r"weigh nothing|non-zero"):
            model.fit(X, NUMBERS, np.zeros(len(X)))


@pytest.mark.parametrize(("task", "metric"), [("classes", "accuracy"), ("labels", "accuracy"), ("numbers", "r2")])
def test_validation_data_and_metrics_of_ones_own(task, metric):
    kind, _, x, y = TASKS[task]
    model = kind(max_iter=4, random_state=0, metrics=[metric], alpha=0.0)
    model.fit(x[::2], y[::2], X_val=x[1::2], y_val=y[1::2])
    assert set(model.history_) == {"loss", metric, "val_loss", f"val_{metric}"}
    assert {len(values) for values in model.history_.values()} == {4}
    assert model.history_["loss"] is model.loss_curve_ and model.validation_scores_ is None
    if task == "classes":
        assert model.history_["accuracy"][-1] == pytest.approx(model.score(x[::2], y[::2]))
        proba = model.predict_proba(x[1::2])[np.arange(75), y[1::2]]
        assert model.history_["val_loss"][-1] == pytest.approx(-np.log(proba).mean(), rel=1e-9)
    elif task == "numbers":
        assert model.history_["r2"][-1] == pytest.approx(model.score(x[::2], y[::2]))
        error = model.predict(x[1::2]) - y[1::2]
        assert model.history_["val_loss"][-1] == pytest.approx((error**2).mean() / 2, rel=1e-9)


def test_validation_loss_of_counts_is_half_their_deviance():
    metrics = pytest.importorskip("sklearn.metrics")
    model = MLPRegressor("poisson", max_iter=3, random_state=0, metrics=["mean_absolute_error"])
    model.fit(X, COUNTS, X_val=X, y_val=COUNTS, sample_weight_val=WEIGHT)
    half = metrics.mean_poisson_deviance(COUNTS, model.predict(X), sample_weight=WEIGHT) / 2
    assert model.history_["val_loss"][-1] == pytest.approx(half, rel=1e-9)
    error = abs(COUNTS - model.predict(X)).mean()
    assert model.history_["mean_absolute_error"][-1] == pytest.approx(error, rel=1e-9)


def test_early_stopping_looks_at_the_data_it_is_given():
    model = MLPClassifier(early_stopping=True, max_iter=12, random_state=0, learning_rate_init=0.01)
    model.fit(X[::2], Y[::2], X_val=X[1::2], y_val=Y[1::2])
    assert model.history_["val_score"] == model.validation_scores_ and model.t_ == 75 * model.n_iter_
    assert model.score(X[1::2], Y[1::2]) == model.best_validation_score_ == max(model.validation_scores_)


def test_callbacks_hear_of_epochs_and_batches_and_can_end_the_fit(tmp_path):
    heard = []
    path = str(tmp_path / "best.fnn")
    callbacks = [
        fn.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch: heard.append(epoch),
            on_batch_end=lambda batch, logs: heard.append((batch, logs["loss"])),
            on_epoch_end=lambda epoch, logs: heard.append(logs["val_loss"]),
        ),
        fn.callbacks.ModelCheckpoint(path),
        fn.callbacks.CSVLogger(tmp_path / "log.csv"),
        fn.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1)),
    ]
    model = MLPClassifier(batch_size=75, max_iter=2, random_state=0, callbacks=callbacks)
    model.fit(X, Y, WEIGHT, X_val=X, y_val=Y)
    assert [h[0] if isinstance(h, tuple) else type(h).__name__ for h in heard] == ["int", 0, 1, "float"] * 2
    assert heard[2][1] == pytest.approx(model.loss_curve_[0]) and model._optimizer.learning_rate == 0.005
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    twin = copy.deepcopy(model.module_)
    fn.load_checkpoint(path, twin)
    np.testing.assert_array_equal(twin[0].weight.data, model.module_[0].weight.data)
    stop = fn.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        stopped = MLPClassifier(callbacks=[stop], random_state=0).fit(X, Y, X_val=X, y_val=Y)
    assert stopped.n_iter_ < 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iris", "digits", "diabetes"])
def test_scores_over_ten_seeds_are_scikit_learns_or_better(name):
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    kinds = (MLPRegressor, TheirRegressor) if name == "diabetes" else (MLPClassifier, TheirClassifier)
    scores = []
    for seed in range(10):
        parts = train_test_split(x, y, random_state=seed)
        scores.append([kind(random_state=seed).fit(parts[0], parts[2]).score(parts[1], parts[3]) for kind in kinds])
    ours, theirs = np.transpose(scores)
    assert ours.mean() >= theirs.mean() - theirs.std(ddof=1) / np.sqrt(10)
