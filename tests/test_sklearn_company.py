"""Estimators for scikit-learn among other things: copies, threads, jobs, pipelines, networks of your own, wrong use."""

import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fn
from fastnn import nn
from fastnn.sklearn import MLPClassifier, MLPRegressor, NeuralClassifier, NeuralRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
RNG = np.random.default_rng(0)
WEIGHT = RNG.random(len(X)) + 0.1
LABELS = make_multilabel_classification(n_samples=len(X), n_features=4, random_state=0)[1]
NUMBERS = np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]])


def bits(estimator, x=X):
    answer = estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)
    return np.ascontiguousarray(answer).tobytes()


# ---- copies, threads and jobs ------------------------------------------------------------------------

ESTIMATORS = {
    "adam": MLPClassifier(max_iter=4, random_state=0, dropout=0.2, batch_norm=True, batch_size=50),
    "sgd": MLPClassifier(max_iter=4, random_state=0, solver="sgd", learning_rate="invscaling", batch_size=50),
    "lbfgs": MLPRegressor(max_iter=4, random_state=0, solver="lbfgs"),
    "early": MLPRegressor(max_iter=4, random_state=0, early_stopping=True),
    "module": NeuralClassifier(fn.models.mlp, module__hidden=8, module__dropout=0.2, epochs=3, random_state=0),
    "regressor": NeuralRegressor(module__hidden=8, epochs=3, random_state=0, optimizer="sgd", optimizer__momentum=0.9),
}


def target_of(estimator):
    return Y if hasattr(estimator, "predict_proba") else NUMBERS


@pytest.mark.parametrize("name", ESTIMATORS)
def test_copies_answer_and_go_on_alike(name, tmp_path):
    model = clone(ESTIMATORS[name])
    y = target_of(model)
    model.fit(X, y)
    joblib.dump(model, tmp_path / "model.joblib")
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), joblib.load(tmp_path / "model.joblib")]
    assert {bits(twin) for twin in copies} == {bits(model)}
    assert bits(clone(model).fit(X, y)) == bits(model)
    if hasattr(model, "partial_fit") and name != "early":
        for twin in (model, *copies):
            twin.partial_fit(X, y).partial_fit(X, y)
        assert {bits(twin) for twin in copies} == {bits(model)}
    assert bits(model.set_params(warm_start=True).fit(X, y)) != bits(copies[0])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_same_bits_on_any_number_of_threads(name):
    fits = []
    for threads in (1, 2, 3):
        with fn.threads(threads):
            fits.append(bits(clone(ESTIMATORS[name]).fit(X, target_of(ESTIMATORS[name]))))
    assert len(set(fits)) == 1


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_fit_draws_from_no_source_but_its_own(name):
    model, state = clone(ESTIMATORS[name]), fn.get_rng_state()
    once = bits(model.fit(X, target_of(model)))
    assert fn.get_rng_state() == state
    fn.manual_seed(5)
    assert bits(clone(model).fit(X, target_of(model))) == once


def test_fits_in_threads_at_once_do_not_disturb_each_other():
    alone = {name: bits(clone(e).fit(X, target_of(e))) for name, e in ESTIMATORS.items()}
    found = []

    def fit(name):
        estimator = clone(ESTIMATORS[name])
        found.append((name, bits(estimator.fit(X, target_of(estimator)))))

    threads = [threading.Thread(target=fit, args=(name,)) for name in [*ESTIMATORS] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads) and set(found) == set(alone.items())


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_grid_search_gives_the_same_scores_for_any_n_jobs(backend):
    grid = {"dropout": [0.0, 0.5], "hidden_layer_sizes": [(4,), (8, 8)]}
    scores = []
    for jobs in (1, 2):
        search = GridSearchCV(
            MLPClassifier(max_iter=15, random_state=0, learning_rate_init=0.01), grid, cv=3, n_jobs=jobs
        )
        with joblib.parallel_config(backend=backend):
            search.fit(X, Y)
        scores.append(search.cv_results_["mean_test_score"].tobytes() + bits(search.best_estimator_))
    assert scores[0] == scores[1]


