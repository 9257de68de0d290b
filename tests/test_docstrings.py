"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
import importlib.util
import pkgutil

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

MODULES = ["fastnn", *(m.name for m in pkgutil.walk_packages(fn.__path__, "fastnn."))]
APART = ("fastnn.__main__", "fastnn.plotting")  # runs the command line; needs Matplotlib, and has tests of its pictures

#: Packages that examples need, by what their names begin with.
NEEDS = {
    "fastnn.train.minimize.minimize": "scipy",
    "fastnn.onnx": "onnx",
    "fastnn.sklearn": "sklearn",
    "fastnn.interop.mocha": "h5py",
    "fastnn.interop.caffe": "google.protobuf",
}


def missing(name):
    """The package that an example or a module needs and that is not installed, or None."""
    package = next((package for start, package in NEEDS.items() if name.startswith(start)), None)
    try:
        return package if package and importlib.util.find_spec(package) is None else None
    except ModuleNotFoundError:
        return package


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        if name in APART:
            continue
        if missing(name):
            yield pytest.param(None, id=name, marks=pytest.mark.skip(f"needs {missing(name)}"))
            continue
        module = importlib.import_module(name)
        for test in finder.find(module, name, module=module):
            if test.examples:
                yield test


def names(folder):
    """What the examples take for granted: a trained classifier's parts, and data for it."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((256, 784)).astype(np.float32), rng.integers(0, 10, 256)
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    return {
        "np": np, "fn": fn, "nn": nn, "optim": optim, "F": nn.functional, "model": model, "images": x,
        "opt": optim.SGD(model.parameters(), lr=0.1), "x": x, "y": y, "xb": x[:32], "yb": y[:32],
        "xv": x[:64], "yv": y[:64], "xt": x[64:128], "yt": y[64:128],
        "ArrayDataset": fn.data.ArrayDataset, "DataLoader": fn.data.DataLoader,
    }  # fmt: skip


@pytest.mark.parametrize("test", list(examples()), ids=lambda test: getattr(test, "name", None))
def test_an_example_runs_and_prints_what_it_says(test, tmp_path, monkeypatch, capsys):
    if missing(test.name):
        pytest.skip(f"needs {missing(test.name)}")
    if "ImageFolder" in test.docstring:
        image = pytest.importorskip("PIL.Image")
        for kind in ("rose", "tulip"):
            (tmp_path / "flowers" / "train" / kind).mkdir(parents=True)
            for i in range(20):
                image.new("RGB", (64, 64)).save(tmp_path / "flowers" / "train" / kind / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    state = fn.get_rng_state()
    test.globs = names(tmp_path)
    report = []
    results = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    fn.set_rng_state(state)
    assert results.failed == 0, "".join(report)


def test_what_has_examples_is_found():
    found = {getattr(test, "name", None) for test in examples()}  # None: skipped
    assert {"fastnn.functions.value_and_grad", "fastnn.train.trainer.Trainer", "fastnn.nn.function.Function"} <= found
