"""Random programs over fastnn's interface: a model, its training, and what is changed in between.

A program is data: pieces of text in sections, from which source code is put together. Each piece says which
faults it invites (`FAULTS`). A failing program is shrunk by leaving pieces out; what is left names the fault.

    python -m fuzz_programs --count 20000       # programs until one fails
    python -m fuzz_programs --find              # after how many programs each kind of fault is met first
"""

import argparse
import dataclasses
import itertools
import os
import sys
import time
from collections import Counter

import numpy as np

FAULTS = {
    1: "a size that follows the batch, used as a number",
    2: "an unused activation or addition behind a norm or a convolution",
    3: "several batch norms behind a convolution in evaluation mode",
    4: "forward_train with a smaller batch, no output of which carries the batch",
    5: "attributes, containers, globals or closures that are changed",
    6: "heads that a step does not reach",
    7: "a second optimizer, or another dtype, after an optimizer was made",
    8: "a layer unfrozen, or a setting changed, after some steps",
    9: "evaluation in batches: class weights, ignored labels, sums",
    10: "gradients of powers at 0",
    11: "random numbers drawn in forward",
}

BATCHES = (1, 2, 3, 4, 5, 7, 8)


@dataclasses.dataclass(frozen=True)
class Piece:
    """A line or an expression. @0, @1, ... stand for its operands, which have the shape that it has."""

    text: str
    operands: tuple = ()
    fault: int = 0
    may_refuse: bool = False
    simpler: tuple = ()

    def render(self):
        text = self.text
        for i, operand in enumerate(self.operands):
            text = text.replace(f"@{i}", operand.render())
        return text

    def faults(self):
        return {self.fault} - {0} | {fault for operand in self.operands for fault in operand.faults()}

    def variants(self):
        """This piece with less in it."""
        for text in self.simpler:
            yield Piece(text)
        for i, operand in enumerate(self.operands):
            for inner in (*operand.operands, *operand.variants()):
                yield dataclasses.replace(self, operands=(*self.operands[:i], inner, *self.operands[i + 1 :]))


@dataclasses.dataclass(frozen=True)
class Program:
    """Sections of pieces. `names` holds the text that the sections stand in."""

    seed: int
    dtype: str
    arguments: str
    globals: tuple
    fields: tuple
    init: tuple
    forward: tuple
    result: tuple
    setup: tuple
    actions: tuple
    cell: bool = False

    SECTIONS = ("actions", "forward", "setup", "init", "fields", "globals")

    @property
    def meets_float32(self):
        return self.dtype == "float32" or any(".float()" in piece.text for piece in self.actions)

    def pieces(self):
        return (piece for name in (*self.SECTIONS, "result") for piece in getattr(self, name))

    def faults(self):
        return set().union(*(piece.faults() for piece in self.pieces()))

    def blocks(self):
        """(text, whether it may refuse) in order: first all definitions, then action by action."""
        yield self.definitions(), any(piece.may_refuse for piece in self.setup)
        refusable = any(self._may_refuse(piece) for piece in self.forward)
        for action in self.actions:
            yield action.render(), refusable or action.may_refuse

    def _may_refuse(self, piece):
        return piece.may_refuse or any(map(self._may_refuse, piece.operands))

    def definitions(self):
        forward = ["n = len(x)", "h = x", *lines(self.forward), *lines(self.result)]
        model = [
            "class Model(nn.Module):",
            *indented(lines(self.fields)),
            "    def __init__(self):",
            *indented(["super().__init__()", *lines(self.init)], 2),
            "",
            f"    def forward(self, {self.arguments}):",
            *indented(forward, 2),
        ]
        if self.cell:
            model = ["def make(cell):", *indented(model), "    def set_cell(value):", "        nonlocal cell",
                     "        cell = value", "    return Model, set_cell", "", "Model, set_cell = make(0.5)"]  # fmt: skip
        made = f"model = fill(Model().to(dtype), {self.seed % 1000})"
        return "\n".join([*lines(self.globals), *model, "", made, *lines(self.setup)])

    def source(self):
        head = [
            "import copy, dataclasses, math",
            "from types import SimpleNamespace",
            "import numpy as np",
            "import fastnn as fn  # or: import eager as fn",
            "from fuzz_run import Side",
            f'globals().update(Side(fn, "{self.dtype}").space, see=print)',
            "",
        ]
        return "\n".join([*head, *(text for text, _ in self.blocks())]) + "\n"

    def smaller(self):
        """Programs with a piece less, or with less in a piece."""
        half = len(self.actions) // 2
        if half:
            yield dataclasses.replace(self, actions=self.actions[:half])
            yield dataclasses.replace(self, actions=self.actions[half:])
        for name in self.SECTIONS:
            section = getattr(self, name)
            for i in reversed(range(len(section))):
                yield dataclasses.replace(self, **{name: (*section[:i], *section[i + 1 :])})
        for name in (*self.SECTIONS, "result"):
            section = getattr(self, name)
            for i, piece in enumerate(section):
                for variant in piece.variants():
                    yield dataclasses.replace(self, **{name: (*section[:i], variant, *section[i + 1 :])})


def lines(pieces):
    return [line for piece in pieces for line in piece.render().split("\n")]


def indented(texts, depth=1):
    return ["    " * depth + text if text else text for text in texts]


# ---- what models are made of --------------------------------------------------------------------

H = Piece("h")

