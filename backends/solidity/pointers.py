"""What loop variables point into: one that only addresses one buffer is an address in it, for printer and prices."""

from __future__ import annotations

from dataclasses import dataclass

from ml2sc.ir.divide import INPUT
from ml2sc.ir.program import (
    Apply,
    Const,
    Expr,
    For,
    Let,
    Load,
    LoadInput,
    OpCode,
    Statement,
    Store,
    StoreInput,
    Var,
    WadInput,
    and_,
    expressions,
    shl,
    shr,
    variables,
    walk,
)

WAD = "wads"
"""The region that is the argument of `predict`."""
_WORD_BYTES = 32


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a loop variable points into.

    Attributes:
        region: A buffer's name, INPUT, or "wads" (the argument of `predict`).
        scale: Bytes of a step of one.
    """

    region: str
    scale: int


def scaled(index: Expr, scale: int) -> Expr:
    """Return a number of elements in bytes; bits that are taken out of a word are taken from where they are scaled."""
    up = scale.bit_length() - 1
    match index:
        case Apply(OpCode.AND, (inner, Const(mask))) if 1 < scale < _WORD_BYTES:
            match inner:
                case Apply(OpCode.SHR, (Const(down), word)):
                    moved = shr(down - up, word) if down >= up else shl(up - down, word)
                case _:
                    moved = shl(up, inner)
            return and_(moved, Const(mask << up))
    return shl(up, index)


def affine(index: Expr) -> tuple[Expr | None, int]:
    """Return the varying and the constant part of an index."""
    match index:
        case Const(value):
            return None, value
        case Apply(OpCode.ADD, (variable, Const(value))):
            return variable, value
    return index, 0


def pointer_of(name: str, body: tuple[Statement, ...]) -> Pointer | None:
    """Return what a loop variable points into if all its uses address one region, else None."""
    found: set[Pointer | None] = set()
    for statement in walk(body):
        match statement:
            case Let(alias, Var(other)) if other == name:  # a copy points where its own uses say
                found.add(pointer_of(alias, body))
                continue
            case Store(buffer, index):
                found |= _uses(name, index, Pointer(buffer, 32))
            case StoreInput(offset):
                found |= _uses(name, offset, Pointer(INPUT, 1))
        for expression in expressions(statement):
            if name not in variables(expression):
                continue
            if isinstance(statement, Store) and expression is statement.index:
                continue
            if isinstance(statement, StoreInput) and expression is statement.offset:
                continue
            if isinstance(statement, For) and any(expression is i.start for i in statement.inductions):
                inner = next(i for i in statement.inductions if expression is i.start)
                found |= _uses(name, expression, pointer_of(inner.name, statement.body))
                continue
            found |= _reads(name, expression)
    return found.pop() if len(found) == 1 else None


def _uses(name: str, index: Expr, pointer: Pointer | None) -> set[Pointer | None]:
    variable, _ = affine(index)
    if variable == Var(name):
        return {pointer}
    return set() if variable is None else _reads(name, variable)


def _reads(name: str, expr: Expr) -> set[Pointer | None]:
    found: set[Pointer | None] = set()
    parts = [expr]
    while parts:
        match parts.pop():
            case Var(other):
                found |= {None} if other == name else set()
            case Load(buffer, index):
                found |= _uses(name, index, Pointer(buffer, 32))
            case LoadInput(offset):
                found |= _uses(name, offset, Pointer(INPUT, 1))
            case WadInput(index):
                found |= _uses(name, index, Pointer(WAD, 32))
            case Apply(_, args):
                parts += args
    return found
