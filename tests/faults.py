"""Faults at every place: what an action was to change is changed as a whole or not at all, and the model goes on.

Each action is tried with a fault at its first place, then at its second, and so on. What it may change (arrays,
settings, files, random numbers) is compared bit by bit with a run without faults, and so is what the same action
does next. Run as a program, since what goes wrong may end the process or never end:

    python faults.py numpy train load          # actions by name; none: all
    python faults.py python --most 100         # a hundred places of each action

Kinds of faults:

native      an allocation of fastnn_ext fails: fastnn_ext.runtime.fail_allocation
forked      the same in a forked child, where a team's threads are made anew
reborn      an allocation of Python's objects fails there, where locks are made anew
numpy       an allocation of arrays' elements fails: a handler of memory (NEP 49)
python      an allocation of Python's objects fails: _testcapi.set_nomemory
burst       BURST of them in a row: what cleans up after an error has no memory, either
interrupt   Ctrl-C before a bytecode of fastnn's, and whoever catches it keeps the traceback
"""

import argparse
import ctypes
import gc
import itertools
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter

import numpy as np

import fastnn as fn
from fastnn import nn, optim
from fastnn.nn import functional as F
from fastnn_ext import runtime

import interrupts

BURST = 40
DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
#: What threading.RLock says in place of MemoryError.
NO_LOCK = "can't allocate lock"


# ---- faults ---------------------------------------------------------------------------------------


class Native:
    """Allocation `nth` of fastnn_ext fails."""

    error = MemoryError

    def __init__(self, nth):
        self.nth = nth

    def run(self, function):
        runtime.fail_allocation(self.nth)
        try:
            return function()
        finally:
            self.happened = runtime.fail_allocation(0) == 0


class Python:
    """Allocation `nth` of an object fails, or BURST of them from there on; if there are so many."""

    error = MemoryError
    happened = None  # nobody says

    def __init__(self, nth, count=1):
        import _testcapi

        self.set, self.remove = _testcapi.set_nomemory, _testcapi.remove_mem_hooks
        self.range = nth - 1, nth - 1 + count  # how many succeed before

    def run(self, function):
        try:
            self.set(*self.range)
            return function()
        finally:
            self.remove()


class Interrupt:
    """Ctrl-C before bytecode `nth`."""

    error = interrupts.Interrupted
    happened = None

    def __init__(self, nth):
        self.nth = nth

    def run(self, function):
        results = []
        interrupts.run(lambda: results.append(function()), self.nth - 1)
        return results[0]


class Allocator(ctypes.Structure):
    """PyDataMemAllocator."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]


class Handler(ctypes.Structure):
    """PyDataMem_Handler."""

    _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", Allocator)]


def _of_arrays():
    """What exchanges NumPy's handler, with the place of the countdown that a handler of ours looks at."""
    try:
        from numpy._core import _multiarray_umath as umath
    except ImportError:  # NumPy 1
        from numpy.core import _multiarray_umath as umath

    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [pointer, pointer, pointer]
    inside = ctypes.pythonapi.PyCapsule_GetPointer
    inside.restype, inside.argtypes = pointer, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(inside(umath._ARRAY_API, None), ctypes.POINTER(pointer))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[304])  # PyDataMem_SetHandler
    get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(table[305])  # PyDataMem_GetHandler
    own = Handler.from_address(inside(get_handler(), b"mem_handler")).allocator
    left = [0]

    def failing(address, *arguments):
        kind = ctypes.PYFUNCTYPE(pointer, *arguments)
        function = kind(address)

        def allocate(*values):
            left[0] -= 1
            return function(*values) if left[0] else None

        return kind(allocate)

    functions = [
        failing(own.malloc, pointer, size),
        failing(own.calloc, pointer, size, size),
        failing(own.realloc, pointer, pointer, size),
    ]
    allocator = Allocator(own.context, *(ctypes.cast(f, pointer) for f in functions), own.free)
    handler, name = Handler(b"failing", 1, allocator), ctypes.create_string_buffer(b"mem_handler")
    capsule = new_capsule(ctypes.addressof(handler), ctypes.addressof(name), None)
    return set_handler, capsule, left, (functions, handler, name)


