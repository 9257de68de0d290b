"""Updates: what they touch, when parameters begin to count, several optimizers at once, settings of any kind."""

import gc
import json

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.files import load_arrays, save_arrays
from fastnn.train import callbacks
from fastnn.train.checkpoint import checksum

from optimizers import KINDS, every_kind, every_kind_in_torch, make

RNG = np.random.default_rng(17)
X = RNG.standard_normal((6, 4))
Y = RNG.standard_normal((6, 3))


class Heads(nn.Module):
    """Two heads, of which a call takes the one that `which` names."""

    def __init__(self, dtype=np.float64):
        super().__init__()
        self.trunk, self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 3)
        self.which = "a"
        self.to(dtype)

    def forward(self, x):
        return getattr(self, self.which)(self.trunk(x).tanh())


def torch_heads(torch):
    class Heads(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.a, self.b = (torch.nn.Linear(*s).double() for s in ((4, 5), (5, 3), (5, 3)))
            self.which = "a"

        def forward(self, x):
            return getattr(self, self.which)(self.trunk(x).tanh())

    return Heads()


def heads(seed=0, dtype=np.float64):
    fn.manual_seed(seed)
    return Heads(dtype)


def in_one(model, opt):
    return fn.TrainStep(model, nn.MSELoss(), opt)


def in_pieces(model, opt):
    loss = nn.MSELoss()

    def step(x, y):
        opt.zero_grad()
        value, dy = loss.value_and_grad(model.forward_train(x), y)
        model.backward(dy)
        opt.step()
        return value

    return step


both_ways = pytest.mark.parametrize("way", [in_one, in_pieces], ids=["in one", "in pieces"])


def state_of(opt, parameter):
    """State arrays and step count of one parameter."""
    for group in opt.param_groups:
        for i, p in enumerate(group["params"]):
            if p is parameter:
                part = slice(group.begins[i], group.begins[i] + p.size)
                counters = {name: counter[i] for name, counter in group.counters.items()}
                return {name: state[part].copy() for name, state in group.states.items()} | counters
    raise KeyError


def everything(model, opt):
    return {
        name: (p.data.tolist(), {k: np.asarray(v).tolist() for k, v in state_of(opt, p).items()})
        for name, p in model.named_parameters()
    }


def bits(model):
    return b"".join(array.tobytes() for array in model.state_dict().values())


# ---- what an update touches ------------------------------------------------------------------------


@every_kind
@both_ways
def test_an_update_touches_what_the_loss_reaches_and_nothing_else(kind, way):
    model = heads()
    opt = make(kind, model.parameters())
    step = way(model, opt)
    before = everything(model, opt)
    for which, other in (("a", "b"), ("b", "a"), ("a", "b")):
        model.which = which
        step(X, Y)
        now = everything(model, opt)
        for name in now:
            changed = now[name][0] != before[name][0]
            assert changed == (not name.startswith(other)), (which, name)
            if not changed:
                assert now[name] == before[name], (which, name)
        before = now


@every_kind_in_torch
@both_ways
def test_heads_in_turn_train_as_in_pytorch(torch_counts_in_double, kind, way):
    torch = pytest.importorskip("torch")
    ours, theirs = heads(), torch_heads(torch)
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    opt, torch_opt = make(kind, ours.parameters()), make(kind, theirs.parameters(), torch.optim)
    step = way(ours, opt)
    for which in "aababbbaab":
        ours.which = theirs.which = which
        loss = step(X, Y)
        torch_opt.zero_grad()
        expected = torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(Y))
        expected.backward()
        torch_opt.step()
        assert loss == pytest.approx(expected.item(), rel=1e-12)
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(dict(ours.named_parameters())[name].data, p.detach(), rtol=1e-10, atol=1e-12)
        state = torch_opt.state[p]
        mine = state_of(opt, dict(ours.named_parameters())[name])
        if "step" in state:
            assert mine["steps"] == state["step"].item()
        for key in set(mine) & set(state):
            if np.ndim(mine[key]) == 0:
                assert mine[key] == pytest.approx(state[key].item(), rel=1e-12)
            elif state[key] is not None:
                shape = dict(ours.named_parameters())[name]._storage.shape
                expected = state[key].numpy()
                expected = expected.T if expected.ndim == 2 else expected  # a Linear keeps (in, out)
                np.testing.assert_allclose(mine[key].reshape(shape), expected, rtol=1e-10, atol=1e-12)


