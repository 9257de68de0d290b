"""Every tool of a training run gives the same bits with 1, 2, 3 and 8 threads, and stopped and resumed.

The tables are complete by construction: a layer, loss, function, method of tensors, optimizer or schedule without a row
fails a test. The optimizers' rows are those of optimizers.py, the schedules' those of test_lr_scheduler.py.
"""

import hashlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from test_lr_scheduler import SCHEDULES, groups

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.graph import TensorMethods
from fastnn.optim import lr_scheduler
from fastnn.optim.optimizer import SHARED

from optimizers import KINDS, make

THREADS = (1, 2, 3, 8)
STEPS, STOP = 6, 3
ROWS, IMAGES, SEQUENCES = (96, 1000), (12, 6, 20, 22), (12, 6, 200)
ORDER = np.random.default_rng(0).permutation(1000)
PLACES = np.random.default_rng(1).integers(0, 1000, (96, 1000))

# Layers, and the shape of what they are tried on: large enough that threads share the work.
LAYERS = [
    *((f"nn.{name}()", ROWS) for name in (
        "ReLU", "LeakyReLU", "ELU", "CELU", "SELU", "ReLU6", "PReLU", "RReLU", "Step", "Sign", "Sigmoid", "Tanh",
        "GELU", "SiLU", "Swish", "Mish", "Softplus", "LogSigmoid", "Softsign", "Hardsigmoid", "Hardswish", "Hardtanh",
        "Hardshrink", "Softshrink", "Tanhshrink", "GLU", "Identity", "Dropout", "AlphaDropout",
    )),
    ("nn.GELU('tanh')", ROWS),
    ("nn.Swish(0.5, trainable=True)", ROWS),
    ("nn.PReLU(1000)", ROWS),
    ("nn.Threshold(0.2, 1.0)", ROWS),
    ("nn.Maxout(4)", ROWS),
    *((f"nn.{name}(dim={dim})", ROWS) for name in ("Softmax", "LogSoftmax", "Softmin") for dim in (0, 1)),
    ("nn.GaussianNoise(0.3)", ROWS),
    ("nn.ActivityRegularization(1e-4, 1e-3)", ROWS),
    ("nn.Flatten(0, 1)", IMAGES),
    ("nn.Unflatten(1, (40, 25))", ROWS),
    ("nn.Linear(1000, 70)", ROWS),
    ("nn.Sequential(nn.Linear(1000, 30), nn.Tanh(), nn.Linear(30, 40))", ROWS),
    ("nn.Bilinear(1000, 1000, 3)", ROWS),
    ("nn.Embedding(50, 30, padding_idx=2)", (96, 40)),
    ("nn.Conv2d(6, 20, 3, padding=1)", IMAGES),
    ("nn.Conv2d(6, 24, 3, stride=2, groups=2)", IMAGES),
    ("nn.Sequential(nn.Conv2d(6, 32, 1), nn.Conv2d(32, 32, 3))", IMAGES),
    ("nn.Conv1d(6, 20, 5)", SEQUENCES),
    ("nn.ConvTranspose2d(6, 7, 3, stride=2)", IMAGES),
    ("nn.ConvTranspose1d(6, 7, 3)", SEQUENCES),
    ("nn.Dropout2d()", IMAGES),
    *((f"nn.{name}Pool2d(3, 2)", IMAGES) for name in ("Max", "Avg")),
    *((f"nn.{name}Pool1d(17)", SEQUENCES) for name in ("Max", "Avg")),
    *((f"nn.Adaptive{name}Pool2d(7)", IMAGES) for name in ("Max", "Avg")),
    *((f"nn.Adaptive{name}Pool1d(7)", SEQUENCES) for name in ("Max", "Avg")),
    *((f"nn.{name}Pad2d((2, 1, 3, 4))", IMAGES) for name in ("Zero", "Reflection", "Replication", "Circular")),
    ("nn.ConstantPad2d((2, 1, 3, 4), 0.5)", IMAGES),
    ("nn.Upsample(scale_factor=2)", IMAGES),
    ("nn.Upsample((40, 66))", IMAGES),
    *((f"nn.Upsample((31, 50), mode='{mode}')", IMAGES) for mode in ("nearest", "bilinear", "bicubic", "area")),
    ("nn.BatchNorm2d(6)", IMAGES),
    ("nn.BatchNorm1d(1000, momentum=None)", ROWS),
    ("nn.LayerNorm(1000)", ROWS),
    ("nn.RMSNorm(1000)", ROWS),
    ("nn.GroupNorm(3, 6)", IMAGES),
    ("nn.InstanceNorm2d(6, affine=True)", IMAGES),
    ("nn.InstanceNorm1d(6)", SEQUENCES),
    ("nn.LocalResponseNorm(3)", IMAGES),
    ("nn.Normalization(6, np.arange(6), np.arange(1, 7))", IMAGES),
    ("nn.utils.weight_norm(nn.Linear(1000, 70))", ROWS),
    ("nn.utils.parametrizations.spectral_norm(nn.Linear(1000, 70))", ROWS),
    ("nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 20, 3))", IMAGES),
    ("nn.utils.parametrizations.weight_noise(nn.Linear(1000, 70), 0.1)", ROWS),
]  # fmt: skip
# What no layer computes.
FUNCTIONS = [
    ("F.batch_norm(x, None, None, training=True)", ROWS),
    ("F.cat([x, x * 2.0], 1)", ROWS),
    ("F.concat([x, x * 2.0], 1)", ROWS),
    ("F.one_hot(x.argmax(1), 1000) * x", ROWS),
    ("F.pad(x, (2, 1, 3, 4), mode='circular') + F.pad(x, (2, 1, 3, 4), value=0.5)", IMAGES),
    ("F.interpolate(x, (7, 9), mode='bilinear', antialias=True)", IMAGES),
    ("F.avg_pool2d(F.max_pool2d(x, 3, 2, (0, 1, 1, 2)), 2, 1, (1, 0, 1, 0), dilation=2)", IMAGES),
    ("x[:, :2] @ x[:1, :1].permute(0, 1, 3, 2)", IMAGES),
    *((f"x.{name}()", ROWS) for name in (
        "abs", "cos", "exp", "sign", "sin", "square", "relu", "tanh", "sigmoid", "detach", "float",
        "tan", "atan", "sinh", "cosh", "asinh", "erf", "expm1", "floor", "ceil", "round", "trunc",
    )),
    *((f"(x.sin() * 0.5).{name}()", ROWS) for name in ("asin", "acos", "atanh")),
    ("x.abs().log1p() + (x.square() + 2.0).acosh()", ROWS),
    *((f"x.{name}({dim}, keepdim=True) * x", ROWS) for dim in (0, 1) for name in (
        "amax", "amin", "mean", "std", "sum", "var",
    )),
    *((f"x.gather({dim}, x.{name}({dim}, keepdim=True)) * x", ROWS) for dim in (0, 1) for name in ("argmax", "argmin")),
    *((f"x.{name}({dim})", ROWS) for name in ("softmax", "log_softmax", "cumsum") for dim in (0, 1)),
    *((f"x.{name}(1)[0]", ROWS) for name in ("max", "min")),
    *((f"x.topk(2, {dim})[0]", ROWS) for dim in (0, 1)),
    ("(x * 0.01 + 1.0).prod(1, keepdim=True) * x", ROWS),
    ("x.double().to('float32')", ROWS),
    ("x.abs().log() + x.abs().sqrt() + x.pow(2)", ROWS),
    ("x.clamp(-0.5, 0.7) + x.clip(-1.0, 0.0)", ROWS),
    ("x.gather(1, PLACES)", ROWS),
    ("x.take(PLACES)", ROWS),
    ("x.index_select(1, ORDER)", ROWS),
    ("x[:, ORDER] + x[:, ::-1]", ROWS),
    ("x.flatten(1).reshape(12, 20, 132).view(12, 2640)", IMAGES),
    ("x.permute(0, 2, 3, 1).transpose(1, 2).unsqueeze(1).squeeze(1)", IMAGES),
    ("(x.T @ x).T.sum(1) * x", ROWS),
    ("fn.einsum('ni,nj->nij', x[:, :40], x[:, 40:80])", ROWS),
    ("fn.where(x > 0, x, fn.stack([x, x * 0.5], 0).sum(0)) + fn.maximum(x, 0.2) + fn.minimum(x, 0.2)", ROWS),
    ("fn.random.normal((96, 1000)) * x + fn.random.uniform((96, 1000)) + fn.random.bernoulli(0.4, (96, 1000))", ROWS),
]  # fmt: skip
#: Of a tensor, what is no computation.
ASKED = {"dim", "numel", "numpy", "item", "size"}

