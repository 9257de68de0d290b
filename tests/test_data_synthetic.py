"""The made-up problems: their shapes in the plane, and that a seed repeats them."""

import numpy as np
import pytest

from fastnn.data import circles, moons, spirals, xor

ALL = [xor, spirals, moons, circles]
# A radius or coordinate that carries no noise differs from its formula by float32's rounding.
ROUNDING = 4 * 2.0**-24


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("n", [1, 2, 5, 301])
def test_points_are_float32_in_the_plane_and_classes_int64(make, n):
    x, y = make(n, noise=0.1)
    assert (x.dtype, x.shape) == (np.float32, (n, 2))
    assert (y.dtype, y.shape) == (np.int64, (n,))
    assert np.isfinite(x).all()


@pytest.mark.parametrize("make", ALL)
def test_a_seed_repeats_the_points(make):
    x, y = make(50, noise=0.1, seed=3)
    again, y_again = make(50, noise=0.1, seed=3)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, y_again)
    assert (x != make(50, noise=0.1, seed=4)[0]).any()


@pytest.mark.parametrize("make", ALL)
def test_the_default_seed_is_0_and_none_is_chance(make):
    default, _ = make(50, noise=0.1)
    np.testing.assert_array_equal(default, make(50, noise=0.1, seed=0)[0])
    assert (make(50, noise=0.1, seed=None)[0] != make(50, noise=0.1, seed=None)[0]).any()


@pytest.mark.parametrize("make", ALL)
def test_a_generator_is_drawn_from(make):
    generator = np.random.default_rng(0)
    first, second = (make(50, noise=0.1, seed=generator)[0] for _ in range(2))
    np.testing.assert_array_equal(first, make(50, noise=0.1, seed=np.random.default_rng(0))[0])
    assert (first != second).any()


@pytest.mark.parametrize("make", ALL)
def test_classes_take_turns_so_that_every_beginning_is_balanced(make):
    _, y = make(40)
    classes = y.max() + 1
    assert classes == (3 if make is spirals else 2)
    for begin in range(0, 40 - 4 + 1, 4 if make is xor else 1):
        assert len(set(y[begin : begin + 4].tolist())) == classes


def test_xor_is_the_four_corners_of_the_unit_square():
    x, y = xor()
    assert x.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert y.tolist() == [0, 1, 1, 0]


def test_more_points_of_xor_scatter_around_the_corners():
    x, y = xor(4000, noise=0.1)
    corners = np.tile(xor()[0], (1000, 1))
    np.testing.assert_array_equal(y, np.tile([0, 1, 1, 0], 1000))
    assert abs((x - corners).std() - 0.1) < 0.005


def test_spirals_wind_4_radians_out_to_radius_1():
    x, y = spirals(300, noise=0)
    radius = np.hypot(*x.T)
    place = (np.arange(300) // 3 + 0.5) / 100
    np.testing.assert_allclose(radius, place, atol=ROUNDING)
    turned = (x[:, 0] + 1j * x[:, 1]) * np.exp(-1j * (2 * np.pi * y / 3 + 4 * place))
    np.testing.assert_allclose(turned, radius, atol=2 * ROUNDING)


def test_noise_of_spirals_is_in_the_angle_alone():
    x, _ = spirals(3000, noise=0.2)
    straight, _ = spirals(3000, noise=0)
    np.testing.assert_allclose(np.hypot(*x.T), np.hypot(*straight.T), atol=ROUNDING)
    angle = np.angle((x @ [1, 1j]) / (straight @ [1, 1j]))
    assert abs(angle.std() - 0.2) < 0.01


def test_spirals_have_as_many_arms_as_asked_for():
    for classes in (1, 2, 7):
        _, y = spirals(10 * classes + 1, classes=classes)
        assert np.bincount(y).tolist() == [11] + [10] * (classes - 1)


def test_moons_are_half_circles_around_their_centres():
    x, y = moons(100, noise=0)
    upper, lower = x[y == 0], x[y == 1] - [1, 0.5]
    np.testing.assert_allclose(np.hypot(*upper.T), 1, atol=ROUNDING)
    np.testing.assert_allclose(np.hypot(*lower.T), 1, atol=2 * ROUNDING)
    assert (upper[:, 1] > 0).all() and (lower[:, 1] < 0).all()
    assert upper[:, 0].max() > 0.99 and upper[:, 0].min() < -0.99


def test_circles_have_radius_1_and_factor():
    x, y = circles(100, factor=0.3, noise=0)
    np.testing.assert_allclose(np.hypot(*x.T), np.where(y == 0, 1, 0.3), atol=ROUNDING)
    np.testing.assert_allclose(x[y == 0].mean(axis=0), 0, atol=ROUNDING)  # all the way round


@pytest.mark.parametrize("make", [xor, moons, circles])
def test_noise_is_gaussian_on_each_coordinate(make):
    difference = make(4000, noise=0.3)[0] - make(4000, noise=0)[0]
    np.testing.assert_allclose(difference.std(axis=0), 0.3, rtol=0.06)
    np.testing.assert_allclose(difference.mean(axis=0), 0, atol=0.03)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"n": 0}, ValueError, "n"),
        ({"n": -3}, ValueError, "n"),
        ({"n": 2.5}, TypeError, "n"),
        ({"n": True}, TypeError, "n"),
        ({"n": "4"}, TypeError, "n"),
        ({"noise": -0.1}, ValueError, "noise"),
        ({"noise": float("nan")}, ValueError, "noise"),
        ({"noise": float("inf")}, ValueError, "noise"),
        ({"noise": "much"}, TypeError, "noise"),
        ({"noise": "0.1"}, TypeError, "noise"),
        ({"noise": None}, TypeError, "noise"),
        ({"noise": True}, TypeError, "noise"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.0}, TypeError, "seed"),
        ({"seed": False}, TypeError, "seed"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(make, options, error, name):
    with pytest.raises(error, match=f"^{name}(:| must be) "):
        make(**{"n": 10, **options})


@pytest.mark.parametrize(
    ("make", "options", "error", "name"),
    [
        (spirals, {"classes": 0}, ValueError, "classes"),
        (spirals, {"classes": 2.0}, TypeError, "classes"),
        (circles, {"factor": -0.1}, ValueError, "factor"),
        (circles, {"factor": 1.1}, ValueError, "factor"),
        (circles, {"factor": float("nan")}, ValueError, "factor"),
        (circles, {"factor": "half"}, TypeError, "factor"),
    ],
)
def test_a_wrong_shape_argument_is_refused_by_name(make, options, error, name):
    with pytest.raises(error, match=f"^{name}(:| must be) "):
        make(10, **options)
