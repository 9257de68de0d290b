"""The room stands alone: light to import, and it sees no other room of fastnn but those on the ground."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn.data
from fastnn.data import cifar10, cifar100, digits, mnist

# fastnn itself is stood in for, so that what is counted is this room's doing.
PROGRAM = """
import sys, types
package = types.ModuleType("fastnn")
package.__path__ = [sys.argv[1]]
sys.modules["fastnn"] = package
import numpy
before = set(sys.modules)
import fastnn.data
print(*sorted(set(sys.modules) - before))
"""


def modules_imported_beyond_numpy():
    package = Path(fastnn.data.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(package)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_brings_in_nothing_but_this_room_and_what_its_files_are_read_with():
    light = re.compile(
        r"fastnn|numpy\.typing|numpy\._typing|_?typing|__future__|_?json|zlib|dataclasses|copy|_?cython|errno"
    )
    assert [name for name in modules_imported_beyond_numpy() if not light.match(name)] == []


def test_no_room_of_fastnn_above_the_ground_is_seen():
    seen = [name for name in modules_imported_beyond_numpy() if name.startswith("fastnn.")]
    assert seen and all(name.startswith(("fastnn.data", "fastnn._check", "fastnn.files")) for name in seen)


def test_every_public_name_is_there_and_documented():
    for name in fastnn.data.__all__:
        assert getattr(fastnn.data, name).__doc__


@pytest.mark.parametrize("load", [digits, mnist, cifar10, cifar100])
def test_every_data_set_takes_the_split_first_then_the_folder_and_the_rest_by_name(load):
    given = inspect.signature(load).parameters.values()
    places = [p.name for p in given if p.kind is not p.KEYWORD_ONLY]
    assert places == ["split", "root"][: len(places)]
    assert inspect.signature(load).parameters["split"].default == "train"
    assert all(p.default is not p.empty for p in given)


@pytest.mark.parametrize("load", [mnist, cifar10, cifar100])
@pytest.mark.parametrize("arguments", [("folder", "test"), (Path("folder"),), (None, "train")])
def test_a_folder_in_the_place_of_the_split_is_told_where_it_belongs(load, arguments):
    with pytest.raises(ValueError, match=r"^split must be one of 'train', 'test', got .* the second argument, root$"):
        load(*arguments)
