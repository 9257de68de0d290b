"""scikit-learn's checks of estimators, without an expected failure."""

from functools import partial

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

import fastnn as fn
from fastnn.sklearn import MLPClassifier, MLPRegressor, NeuralClassifier, NeuralRegressor

#: A batch of all samples, so that a weight of 2 is as good as two samples; and no rounding that would hide it.
WHOLE = dict(module=partial(fn.models.mlp, hidden=32), lr=0.02, batch_size=2000, dtype="float64")

ESTIMATORS = [
    MLPClassifier(max_iter=100),
    MLPRegressor(max_iter=100),
    NeuralClassifier(epochs=60, **WHOLE),
    NeuralRegressor(epochs=200, **WHOLE),
]


@parametrize_with_checks(ESTIMATORS)
def test_an_estimator_passes(estimator, check):
    check(estimator)
