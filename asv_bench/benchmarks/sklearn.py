"""Fits of fastnn.sklearn's perceptron next to scikit-learn's, with its defaults, on two threads.

``python -m asv_bench.benchmarks.sklearn`` prints a table of both; MNIST, in float32, is looked for in $FASTNN_DATA.
"""

from __future__ import annotations

import functools
import sys
import time
import warnings

import numpy as np

import fastnn as fn

#: Data, and how often each library fits it.
SETS = {"iris": 15, "digits": 3, "MNIST": 3}
THREADS = 2


@functools.cache
def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "MNIST":
        return fn.data.mnist(flatten=True)
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(return_X_y=True)


def kinds() -> dict[str, type]:
    """Both classes of estimators."""
    from sklearn.neural_network import MLPClassifier

    return {"fastnn": fn.sklearn.MLPClassifier, "scikit-learn": MLPClassifier}


def seconds(name: str, library: str, max_iter: int) -> tuple[float, float]:
    """Of one fit, and the score on what it was trained on."""
    from threadpoolctl import threadpool_limits

    x, y = data(name)
    with warnings.catch_warnings(), threadpool_limits(THREADS):
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        estimator = kinds()[library](random_state=0, max_iter=max_iter).fit(x, y)
        elapsed = time.perf_counter() - start
    return elapsed, estimator.score(x, y)


class Fit:
    """Of five epochs of MNIST and whole fits of the others."""

    params = [list(SETS), ["fastnn", "scikit-learn"]]
    param_names = ["data", "library"]
    timeout = 600

    def setup(self, name, library):
        try:
            kinds()
            data(name)
        except (AttributeError, ImportError, FileNotFoundError):
            raise NotImplementedError from None

    def time_fit(self, name, library):
        seconds(name, library, 5 if name == "MNIST" else 200)


def main() -> None:
    """Interleaved fits, and of each library the least time."""
    print(f"{'data':8} {'fastnn, s':>10} {'scikit-learn, s':>16} {'ratio':>6}   scores")
    for name in sys.argv[1:] or SETS:
        times: dict[str, list[float]] = {library: [] for library in kinds()}
        scores = dict.fromkeys(times, 0.0)
        for _ in range(SETS[name]):
            for library, found in times.items():
                elapsed, scores[library] = seconds(name, library, 5 if name == "MNIST" else 200)
                found.append(elapsed)
        ours, theirs = (min(found) for found in times.values())
        both = ", ".join(f"{score:.4f}" for score in scores.values())
        print(f"{name:8} {ours:10.4f} {theirs:16.4f} {theirs / ours:6.2f}   {both}", flush=True)


if __name__ == "__main__":
    main()
