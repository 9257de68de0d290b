"""Learning-rate schedules: PyTorch's values to the last digit, by step and by epoch, stopped and resumed."""

import inspect
import json

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.optim import lr_scheduler
from fastnn.train import callbacks

STEPS = 50
#: Each makes a schedule for an optimizer, of ours or of PyTorch's module.
SCHEDULES = {
    "constant": lambda kit, opt: kit.ConstantLR(opt, 0.3, 7),
    "step": lambda kit, opt: kit.StepLR(opt, 7, 0.3),
    "multi-step": lambda kit, opt: kit.MultiStepLR(opt, [3, 11, 11, 30], 0.7),
    "exponential": lambda kit, opt: kit.ExponentialLR(opt, 0.93),
    "polynomial": lambda kit, opt: kit.PolynomialLR(opt, 37, 1.7),
    "linear warm-up": lambda kit, opt: kit.LinearLR(opt, 0.1, total_iters=13),
    "linear": lambda kit, opt: kit.LinearLR(opt, 0.9, 0.2, 40),
    "cosine": lambda kit, opt: kit.CosineAnnealingLR(opt, 17, 0.003),
    "warm restarts": lambda kit, opt: kit.CosineAnnealingWarmRestarts(opt, 5, 2, 0.003),
    "restarts alike": lambda kit, opt: kit.CosineAnnealingWarmRestarts(opt, 7),
    "triangular": lambda kit, opt: kit.CyclicLR(opt, 0.001, 0.1, 7, 5),
    "triangular2": lambda kit, opt: kit.CyclicLR(opt, [0.001, 0.002], [0.1, 0.3], 6, mode="triangular2"),
    "exp_range": lambda kit, opt: kit.CyclicLR(opt, 0.001, 0.1, 6, mode="exp_range", gamma=0.97),
    "cycle of a function": lambda kit, opt: kit.CyclicLR(
        opt, 0.001, 0.1, 6, scale_fn=lambda x: 1 / (1 + x), scale_mode="iterations", cycle_momentum=False
    ),
    "one cycle": lambda kit, opt: kit.OneCycleLR(opt, 0.3, STEPS),
    "one cycle, linear": lambda kit, opt: kit.OneCycleLR(
        opt, [0.3, 0.1], epochs=10, steps_per_epoch=6, pct_start=0.25, anneal_strategy="linear", three_phase=True
    ),
    "lambda": lambda kit, opt: kit.LambdaLR(opt, [lambda i: 0.9**i, lambda i: 1 / (1 + i)]),
    "multiplicative": lambda kit, opt: kit.MultiplicativeLR(opt, lambda i: 1 - 0.01 * i),
    "chained": lambda kit, opt: kit.ChainedScheduler(
        [kit.LinearLR(opt, 0.1, total_iters=5), kit.ExponentialLR(opt, 0.9)]
    ),
    "warm-up, then cosine": lambda kit, opt: kit.SequentialLR(
        opt, [kit.LinearLR(opt, 0.1, total_iters=7), kit.CosineAnnealingLR(opt, 31, 0.003)], [7]
    ),
    "everything in turn": lambda kit, opt: kit.SequentialLR(
        opt,
        [
            kit.ConstantLR(opt, 0.5, 3), kit.StepLR(opt, 2, 0.5), kit.MultiStepLR(opt, [2], 0.3),
            kit.PolynomialLR(opt, 6), kit.LambdaLR(opt, lambda i: 0.8**i), kit.MultiplicativeLR(opt, lambda i: 0.9),
            kit.CosineAnnealingWarmRestarts(opt, 3, 2), kit.ExponentialLR(opt, 0.9),
        ],
        [5, 10, 15, 20, 25, 30, 40],
    ),
}  # fmt: skip
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def groups(kit, parameter):
    return kit([{"params": [parameter()]}, {"params": [parameter()], "lr": 0.07}], lr=0.1, momentum=0.9)


def ours():
    return groups(optim.SGD, lambda: nn.Parameter(np.ones(3)))


def settings(opt):
    return [(group["lr"], group["momentum"]) for group in opt.param_groups]


@every_schedule
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")
def test_rates_are_pytorchs_to_the_last_digit(name):
    torch = pytest.importorskip("torch")
    opt, torch_opt = ours(), groups(torch.optim.SGD, lambda: torch.ones(3, requires_grad=True))
    mine = SCHEDULES[name](lr_scheduler, opt)
    theirs = SCHEDULES[name](torch.optim.lr_scheduler, torch_opt)
    seen = set()
    for i in range(STEPS + 1):
        assert settings(opt) == settings(torch_opt), i
        assert mine.get_last_lr() == theirs.get_last_lr()
        seen.add(opt.lr)
        if i < STEPS:
            mine.step()
            theirs.step()
    assert len(seen) > 1