@every_kind
def test_a_step_in_one_and_in_pieces_give_the_same_bits_head_by_head(kind):
    ends = []
    for way in (in_one, in_pieces):
        model = heads()
        opt = make(kind, model.parameters())
        step = way(model, opt)
        for which in "abbaab":
            model.which = which
            step(X, Y)
        ends.append(everything(model, opt))
    assert ends[0] == ends[1]


@every_kind
@both_ways
def test_a_frozen_layer_keeps_weights_and_state_and_goes_on_where_it_stopped(kind, way):
    model = heads()
    opt = make(kind, model.parameters())
    step = way(model, opt)
    step(X, Y)
    model.trunk.requires_grad_(False)
    before = everything(model, opt)
    step(X, Y)
    step(X, Y)
    now = everything(model, opt)
    for name in ("trunk.weight", "trunk.bias"):
        assert now[name] == before[name]
    assert now["a.weight"] != before["a.weight"]
    model.trunk.requires_grad_(True)
    step(X, Y)
    if kind not in ("sgd", "decay"):  # without a momentum there is nothing to count
        assert [state_of(opt, p)["steps"] for p in (model.trunk.weight, model.a.weight)] == [2, 4]
    assert opt.param_groups[0].steps == 4


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"sgd", "decay"}))  # those have nothing to count
@both_ways
def test_a_layer_unfrozen_at_step_1000_makes_the_first_step_of_a_fresh_make(kind, way):
    model = heads()
    model.trunk.requires_grad_(False)
    opt = make(kind, model.parameters())
    step = way(model, opt)
    for _ in range(1000):
        step(X, Y)
    model.trunk.requires_grad_(True)
    twin = heads()
    twin.load_state_dict(model.state_dict())
    step(X, Y)
    fresh = make(kind, twin.parameters())
    way(twin, fresh)(X, Y)
    for ours, theirs in zip(model.trunk.parameters(), twin.trunk.parameters(), strict=True):
        assert ours.data.tobytes() == theirs.data.tobytes()
        state, expected = state_of(opt, ours), state_of(fresh, theirs)
        assert state.pop("steps") == expected.pop("steps") == 1
        for name in state:
            np.testing.assert_array_equal(state[name], expected[name])
    assert state_of(opt, model.a.weight)["steps"] == opt.param_groups[0].steps == 1001


@every_kind_in_torch
def test_a_layer_unfrozen_late_trains_as_in_pytorch(torch_counts_in_double, kind):
    torch = pytest.importorskip("torch")
    ours, theirs = heads(), torch_heads(torch)
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    opt, torch_opt = make(kind, ours.parameters()), make(kind, theirs.parameters(), torch.optim)
    step = in_one(ours, opt)
    for i in range(60):
        for model in (ours, theirs):
            model.trunk.requires_grad_(i >= 50)
        loss = step(X, Y)
        torch_opt.zero_grad()
        expected = torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(Y))
        expected.backward()
        torch_opt.step()
        assert loss == pytest.approx(expected.item(), rel=1e-9)


def test_a_parameter_without_a_gradient_is_left_alone_by_step():
    model = heads()
    opt = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    before = bits(model)
    opt.step()
    assert bits(model) == before
    model.a.weight.grad = np.ones((3, 5))
    kept, expected = model.a.bias.data.copy(), model.a.weight.data * (1 - 0.01) - 0.1
    opt.step()
    np.testing.assert_allclose(model.a.weight.data, expected, rtol=1e-14)
    np.testing.assert_array_equal(model.a.bias.data, kept)
    model.a.weight.grad = None
    before = bits(model)
    opt.step()
    assert bits(model) == before


