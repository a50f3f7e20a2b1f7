"""Positions are taken apart into few loops, and each is met once, in whatever order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ml2sc.passes.lower.nests import Nest, nests_of, scattered
from ml2sc.passes.lower.values import Scalars, Value


def met(nests: list[Nest]) -> list[tuple[int, ...]]:
    """Return the positions of all rounds of all loops."""
    found = []
    for nest in nests:
        for at in itertools.product(*map(range, nest.counts)):
            offsets = [sum(i * step[c] for i, step in zip(at, nest.steps, strict=True)) for c in range(len(nest.start))]
            found.append(tuple(start + offset for start, offset in zip(nest.start, offsets, strict=True)))
    return found


def rows_in_words(channels: int, height: int, width: int, useful: int) -> np.ndarray:
    """Return where the pixels of maps are whose rows are words of so many lanes, one more before them."""
    lanes = np.arange(width)[::-1]
    words = -(-width // useful)
    row = np.arange(channels * height).reshape(-1, 1) * words + 2 * np.repeat(np.arange(channels), height)[:, None]
    return ((row + lanes // useful) * (useful + 1) + 1 + lanes % useful).ravel()


@pytest.mark.parametrize("useful", [2, 3, 4, 11, 40])
def test_rows_whose_last_word_is_not_full(useful: int) -> None:
    where = rows_in_words(11, 12, 11, useful)
    columns = np.stack([np.arange(where.size), where], axis=1)
    nests = nests_of(columns, np.zeros(where.size, dtype=np.int64))
    assert sorted(met(nests)) == sorted(map(tuple, columns.tolist()))
    assert len(nests) <= 3


def test_short_runs_are_scattered_where_they_are_much_code() -> None:
    source = Scalars("x", 10_000)
    few, many = (rows_in_words(1, height, 6, 2) for height in (8, 9))
    assert not scattered([Value((source,), np.zeros(few.size, dtype=np.int64), few)], 4)
    assert scattered([Value((source,), np.zeros(many.size, dtype=np.int64), many)], 4)
