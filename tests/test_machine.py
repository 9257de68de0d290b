"""The kernels that measure the machine compute what they say they do, and so cannot be skipped."""

import numpy as np
import pytest

from fastnn_ext import machine

from reference import machine as twin


@pytest.mark.parametrize("rounds", [0, 1, 2, 7, 20])
def test_multiply_add_makes_every_round(isa, rounds):
    values = machine.multiply_add(3, 2, -1, rounds)
    assert len(values) >= 12
    np.testing.assert_array_equal(values, np.float32(twin.multiply_add(3, 2, -1, rounds)))


@pytest.mark.parametrize("n", [0, 1, 7, 8, 16, 33, 1000])
def test_triad_reads_both_and_writes_all(isa, n):
    x, z = np.arange(n, dtype=np.float32), np.arange(n, dtype=np.float32)[::-1].copy()
    y = np.full(n, np.nan, np.float32)
    machine.triad(y, x, z, 3)
    np.testing.assert_array_equal(y, twin.triad(x, z, 3))


def test_what_does_not_fit_is_refused():
    one, two = np.zeros(1, np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match=r"x must have shape \(1,\), got \(2,\)"):
        machine.triad(one, two, one.copy(), 1)
    with pytest.raises(ValueError, match="x must not overlap y"):
        machine.triad(one, one, two[:1], 1)
    with pytest.raises(TypeError, match="z must have dtype float32, got float64"):
        machine.triad(one, two[:1], np.zeros(1), 1)
    with pytest.raises(ValueError, match="rounds must be at least 0, got -1"):
        machine.multiply_add(1, 1, 1, -1)
