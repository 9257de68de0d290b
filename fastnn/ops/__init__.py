"""What graphs are made of: one stem a file, each with its shape rules, gradients and lowering.

An op is an instance of `graph.Op`; the functions beside it check arguments, rewrite to a canonical
form and append the node. Nothing is listed centrally: an op exists by being written. Gradients are written in
tensor arithmetic, so an op need not know those that its gradient is made of.
"""

import fastnn.ops.methods  # noqa: F401  (tensors have their operators from here on)
