"""Copies of what has been used: models, optimizers, steps, trainers, functions; by copy, pickle and processes.

Plans stay behind, what is shared stays shared, and the copy and the original go on apart, each with the bits
of a twin that was never copied.
"""

import copy
import functools
import multiprocessing
import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import ArrayDataset, DataLoader
from fastnn.nn import functional as F
from fastnn.train import callbacks

from optimizers import CLASSES

RNG = np.random.default_rng(11)
X = RNG.standard_normal((12, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 12)


class Net(nn.Module):
    """Batch norm, dropout, a layer that is used twice, and a weight of two owners."""

    def __init__(self):
        super().__init__()
        self.twice, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.25)
        self.tied, self.head = nn.Linear(4, 4), nn.Linear(4, 3)
        self.tied.weight = self.twice.weight
        self.scale = 0.5

    def forward(self, x):
        h = self.drop(self.norm(self.twice(x)).relu())
        return self.head(self.twice(h) + self.tied(h) * self.scale)


def by_pickle(value):
    return pickle.loads(pickle.dumps(value))


def by_protocol_2(value):
    return pickle.loads(pickle.dumps(value, 2))


def by_protocol_5(value):
    return pickle.loads(pickle.dumps(value, 5))


def by_buffers(value):
    """As libraries for parallel work do: arrays travel beside the pickle, and arrive read-only."""
    buffers = []
    data = pickle.dumps(value, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(b.raw()) for b in buffers])


WAYS = (copy.deepcopy, by_pickle, by_protocol_2, by_protocol_5, by_buffers)
every_way = pytest.mark.parametrize("copied", WAYS, ids=lambda way: way.__name__)

OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, 0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda params: optim.SGD(params, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda params: optim.Adam(params, 0.01, amsgrad=True),
    "adamw": lambda params: optim.AdamW(params, 0.01),
    **{name: functools.partial(getattr(optim, name), **settings) for name, settings in CLASSES.items()},
}


def made(kind="sgd", dtype=np.float32):
    fn.manual_seed(3)
    model = Net().to(dtype)
    return model, OPTIMIZERS[kind](model.parameters())


def in_pieces(model, opt, x=X, y=Y):
    """A step in pieces; leaves gradients behind."""
    loss, dy = nn.CrossEntropyLoss().value_and_grad(model.forward_train(x), y)
    model.backward(dy)
    opt.step()
    return loss


def steps(model, opt, count, step=None):
    step = step or fn.TrainStep(model, nn.CrossEntropyLoss(), opt)
    return [step(X[i : i + 8], Y[i : i + 8]) for i in range(count)]


def bits(model, opt=None):
    arrays = [*model.state_dict().values()]
    if opt is not None:
        state = opt.state_dict()
        assert state["groups"]
        arrays += [array for states in state["state"] for array in states.values()]
    return b"".join(array.tobytes() for array in arrays)


def state_of(opt):
    return opt.state_dict()["groups"], [
        {name: array.tolist() for name, array in states.items()} for states in opt.state_dict()["state"]
    ]


# ---- models --------------------------------------------------------------------------------------


@every_way
def test_a_model_in_use_gives_the_same_as_its_copy_and_neither_follows_the_other(copied):
    model, opt = made()
    steps(model, opt, 3)
    before = model.eval()(X)
    other = copied(model)
    assert other.training is False
    np.testing.assert_array_equal(other(X), before)
    steps(model.train(), opt, 2)
    np.testing.assert_array_equal(other(X), before)
    trained = bits(model)
    steps(other.train(), optim.SGD(other.parameters()), 2)
    assert bits(model) == trained


@every_way
def test_what_a_model_shares_its_copy_shares(copied):
    model, _ = made()
    model.twice.weight.requires_grad = True
    model(X)
    other = copied(model)
    assert other.tied.weight is other.twice.weight
    assert other.tied.weight is not model.tied.weight
    assert len(list(other.parameters())) == len(list(model.parameters()))
    chain = nn.Sequential(model.twice, nn.ReLU(), model.twice)
    chain(X)
    other = copied(chain)
    assert other[0] is other[2]
    assert other[0] is not model.twice
    other[0].weight.data[...] = 0
    assert not (other[2].weight.data != 0).any()
    models = copied([model, chain])
    assert models[0].twice is models[1][0]


