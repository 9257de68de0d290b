"""Estimators for scikit-learn whose networks fastnn trains.

>>> from fastnn.sklearn import MLPClassifier
>>> X, y = fn.data.moons(200, noise=0.1, seed=0)
>>> MLPClassifier(solver="lbfgs", random_state=0).fit(X, y).score(X, y)
1.0

MLPClassifier, MLPRegressor
                as scikit-learn's of the same names, and with dropout, batch norm, more activations and optimizers,
                class weights, validation data of one's own, callbacks and metrics
NeuralClassifier, NeuralRegressor
                around any Module, or a function that makes one

They need scikit-learn: ``pip install "fastnn[sklearn]"``; it is imported with the first of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.sklearn.mlp import MLPClassifier, MLPRegressor
    from fastnn.sklearn.neural import NeuralClassifier, NeuralRegressor

_PLACES = {"MLPClassifier": "mlp", "MLPRegressor": "mlp", "NeuralClassifier": "neural", "NeuralRegressor": "neural"}

__all__ = ["MLPClassifier", "MLPRegressor", "NeuralClassifier", "NeuralRegressor"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'fastnn.sklearn' has no attribute {name!r}")
    from importlib import import_module

    try:
        import_module("sklearn")
    except ImportError:
        raise ImportError('fastnn.sklearn needs scikit-learn: pip install "fastnn[sklearn]"') from None
    return getattr(import_module(f"fastnn.sklearn.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
