"""Convolutions and their gradients: twins, PyTorch, the same bits."""

import time

import numpy as np
import pytest

from native import activation, conv2d, on_threads, run_op
from reference import conv2d as twin

DTYPES = (np.float32, np.float64)
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
CHANNELS = (1, 2, 3, 4, 6, 7, 8, 9, 15, 16, 17, 24, 33, 70)


class Layer:
    """One geometry, with arrays for it."""

    def __init__(
        self,
        n,
        h,
        w,
        ic,
        oc,
        kernel,
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=1,
    ):
        self.x_shape = (n, h, w, ic)
        self.w_shape = (groups, *kernel, ic // groups, oc // groups)
        self.geometry = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        self.y_shape = (n, *twin.output_size((h, w), kernel, stride, padding, dilation), oc)

    def __repr__(self):
        return f"x {self.x_shape}, w {self.w_shape}, {self.geometry}"

    def sizes(self):
        """The ops' geometry, by name."""
        return conv2d.sizes_of(self.x_shape, self.w_shape, **self.geometry)

    def fill(self, rng, dtype, small_integers):
        def numbers(shape):
            if small_integers:
                return rng.integers(-3, 4, shape).astype(dtype)
            return rng.standard_normal(shape).astype(dtype)

        self.x, self.w = numbers(self.x_shape), numbers(self.w_shape)
        self.bias, self.scale = numbers(self.y_shape[3:]), numbers(self.y_shape[3:])
        self.dy, self.residual = numbers(self.y_shape), numbers(self.y_shape)
        return self


def random_layer(rng):
    groups = int(rng.choice([1, 1, 1, 2, 3, 5]))
    icg, ocg = (int(c) for c in rng.choice(CHANNELS, 2))
    if groups > 1:
        icg, ocg = min(icg, 24), min(ocg, 24)
    if rng.random() < 0.2:
        groups, icg, ocg = (
            int(rng.choice([2, 3, 7, 8, 16, 19, 33])),
            1,
            int(rng.choice([1, 1, 1, 2])),
        )
    kernel = tuple(int(k) for k in rng.integers(1, 6, 2))
    stride = tuple(int(s) for s in rng.choice([1, 1, 1, 2, 2, 3, 4, 7], 2))
    dilation = tuple(int(d) for d in rng.choice([1, 1, 1, 2, 3], 2))
    padding = tuple(int(p) for p in rng.choice([0, 0, 1, 2, 3, 5], 4))
    sizes = []
    for k, d, p, extra in zip(
        kernel,
        dilation,
        (padding[:2], padding[2:]),
        rng.choice([0, 0, 1, 2, 5, 9, 20], 2),
        strict=True,
    ):
        sizes.append(int(max(d * (k - 1) + 1 - sum(p), 1) + extra))
    n = int(rng.choice([1, 1, 2, 3, 5]))
    return Layer(n, *sizes, groups * icg, groups * ocg, kernel, stride, padding, dilation, groups)


def results_of(layer):
    """Forward, with weights packed or not, and constant, and all gradients."""
    g = layer.geometry
    x, w, bias, dy, residual = layer.x, layer.w, layer.bias, layer.dy, layer.residual
    results = []
    for how in ({}, {"packed": True}, {"packed": True, "constant": True}):
        masked = {"activation_grad": "relu", "saved": x}
        results += [
            conv2d.conv2d(x, w, bias, **how, **g),
            conv2d.conv2d(x, w, residual=residual, activation="relu", **how, **g),
            conv2d.conv2d(x, w, scale=layer.scale, **how, **g),
            conv2d.conv2d_input_grad(dy, w, x.shape, **how, **g),
            conv2d.conv2d_input_grad(dy, w, x.shape, **masked, **how, **g),
        ]
    for pieces in (None, 3):
        results += conv2d.conv2d_weight_grad(x, dy, w.shape, pieces=pieces, **g)
    return results


def expected_of(layer):
    """What the twins say to results_of, and sums of absolute products."""
    g = layer.geometry
    x, w, bias, dy, residual = layer.x, layer.w, layer.bias, layer.dy, layer.residual
    y, size = twin.conv2d(x, w, bias, **g), twin.conv2d(abs(x), abs(w), abs(bias), **g)
    dx = twin.input_grad(dy, w, x.shape, **g)
    dx_size = twin.input_grad(abs(dy), abs(w), x.shape, **g)
    dw, dbias = twin.weight_grad(x, dy, w.shape, **g)
    dw_size, dbias_size = twin.weight_grad(abs(x), abs(dy), w.shape, **g)
    fused = np.maximum(y - bias + residual, 0), size + abs(residual)
    scaled = (y - bias) * layer.scale, size * abs(layer.scale)
    forward = [(y, size), fused, scaled, (dx, dx_size), (dx * (x > 0), dx_size)]
    return [*forward * 3, *[(dw, dw_size), (dbias, dbias_size)] * 2]


def check_layer(layer, dtype, small_integers, rng, counts=(1,)):
    """Results against the twins, and the same bits on each number of threads.

    Exact on small integers, else within 8 roundings of the sum of absolute products.
    """
    layer.fill(rng, dtype, small_integers)
    first, *others = on_threads(lambda: results_of(layer), counts)
    for actual, (expected, magnitude) in zip(first, expected_of(layer), strict=True):
        assert actual.shape == expected.shape and actual.dtype == dtype
        gate = 0 if small_integers else 8 * UNIT[dtype] * magnitude
        assert np.all(abs(actual - expected) <= gate), repr(layer)
    for other in others:
        for mine, yours in zip(first, other, strict=True):
            assert mine.tobytes() == yours.tobytes(), repr(layer)


def check_random_layers(seed, count, make=random_layer):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        layer = make(rng)
        for dtype in DTYPES:
            for small_integers in (True, False):
                check_layer(layer, dtype, small_integers, rng, (1, 2, 3))


@pytest.mark.parametrize("seed", range(6))
def test_random_geometries_follow_the_twins_on_any_number_of_threads(isa, seed):
    check_random_layers(seed, 20)


def random_square_layer(rng):
    """A geometry whose outputs may be made in squares of 2 x 2, by Winograd's products."""
    ic, oc = (int(c) for c in rng.integers(20, 150, 2))
    padding = tuple(int(p) for p in rng.choice([0, 1, 1, 1, 2], 4))
    h, w = (int(size) for size in rng.integers(4, 18, 2))
    return Layer(int(rng.choice([1, 2, 3, 7])), h, w, ic, oc, (3, 3), padding=padding)


@pytest.mark.parametrize("seed", range(3))
def test_random_squares_of_outputs_follow_the_twins(isa, seed):
    check_random_layers(seed, 4, random_square_layer)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300, 320))
