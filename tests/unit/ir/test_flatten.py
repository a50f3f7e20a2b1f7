"""Deep expressions become shallow ones of the same value, whatever statement they stand in."""

from __future__ import annotations

import random

import pytest
from support import heavy

from ml2sc.ir import program as p
from ml2sc.ir.flatten import DEEPEST, flattened, flattened_program
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.program import Const, Expr, OpCode, Statement, Var, const

OPS = (OpCode.ADD, OpCode.SUB, OpCode.MUL, OpCode.XOR, OpCode.OR)


def levels(body: tuple[Statement, ...]) -> int:
    def of(expr: Expr) -> int:
        level, count = [expr], 0
        while level:
            level, count = [part for e in level for part in p.operands(e)], count + 1
        return count

    return max(of(e) for s in p.walk(body) for e in p.expressions(s))


def grown(rng: random.Random, depth: int, *, small: bool = False) -> Expr:
    """Return an expression so deep, on either side, of constants and the variable x; `small`: 0 to 7."""
    expr: Expr = Var("x")
    for _ in range(depth):
        other = Const(rng.getrandbits(8))
        expr = p.binary(rng.choice(OPS))(*((expr, other) if rng.random() < 0.5 else (other, expr)))
    return p.and_(expr, const(7)) if small else expr


def every_statement(rng: random.Random, depth: int) -> tuple[Statement, ...]:
    """Return statements of every kind with expressions so deep in all places."""

    def place() -> Expr:
        return grown(rng, depth, small=True)

    return (
        p.Let("x", Const(rng.getrandbits(200))),
        p.Let("part0", grown(rng, depth)),
        p.Let("acc", p.add(grown(rng, depth), Var("part0"))),
        p.loop("i", 8, [p.Store("words", Var("i"), const(1)), p.StoreInput(Var("i"), 1, grown(rng, depth))]),
        p.Store("words", place(), grown(rng, depth)),
        p.CopySegment("table", place(), 1, "row"),
        p.Assign("acc", p.add(Var("acc"), p.Load("words", place()))),
        p.Assign("acc", p.mul(Var("acc"), p.Load("row", const(0)))),
        p.loop(
            "j",
            2,
            [p.If(grown(rng, depth), (p.Assign("acc", p.add(Var("acc"), p.add(grown(rng, depth), Var("k")))),))],
            also=[p.Induction("k", grown(rng, depth), 3)],
        ),
        p.Block((p.Let("inner", p.LoadInput(place())), p.Assign("acc", p.sub(Var("acc"), Var("inner"))))),
        p.Note("done"),
        p.Store("wad", const(0), Var("acc")),
    )


def program_of(body: tuple[Statement, ...]) -> p.Program:
    section, empty = p.Section("s", "", body), p.Section("none", "", ())
    buffers = {"wad": 1, "words": 8, "row": 1}
    segments = {"table": p.Segment(tuple(range(100, 108)))}
    return p.Program(p.InputFormat(8, 1, False, ()), 1, buffers, segments, empty, (section,), empty, False)


@pytest.mark.parametrize(("seed", "depth"), heavy.in_turns(2, range(6), [30, 400]))
def test_the_same_value(seed: int, depth: int) -> None:
    program = program_of(every_statement(random.Random(seed), depth))
    flat = flattened_program(program, 20)
    assert levels(flat.layers[0].body) == 20
    assert Interpreter(flat).run(bytes(8)) == Interpreter(flattened_program(program, 7)).run(bytes(8))
    if depth < DEEPEST:  # deeper ones are not read as they are
        assert Interpreter(flat).run(bytes(8)) == Interpreter(program).run(bytes(8))


def test_what_is_shallow_stays() -> None:
    body = every_statement(random.Random(1), 30)
    assert flattened(body) == body
    assert flattened(body, levels(body)) == body
    assert flattened(body, levels(body) - 1) != body


def test_arguments_of_an_error() -> None:
    rng = random.Random(2)
    wrong = p.Fail("Wrong", (grown(rng, 500), grown(rng, 5)))
    body = (p.Let("x", const(3)), p.If(const(1), (wrong,)))
    flat = flattened(body, 10)
    assert levels(flat) == 10
    with pytest.raises(ProgramError) as caught:
        Interpreter(program_of(flat)).run(bytes(8))
    with pytest.raises(ProgramError) as other:
        Interpreter(program_of(flattened(body, 3))).run(bytes(8))
    assert caught.value.args == other.value.args
