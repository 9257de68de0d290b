"""Learning-rate schedules, under PyTorch's names and with its values.

A schedule sets its optimizer's rates when it is made, and again at each `step()`, which is called after each epoch or
each update, as the schedule is meant; `callbacks.Scheduler` does so in a `Trainer`. Rates are numbers that the native
update reads: a new one costs no new plan.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastnn import _check
from fastnn.optim.optimizer import Optimizer
from fastnn_ext.atomic import assign

#: The settings that schedules change.
CYCLED = ("lr", "momentum", "betas")

#: A rate, or one for each group.
Rates = float | Sequence[float]


class LRScheduler:
    """Base of the schedules: a subclass says in `get_lr` what the rates of step `last_epoch` are.

    Parameters
    ----------
    optimizer : Optimizer

    Attributes
    ----------
    base_lrs : list of float
        The groups' rates when their first schedule was made.
    last_epoch : int
        How many steps have been made.

    Examples
    --------
    >>> schedule = optim.lr_scheduler.StepLR(opt, step_size=30, gamma=0.1)
    >>> for epoch in range(3):
    ...     for xb, yb in DataLoader((x, y), batch_size=64):
    ...         loss = fn.TrainStep(model, nn.CrossEntropyLoss(), opt)(xb, yb)
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.1]
    """

    #: What `state_dict` gives: names of attributes, of plain values.
    state_names: tuple[str, ...] = ("last_epoch", "base_lrs")

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = _check.instance("optimizer", optimizer, Optimizer)
        for group in optimizer.param_groups:
            if group.initial_lr is None:
                group.initial_lr = group["lr"]
        self.base_lrs = [float(group.initial_lr or 0.0) for group in optimizer.param_groups]
        self._restart()
        self._apply()

    def _restart(self) -> None:
        """Count from 0."""
        self.last_epoch = 0

    def _apply(self) -> None:
        """Set the rates of the step."""
        self._set(self.get_lr())

    def _begin(self) -> None:
        """Set the rates of step 0, as if the schedule were the only one."""
        self._restart()
        self._set(self.base_lrs)
        self._apply()

    def _begin_again(self) -> None:
        """As `_begin`, after other schedules; what rounding makes another way is as PyTorch's."""
        self._begin()

    def get_lr(self) -> list[float]:
        """The groups' rates at step `last_epoch`, from those that they have."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The groups' rates."""
        return self._settings("lr")

    def step(self) -> None:
        """Set the rates of the next step."""
        self.last_epoch += 1
        self._apply()

    def _settings(self, name: str) -> list[Any]:
        return [group[name] for group in self.optimizer.param_groups]

    def _set(self, rates: Iterable[float], name: str = "lr") -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group[name] = rate

    def _each(self, name: str, value: Rates) -> list[float]:
        """A number for each group."""
        groups = len(self.optimizer.param_groups)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * groups
        if len(values) != groups:
            raise ValueError(f"{name} must have a number for each of the {groups} groups, got {len(values)}")
        return [_check.real(name, number) for number in values]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the optimizer's state: plain values."""
        return {name: getattr(self, name) for name in self.state_names}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError or TypeError if `load_state_dict` would."""
        if not isinstance(state, Mapping):
            raise TypeError(f"the state must be a mapping, got {type(state).__name__}")
        own = self.state_dict()
        if state.keys() != own.keys():
            raise ValueError(f"the state holds {_check.some(state)}; {type(self).__name__} has {_check.some(own)}")
        for name, mine in own.items():
            _check_like(name, state[name], mine)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to a state that `state_dict` gave; the optimizer's own has its rates.

        Raises
        ------
        TypeError, ValueError
            If it is none of such a schedule; nothing is changed then.
        """
        self.check_state(state)
        values = {name: _check.plain(state[name]) for name in self.state_names}
        assign([], [(self.__dict__, name, value) for name, value in values.items()])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(last_epoch={self.last_epoch}, lr={self.get_last_lr()})"


def _check_like(name: str, value: Any, mine: Any) -> None:
    """ValueError or TypeError unless a value of a state is of the kind of the own one."""
    if isinstance(mine, list):
        if not isinstance(value, (list, tuple)) or len(value) != len(mine):
            raise ValueError(f"{name} must hold {len(mine)} entries, got {_check.brief(value)}")
        for entry, own in zip(value, mine, strict=True):
            _check_like(name, entry, own)
    elif isinstance(mine, int):
        _check.count(name, value)
    elif value not in (math.inf, -math.inf):
        _check.real(name, value)


