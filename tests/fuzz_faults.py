"""For each kind of fault, small programs that show it: written by hand where fuzz_programs draws at random."""

from fuzz_programs import Piece, Program

LINEAR = "self.fc = nn.Linear(4, 4)"
NORM = "self.bn = nn.BatchNorm1d(4, eps=0.1)"
HEADS = "self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)"
APPLIED = "h = self.fc(h)"
LOSS = "loss = nn.MSELoss()"
SGD = "opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)"
DAMPENED = "opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5)"
ADAM = "opt = optim.Adam(model.parameters(), lr=0.01, eps=1e-3, weight_decay=0.1)"
STEP = "step = fn.TrainStep(model, loss, opt)"
#: A closure over a number, and the function that changes it.
CLOSURE = """def make(value):
    def get():
        return value
    def put(new):
        nonlocal value
        value = new
    return get, put
get, put = make(0.5)"""


def written(actions, init=LINEAR, forward=APPLIED, result="h", setup=SGD, **settings):
    """A program of these texts, or lists of them; of actions each text is a block."""

    def pieces(texts, may_refuse=False):
        texts = [texts] if isinstance(texts, str) else texts
        return tuple(Piece(text, may_refuse=may_refuse) for text in texts)

    return Program(
        seed=0,
        dtype="float64",
        arguments=settings.get("arguments", "x"),
        globals=pieces(settings.get("globals", ())),
        fields=pieces(settings.get("fields", ())),
        init=pieces(init),
        forward=pieces(forward, settings.get("may_refuse", False)),
        result=(Piece(f"return {result}"),),
        setup=pieces(setup),
        actions=pieces(actions),
    )


def calls(*sizes):
    return [f"see(model(data({i}, {n}, 4)))" for i, n in enumerate(sizes)]


def steps(*sizes, name="step"):
    return [f"see({name}(data({i}, {n}, 4), data({i + 50}, {n}, 4)))" for i, n in enumerate(sizes)]


def in_pieces(*sizes, target=False):
    """Forward, gradients for a gradient of the output drawn at random, update."""
    blocks = []
    for i, n in enumerate(sizes):
        inputs = f"data({i}, {n}, 4)" + f", data({i + 50}, {n}, 4)" * target
        forward = f"out = model.forward_train({inputs})\nsee(out)\nopt.zero_grad()"
        blocks.append(f"{forward}\nmodel.backward(*like(out, {i}))\nopt.step()")
    return blocks


def changed(read, define, *changes, section="init"):
    """Forward reads a value that is changed between calls."""
    actions = [text for change in changes for text in (change, *calls(3))]
    texts = {"init": LINEAR, section: [LINEAR, define] if section == "init" else define}
    return written([*calls(3), *actions], forward=[APPLIED, read], **texts)


SIZES = [
    "h = h / x.shape[0]", "h = h * (0.3 * n)", "h = h / len(x)", "h = h / x.numel()", "h = h * int(n)",
    "h = h * float(np.sqrt(n))", "h = h / np.prod(x.shape)", "for i in range(n):\n    h = h + i",
    "h = h.reshape(n, -1)", "if n % 2:\n    h = h.tanh()", "h = h * max(n, 3)", "if n > 4:\n    h = h.tanh()",
    "h = h * n.bit_length()", 'h = h * {"3": 0.5}.get(f"{n}", 2.0)', "h = h + np.arange(n).reshape(n, 1)",
]  # fmt: skip


def sizes():
    for text in SIZES:
        yield text, written([*calls(3, 8, 2, 8), *in_pieces(5, 3)], forward=[APPLIED, text])
    yield "in a loss", written(
        [*steps(3, 8, 2), *steps(5, 2, name="value_and_grad")],
        setup=[
            "def loss(out, y):\n    return (out - y).square().sum() * np.sqrt(len(out)) / int(y.shape[0])",
            SGD, STEP, "value_and_grad = fn.value_and_grad(loss, argnums=0)",
        ],
    )  # fmt: skip


def unused():
    for name, text in (("activation", "unused = h.relu()"), ("addition", "unused = h + x")):
        forward = ["h = self.bn(h)", text, "h = self.fc(h) * 2.0"]
        yield name, written([*calls(3), *in_pieces(3)], [NORM, LINEAR], forward)
    yield "norm", written([*calls(3), *in_pieces(4)], [NORM, LINEAR], ["unused = self.bn(h)", APPLIED])


