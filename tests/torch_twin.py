"""Layers next to PyTorch's: the same weights, outputs, gradients and buffers, in float64."""

import numpy as np

import fastnn as fn

TOLERANCE = 1e-9


def same(ours, theirs, what):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)


def assert_same_as_torch(torch, ours, theirs, *shape, steps=1):
    """Outputs and all gradients of two modules, for random inputs and gradients of the output."""
    ours.to(np.float64)
    theirs.double()
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(sum(shape))
    for _ in range(steps):
        x = rng.standard_normal(shape)
        before = {name: value.data.copy() for name, value in ours.named_buffers()}
        y = ours.forward_train(x)
        dy = rng.standard_normal(y.shape)
        ours.zero_grad()
        ours.backward(dy)
        after = {name: value.data.copy() for name, value in ours.named_buffers()}

        source = torch.tensor(x, requires_grad=True)
        expected = theirs(source)
        theirs.zero_grad()
        expected.backward(torch.from_numpy(dy))
        same(y, expected, "output")
        for name, parameter in theirs.named_parameters():
            same(dict(ours.named_parameters())[name].grad, parameter.grad, name)
        for name, buffer in theirs.named_buffers():
            same(after[name], buffer, name)

        for name, value in ours.named_buffers():
            value.data[...] = before[name]
        dx = fn.grad(lambda t, dy=dy: (ours(t) * dy).sum())(x)
        same(dx, source.grad, "gradient for the input")
        for name, value in ours.named_buffers():
            np.testing.assert_array_equal(value.data, after[name])
