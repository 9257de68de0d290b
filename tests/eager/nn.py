"""Modules: parameters, layers, losses."""

import copy

import numpy as np

from eager import functional as F
from eager.tensor import Tensor, gradients, is_running, leaves_of, rounded, run, to_arrays, value_and_grad

functional = F


class Parameter(Tensor):
    """A leaf of the tape: its array is changed by training, its gradient collected in `grad`."""

    def __init__(self, data, requires_grad=True):
        self._data = np.array(data)
        self.dtype = self._data.dtype
        self.parents = []
        self.requires_grad = requires_grad
        self.grad = None

    @property
    def data(self):
        """The values; assigning copies into them."""
        return self._data

    @data.setter
    def data(self, value):
        self._data[...] = rounded(np.asarray(value))

    def convert(self, dtype):
        """Values as they are in that dtype, and so the gradient. What is computed stays float64."""
        if self.dtype.kind == "f":
            self._data = self._data.astype(dtype).astype(np.float64)
            self.dtype = np.dtype(dtype)
            if self.grad is not None:
                self.grad = self.grad.astype(dtype).astype(np.float64)


class Module:
    """Attributes that are modules and parameters are found by walking, in the order of assignment."""

    _frozen = False

    def __init__(self):
        self._buffers = {}
        self.training = True

    def __getattr__(self, name):
        if name in self.__dict__.get("_buffers", ()):
            return self._buffers[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name, value):
        self.__dict__.pop(name, None)
        self.__dict__[name] = value

    def register_buffer(self, name, value):
        self._buffers[name] = Parameter(value, requires_grad=False)

    # ---- running --------------------------------------------------------------------------------

    def __call__(self, *args):
        if is_running():
            return self.forward(*args)
        return to_arrays(run(self.forward, args)[1])

    def forward_train(self, *args):
        self._trained = [p for p in self.parameters() if p.requires_grad]
        self._result = run(self.forward, args)[1]
        return to_arrays(self._result)

    def backward(self, *grads):
        seeds = list(zip(leaves_of(self._result), grads, strict=True))
        accumulate(self._trained, gradients(seeds, self._trained))

    # ---- walking --------------------------------------------------------------------------------

    def named_modules(self, prefix="", seen=None):
        seen = set() if seen is None else seen
        if id(self) not in seen:
            seen.add(id(self))
            yield prefix, self
            for name, value in self.__dict__.items():
                if isinstance(value, Module):
                    yield from value.named_modules(f"{prefix}.{name}".lstrip("."), seen)

    def modules(self):
        return (module for _, module in self.named_modules())

    def named_parameters(self):
        seen = set()
        for prefix, module in self.named_modules():
            for name, value in module.__dict__.items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{prefix}.{name}".lstrip("."), value

    def named_buffers(self):
        for prefix, module in self.named_modules():
            for name, value in module._buffers.items():
                yield f"{prefix}.{name}".lstrip("."), value

    def parameters(self):
        return (value for _, value in self.named_parameters())

    # ---- modes and state ------------------------------------------------------------------------

    def train(self, mode=True):
        for module in self.modules():
            if not module._frozen:
                module.training = mode
        return self

    def eval(self):
        return self.train(False)

    def frozen(self):
        module = copy.deepcopy(self).eval()
        for part in module.modules():
            part._frozen = True
        return module.requires_grad_(False)

    def requires_grad_(self, requires_grad=True):
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self):
        for p in self.parameters():
            p.grad = None

    def to(self, dtype):
        for _, value in (*self.named_parameters(), *self.named_buffers()):
            if value.dtype != dtype:
                value.convert(dtype)
        return self

    def double(self):
        return self.to(np.float64)

    def float(self):
        return self.to(np.float32)

    def entries(self, prefix=""):
        """Parameters and buffers, what is shared under each of its names."""
        for table in (self.__dict__, self._buffers):
            for name, value in table.items():
                if isinstance(value, Parameter):
                    yield prefix + name, value
        for name, value in self.__dict__.items():
            if isinstance(value, Module):
                yield from value.entries(f"{prefix}{name}.")

    def state_dict(self):
        return {name: value.data.copy() for name, value in self.entries()}

    def load_state_dict(self, state_dict):
        for name, value in self.entries():
            value.data = state_dict[name]


def accumulate(parameters, grads):
    for p, grad in zip(parameters, grads, strict=True):
        if grad is not None:
            p.grad = grad.copy() if p.grad is None else p.grad + grad


# ---- layers -------------------------------------------------------------------------------------


class Linear(Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(np.zeros((out_features, in_features)))
        self.bias = Parameter(np.zeros(out_features))

    def forward(self, input):
        return input @ self.weight.T + self.bias


class Conv2d(Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, groups=1, bias=True):
        super().__init__()
        self.weight = Parameter(np.zeros((out_channels, in_channels // groups, kernel_size, kernel_size)))
        self.bias = Parameter(np.zeros(out_channels)) if bias else None
        self.settings = (stride, padding, groups)

    def forward(self, input):
        return F.conv2d(input, self.weight, self.bias, *self.settings)


class BatchNorm1d(Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(np.ones(num_features)) if affine else None
        self.bias = Parameter(np.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", np.zeros(num_features))
        self.register_buffer("running_var", np.ones(num_features))
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64))

    def forward(self, input):
        running = self.running_mean, self.running_var
        result = F.batch_norm(input, running, self.weight, self.bias, self.training, self.momentum, self.eps)
        self.num_batches_tracked.data += int(self.training)
        return result


class BatchNorm2d(BatchNorm1d):
    pass


class ReLU(Module):
    def forward(self, input):
        return input.relu()


class Tanh(Module):
    def forward(self, input):
        return input.tanh()


class Sigmoid(Module):
    def forward(self, input):
        return input.sigmoid()


class Flatten(Module):
    def forward(self, input):
        return input.flatten(1)


class Identity(Module):
    def forward(self, input):
        return input


class Dropout(Module):
    def __init__(self, p):
        super().__init__()
        assert p == 0, "the twin draws no random numbers"

    def forward(self, input):
        return input


class Sequential(Module):
    def __init__(self, *modules):
        super().__init__()
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def forward(self, input):
        for name, module in self.__dict__.items():
            input = module(input) if name.isdigit() else input
        return input

    def __getitem__(self, index):
        return getattr(self, str(index))

    def __setitem__(self, index, module):
        self.__dict__[str(index)] = module


# ---- losses -------------------------------------------------------------------------------------


class Loss(Module):
    def value_and_grad(self, input, target):
        return value_and_grad(self.forward, argnums=0)(input, target)

    def share(self, target):
        """By how much a batch's value counts in that of a whole data set."""
        return 1.0 if self.reduction == "sum" else len(target)


class MSELoss(Loss):
    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, input, target):
        return F.mse_loss(input, target, self.reduction)


class CrossEntropyLoss(Loss):
    def __init__(self, weight=None, ignore_index=-100, reduction="mean"):
        super().__init__()
        if weight is None:
            self.weight = None
        else:
            self.register_buffer("weight", weight)
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, input, target):
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction)

    def share(self, target):
        counted = target[target != self.ignore_index]
        if self.reduction == "sum" or self.weight is None:
            return 1.0 if self.reduction == "sum" else len(counted)
        return self.weight.data[counted].sum()