def test_a_momentum_that_is_turned_on_later_begins_with_the_gradient():
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Linear(4, 3).double(), torch.nn.Linear(4, 3).double()
    ours.load_state_dict(theirs.state_dict())
    opt = optim.SGD(ours.parameters(), 0.1, dampening=0.5)
    torch_opt = torch.optim.SGD(theirs.parameters(), 0.1, dampening=0.5)
    step = in_one(ours, opt)
    for momentum in (0, 0, 0.9, 0.9, 0, 0.9):
        opt.param_groups[0]["momentum"] = torch_opt.param_groups[0]["momentum"] = momentum
        loss = step(X, Y)
        torch_opt.zero_grad()
        expected = torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(Y))
        expected.backward()
        torch_opt.step()
        assert loss == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(ours.weight.data, theirs.weight.detach(), rtol=1e-12)


def test_amsgrad_turned_on_later_takes_the_largest_mean_from_then_on():
    model = heads()
    opt = make("adam", model.parameters())
    step = in_one(model, opt)
    step(X, Y)
    opt.param_groups[0]["amsgrad"] = True
    step(X, Y)
    state = state_of(opt, model.a.weight)
    np.testing.assert_array_equal(state["max_exp_avg_sq"], state["exp_avg_sq"])
    step(X, 0 * Y)
    state = state_of(opt, model.a.weight)
    assert (state["max_exp_avg_sq"] >= state["exp_avg_sq"]).all()


# ---- several optimizers -----------------------------------------------------------------------------


def with_two(order, kinds=("momentum", "adam"), steps="0110100"):
    """Two optimizers that share the head a, made in this order, in turn."""
    model = heads()
    members = [
        [*model.trunk.parameters(), *model.a.parameters()],
        [*model.a.parameters(), *model.b.parameters()],
    ]
    opts = [None, None]
    for i in order:
        opts[i] = make(kinds[i], members[i])
    ways = [in_one(model, opt) for opt in opts]
    losses = []
    for k in steps:
        model.which = "a"
        losses.append(ways[int(k)](X, Y))
    return losses, bits(model), [opt.state_dict()["state"] for opt in opts]


def test_two_optimizers_share_parameters_whichever_was_made_first():
    (losses, end, states), (losses_too, end_too, states_too) = with_two((0, 1)), with_two((1, 0))
    assert losses == losses_too
    assert end == end_too
    for one, other in zip(states, states_too, strict=True):
        for a, b in zip(one, other, strict=True):
            assert {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_optimizers_over_the_same_parameters_train_as_in_pytorch(order):
    torch = pytest.importorskip("torch")
    ours, theirs = heads(), torch_heads(torch)
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    kinds = ("momentum", "adam")
    opts, torch_opts = [None, None], [None, None]
    for i in order:
        parts = ("trunk", "a", "b")[i : i + 2]
        opts[i] = make(kinds[i], [p for part in parts for p in getattr(ours, part).parameters()])
        torch_opts[i] = make(kinds[i], [p for part in parts for p in getattr(theirs, part).parameters()], torch.optim)
    ways = [in_one(ours, opts[0]), in_pieces(ours, opts[1])]
    for k, which in zip((0, 1, 1, 0, 1, 0), "aabaab", strict=True):
        ours.which = theirs.which = which
        loss = ways[k](X, Y)
        theirs.zero_grad()
        expected = torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(Y))
        expected.backward()
        torch_opts[k].step()
        ours.zero_grad()
        assert loss == pytest.approx(expected.item(), rel=1e-11)


@every_kind
@pytest.mark.parametrize("gone", [0, 1])
def test_an_optimizer_goes_on_when_another_one_is_gone(kind, gone):
    ends = []
    for drop in (False, True):
        model = heads()
        opts = [make(kind, model.parameters()), make(kind, reversed([*model.parameters()]))]
        step = in_one(model, opts[1 - gone])
        step(X, Y)
        if drop:
            del opts[gone]
            gc.collect()
            np.random.default_rng(0).standard_normal(100_000)  # whatever was freed is written over
        step(X, Y)
        step(X, Y)
        ends.append(bits(model))
    assert ends[0] == ends[1]


