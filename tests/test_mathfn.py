"""Accuracy and special values of simd/mathfn.h, through the ops that are made of its words."""

import math

import numpy as np
import pytest

from native.activation import activation
from native.elementwise import unary

BOUND = {  # ulp, float32 and float64, on every ISA
    "exp": (1.1, 1.1),
    "expm1": (1.6, 2.0),
    "log": (0.9, 0.9),
    "log1pexp": (1.7, 1.8),
    "sigmoid": (1.6, 1.6),
    "tanh": (1.8, 2.0),
    "erf": (1.4, 1.4),
}
EXACT = {  # of an array in extended precision
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1pexp": lambda x: np.log1p(np.exp(-np.abs(x))),
    "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))),
    "tanh": np.tanh,
    "erf": lambda x: np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64)),
}


def function(name, x):
    return activation(name, x) if name in ("sigmoid", "tanh") else unary(name, x)


def errors(name, x, wide):
    """Errors in units of the exact result's last place, after a check of what is not finite."""
    with np.errstate(all="ignore"):
        got, want = function(name, x), EXACT[name](x.astype(wide))
        rounded = want.astype(x.dtype)
        finite = np.isfinite(rounded) & np.isfinite(got)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        # Only what lies within half a unit of overflow may round either way.
        away = ~finite & ~np.isnan(want)
        largest = np.finfo(x.dtype).max
        np.testing.assert_array_equal(np.clip(got[away], -largest, largest), np.clip(rounded[away], -largest, largest))
        np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(want[finite]))
        info = np.finfo(x.dtype)
        exponent = np.maximum(np.frexp(np.abs(want[finite]))[1] - 1, info.minexp)
        unit = np.ldexp(wide(1), exponent - info.nmant)
        return np.abs(got[finite] - want[finite]) / unit


def float32_range(start, stop, stride=1):
    return np.arange(start, stop, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", BOUND)
def test_a_sample_of_all_float32_inputs_is_within_the_bound(isa, name):
    x = float32_range(0, 2**32, 4799)
    assert errors(name, x, np.float64).max() <= BOUND[name][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUND)
def test_every_float32_input_is_within_the_bound(isa, name):
    worst = 0.0
    for start in range(0, 2**32, 2**22):
        x = float32_range(start, start + 2**22)
        if name == "erf":  # a slow twin: erf is 1 from 4 on, and 2 / sqrt(pi) x to the last bit near 0
            x = x[(np.abs(x) < 4.5) & (np.abs(x) > 1e-5)]
        if x.size:
            worst = max(worst, errors(name, x, np.float64).max(initial=0))
    print(f"{isa} {name}: {worst:.4f} ulp")
    assert worst <= BOUND[name][0]


@pytest.mark.parametrize("name", BOUND)
def test_float64_is_within_the_bound(isa, name):
    rng = np.random.default_rng(7)
    n = 40_000
    x = np.concatenate(
        [
            rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64),
            rng.uniform(-750, 750, n),
            rng.uniform(-40, 40, n),
            rng.uniform(-2, 2, n),
            rng.uniform(0.4, 2.5, n),
            rng.standard_normal(n) * 10.0 ** rng.integers(-12, 1, n),
        ]
    )
    # Where long double is no wider, or erf is libm's, the twin's own last place counts too.
    slack = 1 if name == "erf" or np.finfo(np.longdouble).nmant < 60 else 0
    assert errors(name, x, np.longdouble).max() <= BOUND[name][1] + slack


INF, NAN = math.inf, math.nan
SPECIAL = {
    "exp": [
        (0.0, 1.0),
        (-0.0, 1.0),
        (INF, INF),
        (-INF, 0.0),
        (NAN, NAN),
        (1e30, INF),
        (-1e30, 0.0),
    ],
    "expm1": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (INF, INF),
        (-INF, -1.0),
        (NAN, NAN),
        (1e30, INF),
        (-1e30, -1.0),
    ],
    "log": [
        (0.0, -INF),
        (-0.0, -INF),
        (1.0, 0.0),
        (INF, INF),
        (-INF, NAN),
        (-1.0, NAN),
        (NAN, NAN),
    ],
    "log1pexp": [(INF, 0.0), (-INF, 0.0), (NAN, NAN), (1e30, 0.0)],
    "sigmoid": [
        (0.0, 0.5),
        (-0.0, 0.5),
        (INF, 1.0),
        (-INF, 0.0),
        (NAN, NAN),
        (1e30, 1.0),
        (-1e30, 0.0),
    ],
    "tanh": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (INF, 1.0),
        (-INF, -1.0),
        (NAN, NAN),
        (1e30, 1.0),
        (20.0, 1.0),
    ],
    "erf": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (INF, 1.0),
        (-INF, -1.0),
        (NAN, NAN),
        (1e30, 1.0),
        (-6.0, -1.0),
    ],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values_are_those_of_libm_in_every_lane(isa, dtype, name):
    for value, want in SPECIAL[name]:
        for place in range(19):
            x = np.full(19, 0.75, dtype)
            usual = function(name, x)[0]
            x[place] = value
            y = function(name, x)
            np.testing.assert_array_equal(y[place], dtype(want))
            assert math.isnan(want) or np.signbit(y[place]) == np.signbit(want)
            assert (np.delete(y, place) == usual).all()


@pytest.mark.parametrize("name", ["expm1", "tanh", "erf", "sigmoid", "exp", "log1pexp"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_denormals_come_and_go_gradually(isa, dtype, name):
    tiny = np.finfo(dtype).smallest_subnormal
    if name in ("expm1", "tanh", "erf"):
        x = (np.arange(-200, 201) * tiny).astype(dtype)
    else:
        low = math.log(np.finfo(dtype).tiny)
        x = np.linspace(low - 40, low + 1, 400).astype(dtype)
    worst = errors(name, x, np.longdouble).max()
    assert worst <= BOUND[name][0 if dtype == np.float32 else 1]


def test_an_element_does_not_depend_on_its_place(isa):
    x = np.random.default_rng(0).uniform(-20, 20, 83).astype(np.float32)
    with np.errstate(invalid="ignore"):
        for name in BOUND:
            whole = function(name, x)
            for i in range(len(x)):
                np.testing.assert_array_equal(function(name, x[i : i + 1].copy()), whole[i : i + 1])