#: Expressions that always fit, with how often they are drawn.
PLAIN = {
    "(@0 + @1)": 4, "(@0 - @1)": 2, "(@0 * @1).tanh()": 2, "(@0).tanh()": 3, "(@0).sigmoid()": 2, "F.tanh(@0)": 1,
    "(@0 * 0.5 + 1.0)": 2, "(0.3 - @0)": 1, "(@0 / 2.0)": 1, "(-(@0))": 1, "(@0 / (1.0 + (@1).square()))": 1,
    "(@0).reshape(x.shape)": 1, "(@0 - (@1).mean(0))": 1, "(@0 * (@1).mean())": 1, "((@0) ** 2).tanh()": 1,
    "(@0).tanh().exp()": 1, "((@0).square() + 0.5).sqrt()": 1, "(1.0 / ((@0).square() + 1.0))": 1,
    "fn.stack([@0, @1], 0).sum(0)": 1, "(@0 * (@1).sum(0, keepdim=True).sigmoid())": 1, "(@0 ** 1)": 1,
}  # fmt: skip
#: Expressions with kinks, where float32 and float64 may fall on different sides.
KINKED = {"(@0).relu()": 4, "F.relu(@0)": 3, "fn.maximum(@0, @1)": 1, "fn.maximum(@0, 0.1)": 1, "abs(@0)": 1,
          "fn.minimum(@0, @1)": 1}  # fmt: skip

#: Sizes that follow the batch, as numbers.
SIZES = [
    "(@0 / n)", "(@0 / x.shape[0])", "(@0 * (0.3 * n))", "(@0 * (1.0 / len(x)))", "(@0 * (x.numel() / 32))",
    "(@0 * (int(n) / 4))", "(@0 * np.sqrt(n))", "(@0 * math.sqrt(n))", "(@0 * (np.prod(x.shape) / 32))",
    "(@0 * (n % 2 + 0.5))", "(@0 * (max(n, 3) / 4))", '(@0 * {"3": 0.5, "5": 1.5}.get(f"{n}", 1.0))',
    "(@0 * {3: 0.5, 5: 1.5}.get(n, 1.0))", "(@0 * (0.5 if n > 4 else 1.5))", "(@0 * (0.5 if n == 3 else 1.5))",
    "(@0 * sum(0.1 * i for i in range(n)))", "(@0 + n // 2)", "(@0 - (-n) / 8)", "(@0 * n ** 0.5)",
    "(@0 * [0.5, 1.0, 1.5][n % 3])", "(@0 * len(str(n * 25)))", "(@0 * (1 if n in (2, 3, 8) else 0.5))",
    "(@0 * (sum(x.shape) / 16))", "(@0 * round(n / 3))", "(@0 * bool(n - 3))", "(@0 * n.bit_length())",
    "(@0 * float(str(n)))", "(@0 * divmod(n, 3)[1])", "(@0 * (np.log(n) + 0.5))", "(@0 * (int(np.argmax([0, n, 4])) / 2))",
    "(@0 * full(n / 4))", "(@0 + np.asarray(n) * 0.1)", "(@0 * (hash(n) % 3))", "(@0 * np.mean(x.shape))",
    "(@0).reshape(n, -1).tanh().reshape(x.shape)", "(@0).reshape(n * 2, -1).tanh().reshape(x.shape)",
    "(@0).reshape(-1).tanh().reshape(x.shape)", "(@0 - (@1).sum(0) / n)", "(@0 - (@1)[n - 1])", "(@0 - (@1)[-1])",
    "(@0 + (@1)[0])", "(@0 * (@1)[: n // 2 + 1].mean())", "fn.concat([(@0)[1:], (@0)[:1]], 0)",
    "fn.concat([@0, @1], 0)[n // 2 : n // 2 + n]", "fn.concat([@0, @1], 0)[:n]", "fn.concat([@0, @1], 0)[n:]",
    "(@0 + np.arange(n, dtype=dtype).reshape(n, *[1] * (x.ndim - 1)) / 8)", "(@0 * np.ones(x.shape, dtype) / n)",
    "(@0 * (3.0 if x.shape == (3, *x.shape[1:]) else 0.5))", "(@0 * slice(n).stop / 4)", "(@0 * (x.shape[0] ** 2 / 16))",
    "(@0 * (f'{n:d}' + '!').count('7'))", "(@0 * (x.size(0) / 4))", "(@0 * (2 ** n / 64))", "(@0 * pow(n, 2) / 32)",
]  # fmt: skip
SIZE_LINES = [
    "for i in range(n):\n    h = h * 0.8 + 0.1 * i", "if n > 4:\n    h = h * 0.5\nelse:\n    h = h + 1.0",
    "for i in range(min(n, 3)):\n    h = (h + 0.2).tanh()", "if n % 2:\n    h = h.tanh()",
    "h = fn.concat([h[i : i + 1] * (0.3 * i) for i in range(n)], 0)", "m = n\nwhile m > 2:\n    h, m = h * 0.7, m - 2",
    "if not n - 3:\n    h = h.sigmoid()", "scales = [0.5] * n\nh = h * sum(scales)",
]  # fmt: skip

#: Powers where the base, or the exponent, is 0.
POWERS = ["((@0) ** 0)", "(F.relu(@0) ** 0)", "((@0 * 0.0) ** 0)", "(F.relu(@0) ** (1.0 + (@1).sigmoid()))",
          "(0.0 ** (@0).square())", "(F.relu(@0) ** (F.relu(@1)))", "(F.relu(@0) ** ((@1 - @1) + 2.0))",
          "((@0 * 0.0) ** (0.0 * @1))", "(F.relu(@0) ** 1)", "((@0 * 0.0) ** 2)"]  # fmt: skip

