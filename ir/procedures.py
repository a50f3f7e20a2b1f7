"""Programs with procedures: what their calls stand for, and what procedures and calls must keep to.

And what passes from one section to the next, which is what a procedure, a function or a code contract takes and gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from ml2sc.errors import VerifyError

from .program import (
    LABEL,
    OUTPUTS,
    Block,
    Call,
    CopySegment,
    Expr,
    Note,
    Program,
    Section,
    Statement,
    Storage,
    Store,
    Var,
    calls_of,
    used_buffers,
    walk,
)
from .rewrite import Rewriting


def expanded(program: Program) -> Program:
    """Return a program that does the same without procedures."""
    if not program.procedures:
        return program
    return replace(
        program,
        quantize=_expanded(program, program.quantize),
        layers=tuple(_expanded(program, section) for section in program.layers),
        dequantize=_expanded(program, program.dequantize),
        procedures={},
    )


def _expanded(program: Program, section: Section) -> Section:
    if not calls_of(section.body):
        return section
    body = (Block(_called(program, s)) if isinstance(s, Call) else s for s in section.body)
    return replace(section, body=tuple(body))


def _called(program: Program, call: Call) -> tuple[Statement, ...]:
    """Return what a call does: its procedure's statements, with its arguments and buffers."""
    procedure = program.procedures[call.procedure]
    words = dict(zip(procedure.words, call.words, strict=True))
    buffers = dict(zip((*procedure.takes, *procedure.gives), (*call.takes, *call.gives), strict=True))

    def leaf(expr: Expr) -> Expr:
        return words.get(expr.name, expr) if isinstance(expr, Var) else expr

    return Rewriting(leaf, buffers).body(procedure.body)


def check_procedures(program: Program) -> None:
    """Check that calls are what their procedures ask for, and that nobody else uses a procedure's buffers.

    Raises:
        VerifyError: one of them is not.
    """
    owners: dict[str, str] = {}
    for procedure in program.procedures.values():
        if calls_of(walk(procedure.body)):
            raise VerifyError(f"procedure {procedure.name} calls another")
        if len({*procedure.words}) < len(procedure.words):
            raise VerifyError(f"procedure {procedure.name} has two parameters of one name")
    for routine in program.routines():
        for name in used_buffers(routine):
            owner = owners.setdefault(name, routine.name if routine.name in program.procedures else "")
            if owner != (routine.name if routine.name in program.procedures else ""):
                raise VerifyError(f"buffer {name} is of procedure {owner or routine.name} and used elsewhere")
    for section in program.sections():
        calls = calls_of(section.body)
        if len(calls_of(walk(section.body))) > len(calls):
            raise VerifyError(f"section {section.name} calls a procedure in a branch or loop")
        if calls and not all(_stands_beside(program, s) for s in section.body):
            raise VerifyError(f"section {section.name} calls a procedure beside other statements")
        for call in calls:
            _check_call(program, section, call)


def written_by(section: Section) -> list[str]:
    """Return the names of the buffers that a section writes or has written, in order of appearance."""
    names: dict[str, None] = {}
    for statement in walk(section.body):
        if isinstance(statement, Store | CopySegment):
            names[statement.buffer] = None
        if isinstance(statement, Call):
            names |= dict.fromkeys(statement.gives)
    return list(names)


class Passed(NamedTuple):
    """What a run of sections needs to be given and what is needed of it.

    Attributes:
        takes: Buffers that it uses and earlier sections write, in order of appearance.
        gives: Buffers that it writes and later sections use, or the caller, likewise.
    """

    takes: tuple[str, ...]
    gives: tuple[str, ...]


class Flow:
    """Knows the buffers that pass from section to section: each is looked at once.

    Args:
        program: The program.
        taken: Buffers that were written before.
        given: Buffers that are used afterwards, besides the answers.
    """

    def __init__(self, program: Program, taken: Iterable[str] = (), given: Iterable[str] = ()) -> None:
        sections = [*program.layers, program.dequantize]
        self.uses = [used_buffers(section) for section in sections]
        self._writes = [frozenset(written_by(section)) for section in sections]
        # by buffer: the first section that writes it, the last that reads or writes it
        self._first, self._last = dict.fromkeys(taken, -1), dict[str, int]()
        for number, (uses, writes) in enumerate(zip(self.uses, self._writes, strict=True)):
            self._last |= dict.fromkeys(uses, number)
            for name in writes:
                self._first.setdefault(name, number)
        self._last |= dict.fromkeys((OUTPUTS, LABEL, *given), len(sections))

    def passed(self, first: int, end: int) -> Passed:
        """Return what a run from one section up to another takes and gives."""
        used = dict.fromkeys(name for uses in self.uses[first:end] for name in uses)
        written = frozenset[str]().union(*self._writes[first:end])
        takes = tuple(name for name in used if self._first.get(name, end) < first)
        return Passed(takes, tuple(name for name in used if name in written and self._last[name] >= end))


def _stands_beside(program: Program, statement: Statement) -> bool:
    if isinstance(statement, CopySegment):
        segment = program.segments.get(statement.segment)
        return segment is not None and segment.storage is Storage.CODE
    return isinstance(statement, Note | Call)


def _check_call(program: Program, section: Section, call: Call) -> None:
    procedure = program.procedures.get(call.procedure)
    if procedure is None:
        raise VerifyError(f"section {section.name}: there is no procedure {call.procedure}")
    for given, wanted, what in (
        (call.words, procedure.words, "arguments"),
        (call.takes, procedure.takes, "buffers to take"),
        (call.gives, procedure.gives, "buffers to give"),
    ):
        if len(given) != len(wanted):
            raise VerifyError(f"section {section.name}: {call.procedure} has {len(wanted)} {what}, not {len(given)}")
    for own, actual in zip((*procedure.takes, *procedure.gives), (*call.takes, *call.gives), strict=True):
        for name in (own, actual):
            if name not in program.buffers:
                raise VerifyError(f"section {section.name}: there is no buffer {name}")
        if program.buffers[own] != program.buffers[actual]:
            raise VerifyError(f"section {section.name}: {actual} has another length than {own} of {call.procedure}")
    if len({*call.gives}) < len(call.gives):
        raise VerifyError(f"section {section.name}: a buffer is given twice")