class Numpy:
    """Allocation `nth` of arrays' elements fails, on this thread."""

    error = MemoryError
    made = None

    def __init__(self, nth):
        Numpy.made = Numpy.made or _of_arrays()  # for good: arrays are freed by the handler that made them
        self.nth = nth

    def run(self, function):
        set_handler, capsule, left, _ = self.made
        left[0] = self.nth
        before = set_handler(capsule)
        try:
            return function()
        finally:
            set_handler(before)
            self.happened = left[0] <= 0


FAULTS = {
    "native": Native,
    "forked": Native,
    "reborn": Python,
    "numpy": Numpy,
    "python": Python,
    "burst": lambda nth: Python(nth, BURST),
    "interrupt": Interrupt,
}
#: Where a fault tells whether it happened, places are tried until one does not. Else they are counted first.
TELLING = ("native", "forked", "numpy")


# ---- actions --------------------------------------------------------------------------------------

generator = np.random.default_rng(0)
X = generator.standard_normal((6, 4)).astype(np.float32)
Y = generator.integers(0, 2, 6)
DY = generator.standard_normal((6, 2)).astype(np.float32)
IMAGES = generator.standard_normal((8, 3, 16, 16)).astype(np.float32)


class Net(nn.Module):
    """Draws random numbers, keeps statistics, and depends on a value that is watched."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.out = nn.Linear(3, 2)
        self.scale = [0.5]

    def forward(self, x):
        return self.out(F.dropout(self.norm(self.fc(x)).tanh(), 0.3, self.training)) * self.scale[0]


class Images(nn.Module):
    """Has programs with many kinds of native ops, that are shared by threads."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.wide = nn.Conv2d(32, 32, 3, padding=1)
        self.out = nn.Linear(32 * 64, 2)
        self.scale = [0.5]

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.out(F.relu(h + self.wide(h)).flatten(1)) * self.scale[0]