#: Values beside the graph that change: how forward reads one, how it is defined, and how it is changed.
#: {k} is its name, {v} and {w} numbers, {t} one of two texts, {u} the
#: same without quotes.
KNOBS = [
    ("(@0 * self.{k})", "init", "self.{k} = {v}", ["model.{k} = {w}"]),
    ("(@0 * self._{k})", "init", "self._{k} = {v}", ["model._{k} = {w}"]),
    ("(@0 * self.{k})", "init", "self.{k} = np.float64({v})", ["model.{k} = np.float64({w})"]),
    ("((@0).tanh() if self.{k} == 'a' else @0 * 0.5)", "init", "self.{k} = 'a'", ["model.{k} = {t}"]),
    ("((@0).tanh() if self._{k} == 'a' else @0 * 0.5)", "init", "self._{k} = 'a'", ["model._{k} = {t}"]),
    ("(@0 if self.{k} is None else @0 * self.{k})", "init", "self.{k} = None", ["model.{k} = {w}", "model.{k} = None"]),
    ("((@0).tanh() if self.{k} else @0)", "init", "self.{k} = True", ["model.{k} = not model.{k}"]),
    ("(@0 * self.{k})", "init", "self.{k} = full({v})", ["model.{k} = full({w})", "model.{k}[:] = {w}", "model.{k}[1] = {w}"]),
    ("(@0 * self._{k})", "init", "self._{k} = full({v})", ["model._{k} = full({w})", "model._{k}[:] = {w}"]),
    ("(@0 * self.{k})", "init", "self.{k} = np.array([1, 2, 0, 1])", ["model.{k}[1] = {w} * 10", "model.{k} = np.array([0, 1, 2, 1])"]),
    ("(@0 * (self.{k} * 2.0 + 1.0))", "init", "self.{k} = full({v})", ["model.{k}[:] = {w}", "model.{k} = full({w})"]),
    ("(@0 * float(self.{k}[0]))", "init", "self.{k} = full({v})", ["model.{k}[0] = {w}"]),
    ("(@0 * self.{k}[:1])", "init", "self.{k} = full({v})", ["model.{k}[0] = {w}"]),
    ("(@0 * (0.5 if self.{k}.sum() > 2 else 1.5))", "init", "self.{k} = full({v})", ["model.{k}[:] = 3 * {w}"]),
    ("(@0 * self.{k}[0] + self.{k}[1])", "init", "self.{k} = (full({v}), full({w}))",
     ["model.{k} = (full({w}), full({v}))", "model.{k}[0][:] = {w}", "model.{k} = (model.{k}[0], full({w}))"]),
    ("(@0 * self.{k}[0])", "init", "self.{k} = [{v}, {w}]", ["model.{k}[0] = {w}", "model.{k} = [{w}]", "model.{k}.insert(0, {w})"]),
    ("(@0 * sum(self.{k}))", "init", "self.{k} = [{v}]", ["model.{k}.append(0.1)", "model.{k}[0] = {w}"]),
    ("(@0 * self.{k}['a'])", "init", "self.{k} = {{'a': {v}}}", ["model.{k}['a'] = {w}", "model.{k} = {{'a': {w}}}"]),
    ("(@0 * self.{k}.get('b', 0.5))", "init", "self.{k} = {{'a': {v}}}", ["model.{k}['b'] = {w}", "model.{k}.pop('b', 0)"]),
    ("(@0 * self.{k}['a'][0])", "init", "self.{k} = {{'a': [{v}]}}", ["model.{k}['a'][0] = {w}"]),
    ("(@0 * self.{k}['a'])", "init", "self.{k} = {{'a': full({v})}}", ["model.{k}['a'] = full({w})", "model.{k}['a'][:] = {w}"]),
    ("(@0 * len(self.{k}))", "init", "self.{k} = {{'a': {v}}}", ["model.{k}['{u}'] = {w}"]),
    ("(@0 * (2.0 if 'a' in self.{k} else 0.5))", "init", "self.{k} = {{'a'}}", ["model.{k}.discard('a')", "model.{k}.add('a')"]),
    ("(@0 * self.{k}.rate)", "init", "self.{k} = SimpleNamespace(rate={v})", ["model.{k}.rate = {w}"]),
    ("(@0 * self.{k}.inner.rate)", "init", "self.{k} = SimpleNamespace(inner=SimpleNamespace(rate={v}))", ["model.{k}.inner.rate = {w}"]),
    ("(@0 * self.{k}.array)", "init", "self.{k} = SimpleNamespace(array=full({v}))", ["model.{k}.array = full({w})", "model.{k}.array[:] = {w}"]),
    ("(@0 * self.{k}[0].rate)", "init", "self.{k} = [SimpleNamespace(rate={v})]", ["model.{k}[0].rate = {w}"]),
    ("(@0 * getattr(self, '{k}', 0.5))", "init", "pass", ["model.{k} = {w}"]),
    ("self.{k}(@0)", "init", "self.{k} = F.tanh", ["model.{k} = F.sigmoid", "model.{k} = F.tanh"]),
    ("self.{k}(@0)", "init", "self.{k} = nn.Tanh()", ["model.{k} = nn.Sigmoid()", "model.{k} = nn.Tanh()"]),
    ("self.{k}[0](@0)", "init", "self.{k} = [nn.Tanh()]", ["model.{k}[0] = nn.Sigmoid()", "model.{k}[0] = nn.Tanh()"]),
    ("self.{k}['a'](@0)", "init", "self.{k} = {{'a': nn.Tanh()}}", ["model.{k}['a'] = nn.Sigmoid()"]),
    ("self.{k}.layer(@0)", "init", "self.{k} = SimpleNamespace(layer=nn.Tanh())", ["model.{k}.layer = nn.Sigmoid()"]),
    ("self.{k}(@0)", "init", "self.{k} = nn.Sequential(nn.Tanh(), nn.Identity())", ["model.{k}[1] = nn.Sigmoid()", "model.{k}[0] = nn.Identity()"]),
    ("(@0 * self.{k}.data)", "init", "self.register_buffer('{k}', np.full(4, {v}))", ["model.{k}.data[:] = {w}", "model.{k}.data = full({w})"]),
    ("(@0 * self.{k})", "init", "self.register_buffer('{k}', np.full(4, {v}))", ["model.{k}.data[:] = {w}", "model.{k}.data = full({w})"]),
    ("(@0 * {k})", "globals", "{k} = {v}", ["{k} = {w}"]),
    ("(@0 * {k})", "globals", "{k} = full({v})", ["{k} = full({w})", "{k}[:] = {w}"]),
    ("(@0 * {k}['a'])", "globals", "{k} = {{'a': {v}}}", ["{k}['a'] = {w}"]),
    ("(@0 * {k}[-1])", "globals", "{k} = [{v}]", ["{k}.append({w})", "{k}[:] = [{w}]"]),
    ("(@0 * {k}.rate)", "globals", "{k} = SimpleNamespace(rate={v})", ["{k}.rate = {w}"]),
    ("(@0 * {k}.rate)", "globals", "@dataclasses.dataclass\nclass {k}_:\n    rate: float\n{k} = {k}_({v})", ["{k}.rate = {w}", "{k} = {k}_({w})"]),
    ("(@0 * {k}.rate)", "globals", "class {k}:\n    rate = {v}", ["{k}.rate = {w}"]),
    ("{k}(@0)", "globals", "def {k}(h):\n    return h * {v}", ["def {k}(h):\n    return h * {w}"]),
    ("{k}(@0)", "globals", "def {k}(h, rate=[{v}]):\n    return h * rate[0]", ["{k}.__defaults__[0][0] = {w}", "{k}.__defaults__ = ([{w}],)"]),
    ("(@0 * get_{k}())", "globals", "def make_{k}(value):\n    def get():\n        return value\n    def put(new):\n"
     "        nonlocal value\n        value = new\n    return get, put\nget_{k}, put_{k} = make_{k}({v})", ["put_{k}({w})"]),
    ("scale_{k}(@0)", "globals", "def make_{k}(array):\n    return lambda h: h * array\narray_{k} = full({v})\n"
     "scale_{k} = make_{k}(array_{k})", ["array_{k}[:] = {w}", "scale_{k} = make_{k}(full({w}))"]),
    ("(@0 * self.{k})", "fields", "{k} = {v}", ["Model.{k} = {w}", "model.{k} = {w}"]),
    ("(@0 * Model.{k})", "fields", "{k} = {v}", ["Model.{k} = {w}"]),
    ("(@0 * self.{k}['a'])", "fields", "{k} = {{'a': {v}}}", ["Model.{k}['a'] = {w}", "Model.{k} = {{'a': {w}}}"]),
    ("(@0 * self.{k})", "fields", "@property\ndef {k}(self):\n    return self.rate_{k}[0]\nrate_{k} = [{v}]", ["Model.rate_{k}[0] = {w}"]),
    ("self.{k}(@0)", "fields", "def {k}(self, h):\n    return h * {v}", ["Model.{k} = lambda self, h: h * {w}"]),
    ("(@0 * cell)", "cell", "", ["set_cell({w})"]),
]  # fmt: skip
KNOB_LINES = [
    ("for scale in self.{k}:\n    h = h * scale", "init", "self.{k} = [{v}, 0.9]", ["model.{k}.append(1.1)", "model.{k}[0] = {w}", "model.{k} = [{w}]"]),
    ("for name in sorted(self.{k}):\n    h = h * self.{k}[name]", "init", "self.{k} = {{'b': {v}}}", ["model.{k}['a'] = {w}", "model.{k}['b'] = {w}"]),
    ("try:\n    h = h * self.{k}\nexcept AttributeError:\n    h = h + 0.5", "init", "pass", ["model.{k} = {w}"]),
    ("match self.{k}:\n    case 'a':\n        h = h.tanh()\n    case _:\n        h = h * 0.5", "init", "self.{k} = 'a'", ["model.{k} = {t}"]),
    ("if hasattr(self, '{k}'):\n    h = h * self.{k}", "init", "pass", ["model.{k} = {w}", "if hasattr(model, '{k}'):\n    del model.{k}"]),
]  # fmt: skip

