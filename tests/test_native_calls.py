"""Every function of fastnn_ext that Python can call: what does not fit is refused, and never crashes or hangs."""

import importlib
import pkgutil
import time

import numpy as np
import pytest

import fastnn  # noqa: F401  (registers all drivers)
import fastnn_ext

F4 = np.float32
ONE = (1, 1)


def real(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(F4)


IMAGES, ROWS, SAMPLES, C = real(2, 6, 6, 4), real(5, 4), real(2, 5, 4), real(4)
GEOMETRY = dict(
    n=2, ih=6, iw=6, ic=4, oh=4, ow=4, oc=3, kh=3, kw=3, stride_h=1, stride_w=1, pad_top=0, pad_left=0,
    dilation_h=1, dilation_w=1, groups=1,
)  # fmt: skip
POSITIVE = np.abs(C) + 1
NORM = dict(mean=C, invstd=POSITIVE)
GROUP = dict(mean=real(2, 2), invstd=np.abs(real(2, 2)) + 1)
NATIVE = {
    name: importlib.import_module(f"fastnn_ext.{name}") for _, name, _ in pkgutil.iter_modules(fastnn_ext.__path__)
}
PIECES = NATIVE["norm"].batch_norm_stats(ROWS)
PARTS = NATIVE["norm"].group_norm_stats(SAMPLES)
# By "module.function", arguments that fit, by name.
CALLS = {
    "conv2d.weight_grad_pieces": GEOMETRY,
    "conv2d.packed_elements": {**GEOMETRY, "kind": 0},
    "conv2d.conv2d": dict(
        x=IMAGES, w=real(3, 3, 4, 3), bias=real(3), stride=ONE, padding=(0, 0, 0, 0), dilation=ONE, groups=1,
        activation="relu", alpha=0.0, residual=real(2, 4, 4, 3), scale=real(3), packed=True, kept=False,
    ),
    "conv2d.conv2d_input_grad": dict(
        dy=real(2, 4, 4, 3), w=real(3, 3, 4, 3), x_shape=IMAGES.shape, stride=ONE, padding=(0, 0, 0, 0), dilation=ONE,
        groups=1, activation_grad="relu", alpha=0.0, saved=IMAGES, packed=True, kept=False,
    ),
    "conv2d.conv2d_weight_grad": dict(
        x=IMAGES, dy=real(2, 4, 4, 3), w_shape=(1, 3, 3, 4, 3), stride=ONE, padding=(0, 0, 0, 0), dilation=ONE,
        groups=1, out=real(1, 3, 3, 4, 3), bias_out=real(3), accumulate=False, pieces=2,
    ),
    "gemm.row_parts": dict(n=4, k=5, itemsize=4),
    "gemm.packed_columns": dict(m=4, n=4, k=5, itemsize=4),
    "gemm.gemm": dict(
        a=ROWS, b=real(4, 3), bias=real(3), transpose_a=False, transpose_b=False, out=None, accumulate=False,
        activation="relu", alpha=0.0,
    ),
    "loss.softmax": dict(x=ROWS, log=False),
    "loss.softmax_backward": dict(dy=ROWS, y=ROWS, log=False),
    "loss.cross_entropy": dict(
        logits=ROWS, labels=np.array([0, 1, 2, 3, 0]), weight=POSITIVE, ignore_index=-100, reduction="mean",
    ),
    "loss.mse": dict(input=ROWS, target=ROWS + 1, reduction="mean", gradient=True),
    "loss.l1": dict(input=ROWS, target=ROWS + 1, reduction="mean", gradient=True),
    "loss.smooth_l1": dict(input=ROWS, target=ROWS + 1, beta=1.0, reduction="mean", gradient=True),
    "loss.huber": dict(input=ROWS, target=ROWS + 1, delta=1.0, reduction="mean", gradient=True),
    "loss.bce_with_logits": dict(
        input=ROWS, target=np.abs(ROWS), weight=ROWS, pos_weight=POSITIVE, reduction="mean", gradient=True
    ),
    "machine.multiply_add": dict(start=1.0, a=0.5, b=0.5, rounds=10),
    "machine.triad": dict(y=real(9), x=real(9), z=real(9), s=1.0),
    "norm.group_pieces": dict(rows=100),
    "norm.batch_norm_stats": dict(x=ROWS),
    "norm.batch_norm_finish": dict(partial=PIECES, x=ROWS, eps=1e-5),
    "norm.batch_norm_running": dict(
        running_mean=C.copy(), running_var=C.copy(), mean=C, var=C.copy(), rows=5, momentum=0.1, batches=np.array(0),
    ),
    "norm.batch_norm_invstd": dict(var=POSITIVE, eps=1e-5),
    "norm.batch_norm_apply": dict(
        x=ROWS, **NORM, weight=real(4), bias=real(4), residual=ROWS, activation="relu", alpha=None, out=None
    ),
    "norm.batch_norm_eval": dict(
        x=ROWS, running_mean=C, running_var=POSITIVE, weight=real(4), bias=real(4), eps=1e-5, residual=ROWS,
        activation="relu", alpha=None, out=None,
    ),
    "norm.batch_norm_grad_stats": dict(dy=ROWS, x=ROWS, **NORM, y=ROWS, activation="relu", alpha=None),
    "norm.batch_norm_grad_finish": dict(partial=PIECES, rows=5),
    "norm.batch_norm_grad_apply": dict(
        dy=ROWS, x=ROWS, **NORM, weight=real(4), sums=real(2, 4), y=ROWS, activation="relu", alpha=None, residual=True,
        out=None,
    ),
    "norm.group_norm_stats": dict(x=SAMPLES),
    "norm.group_norm_finish": dict(partial=PARTS, x=SAMPLES, groups=2, eps=1e-5),
    "norm.group_norm_apply": dict(
        x=SAMPLES, **GROUP, weight=real(4), bias=real(4), residual=SAMPLES, activation="relu", alpha=None, out=None
    ),
    "norm.group_norm_grad_stats": dict(dy=SAMPLES, x=SAMPLES, **GROUP, y=SAMPLES, activation="relu", alpha=None),
    "norm.group_norm_grad_params": dict(partial=PARTS, rows=5),
    "norm.group_norm_grad_finish": dict(partial=PARTS, rows=5, groups=2, weight=real(4)),
    "norm.group_norm_grad_apply": dict(
        dy=SAMPLES, x=SAMPLES, **GROUP, weight=real(4), sums=real(2, 2, 2), y=SAMPLES, activation="relu", alpha=None,
        residual=True, out=None,
    ),
    "norm.layer_norm": dict(x=ROWS, weight=real(4), bias=real(4), eps=1e-5, out=None),
    "norm.layer_norm_backward": dict(dy=ROWS, x=ROWS, mean=real(5), invstd=real(5), weight=real(4), out=None),
    "norm.layer_norm_grad_params": dict(dy=ROWS, x=ROWS, mean=real(5), invstd=real(5)),
    "norm.local_response_norm": dict(x=ROWS, size=3, alpha=1e-4, beta=0.75, k=1.0, out=None),
    "norm.local_response_norm_backward": dict(
        dy=ROWS, x=ROWS, base=np.abs(ROWS) + 1, size=3, alpha=1e-4, beta=0.75, out=None
    ),
    "reduce.reduce": dict(kind="sum", x=ROWS, axis=1, out=None, accumulate=False, pieces=2),
    "runtime.set_isa": dict(name="baseline"),
    "runtime.set_num_threads": dict(n=2),
    "runtime.signature": dict(name="gemm"),
    "watch.version_of": dict(cls=dict),
}  # fmt: skip
ELSEWHERE = ("atomic.assign", "atomic.commit", "atomic.restoring", "atomic.sync_folder")  # test_atomic.py
SETTINGS = ("runtime.always_share", "runtime.fail_allocation", "watch.check_traces")  # no more than a switch
ODD = [
    None, 0, 1, -1, 7, 2**43, 2**53, 2**62, 2**63, -(2**63), 2.5, float("nan"), float("inf"), True, "x", b"x", (), [],
    (0, 0), (-1, 1), (2**40, 2**40), (2**62, 1), (0, 0, 0, 0), (2**31, 1, 1, 1), (2, 6, 6, 0), (1, 0, 0, 1, 1), {},
    object, np.int64(3), np.zeros(0, F4), np.zeros((0, 4), F4), np.zeros((0, 0, 0, 0), F4), np.zeros(()), real(1),
    real(2, 4), real(3, 3, 3), real(5, 8)[:, ::2], real(4, 5).T, ROWS.astype(">f4"), ROWS.astype(np.float64),
    np.zeros((5, 4), object), np.full(5, 2**62), np.full((2, 3, 3, 4), 255, np.uint8),
    np.full((2, 2, 3, 4), -1, np.int32), np.full((2, 2, 3, 4), 2**31 - 1, np.int32),
]  # fmt: skip


@pytest.fixture(autouse=True)
def same_settings_afterwards():
    runtime = NATIVE["runtime"]
    isa, threads = runtime.get_isa(), runtime.get_num_threads()
    yield
    runtime.set_isa(isa)
    runtime.set_num_threads(threads)


def callables():
    for module, native in NATIVE.items():
        for name, value in vars(native).items():
            if type(value).__name__ in ("cython_function_or_method", "builtin_function_or_method"):
                if getattr(value, "__module__", native.__name__) == native.__name__ and not name.startswith("_"):
                    yield f"{module}.{name}", value


def test_no_function_is_left_out():
    without_arguments = {"built_isas", "available_isas", "get_isa", "get_num_threads", "openmp_version", "compiler",
                         "registered_ops", "forks", "changed", "is_checking", "held_allocations"}  # fmt: skip
    names = {name for name, _ in callables() if name.split(".")[1] not in without_arguments}
    assert names == {*CALLS, *SETTINGS, *ELSEWHERE}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_what_does_not_fit_is_refused(name):
    module, function = name.split(".")
    call = getattr(NATIVE[module], function)
    call(**CALLS[name])
    for argument in CALLS[name]:
        for odd in ODD:
            begun = time.perf_counter()
            try:
                call(**{**CALLS[name], argument: odd})
            except (TypeError, ValueError, OverflowError, MemoryError):
                pass
            assert time.perf_counter() - begun < 5, (name, argument, odd)


@pytest.mark.parametrize("argument", ["mean", "invstd", "x"])
def test_none_is_no_array(argument):
    """None passed as what may be left out, and the kernel read at address 0."""
    call = dict(x=ROWS, **NORM)
    with pytest.raises(TypeError, match=argument):
        NATIVE["norm"].batch_norm_apply(**{**call, argument: None})


def test_a_plan_is_made_once_and_a_route_of_something():
    plan = NATIVE["plan"]
    with pytest.raises((TypeError, ValueError)):
        plan.Plan.__new__(plan.Plan).phases(1)
    with pytest.raises(TypeError):
        plan.Plan.__new__(plan.Plan).run()
    with pytest.raises(TypeError):
        plan.Route(None, None)
    made = plan.Plan([], [], 0, 64, [], [], [], 1)
    with pytest.raises(RuntimeError, match="made once"):
        made.__init__([], [], 0, 64, [], [], [], 1)
