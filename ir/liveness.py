"""How many variables of a Program's statements are live at once: a stack machine's compilers must reach all of them."""

from __future__ import annotations

from collections.abc import Iterable

from .program import Assign, Block, Const, For, If, Let, Statement, bodies, expressions, variables, walk

REACH = 16
"""Places on the stack that DUP and SWAP reach."""


def peak(body: tuple[Statement, ...]) -> int:
    """Return how many variables of a body, at most, are live at once."""
    last: dict[str, int] = {}
    for position, statement in enumerate(body):
        inner = walk([statement])
        for expression in (e for s in inner for e in expressions(s)):
            last.update(dict.fromkeys(variables(expression), position))
        for name in (s.name for s in inner if isinstance(s, Assign)):
            last[name] = position
    live: set[str] = set()
    constant: set[str] = set()
    most = 0
    for position, statement in enumerate(body):
        own = 0
        ending = statement.body[-1:] if isinstance(statement, Block) else ()
        given = _assigned([statement]) - _assigned(ending)
        live |= constant & given
        constant -= given
        match statement:
            case Let(name, Const()):  # until it is given another value, that is written out where it is used
                constant.add(name)
            case Let(name):
                live.add(name)
            case For(inductions, _, inner_body):
                own = len(inductions) + peak(inner_body)
            case If() | Block():
                own = max(map(peak, bodies(statement)))
        most = max(most, len(live) + own)
        live |= constant & _assigned(ending)
        constant -= live
        live = {name for name in live if last.get(name, -1) > position}
    return most


def _assigned(body: Iterable[Statement]) -> set[str]:
    return {s.name for s in walk(body) if isinstance(s, Assign)}
