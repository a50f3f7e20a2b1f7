"""The memory map of a contract: where each buffer lies, buffers that are never needed together sharing space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ml2sc.ir.program import (
    Call,
    CopySegment,
    Load,
    LoadInput,
    Program,
    Section,
    Store,
    StoreInput,
    expressions,
    subexpressions,
)
from ml2sc.ir.program_verify import check_places

from .stack import spills

INPUT = "input"
"""The packed input's place in the map."""
ADDRESSES = "weights table"
"""The data contracts' addresses' place in the map."""
_RESERVED = 0x80
"""Scratch space, free-memory pointer and zero slot; then come the variables that solc's stack has no room for."""
_WORD = 32


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Offsets from `_MEMORY`, a constant of the contract: addresses are known when it is compiled.

    Attributes:
        offsets: Byte offset of each buffer.
        sizes: Bytes of each buffer.
        start: Value of `_MEMORY`: what is below is the compiler's. An estimate, mended if solc takes more.
        total: Bytes of all.
    """

    offsets: Mapping[str, int]
    sizes: Mapping[str, int]
    start: int
    total: int


def address(offset: int) -> str:
    """Return the expression of an address; solc adds constants up."""
    return f"add(_MEMORY, {offset:#06x})" if offset else "_MEMORY"


def memory_map(program: Program) -> MemoryMap:
    """Place every buffer first-fit, largest lifetimes as they come; deterministic."""
    contracts = len(program.data_contracts())
    # a word past the input's end is kept zero: the last read may run over it
    sizes = {INPUT: -(-program.input.length // _WORD) * _WORD + _WORD}
    if contracts:
        sizes[ADDRESSES] = contracts * _WORD
    sizes |= {name: words * _WORD for name, words in program.buffers.items()}
    lives = _lifetimes(program)
    offsets: dict[str, int] = {}
    for name, size in sizes.items():
        if name not in lives:
            continue
        neighbours = sorted((offsets[o], offsets[o] + sizes[o]) for o in offsets if _overlap(lives[o], lives[name]))
        place = 0
        for start, end in neighbours:
            if place + size <= start:
                break
            place = max(place, end)
        offsets[name] = place
    check_places(program, {name: (offset, sizes[name]) for name, offset in offsets.items()})
    total = max(offsets[name] + sizes[name] for name in offsets)
    start = _RESERVED + _WORD * spills(program)
    return MemoryMap(offsets, {name: sizes[name] for name in offsets}, start, total)


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _lifetimes(program: Program) -> dict[str, tuple[int, int]]:
    """Return the first and last section, by number, that uses each buffer."""
    lives: dict[str, tuple[int, int]] = {INPUT: (0, 0)}
    sections = list(program.sections())
    for number, section in enumerate(sections):
        for name in used_buffers(program, section):
            first, _ = lives.get(name, (number, number))
            lives[name] = (first, number)
    if ADDRESSES in lives:
        lives[ADDRESSES] = (0, lives[ADDRESSES][1])
    end = len(sections)
    for name in ("wad", "label"):
        if name in lives:
            lives[name] = (lives[name][0], end)
    return lives


def used_buffers(program: Program, section: Section) -> list[str]:
    """Return the names of all buffers a section and what it calls use, and INPUT, ADDRESSES where they do."""
    names: dict[str, None] = {}
    for statement in program.touched(section):
        match statement:
            case Store(buffer):
                names[buffer] = None
            case CopySegment(_, _, _, buffer):
                names[buffer] = None
                names[ADDRESSES] = None
            case StoreInput():
                names[INPUT] = None
            case Call(_, _, takes, gives):
                names |= dict.fromkeys((*takes, *gives))
        for expression in expressions(statement):
            for part in subexpressions(expression):
                if isinstance(part, Load):
                    names[part.buffer] = None
                elif isinstance(part, LoadInput):
                    names[INPUT] = None
    return list(names)
