"""Comparisons, masks, choices, indexing, reductions and einsum of tensors: NumPy's values, PyTorch's gradients."""

import itertools

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.testing import gradcheck

X = np.random.default_rng(0).standard_normal((4, 3, 5))
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.0, np.inf, -np.inf, np.nan, 1e-300])
LEFT, RIGHT = (grid.ravel() for grid in np.meshgrid(SPECIAL, SPECIAL))
DTYPES = (np.float32, np.float64)


def run(function, *arrays):
    return fn.trace(function)(*arrays)


# ---- masks ------------------------------------------------------------------------------------------

COMPARISONS = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", COMPARISONS)
def test_a_comparison_is_a_mask_of_ones_and_zeros(sign, dtype):
    compare = COMPARISONS[sign]
    a, b = LEFT.astype(dtype), RIGHT.astype(dtype)
    for function in (compare, lambda x, y: compare(x, b), lambda x, y: compare(a, y)):
        got = run(function, a, b)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, compare(a, b))
    for number in (0, 1.0, np.float64(2), True, np.inf):
        np.testing.assert_array_equal(run(lambda x: compare(x, number), a), compare(a, number))  # noqa: B023
        np.testing.assert_array_equal(run(lambda x: compare(number, x), a), compare(number, a))  # noqa: B023


def test_masks_combine_by_and_or_xor_and_not():
    a, b = LEFT, RIGHT
    cases = {
        "and": lambda x, y: (x > 0) & (y > 0), "or": lambda x, y: (x > 0) | (y > 0),
        "xor": lambda x, y: (x > 0) ^ (y > 0), "not": lambda x, y: ~(x > 0), "not not": lambda x, y: ~~(x > y),
        "nan": lambda x, y: ~(x == x) | (y != y), "array": lambda x, y: (x > 0) & (b > 0) | (a < 0),
        "array first": lambda x, y: (b > 0) & (x > 0) ^ True,
    }  # fmt: skip
    for function in cases.values():
        np.testing.assert_array_equal(run(function, a, b), function(a, b))


def test_any_number_but_zero_counts_as_true_in_a_mask_that_is_an_argument():
    mask, other = np.array([0.0, 1.0, 2.0, np.nan]), np.array([1.0, 1.0, -0.0, 3.0])
    np.testing.assert_array_equal(run(lambda m: ~m, mask), [1, 0, 0, 0])
    np.testing.assert_array_equal(run(lambda m, o: m & o, mask, other), [0, 1, 0, 1])
    np.testing.assert_array_equal(run(lambda m, o: m | o, mask, other), [1, 1, 1, 1])
    np.testing.assert_array_equal(run(lambda m, o: m ^ o, mask, other), [1, 0, 1, 0])


def test_masks_are_summed_averaged_and_multiplied():
    x = X.astype(np.float32)
    np.testing.assert_array_equal(run(lambda x: (x > 0).sum(), x), (x > 0).sum())
    np.testing.assert_allclose(run(lambda x: (x > 0).mean(1), x), (x > 0).mean(1), rtol=1e-6)
    np.testing.assert_array_equal(run(lambda x: x * (x > 0) - (x < -1), x), x * (x > 0) - (x < -1).astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_of_labels_take_the_dtype_of_what_they_are_combined_with(dtype):
    t, x = np.array([2, 0, 2**40 + 1, -1]), np.ones(4, dtype)
    assert run(lambda t: t != 2, t).dtype == np.float32
    np.testing.assert_array_equal(run(lambda t: (t == 2**40 + 1) | (t < 0), t), [0, 0, 1, 1])
    np.testing.assert_array_equal(run(lambda t: t > 1.5, t), [1, 0, 1, 0])
    for function in (
        lambda t, x: x * ((t != 2) & (t != -1)),
        lambda t, x: ~((t == 2) | (t == -1)) * x,
        lambda t, x: fn.where((t == 2) | (t == -1), 0.0, x),
        lambda t, x: (x > 0) & (t != 2) & (t >= 0),
        lambda t, x: ((t != 2) & (t != -1)).reshape(2, 2).T.T.flatten()[:] * x,
    ):
        got = run(function, t, x)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, [0, 1, 1, 0])