def test_400_random_squares_of_outputs_follow_the_twins(isa, seed):
    check_random_layers(seed, 20, random_square_layer)


def test_many_outputs_of_many_channels_are_made_in_squares():
    """By 16 products for 4 outputs instead of 36: where weights are packed for them, and nowhere else."""
    for layer, squares in (
        (Layer(1, 14, 14, 64, 64, (3, 3), padding=(1, 1, 1, 1)), True),
        (Layer(1, 14, 14, 64, 64, (3, 3)), True),
        (Layer(1, 14, 14, 64, 64, (3, 3), padding=(1, 1, 1, 2)), False),
        (Layer(1, 14, 14, 8, 8, (3, 3), padding=(1, 1, 1, 1)), False),
        (Layer(1, 14, 14, 64, 64, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1)), False),
        (Layer(1, 14, 14, 64, 64, (5, 5), padding=(2, 2, 2, 2)), False),
        (Layer(1, 14, 14, 64, 64, (3, 3), dilation=(2, 2)), False),
        (Layer(1, 3, 3, 64, 64, (3, 3), padding=(1, 1, 1, 1)), False),
        (Layer(1, 14, 14, 128, 128, (3, 3), groups=2), False),
        (Layer(1, 14, 14, 64, 64, (3, 3), groups=64), False),
    ):
        layer.fill(np.random.default_rng(8), np.float32, False)
        y, again = (conv2d.conv2d(layer.x, layer.w, packed=packed, **layer.geometry) for packed in (False, True))
        assert np.any(y != again) == squares, repr(layer)
        np.testing.assert_allclose(y, again, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_3000_random_geometries_follow_the_twins_on_any_number_of_threads(isa, seed):
    check_random_layers(seed, 30)


NAMED = {
    "one pixel": Layer(1, 1, 1, 1, 1, (1, 1)),
    "kernel as large as the input": Layer(2, 5, 7, 3, 4, (5, 7)),
    "kernel as large as the padded input": Layer(2, 3, 4, 5, 9, (5, 6), padding=(1, 1, 1, 1)),
    "stride larger than the kernel": Layer(2, 17, 16, 5, 6, (2, 3), stride=(5, 4)),
    "stride larger than the input": Layer(2, 3, 3, 5, 6, (2, 2), stride=(9, 8)),
    "more padding than kernel": Layer(1, 4, 4, 3, 5, (2, 2), padding=(4, 3, 5, 2)),
    "unequal sides": Layer(2, 9, 8, 4, 17, (4, 2), padding=(1, 2, 0, 1)),
    "taps that share no pixel": Layer(1, 21, 23, 4, 3, (3, 3), dilation=(7, 8), padding=(2, 2, 1, 1)),
    "dilation and stride with a common divisor": Layer(1, 19, 20, 5, 6, (3, 4), stride=(4, 6), dilation=(2, 3)),
    "one-dimensional": Layer(2, 1, 2500, 3, 20, (1, 5), padding=(0, 0, 2, 2)),
    "one column": Layer(2, 1300, 1, 3, 20, (5, 1), padding=(2, 2, 0, 0)),
    "lenet 1": Layer(3, 28, 28, 1, 6, (5, 5), padding=(2, 2, 2, 2)),
    "lenet 2": Layer(3, 14, 14, 6, 16, (5, 5)),
    "a first layer": Layer(1, 45, 45, 3, 64, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3)),
    "a sum cut into blocks": Layer(3, 7, 7, 300, 70, (3, 3), padding=(1, 1, 1, 1)),
    "a packed sum cut into blocks": Layer(6, 7, 7, 300, 40, (3, 3), padding=(1, 1, 1, 1)),
    "one tap over many channels": Layer(2, 9, 9, 700, 40, (1, 1)),
    "one tap, stride 2": Layer(2, 9, 10, 40, 70, (1, 1), stride=(2, 2)),
    "many panels": Layer(2, 10, 10, 64, 200, (3, 3), padding=(1, 1, 1, 1)),
    "several blocks of outputs": Layer(2, 40, 41, 30, 33, (3, 3), padding=(1, 1, 1, 1)),
    "depthwise": Layer(2, 20, 20, 70, 70, (3, 3), padding=(1, 1, 1, 1), groups=70),
    "depthwise, stride 2": Layer(2, 20, 21, 37, 37, (5, 4), stride=(2, 2), padding=(2, 1, 1, 2), groups=37),
    "depthwise, two outputs a channel": Layer(2, 8, 9, 5, 10, (3, 3), padding=(1, 1, 1, 1), groups=5),
    "groups": Layer(2, 12, 12, 96, 64, (3, 3), padding=(1, 1, 1, 1), groups=4),
    "an empty batch": Layer(0, 6, 6, 4, 5, (3, 3)),
    "outputs that read padding alone": Layer(2, 5, 6, 70, 20, (3, 3), padding=(4, 3, 5, 4)),
    "a border as wide as the image": Layer(7, 10, 10, 16, 6, (5, 5), padding=(4, 4, 4, 4)),
    "an empty batch of squares": Layer(0, 14, 14, 64, 64, (3, 3)),
    "squares of outputs, odd sizes": Layer(3, 13, 15, 70, 33, (3, 3), padding=(1, 1, 1, 1)),
    "squares of outputs, no padding": Layer(4, 8, 12, 130, 40, (3, 3)),
    "squares of outputs, one side padded": Layer(2, 14, 13, 96, 37, (3, 3), padding=(0, 1, 1, 0)),
    "squares of outputs, unequal sides": Layer(2, 14, 13, 96, 137, (3, 3), padding=(0, 2, 2, 0)),
    "squares of outputs, many padded": Layer(9, 7, 7, 48, 48, (3, 3), padding=(2, 2, 2, 2)),
}