@every_way
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_modes_and_attributes_of_a_model_are_those_of_its_copy(copied, dtype):
    model = made(dtype=dtype)[0].eval()
    model.note = {"numbers": [1, 2.5], "array": np.arange(3)}
    model.head.bias.requires_grad = False
    model(X.astype(dtype))
    other = copied(model)
    assert {n: a.dtype for n, a in other.state_dict().items()} == {n: a.dtype for n, a in model.state_dict().items()}
    assert other.norm.num_batches_tracked.dtype == np.int64
    assert [m.training for m in other.modules()] == [False] * len(list(model.modules()))
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in model.parameters()]
    assert other.note["numbers"] == [1, 2.5]
    assert other.note["array"] is not model.note["array"]
    model.note["array"][0] = 7
    assert other.note["array"][0] == 0
    assert other(X.astype(dtype)).dtype == dtype


@every_way
def test_the_attributes_of_a_copy_decide_what_it_computes(copied):
    model = made()[0].eval()
    model(X)
    other = copied(model)
    model.scale = 2.0
    y = other(X)
    other.scale = 2.0
    np.testing.assert_array_equal(other(X), model(X))
    assert (other(X) != y).any()
    other.head = nn.Linear(4, 2)
    assert other(X).shape == (12, 2)
    assert model(X).shape == (12, 3)


@every_way
def test_gradients_are_copied_and_none_stays_none(copied):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    model[1].requires_grad_(False)
    model.forward_train(X)
    model.backward(np.ones((12, 3), np.float32))
    other = copied(model)
    np.testing.assert_array_equal(other[0].weight.grad, model[0].weight.grad)
    assert other[1].weight.grad is None
    kept = model[0].weight.grad.copy()
    other.forward_train(X)
    other.backward(np.ones((12, 3), np.float32))
    np.testing.assert_array_equal(other[0].weight.grad, 2 * kept)
    np.testing.assert_array_equal(model[0].weight.grad, kept)
    other.zero_grad()
    assert other[0].weight.grad is None
    np.testing.assert_array_equal(model[0].weight.grad, kept)


@every_way
def test_a_copy_made_between_forward_and_backward_has_no_forward_and_disturbs_none(copied):
    (model, _), (twin, _) = made(), made()
    dy = RNG.standard_normal((12, 3)).astype(np.float32)
    fn.manual_seed(4)
    model.forward_train(X)
    other = copied(model)
    with pytest.raises(RuntimeError, match="forward_train"):
        other.backward(dy)
    other.forward_train(X[::-1])
    other.backward(dy)
    model.backward(dy)
    fn.manual_seed(4)
    twin.forward_train(X)
    twin.backward(dy)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)


def test_a_copy_made_within_forward_of_another_model_is_a_module_of_its_own():
    class Copies(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.copies = []

        def forward(self, x):
            self.copies.append(copy.deepcopy(self.inner))
            return self.inner(x)

    model = Copies()
    y = model(X)
    np.testing.assert_array_equal(model.copies[-1](X), y)


@every_way
def test_a_frozen_model_stays_frozen(copied):
    model, opt = made()
    steps(model, opt, 2)
    frozen = model.frozen()
    frozen(X)
    other = copied(frozen)
    np.testing.assert_array_equal(other(X), frozen(X))
    assert not any(p.data.flags.writeable for p in (*other.parameters(), *other.buffers()))
    assert other.tied.weight is other.twice.weight
    assert not other.train().training
    with pytest.raises(ValueError, match="frozen"):
        other.head.weight.data = np.zeros((3, 4))
    with pytest.raises(ValueError, match="frozen"):
        optim.SGD(other.parameters())


def test_plans_stay_behind():
    model, opt = made("adam")
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), opt)
    loss = nn.CrossEntropyLoss()
    function = fn.value_and_grad(weighted)
    sizes = {k: len(pickle.dumps(v)) for k, v in enumerate((model, opt, step, loss, function))}
    big, labels = np.ones((4096, 4), np.float32), np.zeros(4096, np.int64)
    step(big, labels)
    loss.value_and_grad(big, labels)
    function(big, big)
    model(big)
    in_pieces(model, opt, big, labels)
    model.forward_train(big)
    model.zero_grad()
    now = {k: len(pickle.dumps(v)) for k, v in enumerate((model, opt, step, loss, function))}
    arena = step.plan(big, labels).arena_bytes
    assert arena > 100_000
    for k, size in now.items():
        assert size < sizes[k] + 500, k
        assert size < 20_000, k