def test_labels_and_masks_become_numbers():
    t = np.array([3, -1, 2**24 + 1])
    np.testing.assert_array_equal(run(lambda t: t.float() * 2, t), np.float32(2) * t.astype(np.float32))
    got = run(lambda t, x: (t.double() + 0.5, (x > 0).double(), x.to(np.float64)), t, np.float32([0.1, -1, 2]))
    assert [y.dtype for y in got] == [np.float64] * 3
    np.testing.assert_array_equal(got[0], t + 0.5)
    np.testing.assert_array_equal(got[2], np.float32([0.1, -1, 2]).astype(np.float64))
    x = np.float32([0.1, -1, 2])
    np.testing.assert_array_equal(fn.grad(lambda x: (x.double() ** 2).float().sum())(x), 2 * x)
    with pytest.raises(TypeError, match=r"dtype must be np\.float32 or np\.float64, got int64"):
        run(lambda x: x.to(np.int64), x)


def test_a_mask_has_no_gradient_and_what_it_hides_gets_zero():
    x = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(fn.grad(lambda x: ((x > 0) & ~(x == 2)).sum())(x), 0)
    np.testing.assert_array_equal(fn.grad(lambda x: (x * (x >= 0)).sum())(x), [0, 1, 1])
    np.testing.assert_array_equal(fn.grad(lambda x: x.sign().sum())(x), 0)


def test_a_tensor_equals_nothing_that_is_no_number():
    assert run(lambda x: x * (2 if x == None or x == "text" or x in (None, x) else 3), X)[0, 0, 0] == 2 * X[0, 0, 0]  # noqa: E711
    assert run(lambda x: x * (2 if x != None else 3), X)[0, 0, 0] == 2 * X[0, 0, 0]  # noqa: E711


