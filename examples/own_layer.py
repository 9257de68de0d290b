"""A layer of one's own with a gradient of its own, checked against differences, in a model of one's own."""

import numpy as np

import fastnn as fn
from fastnn import nn, optim


class Arctan(fn.Function):
    """arctan(x), computed by NumPy in the middle of a native program."""

    def forward(self, x):
        self.save_for_backward(x)
        return np.arctan(x)

    def backward(self, dy):
        (x,) = self.saved
        return dy / (1 + x * x)


class Regressor(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.hidden = nn.Linear(1, width)
        self.out = nn.Linear(width, 1)
        self.arctan = Arctan()

    def forward(self, x):
        return self.out(self.arctan(self.hidden(x)))


fn.manual_seed(0)
model = Regressor(32)
fn.testing.gradcheck(Regressor(3).double(), np.linspace(-2, 2, 5)[:, None])

x = np.linspace(-3, 3, 200, dtype=np.float32)[:, None]
y = np.sin(x)
step = fn.TrainStep(model, nn.MSELoss(), optim.Adam(model.parameters(), lr=0.01))
for epoch in range(1, 501):
    loss = step(x, y)
    if epoch % 100 == 0:
        print(f"step {epoch}: loss {loss:.5f}")
print(model.summary(1))