#: Losses, what a model's output becomes for them, and their target.
LOSSES = [
    *((f"nn.{name}()", "y", "numbers") for name in ("MSELoss", "HalfMSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")),
    *((f"nn.{name}()", "y", "signs") for name in (
        "SoftMarginLoss", "HingeLoss", "SquaredHingeLoss", "HingeEmbeddingLoss",
    )),
    *((f"nn.{name}()", "y", "shares") for name in ("BCEWithLogitsLoss", "SigmoidFocalLoss", "CrossEntropyLoss")),
    ("nn.PerceptronLoss()", "y", "bits"),
    ("nn.BCEWithLogitsLoss(weight=np.float32([2] * 40), pos_weight=np.float32([3] * 40))", "y", "shares"),
    ("nn.CrossEntropyLoss()", "y", "labels"),
    ("nn.CrossEntropyLoss(weight=np.arange(40, dtype=np.float32), label_smoothing=0.1, ignore_index=3)", "y", "labels"),
    ("nn.NLLLoss()", "F.log_softmax(y, 1)", "labels"),
    ("nn.MultiMarginLoss(p=2)", "y", "labels"),
    ("nn.KLDivLoss(reduction='batchmean')", "F.log_softmax(y, 1)", "shares"),
    ("nn.PoissonNLLLoss(full=True)", "y", "counts"),
    ("nn.BCELoss()", "y.sigmoid()", "shares"),
    ("nn.CosineEmbeddingLoss(0.1)", "(y, y[:, ::-1])", "sides"),
    ("nn.MarginRankingLoss(0.1)", "(y, y[:, ::-1])", "signs"),
    ("nn.GaussianNLLLoss()", "(y, t, y.square())", None),
    ("nn.TripletMarginLoss()", "(y, y[:, ::-1], t)", None),
]  # fmt: skip

