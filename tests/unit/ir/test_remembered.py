"""What is remembered of code: by identity, and not for ever."""

from __future__ import annotations

from ml2sc.ir.program import Let, Statement, const
from ml2sc.ir.remembered import Memory, remembered


def test_a_body_is_known_by_being_the_same() -> None:
    asked: list[tuple[Statement, ...]] = []

    @remembered
    def length(body: tuple[Statement, ...]) -> int:
        asked.append(body)
        return len(body)

    one, other = (tuple(Let("x", const(1)) for _ in range(1)) for _ in range(2))
    assert [length(body) for body in (one, other, one, other)] == [1, 1, 1, 1]
    assert asked[0] is one
    assert asked[1] is other
    assert len(asked) == 2


def test_what_else_an_answer_depends_on_counts() -> None:
    memory = Memory[int]()
    body = (Let("x", const(1)),)
    assert [memory.of(body, more, lambda more=more: more) for more in (3, 4, 3)] == [3, 4, 3]  # type: ignore[misc]


def test_the_oldest_is_forgotten() -> None:
    memory = Memory[int](2)
    bodies = [(Let(name, const(1)),) for name in "abc"]
    assert [memory.of(body, None, lambda: 1) for body in bodies] == [1, 1, 1]
    assert memory.of(bodies[2], None, lambda: 2) == 1
    assert memory.of(bodies[1], None, lambda: 2) == 1
    assert memory.of(bodies[0], None, lambda: 2) == 2
