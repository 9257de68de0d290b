"""Data for training: datasets, the loader that batches them, readers, and sets ready to use.

Everything here is plain NumPy: batches are tuples of C-contiguous arrays.
"""

from fastnn.data.dataset import ArrayDataset, Dataset
from fastnn.data.digits import digits
from fastnn.data.idx import read_idx, write_idx
from fastnn.data.loader import DataLoader
from fastnn.data.mnist import mnist
from fastnn.data.synthetic import circles, moons, spirals, xor

__all__ = [
    "ArrayDataset",
    "DataLoader",
    "Dataset",
    "circles",
    "digits",
    "mnist",
    "moons",
    "read_idx",
    "spirals",
    "write_idx",
    "xor",
]