#: Schedules that PyTorch has not, or that follow a figure.
MORE_SCHEDULES = {
    "inverse time": lambda kit, opt: kit.InverseTimeLR(opt, 2, 0.5),
    "plateau": lambda kit, opt: kit.ReduceLROnPlateau(opt, patience=0, threshold=10.0, factor=0.5),
}
ALL_SCHEDULES = SCHEDULES | MORE_SCHEDULES

NAMES = {"nn": nn, "F": F, "fn": fn, "np": np, "ORDER": ORDER, "PLACES": PLACES}


def function(arguments, expression):
    return eval(f"lambda {arguments}: {expression}", NAMES)


class Tried(nn.Module):
    """A tool between parameters, whose gradients are those for its input, and a layer that reads its output."""

    def __init__(self, expression, shape):
        super().__init__()
        labels = "Embedding" in expression
        self.scale = None if labels else nn.Parameter(np.random.default_rng(2).uniform(0.5, 1.5, shape[1:]).astype("f"))
        self.tool = eval(expression, NAMES) if expression.startswith("nn.") else function("x", expression)
        self.two = "Bilinear" in expression
        x = np.zeros(shape, np.int64 if labels else np.float32)
        size = self.shape_of(x)
        self.flat = len(size) == 1 or size[0] != shape[0]
        self.head = nn.Linear(size[-1] if self.flat else int(np.prod(size[1:])), 3)

    def shape_of(self, x):
        return fn.trace(lambda x: self.tried(x))(x).shape

    def tried(self, x):
        if self.scale is not None:
            x = self.scale * x
        return self.tool(x, x) if self.two else self.tool(x)

    def forward(self, x):
        y = self.tried(x)
        return self.head(y if self.flat else y.flatten(1))


