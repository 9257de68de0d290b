"""What random programs are put together from: texts, in which @0 and @1 stand for operands of the shape of x."""

#: Expressions that always fit, with how often they are drawn.
PLAIN = {
    "(@0 + @1)": 4, "(@0 - @1)": 2, "(@0 * @1).tanh()": 2, "(@0).tanh()": 3, "(@0).sigmoid()": 2, "F.tanh(@0)": 1,
    "(@0 * 0.5 + 1.0)": 2, "(0.3 - @0)": 1, "(@0 / 2.0)": 1, "(-(@0))": 1, "(@0 / (1.0 + (@1).square()))": 1,
    "(@0).reshape(x.shape)": 1, "(@0 - (@1).mean(0))": 1, "(@0 * (@1).mean())": 1, "((@0) ** 2).tanh()": 1,
    "(@0).tanh().exp()": 1, "((@0).square() + 0.5).sqrt()": 1, "(1.0 / ((@0).square() + 1.0))": 1,
    "fn.stack([@0, @1], 0).sum(0)": 1, "(@0 * (@1).sum(0, keepdim=True).sigmoid())": 1, "(@0 ** 1)": 1,
}  # fmt: skip

#: Expressions with kinks, where float32 and float64 may fall on different sides.
KINKED = {
    "(@0).relu()": 4, "F.relu(@0)": 3, "fn.maximum(@0, @1)": 1, "fn.maximum(@0, 0.1)": 1, "abs(@0)": 1,
    "fn.minimum(@0, @1)": 1,
}  # fmt: skip

#: Sizes that follow the batch, as numbers.
SIZES = [
    "(@0 / n)", "(@0 / x.shape[0])", "(@0 * (0.3 * n))", "(@0 * (1.0 / len(x)))", "(@0 * (x.numel() / 32))",
    "(@0 * (int(n) / 4))", "(@0 * np.sqrt(n))", "(@0 * math.sqrt(n))", "(@0 * (np.prod(x.shape) / 32))",
    "(@0 * (n % 2 + 0.5))", "(@0 * (max(n, 3) / 4))", '(@0 * {"3": 0.5, "5": 1.5}.get(f"{n}", 1.0))',
    "(@0 * {3: 0.5, 5: 1.5}.get(n, 1.0))", "(@0 * (0.5 if n > 4 else 1.5))", "(@0 * (0.5 if n == 3 else 1.5))",
    "(@0 * sum(0.1 * i for i in range(n)))", "(@0 + n // 2)", "(@0 - (-n) / 8)", "(@0 * n ** 0.5)",
    "(@0 * [0.5, 1.0, 1.5][n % 3])", "(@0 * len(str(n * 25)))", "(@0 * (1 if n in (2, 3, 8) else 0.5))",
    "(@0 * (sum(x.shape) / 16))", "(@0 * round(n / 3))", "(@0 * bool(n - 3))", "(@0 * n.bit_length())",
    "(@0 * float(str(n)))", "(@0 * divmod(n, 3)[1])", "(@0 * (np.log(n) + 0.5))",
    "(@0 * (int(np.argmax([0, n, 4])) / 2))", "(@0 * full(n / 4))", "(@0 + np.asarray(n) * 0.1)",
    "(@0 * (hash(n) % 3))", "(@0 * np.mean(x.shape))", "(@0).reshape(n, -1).tanh().reshape(x.shape)",
    "(@0).reshape(n * 2, -1).tanh().reshape(x.shape)", "(@0).reshape(-1).tanh().reshape(x.shape)",
    "(@0 - (@1).sum(0) / n)", "(@0 - (@1)[n - 1])", "(@0 - (@1)[-1])", "(@0 + (@1)[0])",
    "(@0 * (@1)[: n // 2 + 1].mean())", "fn.concat([(@0)[1:], (@0)[:1]], 0)",
    "fn.concat([@0, @1], 0)[n // 2 : n // 2 + n]", "fn.concat([@0, @1], 0)[:n]", "fn.concat([@0, @1], 0)[n:]",
    "(@0 + np.arange(n, dtype=dtype).reshape(n, *[1] * (x.ndim - 1)) / 8)", "(@0 * np.ones(x.shape, dtype) / n)",
    "(@0 * (3.0 if x.shape == (3, *x.shape[1:]) else 0.5))", "(@0 * slice(n).stop / 4)",
    "(@0 * (x.shape[0] ** 2 / 16))", "(@0 * (f'{n:d}' + '!').count('7'))", "(@0 * (x.size(0) / 4))",
    "(@0 * (2 ** n / 64))", "(@0 * pow(n, 2) / 32)", "fn.concat([@0] * 2, 0)[: max(n, 4)][:n]",
    "(@0 + fn.concat([@0, fn.concat([@1] * 9, 0)[: 20 - n].tanh()], 0)[n:].mean())",
    "(@0 * (@1)[: -(-n // 2)].mean())", "(@0 - (@1)[min(n, 3) - 1 :].mean())",
]  # fmt: skip

