"""Bounds how deep expressions nest: what is deeper is computed beforehand, part by part, into variables.

Compilers read expressions recursively (Vyper and Python's own parser give up at some 200 levels), and a sum over a few
thousand inputs is as deep as it is long. A sum of bounded depth stays as it is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import count

from .program import (
    Apply,
    Assign,
    Block,
    Call,
    Const,
    CopySegment,
    Expr,
    Fail,
    For,
    If,
    Let,
    Load,
    LoadInput,
    Note,
    Program,
    Statement,
    Store,
    StoreInput,
    Var,
    WadInput,
    expressions,
    operands,
    subexpressions,
    walk,
)
from .remembered import Memory

DEEPEST = 165
"""Levels of the expressions of a Program."""


def flattened(body: Sequence[Statement], deepest: int = DEEPEST) -> tuple[Statement, ...]:
    """Return statements that do the same, none of whose expressions is deeper than `deepest` levels.

    Those that are not too deep come out as they are.
    """
    if not any(_deeper(e, deepest) for s in walk(body) for e in expressions(s)):
        return tuple(body)
    return _Flattening(body, deepest).body(body)


def flattened_program(program: Program, deepest: int) -> Program:
    """Return a program that does the same with expressions of at most `deepest` levels."""
    return program.with_bodies(lambda body: _FLATTENED.of(body, deepest, lambda: flattened(body, deepest)))


_FLATTENED = Memory[tuple[Statement, ...]]()


def _deeper(expr: Expr, levels: int) -> bool:
    if len(subexpressions(expr)) <= levels:
        return False
    level = [expr]
    for _ in range(levels):
        level = [part for e in level for part in operands(e)]
        if not level:
            return False
    return True


class _Flattening:
    """The rewriting of one section.

    Args:
        body: The section's statements.
        deepest: Levels that expressions may have.
    """

    def __init__(self, body: Iterable[Statement], deepest: int) -> None:
        self._deepest = deepest
        self._taken = {s.name for s in walk(body) if isinstance(s, Let)}
        self._taken |= {i.name for s in walk(body) if isinstance(s, For) for i in s.inductions}
        self._number = count()

    def body(self, body: Iterable[Statement]) -> tuple[Statement, ...]:
        return tuple(new for statement in body for new in self._statement(statement))

    def _statement(self, statement: Statement) -> tuple[Statement, ...]:
        before: list[Statement] = []
        new = self._rewritten(statement, before)
        if not before:
            return (new,)
        if isinstance(new, Let):  # it must be visible after its parts
            return Let(new.name, Const(0)), Block((*before, Assign(new.name, new.value)))
        return (Block((*before, new)),)

    def _rewritten(self, statement: Statement, before: list[Statement]) -> Statement:
        """Return a statement with shallow expressions; statements that compute their parts go to `before`."""
        match statement:
            case Let(name, value):
                return Let(name, self._expr(value, before))
            case Assign(name, value):
                return Assign(name, self._expr(value, before))
            case Store(buffer, index, value):
                return Store(buffer, self._expr(index, before), self._expr(value, before))
            case StoreInput(offset, width, value):
                return StoreInput(self._expr(offset, before), width, self._expr(value, before))
            case CopySegment(_, offset):
                return dataclasses.replace(statement, offset=self._expr(offset, before))
            case Fail(error, args):
                return Fail(error, tuple(self._expr(arg, before) for arg in args))
            case If(condition, body, otherwise):
                condition = self._expr(condition, before)
                return dataclasses.replace(
                    statement, condition=condition, body=self.body(body), otherwise=self.body(otherwise)
                )
            case For(inductions, times, body):
                starts = (dataclasses.replace(i, start=self._expr(i.start, before)) for i in inductions)
                return For(tuple(starts), times, self.body(body))
            case Block(body):
                return Block(self.body(body))
            case Note() | Call():  # whose arguments are constants, or nearly so
                return statement

    def _expr(self, expr: Expr, before: list[Statement]) -> Expr:
        """Return an expression whose deep parts are variables, declared in `before`."""
        done: list[tuple[Expr, int]] = []  # the parts still to be used, with their levels
        todo: list[tuple[Expr, bool]] = [(expr, False)]
        while todo:
            part, ready = todo.pop()
            inner = operands(part)
            if inner and not ready:
                todo.append((part, True))
                todo += [(operand, False) for operand in reversed(inner)]
                continue
            own = done[len(done) - len(inner) :]
            del done[len(done) - len(inner) :]
            own = [self._moved(e, before) if levels >= self._deepest else (e, levels) for e, levels in own]
            done.append((_with_operands(part, [e for e, _ in own]), 1 + max((n for _, n in own), default=0)))
        return done[0][0]

    def _moved(self, expr: Expr, before: list[Statement]) -> tuple[Expr, int]:
        name = next(name for n in self._number if (name := f"part{n}") not in self._taken)
        before.append(Let(name, expr))
        return Var(name), 1


def _with_operands(expr: Expr, inner: Sequence[Expr]) -> Expr:
    match expr:
        case Apply(op):
            return Apply(op, tuple(inner))
        case Load(buffer):
            return Load(buffer, inner[0])
        case LoadInput():
            return LoadInput(inner[0])
        case WadInput():
            return WadInput(inner[0])
    return expr