def tried(expression, shape, optimizer=optim.Adam):
    """A model with the tool, its loss and optimizer, and a batch."""
    rng = np.random.default_rng(5)
    model = Tried(expression, shape)
    x = rng.integers(0, 50, shape) if "Embedding" in expression else rng.standard_normal(shape).astype(np.float32)
    target = rng.standard_normal(model.plan(x).plans[0].run(x)[0].shape).astype(np.float32)
    return model, nn.MSELoss(), optimizer(model.parameters()), (x, target), None


def with_loss(expression, domain, kind):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((300, 20)).astype(np.float32)
    targets = {
        "numbers": rng.standard_normal((300, 40)),
        "signs": rng.choice([-1.0, 1.0], (300, 40)),
        "bits": rng.choice([0.0, 1.0], (300, 40)),
        "sides": rng.choice([-1.0, 1.0], 300),
        "shares": rng.dirichlet(np.ones(40), 300),
        "counts": rng.integers(0, 4, (300, 40)).astype(np.float64),
        "labels": rng.integers(0, 40, 300),
        None: rng.standard_normal((300, 40)),
    }
    target = targets[kind] if kind == "labels" else targets[kind].astype(np.float32)
    model = nn.Sequential(nn.Linear(20, 40))
    loss, made = eval(expression, NAMES), function("y, t", domain)

    def total(y, t):
        outputs = made(y, t)
        return loss(*outputs, *([] if kind is None else [t])) if isinstance(outputs, tuple) else loss(outputs, t)

    return model, total, optim.SGD(model.parameters(), lr=1e-2), (x, target), None


def small(optimizer, schedule=None):
    rng = np.random.default_rng(5)
    model = nn.Sequential(nn.Linear(64, 96), nn.Tanh(), nn.Linear(96, 10))
    opt = optimizer(model)
    batch = rng.standard_normal((200, 64)).astype(np.float32), rng.integers(0, 10, 200)
    return model, nn.CrossEntropyLoss(), opt, batch, None if schedule is None else schedule(lr_scheduler, opt)


def of_two_groups(model):
    parameters = list(model.parameters())
    return optim.SGD([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.07}], lr=0.1, momentum=0.9)


#: The settings that all optimizers share, and what they are tried with.
SETTINGS = {
    "maximize": dict(maximize=True),
    "l1_penalty": dict(l1_penalty=1e-3),
    "clip_grad_value": dict(clip_grad_value=1e-3),
    "clip_grad_norm": dict(clip_grad_norm=0.1),
    "grad_noise": dict(grad_noise=1e-2),
    "max_norm": dict(max_norm=0.5),
    "averaging": dict(averaging=0.7),
    "averaging_every": dict(averaging="uniform", averaging_every=2),
}
CASES = {
    **{text: lambda text=text, shape=shape: tried(text, shape) for text, shape in (*LAYERS, *FUNCTIONS)},
    **{f"{row[0]} of {row[2]}": lambda row=row: with_loss(*row) for row in LOSSES},
    "sparse Embedding": lambda: tried("nn.Embedding(50, 30, sparse=True)", (96, 40), lambda p: optim.SGD(p, lr=0.1)),
    **{kind: lambda kind=kind: small(lambda model: make(kind, model.parameters())) for kind in KINDS},
    **{
        name: lambda given=given: small(lambda model: optim.Adam(model.parameters(), **given))
        for name, given in SETTINGS.items()
    },
    **{f"schedule: {name}": lambda rates=rates: small(of_two_groups, rates) for name, rates in ALL_SCHEDULES.items()},
}


def prepared(case, seed=3):
    fn.manual_seed(seed)
    model, loss, opt, batch, schedule = CASES[case]()
    step = fn.TrainStep(model, loss, opt)

    def train():
        value = step(*batch)
        if schedule is not None:
            schedule.step(*([value] if "plateau" in case else []))
        return value

    return model, opt, batch, schedule, train


def bits(*values):
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()


