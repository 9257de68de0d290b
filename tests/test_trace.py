"""What is traced when: programs for any batch and their proof, state that is watched, and what is refused."""

import ctypes
import gc
import itertools
import os
import random
import time
import tracemalloc

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.graph import TraceError, TraceWarning
from fastnn.lowering import cache
from fastnn.lowering.watch import SMALL
from fastnn.nn import functional as F


def batch(n, columns=4, dtype=np.float32):
    return np.random.default_rng(n).standard_normal((n, columns)).astype(dtype)


class Of(nn.Module):
    """A module of a function (self, x, ...) and attributes."""

    def __init__(self, function, **attributes):
        super().__init__()
        # A counter whose number is no attribute: one that forward changes would be watched.
        self.function, self.counter = function, itertools.count()
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *x):
        next(self.counter)
        return self.function(self, *x)

    def traces(self):
        """How often forward was called."""
        return int(repr(self.counter)[len("count(") : -1])


def programs(model, purpose="infer"):
    return model._programs[purpose].count()


@pytest.fixture(autouse=True)
def traces_are_not_checked():
    yield
    fn.debug.check_traces(False)


# ---- batches ---------------------------------------------------------------------------------------

LIKE_NUMPY = {
    "elementwise": (lambda m, x: (x * 2 + 1).tanh(), lambda x: np.tanh(x * 2 + 1)),
    "differences along the batch": (lambda m, x: x[1:] - x[:-1], lambda x: x[1:] - x[:-1]),
    "concat along the batch": (lambda m, x: F.concat([x, -x], 0), lambda x: np.concatenate([x, -x])),
    "fixed rows and the batch": (
        lambda m, x: F.concat([x, np.ones((3, 4), np.float32), x[:1]], 0),
        lambda x: np.concatenate([x, np.ones((3, 4), np.float32), x[:1]]),
    ),
    "reshaped": (lambda m, x: x.reshape(x.shape[0] * 2, 2), lambda x: x.reshape(-1, 2)),
    "reshaped by -1": (lambda m, x: x.reshape(-1) * 2, lambda x: x.reshape(-1) * 2),
    "all but two": (lambda m, x: x[2:] * 3, lambda x: x[2:] * 3),
    "sum": (lambda m, x: x.sum(0), lambda x: x.sum(0)),
}
DO_NOT_FOLLOW = {
    "a number": (lambda m, x: x * (1.0 / len(x)), lambda x: x * np.float32(1.0 / len(x))),
    "a square": (lambda m, x: x * float(len(x) ** 2), lambda x: x * np.float32(len(x) ** 2)),
    "an array": (
        lambda m, x: x * np.arange(len(x), dtype=np.float32)[:, None],
        lambda x: x * np.arange(len(x), dtype=np.float32)[:, None],
    ),
    "a loop": (lambda m, x: sum(x[i] for i in range(len(x))), lambda x: x.sum(0)),
    "a square matrix": (lambda m, x: x @ x.T @ x, lambda x: x @ x.T @ x),
}


@pytest.mark.parametrize("name", LIKE_NUMPY)
def test_what_follows_a_line_is_one_program_for_all_batches(name):
    function, twin = LIKE_NUMPY[name]
    model = Of(function)
    for n in (9, 4, 7, 3, 8, 5, 9, 4):
        np.testing.assert_allclose(model(batch(n)), twin(batch(n)), rtol=1e-6, atol=1e-6)
        assert programs(model) == 1
    count = model.traces()
    for n in (9, 4, 7, 3, 8, 5):  # all were proved
        np.testing.assert_allclose(model(batch(n)), twin(batch(n)), rtol=1e-6, atol=1e-6)
    assert model.traces() == count
    model(batch(12))
    assert programs(model) == 1  # the larger one takes the others' place
    np.testing.assert_allclose(model(batch(5)), twin(batch(5)), rtol=1e-6, atol=1e-6)
    assert programs(model) == 1


