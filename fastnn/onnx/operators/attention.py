"""Attention, and rotary embeddings of positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor, as_tensor
from fastnn.onnx.operator import Array, Call, Value, Whole, operator
from fastnn.ops.elementwise import cast, compare, equal, where
from fastnn.ops.gemm import matmul
from fastnn.ops.index import labels, rows_of
from fastnn.ops.layout import broadcast_to, reshape, transpose
from fastnn.ops.loss import softmax
from fastnn.ops.shape import concat, constant_pad


@operator("Attention", 23, raw="nonpad_kv_seqlen", settings="attn_mask")
def attention(
    call: Call,
    Q: Tensor,
    K: Tensor,
    V: Tensor,
    attn_mask: Value | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Value | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> Any:
    """softmax(Q @ K^T * scale + what masks say) @ V for each head; a query that may see nothing gets zeros."""
    flat = Q.ndim == 3
    q, k, v = _heads(Q, q_num_heads), _heads(K, kv_num_heads), _heads(V, kv_num_heads)
    if (past_key is None) != (past_value is None):
        raise ValueError("it has only one of past_key and past_value")
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        k, v = concat([past_key, k], 2), concat([past_value, v], 2)
    present = k, v
    k, v = (_repeated(t, q.shape[1]) for t in present)
    root = (q.shape[3] ** -0.5 if scale is None else _check.real("its scale", scale, 0)) ** 0.5
    scores = raw = matmul(q * root, transpose(k, (0, 1, 3, 2)) * root)
    if softcap > 0:
        scores = (scores / softcap).tanh() * softcap
    capped = scores
    masks = _Masks(q.shape[2], k.shape[2])
    if attn_mask is not None:
        masks.add(call, attn_mask)
    length = None if nonpad_kv_seqlen is None else _lengths(nonpad_kv_seqlen, q.dtype)
    offset = past if length is None or past_key is not None else length - q.shape[2]
    right = [n for n in (right_window_size, 0 if is_causal else -1) if n >= 0]
    if right:
        masks.allow(masks.ahead, offset + min(right))
    if left_window_size >= 0:
        masks.allow(-masks.ahead, left_window_size - offset)
    if length is not None:
        masks.allow(np.arange(k.shape[2]), length - 1)
    scores = biased = masks.applied(scores)
    share = masks.shares(cast(scores, np.float64) if softmax_precision == 11 else scores)
    share = cast(share, q.dtype)
    y = matmul(share, v)
    if flat:
        y = reshape(transpose(y, (0, 2, 1, 3)), (y.shape[0], y.shape[2], y.shape[1] * y.shape[3]))
    shown = (raw, capped, biased, share)
    return y, *present, shown[qk_matmul_output_mode] if 0 <= qk_matmul_output_mode < 4 else None


class _Masks:
    """Which keys each query may see, and what is added to its scores.

    Attributes
    ----------
    known : (..., queries, keys) of bool
        What is known while tracing.
    seen : list of Tensor
        Masks that are not; all broadcast to the scores.
    bias : Tensor or None
    ahead : (queries, keys) of int
        How far each key lies ahead of each query.
    """

    def __init__(self, queries: int, keys: int) -> None:
        self.ahead = np.arange(keys) - np.arange(queries)[:, None]
        self.known = np.ones((1, 1), bool)
        self.seen: list[Tensor] = []
        self.bias: Tensor | None = None

    def add(self, call: Call, mask: Value) -> None:
        """A file's own: bools, or numbers to be added. It may end before the last key: those behind are not seen."""
        missing = self.ahead.shape[1] - mask.shape[-1]
        after = (0, missing if missing > 0 and mask.shape[-1] > 1 else 0)
        if isinstance(mask, np.ndarray) and mask.dtype == bool:
            self.known = self.known & np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [after])
        elif isinstance(mask, Whole):
            self.seen.append(constant_pad(cast(mask.tensor, np.float32), after, 0.0))
        else:
            self.bias = constant_pad(call.tensor(mask), after, -np.inf)

    def allow(self, places: Array, most: Any) -> None:
        """Keys at places of at most `most`, which may be a tensor."""
        if isinstance(most, Tensor):
            self.seen.append(compare(places.astype(most.dtype), most, "less_equal"))
        else:
            self.known = self.known & (places <= most)

    def applied(self, scores: Tensor) -> Tensor:
        """Scores, -infinity where nothing is seen."""
        return self._barred(scores if self.bias is None else scores + self.bias)

    def _barred(self, scores: Tensor) -> Tensor:
        for mask in self.seen:
            scores = where(cast(mask, scores.dtype), scores, -np.inf)
        return scores if self.known.all() else where(self.known, scores, -np.inf)

    def shares(self, scores: Tensor) -> Tensor:
        """softmax of the scores; zeros where a query sees nothing."""
        blind: Any = ~self.known.any(-1, keepdims=True)
        if self.seen or self.bias is not None:
            bias = self.bias if self.bias is not None else as_tensor(np.zeros((1, 1, 1, 1)), like=scores)
            blind = equal(self._barred(cast(bias, scores.dtype)).amax(-1, keepdim=True), -np.inf)
        elif not blind.any():
            return softmax(scores, -1)
        return where(blind, 0.0, softmax(where(blind, 0.0, scores), -1))