class Case:
    """A model with all that belongs to a training, and an action on it.

    Attributes
    ----------
    act : callable
        Returns what is compared.
    """

    model = Net
    x, y = X, Y

    def __init__(self, folder):
        self.folder = folder
        fn.manual_seed(1)
        self.net = self.model()
        self.optimizer = optim.Adam(self.net.parameters(), lr=0.1)
        self.loss = nn.CrossEntropyLoss()
        self.step = fn.TrainStep(self.net, self.loss, self.optimizer)
        self.loader = fn.data.DataLoader((self.x, self.y), 2, shuffle=True, seed=3)
        self.begin()

    def begin(self):
        """What is done before the action, with memory."""

    def state(self):
        """Everything that outlives a call, to be compared."""
        saved = self.optimizer.state_dict()
        values = [*self.net.parameters(), *self.net.buffers()]
        return (
            [(value.data.dtype, value.data.tobytes()) for value in values],
            [None if p.grad is None else p.grad.tobytes() for p in self.net.parameters()],
            [(p.requires_grad, p.data.shape) for p in self.net.parameters()],
            [module.training for module in self.net.modules()],
            saved["groups"],
            # Of whatever dtype: an optimizer follows its parameters when it is next used.
            [{name: a.astype(np.float64).tobytes() for name, a in states.items()} for states in saved["state"]],
            [group.hyper.tolist() for group in self.optimizer.param_groups],
            self.loader.state_dict(),
            fn.get_rng_state(),
            {name: self.content(name) for name in sorted(os.listdir(self.folder))},
        )

    def content(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def probe(self):
        """The action once more, with another value of what its programs depend on."""
        self.net.scale[0] *= 4
        return flat(self.act()), self.state()


def flat(result):
    """Arrays as bytes, wherever they are."""
    if isinstance(result, (tuple, list)):
        return [flat(part) for part in result]
    if isinstance(result, dict):
        return {name: flat(part) for name, part in result.items()}
    return (result.dtype, result.shape, result.tobytes()) if isinstance(result, np.ndarray) else result


class Predict(Case):
    def act(self):
        return self.net.evaluated(self.x)


class PredictAgain(Predict):
    """At another batch: the program is there, and is looked at again."""

    def begin(self):
        self.net.evaluated(self.x[:4])


class Train(Case):
    def act(self):
        return self.step(self.x, self.y)


class TrainAgain(Train):
    """Nothing but the native call."""

    def begin(self):
        self.step(self.x, self.y)


class TrainDoubled(Train):
    """After a change of dtype, which the optimizer follows."""

    def begin(self):
        self.step(self.x, self.y)
        self.net.double()

    def act(self):
        return self.step(self.x.astype(np.float64), self.y)


class TrainWeighted(Train):
    """With weights of the samples."""

    def act(self):
        return self.step(self.x, self.y, sample_weight=np.linspace(0, 2, len(self.x)))


class TrainImages(Train):
    model, x, y = Images, IMAGES, np.arange(8) % 2


class TrainMore(TrainImages):
    """With more samples than memory was taken for."""

    def begin(self):
        self.step(self.x[:2], self.y[:2])


class Hook(Case):
    """One more on the model."""

    def begin(self):
        self.net.evaluated(self.x)

    def state(self):
        return super().state(), sorted(self.net._forward_hooks)

    def act(self):
        self.net.register_forward_hook(halved, prepend=True)

    def probe(self):
        return flat(self.net.evaluated(self.x)), super().probe()


def halved(module, args, output):
    return output * 0.5


class RangeTest(Case):
    """Which leaves all as it was."""

    def begin(self):
        self.step(self.x, self.y)
        self.data = fn.data.DataLoader((self.x, self.y), 4, prefetch=0)

    def act(self):
        found = fn.train.lr_range_test(self.step, self.data, max_lr=0.1, num_training=3)
        return found.loss, found.lr


class ForwardTrain(Case):
    def act(self):
        return self.net.forward_train(self.x)


class Backward(Case):
    """Gradients are added to those that there are; before the second call there is a new forward pass."""

    def begin(self):
        self.net.forward_train(self.x)
        self.net.backward(DY)
        self.net.out.bias.grad = None
        self.net.forward_train(self.x)

    def act(self):
        try:
            return self.net.backward(DY)
        except RuntimeError as error:
            if "forward" not in str(error):
                raise
            self.net.forward_train(self.x)
            return self.net.backward(DY)


class Update(Case):
    def begin(self):
        self.net.forward_train(self.x)
        self.net.backward(DY)

    def act(self):
        return self.optimizer.step()


class ZeroGrad(Update):
    def act(self):
        return self.optimizer.zero_grad()


class Double(Case):
    def begin(self):
        self.step(self.x, self.y)

    def act(self):
        self.net.double()


class Modes(Case):
    def act(self):
        self.net.eval()


class Freeze(Case):
    def act(self):
        self.net.requires_grad_(False)


class Rate(Case):
    def act(self):
        self.optimizer.lr = 1e-3


class Setting(Case):
    """One that needs memory of its own."""

    def act(self):
        self.optimizer.param_groups[0]["amsgrad"] = True


class Loss(Case):
    def act(self):
        return self.loss.value_and_grad(DY, self.y)


class Save(Case):
    def begin(self):
        self.path = os.path.join(self.folder, "model")
        self.net.save(self.path)
        self.step(self.x, self.y)

    def act(self):
        self.net.save(self.path)


class Load(Save):
    def act(self):
        self.net.load(self.path)


class LoadDict(Case):
    def begin(self):
        self.saved = self.net.state_dict()
        self.step(self.x, self.y)

    def act(self):
        return self.net.load_state_dict(self.saved)


class Checkpoint(Case):
    def begin(self):
        self.path = os.path.join(self.folder, "checkpoint")
        self.optimizer.param_groups[0]["amsgrad"] = True
        self.act()
        self.step(self.x, self.y)
        self.optimizer.lr = 0.3
        iterator = iter(self.loader)
        next(iterator)

    def act(self):
        fn.save_checkpoint(self.path, self.net, self.optimizer, loader=self.loader, step=3)


class LoadCheckpoint(Checkpoint):
    loads = False

    def begin(self):
        super().begin()
        self.loads = True

    def act(self):
        if self.loads:
            return fn.load_checkpoint(self.path, self.net, self.optimizer, loader=self.loader)
        return super().act()


class Evaluate(Case):
    """The trainer's, with a metric."""

    def begin(self):
        # Without a thread: Python waits for ever for one that has no memory to begin.
        self.data = fn.data.DataLoader((self.x, self.y), 4, prefetch=0)
        self.trainer = fn.Trainer(self.net, loss=self.loss, optimizer=self.optimizer, metrics=["accuracy"])

    def act(self):
        return self.trainer.evaluate(self.data)


class PredictAll(Evaluate):
    """The trainer's."""

    def act(self):
        return self.trainer.predict(self.x, batch_size=4)


class Averaging(Case):
    """Begin to average: a state, counts, and another program."""

    def act(self):
        self.optimizer.param_groups[0].update(averaging=0.5)


class TrainAveraged(Case):
    """What the update does with the new parameters."""

    def begin(self):
        self.optimizer.param_groups[0].update(averaging=0.5, max_norm=0.4)
        self.step(self.x, self.y)

    def act(self):
        return self.step(self.x, self.y)


class Averaged(TrainAveraged):
    """A model of averages that is there is filled again."""

    def begin(self):
        super().begin()
        self.mean = fn.train.averaged(self.net, self.optimizer)
        self.step(self.x, self.y)

    def state(self):
        mean = self.mean.state_dict() if hasattr(self, "mean") else {}
        return super().state(), [array.tobytes() for array in mean.values()]

    def act(self):
        fn.train.averaged(self.net, self.optimizer, out=self.mean)


class UpdateBatchNorm(Evaluate):
    """In three batches, of which all count or none."""

    def act(self):
        fn.train.update_bn(self.data, self.net)


class Smooth(nn.Module):
    """Twice differentiable."""

    def __init__(self):
        super().__init__()
        self.fc, self.out, self.scale = nn.Linear(4, 2), nn.Linear(2, 2), [0.5]

    def forward(self, x):
        return self.out(self.fc(x).tanh()) * self.scale[0]


class Newton(Case):
    """In several steps, which are taken all or none."""

    model = Smooth

    def act(self):
        return fn.train.newton(self.net, self.loss, self.x, self.y, max_iter=2)


class Function(Case):
    """Of arrays, with its gradient."""

    def begin(self):
        self.function = fn.value_and_grad(lambda x: (x.exp() * 0.5).sum())

    def act(self):
        return self.function(DY)


ACTIONS = {
    "predict": Predict,
    "predict again": PredictAgain,
    "train": Train,
    "train again": TrainAgain,
    "train doubled": TrainDoubled,
    "train weighted": TrainWeighted,
    "train images": TrainImages,
    "train more": TrainMore,
    "hook": Hook,
    "range test": RangeTest,
    "forward_train": ForwardTrain,
    "backward": Backward,
    "update": Update,
    "zero_grad": ZeroGrad,
    "double": Double,
    "eval": Modes,
    "requires_grad_": Freeze,
    "learning rate": Rate,
    "setting": Setting,
    "loss": Loss,
    "save": Save,
    "load": Load,
    "load_state_dict": LoadDict,
    "save_checkpoint": Checkpoint,
    "load_checkpoint": LoadCheckpoint,
    "evaluate": Evaluate,
    "predict all": PredictAll,
    "averaging": Averaging,
    "train averaged": TrainAveraged,
    "averaged": Averaged,
    "update_bn": UpdateBatchNorm,
    "newton": Newton,
    "function": Function,
}
#: What runs on several threads. For faults of Python's the small ones do, which run the same Python.
LARGE = ("train images", "train more")
FORKING = ("forked", "reborn")


# ---- trying ---------------------------------------------------------------------------------------


def attempt(kind, action, nth, expected):
    """One action with a fault at place `nth`, and what comes after it. Returns how it ended, and whether the fault
    happened, if that is known."""
    states, results, probes = expected
    with tempfile.TemporaryDirectory() as folder:
        case = action(folder)
        assert case.state() == states[0]
        fault, kept = FAULTS[kind](nth), None
        try:
            result = fault.run(case.act)
        except fault.error as error:
            ending, kept = type(error).__name__, error
        except SystemError:  # C code, NumPy's above all, that goes on with half of a MemoryError
            ending = "SystemError"
        except RuntimeError as error:
            if str(error) != NO_LOCK:
                raise
            ending = "MemoryError"
        else:
            ending = "done"
            assert flat(result) == results[0], "another result"
        now = case.state()
        assert now == states[1] or (now == states[0] and ending != "done"), "part of it was done"
        made = 0 if now == states[0] and ending != "done" else 1
        # The next call works, and does what it would have done.
        assert flat(case.act()) == results[made], "another result of the next call"
        assert case.state() == states[made + 1], "another state after the next call"
        assert case.probe() == probes[made], "the model goes on with what no longer holds"
        del kept
    return ending, fault.happened


def in_child(function, *arguments):
    """What a function returns in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, json.dumps(function(*arguments)).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader, "rb") as file:
        sent = file.read()
    assert os.waitpid(child, 0)[1] == 0, "a child failed"
    return json.loads(sent)


def reference(action):
    """States before and after the action, and after it was done twice; results; what probes give after each."""
    probes = []
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            case = action(folder)
            states, results = [case.state()], []
            for _ in range(count):
                results.append(flat(case.act()))
                states.append(case.state())
            probes.append(case.probe())
    return states, results, probes


def count(kind, action, expected):
    """How many places an action has."""
    if kind == "interrupt":
        with tempfile.TemporaryDirectory() as folder:
            return interrupts.run(action(folder).act)

    def fails(nth):
        return attempt("burst", action, nth, expected)[0] != "done"

    low, high = 0, 1
    while fails(high):
        low, high = high, 2 * high
    while high - low > 1:  # the first that makes no difference is `high`, or less
        middle = (low + high) // 2
        low, high = (middle, high) if fails(middle) else (low, middle)
    return low + 40 if kind == "reborn" else low  # a child makes some more


def numbers(total, most):
    """1 to `total`, or `most` of them, evenly spread."""
    return range(1, total + 1) if total <= most else [1 + total * i // most for i in range(most)]


def references():
    """How often each thing is held that a module of fastnn's has a name for."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("fastnn", "fastnn_ext")]
    return {(m.__name__, name): sys.getrefcount(value) for m in modules for name, value in list(vars(m).items())}


def attack(kind, name, most):
    """Try each place of an action, or `most` of those that are counted. Returns how often which ending was seen."""
    action = ACTIONS[name]
    expected = reference(action)
    reference(action)
    tried = itertools.count(1) if kind in TELLING else numbers(count(kind, action, expected), most)
    gc.collect()
    held, descriptors, before = runtime.held_allocations(), len(os.listdir(DESCRIPTORS)), references()
    endings = Counter()
    for nth in tried:
        print(f"{name}, place {nth}", flush=True)
        way = kind, action, nth, expected
        # In a generator, which has an exception state of its own: in CPython 3.11, a trace function that raises in the
        # end of a with block leaves the exception that is handled there behind, and with it all that its frames hold.
        ending, happened = next(in_child(attempt, *way) if kind in FORKING else attempt(*way) for _ in "1")
        if happened is False:
            break
        endings[ending] += 1
    gc.collect()
    if kind not in ("python", "reborn", "burst"):  # CPython loses a reference here and there where its own memory ends
        assert runtime.held_allocations() == held, "native memory was lost"
    assert len(os.listdir(DESCRIPTORS)) == descriptors, "a descriptor was lost"
    now = references()
    fewer = {key: (before[key], now[key]) for key in before if now.get(key, 0) < before[key]}
    assert not fewer, f"of what is in use, references are given up: {fewer}"
    return endings


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=FAULTS)
    parser.add_argument("actions", nargs="*")
    parser.add_argument("--most", type=int, default=10**9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    fn.set_num_threads(arguments.threads)
    runtime.always_share(True)
    sys.unraisablehook = lambda _: None  # generators that cannot be closed without memory
    small = [name for name in ACTIONS if name not in LARGE]
    names = {"native": ACTIONS, "forked": LARGE, "numpy": ACTIONS}.get(arguments.kind, small)
    for name in arguments.actions or names:
        begun = time.perf_counter()
        endings = attack(arguments.kind, name, arguments.most)
        seconds = time.perf_counter() - begun
        print(f"{name}: {sum(endings.values())} faults, {dict(endings)}, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
