"""Tensors on a tape: a value, and for each tensor it was made of, how a gradient flows back to that."""

import contextlib
import math

import numpy as np

_depth = 0
_disturbance = None  # a generator of random numbers, and how large errors are


@contextlib.contextmanager
def disturbed(generator, rounding):
    """Inside, each number that is computed is off by a random error of up to `rounding`, relative to it."""
    global _disturbance
    before, _disturbance = _disturbance, (generator, rounding)
    try:
        yield
    finally:
        _disturbance = before


def rounded(data):
    """The same numbers, but for errors inside `disturbed`."""
    if _disturbance is None or data.dtype.kind != "f":
        return data
    generator, rounding = _disturbance
    return data * (1 + rounding * generator.uniform(-1, 1, data.shape))


class Tensor:
    """A float64 array (labels stay integers) that remembers its parents.

    parents : list of (tensor, function from the gradient for this tensor to the gradient for that one)
    """

    __array_ufunc__ = None  # ndarray + Tensor comes here
    __hash__ = object.__hash__

    def __init__(self, data, parents=()):
        data = np.asarray(data)
        self.data = data if data.dtype.kind in "iu" else rounded(data.astype(np.float64))
        self.parents = list(parents)

    @property
    def shape(self):
        return self.data.shape

    @property
    def ndim(self):
        return self.data.ndim

    def dim(self):
        return self.data.ndim

    def size(self, dim=None):
        return self.shape if dim is None else self.shape[dim]

    def numel(self):
        return math.prod(self.shape)

    def __len__(self):
        return self.shape[0]

    # ---- arithmetic -----------------------------------------------------------------------------

    def __add__(self, other):
        a, b = self, as_tensor(other)
        return Tensor(a.data + b.data, [(a, to(a, lambda g: g)), (b, to(b, lambda g: g))])

    def __sub__(self, other):
        a, b = self, as_tensor(other)
        return Tensor(a.data - b.data, [(a, to(a, lambda g: g)), (b, to(b, lambda g: -g))])

    def __mul__(self, other):
        a, b = self, as_tensor(other)
        return Tensor(a.data * b.data, [(a, to(a, lambda g: g * b.data)), (b, to(b, lambda g: g * a.data))])

    def __truediv__(self, other):
        a, b = self, as_tensor(other)
        y = a.data / b.data
        return Tensor(y, [(a, to(a, lambda g: g / b.data)), (b, to(b, lambda g: -g * y / b.data))])

    def __pow__(self, other):
        """As PyTorch: the gradient for the base is 0 where the exponent is 0, and that for the exponent is 0
        where the base is 0 and the exponent is not negative."""
        a, b = self, as_tensor(other)
        p, q = np.broadcast_arrays(a.data, b.data)
        y = p**q

        def for_base(g):
            return np.where(q == 0, 0.0, g * q * p ** np.where(q == 0, 1.0, q - 1))

        def for_exponent(g):
            flat = (p == 0) & (q >= 0)
            return np.where(flat, 0.0, g * y * np.log(np.where(flat, 1.0, p)))

        return Tensor(y, [(a, to(a, for_base)), (b, to(b, for_exponent))])

    def __radd__(self, other):
        return as_tensor(other) + self

    def __rsub__(self, other):
        return as_tensor(other) - self

    def __rmul__(self, other):
        return as_tensor(other) * self

    def __rtruediv__(self, other):
        return as_tensor(other) / self

    def __rpow__(self, other):
        return as_tensor(other) ** self

    def __neg__(self):
        return self * -1.0

    def __matmul__(self, other):
        a, b = self, as_tensor(other)
        return Tensor(a.data @ b.data, [(a, lambda g: g @ b.data.T), (b, lambda g: a.data.T @ g)])

    def __rmatmul__(self, other):
        return as_tensor(other) @ self

    def _elementwise(self, y, slope):
        """y = f(x) with the slope f'(x)."""
        return Tensor(y, [(self, lambda g: g * slope)])

    def exp(self):
        y = rounded(np.exp(self.data))
        return self._elementwise(y, y)

    def log(self):
        return self._elementwise(np.log(self.data), 1 / self.data)

    def sqrt(self):
        y = rounded(np.sqrt(self.data))
        return self._elementwise(y, 0.5 / y)

    def abs(self):
        return self._elementwise(np.abs(self.data), np.sign(self.data))

    __abs__ = abs

    def square(self):
        return self._elementwise(self.data**2, 2 * self.data)

    def pow(self, exponent):
        return self**exponent

    def relu(self):
        return self._elementwise(np.where(self.data < 0, 0.0, self.data), (self.data > 0).astype(float))

    def tanh(self):
        y = rounded(np.tanh(self.data))  # the slope of what saturates is a difference of nearly equal numbers
        return self._elementwise(y, 1 - y * y)

    def sigmoid(self):
        y = rounded(1 / (1 + np.exp(-self.data)))
        return self._elementwise(y, y * (1 - y))

    # ---- reductions and shapes ------------------------------------------------------------------

    def sum(self, dim=None, keepdim=False):
        axes = tuple(range(self.ndim)) if dim is None else tuple(np.atleast_1d(dim) % self.ndim)
        kept = tuple(1 if i in axes else size for i, size in enumerate(self.shape))
        y = self.data.sum(axes, keepdims=keepdim)
        return Tensor(y, [(self, lambda g: np.broadcast_to(g.reshape(kept), self.shape))])

    def mean(self, dim=None, keepdim=False):
        total = self.sum(dim, keepdim)
        return total * (max(math.prod(total.shape), 1) / math.prod(self.shape))

    def log_softmax(self, dim):
        shifted = self - self.data.max(dim, keepdims=True)
        return shifted - shifted.exp().sum(dim, keepdim=True).log()

    def softmax(self, dim):
        return self.log_softmax(dim).exp()

    def reshape(self, *shape):
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        return Tensor(self.data.reshape(shape), [(self, lambda g: g.reshape(self.shape))])

    view = reshape

    def flatten(self, start_dim=0):
        return self.reshape(*self.shape[:start_dim], math.prod(self.shape[start_dim:]))

    def unsqueeze(self, dim):
        return Tensor(np.expand_dims(self.data, dim), [(self, lambda g: g.reshape(self.shape))])

    def permute(self, *axes):
        return Tensor(self.data.transpose(axes), [(self, lambda g: g.transpose(np.argsort(axes)))])

    @property
    def T(self):
        return Tensor(self.data.T, [(self, lambda g: g.T)])

    def __getitem__(self, index):
        def back(g):
            whole = np.zeros(self.shape)
            whole[index] = g
            return whole

        part = self.data[index]
        if not part.size:
            raise ValueError(f"nothing is left of {self.shape}")
        return Tensor(part, [(self, back)])