def _lengths(lengths: Value, dtype: Any) -> Any:
    """How many keys of each sample count, as (N, 1, 1, 1)."""
    if isinstance(lengths, Whole):
        return reshape(cast(lengths.tensor, dtype), (lengths.shape[0], 1, 1, 1))
    return np.asarray(lengths).reshape(-1, 1, 1, 1)


def _heads(x: Tensor, count: int | None) -> Tensor:
    """(N, heads, length, size) of that, or of (N, length, heads * size)."""
    if x.ndim == 4:
        return x
    if x.ndim != 3 or count is None or x.shape[2] % _check.size("its number of heads", count, 1):
        raise ValueError(f"its input has shape {tuple(x.shape)}; expected 4 dimensions, or 3 and a number of heads")
    return transpose(reshape(x, (*x.shape[:2], count, x.shape[2] // count)), (0, 2, 1, 3))


def _repeated(x: Tensor, heads: int) -> Tensor:
    """x with each of its heads as often as makes `heads` of them."""
    n, own, length, size = x.shape
    if heads % own:
        raise ValueError(f"it has {heads} heads of queries for {own} of keys and values; expected a multiple")
    stretched = broadcast_to(reshape(x, (n, own, 1, length, size)), (n, own, heads // own, length, size))
    return reshape(stretched, (n, heads, length, size))


@operator("RotaryEmbedding", 23, raw="position_ids", settings="cos_cache sin_cache")
def rotary_embedding(
    call: Call,
    X: Tensor,
    cos_cache: Value,
    sin_cache: Value,
    position_ids: Value | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Pairs of each head's numbers turned by the angles of their position (Su et al., 2021)."""
    x = _heads(X, num_heads or None)
    size = rotary_embedding_dim or x.shape[3]
    if not 0 < size <= x.shape[3] or size % 2:
        raise ValueError(f"it turns {size} of {x.shape[3]} numbers; expected an even count of them")
    cos, sin = (_angles(call.tensor(t), position_ids, size // 2) for t in (cos_cache, sin_cache))
    turned, rest = x[..., :size], x[..., size:] if size < x.shape[3] else None
    parts = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(size // 2), slice(size // 2, None))
    a, b = (turned[..., part] for part in parts)
    real, imaginary = a * cos - b * sin, a * sin + b * cos
    if interleaved:
        y = reshape(concat([real.unsqueeze(-1), imaginary.unsqueeze(-1)], x.ndim), turned.shape)
    else:
        y = concat([real, imaginary], -1)
    y = y if rest is None else concat([y, rest], -1)
    return reshape(transpose(y, (0, 2, 1, 3)), X.shape) if X.ndim == 3 else y


def _angles(table: Tensor, positions: Value | None, half: int) -> Tensor:
    """Of each position, (N or 1, 1, length, half)."""
    if positions is not None:
        index = labels("it", positions.tensor if isinstance(positions, Whole) else positions, table.shape[0])
        table = rows_of(table, index, False)
    if table.ndim != 3 or table.shape[2] != half:
        raise ValueError(f"its tables give {tuple(table.shape)}; expected (N, length, {half})")
    return table.unsqueeze(1)
