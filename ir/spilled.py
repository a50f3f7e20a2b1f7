"""Keeps a procedure's words in memory, where a compiler's stack has no room for them beside what it computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile

from .program import Const, Expr, Load, Procedure, Statement, Store, Var, const, expressions, variables, walk
from .rewrite import Rewriting


def spilled(procedure: Procedure, buffer: str) -> Procedure:
    """Return a procedure that does the same, and puts its words into a buffer first.

    Args:
        procedure: The procedure.
        buffer: A buffer of its own, of as many words.
    """
    places = {name: const(number) for number, name in enumerate(procedure.words)}
    stores = [Store(buffer, places[name], Var(name)) for name in procedure.words]
    body = _Spilling(lambda leaf: leaf, places=places, into=buffer).body(procedure.body)
    return replace(procedure, body=(*stores, *body))


def kept(body: Iterable[Statement], words: Iterable[str]) -> int:
    """Return how many words a routine has beside what it computes: but for those it puts into a buffer first."""
    body = tuple(body)
    first = sum(1 for _ in takewhile(_is_spill, body))
    read = {name for s in walk(body[first:]) for e in expressions(s) for name in variables(e)}
    return sum(word in read for word in words)


def _is_spill(statement: Statement) -> bool:
    return isinstance(statement, Store) and isinstance(statement.index, Const) and isinstance(statement.value, Var)


@dataclass(frozen=True)
class _Spilling(Rewriting):
    """The rewriting of a block.

    Attributes:
        places: Of each word, in the buffer.
        into: The buffer.
    """

    places: Mapping[str, Expr] = field(default_factory=dict)
    into: str = ""

    def expr(self, expr: Expr) -> Expr:
        if isinstance(expr, Var) and expr.name in self.places:
            return Load(self.into, self.places[expr.name])
        return super().expr(expr)
