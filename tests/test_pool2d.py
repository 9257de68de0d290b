"""Pooling and its gradients: plain-loop twins, PyTorch, ties and NaN, the same bits."""

import numpy as np
import pytest

from fastnn.ops.arguments import sides
from fastnn.ops.pool2d import Windows

from native import on_threads, pool2d, run_op
from reference import pool2d as twin

DTYPES = (np.float32, np.float64)
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
CHANNELS = (1, 2, 3, 5, 6, 7, 8, 9, 15, 16, 17, 31, 40, 70)
NAN = np.nan


class Pool:
    """One geometry."""

    def __init__(self, x_shape, kernel, stride=None, padding=(0, 0), dilation=(1, 1), ceil_mode=False):
        self.x_shape, self.kernel, self.stride = x_shape, kernel, stride or kernel
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def __repr__(self):
        return str(vars(self))

    def windows(self, dilation=None):
        dilation = dilation or self.dilation
        return twin.windows(self.x_shape, self.kernel, self.stride, self.padding, dilation, self.ceil_mode)


def random_pool(rng):
    kernel = tuple(int(k) for k in rng.choice([1, 2, 2, 2, 3, 3, 4, 5], 2))
    dilation = tuple(int(d) for d in rng.choice([1, 1, 1, 2, 3], 2))
    stride = tuple(int(s) for s in rng.choice([1, 2, 2, 3, 4, 6], 2))
    padding, sizes = [], []
    for k, d, extra in zip(kernel, dilation, rng.choice([0, 0, 1, 3, 8, 15], 2), strict=True):
        # The average's window, which has no dilation, must fit, too.
        p = int(rng.integers(0, k // 2 + 1))
        padding.append(p)
        sizes.append(int(max(d * (k - 1) + 1 - 2 * p, 1) + extra))
    shape = (int(rng.choice([1, 1, 2, 4])), *sizes, int(rng.choice(CHANNELS)))
    return Pool(shape, kernel, stride, tuple(padding), dilation, bool(rng.integers(2)))


def numbers(rng, shape, dtype, small_integers):
    if small_integers:
        return rng.integers(-3, 4, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def check_max(pool, dtype, rng, small_integers):
    x = numbers(rng, pool.x_shape, dtype, small_integers)
    x[rng.random(x.shape) < 0.02] = NAN
    x[rng.random(x.shape) < 0.02] = -np.inf
    geometry = (pool.kernel, pool.stride, pool.padding, pool.dilation)
    taps, none = pool.windows(), pool.kernel[0] * pool.kernel[1]
    if none > 255:  # places in the image
        width, none = pool.x_shape[2], -1
        taps = [[([(y * width + x, y, x) for _, y, x in window], n) for window, n in row] for row in taps]
    y, index = pool2d.max_pool2d(x, *geometry, ceil_mode=pool.ceil_mode, return_index=True)
    expected, expected_index = twin.max_pool(x, taps, none)
    np.testing.assert_array_equal(y, expected, err_msg=repr(pool))
    np.testing.assert_array_equal(index, expected_index, err_msg=repr(pool))
    y = pool2d.max_pool2d(x, *geometry, ceil_mode=pool.ceil_mode)
    np.testing.assert_array_equal(y, expected, err_msg=repr(pool))
    dy = numbers(rng, y.shape, dtype, small_integers)
    dx = pool2d.max_pool2d_backward(dy, index, x.shape, *geometry, ceil_mode=pool.ceil_mode)
    size = twin.max_pool_backward(abs(dy), index, x.shape, taps)
    gate = 0 if small_integers else 8 * UNIT[dtype] * size
    expected = twin.max_pool_backward(dy, index, x.shape, taps)
    assert np.all(abs(dx - expected) <= gate), repr(pool)


def check_avg(pool, dtype, rng, small_integers):
    x = numbers(rng, pool.x_shape, dtype, small_integers)
    geometry, taps = (pool.kernel, pool.stride, pool.padding), pool.windows((1, 1))
    divisor = int(rng.integers(1, 9)) if rng.random() < 0.3 else None
    include = bool(rng.integers(2))
    options = {
        "ceil_mode": pool.ceil_mode,
        "count_include_pad": include,
        "divisor_override": divisor,
    }
    y = pool2d.avg_pool2d(x, *geometry, **options)
    size = twin.avg_pool(abs(x), taps, include, divisor)
    # Small integers have exact sums; what rounds is the quotient.
    gate = (1 if small_integers else 8) * UNIT[dtype] * size
    assert np.all(abs(y - twin.avg_pool(x, taps, include, divisor)) <= gate), repr(pool)
    dy = numbers(rng, y.shape, dtype, small_integers)
    dx = pool2d.avg_pool2d_backward(dy, x.shape, *geometry, **options)
    size = twin.avg_pool_backward(abs(dy), x.shape, taps, include, divisor)
    expected = twin.avg_pool_backward(dy, x.shape, taps, include, divisor)
    assert np.all(abs(dx - expected) <= 8 * UNIT[dtype] * size), repr(pool)


def check_adaptive(x_shape, output_size, dtype, rng):
    taps = twin.adaptive_windows(x_shape, output_size)
    x = numbers(rng, x_shape, dtype, False)
    y = pool2d.adaptive_avg_pool2d(x, output_size)
    assert np.all(abs(y - twin.avg_pool(x, taps)) <= 8 * UNIT[dtype] * twin.avg_pool(abs(x), taps))
    dy = numbers(rng, y.shape, dtype, False)
    dx = pool2d.adaptive_avg_pool2d_backward(dy, x_shape, output_size)
    size = twin.avg_pool_backward(abs(dy), x_shape, taps)
    assert np.all(abs(dx - twin.avg_pool_backward(dy, x_shape, taps)) <= 8 * UNIT[dtype] * size)

    x[rng.random(x_shape) < 0.02] = NAN
    y, index = pool2d.adaptive_max_pool2d(x, output_size, return_index=True)
    expected, expected_index = twin.max_pool(x, taps, -1)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_array_equal(pool2d.adaptive_max_pool2d(x, output_size), expected)
    dx = pool2d.adaptive_max_pool2d_backward(dy, index, x_shape, output_size)
    size = twin.max_pool_backward(abs(dy), index, x_shape, taps)
    expected = twin.max_pool_backward(dy, index, x_shape, taps)
    assert np.all(abs(dx - expected) <= 8 * UNIT[dtype] * size)


def check_random_pools(seed, count):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        pool = random_pool(rng)
        output_size = tuple(int(o) for o in rng.integers(1, 9, 2))
        for dtype in DTYPES:
            for small_integers in (True, False):
                check_max(pool, dtype, rng, small_integers)
                check_avg(pool, dtype, rng, small_integers)
            check_adaptive(pool.x_shape, output_size, dtype, rng)


@pytest.mark.parametrize("seed", range(10))
def test_random_geometries_follow_the_twins(isa, seed):
    check_random_pools(seed, 15)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 180))
def test_thousands_of_random_geometries_follow_the_twins(isa, seed):
    check_random_pools(seed, 30)


NAMED = {
    "lenet": Pool((3, 28, 28, 6), (2, 2)),
    "alexnet": Pool((1, 27, 27, 64), (3, 3), (2, 2)),
    "resnet": Pool((1, 28, 28, 64), (3, 3), (2, 2), (1, 1)),
    "one pixel": Pool((1, 1, 1, 1), (1, 1)),
    "the whole image": Pool((2, 5, 7, 9), (5, 7)),
    "a row too many for the windows": Pool((2, 7, 9, 16), (2, 2)),
    "a last window in ceil mode": Pool((2, 8, 6, 9), (3, 3), (2, 2), ceil_mode=True),
    "gaps between the windows": Pool((2, 16, 17, 12), (2, 3), (5, 4)),
    "dilated, taps of no other window": Pool((2, 15, 16, 8), (2, 2), (3, 3), dilation=(2, 2)),
    "dilated and overlapping": Pool((2, 15, 16, 8), (3, 2), (2, 1), (2, 0), dilation=(2, 3)),
    "windows outside the image": Pool((1, 1, 2, 3), (2, 2), (1, 1), (1, 1), dilation=(2, 2)),
    "one-dimensional": Pool((2, 1, 5000, 20), (1, 2)),
    "one-dimensional and overlapping": Pool((1, 1, 5000, 20), (1, 3), (1, 2), (0, 1)),
    "the largest window": Pool((1, 20, 20, 3), (15, 17), (1, 1)),
    "an empty batch": Pool((0, 4, 4, 3), (2, 2)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMED)
def test_named_geometries_follow_the_twins(isa, name, dtype):
    rng = np.random.default_rng(1)
    for small_integers in (True, False):
        check_max(NAMED[name], dtype, rng, small_integers)
        if NAMED[name].dilation == (1, 1):
            check_avg(NAMED[name], dtype, rng, small_integers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("x_shape", "output_size"),
    [
        ((2, 7, 7, 512), (1, 1)),
        ((2, 13, 9, 6), (6, 6)),
        ((1, 3, 4, 17), (7, 4)),
        ((0, 5, 5, 4), (2, 2)),
    ],
)
def test_adaptive_pooling_follows_the_twins(isa, x_shape, output_size, dtype):
    check_adaptive(x_shape, output_size, dtype, np.random.default_rng(2))


@pytest.mark.parametrize("name", NAMED)
def test_the_bits_do_not_depend_on_the_threads(isa, name):
    pool, rng = NAMED[name], np.random.default_rng(3)
    x = numbers(rng, pool.x_shape, np.float32, False)
    geometry, options = (pool.kernel, pool.stride, pool.padding), {"ceil_mode": pool.ceil_mode}
    dilated = (*geometry, pool.dilation)
    dy = numbers(rng, pool2d.max_pool2d(x, *dilated, **options).shape, np.float32, False)

    def everything():
        y, index = pool2d.max_pool2d(x, *dilated, return_index=True, **options)
        results = [y, index, pool2d.max_pool2d_backward(dy, index, x.shape, *dilated, **options)]
        if pool.dilation == (1, 1):
            results.append(pool2d.avg_pool2d(x, *geometry, **options))
            results.append(pool2d.avg_pool2d_backward(dy, x.shape, *geometry, **options))
        return results

    for arrays in zip(*on_threads(everything), strict=True):
        assert len({array.tobytes() for array in arrays}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMED)
def test_nothing_is_read_or_written_beyond_the_buffers(isa, guarded, name, dtype):
    pool, rng = NAMED[name], np.random.default_rng(4)
    taps, none = pool.windows(), pool.kernel[0] * pool.kernel[1]
    x = guarded(numbers(rng, pool.x_shape, dtype, True))
    expected, expected_index = twin.max_pool(x, taps, none)
    y, index = guarded(np.zeros(expected.shape, dtype)), guarded(np.zeros(expected.shape, np.uint8))
    dx, dy = guarded(np.zeros(x.shape, dtype)), guarded(numbers(rng, y.shape, dtype, True))
    windows = Windows(pool.kernel, pool.stride, sides(pool.padding, "padding"), pool.dilation, pool.ceil_mode)
    sizes = {**pool2d.images(pool.x_shape, y.shape[1:3]), **windows.dims()}
    run_op("max_pool2d", y=y, index=index, x=x, **sizes)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(index, expected_index)
    run_op("max_pool2d_backward", dx=dx, dy=dy, index=index, **sizes)
    np.testing.assert_array_equal(dx, twin.max_pool_backward(dy, index, x.shape, taps))
    run_op("avg_pool2d", y=y, x=x, **sizes, count_include_pad=1, divisor=1)
    np.testing.assert_array_equal(y, twin.avg_pool(x, taps, divisor=1))
    run_op("avg_pool2d_backward", dx=dx, dy=dy, **sizes, count_include_pad=1, divisor=1)
    np.testing.assert_array_equal(dx, twin.avg_pool_backward(dy, x.shape, taps, divisor=1))


def test_the_first_of_equal_maxima_takes_the_gradient(isa):
    x = np.ones((1, 4, 4, 6), np.float32)
    y, index = pool2d.max_pool2d(x, (2, 2), return_index=True)
    assert not index.any()
    dx = pool2d.max_pool2d_backward(y, index, x.shape, (2, 2))
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(dx[0, ..., 3], expected)


@pytest.mark.parametrize("seed", range(3))
def test_results_agree_with_pytorch(seed):
    torch = pytest.importorskip("torch")
    pooling = torch.nn.functional
    rng = np.random.default_rng(seed)

    def nchw(array):
        return torch.from_numpy(array.transpose(0, 3, 1, 2).copy())

    def assert_same(ours, theirs):
        np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), theirs.detach().numpy(), rtol=1e-12, atol=1e-12)

    def compare(x, theirs_of, ours_of, backward_of):
        """Both results and both gradients."""
        leaf = nchw(x).requires_grad_()
        theirs, ours = theirs_of(leaf), ours_of(x)
        assert_same(ours, theirs)
        dy = rng.standard_normal(ours.shape)
        theirs.backward(nchw(dy))
        assert_same(backward_of(dy), leaf.grad)

    for _ in range(15):
        pool = random_pool(rng)
        if not all(window for row in pool.windows() for window, _ in row):
            continue  # PyTorch's gradient of a window without taps writes out of bounds
        x = np.maximum(rng.standard_normal(pool.x_shape), 0)
        k, s, p, d, ceil = pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil_mode
        index = pool2d.max_pool2d(x, k, s, p, d, ceil_mode=ceil, return_index=True)[1]
        compare(
            x,
            lambda leaf, k=k, s=s, p=p, d=d, c=ceil: pooling.max_pool2d(leaf, k, s, p, d, c),
            lambda x, k=k, s=s, p=p, d=d, c=ceil: pool2d.max_pool2d(x, k, s, p, d, ceil_mode=c),
            lambda dy, i=index, x=x, k=k, s=s, p=p, d=d, c=ceil: pool2d.max_pool2d_backward(
                dy, i, x.shape, k, s, p, d, ceil_mode=c
            ),
        )
        for include, divisor in [(True, None), (False, None), (False, 5)]:
            options = {"ceil_mode": ceil, "count_include_pad": include, "divisor_override": divisor}
            compare(
                x,
                lambda leaf, k=k, s=s, p=p, o=options: pooling.avg_pool2d(leaf, k, s, p, **o),
                lambda x, k=k, s=s, p=p, o=options: pool2d.avg_pool2d(x, k, s, p, **o),
                lambda dy, x=x, k=k, s=s, p=p, o=options: pool2d.avg_pool2d_backward(dy, x.shape, k, s, p, **o),
            )
        size = tuple(int(o) for o in rng.integers(1, 9, 2))
        compare(
            x,
            lambda leaf, size=size: pooling.adaptive_avg_pool2d(leaf, size),
            lambda x, size=size: pool2d.adaptive_avg_pool2d(x, size),
            lambda dy, x=x, size=size: pool2d.adaptive_avg_pool2d_backward(dy, x.shape, size),
        )
        index = pool2d.adaptive_max_pool2d(x, size, return_index=True)[1]
        compare(
            x,
            lambda leaf, size=size: pooling.adaptive_max_pool2d(leaf, size),
            lambda x, size=size: pool2d.adaptive_max_pool2d(x, size),
            lambda dy, x=x, i=index, size=size: pool2d.adaptive_max_pool2d_backward(dy, i, x.shape, size),
        )