def test_parameters_are_compared_in_a_trace_and_are_themselves_outside():
    class Thresholded(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(np.array([0.5, -0.5]))

        def forward(self, x):
            return (x > self.level) + (self.level > 0) * 10 + (self.level == 0.5) * 100 + (self.level != 0.5) * 1000

    model = Thresholded()
    np.testing.assert_array_equal(model(np.array([[0.0, 0.0], [1.0, -1.0]])), [[110, 1001], [111, 1000]])
    level, other = model.level, nn.Parameter(np.array([0.5, -0.5]))
    assert level == level and level != other and level in [other, level] and not level == 0.5


def test_where_chooses_and_its_gradient_goes_where_it_chose():
    x = np.array([-1.0, 0.0, 4.0, np.nan])
    np.testing.assert_array_equal(run(lambda x: fn.where(x > 0, x.sqrt(), -1.0), x), [-1, -1, 2, -1])
    grad = fn.grad(lambda x: fn.where(x > 0, x * x, x * np.array([3, 3, np.inf, 3])).sum())(x)
    np.testing.assert_array_equal(grad[:2], [3, 3])
    np.testing.assert_array_equal(fn.grad(lambda x: fn.where(x > 0, x * x, 3 * x).sum())(x[:3]), [3, 3, 8])
    a, b, c = X[:, :1], X[0], np.array([True, False, True, False, False])
    gradcheck(lambda a, b: fn.where(c, a, b), a, b)
    np.testing.assert_array_equal(run(lambda a, b: fn.where(c, a, b), a, b), np.where(c, a, b))
    np.testing.assert_array_equal(run(lambda x: fn.where(x > 0, 1, -1), x), [-1, -1, 1, -1])
    np.testing.assert_array_equal(run(lambda t, x: fn.where(t, x, 0.0), np.array([0, 1, 2, 0]), x), [0, 0, 4, 0])
    images = np.random.default_rng(1).standard_normal((2, 3, 4, 4)).astype(np.float32)
    conv = nn.Conv2d(3, 2, 3)
    leaky = fn.trace(lambda x: fn.where(conv(x) > 0, conv(x), 0.1 * conv(x)))
    np.testing.assert_allclose(leaky(images), F.leaky_relu(conv(images), 0.1), rtol=1e-6)


CONSTANT = {
    "an integer array": lambda x: x[np.array([2, 0, 0])],
    "a list": lambda x: x[..., [0, -1, 4, 4]],
    "a scalar array": lambda x: x[np.array(2)],
    "a matrix of labels": lambda x: x[[[0, 1], [2, 3]]],
    "two adjoining arrays": lambda x: x[:, [0, 1], [2, 3]],
    "two arrays apart": lambda x: x[[0, 1], :, [2, 3]],
    "arrays that broadcast": lambda x: x[:, [[0], [1]], [2, 3]],
    "an int beside an array": lambda x: x[0, [1, 2]],
    "an int apart from an array": lambda x: x[[0, 3], ..., 1],
    "None between arrays": lambda x: x[[0, 1], None, [0, 2]],
    "None around an array": lambda x: x[None, [2, 0], None],
    "an array and slices": lambda x: x[[2, 0], 1:, ::2],
    "a mask of one dimension": lambda x: x[:, :, [True, False, True, False, True]],
    "a mask of two dimensions": lambda x: x[X[..., 0] > 0],
    "a mask of all": lambda x: x[X > 0],
    "a mask beside a label": lambda x: x[np.array([True, False, False, True]), 1],
    "a step backwards": lambda x: x[::-1],
    "steps backwards": lambda x: x[1::2, None, ::-2],
    "an int and a step backwards": lambda x: x[-1, ::-1],
    "an array and a step backwards": lambda x: x[[0, 1], ::-1],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONSTANT)
def test_indexing_by_constants_is_numpys(name, dtype):
    x = X.astype(dtype)
    np.testing.assert_array_equal(run(CONSTANT[name], x), CONSTANT[name](x))
    gradcheck(CONSTANT[name], X, eps=1.0)


def test_indexing_by_tensors_of_labels_is_numpys():
    t, rows = np.array([2, 0, 4, 1]), np.arange(4)
    cases = {
        "rows": lambda x, t: x[:, :, t], "pairs": lambda x, t: x[rows, 0, t],
        "after": lambda x, t: x[rows[:3], :, t[:3]],
        "a slice of labels": lambda x, t: x[..., t[1:]], "columns": lambda x, t: x[rows[:, None], 0, t],
    }  # fmt: skip
    for name in ("rows", "pairs", "after", "a slice of labels", "columns"):
        np.testing.assert_array_equal(run(cases[name], X, t), cases[name](X, t))
        gradcheck(cases[name], X, t, eps=1.0)
    np.testing.assert_array_equal(run(lambda x, t: x[t], X[:, 0], np.array([[3, 3], [0, 1]])), X[[[3, 3], [0, 1]], 0])


def test_labels_of_the_batch_choose_in_a_model_that_trains_on_any_batch():
    class Chosen(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, x, labels):
            return self.linear(x).log_softmax(1).gather(1, labels[:, None])[:, 0]

    model, rng = Chosen(), np.random.default_rng(0)
    step = fn.TrainStep(model, lambda out, target: -(out * target).mean(), optim.SGD(model.parameters(), 0.1))
    twin = nn.Linear(3, 4)
    twin.load_state_dict({k.removeprefix("linear."): v for k, v in model.state_dict().items()})
    other = fn.TrainStep(twin, nn.CrossEntropyLoss(), optim.SGD(twin.parameters(), 0.1))
    for n in (5, 3, 1, 8):
        x, labels = rng.standard_normal((n, 3)).astype(np.float32), rng.integers(0, 4, n)
        assert step(x, labels, np.ones(n, np.float32)) == pytest.approx(other(x, labels), rel=1e-5)
    np.testing.assert_allclose(model.linear.weight.data, twin.weight.data, rtol=1e-5, atol=1e-6)


def test_labels_out_of_range_are_refused_before_a_run():
    t = np.array([0, 1, 5])
    for function in (
        lambda x, t: x[:, :, t], lambda x, t: x.index_select(2, t), lambda x, t: fn.take(x[0, 0], t),
        lambda x, t: F.one_hot(t, 5),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"argument 1\[2\] is 5; labels must lie in 0 \.\.\. 4"):
            run(function, X, t)
        with pytest.raises(ValueError, match=r"argument 1\[1\] is -1; labels must lie in 0 \.\.\. 4"):
            run(function, X, np.array([0, -1]))
    for index in ([0, 5], [-6]):
        with pytest.raises(IndexError, match=f"index {index[-1]} is out of range for a size of 5"):
            run(lambda x: x[..., index], X)  # noqa: B023
    with pytest.raises(IndexError, match="labels from arg_extreme may be out of range for a size of 3"):
        run(lambda x: x[0, x[0, 0].argmax()], X)
    with pytest.raises(IndexError, match=r"a mask of shape \(4, 2\) for dimensions of sizes \(4, 3\)"):
        run(lambda x: x[np.ones((4, 2), bool)], X)
    with pytest.raises(TypeError, match=r"int64, got float64; how many elements a mask leaves is not known"):
        run(lambda x: x[x > 0], X)
    with pytest.raises(TypeError, match="an index holds whole numbers, got float64"):
        run(lambda x: x[np.array([0.5])], X)
    with pytest.raises(ValueError, match="the index is empty"):
        run(lambda x: x[[]], X)


def test_a_label_serves_several_ranges_by_the_smallest():
    got = run(lambda x, t: (x[t], x.T[t]), X[:, :, 0], np.array([2, 0]))
    np.testing.assert_array_equal(got[1], X[:, [2, 0], 0].T)
    with pytest.raises(ValueError, match=r"labels must lie in 0 \.\.\. 2"):
        run(lambda x, t: (x[t], x.T[t]), X[:, :, 0], np.array([3, 0]))


def test_labels_may_lie_in_any_order():
    x, places = np.arange(12.0), np.arange(12).reshape(3, 4)
    for index in (
        np.asfortranarray(places),
        places.T,
        places[:, ::-1],
        places[::2, 1:3],
        np.broadcast_to(places[0], (2, 4)),
    ):
        np.testing.assert_array_equal(run(lambda x, index=index: x.take(index), x), x[index])
        np.testing.assert_array_equal(run(lambda x, index=index: x[index], x), x[index])
    columns = np.asfortranarray([[0, 1], [1, 0], [2, 3]])
    got = run(lambda x: x.reshape(3, 4).gather(1, columns), x)
    np.testing.assert_array_equal(got, np.take_along_axis(x.reshape(3, 4), columns, 1))


def test_gather_take_and_index_select_are_numpys():
    rng = np.random.default_rng(0)
    for dim, shape in ((0, (9, 3, 2)), (1, (4, 6, 5)), (2, (2, 1, 4)), (-1, (4, 3, 1))):
        index = rng.integers(0, X.shape[dim], shape)
        part = X[tuple(slice(n) if i != dim % 3 else slice(None) for i, n in enumerate(shape))]
        np.testing.assert_array_equal(
            run(lambda x, i: x.gather(dim, i), X, index),  # noqa: B023
            np.take_along_axis(part, index, dim),
        )
        gradcheck(lambda x, i: fn.gather(x, dim, i), X, index, eps=1.0)  # noqa: B023
        np.testing.assert_array_equal(run(lambda x: x.index_select(dim, [0, -1, 0]), X), X.take([0, -1, 0], dim))  # noqa: B023
    places = np.array([[59, 3], [3, 0]])
    np.testing.assert_array_equal(run(lambda x, i: x.take(i), X, places), X.take(places))
    gradcheck(fn.take, X, places, eps=1.0)
    with pytest.raises(ValueError, match=r"index has shape \(5, 3, 5\); for dim 1 of \(4, 3, 5\)"):
        run(lambda x, i: x.gather(1, i), X, np.zeros((5, 3, 5), np.int64))
    with pytest.raises(ValueError, match="expected one dimension"):
        run(lambda x: x.index_select(1, [[0]]), X)


def test_one_hot_is_numpys_eye_in_any_dtype():
    t = np.array([[2, 0, 1], [1, 1, 2]])
    np.testing.assert_array_equal(F.one_hot(t, 3), np.eye(3)[t])
    assert run(lambda t, x: F.one_hot(t, 3) @ x, t, np.ones((3, 2))).dtype == np.float64
    with pytest.raises(ValueError, match="num_classes must be an int of at least 1"):
        F.one_hot(t, 0)


# ---- maps and reductions ----------------------------------------------------------------------------

DIMS = [0, 1, 2, -1, None, (0, 2), (0, 1, 2)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dim", DIMS)
def test_reductions_are_numpys(dim, keep, dtype):
    x, over = X.astype(dtype), dict(axis=dim, keepdims=keep)
    for name, want in {
        "amax": x.max(**over), "amin": x.min(**over), "prod": x.prod(**over), "var": x.var(**over, ddof=1),
        "std": x.std(**over, ddof=1),
    }.items():  # fmt: skip
        got = run(lambda x: getattr(fn, name)(x, dim, keepdim=keep), x)  # noqa: B023
        assert np.asarray(got).dtype == (dtype if np.ndim(got) else np.float64)
        np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == np.float32 else 1e-12)
    np.testing.assert_allclose(run(lambda x: x.var(dim, 0, keep), x), x.var(**over), rtol=1e-5)
    if not isinstance(dim, tuple):
        for name in ("argmax", "argmin"):
            got = run(lambda x: getattr(x, name)(dim, keep), x)  # noqa: B023
            np.testing.assert_array_equal(got, getattr(np, name)(x, **over))
    if isinstance(dim, int):
        values, indices = run(lambda x: x.max(dim, keep), x)
        np.testing.assert_array_equal(values, x.max(**over))
        np.testing.assert_array_equal(indices, x.argmax(**over))
        assert run(lambda x: x.min(dim, keep).values, x).tolist() == x.min(**over).tolist()
        np.testing.assert_allclose(run(lambda x: x.cumsum(dim), x), x.cumsum(dim), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_gradients_of_reductions_are_the_differences(dim):
    gradcheck(lambda x: [x.amax(dim), x.amin(dim), x.prod(dim), x.var(dim), x.std(dim, 0)], X)
    if isinstance(dim, int):
        gradcheck(lambda x: [x.max(dim).values, x.min(dim).values, x.cumsum(dim)], X)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_top_and_its_gradient_are_those_of_a_sort(dim):
    for largest in (True, False):
        order = np.argsort(-X if largest else X, dim, kind="stable")
        values, places = run(lambda x, largest=largest: x.topk(2, dim, largest), X)
        assert places.dtype == np.int64
        np.testing.assert_array_equal(places, np.take(order, [0, 1], dim))
        np.testing.assert_array_equal(values, np.take_along_axis(X, places, dim))
        gradcheck(lambda x, largest=largest: x.topk(2, dim, largest).values, X)
    assert run(lambda x: x.gather(dim, x.topk(1, dim).indices), X).tolist() == X.max(dim, keepdims=True).tolist()
    with pytest.raises(ValueError, match=r"topk: k is 99, and dimension \d has \d"):
        run(lambda x: x.topk(99, dim), X)


def test_gradients_of_maps_are_the_differences():
    gradcheck(lambda x: [x.sin(), fn.cos(x), x.clamp(-0.5, 0.5), x.clip(max=0.2), fn.clamp(x, min=-0.1)], X)
    gradcheck(lambda x: [x.tan(), x.atan(), x.sinh(), x.cosh(), x.asinh(), x.erf(), x.expm1()], X)
    gradcheck(lambda x: [x.asin(), x.acos(), x.atanh(), x.log1p(), (x + 2.0).acosh()], np.tanh(X) * 0.9)
    for name in ("floor", "ceil", "round", "trunc"):
        np.testing.assert_array_equal(fn.grad(lambda x, name=name: getattr(x, name)().sum())(X), 0 * X)


def test_a_maximum_of_two_and_of_all():
    np.testing.assert_array_equal(run(lambda x, y: x.max(y), X[0], X[1]), np.maximum(X[0], X[1]))
    np.testing.assert_array_equal(run(lambda x: (x.max(), x.min(X[1])), X[0])[1], np.minimum(X[0], X[1]))
    assert run(lambda x: x.max(), X) == X.max()


def test_an_accuracy_is_written_in_a_trace():
    logits, labels = X[:, 0], np.array([2, 0, 4, 1])
    got = run(lambda x, t: (x.argmax(1) == t).mean(), logits, labels)
    assert got == (logits.argmax(1) == labels).mean()


def test_a_variance_follows_the_batch():
    class Spread(nn.Module):
        def forward(self, x):
            return x - x.mean(0), x.std(0), x.var(correction=2)

    model = Spread()
    for n in (7, 4, 9):
        x = np.random.default_rng(n).standard_normal((n, 3))
        _, std, var = model(x)
        np.testing.assert_allclose(std, x.std(0, ddof=1), rtol=1e-12)
        np.testing.assert_allclose(var, x.var(ddof=2), rtol=1e-12)


EINSUMS = [
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("bij,bjk->kib", (2, 3, 4), (2, 4, 5)), ("ij,jk", (3, 4), (4, 5)),
    ("bij,bjk,k", (2, 3, 4), (2, 4, 5), (5,)), ("bij->j", (2, 3, 4)), ("bij->", (2, 3, 4)), ("k,k->", (5,), (5,)),
    ("i,j->ij", (3,), (4,)), ("bij,bij->bi", (2, 3, 4), (2, 3, 4)), ("bij,bij->bij", (2, 3, 4), (2, 3, 4)),
    ("bij,ckl->bckl", (2, 3, 4), (2, 3, 4)), ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("ii", (4, 4)),
    ("iij->ij", (4, 4, 2)), ("ii->i", (4, 4)), ("ijij->ji", (2, 3, 2, 3)), ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)),
    ("ab,cd->", (2, 3), (4, 5)), ("ab,b,c->ac", (2, 3), (3,), (4,)), (" i j -> j i ", (2, 3)), (",i->i", (), (3,)),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "shapes"), [(e, shapes) for e, *shapes in EINSUMS])
