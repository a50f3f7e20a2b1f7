"""What each section takes and gives: Vyper's functions share no memory, so buffers are arguments and results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ml2sc.ir.program import (
    CopySegment,
    Load,
    LoadInput,
    Program,
    Section,
    Statement,
    Store,
    bodies,
    expressions,
    subexpressions,
    used_buffers,
    walk,
)


@dataclass(frozen=True, slots=True)
class Signature:
    """A section seen as a function.

    Attributes:
        packed: Whether it reads the packed input.
        takes: Buffers that earlier sections have written.
        gives: Buffers it writes that are used after it.
        own: Buffers nobody else uses.
    """

    packed: bool
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    own: tuple[str, ...]


def signatures(program: Program) -> dict[str, Signature]:
    """Return the signature of every layer and of `dequantize`, by name."""
    sections = [*program.layers, program.dequantize]
    uses = [used_buffers(s) for s in sections]
    writes = [written_buffers(s) for s in sections]
    found = {}
    for i, section in enumerate(sections):
        before = {name for w in writes[:i] for name in w}
        after = {name for u in uses[i + 1 :] for name in u} | {"wad", "label"}
        takes = tuple(name for name in uses[i] if name in before)
        gives = tuple(name for name in writes[i] if name in after)
        own = tuple(name for name in uses[i] if name not in takes and name not in gives)
        found[section.name] = Signature(reads_input(section), takes, gives, own)
    return found


def written_buffers(section: Section) -> list[str]:
    """Return the names of all buffers a section writes, in order of appearance."""
    return list(dict.fromkeys(s.buffer for s in walk(section.body) if isinstance(s, Store | CopySegment)))


def reads_input(section: Section) -> bool:
    """Return whether a section reads the packed input."""
    return any(
        isinstance(part, LoadInput) for s in walk(section.body) for e in expressions(s) for part in subexpressions(e)
    )


def declared_by_copy(body: Iterable[Statement], buffer: str, size: int) -> bool:
    """Return whether a buffer is only used where a copy that fills it, in the same block or around it, precedes."""
    return _covered(body, buffer, size, visible=False)


def _covered(body: Iterable[Statement], buffer: str, size: int, *, visible: bool) -> bool:
    for statement in body:
        loads = (p for e in expressions(statement) for p in subexpressions(e) if isinstance(p, Load))
        used = any(load.buffer == buffer for load in loads) or (
            isinstance(statement, Store) and statement.buffer == buffer
        )
        if isinstance(statement, CopySegment) and statement.buffer == buffer:
            visible = visible or statement.words == size
            used = True
        if used and not visible:
            return False
        if not all(_covered(inner, buffer, size, visible=visible) for inner in bodies(statement)):
            return False
    return True
