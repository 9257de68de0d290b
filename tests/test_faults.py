"""Without memory, and whenever Ctrl-C strikes, an action changes nothing or is done as a whole; see faults.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

from children import watched

pytestmark = pytest.mark.attack

needs_nomemory = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None or sys.version_info >= (3, 12),
    reason="needs _testcapi of a CPython that does not end itself where a generator gets no memory: 3.12 and 3.13 do",
)
PROGRAM = Path(__file__).with_name("faults.py")

TOO_LARGE = """
import resource
import numpy as np
import fastnn as fn
from fastnn import nn, optim

fn.set_num_threads(2)
fn.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16384, 4))
optimizer = optim.Adam(model.parameters())
step = fn.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
x = np.zeros((2048, 3, 32, 32), np.float32)
y = np.zeros(2048, np.int64)
step(x[:4], y[:4])
model.evaluated(x[:4])
size = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size + (128 << 20), resource.RLIM_INFINITY))

def state():
    arrays = [*model.state_dict().values(), *optimizer.state_dict()["state"][0].values()]
    return [array.tobytes() for array in arrays], optimizer.param_groups[0].steps

for act in (lambda: step(x, y), lambda: model.evaluated(x), lambda: model.forward_train(x)):
    for _ in range(3):
        before = state()
        try:
            act()
        except MemoryError:
            assert state() == before
        else:
            raise AssertionError("there was enough memory")
        assert np.isfinite(step(x[:4], y[:4]))
        assert state() != before
        assert np.isfinite(model.evaluated(x[:4])).all()
print("goes on")
"""


def attack(kind, *arguments):
    """How many faults there were, by action."""
    lines = [line for line in watched(PROGRAM, kind, *arguments) if " faults, " in line]
    print(*lines, sep="\n")
    faults = {name: int(rest.split()[0]) for name, rest in (line.split(": ", 1) for line in lines)}
    return faults


def test_any_native_allocation_may_fail():
    failed = attack("native")
    assert sum(failed.values()) > 100
    # Nothing is allocated after the first steps.
    assert failed["train again"] == failed["backward"] == 0


def test_any_native_allocation_of_a_new_process_may_fail():
    """Where threads cannot be made, there are fewer of them."""
    assert sum(attack("forked").values()) > 20


@needs_nomemory
def test_any_allocation_of_an_object_of_a_new_process_may_fail():
    assert attack("reborn", "train again")["train again"] > 20


def test_any_allocation_of_an_array_may_fail():
    failed = attack("numpy")
    assert sum(failed.values()) > 150
    assert all(failed[name] for name in ("save", "load", "load_checkpoint", "double"))


@needs_nomemory
@pytest.mark.parametrize(
    ("kind", "most", "actions"),
    [
        ("python", 12, ()),
        ("burst", 12, ()),
        pytest.param("python", 10**9, ("predict", "train"), marks=pytest.mark.slow),
        pytest.param("python", 2500, (), marks=pytest.mark.slow),  # all where no program is made
        pytest.param("burst", 400, (), marks=pytest.mark.slow),
    ],
)
def test_any_allocation_of_an_object_may_fail(kind, most, actions):
    failed = attack(kind, *actions, "--most", most)
    assert failed["train"] >= 12 and failed["predict"] >= 12


def test_a_batch_too_large_for_the_memory_there_is_leaves_the_model_as_it_was():
    pytest.importorskip("resource")
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell a process's size")
    assert watched("-c", TOO_LARGE)[-1] == "goes on"


@pytest.mark.parametrize("most", [20, pytest.param(600, marks=pytest.mark.slow)])
def test_an_interrupt_may_come_before_any_bytecode(most):
    """Of tracing, training, settings, files."""
    faults = attack("interrupt", "--most", most)
    assert faults["train"] == faults["predict"] == most
