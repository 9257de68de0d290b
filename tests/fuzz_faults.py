"""For each kind of fault, small programs that show it: written by hand where fuzz_programs draws at random."""

import textwrap

from fuzz_programs import Piece, Program

NORM = "self.bn = nn.BatchNorm1d(4, eps=0.1)"
LINEAR = "self.fc = nn.Linear(4, 4)"
HEADS = "self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)"
LOSS = "loss = nn.MSELoss()"
SGD = "opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)"
ADAM = "opt = optim.Adam(model.parameters(), lr=0.01, eps=1e-3, weight_decay=0.1)"
STEP = "step = fn.TrainStep(model, loss, opt)"
#: Forward, gradients for an output drawn at random, update.
PIECES = "out = model.forward_train(data({s}, {n}, 4))\nsee(out)\nopt.zero_grad()\nmodel.backward(*like(out, {s}))\nopt.step()"


def written(actions, init=LINEAR, forward="", result="return h", setup=(), before="", arguments="x", fields="", may_refuse=False):
    """A program of these texts; actions and setup are lists, of which each text is a block."""

    def pieces(texts):
        texts = [texts] if isinstance(texts, str) else texts
        return tuple(Piece(textwrap.dedent(text).strip(), may_refuse=may_refuse) for text in texts if text)

    return Program(
        0, "float64", arguments, pieces(before), pieces(fields), pieces(init), pieces(forward), pieces(result),
        pieces(setup), pieces(actions),
    )  # fmt: skip


def calls(*sizes):
    return [f"see(model(data({i}, {n}, 4)))" for i, n in enumerate(sizes)]


def steps(*sizes, name="step"):
    return [f"see({name}(data({i}, {n}, 4), data({i + 50}, {n}, 4)))" for i, n in enumerate(sizes)]


def in_pieces(*sizes):
    return [PIECES.format(s=i, n=n) for i, n in enumerate(sizes)]


def changed(read, define, *changes, init=True):
    """A value that forward reads is changed between calls."""
    actions = [text for change in changes for text in (change, *calls(3))]
    place = {"init": [LINEAR, define]} if init else {"before": define}
    return written([*calls(3), *actions], forward=f"h = self.fc(h)\n{read}", **place)


SIZES_IN_FORWARD = [
    "h = h / x.shape[0]", "h = h * (0.3 * n)", "h = h / len(x)", "h = h / x.numel()", "h = h * int(n)",
    "h = h * float(np.sqrt(n))", "h = h / np.prod(x.shape)", "for i in range(n):\n    h = h + i", "h = h.reshape(n, -1)",
    "if n % 2:\n    h = h.tanh()", "h = h * max(n, 3)", "if n > 4:\n    h = h.tanh()",
    'h = h * {"3": 0.5}.get(f"{n}", 2.0)', "h = h * n.bit_length()", "h = h + np.arange(n).reshape(n, 1)",
]  # fmt: skip

