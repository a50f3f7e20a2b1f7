"""Integers in int64 or as Python ints: the results are those of Python."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ml2sc.ir.ops.integers import largest, matmul, narrow, product_of, sum_of
from ml2sc.ir.types import Array


def drawn(rng: random.Random, bits: int, count: int) -> Array:
    top = (1 << bits) - 1
    return np.array([rng.choice([top, -top, 1, -1, 0]) for _ in range(count)], dtype=object)


@pytest.mark.parametrize("bits", [1, 30, 31, 32, 61, 62, 63, 64, 100])
@pytest.mark.parametrize("other", [1, 31, 61, 62, 63, 70])
def test_sums_and_products_never_overflow(bits: int, other: int) -> None:
    rng = random.Random(bits)
    a, b = drawn(rng, bits, 40), drawn(rng, other, 40)
    one = int(b[0])
    for x in (a, narrow(a)):
        assert sum_of(x, narrow(b)).tolist() == [p + q for p, q in zip(a, b, strict=True)]
        assert product_of(x, narrow(b)).tolist() == [p * q for p, q in zip(a, b, strict=True)]
        assert sum_of(x, one).tolist() == [p + one for p in a]
        assert product_of(x, one).tolist() == [p * one for p in a]
    assert largest(narrow(a)) == max(map(abs, a))


@pytest.mark.parametrize("bits", [30, 70])
def test_single_numbers_stay_arrays(bits: int) -> None:
    """Numpy makes Python ints of sums of arrays that have no axes and hold those."""
    one = np.array(1 << bits, dtype=object)
    assert product_of(sum_of(one, -1), 3).tolist() == 3 * ((1 << bits) - 1)
    assert product_of(sum_of(one, 0), sum_of(one, 0)).tolist() == 1 << 2 * bits
    vector = np.array([1 << bits, 1], dtype=object)
    assert sum_of(vector @ vector, -(vector @ vector)).tolist() == 0


@pytest.mark.parametrize("bits", [1, 12, 13, 28, 29, 40])
@pytest.mark.parametrize("inner", [1, 31, 32, 33, 70])
def test_matrices(bits: int, inner: int) -> None:
    """Of few rows and of many, about where int32 and int64 hold the sums no more."""
    rng = random.Random(inner)
    x, w = drawn(rng, bits, 3 * inner).reshape(3, inner), drawn(rng, bits, inner * 2).reshape(inner, 2)
    assert matmul(narrow(x), narrow(w)).tolist() == (x @ w).tolist()
    top = np.full((1, inner), (1 << bits) - 1, dtype=np.int64)
    assert matmul(top, -top.T).tolist() == [[-inner * ((1 << bits) - 1) ** 2]]