def _positive(name: str, value: int) -> int:
    return _check.integer(name, value, 1)


class LambdaLR(LRScheduler):
    """The first rate times any function of the step, as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    lr_lambda : callable, or list of callable for each group
        lr_lambda(step) gives the factor.

    Examples
    --------
    >>> schedule = optim.lr_scheduler.LambdaLR(opt, lambda step: 0.95**step)
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        groups = len(_check.instance("optimizer", optimizer, Optimizer).param_groups)
        self.lr_lambdas: list[Callable[[int], float]]
        several = isinstance(lr_lambda, (list, tuple))
        self.lr_lambdas = list(lr_lambda) if several else [lr_lambda] * groups  # type: ignore[arg-type, list-item]
        if len(self.lr_lambdas) != groups or not all(map(callable, self.lr_lambdas)):
            raise TypeError(
                "lr_lambda must be a function of the step, as lambda step: 0.95**step, or a list of one for each of "
                f"the {groups} groups, got {_check.brief(lr_lambda)}"
            )
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [base * factor for base, factor in zip(self.base_lrs, self._factors(), strict=True)]

    def _factors(self) -> list[float]:
        return [_check.real("lr_lambda(step)", function(self.last_epoch)) for function in self.lr_lambdas]


class MultiplicativeLR(LambdaLR):
    """The rate times a function of the step at each step, as PyTorch's; lr_lambda is as LambdaLR's."""

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self.get_last_lr()
        return self._multiplied()

    def _multiplied(self) -> list[float]:
        return [rate * factor for rate, factor in zip(self.get_last_lr(), self._factors(), strict=True)]

    def _begin_again(self) -> None:
        self._restart()
        self._set(self._multiplied())


class InverseTimeLR(LRScheduler):
    """Inverse time decay: the first rate / (1 + decay_rate * step / decay_steps), as Keras' InverseTimeDecay.

    Parameters
    ----------
    optimizer : Optimizer
    decay_steps : int
    decay_rate : float
    staircase : bool, default False
        Whether step / decay_steps is rounded down.

    Examples
    --------
    >>> schedule = optim.lr_scheduler.InverseTimeLR(opt, decay_steps=1, decay_rate=0.5)
    """

    def __init__(self, optimizer: Optimizer, decay_steps: int, decay_rate: float, staircase: bool = False) -> None:
        self.decay_steps = _positive("decay_steps", decay_steps)
        self.decay_rate = _check.real("decay_rate", decay_rate, 0)
        self.staircase = _check.flag("staircase", staircase)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        at = self.last_epoch // self.decay_steps if self.staircase else self.last_epoch / self.decay_steps
        return [base / (1 + self.decay_rate * at) for base in self.base_lrs]


class StepLR(LRScheduler):
    """A staircase: times gamma every step_size steps, as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
    gamma : float, default 0.1

    Examples
    --------
    >>> schedule = optim.lr_scheduler.StepLR(opt, step_size=30)
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = _positive("step_size", step_size)
        self.gamma = _check.real("gamma", gamma, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        down = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [rate * self.gamma for rate in self.get_last_lr()] if down else self.get_last_lr()


class MultiStepLR(LRScheduler):
    """Times gamma at each of the milestones, as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    milestones : list of int
    gamma : float, default 0.1

    Examples
    --------
    >>> schedule = optim.lr_scheduler.MultiStepLR(opt, milestones=[30, 80])
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.milestones = Counter(_check.integer("milestones", at, 0) for at in milestones)
        self.gamma = _check.real("gamma", gamma, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        times = self.milestones[self.last_epoch]
        return [rate * self.gamma**times for rate in self.get_last_lr()] if times else self.get_last_lr()


class ExponentialLR(LRScheduler):
    """Times gamma at each step, as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    gamma : float

    Examples
    --------
    >>> schedule = optim.lr_scheduler.ExponentialLR(opt, gamma=0.95)
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = _check.real("gamma", gamma, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [rate * self.gamma for rate in self.get_last_lr()] if self.last_epoch else self.get_last_lr()


class ConstantLR(LRScheduler):
    """Times factor until total_iters steps are made, as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    factor : float, default 1/3
    total_iters : int, default 5

    Examples
    --------
    >>> schedule = optim.lr_scheduler.ConstantLR(opt, factor=0.5, total_iters=4)
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5) -> None:
        self.factor = _check.real("factor", factor, 0, 1)
        self.total_iters = _check.integer("total_iters", total_iters, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [rate * self.factor for rate in self.get_last_lr()]
        if self.last_epoch != self.total_iters:
            return self.get_last_lr()
        return [rate * (1.0 / self.factor) for rate in self.get_last_lr()]


class LinearLR(LRScheduler):
    """Along a line from start_factor to end_factor times the rate, over total_iters steps, as PyTorch's: a warm-up.

    Parameters
    ----------
    optimizer : Optimizer
    start_factor : float, default 1/3
    end_factor : float, default 1
    total_iters : int, default 5

    Examples
    --------
    >>> schedule = optim.lr_scheduler.LinearLR(opt, start_factor=0.01, total_iters=500)
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor = _check.real("start_factor", start_factor, 0, 1)
        if self.start_factor == 0:
            raise ValueError("start_factor must be above 0, got 0")
        self.end_factor = _check.real("end_factor", end_factor, 0, 1)
        self.total_iters = _positive("total_iters", total_iters)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [rate * self.start_factor for rate in self.get_last_lr()]
        if self.last_epoch > self.total_iters:
            return self.get_last_lr()
        rise = self.end_factor - self.start_factor
        at = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return [rate * (1.0 + rise / at) for rate in self.get_last_lr()]


class PolynomialLR(LRScheduler):
    """Down to 0 over total_iters steps, as (1 - step / total_iters) ** power, as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    total_iters : int, default 5
    power : float, default 1

    Examples
    --------
    >>> schedule = optim.lr_scheduler.PolynomialLR(opt, total_iters=100, power=2.0)
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters = _positive("total_iters", total_iters)
        self.power = _check.real("power", power, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch > self.total_iters:
            return self.get_last_lr()
        left = 1.0 - self.last_epoch / self.total_iters
        factor = (left / (1.0 - (self.last_epoch - 1) / self.total_iters)) ** self.power
        return [rate * factor for rate in self.get_last_lr()]


class CosineAnnealingLR(LRScheduler):
    """Along half a cosine from the rate to eta_min over T_max steps, and up again (Loshchilov and Hutter, 2017,
    without restarts), as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
    eta_min : float, default 0

    Examples
    --------
    >>> schedule = optim.lr_scheduler.CosineAnnealingLR(opt, T_max=90)
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = _positive("T_max", T_max)
        self.eta_min = _check.real("eta_min", eta_min, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self.get_last_lr()
        pairs = zip(self.base_lrs, self.get_last_lr(), strict=True)
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            rise = 1 - math.cos(math.pi / self.T_max)
            return [rate + (base - self.eta_min) * rise / 2 for base, rate in pairs]
        now = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        before = 1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)
        return [now / before * (rate - self.eta_min) + self.eta_min for _, rate in pairs]

    def _begin_again(self) -> None:
        self._restart()
        self._set(self.eta_min + (base - self.eta_min) * 2.0 / 2 for base in self.base_lrs)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Along half a cosine from the rate to eta_min, again and again (SGDR; Loshchilov and Hutter, 2017), as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    T_0 : int
        Steps until the first restart.
    T_mult : int, default 1
        By which a period is longer than the one before.
    eta_min : float, default 0

    Examples
    --------
    >>> schedule = optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=10, T_mult=2)
    """

    state_names = (*LRScheduler.state_names, "T_cur", "T_i")

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        self.T_0 = _positive("T_0", T_0)
        self.T_mult = _positive("T_mult", T_mult)
        self.eta_min = _check.real("eta_min", eta_min, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        down = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * down / 2 for base in self.base_lrs]

    def _restart(self) -> None:
        self.T_cur, self.T_i = 0, self.T_0
        super()._restart()

    def step(self) -> None:
        self.T_cur += 1
        if self.T_cur >= self.T_i:
            self.T_cur = self.T_cur % self.T_i
            self.T_i = self.T_i * self.T_mult
        super().step()


class _MomentumCycle(LRScheduler):
    """A schedule that may move the momentum, or beta1, against the rate."""

    def _take_momenta(self, base: Rates, most: Rates) -> None:
        defaults = self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise ValueError(
                f"cycle_momentum needs an optimizer with momentum or betas, and {type(self.optimizer).__name__} has "
                "none; set cycle_momentum=False"
            )
        self.base_momentums, self.max_momentums = self._each("base_momentum", base), self._each("max_momentum", most)
        self._set_momenta(self.max_momentums)

    def _start_at(self, rates: list[float]) -> None:
        """Begin with rates of its own."""
        self._set(rates)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group.initial_lr = rate

    def _set_momenta(self, momenta: Iterable[float]) -> None:
        if "betas" in self.optimizer.defaults:
            pairs = zip(momenta, self._settings("betas"), strict=True)
            self._set(((momentum, betas[1]) for momentum, betas in pairs), "betas")  # type: ignore[misc]
        else:
            self._set(momenta, "momentum")


class CyclicLR(_MomentumCycle):
    """Between base_lr and max_lr, up and down in straight lines (Smith, 2017), as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    base_lr, max_lr : float, or list of float for each group
    step_size_up : int, default 2000
    step_size_down : int, optional
        As step_size_up by default.
    mode : {"triangular", "triangular2", "exp_range"}
        All cycles alike; each half as high as the one before; times gamma ** step.
    gamma : float, default 1
    scale_fn : callable, optional
        In place of mode: the height as a function of the cycle (from 1 on) or of the step.
    scale_mode : {"cycle", "iterations"}
        Of what scale_fn is a function.
    cycle_momentum : bool, default True
        Whether the momentum, or beta1, goes from max_momentum down to base_momentum as the rate goes up.
    base_momentum, max_momentum : float, default 0.8 and 0.9

    Examples
    --------
    >>> schedule = optim.lr_scheduler.CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=100, mode="triangular2")
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: Rates,
        max_lr: Rates,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: Rates = 0.8,
        max_momentum: Rates = 0.9,
    ) -> None:
        self.optimizer = _check.instance("optimizer", optimizer, Optimizer)
        self.mode = _check.choice("mode", mode, "triangular", "triangular2", "exp_range")
        self.scale_mode = _check.choice("scale_mode", scale_mode, "cycle", "iterations")
        if scale_fn is not None and not callable(scale_fn):
            raise TypeError(f"scale_fn must be a function, got {_check.brief(scale_fn)}")
        self.scale_fn = scale_fn
        self.gamma = _check.real("gamma", gamma, 0)
        up = _positive("step_size_up", step_size_up)
        self.total_size = up + (up if step_size_down is None else _positive("step_size_down", step_size_down))
        self.step_ratio = up / self.total_size
        self.max_lrs = self._each("max_lr", max_lr)
        base_lrs = self._each("base_lr", base_lr)
        self.cycle_momentum = _check.flag("cycle_momentum", cycle_momentum)
        if cycle_momentum:
            self._take_momenta(base_momentum, max_momentum)
        self._start_at(base_lrs)
        super().__init__(optimizer)

    def _height(self, cycle: int) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.mode == "exp_range":
            return self.gamma**self.last_epoch
        return 1.0 if self.mode == "triangular" else 1 / (2.0 ** (cycle - 1))

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        up = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height = self._height(cycle)
        if self.cycle_momentum:
            pairs = zip(self.base_momentums, self.max_momentums, strict=True)
            self._set_momenta(most - (most - base) * up * height for base, most in pairs)
        return [base + (most - base) * up * height for base, most in zip(self.base_lrs, self.max_lrs, strict=True)]