def random_strides(rng):
    """A geometry of large strides, with and without divisors in common with the dilation."""
    kernel = tuple(int(k) for k in rng.integers(1, 14, 2))
    stride = tuple(int(s) for s in rng.choice([1, 6, 8, 12, 15, 40], 2))
    dilation = tuple(int(d) for d in rng.choice([1, 1, 2, 3, 4, 9], 2))
    padding = tuple(int(p) for p in rng.integers(0, 9, 4))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    free = reach[0] - sum(padding[:2]), reach[1] - sum(padding[2:])
    size = [int(max(f, 1) + rng.integers(0, 50)) for f in free]
    groups, ic, oc = (int(c) for c in rng.integers(1, 4, 3))
    return Layer(2, *size, groups * ic, groups * oc, kernel, stride, padding, dilation, groups)


def test_random_large_strides_follow_the_twins(isa):
    check_random_layers(11, 30, random_strides)


def seconds(call, *args, **settings):
    """The shorter of two calls' seconds: neighbours on a machine seldom disturb both."""
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        call(*args, **settings)
        times.append(time.perf_counter() - begun)
    return min(times)


@pytest.mark.parametrize("packed", (False, True))
def test_the_time_of_an_input_gradient_follows_the_arithmetic_not_the_stride(packed):
    """As many products at each stride; with stride 64 it took thousands of times as long as with 2."""
    rng = np.random.default_rng(0)
    times = []
    for stride in (4, 64):
        kernel, size = (stride, stride), 128
        layer = Layer(1, size, size, 8, 8, kernel, (stride, stride)).fill(rng, np.float32, False)
        arguments = layer.dy, layer.w, layer.x_shape
        times.append(seconds(conv2d.conv2d_input_grad, *arguments, packed=packed, **layer.geometry))
    assert times[1] < 50 * times[0] + 0.05


