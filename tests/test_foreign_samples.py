"""Data sets that give a sample at a time: put together, found out, and stopped where they break."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import DataLoader

from doors import REFERENCE, Samples, Words, X, Y, bits, fitted, make, torch_dataset


def test_samples_with_inputs_by_name():
    def give(i):
        return {"numbers": X[i, :3], "labels": int(Y[i]), "words": np.arange(2) + i % 3}

    def trained(data):
        fn.manual_seed(0)
        model = Words()
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        trainer.fit(data, seed=0, batch_size=16, epochs=2, verbose=False)
        return bits(trainer), trainer.predict(data[:-1] if isinstance(data, tuple) else data).tobytes()

    words = np.arange(2) + (np.arange(50) % 3)[:, None]
    wanted = trained((words, X[:, :3], Y))
    assert trained(Samples(give)) == wanted
    assert trained(Samples(lambda i: ({"words": give(i)["words"], "numbers": X[i, :3]}, Y[i]))) == wanted
    batches = [
        {k: np.stack([give(i)[k] for i in range(at, min(at + 16, 50))]) for k in give(0)} for at in range(0, 50, 16)
    ]
    fn.manual_seed(0)
    model = Words()
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(iter(batches), verbose=False)
    assert trainer.step == 4


def test_images_of_pillow_become_channels_first():
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 5, 4, 3), np.uint8)
    (x, _), *_ = DataLoader(Samples(lambda i: {"image": image.fromarray(pixels[i]), "label": i}, 8), 8)
    np.testing.assert_array_equal(x, pixels.transpose(0, 3, 1, 2))
    (x, _), *_ = DataLoader(Samples(lambda i: (image.fromarray(pixels[i, ..., 0]), i), 8), 8)
    np.testing.assert_array_equal(x, pixels[:, None, ..., 0])


def test_a_data_set_whose_batches_are_other_ones_is_taken_by_samples():
    """Of two rows of length 2 a mean over the first axis looks like a batch."""
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    (a, _), (b, _) = DataLoader(Samples(lambda i: (x[i].mean(0), 0), 4), 2)
    np.testing.assert_array_equal(np.concatenate([a, b]), x.mean(1))


class Broken(Samples):
    def __init__(self, at, give):
        super().__init__(lambda i: give(i) if i == at else (X[i].tolist(), int(Y[i])))


def fail(i):
    raise RuntimeError("disk on fire")


def end(i):
    raise IndexError("out of range")


BROKEN = {
    "ragged": (
        lambda i: (X[i, :4].tolist(), 0),
        ValueError,
        r"dataset\[42\]\[0\] has shape \(4,\), and dataset\[\d+\]\[0\] \(6,\)",
    ),
    "texts": (lambda i: (["a"] * 6, 0), TypeError, r"dataset\[42\]\[0\]: expected numbers"),
    "a part less": (lambda i: (X[i].tolist(),), ValueError, r"dataset\[42\] holds 0, and dataset\[\d+\] 0, 1"),
    "raises": (fail, RuntimeError, "disk on fire"),
    "a length that lies": (end, ValueError, r"its length is 50, and dataset\[42\] is not there: out"),
    "stops": (lambda i: next(iter([])), RuntimeError, "StopIteration"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_data_set_that_breaks_in_the_middle_is_named_and_training_stands_where_it_was(kind, prefetch):
    give, error, message = BROKEN[kind]
    trainer, twin = make(), make()
    data = Broken(42, give)
    with pytest.raises(error, match=message):
        trainer.fit(DataLoader(data, 8, prefetch=prefetch), verbose=False)
    assert trainer.step == 5
    twin.fit(DataLoader((X[:40], Y[:40]), 8), verbose=False)
    assert bits(trainer) == bits(twin)


def test_another_dtype_later_is_the_models_as_well():
    data = Samples(lambda i: (X[i].astype(np.float32) if i < 20 else list(X[i]), Y[i] if i % 2 else int(Y[i])))
    assert bits(fitted(data)) == bits(fitted(REFERENCE))


def test_what_is_no_data_for_training_is_refused_with_a_hint():
    trainer = make()
    for data, error, message in (
        (
            Samples(lambda i: {"a": X[i], "b": X[i]}),
            ValueError,
            "its samples hold a, b; a target.*is called label, labels",
        ),
        (Samples(lambda i: X[i]), ValueError, "expected inputs and a target"),
        (iter([{"a": X}]), ValueError, "its batches hold a; a target"),
        (Samples(length=0), ValueError, "at least one row"),
    ):
        with pytest.raises(error, match=message):
            trainer.fit(data, verbose=False)
    with pytest.raises(TypeError, match=r"a DataLoader has an order of its own; give its .dataset"):
        trainer.predict(DataLoader(REFERENCE, 4))
    assert trainer.step == 0


def test_batches_of_pytorchs_loader_train():
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(torch_dataset(None), batch_size=16)
    trainer = make()
    trainer.fit(loader, epochs=2, verbose=False)
    twin = make()
    twin.fit(REFERENCE, epochs=2, batch_size=16, shuffle=False, verbose=False)
    assert bits(trainer) == bits(twin)


def test_tensors_that_numpy_cannot_read_are_refused_with_what_mends_it():
    torch = pytest.importorskip("torch")
    for tensor, message in (
        (torch.zeros(4, 6, requires_grad=True), r"give its .detach\(\)"),
        (torch.zeros(4, 6, dtype=torch.bfloat16), r"give its .float\(\)"),
        (torch.zeros(4, 6).to_sparse(), "x: torch's Tensor is no array"),
    ):
        with pytest.raises(TypeError, match=message):
            make().predict(tensor)


def test_batches_are_taken_as_they_come_once_they_were_found_equal():
    asked = []

    def give(i):
        asked.append(np.ndim(i))
        return X[i], Y[i]

    x, _ = zip(*DataLoader(Samples(give), 16, prefetch=0), strict=True)
    np.testing.assert_array_equal(np.concatenate(x), X)
    assert asked == [1, *[0] * 16, 1, 1, 1]
    asked.clear()
    loader = DataLoader(Samples(lambda i: (give(i)[0] + 0 * np.ndim(i), np.ndim(i))), 16, prefetch=0)
    assert all((y == 0).all() for _, y in loader)  # which as batches would be another thing
    assert asked == [1, *[0] * 50]


def test_an_error_of_a_sample_is_told_and_not_that_of_the_attempt_at_a_batch():
    values = X.tolist()
    with pytest.raises(TypeError, match="unsupported operand"):
        next(iter(DataLoader(Samples(lambda i: (values[i], 1 + None)), 4)))