def test_einsum_is_numpys(equation, shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]

    def product(*xs):
        return fn.einsum(equation, *xs)

    np.testing.assert_allclose(run(product, *arrays), np.einsum(equation, *arrays), rtol=1e-12, atol=1e-13)
    gradcheck(product, *arrays)


def test_einsum_says_what_does_not_fit():
    a, b = np.ones((2, 3)), np.ones((4, 3))
    for equation, arrays, message in (
        ("ij,ik->jk", (a, b), "'i' is 2 and, in operand 1, 4"),
        ("ij->ik", (a,), "no operand has the letter 'k'"),
        ("ij,jk", (a,), r"names 2 operand\(s\), and there are 1"),
        ("i->i", (a,), r"operand 0 has shape \(2, 3\), and the letters 'i'"),
        ("...j->j", (a,), "an equation is letters, commas"),
        ("ij->ii", (a,), "a letter twice"),
    ):
        with pytest.raises(ValueError, match=message):
            run(lambda *xs: fn.einsum(equation, *xs), *arrays)  # noqa: B023


# ---- beside PyTorch ---------------------------------------------------------------------------------

ROWS = np.array(list(itertools.product(SPECIAL, repeat=3)))
FINITE = np.isfinite(ROWS).all(1)

#: Of fastnn's tensors and PyTorch's alike.
ALIKE = {
    "clamp": lambda x: x.clamp(-1, 1), "clamp below": lambda x: x.clamp(max=1.0),
    "clamp above": lambda x: x.clamp(min=0.0), "sin": lambda x: x.sin(), "cos": lambda x: x.cos(),
    "sign": lambda x: x.sign(), "var": lambda x: x.var(1),
    **{name: lambda x, name=name: getattr(x, name)() for name in (
        "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "expm1", "log1p", "floor",
        "ceil", "round", "trunc",
    )},
    "var 0": lambda x: x.var(1, correction=0), "prod": lambda x: x[FINITE].prod(1),
    "cumsum": lambda x: x.cumsum(1),
    "amax": lambda x: x.amax(1), "amin": lambda x: x.amin(1), "max": lambda x: x.max(1).values,
    "min": lambda x: x.min(1).values, "std": lambda x: x.std(1), "max of all": lambda x: x[FINITE].max(),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ALIKE)
