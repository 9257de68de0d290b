"""What graphs are made of: one stem a file, each with its shape rules, gradients and lowering.

An op is an instance of `base.Op`; the functions beside it check arguments, rewrite to a canonical
form and append the node. Nothing is listed centrally: an op exists by being written.
"""