@pytest.mark.parametrize("name", DO_NOT_FOLLOW)
def test_what_does_not_follow_a_line_has_a_program_a_batch(name):
    function, twin = DO_NOT_FOLLOW[name]
    model = Of(function)
    for n in (5, 3, 2, 7, 1, 4):
        np.testing.assert_allclose(model(batch(n)), twin(batch(n)), rtol=1e-5, atol=1e-5)
    count, traces = programs(model), model.traces()
    assert count == 6 or name == "a square matrix"
    for n in (5, 3, 2, 7, 1, 4):
        np.testing.assert_allclose(model(batch(n)), twin(batch(n)), rtol=1e-5, atol=1e-5)
    assert (programs(model), model.traces()) == (count, traces)


@pytest.mark.parametrize("order", [(4, 1, 7, 1, 2), (1, 4, 1, 7, 1), (2, 1, 2), (1, 2, 1), (4, 1, 7)])
def test_a_batch_of_one_has_a_program_of_its_own(order):
    model = Of(lambda m, x: (x - x.mean(0, keepdim=True)) * 2 + m.shift, shift=np.ones((1, 4), np.float32))
    same = Of(lambda m, x: x * 2 + 1)
    for n in order:
        x = batch(n)
        np.testing.assert_allclose(model(x), (x - x.mean(0, keepdims=True)) * 2 + 1, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(same(x), x * 2 + 1)
    assert programs(model) == programs(same) == 2


def test_a_branch_on_the_batch_is_right_at_each():
    model = Of(lambda m, x: x * 2 if len(x) > 3 else x * 3 if len(x) % 2 else x * 5)
    for n in (8, 2, 3, 4, 5, 1, 6, 7, 3, 2):
        x = batch(n)
        np.testing.assert_array_equal(model(x), x * (2 if n > 3 else 3 if n % 2 else 5))


def test_a_coincidence_at_two_batches_is_not_taken_for_a_rule():
    model = Of(lambda m, x: x * (7.0 if len(x) == 5 else 2.0))
    for n in (9, 8, 5, 9, 5, 4):
        np.testing.assert_array_equal(model(batch(n)), batch(n) * np.float32(7 if n == 5 else 2))
    assert programs(model) == 2


def test_inputs_whose_first_sizes_differ_are_right_in_any_combination():
    model = Of(lambda m, x, z: (x @ z.T, x * 2))
    for n, k in ((5, 3), (5, 5), (3, 3), (3, 5), (4, 3), (4, 4), (1, 3), (1, 1), (3, 1), (5, 3), (4, 8), (6, 12)):
        x, z = batch(n), batch(k)
        for _ in range(2):
            first, second = model(x, z)
            np.testing.assert_allclose(first, x @ z.T, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(second, x * 2)


def test_forward_train_and_a_step_follow_the_batch_too():
    def loss(output, target):
        return ((output - target) ** 2).mean()

    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    step = fn.TrainStep(model, loss, optim.SGD(model.parameters(), 0.0))
    for n in (8, 3, 5, 2, 8):
        x = batch(n)
        expected = np.tanh(x @ model[0].weight.data.T + model[0].bias.data)
        assert step(x, x) == pytest.approx(((expected - x) ** 2).mean(), rel=1e-5)
        np.testing.assert_allclose(model.forward_train(x), expected, rtol=1e-5, atol=1e-6)
        model.zero_grad()
        model.backward(np.ones_like(x))
        np.testing.assert_allclose(model[0].bias.grad, (1 - expected**2).sum(0), rtol=1e-4, atol=1e-5)
    # the loss divides by the size of the batch, which is a setting of the mean and follows
    assert step._programs.count() == programs(model, "train") == 1


# ---- randomness, and state that changes --------------------------------------------------------------

SHARED = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("draw", "source"),
    [
        (lambda m: np.random.rand(), "RandomState"),  # noqa: NPY002
        (lambda m: random.random(), "Random"),
        (lambda m: random.choice([1.0, 2.0]), "Random"),
        (lambda m: m.own.normal(), "Generator"),
        (lambda m: m.python.gauss(0, 1), "Random"),
        (lambda m: m.held[0]["rng"].random(), "Generator"),
        (lambda m: SHARED.random(), "Generator"),
    ],
)
def test_drawing_from_a_generator_is_refused_with_its_kind(draw, source):
    rng = np.random.default_rng(1)
    model = Of(lambda m, x: x * draw(m), own=rng, python=random.Random(2), held=[{"rng": rng}])
    for n in (3, 1):
        with pytest.raises(TraceError, match=rf"{source}: they would be the same in every call; use fn.random.normal"):
            model(batch(n))


@pytest.mark.parametrize(
    "draw",
    [
        lambda m: np.random.default_rng().random(),
        lambda m: random.Random().random(),
        lambda m: time.time(),
        lambda m: float(os.urandom(4)[0] + 256 * os.urandom(4)[0]),
        lambda m: (m.numbers.append(1), float(len(m.numbers)))[1],
    ],
)
def test_what_is_another_number_in_each_trace_is_refused_with_the_place(draw):
    model = Of(lambda m, x: (x + 1) * draw(m), numbers=[])
    message = r"Of.forward is another program each time it is traced: operation \d, \w+: \w+ is [\d.]+ at one time"
    for n in (3, 1):
        with pytest.raises(TraceError, match=message):
            model(batch(n, dtype=np.float64))


def test_numbers_that_are_drawn_outside_or_from_a_seed_are_constants():
    model = Of(lambda m, x: x * np.random.default_rng(7).random() + m.noise, noise=0.0)
    for noise in np.random.default_rng(2).random(3):
        model.noise = float(noise)
        x = batch(3, dtype=np.float64)
        np.testing.assert_allclose(model(x), x * np.random.default_rng(7).random() + noise)


def test_attributes_that_forward_sets_do_not_make_every_call_a_trace():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.calls, self.seen = nn.Linear(4, 4), 0, []

        def forward(self, x):
            self.calls += 1
            self.last_shape = x.shape
            self.seen.append(x.shape[0])
            self.hidden = self.layer(x)
            return self.hidden * 2

    model = Remembers()
    counts = []
    with pytest.warns(TraceWarning, match="reads calls, which it changes itself"):
        for _ in range(3):
            for n in (6, 4, 3):
                y = model(batch(n))
                assert y.shape == (n, 4)
            counts.append(model.calls)
    assert counts[0] == counts[1] == counts[2] <= 12
    assert programs(model) == 1
    for k in range(1, 6):  # a mode that was left is looked at once more, and its program found again
        model.train(k % 2 == 0)
        for _ in range(3):
            model(batch(6))
    assert model.calls <= counts[0] + 10
    assert programs(model) == 1


def test_a_tensor_kept_from_an_earlier_trace_is_refused_by_name():
    model = Of(lambda m, x: (m.kept.append(x), m.kept[0] * 2)[1], kept=[])
    with pytest.raises(TraceError, match=r"Tensor\(.*\) was made in another trace"):
        model(batch(3))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda m: setattr(m, "mode", "a"), lambda m: setattr(m, "mode", "b")),
        (lambda m: m.train(), lambda m: m.eval()),
        (lambda m: m.table.update(k=1), lambda m: m.table.update(k=2)),
        (lambda m: m.flags.clear(), lambda m: m.flags.append(1)),
        (lambda m: setattr(m, "function", plus), lambda m: setattr(m, "function", minus)),
    ],
    ids=["attribute", "train and eval", "dict", "list", "function"],
)
def test_state_that_goes_to_and_fro_is_found_again_without_a_trace(one, other):
    model = Of(plus, mode="a", table={"k": 1}, flags=[])
    x, results = batch(5), []
    for k in range(8):
        (other if k % 2 else one)(model)
        results.append(model(x))
        if k == 1:
            count, traces = programs(model), model.traces()
    for k, y in enumerate(results):
        np.testing.assert_array_equal(y, results[k % 2])
    assert (results[0] != results[1]).any()
    assert (programs(model), model.traces()) == (count, traces)
    assert count == 2


