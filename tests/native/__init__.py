"""Native ops on arrays where they are, as a plan would run them: whole, guarded or shared ones."""

import numpy as np

from fastnn.lowering.signature import places, signature
from fastnn_ext import plan, runtime


def run_op(kernel, /, dtype=None, **arguments):
    """Run one native op on arrays, sizes and numbers, by the names of its signature.

    Nothing checks that the sizes are those of the arrays. dtype: by default that of the first array.
    """
    form = signature(kernel)
    form.check(arguments)
    buffers = [array for _, array in places((*form.outputs, *form.inputs), arguments, None)]
    arrays = [array for array in buffers if array is not None]
    numbers = iter(range(len(arrays)))
    refs = [None if array is None else ("fixed", next(numbers), 0) for array in buffers]
    code = ("float32", "float64").index(np.dtype(arrays[0].dtype if dtype is None else dtype).name)
    dims = [int(size) for _, size in places(form.dims, arguments, 0)]
    scalars = [float(number) for _, number in places(form.scalars, arguments, 0.0)]
    plan.Plan([(kernel, code, refs, dims, scalars, None)], [(0, 1)], 1, 64, arrays, [], [], 1).run()


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
