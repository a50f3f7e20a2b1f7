"""The memory map of a contract: where each buffer lies, buffers that are never needed together sharing space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ml2sc.ir.program import (
    CopySegment,
    Load,
    LoadInput,
    Program,
    Section,
    Store,
    StoreInput,
    expressions,
    subexpressions,
    walk,
)

INPUT = "input"
"""The packed input's place in the map."""
ADDRESSES = "weights table"
"""The data contracts' addresses' place in the map."""
_WORD = 32


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Offsets from the start of the allocated block.

    Attributes:
        offsets: Byte offset of each buffer.
        sizes: Bytes of each buffer.
        total: Bytes of the block.
    """

    offsets: Mapping[str, int]
    sizes: Mapping[str, int]
    total: int


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
    total = max(offsets[name] + sizes[name] for name in offsets)
    return MemoryMap(offsets, {name: sizes[name] for name in offsets}, total)


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _lifetimes(program: Program) -> dict[str, tuple[int, int]]:
    """Return the first and last section, by number, that uses each buffer."""
    lives: dict[str, tuple[int, int]] = {INPUT: (0, 0)}
    sections = list(program.sections())
    for number, section in enumerate(sections):
        for name in used_buffers(section):
            first, _ = lives.get(name, (number, number))
            lives[name] = (first, number)
    if ADDRESSES in lives:
        lives[ADDRESSES] = (0, lives[ADDRESSES][1])
    end = len(sections)
    for name in ("wad", "label"):
        if name in lives:
            lives[name] = (lives[name][0], end)
    return lives


def used_buffers(section: Section) -> list[str]:
    """Return the names of all buffers a section reads or writes, and INPUT, ADDRESSES where it uses them."""
    names: dict[str, None] = {}
    for statement in walk(section.body):
        match statement:
            case Store(buffer):
                names[buffer] = None
            case CopySegment(_, _, _, buffer):
                names[buffer] = None
                names[ADDRESSES] = None
            case StoreInput():
                names[INPUT] = None
        for expression in expressions(statement):
            for part in subexpressions(expression):
                if isinstance(part, Load):
                    names[part.buffer] = None
                elif isinstance(part, LoadInput):
                    names[INPUT] = None
    return list(names)
