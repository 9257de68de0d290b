"""Dropout: Philox numbers, the mask and the product in one pass."""

from __future__ import annotations

import functools

import fastnn.nn.functional as F

from .common import array, warm


@functools.cache
def dropout():
    x = array(512, 1024)
    return warm(lambda: F.dropout(x, 0.5, True))


class Dropout:
    def setup(self):
        self.run = dropout()

    def time_half_a_million(self):
        self.run()
