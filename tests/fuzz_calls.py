"""Random calls of every function of fastnn_ext, each named by a seed; test_native_calls.py makes them.

Most arguments fit, in sizes drawn at random; some are odd: other dtypes, layouts and shapes, arrays that overlap or may
not be written to, numbers that no size can be. What a call must do (`check`):

- return, or raise TypeError, ValueError, OverflowError or MemoryError, within a second of processor time;
- where it raises, leave all arrays as they were; where it returns, all but its outputs;
- give the same bits on another number of threads, and with arrays that lie apart where those given overlap.
"""

import importlib
import pkgutil
import random
import time
import warnings
from typing import NamedTuple

import numpy as np

import fastnn  # noqa: F401  (registers all drivers)
import fastnn_ext

from guarded import misaligned

F4 = np.float32
NATIVE = {
    name: importlib.import_module(f"fastnn_ext.{name}") for _, name, _ in pkgutil.iter_modules(fastnn_ext.__path__)
}
runtime = NATIVE["runtime"]
ALLOWED = (TypeError, ValueError, OverflowError, MemoryError)
SECONDS = 1.0
# No size from 2**24 to 2**42: it may be right, and take the machine's memory.
ODD_NUMBERS = [
    0, 1, -1, 7, 2**43, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63), 2.5, 0.0, -1.0, 1e300, -1e300, 1e-300, float("nan"),
    float("inf"), -float("inf"), True, False, np.int64(3), np.float32(0.5), np.bool_(True), 3 + 4j,
]  # fmt: skip
ODD_OBJECTS = [
    None, "x", "relu", "mean", b"x", (), [], {}, object, object(), lambda: 1, range(4), slice(3), memoryview(b"abc"),
]  # fmt: skip
ODD_DTYPES = "f2 f4 f8 >f4 >f8 g i1 i4 i8 >i8 u1 u8 ? c8 O S3 U2 M8[s]".split()
SPECIAL = [float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-45, -1e-40, 3e38, -3e38, 1e19, 1.0]


class Usual:
    """Where the arguments of a call come from: here they are the same each time."""

    dtype = F4

    def __init__(self, seed=0):
        self.numbers = np.random.default_rng(seed)

    def size(self, usual, most=80):
        return usual

    def choice(self, usual, *others):
        return usual

    def real(self, *shape):
        return self.numbers.standard_normal(shape).astype(self.dtype)

    def integers(self, low, high, shape, dtype):
        return self.numbers.integers(low, high, shape, dtype)


class Drawn(Usual):
    """Arguments drawn at random."""

    def __init__(self, seed):
        super().__init__(seed)
        self.random = random.Random(seed)
        self.dtype = self.random.choice((np.float32, np.float64))

    def size(self, usual, most=80):
        return self.random.randint(1, min(most, self.random.choice((usual, 9, 9, 9, 34, most))))

    def choice(self, usual, *others):
        return self.random.choice((usual, *others))

    def real(self, *shape):
        array = super().real(*shape)
        if array.size and self.random.random() < 0.1:
            array.flat[self.numbers.integers(0, array.size, 4)] = self.random.choices(SPECIAL, k=4)
        return array


# ---- arguments that fit ---------------------------------------------------------------------------