def test_a_parameter_whose_optimizers_are_all_gone_keeps_its_values():
    model = heads()
    opt = make("adam", model.parameters())
    in_one(model, opt)(X, Y)
    before, y = bits(model), model(X)
    del opt
    gc.collect()
    assert bits(model) == before
    np.testing.assert_array_equal(model(X), y)
    in_one(model, make("momentum", model.parameters()))(X, Y)
    assert bits(model) != before


@every_kind
def test_two_steps_with_one_optimizer_are_one(kind):
    model, twin = heads(), heads()
    opt, opt_of_twin = make(kind, model.parameters()), make(kind, twin.parameters())
    first, second, third = in_one(model, opt), in_one(model, opt), in_pieces(model, opt)
    step = in_one(twin, opt_of_twin)
    for one in (first, second, first, third, second, third):
        assert one(X, Y) == step(X, Y)
    assert everything(model, opt) == everything(twin, opt_of_twin)


# ---- dtypes -----------------------------------------------------------------------------------------


@every_kind
@both_ways
def test_an_optimizer_goes_along_when_its_model_changes_its_dtype(kind, way):
    model = heads(dtype=np.float32)
    opt = make(kind, model.parameters())
    step = way(model, opt)
    x, y = X.astype(np.float32), Y.astype(np.float32)
    for _ in range(3):
        step(x, y)
    twin = heads()
    twin.load_state_dict(model.state_dict())
    fresh = make(kind, twin.parameters())
    fresh.load_state_dict(opt.state_dict())
    model.double()
    for _ in range(3):
        assert step(X, Y) == way(twin, fresh)(X, Y)
    assert {a.dtype for a in opt.param_groups[0].states.values()} <= {np.dtype(np.float64)}
    assert everything(model, opt) == everything(twin, fresh)
    model.float()
    loss = step(x, y)
    assert step(x, y) < loss
    assert {a.dtype for a in opt.param_groups[0].states.values()} <= {np.dtype(np.float32)}
    assert opt.param_groups[0].steps == 8


def test_a_part_that_changes_its_dtype_alone_is_refused_by_the_optimizer():
    model = heads()
    opt = make("adam", model.parameters())
    model.b.float()
    with pytest.raises(TypeError, match="must share a dtype"):
        in_one(model, opt)(X, Y)
    model.b.double()
    in_one(model, opt)(X, Y)


# ---- states -----------------------------------------------------------------------------------------


@every_kind
def test_a_state_loaded_into_another_optimizer_goes_on_with_the_same_bits(kind):
    model, twin = heads(), heads(1)
    opt, other = make(kind, model.parameters()), make(kind, twin.parameters())
    numbers = dict(lr=0.7, momentum=0.3, dampening=0.2, weight_decay=0.3, betas=(0.5, 0.6), eps=1e-3)
    group = other.param_groups[0]
    group.update({name: number for name, number in numbers.items() if name in group})
    step, step_of_twin = in_one(model, opt), in_one(twin, other)
    for which in "aaba":
        model.which = which
        step(X, Y)
    step_of_twin(X, Y)
    twin.load_state_dict(model.state_dict())
    state = opt.state_dict()
    other.load_state_dict(state)
    assert everything(model, opt) == everything(twin, other)
    for which in "bab":
        model.which = twin.which = which
        assert step(X, Y) == step_of_twin(X, Y)
    assert everything(model, opt) == everything(twin, other)
    opt.load_state_dict(state)  # it is a copy: training has not changed it
    assert opt.param_groups[0].steps == 4
    assert [a.tolist() for a in opt.state_dict()["state"][0].values()] == [
        a.tolist() for a in state["state"][0].values()
    ]