def norms():
    for groups in (1, 2):
        for between in ("", "self.same"):
            layers = [
                f"self.conv = nn.Conv2d(4, 4, 3, padding=1, groups={groups})",
                "self.a, self.b, self.same = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Identity()",
            ]
            call = "see(model(data(1, 2, 4, 3, 3)))"
            frozen = "frozen = model.frozen()\nsee(frozen(data(2, 3, 4, 3, 3)))"
            name = f"{groups} groups{', an Identity in between' * bool(between)}"
            forward = f"h = self.b({between}(self.a(self.conv(h))))"
            yield name, written([call, "model.eval()", call, frozen], layers, forward)


def unbatched():
    yield "a mean", written(in_pieces(7, 3, 7, 2), result="h.mean(0)")
    yield "a loss", written(in_pieces(7, 3, 5, target=True), result="F.mse_loss(h, y)", arguments="x, y")


def values():
    yield "attribute", changed("h = h * self.k", "self.k = 0.5", "model.k = 0.8")
    yield "private attribute", changed("h = h * self._k", "self._k = 0.5", "model._k = 0.8")
    yield "text", changed("h = h.tanh() if self._k == 'a' else h", "self._k = 'a'", "model._k = 'b'", "model._k = 'a'")
    none = "h = h if self._k is None else h * self._k"
    yield "none", changed(none, "self._k = None", "model._k = 0.8", "model._k = None")
    arrays = "model.k = full(0.8)", "model.k[:] = 0.0", "model.k[1] = 2.0"
    yield "array", changed("h = h * self.k", "self.k = full(0.5)", *arrays)
    yield "number in an array", changed("h = h * float(self.k[0])", "self.k = full(0.5)", "model.k[0] = 0.8")
    yield (
        "tuple of arrays",
        changed(
            "h = h * self.k[0] + self.k[1]",
            "self.k = (full(0.5), full(1.0))",
            "model.k = (full(1.0), full(0.5))",
            "model.k[0][:] = 3.0",
        ),
    )
    yield "list", changed("h = h * self.k[0]", "self.k = [0.5]", "model.k[0] = 0.8", "model.k.insert(0, 1.2)")
    yield "dict", changed("h = h * self.k['a']", "self.k = {'a': 0.5}", "model.k['a'] = 0.8")
    yield "object", changed("h = h * self.k.rate", "self.k = SimpleNamespace(rate=0.5)", "model.k.rate = 0.8")
    yield "layer in a list", changed("h = self.k[0](h)", "self.k = [nn.Tanh()]", "model.k[0] = nn.Sigmoid()")
    yield "class attribute", changed("h = h * self.k", "k = 0.5", "Model.k = 0.8", section="fields")
    yield "global", changed("h = h * rate", "rate = 0.5", "rate = 0.8", section="globals")
    yield "global array", changed("h = h * k", "k = full(0.5)", "k[:] = 0.8", "k = full(1.2)", section="globals")
    yield "closure", changed("h = h * get()", CLOSURE, "put(0.8)", section="globals")
    function = "def scaled(h):\n    return h * {}"
    yield "function", changed("h = scaled(h)", function.format(0.5), function.format(0.8), section="globals")
    yield (
        "values of a loss",
        written(
            [*steps(3), "rate = 0.8", *steps(3), "scale[:] = 0.2", *steps(3), "scale = full(2.0)", *steps(3)],
            globals="rate = 0.5\nscale = full(1.0)",
            setup=["def loss(out, y):\n    return F.mse_loss(out * scale, y) * rate", SGD, STEP],
        ),
    )
    module, function = (f"see({name}(data(1, 3, 4), labels(1, 3)))" for name in ("loss.value_and_grad", "traced"))
    in_place = [module, "loss.weight.data[1] = 5.0", module]
    yield "class weights", written(
        [*in_place, function, "weights[1] = 9.0", function, "weights[:] = 0.5", function],
        setup=[
            "weights = full(1.0)", "loss = nn.CrossEntropyLoss(weight=weights.copy())",
            "traced = fn.trace(lambda out, y: F.cross_entropy(out, y, weight=weights))",
        ],
    )  # fmt: skip


