"""No chunk of work lasts longer than a millisecond, whatever the sizes: between chunks Ctrl-C is heard, and a thread
that lost its core holds the others up no longer than its chunk takes.

Drivers cut by estimates, which these tests read; nothing is computed. The sizes are those at which one thing is long:
a row, a column, a sum, a window, the channels, the kernel.
"""

import itertools
import math

import numpy as np
import pytest

from fastnn.lowering.signature import signature
from fastnn_ext import activation, conv2d, elementwise, gemm, reduce
from fastnn_ext.optimizer import HYPER_NAMES, PIECE
from fastnn_ext.runtime import registered_ops

from native import plan_of_op

MOST_NS = 1e6
LONG = 10**7
WIDE = 10**6


def longest_chunk(kernel, operands, dtype, **sizes):
    """Nanoseconds that a chunk of a native op takes, by estimate, with these operands."""
    arrays = dict.fromkeys(operands.split(), np.zeros(1, dtype))
    scalars = {parameter.name: 1.0 for parameter in signature(kernel).scalars}
    ((_, _, chunks, _, cost),) = plan_of_op(kernel, dtype, **arrays, **sizes, **scalars).phases(1)
    return cost / max(chunks, 1)


# ---- sizes ----------------------------------------------------------------------------------------


def convolutions():
    """n ih iw ic oc kh kw stride padding dilation groups."""
    yield 64, 56, 56, 256, 256, 3, 3, 1, 1, 1, 1
    yield 1, 16, 16, 8192, 32, 3, 3, 1, 1, 1, 1
    yield 128, 224, 224, 3, 64, 11, 11, 4, 2, 1, 1
    yield 1, 1, 1, WIDE, 8, 1, 1, 1, 0, 1, 1
    yield 1, 1, 1, 16, WIDE, 1, 1, 1, 0, 1, 1
    yield 1, 10, 30, 10**5, 16, 1, 1, 1, 0, 1, 1
    yield 1, 256, 256, 3, 8, 256, 256, 1, 20, 1, 1
    yield 1, 300, 300, 4, 4, 256, 256, 2, 0, 1, 2
    yield 1, 400, 400, 2, 8, 101, 101, 1, 100, 2, 1
    yield 1, 400, 64, 1, 1, 200, 1, 1, 0, 1, 1
    yield 1, 300, 300, 8, 8, 256, 256, 1, 0, 1, 8
    yield 1, 512, 512, 32, 32, 512, 512, 1, 0, 1, 32
    yield 1, 1, WIDE, 8, 8, 1, 9, 1, 0, 1, 1
    yield 1, 1, 300000, 1, 4, 1, 100001, 1000, 0, 1, 1
    yield 1, 1, WIDE, 4, 32, 1, WIDE, 1, 0, 1, 1
    yield 1, 4, 4, 2 * 10**5, 2 * 10**5, 3, 3, 1, 1, 1, 10**5
    yield 1, 8, 8, 10**5, 10**5, 3, 3, 1, 1, 1, 10**5
    yield 1, 256, 256, 3, 16, 64, 64, 64, 0, 1, 1
    yield 2, 512, 512, 64, 64, 3, 3, 1, 1, 1, 1


