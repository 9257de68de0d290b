"""Networks that Keras has saved."""

from fastnn.interop.keras.network import Network
from fastnn.interop.keras.read import load_keras

__all__ = ["Network", "load_keras"]
