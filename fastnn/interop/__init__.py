"""Networks that other systems have trained: Keras, Caffe, Torch7, Theano and Mocha.

Each function gives a Module that predicts what the original did, and trains on; what it needs beside NumPy is
imported when it is called. PyTorch's weights come by `Module.load_state_dict` (of tensors) and `Module.load` (of
safetensors). TensorFlow's networks come as Keras files (`model.save("model.keras")`, then `load_keras`) or as ONNX:
``python -m tf2onnx.convert --saved-model FOLDER --output model.onnx``, then `fn.onnx.load`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.interop.caffe.read import load_caffe
    from fastnn.interop.caffe.write import save_caffe
    from fastnn.interop.files import load
    from fastnn.interop.keras.read import load_keras
    from fastnn.interop.lasagne import load_lasagne
    from fastnn.interop.mocha import load_mocha
    from fastnn.interop.torch7.read import load_torch7

#: Where functions are that are imported when they are first used.
_LAZY = {
    "load": "files",
    "load_caffe": "caffe.read",
    "load_keras": "keras.read",
    "load_lasagne": "lasagne",
    "load_mocha": "mocha",
    "load_torch7": "torch7.read",
    "save_caffe": "caffe.write",
}

__all__ = [
    "load",
    "load_caffe",
    "load_keras",
    "load_lasagne",
    "load_mocha",
    "load_torch7",
    "save_caffe",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"fastnn.interop.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'fastnn.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