def as_tensor(value):
    return value if isinstance(value, Tensor) else Tensor(np.array(value))


def to(operand, slope):
    """A gradient of broadcast operands, summed over what `operand` was stretched along."""

    def back(g):
        g = slope(g)
        g = g.sum(tuple(range(g.ndim - operand.ndim)))
        stretched = tuple(i for i, size in enumerate(operand.shape) if size == 1 and g.shape[i] != 1)
        return g.sum(stretched, keepdims=True)

    return back


def gradients(seeds, leaves):
    """The gradient for each leaf, or None where the outputs do not depend on it.

    seeds : list of (output tensor, gradient for it)
    """
    order, seen = [], set()

    def visit(tensor):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            for parent, _ in tensor.parents:
                visit(parent)
            order.append(tensor)

    found = {}
    for tensor, seed in seeds:
        visit(tensor)
        found[id(tensor)] = found.get(id(tensor), 0.0) + np.asarray(seed, np.float64)
    for tensor in reversed(order):
        for parent, back in tensor.parents:
            if id(tensor) in found:
                with np.errstate(all="ignore"):
                    found[id(parent)] = found.get(id(parent), 0.0) + rounded(back(found[id(tensor)]))
    return [found.get(id(leaf)) for leaf in leaves]


# ---- functions of arrays ------------------------------------------------------------------------


@contextlib.contextmanager
def running():
    """Inside, modules take and give tensors; outside, arrays."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def is_running():
    return _depth > 0


def run(function, args):
    """The tensors of the arguments, and what the function makes of them."""
    tensors = [Tensor(a) for a in args]
    with running(), np.errstate(all="ignore"):
        return tensors, function(*tensors)


def leaves_of(result):
    """The tensors in a tensor, tuple, list or dict, in order."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in leaves_of(part)]
    return [as_tensor(result)]


def to_arrays(result):
    """The same structure with arrays for tensors; a single number as a float."""
    if isinstance(result, dict):
        return {key: to_arrays(part) for key, part in result.items()}
    if isinstance(result, (tuple, list)):
        return type(result)(to_arrays(part) for part in result)
    return as_tensor(result).data.copy() if as_tensor(result).ndim else float(as_tensor(result).data)


def trace(function):
    return lambda *args: to_arrays(run(function, args)[1])


def value_and_grad(function, argnums=None):
    def differentiated(*args):
        tensors, value = run(function, args)
        chosen = [i for i, t in enumerate(tensors) if t.data.dtype.kind == "f"]
        chosen = chosen if argnums is None else [argnums] if isinstance(argnums, int) else list(argnums)
        found = gradients([(value, 1.0)], [tensors[i] for i in chosen])
        filled = [np.zeros(tensors[i].shape) if g is None else g for i, g in zip(chosen, found, strict=True)]
        single = isinstance(argnums, int) or (argnums is None and len(args) == 1)
        return to_arrays(value), filled[0] if single else tuple(filled)

    return differentiated


def grad(function, argnums=None):
    both = value_and_grad(function, argnums)
    return lambda *args: both(*args)[1]
