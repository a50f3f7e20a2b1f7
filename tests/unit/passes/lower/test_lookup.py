"""Tables of trees that ask little: which answers there are, and which words of a table are literals."""

from __future__ import annotations

import pytest

from ml2sc.ir.program import Apply, Const, OpCode, Statement, Var, expressions, subexpressions, walk
from ml2sc.ir.trees import Ensemble, Fork, Leaf
from ml2sc.passes.lower.lookup import Lookup, answers


def oblivious(levels: list[tuple[int, int, bool]]) -> Ensemble:
    """Return one complete tree, all forks of a level of which ask the same (feature, edge, side); leaf n says n."""
    inner = (1 << len(levels)) - 1
    forks = [Fork(*_asked(levels[(n + 1).bit_length() - 1]), odd=2 * n + 2, even=2 * n + 1) for n in range(inner)]
    leaves = [Leaf({0: float(n)}) for n in range(inner + 1)]
    return Ensemble(3, 1, (*forks, *leaves), (0,), (0.0,))


def _asked(level: tuple[int, int, bool]) -> tuple[int, tuple[int, ...], bool]:
    feature, edge, up = level
    return feature, (edge,), up


def test_an_edge_is_not_exceeded_without_a_lesser_one() -> None:
    asked, leaves = answers(oblivious([(0, 5, True), (1, 2, True), (0, 3, True)]), 0)
    assert asked == [(1, 2, True), (0, 3, True), (0, 5, True)]
    # bits: exceeds 2, exceeds 3, exceeds 5; in the tree the last level counts 1, the first 4
    found = [None if leaf is None else leaf.values[0] for leaf in leaves]
    assert found == [0, 2, 1, 3, None, None, 5, 7]


def test_a_missing_element_exceeds_edges_of_one_side_alone() -> None:
    _, leaves = answers(oblivious([(0, 5, True), (0, 3, False)]), 0)
    assert None not in leaves


@pytest.mark.parametrize("zeros", range(4))
def test_words_of_zeros_are_left_out(zeros: int) -> None:
    values = [0] * 16 * zeros + [40_000 + n for n in range(64 - 16 * zeros)]
    lookup = Lookup([[(0, bit) for bit in range(6)]], [values], [0], [Var("code0")], "t", literal=True)
    assert (lookup.bits, lookup.stride) == (16, 4)
    assert not lookup.segments()
    assert len(set(shifted(lookup.statements()))) == 4 - zeros


def shifted(body: list[Statement]) -> list[int]:
    """Return the literals that are shifted by what is not known."""
    parts = (part for s in walk(body) for e in expressions(s) for part in subexpressions(e))
    return [
        p.args[1].value for p in parts if isinstance(p, Apply) and p.op is OpCode.SHR and isinstance(p.args[1], Const)
    ]
