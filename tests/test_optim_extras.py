"""What the native step does with gradients before an update: clipping, noise, penalties; and groups that come later."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn_ext.optimizer import PIECE

from native import on_threads, run_op
from optimizers import every_kind, every_kind_in_torch, make

RNG = np.random.default_rng(3)
X = RNG.standard_normal((6, 40))
Y = 10 * RNG.standard_normal((6, 300))


def networks(torch, dtype=np.float64):
    """Two layers, the first larger than a piece of a norm; ours and PyTorch's."""
    fn.manual_seed(1)
    ours = nn.Sequential(nn.Linear(40, 300), nn.Tanh(), nn.Linear(300, 300)).to(dtype)
    theirs = torch.nn.Sequential(torch.nn.Linear(40, 300), torch.nn.Tanh(), torch.nn.Linear(300, 300))
    theirs.to(getattr(torch, np.dtype(dtype).name))
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    return ours, theirs


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


def bits(model):
    return b"".join(array.tobytes() for array in model.state_dict().values())


# ---- clipping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_are_summed_piece_by_piece(isa, dtype):
    x = RNG.standard_normal(3 * PIECE + 77).astype(dtype)
    pieces = np.array([(0, PIECE), (PIECE, 5), (PIECE + 16, 1), (PIECE + 32, PIECE), (2 * PIECE + 40, 1117)], np.int64)
    sums = np.full(len(pieces), np.nan)
    on_threads(lambda: run_op("squares", x.dtype, sums=sums, x=x, pieces=pieces, n=x.size, count=len(pieces)))
    exact = [np.sum(x[begin : begin + n].astype(np.float64) ** 2) for begin, n in pieces]
    np.testing.assert_allclose(sums, exact, rtol=1e-6 if dtype == np.float32 else 1e-14)
    total = np.zeros(1)
    run_op("total", total=total, sums=sums, count=len(sums), root=0)
    assert total == pytest.approx(sums.sum(), rel=1e-15)
    run_op("total", total=total, sums=sums, before=np.array([7.0]), count=len(sums), root=1)
    assert total == pytest.approx(np.sqrt(7 + sums.sum()), rel=1e-15)


@both_ways
@every_kind_in_torch
@pytest.mark.parametrize("most", [0.5, 1e9])
def test_clipping_by_norm_and_value_trains_as_in_pytorch(torch_counts_in_double, way, kind, most):
    torch = pytest.importorskip("torch")
    ours, theirs = networks(torch)
    opt = make(kind, ours.parameters(), clip_grad_norm=most, clip_grad_value=most / 20)
    torch_opt = make(kind, theirs.parameters(), torch.optim)
    step = way(ours, opt)
    for _ in range(5):
        loss = step(X, Y)
        torch_opt.zero_grad()
        expected = torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(Y))
        expected.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), most)
        torch.nn.utils.clip_grad_value_(theirs.parameters(), most / 20)
        torch_opt.step()
        assert norm > 0.6
        assert loss == pytest.approx(expected.item(), rel=1e-10)


def test_the_norm_is_that_of_all_groups_and_each_has_a_limit_of_its_own():
    torch = pytest.importorskip("torch")
    ours, _ = networks(torch)
    limits = (0.5, None, 0.25)
    params = [*ours.parameters()]
    opt = optim.SGD([{"params": p, "clip_grad_norm": m} for p, m in zip(params[:3], limits, strict=True)], lr=1.0)
    before = [p.data.copy() for p in params]
    in_one(ours, opt)(X, Y)
    norm = np.sqrt(sum(np.sum(p.grad**2) for p in params[:3]))
    for p, old, most in zip(params, before, (*limits, 0), strict=False):
        scale = 1 if most is None else most / (norm + 1e-6)
        expected = old - scale * p.grad if p is not params[3] else old
        np.testing.assert_allclose(p.data, expected, rtol=1e-12, atol=1e-14)


def test_gradients_remain_as_they_were_and_a_limit_may_change_without_a_new_plan():
    torch = pytest.importorskip("torch")
    ours, theirs = networks(torch)
    opt = optim.SGD(ours.parameters(), lr=0.1, clip_grad_norm=0.5)
    step = in_one(ours, opt)
    step(X, Y)
    torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(Y)).backward()
    np.testing.assert_allclose(ours[0].weight.grad, theirs[0].weight.grad, rtol=1e-9, atol=1e-12)
    old = ours[0].weight.data.copy()
    opt.param_groups[0]["clip_grad_norm"] = 1e-9
    step(X, Y)
    assert abs(ours[0].weight.data - old).max() < 1e-9
    assert step._programs.count() == 1
    opt.param_groups[0]["clip_grad_norm"] = None
    step(X, Y)
    assert abs(ours[0].weight.data - old).max() > 1e-4


def test_a_norm_that_is_not_finite_is_not_hidden():
    model = nn.Linear(3, 2)
    opt = optim.SGD(model.parameters(), lr=0.1, clip_grad_norm=1.0)
    model.weight.grad = np.full((2, 3), np.nan, np.float32)
    model.bias.grad = np.ones(2, np.float32)
    opt.step()
    assert np.isnan(model.weight.data).all()
    assert np.isnan(model.bias.data).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipped_steps_have_the_same_bits_on_all_threads_and_wherever_parameters_lie(dtype):
    def trained(apart=False):
        fn.manual_seed(0)
        model = nn.Sequential(nn.Linear(40, 500), nn.ReLU(), nn.Linear(500, 300)).to(dtype)
        params = [*model.parameters()]
        if apart:  # an earlier optimizer has gathered them in another order
            optim.SGD(params[::-1])
        opt = optim.Adam(params, lr=1e-2, clip_grad_norm=0.3, grad_noise=1e-3 if not apart else 0.0)
        if apart is None:
            opt.param_groups[0]["grad_noise"] = 0.0
        step = in_one(model, opt)
        for _ in range(5):
            step(X.astype(dtype), Y.astype(dtype))
        return bits(model)

    first, *rest = on_threads(trained, (1, 2, 3, 8))
    assert all(one == first for one in rest)
    assert trained(True) == trained(None)


