"""Network: layers between named values, as files of other systems list them; and functions as layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from fastnn import _check
from fastnn.nn.module import Module

Layer = TypeVar("Layer", bound=Module)

_LONGEST = 700  # characters of a message


class Step(NamedTuple):
    """A layer, by its name in the network, and the values that it reads and makes."""

    layer: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Network(Module):
    """Layers that are called one after the other, each with values by name.

    Parameters
    ----------
    layers : mapping of str to Module
        They become submodules of these names.
    steps : sequence of (layer, inputs, outputs)
        In the order in which they run; a value that is made again takes the former one's place.
    inputs, outputs : sequence of str
        The values that a call gives, in order, and those that it returns: one as it is, several as a tuple.

    Examples
    --------
    >>> from fastnn.interop.network import Network, Step
    >>> layers = {"fc": nn.Linear(2, 2), "relu": nn.ReLU()}
    >>> steps = [Step("fc", ("x",), ("h",)), Step("relu", ("h",), ("y",))]
    >>> Network(layers, steps, ["x"], ["y", "h"])(np.zeros((3, 2), np.float32))[0].shape
    (3, 2)
    """

    def __init__(
        self, layers: Mapping[str, Module], steps: Iterable[Step], inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.steps = tuple(steps)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        #: Shapes of the inputs, with the batch first, which is None; None where they are not known.
        self.input_shapes: tuple[tuple[int | None, ...] | None, ...] = (None,) * len(self.inputs)

    def forward(self, *inputs: Any) -> Any:
        if len(inputs) != len(self.inputs):
            wanted = _check.some(self.inputs)
            raise TypeError(f"the network takes {len(self.inputs)} input(s), {wanted}; got {len(inputs)}")
        values = dict(zip(self.inputs, inputs, strict=True))
        for layer, read, made in self.steps:
            result = self._modules[layer](*(values[name] for name in read))
            values.update(zip(made, (result,) if len(made) == 1 else result, strict=True))
        results = tuple(values[name] for name in self.outputs)
        return results[0] if len(results) == 1 else results


class Apply(Module):
    """A function of tensors as a layer, with its settings.

    Parameters
    ----------
    function : callable
        Of a module, so that copies find it again.
    **settings
        What it is called with beside the tensors.

    Examples
    --------
    >>> from fastnn.interop.network import Apply
    >>> Apply(F.softmax, dim=1)
    Apply(softmax, dim=1)
    """

    def __init__(self, function: Callable[..., Any], **settings: Any) -> None:
        super().__init__()
        self.function = function
        self.settings = settings

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs, **self.settings)

    def extra_repr(self) -> str:
        name = self.function.__name__.strip("_")
        return ", ".join([name, *(f"{key}={value!r}" for key, value in self.settings.items())])


def bare(kind: type[Layer], *args: Any, **settings: Any) -> Layer:
    """A layer whose parameters are about to get their values: no random numbers are drawn for them."""
    undrawn = type(kind.__name__, (kind,), {"reset_parameters": lambda self: None})
    layer: Any = undrawn(*args, **settings)
    object.__setattr__(layer, "__class__", kind)
    return layer  # type: ignore[no-any-return]


_TAKEN = frozenset(dir(Network({}, (), (), ())))


def free_name(name: str, taken: Collection[str]) -> str:
    """What a layer of a file is called as a submodule: its own name, but without dots, and not an attribute's."""
    plain, number = name.replace(".", "_") or "layer", len(taken)
    found = plain
    while found in taken or found in _TAKEN:
        number += 1
        found = f"{plain}_{number}"
    return found


def refusal(source: str, problems: Sequence[str]) -> ValueError:
    """The error for all that cannot be read of a file."""
    shown: list[str] = []
    for problem in problems:
        if sum(map(len, shown)) + len(problem) > _LONGEST:
            break
        shown.append(problem)
    shown = shown or [problems[0][:_LONGEST]]
    rest = len(problems) - len(shown)
    return ValueError(f"{source}: {'; '.join(shown)}{f'; and {rest} more' if rest else ''}")
