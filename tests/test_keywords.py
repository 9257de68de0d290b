"""Arguments of models by name: eager, within other models, and trained."""

import functools

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.testing import gradcheck


class Masked(nn.Module):
    """Takes more than its input."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x, offset=None, mask=None, scale=1.0, *, squared=False):
        y = self.linear(x)
        if offset is not None:
            y = y + offset
        if mask is not None:
            y = y * mask
        return (y * y if squared else y) * scale


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Masked()

    def forward(self, x, mask):
        return self.inner(x, mask=mask, squared=True)


def data(n=4, dtype=np.float32):
    rng = np.random.default_rng(n)
    return (
        rng.standard_normal((n, 3)).astype(dtype),
        rng.integers(0, 2, (n, 2)).astype(dtype),
        rng.standard_normal((n, 2)).astype(dtype),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_are_given_by_name_in_any_order(dtype):
    model = Masked().double() if dtype == np.float64 else Masked()
    for n in (4, 7, 1, 4):
        x, mask, offset = data(n, dtype)
        y = model(x)
        np.testing.assert_array_equal(model(x, mask=mask), y * mask)
        np.testing.assert_array_equal(model(x, offset=mask), y + mask)
        np.testing.assert_array_equal(model(x, mask), y + mask)
        np.testing.assert_allclose(model(x, mask=mask, offset=offset), (y + offset) * mask, rtol=1e-5)
        np.testing.assert_allclose(model(mask=mask, offset=offset, x=x), (y + offset) * mask, rtol=1e-5)


def test_settings_are_given_by_name_and_each_value_counts():
    model, (x, mask, _) = Masked(), data()
    y = model(x)
    for scale in (2.0, 3, 2.0, True):
        np.testing.assert_array_equal(model(x, scale=scale), y * scale)
    np.testing.assert_array_equal(model(x, mask=mask, squared=True), (y * mask) ** 2)
    np.testing.assert_array_equal(model(x, mask=None, squared=True), y**2)
    assert "mask" in repr(model.plan(x, mask=mask))
    assert model.evaluated(x, scale=0.0).tolist() == np.zeros((4, 2)).tolist()


def test_a_change_of_the_model_is_seen_by_calls_with_names():
    model, (x, mask, _) = Masked(), data()
    model(x, mask=mask)
    model.linear.weight.data[:] = 0
    model.linear.bias.data[:] = 3
    np.testing.assert_array_equal(model(x, mask=mask), 3 * mask)
    model.linear = nn.Linear(3, 2, bias=False)
    np.testing.assert_array_equal(model(x, mask=mask), model.linear(x) * mask)


def test_a_step_and_a_backward_take_names_as_a_model_does():
    x, mask, target = data(6)
    models = [Masked(), Outer(), Masked()]
    state = models[0].state_dict()
    models[1].inner.load_state_dict(state)
    models[2].load_state_dict(state)
    steps = [fn.TrainStep(m, nn.MSELoss(), optim.SGD(m.parameters(), lr=0.1)) for m in models[:2]]
    for n in (6, 5, 6):
        x, mask, target = data(n)
        assert steps[0](x, target, mask=mask, squared=True) == steps[1](x, mask, target)
    np.testing.assert_array_equal(models[0].linear.weight.data, models[1].inner.linear.weight.data)
    y = models[2].forward_train(x, mask=mask)
    models[2].backward(np.ones_like(y))
    np.testing.assert_allclose(models[2].linear.bias.grad, mask.sum(0), rtol=1e-6)
    assert "mask" in repr(steps[0].plan(x, target, mask=mask))


def test_gradients_through_names_are_the_differences():
    x, mask, _ = data(3, np.float64)
    gradcheck(Outer().double(), x, mask)


def test_a_name_that_forward_lacks_or_an_array_that_does_not_fit_is_refused_by_name():
    model, (x, mask, _) = Masked(), data()
    with pytest.raises(TypeError, match="unexpected keyword argument 'masks'"):
        model(x, masks=mask)
    with pytest.raises(TypeError, match="mask has dtype bool"):
        model(x, mask=mask > 0)
    np.testing.assert_array_equal(model(x, mask=mask), model(x) * mask)


def test_a_call_by_names_takes_the_way_of_the_latest_one_and_no_other(monkeypatch):
    model = Masked().double()
    x, mask, _ = data(dtype=np.float64)
    offset = np.full((4, 2), 0.5)
    plain = model(x)
    model(x, offset=offset, mask=mask)
    searched, serve = [], type(model._programs["infer"]).serve

    def counted(self, args, keywords):
        searched.append(sorted(keywords or {}))
        return serve(self, args, keywords)

    monkeypatch.setattr(type(model._programs["infer"]), "serve", counted)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12)
    close(model(x), plain)
    close(model(x, mask=mask, offset=offset), (plain + offset) * mask)
    close(model(x, offset=2 * offset, mask=mask), (plain + 2 * offset) * mask)
    assert not searched
    close(model(x, mask=mask), plain * mask)
    close(model(x, offset=offset), plain + offset)
    close(model(x, offset=mask), plain + mask)
    close(model(x, offset=offset, scale=2.0), (plain + offset) * 2)
    close(model(x, offset=0.5), plain + offset)
    close(model(x=x, offset=offset), plain + offset)
    close(model(x, offset), plain + offset)
    with pytest.raises(TypeError, match="nothing"):
        model(x, nothing=mask)
    model.linear.bias.data += 1
    close(model(x=x, offset=offset), plain + 1 + offset)
    model.linear.bias.data = model.linear.bias.data + 1
    close(model(x=x, offset=offset), plain + 2 + offset)
    names = ["mask"], ["offset"], ["offset", "scale"], ["offset"], ["offset", "x"], [], ["nothing"]
    assert searched[:7] == list(names)