def test_a_stride_beyond_the_image_takes_no_longer_than_one_output():
    x = np.ones((1, 3, 3, 2), np.float32)
    w = np.ones((1, 2, 2, 2, 1), np.float32)
    for stride in (3, 2**20, 2**31 - 1):
        y = conv2d.conv2d(x, w, stride=(stride, stride))
        dx = conv2d.conv2d_input_grad(y, w, x.shape, stride=(stride, stride))
        np.testing.assert_array_equal(dx[0, :, :, 1], [[8, 8, 0], [8, 8, 0], [0, 0, 0]])


def test_kernels_of_65536_taps_take_no_pointer_for_each():
    """Stride 2 and 2 groups: pointers to the taps of each pixel took 50 times as long as for 240 x 240, and 50 MB for
    each thread."""
    rng = np.random.default_rng(0)
    times = []
    for taps in (240, 256):
        dy, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, 24, 24, 16), (2, taps, taps, 8, 8)))
        shape = (1, 46 + taps, 46 + taps, 16)
        times.append(seconds(conv2d.conv2d_input_grad, dy, w, shape, stride=(2, 2), groups=2, packed=True))
    assert times[1] < 8 * times[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMED)
def test_named_geometries_follow_the_twins(isa, name, dtype):
    rng = np.random.default_rng(1)
    for small_integers in (True, False):
        check_layer(NAMED[name], dtype, small_integers, rng)


@pytest.mark.parametrize("name", NAMED)
def test_the_bits_do_not_depend_on_the_threads(isa, name):
    layer = NAMED[name].fill(np.random.default_rng(2), np.float32, False)
    g = layer.geometry

    def everything():
        return (
            conv2d.conv2d(layer.x, layer.w, layer.bias, activation="tanh", **g),
            conv2d.conv2d(layer.x, layer.w, layer.bias, packed=True, **g),
            conv2d.conv2d_input_grad(layer.dy, layer.w, layer.x.shape, **g),
            conv2d.conv2d_input_grad(layer.dy, layer.w, layer.x.shape, packed=True, **g),
            *conv2d.conv2d_weight_grad(layer.x, layer.dy, layer.w.shape, **g),
            *conv2d.conv2d_weight_grad(layer.x, layer.dy, layer.w.shape, pieces=3, **g),
        )

    one, two, three = on_threads(everything)
    for arrays in zip(one, two, three, strict=True):
        assert len({array.tobytes() for array in arrays}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMED)