def plus(m, x):
    return (x if m.mode == "a" else x * 2) + (1.0 if m.training else 2.0) * m.table["k"] * (3 + len(m.flags))


def minus(m, x):
    return -plus(m, x)


def test_a_step_finds_its_programs_again_when_modes_and_freezing_go_to_and_fro():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4))
    step = fn.TrainStep(model, nn.MSELoss(), optim.SGD(model.parameters()))
    x = batch(5)
    for k in range(8):
        model.train(k % 2 == 0)
        model[0].requires_grad_(k % 4 < 2)
        step(x, x)
        if k == 3:
            count = step._programs.count()
    assert step._programs.count() == count == 4


# ---- what the watch cannot see -----------------------------------------------------------------------


def through_an_address(m):
    return ctypes.c_double.from_address(m.address).value


def through_a_file(m):
    with open(m.path) as file:
        return float(file.read())


@pytest.mark.parametrize("read", [through_an_address, through_a_file])
def test_checked_traces_find_a_value_that_the_watch_does_not_see(read, tmp_path):
    hidden, path = ctypes.c_double(2.0), tmp_path / "value"

    def put(value):
        hidden.value = value
        path.write_text(str(value))

    put(2.0)
    model = Of(lambda m, x: (x + 1) * read(m), address=ctypes.addressof(hidden), path=str(path))
    x = batch(3)
    np.testing.assert_array_equal(model(x), (x + 1) * 2)
    put(3.0)
    np.testing.assert_array_equal(model(x), (x + 1) * 2)  # as said in check_traces
    fn.debug.check_traces(True)
    with pytest.raises(TraceError, match=r"nothing watched says why: operation 3, unary: a is 2.0 at one time, 3.0"):
        model(x)
    put(2.0)
    np.testing.assert_array_equal(model(x), (x + 1) * 2)


