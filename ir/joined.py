"""Joins variables of a loop that start and step alike, and so are equal in every round.

A Program keeps them apart for targets that make each the address of what it points into; for others each is a word more
to count up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .program import Block, Expr, For, If, Induction, Program, Statement, Var, walk
from .remembered import remembered
from .rewrite import Rewriting


def joined_program(program: Program) -> Program:
    """Return a program that does the same, none of whose loops has two variables of the same values."""
    return program.with_bodies(_joined_section)


def _joined(body: Sequence[Statement]) -> tuple[Statement, ...]:
    if not any(isinstance(s, For) and _equal(s.inductions) for s in walk(body)):
        return tuple(body)
    return tuple(map(_statement, body))


_joined_section = remembered(_joined)


def _statement(statement: Statement) -> Statement:
    match statement:
        case For(inductions, _, body):
            equal = _equal(inductions)
            if equal:

                def leaf(expr: Expr) -> Expr:
                    return Var(equal.get(expr.name, expr.name)) if isinstance(expr, Var) else expr

                body = Rewriting(leaf).body(body)
            kept = tuple(i for i in inductions if i.name not in equal)
            return replace(statement, inductions=kept, body=_joined(body))
        case If():
            return replace(statement, body=_joined(statement.body), otherwise=_joined(statement.otherwise))
        case Block(body):
            return Block(_joined(body))
    return statement


def _equal(inductions: Iterable[Induction]) -> dict[str, str]:
    """Return variables that are equal to one before them, and that one."""
    first: dict[tuple[Expr, int], str] = {}
    names = {i.name: first.setdefault((i.start, i.step), i.name) for i in inductions}
    return {name: other for name, other in names.items() if name != other}
