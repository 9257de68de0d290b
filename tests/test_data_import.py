"""The room stands alone: light to import, and it sees no other room of fastnn but the checks of arguments."""

import re
import subprocess
import sys
from pathlib import Path

import fastnn.data

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
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(package)], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_importing_brings_in_nothing_but_this_room_and_types():
    light = re.compile(r"fastnn\.data|fastnn\._check|numpy\.typing|numpy\._typing|_?typing|__future__")
    assert [name for name in modules_imported_beyond_numpy() if not light.match(name)] == []


def test_no_other_room_of_fastnn_is_seen():
    seen = [name for name in modules_imported_beyond_numpy() if name.startswith("fastnn")]
    assert seen and all(name.startswith(("fastnn.data", "fastnn._check")) for name in seen)


def test_every_public_name_is_there_and_documented():
    for name in fastnn.data.__all__:
        assert getattr(fastnn.data, name).__doc__
