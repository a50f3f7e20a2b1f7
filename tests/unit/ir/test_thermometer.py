from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from ml2sc.ir.thermometer import Ladder, code_of, wad_edge

WAD = 10**18
EDGES = [
    0.0,
    1.0,
    0.1,
    -0.1,
    3.0e38,
    -3.0e38,
    1e-45,
    -1e-45,
    2.0**-126,
    -(2.0**-126),
    2.0**24,
    2.0**60,
    -(2.0**23),
    0.5,
]


def rounded(x: Fraction, kind: type[np.floating]) -> float:  # type: ignore[type-arg]
    """Round to the nearest float, half to even, by trying its neighbours."""
    near = kind(float(x))
    inf = kind(np.inf)
    around = [np.nextafter(near, -inf), near, np.nextafter(near, inf)]
    bits = np.uint32 if kind is np.float32 else np.uint64

    def distance(v: np.floating) -> tuple[Fraction, int]:  # type: ignore[type-arg]
        top = Fraction(2) ** int(np.finfo(kind).maxexp)
        exact = Fraction(float(v)) if np.isfinite(v) else top * (1 if v > 0 else -1)
        return abs(exact - x), int(np.abs(v).view(bits)) & 1

    return float(min(around, key=distance))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("edge", EDGES)
def test_a_wad_number_exceeds_an_edge_as_its_float_does(edge: float, kind: type[np.floating]) -> None:  # type: ignore[type-arg]
    own = float(kind(edge))
    greatest = wad_edge(own, double=kind is np.float64)
    for step in (-1, 0, 1, 2):
        x = greatest + step
        assert (rounded(Fraction(x, WAD), kind) > own) == (step > 0)


def test_nothing_exceeds_infinity() -> None:
    assert wad_edge(float("inf"), double=False) == 2**255 - 1
    assert wad_edge(float("-inf"), double=False) == -(2**255)


def ladder(*edges: tuple[float, ...]) -> Ladder:
    return Ladder(edges, tuple(tuple(range(len(own))) for own in edges), ((),) * len(edges), double=False)


def test_fields_do_not_straddle_words_and_missing_fills_them() -> None:
    edges = tuple(float(n) for n in range(200))
    code = code_of((ladder(edges, edges[:100], ()),))
    assert code.words == 2
    assert all(field.bit + len(field.ranks) < 256 for field in code.fields)
    packed = int.from_bytes(code.pack([201, 3, 0])[:32], "big")
    assert packed == (1 << 200) - 1
    assert code.pack([0, 0, 0]) == bytes(code.length)


def test_long_fields_go_on_in_other_words() -> None:
    edges = tuple(float(n) for n in range(600))
    code = code_of((ladder(edges),))
    assert [(len(f.ranks), f.follows) for f in code.fields] == [(255, False), (255, True), (90, True)]
    for rank in (0, 1, 255, 256, 600):
        assert int.from_bytes(code.pack([rank]), "big").bit_count() == rank


def test_ranks_count_the_edges_below() -> None:
    found = ladder((0.5, 1.0), ()).ranks(np.array([[0.5, 9.0], [0.50001, 9.0], [2.0, 9.0], [np.nan, 9.0]]))
    assert found.tolist() == [[0, 0], [1, 0], [2, 0], [3, 0]]
