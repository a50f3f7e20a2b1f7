"""Exact arithmetic on arrays of integers: in int64 where it holds the result, on Python ints where it may not."""

from __future__ import annotations

import itertools

import numpy as np

from ..types import Array, as_python_ints

_SAFE_BITS = 62
"""int64 holds sums of so many bits, with their sign."""
_HALF_BITS = 31
"""int32 holds integers, and sums, below two to that."""
_SHORT = 32
"""Rows of matrices from which on sums are quicker taken a row at a time."""


def narrow(values: Array) -> Array:
    """Return integers in int64 if it holds all of them, as they are else."""
    values = np.asarray(values)  # numpy makes Python ints of results that have no axes
    try:
        return values.astype(np.int64, copy=False)
    except OverflowError:
        return values


def largest(values: Array) -> int:
    """Return the greatest absolute value of some integers; 0 of none."""
    values = np.asarray(values)
    return max(abs(int(values.max())), abs(int(values.min()))) if values.size else 0


def within(limit: int, values: Array) -> Array:
    """Return integers so that arithmetic whose results are at most `limit` is exact on them."""
    return narrow(values) if limit >> _SAFE_BITS == 0 else as_python_ints(values)


def sum_of(a: Array, b: Array | int) -> Array:
    """Return a + b."""
    limit = largest(a) + (abs(b) if isinstance(b, int) else largest(b))
    return np.asarray(within(limit, a) + (b if isinstance(b, int) else within(limit, b)))


def product_of(a: Array, b: Array | int) -> Array:
    """Return a · b by element."""
    top_a, top_b = largest(a), abs(b) if isinstance(b, int) else largest(b)
    limit = max(top_a, 1) * max(top_b, 1)
    return np.asarray(within(limit, a) * (b if isinstance(b, int) else within(limit, b)))


def matmul(x: Array, w: Array) -> Array:
    """Return x @ w, exactly.

    What is too large for int64 is taken apart first. Of weights that int64 does not hold that takes longer than the
    products themselves.
    """
    x, w = narrow(x), narrow(w)
    top_x, top_w = largest(x), largest(w)
    limit = max(top_x, 1) * max(top_w, 1) * w.shape[0]
    if limit >> _SAFE_BITS == 0:
        return _product(x, w, limit)
    if w.dtype != np.int64:
        python: Array = as_python_ints(x) @ as_python_ints(w)
        return python
    bits = (_SAFE_BITS - w.shape[0].bit_length()) // 2
    limbs_x, limbs_w = _limbs(as_python_ints(x), top_x, bits), _limbs(w, top_w, bits)
    places = itertools.product(range(len(limbs_x)), range(len(limbs_w)))
    parts = ((limbs_x[i], limbs_w[j], bits * (i + j)) for i, j in places)
    product: Array = sum(as_python_ints(narrow(a) @ narrow(b)) << shift for a, b, shift in parts)
    return product


def _product(x: Array, w: Array, limit: int) -> Array:
    """Return x @ w where no partial sum is beyond `limit`, which int64 holds."""
    if w.shape[0] < _SHORT:
        return x @ w
    # numpy's matrix product of integers is a plain loop; sums along contiguous rows are taken several at a time
    kind = np.dtype(np.int32 if limit >> _HALF_BITS == 0 else np.int64)
    rows, columns = (np.ascontiguousarray(matrix).astype(kind, copy=False) for matrix in (x, w.T))
    product: Array = np.einsum("ij,kj->ik", rows, columns).astype(np.int64, copy=False)
    return product


def _limbs(values: Array, top: int, bits: int) -> list[Array]:
    """Return integers in parts of so many bits, the lowest first; the highest has the sign."""
    count = max(-(-top.bit_length() // bits), 1)
    lower = [values >> bits * k & (1 << bits) - 1 for k in range(count - 1)]
    return [*lower, values >> bits * (count - 1)]