def convolution(draw):
    """A convolution's geometry."""
    groups = draw.choice(1, 1, 1, 2, 5)
    ic, oc = draw.choice((4, 3), (draw.size(4), draw.size(3)), (1, 1), (1, 2), (32, 32))
    kernel = draw.choice((3, 3), (3, 3), (draw.size(3, 5), draw.size(3, 5)))
    stride, dilation = draw.choice((1, 1), (1, 1), (2, 1), (3, 4)), draw.choice((1, 1), (1, 1), (2, 3))
    padding = draw.choice((0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 1, 3))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    pads = [padding[0] + padding[1], padding[2] + padding[3]]
    ih, iw = (max(draw.size(6, 15), span - pad, 1) for span, pad in zip(spans, pads, strict=True))
    oh, ow = ((i + pad - span) // s + 1 for i, pad, span, s in zip((ih, iw), pads, spans, stride, strict=True))
    return dict(
        n=draw.size(2, 4), ih=ih, iw=iw, ic=groups * ic, oh=oh, ow=ow, oc=groups * oc, kh=kernel[0], kw=kernel[1],
        stride_h=stride[0], stride_w=stride[1], pad_top=padding[0], pad_left=padding[2], dilation_h=dilation[0],
        dilation_w=dilation[1], groups=groups,
    )  # fmt: skip


def elementwise(draw):
    return draw.real(*draw.choice((5, 4), (draw.size(5), draw.size(4)), (), (7,), (2, 3, 4), (2, 3, 2, 3), (5000,)))


def triad(draw):
    n = draw.size(9, 9000)
    return dict(**{name: draw.real(n).astype(F4) for name in ("y", "x", "z")}, s=1.0)


def similar(draw, *names, **settings):
    x = elementwise(draw)
    return {**{name: draw.real(*x.shape) for name in names}, **settings}


#: By "module.function": what draws arguments that fit, by name.
CALLS = {
    "conv2d.weight_grad_pieces": convolution,
    "conv2d.packed_elements": lambda draw: dict(**convolution(draw), kind=draw.choice(0, 1)),
    "gemm.row_parts": lambda draw: dict(n=draw.size(4, 9000), k=draw.size(5, 9000), itemsize=draw.choice(4, 8)),
    "gemm.packed_columns": lambda draw: dict(
        m=draw.size(4, 900), n=draw.size(4, 900), k=draw.size(5, 900), itemsize=draw.choice(4, 8)
    ),
    "machine.multiply_add": lambda draw: dict(start=1.0, a=0.5, b=0.5, rounds=draw.size(10)),
    "machine.triad": lambda draw: triad(draw),
    "norm.group_pieces": lambda draw: dict(rows=draw.size(100, 9000)),
    "norm.pieces_of": lambda draw: dict(rows=draw.size(100, 9000)),
    "runtime.set_isa": lambda draw: dict(name=draw.choice("baseline", *runtime.available_isas())),
    "runtime.signature": lambda draw: dict(name=draw.choice("gemm", "copy")),
    "runtime.set_num_threads": lambda draw: dict(n=draw.choice(2, 1, 3)),
    "watch.version_of": lambda draw: dict(cls=draw.choice(dict, int)),
}


# ---- methods, and what takes arrays in lists --------------------------------------------------------

CLASSES = 3


def plan_of(columns=257, batch=40):
    """Of x (N, columns), max(x, 0), and of labels (N,) nothing but that they are looked at."""
    relu = NATIVE["activation"].ACTIVATIONS.index("relu")
    op = ("activation", 0, [("output", 0, 0), ("input", 0, 0)], [(0, columns), relu], [0.0], None)
    x, labels = ("x", 0, [(0, 1), columns]), ("target", 2, [(0, 1)], CLASSES, -100)
    return NATIVE["plan"].Plan([op], [(0, 1)], 1, 64, [], [x, labels], [(0, [(0, 1), columns])], batch)


PLAN = plan_of()
ROUTE = NATIVE["plan"].Route(NATIVE["watch"].Watch([], []), PLAN, {1, 2, 7, 40}, None)


def batch_of(draw):
    n = draw.size(2, 40)
    x = Usual.real(draw, n, 257).astype(F4)
    return dict(x=x, target=draw.integers(0, CLASSES, n, np.int64))


def profiled(x, target, events):
    PLAN.start_profile(events)
    try:
        PLAN.run(x, target)
        return len(PLAN.profile_events()) <= events
    finally:
        PLAN.stop_profile()


def specified(name, dtype, dims, limit, ignore):
    return NATIVE["plan"].Spec(name, dtype, dims, limit, ignore).describe()


def commit(destination, source, key):
    entries = {}
    NATIVE["atomic"].commit([(destination, source)], [(entries, key, 1)])
    return list(entries)


#: As CALLS, with the function that is called. What a Plan is made of is not drawn: it is its maker's word.
METHODS = {
    "plan.Plan.run": (lambda x, target: PLAN.run(x, target), batch_of),
    "plan.Plan.try_run": (lambda x, target: PLAN.try_run(x, target), batch_of),
    "plan.Plan.phases": (lambda batch: len(PLAN.phases(batch)), lambda draw: dict(batch=draw.size(2, 40))),
    "plan.Plan.start_profile": (profiled, lambda draw: dict(**batch_of(draw), events=draw.size(5))),
    "plan.Route": (lambda x, target: ROUTE.take((x, target)), batch_of),
    "plan.Spec": (specified, lambda draw: dict(name="x", dtype=0, dims=[(0, 1), 5], limit=0, ignore=-1)),
    "atomic.commit": (commit, lambda draw: dict(**similar(draw, "destination", "source"), key="a")),
}
#: Arguments that a call writes to, by name; some names are outputs in some functions alone.
OUTPUTS = {"destination"}
OUTPUTS_OF = {"machine.triad": {"y"}}


def function_of(name):
    if name in METHODS:
        return METHODS[name][0]
    module, function = name.split(".")
    return getattr(NATIVE[module], function)


def arguments(name, draw):
    return (METHODS[name][1] if name in METHODS else CALLS[name])(draw)


# ---- odd arguments ----------------------------------------------------------------------------------


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(rng, array):
    if array.ndim == 0:
        return array
    axis = rng.randrange(array.ndim)
    return np.repeat(array, 2, axis)[(slice(None),) * axis + (slice(None, None, 2),)]


def reversed_(rng, array):
    axis = rng.randrange(array.ndim) if array.ndim else None
    return np.flip(array, axis)


def resized(rng, array):
    if array.ndim == 0:
        return array.reshape(1)
    shape, axis = list(array.shape), rng.randrange(array.ndim)
    change = rng.choice(("zero", "less", "more", "one", "drop", "add", "flat", "swap"))
    if change == "drop":
        return array.take(0, axis) if shape[axis] else array
    if change == "add":
        return np.expand_dims(array, axis)
    if change == "flat":
        return array.reshape(-1).copy()
    if change == "swap":
        return np.ascontiguousarray(array.swapaxes(0, -1))
    shape[axis] = {"zero": 0, "less": shape[axis] // 2, "more": shape[axis] + rng.randint(1, 5), "one": 1}[change]
    return np.resize(array, shape)


def special(rng, array):
    array = array.copy()
    if array.size == 0:
        return array
    values = SPECIAL if array.dtype.kind == "f" else [np.iinfo(array.dtype).min, np.iinfo(array.dtype).max, 0, 3, 100]
    for _ in range(rng.choice((1, 3, array.size))):
        array.flat[rng.randrange(array.size)] = rng.choice(values)
    return array


def huge(rng, array):
    """More elements than any memory holds, all in one place."""
    element = array.reshape(-1)[:1] if array.size else np.zeros(1, array.dtype)
    shape = list(array.shape) or [1]
    shape[rng.randrange(len(shape))] = 2**43
    return np.broadcast_to(element, shape)


def subclass(rng, array):
    kind = rng.choice(("masked", "matrix", "record", "own"))
    if kind == "masked":
        return np.ma.masked_array(array, mask=np.zeros(array.shape, bool))
    if kind == "matrix":
        return array.view(np.matrix) if array.ndim == 2 else array
    if kind == "record":
        return array.view(np.recarray)
    return array.view(type("Own", (np.ndarray,), {}))


def as_dtype(rng, array):
    with np.errstate(all="ignore"):
        return np.nan_to_num(array).astype(rng.choice(ODD_DTYPES))


FORMS = [
    strided, reversed_, resized, resized, special, special, huge, subclass, as_dtype, as_dtype,
    lambda rng, array: np.asfortranarray(array),
    lambda rng, array: array.T,
    lambda rng, array: read_only(array),
    lambda rng, array: misaligned(array) if array.size and array.itemsize > 1 else array,
    lambda rng, array: np.broadcast_to(array.reshape(-1)[0], array.shape) if array.size else array,
    lambda rng, array: array.tolist(),
    lambda rng, array: memoryview(array) if array.ndim else None,
]  # fmt: skip


def odd_number(rng):
    small = rng.randint(-3, 70)
    return rng.choice((rng.choice(ODD_NUMBERS), small, small, 2 ** rng.randint(43, 70), -(2 ** rng.randint(0, 70))))


def odd_value(rng):
    kind = rng.random()
    if kind < 0.5:
        return odd_number(rng)
    if kind < 0.7:
        return tuple(odd_number(rng) for _ in range(rng.choice((1, 2, 2, 4, 4, 5))))
    if kind < 0.75:
        return [odd_number(rng) for _ in range(rng.choice((2, 4)))]
    if kind < 0.85:
        return np.zeros(rng.choice(((), (0,), (1,), (5, 4), (0, 4), (2, 0, 3, 4), (3, 3, 3))), rng.choice(ODD_DTYPES))
    return rng.choice(ODD_OBJECTS)


def changed(rng, value):
    """A value like this one, of which a part is odd."""
    if isinstance(value, np.ndarray) and rng.random() < 0.8:
        return rng.choice(FORMS)(rng, value)
    if isinstance(value, tuple) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        return (*value[:place], odd_number(rng), *value[place + 1 :])
    return odd_value(rng)


def overlapping(rng, given):
    """Two arrays of the call laid into one memory; the same place, or some elements apart."""
    names = [name for name, value in given.items() if isinstance(value, np.ndarray) and value.size]
    if len(names) < 2:
        return {}
    first, second = rng.sample(names, 2)
    a, b = given[first], given[second]
    if a.dtype != b.dtype:
        return {}
    shift = rng.choice((0, 0, 1, rng.randint(1, 64), a.size // 2, a.size - 1, a.size))
    memory = np.zeros(max(a.size, shift + b.size), a.dtype)
    memory[: a.size] = a.reshape(-1)
    memory[shift : shift + b.size] = b.reshape(-1)
    return {first: memory[: a.size].reshape(a.shape), second: memory[shift : shift + b.size].reshape(b.shape)}


class Call(NamedTuple):
    """What a seed stands for."""

    name: str
    arguments: dict
    fits: bool  # whether all arguments do
    isa: str
    threads: int
    failing: int  # the allocation that fails; 0: none


def drawn(seed):
    draw = Drawn(seed)
    rng = draw.random
    name = rng.choice((*CALLS, *METHODS))
    given = arguments(name, draw)
    change = rng.random()
    if change < 0.15:
        given.update(overlapping(rng, given))
    elif change < 0.85:
        for place in rng.sample(list(given), min(len(given), rng.choice((1, 1, 1, 2)))):
            given[place] = changed(rng, given[place])
    failing = rng.randint(1, 4) if rng.random() < 0.03 else 0
    return Call(name, given, change >= 0.85, rng.choice(runtime.available_isas()), rng.randint(1, 3), failing)


# ---- what a call must do ----------------------------------------------------------------------------


class Finding(AssertionError):
    """A call that did what it must not."""


def extent(array):
    """Bytes from the first element to the end of the last one."""
    return array.itemsize + sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True) if n)


def is_plain(value):
    """Whether it is an array that can be copied with its layout."""
    if type(value) is not np.ndarray or value.dtype.hasobject:
        return False
    return value.size < 2**24 and min(value.strides, default=0) >= 0


def apart(value):
    """A copy with the same strides, alignment and flags, in memory of its own."""
    if not is_plain(value):
        return value
    memory = np.zeros(extent(value) + 128, np.uint8)
    offset = (value.ctypes.data - memory.ctypes.data) % 64
    twin = np.ndarray(value.shape, value.dtype, memory, offset, value.strides)
    if value.size:
        twin[...] = value
    twin.flags.writeable = value.flags.writeable
    return twin


def same(a, b):
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and (a.dtype.hasobject or a.tobytes() == b.tobytes())
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def shown(value):
    if isinstance(value, np.ndarray):
        flags = "" if value.flags.writeable else ", read-only"
        text = f"{type(value).__name__} {value.shape} of {value.dtype.str}, strides {value.strides}{flags}"
        return f"{text}, at ...{value.ctypes.data % 4096:03x}"
    text = repr(value)
    return text if len(text) < 80 else text[:80] + "..."


def made(call, given, threads, failing):
    """What a call gives, or the error that it raises; and how many seconds this thread worked."""
    runtime.set_isa(call.isa)
    runtime.set_num_threads(threads)
    runtime.fail_allocation(failing)
    begun = time.thread_time()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = function_of(call.name)(**given)
    except ALLOWED as error:
        result = error
    finally:
        seconds = time.thread_time() - begun
        runtime.fail_allocation(0)
    return result, seconds


def check(seed):
    """Makes one call; how it ended: "returns", "refused" or "no memory"."""
    call = drawn(seed)
    given = call.arguments
    twins = {key: apart(value) for key, value in given.items()}
    before = {key: value.copy() for key, value in given.items() if is_plain(value)}

    def complain(what):
        text = "".join(f"\n    {key} = {shown(value)}" for key, value in given.items())
        raise Finding(f"call {seed}, {call.name} on {call.isa} and {call.threads} threads: {what}{text}")

    try:
        result, seconds = made(call, given, call.threads, call.failing)
    except Exception as error:
        complain(f"raised {type(error).__name__}: {error}")
    if seconds > SECONDS:
        complain(f"took {seconds:.1f} s")
    outputs = [key for key in OUTPUTS | OUTPUTS_OF.get(call.name, set()) if key in before]
    refused = isinstance(result, Exception)
    for key, kept in before.items():
        written = not refused and any(np.may_share_memory(given[key], given[output]) for output in outputs)
        if not written and not same(given[key], kept):
            complain(f"{'was refused, and' if refused else 'returned, and'} changed {key}")
    if refused and call.fits and not call.failing:
        complain(f"fits, but was refused: {result}")
    if refused:
        return "no memory" if isinstance(result, MemoryError) else "refused"
    if not all(is_plain(value) for value in given.values() if isinstance(value, np.ndarray)):
        return "returns"
    other, _ = made(call, twins, call.threads % 3 + 1, 0)
    if isinstance(other, Exception):
        complain(f"was taken, but not with arrays that lie apart: {other}")
    if not same(result, other):
        complain("gave other bits on other threads, with arrays that lie apart")
    for key in outputs:
        if not same(given[key], twins[key]):
            complain(f"left other bits in {key} on other threads, with arrays that lie apart")
    return "returns"