OPTIONAL = {
    "SGD": {"momentum": 0.9},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {"amsgrad": True},
    "AdamW": {"amsgrad": True},
}


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("saved_with", [False, True])
@pytest.mark.parametrize("by_file", [False, True])
def test_a_state_with_other_arrays_than_the_optimizers_replaces_them(tmp_path, name, saved_with, by_file):
    """The settings that are loaded decide which there are, as in PyTorch."""
    plain, more = {"lr": 0.01}, {"lr": 0.01, **OPTIONAL[name]}
    model, twin = heads(), heads()
    opt = getattr(optim, name)(model.parameters(), **(more if saved_with else plain))
    other = getattr(optim, name)(twin.parameters(), **(plain if saved_with else more))
    step, other_step = in_one(model, opt), in_one(twin, other)
    step(X, Y)
    for _ in range(2):  # leaves states behind that must not be gone on with
        other_step(X, -Y)
    path = tmp_path / "c.safetensors"
    fn.save_checkpoint(path, model, opt)
    if by_file:
        fn.load_checkpoint(path, twin, other)
    else:
        twin.load_state_dict(model.state_dict())
        other.load_state_dict(opt.state_dict())
    assert other.settings() == opt.settings()
    assert other.param_groups[0].states.keys() == opt.param_groups[0].states.keys()
    for settings in ({}, OPTIONAL[name]):  # and turned on, they begin anew
        for one in (opt, other):
            one.param_groups[0].update(settings)
        assert step(X, Y) == other_step(X, Y)
        assert step(X, Y) == other_step(X, Y)
    assert everything(model, opt) == everything(twin, other)


def test_a_state_that_lacks_what_its_settings_need_or_has_strange_arrays_is_refused():
    opt = optim.RMSprop(heads().parameters(), momentum=0.9)
    state, before = opt.state_dict(), opt.state_dict()
    del state["state"][0]["momentum_buffer"]
    with pytest.raises(ValueError, match="momentum_buffer"):
        opt.load_state_dict(state)
    with pytest.raises(ValueError, match="strange"):
        opt.load_state_dict({**before, "state": [{**before["state"][0], "strange": np.zeros(3)}]})
    assert opt.state_dict()["state"][0].keys() == before["state"][0].keys()


@every_kind
def test_a_checkpoint_keeps_how_often_each_parameter_was_updated(kind, tmp_path):
    path = tmp_path / "c.safetensors"
    model, twin = heads(), heads(1)
    opt, other = make(kind, model.parameters()), make(kind, twin.parameters())
    for which in "aab":
        model.which = which
        in_one(model, opt)(X, Y)
    fn.save_checkpoint(path, model, opt)
    fn.load_checkpoint(path, twin, other)
    assert everything(model, opt) == everything(twin, other)


def without_steps(path):
    """Make a checkpoint one of before parameters counted their own updates."""
    tensors, metadata = load_arrays(path)
    content = json.loads(metadata["checkpoint"])
    del content["crc32"]
    tensors = {name: a for name, a in tensors.items() if not name.endswith("/steps")}
    content["crc32"] = checksum(json.dumps(content), tensors)
    save_arrays(path, tensors, {"checkpoint": json.dumps(content)})


