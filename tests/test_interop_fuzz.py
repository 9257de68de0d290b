"""Whatever bytes the files of other systems hold, they are read or refused as SECURITY.md promises."""

import itertools
import os

import pytest

from fastnn.interop.caffe import layers

from fuzz_interop import READERS
from fuzz_readers import mutants, surroundings, tries

SEED = int(os.environ.get("FASTNN_FUZZ_SEED", 1))
#: Mutants of a reader: 1000 in all; the slow test takes a hundred times as many.
QUICK = {
    "torch7": 180, "torch7-32": 100, "torch7-ascii": 120, "prototxt": 150, "prototxt-with-weights": 120,
    "caffemodel": 150, "lasagne": 100, "mocha": 80,
}  # fmt: skip


@pytest.fixture(params=READERS)
def reader(request, tmp_path, monkeypatch):
    kind = READERS[request.param]
    pytest.importorskip(kind.needs)
    monkeypatch.setattr(layers, "MOST_PARAMETERS", 1 << 16)  # as many as these files' few bytes may ask for
    with surroundings(tmp_path):
        folder = tmp_path / "reader"
        folder.mkdir()
        yield kind(folder)


def test_mutants_of_a_file_are_accepted_or_refused_as_promised(reader, request):
    count = QUICK[request.node.callspec.params["reader"]]
    endings = tries(reader, itertools.chain(reader.corpus, [b""], mutants(reader, 0, count)))
    assert endings["accepted"] > len(reader.corpus) and endings["refused"] > count // 10


@pytest.mark.slow
def test_many_mutants_of_a_file_are_accepted_or_refused_as_promised(reader, request):
    """FASTNN_FUZZ_SEED names other mutants."""
    tries(reader, mutants(reader, SEED, 100 * QUICK[request.node.callspec.params["reader"]]))


def test_a_file_taken_apart_and_put_together_again_is_accepted(reader):
    for data in reader.corpus:
        parts = reader.form.parts(data)
        again = reader.form.whole(parts)
        assert reader.form.parts(again) == parts
        tries(reader, [again])
    assert reader.endings["refused"] == 0
