"""Einstein's sums, as transposes, products and sums."""

from __future__ import annotations

from typing import Any

from fastnn.graph import Tensor, as_tensor
from fastnn.ops.arguments import check_dtypes, check_float
from fastnn.ops.gemm import matmul
from fastnn.ops.layout import reshape, transpose
from fastnn.sizes import count, describe


def einsum(equation: str, *operands: Any) -> Tensor:
    """Products of tensors, summed over the letters that the result lacks.

    Operands are multiplied from the left to the right, two at a time, by matrix products.

    Parameters
    ----------
    equation : str
        A letter for each dimension, as "bij,bjk->bik"; without "->" the result has the letters that occur once, in
        alphabetical order. A letter that one operand has twice takes its diagonal. `...` is not supported.
    *operands : tensor
    """
    terms, result = _parsed(equation, len(operands))
    tensors = [as_tensor(x) for x in operands]
    sizes: dict[str, int] = {}
    for i, (term, x) in enumerate(zip(terms, tensors, strict=True)):
        check_float("einsum", x, f"operand {i}")
        check_dtypes("einsum", tensors[0], x, ("operand 0", f"operand {i}"))
        if len(term) != x.ndim:
            raise ValueError(f"einsum: operand {i} has shape {describe(x.shape)}, and the letters {term!r}")
        for letter, size in zip(term, x.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"einsum: {letter!r} is {sizes[letter]} and, in operand {i}, {size}")
    if unknown := set(result) - sizes.keys():
        raise ValueError(f"einsum: no operand has the letter {min(unknown)!r} of the result")
    parts = [_diagonal(term, x) for term, x in zip(terms, tensors, strict=True)]
    letters, y = parts[0]
    for i, part in enumerate(parts[1:], 2):
        later = set(result).union(*(term for term, _ in parts[i:]))
        letters, y = _product((letters, y), part, later)
    letters, y = _summed(letters, y, set(result))
    return transpose(y, [letters.index(letter) for letter in result])


def _parsed(equation: str, operands: int) -> tuple[list[str], str]:
    text = equation.replace(" ", "")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if not all(term.isalpha() or not term for term in (*terms, result)):
        raise ValueError(f"einsum: an equation is letters, commas and one ->, got {equation!r}")
    if len(terms) != operands:
        raise ValueError(f"einsum: {equation!r} names {len(terms)} operand(s), and there are {operands}")
    if not arrow:
        result = "".join(letter for letter in sorted(set(left) - {","}) if left.count(letter) == 1)
    if len(set(result)) != len(result):
        raise ValueError(f"einsum: the result has a letter twice in {equation!r}")
    return terms, result


def _diagonal(term: str, x: Tensor) -> tuple[str, Tensor]:
    """Letters that stand once, and x along the diagonals of the others."""
    for letter in term:
        while term.count(letter) > 1:
            i, j = term.index(letter), term.rindex(letter)
            x = transpose(x, [i, j, *(k for k in range(x.ndim) if k not in (i, j))])
            n, rest = x.shape[0], x.shape[2:]
            x = reshape(x, (n * n, *rest))[:: n + 1]
            term = letter + "".join(c for k, c in enumerate(term) if k not in (i, j))
    return term, x


def _summed(letters: str, x: Tensor, kept: set[str]) -> tuple[str, Tensor]:
    """x summed over the letters that are not kept."""
    axes = tuple(i for i, letter in enumerate(letters) if letter not in kept)
    return "".join(c for c in letters if c in kept), x.sum(axes) if axes else x


def _product(a: tuple[str, Tensor], b: tuple[str, Tensor], later: set[str]) -> tuple[str, Tensor]:
    """Two operands as one, without the letters that nothing later has."""
    left, x = _summed(*a, later.union(b[0]))
    right, y = _summed(*b, later.union(left))
    shared = [c for c in left if c in right]
    stack = [c for c in shared if c in later]
    inner = [c for c in shared if c not in later]
    rows = [c for c in left if c not in shared]
    columns = [c for c in right if c not in shared]
    sizes = dict(zip(left, x.shape, strict=True)) | dict(zip(right, y.shape, strict=True))

    def shape(*groups: list[str]) -> tuple[int, ...]:
        return tuple(count([sizes[c] for c in group]) for group in groups)

    x = transpose(x, [left.index(c) for c in (*stack, *rows, *inner)])
    y = transpose(y, [right.index(c) for c in (*stack, *inner, *columns)])
    letters = "".join((*stack, *rows, *columns))
    full = tuple(sizes[c] for c in letters)
    if not inner:  # nothing is summed
        x = reshape(x, (*shape(stack, rows), 1))
        y = reshape(y, (shape(stack)[0], 1, *shape(columns)))
        return letters, reshape(x * y, full)
    if not stack:
        return letters, reshape(matmul(reshape(x, shape(rows, inner)), reshape(y, shape(inner, columns))), full)
    return letters, reshape(
        matmul(reshape(x, shape(stack, rows, inner)), reshape(y, shape(stack, inner, columns))), full
    )
