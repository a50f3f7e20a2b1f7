"""Statements with other expressions, buffers or segments in the place of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from .program import (
    Apply,
    Assign,
    Block,
    Call,
    CopySegment,
    Expr,
    Fail,
    For,
    If,
    Let,
    Load,
    LoadInput,
    Note,
    Statement,
    Store,
    StoreInput,
    WadInput,
)


@dataclass(frozen=True)
class Rewriting:
    """What becomes of the parts of statements.

    Attributes:
        leaf: Of constants and variables, in the order in which they stand.
        buffers: Names of buffers that change.
        copy: Of a copy whose parts are rewritten already; None: it goes.
    """

    leaf: Callable[[Expr], Expr]
    buffers: Mapping[str, str] = field(default_factory=dict)
    copy: Callable[[CopySegment], CopySegment | None] = lambda copy: copy

    def body(self, body: Iterable[Statement]) -> tuple[Statement, ...]:
        """Return statements rewritten."""
        return tuple(new for statement in body if (new := self._statement(statement)) is not None)

    def buffer(self, name: str) -> str:
        """Return what a buffer is called."""
        return self.buffers.get(name, name)

    def _statement(self, statement: Statement) -> Statement | None:
        match statement:
            case Let(name, value):
                return Let(name, self.expr(value))
            case Assign(name, value):
                return Assign(name, self.expr(value))
            case Store(buffer, index, value):
                return Store(self.buffer(buffer), self.expr(index), self.expr(value))
            case StoreInput(offset, width, value):
                return StoreInput(self.expr(offset), width, self.expr(value))
            case CopySegment(_, offset, _, buffer):
                return self.copy(replace(statement, offset=self.expr(offset), buffer=self.buffer(buffer)))
            case For((first, *rest), count, body):  # the first starts at a constant for good
                starts = (first, *(replace(i, start=self.expr(i.start)) for i in rest))
                placed = (i if i.into is None else replace(i, into=self.buffer(i.into)) for i in starts)
                return For(tuple(placed), count, self.body(body))
            case For(_, count, body):
                return For((), count, self.body(body))
            case If():
                return replace(
                    statement,
                    condition=self.expr(statement.condition),
                    body=self.body(statement.body),
                    otherwise=self.body(statement.otherwise),
                )
            case Block(body):
                return Block(self.body(body))
            case Fail(error, args):
                return Fail(error, tuple(map(self.expr, args)))
            case Call(_, words, takes, gives):
                return replace(
                    statement,
                    words=tuple(map(self.expr, words)),
                    takes=tuple(map(self.buffer, takes)),
                    gives=tuple(map(self.buffer, gives)),
                )
            case Note():
                return statement

    def expr(self, expr: Expr) -> Expr:
        """Return an expression rewritten."""
        match expr:
            case Load(buffer, index):
                return Load(self.buffer(buffer), self.expr(index))
            case LoadInput(offset):
                return LoadInput(self.expr(offset))
            case WadInput(index):
                return WadInput(self.expr(index))
            case Apply(op, args):
                return Apply(op, tuple(map(self.expr, args)))
        return self.leaf(expr)