def test_betas_go_with_the_cycle_where_there_is_no_momentum():
    torch = pytest.importorskip("torch")
    opt = optim.Adam([nn.Parameter(np.ones(3))])
    torch_opt = torch.optim.Adam([torch.ones(3, requires_grad=True)])
    mine = SCHEDULES["one cycle"](lr_scheduler, opt)
    theirs = SCHEDULES["one cycle"](torch.optim.lr_scheduler, torch_opt)
    for _ in range(STEPS):
        assert opt.param_groups[0]["betas"] == torch_opt.param_groups[0]["betas"]
        mine.step()
        torch_opt.step()
        theirs.step()
    assert opt.param_groups[0]["betas"] == torch_opt.param_groups[0]["betas"] != (0.9, 0.999)


@pytest.mark.parametrize(
    "how",
    [
        {"patience": 2},
        {"patience": 1, "cooldown": 3, "factor": 0.5},
        {"mode": "max", "patience": 2, "threshold": 0.01},
        {"mode": "max", "patience": 2, "threshold": 0.3, "threshold_mode": "abs"},
        {"patience": 0, "threshold": 0.1, "threshold_mode": "abs", "factor": 0.8, "min_lr": [0.01, 0.02]},
    ],
)
def test_a_plateau_reduces_the_rates_as_in_pytorch(how):
    torch = pytest.importorskip("torch")
    opt, torch_opt = ours(), groups(torch.optim.SGD, lambda: torch.ones(3, requires_grad=True))
    mine = lr_scheduler.ReduceLROnPlateau(opt, **how)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(torch_opt, **how)
    for figure in [*np.random.default_rng(0).standard_normal(STEPS), float("nan"), -5.0]:
        mine.step(figure)
        theirs.step(figure)
        assert settings(opt) == settings(torch_opt)
        assert (mine.best, mine.num_bad_epochs) == (theirs.best, theirs.num_bad_epochs)
    assert opt.lr < 0.1


def test_inverse_time_decay_is_keras():
    for staircase in (False, True):
        opt = ours()
        schedule = lr_scheduler.InverseTimeLR(opt, 4, 0.5, staircase)
        for step in range(STEPS):
            at = step // 4 if staircase else step / 4
            assert schedule.get_last_lr() == [0.1 / (1 + 0.5 * at), 0.07 / (1 + 0.5 * at)]
            schedule.step()


@pytest.mark.parametrize(
    "name", [name for name in vars(lr_scheduler) if name.endswith(("LR", "Restarts", "Plateau", "Scheduler"))]
)
def test_arguments_and_defaults_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim.lr_scheduler, name):
        pytest.skip(f"PyTorch has no {name}")

    def arguments(kit):
        parameters = inspect.signature(getattr(kit, name)).parameters.values()
        return [(p.name, p.default) for p in parameters if p.name not in ("last_epoch", "kwargs", "args")]

    assert arguments(lr_scheduler) == arguments(torch.optim.lr_scheduler)


# ---- resumed ---------------------------------------------------------------------------------------


@every_schedule
def test_a_schedule_resumed_at_any_step_goes_on_with_the_same_rates(name):
    opt = ours()
    schedule = SCHEDULES[name](lr_scheduler, opt)
    states, rates = [], []
    for _ in range(STEPS):
        states.append(json.loads(json.dumps([schedule.state_dict(), opt.state_dict()["groups"]])))
        rates.append(settings(opt))
        schedule.step()
    for at in range(0, STEPS, 7):
        other = ours()
        resumed = SCHEDULES[name](lr_scheduler, other)
        state, saved = states[at]
        other.load_state_dict({**other.state_dict(), "groups": saved})
        resumed.load_state_dict(state)
        for expected in rates[at:]:
            assert settings(other) == expected
            resumed.step()


