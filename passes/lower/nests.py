"""Loop nests over elements that lie anywhere: positions are taken apart into loops within loops.

A feature map that is transposed, sliced, padded or broadcast is still a few loops: neighbouring runs of the same shape
become one loop over runs, those one over them, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.program import Block, Const, Expr, For, Induction, Let, Statement, Store, Var, add, const
from ml2sc.ir.types import Array

from .values import Laned, Packed, Value, runs

_DEEPEST = 5
"""Loops within each other."""
_MANY_RUNS = 8
"""Runs of neighbouring elements from which on they are loops within loops."""

_MANY_WRITTEN = 48
"""Elements that are written out, at most, where they might be in loops."""

Body = Callable[[list[Expr]], tuple[list[Statement], Expr]]


@dataclass(frozen=True, slots=True)
class Nest:
    """Positions start + Σ index · step, in several columns, for all indices of its loops.

    Attributes:
        start: By column.
        counts: Rounds of each loop, outermost first; none is 1.
        steps: By loop, by column.
        first: The number of its first row.
    """

    start: tuple[int, ...]
    counts: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    first: int


def scattered(operands: Sequence[Value], shortest: int = 1) -> bool:
    """Return whether equally long values lie so that loops within loops do what many loops would, or much code.

    Args:
        operands: The values.
        shortest: Elements of a run that is a loop; those of shorter ones are written out.
    """
    size = operands[0].size if operands else 0
    loops = written = 0
    for run in runs(operands, size):
        if run.count >= shortest:
            loops += 1
        else:
            written += run.count
        if loops > _MANY_RUNS or written > _MANY_WRITTEN:
            return True
    return False


def nests_of(columns: Array, kinds: Array) -> list[Nest]:
    """Take rows of positions apart into nests, greedily from the left.

    Where many are left that are by turns of a few shapes, as rows of which the last word is not full, those of a shape
    are put together: no row depends on another.

    Args:
        columns: int64 (rows, columns).
        kinds: int64 (rows): rows of different kinds are in different nests.
    """

    def row(first: int) -> Nest:
        return Nest(tuple(columns[first].tolist()), (), (), first)

    item: Callable[[int], Nest] = row
    starts, shapes = columns, kinds
    for _ in range(_DEEPEST):
        merged = _runs(starts, shapes, item)
        if len(merged) == len(starts) > _MANY_RUNS:
            order = np.argsort(shapes, kind="stable")
            merged = _runs(starts[order], shapes[order], _one_of([item(i) for i in order.tolist()]))
        if len(merged) == len(starts):
            break
        known: dict[tuple[object, ...], int] = {}
        keys = [(n.counts, n.steps, int(kinds[n.first])) for n in merged]
        shapes, item = np.array([known.setdefault(key, len(known)) for key in keys]), _one_of(merged)
        starts = np.array([nest.start for nest in merged], dtype=np.int64)
    return [item(number) for number in range(len(starts))]


def _one_of(nests: Sequence[Nest]) -> Callable[[int], Nest]:
    return lambda number: nests[number]


def _runs(starts: Array, shapes: Array, item: Callable[[int], Nest]) -> list[Nest]:
    """Merge neighbouring nests of one shape whose starts are arithmetic progressions.

    Args:
        starts: int64 (nests, columns).
        shapes: By nest.
        item: Returns the nest of a number: only those that begin a run are asked for.
    """
    steps = np.diff(starts, axis=0)
    together = shapes[1:] == shapes[:-1]
    ends = [len(starts) - 1]
    if len(starts) > 2:  # and where the step to the next nest is not that from the last one
        turns = (steps[1:] != steps[:-1]).any(axis=1) | ~together[1:]
        ends = [*(np.flatnonzero(turns) + 1).tolist(), *ends]
    merged, first, turn = list[Nest](), 0, 0
    while first < len(starts):
        while turn < len(ends) and ends[turn] <= first:
            turn += 1
        last = ends[turn] if turn < len(ends) and first + 1 < len(starts) and together[first] else first
        nest = item(first)
        if last > first:
            step = tuple(steps[first].tolist())
            nest = Nest(nest.start, (last - first + 1, *nest.counts), (step, *nest.steps), nest.first)
        merged.append(nest)
        first = last + 1
    return merged


def emit_nests(operands: Sequence[Value], places: Array, result: str, compute: Body) -> list[Statement]:
    """Return statements that store compute(operands…) of each element at its place in buffer `result`.

    Args:
        operands: Equally long values without laned sources.
        places: int64, the word of the buffer for each element.
        result: The buffer.
        compute: As for `Lowering.emit_map`.
    """
    columns = np.stack([places, *(_positions(value) for value in operands)], axis=1).astype(np.int64)
    kinds = np.zeros(len(places), dtype=np.int64)
    for value in operands:
        kinds = kinds * len(value.sources) + value.which
    body: list[Statement] = []
    for nest in nests_of(columns, kinds):
        sources = [value.sources[value.which[nest.first]] for value in operands]

        def innermost(at: Sequence[Expr], sources: Sequence[object] = sources) -> list[Statement]:
            reads = [_read(source, position) for source, position in zip(sources, at[1:], strict=True)]
            lets: list[Statement] = [Let(f"x{k}", read) for k, read in enumerate(reads)]
            statements, value = compute([Var(f"x{k}") for k in range(len(reads))])
            return [*lets, *statements, Store(result, at[0], value)]

        body.append(emit_nest(nest, innermost))
    return body


def emit_nest(nest: Nest, innermost: Callable[[Sequence[Expr]], list[Statement]]) -> Statement:
    """Return the loops of a nest around what `innermost` makes of each column's position."""
    at: list[Expr] = [const(v) for v in nest.start]
    headers: list[tuple[tuple[Induction, ...], int]] = []
    for depth, (count, steps) in enumerate(zip(nest.counts, nest.steps, strict=True)):
        inductions = []
        for column, step in enumerate(steps):
            if step:
                name = f"p{depth}_{column}"
                inductions.append(Induction(name, at[column], step))
                at[column] = Var(name)
        inductions.sort(key=lambda i: not _counts(i))
        if not inductions or not _counts(inductions[0]):
            inductions.insert(0, Induction(f"n{depth}", const(0), 1))
        headers.append((tuple(inductions), count))
    statements: Statement = Block(tuple(innermost(at)))
    for inductions_, count in reversed(headers):
        statements = For(inductions_, count, statements.body if isinstance(statements, Block) else (statements,))
    return statements


