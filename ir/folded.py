"""Computes what is known beforehand: constants in expressions, variables that stand still, and loops of one round.

Loops of one round become their body. A Program keeps such loops, as they are made like longer ones; a compiler that
checks each subscript that is not constant would make them dear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import is_

from .program import (
    Apply,
    Assign,
    Block,
    Const,
    Expr,
    For,
    Induction,
    Let,
    Load,
    LoadInput,
    OpCode,
    Program,
    Statement,
    Var,
    WadInput,
    add,
    const,
    mul,
    reads_memory,
    shl,
    sub,
    variables,
    walk,
)
from .remembered import remembered
from .rewrite import Rewriting


def folded_program(program: Program) -> Program:
    """Return a program that does the same, without loops of less than two rounds and what is known beforehand."""
    return program.with_bodies(_folded_section)


@dataclass(frozen=True)
class _Folding(Rewriting):
    """The rewriting of a block.

    Attributes:
        values: What stands for variables.
    """

    values: Mapping[str, Expr] = field(default_factory=dict)

    def expr(self, expr: Expr) -> Expr:
        if not self.values or self.values.keys().isdisjoint(variables(expr)):
            return _computed(expr)
        return _rebuilt(expr, self.expr, self.values)

    def _statement(self, statement: Statement) -> Statement | None:
        match statement:
            case For(_, 0):
                return None
            case For(inductions, 1, body):
                return self._once(inductions, body)
            case For(inductions, count, body):
                starts = [replace(i, start=self.expr(i.start)) for i in inductions]
                # the first is what the loop counts by
                known = {i.name: i.start for i in starts[1:] if not i.step and isinstance(i.start, Const)}
                moving = tuple(i for i in starts if i.name not in known)
                return For(moving, count, replace(self, values={**self.values, **known}).body(body))
        return super()._statement(statement)

    def _once(self, inductions: Sequence[Induction], body: Sequence[Statement]) -> Block:
        """Return the body of a loop of one round, its variables replaced by what they start with, where that stays."""
        changed = {s.name for s in walk(body) if isinstance(s, Assign)}
        lets, values = list[Statement](), dict(self.values)
        for induction in inductions:
            start = self.expr(induction.start)
            if reads_memory(start) or not changed.isdisjoint(variables(start)):
                lets.append(Let(induction.name, start))
            else:
                values[induction.name] = start
        return Block((*lets, *replace(self, values=values).body(body)))


@remembered
def _folded_section(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return _Folding(lambda leaf: leaf).body(body)


def _folded(op: OpCode, args: tuple[Expr, ...]) -> Expr:
    """Return an operation, done at once where its operands are known."""
    match op, args:
        case OpCode.ADD, (a, b):
            return add(a, b)
        case OpCode.SUB, (a, b):
            return sub(a, b)
        case OpCode.MUL, (a, b):
            return mul(a, b)
        case OpCode.SHL, (Const(bits), a):
            return shl(bits, a)
        case OpCode.DIV, (Const(a), Const(b)) if b:
            return const(a // b)
    return Apply(op, args)


@lru_cache(maxsize=1 << 14)
def _computed(expr: Expr) -> Expr:
    """Return an expression with constants computed: sections of one program after the other have much in common."""
    return _rebuilt(expr, _computed, {})


def _rebuilt(expr: Expr, inner: Callable[[Expr], Expr], values: Mapping[str, Expr]) -> Expr:
    """Return an expression made of other parts.

    Args:
        expr: The expression.
        inner: Makes its parts.
        values: What stands for variables.
    """
    match expr:
        case Var(name):
            return values.get(name, expr)
        case Load(buffer, index):
            new = inner(index)
            return expr if new is index else Load(buffer, new)
        case LoadInput(offset):
            new = inner(offset)
            return expr if new is offset else LoadInput(new)
        case WadInput(index):
            new = inner(index)
            return expr if new is index else WadInput(new)
        case Apply(OpCode.ADD):
            sums = list[Apply]()
            total: Expr = expr
            while isinstance(total, Apply) and total.op is OpCode.ADD:
                sums.append(total)
                total = total.args[1]
            total = inner(total)
            for old in reversed(sums):
                total = _same(old, add(inner(old.args[0]), total))
            return total
        case Apply(op, args):
            return _same(expr, _folded(op, tuple(map(inner, args))))
    return expr


def _same(old: Apply, new: Expr) -> Expr:
    """Return an operation as it was, with all that is noted there, where nothing of it is another."""
    alike = isinstance(new, Apply) and new.op is old.op and all(map(is_, new.args, old.args))
    return old if alike else new
