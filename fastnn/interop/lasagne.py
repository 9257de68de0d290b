"""load_lasagne: the arrays of a network of Theano's, as Lasagne gives them, into a module that is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from fastnn import _check, nn
from fastnn.data.npy import read_npz
from fastnn.interop.network import refusal
from fastnn.nn.conv import _Conv
from fastnn.nn.norm import _BatchNorm

Model = TypeVar("Model", bound=nn.Module)


def load_lasagne(npz: str | os.PathLike[str], model: Model, flip_filters: bool = True) -> Model:
    """Read the arrays ``arr_0``, ``arr_1``, ... of a .npz file into a model, in the order of its layers.

    They are what ``np.savez(path, *lasagne.layers.get_all_param_values(network))`` writes. Of a dense layer these are
    W, of shape (in, out), and b; of a convolution W, of shape (out, in, height, width), and b; of batch norm beta,
    gamma, mean and the inverse deviation; of an embedding W; of PReLU alpha. The model's layers must be made in the
    order of Lasagne's.

    Parameters
    ----------
    npz : path-like
    model : Module
        Of layers Linear, convolutions, BatchNorm, Embedding, PReLU, and of such as have no weights.
    flip_filters : bool, default True
        Whether filters are turned around by 180 degrees: Theano's convolutions do so as they compute, as Lasagne's
        Conv2DLayer by default; False for layers with ``flip_filters=False``, such as Conv2DDNNLayer's by default.

    Returns
    -------
    Module
        The model.

    Raises
    ------
    OSError
        If there is no such file.
    TypeError, ValueError
        If it is damaged, holds objects, or does not fit the model; the model is then as before.

    Examples
    --------
    >>> np.savez("mlp.npz", np.eye(2, 3), np.zeros(3), np.ones((3, 1)), np.ones(1))
    >>> mlp = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> fn.interop.load_lasagne("mlp.npz", mlp)(np.ones((1, 2), np.float32))
    array([[3.]], dtype=float32)
    """
    path = _check.path("npz", npz)
    _check.instance("model", model, nn.Module)
    flip = _check.flag("flip_filters", flip_filters)
    arrays = read_npz(path, kinds="iuf")
    names = [f"arr_{i}" for i in range(len(arrays))]
    if set(names) != set(arrays) or not arrays:
        raise ValueError(f"{path}: expected arrays arr_0, arr_1, ..., got {_check.some(arrays) or 'none'}")
    slots, state, problems = list(_slots(model)), {}, []
    if len(slots) != len(arrays):
        raise ValueError(f"{path}: it holds {len(arrays)} arrays, and the model takes {len(slots)}")
    for name, (key, module, slot) in zip(names, slots, strict=True):
        array, parameter = _turned(arrays[name], module, slot, flip), getattr(module, _OURS.get(slot, slot))
        if array.shape == parameter.shape:
            state[key] = array
        else:
            expected = parameter.shape[::-1] if isinstance(module, nn.Linear) else parameter.shape
            problems.append(f"{name} has shape {_check.brief(arrays[name].shape)}; expected {expected} for {key}")
    if problems:
        raise refusal(path, problems)
    model.load_state_dict(state, strict=False)
    return model


#: What of a module has the same values in another form.
_OURS = {"inv_std": "running_var"}


def _slots(model: nn.Module) -> Iterator[tuple[str, Any, str]]:
    """Where arrays go, in order: a name of the state_dict, the module, and what Lasagne has there."""
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            order = ["bias", "weight"] * module.affine + ["running_mean", "inv_std"] * module.track_running_stats
        elif isinstance(module, (nn.Linear, _Conv, nn.Embedding, nn.PReLU)):
            order = ["weight", "bias"]
        elif module._parameters or module._buffers:
            raise TypeError(
                f"{path or 'the model'} is a {type(module).__name__}, of which Lasagne's order is not known"
            )
        else:
            continue
        for slot in order:
            name = _OURS.get(slot, slot)
            if getattr(module, name, None) is not None:
                yield f"{path}.{name}" if path else name, module, slot


def _turned(array: np.ndarray[Any, Any], module: Any, slot: str, flip: bool) -> np.ndarray[Any, Any]:
    """An array of Lasagne's as the module has it."""
    if slot == "inv_std":  # 1 / sqrt(variance + epsilon)
        with np.errstate(divide="ignore"):
            return np.asarray(array.astype(np.float64) ** -2.0 - module.eps)
    if slot == "weight" and isinstance(module, nn.Linear):
        return np.asarray(array.T)
    if slot == "weight" and isinstance(module, _Conv) and flip:
        return np.asarray(np.flip(array, tuple(range(2, array.ndim))))
    return array