LARGE = [
    Pool((2, 20, 22, 5), (16, 16), (6, 5), (8, 2), (1, 1), False),
    Pool((1, 40, 30, 17), (17, 18), (17, 18), (0, 9), (2, 1), True),
    Pool((1, 1, 700, 3), (1, 300), (1, 100), (0, 150), (1, 2), False),
    Pool((2, 20, 20, 1), (20, 20), (20, 20), (0, 0), (1, 1), False),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pool", LARGE, ids=repr)
def test_windows_of_more_than_255_taps_are_the_twins(isa, pool, dtype):
    for small_integers in (True, False):
        check_max(pool, dtype, np.random.default_rng(0), small_integers)


def test_a_window_that_takes_several_rounds_is_numpys_on_any_threads(isa):
    x = np.random.default_rng(0).standard_normal((1, 1200, 900, 1)).astype(np.float32)

    def run():
        y, index = pool2d.max_pool2d(x, (1200, 900), return_index=True)
        return y, index, pool2d.max_pool2d_backward(y, index, x.shape, (1200, 900))

    for y, index, dx in on_threads(run, (1, 2, 3, 8)):
        assert y.item() == x.max()
        assert index.item() == x.argmax()
        np.testing.assert_array_equal(dx, np.where(x == x.max(), x, 0))
