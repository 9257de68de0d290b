"""Networks that Keras has saved; read with h5py: `pip install "fastnn[interop]"`."""

from fastnn.interop.keras.network import Network
from fastnn.interop.keras.read import load_keras

__all__ = ["Network", "load_keras"]
