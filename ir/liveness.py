"""How many variables of a Program's statements are live at once: a stack machine's compilers must reach all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from .program import (
    Apply,
    Assign,
    Block,
    Const,
    Expr,
    For,
    If,
    Let,
    Load,
    OpCode,
    Statement,
    Store,
    bodies,
    expressions,
    subexpressions,
    variables,
    walk,
)

REACH = 16
"""Places on the stack that DUP and SWAP reach."""


def peak(body: tuple[Statement, ...]) -> int:
    """Return how many variables of a body, at most, are live at once."""
    last: dict[str, int] = {}
    assigned: list[set[str]] = []
    for position, statement in enumerate(body):
        inner = walk((statement,))
        for each in inner:
            for expression in expressions(each):
                last.update(dict.fromkeys(variables(expression), position))
        given = {s.name for s in inner if isinstance(s, Assign)}
        last.update(dict.fromkeys(given, position))
        assigned.append(given)
    ended: dict[int, list[str]] = {}
    for name, position in last.items():
        ended.setdefault(position, []).append(name)
    live: set[str] = set()
    constant: set[str] = set()
    most = 0
    for position, statement in enumerate(body):
        own = 0
        ending = statement.body[-1:] if isinstance(statement, Block) else ()
        later = {s.name for s in walk(ending) if isinstance(s, Assign)}
        given = assigned[position] - later
        new = constant & given
        live |= new
        constant -= given
        match statement:
            case Let(name, Const()):  # until it is given another value, that is written out where it is used
                constant.add(name)
            case Let(name):
                live.add(name)
                new.add(name)
            case For(inductions, _, inner_body):
                own = len(inductions) + peak(inner_body)
            case If() | Block():
                own = max(map(peak, bodies(statement)))
        most = max(most, len(live) + own)
        new |= constant & later
        live |= new
        constant -= live
        live.difference_update(ended.get(position, ()), [name for name in new if last.get(name, -1) < position])
    return most


def waiting(body: Iterable[Statement]) -> tuple[int, int]:
    """Return how many words that several products take apart are read between two jumps, and places written: the most.

    A compiler reads each of the former once. One that checks places may compute all of the latter before it stores.
    """
    most, places, run, stored = 0, 0, Counter[Load](), set[Expr]()

    def ended() -> None:
        nonlocal most, places
        most = max(most, sum(times > 1 for times in run.values()))
        places = max(places, len(stored))
        run.clear()
        stored.clear()

    def visit(body: Iterable[Statement]) -> None:
        for statement in body:
            if isinstance(statement, For | If):
                for inner in bodies(statement):
                    ended()
                    visit(inner)
                ended()
            elif isinstance(statement, Block):
                visit(statement.body)
            else:
                run.update({load for e in expressions(statement) for load in _factors(e)})
                if isinstance(statement, Store) and isinstance(statement.index, Apply):
                    stored.add(statement.index)

    visit(body)
    ended()
    return most, places


def _factors(expr: Expr) -> Iterator[Load]:
    """Iterate over the words of memory that are factors, or are taken apart for factors."""
    for part in subexpressions(expr):
        if isinstance(part, Apply) and part.op is OpCode.MUL:
            for factor in part.args:
                yield from (load for load in subexpressions(factor) if isinstance(load, Load))
