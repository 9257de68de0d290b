"""scikit-learn's MLPClassifier: one partial_fit on one batch, with Adam."""

from __future__ import annotations

from collections.abc import Callable

from asv_bench.peers.networks import Linear
from asv_bench.peers.rows import Row, Training

NAMES = ("sklearn",)
REQUIRES = ("sklearn",)


def offers(name: str, row: Row) -> bool:
    return isinstance(row.work, Training) and not row.work.network.images


def make(name: str, row: Row, threads: int) -> Callable[[], object]:
    from sklearn.neural_network import MLPClassifier

    work = row.work
    assert isinstance(work, Training)
    hidden = [layer.fan_out for layer in work.network.layers if isinstance(layer, Linear)][:-1]
    model = MLPClassifier(hidden, solver=work.optimizer, batch_size=work.batch, learning_rate_init=1e-5, random_state=0)
    x, y = work.network.batch(work.batch)
    model.partial_fit(x, y, classes=range(work.network.classes))
    return lambda: model.partial_fit(x, y)
