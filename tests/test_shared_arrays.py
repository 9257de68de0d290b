"""Arrays that change while, or after, they are looked at; and those of which a part would be lost."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

from guarded import misaligned


def run_apart(code, **environment):
    """Run code in a process of its own, as it may crash; what it printed."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    return done.stdout


def test_labels_that_another_thread_writes_to_are_read_once():
    """Checked, and then read again by the kernel, they led it outside its arrays: SIGSEGV."""
    print(
        run_apart("""
        import sys, threading, time
        import numpy as np
        import fastnn as fn
        from fastnn import nn, optim
        sys.setswitchinterval(1e-5)
        m = nn.Linear(8, 10)
        step = fn.TrainStep(m, nn.CrossEntropyLoss(), optim.SGD(m.parameters(), lr=0.1))
        x, y = np.ones((40000, 8), np.float32), np.zeros(40000, np.int64)
        ended = False
        def spoil():
            while not ended:
                y[:] = 1 << 40
                y[:] = 0
        thread = threading.Thread(target=spoil)
        thread.start()
        begun, refused = time.time(), 0
        while time.time() < begun + 2:
            try:
                assert np.isfinite(step(x, y))
            except ValueError as error:
                assert "labels must lie in 0 ... 9" in str(error)
                refused += 1
        ended = True
        thread.join()
        assert all(np.isfinite(p.data).all() for p in m.parameters())
        print(refused)
        """)
    )


def test_labels_written_to_during_the_run_change_nothing():
    """Deterministic: a layer in Python between the check and the loss writes to them."""
    labels = np.array([0, 1, 2, 1])

    class Spoil(fn.Function):
        def forward(self, x):
            labels[:] = 1 << 40
            return x

        def backward(self, dy):
            return dy

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.spoil = nn.Linear(3, 3), Spoil()

        def forward(self, x):
            return self.spoil(self.fc(x))

    model = Net()
    x = np.eye(4, 3, dtype=np.float32)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0))
    expected = nn.CrossEntropyLoss()(model.fc(x), labels.copy())
    assert step(x, labels) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"target\[0\] is 1099511627776"):
        step(x, labels)


def test_an_array_that_a_program_reads_cannot_be_resized():
    """Its memory would be freed while the program points at it."""
    table = np.ones((64, 8), np.float32)
    view = table[:]
    f = fn.trace(lambda x: x * table + view)
    x = np.ones((64, 8), np.float32)
    f(x)
    with pytest.raises(ValueError, match="resize"):
        table.resize((1 << 20,), refcheck=False)
    np.testing.assert_array_equal(f(x), np.full((64, 8), 2.0))


def test_an_argument_cannot_be_resized_while_python_runs_in_a_program():
    x = np.ones((64, 8), np.float32)
    errors = []

    class Spoil(fn.Function):
        def forward(self, value):
            try:
                x.resize((1 << 20,), refcheck=False)
            except ValueError as error:
                errors.append(error)
            return value

    spoil = Spoil()
    f = fn.trace(lambda value: spoil(value) + value)
    np.testing.assert_array_equal(f(x), np.full((64, 8), 2.0))
    assert errors


def test_misaligned_labels_are_copied_as_misaligned_numbers_are():
    x, labels = np.eye(4, 3, dtype=np.float32), np.array([0, 1, 2, 1])
    loss = nn.CrossEntropyLoss()
    assert loss(misaligned(x), misaligned(labels)) == loss(x, labels)
    model = nn.Linear(3, 3)
    step = fn.TrainStep(model, loss, optim.SGD(model.parameters(), lr=0.0))
    for _ in range(2):
        assert step(x, misaligned(labels)) == step(x, labels)


MASKED = np.ma.masked_array(np.ones((4, 3), np.float32), mask=np.eye(4, 3, dtype=bool))
LABELS = np.ma.masked_array([0, 1, 2, 1], mask=[0, 1, 0, 0])


def trained(call):
    x, labels = np.ones((4, 3), np.float32), np.array([0, 1, 2, 1])
    model = nn.Linear(3, 3)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    step(x, labels)  # the way of the next call is known
    model(x)
    return call(model, step, x, labels)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, step, x, labels: model(MASKED),
        lambda model, step, x, labels: step(MASKED, labels),
        lambda model, step, x, labels: step(x, LABELS),
        lambda model, step, x, labels: nn.CrossEntropyLoss()(x, LABELS),
        lambda model, step, x, labels: nn.functional.relu(MASKED),
        lambda model, step, x, labels: fn.trace(lambda t: t + MASKED)(x),
        lambda model, step, x, labels: nn.Parameter(MASKED),
        lambda model, step, x, labels: setattr(model.weight, "data", MASKED[:3]),
        lambda model, step, x, labels: model.load_state_dict({**model.state_dict(), "bias": LABELS[:3]}),
        lambda model, step, x, labels: fn.data.ArrayDataset(x, LABELS),
    ],
)
def test_masked_arrays_are_refused_not_stripped_of_their_masks(call):
    with pytest.raises(TypeError, match="masked array"):
        trained(call)
