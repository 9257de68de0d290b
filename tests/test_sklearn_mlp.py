"""scikit-learn's own tests of its perceptrons, taken from the installed package, with fastnn's in their place."""

import importlib.util
from unittest import mock

import pytest

pytest.importorskip("sklearn")

from fastnn import sklearn as estimators

#: Tests that are left out, and why.
LEFT_OUT = {
    "test_gradient": "calls _loss_grad_lbfgs, a private function; test_sklearn_estimators.py checks our gradients",
}

OURS = {name: getattr(estimators, name) for name in ("MLPClassifier", "MLPRegressor")}


def theirs():
    """The module of tests, made while scikit-learn's names mean our classes."""
    with mock.patch.multiple("sklearn.neural_network", **OURS):
        spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


MODULE = theirs()
TESTS = {name: test for name, test in vars(MODULE).items() if name.startswith("test_")}
globals().update({name: test for name, test in TESTS.items() if name not in LEFT_OUT})


@pytest.fixture(params=range(3))
def global_random_seed(request):
    """A fixture of scikit-learn's."""
    return request.param


def test_the_tests_are_about_our_classes():
    assert {name: getattr(MODULE, name) for name in OURS} == OURS
    assert len(TESTS) > 35 and TESTS.keys() > LEFT_OUT.keys()
