"""Data for training: datasets, the loader that batches them, augmentation, readers, sets.

Everything here is plain NumPy: batches are tuples of C-contiguous arrays.
"""

from fastnn.data.arrays import ArrayRecipe
from fastnn.data.augment import (
    Compose,
    Cutout,
    GaussianNoise,
    MixUp,
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
from fastnn.data.npy import read_npy, read_npz
from fastnn.data.recipe import TableRecipe
from fastnn.data.split import Subset, k_fold, random_split
from fastnn.data.synthetic import circles, moons, spirals, xor
from fastnn.data.table import Table, read_csv
from fastnn.data.target import ClassTarget, NumberTarget

__all__ = [
    "CIFAR10_CLASSES",
    "ArrayDataset",
    "ArrayRecipe",
    "ClassTarget",
    "Compose",
    "Cutout",
    "DataLoader",
    "Dataset",
    "GaussianNoise",
    "ImageFolder",
    "MixUp",
    "Normalize",
    "NumberTarget",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomShift",
    "Subset",
    "Table",
    "TableRecipe",
    "balanced_weights",
    "cifar10",
    "cifar100",
    "circles",
    "digits",
    "k_fold",
    "mnist",
    "moons",
    "random_split",
    "read_csv",
    "read_idx",
    "read_npy",
    "read_npz",
    "spirals",
    "write_idx",
    "xor",
]