def _counts(induction: Induction) -> bool:
    """Return whether a loop can go by an induction, its first one: it rises from a constant."""
    return isinstance(induction.start, Const) and induction.step > 0


def over(
    loops: Sequence[tuple[str, int, dict[str, int]]],
    starts: dict[str, Expr],
    body: Callable[[dict[str, Expr]], list[Statement]],
) -> list[Statement]:
    """Return loops within each other, outermost first, around what `body` makes of the positions in them.

    Args:
        loops: Of each its name, its rounds and by how much each position moves in a round.
        starts: The positions before the first round.
        body: Is given the positions' expressions.
    """
    if not loops:
        return body(starts)
    (name, count, steps), *inner = loops
    if count == 1:
        return over(inner, starts, body)
    at, inductions = dict(starts), []
    for position, step in steps.items():
        if step:
            inductions.append(Induction(f"{position}_{name}", starts[position], step))
            at[position] = Var(f"{position}_{name}")
    inductions.sort(key=lambda i: not isinstance(i.start, Const))  # the first starts at a constant
    if not inductions or not isinstance(inductions[0].start, Const):
        inductions.insert(0, Induction(name, const(0), 1))
    return [For(tuple(inductions), count, tuple(over(inner, at, body)))]


def places(loops: Sequence[tuple[str, int, dict[str, int]]], starts: dict[str, Expr]) -> list[dict[str, Expr]]:
    """Return the positions in every round of loops within each other, in order: what `over` goes through."""
    found = [starts]
    for _, count, steps in loops:
        found = [
            {name: add(at, const(n * steps.get(name, 0))) for name, at in place.items()}
            for place in found
            for n in range(count)
        ]
    return found


def _positions(value: Value) -> Array:
    """Return where each element is, in what its source counts: bytes of the packed input, or words."""
    positions = value.where.astype(np.int64)
    for number, source in enumerate(value.sources):
        if isinstance(source, Packed):
            here = value.which == number
            positions = np.where(here, source.start + positions * source.width, positions)
    return positions


def _read(source: object, position: Expr) -> Expr:
    assert not isinstance(source, Laned)
    return source.read_at(position) if isinstance(source, Packed) else source.read(position)  # type: ignore[attr-defined]


def moved(at: Expr, offset: int) -> Expr:
    """Return a position that far on."""
    return add(at, const(offset))