@every_way
def test_a_subclass_with_a_state_of_its_own_is_copied_as_it_says(copied):
    model = Forgetful()
    model(X)
    other = copied(model)
    assert other.cache is None
    np.testing.assert_array_equal(other(X), model(X))
    assert copy.copy(model.inner.weight) is not model.inner.weight


class Forgetful(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.cache = nn.Linear(4, 2), [1]

    def forward(self, x):
        return self.inner(x)

    def __getstate__(self):
        return {**super().__getstate__(), "cache": None}


@every_way
def test_a_module_that_leads_back_to_itself_can_be_copied(copied):
    child, parent = nn.Linear(4, 2), nn.Sequential()
    parent.append(child)
    child.parent = [parent]
    parent(X)
    other = copied(parent)
    assert other[0].parent[0] is other
    np.testing.assert_array_equal(other(X), parent(X))


def test_running_averages_of_the_weights_are_those_of_numpy():
    model, opt = made()
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), opt)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    expected = {name: p.data.copy() for name, p in model.named_parameters()}
    for i in range(6):
        step(X[: 6 + i], Y[: 6 + i])
        average(X)
        with_new = dict(model.named_parameters())
        for name, p in average.named_parameters():
            p.data = np.float32(0.9) * p.data + np.float32(0.1) * with_new[name].data
            expected[name] = np.float32(0.9) * expected[name] + np.float32(0.1) * with_new[name].data
        for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
            ours.data = theirs.data
    for name, p in average.named_parameters():
        np.testing.assert_array_equal(p.data, expected[name])
    fresh = Net().eval()
    fresh.load_state_dict(average.state_dict())
    np.testing.assert_array_equal(average(X), fresh(X))


# ---- optimizers and steps ------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_model_and_its_optimizer_go_on_with_the_bits_of_a_twin(copied, kind):
    (model, opt), (twin, twin_opt) = made(kind), made(kind)
    for pair in ((model, opt), (twin, twin_opt)):
        fn.manual_seed(5)
        pair[0].head.requires_grad_(False)  # so that the parameters count different steps
        steps(*pair, 2)
        pair[0].head.requires_grad_(True)
        steps(*pair, 2)
    random = fn.get_rng_state()
    other, other_opt = copied((model, opt))
    assert state_of(other_opt) == state_of(opt)
    assert {id(p) for p in other_opt.parameters()} == {id(p) for p in other.parameters()}
    ends = []
    for pair in ((other, other_opt), (model, opt), (twin, twin_opt)):
        fn.set_rng_state(random)
        losses = steps(*pair, 3)
        losses.append(in_pieces(*pair))
        ends.append((losses, bits(*pair)))
    assert ends[0] == ends[1] == ends[2]


@every_way
def test_training_the_copy_leaves_the_original_alone_and_the_other_way(copied):
    model, opt = made("adam")
    steps(model, opt, 2)
    other, other_opt = copied((model, opt))
    before = bits(model, opt)
    steps(other, other_opt, 2)
    in_pieces(other, other_opt)
    other_opt.lr = 0.5
    assert bits(model, opt) == before
    assert opt.lr == 0.01
    before = bits(other, other_opt)
    steps(model, opt, 2)
    in_pieces(model, opt)
    assert bits(other, other_opt) == before
    assert bits(model) != bits(other)


@every_way
def test_a_copy_is_updated_in_as_few_sweeps_as_the_original(copied):
    def ops():
        program = fn.TrainStep(model, nn.CrossEntropyLoss(), opt).plan(X, Y)
        return [op.kernel for phase in program.phases for op in phase]

    model, opt = made()
    steps(model, opt, 1)
    before = ops()
    model, opt = copied((model, opt))
    assert ops() == before
    assert before.count("sgd") == 1


@every_way
def test_settings_of_groups_are_copied(copied):
    model = made()[0]
    opt = optim.SGD(
        [{"params": model.head.parameters(), "lr": 0.5}, {"params": [model.twice.weight], "momentum": 0.5}], lr=0.1
    )
    opt.param_groups[1]["weight_decay"] = 0.25
    opt.param_groups[1]["nesterov"] = True
    steps(model, opt, 2)
    _, other = copied((model, opt))
    assert other.settings() == opt.settings()
    assert other.defaults == opt.defaults
    other.param_groups[0]["lr"] = 0.75
    assert other.param_groups[0].hyper[0] == 0.75
    assert opt.param_groups[0]["lr"] == 0.5
    with pytest.raises(ValueError, match="has no setting"):
        other.param_groups[0]["learning_rate"] = 1