@every_kind
def test_an_old_checkpoint_without_counts_takes_the_groups(kind, tmp_path):
    path = tmp_path / "c.safetensors"
    ends = []
    for old in (False, True):
        model = heads()
        opt = make(kind, [*model.trunk.parameters(), *model.a.parameters()])
        step = in_one(model, opt)
        for _ in range(3):
            step(X, Y)
        fn.save_checkpoint(path, model, opt, step=3)
        if old:
            without_steps(path)
        model = heads(1)
        opt = make(kind, [*model.trunk.parameters(), *model.a.parameters()])
        assert fn.load_checkpoint(path, model, opt)["step"] == 3
        assert opt.param_groups[0].steps == 3
        if old:
            np.testing.assert_array_equal(opt.param_groups[0].steps_of, 3)
        step = in_one(model, opt)
        ends.append(([step(X, Y) for _ in range(3)], bits(model)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("gone", ["l1_penalty", "clip_grad_norm", "lr"])
def test_an_old_checkpoint_may_lack_settings_that_do_nothing_by_default_and_no_others(gone, tmp_path):
    path = tmp_path / "c.safetensors"
    model = heads()
    opt = make("adam", model.parameters(), l1_penalty=0.5, clip_grad_norm=2.0)
    in_one(model, opt)(X, Y)
    fn.save_checkpoint(path, model, opt)
    arrays, metadata = load_arrays(path)
    content = json.loads(metadata["checkpoint"])
    del content["crc32"], content["optimizer"]["groups"][0][gone]
    content["crc32"] = checksum(json.dumps(content), arrays)
    save_arrays(path, arrays, {**metadata, "checkpoint": json.dumps(content)})
    twin = heads(1)
    other = make("adam", twin.parameters())
    if gone == "lr":
        with pytest.raises(ValueError, match="group 0 with the settings"):
            fn.load_checkpoint(path, twin, other)
        return
    fn.load_checkpoint(path, twin, other)
    assert everything(twin, other) == everything(model, opt)
    assert other.settings() == [{**opt.settings()[0], gone: other.defaults[gone]}]


def test_an_old_checkpoint_of_other_groups_is_still_refused_by_name(tmp_path):
    path = tmp_path / "c.safetensors"
    model = heads()
    fn.save_checkpoint(path, model, make("adam", model.parameters()))
    without_steps(path)
    two = optim.Adam([{"params": model.trunk.parameters()}, {"params": model.a.parameters()}], 0.01)
    for opt in (two, optim.Adam(model.a.parameters(), 0.01), make("momentum", model.parameters())):
        with pytest.raises(ValueError, match=r"c\.safetensors"):
            fn.load_checkpoint(path, model, opt)


# ---- settings ---------------------------------------------------------------------------------------

NUMBERS = {
    "float32": np.float32(0.25),
    "float64": np.float64(0.25),
    "float16": np.float16(0.25),
    "0-d": np.array(0.25),
    "0-d float32": np.array(0.25, np.float32),
    "int64": np.int64(1),
    "0-d int": np.array(1),
    "int": 1,
}


def all_plain(value):
    if isinstance(value, (list, tuple)):
        return all(map(all_plain, value))
    if isinstance(value, dict):
        return all(map(all_plain, value.values()))
    return value is None or type(value) in (int, float, bool, str)


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("how", ["made with", "group", "update", "or", "item assignment"])
def test_numbers_of_numpy_are_stored_as_pythons(number, how, tmp_path):
    value, path = number.item() if hasattr(number, "item") else number, tmp_path / "c.safetensors"
    model = heads()
    settings = {"lr": number, "weight_decay": number, "eps": number}
    if how == "made with":
        opt = optim.AdamW(model.parameters(), betas=(np.float32(0.5), np.array(0.75)), **settings)
    elif how == "group":
        opt = optim.AdamW([{"params": model.parameters(), **settings, "betas": [np.float32(0.5), np.array(0.75)]}])
    else:
        opt = optim.AdamW(model.parameters())
        (group,) = opt.param_groups
        settings["betas"] = np.float32(0.5), np.float64(0.75)
        if how == "update":
            group.update(settings)
        elif how == "or":
            group |= settings
        else:
            for name, setting in settings.items():
                group[name] = setting
    (group,) = opt.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (value, value, (0.5, 0.75))
    read = dict(zip(opt.hyper, group.hyper, strict=True))
    assert [read[k] for k in ("lr", "beta1", "beta2", "eps", "weight_decay")] == [value, 0.5, 0.75, value, value]
    assert all_plain(opt.settings())
    assert json.loads(json.dumps(opt.settings()))[0]["lr"] == value
    assert type(opt.lr) is float
    in_one(model, opt)(X, Y)
    fn.save_checkpoint(path, model, opt)
    twin = heads(1)
    other = optim.AdamW(twin.parameters())
    fn.load_checkpoint(path, twin, other)
    assert other.settings() == opt.settings()
    assert everything(twin, other) == everything(model, opt)


def test_switches_of_numpy_are_stored_as_pythons():
    opt = optim.SGD(heads().parameters(), momentum=0.9, nesterov=np.bool_(True), maximize=np.bool_(False))
    opt.param_groups[0]["maximize"] = np.bool_(True)
    assert all_plain(opt.settings())
    assert opt.param_groups[0]["nesterov"] is opt.param_groups[0]["maximize"] is True


def test_schedules_may_give_numbers_of_numpy():
    model = heads()
    opt = optim.SGD(model.parameters(), 0.1)
    rates = []

    class Rates(callbacks.Callback):
        def on_batch_end(self, batch, logs):
            rates.append(self.trainer.optimizer.param_groups[0]["lr"])
            self.trainer.optimizer.lr = np.float32(rates[-1]) * np.float32(0.5)

    schedule = callbacks.LearningRateScheduler(lambda epoch: np.array(0.5) / (epoch + 1))
    trainer = fn.Trainer(model, nn.MSELoss(), opt, metrics=())
    trainer.fit((X, Y), epochs=2, batch_size=3, callbacks=[schedule, Rates()], verbose=False)
    assert rates == [0.5, 0.25, 0.25, 0.125]
    assert all(type(rate) is float for rate in rates)


def test_a_new_rate_holds_from_the_next_step_on_and_makes_no_new_program():
    model, twin = heads(), heads()
    opt, other = (optim.SGD(m.parameters(), 0.1) for m in (model, twin))
    step, other_step = in_one(model, opt), in_one(twin, other)
    for rate in (0.5, np.float32(0.25), np.float64(0.125)):
        opt.param_groups[0]["lr"] = rate
        other.lr = float(rate)
        assert step(X, Y) == other_step(X, Y)
    assert step._programs.count() == 1
    assert bits(model) == bits(twin)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("lr", np.float32("nan"), ValueError, "lr must be a finite number"),
        ("lr", np.array([0.1]), TypeError, "lr must be a finite number"),
        ("lr", np.bool_(True), TypeError, "lr must be a finite number"),
        ("lr", "0.1", TypeError, "lr must be a finite number"),
        ("lr", np.float64(-1), ValueError, "lr must be a finite number of at least 0"),
        ("betas", np.float32(0.9), TypeError, "betas must be a pair"),
        ("betas", (np.float32(0.9), np.float32(1.0)), ValueError, r"betas\[1\] must be below 1"),
        ("rate", 0.1, ValueError, "Adam has no setting 'rate'; it has lr, "),
        ("params", [], ValueError, "cannot be exchanged"),
    ],
)
def test_settings_that_do_not_fit_are_refused_and_change_nothing(name, value, error, message):
    opt = optim.Adam(heads().parameters())
    (group,) = opt.param_groups
    before = dict(group)
    setters = (
        lambda: group.__setitem__(name, value),
        lambda: group.update({name: value}),
        lambda: group.__ior__({name: value}),
    )
    for assign in setters:
        with pytest.raises(error, match=message):
            assign()
    assert dict(group) == before
    read = dict(zip(opt.hyper, group.hyper, strict=True))
    assert [read[k] for k in ("lr", "beta1", "beta2", "eps", "weight_decay")] == [1e-3, 0.9, 0.999, 1e-8, 0]
    with pytest.raises(ValueError, match="has no setting 'initial_lr'"):
        group.setdefault("initial_lr", 0.1)
    assert group.setdefault("lr", 0.5) == 1e-3


