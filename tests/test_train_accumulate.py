"""Gradients of several batches for one update."""

import copy

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

from native import on_threads
from optimizers import every_kind_in_torch, make

RNG = np.random.default_rng(8)
X, Y = RNG.standard_normal((24, 4)), RNG.standard_normal((24, 3))
BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]


def two_heads(kit, double):
    class Heads(kit.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.a, self.b = (double(kit.Linear(*s)) for s in ((4, 5), (5, 3), (5, 3)))
            self.which = "a"

        def forward(self, x):
            return getattr(self, self.which)(self.trunk(x).tanh())

    return Heads()


def heads(seed=0):
    fn.manual_seed(seed)
    return two_heads(nn, lambda layer: layer.double())


def bits(model, opt):
    arrays = [*model.state_dict().values(), *(a for group in opt.state_dict()["state"] for a in group.values())]
    return b"".join(a.tobytes() for a in arrays)


@every_kind_in_torch
@pytest.mark.parametrize("norm", [None, 0.05])
def test_an_update_is_made_of_the_mean_of_all_gradients_as_in_pytorch(torch_counts_in_double, kind, norm):
    """The heads are reached by some of the batches each, so that gradients begin and go on at different calls."""
    torch = pytest.importorskip("torch")
    ours, theirs = heads(), two_heads(torch.nn, lambda layer: layer.double())
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    opt = make(kind, ours.parameters(), clip_grad_norm=norm)
    torch_opt = make(kind, theirs.parameters(), torch.optim)
    step = fn.TrainStep(ours, nn.MSELoss(), opt, accumulate=3)
    for which, way in (("aab", 0), ("bba", 1), ("bbb", 0), ("aba", 1)):
        before = bits(ours, opt)
        for i, head in enumerate(which):
            assert bits(ours, opt) == before
            x, y = BATCHES[i + 3 * way]
            ours.which = theirs.which = head
            loss = step(x, y)
            expected = torch.nn.functional.mse_loss(theirs(torch.tensor(x)), torch.tensor(y))
            (expected / 3).backward()
            assert loss == pytest.approx(expected.item(), rel=1e-11)
        if norm is not None:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), norm)
        torch_opt.step()
        for name, p in theirs.named_parameters():
            mine = dict(ours.named_parameters())[name]
            assert (mine.grad is None) == (p.grad is None)
            if p.grad is not None and norm is None:
                np.testing.assert_allclose(mine.grad, p.grad, rtol=1e-9, atol=1e-13)
            np.testing.assert_allclose(mine.data, p.detach(), rtol=1e-9, atol=1e-12)
        torch_opt.zero_grad()
    assert opt.param_groups[0].steps == 4


def test_batches_of_one_size_are_as_one_large_batch():
    model, twin = heads(), heads()
    opt, other = optim.SGD(model.parameters(), lr=0.1), optim.SGD(twin.parameters(), lr=0.1)
    step, whole = fn.TrainStep(model, nn.MSELoss(), opt, accumulate=6), fn.TrainStep(twin, nn.MSELoss(), other)
    for _ in range(3):
        losses = [step(*batch) for batch in BATCHES]
        assert np.mean(losses) == pytest.approx(whole(X, Y), rel=1e-12)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-12, atol=1e-15)


def test_a_batch_that_is_refused_does_not_count():
    model = heads()
    opt = optim.Adam(model.parameters())
    step = fn.TrainStep(model, nn.MSELoss(), opt, accumulate=2, finite=True)
    twin = heads()
    other = optim.Adam(twin.parameters())
    expected = fn.TrainStep(twin, nn.MSELoss(), other, accumulate=2)
    for batch in BATCHES[:4]:
        with pytest.raises(ValueError, match=r"target|input|size|shape"):
            step(X[:4], Y[:3])
        with pytest.raises(FloatingPointError):
            step(X[:4] * np.nan, Y[:4])
        assert step(*batch) == expected(*batch)
    assert bits(model, opt) == bits(twin, other)
    assert opt.param_groups[0].steps == 2


def test_an_update_that_was_interrupted_is_made_first():
    model, twin = heads(), heads()
    opt, other = optim.Adam(model.parameters()), optim.Adam(twin.parameters())
    step = fn.TrainStep(model, nn.MSELoss(), opt, accumulate=2)
    expected = fn.TrainStep(twin, nn.MSELoss(), other, accumulate=2)
    step(*BATCHES[0])
    update, opt._update = opt._update, lambda programs: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        step(*BATCHES[1])
    opt._update = update
    step(*BATCHES[2])
    for batch in BATCHES[:3]:
        expected(*batch)
    assert bits(model, opt) == bits(twin, other)


def test_the_bits_are_the_same_on_all_threads_and_of_copies():
    def trained():
        model = heads()
        opt = optim.Adam(model.parameters(), lr=0.01)
        step = fn.TrainStep(model, nn.MSELoss(), opt, accumulate=3)
        for batch in BATCHES[:4]:
            step(*batch)
        other = copy.deepcopy(step)
        for batch in BATCHES[4:]:
            step(*batch)
            other(*batch)
        assert bits(other.model, other.optimizer) == bits(model, opt)
        return bits(model, opt)

    first, *rest = on_threads(trained, (1, 2, 3, 8))
    assert all(one == first for one in rest)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_what_is_no_count_is_refused(value, error):
    model = heads()
    with pytest.raises(error, match="accumulate"):
        fn.TrainStep(model, nn.MSELoss(), optim.SGD(model.parameters()), accumulate=value)
