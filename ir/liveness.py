"""How many variables of a Program's statements are live at once: a stack machine's compilers must reach all of them."""

from __future__ import annotations

from .program import Assign, Block, Const, For, If, Let, Statement, bodies, expressions, variables, walk

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