def test_a_group_that_is_taken_out_is_trained_no_longer():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    opt = optim.SGD([{"params": list(first.parameters())}, {"params": list(second.parameters())}], lr=0.1)
    step = fn.TrainStep(nn.Sequential(first, second), nn.MSELoss(), opt)
    x = np.ones((4, 3), np.float32)
    step(x, x)
    opt.param_groups.pop()
    before = first.weight.data.copy(), second.weight.data.copy()
    step(x, x)
    assert not np.array_equal(first.weight.data, before[0])
    np.testing.assert_array_equal(second.weight.data, before[1])


def test_an_optimizer_shows_all_of_its_groups():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    one = "lr=0.1, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False"
    assert repr(optim.SGD(model.parameters(), lr=0.1, momentum=0.9)) == f"SGD({one})"
    groups = [{"params": [model[0].weight], "lr": 0.5}, {"params": [model[0].bias, *model[1].parameters()]}]
    opt = optim.SGD(groups, lr=0.1, momentum=0.9)
    other = one.replace("lr=0.1", "lr=0.5")
    assert repr(opt) == f"SGD(\n  (0): 1 parameter, {other}\n  (1): 3 parameters, {one}\n)"
    opt.param_groups[1].update(averaging="uniform", averaging_every=5)
    assert repr(opt).endswith(f"{one}, averaging=uniform, averaging_every=5\n)")
