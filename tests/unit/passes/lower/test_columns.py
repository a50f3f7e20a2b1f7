"""Columns of tables: the polynomial, which trees are together, answers that cannot be."""

from __future__ import annotations

from functools import reduce
from operator import xor

import numpy as np
import pytest

from ml2sc.ir.program import Const, Let, Var, expressions, subexpressions, walk
from ml2sc.passes.lower.columns import Columns, polynomial


def at(coefficients: list[int], number: int) -> int:
    """Return a polynomial's value."""
    return reduce(xor, (word for n, word in enumerate(coefficients) if n & number == n))


@pytest.mark.parametrize("bits", range(5))
def test_a_polynomial_has_the_values_it_is_made_of(bits: int) -> None:
    random = np.random.default_rng(bits)
    values = [int(value) if value else None for value in random.integers(0, 5, 1 << bits)]
    found = polynomial(values)
    assert [v for v in values if v is not None] == [at(found, n) for n, v in enumerate(values) if v is not None]
    assert all(found[n] == 0 for n, value in enumerate(values) if value is None)


def columns(values: list[list[int | None]], shifts: list[int] | None = None, bits: int = 64) -> Columns:
    """Return the columns of trees of two questions each."""
    places = [[(0, 2 * tree), (0, 2 * tree + 1)] for tree in range(len(values))]
    return Columns(places, values, shifts or [0] * len(values), bits, range(len(values)), [Var("code0")])


def literals(columns: Columns) -> list[int]:
    """Return how many literals make what is chosen, of each set of trees."""
    lets = [s for s in walk(columns.statements()) if isinstance(s, Let) and s.name.startswith("chosen")]
    parts = [[part for e in expressions(let) for part in subexpressions(e)] for let in lets]
    return [sum(isinstance(part, Const) for part in own) for own in parts]


POSSIBLE: list[int | None] = [1, 2, 4, 9]
WITHOUT: list[int | None] = [1, 2, None, 9]


def test_trees_without_the_same_answers_are_together() -> None:
    """A word of what nobody can say is left out."""
    assert literals(columns([POSSIBLE, WITHOUT] * 4)) == [4, 3]


def test_trees_that_are_shifted_alike_are_together() -> None:
    assert literals(columns([POSSIBLE, WITHOUT] * 4, [0, 64] * 4)) == [4, 3]
    assert literals(columns([POSSIBLE, WITHOUT] * 2, [0, 0, 64, 64])) == [4, 4]


def test_what_fits_a_lane() -> None:
    assert columns([[0, 1, 2, 3]] * 3).fits
    assert not columns([[0, 1, 2, 3]], bits=256).fits
    assert not columns([]).fits