#: Losses: the body of loss(out, y), how often, and the fault that it invites.
LOSSES = [
    ("return F.mse_loss(out, y)", 4, 0), ("return (out - y).square().sum() / out.shape[0]", 1, 1),
    ("return (out - y).square().sum() / len(y)", 1, 1), ("return F.mse_loss(out, y) * int(out.shape[0])", 1, 1),
    ("return F.mse_loss(out, y) * (0.5 if out.shape[0] > 4 else 1.5)", 1, 1), ("return (out - y).abs().sum() / y.numel()", 1, 1),
    ("return F.mse_loss(out, y) * np.sqrt(out.shape[0])", 1, 1), ("return (out * y).tanh().sum() / max(len(out), 3)", 1, 1),
    ("return F.mse_loss(out, y, reduction='sum') / float(np.prod(out.shape))", 1, 1),
]  # fmt: skip
LOSS_KNOBS = [
    ("* rate", "rate = {v}", ["rate = {w}"]), ("* rates['a']", "rates = {{'a': {v}}}", ["rates['a'] = {w}"]),
    ("* get()", "def make_rate(value):\n    def get():\n        return value\n    def put(new):\n        nonlocal value\n"
     "        value = new\n    return get, put\nget, put = make_rate({v})", ["put({w})"]),
    ("+ (out * target_scale).mean()", "target_scale = full({v})", ["target_scale[:] = {w}", "target_scale = full({w})"]),
    ("+ (out * config.scale).mean() * config.rate", "config = SimpleNamespace(scale=full({v}), rate={v})",
     ["config.rate = {w}", "config.scale[:] = {w}", "config.scale = full({w})"]),
]  # fmt: skip