SCENARIOS = {
    1: {
        **{text: written([*calls(3, 8, 2, 8), *in_pieces(5, 3)], forward=f"h = self.fc(h)\n{text}", setup=SGD)
           for text in SIZES_IN_FORWARD},
        "in the loss": written(
            [*steps(3, 8, 2), "see(value_and_grad(data(1, 5, 4), data(2, 5, 4)))", "see(value_and_grad(data(1, 2, 4), data(2, 2, 4)))"],
            forward="h = self.fc(h)",
            setup=["def loss(out, y):\n    return (out - y).square().sum() * np.sqrt(len(out)) / int(y.shape[0])", SGD, STEP,
                   "value_and_grad = fn.value_and_grad(loss, argnums=0)"],
        ),
    },
    2: {
        "activation behind a norm": written([*calls(3), *in_pieces(3)], [NORM, LINEAR], "h = self.bn(h)\nunused = h.relu()\nh = h * 2.0", setup=SGD),
        "addition behind a norm": written([*calls(3), *in_pieces(3)], [NORM, LINEAR], "h = self.bn(h)\nunused = h + x\nh = self.fc(h)", setup=SGD),
        "a norm that is not used": written([*calls(3), *in_pieces(4)], [NORM, LINEAR], "unused = self.bn(h)\nh = self.fc(h)", setup=SGD),
    },
    3: {
        f"{groups} groups{', an Identity in between' * bool(between)}": written(
            ["see(model(data(1, 2, 4, 3, 3)))", "model.eval()", "see(model(data(1, 2, 4, 3, 3)))", "frozen = model.frozen()",
             "see(frozen(data(2, 3, 4, 3, 3)))"],
            [f"self.conv = nn.Conv2d(4, 4, 3, padding=1, groups={groups})",
             "self.a, self.b, self.same = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Identity()"],
            f"h = self.b({between}(self.a(self.conv(h))))",
        )
        for groups in (1, 2) for between in ("", "self.same")
    },
    4: {
        "a mean": written(in_pieces(7, 3, 7, 2), forward="h = self.fc(h)", result="return h.mean(0)", setup=SGD),
        "a loss": written(
            [text.replace("4))", "4), data(9, {n}, 4))".replace("{n}", text.split(", ")[1]), 1) for text in in_pieces(7, 3, 5)],
            forward="h = self.fc(h)", result="return F.mse_loss(h, y)", setup=SGD, arguments="x, y",
        ),
    },
    5: {
        "attribute": changed("h = h * self.k", "self.k = 0.5", "model.k = 0.8"),
        "private attribute": changed("h = h * self._k", "self._k = 0.5", "model._k = 0.8"),
        "text": changed("h = h.tanh() if self._mode == 'a' else h", "self._mode = 'a'", "model._mode = 'b'", "model._mode = 'a'"),
        "none": changed("h = h if self._k is None else h * self._k", "self._k = None", "model._k = 0.8", "model._k = None"),
        "array": changed("h = h * self.k", "self.k = full(0.5)", "model.k = full(0.8)", "model.k[:] = 0.0", "model.k[1] = 2.0"),
        "value of an array": changed("h = h * float(self.k[0])", "self.k = full(0.5)", "model.k[0] = 0.8"),
        "tuple of arrays": changed("h = h * self.k[0] + self.k[1]", "self.k = (full(0.5), full(1.0))", "model.k = (full(1.0), full(0.5))", "model.k[0][:] = 3.0"),
        "list": changed("h = h * self.k[0]", "self.k = [0.5]", "model.k[0] = 0.8", "model.k.insert(0, 1.2)"),
        "dict": changed("h = h * self.k['a']", "self.k = {'a': 0.5}", "model.k['a'] = 0.8"),
        "object": changed("h = h * self.k.rate", "self.k = SimpleNamespace(rate=0.5)", "model.k.rate = 0.8"),
        "layer in a list": changed("h = self.k[0](h)", "self.k = [nn.Tanh()]", "model.k[0] = nn.Sigmoid()"),
        "global": changed("h = h * rate", "rate = 0.5", "rate = 0.8", init=False),
        "global array": changed("h = h * rate", "rate = full(0.5)", "rate[:] = 0.8", "rate = full(1.2)", init=False),
        "global function": changed("h = scaled(h)", "def scaled(h):\n    return h * 0.5", "def scaled(h):\n    return h * 0.8", init=False),
        "closure": changed(
            "h = h * get()", "def make(value):\n    def get():\n        return value\n    def put(new):\n        nonlocal value\n"
            "        value = new\n    return get, put\nget, put = make(0.5)", "put(0.8)", init=False),
        "class attribute": written([*calls(3), "Model.k = 0.8", *calls(3)], forward="h = self.fc(h) * self.k", fields="k = 0.5"),
        "of the loss": written(
            [*steps(3), "rate = 0.8", *steps(3), "scale[:] = 0.2", *steps(3), "scale = full(2.0)", *steps(3)],
            forward="h = self.fc(h)", before="rate = 0.5\nscale = full(1.0)",
            setup=["def loss(out, y):\n    return F.mse_loss(out * scale, y) * rate", SGD, STEP]),
        "class weights": written(
            ["see(loss.value_and_grad(data(1, 3, 4), labels(1, 3)))", "loss.weight.data[:] = 2.0", "loss.weight.data[1] = 5.0",
             "see(loss.value_and_grad(data(1, 3, 4), labels(1, 3)))", "weights[1] = 9.0", "see(traced(data(1, 3, 4), labels(1, 3)))",
             "weights[1] = 0.5", "see(traced(data(1, 3, 4), labels(1, 3)))"],
            setup=["weights = full(1.0)", "loss = nn.CrossEntropyLoss(weight=weights)",
                   "traced = fn.trace(lambda out, y: F.cross_entropy(out, y, weight=weights))"]),
    },
    6: {
        f"{kind} {way}": written(
            actions, [HEADS, "self.head = 'a'"], result="return self.a(h) if self.head == 'a' else self.b(h)", setup=[LOSS, make, STEP])
        for kind, make in (("momentum", SGD), ("Adam", ADAM))
        for way, actions in (
            ("in steps", [*steps(3), "model.head = 'b'", *steps(4, 4), "model.head = 'a'", *steps(2)]),
            ("in pieces", [*in_pieces(3), "model.head = 'b'", *in_pieces(4, 4), "model.head = 'a'", *in_pieces(2)]),
        )
    } | {"a step without gradients": written([*in_pieces(3), "opt.zero_grad()\nopt.step()"], forward="h = self.fc(h)", setup=SGD)},
    7: {
        "second optimizer": written(
            [*steps(3), "other = optim.SGD(model.parameters(), lr=0.05)\nsecond = fn.TrainStep(model, loss, other)",
             *steps(3), *steps(4, name="second"), *steps(2), *in_pieces(3)],
            forward="h = self.fc(h)", setup=[LOSS, ADAM, STEP]),
        "overlapping optimizer": written(
            [*steps(3), "other = optim.SGD([model.fc.bias], lr=0.05)\nsecond = fn.TrainStep(model, loss, other)",
             *steps(3), *steps(4, name="second"), *steps(2), *in_pieces(3), "del other, second", *steps(3)],
            forward="h = self.fc(h)", setup=[LOSS, SGD, STEP]),
        "another dtype": written(
            [*steps(3), "dtype = np.float32\nmodel.float()", *steps(3), *in_pieces(3), "dtype = np.float64\nmodel.double()", *steps(2)],
            forward="h = self.fc(h).tanh()", setup=[LOSS, ADAM, STEP]),
    },
    8: {
        f"{name} unfrozen": written(
            ["model.a.requires_grad_(False)", *steps(3, 3), "model.a.requires_grad_(True)", *steps(3, 3), *in_pieces(3)],
            HEADS, "h = self.b(self.a(h).tanh())", setup=[LOSS, make, STEP])
        for name, make in (("Adam", ADAM), ("SGD with dampening", SGD.replace("weight_decay=0.1", "dampening=0.5")))
    } | {
        "momentum from the second step on": written(
            [*steps(3), 'opt.param_groups[0]["momentum"] = 0.8', *steps(3, 3)],
            forward="h = self.fc(h)", setup=[LOSS, "opt = optim.SGD(model.parameters(), lr=0.1, dampening=0.5)", STEP]),
    },
    9: {
        f"weight {weight}, {reduction}": written(
            [f"trainer = fn.Trainer(model, loss=loss, optimizer=opt, metrics=['accuracy'])\n"
             f"see(trainer.evaluate((data(1, 11, 4), labels(1, 11, True)), batch_size={size}))" for size in (11, 1, 2, 4)],
            forward="h = self.fc(h)",
            setup=[f"loss = nn.CrossEntropyLoss(weight={weight}, reduction={reduction!r})", SGD])
        for weight in ("None", "np.array([0.5, 2.0, 1.0, 0.2], dtype)") for reduction in ("mean", "sum")
    },
    10: {
        text: written(in_pieces(3, 4), forward=f"h = self.fc(h)\nh = h + {text}", setup=SGD)
        for text in ("h ** 0", "h.relu() ** 0", "(h * 0.0) ** 0", "h.relu() ** (1.0 + h.sigmoid())", "(h * 0.0) ** (h * 0.0)", "0.0 ** h.square()")
    },
    11: {
        text: written(calls(3, 3, 4), [LINEAR, "self.rng = np.random.default_rng(0)"], f"h = self.fc(h)\n{text}", may_refuse=True)
        for text in ("h = h * self.rng.normal()", "h = h + np.random.rand()")
    },
}  # fmt: skip
