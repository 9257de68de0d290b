"""Data for training: datasets, the loader that batches them, augmentation, readers, sets.

Everything here is plain NumPy: batches are tuples of C-contiguous arrays.
"""

from fastnn.data.augment import (
    Compose,
    GaussianNoise,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomShift,
)
from fastnn.data.cifar import CIFAR10_CLASSES, cifar10, cifar100
from fastnn.data.dataset import ArrayDataset, Dataset
from fastnn.data.digits import digits
from fastnn.data.folder import ImageFolder
from fastnn.data.idx import read_idx, write_idx
from fastnn.data.loader import DataLoader, balanced_weights
from fastnn.data.mnist import mnist
from fastnn.data.split import Subset, k_fold, random_split
from fastnn.data.synthetic import circles, moons, spirals, xor

__all__ = [
    "CIFAR10_CLASSES",
    "ArrayDataset",
    "Compose",
    "DataLoader",
    "Dataset",
    "GaussianNoise",
    "ImageFolder",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomShift",
    "Subset",
    "balanced_weights",
    "cifar10",
    "cifar100",
    "circles",
    "digits",
    "k_fold",
    "mnist",
    "moons",
    "random_split",
    "read_idx",
    "spirals",
    "write_idx",
    "xor",
]