#: The same as statements.
SIZE_LINES = [
    "for i in range(n):\n    h = h * 0.8 + 0.1 * i", "if n > 4:\n    h = h * 0.5\nelse:\n    h = h + 1.0",
    "for i in range(min(n, 3)):\n    h = (h + 0.2).tanh()", "if n % 2:\n    h = h.tanh()",
    "h = fn.concat([h[i : i + 1] * (0.3 * i) for i in range(n)], 0)",
    "m = n\nwhile m > 2:\n    h, m = h * 0.7, m - 2", "if not n - 3:\n    h = h.sigmoid()",
    "scales = [0.5] * n\nh = h * sum(scales)",
]  # fmt: skip

#: Powers where the base, or the exponent, is 0.
POWERS = [
    "((@0) ** 0)", "(F.relu(@0) ** 0)", "((@0 * 0.0) ** 0)", "(F.relu(@0) ** (1.0 + (@1).sigmoid()))",
    "(0.0 ** F.relu(@0 - 0.3))", "(F.relu(@0) ** (F.relu(@1)))", "(F.relu(@0) ** ((@1 - @1) + 2.0))",
    "((@0 * 0.0) ** (0.0 * @1))", "(F.relu(@0) ** 1)", "((@0 * 0.0) ** 2)",
]  # fmt: skip

