"""Whatever bytes a file holds, readers keep what SECURITY.md promises: mutants of files that are always the same."""

import functools
import itertools
import os
import random
import time

import pytest

from fastnn import _check, files

import fuzz_forms as forms
from fuzz_readers import READERS, Finding, Model, Reader, mutants, surroundings, tries

SEED = int(os.environ.get("FASTNN_FUZZ_SEED", 1))
#: Mutants of a reader that take a fifth of a second; the slow test takes fifty times as many.
QUICK = {
    "model": 150, "part-of-model": 150, "checkpoint": 50, "resume": 15, "idx": 200, "npy": 100, "npz": 100,
    "csv": 100, "recipe": 100, "recipe-of-arrays": 100, "mnist-images": 150,
    "mnist-labels": 150, "cifar10": 150, "cifar100": 150, "image": 50, "history": 1, "any-file": 100, "keras": 300,
    "keras-hdf5": 300, "keras-weights": 200, "config": 12,
    "config-of-table": 12, "recipe-of-run": 20, "samples-csv": 20, "weights": 40,
    "run-checkpoint": 12, "samples": 20, "samples-idx": 20,
}  # fmt: skip


@pytest.fixture
def around(tmp_path):
    with surroundings(tmp_path):
        yield tmp_path


@pytest.fixture
def reader(request):
    pytest.importorskip(READERS[request.param].needs)
    folder = request.getfixturevalue("around") / "reader"
    folder.mkdir()
    return READERS[request.param](folder)


every_reader = pytest.mark.parametrize("reader", READERS, indirect=True)


@every_reader
def test_mutants_of_a_file_are_accepted_or_refused_as_promised(reader, request):
    count = QUICK[request.node.callspec.params["reader"]]
    endings = tries(reader, itertools.chain(reader.corpus, [b""], mutants(reader, 0, count)))
    assert endings["accepted"] and endings["refused"]


@pytest.mark.slow
@every_reader
def test_many_mutants_of_a_file_are_accepted_or_refused_as_promised(reader, request):
    """FASTNN_FUZZ_SEED names other mutants."""
    tries(reader, mutants(reader, SEED, 50 * QUICK[request.node.callspec.params["reader"]]))


# ---- the fuzzer itself -----------------------------------------------------------------------------


class Stub(Reader):
    """Reads by the function that a test gives it."""

    seconds = 0.05

    def seeds(self):
        return [b"seed"]

    def read(self):
        pass

    def state(self):
        return vars(self).get("loaded")


def refuse(text):
    def read(reader):
        raise ValueError(text.format(path=reader.path))

    return read


def half_load(reader):
    reader.loaded = True
    raise ValueError(f"{reader.path}: damaged")


def spin(reader):
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass


BROKEN = {
    "no file is named": refuse("damaged"),
    "no short text": refuse("{path}: " + "a" * 2000),
    "that can be printed": refuse("{path}: \x1b[2J"),
    "changed what was there": half_load,
    "took 0.1 s": spin,
    "bytes of memory": lambda reader: bytearray(2**25),
}


@pytest.mark.parametrize("promise", BROKEN)
def test_a_promise_that_is_broken_is_a_finding(around, promise):
    stub = Stub(around)
    stub(b"")
    stub.read = functools.partial(BROKEN[promise], stub)
    with pytest.raises(Finding, match=promise):
        stub(b"")


def test_other_exceptions_than_value_errors_go_on_their_way(around):
    stub = Stub(around)
    stub.read = lambda: {}["key"]
    with pytest.raises(KeyError):
        stub(b"")


@pytest.mark.parametrize(
    ("place", "check", "passes"), [(files, "_are_sizes", lambda sizes: True), (_check, "printable", lambda text: text)]
)
def test_a_check_that_is_left_out_is_found(around, monkeypatch, place, check, passes):
    reader = Model(around)
    monkeypatch.setattr(place, check, passes)
    with pytest.raises(AssertionError, match="Model broke a promise"):
        tries(reader, mutants(reader, 0, 300))


@every_reader
def test_mutants_are_always_the_same(reader):
    first = list(mutants(reader, 3, 20))
    other = type(reader)(reader.folder)
    assert list(mutants(other, 3, 20)) == first
    assert list(mutants(other, 4, 20)) != first


@every_reader
def test_a_file_taken_apart_and_put_together_again_is_accepted(reader):
    if reader.form is None:
        pytest.skip("its form is not known")
    for data in reader.corpus:
        try:
            parts = reader.form.parts(data)
        except forms.UNFIT:
            continue  # an image that is no PNG
        again = reader.form.whole(parts)
        assert reader.form.parts(again) == reader.form.parts(data)
        tries(reader, [again])
    assert reader.endings["accepted"] >= 1


def test_a_changed_tensor_passes_the_checksum(around):
    model = Model(around)
    parts = forms.Safetensors.parts(model.corpus[0])
    bias = parts["0.bias"]
    bias["data"] = b"\0" * len(bias["data"])
    model.path.write_bytes(forms.Safetensors.whole(parts))
    model.read()
    assert not model.model[0].bias.data.any() and "fastnn.crc32" in parts["__metadata__"]


def test_changed_parts_are_not_what_they_were():
    rng = random.Random(0)
    parts = {"a": [1, 2.5, "text", b"bytes", None, True], "b": {"c": {}}}
    before = repr(parts)
    change_bytes = functools.partial(forms.random_bytes, rng)
    mutated = {repr(forms.changed(rng, parts, change_bytes)) for _ in range(500)}
    assert len(mutated) > 150 and repr(parts) == before