class Writer:
    """Writes one random program."""

    def __init__(self, seed, features=None):
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.names = itertools.count()
        self.float32 = self.chance(0.1)
        self.image = self.chance(0.35)
        self.sections = {name: [] for name in ("globals", "fields", "init", "forward", "setup", "actions")}
        self.changes = []  # actions that change a knob
        self.layers = []  # attributes of the model that hold parameters
        self.kept = []  # values that forward has kept
        self.cell = False
        #: Faults that are to be invited; all by default.
        self.features = set(FAULTS) if features is None else set(features)

    # ---- drawing --------------------------------------------------------------------------------

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, options):
        """One of a list, or of a dict of weights."""
        if isinstance(options, dict):
            weights = np.array(list(options.values()), float)
            return list(options)[self.rng.choice(len(weights), p=weights / weights.sum())]
        return options[self.rng.integers(len(options))]

    def number(self):
        return round(float(self.rng.uniform(0.2, 1.5)), 2)

    def some_seed(self):
        return int(self.rng.integers(1000))

    def add(self, section, text, fault=0, **settings):
        piece = text if isinstance(text, Piece) else Piece(text, fault=fault, **settings)
        self.sections[section].append(piece)

    # ---- the model ------------------------------------------------------------------------------

    def layer(self, make, prefix, share=0.4):
        """The attribute of a layer, a new one or one that is there already."""
        there = [name for name, text in self.layers if text == make]
        if there and self.chance(share):
            return self.pick(there)
        name = f"{prefix}{next(self.names)}"
        self.add("init", f"self.{name} = {make}")
        self.layers.append((name, make))
        return name

    def linear(self):
        if self.image:
            kind = self.pick(["4, 4, 3, padding=1", "4, 4, 1", "4, 4, 3, padding=1, groups=2", "4, 4, 1, bias=False"])
            return self.layer(f"nn.Conv2d({kind})", "conv")
        return self.layer("nn.Linear(4, 4)", "fc")

    def norm(self):
        affine = "" if self.chance(0.8) else ", affine=False"
        return self.layer(f"nn.BatchNorm{2 if self.image else 1}d(4, eps=0.1{affine})", "bn")

    def expression(self, depth):
        """A random tree of the shape of x."""
        if depth == 0:
            return Piece(self.pick(["h", "h", "h", "x", *self.kept]))
        kind = self.pick({"plain": 5, "kinked": 0 if self.float32 else 3, "layer": 6, "size": 1.2, "knob": 1.5, "power": 0.25, "noise": 0.02})
        operands = self.expression(depth - 1), self.expression(max(depth - 2, 0))
        if kind == "plain":
            return Piece(self.pick(PLAIN), operands)
        if kind == "kinked":
            return Piece(self.pick(KINKED), operands)
        if kind == "size" and 1 in self.features:
            return Piece(self.pick(SIZES), operands, 1)
        if kind == "power" and 10 in self.features and not self.float32:
            return Piece(self.pick(POWERS), operands, 10)
        if kind == "noise" and 11 in self.features:
            self.add("init", f"self.rng{next(self.names)} = np.random.default_rng(0)")
            name = self.sections["init"][-1].text.split(" ")[0]
            return Piece(self.pick([f"(@0 + {name}.normal())", "(@0 * np.random.rand())"]), operands, 11, may_refuse=True)
        if kind == "knob" and 5 in self.features:
            return self.knob(KNOBS, operands)
        return Piece(self.layered(), operands)

    def layered(self):
        """An expression with a layer."""
        match self.pick({"linear": 5, "norm": 3, "sequential": 1, "nothing": 1, "linear-norm": 2}):
            case "linear":
                return f"self.{self.linear()}(@0)"
            case "norm":
                return f"self.{self.norm()}(@0)"
            case "linear-norm":
                return f"self.{self.norm()}(self.{self.linear()}(@0))"
            case "nothing":
                return f"self.{self.layer(self.pick(['nn.Identity()', 'nn.Dropout(0.0)']), 'same')}(@0)"
        layer, act = self.linear(), self.pick(["nn.Tanh()", "nn.Sigmoid()"] if self.float32 else ["nn.ReLU()", "nn.Tanh()"])
        name = f"seq{next(self.names)}"
        self.add("init", f"self.{name} = nn.Sequential(self.{layer}, {act}, self.{layer})")
        return f"self.{name}(@0)"

    def knob(self, table, operands=()):
        text, section, define, changes = self.pick(table)
        name = f"k{next(self.names)}"
        if section == "cell":
            self.cell = True
        elif define != "pass":
            self.add(section, self.filled(define, name))
        self.changes.extend((change, name) for change in changes)
        return Piece(text.format(k=name), operands, 5)

    def filled(self, template, name):
        text = self.pick("ab")
        return template.format(k=name, v=self.number(), w=self.number(), t=repr(text), u=text)

    def change(self):
        return self.filled(*self.pick(self.changes))

    def statement(self):
        kinds = {"expression": 8, "keep": 2, "dead": 1.5, "size": 0.5, "knob": 0.5, "norms": 1 if self.image else 0.2}
        match self.pick(kinds):
            case "keep":
                name = f"s{next(self.names)}"
                self.kept.append(name)
                self.add("forward", f"{name} = h")
            case "dead" if 2 in self.features:
                name = f"u{next(self.names)}"
                layer = self.norm() if self.chance(0.6) or not self.image else self.linear()
                self.add("forward", f"h = self.{layer}(h)")
                kinds = ["h.tanh()", "h + x", "F.relu(h)", "h.relu()", "h.sigmoid()", "x + h", "h + h"]
                self.add("forward", f"{name} = {self.pick(kinds)}", 2)
                self.add("forward", Piece("h = @0", (self.expression(1),)))
            case "size" if 1 in self.features:
                self.add("forward", self.pick(SIZE_LINES), 1)
            case "knob" if 5 in self.features:
                self.add("forward", self.knob(KNOB_LINES))
            case "norms" if 3 in self.features:
                between = self.pick(["@0", "@0", f"self.{self.layer('nn.Identity()', 'same')}(@0)",
                                     f"self.{self.layer('nn.Dropout(0.0)', 'drop')}(@0)"])  # fmt: skip
                inner = Piece(between, (Piece(f"self.{self.norm()}(self.{self.linear()}(h))"),))
                self.add("forward", Piece(f"h = self.{self.norm()}(@0)", (inner,), 3))
            case _:
                self.add("forward", Piece("h = @0", (self.expression(int(self.rng.integers(1, 4))),)))

    def result(self):
        """What forward returns; decides the loss and the target."""
        self.out = "h.mean((2, 3))" if self.image else "h"
        kinds = {"one": 6, "heads": 2 * (6 in self.features), "switched": 1.5 * (6 in self.features),
                 "mean": 1 * (4 in self.features), "loss": 1 * (4 in self.features), "dict": 0.7, "twice": 0.3}  # fmt: skip
        self.kind = self.pick(kinds)
        self.arguments = "x"
        self.second = None
        if self.kind == "loss":
            self.arguments = "x, y"
        elif self.chance(0.15):
            self.arguments = "x, z"
            self.second = self.pick(["same", "other"])
            table = ["(@0 + z).tanh()", "(@0 * z.sigmoid())"] if self.second == "same" else [
                "(@0 * z.mean(0))", "(@0 + len(z) / 8)", "(@0 * (len(z) / len(x)))", "(@0 - z.sum(0) / 10)"]  # fmt: skip
            self.add("forward", Piece(f"h = {self.pick(table)}", (H,)))
        if self.kind in ("heads", "switched", "dict"):
            self.add("init", "self.head0 = nn.Linear(4, 4)")
            self.add("init", "self.head1 = nn.Linear(4, 4)")
            self.layers += [("head0", "nn.Linear(4, 4)"), ("head1", "nn.Linear(4, 4)")]
        a, b = f"self.head0({self.out})", f"self.head1({self.out})"
        match self.kind:
            case "heads":
                text, fault = f"return {a}, {b}", 6
            case "dict":
                text, fault = f'return {{"a": {a}, "b": {b}}}', 6
            case "switched":
                self.add("init", "self.head = 'a'")
                self.changes += [("model.head = {t}", "")] * 3
                text, fault = f"return {a} if self.head == 'a' else {b}", 6
            case "mean":
                text, fault = f"return ({self.out}).mean(0)", 4
            case "loss":
                text, fault = f"return F.mse_loss({self.out}, y)", 4
            case "twice":
                text, fault = f"return {self.out}, {self.out}", 0
            case _:
                text, fault = f"return {self.out}", 0
        simpler = () if fault == 0 else (f"return {self.out}",)
        return Piece(text, fault=fault, simpler=simpler)

    # ---- training -------------------------------------------------------------------------------

    def loss(self):
        self.classes = self.kind in ("one", "heads", "switched") and self.chance(0.35)
        self.criterion = self.classes and self.kind in ("one", "switched") and self.chance(0.7)
        self.ignored = self.classes and 9 in self.features and self.chance(0.5)
        if self.criterion:
            weight = self.pick(["", "weight=np.array([0.5, 2.0, 1.0, 0.2], dtype), "]) if 9 in self.features else ""
            reduction = self.pick(["'mean'", "'mean'", "'sum'"]) if 9 in self.features else "'mean'"
            self.add("setup", f"loss = nn.CrossEntropyLoss({weight}reduction={reduction})",
                     simpler=("loss = nn.CrossEntropyLoss()",))  # fmt: skip
            if weight:
                self.changes += [("loss.weight.data[1] = {w}", ""), ("loss.weight.data = [{w}, {v}, {w}, {v}]", "")]
            return
        if self.classes:
            weighted = self.chance(0.5)
            if weighted:
                self.add("setup", "class_weight = np.array([0.5, 2.0, 1.0, 0.2], dtype)")
                if 5 in self.features:
                    self.changes += [("class_weight[1] = {w}", ""), ("class_weight = class_weight * {w}", "")]
            body, fault = f"return F.cross_entropy(out, y{', weight=class_weight' if weighted else ''})", 5 * weighted
        elif self.kind == "loss":
            body, fault = "return out * 2.0", 0
        elif self.kind == "mean":
            body, fault = "return (out - 0.5).square().mean()", 0
        elif self.kind == "one" and self.chance(0.3):
            self.criterion = True
            self.add("setup", f"loss = nn.MSELoss({self.pick(['', '', 'reduction=' + repr('sum')])})", simpler=("loss = nn.MSELoss()",))
            return
        else:
            options = {(body, fault): weight for body, weight, fault in LOSSES if not fault or fault in self.features}
            body, fault = self.pick(options)
        simpler = body
        if 5 in self.features and self.chance(0.3):
            extra, define, changes = self.pick(LOSS_KNOBS)
            self.add("globals", self.filled(define, ""))
            self.changes += [(change, "") for change in changes]
            body, fault = f"{body} {extra}", fault or 5
        elif self.layers and self.layers[0][0][:2] in ("fc", "co") and self.chance(0.1):
            body = f"{body} + 0.1 * model.{self.layers[0][0]}.weight.square().sum()"
        text = "def loss(out, y):\n    out = first(out)\n    {}"
        self.add("setup", text.format(body), fault, simpler=(text.format(simpler),))

    def optimizer(self, name, params="model.parameters()", fault=0):
        lr = self.pick([0.02, 0.05, 0.1])
        decay = self.pick(["", "", ", weight_decay=0.1"])
        kind = self.pick({"SGD": 2, "momentum": 3, "Adam": 3, "AdamW": 1})
        match kind:
            case "SGD":
                settings = f"lr={lr}{decay}"
            case "momentum":
                extra = self.pick(["", "", ", nesterov=True", ", dampening=0.3"])
                settings = f"lr={lr}, momentum=0.9{decay}{extra}"
            case _:
                settings = f"lr={lr / 5:g}, eps=1e-3{decay}{self.pick(['', '', ', betas=(0.8, 0.9)'])}{self.pick(['', '', '', ', amsgrad=True'])}"
        made = "SGD" if kind == "momentum" else kind
        simple = f"{name} = optim.SGD({params}, lr=0.1)"
        return Piece(f"{name} = optim.{made}({params}, {settings})", fault=fault, simpler=() if fault else (simple,))

    # ---- actions --------------------------------------------------------------------------------

    def batch(self):
        norms = any(make.startswith("nn.BatchNorm1d") for _, make in self.layers)
        while True:
            n = int(self.pick(BATCHES))
            if n > 1 or not norms or self.chance(0.1):
                return n

    def inputs(self, n):
        shape = f"{n}, 4, 4, 4" if self.image else f"{n}, 4"
        text = f"data({self.some_seed()}, {shape})"
        if self.kind == "loss":
            text += f", data({self.some_seed()}, {n}, 4)"
        if self.second == "same":
            text += f", data({self.some_seed()}, {shape})"
        if self.second == "other":
            text += f", data({self.some_seed()}, {self.pick(BATCHES)}{shape[len(str(n)):]})"
        return text

    def target(self, n):
        if self.classes:
            return f"labels({self.some_seed()}, {n}{', True' if self.ignored else ''})"
        return f"data({self.some_seed()}, {n}, 4)"

    def action(self):
        kinds = {
            "call": 5, "pieces": 4, "step": 6, "accumulate": 1, "mode": 2, "change": 6 * bool(self.changes),
            "freeze": 2.0 * (8 in self.features) * bool(self.layers), "setting": 1.0 * (8 in self.features),
            "second": 1.2 * (7 in self.features), "drop": 0.3 * (self.steps > 1), "convert": 0.5 * self.converts,
            "copy": 0.6, "frozen": 1, "call frozen": 2 * self.has_frozen, "evaluate": 2.0 * self.evaluates,
            "loss": 1.5, "state": 1, "poke": 0.7, "zero": 0.4, "lone step": 0.4, "inference between": 0.4,
        }  # fmt: skip
        n = self.batch()
        i = int(self.rng.integers(self.steps))
        opt, step, model = f"opt{i}", f"step{i}", self.owners[i]
        batch = f"{self.inputs(n)}, {self.target(n)}"
        gradient = "*like(out, {})".format(self.some_seed())
        match self.pick(kinds):
            case "call":
                self.add("actions", f"see({self.pick(sorted(set(self.owners)))}({self.inputs(n)}))")
            case "pieces":
                zero = self.pick([f"{opt}.zero_grad()\n", f"{opt}.zero_grad()\n", ""])
                update = self.pick([f"\n{opt}.step()", f"\n{opt}.step()", ""])
                self.add("actions", f"out = {model}.forward_train({self.inputs(n)})\nsee(out)\n{zero}{model}.backward({gradient}){update}")
            case "inference between":
                self.add("actions", f"out = {model}.forward_train({self.inputs(n)})\nsee({model}({self.inputs(self.batch())}))\n{model}.backward({gradient})")
            case "step":
                self.add("actions", f"see({step}({batch}))")
            case "accumulate":
                self.add("actions", f"for i in range(2):\n    out = {model}.forward_train({self.inputs(n)})\n    {model}.backward({gradient})\n{opt}.step()")
            case "mode":
                self.add("actions", f"{model}.{self.pick(['train()', 'eval()', 'eval()'])}")
            case "change":
                text = self.change()
                self.add("actions", text, 0 if "model.head =" in text else 5)
            case "freeze":
                name = self.pick([name for name, make in self.layers if "Identity" not in make and "Dropout" not in make] or ["training"])
                if name != "training":
                    self.add("actions", f"{model}.{name}.requires_grad_({self.pick(['False', 'True'])})", 8)
            case "setting":
                sgd = "SGD" in self.optimizers[i]
                text = self.pick(["lr", "weight_decay", *(["momentum", "dampening"] if sgd else ["betas"])])
                value = {"lr": "0.03", "weight_decay": self.pick(["0.0", "0.2"]), "momentum": self.pick(["0.0", "0.8"]),
                         "dampening": "0.2", "betas": "(0.7, 0.9)"}[text]  # fmt: skip
                if not (text in ("momentum", "dampening") and "nesterov" in self.optimizers[i]):
                    self.add("actions", f'{opt}.param_groups[0]["{text}"] = {value}', 8)
            case "second":
                params = self.pick([f"{model}.parameters()", f"list({model}.parameters())[:2]", f"list({model}.parameters())[1:]"])
                made = self.optimizer(f"opt{self.steps}", params, 7)
                self.add("actions", f"{made.text}\nstep{self.steps} = fn.TrainStep({model}, loss, opt{self.steps})", 7)
                self.own(model, made.text)
            case "drop":
                self.add("actions", f"del opt{self.steps - 1}, step{self.steps - 1}")
                self.steps -= 1
                self.owners.pop(), self.optimizers.pop()
            case "convert":
                to = self.pick(["float", "float", "double"])
                self.add("actions", f"dtype = np.float{32 if to == 'float' else 64}\nmodel.{to}()", 7)
            case "copy":
                k = self.steps
                text = f"model{k}, opt{k} = copy.deepcopy(({model}, {opt}))\nstep{k} = fn.TrainStep(model{k}, loss, opt{k})"
                self.add("actions", text)
                self.own(f"model{k}", self.optimizers[i])
            case "frozen":
                self.has_frozen = True
                self.add("actions", f"frozen = {model}.frozen()")
            case "call frozen":
                self.add("actions", f"see(frozen({self.inputs(n)}))")
            case "evaluate":
                size = int(self.pick([4, 5, 7, 9, 11]))
                rows = f"({self.inputs(size)}, {self.target(size)})"
                metrics = '["accuracy"]' if self.classes else "[]"
                self.add("actions", f"logs = fn.Trainer({model}, loss=loss, optimizer={opt}, metrics={metrics})"
                         f".evaluate({rows}, batch_size={self.pick([1, 2, 3, 4, 16])})\nsee(logs)", 9)  # fmt: skip
            case "loss":
                out = f"data({self.some_seed()}, {n}, 4)"
                if self.criterion:
                    self.add("actions", f"see({self.pick(['loss.value_and_grad', 'value_and_grad'])}({out}, {self.target(n)}))")
                elif self.kind not in ("loss", "mean"):
                    self.add("actions", f"see({self.pick(['value_and_grad', 'traced'])}({out}, {self.target(n)}))")
            case "state":
                self.add("actions", self.pick(["saved = model.state_dict(), opt0.state_dict()", "model.load_state_dict(saved[0])",
                                               "opt0.load_state_dict(saved[1])"]))  # fmt: skip
            case "poke":
                if self.layers and self.layers[0][0][:2] in ("fc", "co", "he"):
                    weight = f"{model}.{self.layers[0][0]}.weight"
                    self.add("actions", self.pick([f"{weight}.data[0] = {self.number()}", f"{weight}.data = {weight}.data * 0.5", f"{weight}.grad = None"]))
            case "zero":
                self.add("actions", self.pick([f"{opt}.zero_grad()", f"{model}.zero_grad()"]))
            case "lone step":
                self.add("actions", f"{opt}.step()")

    def own(self, model, optimizer):
        self.owners.append(model)
        self.optimizers.append(optimizer)
        self.steps += 1

    def program(self):
        result = self.result()
        if self.chance(0.6):
            self.add("forward", f"h = self.{self.linear()}(h)")
        for _ in range(self.rng.integers(1, 6)):
            self.statement()
        if not self.layers or self.chance(0.7):
            self.add("forward", f"h = self.{self.linear()}(h)")
        self.loss()
        made = self.optimizer("opt0")
        self.add("setup", made)
        self.add("setup", "step0 = fn.TrainStep(model, loss, opt0)")
        self.add("setup", "value_and_grad = fn.value_and_grad(loss, argnums=0)")
        self.add("setup", "traced = fn.trace(loss)")
        self.add("setup", "saved = model.state_dict(), opt0.state_dict()")
        self.steps, self.owners, self.optimizers, self.has_frozen = 1, ["model"], [made.text], False
        arrays = any(word in piece.render() for section in self.sections.values() for piece in section for word in ("full(", "np."))
        self.converts = 7 in self.features and not self.float32 and not arrays and not self._kinked()
        self.evaluates = 9 in self.features and self.kind in ("one", "switched") and self.second != "other"
        for _ in range(self.rng.integers(4, 16)):
            self.action()
        return Program(
            self.seed, "float32" if self.float32 else "float64", self.arguments, result=(result,), cell=self.cell,
            **{name: tuple(section) for name, section in self.sections.items()},
        )  # fmt: skip

    def _kinked(self):
        text = "\n".join(piece.render() for section in self.sections.values() for piece in section).lower()
        return any(word in text for word in ("relu", "abs", "imum"))