#: Values beside the graph that change: how forward reads one, where and how it is defined, how it is changed.
#: {k} is its name, {v} and {w} are numbers, {t} is one of two texts, {u} the same without quotes.
KNOBS = [
    ("(@0 * self.{k})", "init", "self.{k} = {v}", ["model.{k} = {w}"]),
    ("(@0 * self._{k})", "init", "self._{k} = {v}", ["model._{k} = {w}"]),
    ("(@0 * self.{k})", "init", "self.{k} = np.float64({v})", ["model.{k} = np.float64({w})"]),
    ("((@0).tanh() if self.{k} == 'a' else @0 * 0.5)", "init", "self.{k} = 'a'", ["model.{k} = {t}"]),
    ("((@0).tanh() if self._{k} == 'a' else @0 * 0.5)", "init", "self._{k} = 'a'", ["model._{k} = {t}"]),
    ("(@0 if self.{k} is None else @0 * self.{k})", "init", "self.{k} = None",
     ["model.{k} = {w}", "model.{k} = None"]),
    ("((@0).tanh() if self.{k} else @0)", "init", "self.{k} = True", ["model.{k} = not model.{k}"]),
    ("(@0 * self.{k})", "init", "self.{k} = full({v})",
     ["model.{k} = full({w})", "model.{k}[:] = {w}", "model.{k}[1] = {w}"]),
    ("(@0 * self._{k})", "init", "self._{k} = full({v})", ["model._{k} = full({w})", "model._{k}[:] = {w}"]),
    ("(@0 * self.{k})", "init", "self.{k} = np.array([1, 2, 0, 1])",
     ["model.{k}[1] = {w} * 10", "model.{k} = np.array([0, 1, 2, 1])"]),
    ("(@0 * (self.{k} * 2.0 + 1.0))", "init", "self.{k} = full({v})",
     ["model.{k}[:] = {w}", "model.{k} = full({w})"]),
    ("(@0 * float(self.{k}[0]))", "init", "self.{k} = full({v})", ["model.{k}[0] = {w}"]),
    ("(@0 * self.{k}[:1])", "init", "self.{k} = full({v})", ["model.{k}[0] = {w}"]),
    ("(@0 * (0.5 if self.{k}.sum() > 2 else 1.5))", "init", "self.{k} = full({v})", ["model.{k}[:] = 3 * {w}"]),
    ("(@0 * self.{k}[0] + self.{k}[1])", "init", "self.{k} = (full({v}), full({w}))",
     ["model.{k} = (full({w}), full({v}))", "model.{k}[0][:] = {w}", "model.{k} = (model.{k}[0], full({w}))"]),
    ("(@0 * self.{k}[0])", "init", "self.{k} = [{v}, {w}]",
     ["model.{k}[0] = {w}", "model.{k} = [{w}]", "model.{k}.insert(0, {w})"]),
    ("(@0 * sum(self.{k}))", "init", "self.{k} = [{v}]", ["model.{k}.append(0.1)", "model.{k}[0] = {w}"]),
    ("(@0 * self.{k}['a'])", "init", "self.{k} = {{'a': {v}}}", ["model.{k}['a'] = {w}", "model.{k} = {{'a': {w}}}"]),
    ("(@0 * self.{k}.get('b', 0.5))", "init", "self.{k} = {{'a': {v}}}",
     ["model.{k}['b'] = {w}", "model.{k}.pop('b', 0)"]),
    ("(@0 * self.{k}['a'][0])", "init", "self.{k} = {{'a': [{v}]}}", ["model.{k}['a'][0] = {w}"]),
    ("(@0 * self.{k}['a'])", "init", "self.{k} = {{'a': full({v})}}",
     ["model.{k}['a'] = full({w})", "model.{k}['a'][:] = {w}"]),
    ("(@0 * len(self.{k}))", "init", "self.{k} = {{'a': {v}}}", ["model.{k}['{u}'] = {w}"]),
    ("(@0 * (2.0 if 'a' in self.{k} else 0.5))", "init", "self.{k} = {{'a'}}",
     ["model.{k}.discard('a')", "model.{k}.add('a')"]),
    ("(@0 * self.{k}.rate)", "init", "self.{k} = SimpleNamespace(rate={v})", ["model.{k}.rate = {w}"]),
    ("(@0 * self.{k}.inner.rate)", "init", "self.{k} = SimpleNamespace(inner=SimpleNamespace(rate={v}))",
     ["model.{k}.inner.rate = {w}"]),
    ("(@0 * self.{k}.array)", "init", "self.{k} = SimpleNamespace(array=full({v}))",
     ["model.{k}.array = full({w})", "model.{k}.array[:] = {w}"]),
    ("(@0 * self.{k}[0].rate)", "init", "self.{k} = [SimpleNamespace(rate={v})]", ["model.{k}[0].rate = {w}"]),
    ("(@0 * getattr(self, '{k}', 0.5))", "init", "pass", ["model.{k} = {w}"]),
    ("self.{k}(@0)", "init", "self.{k} = F.tanh", ["model.{k} = F.sigmoid", "model.{k} = F.tanh"]),
    ("self.{k}(@0)", "init", "self.{k} = nn.Tanh()", ["model.{k} = nn.Sigmoid()", "model.{k} = nn.Tanh()"]),
    ("self.{k}[0](@0)", "init", "self.{k} = [nn.Tanh()]",
     ["model.{k}[0] = nn.Sigmoid()", "model.{k}[0] = nn.Tanh()"]),
    ("self.{k}['a'](@0)", "init", "self.{k} = {{'a': nn.Tanh()}}", ["model.{k}['a'] = nn.Sigmoid()"]),
    ("self.{k}.layer(@0)", "init", "self.{k} = SimpleNamespace(layer=nn.Tanh())", ["model.{k}.layer = nn.Sigmoid()"]),
    ("self.{k}(@0)", "init", "self.{k} = nn.Sequential(nn.Tanh(), nn.Identity())",
     ["model.{k}[1] = nn.Sigmoid()", "model.{k}[0] = nn.Identity()"]),
    ("(@0 * self.{k}.data)", "init", "self.register_buffer('{k}', np.full(4, {v}))",
     ["model.{k}.data[:] = {w}", "model.{k}.data = full({w})"]),
    ("(@0 * self.{k})", "init", "self.register_buffer('{k}', np.full(4, {v}))",
     ["model.{k}.data[:] = {w}", "model.{k}.data = full({w})"]),
    ("(@0 * {k})", "globals", "{k} = {v}", ["{k} = {w}"]),
    ("(@0 * {k})", "globals", "{k} = full({v})", ["{k} = full({w})", "{k}[:] = {w}"]),
    ("(@0 * {k}['a'])", "globals", "{k} = {{'a': {v}}}", ["{k}['a'] = {w}"]),
    ("(@0 * {k}[-1])", "globals", "{k} = [{v}]", ["{k}.append({w})", "{k}[:] = [{w}]"]),
    ("(@0 * {k}.rate)", "globals", "{k} = SimpleNamespace(rate={v})", ["{k}.rate = {w}"]),
    ("(@0 * {k}.rate)", "globals", "@dataclasses.dataclass\n"
     "class {k}_:\n"
     "    rate: float\n"
     "{k} = {k}_({v})", ["{k}.rate = {w}", "{k} = {k}_({w})"]),
    ("(@0 * {k}.rate)", "globals", "class {k}:\n    rate = {v}", ["{k}.rate = {w}"]),
    ("{k}(@0)", "globals", "def {k}(h):\n    return h * {v}", ["def {k}(h):\n    return h * {w}"]),
    ("{k}(@0)", "globals", "def {k}(h, rate=[{v}]):\n    return h * rate[0]",
     ["{k}.__defaults__[0][0] = {w}", "{k}.__defaults__ = ([{w}],)"]),
    ("(@0 * get_{k}())", "globals", "def make_{k}(value):\n"
     "    def get():\n"
     "        return value\n"
     "    def put(new):\n"
     "        nonlocal value\n"
     "        value = new\n"
     "    return get, put\n"
     "get_{k}, put_{k} = make_{k}({v})", ["put_{k}({w})"]),
    ("scale_{k}(@0)", "globals", "def make_{k}(array):\n"
     "    return lambda h: h * array\n"
     "array_{k} = full({v})\n"
     "scale_{k} = make_{k}(array_{k})", ["array_{k}[:] = {w}", "scale_{k} = make_{k}(full({w}))"]),
    ("(@0 * self.{k})", "fields", "{k} = {v}", ["Model.{k} = {w}", "model.{k} = {w}"]),
    ("(@0 * Model.{k})", "fields", "{k} = {v}", ["Model.{k} = {w}"]),
    ("(@0 * self.{k}['a'])", "fields", "{k} = {{'a': {v}}}", ["Model.{k}['a'] = {w}", "Model.{k} = {{'a': {w}}}"]),
    ("(@0 * self.{k})", "fields", "@property\n"
     "def {k}(self):\n"
     "    return self.rate_{k}[0]\n"
     "rate_{k} = [{v}]", ["Model.rate_{k}[0] = {w}"]),
    ("self.{k}(@0)", "fields", "def {k}(self, h):\n    return h * {v}", ["Model.{k} = lambda self, h: h * {w}"]),
    ("(@0 * cell)", "cell", "", ["set_cell({w})"]),
]  # fmt: skip