def test_values_and_gradients_at_special_points_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    function = ALIKE[name]
    leaf = torch.tensor(ROWS, requires_grad=True)
    y = function(leaf)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, y.shape)
    (y * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(run(function, ROWS), y.detach().numpy(), rtol=1e-10, atol=1e-12)
    grad = fn.grad(lambda x: (function(x) * weights).sum())(ROWS)
    np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_where_at_special_points_is_pytorchs():
    torch = pytest.importorskip("torch")
    a, b, c = ROWS.T
    theirs = [torch.tensor(x, requires_grad=True) for x in (a, b)]
    y = torch.where(torch.tensor(c) > 0, *theirs)
    y.backward(torch.tensor(c))
    np.testing.assert_array_equal(run(lambda a, b: fn.where(c > 0, a, b), a, b), y.detach().numpy())
    grads = fn.grad(lambda a, b: (fn.where(c > 0, a, b) * c).sum())(a, b)
    for grad, leaf in zip(grads, theirs, strict=True):
        np.testing.assert_array_equal(grad, leaf.grad.numpy())


def test_labels_that_are_computed_have_no_gradient_and_what_they_choose_has():
    x = np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 0.0]])
    largest = np.eye(3)[x.argmax(1)]
    for chosen in (
        lambda x: F.one_hot(x.argmax(1), 3) * x,
        lambda x: x[np.arange(2), x.argmax(1)],
        lambda x: x.gather(1, x.argmax(1, keepdim=True)),
    ):
        np.testing.assert_array_equal(fn.grad(lambda x, f=chosen: f(x).sum())(x), largest)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3, 4), (1, 4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (3, 2, 4, 5)),
        ((2, 3, 1, 4), (4,)),
    ],
)
def test_stacks_of_matrices_broadcast_as_numpys(a, b):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(a), rng.standard_normal(b)
    np.testing.assert_allclose(fn.trace(lambda x, y: x @ y)(x, y), x @ y, rtol=1e-13, atol=1e-13)
    gradcheck(lambda x, y: x @ y, x, y)


def test_stacks_of_matrices_that_do_not_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"stacks of: shapes \(2,\) and \(3,\) do not broadcast"):
        fn.trace(lambda x, y: x @ y)(np.ones((2, 3, 4)), np.ones((3, 4, 5)))


def test_a_program_of_stacks_of_matrices_holds_for_any_batch():
    class Attention(nn.Module):
        def forward(self, q):
            return (q @ q.transpose(-2, -1)).softmax(-1) @ q

    attend = Attention().eval()
    for n in (3, 5, 2):
        q = np.random.default_rng(n).standard_normal((n, 4, 6, 8))
        score = np.exp(q @ q.swapaxes(-2, -1))
        np.testing.assert_allclose(attend(q), score / score.sum(-1, keepdims=True) @ q, rtol=1e-12)
    assert attend.plan(q).batched
