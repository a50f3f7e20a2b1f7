"""The memory map of a contract: where each buffer lies, buffers that are never needed together sharing space.

Here, and nowhere else, it is decided where that memory starts. A contract of ours has its own: at a constant, so that
every address is one. A model within somebody else's contract takes what is free when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ml2sc.ir.divide import ADDRESSES, INPUT, Part, passed
from ml2sc.ir.program import (
    LABEL,
    OUTPUTS,
    Call,
    CopySegment,
    Expr,
    Load,
    LoadInput,
    Procedure,
    Program,
    Section,
    Store,
    StoreInput,
    expressions,
    moved_up,
    reads_memory,
    subexpressions,
)
from ml2sc.ir.program_verify import check_places

from .stack import spills

FIXED, FREE = "_MEMORY", "memory_"
"""What the start is called in the source: a constant; what each function is given that works in the memory."""
PASSED = "passed"
"""What is passed to a code contract, and comes back, has its place in the map, too, where it is more than one buffer.

In a code contract the buffers that it answers with lie there, one after the other, all along.
"""
_RESERVED = 0x80
"""Scratch space, free-memory pointer and zero slot; then come the variables that solc's stack has no room for."""
_WORD = 32


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Offsets from where the memory starts.

    Attributes:
        offsets: Byte offset of each buffer.
        sizes: Bytes of each buffer.
        start: Where it starts: what is below is the compiler's. An estimate, mended if solc takes more.
        total: Bytes of all.
        packed: Bytes of those that an inference on a packed input uses.
        fixed: Whether it starts at a constant; else at the free-memory pointer, which is at `start` if nothing was
            allocated before.
    """

    offsets: Mapping[str, int]
    sizes: Mapping[str, int]
    start: int
    total: int
    packed: int
    fixed: bool = True

    @property
    def base(self) -> str:
        """What the start is called in the source."""
        return FIXED if self.fixed else FREE

    def place(self, buffer: str, offset: int = 0) -> str:
        """Return the expression of an address, so many bytes from a buffer's start; solc adds constants up."""
        total = self.offsets[buffer] + offset
        return f"add({self.base}, {total:#06x})" if total else self.base


def memory_map(program: Program, part: Part | None = None, *, fixed: bool = True) -> MemoryMap:
    """Place every buffer first-fit, largest lifetimes as they come; deterministic.

    Args:
        program: What runs in one contract.
        part: Which code contract that is; None: the contract itself.
        fixed: Whether the memory starts at a constant, or at the free-memory pointer.
    """
    contracts = program.data_contract_count
    # a word past the input's end is kept zero: the last read may run over it
    sizes = {INPUT: -(-program.input.length // _WORD) * _WORD + _WORD}
    if contracts:
        sizes[ADDRESSES] = contracts * _WORD
    sizes |= {name: words * _WORD for name, words in program.buffers.items()}
    staged = [words for p in program.procedures.values() if p.contract for words in staged_words(program, p)]
    gives = () if part is None else part.procedure.gives
    if part is not None or any(staged):
        sizes[PASSED] = _WORD * (max(staged, default=0) if part is None else given_words(program, part.procedure))
    lives = _lifetimes(program, part)
    offsets: dict[str, int] = {}
    for name, size in sorted(sizes.items(), key=lambda item: part is not None and item[0] != PASSED):
        if name not in lives or name in gives:
            continue
        neighbours = sorted((offsets[o], offsets[o] + sizes[o]) for o in offsets if _overlap(lives[o], lives[name]))
        place = 0
        for start, end in neighbours:
            if place + size <= start:
                break
            place = max(place, end)
        offsets[name] = place
    at = offsets.get(PASSED, 0)
    for name in gives:
        offsets[name] = at
        at += sizes[name]
    check_places(program, {name: (offset, sizes[name]) for name, offset in offsets.items()})
    total = max(offsets[name] + sizes[name] for name in offsets)
    packed = max(
        offsets[n] + sizes[n] for n in offsets if lives[n][1] > 0 or n in {INPUT, ADDRESSES} or part is not None
    )
    start = _RESERVED + (_WORD * spills(program) if fixed else 0)
    return MemoryMap(offsets, {name: sizes[name] for name in offsets}, start, total, packed, fixed)


def in_bytes(index: Expr, scale: int) -> Expr:
    """Return a number of elements of so many bytes in bytes."""
    return moved_up(scale.bit_length() - 1, index)


def element_bytes(region: str) -> int:
    """Return how many bytes apart the elements of a region are that is indexed: of the packed input those are bytes."""
    return 1 if region == INPUT else _WORD


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def passed_words(program: Program, procedure: Procedure) -> int:
    """Return the words that a code contract is called with: buffers, then its arguments."""
    return sum(words for _, words in passed(program, procedure)) + len(procedure.words)


def given_words(program: Program, procedure: Procedure) -> int:
    """Return the words that a code contract answers with."""
    return sum(program.buffers[name] for name in procedure.gives)


def staged_words(program: Program, procedure: Procedure) -> tuple[int, int]:
    """Return the words that are gathered for the call of a code contract, and those that are dealt out after it.

    What is one buffer is passed from where it is, and comes back to where it is to be.
    """
    takes, gives = passed(program, procedure), procedure.gives
    return (
        passed_words(program, procedure) if len(takes) > 1 or procedure.words else 0,
        given_words(program, procedure) if len(gives) > 1 else 0,
    )


def _lifetimes(program: Program, part: Part | None) -> dict[str, tuple[int, int]]:
    """Return the first and last section, by number, that uses each buffer."""
    lives: dict[str, tuple[int, int]] = {} if part is not None else {INPUT: (0, 0)}
    sections = list(program.sections())
    for number, section in enumerate(sections):
        for name in used_buffers(program, section):
            first, _ = lives.get(name, (number, number))
            lives[name] = (first, number)
    if ADDRESSES in lives:
        lives[ADDRESSES] = (0, lives[ADDRESSES][1])
    end = len(sections)
    if part is not None:  # what it is called with is there first, and what it answers last
        for name, _ in passed(program, part.procedure):
            lives[name] = (0, lives[name][1])
        for name in part.procedure.gives:
            lives[name] = (lives[name][0], end)
        lives[PASSED] = (min((lives[name][0] for name in part.procedure.gives), default=end), end)
    for name in (OUTPUTS, LABEL):
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
            case Call(name, _, takes, gives):
                names |= dict.fromkeys((*takes, *gives))
                if (called := program.procedures[name]).contract:
                    names |= dict.fromkeys(n for n, _ in passed(program, called) if n not in called.takes)
                    if any(staged_words(program, called)):
                        names[PASSED] = None
        for expression in expressions(statement):
            for part in subexpressions(expression) if reads_memory(expression) else ():
                if isinstance(part, Load):
                    names[part.buffer] = None
                elif isinstance(part, LoadInput):
                    names[INPUT] = None
    return list(names)