# ---- noise and penalties ---------------------------------------------------------------------------


def test_noise_is_normal_and_another_one_in_each_step():
    model = nn.Linear(200, 400, bias=False).double()
    opt = optim.SGD(model.parameters(), lr=0.5, grad_noise=0.01)
    model.weight.grad = np.full((400, 200), 0.25)
    drawn = []
    fn.manual_seed(5)
    for _ in range(2):
        before = model.weight.data.copy()
        opt.step()
        drawn.append((before - model.weight.data) / 0.5 - 0.25)
    for noise in drawn:
        assert abs(noise.mean()) < 5 * 0.01 / np.sqrt(noise.size)
        assert noise.std() == pytest.approx(0.01, rel=0.02)
    assert abs(np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(model.weight.grad, 0.25)


@every_kind
@both_ways
def test_noise_and_limits_go_on_from_a_checkpoint_with_the_same_bits(tmp_path, kind, way):
    def made():
        fn.manual_seed(4)
        model = nn.Sequential(nn.Linear(40, 20), nn.Linear(20, 300)).double()
        return model, make(kind, model.parameters(), grad_noise=0.1, clip_grad_norm=1.0, l1_penalty=1e-3)

    model, opt = made()
    step = way(model, opt)
    for i in range(4):
        if i == 2:
            fn.save_checkpoint(tmp_path / "c.safetensors", model, opt)
        step(X, Y)
    twin, other = made()
    fn.manual_seed(77)
    fn.load_checkpoint(tmp_path / "c.safetensors", twin, other)
    rest = way(twin, other)
    rest(X, Y)
    rest(X, Y)
    assert bits(twin) == bits(model)


def test_an_l1_penalty_is_that_of_its_group():
    model = nn.Linear(40, 300).double()
    opt = optim.SGD([{"params": model.weight, "l1_penalty": 0.5}, {"params": model.bias}], lr=0.1)
    weight, bias = model.weight.data.copy(), model.bias.data.copy()
    in_one(model, opt)(X, Y)
    np.testing.assert_allclose(
        model.weight.data, weight - 0.1 * (model.weight.grad + 0.5 * np.sign(weight)), rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(model.bias.data, bias - 0.1 * model.bias.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["clip_grad_norm", "clip_grad_value", "grad_noise", "l1_penalty"])
def test_settings_that_do_not_fit_are_refused(name):
    for value, error in ((-1.0, ValueError), ("1", TypeError), (float("nan"), ValueError), (True, TypeError)):
        with pytest.raises(error, match=name):
            optim.SGD([nn.Parameter(np.ones(3))], **{name: value})
    if name.startswith("clip"):
        with pytest.raises(ValueError, match="above 0, or None"):
            optim.SGD([nn.Parameter(np.ones(3))], **{name: 0.0})
    with pytest.raises(TypeError, match="SGD has no setting 'clip'"):
        optim.SGD([nn.Parameter(np.ones(3))], clip=1.0)


# ---- groups and gradients --------------------------------------------------------------------------


@every_kind_in_torch
@both_ways
def test_a_group_that_is_added_later_trains_as_in_pytorch(torch_counts_in_double, kind, way):
    torch = pytest.importorskip("torch")
    ours, theirs = networks(torch)
    opt, torch_opt = make(kind, ours[0].parameters()), make(kind, theirs[0].parameters(), torch.optim)
    step = way(ours, opt)
    for i in range(6):
        if i == 3:
            opt.add_param_group({"params": ours[2].parameters(), "lr": 1e-3})
            torch_opt.add_param_group({"params": theirs[2].parameters(), "lr": 1e-3})
        loss = step(X, Y)
        torch_opt.zero_grad()
        theirs.zero_grad()
        expected = torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(Y))
        expected.backward()
        torch_opt.step()
        assert loss == pytest.approx(expected.item(), rel=1e-10)
    assert [group.steps for group in opt.param_groups] == [6, 3]


def test_a_group_that_does_not_fit_is_refused_and_changes_nothing():
    model = nn.Linear(3, 2)
    opt = optim.SGD([model.weight])
    for group, error in (
        (model.bias, TypeError), ({"lr": 1.0}, TypeError), ({"params": []}, ValueError), ({"params": model}, TypeError),
        ({"params": model.weight}, ValueError), ({"params": model.bias, "lr": -1.0}, ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            opt.add_param_group(group)
    assert len(opt.param_groups) == 1


@pytest.mark.parametrize("owner", ["optimizer", "module"])
def test_gradients_are_left_out_or_set_to_zero(owner):
    model = nn.Linear(3, 2)
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    zero_grad = opt.zero_grad if owner == "optimizer" else model.zero_grad
    model.weight.grad = np.ones((2, 3), np.float32)
    opt.step()
    zero_grad(set_to_none=False)
    np.testing.assert_array_equal(model.weight.grad, 0)
    assert model.bias.grad is None
    before = model.weight.data.copy()
    opt.step()
    np.testing.assert_allclose(model.weight.data, before - 0.05, rtol=1e-6)
    zero_grad()
    assert model.weight.grad is None
    before = bits(model)
    opt.step()
    assert bits(model) == before