@every_way
def test_an_optimizer_copied_alone_has_parameters_of_its_own(copied):
    model, opt = made()
    in_pieces(model, opt)
    other = copied(opt)
    assert not {id(p) for p in other.parameters()} & {id(p) for p in model.parameters()}
    before, gradient = bits(model), other.parameters()[0].grad
    np.testing.assert_array_equal(gradient, opt.parameters()[0].grad)
    other.step()
    assert bits(model) == before
    opt.step()
    for p, q in zip(opt.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    with pytest.raises(ValueError, match="no parameter of this model"):
        fn.TrainStep(model, nn.CrossEntropyLoss(), other)


@every_way
def test_an_optimizer_of_a_model_that_changed_its_dtype_is_copied_with_its_state(copied):
    ends = []
    for copy_it in (False, True):
        model, opt = made("adam")
        steps(model, opt, 2)
        model.double()
        if copy_it:
            model, opt = copied((model, opt))
        fn.manual_seed(6)
        fn.TrainStep(model, nn.CrossEntropyLoss(), opt)(X.astype(np.float64), Y)
        ends.append(bits(model, opt))
    assert ends[0] == ends[1]
    assert opt.param_groups[0].states["exp_avg"].dtype == np.float64


@every_way
def test_a_step_in_use_goes_on_as_its_copy_does(copied):
    model, opt = made("adam")
    step = fn.TrainStep(model, nn.CrossEntropyLoss(weight=[1.0, 2.0, 0.5]), opt, outputs=True)
    step(X, Y)
    other = copied(step)
    assert {id(p) for p in other.optimizer.parameters()} == {id(p) for p in other.model.parameters()}
    assert other.outputs is True
    random = fn.get_rng_state()
    loss, output = step(X, Y)
    fn.set_rng_state(random)
    loss_too, output_too = other(X, Y)
    assert loss == loss_too
    np.testing.assert_array_equal(output, output_too)
    assert bits(model, opt) == bits(other.model, other.optimizer)


@every_way
def test_a_step_with_a_function_as_its_loss_is_copied(copied):
    model, opt = made()
    step = fn.TrainStep(model, squared, opt)
    target = np.zeros((12, 3), np.float32)
    fn.manual_seed(0)
    step(X, target)
    other = copied(step)
    random = fn.get_rng_state()
    loss = step(X, target)
    fn.set_rng_state(random)
    assert loss == other(X, target)


def squared(output, target):
    return ((output - target) ** 2).mean()


@every_way
@pytest.mark.parametrize("settings", [{"weight": [1.0, 2.0, 3.0], "reduction": "sum"}, {"ignore_index": 1}], ids=str)
def test_losses_in_use_are_copied_with_their_settings(copied, settings):
    loss = nn.CrossEntropyLoss(**settings)
    loss(X[:, :3], Y)
    loss.value_and_grad(X[:, :3], Y)
    other = copied(loss)
    assert repr(other) == repr(loss)
    assert other(X[:, :3], Y) == loss(X[:, :3], Y)
    np.testing.assert_array_equal(other.value_and_grad(X[:, :3], Y)[1], loss.value_and_grad(X[:, :3], Y)[1])
    assert other.denominator(Y) == loss.denominator(Y)


# ---- trainers ------------------------------------------------------------------------------------


class Counted(callbacks.Callback):
    """Counts batches, and hears of its trainer."""

    def __init__(self):
        self.seen = 0

    def on_batch_end(self, batch, logs):
        self.seen += 1
        assert self.trainer.batch == batch + 1


def fitted(kind="adam"):
    model, opt = made(kind)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    loader = DataLoader(ArrayDataset(X, Y), batch_size=5, shuffle=True, seed=9)
    chain = [Counted(), callbacks.EarlyStopping("loss", patience=50, restore_best=False)]
    trainer.fit(loader, (X, Y), epochs=2, callbacks=chain, verbose=False)
    return trainer, loader, chain


@every_way
def test_a_trainer_after_fit_goes_on_as_its_copy_does(copied):
    trainer, loader, chain = fitted()
    other, loader_too, chain_too = copied((trainer, loader, chain))
    assert other.history.history == trainer.history.history
    assert (other.step, other.epoch, other.batch, other.epochs) == (6, 2, 0, 2)
    assert other._train_step.model is other.model
    assert other._evaluation.model is other.model
    assert other._train_step.optimizer is other.optimizer
    assert chain_too[0].seen == 6
    assert other.evaluate((X, Y)) == trainer.evaluate((X, Y))
    np.testing.assert_array_equal(other.predict(X), trainer.predict(X))
    ends, random = [], fn.get_rng_state()
    for t, data, called in ((trainer, loader, chain), (other, loader_too, chain_too)):
        fn.set_rng_state(random)
        history = t.fit(data, (X, Y), epochs=4, initial_epoch=2, callbacks=called, verbose=False)
        del history.history["samples_per_second"]
        ends.append((history.epoch, history.history, bits(t.model, t.optimizer), called[0].seen))
    assert ends[0] == ends[1]


@every_way
def test_a_checkpoint_of_a_copied_trainer_is_that_of_the_original(copied, tmp_path):
    trainer, _, _ = fitted()
    other = copied(trainer)
    for name, t in (("a", trainer), ("b", other)):
        t.save_checkpoint(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@every_way
def test_a_trainer_copied_by_a_callback_in_the_middle_of_an_epoch_evaluates_as_it_then_did(copied):
    taken, scores = [], []

    class Copies(callbacks.Callback):
        def on_batch_end(self, batch, logs):
            if batch == 1:
                taken.append(copied(self.trainer.model))
                scores.append(self.trainer.evaluate((X, Y)))

    trainer, loader, _ = fitted()
    trainer.fit(loader, epochs=2, callbacks=[Copies()], verbose=False)
    for model, score in zip(taken, scores, strict=True):
        assert fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters())).evaluate((X, Y)) == score