def heads():
    for name, optimizer in (("momentum", SGD), ("Adam", ADAM)):
        for way, train in (("steps", steps), ("pieces", in_pieces)):
            actions = [*train(3), "model.head = 'b'", *train(4, 4), "model.head = 'a'", *train(2)]
            result = "self.a(h) if self.head == 'a' else self.b(h)"
            setup = [LOSS, optimizer, STEP]
            yield f"{name}, in {way}", written(actions, [HEADS, "self.head = 'a'"], (), result, setup)
    yield "a step without gradients", written([*in_pieces(3), "opt.zero_grad()\nopt.step()"])


def optimizers():
    for name, params in (("the same", "model.parameters()"), ("some", "[model.fc.bias]")):
        second = f"other = optim.SGD({params}, lr=0.05)\nsecond = fn.TrainStep(model, loss, other)"
        actions = [*steps(3), second, *steps(3), *steps(4, name="second"), *steps(2), *in_pieces(3)]
        actions += ["del other, second", *steps(3)]
        yield f"two over {name} parameters", written(actions, setup=[LOSS, ADAM, STEP])
    single, double = "dtype = np.float32\nmodel.float()", "dtype = np.float64\nmodel.double()"
    yield (
        "another dtype",
        written([*steps(3), single, *steps(3), *in_pieces(3), double, *steps(2)], setup=[LOSS, ADAM, STEP]),
    )
    copied = "model, opt = copy.deepcopy((model, opt))\nstep = fn.TrainStep(model, loss, opt)"
    yield "a copy", written([*steps(3), copied, *steps(3, 4), *in_pieces(3)], setup=[LOSS, ADAM, STEP])


def settings():
    frozen, thawed = "model.a.requires_grad_(False)", "model.a.requires_grad_(True)"
    for name, optimizer in (("Adam", ADAM), ("dampening", DAMPENED)):
        actions = [frozen, *steps(3, 3), thawed, *steps(3, 3), *in_pieces(3)]
        setup = [LOSS, optimizer, STEP]
        yield f"unfrozen, {name}", written(actions, HEADS, "h = self.b(self.a(h).tanh())", setup=setup)
    setting = 'opt.param_groups[0]["momentum"] = 0.8'
    plain = DAMPENED.replace("momentum=0.9, ", "")
    yield "momentum from the second step on", written([*steps(3), setting, *steps(3, 3)], setup=[LOSS, plain, STEP])


def evaluations():
    for weight in ("", "weight=np.array([0.5, 2.0, 1.0, 0.2], dtype), "):
        for reduction in ("mean", "sum"):
            trainer = "trainer = fn.Trainer(model, loss=loss, optimizer=opt, metrics=['accuracy'])"
            whole = "data(1, 11, 4), labels(1, 11, True)"
            actions = [f"see(trainer.evaluate(({whole}), batch_size={size}))" for size in (11, 1, 2, 4)]
            loss = f"loss = nn.CrossEntropyLoss({weight}reduction={reduction!r})"
            yield f"{reduction}{', with weights' * bool(weight)}", written(actions, setup=[loss, SGD, trainer])


def powers():
    for text in (
        "h ** 0", "h.relu() ** 0", "(h * 0.0) ** 0", "h.relu() ** (1.0 + h.sigmoid())", "(h * 0.0) ** (h * 0.0)",
        "0.0 ** h.square()",
    ):  # fmt: skip
        yield text, written(in_pieces(3, 4), forward=[APPLIED, f"h = h + {text}"])


def noise():
    init = [LINEAR, "self.rng = np.random.default_rng(0)"]
    for text in ("h = h * self.rng.normal()", "h = h + np.random.default_rng().normal()", "h = h + np.random.rand()"):
        yield text, written(calls(3, 3, 4), init, [APPLIED, text], may_refuse=True)


KINDS = (sizes, unused, norms, unbatched, values, heads, optimizers, settings, evaluations, powers, noise)
#: By kind of fault, as fuzz_programs numbers them: programs by name.
SCENARIOS = {fault: dict(kind()) for fault, kind in enumerate(KINDS, 1)}