def state(model, opt):
    values = [*model.state_dict().values(), *(array for group in opt.param_groups for array in group.states.values())]
    return bits(*values, fn.get_rng_state(), [group["lr"] for group in opt.param_groups])


def run(case, threads, path=None):
    """Bits of the output and of gradients, of each loss, and of what six steps end with."""
    with fn.threads(threads):
        model, opt, batch, schedule, train = prepared(case)
        y = model.forward_train(batch[0])
        model.backward(np.random.default_rng(6).standard_normal(y.shape).astype(np.float32))
        first = {
            "output": bits(y),
            **{name: bits(p.grad) for name, p in model.named_parameters() if p.grad is not None},
        }
        losses = []
        for i in range(STEPS):
            if path is not None and i == STOP:
                extra = {} if schedule is None else {"schedule": schedule.state_dict()}
                fn.save_checkpoint(path, model, opt, step=i, extra=extra)
            losses.append(train())
        assert np.isfinite(losses).all()
        return first, losses, state(model, opt)


@pytest.mark.parametrize("case", CASES)
def test_bits_are_the_same_for_any_number_of_threads_and_for_a_run_stopped_and_resumed(tmp_path, case):
    path = tmp_path / "checkpoint.safetensors"
    whole = run(case, THREADS[0], path)
    assert len(set(whole[1])) > 1 or not case.startswith(("nn.", "schedule"))
    for threads in THREADS[1:]:
        assert run(case, threads) == whole, f"{threads} threads"
    model, opt, _, schedule, train = prepared(case, seed=99)
    loaded = fn.load_checkpoint(path, model, opt)
    if schedule is not None:
        schedule.load_state_dict(loaded["extra"]["schedule"])
    assert [train() for _ in range(STOP, STEPS)] == whole[1][STOP:]
    assert state(model, opt) == whole[2]


# ---- nothing is left out ------------------------------------------------------------------------


def named(pattern, *texts):
    return {name for text in texts for name in re.findall(pattern, text)}


def modules():
    return {name for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}


def test_each_layer_and_loss_has_a_row():
    rows = named(r"\bnn\.(\w+)", *(row[0] for row in (*LAYERS, *LOSSES))) - {"utils"}
    assert rows == modules() - {"Module", "ModuleList", "ModuleDict", "Loss"}
    ways = {"weight_norm", *nn.utils.parametrizations.__all__}
    assert named(r"\bnn\.utils\.(?:parametrizations\.)?(\w+)\(", *(text for text, _ in LAYERS)) == ways


def test_each_function_has_a_row_or_a_layer_that_calls_it():
    sources = [path.read_text() for path in Path(nn.__file__).parent.glob("*.py")]
    assert named(r"\bF\.(\w+)\(", *sources, *(text for text, _ in FUNCTIONS)) >= set(F.__all__)


def test_each_method_of_tensors_has_a_row():
    methods = {name for name in vars(TensorMethods) if not name.startswith("_")} - ASKED
    assert named(r"\.(\w+)\b", *(text for text, _ in FUNCTIONS)) >= methods


def test_each_optimizer_and_each_setting_of_theirs_has_a_row():
    kinds = {name for name, kind in vars(optim).items() if inspect.isclass(kind) and issubclass(kind, optim.Optimizer)}
    assert {name for name, _ in KINDS.values()} == kinds - {"Optimizer", "Custom"}  # test_optim_custom.py
    assert SETTINGS.keys() == SHARED.keys()


def test_each_schedule_has_a_row():
    class Kit:
        def __init__(self):
            self.asked = set()

        def __getattr__(self, name):
            self.asked.add(name)
            return getattr(lr_scheduler, name)

    kit = Kit()
    for schedule in ALL_SCHEDULES.values():
        schedule(kit, groups(optim.SGD, lambda: nn.Parameter(np.ones(3))))
    bases = {"LRScheduler", "_MomentumCycle"}
    kinds = {n for n, k in vars(lr_scheduler).items() if inspect.isclass(k) and issubclass(k, lr_scheduler.LRScheduler)}
    assert kit.asked == kinds - bases
