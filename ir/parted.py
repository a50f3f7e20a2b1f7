"""Parts long runs of products by tests: a product by zero adds nothing, and a test ends what a compiler orders at once.

A compiler that fetches all factors of straight code before it multiplies the first needs a place on its stack for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .program import (
    Apply,
    Assign,
    Block,
    For,
    If,
    OpCode,
    Statement,
    Var,
    add,
    bodies,
    expressions,
    subexpressions,
    variables,
)


def parted(body: Sequence[Statement], most: int) -> tuple[Statement, ...]:
    """Return statements that do the same, with not many more than so many products between two jumps.

    Args:
        body: The statements.
        most: Products after which the next that is added to a sum is only where its first factor is not zero.
    """
    return _Parting(most).body(body)


def products(statement: Statement) -> int:
    """Return how many products a statement's own expressions have."""
    parts = (part for e in expressions(statement) for part in subexpressions(e))
    return sum(isinstance(part, Apply) and part.op is OpCode.MUL for part in parts)


class _Parting:
    """Parts a routine.

    Args:
        most: Products of a run.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._run = 0
        """Products since the last jump."""

    def body(self, body: Iterable[Statement]) -> tuple[Statement, ...]:
        return tuple(new for statement in body for new in self._statement(statement))

    def _statement(self, statement: Statement) -> Iterable[Statement]:
        match statement:
            case For() | If():
                return [self._jumping(statement)]
            case Block(body):
                return [Block(self.body(body))]
            case Assign(name, Apply(OpCode.ADD, (Apply(OpCode.MUL, (factor, _)) as product, rest))) if (
                self._run >= self._most and name not in variables(product)
            ):
                self._run = 0
                return [Assign(name, rest), If(factor, (Assign(name, add(product, Var(name))),), added=True)]
        self._run += products(statement)
        return [statement]

    def _jumping(self, statement: For | If) -> For | If:
        """Return a statement that begins, goes on and ends with a jump."""
        parts = []
        for body in bodies(statement):
            self._run = 0
            parts.append(self.body(body))
        self._run = 0
        if isinstance(statement, For):
            return replace(statement, body=parts[0])
        return replace(statement, body=parts[0], otherwise=parts[1] if parts[1:] else ())