#: The same, read by statements.
KNOB_LINES = [
    ("for scale in self.{k}:\n    h = h * scale", "init", "self.{k} = [{v}, 0.9]",
     ["model.{k}.append(1.1)", "model.{k}[0] = {w}", "model.{k} = [{w}]"]),
    ("for name in sorted(self.{k}):\n    h = h * self.{k}[name]", "init", "self.{k} = {{'b': {v}}}",
     ["model.{k}['a'] = {w}", "model.{k}['b'] = {w}"]),
    ("try:\n    h = h * self.{k}\nexcept AttributeError:\n    h = h + 0.5", "init", "pass", ["model.{k} = {w}"]),
    ("match self.{k}:\n"
     "    case 'a':\n"
     "        h = h.tanh()\n"
     "    case _:\n"
     "        h = h * 0.5", "init", "self.{k} = 'a'", ["model.{k} = {t}"]),
    ("if hasattr(self, '{k}'):\n    h = h * self.{k}", "init", "pass",
     ["model.{k} = {w}", "if hasattr(model, '{k}'):\n    del model.{k}"]),
]  # fmt: skip

#: Losses: what loss(out, y) returns, how often it is drawn, and the fault that it invites.
LOSSES = [
    ("F.mse_loss(out, y)", 4, 0),
    ("(out - y).square().sum() / out.shape[0]", 1, 1),
    ("(out - y).square().sum() / len(y)", 1, 1),
    ("F.mse_loss(out, y) * int(out.shape[0])", 1, 1),
    ("F.mse_loss(out, y) * (0.5 if out.shape[0] > 4 else 1.5)", 1, 1),
    ("(out - y).abs().sum() / y.numel()", 1, 1),
    ("F.mse_loss(out, y) * np.sqrt(out.shape[0])", 1, 1),
    ("(out * y).tanh().sum() / max(len(out), 3)", 1, 1),
    ("F.mse_loss(out, y, reduction='sum') / float(np.prod(out.shape))", 1, 1),
]  # fmt: skip

#: What is added to a loss, how it is defined and how it is changed.
LOSS_KNOBS = [
    ("* rate", "rate = {v}", ["rate = {w}"]),
    ("* rates['a']", "rates = {{'a': {v}}}", ["rates['a'] = {w}"]),
    ("* get()", "def make_rate(value):\n"
     "    def get():\n"
     "        return value\n"
     "    def put(new):\n"
     "        nonlocal value\n"
     "        value = new\n"
     "    return get, put\n"
     "get, put = make_rate({v})", ["put({w})"]),
    ("+ (out * target_scale).mean()", "target_scale = full({v})",
     ["target_scale[:] = {w}", "target_scale = full({w})"]),
    ("+ (out * config.scale).mean() * config.rate", "config = SimpleNamespace(scale=full({v}), rate={v})",
     ["config.rate = {w}", "config.scale[:] = {w}", "config.scale = full({w})"]),
]  # fmt: skip