# ---- functions -----------------------------------------------------------------------------------


def weighted(x, y):
    return (F.sigmoid(x) * y).sum()


@every_way
@pytest.mark.parametrize("make", [fn.trace, fn.value_and_grad, fn.grad, lambda f: fn.value_and_grad(f, 1)])
def test_a_function_in_use_gives_the_same_as_its_copy(copied, make):
    function = make(weighted)
    expected = function(X, X)
    other = copied(function)
    assert other.function is weighted
    assert str(other(X, X)) == str(expected)


@every_way
def test_a_method_of_a_model_is_copied_with_the_model(copied):
    model = Net().eval()
    function = fn.trace(model.forward)
    function(X)
    other = copied(function)
    before = function(X)
    model.head.weight.data[...] = 0
    np.testing.assert_array_equal(other(X), before)


# ---- other processes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield lambda function, *args: pool.apply_async(function, args).get(60)


def trained_there(model, opt, random):
    fn.set_rng_state(random)
    losses = steps(model, opt, 3)
    return losses, model, opt


def test_a_spawned_process_trains_on_with_the_bits_of_this_one_and_sends_the_model_back(process):
    model, opt = made("adam")
    steps(model, opt, 2)
    before, random = bits(model, opt), fn.get_rng_state()
    losses, *there = process(trained_there, model, opt, random)
    assert bits(model, opt) == before
    fn.set_rng_state(random)
    assert steps(model, opt, 3) == losses
    assert bits(model, opt) == bits(*there)
    assert steps(*there, 1)  # and what came back can be used on


def called_there(function, *args):
    return function(*args)


def test_a_spawned_process_calls_models_steps_trainers_and_functions(process):
    trainer, _, _ = fitted()
    model = trainer.model.eval()
    np.testing.assert_array_equal(process(called_there, model, X), model(X))
    np.testing.assert_array_equal(process(called_there, model.frozen(), X), model.frozen()(X))
    assert process(called_there, trainer.evaluate, (X, Y)) == trainer.evaluate((X, Y))
    assert process(called_there, trainer._train_step, X, Y) == trainer._train_step(X, Y)
    value, grads = fn.value_and_grad(weighted)(X, X)
    value_there, grads_there = process(called_there, fn.value_and_grad(weighted), X, X)
    assert value == value_there
    for a, b in zip(grads, grads_there, strict=True):
        np.testing.assert_array_equal(a, b)
