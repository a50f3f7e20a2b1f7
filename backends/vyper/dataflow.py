"""What each section takes and gives: Vyper's functions share no memory, so buffers are arguments and results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ml2sc.ir.procedures import Flow
from ml2sc.ir.program import (
    CopySegment,
    Load,
    LoadInput,
    Procedure,
    Program,
    Section,
    Statement,
    Store,
    bodies,
    calls_of,
    expressions,
    subexpressions,
    used_buffers,
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


def signatures(program: Program, part: Procedure | None = None) -> dict[str, Signature]:
    """Return the signature of every layer, of `dequantize` and of every procedure, by name.

    Args:
        program: What is in one contract.
        part: Which code contract that is; None: the contract itself.
    """
    flow = Flow(program) if part is None else Flow(program, part.takes, part.gives)
    found = {}
    for i, section in enumerate([*program.layers, program.dequantize]):
        takes, gives = flow.passed(i, i + 1)
        own = tuple(name for name in flow.uses[i] if name not in takes and name not in gives)
        found[section.name] = Signature(reads_input(program, section), takes, gives, own)
    for routine in program.routines():
        if (procedure := program.procedures.get(routine.name)) is not None:
            passed = {*procedure.takes, *procedure.gives}
            own = tuple(name for name in used_buffers(routine) if name not in passed)
            found[routine.name] = Signature(reads_input(program, routine), procedure.takes, procedure.gives, own)
    return found


def reads_input(program: Program, section: Section) -> bool:
    """Return whether a section, or what it calls, reads the packed input."""
    return any(program.procedures[call.procedure].packed for call in calls_of(section.body)) or any(
        isinstance(part, LoadInput)
        for s in program.touched(section)
        for e in expressions(s)
        for part in subexpressions(e)
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
