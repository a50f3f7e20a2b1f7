"""Long runs of products are parted by tests, and give the same sums, also where factors are zero."""

from __future__ import annotations

import random

import pytest

from ml2sc.ir import program as p
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.parted import parted, products
from ml2sc.ir.program import Assign, Const, For, If, Induction, Let, Load, Statement, Store, Var, add, const, mul

FACTORS = 64


def summed(rng: random.Random, each: int) -> list[Statement]:
    """Return statements that add products of the words of a buffer, so many each, to a variable."""
    made: list[Statement] = []
    for first in range(0, FACTORS, each):
        total: p.Expr = Var("acc")
        for number in range(first, first + each):
            total = add(mul(Load("x", const(number)), Const(rng.getrandbits(256))), total)
        made.append(Assign("acc", total))
    return made


def program_of(rng: random.Random, body: list[Statement]) -> p.Program:
    words = [Store("x", const(n), const(rng.choice([0, 0, rng.getrandbits(60)]))) for n in range(FACTORS)]
    section = p.Section("s", "", (*words, Let("acc", const(7)), *body, Store("wad", const(0), Var("acc"))))
    empty = p.Section("none", "", ())
    return p.Program(p.InputFormat(8, 1, False, ()), 1, {"wad": 1, "x": FACTORS}, {}, empty, (section,), empty, False)


def runs(body: tuple[Statement, ...]) -> list[int]:
    """Return the products of each run of statements without a jump."""
    found = [0]
    for statement in body:
        if isinstance(statement, For | If):
            found += [run for inner in p.bodies(statement) for run in runs(inner)] + [0]
        elif isinstance(statement, p.Block):
            first, *others = runs(statement.body)
            found[-1] += first
            found += others
        else:
            found[-1] += products(statement)
    return found


@pytest.mark.parametrize("each", [1, 4, 16])
@pytest.mark.parametrize("where", ["straight", "loop", "block", "branch"])
def test_the_same_sums(each: int, where: str) -> None:
    rng = random.Random(f"{each} {where}")
    body = summed(rng, each)
    match where:
        case "loop":
            body = [For((Induction("i", const(0), 1),), 3, (*body, Assign("acc", add(Var("acc"), Var("i")))))]
        case "block":
            body = [p.Block(tuple(body[: len(body) // 2])), *body[len(body) // 2 :]]
        case "branch":
            body = [If(Var("acc"), tuple(body)), *summed(rng, each)]
    program = program_of(rng, body)
    made = program.with_bodies(lambda body: parted(body, 16))
    before, after = (one.layers[0].body for one in (program, made))
    assert max(runs(before)) >= FACTORS
    assert max(runs(after)) <= 16 + each
    assert Interpreter(made).run(bytes(8)) == Interpreter(program).run(bytes(8))
    added = [s for s in p.walk(after) if isinstance(s, If) and s.added]
    assert added
    assert len([s for s in p.walk(after) if isinstance(s, If)]) - len(added) == (where == "branch")


def test_what_is_short_stays() -> None:
    program = program_of(random.Random(1), summed(random.Random(2), 4)[:4])
    assert program.with_bodies(lambda body: parted(body, 16)) == program


def test_a_product_that_reads_the_sum_stays() -> None:
    squares = [Assign("acc", add(mul(Var("acc"), Load("x", const(n))), Var("acc"))) for n in range(FACTORS)]
    program = program_of(random.Random(3), squares)
    assert program.with_bodies(lambda body: parted(body, 16)) == program
