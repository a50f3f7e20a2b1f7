"""How many values of a section live on the stack at once: what its reachable places cannot hold goes to memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate

from ml2sc.ir.gas import uses
from ml2sc.ir.program import (
    Assign,
    Block,
    Const,
    CopySegment,
    Expr,
    For,
    If,
    Let,
    Load,
    LoadInput,
    Program,
    Statement,
    Store,
    Var,
    WadInput,
    expressions,
    subexpressions,
    walk,
)

REACH = 16
"""Places on the stack that DUP and SWAP reach."""
HELD = 1
"""Of these, a section's return address."""
_MORE_SPILLS = 8


def spills(program: Program) -> int:
    """Estimate how many words of memory solc's own variables take: as if all in scope at once had no other place."""
    return _MORE_SPILLS + max(max(_visible(s.body), len(shared(s.body))) for s in program.sections())


def _visible(body: Iterable[Statement]) -> int:
    """Return how many variables, at most, are in scope at once."""
    declared = most = 0
    for statement in body:
        match statement:
            case Let():
                declared += 1
            case For(inductions, _, inner):
                most = max(most, declared + len(inductions) + _visible(inner))
            case If(_, inner) | Block(inner):
                most = max(most, declared + _visible(inner))
    return max(most, declared)


def shared(body: tuple[Statement, ...], *, gathered: bool = True) -> set[str]:
    """Return the variables that several sums of straight code use.

    Args:
        body: The code.
        gathered: Only sums that read no memory: solc gathers each where it is used, and its terms live on to there.
    """
    body = tuple(_straight(body))
    sums = [s for s in body if isinstance(s, Assign) and uses(s.value, s.name)]
    sums = [s for s in sums if not (gathered and reads_memory(s.value))]
    read = Counter(p.name for s in sums for p in subexpressions(s.value) if isinstance(p, Var) and p.name != s.name)
    return {s.name for s in body if isinstance(s, Let) and read[s.name] > 1} - {s.name for s in sums}


def crowded_out(body: tuple[Statement, ...]) -> set[str]:
    """Return the variables of sums that go to memory because their code takes too many words of memory apart."""
    codes = [body, *(s.body for s in walk(body) if isinstance(s, For))]
    return {name for code in codes if _reached(code) >= REACH for name in shared(code, gathered=False)}


def _reached(body: tuple[Statement, ...]) -> int:
    """Return how many values, at most, straight code has to reach at once; 0 if it takes no word of memory apart.

    Such a word is read once and kept, like a variable. What the code does not use may lie deeper.
    """
    spans: dict[tuple[Expr, int], tuple[int, int]] = {}
    declared: set[Expr] = set()
    writes = 0  # what memory holds may be another value after each
    for position, statement in enumerate(s for s in _straight(body) if not isinstance(s, For | If)):
        for part in _values(statement):
            key = part, writes if isinstance(part, Load) else 0
            spans[key] = spans.get(key, (position, position))[0], position
        if isinstance(statement, Let):
            declared.add(Var(statement.name))
        writes += isinstance(statement, Store | CopySegment)
    words = [span for (part, _), span in spans.items() if isinstance(part, Load) and span[0] < span[1]]
    if not words:
        return 0
    outside = sum(isinstance(part, Var) and part not in declared for part, _ in spans)
    changes = Counter[int]()
    for first, last in (*words, *(span for (part, _), span in spans.items() if part in declared)):
        changes[first] += 1
        changes[last] -= 1
    return outside + max(accumulate(number for _, number in sorted(changes.items())))


def _values(statement: Statement) -> Iterator[Expr]:
    """Iterate over the variables and the words of memory that a statement uses or gives a value."""
    if isinstance(statement, Let | Assign):
        yield Var(statement.name)
    yield from (p for e in expressions(statement) for p in subexpressions(e) if isinstance(p, Var | Load))


def reads_memory(expr: Expr) -> bool:
    """Return whether an expression depends on memory."""
    return any(isinstance(part, Load | LoadInput | WadInput) for part in subexpressions(expr))


def _straight(body: Iterable[Statement]) -> Iterator[Statement]:
    """Iterate over statements, those of blocks among them: solc sees no blocks."""
    for statement in body:
        if isinstance(statement, Block):
            yield from _straight(statement.body)
        else:
            yield statement


def _assigned(body: Iterable[Statement]) -> set[str]:
    return {s.name for s in walk(body) if isinstance(s, Assign)}


def peak(body: tuple[Statement, ...]) -> int:
    """Return how many variables of a body, at most, are live at once."""
    last: dict[str, int] = {}
    for position, statement in enumerate(body):
        inner = (statement, *walk(getattr(statement, "body", ())))
        for part in (p for s in inner for e in expressions(s) for p in subexpressions(e) if isinstance(p, Var)):
            last[part.name] = position
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
            case If(_, inner_body) | Block(inner_body):
                own = peak(inner_body)
        most = max(most, len(live) + own)
        live |= constant & _assigned(ending)
        constant -= live
        live = {name for name in live if last.get(name, -1) > position}
    return most