def generate(seed, features=None):
    """The random program of a seed."""
    return Writer(seed, features).program()


# ---- running them -------------------------------------------------------------------------------


def search(seeds, features=None, progress=None):
    """The first program of the seeds with a finding, shrunk, and how the programs before it ended."""
    from fuzz_run import run, shrink

    endings = Counter()
    for seed in seeds:
        program = generate(seed, features)
        outcome = run(program)
        endings[outcome.ending] += 1
        if outcome.ending == "invalid":
            raise AssertionError(f"the generator's mistake: {outcome.finding.message}\n{program.source()}")
        if outcome.finding is not None:
            program = shrink(program, outcome.finding.kind)
            return program, run(program).finding, endings
        if progress is not None and sum(endings.values()) % 1000 == 0:
            progress(f"{sum(endings.values())} programs, seed {seed}: {dict(endings)}")
    return None, None, endings


def find(start, count):
    """After how many programs a finding of each fault is met first.

    A shrunk program counts for a fault if its pieces invite that one alone: without the piece there is no
    finding any more.
    """
    from fuzz_run import report, run, shrink

    met, endings, kinds, others = {}, Counter(), Counter(), {}
    for i, seed in enumerate(range(start, start + count), 1):
        program = generate(seed)
        outcome = run(program)
        endings[outcome.ending] += 1
        if outcome.finding is None:
            continue
        small = shrink(program, outcome.finding.kind)
        finding, faults = run(small).finding, tuple(sorted(small.faults()))
        kinds[outcome.finding.kind, faults] += 1
        if outcome.finding.kind == "differs" and len(faults) == 1 and faults[0] not in met:
            met[faults[0]] = i
            print(f"--- fault {faults[0]} ({FAULTS[faults[0]]}), after {i} programs\n{report(small, finding)}", flush=True)
        elif not faults:
            others.setdefault((finding.kind, finding.subject), report(small, finding))
    for text in others.values():
        print(f"--- of no fault in the list: {text}")
    for fault, name in FAULTS.items():
        print(f"fault {fault:2}: {f'first in program {met[fault]}' if fault in met else 'not met':26} {name}")
    print(dict(endings))
    for (kind, faults), number in kinds.most_common():
        print(f"{number:6} {kind}, faults {faults}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--find", action="store_true", help="report when each fault is met first")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FASTNN_FUZZ_SEED", 0)))
    parser.add_argument("--count", type=int, default=int(os.environ.get("FASTNN_FUZZ_COUNT", 2000)))
    args = parser.parse_args()
    start = time.perf_counter()
    if args.find:
        find(args.seed, args.count)
    else:
        from fuzz_run import report

        program, finding, endings = search(range(args.seed, args.seed + args.count), progress=print)
        if program is not None:
            print(report(program, finding))
        print(f"{sum(endings.values())} programs in {time.perf_counter() - start:.0f} s: {dict(endings)}")
        sys.exit(program is not None)


if __name__ == "__main__":
    main()
