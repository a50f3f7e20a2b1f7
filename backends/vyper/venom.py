"""What venom, Vyper's newer code generator, has room for on its stack, and how a program leaves it more.

Venom keeps variables on the stack, fetches all factors of straight code before it multiplies, and gives up
(StackTooDeep) where what it needs is out of reach. The classic generator manages all programs, and pays memory for each
variable: contracts are cheaper where venom compiles them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from ml2sc.ir.liveness import REACH, peak, waiting
from ml2sc.ir.parted import parted, products
from ml2sc.ir.program import Block, For, If, Program, Statement, bodies
from ml2sc.ir.remembered import remembered
from ml2sc.ir.spilled import kept, spilled

DEEPEST_PRODUCTS = 50
"""Products between two jumps that venom finds room for on the stack: 48 compiled, 60 did not (StackTooDeep)."""
_PARTED = 16
"""Products between two jumps where they are parted: of runs of 24 some did not compile; a jump takes some 30 gas."""
_MANY_PLACES = 4
_DEEPEST_PLACES = 21
"""Places that are checked before the first is written to, with all variables: 21 compiled, 23 did not."""


def with_room(program: Program) -> Program:
    """Return a program that does the same and that venom has room for; the program itself if it is not so made.

    Longer runs of products are parted, and a procedure keeps its words in memory.
    """
    if not too_deep(program):
        return program
    made = program.with_bodies(_parted)
    procedures, buffers = dict(made.procedures), dict(made.buffers)
    for name, procedure in made.procedures.items():
        if 0 <= _room(procedure.body) < len(procedure.words):
            buffer = next(free for n in count(1) if (free := f"{name}_words_{n}") not in buffers)
            procedures[name] = spilled(procedure, buffer)
            # venom has an array of one word on the stack
            buffers[buffer] = max(len(procedure.words), 2)
    made = replace(made, procedures=procedures, buffers=buffers)
    return program if too_deep(made) else made


def too_deep(program: Program) -> bool:
    """Return whether venom, which fetches all factors of straight code before it multiplies, runs out of the stack."""
    words = {name: kept(procedure.body, procedure.words) for name, procedure in program.procedures.items()}
    return any(words.get(s.name, 0) > _room(s.body) for s in program.routines())


@remembered
def _parted(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return parted(body, _PARTED) if _too_many(body) else body


@remembered
def _room(body: tuple[Statement, ...]) -> float:
    """Return how many words a routine can be passed; less than none where it is too deep without."""
    if _too_many(body):
        return -1
    held, places = waiting(body)
    if not held and places < _MANY_PLACES:
        return math.inf
    variables = peak(body)
    return -1 if held and held + variables > REACH else _DEEPEST_PLACES - places - variables


def _too_many(body: Iterable[Statement]) -> bool:
    return _straight_products(body)[1] > DEEPEST_PRODUCTS


def _straight_products(body: Iterable[Statement], run: int = 0) -> tuple[int, int]:
    """Return the products since the last jump, after some before the body, and the most between two jumps."""
    most = run
    for statement in body:
        match statement:
            case For() | If() as jump:
                most = max(most, *(_straight_products(inner)[1] for inner in bodies(jump)))
                run = 0
            case Block(inner):
                run, inner_most = _straight_products(inner, run)
                most = max(most, inner_most)
            case _:
                run += products(statement)
                most = max(most, run)
    return run, most
