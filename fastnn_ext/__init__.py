"""The native floor of fastnn: Cython drivers over C kernels.

Import ``fastnn``; what stands here is for fastnn itself, its tests, and the curious.
"""