def geometry(n, ih, iw, ic, oc, kh, kw, stride, padding, dilation, groups):
    oh, ow = ((i + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for i, k in ((ih, kh), (iw, kw)))
    return dict(
        **dict(n=n, ih=ih, iw=iw, ic=ic, oh=oh, ow=ow, oc=oc, kh=kh, kw=kw, stride_h=stride, stride_w=stride),
        **dict(pad_top=padding, pad_left=padding, dilation_h=dilation, dilation_w=dilation, groups=groups),
    )


def convolution_ops():
    for sizes in convolutions():
        g = geometry(*sizes)
        for constant in (0, 1):
            for packed in ("", " packed"):
                yield "conv2d", "y x w bias" + packed, dict(g, act=-1, constant=constant)
                yield "conv2d_input_grad", "dx dy w" + packed, dict(g, act_grad=-1, constant=constant)
            for kind in (0, 1):
                yield "conv2d_pack", "packed w", dict(g, kind=kind, constant=constant)
        pieces, elements = conv2d.weight_grad_pieces(**g)
        yield "conv2d_weight_grad", "dw dbias x dy" + (" partial" if pieces > 1 else ""), dict(g, pieces=pieces)
        if pieces > 1:
            size = sizes[5] * sizes[6] * sizes[3] // sizes[-1] * sizes[4]
            assert elements >= size
            yield "conv2d_weight_grad_sum", "dw dbias partial", dict(elements=size, oc=sizes[4], pieces=pieces)


def products():
    yield from ((1, 4096, 25088), (1, WIDE, 100), (1, 1, LONG), (1, 10**5, 1000), (10, 10, WIDE), (3, 3, LONG))
    yield from ((100, 100, 10**5), (2, 4096, 9216), (LONG, 1, 10), (10, WIDE, 10), (2048, 2048, 2048), (1, LONG, 1))
    yield from ((1, 31, WIDE), (64, 64, 65536), (1000, 1, 10**5), (20, 40, WIDE), (LONG, 1, 1), (3, 4096, 25088))


def product_ops():
    linear = dict(act=-1, act_grad=-1)
    for (m, n, k), a_is_t, b_is_t in itertools.product(products(), (False, True), (False, True)):
        a, b = ((1, m) if a_is_t else (k, 1)), ((1, k) if b_is_t else (n, 1))
        sizes = dict(batch=1, m=m, n=n, k=k, a_row=a[0], a_col=a[1], a_batch=0, b_row=b[0], b_col=b[1], b_batch=0)
        sizes |= dict(c_row=n, c_batch=0)
        yield "gemm", "c a b bias", sizes | linear
        if gemm.packed_columns(m, n, k, 4):
            yield "gemm", "c a b bias panels", sizes | linear
            yield "gemm_pack", "panels b", sizes
        if m == 1 and not b_is_t and gemm.row_parts(n, k, 4) > 1:
            yield "gemm", "c a b bias partial", sizes | linear
            yield "gemm_sum", "c partial bias", sizes | linear
    many = dict(batch=10000, m=64, n=64, k=64, a_row=64, a_col=1, a_batch=4096, b_row=64, b_col=1, b_batch=4096)
    yield "gemm", "c a b", dict(many, c_row=64, c_batch=4096, **linear)


def norm_ops():
    gelu = activation.ACTIVATIONS.index("gelu")
    long, wide = ((LONG, 1), (LONG, 3), (WIDE, 64)), ((64, 10**5), (1, WIDE), (1, LONG), (17, WIDE), (1300, 65536))
    for rows, channels in (*long, *wide):
        sizes = dict(rows=rows, channels=channels)
        yield "batch_norm_stats", "partial x", sizes
        yield "batch_norm_finish", "mean invstd var partial x", sizes
        yield "batch_norm_running", "running_mean running_var batches mean var", sizes
        yield "batch_norm_invstd", "invstd var", dict(channels=channels)
        for act in (-1, gelu):
            numbers = sizes | dict(act=act)
            yield "batch_norm_apply", "y x mean invstd weight bias", numbers
            yield "batch_norm_eval", "y x running_mean running_var weight bias", numbers
            yield "batch_norm_grad_stats", "partial dy x mean invstd y", numbers
            yield "batch_norm_grad_apply", "dx dy x mean invstd weight sums y", numbers
        yield "batch_norm_grad_finish", "dweight dbias sums partial", sizes
        yield "layer_norm", "y mean invstd x weight bias", dict(rows=rows, cols=channels)
        yield "layer_norm_backward", "dx dy x mean invstd weight", dict(rows=rows, cols=channels)
        yield "layer_norm_grad_params", "partial dy x mean invstd", dict(rows=rows, cols=channels)
        for size in (5, min(1000, 2 * channels)):
            numbers = sizes | dict(size=size)
            yield "local_response_norm", "y base x", numbers
            yield "local_response_norm_backward", "dx dy x base", numbers
    long, wide = ((1, LONG, 1, 1), (1, WIDE, 32, 32)), ((1, 100, 10**5, 1), (1, 100, 10**5, 10**5), (1, 1, LONG, 1))
    for n, rows, channels, groups in (*long, *wide, (2, 4, WIDE, 2)):
        sizes = dict(n=n, rows=rows, channels=channels)
        yield "group_norm_stats", "partial x", sizes
        yield "group_norm_finish", "mean invstd partial x", sizes | dict(groups=groups)
        yield "group_norm_apply", "y x mean invstd weight bias", sizes | dict(groups=groups, act=-1)
        yield "group_norm_grad_stats", "partial dy x mean invstd", sizes | dict(groups=groups, act=-1)
        yield "group_norm_grad_params", "dweight dbias partial", sizes
        yield "group_norm_grad_finish", "sums partial weight", sizes | dict(groups=groups)
        yield "group_norm_grad_apply", "dx dy x mean invstd weight sums", sizes | dict(groups=groups, act=-1)


def loss_ops():
    for rows, cols in ((1, WIDE), (1, LONG), (4, WIDE), (LONG, 2), (64, 10**5), (300, 33000), (LONG, 1)):
        for log in (0, 1):
            yield "softmax", "y x", dict(rows=rows, cols=cols, log=log)
            yield "softmax_backward", "dx dy y", dict(rows=rows, cols=cols, log=log)
        for operands in ("row_loss logits labels", "row_loss dlogits logits labels weight"):
            for kernel in ("cross_entropy", "nll"):
                yield kernel, operands, dict(rows=rows, cols=cols, ignore_index=-100, reduction=1)
    for n, reduction in itertools.product((LONG, 10**8), (0, 1)):
        for kernel in ("mse", "l1", "smooth_l1", "huber", "bce", "soft_margin"):
            yield kernel, "loss dinput input target", dict(n=n, reduction=reduction)
        yield "bce_with_logits", "loss dinput input target weight", dict(n=n, reduction=reduction, cols=10)


def element_ops():
    for k in range(len(elementwise.UNARY)):
        yield "unary", "y x", dict(n=LONG, kind=k)
    for k in range(len(activation.ACTIVATIONS)):
        yield "activation", "y x", dict(n=LONG, kind=k)
        yield "activation_backward", "dx dy saved", dict(n=LONG, kind=k)
    yield "fill", "y", dict(n=LONG)
    yield "divide_by_size", "y x", dict(n=LONG, size=LONG)
    for kernel in (*HYPER_NAMES, "average"):
        form = signature(kernel)
        arrays = " ".join(p.name for p in (*form.outputs, *form.inputs))
        yield kernel, arrays, {p.name: 0 for p in form.dims} | dict(n=LONG, count=1)
    for n, width in ((LONG, 1), (1, LONG), (10**5, 64)):
        arrays = "param grad hyper steps begins rows"
        settings = dict(count=1, maximize=0, decoupled=0, nesterov=0)
        yield "sgd_rows", arrays, dict(n=n, width=width) | settings
    yield "squares", "sums x pieces", dict(n=LONG, count=LONG)
    yield "total", "total sums before", dict(count=LONG // PIECE, root=1)
    yield "nadam_count", "mu_product hyper steps", dict(count=LONG)
    yield "rprop_count", "loss hyper steps present", dict(count=LONG)
    yield "tick", "hyper steps", dict(count=LONG, updates=-1, condition=-1)
    yield "philox", "out state", dict(n=LONG, stream=0, first=0)
    yield "uniform", "out state", dict(n=LONG, stream=0)
    yield "normal", "out state", dict(n=LONG, stream=0)
    for inner, period in ((1, 0), (LONG, 0), (1, LONG), (10, WIDE), (WIDE, 10)):
        yield "dropout", "y state x", dict(n=LONG, stream=0, inner=inner, period=period)
    shapes = (([LONG], [1], [1]), ([LONG // 2, 2], [2, 1], [0, 1]), ([3000, 3000], [1, 3000], [3000, 1]))
    for kind, (shape, a, b) in itertools.product((0, 6), shapes):
        yield "binary", "y a b", dict(kind=kind, ndim=len(shape), shape=shape, a_strides=a, b_strides=b)
    for shape, y, x in (
        ([4096, 4096], [4096, 1], [1, 4096]),
        ([2, WIDE], [WIDE, 1], [1, 2]),
        ([WIDE, 2], [2, 1], [1, WIDE]),
        ([10**5], [1], [1024]),
        ([LONG], [1], [0]),
    ):
        yield "copy", "y x", dict(ndim=len(shape), shape=shape, y_strides=y, x_strides=x)
    sums = ((1, LONG, 1), (1, LONG, 2), (1, 10**5, 128), (LONG, 1, 1), (1, 2, LONG), (64, WIDE, 1))
    for kind, (outer, length, inner) in itertools.product(range(len(reduce.REDUCE)), sums):
        yield "reduce", "y x", dict(kind=kind, outer=outer, length=length, inner=inner, pieces=1)
    for shape, strides in (([LONG], ([1], [1], [0])), ([3000, 3000], ([1, 3000], [0, 1], [3000, 1]))):
        settings = dict(zip(("c_strides", "a_strides", "b_strides"), strides, strict=True))
        yield "where", "y c a b", dict(ndim=len(shape), shape=shape, **settings)
    for source in range(3):
        yield "cast", "y x", dict(n=LONG, source=source)
    for (outer, length, inner), reverse in itertools.product(sums, (0, 1)):
        yield "cumsum", "y x", dict(outer=outer, length=length, inner=inner, reverse=reverse)


def index_ops():
    """outer length inner count."""
    sizes = (
        (1, LONG, 1, LONG),
        (1, WIDE, 64, 1),
        (1, 10, 10, LONG),
        (1, 2, LONG, 3),
        (64, 10, 1, WIDE),
        (LONG, 3, 1, 1),
    )
    for outer, length, inner, count in sizes:
        x = dict(outer=outer, length=length, inner=inner)
        for strides in ((0, 1, 0), (count * inner, inner, 1)):
            places = dict(zip(("index_outer", "index_count", "index_inner"), strides, strict=True))
            yield "gather", "y x index", x | places | dict(count=count)
            yield "scatter_add", "dx dy index", x | places | dict(count=count)
        yield "scatter_add", "dx dy index rows", x | places | dict(count=count)
        for kind in (0, 1):
            yield "arg_extreme", "y x", x | dict(kind=kind)
            for k in {1, length}:
                yield "top", "y x", x | dict(kind=kind, count=k)
    for n, classes in ((1, LONG), (LONG, 1), (1000, 10**5)):
        yield "one_hot", "y index", dict(n=n, classes=classes)
    yield "first_rows", "rows mark index", dict(n=LONG, length=10)
    yield "flat_index", "y indices", dict(n=LONG, strides=[10, 1], count=2)


def pool_ops():
    """n ih iw c kh kw stride; n ih iw c oh ow of adaptive ones."""
    for n, ih, iw, c, kh, kw, stride in (
        (1, 2048, 2048, 1, 2, 2, 2),
        (1, 200, 200, 64, 200, 200, 1),
        (1, 3000, 3000, 4, 2000, 2000, 1),
        (1, 1, 2 * WIDE, 1, 1, WIDE, 10**5),
        (1, 4, 4, WIDE, 2, 2, 2),
        (1, 15, 15, 10**5, 15, 15, 15),
        (1, 10**4, 10**4, 1, 1, 1, 10**4),
        (1, WIDE, 1, 4, 4, 1, 4),
    ):
        oh, ow = ((i - k) // stride + 1 for i, k in ((ih, kh), (iw, kw)))
        sizes = dict(n=n, ih=ih, iw=iw, c=c, oh=oh, ow=ow, kh=kh, kw=kw, stride_h=stride, stride_w=stride)
        sizes |= dict(pad_top=0, pad_left=0, dilation_h=1, dilation_w=1)
        average = dict(count_include_pad=1, divisor=0)
        yield "avg_pool2d", "y x", sizes | average
        yield "avg_pool2d_backward", "dx dy", sizes | average
        yield "max_pool2d", "y index x", sizes
        yield "max_pool2d", "y x", sizes
        yield "max_pool2d_backward", "dx dy index", sizes
    for n, ih, iw, c, oh, ow in (
        (8, 56, 56, 256, 1, 1),
        (1, 3000, 3000, 3, 1, 1),
        (1, 1, LONG, 1, 1, 1),
        (1, 100, 100, 2048, 1, 1),
        (1, 1, 1, 64, 300, 300),
        (1, 7, 7, 10**5, 1, 1),
        (1, 1, WIDE, 1, 1, 999),
    ):
        sizes = dict(n=n, ih=ih, iw=iw, c=c, oh=oh, ow=ow)
        yield "adaptive_avg_pool2d", "y x", sizes
        yield "adaptive_avg_pool2d_backward", "dx dy", sizes
        yield "adaptive_max_pool2d", "y index x", sizes
        yield "adaptive_max_pool2d_backward", "dx dy index", sizes


FAMILIES = (convolution_ops, product_ops, norm_ops, loss_ops, element_ops, index_ops, pool_ops)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_chunk_is_short_whatever_the_sizes(family, dtype, isa):
    long = []
    for kernel, operands, numbers in family():
        ns = longest_chunk(kernel, operands, dtype, **numbers)
        if not ns <= MOST_NS:
            long.append(f"{kernel}({operands}) {numbers}: {ns / 1e6:.2f} ms")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_chunk_of_numbers_far_from_1_is_short(dtype, isa):
    """Norms read such numbers once more, one by one: 2 to 4 ns each, as measured on Zen 5."""
    rereads = ("batch_norm_finish", "batch_norm_grad_stats", "layer_norm", "layer_norm_backward", "group_norm_finish")
    tried = set()
    for kernel, operands, numbers in norm_ops():
        if kernel not in (*rereads, "group_norm_grad_stats"):
            continue
        tried.add(kernel)
        scalars = {parameter.name: 1.0 for parameter in signature(kernel).scalars}
        arrays = dict.fromkeys(operands.split(), np.zeros(1, dtype))
        ((_, _, chunks, *_),) = plan_of_op(kernel, dtype, **arrays, **numbers, **scalars).phases(1)
        elements = math.prod(size for name, size in numbers.items() if name not in ("act", "groups"))
        assert elements * 4 / chunks <= MOST_NS, (kernel, numbers, chunks)
    assert len(tried) == len(rereads) + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("sizes", "moves"),
    [((1, 512, 512, 32, 32, 512, 512, 1, 0, 1, 32), 4), ((1, 1, WIDE, 4, 32, 1, WIDE, 1, 0, 1, 1), 1)],
)
def test_a_gradient_for_many_weights_waits_for_memory(sizes, moves, dtype, isa):
    """Of one output each: chunks of an estimated 0.6 ms took 2. Depthwise sums are moved before they are written."""
    _, _, _, ic, oc, kh, kw, *_, groups = sizes
    g = geometry(*sizes)
    pieces, _ = conv2d.weight_grad_pieces(**g)
    assert pieces == 1
    one = np.zeros(1, dtype)
    plan = plan_of_op("conv2d_weight_grad", dtype, dw=one, x=one, dy=one, **g, pieces=1)
    ((_, _, _, _, cost),) = plan.phases(1)
    assert cost >= 0.3 * moves * (np.dtype(dtype).itemsize / 4) * kh * kw * ic // groups * oc


def test_every_op_is_tried():
    tried = {kernel for family in FAMILIES for kernel, _, _ in family()}
    short = {"advance", "finite", "callback"}  # one number, or what its function makes of it
    assert tried | short == set(registered_ops())
