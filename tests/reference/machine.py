"""Float64 twins of fastnn_ext.machine."""


def multiply_add(start, a, b, rounds):
    for _ in range(rounds):
        start = start * a + b
    return start


def triad(x, z, s):
    return x.astype("f8") + s * z.astype("f8")
