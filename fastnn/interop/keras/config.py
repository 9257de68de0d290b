"""What a Keras file says of a layer: read by name, checked, and named in what is refused."""

from __future__ import annotations

import math
from typing import Any

from fastnn import _check

#: Modules that Keras's own layers and models are of, in its versions and in TensorFlow's.
_ROOMS = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "builtins")


class Settings:
    """The config of one layer.

    Parameters
    ----------
    name, kind : str
        The layer's name, and its class in Keras.
    values : dict
    major : int
        Keras's version: 2 (and 1), or 3.
    """

    def __init__(self, name: str, kind: str, values: dict[str, Any], major: int) -> None:
        self.name, self.kind, self.values, self.major = name, kind, values, major
        self.trainable = values.get("trainable") is not False

    def wrong(self, text: str) -> ValueError:
        """What to raise."""
        return ValueError(f"layer {_check.brief(self.name)} ({_check.brief(self.kind, str)}): {text}")

    def get(self, name: str, default: Any = None) -> Any:
        """A value as it stands; the default where the file has none."""
        return self.values.get(name, default)

    def integer(self, name: str, low: int, default: Any = None) -> int:
        """An int of at least `low`."""
        return self._integer(name, self.get(name, default), low)

    def _integer(self, name: str, value: Any, low: int) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= _check.LARGEST_SIZE:
            raise self.wrong(f"{name} must be an int of at least {low}, got {_check.brief(value)}")
        return value

    def sizes(self, name: str, rank: int, low: int, default: Any = None) -> tuple[int, ...]:
        """As many ints as there are dimensions, from a list of them or one for all."""
        value = self.get(name, default)
        values = value if isinstance(value, list) else [value] * rank
        if len(values) != rank:
            raise self.wrong(f"{name} must be {rank} ints, got {_check.brief(value)}")
        return tuple(self._integer(name, each, low) for each in values)

    def sides(self, name: str, rank: int, default: Any) -> tuple[tuple[int, int], ...]:
        """What is before and behind each dimension, from pairs, an int for each or one for all."""
        value = self.get(name, default)
        if rank == 1 and isinstance(value, list) and len(value) == 2 and not isinstance(value[0], list):
            value = [value]
        values = value if isinstance(value, list) else [value] * rank
        pairs = [each if isinstance(each, list) else [each, each] for each in values]
        if len(pairs) != rank or any(len(each) != 2 for each in pairs):
            raise self.wrong(f"{name} must be {rank} pairs of ints, got {_check.brief(value)}")
        return tuple((self._integer(name, a, 0), self._integer(name, b, 0)) for a, b in pairs)

    def axes(self, name: str, default: Any) -> tuple[int, ...]:
        """One or several dimensions."""
        value = self.get(name, default)
        values = value if isinstance(value, list) else [value]
        if not values or len(values) > 32:
            raise self.wrong(f"{name} must be an int or several, got {_check.brief(value)}")
        return tuple(self._integer(name, each, -32) for each in values)

    def axis(self, name: str = "axis", default: int = -1) -> int:
        """One dimension."""
        found = self.axes(name, default)
        if len(found) != 1:
            raise self.wrong(f"{name} must be one int, got {_check.brief(list(found))}")
        return found[0]

    def number(self, name: str, default: Any, low: float = -math.inf) -> float:
        """A finite number of at least `low`; old files wrap it in a table."""
        value = self.get(name, default)
        if isinstance(value, dict):
            value = value.get("value", value.get("config"))
            value = value.get("value") if isinstance(value, dict) else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300 or value < low:
            raise self.wrong(f"{name} must be a number, got {_check.brief(self.get(name, default))}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or False; None is False."""
        value = self.get(name, default)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(f"{name} must be true or false, got {_check.brief(value)}")
        return bool(value)

    def choice(self, name: str, default: str, *known: str) -> str:
        """One of the known words."""
        value = self.get(name, default)
        if value is None:
            value = default
        if not isinstance(value, str) or value.lower() not in known:
            wanted = " or ".join(map(repr, known))
            raise self.wrong(f"{name} must be {wanted}, got {_check.brief(value)}")
        return value.lower()

    @property
    def channels_last(self) -> bool:
        """Where the layer's images have their channels."""
        return self.choice("data_format", "channels_last", "channels_last", "channels_first") == "channels_last"


def entry(value: Any, what: str) -> dict[str, Any]:
    """A table that names a class and has its config."""
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        raise ValueError(f"{what} is no table with a class_name, but {_check.brief(value)}")
    return value


def is_of_keras(value: dict[str, Any]) -> bool:
    """Whether a class is Keras's own, as far as the file says where it is from."""
    room, registered = value.get("module"), value.get("registered_name")
    if isinstance(registered, str) and ">" in registered and not registered.startswith(("keras", "Keras")):
        return False
    return not isinstance(room, str) or room.startswith(_ROOMS)


def policy(value: Any) -> str:
    """The name of a dtype policy, which is a text or a table."""
    if isinstance(value, dict):
        inner = value.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        return name if isinstance(name, str) else ""
    return value if isinstance(value, str) else ""
