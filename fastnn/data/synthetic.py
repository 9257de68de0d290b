"""Small made-up problems in the plane, for first steps, pictures and tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _check

Points = tuple[NDArray[np.float32], NDArray[np.int64]]


def xor(n: int = 4, noise: float = 0.0, seed: int | np.random.Generator | None = 0) -> Points:
    """Points at the corners of the unit square; the class is the exclusive or of the coordinates.

    Parameters
    ----------
    n : int, default 4
        Number of points, at least 1. They take the corners (0, 0), (0, 1), (1, 0), (1, 1) in turn.
    noise : float, default 0
        Standard deviation of the Gaussian noise on each coordinate.
    seed : int, numpy Generator or None, default 0
        Decides the noise; None for another each time.

    Returns
    -------
    x : ndarray of float32, shape (n, 2)
    y : ndarray of int64, shape (n,)
        0 or 1.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """
    corner, _ = _in_turn(n, 4)
    a, b = corner // 2, corner % 2
    return _points(a, b, a ^ b, _gaussian((n, 2), noise, seed))


def spirals(n: int, classes: int = 3, noise: float = 0.2, seed: int | np.random.Generator | None = 0) -> Points:
    """Arms that wind 4 radians around the origin, out to radius 1; the class is the arm.

    Parameters
    ----------
    n : int
        Number of points, at least 1. They fall to the arms in turn, and along each one evenly.
    classes : int, default 3
        Number of arms, at least 1.
    noise : float, default 0.2
        Standard deviation of the Gaussian noise on the angle, in radians.
    seed : int, numpy Generator or None, default 0
        Decides the noise; None for another each time.

    Returns
    -------
    x : ndarray of float32, shape (n, 2)
    y : ndarray of int64, shape (n,)
        0 to classes - 1.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """
    arm, along = _in_turn(n, _check.integer("classes", classes, 1))
    angle = 2 * math.pi * arm / classes + 4 * along + _gaussian((n,), noise, seed)
    return _points(along * np.cos(angle), along * np.sin(angle), arm)


def moons(n: int, noise: float = 0.1, seed: int | np.random.Generator | None = 0) -> Points:
    """Two half circles of radius 1, each reaching into the other.

    Parameters
    ----------
    n : int
        Number of points, at least 1. They fall to the moons in turn, and along each one evenly.
    noise : float, default 0.1
        Standard deviation of the Gaussian noise on each coordinate.
    seed : int, numpy Generator or None, default 0
        Decides the noise; None for another each time.

    Returns
    -------
    x : ndarray of float32, shape (n, 2)
    y : ndarray of int64, shape (n,)
        0 for the upper moon, around (0, 0); 1 for the lower one, around (1, 0.5).

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """
    lower, along = _in_turn(n, 2)
    side = 1 - 2 * lower  # the lower moon is the upper one, turned by half a turn
    x0 = lower + side * np.cos(math.pi * along)
    x1 = 0.5 * lower + side * np.sin(math.pi * along)
    return _points(x0, x1, lower, _gaussian((n, 2), noise, seed))


def circles(n: int, factor: float = 0.5, noise: float = 0.05, seed: int | np.random.Generator | None = 0) -> Points:
    """A circle of radius 1 around a smaller one.

    Parameters
    ----------
    n : int
        Number of points, at least 1. They fall to the circles in turn, and around each evenly.
    factor : float, default 0.5
        Radius of the inner circle, from 0 to 1.
    noise : float, default 0.05
        Standard deviation of the Gaussian noise on each coordinate.
    seed : int, numpy Generator or None, default 0
        Decides the noise; None for another each time.

    Returns
    -------
    x : ndarray of float32, shape (n, 2)
    y : ndarray of int64, shape (n,)
        0 for the outer circle, 1 for the inner one.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """
    factor = _check.real("factor", factor, 0, 1)
    inner, along = _in_turn(n, 2)
    radius, angle = np.where(inner, factor, 1.0), 2 * math.pi * along
    x0, x1 = radius * np.cos(angle), radius * np.sin(angle)
    return _points(x0, x1, inner, _gaussian((n, 2), noise, seed))


def _in_turn(n: int, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Deal n points out to the classes; return each one's class and its place, evenly in (0, 1)."""
    point = np.arange(_check.integer("n", n, 1), dtype=np.int64)
    which, rank = point % classes, point // classes
    count = (n - 1 - which) // classes + 1  # points of the same class
    return which, (rank + 0.5) / count


def _gaussian(shape: tuple[int, ...], noise: float, seed: int | np.random.Generator | None) -> NDArray[np.float64]:
    return _check.real("noise", noise, 0) * _check.generator(seed).standard_normal(shape)


def _points(
    x0: NDArray[Any],
    x1: NDArray[Any],
    y: NDArray[np.int64],
    jitter: NDArray[np.float64] | float = 0,
) -> Points:
    return (np.stack([x0, x1], axis=1) + jitter).astype(np.float32), y
