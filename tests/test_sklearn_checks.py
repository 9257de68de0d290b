"""scikit-learn's checks of estimators, without an expected failure."""

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnn.sklearn import MLPClassifier, MLPRegressor

ESTIMATORS = [
    MLPClassifier(max_iter=100),
    MLPRegressor(max_iter=100),
]


@parametrize_with_checks(ESTIMATORS)
def test_an_estimator_passes(estimator, check):
    check(estimator)