def test_a_plateau_resumed_goes_on_with_the_same_rates():
    figures = np.random.default_rng(0).standard_normal(STEPS)
    whole, first, second = ours(), ours(), ours()
    schedule = lr_scheduler.ReduceLROnPlateau(whole, patience=2, cooldown=1)
    half = lr_scheduler.ReduceLROnPlateau(first, patience=2, cooldown=1)
    for figure in figures:
        schedule.step(figure)
    for figure in figures[:8]:
        half.step(figure)
    rest = lr_scheduler.ReduceLROnPlateau(second, patience=2, cooldown=1)
    second.load_state_dict(first.state_dict())
    rest.load_state_dict(half.state_dict())
    for figure in figures[8:]:
        rest.step(figure)
    assert settings(second) == settings(whole)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (None, TypeError),
        ({}, ValueError),
        ({"last_epoch": -1, "base_lrs": [0.1, 0.07]}, ValueError),
        ({"last_epoch": 1.5, "base_lrs": [0.1, 0.07]}, TypeError),
        ({"last_epoch": 1, "base_lrs": [0.1]}, ValueError),
        ({"last_epoch": 1, "base_lrs": [0.1, "x"]}, TypeError),
        ({"last_epoch": 1, "base_lrs": [0.1, 0.07], "more": 1}, ValueError),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(state, error):
    schedule = lr_scheduler.StepLR(ours(), 3)
    before = schedule.state_dict()
    with pytest.raises(error):
        schedule.load_state_dict(state)
    assert schedule.state_dict() == before
    chain = lr_scheduler.ChainedScheduler([schedule])
    with pytest.raises((TypeError, ValueError)):
        chain.load_state_dict({"last_epoch": 1, "schedulers": [state]})
    assert schedule.state_dict() == before


# ---- in training -----------------------------------------------------------------------------------

X, Y = fn.data.moons(60, seed=0)


class Stop(Exception):
    pass


class Rates(callbacks.Callback):
    """The rate of each batch; stops after one of them, if asked to."""

    order = 1

    def __init__(self, path=None, stop=None):
        self.rates, self.path, self.stop = [], path, stop

    def on_batch_end(self, batch, logs):
        self.rates.append(self.trainer.optimizer.lr)
        if len(self.rates) == self.stop:
            self.trainer.save_checkpoint(self.path)
            raise Stop


def training(name, every, monitor="loss"):
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    params = list(model.parameters())
    opt = optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 0.07}], lr=0.1, momentum=0.9)
    if name == "plateau":
        schedule = lr_scheduler.ReduceLROnPlateau(opt, patience=0, threshold=10.0, factor=0.9)
    else:
        schedule = SCHEDULES[name](lr_scheduler, opt)
    scheduler = callbacks.Scheduler(schedule, every=every, monitor=monitor)
    return fn.Trainer(model, nn.CrossEntropyLoss(), opt), scheduler


def fit(trainer, *given, **more):
    trainer.fit((X, Y), epochs=4, batch_size=20, seed=4, verbose=False, callbacks=given, **more)
    return b"".join(array.tobytes() for array in trainer.model.state_dict().values())


def test_a_schedule_moves_after_each_update_or_after_each_epoch():
    twin = ours()
    expected = SCHEDULES["warm restarts"](lr_scheduler, twin)
    by_step = [twin.lr]
    for _ in range(12):
        expected.step()
        by_step.append(twin.lr)
    for every, wanted in (("step", by_step[1:13]), ("epoch", [rate for rate in by_step[:4] for _ in range(3)])):
        trainer, scheduler = training("warm restarts", every)
        seen = Rates()
        fit(trainer, scheduler, seen)
        assert seen.rates == wanted
        assert trainer._train_step._programs.count() == 1


@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize("name", ["warm restarts", "triangular2", "one cycle", "warm-up, then cosine", "plateau"])
def test_a_training_stopped_at_any_batch_and_resumed_has_the_same_rates_and_bits(tmp_path, name, every):
    trainer, scheduler = training(name, every)
    whole = Rates()
    bits = fit(trainer, scheduler, whole)
    assert len(set(whole.rates)) > 1
    for stop in range(1, 12):
        path = tmp_path / f"{stop}.safetensors"
        trainer, scheduler = training(name, every)
        with pytest.raises(Stop):
            fit(trainer, scheduler, Rates(path, stop))
        trainer, scheduler = training(name, every)
        rest = Rates()
        assert fit(trainer, scheduler, rest, resume=path) == bits
        assert rest.rates == whole.rates[12 - len(rest.rates) :]


def test_a_step_that_is_made_again_moves_the_schedule_once():
    """As after Ctrl-C within it: the call of a batch is repeated."""
    trainer, scheduler = training("exponential", "step")

    class Again(callbacks.Callback):
        def on_batch_end(self, batch, logs):
            scheduler.on_batch_end(batch, logs)

    once = Rates()
    fit(trainer, scheduler, once)
    trainer, scheduler = training("exponential", "step")
    twice = Rates()
    fit(trainer, scheduler, Again(), twice)
    assert twice.rates == once.rates


def test_a_plateau_needs_a_figure_that_the_logs_have():
    trainer, scheduler = training("plateau", "epoch", monitor="val_loss")
    with pytest.raises(ValueError, match="val_loss"):
        fit(trainer, scheduler)
