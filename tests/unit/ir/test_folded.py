"""Loops of one round become their body, constants are computed, and nothing else changes."""

from __future__ import annotations

import pytest

from ml2sc.ir import program as p
from ml2sc.ir.folded import folded_program
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import Assign, Expr, For, If, Induction, Let, Load, Statement, Store, Var, add, const, mul


def program_of(*body: Statement) -> p.Program:
    section, empty = p.Section("s", "", body), p.Section("none", "", ())
    return p.Program(p.InputFormat(8, 1, False, ()), 1, {"wad": 1, "a": 16}, {}, empty, (section,), empty, False)


def folded(*body: Statement) -> list[Statement]:
    """Return all statements of the folded program, which answers as the program itself does."""
    program = program_of(
        Let("acc", const(7)), Store("a", const(5), const(9)), *body, Store("wad", const(0), Var("acc"))
    )
    after = folded_program(program)
    assert Interpreter(after).run(bytes(8)) == Interpreter(program).run(bytes(8))
    return p.walk(after.layers[0].body)[2:-1]


def once(name: str, start: Expr, *body: Statement) -> For:
    return For((Induction("i", const(3), 1), Induction(name, start, 4)), 1, body)


def added(*terms: Expr) -> Assign:
    total: Expr = Var("acc")
    for term in terms:
        total = mul(add(total, term), const(3))
    return Assign("acc", total)


def test_a_loop_of_one_round_is_its_body() -> None:
    block, *inside = folded(once("j", add(Var("acc"), const(1)), Store("a", Var("i"), Var("j"))))
    assert isinstance(block, p.Block)
    assert inside == [Store("a", const(3), add(Var("acc"), const(1)))]


@pytest.mark.parametrize("start", [Var("acc"), Load("a", const(5))], ids=["assigned to inside", "read from memory"])
def test_what_may_change_meanwhile_is_kept(start: Expr) -> None:
    change = Store("a", const(5), const(1))
    statements = folded(once("j", start, change, added(Var("j")), added(Var("j"), Var("i"))))
    assert Let("j", start) in statements
    assert not any(isinstance(s, For) for s in statements)
    assert added(Var("j"), const(3)) in statements


def test_names_come_again() -> None:
    statements = folded(once("j", const(8), added(Var("j"))), once("j", const(9), added(Var("j"))))
    assert [s for s in statements if isinstance(s, Assign)] == [added(const(8)), added(const(9))]


def test_what_stands_still_in_a_loop_is_known() -> None:
    """Vyper checks a subscript in each round that it is not told to be constant, and prices say so."""
    loop = For((Induction("i", const(0), 1), Induction("j", const(4), 0)), 3, (added(Var("i"), Var("j")),))
    assert folded(loop) == [For(loop.inductions[:1], 3, (added(Var("i"), const(4)),)), added(Var("i"), const(4))]


def test_loops_within_loops() -> None:
    inner = once("k", add(Var("j"), const(1)), added(Var("k"), Var("i")))
    loop = For((Induction("j", const(0), 5),), 3, (inner, If(Var("acc"), (inner,))))
    (outer, *inside) = folded(loop)
    assert isinstance(outer, For)
    assert inside.count(added(add(Var("j"), const(1)), const(3))) == 2


def test_a_loop_of_no_round_is_gone() -> None:
    assert folded(For((Induction("i", const(3), 1),), 0, (added(Var("i")),))) == []


def test_constants_are_computed() -> None:
    product = p.Apply(p.OpCode.MUL, (const(6), const(7)))
    (statement,) = folded(added(p.shl(3, product), p.Apply(p.OpCode.DIV, (product, const(5)))))
    assert statement == added(const(336), const(8))


def test_what_has_none_stays() -> None:
    program = program_of(Let("acc", const(1)), p.loop("i", 4, [added(Var("i"))]), Store("wad", const(0), Var("acc")))
    assert folded_program(program) == program
