"""Programs whose code does not fit one contract: runs of sections, and procedures, in code contracts of their own.

A code contract is called with the words that its sections read, and answers with those that later ones read. It has no
state and asks nobody: the packed input and the data contracts' addresses come with the call, where they are needed. A
procedure's is called for each of its calls, with the call's arguments, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from .forks import memory_gas
from .procedures import Flow, Passed
from .program import (
    Call,
    CopySegment,
    Fail,
    LoadInput,
    Procedure,
    Program,
    Section,
    Storage,
    calls_of,
    expressions,
    subexpressions,
    used_buffers,
)


@dataclass(frozen=True)
class Part:
    """A code contract.

    Attributes:
        procedure: What it is for its caller: what it takes and gives; its words are variables of the only section.
        program: Its sections, as a program that quantises nothing; its segments and places are those of the whole.
    """

    procedure: Procedure
    program: Program


INPUT = "input"
"""The packed input, with a word of zeros after it, where it is passed like a buffer."""
ADDRESSES = "weights table"
"""The data contracts' addresses, likewise."""


def passed(program: Program, procedure: Procedure) -> list[tuple[str, int]]:
    """Return what a code contract is called with before its arguments, with words: ADDRESSES, INPUT, buffers."""
    found = [(ADDRESSES, program.data_contract_count)] if procedure.weights else []
    found += [(INPUT, -(-program.input.length // 32) + 1)] if procedure.packed else []
    return found + [(name, program.buffers[name]) for name in procedure.takes]


@dataclass(frozen=True)
class Divided:
    """A program in several contracts.

    Attributes:
        main: The contract itself; each run of sections that is elsewhere is one section that calls a procedure there.
        parts: The code contracts, in order: those of procedures first.
    """

    main: Program
    parts: tuple[Part, ...]


def divided(program: Program) -> Divided:
    """Divide a program as its sections say."""
    shared = [procedure for procedure in program.procedures.values() if procedure.contract]
    if not shared and not any(section.contract for section in program.layers):
        return Divided(program, ())
    layers: list[Section] = []
    parts = [_part(program, procedure, [_as_section(procedure)]) for procedure in shared]
    live = Flow(program)
    done = 0
    for number, group in groupby(program.layers, key=lambda section: section.contract):
        run = list(group)
        if number:
            procedure = _as_procedure(program, number, run, live.passed(done, done + len(run)))
            parts.append(_part(program, procedure, run))
            call = Call(procedure.name, (), procedure.takes, procedure.gives)
            layers.append(Section(procedure.name, procedure.title, (call,), run[0].predict, run[0].classify))
        else:
            layers += run
        done += len(run)
    procedures = _called(program, [*layers, program.dequantize]) | {p.procedure.name: p.procedure for p in parts}
    main = replace(program, layers=tuple(layers), procedures=procedures)
    return Divided(replace(main, buffers=_used(main)), tuple(parts))


def _as_section(procedure: Procedure) -> Section:
    return Section(procedure.name, procedure.title, procedure.body)


def _as_procedure(program: Program, number: int, run: Sequence[Section], passed: Passed) -> Procedure:
    names = {routine.name for routine in program.routines()}
    name = next(n for n in (f"code{'_' * extra}{number}" for extra in range(len(names) + 1)) if n not in names)
    title = f"Code contract {number}: {', '.join(section.name for section in run)}"
    return Procedure(name, title, (), *passed, (), number)


def _part(program: Program, procedure: Procedure, run: Sequence[Section]) -> Part:
    """Return a code contract.

    Args:
        program: The whole program.
        procedure: What it takes and gives.
        run: Its sections.
    """
    statements = [s for section in run for s in program.touched(section)]
    copied = {s.segment for s in statements if isinstance(s, CopySegment)}
    stub = replace(
        procedure,
        body=(),
        packed=any(isinstance(p, LoadInput) for s in statements for e in expressions(s) for p in subexpressions(e)),
        weights=any(program.segments[segment].storage is Storage.DATA for segment in copied),
        refuses=any(isinstance(s, Fail) for s in statements),
    )
    nothing = Section("", "", ())
    inner = replace(
        program,
        quantize=nothing,
        layers=tuple(replace(section, contract=0, predict=True, classify=False) for section in run),
        dequantize=nothing,
        has_decision=False,
        procedures=_called(program, run),
    )
    return Part(stub, replace(inner, buffers=_used(inner)))


def _called(program: Program, sections: Iterable[Section]) -> dict[str, Procedure]:
    names = {call.procedure for section in sections for call in calls_of(section.body)}
    return {name: procedure for name, procedure in program.procedures.items() if name in names}


def _used(program: Program) -> Mapping[str, int]:
    used = {name for routine in program.routines() for name in used_buffers(routine)}
    used |= {name for procedure in program.procedures.values() for name in (*procedure.takes, *procedure.gives)}
    return {name: words for name, words in program.buffers.items() if name in used}


# -- where to cut ----------------------------------------------------------------------------------------------------

CALL_GAS = 2_800
"""What a code contract takes in each inference, apart from its words: an account that is cold, and the call."""
WORD_GAS = 12
"""What a word takes that is passed to one, or back, besides memory in both: copies."""
_UNIT = 128
"""Bytes of code, in whose multiples what the contract itself holds is counted."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of code that there is room for.

    Attributes:
        main: In the contract itself, beside its frame.
        part: In each code contract, beside its own.
        stub: What calling a code contract takes of the contract itself.
    """

    main: int
    part: int
    stub: int


def apart(program: Program, names: Collection[str]) -> Program:
    """Return a program some of whose procedures are code contracts of their own."""
    numbers = {name: number for number, name in enumerate((p for p in program.procedures if p in names), 1)}
    procedures = {n: replace(p, contract=numbers.get(n, 0)) for n, p in program.procedures.items()}
    return replace(program, procedures=procedures)


def spread(program: Program, sizes: Mapping[str, int], room: Room) -> Program | None:
    """Return a program cut into as few contracts as can be, and of these at the fewest words; None if it cannot be cut.

    Args:
        program: One whose sections are all in the contract itself; its procedures may be elsewhere.
        sizes: Bytes of code of each section and procedure in it.
        room: What there is room for.
    """
    layers = program.layers
    shared = sum(sizes[name] for name, procedure in program.procedures.items() if not procedure.contract)
    free = (room.main - shared - sizes[program.quantize.name] - sizes[program.dequantize.name]) // _UNIT
    if free < 0:
        return None
    # by layers done and units of the contract itself that are left: the least gas, and the runs that are elsewhere
    best: list[dict[int, tuple[int, _Cuts]]] = [{} for _ in range(len(layers) + 1)]
    best[0][free] = 0, ()
    live = Flow(program)
    for first, section in enumerate(layers):
        runs = [(end, _words(program, live.passed(first, end))) for end in _ends(program, first, sizes, room.part)]
        own, stub = -(-sizes[section.name] // _UNIT), -(-room.stub // _UNIT)
        for left, (gas, cuts) in best[first].items():
            if left >= own:
                _keep(best[first + 1], left - own, gas, cuts)
            if left >= stub:
                for end, passed in runs:
                    _keep(best[end], left - stub, gas + _call_gas(passed), (*cuts, (first, end)))
    if not best[-1]:
        return None
    _, cuts = min(best[-1].values())
    taken = sum(procedure.contract > 0 for procedure in program.procedures.values())
    numbers = {i: number for number, (first, end) in enumerate(cuts, taken + 1) for i in range(first, end)}
    return replace(program, layers=tuple(replace(s, contract=numbers.get(i, 0)) for i, s in enumerate(layers)))


def _words(program: Program, passed: Passed) -> int:
    return sum(program.buffers[name] for names in passed for name in names)


def _call_gas(words: int) -> int:
    """Return what calling a code contract takes with so many words, there and back: in both they are in memory."""
    return CALL_GAS + WORD_GAS * words + 2 * memory_gas(words)


_Cuts = tuple[tuple[int, int], ...]


def _keep(found: dict[int, tuple[int, _Cuts]], left: int, gas: int, cuts: _Cuts) -> None:
    if left not in found or (gas, cuts) < found[left]:
        found[left] = gas, cuts


def _ends(program: Program, first: int, sizes: Mapping[str, int], room: int) -> Iterator[int]:
    """Yield where a run that starts with a section can end: it fits, and is needed as a whole or not at all."""
    size, called = 0, set[str]()
    start = program.layers[first]
    for end, section in enumerate(program.layers[first:], first + 1):
        new = {call.procedure for call in calls_of(section.body)} - called
        if any(program.procedures[name].contract for name in new):
            return  # a code contract asks nobody
        called |= new
        size += sizes[section.name] + sum(sizes[name] for name in new)
        if size > room or (section.predict, section.classify) != (start.predict, start.classify):
            return
        yield end