def test_nothing_is_read_or_written_beyond_the_buffers(isa, guarded, name, dtype):
    layer = NAMED[name].fill(np.random.default_rng(3), dtype, True)
    sizes, g = layer.sizes(), layer.geometry
    x, w, bias, residual, dy, scale = (
        guarded(a) for a in (layer.x, layer.w, layer.bias, layer.residual, layer.dy, layer.scale)
    )
    y, dx = guarded(np.zeros_like(residual)), guarded(np.zeros_like(x))
    dw, dbias = guarded(np.zeros_like(w)), guarded(np.zeros_like(bias))
    relu, none = activation.epilogue("relu"), activation.epilogue(None)
    run_op("conv2d", y=y, x=x, w=w, bias=bias, residual=residual, **sizes, **relu, constant=0)
    np.testing.assert_array_equal(y, np.maximum(twin.conv2d(x, w, bias, residual=residual, **g), 0))
    relu_grad, none_grad = (activation.epilogue(kind, name="act_grad") for kind in ("relu", None))
    run_op("conv2d_input_grad", dx=dx, dy=dy, w=w, saved=x, **sizes, **relu_grad, constant=0)
    np.testing.assert_array_equal(dx, twin.input_grad(dy, w, x.shape, **g) * (x > 0))
    for constant in (0, 1):
        packed, back = (guarded(np.zeros(conv2d.packed_elements(**sizes, kind=kind), dtype)) for kind in (0, 1))
        run_op("conv2d_pack", packed=packed, w=w, scale=scale, **sizes, kind=0, constant=constant)
        run_op("conv2d", y=y, x=x, w=w, packed=packed, scale=scale, bias=bias, **sizes, **none, constant=constant)
        np.testing.assert_array_equal(y, (twin.conv2d(x, w, **g)) * layer.scale + bias)
        run_op("conv2d_pack", packed=back, w=w, **sizes, kind=1, constant=constant)
        run_op("conv2d_input_grad", dx=dx, dy=dy, w=w, packed=back, **sizes, **none_grad, constant=constant)
        np.testing.assert_array_equal(dx, twin.input_grad(dy, w, x.shape, **g))
    expected = twin.weight_grad(x, dy, w.shape, **g)
    run_op("conv2d_weight_grad", dw=dw, dbias=dbias, x=x, dy=dy, **sizes, pieces=1)
    np.testing.assert_array_equal(dw, expected[0])
    np.testing.assert_array_equal(dbias, expected[1])
    partial = guarded(np.zeros(2 * (w.size + bias.size), dtype))
    dw[:], dbias[:] = 7, 7
    run_op("conv2d_weight_grad", dbias=dbias, partial=partial, x=x, dy=dy, **sizes, pieces=2)
    run_op("conv2d_weight_grad_sum", dw=dw, dbias=dbias, partial=partial, elements=w.size, oc=bias.size, pieces=2)
    np.testing.assert_array_equal(dw, expected[0])
    np.testing.assert_array_equal(dbias, expected[1])


