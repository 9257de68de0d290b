"""Random programs over fastnn's interface: a model, its training, and what is changed in between.

A program is data: pieces of text in sections, from which source code is put together. Each piece says which
kind of fault it invites (`FAULTS`). A failing program is shrunk by leaving pieces out, so that what is left
names the fault. fuzz_run.py runs them.
"""

import dataclasses
import itertools

import numpy as np

from fuzz_pieces import KINKED, KNOB_LINES, KNOBS, LOSS_KNOBS, LOSSES, PLAIN, POWERS, SIZE_LINES, SIZES

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
    """A block, a line or an expression. @0, @1, ... stand for its operands, which have the shape that it has.

    fault : the kind of fault that it invites, or 0.
    may_refuse : whether fastnn may raise an exception where it runs.
    simpler : pieces that can stand in its place.
    """

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

    def all(self):
        """This piece and all that it holds."""
        yield self
        for operand in self.operands:
            yield from operand.all()

    def variants(self):
        """This piece with less in it."""
        yield from self.simpler
        for i, operand in enumerate(self.operands):
            for inner in (*operand.operands, *operand.variants()):
                yield dataclasses.replace(self, operands=(*self.operands[:i], inner, *self.operands[i + 1 :]))


@dataclasses.dataclass(frozen=True)
class Program:
    """Sections of pieces: of the model's class (fields, init, forward, result) and of what is done with it.

    cell : whether the class stands in a function, of which forward reads a variable.
    """

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

    SECTIONS = ("actions", "forward", "setup", "init", "fields", "globals", "result")

    @property
    def meets_float32(self):
        return self.dtype == "float32" or any(".float()" in piece.text for piece in self.actions)

    def faults(self):
        """The kinds of faults that the program invites."""
        sections = (getattr(self, name) for name in self.SECTIONS)
        return {part.fault for section in sections for piece in section for part in piece.all()} - {0}

    def blocks(self):
        """(text, whether it may refuse) in order: first all definitions, then action by action."""
        yield self.definitions(), False
        refusable = any(part.may_refuse for piece in self.forward for part in piece.all())
        for action in self.actions:
            yield action.render(), refusable or action.may_refuse

    def definitions(self):
        model = [
            "class Model(nn.Module):",
            *indented(lines(self.fields)),
            "    def __init__(self):",
            *indented(["super().__init__()", *lines(self.init)], 2),
            "",
            f"    def forward(self, {self.arguments}):",
            *indented(["n = len(x)", "h = x", *lines(self.forward), *lines(self.result)], 2),
            "",
        ]
        if self.cell:
            setter = ["def set_cell(value):", "    nonlocal cell", "    cell = value"]
            made = ["", "Model, set_cell = make(0.5)"]
            model = ["def make(cell):", *indented([*model, *setter, "return Model, set_cell"]), *made]
        filled = f"model = fill(Model().to(dtype), {self.seed % 1000})"
        return "\n".join([*lines(self.globals), *model, filled, *lines(self.setup)])

    def source(self):
        """Text that runs by itself, in the folder of the tests."""
        head = [
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
        for name in self.SECTIONS[:-1]:  # forward must return something
            section = getattr(self, name)
            for i in reversed(range(len(section))):
                yield dataclasses.replace(self, **{name: (*section[:i], *section[i + 1 :])})
        for name in self.SECTIONS:
            section = getattr(self, name)
            for i, piece in enumerate(section):
                for variant in piece.variants():
                    yield dataclasses.replace(self, **{name: (*section[:i], variant, *section[i + 1 :])})


def lines(pieces):
    return [line for piece in pieces for line in piece.render().split("\n")]


def indented(texts, depth=1):
    return ["    " * depth + text if text else text for text in texts]


def generate(seed, features=None):
    """The random program of a seed; features: the kinds of faults that it may invite, by default all."""
    return Writer(seed, features).program()


class Writer:
    """Writes one random program: the model, its loss and optimizer, then actions."""

    def __init__(self, seed, features=None):
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.features = set(FAULTS if features is None else features)
        self.names = itertools.count()
        self.float32 = self.chance(0.1)
        self.image = self.chance(0.35)
        self.sections = {name: [] for name in Program.SECTIONS}
        self.layers = []  # (attribute, text that makes it)
        self.changes = []  # (text, name) of actions that change a value beside the graph
        self.kept = []  # variables of forward
        self.cell = False
        self.pairs = []  # (model, optimizer, step, text that makes the optimizer)
        self.has_frozen = False

    # ---- drawing --------------------------------------------------------------------------------

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, options):
        """One of a sequence, or of a dict of weights."""
        if isinstance(options, dict):
            weights = np.array(list(options.values()), float)
            return list(options)[self.rng.choice(len(weights), p=weights / weights.sum())]
        return options[self.rng.integers(len(options))]

    def some_seed(self):
        return int(self.rng.integers(1000))

    def number(self):
        return round(float(self.rng.uniform(0.2, 1.5)), 2)

    def filled(self, template, name=""):
        text = self.pick("ab")
        return template.format(k=name, v=self.number(), w=self.number(), t=repr(text), u=text)

    def name(self, prefix):
        return f"{prefix}{next(self.names)}"

    def add(self, section, piece, fault=0, simpler=()):
        piece = piece if isinstance(piece, Piece) else Piece(piece, fault=fault, simpler=simpler)
        self.sections[section].append(piece)

    def act(self, text, fault=0):
        self.add("actions", text, fault)

    # ---- the model ------------------------------------------------------------------------------

    def layer(self, make, prefix, share=0.4):
        """The attribute of a layer, a new one or one that is there already."""
        there = [name for name, text in self.layers if text == make]
        if there and self.chance(share):
            return self.pick(there)
        name = self.name(prefix)
        self.add("init", f"self.{name} = {make}")
        self.layers.append((name, make))
        return name

    def linear(self):
        if not self.image:
            return self.layer("nn.Linear(4, 4)", "fc")
        kinds = "4, 4, 3, padding=1", "4, 4, 1", "4, 4, 3, padding=1, groups=2", "4, 4, 1, bias=False"
        return self.layer(f"nn.Conv2d({self.pick(kinds)})", "conv")

    def norm(self):
        affine = "" if self.chance(0.8) else ", affine=False"
        return self.layer(f"nn.BatchNorm{2 if self.image else 1}d(4, eps=0.1{affine})", "bn")

    def nothing(self):
        return self.layer(self.pick(["nn.Identity()", "nn.Dropout(0.0)"]), "same")

    def sequential(self):
        """A layer that is used twice in one container."""
        layer, name = self.linear(), self.name("seq")
        act = self.pick(["nn.Tanh()", "nn.Sigmoid()" if self.float32 else "nn.ReLU()"])
        self.add("init", f"self.{name} = nn.Sequential(self.{layer}, {act}, self.{layer})")
        return name

    def layered(self):
        """An expression with a layer, or two."""
        kinds = {"linear": 5, "norm": 3, "sequential": 1, "nothing": 1}
        if self.chance(0.15):
            return f"self.{self.norm()}(self.{self.linear()}(@0))"
        return f"self.{getattr(self, self.pick(kinds))()}(@0)"

    def knob(self, table, operands=()):
        """Reads a value beside the graph, which actions may then change."""
        text, section, define, changes = self.pick(table)
        name = self.name("k")
        if section == "cell":
            self.cell = True
        elif define != "pass":
            self.add(section, self.filled(define, name))
        self.changes += [(change, name) for change in changes]
        return Piece(text.format(k=name), operands, 5)

    def noise(self, operands):
        name = self.name("rng")
        self.add("init", f"self.{name} = np.random.default_rng(0)")
        text = self.pick([f"(@0 + self.{name}.normal())", "(@0 * np.random.rand())"])
        return Piece(text, operands, 11, may_refuse=True)

    def expression(self, depth):
        """A random tree of the shape of x."""
        if depth == 0:
            return Piece(self.pick(["h", "h", "h", "x", *self.kept]))
        operands = self.expression(depth - 1), self.expression(max(depth - 2, 0))
        smooth = {"layer": 6, "plain": 5, "size": 1.2, "knob": 1.5, "noise": 0.03}
        match self.pick(smooth if self.float32 else {**smooth, "kinked": 3, "power": 0.5}):
            case "plain":
                return Piece(self.pick(PLAIN), operands)
            case "kinked":
                return Piece(self.pick(KINKED), operands)
            case "size" if 1 in self.features:
                return Piece(self.pick(SIZES), operands, 1)
            case "knob" if 5 in self.features:
                return self.knob(KNOBS, operands)
            case "power" if 10 in self.features:
                return Piece(self.pick(POWERS), operands, 10)
            case "noise" if 11 in self.features:
                return self.noise(operands)
        return Piece(self.layered(), operands)

    def statement(self):
        kinds = {"expression": 8, "keep": 2, "dead": 1.5, "size": 0.5, "knob": 0.5, "norms": 0.2 + 0.8 * self.image}
        match self.pick(kinds):
            case "keep":
                self.kept.append(self.name("s"))
                self.add("forward", f"{self.kept[-1]} = h")
            case "dead" if 2 in self.features:
                layer = self.norm() if self.chance(0.6) or not self.image else self.linear()
                self.add("forward", f"h = self.{layer}(h)")
                unused = self.pick(["h.tanh()", "h + x", "F.relu(h)", "h.relu()", "h.sigmoid()", "x + h", "h + h"])
                self.add("forward", f"{self.name('u')} = {unused}", 2)
                self.add("forward", Piece("h = @0", (self.expression(1),)))
            case "size" if 1 in self.features:
                self.add("forward", self.pick(SIZE_LINES), 1)
            case "knob" if 5 in self.features:
                self.add("forward", self.knob(KNOB_LINES))
            case "norms" if 3 in self.features:
                inner = Piece(f"self.{self.norm()}(self.{self.linear()}(h))")
                if self.chance(0.4):
                    inner = Piece(f"self.{self.nothing()}(@0)", (inner,))
                self.add("forward", Piece(f"h = self.{self.norm()}(@0)", (inner,), 3))
            case _:
                self.add("forward", Piece("h = @0", (self.expression(int(self.rng.integers(1, 4))),)))

    def result(self):
        """What forward takes and returns, which decides the loss and the target."""
        out = "h.mean((2, 3))" if self.image else "h"
        heads, unbatched = 6 in self.features, 4 in self.features
        kinds = {"one": 6, "heads": 2 * heads, "switched": 1.5 * heads, "dict": 0.7, "twice": 0.3}
        self.kind = self.pick({**kinds, "mean": unbatched, "loss": unbatched})
        self.arguments, self.second = "x", None
        if self.kind == "loss":
            self.arguments = "x, y"
        elif self.chance(0.15):
            self.arguments, self.second = "x, z", self.pick(["same", "other"])
            texts = {
                "same": ["(@0 + z).tanh()", "(@0 * z.sigmoid())"],
                "other": ["(@0 * z.mean(0))", "(@0 + len(z) / 8)", "(@0 * (len(z) / len(x)))", "(@0 - z.sum(0) / 10)"],
            }
            self.add("forward", Piece(f"h = {self.pick(texts[self.second])}", (Piece("h"),)))
        if self.kind in ("heads", "switched", "dict"):
            for name in ("head0", "head1"):
                self.add("init", f"self.{name} = nn.Linear(4, 4)")
                self.layers.append((name, "nn.Linear(4, 4)"))
        if self.kind == "switched":
            self.add("init", "self.head = 'a'")
        a, b = f"self.head0({out})", f"self.head1({out})"
        text, fault = {
            "one": (out, 0),
            "heads": (f"{a}, {b}", 6),
            "switched": (f"{a} if self.head == 'a' else {b}", 6),
            "dict": (f'{{"a": {a}, "b": {b}}}', 6),
            "twice": (f"{out}, {out}", 0),
            "mean": (f"({out}).mean(0)", 4),
            "loss": (f"F.mse_loss({out}, y)", 4),
        }[self.kind]
        simpler = () if self.kind == "one" else (Piece(f"return {out}"),)
        self.add("result", f"return {text}", fault, simpler)

    # ---- training -------------------------------------------------------------------------------

    def loss(self):
        """A loss module, or a function of the first output and the target."""
        self.classes = self.kind in ("one", "heads", "switched") and self.chance(0.35)
        self.criterion = self.kind in ("one", "switched") and self.chance(0.7 if self.classes else 0.3)
        self.ignored = self.classes and 9 in self.features and self.chance(0.5)
        if self.criterion:
            settings = []
            if 9 in self.features:
                if self.classes and self.chance(0.5):
                    settings.append("weight=np.array([0.5, 2.0, 1.0, 0.2], dtype)")
                    self.changes += [("loss.weight.data[1] = {w}", ""), ("loss.weight.data = [{w}, {v}, {w}, 1]", "")]
                settings += ["reduction='sum'"] * self.chance(0.3)
            made = f"loss = nn.{'CrossEntropy' if self.classes else 'MSE'}Loss"
            self.add("setup", f"{made}({', '.join(settings)})", simpler=(Piece(f"{made}()"),) if settings else ())
            return
        text = "def loss(out, y):\n    out = first(out)\n    return {}"
        plain = "F.cross_entropy(out, y)" if self.classes else "F.mse_loss(out, y)"
        if self.classes:
            value, fault = plain, 0
            if 5 in self.features and self.chance(0.5):
                value, fault = "F.cross_entropy(out, y, weight=class_weight)", 5
                self.add("setup", "class_weight = np.array([0.5, 2.0, 1.0, 0.2], dtype)")
                self.changes += [("class_weight[1] = {w}", ""), ("class_weight = class_weight * {w}", "")]
        elif self.kind in ("loss", "mean"):
            plain = {"loss": "out * 2.0", "mean": "(out - 0.5).square().mean()"}[self.kind]
            value, fault = plain, 0
        else:
            options = {(text, fault): often for text, often, fault in LOSSES if {fault} - {0} <= self.features}
            value, fault = self.pick(options)
        whole = value
        if 5 in self.features and self.chance(0.3):
            extra, define, changes = self.pick(LOSS_KNOBS)
            self.add("globals", self.filled(define))
            self.changes += [(change, "") for change in changes]
            whole, fault = f"{value} {extra}", fault or 5
        elif self.weight() and self.chance(0.1):
            whole = f"{value} + 0.1 * model.{self.weight()}.square().sum()"
        simpler = (Piece(text.format(plain)),) if whole != plain else ()
        self.add("setup", text.format(whole), fault, simpler)

    def weight(self):
        """The weight of the first layer that has one, or ""."""
        return next((f"{name}.weight" for name, make in self.layers if "Linear" in make or "Conv" in make), "")

    def optimizer(self, name, params, fault=0):
        lr = self.pick([0.02, 0.05, 0.1])
        decay = self.pick(["", "", ", weight_decay=0.1"])
        match self.pick({"SGD": 2, "momentum": 3, "Adam": 3, "AdamW": 1}):
            case "SGD":
                made = f"SGD({params}, lr={lr}{decay})"
            case "momentum":
                extra = self.pick(["", "", ", nesterov=True", ", dampening=0.3"])
                made = f"SGD({params}, lr={lr}, momentum=0.9{decay}{extra})"
            case kind:
                betas, amsgrad = self.pick(["", "", ", betas=(0.8, 0.9)"]), self.pick(["", "", "", ", amsgrad=True"])
                made = f"{kind}({params}, lr={lr / 5:g}, eps=1e-3{decay}{betas}{amsgrad})"
        simple = Piece(f"{name} = optim.SGD({params}, lr=0.1)", fault=fault)
        return Piece(f"{name} = optim.{made}", fault=fault, simpler=(simple,))

    # ---- actions --------------------------------------------------------------------------------

    def batch(self):
        """A batch size; seldom 1 where batch norm has no deviation then."""
        n = int(self.pick(BATCHES))
        norms = any("BatchNorm1d" in make for _, make in self.layers)
        return n if n > 1 or not norms or self.chance(0.1) else self.batch()

    def inputs(self, n):
        shape = ", 4, 4, 4" if self.image else ", 4"
        text = f"data({self.some_seed()}, {n}{shape})"
        if self.kind == "loss":
            text += f", data({self.some_seed()}, {n}, 4)"
        if self.second:
            size = n if self.second == "same" else self.pick(BATCHES)
            text += f", data({self.some_seed()}, {size}{shape})"
        return text

    def target(self, n):
        if self.classes:
            return f"labels({self.some_seed()}, {n}{', True' if self.ignored else ''})"
        return f"data({self.some_seed()}, {n}, 4)"

    def step(self, step):
        n = self.batch()
        self.act(f"see({step}({self.inputs(n)}, {self.target(n)}))")

    def action(self):
        kinds = {
            "call": 5, "step": 6, "pieces": 4, "accumulate": 1, "inference between": 0.4, "lone step": 0.4, "zero": 0.4,
            "evaluate": 2 * self.evaluates, "loss": 1.5 * (self.kind not in ("loss", "mean")), "mode": 2,
            "change": 6 * bool(self.changes), "switch": 4 * (self.kind == "switched"), "state": 1, "copy": 0.6,
            "freeze": 1.5 * (8 in self.features), "thaw": 0.5 * (8 in self.features), "setting": 8 in self.features,
            "second": 1.2 * (7 in self.features), "convert": 0.5 * self.converts, "drop": 0.3 * (len(self.pairs) > 1),
            "frozen": 1, "call frozen": 2 * self.has_frozen, "poke": 0.7 * bool(self.weight()),
        }  # fmt: skip
        model, opt, step, made = self.pick(self.pairs)
        n, k = self.batch(), len(self.pairs)
        like = f"*like(out, {self.some_seed()})"
        match self.pick(kinds):
            case "call":
                self.act(f"see({model}({self.inputs(n)}))")
            case "step":
                self.step(step)
            case "pieces":
                zero = self.pick([f"{opt}.zero_grad()\n", f"{opt}.zero_grad()\n", ""])
                update = self.pick([f"\n{opt}.step()", f"\n{opt}.step()", ""])
                forward = f"out = {model}.forward_train({self.inputs(n)})\nsee(out)"
                self.act(f"{forward}\n{zero}{model}.backward({like}){update}")
            case "accumulate":
                forward = f"    out = {model}.forward_train({self.inputs(n)})\n    {model}.backward({like})"
                self.act(f"for i in range(2):\n{forward}\n{opt}.step()")
            case "inference between":
                forward, other = f"out = {model}.forward_train({self.inputs(n)})", self.inputs(self.batch())
                self.act(f"{forward}\nsee({model}({other}))\n{model}.backward({like})")
            case "evaluate":
                size = int(self.pick([4, 5, 7, 9, 11]))
                metrics = ["accuracy"] if self.classes else []
                trainer = f"fn.Trainer({model}, loss=loss, optimizer={opt}, metrics={metrics})"
                whole = f"({self.inputs(size)}, {self.target(size)})"
                self.act(f"see({trainer}.evaluate({whole}, batch_size={self.pick([1, 2, 3, 4, 16])}))", 9)
            case "loss":
                function = "loss.value_and_grad" if self.criterion and self.chance(0.5) else "value_and_grad"
                function = self.pick([function, function, "traced"])
                self.act(f"see({function}(data({self.some_seed()}, {n}, 4), {self.target(n)}))")
            case "mode":
                self.act(f"{model}.{self.pick(['train()', 'eval()', 'eval()'])}")
            case "change":
                self.act(self.filled(*self.pick(self.changes)), 5)
            case "switch":
                self.act(f"{model}.head = {self.pick('ab')!r}")
            case "freeze":
                self.act(f"{model}.{self.pick(self.layers)[0]}.requires_grad_({self.chance(0.5)})", 8)
            case "thaw":
                layer = f"{model}.{self.pick(self.layers)[0]}"
                self.act(f"{layer}.requires_grad_(False)", 8)
                self.step(step)
                self.act(f"{layer}.requires_grad_(True)", 8)
                self.step(step)
            case "setting":
                values = {"lr": "0.03", "weight_decay": self.pick(["0.0", "0.2"])}
                if "nesterov" not in made:
                    sgd = {"momentum": self.pick(["0.0", "0.8"]), "dampening": "0.2"}
                    values |= sgd if "SGD" in made else {"betas": "(0.7, 0.9)"}
                name = self.pick(list(values))
                self.act(f'{opt}.param_groups[0]["{name}"] = {values[name]}', 8)
            case "second":
                params = f"list({model}.parameters())"
                text = self.optimizer(f"opt{k}", params + self.pick(["", "[:2]", "[1:]"])).text
                self.act(f"{text}\nstep{k} = fn.TrainStep({model}, loss, opt{k})", 7)
                self.pairs.append((model, f"opt{k}", f"step{k}", text))
            case "convert":
                name = self.pick(["float", "float", "double"])
                models = dict.fromkeys(model for model, *_ in self.pairs)  # `data` has one dtype for all
                converted = "\n".join(f"{model}.{name}()" for model in models)
                again = f"\nfrozen = {model}.frozen()" if self.has_frozen else ""
                self.act(f"dtype = np.float{32 if name == 'float' else 64}\n{converted}{again}", 7)
            case "drop":
                _, opt, step, _ = self.pairs.pop()
                self.act(f"del {opt}, {step}")
            case "copy":
                copied = f"model{k}, opt{k} = copy.deepcopy(({model}, {opt}))"
                self.act(f"{copied}\nstep{k} = fn.TrainStep(model{k}, loss, opt{k})")
                self.pairs.append((f"model{k}", f"opt{k}", f"step{k}", made))
            case "frozen":
                self.has_frozen = True
                self.act(f"frozen = {model}.frozen()")
            case "call frozen":
                self.act(f"see(frozen({self.inputs(n)}))")
            case "state":
                kept = "saved = model.state_dict(), opt0.state_dict()"
                self.act(self.pick([kept, "model.load_state_dict(saved[0])", "opt0.load_state_dict(saved[1])"]))
            case "poke":
                weight = f"{model}.{self.weight()}"
                written = f"{weight}.data[0] = {self.number()}", f"{weight}.data = {weight}.data * 0.5"
                self.act(self.pick([*written, f"{weight}.grad = None"]))
            case "zero":
                self.act(f"{self.pick([opt, model])}.zero_grad()")
            case "lone step":
                self.act(f"{opt}.step()")

    def program(self):
        self.result()
        if self.chance(0.6):
            self.add("forward", f"h = self.{self.linear()}(h)")
        for _ in range(self.rng.integers(1, 6)):
            self.statement()
        if not self.weight() or self.chance(0.7):
            self.add("forward", f"h = self.{self.linear()}(h)")
        self.loss()
        made = self.optimizer("opt0", "model.parameters()")
        self.add("setup", made)
        self.add("setup", "step0 = fn.TrainStep(model, loss, opt0)")
        self.add("setup", "value_and_grad = fn.value_and_grad(loss, argnums=0)")
        self.add("setup", "traced = fn.trace(loss)")
        self.add("setup", "saved = model.state_dict(), opt0.state_dict()")
        self.pairs.append(("model", "opt0", "step0", made.text))
        text = "\n".join(piece.render() for section in self.sections.values() for piece in section)
        fixed = any(word in text for word in ("full(", "np.", "relu", "ReLU", "abs", "imum", "cell"))
        self.converts = 7 in self.features and not self.float32 and not fixed
        self.evaluates = 9 in self.features and self.kind in ("one", "switched") and self.second != "other"
        for _ in range(self.rng.integers(4, 16)):
            self.action()
        sections = {name: tuple(section) for name, section in self.sections.items()}
        return Program(self.seed, "float32" if self.float32 else "float64", self.arguments, cell=self.cell, **sections)