def test_jobs_in_processes_share_the_cores():
    counts = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(fn.get_num_threads)() for _ in range(4))
    assert max(counts) <= max(1, joblib.cpu_count() // 2)


# ---- a good citizen ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MLPClassifier, NeuralClassifier])
def test_in_pipelines_and_with_names_of_columns(kind):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    names = pandas.Series(np.array(["x", "y", "z"])[Y])
    pipeline = make_pipeline(StandardScaler(), kind(random_state=0)).set_output(transform="pandas")
    assert pipeline.fit(frame, names).score(frame, names) > 0.8
    assert list(pipeline[-1].feature_names_in_) == list("abcd") and list(pipeline.classes_) == ["x", "y", "z"]
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].predict(frame[["b", "a", "c", "d"]])
    assert cross_val_score(kind(random_state=0), X, Y, cv=3).min() > 0.6
    calibrated = CalibratedClassifierCV(kind(random_state=0), cv=3).fit(X, Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(1), 1)
    assert kind.__name__ in pipeline._repr_html_() and "random_state=0" in repr(pipeline[-1])


def test_metadata_are_routed_to_fit():
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(max_iter=2, random_state=0)
        model.set_fit_request(sample_weight=True, X_val=True, y_val=True).set_score_request(sample_weight=False)
        pipeline = make_pipeline(model)
        pipeline.fit(X, Y, sample_weight=WEIGHT, X_val=X, y_val=Y)
    assert bits(pipeline) == bits(MLPClassifier(max_iter=2, random_state=0).fit(X, Y, WEIGHT))
    assert len(pipeline[0].history_["val_loss"]) == 2