class OneCycleLR(_MomentumCycle):
    """Up to max_lr and down below where it began, once (Smith and Topin, 2018), as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float, or list of float for each group
    total_steps : int, optional
        Of the cycle; epochs * steps_per_epoch if those are given.
    epochs, steps_per_epoch : int, optional
    pct_start : float, default 0.3
        The share of steps in which the rate goes up.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum : bool, default True
        Whether the momentum, or beta1, goes from max_momentum down to base_momentum as the rate goes up.
    base_momentum, max_momentum : float, default 0.85 and 0.95
    div_factor : float, default 25
        The rate begins at max_lr / div_factor,
    final_div_factor : float, default 1e4
        and ends at that / final_div_factor.
    three_phase : bool, default False
        Whether the rate goes down to where it began as fast as it went up, and then to its end.

    Examples
    --------
    >>> schedule = optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=1000)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: Rates,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: Rates = 0.85,
        max_momentum: Rates = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        self.optimizer = _check.instance("optimizer", optimizer, Optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            total_steps = _positive("epochs", epochs) * _positive("steps_per_epoch", steps_per_epoch)
        self.total_steps = _positive("total_steps", total_steps)
        share = _check.real("pct_start", pct_start, 0, 1)
        self.anneal_strategy = _check.choice("anneal_strategy", anneal_strategy, "cos", "linear")
        self.max_lrs = self._each("max_lr", max_lr)
        first = [most / _check.real("div_factor", div_factor) for most in self.max_lrs]
        self.min_lrs = [rate / _check.real("final_div_factor", final_div_factor) for rate in first]
        self.cycle_momentum = _check.flag("cycle_momentum", cycle_momentum)
        if cycle_momentum:
            self._take_momenta(base_momentum, max_momentum)
        # The last step of each phase, and where rates and momenta are then: as in the beginning (0), at the top (1), at
        # the end (2).
        self._phases: list[tuple[float, int]] = [(share * self.total_steps - 1, 1), (self.total_steps - 1, 2)]
        if _check.flag("three_phase", three_phase):
            self._phases.insert(1, (2 * share * self.total_steps - 2, 0))
        self._start_at(first)
        super().__init__(optimizer)

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
        return (end - start) * share + start

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"OneCycleLR has {self.total_steps} steps, and step() was called once more")
        start, begins = 0.0, 0
        for end, ends in self._phases:
            if self.last_epoch <= end or ends == 2:
                break
            start, begins = end, ends
        share = (self.last_epoch - start) / (end - start)
        if self.cycle_momentum:
            momenta = (self.max_momentums, self.base_momentums, self.max_momentums)
            pairs = zip(momenta[begins], momenta[ends], strict=True)
            self._set_momenta(self._between(a, b, share) for a, b in pairs)
        rates = (self.base_lrs, self.max_lrs, self.min_lrs)
        return [self._between(a, b, share) for a, b in zip(rates[begins], rates[ends], strict=True)]


class ReduceLROnPlateau(LRScheduler):
    """Times factor when a figure has not improved for more than `patience` steps, as PyTorch's.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}
        Whether less of the figure is better, or more.
    factor : float, default 0.1
    patience : int, default 10
    threshold : float, default 1e-4
        By which it must be better than the best so far: times the best (threshold_mode "rel"), or by itself ("abs").
    threshold_mode : {"rel", "abs"}
    cooldown : int, default 0
        Steps after a reduction that do not count.
    min_lr : float, or list of float for each group, default 0
    eps : float, default 1e-8
        A reduction by less is not made.

    Examples
    --------
    >>> schedule = optim.lr_scheduler.ReduceLROnPlateau(opt, patience=3)
    >>> schedule.step(0.7)
    """

    state_names = (*LRScheduler.state_names, "best", "cooldown_counter", "num_bad_epochs")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: Rates = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.mode = _check.choice("mode", mode, "min", "max")
        self.factor = _check.real("factor", factor, 0, 1)
        if self.factor == 1:
            raise ValueError("factor must be below 1, got 1")
        self.patience, self.cooldown = (
            _check.integer("patience", patience, 0),
            _check.integer("cooldown", cooldown, 0),
        )
        self.threshold = _check.real("threshold", threshold)
        self.threshold_mode = _check.choice("threshold_mode", threshold_mode, "rel", "abs")
        self.eps = _check.real("eps", eps, 0)
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = 0
        super().__init__(optimizer)
        self.min_lrs = self._each("min_lr", min_lr)

    def _better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "abs":
            return sign * value > sign * (self.best + sign * self.threshold)
        return sign * value > sign * (self.best * (1.0 + sign * self.threshold))

    def get_lr(self) -> list[float]:
        return self.get_last_lr()

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Take the figure of an epoch, and reduce the rates if it is time."""
        value = float(metrics)
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            pairs = zip(self.get_last_lr(), self.min_lrs, strict=True)
            lower = [(rate, max(rate * self.factor, least)) for rate, least in pairs]
            self._set(new if rate - new > self.eps else rate for rate, new in lower)


