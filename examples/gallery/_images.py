"""Handwritten digits for the gallery: MNIST where FASTNN_DATA has it, else the small ones that fastnn brings along."""

import fastnn as fn


def handwritten_digits(flatten=False):
    """(x, labels) for training and for testing; x is (N, 1, side, side), or (N, side * side), of values 0 ... 1."""
    try:
        return [fn.data.mnist(split, flatten=flatten) for split in ("train", "test")]
    except FileNotFoundError:
        return [fn.data.digits(split, flatten=flatten) for split in ("train", "test")]
