"""ArrayDataset: rows of arrays that belong together."""

import numpy as np
import pytest

from fastnn.data import ArrayDataset

X = np.arange(12.0).reshape(4, 3)
Y = np.array([3, 1, 0, 2])


class OnlyDlpack:
    """An array of another library, with no other door than DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **kwargs):
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class NotExportable(OnlyDlpack):
    def __dlpack__(self, **kwargs):
        raise BufferError("on another device")


def test_length_and_shapes_are_those_of_the_arrays():
    dataset = ArrayDataset(X, Y)
    assert len(dataset) == 4
    assert dataset.shapes == ((4, 3), (4,))


@pytest.mark.parametrize("row", [0, 3, -1, -4, np.int8(2), np.array(1)])
def test_an_int_gives_one_row_of_each(row):
    x, y = ArrayDataset(X, Y)[row]
    assert isinstance(y, np.ndarray)
    assert (x.shape, y.shape) == ((3,), ())
    np.testing.assert_array_equal(x, X[row])
    assert y == Y[row]


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 3),
        slice(None, None, -1),
        [2, 0, 0],
        np.array([-1, 1], np.int16),
        np.array([True, False, False, True]),
        [],
        np.zeros(4, bool),
    ],
)
def test_slices_and_1d_arrays_choose_rows_as_in_numpy(index):
    x, y = ArrayDataset(X, Y)[index]
    rows = np.arange(4)[np.asarray(index, int) if isinstance(index, list) else index]
    np.testing.assert_array_equal(x, X[rows])
    np.testing.assert_array_equal(y, Y[rows])


def test_a_loop_over_a_dataset_ends_after_the_last_row():
    assert [int(y) for _, y in ArrayDataset(X, Y)] == [3, 1, 0, 2]


@pytest.mark.parametrize("row", [4, -5])
def test_a_row_that_is_not_there_is_an_index_error(row):
    with pytest.raises(IndexError, match=f"index: {row} given for a dataset of 4 rows"):
        ArrayDataset(X, Y)[row]


@pytest.mark.parametrize("index", [1.0, True, None, "a", [0.5], [[0, 1]], (0, 1.5)])
def test_an_index_of_another_kind_is_a_type_error(index):
    with pytest.raises(TypeError, match="index: "):
        ArrayDataset(X, Y)[index]


@pytest.mark.parametrize("wrap", [np.asarray, memoryview, OnlyDlpack])
def test_arrays_are_held_without_a_copy(wrap):
    (held,) = ArrayDataset(wrap(X)).arrays
    assert np.shares_memory(held, X)


def test_lists_of_numbers_are_taken_too():
    x, y = ArrayDataset([[1.5], [2.5]], [True, False])[:]
    assert x.tolist() == [[1.5], [2.5]]
    assert y.dtype == bool


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((), TypeError, "arrays: expected at least one"),
        ((X, Y[:3]), ValueError, r"arrays: expected equal lengths.*\(4, 3\), \(3,\)"),
        ((X, 7), ValueError, r"arrays\[1\]: .* 0-d int64"),
        ((X, np.array([None] * 4)), TypeError, r"arrays\[1\]: .* object"),
        ((np.array(["a"]), [1]), TypeError, r"arrays\[0\]: .* <U1"),
        (([[1, 2], [3]],), TypeError, r"arrays\[0\]: list is no array"),
        ((NotExportable(X),), TypeError, r"arrays\[0\]: .* another device"),
        ((object(),), TypeError, r"arrays\[0\]: .* object"),
    ],
)
def test_what_is_no_set_of_rows_is_refused_by_name(arrays, error, message):
    with pytest.raises(error, match=message):
        ArrayDataset(*arrays)


def test_the_transform_sees_a_batch_whatever_is_asked_for():
    seen = []

    def double(x, y):
        seen.append((x.shape, y.shape))
        return 2 * x, y

    dataset = ArrayDataset(X, Y, transform=double)
    np.testing.assert_array_equal(dataset[-1][0], 2 * X[3])
    np.testing.assert_array_equal(dataset[1:3][0], 2 * X[1:3])
    np.testing.assert_array_equal(dataset[[0, 2, 3]][0], 2 * X[[0, 2, 3]])
    assert seen == [((1, 3), (1,)), ((2, 3), (2,)), ((3, 3), (3,))]


def test_a_transform_may_return_other_arrays_than_it_was_given():
    dataset = ArrayDataset(X, transform=lambda x: (x[:, :1], x[:, 1:], x.sum(axis=1)))
    assert [array.shape for array in dataset[:2]] == [(2, 1), (2, 2), (2,)]


@pytest.mark.parametrize(
    ("result", "error"),
    [(X[:2], TypeError), (None, TypeError), ((X[:2], Y), ValueError), ((1.0,), ValueError)],
)
def test_a_transform_that_returns_no_batch_is_named(result, error):
    dataset = ArrayDataset(X, Y, transform=lambda x, y: result)
    with pytest.raises(error, match=r"transform\(\*batch\): expected"):
        dataset[:2]


def test_a_transform_has_to_be_callable():
    with pytest.raises(TypeError, match="transform: expected a callable"):
        ArrayDataset(X, transform=3)
