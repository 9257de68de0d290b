"""Runs one native op on arrays where they are, as a plan would: guarded or shared ones too."""

import numpy as np

from fastnn_ext import plan, runtime


def run_op(kernel, buffers, dims, scalars=(), dtype=np.float32):
    """Run the op `kernel`; a buffer is an array or None, dims and scalars are the op's."""
    arrays = [buffer for buffer in buffers if buffer is not None]
    places = iter(range(len(arrays)))
    refs = [None if buffer is None else ("fixed", next(places), 0) for buffer in buffers]
    code = ("float32", "float64").index(np.dtype(dtype).name)
    op = (kernel, code, refs, [int(d) for d in dims], [float(s) for s in scalars], None)
    plan.Plan([op], [(0, 1)], 1, 64, arrays, [], [], 1).run()


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