def test_checked_traces_trace_each_call_and_change_no_result():
    model, twin = (nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    step, other = (fn.TrainStep(m, nn.MSELoss(), optim.Adam(m.parameters())) for m in (model, twin))
    function, calls = fn.value_and_grad(lambda a: (calls.append(1), (a * a).sum())[1]), []
    for n in (5, 3, 1, 5):
        fn.debug.check_traces(False)
        loss, y = step(batch(n), batch(n)), model(batch(n))
        fn.debug.check_traces(True)
        assert other(batch(n), batch(n)) == loss
        np.testing.assert_array_equal(twin(batch(n)), y)
        before = len(calls)
        function(batch(n))
        assert len(calls) > before
    fn.debug.check_traces(False)
    before = len(calls)
    function(batch(5))
    assert len(calls) == before
    with pytest.raises(TypeError, match="enabled must be True or False"):
        fn.debug.check_traces(1)


# ---- memory ------------------------------------------------------------------------------------------


def kept_bytes(owner):
    return sum(program.nbytes for program in {e.program for e in owner._entries()})


def test_programs_of_300_input_sizes_stay_under_their_limit(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 1 << 20)
    function = fn.trace(lambda x: ((x * 2 + 1).tanh() * x).exp().sum())
    x = np.linspace(0, 1, 400)
    function(x[:10])
    tracemalloc.start()
    try:
        for n in range(20, 320):
            value = function(x[:n])
            assert value == pytest.approx(np.exp(np.tanh(x[:n] * 2 + 1) * x[:n]).sum())
        assert kept_bytes(function._programs) <= cache.LIMIT
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert function._programs.count() > 10
    assert grown < 3 * cache.LIMIT
    assert function(x[:319]) == value


def test_states_without_end_keep_a_few_programs():
    model = Of(lambda m, x: x * m.factor, factor=0.0)
    x = batch(3)
    for k in range(60):
        model.factor = float(k)
        np.testing.assert_array_equal(model(x), x * np.float32(k))
    assert programs(model) <= cache.STATES
    assert len(model._programs["infer"]._states) <= cache.STATES


# ---- arrays by reference -----------------------------------------------------------------------------


def arrays(n):
    """Arrays of n columns by kind: (what forward multiplies by, what is written to)."""
    base = np.arange(3 * 2 * n, dtype=np.float32).reshape(3, 2 * n) % 7
    kept = base.copy()
    read_only = kept[:, :n].view()
    read_only.flags.writeable = False
    part = base[:, :n]
    return {
        "contiguous": (part.copy(),) * 2,
        "view": (base[:, ::2],) * 2,
        "reversed": (base[::-1, :n],) * 2,
        "Fortran-ordered": (np.asfortranarray(part),) * 2,
        "int": (part.astype(np.int64),) * 2,
        "int8": (part.astype(np.int8),) * 2,
        "bool": (part > 3,) * 2,
        "float16": (part.astype(np.float16),) * 2,
        "big-endian": (part.astype(">f4"),) * 2,
        "read-only view of a writable base": (read_only, kept),
        "0-d": (np.array(2.0, np.float32),) * 2,
    }


@pytest.mark.parametrize("n", [4, 2048], ids=["small", "large"])
@pytest.mark.parametrize("kind", arrays(4))
def test_an_array_is_read_as_it_is_at_each_call(kind, n):
    seen, written = arrays(n)[kind]
    model = Of(lambda m, x: x * m.array + 1, array=seen)
    held = {"array": seen}
    function = fn.trace(lambda x: x * held["array"] + 1)
    step_model = nn.Linear(n, 1, bias=False)
    step = fn.TrainStep(
        step_model, lambda y, t: (y * 0.0).sum() + (t * held["array"]).sum(), optim.SGD(step_model.parameters())
    )
    x = batch(3, n)
    for k in range(4):
        expected = x * seen.astype(np.float32) + 1
        np.testing.assert_allclose(model(x), expected, rtol=1e-6)
        np.testing.assert_allclose(function(x), expected, rtol=1e-6)
        assert step(x, x) == pytest.approx((x.astype(float) * seen).sum(), rel=1e-3, abs=1e-2)
        written[...] = written + (k == 0) if written.dtype != bool else ~written
        if written.ndim:
            written[..., :1] = k % 2


def test_large_arrays_that_change_make_no_new_program_and_no_trace():
    for seen, written in arrays(40_000).values():
        if seen.nbytes > SMALL:
            model = Of(lambda m, x: x * m.array, array=seen)
            x = batch(3, 40_000)
            model(x)
            traces = model.traces()
            written[...] = 1 - written if written.dtype != bool else ~written
            np.testing.assert_allclose(model(x), x * seen.astype(np.float32), rtol=1e-6)
            assert (programs(model), model.traces()) == (1, traces)


def test_an_array_that_is_exchanged_for_an_equal_one_is_the_one_that_is_read():
    model = Of(lambda m, x: x * m.array, array=np.ones(4, np.float32))
    x, old = batch(3), model.array
    model(x)
    model.array = np.ones(4, np.float32)
    model(x)
    old[...] = 7
    np.testing.assert_array_equal(model(x), x)
    model.array[...] = 5
    np.testing.assert_array_equal(model(x), x * 5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(4), "the left operand is float32, the right operand is float64; they must agree"),
        (np.ones(4, complex), "dtype complex128 cannot enter a graph; use float32 or float64"),
        (np.ones(4, object), "dtype object cannot enter a graph"),
        ([1.0, 2.0], "list cannot enter a graph; expected a tensor, array or number"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(array, message):
    with pytest.raises(TypeError, match=message):
        Of(lambda m, x: x * m.array, array=array)(batch(3))


def test_values_that_python_reads_from_parameters_follow_their_updates():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.layer = nn.Parameter(np.full(1, 0.5)), nn.Linear(4, 4).double()

        def forward(self, x):
            y = self.layer(x) * self.scale
            return y * float(self.scale) if float(self.scale.data[0]) > 0.2 else y

    model = Scaled()
    step = fn.TrainStep(model, lambda y, t: (y * t).sum(), optim.SGD(model.parameters(), 0.05))
    x = batch(3, dtype=np.float64)
    for _ in range(5):
        scale = float(model.scale)
        expected = (x @ model.layer.weight.data.T + model.layer.bias.data) * scale * (scale if scale > 0.2 else 1)
        np.testing.assert_allclose(model(x), expected, rtol=1e-12)
        assert step(x, x) == pytest.approx((expected * x).sum(), rel=1e-12)
        assert float(model.scale) != scale
    for scale in (0.1, 0.3):
        model.scale.data[0] = scale
        expected = (x @ model.layer.weight.data.T + model.layer.bias.data) * scale * (scale if scale > 0.2 else 1)
        np.testing.assert_allclose(model(x), expected, rtol=1e-12)


# ---- refusals ----------------------------------------------------------------------------------------

PLACE = r" at .*test_trace\.py:\d+\n.*\nand it has no value: "
TRUE = "whether a traced tensor is true is asked for" + PLACE
NUMBERS = "the numbers of a traced tensor are asked for" + PLACE


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, x: x if x.sum() > 0 else -x, TRUE),
        (lambda m, x: x if x[0, 0] else -x, TRUE),
        (lambda m, x: x if x == 3 else -x, TRUE),
        (lambda m, x: x if x != np.float32(3) else -x, TRUE),
        (lambda m, x: x if np.ones(4, np.float32) == x else -x, TRUE),
        (lambda m, x: x * float(x.sum()), NUMBERS),
        (lambda m, x: x[: int(x.sum())], NUMBERS),
        (lambda m, x: sum(x), "a traced tensor is looped over" + PLACE),
        (lambda m, x: np.asarray(x), NUMBERS),
        (lambda m, x: np.ma.ones(4) + x, NUMBERS),
        (lambda m, x: x * x.sum().item(), NUMBERS),
        (lambda m, x: x[x > 0], "how many elements a mask leaves is not known before it runs"),
        (lambda m, x: x.__setitem__(0, 1), "a part of a traced tensor is assigned to" + PLACE),
        (lambda m, x: x if 3 in x else -x, "`in` asks whether a traced tensor has a value" + PLACE),
        (lambda m, x: np.arctan(x), "np.arctan is called with a traced tensor" + PLACE),
        (lambda m, x: None, "Of.forward returned NoneType; expected a tensor, or a tuple, list or dict"),
        (lambda m, x: {"y": "text"}, "Of.forward returned str"),
        (lambda m, x: x + None, "NoneType cannot enter a graph"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused_with_its_place(function, message):
    with pytest.raises(TypeError, match=message):
        Of(function)(batch(3))


def test_after_a_refusal_the_model_and_others_work():
    model = Of(lambda m, x: x * m.factor, factor="text")
    other = nn.Linear(4, 2)
    for _ in range(2):
        with pytest.raises(TypeError, match="str cannot enter a graph"):
            model(batch(3))
        assert other(batch(3)).shape == (3, 2)
    model.factor = 2.0
    np.testing.assert_array_equal(model(batch(3)), batch(3) * 2)
    model.factor = "text"
    with pytest.raises(TypeError, match="str cannot enter a graph"):
        model(batch(3))


def test_a_tensor_outside_its_trace_and_an_empty_batch_are_refused():
    kept = []
    model = Of(lambda m, x: (kept.append(x), x)[1])
    model(batch(3))
    with pytest.raises(TraceError, match="tensors exist only while a forward is traced; outside, use NumPy arrays"):
        kept[0] * 2
    with pytest.raises(ValueError, match=r"input has shape \(0, 4\): it holds no elements"):
        model(batch(3)[:0])
    with pytest.raises(TypeError, match="is a traced tensor; arrays are expected outside a trace"):
        model(kept[0])


def test_functions_and_masks_that_numpy_holds_are_watched():
    def twice(v):
        return v * settings["factor"]

    settings = {"factor": 2.0}
    masked = np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False])
    model = Of(lambda m, x: x * float(m.curve(1.0)) + float(m.kept.sum()), curve=np.vectorize(twice), kept=masked)
    x = batch(3)
    np.testing.assert_allclose(model(x), x * 2 + 4, rtol=1e-6)
    settings["factor"] = 5.0
    np.testing.assert_allclose(model(x), x * 5 + 4, rtol=1e-6)
    masked.mask[0] = True
    np.testing.assert_allclose(model(x), x * 5 + 3, rtol=1e-6)


def test_a_view_that_holds_nan_is_compared_by_its_bits():
    """By values it was never equal to itself, and the function traced again and again."""
    table = np.ones((300, 3))
    table[5, 2] = np.nan
    model = Of(lambda m, x: x * (m.column > 0).mean(), column=table[:, 2])
    np.testing.assert_allclose(model(batch(3)), batch(3) * (299 / 300), rtol=1e-6)
    table[:, 2] = -1
    np.testing.assert_array_equal(model(batch(3)), 0 * batch(3))
