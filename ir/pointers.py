"""Loop variables that are used for nothing but the addresses of one region: a target may make each an address in it.

An access then costs no index arithmetic. Which they are is said in the Program (`Induction.into`) by a pass of the
targets that do so; starts, steps and indices stay numbers of elements. A copy of such a variable is one, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import is_

from ml2sc.errors import VerifyError

from .divide import INPUT
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
    LoadInput,
    OpCode,
    Program,
    Statement,
    Store,
    StoreInput,
    Var,
    WadInput,
    expressions,
    variables,
    walk,
)
from .program_printer import statement_text
from .remembered import remembered

WADS = "wads"
"""The region that is the argument of `predict`. Others are buffers, by their names, and INPUT."""


class Pointers(dict[str, str]):
    """What a section's variables point into, as it is walked: what declares a name says what it is from there on."""

    def declare(self, statement: Statement) -> None:
        """Note what a statement declares."""
        match statement:
            case For(inductions):
                for induction in inductions:
                    self._note(induction.name, induction.into)
            case Let(name, value):
                self._note(name, self.get(value.name) if isinstance(value, Var) else None)

    def _note(self, name: str, into: str | None) -> None:
        if into is None:
            self.pop(name, None)
        else:
            self[name] = into


def pointed_program(program: Program) -> Program:
    """Return a program that says of its loops' variables what they point into."""
    return program.with_bodies(_pointed_section)


def check_pointers(program: Program) -> None:
    """Check that a variable which points into a region is used for nothing but its addresses.

    Raises:
        VerifyError: one is used otherwise.
    """
    for section in program.routines():
        pointers = Pointers()
        for statement in walk(section.body):
            for expr, region in _indices(statement):
                for name, into in _uses(expr, region, pointers):
                    if into != pointers[name]:
                        reason = f"{name} points into {pointers[name]}, and is used otherwise"
                        raise VerifyError(f"section {section.name}: {statement_text(statement)}: {reason}")
            pointers.declare(statement)


def affine(index: Expr) -> tuple[Expr | None, int]:
    """Return the varying and the constant part of an index."""
    match index:
        case Const(value):
            return None, value
        case Apply(OpCode.ADD, (variable, Const(value))):
            return variable, value
    return index, 0


def _pointed(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Return statements that say so; what has no loops comes out as it is, with all that is noted there."""
    found = tuple(map(_statement, body))
    return body if all(map(is_, found, body)) else found


_pointed_section = remembered(_pointed)


def _statement(statement: Statement) -> Statement:
    match statement:
        case For(inductions, count, body):
            inner = _pointed(body)
            into = _regions([i.name for i in inductions], inner)
            return For(tuple(replace(i, into=into[i.name]) for i in inductions), count, inner)
        case If():
            ways = _pointed(statement.body), _pointed(statement.otherwise)
            if ways[0] is not statement.body or ways[1] is not statement.otherwise:
                return replace(statement, body=ways[0], otherwise=ways[1])
        case Block(body) if (inner := _pointed(body)) is not body:
            return Block(inner)
    return statement


def _regions(names: Sequence[str], body: Iterable[Statement]) -> dict[str, str | None]:
    """Return what each of a loop's variables points into: the one region that all its uses and its copies' address."""
    origins = {name: name for name in names}
    found: dict[str, set[str | None]] = {name: set() for name in names}
    for statement in walk(body):
        for expr, region in _indices(statement):
            for name, into in _uses(expr, region, origins):
                found[origins[name]].add(into)
        match statement:
            case Let(name, Var(other)) if other in origins:
                origins[name] = origins[other]
            case Let(name):
                origins.pop(name, None)
            case For(inductions):
                for induction in inductions:
                    origins.pop(induction.name, None)
    return {name: regions.pop() if len(regions) == 1 else None for name, regions in found.items()}


def _indices(statement: Statement) -> Iterator[tuple[Expr, str | None]]:
    """Yield the expressions of a statement, but for copies of variables, and the region of those that are indices."""
    match statement:
        case Let(_, Var()):
            return
        case Assign(name, value):
            yield from ((Var(name), None), (value, None))
        case Store(buffer, index, value):
            yield from ((index, buffer), (value, None))
        case StoreInput(offset, _, value):
            yield from ((offset, INPUT), (value, None))
        case For(inductions):
            yield from ((i.start, i.into) for i in inductions)
        case _:
            yield from ((expr, None) for expr in expressions(statement))


def _uses(expr: Expr, region: str | None, names: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each use of some variables, and the region of which it is an address, None if it is none.

    Args:
        expr: Where they are used.
        region: Of which the expression itself is an index.
        names: The variables.
    """
    if not any(name in names for name in variables(expr)):
        return
    parts: list[tuple[Expr, str | None]] = [(expr, region)]
    while parts:
        part, region = parts.pop()
        varying, _ = affine(part)
        match part if region is None or varying is None else varying:
            case Var(name):
                if name in names:
                    yield name, region
            case Load(buffer, index):
                parts.append((index, buffer))
            case LoadInput(offset):
                parts.append((offset, INPUT))
            case WadInput(index):
                parts.append((index, WADS))
            case Apply(_, args):
                parts += [(arg, None) for arg in args]