class Net(nn.Module):
    """A small CNN for rows of 64 pixels."""

    def __init__(self, width=4, classes=10, kernel=3):
        super().__init__()
        self.conv = nn.Conv2d(1, width, kernel, padding=kernel // 2)
        self.out = nn.Linear(width * 16, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(nn.functional.relu(self.conv(x.reshape(-1, 1, 8, 8))), 2)
        return self.out(x.flatten(1))


def test_a_cnn_in_a_pipeline_and_a_grid_search():
    x, y = load_digits(return_X_y=True)
    x, y = x[:600], y[:600]
    pipeline = make_pipeline(StandardScaler(), NeuralClassifier(Net, lr=0.01, epochs=8, random_state=0))
    name = "neuralclassifier__"
    grid = {f"{name}module__width": [1, 12], f"{name}optimizer__weight_decay": [0.0, 1e-4]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(x, y)
    assert search.best_params_[f"{name}module__width"] == 12 and search.best_score_ > 0.7
    best = search.best_estimator_[-1]
    assert best.module_.conv.weight.shape == (12, 1, 3, 3) and best.module_.conv.weight.dtype == np.float32
    images = x.reshape(-1, 1, 8, 8)
    made = NeuralClassifier(Net(6), epochs=2, random_state=0, lr=0.01).fit(images, y)
    assert made.predict_proba(images).shape == (600, 10) and made.module_ is not made.module


def test_networks_are_made_for_the_data():
    labels = NeuralClassifier(epochs=2, random_state=0).fit(X, LABELS)
    assert labels.predict(X).shape == LABELS.shape and labels.module_[-1].out_features == LABELS.shape[1]
    two = NeuralRegressor(epochs=2, random_state=0).fit(X, NUMBERS)
    assert two.predict(X).shape == NUMBERS.shape and two.set_params(epochs=1).fit(X, Y).predict(X).shape == Y.shape
    words = NeuralClassifier(
        lambda: nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(8, 3)), input_dtype="int64", epochs=2
    )
    assert set(words.fit(RNG.integers(0, 10, (150, 2)), Y).predict(np.zeros((4, 2), int))) <= {0, 1, 2}
    flat = NeuralRegressor(lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), epochs=1).fit(X, Y)
    assert flat.predict(X).shape == Y.shape


def test_a_neural_classifier_validates_measures_and_goes_on():
    model = NeuralClassifier(epochs=3, validation_fraction=0.2, metrics=["accuracy"], random_state=0, lr=0.01)
    model.fit(X, Y)
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(model.history_) and model.n_iter_ == 3
    model.partial_fit(X, Y)
    assert model.n_iter_ == len(model.history_["loss"]) == 4
    smooth = NeuralClassifier(loss=nn.CrossEntropyLoss, loss__label_smoothing=0.3, epochs=3, random_state=0, lr=0.01)
    assert bits(smooth.fit(X, Y, X_val=X, y_val=Y)) != bits(
        clone(smooth).set_params(loss__label_smoothing=0.0).fit(X, Y)
    )
    stop = fn.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
    assert clone(smooth).set_params(callbacks=[stop], epochs=50).fit(X, Y, X_val=X, y_val=Y).n_iter_ < 5


def test_many_samples_are_predicted_in_parts(monkeypatch):
    model = MLPClassifier(max_iter=2, random_state=0).fit(X, Y)
    whole = model.predict_proba(X)
    monkeypatch.setattr("fastnn.sklearn.base.AT_ONCE", 40 * 100 * 8)
    np.testing.assert_allclose(model.predict_proba(X), whole, rtol=1e-12)
    assert bits(model, pytest.importorskip("scipy.sparse").csr_matrix(X)) == bits(model)


WRONG = {
    "hidden_layer_sizes[1] must be": lambda: MLPClassifier((3, 0)).fit(X, Y),
    "activation must be one of": lambda: MLPClassifier(activation="rulu").fit(X, Y),
    "solver must be one of": lambda: MLPClassifier(solver="newton").fit(X, Y),
    "solver must be a name": lambda: MLPClassifier(solver=3).fit(X, Y),
    "dropout must be below 1": lambda: MLPClassifier(dropout=1.0).fit(X, Y),
    "dropout: solver='lbfgs'": lambda: MLPClassifier(dropout=0.5, solver="lbfgs").fit(X, Y),
    "solver_params: solver='lbfgs'": lambda: MLPClassifier(solver="lbfgs", solver_params={"lr": 1}).fit(X, Y),
    "X_val: solver='lbfgs'": lambda: MLPClassifier(solver="lbfgs").fit(X, Y, X_val=X, y_val=Y),
    "X_val and y_val go together": lambda: MLPClassifier().fit(X, Y, X_val=X),
    "y has the classes [7]": lambda: MLPClassifier(max_iter=1).fit(X, Y, X_val=X, y_val=np.full(150, 7)),
    "batch_size must be": lambda: MLPClassifier(batch_size=0).fit(X, Y),
    "metrics: 'acc' is unknown": lambda: MLPClassifier(metrics=["acc"]).fit(X, Y),
    "callbacks[...] must be": lambda: MLPClassifier(callbacks=[print]).fit(X, Y),
    "loss must be one of": lambda: MLPRegressor("absolute").fit(X, Y),
    "y has numbers below 0": lambda: MLPRegressor("poisson").fit(X, -Y),
    "layers of [4, 5, 3] values": lambda: MLPClassifier(5, max_iter=1, warm_start=True).fit(X, Y).set_params(
        hidden_layer_sizes=6).fit(X, Y),
    "has no parameter 'hidden'": lambda: NeuralClassifier(hidden=3).fit(X, Y),
    "expected (1, 3), as y asks for": lambda: NeuralClassifier(lambda: nn.Linear(4, 5)).fit(X, Y),
    "module__hidden: the module has been made": lambda: NeuralClassifier(Net(), module__hidden=3).fit(X, Y),
    "loss__weight: the loss has been made": lambda: NeuralClassifier(loss=nn.MSELoss(), loss__weight=1).fit(X, Y),
    "module(...) must be a Module": lambda: NeuralClassifier(lambda: 3).fit(X, Y),
    "epochs must be": lambda: NeuralClassifier(epochs=0).fit(X, Y),
    "y has 2 outputs; the module was made for 1": lambda: NeuralRegressor(epochs=1).fit(X, Y).partial_fit(X, NUMBERS),
    "which are not among classes_": lambda: NeuralClassifier(epochs=1).fit(X, Y).partial_fit(X, Y + 1),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_wrong_use_is_told(message):
    with pytest.raises((TypeError, ValueError)) as error:
        WRONG[message]()
    assert message in str(error.value)


def test_without_scikit_learn_it_says_how_to_get_it(monkeypatch):
    code = "import sys, fastnn.sklearn; assert 'sklearn' not in sys.modules; print(*dir(fastnn.sklearn))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"MLPClassifier", "NeuralRegressor"} <= set(shown.split())
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"fastnn\[sklearn\]"):
        fn.sklearn.MLPClassifier  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'SVC'"):
        fn.sklearn.SVC  # noqa: B018
