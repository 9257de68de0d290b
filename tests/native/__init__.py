"""Native ops on arrays where they are, as a plan would run them: whole, guarded or shared ones."""

import numpy as np

from fastnn.lowering.signature import places, signature
from fastnn_ext import plan, runtime


def run_op(kernel, /, dtype=None, **arguments):
    """Run one native op on arrays, sizes and numbers, by the names of its signature.

    Nothing checks that the sizes are those of the arrays. dtype: by default that of the first array.
    """
    plan_of_op(kernel, dtype, **arguments).run()


def plan_of_op(kernel, /, dtype=None, **arguments):
    """The plan of one native op; see run_op."""
    form = signature(kernel)
    form.check(arguments)
    arrays = [array for _, array in places((*form.outputs, *form.inputs), arguments, None)]
    dims = [size for _, size in places(form.dims, arguments, 0)]
    scalars = [number for _, number in places(form.scalars, arguments, 0.0)]
    if dtype is None:
        dtype = next(array.dtype for array in arrays if array is not None)
    return plan_in_places(kernel, arrays, dims, scalars, dtype)


def run_in_places(kernel, buffers, dims, scalars=(), dtype=np.float32):
    """Run one native op; a buffer is an array or None, and all stand at their places in `buf`, `dim` and `scalar`."""
    plan_in_places(kernel, buffers, dims, scalars, dtype).run()


def plan_in_places(kernel, buffers, dims, scalars, dtype):
    """The plan of one native op; see run_in_places."""
    arrays = [buffer for buffer in buffers if buffer is not None]
    numbers = iter(range(len(arrays)))
    refs = [None if buffer is None else ("fixed", next(numbers), 0) for buffer in buffers]
    code = ("float32", "float64", "int64").index(np.dtype(dtype).name)
    op = (kernel, code, refs, [int(d) for d in dims], [float(s) for s in scalars], None)
    return plan.Plan([op], [(0, 1)], 1, 64, arrays, [], [], 1)


def on_threads(function, counts=(1, 2, 3)):
    """The results of function() on each number of threads."""
    before = runtime.get_num_threads()
    try:
        results = []
        for n in counts:
            runtime.set_num_threads(n)
            results.append(function())
        return results
    finally:
        runtime.set_num_threads(before)
