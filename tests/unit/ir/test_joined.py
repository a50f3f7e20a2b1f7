"""Variables of a loop that are equal become one, and nothing else changes."""

from __future__ import annotations

import pytest

from ml2sc.ir import program as p
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.joined import joined_program
from ml2sc.ir.program import For, Induction, Load, Statement, Store, Var, add, const, mul


def program_of(*body: Statement) -> p.Program:
    section, empty = p.Section("s", "", body), p.Section("none", "", ())
    return p.Program(p.InputFormat(8, 1, False, ()), 1, {"wad": 1, "a": 16}, {}, empty, (section,), empty, False)


def names(program: p.Program) -> list[str]:
    loops = (s for s in p.walk(program.layers[0].body) if isinstance(s, For))
    return [i.name for loop in loops for i in loop.inductions]


def summed(*inductions: Induction) -> p.Program:
    """Return a program whose answer depends on each of a loop's variables, also on those of a loop inside."""
    total: p.Expr = Var("acc")
    for factor, induction in enumerate(inductions, 2):
        total = add(total, mul(const(factor), Var(induction.name)))
    inner = p.loop(
        "n", 2, [p.Assign("acc", add(Var("acc"), Var("m")))], also=[Induction("m", Var(inductions[-1].name), 5)]
    )
    work = For(inductions, 4, (p.Assign("acc", total), p.If(Var("acc"), (inner,))))
    return program_of(p.Let("base", const(3)), p.Let("acc", const(0)), work, Store("wad", const(0), Var("acc")))


@pytest.mark.parametrize(
    ("others", "left"),
    [
        ([("o", const(0), 1)], []),
        ([("o", const(0), 2)], ["o"]),
        ([("o", const(1), 1)], ["o"]),
        ([("o", Var("base"), 1), ("q", Var("base"), 1)], ["o"]),
        ([("o", const(0), 1), ("q", const(0), 4), ("r", const(0), 4), ("t", const(0), 1)], ["q"]),
    ],
)
def test_equal_variables_are_one(others: list[tuple[str, p.Expr, int]], left: list[str]) -> None:
    program = summed(Induction("i", const(0), 1), *(Induction(*other) for other in others))
    joined = joined_program(program)
    assert names(joined) == ["i", *left, "n", "m"]
    assert Interpreter(joined).run(bytes(8)) == Interpreter(program).run(bytes(8))


def test_a_loop_within_a_loop() -> None:
    inner = p.loop(
        "j",
        4,
        [Store("a", add(Var("i"), Var("k")), add(Load("a", Var("o")), Var("j")))],
        also=[Induction("k", const(0), 1)],
    )
    first = p.loop("i", 8, [Store("a", Var("i"), Var("o"))], also=[Induction("o", const(0), 1)])
    second = p.loop("i", 8, [inner], also=[Induction("o", const(0), 1)])
    program = program_of(first, second, Store("wad", const(0), Load("a", const(10))))
    joined = joined_program(program)
    assert names(joined) == ["i", "i", "j"]
    assert Interpreter(joined).run(bytes(8)) == Interpreter(program).run(bytes(8))


def test_what_has_none_stays() -> None:
    program = summed(Induction("i", const(0), 1), Induction("o", const(0), 2))
    assert joined_program(program) == program