def test_a_gradient_for_the_weights_alone_leaves_the_bias_out(isa):
    layer = NAMED["lenet 2"].fill(np.random.default_rng(4), np.float32, True)
    expected, _ = twin.weight_grad(layer.x, layer.dy, layer.w.shape, **layer.geometry)
    dw, inputs = np.zeros_like(layer.w), {"x": layer.x, "dy": layer.dy, **layer.sizes()}
    run_op("conv2d_weight_grad", dw=dw, **inputs, pieces=1)
    np.testing.assert_array_equal(dw, expected)
    partial, oc = np.zeros((3, layer.w.size + layer.bias.size), np.float32), layer.bias.size
    run_op("conv2d_weight_grad", partial=partial, **inputs, pieces=3)
    assert not partial[:, -oc:].any()
    dw[:] = 7
    run_op("conv2d_weight_grad_sum", dw=dw, partial=partial, elements=dw.size, oc=oc, pieces=3)
    np.testing.assert_array_equal(dw, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name",
    [
        "lenet 1",
        "many panels",
        "one tap, stride 2",
        "groups",
        "depthwise, stride 2",
        "squares of outputs, odd sizes",
    ],
)
@pytest.mark.parametrize("kind", activation.ACTIVATIONS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_fused_activation_is_the_activation_of_the_result(isa, packed, kind, name, dtype):
    layer = NAMED[name].fill(np.random.default_rng(5), dtype, False)
    g, alpha = {**layer.geometry, "packed": packed}, 0.3
    y = conv2d.conv2d(layer.x, layer.w, layer.bias, **g)
    fused = conv2d.conv2d(layer.x, layer.w, layer.bias, activation=kind, alpha=alpha, **g)
    np.testing.assert_array_equal(fused, activation.activation(kind, y, alpha))
    dx = conv2d.conv2d_input_grad(layer.dy, layer.w, layer.x.shape, **g)
    fused = conv2d.conv2d_input_grad(
        layer.dy, layer.w, layer.x.shape, activation_grad=kind, alpha=alpha, saved=layer.x, **g
    )
    np.testing.assert_array_equal(fused, activation.activation_backward(kind, dx, layer.x, alpha))


def test_nan_reaches_the_outputs_that_read_it_and_no_other(isa):
    layer = NAMED["several blocks of outputs"].fill(np.random.default_rng(6), np.float32, False)
    layer.x[1, 7, 9, 3] = np.nan
    y = conv2d.conv2d(layer.x, layer.w, layer.bias, activation="relu", **layer.geometry)
    expected = np.zeros(y.shape, bool)
    expected[1, 6:9, 8:11] = True
    np.testing.assert_array_equal(np.isnan(y), expected)
    saved = np.full_like(layer.x, np.nan)
    dx = conv2d.conv2d_input_grad(
        layer.dy, layer.w, layer.x.shape, activation_grad="relu", saved=saved, **layer.geometry
    )
    plain = conv2d.conv2d_input_grad(layer.dy, layer.w, layer.x.shape, **layer.geometry)
    np.testing.assert_array_equal(dx, plain)


SQUARES = (
    Layer(3, 12, 17, 40, 66, (3, 3), padding=(1, 1, 1, 1)),
    Layer(2, 9, 14, 48, 70, (3, 3), padding=(0, 1, 1, 0)),
    Layer(1, 16, 16, 130, 33, (3, 3)),
    Layer(5, 4, 5, 96, 96, (3, 3), padding=(1, 1, 1, 1)),
)


def sums_inside(x, w, padding):
    """The direct sum in float64: taps outside the image are left out, whatever their weights are."""
    top, bottom, left, right = padding
    (n, h, width, _), (_, _, _, _, oc) = x.shape, w.shape
    oh, ow = h + top + bottom - 2, width + left + right - 2
    y = np.zeros((n, oh, ow, oc))
    for i in range(3):
        for j in range(3):
            r0, r1 = max(top - i, 0), min(h + top - i, oh)
            c0, c1 = max(left - j, 0), min(width + left - j, ow)
            rows, cols = slice(r0 + i - top, r1 + i - top), slice(c0 + j - left, c1 + j - left)
            y[:, r0:r1, c0:c1] += x[:, rows, cols].astype(np.float64) @ w[0, i, j].astype(np.float64)
    return y


def gradients_inside(dy, w, padding):
    """The same for the gradient for the input, whose taps are the others' in reverse."""
    back = np.swapaxes(w[:, ::-1, ::-1], 3, 4)
    return sums_inside(dy, back, [2 - p for p in padding])


def assert_same_numbers(actual, expected, magnitude):
    """NaN and infinities alike, the rest within 8 roundings of the sum of absolute products."""
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(actual[infinite], expected[infinite])
    finite = np.isfinite(expected)
    error = np.abs(actual[finite].astype(np.float64) - expected[finite])
    assert np.all(error <= 8 * UNIT[actual.dtype.type] * magnitude[finite])


def finite_size(x):
    """Absolute values, 0 for what is not finite."""
    return np.where(np.isfinite(x), np.abs(x), 0).astype(np.float64)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("where", ("pixels", "weights", "everywhere", "one channel of weights"))
@pytest.mark.parametrize("layer", SQUARES, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_in_squares_that_are_not_finite_reach_what_the_direct_sum_says(isa, dtype, layer, where):
    rng = np.random.default_rng(6)
    layer.fill(rng, dtype, False)
    dx_saved = layer.x
    for special in (np.inf, -np.inf, np.nan):
        if where == "pixels":
            for array in (layer.x, layer.dy):
                array[tuple(rng.integers(0, size) for size in array.shape)] = special
        elif where == "weights":
            layer.w[0, 0, rng.integers(0, 3), rng.integers(0, layer.w.shape[3]), 0] = special
        elif where == "one channel of weights":
            layer.w[..., 2, 35 % layer.w.shape[4]] = special
        else:
            layer.x[:], layer.dy[:] = special, special
    g, padding = layer.geometry, layer.geometry["padding"]
    y = sums_inside(layer.x, layer.w, padding) + layer.residual
    size = sums_inside(finite_size(layer.x), finite_size(layer.w), padding) + abs(layer.residual)
    dx = gradients_inside(layer.dy, layer.w, padding)
    dx_size = gradients_inside(finite_size(layer.dy), finite_size(layer.w), padding)
    dw, _ = twin.weight_grad(layer.x, layer.dy, layer.w.shape, **g)
    dw_size, _ = twin.weight_grad(finite_size(layer.x), finite_size(layer.dy), layer.w.shape, **g)

    def results():
        how = {"packed": True, **g}
        x, w, dy, residual = layer.x, layer.w, layer.dy, layer.residual
        return [
            conv2d.conv2d(x, w, residual=residual, **how),
            conv2d.conv2d(x, w, residual=residual, activation="relu", constant=True, **how),
            conv2d.conv2d(x, w, residual=residual, activation="tanh", **how),
            conv2d.conv2d_input_grad(dy, w, x.shape, **how),
            conv2d.conv2d_input_grad(dy, w, x.shape, activation_grad="relu", saved=dx_saved, constant=True, **how),
            conv2d.conv2d_weight_grad(x, dy, w.shape, **g)[0],
            conv2d.conv2d_weight_grad(x, dy, w.shape, pieces=3, **g)[0],
            conv2d.conv2d_weight_grad(x, dy, w.shape, pieces=1, **g)[0],
        ]

    first, *others = on_threads(results)
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert a.tobytes() == b.tobytes()
    masked = np.where(dx_saved <= 0, 0, dx)
    expected = [
        (y, size),
        (np.where(y < 0, 0, y), size),
        (np.tanh(y), size + 1),
        (dx, dx_size),
        (masked, dx_size),
        (dw, dw_size),
        (dw, dw_size),
        (dw, dw_size),
    ]
    if "weights" in where and padding != (1, 1, 1, 1):
        # Gradients for these inputs are the direct sum's, whose few corners may multiply zeros, too.
        del first[3:5], expected[3:5]
    for actual, (numbers, magnitude) in zip(first, expected, strict=True):
        assert_same_numbers(actual, numbers, magnitude)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("layer", SQUARES, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_whose_transforms_overflow_come_out_where_their_sums_do_not(isa, dtype, layer):
    rng = np.random.default_rng(7)
    layer.fill(rng, dtype, False)
    g, how, padding = layer.geometry, {"packed": True, **layer.geometry}, layer.geometry["padding"]
    huge, tiny = dtype(np.finfo(dtype).max * 0.9), dtype(2.0**-16)
    x, dy = (np.copysign(huge, array) for array in (layer.x, layer.dy))
    w, w_huge = layer.w * tiny, np.copysign(huge, layer.w)
    for pixels, weights in ((x, w), (layer.x * tiny, w_huge)):
        assert_same_numbers(
            conv2d.conv2d(pixels, weights, **how),
            sums_inside(pixels / 4, weights, padding) * 4,
            sums_inside(abs(pixels) / 4, abs(weights), padding) * 4,
        )
    for pixels, weights in ((dy, w), (layer.dy * tiny, w_huge)):
        assert_same_numbers(
            conv2d.conv2d_input_grad(pixels, weights, x.shape, **how),
            gradients_inside(pixels / 4, weights, padding) * 4,
            gradients_inside(abs(pixels) / 4, abs(weights), padding) * 4,
        )
    for a, b in ((x, layer.dy * tiny), (layer.x * tiny, dy)):
        expected, _ = twin.weight_grad(a / 4, b, w.shape, **g)
        size, _ = twin.weight_grad(abs(a) / 4, abs(b), w.shape, **g)
        assert_same_numbers(conv2d.conv2d_weight_grad(a, b, w.shape, **g)[0], expected * 4, size * 4)


def test_a_number_that_is_not_finite_leaves_the_bits_of_other_squares(isa):
    layer = NAMED["squares of outputs, odd sizes"].fill(np.random.default_rng(6), np.float32, False)
    before = conv2d.conv2d(layer.x, layer.w, packed=True, **layer.geometry)
    layer.x[1, 6, 9, 3] = np.nan  # read by rows 5 to 7, columns 8 to 10
    after = conv2d.conv2d(layer.x, layer.w, packed=True, **layer.geometry)
    assert np.isnan(after[1, 5:8, 8:11]).all()
    assert np.isnan(after).sum() == 9 * after.shape[3]
    before[1, 4:8, 8:12] = after[1, 4:8, 8:12] = 0
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("seed", range(4))
def test_results_agree_with_pytorch(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    for _ in range(15):
        layer = random_layer(rng).fill(rng, np.float64, False)
        g = layer.geometry
        top, bottom, left, right = g["padding"]
        x = torch.from_numpy(layer.x.transpose(0, 3, 1, 2).copy()).requires_grad_()
        # (groups, KH, KW, IC / groups, OC / groups) to (OC, IC / groups, KH, KW)
        oihw = layer.w.transpose(0, 4, 3, 1, 2).reshape(-1, layer.w.shape[3], *layer.w.shape[1:3])
        w = torch.from_numpy(oihw.copy()).requires_grad_()
        bias = torch.from_numpy(layer.bias.copy()).requires_grad_()
        padded = torch.nn.functional.pad(x, (left, right, top, bottom))
        y = torch.nn.functional.conv2d(padded, w, bias, g["stride"], 0, g["dilation"], g["groups"])
        y.backward(torch.from_numpy(layer.dy.transpose(0, 3, 1, 2).copy()))
        dw, dbias = conv2d.conv2d_weight_grad(layer.x, layer.dy, layer.w.shape, **g)
        dw = dw.transpose(0, 4, 3, 1, 2).reshape(oihw.shape)
        dx = conv2d.conv2d_input_grad(layer.dy, layer.w, layer.x.shape, **g)
        for ours, theirs in [
            (conv2d.conv2d(layer.x, layer.w, layer.bias, **g).transpose(0, 3, 1, 2), y.detach()),
            (dx.transpose(0, 3, 1, 2), x.grad),
            (dw, w.grad),
            (dbias, bias.grad),
        ]:
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-11, atol=1e-11, err_msg=repr(layer))


def test_pieces_are_cut_by_shape_and_fit_every_smaller_batch():
    rng = np.random.default_rng(8)
    for _ in range(200):
        layer = random_layer(rng)
        sizes = layer.sizes()
        counts = [conv2d.weight_grad_pieces(**{**sizes, "n": n})[0] for n in (1, 2, 8, 64, 512)]
        assert counts[0] >= 1 and counts == sorted(counts)
        assert conv2d.weight_grad_pieces(**sizes)[1] == np.prod(layer.w_shape) + layer.y_shape[3]


def test_sizes_of_temporaries_are_refused_where_no_convolution_has_them():
    sizes = {**NAMED["groups"].sizes(), "n": 2}
    for wrong, error in (
        ({"groups": 5}, ValueError),
        ({"groups": 0}, ValueError),
        ({"stride_h": 0}, ValueError),
        ({"pad_left": -1}, ValueError),
        ({"dilation_w": 2**31}, ValueError),
        ({"oh": 2**30, "ow": 2**30}, ValueError),
        ({"kh": 2.5}, TypeError),
        ({"kw": 2**70}, OverflowError),
    ):
        with pytest.raises(error):
            conv2d.packed_elements(**{**sizes, **wrong}, kind=0)
        with pytest.raises(error):
            conv2d.weight_grad_pieces(**{**sizes, **wrong})
    with pytest.raises(TypeError, match="got n ih"):
        conv2d.weight_grad_pieces(n=2, ih=3)
