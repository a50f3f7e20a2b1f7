"""Which trees are in a word together."""

from __future__ import annotations

import numpy as np

from ml2sc.passes.lower.grid import dealt
from ml2sc.passes.lower.network import Place, gathered

WIDTH = 8


def terms(places: tuple[tuple[tuple[int, Place], ...], ...], deal: list[list[int]]) -> int:
    """Return how many terms gather the bits of all words."""
    return sum(
        len(gathered({WIDTH * lane + bit: place for lane, tree in enumerate(word) for bit, place in places[tree]})[0])
        for word in deal
    )


def test_trees_are_dealt_out_for_few_terms() -> None:
    random = np.random.default_rng(3)
    places = tuple(
        tuple((bit, (int(random.integers(2)), int(random.integers(120)))) for bit in range(6)) for _ in range(40)
    )
    sizes = (13, 13, 14)
    plain = [list(range(13)), list(range(13, 26)), list(range(26, 40))]
    deal = dealt(places, sizes, WIDTH)
    assert tuple(map(len, deal)) == sizes
    assert sorted(tree for word in deal for tree in word) == list(range(40))
    assert terms(places, deal) < terms(places, plain)
    assert dealt(places[:13], (13,), WIDTH) == [list(range(13))]