def _of_one(schedulers: Any, optimizer: Optimizer | None) -> list[LRScheduler]:
    """Several schedules of one optimizer; ValueError or TypeError if they are not."""
    if not isinstance(schedulers, (list, tuple)) or not schedulers:
        raise ValueError(f"schedulers must be a list of schedules, got {_check.brief(schedulers)}")
    for i, schedule in enumerate(schedulers):
        _check.instance(f"schedulers[{i}]", schedule, LRScheduler)
        if isinstance(schedule, ReduceLROnPlateau):
            raise ValueError(f"schedulers[{i}] is a ReduceLROnPlateau, whose step needs a figure; step it by itself")
        if schedule.optimizer is not (optimizer or schedulers[0].optimizer):
            raise ValueError(f"schedulers[{i}] belongs to another optimizer")
    return list(schedulers)


class ChainedScheduler(LRScheduler):
    """Several schedules at once, each on what those before it have set, as PyTorch's.

    Parameters
    ----------
    schedulers : list of LRScheduler
        Of one optimizer.
    optimizer : Optimizer, optional
        Theirs.

    Examples
    --------
    >>> warm_up = optim.lr_scheduler.LinearLR(opt, total_iters=20)
    >>> schedule = optim.lr_scheduler.ChainedScheduler([warm_up, optim.lr_scheduler.ExponentialLR(opt, 0.9)])
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._schedulers = _of_one(schedulers, optimizer)
        self.optimizer = self._schedulers[0].optimizer
        self.base_lrs = self._schedulers[0].base_lrs
        self.last_epoch = 0

    def get_lr(self) -> list[float]:
        return self.get_last_lr()

    def _restart(self) -> None:
        super()._restart()
        for schedule in self._schedulers:
            schedule._restart()

    def _apply(self) -> None:
        for schedule in self._schedulers:
            schedule._apply()

    def step(self) -> None:
        self.last_epoch += 1
        for schedule in self._schedulers:
            schedule.step()

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "schedulers": [s.state_dict() for s in self._schedulers]}

    def check_state(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping) or state.keys() != self.state_dict().keys():
            raise ValueError(f"the state must hold last_epoch and schedulers, got {_check.brief(state)}")
        _check.count("last_epoch", state["last_epoch"])
        states = state["schedulers"]
        if not isinstance(states, (list, tuple)) or len(states) != len(self._schedulers):
            raise ValueError(f"the state must hold {len(self._schedulers)} schedules, got {_check.brief(states)}")
        for schedule, its in zip(self._schedulers, states, strict=True):
            schedule.check_state(its)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.check_state(state)
        for schedule, its in zip(self._schedulers, state["schedulers"], strict=True):
            schedule.load_state_dict(its)
        self.last_epoch = _check.count("last_epoch", state["last_epoch"])


class SequentialLR(ChainedScheduler):
    """Schedules one after the other, as PyTorch's: each begins anew at its milestone.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : list of LRScheduler
        Of the optimizer.
    milestones : list of int
        The steps at which the second one begins, the third, and so on.

    Examples
    --------
    >>> warm_up = optim.lr_scheduler.LinearLR(opt, total_iters=5)
    >>> cosine = optim.lr_scheduler.CosineAnnealingLR(opt, T_max=95)
    >>> schedule = optim.lr_scheduler.SequentialLR(opt, [warm_up, cosine], milestones=[5])
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        super().__init__(schedulers, _check.instance("optimizer", optimizer, Optimizer))
        self.milestones = [_check.integer("milestones", at, 0) for at in milestones]
        if len(self.milestones) != len(self._schedulers) - 1 or sorted(self.milestones) != self.milestones:
            raise ValueError(
                f"milestones must say in order when all schedules but the first begin, got {self.milestones} for "
                f"{len(self._schedulers)} schedules"
            )
        self._begin()

    def _apply(self) -> None:
        self._schedulers[bisect_right(self.milestones, 0)]._apply()

    def step(self) -> None:
        self.last_epoch += 1
        place = bisect_right(self.milestones, self.last_epoch)
        if place > 0 and self.milestones[place - 1] == self.last_epoch:
            self._schedulers[place]._begin_again()
        else:
            self._schedulers[place].step()
