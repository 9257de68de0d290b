"""Twins of fastnn_ext.random, in NumPy: Philox4x32-10 by the round function of its paper."""

import numpy as np


def philox_block(counter, key):
    """Philox4x32-10 of counters (..., 4) under a key (2,), all 32-bit words, lowest first."""
    c = np.asarray(counter, np.uint64)
    k = [int(word) for word in key]
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        left, right = np.uint64(0xD2511F53) * c[..., 0], np.uint64(0xCD9E8D57) * c[..., 2]
        c = np.stack(
            [
                (right >> np.uint64(32)) ^ c[..., 1] ^ np.uint64(k[0]),
                right & mask,
                (left >> np.uint64(32)) ^ c[..., 3] ^ np.uint64(k[1]),
                left & mask,
            ],
            axis=-1,
        )
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c.astype(np.uint32)


def words(seed, step, stream, n, first=0):
    """Words first ... first + n - 1 of a stream."""
    blocks = np.arange(first // 4, (first + n + 3) // 4, dtype=np.uint64)
    counter = np.zeros((len(blocks), 4), np.uint64)
    counter[:, 0] = blocks & np.uint64(0xFFFFFFFF)
    counter[:, 1] = (blocks >> np.uint64(32)) + np.uint64(stream << 8)
    counter[:, 2] = step % 2**32
    counter[:, 3] = step >> 32
    return philox_block(counter, (seed % 2**32, seed >> 32)).ravel()[first % 4 :][:n]


def dropout(x, p, seed, step, stream, inner=1, period=0):
    """x * mask * scale in float64, with the scale rounded to the dtype of x."""
    i = np.arange(x.size)
    decision = i // (inner * period) * period + i % period if period else i // inner
    keep = words(seed, step, stream, int(decision.max(initial=0)) + 1)[decision] >= round(p * 2**32)
    scale = 0.0 if p == 1 else float(x.dtype.type(1 / (1 - p)))
    return x.astype(np.float64) * np.where(keep, scale, 0.0).reshape(x.shape)


def unit_interval(seed, stream, n):
    """n multiples of 2^-53 in [0, 1), of step 2^64 - 1."""
    pair = words(seed, 2**64 - 1, stream, 2 * n).astype(np.uint64).reshape(n, 2)
    return (pair[:, 0] + (pair[:, 1] << np.uint64(32)) >> np.uint64(11)) * 2.0**-53


def normal(seed, stream, n):
    """Box and Muller's pairs."""
    u = unit_interval(seed, stream, n + n % 2).reshape(-1, 2)
    radius, angle = np.sqrt(-2 * np.log1p(-u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:n]
